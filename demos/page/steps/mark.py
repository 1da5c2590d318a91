"""The first step: a photo and its objects."""

import html
from pathlib import Path
from typing import Any

import gradio as gr

from page import assets
from page.examples import examples_html, open_example
from page.models import Models
from page.segmenters import MAX_TEXT
from page.view.panel import FILLERS
from page.wiring import (
    EMBED,
    LOGGER,
    PHOTO_SUFFIXES,
    QUICK,
    SECONDS,
    SOON,
    current_desk,
    guarded,
    long_work,
    object_list,
    shown,
    used_up,
)
from page.work.files.masks import add_mask_files
from page.work.files.photos import open_upload
from page.work.files.scenes import SUFFIXES as SCENE_SUFFIXES
from page.work.files.scenes import open_scene
from page.work.session import Session

MASK_SUFFIXES = [".json", ".png", ".tif", ".tiff", ".bmp"]
ROOMS = [("None", 0.0), ("10%", 0.1), ("20%", 0.2), ("40%", 0.4)]
"""By how much of its longer side the canvas is larger than the photo on each side, so that cut objects can grow."""


class MarkStep:
    """Parts and events of the first step; `build` runs inside of its `gr.Step`."""

    def __init__(self, models: Models) -> None:
        self.models = models

    def build(self) -> None:
        self.examples = gr.HTML(
            examples_html(), js_on_load=assets.read("examples.js"), apply_default_css=False, elem_id="examples"
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
            self.scene = gr.UploadButton(
                "Open a scene",
                file_types=SCENE_SUFFIXES,
                file_count="multiple",
                size="sm",
                min_width=120,
                elem_id="scene-upload",
            )
        segmenters = self.models.segmenters
        self.find = gr.Button("Find all objects", visible=segmenters.finds_all, size="sm", elem_id="find")
        with gr.Row(visible=segmenters.takes_text):
            self.words = gr.Textbox(
                placeholder="What to look for, such as: cup",
                label="Find by words",
                show_label=False,
                container=False,
                max_lines=1,
                max_length=MAX_TEXT,
                scale=3,
                min_width=160,
                elem_id="words",
            )
            self.find_words = gr.Button("Find", size="sm", min_width=80, elem_id="find-words")
        self.panel = object_list("mark-panel")
        self.about_marking = gr.Markdown(segmenters.about, elem_id="about-marking")
        choices = [(choice.label, choice.key) for choice in self.models.choices]
        first, fillers = self.models.usual, self.models.fillers
        self.pipeline = gr.Dropdown(
            choices, value=first, label="Complete hidden shapes", filterable=False, elem_id="pipeline"
        )
        self.about = gr.Markdown(self.about_network(first), elem_id="about")
        with gr.Row():
            self.filler = gr.Dropdown(
                [(FILLERS[filler], filler) for filler in fillers],
                value=fillers[0] if fillers else None,
                label="Paint hidden parts with",
                filterable=False,
                min_width=140,
                elem_id="filler",
            )
            self.room = gr.Dropdown(
                ROOMS, value=0.0, label="Room beyond the frame", filterable=False, min_width=140, elem_id="room"
            )
        self.complete = gr.Button("Complete the objects", variant="primary", size="lg", elem_id="complete")

    def about_network(self, key: str | None) -> str:
        return next((choice.about for choice in self.models.choices if choice.key == key), "")

    def wire(self, page: Any) -> None:
        state, everything = page.session, page.everything
        opened = [*page.walked, page.ask, page.work]
        began = [
            self.examples.choose(self.on_example, state, opened, show_progress="hidden", **SOON),
            self.photo.upload(self.on_photo, [state, self.photo], opened, show_progress="hidden", **SOON),
            self.scene.upload(self.on_scene, [state, self.scene], opened, show_progress="hidden", **SOON),
            page.answered,
        ]
        for event in began:
            event.success(self.on_opened, state, None, show_progress="hidden", **EMBED)
        self.masks.upload(self.on_masks, [state, self.masks], everything, show_progress="hidden", **QUICK)
        page.after_waiting(self.find.click, self.on_find, state, everything)
        for asked in (self.find_words.click, self.words.submit):
            page.after_waiting(asked, self.on_words, [state, self.words], everything)
        self.pipeline.input(
            guarded(self.about_network),
            self.pipeline,
            self.about,
            show_progress="hidden",
            **SOON,
        )

    @guarded
    def on_example(self, session: Session, event: gr.EventData) -> Any:
        data, desk = event._data or {}, current_desk()
        key, turn = data.get("key", ""), data.get("turn")
        if isinstance(turn, int | float):
            if turn < desk.turn:  # two that were chosen quickly may arrive in the other order
                return gr.skip()
            desk.turn = float(turn)
        return self.page.instead(session, "the example", lambda session: open_example(session, key))

    @guarded
    def on_photo(self, session: Session, path: str) -> Any:
        with used_up(path):
            fresh, note = open_upload(session, path)

        def take(session: Session) -> Session:
            if note:
                gr.Info(note, duration=SECONDS)
            return fresh

        return self.page.instead(session, Path(path).name, take)

    @guarded
    def on_scene(self, session: Session, paths: list[str]) -> Any:
        with used_up(*(paths or ())):
            fresh, note = open_scene(session, paths or [])

        def take(session: Session) -> Session:
            if note:
                gr.Info(html.escape(note), duration=SECONDS)
            return fresh

        return self.page.instead(session, f"the scene {fresh.title}", take)

    @guarded
    def on_masks(self, session: Session, paths: list[str]) -> tuple[Any, ...]:
        with used_up(*(paths or ())):
            marked, note = add_mask_files(session, paths)
        if note:
            gr.Warning(html.escape(note), duration=SECONDS)
        return shown(marked)

    @long_work
    def on_find(self, session: Session) -> tuple[Any, ...]:
        return shown(self.models.segmenters.find(session))

    @long_work
    def on_words(self, session: Session, words: str) -> tuple[Any, ...]:
        return shown(self.models.segmenters.find(session, words))

    @guarded
    def on_opened(self, session: Session) -> None:
        """While the visitor looks at the photo, so that the first click is as quick as the others."""
        try:
            self.models.segmenters.embed(session)
        except Exception:
            LOGGER.exception("a photo could not be embedded")
