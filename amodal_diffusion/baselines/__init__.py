"""Completion without a trained network: raw, convex hull, ConvexR [Z20], nearest mask [L20]."""

from .convex import complete_convex, complete_convex_refined, complete_raw
from .nearest_mask import NearestMaskBank

__all__ = [
    "NearestMaskBank",
    "complete_convex",
    "complete_convex_refined",
    "complete_raw",
]
