"""What a mask is: stacks of masks read from anything, run lengths, morphology, convex hulls."""

from .hull import convex_hull
from .morphology import dilate, erode
from .packed import BoolArray, IntArray
from .rle import MAX_PIXELS, Rle, decode_rle, decode_segmentation, encode_rle, segmentation_to_rle
from .stacks import (
    MaskInput,
    mask_areas,
    mask_boxes,
    mask_overlaps,
    mask_unions,
    occlusion_boundary,
    to_mask_stack,
)
from .tiles import TileStack

__all__ = [
    "BoolArray",
    "IntArray",
    "MAX_PIXELS",
    "MaskInput",
    "Rle",
    "TileStack",
    "convex_hull",
    "decode_rle",
    "decode_segmentation",
    "dilate",
    "encode_rle",
    "erode",
    "mask_areas",
    "mask_boxes",
    "mask_overlaps",
    "mask_unions",
    "occlusion_boundary",
    "segmentation_to_rle",
    "to_mask_stack",
]
