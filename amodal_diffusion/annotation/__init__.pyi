from .annotator import BASELINES as BASELINES
from .annotator import AmodalAnnotator as AmodalAnnotator
from .annotator import annotation_features as annotation_features
from .folder_run import annotate_dataset as annotate_dataset
from .ray_run import annotate_with_ray as annotate_with_ray
