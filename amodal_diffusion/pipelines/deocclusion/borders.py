"""Where two objects touch: pixels on the wrong side of their border, as the photo shows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ...masks import BoolArray, dilate, erode, mask_boxes
from .planes import box_mean, shrink

_SIDE = 640  # longer side in pixels of the photo on which borders are looked at, at most
_REACH = 6  # pixels there, how far a mask may be wrong
_NEAR = 6  # radius there of the neighbourhood that says how the object looks that gains
_AROUND = 14  # likewise, the objects that lose
_ENOUGH = 0.04  # least share of such a neighbourhood that is known
_SURE = 6.0  # log-likelihood ratio from which a pixel changes sides
_ODD = 6.0  # squared distance from the objects that lose, in their variances, from which a pixel is none of theirs
_LIKE = 6.0  # likewise, from the object that gains, up to which it is its own
_GRAIN = 0.03  # least spread of colours


def settle_borders(
    photo: npt.NDArray[np.uint8], modal: BoolArray, amodal: BoolArray, order: npt.NDArray[np.int8]
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
    step = max(1, -(-max(photo.shape[:2]) // _SIDE))
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
    modal, amodal, given = modal.copy(), amodal.copy(), np.zeros_like(anyone)
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
    margin = (2 * _REACH + _AROUND) * step
    left, top = (max(0, start - margin) // step * step for start in (x, y))
    return slice(top, y + h + margin), slice(left, x + w + margin)


def strayed(photo: npt.NDArray[np.uint8], mask: BoolArray, others: BoolArray, step: int) -> BoolArray:
    """Pixels of other objects beside a mask that look like its object, and not like theirs.

    Args:
        photo: (h, w, 3) uint8.
        mask: (h, w) bool.
        others: (h, w) bool, the masks of all other objects.
        step: of the pixels that are looked at together.

    Returns:
        (h, w) bool, within `others`.

    Example:
        >>> photo, mask = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), bool)
        >>> photo[:, :33], photo[:, 33:], mask[:, :30] = (200, 40, 40), (40, 40, 200), True
        >>> np.flatnonzero(strayed(photo, mask, ~mask, 1)[20])
        array([30, 31, 32])
    """
    own, foreign = shrink(mask, step)[0, 0].numpy() > 0.5, shrink(others, step)[0, 0].numpy() > 0.5
    near = dilate(own, kernel="square", size=2 * _REACH + 1)
    core, beyond = erode(own, kernel="square", size=3), foreign & ~near
    rows, columns = np.nonzero(near & foreign)
    if not len(rows) or not core.any() or not beyond.any():
        return np.zeros_like(mask)
    image = shrink(photo, step) / 255  # [1, 3, h, w]
    colours = image[0, :, rows, columns].numpy()  # (3, n)
    away, spreads, enough = [], [], np.ones(len(rows), bool)
    for sure, radius in ((core, _NEAR), (beyond, _AROUND)):
        mean, spread, share = (plane[:, rows, columns] for plane in _looks(image, sure, radius))
        away.append(((colours - mean) ** 2).sum(axis=0) / spread[0])
        spreads.append(spread[0])
        enough &= share[0] > _ENOUGH
    ratio = (away[1] - away[0] + 3 * np.log(spreads[1] / spreads[0])).clip(-20, 20)
    plane = np.zeros(own.shape, np.float32)
    plane[rows, columns] = ratio
    smooth = box_mean(torch.from_numpy(plane)[None, None], 1)[0, 0].numpy()[rows, columns]
    like = np.zeros_like(own)
    like[rows, columns] = (smooth > _SURE) & (away[1] > _ODD) & (away[0] < _LIKE) & enough
    grown = own
    for _ in range(_REACH):
        grown = grown | (dilate(grown) & like)
    # Without hairs that no square of 3 x 3 fits into.
    grown &= dilate(erode(grown, kernel="square", size=3), kernel="square", size=3)
    part = (grown & ~own).repeat(step, axis=0).repeat(step, axis=1)[: mask.shape[0], : mask.shape[1]]
    return part & others


def _looks(image: torch.Tensor, sure: BoolArray, radius: int) -> list[npt.NDArray[np.float32]]:
    """Mean colour (3, h, w), variance and share (1, h, w) of the `sure` pixels around each."""
    weight = torch.from_numpy(sure.astype(np.float32))[None, None]
    sums = box_mean(torch.cat([weight, image * weight, image * image * weight], dim=1), radius)
    mean, square = (sums[:, part] / sums[:, :1].clamp(min=1e-4) for part in (slice(1, 4), slice(4, 7)))
    spread = (square - mean * mean).clamp(min=0).mean(dim=1, keepdim=True) + _GRAIN**2
    return [plane[0].numpy() for plane in (mean, spread, sums[:, :1])]
