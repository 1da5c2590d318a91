"""Regions of the background as further objects: disjoint, behind what is annotated, and only where that helps."""

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.data.schema import build_objects, record_masks, record_order
from amodal_diffusion.data.synthesis import background_segments, with_background
from amodal_diffusion.masks import encode_rle


@pytest.fixture
def photo():
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[24:], pixels[:24, 40:] = (200, 180, 90), (40, 90, 220)
    return Image.fromarray(pixels)


@pytest.fixture
def masks():
    found = np.zeros((2, 48, 64), bool)
    found[0, 16:40, 4:20] = found[1, 16:40, 24:36] = True
    return found


def make_row(photo, masks, amodal=False):
    items = [
        {"id": index + 5, "name": "cup", "category_id": 1, "is_stuff": False, "is_crowd": False,
         "modal_mask": encode_rle(mask), "amodal_mask": encode_rle(mask) if amodal else None}
        for index, mask in enumerate(masks)
    ]  # fmt: skip
    return {
        "image_id": 1, "source": "mine", "file_name": "1.png", "height": 48, "width": 64, "image": photo,
        "objects": build_objects(items), "order_relations": None,
    }  # fmt: skip


def everything_in_front(photo, modal):
    """The first objects are in front of the later ones."""
    places = np.arange(len(modal))
    return modal, np.sign(places[None] - places[:, None]).astype(np.int8)


def test_segments_are_disjoint_and_by_size(photo, masks):
    found = background_segments(photo, masks, min_share=0.05)
    assert len(found) == 3 and found.sum(axis=0).max() == 1 and not (found & masks.any(axis=0)).any()
    areas = found.sum(axis=(1, 2))
    assert areas.tolist() == sorted(areas, reverse=True)
    assert len(background_segments(photo, masks, most=1)) == 1
    assert background_segments(photo, np.ones((1, 48, 64), bool)).shape == (0, 48, 64)


def test_they_join_the_objects_that_hide_them(photo, masks):
    row = make_row(photo, masks)
    (made,) = with_background([row], everything_in_front, most=2)
    assert [item["is_stuff"] for item in made["objects"]] == [False, False, True, True]
    assert len({item["id"] for item in made["objects"]}) == 4
    modal, amodal = record_masks(made)
    assert modal.sum(axis=0).max() == 1 and np.array_equal(modal[:2], masks) and np.array_equal(modal, amodal)
    assert np.array_equal(record_order(made), everything_in_front(photo, modal)[1]) and len(row["objects"]) == 2


def test_what_may_be_in_front_is_left_out(photo, masks):
    def label(photo, modal):
        return np.ones_like(modal), -everything_in_front(photo, modal)[1]

    (made,) = with_background([make_row(photo, masks)], label)
    modal, amodal = record_masks(made)
    assert np.array_equal(modal, masks)  # and nothing grows under the regions that are gone
    assert np.array_equal(amodal[0], masks.any(axis=0) | ~background_segments(photo, masks).any(axis=0))


def test_single_objects_and_true_masks_stay_as_they_are(photo, masks):
    rows = [make_row(photo, masks[:1]), make_row(photo, masks, amodal=True)]
    assert [row["objects"] for row in with_background(rows, everything_in_front)] == [row["objects"] for row in rows]
