"""Holes filled with pixels copied from what is seen, which meet the photo."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import as_strided
from torch import Tensor

from ...display import short_repr
from ...masks import BoolArray, block_sums, mask_pixels
from ...models.pull_push import pull_push
from .joins import blurred, join_copies, soften_seams
from .lines import Line
from .materials import continue_materials, detail_strength
from .shifts import DOWN, MOST_NODES, Level, Matches, Sheet, match

MOST_PIXELS = 6_000
"""Pixels of a hole that are matched; a larger hole is matched at a coarser level."""

_MOST_AROUND = 200_000  # pixels of its window likewise
_STRIP = 2**18  # pixels that are worked on at a time
_PARTLY = np.iinfo(np.int64).min  # in the place of a shift: of a block that may be copied in part
_SHARP = 8  # power of the share of blocks: how sharp the seam between two copies is
_DETAIL = 2.0  # pixels at the level of matching: detail is what a Gaussian of this width takes away
_DETAIL_LINED = 4.0  # likewise, of an object on which lines go on: gaps between slats are detail, too


@dataclass
class Source:
    """Pixels beside those of the window itself that may be copied into a hole.

    Args:
        pixels: (h, w, 3) uint8.
        usable: (h, w) bool.
        place: (y, x) in the window of the hole, where the first pixel is thought to lie.
        step: (dy, dx), how far apart neighbouring pixels are thought to lie there; negative where mirrored.

    Example:
        >>> Source(np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), bool), (0, 5), (1, -1)).sheet(2).places[0, :, 1]
        tensor([2.5000, 1.5000, 0.5000])
    """

    pixels: npt.NDArray[np.uint8]
    usable: BoolArray
    place: tuple[float, float] = (0.0, 0.0)
    step: tuple[float, float] = (1.0, 1.0)

    __repr__ = short_repr

    def seen_from(self, y: int, x: int) -> "Source":
        """The same for a window that begins at (y, x) in this one."""
        return replace(self, place=(self.place[0] - y, self.place[1] - x))

    def sheet(self, scale: int) -> Sheet:
        """In blocks of `scale` pixels."""
        sheet = Sheet.of_picture(_padded(self.pixels, scale), _padded(self.usable, scale), scale)
        sheet.places.mul_(torch.tensor(self.step)).add_(torch.tensor(self.place) / scale)
        return sheet


def fill_hole(
    photo: npt.NDArray[np.uint8],
    hole: BoolArray,
    known: BoolArray,
    usable: BoolArray,
    *,
    others: Sequence[Source] = (),
    blend: bool = True,
    low: Tensor | None = None,
    generator: torch.Generator | None = None,
    most: int = MOST_PIXELS,
    nodes: int = MOST_NODES,
    down: float = DOWN,
    materials: bool = False,
    lines: Sequence[Line] = (),
    things: BoolArray | None = None,
    out: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """Fill a hole with pixels copied from elsewhere in a picture.

    Args:
        photo: (H, W, 3) uint8.
        hole: (H, W) bool, the pixels to fill.
        known: (H, W) bool, the pixels beside which the filling must fit; others are not looked at.
        usable: (H, W) bool, the pixels that may be copied.
        others: what may be copied from elsewhere, too.
        blend: take little but detail from what is copied, and the low frequencies from `low`.
        low: (3, H, W) float32 in [0, 1]; None continues the known pixels smoothly (`pull_push`).
        generator: of random numbers; None always draws the same.
        most: pixels of the hole at the level at which its pixels are matched.
        nodes: see `match`.
        down: likewise.
        materials: without `low`, the known pixels go on as a few materials (`continue_materials`).
        lines: straight edges that go on across the hole, in pixels.
        things: (H, W) bool, what is copied only where nothing else fits nearly as well, and shines less into the hole;
            None: nothing.
        out: (H, W, 3) uint8, where the pixels of the hole are put; None makes a copy of the photo.

    Returns:
        (H, W, 3) uint8, `out`. Without anything to copy from, the hole is `low`.

    Example:
        >>> photo = np.full((40, 40, 3), 9, np.uint8)
        >>> hole = np.zeros((40, 40), bool)
        >>> hole[10:20, 10:20] = True
        >>> fill_hole(photo, hole, ~hole, ~hole)[15, 15]
        array([9, 9, 9], dtype=uint8)
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    out = photo.copy() if out is None else out
    scale, count = 1, np.count_nonzero(hole)
    while count > most * scale**2 or hole.size > _MOST_AROUND * scale**2:
        scale += 1
    things = None if things is None else _whole_blocks(hole, scale, things)[0]
    photo, hole, known, usable = _whole_blocks(hole, scale, photo, hole, known, usable)
    sheet = Sheet.of_picture(photo, usable, scale)
    for other in others:
        sheet = sheet.beside(other.sheet(scale))
    sums = block_sums(photo, scale)
    image, seen = _shrunk(photo, sums, known, scale)
    sums = block_sums(sheet.pixels, scale) if others else sums
    pixels, copied = _shrunk(sheet.pixels, sums, sheet.usable, scale)
    target = torch.from_numpy(block_sums(hole, scale) > 0)
    beside = (seen > 0) & ~target
    smooth = continue_materials(image, beside) if materials else pull_push(image[None], beside[None, None].float())[0]
    if bool(copied.any()):
        pixels = torch.where(copied > 0, pixels, pull_push(pixels[None], (copied > 0)[None, None].float())[0])
    level = Level(smooth, beside, target, pixels, copied >= 0.75, sheet.places)
    if things is not None:
        level.things = torch.zeros(level.usable.shape)  # what may be copied from elsewhere holds none
        level.things[: target.shape[0], : target.shape[1]] = torch.from_numpy(block_sums(things, scale) / scale**2)
    if low is not None:
        low = low[None, :, : hole.shape[0], : hole.shape[1]]
        smooth = F.interpolate(low, size=smooth.shape[-2:], mode="bilinear", align_corners=False, antialias=True)[0]
    lines = [line.scaled(1 / scale) for line in lines]
    level = level.with_lines(lines)
    smooth = level.image if low is None else smooth
    found = match(level, generator, nodes, down, lines)
    copies, correction = None, smooth
    if found is not None:
        rough = _copied(found, level)
        tone = blurred(smooth - rough, target, _DETAIL)
        correction = join_copies(rough, found, level, tone)
        correction = correction + soften_seams(rough + correction, found, level)
        strength = None
        if blend:
            joined = rough + correction
            width = _DETAIL_LINED if materials and lines else _DETAIL
            below, wanted = blurred(torch.cat([joined, smooth]), target, width).split(3)
            strength = detail_strength(joined - below, image, beside, target, _DETAIL)
            correction = torch.where(target, wanted + strength * (correction - below), correction)
        copies = _Copies(found, sheet, rough, copied >= 1, correction, strength)
    blocks = block_sums(hole, scale) > 0
    step = max(1, _STRIP // (scale * hole.shape[1]))
    for row in range(0, len(blocks), step):  # no floats of a large photo
        columns = np.flatnonzero(blocks[row : row + step].any(axis=0))
        if not len(columns):
            continue
        part = slice(row, min(row + step, len(blocks))), slice(int(columns[0]), int(columns[-1]) + 1)
        colours = _enlarged(255 * correction, part, scale)
        inside = hole[_pixels(part, scale)]
        if copies is not None:
            copies.add_to(colours, part, inside)
        np.clip(colours + 0.5, 0, 255, out=colours)
        shown = out[_pixels(part, scale)]
        height, width = shown.shape[:2]  # `out` ends with the photo, not with its last block
        for channel, plane in enumerate(colours[:, :height, :width]):
            np.copyto(shown[..., channel], plane, where=inside[:height, :width], casting="unsafe")
    return out


class _Copies:
    """The colours that matches of a coarser level give to the pixels of the full picture.

    They are multiplied with `strength` (h, w), and `correction` (3, h, w) is added. It may jump where two of them meet,
    so that it is mixed with them. In blocks of the sheet that are not `whole` (h', w'), pixels that may not be copied
    are as what is copied at the level of matching, `rough` (3, h, w): the mean of the others.
    """

    def __init__(
        self,
        found: Matches,
        sheet: Sheet,
        rough: Tensor,
        whole: Tensor,
        correction: Tensor,
        strength: Tensor | None,
    ) -> None:
        self.found, self.sheet, self.correction = found, sheet, correction.permute(1, 2, 0).numpy()
        self.rough = 255 * rough.permute(1, 2, 0).numpy()
        self.strength = strength
        self.flat, self.row = _row_after_row(sheet.pixels)
        scale = sheet.scale
        rows, columns = np.ogrid[: found.index.shape[0], : found.index.shape[1]]
        down, across = np.divmod(found.index.numpy(), sheet.usable.shape[1] // scale)
        # By how many pixels of the flat sheet each block is shifted; where the four blocks nearest to a pixel agree.
        self.shifts = scale * ((down - rows) * self.row + across - columns)
        self.around = np.pad(self.shifts, 1, mode="edge")
        told = np.where(whole.flatten()[found.index].numpy(), self.shifts, _PARTLY)
        told = np.pad(told, 1, mode="edge")
        corners = [told[:-1, :-1], told[:-1, 1:], told[1:, :-1], told[1:, 1:]]
        self.even = np.all([corner == corners[0] for corner in corners[1:]], axis=0) & (corners[0] != _PARTLY)

    def add_to(self, colours: npt.NDArray[np.float32], part: tuple[slice, slice], inside: BoolArray) -> None:
        """Add them, in [0, 255], to the correction (3, h, w) of some blocks; only pixels `inside` are looked at."""
        scale = self.sheet.scale
        y, x = (np.arange(side.start, side.stop) for side in _pixels(part, scale))
        place = _repeated(self.shifts[part], scale) + (y[:, None] * self.row + x)
        copied = self.flat.take(place, axis=0, mode="clip")
        strength = np.float32(1) if self.strength is None else _enlarged(self.strength[None], part, scale)[0]
        for channel in range(3):
            colours[channel] += copied[..., channel] * strength
        if scale > 1:
            corners = self.even[part[0].start : part[0].stop + 1, part[1].start : part[1].stop + 1]
            start = scale // 2
            even = _repeated(corners, scale)[start : start + len(y), start : start + len(x)]
            mixed = mask_pixels(inside & ~even)
            colours[:, mixed[0], mixed[1]] = self._mixed(y[mixed[0]], x[mixed[1]]).T

    def _mixed(self, y: npt.NDArray[np.int64], x: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """(n, 3) in [0, 255], corrected, of pixels along seams, which mix what the four nearest matches say.

        Each counts by how many of the nine around a pixel say the same, so that seams of blocks become curves.
        """
        (height, width), (rows, columns) = self.found.index.shape, self.sheet.usable.shape
        scale, matched = self.sheet.scale, self.found.matched.numpy()
        strength = np.ones((height, width), np.float32) if self.strength is None else self.strength.numpy()
        colours, total = np.zeros((len(y), 3), np.float32), np.zeros(len(y), np.float32)
        top, left = (y + 0.5) / scale - 0.5, (x + 0.5) / scale - 0.5
        (row, down), (column, across) = ((side // scale, _spline((side % scale + 0.5) / scale)) for side in (y, x))
        around = [self.around[row + dy, column + dx] for dy in range(3) for dx in range(3)]
        shares = [one * other for one in down for other in across]
        for low in (0, 1):
            for right in (0, 1):
                cy, cx = np.floor(top).astype(np.int64) + low, np.floor(left).astype(np.int64) + right
                weight = (1 - np.abs(top - cy)) * (1 - np.abs(left - cx))
                cy, cx = cy.clip(0, height - 1), cx.clip(0, width - 1)
                place = self.found.index.numpy()[cy, cx]
                py = place // (columns // scale) * scale + y - cy * scale
                px = place % (columns // scale) * scale + x - cx * scale
                within = (py >= 0) & (py < rows) & (px >= 0) & (px < columns)
                py, px = py.clip(0, rows - 1), px.clip(0, columns - 1)
                there = matched[cy, cx] & within & self.sheet.usable[py, px]
                same = self.shifts[cy, cx]
                alike = sum(share * (shift == same) for shift, share in zip(around, shares, strict=True))
                votes = (weight * alike**_SHARP * there + 1e-30).astype(np.float32)
                shown = np.where(there[:, None], self.sheet.pixels[py, px], self.rough[cy, cx])
                shown *= strength[cy, cx, None]
                colours += (shown + 255 * self.correction[cy, cx]) * votes[:, None]
                total += votes
        return colours / total[:, None]


def _spline(place: npt.NDArray[np.floating[Any]]) -> tuple[npt.NDArray[np.floating[Any]], ...]:
    """Weights of the block before, of its own, and of the next one, at a place in [0, 1] of a block: quadratic."""
    return (1 - place) ** 2 / 2, 0.75 - (place - 0.5) ** 2, place**2 / 2


def _row_after_row(pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], int]:
    """The pixels (H, W, 3) of a picture as one line (n, 3), and how many there are from one row to the next.

    A part of a picture is not copied: its line goes through what lies beside it.
    """
    height, width, _ = pixels.shape
    if not pixels.size:
        return pixels.reshape(-1, 3), width
    if pixels.strides[1:] != (3, 1) or pixels.strides[0] % 3 or pixels.strides[0] < 3 * width:
        pixels = np.ascontiguousarray(pixels)
    row = pixels.strides[0] // 3
    return as_strided(pixels, ((height - 1) * row + width, 3), (3, 1), writeable=False), row


def _repeated(array: npt.NDArray[Any], scale: int) -> npt.NDArray[Any]:
    """Each value of a plane as a square of so many pixels."""
    return array.repeat(scale, axis=0).repeat(scale, axis=1)


def _whole_blocks(hole: BoolArray, scale: int, *arrays: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Arrays (H, W, ...) whose sides are multiples of `scale`.

    Rows and columns that are no whole block are left out where nothing of the hole lies in them, which copies nothing
    of a large photo; else blocks are filled up with 0.
    """
    height, width = (side - side % scale for side in hole.shape)
    rows = slice(None if hole[height:].any() or not height else height)
    columns = slice(None if hole[:, width:].any() or not width else width)
    return [_padded(array[rows, columns], scale) for array in arrays]


def _padded(array: npt.NDArray[Any], scale: int) -> npt.NDArray[Any]:
    """An array whose sides are multiples of `scale`; itself where they are."""
    if not any(side % scale for side in array.shape[:2]):
        return array
    margins = [(0, -side % scale) for side in array.shape[:2]]
    return np.pad(array, margins + [(0, 0)] * (array.ndim - 2))


def _shrunk(
    pixels: npt.NDArray[np.uint8], sums: npt.NDArray[np.uint32], mask: BoolArray, scale: int
) -> tuple[Tensor, Tensor]:
    """(3, h, w) in [0, 1], means over the pixels of a mask, and (h, w) their share; `sums` are those of all pixels."""
    counts = block_sums(mask, scale)
    height, width = counts.shape
    planes = np.ascontiguousarray(sums.transpose(2, 0, 1), np.float32)
    partly = mask_pixels((counts > 0) & (counts < scale**2))
    blocks = pixels.reshape(height, scale, width, scale, 3).swapaxes(1, 2)[partly]  # (n, s, s, 3)
    there = mask.reshape(height, scale, width, scale).swapaxes(1, 2)[partly]
    planes[:, partly[0], partly[1]] = np.einsum("nyxc,nyx->cn", blocks, there, dtype=np.float32)
    planes *= (counts > 0) / (255 * np.maximum(counts, 1)).astype(np.float32)
    return torch.from_numpy(planes), torch.from_numpy(counts / np.float32(scale**2))


def _copied(found: Matches, level: Level) -> Tensor:
    """(3, h, w) what is copied, at the level of matching; the picture elsewhere."""
    pixels = level.sheet.flatten(1)[:, found.index.flatten()].view(3, *found.index.shape)
    return torch.where(found.matched, pixels, level.image)


def _pixels(part: tuple[slice, slice], scale: int) -> tuple[slice, slice]:
    """The rows and columns of pixels of those of blocks."""
    rows, columns = (slice(scale * side.start, scale * side.stop) for side in part)
    return rows, columns


def _enlarged(planes: Tensor, part: tuple[slice, slice], scale: int) -> npt.NDArray[np.float32]:
    """(3, h, w), the pixels of some blocks of (3, H, W) blocks of `scale` pixels, between their middles linear."""
    values = planes.numpy()
    for axis, side in zip((1, 2), part, strict=True):
        places = np.arange(side.start - 1, side.stop + 1).clip(0, values.shape[axis] - 1)
        values = _between(values.take(places, axis=axis), axis, scale)
    return values


def _between(values: npt.NDArray[np.float32], axis: int, scale: int) -> npt.NDArray[np.float32]:
    """`scale` values for each along an axis but for the first and the last, between their middles linear."""
    lines = np.moveaxis(values, axis, -1)
    middle, steps = lines[..., 1:-1, None], np.diff(lines)[..., None]
    offsets = ((np.arange(scale) + 0.5) / scale - 0.5).astype(np.float32)
    found = np.empty((*middle.shape[:-1], scale), np.float32)
    before = np.count_nonzero(offsets < 0)
    np.multiply(steps[..., :-1, :], offsets[:before], out=found[..., :before])
    np.multiply(steps[..., 1:, :], offsets[before:], out=found[..., before:])
    found += middle
    return np.moveaxis(found.reshape(*lines.shape[:-1], -1), -1, axis)
