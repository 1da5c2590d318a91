"""What the steps of the page share: how an event becomes a new session and new values, and what is said of errors."""

import ctypes
import functools
import gc
import html
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gradio as gr

from page import assets
from page.view.panel import panel_value
from page.view.stage import stage_value
from page.work.session import PageError, Session

LOGGER = logging.getLogger("amodal_diffusion.demo")
PHOTO_SUFFIXES = [".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"]
QUICK: dict[str, Any] = {"concurrency_id": "edit", "concurrency_limit": 1, "api_visibility": "private"}
"""Of events that run no network."""
SLOW: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}


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
        stage_value(session),
        panel_value(session, "mark"),
        panel_value(session, "edit"),
    )


def object_list(name: str) -> gr.HTML:
    """A list of objects with what can be done to the chosen one; its events are called "act"."""
    return gr.HTML(
        value=None,
        html_template='<div class="ad-panel"></div>',
        js_on_load=assets.script("panel"),
        apply_default_css=False,
        elem_id=name,
    )
