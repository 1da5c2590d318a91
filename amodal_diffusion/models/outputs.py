"""Outputs of the networks."""

from dataclasses import dataclass

import torch
from diffusers.utils import BaseOutput

from ..display import short_repr


@dataclass
class MaskModelOutput(BaseOutput):
    """What every mask network returns.

    Args:
        logits: (B, C, h, w) floating point, at the resolution of the input masks; each network says what C stands for.
        features: of the photo, where a network was asked to give them back; see `PhotoPCNetMask`.

    Example:
        >>> output = MaskModelOutput(logits=torch.zeros(1, 2, 8, 8))
        >>> output.logits.softmax(dim=1)[0, 1, 0, 0].item()  # P(object) of a pixel
        0.5
    """

    logits: torch.Tensor
    features: tuple[torch.Tensor, ...] | None = None

    __repr__ = short_repr
