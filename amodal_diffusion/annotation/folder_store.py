"""The folder that annotation works in: what is done, and what the run is. Internal.

    annotation.json                    what decides the result; another run in the same folder is refused
    shards/00002/00002007.parquet      a piece of the work, complete, with its number; a thousand in a folder

Any number of processes on any number of machines may share the folder. A piece appears by a rename, and its content is
a function of the run alone, so a piece that two did is there once all the same. What is there is listed once and kept
in memory: the cost of a piece does not grow with their number.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import PARTIAL, atomic_file, check_replaced, sweep, write_text
from .record import RECORD, check_same_run, read_record, record_text

if TYPE_CHECKING:
    import pyarrow

SHARDS = "shards"
_IN_A_FOLDER = 1000
_PIECE = b"piece"  # key of the metadata of its file


class AnnotationStore:
    """The pieces of one run in a folder.

    Args:
        folder: made where it lacks.
        run: JSON object of all that decides the result.
        count: number of pieces.

    Attributes:
        missing: the pieces that were not there when they were listed, less those written here since; see `refresh`.

    Raises:
        NotADirectoryError: `folder` is a file.
        ValueError: it holds another run, naming what differs, or a broken record of one.
        FileExistsError: it holds other files.

    Example:
        >>> import pyarrow, tempfile
        >>> store = AnnotationStore(Path(tempfile.mkdtemp()) / "run", {"pipeline": "pcnet-m"}, count=2)
        >>> store.write(1, pyarrow.table({"image_id": ["7"]}))
        >>> store.missing, store.is_finished()
        ({0}, False)
    """

    def __init__(self, folder: Path, run: Mapping[str, Any], count: int) -> None:
        self.folder, self.run, self.count = folder, dict(run), count
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"output {folder} is a file, expected a folder.")
        found = self._read()
        if found is None:
            others = (
                [path.name for path in folder.iterdir() if not path.name.startswith(PARTIAL)] if folder.exists() else []
            )
            if RECORD in others:  # of a process that started at the same moment
                found = self._read()
            else:
                check_replaced(folder, others, ())
                write_text(folder / RECORD, record_text(self.run, finished=False))
        if found is not None:
            check_same_run(found[0], self.run, folder)
        self.missing: set[int] = set()
        self.refresh()

    def _read(self) -> tuple[dict[str, Any], bool] | None:
        path = self.folder / RECORD
        return read_record(path.read_bytes(), path) if path.exists() else None

    def is_finished(self) -> bool:
        """The whole result is in place."""
        found = self._read()
        return found is not None and found[1]

    def piece(self, index: int) -> Path:
        """Where piece `index` lies, or will."""
        return self.folder / SHARDS / f"{index // _IN_A_FOLDER:05d}" / f"{index:08d}.parquet"

    def refresh(self) -> None:
        """List the pieces anew."""
        self.missing = set(range(self.count)) - self._there()

    def _there(self) -> set[int]:
        folder = self.folder / SHARDS
        folders = os.listdir(folder) if folder.is_dir() else []
        names = [name for part in folders if part.isdecimal() for name in os.listdir(folder / part)]
        return {int(stem) for stem, suffix in map(os.path.splitext, names) if stem.isdecimal() and suffix == ".parquet"}

    def write(self, index: int, table: pyarrow.Table) -> None:
        """Put a piece into its place, unless the whole run was finished meanwhile."""
        import pyarrow.parquet as parquet

        if not self.is_finished():
            marked = table.replace_schema_metadata({**(table.schema.metadata or {}), _PIECE: self._mark(index)})
            with atomic_file(self.piece(index)) as beside:
                parquet.write_table(marked, beside)
        self.missing.discard(index)

    def read(self, index: int) -> pyarrow.Table:
        """A piece as it was written.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: it is broken, or another piece in this one's place.
        """
        import pyarrow
        import pyarrow.parquet as parquet

        try:
            table = parquet.read_table(self.piece(index))
        except FileNotFoundError:
            raise
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise self._unusable(index, f"cannot be read ({error})") from error
        metadata = dict(table.schema.metadata or {})
        if metadata.pop(_PIECE, None) != self._mark(index):
            raise self._unusable(index, f"is not piece {index} of this run")
        return table.replace_schema_metadata(metadata)

    def _mark(self, index: int) -> bytes:
        """What tells a piece from all others, of this run and of others."""
        run = hashlib.sha256(json.dumps(self.run, sort_keys=True).encode()).hexdigest()[:16]
        return f"{index} of {self.count}, {run}".encode()

    def _unusable(self, index: int, why: str) -> ValueError:
        return ValueError(
            f"the piece '{self.piece(index)}' {why}; delete it and start the same command again, which does that piece "
            "anew."
        )

    def finish(self) -> None:
        """Record that the whole result is in place, and remove the pieces and what killed processes left behind."""
        write_text(self.folder / RECORD, record_text(self.run, finished=True))
        self.sweep()

    def sweep(self) -> None:
        """Remove what a finished run needs no more."""
        shutil.rmtree(self.folder / SHARDS, ignore_errors=True)
        sweep(self.folder)
