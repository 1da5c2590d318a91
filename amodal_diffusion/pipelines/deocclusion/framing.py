"""Objects that the frame cuts: masks that end a few pixels before it, as polygons and networks often do."""

from __future__ import annotations

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
_GRAIN = 0.03  # least spread of colours


def reach_frame(photo: npt.NDArray[np.uint8], modal: BoolArray, amodal: BoolArray) -> tuple[BoolArray, BoolArray]:
    """Masks that go on to the frame where what lies between looks like the object and not like what is beside it.

    The strip would stay when the object leaves, as a stump at the frame.

    Args:
        photo: (H, W, 3) uint8.
        modal: (N, H, W) bool, no pixel in two masks.
        amodal: (N, H, W) bool, which hold `modal`.

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
    height, width = photo.shape[:2]
    step = strayed_step(height, width)
    anyone: BoolArray = np.logical_or.reduce(modal, axis=0)
    given: list[tuple[int, BoolArray]] = []
    for index, (x, y, w, h) in enumerate(mask_boxes(modal).tolist()):
        if not w:
            continue
        mask = modal[index]
        for side, gap in enumerate((y, height - y - h, x, width - x - w)):
            if gap < _GAP * step and gap < (w if side < 2 else h):
                found = _strip(photo, mask, anyone, side, step)
                if found.any():
                    mask = mask | found
                    anyone = anyone | found
        if mask is not modal[index]:
            given.append((index, mask))
    if not given:
        return modal, amodal
    modal, amodal = modal.copy(), amodal.copy()
    for index, mask in given:
        modal[index] |= mask
        amodal[index] |= mask
    return modal, amodal


def _strip(photo: npt.NDArray[np.uint8], mask: BoolArray, anyone: BoolArray, side: int, step: int) -> BoolArray:
    """(H, W) bool, what lies between a mask and the frame at one side (top, bottom, left, right) and is the object's."""
    found = np.zeros_like(mask)
    deep = (_GAP + _DEEP) * step
    own, others, colours, out = (
        _from_side(plane, side)[:deep] for plane in (mask, anyone & ~mask, photo, found)
    )  # whose first row is at the frame
    small = shrink(np.ascontiguousarray(own), step)[0, 0].numpy() > 0.5  # [h, w]
    first = np.where(small.any(axis=0), small.argmax(axis=0), 0)  # the first pixel of the object in each column
    rows = np.arange(len(small))[:, None]
    strip = (rows < first) & (first <= _GAP)
    strip &= ~(strip & (shrink(np.ascontiguousarray(others), step)[0, 0].numpy() > 0)).any(axis=0)
    if not strip.any():
        return found
    image = shrink(np.ascontiguousarray(colours), step) / 255  # [1, 3, h, w]
    inner = small & (rows < first + _DEEP)
    free = ~dilate(small | strip, kernel="square", size=5) & (shrink(np.ascontiguousarray(others), step)[0, 0].numpy() == 0)
    free &= rows < _GAP
    mean, spread, known = _look(image, inner, _NEAR)
    away = ((image[0].numpy() - mean[:, None]) ** 2).sum(axis=0) / spread
    like = away < _LIKE
    mean, outer, beside = _look(image, free, _BESIDE)
    other = ((image[0].numpy() - mean[:, None]) ** 2).sum(axis=0) / outer
    like &= (beside == 0) | (other - away + 3 * np.log(outer / spread) > 0)
    like &= known > 0
    votes = torch.from_numpy(np.stack([like & strip, strip]).sum(axis=1).astype(np.float32))[None, :, None]
    votes = box_mean(votes, 4)[0, :, 0].numpy()  # [2, w]
    strip &= votes[0] > _SHARE * votes[1]
    out |= strip.repeat(step, axis=0).repeat(step, axis=1)[: out.shape[0], : out.shape[1]] & ~own & ~others
    return found


def _from_side(plane: npt.NDArray, side: int) -> npt.NDArray:  # type: ignore[type-arg]
    """A view whose first row lies at the top, bottom, left or right frame."""
    turned = plane if side < 2 else plane.swapaxes(0, 1)
    return turned[::-1] if side % 2 else turned


def _look(image: torch.Tensor, where: BoolArray, radius: int) -> tuple[npt.NDArray[np.float32], ...]:
    """Mean colour (3, w), variance and share (w,) of marked pixels of a strip, in neighbourhoods along the frame."""
    weight = torch.from_numpy(where.astype(np.float32))[None, None]
    planes = torch.cat([image * weight, (image * image).sum(dim=1, keepdim=True) * weight, weight], dim=1)
    sums = box_mean(planes.sum(dim=2, keepdim=True), radius)[0, :, 0].numpy()  # [5, w]
    share = np.maximum(sums[4], 1e-6)
    mean = sums[:3] / share
    spread = (sums[3] / share - (mean**2).sum(axis=0)).clip(min=0) / 3 + _GRAIN**2
    return mean, spread, np.where(sums[4] > 1e-3, sums[4], 0)
