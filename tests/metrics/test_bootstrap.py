"""Intervals over resampled images: each resample must give the metrics of the data set that it stands for."""

import math

import numpy as np
import pytest

from amodal_diffusion.metrics import (
    AmodalAP,
    CompletionMetrics,
    MatchMetrics,
    OrderMetrics,
    bootstrap_intervals,
    difference_intervals,
    object_counts,
    percentile_intervals,
    resample_weights,
    resampled_metrics,
)


def random_masks(generator, count, size=40):
    masks = np.zeros((count, size, size), bool)
    for mask in masks:
        top, left = generator.integers(0, size - 12, 2)
        height, width = generator.integers(4, 12, 2)
        mask[top : top + height, left : left + width] = True
    return masks


def random_images(count, seed=0):
    generator = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        target = random_masks(generator, 4)
        modal = target & (generator.random(target.shape) < 0.8)
        pred = np.roll(target, generator.integers(0, 4), axis=2)
        images.append((pred, target, modal))
    return images


def drawn(images, seed):
    """The images of the first resample, each as often as it was drawn."""
    ((weights,),) = resample_weights(len(images), 1, seed=seed)
    return [image for image, weight in zip(images, weights, strict=True) for _ in range(weight)]


def test_weights_are_draws_with_replacement():
    blocks = list(resample_weights(7, 500, seed=3))
    weights = np.concatenate(blocks)
    assert weights.shape == (500, 7) and (weights.sum(axis=1) == 7).all() and (weights >= 0).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.2)
    assert weights.std() == pytest.approx(math.sqrt(6 / 7), abs=0.05)  # multinomial: variance 1 - 1 / 7
    np.testing.assert_array_equal(weights, np.concatenate(list(resample_weights(7, 500, seed=3))))
    assert (weights != np.concatenate(list(resample_weights(7, 500, seed=4)))).any()


def test_blocks_do_not_change_the_draws(monkeypatch):
    whole = np.concatenate(list(resample_weights(7, 50, seed=1)))
    monkeypatch.setattr("amodal_diffusion.metrics.bootstrap._BLOCK", 20)
    blocks = list(resample_weights(7, 50, seed=1))
    assert len(blocks) == 25
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize("seed", range(3))
def test_a_resample_equals_the_evaluation_of_its_images(seed):
    images = random_images(6)
    terms = [CompletionMetrics.count(*image) for image in images]
    intervals = bootstrap_intervals(terms, CompletionMetrics.from_totals, resamples=1, seed=seed)
    repeated = CompletionMetrics()
    for image in drawn(images, seed):
        repeated.update(*image)
    for name, value in repeated.compute().items():
        assert intervals[name] == pytest.approx((value, value))


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_resample_has_the_ap_that_pycocotools_gives(seed, classes):
    generator = np.random.default_rng(seed)
    images = []
    for pred, target, _ in random_images(6, seed):
        found = np.concatenate([pred, random_masks(generator, 3)])
        kinds = {"pred_categories": [1, 2, 2, 5, 1, 2, 5], "target_categories": [1, 2, 2, 2]} if classes else {}
        images.append(((found, target, generator.random(len(found))), kinds))
    metric, repeated = AmodalAP(), AmodalAP()
    for arguments, options in images:
        metric.update(*arguments, **options)
    for arguments, options in drawn(images, seed):
        repeated.update(*arguments, **options)
    intervals = metric.intervals(resamples=1, seed=seed)
    expected = repeated.compute()
    assert 0.05 < expected["ap"] < 0.95  # otherwise nothing would be compared
    for name, value in expected.items():
        assert intervals[name] == pytest.approx((value, value), nan_ok=True), name


def test_intervals_hold_the_figure_and_shrink_with_images():
    widths = []
    for count in (10, 160):
        terms = [CompletionMetrics.count(*image) for image in random_images(count)]
        low, high = bootstrap_intervals(terms, CompletionMetrics.from_totals, resamples=400)["miou_pooled"]
        value = CompletionMetrics.from_totals(np.sum(terms, axis=0))["miou_pooled"]
        assert low < value < high
        widths.append(high - low)
    assert widths[1] < 0.7 * widths[0]
    wide = bootstrap_intervals(terms, CompletionMetrics.from_totals, resamples=400, confidence=0.99)["miou_pooled"]
    assert wide[0] < low and wide[1] > high


def test_resamples_without_anything_to_measure_are_left_out():
    """One image of two has a related pair, so that a quarter of the resamples has none."""
    terms = [[0, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]
    intervals = bootstrap_intervals(terms, OrderMetrics.from_totals, resamples=200)
    assert intervals["order_accuracy"] == (1, 1)
    assert intervals["order_accuracy_all"] == (0, 1)
    nothing = percentile_intervals({"x": np.full(3, np.nan)}, 0.95)["x"]
    assert all(math.isnan(end) for end in nothing)


def test_differences_are_paired():
    """A method that is a little worse on every image is surely worse, however much the images differ."""
    images = random_images(12)
    better = [CompletionMetrics.count(*image) for image in images]
    worse = [terms.copy() for terms in better]
    for terms in worse:
        terms[0] *= 0.98  # the intersection
    two = [resampled_metrics(terms, CompletionMetrics.from_totals, resamples=300) for terms in (better, worse)]
    low, high = difference_intervals(*two, confidence=0.95)["miou_pooled"]
    alone = percentile_intervals(two[0], 0.95)["miou_pooled"]
    assert 0 < low < high and high - low < 0.2 * (alone[1] - alone[0])
    back = difference_intervals(two[1], two[0], confidence=0.95)["miou_pooled"]
    assert back == pytest.approx((-high, -low))
    assert difference_intervals({"a": np.ones(3)}, {"b": np.ones(3)}, 0.9) == {}


def test_one_image_gives_no_interval():
    (image,) = random_images(1)
    terms = [CompletionMetrics.count(*image)]
    intervals = bootstrap_intervals(terms, CompletionMetrics.from_totals)
    assert set(intervals) == set(CompletionMetrics().compute())
    assert all(math.isnan(end) for interval in intervals.values() for end in interval)
    metric = AmodalAP()
    metric.update(*image[:2])
    assert all(math.isnan(end) for interval in metric.intervals().values() for end in interval)


def test_bad_arguments_are_named():
    for options, message in (
        ({"resamples": 0}, r"`resamples` must lie in \[1, 1000000\], got 0"),
        ({"resamples": 10**10}, r"`resamples` must lie in \[1, 1000000\], got 10000000000"),
        ({"resamples": 2.5}, "`resamples` must be an integer, got 2.5"),
        ({"seed": -1}, "`seed` must be at least 0, got -1"),
        ({"seed": None}, "`seed` must be an integer, got None"),
        ({"confidence": 1}, r"`confidence` must lie in \(0, 1\), got 1"),
        ({"confidence": float("nan")}, r"`confidence` must lie in \(0, 1\), got nan"),
    ):
        error = TypeError if "an integer" in message else ValueError
        with pytest.raises(error, match=message):
            bootstrap_intervals([[1] * 6], OrderMetrics.from_totals, **options)
        with pytest.raises(error, match=message):
            AmodalAP().intervals(**options)


def test_matched_share_and_missing_objects():
    ((pred, target, modal),) = random_images(1)
    matched = np.array([True, True, False, True])
    pred = pred & matched[:, None, None]
    counts = object_counts(pred, target, modal)
    metrics = MatchMetrics()
    metrics.add(MatchMetrics.count_objects(counts, matched))
    intersection, union = (pred & target).sum(), (pred | target).sum()
    assert metrics.compute() == {"matched": 0.75, "miou_pooled_all": pytest.approx(intersection / union)}
    assert MatchMetrics.from_totals(MatchMetrics.count_objects(counts, None))["matched"] == 1
