"""The photos of rows, read so that one that is broken is named."""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from ..images import load_image, why_unreadable
from .readers.records import file_parts


def encoded_photos(rows: Any) -> Any:
    """The same rows, whose photos `datasets` does not decode: it would die on a broken one without a name.

    Rows that are no `Dataset` or `IterableDataset` with photos are returned as they are.

    Example:
        >>> from amodal_diffusion.data import read_annotations
        >>> content = {"images": [{"id": 1, "file_name": "1.png", "height": 8, "width": 8}], "annotations": []}
        >>> rows = read_annotations(content).map(lambda row: {"image": Image.new("RGB", (8, 8))}, keep_in_memory=True)
        >>> sorted(encoded_photos(rows)[0]["image"])
        ['bytes', 'path']
    """
    from datasets import Dataset, Image, IterableDataset

    if isinstance(rows, (Dataset, IterableDataset)) and "image" in (rows.column_names or ()):
        return rows.cast_column("image", Image(decode=False))
    return rows


def open_photo(photo: Any) -> Any:
    """What `load_image` takes of a photo that `datasets` keeps as {"bytes", "path"}; others as they are.

    A path may be any URL that fsspec opens.

    Example:
        >>> open_photo({"bytes": None, "path": "a.jpg"})
        'a.jpg'
    """
    if not isinstance(photo, Mapping):
        return photo
    if photo.get("bytes") is not None:
        return Image.open(BytesIO(photo["bytes"]))
    return _fetch(photo["path"]) if "://" in str(photo["path"]) else photo["path"]


def photo_in(folder: str | os.PathLike[str], file_name: str) -> dict[str, Any]:
    """The photo of that name in a folder, which may be a URL that fsspec opens, as `datasets` keeps one.

    Raises:
        ValueError: for a name that leads out of the folder: it could carry a private file into a published data set.

    Example:
        >>> photo_in("hf://datasets/user/name/photos", "a/1.jpg")
        {'bytes': None, 'path': 'hf://datasets/user/name/photos/a/1.jpg'}
        >>> photo_in("photos", "../secret.jpg")
        Traceback (most recent call last):
            ...
        ValueError: file_name '../secret.jpg' is no name of a photo in 'photos'
    """
    place, parts = os.fspath(folder), PurePosixPath(file_name)
    remote = "://" in place
    if (remote or not (Path(place) / file_name).is_file()) and not parts.is_absolute():
        parts = PurePosixPath(*file_parts(file_name))  # it may have been written on Windows
    if not parts.parts or parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"file_name {file_name!r} is no name of a photo in {place!r}")
    return {"bytes": None, "path": f"{place.rstrip('/')}/{parts}" if remote else os.fspath(Path(place) / parts)}


def _fetch(url: str) -> Image.Image:
    import fsspec

    with fsspec.open(url, "rb") as file:
        return Image.open(BytesIO(file.read()))


def load_row_photo(row: Mapping[str, Any]) -> Image.Image:
    """The photo of a row, RGB and upright, of the size of its masks.

    Args:
        row: of the schema, its photo decoded or, better, not: see `encoded_photos`.

    Raises:
        ValueError: it is missing, cannot be read, or has another size; the row and the file are named.

    Example:
        >>> row = {"image_id": 1, "source": "mine", "file_name": "1.png", "height": 8, "width": 8}
        >>> load_row_photo({**row, "image": Image.new("L", (8, 8))}).mode
        'RGB'
        >>> load_row_photo({**row, "image": {"bytes": b"no photo", "path": None}})
        Traceback (most recent call last):
            ...
        ValueError: photo 1.png of image 1 of 'mine' cannot be read: it is no picture
    """
    where = f"image {row['image_id']} of {row['source']!r}"
    photo = row.get("image")
    if photo is None or (isinstance(photo, Mapping) and photo.get("bytes") is None and not photo.get("path")):
        raise ValueError(f"{where} has no photo.")
    name = f"photo {row.get('file_name') or _path(photo)} of {where}"
    try:
        image = load_image(open_photo(photo))
    except (ValueError, OSError, Image.DecompressionBombError) as error:  # with a cause, it has a name in its message
        raise ValueError(f"{name} cannot be read: {why_unreadable(error.__cause__ or error)}") from error
    if image.size != (row["width"], row["height"]):
        raise ValueError(
            f"{name} is {image.width}x{image.height} pixels, its masks are {row['width']}x{row['height']}."
        )
    return image


def _path(photo: Any) -> str:
    path = photo.get("path") if isinstance(photo, Mapping) else getattr(photo, "filename", None)
    return os.path.basename(str(path or "")) or "without a name"
