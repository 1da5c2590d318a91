"""Where two objects touch: pixels on the wrong side of their border, as the photo shows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...masks import BoolArray, mask_boxes
from ..strays import STRAYED_REACH, strayed, strayed_step


def settle_borders(
    photo: npt.NDArray[np.uint8],
    modal: BoolArray,
    amodal: BoolArray,
    order: npt.NDArray[np.int8],
    *,
    overwrite: bool = False,
) -> tuple[BoolArray, BoolArray]:
    """Masks in which pixels along the border of two objects belong to the one that they look like.

    Polygons and networks draw a border a few pixels off. What is then left of an object on its neighbour stays as a
    stripe when the object leaves, and goes on into the hidden part of the neighbour. A pixel of one mask that lies
    beside another one changes sides where it fits the colours of that other object near by, is far from those of the
    objects on its own side, and hangs together with the other mask.

    Args:
        photo: (H, W, 3) uint8.
        modal: (N, H, W) bool, no pixel in two masks.
        amodal: (N, H, W) bool, which hold `modal`.
        order: (N, N) order matrix. Behind an object in front, the one that loses a pixel goes on.
        overwrite: `amodal` may be changed, which saves a copy of it.

    Returns:
        (N, H, W) bool each; the masks themselves where nothing changes.

    Example:
        >>> photo, masks = np.zeros((40, 60, 3), np.uint8), np.zeros((2, 40, 60), bool)
        >>> photo[:, :33], photo[:, 33:] = (200, 40, 40), (40, 40, 200)
        >>> masks[0, :, :30], masks[1, :, 30:] = True, True
        >>> whole = masks.copy()
        >>> seen, whole = settle_borders(photo, masks, whole, np.array([[0, 1], [-1, 0]], np.int8))
        >>> seen[0, 20].sum(), seen[1, 20].sum(), whole[1, 20].sum()
        (np.int64(33), np.int64(27), np.int64(30))
    """
    if len(modal) < 2:
        return modal, amodal
    step = strayed_step(*photo.shape[:2])
    anyone: BoolArray = np.logical_or.reduce(modal, axis=0)
    boxes = mask_boxes(modal)
    gains = []
    for index in range(len(modal)):
        if boxes[index, 2]:
            where = _window(boxes[index], step)
            mask = modal[(index, *where)]
            gained = strayed(photo[where], mask, anyone[where] & ~mask, step)
            if gained.any():
                gains.append((index, where, gained))
    if not gains:
        return modal, amodal
    modal, amodal, given = modal.copy(), amodal if overwrite else amodal.copy(), np.zeros_like(anyone)
    for index, where, gained in gains:
        gained = gained & ~given[where]
        given[where] |= gained
        for other in range(len(modal)):
            lost = modal[(other, *where)] & gained
            if other != index and lost.any():
                modal[(other, *where)] &= ~lost
                if order[index, other] != 1:
                    amodal[(other, *where)] &= ~lost
        modal[(index, *where)] |= gained
        amodal[(index, *where)] |= gained
    return modal, amodal


def _window(box: npt.NDArray[np.int64], step: int) -> tuple[slice, slice]:
    x, y, w, h = box.tolist()
    margin = STRAYED_REACH * step
    left, top = (max(0, start - margin) // step * step for start in (x, y))
    return slice(top, y + h + margin), slice(left, x + w + margin)
