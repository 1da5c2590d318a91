"""Compare completion and order methods on images with amodal ground truth.

A method is an object with a `name` that maps a `Sample` to a `Prediction`. The baselines are registered in `METHODS`;
any pipeline that `AmodalPipeline` loads becomes one through `PipelineMethod`. A method may predict masks, an order
matrix and occluders: `evaluate_methods` scores what it gives and leaves the rest out of the tables. With
`occluders_given=False` every object is completed alone, as a user with a photo and one mask has it. A method that looks
at the truth (`uses_truth`) gets a " *" behind its name wherever its figures are, and a footnote in the tables.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .data import record_masks, record_order
from .evaluation_methods import (
    METHODS,
    NEAREST_MASK,
    MaskBaseline,
    Method,
    PipelineMethod,
    PosteriorDraws,
    PosteriorMethod,
    Prediction,
    Sample,
    TrueBoxMethod,
    call_pipeline,
    check_call_options,
    load_methods,
    load_pipeline,
    posterior_methods,
)
from .evaluation_report import TRUTH_MARK, EvaluationReport, OrderSource, format_markdown, format_table, write_report
from .metrics import AmodalAP, CompletionMetrics, OccluderMetrics, OrderMetrics
from .ordering import order_from_masks

__all__ = [
    "METHODS", "NEAREST_MASK", "ORDER_BASELINES", "ORDER_SOURCES", "EvaluationReport", "MaskBaseline", "Method",
    "OrderSource", "PipelineMethod", "PosteriorDraws", "PosteriorMethod", "Prediction", "Sample", "TrueBoxMethod",
    "call_pipeline", "check_call_options", "evaluate_methods", "format_markdown", "format_table", "load_methods",
    "load_pipeline", "make_sample", "posterior_methods", "write_report",
]  # fmt: skip

ORDER_BASELINES = ("area-smaller", "y-axis", "hull")
ORDER_SOURCES = ("masks", "annotated")


def evaluate_methods(
    dataset: Iterable[Mapping[str, Any]],
    methods: Sequence[Method],
    *,
    order_methods: Sequence[Method | str] = ORDER_BASELINES,
    order_source: OrderSource = "masks",
    occluders_given: bool = True,
    limit: int | None = None,
    on_sample: Callable[[Sample], None] | None = None,
) -> EvaluationReport:
    """Score methods on the images of a data set that have amodal ground truth.

    Metrics are those of `amodal_diffusion.metrics`: pooled and mean mIoU, the same outside the modal masks ("inv"),
    pixel accuracy, amodal AP, and order accuracy over related and over all pairs [Z20]. Means are over objects with a
    hidden part. Predicted occluders are compared with the modal masks of all that lies directly in front [Z24].

    Args:
        dataset: rows of `amodal_diffusion.data.amodal_features`, streamed or not.
        methods: rows of the table, e.g. from `load_methods`.
        order_methods: order baselines to add to the order table; names in `METHODS` or methods.
        order_source: "masks" computes the true order from modal and amodal masks; "annotated" takes the data set's
            relations (COCOA's `depth_constraint`).
        occluders_given: False has every object completed alone, as a user with a photo and one mask has it: no other
            mask, order or occluder reaches a method. There is no order to score then; `order_methods` are left out.
        limit: number of images to read at most; None reads all.
        on_sample: called with each sample before it is scored, e.g. to show progress.

    Raises:
        ValueError: for a repeated method name, an unknown order source, a limit below 1, a data set in which no image
            has amodal masks, an image without annotated order where that is the source, a prediction of the wrong
            shape, or, without occluders, a method that predicts no masks.
    """
    if order_source not in ORDER_SOURCES:
        raise ValueError(f"`order_source` must be one of {', '.join(ORDER_SOURCES)}, got {order_source!r}.")
    if limit is not None and limit < 1:
        raise ValueError(f"`limit` must be at least 1, got {limit}.")
    scored = _distinct(methods, order_methods if occluders_given else ())
    scores = [_Score(method, occluders_given) for method in scored]
    counts = dict.fromkeys(("images", "objects", "occluded", "covered", "related", "skipped"), 0)
    for index, row in enumerate(dataset):
        if limit is not None and index >= limit:
            break
        sample = make_sample(row, order_source=order_source)
        if sample is None:
            counts["skipped"] += 1
            continue
        if on_sample is not None:
            on_sample(sample)
        counts["images"] += 1
        counts["objects"] += len(sample.modal)
        counts["occluded"] += int((sample.amodal & ~sample.modal).any(axis=(1, 2)).sum())
        counts["covered"] += int(sample.occluders.any(axis=(1, 2)).sum())
        counts["related"] += int((sample.order == 1).sum())
        for score in scores:
            score.update(sample)
    if not counts["images"]:
        raise ValueError(f"`dataset` has no image with amodal masks ({counts['skipped']} images without).")
    return EvaluationReport(
        completion={s.name: s.completion.compute() | s.precision.compute() for s in scores if s.completes},
        order={s.name: s.order.compute() for s in scores if s.orders},
        seconds={s.name: s.seconds for s in scores},
        counts=counts,
        order_source=order_source,
        occluders={s.name: s.occluders.compute() for s in scores if s.hides},
        occluders_given=occluders_given,
        uses_truth=[s.name for s in scores if s.uses_truth],
    )


def make_sample(row: Mapping[str, Any], *, order_source: OrderSource = "masks") -> Sample | None:
    """Decode a row of `amodal_features` into a `Sample`; None where it has no object or no amodal masks.

    Raises:
        ValueError: where `order_source` is "annotated" and the row has no relations.
    """
    modal, amodal = record_masks(row)
    if amodal is None or not len(modal):
        return None
    image_id = str(row["image_id"])
    order = order_from_masks(modal, amodal) if order_source == "masks" else record_order(row)
    if order is None:
        raise ValueError(f"image {image_id} has no annotated order; use the order source 'masks'.")
    categories = [0 if item["category_id"] is None else int(item["category_id"]) for item in row["objects"]]
    return Sample(image_id, modal, amodal, order, categories, photo=row.get("image"))


class _Score:
    """Accumulates one method's metrics and time."""

    def __init__(self, method: Method, occluders_given: bool) -> None:
        self.method, self.occluders_given = method, occluders_given
        self.uses_truth = bool(getattr(method, "uses_truth", False))
        self.name = method.name + TRUTH_MARK if self.uses_truth else method.name
        self.completion, self.precision = CompletionMetrics(), AmodalAP()
        self.order, self.occluders = OrderMetrics(), OccluderMetrics()
        self.completes = self.orders = self.hides = False
        self.seconds = 0.0

    def update(self, sample: Sample) -> None:
        """Predict for the sample and count."""
        start = time.perf_counter()
        prediction = self.method(sample) if self.occluders_given else self._predict_alone(sample)
        self.seconds += time.perf_counter() - start
        if prediction.masks is not None:
            self._check(sample, "masks", prediction.masks.shape, sample.modal.shape)
            self.completion.update(prediction.masks, sample.amodal, sample.modal)
            self.precision.update(prediction.masks, sample.amodal)
            self.completes = True
        if prediction.order is not None:
            self._check(sample, "order", prediction.order.shape, sample.order.shape)
            self.order.update(prediction.order, sample.order)
            self.orders = True
        if prediction.occluders is not None:
            self._check(sample, "occluders", prediction.occluders.shape, sample.modal.shape)
            self.occluders.update(prediction.occluders, sample.occluders, sample.modal)
            self.hides = True

    def _predict_alone(self, sample: Sample) -> Prediction:
        if hasattr(self.method, "predict_alone"):
            prediction: Prediction = self.method.predict_alone(sample)
        else:
            parts = [self.method(part) for part in sample.alone()]
            prediction = Prediction(
                masks=self._join(sample, "masks", [part.masks for part in parts]),
                occluders=self._join(sample, "occluders", [part.occluders for part in parts]),
            )
        if prediction.masks is None:
            raise ValueError(f"method {self.method.name!r} predicts no masks; without occluders there is nothing else.")
        return prediction

    def _join(self, sample: Sample, what: str, parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
        given = [part for part in parts if part is not None]
        if len(given) < len(parts):
            return None
        for part in given:
            self._check(sample, what, part.shape, (1, *sample.modal.shape[1:]))
        return np.concatenate(given)

    def _check(self, sample: Sample, what: str, actual: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if actual != expected:
            raise ValueError(
                f"method {self.method.name!r} gave {what} of shape {actual} for image {sample.image_id}, "
                f"expected {expected}."
            )


def _distinct(methods: Sequence[Method], order_methods: Sequence[Method | str]) -> list[Method]:
    """The order baselines that are not among the methods already, then the methods."""
    names = [method.name for method in methods]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"`methods` holds {repeated[0]!r} twice.")
    unknown = [name for name in order_methods if isinstance(name, str) and name not in METHODS]
    if unknown:
        raise ValueError(f"`order_methods` holds {unknown[0]!r}, known names are {', '.join(METHODS)}.")
    extra = [METHODS[item] if isinstance(item, str) else item for item in order_methods]
    return [method for method in extra if method.name not in names] + list(methods)
