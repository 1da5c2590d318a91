"""What an import costs: names are imported when they are asked for, and all of them are there."""

import ast
import importlib
import os
import subprocess
import sys

import pytest

from repository_helpers import PACKAGE, ROOT

ROOMS = sorted(
    ".".join(path.relative_to(ROOT).parent.parts)
    for path in PACKAGE.rglob("__init__.py")
    if path.with_suffix(".pyi").is_file()
)
# Packages that take long to import.
HEAVY = {"accelerate", "datasets", "diffusers", "matplotlib", "pandas", "pyarrow", "scipy", "torch", "transformers"}
COMMANDS = {
    "complete": (),
    "evaluate": (),
    "annotate": (),
    "deocclude": (),
    "dataset convert": (),
    "dataset accept": (),
    "ground-truth": (),
    "make-rooms": (),
    "convert pcnet-m": (),
    "export onnx": (),
}


def loaded(code):
    """Top-level packages in a fresh process after `code`."""
    show = "\nimport sys; sys.stdout = sys.__stdout__; print('LOADED', *{name.split('.')[0] for name in sys.modules})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code + show],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=ROOT.parent,
    )
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_every_room_is_lazy():
    eager = {
        ".".join(path.relative_to(ROOT).parent.parts)
        for path in PACKAGE.rglob("__init__.py")
        if any(isinstance(node, ast.ImportFrom) and node.module for node in ast.parse(path.read_text()).body)
        and not path.with_suffix(".pyi").is_file()
    }
    assert eager == {"amodal_diffusion.scene.formats"}  # which has its table of formats in its `__init__`
    assert {"amodal_diffusion", "amodal_diffusion.pipelines", "amodal_diffusion.data"} <= set(ROOMS)


def test_import_of_the_package_and_its_rooms_imports_nothing_heavy():
    assert not loaded("\n".join(f"import {room}" for room in ROOMS)) & HEAVY


def test_ground_floors_are_free_of_diffusers():
    rooms = ("crops", "images", "masks", "metrics", "ordering")
    assert not loaded("\n".join(f"from amodal_diffusion.{room} import *" for room in rooms)) & {
        *("datasets", "diffusers", "transformers")
    }


def test_help_and_version_import_nothing_heavy():
    calls = [["--version"], ["--help"], ["frobnicate"], *([*command.split(), "--help"] for command in COMMANDS)]
    code = f"""
import io, sys
from amodal_diffusion.cli.main import main
for arguments in {calls!r}:
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code == (2 if arguments == ["frobnicate"] else 0), sys.stderr.getvalue()
"""
    assert not loaded(code) & HEAVY


MISSING = (
    "complete gone.png --masks mask.png --model model --output out",
    "complete photo.png --masks gone.png --model model --output out",
    "complete photo.png --masks mask.png --model ./gone --output out",
    "complete photo.png --masks mask.png --model model --order-model ./gone --output out",
    "deocclude gone.png --masks mask.png --model model --output out.ora",
    "deocclude photo.png --masks gone.png --model model --output out.ora",
    "deocclude photo.png --masks mask.png --model ./gone --output out.ora",
    "deocclude photo.png --masks mask.png --mask-model ./gone --content-model model --output out.ora",
    "deocclude photo.png --masks mask.png --mask-model model --content-model ./gone --output out.ora",
    "deocclude photo.png --masks mask.png --model model --order-model ./gone --output out.ora",
    "deocclude photo.png --masks mask.png --model model --output gone-file/out.ora",
    "deocclude photo.png --segmenter ./gone --model model --output out.ora",
    "evaluate --annotations gone.json --methods raw",
    "evaluate --annotations a.json --methods raw,./gone",
    "evaluate --annotations a.json --methods raw --images gone",
    "evaluate --annotations a.json --table z20-2 --methods pcnet-m=./gone",
    "evaluate --annotations a.json --table z20-3 --detections gone.json",
    "evaluate --annotations a.json --table z20-4 --results gt=gone.json",
    "evaluate --annotations a.json --methods nearest-mask --nearest-masks gone.json",
    "evaluate --table l20-6 --preferences gone.jsonl",
    "annotate gone.json --model model --output out",
    "annotate a.json --model ./gone --output out",
    "annotate a.json --model model --images gone --output out",
    "annotate a.json --model model --output gone-file/out",
    "dataset convert gone.json --output out",
    "dataset convert a.json --images gone --output out",
    "dataset convert a.json --detections gone.json --output out",
    "dataset accept model --reviews gone.jsonl --output out",
    "dataset accept ./gone --reviews a.json --output out",
    "dataset export gone.json --to kins --output out.json",
    "dataset stats gone.json",
    "ground-truth gone.glb --cameras a.json --output out",
    "ground-truth photo.png --cameras gone.json --output out",
    "make-rooms gone --rooms 1 --output out",
    "convert pcnet-m gone.pth out",
    "convert occamodal photo.png gone.pth out",
    "export onnx ./gone out",
)
"""Commands with one thing that is not there, named `gone`."""


def test_what_is_missing_is_told_before_anything_heavy_is_imported(tmp_path):
    """In one process, so that nothing of one command hides what another one imports."""
    for name in ("photo.png", "mask.png", "a.json", "gone-file"):  # the last has no folder in it
        (tmp_path / name).write_text("{}")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text('{"_class_name": "PCNetMaskPipeline"}')
    code = f"""
import io, os, sys
os.chdir({str(tmp_path)!r})
os.environ["HF_HUB_OFFLINE"] = "1"
from amodal_diffusion.cli.main import main
for command in {MISSING!r}:
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    assert main(command.split()) == 2, command
    said = sys.stderr.getvalue()
    assert "gone" in said and said.count("\\n") == 1, (command, said)
    heavy = {HEAVY!r} & {{name.split(".")[0] for name in sys.modules}}
    assert not heavy, (command, heavy)
    assert not os.path.exists("out") and not os.path.exists("out.ora"), command
"""
    loaded(code)


def test_every_command_that_reads_is_tried_with_what_is_missing():
    tried = {" ".join(text.split()[: len(command.split())]) for command in COMMANDS for text in MISSING}
    assert set(COMMANDS) <= tried


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_of_a_room_is_there(room):
    module = importlib.import_module(room)
    assert module.__all__ and set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert hasattr(module, name), f"{room} names {name}, which is not there"
    with pytest.raises(AttributeError, match="Frobnicator"):
        module.Frobnicator  # noqa: B018 - the access is the test


def test_stub_of_the_package_has_its_names():
    """The stub takes all names of three rooms, as `__init__.py` does."""
    import amodal_diffusion

    named = set()
    for node in ast.parse((PACKAGE / "__init__.pyi").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            room = importlib.import_module(f"amodal_diffusion.{node.module}") if node.level else None
            named |= set(room.__all__) if room else {alias.name for alias in node.names}
        else:
            named.add(node.target.id)
    assert named == set(amodal_diffusion.__all__)
