"""The algebra of occlusion orders, for any masks and any relation."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from amodal_diffusion.masks import dilate
from amodal_diffusion.ordering import (
    ancestors,
    check_order,
    hull_increments,
    neighbours,
    occlusion_evidence,
    order_by_area,
    order_by_hull,
    order_by_y_axis,
    order_from_increments,
    order_from_masks,
    order_pairs,
    reachable,
)

quick = settings(max_examples=30, deadline=None, derandomize=True)
counts = st.integers(0, 6)
relations = counts.flatmap(lambda count: arrays(bool, (count, count)))
orders = counts.flatmap(lambda count: arrays(np.int8, (count, count), elements=st.integers(-1, 1))).map(
    lambda matrix: np.triu(matrix, 1) - np.triu(matrix, 1).T
)


@st.composite
def scenes(draw):
    """Modal and amodal masks of boxes, each in front of the ones after it, some of them empty or fully hidden."""
    amodal = np.zeros((draw(counts), 16, 20), dtype=bool)
    for mask in amodal:
        x, y = draw(st.integers(0, 18)), draw(st.integers(0, 14))
        mask[y : y + draw(st.integers(0, 12)), x : x + draw(st.integers(0, 12))] = True
    covered = np.cumsum(amodal, axis=0) - amodal > 0
    return amodal & ~covered, amodal


@quick
@given(scenes(), st.randoms(use_true_random=False))
def test_orders_of_masks_are_orders_and_follow_a_permutation(scene, random):
    modal, amodal = scene
    places = random.sample(range(len(modal)), len(modal))
    # Ties are decided by the index, so that only pairs without one follow.
    for order_of, untied in (
        (lambda m, a: order_from_masks(m, a), lambda m, a: hides(m, a) != hides(m, a).T),
        (lambda m, a: order_by_area(m), lambda m, a: m.sum((1, 2))[:, None] != m.sum((1, 2))[None]),
        (lambda m, a: order_by_hull(m), lambda m, a: np.ones((len(m), len(m)), bool)),
    ):
        order = check_order(order_of(modal, amodal), len(modal))
        assert not order[~neighbours(modal)].any()
        moved = order_of(modal[places], amodal[places])
        decided = untied(modal, amodal)[np.ix_(places, places)]
        np.testing.assert_array_equal(moved[decided], order[np.ix_(places, places)][decided])
    check_order(order_by_y_axis(modal), len(modal))


def hides(modal, amodal):
    return np.einsum("ihw,jhw->ij", modal.astype(int), amodal.astype(int))


@quick
@given(scenes())
def test_who_is_drawn_first_is_in_front(scene):
    modal, amodal = scene
    order = order_from_masks(modal, amodal)
    assert not (np.triu(order, 1) == -1).any()
    for front, behind in order_pairs(order):
        assert front < behind and (modal[front] & amodal[behind]).any()


@quick
@given(scenes())
def test_neighbours_touch(scene):
    modal, _ = scene
    touching = neighbours(modal)
    expected = np.einsum("ihw,jhw->ij", dilate(modal).astype(int), modal.astype(int)) > 0
    np.fill_diagonal(expected, False)
    np.testing.assert_array_equal(touching, expected)
    np.testing.assert_array_equal(touching, touching.T)


@quick
@given(relations)
def test_reachable_is_a_transitive_closure(direct):
    reached = reachable(direct)
    assert not reached.diagonal().any()
    off_diagonal = ~np.eye(len(direct), dtype=bool)
    assert not (direct & off_diagonal & ~reached).any()
    twice = (reached.astype(int) @ reached.astype(int) > 0) & off_diagonal
    assert not (twice & ~reached).any()
    # The least one: every pair is joined by a path, found here one step after the other.
    paths = direct | np.eye(len(direct), dtype=bool)
    for _ in range(len(direct)):
        paths = paths | (paths.astype(int) @ direct.astype(int) > 0)
    np.testing.assert_array_equal(reached, paths & off_diagonal)


@quick
@given(orders)
def test_ancestors_hold_the_parents_and_their_ancestors(order):
    above = ancestors(order)
    assert not ((order == -1) & ~above).any()
    np.testing.assert_array_equal(above, reachable(order == -1))
    np.testing.assert_array_equal(ancestors(-order), above.T)  # what is behind me has me in front of it
    np.testing.assert_array_equal(check_order(order, len(order)), order)


@quick
@given(orders)
def test_pairs_tell_the_whole_order(order):
    again = np.zeros_like(order)
    for front, behind in order_pairs(order):
        again[front, behind], again[behind, front] = 1, -1
    np.testing.assert_array_equal(again, order)


@quick
@given(counts.flatmap(lambda n: st.tuples(arrays(np.float64, (n, n), elements=st.floats(0, 50)), arrays(bool, (n, n)))))
def test_who_grows_more_is_behind(pair):
    growth, adjacent = pair
    order = check_order(order_from_increments(growth, adjacent))
    assert not order[~(adjacent | adjacent.T)].any()
    for front, behind in order_pairs(order):
        assert growth[behind, front] > growth[front, behind]
    np.testing.assert_array_equal(order_from_increments(growth.T, adjacent), -order)


@quick
@given(scenes())
def test_evidence_needs_growth(scene):
    modal, amodal = scene
    growth = hull_increments(modal)
    assert not growth.diagonal().any()
    evidence = occlusion_evidence(growth, modal)
    np.testing.assert_array_equal(evidence > 0, (growth > 0) | (growth.T > 0))
    assert not occlusion_evidence(np.zeros_like(growth), modal).any()
