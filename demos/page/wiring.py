"""What the steps of the page share: how an event becomes a new session and new values, and what is said of errors."""

import ctypes
import errno
import functools
import gc
import html
import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

import gradio as gr

from amodal_diffusion.pipelines.base import CallInterruptedError
from page import assets
from page.view.panel import FILLERS, panel_value
from page.view.stage import stage_value
from page.work.desk import Desk, Question
from page.work.session import PageError, Session

LOGGER = logging.getLogger("amodal_diffusion.demo")
PHOTO_SUFFIXES = [".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"]
QUICK: dict[str, Any] = {"concurrency_id": "edit", "concurrency_limit": 1, "api_visibility": "private"}
"""Of events that run no network."""
SOON: dict[str, Any] = QUICK | {"trigger_mode": "multiple"}
"""Of those that a visitor may ask for again before the answer: Gradio would leave out what comes in the meantime."""
EMBED: dict[str, Any] = {"concurrency_id": "embed", "concurrency_limit": 1, "api_visibility": "private"}
"""Of looking at a photo before the first click, which nobody waits for."""
SLOW: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
"""Of events that do; their functions are `long_work`."""
SECONDS = 7
"""How long a message stays."""
LOST = (
    "The server was started anew, or this page was left alone for too long. Reload the page: your last scene is "
    "offered again."
)
"""What a page is told that this server does not know."""
UNKEPT = "Your work cannot be kept on the server at the moment. Export the scene before you leave this page."
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
STAGES = {
    "segment": "Looking for objects",
    "masks": "Completing the shapes",
    "edges": "Softening the outlines",
    "contents": "Painting what is hidden",
    "background": "Filling the background",
    "done": "Drawing",
}
_desk: ContextVar[Desk] = ContextVar("desk")
_gone: ContextVar[threading.Event | None] = ContextVar("gone", default=None)
"""In long work, set when nobody waits for it any more: the desk may have other work by the time it looks."""


def give_memory_back(desk: Desk | None = None) -> None:
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


# Events


def current_desk() -> Desk:
    """The desk of the event that runs."""
    return _desk.get()


def guarded(step: Callable[..., Any]) -> Callable[..., Any]:
    """Make an event's function of one from sessions to sessions.

    Gradio passes the desk of the tab; the function gets the session on it, and gives back another first of its
    results, which is put there. What goes wrong becomes a message on the page; what nobody expected is logged as well.
    """

    @functools.wraps(step)
    def safe(*args: Any, **kwargs: Any) -> Any:
        desk, before, args = _taken(args)
        try:
            _check_open(desk)
            with _at(desk):
                return _settled(desk, before, step(*args, **kwargs))
        except gr.Error:
            raise
        except Exception as error:
            raise refusal(error) from None

    return safe


def long_work(step: Callable[..., Any]) -> Callable[..., Any]:
    """`guarded` for a method of a step that takes long: says on the page how far it is, and can be cancelled.

    The last output of such an event is `page.work`. Inside, `report` goes to pipelines as their `progress_callback`.
    """

    @functools.wraps(step)
    def run(self: Any, *args: Any) -> Iterator[Any]:
        desk, before, args = _taken(args)
        if not desk.waits and not desk.todo:
            desk.cancelled.clear()  # a cancel that came after the end of other work
        outcome: list[Any] = []
        done, gone = threading.Event(), threading.Event()
        desk.told = ("Getting ready", 0.0)

        def work() -> None:
            try:
                _check_open(desk)
                with _at(desk):
                    _gone.set(gone)
                    if not desk.todo:  # otherwise `is_begun` looks, so that other work spends no cancel
                        desk.waits = False
                        _check_going(desk)
                    result = step(self, *args)
                    if not isinstance(result, dict):
                        _check_going(desk)  # pipelines ask between their stages, and not while the result is drawn
                    outcome.append(_settled(desk, before, result))
            except Exception as error:  # of what was cancelled nobody wants to hear that it found nothing
                outcome.append(CallInterruptedError("cancelled") if desk.cancelled.is_set() else error)
            finally:
                done.set()

        threading.Thread(target=copy_context().run, args=(work,), daemon=True).start()
        shown = None
        try:
            while not done.wait(0.2):
                if desk.told != shown:
                    shown = desk.told
                    yield {self.page.work: work_value(*shown)}
        except GeneratorExit:  # the visitor has gone
            gone.set()
            desk.cancelled.set()
            raise
        if isinstance(outcome[0], dict):  # `gr.skip()`: other work may wait, with its bar, and be cancelled already
            yield gr.skip() if desk.todo else {self.page.work: None}
            return
        desk.cancelled.clear()
        if isinstance(outcome[0], Exception):
            yield {self.page.work: None}
            raise outcome[0] if isinstance(outcome[0], gr.Error) else refusal(outcome[0]) from None
        result = outcome[0] if isinstance(outcome[0], tuple) else (outcome[0],)
        yield (*result, None)

    return run


def report(stage: str, share: float) -> bool:
    """Say on the page what long work is at; False where it is to end, which is what pipelines ask."""
    desk = _desk.get()
    if not _is_gone():
        desk.told = (STAGES.get(stage, stage), share)
    return not _is_cancelled(desk)


def work_value(text: str, share: float | None) -> dict[str, Any]:
    """What the bar of long work shows; `share` None where it has not begun."""
    return {"text": text, "share": share}


def _check_open(desk: Desk) -> None:
    if not desk.is_open:
        raise PageError(LOST)


def _is_gone() -> bool:
    gone = _gone.get()
    return gone is not None and gone.is_set()


def _is_cancelled(desk: Desk) -> bool:
    return desk.cancelled.is_set() or _is_gone()


def _check_going(desk: Desk) -> None:
    if _is_cancelled(desk):
        raise CallInterruptedError("cancelled")


@contextmanager
def _at(desk: Desk) -> Iterator[None]:
    token = _desk.set(desk)
    try:
        yield
    finally:
        _desk.reset(token)


def _taken(args: tuple[Any, ...]) -> tuple[Desk, Session, tuple[Any, ...]]:
    """The desk among the arguments, its session, and the arguments with that in its place."""
    desk = next((arg for arg in args if isinstance(arg, Desk)), None)
    if desk is None:  # a test calls with a session, and parts without one with nothing
        desk = Desk(next((arg for arg in args if isinstance(arg, Session)), Session()))
        desk.is_given = False
        return desk, desk.session, args
    session = desk.session
    return desk, session, tuple(session if arg is desk else arg for arg in args)


def _settled(desk: Desk, before: Session, result: Any) -> Any:
    """The result of a step with the desk in the place of its session, after that was put there."""
    results = result if isinstance(result, tuple) else (result,)
    if not results or not isinstance(results[0], Session):
        return result
    after = desk.commit(before, results[0])
    if desk.unkept and not desk.told_unkept:
        desk.told_unkept = True
        gr.Warning(UNKEPT, duration=None)
    if after is not results[0] and len(results) > 3 and is_shown(results):
        results = (*shown(after), *results[4:])
    settled = (desk if desk.is_given else after, *results[1:])
    return settled if isinstance(result, tuple) else settled[0]


def is_shown(results: tuple[Any, ...]) -> bool:
    """Whether results begin with what `shown` gives."""
    return all(value is None or (isinstance(value, dict) and "stamp" in value) for value in results[1:4])


# Questions, and what is done after them


def ask(question: Question) -> dict[str, Any]:
    """The value of the question on the page; it is remembered until the answer comes."""
    desk = _desk.get()
    if desk.question is not None:
        desk.question.cancel()
    desk.question = question
    words = {"title": question.title, "text": question.text, "yes": question.yes, "no": question.no}
    return {**words, "number": id(question)}


def begin(what: str) -> dict[str, Any]:
    """Let the long work of this name run next, and say that it waits for its turn."""
    desk = _desk.get()
    desk.todo, desk.waits = what, True
    desk.cancelled.clear()
    return work_value("Waiting for other work to end", None)


def is_begun(what: str) -> bool:
    """Whether `begin` said so; once, and not where it was cancelled while it waited."""
    desk = _desk.get()
    if desk.todo != what:
        return False
    desk.todo, desk.waits = "", False
    _check_going(desk)
    return True


# Messages


def refusal(error: Exception) -> gr.Error:
    """The error to raise for another one, which ends the event; only what is our fault is shown in red."""
    message = message_for(error)
    if isinstance(error, PageError | ValueError):
        gr.Warning(message, title="That did not work", duration=None if str(error) == LOST else SECONDS)
    elif isinstance(error, CallInterruptedError):
        gr.Info(message, title="Cancelled", duration=SECONDS)
    else:
        return gr.Error(message, title="Something failed", print_exception=False)
    return gr.Error(message, visible=False, print_exception=False)


def message_for(error: Exception) -> str:
    """Words for the page. The library's own ValueErrors say what is wrong with the input; other errors are ours."""
    if isinstance(error, PageError):
        return html.escape(str(error))
    if isinstance(error, CallInterruptedError):
        return "Everything is as it was."
    LOGGER.error("a step failed", exc_info=error)
    if isinstance(error, ValueError):
        return html.escape(str(error)[:400])
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return "The server cannot write files at the moment. The scene is as it was; please try again later."
    if isinstance(error, MemoryError):
        return "This photo needs more memory than there is. Try a smaller one."
    return "Something failed on our side. The scene is as it was; try again, or load another photo."


# Parts


def shown(session: Session) -> tuple[Any, ...]:
    """Session, picture, and both lists: the outputs of most steps."""
    return (session, stage_value(session), panel_value(session, "mark"), panel_value(session, "edit"))


def object_list(name: str, fillers: Sequence[str] = ()) -> gr.HTML:
    """A list of objects with what can be done to the chosen one; its events are called "act" and "repaint"."""
    choices = html.escape(json.dumps([[filler, FILLERS[filler]] for filler in fillers]))
    return gr.HTML(
        value=None,
        html_template=f'<div class="ad-panel" data-fillers="{choices}"></div>',
        js_on_load=assets.script("panel"),
        apply_default_css=False,
        elem_id=name,
    )
