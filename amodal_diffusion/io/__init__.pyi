from .results import AMODAL_JSON as AMODAL_JSON
from .results import RESULTS as RESULTS
from .results import ObjectMasks as ObjectMasks
from .results import amodal_scores as amodal_scores
from .results import coco_document as coco_document
from .results import read_object_masks as read_object_masks
from .results import save_completion as save_completion
