"""The page: its parts, and what happens when they are used."""

import ctypes
import functools
import gc
import html
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import app_edits
import app_state
import app_view
import gradio as gr
import numpy as np
from app_models import Models, Progress
from app_state import MAX_OBJECTS, PageError, Session
from gradio.utils import get_upload_folder

HERE = Path(__file__).parent
LOGGER = logging.getLogger("amodal_diffusion.demo")
STEPS = ("mark", "look", "edit")
PHOTO_SUFFIXES = [".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"]
MASK_SUFFIXES = [".json", ".png", ".tif", ".tiff", ".bmp"]

STAGE_HTML = """
<div class="ad-stage empty" tabindex="0" role="application" aria-label="Picture">
  <div class="ad-tools"></div>
  <div class="ad-view"><canvas></canvas>
    <div class="ad-empty">
      <svg viewBox="0 0 84 84" fill="none" stroke="currentColor" stroke-width="2.5" stroke-linejoin="round">
        <rect x="10" y="18" width="42" height="42" rx="6"></rect>
        <path d="M52 28.2 A20 20 0 1 1 36 60"></path>
        <path d="M36 60 A20 20 0 0 1 52 28.2" stroke-dasharray="3 4"></path>
      </svg>
      <b>Drop a photo here, or take an example</b>
      <span>Mark its objects, let the networks complete what is hidden, then move them around.</span>
    </div>
    <div class="ad-busy"></div>
  </div>
  <div class="ad-hint" aria-live="polite"></div>
</div>
"""
EXAMPLES_JS = """
element.querySelectorAll(".ad-example").forEach((button) =>
  button.addEventListener("click", () => trigger("choose", { key: button.dataset.key })));
"""
ROOMS = [("None", 0.0), ("10%", 0.1), ("20%", 0.2), ("40%", 0.4)]
"""By how much of its longer side the canvas is larger than the photo on each side, so that cut objects can grow."""
STAGES = {
    "segment": "Looking for objects",
    "masks": "Completing the masks",
    "edges": "Softening the outlines",
    "contents": "Painting what is hidden",
    "background": "Filling the background",
    "done": "Drawing",
}
DOWNLOAD_JS = "() => document.querySelector('#download a, a#download, #download').click()"


def give_memory_back(session: Session | None = None) -> None:
    """When a visitor has gone: the allocator of Linux keeps what was freed, and would be as large as it ever was."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def used_up(*paths: str) -> Iterator[None]:
    """Uploads are read once, and do not stay behind where another visitor could ask for them."""
    try:
        yield
    finally:
        for path in paths:
            with suppress(OSError):
                Path(path).unlink()


def guarded(step: Callable[..., Any]) -> Callable[..., Any]:
    """What goes wrong becomes a message on the page; what nobody expected is logged as well."""

    @functools.wraps(step)
    def safe(*args: Any, **kwargs: Any) -> Any:
        try:
            return step(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            raise gr.Error(message_for(error), title="That did not work", print_exception=False) from None

    return safe


def message_for(error: Exception) -> str:
    """Words for the page. The library's own ValueErrors say what is wrong with the input; other errors are ours."""
    if isinstance(error, PageError):
        return html.escape(str(error))
    LOGGER.error("a step failed", exc_info=error)
    if isinstance(error, ValueError):
        return html.escape(str(error)[:400])
    if isinstance(error, MemoryError):
        return "This photo needs more memory than there is. Try a smaller one."
    return "Something failed on our side. The scene is as it was; try again, or load another photo."


def shown(session: Session) -> tuple[Any, ...]:
    """Session, picture, and both lists: the outputs of most steps."""
    return (
        session,
        app_view.stage_value(session),
        app_view.panel_value(session, "mark"),
        app_view.panel_value(session, "edit"),
    )


# Steps: plain functions of a session


def open_example(session: Session, key: str) -> Session:
    example = next((example for example in app_view.EXAMPLES if example.key == key), None)
    if example is None:
        raise PageError("There is no such example.")
    photo, objects = example.load()
    fresh, _ = app_state.with_photo(session, photo, example.key)
    marked = app_state.add_marks(fresh, objects.masks, objects.names)
    # As if it had come with the photo: there is nothing to undo, and nothing is chosen.
    return marked.step(marks=app_state.History(marked.marks.present), selected=None)


def open_upload(session: Session, path: str) -> tuple[Session, str]:
    name = Path(path)
    return app_state.with_photo(session, app_state.open_photo(path), name.stem, name.name)


def add_mask_files(session: Session, paths: list[str]) -> tuple[Session, str]:
    """With the masks of these files, and a note about them ("" for none)."""
    found, note = app_state.read_masks(session, paths)
    return app_state.add_marks(session, found.masks, found.names, is_crowd=found.is_crowd), note


def complete(
    session: Session, models: Models, key: str, extend_canvas: float = 0.0, progress: Progress | None = None
) -> Session:
    """From marks to a scene."""
    if session.photo is None or not session.marks.present:
        raise PageError("Mark at least one object first.")
    if models.missing:
        raise PageError(models.missing)
    if not any(choice.key == key for choice in models.choices):
        raise PageError("Choose a network to complete with.")
    scene = models.complete(session, key, min(max(extend_canvas, 0.0), ROOMS[-1][1]), progress)
    return session.step(
        completed=scene,
        scene=app_state.History(scene),
        layer=None,
        pipeline=key,
        samples=None,
        samples_of=None,
        view="look",
        look="Parts",
    )


def go_to(session: Session, step: str) -> Session:
    if step != "mark" and session.scene is None:
        raise PageError("Complete the objects first: the second step needs marked objects, the third a scene.")
    return session.step(view=step)


def act(session: Session, event: dict[str, Any]) -> Session:
    """An event of the picture or of a list."""
    if session.photo is None:
        raise PageError("Load a photo first.")
    if event.get("mode") == "edit":
        return app_edits.scene_event(session, event)
    return app_state.mark_event(session, event)


def object_names(session: Session) -> list[tuple[str, int]]:
    scene = session.completed
    return [(layer.name, layer.id) for layer in scene.layers] if scene is not None else []


# The page


class Page:
    """Builds the page and wires it; `build` gives the `gr.Blocks`."""

    def __init__(self, models: Models) -> None:
        self.models = models

    def build(self) -> gr.Blocks:
        with gr.Blocks(
            title="Amodal scenes", fill_width=True, delete_cache=(1800, 7200), analytics_enabled=False
        ) as page:
            self.session = gr.State(
                Session(segmenter=self.models.has_segmenter), time_to_live=6 * 3600, delete_callback=give_memory_back
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
                        html_template=STAGE_HTML,
                        js_on_load=(HERE / "app_stage.js").read_text(encoding="utf-8"),
                        apply_default_css=False,
                        elem_id="stage",
                    )
                with gr.Column(scale=3, min_width=400), gr.Walkthrough(selected=1, elem_id="steps") as self.steps:
                    with gr.Step("Mark", id=1) as mark_step:
                        self._mark_step()
                    with gr.Step("Complete", id=2) as look_step:
                        self._look_step()
                    with gr.Step("Edit", id=3) as edit_step:
                        self._edit_step()
            self._wire((mark_step, look_step, edit_step))
        return page

    def _panel(self, name: str) -> gr.HTML:
        return gr.HTML(
            value=None,
            html_template='<div class="ad-panel"></div>',
            js_on_load=(HERE / "app_panel.js").read_text(encoding="utf-8"),
            apply_default_css=False,
            elem_id=name,
        )

    def _mark_step(self) -> None:
        self.examples = gr.HTML(
            app_view.examples_html(), js_on_load=EXAMPLES_JS, apply_default_css=False, elem_id="examples"
        )
        with gr.Row():
            self.photo = gr.UploadButton(
                "Upload a photo", file_types=PHOTO_SUFFIXES, size="sm", min_width=120, elem_id="photo-upload"
            )
            self.masks = gr.UploadButton(
                "Upload masks",
                file_types=MASK_SUFFIXES,
                file_count="multiple",
                size="sm",
                min_width=120,
                elem_id="mask-upload",
            )
        self.find = gr.Button("Find all objects", visible=self.models.has_segmenter, size="sm", elem_id="find")
        self.mark_panel = self._panel("mark-panel")
        choices = [(choice.label, choice.key) for choice in self.models.choices]
        first = choices[0][1] if choices else None
        with gr.Row():
            self.pipeline = gr.Dropdown(
                choices, value=first, label="Complete with", filterable=False, min_width=140, elem_id="pipeline"
            )
            self.room = gr.Dropdown(
                ROOMS, value=0.0, label="Room beyond the frame", filterable=False, min_width=140, elem_id="room"
            )
        self.about = gr.Markdown(self._about(first), elem_id="about")
        self.complete = gr.Button("Complete the objects", variant="primary", size="lg", elem_id="complete")

    def _look_step(self) -> None:
        self.look = gr.Radio(list(app_view.VIEWS), value="Parts", label="Show", elem_id="look")
        self.summary = gr.Markdown("Complete the objects to see what was hidden.", elem_id="summary")
        self.to_edit = gr.Button("Edit the scene", variant="primary", size="lg", elem_id="to-edit")
        with gr.Accordion(
            "Other shapes an object may have", open=True, visible=self.models.has("amodal-vae"), elem_id="shapes"
        ):
            with gr.Row():
                self.shape_of = gr.Dropdown([], label="Object", min_width=140, elem_id="shape-of")
                self.shape_count = gr.Slider(2, 12, 6, step=1, label="Number", min_width=140)
            self.draw_shapes = gr.Button("Draw shapes", size="sm", elem_id="draw-shapes")
            self.gallery = gr.Gallery(
                label="Agreement with what is visible",
                columns=3,
                height=300,
                visible=False,
                object_fit="contain",
                allow_preview=False,
                elem_id="shape-gallery",
                buttons=[],
            )
            self.use_shape = gr.Button(
                "Use the chosen shape", size="sm", interactive=False, visible=False, elem_id="use-shape"
            )
            self.chosen_shape = gr.State(None)

    def _edit_step(self) -> None:
        self.edit_panel = self._panel("edit-panel")
        formats = [(label, key) for key, (label, _) in app_edits.EXPORTS.items()]
        self.format = gr.Dropdown(formats, value="png", label="Take it home as", filterable=False, elem_id="format")
        with gr.Row():
            self.insert = gr.UploadButton("Add a picture", file_types=PHOTO_SUFFIXES, min_width=120, elem_id="insert")
            self.export = gr.Button("Export", variant="primary", min_width=120, elem_id="export")
        self.download = gr.DownloadButton("Download", visible="hidden", elem_id="download")

    def _about(self, key: str | None) -> str:
        return next((choice.about for choice in self.models.choices if choice.key == key), "")

    # What happens

    def _wire(self, steps: tuple[gr.Step, ...]) -> None:
        quick: dict[str, Any] = {"concurrency_id": "edit", "concurrency_limit": 1, "api_visibility": "private"}
        slow: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
        state, everything = self.session, [self.session, self.stage, self.mark_panel, self.edit_panel]
        for part in (self.stage, self.mark_panel, self.edit_panel):
            part.act(self.on_act, state, everything, show_progress="hidden", trigger_mode="multiple", **quick)
        self.examples.choose(self.on_example, state, [*everything, self.steps], show_progress="minimal", **quick)
        self.photo.upload(
            self.on_photo, [state, self.photo], [*everything, self.steps], show_progress_on=self.stage, **quick
        )
        self.masks.upload(self.on_masks, [state, self.masks], everything, show_progress="hidden", **quick)
        self.stage.pick(self.on_pick, state, everything, show_progress_on=self.stage, **slow)
        self.find.click(self.on_find, state, everything, show_progress_on=self.stage, **slow)
        self.pipeline.input(
            guarded(lambda key: gr.Dropdown(info=self._about(key))),
            self.pipeline,
            self.pipeline,
            show_progress="hidden",
            **quick,
        )
        done = [*everything, self.steps, self.look, self.summary, self.shape_of, self.gallery, self.use_shape]
        self.complete.click(
            self.on_complete, [state, self.pipeline, self.room], done, show_progress_on=self.stage, **slow
        )
        self.look.input(self.on_look, [state, self.look], everything, show_progress="hidden", **quick)
        self.to_edit.click(lambda session: self.on_step(session, "edit"), state, [*everything, self.steps], **quick)
        for name, step in zip(STEPS, steps, strict=True):
            walk = functools.partial(self.on_step, step=name)
            step.select(walk, state, [*everything, self.steps], show_progress="hidden", **quick)
        shape = [self.session, self.gallery, self.use_shape, self.chosen_shape]
        self.draw_shapes.click(
            self.on_shapes, [state, self.shape_of, self.shape_count], shape, show_progress_on=self.gallery, **slow
        )
        self.gallery.select(self.on_shape, None, [self.chosen_shape, self.use_shape], show_progress="hidden", **quick)
        self.use_shape.click(
            self.on_use_shape, [state, self.chosen_shape], everything, show_progress_on=self.stage, **slow
        )
        self.insert.upload(self.on_insert, [state, self.insert], everything, show_progress="hidden", **quick)
        written = self.export.click(self.on_export, [state, self.format], self.download, **quick)
        written.success(None, js=DOWNLOAD_JS)

    def on_act(self, session: Session, event: gr.EventData) -> tuple[Any, ...]:
        """A picture that is out of step with its session would confuse, so a refusal is a warning and a redraw."""
        data = event._data or {}
        try:
            after = act(session, data)
            if data.get("op") in app_edits.ALONE and session.scene and after.scene and after.layer is not None:
                app_view.keep_under(session.scene.present, after.scene.present, after.layer)
            return shown(after)
        except Exception as error:
            gr.Warning(message_for(error), title="That did not work")
            return shown(session.step())

    @guarded
    def on_example(self, session: Session, event: gr.EventData) -> tuple[Any, ...]:
        return (*shown(open_example(session, (event._data or {}).get("key", ""))), gr.Walkthrough(selected=1))

    @guarded
    def on_photo(self, session: Session, path: str) -> tuple[Any, ...]:
        with used_up(path):
            fresh, note = open_upload(session, path)
        if note:
            gr.Info(note)
        return (*shown(fresh), gr.Walkthrough(selected=1))

    @guarded
    def on_masks(self, session: Session, paths: list[str]) -> tuple[Any, ...]:
        with used_up(*(paths or ())):
            marked, note = add_mask_files(session, paths)
        if note:
            gr.Warning(html.escape(note))
        return shown(marked)

    @guarded
    def on_find(self, session: Session) -> tuple[Any, ...]:
        return shown(self.models.find_objects(session))

    @guarded
    def on_pick(self, session: Session, event: gr.EventData) -> tuple[Any, ...]:
        data = event._data or {}
        return shown(self.models.pick(session, *app_state.check_point(session, data.get("x"), data.get("y"))))

    @guarded
    def on_complete(
        self,
        session: Session,
        key: str,
        room: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (which is how Gradio finds it)
    ) -> tuple[Any, ...]:
        progress(0, desc="Loading the networks")
        report = lambda stage, share: progress(share, desc=STAGES.get(stage, stage))  # noqa: E731
        done = complete(session, self.models, key, room, report)
        names = object_names(done)
        dropdown = gr.Dropdown(choices=names, value=names[0][1] if names else None)
        hidden = gr.Gallery(value=None, visible=False), gr.Button(visible=False)
        looks = [view for view in app_view.VIEWS if view != "Uncertainty" or app_view.has_uncertainty(done.completed)]
        look = gr.Radio(choices=looks, value="Parts")
        return (*shown(done), gr.Walkthrough(selected=2), look, summary(done), dropdown, *hidden)

    @guarded
    def on_look(self, session: Session, look: str) -> tuple[Any, ...]:
        if session.completed is None:
            raise PageError("Complete the objects first.")
        if look == "Uncertainty" and not app_view.has_uncertainty(session.completed):
            raise PageError("This network does not say where it is unsure. Complete with ASBU to see it.")
        return shown(session.step(look=look if look in app_view.VIEWS else "Parts", view="look"))

    def on_step(self, session: Session, step: str) -> tuple[Any, ...]:
        try:
            session = go_to(session, step)
        except PageError as error:
            gr.Warning(message_for(error))
            session = session.step()
        return (*shown(session), gr.Walkthrough(selected=STEPS.index(session.view) + 1))

    @guarded
    def on_shapes(self, session: Session, number: int, count: float) -> tuple[Any, ...]:
        if session.completed is None:
            raise PageError("Complete the objects first.")
        index = app_edits.find_layer(session.completed, number)
        modal, _ = app_view.canvas_masks(session.completed)
        photo = session.completed.photo
        samples, scores = self.models.shapes(photo, modal[index], int(min(max(count, 2), 12)))
        pictures = app_view.draw_shapes(photo, modal[index], samples, scores)
        drawn = session.step(samples=samples, samples_of=number)
        gallery = gr.Gallery(value=pictures, selected_index=None, visible=True)
        return drawn, gallery, gr.Button(interactive=False, visible=True), None

    @guarded
    def on_shape(self, event: gr.SelectData) -> tuple[int, Any]:
        return event.index, gr.Button(interactive=True)

    @guarded
    def on_use_shape(self, session: Session, chosen: int | None) -> tuple[Any, ...]:
        used = self.models.use_shape(session, chosen)
        gr.Info("The object has the shape that you chose, in the scene too.")
        return shown(used)

    @guarded
    def on_insert(self, session: Session, path: str) -> tuple[Any, ...]:
        with used_up(path):
            app_edits.current_scene(session)
            picture = app_state.open_cutout(path)
        return shown(app_edits.insert_picture(session, picture, Path(path).stem))

    @guarded
    def on_export(self, session: Session, kind: str) -> str:
        # In Gradio's own folder a file is handed out from where it lies, under a name that nobody can guess.
        return str(app_edits.export(session, kind, Path(get_upload_folder())))


def summary(session: Session) -> str:
    """What the second step says in words."""
    scene = session.completed
    if scene is None:
        return ""
    modal, amodal = app_view.canvas_masks(scene)
    lines = []
    for index, layer in enumerate(scene.layers):
        hidden = int((amodal[index] & ~modal[index]).sum()) / max(1, int(amodal[index].sum()))
        behind = [scene.layers[j].name for j in np.flatnonzero(scene.order[:, index] == 1)]
        if behind:
            text = f"**{_plain(layer.name)}**: {hidden:.0%} hidden, behind {', '.join(map(_plain, behind[:4]))}"
            lines.append(f"- {text}{' and more' if len(behind) > 4 else ''}")
    if not lines:
        return f"None of the {len(scene)} objects is hidden by another."
    return "\n".join(lines[:MAX_OBJECTS])


def _plain(name: str) -> str:
    """A name without what Markdown or HTML would read."""
    return html.escape("".join(sign for sign in name if sign not in "*_`[]()#<>|\\"))
