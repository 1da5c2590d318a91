"""Figure 12 of [Z20]: the pooled mIoU of each method by the hidden share of the objects, as a table and a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image

from ...arguments.choices import check_choice
from ...visualization import Curve, draw_curves
from ..report import Cell, EvaluationReport, interval_text, percent
from .tables import DIFFERS, TableReport

METRICS = {"miou_pooled": "mIoU", "inv_miou_pooled": "inv-mIoU"}


class CurveReport(TableReport):
    """The table of a figure: a row a method and a column a bin of the hidden share; see `TableReport`.

    The evaluation must have been run with `occlusion_bins`.

    Example:
        >>> import numpy as np
        >>> from amodal_diffusion.evaluation import METHODS, evaluate_methods
        >>> from amodal_diffusion.masks import encode_rle
        >>> whole, front = np.zeros((2, 4, 6), bool)
        >>> whole[:, :4], front[:2, 2:] = True, True
        >>> objects = [
        ...     {"modal_mask": encode_rle(modal), "amodal_mask": encode_rle(amodal), "category_id": None}
        ...     for modal, amodal in ((whole & ~front, whole), (front, front))
        ... ]
        >>> row = {"image_id": 1, "height": 4, "width": 6, "objects": objects}
        >>> from amodal_diffusion.evaluation import OCCLUSION_BINS, PAPER_TABLES, table_methods
        >>> table = PAPER_TABLES["z20-fig12"]
        >>> entries = table_methods(table, [METHODS["raw"]])
        >>> methods = [entry.method for entry in entries]
        >>> report = evaluate_methods([row], methods, order_methods=(), occlusion_bins=OCCLUSION_BINS)
        >>> CurveReport(table, entries, report, "corner.json").draw(size=200).width
        200
    """

    def draw(self, *, metric: str = "miou_pooled", size: int = 1000) -> Image.Image:
        """The curves as an RGB picture, with the intervals as bands; see `draw_occlusion_curves`."""
        return draw_occlusion_curves(self.evaluation, metric=metric, size=size)

    def _side_by_side(self) -> tuple[list[str], list[list[Cell]]]:
        bins = self.evaluation.by_occlusion
        shown: Sequence[Any] = next(iter(bins.values()), ())
        mark = DIFFERS if self.all_differences() else ""
        ranges = [f"{100 * entry.low:g}–{100 * entry.high:g} %" for entry in shown]
        counts: list[Cell] = ["objects", *(str(entry.objects) for entry in shown)]
        rows: list[list[Cell]] = [
            [
                name,
                *((percent(e.metrics["miou_pooled"]), interval_text(e.intervals.get("miou_pooled"))) for e in entries),
            ]
            for name, entries in bins.items()
        ]
        return [f"hidden share{mark}", *ranges], [counts, *rows]


def draw_occlusion_curves(report: EvaluationReport, *, metric: str = "miou_pooled", size: int = 1000) -> Image.Image:
    """Draw a metric of each method over the hidden share of the objects.

    Args:
        report: of `evaluate_methods` with `occlusion_bins`.
        metric: "miou_pooled" or "inv_miou_pooled".
        size: pixels of the longer side.

    Raises:
        ValueError: the report has no bins, or another metric.

    Example:
        >>> import numpy as np
        >>> from amodal_diffusion.evaluation import METHODS, evaluate_methods
        >>> from amodal_diffusion.masks import encode_rle
        >>> whole, front = np.zeros((2, 4, 6), bool)
        >>> whole[:, :4], front[:2, 2:] = True, True
        >>> objects = [
        ...     {"modal_mask": encode_rle(modal), "amodal_mask": encode_rle(amodal), "category_id": None}
        ...     for modal, amodal in ((whole & ~front, whole), (front, front))
        ... ]
        >>> row = {"image_id": 1, "height": 4, "width": 6, "objects": objects}
        >>> report = evaluate_methods([row], [METHODS["raw"]], order_methods=(), occlusion_bins=(0, 0.5, 1))
        >>> draw_occlusion_curves(report, size=200).mode
        'RGB'
    """
    if not report.by_occlusion:
        raise ValueError("`report` has no bins: evaluate with `occlusion_bins`.")
    check_choice("metric", metric, METRICS)
    curves = []
    for name, bins in report.by_occlusion.items():
        known = [entry for entry in bins if not math.isnan(entry.metrics[metric])]
        intervals = [entry.intervals.get(metric, (math.nan, math.nan)) for entry in known]
        curves.append(
            Curve(
                name,
                [50 * (entry.low + entry.high) for entry in known],
                [100 * entry.metrics[metric] for entry in known],
                [(100 * low, 100 * high) for low, high in intervals],
            )
        )
    return draw_curves(
        curves, x_label="hidden share of the object, percent", y_label=f"{METRICS[metric]}, percent", size=size
    )
