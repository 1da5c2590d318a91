"""Completion without a trained network: raw, convex hull, ConvexR [Z20], nearest mask [L20]."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
