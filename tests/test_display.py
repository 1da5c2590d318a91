"""The printed form of objects that hold arrays."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from amodal_diffusion.display import describe, short_repr


@dataclass
class Holder:
    value: Any
    other: Any = None
    rest: list[Any] = field(default_factory=list)
    __repr__ = short_repr


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.zeros((2, 3), bool), "bool (2, 3)"),
        (torch.zeros(4, dtype=torch.bfloat16), "bfloat16 (4,)"),
        (np.float32(0.5), "0.5"),
        ([np.zeros(2), None], "[2 x ndarray]"),
        ({"a": np.zeros(2), "b": torch.zeros(1)}, "[2 x Tensor or ndarray]"),
        ([Holder(1)], "[1 x Holder]"),
        ([], "[]"),
        (list(range(50)), "[0, 1, 2, ...]"),
        ("x" * 500, None),
        (b"x" * 5000, None),
    ],
)
def test_describe_is_short(value, expected):
    text = describe(value)
    assert len(text) < 80
    if expected is not None:
        assert text == expected


def test_repr_of_a_dataclass_has_no_values_and_no_unknowns():
    assert repr(Holder(np.arange(10**6), rest=[1])) == "Holder(value=int64 (1000000,), rest=[1])"
