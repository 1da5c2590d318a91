"""JSON files of hundreds of megabytes, read in bounded memory: only the position of each record is kept.

The standard library parses, one record at a time. A streaming parser such as ijson does not tell where a record lies,
so records that come in any order could be grouped by image only by keeping all of them in memory.
"""

from __future__ import annotations

import codecs
import json
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, overload

CHUNK_BYTES = 2**20
_SPACE = " \t\n\r"
_OF_NUMBERS = "0123456789.eE+-"
_DECODER = json.JSONDecoder()


class Head(NamedTuple):
    """What is needed of a record to group it: its ids, and its `type`, "object" or the Python type found instead.

    Example:
        >>> head_of({"id": 3, "image_id": 1})
        Head(type='object', id=3, image_id=1)
    """

    type: str
    id: Any = None
    image_id: Any = None


class BrokenJsonError(ValueError):
    """The text is no JSON; the message says where.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "file.json").write_text('{"images": [}')
        ...     try:
        ...         read_json(Path(folder, "file.json"), ["images"])
        ...     except BrokenJsonError as error:
        ...         print(error)
        broken JSON at line 1 column 13 (character 12): Expecting value
    """


class JsonArray(Sequence[Any]):
    """An array in a JSON file. Elements are parsed when they are asked for; iterating holds one at a time.

    Attributes:
        heads: the ids of each element.
        fields: keys that occur in any of the elements.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "file.json").write_text('{"images": [{"id": 1}, {"id": 2}]}')
        ...     images = read_json(Path(folder, "file.json"), ["images"])["images"]
        ...     len(images), images[1]
        (2, {'id': 2})
    """

    def __init__(self, path: Path, starts: array[int], ends: array[int], heads: list[Head], fields: set[str]) -> None:
        self.heads = heads
        self.fields = fields
        self._path = path.absolute()
        self._starts, self._ends = starts, ends

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """The element, parsed anew each time.

        Raises:
            IndexError: no such element.
            BrokenJsonError: the file was changed since it was opened.
        """
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        try:
            return json.loads(_read_bytes(self._path, self._starts[index], self._ends[index]))
        except ValueError as error:
            raise BrokenJsonError(f"{self._path} was changed while it was read") from error


def head_of(element: Any) -> Head:
    """The ids of a record.

    Example:
        >>> head_of({"id": 3, "image_id": 1, "area": 20})
        Head(type='object', id=3, image_id=1)
        >>> head_of([1, 2])
        Head(type='list', id=None, image_id=None)
    """
    if not isinstance(element, Mapping):
        return Head(type(element).__name__)
    return Head("object", element.get("id"), element.get("image_id"))


def read_json(path: Path, arrays: Sequence[str]) -> Any:
    """Parse a JSON file (UTF-8, a byte-order mark allowed) whose large parts are arrays at its top level.

    Args:
        path: the file.
        arrays: keys at the top level whose arrays stay in the file.

    Returns:
        The content, with a `JsonArray` under each of `arrays` that is an array.

    Raises:
        OSError: the file cannot be read.
        BrokenJsonError: the text is no JSON, with its position, not UTF-8, or nested too deeply.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "file.json").write_text('{"info": {}, "images": [{"id": 1}]}')
        ...     content = read_json(Path(folder, "file.json"), ["images"])
        ...     content["info"], len(content["images"])
        ({}, 1)
    """
    with path.open("rb") as file:
        scanner = _Scanner(file)
        try:
            return _read_document(scanner, path, arrays)
        except json.JSONDecodeError as error:
            raise BrokenJsonError(f"broken JSON at {_place(file, scanner.base + error.pos)}: {error.msg}") from error
        except RecursionError as error:
            raise BrokenJsonError("JSON nested too deeply") from error
        except BrokenJsonError:
            raise
        except OSError as error:
            raise named_error(error, path) from error
        except ValueError as error:  # an integer of thousands of digits
            raise BrokenJsonError(f"JSON with a number that cannot be read: {error}") from error


class _Scanner:
    """A window on a file. Bytes stand as Latin-1 characters, so that positions are bytes and none is cut in two."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.text = ""
        self.base = 0  # position of the window in the file
        self.read = 0  # bytes of the file that were read
        self.index = 0  # next character in the window
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
            self.base = self.read = len(codecs.BOM_UTF8)
        else:
            file.seek(0)

    def _fill(self) -> bool:
        """Read on, and forget what lies before `index`. False at the end of the file."""
        # A window that held too little is doubled, so that a large value is not parsed once for every chunk of it.
        chunk = self.file.read(max(CHUNK_BYTES, len(self.text) - self.index))
        pending = len(self._utf8.getstate()[0])
        try:
            self._utf8.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise BrokenJsonError(f"not UTF-8 text at byte {self.read - pending + error.start}") from error
        if not chunk:
            return False
        self.read += len(chunk)
        self.text = self.text[self.index :] + chunk.decode("latin-1")
        self.base += self.index
        self.index = 0
        return True

    def peek(self) -> str:
        """The next character that is no white space, "" at the end of the file."""
        while True:
            while self.index < len(self.text) and self.text[self.index] in _SPACE:
                self.index += 1
            if self.index < len(self.text):
                return self.text[self.index]
            if not self._fill():
                return ""

    def take(self, allowed: str, message: str) -> str:
        """The next character, which must be one of `allowed`."""
        found = self.peek()
        if not found or found not in allowed:
            raise json.JSONDecodeError(message, self.text, self.index)
        self.index += 1
        return found

    def value(self) -> tuple[Any, int, int]:
        """The next value, its start and its end in the file; characters outside ASCII are not decoded."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.index)
            except json.JSONDecodeError:
                if not self._fill():
                    raise
                continue
            # A number may go on behind the window; "1e" at its end reads as 1.
            if self.text[end : end + 8].strip(_OF_NUMBERS) or not self._fill():
                start = self.base + self.index
                stop = start + end - self.index
                self.index = end
                return value, start, stop


def _read_document(scanner: _Scanner, path: Path, arrays: Sequence[str]) -> Any:
    if scanner.peek() != "{":
        content: Any = _exact(scanner, path)
    else:
        content = {}
        scanner.take("{", "Expecting value")
        closed = scanner.peek() == "}"
        while not closed:
            if scanner.peek() != '"':
                raise json.JSONDecodeError(
                    "Expecting property name enclosed in double quotes", scanner.text, scanner.index
                )
            key = _exact(scanner, path)
            scanner.take(":", "Expecting ':' delimiter")
            lazy = key in arrays and scanner.peek() == "["
            content[key] = _read_array(scanner, path) if lazy else _exact(scanner, path)
            closed = scanner.peek() == "}"
            if not closed:
                scanner.take(",", "Expecting ',' delimiter")
        scanner.take("}", "Expecting ',' delimiter")
    if scanner.peek():
        raise json.JSONDecodeError("Extra data", scanner.text, scanner.index)
    return content


def _exact(scanner: _Scanner, path: Path) -> Any:
    """The next value with all its characters."""
    _, start, stop = scanner.value()
    return json.loads(_read_bytes(path, start, stop))


def named_error(error: OSError, path: Path) -> OSError:
    """The same error with the name of the file, which reading leaves out, unlike opening.

    Example:
        >>> named_error(OSError(5, "Input/output error"), Path("a.json"))
        OSError(5, 'Input/output error')
        >>> named_error(OSError(5, "Input/output error"), Path("a.json")).filename
        'a.json'
    """
    return OSError(error.errno, error.strerror, os.fspath(path)) if error.filename is None else error


def _read_bytes(path: Path, start: int, stop: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        return file.read(stop - start)


def _read_array(scanner: _Scanner, path: Path) -> JsonArray:
    starts, ends = array("q"), array("q")
    fields: set[str] = set()
    heads: list[Head] = []
    scanner.take("[", "Expecting value")
    closed = scanner.peek() == "]"
    while not closed:
        value, start, stop = scanner.value()
        starts.append(start)
        ends.append(stop)
        heads.append(head_of(value))
        if isinstance(value, dict):
            fields.update(value)
        closed = scanner.peek() == "]"
        if not closed:
            scanner.take(",", "Expecting ',' delimiter")
    scanner.take("]", "Expecting ',' delimiter")
    return JsonArray(path, starts, ends, heads, fields)


def _place(file: BinaryIO, position: int) -> str:
    """Line, column and character of a byte, counted from 1, 1 and 0, as `json` words it."""
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line, column, characters = 1, 1, 0
    for chunk in _chunks(file, position):
        text = decoder.decode(chunk)
        characters += len(text)
        line += text.count("\n")
        column = len(text) - text.rindex("\n") if "\n" in text else column + len(text)
    return f"line {line} column {column} (character {characters})"


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size and (chunk := file.read(min(size, CHUNK_BYTES))):
        size -= len(chunk)
        yield chunk
