"""Metrics of amodal completion and occlusion order: pure functions and accumulators over a data set."""

from .accumulators import CompletionMetrics, MatchMetrics, OccluderMetrics, OrderMetrics
from .average_precision import AmodalAP, ImageMatches, match_detections
from .bootstrap import bootstrap_intervals, percentile_intervals, resample_weights
from .functional import (
    has_hidden_part,
    inv_miou_mean,
    inv_miou_pooled,
    iou_counts,
    miou_mean,
    miou_pooled,
    object_counts,
    order_accuracy,
    order_counts,
    pixel_accuracy,
)

__all__ = [
    "AmodalAP",
    "CompletionMetrics",
    "ImageMatches",
    "MatchMetrics",
    "OccluderMetrics",
    "OrderMetrics",
    "bootstrap_intervals",
    "has_hidden_part",
    "inv_miou_mean",
    "inv_miou_pooled",
    "iou_counts",
    "match_detections",
    "miou_mean",
    "miou_pooled",
    "object_counts",
    "order_accuracy",
    "order_counts",
    "percentile_intervals",
    "pixel_accuracy",
    "resample_weights",
]
