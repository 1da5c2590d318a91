"""Contexts around the calls of pipelines."""

import threading

import pytest
import torch

from amodal_diffusion.pipelines import contexts
from amodal_diffusion.pipelines.contexts import work_beside


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
