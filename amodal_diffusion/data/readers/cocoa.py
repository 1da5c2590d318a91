"""Annotation files with one annotation for each image, of regions and their order: COCOA, BSDS-A, MP3D-Amodal."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from reprlib import repr as short
from typing import Any

from pycocotools import mask as mask_utils

from ...masks.rle import segmentation_to_rle
from ..schema import build_objects
from .records import (
    Annotations,
    BadRecord,
    ImageRecord,
    OnError,
    RecordLog,
    group_by_image,
    labelled,
    load_annotations,
    make_relations,
    make_row,
    read_category_names,
    read_images,
    to_flag,
    to_int,
    to_name,
)

CONSTRAINT = re.compile(r"\s*(\d{1,9})\s*-\s*(\d{1,9})\s*")


def iter_cocoa(
    annotations: Annotations,
    images: str | os.PathLike[str] | None = None,
    *,
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
    source: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of a COCOA file, in the order of `images`: one for each annotation of an image.

    An image without annotations gives a row without objects. A region without `visible_mask` is fully visible, one with
    an empty `visible_mask` fully hidden. `depth_constraint` "1-2" says that region 1 is in front of region 2, counted
    from 1. A region that is skipped is left out of the relations too.

    Args:
        annotations: path of a JSON file, or its parsed content; for MP3D-Amodal a pickle (see `load_annotations`).
        images: folder of the photos. Each row then has the path of its photo under `image`.
        on_error: "raise" stops at the first bad record; "skip" leaves it out and keeps the rest of its image.
        bad_records: list to which the skipped records are appended.
        source: what the column `source` holds; the file's name without extension if None.

    Raises:
        FileNotFoundError, NotADirectoryError: `annotations` or `images` does not exist, or `images` is no folder.
        AnnotationError: the file is broken, or a record is bad and `on_error` is "raise".

    Example:
        >>> content = {
        ...     "images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 6}],
        ...     "annotations": [
        ...         {
        ...             "image_id": 1,
        ...             "depth_constraint": "1-2",
        ...             "regions": [
        ...                 {"segmentation": [0, 0, 2, 0, 2, 2, 0, 2]},
        ...                 {"segmentation": [1, 0, 4, 0, 4, 2, 1, 2]},
        ...             ],
        ...         }
        ...     ],
        ... }
        >>> row = next(iter_cocoa(content))
        >>> len(row["objects"]), row["order_relations"]
        (2, [{'front': 0, 'behind': 1}])
    """
    content, name = load_annotations(annotations)
    return _rows(content, images, RecordLog(name, on_error, bad_records), source or Path(name).stem)


def _rows(
    content: Mapping[str, Any], images: str | os.PathLike[str] | None, log: RecordLog, source: str
) -> Iterator[dict[str, Any]]:
    records, refused = read_images(content["images"], images, log)
    names = read_category_names(content.get("categories"), log)
    groups = group_by_image(content["annotations"], records, refused, log)
    for key, image in records.items():
        if key not in groups:
            yield make_row(image, [], None, source)
        for label, annotation in labelled(content["annotations"], groups.get(key, ())):
            regions = annotation.get("regions")
            if not isinstance(regions, list):
                log.bad(label, f"regions must be a list, got {type(regions).__name__}")
                continue
            objects = _read_objects(regions, image, names, label, log)
            order = _relations(annotation.get("depth_constraint"), len(regions), objects, label, log)
            yield make_row(image, build_objects(objects), order, source)


def _read_objects(
    regions: list[Any], image: ImageRecord, names: Mapping[int, str | None], label: str, log: RecordLog
) -> list[dict[str, Any]]:
    objects = []
    for number, region in enumerate(regions, start=1):
        try:
            if not isinstance(region, Mapping):
                raise ValueError(f"expected an object, got {type(region).__name__}")
            objects.append(_read_object(number, region, image.height, image.width, names))
        except ValueError as error:
            log.bad(f"{label} region {number}", error)
    return objects


def _read_object(
    number: int, region: Mapping[str, Any], height: int, width: int, names: Mapping[int, str | None]
) -> dict[str, Any]:
    amodal = segmentation_to_rle(region.get("segmentation"), height, width)
    if not mask_utils.area(amodal):
        raise ValueError(f"segmentation has no pixel inside the {height} x {width} image")
    visible = region.get("visible_mask")
    if visible is None and region.get("invisible_mask") is not None:
        raise ValueError("invisible_mask without visible_mask")
    category = region.get("category_id")
    category_id = None if category is None else to_int(category, "category_id")
    return {
        "id": number,
        "name": to_name(region.get("name")) or (None if category_id is None else names.get(category_id)),
        "category_id": category_id,
        "is_stuff": to_flag(region.get("isStuff"), "isStuff"),
        "is_crowd": False,
        "modal_mask": amodal if visible is None else segmentation_to_rle(visible, height, width),
        "amodal_mask": amodal,
    }


def _relations(
    text: Any, count: int, objects: list[dict[str, Any]], label: str, log: RecordLog
) -> list[dict[str, int]] | None:
    """Relations of `depth_constraint`; None where the annotation has none."""
    if text is None:
        return None
    if not isinstance(text, str):
        log.bad(label, f"depth_constraint must be a string such as '1-2,1-3', got {short(text)}")
        return None
    pairs = []
    for part in text.split(",") if text.strip() else []:
        match = CONSTRAINT.fullmatch(part)
        if match is None:
            log.bad(label, f"depth_constraint {short(part)} is not of the form '1-2'")
        else:
            pairs.append((int(match[1]), int(match[2]), f"depth_constraint {match[0].strip()!r}"))
    return make_relations(pairs, objects, range(1, count + 1), lambda reason: log.bad(label, reason))
