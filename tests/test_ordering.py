import numpy as np
import pytest

from amodal_diffusion import ordering
from amodal_diffusion.metrics import order_counts
from amodal_diffusion.ordering import (
    ancestors,
    check_order,
    depth_order,
    neighbours,
    order_by_area,
    order_by_hull,
    order_by_y_axis,
    order_from_increments,
    order_from_masks,
    order_pairs,
)

CYCLE = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
NO_MASKS = np.zeros((0, 8, 8), dtype=bool)

BASELINES = {
    "area_larger": lambda masks: order_by_area(masks, front="larger"),
    "area_smaller": lambda masks: order_by_area(masks, front="smaller"),
    "y_axis": order_by_y_axis,
    "convex": order_by_hull,
}


def blocks(*boxes, height=20, width=90):
    """One rectangle (x, y, w, h) a mask."""
    masks = np.zeros((len(boxes), height, width), dtype=bool)
    for mask, (x, y, w, h) in zip(masks, boxes, strict=True):
        mask[y : y + h, x : x + w] = True
    return masks


class TestPublishedScenes:
    def test_neighbours(self, published_scene):
        modal, _, numbers = published_scene
        touching = neighbours(modal)
        # The published matrix also calls each visible object a neighbour of itself.
        expected = np.array(numbers["adjacent"], dtype=bool)
        np.testing.assert_array_equal(touching | np.diag(modal.any(axis=(1, 2))), expected)
        assert not touching.diagonal().any()

    def test_true_order(self, published_scene):
        modal, amodal, numbers = published_scene
        order = order_from_masks(modal, amodal)
        assert order.dtype == np.int8
        np.testing.assert_array_equal(order, numbers["gt_order"])

    @pytest.mark.parametrize("name", BASELINES)
    def test_baseline_orders_and_their_evaluation(self, published_scene, name):
        modal, _, numbers = published_scene
        order = BASELINES[name](modal)
        np.testing.assert_array_equal(order, numbers[f"order_{name}"])
        np.testing.assert_array_equal(order_counts(order, numbers["gt_order"])[:4], numbers[f"order_eval_{name}"])

    def test_ancestors(self, published_scene):
        _, _, numbers = published_scene
        found = ancestors(numbers["gt_order"])
        assert [np.flatnonzero(row).tolist() for row in found] == numbers["ancestors"]


class TestNeighbours:
    @pytest.mark.parametrize(
        ("second", "expected"),
        [
            ((5, 0, 5, 5), True),  # side by side
            ((6, 0, 5, 5), False),  # a gap of one pixel
            ((0, 5, 5, 5), True),
            ((5, 5, 5, 5), False),  # corner to corner: the cross has no diagonal
            ((3, 3, 5, 5), True),  # overlapping
        ],
    )
    def test_touching(self, second, expected):
        assert neighbours(blocks((0, 0, 5, 5), second)).tolist() == [[False, expected], [expected, False]]

    # Columns around the border of a machine word.
    @pytest.mark.parametrize("column", [1, 62, 63, 64, 65, 88])
    @pytest.mark.parametrize("width", [90, 128])
    def test_across_words(self, column, width):
        masks = blocks((0, 0, column, 20), (column, 0, width - column, 20), width=width)
        assert neighbours(masks)[0, 1]
        assert not neighbours(blocks((0, 0, column, 20), (column + 1, 0, 1, 20), width=width)).any()

    def test_right_edge_does_not_touch_the_left(self):
        assert not neighbours(blocks((89, 0, 1, 20), (0, 0, 1, 20))).any()
        assert not neighbours(blocks((127, 0, 1, 20), (0, 0, 1, 20), width=128)).any()

    def test_empty_masks(self):
        assert not neighbours(blocks((0, 0, 5, 5), (0, 0, 0, 0), (0, 0, 0, 0))).any()
        assert neighbours(NO_MASKS).shape == (0, 0)

    def test_identical_masks(self):
        assert neighbours(blocks((0, 0, 5, 5), (0, 0, 5, 5)))[0, 1]


class TestAncestors:
    def test_chain(self):
        order = np.zeros((5, 5), dtype=int)
        for i in range(4):  # i is hidden by i + 1
            order[i, i + 1], order[i + 1, i] = -1, 1
        np.testing.assert_array_equal(ancestors(order), np.triu(np.ones((5, 5), dtype=bool), k=1))

    def test_cycle_excludes_the_object_itself(self):
        np.testing.assert_array_equal(ancestors(CYCLE), ~np.eye(3, dtype=bool))

    @pytest.mark.parametrize("size", [0, 1])
    def test_tiny(self, size):
        assert ancestors(np.zeros((size, size))).tolist() == [[False]] * size

    @pytest.mark.parametrize("seed", range(10))
    def test_equals_search(self, seed):
        rng = np.random.default_rng(seed)
        upper = np.triu(rng.choice([-1, 0, 0, 0, 0, 1], (17, 17)), k=1)
        order = upper - upper.T
        for i, row in enumerate(ancestors(order)):
            reached, frontier = set(), {i}
            while frontier:
                frontier = {int(j) for k in frontier for j in np.flatnonzero(order[k] == -1)} - reached
                reached |= frontier
            assert set(np.flatnonzero(row).tolist()) == reached - {i}


class TestOrderFromMasks:
    def test_the_lower_index_wins_a_tie(self):
        modal = blocks((0, 0, 5, 5), (5, 0, 5, 5))
        amodal = blocks((0, 0, 6, 5), (4, 0, 6, 5))
        assert order_from_masks(modal, amodal).tolist() == [[0, 1], [-1, 0]]

    def test_nothing_hidden(self):
        modal = blocks((0, 0, 5, 5), (5, 0, 5, 5))
        assert not order_from_masks(modal, modal).any()

    def test_objects_apart_have_no_relation(self):
        modal = blocks((0, 0, 5, 5), (20, 0, 5, 5))
        assert not order_from_masks(modal, blocks((0, 0, 25, 5), (20, 0, 5, 5))).any()

    def test_no_objects(self):
        assert order_from_masks(NO_MASKS, NO_MASKS).shape == (0, 0)

    def test_shapes_must_agree(self):
        with pytest.raises(ValueError, match=r"same shape, got \(0, 8, 8\) and \(1, 20, 90\)"):
            order_from_masks(NO_MASKS, blocks((0, 0, 1, 1)))


class TestOrderFromIncrements:
    def test_the_one_that_grows_more_is_behind(self):
        growth = np.array([[0, 30, 5], [10, 0, 7], [5, 0, 0]])
        adjacent = np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]])
        assert order_from_increments(growth, adjacent).tolist() == [[0, -1, 0], [1, 0, 0], [0, 0, 0]]

    def test_floats_and_one_sided_adjacency(self):
        order = order_from_increments([[0, 0.1], [0.2, 0]], np.array([[False, True], [False, False]]))
        assert order.dtype == np.int8
        assert order.tolist() == [[0, 1], [-1, 0]]

    @pytest.mark.parametrize(
        ("growth", "adjacent", "message"),
        [
            (np.zeros((2, 3)), np.zeros((2, 3)), r"must both be \(N, N\), got \(2, 3\) and \(2, 3\)"),
            (np.zeros((2, 2)), np.zeros((3, 3)), r"got \(2, 2\) and \(3, 3\)"),
            (np.full((2, 2), np.nan), np.zeros((2, 2)), "`increments` has NaN"),
        ],
    )
    def test_errors(self, growth, adjacent, message):
        with pytest.raises(ValueError, match=message):
            order_from_increments(growth, adjacent)


class TestBaselineOrders:
    @pytest.mark.parametrize("name", BASELINES)
    def test_no_and_empty_masks(self, name):
        assert BASELINES[name](NO_MASKS).shape == (0, 0)
        assert not BASELINES[name](np.zeros((3, 8, 8), dtype=bool)).any()

    @pytest.mark.parametrize("name", BASELINES)
    @pytest.mark.parametrize("seed", range(3))
    def test_are_order_matrices(self, name, seed):
        masks = np.random.default_rng(seed).random((6, 9, 11)) > 0.7
        order = BASELINES[name](masks)
        np.testing.assert_array_equal(check_order(order, 6), order)

    def test_area(self):
        masks = blocks((0, 0, 9, 5), (9, 0, 3, 5))
        assert order_by_area(masks)[1, 0] == 1
        assert order_by_area(masks, front="larger")[0, 1] == 1

    def test_y_axis(self):
        assert order_by_y_axis(blocks((0, 0, 5, 5), (0, 5, 5, 5)))[1, 0] == 1

    def test_hull(self):
        masks = blocks((0, 0, 20, 15), (8, 8, 4, 7))
        masks[0] &= ~masks[1]  # a notch in the large one, filled by the small one
        assert order_by_hull(masks)[1, 0] == 1

    def test_front_is_checked(self):
        with pytest.raises(ValueError, match="`front` must be 'smaller' or 'larger', got 'nearer'"):
            order_by_area(blocks((0, 0, 1, 1)), front="nearer")


class TestCheckOrder:
    @pytest.mark.parametrize("dtype", [int, float, np.int8])
    def test_gives_int8(self, dtype):
        order = check_order(CYCLE.astype(dtype), 3)
        assert order.dtype == np.int8
        np.testing.assert_array_equal(order, CYCLE)

    def test_is_a_copy(self):
        order = CYCLE.astype(np.int8)
        check_order(order)[0, 1] = 0
        assert order[0, 1] == -1

    def test_lists(self):
        assert check_order([[0, 1], [-1, 0]]).shape == (2, 2)
        assert check_order(np.zeros((0, 0)), 0).shape == (0, 0)

    @pytest.mark.parametrize(
        ("order", "n", "message"),
        [
            (CYCLE, 4, r"`order` must have shape \(4, 4\), got \(3, 3\)"),
            (CYCLE[:2], None, r"`order` must have shape \(N, N\), got \(2, 3\)"),
            (np.zeros(3), None, r"got \(3,\)"),
            (np.float64(1), None, r"got \(\)"),
            (CYCLE * 2, None, "-1, 0 and 1 only, got -2"),
            (np.full((2, 2), np.nan), None, "-1, 0 and 1 only, got nan"),
            (np.ones((2, 2), dtype=bool), None, r"antisymmetric, got order\[0, 0\] = 1"),
            (np.array([[0, 1], [0, 0]], dtype=np.uint8), None, r"order\[0, 1\] = 1 and order\[1, 0\] = 0"),
        ],
    )
    def test_errors(self, order, n, message):
        with pytest.raises(ValueError, match=message):
            check_order(order, n)


def test_order_pairs():
    assert order_pairs(CYCLE) == [(0, 2), (1, 0), (2, 1)]
    assert order_pairs(np.zeros((2, 2))) == []
    with pytest.raises(ValueError, match="antisymmetric"):
        order_pairs(np.eye(2))


def test_depth_order_needs_ranges_that_do_not_meet():
    generator = np.random.default_rng(0)
    ranges = np.sort(generator.uniform(0, 4, (30, 2)), axis=1)
    order = depth_order(ranges)
    check_order(order)
    for i, (nearest, farthest) in enumerate(ranges):
        for j, (other, end) in enumerate(ranges):
            expected = 1 if farthest < other else -1 if end < nearest else 0
            assert order[i, j] == expected
    assert {-1, 0, 1} == set(order.ravel().tolist())
    assert not depth_order([[1, 2], [2, 3]]).any()  # they meet
    ranges[3] = np.nan
    assert not depth_order(ranges)[3].any() and not depth_order(ranges)[:, 3].any()
    assert depth_order(np.zeros((0, 2))).shape == (0, 0)
    with pytest.raises(ValueError, match=r"`depths` must have shape \(N, 2\), got \(2, 3\)"):
        depth_order(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="a nearest one beyond the farthest"):
        depth_order([[2, 1]])


def test_hulls_that_do_not_count_are_not_made(monkeypatch):
    masks = np.zeros((2, 6, 8), bool)
    masks[0, 2:4], masks[1, :, 3:5] = True, True
    masks[0] &= ~masks[1]
    growth = np.array([[0.0, 3.0], [1.0, 0.0]])
    hulls = ordering._hull_increments
    calls = []
    monkeypatch.setattr(ordering, "_hull_increments", lambda packed: calls.append(1) or hulls(packed))
    without = ordering.occlusion_evidence(growth, masks, hull_weight=0)
    assert not calls and ordering.occlusion_evidence(growth, masks, hull_weight=1).shape == (2, 2) and calls
    size = np.sqrt(masks.sum((1, 2)))[None]
    np.testing.assert_array_equal(without, np.where(growth + growth.T > 0, growth / size + 0.02, 0) * (1 - np.eye(2)))
