"""The pipelines. All mask pipelines take the same call, `pipe(image, masks, *, occluder_masks=None, ...)`."""

from .auto import AmodalPipeline
from .completion.amodal_vae import AmodalVAEPipeline
from .completion.asbu import ASBUPipeline
from .completion.mask_pipeline import MaskPipeline
from .completion.occamodal import OccAmodalPipeline
from .completion.pcnet_mask import PCNetMaskPipeline
from .content.output import ContentPipelineOutput
from .content.pipeline import ContentPipeline
from .deocclusion.pipeline import ScenePipeline
from .deocclusion.segmenter import Segmenter, SegmenterOutput
from .output import AmodalPipelineOutput
from .sdamodal.features import DiffusionFeatureExtractor, ImageFeatures
from .sdamodal.pipeline import SDAmodalPipeline

__all__ = [
    "ASBUPipeline",
    "AmodalPipeline",
    "AmodalPipelineOutput",
    "AmodalVAEPipeline",
    "ContentPipeline",
    "ContentPipelineOutput",
    "DiffusionFeatureExtractor",
    "ImageFeatures",
    "MaskPipeline",
    "OccAmodalPipeline",
    "PCNetMaskPipeline",
    "SDAmodalPipeline",
    "ScenePipeline",
    "Segmenter",
    "SegmenterOutput",
]
