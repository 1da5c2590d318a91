"""The arguments of the content pipeline's calls, checked and brought to one form; crops of holes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...crops import crop_boxes
from ...display import short_repr
from ...images import load_image
from ...masks import mask_boxes, to_mask_stack
from ...ordering import ancestors, check_order
from ..inputs import named, read_category_ids, to_device, to_numpy


@dataclass
class ContentScene:
    """One photo and its N objects.

    Args:
        photo: (H, W, 3) uint8.
        modal: (N, H, W) bool.
        amodal: (N, H, W) bool, holds `modal`.
        boxes: (N, 4) int64 (x, y, w, h), tight around `amodal`, zeros where that is empty.
        prompts: of the N objects.
        names: of the N objects, None for one without.
        in_front: (N, N) bool, row i marks the objects that may hide object i; None where no order was given.
        occluders: (N, H, W) or (1, H, W) bool, what else hides the objects, or None.
        unknown: (H, W) bool, where the photo holds nothing, or None.
        category_ids: (N,) int64, or None.

    Example:
        >>> masks = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], dtype=bool).reshape(2, 1, 4)
        >>> amodal_masks = np.array([[1, 1, 1, 0], [0, 1, 0, 0]], dtype=bool).reshape(2, 1, 4)
        >>> scene = read_content_scene(np.zeros((1, 4, 3), np.uint8), masks, amodal_masks, order=[[0, -1], [1, 0]])
        >>> scene.hidden(0)
        array([[False,  True,  True]])
        >>> scene.erased(0, slice(0, 1), slice(0, 4), everything=False)
        array([[False,  True,  True, False]])
    """

    photo: np.ndarray
    modal: np.ndarray
    amodal: np.ndarray
    boxes: np.ndarray
    prompts: list[str]
    names: list[str | None]
    in_front: np.ndarray | None = None
    occluders: np.ndarray | None = None
    unknown: np.ndarray | None = None
    category_ids: np.ndarray | None = None

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.modal)

    def hidden(self, index: int) -> np.ndarray:
        """(h, w) bool, the hidden part of an object within its box."""
        where = (index, *window(self.boxes[index]))
        return self.amodal[where] & ~self.modal[where]

    def erased(self, index: int, rows: slice, columns: slice, *, everything: bool) -> np.ndarray:
        """What the network must not see of a window of the photo, for one object.

        Args:
            index: of the object.
            rows: of the window.
            columns: likewise.
            everything: all of what hides the object; False: only where it covers the object.

        Returns:
            (h, w) bool.
        """
        where = (index, rows, columns)
        amodal = self.amodal[where]
        erased = amodal & ~self.modal[where]
        front = np.zeros_like(erased)
        if self.in_front is not None:
            front |= self.modal[self.in_front[index], rows, columns].any(axis=0)
        if self.occluders is not None:
            front |= self.occluders[index if len(self.occluders) > 1 else 0, rows, columns]
        erased |= front & ~self.modal[where] if everything else front & amodal
        return erased if self.unknown is None else erased | self.unknown[rows, columns]


def read_content_scene(
    image: Any,
    masks: Any,
    amodal_masks: Any,
    *,
    order: Any = None,
    occluder_masks: Any = None,
    unknown: Any = None,
    names: Any = None,
    prompts: Any = None,
    category_ids: Any = None,
    lowest_category: int = 1,
) -> ContentScene:
    """Check the arguments of a call; errors as `ContentPipeline.__call__` says, naming the argument.

    Example:
        >>> masks = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], dtype=bool).reshape(2, 1, 4)
        >>> amodal_masks = np.array([[1, 1, 1, 0], [0, 1, 0, 0]], dtype=bool).reshape(2, 1, 4)
        >>> scene = read_content_scene(np.zeros((1, 4, 3), np.uint8), masks, amodal_masks, order=[[0, -1], [1, 0]])
        >>> len(scene), scene.boxes[0], scene.prompts
        (2, array([0, 0, 3, 1]), ['', ''])
    """
    photo = read_photo(image)
    size = photo.shape[:2]
    modal = read_stack("masks", masks, size)
    amodal = read_stack("amodal_masks", amodal_masks, size)
    count = len(modal)
    if len(amodal) != count:
        raise ValueError(f"`amodal_masks` must hold a mask for each of the {count} `masks`, got {len(amodal)}.")
    if any((visible & ~whole).any() for visible, whole in zip(modal, amodal, strict=True)):  # else no copy of all
        amodal = amodal | modal
    unknown = None if unknown is None else read_mask("unknown", unknown, size)
    if unknown is not None and (modal & unknown).any():
        index = int((modal & unknown).any(axis=(1, 2)).argmax())
        raise ValueError(f"`masks` must lie outside of `unknown`, where nothing is seen; object {index} does not.")
    occluders = None if occluder_masks is None else read_stack("occluder_masks", occluder_masks, size)
    if occluders is not None and len(occluders) not in (1, count):
        raise ValueError(
            f"`occluder_masks` must hold one mask, or one for each of the {count} objects, got {len(occluders)}."
        )
    in_front = None
    if order is not None:
        with named("order", ""):
            in_front = ancestors(check_order(to_numpy(order), count))
    return ContentScene(
        photo=photo,
        modal=modal,
        amodal=amodal,
        boxes=mask_boxes(amodal),
        prompts=_read_prompts(names, prompts, count),
        names=[None] * count if names is None else [*names],
        in_front=in_front,
        occluders=occluders,
        unknown=unknown,
        category_ids=None if category_ids is None else read_category_ids(category_ids, count, lowest=lowest_category),
    )


def read_photo(image: Any) -> np.ndarray:
    """(H, W, 3) uint8 from a photo in any form that `load_image` reads; an array of this kind itself.

    Example:
        >>> from PIL import Image
        >>> read_photo(Image.new("RGB", (4, 2))).shape
        (2, 4, 3)
    """
    if isinstance(image, list | tuple) or image is None:
        raise TypeError(f"`image` must be one photo, got {type(image).__name__}.")
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,) and image.size:
        return np.ascontiguousarray(image)  # a large photo is neither copied nor decoded again
    with named("image", ""):
        return np.asarray(load_image(image))


def read_stack(name: str, masks: Any, size: tuple[int, int]) -> np.ndarray:
    """(N, H, W) bool, masks in any form that `to_mask_stack` reads; errors name the argument.

    Example:
        >>> read_stack("masks", np.eye(2, dtype=bool), (2, 2)).shape
        (1, 2, 2)
    """
    with named(name, ""):
        return to_mask_stack(masks, height=size[0], width=size[1])


def read_mask(name: str, mask: Any, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool, the union of one mask or several in any form that `to_mask_stack` reads.

    Example:
        >>> read_mask("masks", np.eye(2, dtype=bool)[:, None], (1, 2))
        array([[ True,  True]])
    """
    return np.logical_or.reduce(read_stack(name, mask, size), axis=0)


def content_boxes(boxes: np.ndarray, enlarge_box: float) -> np.ndarray:
    """Square crop boxes that contain the whole of each object.

    Args:
        boxes: (N, 4) int64 (x, y, w, h), tight.
        enlarge_box: see `crop_boxes`, whose truncation can cut a row off objects of a few pixels.

    Returns:
        (N, 4) int64 (x, y, side, side).

    Example:
        >>> content_boxes(np.array([[10, 10, 20, 10], [0, 0, 0, 0]]), enlarge_box=3.0)
        array([[ 7,  2, 24, 24],
               [ 0,  0,  0,  0]])
    """
    crops = crop_boxes(boxes, enlarge_box=enlarge_box)
    crops[:, :2] = np.minimum(crops[:, :2], boxes[:, :2])
    needed = (boxes[:, :2] + boxes[:, 2:] - crops[:, :2]).max(axis=1, initial=0)
    crops[:, 2:] = np.maximum(crops[:, 2], needed)[:, None] * (boxes[:, 2:3] > 0)
    return crops


def crop_erased(scene: ContentScene, index: int, box: Sequence[int], size: int, *, everything: bool) -> Tensor:
    """Crop what the network must not see of one object; a pixel of the crop counts if it covers any such pixel.

    The area beyond the photo counts as not to be seen.

    Args:
        scene: the photo and its objects.
        index: of the object.
        box: (x, y, side, side) of the crop.
        size: side s of the patch.
        everything: see `ContentScene.erased`.

    Returns:
        (s, s) bool on the CPU.

    Example:
        >>> masks = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], dtype=bool).reshape(2, 1, 4)
        >>> amodal_masks = np.array([[1, 1, 1, 0], [0, 1, 0, 0]], dtype=bool).reshape(2, 1, 4)
        >>> scene = read_content_scene(np.zeros((1, 4, 3), np.uint8), masks, amodal_masks, order=[[0, -1], [1, 0]])
        >>> crop_erased(scene, 0, (0, 0, 4, 4), 4, everything=False)
        tensor([[False,  True,  True, False],
                [ True,  True,  True,  True],
                [ True,  True,  True,  True],
                [ True,  True,  True,  True]])
    """
    x, y, side, _ = (int(value) for value in box)
    height, width = scene.photo.shape[:2]
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
    erased = scene.erased(index, slice(top, bottom), slice(left, right), everything=everything)
    return cover(erased, (left - x, x + side - right, top - y, y + side - bottom), (size, size), outside=True)[0, 0]


def cover(mask: np.ndarray, padding: tuple[int, int, int, int], size: tuple[int, int], *, outside: bool) -> Tensor:
    """Resize a mask without losing any of it: a pixel is True where it covers at least one True pixel.

    Args:
        mask: (H, W) bool.
        padding: pixels to add left, right, above and below.
        size: (h, w) of the result.
        outside: value of the added pixels.

    Returns:
        (1, 1, h, w) bool on the CPU.

    Example:
        >>> cover(np.array([[1, 0, 0, 0]], dtype=bool), (0, 0, 0, 0), (1, 2), outside=False)
        tensor([[[[ True, False]]]])
    """
    plane = to_device(mask, torch.device("cpu")).float()[None, None]
    return F.adaptive_max_pool2d(F.pad(plane, padding, value=float(outside)), size) > 0


def window(box: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of a box (x, y, w, h).

    Example:
        >>> window((3, 5, 10, 20))
        (slice(5, 25, None), slice(3, 13, None))
    """
    x, y, width, height = (int(value) for value in box)
    return slice(y, y + height), slice(x, x + width)


def _read_prompts(names: Any, prompts: Any, count: int) -> list[str]:
    """The prompts; without them the names; without those empty texts."""
    for argument, values in (("prompts", prompts), ("names", names)):
        if values is None:
            continue
        texts = [values] * count if isinstance(values, str) and argument == "prompts" else values
        if isinstance(texts, str) or not isinstance(texts, Sequence | np.ndarray):
            raise TypeError(f"`{argument}` must be a list with one text for each object, got {type(values).__name__}.")
        if len(texts) != count:
            raise ValueError(f"`{argument}` must have one entry for each of the {count} objects, got {len(texts)}.")
        if any(not (text is None or isinstance(text, str)) for text in texts):
            raise TypeError(f"`{argument}` must hold texts or None, got {[*texts][:8]}.")
    chosen = [None] * count if prompts is None else [prompts] * count if isinstance(prompts, str) else prompts
    fallback = [None] * count if names is None else names
    return [prompt if prompt is not None else name or "" for prompt, name in zip(chosen, fallback, strict=True)]
