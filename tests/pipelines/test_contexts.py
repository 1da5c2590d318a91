"""Contexts around the calls of pipelines."""

import logging
import threading
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from amodal_diffusion.pipelines import contexts
from amodal_diffusion.pipelines.contexts import evaluation_mode, warnings_silenced, work_beside


@pytest.fixture(autouse=True)
def four_threads(monkeypatch):
    monkeypatch.setattr(contexts, "_threads", [])
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


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
    """A server's threads: those that begin meanwhile have half of torch's threads for good, and must not pass it on."""

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
        torch.set_num_threads(3)  # what a thread would have kept that begins meanwhile
        begun.set()
    torch.set_num_threads(3)
    another(later)
    assert meanwhile[1] and later == [3, True, 3]
    torch.set_num_threads(4)
    with work_beside(threading.current_thread) as result:
        assert result() is not threading.current_thread()


def test_a_broken_block_leaves_the_next_one_free():
    for _ in range(2):
        with pytest.raises(ValueError, match="block"), work_beside(threading.current_thread) as result:
            assert result() is not threading.current_thread()
            raise ValueError("block")


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
