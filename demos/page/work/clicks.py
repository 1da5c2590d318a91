"""Objects by pointing: what a click or a box says, and the object that a segmenter's answer makes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from amodal_diffusion.masks import mask_boxes
from page.work.marks import find_mark, mark_at, new_mark
from page.work.overlaps import common_area, put_shape, settle
from page.work.session import MIN_AREA, Clicks, Mark, Notice, PageError, Session, check_number, unpacked

MAX_CLICKS = 100
"""For one object."""
SLIVER = 0.3
"""What is left of an object, as a share of it, below which the answer and one that is marked are the same object."""


@dataclass(frozen=True, eq=False)
class Question:
    """What to ask a segmenter; `put_answer` takes its answer.

    Args:
        mark: the object that is refined, or None for a new one.
        clicks: all that was pointed at for this object.
        earlier: (H, W) bool, the mask that the answer should make better; None for a new object.
        over: rule for overlaps.
    """

    mark: Mark | None
    clicks: Clicks
    earlier: np.ndarray | None
    over: Any

    def arguments(self) -> dict[str, Any]:
        """As an interactive segmenter of the library takes it."""
        said: dict[str, Any] = {"mask": self.earlier}
        if self.clicks.points:
            said["points"] = [(x, y) for x, y, _ in self.clicks.points]
            said["labels"] = [int(on_object) for _, _, on_object in self.clicks.points]
        if self.clicks.box is not None:
            left, top, right, bottom = self.clicks.box
            said["box"] = (left, top, right - left, bottom - top)
        return said


def read_click(session: Session, event: Mapping[str, Any]) -> Question:
    """A click ("point", with "positive") or a box ("box") for the object "id", or for a new one.

    A box that is not about the chosen object begins a new one; otherwise a visitor would lose the chosen one to it.
    """
    number = event.get("id")
    mark = None if number is None else find_mark(session, number)
    before = Clicks() if mark is None or mark.clicks is None else mark.clicks
    if event.get("box") is not None:
        box = _box(session, event["box"])
        framed = mark if mark is not None and _frames(box, mark) else None
        losers = () if framed is None or framed.clicks is None else framed.clicks.losers
        return Question(framed, Clicks(box=box, losers=losers), None, event.get("over", "smaller"))
    point = event.get("point")
    if not isinstance(point, list | tuple) or len(point) != 2:
        raise PageError("That click cannot be read.")
    x, y = check_point(session, *point)
    positive = bool(event.get("positive", True))
    if len(before.points) >= MAX_CLICKS:
        raise PageError(f"An object can have {MAX_CLICKS} clicks. Use the brush or the eraser for the rest.")
    if mark is None and not positive:
        raise PageError("Click the object first; then leave out what is not of it.")
    clicks = replace(before, points=(*before.points, (x, y, positive)))
    earlier = None
    if mark is not None:
        earlier = mark.mask if before.answer is None else unpacked(before.answer, mark.shape)
    return Question(mark, clicks, earlier, event.get("over", "smaller"))


def pointed_at(session: Session, event: Mapping[str, Any]) -> Mark | None:
    """The object that a click chooses: what is marked there, unless it is chosen, or a new one is asked for ("new")."""
    point = event.get("point")
    if event.get("box") is not None or not event.get("positive", True) or event.get("new"):
        return None
    if not isinstance(point, list | tuple) or len(point) != 2:
        return None
    there = mark_at(session, *check_point(session, *point))
    return None if there is None or there.id == event.get("id") else there


def put_answer(session: Session, asked: Question, mask: np.ndarray) -> Session:
    """The marks with what a segmenter answered, (H, W) bool.

    An answer that is an object that is marked already chooses that: both would be left with slivers.
    """
    session = replace(session, notice=None)
    if not mask.any():
        raise PageError("Nothing was found there. Draw a box around the object, outline it, or paint over it.")
    clicks = replace(asked.clicks, answer=np.packbits(mask))
    if asked.mark is None:
        made = new_mark(session, mask, predicted=True, clicks=clicks)
        same = _same_object(session, made, asked.over)
        if same is None:
            return put_shape(session, made, asked.over)
        text = f"That is “{same.name}”, which is marked already; more clicks refine it."
        ways = (("Mark it as a new object", "top"),)
        notice = Notice(text, ways, shape=made, before=session.marks.present, made=False)
        return session.step(selected=same.id, notice=notice)
    shape = replace(asked.mark.drawn(mask), clicks=clicks, predicted=True)
    return put_shape(session, shape, asked.over)


def _same_object(session: Session, made: Mark, over: Any) -> Mark | None:
    """The marked object that a new one is for the most part, so that one of both would be a sliver; None for none.

    Of several it is the one that was clicked.
    """
    before = session.marks.present
    common = {mark.id: common_area(mark, made) for mark in before}
    most = max(before, key=lambda mark: common[mark.id], default=None)
    if most is None or 2 * common[most.id] < made.area:
        return None
    after, _ = settle(before, made, over)
    left = {mark.id: mark.area for mark in after}
    if not (MIN_AREA <= left.get(made.id, 0) < SLIVER * made.area or left.get(most.id, 0) < SLIVER * most.area):
        return None
    points = () if made.clicks is None else made.clicks.points
    return mark_at(session, *points[-1][:2]) or most if points else most


def check_point(session: Session, x: Any, y: Any) -> tuple[float, float]:
    height, width = session.size
    return check_number("x", x, 0, width), check_number("y", y, 0, height)


def _frames(box: tuple[float, float, float, float], mark: Mark) -> bool:
    """A box is about an object: it and the object's own box have half of what they cover together in common."""
    x, y, w, h = mask_boxes(mark.mask[None])[0].tolist()
    wide = max(0.0, min(box[2], x + w) - max(box[0], x))
    high = max(0.0, min(box[3], y + h) - max(box[1], y))
    return 2 * wide * high >= (box[2] - box[0]) * (box[3] - box[1]) + w * h - wide * high


def _box(session: Session, box: Any) -> tuple[float, float, float, float]:
    if not isinstance(box, list | tuple) or len(box) != 4:
        raise PageError("That box cannot be read.")
    (left, top), (right, bottom) = check_point(session, *box[:2]), check_point(session, *box[2:])
    if right - left < 2 or bottom - top < 2:
        raise PageError("That box is too small. Drag from one corner of the object to the one across, or click it.")
    return left, top, right, bottom
