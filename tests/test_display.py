"""The printed form of objects that hold arrays."""

import ast
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from amodal_diffusion.display import describe, short_repr
from repository_helpers import ROOT


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


def holders():
    """Public dataclasses of the package that have a field of arrays, as (file, class)."""
    for path in sorted((ROOT / "amodal_diffusion").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            kinds = [ast.unparse(part.annotation) for part in node.body if isinstance(part, ast.AnnAssign)]
            fields = " ".join(kind for kind in kinds if "Callable" not in kind)
            decorated = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
            if decorated and re.search(r"\b(Tensor|ndarray|NDArray|BoolArray|IntArray|FloatArray)\b", fields):
                yield path, node


@pytest.mark.parametrize(
    "room", ["scene", "pipelines", "evaluation", "models", "io", "visualization", "masks", "metrics"]
)
def test_dataclasses_of_arrays_print_short(room):
    for path, node in holders():
        if path.relative_to(ROOT / "amodal_diffusion").parts[0] == room:
            own = {part.targets[0].id for part in node.body if isinstance(part, ast.Assign)}
            own |= {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            assert "__repr__" in own, f"{path.relative_to(ROOT)}: {node.name} would print its arrays; see `short_repr`"
