"""The page as a whole: picture, steps, and the events that all steps share."""

import html
import secrets
import time
from dataclasses import replace
from typing import Any

import gradio as gr

from page import assets
from page.examples import EXAMPLES, open_example
from page.models import Models
from page.steps.complete import CompleteStep, complete, same_marks
from page.steps.edit import EditStep
from page.steps.mark import MarkStep
from page.view.drawing import keep_under
from page.wiring import (
    QUICK,
    SECONDS,
    SLOW,
    SOON,
    ask,
    begin,
    current_desk,
    give_memory_back,
    guarded,
    is_begun,
    long_work,
    message_for,
    report,
    shown,
)
from page.work.actions import act, go_to, heard
from page.work.desk import Desk, Question
from page.work.edits import ALONE
from page.work.keeping import TOKEN, Keeper, Kept, new_token
from page.work.session import PageError, Session

STEPS = ("mark", "look", "edit")


class Page:
    """Builds the page and wires it; `build` gives the `gr.Blocks`.

    `everything` is what most events change: the session, the picture, and the list of objects of two steps; `walked`
    also the step on show and what the second step says. `work` is the bar of long work.
    """

    def __init__(self, models: Models, keeper: Keeper | None = None, start: str = "coffee") -> None:
        self.models, self.keeper, self.start = models, keeper, start
        self.page = self  # as the steps have it, for `long_work`
        self._opening: dict[str, Session] = {}
        self.mark, self.complete, self.edit = MarkStep(models), CompleteStep(models), EditStep(models)
        for step in (self.mark, self.complete, self.edit):
            step.page = self

    def build(self) -> gr.Blocks:
        with gr.Blocks(
            title="Amodal scenes", fill_width=True, delete_cache=(1800, 7200), analytics_enabled=False
        ) as page:
            self.session = gr.State(
                Desk(Session(can_click=self.models.segmenters.clicker is not None)),
                time_to_live=6 * 3600,
                delete_callback=give_memory_back,
            )
            # The token is no secret from the browser that has it, so this only keeps it readable after a restart.
            self.browser = gr.BrowserState(None, storage_key="amodal-scenes", secret="amodal-scenes")  # noqa: S106
            self.ask = gr.HTML(
                value=None,
                html_template=assets.read("ask.html"),
                js_on_load=assets.read("ask.js"),
                apply_default_css=False,
                elem_id="ask",
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
                    with gr.Step("Mark", id=1):
                        self.mark.build()
                    with gr.Step("Complete", id=2):
                        self.complete.build()
                    with gr.Step("Edit", id=3):
                        self.edit.build()
            self._wire()
            loaded = page.load(
                self.on_load,
                [self.session, self.browser],
                [*self.walked, self.ask, self.browser],
                show_progress="hidden",
                **QUICK,
            )
            loaded.then(None, js="() => window.amodalOpen && window.amodalOpen()")
            loaded.success(self.on_opening, self.session, [*self.walked, self.work], show_progress="hidden", **SLOW)
        return page

    # What happens

    def _wire(self) -> None:
        state = self.session
        self.everything = [state, self.stage, self.mark.panel, self.edit.panel]
        for part in self.everything[1:]:
            part.act(self.on_act, state, self.everything, show_progress="hidden", **SOON)
        self.walked = [*self.everything, self.steps, *self.complete.parts]
        self.answered = self.ask.answer(
            self.on_answer, state, [*self.walked, self.ask, self.work], show_progress="hidden", **QUICK
        )
        self.work.cancel(self.on_cancel, state, None, queue=False, api_visibility="private")
        for step in (self.mark, self.complete, self.edit):
            step.wire(self)
        self.complete.to_edit.click(self.on_edit, state, self.walked, **QUICK)
        # Not `select` of the steps, which tells of changes that come from here too: two that cross would go to and fro.
        self.stage.walk(self.on_walk, state, self.walked, show_progress="hidden", **SOON)

    def after_waiting(self, event: Any, step: Any, inputs: Any, outputs: list[Any]) -> Any:
        """Wire a `long_work` to an event such as a click: it says that it waits until its turn comes."""
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        begun = event(self.on_begin, self.session, self.work, queue=False, **quiet)
        return begun.then(step, inputs, [*outputs, self.work], show_progress="hidden", **SLOW)

    @guarded
    def on_begin(self, session: Session) -> dict[str, Any]:
        return begin("")

    @guarded
    def on_cancel(self, session: Session) -> None:
        current_desk().cancelled.set()

    # Opening, and what is asked first

    def on_load(self, desk: Desk, token: Any, request: gr.Request) -> tuple[Any, ...]:
        """Somebody has come, whom every other event is to know."""
        if isinstance(desk, Desk):
            desk.is_open = True
        return self.on_come(desk, token, request)

    @guarded
    def on_come(self, session: Session, token: Any, request: gr.Request) -> tuple[Any, ...]:
        """With an example to play with, and the offer of what they had when they went."""
        desk = current_desk()
        known = isinstance(token, str) and TOKEN.fullmatch(token)
        desk.token = token if known else new_token()
        question = None
        if self.keeper is not None:
            desk.keep = self.keeper.later
            self.keeper.settle(desk.token)
            kept = self.keeper.kept(desk.token)
            question = ask(self._offer(kept[0])) if kept else None
        key = request.query_params.get("start", self.start)
        if key in self._opening:
            session = replace(self._opening[key], can_click=session.can_click)
        elif any(example.key == key for example in EXAMPLES):
            session = open_example(session, key)
            if question is None and not self.models.missing:
                begin(f"open {key}")
        return (*shown(session), *self.at_step(session), question, desk.token)

    def _offer(self, kept: Kept) -> Question:
        when = time.strftime("%d %B, %H:%M", time.localtime(kept.saved))
        objects = f"{kept.objects} object{'s' * (kept.objects != 1)}"
        edits = f", {kept.edits} edit{'s' * (kept.edits != 1)}" if kept.edits else ""

        def reopen(session: Session) -> tuple[Any, ...]:
            opened = self.keeper.open(kept, session)
            self.keeper.take(current_desk(), kept)
            return (*shown(opened), *self.at_step(opened))

        return Question(
            "Your last scene",
            f"{kept.title}: {objects}{edits}. Last changed on {when}.",
            "Open",
            "Discard",
            reopen,
            cancel=lambda: self.keeper.discard(kept),
        )

    @long_work
    def on_opening(self, session: Session) -> Any:
        """Complete the example that the page opens with, as it comes; once for all visitors.

        Who has other marks by then keeps them as they are, and completes them when they like.
        """
        key = session.title
        if not is_begun(f"open {key}"):
            return gr.skip()
        with self.models.busy:
            if key not in self._opening:
                done = complete(open_example(Session(), key), self.models, self.models.usual or "", 0.0, report)
                self._opening[key] = replace(done, view="edit")
        done, now = self._opening[key], current_desk().session
        if now.photo is not session.photo or not same_marks(now.marks.present, done.marks.present):
            return gr.skip()
        names = ("completed", "base", "scene", "made_of", "recipe", "view")
        opened = session.step(**{name: getattr(done, name) for name in names})
        return (*shown(opened), *self.at_step(opened))

    @guarded
    def on_answer(self, session: Session, event: gr.EventData) -> Any:
        """Yes, no, or neither, where the question was only closed."""
        desk, data = current_desk(), event._data or {}
        question, desk.question = desk.question, None
        if question is None or id(question) != data.get("number"):
            return {self.ask: None}
        if data.get("yes") is not True:
            if data.get("yes") is False or question.no != "Discard":
                question.cancel()
            return {self.ask: None}
        result = question.act(session)
        if isinstance(result, tuple):
            return (*result, None, None)
        return {self.ask: None, self.work: result}

    def instead(self, session: Session, what: str, act: Any, cancel: Any = lambda: None) -> Any:
        """Outputs of an event that puts another photo in the place of this one, which is asked first if work is lost.

        Args:
            session: as it is.
            what: the name of what comes, such as "the example".
            act: gives the new session of the old one.
            cancel: called where the answer is no.
        """

        def go(session: Session) -> tuple[Any, ...]:
            opened = replace(act(session), stamp=session.stamp + 1, seq=session.seq)
            desk = current_desk()
            desk.work = secrets.token_hex(16)
            desk.todo, desk.waits = "", False  # what was asked for the photo before is not done to this one
            return (*shown(opened), *self.at_step(opened))

        if not session.work:
            return (*go(session), None, None)
        kept = "It can be opened again when you reload the page." if self.keeper and self.keeper.hours else ""
        question = Question(
            f"Open {what}?", f"You have {session.work} here, which it would replace. {kept}".strip(),
            "Open", "Stay here", go, cancel,
        )  # fmt: skip
        return {self.ask: ask(question)}

    def at_step(self, session: Session) -> tuple[Any, ...]:
        """Values of the steps and of what the second one says."""
        return (gr.Walkthrough(selected=STEPS.index(session.view) + 1), *self.complete.values(session))

    @guarded
    def on_act(self, session: Session, event: gr.EventData) -> tuple[Any, ...]:
        """A picture that is out of step with its session would confuse, so a refusal is a warning and a redraw."""
        data = event._data or {}
        try:
            after = self._acted(session, data)
            if (
                data.get("op") in ALONE
                and not session.carry
                and session.scene
                and after.scene
                and after.layer is not None
            ):
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
    def on_walk(self, session: Session, event: gr.EventData) -> Any:
        """Somebody pressed one of the steps."""
        number = (event._data or {}).get("step")
        return self._walk(session, STEPS[number - 1] if number in range(1, len(STEPS) + 1) else session.view)

    @guarded
    def on_edit(self, session: Session) -> Any:
        return self._walk(session, "edit")

    def _walk(self, session: Session, step: str) -> Any:
        if session.view == step:
            return gr.skip()
        try:
            session = go_to(session, step)
        except PageError as error:
            gr.Warning(message_for(error), duration=SECONDS)
            session = session.step()
        return (*shown(session), *self.at_step(session))
