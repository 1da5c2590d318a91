"""Compare completion and order methods on images with amodal ground truth.

A method is an object with a `name` that maps a `Sample` to a `Prediction`. The baselines are registered in `METHODS`;
any pipeline that `AmodalPipeline` loads becomes one through `PipelineMethod`. A method may predict masks, an order
matrix or both: `evaluate_methods` scores what it gives and leaves the rest out of the table.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image

from .baselines import complete_convex, complete_convex_refined, complete_raw
from .data import record_masks, record_order
from .image_processor import load_image
from .metrics import AmodalAP, CompletionMetrics, OrderMetrics
from .ordering import order_by_area, order_by_hull, order_by_y_axis, order_from_masks
from .pipelines import AmodalPipeline, AmodalPipelineOutput, MaskPipeline

logger = logging.getLogger(__name__)

OrderSource = Literal["masks", "annotated"]
ORDER_BASELINES = ("area-smaller", "y-axis", "hull")
ORDER_SOURCES = ("masks", "annotated")

_COMPLETION_COLUMNS = {
    "miou_pooled": "mIoU pooled",
    "inv_miou_pooled": "inv-mIoU pooled",
    "miou_mean": "mIoU mean",
    "inv_miou_mean": "inv-mIoU mean",
    "pixel_accuracy": "pixel acc.",
}
_AP_COLUMNS = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP S",
    "ap_medium": "AP M",
    "ap_large": "AP L",
    "ar": "AR",
}
_ORDER_COLUMNS = {"order_accuracy": "related pairs", "order_accuracy_all": "all pairs"}


@dataclass
class Sample:
    """One image of a data set, with its ground truth.

    Args:
        image_id: name of the image in errors and reports.
        modal: (N, H, W) bool visible masks.
        amodal: (N, H, W) bool whole masks, the target of completion.
        order: (N, N) int8, `order[i, j] = 1` where i occludes j; the target of the order.
        category_ids: N ids of the data set, 1 where it has none.
        photo: the photo or its path; None where the data set has none. Read when `image` is first asked for.
    """

    image_id: str
    modal: np.ndarray
    amodal: np.ndarray
    order: np.ndarray
    category_ids: list[int] = field(default_factory=list)
    photo: Image.Image | str | os.PathLike[str] | None = None

    @property
    def image(self) -> Image.Image | None:
        """The photo as RGB, or None. Raises ValueError for a photo that cannot be read or has another size."""
        if self.photo is None:
            return None
        image = load_image(self.photo)
        height, width = self.modal.shape[1:]
        if image.size != (width, height):
            actual = f"{image.size[0]}x{image.size[1]}"
            raise ValueError(f"photo of image {self.image_id} is {actual} pixels, its masks are {width}x{height}.")
        self.photo = image
        return image


@dataclass(frozen=True)
class Prediction:
    """What a method says about a sample, None where it has no answer.

    Args:
        masks: (N, H, W) bool whole masks.
        order: (N, N) int8 order matrix.
    """

    masks: np.ndarray | None = None
    order: np.ndarray | None = None


class Method(Protocol):
    """Anything with a `name` that predicts masks, an order or both for a sample."""

    @property
    def name(self) -> str:
        """The row of the table."""
        ...

    def __call__(self, sample: Sample) -> Prediction:
        """Predict for one image; must not look at `sample.amodal` or `sample.order`."""
        ...


@dataclass(frozen=True)
class MaskBaseline:
    """A method made of functions of the (N, H, W) bool modal masks alone."""

    name: str
    complete: Callable[[np.ndarray], np.ndarray] | None = None
    order: Callable[[np.ndarray], np.ndarray] | None = None

    def __call__(self, sample: Sample) -> Prediction:
        """Apply the functions to the modal masks."""
        return Prediction(
            masks=None if self.complete is None else self.complete(sample.modal),
            order=None if self.order is None else self.order(sample.modal),
        )


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        MaskBaseline("raw", complete=complete_raw),
        MaskBaseline("convex", complete=complete_convex),
        MaskBaseline("convex-refined", complete=complete_convex_refined),
        MaskBaseline("area-smaller", order=lambda masks: order_by_area(masks, front="smaller")),
        MaskBaseline("area-larger", order=lambda masks: order_by_area(masks, front="larger")),
        MaskBaseline("y-axis", order=order_by_y_axis),
        MaskBaseline("hull", order=order_by_hull),
    )
}
"""Registered baselines by name [Z20]: completions (raw, convex, convex-refined) and orders (area-smaller, ...)."""


class PipelineMethod:
    """A method that calls a mask pipeline.

    Args:
        pipeline: a pipeline of this package.
        name: the row of the table.
        call_options: keyword arguments of each call, such as `mask_threshold`.
    """

    def __init__(self, pipeline: Any, name: str, **call_options: Any) -> None:
        self.pipeline = pipeline
        self.name = name
        self.call_options = call_options

    def __call__(self, sample: Sample) -> Prediction:
        """Run the pipeline on the photo, where there is one, and the modal masks."""
        output = call_pipeline(self.pipeline, sample.image, sample.modal, sample.category_ids, **self.call_options)
        return Prediction(masks=output.amodal_masks, order=output.order)


def load_pipeline(name: str, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> MaskPipeline:
    """Load a pipeline from a folder or the Hub for a run without questions: on its device, fast, without progress bars.

    Raises:
        OSError, ValueError: as `AmodalPipeline.from_pretrained` says.
    """
    pipeline: MaskPipeline = AmodalPipeline.from_pretrained(name, dtype=dtype).to(device)
    for network in pipeline.networks:
        network.to(memory_format=torch.channels_last)  # convolutions are a third to a half faster in this layout
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def call_pipeline(
    pipeline: Any, image: Image.Image | None, masks: np.ndarray, category_ids: Sequence[int], **call_options: Any
) -> AmodalPipelineOutput:
    """Call a mask pipeline on one photo; only a class-conditioned network is given the ids, which it alone reads.

    Args:
        pipeline: a pipeline of this package.
        image: the photo, or None for a network that needs none.
        masks: (N, H, W) bool modal masks.
        category_ids: N ids, positive where the network is class-conditioned.
        call_options: further keyword arguments of the call.
    """
    if getattr(pipeline, "class_conditioned", False):
        call_options["category_ids"] = np.asarray(category_ids, np.int64)
    output: AmodalPipelineOutput = pipeline(image, masks, output_type="np", **call_options)
    return output


def load_methods(
    names: Sequence[str],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    **call_options: Any,
) -> list[Method]:
    """Turn names into methods: a registered name, or a folder or Hub id of a pipeline.

    Args:
        names: names in `METHODS`, folders of saved pipelines, or Hub ids.
        device: device of the pipelines.
        dtype: dtype of the pipelines' weights.
        call_options: passed to each call of each pipeline.

    Raises:
        ValueError: for no names, a repeated name, or one that is neither registered nor a loadable pipeline.
    """
    if not names:
        raise ValueError("`names` must hold at least one method, got none.")
    methods: list[Method] = []
    for name in names:
        if any(method.name == name for method in methods):
            raise ValueError(f"`names` holds {name!r} twice.")
        if name in METHODS:
            methods.append(METHODS[name])
            continue
        known = f"method {name!r} is none of {', '.join(METHODS)}"
        if "/" not in name and not Path(name).is_dir():
            raise ValueError(f"{known}, no folder, and no Hub id of the form 'organisation/name'.")
        try:
            pipeline = load_pipeline(name, device=device, dtype=dtype)
        except (OSError, ValueError) as error:
            raise ValueError(f"{known}, and loads as no pipeline: {error}") from error
        methods.append(PipelineMethod(pipeline, name, **call_options))
    return methods


@dataclass
class EvaluationReport:
    """Figures of `evaluate_methods`; every metric is a fraction in [0, 1], NaN where nothing was there to count.

    Args:
        completion: method → metric → value, for the methods that predicted masks.
        order: method → metric → value, for the methods that predicted an order.
        seconds: method → seconds spent in its calls.
        counts: images, objects, occluded (objects with a hidden part), related (pairs with a relation in the ground
            truth), skipped (images without amodal masks).
        order_source: where the true order came from, "masks" or "annotated".
    """

    completion: dict[str, dict[str, float]]
    order: dict[str, dict[str, float]]
    seconds: dict[str, float]
    counts: dict[str, int]
    order_source: OrderSource = "masks"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values that JSON takes; NaN becomes None."""
        return {
            "counts": dict(self.counts),
            "order_source": self.order_source,
            "completion": {name: _json_values(row) for name, row in self.completion.items()},
            "order": {name: _json_values(row) for name, row in self.order.items()},
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }

    def to_json(self) -> str:
        """The dictionary of `to_dict` as indented JSON with a final newline."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    def to_text(self) -> str:
        """The tables for a terminal, in percent."""
        return self._render(format_table)

    def to_markdown(self) -> str:
        """The tables in Markdown, in percent."""
        return self._render(format_markdown)

    def _render(self, table: Callable[[Sequence[str], Sequence[Sequence[str]]], str]) -> str:
        parts = []
        if self.completion:
            title = "Completion, {objects} objects ({occluded} with a hidden part) in {images} images, percent"
            parts += [title.format(**self.counts), table(*self._rows("method", _COMPLETION_COLUMNS, self.completion))]
            title = "Amodal AP (COCO, class-agnostic; detections are the completed masks, ranked alike), percent"
            parts += [title, table(*self._rows("method", _AP_COLUMNS, self.completion))]
        if self.order:
            source = {"masks": "computed from the masks", "annotated": "annotated"}[self.order_source]
            title = f"Order accuracy, {self.counts['related']} related pairs, true order {source}, percent"
            parts += [title, table(*self._rows("order by", _ORDER_COLUMNS, self.order))]
        if self.counts["skipped"]:
            parts.append(f"Skipped {self.counts['skipped']} images without objects or amodal masks.")
        return "\n\n".join(parts) + "\n"

    def _rows(
        self, corner: str, columns: Mapping[str, str], values: Mapping[str, Mapping[str, float]]
    ) -> tuple[list[str], list[list[str]]]:
        header = [corner, *columns.values(), "seconds"]
        rows = [
            [name, *(_percent(row[key]) for key in columns), f"{self.seconds[name]:.1f}"]
            for name, row in values.items()
        ]
        return header, rows


def evaluate_methods(
    dataset: Iterable[Mapping[str, Any]],
    methods: Sequence[Method],
    *,
    order_methods: Sequence[Method | str] = ORDER_BASELINES,
    order_source: OrderSource = "masks",
    limit: int | None = None,
    on_sample: Callable[[Sample], None] | None = None,
) -> EvaluationReport:
    """Score methods on the images of a data set that have amodal ground truth.

    Metrics are those of `amodal_diffusion.metrics`: pooled and mean mIoU, the same outside the modal masks ("inv"),
    pixel accuracy, amodal AP, and order accuracy over related and over all pairs [Z20]. Means are over objects with a
    hidden part.

    Args:
        dataset: rows of `amodal_diffusion.data.amodal_features`, streamed or not.
        methods: rows of the table, e.g. from `load_methods`.
        order_methods: order baselines to add to the order table; names in `METHODS` or methods.
        order_source: "masks" computes the true order from modal and amodal masks; "annotated" takes the data set's
            relations (COCOA's `depth_constraint`).
        limit: number of images to read at most; None reads all.
        on_sample: called with each sample before it is scored, e.g. to show progress.

    Raises:
        ValueError: for a repeated method name, an unknown order source, a limit below 1, a data set in which no image
            has amodal masks, an image without annotated order where that is the source, or a prediction of the wrong
            shape.
    """
    if order_source not in ORDER_SOURCES:
        raise ValueError(f"`order_source` must be one of {', '.join(ORDER_SOURCES)}, got {order_source!r}.")
    if limit is not None and limit < 1:
        raise ValueError(f"`limit` must be at least 1, got {limit}.")
    scores = [_Score(method) for method in _distinct(methods, order_methods)]
    counts = dict.fromkeys(("images", "objects", "occluded", "related", "skipped"), 0)
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
        counts["related"] += int((sample.order == 1).sum())
        for score in scores:
            score.update(sample)
    if not counts["images"]:
        raise ValueError(f"`dataset` has no image with amodal masks ({counts['skipped']} images without).")
    return EvaluationReport(
        completion={s.method.name: s.completion.compute() | s.precision.compute() for s in scores if s.completes},
        order={s.method.name: s.order.compute() for s in scores if s.orders},
        seconds={s.method.name: s.seconds for s in scores},
        counts=counts,
        order_source=order_source,
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
    categories = [1 if item["category_id"] is None else int(item["category_id"]) for item in row["objects"]]
    return Sample(image_id, modal, amodal, order, categories, photo=row.get("image"))


class _Score:
    """Accumulates one method's metrics and time."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.completion, self.precision, self.order = CompletionMetrics(), AmodalAP(), OrderMetrics()
        self.completes = self.orders = False
        self.seconds = 0.0

    def update(self, sample: Sample) -> None:
        """Predict for the sample and count."""
        start = time.perf_counter()
        prediction = self.method(sample)
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


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal: first column to the left, the others to the right, two spaces between."""
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    lines = []
    for line in (header, *rows):
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        lines.append("  ".join([line[0].ljust(widths[0]), *cells[1:]]))
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def format_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; numbers are aligned to the right."""
    rule = ["---", *("---:" for _ in header[1:])]
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (header, rule, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_report(report: EvaluationReport, *, json_path: Path | None = None, markdown_path: Path | None = None) -> None:
    """Write the report beside each path, then rename, so that a reader never sees half a file."""
    from .export import write_text

    if json_path is not None:
        write_text(json_path, report.to_json())
    if markdown_path is not None:
        write_text(markdown_path, report.to_markdown())


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def _json_values(row: Mapping[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else round(float(value), 6) for key, value in row.items()}
