"""Layers in another shape."""

from dataclasses import replace

import numpy as np
import pytest

from amodal_diffusion import Scene
from amodal_diffusion.scene.layer import compose, invert
from scene_helpers import make_layer, pixels, random_scene, scene_of_objects

RED, BLUE = (255, 0, 0), (0, 0, 255)


def one_layer(**fields):
    """A red square of 4x4 pixels, which the photo shows, on a green ground."""
    photo, ground = np.zeros((2, 12, 16, 3), np.uint8)
    photo[..., 1] = ground[..., 1] = 200
    layer = make_layer(RED, 3, 2, home=True)
    photo[2:6, 3:7] = RED
    return Scene(ground, (layer,), photo=photo, **fields)


def square(x, y, w, h, shape=(12, 16)):
    mask = np.zeros(shape, bool)
    mask[y : y + h, x : x + w] = True
    return mask


@pytest.mark.parametrize("mask", [square(3, 2, 9, 4), square(5, 3, 1, 1), square(9, 8, 3, 3), square(0, 0, 16, 12)])
def test_a_scene_shows_the_new_shape_and_the_ground_where_the_old_one_was(mask):
    reshaped = one_layer().reshape(0, mask)
    assert (reshaped.layer_mask(0) == mask).all()
    expected = np.where(mask[..., None], np.array(RED), (0, 200, 0))
    np.testing.assert_array_equal(pixels(reshaped), expected)
    layer = reshaped.layers[0]
    assert layer.size == (mask.any(axis=0).sum(), mask.any(axis=1).sum()) and layer.origin is None
    assert (layer.modal <= layer.amodal).all() and layer.id == 0 and layer.name == "layer 0"


def test_undo_is_keeping_the_scene():
    scene = one_layer()
    before = pixels(scene)
    scene.reshape(0, square(0, 0, 2, 2))
    np.testing.assert_array_equal(pixels(scene), before)
    assert scene.reshape(0, scene.layer_mask(0)) is scene


def test_a_rim_is_replaced_too():
    scene = one_layer(rim=1)
    scene = replace(scene, background=np.full_like(scene.background, 9))
    left = pixels(scene.reshape(0, square(9, 8, 3, 3)))
    assert (left[1:7, 2:8] == 9).all() and (left[0] == (0, 200, 0)).all()


def test_what_the_layer_shows_stays_where_it_stands_turned_and_smaller():
    rng = np.random.default_rng(0)
    scene = one_layer()
    picture = rng.integers(0, 256, (4, 4, 4), np.uint8)
    picture[..., 3] = 255
    scene = replace(scene, layers=(replace(scene.layers[0], rgba=picture),)).scale(0, 2).rotate(0, 90).move(0, 3, 2)
    mask = scene.layer_mask(0)
    assert mask.sum() == 64
    rows, columns = np.nonzero(mask)
    mask[rows.min() : rows.min() + 2] = False  # a quarter
    reshaped = scene.reshape(0, mask)
    assert (reshaped.layer_mask(0) == mask).all()
    new, old = reshaped.layers[0], scene.layers[0]
    assert sorted(new.size) == [3, 4]
    shift = compose(invert(old.transform), new.transform)
    assert np.allclose(shift[:, :2], np.eye(2))
    x, y = np.round(shift[:, 2]).astype(int)
    np.testing.assert_array_equal(new.rgba, old.rgba[y : y + new.size[1], x : x + new.size[0]])


def test_what_lies_beyond_the_canvas_stays():
    scene = one_layer().move(0, -5, 0)  # half of it is beyond the edge
    reshaped = scene.reshape(0, scene.layer_mask(0) | square(0, 2, 6, 4))
    moved = reshaped.move(0, 5, 0)
    assert (moved.layer_mask(0) == square(3, 2, 8, 4)).all()
    empty = scene.reshape(0, np.zeros((12, 16), bool))
    assert (empty.move(0, 5, 0).layer_mask(0) == square(3, 2, 2, 4)).all()


def test_outlines_are_soft_where_the_layer_had_soft_ones():
    scene = one_layer()
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 0], rgba[..., 3] = 255, 255
    rgba[0, :, 3] = rgba[:, 0, 3] = 77
    mask = np.ones((8, 8), bool)
    soft = replace(scene.layers[0], rgba=rgba, modal=mask, amodal=mask)
    scene = replace(scene, layers=(soft,))
    reshaped = scene.reshape(0, scene.layer_mask(0) | square(11, 2, 5, 8)).layers[0].rgba
    assert (reshaped[1:, 0, 3] == 77).all() and (reshaped[0, 1:4, 3] == 77).all()  # far from what changed
    assert (reshaped[0, 7:-1, 3] == 170).all() and reshaped[4, 9, 3] == 255


def test_the_place_of_others_decides():
    masks = np.stack([square(2, 2, 6, 6), square(8, 2, 4, 8)])
    order = np.array([[0, -1], [1, 0]], np.int8)
    scene = scene_of_objects(masks, masks, order)
    grown = scene.reshape(0, square(2, 2, 12, 4))
    np.testing.assert_array_equal(pixels(grown)[masks[1]], scene.photo[masks[1]])  # it goes on behind the other
    front = pixels(grown.bring_to_front(0))
    assert (front[3, 9] == grown.layers[0].rgba[1, 7, :3]).all()


def test_a_shadow_stays_where_it_was():
    scene = one_layer()
    shadow = np.zeros((8, 8), np.uint8)
    shadow[6] = 100
    scene = replace(scene, layers=(replace(scene.layers[0], shadow=shadow),))
    before, after = (one.layers[0].shadow_layer() for one in (scene, scene.reshape(0, square(4, 1, 9, 2))))
    pictures = [Scene(scene.background, (layer,)).layer_image(0, output_type="np") for layer in (before, after)]
    np.testing.assert_array_equal(*pictures)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_pasted_is_what_is_asked(seed):
    scene = random_scene(seed)
    rng = np.random.default_rng(seed)
    for index in range(len(scene)):
        mask = scene.layer_mask(index) ^ (rng.random(scene.layer_mask(index).shape) < 0.2)
        reshaped = scene.reshape(index, mask)
        assert (reshaped.layer_mask(index) == mask).all()
        new = reshaped.layer_image(index, output_type="np")
        old = scene.layer_image(index, output_type="np")
        kept = mask & scene.layer_mask(index)
        np.testing.assert_array_equal(new[kept], old[kept])
        assert ((new[..., 3] > 0) == mask).all()


def test_a_painter_gives_the_colours_of_what_is_new():
    def paint(picture, known, hole):
        assert (picture[known] == RED).all() and known.sum() == 16 and not (known & hole).any()
        return np.where(hole[..., None], np.uint8(7), np.uint8(99)).repeat(3, axis=2)

    scene = one_layer()
    shown = pixels(scene.reshape(0, square(3, 2, 6, 4), paint=paint))
    assert (shown[2:6, 3:7] == RED).all() and (shown[2:6, 7:9] == 7).all()
    scene.reshape(0, square(3, 2, 2, 2), paint=lambda *_: pytest.fail("nothing is new"))
    with pytest.raises(TypeError, match="`paint` must have dtype uint8, got float64"):
        scene.reshape(0, square(0, 0, 9, 9), paint=lambda picture, *_: picture.astype(float))


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones((12, 16)), TypeError, "`mask` must have dtype bool, got float64"),
        (np.ones((3, 3), bool), ValueError, r"`mask` must have shape \(12, 16\), got \(3, 3\)"),
        (np.zeros((12, 16), bool), ValueError, "`mask` must leave something of the layer"),
    ],
)
def test_masks_refused(mask, error, message):
    with pytest.raises(error, match=message):
        one_layer().reshape(0, mask)


def test_a_tile_that_would_be_too_large_is_refused():
    ground = np.zeros((1000, 1000, 3), np.uint8)
    small = replace(make_layer(RED), transform=np.array([[0.05, 0, 10], [0, 0.05, 10]]))
    with pytest.raises(ValueError, match="`mask` would need a tile of 20"):
        Scene(ground, (small,)).reshape(0, np.ones((1000, 1000), bool))


def test_what_is_placed_by_a_shift_needs_no_photo():
    scene = Scene(np.zeros((12, 16, 3), np.uint8), (make_layer(BLUE),))
    shown = pixels(scene.move(0, 2.5, 0).reshape(0, square(2, 0, 8, 4)))
    assert (shown[1, 4:9] == BLUE).all()


@pytest.mark.parametrize("shaded", [False, True])
def test_a_soft_outline_that_stays_shows_the_photo(shaded):
    """What was painted behind it is bright, the ground beside it dark: no fringe is left between them."""
    rows, columns = np.mgrid[:24, :30] + 0.5
    alpha = (9 - np.hypot(rows - 12, columns - 12)).clip(0, 1)
    alpha[alpha > 0.95] = 1
    ground, colour = np.full((24, 30, 3), 60.0), np.array([200.0, 40, 30])
    ground += np.random.default_rng(0).integers(0, 30, ground.shape)
    photo = np.rint(alpha[..., None] * colour + (1 - alpha[..., None]) * ground).astype(np.uint8)
    rgba = np.dstack([np.broadcast_to(colour, (24, 30, 3)), 255 * alpha]).round().astype(np.uint8)
    seen = alpha > 0
    shadow = np.full((24, 30), 51, np.uint8) if shaded else None
    home = np.eye(2, 3)
    layer = replace(make_layer(RED, size=(24, 30), home=True), rgba=rgba, modal=seen, amodal=seen, shadow=shadow)
    lit = np.rint(ground / (0.8 if shaded else 1))
    background = np.where(seen[..., None], 250, lit).astype(np.uint8)
    scene = Scene(background, (replace(layer, transform=home, origin=home),), photo=photo)
    posed = scene.reshape(0, seen | square(20, 11, 9, 3, (24, 30)))
    left = np.s_[:, :14]  # far from the new arm
    difference = np.abs(pixels(posed).astype(int) - scene.photo)[left]
    assert difference.max() <= 3, difference.max()
    away = pixels(posed.move(0, 400))[left]
    assert (away[alpha[left] == 1] > 150).all()  # the background, where nothing was seen of the ground
