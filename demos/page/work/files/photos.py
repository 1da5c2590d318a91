"""Photos that a visitor brings: checked before they are decoded, and scaled down where they are large."""

import math
import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from amodal_diffusion.images import load_image, load_rgba
from page.work.session import PageError, Session, Source

MAX_UPLOAD = "300mb"
"""Of a scene; photos may have less."""
MAX_PHOTO_BYTES = 40 * 2**20
MAX_SOURCE_PIXELS = 50_000_000
"""A larger photo is refused before it is decoded."""
MAX_PIXELS = 1_500_000
"""The page works on a preview of this size of a larger photo."""
MIN_SIDE = 32
MAX_RATIO = 8
PHOTO_TYPES = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF")


def check_picture(path: str | Path) -> None:
    """Refuse an upload that is no picture, of another kind, too large or too small, before it is decoded."""
    name = Path(path).name
    size = Path(path).stat().st_size
    if size > MAX_PHOTO_BYTES:
        raise PageError(f"{name} has a size of {size / 2**20:.0f} MB; photos may have {MAX_PHOTO_BYTES // 2**20} MB.")
    try:
        with Image.open(path) as image:
            kind, (width, height) = image.format, image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PageError(f"{name} is not an image that can be read. PNG, JPEG and WebP work.") from error
    if kind not in PHOTO_TYPES:
        raise PageError(f"{name} is {kind}. PNG, JPEG and WebP work.")
    if width * height > MAX_SOURCE_PIXELS:
        raise PageError(
            f"{name} has {width * height / 1e6:.0f} million pixels; up to {MAX_SOURCE_PIXELS // 10**6} million work."
        )
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_RATIO * min(width, height):
        raise PageError(
            f"{name} is {width} x {height} pixels; each side must have at least {MIN_SIDE}, and at most "
            f"{MAX_RATIO} times the other."
        )


def open_photo(path: str | Path) -> Image.Image:
    """The photo of an upload, upright RGB."""
    return _decoded(path, load_image)


def open_cutout(path: str | Path) -> Image.Image:
    """A picture to add to a scene, upright RGBA: transparent where it is nothing."""
    return _decoded(path, load_rgba)


def _decoded(path: str | Path, load: Callable[[str | Path], Image.Image]) -> Image.Image:
    check_picture(path)
    try:
        return load(path)
    except ValueError as error:
        raise PageError(str(error).replace(f"photo {path}", Path(path).name)) from error


def preview_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of what the page works on."""
    factor = math.sqrt(MAX_PIXELS / (width * height))
    if factor >= 1:
        return width, height
    return max(MIN_SIDE, math.floor(width * factor)), max(MIN_SIDE, math.floor(height * factor))


def with_photo(session: Session, photo: Image.Image, title: str, file_name: str = "") -> tuple[Session, str]:
    """A fresh session with this photo, scaled down where it is large, and a note about that ("" for none)."""
    source, note = photo.size, ""
    size = preview_size(*source)
    if size != source:
        photo = photo.resize(size, Image.Resampling.LANCZOS)
        note = (
            f"You work on a preview of {size[0]} x {size[1]} pixels. The scene can be exported at the photo's own "
            f"{source[0]} x {source[1]}."
        )
    pixels = np.asarray(photo.convert("RGB"))
    fresh = Session(
        pixels,
        (source[1], source[0]),
        title or "photo",
        can_click=session.can_click,
        stamp=session.stamp + 1,
        file_name=file_name,
    )
    return fresh, note


def open_upload(session: Session, path: str) -> tuple[Session, str]:
    """A session with the photo of an upload, whose file is kept where the page works on a smaller one."""
    name = Path(path)
    photo = open_photo(path)
    fresh, note = with_photo(session, photo, name.stem, name.name)
    if fresh.size != (photo.height, photo.width):
        fresh = replace(fresh, source=Source(private_copy(name), (photo.height, photo.width)))
    return fresh, note


def private_folder() -> Path:
    """A new folder that nobody else can read, outside of what the server hands out."""
    return Path(tempfile.mkdtemp(prefix="amodal-source-"))


def private_copy(path: Path) -> Path:
    """The file in a private folder of its own, whose name says nothing."""
    copy = private_folder() / f"{secrets.token_hex(8)}{path.suffix.lower()}"
    shutil.copyfile(path, copy)
    return copy
