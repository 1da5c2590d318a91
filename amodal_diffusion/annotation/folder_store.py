"""The folder that annotation works in: what is done, what is claimed by whom, what the run is. Internal.

    annotation.json          what decides the result; another run in the same folder is refused
    shards/00007.parquet     a piece of the work, complete
    shards/00007.claim       somebody is at it

Any number of processes on any number of machines may share the folder. A piece appears by a rename, and its content is
a function of the run alone, so a piece that two did, who could not see each other's claims, is there once all the same.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import PARTIAL, atomic_file, sweep, write_text

MANIFEST = "annotation.json"
SHARDS = "shards"
_BROKEN = "'{path}' is no valid record of an annotation run; annotate into another folder."


class AnnotationStore:
    """The pieces of one run in a folder.

    Args:
        folder: made where it lacks.
        run: JSON object of all that decides the result.
        count: number of pieces.
        claim_timeout: seconds without a sign of life after which a claim counts as abandoned.

    Raises:
        NotADirectoryError: `folder` is a file.
        ValueError: it holds another run, naming what differs, or a broken record of one.
        FileExistsError: it holds other files.

    Example:
        >>> import tempfile
        >>> store = AnnotationStore(Path(tempfile.mkdtemp()) / "run", {"pipeline": "pcnet-m"}, count=2)
        >>> store.claim("00000"), store.claim("00000"), store.missing()
        (True, True, [0, 1])
    """

    def __init__(self, folder: Path, run: Mapping[str, Any], count: int, claim_timeout: float = 600.0) -> None:
        self.folder, self.count, self.claim_timeout = folder, count, claim_timeout
        self.run = json.loads(json.dumps(run))  # as it reads back
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"output {folder} is a file, expected a folder.")
        found = self._read()
        if found is None:
            others = (
                [path.name for path in folder.iterdir() if not path.name.startswith(PARTIAL)] if folder.exists() else []
            )
            if MANIFEST in others:  # of a process that started at the same moment
                found = self._read()
            elif others:
                raise FileExistsError(
                    f"output {folder} holds other files, such as {min(others)!r}; choose a new folder."
                )
            else:
                write_text(folder / MANIFEST, json.dumps({"run": self.run, "finished": False}, indent=1) + "\n")
        if found is not None and found["run"] != self.run:
            differs = sorted(key for key in {*found["run"], *self.run} if found["run"].get(key) != self.run.get(key))
            raise ValueError(f"output {folder} holds another run; what differs is {', '.join(differs)}.")

    def _read(self) -> dict[str, Any] | None:
        path = self.folder / MANIFEST
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(_BROKEN.format(path=path)) from error
        if not isinstance(found, dict) or not isinstance(found.get("run"), dict):
            raise ValueError(_BROKEN.format(path=path))
        return found

    def is_finished(self) -> bool:
        """The whole result is in place."""
        found = self._read()
        return found is not None and found.get("finished") is True

    def piece(self, index: int) -> Path:
        """Where piece `index` lies, or will."""
        return self.folder / SHARDS / f"{index:05d}.parquet"

    def pieces(self) -> list[Path]:
        """All pieces, in order."""
        return [self.piece(index) for index in range(self.count)]

    def missing(self) -> list[int]:
        """Pieces that are not there yet."""
        # One look into the folder, which may lie on another machine, instead of one for each piece.
        folder = self.folder / SHARDS
        there = set(os.listdir(folder)) if folder.is_dir() else set()
        return [index for index in range(self.count) if self.piece(index).name not in there]

    def claim(self, name: str) -> bool:
        """Take a piece of work, unless another living process has it."""
        path = self._claim_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            if not self._is_abandoned(path):
                return False
            with atomic_file(path) as beside:  # ours from here on; whoever did the same at this moment does it too
                beside.write_text(_identity(), encoding="utf-8")
            return True
        except FileNotFoundError:  # swept at this moment, since the run is finished
            return False
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(_identity())
        return True

    def stay(self, name: str) -> None:
        """Give a sign of life for a claim."""
        path = self._claim_path(name)
        if path.exists():
            os.utime(path)

    def release(self, name: str) -> None:
        """Give a claim back."""
        self._claim_path(name).unlink(missing_ok=True)

    def finish(self) -> None:
        """Record that the whole result is in place, and remove the pieces and what killed processes left behind."""
        write_text(self.folder / MANIFEST, json.dumps({"run": self.run, "finished": True}, indent=1) + "\n")
        self.sweep()

    def sweep(self) -> None:
        """Remove what a finished run needs no more."""
        shutil.rmtree(self.folder / SHARDS, ignore_errors=True)
        sweep(self.folder)

    def _claim_path(self, name: str) -> Path:
        return self.folder / SHARDS / f"{name}.claim"

    def _is_abandoned(self, path: Path) -> bool:
        try:
            age = time.time() - path.stat().st_mtime
            host, process = path.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return False  # given back at this moment: the next round sees it
        except ValueError:  # killed between making and writing it
            return age > min(10.0, self.claim_timeout)
        if age > self.claim_timeout:
            return True
        return host == socket.gethostname() and not _is_alive(int(process))


def _identity() -> str:
    return f"{socket.gethostname()} {os.getpid()}"


def _is_alive(process: int) -> bool:
    if process == os.getpid():
        return False  # of an earlier process that had our number: we make no claim twice
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
