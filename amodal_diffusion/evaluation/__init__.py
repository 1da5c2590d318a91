"""Compare completion and order methods on images with amodal ground truth.

A method is an object with a `name` that maps a `Sample` to a `Prediction`. The baselines are registered in `METHODS`;
any pipeline that `AmodalPipeline` loads becomes one through `PipelineMethod`. A method may predict masks, an order
matrix and occluders: `evaluate_methods` scores what it gives and leaves the rest out of the tables. With
`occluders_given=False` every object is completed alone, as a user with a photo and one mask has it. A method that looks
at the truth (`uses_truth`) gets a " *" behind its name wherever its figures are, and a footnote in the tables.
"""

from .calls import call_pipeline, check_call_options, load_pipeline
from .detections import DetectedMethod, DetectionResults, ResultsMethod, match_boxes
from .loading import load_methods
from .methods import METHODS, NEAREST_MASK, AloneMethod, MaskBaseline, PipelineMethod
from .model_card import evaluation_results, update_model_card
from .papers import (
    DIFFERS,
    OCCLUSION_BINS,
    PAPER_TABLES,
    CurveReport,
    PaperTable,
    PublishedData,
    PublishedRow,
    TableMethod,
    TableReport,
    draw_occlusion_curves,
    table_methods,
)
from .posterior import PosteriorDraws, PosteriorMethod, TrueBoxMethod, posterior_methods
from .report import TRUTH_MARK, EvaluationReport, OcclusionBin, format_markdown, format_table, write_report
from .runs import ORDER_BASELINES, evaluate_methods
from .samples import ORDER_SOURCES, Detections, Method, OrderSource, Prediction, Sample, make_sample

__all__ = [
    "DIFFERS", "METHODS", "NEAREST_MASK", "OCCLUSION_BINS", "ORDER_BASELINES", "ORDER_SOURCES", "PAPER_TABLES",
    "TRUTH_MARK", "AloneMethod", "CurveReport", "DetectedMethod", "DetectionResults", "Detections",
    "EvaluationReport", "MaskBaseline", "Method", "OcclusionBin", "OrderSource", "PaperTable", "PipelineMethod",
    "PosteriorDraws", "PosteriorMethod", "Prediction", "PublishedData", "PublishedRow", "ResultsMethod", "Sample",
    "TableMethod", "TableReport", "TrueBoxMethod", "call_pipeline", "check_call_options", "draw_occlusion_curves",
    "evaluate_methods", "evaluation_results", "format_markdown", "format_table", "load_methods", "load_pipeline",
    "make_sample", "match_boxes", "posterior_methods", "table_methods", "update_model_card", "write_report",
]  # fmt: skip
