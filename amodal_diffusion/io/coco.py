"""COCO JSON of amodal masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from ..data.readers.tools.shapes import UNNAMED
from ..masks import Rle, TileStack, encode_rle, mask_boxes
from ..ordering import check_order, order_pairs
from .object_masks import ObjectMasks

Planes = np.ndarray | TileStack
"""(N, H, W), or (N, K, H, W) for samples."""


def amodal_scores(amodal: Planes, probabilities: Planes | None, scores: Sequence[float]) -> list[float]:
    """Confidence of each amodal mask: the segmenter's score times the mean P(object) over the mask.

    Args:
        amodal: (N, H, W) bool.
        probabilities: (N, H, W) float in [0, 1], or None, which counts as 1.
        scores: N floats.

    Returns:
        N floats; 0.0 for an empty mask.

    Example:
        >>> amodal_scores(np.ones((1, 2, 2), bool), np.full((1, 2, 2), 0.5), [0.8])
        [0.4]
    """
    found = []
    for index, (mask, score) in enumerate(zip(amodal, scores, strict=True)):
        area = int(np.count_nonzero(mask))
        mean = 1.0 if probabilities is None else probabilities[index][mask].sum(dtype=np.float64) / max(area, 1)
        found.append(float(score * mean) if area else 0.0)
    return found


def image_entry(
    image_id: int,
    file_name: str,
    height: int,
    width: int,
    pairs: Iterable[tuple[int, int]],
    first: int = 1,
    **more: Any,
) -> dict[str, Any]:
    """The entry of a photo in `images`.

    Args:
        image_id: unique in the document.
        file_name: name of the photo, "" for none.
        height: in pixels.
        width: in pixels.
        pairs: (front, behind), indices of its objects from 0.
        first: annotation id of its first object.
        more: further keys.

    Example:
        >>> image_entry(1, "cup.jpg", 480, 640, [(0, 1)])["order_relations"]
        [{'front': 1, 'behind': 2}]
    """
    relations = [{"front": first + front, "behind": first + behind} for front, behind in pairs]
    return {
        "id": image_id,
        "file_name": file_name,
        "height": height,
        "width": width,
        **more,
        "order_relations": relations,
    }


def annotation_entry(
    annotation_id: int,
    image_id: int,
    *,
    category_id: int,
    name: str,
    amodal: Rle,
    modal: Rle,
    box: Sequence[float],
    area: int,
    occlusion_rate: float,
    score: float,
    is_crowd: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """The entry of an object in `annotations`; `coco_document` says what its keys mean.

    Args:
        annotation_id: unique in the document.
        image_id: of its photo.
        category_id: 0 is an id like any other; for an unknown one, see `CategoryIds`.
        name: what people call it.
        amodal: run lengths of the whole object.
        modal: run lengths of what is visible.
        box: (x, y, w, h) of the whole object.
        area: its pixels.
        occlusion_rate: share of them that is hidden, in [0, 1].
        score: confidence in [0, 1].
        is_crowd: it stands for many objects.
        more: further keys.

    Example:
        >>> mask = encode_rle(np.ones((2, 3), bool))
        >>> entry = annotation_entry(
        ...     1, 1, category_id=0, name="cup", amodal=mask, modal=mask, box=[0, 0, 3, 2], area=6,
        ...     occlusion_rate=0, score=1,
        ... )
        >>> entry["category_id"], entry["area"], entry["segmentation"]["size"]
        (0, 6, [2, 3])
    """
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": int(category_id),
        "name": name,
        "segmentation": amodal,
        "visible_mask": modal,
        "bbox": box,
        "area": area,
        "iscrowd": int(is_crowd),
        "occlude_rate": round(float(occlusion_rate), 6),
        "score": round(float(score), 6),
        **more,
    }


class CategoryIds:
    """Categories for objects of which some have a name alone: each such name gets the least id from 1 that is free.

    A category is named after its objects where these agree, and "object" where they do not; objects with neither id nor
    name have one category, "object".

    Args:
        known: all ids that objects have, None among them or not.

    Example:
        >>> categories = CategoryIds([0, 1, None])
        >>> [categories.of(*item) for item in [(0, "person"), (None, "cup"), (None, ""), (None, "cup")]]
        [0, 2, 3, 2]
        >>> categories.entries()
        [{'id': 0, 'name': 'person'}, {'id': 2, 'name': 'cup'}, {'id': 3, 'name': 'object'}]
    """

    def __init__(self, known: Iterable[int | None]) -> None:
        taken = set(known)
        self._free = (number for number in count(1) if number not in taken)
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def of(self, category_id: int | None, name: str | None) -> int:
        """The id of the category of an object."""
        name = name or UNNAMED
        if category_id is None:
            if name not in self._ids:
                self._ids[name] = next(self._free)
            category_id = self._ids[name]
        if self._names.setdefault(int(category_id), name) != name:
            self._names[int(category_id)] = UNNAMED
        return int(category_id)

    def entries(self) -> list[dict[str, Any]]:
        """The `categories` of the objects so far, by id."""
        return [{"id": number, "name": name} for number, name in sorted(self._names.items())]


def coco_document(
    objects: ObjectMasks,
    amodal: Planes,
    order: np.ndarray | None = None,
    *,
    probabilities: Planes | None = None,
    occluders: Planes | None = None,
    samples: Planes | None = None,
    sample_scores: np.ndarray | None = None,
    file_name: str = "",
    info: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The completed masks of one photo as a COCO document that pycocotools loads.

    Each annotation has the amodal mask as `segmentation` and the modal one as `visible_mask` (compressed RLE), `bbox`
    [x, y, w, h] and `area` of the amodal mask, `occlude_rate` (hidden part of the amodal area) and `score`; the
    predicted `occluder_mask` (compressed RLE) where there are such; and `samples`, a list of other completions with
    `segmentation` and `score`, where these were drawn. Names without a category id have a category each
    (`CategoryIds`). The order lies on the image as `order_relations`, pairs {"front": id, "behind": id} of annotation
    ids. Ids count from 1 in the order of the masks; pictures and mask files count from 0.

    Args:
        objects: the N visible objects.
        amodal: (N, H, W) bool.
        order: (N, N) int8 order matrix, or None for no relations.
        probabilities: (N, H, W) float in [0, 1]; see `amodal_scores`.
        occluders: (N, H, W) bool, the predicted masks of what hides each object, or None.
        samples: (N, K, H, W) bool, K completions of each object, or None.
        sample_scores: (N, K) float in [0, 1], with `samples`.
        file_name: name of the photo, "" for none.
        info: entries of the document's `info`, such as the model.

    Raises:
        ValueError: where the shapes of the masks or of the order differ.

    Example:
        >>> masks = np.zeros((1, 4, 6), bool)
        >>> masks[0, 1:3, 1:4] = True
        >>> document = coco_document(ObjectMasks(masks, names=["cup"]), masks, file_name="cup.jpg")
        >>> document["annotations"][0]["bbox"], document["annotations"][0]["area"], document["categories"]
        ([1.0, 1.0, 3.0, 2.0], 6, [{'id': 1, 'name': 'cup'}])
    """
    for name, masks in (("amodal", amodal), ("occluders", occluders)):
        if masks is not None and masks.shape != objects.masks.shape:
            raise ValueError(
                f"`{name}` must have the shape of the modal masks {objects.masks.shape}, got {masks.shape}."
            )
    if samples is not None:
        _check_samples(samples, sample_scores, objects.masks.shape)
    if order is not None:
        check_order(order, len(amodal))
    height, width = amodal.shape[1:]
    scores = amodal_scores(amodal, probabilities, objects.scores)
    categories = CategoryIds(objects.category_ids)
    ids = [categories.of(*pair) for pair in zip(objects.category_ids, objects.names, strict=True)]
    annotations = []
    for index, (whole, visible) in enumerate(zip(amodal, objects.masks, strict=True)):
        area = int(np.count_nonzero(whole))
        annotations.append(
            annotation_entry(
                index + 1,
                1,
                category_id=ids[index],
                name=objects.names[index],
                amodal=encode_rle(whole),
                modal=encode_rle(visible),
                box=[float(value) for value in mask_boxes(whole[None])[0]],
                area=area,
                occlusion_rate=np.count_nonzero(whole & ~visible) / max(area, 1),
                score=scores[index],
                is_crowd=objects.is_crowd[index],
            )
        )
    if occluders is not None:
        for annotation, occluder in zip(annotations, occluders, strict=True):
            annotation["occluder_mask"] = encode_rle(occluder)
    if samples is not None and sample_scores is not None:
        for annotation, drawn, numbers in zip(annotations, samples, sample_scores, strict=True):
            annotation["samples"] = [
                {"segmentation": encode_rle(sample), "score": round(float(number), 6)}
                for sample, number in zip(drawn, numbers, strict=True)
            ]
    return {
        "info": {"description": "amodal masks", **(info or {})},
        "images": [image_entry(1, file_name, height, width, [] if order is None else order_pairs(order))],
        "categories": categories.entries(),
        "annotations": annotations,
    }


def _check_samples(samples: Planes, scores: np.ndarray | None, shape: tuple[int, ...]) -> None:
    if samples.ndim != 4 or (samples.shape[0], *samples.shape[2:]) != shape:
        raise ValueError(f"`samples` must be a stack (N, K, H, W) for the modal masks {shape}, got {samples.shape}.")
    if scores is None or scores.shape != samples.shape[:2]:
        actual = None if scores is None else scores.shape
        raise ValueError(f"`sample_scores` must have shape {samples.shape[:2]}, got {actual}.")
