"""Light: shadows where they fall, hidden parts without the shadow of what hides them, photos that differ."""

import numpy as np
import pytest

from amodal_diffusion.data.rooms import Material, PlacedObject, trace_view
from amodal_diffusion.data.rooms.rendering import AreaLight, render_view
from amodal_diffusion.data.rooms.rendering.exposure import draw_development
from amodal_diffusion.data.rooms.rendering.shading import Lighting, Shader, _continued
from room_helpers import box, camera, tile

pytest.importorskip("embreex")

GREY = (Material((0.5, 0.5, 0.5)),)


def lamp(center, strength=3.0):
    return AreaLight(
        np.array(center, dtype=float), np.array([0.1, 0, 0]), np.array([0, 0, 0.1]), np.full(3, strength), True
    )


def test_a_box_throws_a_shadow():
    wall = tile("wall", -4, -4, 4, 4, 6.0, materials=GREY, is_stuff=True)
    obj = PlacedObject(box(half=0.4, center=(0, 0, 4.0), materials=GREY))
    view = trace_view([obj, wall], camera())
    light = Lighting(
        (AreaLight(np.array([-1.5, 0, 3.0]), np.array([0.05, 0, 0]), np.array([0, 0.05, 0.0]), np.full(3, 5.0)),),
        np.zeros(3),
    )
    layer = Shader([obj, wall], light, np.random.default_rng(0)).shade(view, 1, view.owner == 1)
    row = layer.color[32, :, 0]
    assert row[4:20].min() > 0.01
    assert row[44:].max() < 0.2 * row[4:20].min()  # behind the box, seen from the lamp


def test_what_is_hidden_has_no_shadow_of_what_hides_it():
    # A box that lies on a table top, seen from above: all that it hides is as bright as what is seen around it.
    top = tile("table", -1, -1, 1, 1, 3.0, materials=GREY)
    obj = PlacedObject(box(half=0.3, center=(0, 0, 2.7), materials=GREY))
    view = trace_view([obj, top], camera())
    light = Lighting(
        (AreaLight(np.array([0, 0, 0.5]), np.array([0.5, 0, 0]), np.array([0, 0.5, 0.0]), np.full(3, 5.0), True),),
        np.full(3, 0.2),
    )
    layer = Shader([obj, top], light, np.random.default_rng(0)).shade(view, 1, np.ones((64, 64), dtype=bool))
    whole = np.zeros((64, 64, 3))
    whole[view.hits[1].slices] = layer.color
    hidden = view.amodal_masks()[1] & ~view.modal_masks()[1]
    seen = view.modal_masks()[1]
    assert hidden.sum() > 100
    assert whole[hidden].min() > 0.5 * np.median(whole[seen])
    assert whole[hidden].max() < 1.6 * np.median(whole[seen])


def test_continuing_keeps_what_is_known_and_fills_the_rest():
    values = np.zeros((9, 13, 1), dtype=np.float32)
    values[:, :4] = 2.0
    mask = values[..., 0] > 0
    filled = _continued(values[mask], mask)
    assert filled.shape == (9, 13, 1)
    assert np.allclose(filled, 2.0, atol=1e-3)
    assert _continued(np.ones((1, 3)), np.ones((1, 1), dtype=bool)).tolist() == [[[1.0, 1.0, 1.0]]]


def test_glass_shows_what_lies_behind():
    glass = tile("glass", -1, -1, 1, 1, 2.0, materials=(Material((0.9, 0.9, 0.9), opacity=0.2),))
    red = tile("red", -0.4, -0.4, 0.4, 0.4, 3.0, materials=(Material((0.9, 0.05, 0.05)),))
    wall = tile("wall", -4, -4, 4, 4, 5.0, materials=GREY, is_stuff=True)
    objects = [glass, red, wall]
    view = trace_view(objects, camera())
    rendering = render_view(objects, view, Lighting((lamp((0, -1, 1)),), np.full(3, 0.4)), np.random.default_rng(0))
    assert (view.owner[24:40, 24:40] == 0).all()  # the mask takes glass for opaque
    middle = rendering.photo[28:36, 28:36].reshape(-1, 3).mean(axis=0)
    assert middle[0] > middle[1] + 15
    x, y, whole = rendering.colors[1]
    assert ((whole[..., 3] > 0) == view.amodal_masks()[1][y : y + whole.shape[0], x : x + whole.shape[1]]).all()
    assert rendering.colors[2] is None


def test_photos_are_developed_from_light():
    light = np.full((16, 16, 3), 0.1, dtype=np.float32)
    light[4:12, 4:12] = 0.4
    photos = [
        draw_development(random := np.random.default_rng(seed), light).photograph(light, random)[0] for seed in range(3)
    ]
    for photo in photos:
        assert photo[8, 8].mean() > photo[1, 1].mean() + 20
        assert 20 < photo.mean() < 235
    assert (photos[0] != photos[1]).any()
