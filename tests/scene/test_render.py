"""Putting layers together: identity with the photo, cycles, mutual occlusion, transparency, resampling."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion import Layer, Scene
from pipeline_helpers import crossing_bars, stacked_bars
from scene_helpers import make_layer, random_scene, render_slowly, scene_of_objects, shift, tile

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def flat(layers, order=None, size=(12, 12), **fields):
    return Scene(np.zeros((*size, 3), np.uint8), tuple(layers), order, **fields)


def pixels(scene):
    return scene.render(output_type="np")


def at(scene, x, y):
    return tuple(int(value) for value in pixels(scene)[y, x])


@pytest.mark.parametrize("seed", range(5))
def test_untouched_scene_is_the_photo(seed):
    scene = random_scene(seed)
    np.testing.assert_array_equal(pixels(scene), scene.photo)
    assert (scene.background != scene.photo).any()


@pytest.mark.parametrize("seed", range(5))
def test_there_and_back_is_the_photo(seed):
    scene = random_scene(seed)
    there = scene.move(1, 3, -2).rotate(2, 30).flip(0)
    assert (pixels(there) != scene.photo).any()
    back = there.move(1, -3, 2).rotate(2, -30).flip(0)
    np.testing.assert_array_equal(pixels(back), scene.photo)


@pytest.mark.parametrize("seed", range(25))
def test_random_edits_render_as_pixel_by_pixel(seed):
    rng = np.random.default_rng(100 + seed)
    scene = random_scene(seed, count=int(rng.integers(2, 6)))
    for _ in range(int(rng.integers(1, 6))):
        if len(scene) < 2:
            break
        i, j = (int(k) for k in rng.choice(len(scene), 2, replace=False))
        dx, dy = (int(k) for k in rng.integers(-9, 10, 2))
        soft = np.dstack([rng.integers(0, 256, (5, 7, 3)), rng.choice([0, 100, 255], (5, 7))]).astype(np.uint8)
        edits = (
            lambda: scene.move(i, dx, dy),  # noqa: B023
            lambda: scene.move(i, dx, dy).move(j, dx, dy),  # noqa: B023
            lambda: scene.remove(i),  # noqa: B023
            lambda: scene.swap_order(i, j),  # noqa: B023
            lambda: scene.bring_to_front(i),  # noqa: B023
            lambda: scene.send_to_back(i),  # noqa: B023
            lambda: scene.duplicate(i, dx, dy),  # noqa: B023
            lambda: scene.insert(soft, dx, dy),  # noqa: B023
            lambda: scene.set_visible(i, not scene.layers[i].visible),  # noqa: B023
            lambda: scene.set_opacity(i, float(rng.choice([0, 0.4, 1]))),  # noqa: B023
            lambda: scene.restack(i, int(rng.integers(len(scene)))),  # noqa: B023
        )
        scene = edits[int(rng.integers(len(edits)))]()
    np.testing.assert_array_equal(pixels(scene), render_slowly(scene))


def test_without_photo_the_background_is_shown():
    scene = random_scene(0)
    bare = Scene(scene.background, scene.layers, scene.order, rim=scene.rim)
    np.testing.assert_array_equal(pixels(bare), render_slowly(bare))
    for _ in range(len(scene)):
        bare = bare.remove(0)
    np.testing.assert_array_equal(pixels(bare), scene.background)


def test_all_removed_is_the_background():
    modal, amodal = stacked_bars()
    scene = scene_of_objects(modal, amodal, rim=2)
    for _ in range(3):
        scene = scene.remove(0)
    np.testing.assert_array_equal(pixels(scene), scene.background)


def test_removing_the_occluder_shows_the_hidden_part():
    modal, amodal = crossing_bars()
    scene = scene_of_objects(modal, amodal)
    bar = scene.layer_image(0, output_type="np")
    without = pixels(scene.remove(1))
    np.testing.assert_array_equal(without[amodal[0]], bar[..., :3][amodal[0]])
    only = modal[1] & ~amodal[0]
    np.testing.assert_array_equal(without[only], scene.background[only])


def test_rim_of_what_was_moved_comes_from_the_background():
    modal = np.zeros((1, 20, 20), bool)
    modal[0, 8:12, 8:12] = True
    scene = scene_of_objects(modal, modal, rim=2)
    moved = scene.move(0, 0, 100)
    expected = scene.photo.copy()
    expected[6:14, 6:14] = scene.background[6:14, 6:14]
    np.testing.assert_array_equal(pixels(moved), expected)
    np.testing.assert_array_equal(pixels(scene.remove(0)), expected)


def test_cycle_of_three():
    """A over B, B over C, C over A: in each overlap of two the order holds, where all meet the stacking decides."""
    layers = [make_layer(RED, 2, 0), make_layer(GREEN, 0, 2, 1, size=(4, 6)), make_layer(BLUE, 3, 2, 2, size=(6, 4))]
    order = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], np.int8)
    scene = flat(layers, order)
    assert at(scene, 2, 2) == RED
    assert at(scene, 4, 5) == GREEN
    assert at(scene, 3, 3) in (RED, GREEN, BLUE)
    only_two = scene.remove(1)
    assert at(only_two, 3, 3) == BLUE
    np.testing.assert_array_equal(pixels(scene), render_slowly(scene))


def test_a_known_order_outranks_the_place_in_the_stack():
    layers = [make_layer(RED, 0, 0, 0), make_layer(GREEN, 0, 0, 1), make_layer(BLUE, 0, 0, 2)]
    scene = flat(layers)
    assert at(scene, 0, 0) == BLUE and scene.stacking() == [0, 1, 2]
    order = np.array([[0, 0, 1], [0, 0, 0], [-1, 0, 0]], np.int8)
    scene = flat(layers, order)
    assert scene.stacking() == [1, 2, 0] and at(scene, 0, 0) == RED


def test_stacking_begins_with_the_cycle_at_the_back():
    order = np.zeros((4, 4), np.int8)
    for front, back in ((1, 2), (2, 3), (3, 1), (0, 1)):  # 0 is in front of one of a cycle
        order[front, back], order[back, front] = 1, -1
    stack = flat([make_layer(RED, 0, 0, index) for index in range(4)], order).stacking()
    assert stack == [1, 0, 3, 2]  # 1 opens the cycle, though 0 comes first in the list


def mutual_scene():
    """Two bars side by side that lie over each other crosswise: above one hides the other, below the other the one."""
    amodal = np.zeros((2, 20, 30), bool)
    amodal[0, 2:18, 6:14] = True
    amodal[1, 2:18, 10:18] = True
    modal = amodal.copy()
    modal[0, 10:] &= ~amodal[1, 10:]
    modal[1, :10] &= ~amodal[0, :10]
    return scene_of_objects(modal, amodal, np.array([[0, 1], [-1, 0]], np.int8))


def test_mutual_occlusion():
    scene = mutual_scene()
    np.testing.assert_array_equal(pixels(scene), scene.photo)
    together = scene.move(0, 8, 1).move(1, 8, 1)
    union = scene.layers[0].amodal.shape
    assert union == (16, 8)
    np.testing.assert_array_equal(pixels(together)[3:19, 14:26], scene.photo[2:18, 6:18])
    turned = scene.rotate(0, 90, about=(12, 10)).rotate(1, 90, about=(12, 10))
    expected = np.rot90(scene.photo[4:16, 6:18])
    np.testing.assert_array_equal(pixels(turned)[4:16, 6:18][:, 2:10], expected[:, 2:10])


def test_mutual_occlusion_ends_with_a_move_or_a_swap():
    scene = mutual_scene()
    first, second = (scene.layer_image(i, output_type="np")[..., :3] for i in (0, 1))
    overlap = np.s_[2:18, 10:14]
    np.testing.assert_array_equal(pixels(scene.swap_order(0, 1))[overlap], second[overlap])
    np.testing.assert_array_equal(pixels(scene.swap_order(0, 1).swap_order(0, 1))[overlap], first[overlap])
    np.testing.assert_array_equal(pixels(scene.bring_to_front(1))[overlap], second[overlap])
    np.testing.assert_array_equal(pixels(scene.send_to_back(1))[overlap], first[overlap])
    moved = scene.move(1, 1)
    np.testing.assert_array_equal(pixels(moved)[2:18, 11:14], first[2:18, 11:14])


def test_no_seam_beside_what_was_brought_to_the_front():
    """The gap between the masks of two objects shows the photo, until the hidden part comes to the front."""
    modal = np.zeros((2, 12, 20), bool)
    modal[0, 3:9, 2:8] = True
    modal[1, 3:9, 9:14] = True  # a gap of one pixel
    amodal = modal.copy()
    amodal[0, 3:9, 8:12] = True
    scene = scene_of_objects(modal, amodal, np.array([[0, -1], [1, 0]], np.int8))
    np.testing.assert_array_equal(pixels(scene), scene.photo)
    front = pixels(scene.bring_to_front(0))
    np.testing.assert_array_equal(front[3:9, 2:12], scene.layer_image(0, output_type="np")[3:9, 2:12, :3])
    np.testing.assert_array_equal(front[3:9, 12:14], scene.photo[3:9, 12:14])


def test_transparency_is_premultiplied():
    """The colour of transparent pixels never mixes into the edge of a layer that is resampled."""
    rgba = tile(RED, 9, 9)
    rgba[:, 5:] = (*GREEN, 0)
    mask = rgba[..., 3] > 0
    scene = flat([Layer(rgba, mask, mask)], size=(20, 20)).move(0, 0.5, 0.5).scale(0, 1.3).rotate(0, 20)
    picture = pixels(scene)
    assert picture[..., 0].max() == 255 and (picture[..., 1:] == 0).all()


def test_soft_layers_mix_front_to_back():
    scene = flat([make_layer(WHITE, alpha=255), make_layer(RED, index=1, alpha=128)])
    assert at(scene, 1, 1) == (255, 127, 127)
    order = np.array([[0, 1], [-1, 0]], np.int8)
    assert at(flat(scene.layers, order), 1, 1) == WHITE


@pytest.mark.parametrize(("x", "y"), [(-3, -2), (10, 9), (-4, 0), (0, 12), (200, -300), (-3.5, 2.25), (11.5, 11.5)])
def test_layers_may_leave_the_canvas(x, y):
    big = np.zeros((40, 40, 3), np.uint8)
    layer = make_layer(RED, 14 + x, 14 + y)
    expected = pixels(Scene(big, (layer,)))[14:26, 14:26]
    np.testing.assert_array_equal(pixels(flat([make_layer(RED, x, y)])), expected)


def test_whole_pixels_keep_colours_bit_for_bit():
    rng = np.random.default_rng(0)
    rgba = rng.integers(0, 256, (5, 6, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    mask = np.ones((5, 6), bool)
    scene = flat([Layer(rgba, mask, mask)], size=(30, 30))
    for edited, expected in (
        (scene.move(0, 7, 3), rgba),
        (scene.flip(0).move(0, 7, 3), rgba[:, ::-1]),
        (scene.flip(0, horizontal=False).move(0, 7, 3), rgba[::-1]),
        (scene.rotate(0, 180).move(0, 7, 3), rgba[::-1, ::-1]),
    ):
        np.testing.assert_array_equal(pixels(edited)[3:8, 7:13], expected[..., :3])
    turned = pixels(scene.rotate(0, 90, about=(3, 3)).move(0, 10, 10))
    np.testing.assert_array_equal(turned[10:16, 10:15], np.rot90(rgba)[..., :3])  # counter-clockwise


def test_edits_do_not_resample_each_other():
    rng = np.random.default_rng(1)
    layer = make_layer(RED, 10, 10, size=(8, 8))
    noisy = Layer(np.dstack([rng.integers(0, 256, (8, 8, 3)), np.full((8, 8), 255)]).astype(np.uint8), layer.modal,
                  layer.amodal, transform=layer.transform)  # fmt: skip
    scene = flat([noisy], size=(30, 30))
    again = scene
    for _ in range(12):
        again = again.rotate(0, 30).scale(0, 2).scale(0, 0.5)
    np.testing.assert_array_equal(pixels(again), pixels(scene))


def test_shrinking_averages():
    """A checkerboard becomes grey; without averaging it would stay black or white."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    rgba = np.dstack([board, board, board, np.full_like(board, 255)])
    mask = np.ones((64, 64), bool)
    scene = flat([Layer(rgba, mask, mask)], size=(64, 64)).scale(0, 0.25)
    inner = pixels(scene)[26:38, 26:38]
    assert inner.min() > 110 and inner.max() < 145
    alpha = scene.layer_image(0, output_type="np")[..., 3] / 255
    assert alpha.sum() == pytest.approx(16 * 16, rel=0.02)


def test_shrinking_to_nothing_and_growing_beyond_the_canvas():
    scene = flat([make_layer(RED, 4, 4)])
    assert pixels(scene.scale(0, 1e-4)).max() == 0
    assert (pixels(scene.scale(0, 1e4)) == RED).all()


def test_layer_image():
    scene = flat([make_layer(RED, 2, 3, alpha=128), make_layer(BLUE, 2, 3, 1)])
    image = scene.layer_image(0)
    assert image.mode == "RGBA" and image.size == (12, 12) and image.getpixel((2, 3)) == (255, 0, 0, 128)
    assert image.getpixel((0, 0)) == (0, 0, 0, 0)
    assert scene.layer_image(0, canvas=False).size == (4, 4)
    assert scene.layer_image(0, output_type="pt").shape == (4, 12, 12)
    away = scene.move(0, 500).layer_image(0, output_type="np")
    assert away.shape == (12, 12, 4) and not away.any()
    half = scene.move(0, 0.5).layer_image(0, output_type="np")
    assert half[3, 2].tolist() == [255, 0, 0, 64]


def test_a_hidden_layer_is_as_if_removed():
    scene = random_scene(3)
    moved = scene.move(0, 4, 1)
    for before in (scene, moved):
        for i in range(len(before)):
            hidden = before.set_visible(i, False)
            np.testing.assert_array_equal(pixels(hidden), pixels(before.remove(i)))
            np.testing.assert_array_equal(pixels(hidden.set_visible(i)), pixels(before))
            np.testing.assert_array_equal(
                hidden.layer_image(i, output_type="np"), before.layer_image(i, output_type="np")
            )


def test_opacity_lets_what_is_behind_shine_through():
    modal, amodal = crossing_bars()
    scene = scene_of_objects(modal, amodal)
    whole, without = pixels(scene).astype(float), pixels(scene.remove(1)).astype(float)
    for opacity in (0, 0.25, 1):
        faded = pixels(scene.set_opacity(1, opacity)).astype(float)
        mixed = np.where(modal[1][..., None], opacity * whole + (1 - opacity) * without, whole if opacity else without)
        assert np.abs(faded - mixed)[modal[1]].max() <= 0.5 + 1e-6
        assert (faded == mixed)[modal[0]].all()
    turned = scene.rotate(1, 30).scale(1, 0.7)
    shown, none = pixels(turned).astype(float), pixels(turned.remove(1)).astype(float)
    assert np.abs(pixels(turned.set_opacity(1, 0.5)) - (shown + none) / 2).max() <= 1
    alpha = turned.set_opacity(1, 0.5).layer_image(1, output_type="np")[..., 3].astype(int)
    assert np.abs(2 * alpha - turned.layer_image(1, output_type="np")[..., 3]).max() <= 2


def test_output_types():
    scene = random_scene(3)
    array = pixels(scene)
    assert array.dtype == np.uint8 and array.flags.writeable
    assert isinstance(scene.render(), Image.Image) and scene.render().mode == "RGB"
    np.testing.assert_array_equal(np.asarray(scene.render()), array)
    np.testing.assert_array_equal(scene.render(output_type="pt").numpy().transpose(1, 2, 0), array)
    with pytest.raises(ValueError, match="`output_type`"):
        scene.render(output_type="latent")


def test_no_layers():
    background = np.full((3, 4, 3), 7, np.uint8)
    np.testing.assert_array_equal(pixels(Scene(background)), background)
    np.testing.assert_array_equal(pixels(Scene(background, photo=background + 1)), background + 1)


def test_replaced_pixels_show_the_background():
    background, photo = np.full((3, 4, 3), 7, np.uint8), np.full((3, 4, 3), 9, np.uint8)
    replaced = np.zeros((3, 4), bool)
    replaced[1, 2] = True
    picture = pixels(Scene(background, photo=photo, replaced=replaced))
    assert (picture[..., 0] == np.where(replaced, 7, 9)).all()


def test_order_of_shift_is_x_then_y():
    assert at(flat([make_layer(RED, 5, 1)]), 5, 1) == RED and np.array_equal(shift(5, 1)[:, 2], (5, 1))


def soft_scene():
    """A white square with a soft outline before black and white halves; the photo shows it on grey."""
    alpha = np.zeros((8, 8), np.uint8)
    alpha[1:7, 1:7], alpha[2:6, 2:6] = 128, 255
    rgba = np.dstack([np.full((8, 8, 3), 250, np.uint8), alpha])
    seen = alpha > 0
    layer = Layer(rgba, seen, seen, None, shift(4, 4), origin=shift(4, 4), id=0)
    background = np.zeros((16, 30, 3), np.uint8)
    background[:, 15:] = 200
    photo = background.copy()
    photo[4:12, 4:12][seen] = np.rint(alpha[seen][:, None] / 255 * 250)
    photo[5, 5] += 9  # not quite what alpha says
    return Scene(background, (layer,), photo=photo)


def test_soft_outlines_leave_the_photo_alone_and_mix_with_what_is_behind_elsewhere():
    scene = soft_scene()
    np.testing.assert_array_equal(pixels(scene), scene.photo)
    np.testing.assert_array_equal(pixels(scene.move(0, 0.25, 1).move(0, -0.25, -1)), scene.photo)
    moved = scene.move(0, 14, 0)
    assert at(moved, 19, 6) == (225,) * 3 and at(moved, 20, 6) == (250,) * 3  # no dark rim
    np.testing.assert_array_equal(pixels(moved)[:, :14], scene.background[:, :14])
    behind = scene.insert(np.full((8, 8, 4), 100, np.uint8) | np.array([0, 0, 0, 255], np.uint8), 3, 3).send_to_back(1)
    assert at(behind, 5, 6) == (175,) * 3 and at(behind, 7, 7) == (250,) * 3 and at(behind, 13, 7) == (0,) * 3


def test_shadows_fall_on_the_background_and_go_where_their_layer_goes():
    scene = soft_scene()
    shadow = np.zeros((12, 12), np.uint8)
    shadow[10:, :] = 128
    layer = replace(scene.layers[0], shadow=shadow)
    photo = scene.photo.copy()
    photo[:, :2] = 90
    scene = replace(scene, layers=(layer,), photo=photo, background=np.full_like(photo, 200))
    np.testing.assert_array_equal(pixels(scene), photo)
    moved = pixels(scene.move(0, 12, 0))
    assert (moved[12:14, 2:14] == 200).all() and (moved[12:14, 14:26] < 110).all()
    np.testing.assert_array_equal(moved[:, :2], photo[:, :2])
    gone = pixels(scene.remove(0))
    assert (gone[12:14, 2:14] == 200).all() and (gone[14:] == photo[14:]).all()
    lit = scene.remove_shadow(0)
    assert lit.layers[0].shadow is None and (pixels(lit)[12:14, 2:14] == 200).all()
    np.testing.assert_array_equal(pixels(lit)[4:12], photo[4:12])
    np.testing.assert_array_equal(pixels(scene.move(0, 5, 0).remove_shadow(0).move(0, -5, 0)), pixels(lit))
    half = replace(scene, replaced=np.arange(30)[None].repeat(16, 0) < 5)
    assert (pixels(half)[12:14, 2:5] == 100).all()  # where the background is seen, the shadow falls on it


def test_shadows_fade_and_hide_with_their_layer():
    mask = np.ones((2, 2), bool)
    layer = Layer(tile(WHITE, 2, 2), mask, mask, transform=shift(2, 2), shadow=np.full((4, 4), 100, np.uint8))
    scene = Scene(np.full((8, 8, 3), 200, np.uint8), (layer,))
    for opacity, expected in ((1, 200 * 155 / 255), (0.5, 200 * 205 / 255), (0, 200)):
        assert at(scene.set_opacity(0, opacity), 1, 1)[0] == round(expected)
    assert at(scene.set_visible(0, False), 1, 1) == (200, 200, 200)
    home = replace(layer, origin=layer.transform)
    photo = pixels(scene)
    known = Scene(scene.background, (home,), photo=photo)
    np.testing.assert_array_equal(pixels(known), photo)
    np.testing.assert_array_equal(pixels(known.set_visible(0, False)), scene.background)
    np.testing.assert_array_equal(pixels(known.set_opacity(0, 0.5)), pixels(scene.set_opacity(0, 0.5)))


def test_shadow_errors():
    layer = soft_scene().layers[0]
    for shadow in (np.zeros((12, 10), np.uint8), np.zeros((6, 6), np.uint8), np.zeros((9, 9), np.uint8)):
        with pytest.raises(ValueError, match="`shadow` must be the tile of 8x8 pixels with one margin on all sides"):
            replace(layer, shadow=shadow)
    with pytest.raises(TypeError, match="`shadow` must have dtype uint8"):
        replace(layer, shadow=np.zeros((8, 8)))


@pytest.mark.parametrize("seed", range(4))
def test_strips_change_nothing(seed, monkeypatch):
    scene = random_scene(seed)
    scene = scene.move(0, 3, 4).rotate(1, 20).swap_order(0, 2).scale(2, 1.4)
    whole = pixels(scene)
    monkeypatch.setattr("amodal_diffusion.scene.render._STRIP_PIXELS", 5 * scene.size[0])
    np.testing.assert_allclose(pixels(scene).astype(int), whole, atol=1)
