"""The schema of a row, and its decoding."""

import copy

import datasets
import numpy as np
import pytest

from amodal_diffusion.data import DEPTHS, amodal_features, iter_coco, iter_cocoa, record_masks, record_order
from amodal_diffusion.data.schema import build_objects
from amodal_diffusion.masks import decode_rle, encode_rle, mask_boxes
from data_helpers import HEIGHT, WIDTH, box, coco, coco_object, cocoa, region


def random_masks(seed, count=6):
    """Masks with holes, specks, empty and full ones among them."""
    rng = np.random.default_rng(seed)
    masks = rng.random((count, HEIGHT, WIDTH)) < rng.random((count, 1, 1))
    masks[0], masks[1] = False, True
    return masks


def row_of(modal, amodal=None):
    objects = []
    for index, mask in enumerate(modal):
        hidden = None if amodal is None else encode_rle(amodal[index])
        objects.append({"id": index, "modal_mask": encode_rle(mask), "amodal_mask": hidden})
    return {"height": HEIGHT, "width": WIDTH, "objects": build_objects(objects), "order_relations": None}


def test_features_name_what_a_row_has():
    (row,) = iter_coco(coco(coco_object()))
    features = amodal_features()
    assert set(features) == set(row)
    assert set(features["objects"].feature) == set(row["objects"][0])
    assert set(amodal_features(with_image=True)) - set(features) == {"image"}
    assert isinstance(amodal_features(with_image=True)["image"], datasets.Image)
    with_depth = amodal_features(with_depth=True)["objects"].feature
    assert set(with_depth) - set(features["objects"].feature) == {"depth"} and tuple(with_depth["depth"]) == DEPTHS


@pytest.mark.parametrize("seed", range(20))
def test_masks_survive_encoding(seed):
    modal = random_masks(seed)
    amodal = modal | random_masks(seed + 100)
    row = row_of(modal, amodal)
    decoded_modal, decoded_amodal = record_masks(row)
    np.testing.assert_array_equal(decoded_modal, modal)
    np.testing.assert_array_equal(decoded_amodal, amodal)
    assert decoded_modal.dtype == bool and decoded_modal.flags.c_contiguous
    for index, item in enumerate(row["objects"]):
        np.testing.assert_array_equal(decode_rle(item["amodal_mask"]), amodal[index])
        assert item["modal_box"] == mask_boxes(modal)[index].tolist()
        assert item["amodal_box"] == mask_boxes(amodal)[index].tolist()
        hidden, whole = (amodal & ~modal)[index].sum(), amodal[index].sum()
        assert item["occlusion_rate"] == pytest.approx(hidden / max(whole, 1))


def test_visible_pixels_outside_the_amodal_mask_count_for_nothing():
    modal, amodal = np.zeros((2, 1, HEIGHT, WIDTH), dtype=bool)
    amodal[0, :4, :4] = True
    modal[0, :4, 2:8] = True
    assert row_of(modal, amodal)["objects"][0]["occlusion_rate"] == 0.5


def test_amodal_masks_are_none_unless_all_are_known():
    row = row_of(random_masks(0), random_masks(0))
    row["objects"][3]["amodal_mask"] = None
    assert record_masks(row)[1] is None


def test_no_objects():
    row = row_of([])
    modal, amodal = record_masks(row)
    assert modal.shape == amodal.shape == (0, HEIGHT, WIDTH)
    assert record_order(row | {"order_relations": []}).shape == (0, 0)


def test_masks_of_another_size_are_refused():
    row = row_of(random_masks(0)) | {"width": WIDTH + 1}
    with pytest.raises(ValueError, match=r"of object 0: run lengths have size \[12, 16\], the image .* \[12, 17\]"):
        record_masks(row)


@pytest.mark.parametrize("relation", [{"front": 0, "behind": 2}, {"front": -1, "behind": 1}])
def test_order_of_objects_that_are_not_there(relation):
    (row,) = iter_cocoa(cocoa(region(0, 0, 4, 4), region(1, 0, 4, 4)))
    row["order_relations"] = [relation]
    with pytest.raises(ValueError, match="order_relations: indices must be from 0 to 1"):
        record_order(row)


def test_order_is_antisymmetric():
    regions = [region(index, 0, 4, 4) for index in range(4)]
    (row,) = iter_cocoa(cocoa(*regions, depth_constraint="1-2,3-1,4-2"))
    order = record_order(row)
    assert order.dtype == np.int8
    np.testing.assert_array_equal(order, -order.T)
    np.testing.assert_array_equal(np.argwhere(order == 1), [[0, 1], [2, 0], [3, 1]])


def test_reading_leaves_the_content_alone():
    content = coco(coco_object(segmentation=[box(0, 0, 3, 3)]))
    before = copy.deepcopy(content)
    list(iter_coco(content))
    assert content == before


def test_objects_that_occlude_each_other_have_no_order():
    relations = [{"front": 0, "behind": 1}, {"front": 1, "behind": 0}, {"front": 0, "behind": 2}]
    for given in (relations, relations[::-1]):
        order = record_order({"objects": [{}, {}, {}], "order_relations": given})
        assert order.tolist() == [[0, 0, 1], [0, 0, 0], [-1, 0, 0]]
