"""Cityscapes (gtFine), where one PNG of labels holds the instances of a photo."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from ...masks import MAX_PIXELS, encode_rle
from ..schema import build_objects
from .records import BadRecord, OnError, RecordLog, make_row, read_images

LABEL_SUFFIX = "_instanceIds.png"
PHOTO_SUFFIX = "_leftImg8bit.png"
CLASSES = {
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 29: "caravan", 30: "trailer", 31: "train",
    32: "motorcycle", 33: "bicycle",
}  # fmt: skip
"""Classes with instances; all other labels are regions without."""
INSTANCES = 1000
"""A label is class · 1000 + number of the instance; below it is the class alone, of a region or a group of objects."""


def iter_cityscapes(
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
    source: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of Cityscapes, one for each `*_instanceIds.png`, sorted by path; amodal masks are unknown.

    The objects are the instances of the ten classes that have instances; a group whose members are not labelled one by
    one is a crowd region. Regions such as road and sky are left out. `objects.id` is the label in the PNG.

    Args:
        annotations: the folder `gtFine`, or any folder in it.
        images: the folder `leftImg8bit`, or the folder in it that corresponds to `annotations`. Each row then
            has the path of its photo under `image`.
        on_error: "raise" stops at the first bad file; "skip" leaves it out.
        bad_records: list to which the skipped files are appended.
        source: name of the data set for the column `source`; "cityscapes" if None.

    Raises:
        FileNotFoundError: no such folder, or no labels in it.
        NotADirectoryError: `annotations` or `images` is no folder.
        AnnotationError: a file is bad and `on_error` is "raise".

    Example:
        >>> import tempfile
        >>> labels = np.zeros((4, 6), dtype=np.uint16)
        >>> labels[1:3, 2:5] = 26 * INSTANCES  # the first car
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.fromarray(labels).save(Path(folder, f"bonn_000000_000000_gtFine{LABEL_SUFFIX}"))
        ...     row = next(iter_cityscapes(folder))
        >>> row["objects"][0]["name"], row["objects"][0]["modal_box"]
        ('car', [2.0, 1.0, 3.0, 2.0])
    """
    folder = Path(annotations)
    if not folder.exists():
        raise FileNotFoundError(f"no such folder: {os.fspath(annotations)!r}")
    if not folder.is_dir():
        raise NotADirectoryError(f"annotations must be a folder with *{LABEL_SUFFIX}, got {os.fspath(annotations)!r}")
    # What begins with ._ holds what macOS notes about the file of that name.
    paths = sorted(path for path in folder.rglob(f"*{LABEL_SUFFIX}") if not path.name.startswith("._"))
    if not paths:
        raise FileNotFoundError(f"folder {os.fspath(annotations)!r} has no *{LABEL_SUFFIX}")
    return _rows(folder, paths, images, RecordLog(os.fspath(annotations), on_error, bad_records), source)


def _rows(
    folder: Path, paths: list[Path], images: str | os.PathLike[str] | None, log: RecordLog, source: str | None
) -> Iterator[dict[str, Any]]:
    for path in paths:
        name = path.relative_to(folder).as_posix()
        # aachen_000000_000019_gtFine_instanceIds.png -> aachen_000000_000019
        frame = name.removesuffix(LABEL_SUFFIX).rsplit("_", 1)[0]
        try:
            labels = _read_labels(path)
        except ValueError as error:
            log.bad(f"labels {name}", error)
            continue
        height, width = labels.shape
        entry = {"id": frame, "file_name": frame + PHOTO_SUFFIX, "height": height, "width": width}
        records, _ = read_images([entry], images, log)
        for record in records.values():
            yield make_row(record, build_objects(_read_objects(labels)), None, source or "cityscapes")


def _read_labels(path: Path) -> npt.NDArray[np.int64]:
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"must have at most {MAX_PIXELS} pixels, got {picture.height} x {picture.width}")
            labels = np.asarray(picture)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be read: {error}") from error
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(f"must be one plane of whole numbers, got shape {labels.shape} and type {labels.dtype}")
    return labels.astype(np.int64)


def _read_objects(labels: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    objects = []
    for label in np.unique(labels).tolist():
        category = label // INSTANCES if label >= INSTANCES else label
        if category not in CLASSES:
            continue
        objects.append(
            {
                "id": label,
                "name": CLASSES[category],
                "category_id": category,
                "is_stuff": False,
                "is_crowd": label < INSTANCES,
                "modal_mask": encode_rle(labels == label),
                "amodal_mask": None,
            }
        )
    return objects
