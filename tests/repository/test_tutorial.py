"""Runs docs/tutorial.md from top to bottom on drawn photos, and parses the commands of docs/kins.md."""

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

from amodal_diffusion.cli import main as cli
from photo_helpers import write_photos
from pipeline_helpers import tiny_pipeline
from repository_helpers import ROOT
from training_helpers import run_main

DOCS = ROOT / "docs"

_RUN = "--max_train_steps 2 --train_batch_size 2 --validation_samples 2 --logging_steps 1".split()
TINY = {
    "train_pcnet_m": [*_RUN, *"--block_out_channels 4,8 --patch_size 1 --sample_size 32 --min_area 20".split()],
    "train_instance_segmenter": [
        *_RUN, *"--image_size 64 --hidden_dim 32 --num_queries 5 --score_threshold 0".split(),
    ],
}  # fmt: skip
"""Flags behind those of the text, so that a run takes a second; the last word counts."""
DOWNLOADED = "--segmenter"
"""Left out with its value: it names what is on the Hub; without it a small network is made."""


def steps(document):
    """The blocks of a text in order: ("python", source) or ("bash", words of one command)."""
    text = (DOCS / document).read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        if language == "bash":
            lines = block.replace("\\\n", " ").splitlines()
            yield from (("bash", words) for line in lines if (words := shlex.split(line, comments=True)))
        else:
            yield language, block


def training_command(words):
    """Name of the script and its arguments, from `accelerate launch [options] training/SCRIPT.py ...`."""
    place = next(index for index, word in enumerate(words) if word.endswith(".py"))
    assert words[:2] == ["accelerate", "launch"] and (ROOT / words[place]).is_file()
    return Path(words[place]).stem, words[place + 1 :]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """What the text says that the reader has, and a small `pipelines/pcnet-m`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    write_photos(tmp_path / "photos", images=6, amodal=False).rename("instances.json")
    write_photos(tmp_path / "test" / "photos", images=2, first=50).rename("test/annotations.json")
    tiny_pipeline(mask_threshold=0.3).save_pretrained("pipelines/pcnet-m")
    return tmp_path


def test_tutorial_runs_from_top_to_bottom(workplace, capsys, monkeypatch):
    pushed, namespace, printed = [], {}, {}
    monkeypatch.setattr("amodal_diffusion.data.push_parquet", lambda folder, name: pushed.append(name) or "url")
    monkeypatch.setattr("trainer.loop.push_folder", lambda folder, name, **options: pushed.append(name))
    for kind, step in steps("tutorial.md"):
        if kind == "python":
            exec(compile(step, "tutorial.md", "exec"), namespace)
        elif step[0] == "amodal-diffusion":
            status = cli.main(step[1:])
            output = capsys.readouterr()
            assert status in (0, None), (step, output.err)
            printed[" ".join(step[1:4])] = output.out
        else:
            name, arguments = training_command(step)
            if DOWNLOADED in arguments:
                place = arguments.index(DOWNLOADED)
                del arguments[place : place + 2]
            run_main(name, *arguments, *TINY[name])
    assert pushed == ["user/mine-amodal", "user/pcnet-m-mine"]
    assert {"overlay.png", "order.png", "mine", "amodal", "amodal-mine"} <= {path.name for path in workplace.iterdir()}
    assert namespace["out"].amodal_masks.shape == namespace["amodal"].shape
    assert namespace["found"].masks_queries_logits.shape[:2] == (1, 5)
    assert 0 < len(namespace["doubtful"]) <= 10
    assert json.loads(Path("runs/segmenter/detections.json").read_text())
    assert "runs/pcnet-m" in printed["evaluate --annotations test/annotations.json"]
    assert "[Z20] Table 4" in printed["evaluate --table z20-4"] and "PCNet-M" in printed["evaluate --table z20-4"]


@pytest.mark.parametrize("document", ["kins.md", "tutorial.md"])
def test_every_command_parses(document):
    launched = 0
    for kind, words in steps(document):
        if kind != "bash":
            continue
        if words[0] == "amodal-diffusion":
            assert cli.build_parser().parse_args(words[1:]).command == words[1]
            continue
        name, arguments = training_command(words)
        args = importlib.import_module(name).parse_arguments(arguments)
        launched += 1
        assert args.output_dir.startswith("runs/")
    assert launched > 2


def test_kins_gives_the_published_numbers_of_table_4():
    from amodal_diffusion.evaluation import PAPER_TABLES

    text = (DOCS / "kins.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| [^|]+ \| (\d+\.\d) \|$", text, flags=re.MULTILINE)
    assert sorted(shown) == sorted(row.values[0] for row in PAPER_TABLES["z20-4"].rows)


@pytest.mark.parametrize("document", ["kins.md", "tutorial.md"])
def test_relative_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#:]+)\)", (DOCS / document).read_text(encoding="utf-8")):
        assert (DOCS / target).exists()
