"""Convex hulls of a stack of masks, computed in whole numbers for all masks at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .packed import BoolArray, IntArray, PackedMasks, Words, unpack
from .stacks import mask_pixels, to_mask_stack

_WORD = 64
_BELOW = np.array([2**bits - 1 for bits in range(_WORD + 1)], np.uint64)
"""Words whose lowest 0, 1, ... 64 bits are set."""


def convex_hull(masks: npt.NDArray[Any]) -> BoolArray:
    """Fill the convex hull of each mask.

    The hull is that of the midpoints of the pixels' sides, and holds each pixel whose centre is in it or on its edge,
    as the published baseline does [Z20]. It is computed in whole numbers, so it does not depend on rounding.

    Args:
        masks: (N, H, W) masks.

    Returns:
        (N, H, W) bool, a superset of `masks`. The hull of an empty mask is empty.

    Example:
        >>> corner = np.array([[[1, 0, 0], [1, 0, 0], [1, 1, 1]]], dtype=bool)
        >>> convex_hull(corner).astype(int)
        array([[[1, 0, 0],
                [1, 1, 0],
                [1, 1, 1]]])
    """
    stack = to_mask_stack(masks)
    return unpack(hull_words(PackedMasks(stack)), stack.shape[2])


def hull_words(masks: PackedMasks) -> Words:
    """The convex hulls of masks, packed as they are: (N, H, ceil(W / 64)).

    Example:
        >>> hull_words(PackedMasks(np.array([[[True, False, True]]])))
        array([[[7]]], dtype=uint64)
    """
    count, height, width = masks.stack.shape
    filled: BoolArray = np.logical_or.reduce(masks.words, axis=2)
    places = mask_pixels(filled)
    lines = masks.stack[places]
    # The left side of a hull is the right side of its mirror image, whose columns are negative.
    ends = np.zeros((2, count, height), np.int64)
    if len(lines):
        ends[0][places] = width - 1 - lines[:, ::-1].argmax(axis=1)
        ends[1][places] = -lines.argmax(axis=1)
    reach = _right_sides(ends.reshape(2 * count, height), np.concatenate([filled, filled]))
    right, left = reach.reshape(2, count, height, 1) * [[[[1]]], [[[-1]]]]
    starts = np.arange(0, width, _WORD)
    return _BELOW[(right + 1 - starts).clip(0, _WORD)] & ~_BELOW[(left - starts).clip(0, _WORD)]


def _right_sides(last: IntArray, filled: BoolArray) -> IntArray:
    """Last column of each row that the convex hull covers: (M, H), from the last column of the mask in each row.

    Rows that the hull does not reach are below every column. Coordinates are half pixels: row y has its centre at
    2y + 1 and its borders at 2y and 2y + 2, the midpoints of the sides of pixel (x, y) are at 2x - 1, 2x and 2x + 1.
    """
    count, height = last.shape
    none = -np.inf
    points = np.full((count, 2 * height + 1), none)
    points[:, 1::2] = np.where(filled, 2 * last + 1, none)
    sides = np.where(filled, 2 * last, none)
    points[:, 0:-1:2] = sides
    points[:, 2::2] = np.maximum(points[:, 2::2], sides)
    starts, ends = _upper_hull(points)

    rows = np.arange(1, 2 * height, 2)
    start, end = starts[:, 1::2], ends[:, 1::2]
    reached = start >= 0
    start, end = np.where(reached, start, rows), np.where(reached, end, rows)
    from_value = np.where(reached, np.take_along_axis(points, start, axis=1), 0).astype(np.int64)
    to_value = np.where(reached, np.take_along_axis(points, end, axis=1), 0).astype(np.int64)
    run = np.maximum(end - start, 1)
    doubled = from_value * run + (to_value - from_value) * (rows - start)
    below_all = np.int64(-(2**31))
    return np.where(reached, np.floor_divide(doubled, 2 * run), below_all)


def _upper_hull(points: npt.NDArray[np.float64]) -> tuple[IntArray, IntArray]:
    """Edges of the least concave function above `points` (M, T): the ends of the edge over each t, (M, T) twice, or -1.

    Gift wrapping, one edge of every row at a time: from the last vertex on, the steepest point comes next. Equal
    slopes of whole numbers are equal as doubles too, so the farthest of them can be told.
    """
    count, length = points.shape
    places = np.arange(length)
    finite = np.isfinite(points)
    current = finite.argmax(axis=1)
    final = np.where(finite.any(axis=1), length - 1 - finite[:, ::-1].argmax(axis=1), current)
    starts = np.full((count, length), -1, dtype=np.int64)
    ends = starts.copy()
    rows = np.arange(count)
    active = rows[current < final]
    while len(active):
        here = current[active, None]
        ahead = places > here
        rise = points[active] - points[active, current[active]][:, None]
        slopes = np.where(ahead, rise / np.where(ahead, places - here, 1), -np.inf)
        following = length - 1 - slopes[:, ::-1].argmax(axis=1)
        edge = (places >= here) & (places <= following[:, None])
        starts[active] = np.where(edge, here, starts[active])
        ends[active] = np.where(edge, following[:, None], ends[active])
        current[active] = following
        active = active[following < final[active]]
    return starts, ends
