"""What the picture and the lists send, and the way from step to step."""

from dataclasses import replace
from typing import Any

from page.work.edits import scene_event
from page.work.marks import mark_event
from page.work.session import PageError, Session


def go_to(session: Session, step: str) -> Session:
    if step != "mark" and session.scene is None:
        raise PageError("Complete the objects first: the second step needs marked objects, the third a scene.")
    return session.step(view=step, shape=None)


def act(session: Session, event: dict[str, Any]) -> Session:
    """An event of the picture or of a list. Actions can overtake each other; a choice before the last one is void."""
    if session.photo is None:
        raise PageError("Load a photo first.")
    known = session.seq
    session = heard(session, event)
    if event.get("op") == "select" and _number(event) is not None and _number(event) < known:
        return session.step()
    return scene_event(session, event) if event.get("mode") == "edit" else mark_event(session, event)


def heard(session: Session, event: dict[str, Any]) -> Session:
    """The session that knows of an action by its number, whether it does what was asked or not."""
    number = _number(event)
    return session if number is None else replace(session, seq=max(session.seq, number))


def _number(event: dict[str, Any]) -> int | None:
    number = event.get("seq")
    return number if isinstance(number, int) and 0 <= number < 2**53 else None
