"""labelme: a JSON file beside each photo, with polygons, circles and masks."""

from __future__ import annotations

import base64
import binascii
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from reprlib import repr as short
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ....masks.rle import Rle, segmentation_to_rle
from ..json_arrays import BrokenJsonError, read_json
from ..records import BadRecord, OnError, RecordLog, make_row, read_images, to_key
from .shapes import AMODAL, Shape, mask_in_box, objects_from_shapes

_SUFFIX = f" ({AMODAL})"
_CIRCLE_POINTS = 64


def iter_labelme(
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
    source: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of labelme's files, one for each JSON file, sorted by path; the order is unknown.

    Polygons, circles and masks are read. Shapes of one `group_id` and one label are one object. A shape with the flag
    `amodal`, or whose label ends with " (amodal)", is a whole mask.

    Args:
        annotations: folder with the JSON files, or one of them.
        images: folder that the file names of the photos (`imagePath`) start from, if their rows are to have them; for
            photos beside the JSON files the same folder. Each row then has the path of its photo under `image`.
        on_error: "raise" stops at the first bad record, which rectangles, lines and points are too; "skip" leaves it
            out.
        bad_records: list to which the skipped records are appended.
        source: what the column `source` holds; "labelme" if None.

    Raises:
        FileNotFoundError, NotADirectoryError: `annotations` or `images` does not exist, or `images` is no folder; a
            folder without JSON files.
        AnnotationError: a file or a record is bad and `on_error` is "raise".

    Example:
        >>> import json, tempfile
        >>> shape = {"label": "cup", "shape_type": "polygon", "points": [[1, 1], [4, 1], [4, 3], [1, 3]]}
        >>> path = Path(tempfile.mkdtemp(), "a.json")
        >>> photo = {"imagePath": "a.jpg", "imageHeight": 4, "imageWidth": 6}
        >>> _ = path.write_text(json.dumps({**photo, "shapes": [shape]}))
        >>> row = next(iter_labelme(path))
        >>> row["file_name"], row["objects"][0]["name"], row["objects"][0]["modal_box"]
        ('a.jpg', 'cup', [1.0, 1.0, 3.0, 2.0])
    """
    place = Path(annotations)
    if not place.exists():
        raise FileNotFoundError(f"no such file or folder: {os.fspath(annotations)!r}")
    paths = (
        sorted(path for path in place.rglob("*.json") if not path.name.startswith("._")) if place.is_dir() else [place]
    )
    if not paths:
        raise FileNotFoundError(f"folder {os.fspath(annotations)!r} has no JSON files")
    folder = place if place.is_dir() else place.parent
    return _rows(folder, paths, images, RecordLog(os.fspath(annotations), on_error, bad_records), source or "labelme")


def _rows(
    folder: Path, paths: list[Path], images: str | os.PathLike[str] | None, log: RecordLog, source: str
) -> Iterator[dict[str, Any]]:
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            content = read_json(path, ())
            if not isinstance(content, Mapping) or not isinstance(content.get("shapes"), list):
                raise ValueError("expected an object with a list under 'shapes'")
        except (BrokenJsonError, ValueError) as error:
            log.bad(f"file {name}", error)
            continue
        entry = {
            "id": name.removesuffix(".json"),
            "file_name": _photo_name(content.get("imagePath"), name),
            "height": content.get("imageHeight"),
            "width": content.get("imageWidth"),
        }
        for record in read_images([entry], images, log)[0].values():
            shapes = []
            for index, item in enumerate(content["shapes"]):
                try:
                    shapes.append(_read_shape(item, record.height, record.width))
                except ValueError as error:
                    log.bad(f"file {name} shape {index}", error)
            yield make_row(record, *objects_from_shapes(shapes), source)


def _photo_name(path: Any, json_name: str) -> str:
    """Name of the photo in the folder: `imagePath` is relative to the JSON file, in the writer's own spelling."""
    text = path if isinstance(path, str) else ""
    photo = PureWindowsPath(text) if "\\" in text else PurePosixPath(text)
    parts = photo.parts[-1:] if photo.is_absolute() else photo.parts
    return (PurePosixPath(json_name).parent / PurePosixPath(*parts)).as_posix() if parts else ""


def _read_shape(item: Any, height: int, width: int) -> Shape:
    if not isinstance(item, Mapping):
        raise ValueError(f"expected an object, got {type(item).__name__}")
    label = str(item.get("label") or "").strip()
    flags = item.get("flags")
    amodal = label.endswith(_SUFFIX) or (isinstance(flags, Mapping) and flags.get(AMODAL) is True)
    return Shape(
        label=label.removesuffix(_SUFFIX).strip() or None,
        mask=_read_mask(item, height, width),
        amodal=amodal,
        group=None if item.get("group_id") is None else to_key(item["group_id"], "group_id"),
    )


def _read_mask(item: Mapping[str, Any], height: int, width: int) -> Rle:
    kind = item.get("shape_type") or "polygon"
    try:
        points = np.asarray(item.get("points"), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"points must be numbers: {error}") from error
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points must be a list of [x, y], got shape {points.shape}")
    if kind == "polygon":
        return segmentation_to_rle(points.ravel().tolist(), height, width)
    if kind == "circle" and len(points) == 2:
        angles = np.linspace(0, 2 * np.pi, _CIRCLE_POINTS, endpoint=False)
        radius = np.hypot(*(points[1] - points[0]))
        outline = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return segmentation_to_rle(outline.ravel().tolist(), height, width)
    if kind == "mask" and len(points) == 2:
        return _paste(item.get("mask"), points, height, width)
    raise ValueError(f"a {short(kind)} of {len(points)} points is no mask; polygons, circles and masks are read")


def _paste(content: Any, points: np.ndarray, height: int, width: int) -> Rle:
    """A PNG, in base64, of what lies between two corners, both inside."""
    if not np.isfinite(points).all():
        raise ValueError("points of a mask must be finite numbers")
    (left, top), (right, bottom) = np.rint(points).astype(int)
    try:
        with Image.open(io.BytesIO(base64.b64decode(str(content), validate=True)), formats=["PNG"]) as picture:
            if picture.size != (right - left + 1, bottom - top + 1):
                raise ValueError(
                    f"the mask has {picture.width} x {picture.height} pixels, its box {right - left + 1} x "
                    f"{bottom - top + 1}"
                )
            inside = np.asarray(picture.convert("L")) != 0
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"mask must be a PNG in base64: {error}") from error
    return mask_in_box(inside, int(left), int(top), height, width)
