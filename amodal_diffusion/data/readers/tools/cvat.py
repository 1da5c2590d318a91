"""CVAT's own format, "CVAT for images 1.1": one XML file of polygons and masks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError  # noqa: S405 - what is read goes through defusedxml

import defusedxml  # type: ignore[import-untyped]
import defusedxml.ElementTree  # type: ignore[import-untyped]
import numpy as np

from ....masks.rle import Rle, segmentation_to_rle
from ..records import AnnotationError, BadRecord, OnError, RecordLog, checked_size, make_row, read_images, to_int
from .shapes import AMODAL, Shape, mask_in_box, objects_from_shapes

_MASKS = ("polygon", "mask")
_NO_MASKS = ("box", "polyline", "points", "ellipse", "cuboid", "skeleton")


def iter_cvat(
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
    source: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of a file of CVAT ("CVAT for images 1.1"), one for each image, one after the other.

    Polygons and masks are read. Shapes of one group and one label are one object. A shape with the checkbox attribute
    `amodal` is a whole mask; alone in its group, its object is visible where no shape with a higher `z_order` is. The
    order is that of `z_order`, where an image has several (see `objects_from_shapes`).

    Args:
        annotations: `annotations.xml`, or the folder with it that an export is when it is unpacked.
        images: folder of the photos. Each row then has the path of its photo under `image`.
        on_error: "raise" stops at the first bad record, which boxes, lines and points are too; "skip" leaves it out.
        bad_records: list to which the skipped records are appended.
        source: what the column `source` holds; the file's name without extension if None.

    Raises:
        FileNotFoundError, NotADirectoryError: `annotations` or `images` does not exist, or `images` is no folder.
        AnnotationError: the file is broken, or a record is bad and `on_error` is "raise".

    Example:
        >>> import tempfile
        >>> text = '''<annotations><image id="0" name="a.jpg" width="6" height="4">
        ... <polygon label="cup" points="1,1;4,1;4,3;1,3" z_order="0"/></image></annotations>'''
        >>> path = Path(tempfile.mkdtemp(), "annotations.xml")
        >>> _ = path.write_text(text)
        >>> row = next(iter_cvat(path))
        >>> row["file_name"], row["objects"][0]["name"], row["objects"][0]["modal_box"]
        ('a.jpg', 'cup', [1.0, 1.0, 3.0, 2.0])
    """
    path = Path(annotations)
    path = path / "annotations.xml" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {os.fspath(path)!r}")
    return _rows(path, images, RecordLog(os.fspath(path), on_error, bad_records), source or path.stem)


def _rows(path: Path, images: str | os.PathLike[str] | None, log: RecordLog, source: str) -> Iterator[dict[str, Any]]:
    for element in _image_elements(path):
        entry = {name: element.get(name) for name in ("id", "height", "width")} | {"file_name": element.get("name")}
        for record in read_images([entry], images, log)[0].values():
            shapes = []
            for index, child in enumerate(element):
                label = f"image {record.key} {child.tag} at index {index}"
                try:
                    if child.tag in _NO_MASKS:
                        raise ValueError(f"a {child.tag} is no mask; only polygons and masks are read")
                    if child.tag in _MASKS:
                        shapes.append(_read_shape(child, record.height, record.width))
                except ValueError as error:
                    log.bad(label, error)
            yield make_row(record, *objects_from_shapes(shapes), source)


def _image_elements(path: Path) -> Iterator[Element]:
    """The images of a file, each forgotten when the next one is asked for, so that memory does not grow."""
    root = None
    try:
        for event, element in defusedxml.ElementTree.iterparse(path, events=("start", "end"), forbid_dtd=True):
            if root is None:
                root = element
                if root.tag != "annotations":
                    raise ValueError(f"the outermost element must be <annotations>, got <{root.tag!s:.80}>")
            elif event == "end" and element.tag == "track":
                raise ValueError("it is a video (<track>); export as 'CVAT for images 1.1'")
            elif event == "end" and element.tag == "image":
                yield element
                root.clear()
    except (ParseError, defusedxml.DefusedXmlException, ValueError, LookupError) as error:
        if isinstance(error, AnnotationError):
            raise
        raise AnnotationError(BadRecord(os.fspath(path), "file", f"not readable as CVAT's XML: {error}")) from error


def _read_shape(element: Element, height: int, width: int) -> Shape:
    flags = [child.text for child in element.iter("attribute") if child.get("name") == AMODAL]
    read = _read_polygon if element.tag == "polygon" else _read_mask
    return Shape(
        label=(element.get("label") or "").strip() or None,
        mask=read(element, height, width),
        amodal=any((flag or "").strip().lower() in ("true", "1", "yes") for flag in flags),
        group=element.get("group_id"),
        z=to_int(element.get("z_order") or 0, "z_order"),
    )


def _read_polygon(element: Element, height: int, width: int) -> Rle:
    points = [pair.split(",") for pair in (element.get("points") or "").split(";")]
    if any(len(pair) != 2 for pair in points):
        raise ValueError(f"points must be x,y;x,y;..., got {element.get('points')!s:.80}")
    return segmentation_to_rle([number for pair in points for number in pair], height, width)


def _read_mask(element: Element, height: int, width: int) -> Rle:
    """The runs of a mask go row by row through its box, background first."""
    left, top, box_width, box_height = (to_int(element.get(name), name) for name in ("left", "top", "width", "height"))
    checked_size(box_height, box_width)
    runs = [to_int(part, "rle") for part in (element.get("rle") or "").split(",")]
    if min(runs) < 0 or sum(runs) != box_width * box_height:
        raise ValueError(f"rle covers {sum(runs)} pixels, its box has {box_width * box_height}")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(box_height, box_width)
    return mask_in_box(inside, left, top, height, width)
