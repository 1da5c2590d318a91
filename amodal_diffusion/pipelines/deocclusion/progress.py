"""How far the call of a scene pipeline is, told in both forms that callbacks have."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..base import CallInterruptedError, PipelineCallback, SafePipeline, check_callback
from ..contexts import Asked

_Result = TypeVar("_Result")

ProgressCallback = Callable[[str, float], Any]
"""Called with what is being done and the share of all work that is done, from 0 to 1; False ends the call."""


class Progress:
    """Tells callbacks of stages and of batches within them; the share that is done never falls.

    Args:
        pipeline: that `callback` is told of.
        progress_callback: called with stages and shares, or None.
        callback: called with the batches of components, or None.

    Raises:
        TypeError: naming the callback that is no function.

    Example:
        >>> from amodal_diffusion import ContentPipeline
        >>> shares = []
        >>> report = Progress(ContentPipeline(filler="smooth"), lambda *said: shares.append(said), None)
        >>> report("contents", 0.4)
        >>> report.within("contents", 0.4, 0.8)(None, "contents", 1, 2)
        True
        >>> shares
        [('contents', 0.4), ('contents', 0.6...)]
    """

    def __init__(
        self, pipeline: SafePipeline, progress_callback: ProgressCallback | None, callback: PipelineCallback | None
    ) -> None:
        if progress_callback is not None and not callable(progress_callback):
            raise TypeError(f"`progress_callback` must be a function or None, got {type(progress_callback).__name__}.")
        self._pipeline, self._progress_callback = pipeline, progress_callback
        self._callback = check_callback(callback)
        self._share = 0.0
        self._thread = threading.get_ident()
        self._ended = False
        self._missed: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def __call__(self, stage: str, share: float) -> None:
        """Tell `progress_callback` of a stage and the share of all work that is done.

        Raises:
            CallInterruptedError: where it returns False.
        """
        self._share = max(self._share, share)
        with self.ending():
            if self._progress_callback is not None and self._progress_callback(stage, self._share) is False:
                raise CallInterruptedError(f"`progress_callback` ended the call at {self._share:.0%} ({stage}).")

    def begin(self, stage: str, share: float) -> None:
        """Tell both callbacks that a stage begins which no component reports."""
        self(stage, share)
        self._report(stage, 0, 1)

    def within(self, stage: str, low: float, high: float) -> PipelineCallback:
        """A callback of a component, whose batches take the share of the work from `low` to `high`.

        In a thread beside that of the call it leaves what it has to tell to that of the call, which tells it when it
        waits (`wait_for`): a user is called by the thread that made the call, and by no other. It ends the work where
        the call has been ended.
        """
        middle = (low + high) / 2

        def tell(pipeline: Any, part: str, done: int, total: int) -> bool:
            def now() -> None:
                self(stage, begin + (end - begin) * done / max(1, total))
                self._report(part, done, total)

            parts = {"order": (low, middle), "pairs": (middle, middle), "masks": (middle, high), "shapes": (high, high)}
            begin, end = parts.get(part, (low, high))
            if self._thread != threading.get_ident():
                self._missed.put(now)
                return not self._ended
            now()
            return True

        return tell

    def wait_for(self, work: Asked[_Result]) -> _Result:
        """What the work gives that `work_beside` has begun; meanwhile, what it has to tell is told."""
        return work(self._missed)

    def _report(self, stage: str, done: int, total: int) -> None:
        with self.ending():
            self._pipeline.report(self._callback, stage, done, total)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """What is raised in the block, as by a callback or by Ctrl-C, ends the work of the other thread, too."""
        try:
            yield
        except BaseException:
            self._ended = True
            raise
