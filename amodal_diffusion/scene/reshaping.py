"""A layer in another shape: another pose of its object [L20, section 4.4]. Internal; `scene` has the public names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from ..display import short_repr
from ..masks import dilate, mask_boxes
from ..models.pull_push import pull_push
from .layer import FloatArray, Layer, compose, corners, invert, translation
from .render import place_layer

BoolArray = npt.NDArray[np.bool_]

_MAX_TILE_PIXELS = 2**26
_SOLID = 0.97  # alpha from which nothing is seen behind an outline
_RIM = 7
"""Pixels, odd: the outline of a layer stays as it is this far from where its shape changes."""


@dataclass
class NewShape:
    """A layer and its new shape on one tile that holds both; `fit_shape` makes it.

    Args:
        layer: as it was.
        corner: (x, y) of the new tile on the layer's own.
        rgba: (h, w, 4) uint8, the layer as it was.
        before: (h, w) bool, its shape as it was.
        after: (h, w) bool, its shape as it will be.

    Example:
        >>> mask = np.ones((1, 2), bool)
        >>> shape = fit_shape(Layer(np.full((1, 2, 4), 9, np.uint8), mask, mask), np.array([[0, 1, 1, 1]], bool))
        >>> shape.before.astype(int), shape.after.astype(int), shape.new.astype(int)
        (array([[1, 1, 0, 0]]), array([[0, 1, 1, 1]]), array([[0, 0, 1, 1]]))
    """

    layer: Layer
    corner: tuple[int, int]
    rgba: npt.NDArray[np.uint8]
    before: BoolArray
    after: BoolArray

    __repr__ = short_repr

    @property
    def new(self) -> BoolArray:
        """(h, w) bool, what the layer has no colours for."""
        return self.after & ~self.seen

    @property
    def seen(self) -> BoolArray:
        """(h, w) bool, what the layer has colours for."""
        return self.before & (self.rgba[..., 3] > 0)

    @property
    def smooth(self) -> npt.NDArray[np.uint8]:
        """(h, w, 3) uint8, the colours of the layer, continued smoothly over all of the tile."""
        colours = torch.from_numpy(np.require(self.rgba[..., :3], np.float32)).permute(2, 0, 1)[None]  # [1, 3, h, w]
        known = torch.from_numpy(self.seen.astype(np.float32))[None, None]  # [1, 1, h, w]
        smooth = pull_push(colours, known)[0].permute(1, 2, 0).numpy()
        return np.where(self.seen[..., None], self.rgba[..., :3], np.rint(smooth).clip(0, 255)).astype(np.uint8)

    def painted(self, colours: npt.NDArray[np.uint8]) -> Layer:
        """The layer in its new shape, with `colours`, (h, w, 3) uint8 on this tile, where it had none."""
        # 1. The outline is as it was where the shape stays; elsewhere it is soft where the layer's was.
        rgba = self.rgba.copy()
        rgba[self.new, :3] = colours[self.new]
        soft = bool(((self.layer.rgba[..., 3] > 0) & (self.layer.rgba[..., 3] < 255)).any())
        fresh = soft_alpha(self.after) if soft else np.full(self.after.shape, 255, np.uint8)
        near = dilate(self.before ^ self.after, kernel="square", size=_RIM)
        rgba[..., 3] = np.where(near | self.new, np.where(self.after, fresh, 0), rgba[..., 3])

        # 2. A tile that is tight around it
        x, y, w, h = (int(value) for value in mask_boxes((self.after | (rgba[..., 3] > 0))[None])[0])
        window = (slice(y, y + h), slice(x, x + w))
        corner = (self.corner[0] + x, self.corner[1] + y)
        modal = np.zeros(self.after.shape, bool)
        there, here = _overlap(self.corner, self.after.shape, self.layer.modal.shape)
        modal[there] = self.layer.modal[here]
        return replace(
            self.layer,
            rgba=rgba[window],
            modal=(modal & self.after)[window],
            amodal=self.after[window],
            uncertainty=None,
            transform=compose(self.layer.transform, translation(*corner)),
            origin=None,
            shadow=moved_shadow(self.layer, (-corner[0], -corner[1]), (w, h)),
        )


def fit_shape(layer: Layer, mask: BoolArray) -> NewShape | None:
    """Lay a new shape on the tile of a layer.

    Args:
        layer: of a scene.
        mask: (H, W) bool, the new shape on the canvas. What lies beyond the canvas stays as it is.

    Returns:
        None where the shape is what it was.

    Raises:
        ValueError: naming `mask`: nothing is left, or the tile of a layer that stands much smaller than its tile would
            be too large.

    Example:
        >>> mask = np.ones((1, 2), bool)
        >>> fit_shape(Layer(np.full((1, 2, 4), 9, np.uint8), mask, mask), np.array([[1, 1, 0]], bool)) is None
        True
    """
    changed = mask ^ shape_on_canvas(layer, mask.shape)
    if not changed.any():
        return None
    x, y, w, h = (int(value) for value in mask_boxes((mask | changed)[None])[0])
    low, high = corners(compose(invert(layer.transform), translation(x, y)), w, h)
    left, top = (min(0, math.floor(value)) for value in low)
    right, bottom = (max(side, math.ceil(value)) for side, value in zip(layer.size, high, strict=True))
    if (right - left) * (bottom - top) > _MAX_TILE_PIXELS:
        raise ValueError(
            f"`mask` would need a tile of {right - left}x{bottom - top} pixels for a layer of {layer.size[0]}x"
            f"{layer.size[1]} that stands much smaller; a tile can have {_MAX_TILE_PIXELS}."
        )
    shape = (bottom - top, right - left)
    there, here = _overlap((left, top), shape, layer.amodal.shape)
    rgba, before = np.zeros((*shape, 4), np.uint8), np.zeros(shape, bool)
    rgba[there], before[there] = layer.rgba[here], layer.amodal[here]
    on_canvas = compose(layer.transform, translation(left, top))
    after = np.where(sample_mask(changed, on_canvas, shape), sample_mask(mask, on_canvas, shape), before)
    if not after.any():
        raise ValueError("`mask` must leave something of the layer; `remove` takes it away.")
    return NewShape(layer, (left, top), rgba, before, after)


def behind_outline(
    background: npt.NDArray[np.uint8], photo: npt.NDArray[np.uint8], layer: Layer, shadows: Sequence[Layer]
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8, the background with what the photo shows through the soft outline of a layer.

    Both together then give the photo along an outline that stays where it is. What was painted there need not look like
    the ground beside it, such as where an object stands in a shadow.

    Args:
        background: (H, W, 3) uint8.
        photo: (H, W, 3) uint8.
        layer: that stands where the photo shows it.
        shadows: that fall on the background.

    Example:
        >>> tile, mask = np.array([[[200, 200, 200, 51]]], np.uint8), np.ones((1, 1), bool)
        >>> layer = Layer(tile, mask, mask, transform=translation(1, 0), origin=translation(1, 0))
        >>> photo = np.full((1, 3, 3), 120, np.uint8)
        >>> behind_outline(np.zeros_like(photo), photo, layer, [])[..., 0]
        array([[  0, 100,   0]], dtype=uint8)
    """
    height, width = background.shape[:2]
    placed = place_layer(layer, layer.transform, height, width)
    if placed is None:
        return background
    rim = placed.seen & placed.cover & (placed.alpha < _SOLID)
    if not rim.any():
        return background
    light = np.ones((height, width), np.float32)
    for shadow in shadows:
        fallen = place_layer(shadow, shadow.transform, height, width)
        if fallen is not None:
            light[fallen.window] *= 1 - fallen.alpha
    alpha = placed.alpha[..., None]
    through = (photo[placed.window] - placed.premultiplied) / (1 - np.minimum(alpha, _SOLID))
    through /= np.maximum(light[placed.window], 1 / 255)[..., None]
    uncovered = background.copy()
    uncovered[placed.window][rim] = np.rint(through[rim]).clip(0, 255).astype(np.uint8)
    return uncovered


def shape_on_canvas(layer: Layer, shape: tuple[int, ...]) -> BoolArray:
    """(H, W) bool, the whole of a layer where it stands on a canvas of that size.

    Example:
        >>> mask = np.ones((1, 2), bool)
        >>> layer = Layer(np.zeros((1, 2, 4), np.uint8), mask, mask, transform=translation(1, 0))
        >>> shape_on_canvas(layer, (2, 4)).astype(int)
        array([[0, 1, 1, 0],
               [0, 0, 0, 0]])
    """
    return sample_mask(layer.amodal, invert(layer.transform), shape)


def sample_mask(mask: BoolArray, affine: FloatArray, shape: tuple[int, ...]) -> BoolArray:
    """A mask looked up at the points that the centres of (h, w) pixels are mapped to; False beyond it.

    Example:
        >>> sample_mask(np.array([[True, False]]), translation(-1, 0), (1, 4)).astype(int)
        array([[0, 1, 0, 0]])
    """
    x, y = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    column, row = (np.floor(affine[k, 0] * x + affine[k, 1] * y + affine[k, 2] + 1e-9) for k in (0, 1))
    inside = (column >= 0) & (row >= 0) & (column < mask.shape[1]) & (row < mask.shape[0])
    column, row = (np.where(inside, place, 0).astype(np.int64) for place in (column, row))  # others may be far away
    found = np.zeros((shape[0], shape[1]), bool)
    found[inside] = mask[row[inside], column[inside]]
    return found


def _overlap(
    corner: tuple[int, int], new: tuple[int, ...], old: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where an old tile lies on a new one, whose corner (x, y) is given on the old: windows of the new and the old."""
    here = tuple(
        slice(max(0, start), min(side, start + length))
        for start, length, side in zip(reversed(corner), new, old, strict=True)
    )
    there = tuple(
        slice(part.start - start, part.stop - start) for part, start in zip(here, reversed(corner), strict=True)
    )
    return there, here


def soft_alpha(mask: BoolArray) -> npt.NDArray[np.uint8]:
    """(h, w) uint8, the alpha of a mask whose outline is a pixel wide.

    Example:
        >>> soft_alpha(np.ones((3, 3), bool))
        array([[113, 170, 113],
               [170, 255, 170],
               [113, 170, 113]], dtype=uint8)
    """
    planes = np.pad(mask, 1).astype(np.uint8)  # no view: bools from PIL hold 255
    rows = planes[:-2] + planes[1:-1] + planes[2:]
    levels = np.rint(np.arange(10) * (255 / 9)).astype(np.uint8)
    return levels[rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]]


def moved_shadow(layer: Layer, corner: tuple[int, int], size: tuple[int, int]) -> npt.NDArray[np.uint8] | None:
    """The shadow of a layer on a tile of another size (w, h), in which the old one has its corner at (x, y).

    Example:
        >>> mask = np.ones((1, 2), bool)
        >>> layer = Layer(np.zeros((1, 2, 4), np.uint8), mask, mask, shadow=np.full((1, 2), 9, np.uint8))
        >>> moved_shadow(layer, (1, 0), (3, 1))
        array([[0, 9, 9]], dtype=uint8)
    """
    if layer.shadow is None:
        return None
    old = (layer.shadow.shape[0] - layer.size[1]) // 2
    starts = np.array([corner[1] - old, corner[0] - old])
    ends = starts + layer.shadow.shape
    margin = int(max(0, *-starts, *(ends - (size[1], size[0]))))
    shadow = np.zeros((size[1] + 2 * margin, size[0] + 2 * margin), np.uint8)
    rows, columns = (slice(start + margin, end + margin) for start, end in zip(starts, ends, strict=True))
    shadow[rows, columns] = layer.shadow
    return shadow
