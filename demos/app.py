"""The demo as a web page: `python demos/app.py`, then open the address that it prints. `--help` lists the options.

Works offline: the checkpoints are those of this repository, and the page loads nothing from elsewhere.
"""

import argparse
import getpass
import logging
import os
import secrets
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Before gradio is imported: it would ask its makers for news, and count the visit.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
sys.path.insert(0, str(HERE))

try:
    import gradio as gr
    import skimage as _  # noqa: F401 - the examples are its photos
    from fastapi import Request
    from fastapi.responses import JSONResponse
    from gradio import processing_utils, route_utils
except ImportError as error:
    sys.exit(f"the page needs the extra `demo` ({error}): pip install -c constraints.txt '.[demo]'")

from amodal_diffusion.runtimes import preferred_dtype, processor_name  # noqa: E402
from page import assets  # noqa: E402
from page.layout import Page  # noqa: E402
from page.models import Models  # noqa: E402
from page.segmenters import Segmenters  # noqa: E402
from page.work.files.photos import MAX_UPLOAD  # noqa: E402
from page.work.keeping import Keeper  # noqa: E402

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")
MAX_SESSIONS = 100
"""The session that was idle longest is forgotten when there are more."""
MAX_WAITING = 1000
"""Requests that wait for their turn; the page shows a visitor the place in the queue."""
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace")


def pipelines_folder() -> Path:
    """Beside this folder, as in the repository, or in it, as in a Space."""
    return HERE / "pipelines" if (HERE / "pipelines").is_dir() else HERE.parent / "pipelines"


def keep_folder() -> Path:
    """Of this user, among the temporary files, so that it outlives the server."""
    return Path(tempfile.gettempdir()) / f"amodal-scenes-{getpass.getuser()}"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    environ = os.environ
    parser.add_argument("--pipelines", type=Path, default=environ.get("AMODAL_PIPELINES") or pipelines_folder(),
                        help="Folder of the pipelines (AMODAL_PIPELINES).")  # fmt: skip
    parser.add_argument("--segmenter", default=environ.get("AMODAL_SEGMENTER") or None,
                        help="Hub id or folder of a segmentation model of transformers, such as a SAM, in place of the "
                        "built-in segmenter for clicks and boxes (AMODAL_SEGMENTER).")  # fmt: skip
    parser.add_argument("--device", default=environ.get("AMODAL_DEVICE", "cpu"), help="Of torch (AMODAL_DEVICE).")
    parser.add_argument("--start", default=environ.get("AMODAL_START", "coffee"),
                        help="Example that the page opens with, completed; \"\" for none (AMODAL_START).")  # fmt: skip
    parser.add_argument("--keep", type=Path, default=environ.get("AMODAL_KEEP") or keep_folder(),
                        help="Folder for the work of visitors, private to the server (AMODAL_KEEP).")  # fmt: skip
    parser.add_argument("--keep-hours", type=float, default=float(environ.get("AMODAL_KEEP_HOURS", 48)),
                        help="How long it is kept after its last change; 0: never (AMODAL_KEEP_HOURS).")  # fmt: skip
    parser.add_argument("--host", default=None, help="Address to listen on; GRADIO_SERVER_NAME or 127.0.0.1.")
    parser.add_argument("--port", type=int, default=None, help="GRADIO_SERVER_PORT, or the first free one from 7860.")
    return parser.parse_args(arguments)


def keep_files_apart() -> None:
    """Give every upload and every picture of Gradio a path of its own, which nobody can guess.

    Gradio names them by their content, so that two visitors with the same file share a path, and whoever has the one
    can ask for what lies there.
    """
    route_utils.GradioUploadFile = LonelyUpload
    processing_utils.hash_bytes = lambda content: secrets.token_hex(32)


class LonelyUpload(route_utils.GradioUploadFile):
    """An upload whose folder has a random name; Gradio refuses files whose own name begins with a dot."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sha.update(secrets.token_bytes(32))
        self.filename = (self.filename or "").lstrip(".") or "file"


def say_what_failed(request: Request, error: Exception) -> JSONResponse:
    """What a request gets that Gradio cannot read, in place of a bare 500."""
    unreadable = isinstance(error, ValueError | TypeError | LookupError)
    logging.getLogger("amodal_diffusion.demo").warning("%s %s: %r", request.method, request.url.path, error)
    message = "This request cannot be read." if unreadable else "Something failed on our side. Please try again."
    return JSONResponse({"error": message}, status_code=400 if unreadable else 500)


def theme() -> gr.themes.Base:
    base = gr.themes.Default(primary_hue="blue", secondary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=MONO)
    # Grey words and white words on blue with a contrast of 4.5 at least.
    grey = ("body_text_color_subdued", "block_info_text_color", "block_label_text_color", "input_placeholder_color")
    words = {name: "*neutral_600" for name in grey} | {f"{name}_dark": "*neutral_300" for name in grey}
    blue = ("color_accent", "button_primary_background_fill", "button_primary_background_fill_dark")
    return base.set(**words, **dict.fromkeys(blue, "*primary_600"))


def serve(
    models: Models,
    host: str | None = None,
    port: int | None = None,
    *,
    keeper: Keeper | None = None,
    start: str = "",
    block: bool = True,
) -> gr.Blocks:
    """Start the page; `block` waits until somebody ends it.

    Args:
        models: the pipelines.
        host: to listen on.
        port: likewise.
        keeper: keeps the work of visitors; None: nothing is kept.
        start: key of the example that the page opens with; "" for none.
        block: wait.
    """
    keep_files_apart()
    page = Page(models, keeper, start).build()
    page.queue(max_size=MAX_WAITING)
    page.launch(
        server_name=host,
        server_port=port,
        theme=theme(),
        css=assets.style(),
        max_file_size=MAX_UPLOAD,
        state_session_capacity=MAX_SESSIONS,
        footer_links=[],
        share=False,
        show_error=True,  # those of ours are written for visitors, see `guarded`
        prevent_thread_lock=not block,
        quiet=not block,
        app_kwargs={"exception_handlers": {Exception: say_what_failed}},
    )
    return page


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    try:
        segmenters = Segmenters.load(options.pipelines, options.segmenter, options.device)
    except (OSError, ValueError, TypeError) as error:
        sys.stderr.write(f"--segmenter {options.segmenter} cannot be used: {error}\n")
        return 2
    dtype = preferred_dtype(options.device)
    where = processor_name() if options.device == "cpu" else options.device
    sys.stderr.write(f"computing in {str(dtype).removeprefix('torch.')} on {where}\n")
    models = Models(options.pipelines, segmenters, options.device, dtype)
    if models.missing:
        sys.stderr.write(f"{models.missing}\n")
    keeper = Keeper(options.keep, options.keep_hours)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as when a Space is restarted; what is due is saved then
    try:
        serve(models, options.host, options.port, keeper=keeper, start=options.start)
    finally:
        keeper.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
