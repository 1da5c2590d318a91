"""What stands on a layer or is held by it, and edits that take it along."""

import numpy as np
import pytest

from amodal_diffusion import Layer, Scene
from amodal_diffusion.scene.layer import translation
from scene_helpers import photo_like, pixels, random_scene

TABLE, PLATE, CUP, LAMP = (20, 50, 60, 30), (30, 46, 20, 8), (36, 38, 8, 12), (60, 20, 10, 20)


def scene_of(*boxes, order=None, seen=True, size=(100, 100)):
    """Opaque boxes (x, y, w, h), each in front of those before it, as a photo showed them; `order` as of `Scene`."""
    whole = np.zeros((len(boxes), *size), bool)
    for mask, (x, y, w, h) in zip(whole, boxes, strict=True):
        mask[y : y + h, x : x + w] = True
    photo, layers = photo_like(whole), []
    for index, (x, y, w, h) in enumerate(boxes):
        part = np.s_[y : y + h, x : x + w]
        rgba = np.dstack([photo[part], np.full((h, w), 255, np.uint8)])
        modal = (whole[index] & ~whole[index + 1 :].any(axis=0))[part]
        place = translation(x, y)
        layers.append(Layer(rgba, modal, whole[index][part], transform=place, id=index, origin=place if seen else None))
    relations = np.sign(np.arange(len(boxes))[:, None] - np.arange(len(boxes))).astype(np.int8)
    background = np.full_like(photo, 7)
    return Scene(background, tuple(layers), relations if order is None else order, photo=photo if seen else None)


def test_a_cup_on_a_plate_on_a_table_is_carried_by_both():
    scene = scene_of(TABLE, PLATE, CUP, LAMP)
    assert [scene.carried(i) for i in range(4)] == [[1, 2], [2], [], []]


def test_what_is_behind_is_not_carried():
    scene = scene_of(LAMP, (50, 36, 40, 30))  # a lamp that ends behind a chest
    assert scene.carried(1) == []
    assert scene.bring_to_front(0).carried(1) == [0]


def test_who_stands_before_a_table_is_not_carried():
    person = (40, 25, 14, 70)  # whose feet are below the table's
    assert scene_of(TABLE, person).carried(0) == []
    cut = (40, 25, 14, 75)  # and are cut off by the frame
    assert scene_of((20, 50, 60, 50), cut).carried(0) == []


def test_what_is_worn_is_carried_and_so_is_a_rider():
    person, tie, hat = (30, 10, 30, 80), (42, 30, 6, 20), (35, 5, 20, 9)
    assert scene_of(person, tie, hat).carried(0) == [1, 2]
    horse, rider = (10, 40, 70, 40), (35, 10, 15, 45)
    assert scene_of(horse, rider).carried(0) == [1]
    far = (70, 10, 20, 35)  # beside a larger one, most of it
    assert scene_of(person, far).carried(0) == []


def test_a_plate_that_the_frame_cuts_lies_on_its_table():
    assert scene_of((10, 60, 80, 40), (30, 80, 20, 20)).carried(0) == [1]


def test_who_is_in_front_must_be_known_of_a_photo_and_the_stack_tells_of_others():
    nothing = np.zeros((2, 2), np.int8)
    assert scene_of(TABLE, (36, 42, 8, 12), order=nothing).carried(0) == []
    assert scene_of(TABLE, (36, 42, 8, 12), order=nothing, seen=False).carried(0) == [1]
    assert scene_of((36, 42, 8, 12), TABLE, order=nothing, seen=False).carried(1) == []


def test_it_goes_by_where_layers_stand_now_also_beyond_the_canvas_and_on_any_scale():
    scene = scene_of(TABLE, CUP, PLATE)
    assert scene.carried(2) == []
    away = scene.move(0, 500, 700).move(1, 500, 702)
    assert away.carried(0) == [1]
    assert scene_of(TABLE, (36, 42, 8, 12)).move(1, dy=-20).carried(0) == []
    grown = scene_of(TABLE, (36, 42, 8, 12)).scale(0, 30, (0, 0)).scale(1, 30, (0, 0))
    assert grown.carried(0) == [1]


@pytest.mark.parametrize("thing", [(60, 30, 14, 3), (22, 30, 9, 20), (60, 61, 3, 30)])
@pytest.mark.parametrize("seen", [True, False])
def test_what_people_hold_by_its_name_goes_with_whom_it_touches(thing, seen):
    scene = scene_of((30, 20, 30, 60), thing, seen=seen)  # in any order, and though most of it is beside its holder
    for first, second, carried in (("person", "baseball bat", [1]), ("Person 2", "Skis", [1]), ("cow", "skis", [])):
        assert scene.rename(0, first).rename(1, second).carried(0) == carried
    assert scene.rename(0, "person").rename(1, "kite").carried(0) == []


def test_what_two_people_touch_or_what_stands_on_something_is_not_held():
    people = scene_of((30, 20, 20, 60), (56, 20, 20, 60), (50, 30, 6, 9))
    people = people.rename(0, "person").rename(1, "person").rename(2, "handbag")
    assert people.carried(0) == people.carried(1) == []
    bench = scene_of((20, 60, 60, 20), (20, 20, 16, 60), (36, 50, 10, 14))
    bench = bench.rename(0, "bench").rename(1, "person").rename(2, "handbag")
    assert bench.carried(1) == [] and 2 in bench.carried(0)


def test_who_passes_behind_somebody_takes_along_what_is_carried():
    order = np.array([[0, 1, 0], [-1, 0, -1], [0, 1, 0]], np.int8)
    scene = scene_of(
        (10, 20, 30, 70), (60, 20, 30, 70), (64, 50, 6, 4), order=order
    )  # nobody saw the cake and the first
    assert scene.carried(1) == [2]
    moved = scene.move(1, dx=-45, carried=True)
    assert moved.in_front(0, 2) and moved.in_front(2, 1)
    np.testing.assert_array_equal(pixels(moved)[50:54, 19:25], pixels(scene)[50:54, 19:25])
    assert scene.move(1, dx=-45).order[0, 2] == 0


def test_nothing_is_carried_by_one_layer_and_indices_are_checked():
    scene = scene_of(TABLE)
    assert scene.carried(0) == []
    for i, error in ((1, IndexError), ("cup", TypeError)):
        with pytest.raises(error, match="`i` must be the index"):
            scene.carried(i)
    empty = np.zeros((1, 1, 4), np.uint8)
    nothing = Layer(empty, np.zeros((1, 1), bool), np.zeros((1, 1), bool), id=9)
    both = Scene(scene.background, (*scene.layers, nothing))
    assert both.carried(0) == [] and both.carried(1) == []


def test_a_cycle_carries_all_the_others():
    order = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], np.int8)
    scene = scene_of((20, 50, 20, 20), (20, 51, 20, 19), (20, 52, 20, 18), order=order)
    assert all(i not in scene.carried(i) for i in range(3))


EDITS = {
    "remove": lambda scene, i, **more: scene.remove(i, **more),
    "move": lambda scene, i, **more: scene.move(i, 7, -3, **more),
    "place": lambda scene, i, **more: scene.place(i, 3, 40, **more),
    "scale": lambda scene, i, **more: scene.scale(i, 0.7, **more),
    "rotate": lambda scene, i, **more: scene.rotate(i, 20, **more),
    "flip": lambda scene, i, **more: scene.flip(i, **more),
    "to front": lambda scene, i, **more: scene.bring_to_front(i, **more),
    "to back": lambda scene, i, **more: scene.send_to_back(i, **more),
    "hide": lambda scene, i, **more: scene.set_visible(i, False, **more),
    "fade": lambda scene, i, **more: scene.set_opacity(i, 0.5, **more),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edits_leave_what_is_carried_unless_they_are_asked(edit):
    scene = scene_of(TABLE, PLATE, CUP, LAMP)
    alone, along = EDITS[edit](scene, 0), EDITS[edit](scene, 0, carried=True)
    assert EDITS[edit](scene, 0, carried=False).equals(alone)
    others = [layer for layer in alone.layers if layer.id]
    assert all(layer.equals(scene.layers[layer.id]) for layer in others)
    assert [layer.equals(scene.layers[3]) for layer in along.layers if layer.id == 3] == [True]
    assert not along.equals(alone)
    lonely = EDITS[edit](scene, 3, carried=True)
    assert lonely.equals(EDITS[edit](scene, 3))


@pytest.mark.parametrize("edit", ["move", "scale", "rotate", "flip"])
def test_what_is_carried_keeps_its_place_on_what_carries_it(edit):
    scene = scene_of(TABLE, PLATE, CUP)
    edited = EDITS[edit](scene, 0, carried=True)
    motions = [layer.motion for layer in edited.layers]
    for motion in motions[1:]:
        np.testing.assert_allclose(motion, motions[0], atol=1e-9)
    assert edited.carried(0) == [1, 2]


def test_moved_along_it_looks_as_in_the_photo_and_removed_it_is_gone():
    scene = scene_of(TABLE, PLATE, CUP)
    x, y, w, h = TABLE
    moved = pixels(scene.move(0, dx=-20, carried=True))
    np.testing.assert_array_equal(moved[y : y + h, x - 20 : x + w - 20], pixels(scene)[y : y + h, x : x + w])
    assert (pixels(scene.remove(0, carried=True)) == pixels(scene.remove(2).remove(1).remove(0))).all()
    assert scene.remove(0, carried=True).next_id == scene.next_id


def test_the_order_of_what_is_carried_stays():
    scene = scene_of(TABLE, PLATE, CUP, LAMP)
    front = scene.bring_to_front(0, carried=True)
    assert front.stacking() == [3, 0, 1, 2] and front.evidence[:3, :3].sum() == 6 and not front.evidence[3].any()
    assert front.send_to_back(0, carried=True).stacking() == [0, 1, 2, 3]


def test_files_keep_what_is_carried(tmp_path):
    scene = scene_of(TABLE, PLATE, CUP, LAMP).move(0, dx=4, carried=True)
    for name in ("scene.ora", "scene.psd", "scene.json", "folder"):
        scene.save(tmp_path / name)
        assert Scene.load(tmp_path / name).carried(0) == [1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_it_is_a_closed_relation_on_any_scene(seed):
    scene = random_scene(seed)
    found = [set(scene.carried(i)) for i in range(len(scene))]
    for i, carried in enumerate(found):
        assert i not in carried
        for j in carried:
            assert found[j] - {i} <= carried
        assert [layer.id for layer in scene.remove(i, carried=True).layers] == [
            layer.id for place, layer in enumerate(scene.layers) if place != i and place not in carried
        ]
