"""What the content pipeline returns."""

from dataclasses import dataclass
from typing import Any

from diffusers.utils import BaseOutput

from ...display import short_repr


@dataclass
class ContentPipelineOutput(BaseOutput):
    """The whole objects of a photo in colour.

    Args:
        objects: list of N tiles, each tight around an object: visible and hidden part with alpha 255, the rest with
            colour and alpha 0. "np": (h, w, 4) uint8 arrays; "pil": images of mode RGBA; "pt": (4, h, w) uint8 tensors
            on the CPU. An object without any pixel has a tile of size 0 x 0 (1 x 1, transparent, as "pil").
        boxes: (N, 4) int64 (x, y, w, h), where each tile lies in the photo, in pixels; zeros without any pixel. An
            array, or with "pt" a tensor.
        fillers: list of N names, what filled the hidden part of each object (`fillers.FILLERS`); None where nothing is
            hidden.

    Example:
        >>> import numpy as np
        >>> output = ContentPipelineOutput(objects=[np.zeros((5, 8, 4), np.uint8)], boxes=np.array([[2, 3, 8, 5]]))
        >>> output.objects[0].shape, output.boxes[0]
        ((5, 8, 4), array([2, 3, 8, 5]))
    """

    objects: Any
    boxes: Any
    fillers: Any = None

    __repr__ = short_repr
