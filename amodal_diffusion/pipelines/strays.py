"""Pixels of a mask that look like what lies beside it: masks are drawn a few pixels off, and rims mix colours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ..masks import BoolArray, dilate, erode, mask_pixels
from .planes import box_mean, shrink

_SIDE = 640  # longer side in pixels of the photo on which borders are looked at, at most
_REACH = 6  # pixels there, how far a mask may be wrong
_NEAR = 6  # radius there of the neighbourhood that says how the mask looks that they stray from
_AROUND = 14  # likewise, the other side
_ENOUGH = 0.04  # least share of such a neighbourhood that is known
_SURE = 6.0  # log-likelihood ratio from which a pixel has strayed
_ODD = 6.0  # squared distance from the other side, in its variances, from which a pixel is none of it
_LIKE = 6.0  # likewise, from the mask, up to which it is its own
_GRAIN = 0.03  # least spread of colours

STRAYED_REACH = 2 * _REACH + _AROUND
"""How far from a mask `strayed` looks, in steps."""


def strayed_step(height: int, width: int) -> int:
    """The side of the squares of pixels that are looked at together, in a photo of this size.

    Example:
        >>> strayed_step(480, 640), strayed_step(3000, 4000)
        (1, 7)
    """
    return max(1, -(-max(height, width) // _SIDE))


def strayed(photo: npt.NDArray[np.uint8], mask: BoolArray, others: BoolArray, step: int) -> BoolArray:
    """Pixels beside a mask that look like what it shows near by, and not like what lies on their own side.

    Args:
        photo: (h, w, 3) uint8.
        mask: (h, w) bool.
        others: (h, w) bool, the other side.
        step: see `strayed_step`.

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
    rows, columns = mask_pixels(near & foreign)
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
