"""What masks have left out of objects, found beside them."""

import numpy as np
import pytest

from amodal_diffusion import ScenePipeline
from amodal_diffusion.pipelines.deocclusion.remains import remains, remains_reach, with_remains
from pipeline_helpers import gap_filler
from scene_helpers import pixels, tiny_content


def disc(height=120, width=160, radius=30):
    y, x = np.mgrid[:height, :width]
    return (y - height / 2) ** 2 + (x - width / 2) ** 2 < radius**2


def photo_of(mask, noise=4):
    grain = np.random.default_rng(0).integers(-noise, noise + 1, (*mask.shape, 1))
    return (np.where(mask[..., None], [170, 60, 40], [70, 110, 90]) + grain).astype(np.uint8)


def test_corners_that_a_mask_cuts_are_found_and_nothing_beside_an_exact_one():
    whole = disc()
    photo = photo_of(whole)
    assert not remains(photo, whole).any()
    coarse = whole.copy()
    coarse[:, :54] = False  # four columns of the disc
    left = remains(photo, coarse)
    assert (left & whole).sum() > 0.9 * (whole & ~coarse).sum()
    assert (left & ~whole).sum() < 0.6 * (whole & ~coarse).sum() and not (left & coarse).any()
    away = np.argwhere(left)[:, None] - np.argwhere(coarse)[None]
    assert np.abs(away).max(axis=2).min(axis=1).max() <= remains_reach(*whole.shape)


@pytest.mark.parametrize("seen", [np.zeros((40, 50), bool), np.ones((40, 50), bool)])
def test_nothing_is_found_without_objects_or_without_background(seen):
    assert not remains(np.zeros((40, 50, 3), np.uint8), seen).any()


def test_colours_that_the_background_has_too_are_left():
    whole = disc()
    coarse = whole.copy()
    coarse[:, :54] = False
    assert not remains(np.full((*whole.shape, 3), 90, np.uint8), coarse).any()


def test_what_remains_belongs_to_each_object_beside_it():
    whole = disc()
    photo, left, right = photo_of(whole), whole.copy(), whole.copy()
    left[:, 78:] = right[:, :82] = False  # columns between them are in neither mask
    seen = np.stack([left, right])
    places, reach = with_remains(photo, seen)
    assert np.array_equal(seen, [left, right])
    assert np.array_equal(with_remains(photo, seen, overwrite=True)[0], places) and np.array_equal(seen, places)
    left_out, between = remains(photo, left | right), whole & ~left & ~right
    assert reach == remains_reach(*whole.shape) and (left_out & between).any()
    assert (places[:, left_out & between]).all() and np.array_equal(places.any(0), left | right | left_out)
    assert (places[0] & left == left).all() and not (places[0] & (np.arange(160) > 78 + reach)).any()
    nothing, none = with_remains(photo, np.zeros((0, *whole.shape), bool))
    assert nothing.shape == (0, *whole.shape) and none == 0


def test_what_was_left_out_goes_with_the_object_and_the_untouched_scene_is_the_photo():
    whole = disc()
    photo, coarse = photo_of(whole), whole.copy()
    coarse[:, :54] = False
    masks = np.stack([coarse, disc(radius=3)[:, np.r_[80:160, :80]]])
    pipe = ScenePipeline(gap_filler(), tiny_content(filler="auto"), edge_width=3)
    pipe.set_progress_bar_config(disable=True)
    scene = pipe(photo, masks)
    np.testing.assert_array_equal(pixels(scene), photo)
    red = pixels(scene.remove(0)).astype(int)[..., 0] > 130
    assert not red[20:100, 40:120].any()
    exact = pipe(photo, np.stack([whole, masks[1]]))
    assert exact.rim == 0  # where masks follow their objects nothing changes beside them
