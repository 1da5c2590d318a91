"""Contexts around the calls of pipelines."""

import threading

import pytest
import torch

from amodal_diffusion.pipelines.contexts import work_beside


@pytest.fixture(autouse=True)
def four_threads():
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
