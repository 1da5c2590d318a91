"""What a photo shows of objects beside their masks: rims, hair and corners that coarse masks have left out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ...masks import BoolArray, block_sums, dilate, mask_pixels
from ..planes import box_mean, shrink

_SIDE = 640  # longer side in pixels of the photo on which remains are looked for, at most
_REACH = 6  # pixels there
_NEAR = 6  # radius there of the neighbourhood that says how the object looks
_AROUND = 14  # likewise, how the background looks
_ENOUGH = 0.04  # least share of such a neighbourhood that is known
_SURE = 1.0  # log-likelihood ratio from which a pixel is the object's rather than the background's
_ODD = 5.0  # squared distance from the background, in its variances, from which a pixel is none of it
_GRAIN = 0.03  # least spread of colours


def remains_reach(height: int, width: int) -> int:
    """How far beside objects `remains` looks, in pixels of a photo of this size.

    Example:
        >>> remains_reach(480, 640), remains_reach(3000, 4000)
        (6, 42)
    """
    return _REACH * _step(height, width)


def _step(height: int, width: int) -> int:
    return max(1, -(-max(height, width) // _SIDE))


def remains(photo: npt.NDArray[np.uint8], seen: BoolArray) -> BoolArray:
    """Pixels beside objects that look like them and not like the background; they would stay as a ghost of the outline.

    They are no part of the objects, which do not take them along: the background is painted there, too. Where a mask
    follows its object, nothing is found.

    Args:
        photo: (H, W, 3) uint8.
        seen: (H, W) bool, all objects.

    Returns:
        (H, W) bool, outside of `seen` and within `remains_reach` pixels of it.

    Example:
        >>> photo = np.zeros((40, 40, 3), np.uint8)
        >>> photo[:, 10:30] = 200
        >>> seen = np.zeros((40, 40), bool)
        >>> seen[:, 10:27] = True
        >>> np.flatnonzero(remains(photo, seen)[20])
        array([27, 28, 29, 30])
    """
    step = _step(*seen.shape)
    own = shrink(seen, step)[0, 0].numpy() > 0
    near = dilate(own, kernel="square", size=2 * _REACH + 1)
    if not own.any() or near.all():
        return np.zeros_like(seen)
    image = shrink(photo, step) / 255  # [1, 3, h, w]
    rows, columns = mask_pixels(near & ~own)
    colours = image[0, :, rows, columns].numpy()  # (3, n)
    away, spreads, known = [], [], []
    for sure, radius in ((own, _NEAR), (~near, _AROUND)):
        mean, spread, share = (plane[:, rows // 2, columns // 2] for plane in _looks(image, sure, radius))
        away.append(((colours - mean) ** 2).sum(axis=0) / spread[0])
        spreads.append(spread[0])
        known.append(share[0])
    ratio = np.zeros(own.shape, np.float32)
    ratio[rows, columns] = (away[1] - away[0] + 3 * np.log(spreads[1] / spreads[0])).clip(-20, 20)
    like = box_mean(torch.from_numpy(ratio)[None, None], 1)[0, 0].numpy() > _SURE
    like[rows, columns] &= (away[1] > _ODD) & (np.minimum(*known) > _ENOUGH)
    grown = own
    for _ in range(_REACH):
        grown = grown | (dilate(grown, kernel="square", size=3) & like & near)
    found = dilate(grown & ~own, kernel="square", size=3) & near
    return found.repeat(step, axis=0).repeat(step, axis=1)[: seen.shape[0], : seen.shape[1]] & ~seen


def with_remains(photo: npt.NDArray[np.uint8], seen: BoolArray, *, overwrite: bool = False) -> tuple[BoolArray, int]:
    """What is to be painted where objects leave: what is `seen` of each and what remains, and how far that reaches.

    Args:
        photo: (H, W, 3) uint8.
        seen: (N, H, W) bool, the objects.
        overwrite: `seen` may be changed, which saves a copy of it.

    Returns:
        (N, H, W) bool, and pixels, as `Scene.rim` counts them; `seen` and 0 where nothing remains. What remains of one
        of several objects beside it belongs to all of them.

    Example:
        >>> photo, seen = np.zeros((40, 40, 3), np.uint8), np.zeros((1, 40, 40), bool)
        >>> seen[0, 10:20, 10:20] = True
        >>> photo[seen[0]] = 200
        >>> (with_remains(photo, seen)[0] == seen).all(), with_remains(photo, seen)[1]
        (np.True_, 0)
    """
    shape = seen.shape[1:]
    left = remains(photo, np.logical_or.reduce(seen, axis=0))
    if not left.any():
        return seen, 0
    step = _step(*shape)
    places = seen if overwrite else seen.copy()
    for place in places:
        near = dilate(block_sums(place, step) > 0, kernel="square", size=2 * _REACH + 1)
        place |= left & near.repeat(step, axis=0).repeat(step, axis=1)[: shape[0], : shape[1]]
    return places, remains_reach(*shape)


def _looks(image: torch.Tensor, sure: BoolArray, radius: int) -> list[npt.NDArray[np.float32]]:
    """Mean colour (3, h, w), variance and share (1, h, w) of the `sure` pixels around each, at half the size."""
    weight = torch.from_numpy(sure.astype(np.float32))[None, None]
    planes = F.avg_pool2d(torch.cat([weight, image * weight, image * image * weight], dim=1), 2, ceil_mode=True)
    sums = box_mean(planes, radius // 2)
    mean, square = (sums[:, part] / sums[:, :1].clamp(min=1e-4) for part in (slice(1, 4), slice(4, 7)))
    spread = (square - mean * mean).clamp(min=0).mean(dim=1, keepdim=True) + _GRAIN**2
    return [plane[0].numpy() for plane in (mean, spread, sums[:, :1])]
