"""COCO-flat annotation files, one annotation per instance: COCO, LVIS, TACO; amodal COCOA-cls, D2SA, KINS."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from reprlib import repr as short
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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
)
from .rows import dataset_from_rows

if TYPE_CHECKING:
    from datasets import Dataset

Layout = Literal["auto", "coco", "cocoa-cls", "kins"]


class MaskFields(NamedTuple):
    """Fields of the masks, the first that an annotation has counts. Without `amodal`, amodal masks are unknown."""

    modal: tuple[str, ...]
    amodal: tuple[str, ...] = ()


LAYOUTS = {
    "coco": MaskFields(("segmentation",)),
    "cocoa-cls": MaskFields(("visible_mask",), ("segmentation",)),
    # The files of 2020 have the names with a_ (amodal) and i_ (inmodal), those before the others.
    "kins": MaskFields(("i_segm", "inmodal_seg"), ("a_segm", "segmentation")),
}


def iter_coco(
    annotations: Annotations,
    images: str | os.PathLike[str] | None = None,
    *,
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
    layout: Layout = "auto",
    source: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of a COCO-flat file in plain Python, one per image in the order of `images`, also of images without objects.

    Args:
        annotations: JSON file, or its content.
        images: folder of the photos. Each row then has the path of its photo under `image`.
        on_error: "raise" refuses the first bad record; "skip" leaves it out, the rest of its image stays.
        bad_records: list that takes the records skipped.
        layout: where the masks are. "coco": `segmentation` is modal, amodal masks are unknown. "cocoa-cls" (D2SA too):
            `segmentation` is amodal, `visible_mask` modal. "kins": `segmentation` is amodal, `inmodal_seg` modal, or
            `a_segm` and `i_segm` in the files of 2020. In these two an annotation without modal mask has nothing
            hidden. "auto" looks which fields the file has.
            In all, `order_relations` of an image give the order, as `amodal_diffusion.export` writes it; else the ranks
            of KINS 2020: of two objects of the same `oco_id` whose masks overlap, the lower `ico_id` is in front.
        source: name of the data set for the column `source`; the file's name without extension where None.

    Raises:
        FileNotFoundError, NotADirectoryError: `annotations` or `images` is not there.
        AnnotationError: the file is broken, or a record is bad and `on_error` is "raise".
    """
    file = load_annotations(annotations)
    log = RecordLog(file.name, on_error, bad_records)
    if layout == "auto":
        layout = detect_layout(file)
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be 'auto' or one of {sorted(LAYOUTS)}, got {layout!r}")
    return _rows(file.content, images, log, LAYOUTS[layout], source or Path(file.name).stem)


def read_coco(
    annotations: Annotations,
    images: str | os.PathLike[str] | None = None,
    *,
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
    layout: Layout = "auto",
    source: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Read a COCO-flat file into a `datasets.Dataset` of `amodal_features`, written as a stream.

    Args:
        annotations: JSON file, or its content.
        images: folder of the photos; None leaves the column `image` out.
        on_error: see `iter_coco`.
        bad_records: see `iter_coco`.
        layout: see `iter_coco`.
        source: see `iter_coco`.
        cache_dir: folder for the Arrow files; None takes a temporary one that lasts as long as the process.

    Raises:
        FileNotFoundError, NotADirectoryError, AnnotationError: see `iter_coco`.
    """
    rows = iter_coco(annotations, images, on_error=on_error, bad_records=bad_records, layout=layout, source=source)
    return dataset_from_rows(rows, with_image=images is not None, cache_dir=cache_dir)


def detect_layout(file: AnnotationFile) -> Literal["coco", "cocoa-cls", "kins"]:
    """Layout of the masks by the fields of a COCO-flat file."""
    if file.has_field(*LAYOUTS["kins"].modal):
        return "kins"
    return "cocoa-cls" if file.has_field(*LAYOUTS["cocoa-cls"].modal) else "coco"


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
            if rank is not None:
                ranks[len(objects)] = rank
            objects.append(item)
        relations = _relations(image, annotations, objects, log)
        if relations is None and ranks:
            relations = relations_from_ranks(objects, ranks)
        yield make_row(image, build_objects(objects), relations, source)


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
    known = {to_int(annotation["id"], "id") for _, annotation in annotations if annotation.get("id") is not None}
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
        "id": to_int(annotation.get("id"), "id"),
        "name": None if category_id is None else names.get(category_id),
        "category_id": category_id,
        "is_stuff": to_flag(annotation.get("isStuff"), "isStuff"),
        "is_crowd": to_flag(annotation.get("iscrowd"), "iscrowd"),
        "modal_mask": modal,
        "amodal_mask": amodal,
    }


def _first_field(annotation: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, Any]:
    """The first of these fields that has a value; the last one's name and None where none has."""
    return next(((name, annotation[name]) for name in names if annotation.get(name) is not None), (names[-1], None))
