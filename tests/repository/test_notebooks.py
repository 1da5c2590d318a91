"""The notebooks of docs/notebooks run from top to bottom, cell by cell, in a folder that has what a clone has."""

import json
import subprocess
import sys

import pytest

from diffusion_helpers import tiny_sdamodal
from repository_helpers import ROOT
from training_helpers import script_environment

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def cells(path, kind):
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path):
    for name in ("pipelines", "training", "datasets"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = script_environment()
    if path.stem == "sdamodal":
        tiny_sdamodal().save_pretrained(tmp_path / "sdamodal")
        environment["SDAMODAL"] = str(tmp_path / "sdamodal")
    (tmp_path / "cells.py").write_text("\n\n".join(cells(path, "code")))
    done = subprocess.run(
        [sys.executable, "cells.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_outputs(path):
    """What a run shows is made anew by who runs it; a diff shows what was written."""
    content = json.loads(path.read_text())
    assert content["nbformat"] == 4 and cells(path, "markdown")[0].startswith("# ")
    for cell in content["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)
