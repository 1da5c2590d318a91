"""Samples of PCNet-M [Z20] and ASBU [N21] with the photo: another object pasted into it, in front or behind."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ...display import short_repr
from ..synthesis import (
    OcclusionBatch,
    PhotoBatch,
    PhotoOcclusionSynthesizer,
    PhotoSynthesisConfig,
)

MATTING = (0.8, 0.5)
"""Opacity of a pasted object inside and on its outline [N21]."""


@dataclass
class PhotoOcclusionBatch(OcclusionBatch):
    """A batch of occlusion with its photos.

    Args:
        image: (B, 3, S, S) float32, ImageNet-normalised RGB.

    Example:
        >>> plane = torch.zeros(2, 1, 16, 16)
        >>> ids = torch.ones(2, dtype=torch.int64)
        >>> PhotoOcclusionBatch(plane, plane, plane, ids, image=torch.zeros(2, 3, 16, 16)).image.shape
        torch.Size([2, 3, 16, 16])
    """

    image: Tensor

    __repr__ = short_repr


class PhotoBoundaries:
    """Draws the batches of PCNet-M and ASBU from photos whose modal masks alone are known.

    A's modal mask stands for the whole of A, as in all training on modal masks. Hence the eraser, whose boundary the
    network sees, is what is seen of the pasted object alone. The real neighbours of A are not in it, although the
    pipeline counts them: one of them may hide A, and then a boundary with it would come with a target that does not
    grow there. The network would learn that a real boundary never asks for completion. A synthetic region (recipe
    "improved") is known whole, so there the real objects in front of it belong to the eraser.

    Args:
        synthesizer: with a bank of modal masks, see `make_photo_synthesizers`.

    Example:
        >>> from amodal_diffusion.data.synthesis import INSIDE, MODAL, PhotoBank
        >>> pixels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
        >>> layers = torch.full((2, 32, 32), INSIDE, dtype=torch.uint8)
        >>> layers[:, 8:24, 8:24] |= MODAL
        >>> known, sources = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)
        >>> bank = PhotoBank(pixels, layers, known, sources, context=1.5)
        >>> synthesizer = PhotoOcclusionSynthesizer(bank, boundary_synthesis(16, "published"))
        >>> batch = PhotoBoundaries(synthesizer).sample(step=0, batch_size=4)
        >>> batch.image.shape, batch.eraser.shape
        (torch.Size([4, 3, 16, 16]), torch.Size([4, 1, 16, 16]))
    """

    def __init__(self, synthesizer: PhotoOcclusionSynthesizer) -> None:
        self.synthesizer = synthesizer

    def sample(self, step: int, batch_size: int) -> PhotoOcclusionBatch:
        """The batch of `step` for this process: always the same for the same arguments."""
        batch: PhotoBatch = self.synthesizer.sample(step, batch_size)
        # From modal masks, `occluder` holds what is pasted in front, and what real objects hide of a region.
        eraser = torch.maximum(batch.occluder, batch.pasted)
        categories = torch.where(batch.is_region, 1, cast(Tensor, batch.category_ids))  # the synthesizer tells them
        return PhotoOcclusionBatch(batch.modal, eraser, batch.amodal, categories, batch.image)


def boundary_synthesis(size: int, recipe: str) -> PhotoSynthesisConfig:
    """How photos are pasted.

    Args:
        size: side of the crops in pixels.
        recipe: "published": the pasted object at its size relative to its crop, in front with probability 0.8, and
            [Z20]'s shifts and scales of the crop, which is laid around the visible part as a pipeline does.
            "improved" (and "crowded", which adds nothing here, where one object is pasted): rotations, colours, more
            sizes, synthetic regions, in front with probability 0.6.

    Example:
        >>> recipe = boundary_synthesis(256, "published")
        >>> recipe.front_probability, recipe.matting
        (0.8, (0.8, 0.5))
    """
    if recipe != "published":
        return PhotoSynthesisConfig(size=size, front_probability=0.6, behind_probability=0.4, matting=MATTING)
    return PhotoSynthesisConfig(
        size=size, front_probability=0.8, behind_probability=0.2, cut_range=(0.001, 0.9), max_redraws=100,
        other_zoom=(1.0, 1.0), region_probability=0.0, shift=(-0.2, 0.2), scale=(0.8, 1.2), rotation=0.0, colour=0.0,
        matting=MATTING,
    )  # fmt: skip
