"""The third step: the scene is edited and taken home."""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from amodal_diffusion import Scene
from page.full_size import FullSize
from page.models import Models
from page.wiring import (
    PHOTO_SUFFIXES,
    QUICK,
    SLOW,
    begin,
    guarded,
    is_begun,
    long_work,
    object_list,
    report,
    shown,
    used_up,
)
from page.work.edits import current_scene, insert_picture
from page.work.files.export import EXPORTS, export
from page.work.files.photos import open_cutout
from page.work.session import Session

DOWNLOAD_JS = "() => document.querySelector('#download a, a#download, #download').click()"


class EditStep:
    """Parts and events of the third step; `build` runs inside of its `gr.Step`."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self.full_size = FullSize(models)

    def build(self) -> None:
        self.panel = object_list("edit-panel", self.models.fillers)
        formats = [(label, key) for key, (label, *_) in EXPORTS.items()]
        self.format = gr.Dropdown(formats, value="png", label="Export as", filterable=False, elem_id="format")
        # Shown where the page works on a preview: by the picture's script.
        self.own_size = gr.Checkbox(True, label="At the photo's own size", container=False, elem_id="own-size")
        with gr.Row():
            self.insert = gr.UploadButton("Add a picture", file_types=PHOTO_SUFFIXES, min_width=120, elem_id="insert")
            self.export = gr.Button("Export", variant="primary", min_width=120, elem_id="export")
        self.download = gr.DownloadButton("Download", visible="hidden", elem_id="download")

    def wire(self, page: Any) -> None:
        state, everything = page.session, page.everything
        self.insert.upload(self.on_insert, [state, self.insert], everything, show_progress="hidden", **QUICK)
        painted = [*everything, page.work]
        self.panel.repaint(self.on_repaint, state, painted, show_progress="hidden", **SLOW)
        page.stage.reshape(self.on_reshape, state, painted, show_progress="hidden", **SLOW)
        asked = [state, self.format, self.own_size]
        written = self.export.click(
            self.on_export, asked, [self.download, page.work], show_progress="hidden", **QUICK
        ).success(self.on_export_large, asked, [self.download, page.work], show_progress="hidden", **SLOW)
        written.success(None, js=DOWNLOAD_JS)

    @long_work
    def on_repaint(self, session: Session, event: gr.EventData) -> tuple[Any, ...]:
        data = event._data or {}
        return shown(self.models.repaint(session, data.get("id"), data.get("filler"), report))

    @long_work
    def on_reshape(self, session: Session, event: gr.EventData) -> tuple[Any, ...]:
        return shown(self.models.reshape(session, event._data or {}, report))

    @guarded
    def on_insert(self, session: Session, path: str) -> tuple[Any, ...]:
        with used_up(path):
            current_scene(session)
            picture = open_cutout(path)
        return shown(insert_picture(session, picture, Path(path).stem))

    @guarded
    def on_export(self, session: Session, kind: str, own_size: bool) -> Any:
        """What needs no network; `on_export_large` comes after it."""
        if session.source is not None and own_size:
            return {self.page.work: begin("export")}
        note = "preview" if session.source is not None else ""
        return self._written(current_scene(session), session.title, kind, note), None

    @long_work
    def on_export_large(self, session: Session, kind: str, own_size: bool) -> Any:
        """At the photo's own size, in which it is completed anew."""
        if not is_begun("export"):
            return gr.skip()
        scene = self.full_size.scene(session, report)
        report("Writing the file", 1.0)
        return self._written(scene, session.title, kind)

    def _written(self, scene: Scene, title: str, kind: str, note: str = "") -> str:
        # In Gradio's own folder a file is handed out from where it lies, under a name that nobody can guess.
        return str(export(scene, title, kind, Path(get_upload_folder()), note))
