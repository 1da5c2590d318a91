"""Patches of a hole matched with patches of what is seen, coarse to fine, and the pixels that they stand for."""

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

RADIUS = 3
"""Of the patches that are compared, in pixels: they are 7 x 7."""

_DIMENSIONS = 16  # of a patch after projection on its principal components; more cost time and gain nothing
_SAMPLE = 3000  # patches from which the components are computed
_FEWEST = 12  # patches below which there is nothing to copy from
_MOST_SOURCES = 8000  # patches that are searched at a time; of more, a random sample
_MOST_SEARCHED = 1500  # pixels of a hole up to which all sources are searched; of larger levels matches are refined
_FAR = 1e3  # what no patch is like
_CHUNK = 2_000_000  # distances held at a time
_NEARBY = 0.5  # weight of the distance in the picture beside that of the colours
_PRICE = 0.5  # of a neighbour that copies from elsewhere, in mean distances
_REUSE = 0.4  # of a patch that is copied once more than its share, in mean distances
_FREE, _CROWDED = 0.5, 3.5  # shares from which on, and up to which, that price rises
_AT_A_TIME = 128  # patches of a sparing search that do not know of one another's choice
_SWEEPS = 4
_FIRST_ROUNDS, _ROUNDS = 4, 2  # of matching and voting, at the coarsest level and at the others


@dataclass
class Sheet:
    """The pixels that may be copied.

    Args:
        pixels: (H, W, 3) uint8.
        usable: (H, W) bool; the sides are multiples of `scale`.
        places: (h, w, 2) float32 (y, x), where each block of `scale` pixels lies in the picture that is filled, in
            blocks.
        scale: side of a block.

    Example:
        >>> sheet = Sheet.of_picture(np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), bool), scale=2)
        >>> sheet.places.shape, sheet.places[1, 2]
        (torch.Size([2, 3, 2]), tensor([1., 2.]))
    """

    pixels: npt.NDArray[np.uint8]
    usable: BoolArray
    places: Tensor
    scale: int = 1

    __repr__ = short_repr

    @classmethod
    def of_picture(cls, pixels: npt.NDArray[np.uint8], usable: BoolArray, scale: int = 1) -> "Sheet":
        """The pixels of the picture that is filled."""
        sides = [torch.arange(side // scale, dtype=torch.float32) for side in usable.shape]
        return cls(pixels, usable, torch.stack(torch.meshgrid(*sides, indexing="ij"), -1), scale)

    def beside(self, other: "Sheet") -> "Sheet":
        """Both sheets as one."""
        height = max(len(self.usable), len(other.usable))
        pairs: list[tuple[Any, Any]] = [
            (self.pixels, other.pixels),
            (self.usable, other.usable),
            (self.places, other.places),
        ]
        heights = (height, height, height // self.scale)
        joined = [
            np.concatenate(
                [np.pad(part, [(0, high - len(part))] + [(0, 0)] * (part.ndim - 1)) for part in pair], axis=1
            )
            for pair, high in zip(pairs, heights, strict=True)
        ]
        return Sheet(joined[0], joined[1], torch.from_numpy(joined[2]), self.scale)


@dataclass
class Level:
    """One level of the pyramid: the picture that is filled, and the sheet. Planes are (h, w) bool.

    Args:
        image: (3, h, w) float32 in [0, 1]; the known pixels go on smoothly over the others.
        known: pixels that are compared.
        target: pixels to fill.
        sheet: (3, h', w') float32 in [0, 1]; likewise.
        usable: (h', w') bool.
        places: (h', w', 2) float32, in pixels of this level.

    Example:
        >>> mask = torch.ones(8, 8, dtype=torch.bool)
        >>> level = Level(torch.zeros(3, 8, 8), mask, ~mask, torch.zeros(3, 8, 8), mask, torch.zeros(8, 8, 2))
        >>> level.halved().image.shape
        torch.Size([3, 4, 4])
    """

    image: Tensor
    known: Tensor
    target: Tensor
    sheet: Tensor
    usable: Tensor
    places: Tensor

    __repr__ = short_repr

    def halved(self) -> "Level":
        """The next coarser level."""
        image, seen = _shrink(self.image, self.known)
        sheet, share = _shrink(self.sheet, self.usable)
        target = _pool(self.target.float()[None])[0] > 0
        places = _pool(self.places.permute(2, 0, 1))
        return Level(image, (seen > 0) & ~target, target, sheet, share >= 0.75, places.permute(1, 2, 0) / 2)


@dataclass
class Matches:
    """For every pixel near the hole the pixel of the sheet whose patch is most like its own.

    Args:
        index: (h, w) int64, flat index into the sheet.
        distance: (h, w) float32, mean square of the differences; 0 where nothing was matched.
        matched: (h, w) bool.
        image: (3, h, w) float32 in [0, 1], the picture with its hole filled by votes of the patches.

    Example:
        >>> index = torch.zeros(4, 4, dtype=torch.int64)
        >>> Matches(index, index.float(), index == 0, torch.zeros(3, 4, 4)).matched.all()
        tensor(True)
    """

    index: Tensor
    distance: Tensor
    matched: Tensor
    image: Tensor

    __repr__ = short_repr


def match(level: Level, generator: torch.Generator, *, sparing: bool = False) -> Matches | None:
    """Match the patches of a hole with those of a sheet, from coarse to fine.

    At each level every patch finds the most similar one of the sheet among all, and every pixel of the hole becomes the
    mean of what the patches that cover it stand for, weighted by how similar they are; both are repeated [W07]. Patches
    are compared by their principal components, and near ones are preferred. Deep inside of a large hole there is little
    to compare with but means of patches, which are most like a few flat ones: there a patch costs the more, the more
    often it is copied already (as in Kaspar et al., 2015).

    Args:
        level: the finest level.
        generator: of the random sample from which the components are computed.
        sparing: copy no patch much more often than others, as large holes need.

    Returns:
        The matches at that level, or None where the sheet has next to nothing to copy from.

    Example:
        >>> image, half = torch.rand(3, 32, 32), torch.arange(32).expand(32, 32) < 20
        >>> sheet = Sheet.of_picture(np.zeros((32, 32, 3), np.uint8), half.numpy())
        >>> found = match(
        ...     Level(image, half, ~half, image, half, sheet.places), torch.Generator().manual_seed(0)
        ... )
        >>> found.image.shape, bool((found.index[~half] % 32 < 20).all())
        (torch.Size([3, 32, 32]), True)
    """
    levels = [level]
    while min(levels[-1].target.shape) >= 8 * RADIUS and bool(_eroded(levels[-1].target).any()):
        coarser = levels[-1].halved()
        if int(coarser.usable.sum()) < 2 * _FEWEST:
            break
        levels.append(coarser)
    if int(level.usable.sum()) < _FEWEST:
        return None
    found: Matches | None = None
    for current in reversed(levels):
        found = _match_level(current, found, generator, last=current is level, sparing=sparing)
    return found


def _match_level(
    level: Level, coarser: Matches | None, generator: torch.Generator, *, last: bool, sparing: bool
) -> Matches:
    height, width = level.target.shape
    inside = level.known | level.target
    near = (F.max_pool2d(level.target.float()[None, None], 2 * RADIUS + 1, 1, RADIUS)[0, 0] > 0) & inside
    queries, usable = near.flatten().nonzero()[:, 0], level.usable.flatten().nonzero()[:, 0]
    mean, basis = _components(level.sheet, usable, generator)
    # A patch at the other end of the picture counts as if its colours were this much different.
    scale = _NEARBY * (level.sheet.var() * 3).sqrt() * RADIUS / max(height, width)
    features = torch.cat([_project_all(level.sheet, mean, basis), level.places.flatten(0, 1) * scale], 1)
    features[~level.usable.flatten()] = _FAR
    rows = torch.stack([queries // width, queries % width], 1).float() * scale
    searched = coarser is None or int(level.target.sum()) <= _MOST_SEARCHED
    if coarser is None:
        image, rounds = level.image, _FIRST_ROUNDS
        index, distance = torch.zeros(height * width, dtype=torch.int64), torch.zeros(height * width)
    else:
        index, distance = _finer(coarser, level)
        rounds = _ROUNDS if searched else 1
        image = _vote(level, index, distance, near, level.image, RADIUS if searched else 1)
    for number in range(rounds):
        wanted = torch.cat([_project(image, mean, basis, queries), rows], 1)
        if searched:
            sources = usable
            if len(usable) > _MOST_SOURCES:
                sources = usable[torch.randperm(len(usable), generator=generator)[:_MOST_SOURCES]]
            if sparing:
                first = coarser is None and number == 0
                _search_sparingly(level, queries, sources, wanted, features[sources], index, distance, generator, first)
            else:
                _search(queries, sources, wanted, features[sources], index, distance)
        else:
            distance[queries] = (features[index[queries]] - wanted).square().sum(1)
        _agree(level, queries, wanted, features, index, distance, near, jitter=not searched, sparing=sparing)
        if not (last and number == rounds - 1):
            image = _vote(level, index, distance, near, image, RADIUS if searched else 1)
    return Matches(index.view(height, width), distance.view(height, width), near, image)


def _search(
    queries: Tensor, sources: Tensor, wanted: Tensor, features: Tensor, index: Tensor, distance: Tensor
) -> None:
    """Find the nearest of all sources for each query; `index` and `distance` change."""
    squares = features.square().sum(1)
    step = max(1, _CHUNK // len(sources))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        least = torch.addmm(squares[None], wanted[part], features.T, alpha=-2).min(1)
        index[queries[part]] = sources[least.indices]
        distance[queries[part]] = (least.values + wanted[part].square().sum(1)).clamp_(min=0)


def _search_sparingly(
    level: Level,
    queries: Tensor,
    sources: Tensor,
    wanted: Tensor,
    features: Tensor,
    index: Tensor,
    distance: Tensor,
    generator: torch.Generator,
    first: bool,
) -> None:
    """Find near sources that few other queries use; `index` and `distance` change, and are read unless `first`."""
    squares = features.square().sum(1)
    uses = torch.zeros(level.usable.numel()) if first else _uses(level, index[queries])
    typical = None if first else distance[queries].mean()
    for part in torch.randperm(len(queries), generator=generator).split(_AT_A_TIME):
        apart = torch.addmm(squares[None], wanted[part], features.T, alpha=-2).add_(
            wanted[part].square().sum(1, keepdim=True)
        )
        if typical is None:
            typical = apart.min(1).values.mean()
        # What has a good match keeps it: only what matches nothing well may as well be spread.
        least = apart.min(1, keepdim=True).values.clamp(min=0).minimum(typical)
        best = (apart + _REUSE * least * _crowd(uses, level, len(queries))[sources]).argmin(1)
        if not first:
            uses -= _uses(level, index[queries[part]])
        index[queries[part]] = sources[best]
        distance[queries[part]] = apart.gather(1, best[:, None])[:, 0].clamp(min=0)
        uses += _uses(level, sources[best])


def _uses(level: Level, index: Tensor) -> Tensor:
    """How often each pixel of the sheet is named."""
    return torch.bincount(index, minlength=level.usable.numel()).float()


def _crowd(uses: Tensor, level: Level, count: int) -> Tensor:
    """How much more often than its share each patch of the sheet is copied, its neighbours with it."""
    share = max(1.0, count / int(level.usable.sum()))  # what is copied in one piece is copied once
    uses = F.avg_pool2d(uses.view(1, 1, *level.usable.shape), 2 * RADIUS + 1, 1, RADIUS).flatten()
    return (uses / share).clamp(_FREE, _CROWDED) - _FREE


def _agree(
    level: Level,
    queries: Tensor,
    wanted: Tensor,
    features: Tensor,
    index: Tensor,
    distance: Tensor,
    near: Tensor,
    *,
    jitter: bool,
    sparing: bool,
) -> None:
    """Let neighbours copy from neighbours, where that costs little: what is copied in one piece looks like the photo.

    Each pixel in turn of the two colours of a chessboard takes over the shift of one of its neighbours where the
    distance and the number of neighbours of another shift are less together; with `jitter` also its own shift, moved by
    a pixel, as matches of a coarser level need; with `sparing` what others copy costs more. `index` and `distance`
    change.
    """
    height, width = level.target.shape
    rows, columns = level.usable.shape
    y, x = queries // width, queries % width
    typical = distance[queries].mean().clamp(min=1e-6)
    price = _PRICE * typical
    steps = [(0, 1), (0, -1), (1, 0), (-1, 0)]
    beside, there = [], []
    for dy, dx in steps:
        inside = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        place = (y + dy).clamp(0, height - 1) * width + (x + dx).clamp(0, width - 1)
        beside.append(place)
        there.append(inside & near.flatten()[place])
    colour = (y + x) % 2
    for sweep in range(2 * _SWEEPS):
        chosen = (colour == sweep % 2).nonzero()[:, 0]
        own = index[queries[chosen]]
        candidates = [own]
        for (dy, dx), place, valid in zip(steps, beside, there, strict=True):
            found = index[place[chosen]]
            cy, cx = found // columns - dy, found % columns - dx
            valid = valid[chosen] & (cy >= 0) & (cy < rows) & (cx >= 0) & (cx < columns)
            candidates.append(torch.where(valid, cy * columns + cx, -1))
            if jitter and sweep < 2:
                cy, cx = own // columns + dy, own % columns + dx
                valid = (cy >= 0) & (cy < rows) & (cx >= 0) & (cx < columns)
                candidates.append(torch.where(valid, cy * columns + cx, -1))
        step = 2 if jitter and sweep < 2 else 1
        shifts = torch.stack(candidates, 1)  # [n, 5], or [n, 9] with the moved ones between
        open_ones = ((shifts != own[:, None]) & (shifts >= 0)).any(1).nonzero()[:, 0]  # most soon agree
        chosen, shifts = chosen[open_ones], shifts[open_ones]
        apart = (features[shifts.clamp(min=0)] - wanted[chosen, None]).square().sum(2)
        others = (shifts[:, :, None] != shifts[:, None, 1::step]).sum(2)
        costs = apart + price * others
        if sparing:
            crowd = _crowd(_uses(level, index[queries]), level, len(queries))
            costs += _REUSE * typical * crowd[shifts.clamp(min=0)]
        best = torch.where(shifts >= 0, costs, torch.inf).argmin(1, keepdim=True)
        index[queries[chosen]] = shifts.gather(1, best)[:, 0]
        distance[queries[chosen]] = apart.gather(1, best)[:, 0]


def _vote(level: Level, index: Tensor, distance: Tensor, near: Tensor, image: Tensor, reach: int) -> Tensor:
    """The picture with each pixel of the hole as the mean of what the patches around it say."""
    height, width = level.target.shape
    rows, columns = level.usable.shape
    weights = torch.zeros(height * width)
    chosen = near.flatten()
    spread = torch.quantile(distance[chosen][:100_000], 0.75).clamp(min=1e-6)
    weights[chosen] = torch.exp(-distance[chosen] / (2 * spread)) + 1e-6
    targets = level.target.flatten().nonzero()[:, 0]
    shifts = torch.stack(torch.meshgrid(*[torch.arange(-reach, reach + 1)] * 2, indexing="ij"), -1).view(-1, 2)
    y = (targets // width)[:, None] + shifts[:, 0]  # [T, 49]
    x = (targets % width)[:, None] + shifts[:, 1]
    allowed = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    centres = y.clamp_(0, height - 1) * width + x.clamp_(0, width - 1)
    y, x = index[centres] // columns - shifts[:, 0], index[centres] % columns - shifts[:, 1]
    allowed &= (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    pixels = y.clamp_(0, rows - 1) * columns + x.clamp_(0, columns - 1)
    votes = weights[centres] * (allowed & level.usable.flatten()[pixels])
    total = votes.sum(1, keepdim=True)
    colours = (level.sheet.flatten(1).T[pixels] * (votes / total.clamp(min=1e-12))[..., None]).sum(1)  # [T, 3]
    filled = image.flatten(1).clone()
    filled[:, targets] = torch.where(total > 0, colours, filled[:, targets].T).T
    return filled.view_as(image)


def _finer(coarser: Matches, level: Level) -> tuple[Tensor, Tensor]:
    """Matches of the next coarser level at the pixels of this one."""
    height, width = level.target.shape
    rows, columns = level.usable.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    index = coarser.index[y // 2, x // 2]
    wide = ceil(columns / 2)
    found = (index // wide * 2 + y % 2).clamp_(max=rows - 1) * columns + (index % wide * 2 + x % 2).clamp_(
        max=columns - 1
    )
    return found.flatten(), coarser.distance[y // 2, x // 2].flatten()


def _components(sheet: Tensor, sources: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean (1, 147) and principal components (147, d) of the patches of a sheet."""
    some = sources
    if len(sources) > _SAMPLE:
        some = sources[torch.randint(len(sources), (_SAMPLE,), generator=generator)]
    patches = _patches(sheet, some)
    mean = patches.mean(0, keepdim=True)
    patches = patches - mean
    return mean, torch.linalg.eigh(patches.T @ patches).eigenvectors[:, -_DIMENSIONS:]


def _project_all(image: Tensor, mean: Tensor, basis: Tensor) -> Tensor:
    """(h * w, d) components of the patches around all pixels."""
    size = 2 * RADIUS + 1
    kernels = basis.T.reshape(-1, 3, size, size)
    padded = F.pad(image[None], (RADIUS,) * 4, mode="replicate")
    return F.conv2d(padded, kernels, -(mean @ basis)[0])[0].flatten(1).T.contiguous()


def _project(image: Tensor, mean: Tensor, basis: Tensor, chosen: Tensor) -> Tensor:
    """(n, d) components of the patches around some pixels."""
    return (_patches(image, chosen) - mean) @ basis


def _patches(image: Tensor, chosen: Tensor) -> Tensor:
    """(n, 147) the patches around some pixels."""
    _, height, width = image.shape
    padded = F.pad(image[None], (RADIUS,) * 4, mode="replicate")[0]
    y, x = chosen // width, chosen % width
    reach = torch.arange(2 * RADIUS + 1)
    window = (y[:, None, None] + reach[:, None]) * padded.shape[2] + x[:, None, None] + reach
    return padded.flatten(1)[:, window].permute(1, 0, 2, 3).flatten(1)


def _pool(planes: Tensor) -> Tensor:
    return F.avg_pool2d(planes[None], 2, ceil_mode=True, count_include_pad=False)[0]


def _shrink(planes: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the pixels of a mask, or over all where there are none, and their share, at half the size."""
    weights = mask.float()[None].clamp(min=1e-6)
    share = _pool(weights)
    return _pool(planes * weights) / share, _pool(mask.float()[None])[0]


def _eroded(mask: Tensor) -> Tensor:
    return F.max_pool2d(1 - mask.float()[None, None], 3, 1, 1)[0, 0] == 0
