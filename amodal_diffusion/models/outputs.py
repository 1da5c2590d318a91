"""Outputs of the networks."""

from dataclasses import dataclass

import torch
from diffusers.utils import BaseOutput


@dataclass
class MaskModelOutput(BaseOutput):
    """What every mask network returns.

    Args:
        logits: (B, C, h, w) floating point, at the resolution of the input masks; each network says what C stands for.
    """

    logits: torch.Tensor
