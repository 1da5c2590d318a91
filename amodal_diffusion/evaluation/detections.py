"""Results of an instance segmenter: reading them, matching them to the true objects by box, completing them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as mask_utils

from ..data import build_objects
from ..data.photos import open_photo
from ..files import read_json
from ..images import load_image
from ..io import group_results
from ..masks import BoolArray, IntArray, decode_segmentation, encode_rle, mask_boxes
from .methods import check_shape
from .samples import Detections, Method, Prediction, Sample


class DetectionResults:
    """Detections of many images, read from COCO's results format and decoded image by image.

    Args:
        records: image id, as a text, → results `{"segmentation", "score", "category_id"}`.
        name: of the file, for errors.

    Example:
        >>> import numpy as np
        >>> from amodal_diffusion.evaluation import Sample
        >>> amodal = np.zeros((2, 4, 6), bool)
        >>> amodal[0, :, :4], amodal[1, :2, 2:] = True, True
        >>> modal = amodal & ~np.stack([amodal[1], np.zeros((4, 6), bool)])  # object 1 hides a corner of object 0
        >>> sample = Sample("1", modal, amodal, np.array([[0, -1], [1, 0]], np.int8))
        >>> from amodal_diffusion.masks import encode_rle
        >>> record = {"segmentation": encode_rle(modal[0]), "score": 0.9, "category_id": 1}
        >>> results = DetectionResults({"1": [record]})  # `DetectionResults.read` reads them from a file
        >>> len(results), results.of(sample).scores.tolist()
        (1, [0.9])
    """

    def __init__(self, records: Mapping[str, Sequence[Mapping[str, Any]]], name: str = "results") -> None:
        self.records, self.name = records, name

    def __len__(self) -> int:
        return sum(len(group) for group in self.records.values())

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, min_score: float = 0.0) -> DetectionResults:
        """Read a JSON list of results, each with `image_id`, `segmentation` and `score`; `category_id` is 1 by default.

        Args:
            path: the file.
            min_score: leaves out what has a lower score.

        Raises:
            FileNotFoundError: no such file.
            ValueError: naming the file and the result that is no result.
        """
        content = read_json(path)
        if not isinstance(content, list):
            raise ValueError(f"{path} holds no COCO results: expected a list, got {type(content).__name__}.")
        groups = group_results(content, os.fspath(path), needed=("image_id", "segmentation", "score"))
        records = {
            image: [_with_category(result, os.fspath(path)) for result in group if result["score"] >= min_score]
            for image, group in groups.items()
        }
        return cls(records, os.fspath(path))

    def of(self, sample: Sample) -> Detections:
        """The detections of the image of a sample, see `find`."""
        height, width = sample.modal.shape[1:]
        return self.find(sample.image_id, height, width, lambda: sample.image)

    def find(self, image_id: str, height: int, width: int, photo: Callable[[], Image.Image | None]) -> Detections:
        """The detections of one image, the most confident first.

        Args:
            image_id: of the image.
            height: in pixels.
            width: in pixels.
            photo: gives the photo, for those that look at it; this class does not.

        Raises:
            ValueError: naming the file and the image of a segmentation that cannot be decoded to its size.
        """
        group = sorted(self.records.get(image_id, ()), key=lambda record: -record["score"])
        masks = np.zeros((len(group), height, width), bool)
        for index, record in enumerate(group):
            try:
                masks[index] = decode_segmentation(record["segmentation"], height, width)
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{self.name}: image {image_id}: segmentation: {error}") from error
        return Detections(
            masks,
            np.array([record["score"] for record in group], np.float64),
            np.array([record["category_id"] for record in group], np.int64),
        )


def _with_category(result: Mapping[str, Any], name: str) -> dict[str, Any]:
    try:
        category = 1 if result.get("category_id") is None else int(result["category_id"])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}: a result of image {result['image_id']} has a `category_id` that is no number."
        ) from error
    return {**result, "category_id": category}


def detected_rows(rows: Iterable[Mapping[str, Any]], results: DetectionResults) -> Iterator[dict[str, Any]]:
    """Rows with the objects that a segmenter found in the place of those that they have, for label conversion.

    Args:
        rows: of the schema; with their photos where `results` are computed.
        results: predicted visible masks. Category ids below 0 are unknown.

    Yields:
        The same rows. A name is that of the objects of its category id in the row, where they have one.

    Example:
        >>> from amodal_diffusion.masks import encode_rle
        >>> mask = encode_rle(np.ones((4, 6), bool))
        >>> row = {"image_id": "7", "height": 4, "width": 6, "objects": [{"category_id": 3, "name": "cup"}]}
        >>> results = DetectionResults({"7": [{"segmentation": mask, "score": 0.9, "category_id": 3}]})
        >>> (found,) = detected_rows([row], results)
        >>> found["objects"][0]["name"], found["objects"][0]["amodal_mask"]
        ('cup', None)
    """
    for row in rows:
        photo = row.get("image")
        found = results.find(
            str(row["image_id"]),
            row["height"],
            row["width"],
            lambda photo=photo: None if photo is None else load_image(open_photo(photo)),  # type: ignore[misc]
        )
        names = {item["category_id"]: item["name"] for item in row["objects"]}
        objects = []
        for number, (mask, category) in enumerate(zip(found.masks, found.category_ids.tolist(), strict=True)):
            known = category if category >= 0 else None
            objects.append({
                "id": number, "modal_mask": encode_rle(mask), "amodal_mask": None, "category_id": known,
                "name": names.get(known), "is_stuff": False, "is_crowd": False,
            })  # fmt: skip
        yield {**row, "objects": build_objects(objects), "order_relations": None}


def match_boxes(boxes: npt.ArrayLike, others: npt.ArrayLike, *, min_iou: float = 0.5) -> IntArray:
    """Match boxes one to one, the pair with the largest IoU first.

    Args:
        boxes: (N, 4) x, y, w, h.
        others: (M, 4) x, y, w, h; of pairs with equal IoU the first is matched first.
        min_iou: pairs below are no match.

    Returns:
        (N,) int64 rows of `others`, -1 for a box without match. A box without area has none.

    Example:
        >>> match_boxes([[0, 0, 10, 10], [50, 50, 4, 4]], [[20, 20, 5, 5], [0, 0, 10, 8]]).tolist()
        [1, -1]
    """
    first, second = (np.asarray(given, np.float64).reshape(-1, 4) for given in (boxes, others))
    matches = np.full(len(first), -1)
    if not len(first) or not len(second):
        return matches
    ious = np.asarray(mask_utils.iou(first, second, [0] * len(second))).reshape(len(first), len(second))
    rows, columns = np.nonzero((ious >= min_iou) & (ious > 0))
    taken = np.zeros(len(second), bool)
    for pair in np.lexsort((rows, columns, -ious[rows, columns])):
        row, column = rows[pair], columns[pair]
        if matches[row] < 0 and not taken[column]:
            matches[row], taken[column] = column, True
    return matches


class DetectedMethod:
    """A method that is given predicted modal masks in place of the true ones.

    With `match` ([Z20], Table 3) each object takes the prediction that `match_boxes` finds for its modal box, of any
    class; these are the modal masks of the call, without the others. Objects without one are not `matched`. Without it
    all predictions are completed, and there are detections alone, for AP with their scores. Orders are left out.

    Args:
        method: completes masks.
        results: the predicted modal masks.
        match: see above.
        min_iou: of a match.

    Example:
        >>> import numpy as np
        >>> from amodal_diffusion.evaluation import Sample
        >>> amodal = np.zeros((2, 4, 6), bool)
        >>> amodal[0, :, :4], amodal[1, :2, 2:] = True, True
        >>> modal = amodal & ~np.stack([amodal[1], np.zeros((4, 6), bool)])  # object 1 hides a corner of object 0
        >>> sample = Sample("1", modal, amodal, np.array([[0, -1], [1, 0]], np.int8))
        >>> from amodal_diffusion.evaluation import METHODS
        >>> from amodal_diffusion.masks import encode_rle
        >>> record = {"segmentation": encode_rle(modal[0]), "score": 0.9, "category_id": 1}
        >>> method = DetectedMethod(METHODS["convex"], DetectionResults({"1": [record]}))
        >>> method(sample).matched.tolist()  # nothing was detected where object 1 is
        [True, False]
    """

    def __init__(self, method: Method, results: DetectionResults, *, match: bool = True, min_iou: float = 0.5) -> None:
        self.method, self.results, self.match, self.min_iou = method, results, match, min_iou
        self.name = method.name

    @property
    def uses_truth(self) -> bool:
        """As the method says."""
        return bool(getattr(self.method, "uses_truth", False))

    def __call__(self, sample: Sample) -> Prediction:
        """Masks of the matched objects, empty for the others; and the detections.

        Raises:
            ValueError: the method predicts no masks.
        """
        found = self.results.of(sample)
        if not self.match:
            masks = self._complete(sample, found)
            return Prediction(detections=Detections(masks, found.scores, found.category_ids))
        matches = match_boxes(mask_boxes(sample.modal), mask_boxes(found.masks), min_iou=self.min_iou)
        matched = matches >= 0
        chosen = matches[matched]
        some = Detections(found.masks[chosen], found.scores[chosen], found.category_ids[chosen])
        masks = np.zeros_like(sample.modal)
        masks[matched] = self._complete(sample, some)
        return Prediction(
            masks=masks, matched=matched, detections=Detections(masks[matched], some.scores, some.category_ids)
        )

    def _complete(self, sample: Sample, found: Detections) -> BoolArray:
        """(M, H, W) whole masks of predicted objects, of which the method is told no truth."""
        count = len(found.masks)
        if not count:
            return found.masks
        known = any(category is not None for category in sample.category_ids)
        ids = [int(category) if known and category >= 0 else None for category in found.category_ids]
        seen = replace(
            sample,
            modal=found.masks,
            amodal=found.masks,
            order=np.zeros((count, count), np.int8),
            category_ids=ids,
        )
        masks = self.method(seen).masks
        if masks is None:
            raise ValueError(f"method {self.name!r} completes no masks, which predicted modal masks are for.")
        check_shape(self.name, sample, "masks", masks.shape, found.masks.shape)
        return masks


class ResultsMethod:
    """Amodal masks of an instance segmenter, read from a file: for AP ([Z20] Table 4, [N21] Table 2).

    Args:
        name: the row of the table.
        results: the predicted amodal masks.

    Example:
        >>> import numpy as np
        >>> from amodal_diffusion.evaluation import Sample
        >>> amodal = np.zeros((2, 4, 6), bool)
        >>> amodal[0, :, :4], amodal[1, :2, 2:] = True, True
        >>> modal = amodal & ~np.stack([amodal[1], np.zeros((4, 6), bool)])  # object 1 hides a corner of object 0
        >>> sample = Sample("1", modal, amodal, np.array([[0, -1], [1, 0]], np.int8))
        >>> from amodal_diffusion.masks import encode_rle
        >>> record = {"segmentation": encode_rle(amodal[0]), "score": 0.9, "category_id": 1}
        >>> prediction = ResultsMethod("segmenter", DetectionResults({"1": [record]}))(sample)
        >>> prediction.detections.masks.shape
        (1, 4, 6)
    """

    def __init__(self, name: str, results: DetectionResults) -> None:
        self.name, self.results = name, results

    def __call__(self, sample: Sample) -> Prediction:
        """The detections of the image; nothing is said of single objects."""
        return Prediction(detections=self.results.of(sample))
