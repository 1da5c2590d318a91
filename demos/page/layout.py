"""The page as a whole: picture, steps, and the events that all steps share."""

import functools
import html
from typing import Any

import gradio as gr

from page import assets
from page.models import Models
from page.steps.complete import CompleteStep
from page.steps.edit import EditStep
from page.steps.mark import MarkStep
from page.view.drawing import keep_under
from page.wiring import QUICK, SECONDS, SLOW, current_desk, give_memory_back, guarded, message_for, shown, work_value
from page.work.actions import act, go_to, heard
from page.work.desk import Desk
from page.work.edits import ALONE
from page.work.session import PageError, Session

STEPS = ("mark", "look", "edit")


class Page:
    """Builds the page and wires it; `build` gives the `gr.Blocks`.

    `everything` is what most events change: the session, the picture, and the list of objects of two steps. `work` is
    the bar of long work.
    """

    def __init__(self, models: Models) -> None:
        self.models = models
        self.mark, self.complete, self.edit = MarkStep(models), CompleteStep(models), EditStep(models)

    def build(self) -> gr.Blocks:
        with gr.Blocks(
            title="Amodal scenes", fill_width=True, delete_cache=(1800, 7200), analytics_enabled=False
        ) as page:
            self.session = gr.State(
                Desk(Session(can_click=self.models.segmenters.clicker is not None)),
                time_to_live=6 * 3600,
                delete_callback=give_memory_back,
            )
            gr.HTML(
                '<div id="head"><h1>Amodal scenes</h1><p>Mark objects in a photo, see what hides behind what, '
                "and move whole objects around.</p></div>",
                js_on_load=None,
            )
            if self.models.missing:
                gr.HTML(f'<div class="ad-missing">{html.escape(self.models.missing)}</div>', js_on_load=None)
            with gr.Row(equal_height=False):
                with gr.Column(scale=7, min_width=480, elem_id="stage-column"):
                    self.stage = gr.HTML(
                        value=None,
                        html_template=assets.read("stage.html"),
                        js_on_load=assets.script("stage"),
                        apply_default_css=False,
                        elem_id="stage",
                    )
                    self.work = gr.HTML(
                        value=None,
                        html_template=assets.read("work.html"),
                        js_on_load=assets.read("work.js"),
                        apply_default_css=False,
                        elem_id="work",
                    )
                with gr.Column(scale=3, min_width=400), gr.Walkthrough(selected=1, elem_id="steps") as self.steps:
                    with gr.Step("Mark", id=1) as mark_step:
                        self.mark.build()
                    with gr.Step("Complete", id=2) as look_step:
                        self.complete.build()
                    with gr.Step("Edit", id=3) as edit_step:
                        self.edit.build()
            self._wire((mark_step, look_step, edit_step))
        return page

    # What happens

    def _wire(self, steps: tuple[gr.Step, ...]) -> None:
        state = self.session
        self.everything = [state, self.stage, self.mark.panel, self.edit.panel]
        for part in self.everything[1:]:
            part.act(self.on_act, state, self.everything, show_progress="hidden", trigger_mode="multiple", **QUICK)
        self.work.cancel(self.on_cancel, state, None, queue=False, api_visibility="private")
        for step in (self.mark, self.complete, self.edit):
            step.page = self
            step.wire(self)
        walked = [*self.everything, self.steps]
        self.complete.to_edit.click(lambda session: self.on_step(session, "edit"), state, walked, **QUICK)
        for name, part in zip(STEPS, steps, strict=True):
            walk = functools.partial(self.on_step, step=name)
            part.select(walk, state, walked, show_progress="hidden", **QUICK)

    def after_waiting(self, event: Any, step: Any, inputs: Any, outputs: list[Any]) -> Any:
        """Wire a `long_work` to an event such as a click: it says that it waits until its turn comes."""
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        begun = event(self.on_begin, self.session, self.work, queue=False, **quiet)
        return begun.then(step, inputs, [*outputs, self.work], show_progress="hidden", **SLOW)

    @guarded
    def on_begin(self, session: Session) -> dict[str, Any]:
        current_desk().cancelled.clear()
        return work_value("Waiting for the networks", None)

    @guarded
    def on_cancel(self, session: Session) -> None:
        current_desk().cancelled.set()

    @guarded
    def on_act(self, session: Session, event: gr.EventData) -> tuple[Any, ...]:
        """A picture that is out of step with its session would confuse, so a refusal is a warning and a redraw."""
        data = event._data or {}
        try:
            after = self._acted(session, data)
            if data.get("op") in ALONE and session.scene and after.scene and after.layer is not None:
                keep_under(session.scene.present, after.scene.present, after.layer)
            return shown(after)
        except Exception as error:
            gr.Warning(message_for(error), title="That did not work", duration=SECONDS)
            return shown(heard(session, data).step())

    def _acted(self, session: Session, data: dict[str, Any]) -> Session:
        if data.get("op") == "click":  # the one action that asks a network, a quick one
            return self.models.segmenters.click(heard(session, data), data)
        return act(session, data)

    @guarded
    def on_step(self, session: Session, step: str) -> Any:
        if session.view == step:  # the page followed a change of ours
            return gr.skip()
        try:
            session = go_to(session, step)
        except PageError as error:
            gr.Warning(message_for(error), duration=SECONDS)
            session = session.step()
        return (*shown(session), gr.Walkthrough(selected=STEPS.index(session.view) + 1))
