"""Cutting objects out of photos, masks and feature maps by boxes, and pasting results back."""

from .boxes import crop_to_boxes, paste_from_boxes, tight_boxes, to_absolute_boxes, to_relative_boxes
from .features import FEATURE_CROPS, crop_features
from .mask_patches import CROP_RULES, crop_mask_patches
from .squares import (
    ENLARGE_BOX,
    MIN_MARGIN,
    crop_boxes,
    crop_images,
    crop_masks,
    join_boxes,
    paste_patches,
    paste_tiles,
)

__all__ = [
    "CROP_RULES",
    "ENLARGE_BOX",
    "FEATURE_CROPS",
    "MIN_MARGIN",
    "crop_boxes",
    "crop_features",
    "crop_images",
    "crop_mask_patches",
    "crop_masks",
    "crop_to_boxes",
    "join_boxes",
    "paste_from_boxes",
    "paste_patches",
    "paste_tiles",
    "tight_boxes",
    "to_absolute_boxes",
    "to_relative_boxes",
]
