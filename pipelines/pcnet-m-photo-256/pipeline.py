from amodal_diffusion import PhotoPCNetMaskPipeline  # noqa: F401
