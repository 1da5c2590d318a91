"""Readers of annotation files into one schema, and data sets on disk and on the Hub."""

from .coco import iter_coco, read_coco
from .cocoa import iter_cocoa, read_cocoa
from .io import detect_format, load_amodal_dataset, push_dataset, read_annotations, save_parquet
from .records import AnnotationError, BadRecord
from .schema import amodal_features, record_masks, record_order

__all__ = [
    "AnnotationError",
    "BadRecord",
    "amodal_features",
    "detect_format",
    "iter_coco",
    "iter_cocoa",
    "load_amodal_dataset",
    "push_dataset",
    "read_annotations",
    "read_coco",
    "read_cocoa",
    "record_masks",
    "record_order",
    "save_parquet",
]
