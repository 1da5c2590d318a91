"""The networks: each a `ModelMixin` whose `forward` takes tensors by name and returns an output with `logits`."""

from . import diffusers_messages  # noqa: F401 - before the first network is cast
from .amodal_vae import AmodalVAE, AmodalVAEOutput, DiagonalGaussian
from .asbu import ASBUPredictor
from .occamodal_predictor import OccAmodalPredictor
from .outputs import MaskModelOutput
from .pcnet_content import PCNetContent, PCNetContentDiscriminator, PCNetContentOutput
from .pcnet_mask import PCNetMask
from .prompt_embedding import PromptEmbedding
from .sdamodal_decoder import SDAmodalDecoder

__all__ = [
    "ASBUPredictor",
    "AmodalVAE",
    "AmodalVAEOutput",
    "DiagonalGaussian",
    "MaskModelOutput",
    "OccAmodalPredictor",
    "PCNetContent",
    "PCNetContentDiscriminator",
    "PCNetContentOutput",
    "PCNetMask",
    "PromptEmbedding",
    "SDAmodalDecoder",
]
