"""Photos with masks to begin with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..arguments.choices import check_choice
from ..display import short_repr
from .object_masks import read_object_masks

EXAMPLES = ("coffee", "astronaut")
"""What `load_example` knows."""

_MASKS = Path(__file__).parent / "example_masks"


@dataclass(frozen=True)
class Example:
    """A photo and the visible masks of its objects.

    Args:
        image: the photo, RGB.
        masks: (N, H, W) bool modal masks.
        names: N names.

    Example:
        >>> photo = Image.new("RGB", (6, 4))
        >>> Example(photo, np.zeros((1, 4, 6), bool), ["cup"]).names
        ['cup']
    """

    image: Image.Image
    masks: np.ndarray
    names: list[str]

    __repr__ = short_repr


def load_example(name: str = "coffee") -> Example:
    """Take a photo of scikit-image with visible masks that were drawn by hand; nothing is downloaded.

    Args:
        name: "coffee" (600x400, CC0, by Rachel Michetti: saucer, cup, coffee, spoon) or "astronaut" (512x512, public
            domain, by NASA).

    Raises:
        ValueError: another name.
        ImportError: scikit-image is not there; the extra `demo` has it.

    Example:
        >>> example = load_example("coffee")
        >>> example.image.size, example.masks.shape, example.names
        ((600, 400), (4, 400, 600), ['saucer', 'cup', 'coffee', 'spoon'])
    """
    check_choice("name", name, EXAMPLES)
    try:
        import skimage.data
    except ImportError as error:
        raise ImportError("load_example needs scikit-image: pip install 'amodal-diffusion[demo]'.") from error
    photo = Image.fromarray(getattr(skimage.data, name)())
    objects = read_object_masks(_MASKS / f"{name}.json", size=(photo.height, photo.width))
    return Example(photo, objects.masks, objects.names)
