"""Label Studio: the JSON export, a list of tasks with brush and polygon regions and relations."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from ....images import image_size
from ....masks.rle import Rle, encode_rle, segmentation_to_rle
from ..json_arrays import BrokenJsonError, read_json
from ..records import AnnotationError, BadRecord, OnError, RecordLog, make_row, read_images, to_int, to_key
from .brush_rle import decode_brush_rle
from .shapes import AMODAL, Shape, objects_from_shapes

OCCLUDES = "occludes"
"""Label of the relation from a region to one that it hides in part."""
PIECE = "piece"
"""Label of the relation between two visible regions of one object."""
MODAL = "modal"
"""Name of the control of visible regions."""
_SUFFIX = f" ({AMODAL})"


def iter_label_studio(
    annotations: str | os.PathLike[str] | Sequence[Any],
    images: str | os.PathLike[str] | None = None,
    *,
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
    source: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of an export of Label Studio (JSON), one for each task.

    Of a task the first annotation counts that was not cancelled; without one, the first prediction. Brush and polygon
    regions are read. A region of a control with the name `amodal` is a whole mask, one of a control with the name
    `modal` a visible one; of other controls those are whole whose label ends with " (amodal)". A relation with the
    label `amodal` joins it with its visible region. An object in several pieces is one brush region, or regions of one
    label that lie in one another in the outliner (`parentID`) or that relations with the label `piece` join. A relation
    with the label `occludes` leads from the object in front to the one behind.

    Args:
        annotations: the file, or its parsed content.
        images: folder of the photos. Each row then has the path of its photo under `image`. The name of a photo is
            that in `data`, without the address of the server or bucket.
        on_error: "raise" stops at the first bad record, which rectangles and key points are too; "skip" leaves it out.
        bad_records: list to which the skipped records are appended.
        source: what the column `source` holds; the file's name without extension if None.

    Raises:
        FileNotFoundError, NotADirectoryError: `annotations` or `images` does not exist, or `images` is no folder.
        AnnotationError: the file is broken, or a record is bad and `on_error` is "raise".

    Example:
        >>> region = {"id": "r1", "type": "polygonlabels", "original_width": 6, "original_height": 4, "value": {
        ...     "points": [[0, 0], [50, 0], [50, 50], [0, 50]], "polygonlabels": ["cup"]}}
        >>> tasks = [{"id": 7, "data": {"image": "/data/upload/1/a.jpg"}, "annotations": [{"result": [region]}]}]
        >>> row = next(iter_label_studio(tasks))
        >>> row["file_name"], row["objects"][0]["name"], row["objects"][0]["modal_box"]
        ('a.jpg', 'cup', [0.0, 0.0, 3.0, 2.0])
    """
    name = os.fspath(annotations) if isinstance(annotations, (str, os.PathLike)) else "annotations"
    tasks: Any = annotations
    if isinstance(annotations, (str, os.PathLike)):
        try:
            tasks = read_json(Path(annotations), ())
        except BrokenJsonError as error:
            raise AnnotationError(BadRecord(name, "file", str(error))) from error
    if not isinstance(tasks, list):
        raise AnnotationError(BadRecord(name, "file", f"expected a list of tasks, got {type(tasks).__name__}"))
    return _rows(tasks, images, RecordLog(name, on_error, bad_records), source or Path(name).stem)


def _rows(
    tasks: Sequence[Any], images: str | os.PathLike[str] | None, log: RecordLog, source: str
) -> Iterator[dict[str, Any]]:
    for index, task in enumerate(tasks):
        label = f"task at index {index}"
        try:
            if not isinstance(task, Mapping):
                raise ValueError(f"expected an object, got {type(task).__name__}")
            key = to_key(task.get("id", index), "id")
            label = f"task {key}"
            result = _result(task)
            name = photo_name(task.get("data"))
            height, width = _frame(result, images, name)
        except ValueError as error:
            log.bad(label, error)
            continue
        entry = {"id": key, "file_name": name, "height": height, "width": width}
        for record in read_images([entry], images, log)[0].values():
            shapes, order = _read_regions(result, record.height, record.width, label, log)
            yield make_row(record, *objects_from_shapes(shapes, order), source)


def _result(task: Mapping[str, Any]) -> list[Any]:
    """The regions and relations of a task."""
    kept = [
        item for item in task.get("annotations") or [] if isinstance(item, Mapping) and not item.get("was_cancelled")
    ]
    kept = kept or [item for item in task.get("predictions") or [] if isinstance(item, Mapping)]
    result = kept[0].get("result") if kept else []
    if not isinstance(result, list) or not all(isinstance(item, Mapping) for item in result):
        raise ValueError("'result' must be a list of objects")
    return result


def photo_name(data: Any) -> str:
    """Name of the photo of a task: what its `data` says, without the server, the bucket or the upload folder.

    Example:
        >>> photo_name({"image": "/data/local-files/?d=photos/a%20b.jpg"}), photo_name({"image": "s3://bucket/x/c.png"})
        ('photos/a b.jpg', 'x/c.png')
    """
    values = data if isinstance(data, Mapping) else {}
    text = values.get("image") or next((value for value in values.values() if isinstance(value, str)), "")
    scheme, _, place = str(text).partition("://")
    if place and scheme.lower() not in ("http", "https", "file"):
        return place.partition("/")[2]  # of a bucket, whose keys are not encoded
    parts = urlsplit(str(text))
    path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0].lstrip("/")
    if path.startswith("data/upload/"):
        path = path.rsplit("/", 1)[-1]
    return path


def _frame(result: Sequence[Mapping[str, Any]], images: str | os.PathLike[str] | None, name: str) -> tuple[int, int]:
    for item in result:
        if item.get("original_height") is not None:
            return to_int(item["original_height"], "original_height"), to_int(
                item.get("original_width"), "original_width"
            )
    if images is None:
        raise ValueError("no region tells the size of the photo; give the folder of the photos (`images`)")
    return image_size(Path(images, name))


def _read_regions(
    result: Sequence[Mapping[str, Any]], height: int, width: int, task: str, log: RecordLog
) -> tuple[list[Shape], list[tuple[int, int]] | None]:
    labels = region_labels(result)
    joined = joined_regions(result)
    shapes: list[Shape] = []
    place: dict[str, int] = {}
    for item in result:
        kind = str(item.get("type"))
        if kind == "relation" or not isinstance(item.get("value"), Mapping) or "choices" in item["value"]:
            continue
        if kind in (
            "labels",
            "choices",
            "taxonomy",
            "textarea",
            "rating",
            "number",
        ):  # of a region that has its own item
            continue
        region = str(item.get("id"))
        try:
            mask = read_region(item, height, width)
        except ValueError as error:
            log.bad(f"{task} region {region}", error)
            continue
        label, amodal = read_label(item, labels.get(region, ""))
        place[region] = len(shapes)
        shapes.append(
            Shape(
                label=label or None,
                mask=mask,
                amodal=amodal,
                group=joined.get(region),
            )
        )
    relations = [item for item in result if item.get("type") == "relation" and OCCLUDES in (item.get("labels") or [])]
    if not relations:
        return shapes, None
    ends = [(str(item.get("from_id")), str(item.get("to_id"))) for item in relations]
    swapped = [item.get("direction") == "left" for item in relations]
    pairs = [pair[::-1] if swap else pair for pair, swap in zip(ends, swapped, strict=True)]
    return shapes, [(place[a], place[b]) for a, b in pairs if a in place and b in place]


def region_labels(result: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The label of each region: in its own item, or in another one with its id.

    Example:
        >>> region_labels([{"id": "a", "value": {"brushlabels": ["cup"]}}])
        {'a': 'cup'}
    """
    labels: dict[str, str] = {}
    for item in result:
        value = item.get("value")
        if isinstance(value, Mapping):
            for key, names in value.items():
                if str(key).endswith("labels") and isinstance(names, list) and names:
                    labels.setdefault(str(item.get("id")), str(names[0]).strip())
    return labels


def read_label(item: Mapping[str, Any], label: str) -> tuple[str, bool]:
    """The name of what a region shows, and whether it shows the whole of it.

    Example:
        >>> read_label({"from_name": "label"}, "cup (amodal)"), read_label({"from_name": "modal"}, "cup (amodal)")
        (('cup', True), ('cup (amodal)', False))
    """
    if item.get("from_name") in (MODAL, AMODAL):  # the control says it, and labels may be called what they like
        return label, item["from_name"] == AMODAL
    return label.removesuffix(_SUFFIX).strip(), label.endswith(_SUFFIX)


def joined_regions(result: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The group of each region that is of one object with another one.

    Relations with the labels `amodal` and `piece` join, and `parentID` does for regions of one label: a wheel that lies
    in a car stays its own object.

    Example:
        >>> joined_regions([{"type": "relation", "from_id": "a", "to_id": "b", "labels": ["piece"]}])
        {'a': 'a', 'b': 'a'}
    """
    names = region_labels(result)
    regions = [(str(item.get("id")), item) for item in result if item.get("type") != "relation"]
    labels = {region: read_label(item, names[region])[0] for region, item in regions if region in names}
    pairs = []
    for item in result:
        if item.get("type") == "relation":
            kinds = item.get("labels")
            if isinstance(kinds, list) and (AMODAL in kinds or PIECE in kinds):
                pairs.append((str(item.get("from_id")), str(item.get("to_id"))))
        elif item.get("parentID"):
            parent, child = str(item["parentID"]), str(item.get("id"))
            if parent in labels and labels[parent] == labels.get(child, ""):
                pairs.append((parent, child))
    group: dict[str, str] = {}
    for first, second in pairs:
        kept, given = group.get(first, first), group.get(second, second)
        group.update({region: kept for region, name in group.items() if name == given})
        group[first] = group[second] = kept
    return group


def read_region(item: Mapping[str, Any], height: int, width: int) -> Rle:
    """The mask of a brush or polygon region.

    Raises:
        ValueError: a region of another kind, or whose run lengths or points are broken.

    Example:
        >>> value = {"points": [[0, 0], [50, 0], [50, 100], [0, 100]]}
        >>> read_region({"type": "polygonlabels", "value": value}, 1, 2)["size"]
        [1, 2]
    """
    kind, value = str(item.get("type")), item["value"]
    if "rle" in value:
        return encode_rle(decode_brush_rle(value["rle"], height, width))
    if kind.startswith("polygon"):
        try:
            points = np.asarray(value.get("points"), dtype=np.float64) * (width / 100, height / 100)
        except (TypeError, ValueError) as error:
            raise ValueError(f"points must be [x, y] in percent: {error}") from error
        return segmentation_to_rle(points.ravel().tolist(), height, width)
    raise ValueError(f"a region of type {kind!r:.40} is no mask; brush and polygon regions are read")
