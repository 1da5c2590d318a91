"""Straight edges that a hole hides a piece of: where a line comes out on the other side, or how far it may go on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import numpy.typing as npt

from ...display import short_repr
from ...masks import BoolArray, block_sums, dilate, mask_pixels

_MOST_PIXELS = 50_000  # of a photo, in which lines are sought
_LEAST_STEP = 0.02  # difference of neighbours, of colours in [0, 1], from which on a pixel may lie on an edge
_MOST_STEP = 0.2  # that counts
_STRONG = 0.7  # of such differences in the picture, the share that is below those of edges
_ANGLES = 180  # directions that are told apart, of the full circle: the darker side is to the left
_SPREAD = 4  # directions to each side of its own that a pixel on an edge votes for
_TURN = np.cos(10 * np.pi / _ANGLES)  # at most, by which a line is turned to fit its pixels
_FITS = 2
_MOST_PEAKS = 40  # lines that are looked at
_REACH = 16  # pixels on each side of the hole over which an edge is followed
_LEAST_LENGTH = 5  # of them
_LEAST_OPEN = 10  # likewise, where it is seen on one side alone
_OPEN_REACH = 2  # times as far as it is seen, such an edge is thought to go on
_LEAST_FRAMED = 14  # likewise, where the hole goes on to the frame
_MOST_FRAMED = 80  # pixels of such a hole
_LEVEL = 0.35  # most that such a line falls, by pixel
_SUPPORT = 0.7  # share of the pixels over which an edge is followed that lie on it
_LEAST_GAP = 3  # pixels of the hole on the line
_ALIKE = 0.5  # of the edge's contrast, within which the colours on both sides of it stay
_SAME = 1.5  # pixels between lines that are one edge
_MOST_LINES = 8
WIDTH = 6
"""Pixels on each side of a line that are known with it."""


@dataclass
class Line:
    """A straight edge across a hole.

    Args:
        start: (y, x), where it goes into the hole.
        stop: (y, x), where it comes out.
        strength: contrast, and how well it is seen on both sides.
        profiles: (2, 2 * WIDTH + 1, 3) float32 in [0, 1], colours across it, from its right to its left as seen by who
            goes from start to stop, before the hole and after it.
        unit: how far apart the colours of a profile lie, in pixels.
        open: it is seen on one side alone, before `start`, and counts the less the nearer to `stop`.
        framed: likewise, but it goes on to the frame, and counts as much there.

    Example:
        >>> line = Line((0.0, 3.0), (4.0, 3.0), 0.5, np.zeros((2, 13, 3), np.float32))
        >>> line.direction, line.length, line.moved(1, 0).scaled(2).stop
        ((1.0, 0.0), 4.0, (10.5, 6.5))
    """

    start: tuple[float, float]
    stop: tuple[float, float]
    strength: float
    profiles: npt.NDArray[np.float32]
    unit: float = 1.0
    open: bool = False
    framed: bool = False

    __repr__ = short_repr

    @property
    def length(self) -> float:
        """In pixels, from start to stop."""
        return float(np.hypot(self.stop[0] - self.start[0], self.stop[1] - self.start[1]))

    @property
    def direction(self) -> tuple[float, float]:
        """(dy, dx) of length 1, from start to stop."""
        length = max(self.length, 1e-6)
        return (self.stop[0] - self.start[0]) / length, (self.stop[1] - self.start[1]) / length

    def moved(self, y: float, x: float) -> "Line":
        """The same, further down and to the right."""
        (top, left), (bottom, right) = self.start, self.stop
        return replace(self, start=(top + y, left + x), stop=(bottom + y, right + x))

    def scaled(self, scale: float) -> "Line":
        """The same in a picture that is so many times as large; pixels lie at their middles."""
        start, stop = ((scale * (y + 0.5) - 0.5, scale * (x + 0.5) - 0.5) for y, x in (self.start, self.stop))
        return replace(self, start=start, stop=stop, unit=scale * self.unit)


def photo_lines(
    photo: npt.NDArray[np.uint8], known: BoolArray, target: BoolArray, *, through: bool = False
) -> list[Line]:
    """`find_lines` in a photo (H, W, 3) uint8 that is looked at with at most some 50,000 pixels; masks (H, W) bool.

    Example:
        >>> photo, target = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), bool)
        >>> photo[20:], target[10:30, 20:40] = 128, True
        >>> [round(line.length) for line in photo_lines(photo, ~target, target)]
        [19]
    """
    step = max(1, ceil((target.size / _MOST_PIXELS) ** 0.5))
    height, width = (side // step * step for side in target.shape)
    counts, hidden = (block_sums(mask[:height, :width], step) for mask in (known, target))
    if not hidden.any():
        return []
    sums = block_sums(photo[:height, :width], step).astype(np.float32)
    image = np.ascontiguousarray(sums.transpose(2, 0, 1)) / np.float32(255 * step**2)
    found = find_lines(image, counts == step**2, hidden > 0, through=through)
    return [line.scaled(step) for line in found]


def find_lines(
    image: npt.NDArray[np.float32], known: BoolArray, target: BoolArray, *, through: bool = False
) -> list[Line]:
    """Straight edges that are seen on two sides of a hole, the strongest first, then those seen on one; none cross.

    Pixels on edges vote for lines [Duda and Hart, "Use of the Hough Transformation to Detect Lines and Curves", 1972],
    in the directions of their own edges. A line counts where it is an edge on both sides of the hole up to its border,
    with the same colours on its left and right. Where the hole goes on to the frame one side is enough, if it is seen
    longer and is about level, as horizons and the feet of walls are. What is seen long enough on one side goes on into
    the hole for twice as far, but may end before that.

    Args:
        image: (3, h, w) in [0, 1].
        known: (h, w) bool, the pixels that are looked at.
        target: (h, w) bool, the hole.
        through: seek those alone that are seen on both sides.

    Example:
        >>> image = np.zeros((3, 40, 60), np.float32)
        >>> image[:, 20:] = 0.5
        >>> target = np.zeros((40, 60), bool)
        >>> target[10:30, 20:40] = True
        >>> [line] = find_lines(image, ~target, target)
        >>> [round(value, 1) for value in (*line.start, *line.stop)]
        [19.5, 39.0, 19.5, 20.0]
    """
    edges = _Edges(image, known)
    if not len(edges.y):
        return []
    found: list[Line] = []
    for angle, offset in edges.peaks(target, through):
        lines = edges.crossings(angle, offset, target)
        found += [line for line in lines if not (through and (line.open or line.framed))]
    found.sort(key=lambda line: (line.open, -line.strength))
    chosen: list[Line] = []
    for line in found:
        if sum(other.open == line.open for other in chosen) < _MOST_LINES and not any(
            _clash(line, other) for other in chosen
        ):
            chosen.append(line)
    return chosen


class _Edges:
    """The pixels of a picture that lie on edges: thinned, with their directions."""

    def __init__(self, image: npt.NDArray[np.float32], known: BoolArray) -> None:
        self.image, self.known = image, known
        self.y = self.x = np.zeros(0, np.int64)
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
        # Means over three pixels along the edge make its direction steady.
        down = (padded[:, 2:] - padded[:, :-2]) / 2
        across = (padded[:, :, 2:] - padded[:, :, :-2]) / 2
        down = (2 * down[:, :, 1:-1] + down[:, :, :-2] + down[:, :, 2:]) / 4
        across = (2 * across[:, 1:-1] + across[:, :-2] + across[:, 2:]) / 4
        inside = ~dilate(~known, kernel="square", size=3)
        # The direction in which the colours differ most (Di Zenzo), from dark to light.
        xx, yy, xy = ((one * other).sum(0) for one, other in ((across, across), (down, down), (across, down)))
        angle = np.arctan2(2 * xy, xx - yy) / 2
        size = np.sqrt((xx + yy + np.hypot(xx - yy, 2 * xy)) / 2)
        lighter = np.cos(angle) * across.sum(0) + np.sin(angle) * down.sum(0)
        angle = np.where(lighter < 0, angle + np.pi, angle)
        if not inside.any():
            return
        size = np.where(inside, size, 0)
        least = max(_LEAST_STEP, float(np.quantile(size[inside], _STRONG)))
        step_y, step_x = np.rint(np.sin(angle)).astype(np.int64), np.rint(np.cos(angle)).astype(np.int64)
        rows, columns = np.ogrid[: known.shape[0], : known.shape[1]]
        before = size[(rows - step_y).clip(0, len(size) - 1), (columns - step_x).clip(0, size.shape[1] - 1)]
        after = size[(rows + step_y).clip(0, len(size) - 1), (columns + step_x).clip(0, size.shape[1] - 1)]
        beside = dilate(~known, kernel="square", size=2 * (_REACH + WIDTH) + 1)
        self.y, self.x = mask_pixels(inside & beside & (size >= least) & (size >= before) & (size >= after))
        self.angle, self.step = angle[self.y, self.x], size[self.y, self.x]
        self.sine, self.cosine = np.sin(self.angle), np.cos(self.angle)
        # Where between the pixels the edge lies, by a parabola through three of its steps.
        before, after = before[self.y, self.x], after[self.y, self.x]
        moved = (after - before) / np.maximum(2 * (2 * self.step - before - after), 1e-6)
        stretch = moved.clip(-0.5, 0.5) * np.maximum(np.abs(step_y), np.abs(step_x))[self.y, self.x]
        self.points = np.stack(
            [self.y + stretch * step_y[self.y, self.x], self.x + stretch * step_x[self.y, self.x]], 1
        )

    def peaks(self, target: BoolArray, through: bool) -> list[tuple[float, float]]:
        """(angle, offset) of the lines with most votes that cross the hole: x * cos + y * sin = offset.

        `through`: and with something known on both sides of it.
        """
        turns = np.rint(self.angle / (2 * np.pi) * _ANGLES).astype(np.int64)[:, None] + np.arange(-_SPREAD, _SPREAD + 1)
        angles = 2 * np.pi * np.arange(_ANGLES) / _ANGLES
        turns %= _ANGLES
        reach = sum(self.known.shape)
        offsets = np.rint(self.x[:, None] * np.cos(angles)[turns] + self.y[:, None] * np.sin(angles)[turns])
        wide = 2 * reach + 3
        code = turns * wide + offsets.astype(np.int64) + reach + 1
        votes = np.minimum(self.step, _MOST_STEP)[:, None].repeat(code.shape[1], 1)
        counts = np.bincount(code.ravel(), votes.ravel(), _ANGLES * wide).reshape(_ANGLES, wide)
        beside = counts[:, 1:-1]
        highest = (beside > 0) & (beside >= counts[:, :-2]) & (beside >= counts[:, 2:])
        for step in (1, -1):
            highest &= (beside >= np.roll(beside, step, 0)) & (beside > 0)
        turn, offset = mask_pixels(highest)
        best = np.argsort(-beside[turn, offset], kind="stable")[:_MOST_PEAKS]
        angle, distance = angles[turn[best]], (offset[best] - reach).astype(np.float64)
        steps = np.arange(-reach, reach + 1, _LEAST_GAP)
        y = np.rint(distance[:, None] * np.sin(angle)[:, None] + np.cos(angle)[:, None] * steps).astype(np.int64)
        x = np.rint(distance[:, None] * np.cos(angle)[:, None] - np.sin(angle)[:, None] * steps).astype(np.int64)
        inside = (y >= 0) & (y < target.shape[0]) & (x >= 0) & (x < target.shape[1])
        hidden = inside & target[y * inside, x * inside]
        crossed = hidden.any(1)
        if through:
            seen = inside & self.known[y * inside, x * inside]
            first, last = hidden.argmax(1), hidden.shape[1] - hidden[:, ::-1].argmax(1)
            columns = np.arange(hidden.shape[1])
            crossed &= (seen & (columns < first[:, None])).any(1) & (seen & (columns >= last[:, None])).any(1)
        return list(zip(angle[crossed].tolist(), distance[crossed].tolist(), strict=True))

    def crossings(self, angle: float, offset: float, target: BoolArray) -> list[Line]:
        """Where a line crosses the hole and is an edge on both sides of it, or goes into it from one side."""
        height, width = target.shape
        normal = np.array([np.sin(angle), np.cos(angle)])  # (y, x)
        normal, offset = self._fitted(normal, offset, self._supporters(normal, offset))
        near = self._supporters(normal, offset)
        if np.count_nonzero(near) < 2 * _LEAST_LENGTH:
            return []
        along = np.array([normal[1], -normal[0]])
        reach = height + width
        steps = np.arange(-reach, reach + 1)
        places = offset * normal + steps[:, None] * along
        rounded = np.rint(places).astype(np.int64)
        inside = ((rounded >= 0) & (rounded < (height, width))).all(1)
        steps, places, rounded = steps[inside], places[inside], rounded[inside]
        if len(steps) < 3:
            return []
        hidden = ~self.known[rounded[:, 0], rounded[:, 1]]
        wanted = target[rounded[:, 0], rounded[:, 1]]
        there = np.zeros(len(steps), bool)
        marks = (np.rint(np.stack([self.y, self.x], 1) @ along).astype(np.int64) - steps[0]).clip(0, len(there) - 1)
        for step in (-1, 0, 1):
            there[(marks[near] + step).clip(0, len(there) - 1)] = True
        found = []
        ends = np.flatnonzero(np.diff(np.pad(hidden, 1).astype(np.int8)))
        for first, last in zip(ends[::2], ends[1::2], strict=True):  # hidden from first to last - 1
            if np.count_nonzero(wanted[first:last]) < _LEAST_GAP:
                continue
            sides = [
                np.arange(first - 1, max(first - 1 - _REACH, -1), -1),
                np.arange(last, min(last + _REACH, len(steps))),
            ]
            parts = [self._followed(side, there, hidden) for side in sides]
            framed = first == 0 or last == len(steps)  # it goes on to the frame
            seen, once = parts, framed and abs(along[0]) <= _LEVEL and last - first <= _MOST_FRAMED
            if once:
                parts = [max(parts, key=len)] * 2
            contrast, alike = 0.0, False
            if min(map(len, parts)) >= (_LEAST_FRAMED if framed else _LEAST_LENGTH):
                contrast, alike = _compared([self._colours(places[part], normal) for part in parts])
            if alike:
                finer, distance, exact = self._finer(normal, offset, np.concatenate(parts), marks, near)
                shown = min(map(len, parts)) / _REACH * exact
                begin, end = (_moved_to(place, finer, distance) for place in places[[first, last - 1]])
                profiles = np.stack([self._profile(places[part], normal) for part in parts])
                if once and first == 0:  # from where it is seen
                    begin, end, profiles = end, begin, profiles[::-1, ::-1]
                found.append(Line(begin, end, float(np.sqrt(contrast * shown)), profiles, framed=once))
                continue
            ways = [(part, way) for part, way in zip(seen, (1, -1), strict=True) if len(part) >= _LEAST_OPEN]
            for part, way in ways:
                contrast, distinct = _compared([self._colours(places[part], normal)])
                if not distinct:
                    continue
                gap = last - first if len(ways) == 1 else (last - first) // 2 - _LEAST_GAP  # they end apart
                length = min(gap, _OPEN_REACH * len(part)) - 1
                if length < 1:
                    continue
                start = first if way == 1 else last - 1
                finer, distance, exact = self._finer(normal, offset, part, marks, near)
                begin, end = (_moved_to(places[step], finer, distance) for step in (start, start + way * length))
                profiles = self._profile(places[part], normal)[None, ::way].repeat(2, axis=0)
                strength = float(np.sqrt(contrast * len(part) / _REACH * exact))
                found.append(Line(begin, end, strength, profiles, open=True))
        return found

    def _finer(
        self, normal: npt.NDArray[np.float64], offset: float, steps: npt.NDArray[np.int64],
        marks: npt.NDArray[np.int64], near: BoolArray,
    ) -> tuple[npt.NDArray[np.float64], float, float]:  # fmt: skip
        """A line fitted to what is seen of it at some steps, and the share of these that lie on it exactly."""
        beside = np.zeros(marks.max() + steps.max() + 1, bool)
        beside[steps] = True
        here, finer, distance = beside[marks], normal, offset
        for _ in range(_FITS):
            finer, distance = self._fitted(finer, distance, self._supporters(finer, distance) & here)
        exact = np.abs(self.points[here & near] @ finer - distance) < 0.5
        return finer, distance, min(1.0, np.count_nonzero(exact) / np.count_nonzero(beside))

    def _fitted(
        self, normal: npt.NDArray[np.float64], offset: float, near: BoolArray
    ) -> tuple[npt.NDArray[np.float64], float]:
        """A line that votes know by a pixel and two degrees, fitted to some pixels that lie on it."""
        points = self.points[near]
        if len(points) < 2:
            return normal, offset
        middle = points.mean(0)
        least = np.linalg.eigh((points - middle).T @ (points - middle))[1][:, 0]
        fitted = least * np.sign(least @ normal)
        return (fitted, float(fitted @ middle)) if fitted @ normal > _TURN else (normal, offset)

    def _supporters(self, normal: npt.NDArray[np.float64], offset: float) -> BoolArray:
        """The pixels that lie on a line, with about its direction."""
        away = np.abs(self.y * normal[0] + self.x * normal[1] - offset)
        turned = self.sine * normal[0] + self.cosine * normal[1]
        near: BoolArray = (away <= 1) & (turned > np.cos((_SPREAD + 1) * 2 * np.pi / _ANGLES))
        return near

    def _followed(self, side: npt.NDArray[np.int64], there: BoolArray, hidden: BoolArray) -> npt.NDArray[np.int64]:
        """The steps beside a gap, the nearest first, as far as they lie on the edge."""
        seen = np.flatnonzero(hidden[side])
        side = side[: seen[0]] if len(seen) else side
        # Right beside the hole colours are mixed, and gradients unknown.
        side = side[1:]
        shares = np.cumsum(there[side]) / np.arange(1, len(side) + 1)
        enough = np.flatnonzero(shares >= _SUPPORT)
        return side[: enough[-1] + 1] if len(enough) else side[:0]

    def _colours(
        self, places: npt.NDArray[np.float64], normal: npt.NDArray[np.float64]
    ) -> list[npt.NDArray[np.float32]]:
        """Means (3,) on the darker and on the lighter side of some places on the line, NaN where nothing is seen."""
        means = []
        for side in (-2, 2):
            y, x = np.rint(places + side * normal).astype(np.int64).T
            y, x = y.clip(0, self.known.shape[0] - 1), x.clip(0, self.known.shape[1] - 1)
            shown = self.known[y, x]
            means.append(self.image[:, y[shown], x[shown]].mean(1) if shown.any() else np.full(3, np.nan, np.float32))
        return means

    def _profile(self, places: npt.NDArray[np.float64], normal: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """(2 * WIDTH + 1, 3) mean colours along the line, at so many distances from it."""
        across = np.arange(-WIDTH, WIDTH + 1)
        y, x = np.rint(places[:, None] + across[:, None] * normal).astype(np.int64).transpose(2, 0, 1)
        y, x = y.clip(0, self.known.shape[0] - 1), x.clip(0, self.known.shape[1] - 1)
        shown = self.known[y, x][..., None]
        counts = shown.sum(0)
        means = (self.image[:, y, x].transpose(1, 2, 0) * shown).sum(0) / np.maximum(counts, 1)
        for side in (-1, 1):  # what no place shows is as the next one nearer to the line
            for step in range(1, WIDTH + 1):
                if not counts[WIDTH + side * step]:
                    means[WIDTH + side * step] = means[WIDTH + side * (step - 1)]
        return means.astype(np.float32)


def draw_lines(lines: Sequence[Line], target: BoolArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The colours along lines in a hole, between those on both sides of it.

    Args:
        lines: the strongest first.
        target: (h, w) bool, the hole.

    Returns:
        (3, h, w) float32, and (h, w) float32 in [0, 1], which pixels hold them: 1, but for open lines, where it falls
        along the line.

    Example:
        >>> profile = np.linspace(0, 1, 2 * WIDTH + 1, dtype=np.float32)[:, None].repeat(3, axis=1)
        >>> line = Line((7.0, 0.0), (7.0, 9.0), 0.5, np.stack([profile, profile]))
        >>> colours, drawn = draw_lines([line], np.ones((16, 10), bool))
        >>> int(drawn[:, 5].sum()), colours[0, [1, 4, 7, 10, 13], 5]
        (13, array([1.  , 0.75, 0.5 , 0.25, 0.  ], dtype=float32))
    """
    colours, drawn = np.zeros((3, *target.shape), np.float32), np.zeros(target.shape, np.float32)
    y, x = mask_pixels(target)
    for line in lines:
        dy, dx = line.direction
        along = (y - line.start[0]) * dy + (x - line.start[1]) * dx
        away = ((x - line.start[1]) * dy - (y - line.start[0]) * dx) / line.unit
        near = (np.abs(away) <= WIDTH) & (along >= -0.5) & (along <= line.length + 0.5) & (drawn[y, x] == 0)
        share = (along[near] / max(line.length, 1e-6)).clip(0, 1)[:, None].astype(np.float32)
        low = np.floor(away[near]).astype(np.int64).clip(-WIDTH, WIDTH - 1) + WIDTH
        rest = (away[near] + WIDTH - low)[:, None].astype(np.float32)
        before, after = ((1 - rest) * profile[low] + rest * profile[low + 1] for profile in line.profiles)
        colours[:, y[near], x[near]] = ((1 - share) * before + share * after).T
        drawn[y[near], x[near]] = np.maximum(1 - share[:, 0], 0.01) if line.open else 1
    return colours, drawn


def _moved_to(place: npt.NDArray[np.float64], normal: npt.NDArray[np.float64], offset: float) -> tuple[float, float]:
    """The place on a line that is nearest to another one."""
    y, x = place - (place @ normal - offset) * normal
    return float(y), float(x)


def _compared(colours: Sequence[Sequence[npt.NDArray[np.float32]]]) -> tuple[float, bool]:
    """The least contrast of an edge, squared, and whether it is one, with the same colours on all sides of a hole.

    Args:
        colours: of its dark and its light side (3,), NaN where they are not seen, for each side of the hole.
    """
    sides = np.array(colours)  # [S, 2, 3]
    contrast = float(np.square(sides[:, 1] - sides[:, 0]).sum(axis=1).min())
    apart = float(np.square(sides - sides[0]).sum(axis=2).max())
    return contrast, contrast >= (2 * _LEAST_STEP) ** 2 and apart <= _ALIKE * contrast


def _clash(line: Line, other: Line) -> bool:
    """They cross, or are one edge: nearly the same, or with an end in common."""
    (a, b), (c, d) = ((np.array(each.start), np.array(each.stop)) for each in (line, other))
    sides = [_side(a, b, c), _side(a, b, d), _side(c, d, a), _side(c, d, b)]
    if sides[0] * sides[1] < 0 and sides[2] * sides[3] < 0:
        return True
    if min(np.hypot(*(one - two)) for one in (a, b) for two in (c, d)) < 2 * _SAME:
        return True
    along = sorted(float((end - a) @ np.array(line.direction)) for end in (c, d))
    together = along[0] < line.length and along[1] > 0
    return together and (max(map(abs, sides[:2])) < _SAME or max(map(abs, sides[2:])) < _SAME)


def _side(start: npt.NDArray[np.float64], stop: npt.NDArray[np.float64], point: npt.NDArray[np.float64]) -> float:
    """The distance of a point from the line through two others, with its sign."""
    along, to = stop - start, point - start
    return float((along[0] * to[1] - along[1] * to[0]) / max(float(np.hypot(*along)), 1e-6))
