"""What the picture and the lists send, and the way from step to step."""

from typing import Any

from page.work.edits import scene_event
from page.work.marks import mark_event
from page.work.session import PageError, Session


def go_to(session: Session, step: str) -> Session:
    if step != "mark" and session.scene is None:
        raise PageError("Complete the objects first: the second step needs marked objects, the third a scene.")
    return session.step(view=step)


def act(session: Session, event: dict[str, Any]) -> Session:
    """An event of the picture or of a list."""
    if session.photo is None:
        raise PageError("Load a photo first.")
    if event.get("mode") == "edit":
        return scene_event(session, event)
    return mark_event(session, event)
