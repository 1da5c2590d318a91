"""Files: JSON is read with errors that name it; what is written appears complete in its place, or what was there stays.

What a program writes goes to a temporary folder beside its place and takes that place by a rename, after it was synced
to the disk. So a reader never meets half of a result, and neither a kill at any moment nor a full disk loses the old
one.

- A file takes the place of another by `os.replace`, with its mode. A link to a file stays one: what it leads to is
  replaced.
- A folder takes the place of another by an exchange of both names, which Linux can do in one step. Where the system or
  the file system cannot, the old folder is moved away first; should the program be killed between these two renames,
  the next writer into the same parent folder moves it back.
- Temporary folders are named `.partial-*` and locked while their writer lives. What a killed one left is swept by the
  next writer.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

try:
    import fcntl
except ImportError:  # on Windows, where only age tells what was left behind
    fcntl = cast(Any, None)

_LOCKS: Any = fcntl
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

PathLike = str | os.PathLike[str]

PARTIAL = ".partial-"
"""How the names of temporary folders begin."""

# What a temporary folder holds: its lock, what is written, links to what stays, what was moved away.
_LOCK, _NEW, _OTHERS, _OLD, _GONE = "lock", "new", "others", "old", "gone"
_DAY = 86400.0
_MAX_OTHERS = 10_000
"""Other files in a folder that are linked into its successor; more would take long."""


def read_json(path: PathLike, name: str | None = None) -> Any:
    """What a small JSON file holds, with or without a byte order mark.

    Args:
        path: of the file.
        name: how errors call it; its path without.

    Raises:
        ValueError: it is no valid JSON.
        OSError: it cannot be read.

    Example:
        >>> path = Path(tempfile.mkdtemp()) / "a.json"
        >>> _ = path.write_text("[1, 2]")
        >>> read_json(path)
        [1, 2]
    """
    return parse_json(Path(path).read_bytes(), os.fspath(path) if name is None else name)


def parse_json(content: bytes, name: str) -> Any:
    """What JSON says.

    Args:
        content: UTF-8, with or without a byte order mark.
        name: how errors call it.

    Raises:
        ValueError: it is no valid JSON, or no text.

    Example:
        >>> parse_json(b"[1", "a.json")
        Traceback (most recent call last):
        ...
        ValueError: a.json is no valid JSON: Expecting ',' delimiter: line 1 column 3 (char 2)
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # of bytes, syntax, or integers of thousands of digits
        raise ValueError(f"{name} is no valid JSON: {error}") from error


def parse_json_object(content: bytes, name: str) -> dict[str, Any]:
    """The same, where it has to be an object.

    Raises:
        ValueError: it is no valid JSON, or something else than an object.

    Example:
        >>> parse_json_object(b"[1]", "scene.json")
        Traceback (most recent call last):
        ...
        ValueError: scene.json must hold a JSON object, got list.
    """
    document = parse_json(content, name)
    if not isinstance(document, dict):
        raise ValueError(f"{name} must hold a JSON object, got {type(document).__name__}.")
    return document


@contextlib.contextmanager
def atomic_file(path: PathLike) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the block ends well; otherwise nothing changes.

    Args:
        path: of the file; folders are made where they lack. The temporary path has the same name, in another folder.
            A link stays one, and the file that it leads to is replaced. The mode of a file that is there is kept.

    Raises:
        IsADirectoryError: `path` is a folder.
        OSError: it cannot be written.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_file(folder / "report.txt") as temporary:
        ...     _ = temporary.write_text("done")
        >>> (folder / "report.txt").read_text()
        'done'
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected the path of a file.")
    target = _linked_file(path)
    with _names_full_disk(path), _workplace(target.parent) as place:
        temporary = place / _NEW / path.name
        yield temporary
        _sync(temporary)
        if target.exists():
            shutil.copymode(target, temporary)  # which may forbid to read it
        os.replace(temporary, target)
        _sync(target.parent)


@contextlib.contextmanager
def atomic_folder(path: PathLike, *, replaces: Sequence[str] | None = None) -> Iterator[Path]:
    """An empty temporary folder that takes the place of `path` when the block ends well; otherwise nothing changes.

    Where the folder cannot be renamed (it is a mount point, the current directory, or in a folder that is not
    writable), its entries are replaced one by one, the last of `replaces` last: a kill then leaves a folder without
    that one.

    Args:
        path: of the folder, which is made where it lacks. A link to a folder stays one.
        replaces: names of the entries that belong to what is written. They are replaced, or removed where there is no
            new one; all other entries of an old folder stay, unless there is a new one. None: nothing of it stays.

    Raises:
        NotADirectoryError: `path` is a file.
        OSError: it cannot be written.

    Example:
        >>> folder = Path(tempfile.mkdtemp()) / "result"
        >>> for text in ("first", "second"):
        ...     with atomic_folder(folder) as temporary:
        ...         _ = (temporary / f"{text}.txt").write_text(text)
        >>> os.listdir(folder)
        ['second.txt']
    """
    _check_no_file(Path(path))
    folder = Path(path).resolve()
    within = _must_stay(folder)
    with _names_full_disk(Path(path)), _workplace(folder if within else folder.parent) as place:
        staged = place / _NEW / (folder.name or "root")
        staged.mkdir()
        yield staged
        _sync_tree(staged)
        if within or not _take_others_over(folder, staged, replaces, place / _OTHERS):
            _replace_entries(folder, staged, replaces, place / _GONE)
        else:
            _replace_folder(folder, staged, replaces, place / _OLD)


@contextlib.contextmanager
def one_writer(folder: PathLike) -> Iterator[None]:
    """Let one process or thread at a time into the block, for a folder that is made where it lacks.

    Others wait. Where the system or the file system knows no locks nobody does. A folder that was made and is empty at
    the end is removed.

    Example:
        >>> folder = Path(tempfile.mkdtemp()) / "result"
        >>> with one_writer(folder):
        ...     folder.is_dir()
        True
        >>> folder.exists()
        False
    """
    folder = Path(folder)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    handle = _locked(folder)
    try:
        yield
    finally:
        for place in made:
            with contextlib.suppress(OSError):  # not empty
                place.rmdir()
        if handle is not None:
            os.close(handle)


def _locked(folder: Path) -> int | None:
    """A folder that is made where it lacks, locked for this process; None where the system knows no locks."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        if _LOCKS is None:
            return None
        handle = os.open(folder, os.O_RDONLY)
        with contextlib.suppress(OSError):
            _LOCKS.flock(handle, _LOCKS.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):  # the one before it may have removed the folder
            if os.path.samestat(os.fstat(handle), os.stat(folder)):
                return handle
        os.close(handle)


def write_text(path: PathLike, text: str) -> None:
    """Write UTF-8 text with `atomic_file`.

    Example:
        >>> path = Path(tempfile.mkdtemp()) / "new" / "note.txt"
        >>> write_text(path, "whole")
        >>> path.read_text()
        'whole'
    """
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_folder(folder: PathLike) -> None:
    """Remove a folder at once: it is renamed first, so a kill never leaves half of it under its name.

    Example:
        >>> folder = Path(tempfile.mkdtemp()) / "result"
        >>> folder.mkdir()
        >>> remove_folder(folder)
        >>> folder.exists()
        False
    """
    folder = Path(folder)
    with _workplace(folder.parent) as place:
        (place / _GONE).mkdir()
        os.rename(folder, place / _GONE / folder.name)


def check_path(path: PathLike, name: str = "path") -> Path:
    """A path that a user gave.

    Raises:
        TypeError: neither a text nor a path.
        ValueError: an empty text, which would mean the current folder, or one with NUL, which no path has.

    Example:
        >>> check_path("scene.ora").suffix
        '.ora'
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise TypeError(f"`{name}` must be a path, got {path!r}.")
    if not text.strip() or "\0" in text:
        raise ValueError(f"`{name}` must be a path, got {text[:200]!r}.")
    return Path(text)


def check_output_folder(folder: PathLike) -> None:
    """Refuse a folder that cannot be made or written to, before the work whose results it should hold.

    Nothing is left behind: a file is made where the folder is, or in the nearest parent that exists, and deleted.

    Raises:
        NotADirectoryError: where `folder` or a parent of it is a file.
        FileNotFoundError: where it is a link to nothing.
        OSError: where nothing can be written there.

    Example:
        >>> path = Path(tempfile.mkdtemp()) / "file"
        >>> path.touch()
        >>> check_output_folder(path.parent / "new")
        >>> check_output_folder(path)
        Traceback (most recent call last):
        ...
        NotADirectoryError: output ...file is a file, expected a folder.
    """
    folder = Path(folder)
    _check_no_file(folder)
    existing = next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())
    if not existing.exists():
        raise FileNotFoundError(f"output {folder} cannot be made: {existing} is a link to nothing.")
    if not existing.is_dir():
        raise NotADirectoryError(f"output {folder} cannot be made: {existing} is a file.")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise OSError(f"output {folder} cannot be written: {error.strerror or error}.") from error


def check_replaced(folder: PathLike, names: Collection[str], owned: Collection[str]) -> None:
    """Refuse a folder in which a result would take the place of something that no earlier result left there.

    Args:
        folder: where the result goes; it may be missing.
        names: of all entries that the result would replace or remove.
        owned: those of them that an earlier result left, as its own record says.

    Raises:
        FileExistsError: naming the folder and one entry.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "photo.png").touch()
        >>> check_replaced(folder, ["photo.png", "scene.json"], ["photo.png"])
        >>> check_replaced(folder, ["photo.png", "scene.json"], [])
        Traceback (most recent call last):
        ...
        FileExistsError: output ... holds other files, such as 'photo.png'; choose a new folder.
    """
    others = sorted(name for name in set(names) - set(owned) if os.path.lexists(Path(folder) / name))
    if others:
        raise FileExistsError(f"output {folder} holds other files, such as {others[0]!r}; choose a new folder.")


def check_output_file(path: PathLike) -> None:
    """Refuse a path at which no file can be written, before the work that it is for.

    Raises:
        IsADirectoryError: where it is a folder.
        NotADirectoryError, OSError: as `check_output_folder` says of its folder.

    Example:
        >>> check_output_file(tempfile.gettempdir())
        Traceback (most recent call last):
        ...
        IsADirectoryError: ... is a folder, expected the path of a file.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected the path of a file.")
    check_output_folder(_linked_file(path).parent)


def file_stem(index: int, name: str) -> str:
    """A file name for object `index`: its number, and what plain letters its name has.

    Example:
        >>> file_stem(3, "Giraffe, left"), file_stem(4, "")
        ('003-giraffe-left', '004')
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
    return "-".join(part for part in (f"{index:03d}", slug) if part)


def sweep(parent: PathLike) -> None:
    """Remove what killed writers left in a folder, and move back what one of them had moved away.

    `atomic_file` and `atomic_folder` do this for the folder that they write into.

    Example:
        >>> parent = Path(tempfile.mkdtemp())
        >>> (parent / ".partial-left").mkdir()
        >>> (parent / ".partial-left" / "lock").touch()
        >>> sweep(parent)
        >>> os.listdir(parent)
        []
    """
    parent = Path(parent)
    for name in [name for name in os.listdir(parent) if name.startswith(PARTIAL)]:
        place = parent / name
        with _if_abandoned(place) as abandoned:
            if abandoned:
                moved_away = list((place / _OLD).iterdir()) if (place / _OLD).is_dir() else []
                for old in moved_away:
                    if not os.path.lexists(parent / old.name):
                        os.rename(old, parent / old.name)
                _remove(place)


# Temporary folders


@contextlib.contextmanager
def _names_full_disk(path: Path) -> Iterator[None]:
    """Let the error of a full disk say what could not be written, which the system's does not."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and error.filename is None:
            raise OSError(error.errno, f"{path} cannot be written: {error.strerror}") from error
        raise


@contextlib.contextmanager
def _workplace(parent: Path) -> Iterator[Path]:
    """A temporary folder in `parent`, which is made where it lacks, locked as long as the block runs."""
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    place, lock = _make_locked(parent)
    try:
        yield place
    finally:
        try:
            _remove(place)
        finally:
            os.close(lock)
        with contextlib.suppress(OSError):  # not empty, since something was written
            for folder in made:
                folder.rmdir()


def _remove(place: Path) -> None:
    """Delete a temporary folder, its lock last: without it, nobody could tell that it is abandoned."""
    for name in (_NEW, _OTHERS, _OLD, _GONE):
        shutil.rmtree(place / name, ignore_errors=True)
    shutil.rmtree(place, ignore_errors=True)


def _make_locked(parent: Path) -> tuple[Path, int]:
    while True:
        place = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=parent))
        try:
            # Another writer may sweep it between these lines, before it is locked: then once more.
            lock = os.open(place / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                if _try_lock(lock) is not False and (place / _LOCK).exists():
                    (place / _NEW).mkdir()
                    return place, lock
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)
        except (FileNotFoundError, BlockingIOError):
            continue
        except OSError:
            _remove(place)
            raise


def _try_lock(handle: int) -> bool | None:
    """Lock an open file: True, False where another process has it, None where the file system knows no locks."""
    if _LOCKS is None:
        return None
    try:
        _LOCKS.flock(handle, _LOCKS.LOCK_EX | _LOCKS.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def _if_abandoned(place: Path) -> Iterator[bool]:
    """Whether the writer of a temporary folder is gone; it stays locked against other sweepers inside of the block."""
    try:
        handle = os.open(place / _LOCK, os.O_RDWR)
    except OSError:
        # Killed before it was locked, or not locked yet: then its writer makes another.
        with contextlib.suppress(OSError):
            os.rmdir(place)
        yield _age(place) > _DAY
        return
    try:
        free = _try_lock(handle)
        yield _age(place) > _DAY if free is None else free
    finally:
        os.close(handle)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


# Taking the place


def _linked_file(path: Path) -> Path:
    """Where a file is written that is to be found at `path`: what a link leads to, also where nothing is there yet."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _must_stay(folder: Path) -> bool:
    """Whether a folder cannot be renamed, or should not: a shell stands in it."""
    if not folder.is_dir():
        return False
    if os.path.ismount(folder) or not os.access(folder.parent, os.W_OK):
        return True
    try:
        return Path.cwd().is_relative_to(folder)
    except OSError:  # the current directory is gone
        return False


def _take_others_over(folder: Path, staged: Path, replaces: Collection[str] | None, others: Path) -> bool:
    """Link what stays of `folder` into `staged`; False, and nothing done, where that cannot be."""
    if replaces is None or not folder.is_dir():
        return True
    stay = [entry for entry in folder.iterdir() if _stays(entry, staged, replaces)]
    others.mkdir()
    try:
        link = _counting_link()
        for entry in stay:
            if entry.is_dir() and not entry.is_symlink():
                shutil.copytree(entry, others / entry.name, symlinks=True, copy_function=link)
            else:
                link(entry, others / entry.name)
    except OSError:  # no links on this file system, another one mounted inside, too many files
        shutil.rmtree(others, ignore_errors=True)
        return False
    for entry in stay:
        os.rename(others / entry.name, staged / entry.name)
    return True


def _stays(entry: Path, staged: Path, replaces: Collection[str]) -> bool:
    if entry.name in replaces or entry.name.startswith(PARTIAL):
        return False
    return not os.path.lexists(staged / entry.name)


def _counting_link() -> Callable[..., str]:
    count = 0

    def link(source: PathLike, target: PathLike) -> str:
        nonlocal count
        count += 1
        if count > _MAX_OTHERS:
            raise OSError(f"more than {_MAX_OTHERS} other files")
        os.link(source, target, follow_symlinks=False)
        return os.fspath(target)

    return link


def _replace_folder(folder: Path, staged: Path, replaces: Collection[str] | None, old: Path) -> None:
    """Put `staged` where `folder` is, and `folder` where `staged` was or into `old`."""
    gone = staged
    if folder.is_dir():
        shutil.copymode(folder, staged)
    try:
        os.rename(staged, folder)  # where nothing is there, or an empty folder
    except OSError:
        if not _exchange(staged, folder):
            old.mkdir()
            gone = old / folder.name
            os.rename(folder, gone)
            try:
                os.rename(staged, folder)
            except BaseException:
                os.rename(gone, folder)
                raise
    _sync(folder.parent)
    if replaces is not None and gone.is_dir():  # what came into it meanwhile
        for entry in [entry for entry in gone.iterdir() if _stays(entry, folder, replaces)]:
            os.rename(entry, folder / entry.name)


def _replace_entries(folder: Path, staged: Path, replaces: Sequence[str] | None, gone: Path) -> None:
    """Put the entries of `staged` into `folder`, where the last of `replaces` goes first and comes last."""
    new = os.listdir(staged)
    owned = [name for name in os.listdir(folder) if not name.startswith(PARTIAL)] if replaces is None else replaces
    last = owned[-1:]
    others = [name for name in dict.fromkeys([*owned, *new]) if name not in last]
    gone.mkdir()
    for name in (*last, *others):
        if os.path.lexists(folder / name):
            if name in others and name in new and _exchange(staged / name, folder / name):
                continue
            os.rename(folder / name, gone / name)
        if name in others and name in new:
            os.rename(staged / name, folder / name)
    for name in last:
        if name in new:
            os.rename(staged / name, folder / name)
    _sync(folder)


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def _exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two files or folders in one step; False, and nothing done, where that is impossible."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux, or an old C library
        return False
    names = os.fsencode(first), os.fsencode(second)
    return renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0


# Syncing


def _sync_tree(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            if not os.path.islink(os.path.join(place, name)):
                _sync(Path(place, name))
        _sync(Path(place))


def _sync(path: Path) -> None:
    """Wait until a file or the entries of a folder are on the disk; a full disk may only say so here."""
    if path.is_dir():
        with contextlib.suppress(OSError):  # not every system syncs folders
            _sync_handle(path, os.O_RDONLY)
    else:
        _sync_handle(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)


def _sync_handle(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_no_file(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"output {folder} is a file, expected a folder.")
