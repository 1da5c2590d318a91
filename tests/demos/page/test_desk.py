"""Events of one tab that overlap: actions that overtake each other, and long work beside them."""

import threading
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from demo_helpers import edit, mark
from page import wiring
from page.layout import Page
from page.wiring import begin, current_desk, guarded, is_begun, long_work, report, shown
from page.work.actions import act
from page.work.desk import Desk
from page.work.marks import add_marks
from page.work.session import PageError, Session


def test_tabs_have_desks_of_their_own(marked):
    template = Desk(Session())
    first, second = deepcopy(template), deepcopy(template)
    first.commit(first.session, marked)
    assert first.session is marked and second.session.photo is None is template.session.photo


def test_long_work_keeps_what_was_done_meanwhile(marked, completed):
    desk = Desk(marked)
    named = desk.commit(marked, replace(mark(marked, "rename", id=0, name="crate"), seq=3))
    merged = desk.commit(marked, marked.step(completed=completed.completed, scene=completed.scene, view="look"))
    assert merged is desk.session and merged.completed is completed.completed and merged.view == "look"
    assert merged.marks is named.marks and merged.stamp > named.stamp
    other = completed.step()
    assert desk.commit(merged, replace(other, seq=0)).seq == merged.seq  # of the tab, not of the photo
    other = desk.session
    with pytest.raises(PageError, match="Another photo"):
        desk.commit(merged, merged.step(view="edit"))
    assert desk.session is other


def test_long_work_undoes_nothing_that_was_done_meanwhile(completed):
    desk = Desk(completed)
    moved = desk.commit(completed, edit(completed, "move", id=0, dx=9))
    for late in (edit(completed, "flip", id=1), mark(completed, "rename", id=0, name="crate")):
        if late.scene is completed.scene:  # marks and scene are changed apart
            assert desk.commit(completed, late).scene is moved.scene
            continue
        with pytest.raises(PageError, match="You went on in the meantime"):
            desk.commit(completed, late)
        assert desk.session is moved


def test_a_page_that_the_server_does_not_know_keeps_what_it_shows(models):
    desk = deepcopy(Desk(Session()))  # as Gradio makes one for a page that was opened before the server was started
    page = Page(models)
    page.build()
    page.complete.page = Step.page
    event = SimpleNamespace(_data={"mode": "edit", "op": "select", "id": 0, "seq": 1})
    with pytest.raises(gr.Error, match="Reload the page") as error, pytest.warns(UserWarning, match="Reload"):
        page.on_act(desk, event)
    assert error.value.visible is False
    with pytest.raises(gr.Error, match="Reload the page"), pytest.warns(UserWarning, match="Reload"):
        list(page.complete.on_complete(desk, "pcnet-m", 0.0))
    page.on_load(desk, None, SimpleNamespace(query_params={"start": ""}))
    page.on_act(desk, event)


def test_a_cancel_that_comes_too_late_ends_no_other_work(completed):
    desk, step = Desk(completed), Step()
    desk.cancelled.set()  # work had just ended
    step.go.set()
    *_, last = step.work(desk)
    assert last[0] is desk and desk.session.view == "look"


def test_an_event_passes_the_session_and_keeps_the_desk(marked):
    desk = Desk(marked)

    @guarded
    def step(session, name):
        assert current_desk() is desk
        return (*shown(mark(session, "rename", id=0, name=name)), "more")

    kept, stage, *_, more = step(desk, "crate")
    assert kept is desk and more == "more" and stage["stamp"] == desk.session.stamp
    assert desk.session.marks.present[0].name == "crate"


class Step:
    page = SimpleNamespace(work="bar")

    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()

    @guarded
    def begin(self, session):
        begin("")

    @long_work
    def work(self, session):
        self.thread = threading.current_thread()
        self.begun.set()
        self.go.wait(20)
        if not report("masks", 0.5):
            raise PageError("stopped")
        return shown(session.step(view="look"))


def test_long_work_tells_how_far_it_is(completed):
    desk, step = Desk(completed), Step()
    told = step.work(desk)
    assert next(told) == {"bar": {"text": "Getting ready", "share": 0.0}}
    assert step.begun.wait(20)
    desk.commit(desk.session, edit(desk.session, "rename", id=0, name="crate"))  # meanwhile
    step.go.set()
    *_, last = told
    assert last[0] is desk and last[-1] is None and desk.session.scene.present.layers[0].name == "crate"
    assert last[1]["stamp"] == desk.session.stamp and desk.session.view == "look"


def test_work_that_nobody_waits_for_ends_whatever_is_asked_for_next(completed):
    desk, step = Desk(completed), Step()
    told = step.work(desk)
    next(told)
    assert step.begun.wait(20)
    told.close()  # the connection is gone
    step.begin(desk)  # and here again, with other work, whose bar is its own
    step.go.set()
    step.thread.join(20)
    assert desk.session is completed and desk.told == ("Getting ready", 0.0)


def test_the_bar_of_work_that_begins_late_is_its_own(completed, monkeypatch):
    """As on a machine that has much else to do."""
    desk, step = Desk(completed), Step()
    desk.told = ("Drawing", 1.0)  # by the work before
    late = SimpleNamespace(start=lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(wiring.threading, "Thread", lambda **_: late)
        told = step.work(desk)
        assert next(told) == {"bar": {"text": "Getting ready", "share": 0.0}}
    told.close()


def test_long_work_can_be_cancelled(completed, models, marked):
    desk, step = Desk(completed), Step()
    told = step.work(desk)
    next(told)
    assert step.begun.wait(20)
    desk.cancelled.set()
    step.go.set()
    values = []
    with pytest.raises(gr.Error, match="as it was") as error:  # whatever the work says
        for value in told:
            values.append(value)
    assert values[-1] == {"bar": None} and error.value.visible is False
    assert desk.session is completed and not desk.cancelled.is_set()
    page = Page(models)
    page.complete.page, page.work, desk = Step.page, Step.page.work, Desk(marked)  # where it takes long
    desk.waits = True
    desk.cancelled.set()  # while it waits for its turn
    with pytest.raises(gr.Error, match="as it was"):
        list(page.complete.on_complete(desk, "pcnet-m", 0.0))
    assert desk.session is marked

    # After the last question of the pipeline, and while work that was not begun ends first.
    class Late(Step):
        @long_work
        def work(self, session):
            report("done", 1.0)
            desk.cancelled.set()
            return shown(session.step(view="look"))

        @long_work
        def other(self, session):
            return shown(session.step(view="look")) if is_begun("other") else gr.skip()

        @guarded
        def begin(self, session):
            begin("other")

    late, desk = Late(), Desk(completed)
    with pytest.raises(gr.Error, match="as it was"):
        list(late.work(desk))
    late.begin(desk)
    desk.cancelled.set()
    list(page.on_opening(desk))
    assert desk.cancelled.is_set()
    with pytest.raises(gr.Error, match="as it was"):
        list(late.other(desk))
    assert desk.session is completed and not desk.cancelled.is_set()
    stages = []

    def cancel_later(stage, share):
        stages.append(stage)
        return stage != "contents"

    with pytest.raises(Exception, match="ended the call"):
        models.complete(marked, "pcnet-m", progress=cancel_later)
    assert stages[-1] == "contents"


def test_a_choice_that_comes_late_is_void(edited):
    def select(session, number, seq):
        return act(session, {"mode": "edit", "op": "select", "id": number, "seq": seq})

    chosen = select(edited, 2, 5)
    assert (chosen.layer, chosen.seq) == (2, 5)
    late = select(chosen, 1, 4)
    assert (late.layer, late.seq) == (2, 5) and late.stamp > chosen.stamp
    gone = act(
        late, {"mode": "edit", "op": "remove", "id": 1, "seq": 3}
    )  # what was asked by its id is done all the same
    assert [layer.id for layer in gone.scene.present.layers] == [0, 2] and gone.seq == 5
    assert act(gone, {"mode": "edit", "op": "select", "id": 0, "seq": "x"}).layer == 0


def test_a_stroke_goes_to_what_was_seen_chosen(blank):
    first = add_marks(blank, np.pad(np.ones((1, 20, 20), bool), ((0, 0), (5, 39), (5, 71))))
    both = add_marks(first, np.pad(np.ones((1, 20, 20), bool), ((0, 0), (40, 4), (60, 16))))
    drawn = mark(both, "stroke", kind="brush", points=[[10, 30]], width=8, id=0)
    assert drawn.selected == 0 and drawn.marks.present[0].area > 400
    fresh = mark(both, "stroke", kind="brush", points=[[45, 32]], width=8, id=None)
    assert len(fresh.marks.present) == 3


def test_a_refused_action_is_heard(models, edited):
    event = SimpleNamespace(_data={"mode": "edit", "op": "remove", "id": 77, "seq": 9})
    with pytest.warns(UserWarning, match="Choose an object"):
        desk, stage, *_ = Page(models).on_act(Desk(edited), event)
    assert stage["seq"] == 9 == desk.session.seq
