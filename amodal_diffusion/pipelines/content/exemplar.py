"""Holes filled with pixels copied from what is seen: which pixels may be copied, and how they meet the photo."""

from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ...display import short_repr
from ...masks import BoolArray, dilate, erode, mask_boxes
from ...models.pull_push import pull_push
from .fillers import choose_filler
from .inputs import ContentScene
from .patch_matching import RADIUS, Level, Matches, Sheet, match

_MOST = 6_000  # pixels of a hole that are matched; a larger hole is matched at a coarser level
_MOST_AROUND = 200_000  # pixels of its window likewise
_MIXED = 0.1  # share of what hides a hole in the colours beside it that is seen
_RIM_SAMPLE = 250  # pixels of a rim that are looked at
_STRIP = 2**18  # pixels that are made floats at a time
_SHARE = 0.6
_DETAIL = 2.0  # pixels at the level of matching: detail is what a Gaussian of this width takes away


@dataclass
class Hole:
    """A hole in a window of a photo, and what may be copied into it.

    Args:
        photo: (h, w, 3) uint8, the window.
        hole: (h, w) bool, the pixels to fill.
        wanted: (h, w) bool, those of them that are asked for.
        known: (h, w) bool, the pixels beside which the filling must fit.
        usable: (h, w) bool, the pixels that may be copied.
        window: rows and columns in the photo.
        mirror: copy from the mirrored window too.

    Example:
        >>> photo, hole = np.full((40, 40, 3), 9, np.uint8), np.zeros((40, 40), bool)
        >>> hole[10:12, 10] = True
        >>> place = background_hole(photo, hole, None, None, margin=1)
        >>> place.suiting_filler(None), place.fill("exemplar")
        ('smooth', array([[9, 9, 9],
               [9, 9, 9]], dtype=uint8))
    """

    photo: npt.NDArray[np.uint8]
    hole: BoolArray
    wanted: BoolArray
    known: BoolArray
    usable: BoolArray
    window: tuple[slice, slice]
    mirror: bool = False

    __repr__ = short_repr

    def suiting_filler(self, network: str | None) -> str:
        """See `choose_filler`."""
        return choose_filler(self.photo, self.hole, self.usable, network)

    def fill(
        self, filler: str, low: Tensor | None = None, generator: torch.Generator | None = None
    ) -> npt.NDArray[np.uint8]:
        """(n, 3) uint8, the colours of the pixels that are wanted, row after row; see `fill_hole`."""
        colours = fill_hole(
            self.photo,
            self.hole,
            self.known,
            self.usable if filler != "smooth" else np.zeros_like(self.usable),
            mirror=self.mirror,
            blend=filler != "exemplar",
            low=low,
            generator=generator,
        )
        return colours[self.wanted[self.hole]]


def object_hole(scene: ContentScene, index: int, margin: int, *, clean_seams: bool = False) -> Hole:
    """The hidden part of an object; only visible pixels of the object itself may be copied.

    Args:
        scene: the photo and its objects.
        index: of one with a hidden part.
        margin: width in pixels of the widest rim beside the hidden part that can be trimmed (`mixed_rim`).
        clean_seams: the visible part already keeps away from what hides it.

    Example:
        >>> from amodal_diffusion.pipelines.content.inputs import read_content_scene
        >>> masks, amodal_masks = np.zeros((2, 1, 40, 40), bool)
        >>> masks[0, :, :20] = amodal_masks[:] = True
        >>> hole = object_hole(read_content_scene(np.zeros((40, 40, 3), np.uint8), masks, amodal_masks), 0, margin=1)
        >>> hole.wanted[0, 17:22].astype(int), hole.hole[0, 17:22].astype(int), hole.usable[1, 16:21].astype(int)
        (array([0, 0, 0, 1, 1]), array([0, 0, 0, 1, 1]), array([1, 1, 1, 0, 0]))
    """
    modal, hidden = scene.modal[index], scene.amodal[index] & ~scene.modal[index]
    if not modal.any():  # painted from its surroundings
        rows, columns = search_window(hidden, ~hidden)
        known = ~scene.erased(index, rows, columns, everything=True)
        wanted = hidden[rows, columns]
        return Hole(scene.photo[rows, columns], wanted, wanted, known, np.zeros_like(wanted), (rows, columns))
    rows, columns = search_window(hidden, modal)
    photo, modal, wanted = scene.photo[rows, columns], modal[rows, columns], hidden[rows, columns]
    rim = 0 if clean_seams else mixed_rim(photo, wanted, modal, margin)
    hole = wanted | (modal & dilate(wanted, kernel="square", size=2 * rim + 1))
    known = modal & ~hole
    if not known.any():
        hole, known = wanted, modal
    return Hole(photo, hole, wanted, known, own_sources(known, min(margin, 1)), (rows, columns))


def background_hole(
    photo: npt.NDArray[np.uint8], hole: BoolArray, unknown: BoolArray | None, avoid: BoolArray | None, margin: int
) -> Hole:
    """The place of removed objects.

    Args:
        photo: (H, W, 3) uint8.
        hole: (H, W) bool, not empty.
        unknown: (H, W) bool, where the photo holds nothing, or None.
        avoid: (H, W) bool, what must not be copied, or None.
        margin: width in pixels of the widest rim around the hole that can be trimmed (`mixed_rim`).

    Example:
        >>> photo, hole = np.zeros((40, 40, 3), np.uint8), np.eye(40, dtype=bool)
        >>> background_hole(photo, hole, None, None, margin=2).wanted.shape
        (40, 40)
    """
    rows, columns = search_window(hole, ~hole)
    beside = ~hole[rows, columns] if unknown is None else ~(hole | unknown)[rows, columns]
    rim = mixed_rim(photo[rows, columns], hole[rows, columns], beside, margin)
    wider = dilate(hole, kernel="square", size=2 * rim + 1)
    if unknown is not None:
        wider = wider & (hole | ~unknown)
    known = ~wider
    usable = known if avoid is None else known & ~dilate(avoid, kernel="square", size=3)
    rows, columns = search_window(wider, usable)
    where = (rows, columns)
    return Hole(photo[where], wider[where], hole[where], known[where], usable[where], where)


def fill_hole(
    photo: npt.NDArray[np.uint8],
    hole: BoolArray,
    known: BoolArray,
    usable: BoolArray,
    *,
    mirror: bool = False,
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
        mirror: copy from the mirrored picture too.
        blend: take only detail from what is copied, and the low frequencies from `low`.
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
    height, width = (ceil(n / scale) * scale for n in hole.shape)
    margins = ((0, height - hole.shape[0]), (0, width - hole.shape[1]))
    hole, known, usable = (np.pad(mask, margins) for mask in (hole, known, usable))
    photo = np.pad(photo, (*margins, (0, 0)))
    sheet = Sheet.of_picture(photo, usable, scale)
    if mirror:
        sheet = sheet.beside(sheet.mirrored())
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
    found = match(level, generator)
    if found is None:
        correction = smooth
    else:
        rough = _copied(found, level)
        correction = _misfit(rough, level, found)
        if blend:
            correction = _SHARE * (smooth - _blurred(rough, target, _DETAIL)) + (1 - _SHARE) * correction
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


def own_sources(modal: BoolArray, margin: int) -> BoolArray:
    """The visible pixels of an object that may be copied: those at its rim hold colours of what lies beside it.

    Args:
        modal: (H, W) bool.
        margin: width of the rim in pixels.

    Returns:
        (H, W) bool; all of `modal` where nothing would be left.

    Example:
        >>> own_sources(np.ones((1, 5), bool), 1).astype(int)
        array([[1, 1, 1, 1, 1]])
        >>> own_sources(np.pad(np.ones((3, 3), bool), 1), 1).sum()
        np.int64(1)
    """
    if not margin:
        return modal
    inner = erode(modal, kernel="square", size=2 * margin + 1)
    return inner if inner.any() else modal


def mixed_rim(photo: npt.NDArray[np.uint8], hole: BoolArray, beside: BoolArray, most: int) -> int:
    """How many pixels beside a hole hold colours of what lies in it, as the photo shows.

    Each pixel of a rim is taken for a mixture of the mean colours near it, inside of the hole and further outside.

    Args:
        photo: (H, W, 3) uint8, with what hides the rest in the hole.
        hole: (H, W) bool.
        beside: (H, W) bool, the pixels that are looked at.
        most: width of the widest rim.

    Returns:
        0 to `most`.

    Example:
        >>> photo = np.zeros((20, 20, 3), np.uint8)
        >>> photo[:, 10:], photo[:, 9] = 200, 80
        >>> hole = np.arange(20) >= np.full((20, 1), 10)
        >>> mixed_rim(photo, hole, ~hole, most=3)
        1
    """
    reach = most + 4
    around = np.pad(dilate(hole, kernel="square", size=2 * most + 1), reach)
    inner = np.pad(erode(hole, kernel="square", size=3), reach)
    outer = np.pad(beside, reach) & ~around
    offsets = np.arange(2 * reach + 1)
    inside = hole
    for width in range(most):
        wider = dilate(inside, kernel="square", size=3)
        y, x = (wider & ~inside & beside).nonzero()
        inside = wider
        some = slice(None, None, max(1, len(y) // _RIM_SAMPLE))
        y, x = y[some], x[some]
        where = (y[:, None, None] + offsets[:, None], x[:, None, None] + offsets)  # in the padded planes
        colours = photo[(where[0] - reach).clip(0, len(hole) - 1), (where[1] - reach).clip(0, hole.shape[1] - 1)]
        shares = [plane[where][..., None].astype(np.float32) for plane in (inner, outer)]
        known = (shares[0].any(axis=(1, 2, 3))) & (shares[1].any(axis=(1, 2, 3)))
        if not known.any():
            return width
        front, back = ((colours * share).sum((1, 2))[known] / share.sum((1, 2))[known] for share in shares)
        across, step = front - back, photo[y, x][known] - back
        if (step * across).sum() < _MIXED * (across**2).sum():
            return width
    return most


def search_window(hole: BoolArray, around: BoolArray, least: int = 48) -> tuple[slice, slice]:
    """Rows and columns of a part of a picture in which a hole finds what to copy.

    It grows until it holds four times as many pixels to copy from as there are to fill.

    Args:
        hole: (H, W) bool, not empty.
        around: (H, W) bool, the pixels that may be copied.
        least: pixels around the hole.

    Example:
        >>> hole = np.zeros((500, 500), bool)
        >>> hole[200:210, 200:210] = True
        >>> search_window(hole, ~hole)
        (slice(152, 258, None), slice(152, 258, None))
    """
    x, y, w, h = mask_boxes(hole[None])[0].tolist()
    height, width = hole.shape
    reach = max(least, max(w, h) // 4)
    left, top, wide, high = mask_boxes((around | hole)[None])[0].tolist()
    left, top, right, bottom = left - RADIUS, top - RADIUS, left + wide + RADIUS, top + high + RADIUS
    wanted = min(4 * int(hole.sum()), int(around.sum()))
    while True:
        rows = slice(max(0, top, y - reach), min(height, bottom, y + h + reach))
        columns = slice(max(0, left, x - reach), min(width, right, x + w + reach))
        if around[rows, columns].sum() >= wanted:
            return rows, columns
        reach *= 2


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
