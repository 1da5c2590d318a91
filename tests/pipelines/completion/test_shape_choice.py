"""Where hidden parts may lie, and which of many shapes stand for all: against plain loops."""

import numpy as np
import torch

from amodal_diffusion.pipelines.completion.shape_choice import (
    ShapeFrame,
    candidate_boxes,
    choose_shapes,
    fill_holes,
    hidden_reach,
)


def test_reach_is_where_occluders_go_on_without_a_gap():
    rng = np.random.default_rng(0)
    occluders = rng.random((5, 30, 40)) < 0.12
    boxes = np.array([[10, 8, 6, 9], [0, 0, 5, 5], [36, 26, 4, 4], [12, 3, 1, 20], [2, 10, 30, 3]])

    def run(strip, most):
        count = 0
        while count < min(most, len(strip)) and strip[count].any():
            count += 1
        return count

    expected = []
    for mask, (x, y, w, h) in zip(occluders, boxes, strict=True):
        columns, rows = mask[y : y + h].T, mask[:, x : x + w]
        expected.append(
            [run(columns[:x][::-1], w), run(rows[:y][::-1], h), run(columns[x + w :], w), run(rows[y + h :], h)]
        )
    found = hidden_reach(torch.from_numpy(occluders), torch.from_numpy(boxes).float())
    np.testing.assert_array_equal(found.numpy(), expected)
    assert np.max(expected) == 3


def test_boxes_lie_between_the_visible_part_and_the_reach():
    boxes, reach = torch.tensor([[10.0, 8.0, 6.0, 9.0]]), torch.tensor([[3.0, 0.0, 6.0, 2.0]])
    found = candidate_boxes(boxes, reach, torch.rand(1, 200, 8, generator=torch.Generator().manual_seed(0)))[0]
    left, top, right, bottom = found[:, 0], found[:, 1], found[:, 0] + found[:, 2], found[:, 1] + found[:, 3]
    for value, low, high in ((left, 7, 10), (top, 8, 8), (right, 16, 22), (bottom, 17, 19)):
        assert value.min() >= low - 1e-4 and value.max() <= high + 1e-4
    for value, side in ((left, 10), (right, 16), (bottom, 17)):
        stays = ((value - side).abs() < 1e-4).float().mean()
        assert 0.25 < stays < 0.55  # 40 %


def iou(first, second):
    return (first & second).sum() / max(1, (first | second).sum())


def test_choice_is_greedy_k_medoids():
    rng = np.random.default_rng(1)
    masks, scores = rng.random((2, 9, 24)) < 0.5, rng.random((2, 9)).astype(np.float32)
    found = choose_shapes(torch.from_numpy(masks), torch.from_numpy(scores), 4).numpy()
    for stack, score, chosen in zip(masks, scores, found, strict=True):
        weights = np.exp((score - score.max()) / 0.1)
        expected = []
        for _ in range(4):
            gains = [
                sum(weight * max(iou(mask, stack[other]) for other in (*expected, new)) for weight, mask in
                    zip(weights, stack, strict=True)) if new not in expected else -1
                for new in range(9)
            ]  # fmt: skip
            expected.append(int(np.argmax(gains)))
        assert chosen.tolist() == expected


def test_two_kinds_of_shapes_are_both_chosen_and_a_misfit_is_not_first():
    masks = torch.zeros(1, 10, 30, dtype=torch.bool)
    masks[:, :6, :10], masks[:, 6:9, :20], masks[:, 9, 5:] = True, True, True
    scores = torch.ones(1, 10)
    scores[0, 9] = 0.2
    assert choose_shapes(masks, scores, 2).tolist() == [[0, 6]]
    assert choose_shapes(masks, scores, 3)[0, 2] == 9
    assert choose_shapes(masks[:0], scores[:0], 3).shape == (0, 3)


def test_frame_shows_what_will_be_returned():
    modal, hiders = torch.zeros(1, 20, 30, dtype=torch.bool), torch.zeros(1, 20, 30, dtype=torch.bool)
    modal[0, 4:12, 4:12], hiders[0, :, 12:16] = True, True
    tight, view = torch.tensor([[4.0, 4.0, 8.0, 8.0]]), torch.tensor([[4.0, 4.0, 16.0, 16.0]])
    boxes = torch.tensor([[[4.0, 4.0, 16.0, 8.0], [4.0, 4.0, 4.0, 8.0]]])
    masks, scores = ShapeFrame(modal, hiders, tight, view, size=16).view(torch.ones(1, 2, 16, 16), boxes, 0.5)
    first, second = masks[0].view(2, 16, 16).numpy()
    expected = np.zeros((16, 16), bool)
    expected[:8, :12] = True  # the visible part and what lies under the occluder
    np.testing.assert_array_equal(first, expected)
    expected[:, 8:] = False
    np.testing.assert_array_equal(second, expected)  # the visible part is kept
    np.testing.assert_allclose(scores, [[64 / 96, 0.5]])  # 32 cells too much, and half of them missing
    masks, scores = ShapeFrame(modal, None, tight, view, size=16).view(torch.ones(1, 2, 16, 16), boxes, 0.5)
    assert masks[0, 0].sum() == 128 and scores.tolist() == [[1.0, 0.5]]  # around the box all may be hidden


def test_holes_are_filled_and_gaps_that_reach_the_border_stay():
    ring = torch.zeros(1, 12, 12, dtype=torch.bool)
    ring[:, 2:10, 2:10] = True
    ring[:, 4:8, 4:8] = False
    ring[:, 5:7, 5:7] = True  # an island in the hole
    whole = torch.zeros_like(ring)
    whole[:, 2:10, 2:10] = True
    assert torch.equal(fill_holes(ring), whole)
    ring[:, 4, :4] = False  # a way out
    assert torch.equal(fill_holes(ring), ring)
    touching = torch.eye(6, dtype=torch.bool)[None] | torch.eye(6, dtype=torch.bool).flip(1)[None]
    assert torch.equal(fill_holes(touching), touching)
    assert fill_holes(torch.zeros(0, 4, 4, dtype=torch.bool)).shape == (0, 4, 4)
