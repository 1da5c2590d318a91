"""`pipelines/sdamodal` holds no weights: so its commands, its recipe and its card must be right."""

import importlib
import inspect
import json
import re
import shlex
import subprocess

import pytest

from amodal_diffusion import SDAmodalDecoder, SDAmodalPipeline
from amodal_diffusion.cli import main as cli
from amodal_diffusion.conversion import convert_sdamodal
from repository_helpers import ROOT

FOLDER = ROOT / "pipelines" / "sdamodal"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")
PROGRAMS = {"amodal-diffusion": ("convert", "sdamodal"), "accelerate": ("launch", "training/train_sdamodal.py")}


def commands(text):
    lines = [shlex.split(line) for line in text.splitlines() if line.strip().startswith(tuple(PROGRAMS))]
    return {words[0]: words[1:] for words in lines}


@pytest.fixture(scope="module")
def script():
    return importlib.import_module("train_sdamodal")


def test_card_and_script_hold_the_same_two_commands():
    blocks = "\n".join(re.findall(r"^```bash\n(.*?)^```", CARD, flags=re.MULTILINE | re.DOTALL))
    shown = commands(blocks)
    assert set(shown) == set(PROGRAMS)
    assert commands((FOLDER / "commands.sh").read_text(encoding="utf-8")) == shown
    for program, words in shown.items():
        assert tuple(words[:2]) == PROGRAMS[program]


def test_commands_parse(script):
    written = commands((FOLDER / "commands.sh").read_text(encoding="utf-8"))
    options = cli.build_parser().parse_args(written["amodal-diffusion"])
    assert options.system == "sdamodal" and not (ROOT / options.output).exists()
    arguments = script.parse_arguments(written["accelerate"][2:])
    assert arguments.dataset_weights == [0.9, 0.1] and len(arguments.dataset) == len(arguments.images) == 2
    assert arguments.stable_diffusion == options.stable_diffusion


def test_script_says_how_to_use_it():
    done = subprocess.run(["sh", str(FOLDER / "commands.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "convert|train" in done.stderr


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: list(p.default) if isinstance(p.default, tuple) else p.default for p in parameters}


def test_recipe_is_what_the_code_does(script):
    recipe = json.loads((FOLDER / "recipe.json").read_text(encoding="utf-8"))
    network = defaults(SDAmodalDecoder.__init__)
    assert recipe["network"] == {name: network[name] for name in recipe["network"]}
    pipeline = defaults(SDAmodalPipeline.__init__)
    assert recipe["features"] == {name: pipeline[name] for name in recipe["features"]}
    converted = defaults(convert_sdamodal)
    assert all(converted[name] == recipe["network"][name] for name in ("sample_size", "feature_sizes"))
    arguments = vars(script.parse_arguments(["--dataset", "a", "--stable_diffusion", "b", "--output_dir", "c"]))
    assert recipe["training"] == {name: arguments[name] for name in recipe["training"]}
    assert all(arguments[name] is None for name in recipe["features"])  # which takes the pipeline's


def test_card_is_honest():
    assert "no weights in this folder" in CARD
    assert not list(FOLDER.rglob("*.safetensors")) and not (FOLDER / "model_index.json").exists()
