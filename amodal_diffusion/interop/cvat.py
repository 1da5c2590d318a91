"""Rows of the schema as a file that CVAT uploads: "CVAT for images 1.1"."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any
from xml.sax.saxutils import XMLGenerator  # noqa: S406 - it only writes
from xml.sax.xmlreader import AttributesImpl  # noqa: S406

import numpy as np
import numpy.typing as npt

from ..data import record_order
from ..data.readers.tools.shapes import AMODAL, label_of
from ..data.schema import decode_masks
from ..files import atomic_file
from ..masks import mask_boxes
from ..scene.render import stacking


def write_cvat(rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> list[str]:
    """Write rows as `annotations.xml`; `iter_cvat` reads it back.

    Each object is a mask of its visible part and, where it is known, one of the whole object with the checkbox
    attribute `amodal`; both have one group. `z_order` is the place of the object in the stack that the order gives, so
    that what is in front is drawn in front. Of objects that occlude each other in a cycle the stack keeps what a stack
    can. Masks without a pixel are left out: CVAT has none.

    The labels of the task must exist in CVAT before the file is uploaded, with their attribute: `cvat_labels` makes
    what "Raw" of the label editor takes.

    Args:
        rows: of the schema, read one after the other.
        path: of the file; it appears when it is whole.

    Returns:
        The names of the labels, in the order of their first objects.

    Raises:
        ValueError: a row whose masks or relations do not fit it.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> from amodal_diffusion.data import iter_coco, iter_cvat
        >>> content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 6}], "annotations": [
        ...     {"id": 5, "image_id": 1, "category_id": 7, "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]]}],
        ...     "categories": [{"id": 7, "name": "cup"}]}
        >>> path = os.path.join(tempfile.mkdtemp(), "annotations.xml")
        >>> write_cvat(iter_coco(content), path)
        ['cup']
        >>> next(iter_cvat(path))["objects"][0]["modal_box"]
        [1.0, 1.0, 3.0, 2.0]
    """
    labels: dict[str, None] = {}
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        writer = XMLGenerator(file, encoding="utf-8", short_empty_elements=True)
        writer.startDocument()
        writer.startElement("annotations", AttributesImpl({}))
        writer.startElement("version", AttributesImpl({}))
        writer.characters("1.1")
        writer.endElement("version")
        for number, row in enumerate(rows):
            _write_image(writer, number, row, labels)
        writer.endElement("annotations")
        writer.endDocument()
    return list(labels)


def _write_image(writer: XMLGenerator, number: int, row: Mapping[str, Any], labels: dict[str, None]) -> None:
    height, width = int(row["height"]), int(row["width"])
    order = record_order(row)
    stack = np.zeros(len(row["objects"]), int)
    if order is not None:
        stack[stacking(order)] = np.arange(len(order))
    image = {"id": str(number), "name": row["file_name"], "width": str(width), "height": str(height)}
    writer.startElement("image", AttributesImpl(image))
    for index, item in enumerate(row["objects"]):
        label = label_of(item["name"])
        labels.setdefault(label)
        shared = {"label": label, "source": "file", "occluded": str(int((item["occlusion_rate"] or 0) > 0))}
        shared |= {"z_order": str(stack[index]), "group_id": str(index + 1)}
        for rle, whole in ((item["modal_mask"], False), (item["amodal_mask"], True)):
            if rle is None or rle["counts"] is None:
                continue
            mask = decode_masks([rle], height, width)[0]
            if not mask.any():
                continue
            writer.startElement("mask", AttributesImpl({**shared, **mask_attributes(mask)}))
            writer.startElement("attribute", AttributesImpl({"name": AMODAL}))
            writer.characters("true" if whole else "false")
            writer.endElement("attribute")
            writer.endElement("mask")
    writer.endElement("image")


def mask_attributes(mask: npt.NDArray[np.bool_]) -> dict[str, str]:
    """The box of a mask that has pixels, and its runs row by row through the box, background first.

    Example:
        >>> mask_attributes(np.array([[False, True, True], [False, False, True]]))
        {'left': '1', 'top': '0', 'width': '2', 'height': '2', 'rle': '0,2,1,1'}
    """
    left, top, width, height = (int(value) for value in mask_boxes(mask[None])[0])
    flat = mask[top : top + height, left : left + width].reshape(-1)
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    runs = np.diff(ends, prepend=0).tolist()
    text = ",".join(map(str, [0, *runs] if flat[0] else runs))
    return {"left": str(left), "top": str(top), "width": str(width), "height": str(height), "rle": text}


def cvat_labels(names: Iterable[str]) -> list[dict[str, Any]]:
    """Labels as "Raw" of CVAT's label editor takes them, each with the checkbox `amodal`.

    Example:
        >>> cvat_labels(["cup"])[0]["attributes"][0]["name"]
        'amodal'
    """
    attribute = {"name": AMODAL, "mutable": False, "input_type": "checkbox", "default_value": "false"}
    return [
        {"name": name, "type": "any", "attributes": [{**attribute, "values": ["false"]}]}
        for name in dict.fromkeys(names)
    ]
