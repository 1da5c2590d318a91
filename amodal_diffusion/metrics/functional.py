"""Completion and order metrics as pure functions [Z20].

"inv" (invisible) is what lies outside the modal mask. "pooled" sums over all objects before it divides, as the
published code does; "mean" is the mean over objects with a hidden part, as the papers say.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..masks import BoolArray, IntArray, MaskInput, to_mask_stack
from ..masks.packed import areas, pack
from ..ordering import check_order

IOU_COUNTS = ("intersection", "union", "target", "invisible_intersection", "invisible_union")
"""Columns of `iou_counts`."""

ORDER_COUNTS = ("right", "pairs", "right_related", "related", "right_large", "large")
"""Entries of `order_counts`."""

LARGE_OVERLAP = 30
"""Pixels of one object under the other from which a pair counts as large: fewer may be noise of the annotation."""


def iou_counts(pred: MaskInput, target: MaskInput, modal: MaskInput) -> IntArray:
    """Pixel counts that the IoU metrics are made of.

    Args:
        pred: (N, H, W) predicted amodal masks.
        target: (N, H, W) true amodal masks.
        modal: (N, H, W) visible masks.

    Returns:
        (N, 5) int64, columns of `IOU_COUNTS`: |pred ∩ target|, |pred ∪ target|, |target|, and the first two outside the
        modal mask. Empty masks count as such.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> modal = np.array([[[1, 1, 0, 0]]], dtype=bool)
        >>> target = np.array([[[1, 1, 1, 1]]], dtype=bool)
        >>> pred = np.array([[[1, 1, 1, 0]]], dtype=bool)
        >>> iou_counts(pred, target, modal)
        array([[3, 4, 4, 1, 2]])
    """
    return object_counts(pred, target, modal)[:, :5]


def sample_widths(samples: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """How far apart the K samples of each object are: 1 less the mean IoU of two of them.

    Args:
        samples: (N, K, H, W) bool, K at least 2.

    Returns:
        (N,) in [0, 1]: 0 where all samples are the same, empty ones among them; 1 where no two have a pixel in common.

    Raises:
        ValueError: fewer than two samples.

    Example:
        >>> samples = np.array([[[[1, 1, 0, 0]], [[1, 1, 1, 1]]], [[[1, 0, 0, 0]], [[1, 0, 0, 0]]]], dtype=bool)
        >>> sample_widths(samples)
        array([0.5, 0. ])
    """
    count = samples.shape[1]
    if count < 2:
        raise ValueError(f"`samples` must hold at least 2 samples of each object, got {count}.")
    first, second = np.triu_indices(count, k=1)
    widths = np.zeros(len(samples))
    for index, drawn in enumerate(samples):  # all at once would take as many floats as there are pixels
        flat = drawn.reshape(count, -1)
        planes = flat[:, flat.any(axis=0)].astype(np.float32)
        common = planes @ planes.T
        sizes = np.diagonal(common)
        union = sizes[first] + sizes[second] - common[first, second]
        widths[index] = 1 - np.where(union > 0, common[first, second] / np.maximum(union, 1), 1).mean()
    return widths


def object_counts(pred: MaskInput, target: MaskInput, modal: MaskInput) -> IntArray:
    """The columns of `iou_counts`, then the hidden pixels |target outside modal|: (N, 6) int64.

    Example:
        >>> modal = np.array([[[1, 1, 0, 0]]], dtype=bool)
        >>> target = np.array([[[1, 1, 1, 1]]], dtype=bool)
        >>> pred = np.array([[[1, 1, 1, 0]]], dtype=bool)
        >>> object_counts(pred, target, modal)
        array([[3, 4, 4, 1, 2, 2]])
    """
    p, t, m = (pack(stack) for stack in _same_shape(pred=pred, target=target, modal=modal))
    parts = (p & t, p | t, t, p & t & ~m, (p | t) & ~m, t & ~m)
    return np.stack([areas(part) for part in parts], axis=1)


def has_hidden_part(target: MaskInput, modal: MaskInput) -> BoolArray:
    """Which objects have pixels of `target` outside `modal`, both (N, H, W): (N,) bool.

    Example:
        >>> modal = np.array([[[1, 1, 0]], [[1, 1, 0]]], dtype=bool)
        >>> target = np.array([[[1, 1, 1]], [[1, 1, 0]]], dtype=bool)
        >>> has_hidden_part(target, modal)
        array([ True, False])
    """
    return object_counts(target, target, modal)[:, 5] > 0


def miou_pooled(pred: MaskInput, target: MaskInput) -> float:
    """Sum of intersections over sum of unions of all objects, in [0, 1]; NaN where both sides are empty [Z20].

    Example:
        >>> pred = np.array([[[1, 1, 1, 0]]], dtype=bool)
        >>> miou_pooled(pred, np.ones((1, 1, 4), dtype=bool))
        0.75
    """
    counts = iou_counts(pred, target, target)
    return ratio(counts[:, 0].sum(), counts[:, 1].sum())


def inv_miou_pooled(pred: MaskInput, target: MaskInput, modal: MaskInput) -> float:
    """The pooled mIoU outside the modal masks; NaN where nothing is hidden and nothing was predicted there [Z20].

    Example:
        >>> modal = np.array([[[1, 1, 0, 0]]], dtype=bool)
        >>> target = np.array([[[1, 1, 1, 1]]], dtype=bool)
        >>> pred = np.array([[[1, 1, 1, 0]]], dtype=bool)
        >>> inv_miou_pooled(pred, target, modal)
        0.5
    """
    counts = iou_counts(pred, target, modal)
    return ratio(counts[:, 3].sum(), counts[:, 4].sum())


def miou_mean(pred: MaskInput, target: MaskInput, modal: MaskInput) -> float:
    """Mean IoU over the objects with a hidden part; NaN where there is none.

    Example:
        >>> modal = np.array([[[1, 1, 0, 0]]], dtype=bool)
        >>> target = np.array([[[1, 1, 1, 1]]], dtype=bool)
        >>> pred = np.array([[[1, 1, 1, 0]]], dtype=bool)
        >>> miou_mean(pred, target, modal)
        0.75
    """
    counts = occluded(object_counts(pred, target, modal))
    return ratio((counts[:, 0] / counts[:, 1]).sum(), len(counts))


def miou_mean_all(pred: MaskInput, target: MaskInput) -> float:
    """Mean IoU over all objects, those with nothing hidden too [Z24]; NaN where there is none.

    An object with an empty truth and an empty prediction does not count.

    Example:
        >>> target = np.array([[[1, 1, 1, 1]], [[1, 1, 0, 0]]], dtype=bool)
        >>> pred = np.array([[[1, 1, 1, 0]], [[1, 1, 0, 0]]], dtype=bool)
        >>> miou_mean_all(pred, target)
        0.875
    """
    counts = iou_counts(pred, target, target)
    counts = counts[counts[:, 1] > 0]
    return ratio((counts[:, 0] / counts[:, 1]).sum(), len(counts))


def inv_miou_mean(pred: MaskInput, target: MaskInput, modal: MaskInput) -> float:
    """Mean IoU outside the modal mask over the objects with a hidden part; NaN where there is none.

    Example:
        >>> modal = np.array([[[1, 1, 0, 0]]], dtype=bool)
        >>> target = np.array([[[1, 1, 1, 1]]], dtype=bool)
        >>> pred = np.array([[[1, 1, 1, 0]]], dtype=bool)
        >>> inv_miou_mean(pred, target, modal)
        0.5
        >>> inv_miou_mean(modal, modal, modal)  # nothing is hidden
        nan
    """
    counts = occluded(object_counts(pred, target, modal))
    return ratio((counts[:, 3] / counts[:, 4]).sum(), len(counts))


def pixel_accuracy(pred: MaskInput, target: MaskInput) -> float:
    """Right pixels over all pixels of all (N, H, W) masks, background included; NaN without pixels.

    Example:
        >>> pred = np.array([[[1, 1, 1, 0]]], dtype=bool)
        >>> pixel_accuracy(pred, np.ones((1, 1, 4), dtype=bool))
        0.75
    """
    pred, target = _same_shape(pred=pred, target=target)
    wrong = areas(pack(pred) ^ pack(target)).sum()
    return ratio(pred.size - wrong, pred.size)


def order_counts(pred: npt.ArrayLike, target: npt.ArrayLike, overlaps: npt.ArrayLike | None = None) -> IntArray:
    """Counts of pairs i < j that the order metrics are made of.

    Args:
        pred: (N, N) predicted order matrix.
        target: (N, N) true order matrix.
        overlaps: (N, N) pixels of `hidden_overlaps`; where None, no pair is large.

    Returns:
        (6,) int64, entries of `ORDER_COUNTS`: right pairs, all pairs, right among the pairs that are related in
        `target`, related pairs, and the last two again for pairs of which one hides at least `LARGE_OVERLAP` pixels of
        the other.

    Raises:
        ValueError: a matrix that is not an order matrix, or sizes that differ.

    Example:
        >>> target = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]])
        >>> order_counts(np.zeros((3, 3), dtype=int), target)
        array([2, 3, 0, 1, 0, 0])
        >>> order_counts(target, target, overlaps=[[0, 45, 0], [3, 0, 0], [0, 0, 0]])
        array([3, 3, 1, 1, 1, 1])
    """
    target = check_order(target)
    pred = check_order(pred, len(target))
    hidden = np.zeros(target.shape, np.int64) if overlaps is None else np.asarray(overlaps)
    if hidden.shape != target.shape:
        raise ValueError(f"`overlaps` must be {target.shape}, got {hidden.shape}")
    upper = np.triu_indices(len(target), k=1)
    right, related = (pred == target)[upper], (target != 0)[upper]
    large = related & (np.maximum(hidden, hidden.T) >= LARGE_OVERLAP)[upper]
    counts = (right.sum(), right.size, (right & related).sum(), related.sum(), (right & large).sum(), large.sum())
    return np.array(counts, dtype=np.int64)


def order_accuracy(pred: npt.ArrayLike, target: npt.ArrayLike, *, related: bool = True) -> float:
    """Right pairs over pairs related in `target`, or over all pairs; in [0, 1], NaN without such pairs [Z20].

    Example:
        >>> target = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]])
        >>> order_accuracy(target, target)
        1.0
        >>> order_accuracy(-target, target), order_accuracy(np.zeros((3, 3), dtype=int), target, related=False)
        (0.0, 0.6666666666666666)
    """
    right, pairs, right_related, related_pairs = order_counts(pred, target)[:4]
    return ratio(right_related, related_pairs) if related else ratio(right, pairs)


def depth_order_counts(pred: npt.ArrayLike, target: npt.ArrayLike, known: npt.ArrayLike | None = None) -> IntArray:
    """Counts of pairs i < j that the disagreement on depth orders is made of, see `ordering.depth_order`.

    Args:
        pred: (N, N) predicted depth order.
        target: (N, N) true depth order.
        known: (N,) bool, the depths of the object are known; None for all. Other pairs do not count.

    Returns:
        (4,) int64: wrong pairs and all pairs of which one is closer in `target`, then of those that overlap.

    Raises:
        ValueError: a matrix that is not an order matrix, or sizes that differ.

    Example:
        >>> target = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]])
        >>> depth_order_counts(np.zeros((3, 3), dtype=int), target)
        array([1, 1, 0, 2])
    """
    target = check_order(target)
    pred = check_order(pred, len(target))
    told = np.ones(len(target), bool) if known is None else np.asarray(known, dtype=bool)
    if told.shape != (len(target),):
        raise ValueError(f"`known` must be ({len(target)},), got {told.shape}")
    pairs = np.triu(told[:, None] & told, k=1)
    wrong, distinct = pred != target, target != 0
    parts = (pairs & distinct & wrong, pairs & distinct, pairs & ~distinct & wrong, pairs & ~distinct)
    return np.array([part.sum() for part in parts], dtype=np.int64)


def depth_disagreement(counts: npt.ArrayLike) -> dict[str, npt.NDArray[np.float64]]:
    """The share of pairs on which depth orders disagree: InstaOrder's WHDR with all weights 1.

    Its weights are those of pairs that several people were asked about; what is computed from depths is certain.

    Args:
        counts: (R, 4) or (4,), sums of `depth_order_counts`.

    Returns:
        `whdr` of all pairs, `whdr_distinct` of those of which one is closer, `whdr_overlapping` of the others, each
        (R,) or a number, NaN where there is no such pair.

    Example:
        >>> {name: float(value) for name, value in depth_disagreement([1, 4, 0, 1]).items()}
        {'whdr': 0.2, 'whdr_distinct': 0.25, 'whdr_overlapping': 0.0}
    """
    wrong, distinct, missed, overlapping = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return {
        "whdr": ratios(wrong + missed, distinct + overlapping),
        "whdr_distinct": ratios(wrong, distinct),
        "whdr_overlapping": ratios(missed, overlapping),
    }


def occluded(counts: IntArray) -> IntArray:
    """The rows of `object_counts` of objects with a hidden part.

    Example:
        >>> counts = np.array([[4, 6, 5, 1, 2, 2], [3, 3, 3, 0, 0, 0]])
        >>> occluded(counts)
        array([[4, 6, 5, 1, 2, 2]])
    """
    return counts[counts[:, 5] > 0]


def ratio(part: Any, whole: Any) -> float:
    """Part over whole, NaN where whole is 0: nothing was there to measure.

    Example:
        >>> ratio(1, 4), ratio(0, 0)
        (0.25, nan)
    """
    return float(part) / float(whole) if whole else float("nan")


def ratios(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """`ratio`, element by element of arrays of one shape.

    Example:
        >>> ratios(np.array([1, 0]), np.array([4, 0]))
        array([0.25,  nan])
    """
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)


def _same_shape(**masks: MaskInput) -> list[BoolArray]:
    stacks = {name: to_mask_stack(value, allow_faint=True) for name, value in masks.items()}
    if len({stack.shape for stack in stacks.values()}) > 1:
        shapes = ", ".join(f"`{name}` {stack.shape}" for name, stack in stacks.items())
        raise ValueError(f"masks must have the same shape, got {shapes}")
    return list(stacks.values())
