"""Networks that look at the photo alone."""

__all__ = ["efficientnet_lite"]
