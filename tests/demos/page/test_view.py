"""What the page shows of a visitor's work."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from amodal_diffusion import Layer, Scene
from demo_helpers import edit
from page.examples import EXAMPLES, open_example
from page.layout import Page
from page.view.drawing import VIEWS, data_url, draw_view, object_codes
from page.view.panel import panel_value
from page.view.stage import stage_value
from page.wiring import message_for
from page.work.completed import summary
from page.work.session import PageError, Session


def test_codes_tell_what_is_seen_where(edited):
    codes = object_codes(edited.scene.present)
    for index, layer in enumerate(edited.marks.present):
        assert ((codes == index + 1) == layer.mask).all()
    moved = edit(edited, "move", id=0, dx=300)
    assert 1 not in object_codes(moved.scene.present)
    turned = object_codes(edit(edited, "rotate", id=0, degrees=33).scene.present)
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
    codes = object_codes(Scene(np.zeros_like(photo), layers, None, photo))
    assert ((codes == 1) == modal[0]).all() and ((codes == 2) == modal[1]).all()


def test_values_of_the_page_are_json_and_change_with_every_step(marked, edited):
    chosen = edit(edited, "select", id=1)
    values = [stage_value(session) for session in (marked, edited.step(view="look"), edited, chosen)]
    assert [value["mode"] for value in values] == ["mark", "look", "edit", "edit"]
    assert "under" in values[3] and "under" not in values[2]
    for session in (marked, chosen):
        json.dumps([stage_value(session), *(panel_value(session, mode) for mode in ("mark", "edit"))])
    assert stage_value(marked.step())["stamp"] != values[0]["stamp"]
    assert stage_value(Session()) is None is panel_value(Session(), "mark")
    names = [item["name"] for item in panel_value(edited, "edit")["objects"]]
    stack = edited.scene.present.stacking()
    assert names == [edited.scene.present.layers[index].name for index in reversed(stack)]  # as layered editors show it


def test_scene_without_an_object_is_drawn_once_while_it_moves(models, edited):
    chosen = edit(edited, "select", id=0)
    first = stage_value(chosen)["under"]
    page = Page(models)
    moved, value, *_ = page.on_act(
        chosen, SimpleNamespace(_data={"mode": "edit", "op": "move", "id": 0, "dx": 9, "dy": 2})
    )
    assert value["under"] == first == data_url(moved.scene.present.remove(0).render())
    fronted, value, *_ = page.on_act(moved, SimpleNamespace(_data={"mode": "edit", "op": "back", "id": 0}))
    assert value["under"] == data_url(fronted.scene.present.remove(0).render())
    other = stage_value(edit(moved, "select", id=1))["under"]
    assert other == data_url(moved.scene.present.remove(1).render()) != first


@pytest.mark.parametrize("view", VIEWS)
def test_views_can_be_drawn(completed, view):
    assert min(draw_view(completed.completed, view).size) > 100


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.key)
def test_examples_come_with_their_masks(example):
    session = open_example(Session(), example.key)
    assert len(session.marks.present) >= 2 and session.marks.past == () and session.selected is None
    photo, objects = example.load()
    assert session.size == (photo.height, photo.width)
    assert [m.area for m in session.marks.present] == objects.masks.sum(axis=(1, 2)).tolist()  # they do not overlap


def test_texts_of_a_visitor_are_no_markup(completed):
    scene = completed.completed
    order = np.zeros((3, 3), np.int8)
    order[0, 1], order[1, 0] = 1, -1
    layers = [dataclasses.replace(layer, name="<img src=x>*b*") for layer in scene.layers]
    said = summary(completed.step(completed=dataclasses.replace(scene, layers=layers, order=order)))
    assert "hidden, behind" in said and "<" not in said and "*b*" not in said
    assert "<" not in message_for(PageError("<b>.png"))
