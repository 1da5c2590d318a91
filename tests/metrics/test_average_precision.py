"""Amodal AP."""

import math

import numpy as np
import pytest

from amodal_diffusion.metrics import AmodalAP


def boxes(*corners, shape=(120, 120)):
    masks = np.zeros((len(corners), *shape), bool)
    for mask, (top, left, bottom, right) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def compute(pred, target, scores=None):
    metric = AmodalAP()
    metric.update(pred, target, scores)
    return metric.compute()


def test_perfect_masks_and_sizes():
    truth = boxes((0, 0, 20, 20), (30, 0, 80, 50), (0, 20, 118, 118))
    metrics = compute(truth, truth)
    expected = dict.fromkeys(metrics, 1.0) | {"ar1": 0.333333}  # one mask for three objects
    assert {name: round(value, 6) for name, value in metrics.items()} == expected
    small = compute(truth[:1], truth[:1])
    assert small["ap_small"] == pytest.approx(1)
    assert math.isnan(small["ap_large"])


def test_iou_thresholds():
    """An IoU of 0.72 passes the thresholds 0.50 to 0.70: five of ten."""
    truth, pred = boxes((0, 0, 100, 100)), boxes((0, 0, 72, 100))
    metrics = compute(pred, truth)
    assert metrics["ap"] == pytest.approx(0.5)
    assert metrics["ap50"] == pytest.approx(1)
    assert metrics["ap75"] == pytest.approx(0)
    assert metrics["ar"] == pytest.approx(0.5)


def test_scores_rank_detections():
    truth = boxes((0, 0, 50, 50))
    pred = np.concatenate([boxes((60, 60, 100, 100)), truth])
    assert compute(pred, truth, [0.1, 0.9])["ap50"] == pytest.approx(1)
    assert compute(pred, truth, [0.9, 0.1])["ap50"] == pytest.approx(0.5)


def test_nothing_found_and_nothing_there():
    truth = boxes((0, 0, 50, 50))
    missed = compute(np.zeros_like(truth), truth)
    absent = {name for name, value in missed.items() if math.isnan(value)}
    assert absent == {"ap_small", "ap_large", "ar_small", "ar_large"}
    assert {value for name, value in missed.items() if name not in absent} == {0.0}
    assert all(math.isnan(value) for value in compute(truth, np.zeros_like(truth)).values())
    assert all(math.isnan(value) for value in AmodalAP().compute().values())


def test_merging_equals_one_run():
    first, second = boxes((0, 0, 50, 50)), boxes((10, 10, 90, 90), (0, 0, 9, 9))
    whole, parts = AmodalAP(), [AmodalAP(), AmodalAP()]
    for part, masks in zip(parts, (first, second), strict=True):
        for metric in (whole, part):
            metric.update(masks, np.roll(masks, 4, axis=1))
    assert parts[0].merge(parts[1]).compute() == pytest.approx(whole.compute(), nan_ok=True)
    whole.reset()
    assert math.isnan(whole.compute()["ap"])


def test_bad_input_is_named():
    metric = AmodalAP()
    masks = boxes((0, 0, 5, 5))
    with pytest.raises(ValueError, match="the same frame"):
        metric.update(masks, np.zeros((1, 9, 9), bool))
    with pytest.raises(ValueError, match="`scores` must be 1 finite numbers"):
        metric.update(masks, masks, [0.5, 0.5])
    with pytest.raises(ValueError, match="`scores` must be 1 finite numbers"):
        metric.update(masks, masks, [math.nan])
    with pytest.raises(TypeError, match="`other` must be AmodalAP"):
        metric.merge(object())


def test_classes_are_told_apart():
    truth = boxes((0, 0, 50, 50), (60, 60, 110, 110))
    metric = AmodalAP()
    metric.update(truth, truth, pred_categories=[3, 3], target_categories=[3, 7])
    assert metric.compute()["ap"] == pytest.approx(0.5)  # class 3: found, class 7: not
    metric.reset()
    metric.update(truth[[0, 1, 1]], truth, [0.9, 0.8, 0.7], pred_categories=[3, 7, 9], target_categories=[3, 7])
    assert metric.compute()["ap"] == pytest.approx(1)  # class 9 has no object, so that it does not count
    with pytest.raises(ValueError, match="`pred_categories` must have one id for each of 2 masks, got 1"):
        metric.update(truth, truth, pred_categories=[3], target_categories=[3, 7])
    with pytest.raises(ValueError, match="need each other"):
        metric.update(truth, truth, pred_categories=[3, 3])


def test_recall_counts_the_best_detections_alone():
    truth = boxes(*((0, 8 * i, 6, 8 * i + 6) for i in range(12)))
    metrics = compute(truth, truth, np.linspace(1, 0.1, 12))
    assert metrics["ar1"] == pytest.approx(1 / 12) and metrics["ar10"] == pytest.approx(10 / 12)
    assert metrics["ar"] == pytest.approx(1)
