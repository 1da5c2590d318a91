"""Published checkpoints to pipeline folders. `CONVERTERS` has them by the name that the command line uses."""

from collections.abc import Callable
from pathlib import Path

from .asbu import convert_asbu, convert_asbu_weights
from .occamodal import convert_occamodal, convert_occamodal_weights
from .pcnet_content import convert_pcnet_content, convert_pcnet_content_weights
from .pcnet_mask import convert_pcnet_mask, convert_pcnet_mask_weights
from .sdamodal import convert_sdamodal, convert_sdamodal_weights

CONVERTERS: dict[str, Callable[..., Path]] = {
    "asbu": convert_asbu,
    "pcnet-c": convert_pcnet_content,
    "pcnet-m": convert_pcnet_mask,
    "occamodal": convert_occamodal,
    "sdamodal": convert_sdamodal,
}

__all__ = [
    "CONVERTERS",
    "convert_asbu",
    "convert_asbu_weights",
    "convert_occamodal",
    "convert_occamodal_weights",
    "convert_pcnet_content",
    "convert_pcnet_content_weights",
    "convert_pcnet_mask",
    "convert_pcnet_mask_weights",
    "convert_sdamodal",
    "convert_sdamodal_weights",
]
