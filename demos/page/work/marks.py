"""The marked objects of a photo: outlines, brush, eraser, and what is done to them in the list."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import skimage.draw
from PIL import Image, ImageDraw

from page.work.overlaps import put_shape, settle_again, without_pixels
from page.work.session import (
    MAX_NAME,
    MAX_OBJECTS,
    MIN_AREA,
    Mark,
    Notice,
    PageError,
    Session,
    check_name,
    check_number,
)

MAX_POINTS = 20_000
TOO_SMALL = "That is too small to be an object. Draw around it, or paint over it."


def next_id(session: Session) -> int:
    """For a new object: no other has had it, on the photo or in the scene, so that no edit goes to the wrong one."""
    known = (*session.marks.past, session.marks.present, session.made_of)
    marked = max((mark.id for marks in known for mark in marks), default=-1) + 1
    return marked if session.scene is None else max(marked, session.scene.present.next_id)


def new_names(marks: Sequence[Mark], count: int) -> list[str]:
    """For objects that come without one."""
    used = {mark.name for mark in marks}
    free = (f"object {number}" for number in itertools.count(len(marks) + 1))
    return list(itertools.islice((name for name in free if name not in used), count))


def add_marks(
    session: Session,
    masks: np.ndarray,
    names: Sequence[str] = (),
    *,
    predicted: bool = False,
    is_crowd: Sequence[bool] = (),
    behind: bool = False,
) -> Session:
    """Add objects, masks (N, H, W) bool; the later ones are in front. None of them is chosen.

    Args:
        session: with a photo.
        masks: of the new objects.
        names: one a mask; "" for none.
        predicted: a segmenter drew them.
        is_crowd: one a mask.
        behind: what was marked before keeps its pixels, and a new object of which it has more than half is left out;
            otherwise the new ones are in front, and the notice of the session names those that lost pixels.
    """
    marks = list(session.marks.present)
    masks = np.asarray(masks, dtype=bool)
    if masks.shape[1:] != session.size:
        raise PageError(f"The masks are {masks.shape[2]} x {masks.shape[1]} pixels, the photo is not.")
    if len(masks) == 1 and masks[0].sum() < MIN_AREA:
        raise PageError(TOO_SMALL)
    first, usual, added = next_id(session), new_names(marks, len(masks)), []
    taken = np.zeros(session.size, dtype=bool)
    if behind:
        for mark in marks:
            taken |= mark.mask
    for index in reversed(range(len(masks))):
        own = masks[index] & ~taken
        if own.sum() < MIN_AREA or (behind and 2 * (masks[index] & ~taken).sum() < masks[index].sum()):
            continue
        taken |= own
        name = names[index] if index < len(names) and names[index] else usual[index]
        crowd = index < len(is_crowd) and bool(is_crowd[index])
        added.append(Mark.of(first + index, name[:MAX_NAME], own, predicted=predicted, is_crowd=crowd))
    if not added:
        raise PageError("All of that is marked already." if behind and len(masks) else "The masks show no object.")
    if len(marks) + len(added) > MAX_OBJECTS:
        raise PageError(f"A photo can have {MAX_OBJECTS} objects; this would be {len(marks) + len(added)}.")
    losers: list[str] = []
    if not behind:
        marks, losers = without_pixels(marks, taken)
    notice = Notice(f"The new objects took pixels of {', '.join(losers[:5])}.") if losers else None
    every = (*marks, *reversed(added))
    return session.step(marks=session.marks.push(every), selected=None, notice=notice)


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
    """(H, W) bool: pixels with their middle in an outline ("outline"), or a line of round ends and `width` pixels."""
    if kind == "outline":
        corners = np.array(check_points(points, 3)) - 0.5
        inside = np.zeros(size, dtype=bool)
        inside[skimage.draw.polygon(corners[:, 1], corners[:, 0], size)] = True
        return inside
    sheet = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(sheet)
    thick = check_number("the brush", width, 1, 400)
    line = check_points(points, 1)
    draw.line(line, fill=1, width=max(1, round(thick)), joint="curve")
    for x, y in line:
        draw.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=1)
    return np.asarray(sheet, dtype=bool).copy()


def find_mark(session: Session, number: Any) -> Mark:
    for mark in session.marks.present:
        if mark.id == number:
            return mark
    raise PageError("Choose an object first.")


def new_mark(session: Session, mask: np.ndarray, **more: Any) -> Mark:
    """A mark with the next id and a name; `more` as `Mark.of` takes it."""
    marks = session.marks.present
    if len(marks) >= MAX_OBJECTS:
        raise PageError(f"A photo can have {MAX_OBJECTS} objects; this would be {len(marks) + 1}.")
    if mask.sum() < MIN_AREA:
        raise PageError(TOO_SMALL)
    return Mark.of(next_id(session), *new_names(marks, 1), mask, **more)


def add_stroke(session: Session, event: Mapping[str, Any]) -> Session:
    """One line of the pointer: an outline makes an object, the brush adds to the chosen one, the eraser takes away.

    The brush makes a new object where none is chosen; the eraser takes from the one that it begins on.
    """
    kind, over = event.get("kind"), event.get("over", "smaller")
    if kind not in ("outline", "brush", "erase"):
        raise PageError("There is no such tool.")
    area = draw_stroke(session.size, event.get("points"), kind, event.get("width", 1))
    number = event.get("id", session.selected)  # what the visitor saw chosen
    chosen = next((mark for mark in session.marks.present if mark.id == number), None)
    if kind == "erase":
        chosen = chosen or mark_at(session, *event["points"][0])
        if chosen is None:
            raise PageError("Choose the object to erase from.")
        return replace_mask(session, chosen, chosen.mask & ~area)
    if kind == "brush" and chosen is not None:
        return replace_mask(session, chosen, chosen.mask | area, over)
    return put_shape(session, new_mark(session, area), over)


def mark_at(session: Session, x: float, y: float) -> Mark | None:
    """The object that a point of the photo belongs to."""
    height, width = session.size
    row, column = math.floor(y), math.floor(x)
    if not (0 <= row < height and 0 <= column < width):
        return None
    return next((mark for mark in session.marks.present if mark.mask[row, column]), None)


def replace_mask(session: Session, chosen: Mark, mask: np.ndarray, over: Any = "smaller") -> Session:
    """Another shape of an object, as a hand has drawn it; one that is too small goes."""
    if np.array_equal(mask, chosen.mask):
        return session.step(selected=chosen.id)
    if mask.sum() < MIN_AREA:
        return remove_mark(session, chosen.id)
    return put_shape(session, chosen.drawn(mask), over)


def remove_mark(session: Session, number: Any) -> Session:
    gone = find_mark(session, number)
    marks = tuple(mark for mark in session.marks.present if mark is not gone)
    return session.step(marks=session.marks.push(marks), selected=None)


def rename_mark(session: Session, number: Any, name: Any) -> Session:
    chosen = find_mark(session, number)
    text = check_name(name)
    marks = tuple(replace(mark, name=text) if mark is chosen else mark for mark in session.marks.present)
    return session.step(marks=session.marks.push(marks), selected=chosen.id)


def mark_event(session: Session, event: Mapping[str, Any]) -> Session:
    """What happened on the picture or in the list while objects are marked."""
    kind, number = event.get("op"), event.get("id")
    if kind == "overlap":
        return settle_again(session, event.get("over"))
    session = replace(session, notice=None)
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
