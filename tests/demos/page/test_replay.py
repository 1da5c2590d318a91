"""Edits that are done again: after the marks changed, at another size, on a smaller canvas."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion import Layer, Scene
from demo_helpers import edit, mark
from page.steps.complete import changed, complete, is_complete, lost_edits
from page.work.files.works import read_work, write_work
from page.work.poses import digest_of, on_canvas, with_pose
from page.work.replay import replay, shrink
from page.work.session import History, Session


def boxes(scene):
    return {layer.id: layer.box for layer in scene.layers}


def drawn(scale=1):
    """A scene of three squares on a canvas of 60 x 40 pixels, times `scale`."""
    layers = []
    for number, (x, y) in enumerate([(4, 4), (20, 10), (40, 20)]):
        rgba = np.full((12 * scale, 12 * scale, 4), 255, np.uint8)
        rgba[..., :3] = (80 * number, 200 - 60 * number, 30)
        mask = np.ones(rgba.shape[:2], bool)
        home = np.array([[1.0, 0, x * scale], [0, 1.0, y * scale]])
        layers.append(Layer(rgba, mask, mask, None, home, f"square {number}", number, home))
    photo = np.full((40 * scale, 60 * scale, 3), 128, np.uint8)
    background = photo.copy()
    for layer in layers:
        x, y, w, h = (int(value) for value in layer.box)
        photo[y : y + h, x : x + w] = layer.rgba[..., :3]
    return Scene(background, layers, None, photo)


def test_edits_are_the_same_at_another_size():
    small, large = drawn(), drawn(3)
    now = small.move(0, 7, 3).rotate(1, 30).scale(1, 1.5).remove(2).duplicate(0, 5, 9).rename(0, "first")
    now = now.insert(np.full((6, 8, 4), 200, np.uint8), 3, 30, "sign").set_opacity(1, 0.5).bring_to_front(0)
    done = replay(small, now, large, np.array([[3.0, 0, 0], [0, 3.0, 0]]))
    assert [layer.name for layer in done.layers] == [layer.name for layer in now.layers]
    assert [layer.id for layer in done.layers] == [layer.id for layer in now.layers]
    for before, after in zip(now.layers, done.layers, strict=True):
        assert np.allclose(np.multiply(before.box, 3), after.box) and before.opacity == after.opacity
    assert done.layers[2].rgba is large.layers[0].rgba  # the copy has the large one's pixels
    assert (done.order == now.order).all() and (done.evidence == now.evidence).all()
    picture = done.render().resize((60, 40), Image.Resampling.BOX)
    error = np.abs(np.asarray(picture).astype(int) - np.asarray(now.render()))
    assert (error > 60).mean() < 0.04  # of a pixel's width along outlines
    assert replay(small, small, large, np.array([[3.0, 0, 0], [0, 3.0, 0]])).equals(large)


def test_a_shape_that_was_chosen_is_enlarged():
    small, large = drawn(), drawn(2)
    layer = small.layers[0]
    rgba = np.zeros((16, 20, 4), np.uint8)
    rgba[:] = 255, 0, 0, 255
    modal, amodal = np.zeros((16, 20), bool), np.ones((16, 20), bool)
    modal[:12, :12] = True
    other = Layer(rgba, modal, amodal, None, layer.transform, layer.name, 0, layer.origin)
    now = Scene(small.background, (other, *small.layers[1:]), small.order, small.photo, small.evidence).move(0, 5, 0)
    done = replay(small, now, large, np.array([[2.0, 0, 0], [0, 2.0, 0]])).layers[0]
    assert done.size == (40, 32) and done.box == (18, 8, 40, 32)
    assert (done.rgba[:24, :24] == large.layers[0].rgba).all()  # what the photo shows is the photo's
    assert (done.rgba[26:, 26:] == (255, 0, 0, 255)).all() and done.amodal.all() and done.modal.sum() == 24 * 24


def test_another_pose_is_the_same_at_another_size_and_goes_with_its_mask():
    small, large = drawn(), drawn(2)
    mask = small.layer_mask(0)
    mask[4:8] = False
    mask[10:14, 4:30] = True
    now = small.reshape(0, mask).move(0, 2, 0)
    done = replay(small, now, large, np.array([[2.0, 0, 0], [0, 2.0, 0]]))
    assert sorted(layer.id for layer in done.layers) == [0, 1, 2]
    expected = np.roll(mask, 2, axis=1).repeat(2, axis=0).repeat(2, axis=1)
    assert (done.layer_mask(done.index(0)) == expected).all()
    again = replay(small, now, drawn(), changed={0})
    assert len(again) == 3 and again.layers[0].equals(small.layers[0])  # begun anew


@pytest.mark.parametrize("size", [(30, 20), (41, 27)])
def test_a_smaller_scene_looks_the_same(size):
    scene = drawn(2).move(1, 10, 6).rotate(2, 20)
    small = shrink(scene, size)
    assert small.size == size and [layer.id for layer in small.layers] == [0, 1, 2]
    assert small.layers[0].at_home and not small.layers[1].at_home
    for before, after in zip(scene.layers, small.layers, strict=True):
        factor = np.array([size[0] / 120, size[1] / 80] * 2)
        assert np.abs(np.subtract(after.box, np.multiply(before.box, factor))).max() < 3
    expected = np.asarray(scene.render().resize(size, Image.Resampling.BOX)).astype(int)
    assert (np.abs(expected - np.asarray(small.render())) > 60).mean() < 0.06


# Completed again


@pytest.fixture
def moved(completed):
    return edit(edit(edit(completed, "move", id=0, dx=9), "rename", id=1, name="bee"), "remove", id=2)


def test_nothing_is_completed_twice(models, moved):
    back = moved.step(view="mark")
    assert is_complete(back, "pcnet-m", 0.0) and lost_edits(back) == []
    again = complete(back, models, "pcnet-m")
    assert again.scene is moved.scene and again.view == "look"
    other = complete(back, models, "amodal-vae")
    assert (
        other.completed is not moved.completed and boxes(other.scene.present)[0][0] - boxes(other.completed)[0][0] == 9
    )


def test_edits_stay_where_masks_did_not_change(models, moved):
    number = moved.marks.present[1].id
    redrawn = mark(moved.step(view="mark"), "stroke", kind="brush", points=[[2, 2]], width=6, id=number)
    assert changed(redrawn) == {1} and lost_edits(redrawn) == ["b"]
    again = complete(redrawn, models, "pcnet-m")
    now = again.scene.present
    assert set(boxes(now)) == {0, 1} and len(again.completed) == 3  # that one is still removed
    assert boxes(now)[0][0] - boxes(again.completed)[0][0] == 9
    assert now.layers[1].name == "b"  # begun anew
    assert edit(again, "undo").scene.present is again.completed
    wider = complete(moved.step(view="mark"), models, "pcnet-m", 0.2)
    assert boxes(wider.scene.present)[0][0] - boxes(wider.completed)[0][0] == 9
    assert [layer.name for layer in wider.scene.present.layers] == ["a", "bee"]


def test_objects_that_come_and_go(models, moved):
    gone = mark(moved.step(view="mark"), "remove", id=0)
    assert lost_edits(gone) == ["a"]
    assert set(boxes(complete(gone, models, "pcnet-m").scene.present)) == {1}
    more = mark(moved.step(view="mark"), "stroke", kind="outline", points=[[2, 2], [22, 2], [22, 18], [2, 18]])
    assert lost_edits(more) == [] and set(boxes(complete(more, models, "pcnet-m").scene.present)) == {0, 1, 3}
    twice = edit(moved, "duplicate", id=0)
    drawn_again = complete(
        mark(twice.step(view="mark"), "stroke", kind="outline", points=[[2, 2], [22, 2], [22, 18], [2, 18]]),
        models,
        "pcnet-m",
    )
    now = drawn_again.scene.present
    assert {layer.name for layer in now.layers} == {"a", "bee", "a copy", "object 4"}
    assert len({layer.id for layer in now.layers}) == 4


@pytest.mark.parametrize("is_moved", [False, True])
def test_an_object_in_another_pose_is_as_sharp_as_the_photo(is_moved):
    small, large = drawn(), drawn(3)
    noise = np.random.default_rng(0).integers(0, 256, (36, 36, 3), np.uint8)
    fine = np.concatenate([noise, np.full((36, 36, 1), 255, np.uint8)], axis=2)

    def grained(scene, rgba):
        return replace(scene, layers=(scene.layers[0], replace(scene.layers[1], rgba=rgba), scene.layers[2]))

    small, large = grained(small, fine[1::3, 1::3]), grained(large, fine)
    session = Session(np.asarray(small.photo), base=small, completed=small, scene=History(small))
    now = small.move(1, 9, 4).rotate(1, 90).duplicate(0) if is_moved else small
    for number in (1, 1, 3) if is_moved else (1, 1):  # also twice, and a copy
        index = [layer.id for layer in now.layers].index(number)
        shape = now.layer_mask(index)
        rows, columns = np.nonzero(shape)
        shape[rows.min() : rows.min() + 3, columns.min() : columns.max() + 1] = False
        shape[rows.max() : rows.max() + 4, columns.min() : columns.max() + 1] = True
        posed = now.reshape(index, shape)
        session = with_pose(session, now.layers[index], posed.layers[index])
        now = posed
    index = [layer.id for layer in now.layers].index(1)
    now = now.move(index, 2, 1).rename(index, "posed")
    done = replay(small, now, large, np.array([[3.0, 0, 0], [0, 3.0, 0]]), poses=on_canvas(session, small))
    assert sorted(layer.id for layer in done.layers) == sorted(layer.id for layer in now.layers)
    for before in now.layers:
        after = next(layer for layer in done.layers if layer.id == before.id)
        assert np.allclose(np.multiply(before.box, 3), after.box, atol=1) and before.name == after.name
    sharp = next(layer for layer in done.layers if layer.id == 1)
    assert sharp.origin is None and max(sharp.size) >= 36
    seen = (sharp.rgba[..., :3][:, :, None] == noise[None, 18, :]).all(axis=-1).any(axis=2).sum()
    assert seen >= (15 if is_moved else 30)  # the photo's own pixels, where the square stayed as it was
    error = np.abs(
        done.render(output_type="np").astype(int) - np.kron(now.render(output_type="np"), np.ones((3, 3, 1)))
    )
    same = np.ones(error.shape[:2], bool)
    x, y, w, h = (int(value) for value in sharp.box)
    same[max(0, y - 3) : y + h + 3, max(0, x - 3) : x + w + 3] = False
    assert (error[same] > 60).mean() < 0.05
    # Without the note the preview's pixels are enlarged, as those of a picture that was put in.
    blurred = replay(small, now, large, np.array([[3.0, 0, 0], [0, 3.0, 0]]))
    assert max(blurred.layers[blurred.index("posed")].size) < 36


def test_poses_are_kept_with_the_work(tmp_path):
    small = drawn()
    session = Session(np.asarray(small.photo), base=small, completed=small, scene=History(small), recipe=("a", 0, None))
    posed = small.reshape(0, np.roll(small.layer_mask(0), 3, 1))
    session = with_pose(session, small.layers[0], posed.layers[0]).step(scene=History(posed, (small,)))
    assert list(session.poses.values()) == [(0, 7, 4)]
    write_work(session, tmp_path)
    again = read_work(tmp_path, Session())
    assert again.poses == session.poses and digest_of(again.scene.present.layers[0]) in again.poses
