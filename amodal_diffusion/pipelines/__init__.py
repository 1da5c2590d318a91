"""The pipelines. All mask pipelines take the same call, `pipe(image, masks, *, occluder_masks=None, ...)`."""

from .amodal_vae import AmodalVAEPipeline
from .asbu import ASBUPipeline
from .auto import AmodalPipeline
from .content import ContentPipeline
from .content_output import ContentPipelineOutput
from .diffusion_features import DiffusionFeatureExtractor, ImageFeatures
from .mask_pipeline import MaskPipeline
from .occamodal import OccAmodalPipeline
from .pcnet_mask import PCNetMaskPipeline
from .pipeline_output import AmodalPipelineOutput
from .scene import ScenePipeline
from .sdamodal import SDAmodalPipeline
from .segmenter import Segmenter, SegmenterOutput

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
