"""`training/train_pcnet_m.py --use_rgb`: a few steps, exact resumption, what the network sees, wrong flags."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from amodal_diffusion import AmodalPipeline, PCNetMaskPipeline
from photo_helpers import draw_scene, write_photos
from pipeline_helpers import tiny_pipeline
from repository_helpers import needs_shared
from training_helpers import masks_by_heart, run_main, saved_weights

SMALL = [
    "--use_rgb", "--block_out_channels", "8,16", "--sample_size", "32", "--patch_size", "2", "--train_batch_size", "4",
    "--validation_samples", "8", "--validation_fraction", "0.3", "--logging_steps", "1", "--min_area", "40",
    "--recipe", "improved", "--max_train_steps", "4", "--class_conditioned",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), images=6, amodal=False, classes=3)


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "pcnet-m"
    run_main("train_pcnet_m", "--dataset", photos, "--output_dir", folder, *SMALL)
    return folder


def arguments(*more):
    from train_pcnet_m import parse_arguments

    return parse_arguments(["--dataset", "x.json", "--output_dir", "x", *map(str, more)])


def test_leaves_a_pipeline_that_wants_the_photo(finished):
    pipe = AmodalPipeline.from_pretrained(finished)
    assert type(pipe) is PCNetMaskPipeline and pipe.model.config.use_rgb
    photo, modal, _ = draw_scene(9)
    assert pipe(photo, modal, category_ids=[1, 2, 3]).amodal_masks.shape == modal.shape
    with pytest.raises(ValueError, match="`image` must be given"):
        pipe(None, modal, category_ids=[1, 2, 3])
    card = (finished / "README.md").read_text()
    for fact in ("4 updates of 4 samples", "modal masks in 5 photos", "from a photo and its visible masks"):
        assert fact in card
    assert "It sees masks, not the photo" not in card


def test_a_resumed_run_ends_with_the_same_weights(finished, photos, tmp_path):
    command = ["--dataset", photos, "--output_dir", tmp_path / "again", *SMALL, "--resume_from_checkpoint", "latest"]
    expected = saved_weights(finished)
    run_main("train_pcnet_m", *command, "--stop_after_steps", 2)
    assert any(not torch.equal(value, expected[name]) for name, value in saved_weights(tmp_path / "again").items())
    run_main("train_pcnet_m", *command)
    for name, value in saved_weights(tmp_path / "again").items():
        assert torch.equal(value, expected[name]), name


def test_the_network_sees_mask_eraser_and_photo(photos):
    from train_pcnet_m import PCNetMaskPhotoTask

    task = PCNetMaskPhotoTask(arguments("--dataset", photos, *SMALL))
    task.setup(Accelerator(cpu=True))
    seen = {}
    task.model.register_forward_pre_hook(lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True)
    loss, _ = task.loss(task.model, 5, 4)
    batch = task.synthesizer.sample(5, 4)
    for name, expected in (("mask", batch.mask), ("eraser", batch.eraser), ("image", batch.image)):
        assert torch.equal(seen[name], expected), name
    assert torch.equal(seen["category_ids"], batch.category_ids)
    with torch.no_grad():
        logits = task.model(**seen).logits.double().numpy()
    target, eraser = (plane[:, 0].numpy() > 0 for plane in (batch.target, batch.eraser))
    cost = np.log(np.exp(logits).sum(1)) - np.where(target, logits[:, 1], logits[:, 0])
    assert loss.item() == pytest.approx((cost * np.where(eraser, 5, 1)).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--use_rgb", "--keep_crowd"], "`--keep_crowd` does not go .* crowd regions are never cut out"),
        (["--use_rgb", "--max_truncation", "0.5"], "`--max_truncation` does not go .* objects at the frame are kept"),
        (["--use_rgb", "--images", "a", "b"], "`--images` must have one folder for each of the 1 data sets, got 2"),
        (["--images", "a"], "`--images` needs `--use_rgb`"),
    ],
)
def test_flags_that_do_not_go_together(flags, message):
    with pytest.raises(ValueError, match=message):
        arguments(*flags)


def test_a_pipeline_to_start_from_must_fit(finished, tmp_path):
    from train_pcnet_m import PCNetMaskPhotoTask, PCNetMaskTask

    tiny_pipeline().save_pretrained(tmp_path / "masks")
    with pytest.raises(ValueError, match="has a network with RGB: add `--use_rgb`"):
        PCNetMaskTask(arguments("--pretrained_pipeline", finished))
    with pytest.raises(ValueError, match="has a network without RGB: leave out `--use_rgb`"):
        PCNetMaskPhotoTask(arguments("--use_rgb", "--pretrained_pipeline", tmp_path / "masks"))


@pytest.mark.slow
@needs_shared
def test_learns_a_few_real_photos_by_heart(tmp_path):
    """Eight objects of real photos, most behind another one that was pasted: it brings back what is hidden."""
    assert masks_by_heart("train_pcnet_m", "PCNetMaskPhotoTask", tmp_path, 200, photos=True) >= 90
