"""From marks to a scene, and other shapes."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from demo_helpers import edit
from page.layout import Page
from page.models import Models
from page.steps.complete import complete
from page.view.drawing import draw_shape, draw_shapes
from page.view.panel import FILLERS
from page.wiring import STAGES
from page.work.actions import go_to
from page.work.completed import canvas_masks, may_be_hidden, partly_hidden, unlike
from page.work.files.photos import with_photo
from page.work.marks import add_marks
from page.work.session import PageError, Session
from photo_helpers import draw_scene, tiny_photo_pcnet
from repository_helpers import ROOT


def test_completing_takes_the_steps_in_order(marked, models):
    stages = []
    done = complete(marked, models, "pcnet-m", 0.2, lambda stage, share: stages.append((stage, share)))
    assert [stage for stage, _ in stages][-1] == "done" and stages == sorted(stages, key=lambda item: item[1])
    assert set(stage for stage, _ in stages) <= set(STAGES)
    assert done.view == "look" and [layer.name for layer in done.completed.layers] == ["box", "lid"]
    assert done.completed.size == (96 + 2 * 19, 64 + 2 * 19)  # room on each side
    modal, amodal = canvas_masks(done.completed)
    assert (modal[:, 19:-19, 19:-19] == np.stack([m.mask for m in marked.marks.present])).all()
    assert not (modal & ~amodal).any()


def test_completing_needs_marks_a_photo_and_the_pipelines(tmp_path, blank, marked, models):
    with pytest.raises(PageError, match="Mark at least one object"):
        complete(blank, models, "pcnet-m")
    with pytest.raises(PageError, match="Mark at least one object"):
        complete(Session(), models, "pcnet-m")
    with pytest.raises(PageError, match="Choose what is to complete"):
        complete(marked, models, "../secret")
    empty = Models(tmp_path)
    assert "pipelines/deocclusion" in empty.missing and empty.choices == []
    with pytest.raises(PageError, match="is not there"):
        complete(marked, empty, "pcnet-m")
    assert Page(empty).build() is not None  # the page starts, and says so
    lacking = tmp_path / "lacking" / "deocclusion"
    lacking.mkdir(parents=True)
    index = {"references": {"content_pipeline": "../pcnet-c", "mask_pipeline": "../pcnet-m"}}
    (lacking / "model_index.json").write_text(json.dumps(index))
    assert "`pipelines/pcnet-c`, which is not there" in Models(tmp_path / "lacking").missing
    with pytest.raises(PageError, match="Complete the objects first"):
        go_to(marked, "edit")


def test_another_shape_takes_the_place_of_the_first(completed, models):
    number = completed.completed.layers[0].id
    modal, amodal = canvas_masks(completed.completed)
    samples, scores = models.shapes(completed.photo, modal[0], may_be_hidden(completed.completed, 0), 3)
    assert len(samples) == len(scores) == 3
    pictures = draw_shapes(completed.photo, modal[0], amodal[0], samples, ["one", "two", "three"])
    assert re.fullmatch(r"two, \d+% changed", pictures[1][1])
    assert len(pictures) == 3 and all(max(picture.size) == 1000 for picture, _ in pictures)
    samples[1] = False
    samples[1, 5:20, 8:30] = True
    moved = edit(completed.step(samples=samples, samples_of=number), "move", id=number, dx=7, dy=3)
    used = models.use_shape(moved, 1)
    first, now = used.completed.layers[0], used.scene.present.layers[0]
    whole = canvas_masks(used.completed)[1][0]
    assert not (whole & ~samples[1] & ~modal[0]).any()  # but for slivers, which are left out
    assert (whole != (samples[1] | modal[0])).sum() < 40
    assert (used.scene.present.order == moved.scene.present.order).all() and used.shape is None
    assert np.allclose(now.transform - first.transform, [[0, 0, 7], [0, 0, 3]])  # it stays where it was dragged
    assert edit(used, "undo").scene.present is moved.scene.present
    for chosen in (None, 3, -1):
        with pytest.raises(PageError, match="Choose a shape"):
            models.use_shape(moved, chosen)


def test_the_network_that_sees_the_photo_comes_first(completed, models, folder, tmp_path):
    assert models.shapes_by_photo(completed.completed, 0) == []  # there is none
    shutil.copytree(folder, tmp_path / "all")
    tiny_photo_pcnet().save_pretrained(tmp_path / "all" / "pcnet-m-photo")
    every = Models(tmp_path / "all")
    assert [choice.key for choice in every.choices] == ["pcnet-m-photo", "pcnet-m", "amodal-vae"]
    assert "Looks at the photo" in every.choices[0].label
    number = completed.completed.layers[0].id
    modal, _ = canvas_masks(completed.completed)
    [(by, seen)] = every.shapes_by_photo(completed.completed, 0)
    assert by == "From the photo"
    assert seen.shape == modal[0].shape and (seen >= modal[0]).all()
    page = Page(every)
    page.build()
    *_, (drawn, _, gallery, *_) = page.complete.on_shapes(completed, number, 4)
    words = [item["caption"] for item in gallery.value]
    assert words[0].startswith("From the photo, ") and all(word.startswith("fits ") for word in words[1:])
    assert len(drawn.samples) == len(words) == 4 and (drawn.samples[0] == seen).all()
    shipped = Models(ROOT / "pipelines")
    assert shipped.choices[0].key == shipped.usual == "pcnet-m-photo"


def test_a_network_that_sees_the_object_alone_has_a_shape_of_its_own(completed, folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "all")
    tiny_photo_pcnet().save_pretrained(tmp_path / "all" / "pcnet-m-photo")
    shutil.copytree(folder / "pcnet-m", tmp_path / "all" / "occamodal")  # looked for, and not asked
    every, scene, asked = Models(tmp_path / "all"), completed.completed, []
    modal, _ = canvas_masks(scene)
    hidden = may_be_hidden(scene, 0)
    pipeline = every.mask_pipeline

    def whole_photo(photo, masks):
        asked.append(masks)
        return SimpleNamespace(amodal_masks=np.ones((1, *masks.shape), bool))

    monkeypatch.setattr(every, "mask_pipeline", lambda key: whole_photo if key == "occamodal" else pipeline(key))
    (first, _), (second, shape) = every.shapes_by_photo(scene, 0)
    assert (first, second) == ("From the photo", "On its own") and (asked[0] == modal[0]).all()
    np.testing.assert_array_equal(shape, modal[0] | hidden)  # nowhere else than the scene has room for it
    page = Page(every)
    page.build()
    *_, (drawn, _, gallery, *_) = page.complete.on_shapes(completed, scene.layers[0].id, 2)
    words = [item["caption"] for item in gallery.value]
    assert [word.split(",")[0].split(" ")[0] for word in words] == ["From", "On", "fits"] and len(drawn.samples) == 3


def test_shapes_differ_where_the_object_may_be_hidden(completed, models):
    scene = completed.completed
    modal, amodal = canvas_masks(scene)
    number, hidden = scene.layers[0].id, may_be_hidden(scene, 0)
    samples, _ = models.shapes(scene.photo, modal[0], hidden, 4)
    assert len(samples) > 1 and not (samples & ~(modal[0] | hidden)).any()
    front = scene.order[:, 0] == 1
    np.testing.assert_array_equal(hidden, modal[front].any(axis=0) | (amodal[0] & ~modal[0]))
    page = Page(models)
    page.build()
    *_, (drawn, agreed, gallery, *_) = page.complete.on_shapes(completed, number, 4)
    assert len(drawn.samples) == len(gallery.value) == len(samples) and agreed.visible == (len(samples) < 4)
    # In front of all others, and as it is seen: there is nothing to draw, and the page says so.
    layer = replace(scene.layers[0], amodal=scene.layers[0].modal)
    ahead = replace(scene, layers=(layer, *scene.layers[1:]), order=np.zeros_like(scene.order))
    *_, (drawn, agreed, gallery, *_) = page.complete.on_shapes(completed.step(completed=ahead), number, 4)
    assert len(drawn.samples) == len(gallery.value) == 1 and (drawn.samples[0] == modal[0]).all()
    assert agreed.visible and agreed.value == "All completions by the outline agree: one shape."
    beyond = np.zeros_like(hidden)
    beyond[:5] = True
    assert (may_be_hidden(replace(ahead, replaced=beyond), 0) == beyond).all()


def test_shapes_that_are_alike_are_shown_once():
    samples = np.zeros((5, 20, 20), bool)
    samples[:, :10] = True
    samples[1, 10, 10] = True  # a pixel of 200 is not seen
    samples[3:, 10:12] = True
    assert unlike(samples) == [0, 3] and unlike(samples[:0]) == [] and unlike(np.zeros_like(samples)) == [0]


def test_a_chosen_shape_can_be_another_pose(completed, models):
    number = completed.completed.layers[0].id
    modal, _ = canvas_masks(completed.completed)
    sample = modal[0].copy()
    sample[np.flatnonzero(sample.any(axis=1))[:4]] = False  # something of what is seen goes
    moved = edit(completed.step(samples=sample[None], samples_of=number), "move", id=number, dx=7, dy=3)
    posed = models.use_shape(moved, 0, pose=True)
    assert (posed.scene.present.layer_mask(0) == np.roll(sample, (3, 7), (0, 1))).all()
    assert posed.completed is moved.completed and edit(posed, "undo").scene.present is moved.scene.present


def test_a_shape_is_drawn_by_hand(completed, models):
    number = completed.completed.layers[0].id
    before = completed.scene.present.layer_mask(0)
    y, x = np.argwhere(before).mean(axis=0)
    cut = models.reshape(completed, {"id": number, "kind": "erase", "points": [[x, y]], "width": 6})
    now = cut.scene.present.layer_mask(0)
    assert (now < before).any() and not (now & ~before).any() and cut.layer == number
    grown = models.reshape(cut, {"id": number, "kind": "brush", "points": [[x, y], [x + 1, y]], "width": 8})
    assert (grown.scene.present.layer_mask(0) >= before).all()
    assert edit(edit(grown, "undo"), "undo").scene.present is completed.scene.present
    locked = edit(completed, "lock", id=number, locked=True)
    for session, event, message in (
        (locked, {"id": number, "kind": "brush", "points": [[x, y]]}, "is locked"),
        (completed, {"id": 99, "kind": "brush", "points": [[x, y]]}, "Choose an object first"),
        (completed, {"id": number, "kind": "select", "points": [[x, y]]}, "no such tool"),
        (completed, {"id": number, "kind": "erase", "points": [[x, y]], "width": 400}, "leave nothing of"),
        (completed, {"id": number, "kind": "brush", "points": []}, "That line is too short"),
    ):
        with pytest.raises(PageError, match=message):
            models.reshape(session, event)


def test_a_shape_shows_what_it_alone_has(completed):
    photo = np.full((40, 60, 3), 90, np.uint8)
    modal, amodal = np.zeros((2, 40, 60), bool)
    modal[10:30, 10:30] = amodal[10:30, 10:34] = True
    samples = np.stack([amodal, amodal, amodal])
    samples[:, 12:28, 34:40] = True  # in all
    samples[1, 12:28, 40:46] = True  # in one
    here, there = (np.asarray(draw_shape(photo, modal, amodal, samples, number)).astype(int) for number in (1, 0))
    scale = here.shape[1] / 60
    # The crop begins at the left edge: its margin is larger than what lies there.
    spot = {
        name: (int(14 * here.shape[0] / 40), int(x * scale)) for name, x in (("all", 37), ("one", 43), ("seen", 20))
    }
    assert here[spot["all"]].min() > 180 and there[spot["all"]].min() > 180  # white
    assert here[spot["one"]][0] > here[spot["one"]][2] + 80  # orange
    assert there[spot["one"]][2] > there[spot["one"]][0] + 80  # blue
    assert (here[spot["seen"]] == 90).all()


def test_shapes_are_offered_for_what_has_a_hidden_part(completed):
    assert {number for _, number in partly_hidden(completed)} == {
        layer.id for layer in completed.completed.layers if (layer.amodal & ~layer.modal).any()
    }
    assert partly_hidden(Session()) == []


def test_a_filler_can_be_chosen_for_all_or_for_one(marked, models):
    assert models.fillers[0] == "pcnet-c" and set(models.fillers) == {"auto", "blend", "exemplar", "smooth", "pcnet-c"}
    assert set(models.fillers) <= set(FILLERS)
    drawn = {key: complete(marked, models, "pcnet-m", filler=key).completed for key in (None, "smooth", "pcnet-c")}
    assert drawn[None].equals(drawn["pcnet-c"])
    assert (drawn["smooth"].background != drawn[None].background).any()
    for wrong in ("inpainter", "magic", 3):
        with pytest.raises(PageError, match="no such filler"):
            complete(marked, models, "pcnet-m", filler=wrong)


def test_one_object_is_painted_anew(completed, models):
    scene = completed.completed
    index = next(index for index, layer in enumerate(scene.layers) if (layer.amodal & ~layer.modal).any())
    number = scene.layers[index].id
    moved = edit(completed, "move", id=number, dx=4)
    painted = models.repaint(moved, number, "smooth")
    before, after = moved.scene.present.layers[index], painted.scene.present.layers[index]
    assert (before.rgba != after.rgba).any() and (before.transform == after.transform).all() and painted.layer == number
    assert edit(painted, "undo").scene.present is moved.scene.present
    with pytest.raises(PageError, match="is locked"):
        models.repaint(edit(moved, "lock", id=number, locked=True), number, "smooth")
    copied = edit(moved, "duplicate", id=number)
    with pytest.raises(PageError, match="was hidden in the photo"):
        models.repaint(copied, copied.layer, "smooth")
    with pytest.raises(PageError, match="no such filler"):
        models.repaint(moved, number, "magic")


def test_a_crowd_is_not_completed(models):
    session = Session()
    photo, modal, _ = draw_scene(3)
    session = with_photo(session, Image.fromarray(photo), "drawn")[0]
    session = add_marks(session, modal, ["a", "b", "c"], is_crowd=[True, False, False])
    scene = complete(session, models, "pcnet-m").completed
    assert [layer.is_crowd for layer in scene.layers] == [True, False, False]
