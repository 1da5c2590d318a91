"""Metrics of amodal completion and occlusion order: pure functions and accumulators over a data set."""

from .accumulators import CompletionMetrics, OccluderMetrics, OrderMetrics
from .average_precision import AmodalAP
from .functional import (
    has_hidden_part,
    inv_miou_mean,
    inv_miou_pooled,
    iou_counts,
    miou_mean,
    miou_pooled,
    order_accuracy,
    order_counts,
    pixel_accuracy,
)

__all__ = [
    "AmodalAP",
    "CompletionMetrics",
    "OccluderMetrics",
    "OrderMetrics",
    "has_hidden_part",
    "inv_miou_mean",
    "inv_miou_pooled",
    "iou_counts",
    "miou_mean",
    "miou_pooled",
    "order_accuracy",
    "order_counts",
    "pixel_accuracy",
]
