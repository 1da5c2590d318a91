"""Readers of annotation files into one schema, and data sets on disk and on the Hub."""

from .convert import ConvertedDataset, convert_dataset
from .dataset import load_amodal_dataset, push_dataset, push_folder, save_parquet
from .readers import (
    FILE_FORMATS,
    FORMATS,
    AnnotationError,
    BadRecord,
    ColumnMap,
    detect_format,
    iter_annotations,
    iter_cityscapes,
    iter_coco,
    iter_cocoa,
    iter_columns,
    open_annotations,
    open_dataset,
    read_annotations,
    read_coco,
    read_cocoa,
)
from .schema import amodal_features, record_masks, record_order

__all__ = [
    "FILE_FORMATS",
    "FORMATS",
    "AnnotationError",
    "BadRecord",
    "ColumnMap",
    "ConvertedDataset",
    "amodal_features",
    "convert_dataset",
    "detect_format",
    "iter_annotations",
    "iter_cityscapes",
    "iter_coco",
    "iter_cocoa",
    "iter_columns",
    "load_amodal_dataset",
    "open_annotations",
    "open_dataset",
    "push_dataset",
    "push_folder",
    "read_annotations",
    "read_coco",
    "read_cocoa",
    "record_masks",
    "record_order",
    "save_parquet",
]
