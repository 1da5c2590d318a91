"""Zip archives: written with a fixed order and date, read within bounds. Internal."""

from __future__ import annotations

import contextlib
import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO

from .document import MAX_BYTES, MAX_LAYERS

_MAX_ENTRIES = 8 * MAX_LAYERS
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: the same scene gives the same bytes
_PACKED = (".png", ".tif")  # pictures are compressed already


def write_archive(file: IO[bytes], entries: Mapping[str, bytes]) -> None:
    """Write entries in their order; `mimetype` and pictures are stored, the rest is compressed.

    Example:
        >>> buffer = io.BytesIO()
        >>> write_archive(buffer, {"mimetype": b"image/openraster"})
        >>> zipfile.ZipFile(buffer).namelist()
        ['mimetype']
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name, date_time=_DATE)
            info.external_attr = 0o644 << 16
            stored = name == "mimetype" or name.endswith(_PACKED)
            archive.writestr(info, content, zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)


class Archive:
    """An opened zip whose entries are read into memory one at a time; nothing is ever unpacked to disk.

    Example:
        >>> with zipfile.ZipFile(io.BytesIO(archive_bytes({"a.txt": b"text"}))) as opened:
        ...     Archive(opened).read("a.txt")
        b'text'
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        entries = archive.infolist()
        if len(entries) > _MAX_ENTRIES:
            raise ValueError(f"the archive may have {_MAX_ENTRIES} entries at most, got {len(entries)}.")
        size = sum(entry.file_size for entry in entries)
        if size > MAX_BYTES:
            raise ValueError(f"the archive may unpack to {MAX_BYTES} bytes at most, got {size}.")
        for entry in entries:
            parts = entry.filename.split("/")
            if "\\" in entry.filename or ":" in parts[0] or parts[0] == "" or ".." in parts:
                raise ValueError(f"the archive has an entry outside of it: {entry.filename!r}.")
        self.names = frozenset(entry.filename for entry in entries)

    def read(self, name: str) -> bytes:
        """The content of an entry, which is never longer than its declared size.

        Raises:
            FileNotFoundError: where there is no such entry.
            ValueError: where it is damaged.
        """
        if name not in self.names:
            raise FileNotFoundError(f"the archive has no entry {name!r}.")
        try:
            return self._archive.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            raise ValueError(f"entry {name!r} of the archive is damaged: {error}") from error


@contextlib.contextmanager
def open_archive(file: IO[bytes]) -> Iterator[Archive]:
    """Open a zip for reading; ValueError where it is none, is cut off, or is too large.

    Example:
        >>> with open_archive(io.BytesIO(archive_bytes({"a.txt": b"text"}))) as archive:
        ...     sorted(archive.names)
        ['a.txt']
    """
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError) as error:
        raise ValueError(f"no complete zip archive: {error}") from error
    with archive:
        yield Archive(archive)


def archive_bytes(entries: Mapping[str, bytes]) -> bytes:
    """What `write_archive` writes, in memory.

    Example:
        >>> archive_bytes({"a.txt": b"text"})[:2]
        b'PK'
    """
    buffer = io.BytesIO()
    write_archive(buffer, entries)
    return buffer.getvalue()
