"""The one schema of all data sets: a row is an image with its objects and their occlusion order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from reprlib import repr as short
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as mask_utils

from ..masks.rle import Rle, segmentation_to_rle

if TYPE_CHECKING:
    from datasets import Features

DEPTHS = ("nearest", "mean", "farthest")
"""What is known of the depth of an object."""

_DECODED_PIXELS = 2**25
"""Of masks that are decoded at a time: bounds memory, not results."""


def amodal_features(with_image: bool = False, with_depth: bool = False) -> Features:
    """Make the schema of a row: an image, its objects, and the occlusion order between them.

    Masks are compressed COCO run lengths `{"size": [height, width], "counts": str}` of the whole frame; boxes are tight
    float (x, y, width, height) in image pixels, x to the right, y down, (0, 0, 0, 0) for an empty mask.

    | column | meaning, and the meaning of null |
    |---|---|
    | `image_id` | id of the image in its source, as a string |
    | `file_name` | file name in the source, relative to its image folder; "" where the source has none |
    | `height`, `width` | size of the frame in pixels, EXIF orientation applied |
    | `image` | the photo (only `with_image`) |
    | `objects.id` | id in the source; for COCOA the 1-based number of the region |
    | `objects.name`, `objects.category_id` | class; null where the source has none |
    | `objects.is_stuff`, `objects.is_crowd` | background region, group of objects under one mask |
    | `objects.modal_mask`, `objects.modal_box` | visible part; empty where the object is fully hidden |
    | `objects.amodal_mask`, `objects.amodal_box` | visible and hidden part; null where unknown |
    | `objects.occlusion_rate` | share of the amodal mask that is hidden, 0 to 1, from the masks; null where unknown |
    | `objects.depth` | metres at the `nearest`, `mean` and `farthest` pixel of the amodal mask (only `with_depth`) |
    | `order_relations` | pairs of indices into `objects`, `front` occludes `behind`; [] if none, null if unknown |
    | `source` | short name of the data set |

    Args:
        with_image: add the column `image` (`datasets.Image`).
        with_depth: objects have a `depth`, as those of rendered scenes do.

    Example:
        >>> list(amodal_features())
        ['image_id', 'file_name', 'height', 'width', 'objects', 'order_relations', 'source']
        >>> list(amodal_features()["objects"].feature)[:5]
        ['id', 'name', 'category_id', 'is_stuff', 'is_crowd']
    """
    # Imported late because it brings pandas in, which nobody needs who only reads or decodes masks.
    from datasets import Features, Image, List, Value

    def rle() -> dict[str, Any]:
        return {"size": List(Value("int32")), "counts": Value("string")}

    item = {
        "id": Value("int64"),
        "name": Value("string"),
        "category_id": Value("int64"),
        "is_stuff": Value("bool"),
        "is_crowd": Value("bool"),
        "modal_mask": rle(),
        "amodal_mask": rle(),
        "modal_box": List(Value("float32")),
        "amodal_box": List(Value("float32")),
        "occlusion_rate": Value("float64"),
    }
    if with_depth:
        item["depth"] = {name: Value("float32") for name in DEPTHS}
    columns: dict[str, Any] = {
        "image_id": Value("string"),
        "file_name": Value("string"),
        "height": Value("int32"),
        "width": Value("int32"),
        "objects": List(item),
        "order_relations": List({"front": Value("int32"), "behind": Value("int32")}),
        "source": Value("string"),
    }
    if with_image:
        columns["image"] = Image()
    return Features(columns)


def build_objects(objects: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Fill in the boxes and the occlusion rate of the objects of one image.

    Args:
        objects: objects with all fields of the schema; boxes and `occlusion_rate` may lack, and are made anew.
            `amodal_mask` is None where unknown, and the same Python object as `modal_mask` where nothing is hidden.
            Run lengths are taken as they are; `segmentation_to_rle` and `encode_rle` give ones that are right.

    Returns:
        New dicts with all fields of the schema, in the same order.

    Example:
        >>> from amodal_diffusion.masks import encode_rle
        >>> modal, amodal = encode_rle([[0, 1, 0, 0]]), encode_rle([[0, 1, 1, 0]])
        >>> item = build_objects([{"id": 1, "modal_mask": modal, "amodal_mask": amodal}])[0]
        >>> item["modal_box"], item["amodal_box"], item["occlusion_rate"]
        ([1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 2.0, 1.0], 0.5)
    """
    if not objects:
        return []
    modal_boxes = mask_utils.toBbox([item["modal_mask"] for item in objects])  # (N, 4) xywh
    built = []
    for item, modal_box in zip(objects, modal_boxes, strict=True):
        modal, amodal = item["modal_mask"], item["amodal_mask"]
        amodal_box, rate = None, None
        if amodal is modal:
            amodal_box, rate = modal_box.tolist(), 0.0
        elif amodal is not None:
            amodal_box, rate = mask_utils.toBbox(amodal).tolist(), _hidden_share(modal, amodal)
        built.append({**item, "modal_box": modal_box.tolist(), "amodal_box": amodal_box, "occlusion_rate": rate})
    return built


def record_masks(row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """Decode the masks of a row.

    Args:
        row: a row of the schema, from `iter_coco`, a `Dataset` or an `IterableDataset`.

    Returns:
        Modal masks (N, H, W) bool and amodal masks (N, H, W) bool, (0, H, W) where there is no object. The amodal
        masks are None unless every object has one.

    Raises:
        ValueError: naming the object whose mask has another size than the row, or run lengths that do not fill it; a
            row without height and width.

    Example:
        >>> from amodal_diffusion.masks import encode_rle
        >>> item = {"modal_mask": encode_rle([[0, 1, 0]]), "amodal_mask": encode_rle([[0, 1, 1]])}
        >>> modal, amodal = record_masks({"height": 1, "width": 3, "objects": [item]})
        >>> modal.astype(int), amodal.astype(int)
        (array([[[0, 1, 0]]]), array([[[0, 1, 1]]]))
    """
    objects, (height, width) = row["objects"], _frame(row)
    modal = decode_masks([item["modal_mask"] for item in objects], height, width, name="visible mask of object")
    amodal = [item["amodal_mask"] for item in objects]
    if any(rle is None or rle["counts"] is None for rle in amodal):
        return modal, None
    return modal, decode_masks(amodal, height, width, name="whole mask of object")


def _frame(row: Mapping[str, Any]) -> tuple[int, int]:
    if row["height"] is None or row["width"] is None:
        raise ValueError(f"height and width must be positive, got {row['height']} x {row['width']}")
    return int(row["height"]), int(row["width"])


def record_order(row: Mapping[str, Any]) -> np.ndarray | None:
    """Make the order matrix of a row.

    Args:
        row: a row of the schema.

    Returns:
        (N, N) int8, antisymmetric: [i, j] is 1 where i occludes j, -1 where j occludes i, else 0; also 0 for objects
        that occlude each other, each in another place. None if the source does not tell the order.

    Raises:
        ValueError: a relation names an object that is not in the row.

    Example:
        >>> record_order({"objects": [{}, {}], "order_relations": [{"front": 1, "behind": 0}]})
        array([[ 0, -1],
               [ 1,  0]], dtype=int8)
    """
    relations = row["order_relations"]
    if relations is None:
        return None
    count = len(row["objects"])
    order = np.zeros((count, count), dtype=np.int8)
    if not relations:
        return order
    if any(relation is None or None in (relation["front"], relation["behind"]) for relation in relations):
        raise ValueError(f"order_relations: indices must be from 0 to {count - 1}, got {short(relations)}")
    front = np.array([relation["front"] for relation in relations])
    behind = np.array([relation["behind"] for relation in relations])
    if min(front.min(), behind.min()) < 0 or max(front.max(), behind.max()) >= count:
        raise ValueError(f"order_relations: indices must be from 0 to {count - 1}, got {relations}")
    order[front, behind] = 1
    return order - order.T


def has_depth(features: Features) -> bool:
    """Whether the objects of a data set of these features have a `depth`.

    Example:
        >>> has_depth(amodal_features()), has_depth(amodal_features(with_depth=True))
        (False, True)
    """
    return "depth" in (getattr(features["objects"], "feature", None) or {})


def record_depths(row: Mapping[str, Any]) -> np.ndarray | None:
    """The depths of the objects of a row.

    Args:
        row: a row of the schema.

    Returns:
        (N, 3) float64, `DEPTHS` of each object in metres, NaN for an object of unknown depth; None where no object has
        one.

    Example:
        >>> depth = {"nearest": 1.0, "mean": 1.5, "farthest": 2.0}
        >>> record_depths({"objects": [{"depth": depth}, {"depth": None}]})
        array([[1. , 1.5, 2. ],
               [nan, nan, nan]])
        >>> record_depths({"objects": [{}, {}]}) is None
        True
    """
    given = [item.get("depth") or {} for item in row["objects"]]
    values = [[math.nan if depth.get(name) is None else float(depth[name]) for name in DEPTHS] for depth in given]
    found = np.array(values, dtype=np.float64).reshape(-1, len(DEPTHS))
    return None if np.isnan(found).all() else found


def decode_masks(rles: Sequence[Rle], height: int, width: int, *, name: str = "mask") -> np.ndarray:
    """Decode compressed run-length masks of one frame in one call.

    Args:
        rles: N masks.
        height: of the frame in pixels.
        width: of the frame in pixels.
        name: what errors call a mask, before its index.

    Returns:
        (N, height, width) bool, C-contiguous; (0, height, width) for no masks.

    Raises:
        ValueError: a mask has another size than the frame, or run lengths that do not fill it.

    Example:
        >>> decode_masks([{"size": [2, 4], "counts": "242"}], height=2, width=4).astype(int)
        array([[[0, 1, 1, 0],
                [0, 1, 1, 0]]])
    """
    if not rles:
        return np.zeros((0, height, width), dtype=bool)
    _check_masks(rles, height, width, name)
    masks = np.zeros((len(rles), height, width), dtype=bool)  # whose pages take no memory before they are written
    # The transposition is what takes the time, so only the box of each mask is copied.
    boxes = mask_utils.toBbox(list(rles)).astype(int).tolist()
    # pycocotools decodes column by column; some masks at a time, or it would hold all of them beside ours.
    step = max(1, _DECODED_PIXELS // max(1, height * width))
    for start in range(0, len(rles), step):
        planes = mask_utils.decode(list(rles[start : start + step]))  # (H, W, n) uint8
        for index, (x, y, box_width, box_height) in enumerate(boxes[start : start + step]):
            window = (slice(y, y + box_height), slice(x, x + box_width))
            masks[start + index][window] = planes[(*window, index)]
    return masks


def _check_masks(rles: Sequence[Rle], height: int, width: int, name: str) -> None:
    """Refuse what pycocotools would read wrong or take for zeros; ValueError with the name and index of the mask."""
    for index, rle in enumerate(rles):
        try:
            if not isinstance(rle, Mapping) or not isinstance(rle.get("counts"), (str, bytes)):
                raise ValueError(f"must be compressed run lengths with size and counts, got {short(rle)}")
            segmentation_to_rle(rle, height, width)
        except ValueError as error:
            raise ValueError(f"{name} {index}: {error}") from error


def _hidden_share(modal: Rle, amodal: Rle) -> float:
    """Share of the amodal mask outside the modal one; 0 for an empty amodal mask."""
    total = float(mask_utils.area(amodal))
    visible = float(mask_utils.area(mask_utils.merge([modal, amodal], intersect=True)))
    return (total - visible) / total if total else 0.0
