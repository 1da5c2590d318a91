"""What a visitor of the demo's page does to a scene, what is shown of it, and the files that come out."""

import dataclasses
import json
import math
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion import Layer, Scene
from demo_helpers import (
    app_edits,
    app_pages,
    app_state,
    app_view,
    edit,
)

PageError, Session = app_state.PageError, app_state.Session


@pytest.fixture
def edited(completed):
    return completed.step(view="edit")


# Edits


def test_typed_numbers_are_absolute(edited):
    number = edited.scene.present.layers[0].id
    turned = edit(edited, "rotate", id=number, degrees=40)
    flipped = edit(edit(turned, "scale", id=number, percent=50), "flip", id=number)
    for session, mirrored in ((turned, False), (flipped, True)):
        again = edit(edit(session, "rotate", id=number, degrees=-75), "scale", id=number, percent=130)
        layer = again.scene.present.layers[0]
        assert app_edits.rotation_of(layer) == pytest.approx(-75) and app_edits.scale_of(layer) == pytest.approx(130)
        assert app_edits.is_mirrored(layer) is mirrored
    placed = edit(flipped, "place", id=number, x=3.5)
    x, y, _, _ = placed.scene.present.layers[0].box
    assert (x, y) == (pytest.approx(3.5), pytest.approx(flipped.scene.present.layers[0].box[1]))


def test_drag_moves_by_whole_pixels_and_undo_gives_the_photo_back(edited):
    scene = edited.scene.present
    number = scene.layers[1].id
    moved = edit(edited, "move", id=number, dx=12.4, dy=-7)
    assert moved.layer == number and len(moved.scene.past) == 1
    assert np.subtract(moved.scene.present.layers[1].box, scene.layers[1].box).tolist() == [12, -7, 0, 0]
    assert (moved.scene.present.render(output_type="np") != edited.photo).any()
    back = edit(moved, "undo")
    assert back.scene.present is scene and (back.scene.present.render(output_type="np") == edited.photo).all()
    assert edit(back, "redo").scene.present is moved.scene.present
    reset = edit(edit(moved, "front", id=number), "reset")
    assert reset.scene.present is scene and len(reset.scene.past) == 3  # which can be undone too
    still = edit(edited, "move", id=number, dx=0, dy=0)
    assert still.scene.past == () and still.stamp > edited.stamp


@pytest.mark.parametrize(
    ("op", "event", "says"),
    [
        ("move", {"dx": 5000}, "too far away"),
        ("move", {"dx": math.inf}, "must be between"),
        ("place", {"x": "a"}, "cannot be read"),
        ("scale", {"percent": 0}, "between 2 and 1000"),
        ("scale", {"percent": None}, "cannot be read"),
        ("rotate", {"degrees": math.nan}, "must be between"),
        ("rename", {"name": ""}, "at least one letter"),
        ("swap", {"other": 0}, "another object"),
        ("swap", {"other": 77}, "Choose an object"),
        ("explode", {}, "no such action"),
    ],
)
def test_refused_edits(edited, op, event, says):
    with pytest.raises(PageError, match=says):
        edit(edited, op, id=0, **event)
    with pytest.raises(PageError):
        edit(edited, op, id=77, **event)


def test_order_moves_step_by_step(edited):
    scene = edited.scene.present
    bottom = scene.stacking()[0]
    above = app_edits.overlapping(scene, bottom)
    assert above  # the drawn objects overlap
    raised = edit(edited, "forward", id=scene.layers[bottom].id).scene.present
    assert raised.in_front(bottom, above[0]) and not scene.in_front(bottom, above[0])
    front = edit(edited, "front", id=scene.layers[bottom].id)
    with pytest.raises(PageError, match="Nothing is in front"):
        edit(front, "forward", id=scene.layers[bottom].id)
    back = edit(front, "back", id=scene.layers[bottom].id)
    with pytest.raises(PageError, match="in front of nothing"):
        edit(back, "backward", id=scene.layers[bottom].id)
    swapped = edit(edited, "swap", id=scene.layers[bottom].id, other=scene.layers[above[0]].id).scene.present
    assert swapped.in_front(bottom, above[0])


def test_duplicate_remove_and_insert(monkeypatch, edited):
    twice = edit(edited, "duplicate", id=0)
    assert [layer.name for layer in twice.scene.present.layers][-1] == "a copy"
    assert twice.layer == twice.scene.present.layers[-1].id == 3
    gone = edit(twice, "remove", id=3)
    assert len(gone.scene.present) == 3 and gone.layer is None
    picture = Image.new("RGBA", (500, 100), (255, 0, 0, 255))
    added = app_edits.insert_picture(edited, picture, "sign")
    x, y, w, h = added.scene.present.layers[-1].box
    assert (w, h) == (64, 13) and abs(x + w / 2 - 64) <= 1 and abs(y + h / 2 - 48) <= 1
    with pytest.raises(PageError, match="transparent everywhere"):
        app_edits.insert_picture(edited, Image.new("RGBA", (50, 50)), "air")
    monkeypatch.setattr(app_edits, "MAX_OBJECTS", 3)
    with pytest.raises(PageError, match="can have 3 objects"):
        edit(edited, "duplicate", id=0)


@pytest.mark.parametrize("kind", app_edits.EXPORTS)
def test_exports_read_back(tmp_path, edited, kind):
    session = dataclasses.replace(edit(edited, "move", id=1, dx=9, dy=4), title="../my photo?")
    scene = session.scene.present
    path = app_edits.export(session, kind, tmp_path)
    assert path.name == "my-photo" + app_edits.EXPORTS[kind][1] and tmp_path in path.parents
    if kind == "png":
        assert (np.asarray(Image.open(path)) == scene.render(output_type="np")).all()
        return
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "out")
        path = tmp_path / "out" / ("my-photo.json" if kind == "json" else "my-photo")
    assert Scene.load(path).equals(scene)


def test_export_needs_a_scene_and_a_known_format(blank, edited):
    with pytest.raises(PageError, match="Complete the objects first"):
        app_edits.export(blank, "png")
    with pytest.raises(PageError, match="no such format"):
        app_edits.export(edited, "exe")


# What the page shows


def test_codes_tell_what_is_seen_where(edited):
    codes = app_view.object_codes(edited.scene.present)
    for index, layer in enumerate(edited.marks.present):
        assert ((codes == index + 1) == layer.mask).all()
    moved = edit(edited, "move", id=0, dx=300)
    assert 1 not in app_view.object_codes(moved.scene.present)
    turned = app_view.object_codes(edit(edited, "rotate", id=0, degrees=33).scene.present)
    assert set(np.unique(turned)) <= {0, 1, 2, 3}


def test_codes_of_objects_that_hide_each_other():
    from woven import paint, woven

    modal, amodal = woven(60, 90)
    layers = [
        Layer(np.dstack([np.full((60, 90, 3), 9 + i, np.uint8), amodal[i] * np.uint8(255)]), modal[i], amodal[i], id=i,
              origin=np.eye(2, 3))
        for i in range(2)
    ]  # fmt: skip
    photo = np.asarray(paint(modal))
    codes = app_view.object_codes(Scene(np.zeros_like(photo), layers, None, photo))
    assert ((codes == 1) == modal[0]).all() and ((codes == 2) == modal[1]).all()


def test_values_of_the_page_are_json_and_change_with_every_step(marked, edited):
    chosen = edit(edited, "select", id=1)
    values = [app_view.stage_value(session) for session in (marked, edited.step(view="look"), edited, chosen)]
    assert [value["mode"] for value in values] == ["mark", "look", "edit", "edit"]
    assert "under" in values[3] and "under" not in values[2]
    for session in (marked, chosen):
        json.dumps([app_view.stage_value(session), *(app_view.panel_value(session, mode) for mode in ("mark", "edit"))])
    assert app_view.stage_value(marked.step())["stamp"] != values[0]["stamp"]
    assert app_view.stage_value(Session()) is None is app_view.panel_value(Session(), "mark")
    names = [item["name"] for item in app_view.panel_value(edited, "edit")["objects"]]
    stack = edited.scene.present.stacking()
    assert names == [edited.scene.present.layers[index].name for index in reversed(stack)]  # as layered editors show it


def test_scene_without_an_object_is_drawn_once_while_it_moves(models, edited):
    chosen = edit(edited, "select", id=0)
    first = app_view.stage_value(chosen)["under"]
    page = app_pages.Page(models)
    moved, value, *_ = page.on_act(
        chosen, SimpleNamespace(_data={"mode": "edit", "op": "move", "id": 0, "dx": 9, "dy": 2})
    )
    assert value["under"] == first == app_view.data_url(moved.scene.present.remove(0).render())
    fronted, value, *_ = page.on_act(moved, SimpleNamespace(_data={"mode": "edit", "op": "back", "id": 0}))
    assert value["under"] == app_view.data_url(fronted.scene.present.remove(0).render())
    other = app_view.stage_value(edit(moved, "select", id=1))["under"]
    assert other == app_view.data_url(moved.scene.present.remove(1).render()) != first


@pytest.mark.parametrize("view", app_view.VIEWS)
def test_views_can_be_drawn(completed, view):
    assert min(app_view.draw_view(completed.completed, view).size) > 100


@pytest.mark.parametrize("example", app_view.EXAMPLES, ids=lambda example: example.key)
def test_examples_come_with_their_masks(example):
    session = app_pages.open_example(Session(), example.key)
    assert len(session.marks.present) >= 2 and session.marks.past == () and session.selected is None
    photo, objects = example.load()
    assert session.size == (photo.height, photo.width)
    assert [m.area for m in session.marks.present] == objects.masks.sum(axis=(1, 2)).tolist()  # they do not overlap


def test_texts_of_a_visitor_are_no_markup(completed):
    scene = completed.completed
    order = np.zeros((3, 3), np.int8)
    order[0, 1], order[1, 0] = 1, -1
    layers = [dataclasses.replace(layer, name="<img src=x>*b*") for layer in scene.layers]
    said = app_pages.summary(completed.step(completed=dataclasses.replace(scene, layers=layers, order=order)))
    assert "hidden, behind" in said and "<" not in said and "*b*" not in said
    assert "<" not in app_pages.message_for(PageError("<b>.png"))
