"""Batches prepared one step ahead."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Generic, TypeVar

Prepared = TypeVar("Prepared")


class Prefetcher(Generic[Prepared]):
    """Runs `prepare(step, batch_size)` for the next step in a thread while the device works on this one.

    What it returns is that of `prepare`, in whatever order the steps are asked for. Context variables are in the thread
    what they are where a step is asked for.

    Example:
        >>> batches = Prefetcher(lambda step, batch_size: [step] * batch_size)
        >>> batches(0, 2), batches(1, 2)  # while the first is used, the second is made
        ([0, 0], [1, 1])
    """

    def __init__(self, prepare: Callable[[int, int], Prepared]) -> None:
        self._prepare = prepare
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self._ahead: tuple[tuple[int, int], Future[Prepared]] | None = None

    def __call__(self, step: int, batch_size: int) -> Prepared:
        """What `prepare` returns for this step; the next one is begun."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == (step, batch_size):
            prepared = ahead[1].result()
        else:
            if ahead is not None:
                ahead[1].cancel()
            prepared = self._begin(step, batch_size).result()
        self._ahead = ((step + 1, batch_size), self._begin(step + 1, batch_size))
        return prepared

    def _begin(self, step: int, batch_size: int) -> Future[Prepared]:
        return self._thread.submit(copy_context().run, self._prepare, step, batch_size)
