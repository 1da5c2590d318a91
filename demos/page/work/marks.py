"""The marked objects of a photo: outlines, brush, eraser, and what is done to them in the list."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from amodal_diffusion.masks import mask_areas
from page.work.session import MAX_NAME, MAX_OBJECTS, Mark, PageError, Session, check_name, check_number

MIN_AREA = 24
MAX_POINTS = 20_000


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
    number = event.get("id", session.selected)  # what the visitor saw chosen
    chosen = next((mark for mark in session.marks.present if mark.id == number), None)
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
