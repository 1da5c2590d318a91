"""Shadows: found where they are plain to see, and nowhere else."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from amodal_diffusion.masks import dilate, mask_boxes
from amodal_diffusion.pipelines.deocclusion.shadows import find_shadows, light, with_shadows

GROUND, OBJECT = (180, 160, 140), (60, 90, 160)


def scene(dark=0.45, scale=1, noise=2.0, tint=(1.0, 1.0, 1.0), depth=26, seed=0):
    """A box on plain ground with a soft shadow below and beside it: the photo, its mask, the photo unshadowed."""
    rng = np.random.default_rng(seed)
    mask, cast = np.zeros((2, 200 * scale, 240 * scale), bool)
    mask[60 * scale : 120 * scale, 90 * scale : 150 * scale] = True
    y, x = np.mgrid[: 200 * scale, : 240 * scale] / scale
    cast = ((x - 128) / 42) ** 2 + ((y - 120) / (depth / 2)) ** 2 < 1
    plane = Image.fromarray((cast * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(3 * scale))
    share = dark * np.asarray(plane).astype(np.float32)[..., None] / 255
    grain = rng.normal(0, noise, (*mask.shape, 3)) + (y[..., None] - 100) * 0.1
    lit = np.where(mask[..., None], OBJECT, np.array(GROUND) + grain)
    photo = np.where(mask[..., None], lit, lit * (1 - share * np.array(tint)))
    return *(np.rint(picture.clip(0, 255)).astype(np.uint8) for picture in (photo, lit)), mask


@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("dark", [0.25, 0.5])
def test_a_plain_shadow_is_found_and_taken_away(scale, dark):
    photo, unshadowed, mask = scene(dark, scale)
    boxes = mask_boxes(mask[None])
    (shadow,) = find_shadows(photo, mask[None], boxes)
    assert shadow is not None and 0.7 * dark < shadow.max() / 255 < 1.25 * dark
    assert shadow.shape[0] - boxes[0, 3] == shadow.shape[1] - boxes[0, 2]
    lit = light(photo, [shadow], boxes)
    np.testing.assert_array_equal(lit[: 60 * scale], photo[: 60 * scale])
    around = ~mask
    before, after = (np.abs(picture.astype(int) - unshadowed)[around].mean() for picture in (photo, lit))
    assert after < 0.4 * before


def test_no_shadow_is_taken_for_none():
    photo, _, mask = scene(dark=0)
    assert find_shadows(photo, mask[None], mask_boxes(mask[None])) == [None]


@pytest.mark.parametrize(
    "case",
    [
        {"noise": 60.0},  # ground that is not plain
        {"tint": (0.2, 1.0, 1.8)},  # paint, not shade
        {"depth": 160, "dark": 0.4},  # dark ground that does not end
    ],
)
def test_what_is_unsure_is_none(case):
    photo, _, mask = scene(**case)
    assert find_shadows(photo, mask[None], mask_boxes(mask[None])) == [None]


def test_ground_under_another_object_counts_for_nothing():
    photo, _, mask = scene()
    other = np.zeros_like(mask)
    other[110:, :] = True
    other &= ~mask
    masks = np.stack([mask, other])
    assert find_shadows(photo, masks, mask_boxes(masks))[0] is None


def test_nothing():
    photo, _, mask = scene()
    assert find_shadows(photo, mask[:0][None][:0].reshape(0, *mask.shape), np.zeros((0, 4), np.int64)) == []
    assert find_shadows(photo, np.zeros_like(mask)[None], np.zeros((1, 4), np.int64)) == [None]
    assert light(photo, [None], np.zeros((1, 4), np.int64)) is photo


def test_a_dark_wall_behind_is_no_shadow():
    # It reaches the ground beside the foot, is darker than the ground further away, and goes on above.
    photo, _, mask = scene(dark=0)
    photo[20:140, 66:176] = np.where(mask[20:140, 66:176, None], photo[20:140, 66:176], photo[20:140, 66:176] * 0.6)
    assert find_shadows(photo, mask[None], mask_boxes(mask[None])) == [None]


def test_a_deep_shadow_is_painted_and_its_hue_does_not_stay():
    photo, _, mask = scene(dark=0.5, tint=(1.1, 1.0, 0.9))
    boxes = mask_boxes(mask[None])
    shadows = find_shadows(photo, mask[None], boxes)
    places = with_shadows(mask[None], shadows, boxes)
    ground = places[0] & ~mask
    assert ground[122:128, 110:140].all() and not ground[:60].any() and not ground[:, :60].any()
    assert with_shadows(mask[None], [None], boxes).shape == mask[None].shape


@pytest.mark.parametrize("noise", [15.0, 30.0])
def test_a_shadow_on_grass_is_found(noise):
    photo, unshadowed, mask = scene(dark=0.4, noise=noise)
    boxes = mask_boxes(mask[None])
    (shadow,) = find_shadows(photo, mask[None], boxes)
    assert shadow is not None
    lit = light(photo, [shadow], boxes)
    where = np.s_[122:130, 110:146]
    before, after = (abs(float(picture[where].mean()) - unshadowed[where].mean()) for picture in (photo, lit))
    assert after < 0.3 * before


def test_an_object_whose_foot_is_not_seen_has_no_shadow():
    photo, _, mask = scene()
    boxes = mask_boxes(mask[None])
    assert find_shadows(photo[:120], mask[None, :120], boxes) == [None]
    outside = np.zeros_like(mask)
    outside[120:] = True  # the canvas goes on where the photo ends
    assert find_shadows(photo, mask[None], boxes, outside) == [None]
    assert find_shadows(photo, mask[None], boxes, outside & (np.arange(240) < 60))[0] is not None


def bag():
    """A box on plain ground and, beside its foot, a bag as dark as a shadow, but not evenly: the photo and mask."""
    photo, _, mask = scene(dark=0)
    beside = np.zeros_like(mask)
    beside[100:124, 151:170] = True
    share = np.where(np.arange(240) // 4 % 2, 0.85, 0.3)[:, None]
    return np.where(beside[..., None], np.rint(photo * share), photo).astype(np.uint8), mask


def test_what_is_not_evenly_dark_is_no_shadow():
    photo, mask = bag()
    assert find_shadows(photo, mask[None], mask_boxes(mask[None])) == [None]


def test_things_further_off_are_no_ground():
    photo, _, mask = scene(depth=40)
    boxes = mask_boxes(mask[None])
    (alone,) = find_shadows(photo, mask[None], boxes)
    wider = dilate(mask, kernel="square", size=9)  # close to the object nobody knows
    (same,) = find_shadows(photo, mask[None], boxes, things=wider)
    assert alone is not None and np.array_equal(alone, same)
    things = np.zeros_like(mask)
    things[124:] = True  # most of the shadow, and all ground below it
    assert find_shadows(photo, mask[None], boxes, things=things) == [None]


def two_boxes(ground=180, dark=0.25):
    """Two boxes side by side and one shadow that both touch: the photo, their masks, the photo unshadowed."""
    masks = np.zeros((2, 240, 320), bool)
    masks[0, 60:180, 126:160] = masks[1, 60:180, 166:196] = True
    lit = np.full((240, 320, 3), ground, np.uint8)
    lit[masks.any(axis=0)] = 230
    photo = lit.copy()
    photo[176:200, 126:200] = np.rint(lit[176:200, 126:200] * (1 - dark))
    photo[masks.any(axis=0)] = 230
    return photo, masks, lit


def test_a_shadow_is_one_objects_alone():
    photo, masks, lit = two_boxes()
    boxes = mask_boxes(masks)
    shadows = find_shadows(photo, masks, boxes)
    assert shadows[0] is not None and shadows[1] is None  # the larger one's
    assert np.abs(light(photo, shadows, boxes)[184:196, 134:180].astype(int) - lit[184:196, 134:180]).max() < 8


def test_a_black_thing_is_no_shadow():
    photo, _, mask = scene(dark=0)
    photo[100:124, 151:170] = 6
    assert find_shadows(photo, mask[None], mask_boxes(mask[None])) == [None]


@pytest.mark.parametrize("ground", [40, 90, 220])
def test_dark_ground_comes_to_light_as_it_was(ground):
    photo, masks, lit = two_boxes(ground, dark=0.5)
    boxes = mask_boxes(masks)
    found = light(photo, find_shadows(photo, masks, boxes), boxes)
    np.testing.assert_allclose(found[184:196, 134:180].astype(int), lit[184:196, 134:180], atol=0.05 * ground)
