"""Contexts around calls: networks in evaluation mode, work in two threads, runs without a warning for each photo."""

import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import nn

_Result = TypeVar("_Result")
_Given = TypeVar("_Given", covariant=True)
_Item = TypeVar("_Item")

if TYPE_CHECKING:
    Calls = queue.SimpleQueue[Callable[[], None] | None]
    """What one thread leaves for another to do; None ends it."""


class Asked(Protocol[_Given]):
    """Gives the result of work that `work_beside` has begun or left, or raises what the work raised.

    Args:
        calls: what this thread does while it waits, as the other one puts it there.

    Example:
        >>> calls = queue.SimpleQueue()  # the work may put functions there
        >>> with work_beside(lambda: sum(range(4))) as result:
        ...     result(calls)
        6
    """

    def __call__(self, calls: "Calls | None" = None) -> _Given:
        """Wait for the work to end, or do it now."""


_HAND_OVER = 5e-4
"""Seconds after which one of two threads lets the other go on; Python's 5 ms are longer than most of their steps."""

_changing = threading.Lock()  # of what the contexts below count
_held: dict[nn.Module, int] = {}  # modules that were in training mode, and in how many blocks they are held
_silencing: list[int] = []  # for each block that is under way, the level that the log had before the first

_beside = threading.Lock()
_threads: list[int] = []  # of torch, when it was first shared: new threads begin with what was set last in any of them
_helped: "dict[int, Calls]" = {}  # by thread, what the one beside it may take


@contextmanager
def evaluation_mode(*networks: nn.Module) -> Iterator[None]:
    """Batch norm and dropout of the networks behave as at inference inside the block; afterwards each is as it was.

    Blocks may overlap, as those of several threads do: the last one that ends brings back the training mode.

    Example:
        >>> layer = nn.Dropout()
        >>> with evaluation_mode(layer):
        ...     layer.training
        False
        >>> layer.training
        True
    """
    modules = {module for network in networks for module in network.modules()}
    with _changing:
        held = [module for module in modules if module.training or module in _held]
        for module in held:
            _held[module] = _held.get(module, 0) + 1
            module.training = False
    try:
        yield
    finally:
        with _changing:
            for module in held:
                _held[module] -= 1
                if not _held[module]:
                    del _held[module]
                    module.training = True


@contextmanager
def work_beside(work: Callable[[], _Result], at_once: bool = True) -> Iterator[Asked[_Result]]:
    """Do some work in another thread while the block runs; each has half of torch's threads.

    Many short steps leave most of a processor idle, and threads that share each of them wait for one another: two works
    side by side are done sooner. When the other thread has done the work, it takes part in what the block spreads
    (`spread`). Context variables and torch's modes are in both threads what they are in this one.

    Args:
        work: that does not need what the block makes. The block is not left before it has ended.
        at_once: False leaves it until the block asks for its result. So does this function by itself where two works
            are under way already, or this thread has another number of torch's threads than the first that came here.

    Yields:
        What gives the result, or raises what the work raised, see `Asked`.

    Example:
        >>> with work_beside(lambda: sum(range(4))) as result:
        ...     result()
        6
    """

    def later(calls: "Calls | None" = None) -> _Result:
        return work()

    if not at_once or not _beside.acquire(blocking=False):
        yield later
        return
    try:
        threads = torch.get_num_threads()
        _threads[:] = _threads or [threads]
        if _threads != [threads]:
            yield later
            return
        share, result = max(1, threads // 2), Future[_Result]()
        jobs: Calls = queue.SimpleQueue()
        work_here, halved = _as_here(work), threading.Event()

        def alone() -> None:
            torch.get_num_threads()  # at the first, a thread takes what was set last in any; that must come before
            torch.set_num_threads(share)  # of this thread
            halved.set()
            _settle(result, work_here)
            _do_all(jobs)

        def now(calls: "Calls | None" = None) -> _Result:
            if calls is not None:
                result.add_done_callback(lambda _: calls.put(None))
                _do_all(calls)
            return result.result()

        mine, interval = threading.get_ident(), sys.getswitchinterval()
        with ThreadPoolExecutor(1) as pool:
            try:  # all of it: the other thread waits for the None below, also where Ctrl-C comes before the block
                sys.setswitchinterval(min(interval, _HAND_OVER))
                pool.submit(alone)
                torch.set_num_threads(share)
                halved.wait()
                _let_threads_begin_with(threads)
                _helped[mine] = jobs
                yield now
            finally:
                jobs.put(None)
                _helped.pop(mine, None)
                sys.setswitchinterval(interval)
                torch.set_num_threads(threads)
    finally:
        _beside.release()


def spread(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[tuple[_Item, _Result]]:
    """Do the same for several items; in a block of `work_beside` the other thread takes some of them when it is free.

    Args:
        function: of an item, which may be called by two threads at once for different ones.
        items: in the order in which they are begun.

    Yields:
        An item and its result, in the order in which they are done; or raises what the function raised. What is left
        when the caller no longer asks is not begun, and what the other thread has begun is waited for.

    Example:
        >>> sorted(spread(abs, [-3, 2]))
        [(-3, 3), (2, 2)]
    """
    left = list(items)[::-1]
    done: queue.SimpleQueue[tuple[_Item, Future[_Result]]] = queue.SimpleQueue()
    waiting = len(left)

    def one() -> None:
        try:
            item = left.pop()
        except IndexError:  # the other thread has taken the last one
            return
        result: Future[_Result] = Future()
        _settle(result, lambda: function(item))
        done.put((item, result))

    jobs = _helped.get(threading.get_ident())
    if jobs is not None:
        for _ in left[1:]:
            jobs.put(_as_here(one))
    try:
        while waiting:
            if done.empty():
                one()
            item, result = done.get()
            waiting -= 1
            yield item, result.result()
    finally:
        while left:
            with suppress(IndexError):  # taken at this moment
                left.pop()
                waiting -= 1
        for _ in range(waiting):  # what the other thread has begun
            done.get()


def _as_here(work: Callable[[], _Result]) -> Callable[[], _Result]:
    """The work with the context variables and torch's modes of this thread, which threads have each for themselves."""
    context = copy_context()
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    cast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def as_here() -> _Result:
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(grad),
            torch.autocast("cpu", dtype=dtype, enabled=cast),
        ):
            return context.run(work)

    return as_here


def _let_threads_begin_with(count: int) -> None:
    """Have threads that begin from now on this number of torch's threads: what was set last in any thread."""
    thread = threading.Thread(target=torch.set_num_threads, args=(count,))
    thread.start()
    thread.join()


def _do_all(calls: "Calls") -> None:
    """Do what another thread leaves to be done, until it leaves None."""
    while (call := calls.get()) is not None:
        call()


def _settle(result: "Future[_Result]", work: Callable[[], _Result]) -> None:
    """Give a future what some work gives, or what it raises."""
    try:
        result.set_result(work())
    except BaseException as error:  # raised where the result is asked for
        result.set_exception(error)


@contextmanager
def warnings_silenced() -> Iterator[None]:
    """Inside the block the pipelines log errors only, and do not warn that an object has no occluder, for example.

    Blocks may overlap, as those of several threads do: the last one that ends brings back the warnings.

    Example:
        >>> with warnings_silenced():
        ...     logging.getLogger("amodal_diffusion.pipelines.completion").isEnabledFor(logging.WARNING)
        False
    """
    pipelines = logging.getLogger(__name__.rpartition(".")[0])
    with _changing:
        _silencing.append(_silencing[0] if _silencing else pipelines.level)
        pipelines.setLevel(logging.ERROR)
    try:
        yield
    finally:
        with _changing:
            level = _silencing.pop()
            if not _silencing:
                pipelines.setLevel(level)
