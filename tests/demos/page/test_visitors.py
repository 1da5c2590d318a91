"""Visitors of the page: what they share, and what is said of errors."""

import dataclasses
import threading
from copy import deepcopy
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from amodal_diffusion.io import ObjectMasks
from demo_helpers import edit, mark
from page import examples, layout
from page.examples import Example, open_example
from page.layout import Page
from page.models import Models
from page.wiring import guarded, message_for
from page.work.desk import Desk
from page.work.session import PageError, Session
from photo_helpers import draw_scene


def test_visitors_do_not_share_anything_that_changes(completed):
    template = Session()
    first, second = deepcopy(template), deepcopy(template)  # as gr.State gives one to each
    first = open_example(first, "woven")
    assert second.photo is None and template.photo is None
    one, two = completed.step(view="edit"), completed.step(view="edit")
    moved = edit(one, "move", id=0, dx=5)
    assert two.scene.present is completed.scene.present and two.scene.past == ()
    assert (two.scene.present.render(output_type="np") == completed.photo).all()
    assert moved.scene.present is not two.scene.present
    for field in dataclasses.fields(Session):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(moved, field.name, None)
    assert not moved.scene.present.layers[0].rgba.flags.writeable


def test_the_page_opens_with_the_example_and_with_nobodys_edits(models, monkeypatch):
    photo, modal, _ = draw_scene(3)
    drawn = Example("drawn", "", "", lambda: (Image.fromarray(photo), ObjectMasks(modal, names=["a", "b", "c"])))
    for module in (examples, layout):
        monkeypatch.setattr(module, "EXAMPLES", (drawn,))
    page, request = Page(models, start="drawn"), SimpleNamespace(query_params={})
    page.build()

    def come():
        desk = Desk(Session())
        page.on_load(desk, None, request)
        return desk

    first, patient = come(), come()
    busy = mark(first.session, "rename", id=0, name="mine")
    for event in ({"op": "remove", "id": 1}, {"op": "select", "id": 2}):
        busy = mark(busy, **event, seq=9)
    first.commit(first.session, busy)
    list(page.on_opening(first))  # its turn comes when the visitor has begun to work
    assert first.session is busy and busy.completed is None
    list(page.on_opening(patient))
    for desk in (patient, come()):
        session = desk.session
        assert [mark.name for mark in session.marks.present] == ["a", "b", "c"] and session.marks.past == ()
        assert session.completed is page._opening["drawn"].completed and session.view == "edit"
        assert (session.work, session.selected, session.seq) == ("", None, 0)
        assert [layer.name for layer in session.scene.present.layers] == ["a", "b", "c"]


def test_models_are_loaded_once_for_all_visitors(folder):
    models, made = Models(folder), []
    visitors = [threading.Thread(target=lambda: made.append(models.scene_pipeline("pcnet-m"))) for _ in range(4)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert len({id(pipe) for pipe in made}) == 1 and len(made) == 4


def test_errors_are_messages(caplog):
    assert message_for(PageError("Load a photo first.")) == "Load a photo first."
    assert "`order` must" in message_for(ValueError("`order` must be a matrix"))
    said = message_for(OSError("folder/secret.bin"))
    assert "secret" not in said and "try again" in said
    assert "secret" in caplog.text  # the log has it all

    @guarded
    def fail():
        raise PageError("Mark at least one object first.")

    with pytest.raises(gr.Error, match="Mark at least one"):
        fail()


def test_refused_event_keeps_the_session_and_redraws(monkeypatch, models, marked):
    warnings = []
    monkeypatch.setattr(layout.gr, "Warning", lambda message, **_: warnings.append(message))
    event = SimpleNamespace(_data={"mode": "mark", "op": "stroke", "kind": "outline", "points": [[1, 1]]})
    session, stage, *_ = Page(models).on_act(marked, event)
    assert warnings == ["That line is too short. Draw around the object, or paint over it."]
    assert session.marks is marked.marks and stage["stamp"] == marked.stamp + 1
