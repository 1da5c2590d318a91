"""From the records of the images to metrics and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics import AmodalAP, CompletionMetrics, MatchMetrics, OccluderMetrics, OrderMetrics, bootstrap_intervals
from .counts import COUNTS, ImageScores, MethodScores
from .report import TRUTH_MARK, EvaluationReport, Intervals, OcclusionBin
from .samples import Method, OrderSource

Metrics = dict[str, float]


@dataclass(frozen=True)
class _Bootstrap:
    resamples: int
    confidence: float
    seed: int

    def metrics(
        self, kind: type[CompletionMetrics | MatchMetrics | OrderMetrics | OccluderMetrics], terms: Sequence[np.ndarray]
    ) -> tuple[Metrics, Intervals]:
        """Metrics of the terms of the images, and their intervals, {} where none were asked for."""
        rows = np.stack(terms)
        metrics = {name: float(value) for name, value in kind.from_totals(rows.sum(axis=0)).items()}
        return metrics, bootstrap_intervals(rows, kind.from_totals, **self.options) if self.resamples else {}

    @property
    def options(self) -> dict[str, Any]:
        return {"resamples": self.resamples, "confidence": self.confidence, "seed": self.seed}


def summarize(
    records: Sequence[ImageScores],
    methods: Sequence[Method],
    *,
    order_source: OrderSource,
    occluders_given: bool,
    class_aware: bool,
    occlusion_bins: Sequence[float],
    resamples: int,
    confidence: float,
    seed: int,
) -> EvaluationReport:
    """The report on records of images, in the order of the data set; arguments and errors of `evaluate_methods`.

    Example:
        >>> import numpy as np
        >>> from amodal_diffusion.evaluation import Sample
        >>> amodal = np.zeros((2, 4, 6), bool)
        >>> amodal[0, :, :4], amodal[1, :2, 2:] = True, True
        >>> modal = amodal & ~np.stack([amodal[1], np.zeros((4, 6), bool)])  # object 1 hides a corner of object 0
        >>> sample = Sample("1", modal, amodal, np.array([[0, -1], [1, 0]], np.int8))
        >>> from amodal_diffusion.evaluation import METHODS
        >>> from amodal_diffusion.evaluation.counts import score_sample
        >>> methods = [METHODS["raw"]]
        >>> records = [score_sample(0, sample, methods, class_aware=False)]
        >>> report = summarize(
        ...     records, methods, order_source="masks", occluders_given=True, class_aware=False,
        ...     occlusion_bins=(), resamples=0, confidence=0.95, seed=0,
        ... )
        >>> report.completion["raw"]["miou_mean"]
        0.75
    """
    counts = {name: sum(record.counts[name] for record in records) for name in COUNTS}
    scored = [record for record in records if record.methods]
    if not scored:
        raise ValueError(f"`dataset` has no image with amodal masks ({counts['skipped']} images without).")
    bootstrap = _Bootstrap(resamples, confidence, seed)
    report = EvaluationReport(
        {}, {}, {}, counts, order_source, occluders_given=occluders_given, resamples=resamples, confidence=confidence,
        class_aware=class_aware, sources=sorted({record.source for record in scored if record.source}),
    )  # fmt: skip
    for column, method in enumerate(methods):
        entries = [record.methods[column] for record in scored]
        name = method.name
        if getattr(method, "uses_truth", False):
            name += TRUTH_MARK
            report.uses_truth.append(name)
        report.seconds[name] = sum(entry.seconds for entry in entries)
        frames = [record.frame for record in scored]
        _add_masks(report, name, entries, frames, bootstrap)
        _add_terms(report, "order", name, OrderMetrics, [entry.order for entry in entries], bootstrap)
        _add_terms(report, "occluders", name, OccluderMetrics, [entry.occluders for entry in entries], bootstrap)
        if occlusion_bins and name in report.completion:
            report.by_occlusion[name] = _by_occlusion(entries, frames, occlusion_bins, bootstrap)
    return report


def _add_terms(
    report: EvaluationReport,
    section: str,
    name: str,
    kind: type[OrderMetrics | OccluderMetrics],
    terms: Sequence[np.ndarray | None],
    bootstrap: _Bootstrap,
) -> None:
    given = [row for row in terms if row is not None]
    if given:
        metrics, intervals = bootstrap.metrics(kind, given)
        getattr(report, section)[name] = metrics
        _add_intervals(report, section, name, intervals)


def _add_masks(
    report: EvaluationReport, name: str, entries: Sequence[MethodScores], frames: Sequence[int], bootstrap: _Bootstrap
) -> None:
    metrics: Metrics = {}
    intervals: Intervals = {}
    masks = [
        (_matched(entry), frame) for entry, frame in zip(entries, frames, strict=True) if entry.objects is not None
    ]
    parts = []
    if masks:
        terms = [CompletionMetrics.count_objects(objects, frame) for objects, frame in masks]
        parts.append(bootstrap.metrics(CompletionMetrics, terms))
    if any(entry.matched is not None for entry in entries):
        terms = [MatchMetrics.count_objects(e.objects, e.matched) for e in entries if e.objects is not None]
        parts.append(bootstrap.metrics(MatchMetrics, terms))
    matches = [entry.matches for entry in entries if entry.matches is not None]
    if matches:
        precision = AmodalAP()
        for image in matches:
            precision.add(image)
        parts.append((precision.compute(), precision.intervals(**bootstrap.options) if bootstrap.resamples else {}))
    for some_metrics, some_intervals in parts:
        metrics |= some_metrics
        intervals |= some_intervals
    if metrics:
        report.completion[name] = metrics
        _add_intervals(report, "completion", name, intervals)


def _matched(entry: MethodScores) -> np.ndarray:
    """The counts of the objects that the method knows of; (0, 6) where it predicted no masks."""
    objects = np.zeros((0, 6), np.int64) if entry.objects is None else entry.objects
    return objects if entry.matched is None or entry.objects is None else objects[entry.matched]


def _add_intervals(report: EvaluationReport, section: str, name: str, intervals: Intervals) -> None:
    if intervals:
        report.intervals.setdefault(section, {})[name] = intervals


def _by_occlusion(
    entries: Sequence[MethodScores], frames: Sequence[int], edges: Sequence[float], bootstrap: _Bootstrap
) -> list[OcclusionBin]:
    """Metrics of the objects whose hidden share of the amodal mask lies in each bin (low, high]."""
    images = [(_matched(entry), frame) for entry, frame in zip(entries, frames, strict=True)]
    shares = [objects[:, 5] / np.maximum(objects[:, 2], 1) for objects, _ in images]
    bins = []
    for low, high in zip(edges, edges[1:], strict=False):
        chosen = [(share > low) & (share <= high) for share in shares]
        terms = [
            CompletionMetrics.count_objects(objects[some], frame)
            for (objects, frame), some in zip(images, chosen, strict=True)
        ]
        metrics, intervals = bootstrap.metrics(CompletionMetrics, terms)
        if sum(some.any() for some in chosen) < 2:  # every resample would give the same
            intervals = {}
        bins.append(OcclusionBin(low, high, int(sum(some.sum() for some in chosen)), metrics, intervals))
    return bins
