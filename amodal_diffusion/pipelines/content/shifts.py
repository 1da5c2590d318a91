"""Holes covered with shifted copies of what is seen: which shifts, and where the seams between them run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ...display import short_repr
from ...masks import BoolArray, dilate, mask_pixels
from ...models.pull_push import pull_push
from .lines import Line, draw_lines

RADIUS = 3
"""Of the patches that are compared, in pixels: they are 7 x 7. So wide is the rim where copies meet the photo."""

_DIMENSIONS = 16  # of a patch after projection on its principal components; more cost time and gain nothing
_SAMPLE = 1500  # patches from which the components are computed
_NOTHING = 1e-9  # is added to their spread: of one colour it would be rounding errors, in which no solver finds axes
_FEWEST = 12  # patches below which there is nothing to copy from
MOST_NODES = 2000
"""Pixels of the level at which shifts are chosen; the time for a hole follows them."""

_QUERIES, _SOURCES = 0.25, 2.5  # patches for each of them that are matched to find the dominant shifts
_MOST_SHIFTS = 24  # dominant ones
_MOST_LEVEL = 8  # to either side alone
_MOST_MORE = 12  # others, for what these do not reach
_DRAWS = 128  # from which each of them is chosen
_NEAR = 6  # of the hole's side, were it a square: a shift by less than this share tells nothing
_COLOURS = 0.5  # weight of differences of colours, where those of edges have 1
_SWEEPS = 2  # of messages between all nodes
_SEAM_STEPS = 8
_AROUND = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))  # those beside a pixel come first
_CUTS = np.array([2**0.5 - 1] * 4 + [1 - 0.5**0.5] * 4, np.float32)
"""Weight of each of these pairs, with which a seam of any direction costs about its length, and corners are cut."""

_PRICE = 0.04  # of a seam, for each pair of neighbours, in variances of the colours that may be copied
_TONE = 0.15  # weight of the distance from the colours that go on smoothly
_TONE_BESIDE = 0.5  # likewise, where the colours are those beside a line
_AWAY = 0.5  # of a shift by the whole width, in such variances
_THING = 2.0  # of a pixel of a thing, likewise
DOWN = 2.0
"""How many times as much as a shift across one down or up by as many pixels costs."""

_GUIDED = 2  # weight of a pixel on a line that goes on across the hole, where one of the photo beside it has 1
_MOST_ALONG = 10  # shifts along such lines, in place of as many dominant ones
_PARTS = 10  # of a line's length, by some of which the shifts along it go
_NEVER = 10.0  # of a copy from what may not be copied; squared distances of colours are below 3


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
        guide: (h, w) float32 in [0, 1], how far the picture is known in the hole, too: along lines. None: nowhere.
        things: (h', w') float32 in [0, 1], how much of each pixel of the sheet is a thing: dear. None: nothing.

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
    guide: Tensor | None = None
    things: Tensor | None = None

    __repr__ = short_repr

    def halved(self) -> "Level":
        """The next coarser level."""
        image, seen = _shrink(self.image, self.known)
        sheet, share = _shrink(self.sheet, self.usable)
        target = _pool(self.target.float()[None])[0] > 0
        places = _pool(self.places.permute(2, 0, 1))
        guide, things = (None if plane is None else _pool(plane[None])[0] for plane in (self.guide, self.things))
        return Level(
            image, (seen > 0) & ~target, target, sheet, share >= 0.75, places.permute(1, 2, 0) / 2, guide, things
        )

    def with_lines(self, lines: Sequence[Line]) -> "Level":
        """Straight edges go on across the hole, with their colours on both sides, and other colours between them.

        Open ones are the fainter the further they go.
        """
        colours, drawn = draw_lines(lines, self.target.numpy())
        if not drawn.any():
            return self
        guide = torch.from_numpy(drawn)
        image = torch.where(guide > 0, torch.from_numpy(colours), self.image)
        smooth = pull_push(image[None], torch.maximum(guide, self.known.float())[None, None])[0]
        return replace(self, image=torch.where(self.target & (guide < 1), smooth, image), guide=guide)

    def weights(self) -> Tensor:
        """(h, w) float32, how much of a difference between the picture and a copy counts."""
        beside = (~self.target).float()
        return beside if self.guide is None else beside + _GUIDED * self.guide * self.target

    def tone_weights(self) -> Tensor:
        """(h, w) float32, likewise of the mean colours."""
        weights = _TONE * self.target
        if self.guide is None:
            return weights
        beside = dilate(self.guide, kernel="square", size=4 * RADIUS + 1)
        return weights + (_TONE_BESIDE - _TONE) * beside * self.target


@dataclass
class Matches:
    """For every pixel in and near the hole the pixel of the sheet that is copied there.

    Args:
        index: (h, w) int64, flat index into the sheet.
        matched: (h, w) bool, where it holds.

    Example:
        >>> index = torch.zeros(4, 4, dtype=torch.int64)
        >>> Matches(index, index == 0)
        Matches(index=int64 (4, 4), matched=bool (4, 4))
    """

    index: Tensor
    matched: Tensor

    __repr__ = short_repr


def match(
    level: Level,
    generator: torch.Generator,
    nodes: int = MOST_NODES,
    down: float = DOWN,
    lines: Sequence[Line] = (),
) -> Matches | None:
    """Cover a hole with few large copies of what is seen, each shifted to where it continues the photo.

    Patches of a picture resemble others at few shifts, along which its texture and its straight edges go on [He and
    Sun, "Statistics of Patch Offsets for Image Completion", 2012]. These dominant shifts are found at a coarse level.
    Each pixel then gets the one with which copies differ least from the photo in a rim around the hole, and from one
    another along their seams [Pritch et al., "Shift-Map Image Editing", 2009], by belief propagation. At finer levels
    copies move by a pixel and seams move to where they show least.

    Args:
        level: the finest level.
        generator: of random samples.
        nodes: pixels of the level at which shifts are chosen, at most.
        down: how many times as much as a shift across one down or up by as many pixels costs, but along lines.
        lines: straight edges that go on across the hole, in pixels of the finest level; see `Level.with_lines`.

    Returns:
        The matches at that level, or None where the sheet has next to nothing to copy from.

    Example:
        >>> image, half = torch.rand(3, 32, 32), torch.arange(32).expand(32, 32) < 20
        >>> sheet = Sheet.of_picture(np.zeros((32, 32, 3), np.uint8), half.numpy())
        >>> found = match(Level(image, half, ~half, image, half, sheet.places), torch.Generator().manual_seed(0))
        >>> found.index.shape, bool((found.index[~half] % 32 < 20).all())
        (torch.Size([32, 32]), True)
    """
    levels = [level]
    while int(_nodes(levels[-1]).sum()) > nodes and min(levels[-1].target.shape) >= 8 * RADIUS:
        coarser = levels[-1].halved()
        if int(coarser.usable.sum()) < 2 * _FEWEST:
            break
        levels.append(coarser)
    if int(level.usable.sum()) < _FEWEST:
        return None
    near, coarse = _nodes(levels[-1]), [line.scaled(0.5 ** (len(levels) - 1)) for line in lines]
    chosen = _choose(levels[-1], near, *_candidates(levels[-1], near, generator, nodes, coarse), down)
    shifts = torch.zeros(*near.shape, 2, dtype=torch.int64)
    shifts[near] = _move_seams(levels[-1], near, chosen)
    for current in reversed(levels[:-1]):
        shifts = _finer(shifts, near, current.target.shape)
        near = _nodes(current)
        shifts[near] = _move_seams(current, near, _move_copies(current, near, shifts[near]))
    y, x = near.nonzero(as_tuple=True)
    index = torch.zeros(near.shape, dtype=torch.int64)
    index[near] = _sources(level, y, x, shifts[near])[0]
    return Matches(index, near)


def _nodes(level: Level) -> Tensor:
    """(h, w) bool, the pixels that get a shift: the hole, and a rim where copies are compared with the photo."""
    return _grown(level.target, RADIUS) & (level.known | level.target)


def _grown(mask: Tensor, radius: int) -> Tensor:
    return dilate(mask, kernel="square", size=2 * radius + 1)


def _sources(level: Level, y: Tensor, x: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Flat indices into the sheet of pixels (y, x) shifted by (..., 2), the nearest ones within it; whether usable."""
    rows, columns = level.usable.shape
    y, x = y + shifts[..., 0], x + shifts[..., 1]
    inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    index = y.clamp(0, rows - 1) * columns + x.clamp(0, columns - 1)
    return index, inside & level.usable.flatten()[index]


def _spread(level: Level) -> float:
    """The variance of the colours that may be copied."""
    return max(1e-4, float(level.sheet[:, level.usable].var(1).sum()))


def _detail(planes: Tensor) -> Tensor:
    """(h * w, 9), the colours of each pixel and their differences to the next ones: seams follow edges.

    Colours count less: by those the copies are joined later on.
    """
    across = F.pad(planes[:, :, 1:] - planes[:, :, :-1], (0, 1))
    down = F.pad(planes[:, 1:] - planes[:, :-1], (0, 0, 0, 1))
    return torch.cat([_COLOURS * planes, across, down]).flatten(1).T.contiguous()


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """(..., C), rows of a table (n, C): what indexing gives, several times faster."""
    return table.index_select(0, index.flatten()).view(*index.shape, table.shape[1])


def _mean(planes: Tensor) -> Tensor:
    """(h * w, 3), the mean colours around each pixel."""
    size = 2 * RADIUS + 1
    return F.avg_pool2d(planes[None], size, 1, RADIUS, count_include_pad=False)[0].flatten(1).T.contiguous()


def _candidates(
    level: Level, near: Tensor, generator: torch.Generator, nodes: int, lines: Sequence[Line]
) -> tuple[Tensor, Tensor]:
    """(K, 2) shifts: the dominant ones, those to either side and along lines, and more where these bring nothing.

    And (K,) bool, which of them go along lines.
    """
    (height, width), (rows, columns) = level.target.shape, level.usable.shape
    y, x = near.nonzero(as_tuple=True)
    counts = torch.zeros(rows + height, columns + width)
    side = int(level.target.sum()) ** 0.5
    beside = _grown(level.target, 2 * RADIUS + 1) & level.known & ~near
    sources = _sample(level.usable, round(_SOURCES * nodes), generator)
    patches = _patches(level.sheet, sources)
    mean, basis = _components(patches, generator)
    features = patches @ basis - mean @ basis
    for queries in (beside, level.known & ~near):
        some = _sample(queries, round(_QUERIES * nodes), generator)
        wanted = _patches(level.image, some) @ basis - mean @ basis
        found = _similar(level, some, wanted, sources, features, round(side / _NEAR))
        if len(found):
            code = (found[:, 0] + height) * counts.shape[1] + found[:, 1] + width
            counts += torch.bincount(code, minlength=counts.numel()).view_as(counts) / len(found)
    # Highest where the votes are, not anywhere within a pixel of them.
    counts = F.conv2d(counts[None, None], torch.tensor([[[[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]]]) / 16, padding=1)[0, 0]
    peaks = (counts > 0) & (counts == F.max_pool2d(counts[None, None], 5, 1, 2)[0, 0])
    best = counts[peaks].argsort(descending=True, stable=True)[: 4 * _MOST_SHIFTS]
    shifts = peaks.nonzero()[best] - torch.tensor([height, width])
    y, x = level.target.nonzero(as_tuple=True)
    reached = _sources(level, y[:, None], x[:, None], shifts)[1].float()  # [T, K]
    along = _line_shifts(level, lines)
    kept = (counts[peaks][best] * (0.05 + reached.mean(0))).argsort(descending=True, stable=True)
    shifts = shifts[kept[: _MOST_SHIFTS - len(along)]]
    shifts = torch.cat([shifts, along, _level_shifts(level, near, round(side / _NEAR))]).unique(dim=0)
    missed = ~_sources(level, y[:, None], x[:, None], shifts)[1].any(1)
    sources, mean, smooth = level.usable.nonzero(), _mean(level.sheet), level.image.flatten(1).T
    for _ in range(_MOST_MORE):
        y, x = y[missed], x[missed]
        if not len(y):
            break
        ends = [torch.randint(len(part), (_DRAWS,), generator=generator) for part in (sources, y)]
        drawn = sources[ends[0]] - torch.stack([y, x], 1)[ends[1]]
        index, usable = _sources(level, y[:, None], x[:, None], drawn)
        apart = (_rows(mean, index) - smooth[y * width + x][:, None]).square().sum(2) / _spread(level)
        best = (usable / (0.1 + apart)).sum(0).argmax()
        shifts, missed = torch.cat([shifts, drawn[best][None]]), ~usable[:, best]
    return shifts, (shifts[:, None] == along).all(2).any(1)


def _level_shifts(level: Level, near: Tensor, least: int) -> Tensor:
    """(k, 2) shifts to either side alone, which suit the rim: what lies at the same height often goes on so."""
    (y, x), width = near.nonzero(as_tuple=True), near.shape[1]
    rim = ~level.target[y, x]
    across = torch.arange(-width + 1, width)
    far = across.abs() >= max(1, least)
    shifts = F.pad(across[far][:, None], (1, 0))
    # All shifts of a pixel are a piece of a row.
    pieces = F.pad(level.usable, (width - 1, width - 1)).unfold(1, 2 * width - 1, 1).numpy()  # a view
    usable = torch.from_numpy(pieces[y.numpy(), x.numpy()])[:, far]  # [n, S]
    sheet = F.pad(level.sheet[None], (width - 1, width - 1, 0, 0), mode="replicate")[0].permute(1, 2, 0)
    rows = sheet.unfold(1, 2 * width - 1, 1).numpy()  # [h, w, 3, S]
    copies = torch.from_numpy(rows[y[rim].numpy(), x[rim].numpy()])[:, :, far]  # [n, 3, S]
    photo = level.image[:, y[rim], x[rim]].T[:, :, None]
    misfit = (copies - photo).square().sum(1) / _spread(level)
    there = usable[rim].float()
    suits = 1 / (0.1 + (misfit * there).sum(0) / there.sum(0).clamp(min=1))
    return shifts[_best_together(usable[~rim] * suits, _MOST_LEVEL)]


def _line_shifts(level: Level, lines: Sequence[Line]) -> Tensor:
    """(k, 2) shifts along straight edges, by about as much as the hole is wide there or a part of it."""
    if not lines:
        return torch.zeros(0, 2, dtype=torch.int64)
    colours, drawn = (torch.from_numpy(planes) for planes in draw_lines(lines, level.target.numpy()))
    image = torch.where(drawn > 0, colours, level.image)
    y, x = drawn.nonzero(as_tuple=True)
    direction = torch.tensor([line.direction for line in lines])
    length = torch.tensor([line.length for line in lines]) + 2 * RADIUS
    parts = torch.arange(-_PARTS, _PARTS + 1) / _PARTS
    shifts = (length[:, None, None] * parts[:, None] * direction[:, None]).round().long().flatten(0, 1).unique(dim=0)
    shifts = shifts[shifts.abs().amax(1) > RADIUS]
    index, usable = _sources(level, y[:, None], x[:, None], shifts)
    wanted = _detail(image)[y * level.target.shape[1] + x]
    misfit = (_rows(_detail(level.sheet), index) - wanted[:, None]).square().sum(2)
    suits = usable * drawn[y, x][:, None] / (0.1 + misfit / _spread(level))
    return shifts[_best_together(suits, _MOST_ALONG)]


def _best_together(suits: Tensor, most: int) -> list[int]:
    """Which shifts do best together, by how well each suits each pixel, (T, S), 0 where it does not reach.

    Each next one reaches what those before it do not, or suits better there.
    """
    chosen: list[int] = []
    best = torch.zeros(len(suits))
    for _ in range(min(most, suits.shape[1])):
        more = (suits - best[:, None]).clamp_(min=0).sum(0)
        index = int(more.argmax())
        if not more[index] > 0:
            break
        chosen.append(index)
        best = torch.maximum(best, suits[:, index])
    return chosen


def _sample(mask: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Flat indices of some pixels of a mask."""
    found = mask.flatten().nonzero()[:, 0]
    return found if len(found) <= most else found[torch.randperm(len(found), generator=generator)[:most]]


def _similar(level: Level, queries: Tensor, wanted: Tensor, sources: Tensor, features: Tensor, least: int) -> Tensor:
    """(n, 2) shifts from some patches of the picture to those of the sheet that are most like them, none near.

    `wanted` (q, d) and `features` (s, d) say how the patches around `queries` and `sources` look.
    """
    count, width, columns = len(sources), level.target.shape[1], level.usable.shape[1]
    apart = torch.addmm(features.square().sum(1)[None], wanted, features.T, alpha=-2).numpy()
    y, x, down, across = (place.numpy() for flat, wide in ((queries, width), (sources, columns))
                          for place in (flat // wide, flat % wide))  # fmt: skip
    # Those within a square around each: a few of many, looked up where they lie.
    reach = max(RADIUS, least) - 1
    table = np.full(np.maximum(level.target.shape, level.usable.shape) + 2 * reach, count)
    table[down + reach, across + reach] = np.arange(count)
    steps = np.arange(2 * reach + 1)
    near = table[y[:, None, None] + steps[:, None], x[:, None, None] + steps].reshape(len(y), steps.size**2)
    rows, places = mask_pixels(near < count)
    apart[rows, near[rows, places]] = np.inf
    best = apart.argmin(1)
    found = np.stack([down[best] - y, across[best] - x], 1)[apart[np.arange(len(y)), best] < np.inf]
    return torch.from_numpy(found)


def _choose(level: Level, near: Tensor, shifts: Tensor, along: Tensor, down: float) -> Tensor:
    """(n, 2) the shift of each node; which ones are wanted at all is found on every second row and column."""
    y, x = near.nonzero(as_tuple=True)
    index, usable = _sources(level, y[:, None], x[:, None], shifts)  # [n, K]
    copies, spread, place = _rows(_detail(level.sheet), index), _spread(level), y * near.shape[1] + x
    misfit = (copies - _detail(level.image)[place][:, None]).square().sum(2)
    tone = (_rows(_mean(level.sheet), index) - level.image.flatten(1).T[place][:, None]).square().sum(2)
    away = (_rows(level.places.flatten(0, 1), index) - torch.stack([y, x], 1)[:, None]).abs() / max(near.shape)
    costs = level.weights()[y, x][:, None] * misfit + level.tone_weights()[y, x][:, None] * tone
    away[..., 0] *= torch.where(along, 1, down)  # where a line leads to is as near as what is beside
    costs += _AWAY * spread * away.sum(2)
    if level.things is not None:
        costs += _THING * spread * level.target[y, x][:, None] * level.things.flatten()[index]
    costs[~usable] = _NEVER
    some = torch.from_numpy(_numbered(near)[::2, ::2])[near[::2, ::2]]
    if len(some) >= _FEWEST:
        # Seams weigh half: a quarter of the pixels is left, and half of those along a seam.
        best = _propagate(near[::2, ::2], costs[some], copies[some], _PRICE * spread, 1, 0.5)
        missed = (costs[:, np.unique(best)] >= _NEVER).all(1)
        kept = np.unique(np.concatenate([best, costs[missed].argmin(1).numpy()]))
        shifts, costs, copies = shifts[kept], costs[:, kept], copies[:, kept]
    return shifts[_propagate(near, costs, copies, _PRICE * spread, _SWEEPS)]


def _propagate(
    near: Tensor, costs: Tensor, copies: Tensor, price: float, sweeps: int, weight: float = 1
) -> npt.NDArray[np.int64]:
    """The number of the shift of each node, by min-sum belief propagation along rows and columns.

    Args:
        near: (h, w) bool, the n nodes.
        costs: (n, K) float32 of each shift.
        copies: (n, K, C) float32, what each node shows with it.
        price: of a seam, for each pair of neighbours.
        sweeps: of messages, to and fro, along rows and then along columns.
        weight: of seams, their price and how far copies differ there.

    Returns:
        (n,)
    """
    table, (count, shifts) = _numbered(near), costs.shape
    squares = copies.square().sum(2)
    seams = torch.baddbmm(squares[:, :, None] + squares[:, None], copies, copies.mT, alpha=-2)  # [n, K, K]
    seams += price / 2 * (1 - torch.eye(shifts))
    seams *= weight
    rows, columns = (slice(int(places.min()), int(places.max()) + 1) for places in near.nonzero(as_tuple=True))
    known, joints = costs.numpy(), np.ascontiguousarray(seams.numpy().swapaxes(0, 1))  # [n, K], [K, n, K]
    pairs = [_pairs(lines, count) for lines in (table[rows, columns].T, table[rows, columns])]  # across and down
    prices = [joints.take(first, axis=1) for first, _, _ in pairs]  # [K, P, K]
    for joint, (_, second, _) in zip(prices, pairs, strict=True):
        joint += joints.take(second, axis=1)
    messages = np.zeros((2, 2, count, shifts), np.float32)  # across and down, forth and back
    for _ in range(sweeps):
        for way, (joint, (first, second, ends)) in enumerate(zip(prices, pairs, strict=True)):
            belief = known + messages[1 - way].sum(0)
            for told, sent, got, order in ((messages[way, 0], first, second, 1), (messages[way, 1], second, first, -1)):
                believed = belief.take(sent, axis=0)
                for start, stop in ends[::order]:
                    said = believed[start:stop] + told.take(sent[start:stop], axis=0)
                    told[got[start:stop]] = np.minimum.reduce(joint[:, start:stop] + said.T[:, :, None], axis=0)
                told -= told.min(axis=1, keepdims=True)
    found: npt.NDArray[np.int64] = (known + messages.sum((0, 1))).argmin(1)
    return found


def _numbered(near: Tensor) -> npt.NDArray[np.int64]:
    """(h, w), the number of each node; beyond them, how many there are."""
    table = np.full(near.shape, int(near.sum()))
    table[near.numpy()] = np.arange(int(near.sum()))
    return table


def _pairs(
    lines: npt.NDArray[np.int64], count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[tuple[int, int]]]:
    """Neighbours in a table of nodes, those of the first two lines first; nodes of the number `count` are none.

    Returns:
        The one in the earlier line (P,) and the one in the later line (P,) of each pair; for each line but the last,
        where its pairs begin and end.
    """
    there = (lines[:-1] < count) & (lines[1:] < count)
    ends = pairwise([0, *np.cumsum(there.sum(axis=1)).tolist()])
    return lines[:-1][there], lines[1:][there], list(ends)


def _kinds(shifts: Tensor) -> tuple[Tensor, Tensor]:
    """The shifts (K, 2) that are among many (n, 2), and the number of each (n,)."""
    least = shifts.amin(0)
    wide = int(shifts[:, 1].amax() - least[1]) + 1
    codes, kind = ((shifts[:, 0] - least[0]) * wide + shifts[:, 1] - least[1]).unique(return_inverse=True)
    return torch.stack([codes // wide, codes % wide], 1) + least, kind


def _move_copies(level: Level, near: Tensor, shifts: Tensor) -> Tensor:
    """(n, 2) shifts, each moved by up to a pixel to where its copy meets the photo best."""
    y, x = near.nonzero(as_tuple=True)
    kinds, kind = _kinds(shifts)
    moves = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))
    index, usable = _sources(level, y[:, None], x[:, None], shifts[:, None] + moves)  # [n, 9]
    weights = level.weights()[y, x]
    rim = weights > 0
    there = _detail(level.image)[(y * near.shape[1] + x)[rim]]
    costs = _NEVER * ~usable
    misfit = (_rows(_detail(level.sheet), index[rim]) - there[:, None]).square().sum(2)
    costs[rim] += weights[rim][:, None] * misfit
    costs = torch.zeros(len(kinds), len(moves)).index_add_(0, kind, costs)
    costs[:, len(moves) // 2] *= 0.98  # no move without reason
    return (kinds + moves[costs.argmin(1)])[kind]


def _move_seams(level: Level, near: Tensor, shifts: Tensor) -> Tensor:
    """(n, 2) shifts: along the seams pixels take those of neighbours, where the seam shows less then.

    Every second pixel of every second row changes at a time: no two of them are neighbours.
    """
    y, x = near.nonzero(as_tuple=True)
    count, (height, width) = len(y), near.shape
    kinds, kind = _kinds(shifts)
    sources, usable = (part.numpy() for part in _sources(level, y[:, None], x[:, None], kinds))  # [n, K]
    sheet, photo = _detail(level.sheet).numpy(), _detail(level.image)[y * width + x].numpy()
    rim, price = level.weights()[y, x].numpy(), np.float32(_PRICE * _spread(level))
    nodes = np.full((height + 2, width + 2), count)
    nodes[1:-1, 1:-1][near.numpy()] = np.arange(count)
    down, across = (place.numpy() + 1 for place in (y, x))
    beside = np.stack([nodes[down + dy, across + dx] for dy, dx in _AROUND], 1)  # [n, 8]
    cuts = (beside < count) * _CUTS
    beside = np.where(cuts > 0, beside, np.arange(count)[:, None])
    chosen, turn, waiting = kind.numpy().copy(), down % 2 + 2 * (across % 2), np.ones(count, bool)
    for step in range(_SEAM_STEPS):
        part = np.flatnonzero(waiting & (turn == step % 4))
        part = part[(chosen[beside[part, :4]] != chosen[part, None]).any(1)]
        waiting[turn == step % 4] = False  # until one beside it changes
        around, own = beside[part], chosen[part, None]
        given = chosen[around]  # [m, 8]
        offered = np.concatenate([own, given[:, :4]], 1)  # [m, 5]
        here = sheet.take(sources[part[:, None], offered], axis=0)  # [m, 5, 9]
        costs = _squares(here - photo[part][:, None]) * rim[part][:, None]
        costs += np.float32(_NEVER) * ~usable[part[:, None], offered]
        # What the shift of each neighbour shows here, and what each shift shows there.
        beyond = sheet.take(sources[part[:, None], given], axis=0)  # [m, 8, 9]
        there_now = sheet.take(sources[around, given], axis=0)  # [m, 8, 9]
        there_then = sheet.take(sources[around[:, :, None], offered[:, None]], axis=0)  # [m, 8, 5, 9]
        apart = _squares(here[:, None] - beyond[:, :, None]) + _squares(there_then - there_now[:, :, None])
        other = (offered[:, None] != given[:, :, None]) * cuts[part][:, :, None]
        costs += ((apart + price) * other).sum(1)
        found = offered[np.arange(len(part)), costs.argmin(1)]
        waiting[beside[part[found != chosen[part]]]] = True
        chosen[part] = found
    return kinds[torch.from_numpy(chosen)]


def _squares(differences: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Sums of squares along the last axis."""
    found: npt.NDArray[np.float32] = np.einsum("...i,...i->...", differences, differences)
    return found


def _finer(shifts: Tensor, near: Tensor, size: Sequence[int]) -> Tensor:
    """(h, w, 2) shifts at the next finer level; beyond the nodes, those of the nodes beside."""
    shifts, near = F.pad(shifts, (0, 0, 1, 1, 1, 1)), F.pad(near, (1, 1, 1, 1))
    for step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        moved = near.roll(step, (0, 1)) & ~near
        shifts = torch.where(moved[..., None], shifts.roll(step, (0, 1)), shifts)
        near = near | moved
    y, x = (torch.arange(side) // 2 + 1 for side in size)
    return 2 * shifts[y][:, x]


def _components(patches: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The mean (147,) and the principal components (147, d) of patches (n, 147)."""
    if len(patches) > _SAMPLE:
        patches = patches[torch.randint(len(patches), (_SAMPLE,), generator=generator)]
    mean = patches.mean(0)
    patches = patches - mean
    spread = patches.T @ patches
    spread.diagonal().add_(_NOTHING)
    return mean, torch.linalg.eigh(spread).eigenvectors[:, -_DIMENSIONS:]


def _patches(image: Tensor, chosen: Tensor) -> Tensor:
    """(n, 147) the patches around some pixels."""
    size, width = 2 * RADIUS + 1, image.shape[2]
    padded = F.pad(image[None], (RADIUS,) * 4, mode="replicate")[0].permute(1, 2, 0).contiguous()  # [H, W, 3]
    rows = padded.flatten(1).unfold(1, 3 * size, 3).unfold(0, size, 1)  # [h, w, 21, 7], a view
    return torch.from_numpy(rows.numpy()[(chosen // width).numpy(), (chosen % width).numpy()]).flatten(1)


def _pool(planes: Tensor) -> Tensor:
    return F.avg_pool2d(planes[None], 2, ceil_mode=True, count_include_pad=False)[0]


def _shrink(planes: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the pixels of a mask, or over all where there are none, and their share, at half the size."""
    weights = mask.float()[None].clamp(min=1e-6)
    share = _pool(weights)
    return _pool(planes * weights) / share, _pool(mask.float()[None])[0]
