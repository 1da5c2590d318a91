"""`training/train_pcnet_c.py`: a run, its resumption, the card, errors."""

import importlib
import json
import logging

import pytest
import torch
from train_pcnet_c import find_perceptual_network

from amodal_diffusion import ContentPipeline, PCNetContent
from photo_helpers import write_photos
from repository_helpers import ROOT, needs_shared
from training_helpers import learn_by_heart, run_main, saved_weights, write_few_objects

pytestmark = pytest.mark.usefixtures("offline")

ROOMS = ROOT / "datasets" / "rooms-amodal"
SMALL = [
    "--block_out_channels", "4,8,8", "--sample_size", "32", "--train_batch_size", "4", "--validation_samples", "8",
    "--validation_fraction", "0.3", "--min_area", "40", "--logging_steps", "1", "--max_grad_norm", "1",
    "--lr_scheduler", "warmup_stable_decay", "--max_train_steps", "4", "--perceptual_network", "none",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), images=4, amodal=False)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "pcnet-c"
    flags = ["--recipe", "improved", "--use_ema", "--checkpointing_steps", "2", "--validation_steps", "2"]
    run_main("train_pcnet_c", "--dataset", photos, "--output_dir", folder, *SMALL, *flags)
    return folder


def test_without_vgg_training_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        assert find_perceptual_network("nowhere/nothing") is None
    assert "without the perceptual and the style loss" in caplog.text
    assert find_perceptual_network("none") is None


def test_a_run_leaves_a_pipeline(run):
    pipeline = ContentPipeline.from_pretrained(run)
    assert pipeline.model.config.sample_size == 32 and pipeline.model.config.use_mask
    curve = json.loads((run / "learning_curve.json").read_text())
    assert [point["step"] for point in curve] == [2, 4] and {"psnr_hole", "mae_hole"} <= set(curve[0])
    card = (run / "README.md").read_text()
    for fact in ("ContentPipeline", "4 updates of 4 samples", "recipe of the holes: improved", "left out: perceptual"):
        assert fact in card
    assert list((run / "validation").glob("held_out-*.png"))


def test_resumed_run_equals_the_uninterrupted_one(photos, run, tmp_path):
    """The discriminator and its optimizer are in the checkpoint too."""
    flags = ["--recipe", "improved", "--use_ema", "--checkpointing_steps", "2", "--validation_steps", "2"]
    arguments = ["--dataset", photos, "--output_dir", tmp_path, *SMALL, *flags, "--resume_from_checkpoint", "latest"]
    run_main("train_pcnet_c", *arguments, "--stop_after_steps", "2")
    assert (tmp_path / "checkpoint-2" / "discriminator.safetensors").is_file()
    run_main("train_pcnet_c", *arguments)
    ours, theirs = saved_weights(tmp_path), saved_weights(run)
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_starts_from_a_network_without_mask_plane(photos, tmp_path):
    torch.manual_seed(0)
    plain = PCNetContent((4, 8, 8), sample_size=64, use_mask=False)
    ContentPipeline(model=plain).save_pretrained(tmp_path / "plain")
    flags = ["--pretrained_pipeline", tmp_path / "plain", "--adversarial_weight", "0", "--learning_rate", "1e-9"]
    flags += ["--seam_margin", "2"]
    run_main("train_pcnet_c", "--dataset", photos, "--output_dir", tmp_path / "run", *SMALL, *flags)
    pipeline = ContentPipeline.from_pretrained(tmp_path / "run")
    state, config = saved_weights(tmp_path / "run"), pipeline.model.config
    assert config.use_mask and config.sample_size == 32 and pipeline.config.seam_margin == 2
    first = "encoder.0.conv.conv.weight"
    torch.testing.assert_close(state[first][:, :3], plain.state_dict()[first], atol=1e-6, rtol=0)
    assert state[first][:, 3:].abs().max() < 1e-6


def test_goes_on_from_a_network_on_top_of_a_prior(photos, run, tmp_path):
    flags = ["--pretrained_pipeline", run, "--use_prior", "--adversarial_weight", "0"]
    run_main("train_pcnet_c", "--dataset", photos, "--output_dir", tmp_path, *SMALL, *flags)
    assert ContentPipeline.from_pretrained(tmp_path).model.config.use_prior
    state = saved_weights(tmp_path)
    assert state["encoder.0.conv.conv.weight"].shape[1] == 7 and state["decoder.2.conv.conv.weight"].abs().max() > 0


TRUE = ["--true_dataset", ROOMS, "--true_share", "0.5", "--true_validation_photos", "54"]


def test_hidden_parts_of_rooms(photos, tmp_path):
    """Parts that are really hidden, whose colours a rendering knows; a resumed run draws the same ones."""
    flags = ["--dataset", photos, *SMALL, *TRUE, "--recipe", "improved", "--checkpointing_steps", "2"]
    run_main("train_pcnet_c", *flags, "--output_dir", tmp_path / "whole")
    curve = json.loads((tmp_path / "whole" / "learning_curve.json").read_text())
    assert {"psnr_hole", "mae_hole", "true_psnr_hole", "true_mae_hole"} <= set(curve[-1])
    card = (tmp_path / "whole" / "README.md").read_text()
    assert "parts that are really hidden, 50% of a batch" in card and "hidden parts of rendered scenes" in card
    assert list((tmp_path / "whole" / "validation").glob("true_held_out-*.png"))
    arguments = [*flags, "--output_dir", tmp_path / "parts", "--resume_from_checkpoint", "latest"]
    run_main("train_pcnet_c", *arguments, "--stop_after_steps", "2")
    run_main("train_pcnet_c", *arguments)
    ours, theirs = saved_weights(tmp_path / "parts"), saved_weights(tmp_path / "whole")
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--hole_weight", "-1"], "`--hole_weight` must not be negative"),
        (["--discriminator_rate", "0"], "`--discriminator_rate` must be positive"),
        (["--validation_fraction", "1"], r"`--validation_fraction` must lie in \(0, 1\)"),
        (["--sample_size", "36"], "`--sample_size` must be a multiple of 8, got 36"),
        (["--images", "a", "b"], "`--images` must have one folder"),
        ([*TRUE, "--true_share", "0"], "`--true_share` must lie between 0 and 1, got 0.0"),
        ([*TRUE, "--true_validation_photos", "60"], r"`--true_validation_photos` must lie in \[1, 59\]"),
    ],
)
def test_bad_flags(photos, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        run_main("train_pcnet_c", "--dataset", photos, "--output_dir", tmp_path, *SMALL, *flags)


def test_true_scenes_without_colours(photos, tmp_path):
    flags = ["--true_dataset", write_photos(tmp_path / "true", images=4), "--true_validation_photos", "1"]
    with pytest.raises(ValueError, match="`--true_dataset`: no object has a hidden part whose colours are known"):
        run_main("train_pcnet_c", "--dataset", photos, "--output_dir", tmp_path / "run", *SMALL, *flags)


def test_features_of_efficientnet_lite(photos, tmp_path):
    flags = ["--perceptual_network", "efficientnet-lite0", "--style_weight", "20", "--max_train_steps", "2"]
    run_main("train_pcnet_c", "--dataset", photos, "--output_dir", tmp_path, *SMALL, *flags)
    card = (tmp_path / "README.md").read_text()
    assert "perceptual and the style loss: efficientnet-lite0" in card and "left out" not in card


def test_class_conditioned(photos, tmp_path):
    flags = ["--class_conditioned", "--recipe", "improved", "--max_train_steps", "2", "--adversarial_weight", "0"]
    run_main("train_pcnet_c", "--dataset", photos, "--output_dir", tmp_path / "a", *SMALL, *flags)
    assert ContentPipeline.from_pretrained(tmp_path / "a").model.config.class_conditioned
    further = ["--pretrained_pipeline", tmp_path / "a", "--max_train_steps", "1"]
    run_main("train_pcnet_c", "--dataset", photos, "--output_dir", tmp_path / "b", *SMALL, *further)
    assert ContentPipeline.from_pretrained(tmp_path / "b").model.config.class_conditioned


def test_class_conditioned_needs_classes(photos, run, tmp_path):
    flags = ["--class_conditioned", "--pretrained_pipeline", run]
    with pytest.raises(ValueError, match="`--class_conditioned` needs a network that is"):
        run_main("train_pcnet_c", "--dataset", photos, "--output_dir", tmp_path / "r", *SMALL, *flags)
    nameless = write_photos(tmp_path / "photos", images=4)  # a COCOA-style file: names without ids
    with pytest.raises(ValueError, match=r"`--class_conditioned`: \d+ objects for training have no .* or one below 1"):
        flags = ["--dataset", nameless, "--output_dir", tmp_path / "r", "--class_conditioned"]
        run_main("train_pcnet_c", *flags, *SMALL)


@pytest.mark.parametrize("bad", [0, -1])
def test_class_conditioned_refuses_ids_below_one(tmp_path, bad):
    path = write_photos(tmp_path / "photos", images=4, amodal=False)
    content = json.loads(path.read_text())
    content["categories"][0]["id"] = bad
    for annotation in content["annotations"]:
        annotation["category_id"] = bad
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"`--class_conditioned`: \d+ objects for training have no .* or one below 1"):
        flags = ["--dataset", path, "--output_dir", tmp_path / "r", "--class_conditioned"]
        run_main("train_pcnet_c", *flags, *SMALL)


@pytest.mark.slow
@needs_shared
def test_learns_a_few_real_photos_by_heart(tmp_path):
    """The colours of eight holes in real photos."""
    script = importlib.import_module("train_pcnet_c")
    few, folder = write_few_objects(tmp_path / "few.json")
    given = ["--dataset", few, "--images", folder, "--output_dir", tmp_path / "out", "--sample_size", 64]
    given += ["--block_out_channels", "32,64,64,64", "--train_batch_size", 8, "--max_train_steps", 200]
    given += ["--perceptual_network", "none", "--learning_rate", 3e-3, "--lr_scheduler", "one_cycle"]
    figures = learn_by_heart(script, script.ContentTask, [*given, "--max_grad_norm", 1])
    assert figures["psnr_hole"] >= 22, figures
