"""Any scene, in any format: what is loaded is what was saved."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from amodal_diffusion.scene import Layer, Scene
from amodal_diffusion.scene.formats import load_scene, save_scene

HEIGHT, WIDTH = 9, 12
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
PIXELS = st.integers(0, 255)


@st.composite
def affine_maps(draw):
    """Shifts mostly, as edits leave them; scaled, turned and mirrored ones as well."""
    number = st.floats(-30, 30, allow_subnormal=False)
    matrix = draw(st.sampled_from([np.eye(2), -np.eye(2), np.array([[0.6, 0.8], [-0.8, 0.6]]), np.diag([1 / 3, 7])]))
    return np.concatenate([matrix, [[draw(number)], [draw(number)]]], axis=1)


@st.composite
def layers(draw, identity):
    height, width = draw(st.tuples(st.integers(1, 5), st.integers(1, 6)))
    amodal = draw(arrays(bool, (height, width)))
    modal = amodal & draw(arrays(bool, (height, width)))
    rgba = draw(arrays(np.uint8, (height, width, 4), elements=PIXELS))
    values = arrays(np.float32, (height, width), elements=st.floats(0, 10, width=32))
    uncertainty, origin = draw(st.none() | values), draw(st.none() | affine_maps())
    state = {name: draw(st.booleans()) for name in ("is_crowd", "visible", "locked")} | {
        "opacity": draw(st.floats(0, 1))
    }
    return Layer(rgba, modal, amodal, uncertainty, draw(affine_maps()), draw(NAMES), identity, origin, **state)


@st.composite
def scenes(draw):
    """Of up to three layers: with and without photo, any order with its cycles, any evidence."""
    count = draw(st.integers(0, 3))
    identities = draw(st.permutations(range(0, 5 * count, 5)))
    picture = arrays(np.uint8, (HEIGHT, WIDTH, 3), elements=PIXELS)
    upper = np.triu(draw(arrays(np.int8, (count, count), elements=st.integers(-1, 1))), 1)
    pairs = np.triu(draw(arrays(bool, (count, count))), 1)
    return Scene(
        draw(picture),
        tuple(draw(layers(identity)) for identity in identities),
        (upper - upper.T).astype(np.int8),
        draw(st.none() | picture),
        pairs | pairs.T,
        draw(st.integers(0, 4)),
        draw(arrays(bool, (HEIGHT, WIDTH))),
    )


@pytest.mark.parametrize("name", ["scene", "scene.ora", "scene.psd", "scene.json"])
@given(scene=scenes())
@settings(max_examples=15, deadline=None)
def test_a_loaded_scene_equals_the_saved_one(name, scene):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        save_scene(scene, path)
        read = load_scene(path)
    assert read.equals(scene)
    assert [layer.name for layer in read.layers] == [layer.name for layer in scene.layers]
