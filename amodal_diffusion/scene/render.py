"""Putting the layers of a scene together, pixel by pixel. Internal; `scene` has the public names."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ..display import short_repr
from ..masks import dilate
from ..ordering import reachable
from .layer import FloatArray, Layer, corners, integer_shift, invert, same_map

BoolArray = npt.NDArray[np.bool_]
Window = tuple[slice, slice]

_STRIP_PIXELS = 2**21
"""Pixels of a scene that are put together at once."""


@dataclass
class PlacedLayer:
    """A layer on the part of the canvas that it covers.

    Args:
        window: rows and columns of the canvas.
        colour: (h, w, 3), uint8 straight where the tile was not resampled, else float32 premultiplied, 0 to 255.
        alpha: (h, w) float32 in [0, 1].
        seen: (h, w) bool, the modal mask.
        cover: (h, w) bool, alpha above 0.
        binary: alpha is 0 and 1 alone.

    Example:
        >>> tile, mask = np.full((2, 2, 4), 255, np.uint8), np.ones((2, 2), bool)
        >>> layer = Layer(tile, mask, mask, origin=np.array([[1.0, 0, 1], [0, 1, 1]]))
        >>> placed = place_layer(layer, layer.origin, 4, 6)
        >>> placed.window, placed.binary
        ((slice(1, 3, None), slice(1, 3, None)), True)
    """

    window: Window
    colour: npt.NDArray[Any]
    alpha: npt.NDArray[np.float32]
    seen: BoolArray
    cover: BoolArray = field(init=False)
    binary: bool = field(init=False)

    __repr__ = short_repr

    def __post_init__(self) -> None:
        self.measure()

    def measure(self) -> None:
        """Take `cover`, where there is anything at all, and `binary`, whether all of that is opaque, from `alpha`."""
        self.cover = self.alpha > 0
        self.binary = bool((self.alpha[self.cover] == 1).all())

    @property
    def premultiplied(self) -> npt.NDArray[np.float32]:
        """(h, w, 3) float32, colour times alpha."""
        if self.colour.dtype == np.uint8:
            return self.colour * self.alpha[..., None]
        return self.colour


def place_layer(layer: Layer, transform: FloatArray, height: int, width: int) -> PlacedLayer | None:
    """Put a layer on a canvas of that size, with its opacity; None where it lies outside of it.

    Example:
        >>> tile, mask = np.full((2, 2, 4), 255, np.uint8), np.ones((2, 2), bool)
        >>> layer = Layer(tile, mask, mask, origin=np.array([[1.0, 0, 1], [0, 1, 1]]))
        >>> place_layer(layer, layer.origin, 4, 6).cover.sum(), place_layer(layer, layer.origin, 1, 1)
        (np.int64(4), None)
    """
    shift = integer_shift(transform, max(layer.size))
    if shift is None:
        return _resample(layer, transform, height, width)
    w, h = layer.size
    left, top = max(shift[0], 0), max(shift[1], 0)
    right, bottom = min(shift[0] + w, width), min(shift[1] + h, height)
    if right <= left or bottom <= top:
        return None
    window = (slice(top, bottom), slice(left, right))
    part = _shifted(window, -shift[1], -shift[0])
    rgba = layer.rgba[part]
    alpha = np.divide(rgba[..., 3], 255, dtype=np.float32)
    if layer.opacity < 1:
        alpha *= np.float32(layer.opacity)
    return PlacedLayer(window, rgba[..., :3], alpha, layer.modal[part])


def place_mask(layer: Layer, transform: FloatArray, shape: tuple[int, ...], margin: int) -> tuple[Window, BoolArray]:
    """The modal mask of a layer on the canvas, grown by `margin` pixels on each side, and its window.

    Example:
        >>> tile, mask = np.full((2, 2, 4), 255, np.uint8), np.ones((2, 2), bool)
        >>> layer = Layer(tile, mask, mask, origin=np.array([[1.0, 0, 1], [0, 1, 1]]))
        >>> window, mask = place_mask(layer, layer.origin, (4, 6), margin=1)
        >>> mask.shape
        (4, 4)
    """
    # On a canvas with a margin of its own, so that what lies just outside grows into the canvas too.
    height, width = shape
    moved = transform + np.array([[0, 0, 2 * margin], [0, 0, 2 * margin]])
    placed = place_layer(layer, moved, height + 4 * margin, width + 4 * margin)
    if placed is None:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
    grown = dilate(np.pad(placed.seen, margin), kernel="square", size=2 * margin + 1)
    rows, columns = (slice(part.start - 3 * margin, part.stop - margin) for part in placed.window)
    window = (_clipped(rows, height), _clipped(columns, width))
    return window, grown[_shifted(window, -rows.start, -columns.start)]


def stacking(order: npt.NDArray[np.int8]) -> list[int]:
    """The layers back to front: as the order matrix says, of unrelated ones the lower index first.

    Of a cycle that nothing else is behind, the layer with the lowest index goes first.

    Example:
        >>> stacking(np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]], np.int8))
        [1, 0, 2]
    """
    behind = order == 1
    left = list(range(len(order)))
    stack = []
    while left:
        part = behind[np.ix_(left, left)]
        counts = part.sum(axis=1)
        if counts.min() > 0:  # begin with a cycle that nothing else is behind
            counts = reachable(part).sum(axis=1)
        stack.append(left.pop(int(counts.argmin())))
    return stack


def composite(
    canvas: npt.NDArray[np.float32],
    placed: Sequence[PlacedLayer | None],
    order: npt.NDArray[np.int8],
    evidence: BoolArray,
) -> npt.NDArray[np.float32]:
    """Put layers in front of a canvas, deciding for each pair at each pixel who is in front.

    Where a pixel was seen of one of two layers of a pair with `evidence`, that one is in front; elsewhere the order
    decides, then `stacking`. A pixel's layers are ranked by how many of them are in front of each; where a cycle gives
    two the same rank, `stacking` decides.

    Args:
        canvas: (H, W, C) float32, premultiplied; changed. With C = 4 the last channel is its alpha, 0 to 255.
        placed: N layers; None for one outside of the canvas.
        order: (N, N) int8.
        evidence: (N, N) bool, symmetric.

    Returns:
        `canvas`.

    Example:
        >>> tile, mask = np.full((2, 2, 4), 255, np.uint8), np.ones((2, 2), bool)
        >>> layer = Layer(tile, mask, mask, origin=np.array([[1.0, 0, 1], [0, 1, 1]]))
        >>> canvas, one = np.zeros((4, 6, 3), np.float32), np.zeros((1, 1), np.int8)
        >>> placed = [place_layer(layer, layer.origin, 4, 6)]
        >>> composite(canvas, placed, one, one > 0)[1, :, 0]
        array([  0., 255., 255.,   0.,   0.,   0.], dtype=float32)
    """
    position, front = relations(order)
    kept = {index: layer for index, layer in enumerate(placed) if layer is not None}
    ranks, pairs = _rank(kept, front, evidence)
    hidden = {index: np.zeros(layer.alpha.shape, bool) for index, layer in kept.items()}
    through = {index: np.ones((), np.float32) for index in kept}
    for i, j, in_i, in_j in pairs:
        rank_i, rank_j = ranks[i][in_i], ranks[j][in_j]
        i_first = rank_i <= rank_j if position[i] > position[j] else rank_i < rank_j
        for a, b, in_a, in_b, first in ((i, j, in_i, in_j, i_first), (j, i, in_j, in_i, ~i_first)):
            if kept[a].binary:
                hidden[b][in_b] |= kept[a].cover[in_a] & first
            else:
                if not through[b].ndim:
                    through[b] = np.ones(kept[b].alpha.shape, np.float32)
                through[b][in_b] *= 1 - kept[a].alpha[in_a] * first
    for layer in kept.values():
        canvas[layer.window] *= (1 - layer.alpha)[..., None]
    for index, layer in kept.items():
        shown = through[index] * ~hidden[index]  # share of the light that those in front let through
        canvas[layer.window][..., :3] += layer.premultiplied * shown[..., None]
        if canvas.shape[2] == 4:
            canvas[layer.window][..., 3] += 255 * layer.alpha * shown
    return canvas


def relations(order: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.intp], BoolArray]:
    """The place of each layer in `stacking`, (N,), and whether i is in front of j where nothing is seen, (N, N).

    Example:
        >>> position, front = relations(np.array([[0, 1], [-1, 0]], np.int8))
        >>> position, front
        (array([1, 0]), array([[False,  True],
               [False, False]]))
    """
    position = np.argsort(stacking(order))
    return position, np.where(order == 0, position[:, None] > position[None, :], order == 1)


def _rank(
    kept: dict[int, PlacedLayer], front: BoolArray, evidence: BoolArray
) -> tuple[dict[int, npt.NDArray[np.uint16]], list[tuple[int, int, Window, Window]]]:
    """How many layers are in front of each at each of its pixels, and the pairs that have a pixel in common."""
    ranks = {index: np.zeros(layer.alpha.shape, np.uint16) for index, layer in kept.items()}
    pairs = []
    for i, j, in_i, in_j in _overlaps(kept):
        both = kept[i].cover[in_i] & kept[j].cover[in_j]
        if not both.any():
            continue
        pairs.append((i, j, in_i, in_j))
        if evidence[i, j]:
            seen_i, seen_j = kept[i].seen[in_i], kept[j].seen[in_j]
            i_first = (seen_i | ~seen_j) if front[i, j] else (seen_i & ~seen_j)
            ranks[j][in_j] += both & i_first
            ranks[i][in_i] += both & ~i_first
        else:
            behind, part = (j, in_j) if front[i, j] else (i, in_i)
            ranks[behind][part] += both
    return ranks, pairs


def _overlaps(kept: Mapping[int, PlacedLayer]) -> Iterator[tuple[int, int, Window, Window]]:
    """Pairs i < j whose windows overlap, and the overlap within each of the two windows."""
    indices = list(kept)
    for number, i in enumerate(indices):
        for j in indices[number + 1 :]:
            first, second = kept[i].window, kept[j].window
            rows, columns = (
                slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second, strict=True)
            )
            if rows.start < rows.stop and columns.start < columns.stop:
                common = (rows, columns)
                yield (
                    i,
                    j,
                    _shifted(common, -first[0].start, -first[1].start),
                    _shifted(common, -second[0].start, -second[1].start),
                )


def _resample(layer: Layer, transform: FloatArray, height: int, width: int) -> PlacedLayer | None:
    """Bilinear, from the tile itself; where it shrinks, averaged first over what falls on one pixel."""
    w, h = layer.size
    scale = np.minimum(np.linalg.norm(transform[:, :2], axis=0), 1)  # of a tile pixel's sides on the canvas
    small = [max(1, math.ceil(n * s)) for n, s in zip((w, h), scale, strict=True)]
    margin = [n / m for n, m in zip((w, h), small, strict=True)]  # where soft edges fade out
    low, high = corners(transform, w, h, max(margin))
    columns, rows = (
        _clipped(slice(math.floor(max(a, -1)), math.ceil(min(b, n + 1))), n)
        for a, b, n in zip(low, high, (width, height), strict=True)
    )
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return None
    rgba = torch.from_numpy(np.require(layer.rgba, np.float32)).permute(2, 0, 1)
    planes = torch.cat(
        [rgba[:3] * rgba[3:] / 255, rgba[3:] / 255, torch.from_numpy(layer.modal.astype(np.float32))[None]]
    )
    planes = planes[None]  # [1, 5, h, w]
    if small != [w, h]:
        planes = F.interpolate(planes, size=small[::-1], mode="bilinear", antialias=True, align_corners=False)
    inverse = invert(transform)
    x, y = np.meshgrid(np.arange(columns.start, columns.stop) + 0.5, np.arange(rows.start, rows.stop) + 0.5)
    grid = [
        2 * (inverse[axis, 0] * x + inverse[axis, 1] * y + inverse[axis, 2]) / layer.size[axis] - 1 for axis in (0, 1)
    ]
    points = torch.from_numpy(np.stack(grid, axis=-1).astype(np.float32))[None]
    sampled = F.grid_sample(planes, points, mode="bilinear", padding_mode="zeros", align_corners=False)[0].numpy()
    if layer.opacity < 1:
        sampled[:4] *= np.float32(layer.opacity)
    colour = np.ascontiguousarray(sampled[:3].transpose(1, 2, 0))
    return PlacedLayer((rows, columns), colour, sampled[3].clip(0, 1), sampled[4] > 0.5)


def _shifted(window: Window, rows: int, columns: int) -> Window:
    return tuple(  # type: ignore[return-value]
        slice(part.start + by, part.stop + by) for part, by in zip(window, (rows, columns), strict=True)
    )


def _clipped(part: slice, length: int) -> slice:
    start = min(max(part.start, 0), length)
    return slice(start, max(start, min(part.stop, length)))


def render_layers(
    background: npt.NDArray[np.uint8],
    photo: npt.NDArray[np.uint8] | None,
    layers: Sequence[Layer],
    order: npt.NDArray[np.int8],
    evidence: BoolArray,
    rim: int,
    replaced: BoolArray,
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8, a scene as a picture; the arguments are the fields of `Scene`.

    The photo itself is shown wherever nothing changed. Large pictures are made strip by strip, so that floats of the
    whole are never held.

    Example:
        >>> tile, mask = np.full((2, 2, 4), 255, np.uint8), np.ones((2, 2), bool)
        >>> layer = Layer(tile, mask, mask, origin=np.array([[1.0, 0, 1], [0, 1, 1]]))
        >>> background, one = np.zeros((4, 6, 3), np.uint8), np.zeros((1, 1), np.int8)
        >>> picture = render_layers(background, None, [layer], one, one > 0, 0, np.zeros((4, 6), bool))
        >>> picture[0, :, 0]
        array([255, 255,   0,   0,   0,   0], dtype=uint8)
    """
    height, width = background.shape[:2]
    standing = standing_evidence(layers, evidence)
    picture = np.empty_like(background)
    step = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, step):
        strip = slice(top, min(top + step, height))
        moved = [_raised(layer, top) for layer in layers]
        part = None if photo is None else photo[strip]
        picture[strip] = _render_strip(background[strip], part, moved, order, evidence, standing, rim, replaced[strip])
    return picture


def _raised(layer: Layer, top: int) -> Layer:
    """The layer on a canvas that begins `top` rows further down; its arrays were checked."""
    if not top:
        return layer
    raised = copy.copy(layer)
    up = np.array([[0, 0, 0], [0, 0, top]], np.float64)
    object.__setattr__(raised, "transform", layer.transform - up)
    object.__setattr__(raised, "origin", None if layer.origin is None else layer.origin - up)
    return raised


def _render_strip(
    background: npt.NDArray[np.uint8],
    photo: npt.NDArray[np.uint8] | None,
    layers: Sequence[Layer],
    order: npt.NDArray[np.int8],
    evidence: BoolArray,
    standing: BoolArray,
    rim: int,
    replaced: BoolArray,
) -> npt.NDArray[np.uint8]:
    """A scene, or a strip of it, as `render_layers`."""
    height, width = background.shape[:2]
    shadows = [layer.shadow_layer() if layer.visible else None for layer in layers]
    placed = [place_layer(layer, layer.transform, height, width) if layer.visible else None for layer in layers]
    if photo is None:
        canvas = background.astype(np.float32)
        for shadow in shadows:
            _darken(canvas, shadow, None)
        return to_bytes(composite(canvas, placed, order, standing))
    gone = replaced.copy()
    for layer in layers:
        if layer.origin is not None and not layer.as_in_photo:
            leave(gone, layer, layer.shadow_layer(), rim)
    changed = gone.copy()
    for layer, shadow, part in zip(layers, shadows, placed, strict=True):
        if layer.as_in_photo:
            continue
        for cover in (part, None if shadow is None else place_layer(shadow, shadow.transform, height, width)):
            if cover is not None:
                changed[cover.window] |= cover.cover
    home = {index: part for index, part in enumerate(placed) if part is not None and layers[index].at_home}
    forward = _brought_forward(layers, home, order, evidence, rim, (height, width))
    for index, near in forward.items():
        changed[home[index].window] |= home[index].cover & near
    for i, j, in_i, in_j in _overlaps(home):
        if not evidence[i, j]:
            changed[home[i].window][in_i] |= home[i].cover[in_i] & home[j].cover[in_j]
    if not changed.any():
        return photo
    canvas = np.where(gone[..., None], background, photo).astype(np.float32)
    for layer, shadow in zip(layers, shadows, strict=True):
        _darken(canvas, shadow, gone if layer.as_in_photo else None)
    _hide_behind_photo(home, forward, ~gone)
    return np.where(changed[..., None], to_bytes(composite(canvas, placed, order, standing)), photo)


def leave(gone: BoolArray, layer: Layer, shadow: Layer | None, rim: int) -> None:
    """Mark in `gone`, (H, W), the place that a layer and its shadow left, where the background is seen.

    Example:
        >>> tile, mask = np.full((2, 2, 4), 255, np.uint8), np.ones((2, 2), bool)
        >>> layer = Layer(tile, mask, mask, origin=np.array([[1.0, 0, 1], [0, 1, 1]]))
        >>> gone = np.zeros((4, 6), bool)
        >>> leave(gone, layer, None, rim=0)
        >>> gone.sum()
        np.int64(4)
    """
    for part, margin in ((layer, rim), (shadow, 0)):
        if part is not None and part.origin is not None:
            window, mask = place_mask(part, part.origin, gone.shape, margin)
            gone[window] |= mask


def _darken(canvas: npt.NDArray[np.float32], shadow: Layer | None, where: BoolArray | None) -> None:
    """Let a shadow fall on the canvas, (H, W, 3), everywhere or on the pixels `where`."""
    placed = None if shadow is None else place_layer(shadow, shadow.transform, *canvas.shape[:2])
    if placed is not None:
        dark = placed.alpha if where is None else placed.alpha * where[placed.window]
        canvas[placed.window] *= (1 - dark)[..., None]


def _brought_forward(
    layers: Sequence[Layer],
    home: Mapping[int, PlacedLayer],
    order: npt.NDArray[np.int8],
    evidence: BoolArray,
    rim: int,
    shape: tuple[int, int],
) -> dict[int, BoolArray]:
    """Where layers that never moved come before others against the photo: within `rim` pixels of these.

    Returns:
        For each such layer a mask of its window.
    """
    _, front = relations(order)
    found: dict[int, BoolArray] = {}
    for i, layer in home.items():
        for j in home:
            if i != j and front[i, j] and not evidence[i, j]:
                window, mask = place_mask(layers[j], layers[j].transform, shape, rim)
                near = np.zeros(shape, bool)
                near[window] = mask
                found[i] = found.get(i, False) | near[layer.window]
    return found


def _hide_behind_photo(home: Mapping[int, PlacedLayer], forward: Mapping[int, BoolArray], kept: BoolArray) -> None:
    """Make layers that never moved transparent where the photo shows that something without a layer is before them.

    Such a pixel is `kept` and belongs to no layer. It still shows a layer where that was brought `forward`, which would
    leave a seam between it and what it came before otherwise.
    """
    shown = kept.copy()
    for layer in home.values():
        shown[layer.window] &= ~layer.seen
    for i, layer in home.items():
        hidden = shown[layer.window] & ~layer.seen
        if i in forward:
            hidden &= ~forward[i]
        layer.alpha *= ~hidden
        layer.measure()


def to_bytes(canvas: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Round to 0, ..., 255; where there is an alpha, colours lose their factor of it.

    Example:
        >>> to_bytes(np.array([[[10.0, 20.0, 30.0, 127.5]]], np.float32))
        array([[[ 20,  40,  60, 128]]], dtype=uint8)
    """
    if canvas.shape[2] == 4:
        alpha = canvas[..., 3:]
        canvas[..., :3] *= np.divide(255, alpha, out=np.zeros_like(alpha), where=alpha > 0)
    return np.rint(canvas).clip(0, 255).astype(np.uint8)


def standing_evidence(layers: Sequence[Layer], evidence: BoolArray) -> BoolArray:
    """(N, N) bool: the pairs with `evidence` that stand to each other as in the photo, moved together or not at all.

    Example:
        >>> tile, mask = np.full((2, 2, 4), 255, np.uint8), np.ones((2, 2), bool)
        >>> layer = Layer(tile, mask, mask, origin=np.array([[1.0, 0, 1], [0, 1, 1]]))
        >>> both = ~np.eye(2, dtype=bool)
        >>> standing_evidence([layer, layer], both)
        array([[False,  True],
               [ True, False]])
    """
    standing = np.array(evidence, dtype=bool)
    motions = [layer.motion for layer in layers]
    for i, j in np.argwhere(np.triu(standing, k=1)):
        first, second = motions[i], motions[j]
        reach = sum(abs(value) for layer in (layers[i], layers[j]) for value in layer.box)
        same = first is not None and second is not None and same_map(first, second, reach)
        standing[i, j] = standing[j, i] = same
    return standing
