"""Shapes to objects: pieces, pairs of modal and amodal masks, the order of a stack."""

import numpy as np

from amodal_diffusion.data import record_masks
from amodal_diffusion.data.readers.tools.shapes import Shape, objects_from_shapes
from amodal_diffusion.masks import encode_rle
from data_helpers import HEIGHT, WIDTH, box_mask


def shape(label, *box, **fields):
    return Shape(label, encode_rle(box_mask(*box)), **fields)


def masks_of(objects):
    return record_masks({"height": HEIGHT, "width": WIDTH, "objects": objects})


def test_pieces_of_one_group_are_one_object():
    objects, order = objects_from_shapes(
        [shape("cat", 0, 0, 2, 4, group="1"), shape("bar", 2, 0, 2, 12), shape("cat", 4, 0, 2, 4, group="1")]
    )
    assert [item["name"] for item in objects] == ["cat", "bar"] and order is None
    np.testing.assert_array_equal(masks_of(objects)[0][0], box_mask(0, 0, 2, 4) | box_mask(4, 0, 2, 4))


def test_one_group_of_two_labels_is_two_objects():
    objects, _ = objects_from_shapes([shape("cup", 0, 0, 2, 2, group="1"), shape("spoon", 4, 0, 2, 2, group="1")])
    assert [item["name"] for item in objects] == ["cup", "spoon"]


def test_whole_mask_holds_what_is_visible():
    pair = [shape("cup", 0, 0, 4, 4, group="1"), shape("cup", 2, 0, 6, 4, group="1", amodal=True)]
    objects, _ = objects_from_shapes(pair)
    modal, amodal = masks_of(objects)
    np.testing.assert_array_equal(modal[0], box_mask(0, 0, 4, 4))
    np.testing.assert_array_equal(amodal[0], box_mask(0, 0, 8, 4))
    assert objects[0]["occlusion_rate"] == 0.5


def test_whole_shapes_in_a_stack_hide_each_other():
    objects, order = objects_from_shapes(
        [
            shape("a", 0, 0, 6, 4, amodal=True, z=0),
            shape("b", 4, 0, 6, 4, amodal=True, z=1),
            shape("c", 12, 8, 2, 2, z=2),
        ]
    )
    modal, _ = masks_of(objects)
    np.testing.assert_array_equal(modal[0], box_mask(0, 0, 4, 4))
    np.testing.assert_array_equal(modal[1], box_mask(4, 0, 6, 4))
    assert order == [{"front": 1, "behind": 0}]


def test_shapes_at_one_height_have_no_order():
    shapes = [shape("a", 0, 0, 6, 4, z=0), shape("b", 4, 0, 6, 4, z=0)]
    assert objects_from_shapes(shapes)[1] is None
    assert objects_from_shapes(shapes, order=[(1, 0), (1, 0), (0, 0)])[1] == [{"front": 1, "behind": 0}]
    assert objects_from_shapes(shapes, order=[])[1] == []


def test_no_shapes():
    assert objects_from_shapes([]) == ([], None)
