"""From probabilities to masks: the threshold with the highest expected IoU, and calibration."""

import numpy as np
import pytest
import torch

from amodal_diffusion import AmodalPipeline
from amodal_diffusion.pipelines.completion import thresholds
from amodal_diffusion.pipelines.completion.thresholds import EXPECTED_IOU, calibrate, expected_iou_masks
from photo_helpers import draw_scene, tiny_occamodal, tiny_photo_pcnet
from pipeline_helpers import tiny_pipeline


def by_definition(probabilities):
    """The rule as `measures` has it, object by object and threshold by threshold."""
    masks = np.zeros(probabilities.shape, bool)
    for mask, p in zip(masks, probabilities, strict=True):
        best = -1.0
        for threshold in np.arange(1024)[::-1] / 1024:
            chosen = p > threshold
            expected = p[chosen].sum() / (chosen.sum() + p[~chosen].sum()) if chosen.any() else 0.0
            if expected > best + 1e-12:
                best, mask[:] = expected, chosen
    return masks


@pytest.mark.parametrize("pixels", [1, 60, 10**6])
def test_the_best_threshold_is_found(monkeypatch, pixels):
    monkeypatch.setattr(thresholds, "_PIXELS", pixels)  # in one pass or in many
    rng = np.random.default_rng(0)
    probabilities = rng.beta(0.4, 0.7, (6, 5, 7)).astype(np.float32)
    probabilities[1] = 0
    probabilities[2, :2] = 1
    found = expected_iou_masks(torch.from_numpy(probabilities)).numpy()
    expected = by_definition(probabilities.astype(np.float64))
    for p, one, other in zip(probabilities, found, expected, strict=True):
        ious = [p[mask].sum() / max(mask.sum() + p[~mask].sum(), 1e-9) for mask in (one, other)]
        assert ious[0] == pytest.approx(ious[1], abs=1e-5)  # ties may fall otherwise
    assert not found[1].any() and found[2, :2].all()
    assert expected_iou_masks(torch.zeros(0, 4, 4)).shape == (0, 4, 4)


def test_an_unsure_object_grows_less_than_half_would_say():
    unsure = torch.tensor([[[1.0] * 10 + [0.6] * 2 + [0.45] * 10]])
    assert expected_iou_masks(unsure).sum() == 22  # much is likely: leaving it out costs more
    rare = torch.tensor([[[1.0] * 30 + [0.45] * 3 + [0.05] * 10]])
    assert expected_iou_masks(rare).sum() == 30


def test_calibration_keeps_order_and_ends():
    p = torch.linspace(0, 1, 21)
    turned = calibrate(p, 2.0, -0.5)
    assert turned[0] == 0 and turned[-1] == 1 and (turned.diff() > 0).all()
    assert calibrate(p, 1.0, 0.0) is p


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_photo_pcnet, tiny_occamodal])
def test_pipelines_take_the_rule_in_calls_and_folders(make, tmp_path):
    photo, modal, _ = draw_scene(1, 48, 64)
    settings = {} if make is tiny_occamodal else {"calibration_slope": 0.5, "calibration_offset": 0.25}
    pipeline = make(mask_threshold=EXPECTED_IOU, **settings)
    pipeline.save_pretrained(tmp_path)
    again = AmodalPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert again.config.mask_threshold == EXPECTED_IOU
    output = again(photo, modal)
    np.testing.assert_array_equal(output.amodal_masks, pipeline(photo, modal).amodal_masks)
    chosen = expected_iou_masks(torch.from_numpy(output.probabilities)).numpy()
    np.testing.assert_array_equal(output.amodal_masks, chosen)
    assert (output.amodal_masks >= modal).all()
    np.testing.assert_array_equal(
        output.amodal_masks, make(**settings)(photo, modal, mask_threshold=EXPECTED_IOU).amodal_masks
    )
    compact = pipeline(photo, modal, output_type="compact").amodal_masks
    np.testing.assert_array_equal(compact.to_dense(), output.amodal_masks)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"mask_threshold": "iou"}, TypeError, "`mask_threshold` must be a number in .* or 'expected-iou', got 'iou'"),
        ({"mask_threshold": 1.5}, ValueError, "`mask_threshold` must lie in"),
        ({"calibration_slope": 0.0}, ValueError, "`calibration_slope` must lie in"),
        ({"calibration_offset": "x"}, TypeError, "`calibration_offset` must be a number"),
    ],
)
def test_wrong_settings(settings, error, message):
    for make in (tiny_pipeline, tiny_photo_pcnet):
        with pytest.raises(error, match=message):
            make(**settings)
