"""Files of answers: lines of JSON that are only ever appended to, so that a kill costs at most the last line."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

Entry = TypeVar("Entry")


def append_json_line(path: str | os.PathLike[str], entry: Mapping[str, Any]) -> None:
    """Add a line to a file and wait until it is on the disk; a line that was cut off before it is ended first.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     append_json_line(Path(folder) / "answers.jsonl", {"person": "ann"})
        ...     list(read_json_lines(Path(folder) / "answers.jsonl", dict))
        [{'person': 'ann'}]
    """
    path = Path(path)
    line = json.dumps(entry) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        if file.tell() and not _ends_with_newline(path):
            line = "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def read_json_lines(path: str | os.PathLike[str], read: Callable[[dict[str, Any]], Entry]) -> Iterator[Entry]:
    """What `read` makes of the objects of a file, line by line; bad lines are left out, and named in the log.

    Nothing where there is no file.

    Args:
        path: of the file.
        read: takes the object of a line; raises ValueError, saying what is wrong, or KeyError for a field that is
            missing.

    Example:
        >>> list(read_json_lines("a file that does not exist", dict))
        []
    """
    if not Path(path).exists():
        return
    for number, line in enumerate(Path(path).read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict):
            logger.warning("%s: line %d is no JSON object and is left out", path, number)
            continue
        try:
            found = read(entry)
        except KeyError as error:
            logger.warning("%s: line %d has no %s and is left out", path, number, error)
        except ValueError as error:
            logger.warning("%s: line %d is left out: %s", path, number, error)
        else:
            yield found


def text_of(entry: Mapping[str, Any], field: str) -> str:
    """A field of a line that is a text with something in it.

    Raises:
        ValueError, KeyError: naming the field.

    Example:
        >>> text_of({"person": "ann"}, "person")
        'ann'
    """
    value = entry[field]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"`{field}` must be a text, got {value!r}")
    return value


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
