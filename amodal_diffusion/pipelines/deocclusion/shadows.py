"""Shadows that objects throw on the ground beside them, found in the photo. Where nothing is sure, none is found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ...masks import BoolArray, dilate
from ...models.pull_push import pull_push
from ..planes import box_mean, shrink

FloatArray = npt.NDArray[np.float32]

_SIDE = 96  # pixels of the longer side of an object when its shadow is looked for
_REACH = 0.4  # how far a shadow may reach beyond the object's box, of its longer side
_LOWER = 0.75  # share of the object's height, from its top, above which nothing lies on the ground that it stands on
_PLAIN = 0.09  # greatest spread of the ground's brightness, in natural logarithms
_DARK = 0.07  # least share of the light that a shadow takes
_DEEP = 0.75  # most of it that is told
_BLACK = 0.97  # from which on it is no shadow
_COVERED = 0.12  # share of the light taken from which on the ground is painted anew: divided, it shows the shadow's hue
_GREY = 0.12  # by how much a shadow may take more of one colour than of another
_LEAST = 0.06  # least of it, of the object below that height
_FRAMED = 0.2  # most of its side that may lie at the border of what is looked at
_CUT = 0.02  # most of a shadow's side that may lie where the search begins: what goes on above is no ground
_FOOT = 0.92  # share of the object's height from which on its lowest part alone may be that foot
_TOUCHED = 0.3  # least share of the ground beside the object's foot that is dark
_CLEAR = 0.05  # most that the ground may be dark where a shadow has ended


def find_shadows(
    photo: npt.NDArray[np.uint8], seen: BoolArray, boxes: npt.NDArray[np.int64], outside: BoolArray | None = None
) -> list[npt.NDArray[np.uint8] | None]:
    """The shadow of each object, as `Layer` has it.

    The ground around the object's lowest quarter, where no other object is, is compared with its colour further away,
    for which a plane is fitted to the logarithm of each channel. What is darker by about the same share in all
    channels, touches the foot of the object, is darkest there and ends on all sides before what is looked at does is
    its shadow: a dark wall behind the object goes on above. On ground that is not plain, on that of another object, and
    where any of this fails, no shadow is found.

    Args:
        photo: (H, W, 3) uint8.
        seen: (N, H, W) bool, no pixel in two masks.
        boxes: (N, 4) int64 (x, y, w, h), the tiles of the layers.
        outside: (H, W) bool, where the canvas shows nothing; None: nowhere.

    Returns:
        N arrays (h + 2 m, w + 2 m) uint8, or None.

    Example:
        >>> photo = np.full((80, 80, 3), 200, np.uint8)
        >>> masks = np.zeros((1, 80, 80), bool)
        >>> masks[0, 30:50, 30:50] = True
        >>> find_shadows(photo, masks, np.array([[30, 30, 20, 20]]))
        [None]
    """
    occupied: BoolArray = np.logical_or.reduce(seen, axis=0)
    if outside is not None:
        occupied |= outside
    return [
        _find_shadow(photo, mask, occupied, [int(value) for value in box]) if mask.any() else None
        for mask, box in zip(seen, boxes, strict=True)
    ]


def _find_shadow(
    photo: npt.NDArray[np.uint8], mask: BoolArray, occupied: BoolArray, box: Sequence[int]
) -> npt.NDArray[np.uint8] | None:
    x, y, w, h = box
    height, width = mask.shape
    margin = round(_REACH * max(w, h))
    step = max(1, round(max(w, h) / _SIDE))
    lower = int(y + _LOWER * h)
    rows, columns = (
        slice(max(lower - 2 * step, 0), min(y + h + margin, height)),
        slice(max(x - margin, 0), min(x + w + margin, width)),
    )
    if min(w, h) < 12 or margin < 4:
        return None
    own = shrink(mask[rows, columns], step)[0, 0].numpy() > 0.25
    ground = shrink(~occupied[rows, columns], step)[0, 0].numpy() > 0.999
    image = shrink(photo[rows, columns], step)[0].numpy()
    logs = np.log(image + 4)  # [3, h, w]
    # Only beside and below the foot.
    first = (lower - rows.start) // step
    ground[:first] = False
    near = max(2, margin // step)
    beside = dilate(own, kernel="square", size=2 * max(1, near // 8) + 1) & ground
    middle = dilate(own, kernel="square", size=2 * (near * 5 // 8) + 1)
    far = ground & ~middle
    if beside.sum() < 8 or far.sum() < 60:
        return None
    plane = _fit_plane(logs, far)
    if plane is None:
        return None
    weights = torch.from_numpy(ground.astype(np.float32))[None, None]
    smooth = box_mean(torch.from_numpy(image)[None] * weights, 1) / box_mean(weights, 1).clamp(min=1e-6)
    taken = 1 - np.exp(np.log(smooth[0].numpy() + 4) - plane)  # [3, h, w], share of the light of each channel
    dark = taken.mean(axis=0)
    grey = np.ptp(taken, axis=0) < _GREY + 0.25 * dark.clip(0)
    candidate = ground & (dark > _DARK) & (dark < _BLACK) & grey
    # What hangs together with the dark ground beside the foot.
    reached = candidate & beside
    while True:
        grown = dilate(reached, kernel="square", size=3) & candidate
        if grown.sum() == reached.sum():
            break
        reached = grown
    foot = beside & candidate
    lowest = int((y + _FOOT * h - rows.start) / step)
    edge = ground & ~dilate(own, kernel="square", size=2 * (near * 7 // 8) + 1)
    upper, frame = np.zeros_like(ground), np.zeros_like(ground)
    frame[[0, -1]] = frame[:, [0, -1]] = True
    upper[first : first + 2] = True
    inner = reached & dilate(own, kernel="square", size=2 * max(1, near // 4) + 1)
    outer = reached & ~inner
    sure = (
        any(foot[top:].sum() >= _TOUCHED * beside[top:].sum() > 0 for top in (0, lowest))
        and reached.sum() >= _LEAST * own.sum()
        and edge.any()
        and (reached & edge).sum() <= 0.02 * edge.sum()
        and abs(float(dark[edge].mean())) < _CLEAR
        and (not outer.any() or dark[inner].mean() > dark[outer].mean())
        and (reached & upper).sum() <= _CUT * upper.sum() + 1
        and (reached & frame).sum() <= _FRAMED * reached.sum() ** 0.5
    )
    if not sure:
        return None
    soft = np.where(ground & dilate(reached, kernel="square", size=3), dark.clip(0, _DEEP), 0).astype(np.float32)
    known = torch.from_numpy((ground | ~dilate(own, kernel="square", size=3)).astype(np.float32))[None, None]
    planes = pull_push(torch.from_numpy(soft)[None, None], known)  # beneath the object it goes on
    planes = planes * torch.from_numpy((reached | own | dilate(reached, kernel="square", size=5)).astype(np.float32))
    planes = box_mean(F.pad(planes, (1, 1, 1, 1), mode="replicate"), 1)[..., 1:-1, 1:-1]
    planes = planes * torch.from_numpy(dilate(reached, kernel="square", size=2 * (near // 4) + 1).astype(np.float32))
    sides = tuple(step * side for side in planes.shape[2:])
    full = F.interpolate((255 * planes).round().to(torch.uint8), size=sides, mode="bilinear")[0, 0].numpy()
    full = full[: rows.stop - rows.start, : columns.stop - columns.start]
    shadow = np.zeros((h + 2 * margin, w + 2 * margin), np.uint8)
    top, left = rows.start - (y - margin), columns.start - (x - margin)
    shadow[top : top + full.shape[0], left : left + full.shape[1]] = full
    return shadow


def _fit_plane(logs: FloatArray, where: BoolArray) -> FloatArray | None:
    """A plane through the logarithms (3, h, w) of the marked pixels, everywhere; None where they are not plain."""
    rows, columns = np.mgrid[: where.shape[0], : where.shape[1]].astype(np.float32)
    basis = np.stack([np.ones_like(rows), rows / where.shape[0], columns / where.shape[1]])  # [3, h, w]
    points, values = basis[:, where].astype(np.float64), logs[:, where].astype(np.float64)  # [3, n]
    kept = np.ones(points.shape[1], bool)
    for _ in range(3):  # without what lies far off the plane, which may be anything
        if kept.sum() < 0.6 * len(kept):
            return None
        some = points[:, kept]
        weights = np.linalg.lstsq(some @ some.T, some @ values[:, kept].T, rcond=None)[0]  # [3, 3]
        away = np.abs(values - weights.T @ points).max(axis=0)
        usual = float(np.median(away))
        kept = away < 3 * max(usual, 0.01)
    if float(away[kept].std()) > _PLAIN or usual > _PLAIN:
        return None
    return np.tensordot(weights.T.astype(np.float32), basis, 1)


def with_shadows(
    places: BoolArray,
    shadows: Sequence[npt.NDArray[np.uint8] | None],
    boxes: npt.NDArray[np.int64],
    *,
    overwrite: bool = False,
) -> BoolArray:
    """What is to be painted where objects leave: the place of each, and what its shadow darkens much.

    Args:
        places: (N, H, W) bool.
        shadows: of N objects.
        boxes: (N, 4) int64 (x, y, w, h), their tiles.
        overwrite: `places` may be changed, which saves a copy of it.

    Returns:
        (N, H, W) bool; `places` itself where there are no shadows.

    Example:
        >>> shadow = np.array([[0, 9, 90]], np.uint8).repeat(3, axis=0)
        >>> with_shadows(np.zeros((1, 3, 6), bool), [shadow], np.array([[2, 1, 1, 1]]))[0, 0].astype(int)
        array([0, 0, 0, 1, 0, 0])
    """
    covered = places
    for index, (shadow, box) in enumerate(zip(shadows, boxes.tolist(), strict=True)):
        if shadow is None:
            continue
        covered = covered.copy() if covered is places and not overwrite else covered
        window, part = _on_photo(shadow, box, places.shape[1:])
        covered[(index, *window)] |= part >= 255 * _COVERED
    return covered


def _on_photo(
    shadow: npt.NDArray[np.uint8], box: Sequence[int], shape: Sequence[int]
) -> tuple[tuple[slice, slice], npt.NDArray[np.uint8]]:
    """The rows and columns of a photo (H, W) on which a shadow lies, and the part of it that does."""
    x, y, w, _ = box
    margin = (shadow.shape[1] - w) // 2
    top, left = y - margin, x - margin
    part = shadow[max(-top, 0) : shape[0] - top, max(-left, 0) : shape[1] - left]
    top, left = max(top, 0), max(left, 0)
    return (slice(top, top + part.shape[0]), slice(left, left + part.shape[1])), part


def light(
    photo: npt.NDArray[np.uint8], shadows: Sequence[npt.NDArray[np.uint8] | None], boxes: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """The photo without shadows: each pixel divided by the share of the light that they leave it.

    Args:
        photo: (H, W, 3) uint8.
        shadows: of N objects.
        boxes: (N, 4) int64 (x, y, w, h), their tiles.

    Returns:
        (H, W, 3) uint8; `photo` itself where there are no shadows.

    Example:
        >>> shadow = np.full((4, 4), 128, np.uint8)
        >>> light(np.full((4, 6, 3), 100, np.uint8), [shadow], np.array([[1, 0, 4, 4]]))[0, :, 0]
        array([100, 201, 201, 201, 201, 100], dtype=uint8)
    """
    lit = photo
    for shadow, box in zip(shadows, boxes.tolist(), strict=True):
        if shadow is None:
            continue
        lit = lit.copy() if lit is photo else lit
        where, part = _on_photo(shadow, box, photo.shape[:2])
        window = lit[where]
        dark = part > 0
        share = 1 - part[dark][:, None] / np.float32(255)
        window[dark] = np.rint((window[dark] / share).clip(0, 255)).astype(np.uint8)
    return lit
