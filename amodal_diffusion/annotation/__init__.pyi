from .worker import annotate_dataset as annotate_dataset
