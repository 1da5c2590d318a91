"""Copies that fill a hole, brought to colours with which they meet the photo and one another."""

from collections.abc import Sequence
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from ...masks import dilate
from .shifts import Level, Matches

_TRUSTED = 1.0  # pixels of the level: the rim is compared by means of this width
_DOUBTED = 2.0  # times what is usual: distance of colours from which on the rim is thought to show something else
_LEAST = 0.08  # that is usual
_THING_DOUBTED = 3.0  # times sooner where the rim shows a thing
_FALL = 3  # how steeply the trust in the rim falls there: what little is left would still shine far into the hole
_REACH = 20.0  # pixels likewise: over which the photo's colours reach into the hole
_BREAK = 0.25  # distance of colours from which on two copies are thought to show different things
_GRAIN = 3.0  # times the usual difference of neighbours, below which what two copies say is grain
_SOFT_AROUND = 24  # pixels beside the hole that are looked at
_SOFT_NEAR = 10  # pixels around a seam, which should be no sharper than what is seen there
_LEAST_SLOPE = 2 / 255  # between neighbours, that no seam must be below
_SOFT_LEAST = 1.5  # width in pixels that a seam should have, from which on it is softened
_SOFT_MOST = 8  # widths of 1, 2, 4 and so on that are told apart, at most
_SOFT_SPREAD = 0.6  # standard deviation of the Gaussian, in such widths
_STEPS = 20
_STEADY = 1e-5  # share of the diagonal that is added to it: the equation of the cells need not be exact
_CELL, _MOST_CELLS = 6, 300  # side in pixels of the cells that are solved as one, and about how many there are at most


def join_copies(copied: Tensor, found: Matches, level: Level, tone: Tensor) -> Tensor:
    """Colours to add to copies, so that they meet the photo around the hole and one another along their seams.

    A screened Poisson equation [Perez et al., "Poisson Image Editing", 2003; Bhat et al., 2008]: neighbours differ as
    they do in their copy. Across a seam they differ as the one of both copies says in which the difference is smaller,
    of what may be copied, but for grain; the other may have the edge of a thing there that is not copied along. Far
    from the photo the copies keep their own colours. Where the photo differs much from the copies it is taken to show
    something else, which is not to shine into the hole; where it shows a thing, a third of that difference is enough.
    Copies of different things are not mixed either.

    Args:
        copied: (3, h, w) float32 in [0, 1], what is copied; the picture where nothing is.
        found: where it comes from.
        level: the picture and the sheet.
        tone: (3, h, w) float32, what would bring the copies to colours that go on smoothly; they are drawn to it where
            it is small.

    Returns:
        (3, h, w) float32; 0 where nothing is copied. Where nothing is known beside the hole, and at the frame, copies
        keep their colours but for their seams.

    Example:
        >>> known = torch.arange(12).expand(8, 12) < 6
        >>> dark, light = torch.full((3, 8, 12), 0.25), torch.full((3, 8, 12), 0.5)
        >>> places = torch.zeros(8, 12, 2)
        >>> level = Level(light, known, ~known, dark, known, places)
        >>> found = Matches(torch.zeros(8, 12, dtype=torch.int64), torch.arange(12).expand(8, 12) > 2)
        >>> added = join_copies(torch.where(known, light, dark), found, level, light - dark)
        >>> added.shape
        torch.Size([3, 8, 12])
    """
    part = around_mask(found.matched)
    index, matched, inside = found.index[part], found.matched[part], (level.target & found.matched)[part]
    here = copied[:, part[0], part[1]]
    rim = matched & ~inside
    misfit = blurred(level.image[:, part[0], part[1]] - here, rim, _TRUSTED)
    apart = misfit.square().sum(0)
    usual = _DOUBTED**2 * (apart[rim].median().clamp(min=_LEAST**2) if bool(rim.any()) else 1)
    doubt = apart / usual
    if level.things is not None:
        things = level.things[: level.target.shape[0], : level.target.shape[1]]
        doubt = doubt * (1 + (_THING_DOUBTED**2 - 1) * things[part])
    trust = rim / (1 + doubt**_FALL)
    tone = tone[:, part[0], part[1]]
    tone = tone / (1 + tone.square().sum(0) / usual)
    links, jumps = [], []
    for axis in (0, 1):
        both = matched.narrow(axis, 0, matched.shape[axis] - 1) & matched.narrow(axis, 1, matched.shape[axis] - 1)
        jump = _said(level, index, axis) - here.diff(dim=axis + 1)
        links.append(both / (1 + jump.square().sum(0) / _BREAK**2).square())
        jumps.append(links[-1] * jump)
    own = trust + inside / _REACH**2
    wanted = _net(jumps) + trust * misfit + inside / _REACH**2 * tone
    correction = torch.zeros_like(copied)
    correction[:, part[0], part[1]] = _solved(wanted, own, links)
    return correction


def soften_seams(joined: Tensor, found: Matches, level: Level) -> Tensor:
    """Colours to add to joined copies, so that no seam between them is sharper than what is seen near it.

    In a part of a photo that is out of focus, or plain, a sharp border would be seen to be none of the photo's.

    Args:
        joined: (3, h, w) float32 in [0, 1], the picture with its hole filled.
        found: where it comes from.
        level: the picture and the sheet.

    Returns:
        (3, h, w) float32; 0 outside of the hole and far from seams.

    Example:
        >>> known = torch.arange(60).expand(40, 60) < 20
        >>> joined = 0.2 + 0.4 * (torch.arange(60) > 39).float().expand(3, 40, 60)
        >>> level = Level(joined, known, ~known, joined, known, torch.zeros(40, 60, 2))
        >>> shifts = torch.where(torch.arange(60) > 39, 30, 20)
        >>> found = Matches(torch.arange(2400).view(40, 60) - shifts, ~known)
        >>> (joined + soften_seams(joined, found, level))[0, 20, [30, 39, 40, 50]].round(decimals=1)
        tensor([0.2000, 0.4000, 0.4000, 0.6000])
    """
    rows, columns = around_mask(level.target, _SOFT_AROUND)
    index, matched = found.index[rows, columns], found.matched[rows, columns]
    target, known = level.target[rows, columns], level.known[rows, columns]
    near = torch.where(level.target, joined, level.image)[:, rows, columns]
    shown = target | known
    jumps, slopes = torch.zeros(target.shape), torch.zeros(target.shape)  # across seams, and elsewhere
    for axis, stride in ((0, level.usable.shape[1]), (1, 1)):
        size = target.shape[axis] - 1
        (inside, other_inside), (there, other_there), (copied, other_copied) = (
            (mask.narrow(axis, 0, size), mask.narrow(axis, 1, size)) for mask in (target, shown, matched)
        )
        apart = near.diff(dim=axis + 1).square().sum(0).sqrt()
        seam = copied & other_copied & (index.diff(dim=axis) != stride) & (inside | other_inside)
        for start in (0, 1):
            for most, pairs in ((jumps, seam), (slopes, there & other_there & ~seam)):
                part = most.narrow(axis, start, size)
                torch.maximum(part, apart * pairs, out=part)
    slopes *= jumps == 0
    width = jumps / dilate(slopes, kernel="square", size=2 * _SOFT_NEAR + 1).clamp(min=_LEAST_SLOPE)
    soft, size = near.clone(), 1
    while size <= _SOFT_MOST and bool((wide := width > max(_SOFT_LEAST, size)).any()):
        high, across = around_mask(wide, 4 * size)
        share = dilate(wide[high, across].float(), kernel="square", size=4 * size + 1)
        share = F.avg_pool2d(share[None], 2 * size + 1, 1, size, count_include_pad=False)[0]
        blurry = blurred(near[:, high, across], shown[high, across], _SOFT_SPREAD * size)
        soft[:, high, across] = torch.lerp(soft[:, high, across], blurry, share)
        size *= 2
    added = torch.zeros_like(joined)
    added[:, rows, columns] = (soft - near) * target
    return added


def _said(level: Level, index: Tensor, axis: int) -> Tensor:
    """(3, h - 1, w) or (3, h, w - 1), by how much neighbours along an axis differ, as their copies say."""
    usable, sheet = level.usable.flatten(), level.sheet.flatten(1)
    step, last = level.usable.shape[1] if axis == 0 else 1, level.usable.numel() - 1
    first, second = index.narrow(axis, 0, index.shape[axis] - 1), index.narrow(axis, 1, index.shape[axis] - 1)
    after, before = (first + step).clamp(max=last), (second - step).clamp(min=0)
    one, other = sheet[:, after] - sheet[:, first], sheet[:, second] - sheet[:, before]
    sizes = [
        torch.where(usable[end], said.square().sum(0), torch.inf)
        for said, end in ((one, after), (other, before))
    ]  # fmt: skip
    least = torch.minimum(*sizes)
    alike = torch.maximum(*sizes) <= _GRAIN**2 * least[least < torch.inf].median()
    said = torch.where((sizes[0] <= sizes[1]) ^ alike, one, other)
    return torch.where(least < torch.inf, said, 0)


def _solved(wanted: Tensor, own: Tensor, links: Sequence[Tensor]) -> Tensor:
    """(3, h, w), the x with own * x + the sum of link * (x - neighbour) = wanted.

    By conjugate gradients, preconditioned by the diagonal and by the same equation for cells of pixels that are moved
    as one, without which colours would come only as many pixels far as there are steps.

    Args:
        wanted: (3, h, w).
        own: (h, w), at least 0.
        links: (h - 1, w) and (h, w - 1), likewise.
    """
    height, width = own.shape
    cell = max(_CELL, ceil((height * width / _MOST_CELLS) ** 0.5))
    cells = -(-height // cell), -(-width // cell)
    padding = (0, cells[1] * cell - width, 0, cells[0] * cell - height)
    number = torch.arange(cells[0] * cells[1]).view(cells).repeat_interleave(cell, 0).repeat_interleave(cell, 1)
    number, count = number[:height, :width], cells[0] * cells[1]
    between, total = torch.zeros(count * count), own.clone()
    for axis, link in enumerate(links):
        first, second = (number.narrow(axis, start, link.shape[axis]) for start in (0, 1))
        between += torch.bincount((first * count + second).flatten(), link.flatten(), count * count)
        for start in (0, 1):
            total.narrow(axis, start, link.shape[axis]).add_(link)
    system = -between.view(count, count) - between.view(count, count).T
    system.diagonal().add_(torch.bincount(number.flatten(), total.flatten(), count)).mul_(1 + _STEADY)
    system.diagonal().add_(system.diagonal() <= 0)  # cells outside of the hole
    factor = torch.linalg.cholesky(system)
    scale = torch.where(total > 0, 1 / total.clamp(min=1e-12), 0)

    def preconditioned(residual: Tensor) -> Tensor:
        sums = F.avg_pool2d(F.pad(residual, padding), cell, divisor_override=1)
        moved = torch.cholesky_solve(sums.flatten(1).T, factor).T.view(sums.shape)
        moved = moved.repeat_interleave(cell, 1).repeat_interleave(cell, 2)[:, :height, :width]
        return scale * residual + moved * (scale > 0)

    found, residual = torch.zeros_like(wanted), wanted
    direction = scaled = preconditioned(residual)
    energy = (residual * scaled).sum((1, 2), keepdim=True)
    for _ in range(_STEPS):
        moved = _net(_flows(links, direction)) + own * direction
        length = energy / (direction * moved).sum((1, 2), keepdim=True).clamp(min=1e-12)
        found = found + length * direction
        residual = residual - length * moved
        scaled = preconditioned(residual)
        before, energy = energy, (residual * scaled).sum((1, 2), keepdim=True)
        direction = scaled + energy / before.clamp(min=1e-12) * direction
    return found


def _flows(links: Sequence[Tensor], values: Tensor) -> tuple[Tensor, Tensor]:
    """(3, h - 1, w) and (3, h, w - 1)."""
    return links[0] * (values[:, 1:] - values[:, :-1]), links[1] * (values[:, :, 1:] - values[:, :, :-1])


def _net(flows: Sequence[Tensor]) -> Tensor:
    """(3, h, w) what flows into each pixel, of flows to the pixels below (3, h - 1, w) and beside (3, h, w - 1)."""
    down, across = flows
    net = down.new_zeros(len(down), down.shape[1] + 1, down.shape[2])
    net[:, 1:] += down
    net[:, :-1] -= down
    net[:, :, 1:] += across
    net[:, :, :-1] -= across
    return net


def blurred(image: Tensor, mask: Tensor, width: float) -> Tensor:
    """A Gaussian over the pixels of a mask alone.

    Args:
        image: (C, h, w) float32.
        mask: (h, w) bool.
        width: standard deviation in pixels.

    Returns:
        (C, h, w) float32; 0 far from the mask.

    Example:
        >>> mask = torch.arange(8).expand(6, 8) < 4
        >>> blurred(torch.ones(3, 6, 8) * mask, mask, 1.0)[0, 3, ::7].round(decimals=1)
        tensor([1., 0.])
    """
    reach = ceil(2.5 * width)
    kernel = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * width**2))
    kernel /= kernel.sum()
    result = torch.zeros_like(image)
    if not bool(mask.any()):
        return result
    rows, columns = around_mask(mask, reach)
    near = mask[rows, columns]
    planes = torch.cat([image[:, rows, columns] * near, near[None].float()])[:, None]  # [C + 1, 1, h, w]
    planes = F.conv2d(planes, kernel.view(1, 1, -1, 1), padding=(reach, 0))
    planes = F.conv2d(planes, kernel.view(1, 1, 1, -1), padding=(0, reach))[:, 0]
    result[:, rows, columns] = planes[:-1] / planes[-1:].clamp(min=1e-4)
    return result


def around_mask(mask: Tensor, reach: int = 0) -> tuple[slice, slice]:
    """The rows and columns of a mask, and of so many pixels beside it.

    Args:
        mask: (h, w) bool, not empty.
        reach: in pixels.

    Example:
        >>> around_mask(torch.arange(8).expand(6, 8) == 3, 2)
        (slice(0, 8, None), slice(1, 6, None))
    """
    rows, columns = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
    return (
        slice(max(0, int(rows[0]) - reach), int(rows[-1]) + 1 + reach),
        slice(max(0, int(columns[0]) - reach), int(columns[-1]) + 1 + reach),
    )
