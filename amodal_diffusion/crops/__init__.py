"""Cutting objects out of photos, masks and feature maps by boxes, and pasting results back."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
