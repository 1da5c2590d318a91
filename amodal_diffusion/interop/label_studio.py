"""Rows of the schema as tasks of Label Studio, and completions for its machine-learning backend."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..data.readers.tools.brush_rle import encode_brush_rle
from ..data.readers.tools.label_studio import MODAL, OCCLUDES, PIECE, joined_regions, read_region, region_labels
from ..data.readers.tools.shapes import AMODAL, UNNAMED, label_of
from ..data.schema import decode_masks
from ..files import atomic_file
from ..pipelines import MaskPipeline

IMAGE = "image"


def write_label_studio(
    rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str], *, photos: str = "/data/local-files/?d="
) -> list[str]:
    """Write rows as tasks with predictions, the JSON that "Import" takes; `iter_label_studio` reads it back.

    See `label_studio_task`. The project must have the labelling interface that `label_studio_config` makes.

    Args:
        rows: of the schema, read one after the other.
        path: of the file; it appears when it is whole.
        photos: what stands before the file names of the photos: the address of a server, a bucket, or local storage.
            Names are percent-encoded, except in buckets (`s3://`, `gs://`, ...), which have none of that.

    Returns:
        The names of the labels, in the order of their first objects.

    Raises:
        ValueError: a row whose masks do not fit it.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> from amodal_diffusion.data import iter_coco, iter_label_studio
        >>> content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 6}], "annotations": [
        ...     {"id": 5, "image_id": 1, "category_id": 7, "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]]}],
        ...     "categories": [{"id": 7, "name": "cup"}]}
        >>> path = os.path.join(tempfile.mkdtemp(), "tasks.json")
        >>> write_label_studio(iter_coco(content), path)
        ['cup']
        >>> next(iter_label_studio(path))["objects"][0]["modal_box"]
        [1.0, 1.0, 3.0, 2.0]
    """
    labels: dict[str, None] = {}
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write("[")
        for number, row in enumerate(rows):
            labels.update(dict.fromkeys(label_of(item["name"]) for item in row["objects"]))
            file.write(("\n" if number == 0 else ",\n") + json.dumps(label_studio_task(row, photos=photos)))
        file.write("\n]\n")
    return list(labels)


def label_studio_task(row: Mapping[str, Any], *, photos: str = "/data/local-files/?d=") -> dict[str, Any]:
    """A row as a task with one prediction.

    Each object is a brush region of its visible part and, where it is known, one of the whole object; a relation with
    the label `amodal` joins them, and relations with the label `occludes` lead from the visible part of an object to
    that of each one behind it. An object stays one region, whatever the number of its pieces. Masks without a pixel are
    left out.

    Args:
        row: of the schema.
        photos: see `write_label_studio`.

    Raises:
        ValueError: masks of another size than the row.

    Example:
        >>> from amodal_diffusion.masks import encode_rle
        >>> item = {"name": "cup", "modal_mask": encode_rle([[0, 1]]), "amodal_mask": None}
        >>> row = {"image_id": "1", "file_name": "1.jpg", "height": 1, "width": 2, "objects": [item],
        ...        "order_relations": None}
        >>> [region["value"]["brushlabels"] for region in label_studio_task(row)["predictions"][0]["result"]]
        [['cup']]
    """
    height, width = int(row["height"]), int(row["width"])
    result: list[dict[str, Any]] = []
    for index, item in enumerate(row["objects"]):
        drawn = []
        for rle, control in ((item["modal_mask"], MODAL), (item["amodal_mask"], AMODAL)):
            if rle is None or rle["counts"] is None:
                continue
            mask = decode_masks([rle], height, width)[0]
            if mask.any():
                drawn.append(_region(f"{index}-{control}", mask, control, label_of(item["name"])))
        result += drawn
        if len(drawn) == 2:
            result.append(_relation(drawn[0]["id"], drawn[1]["id"], AMODAL))
    known = {region["id"] for region in result if "id" in region}
    for pair in row["order_relations"] or []:
        front, behind = (f"{pair[side]}-{MODAL}" for side in ("front", "behind"))
        if {front, behind} <= known:
            result.append(_relation(front, behind, OCCLUDES))
    prediction = {"model_version": f"amodal_diffusion {__version__}", "result": result}
    in_bucket = "://" in photos and not photos.lower().startswith(("http://", "https://"))
    name = row["file_name"] if in_bucket else quote(row["file_name"])
    return {"data": {IMAGE: photos + name, "image_id": row["image_id"]}, "predictions": [prediction]}


def label_studio_config(labels: Sequence[str]) -> str:
    """The labelling interface (XML) of a project for such tasks: brushes for both kinds of masks, and the relations.

    Args:
        labels: names of the labels.

    Example:
        >>> "cup &amp; saucer" in label_studio_config(["cup & saucer"])
        True
    """
    options = "".join(f"\n    <Label value={quoteattr(name)}/>" for name in dict.fromkeys(map(label_of, labels)))
    brushes = "".join(
        f'\n  <BrushLabels name="{control}" toName="{IMAGE}">{options}\n  </BrushLabels>' for control in (MODAL, AMODAL)
    )
    relations = "".join(f'\n    <Relation value="{name}"/>' for name in (OCCLUDES, AMODAL, PIECE))
    relations = f"\n  <Relations>{relations}\n  </Relations>"
    return f'<View>\n  <Image name="{IMAGE}" value="${IMAGE}"/>{brushes}{relations}\n</View>\n'


def complete_regions(
    pipeline: MaskPipeline, image: Any, result: Sequence[Mapping[str, Any]], **options: Any
) -> list[dict[str, Any]]:
    """Complete the visible regions that somebody drew: what the `predict` of a backend returns for a task.

    Args:
        pipeline: completes the masks, all of them in one call.
        image: the photo in any form that `load_image` reads; None for a pipeline that looks at masks alone.
        result: regions of the task, such as `context["result"]` of an interactive call; brush and polygon regions of
            the control `modal` are completed, or those of any control where there is none of this name. Regions that
            are pieces of one object, as `iter_label_studio` reads them, are completed together.
        options: of the call of `pipeline`.

    Returns:
        A region of the control `amodal` and its relation for each object that was completed, and the relations of the
        order, both with the first region of the object; [] where there is none.

    Raises:
        ValueError: a region whose run lengths or points are broken, or regions of different sizes.

    Example:
        >>> complete_regions(None, None, [])
        []
    """
    drawn = [
        item for item in result if isinstance(item.get("value"), Mapping) and {"rle", "points"} & set(item["value"])
    ]
    visible = [item for item in drawn if item.get("from_name") == MODAL]
    visible = visible or [item for item in drawn if item.get("from_name") != AMODAL]
    if not visible:
        return []
    sizes = {(int(item["original_height"]), int(item["original_width"])) for item in visible}
    if len(sizes) > 1:
        raise ValueError(f"`result` must be of one photo, got regions of the sizes {sorted(sizes)}.")
    height, width = sizes.pop()
    joined, names = joined_regions(result), region_labels(result)
    pieces: dict[str, list[Mapping[str, Any]]] = {}
    for item in visible:
        pieces.setdefault(joined.get(str(item["id"]), str(item["id"])), []).append(item)
    parts = [
        decode_masks([read_region(item, height, width) for item in part], height, width) for part in pieces.values()
    ]
    regions = [str(part[0]["id"]) for part in pieces.values()]
    output = pipeline(image, np.stack([part.any(axis=0) for part in parts]), **options)
    made: list[dict[str, Any]] = []
    for region, mask in zip(regions, output.amodal_masks, strict=True):
        made.append(_region(f"{region}-{AMODAL}", mask, AMODAL, names.get(region) or UNNAMED))
        made.append(_relation(region, made[-1]["id"], AMODAL))
    if output.order is not None:
        pairs = np.argwhere(np.asarray(output.order) == 1).tolist()
        made += [_relation(regions[front], regions[behind], OCCLUDES) for front, behind in pairs]
    return made


def _region(region: str, mask: npt.NDArray[np.bool_], control: str, label: str) -> dict[str, Any]:
    height, width = mask.shape
    return {
        "id": region,
        "type": "brushlabels",
        "from_name": control,
        "to_name": IMAGE,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": encode_brush_rle(mask), "brushlabels": [label]},
    }


def _relation(first: str, second: str, label: str) -> dict[str, Any]:
    return {"type": "relation", "from_id": first, "to_id": second, "direction": "right", "labels": [label]}
