"""Pairs of objects, and who is in front of whom [Z20] or closer than whom, cropped from their photos."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...crops import crop_boxes, crop_images, crop_masks, join_boxes
from ...display import short_repr
from ...images import image_to_tensor
from ...masks import IntArray, mask_boxes
from ...ordering import depth_order, neighbours, order_from_masks
from .photo_crops import mirror, move_boxes
from .photo_objects import Photo, PhotoError, PhotoObjects

SECOND, FIRST, UNRELATED = range(3)
"""What is in front of a pair, or closer, as the logits of an `OrderNet` have it."""


class OrderPairs:
    """The pairs of neighbours on photos whose order is known, or all pairs whose depths are.

    Args:
        objects: with their whole masks.
        photos: of these objects. One that cannot be read has no pairs, unless `objects` raises.
        source: "masks", as published: the object whose visible part hides more of the other one is in front;
            "annotated": as the data set says, and from the masks on photos where it says nothing.
        unrelated: take pairs, too, that touch and hide nothing of each other.
        answer: "occlusion", or "depth": who is closer, see `depth_order`, of all pairs of objects whose depths the data
            set knows, whether they touch or not. Pairs whose depths overlap are `UNRELATED`; `source` and `unrelated`
            then say nothing.

    Attributes:
        photos: those with pairs, each with the numbers of its pairs in the place of its objects.

    Raises:
        PhotoError: run lengths that cannot be decoded, where `objects` raises.

    Example:
        >>> from amodal_diffusion.data import read_annotations
        >>> from amodal_diffusion.data.samplers import ObjectFilter
        >>> from amodal_diffusion.masks import encode_rle
        >>> whole, front = np.zeros((2, 8, 12), bool)
        >>> whole[2:6, :8], front[:, 6:] = True, True
        >>> regions = [{"segmentation": encode_rle(mask), "name": "cup", "order": n + 1} for n, mask in
        ...            enumerate((front, whole))]
        >>> regions[1]["visible_mask"] = encode_rle(whole & ~front)
        >>> image = {"id": 1, "file_name": "1.png", "height": 8, "width": 12}
        >>> annotation = {"id": 1, "image_id": 1, "depth_constraint": "", "regions": regions}
        >>> rows = read_annotations({"images": [image], "annotations": [annotation]})
        >>> objects = PhotoObjects([rows], ["cups"], ObjectFilter(min_area=1))
        >>> pairs = OrderPairs(objects, objects.photos)
        >>> pairs.table(pairs.photos[0])  # the first object is in front of the second one
        array([[0, 1, 1]])
    """

    def __init__(
        self,
        objects: PhotoObjects,
        photos: Sequence[Photo],
        *,
        source: Literal["masks", "annotated"] = "masks",
        unrelated: bool = False,
        answer: Literal["occlusion", "depth"] = "occlusion",
    ) -> None:
        self.answer = answer
        self.objects = objects
        self.source = source
        self.unrelated = unrelated
        self.photos: list[Photo] = []
        self._tables: dict[tuple[int, int], IntArray] = {}
        for photo in photos:
            try:
                table = self._pairs(photo)
            except PhotoError:
                if objects.on_error == "raise":
                    raise
                continue
            if len(table):
                self._tables[photo.source, photo.row] = table
                self.photos.append(photo._replace(objects=tuple(range(len(table)))))

    def table(self, photo: Photo) -> IntArray:
        """(P, 3) int64, the pairs of a photo: the places of two objects in their row, and `FIRST` or `UNRELATED`."""
        return self._tables[photo.source, photo.row]

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    def _pairs(self, photo: Photo) -> IntArray:
        places = np.array(photo.objects)
        if len(places) < 2:
            return np.zeros((0, 3), np.int64)
        if self.answer == "depth":
            return self._depth_pairs(photo, places)
        modal, amodal = self.objects.masks(photo, photo.objects)
        order = self.objects.order(photo) if self.source == "annotated" else None
        if order is None:
            order = order_from_masks(modal, amodal)
        touch = neighbours(modal)
        pairs = [(np.nonzero(touch & (order == 1)), FIRST)]
        if self.unrelated:
            pairs.append((np.nonzero(np.triu(touch & (order == 0))), UNRELATED))
        return _table(places, pairs)

    def _depth_pairs(self, photo: Photo, places: IntArray) -> IntArray:
        depths = self.objects.depths(photo)
        if depths is None:
            return np.zeros((0, 3), np.int64)
        known = ~np.isnan(depths).any(axis=1)
        order = depth_order(depths)
        overlapping = np.triu(known[:, None] & known & (order == 0), k=1)
        return _table(places, [(np.nonzero(order == 1), FIRST), (np.nonzero(overlapping), UNRELATED)])


def _table(places: IntArray, pairs: Sequence[tuple[tuple[IntArray, ...], int]]) -> IntArray:
    """(P, 3) int64 of `OrderPairs.table`, from indices into `places` and what is said of them."""
    return np.concatenate([
        np.stack([places[first], places[second], np.full_like(first, relation)], axis=1)
        for (first, second), relation in pairs
    ])  # fmt: skip


@dataclass
class PairCrops:
    """Some pairs of objects of one photo, on the CPU.

    Args:
        first: (N, s, s) bool crops of the modal masks of one object each.
        second: (N, s, s) bool, of the other one, by the same boxes.
        relation: (N,) int64, `SECOND`, `FIRST` or `UNRELATED`.
        image: (N, 3, s, s) in [0, 1], the photo; None where it is not looked at.

    Example:
        >>> plane = torch.ones(2, 16, 16, dtype=torch.bool)
        >>> PairCrops(plane, plane, relation=torch.tensor([0, 1])).image is None
        True
    """

    first: Tensor
    second: Tensor
    relation: Tensor
    image: Tensor | None = None

    __repr__ = short_repr


class PairCropper:
    """Crops pairs as `OrderNetPipeline` does, optionally with moved and scaled boxes, mirrored, and exchanged.

    Args:
        pairs: what is cropped.
        size: side of the crops.
        with_image: crop the photo, too.
        enlarge_box: area of a crop box over the area of the box around both objects.
        shift: see `ObjectCropper`, as all that follow.
        scale: of the boxes.
        flip: probability of mirroring a crop.

    Example:
        >>> from PIL import Image
        >>> from amodal_diffusion.data import read_annotations
        >>> from amodal_diffusion.data.samplers import ObjectFilter
        >>> from amodal_diffusion.masks import encode_rle
        >>> whole, front = np.zeros((2, 8, 12), bool)
        >>> whole[2:6, :8], front[:, 6:] = True, True
        >>> regions = [{"segmentation": encode_rle(mask), "name": "cup", "order": n + 1} for n, mask in
        ...            enumerate((front, whole))]
        >>> regions[1]["visible_mask"] = encode_rle(whole & ~front)
        >>> image = {"id": 1, "file_name": "1.png", "height": 8, "width": 12}
        >>> annotation = {"id": 1, "image_id": 1, "depth_constraint": "", "regions": regions}
        >>> rows = read_annotations({"images": [image], "annotations": [annotation]})
        >>> objects = PhotoObjects([rows], ["cups"], ObjectFilter(min_area=1))
        >>> pairs = OrderPairs(objects, objects.photos)
        >>> crops = PairCropper(pairs, size=16, with_image=False)(pairs.photos[0], [0])
        >>> crops.first.shape, crops.relation
        (torch.Size([1, 16, 16]), tensor([1]))
    """

    def __init__(
        self,
        pairs: OrderPairs,
        size: int,
        *,
        with_image: bool = True,
        enlarge_box: float = 2.0,
        shift: float = 0.0,
        scale: float = 0.0,
        flip: float = 0.0,
    ) -> None:
        self.pairs = pairs
        self.size = size
        self.with_image = with_image
        self.enlarge_box = enlarge_box
        self.shift = shift
        self.scale = scale
        self.flip = flip

    def __call__(self, photo: Photo, places: Sequence[int], generator: np.random.Generator | None = None) -> PairCrops:
        """Crop the pairs at `places`; without a generator the first object of a pair is the one in front.

        Raises:
            PhotoError: the photo, or a mask of it, cannot be read.
        """
        table = self.pairs.table(photo)[list(places)]
        rows, numbers = np.unique(table[:, :2], return_inverse=True)
        modal, _ = self.pairs.objects.masks(photo, rows.tolist())
        first, second = numbers.reshape(-1, 2).T
        relation = table[:, 2].copy()
        around = mask_boxes(modal)
        boxes = torch.from_numpy(crop_boxes(join_boxes(around[first], around[second]), enlarge_box=self.enlarge_box))
        which = None
        if generator is not None:
            boxes = move_boxes(boxes, self.shift, self.scale, generator)
            which = torch.from_numpy(generator.random(len(boxes)) < self.flip)
            exchanged = generator.random(len(boxes)) < 0.5
            first, second = np.where(exchanged, second, first), np.where(exchanged, first, second)
            relation[exchanged & (relation == FIRST)] = SECOND
        stack = torch.from_numpy(modal)
        one, two = (mirror(crop_masks(stack, boxes, self.size, indices=rows), which) for rows in (first, second))
        image = None
        if self.with_image:
            shown = image_to_tensor(self.pairs.objects.image(photo), torch.uint8)
            image = mirror(crop_images(shown, boxes, self.size).clamp(0, 1), which)
        return PairCrops(one, two, torch.from_numpy(relation), image)
