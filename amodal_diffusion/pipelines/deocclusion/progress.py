"""How far the call of a scene pipeline is, told in both forms that callbacks have."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..base import CallInterruptedError, PipelineCallback, SafePipeline, check_callback

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
        self._waiting = self._ended = False
        self._missed: deque[Callable[[], None]] = deque()

    def __call__(self, stage: str, share: float) -> None:
        """Tell `progress_callback` of a stage and the share of all work that is done.

        Raises:
            CallInterruptedError: where it returns False.
        """
        self._share = max(self._share, share)
        with self._ending():
            if self._progress_callback is not None and self._progress_callback(stage, self._share) is False:
                raise CallInterruptedError(f"`progress_callback` ended the call at {self._share:.0%} ({stage}).")

    def begin(self, stage: str, share: float) -> None:
        """Tell both callbacks that a stage begins which no component reports."""
        self(stage, share)
        self._report(stage, 0, 1)

    def within(self, stage: str, low: float, high: float) -> PipelineCallback:
        """A callback of a component, whose batches take the share of the work from `low` to `high`.

        In a thread beside that of the call it tells nothing unless the call waits for it (`wait_for`), so that a user
        is never called by two threads at once; what it had to tell is told then. It ends the work where the call has
        been ended.
        """
        middle = (low + high) / 2

        def tell(pipeline: Any, part: str, done: int, total: int) -> bool:
            def now() -> None:
                self(stage, begin + (end - begin) * done / max(1, total))
                self._report(part, done, total)

            parts = {"order": (low, middle), "pairs": (middle, middle), "masks": (middle, high), "shapes": (high, high)}
            begin, end = parts.get(part, (low, high))
            if self._thread != threading.get_ident() and not self._waiting:
                self._missed.append(now)
                return not self._ended
            if self._waiting:
                self._tell_missed()
            now()
            return True

        return tell

    def wait_for(self, work: Callable[[], _Result]) -> _Result:
        """What `work` gives, which may be under way in another thread."""
        self._tell_missed()
        self._waiting = True  # what the other thread puts down at this moment is told before what comes next
        try:
            result = work()
        finally:
            self._waiting = False
        self._tell_missed()
        return result

    def _report(self, stage: str, done: int, total: int) -> None:
        with self._ending():
            self._pipeline.report(self._callback, stage, done, total)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """What a callback raises ends the work of the other thread, too."""
        try:
            yield
        except BaseException:
            self._ended = True
            raise

    def _tell_missed(self) -> None:
        while self._missed:
            self._missed.popleft()()
