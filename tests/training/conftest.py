"""What all tests of the scripts need: the CPU, one thread, and accelerate as at the start of a process."""

import pytest
import torch

from training_helpers import reset_accelerate


@pytest.fixture(autouse=True)
def fresh_accelerate(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    torch.set_num_threads(1)
    reset_accelerate()
    yield
    reset_accelerate()
    torch.set_num_threads(threads)
