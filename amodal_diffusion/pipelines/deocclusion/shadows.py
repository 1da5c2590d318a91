"""Shadows that objects throw on the ground beside them, found in the photo where it is plain enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ...masks import BoolArray, dilate, erode, label_parts
from ...models.pull_push import pull_push
from ..planes import box_mean, shrink

FloatArray = npt.NDArray[np.float32]

_SIDE = 96  # pixels of the longer side of an object when its shadow is looked for
_REACH = 0.4  # how far a shadow may reach beyond the object's box, of its longer side
_UPPER = 0.4  # share of the object's height, from its top, above which nothing lies on the ground that it stands on
_FOOT = 0.75  # likewise, above which nothing touches its foot
_NEAR = 32  # pixels around an object whose ground says how it looks in the light
_CLOSE = 12  # pixels around an object where nobody knows whether the object is what was found to be a thing
_EVERY = 2  # of whose rows and columns each such one is asked
_FEWEST = 20  # pixels of ground that are needed for that
_STARTS = (0.35, 0.5, 0.65, 0.8)  # quantiles of the ground's brightness near which its lit part is sought
_FLOOR = 6  # is added to brightness of 0 to 255 before its logarithm: noise of what is nearly black counts less
_START_SPREAD = 0.18  # around them, in natural logarithms
_ALIKE = 0.14  # greatest distance from the lit ground of what is lit, in any channel, likewise
_ROUNDS = 4  # of a fit, each without what lay far from the plane before
_RIDGE = 1e-6 * np.eye(3)  # keeps planes through a line of pixels, or none, solvable
_LIT = 0.45  # least share of the ground that is lit
_DARK = 0.1  # least share of the light that a shadow takes
_DEEP = 0.75  # most of it that is told
_BLACK = 0.85  # from which on a pixel is of a black thing
_MOST_BLACK = 0.2  # share of such pixels in a shadow
_COVERED = 0.12  # share of the light taken from which on the ground is painted anew: divided, it shows the shadow's hue
_GREY = (0.1, 0.25)  # by how much a shadow may take more of one colour than of another, and of its darkness, more
_BESIDE = 3  # pixels from the object within which its foot is touched
_TOUCHED = 3  # least number of pixels of a shadow that do
_LEAST, _LARGE, _MOST = 0.04, 0.4, 1.2  # of a shadow, in areas of the object below `_UPPER`
_EVEN = (0.3, 0.17)  # greatest spread of a shadow's darkness, in natural logarithms, and of a large one's
_IN_LIGHT = 0.5  # least share of lit ground around a shadow
_FRAMED = 0.24  # most of its side that may lie where the search ends


def find_shadows(
    photo: npt.NDArray[np.uint8],
    seen: BoolArray,
    boxes: npt.NDArray[np.int64],
    outside: BoolArray | None = None,
    things: BoolArray | None = None,
) -> list[npt.NDArray[np.uint8] | None]:
    """The shadow of each object, as `Layer` has it.

    A plane through the logarithm of each channel says how the ground beside and below the object looks in the light;
    it is fitted to the largest part of the ground that lies on one. Parts of the ground that are darker by about the
    same share in all channels and all over, touch the foot of the object, lie in lit ground and end before what is
    looked at does are its shadow: a dark wall behind the object goes on above, a bag beside it is not even. On ground
    that is not plain, on that of another object, where the object is cut by the photo's lower border, so that its foot
    is not seen, and where any of this fails, no shadow is found. What two objects might throw is the larger one's.

    Args:
        photo: (H, W, 3) uint8.
        seen: (N, H, W) bool, no pixel in two masks.
        boxes: (N, 4) int64 (x, y, w, h), the tiles of the layers.
        outside: (H, W) bool, where the canvas shows nothing; None: nowhere.
        things: (H, W) bool, as `ContentPipeline.find_things` has it; but close to the object they are no ground. None:
            nobody knows.

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
    found: list[npt.NDArray[np.uint8] | None] = [None] * len(seen)
    boxes_in_order = boxes.tolist()
    for index in np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable").tolist():
        mask, box = seen[index], boxes_in_order[index]
        if not mask.any() or _cut_below(mask, outside, box):
            continue
        found[index] = shadow = _find_shadow(photo, mask, occupied, things, box)
        if shadow is not None:  # no other object's
            window, part = _on_photo(shadow, box, mask.shape)
            occupied[window] |= part > 0
    return found


def _cut_below(mask: BoolArray, outside: BoolArray | None, box: Sequence[int]) -> bool:
    """Whether the photo's lower border cuts an object, so that its foot is not seen."""
    if mask[-1].any() or outside is None:
        return bool(mask[-1].any())
    x, y, w, h = box
    below = outside[y + 1 : y + h + 1, x : x + w]
    return bool((mask[y : y + len(below), x : x + w] & below).any())


def _find_shadow(
    photo: npt.NDArray[np.uint8],
    mask: BoolArray,
    occupied: BoolArray,
    things: BoolArray | None,
    box: Sequence[int],
) -> npt.NDArray[np.uint8] | None:
    # 1. The ground beside and below the object, at a smaller size
    x, y, w, h = box
    height, width = mask.shape
    margin = round(_REACH * max(w, h))
    if min(w, h) < 12 or margin < 4:
        return None
    step = max(1, round(max(w, h) / _SIDE))
    rows = slice(max(int(y + _UPPER * h), 0), min(y + h + margin, height))
    columns = slice(max(x - margin, 0), min(x + w + margin, width))
    own = shrink(mask[rows, columns], step)[0, 0].numpy() > 0.25
    ground = shrink(~occupied[rows, columns], step)[0, 0].numpy() > 0.99
    ground &= ~dilate(own, kernel="square", size=3)  # mixed colours
    if things is not None:
        shown = shrink(things[rows, columns], step)[0, 0].numpy() > 0.5
        ground &= ~shown | dilate(own, kernel="square", size=2 * _CLOSE + 1)
    weights = torch.from_numpy(ground.astype(np.float32))[None, None]
    smooth = box_mean(shrink(photo[rows, columns], step) * weights, 1) / box_mean(weights, 1).clamp(min=1e-6)
    logs = np.log(smooth[0].numpy() + _FLOOR)  # [3, h, w]

    # 2. How much of the light is missing, and which parts of the ground are shadow
    lit = _fit_plane(logs, ground, dilate(own, kernel="square", size=2 * _NEAR + 1))
    if lit is None:
        return None
    away = logs - lit  # [3, h, w]
    taken = 1 - np.exp(away)  # [3, h, w], share of the light of each channel
    dark: FloatArray = taken.mean(axis=0)
    candidate = ground & (dark > _DARK) & (np.ptp(taken, axis=0) < _GREY[0] + _GREY[1] * dark)
    share: FloatArray = 1 - smooth[0].mean(dim=0).numpy() / (np.exp(lit).mean(axis=0) - _FLOOR).clip(min=1)
    foot = int((y + _FOOT * h - rows.start) / step)
    inside = (rows.start == 0, rows.stop == height, columns.start == 0, columns.stop == width)
    shadow = _parts_in_light(
        candidate, share > _BLACK, away.mean(axis=0), own, ground & (np.abs(away).max(axis=0) < _ALIKE), foot, inside
    )
    if not shadow.any():
        return None

    # 3. Soft, going on beneath the object, at full size
    soft = np.where(ground & dilate(shadow, kernel="square", size=3), share.clip(0, _DEEP), 0).astype(np.float32)
    known = torch.from_numpy((ground | ~dilate(own, kernel="square", size=5)).astype(np.float32))[None, None]
    planes = pull_push(torch.from_numpy(soft)[None, None], known)
    planes = planes * torch.from_numpy((own | dilate(shadow, kernel="square", size=7)).astype(np.float32))
    planes = box_mean(F.pad(planes, (1, 1, 1, 1), mode="replicate"), 1)[..., 1:-1, 1:-1]
    planes = planes * torch.from_numpy(dilate(shadow, kernel="square", size=9).astype(np.float32))
    sides = tuple(step * side for side in planes.shape[2:])
    full = F.interpolate((255 * planes).round().to(torch.uint8), size=sides, mode="bilinear")[0, 0].numpy()
    full = full[: rows.stop - rows.start, : columns.stop - columns.start]
    found = np.zeros((h + 2 * margin, w + 2 * margin), np.uint8)
    top, left = rows.start - (y - margin), columns.start - (x - margin)
    found[top : top + full.shape[0], left : left + full.shape[1]] = full
    return found


def _fit_plane(logs: FloatArray, ground: BoolArray, near: BoolArray) -> FloatArray | None:
    """A plane (3, h, w) through the logarithms (3, h, w) of the ground in the light; None where too little lies on one.

    Of planes that were begun with ground of several brightnesses it is the one on which most of the ground lies; that
    `near` the object alone is asked where there is enough of it.
    """
    asked = np.zeros_like(ground)
    asked[::_EVERY, ::_EVERY] = ground[::_EVERY, ::_EVERY]
    if np.count_nonzero(asked & near) >= _FEWEST:
        asked &= near
    if np.count_nonzero(asked) < _FEWEST:
        return None
    rows, columns = np.mgrid[: ground.shape[0], : ground.shape[1]].astype(np.float32) / max(ground.shape)
    basis = np.stack([np.ones_like(rows), rows, columns])  # [3, h, w]
    points, values = basis[:, asked].astype(np.float64), logs[:, asked].astype(np.float64)  # [3, n]
    brightness = values.mean(axis=0)
    most, found = _LIT * len(brightness), None
    for start in np.quantile(brightness, _STARTS):
        kept = np.abs(brightness - start) < _START_SPREAD
        for _ in range(_ROUNDS):
            some = points[:, kept]
            plane = np.linalg.solve(some @ some.T + _RIDGE, some @ values[:, kept].T)  # [3, 3]
            kept = np.abs(values - plane.T @ points).max(axis=0) < _ALIKE
        if np.count_nonzero(kept) > most:
            most, found = float(np.count_nonzero(kept)), plane
    return None if found is None else np.tensordot(found.T.astype(np.float32), basis, 1)


def _parts_in_light(
    candidate: BoolArray,
    black: BoolArray,
    brightness: FloatArray,
    own: BoolArray,
    lit: BoolArray,
    foot: int,
    at_border: tuple[bool, bool, bool, bool],
) -> BoolArray:
    """Which parts of the dark ground are the object's shadow, (h, w) bool.

    Args:
        candidate: (h, w) bool, dark ground.
        black: (h, w) bool, too dark for a shadow.
        brightness: (h, w) float32, its logarithm, beside that of the lit ground.
        own: (h, w) bool, the object.
        lit: (h, w) bool, ground in the light.
        foot: the row from which on the object's foot is touched.
        at_border: whether the photo ends above, below, to the left and to the right of what is looked at; a shadow may
            go on beyond it.
    """
    parts = label_parts(candidate)
    count = int(parts.max()) + 1
    beside = dilate(own, kernel="square", size=2 * _BESIDE + 1)
    beside[: max(0, foot)] = False
    ends = np.zeros_like(own)
    above, below, left, right = (not border for border in at_border)
    ends[0], ends[-1] = above, below
    ends[:, 0] |= left
    ends[:, -1] |= right
    area, touching, ended, blacks = (
        np.bincount(parts[where], minlength=count) for where in (candidate, beside, ends, black)
    )
    size = np.count_nonzero(own)
    likely = (touching >= _TOUCHED) & (area >= _LEAST * size) & (area <= _MOST * size) & (ended <= _FRAMED * area**0.5)
    likely &= blacks <= _MOST_BLACK * area
    likely[0] = False
    ground_around = ~dilate(own, kernel="square", size=5)
    shadow = np.zeros_like(own)
    for number in np.flatnonzero(likely):
        part = parts == number
        # Its edge may be soft.
        around = dilate(part, kernel="square", size=11) & ~dilate(part, kernel="square", size=5) & ground_around
        core = erode(part, kernel="square", size=3)
        spread = brightness[core if core.any() else part].std()
        even = spread < _EVEN[int(area[number] > _LARGE * size)]
        if even and np.count_nonzero(around & lit) > _IN_LIGHT * np.count_nonzero(around):
            shadow |= part
    return shadow


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
