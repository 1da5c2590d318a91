"""What an evaluation keeps of each image: counts of pixels, pairs and matches, from which every figure is computed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..display import short_repr
from ..metrics import ImageMatches, OccluderMetrics, OrderMetrics, match_detections, object_counts
from ..metrics.functional import LARGE_OVERLAP
from .methods import check_shape
from .samples import Detections, Method, Prediction, Sample


@dataclass(frozen=True)
class MethodScores:
    """What was counted of one method on one image; None for what it did not predict.

    Args:
        seconds: time of the call.
        objects: (N, 6) int64 `object_counts` of the predicted masks.
        matched: (N,) bool, see `Prediction`.
        matches: of the detections, by class.
        order: (6,) terms of `OrderMetrics`.
        occluders: (11,) terms of `OccluderMetrics`.
        widths: (N,) see `Prediction`.

    Example:
        >>> scores = MethodScores(seconds=0.1)
        >>> scores.objects is None  # the method predicted no masks
        True
    """

    seconds: float
    objects: np.ndarray | None = None
    matched: np.ndarray | None = None
    matches: list[ImageMatches] | None = None
    order: np.ndarray | None = None
    occluders: np.ndarray | None = None
    widths: np.ndarray | None = None

    __repr__ = short_repr


@dataclass(frozen=True)
class ImageScores:
    """What was counted on one image.

    Args:
        index: place of the image in the data set.
        source: short name of the data set.
        frame: pixels of the image.
        counts: images, objects, occluded, covered, related, large, skipped.
        methods: one record a method; none for an image that was skipped.
        names: what its objects are.

    Example:
        >>> scores = ImageScores(index=3, frame=640 * 480, counts={"images": 1, "objects": 2})
        >>> scores.counts["objects"], scores.methods
        (2, [])
    """

    index: int
    source: str = ""
    frame: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    methods: list[MethodScores] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    __repr__ = short_repr


COUNTS = ("images", "objects", "occluded", "covered", "related", "large", "skipped")


def score_sample(index: int, sample: Sample, methods: Sequence[Method], *, class_aware: bool) -> ImageScores:
    """Predict with every method and count; arguments and errors of `evaluate_methods`.

    Example:
        >>> import numpy as np
        >>> from amodal_diffusion.evaluation import Sample
        >>> amodal = np.zeros((2, 4, 6), bool)
        >>> amodal[0, :, :4], amodal[1, :2, 2:] = True, True
        >>> modal = amodal & ~np.stack([amodal[1], np.zeros((4, 6), bool)])  # object 1 hides a corner of object 0
        >>> sample = Sample("1", modal, amodal, np.array([[0, -1], [1, 0]], np.int8))
        >>> from amodal_diffusion.evaluation import METHODS
        >>> scores = score_sample(0, sample, [METHODS["raw"], METHODS["convex"]], class_aware=False)
        >>> scores.counts["objects"], scores.counts["occluded"], len(scores.methods)
        (2, 1, 2)
    """
    counts = {
        "images": 1,
        "objects": len(sample.modal),
        "occluded": int((sample.amodal & ~sample.modal).any(axis=(1, 2)).sum()),
        "covered": int(sample.occluders.any(axis=(1, 2)).sum()),
        "related": int((sample.order == 1).sum()),
        "large": int(((sample.order == 1) & (np.maximum(sample.overlaps, sample.overlaps.T) >= LARGE_OVERLAP)).sum()),
        "skipped": 0,
    }
    records = [_score(sample, method, class_aware) for method in methods]
    names = sample.names or [""] * len(sample.modal)
    return ImageScores(index, sample.source, sample.modal[0].size, counts, records, names)


def skipped_image(index: int) -> ImageScores:
    """The record of an image without objects or amodal masks.

    Example:
        >>> skipped_image(7).counts["skipped"]
        1
    """
    return ImageScores(index, counts={**dict.fromkeys(COUNTS, 0), "skipped": 1})


def _score(sample: Sample, method: Method, class_aware: bool) -> MethodScores:
    start = time.perf_counter()
    prediction: Any = method(sample)  # of a class of the user's, perhaps
    seconds = time.perf_counter() - start
    if not isinstance(prediction, Prediction):
        kind = type(prediction).__name__
        raise TypeError(f"method {method.name!r} gave {kind} for image {sample.image_id}, expected a `Prediction`.")
    for what, given, expected in (
        ("masks", prediction.masks, sample.modal.shape),
        ("order", prediction.order, sample.order.shape),
        ("occluders", prediction.occluders, sample.modal.shape),
        ("matched", prediction.matched, sample.modal.shape[:1]),
        ("widths", prediction.widths, sample.modal.shape[:1]),
    ):
        if given is not None:
            check_shape(method.name, sample, what, np.shape(given), expected)
    masks, order, occluders = prediction.masks, prediction.order, prediction.occluders
    return MethodScores(
        seconds,
        objects=None if masks is None else object_counts(masks, sample.amodal, sample.modal),
        matched=prediction.matched,
        matches=_matches(sample, prediction, class_aware),
        order=None if order is None else OrderMetrics.count(order, sample.order, sample.overlaps),
        occluders=None if occluders is None else OccluderMetrics.count(occluders, sample.occluders, sample.modal),
        widths=prediction.widths,
    )


def _matches(sample: Sample, prediction: Prediction, class_aware: bool) -> list[ImageMatches] | None:
    found = prediction.detections
    if found is None:
        if prediction.masks is None:
            return None
        found = Detections(prediction.masks, np.ones(len(sample.modal)), np.array(_class_ids(sample), np.int64))
    if not class_aware:
        return match_detections(found.masks, sample.amodal, found.scores)
    return match_detections(
        found.masks,
        sample.amodal,
        found.scores,
        pred_categories=found.category_ids.tolist(),
        target_categories=_class_ids(sample),
    )


def _class_ids(sample: Sample) -> list[int]:
    """With -1, which is no class's, for all objects without one."""
    return [-1 if category is None else category for category in sample.category_ids]
