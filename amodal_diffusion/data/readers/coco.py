"""Annotation files with one annotation for each instance: COCO, LVIS, TACO; amodal COCOA-cls, D2SA and KINS."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from reprlib import repr as short
from typing import Any, Literal, NamedTuple

from pycocotools import mask as mask_utils

from ...masks.rle import segmentation_to_rle
from ..schema import build_objects
from .kins_ranks import read_rank, relations_from_ranks
from .records import (
    AnnotationFile,
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

logger = logging.getLogger(__name__)

Layout = Literal["auto", "coco", "cocoa-cls", "kins", "visible", "amodal", "both"]


class MaskFields(NamedTuple):
    """Names of the fields that hold the masks; the first one that an annotation has is read.

    Without `amodal`, amodal masks are unknown.

    Example:
        >>> LAYOUTS["cocoa-cls"]
        MaskFields(modal=('visible_mask',), amodal=('segmentation',))
    """

    modal: tuple[str, ...]
    amodal: tuple[str, ...] = ()


_PARTS = ("segm", "seg", "segmentation", "mask")
_MODAL = tuple(f"{word}_{part}" for word in ("visible", "modal", "inmodal") for part in _PARTS)
_AMODAL = tuple(f"amodal_{part}" for part in _PARTS)
LAYOUTS = {
    "coco": MaskFields(("segmentation",)),
    "cocoa-cls": MaskFields(("visible_mask",), ("segmentation",)),
    # The files of 2020 have the names with a_ (amodal) and i_ (inmodal), those before the others.
    "kins": MaskFields(("i_segm", "inmodal_seg"), ("a_segm", "segmentation")),
    # Names that other data sets use. `segmentation` is whichever of the two has no name of its own.
    "visible": MaskFields(_MODAL, ("segmentation",)),
    "amodal": MaskFields(("segmentation",), _AMODAL),
    "both": MaskFields(_MODAL, _AMODAL),
}
_SUSPECTS = re.compile(r"(?:a|in)?modal_\w+|visible_\w+|invisible_\w+|occluded_\w+")
_NO_MASKS = re.compile(r"\w+_(?:bbox|box|area|rate|ratio|id|ids|score|name|pct|percent\w*)|invisible_\w+|occluded_\w+")
_MOST_OUTSIDE = 0.05
"""Share of a visible mask outside of the whole one that rounding explains."""


def iter_coco(
    annotations: Annotations,
    images: str | os.PathLike[str] | None = None,
    *,
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
    layout: Layout = "auto",
    source: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of a COCO-style file, one for each image, in the order of `images`.

    An image without annotations gives a row without objects.

    Args:
        annotations: path of a JSON file, or its parsed content.
        images: folder of the photos. Each row then has the path of its photo under `image`.
        on_error: "raise" stops at the first bad record; "skip" leaves it out and keeps the rest of its image.
        bad_records: list to which the skipped records are appended.
        layout: which fields hold the masks. "coco": `segmentation` is modal, amodal masks are unknown. "cocoa-cls",
            also for D2SA: `segmentation` is amodal, `visible_mask` modal. "kins": `segmentation` is amodal,
            `inmodal_seg` modal, or `a_segm` and `i_segm` in the files of 2020. In these two, nothing is hidden of an
            instance without a modal mask. The names of other data sets (`visible_segm`, `inmodal_mask`, `amodal_segm`
            and the like): "visible", the modal masks have such a name and `segmentation` is amodal; "amodal", the
            other way round; "both". "auto" looks which fields the file has, and warns of those that it cannot read.
            In all of them, `order_relations` of an image give the order, as `amodal_diffusion.io` writes it; else the
            ranks of KINS 2020: of two objects of one `oco_id` whose masks overlap, the lower `ico_id` is in front.
        source: what the column `source` holds; the file's name without extension if None.

    Raises:
        FileNotFoundError, NotADirectoryError: `annotations` or `images` does not exist, or `images` is no folder.
        AnnotationError: the file is broken, or a record is bad and `on_error` is "raise".

    Example:
        >>> content = {
        ...     "images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 6}],
        ...     "annotations": [{"id": 5, "image_id": 1, "category_id": 7, "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]]}],
        ...     "categories": [{"id": 7, "name": "cup"}],
        ... }
        >>> row = next(iter_coco(content))
        >>> row["file_name"], row["objects"][0]["name"], row["objects"][0]["modal_box"]
        ('1.jpg', 'cup', [1.0, 1.0, 3.0, 2.0])
    """
    file = load_annotations(annotations)
    log = RecordLog(file.name, on_error, bad_records)
    if layout == "auto":
        layout = detect_layout(file)
        _name_unread(file, LAYOUTS[layout])
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be 'auto' or one of {sorted(LAYOUTS)}, got {layout!r}")
    return _rows(file.content, images, log, LAYOUTS[layout], source or Path(file.name).stem)


def detect_layout(file: AnnotationFile) -> Layout:
    """Tell the layout of a COCO-style file from the fields of its annotations.

    Example:
        >>> detect_layout(AnnotationFile({"annotations": [{"visible_mask": []}]}, "file.json"))
        'cocoa-cls'
        >>> detect_layout(AnnotationFile({"annotations": [{"amodal_segm": [], "visible_segm": []}]}, "file.json"))
        'both'
    """
    if file.has_field(*_AMODAL):
        return "both" if file.has_field(*_MODAL) else "amodal"
    if file.has_field(*LAYOUTS["kins"].modal):
        return "kins"
    if file.has_field(*LAYOUTS["cocoa-cls"].modal):
        return "cocoa-cls"
    return "visible" if file.has_field(*_MODAL) else "coco"


def _name_unread(file: AnnotationFile, fields: MaskFields) -> None:
    """Warn of fields that look like masks of what is visible or hidden, and that nobody reads."""
    read = {*fields.modal, *fields.amodal}
    found = sorted(name for name in file.fields if _SUSPECTS.fullmatch(name) and not _NO_MASKS.fullmatch(name))
    for name in found:
        if name not in read:
            logger.warning("%s: annotations have %r, which is not read; known are %s", file.name, name, sorted(read))


def _rows(
    content: Mapping[str, Any], images: str | os.PathLike[str] | None, log: RecordLog, fields: MaskFields, source: str
) -> Iterator[dict[str, Any]]:
    records, refused = read_images(content["images"], images, log)
    names = read_category_names(content.get("categories"), log)
    groups = group_by_image(content["annotations"], records, refused, log)
    for key, image in records.items():
        annotations = labelled(content["annotations"], groups.get(key, ()))
        objects: list[dict[str, Any]] = []
        ranks: dict[int, tuple[int, int]] = {}
        for label, annotation in annotations:
            try:
                item = _read_object(annotation, image.height, image.width, names, fields)
                rank = read_rank(annotation)
            except ValueError as error:
                log.bad(label, error)
                continue
            _check_inside(item, label, log)
            if rank is not None:
                ranks[len(objects)] = rank
            objects.append(item)
        _fill_ids(objects)
        relations = _relations(image, annotations, objects, log)
        if relations is None and ranks:
            relations = relations_from_ranks(objects, ranks)
        yield make_row(image, build_objects(objects), relations, source)


def _check_inside(item: Mapping[str, Any], label: str, log: RecordLog) -> None:
    """Warn of a visible mask that lies outside of the whole one."""
    modal, amodal = item["modal_mask"], item["amodal_mask"]
    if amodal is None or amodal is modal:
        return
    area = int(mask_utils.area(modal))
    outside = area - int(mask_utils.area(mask_utils.merge([modal, amodal], intersect=True)))
    if outside > _MOST_OUTSIDE * area:
        log.note(label, f"{outside} of {area} pixels of the visible mask lie outside of the whole one")


def _fill_ids(objects: list[dict[str, Any]]) -> None:
    """Give objects without an id the first numbers from 1 that no other object of the image has."""
    taken = {item["id"] for item in objects}
    free = (number for number in count(1) if number not in taken)
    for item in objects:
        if item["id"] is None:
            item["id"] = next(free)


def _relations(
    image: ImageRecord,
    annotations: list[tuple[str, Mapping[str, Any]]],
    objects: list[dict[str, Any]],
    log: RecordLog,
) -> list[dict[str, int]] | None:
    """Relations by annotation ids, which our own exports keep on the image; None where it has none."""
    if image.order_relations is None:
        return None

    def refuse(reason: str) -> None:
        log.bad(f"image {image.key}", reason)

    if not isinstance(image.order_relations, list):
        refuse(f"order_relations must be a list, got {type(image.order_relations).__name__}")
        return None
    pairs = []
    for relation in image.order_relations:
        try:
            if not isinstance(relation, Mapping):
                raise ValueError(f"order_relations must have pairs of ids, got {short(relation)}")
            front, behind = to_int(relation.get("front"), "front"), to_int(relation.get("behind"), "behind")
            pairs.append((front, behind, f"order_relations {front} before {behind}"))
        except ValueError as error:
            refuse(str(error))
    known = set()
    for _, annotation in annotations:
        if annotation.get("id") is not None:
            with suppress(ValueError):  # of an object that was skipped for it
                known.add(to_int(annotation["id"], "id"))
    return make_relations(pairs, objects, known, refuse)


def _read_object(
    annotation: Mapping[str, Any], height: int, width: int, names: Mapping[int, str | None], fields: MaskFields
) -> dict[str, Any]:
    category = annotation.get("category_id")
    category_id = None if category is None else to_int(category, "category_id")
    field, segmentation = _first_field(annotation, fields.amodal or fields.modal)
    mask = segmentation_to_rle(segmentation, height, width)
    if not mask_utils.area(mask):
        raise ValueError(f"{field} has no pixel inside the {height} x {width} image")
    modal, amodal = mask, None
    if fields.amodal:
        _, visible = _first_field(annotation, fields.modal)
        amodal = mask
        modal = mask if visible is None else segmentation_to_rle(visible, height, width)
    return {
        "id": None if annotation.get("id") is None else to_int(annotation["id"], "id"),
        "name": to_name(annotation.get("name")) or (None if category_id is None else names.get(category_id)),
        "category_id": category_id,
        "is_stuff": to_flag(annotation.get("isStuff"), "isStuff"),
        "is_crowd": to_flag(annotation.get("iscrowd"), "iscrowd"),
        "modal_mask": modal,
        "amodal_mask": amodal,
    }


def _first_field(annotation: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, Any]:
    """The first of these fields that has a value; the last one's name and None where none has."""
    return next(((name, annotation[name]) for name in names if annotation.get(name) is not None), (names[-1], None))
