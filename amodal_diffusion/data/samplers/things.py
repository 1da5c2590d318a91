"""Photos and where they show things, to train a network that tells things from ground, walls and sky.

Needs OpenCV (extra `train`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ...display import short_repr
from ...images import normalize_images
from ...masks import BoolArray, decode_rle
from ...models.photo.thing_net import photo_for_things
from ..photos import encoded_photos, load_row_photo
from ..synthesis import mix_seed
from .photo_crops import shrink_photo, warp_square

_LEAST_SIDE = 0.5  # of a crop, in longer sides of the photo
_WHOLE = 0.25  # share of the crops that show the whole photo


@dataclass
class ThingBatch:
    """Crops of photos and where they show things.

    Args:
        image: (B, 3, S, S) float32, ImageNet-normalised.
        target: (B, 1, S, S) float32 in {0, 1}, the things.
        known: (B, 1, S, S) float32 in {0, 1}, where the target is known: not beside the photo, and only at the things
            where not every thing has a mask.

    Example:
        >>> ThingBatch(torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8))
        ThingBatch(image=float32 (2, 3, 8, 8), target=float32 (2, 1, 8, 8), known=float32 (2, 1, 8, 8))
    """

    image: Tensor
    target: Tensor
    known: Tensor

    __repr__ = short_repr


class ThingSampler:
    """Draws batches from the rows of data sets with photos; each is a function of (seed, step, process).

    Things are whatever has a mask, crowds too. Photos are equally likely. A quarter of the crops shows the whole photo,
    the others a square of half its longer side and more, mirrored and of another brightness at random.

    Args:
        sources: rows of the schema, with photos, of each data set.
        complete: for each data set, every thing in its photos has a mask; else what has none is not known.
        size: side S of the crops.
        seed, process_index: of all draws.

    Raises:
        ValueError: no photo.

    Example:
        >>> from PIL import Image
        >>> from amodal_diffusion.data import read_annotations
        >>> content = {"images": [{"id": 1, "file_name": "1.png", "height": 40, "width": 40}], "annotations": [{"id": 1,
        ...     "image_id": 1, "category_id": 1, "segmentation": [[5, 5, 30, 5, 30, 30, 5, 30]], "iscrowd": 0}]}
        >>> rows = [row | {"image": Image.new("RGB", (40, 40))} for row in read_annotations(content)]
        >>> batch = ThingSampler([rows, rows], [True, False], size=64).sample(step=0, batch_size=2)
        >>> batch.image.shape, bool(batch.target.any()), bool(batch.known.all())
        (torch.Size([2, 3, 64, 64]), True, False)
    """

    def __init__(
        self,
        sources: Sequence[Any],
        complete: Sequence[bool],
        size: int,
        *,
        seed: int = 0,
        process_index: int = 0,
    ) -> None:
        self.sources, self.complete = [encoded_photos(rows) for rows in sources], list(complete)
        self.size, self.seed, self.process_index = size, seed, process_index
        self.photos = [(source, row) for source, rows in enumerate(self.sources) for row in range(len(rows))]
        if not self.photos:
            raise ValueError("`sources` must hold a photo.")

    def sample(self, step: int, batch_size: int) -> ThingBatch:
        """The batch of `step`."""
        rng = np.random.default_rng(mix_seed(self.seed, step, self.process_index))
        crops = []
        for source, row in (self.photos[int(rng.integers(len(self.photos)))] for _ in range(batch_size)):
            # No crop is then made smaller than it is read by more than half, which would alias.
            photo, things = read_things(self.sources[source][row], 2 * self.size)
            crops.append(crop_things(photo, things, self.complete[source], self.size, rng))
        pixels, targets, known = (np.stack(parts) for parts in zip(*crops, strict=True))
        image = normalize_images(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
        return ThingBatch(image, *(torch.from_numpy(planes)[:, None].float() for planes in (targets, known)))

    def whole(self, index: int) -> ThingBatch:
        """One photo as a whole, (1, 3, h, w), as pipelines show it to a network of this `size` (`photo_for_things`)."""
        source, row = self.photos[index]
        photo, things = read_things(self.sources[source][row], None)
        image = photo_for_things(photo, self.size)
        target = F.interpolate(torch.from_numpy(things)[None, None].float(), image.shape[-2:], mode="nearest-exact")
        return ThingBatch(image, target, torch.ones_like(target) if self.complete[source] else target)


def read_things(row: Mapping[str, Any], max_side: int | None) -> tuple[npt.NDArray[np.uint8], BoolArray]:
    """A photo (H, W, 3) uint8 with its longer side at most at `max_side`, and (H, W) bool, where it shows things.

    Example:
        >>> from PIL import Image
        >>> from amodal_diffusion.masks import encode_rle
        >>> row = {"image_id": 1, "source": "mine", "file_name": "1.png", "height": 40, "width": 40}
        >>> row |= {"image": Image.new("L", (40, 40)), "objects": [{"modal_mask": encode_rle(np.eye(40, dtype=bool))}]}
        >>> photo, things = read_things(row, max_side=20)
        >>> photo.shape, things.shape
        ((20, 20, 3), (20, 20))
    """
    photo = np.asarray(load_row_photo(row))
    things: BoolArray = np.zeros(photo.shape[:2], bool)
    for item in row["objects"]:
        things |= decode_rle(item["modal_mask"])
    return (photo, things) if max_side is None else shrink_photo(photo, things, max_side)


def crop_things(
    photo: npt.NDArray[np.uint8], things: BoolArray, complete: bool, size: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], BoolArray, BoolArray]:
    """A random square of a photo: its pixels, where it shows things, and where that is known.

    Args:
        photo: (H, W, 3) uint8.
        things: (H, W) bool.
        complete: everything else is no thing; False: nobody knows.
        size: side S of the square.
        rng: draws it, and in a quarter of the cases the whole photo.

    Returns:
        (S, S, 3) uint8, (S, S) bool, and (S, S) bool, which is not the part beside the photo.

    Example:
        >>> photo, things = np.zeros((20, 40, 3), np.uint8), np.ones((20, 40), bool)
        >>> crop, target, known = crop_things(photo, things, True, 32, np.random.default_rng(0))
        >>> crop.shape, target.shape, bool((target == known).all())
        ((32, 32, 3), (32, 32), True)
    """
    height, width = things.shape
    side, middle = float(max(height, width)), np.array([width / 2, height / 2])
    if rng.random() >= _WHOLE:
        side *= rng.uniform(_LEAST_SIDE, 1)
        spare = np.maximum(np.array([width, height]) - side, 0)
        middle = middle + rng.uniform(-0.5, 0.5, 2) * spare
    scale = size / side
    affine = np.hstack([np.eye(2) * scale, (size / 2 - middle * scale)[:, None]])
    affine[:, 2] += 0.5 * (scale - 1)  # of the middles of pixels
    crop, (target, known) = warp_square(
        photo, [things, np.ones_like(things) if complete else things], affine, size, rng
    )
    return crop, target, known
