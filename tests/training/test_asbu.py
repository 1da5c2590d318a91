"""`training/train_asbu.py`: a few steps, exact resumption, the ablations, the start from PCNet-M, errors."""

import pytest
import torch

from amodal_diffusion import AmodalPipeline, ASBUPipeline, PCNetMask, PCNetMaskPipeline
from repository_helpers import needs_shared
from training_helpers import masks_by_heart, run_main, saved_weights, write_coco

SMALL = [
    "--block_out_channels", "8,16", "--sample_size", "32", "--patch_size", "2", "--train_batch_size", "4",
    "--validation_samples", "8", "--validation_fraction", "0.2", "--logging_steps", "1", "--recipe", "improved",
    "--optimizer", "adamw", "--lr_scheduler", "warmup_stable_decay", "--max_train_steps", "4",
]  # fmt: skip


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("data") / "masks.json")


@pytest.fixture(scope="module")
def finished(coco, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "asbu"
    run_main("train_asbu", "--dataset", coco, "--output_dir", folder, *SMALL, "--validation_steps", 2)
    return folder


def test_leaves_a_pipeline(finished):
    pipe = AmodalPipeline.from_pretrained(finished)
    assert type(pipe) is ASBUPipeline and pipe.model.config.patch_size == 2
    masks = torch.zeros(2, 40, 40, dtype=torch.bool)
    masks[0, 5:20, 5:20], masks[1, 10:30, 20:30] = True, True
    assert pipe(None, masks).uncertainty.shape == (2, 40, 40)
    card = (finished / "README.md").read_text()
    for fact in ("# ASBU", "4 updates of 4 samples", "train_asbu.py", "masks.json", "| step |"):
        assert fact in card
    assert len(list((finished / "validation").glob("*.png"))) == 2


def test_a_resumed_run_ends_with_the_same_weights(finished, coco, tmp_path):
    arguments = ["--dataset", coco, "--output_dir", tmp_path / "asbu", *SMALL, "--resume_from_checkpoint", "latest"]
    run_main("train_asbu", *arguments, "--stop_after_steps", 2)
    run_main("train_asbu", *arguments)
    expected = saved_weights(finished)
    for name, value in saved_weights(tmp_path / "asbu").items():
        assert torch.equal(value, expected[name]), name


def arguments(*more):
    from train_asbu import parse_arguments

    return parse_arguments(["--dataset", "x.json", "--output_dir", "x", *SMALL, *map(str, more)])


def batch(seed=0):
    from amodal_diffusion.data.synthesis import OcclusionBatch

    mask, eraser, target = torch.zeros(3, 2, 1, 32, 32)
    target[:, :, 4:28, 8:24] = 1
    eraser[:, :, 10:20] = 1
    mask[:] = target * (1 - eraser)
    return OcclusionBatch(mask, eraser, target, torch.ones(2, dtype=torch.int64))


@pytest.mark.parametrize("kind", ["boundary", "mask", "both"])
def test_what_the_network_sees_of_the_occluder(kind):
    from train_asbu import ASBUTask

    from amodal_diffusion.models.asbu import occluder_plane

    task = ASBUTask(arguments("--occluder_input", kind))
    seen = {}
    task.model.register_forward_pre_hook(lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True)
    sample = batch()
    task.probability(task.model, sample)
    expected = occluder_plane(sample.mask, sample.eraser, kind)
    assert torch.equal(seen["boundary"], expected) and torch.equal(seen["mask"], sample.mask)
    assert task.build_pipeline(task.model).config.occluder_input == kind


def test_starts_from_pcnet_m_or_asbu(finished, tmp_path):
    from train_asbu import ASBUTask

    torch.manual_seed(3)
    network = PCNetMask(block_out_channels=(8, 16), sample_size=32, patch_size=2)
    PCNetMaskPipeline(network).save_pretrained(tmp_path / "pcnet-m")
    task = ASBUTask(arguments("--mask_network", tmp_path / "pcnet-m", "--occluder_input", "boundary"))
    torch.testing.assert_close(task.model.unet.conv_in[0].weight, network.conv_in[0].weight)
    assert "started from the weights" in " ".join(task.card()["data"])
    task = ASBUTask(arguments("--pretrained_pipeline", finished))
    torch.testing.assert_close(task.model.unet.conv_in[0].weight, saved_weights(finished)["unet.conv_in.0.weight"])
    with pytest.raises(ValueError, match=r"`--mask_network` .* must be a PCNetMaskPipeline"):
        ASBUTask(arguments("--mask_network", finished))
    with pytest.raises(ValueError, match=r"`--pretrained_pipeline` .* must be an ASBUPipeline"):
        ASBUTask(arguments("--pretrained_pipeline", tmp_path / "pcnet-m"))


def test_wrong_flags(finished):
    with pytest.raises(ValueError, match="Give one"):
        arguments("--mask_network", "a", "--pretrained_pipeline", finished)
    with pytest.raises(ValueError, match=r"`--validation_fraction` must lie in \(0, 1\), got 1.0"):
        arguments("--validation_fraction", "1.0")


@pytest.mark.slow
@needs_shared
def test_learns_a_few_real_masks_by_heart(tmp_path):
    """Eight occluded objects of real photos: it brings back what is hidden, in three times PCNet-M's updates."""
    assert masks_by_heart("train_asbu", "ASBUTask", tmp_path, 600) >= 90
