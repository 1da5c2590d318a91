"""The papers' tables and curves: their published numbers, and ours beside them."""

from .curves import CurveReport, draw_occlusion_curves
from .published import OCCLUSION_BINS, PAPER_TABLES, PaperTable, PublishedData, PublishedRow
from .tables import DIFFERS, TableMethod, TableReport, table_methods

__all__ = [
    "DIFFERS", "OCCLUSION_BINS", "PAPER_TABLES", "CurveReport", "PaperTable", "PublishedData", "PublishedRow",
    "TableMethod", "TableReport", "draw_occlusion_curves", "table_methods",
]  # fmt: skip
