"""Objects cropped from their photos, as the pipelines crop them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...crops import crop_boxes, crop_images, crop_masks
from ...display import short_repr
from ...images import image_to_tensor
from ...masks import mask_boxes
from .photo_objects import Photo, PhotoObjects


@dataclass
class PhotoCrops:
    """Some objects of one photo, on the CPU.

    Args:
        photo: where they are.
        size: (height, width) of the photo.
        boxes: (N, 4) int64 (x, y, side, side) in its pixels.
        modal: (N, s, s) bool crops of the modal masks, nearest neighbour.
        target: (N, s, s) bool crops of the amodal masks by the same boxes.

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

    __repr__ = short_repr


class ObjectCropper:
    """Crops objects as the pipelines do, optionally with moved and scaled boxes.

    There is no flip: the features of a flipped photo are not the flipped features.

    Args:
        objects: where the masks come from.
        size: side of the crops.
        enlarge_box: area of a crop box over the area of its object's box.
        shift: the box moves by a uniform share of its side, in [-shift, shift], on each axis.
        scale: its side is divided by a uniform factor in [1 - scale, 1 + scale].

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


def image_crops(objects: PhotoObjects, crops: PhotoCrops, size: int) -> list[Tensor]:
    """The crops (3, size, size) in [0, 1] of the photo by the boxes of `crops`.

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
    image = image_to_tensor(objects.image(crops.photo))
    return list(crop_images(image, crops.boxes, size).clamp(0, 1))
