from amodal_diffusion import ASBUPipeline  # noqa: F401
