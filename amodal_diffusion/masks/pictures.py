"""Masks as pictures and arrays hold them: one object with hard or soft edges, or a map of labels.

There is one rule for every door (files, folders, arrays, PIL images, columns of data sets):

- one value beside 0: a hard mask;
- many values that rise from 0 to the greatest in thin rings, as a blurred or resized mask has them, and numbers in
  [0, 1]: a soft mask, whose object is what lies above half of the full value (1, 255 or 65,535);
- values that fill areas of their own: a map of labels, in which 0 is background. -1 is no object, nor is 255 beside
  labels below 64, which is the void of VOC, nor 65,535; only where labels are spread evenly up to them are they labels;
- anything else is refused, since it could be read in more than one way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .packed import BoolArray, IntArray

MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "F")
"""Modes of PIL images with one channel, which a mask may have."""

_SLACK = 0.25
"""How far beyond [0, 1] a resized soft mask may overshoot."""
_FULL = (255, 65535)
_LEAST_SOFT, _FEW_LEVELS = 32, 8
"""With few levels below this value (of 255) there are labels, however they lie: no soft mask is that faint."""
_VOC_LABELS = 64
"""Labels beside which 255 is void are below this; greys chosen for the eye are above."""
_SMOOTH_LEVELS = 64
_WINDOW, _WINDOWS = 256, 16
"""Pixels a side, and how many of these of a large picture are looked at."""
_REDUCED_PAGE, _PAGE_KIND = 1, 254  # a smaller copy of another page of a TIFF, and the tag that says so


def one_object(plane: npt.NDArray[Any], *, threshold: float = 0.5, allow_faint: bool = False) -> BoolArray:
    """The object in a plane that shows one.

    Args:
        plane: (H, W) bool, integers or floats.
        threshold: of soft masks, as a share of the full value.
        allow_faint: a soft mask that is nowhere above the threshold is an empty mask instead of an error.

    Returns:
        (H, W) bool, which may share memory with `plane`; empty where all values are 0.

    Raises:
        TypeError: another kind of value.
        ValueError: NaN, values out of range, several labels, a soft mask that is nowhere above the threshold, or what
            is neither hard, soft nor labels.

    Example:
        >>> one_object(np.array([[0, 7, 7]])).astype(int), one_object(np.array([[0.2, 0.6, 0.9]])).astype(int)
        (array([[0, 1, 1]]), array([[0, 1, 1]]))
    """
    labels, found = _read(plane, threshold, allow_faint)
    if labels is None:
        return found
    if len(labels) != 1:
        some = ", ".join(str(label) for label in labels[:3])
        raise ValueError(
            f"has {len(labels)} labels ({some}{', ...' if len(labels) > 3 else ''}), expected one object; give a map "
            "of labels alone, or one mask an object"
        )
    return found == labels[0]


def labelled_objects(
    plane: npt.NDArray[Any], *, threshold: float = 0.5, allow_faint: bool = False
) -> tuple[list[int], BoolArray]:
    """All objects in a plane: those of a map of labels, or the one of a hard or soft mask.

    Args:
        plane: (H, W) bool, integers or floats.
        threshold: of a soft mask, as a share of the full value.
        allow_faint: see `one_object`.

    Returns:
        N labels, ascending, and N masks (N, H, W) bool. The label of a single mask is its greatest value, rounded up.
        Nothing but 0 gives no object.

    Raises:
        TypeError, ValueError: see `one_object`.

    Example:
        >>> labels, masks = labelled_objects(np.array([[0, 1, 1, 1], [0, 1, 1, 1], [2, 2, 2, 255]]))
        >>> labels, masks.sum(axis=(1, 2))
        ([1, 2], array([6, 3]))
    """
    labels, found = _read(plane, threshold, allow_faint)
    if labels is not None:
        return labels.tolist(), found == labels[:, None, None]
    if not found.any():
        return [], np.zeros((0, *found.shape), bool)
    return [int(np.ceil(np.asarray(plane).max()))], found[None]


def picture_planes(image: Image.Image) -> list[npt.NDArray[Any]]:
    """The values of a picture with one channel, a plane for each page.

    A palette whose used colours are greys is read as these greys, so that its order does not matter; of any other the
    indices are read, and black is 0 where it is used.

    Args:
        image: of a mode in `MASK_MODES`; pages that are smaller copies of others are left out.

    Returns:
        Planes (H, W) of bool, integers or floats, at least one.

    Raises:
        ValueError: another mode.

    Example:
        >>> image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
        >>> image.putpalette([255, 255, 255, 0, 0, 0])  # white first
        >>> picture_planes(image)
        [array([[255,   0]], dtype=uint8)]
    """
    planes: list[npt.NDArray[Any]] = []
    place = image.tell() if getattr(image, "n_frames", 1) > 1 else 0
    for page in range(getattr(image, "n_frames", 1)):
        if page != place or planes:
            image.seek(page)
        if page and getattr(image, "tag_v2", {}).get(_PAGE_KIND, 0) & _REDUCED_PAGE:
            continue
        if image.mode not in MASK_MODES:
            raise ValueError(f"has image mode {image.mode}; expected one channel, one of {', '.join(MASK_MODES)}")
        planes.append(_by_colour(image) if image.mode == "P" else np.asarray(image))
    if getattr(image, "n_frames", 1) > 1:
        image.seek(place)
    return planes


def _by_colour(image: Image.Image) -> npt.NDArray[Any]:
    indices = np.asarray(image)
    flat = image.getpalette("RGB") or []
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
    if not len(used) or len(flat) < 3 * (int(used.max()) + 1):
        return indices
    colours = np.array(flat, np.uint8).reshape(-1, 3)
    black = used[(colours[used] == 0).all(axis=1)]
    if not len(black):
        return indices
    if (colours[used] == colours[used, :1]).all() and len(np.unique(colours[used, 0])) == len(used):
        return colours[:, 0][indices]
    places = np.arange(256, dtype=np.uint8)
    if colours[0].any():  # black stands elsewhere: both change places
        places[0], places[black[0]] = black[0], 0
    return places[indices]


def _read(plane: npt.NDArray[Any], threshold: float, allow_faint: bool) -> tuple[IntArray | None, npt.NDArray[Any]]:
    """Labels and the plane that holds them, or None and the (H, W) bool mask of one object."""
    plane = np.asarray(plane)
    if plane.dtype == np.bool_ or not plane.size:
        return None, plane.astype(bool, copy=False)
    if np.issubdtype(plane.dtype, np.floating):
        low, high = float(plane.min()), float(plane.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"has {'NaN' if np.isnan(low) or np.isnan(high) else 'an infinite value'} in it")
        if low >= -_SLACK and high <= 1 + _SLACK:
            return None, _above(plane, 1, threshold, allow_faint)
        if not np.array_equal(plane, np.rint(plane)) or max(-low, high) > 2**53:
            full = next((full for full in _FULL if high <= full * (1 + _SLACK)), None)
            if full is None or low < -_SLACK * full or high < _LEAST_SOFT:
                raise ValueError(f"holds floats from {low:g} to {high:g}, expected 0 to 1")
            return None, _above(plane, full, threshold, allow_faint)
        plane = plane.astype(np.int64)
    if not np.issubdtype(plane.dtype, np.integer):
        raise TypeError(f"must hold bool, integers or floats, got dtype {plane.dtype}")
    return _read_integers(plane, threshold, allow_faint)


def _read_integers(
    plane: npt.NDArray[np.integer[Any]], threshold: float, allow_faint: bool
) -> tuple[IntArray | None, npt.NDArray[Any]]:
    low, high = int(plane.min()), int(plane.max())
    if low < -1:
        raise ValueError(f"holds integers from {low} to {high}, expected 0 and above, or -1 for no object")
    if low < 0 and high <= 0:
        raise ValueError(f"holds {low} and nothing above 0, which is no object")
    positive = plane > 0
    if high <= 1 or np.array_equal(plane == high, positive):
        return None, positive
    part = plane[_box(positive)]
    values = _values(part)
    full = next((full for full in _FULL if high <= full), high)
    kind = _kind(part, values, full)
    if kind == "soft":
        return None, _above(plane, full, threshold, allow_faint)
    return (values[:-1] if _ends_in_void(values) else values), plane


def _ends_in_void(values: IntArray) -> bool:
    full = int(values[-1])
    if full not in _FULL or (full == _FULL[0] and values[-2] >= _VOC_LABELS):
        return False
    spread = np.arange(1, len(values) + 1) * (full / len(values))
    return bool(np.abs(values - spread).max() > 1)


def _above(plane: npt.NDArray[Any], full: float, threshold: float, allow_faint: bool) -> BoolArray:
    mask: BoolArray = plane > threshold * full
    if not allow_faint and not mask.any() and plane.max() > 0:
        raise ValueError(
            f"is a soft mask of at most {plane.max() / full:.3g} of the full value, and an object lies above "
            f"{threshold:g}: it would be empty"
        )
    return mask


def _box(mask: BoolArray) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    # With the background around it, from which a soft edge rises.
    return slice(max(0, rows[0] - 1), rows[-1] + 2), slice(max(0, columns[0] - 1), columns[-1] + 2)


def _values(part: npt.NDArray[np.integer[Any]]) -> IntArray:
    """The different values above 0, ascending."""
    if part.max() <= _FULL[1]:
        return np.flatnonzero(np.bincount(np.maximum(part, 0).ravel())[1:]) + 1
    values = np.unique(part)
    return values[values > 0].astype(np.int64)


def _kind(part: npt.NDArray[np.integer[Any]], values: IntArray, full: int) -> str:
    """Whether integers are a "soft" mask or "labels"; ValueError for neither."""
    high = int(values[-1])
    if values[-2 if _ends_in_void(values) else -1] < _LEAST_SOFT * full / 255 and len(values) < _FEW_LEVELS:
        return "labels"
    ranks, inside, rising = (np.concatenate(column) for column in zip(*_middles(part, values), strict=True))
    filled, rings = inside.mean(), rising.mean()
    # Levels that lie nowhere but in a thin ring between others, as an interpolated edge leaves them.
    total, own, edge = (np.bincount(ranks, weights=weights) for weights in (None, inside, rising))
    thin = np.count_nonzero((total > 0) & (own == 0) & (edge >= 0.75 * total))
    if (filled <= 0.3 and rings >= 0.75) or _is_noisy(part, values, full) or _is_smooth(part, values, full):
        return "soft"
    if (filled > 0.3 or rings <= 0.25) and not (thin >= 2 and 4 * thin >= len(values)):
        return "labels"
    raise ValueError(
        f"has {len(values)} values from {values[0]} to {high}, which are neither one soft mask (they fill areas) nor a "
        "map of labels (they lie in thin rings, as after a resize with interpolation); resize labels with the nearest "
        "neighbour, and masks one by one"
    )


def _middles(part: npt.NDArray[np.integer[Any]], values: IntArray) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """Of the pixels between 0 and the greatest value: rank of the value, whether the pixels beside it have the same,
    and whether it lies between a lower and a higher one. A large picture is looked at in some windows.
    """
    middle = (part > 0) & (part < values[-1])
    height, width = part.shape
    corners = [(y, x) for y in range(0, height, _WINDOW) for x in range(0, width, _WINDOW)]
    windows = [(slice(y, y + _WINDOW), slice(x, x + _WINDOW)) for y, x in corners]
    windows = [window for window in windows if middle[window].any()]
    for window in windows[:: -(-len(windows) // _WINDOWS)]:
        here, own = middle[window], part[window]
        padded = np.pad(own.astype(np.int32), 1, mode="edge")
        sides = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
        inside = np.logical_and.reduce([side == own for side in sides])
        rising = _spread(padded, np.less) & _spread(padded, np.greater)
        yield np.searchsorted(values, own[here]), inside[here], rising[here]


def _is_noisy(part: npt.NDArray[np.integer[Any]], values: IntArray, full: int) -> bool:
    """Whether this is a hard mask after a lossy format: 0 and the full value, and values next to them."""
    slack = full // 8
    near = (values <= slack, values >= full - slack)
    if values[-1] != full or min(np.count_nonzero(side) for side in near) < 2:
        return False
    whole, high, low = (
        np.count_nonzero(chosen) for chosen in (part == full, part >= full - slack, (part > 0) & (part <= slack))
    )
    return bool(2 * whole >= high >= low and high + low >= 0.8 * np.count_nonzero(part > 0))


def _is_smooth(part: npt.NDArray[np.integer[Any]], values: IntArray, full: int) -> bool:
    """Whether values change little from pixel to pixel, as after a wide blur, whose rings are wide as well."""
    if len(values) < _SMOOTH_LEVELS or values[-1] < full // 2:
        return False
    whole = part[:: -(-len(part) // 512)].astype(np.int32)  # neighbours in a row are enough
    jumps = np.abs(np.diff(whole, axis=1))
    changed = np.count_nonzero(jumps)
    return bool(changed and np.count_nonzero(jumps > full // 100) <= 0.02 * changed)


def _spread(padded: npt.NDArray[np.int32], compare: Any) -> BoolArray:
    """Whether a pixel, or one of its value a few steps away, has a neighbour (of 8) that compares so; (h, w)."""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    windows = [(slice(y, y + height), slice(x, x + width)) for y in range(3) for x in range(3)]
    own = padded[1:-1, 1:-1]
    found = np.logical_or.reduce([compare(padded[window], own) for window in windows])
    for _ in range(4):
        around = np.pad(found, 1)
        found = np.logical_or.reduce([around[window] & (padded[window] == own) for window in windows])
    return found
