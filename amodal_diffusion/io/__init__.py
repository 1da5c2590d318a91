"""Masks of objects in from files, results out to files."""

from ..files import atomic_path, check_output_file, check_output_folder, write_text
from .results import AMODAL_JSON, RESULTS, ObjectMasks, amodal_scores, coco_document, read_object_masks, save_completion

__all__ = [
    "AMODAL_JSON",
    "ObjectMasks",
    "RESULTS",
    "amodal_scores",
    "atomic_path",
    "check_output_file",
    "check_output_folder",
    "coco_document",
    "read_object_masks",
    "save_completion",
    "write_text",
]
