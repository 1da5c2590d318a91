"""Amodal completion: from a photo and the visible masks of its objects to whole objects."""

# `DiffusionPipeline` and `ModelMixin` must be attributes of this package: diffusers looks the base class of a component
# up in the library that `model_index.json` names, and that library is this package.
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES

from .models import (
    AmodalVAE,
    AmodalVAEOutput,
    ASBUPredictor,
    MaskModelOutput,
    OccAmodalPredictor,
    PCNetContent,
    PCNetContentDiscriminator,
    PCNetContentOutput,
    PCNetMask,
    PromptEmbedding,
    SDAmodalDecoder,
)
from .pipelines import (
    AmodalPipeline,
    AmodalPipelineOutput,
    AmodalVAEPipeline,
    ASBUPipeline,
    ContentPipeline,
    ContentPipelineOutput,
    DiffusionFeatureExtractor,
    ImageFeatures,
    MaskPipeline,
    OccAmodalPipeline,
    PCNetMaskPipeline,
    ScenePipeline,
    SDAmodalPipeline,
    Segmenter,
)
from .scene import Layer, Scene

# Without this entry diffusers writes the full module path of a component into `model_index.json`, and refuses to
# download such a repository. It has to be there before the first pipeline is made.
LOADABLE_CLASSES.setdefault("amodal_diffusion", {})

__version__ = "0.1.0.dev0"

__all__ = [
    "ASBUPipeline",
    "ASBUPredictor",
    "AmodalPipeline",
    "AmodalPipelineOutput",
    "AmodalVAEPipeline",
    "AmodalVAE",
    "AmodalVAEOutput",
    "ContentPipeline",
    "ContentPipelineOutput",
    "DiffusionFeatureExtractor",
    "DiffusionPipeline",
    "ImageFeatures",
    "Layer",
    "MaskModelOutput",
    "MaskPipeline",
    "ModelMixin",
    "OccAmodalPipeline",
    "OccAmodalPredictor",
    "PCNetContent",
    "PCNetContentDiscriminator",
    "PCNetContentOutput",
    "PCNetMask",
    "PCNetMaskPipeline",
    "PromptEmbedding",
    "SDAmodalDecoder",
    "SDAmodalPipeline",
    "Scene",
    "ScenePipeline",
    "Segmenter",
    "__version__",
]
