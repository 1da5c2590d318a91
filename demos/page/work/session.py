"""One visitor's work: a photo, the marked objects, the scene and its history.

Everything is immutable: a step gives a new `Session`, so that undo is keeping the old one, and no two visitors share
anything that can change.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np

from amodal_diffusion import Scene

MAX_OBJECTS = 60
MAX_HISTORY = 60
MAX_NAME = 60

T = TypeVar("T")


class PageError(ValueError):
    """What a visitor did that does not work, in words for the page."""


@dataclass(frozen=True, eq=False)
class History(Generic[T]):
    """A present with what was before it and what was undone."""

    present: T
    past: tuple[T, ...] = ()
    future: tuple[T, ...] = ()

    def push(self, value: T) -> "History[T]":
        return History(value, (*self.past, self.present)[-MAX_HISTORY:])

    def undo(self) -> "History[T]":
        if not self.past:
            return self
        return History(self.past[-1], self.past[:-1], (self.present, *self.future))

    def redo(self) -> "History[T]":
        if not self.future:
            return self
        return History(self.future[0], (*self.past, self.present), self.future[1:])


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
    """

    id: int
    name: str
    bits: np.ndarray
    shape: tuple[int, int]
    area: int
    predicted: bool = False
    is_crowd: bool = False

    @classmethod
    def of(cls, number: int, name: str, mask: np.ndarray, **flags: bool) -> "Mark":
        """Of a mask (H, W) bool; `flags` are `predicted` and `is_crowd`."""
        return cls(number, name, np.packbits(mask), (mask.shape[0], mask.shape[1]), int(mask.sum()), **flags)

    def drawn(self, mask: np.ndarray) -> "Mark":
        """The same object with another mask."""
        return replace(Mark.of(self.id, self.name, mask), predicted=self.predicted, is_crowd=self.is_crowd)

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool."""
        height, width = self.shape
        return np.unpackbits(self.bits, count=height * width).reshape(self.shape).view(bool)


Marks = tuple[Mark, ...]


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
        segmenter: there is a segmenter, so objects can be marked with a click.
        candidates: (N, H, W) bool, what a segmenter found in the photo; None before it was asked.
        completed: the scene as it came out of the pipelines, or None.
        scene: its history of edits, or None.
        layer: id of the chosen layer of the scene.
        pipeline: key of the mask pipeline that the scene came from.
        samples: (K, H, W) bool, shapes that the object `samples_of` (an id) may have, best first.
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
    segmenter: bool = False
    candidates: np.ndarray | None = None
    completed: Scene | None = None
    scene: History[Scene] | None = None
    layer: int | None = None
    pipeline: str = ""
    samples: np.ndarray | None = None
    samples_of: int | None = None
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
    except (TypeError, ValueError) as error:
        raise PageError(f"The number for {name} cannot be read.") from error
    if not (math.isfinite(number) and low <= number <= high):
        raise PageError(f"The number for {name} must be between {low:g} and {high:g}.")
    return number
