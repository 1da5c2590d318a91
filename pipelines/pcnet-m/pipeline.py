from amodal_diffusion import PCNetMaskPipeline  # noqa: F401
