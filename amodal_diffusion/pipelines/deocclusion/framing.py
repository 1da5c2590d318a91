"""Objects that the frame cuts: masks that end a few pixels before it, as polygons and networks often do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...masks import BoolArray, dilate, mask_boxes
from ..planes import box_mean, shrink
from ..strays import strayed_step

_GAP = 16  # pixels of a photo whose longer side is 640, the widest strip that is looked at
_DEEP = 8  # pixels of the object beside the strip that say how it looks
_NEAR = 5  # radius of their neighbourhood along the frame
_BESIDE = 12  # pixels along the frame beside the object that say how its surroundings look, radius of their own
_LIKE = 6.0  # squared distance from the object, in its variances, up to which a pixel is its own
_SHARE = 0.5  # of a strip that must look like the object
_AGREED = 4  # radius along the frame of the columns that decide together
_GRAIN = 0.03  # least spread of colours


def reach_frame(
    photo: npt.NDArray[np.uint8],
    modal: BoolArray,
    amodal: BoolArray,
    unknown: BoolArray | None = None,
    *,
    overwrite: bool = False,
) -> tuple[BoolArray, BoolArray]:
    """Masks that go on to the frame where what lies between looks like the object and not like what is beside it.

    The strip would stay when the object leaves, as a stump at the frame.

    Args:
        photo: (H, W, 3) uint8.
        modal: (N, H, W) bool, no pixel in two masks.
        amodal: (N, H, W) bool, which hold `modal`.
        unknown: (H, W) bool, what lies beyond the frame of a photo on a larger canvas; None: nothing.
        overwrite: `amodal` may be changed, which saves a copy of it.

    Returns:
        (N, H, W) bool each; the masks themselves where nothing changes.

    Example:
        >>> photo, masks = np.zeros((60, 80, 3), np.uint8), np.zeros((1, 60, 80), bool)
        >>> photo[20:, 30:50], masks[0, 20:54, 30:50] = 200, True
        >>> seen, _ = reach_frame(photo, masks, masks)
        >>> np.flatnonzero(seen[0, 59]), seen[0, 55:].sum()
        (array([30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46,
               47, 48, 49]), np.int64(100))
    """
    where = (slice(None), slice(None)) if unknown is None else _window(~unknown)
    photo = photo[where]
    height, width = photo.shape[:2]
    step = strayed_step(height, width)
    inner = modal[(slice(None), *where)]
    anyone: BoolArray = np.logical_or.reduce(inner, axis=0)
    seen, whole = modal, amodal
    for index, (x, y, w, h) in enumerate(mask_boxes(inner).tolist()):
        for side, gap in enumerate((y, height - y - h, x, width - x - w)):
            if not w or gap >= min(_GAP * step, w if side < 2 else h):
                continue
            found = _strip(photo, seen[(index, *where)], anyone, side, step)
            if not found.any():
                continue
            if seen is modal:
                seen, whole = modal.copy(), amodal if overwrite else amodal.copy()
            for plane in (seen[(index, *where)], whole[(index, *where)], anyone):
                _from_side(plane, side)[: len(found)] |= found
    return seen, whole


def _strip(photo: npt.NDArray[np.uint8], mask: BoolArray, anyone: BoolArray, side: int, step: int) -> BoolArray:
    """What lies between a mask and the frame at one side (top, bottom, left, right) and looks like the object.

    Returns:
        (d, W) or (d, H) bool, the pixels beside that frame, the outermost first.
    """
    deep = (_GAP + _DEEP) * step
    own, occupied, colours = (np.ascontiguousarray(_from_side(plane, side)[:deep]) for plane in (mask, anyone, photo))
    small, others = shrink(own, step)[0, 0].numpy() > 0.5, shrink(occupied & ~own, step)[0, 0].numpy() > 0  # [h, w]
    first = np.where(small.any(axis=0), small.argmax(axis=0), 0)  # the first pixel of the object in each column
    rows = np.arange(len(small))[:, None]
    strip = (rows < first) & (first <= _GAP)
    strip &= ~(strip & others).any(axis=0)
    if not strip.any():
        return np.zeros_like(own)
    image = shrink(colours, step) / 255  # [1, 3, h, w]
    away, spread, known = _distance(image, small & (rows < first + _DEEP), _NEAR)
    beside = ~dilate(small | strip, kernel="square", size=5) & ~others & (rows < _GAP)
    other, wide, around = _distance(image, beside, _BESIDE)
    like = (away < _LIKE) & known & (~around | (other - away + 3 * np.log(wide / spread) > 0))
    votes = np.stack([like & strip, strip]).sum(axis=1).astype(np.float32)  # [2, w]
    agreed, all_of_them = box_mean(torch.from_numpy(votes)[None, :, None], _AGREED)[0, :, 0].numpy()
    strip &= agreed > _SHARE * all_of_them
    return strip.repeat(step, axis=0).repeat(step, axis=1)[: own.shape[0], : own.shape[1]] & ~occupied


def _window(known: BoolArray) -> tuple[slice, slice]:
    x, y, w, h = mask_boxes(known[None])[0].tolist()
    return slice(y, y + h), slice(x, x + w)


def _from_side(plane: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """A view of rows and columns whose first row lies at the top, bottom, left or right frame."""
    turned = plane if side < 2 else plane.swapaxes(0, 1)
    return turned[::-1] if side % 2 else turned


def _distance(
    image: torch.Tensor, where: BoolArray, radius: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], BoolArray]:
    """How far colours lie from those of the marked pixels in a neighbourhood along the frame, in their variances.

    Returns:
        (h, w) squared distances; (w,) the variances and whether there are any such pixels.
    """
    weight = torch.from_numpy(where.astype(np.float32))[None, None]
    planes = torch.cat([image * weight, (image * image).sum(dim=1, keepdim=True) * weight, weight], dim=1)
    sums = box_mean(planes.sum(dim=2, keepdim=True), radius)[0].numpy()  # [5, 1, w]
    share = np.maximum(sums[4], 1e-6)
    mean = sums[:3] / share
    spread = (sums[3] / share - (mean**2).sum(axis=0)).clip(min=0) / 3 + _GRAIN**2
    away = ((image[0].numpy() - mean) ** 2).sum(axis=0) / spread
    return away, spread[0], sums[4, 0] > 1e-3
