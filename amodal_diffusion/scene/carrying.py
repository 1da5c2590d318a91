"""What stands on a layer or is held by it. Internal; `Scene.carried` has the public name."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..masks import dilate, mask_areas, mask_boxes, mask_overlaps
from .layer import Layer, compose, corners, invert
from .reshaping import sample_mask

BoolArray = npt.NDArray[np.bool_]

_SIDE = 480  # of the pixels that shapes are compared at, those of the largest scene
_NEAR = 0.012  # of that side: how far above the other one a foot may end
_FOOT = 0.12  # of its height: the lowest part of a layer, which it stands on
_MOST = 0.5  # least share of a foot that is on what carries it, and of a layer that lies over it
_ALL = 0.9  # likewise of a layer whose foot the frame has cut off
_HIDES = 0.03  # least share of a layer that hides something of what it stands on
_SMALL = 0.5  # greatest area of what is held, as a share of the holder's
_CLEAR = 2.0  # times as much of a thing as touches anybody else has to touch who holds it
_PEOPLE = frozenset({"person", "man", "woman", "boy", "girl", "child", "player", "skier", "rider"})
_THEIRS = frozenset(
    "backpack|bag|baseball bat|baseball glove|bat|cap|cell phone|glove|handbag|hat|helmet|racket|skateboard|ski|"
    "ski pole|skis|snowboard|surfboard|tennis racket|tie|umbrella".split("|")
)
"""What people hold or wear, on whichever side of them it is."""


def carries(layers: Sequence[Layer], front: BoolArray, height: int) -> BoolArray:
    """Which layers stand on which others, or are held or worn by them, as far as outlines, order and names tell.

    A layer stands on one behind it if most of its foot, the lower edge of its lowest part, lies on the other one's
    whole shape or touches it from above, most of it lies over the other one in width, and it hides something of it. A
    layer is held or worn by a larger one behind it if most of it lies on that one's whole shape, it does not end below
    that, and more of it lies there than on what it stands on. A foot that the frame has cut off tells nothing; nearly
    all of such a layer must lie on the other one. What by its name people hold or wear, as a bat or a backpack, is
    carried by the person whom it touches, if it touches nobody else as much, and nothing else carries it or most of it
    lies on the person's whole shape.

    Args:
        layers: N layers, where they stand.
        front: (N, N) bool, `[i, j]` where i is in front of j.
        height: of the canvas, in pixels.

    Returns:
        (N, N) bool, `[i, j]` where i carries j directly; False on the diagonal. A layer without a shape carries nothing
        and is not carried.

    Example:
        >>> from amodal_diffusion.scene.layer import translation
        >>> tile, mask = np.full((4, 8, 4), 255, np.uint8), np.ones((4, 8), bool)
        >>> table = Layer(tile, mask, mask, transform=translation(2, 10))
        >>> cup = Layer(tile[:, :3], mask[:, :3], mask[:, :3], transform=translation(4, 8))
        >>> carries([table, cup], np.array([[False, False], [True, False]]), height=20)
        array([[False,  True],
               [False, False]])
    """
    if len(layers) < 2:
        return np.zeros((len(layers), len(layers)), bool)
    shapes = _on_one_grid(layers)  # (N, h, w)
    areas, (left, top, width, tall) = mask_areas(shapes), mask_boxes(shapes).T
    area, bottom = np.maximum(areas, 1), top + tall
    behind = front.T & (areas > 0) & (areas > 0)[:, None]
    near = max(1, round(_NEAR * max(shapes.shape[1:])))

    rows, columns = np.arange(shapes.shape[1]), np.arange(shapes.shape[2])
    lowest = bottom - np.maximum(near, _FOOT * tall)
    feet = shapes & ~np.pad(shapes[:, 1:], ((0, 0), (0, 1), (0, 0))) & (rows >= lowest[:, None])[:, :, None]
    cut = np.array([_cut_by_frame(layer, height) for layer in layers])
    feet[cut] = False
    reached = shapes.copy()
    for step in range(1, near + 1):
        reached[:, :-step] |= shapes[:, step:]
    on_it = mask_overlaps(reached, feet) >= _MOST * np.maximum(mask_areas(feet), 1)  # [i, j]
    across = (columns >= left[:, None]) & (columns < (left + width)[:, None])  # (N, w)
    in_width = across @ shapes.sum(axis=1).T / area
    over = mask_overlaps(shapes, shapes) / area
    stands = behind & on_it & (in_width >= _MOST) & (over >= _HIDES)
    small, above = area <= _SMALL * area[:, None], bottom <= bottom[:, None]
    held = (over >= np.where(cut, _ALL, _MOST)) & small & above & (over > np.where(stands, over, 0).max(axis=0))
    found: BoolArray = np.asarray(stands | (behind & held))
    theirs = _theirs([layer.name for layer in layers], shapes, areas, near)
    return found | (theirs & ((over >= _MOST) | ~found.any(axis=0)))


def _theirs(names: Sequence[str], shapes: BoolArray, areas: npt.NDArray[np.int64], near: int) -> BoolArray:
    """(N, N) bool, `[i, j]` where i is a person and j what people hold or wear, and hardly touches anybody else."""
    plain = [name.lower().rstrip("0123456789#_ ") for name in names]
    people, things = (np.flatnonzero([name in known for name in plain]) for known in (_PEOPLE, _THEIRS))
    found = np.zeros((len(names), len(names)), bool)
    if not (len(people) and len(things)):
        return found
    beside = np.stack([dilate(shapes[thing], kernel="square", size=2 * near + 1) for thing in things])
    touched = mask_overlaps(shapes[people], beside) * (areas[things] <= areas[people][:, None])
    most = touched.argmax(axis=0)
    other = touched.copy()
    other[most, np.arange(len(things))] = 0
    most_touched = touched.max(axis=0)
    sure = (most_touched > 0) & (most_touched >= _CLEAR * other.max(axis=0))
    found[people[most[sure]], things[sure]] = True
    return found


def _on_one_grid(layers: Sequence[Layer]) -> BoolArray:
    """(N, h, w) bool, whole shapes where they stand, also beyond the canvas, on one grid of limited size."""
    ends = np.array([corners(layer.transform, *layer.size) for layer in layers])
    low, high = ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)
    step = max(1.0, float((high - low).max()) / _SIDE)
    shape = tuple(math.ceil(side / step) for side in (high - low)[::-1])
    grid = np.array([[step, 0, low[0]], [0, step, low[1]]])
    return np.stack([sample_mask(layer.amodal, compose(invert(layer.transform), grid), shape) for layer in layers])


def _cut_by_frame(layer: Layer, height: int) -> bool:
    """Whether the lower edge of the photo cut the layer, so that nobody saw its foot."""
    return layer.origin is not None and bool(corners(layer.origin, *layer.size)[1][1] > height - 1)
