"""Batches of objects cropped from their photos, prepared one ahead of the training step."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from amodal_diffusion.crops import crop_boxes, crop_images, crop_masks
from amodal_diffusion.images import image_to_tensor
from amodal_diffusion.masks import mask_boxes

from .photo_objects import Photo, PhotoObjects

Prepared = TypeVar("Prepared")

_VISIBLE = torch.tensor([0.96, 0.96, 0.94])
_HIDDEN = torch.tensor([0.95, 0.55, 0.15])


@dataclass
class PhotoCrops:
    """Some objects of one photo, on the CPU.

    Args:
        photo: where they are.
        size: (height, width) of the photo.
        boxes: (N, 4) int64 (x, y, side, side) in its pixels.
        modal: (N, s, s) bool crops of the modal masks, nearest neighbour.
        target: (N, s, s) bool crops of the amodal masks by the same boxes.
    """

    photo: Photo
    size: tuple[int, int]
    boxes: Tensor
    modal: Tensor
    target: Tensor


class ObjectCropper:
    """Crops objects as the pipelines do, optionally with moved and scaled boxes.

    There is no flip: the features of a flipped photo are not the flipped features.

    Args:
        objects: where the masks come from.
        size: side of the crops.
        enlarge_box: area of a crop box over the area of its object's box.
        shift: the box moves by a uniform share of its side, in [-shift, shift], on each axis.
        scale: its side is divided by a uniform factor in [1 - scale, 1 + scale].
    """

    def __init__(
        self, objects: PhotoObjects, size: int, *, enlarge_box: float = 3.0, shift: float = 0.0, scale: float = 0.0
    ) -> None:
        self.objects = objects
        self.size = size
        self.enlarge_box = enlarge_box
        self.shift = shift
        self.scale = scale

    def __call__(self, photo: Photo, places: list[int], generator: np.random.Generator | None = None) -> PhotoCrops:
        """Crop the objects at `places`; without a generator the boxes are those of the pipelines.

        Raises:
            PhotoError: see `PhotoObjects.masks`.
        """
        modal, amodal = self.objects.masks(photo, places)
        boxes = torch.from_numpy(crop_boxes(mask_boxes(modal), enlarge_box=self.enlarge_box))
        if generator is not None and (self.shift or self.scale):
            boxes = self._moved(boxes, generator)
        return PhotoCrops(
            photo=photo,
            size=(modal.shape[1], modal.shape[2]),
            boxes=boxes,
            modal=crop_masks(torch.from_numpy(modal), boxes, self.size),
            target=crop_masks(torch.from_numpy(amodal), boxes, self.size),
        )

    def _moved(self, boxes: Tensor, generator: np.random.Generator) -> Tensor:
        corner, side = boxes[:, :2].double(), boxes[:, 2:].double()
        shift = torch.from_numpy(generator.uniform(-self.shift, self.shift, corner.shape)) * side
        scaled = (side / torch.from_numpy(generator.uniform(1 - self.scale, 1 + self.scale, (len(side), 1)))).round()
        scaled = scaled.clamp(min=1)
        return torch.cat([(corner + shift + (side - scaled) / 2).round(), scaled], dim=1).long()


class Prefetcher(Generic[Prepared]):
    """Runs `prepare(step, batch_size)` for the next step in a thread while the device works on this one.

    What it returns is that of `prepare`, in whatever order the steps are asked for.
    """

    def __init__(self, prepare: Callable[[int, int], Prepared]) -> None:
        self._prepare = prepare
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self._ahead: tuple[tuple[int, int], Future[Prepared]] | None = None

    def __call__(self, step: int, batch_size: int) -> Prepared:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == (step, batch_size):
            prepared = ahead[1].result()
        else:
            if ahead is not None:
                ahead[1].cancel()
            prepared = self._thread.submit(self._prepare, step, batch_size).result()
        self._ahead = ((step + 1, batch_size), self._thread.submit(self._prepare, step + 1, batch_size))
        return prepared


def photo_grid(images: Tensor, mask: Tensor, target: Tensor, probability: Tensor) -> np.ndarray:
    """Two rows of crops (H, W, 3) uint8 on the photo: truth above, prediction below.

    White is what was seen of the object, orange what is hidden (below: as far as it is probable).

    Args:
        images: (B, 3, s, s) crops of the photos in [0, 1].
        mask: (B, 1, s, s) modal masks.
        target: (B, 1, s, s) amodal masks.
        probability: (B, 1, s, s) P(object).
    """
    photo = images.permute(0, 2, 3, 1).float()
    seen, truth, guess = (plane[:, 0, :, :, None].float() for plane in (mask, target, probability))
    rows = []
    for hidden in (truth, guess):
        hidden = 0.7 * hidden * (1 - seen)
        picture = photo * (1 - hidden) + hidden * _HIDDEN
        picture = picture * (1 - 0.6 * seen) + 0.6 * seen * _VISIBLE
        picture[:, [0, -1]] = 0.25
        picture[:, :, [0, -1]] = 0.25
        rows.append(torch.cat(list(picture), dim=1))
    return (torch.cat(rows, dim=0).clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def image_crops(objects: PhotoObjects, crops: PhotoCrops, size: int) -> list[Tensor]:
    """The crops (3, size, size) in [0, 1] of the photo by the boxes of `crops`."""
    image = image_to_tensor(objects.image(crops.photo))
    return list(crop_images(image, crops.boxes, size).clamp(0, 1))
