"""Masks that end before the frame: they go on to it where the object does."""

import numpy as np
import pytest

from amodal_diffusion.pipelines.deocclusion.framing import reach_frame


def standing(gap=6, cut=True, scale=1, seed=0):
    """An object on grainy ground that the lower frame cuts, or that stands just above it, and its mask."""
    rng = np.random.default_rng(seed)
    photo = rng.normal(100, 6, (100 * scale, 140 * scale, 3))
    bottom = (100 if cut else 100 - gap) * scale
    photo[30 * scale : bottom, 50 * scale : 90 * scale] += (90, 40, -40)
    mask = np.zeros(photo.shape[:2], bool)
    mask[30 * scale : (100 - gap) * scale, 50 * scale : 90 * scale] = True
    return np.rint(photo.clip(0, 255)).astype(np.uint8), mask


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("gap", [2, 10])
def test_a_mask_goes_on_to_the_frame(turns, gap):
    photo, mask = (np.ascontiguousarray(np.rot90(plane, turns)) for plane in standing(gap))
    modal, amodal = reach_frame(photo, mask[None], mask[None])
    added = np.rot90(modal[0] & ~mask, -turns)
    assert added[100 - gap :, 51:89].all()
    added[100 - gap :, 48:92] = False
    assert not added.any()
    np.testing.assert_array_equal(modal, amodal)


def test_a_large_photo_is_looked_at_smaller():
    photo, mask = standing(gap=3, scale=8)
    (found,), _ = reach_frame(photo, mask[None], mask[None])
    assert found[97 * 8 :, 52 * 8 : 88 * 8].all() and not found[:, : 48 * 8].any()


@pytest.mark.parametrize("gap", [3, 10, 30])
def test_ground_in_front_of_an_object_stays(gap):
    photo, mask = standing(gap, cut=False)
    masks = mask[None]
    modal, amodal = reach_frame(photo, masks, masks)
    assert modal is masks and amodal is masks


def test_other_objects_keep_their_pixels():
    photo, mask = standing()
    other = np.zeros_like(mask)
    other[94:, 60:80] = True
    masks = np.stack([mask, other])
    modal, _ = reach_frame(photo, masks, masks)
    assert modal.sum(axis=0).max() == 1
    assert modal[1, 95, 70] and modal[0, 97, 53] and modal[0, 97, 87]


def test_nothing():
    photo, mask = standing()
    empty = np.zeros((0, *mask.shape), bool)
    assert reach_frame(photo, empty, empty)[0] is empty
    none = np.zeros_like(mask)[None]
    assert reach_frame(photo, none, none)[0] is none
    full = np.ones_like(mask)[None]
    assert reach_frame(photo, full, full)[0] is full


def test_the_frame_of_a_larger_canvas_is_that_of_the_photo():
    photo, mask = standing()
    (expected,), _ = reach_frame(photo, mask[None], mask[None])
    canvas, unknown = np.zeros((110, 160, 3), np.uint8), np.ones((110, 160), bool)
    canvas[4:104, 9:149], unknown[4:104, 9:149] = photo, False
    wide = np.zeros((1, 110, 160), bool)
    wide[0, 4:104, 9:149] = mask
    (found,), _ = reach_frame(canvas, wide, wide, unknown)
    np.testing.assert_array_equal(found[4:104, 9:149], expected)
    assert not found[unknown].any()
