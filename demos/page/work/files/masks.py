"""Masks that a visitor brings as files."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from amodal_diffusion.io import ObjectMasks, read_object_masks
from page.work.files import photos
from page.work.marks import add_marks
from page.work.session import MAX_OBJECTS, PageError, Session

MAX_FILES = 64


def add_mask_files(session: Session, paths: list[str]) -> tuple[Session, str]:
    """With the masks of these files, and a note about them ("" for none)."""
    found, note = read_masks(session, paths)
    return add_marks(session, found.masks, found.names, is_crowd=found.is_crowd), note


def read_masks(session: Session, files: Sequence[str | Path]) -> tuple[ObjectMasks, str]:
    """The masks of uploaded files, of the photo's size on the page, and a note.

    Files are a COCO JSON, PNG masks, or one label map, whose labels another JSON may name. The note says what the
    library warns of, such as masks of another photo; "" for nothing.
    """
    height, width = session.size
    if not files:
        raise PageError("Choose a COCO JSON, a mask for each object, or a picture with a value for each object.")
    if len(files) > MAX_FILES:
        raise PageError(f"Up to {MAX_FILES} files work; these are {len(files)}.")
    paths = [Path(file) for file in files]
    texts = sum(path.suffix.lower() == ".json" for path in paths)
    if texts and (texts, len(paths)) not in ((1, 1), (1, 2)):
        raise PageError(
            "Upload either one COCO JSON or PNG masks, not both. With one picture that has a value for each object, a "
            'JSON can name them: {"1": "cup", "2": "saucer"}.'
        )
    for path in paths:
        _check_mask_file(path)
    try:
        with heard_warnings() as warnings:
            found = read_object_masks(
                paths if len(paths) > 1 else paths[0], size=session.source_size, file_name=session.file_name or None
            )
    except (ValueError, OSError) as error:
        raise PageError(without_folders(". ".join([*warnings[:1], str(error)]), paths)) from error
    note = without_folders(". ".join(warnings[:3]), paths)
    if len(found.masks) > MAX_OBJECTS:
        raise PageError(f"The files hold {len(found.masks)} objects; up to {MAX_OBJECTS} work.")
    if found.masks.shape[1:] == (height, width):
        return found, note
    small = [Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST) for mask in found.masks]
    return replace(found, masks=np.stack([np.asarray(mask, dtype=bool) for mask in small])), note


@contextmanager
def heard_warnings() -> Iterator[list[str]]:
    """What the library warns of inside the block, in this thread."""
    heard: list[str] = []
    thread = threading.get_ident()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                heard.append(record.getMessage())

    listener, library = Listener(logging.WARNING), logging.getLogger("amodal_diffusion")
    library.addHandler(listener)
    try:
        yield heard
    finally:
        library.removeHandler(listener)


def _check_mask_file(path: Path) -> None:
    """Refuse a picture of too many pixels before it is decoded; what else is wrong the reader says."""
    if path.suffix.lower() == ".json":
        return
    try:
        with Image.open(path) as image:
            pixels = image.size[0] * image.size[1]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PageError(f"{path.name} is neither a COCO JSON nor a mask that can be read.") from error
    if pixels > photos.MAX_SOURCE_PIXELS:
        raise PageError(f"{path.name} has too many pixels; up to {photos.MAX_SOURCE_PIXELS // 10**6} million work.")


def without_folders(message: str, paths: Sequence[Path]) -> str:
    """A message of the library with the names of files alone: a visitor need not know where uploads lie."""
    for path in paths:
        message = message.replace(str(path), path.name).replace(f"{path.parent}/", "")
    return message
