"""The third step: the scene is edited and taken home."""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from page.models import Models
from page.wiring import PHOTO_SUFFIXES, QUICK, guarded, object_list, shown, used_up
from page.work.edits import current_scene, insert_picture
from page.work.files import EXPORTS, export
from page.work.photos import open_cutout
from page.work.session import Session

DOWNLOAD_JS = "() => document.querySelector('#download a, a#download, #download').click()"


class EditStep:
    """Parts and events of the third step; `build` runs inside of its `gr.Step`."""

    def __init__(self, models: Models) -> None:
        self.models = models

    def build(self) -> None:
        self.panel = object_list("edit-panel")
        formats = [(label, key) for key, (label, _) in EXPORTS.items()]
        self.format = gr.Dropdown(formats, value="png", label="Take it home as", filterable=False, elem_id="format")
        with gr.Row():
            self.insert = gr.UploadButton("Add a picture", file_types=PHOTO_SUFFIXES, min_width=120, elem_id="insert")
            self.export = gr.Button("Export", variant="primary", min_width=120, elem_id="export")
        self.download = gr.DownloadButton("Download", visible="hidden", elem_id="download")

    def wire(self, page: Any) -> None:
        state, everything = page.session, page.everything
        self.insert.upload(self.on_insert, [state, self.insert], everything, show_progress="hidden", **QUICK)
        written = self.export.click(self.on_export, [state, self.format], self.download, **QUICK)
        written.success(None, js=DOWNLOAD_JS)

    @guarded
    def on_insert(self, session: Session, path: str) -> tuple[Any, ...]:
        with used_up(path):
            current_scene(session)
            picture = open_cutout(path)
        return shown(insert_picture(session, picture, Path(path).stem))

    @guarded
    def on_export(self, session: Session, kind: str) -> str:
        # In Gradio's own folder a file is handed out from where it lies, under a name that nobody can guess.
        return str(export(session, kind, Path(get_upload_folder())))
