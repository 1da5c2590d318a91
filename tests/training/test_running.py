"""How a script ends: a user's error is one line and exit code 2, ours keeps its trace."""

import importlib
import json
import sys

import pytest
import torch

from amodal_diffusion import EfficientNetLite0
from photo_helpers import write_photos
from repository_helpers import ROOT
from training_helpers import write_coco

SCRIPTS = sorted(path.stem for path in (ROOT / "training").glob("*.py"))
MORE = {
    "compose_scenes": ["--output", "out", "--validation_fraction", "0"],
    "train_amodal_vae": ["--stage", "1", "--max_train_steps", "1"],
    "train_instance_segmenter": ["--hidden_dim", "32"],
    "train_occamodal": ["--stage", "occluder", "--image_encoder", "none"],
    "train_photo_pcnet_m": ["--true_dataset", "nowhere.json", "--mask_network", "nowhere"],
    "train_single_stage": ["--image_encoder", "none"],
    "train_sdamodal": ["--stable_diffusion", "nowhere"],
}


def ended(monkeypatch, capsys, name, arguments):
    """What a script says on stderr as the command that it is, and its exit code."""
    script, running = importlib.import_module(name), importlib.import_module("trainer.running")
    monkeypatch.setattr(sys, "argv", [f"training/{name}.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        running.run(script.main)
    return capsys.readouterr().err.splitlines()[-1], end.value.code


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_users_error_is_one_line(name, monkeypatch, capsys, tmp_path):
    assert "    run(main)\n" in (ROOT / "training" / f"{name}.py").read_text()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.chdir(tmp_path)
    out = [] if name == "compose_scenes" else ["--output_dir", "out"]
    given = ["--dataset", "nowhere.json", *out, *MORE.get(name, [])]
    said, code = ended(monkeypatch, capsys, name, given)
    assert code == 2 and said.startswith(f"{name}.py: error: ") and "nowhere" in said
    said, code = ended(monkeypatch, capsys, name, [*given, "--min_area", "many"])
    assert code == 2 and "--min_area" in said
    monkeypatch.setattr(sys, "argv", [name, *given, "--debug"])
    with pytest.raises((OSError, ValueError), match="nowhere"):
        importlib.import_module("trainer.running").run(importlib.import_module(name).main)
    assert not list(tmp_path.iterdir())  # what was refused leaves nothing behind


def test_memory_that_does_not_suffice_is_one_line(monkeypatch, capsys):
    running = importlib.import_module("trainer.running")
    monkeypatch.setattr(sys, "argv", ["training/train_pcnet_m.py"])

    def lack(error):
        raise error

    for ask in (
        lambda: torch.empty(2**60),
        lambda: lack(MemoryError()),
        lambda: lack(torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")),
    ):
        with pytest.raises(SystemExit, match="2"):
            running.run(ask)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("train_pcnet_m.py: error: out of memory; a smaller `--train_batch_size`")


def test_faults_of_ours_keep_their_trace(monkeypatch):
    run = importlib.import_module("trainer.running").run
    monkeypatch.setattr(sys, "argv", ["script.py"])
    for fault in (lambda: int("x"), lambda: {}["x"], lambda: [][1], lambda: None.x, lambda: 1 / 0):
        with pytest.raises((ValueError, LookupError, AttributeError, ArithmeticError)):
            run(fault)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="130"):
        run(stop)


PHOTO_SCRIPTS = [
    "train_pcnet_c",
    "train_occamodal",
    "train_order_net",
    "train_single_stage",
    "train_instance_segmenter",
]


@pytest.mark.parametrize("name", [*PHOTO_SCRIPTS, "train_click_segmenter", "train_photo_pcnet_m", "train_pcnet_m"])
@pytest.mark.parametrize("images", [1, 2])
def test_data_without_objects_is_named_by_its_flag(name, images, monkeypatch, capsys, tmp_path):
    """One photo, of which none can be held out, and photos without a mask."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(EfficientNetLite0, "from_package", classmethod(lambda kind: kind()))
    data = write_photos(tmp_path, images=images)
    if images == 2:
        content = json.loads(data.read_text())
        parts = [{**part, "regions": []} for part in content["annotations"]]
        data.write_text(json.dumps({**content, "annotations": parts}))
    more = {"train_photo_pcnet_m": [], "train_instance_segmenter": ["--hidden_dim", "32"]}
    more |= {"train_pcnet_m": ["--min_area", 10**6], "train_order_net": ["--encoder", "none"]}
    given = ["--dataset", data, "--output_dir", tmp_path / "out", *more.get(name, MORE.get(name, []))]
    said, code = ended(monkeypatch, capsys, name, given)
    assert code == 2 and ("--dataset" in said or "--validation_fraction" in said or "annotations.json" in said)


@pytest.mark.parametrize("name", PHOTO_SCRIPTS)
def test_photos_that_are_not_there_are_the_error(name, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    given = ["--dataset", write_coco(tmp_path / "masks.json"), "--images", tmp_path, "--output_dir", tmp_path / "out"]
    encoder = ["--encoder", "none"] if name == "train_order_net" else []
    said, code = ended(monkeypatch, capsys, name, [*given, *MORE.get(name, []), *encoder])
    assert code == 2 and "has no photo that can be used" in said and "--dataset" in said and "jpg" in said
