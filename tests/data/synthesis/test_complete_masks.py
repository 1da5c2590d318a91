"""Which objects count as seen whole, which as partly hidden."""

import numpy as np
import pytest

from amodal_diffusion.data.synthesis import complete_objects, partial_objects, truncated_objects


def rectangle(top, left, height, width, shape=(60, 80)):
    mask = np.zeros(shape, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def scene():
    """0 in front of 1, which it touches; 2 alone; 3 cut off by the lower side; 4 without pixels."""
    front, behind = rectangle(10, 10, 20, 20), rectangle(15, 30, 10, 20)
    return np.stack([front, behind, rectangle(5, 60, 10, 10), rectangle(50, 30, 10, 15), rectangle(0, 0, 0, 0)])


def order_of(*pairs, count=5):
    order = np.zeros((count, count), np.int8)
    for front, behind in pairs:
        order[front, behind], order[behind, front] = 1, -1
    return order


def test_complete_is_what_nothing_hides_or_cuts():
    assert complete_objects(scene(), order_of((0, 1))).tolist() == [True, False, True, False, False]
    assert partial_objects(scene(), order_of((0, 1))).tolist() == [False, True, False, False, False]


def test_the_order_decides_who_of_two_neighbours_is_complete():
    assert complete_objects(scene(), order_of((1, 0))).tolist() == [False, True, True, False, False]


def test_neighbours_without_a_relation_hide_nothing():
    assert complete_objects(scene(), order_of()).tolist() == [True, True, True, False, False]
    assert not partial_objects(scene(), order_of()).any()


def test_without_an_order_every_neighbour_counts_as_possibly_in_front():
    assert complete_objects(scene(), None).tolist() == [False, False, True, False, False]


def test_a_relation_of_objects_that_do_not_touch_hides_nothing():
    order = order_of((2, 0))
    assert complete_objects(scene(), order).tolist() == [True, True, True, False, False]
    assert not partial_objects(scene(), order).any()


def test_mutual_occlusion_makes_no_object_complete():
    masks = np.stack([rectangle(10, 10, 20, 20), rectangle(10, 30, 20, 20), rectangle(30, 20, 10, 20)])
    cycle = order_of((0, 1), (1, 2), (2, 0), count=3)
    assert not complete_objects(masks, cycle).any()
    assert partial_objects(masks, cycle).all()


def test_crowds_are_neither():
    crowd = [True, True, False, False, False]
    assert complete_objects(scene(), order_of((0, 1)), is_crowd=crowd).tolist() == [False, False, True, False, False]
    assert not partial_objects(scene(), order_of((0, 1)), is_crowd=crowd).any()


def test_a_truncated_object_behind_another_is_not_partial():
    masks = np.stack([rectangle(20, 20, 20, 20), rectangle(40, 20, 20, 20)])
    order = order_of((0, 1), count=2)
    assert not partial_objects(masks, order).any()
    assert partial_objects(masks, order, max_truncation=1.0).tolist() == [False, True]


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
def test_truncation_counts_each_side_by_itself(side):
    mask = np.zeros((60, 80), bool)
    mask[20:40, 20:60] = True  # 40 wide, 20 high
    contact = {"top": (0, slice(30, 33)), "bottom": (-1, slice(30, 33))}
    contact |= {"left": (slice(25, 28), 0), "right": (slice(25, 28), -1)}
    mask[contact[side]] = True  # the box reaches the frame there: 3 pixels of 40 x 40, or of 60 x 20
    extent = 40 if side in ("top", "bottom") else 20
    assert truncated_objects(mask[None], 2.5 / extent).tolist() == [True]
    assert truncated_objects(mask[None], 3.0 / extent).tolist() == [False]


def test_truncation_bounds():
    touching = rectangle(50, 10, 10, 20)
    assert truncated_objects(touching[None]).tolist() == [True]
    assert truncated_objects(touching[None], 1.0).tolist() == [False]
    inside = rectangle(10, 10, 10, 20)
    assert truncated_objects(inside[None], 0.0).tolist() == [False]
    assert truncated_objects(np.zeros((1, 60, 80), bool)).tolist() == [False]
    assert truncated_objects(np.zeros((0, 60, 80), bool)).shape == (0,)


def test_a_permutation_of_the_objects_permutes_the_answer():
    order = order_of((0, 1), (2, 3))
    turn = np.array([3, 1, 4, 0, 2])
    expected = complete_objects(scene(), order)[turn]
    assert np.array_equal(complete_objects(scene()[turn], order[np.ix_(turn, turn)]), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": order_of(count=4)}, "order"),
        ({"order": None, "is_crowd": [True]}, r"`is_crowd` must have shape \(5,\), got \(1,\)"),
        ({"order": None, "max_truncation": 1.5}, r"`max_truncation` must lie in \[0, 1\], got 1.5"),
    ],
)
def test_bad_inputs_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        complete_objects(scene(), **options)
