"""The metrics of an evaluation as tables for a terminal, Markdown and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from ..files import write_text
from ..metrics.bootstrap import Interval
from .samples import OrderSource

Intervals = dict[str, Interval]
"""Metric → (low, high)."""

TRUTH_MARK = " *"
"""Stands behind the name of a method that looks at the truth."""

_FEW_IMAGES = 10
_FOOTNOTE = (
    "* looks at the ground truth of the objects that it completes: a bound on what a choice can gain, no result."
)

_COMPLETION_COLUMNS = {
    "miou_pooled": "mIoU pooled",
    "inv_miou_pooled": "inv-mIoU pooled",
    "miou_mean": "mIoU mean",
    "inv_miou_mean": "inv-mIoU mean",
    "miou_mean_all": "mIoU mean, all",
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
_MATCH_COLUMNS = {"matched": "matched", "miou_pooled_all": "mIoU pooled, unmatched empty"}
_WIDTH_COLUMNS = {"sample_width": "width of the samples"}
_ORDER_COLUMNS = {
    "order_accuracy": "related pairs",
    "order_accuracy_large": "at least 30 px hidden",
    "order_accuracy_all": "all pairs",
}
_DIFFERENCE_COLUMNS = {
    **{("completion", key): title for key, title in _COMPLETION_COLUMNS.items() if key != "pixel_accuracy"},
    ("completion", "ap"): "AP",
    ("order", "order_accuracy"): "order, related pairs",
    ("order", "order_accuracy_large"): "at least 30 px hidden",
}
_GROUP_TITLES = {"source": "By data set", "category": "By what the object is", "hidden": "By hidden share"}
_SHOWN_GROUPS = 15
"""Groups of a kind in a text; JSON has all."""
_OCCLUDER_COLUMNS = {
    "iou_pooled": "IoU pooled",
    "iou_mean": "IoU mean",
    "crop_iou_pooled": "in crop pooled",
    "crop_iou_mean": "in crop mean",
    "found": "found if any",
    "left_empty": "empty if none",
}


GroupKind = Literal["source", "category", "hidden"]
GROUP_KINDS: tuple[GroupKind, ...] = ("source", "category", "hidden")


@dataclass
class Group:
    """Metrics of some of the objects.

    Args:
        kind: "source" (all objects of a data set), "category" (all of one name) or "hidden" (all of about the same
            hidden share).
        name: of the group.
        objects: number of objects.
        occluded: of them, those with a hidden part.
        images: number of images that have any.
        metrics: method → metric → value; of `CompletionMetrics`, and for a source of `OrderMetrics`.
        intervals: method → metric → (low, high); none where they were not asked for, or all lie in one image.

    Example:
        >>> Group("category", "chair", objects=12, metrics={"raw": {"miou_mean": 0.8}}).metrics["raw"]["miou_mean"]
        0.8
    """

    kind: GroupKind
    name: str
    objects: int = 0
    occluded: int = 0
    images: int = 0
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    intervals: dict[str, Intervals] = field(default_factory=dict)


class Difference(NamedTuple):
    """A metric of a method minus that of another.

    Args:
        value: the difference.
        interval: (low, high) over resamples of the images, each given to both methods; NaN where there is none.

    Example:
        >>> Difference(0.02, (0.01, 0.035)).value
        0.02
    """

    value: float
    interval: Interval


@dataclass(frozen=True)
class OcclusionBin:
    """Metrics of the objects whose hidden share of the amodal mask lies in (low, high].

    Args:
        low: edge that is left out, so that 0 leaves out the objects without a hidden part.
        high: edge that belongs to it.
        objects: number of objects.
        metrics: metric → value, of `CompletionMetrics`.
        intervals: metric → (low, high); {} where none were asked for.

    Example:
        >>> OcclusionBin(0.0, 0.1, objects=12, metrics={"miou_pooled": 0.97}, intervals={}).objects
        12
    """

    low: float
    high: float
    objects: int
    metrics: dict[str, float]
    intervals: Intervals


@dataclass
class EvaluationReport:
    """Metrics of `evaluate_methods`; every metric is a fraction in [0, 1], NaN where nothing was there to count.

    Args:
        completion: method → metric → value, for the methods that predicted masks.
        order: method → metric → value, for the methods that predicted an order.
        seconds: method → seconds spent in its calls.
        counts: images, objects, occluded (objects with a hidden part), covered (objects with a visible occluder by the
            true order), related (pairs with a relation in the ground truth), large (those of them of which one hides at
            least 30 pixels of the other), skipped (images without amodal masks).
        order_source: where the true order came from, "masks" or "annotated".
        occluders: method → metric → value, for the methods that predicted the occluders.
        occluders_given: False where every object was completed alone, without the masks of the others.
        uses_truth: names of the methods that look at the truth, each with `TRUTH_MARK` at its end.
        intervals: section ("completion", "order", "occluders") → method → metric → (low, high) percentiles over images
            drawn with replacement; {} where none were asked for.
        resamples: how often they were drawn; 0 for no intervals.
        confidence: of the intervals.
        by_occlusion: method → bins by hidden share; {} where none were asked for.
        sources: short names of the data sets, sorted.
        class_aware: whether AP tells classes apart.
        groups: metrics of some of the objects, see `Group`.
        reference: name of the method of the differences; None for none.
        differences: section → method → metric → what it has more than the reference.

    Example:
        >>> counts = {"images": 1, "objects": 2, "occluded": 1, "covered": 1, "related": 1, "large": 0, "skipped": 0}
        >>> report = EvaluationReport({}, {"hull": {"order_accuracy": 0.785}}, {"hull": 0.02}, counts)
        >>> print(report.to_text())
        Order accuracy, 1 related pairs (0 with at least 30 px hidden), true order computed from the masks, percent
        <BLANKLINE>
        order by  related pairs  at least 30 px hidden  all pairs  seconds
        ------------------------------------------------------------------
        hull               78.5                      –          –      0.0
        <BLANKLINE>
    """

    completion: dict[str, dict[str, float]]
    order: dict[str, dict[str, float]]
    seconds: dict[str, float]
    counts: dict[str, int]
    order_source: OrderSource = "masks"
    occluders: dict[str, dict[str, float]] = field(default_factory=dict)
    occluders_given: bool = True
    uses_truth: list[str] = field(default_factory=list)
    intervals: dict[str, dict[str, Intervals]] = field(default_factory=dict)
    resamples: int = 0
    confidence: float = 0.95
    by_occlusion: dict[str, list[OcclusionBin]] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    class_aware: bool = False
    groups: list[Group] = field(default_factory=list)
    reference: str | None = None
    differences: dict[str, dict[str, dict[str, Difference]]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values that JSON takes; NaN becomes None."""
        return {
            "counts": dict(self.counts),
            "sources": list(self.sources),
            "class_aware": self.class_aware,
            "order_source": self.order_source,
            "occluders_given": self.occluders_given,
            "uses_truth": list(self.uses_truth),
            **({"footnote": _FOOTNOTE} if self.uses_truth else {}),
            "completion": {name: json_values(row) for name, row in self.completion.items()},
            "occluders": {name: json_values(row) for name, row in self.occluders.items()},
            "order": {name: json_values(row) for name, row in self.order.items()},
            "resamples": self.resamples,
            "confidence": self.confidence,
            "intervals": {
                section: {name: json_values(row) for name, row in rows.items()}
                for section, rows in self.intervals.items()
            },
            "by_occlusion": {name: [_json_bin(entry) for entry in bins] for name, bins in self.by_occlusion.items()},
            "groups": [_json_group(group) for group in self.groups],
            "reference": self.reference,
            "differences": {
                section: {
                    name: {key: _json_difference(entry) for key, entry in row.items()} for name, row in rows.items()
                }
                for section, rows in self.differences.items()
            },
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

    def _render(self, table: Table) -> str:
        parts = []
        if self.completion:
            given = "" if self.occluders_given else " without occluders given, each object alone"
            title = "Completion{given}, {objects} objects ({occluded} with a hidden part) in {images} images, percent"
            parts.append(title.format(given=given, **self.counts))
            parts.append(self._table(table, "completion", "method", _COMPLETION_COLUMNS))
            if any("matched" in row for row in self.completion.values()):
                parts.append("Matched objects, percent")
                parts.append(self._table(table, "completion", "method", _MATCH_COLUMNS))
            if any("sample_width" in row for row in self.completion.values()):
                parts.append("How far apart the samples of an object are: 1 less the mean IoU of two, percent")
                parts.append(self._table(table, "completion", "method", _WIDTH_COLUMNS, drawn_only=True))
            classes = "by class" if self.class_aware else "class-agnostic"
            title = f"Amodal AP (COCO, {classes}; detections are the completed masks, ranked alike), percent"
            parts += [title, self._table(table, "completion", "method", _AP_COLUMNS)]
        if self.occluders:
            title = "Predicted occluders against the union of the true ones, which {covered} of {objects} objects have"
            parts += [
                title.format(**self.counts) + ", percent",
                self._table(table, "occluders", "method", _OCCLUDER_COLUMNS),
            ]
        if self.order:
            source = {"masks": "computed from the masks", "annotated": "annotated"}[self.order_source]
            title = (
                f"Order accuracy, {self.counts['related']} related pairs ({self.counts['large']} with at least 30 px "
                f"hidden), true order {source}, percent"
            )
            parts += [title, self._table(table, "order", "order by", _ORDER_COLUMNS)]
        if self.differences:
            parts += [f"More than {self.reference}, in points", self._difference_table(table)]
        for kind in GROUP_KINDS:
            parts += self._group_table(table, kind)
        parts += self.notes(table)
        return "\n\n".join(parts) + "\n"

    def notes(self, table: Table) -> list[str]:
        """What stands under the tables: what the intervals are, the footnote of the mark, images that were skipped."""
        parts = []
        images = self.counts["images"]
        if self.resamples and images < 2:
            parts.append("No intervals: they come from resampling the images, which needs at least two.")
        elif self.resamples:
            few = " So few images give a rough idea only." if images < _FEW_IMAGES else ""
            parts.append(
                f"Intervals: percentiles, {100 * self.confidence:g} %, of {self.resamples} data sets drawn from the "
                f"{images} images with replacement.{few}"
            )
        if self.resamples and self.differences:
            parts.append("Of a difference, each data set that was drawn is given to both methods.")
        if self.uses_truth:
            parts.append(_FOOTNOTE if table is format_table else _FOOTNOTE.replace("*", "\\*"))
        if self.counts["skipped"]:
            parts.append(f"Skipped {self.counts['skipped']} images without objects or amodal masks.")
        return parts

    def _table(
        self, table: Table, section: str, corner: str, columns: Mapping[str, str], *, drawn_only: bool = False
    ) -> str:
        header = [corner, *columns.values(), "seconds"]
        rows: list[list[Cell]] = [
            [name, *(self.cell(section, name, key) for key in columns), f"{self.seconds[name]:.1f}"]
            for name, row in getattr(self, section).items()
            if not drawn_only or any(key in row for key in columns)
        ]
        return table(header, rows)

    def _difference_table(self, table: Table) -> str:
        """A row a method, with the metrics that it shares with the reference."""
        names = list(dict.fromkeys(name for rows in self.differences.values() for name in rows))
        shown = {
            (section, key): title
            for (section, key), title in _DIFFERENCE_COLUMNS.items()
            if any(key in row for row in self.differences.get(section, {}).values())
        }
        rows: list[list[Cell]] = []
        for name in names:
            found = [self.differences.get(section, {}).get(name, {}).get(key) for section, key in shown]
            rows.append([name, *(("–", "") if entry is None else _difference_cell(entry) for entry in found)])
        return table(["method", *shown.values()], rows)

    def _group_table(self, table: Table, kind: GroupKind) -> list[str]:
        """Title and table of the groups of a kind, a row a group and method; nothing where there is none."""
        groups = [group for group in self.groups if group.kind == kind]
        shown = [group for group in groups if group.occluded or kind == "source"][:_SHOWN_GROUPS]
        if not shown:
            return []
        columns = {key: title for key, title in _COMPLETION_COLUMNS.items() if key != "pixel_accuracy"}
        if any("sample_width" in metrics for group in shown for metrics in group.metrics.values()):
            columns |= _WIDTH_COLUMNS
        if kind == "source":
            columns |= {key: f"order, {title}" for key, title in _ORDER_COLUMNS.items() if key != "order_accuracy_all"}
        rows: list[list[Cell]] = []
        for group in shown:
            for method, metrics in group.metrics.items():
                ends = group.intervals.get(method, {})
                cells = [(percent(metrics.get(key, math.nan)), interval_text(ends.get(key))) for key in columns]
                rows.append([group.name, str(group.objects), str(group.occluded), method, *cells])
        left = f", {len(shown)} of {len(groups)} groups" if len(shown) < len(groups) else ""
        header = ["objects that are" if kind == "category" else kind, "objects", "hidden in part", "method"]
        return [f"{_GROUP_TITLES[kind]}{left}, percent", table([*header, *columns.values()], rows)]

    def cell(self, section: str, name: str, metric: str) -> Cell:
        """A metric of a method in percent, with its interval where there is one; "–" where it has none."""
        value = getattr(self, section)[name].get(metric, math.nan)
        return percent(value), interval_text(self.intervals.get(section, {}).get(name, {}).get(metric))


Cell = str | tuple[str, str]
"""A text, or a value and its interval ("" for none)."""

Table = Callable[[Sequence[str], Sequence[Sequence[Cell]]], str]


def format_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table for a terminal: first column to the left, the others to the right, two spaces between.

    Intervals stand in a line under their metrics.

    Example:
        >>> print(format_table(["method", "mIoU"], [["raw", ("74.8", "62.8–83.2")], ["convex", "81.3"]]))
        method       mIoU
        -----------------
        raw          74.8
                62.8–83.2
        convex       81.3
    """
    lines = [list(header)]
    for row in rows:
        parts = [(cell, "") if isinstance(cell, str) else cell for cell in row]
        lines.append([value for value, _ in parts])
        if any(interval for _, interval in parts):
            lines.append([interval for _, interval in parts])
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    texts = []
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        texts.append("  ".join([line[0].ljust(widths[0]), *cells[1:]]))
    texts.insert(1, "-" * len(texts[0]))
    return "\n".join(texts)


def format_markdown(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A Markdown table; numbers are aligned to the right, intervals stand in parentheses.

    Example:
        >>> print(format_markdown(["method", "mIoU"], [["raw", ("74.8", "62.8–83.2")], ["convex", "81.3"]]))
        | method | mIoU |
        | --- | ---: |
        | raw | 74.8 (62.8–83.2) |
        | convex | 81.3 |
    """
    rule = ["---", *("---:" for _ in header[1:])]
    texts = [[_with_interval(cell) for cell in row] for row in rows]
    lines = [[cell.replace("|", "\\|").replace("*", "\\*") for cell in line] for line in (header, rule, *texts)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _with_interval(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    value, interval = cell
    return f"{value} ({interval})" if interval else value


class _Report(Protocol):
    def to_json(self) -> str: ...
    def to_markdown(self) -> str: ...


def write_report(report: _Report, *, json_path: Path | None = None, markdown_path: Path | None = None) -> None:
    """Write a report, or a table of a paper, beside each path, then rename, so that nobody ever reads half a file.

    Example:
        >>> import tempfile
        >>> report = EvaluationReport({}, {}, {}, {"images": 1, "skipped": 0})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_report(report, json_path=Path(folder, "report.json"))
        ...     json.loads(Path(folder, "report.json").read_text())["counts"]
        {'images': 1, 'skipped': 0}
    """
    if json_path is not None:
        write_text(json_path, report.to_json())
    if markdown_path is not None:
        write_text(markdown_path, report.to_markdown())


def percent(value: float) -> str:
    """A fraction as percent with one decimal; "–" for NaN.

    Example:
        >>> percent(0.7483), percent(math.nan)
        ('74.8', '–')
    """
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def interval_text(interval: Interval | None) -> str:
    """An interval of fractions in percent; "" where there is none.

    Example:
        >>> interval_text((0.628, 0.832)), interval_text(None)
        ('62.8–83.2', '')
    """
    return "" if interval is None or math.isnan(interval[0]) else f"{percent(interval[0])}–{percent(interval[1])}"


def json_values(row: Mapping[str, float | Interval]) -> dict[str, Any]:
    """Metrics or intervals, rounded; NaN becomes None, as does an interval of NaN.

    Example:
        >>> json_values({"ap": 1 / 3, "ap_small": math.nan, "ar": (0.25, 0.5)})
        {'ap': 0.333333, 'ap_small': None, 'ar': [0.25, 0.5]}
    """
    return {key: _rounded(value) for key, value in row.items()}


def _rounded(value: float | Interval) -> Any:
    if isinstance(value, tuple):
        return None if math.isnan(value[0]) else [round(end, 6) for end in value]
    return None if math.isnan(value) else round(float(value), 6)


def _difference_cell(entry: Difference) -> Cell:
    """A difference in points with its sign, and its interval."""
    if math.isnan(entry.value):
        return "–", ""
    low, high = entry.interval
    ends = "" if math.isnan(low) else f"{_signed(low)} to {_signed(high)}"
    return _signed(entry.value), ends


def _signed(value: float) -> str:
    text = f"{100 * value:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def _json_difference(entry: Difference) -> dict[str, Any]:
    return {"value": _rounded(entry.value), "interval": _rounded(entry.interval)}


def _json_group(group: Group) -> dict[str, Any]:
    return {
        "kind": group.kind,
        "name": group.name,
        "objects": group.objects,
        "occluded": group.occluded,
        "images": group.images,
        "metrics": {name: json_values(row) for name, row in group.metrics.items()},
        "intervals": {name: json_values(row) for name, row in group.intervals.items()},
    }


def _json_bin(entry: OcclusionBin) -> dict[str, Any]:
    return {
        "low": entry.low,
        "high": entry.high,
        "objects": entry.objects,
        "metrics": json_values(entry.metrics),
        "intervals": json_values(entry.intervals),
    }
