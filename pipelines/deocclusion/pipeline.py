from amodal_diffusion import ScenePipeline  # noqa: F401
