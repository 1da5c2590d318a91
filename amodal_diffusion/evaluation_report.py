"""The figures of an evaluation as tables for a terminal, Markdown and JSON."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .export import write_text

OrderSource = Literal["masks", "annotated"]

TRUTH_MARK = " *"
"""Stands behind the name of a method that looks at the truth."""

_FOOTNOTE = (
    "* looks at the ground truth of the objects that it completes: a bound on what a choice can gain, no result."
)

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
_OCCLUDER_COLUMNS = {
    "iou_pooled": "IoU pooled",
    "iou_mean": "IoU mean",
    "crop_iou_pooled": "in crop pooled",
    "crop_iou_mean": "in crop mean",
    "found": "found if any",
    "left_empty": "empty if none",
}


@dataclass
class EvaluationReport:
    """Figures of `evaluate_methods`; every metric is a fraction in [0, 1], NaN where nothing was there to count.

    Args:
        completion: method → metric → value, for the methods that predicted masks.
        order: method → metric → value, for the methods that predicted an order.
        seconds: method → seconds spent in its calls.
        counts: images, objects, occluded (objects with a hidden part), covered (objects with a visible occluder by the
            true order), related (pairs with a relation in the ground truth), skipped (images without amodal masks).
        order_source: where the true order came from, "masks" or "annotated".
        occluders: method → metric → value, for the methods that predicted the occluders.
        occluders_given: False where every object was completed alone, without the masks of the others.
        uses_truth: names of the methods that look at the truth, each with `TRUTH_MARK` at its end.
    """

    completion: dict[str, dict[str, float]]
    order: dict[str, dict[str, float]]
    seconds: dict[str, float]
    counts: dict[str, int]
    order_source: OrderSource = "masks"
    occluders: dict[str, dict[str, float]] = field(default_factory=dict)
    occluders_given: bool = True
    uses_truth: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values that JSON takes; NaN becomes None."""
        return {
            "counts": dict(self.counts),
            "order_source": self.order_source,
            "occluders_given": self.occluders_given,
            "uses_truth": list(self.uses_truth),
            **({"footnote": _FOOTNOTE} if self.uses_truth else {}),
            "completion": {name: _json_values(row) for name, row in self.completion.items()},
            "occluders": {name: _json_values(row) for name, row in self.occluders.items()},
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
            given = "" if self.occluders_given else " without occluders given, each object alone"
            title = "Completion{given}, {objects} objects ({occluded} with a hidden part) in {images} images, percent"
            parts.append(title.format(given=given, **self.counts))
            parts.append(table(*self._rows("method", _COMPLETION_COLUMNS, self.completion)))
            title = "Amodal AP (COCO, class-agnostic; detections are the completed masks, ranked alike), percent"
            parts += [title, table(*self._rows("method", _AP_COLUMNS, self.completion))]
        if self.occluders:
            title = "Predicted occluders against the union of the true ones, which {covered} of {objects} objects have"
            parts += [
                title.format(**self.counts) + ", percent",
                table(*self._rows("method", _OCCLUDER_COLUMNS, self.occluders)),
            ]
        if self.order:
            source = {"masks": "computed from the masks", "annotated": "annotated"}[self.order_source]
            title = f"Order accuracy, {self.counts['related']} related pairs, true order {source}, percent"
            parts += [title, table(*self._rows("order by", _ORDER_COLUMNS, self.order))]
        if self.uses_truth:
            parts.append(_FOOTNOTE if table is format_table else _FOOTNOTE.replace("*", "\\*"))
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
    lines = [[cell.replace("|", "\\|").replace("*", "\\*") for cell in line] for line in (header, rule, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_report(report: EvaluationReport, *, json_path: Path | None = None, markdown_path: Path | None = None) -> None:
    """Write the report beside each path, then rename, so that a reader never sees half a file."""
    if json_path is not None:
        write_text(json_path, report.to_json())
    if markdown_path is not None:
        write_text(markdown_path, report.to_markdown())


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def _json_values(row: Mapping[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else round(float(value), 6) for key, value in row.items()}
