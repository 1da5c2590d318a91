"""Every public class and function shows in a small example how it is used; `--doctest-modules` runs them."""

import ast
import collections
import re

from repository_helpers import ROOT

PACKAGE = ROOT / "amodal_diffusion"


def public_names(path):
    """(name, docstring) of the public classes and functions of a module."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            if any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list):
                continue  # its docstring is that of the function itself
            yield node.name, ast.get_docstring(node) or ""


def test_every_public_name_has_an_example():
    without = collections.defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(ROOT).with_suffix("")
        if any(re.match(r"_(?!_)", part) for part in module.parts):
            continue
        for name, docstring in public_names(path):
            if ">>>" not in docstring:
                without[".".join(module.parts)].append(name)
    assert not without
