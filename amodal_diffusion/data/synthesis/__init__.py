"""Training samples whose answer is known: banks of masks and photos, occlusion, holes and regions made with them."""

from .complete_masks import MAX_TRUNCATION, complete_objects, partial_objects, truncated_objects
from .holes import ContentBatch, ContentSynthesisConfig, ContentSynthesizer
from .mask_bank import MaskBank
from .occlusion import OcclusionBatch, OcclusionSynthesizer, SynthesisConfig
from .photo_bank import AMODAL, INSIDE, MODAL, OCCLUDER, OTHERS, Labeller, PhotoBank
from .photo_occlusion import PhotoBatch, PhotoOcclusionSynthesizer, PhotoSynthesisConfig
from .regions import Regions, sample_frames, sample_region_boxes, sample_regions
from .seeds import mix_seed

__all__ = [
    "AMODAL",
    "INSIDE",
    "MAX_TRUNCATION",
    "MODAL",
    "OCCLUDER",
    "OTHERS",
    "ContentBatch",
    "ContentSynthesisConfig",
    "ContentSynthesizer",
    "Labeller",
    "MaskBank",
    "OcclusionBatch",
    "OcclusionSynthesizer",
    "PhotoBank",
    "PhotoBatch",
    "PhotoOcclusionSynthesizer",
    "PhotoSynthesisConfig",
    "Regions",
    "SynthesisConfig",
    "complete_objects",
    "mix_seed",
    "partial_objects",
    "sample_frames",
    "sample_region_boxes",
    "sample_regions",
    "truncated_objects",
]
