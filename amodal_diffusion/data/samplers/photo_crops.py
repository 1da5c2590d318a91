"""Objects cropped from their photos, as the pipelines crop them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...crops import crop_boxes, crop_images, crop_masks
from ...display import short_repr
from ...images import image_to_tensor
from ...masks import BoolArray, mask_boxes
from .photo_objects import Photo, PhotoObjects

_FILL = (124, 116, 104)  # ImageNet's mean, beside the photo


@dataclass
class PhotoCrops:
    """Some objects of one photo, on the CPU.

    Args:
        photo: where they are.
        size: (height, width) of the photo.
        boxes: (N, 4) int64 (x, y, side, side) in its pixels.
        modal: (N, s, s) bool crops of the modal masks, nearest neighbour.
        target: (N, s, s) bool crops of the amodal masks by the same boxes.
        mirrored: (N,) bool, the crops that are mirrored left to right; None where none is.

    Example:
        >>> photo = Photo("cups/1 (1.png)", source=0, row=0, objects=(0,), group="1.png")
        >>> plane = torch.ones(1, 16, 16, dtype=torch.bool)
        >>> PhotoCrops(photo, (48, 64), torch.tensor([[8, 8, 32, 32]]), modal=plane, target=plane).modal.shape
        torch.Size([1, 16, 16])
    """

    photo: Photo
    size: tuple[int, int]
    boxes: Tensor
    modal: Tensor
    target: Tensor
    mirrored: Tensor | None = None

    __repr__ = short_repr


class ObjectCropper:
    """Crops objects as the pipelines do, optionally with moved and scaled boxes and mirrored.

    Args:
        objects: where the masks come from.
        size: side of the crops.
        enlarge_box: area of a crop box over the area of its object's box.
        shift: the box moves by a uniform share of its side, in [-shift, shift], on each axis.
        scale: its side is divided by a uniform factor in [1 - scale, 1 + scale].
        flip: probability of mirroring a crop; 0 for features of whole photos, since those of a mirrored photo are not
            the mirrored features.

    Example:
        >>> from PIL import Image
        >>> from amodal_diffusion.data import read_annotations
        >>> region = {"segmentation": [1, 1, 6, 1, 6, 6, 1, 6], "name": "cup", "order": 1}
        >>> image = {"id": 1, "file_name": "1.png", "height": 8, "width": 8}
        >>> annotation = {"id": 1, "image_id": 1, "depth_constraint": "", "regions": [region]}
        >>> rows = read_annotations({"images": [image], "annotations": [annotation]})
        >>> rows = rows.map(lambda row: {"image": Image.new("RGB", (8, 8))}, keep_in_memory=True)
        >>> from amodal_diffusion.data.samplers import ObjectFilter
        >>> objects = PhotoObjects([rows], ["cups"], ObjectFilter(min_area=1))
        >>> crops = ObjectCropper(objects, size=16)(objects.photos[0], places=[0])
        >>> crops.modal.shape, crops.boxes.tolist()
        (torch.Size([1, 16, 16]), [[0, 0, 8, 8]])
    """

    def __init__(
        self,
        objects: PhotoObjects,
        size: int,
        *,
        enlarge_box: float = 3.0,
        shift: float = 0.0,
        scale: float = 0.0,
        flip: float = 0.0,
    ) -> None:
        self.objects = objects
        self.size = size
        self.enlarge_box = enlarge_box
        self.shift = shift
        self.scale = scale
        self.flip = flip

    def __call__(self, photo: Photo, places: list[int], generator: np.random.Generator | None = None) -> PhotoCrops:
        """Crop the objects at `places`; without a generator the boxes are those of the pipelines.

        Raises:
            PhotoError: see `PhotoObjects.masks`.
        """
        modal, amodal = self.objects.masks(photo, places)
        boxes = torch.from_numpy(crop_boxes(mask_boxes(modal), enlarge_box=self.enlarge_box))
        if generator is not None and (self.shift or self.scale):
            boxes = move_boxes(boxes, self.shift, self.scale, generator)
        mirrored = None
        if generator is not None and self.flip:
            mirrored = torch.from_numpy(generator.random(len(boxes)) < self.flip)
        return PhotoCrops(
            photo=photo,
            size=(modal.shape[1], modal.shape[2]),
            boxes=boxes,
            modal=mirror(crop_masks(torch.from_numpy(modal), boxes, self.size), mirrored),
            target=mirror(crop_masks(torch.from_numpy(amodal), boxes, self.size), mirrored),
            mirrored=mirrored,
        )


def move_boxes(boxes: Tensor, shift: float, scale: float, generator: np.random.Generator) -> Tensor:
    """Move and scale crop boxes at random; see `ObjectCropper`.

    Args:
        boxes: (N, 4) int64 (x, y, side, side).
        shift: a box moves by up to this share of its side, on each axis.
        scale: its side is divided by a factor in [1 - scale, 1 + scale].
        generator: of the random numbers.

    Returns:
        (N, 4) int64.

    Example:
        >>> move_boxes(torch.tensor([[0, 0, 8, 8]]), 0.0, 0.0, np.random.default_rng(0))
        tensor([[0, 0, 8, 8]])
    """
    corner, side = boxes[:, :2].double(), boxes[:, 2:].double()
    moved = torch.from_numpy(generator.uniform(-shift, shift, corner.shape)) * side
    scaled = (side / torch.from_numpy(generator.uniform(1 - scale, 1 + scale, (len(side), 1)))).round()
    scaled = scaled.clamp(min=1)
    return torch.cat([(corner + moved + (side - scaled) / 2).round(), scaled], dim=1).long()


def image_crops(objects: PhotoObjects, crops: PhotoCrops, size: int) -> list[Tensor]:
    """The crops (3, size, size) in [0, 1] of the photo by the boxes of `crops`, mirrored as these are.

    Example:
        >>> from PIL import Image
        >>> from amodal_diffusion.data import read_annotations
        >>> region = {"segmentation": [1, 1, 6, 1, 6, 6, 1, 6], "name": "cup", "order": 1}
        >>> image = {"id": 1, "file_name": "1.png", "height": 8, "width": 8}
        >>> annotation = {"id": 1, "image_id": 1, "depth_constraint": "", "regions": [region]}
        >>> rows = read_annotations({"images": [image], "annotations": [annotation]})
        >>> rows = rows.map(lambda row: {"image": Image.new("RGB", (8, 8))}, keep_in_memory=True)
        >>> from amodal_diffusion.data.samplers import ObjectFilter
        >>> objects = PhotoObjects([rows], ["cups"], ObjectFilter(min_area=1))
        >>> crops = ObjectCropper(objects, size=16)(objects.photos[0], places=[0])
        >>> [tuple(crop.shape) for crop in image_crops(objects, crops, size=16)]
        [(3, 16, 16)]
    """
    image = image_to_tensor(objects.image(crops.photo), torch.uint8)
    return list(mirror(crop_images(image, crops.boxes, size).clamp(0, 1), crops.mirrored))


def mirror(crops: Tensor, which: Tensor | None) -> Tensor:
    """(N, ..., w) with the rows of `which` (N,) bool mirrored left to right; None mirrors none.

    Example:
        >>> mirror(torch.tensor([[1, 2], [3, 4]]), torch.tensor([True, False]))
        tensor([[2, 1],
                [3, 4]])
    """
    if which is None:
        return crops
    return torch.where(which.view(-1, *[1] * (crops.ndim - 1)), crops.flip(-1), crops)


def shrink_photo(
    photo: npt.NDArray[np.uint8], mask: BoolArray, max_side: int
) -> tuple[npt.NDArray[np.uint8], BoolArray]:
    """A photo (H, W, 3) and a mask (H, W) with their longer side at most at `max_side`; needs OpenCV.

    Example:
        >>> photo, mask = shrink_photo(np.zeros((40, 30, 3), np.uint8), np.ones((40, 30), bool), max_side=20)
        >>> photo.shape, mask.shape, mask.dtype
        ((20, 15, 3), (20, 15), dtype('bool'))
    """
    import cv2

    scale = max_side / max(mask.shape)
    if scale >= 1:
        return photo, mask
    size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    smaller = cv2.resize(photo, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return smaller, cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0


def warp_square(
    photo: npt.NDArray[np.uint8],
    masks: Sequence[BoolArray],
    affine: npt.NDArray[np.float64],
    size: int,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], list[BoolArray]]:
    """A square of a photo and of masks, mirrored and of another brightness at random; needs OpenCV.

    Args:
        photo: (H, W, 3) uint8; beside it the square has ImageNet's mean.
        masks: (H, W) bool each; beside the photo they are False.
        affine: (2, 3), from pixels (x, y, 1) of the photo to those of the square.
        size: side S in pixels.
        rng: draws whether it is mirrored, and the brightness.

    Returns:
        (S, S, 3) uint8, and (S, S) bool each.

    Example:
        >>> square, (mask,) = warp_square(
        ...     np.zeros((8, 8, 3), np.uint8), [np.eye(8, dtype=bool)], np.eye(2, 3), 8, np.random.default_rng(0)
        ... )
        >>> square.shape, int(mask.sum())
        ((8, 8, 3), 8)
    """
    import cv2

    affine = affine.copy()
    if rng.random() < 0.5:
        affine[0] = [-affine[0, 0], 0, size - 1 - affine[0, 2]]
    crop = cv2.warpAffine(photo, affine, (size, size), flags=cv2.INTER_LINEAR, borderValue=_FILL)
    found = [cv2.warpAffine(mask.astype(np.uint8), affine, (size, size), flags=cv2.INTER_NEAREST) > 0 for mask in masks]
    light = crop.astype(np.float32) * rng.uniform(0.75, 1.25) + rng.uniform(-20, 20)
    return light.clip(0, 255).astype(np.uint8), found
