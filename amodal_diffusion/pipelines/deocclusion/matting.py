"""Soft outlines: how much of each pixel at an object's rim is the object's, and in which colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ...display import short_repr
from ...masks import BoolArray, dilate, erode, mask_boxes, mask_pixels
from ...scene.render import relations
from ..planes import box_mean, shrink
from .borders import settle_borders
from .framing import reach_frame

FloatArray = npt.NDArray[np.float32]

_UNIT = 640
"""Longer side in pixels of the photo that widths in the settings refer to."""

_SOLVED_WIDTH = 3
"""Half the width, in pixels, of the band that alpha is solved in; wider bands are solved on a smaller photo."""

_EPSILON = 1e-4  # of the colours in a window, in squared levels from 0 to 1
_PULL = 0.1  # of the mask, blurred, against the colours
_STEPS, _TOLERANCE = 60, 1e-3
_NOISE = 0.05  # alpha that is nearer to 0 or 1 than this is taken for it
_RADII = (6, 2)  # of the neighbourhoods that colours are taken from
_LOOKED = 2 + sum(_RADII)  # pixels beside the band that are looked at
_DISTINCT = 0.01  # squared distance of two colours beyond which they say more than the solution on the small photo
_LOOSE_STEP = 320
"""Longer side in pixels of the photo on which parts that a mask has left out are looked for."""

_LOOSE_REACH = 4  # pixels there
_LOOSE_NEAR = 4  # radius there of the neighbourhood of a mask that says how the object looks
_LOOSE_SURE = 6.0  # log-likelihood ratio from which a pixel is the object's
_GRAIN = 0.03  # least spread of colours
_UPPER = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))  # entries of a symmetric matrix
_OFFSETS = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)])


@dataclass
class SoftOutlines:
    """The objects of a photo with soft outlines.

    Args:
        photo: (H, W, 3) uint8, in which the pixels of a rim have the colour of the object alone, without that of what
            is behind it.
        seen: (N, H, W) bool, where anything of each object is seen; no pixel in two masks.
        amodal: (N, H, W) bool, the whole objects, which hold `seen`.
        pixels: N arrays, indices into the flat photo of the pixels of a soft rim.
        alpha: N arrays of uint8, the alpha there, 1 to 255.

    Example:
        >>> masks = np.zeros((1, 4, 6), bool)
        >>> SoftOutlines(np.zeros((4, 6, 3), np.uint8), masks, masks, [np.zeros(0, int)], [np.zeros(0, np.uint8)])
        SoftOutlines(photo=uint8 (4, 6, 3), seen=bool (1, 4, 6), amodal=bool (1, 4, 6), pixels=[...], alpha=[...])
    """

    photo: npt.NDArray[np.uint8]
    seen: BoolArray
    amodal: BoolArray
    pixels: list[npt.NDArray[np.intp]]
    alpha: list[npt.NDArray[np.uint8]]

    __repr__ = short_repr


def soft_outlines(
    photo: npt.NDArray[np.uint8],
    modal: BoolArray,
    amodal: BoolArray,
    order: npt.NDArray[np.int8],
    width: float,
    *,
    unknown: BoolArray | None = None,
    overwrite: bool = False,
) -> SoftOutlines:
    """Find how far each object reaches into the pixels of its outline, and what colour it has there.

    Masks that end a few pixels before the frame go on to it first (`reach_frame`), where objects touch, pixels on the
    wrong side of their border change sides (`settle_borders`), and what a mask
    has left out of an object along its outline is added (`loose_parts`). Around the outline of each
    visible mask lies a band of pixels of which the mask alone does not tell whose they are.
    Their alpha is found by closed-form matting (`solve_alpha`), their colour by `front_colours`. Where alpha is above 0
    the pixel belongs to the object: it is hidden for what lies behind, whose colour it holds only in part. So a sharp
    edge takes nothing of its neighbours, and a blurred one as much as the photo shows.

    Args:
        photo: (H, W, 3) uint8.
        modal: (N, H, W) bool, no pixel in two masks.
        amodal: (N, H, W) bool, which hold `modal`.
        order: (N, N) order matrix.
        width: of the band on each side of the outline, in pixels of a photo whose longer side is 640; 0 leaves the
            outlines hard and changes nothing.
        unknown: (H, W) bool, where nothing is seen, such as beyond the frame of a photo: an object that ends there has
            no outline there. None for nowhere.
        overwrite: `amodal` may be changed, which saves a copy of it.

    Example:
        >>> photo = np.zeros((20, 30, 3), np.uint8)
        >>> photo[:, 10:], photo[:, 9] = 255, 100
        >>> masks = np.zeros((1, 20, 30), bool)
        >>> masks[0, :, 10:] = True
        >>> found = soft_outlines(photo, masks, masks, np.zeros((1, 1), np.int8), width=3)
        >>> found.seen[0, 10, 7:12], found.photo[10, 9].min() > 200
        (array([False, False,  True,  True,  True]), np.True_)
    """
    count = len(modal)
    nothing = [np.zeros(0, np.intp)] * count, [np.zeros(0, np.uint8)] * count
    if not width or not count:
        return SoftOutlines(photo, modal, amodal, *nothing)
    band = max(2, round(width * max(photo.shape[:2]) / _UNIT))
    reached, whole = reach_frame(photo, modal, amodal, unknown, overwrite=overwrite)
    settled, whole = settle_borders(photo, reached, whole, order, overwrite=overwrite or whole is not amodal)
    seen = modal.copy() if settled is modal else settled
    whole = amodal.copy() if whole is amodal and not overwrite else whole
    owner = np.full(photo.shape[:2], -1, np.int16)
    boxes = mask_boxes(seen)
    for index, (x, y, w, h) in enumerate(boxes.tolist()):
        where = slice(y, y + h), slice(x, x + w)
        owner[where][seen[(index, *where)]] = index
    step = max(1, round(max(photo.shape[:2]) / _LOOSE_STEP))
    position, front = relations(order)
    clean, (pixels, alphas) = photo.copy(), nothing
    taken = np.zeros(photo.shape[:2], bool) if unknown is None else unknown.copy()
    for index in np.argsort(-position):  # the foremost takes its rim first
        if not boxes[index, 2]:
            continue
        where = _rim_window(boxes[index], band)
        mask = seen[(index, *where)] & ~taken[where]
        others = ((owner[where] >= 0) & ~mask) | taken[where]
        loose = loose_parts(photo[where], mask, others, step)
        mask |= loose
        before = np.zeros_like(mask)
        for other in np.flatnonzero(front[:, index] & _reaches(boxes, where)):
            before |= owner[where] == other
        covered = (whole[(index, *where)] & ~mask) | taken[where]
        rim, alpha, colour = _soft_rim(photo[where], mask, before, covered, band)
        inside = mask.copy()
        inside[rim] = alpha > 0
        if not inside.any() or not len(alpha):
            continue
        gained = loose & inside
        owner[where][gained] = index
        seen[(index, *where)] |= gained
        whole[(index, *where)] |= gained
        keep = alpha > 0
        rows, columns = rim[0] + where[0].start, rim[1] + where[1].start
        lost = (rows[~keep], columns[~keep])
        seen[(index, *lost)] = whole[(index, *lost)] = False
        rows, columns = rows[keep], columns[keep]
        seen[:, rows, columns] = False
        seen[index, rows, columns] = whole[index, rows, columns] = taken[rows, columns] = True
        clean[rows, columns] = colour[keep]
        soft = alpha[keep] < 255
        _continue_behind(whole, owner, (rows[soft], columns[soft]), index, front)
        pixels[index] = np.ravel_multi_index((rows[soft], columns[soft]), owner.shape)
        alphas[index] = alpha[keep][soft]
    return SoftOutlines(clean, seen, whole, pixels, alphas)


def _rim_window(box: npt.NDArray[np.int64], band: int) -> tuple[slice, slice]:
    x, y, w, h = box.tolist()
    margin = 8 * band
    return slice(max(y - margin, 0), y + h + margin), slice(max(x - margin, 0), x + w + margin)


def _reaches(boxes: npt.NDArray[np.int64], where: tuple[slice, slice]) -> BoolArray:
    """(N,) bool, which boxes (x, y, w, h) have a part in a window."""
    x, y, w, h = boxes.T
    rows, columns = where
    return (y < rows.stop) & (y + h > rows.start) & (x < columns.stop) & (x + w > columns.start)


def loose_parts(photo: npt.NDArray[np.uint8], mask: BoolArray, others: BoolArray, step: int) -> BoolArray:
    """Pixels beside a mask that look like the object and not like what is further away.

    Polygons and networks cut corners, which would stay behind as a ghost of the outline. Of the object near a pixel and
    of what lies beyond the reach of this search, mean and spread of the colours are taken; what fits the first far
    better and hangs together with the mask is the object's.

    Args:
        photo: (h, w, 3) uint8.
        mask: (h, w) bool.
        others: (h, w) bool, pixels that are known to be something else's.
        step: of the pixels that are looked at together.

    Returns:
        (h, w) bool, outside of `mask`.

    Example:
        >>> photo = np.zeros((40, 40, 3), np.uint8)
        >>> photo[:, 10:30] = 200
        >>> mask = np.zeros((40, 40), bool)
        >>> mask[:, 10:27] = True
        >>> np.flatnonzero(loose_parts(photo, mask, np.zeros_like(mask), 1)[20])
        array([27, 28, 29])
    """
    image = shrink(photo, step) / 255
    own, free = shrink(mask, step)[0, 0].numpy() > 0.5, shrink(others, step)[0, 0].numpy() == 0
    near = dilate(own, kernel="square", size=2 * _LOOSE_REACH + 1) & free
    distances, spreads, enough = [], [], near & ~own
    for sure, radius in ((erode(own, kernel="square", size=3), _LOOSE_NEAR), (free & ~near & ~own, 2 * _LOOSE_REACH)):
        weight = torch.from_numpy(sure.astype(np.float32))[None, None]
        sums = box_mean(torch.cat([weight, image * weight, image * image * weight], dim=1), radius)
        mean, square = (sums[:, part] / sums[:, :1].clamp(min=1e-4) for part in (slice(1, 4), slice(4, 7)))
        spread = (square - mean * mean).clamp(min=0).mean(dim=1, keepdim=True) + _GRAIN**2
        distances.append(((image - mean) ** 2).sum(dim=1, keepdim=True) / spread)
        spreads.append(spread)
        enough &= sums[0, 0].numpy() > 0.02
    ratio = distances[1] - distances[0] + 3 * torch.log(spreads[1] / spreads[0])
    like = (box_mean(ratio.clamp(-20, 20), 1)[0, 0].numpy() > _LOOSE_SURE) & enough
    grown = own
    for _ in range(_LOOSE_REACH):
        grown = grown | (dilate(grown) & like)
    # Without hairs that no square of 3x3 fits into.
    grown &= dilate(erode(grown, kernel="square", size=3), kernel="square", size=3)
    part = (grown & ~own).repeat(step, axis=0).repeat(step, axis=1)[: mask.shape[0], : mask.shape[1]]
    return part & ~mask & ~others


def _continue_behind(
    whole: BoolArray,
    owner: npt.NDArray[np.int16],
    rim: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]],
    index: int,
    front: BoolArray,
) -> None:
    """Let objects go on beneath the soft rim of one in front, so that nothing else shines through when both move."""
    rows, columns = rim
    for dy, dx in ((-2, 0), (2, 0), (0, -2), (0, 2)):
        beside = owner[(rows + dy).clip(0, owner.shape[0] - 1), (columns + dx).clip(0, owner.shape[1] - 1)]
        behind = (beside >= 0) & front[index, beside]
        whole[beside[behind], rows[behind], columns[behind]] = True


def _soft_rim(
    photo: npt.NDArray[np.uint8], mask: BoolArray, before: BoolArray, covered: BoolArray, band: int
) -> tuple[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The pixels (rows, columns) of the band around a mask, their alpha (K,) and the object's colour there (K, 3).

    Pixels `before` the object and those within the band of them say nothing of it, nor do those that are `covered`.
    """
    step = max(1, round(band / _SOLVED_WIDTH))
    share = shrink(mask, step)  # [1, 1, h, w]
    own, front = share[0, 0].numpy() >= 0.5, shrink(before, step)[0, 0].numpy() > 0
    size = 2 * round(band / step) + 1
    blocked = (dilate(front, kernel="square", size=size) & ~own) | (shrink(covered, step)[0, 0].numpy() > 0)
    core = erode(own | blocked, kernel="square", size=size) & own  # what something hides goes on behind it
    unknown = dilate(own, kernel="square", size=size) & ~core & ~blocked
    rows, columns = blocks = mask_pixels(unknown)
    if step > 1:  # the pixels of these blocks
        parts = (rows[:, None, None] * step + np.arange(step)[:, None], columns[:, None, None] * step + np.arange(step))
        rows, columns = (np.broadcast_to(part, (len(rows), step, step)).ravel() for part in parts)
        within = (rows < mask.shape[0]) & (columns < mask.shape[1])
        rows, columns = rows[within], columns[within]
        free = ~(before[rows, columns] | covered[rows, columns])
        rows, columns = rows[free], columns[free]
    rim = (rows, columns)
    if not len(rim[0]):
        return rim, np.zeros(0, np.uint8), np.zeros((0, 3), np.uint8)
    # Nothing further from the band than colours are taken from is looked at.
    where = tuple(slice(max(int(line.min()) - _LOOKED, 0), int(line.max()) + _LOOKED + 1) for line in blocks)
    unknown, own, blocked = unknown[where], own[where], blocked[where]
    prior = box_mean(box_mean(F.pad(share[:, :, where[0], where[1]], (2, 2, 2, 2), mode="replicate"), 1), 1)[
        0, 0, 2:-2, 2:-2
    ]
    trimap = np.where(unknown, np.float32(0.5), own.astype(np.float32))
    planes = shrink(photo[_pixels(where, step)], step) / 255  # [1, 3, h, w]
    image = np.ascontiguousarray(planes[0].numpy().transpose(1, 2, 0))
    alpha = solve_alpha(image, trimap, prior.numpy(), usable=~blocked, pull=_PULL)
    alpha = ((alpha - _NOISE) / (1 - 2 * _NOISE)).clip(0, 1)
    plane = torch.from_numpy(alpha)[None, None]
    usable = torch.from_numpy((~blocked).astype(np.float32))[None, None]
    colours = front_colours(planes, plane, usable)  # [1, 6, h, w]
    corner = where[0].start, where[1].start
    if step == 1:
        places = (rim[0] - corner[0], rim[1] - corner[1])
        found, opacity = colours[0][:, places[0], places[1]].T.numpy(), alpha[places]
    else:
        found, opacity = _enlarge(colours, plane, (rim[0] - corner[0] * step, rim[1] - corner[1] * step), step)
    pixel = photo[rim].astype(np.float32) / 255
    ahead, behind = found[:, :3], found[:, 3:]
    if step > 1:
        apart = ahead - behind
        square = (apart**2).sum(axis=1)
        along = ((pixel - behind) * apart).sum(axis=1)
        sharp = ((along + _DISTINCT * opacity) / (square + _DISTINCT)).clip(0, 1)
        opacity = np.where((opacity > 0) & (opacity < 1), sharp, opacity)
        opacity = ((opacity - _NOISE) / (1 - 2 * _NOISE)).clip(0, 1)
    rest = pixel - opacity[:, None] * ahead - (1 - opacity[:, None]) * behind
    colour = np.where(opacity[:, None] == 1, pixel, ahead + opacity[:, None] * rest)
    levels = np.rint(255 * opacity).astype(np.uint8)
    return rim, levels, np.rint(255 * colour.clip(0, 1)).astype(np.uint8)


def _pixels(blocks: tuple[slice, ...], step: int) -> tuple[slice, ...]:
    """The rows and columns of the pixels of blocks."""
    return tuple(slice(side.start * step, side.stop * step) for side in blocks)


def _enlarge(
    colours: torch.Tensor, alpha: torch.Tensor, rim: tuple[npt.NDArray[np.intp], ...], step: int
) -> tuple[FloatArray, FloatArray]:
    height, width = alpha.shape[2:]
    x, y = ((rim[axis] + 0.5) / step * 2 / side - 1 for axis, side in ((1, width), (0, height)))
    points = torch.from_numpy(np.stack([x, y], axis=-1).astype(np.float32))[None, None]  # [1, 1, K, 2]
    planes = torch.cat([colours, alpha], dim=1)
    found = F.grid_sample(planes, points, mode="bilinear", padding_mode="border", align_corners=False)[0, :, 0]
    return found[:6].T.numpy(), found[6].numpy()


def solve_alpha(
    image: FloatArray, trimap: FloatArray, prior: FloatArray, *, usable: BoolArray | None = None, pull: float = 0.0
) -> FloatArray:
    """Closed-form matting of a narrow band [Levin, Lischinski and Weiss, "A Closed-Form Solution to Natural Image
    Matting", 2008].

    In each window of 3x3 pixels alpha is taken for a linear function of the colour, which gives a quadratic form in
    alpha; the pixels on both sides of the band are known and hold it. Only windows that touch the band are looked at,
    so the cost follows the outline. Solved by conjugate gradients.

    Args:
        image: (h, w, 3) float32 in [0, 1].
        trimap: (h, w) float32: 0 outside, 1 inside, between them where alpha is asked for.
        prior: (h, w) float32 in [0, 1], where the search begins and what `pull` draws to.
        usable: (h, w) bool, pixels that show the object or what is behind it; None: all.
        pull: weight of the prior.

    Returns:
        (h, w) float32 in [0, 1].

    Example:
        >>> row = np.array([0, 0, 0, 0.5, 1, 1, 1], np.float32)
        >>> image = np.repeat(np.tile(row, (5, 1))[..., None], 3, axis=2)
        >>> trimap = np.tile(np.array([0, 0, 0.5, 0.5, 0.5, 1, 1], np.float32), (5, 1))
        >>> solve_alpha(image, trimap, trimap)[2].round(1)
        array([0. , 0. , 0. , 0.5, 1. , 1. , 1. ], dtype=float32)
    """
    unknown = (trimap > 0) & (trimap < 1)
    height, width = trimap.shape
    pixels = np.flatnonzero(unknown)
    if not len(pixels) or min(height, width) < 3:
        return prior if len(pixels) else trimap
    inner = np.zeros_like(unknown)
    inner[1:-1, 1:-1] = True
    if usable is not None:
        inner &= erode(usable, kernel="square", size=3)
    middle = np.flatnonzero(dilate(unknown, kernel="square", size=3) & inner)
    index = middle[:, None] + _OFFSETS @ (width, 1)  # [K, 9]
    colours = image.reshape(-1, 3)[index]  # [K, 9, 3]
    colours = colours - colours.mean(axis=1, keepdims=True)
    spread = np.matmul(colours.transpose(0, 2, 1), colours) / 9 + _EPSILON / 9 * np.eye(3, dtype=np.float32)
    lines = np.matmul(colours, _inverses(spread))
    form = np.eye(9, dtype=np.float32) - (1 + np.matmul(lines, colours.transpose(0, 2, 1))) / 9  # [K, 9, 9]
    # A row of 5x5 neighbours for each unknown pixel.
    rows = np.full(height * width, -1)
    rows[pixels] = np.arange(len(pixels))
    apart = _OFFSETS[None] - _OFFSETS[:, None]  # from the pixel of the row to that of the column
    code = (apart[..., 0] + 2) * 5 + apart[..., 1] + 2  # [9, 9]
    keys = (rows[index] * 25)[..., None] + code + 25  # known pixels, of number -1, have the first row
    stencil = np.bincount(keys.ravel(), form.ravel(), 25 + len(pixels) * 25)[25:].reshape(-1, 25).astype(np.float32)
    around = np.array([(y, x) for y in range(-2, 3) for x in range(-2, 3)]) @ (width, 1)
    neighbours = np.clip(pixels[:, None] + around, 0, height * width - 1)
    known = np.where(unknown, 0, trimap).ravel()
    fixed = (stencil * known[neighbours]).sum(axis=1)
    at = rows[neighbours]
    stencil[at < 0] = 0
    stencil[:, 12] += pull
    start = prior.ravel()[pixels]
    alpha = trimap.astype(np.float32)
    alpha.ravel()[pixels] = _conjugate_gradients(stencil, np.maximum(at, 0), pull * start - fixed, start)
    return alpha.clip(0, 1)


def _inverses(matrices: FloatArray) -> FloatArray:
    """Of symmetric matrices (K, 3, 3): many times faster than solving each."""
    a, b, c, d, e, f = (matrices[:, row, column].astype(np.float64) for row, column in _UPPER)
    minors = d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b
    inverses = np.empty_like(matrices)
    for (row, column), minor in zip(_UPPER, minors, strict=True):
        inverses[:, row, column] = inverses[:, column, row] = minor / (a * minors[0] + b * minors[1] + c * minors[2])
    return inverses


def _conjugate_gradients(
    stencil: FloatArray, at: npt.NDArray[np.intp], target: FloatArray, x: FloatArray
) -> FloatArray:
    def product(vector: FloatArray) -> FloatArray:
        return np.einsum("ij,ij->i", stencil, vector[at])

    scale = 1 / np.maximum(stencil[:, 12], 1e-6)
    residual = target - product(x)
    direction = scaled = scale * residual
    energy = float(residual @ scaled)
    for _ in range(_STEPS):
        moved = product(direction)
        step = energy / max(float(direction @ moved), 1e-12)
        x = (x + np.float32(step) * direction).astype(np.float32)
        if np.abs(step * direction).max() < _TOLERANCE:
            break
        residual = residual - np.float32(step) * moved
        scaled = scale * residual
        energy, before = float(residual @ scaled), energy
        direction = scaled + np.float32(energy / max(before, 1e-12)) * direction
    return x


def front_colours(image: torch.Tensor, alpha: torch.Tensor, usable: torch.Tensor) -> torch.Tensor:
    """The smooth colours of an object and of what is behind it, around each pixel.

    Means of the neighbourhood, weighted by how much of a pixel is of either, twice: blur fusion [Forte and Pitié,
    "Approximate Fast Foreground Colour Estimation", 2021].

    Args:
        image: (1, 3, h, w) float32 in [0, 1].
        alpha: (1, 1, h, w) float32 in [0, 1].
        usable: (1, 1, h, w) float32, 0 where neither is seen.

    Returns:
        (1, 6, h, w): three channels of the object, three of what is behind it.

    Example:
        >>> alpha = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)
        >>> image = alpha.expand(-1, 3, -1, -1)  # white before black
        >>> front_colours(image, alpha, torch.ones_like(alpha))[0, ::3, 0, 1].round()
        tensor([1., 0.])
    """
    ahead, behind = image, image
    for radius in _RADII:
        weights = torch.cat([alpha, 1 - alpha], dim=1) * usable
        parts = [weights, ahead * weights[:, :1], behind * weights[:, 1:]]
        total = box_mean(torch.cat(parts, dim=1), radius)  # [1, 8, h, w]
        share = total[:, :2].clamp(min=1e-4)
        means = [total[:, 2:5] / share[:, :1], total[:, 5:] / share[:, 1:]]
        rest = image - alpha * means[0] - (1 - alpha) * means[1]
        ahead = (means[0] + alpha * rest).clamp(0, 1)
        behind = (means[1] + (1 - alpha) * rest).clamp(0, 1)
    return torch.cat([ahead, behind], dim=1)
