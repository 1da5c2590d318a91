"""How a script ends: a user's error is one line and exit code 2, ours keeps its trace."""

import importlib
import sys

import pytest

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


@pytest.mark.parametrize("name", PHOTO_SCRIPTS)
def test_photos_that_are_not_there_are_the_error(name, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    given = ["--dataset", write_coco(tmp_path / "masks.json"), "--images", tmp_path, "--output_dir", tmp_path / "out"]
    encoder = ["--encoder", "none"] if name == "train_order_net" else []
    said, code = ended(monkeypatch, capsys, name, [*given, *MORE.get(name, []), *encoder])
    assert code == 2 and "has no photo that can be used" in said and "--dataset" in said and "jpg" in said
