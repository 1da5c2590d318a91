"""SDAmodal [Z24]: masks completed from features of a frozen Stable Diffusion."""

__all__ = ["attention", "components", "diffusion_mask_pipeline", "features", "pipeline"]
