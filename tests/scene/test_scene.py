"""Scenes and layers: what they refuse, what they share, and what each edit changes."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion import Layer, Scene
from amodal_diffusion.scene import formats
from scene_format_helpers import make_scene
from scene_helpers import make_layer, random_scene, scene_of_objects, shift, tile

RED, BLUE = (255, 0, 0), (0, 0, 255)
MASK = np.ones((4, 4), bool)
BACKGROUND = np.zeros((8, 10, 3), np.uint8)


def layer(**fields):
    return Layer(**{"rgba": tile(RED), "modal": MASK, "amodal": MASK, **fields})


def two_layers(**fields):
    return Scene(BACKGROUND, (make_layer(RED, 1, 1, 0, home=True), make_layer(BLUE, 3, 2, 1, home=True)), **fields)


def test_a_rim_ends_with_the_canvas():
    """Whatever a file says: it costs no memory for what nobody sees."""
    scene = Scene(BACKGROUND, (layer(),), photo=BACKGROUND, rim=10**30)
    assert scene.rim == max(BACKGROUND.shape[:2])
    assert scene.remove(0).render(output_type="np").shape == BACKGROUND.shape


@pytest.mark.filterwarnings("error")
def test_layers_far_away_are_not_seen():
    scene = Scene(BACKGROUND, (layer(),)).move(0, 1e100)
    assert not scene.layer_mask(0).any() and scene.carried(0) == []


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"rgba": tile(RED).astype(float)}, TypeError, "`rgba` must have dtype uint8, got float64"),
        ({"rgba": tile(RED)[..., :3]}, ValueError, r"`rgba` must have shape \(any, any, 4\), got \(4, 4, 3\)"),
        ({"rgba": tile(RED)[:0]}, ValueError, "`rgba` must have pixels"),
        ({"modal": MASK[:3]}, ValueError, r"`modal` must have shape \(4, 4\), got \(3, 4\)"),
        ({"amodal": MASK.astype(np.uint8)}, TypeError, "`amodal` must have dtype bool"),
        ({"uncertainty": MASK}, TypeError, "`uncertainty` must have dtype float32"),
        ({"uncertainty": -MASK.astype(np.float32)}, ValueError, "`uncertainty` must be finite and not negative"),
        ({"uncertainty": np.float32(np.nan) * MASK}, ValueError, "`uncertainty` must be finite"),
        ({"transform": np.eye(3)}, ValueError, r"`transform` must have shape \(2, 3\)"),
        ({"transform": shift(np.inf, 0)}, ValueError, "`transform` must be finite"),
        ({"transform": np.zeros((2, 3))}, ValueError, "`transform` must be invertible"),
        ({"origin": np.zeros((2, 3))}, ValueError, "`origin` must be invertible"),
        ({"transform": [[1e300, 0, 0], [0, 1e-300, 0]]}, ValueError, "`transform` must be invertible, with at most"),
        ({"transform": "x"}, ValueError, r"`transform` must be a \(2, 3\) matrix of numbers, got 'x'"),
        ({"transform": [[1, 0], [0, 1, 2]]}, ValueError, "`transform` must be a"),
        ({"transform": 10**400}, ValueError, "`transform` must be a"),
        ({"origin": {"a": 1}}, TypeError, "`origin` must be a"),
        ({"name": 3}, TypeError, "`name` must be a string, got 3"),
        ({"id": 1.0}, TypeError, "`id` must be an integer, got 1.0"),
        ({"id": True}, TypeError, "`id` must be an integer"),
        ({"visible": 1}, TypeError, "`visible` must be True or False, got 1"),
        ({"locked": None}, TypeError, "`locked` must be True or False, got None"),
        ({"opacity": "1"}, TypeError, "`opacity` must be a number, got '1'"),
        ({"opacity": 1.5}, ValueError, "`opacity` must lie in \\[0, 1\\], got 1.5"),
        ({"opacity": float("nan")}, ValueError, "`opacity` must lie in \\[0, 1\\], got nan"),
        ({"id": -1}, ValueError, "`id` must be at least 0, got -1"),
    ],
)
def test_layer_refuses(fields, error, message):
    with pytest.raises(error, match=message):
        layer(**fields)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"background": BACKGROUND[..., 0]}, ValueError, "`background` must have shape"),
        ({"background": BACKGROUND[:0]}, ValueError, "`background` must have pixels"),
        ({"background": BACKGROUND + 0.5}, TypeError, "`background` must have dtype uint8"),
        ({"photo": BACKGROUND[:3]}, ValueError, r"`photo` must have shape \(8, 10, 3\)"),
        ({"layers": (3,)}, TypeError, "`layers` must hold `Layer` objects, got int"),
        ({"layers": (layer(id=4), layer(id=4))}, ValueError, r"`layers` must have unique ids, got \[4, 4\]"),
        ({"order": np.zeros((1, 1))}, ValueError, r"`order` must have shape \(2, 2\)"),
        ({"order": np.ones((2, 2))}, ValueError, "`order` must be antisymmetric"),
        ({"evidence": np.zeros((2, 2))}, TypeError, "`evidence` must have dtype bool"),
        ({"evidence": np.array([[False, True], [False, False]])}, ValueError, "`evidence` must be symmetric"),
        ({"evidence": np.ones((2, 2), bool)}, ValueError, "False on its diagonal"),
        ({"rim": 1.5}, TypeError, "`rim` must be an integer, got 1.5"),
        ({"rim": -1}, ValueError, "`rim` must be at least 0"),
        ({"next_id": "9"}, TypeError, "`next_id` must be an integer, got '9'"),
        ({"next_id": -1}, ValueError, "`next_id` must be at least 0"),
        ({"replaced": np.zeros((3, 3), bool)}, ValueError, r"`replaced` must have shape \(8, 10\)"),
    ],
)
def test_scene_refuses(fields, error, message):
    with pytest.raises(error, match=message):
        Scene(**{"background": BACKGROUND, "layers": (layer(), layer(id=1)), **fields})


def test_defaults():
    scene = Scene(
        BACKGROUND, [make_layer(RED, home=True), make_layer(RED, 0, 0, 1), make_layer(RED, 0, 0, 2, home=True)]
    )
    assert isinstance(scene.layers, tuple) and len(scene) == 3 and scene.size == (10, 8)
    assert scene.order.dtype == np.int8 and not scene.order.any()
    assert np.argwhere(scene.evidence).tolist() == [[0, 2], [2, 0]]  # pairs that the photo shows
    assert scene.replaced.shape == (8, 10) and not scene.replaced.any()
    np.testing.assert_array_equal(layer().transform, shift(0, 0))


def test_arrays_are_read_only_and_never_those_of_the_caller():
    background, rgba, mask = BACKGROUND.copy(), tile(RED), MASK.copy()
    scene = Scene(background, (Layer(rgba, mask, mask, np.zeros((4, 4), np.float32), shift(1, 1)),))
    background[:], rgba[:], mask[:] = 9, 9, False
    assert not scene.background.any() and scene.layers[0].rgba[0, 0].tolist() == [255, 0, 0, 255]
    assert scene.layers[0].modal.all()
    arrays = [scene.background, scene.order, scene.evidence, scene.replaced]
    arrays += [getattr(scene.layers[0], name) for name in ("rgba", "modal", "amodal", "uncertainty", "transform")]
    assert not any(array.flags.writeable for array in arrays)
    with pytest.raises(AttributeError):
        scene.rim = 3


def test_edits_share_arrays_and_leave_the_old_scene():
    scene = random_scene(0)
    before = scene.render(output_type="np")
    for edited in (
        scene.move(0, 1), scene.rotate(1, 5), scene.swap_order(0, 1), scene.duplicate(2), scene.rename(0, "x"),
        scene.bring_to_front(1), scene.send_to_back(1), scene.insert(tile(RED)), scene.remove(3),
        scene.stretch(0, 2, 1), scene.restack(0, 3), scene.set_visible(0, False), scene.set_opacity(0, 0.5),
        scene.set_locked(0),
    ):  # fmt: skip
        assert edited.background is scene.background and edited.photo is scene.photo
        assert edited.layers[0].rgba is scene.layers[0].rgba
        assert not edited.equals(scene)
    np.testing.assert_array_equal(scene.render(output_type="np"), before)


def test_equals():
    scene = random_scene(0)
    assert scene.equals(scene) and random_scene(0).equals(scene) and not random_scene(1).equals(scene)
    assert not scene.equals(None) and not scene.layers[0].equals("layer")
    assert not scene.equals(scene.remove(0))
    for name, value in (
        ("rim", 7),
        ("next_id", 70),
        ("photo", None),
        ("replaced", ~scene.replaced),
        ("order", -scene.order),
    ):
        fields = {key: getattr(scene, key) for key in ("background", "layers", "order", "photo", "rim")}
        assert not Scene(**{**fields, name: value}).equals(scene), name
    first = layer()
    assert first.equals(layer()) and not first.equals(layer(name="x")) and not first.equals(layer(id=1))
    assert not first.equals(layer(origin=shift(0, 0))) and not first.equals(layer(uncertainty=MASK.astype(np.float32)))
    doubt = np.full(first.modal.shape, 0.25, np.float32)
    unsure = layer(uncertainty=doubt)  # another number of threads is enough to change its last bit
    assert unsure.equals(layer(uncertainty=doubt.copy()))
    assert not unsure.equals(layer(uncertainty=np.nextafter(doubt, np.float32(1)))) and not unsure.equals(first)


def test_no_id_is_given_twice(tmp_path):
    scene = two_layers()
    assert scene.next_id == 2 and scene.insert(tile(RED)).layers[-1].id == 2
    for gone in (scene.remove(1), scene.insert(tile(RED)).remove(2).remove(1), scene.duplicate(1).remove(2).remove(1)):
        gone.save(tmp_path / "scene.ora")
        for kept in (gone, gone.move(0, 1), Scene.load(tmp_path / "scene.ora")):
            new = kept.duplicate(0).insert(tile(RED))
            assert [layer.id for layer in new.layers] == [0, gone.next_id, gone.next_id + 1]
            assert gone.next_id >= 2
    assert Scene(BACKGROUND, (layer(id=4),), next_id=2).next_id == 5


def test_index():
    scene = two_layers().rename(1, "cat")
    assert scene.index("cat") == 1 and scene.index(0) == 0
    with pytest.raises(ValueError, match=r"no layer has the name 'dog'; there are \['layer 0', 'cat'\]"):
        scene.index("dog")
    with pytest.raises(ValueError, match="no layer has the id 7"):
        scene.index(7)
    with pytest.raises(ValueError, match=r"layers \[0, 1\] all have the name 'cat'"):
        scene.rename(0, "cat").index("cat")


EDITS = {
    "remove": (), "move": (1, 1), "place": (1, 1), "scale": (2,), "rotate": (5,), "flip": (), "bring_to_front": (),
    "send_to_back": (), "duplicate": (), "rename": ("x",), "layer_image": (), "stretch": (2, 3),
    "restack": (0,), "set_visible": (False,), "set_opacity": (0.5,), "set_locked": (),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_edits_refuse_indices(edit):
    scene = two_layers()
    for index in (-1, 2):
        with pytest.raises(IndexError, match=f"`i` must be the index of one of 2 layers, got {index}"):
            getattr(scene, edit)(index, *EDITS[edit])
    for index in (0.0, "cat", None, True):
        with pytest.raises(TypeError, match="`i` must be the index of a layer"):
            getattr(scene, edit)(index, *EDITS[edit])
    getattr(scene, edit)(np.int64(1), *EDITS[edit])


@pytest.mark.parametrize(
    ("edit", "arguments", "error", "message"),
    [
        ("move", (0, np.nan), ValueError, "`dx` must be finite"),
        ("move", (0, 10**400), ValueError, "`dx` must be finite"),
        ("scale", (0, 1e-300), ValueError, "`factor` is too far from what the layer is now, got 1e-300: `transform`"),
        ("scale", (0, 1e300), ValueError, "`factor` is too far from what the layer is now"),
        ("stretch", (0, 1e-200, 1e-200), ValueError, "`width, height` is too far"),
        ("flip", (0, "no"), TypeError, "`horizontal` must be True or False, got 'no'"),
        ("flip", (0, None), TypeError, "`horizontal` must be True or False, got None"),
        ("index", (True,), TypeError, "`name_or_id` must be the name or the id of a layer, got True"),
        ("index", (1.0,), TypeError, "`name_or_id` must be the name or the id of a layer, got 1.0"),
        ("save", (None,), TypeError, "`path` must be a path, got None"),
        ("save", (b"a.ora",), TypeError, "`path` must be a path, got b'a.ora'"),
        ("save", ("",), ValueError, "`path` must be a path, got ''"),
        ("save", ("a\0.ora",), ValueError, "`path` must be a path, got 'a"),
        ("move", (0, 0, "3"), TypeError, "`dy` must be a number, got '3'"),
        ("place", (0, 1, np.inf), ValueError, "`y` must be finite"),
        ("scale", (0, 0), ValueError, "`factor` must be above 0, got 0"),
        ("scale", (0, -1), ValueError, "`factor` must be above 0"),
        ("scale", (0, np.inf), ValueError, "`factor` must be finite"),
        ("scale", (0, 2, (1,)), ValueError, r"`about` must be a point \(x, y\)"),
        ("scale", (0, 2, (1, np.nan)), ValueError, "`about` must be finite"),
        ("stretch", (0, 0, 1), ValueError, "`width` must be above 0, got 0"),
        ("stretch", (0, 1, np.nan), ValueError, "`height` must be above 0, got nan"),
        ("restack", (0, 2), IndexError, "`place` must be the index of one of 2 layers, got 2"),
        ("set_opacity", (0, 2), ValueError, "`opacity` must lie in \\[0, 1\\], got 2"),
        ("set_opacity", (0, "x"), TypeError, "`opacity` must be a number"),
        ("set_visible", (0, 1), TypeError, "`visible` must be True or False, got 1"),
        ("rotate", (0, True), TypeError, "`degrees` must be a number"),
        ("rotate", (0, 5, 3), ValueError, "`about` must be a point"),
        ("rotate", (0, 5, np.array(3.0)), ValueError, "`about` must be a point .*, got 3.0"),
        ("reshape", (0, np.ones((8, 10), bool)), TypeError, "`paint` must be a function or None, got 3"),
        ("remove", (10**5000,), IndexError, "`i` must be the index of one of 2 layers, got int of too many digits"),
        ("index", (10**5000,), ValueError, "`name_or_id`: no layer has the id int of too many digits"),
        ("move", (0, 10**5000), ValueError, "`dx` must be finite"),
        ("rename", (0, 10**5000), TypeError, "`name` must be a string"),
        ("swap_order", (0, 2), IndexError, "`j` must be the index"),
        ("swap_order", (1, 1), ValueError, "`j` must be another layer"),
        ("duplicate", (0, np.nan), ValueError, "`dx` must be finite"),
        ("rename", (0, None), TypeError, "`name` must be a string"),
        ("insert", (3,), TypeError, "`rgba` must be a path, a PIL image, an array or a tensor, got int"),
        ("insert", (np.zeros((2, 2, 4), np.int64),), TypeError, "`rgba` must hold uint8, uint16 or floats"),
        ("insert", (np.zeros((2, 2, 2), np.uint8),), ValueError, "`rgba` must have shape"),
        ("insert", (tile(RED), np.nan), ValueError, "`x` must be finite"),
        ("insert", (tile(RED), 0, 0, 5), TypeError, "`name` must be a string"),
        ("insert", ("nowhere.png",), FileNotFoundError, "`rgba`: photo nowhere.png does not exist"),
    ],
)
def test_edits_refuse_values(edit, arguments, error, message):
    options = {"paint": 3} if edit == "reshape" else {}
    with pytest.raises(error, match=message):
        getattr(two_layers(), edit)(*arguments, **options)


def test_boxes():
    scene = two_layers()
    assert scene.layers[1].box == (3, 2, 4, 4) and scene.layers[1].centre == (5, 4) and scene.layers[1].size == (4, 4)
    assert scene.move(1, 2, -5).layers[1].box == (5, -3, 4, 4)
    assert scene.place(1, 0.5, 7).layers[1].box == (0.5, 7, 4, 4)
    assert scene.scale(1, 2).layers[1].box == (1, 0, 8, 8)
    assert scene.scale(1, 2, about=(3, 2)).layers[1].box == (3, 2, 8, 8)
    assert scene.rotate(1, 45).layers[1].box == pytest.approx((5 - 8**0.5, 4 - 8**0.5, 32**0.5, 32**0.5))
    assert scene.rotate(1, 90, about=(3, 2)).layers[1].box == pytest.approx((3, -2, 4, 4))  # counter-clockwise
    assert scene.flip(1).layers[1].box == scene.flip(1, horizontal=False).layers[1].box == (3, 2, 4, 4)
    assert scene.scale(1, 0.5).place(1, 3, 2).layers[1].box == pytest.approx((3, 2, 2, 2))
    assert scene.stretch(1, 2, 0.5).layers[1].box == (1, 3, 8, 2)
    turned = scene.rotate(1, 90).stretch(1, 2, 1).layers[1]  # its width lies upright now
    assert turned.box == pytest.approx((3, 0, 4, 8)) and turned.centre == pytest.approx((5, 4))
    sides = scene.rotate(1, 30).stretch(1, 3, 1).layers[1].transform[:, :2]
    assert sides[:, 0] @ sides[:, 1] == pytest.approx(0)  # no shear


def test_home_and_motion():
    scene = two_layers()
    assert scene.layers[0].at_home and not scene.insert(tile(RED)).layers[2].at_home
    moved = scene.move(0, 2, 3)
    assert not moved.layers[0].at_home and moved.move(0, -2, -3).layers[0].at_home
    np.testing.assert_array_equal(moved.layers[0].motion, shift(2, 3))
    assert scene.insert(tile(RED)).layers[2].motion is None
    assert scene.rotate(0, 33.3).rotate(0, -33.3).layers[0].at_home


def test_order_of_edits():
    order = np.array([[0, 1], [-1, 0]], np.int8)
    scene = two_layers(order=order)
    assert scene.in_front(0, 1) and not scene.in_front(1, 0) and scene.stacking() == [1, 0]
    swapped = scene.swap_order(0, 1)
    np.testing.assert_array_equal(swapped.order, -order)
    assert not swapped.evidence.any() and scene.evidence.any()
    unknown = two_layers()
    assert unknown.in_front(1, 0) and unknown.swap_order(0, 1).in_front(0, 1)
    assert unknown.bring_to_front(0).order[0].tolist() == [0, 1] and not unknown.bring_to_front(0).evidence.any()
    assert unknown.send_to_back(1).order[:, 1].tolist() == [1, 0]
    assert unknown.bring_to_front(0).stacking() == [1, 0]


@pytest.mark.parametrize("seed", range(6))
def test_restack_puts_a_layer_where_it_is_wanted_and_changes_no_other_pair(seed):
    scene, rng = random_scene(seed, count=5), np.random.default_rng(seed)
    for _ in range(8):
        i, place = (int(value) for value in rng.integers(0, 5, 2))
        before, moved = scene.stacking(), scene.restack(i, place)
        wanted = [index for index in before if index != i]
        wanted.insert(place, i)
        for j in range(5):
            for k in range(5):
                if j != k and i not in (j, k):
                    assert moved.in_front(j, k) == scene.in_front(j, k)
                    assert moved.evidence[j, k] == scene.evidence[j, k]
            if j != i:
                assert moved.in_front(i, j) == (wanted.index(i) > wanted.index(j))
                assert moved.evidence[i, j] == (scene.evidence[i, j] and moved.in_front(i, j) == scene.in_front(i, j))
        if not any(scene.in_front(j, k) and before.index(j) < before.index(k) for j in range(5) for k in range(5)):
            assert moved.stacking() == wanted  # without cycles
        scene = moved


@pytest.mark.filterwarnings("error")
def test_edits_far_away_give_no_warning_and_say_what_is_too_far():
    scene = two_layers().move(0, 1.7e308)
    assert scene.render(output_type="np").shape == (8, 10, 3)
    with pytest.raises(ValueError, match="`dx, dy` is too far from what the layer is now"):
        scene.move(0, 1.7e308)


@pytest.mark.parametrize("edit", ["remove", "move", "flip", "bring_to_front", "set_visible"])
@pytest.mark.parametrize("flag", ["no", 1, None])
def test_carried_is_a_flag(edit, flag):
    with pytest.raises(TypeError, match="`carried` must be True or False, got"):
        getattr(two_layers(), edit)(0, carried=flag)
    assert getattr(two_layers(), edit)(0, carried=np.True_).equals(getattr(two_layers(), edit)(0, carried=True))


def test_flags_of_numpy(tmp_path):
    scene = two_layers().set_visible(0, np.False_).set_locked(1, np.True_)
    assert [type(layer.visible) for layer in scene.layers] == [bool, bool]
    scene.save(tmp_path / "scene.ora")
    assert Scene.load(tmp_path / "scene.ora").equals(two_layers().set_visible(0, False).set_locked(1))


@pytest.mark.parametrize("layers", [5, None, "ab"])
def test_layers_that_are_none(layers):
    with pytest.raises(TypeError, match="`layers` must be a list of `Layer` objects, got"):
        Scene(BACKGROUND, layers)


def test_restack_of_unrelated_layers():
    order = np.zeros((3, 3), np.int8)
    order[0, 2], order[2, 0] = 1, -1
    scene = Scene(BACKGROUND, tuple(make_layer(RED, 0, 0, index) for index in range(3)), order)
    assert scene.stacking() == [1, 2, 0] and scene.restack(2, 0).stacking() == [2, 1, 0]
    assert scene.restack(1, 2).stacking() == [2, 0, 1] and scene.restack(1, 0).stacking() == [1, 2, 0]


def test_edits_with_one_layer_and_none():
    scene = two_layers().remove(0)
    assert scene.bring_to_front(0).send_to_back(0).order.shape == (1, 1)
    assert len(scene.remove(0)) == 0 and scene.remove(0).stacking() == []
    assert scene.remove(0).insert(tile(RED)).layers[0].id == 2


def test_remove():
    scene = random_scene(2)
    left = scene.remove(1)
    assert [item.id for item in left.layers] == [0, 2, 3] and left.index(3) == 2
    keep = [0, 2, 3]
    np.testing.assert_array_equal(left.order, scene.order[np.ix_(keep, keep)])
    np.testing.assert_array_equal(left.evidence, scene.evidence[np.ix_(keep, keep)])
    swapped = scene.swap_order(0, 2).remove(1)
    assert not swapped.evidence[0, 1] and swapped.evidence[0, 2]


def test_insert(tmp_path):
    path = tmp_path / "sticker.png"
    Image.fromarray(tile(BLUE, 3, 5, alpha=200)).save(path)
    broken = tmp_path / "broken.png"
    broken.write_bytes(path.read_bytes()[:40])
    for source in (path, str(path), Image.open(path), np.asarray(Image.open(path))):
        scene = two_layers().insert(source, 2, 1, name="sticker")
        added = scene.layers[2]
        assert (added.name, added.id, added.origin, added.box) == ("sticker", 2, None, (2, 1, 5, 3))
        assert added.rgba[0, 0].tolist() == [0, 0, 255, 200] and added.modal.all() and added.amodal.all()
        assert scene.stacking()[-1] == 2 and scene.order[2].tolist() == [1, 1, 0] and not scene.evidence[2].any()
    with pytest.raises(ValueError, match=r"`rgba`: .*broken.png cannot be read"):
        two_layers().insert(broken)
    opaque = two_layers().insert(tile(BLUE)[..., :3]).layers[2]
    assert (opaque.rgba[..., 3] == 255).all()
    assert two_layers().insert(Image.new("L", (3, 2), 7)).layers[2].rgba[0, 0].tolist() == [7, 7, 7, 255]
    turned = Image.fromarray(tile(BLUE, 3, 5))
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=turned.getexif())
    grey = np.full((3, 5), 0.5, np.float32)
    for source, size, value in (
        (tmp_path / "turned.png", (3, 5), BLUE),
        (Image.open(tmp_path / "turned.png"), (3, 5), BLUE),
        (grey, (5, 3), [128] * 3),
        (Image.fromarray(grey), (5, 3), [128] * 3),
        (np.full((3, 5, 4), 0.5), (5, 3), [128] * 3),
        (Image.fromarray(np.full((3, 5), 257 * 9, np.uint16)), (5, 3), [9] * 3),
        (np.full((3, 5, 3), 257 * 9, np.uint16), (5, 3), [9] * 3),
    ):
        layer = two_layers().insert(source).layers[2]
        assert layer.size == size and layer.rgba[0, 0, :3].tolist() == list(value)
    faint = two_layers().insert(tile(BLUE, alpha=100)).layers[2]
    assert not faint.modal.any()


def test_duplicate():
    order = np.array([[0, 1, -1], [-1, 0, 0], [1, 0, 0]], np.int8)
    modal = np.zeros((3, 12, 12), bool)
    modal[0, 2:6, 2:6], modal[1, 4:8, 6:10], modal[2, 0:2, 3:9] = True, True, True
    scene = scene_of_objects(modal, modal, order)
    doubled = scene.duplicate(1, 2, 3)
    copy = doubled.layers[3]
    assert (copy.id, copy.name, copy.origin) == (3, "object 1", None) and copy.rgba is scene.layers[1].rgba
    assert copy.box == (8, 7, 4, 4)
    assert doubled.in_front(3, 1) and doubled.in_front(0, 3)  # as the original is to others
    assert doubled.in_front(3, 2) == scene.in_front(1, 2)
    assert doubled.duplicate(0).order[4].tolist() == [1, 1, -1, 1, 0]  # in front of all that layer 0 is in front of
    assert not doubled.evidence[3].any()
    assert [item.id for item in doubled.remove(3).duplicate(0).layers] == [0, 1, 2, 4]


def test_swapping_in_a_crowd_can_close_a_cycle():
    order = np.array([[0, -1, -1], [1, 0, -1], [1, 1, 0]], np.int8)
    layers = tuple(make_layer(RED, 0, 0, index) for index in range(3))
    scene = Scene(BACKGROUND, layers, order).swap_order(0, 2)
    assert scene.in_front(0, 2) and scene.in_front(2, 1) and scene.in_front(1, 0)
    assert sorted(scene.stacking()) == [0, 1, 2]
    scene.render()


def test_saving_is_left_to_the_formats(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(formats, "save_scene", lambda scene, path: calls.append((scene, path)))
    monkeypatch.setattr(formats, "load_scene", lambda path: path)
    scene = two_layers()
    scene.save(tmp_path)
    assert calls == [(scene, tmp_path)] and Scene.load("there") == "there"


def test_they_print_in_a_line():
    layers = [make_layer(RED, 1, 1, index, home=True) for index in range(9)]
    scene = Scene(BACKGROUND, tuple(layers)).rename(0, "bird").rename(1, "giraffe")
    assert repr(scene) == "Scene(10x8, 9 layers: bird, giraffe, layer 2, layer 3, layer 4, layer 5, …)"
    assert repr(Scene(BACKGROUND)) == "Scene(10x8, 0 layers)"
    assert repr(scene.move(0, 2.5, 1).layers[0]) == "Layer('bird', id 0, 4x4, at 3.5, 2, 4x4 on the canvas)"


def test_copies_and_pickles_are_read_only_and_share_nothing_that_others_write_into():
    scene = make_scene(count=2)
    for twin in (copy.copy(scene), copy.deepcopy(scene), pickle.loads(pickle.dumps(scene))):
        assert twin.equals(scene)
        arrays = [twin.background, twin.photo, twin.order, twin.evidence, twin.replaced]
        arrays += [getattr(layer, name) for layer in twin.layers for name in ("rgba", "modal", "amodal", "transform")]
        assert not any(array.flags.writeable for array in arrays)
    base = scene.background.copy()
    view = base[:]
    view.flags.writeable = False
    other = dataclasses.replace(scene, background=view)
    base[:] = 0
    assert np.array_equal(other.background, scene.background)
