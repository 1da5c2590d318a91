"""Pixels on the wrong side of the border of two objects."""

import numpy as np
import pytest

from amodal_diffusion import ScenePipeline
from amodal_diffusion.pipelines.deocclusion.borders import settle_borders
from pipeline_helpers import gap_filler
from scene_helpers import pixels, tiny_content

ORDER = np.array([[0, 1], [-1, 0]], np.int8)


def pair(border, drawn, height=80, width=120):
    """A photo of two objects that meet at a column, and their masks, which meet at another one."""
    grain = np.random.default_rng(0).integers(-4, 5, (height, width, 1))
    left = np.broadcast_to(np.arange(width) < border, (height, width))
    photo = (np.where(left[..., None], [170, 60, 40], [60, 90, 170]) + grain).astype(np.uint8)
    mask = np.zeros((height, width), bool)
    mask[10:70, 10:drawn] = True
    other = np.zeros_like(mask)
    other[10:70, drawn:110] = True
    return photo, np.stack([mask, other])


@pytest.mark.parametrize("off", [-4, 4])
def test_pixels_change_sides_where_masks_are_off(off):
    photo, masks = pair(60, 60 - off)
    given = masks.copy()
    seen, whole = settle_borders(photo, masks, masks, ORDER)
    np.testing.assert_array_equal(masks, given)
    np.testing.assert_array_equal(settle_borders(photo, masks, given, ORDER, overwrite=True), (seen, whole))
    np.testing.assert_array_equal(given, whole)
    np.testing.assert_array_equal(seen.any(0), masks.any(0))
    assert not seen.all(0).any()
    wrong = seen[0][:, 60:].sum() + seen[1][:, :60].sum()
    assert wrong < 0.2 * 60 * abs(off)
    # What is behind goes on behind what it lost; what is in front has only what is seen of it.
    np.testing.assert_array_equal(whole[0], seen[0])
    np.testing.assert_array_equal(whole[1], seen[1] | (masks[1] & seen[0]))


def test_masks_that_are_right_and_objects_of_one_colour_stay():
    photo, masks = pair(60, 60)
    assert settle_borders(photo, masks, masks, ORDER)[0] is masks
    grey = np.full_like(photo, 90)
    assert settle_borders(grey, masks, masks, ORDER)[0] is masks
    assert settle_borders(grey, masks[:1], masks[:1], ORDER[:1, :1])[0].shape == masks[:1].shape


def test_a_stripe_goes_with_the_object_that_it_belongs_to():
    photo, masks = pair(60, 56)
    pipe = ScenePipeline(gap_filler(), tiny_content(filler="auto"), edge_width=3)
    pipe.set_progress_bar_config(disable=True)
    scene = pipe(photo, masks, order=ORDER)
    np.testing.assert_array_equal(pixels(scene), photo)
    red = pixels(scene.remove(0)).astype(int)[20:60, 57:64]
    assert (red[..., 0] < 140).all()
