"""Photos with instance masks for a segmenter: resized, mirrored, cut and padded to squares."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...display import short_repr
from ...images import image_to_tensor, normalize_images
from ..photos import encoded_photos, load_row_photo
from ..schema import record_masks
from ..synthesis import mix_seed

MASKS = ("amodal", "modal")


@dataclass
class InstanceBatch:
    """Photos and their instances.

    Args:
        pixels: (B, 3, S, S) float32, ImageNet-normalised, 0 where padded.
        inside: (B, S, S) int64, 1 where there is a photo.
        masks: B stacks (N_b, S, S) float32 in {0, 1}; whole masks may overlap.
        classes: B tensors (N_b,) int64.

    Example:
        >>> batch = InstanceBatch(torch.zeros(1, 3, 32, 32), torch.ones(1, 32, 32, dtype=torch.int64),
        ...                       [torch.zeros(2, 32, 32)], [torch.tensor([0, 1])])
        >>> [len(masks) for masks in batch.masks]
        [2]
    """

    pixels: Tensor
    inside: Tensor
    masks: list[Tensor]
    classes: list[Tensor]

    __repr__ = short_repr


class InstanceSampler:
    """Draws training batches from the rows of a data set; each is a function of (seed, step, process).

    Args:
        rows: of the schema, with photos.
        labels: class of each category id, None for objects without one.
        size: side S of the squares.
        masks: "amodal" or "modal".
        seed, process_index: of all draws.
        scale: range of the longer side of a photo, in units of `size`.
        min_area: instances of fewer pixels in the square are left out.

    Example:
        >>> from PIL import Image
        >>> from amodal_diffusion.data import read_annotations
        >>> content = {"images": [{"id": 1, "file_name": "1.png", "height": 8, "width": 8}], "annotations": [{"id": 1,
        ...     "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 6, 1, 6, 6, 1, 6]], "iscrowd": 0}]}
        >>> rows = [row | {"image": Image.new("RGB", (8, 8))} for row in read_annotations(content)]
        >>> batch = InstanceSampler(rows, {1: 0}, size=32, masks="modal").sample(step=0, batch_size=2)
        >>> batch.pixels.shape, [classes.tolist() for classes in batch.classes]
        (torch.Size([2, 3, 32, 32]), [[0], [0]])
    """

    def __init__(
        self,
        rows: Any,
        labels: Mapping[int | None, int],
        size: int,
        *,
        masks: str = "amodal",
        seed: int = 0,
        process_index: int = 0,
        scale: tuple[float, float] = (0.7, 1.4),
        min_area: int = 16,
    ) -> None:
        self.rows, self.labels, self.size, self.masks = encoded_photos(rows), labels, size, masks
        self.seed, self.process_index, self.scale, self.min_area = seed, process_index, scale, min_area

    def sample(self, step: int, batch_size: int, device: torch.device | str = "cpu") -> InstanceBatch:
        """The batch of `step` for this process."""
        rng = np.random.default_rng(mix_seed(self.seed, step, self.process_index))
        parts = [self._draw(rng, self.rows[int(index)]) for index in rng.integers(len(self.rows), size=batch_size)]
        pixels, inside, masks, classes = zip(*parts, strict=True)
        return InstanceBatch(
            torch.stack(pixels).to(device), torch.stack(inside).to(device),
            [part.to(device) for part in masks], [part.to(device) for part in classes],
        )  # fmt: skip

    def _draw(self, rng: np.random.Generator, row: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        photo, masks, classes = read_instances(row, self.labels, self.masks)
        photo, masks = resize(photo, masks, round(self.size * rng.uniform(*self.scale)))
        if rng.random() < 0.5:
            photo, masks = photo.flip(2), masks.flip(2)
        # Where the photo is larger than the square, a random part of it; where it is smaller, it lies top left.
        top, left = (int(rng.integers(0, max(0, side - self.size) + 1)) for side in photo.shape[1:])
        window = (slice(None), slice(top, top + self.size), slice(left, left + self.size))
        pixels, inside = pad(photo[window], self.size)
        masks = _pad(masks[window], self.size)
        kept = masks.sum((1, 2)) >= self.min_area
        return pixels, inside, masks[kept], classes[kept]


def read_instances(
    row: Mapping[str, Any], labels: Mapping[int | None, int], kind: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Photo (3, H, W) float32 in [0, 1], masks (N, H, W) float32, classes (N,) int64; crowd regions are left out.

    Raises:
        ValueError: a photo that is missing, cannot be read or has another size than its masks (row and file are named),
            or no amodal masks where these are asked for.

    Example:
        >>> from PIL import Image
        >>> from amodal_diffusion.data import read_annotations
        >>> content = {"images": [{"id": 1, "file_name": "1.png", "height": 8, "width": 8}], "annotations": [{"id": 1,
        ...     "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 6, 1, 6, 6, 1, 6]], "iscrowd": 0}]}
        >>> rows = [row | {"image": Image.new("RGB", (8, 8))} for row in read_annotations(content)]
        >>> photo, masks, classes = read_instances(rows[0], {1: 0}, "modal")
        >>> photo.shape, masks.shape, classes.tolist()
        (torch.Size([3, 8, 8]), torch.Size([1, 8, 8]), [0])
    """
    photo = image_to_tensor(load_row_photo(row))
    modal, amodal = record_masks(row)
    if kind == "amodal" and amodal is None:
        raise ValueError(
            f"image {row['image_id']} of {row['source']!r} lacks amodal masks: complete it with "
            "`amodal-diffusion annotate`, or take its modal masks."
        )
    masks = modal if kind == "modal" or amodal is None else amodal
    kept = [index for index, item in enumerate(row["objects"]) if not item["is_crowd"] and masks[index].any()]
    classes = [labels[row["objects"][index]["category_id"]] for index in kept]
    return photo, torch.from_numpy(masks[kept]).float(), torch.tensor(classes, dtype=torch.int64)


def resize(photo: Tensor, masks: Tensor, longer: int) -> tuple[Tensor, Tensor]:
    """Bring the longer side to `longer` pixels: the photo bilinearly with antialiasing, masks by nearest neighbour.

    Example:
        >>> photo, masks = resize(torch.zeros(3, 40, 60), torch.ones(1, 40, 60), longer=30)
        >>> photo.shape, masks.shape
        (torch.Size([3, 20, 30]), torch.Size([1, 20, 30]))
    """
    height, width = photo.shape[1:]
    factor = longer / max(height, width)
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    photo = F.interpolate(photo[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
    if len(masks):
        masks = F.interpolate(masks[None], size=size, mode="nearest-exact")[0]
    return photo, masks if len(masks) else masks.new_zeros(0, *size)


def pad(photo: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(3, h, w) in [0, 1] -> normalised (3, size, size), and (size, size) int64 that is 1 inside of the photo.

    Example:
        >>> pixels, inside = pad(torch.zeros(3, 20, 30), 32)
        >>> pixels.shape, inside.sum().item()
        (torch.Size([3, 32, 32]), 600)
    """
    inside = torch.ones(1, *photo.shape[1:])
    return _pad(normalize_images(photo), size), _pad(inside, size)[0].long()


def _pad(planes: Tensor, size: int) -> Tensor:
    return F.pad(planes, (0, size - planes.shape[2], 0, size - planes.shape[1]))
