"""What one visitor has on the page: a photo, the marked objects, the scene and its history. No page, no networks.

Everything is immutable: a step gives a new `Session`, so that undo is keeping the old one, and no two visitors share
anything that can change.
"""

import logging
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from PIL import Image, ImageDraw

from amodal_diffusion import Scene
from amodal_diffusion.images import load_image, load_rgba
from amodal_diffusion.io import ObjectMasks, read_object_masks
from amodal_diffusion.masks import mask_areas

MAX_OBJECTS = 60
MAX_FILES = 64
MAX_UPLOAD = "25mb"
MAX_SOURCE_PIXELS = 50_000_000
"""A larger photo is refused before it is decoded."""
MAX_PIXELS = 1_500_000
"""A larger photo is scaled down to this."""
MIN_SIDE = 32
MAX_RATIO = 8
MIN_AREA = 24
MAX_POINTS = 20_000
MAX_HISTORY = 60
MAX_NAME = 60

PHOTO_TYPES = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF")

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

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the photo."""
        if self.photo is None:
            raise PageError("Load a photo first.")
        return self.photo.shape[0], self.photo.shape[1]

    def step(self, **changes: Any) -> "Session":
        return replace(self, stamp=self.stamp + 1, **changes)


# Photos


def check_picture(path: str | Path) -> None:
    """Refuse an upload that is no picture, of another kind, too large or too small, before it is decoded."""
    name = Path(path).name
    try:
        with Image.open(path) as image:
            kind, (width, height) = image.format, image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PageError(f"{name} is not an image that can be read. PNG, JPEG and WebP work.") from error
    if kind not in PHOTO_TYPES:
        raise PageError(f"{name} is {kind}. PNG, JPEG and WebP work.")
    if width * height > MAX_SOURCE_PIXELS:
        raise PageError(
            f"{name} has {width * height / 1e6:.0f} million pixels; up to {MAX_SOURCE_PIXELS // 10**6} million work."
        )
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_RATIO * min(width, height):
        raise PageError(
            f"{name} is {width} x {height} pixels; each side must have at least {MIN_SIDE}, and at most "
            f"{MAX_RATIO} times the other."
        )


def open_photo(path: str | Path) -> Image.Image:
    """The photo of an upload, upright RGB."""
    check_picture(path)
    try:
        return load_image(path)
    except ValueError as error:
        raise PageError(f"{Path(path).name} cannot be read: the file is damaged.") from error


def open_cutout(path: str | Path) -> Image.Image:
    """A picture to add to a scene, upright RGBA: transparent where it is nothing."""
    check_picture(path)
    try:
        return load_rgba(path)
    except ValueError as error:
        raise PageError(f"{Path(path).name} cannot be read: the file is damaged.") from error


def with_photo(session: Session, photo: Image.Image, title: str, file_name: str = "") -> tuple[Session, str]:
    """A fresh session with this photo, scaled down where it is large, and a note about that ("" for none)."""
    source, note = photo.size, ""
    longest = math.sqrt(MAX_PIXELS / (source[0] * source[1]))
    if longest < 1:
        size = tuple(max(MIN_SIDE, math.floor(side * longest)) for side in source)
        photo = photo.resize((size[0], size[1]), Image.Resampling.LANCZOS)
        note = f"The photo was scaled from {source[0]} x {source[1]} to {size[0]} x {size[1]} pixels."
    pixels = np.asarray(photo.convert("RGB"))
    fresh = Session(
        pixels,
        (source[1], source[0]),
        title or "photo",
        segmenter=session.segmenter,
        stamp=session.stamp + 1,
        file_name=file_name,
    )
    return fresh, note


# Marks


def _without(marks: Sequence[Mark], taken: np.ndarray) -> list[Mark]:
    """The marks without the pixels that another object takes; those of which nothing is left go."""
    kept = []
    for mark in marks:
        rest = mark.mask & ~taken
        if rest.any():
            kept.append(mark if rest.sum() == mark.area else mark.drawn(rest))
    return kept


def _next_id(marks: Sequence[Mark]) -> int:
    return max((mark.id for mark in marks), default=-1) + 1


def check_name(name: Any) -> str:
    text = " ".join(str(name).split())[:MAX_NAME]
    if not text:
        raise PageError("A name needs at least one letter.")
    return text


def add_marks(
    session: Session,
    masks: np.ndarray,
    names: Sequence[str] = (),
    *,
    predicted: bool = False,
    is_crowd: Sequence[bool] = (),
) -> Session:
    """Add objects, masks (N, H, W) bool. A pixel belongs to one object, that which was marked last."""
    marks = list(session.marks.present)
    masks = np.asarray(masks, dtype=bool)
    if masks.shape[1:] != session.size:
        raise PageError(f"The masks are {masks.shape[2]} x {masks.shape[1]} pixels, the photo is not.")
    if len(marks) + len(masks) > MAX_OBJECTS:
        raise PageError(f"A photo can have {MAX_OBJECTS} objects; this would be {len(marks) + len(masks)}.")
    if len(masks) == 1 and masks[0].sum() < MIN_AREA:
        raise PageError("That is too small to be an object. Draw around it, or paint over it.")
    first, added = _next_id(marks), []
    taken = np.zeros(session.size, dtype=bool)
    for index in reversed(range(len(masks))):
        own = masks[index] & ~taken
        taken |= own
        if own.sum() >= MIN_AREA:
            name = names[index] if index < len(names) and names[index] else f"object {first + index + 1}"
            crowd = index < len(is_crowd) and bool(is_crowd[index])
            added.append(Mark.of(first + index, name[:MAX_NAME], own, predicted=predicted, is_crowd=crowd))
    marks = [*_without(marks, taken), *reversed(added)]
    if not added:
        raise PageError("The masks show no object.")
    return session.step(marks=session.marks.push(tuple(marks)), selected=marks[-1].id)


def read_masks(session: Session, files: Sequence[str | Path]) -> tuple[ObjectMasks, str]:
    """The masks of uploaded files (COCO JSON, PNG masks, one label map), of the photo's size on the page, and a note.

    The note says what the library warns of, such as masks of another photo; "" for nothing.
    """
    height, width = session.size
    if not files:
        raise PageError("Choose a COCO JSON, PNG masks or a label map.")
    if len(files) > MAX_FILES:
        raise PageError(f"Up to {MAX_FILES} files work; these are {len(files)}.")
    paths = [Path(file) for file in files]
    if len(paths) > 1 and any(path.suffix.lower() == ".json" for path in paths):
        raise PageError("Upload either one COCO JSON or PNG masks, not both.")
    for path in paths:
        _check_mask_file(path)
    try:
        with heard_warnings() as warnings:
            found = read_object_masks(
                paths if len(paths) > 1 else paths[0], size=session.source_size, file_name=session.file_name or None
            )
    except (ValueError, OSError) as error:
        raise PageError(without_folders(str(error), paths)) from error
    note = without_folders(". ".join(warnings[:3]), paths)
    if len(found.masks) > MAX_OBJECTS:
        raise PageError(f"The files hold {len(found.masks)} objects; up to {MAX_OBJECTS} work.")
    if found.masks.shape[1:] == (height, width):
        return found, note
    small = [Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST) for mask in found.masks]
    return replace(found, masks=np.stack([np.asarray(mask, dtype=bool) for mask in small])), note


@contextmanager
def heard_warnings() -> Iterator[list[str]]:
    """What the library warns of inside the block, in this thread."""
    heard: list[str] = []
    thread = threading.get_ident()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                heard.append(record.getMessage())

    listener, library = Listener(logging.WARNING), logging.getLogger("amodal_diffusion")
    library.addHandler(listener)
    try:
        yield heard
    finally:
        library.removeHandler(listener)


def _check_mask_file(path: Path) -> None:
    """Refuse a picture of too many pixels before it is decoded; what else is wrong the reader says."""
    if path.suffix.lower() == ".json":
        return
    try:
        with Image.open(path) as image:
            pixels = image.size[0] * image.size[1]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PageError(f"{path.name} is neither a COCO JSON nor a mask that can be read.") from error
    if pixels > MAX_SOURCE_PIXELS:
        raise PageError(f"{path.name} has too many pixels; up to {MAX_SOURCE_PIXELS // 10**6} million work.")


def without_folders(message: str, paths: Sequence[Path]) -> str:
    """A message of the library with the names of files alone: a visitor need not know where uploads lie."""
    for path in paths:
        message = message.replace(str(path), path.name).replace(f"{path.parent}/", "")
    return message


def check_points(points: Any, least: int) -> list[tuple[float, float]]:
    if not isinstance(points, Sequence) or not least <= len(points) <= MAX_POINTS:
        raise PageError("That line is too short. Draw around the object, or paint over it.")
    try:
        pairs = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PageError("That line cannot be read.") from error
    if pairs.shape != (len(points), 2) or not np.isfinite(pairs).all() or np.abs(pairs).max() > 1e5:
        raise PageError("That line leaves the photo.")
    return [(float(x), float(y)) for x, y in pairs]


def draw_stroke(size: tuple[int, int], points: Any, kind: str, width: Any = 1) -> np.ndarray:
    """(H, W) bool: the inside of an outline ("outline"), or a line of round ends and `width` pixels."""
    sheet = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(sheet)
    if kind == "outline":
        draw.polygon(check_points(points, 3), fill=1)
        return np.asarray(sheet, dtype=bool).copy()
    thick = check_number("the brush", width, 1, 400)
    line = check_points(points, 1)
    draw.line(line, fill=1, width=max(1, round(thick)), joint="curve")
    for x, y in line:
        draw.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=1)
    return np.asarray(sheet, dtype=bool).copy()


def check_number(name: str, value: Any, low: float, high: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise PageError(f"The number for {name} cannot be read.") from error
    if not (math.isfinite(number) and low <= number <= high):
        raise PageError(f"The number for {name} must be between {low:g} and {high:g}.")
    return number


def find_mark(session: Session, number: Any) -> Mark:
    for mark in session.marks.present:
        if mark.id == number:
            return mark
    raise PageError("Choose an object first.")


def add_stroke(session: Session, event: Mapping[str, Any]) -> Session:
    """One line of the pointer: an outline makes an object, the brush adds to the chosen one, the eraser takes away."""
    kind = event.get("kind")
    if kind not in ("outline", "brush", "erase"):
        raise PageError("There is no such tool.")
    area = draw_stroke(session.size, event.get("points"), kind, event.get("width", 1))
    chosen = next((mark for mark in session.marks.present if mark.id == session.selected), None)
    if kind == "erase":
        if chosen is None:
            raise PageError("Choose the object to erase from.")
        return replace_mask(session, chosen, chosen.mask & ~area)
    if kind == "brush" and chosen is not None:
        return replace_mask(session, chosen, chosen.mask | area)
    return add_marks(session, area[None])


def replace_mask(session: Session, chosen: Mark, mask: np.ndarray) -> Session:
    if mask.sum() < MIN_AREA:
        return remove_mark(session, chosen.id)
    others = _without([mark for mark in session.marks.present if mark.id != chosen.id], mask)
    drawn = chosen.drawn(mask)
    marks = sorted([*others, drawn], key=lambda mark: mark.id)
    return session.step(marks=session.marks.push(tuple(marks)), selected=chosen.id)


def remove_mark(session: Session, number: Any) -> Session:
    gone = find_mark(session, number)
    marks = tuple(mark for mark in session.marks.present if mark is not gone)
    return session.step(marks=session.marks.push(marks), selected=None)


def rename_mark(session: Session, number: Any, name: Any) -> Session:
    chosen = find_mark(session, number)
    text = check_name(name)
    marks = tuple(replace(mark, name=text) if mark is chosen else mark for mark in session.marks.present)
    return session.step(marks=session.marks.push(marks), selected=chosen.id)


def check_point(session: Session, x: Any, y: Any) -> tuple[float, float]:
    height, width = session.size
    return check_number("x", x, 0, width - 1e-6), check_number("y", y, 0, height - 1e-6)


def pick_candidate(session: Session, x: float, y: float) -> np.ndarray:
    """(H, W) bool, the smallest object of the segmenter at a point of the photo."""
    if session.candidates is None or not len(session.candidates):
        raise PageError("The segmenter found no object in this photo. Draw around the objects instead.")
    here = np.flatnonzero(session.candidates[:, int(y), int(x)])
    if not len(here):
        raise PageError("The segmenter found no object here. Draw around it instead.")
    return session.candidates[here[int(np.argmin(mask_areas(session.candidates[here])))]]


def mark_event(session: Session, event: Mapping[str, Any]) -> Session:
    """What happened on the picture or in the list while objects are marked."""
    kind, number = event.get("op"), event.get("id")
    if kind == "stroke":
        return add_stroke(session, event)
    if kind == "select":
        known = any(mark.id == number for mark in session.marks.present)
        return session.step(selected=number if known else None)
    if kind == "remove":
        return remove_mark(session, number)
    if kind == "rename":
        return rename_mark(session, number, event.get("name"))
    if kind == "clear":
        return session.step(marks=session.marks.push(()), selected=None)
    if kind in ("undo", "redo"):
        history = session.marks.undo() if kind == "undo" else session.marks.redo()
        known = any(mark.id == session.selected for mark in history.present)
        return session.step(marks=history, selected=session.selected if known else None)
    raise PageError("There is no such action.")
