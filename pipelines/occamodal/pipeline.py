from amodal_diffusion import OccAmodalPipeline  # noqa: F401
