"""The objects of a photo: all of them by a segmentation model, or the one that a person points at."""

__all__ = ["click_segmenter", "grabcut", "interactive", "sam", "segmenter"]
