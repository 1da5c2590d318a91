from amodal_diffusion import ContentPipeline  # noqa: F401
