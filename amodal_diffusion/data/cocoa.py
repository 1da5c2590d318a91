"""COCOA and BSDS-A annotation files: one annotation per image with regions, amodal masks and an occlusion order."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from datasets import Dataset
from pycocotools import mask as mask_utils

from amodal_diffusion.data.io import dataset_from_rows
from amodal_diffusion.data.records import (
    BadRecord,
    ImageRecord,
    OnError,
    RecordLog,
    group_by_image,
    load_annotations,
    make_row,
    read_images,
    to_flag,
    to_int,
    to_name,
)
from amodal_diffusion.data.schema import build_objects
from amodal_diffusion.data.segmentation import segmentation_to_rle

CONSTRAINT = re.compile(r"\s*(\d{1,9})\s*-\s*(\d{1,9})\s*")


def iter_cocoa(
    annotations: str | os.PathLike[str] | Mapping[str, Any],
    images: str | os.PathLike[str] | None = None,
    *,
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
    source: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of a COCOA file in plain Python, in the order of `images`: one per annotation, one for an image without any.

    A region without `visible_mask` has nothing hidden; an empty `visible_mask` is a fully hidden region.
    `depth_constraint` "1-2" says that region 1 is in front of region 2 (from 1); a relation of a skipped region goes with it.

    Args:
        annotations: JSON file, or its content.
        images: folder of the photos. Each row then has the path of its photo under `image`.
        on_error: "raise" refuses the first bad record; "skip" leaves out the region or relation, the rest of its image stays.
        bad_records: list that takes the records skipped.
        source: name of the data set for the column `source`; "cocoa" where None.

    Raises:
        FileNotFoundError, NotADirectoryError: `annotations` or `images` is not there.
        AnnotationError: the file is broken, or a record is bad and `on_error` is "raise".
    """
    content, name = load_annotations(annotations)
    return _rows(content, images, RecordLog(name, on_error, bad_records), source or "cocoa")


def read_cocoa(
    annotations: str | os.PathLike[str] | Mapping[str, Any],
    images: str | os.PathLike[str] | None = None,
    *,
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
    source: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Read a COCOA file into a `datasets.Dataset` of `amodal_features`, written as a stream.

    Args:
        annotations: JSON file, or its content.
        images: folder of the photos; None leaves the column `image` out.
        on_error: see `iter_cocoa`.
        bad_records: see `iter_cocoa`.
        source: see `iter_cocoa`.
        cache_dir: folder for the Arrow files; None takes a temporary one that lasts as long as the process.

    Raises:
        FileNotFoundError, NotADirectoryError, AnnotationError: see `iter_cocoa`.
    """
    rows = iter_cocoa(annotations, images, on_error=on_error, bad_records=bad_records, source=source)
    return dataset_from_rows(rows, with_image=images is not None, cache_dir=cache_dir)


def _rows(
    content: Mapping[str, Any], images: str | os.PathLike[str] | None, log: RecordLog, source: str
) -> Iterator[dict[str, Any]]:
    records, refused = read_images(content["images"], images, log)
    groups = group_by_image(content["annotations"], records, refused, log)
    for key, image in records.items():
        if key not in groups:
            yield make_row(image, [], None, source)
        for label, annotation in groups.get(key, []):
            regions = annotation.get("regions")
            if not isinstance(regions, list):
                log.bad(label, f"regions must be a list, got {type(regions).__name__}")
                continue
            things = _things(regions, image, label, log)
            relations = _relations(annotation.get("depth_constraint"), len(regions), label, log)
            place = {thing["id"]: index for index, thing in enumerate(things)}
            order = relations and [
                {"front": place[front], "behind": place[behind]}
                for front, behind in relations
                if front in place and behind in place
            ]
            yield make_row(image, build_objects(things), order, source)


def _things(regions: list[Any], image: ImageRecord, label: str, log: RecordLog) -> list[dict[str, Any]]:
    things = []
    for number, region in enumerate(regions, start=1):
        try:
            if not isinstance(region, Mapping):
                raise ValueError(f"expected an object, got {type(region).__name__}")
            things.append(_thing(number, region, image.height, image.width))
        except ValueError as error:
            log.bad(f"{label} region {number}", error)
    return things


def _thing(number: int, region: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    amodal = segmentation_to_rle(region.get("segmentation"), height, width)
    if not mask_utils.area(amodal):
        raise ValueError(f"segmentation has no pixel inside the {height} x {width} image")
    visible = region.get("visible_mask")
    if visible is None and region.get("invisible_mask") is not None:
        raise ValueError("invisible_mask without visible_mask")
    category = region.get("category_id")
    return {
        "id": number,
        "name": to_name(region.get("name")),
        "category_id": None if category is None else to_int(category, "category_id"),
        "is_stuff": to_flag(region.get("isStuff"), "isStuff"),
        "is_crowd": False,
        "modal_mask": amodal if visible is None else segmentation_to_rle(visible, height, width),
        "amodal_mask": amodal,
    }


def _relations(text: Any, count: int, label: str, log: RecordLog) -> list[tuple[int, int]] | None:
    """Pairs (front, behind) of region numbers from 1; None where the annotation has no `depth_constraint`."""
    if text is None:
        return None
    if not isinstance(text, str):
        log.bad(label, f"depth_constraint must be a string such as '1-2,1-3', got {text!r}")
        return None
    pairs: dict[tuple[int, int], None] = {}
    for part in text.split(",") if text.strip() else []:
        match = CONSTRAINT.fullmatch(part)
        front, behind = (int(match[1]), int(match[2])) if match else (0, 0)
        if match is None:
            log.bad(label, f"depth_constraint {part!r} is not of the form '1-2'")
        elif not (1 <= front <= count and 1 <= behind <= count) or front == behind:
            log.bad(label, f"depth_constraint {part!r} must name two different regions from 1 to {count}")
        elif (behind, front) in pairs:
            log.bad(label, f"depth_constraint {part!r} contradicts '{behind}-{front}'")
        else:
            pairs[front, behind] = None
    return list(pairs)
