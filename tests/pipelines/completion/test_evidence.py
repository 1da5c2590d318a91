"""Settings beyond the published flow: order by evidence, and growth that is confined to the eraser."""

import numpy as np
import pytest
import torch

from amodal_diffusion import MaskModelOutput
from amodal_diffusion.ordering import hull_increments, occlusion_evidence, order_from_increments
from pipeline_helpers import GapFiller, crossing_bars, gap_filler, iou, stacked_bars, tiny_pipeline


def test_hull_increments_count_what_the_hull_covers():
    modal, amodal = crossing_bars()
    expected = np.array([[0, (amodal[0] & amodal[1]).sum()], [0, 0]])
    np.testing.assert_array_equal(hull_increments(modal), expected)


def test_evidence_is_relative_to_the_size_of_the_occluder():
    """A large object that gains 30 px under a small one outweighs a small one that gains 40 px under the large."""
    masks = np.zeros((2, 100, 100), bool)
    masks[0, :60] = True
    masks[1, 60:66, 40:46] = True
    increments = np.array([[0.0, 30.0], [40.0, 0.0]])
    adjacent = ~np.eye(2, dtype=bool)
    assert order_from_increments(increments, adjacent)[0, 1] == 1
    evidence = occlusion_evidence(increments, masks, hull_weight=0)
    np.testing.assert_allclose(evidence[0, 1], 30 / 6 + 0.02)
    np.testing.assert_allclose(evidence[1, 0], 40 / np.sqrt(6000) + 0.02)
    assert order_from_increments(evidence, adjacent)[0, 1] == -1


def test_the_hull_decides_between_equal_increments():
    modal, _ = crossing_bars()
    areas = modal.sum((1, 2))
    increments = np.array([[0, np.sqrt(areas[1])], [np.sqrt(areas[0]), 0]])  # equal once weighed
    adjacent = ~np.eye(2, dtype=bool)
    assert order_from_increments(occlusion_evidence(increments, modal, hull_weight=0), adjacent)[0, 1] == 0
    assert order_from_increments(occlusion_evidence(increments, modal), adjacent)[0, 1] == -1


def test_without_growth_there_is_no_evidence():
    modal, _ = crossing_bars()
    assert not occlusion_evidence(np.zeros((2, 2)), modal).any()
    with pytest.raises(ValueError, match=r"`increments` must have shape \(2, 2\), got \(3, 3\)"):
        occlusion_evidence(np.zeros((3, 3)), modal)


def test_evidence_of_empty_masks_is_finite():
    evidence = occlusion_evidence(np.ones((2, 2)), np.zeros((2, 8, 8), bool))
    assert np.isfinite(evidence).all()


@pytest.mark.parametrize("scene", [crossing_bars, stacked_bars])
def test_order_by_evidence(scene):
    modal, amodal = scene()
    output = gap_filler(order_rule="evidence")(None, modal)
    count = len(modal)
    expected = np.sign(np.arange(count)[:, None] - np.arange(count)[None])  # later objects are in front
    np.testing.assert_array_equal(output.order, expected)
    assert (iou(output.amodal_masks, amodal) > 0.9).all()


def test_evidence_does_not_depend_on_the_order_of_the_masks():
    modal, _ = stacked_bars()
    turn = np.array([2, 0, 1])
    pipe = gap_filler(order_rule="evidence")
    np.testing.assert_array_equal(pipe(None, modal[turn]).order, pipe(None, modal).order[turn][:, turn])


def test_growth_below_the_threshold_is_no_relation():
    modal, _ = crossing_bars()
    pipe = gap_filler(order_rule="evidence")
    assert pipe(None, modal, order_threshold=0.95).order[0, 1] == 0
    assert pipe(None, modal, order_threshold=0.5).order[0, 1] == -1


class Greedy(GapFiller):
    """Says that every pixel is object."""

    def forward(self, mask, eraser, image=None, category_ids=None, return_dict=True):
        logits = torch.full_like(mask, 3.0)
        return MaskModelOutput(torch.cat([torch.zeros_like(logits), logits], dim=1))


def test_confined_growth_stays_under_the_occluders():
    modal, _ = crossing_bars()
    model = Greedy(block_out_channels=(4, 4), sample_size=64).eval()
    order = np.array([[0, -1], [1, 0]])
    free = tiny_pipeline(model)(None, modal, order=order)
    confined = tiny_pipeline(model, confine_to_occluders=True)(None, modal, order=order)
    assert (free.amodal_masks[0] & ~modal.any(0)).any()
    np.testing.assert_array_equal(confined.amodal_masks[0], modal.any(0) & free.amodal_masks[0] | modal[0])
    np.testing.assert_array_equal(confined.amodal_masks[1], modal[1])
    assert (confined.probabilities[0][~modal.any(0)] == 0).all()
    assert (confined.probabilities[0][modal[0]] == 1).all()


def test_confined_growth_follows_given_occluders():
    modal, _ = crossing_bars()
    model = Greedy(block_out_channels=(4, 4), sample_size=64).eval()
    output = tiny_pipeline(model, confine_to_occluders=True)(None, modal[:1], occluder_masks=modal[1])
    assert (output.amodal_masks[0] & ~modal.any(0)).sum() == 0
    assert (output.amodal_masks[0] & modal[1]).any()


def test_an_unknown_order_rule_is_refused():
    with pytest.raises(ValueError, match="order_rule"):
        gap_filler(order_rule="guess")


def test_a_neighbour_that_is_not_in_front_hides_nothing():
    """With 2 before 1, 1 before 0 and 0 before 2, the chain makes every object an ancestor of every other."""
    modal, _ = stacked_bars()
    model = Greedy(block_out_channels=(4, 4), sample_size=64).eval()
    order = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    chain = tiny_pipeline(model, confine_to_occluders=True)(None, modal, order=order).amodal_masks
    consistent = tiny_pipeline(model, confine_to_occluders=True, occluder_rule="consistent")(None, modal, order=order)
    for behind, front, other in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        assert (chain[behind] & modal[other]).any()
        assert not (consistent.amodal_masks[behind] & modal[other]).any()
        assert (consistent.amodal_masks[behind] & modal[front]).any()
    with pytest.raises(ValueError, match="occluder_rule"):
        tiny_pipeline(occluder_rule="all")
