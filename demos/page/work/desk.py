"""The session of one tab as it is now, which all events of that tab share."""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from page.work.session import PageError, Session


@dataclass(frozen=True)
class Question:
    """What a visitor is asked before something is lost, and what is done then; `cancel` where the answer is no."""

    title: str
    text: str
    yes: str
    no: str
    act: Callable[[Session], Any]
    cancel: Callable[[], None] = lambda: None


class Desk:
    """Holds the session of a tab, and what its long work says of itself.

    Events read the session when they begin and give back a new one. Work that takes long ends after others that began
    later, so what it changed is put into the session as that is by then.

    Attributes:
        is_open: its page was opened on this server; otherwise the page is one of a server that has ended, or was left
            alone for so long that its work here was forgotten.
        token: of the browser, by which its work is kept; "" for none.
        work: name under which the work of this tab is kept.
        keep: called when the session has changed.
        unkept: its work could not be written; `told_unkept` where the visitor knows.
        waits: long work has been asked for and has not begun.
        turn: when on the page's clock the example was chosen that came last.

    Args:
        session: to begin with.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.is_given = True
        self.cancelled = threading.Event()
        self.told: tuple[str, float | None] = ("", None)
        self.question: Question | None = None
        self.todo, self.waits = "", False
        self.turn = 0.0
        self.is_open, self.unkept, self.told_unkept = True, False, False
        self.token, self.work = "", secrets.token_hex(16)
        self.keep: Callable[[Desk], None] = lambda desk: None
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Desk":
        """A desk for another tab, as Gradio makes one of the first; sessions never change, so they are shared."""
        desk = Desk(self.session)
        desk.is_open = False
        return desk

    def commit(self, before: Session, after: Session) -> Session:
        """Put what a step changed into the session as it is now, and give that.

        Args:
            before: the session that the step began with.
            after: the one that it gave.

        Raises:
            PageError: where the step is about a photo that is gone, or both have changed the same marks or scene: what
                was done since the step began stays.
        """
        with self._lock:
            now = self.session
            if now is before and after.seq >= now.seq:
                self.session = after
            elif now is before:  # a fresh session, as of another photo
                self.session = replace(after, seq=now.seq)
            elif after.photo is not before.photo:
                self.session = replace(after, stamp=max(now.stamp, after.stamp) + 1, seq=now.seq)
            elif now.photo is not before.photo:
                raise PageError("Another photo was loaded in the meantime.")
            else:
                names = [each.name for each in fields(Session) if each.name not in ("stamp", "seq")]
                changed = {name: getattr(after, name) for name in names if _differ(before, after, name)}
                if any(name in changed and _differ(before, now, name) for name in ("marks", "scene")):
                    raise PageError("You went on in the meantime, so this was not done. Please do it again.")
                stamp, seq = max(now.stamp, after.stamp) + 1, max(now.seq, after.seq)
                self.session = replace(now, **changed, stamp=stamp, seq=seq)
            result = self.session
        self.keep(self)
        return result


def _differ(before: Session, after: Session, name: str) -> bool:
    return getattr(after, name) is not getattr(before, name)
