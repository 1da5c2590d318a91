from amodal_diffusion import AmodalVAEPipeline  # noqa: F401
