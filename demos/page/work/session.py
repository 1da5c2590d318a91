"""One visitor's work: a photo, the marked objects, the scene and its history.

Everything is immutable: a step gives a new `Session`, so that undo is keeping the old one, and no two visitors share
anything that can change.
"""

import math
import shutil
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from amodal_diffusion import Scene

MAX_OBJECTS = 60
MAX_HISTORY = 60
MAX_NAME = 60
MIN_AREA = 24
"""Pixels of the smallest object."""

T = TypeVar("T")


class PageError(ValueError):
    """What a visitor did that does not work, in words for the page."""


@dataclass(frozen=True, eq=False)
class History(Generic[T]):
    """A present with what was before it and what was undone.

    Args:
        present: as it is.
        past: what was before it, the last `MAX_HISTORY` steps alone.
        future: what was undone.
        dropped: number of steps before those of `past`.
        start: what it began with, where steps were dropped.
    """

    present: T
    past: tuple[T, ...] = ()
    future: tuple[T, ...] = ()
    dropped: int = 0
    start: T | None = None

    @property
    def first(self) -> T:
        """What it began with, however long ago."""
        return (*self.past, self.present)[0] if self.start is None else self.start

    @property
    def count(self) -> int:
        """Number of all steps up to the present."""
        return self.dropped + len(self.past)

    def push(self, value: T) -> "History[T]":
        past = (*self.past, self.present)
        over = max(0, len(past) - MAX_HISTORY)
        return History(value, past[over:], (), self.dropped + over, self.first if over else self.start)

    def undo(self) -> "History[T]":
        if not self.past:
            return self
        return replace(self, present=self.past[-1], past=self.past[:-1], future=(self.present, *self.future))

    def redo(self) -> "History[T]":
        if not self.future:
            return self
        return replace(self, present=self.future[0], past=(*self.past, self.present), future=self.future[1:])


@dataclass(frozen=True, eq=False)
class Clicks:
    """What a visitor pointed at for one object.

    Args:
        points: of each click (x, y) in pixels of the photo, and whether it is on the object.
        box: (left, top, right, bottom) around the object, or None.
        answer: bits of the mask that a segmenter answered, before other objects took pixels of it; None before that.
        losers: objects that lost pixels to it, as they were and as they are, None for one that is covered. The next
            click asks anew whose these pixels are.
    """

    points: tuple[tuple[float, float, bool], ...] = ()
    box: tuple[float, float, float, float] | None = None
    answer: np.ndarray | None = None
    losers: tuple[tuple["Mark", "Mark | None"], ...] = ()


@dataclass(frozen=True, eq=False)
class Mark:
    """A marked object; `Mark.of` makes one.

    Args:
        id: unique in a photo, and kept.
        name: for the page.
        bits: what is seen of it, eight pixels a byte: a history of masks is otherwise the largest part of a session.
        shape: (height, width) of the photo.
        area: in pixels.
        predicted: a segmenter drew it.
        is_crowd: a group of objects under one mask, which may hide others and is not completed.
        clicks: what it was made of, where it was made by clicks; None where a hand has drawn in it since.
    """

    id: int
    name: str
    bits: np.ndarray
    shape: tuple[int, int]
    area: int
    predicted: bool = False
    is_crowd: bool = False
    clicks: Clicks | None = None

    @classmethod
    def of(cls, number: int, name: str, mask: np.ndarray, **more: Any) -> "Mark":
        """Of a mask (H, W) bool; `more` are `predicted`, `is_crowd` and `clicks`."""
        return cls(number, name, np.packbits(mask), (mask.shape[0], mask.shape[1]), int(mask.sum()), **more)

    def drawn(self, mask: np.ndarray) -> "Mark":
        """The same object with another mask, which no clicks have made."""
        return replace(Mark.of(self.id, self.name, mask), predicted=self.predicted, is_crowd=self.is_crowd)

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool."""
        return unpacked(self.bits, self.shape)


def unpacked(bits: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of eight pixels a byte."""
    return np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).view(bool)


Marks = tuple[Mark, ...]


@dataclass(frozen=True, eq=False)
class Notice:
    """What is to be said of the last step: a shape overlaps other objects.

    Args:
        text: for the page.
        ways: label and rule of each other way to settle it.
        shape: the whole shape, or None where there is nothing to settle.
        before: the marks without it.
        made: something of the shape is seen.
    """

    text: str
    ways: tuple[tuple[str, str], ...] = ()
    shape: Mark | None = None
    before: Marks = ()
    made: bool = True


class Source:
    """A file with what the page shows at its own size, in its own folder; it goes with the last session that has it.

    Args:
        path: of the file.
        size: (height, width) in pixels.
        is_scene: it is a scene; otherwise a photo.
    """

    def __init__(self, path: Path, size: tuple[int, int], is_scene: bool = False) -> None:
        self.path, self.size, self.is_scene = path, size, is_scene
        self._end = weakref.finalize(self, shutil.rmtree, path.parent, ignore_errors=True)


class Pose(NamedTuple):
    """Which object has another pose, and where its tile lies where the object was not moved: (x, y) of its corner."""

    id: int
    x: float
    y: float


def no_marks() -> History[Marks]:
    return History[Marks](())


@dataclass(frozen=True, eq=False)
class Session:
    """One visitor's work.

    Args:
        photo: (H, W, 3) uint8, or None before the first photo.
        source_size: (height, width) of the file, which uploaded masks may have.
        title: name of the photo without suffix, for the names of files.
        file_name: name of the photo's file, which chooses among the photos of a COCO JSON; "" where there is none.
        marks: history of the marked objects.
        selected: id of the chosen mark.
        can_click: there is a segmenter that takes clicks and boxes.
        notice: what is to be said of the last step of marking.
        completed: the scene as it came out of the pipelines, or None.
        scene: its history of edits, or None.
        base: the scene that the edits began with: `completed`, or one that was opened.
        made_of: the marks that `completed` is of.
        recipe: how it was completed: key of the pipeline, room beyond the frame, filler or None.
        shaped: ids of objects that have another shape than the network gave them.
        poses: where on the photo tiles of another pose lie, by the digest of their pixels.
        source: the photo's or the scene's file at its own size, where the page works on a smaller one.
        layer: id of the chosen layer of the scene.
        carry: edits take what stands on an object or is held by it along.
        samples: (K, H, W) bool, shapes that the object `samples_of` (an id) may have, best first.
        shape: number of the one of `samples` that is looked at.
        view: step that the page shows: "mark", "look" or "edit".
        look: key of the drawing in the second step.
        stamp: counts up with every step, so that the page always sees a change.
        seq: number of the last action of the browser that is in here, so that it knows which answers came too late.
    """

    photo: np.ndarray | None = None
    source_size: tuple[int, int] = (0, 0)
    title: str = "photo"
    marks: History[Marks] = field(default_factory=no_marks)
    selected: int | None = None
    can_click: bool = False
    notice: Notice | None = None
    completed: Scene | None = None
    scene: History[Scene] | None = None
    layer: int | None = None
    carry: bool = False
    base: Scene | None = None
    made_of: Marks = ()
    recipe: tuple[Any, ...] = ()
    shaped: frozenset[int] = frozenset()
    poses: Mapping[str, "Pose"] = field(default_factory=dict)
    source: Source | None = None
    samples: np.ndarray | None = None
    samples_of: int | None = None
    shape: int | None = None
    view: str = "mark"
    look: str = "Parts"
    stamp: int = 0
    file_name: str = ""
    seq: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the photo."""
        if self.photo is None:
            raise PageError("Load a photo first.")
        return self.photo.shape[0], self.photo.shape[1]

    @property
    def unedited(self) -> Scene | None:
        """The scene without any edits, also those that an opened one came with."""
        return self.base if self.recipe else self.completed

    @property
    def edits(self) -> int:
        """How many edits of the scene there are."""
        return 0 if self.scene is None else self.scene.count

    @property
    def work(self) -> str:
        """What a visitor did that would be lost with the session, in words; "" for nothing."""
        marked = len(self.marks.present) if self.marks.past else 0
        parts = [(marked, "marked object", "marked objects"), (self.edits, "edit", "edits")]
        return " and ".join(f"{count} {name if count == 1 else plural}" for count, name, plural in parts if count)

    def step(self, **changes: Any) -> "Session":
        return replace(self, stamp=self.stamp + 1, **changes)


# What a visitor typed


def check_name(name: Any) -> str:
    text = " ".join(str(name).split())[:MAX_NAME]
    if not text:
        raise PageError("A name needs at least one letter.")
    return text


def check_number(name: str, value: Any, low: float, high: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise PageError(f"The number for {name} cannot be read.") from error
    if not (math.isfinite(number) and low <= number <= high):
        raise PageError(f"The number for {name} must be between {low:g} and {high:g}.")
    return number
