"""ASBUPipeline: masks from boundaries, uncertainty, the order from increments, mutual occlusion."""

import numpy as np
import pytest
import torch

from amodal_diffusion import ASBUPipeline, ASBUPredictor, MaskModelOutput
from amodal_diffusion.crops import crop_masks
from amodal_diffusion.models.asbu import OCCLUDER_INPUTS, occluder_plane
from pipeline_helpers import crossing_bars, dual_call, iou, stacked_bars
from pipeline_helpers import tiny_pipeline as pcnet_pipeline

SPREAD = -1.0


class BoundaryBridge(ASBUPredictor):
    """Completes by a rule: a gap is object where boundary lies on both sides of it, in its row or column.

    `rows` counts the crops that went through it.
    """

    rows = 0

    def forward(self, mask, boundary, image=None, category_ids=None, return_dict=True):
        type(self).rows += len(mask)
        edge = mask * boundary
        between = torch.zeros_like(mask, dtype=torch.bool)
        for axis in (-1, -2):
            between |= (edge.cummax(axis).values * edge.flip(axis).cummax(axis).values.flip(axis)).bool()
        logits = torch.where(mask.bool() | between, 3.0, -20.0)
        return MaskModelOutput(torch.cat([logits, torch.full_like(logits, SPREAD)], dim=1))


def bridge(**settings):
    BoundaryBridge.rows = 0
    pipeline = ASBUPipeline(BoundaryBridge(block_out_channels=(4, 4), sample_size=64).eval(), **settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_pipeline(seed=0, **settings):
    torch.manual_seed(seed)
    config = {name: settings.pop(name) for name in ("use_rgb", "class_conditioned") if name in settings}
    model = ASBUPredictor(block_out_channels=(4, 8, 8), sample_size=32, **config).eval()
    pipeline = ASBUPipeline(model, **settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def mutual_occlusion(height=64, width=96):
    """Two rings of a chain: each passes over the other once. Modal and amodal masks, (2, H, W) bool."""
    amodal = np.zeros((2, height, width), bool)
    amodal[0, 16:28, 4:92] = amodal[0, 40:52, 4:92] = True
    amodal[0, 16:52, 4:12] = amodal[0, 16:52, 84:92] = True
    amodal[1, 4:60, 40:54] = True
    modal = amodal.copy()
    modal[0, 16:28] &= ~amodal[1, 16:28]  # the bar passes over the ring above
    modal[1, 40:52] &= ~amodal[0, 40:52]  # and under it below
    return modal, amodal


# What it does


def test_completes_through_the_boundary_alone():
    modal, amodal = crossing_bars()
    output = bridge()(None, modal)
    assert (iou(output.amodal_masks, amodal) > 0.97).all()
    assert output.order.tolist() == [[0, -1], [1, 0]]
    assert (output.amodal_masks & modal).sum() == modal.sum()


def test_objects_that_hide_each_other_are_both_completed():
    modal, amodal = mutual_occlusion()
    output = bridge()(None, modal)
    assert (output.amodal_masks & ~modal).any(axis=(1, 2)).all()
    assert (iou(output.amodal_masks, amodal) > 0.9).all()
    # One of them only could be behind in an order graph, so PCNet-M could complete one alone.
    assert sorted(output.order.flatten().tolist()) in ([-1, 0, 0, 1], [0, 0, 0, 0])


def test_uncertainty_is_that_of_the_network_where_something_may_be_hidden():
    modal, _ = crossing_bars()
    output = bridge()(None, modal)
    assert output.uncertainty.dtype == np.float32
    assert (output.uncertainty[modal] == 0).all()
    # In the middle of the hidden part, away from what pasting interpolates.
    assert output.uncertainty[0, 30, 38] == pytest.approx(np.log1p(np.exp(SPREAD)), rel=1e-4)
    # The gap of the row is bridged for object 0; object 1 is in front.
    assert output.probabilities[0, 30, 38] == pytest.approx(1 / (1 + np.exp(-3.0)), rel=1e-4)


def test_confined_to_what_is_seen_of_the_neighbours():
    modal, _ = stacked_bars()
    free, confined = (tiny_pipeline(confine_to_occluders=confine, mask_threshold=0.0) for confine in (False, True))
    outside = ~modal.any(axis=0)
    assert (free(None, modal).amodal_masks & outside).any()
    output = confined(None, modal)
    for values in (output.amodal_masks, output.probabilities, output.uncertainty):
        assert not values[:, outside].any()


def test_neighbours_behind_do_not_count_with_the_growth_rule():
    modal, amodal = stacked_bars()
    ground = ~modal.any(axis=0)
    masks = np.concatenate([modal, ground[None]])
    pipeline = bridge(occluder_rule="growth")
    call = dual_call(pipeline, masks)
    growth = np.zeros((4, 4))
    growth[0, 1], growth[1, 0] = 10, 4  # 1 hides 0; 0 grows under 1 too little to be hidden
    growth[1, 2], growth[2, 1] = 10, 6  # each may hide a part of the other
    found = pipeline.find_occluders(call, [call.scenes[0].modal], [growth], [np.zeros((4, 4))])[0]
    assert {tuple(pair) for pair in np.argwhere(found).tolist()} == {(0, 1), (1, 2), (2, 1)}
    output = pipeline(None, masks)
    assert (iou(output.amodal_masks[:3], amodal) > 0.9).all()
    np.testing.assert_array_equal(pipeline(None, masks, return_order=False).amodal_masks, output.amodal_masks)


def test_what_hides_an_occluder_counts_where_it_does_not_touch():
    masks = np.zeros((3, 40, 90), bool)
    masks[0, 10:30, 5:30] = masks[1, 10:30, 30:60] = masks[2, 10:30, 60:85] = True
    pipeline = bridge(occluder_rule="growth")
    growth = np.zeros((3, 3))
    growth[0, 1] = growth[1, 2] = 5  # 2 is in front of 1, 1 in front of 0; 0 and 2 do not touch

    def occluders():
        call = dual_call(pipeline, masks)
        found = pipeline.find_occluders(call, [call.scenes[0].modal], [growth], [np.zeros((3, 3))])[0]
        return {tuple(pair) for pair in np.argwhere(found).tolist()}

    assert occluders() == {(0, 1), (1, 2), (0, 2)}
    masks[2, 5:10, 25:85] = True  # now they do, and 0 does not grow under 2
    assert occluders() == {(0, 1), (1, 2)}


@pytest.mark.parametrize("rule", ["neighbours", "growth"])
def test_mutual_occlusion_by_either_rule(rule):
    modal, amodal = mutual_occlusion()
    output = bridge(occluder_rule=rule, confine_to_occluders=True)(None, modal)
    assert (iou(output.amodal_masks, amodal) > 0.9).all()


@pytest.mark.parametrize("make", [tiny_pipeline, pcnet_pipeline])
def test_the_order_alone_is_that_of_a_call(make):
    modal, _ = stacked_bars()
    pipeline = make(order_rule="evidence")
    np.testing.assert_array_equal(pipeline.infer_order(modal), pipeline(None, modal).order)
    assert pipeline.infer_order(modal).any()


def test_order_can_be_left_out():
    modal, _ = stacked_bars()
    pipeline = bridge()
    whole = pipeline(None, modal)
    rows = BoundaryBridge.rows
    BoundaryBridge.rows = 0
    output = pipeline(None, modal, return_order=False)
    assert output.order is None and rows > BoundaryBridge.rows == 3
    np.testing.assert_array_equal(output.amodal_masks, whole.amodal_masks)


def test_what_the_pairs_have_computed_is_taken_over():
    modal, _ = crossing_bars()
    pipeline = bridge()
    pipeline(None, modal)
    assert BoundaryBridge.rows == 2  # each object has one neighbour: its pair is its completion


def test_the_network_gets_the_published_boundary():
    seen = {}

    class Recorder(BoundaryBridge):
        def forward(self, mask, boundary, **kwargs):
            seen.update(mask=mask.clone(), boundary=boundary.clone())
            return super().forward(mask, boundary, **kwargs)

    modal, _ = crossing_bars()
    for kind in OCCLUDER_INPUTS:
        pipeline = ASBUPipeline(Recorder(block_out_channels=(4, 4), sample_size=64).eval(), occluder_input=kind)
        pipeline(None, modal[:1], occluder_masks=modal[1])
        patches = pipeline.crop(dual_call(pipeline, modal))
        assert torch.equal(seen["mask"][0, 0].bool(), patches.modal[0])
        # The neighbour in the crop of the first object, cropped again by its own box.
        occluder = crop_masks(torch.from_numpy(modal), patches.boxes[:1], 64, indices=torch.tensor([1]))[0]
        assert torch.equal(seen["boundary"][0, 0], occluder_plane(patches.modal[0], occluder, kind))


@pytest.mark.parametrize("settings", [{}, {"crop": "bilinear", "paste": "binary", "test_time_flip": True}])
def test_the_order_of_the_objects_changes_nothing(settings):
    modal, _ = stacked_bars()
    pipeline = tiny_pipeline(order_rule="evidence", **settings)
    output, turned = pipeline(None, modal), pipeline(None, modal[[2, 0, 1]])
    np.testing.assert_array_equal(turned.amodal_masks, output.amodal_masks[[2, 0, 1]])
    np.testing.assert_allclose(turned.uncertainty, output.uncertainty[[2, 0, 1]], atol=1e-5)
    np.testing.assert_array_equal(turned.order, output.order[np.ix_([2, 0, 1], [2, 0, 1])])


def test_nothing_to_complete(caplog):
    pipeline = bridge()
    masks = np.zeros((3, 40, 40), bool)
    masks[0, 5:15, 5:15] = masks[1, 25:35, 25:35] = True
    output = pipeline(None, masks)
    np.testing.assert_array_equal(output.amodal_masks, masks)
    assert not output.order.any() and not output.uncertainty.any() and BoundaryBridge.rows == 0
    assert "has an occluder" in caplog.text
    assert pipeline(None, np.zeros((0, 40, 40), bool)).amodal_masks.shape == (0, 40, 40)
    assert pipeline([], []).amodal_masks == []
    full = pipeline(None, np.ones((1, 40, 40), bool))
    assert full.amodal_masks.all()


def test_without_keep_modal_the_network_decides():
    modal, _ = crossing_bars()
    output = tiny_pipeline(keep_modal=False, mask_threshold=0.99)(None, modal)
    assert not output.amodal_masks.any()
    assert output.uncertainty[0, 30, 20] > 0


# Networks with more inputs, errors


def test_photo_and_category():
    modal, _ = crossing_bars()
    photo = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    sees = tiny_pipeline(use_rgb=True)
    assert not np.allclose(sees(photo, modal).uncertainty, sees(255 - photo, modal).uncertainty)
    with pytest.raises(ValueError, match="`image` must be given"):
        sees(None, modal)
    knows = tiny_pipeline(class_conditioned=True)
    first, second = (knows(None, modal, category_ids=ids).uncertainty for ids in ([1, 1], [9, 1]))
    assert not np.allclose(first, second)
    with pytest.raises(ValueError, match="`category_ids` must be given"):
        knows(None, modal)
    for bad in (0, -1):
        with pytest.raises(ValueError, match=rf"`category_ids` must be positive integers, got \[1, {bad}\]"):
            knows(None, modal, category_ids=[1, bad])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"boundary_size": 4}, ValueError, "`boundary_size` must be odd, got 4"),
        ({"boundary_size": 0}, ValueError, "`boundary_size`"),
        ({"occluder_input": "edge"}, ValueError, "`occluder_input` must be one of"),
        ({"order_threshold": 1.0}, ValueError, "`order_threshold`"),
        ({"mask_threshold": "half"}, TypeError, "`mask_threshold`"),
        ({"crop": "cubic"}, ValueError, "`crop` must be one of"),
        ({"occluder_rule": "ancestors"}, ValueError, "`occluder_rule` must be one of"),
        ({"order_rule": "area"}, ValueError, "`order_rule` must be one of"),
        ({"paste": "poisson"}, ValueError, "`paste` must be one of"),
        ({"enlarge_box": 0.5}, ValueError, "`enlarge_box`"),
    ],
)
def test_wrong_settings(settings, error, message):
    with pytest.raises(error, match=message):
        tiny_pipeline(**settings)
