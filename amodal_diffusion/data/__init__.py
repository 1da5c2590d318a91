"""Readers of annotation files into one schema, and data sets on disk and on the Hub."""

from amodal_diffusion.data.coco import iter_coco, read_coco
from amodal_diffusion.data.cocoa import iter_cocoa, read_cocoa
from amodal_diffusion.data.readers import detect_format, read_annotations
from amodal_diffusion.data.records import AnnotationError, BadRecord
from amodal_diffusion.data.schema import amodal_features, record_masks, record_order

__all__ = [
    "AnnotationError",
    "BadRecord",
    "amodal_features",
    "detect_format",
    "iter_coco",
    "iter_cocoa",
    "read_annotations",
    "read_coco",
    "read_cocoa",
    "record_masks",
    "record_order",
]
