"""Accessibility of a page by axe-core, whose script comes with the package axe-playwright-python."""

import importlib.util
from pathlib import Path

import pytest


def axe_script():
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None:
        raise pytest.UsageError("axe-core is not there: pip install -c constraints.txt axe-playwright-python")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def serious_findings(page):
    """What axe-core calls serious or critical on a page as it is now: the rule, the element, and why."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(axe_script())
    result = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{rule['impact']}: {rule['id']}: {node['html'][:160]}: {node['failureSummary']}"
        for rule in result["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
