"""Contexts around the calls of pipelines."""

import logging
import queue
import sys
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar

import pytest
import torch
from torch import nn

from amodal_diffusion.pipelines import contexts
from amodal_diffusion.pipelines.contexts import evaluation_mode, spread, warnings_silenced, work_beside
from pipeline_helpers import torchs_threads


@pytest.fixture(autouse=True)
def four_threads(monkeypatch):
    yield from torchs_threads(monkeypatch, 4)


def test_two_works_side_by_side_with_half_of_the_threads_each():
    begun, told = threading.Event(), []

    def work():
        assert begun.wait(20)  # for the block
        told.append(torch.get_num_threads())
        return threading.current_thread()

    with work_beside(work) as result:
        begun.set()
        told.append(torch.get_num_threads())
        assert result() is not threading.current_thread()
    assert told == [2, 2] and torch.get_num_threads() == 4


def test_one_after_the_other():
    asked = []
    with work_beside(lambda: asked.append(torch.get_num_threads()), at_once=False) as result:
        assert not asked
        result()
    assert asked == [4]


@pytest.mark.parametrize("at_once", [True, False])
def test_errors_of_the_work_come_where_it_is_asked_for(at_once):
    with pytest.raises(KeyError, match="cup"), work_beside(lambda: {}["cup"], at_once) as result:
        result()
    assert torch.get_num_threads() == 4


def test_a_block_that_fails_waits_for_the_work():
    failed, done = threading.Event(), []

    def work():
        assert failed.wait(20)
        done.append(True)

    with pytest.raises(ValueError, match="block"), work_beside(work):
        failed.set()
        raise ValueError("block")
    assert done == [True] and torch.get_num_threads() == 4


def test_others_meanwhile_and_threads_with_fewer_of_torch_do_one_after_the_other():
    """A server's threads: those that begin meanwhile keep what they begin with, which is all of torch's threads."""

    def another(told):
        told.append(torch.get_num_threads())
        with work_beside(threading.current_thread) as result:
            told.append(result() is threading.current_thread())
        told.append(torch.get_num_threads())

    begun, meanwhile, later = threading.Event(), [], []
    with work_beside(lambda: begun.wait(20)):
        thread = threading.Thread(target=another, args=(meanwhile,))
        thread.start()
        thread.join()
        begun.set()
    torch.set_num_threads(3)
    another(later)
    assert meanwhile == [4, True, 4] and later == [3, True, 3]
    torch.set_num_threads(4)
    with work_beside(threading.current_thread) as result:
        assert result() is not threading.current_thread()


def test_a_broken_block_leaves_the_next_one_free():
    for _ in range(2):
        with pytest.raises(ValueError, match="block"), work_beside(threading.current_thread) as result:
            assert result() is not threading.current_thread()
            raise ValueError("block")


@pytest.mark.parametrize("where", ["setswitchinterval", "set_num_threads", "_let_threads_begin_with"])
def test_ctrl_c_while_a_block_begins_leaves_no_thread_behind(monkeypatch, where):
    """The other thread, which would wait for its end for good, ends; and the next block has one again."""
    owner = {"setswitchinterval": sys, "set_num_threads": torch, "_let_threads_begin_with": contexts}[where]
    real, main, interval, raised = getattr(owner, where), threading.current_thread(), sys.getswitchinterval(), []

    def interrupted(*arguments):
        if threading.current_thread() is not thread or raised:
            return real(*arguments)
        raised.append(KeyboardInterrupt())
        raise raised[0]

    def block():
        with pytest.raises(KeyboardInterrupt), work_beside(lambda: None):
            pass

    monkeypatch.setattr(owner, where, interrupted)
    thread = threading.Thread(target=block, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive() and raised and sys.getswitchinterval() == interval
    with work_beside(threading.current_thread) as result:
        assert result() is not main


def test_the_thread_beside_takes_part_when_its_work_is_done():
    interval, both = sys.getswitchinterval(), threading.Barrier(2, timeout=20)

    def meet(number):
        both.wait()  # which needs two threads
        return threading.current_thread(), torch.is_grad_enabled(), torch.get_num_threads()

    with work_beside(threading.current_thread) as result:
        assert sys.getswitchinterval() < interval
        with torch.no_grad():
            found = dict(spread(meet, range(6)))
        threads = {thread for thread, _, _ in found.values()}
        assert sorted(found) == list(range(6)) and threads == {threading.current_thread(), result()}
        assert {(grad, count) for _, grad, count in found.values()} == {(False, 2)}
    assert sys.getswitchinterval() == interval


def test_what_is_spread_waits_for_no_work():
    """The thread beside takes no part while it works, and another thread's block is none of this one's."""
    begun, asked = threading.Event(), []
    with work_beside(lambda: begun.wait(20)):
        mine = [thread for _, thread in spread(lambda _: threading.current_thread(), range(4))]
        other = threading.Thread(target=lambda: asked.extend(spread(lambda _: threading.current_thread(), range(2))))
        other.start()
        other.join()
        begun.set()
    assert set(mine) == {threading.current_thread()} and {thread for _, thread in asked} == {other}
    assert [item for item, _ in spread(abs, [-3, 2])] == [-3, 2] and not list(spread(abs, []))


@pytest.mark.parametrize("beside", [True, False])
def test_an_error_in_what_is_spread_ends_it(beside):
    main, done = threading.current_thread(), []

    def one(number):
        if (threading.current_thread() is main) != beside:
            raise KeyError(number)
        time.sleep(0.05)
        done.append(number)

    with pytest.raises(KeyError), work_beside(lambda: None) as result:
        result()
        for _ in spread(one, range(100)):
            pass
    assert len(done) < 50 and torch.get_num_threads() == 4


def test_what_is_spread_ends_when_nobody_asks_any_more():
    done = []
    with pytest.raises(ValueError, match="enough"), work_beside(lambda: None):
        for _ in spread(lambda number: (time.sleep(0.01), done.append(number)), range(100)):
            raise ValueError("enough")
    count = len(done)
    time.sleep(0.05)
    assert len(done) == count < 50


def test_what_is_begun_is_waited_for():
    begun, told = threading.Event(), []
    main = threading.current_thread()

    def one(number):
        if threading.current_thread() is main:
            assert begun.wait(20)
            raise KeyError(number)
        begun.set()
        time.sleep(0.1)
        told.append("done")

    with work_beside(lambda: None) as result:
        result()
        with pytest.raises(KeyError):
            list(spread(one, range(2)))
        told.append("left")
    assert told == ["done", "left"]


@pytest.mark.parametrize("kind", ["inference", "autocast", "grad"])
def test_the_thread_beside_has_torchs_modes_of_this_one(kind):
    modes = {
        "inference": torch.inference_mode(),
        "autocast": torch.autocast("cpu", dtype=torch.bfloat16),
        "grad": torch.no_grad(),
    }

    def told(_=None):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
        return product.dtype, torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    both = threading.Barrier(2, timeout=20)
    with modes[kind], work_beside(told) as result:
        expected = told()
        assert result() == expected
        assert {answer for _, answer in spread(lambda _: (both.wait(), told())[1], range(4))} == {expected}


def test_the_thread_beside_has_the_context_variables_of_this_one():
    visitor, both = ContextVar("visitor", default="nobody"), threading.Barrier(2, timeout=20)
    visitor.set("ann")

    def told(_=None):
        name = visitor.get()
        visitor.set("somebody else")  # in the other thread only
        return name, threading.get_ident()

    with work_beside(told) as result:
        assert result()[0] == "ann" and visitor.get() == "ann"
        mine = threading.get_ident()
        answers = [
            answer for _, answer in spread(lambda _: (both.wait(), visitor.get(), threading.get_ident()), "abcd")
        ]
    assert {name for _, name, _ in answers} == {"ann"} and len({thread for *_, thread in answers} | {mine}) == 2


@pytest.mark.parametrize("at_once", [True, False])
def test_this_thread_does_what_the_work_leaves_to_it(at_once):
    calls, done = queue.SimpleQueue(), []

    def work():
        for number in range(3):
            calls.put(lambda number=number: done.append((number, threading.get_ident())))
            time.sleep(0.01)
        return "ended"

    with work_beside(work, at_once) as result:
        assert result(calls) == "ended"
    assert done == ([(number, threading.get_ident()) for number in range(3)] if at_once else [])
    with pytest.raises(ValueError, match="call"), work_beside(work) as result:
        calls.put(lambda: int("call"))
        result(calls)


@contextmanager
def pipelines_log_at(level):
    log = logging.getLogger("amodal_diffusion.pipelines")
    before = log.level
    log.setLevel(level)
    yield log
    log.setLevel(before)


@pytest.mark.parametrize("ends", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_blocks_that_overlap_leave_things_as_they_were(ends):
    """Those of threads end in any order; inside of each all holds until the last one ends."""
    network = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(2), nn.Dropout()))
    network[0].eval()
    modes = [module.training for module in network.modules()]
    with pipelines_log_at(logging.INFO) as log:
        blocks = [(warnings_silenced(), evaluation_mode(*nets)) for nets in ((network,), (network[1],), (network,) * 2)]
        for block in blocks:
            for context in block:
                context.__enter__()
        for end in ends:
            assert log.level == logging.ERROR and not network[1][0].training
            for context in blocks[end]:
                context.__exit__(None, None, None)
        assert log.level == logging.INFO and [module.training for module in network.modules()] == modes
        with warnings_silenced(), evaluation_mode(network):
            assert log.level == logging.ERROR and not any(module.training for module in network.modules())
        assert log.level == logging.INFO and [module.training for module in network.modules()] == modes
    assert not contexts._held and not contexts._silencing
