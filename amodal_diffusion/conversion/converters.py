"""The converters by the name that the command line uses."""

from collections.abc import Callable
from pathlib import Path

from .asbu import convert_asbu
from .occamodal import convert_occamodal
from .pcnet_content import convert_pcnet_content
from .pcnet_mask import convert_pcnet_mask
from .sdamodal import convert_sdamodal

CONVERTERS: dict[str, Callable[..., Path]] = {
    "asbu": convert_asbu,
    "pcnet-c": convert_pcnet_content,
    "pcnet-m": convert_pcnet_mask,
    "occamodal": convert_occamodal,
    "sdamodal": convert_sdamodal,
}
