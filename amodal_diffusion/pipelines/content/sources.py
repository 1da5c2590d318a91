"""Which pixels may be copied into which hole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import ceil

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...display import short_repr
from ...masks import BoolArray, block_sums, dilate, erode, label_parts, mask_boxes, mask_pixels
from ..strays import strayed, strayed_step
from .exemplar import MOST_PIXELS, Source, fill_hole
from .fillers import choose_filler
from .inputs import ContentScene, window
from .lines import Line, photo_lines
from .materials import like_beside
from .shifts import DOWN, MOST_NODES, RADIUS

_MIXED = 0.1  # share of what hides a hole in the colours beside it that is seen
_OVERSHOT = 0.25  # likewise, away from its colours, as sharpening leaves it
_RIM_SAMPLE = 250  # pixels of a rim that are looked at
_PLENTY = 2.0  # pixels of an object for each of its hidden part, above which nothing else is copied
_MOST_SIBLINGS = 2
_RIM = 2  # pixels beside a hole that are not copied into the background
_PARTS_SIDE = 160  # longer side in blocks of the hole, when its parts are told apart
_FEWEST_OF = 0.25  # of the most nodes and pixels, for a part, however small
_LEAST_PART = 0.2  # of the hole's pixels, of a part that is filled on its own: the time must not follow their number
_SMALL_PLACE = 0.1  # likewise, of the place of an object
_ENCLOSED = 0.5  # share of a place's border that lies in a larger one, from which on they are filled as one
_DOWN = 4.0  # in place of `DOWN`, for backgrounds, where ground, wall and sky lie above one another
_OUTLINE, _UNIT = 4, 640  # width in pixels of an outline that is not copied, where the photo is so large
_AMID = 10  # pixels at that size beside a hole that say whether it lies amid things
_LOOKED = 24  # pixels at that size of an edge that say whether it is a thing's
_MOST_AMID = 0.5  # share of them that are things, from which on it does
_LEAST_INNER = 0.6  # share of what is seen that lies within
_STRUCTURE = 2  # straight edges through the hidden part of an object, from which on they go on there
_BESIDE_LINES = 40  # pixels at that size beside a hole, in which straight edges are sought
_FEWEST = 200  # visible pixels of another object that are worth a look


@dataclass
class Hole:
    """A hole in a window of a photo, and what may be copied into it.

    Args:
        photo: (h, w, 3) uint8, the window.
        hole: (h, w) bool, the pixels to fill.
        known: (h, w) bool, the pixels beside which the filling must fit.
        usable: (h, w) bool, the pixels that may be copied.
        window: rows and columns in the photo.
        others: what may be copied from elsewhere, too.
        textured: the filler of "auto" where there is texture to copy.
        share: of all that is filled, by which the time that it may take is measured.
        down: see `match`.
        materials: colours go on as those of a few materials, see `fill_hole`.
        textures: (h, w) bool, the pixels whose texture says which filler suits; None: those that may be copied.
        lines: straight edges that go on across the hole, in pixels of the window.
        things: (h, w) bool, which are not copied where something else will do, but into parts that lie amid things.

    Example:
        >>> photo, hole = np.full((40, 40, 3), 9, np.uint8), np.zeros((40, 40), bool)
        >>> hole[10:12, 10] = True
        >>> (place,) = background_holes(photo, [hole], None, None, margin=1)
        >>> place.suiting_filler(None), place.fill("exemplar")[10, 10]
        ('smooth', array([9, 9, 9], dtype=uint8))
    """

    photo: npt.NDArray[np.uint8]
    hole: BoolArray
    known: BoolArray
    usable: BoolArray
    window: tuple[slice, slice]
    others: list[Source] = field(default_factory=list)
    textured: str = "blend"
    share: float = 1.0
    down: float = DOWN
    materials: bool = False
    textures: BoolArray | None = None
    lines: list[Line] = field(default_factory=list)
    things: BoolArray | None = None

    __repr__ = short_repr

    def suiting_filler(self, network: str | None) -> str:
        """See `choose_filler`."""
        textures = self.usable if self.textures is None else self.textures
        return choose_filler(self.photo, self.hole, textures, network, self.textured)

    def fill(
        self,
        filler: str,
        low: Tensor | None = None,
        generator: torch.Generator | None = None,
        out: npt.NDArray[np.uint8] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """(h, w, 3) uint8, the window with its hole filled; see `fill_hole`.

        Large parts of the hole that lie apart are filled one by one: each has its own surroundings. `out` may be the
        photo itself, which saves a copy of it.
        """
        total, filled = np.count_nonzero(self.hole), self.photo.copy() if out is None else out
        for part in parts_apart(self.hole, _LEAST_PART / self.share):
            share = self.share * np.count_nonzero(part) / total
            usable, around, dear = self.usable, self.usable, self.things
            if filler == "smooth":
                usable, around, dear = np.zeros_like(self.usable), self.known, None
            elif dear is not None and amid_things(usable, dear, part):
                dear = None
            where = rows, columns = window_besides(part, around, dear)
            fill_hole(
                self.photo[where],
                part[where],
                self.known[where],
                usable[where],
                others=[other.seen_from(rows.start, columns.start) for other in self.others if filler != "smooth"],
                blend=filler != "exemplar",
                low=None if low is None else low[:, rows, columns],
                generator=generator,
                most=_limited(MOST_PIXELS, self.share),
                nodes=_limited(MOST_NODES, share),
                down=self.down,
                materials=self.materials,
                lines=[line.moved(-rows.start, -columns.start) for line in self.lines],
                things=None if dear is None else dear[where],
                out=filled[where],
            )
        return filled


def _limited(most: int, share: float) -> int:
    """How much of `most` goes for a share of all that is filled; several parts take little more time than two."""
    return round(most * min(max(2 * share, _FEWEST_OF), 1))


def parts_apart(hole: BoolArray, least: float = _LEAST_PART) -> Iterator[BoolArray]:
    """The large parts of a hole that lie apart, and what is left as one.

    Args:
        hole: (H, W) bool.
        least: share of its pixels from which on a part is large.

    Yields:
        (H, W) bool, not empty; each pixel is in one of them.

    Example:
        >>> hole = np.zeros((40, 60), bool)
        >>> hole[5:25, 5:25] = hole[5:25, 35:55] = hole[30, 30] = True
        >>> [int(part.sum()) for part in parts_apart(hole)]
        [400, 400, 1]
    """
    step = max(1, ceil(max(hole.shape) / _PARTS_SIDE))
    counts = block_sums(hole, step)
    labels = label_parts(counts > 0)
    sizes = np.bincount(labels.ravel(), counts.ravel())
    rest = labels > 0
    _, first = np.unique(labels, return_index=True)
    for label in labels.ravel()[np.sort(first)]:
        if label and sizes[label] >= least * counts.sum():
            found = labels == label
            rest &= ~found
            yield _enlarged(found, step, hole)
    if rest.any():
        yield _enlarged(rest, step, hole)


def _enlarged(blocks: BoolArray, step: int, hole: BoolArray) -> BoolArray:
    """The pixels of the hole that lie in some blocks."""
    return blocks.repeat(step, axis=0).repeat(step, axis=1)[: hole.shape[0], : hole.shape[1]] & hole


def object_hole(scene: ContentScene, index: int, margin: int, *, clean_seams: bool = False) -> Hole:
    """The hidden part of an object, and what may be copied there.

    That is its own visible part; where this is smaller than twice the hidden one, also its mirror image, and other
    objects of the same name. Nothing else is copied. Straight edges that are seen of it on both sides of the hidden
    part go on across it where there are several, as of slats and frames: a single one may be a fold or a sleeve.

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
        >>> hole.hole[0, 17:22].astype(int), hole.usable[1, 16:21].astype(int)
        (array([0, 0, 0, 1, 1]), array([1, 1, 1, 0, 0]))
    """
    modal, hidden = scene.modal[index], scene.amodal[index] & ~scene.modal[index]
    if not modal.any():  # painted from its surroundings
        rows, columns = search_window(hidden, ~hidden)
        known = ~scene.erased(index, rows, columns, everything=True)
        wanted = hidden[rows, columns]
        return Hole(scene.photo[rows, columns], wanted, known, np.zeros_like(wanted), (rows, columns))
    rows, columns = search_window(hidden, modal)
    photo, modal, wanted = scene.photo[rows, columns], modal[rows, columns], hidden[rows, columns]
    rim = 0 if clean_seams else mixed_rim(photo, wanted, modal, margin)
    hole = wanted | (modal & dilate(wanted, kernel="square", size=2 * rim + 1))
    known = modal & ~hole
    if not known.any():
        hole, known = wanted, modal
    known, inner = unmixed(scene, index, (rows, columns), known, hole)
    textures = own_sources(inner, min(margin, 1))
    usable = like_beside(photo, hole, known, textures)
    place = Hole(photo, hole, known, usable, (rows, columns), materials=True, textures=textures)
    lines = _lines_beside(photo, known, hole, max(scene.photo.shape), through=True)
    if len(lines) >= _STRUCTURE:
        place.lines = lines
    if np.count_nonzero(usable) < _PLENTY * np.count_nonzero(hole):
        place.others = [_mirrored(photo, usable), *_siblings(scene, index, place, margin)]
    return place


def _lines_beside(
    photo: npt.NDArray[np.uint8], known: BoolArray, hole: BoolArray, side: int, *, through: bool = False
) -> list[Line]:
    """Straight edges close to a hole, which are seen the finer the smaller it is; see `find_lines`.

    `side` is the longer one of the whole photo, in pixels.
    """
    x, y, w, h = mask_boxes(hole[None])[0].tolist()
    reach = round(_BESIDE_LINES * max(1.0, side / _UNIT))
    top, left = max(0, y - reach), max(0, x - reach)
    where = slice(top, y + h + reach), slice(left, x + w + reach)
    return [line.moved(top, left) for line in photo_lines(photo[where], known[where], hole[where], through=through)]


def _mirrored(photo: npt.NDArray[np.uint8], usable: BoolArray) -> Source:
    """The visible part mirrored about its vertical axis, in its place."""
    columns = np.flatnonzero(usable.any(axis=0))
    # Column c of the mirrored window is column w - 1 - c of the window; the axis is the middle of what is usable.
    first = float(columns[0] + columns[-1] - usable.shape[1] + 1)
    return Source(photo[:, ::-1], usable[:, ::-1], (0.0, first), (1.0, 1.0))


def _siblings(scene: ContentScene, index: int, place: Hole, margin: int) -> list[Source]:
    """The largest visible parts of objects of the same name, laid over this one."""
    name = scene.names[index]
    others = [other for other, known in enumerate(scene.names) if name and known == name and other != index]
    areas = {other: np.count_nonzero(scene.modal[(other, *window(scene.boxes[other]))]) for other in others}
    found = []
    x, y, w, h = scene.boxes[index].tolist()
    for other in sorted(others, key=lambda one: -areas[one])[:_MOST_SIBLINGS]:
        if areas[other] < _FEWEST:
            continue
        where = window(scene.boxes[other])
        _, _, wide, high = scene.boxes[other].tolist()
        usable = own_sources(scene.modal[(other, *where)], margin)
        corner = (float(y - place.window[0].start), float(x - place.window[1].start))
        found.append(Source(scene.photo[where], usable, corner, (h / high, w / wide)))
    return found


def background_holes(
    photo: npt.NDArray[np.uint8],
    places: Sequence[BoolArray],
    unknown: BoolArray | None,
    avoid: BoolArray | None,
    margin: int,
    things: BoolArray | None = None,
) -> Iterator[Hole]:
    """The places of removed objects, in turn: what touches is filled one after the other, the larger first.

    What waits for its turn is neither known nor copied. So a place shows what goes on behind it, as if that object
    alone were removed, and nothing of the objects beside it shines into it. What is filled already is known, so that
    all places fit together, and is not copied either. Small places are filled together, and what is held before a
    larger one, with it. Straight edges are sought where everything is hidden: they go on behind several places.

    Args:
        photo: (H, W, 3) uint8, in which the caller fills each hole before the next one is asked for.
        places: (H, W) bool each; a pixel in several of them belongs to the largest.
        unknown: (H, W) bool, where the photo holds nothing, or None; one of the places.
        avoid: (H, W) bool, what must not be copied, or None.
        margin: width in pixels of the widest rim around the places that can be trimmed (`mixed_rim`).
        things: (H, W) bool, which are not copied where something else will do, see `amid_things`; None: nothing.

    Yields:
        Holes whose photos are windows of `photo`; none where all places are empty.

    Example:
        >>> photo, places = np.zeros((40, 40, 3), np.uint8), np.zeros((3, 40, 40), bool)
        >>> places[0, 5:15, 5:15] = places[1, 5:25, 15:30] = places[2, 30:40, :10] = True
        >>> [int(turn.hole.sum()) for turn in background_holes(photo, places, None, None, margin=0)]
        [400, 100]
    """
    hole: BoolArray = reduce(np.logical_or, places, np.zeros(photo.shape[:2], bool))
    if not hole.any():
        return
    rows, columns = search_window(hole, ~hole)
    beside = ~hole[rows, columns] if unknown is None else ~(hole | unknown)[rows, columns]
    removed = hole if unknown is None else hole & ~unknown  # beyond the frame is no object that has a rim
    rim = mixed_rim(photo[rows, columns], removed[rows, columns], beside, margin)
    wider = dilate(removed, kernel="square", size=2 * rim + 1)
    if unknown is not None:
        wider = hole | (wider & ~unknown)
    usable = ~wider if avoid is None else ~wider & ~dilate(avoid, kernel="square", size=3)
    # What is narrow between holes is rim: it shows them rather than what lies behind.
    inner = erode(usable, kernel="square", size=4 * _RIM + 1)
    usable = dilate(inner, kernel="square", size=2 * _RIM + 1) if inner.any() else usable
    turns, total = _turns(places, hole), np.count_nonzero(wider)
    lines, seen = [], ~wider if unknown is None else ~(wider | unknown)
    for part in parts_apart(wider):
        found = _lines_beside(photo, seen, part, max(part.shape))
        doubtful = [
            (line.open or (line.framed and things is not None)) and edge_of_thing(line, things) for line in found
        ]
        if any(doubtful) and (things is None or not amid_things(usable, things, part)):
            found = [line for line, left_out in zip(found, doubtful, strict=True) if not left_out]
        lines += found
    lines.sort(key=lambda line: (line.open, -line.strength))
    del hole, removed, beside, inner, seen  # a large photo has no room for what is not needed while holes are filled
    for number, turn in enumerate(turns):
        last = number == len(turns) - 1
        mine = wider if last else dilate(turn, kernel="square", size=2 * rim + 1) & wider
        if not mine.any():  # rims of others hold it
            continue
        wider = wider & ~mine
        where = rows, columns = window_besides(mine, usable, things)
        known = ~(mine | wider)[where]
        if not last:
            known &= ~dilate(wider[where], kernel="square", size=2 * _RIM + 1)
        share = np.count_nonzero(mine) / total
        yield Hole(
            photo[where], mine[where], known, usable[where], where, things=None if things is None else things[where],
            textured="exemplar", share=share, down=_DOWN,
            lines=[line.moved(-rows.start, -columns.start) for line in lines],
        )  # fmt: skip


def amid_things(usable: BoolArray, things: BoolArray, hole: BoolArray) -> bool:
    """Whether most of what lies beside a hole is things, such as the table below a cup, an umbrella or a crowd.

    Those go on behind the hole, and are copied into it as anything else. Elsewhere a thing would be seen twice.

    Args:
        usable: (H, W) bool, what may be copied.
        things: (H, W) bool.
        hole: (H, W) bool, not empty.

    Example:
        >>> hole, things = np.zeros((2, 40, 40), bool)
        >>> hole[10:20, 10:20] = things[:, 30:] = True
        >>> amid_things(~hole, things, hole), amid_things(~hole, ~hole, hole)
        (False, True)
    """
    step = max(1, max(hole.shape) // _UNIT)  # of the rows and columns that are looked at
    hole, usable, things = (plane[::step, ::step] for plane in (hole, usable, things))
    if not hole.any():  # between them
        return False
    reach = max(4 * _RIM, round(_AMID * max(hole.shape) / _UNIT))
    x, y, w, h = mask_boxes(hole[None])[0].tolist()
    where = (slice(max(0, y - reach), y + h + reach), slice(max(0, x - reach), x + w + reach))
    beside = dilate(hole[where], kernel="square", size=2 * reach + 1) & usable[where]
    return bool(np.count_nonzero(beside & things[where]) > _MOST_AMID * np.count_nonzero(beside))


def edge_of_thing(line: Line, things: BoolArray | None) -> bool:
    """Whether what is seen of a line on one side may be the edge of a thing, which ends, and not of the ground.

    Args:
        line: in pixels of the photo.
        things: (H, W) bool; None where nobody knows, and any edge may be one of a thing.

    Example:
        >>> things = np.zeros((20, 40), bool)
        >>> things[10:, :15] = True
        >>> line = Line((9.5, 15.0), (9.5, 30.0), 1.0, np.zeros((2, 13, 3), np.float32), open=True)
        >>> edge_of_thing(line, things), edge_of_thing(line, np.zeros_like(things))
        (True, False)
    """
    if things is None:
        return True
    scale = max(1.0, max(things.shape) / _UNIT)
    back, rim = np.arange(1, _LOOKED + 1) * scale, round(_RIM * scale)
    y, x = (
        np.rint(start - step * back).astype(np.int64).clip(0, side - 1)
        for start, step, side in zip(line.start, line.direction, things.shape, strict=True)
    )
    top, left = max(0, y.min() - rim), max(0, x.min() - rim)
    near = dilate(things[top : y.max() + rim + 1, left : x.max() + rim + 1], kernel="square", size=2 * rim + 1)
    return bool(2 * np.count_nonzero(near[y - top, x - left]) > len(back))


def window_besides(hole: BoolArray, usable: BoolArray, things: BoolArray | None) -> tuple[slice, slice]:
    """Rows and columns in which a hole finds what to copy, and enough of it that is no thing, where there is any.

    Args:
        hole: (H, W) bool, not empty.
        usable: (H, W) bool, the pixels that may be copied.
        things: (H, W) bool; None: nothing.

    Example:
        >>> hole, things = np.zeros((2, 500, 500), bool)
        >>> hole[200:210, 200:210] = things[:, :300] = True
        >>> window_besides(hole, ~hole, None)[1], window_besides(hole, ~hole, things)[1]
        (slice(152, 258, None), slice(197, 306, None))
    """
    where = search_window(hole, usable)
    if things is None or np.count_nonzero(usable[where] > things[where]) >= np.count_nonzero(hole):
        return where
    others = usable & ~things
    return search_window(hole, others) if others.any() else where


def _turns(places: Sequence[BoolArray], hole: BoolArray) -> list[BoolArray]:
    """Unions of places that do not touch, without a pixel in common; the first one holds the largest place."""
    sizes = np.array([np.count_nonzero(place) for place in places])
    total = np.count_nonzero(hole)
    large = [index for index in np.argsort(-sizes, kind="stable") if sizes[index] >= _SMALL_PLACE * total]
    if not large or sizes[large[0]] == total:
        return [hole]
    step = max(1, ceil(max(hole.shape) / _PARTS_SIDE))
    places = _with_enclosed(places, large, step)
    turns: list[tuple[BoolArray, BoolArray]] = []
    left = hole
    for place in (*(places[index] for index in large), hole):
        place = place & left
        if not place.any():
            continue
        left = left & ~place
        blocks = block_sums(place, step) > 0
        turn = next((turn for turn in turns if not (turn[1] & blocks).any()), None)
        if turn is None:
            turn = (np.zeros_like(hole), np.zeros_like(blocks))
            turns.append(turn)
        np.logical_or(turn[0], place, out=turn[0])
        np.logical_or(turn[1], dilate(blocks, kernel="square", size=3), out=turn[1])
    return [turn for turn, _ in turns]


def _with_enclosed(places: Sequence[BoolArray], large: Sequence[int], step: int) -> list[BoolArray]:
    """The places, each of the large ones with smaller ones whose border lies mostly in it, told by blocks of pixels."""
    blocks = [block_sums(place, step) > 0 for place in places]
    sizes = [np.count_nonzero(place) for place in blocks]
    found = list(places)
    for index, place in enumerate(blocks):
        border = dilate(place, kernel="square", size=3) & ~place
        least = _ENCLOSED * np.count_nonzero(border)
        for other in large:
            if sizes[other] > sizes[index] and np.count_nonzero(border & blocks[other]) > least:
                found[other] = found[other] | places[index]
                break
    return found


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


def unmixed(
    scene: ContentScene, index: int, where: tuple[slice, slice], known: BoolArray, hole: BoolArray
) -> tuple[BoolArray, BoolArray]:
    """What is known of an object without pixels that look like what is beside it, and the part of it to copy from.

    Args:
        scene: the photo and its objects.
        index: of the object.
        where: rows and columns, a window of the photo.
        known: (h, w) bool there, visible pixels of the object.
        hole: (h, w) bool there, its hidden part.

    Returns:
        (h, w) bool each, within `known`; where more than half of it looks like something else, nothing is left out.

    Example:
        >>> from amodal_diffusion.pipelines.content.inputs import read_content_scene
        >>> photo, masks = np.full((60, 60, 3), 90, np.uint8), np.zeros((2, 1, 60, 60), bool)
        >>> photo[:, 30:], masks[0, :, :, :33], masks[1] = 200, True, True  # drawn three pixels too far
        >>> scene, where = read_content_scene(photo, masks[0], masks[1]), (slice(0, 60), slice(0, 60))
        >>> known, _ = unmixed(scene, 0, where, masks[0, 0], ~masks[0, 0])
        >>> known[30, 28:33]
        array([ True,  True, False, False, False])
    """
    size, modal = scene.photo.shape[:2], scene.modal[(index, *where)]
    outside = ~modal if scene.unknown is None else ~(modal | scene.unknown[where])
    inner = within_outline(known, hole, round(_OUTLINE * max(size) / _UNIT))
    own = ~strayed(scene.photo[where], outside, modal, strayed_step(*size))
    if 2 * np.count_nonzero(known & own) <= np.count_nonzero(known) or not (inner & own).any():
        return known, inner
    return known & own, inner & own


def within_outline(known: BoolArray, hole: BoolArray, width: int) -> BoolArray:
    """The visible pixels of an object that lie apart from its outline, where masks are off and colours mix.

    Args:
        known: (H, W) bool, what is seen.
        hole: (H, W) bool, what is hidden: towards that there is no outline.
        width: in pixels, at most; less where little would be left.

    Returns:
        (H, W) bool, within `known`; all of it where any width leaves little.

    Example:
        >>> known, hole = np.zeros((2, 30, 30), bool)
        >>> known[10:20, :20] = hole[10:20, 20:] = True
        >>> within_outline(known, hole, 2).any(axis=1).sum(), within_outline(known, hole, 2).any(axis=0).sum()
        (np.int64(6), np.int64(20))
    """
    whole, count = known | dilate(hole, kernel="square", size=3), np.count_nonzero(known)
    while width:
        inner: BoolArray = known & erode(whole, kernel="square", size=2 * width + 1)
        if np.count_nonzero(inner) >= _LEAST_INNER * count:
            return inner
        width //= 2
    return known


def mixed_rim(photo: npt.NDArray[np.uint8], hole: BoolArray, beside: BoolArray, most: int) -> int:
    """How many pixels beside a hole hold colours of what lies in it, as the photo shows.

    Each pixel of a rim is taken for a mixture of the mean colours near it, inside of the hole and further outside.
    Where sharpening has drawn a line of the opposite colour around an object, its share is below 0.

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
        y, x = mask_pixels(wider & ~inside & beside)
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
        share = (step * across).sum() / max((across**2).sum(), 1e-6)
        if -_OVERSHOT <= share <= _MIXED:
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
    wanted = min(4 * np.count_nonzero(hole), np.count_nonzero(around))
    while True:
        rows = slice(max(0, top, y - reach), min(height, bottom, y + h + reach))
        columns = slice(max(0, left, x - reach), min(width, right, x + w + reach))
        if np.count_nonzero(around[rows, columns]) >= wanted:
            return rows, columns
        reach *= 2
