"""Label a whole data set with amodal masks, order and scores, on any number of processes."""

from .worker import annotate_dataset

__all__ = [
    "annotate_dataset",
]
