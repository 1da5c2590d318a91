"""Soft outlines: alpha and colours of rims whose truth is known."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from amodal_diffusion.pipelines.deocclusion.matting import loose_parts, soft_outlines

RED, BLUE, GREEN = (210, 40, 30), (30, 60, 200), (40, 170, 60)
ALONE = np.zeros((1, 1), np.int8)


def disc(size=120, radius=35, centre=None):
    y, x = np.mgrid[:size, :size] + 0.5
    cx, cy = centre or (size / 2, size / 2)
    return (x - cx) ** 2 + (y - cy) ** 2 < radius**2


def blurred(mask, sigma):
    picture = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(sigma))
    return np.asarray(picture).astype(np.float32) / 255


def compose(alpha, front, back):
    return np.rint(alpha[..., None] * np.array(front) + (1 - alpha[..., None]) * np.array(back)).astype(np.uint8)


def alpha_of(found, index=0):
    alpha = found.seen[index].astype(np.float32)
    alpha.ravel()[found.pixels[index]] = found.alpha[index] / np.float32(255)
    return alpha


@pytest.mark.parametrize("scale", [1, 4])  # the second is solved on a smaller photo
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_alpha_and_colours_of_a_blurred_disc(scale, off):
    radius = 35 * scale
    mask = disc(120 * scale, radius)
    truth = blurred(mask, scale)
    photo = compose(truth, RED, BLUE)
    given = disc(120 * scale, radius + off * scale)
    found = soft_outlines(photo, given[None], given[None], ALONE, width=3 * 640 / 120)
    alpha = alpha_of(found)
    band = disc(120 * scale, radius + 8 * scale) & ~disc(120 * scale, radius - 8 * scale)
    hard = np.abs(given - truth)[band].mean()
    assert np.abs(alpha - truth)[band].mean() < (0.03 if off == 0 else 0.45 * hard + 0.01)
    shown = alpha[..., None] * found.photo + (1 - alpha[..., None]) * np.array(GREEN)
    wanted = compose(truth, RED, GREEN).astype(np.float32)
    pasted = np.where(given[..., None], photo, np.array(GREEN))
    assert np.abs(shown - wanted)[band].mean() < 0.45 * np.abs(pasted - wanted)[band].mean()
    np.testing.assert_array_equal(found.photo[~band], photo[~band])


def test_a_sharp_edge_takes_nothing_of_its_neighbours():
    mask = disc()
    found = soft_outlines(compose(mask.astype(np.float32), RED, BLUE), mask[None], mask[None], ALONE, width=16.0)
    np.testing.assert_array_equal(found.seen[0], mask)
    np.testing.assert_array_equal(found.amodal[0], mask)
    assert not len(found.pixels[0])


@pytest.mark.parametrize("front", [0, 1])
def test_mixed_pixels_belong_to_the_object_in_front(front):
    left = np.zeros((60, 80), bool)
    left[10:50, 15:40] = True
    right = np.zeros_like(left)
    right[10:50, 40:65] = True
    masks = np.stack([left, right])
    order = np.zeros((2, 2), np.int8)
    order[front, 1 - front], order[1 - front, front] = 1, -1
    photo = np.full((60, 80, 3), GREEN, np.uint8)
    photo[left], photo[right] = RED, BLUE
    photo = np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(1.2)))
    found = soft_outlines(photo, masks, masks, order, width=3 * 640 / 80)
    assert (found.seen.sum(axis=0) <= 1).all() and (found.amodal | ~found.seen).all()
    row = found.seen[:, 30]
    beyond = row[front] & masks[1 - front][30]
    assert beyond.any() and not row[1 - front][masks[front][30]].any()
    colour = found.photo[30][row[1 - front]]  # what is left of the one behind has no colour of the one in front
    assert np.abs(colour.astype(int) - np.array((RED, BLUE)[1 - front])).max() < 40
    both = found.amodal[0, 30] & found.amodal[1, 30]
    assert both.any()  # it goes on beneath the soft rim


def test_what_the_frame_cuts_stays_opaque_there():
    mask = np.zeros((40, 60), bool)
    mask[:, :30] = True
    photo = np.asarray(Image.fromarray(compose(mask.astype(np.float32), RED, BLUE)).filter(ImageFilter.GaussianBlur(1)))
    alpha = alpha_of(soft_outlines(photo, mask[None], mask[None], ALONE, width=3 * 640 / 60))
    assert (alpha[:, :24] == 1).all() and (alpha[:, 36:] == 0).all()


def test_nothing_to_do():
    photo = np.zeros((20, 30, 3), np.uint8)
    none, empty = np.zeros((0, 20, 30), bool), np.zeros((1, 20, 30), bool)
    assert not len(soft_outlines(photo, none, none, np.zeros((0, 0), np.int8), 3.0).seen)
    assert not soft_outlines(photo, empty, empty, ALONE, 3.0).seen.any()
    everything = ~empty
    found = soft_outlines(photo, everything, everything, ALONE, 3.0)
    assert found.seen.all() and not len(found.pixels[0])
    assert soft_outlines(photo, everything, everything, ALONE, 0.0).photo is photo


@pytest.mark.parametrize("step", [1, 2])
def test_what_a_mask_left_out_is_found_beside_it_and_nothing_else(step):
    rng = np.random.default_rng(0)
    whole = disc()
    photo = compose(whole.astype(np.float32), RED, BLUE) + rng.integers(0, 8, (120, 120, 1)).astype(np.uint8)
    y, x = np.mgrid[:120, :120]
    given = whole & (x + y < 160)  # a corner of it was cut
    nobody = np.zeros_like(given)
    found = loose_parts(photo, given, nobody, step)
    missed = whole & ~given
    assert (found & missed).sum() > 0.7 * (missed & (x + y < 160 + 5 * step)).sum() and not (found & ~whole).any()
    assert not loose_parts(photo, whole, nobody, step).any()
    assert not loose_parts(photo, given, missed, step).any()  # of another object
    noise = rng.integers(0, 256, photo.shape).astype(np.uint8)
    assert loose_parts(noise, given, nobody, step).mean() < 0.001
