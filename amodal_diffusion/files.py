"""Writing beside and renaming, so that a reader never meets half a file. Internal; `export` has the public names."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and is deleted otherwise."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected the path of a file.")
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)


def check_output_folder(folder: PathLike) -> None:
    """Refuse a folder that cannot be made or written to, before the work whose results it should hold.

    Nothing is left behind: a file is made where the folder is, or in the nearest parent that exists, and deleted.

    Raises:
        NotADirectoryError: where `folder` or a parent of it is a file.
        FileNotFoundError: where it is a link to nothing.
        OSError: where nothing can be written there.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"output {folder} is a file, expected a folder.")
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


def check_output_file(path: PathLike) -> None:
    """Refuse a path at which no file can be written, likewise.

    Raises:
        IsADirectoryError: where it is a folder.
        NotADirectoryError, OSError: as `check_output_folder` says of its folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected the path of a file.")
    check_output_folder(path.parent)


def write_text(path: PathLike, text: str) -> None:
    """Write UTF-8 text atomically; folders are made where they lack."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def staging_folder(folder: PathLike) -> Iterator[Path]:
    """A temporary folder inside of `folder`, which is made where it lacks, to fill and then `publish`.

    Raises:
        NotADirectoryError: where `folder` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"output {folder} is a file, expected a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as temporary:
        yield Path(temporary)


def publish(staged: Path, folder: Path, names: Sequence[str]) -> list[Path]:
    """Move what was written to `staged` into `folder` in the place of what an earlier run left there.

    Args:
        staged: from `staging_folder`.
        folder: the same.
        names: all that a run may write. What is not staged is removed; other files stay. The old one of the last of
            them goes first and the new one comes last: where it is, the rest is complete and belongs to it.

    Returns:
        The paths written, in the order of `names`.
    """
    written = []
    for name in (names[-1], *names[:-1]):
        target = folder / name
        if target.is_dir() and not target.is_symlink():  # a folder cannot be replaced by a rename while it has files
            os.replace(target, staged / f"old-{name}")
        elif name == names[-1] or not (staged / name).exists():
            target.unlink(missing_ok=True)
    for name in names:
        if (staged / name).exists():
            os.replace(staged / name, folder / name)
            written.append(folder / name)
    return written


def file_stem(index: int, name: str) -> str:
    """A file name for object `index`: its number, and what plain letters its name has."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
    return "-".join(part for part in (f"{index:03d}", slug) if part)
