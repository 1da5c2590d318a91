"""Readers of annotation files, a module for each format, which all yield rows of the one schema."""

from .cityscapes import iter_cityscapes
from .coco import iter_coco, read_coco
from .cocoa import iter_cocoa, read_cocoa
from .columns import ColumnMap, iter_columns, open_dataset
from .formats import FILE_FORMATS, FORMATS, detect_format, iter_annotations, open_annotations, read_annotations
from .records import AnnotationError, BadRecord

__all__ = [
    "FILE_FORMATS",
    "FORMATS",
    "AnnotationError",
    "BadRecord",
    "ColumnMap",
    "detect_format",
    "iter_annotations",
    "iter_cityscapes",
    "iter_coco",
    "iter_cocoa",
    "iter_columns",
    "open_annotations",
    "open_dataset",
    "read_annotations",
    "read_coco",
    "read_cocoa",
]
