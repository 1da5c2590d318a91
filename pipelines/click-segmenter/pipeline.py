from amodal_diffusion import ClickSegmenterPipeline  # noqa: F401
