"""Whose the pixels are where marked objects overlap: modal masks share none, and nobody loses pixels without a word."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from page.work.session import MIN_AREA, Mark, Marks, Notice, PageError, Session

RULES = ("smaller", "top", "under")
"""Which is in front, a shape that is drawn or what it overlaps: the smaller one, always the shape, never the shape."""


def put_shape(session: Session, shape: Mark, over: Any = "smaller") -> Session:
    """The marks with a whole shape, a new object or another shape of the one with its id, which is then chosen.

    Where it overlaps others, `over` says who has the pixels, and the notice of the session tells, with the other ways
    to settle it. Where nothing of it would be seen, the marks stay as they are. What is refined by clicks first gives
    back what its earlier clicks took.
    """
    if over not in RULES:
        raise PageError("There is no such rule for overlaps.")
    marks, notice = settle(give_back(session.marks.present, shape), shape, over)
    if notice is not None and not notice.made:
        return session.step(notice=notice)
    return session.step(marks=session.marks.push(marks), selected=shape.id, notice=notice)


def settle_again(session: Session, over: Any) -> Session:
    """The last shape by another rule, in the place of the first answer."""
    notice = session.notice
    if notice is None or notice.shape is None or over not in RULES:
        raise PageError("There is nothing to settle.")
    marks, again = settle(notice.before, notice.shape, over)
    if again is not None and not again.made:
        marks = notice.before
    if not notice.made:
        return session.step(marks=session.marks.push(marks), selected=notice.shape.id, notice=again)
    history = replace(session.marks, present=marks, future=())
    known = any(mark.id == notice.shape.id for mark in marks)
    return session.step(marks=history, selected=notice.shape.id if known else None, notice=again)


def settle(before: Marks, shape: Mark, over: str) -> tuple[Marks, Notice | None]:
    """The marks with this shape, and what is to be said of it, None where it overlaps nothing."""
    mask, own = shape.mask, shape.mask
    kept, behind, in_front, gone = [], [], [], []
    for other in before:
        common = 0 if other.id == shape.id else common_area(other, shape)
        if not common:
            kept.append(other)
        elif over == "under" or (over == "smaller" and other.area < shape.area):
            own = own & ~other.mask
            in_front.append(f"“{other.name}” ({common:,} px)")
            kept.append(other)
        else:
            rest = other.mask & ~mask
            (behind if rest.any() else gone).append(f"“{other.name}” ({common:,} px)")
            if rest.any():
                kept.append(replace(other.drawn(rest), clicks=other.clicks))
    if not (behind or in_front or gone):
        alone = shape if shape.clicks is None else replace(shape, clicks=replace(shape.clicks, losers=()))
        return _sorted([mark for mark in before if mark.id != shape.id], alone), None
    made = int(own.sum()) >= MIN_AREA
    said, ways = [], []
    if not made:
        said.append(f"All of it belongs to {_list(in_front)}")
    elif in_front:
        said.append(f"It lies behind {_list(in_front)}")
    if behind:
        said.append(f"It lies in front of {_list(behind)}")
    if gone:
        said.append(f"It covers all of {_list(gone)}, which is no object any more")
    if in_front:
        ways.append(("Put it in front", "top"))
    if behind or gone:
        ways.append(("Put it behind", "under"))
    text = f"“{shape.name}” overlaps. {'. '.join(said)}."
    notice = Notice(text, tuple(ways), shape=shape, before=before, made=made)
    if not made:
        return before, notice
    seen = shape if not in_front else shape.drawn(own)
    if shape.clicks is not None:
        now = {mark.id: mark for mark in kept}
        losers = [(mark, now.get(mark.id)) for mark in before if mark.id != shape.id]
        changed = tuple((old, new) for old, new in losers if new is not old)
        seen = replace(seen, clicks=replace(shape.clicks, losers=changed))
    return _sorted([mark for mark in kept if mark.id != shape.id], seen), notice


def give_back(marks: Marks, shape: Mark) -> Marks:
    """The marks as if the earlier clicks of an object had taken no pixels, where nobody has drawn in them since."""
    if shape.clicks is None or not shape.clicks.losers:
        return marks
    now = {mark.id: mark for mark in marks}
    for old, new in shape.clicks.losers:
        if now.get(old.id) is new:
            now[old.id] = old
    return tuple(sorted(now.values(), key=lambda mark: mark.id))


def without_pixels(marks: Iterable[Mark], taken: np.ndarray) -> tuple[list[Mark], list[str]]:
    """The marks without the pixels that others take, and the names of those that lost some; what has none left goes."""
    kept, losers = [], []
    for mark in marks:
        mask = mark.mask
        rest = mask & ~taken
        left = int(rest.sum())
        if left < mark.area:
            losers.append(mark.name)
        if left:
            kept.append(mark if left == mark.area else replace(mark.drawn(rest), clicks=mark.clicks))
    return kept, losers


def common_area(first: Mark, second: Mark) -> int:
    """Pixels that both have."""
    return int(np.bitwise_count(first.bits & second.bits).sum())


def _sorted(others: list[Mark], shape: Mark) -> Marks:
    return tuple(sorted([*others, shape], key=lambda mark: mark.id))


def _list(items: list[str]) -> str:
    return ", ".join(items[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")
