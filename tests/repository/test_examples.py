"""Every public class and function shows in a small example how it is used; `--doctest-modules` runs them."""

import ast
import collections
import re

import pytest

from repository_helpers import ROOT

PACKAGE = ROOT / "amodal_diffusion"
REQUIRED = False
"""False reports what is missing (`pytest -rx` shows the counts), True fails."""


def public_names(path):
    """(name, docstring) of the public classes and functions of a module."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            if any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list):
                continue  # its docstring is that of the function itself
            yield node.name, ast.get_docstring(node) or ""


def test_every_public_name_has_an_example():
    total, without = 0, collections.defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(ROOT).with_suffix("")
        if any(re.match(r"_(?!_)", part) for part in module.parts):
            continue
        for name, docstring in public_names(path):
            total += 1
            if ">>>" not in docstring:
                without[".".join(module.parts)].append(name)
    missing = sum(map(len, without.values()))
    if missing and not REQUIRED:
        counts = ", ".join(f"{module} {len(names)}" for module, names in without.items())
        pytest.xfail(f"{missing} of {total} public names have no example: {counts}")
    assert not dict(without)
