"""SDAmodal [Z24]: masks completed from features of a frozen Stable Diffusion."""

__all__ = ["attention", "components", "features", "pipeline"]
