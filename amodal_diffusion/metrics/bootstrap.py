"""Bootstrap confidence intervals over images, from what the metrics count of each image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from ..arguments.numeric import check_integer, check_number

FloatArray = npt.NDArray[np.float64]
Interval = tuple[float, float]

MOST_RESAMPLES = 10**6
_BLOCK = 2**22
"""Weights held at once: a resample has one for each image."""


def resample_weights(images: int, resamples: int, *, seed: int = 0) -> Iterator[npt.NDArray[np.int64]]:
    """How often each image is drawn in each resample of as many images, drawn with replacement.

    The weights depend on the three numbers alone, so that all methods of a table see the same resamples.

    Args:
        images: number of images I, at least 1.
        resamples: number of resamples R.
        seed: of the draws.

    Yields:
        (B, I) int64 blocks, R rows in all; each row sums to I.

    Example:
        >>> weights = np.concatenate(list(resample_weights(images=4, resamples=3)))
        >>> weights.shape, weights.sum(axis=1)
        ((3, 4), array([4, 4, 4]))
    """
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // images)
    for start in range(0, resamples, block):
        yield generator.multinomial(images, np.full(images, 1 / images), size=min(block, resamples - start))


def percentile_intervals(values: Mapping[str, FloatArray], confidence: float) -> dict[str, Interval]:
    """The central interval of each metric's values (R,) over the resamples.

    NaN values, of resamples that had nothing to measure, are left out; (NaN, NaN) where none is left.

    Example:
        >>> percentile_intervals({"miou": np.arange(101.0)}, confidence=0.5)
        {'miou': (25.0, 75.0)}
    """
    tails = (50 * (1 - confidence), 50 * (1 + confidence))
    intervals = {}
    for name, column in values.items():
        known = column[~np.isnan(column)]
        low, high = np.percentile(known, tails) if len(known) else (np.nan, np.nan)
        intervals[name] = float(low), float(high)
    return intervals


def bootstrap_intervals(
    terms: npt.ArrayLike,
    metrics: Callable[[FloatArray], Mapping[str, FloatArray]],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile intervals of metrics that are formulas of sums over images.

    Args:
        terms: (I, K) what was counted of each image, e.g. by `CompletionMetrics.count`.
        metrics: the metrics of sums (R, K), each (R,), e.g. `CompletionMetrics.from_totals`.
        resamples: data sets drawn from the images with replacement.
        confidence: share of their metrics between the ends of an interval, in (0, 1).
        seed: of the draws.

    Returns:
        Metric → (low, high); (NaN, NaN) where there is nothing to draw from: fewer than two images.

    Raises:
        TypeError: `resamples` or `seed` that is no integer, `confidence` that is no number.
        ValueError: `resamples` below 1, `seed` below 0, `confidence` outside of (0, 1).

    Example:
        >>> terms = np.array([[1, 2], [2, 2], [1, 4]])  # intersection and union of three images
        >>> intervals = bootstrap_intervals(terms, lambda sums: {"miou": sums[:, 0] / sums[:, 1]}, resamples=100)
        >>> low, high = intervals["miou"]
        >>> 0.25 <= low < high <= 1
        True
    """
    check_bootstrap(resamples, confidence, seed)
    return percentile_intervals(resampled_metrics(terms, metrics, resamples=resamples, seed=seed), confidence)


def resampled_metrics(
    terms: npt.ArrayLike,
    metrics: Callable[[FloatArray], Mapping[str, FloatArray]],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, FloatArray]:
    """The metrics of each resample of the images; those of two methods on the same images are pairs.

    Args:
        terms: (I, K) what was counted of each image, see `bootstrap_intervals`.
        metrics: the metrics of sums (R, K), each (R,).
        resamples: R.
        seed: of the draws.

    Returns:
        Metric → (R,) values; (1,) NaN where there is nothing to draw from: fewer than two images.

    Example:
        >>> terms = np.array([[1, 2], [2, 2], [1, 4]])
        >>> resampled_metrics(terms, lambda sums: {"miou": sums[:, 0] / sums[:, 1]}, resamples=100)["miou"].shape
        (100,)
    """
    rows = np.asarray(terms, np.float64)
    if len(rows) < 2:
        return {name: np.full(1, np.nan) for name in metrics(np.zeros((1, rows.shape[1])))}
    totals = np.concatenate([weights @ rows for weights in resample_weights(len(rows), resamples, seed=seed)])
    return dict(metrics(totals))


def difference_intervals(
    values: Mapping[str, FloatArray], others: Mapping[str, FloatArray], confidence: float
) -> dict[str, Interval]:
    """Intervals of the differences of two methods, paired: each resample of the images is given to both.

    What is hard or easy for both then cancels, so that these are narrower than the intervals of the two would suggest.

    Args:
        values: metric → (R,) values of one method, of `resampled_metrics`.
        others: those of the other, of the same images, resamples and seed.
        confidence: of the intervals.

    Returns:
        Metric → (low, high) of values minus others, for the metrics of both.

    Example:
        >>> two = {"miou": np.array([0.7, 0.9, 0.8])}, {"miou": np.array([0.6, 0.8, 0.7])}
        >>> low, high = difference_intervals(*two, confidence=0.95)["miou"]
        >>> round(low, 3), round(high, 3)
        (0.1, 0.1)
    """
    shared = {name: values[name] - others[name] for name in values if name in others}
    return percentile_intervals(shared, confidence)


def check_bootstrap(resamples: int, confidence: float, seed: int = 0) -> None:
    """Raise ValueError naming the argument that is out of range, TypeError the one that is of another kind.

    Example:
        >>> check_bootstrap(resamples=1000, confidence=0.95)
        >>> check_bootstrap(resamples=0, confidence=0.95)
        Traceback (most recent call last):
            ...
        ValueError: `resamples` must lie in [1, 1000000], got 0.
    """
    check_integer("resamples", resamples, 1, MOST_RESAMPLES)
    check_integer("seed", seed, 0)
    check_number("confidence", confidence, above=0, below=1)
