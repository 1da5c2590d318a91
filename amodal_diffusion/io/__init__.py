"""Masks of objects in from files, results out to files."""

from .results import AMODAL_JSON, RESULTS, ObjectMasks, amodal_scores, coco_document, read_object_masks, save_completion

__all__ = [
    "AMODAL_JSON",
    "ObjectMasks",
    "RESULTS",
    "amodal_scores",
    "coco_document",
    "read_object_masks",
    "save_completion",
]
