"""From the records of the images to metrics and their intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..metrics import (
    AmodalAP,
    CompletionMetrics,
    ImageMatches,
    MatchMetrics,
    OccluderMetrics,
    OrderMetrics,
    SampleWidthMetrics,
    difference_intervals,
    percentile_intervals,
    resampled_metrics,
)
from ..metrics.bootstrap import FloatArray
from .counts import COUNTS, ImageScores, MethodScores
from .report import TRUTH_MARK, Difference, EvaluationReport, Group, GroupKind, Intervals, OcclusionBin
from .samples import Method, OrderSource

Metrics = dict[str, float]
_Terms = type[CompletionMetrics | MatchMetrics | OrderMetrics | OccluderMetrics | SampleWidthMetrics]

HIDDEN_SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
"""Edges of the groups by hidden share."""


@dataclass(frozen=True)
class _Bootstrap:
    """Metrics with their values in the resamples of the images; {} where none were asked for."""

    resamples: int
    confidence: float
    seed: int
    drawn: dict[tuple[str, str], tuple[int, dict[str, FloatArray]]] = field(default_factory=dict)

    def metrics(self, kind: _Terms, terms: Sequence[np.ndarray]) -> tuple[Metrics, dict[str, FloatArray]]:
        rows = np.stack(terms)
        metrics = {name: float(value) for name, value in kind.from_totals(rows.sum(axis=0)).items()}
        if not self.resamples:
            return metrics, {}
        return metrics, resampled_metrics(rows, kind.from_totals, resamples=self.resamples, seed=self.seed)

    def precision(self, images: Iterable[list[ImageMatches]]) -> tuple[Metrics, dict[str, FloatArray]]:
        metric = AmodalAP()
        for image in images:
            metric.add(image)
        return metric.compute(), metric.resampled(resamples=self.resamples, seed=self.seed) if self.resamples else {}

    def intervals(self, values: Mapping[str, FloatArray]) -> Intervals:
        return percentile_intervals(values, self.confidence)

    def keep(self, section: str, name: str, images: int, values: dict[str, FloatArray]) -> None:
        """Remember values for the differences between methods."""
        self.drawn.setdefault((section, name), (images, {}))[1].update(values)


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
    groups: Sequence[GroupKind] = (),
    reference: str | None = None,
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
    names = [method.name + TRUTH_MARK * getattr(method, "uses_truth", False) for method in methods]
    for kind in groups:
        report.groups += _GROUPS[kind](scored, names, bootstrap)
    if reference is not None:
        _add_differences(report, reference, bootstrap)
    return report


def _add_differences(report: EvaluationReport, reference: str, bootstrap: _Bootstrap) -> None:
    """What every other method has more than the reference, metric by metric."""
    report.reference = reference
    for section in ("completion", "order", "occluders"):
        rows = getattr(report, section)
        if reference not in rows:
            continue
        for name, metrics in rows.items():
            if name == reference:
                continue
            one, other = bootstrap.drawn.get((section, name)), bootstrap.drawn.get((section, reference))
            # Only methods that were scored on the same images have pairs of resamples.
            paired = one is not None and other is not None and one[0] == other[0]
            ends = difference_intervals(one[1], other[1], bootstrap.confidence) if paired and one and other else {}
            report.differences.setdefault(section, {})[name] = {
                metric: Difference(value - rows[reference][metric], ends.get(metric, (float("nan"), float("nan"))))
                for metric, value in metrics.items()
                if metric in rows[reference]
            }


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
        metrics, values = bootstrap.metrics(kind, given)
        getattr(report, section)[name] = metrics
        _add_intervals(report, section, name, bootstrap, len(given), values)


def _add_masks(
    report: EvaluationReport, name: str, entries: Sequence[MethodScores], frames: Sequence[int], bootstrap: _Bootstrap
) -> None:
    metrics: Metrics = {}
    values: dict[str, FloatArray] = {}
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
    widths = [SampleWidthMetrics.count(entry.widths) for entry in entries if entry.widths is not None]
    if widths:
        parts.append(bootstrap.metrics(SampleWidthMetrics, widths))
    matches = [entry.matches for entry in entries if entry.matches is not None]
    if matches:
        parts.append(bootstrap.precision(matches))
    for some_metrics, some_values in parts:
        metrics |= some_metrics
        values |= some_values
    if metrics:
        report.completion[name] = metrics
        _add_intervals(report, "completion", name, bootstrap, len(entries), values)


def _matched(entry: MethodScores) -> np.ndarray:
    """The counts of the objects that the method knows of; (0, 6) where it predicted no masks."""
    objects = np.zeros((0, 6), np.int64) if entry.objects is None else entry.objects
    return objects if entry.matched is None or entry.objects is None else objects[entry.matched]


def _add_intervals(
    report: EvaluationReport,
    section: str,
    name: str,
    bootstrap: _Bootstrap,
    images: int,
    values: dict[str, FloatArray],
) -> None:
    if values:
        report.intervals.setdefault(section, {})[name] = bootstrap.intervals(values)
        bootstrap.keep(section, name, images, values)


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
        metrics, values = bootstrap.metrics(CompletionMetrics, terms)
        # Where objects lie in one image alone, every resample would give the same.
        intervals = bootstrap.intervals(values) if sum(some.any() for some in chosen) > 1 else {}
        bins.append(OcclusionBin(low, high, int(sum(some.sum() for some in chosen)), metrics, intervals))
    return bins


# Groups of objects: each picks rows of the counts of an image


_Chosen = Callable[[ImageScores, np.ndarray], np.ndarray]


def _group(
    kind: GroupKind, name: str, records: Sequence[ImageScores], names: Sequence[str], chosen: _Chosen, boot: _Bootstrap
) -> Group | None:
    """The metrics of what `chosen` picks, (N,) bool of an image and its (N, 6) counts; None where that is nothing."""
    group = Group(kind, name)
    for column, method in enumerate(names):
        entries = [(record, record.methods[column]) for record in records]
        terms, widths, objects, occluded, images = [], [], 0, 0, 0
        for record, entry in entries:
            if entry.objects is None:
                continue
            some = chosen(record, entry.objects)
            objects += int(some.sum())
            occluded += int((entry.objects[some, 5] > 0).sum())
            images += bool(some.any())
            if entry.widths is not None:
                widths.append(SampleWidthMetrics.count(entry.widths[some]))
            if entry.matched is not None:
                some = some & entry.matched
            terms.append(CompletionMetrics.count_objects(entry.objects[some], record.frame))
        if not objects:
            continue
        group.objects, group.occluded, group.images = objects, occluded, images
        group.metrics[method], values = boot.metrics(CompletionMetrics, terms)
        if widths:
            apart, more = boot.metrics(SampleWidthMetrics, widths)
            group.metrics[method] |= apart
            values |= more
        if values and images > 1:
            group.intervals[method] = boot.intervals(values)
    return group if group.objects else None


def _by_category(records: Sequence[ImageScores], names: Sequence[str], boot: _Bootstrap) -> list[Group]:
    """By what the objects are, those first of which most have a hidden part."""
    kinds = sorted({name for record in records for name in record.names})

    def picks(kind: str) -> _Chosen:
        return lambda record, objects: np.array([name == kind for name in record.names], dtype=bool)

    groups = [_group("category", kind or "unnamed", records, names, picks(kind), boot) for kind in kinds]
    found = [group for group in groups if group is not None]
    return sorted(found, key=lambda group: (-group.occluded, -group.objects, group.name))


def _by_hidden_share(records: Sequence[ImageScores], names: Sequence[str], boot: _Bootstrap) -> list[Group]:
    """By the share of an object that is hidden, in (low, high]."""

    def picks(low: float, high: float) -> _Chosen:
        def chosen(record: ImageScores, objects: np.ndarray) -> np.ndarray:
            share = objects[:, 5] / np.maximum(objects[:, 2], 1)
            some: np.ndarray = (share > low) & (share <= high)
            return some

        return chosen

    bins = zip(HIDDEN_SHARES, HIDDEN_SHARES[1:], strict=False)
    groups = [
        _group("hidden", f"{100 * low:g} to {100 * high:g} %", records, names, picks(low, high), boot)
        for low, high in bins
    ]
    return [group for group in groups if group is not None]


def _by_source(records: Sequence[ImageScores], names: Sequence[str], boot: _Bootstrap) -> list[Group]:
    """By data set, with the order too."""
    groups = []
    for source in sorted(Counter(record.source for record in records)):
        own = [record for record in records if record.source == source]
        group = _group("source", source or "unnamed", own, names, _all_objects, boot)
        if group is None:
            group = Group("source", source or "unnamed", images=len(own))
        for column, method in enumerate(names):
            terms = [order for record in own if (order := record.methods[column].order) is not None]
            if terms:
                metrics, values = boot.metrics(OrderMetrics, terms)
                group.metrics.setdefault(method, {}).update(metrics)
                if values and len(terms) > 1:
                    group.intervals.setdefault(method, {}).update(boot.intervals(values))
        groups.append(group)
    return groups


def _all_objects(record: ImageScores, objects: np.ndarray) -> np.ndarray:
    return np.ones(len(objects), dtype=bool)


_GROUPS: dict[GroupKind, Callable[[Sequence[ImageScores], Sequence[str], _Bootstrap], list[Group]]] = {
    "source": _by_source,
    "category": _by_category,
    "hidden": _by_hidden_share,
}
