"""`training/train_pcnet_c.py`: the losses by hand, VGG from files, a run, its resumption, the card, errors."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from trainer.content_losses import (
    composite,
    content_losses,
    discriminator_loss,
    generator_loss,
    total_variation,
)
from trainer.perceptual import VGGFeatures, find_vgg_features, gram_matrix, load_vgg_features

from amodal_diffusion import ContentPipeline, PCNetContent
from amodal_diffusion.data.synthesis import ContentBatch
from photo_helpers import write_photos
from training_helpers import run_main

pytestmark = pytest.mark.usefixtures("offline")

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


def weights(folder):
    return load_file(folder / "model" / "diffusion_pytorch_model.safetensors")


def make_batch():
    torch.manual_seed(0)
    visible = torch.ones(2, 1, 8, 8)
    visible[:, :, 2:6, 2:6] = 0
    known = torch.ones(2, 1, 8, 8)
    known[:, :, 2:6, 4:6] = 0
    return ContentBatch(torch.randn(2, 3, 8, 8), visible, torch.zeros(2, 1, 8, 8), known)


def test_losses_by_hand():
    batch, output = make_batch(), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    losses = content_losses(output, batch, None)
    assert set(losses) == {"valid", "hole", "total_variation"}
    error = (output - batch.image).abs()
    hole = torch.zeros(2, 1, 8, 8)
    hole[:, :, 2:6, 2:4] = 1  # known; the rest of the hole costs nothing
    assert float(losses["hole"]) == pytest.approx(float((error * hole).sum() / error.numel()), rel=1e-5)
    assert float(losses["valid"]) == pytest.approx(float((error * batch.visible).sum() / error.numel()), rel=1e-5)
    picture = composite(output, batch)
    assert torch.equal(picture[:, :, 0], batch.image[:, :, 0]) and torch.equal(picture[:, :, 3, 3], output[:, :, 3, 3])
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    assert float(total_variation(ramp)) == 1.0
    assert float(losses["total_variation"]) == pytest.approx(float(total_variation(picture)))


def test_adversarial_losses():
    sure = torch.tensor([20.0])
    assert float(generator_loss(sure)) == pytest.approx(0, abs=1e-6)
    assert float(generator_loss(-sure)) == pytest.approx(20, rel=1e-5)
    assert float(discriminator_loss(sure, -sure)) == pytest.approx(0, abs=1e-6)
    assert float(discriminator_loss(-sure, -sure)) == pytest.approx(10, rel=1e-5)


def test_gram_matrix():
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # [1, 2, 1, 2]
    torch.testing.assert_close(gram_matrix(maps), torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / 4)


def test_perceptual_losses_vanish_for_the_truth_alone(tmp_path):
    network, batch = VGGFeatures(), make_batch()
    same = content_losses(batch.image, batch, network)
    assert float(same["perceptual"]) == 0 and float(same["style"]) == 0
    output = batch.image + 0.5
    output.requires_grad_(True)
    other = content_losses(output, batch, network)
    assert float(other["perceptual"].detach()) > 0 and float(other["style"].detach()) > 0
    (other["perceptual"] + other["style"]).backward()
    assert output.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_vgg_from_files(tmp_path):
    network = VGGFeatures()
    assert [tuple(maps.shape[1:]) for maps in network(torch.zeros(1, 3, 16, 16))] == [
        (64, 8, 8),
        (128, 4, 4),
        (256, 2, 2),
    ]
    state = {**network.state_dict(), "classifier.0.weight": torch.zeros(2, 2)}
    save_file(state, tmp_path / "vgg.safetensors")
    torch.save(state, tmp_path / "vgg.pth")
    for name in ("vgg.safetensors", "vgg.pth"):
        again = load_vgg_features(str(tmp_path / name))
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in network.state_dict().items())
    del state["features.2.weight"]
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"does not hold VGG-16: missing or of another shape are features\.2\.weight"):
        load_vgg_features(str(tmp_path / "other.safetensors"))
    with pytest.raises(FileNotFoundError, match="'nowhere/nothing', and the Hub does not give it"):
        load_vgg_features("nowhere/nothing")


def test_without_vgg_training_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        assert find_vgg_features("nowhere/nothing") is None
    assert "without the perceptual and the style loss" in caplog.text
    assert find_vgg_features("none") is None


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
    assert (tmp_path / "checkpoint-2" / "model_1.safetensors").is_file()
    run_main("train_pcnet_c", *arguments)
    ours, theirs = weights(tmp_path), weights(run)
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_starts_from_a_network_without_mask_plane(photos, tmp_path):
    torch.manual_seed(0)
    plain = PCNetContent((4, 8, 8), sample_size=64, use_mask=False)
    ContentPipeline(model=plain).save_pretrained(tmp_path / "plain")
    flags = ["--pretrained_pipeline", tmp_path / "plain", "--adversarial_weight", "0", "--learning_rate", "1e-9"]
    flags += ["--seam_margin", "2"]
    run_main("train_pcnet_c", "--dataset", photos, "--output_dir", tmp_path / "run", *SMALL, *flags)
    pipeline = ContentPipeline.from_pretrained(tmp_path / "run")
    state, config = weights(tmp_path / "run"), pipeline.model.config
    assert config.use_mask and config.sample_size == 32 and pipeline.config.seam_margin == 2
    first = "encoder.0.conv.conv.weight"
    torch.testing.assert_close(state[first][:, :3], plain.state_dict()[first], atol=1e-6, rtol=0)
    assert state[first][:, 3:].abs().max() < 1e-6


def test_goes_on_from_a_network_on_top_of_a_prior(photos, run, tmp_path):
    flags = ["--pretrained_pipeline", run, "--use_prior", "--adversarial_weight", "0"]
    run_main("train_pcnet_c", "--dataset", photos, "--output_dir", tmp_path, *SMALL, *flags)
    assert ContentPipeline.from_pretrained(tmp_path).model.config.use_prior
    state = weights(tmp_path)
    assert state["encoder.0.conv.conv.weight"].shape[1] == 7 and state["decoder.2.conv.conv.weight"].abs().max() > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--hole_weight", "-1"], "`--hole_weight` must not be negative"),
        (["--discriminator_rate", "0"], "`--discriminator_rate` must be positive"),
        (["--validation_fraction", "1"], r"`--validation_fraction` must lie in \(0, 1\)"),
        (["--sample_size", "36"], "`--sample_size` must be a multiple of 8, got 36"),
        (["--images", "a", "b"], "`--images` must have one folder"),
    ],
)
def test_bad_flags(photos, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        run_main("train_pcnet_c", "--dataset", photos, "--output_dir", tmp_path, *SMALL, *flags)


def test_class_conditioned_network_is_refused(photos, tmp_path):
    ContentPipeline(model=PCNetContent((4, 8), sample_size=32, class_conditioned=True)).save_pretrained(tmp_path / "c")
    with pytest.raises(ValueError, match="is class-conditioned"):
        flags = ["--pretrained_pipeline", tmp_path / "c"]
        run_main("train_pcnet_c", "--dataset", photos, "--output_dir", tmp_path / "r", *SMALL, *flags)
