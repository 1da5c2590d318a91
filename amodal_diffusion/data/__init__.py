"""Data sets: annotation files of any format as rows of one schema, and these rows on disk and on the Hub.

`readers` has a module for each format, `synthesis` makes training samples of masks and photos, `samplers` draws what
training sees.
"""

from .cards import RecordCounts, dataset_card
from .convert import PHOTOS, ConvertedDataset, convert_dataset
from .dataset import load_amodal_dataset, push_dataset, push_folder, save_parquet
from .parquet import SHARD_BYTES, write_shards
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
from .schema import amodal_features, build_objects, record_masks, record_order

__all__ = [
    "FILE_FORMATS",
    "FORMATS",
    "PHOTOS",
    "SHARD_BYTES",
    "AnnotationError",
    "BadRecord",
    "ColumnMap",
    "ConvertedDataset",
    "RecordCounts",
    "amodal_features",
    "build_objects",
    "convert_dataset",
    "dataset_card",
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
    "write_shards",
]
