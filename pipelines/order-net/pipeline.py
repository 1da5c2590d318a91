from amodal_diffusion import OrderNetPipeline  # noqa: F401
