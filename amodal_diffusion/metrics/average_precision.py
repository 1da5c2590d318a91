"""COCO's average precision on amodal masks, by pycocotools, and its intervals over resampled images."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..display import short_repr
from ..masks import BoolArray, MaskInput, encode_rle, to_mask_stack
from .bootstrap import FloatArray, Interval, check_bootstrap, percentile_intervals, resample_weights
from .functional import ratios

# Positions of the metrics in COCOeval.stats.
_STATS = {
    "ap": 0, "ap50": 1, "ap75": 2, "ap_small": 3, "ap_medium": 4, "ap_large": 5, "ar1": 6, "ar10": 7, "ar": 8,
    "ar_small": 9, "ar_medium": 10, "ar_large": 11,
}  # fmt: skip
_SIZES = ("all", "small", "medium", "large")
_MOST = 100  # detections of a class in an image
_FEWER = {"ar1": 1, "ar10": 10}
_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ImageMatches:
    """How the detections of one class in one image match its objects, by pycocotools: all that AP is made of.

    Args:
        category: id of the class; 1 for all where classes are not told apart.
        scores: (D,) confidences, the highest first; 100 at most.
        matched: (4, 10, D) bool, by size of object (all, small, medium, large) and IoU threshold (0.50 to 0.95).
        ignored: (4, 10, D) bool, detections that count neither way.
        objects: (4,) int64, the objects of each size.

    Example:
        >>> mask = np.ones((1, 4, 4), dtype=bool)
        >>> (matches,) = match_detections(mask, mask)
        >>> matches.matched.shape, matches.objects
        ((4, 10, 1), array([1, 1, 0, 0]))
    """

    category: int
    scores: FloatArray
    matched: BoolArray
    ignored: BoolArray
    objects: npt.NDArray[np.int64]

    __repr__ = short_repr


def match_detections(
    pred: MaskInput,
    target: MaskInput,
    scores: npt.ArrayLike | None = None,
    *,
    pred_categories: Sequence[int] | None = None,
    target_categories: Sequence[int] | None = None,
) -> list[ImageMatches]:
    """Match the detections of one image with its objects.

    Args:
        pred: (M, H, W) predicted amodal masks; empty ones are no detections.
        target: (N, H, W) true amodal masks; empty ones are left out.
        scores: (M,) confidences by which detections are ranked; None ranks all alike.
        pred_categories: M class ids; None for one class.
        target_categories: N class ids; None for one class.

    Returns:
        One entry a class that has a detection or an object, in the order of the ids.

    Raises:
        ValueError: frames of another size, scores that are not one finite number a mask, or classes that are not one a
            mask or given for one side alone.

    Example:
        >>> masks = np.zeros((2, 8, 8), dtype=bool)
        >>> masks[0, :4], masks[1, 4:] = True, True
        >>> (matches,) = match_detections(masks[:1], masks, scores=[0.9])
        >>> matches.matched[0, 0], matches.objects[0]  # of any size, at an IoU of 0.5
        (array([ True]), np.int64(2))
    """
    found, truth = to_mask_stack(pred, allow_faint=True), to_mask_stack(target, allow_faint=True)
    if found.shape[1:] != truth.shape[1:]:
        raise ValueError(f"`pred` and `target` must have the same frame, got {found.shape[1:]} and {truth.shape[1:]}")
    ranks = np.ones(len(found)) if scores is None else np.asarray(scores, dtype=np.float64)
    if ranks.shape != (len(found),) or not np.isfinite(ranks).all():
        raise ValueError(f"`scores` must be {len(found)} finite numbers, got shape {ranks.shape}")
    if (pred_categories is None) != (target_categories is None):
        raise ValueError("`pred_categories` and `target_categories` need each other")
    classes = [_classes("pred", pred_categories, found), _classes("target", target_categories, truth)]
    size = {"height": truth.shape[1], "width": truth.shape[2]}
    detections: list[dict[str, Any]] = [
        {"image_id": 1, "category_id": kind, "segmentation": dict(encode_rle(mask)), "score": float(score)}
        for mask, score, kind in zip(found, ranks, classes[0], strict=True)
        if mask.any()
    ]
    objects: list[dict[str, Any]] = [
        {"category_id": kind, "segmentation": dict(encode_rle(mask)), "area": int(mask.sum())}
        for mask, kind in zip(truth, classes[1], strict=True)
        if mask.any()
    ]
    kinds = sorted({int(record["category_id"]) for record in (*detections, *objects)})
    evaluation = _evaluate_image(detections, objects, kinds, size)
    # [class, size of object]; None where the class is not there
    results = np.array(evaluation.evalImgs, object).reshape(len(kinds), len(_SIZES))
    return [_matches(kind, row) for kind, row in zip(kinds, results, strict=True)]


def _classes(name: str, given: Sequence[int] | None, masks: BoolArray) -> list[int]:
    kinds = [1] * len(masks) if given is None else [int(kind) for kind in given]
    if len(kinds) != len(masks):
        raise ValueError(f"`{name}_categories` must have one id for each of {len(masks)} masks, got {len(kinds)}")
    return kinds


def _evaluate_image(
    detections: list[dict[str, Any]], objects: list[dict[str, Any]], kinds: Sequence[int], size: dict[str, int]
) -> Any:
    # Not at import: pycocotools.coco draws in matplotlib where it is installed, which takes a second to load.
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    described = [{**record, "id": i + 1, "image_id": 1, "iscrowd": 0} for i, record in enumerate(objects)]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress there
        reference = COCO()
        reference.dataset = {
            "info": {},
            "images": [{"id": 1, **size}],
            "annotations": described,
            "categories": [{"id": kind} for kind in kinds],
        }
        reference.createIndex()
        found = reference.loadRes(detections) if detections else COCO()
        evaluation = COCOeval(reference, found, "segm")
        # Without detections the one side has no index; the ids are those of the other.
        evaluation.params.imgIds, evaluation.params.catIds = [1], list(kinds)
        if not detections:
            found.dataset = {"images": [], "annotations": [], "categories": []}
            found.createIndex()
        evaluation.evaluate()
    return evaluation


def _matches(kind: int, results: npt.NDArray[Any]) -> ImageMatches:
    return ImageMatches(
        category=kind,
        scores=np.array(results[0]["dtScores"], np.float64),
        matched=np.stack([np.asarray(result["dtMatches"]) > 0 for result in results]),
        ignored=np.stack([np.asarray(result["dtIgnore"], bool) for result in results]),
        objects=np.array([int((np.asarray(result["gtIgnore"]) == 0).sum()) for result in results]),
    )


class AmodalAP:
    """AP and AR over a data set: update image by image, compute at the end.

    `compute` gives fractions in [0, 1]: `ap` (mean over IoU 0.50 to 0.95), `ap50`, `ap75`, `ap_small`, `ap_medium`,
    `ap_large` (below 32², up to 96², above, by the area of the true amodal mask), `ar1`, `ar10`, `ar` (1, 10 and 100
    masks an image) and `ar_small`, `ar_medium`, `ar_large`. NaN where there is no object of that size. With classes
    they are means over the classes that have objects, as COCO defines them.

    Example:
        >>> masks = np.zeros((2, 8, 8), dtype=bool)
        >>> masks[0, :4], masks[1, 4:] = True, True
        >>> metric = AmodalAP()
        >>> metric.update(masks[:1], masks, [0.9])
        >>> round(metric.compute()["ar"], 3)
        0.5
    """

    def __init__(self) -> None:
        self._images: list[list[ImageMatches]] = []

    def update(
        self,
        pred: MaskInput,
        target: MaskInput,
        scores: npt.ArrayLike | None = None,
        *,
        pred_categories: Sequence[int] | None = None,
        target_categories: Sequence[int] | None = None,
    ) -> None:
        """Take one image; arguments and errors of `match_detections`."""
        self.add(
            match_detections(pred, target, scores, pred_categories=pred_categories, target_categories=target_categories)
        )

    def add(self, matches: list[ImageMatches]) -> None:
        """Take one image, from `match_detections`."""
        self._images.append(matches)

    def merge(self, other: Self) -> Self:
        """Add the images of `other`; `other` stays as it is. Raises TypeError for another class."""
        if type(other) is not type(self):
            raise TypeError(f"`other` must be {type(self).__name__}, got {type(other).__name__}")
        self._images.extend(other._images)
        return self

    def reset(self) -> None:
        """Forget all images."""
        self._images = []

    def compute(self) -> dict[str, float]:
        """The metrics by name, put together by pycocotools; all NaN where no image has an object."""
        from pycocotools.cocoeval import COCOeval

        kinds = self._categories()
        if not any(entry.objects[0] for image in self._images for entry in image):
            return dict.fromkeys(_STATS, float("nan"))
        by_kind = [{entry.category: entry for entry in image} for image in self._images]
        evaluation = COCOeval(iouType="segm")
        evaluation.params.imgIds, evaluation.params.catIds = list(range(len(by_kind))), kinds
        evaluation.evalImgs = [
            _as_result(image.get(kind), size) for kind in kinds for size in range(len(_SIZES)) for image in by_kind
        ]
        evaluation._paramsEval = evaluation.params
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate()
            evaluation.summarize()
        stats = {name: float(evaluation.stats[index]) for name, index in _STATS.items()}
        return {name: value if value >= 0 else float("nan") for name, value in stats.items()}

    def intervals(self, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0) -> dict[str, Interval]:
        """Percentile intervals over resampled images, see `bootstrap_intervals`.

        A resample repeats and leaves out images as they were matched; the curves are counted anew with the images'
        weights. Where scores tie, as with completed masks that have none, the order among them is that of the images.

        Raises:
            ValueError: as `bootstrap_intervals`.
        """
        check_bootstrap(resamples, confidence, seed)
        return percentile_intervals(self.resampled(resamples=resamples, seed=seed), confidence)

    def resampled(self, *, resamples: int = 1000, seed: int = 0) -> dict[str, FloatArray]:
        """Metric → (R,) values in the resamples of `intervals`; (1,) NaN for fewer than two images."""
        if len(self._images) < 2:
            return {name: np.full(1, np.nan) for name in _STATS}
        ranked = [_Ranking.of(self._images, kind) for kind in self._categories()]
        values = np.array(
            [
                _resampled(ranked, row)
                for weights in resample_weights(len(self._images), resamples, seed=seed)
                for row in weights
            ]
        )
        return {name: values[:, index] for name, index in _STATS.items()}

    def _categories(self) -> list[int]:
        return sorted({entry.category for image in self._images for entry in image})


def _as_result(entry: ImageMatches | None, size: int) -> dict[str, Any] | None:
    """What `COCOeval.accumulate` reads of an image."""
    if entry is None:
        return None
    return {
        "dtScores": entry.scores,
        "dtMatches": entry.matched[size],
        "dtIgnore": entry.ignored[size],
        "gtIgnore": np.zeros(entry.objects[size]),
    }


@dataclass(frozen=True)
class _Ranking:
    """The detections of one class in all images, the most confident first."""

    images: npt.NDArray[np.int64]  # [D]
    places: npt.NDArray[np.int64]  # [D], place of a detection in its image
    right: BoolArray  # [4, 10, D]
    wrong: BoolArray  # [4, 10, D]
    objects: npt.NDArray[np.int64]  # [4, I]

    @classmethod
    def of(cls, images: Sequence[Sequence[ImageMatches]], kind: int) -> _Ranking:
        entries = [(index, entry) for index, image in enumerate(images) for entry in image if entry.category == kind]
        objects = np.zeros((len(_SIZES), len(images)), np.int64)
        for index, entry in entries:
            objects[:, index] = entry.objects
        scores = np.concatenate([entry.scores for _, entry in entries])
        ranking = np.argsort(-scores, kind="stable")
        matched, ignored = (
            np.concatenate([getattr(entry, name) for _, entry in entries], axis=2)[:, :, ranking]
            for name in ("matched", "ignored")
        )
        counts = [len(entry.scores) for _, entry in entries]
        places = np.concatenate([np.arange(count) for count in counts])
        owners = np.repeat([index for index, _ in entries], counts)
        return cls(owners[ranking], places[ranking], matched & ~ignored, ~matched & ~ignored, objects)


def _resampled(rankings: Sequence[_Ranking], weights: npt.NDArray[np.int64]) -> FloatArray:
    """The twelve metrics, in COCO's order, of images with these weights (I,)."""
    sizes = len(_SIZES)
    precision = np.full((len(rankings), sizes, len(_THRESHOLDS), len(_RECALLS)), np.nan)
    recall = np.full((len(rankings), sizes + len(_FEWER), len(_THRESHOLDS)), np.nan)
    for row, ranking in enumerate(rankings):
        repeats = weights[ranking.images].astype(np.int32)  # [D], half the memory to go through
        objects = ranking.objects @ weights  # [4]
        for size in np.flatnonzero(objects):
            right = np.cumsum(repeats * ranking.right[size], axis=1, dtype=np.int32)  # [10, D]
            wrong = np.cumsum(repeats * ranking.wrong[size], axis=1, dtype=np.int32)
            precision[row, size] = _interpolated(right, wrong, objects[size])
            recall[row, size] = right[:, -1] / objects[size] if right.shape[1] else 0
        if objects[0]:
            for column, most in enumerate(_FEWER.values(), start=sizes):
                kept = repeats * (ranking.places < most)
                recall[row, column] = (kept * ranking.right[0]).sum(axis=1) / objects[0]
    at50, at75 = precision[:, 0, 0], precision[:, 0, 5]
    parts = [precision[:, 0], at50, at75, *(precision[:, size] for size in range(1, sizes))]
    parts += [recall[:, sizes], recall[:, sizes + 1], *(recall[:, size] for size in range(sizes))]
    return np.array([_mean(part) for part in parts])


def _interpolated(right: npt.NDArray[Any], wrong: npt.NDArray[Any], objects: int) -> FloatArray:
    """(10, 101) precision at the recalls of COCO: the best at that recall or a higher one, 0 beyond the last."""
    precision = right / np.maximum(right + wrong, 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([precision, np.zeros((len(precision), 1))], axis=1)
    recall = right / objects
    return np.stack([row[np.searchsorted(at, _RECALLS)] for row, at in zip(padded, recall, strict=True)])


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(ratios(known.sum(), np.array(known.size)))
