"""The second step: what the pipelines found, and other shapes that an object may have."""

from typing import Any

import gradio as gr
import numpy as np

from amodal_diffusion import Scene
from page.models import Models, Progress
from page.steps.mark import ROOMS
from page.view.drawing import VIEWS, draw_shapes
from page.wiring import QUICK, SECONDS, SLOW, SOON, ask, begin, guarded, is_begun, long_work, report, shown
from page.work.completed import canvas_masks, has_uncertainty, may_be_hidden, partly_hidden, summary
from page.work.desk import Question
from page.work.edits import find_layer
from page.work.replay import is_edited, replay
from page.work.session import History, Mark, Marks, PageError, Session


class CompleteStep:
    """Parts and events of the second step; `build` runs inside of its `gr.Step`."""

    def __init__(self, models: Models) -> None:
        self.models = models

    def build(self) -> None:
        self.look = gr.Radio(list(VIEWS), value="Parts", label="Show", elem_id="look")
        self.summary = gr.Markdown("Complete the objects to see what was hidden.", elem_id="summary")
        self.to_edit = gr.Button("Edit the scene", variant="primary", size="lg", elem_id="to-edit")
        with gr.Accordion(
            "Other shapes an object may have", open=True, visible=self.models.has("amodal-vae"), elem_id="shapes"
        ):
            with gr.Row():
                self.shape_of = gr.Dropdown([], label="Object", min_width=140, elem_id="shape-of")
                self.shape_count = gr.Slider(2, 12, 6, step=1, label="Number", min_width=140)
            self.no_shapes = gr.Markdown("No object has a hidden part.", visible=False, elem_id="no-shapes")
            self.draw_shapes = gr.Button("Draw shapes", size="sm", elem_id="draw-shapes")
            self.agreed = gr.Markdown("", visible=False, elem_id="shapes-agreed")
            self.gallery = gr.Gallery(
                label="Choose a shape to see it large",
                columns=2,
                height="auto",
                visible=False,
                object_fit="contain",
                allow_preview=False,
                elem_id="shape-gallery",
                buttons=[],
            )
            self.pose = gr.Checkbox(
                False, label="Another pose: what is seen changes, too", container=False, visible=False, elem_id="pose"
            )
            self.use_shape = gr.Button(
                "Use the chosen shape", size="sm", interactive=False, visible=False, elem_id="use-shape"
            )
            self.chosen_shape = gr.State(None)

    @property
    def parts(self) -> list[Any]:
        """What `values` gives values to."""
        found = [self.shape_of, self.no_shapes, self.draw_shapes, self.agreed, self.gallery, self.pose, self.use_shape]
        return [self.look, self.summary, *found]

    def values(self, session: Session) -> tuple[Any, ...]:
        """What this step says of a session; shapes that were drawn stay."""
        if session.completed is None:
            return tuple(gr.skip() for _ in self.parts)
        looks = [view for view in VIEWS if view != "Uncertainty" or has_uncertainty(session.completed)]
        look = gr.Radio(choices=looks, value=session.look)
        if session.samples is not None:
            return (look, summary(session), *[gr.skip()] * (len(self.parts) - 2))
        names = partly_hidden(session)
        dropdown = gr.Dropdown(choices=names, value=names[0][1] if names else None, interactive=bool(names))
        nothing = gr.Markdown(visible=not names), gr.Button(interactive=bool(names))
        hidden = gr.Gallery(value=None, visible=False), gr.Checkbox(visible=False), gr.Button(visible=False)
        return (look, summary(session), dropdown, *nothing, gr.Markdown(visible=False), *hidden)

    def wire(self, page: Any) -> None:
        state, everything, mark = page.session, page.everything, page.mark
        asked = [state, mark.pipeline, mark.room, mark.filler]
        checked = mark.complete.click(
            self.on_check, asked, [*everything, page.ask, page.work], show_progress="hidden", **QUICK
        )
        for event in (checked, page.answered):
            event.success(self.on_complete, asked, [*page.walked, page.work], show_progress="hidden", **SLOW)
        self.look.input(self.on_look, [state, self.look], everything, show_progress="hidden", **SOON)
        shape = [state, self.agreed, self.gallery, self.pose, self.use_shape, self.chosen_shape]
        asked = [state, self.shape_of, self.shape_count]
        page.after_waiting(self.draw_shapes.click, self.on_shapes, asked, shape)
        chosen = [*everything, self.chosen_shape, self.use_shape]
        self.gallery.select(self.on_shape, state, chosen, show_progress="hidden", **SOON)
        page.after_waiting(self.use_shape.click, self.on_use_shape, [state, self.chosen_shape, self.pose], everything)

    @guarded
    def on_check(self, session: Session, key: str, room: float, filler: str | None = None) -> Any:
        """Whether edits would be lost, which is asked first; `on_complete` runs after this, and after the answer."""
        check(session, self.models, key)
        lost = lost_edits(session)
        go = lambda session: begin("complete")  # noqa: E731
        if not lost:
            return {self.page.work: go(session)}
        names = ", ".join(lost[:4]) + (" and others" if len(lost) > 4 else "")
        question = Question(
            "Complete the changed objects?",
            f"The outlines of {names} have changed, so what you did to {'them' if len(lost) > 1 else 'it'} in the "
            "scene begins anew. Your other edits are kept.",
            "Complete",
            "Back to marking",
            go,
        )
        return {self.page.ask: ask(question)}

    @long_work
    def on_complete(self, session: Session, key: str, room: float, filler: str | None = None) -> Any:
        if not is_begun("complete"):
            return gr.skip()
        done = complete(session, self.models, key, room, report, filler)
        return (*shown(done), *self.page.at_step(done))

    @guarded
    def on_look(self, session: Session, look: str) -> tuple[Any, ...]:
        if session.completed is None:
            raise PageError("Complete the objects first.")
        if look == "Uncertainty" and not has_uncertainty(session.completed):
            raise PageError("These shapes come without it. Complete with a network that says where it is unsure.")
        return shown(session.step(look=look if look in VIEWS else "Parts", shape=None, view="look"))

    @long_work
    def on_shapes(self, session: Session, number: int, count: float) -> tuple[Any, ...]:
        if session.completed is None:
            raise PageError("Complete the objects first.")
        index = find_layer(session.completed, number)
        modal, amodal = canvas_masks(session.completed)
        photo = session.completed.photo
        count = int(min(max(count, 2), 12))
        seen = self.models.shapes_by_photo(session.completed, index)
        count = max(1, count - len(seen))
        samples, fits = self.models.shapes(photo, modal[index], may_be_hidden(session.completed, index), count)
        words = _agreement(len(samples), count)
        said = [f"fits {100 * float(fit):.0f}%" for fit in fits]
        samples, said = np.array([*(shape for _, shape in seen), *samples]), [*(by for by, _ in seen), *said]
        pictures = draw_shapes(photo, modal[index], amodal[index], samples, said)
        drawn = session.step(samples=samples, samples_of=number, shape=None)
        gallery = gr.Gallery(value=pictures, selected_index=None, visible=True)
        agreed = gr.Markdown(value=words, visible=bool(words))
        pose, use = gr.Checkbox(value=False, visible=True), gr.Button(interactive=False, visible=True)
        return drawn, agreed, gallery, pose, use, None

    @guarded
    def on_shape(self, session: Session, event: gr.SelectData) -> tuple[Any, ...]:
        count = 0 if session.samples is None else len(session.samples)
        if not isinstance(event.index, int) or not 0 <= event.index < count:
            raise PageError("Draw shapes first.")
        looked = session.step(shape=event.index, view="look")
        return (*shown(looked), event.index, gr.Button(interactive=True))

    @long_work
    def on_use_shape(self, session: Session, chosen: int | None, pose: bool = False) -> tuple[Any, ...]:
        used = self.models.use_shape(session, chosen, report, pose=bool(pose))
        where = "in the scene; Undo there takes it back" if pose else "in the scene too"
        gr.Info(f"The object has the shape that you chose, {where}.", duration=SECONDS)
        return shown(used)


def _agreement(found: int, asked: int) -> str:
    """Why there are fewer shapes than were asked for, by the outline; "" where there are as many."""
    if found == 1 < asked:
        return "All completions by the outline agree: one shape."
    return f"By the outline, {found} shapes differ; more would be like these." if found < asked else ""


def complete(
    session: Session,
    models: Models,
    key: str,
    extend_canvas: float = 0.0,
    progress: Progress | None = None,
    filler: str | None = None,
) -> Session:
    """From marks to a scene. Edits of an earlier one are done again to the objects whose masks are what they were."""
    room = min(max(extend_canvas, 0.0), ROOMS[-1][1])
    check(session, models, key)
    if is_complete(session, key, room, filler):
        return session.step(view="look", look="Parts", shape=None)
    scene = models.complete(session, key, room, progress, filler)
    history = History(scene)
    first = session.unedited
    if session.scene is not None and first is not None and session.scene.present is not first:
        edited = replay(first, session.scene.present, scene, canvas_map(first, scene), changed(session))
        history = history.push(edited)
    return session.step(
        completed=scene,
        base=scene,
        scene=history,
        made_of=session.marks.present,
        recipe=(key, room, filler),
        shaped=frozenset(),
        layer=None,
        samples=None,
        samples_of=None,
        shape=None,
        view="look",
        look="Parts",
    )


def check(session: Session, models: Models, key: str) -> None:
    """Refuse what cannot be completed."""
    if session.photo is None or not session.marks.present:
        raise PageError("Mark at least one object first.")
    if models.missing:
        raise PageError(models.missing)
    if not any(choice.key == key for choice in models.choices):
        raise PageError("Choose what is to complete the hidden shapes.")


def is_complete(session: Session, key: str, room: float, filler: str | None = None) -> bool:
    """Whether there is a scene already of just these masks, by just this network."""
    same = session.recipe == (key, room, filler) and not changed(session)
    return same and [mark.id for mark in session.made_of] == [mark.id for mark in session.marks.present]


def changed(session: Session) -> set[int]:
    """Objects whose masks are no more those that were completed; new ones are not among them."""
    before = {mark.id: mark for mark in session.made_of}
    now = {mark.id: mark for mark in session.marks.present}
    return {number for number in before if number not in now or not same_mask(before[number], now[number])}


def lost_edits(session: Session) -> list[str]:
    """Names of the objects whose edits end when the marks are completed as they are now."""
    first = session.unedited
    if session.scene is None or first is None:
        return []
    now = session.scene.present
    names = {mark.id: mark.name for mark in session.made_of}
    return [names[number] for number in sorted(changed(session)) if is_edited(first, now, number)]


def same_mask(first: Mark, second: Mark) -> bool:
    return first is second or (first.area == second.area and np.array_equal(first.bits, second.bits))


def same_marks(first: Marks, second: Marks) -> bool:
    """Whether two photos have the same objects marked, by the same names."""
    told = [[(mark.id, mark.name, mark.is_crowd) for mark in marks] for marks in (first, second)]
    return told[0] == told[1] and all(map(same_mask, first, second))


def canvas_map(first: Scene, second: Scene) -> np.ndarray:
    """(2, 3), from one canvas to another that has more or less room around the same photo."""
    shift = (np.array(second.size) - first.size) / 2
    return np.array([[1.0, 0, shift[0]], [0, 1.0, shift[1]]])
