"""Holes filled with pixels copied from what is seen, which meet the photo."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ...display import short_repr
from ...masks import BoolArray
from ...models.pull_push import pull_push
from .patch_matching import Level, Matches, Sheet, match

_MOST = 6_000  # pixels of a hole that are matched; a larger hole is matched at a coarser level
_MOST_AROUND = 200_000  # pixels of its window likewise
_LARGE = 24_000  # pixels of a hole from which on no patch is copied much more often than others
_STRIP = 2**18  # pixels that are made floats at a time
_SHARE = 0.75  # of the low frequencies that are continued smoothly; the rest is copied
_DETAIL = 2.0  # pixels at the level of matching: detail is what a Gaussian of this width takes away


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

    Returns:
        (n, 3) uint8, the colours of the n pixels of the hole, row after row. Without anything to copy from, `low`.

    Example:
        >>> photo = np.full((40, 40, 3), 9, np.uint8)
        >>> hole = np.zeros((40, 40), bool)
        >>> hole[10:20, 10:20] = True
        >>> fill_hole(photo, hole, ~hole, ~hole)[0]
        array([9, 9, 9], dtype=uint8)
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    scale = 1
    while hole.sum() > _MOST * scale**2 or hole.size > _MOST_AROUND * scale**2:
        scale *= 2
    photo, hole, known, usable = (_padded(array, scale) for array in (photo, hole, known, usable))
    sheet = Sheet.of_picture(photo, usable, scale)
    for other in others:
        sheet = sheet.beside(other.sheet(scale))
    image, seen = _shrunk(photo, known, scale)
    pixels, copied = _shrunk(sheet.pixels, sheet.usable, scale)
    target = _any(hole, scale)
    smooth = pull_push(image[None], ((seen > 0) & ~target)[None, None].float())[0]
    pixels = torch.where(copied > 0, pixels, pull_push(pixels[None], (copied > 0)[None, None].float())[0])
    level = Level(smooth, (seen > 0) & ~target, target, pixels, copied >= 0.75, sheet.places)
    if low is not None:
        smooth = F.interpolate(low[None], size=smooth.shape[-2:], mode="bilinear", align_corners=False, antialias=True)[
            0
        ]
    found = match(level, generator, sparing=int(hole.sum()) > _LARGE)
    if found is None:
        correction = smooth
    else:
        rough = _copied(found, level)
        correction = _misfit(rough, level, found)
        if blend:
            share = _SHARE if low is None else 1.0
            correction = share * (smooth - _blurred(rough, target, _DETAIL)) + (1 - share) * correction
    y, x = hole.nonzero()
    colours = np.empty((len(y), 3), np.uint8)
    for start in range(0, len(y), _STRIP):
        part = slice(start, start + _STRIP)
        filled = 255 * _sample(correction, y[part], x[part], scale)
        if found is not None:
            filled += copy_pixels(found, sheet, y[part], x[part])
        colours[part] = filled.clip(0, 255).round()
    return colours


def copy_pixels(
    found: Matches, sheet: Sheet, y: npt.NDArray[np.int64], x: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """The colours that matches of a coarser level give to pixels of the full picture.

    Args:
        found: the matches.
        sheet: of whose blocks they are.
        y: (n,) rows of the pixels.
        x: (n,) columns.

    Returns:
        (n, 3) float32 in [0, 255].

    Example:
        >>> sheet = Sheet.of_picture(np.full((8, 8, 3), 7, np.uint8), np.ones((8, 8), bool), scale=2)
        >>> index = torch.zeros(4, 4, dtype=torch.int64)
        >>> found = Matches(index, index.float(), index == 0, torch.zeros(3, 4, 4))
        >>> copy_pixels(found, sheet, np.array([4]), np.array([4]))
        array([[7., 7., 7.]], dtype=float32)
    """
    height, width = found.index.shape
    rows, columns = sheet.usable.shape
    scale = sheet.scale
    index, matched = found.index.numpy(), found.matched.numpy()
    wide = columns // scale
    colours, total = np.zeros((len(y), 3), np.float32), np.zeros(len(y), np.float32)
    # Each pixel takes what the four nearest matches say, so that where these disagree there is no edge.
    top, left = (y + 0.5) / scale - 0.5, (x + 0.5) / scale - 0.5
    for low in (0, 1):
        for right in (0, 1):
            cy, cx = np.floor(top).astype(np.int64) + low, np.floor(left).astype(np.int64) + right
            weight = (1 - np.abs(top - cy)) * (1 - np.abs(left - cx))
            cy, cx = cy.clip(0, height - 1), cx.clip(0, width - 1)
            place = index[cy, cx]
            py, px = place // wide * scale + y - cy * scale, place % wide * scale + x - cx * scale
            inside = (py >= 0) & (py < rows) & (px >= 0) & (px < columns)
            py, px = py.clip(0, rows - 1), px.clip(0, columns - 1)
            votes = (weight**2 * (matched[cy, cx] & inside & sheet.usable[py, px]) + 1e-9).astype(np.float32)
            colours += sheet.pixels[py, px] * votes[:, None]
            total += votes
    return colours / total[:, None]


def _padded(array: npt.NDArray[Any], scale: int) -> npt.NDArray[Any]:
    """An array whose sides are multiples of `scale`."""
    margins = [(0, -side % scale) for side in array.shape[:2]]
    return np.pad(array, margins + [(0, 0)] * (array.ndim - 2))


def _shrunk(pixels: npt.NDArray[np.uint8], mask: BoolArray, scale: int) -> tuple[Tensor, Tensor]:
    """(3, h, w) in [0, 1], means over the pixels of a mask, and (h, w) their share."""
    parts = []
    step = max(1, _STRIP // (scale * mask.shape[1])) * scale
    for row in range(0, len(mask), step):  # no float copy of a whole photo
        weights = torch.from_numpy(mask[row : row + step].astype(np.float32))[None]
        colours = torch.from_numpy(np.ascontiguousarray(pixels[row : row + step])).permute(2, 0, 1) * (weights / 255)
        parts.append(F.avg_pool2d(torch.cat([colours, weights]), scale))
    planes = torch.cat(parts, 1)  # [4, h, w]
    return planes[:3] / planes[3:].clamp(min=1e-6), planes[3]


def _any(mask: BoolArray, scale: int) -> Tensor:
    height, width = (n // scale for n in mask.shape)
    return torch.from_numpy(mask.reshape(height, scale, width, scale).any(axis=(1, 3)))


def _copied(found: Matches, level: Level) -> Tensor:
    """(3, h, w) what is copied, at the level of matching; the picture elsewhere."""
    pixels = level.sheet.flatten(1)[:, found.index.flatten()].view(3, *found.index.shape)
    return torch.where(found.matched, pixels, found.image)


def _misfit(rough: Tensor, level: Level, found: Matches) -> Tensor:
    """By how much the photo differs from what is copied beside the hole, continued over the hole."""
    beside = level.known & found.matched
    return pull_push((level.image - rough)[None], beside[None, None].float())[0]


def _blurred(image: Tensor, mask: Tensor, width: float) -> Tensor:
    """A Gaussian over the pixels of a mask alone."""
    reach = ceil(2.5 * width)
    kernel = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * width**2))
    kernel /= kernel.sum()
    planes = torch.cat([image * mask, mask[None].float()])[:, None]  # [4, 1, h, w]
    planes = F.conv2d(planes, kernel.view(1, 1, -1, 1), padding=(reach, 0))
    planes = F.conv2d(planes, kernel.view(1, 1, 1, -1), padding=(0, reach))[:, 0]
    return planes[:3] / planes[3:].clamp(min=1e-4)


def _sample(planes: Tensor, y: npt.NDArray[np.int64], x: npt.NDArray[np.int64], scale: int) -> npt.NDArray[np.float32]:
    """(n, 3) values of planes (3, h, w) of a coarser level at pixels of the full picture, between them linear."""
    height, width = planes.shape[-2:]
    grid = np.stack([(2 * x + 1) / (width * scale) - 1, (2 * y + 1) / (height * scale) - 1], axis=-1)
    points = torch.from_numpy(grid.astype(np.float32))[None, None]
    return F.grid_sample(planes[None], points, padding_mode="border", align_corners=False)[0, :, 0].T.numpy()
