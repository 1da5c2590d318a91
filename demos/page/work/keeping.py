"""Work that outlives a reload, a crash or a restart: on disk for a stated time, private to a browser's token.

A browser's works lie in a folder named by the hash of its token, so that whoever reads the disk cannot ask for them as
that browser. `files/works.py` says what lies there. Whatever else is in the folder is never touched.
"""

import hashlib
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from amodal_diffusion.files import atomic_folder, one_writer, remove_folder
from page.work.desk import Desk
from page.work.files.works import DOCUMENT, read_work, write_work
from page.work.session import PageError, Session

LOGGER = logging.getLogger("amodal_diffusion.demo")
TOKEN = re.compile(r"[A-Za-z0-9_-]{43,86}")
HOME = re.compile(r"[0-9a-f]{64}")
"""Names of the folders of browsers."""
DELAY = 2.0
"""Seconds after a change in which further ones are waited for."""


@dataclass(frozen=True)
class Kept:
    """A work on disk: what a visitor is told of it."""

    folder: Path
    title: str
    objects: int
    edits: int
    saved: float


def new_token() -> str:
    """For a browser; nobody can guess it."""
    return secrets.token_urlsafe(32)


class Keeper:
    """Keeps the work of browsers in a folder.

    Args:
        folder: private to the server; made where it is missing. Other files and folders in it stay.
        hours: how long a work is kept after its last change; 0 keeps nothing.
        works: of one browser; the oldest goes.
        total_works: of all browsers.
        total_bytes: likewise; the oldest go.
    """

    def __init__(
        self, folder: Path, hours: float = 48, works: int = 3, total_works: int = 300, total_bytes: int = 4 * 2**30
    ) -> None:
        self.folder, self.hours, self.works = Path(folder), hours, works
        self.total_works, self.total_bytes = total_works, total_bytes
        self._due: dict[Desk, float] = {}
        self._now: Desk | None = None  # whose work is being written
        self._at: WeakValueDictionary[str, Desk] = WeakValueDictionary()  # who wrote or opened a work last
        self._wake = threading.Condition()
        self._disk = threading.RLock()
        self._blocks = 0  # of `_alone`, one in another
        self._thread: threading.Thread | None = None

    # Saving

    def later(self, desk: Desk) -> None:
        """Save the work on a desk soon, beside what else is done."""
        if not self.hours or not desk.token or not desk.session.work:
            return
        with self._wake:
            if self._at.get(desk.work, desk) is not desk:  # another tab goes on with that one
                desk.work = secrets.token_hex(16)
            self._at[desk.work] = desk
            self._due.setdefault(desk, time.monotonic() + DELAY)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            self._wake.notify()

    def settle(self, token: str) -> None:
        """Save now what is due of one browser, as before it is told what there is."""
        with self._wake:
            if all(desk.token != token for desk in (*self._due, *filter(None, [self._now]))):
                return
        self._save_due(lambda desk: desk.token == token)

    def take(self, desk: Desk, kept: Kept) -> None:
        """A tab goes on with a work; another one that has it too goes on with a copy of its own."""
        with self._wake:
            other = self._at.get(kept.folder.name)
            if other is not None and other is not desk and other in self._due:
                other.work = secrets.token_hex(16)
                self._at[other.work] = other
            desk.work = kept.folder.name
            self._at[desk.work] = desk

    def flush(self) -> None:
        """Save now what is due, as before the server ends, and wait for what is being saved."""
        self._save_due(lambda desk: True)

    def _save_due(self, is_asked: Callable[[Desk], bool]) -> None:
        with self._disk:  # what is being written is there then
            with self._wake:
                desks = [desk for desk in self._due if is_asked(desk)]
                for desk in desks:
                    del self._due[desk]
                if self._now is not None and self._now not in desks and is_asked(self._now):
                    desks.append(self._now)
            for desk in desks:
                self._save_quietly(desk)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._due:
                    self._wake.wait()
                desk, when = min(self._due.items(), key=lambda item: item[1])
                left = when - time.monotonic()
                if left > 0:
                    self._wake.wait(left)
                    continue
                del self._due[desk]
                self._now = desk
            self._save_quietly(desk)
            self._now = None

    def _save_quietly(self, desk: Desk) -> None:
        try:
            self.save(desk.token, desk.work, desk.session)
            desk.unkept = desk.told_unkept = False
        except Exception as error:  # a full disk must not end the thread
            desk.unkept = True
            LOGGER.error("a work could not be kept", exc_info=error)

    def save(self, token: str, work: str, session: Session) -> None:
        """Write a work in the place of what was kept of it."""
        if session.photo is None:
            return
        home = self._home(token)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if hasattr(os, "getuid") and self.folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{self.folder} is of another user.")
        with self._alone():
            home.mkdir(exist_ok=True, mode=0o700)
            with atomic_folder(home / work) as folder:
                write_work(session, folder)
            for kept in self.kept(token)[self.works :]:
                remove_folder(kept.folder)
            self.sweep()

    # What is there

    def kept(self, token: str) -> list[Kept]:
        """The works of a browser, the latest first."""
        if not self.hours or not isinstance(token, str) or not TOKEN.fullmatch(token):
            return []
        found = [about(folder) for folder in self._folders(self._home(token))]
        return sorted((kept for kept in found if kept is not None), key=lambda kept: -kept.saved)

    def open(self, kept: Kept, session: Session) -> Session:
        """The session of a work, for the visitor who has another now."""
        with self._alone():
            try:
                return read_work(kept.folder, session)
            except (OSError, ValueError, LookupError, TypeError) as error:
                LOGGER.error("a work could not be read", exc_info=error)
                raise PageError("Your last scene could not be read.") from error

    def discard(self, kept: Kept) -> None:
        """Delete a work."""
        with self._alone():
            remove_folder(kept.folder)

    def sweep(self) -> None:
        """Delete what is older than the stated time, and the oldest of what is more than there is room for."""
        with self._alone():
            homes = [home for home in self.folder.glob("*") if HOME.fullmatch(home.name) and home.is_dir()]
            works = [(path.stat().st_mtime, path) for home in homes for path in self._folders(home)]
            too_old = time.time() - 3600 * self.hours
            room, left = self.total_bytes, self.total_works
            for saved, path in sorted(works, reverse=True):
                size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                room, left = room - size, left - 1
                if saved < too_old or room < 0 or left < 0:
                    remove_folder(path)
            for home in homes:
                if not any(home.iterdir()):
                    home.rmdir()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else works in the folder: no other thread, and no other server of this machine."""
        with self._disk, ExitStack() as stack:
            if not self._blocks and self.folder.is_dir():
                stack.enter_context(one_writer(self.folder))
            self._blocks += 1
            try:
                yield
            finally:
                self._blocks -= 1

    def _home(self, token: str) -> Path:
        if not TOKEN.fullmatch(token):
            raise ValueError("`token` must be one of `new_token`.")
        return self.folder / hashlib.sha256(token.encode("ascii")).hexdigest()

    def _folders(self, home: Path) -> Iterator[Path]:
        """The works of a browser: folders with the document that each has from its first moment."""
        try:
            paths = list(home.iterdir()) if home.is_dir() else []
        except FileNotFoundError:  # swept at this moment
            return
        yield from (path for path in paths if not path.name.startswith(".") and (path / DOCUMENT).is_file())


def about(folder: Path) -> Kept | None:
    """What is said of a work; None where it is no complete one."""
    try:
        document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
        saved = (folder / DOCUMENT).stat().st_mtime
        return Kept(folder, str(document["title"]), int(document["objects"]), int(document["edits"]), saved)
    except (OSError, ValueError, KeyError, TypeError):
        return None
