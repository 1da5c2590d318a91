"""How well methods tell which objects are closer: the disagreement on depth orders, InstaOrder's second question."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...data import record_depths
from ...data.photos import load_row_photo
from ...data.schema import decode_masks
from ...masks import mask_boxes
from ...metrics import bootstrap_intervals, depth_disagreement, depth_order_counts
from ...ordering import depth_order
from ...pipelines import AmodalPipeline, OrderNetPipeline
from ..report import Cell, Table, format_markdown, format_table, interval_text, json_values, percent

DepthMethod = Callable[[np.ndarray, Any], np.ndarray]
"""(modal masks (N, H, W), photo or None) -> depth order (N, N) int8."""

_COLUMNS = {"whdr": "WHDR", "whdr_distinct": "one is closer", "whdr_overlapping": "overlapping"}


def closer_by_y_axis(masks: np.ndarray, image: Any = None) -> np.ndarray:
    """Call the object closer whose visible part reaches farther down in the photo; none overlaps another.

    Example:
        >>> masks = np.zeros((2, 4, 4), bool)
        >>> masks[0, 1], masks[1, 3] = True, True
        >>> closer_by_y_axis(masks)
        array([[ 0, -1],
               [ 1,  0]], dtype=int8)
    """
    boxes = mask_boxes(masks)
    bottom = boxes[:, 1] + boxes[:, 3]
    return np.sign(bottom[:, None] - bottom[None]).astype(np.int8)


def all_overlapping(masks: np.ndarray, image: Any = None) -> np.ndarray:
    """Say of no object that it is closer than another.

    Example:
        >>> all_overlapping(np.zeros((2, 4, 4), bool)).any()
        np.False_
    """
    return np.zeros((len(masks), len(masks)), np.int8)


DEPTH_METHODS: dict[str, DepthMethod] = {"y-axis": closer_by_y_axis, "all-overlapping": all_overlapping}
"""Baselines by name: lower in the photo is closer; all depths overlap."""


def load_depth_methods(
    names: Sequence[str],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    runtime: str = "torch",
) -> dict[str, DepthMethod]:
    """Methods by their names: those of `DEPTH_METHODS`, and folders or Hub ids of OrderNets that answer depth.

    Raises:
        ValueError: a repeated name, or a pipeline that does not answer depth.
        OSError: no such folder.

    Example:
        >>> list(load_depth_methods(["y-axis"]))
        ['y-axis']
    """
    methods: dict[str, DepthMethod] = {}
    for name in names:
        if name in methods:
            raise ValueError(f"`names` holds {name!r} twice.")
        if name in DEPTH_METHODS:
            methods[name] = DEPTH_METHODS[name]
            continue
        if "/" not in name and not Path(name).is_dir():
            raise ValueError(f"method {name!r} is none of {', '.join(DEPTH_METHODS)}, no folder and no Hub id.")
        pipeline: Any = AmodalPipeline.from_pretrained(name, dtype=dtype, runtime=runtime)
        if not isinstance(pipeline, OrderNetPipeline) or not pipeline.answers_depth:
            raise ValueError(f"method {name!r} is no OrderNetPipeline that answers depth.")
        methods[name] = pipeline.prepare(device).infer_depth_order
    return methods


@dataclass
class DepthReport:
    """The disagreement of methods with true depth orders.

    Args:
        metrics: for each method, those of `depth_disagreement`.
        counts: images and pairs: distinct ones, of which one is closer, and overlapping ones.
        intervals: for each method and metric, (low, high); {} where none were asked for.

    Example:
        >>> DepthReport({"y-axis": {"whdr": 0.5}}, {"images": 1}).to_dict()["metrics"]
        {'y-axis': {'whdr': 0.5}}
    """

    metrics: dict[str, dict[str, float]]
    counts: dict[str, int]
    intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)

    def to_text(self) -> str:
        """The table for a terminal."""
        return self._render(format_table)

    def to_markdown(self) -> str:
        """The table in Markdown."""
        return self._render(format_markdown)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values that JSON takes."""
        return {
            "counts": self.counts,
            "metrics": {name: json_values(row) for name, row in self.metrics.items()},
            "intervals": {name: json_values(row) for name, row in self.intervals.items()},
        }

    def to_json(self) -> str:
        """The dictionary of `to_dict` as indented JSON with a final newline."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def _render(self, table: Table) -> str:
        rows: list[list[Cell]] = []
        for name, values in self.metrics.items():
            found = self.intervals.get(name, {})
            rows.append([name, *((percent(values[key]), interval_text(found.get(key))) for key in _COLUMNS)])
        counts = self.counts
        title = "Depth order: pairs that are told wrong, percent"
        about = (
            f"{counts['distinct']:,} pairs of which one is closer and {counts['overlapping']:,} whose depths overlap, "
            f"in {counts['images']:,} images."
        )
        return "\n\n".join([title, table(["method", *_COLUMNS.values()], rows), about]) + "\n"


def evaluate_depth(
    dataset: Iterable[Mapping[str, Any]],
    methods: Mapping[str, DepthMethod],
    *,
    limit: int | None = None,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
) -> DepthReport:
    """Score what methods say of the depths of objects, against those that a data set knows, such as rendered rooms.

    Args:
        dataset: rows of `amodal_features(with_depth=True)`; photos are shown to the methods where there are some.
        methods: by name, e.g. from `load_depth_methods`.
        limit: number of images to read at most.
        resamples: data sets drawn from the images for percentile intervals; 0 for none.
        confidence: of the intervals.
        seed: of the resamples.

    Raises:
        ValueError: no pair of objects of known depth; an answer of the wrong shape; resamples or confidence out of
            range.

    Example:
        >>> from amodal_diffusion.masks import encode_rle
        >>> masks = np.zeros((2, 4, 4), bool)
        >>> masks[0, 1], masks[1, 3] = True, True
        >>> depths = [{"nearest": 3.0, "mean": 3.0, "farthest": 3.0}, {"nearest": 1.0, "mean": 1.5, "farthest": 2.0}]
        >>> objects = [
        ...     {"modal_mask": encode_rle(mask), "amodal_mask": None, "depth": depth}
        ...     for mask, depth in zip(masks, depths)
        ... ]
        >>> row = {"image_id": "1", "height": 4, "width": 4, "objects": objects}
        >>> evaluate_depth([row], DEPTH_METHODS).metrics["y-axis"]["whdr"]
        0.0
    """
    terms: dict[str, list[np.ndarray]] = {name: [] for name in methods}
    images = 0
    for index, row in enumerate(dataset):
        if limit is not None and index >= limit:
            break
        depths = record_depths(row)
        if depths is None or len(depths) < 2:
            continue
        rles = [item["modal_mask"] for item in row["objects"]]
        modal = decode_masks(rles, row["height"], row["width"], name="visible mask of object")
        known = ~np.isnan(depths).any(axis=1) & modal.any(axis=(1, 2))
        if known.sum() < 2:
            continue
        images += 1
        photo = load_row_photo(row) if row.get("image") is not None else None
        truth = depth_order(depths[:, [0, 2]])
        for name, method in methods.items():
            terms[name].append(depth_order_counts(method(modal, photo), truth, known))
    if not images:
        raise ValueError("`dataset` has no pair of objects of known depth; rendered rooms do (`make-rooms`).")
    metrics, intervals = {}, {}
    for name, rows in terms.items():
        counted = np.stack(rows)
        found = depth_disagreement(counted.sum(axis=0))
        metrics[name] = {key: float(value) for key, value in found.items()}
        if resamples:
            intervals[name] = bootstrap_intervals(
                counted, depth_disagreement, resamples=resamples, confidence=confidence, seed=seed
            )
    pairs = next(iter(terms.values())) if terms else []
    distinct, overlapping = (int(np.sum([row[place] for row in pairs])) for place in (1, 3))
    return DepthReport(metrics, {"images": images, "distinct": distinct, "overlapping": overlapping}, intervals)
