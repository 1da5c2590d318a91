"""`training/train_asbu.py --use_rgb`: a few steps, exact resumption, what the network sees, wrong flags."""

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from amodal_diffusion import AmodalPipeline, ASBUPipeline, ASBUPredictor
from amodal_diffusion.data import read_annotations
from amodal_diffusion.data.samplers import PhotoBoundaries, boundary_synthesis
from amodal_diffusion.data.synthesis import AMODAL, MODAL, OCCLUDER, PhotoOcclusionSynthesizer
from photo_helpers import draw_scene, write_photos
from repository_helpers import needs_shared
from training_helpers import masks_by_heart, run_main, saved_weights

SMALL = [
    "--use_rgb", "--block_out_channels", "8,16", "--sample_size", "32", "--patch_size", "2", "--train_batch_size", "4",
    "--validation_samples", "8", "--validation_fraction", "0.3", "--logging_steps", "1", "--min_area", "40",
    "--optimizer", "adamw", "--lr_scheduler", "warmup_stable_decay", "--max_train_steps", "4",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """With whole masks, which must not be looked at."""
    return write_photos(tmp_path_factory.mktemp("photos"), images=6)


@pytest.fixture
def finished(photos, shared_folder):
    folder = shared_folder / "asbu"
    if not folder.exists():
        run_main("train_asbu", "--dataset", photos, "--output_dir", folder, *SMALL, "--validation_steps", 2)
    return folder


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


def arguments(*more):
    from train_asbu import parse_arguments

    return parse_arguments(["--dataset", "x.json", "--output_dir", "x", *map(str, more)])


def test_leaves_a_pipeline_that_wants_the_photo(finished):
    pipe = AmodalPipeline.from_pretrained(finished)
    assert type(pipe) is ASBUPipeline and pipe.model.config.use_rgb
    photo, modal, _ = draw_scene(9)
    assert pipe(photo, modal).uncertainty.shape == modal.shape
    with pytest.raises(ValueError, match="`image` must be given"):
        pipe(None, modal)


def test_leaves_a_card_a_curve_and_pictures(finished):
    card = (finished / "README.md").read_text()
    for fact in ("4 updates of 4 samples", "modal masks in 5 photos", "front of 80% of the samples",
                 "opacity 0.8, 0.5 on its outline", "from a photo and its visible masks", "not on real"):  # fmt: skip
        assert fact in card
    assert "It sees masks, not the photo" not in card
    assert len(list((finished / "validation").glob("*.png"))) == 2
    curve = json.loads((finished / "learning_curve.json").read_text())
    assert [point["step"] for point in curve] == [2, 4] and {"miou", "inv_miou"} <= set(curve[-1])


def test_a_resumed_run_ends_with_the_same_weights(finished, photos, tmp_path):
    command = ["--dataset", photos, "--output_dir", tmp_path / "asbu", *SMALL, "--resume_from_checkpoint", "latest"]
    expected = saved_weights(finished)
    run_main("train_asbu", *command, "--stop_after_steps", 2)
    assert any(not torch.equal(value, expected[name]) for name, value in saved_weights(tmp_path / "asbu").items())
    run_main("train_asbu", *command)
    for name, value in saved_weights(tmp_path / "asbu").items():
        assert torch.equal(value, expected[name]), name


def prepared(photos, *more):
    """The task of the script with its data."""
    from train_asbu import ASBUPhotoTask

    command = ["--dataset", photos, *SMALL, *more]
    task = ASBUPhotoTask(arguments(*command))
    task.setup(Accelerator(cpu=True))
    return task


def test_masks_are_modal_alone(photos):
    bits = prepared(photos).synthesizer.synthesizer.bank.layers
    assert any(row["objects"][0]["amodal_mask"] for row in read_annotations(photos, photos.parent))
    assert torch.equal((bits & MODAL) > 0, (bits & AMODAL) > 0) and not (bits & OCCLUDER).any()


def test_the_eraser_is_what_is_seen_of_the_pasted_object(photos):
    task = prepared(photos)
    source, batch = task.synthesizer.synthesizer.sample(3, 32), task.synthesizer.sample(3, 32)
    assert torch.equal(batch.eraser, source.pasted) and torch.equal(batch.mask, source.modal)
    assert torch.equal(batch.target, source.amodal) and torch.equal(batch.image, source.image)
    hidden = (batch.target * (1 - batch.mask)).flatten(1).sum(1)
    shown = batch.eraser.flatten(1).sum(1)
    assert (hidden > 0).any() and ((hidden == 0) & (shown > 0)).any()  # in front, and behind
    assert not (batch.target * (1 - batch.mask) * (1 - batch.eraser)).any()
    assert not (batch.mask * batch.eraser).any()


def test_regions_are_hidden_by_the_real_objects(photos):
    bank = prepared(photos).synthesizer.synthesizer.bank
    recipe = boundary_synthesis(32, "improved")
    assert recipe.region_probability > 0 and boundary_synthesis(32, "published").region_probability == 0
    changed = type(recipe)(size=32, front_probability=0, region_probability=1, behind_probability=0)
    batch = PhotoBoundaries(PhotoOcclusionSynthesizer(bank, changed)).sample(0, 32)
    hidden = batch.target * (1 - batch.mask)
    assert hidden.any() and not (hidden * (1 - batch.eraser)).any()


@pytest.mark.parametrize(("recipe", "front"), [("published", 0.8), ("improved", 0.6)])
def test_every_sample_has_another_object_by_matting(recipe, front):
    config = boundary_synthesis(64, recipe)
    assert (config.size, config.matting, config.front_probability) == (64, (0.8, 0.5), front)
    assert config.front_probability + config.behind_probability == 1


def test_the_network_sees_mask_boundary_and_photo(photos):
    from amodal_diffusion.models.asbu import occluder_plane

    task = prepared(photos, "--occluder_input", "both")
    seen = {}
    task.model.register_forward_pre_hook(lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True)
    loss, _ = task.loss(task.model, 5, 4)
    batch = task.synthesizer.sample(5, 4)
    assert torch.equal(seen["boundary"], occluder_plane(batch.mask, batch.eraser, "both"))
    assert torch.equal(seen["mask"], batch.mask) and torch.equal(seen["image"], batch.image)
    with torch.no_grad():
        mean, spread = task.model(**task.inputs(batch)).logits.numpy().astype(np.float64).transpose(1, 0, 2, 3)
    uncertainty = np.log1p(np.exp(spread)) + 1e-6
    target, eraser = batch.target[:, 0].numpy(), batch.eraser[:, 0].numpy()
    error = target - 1 / (1 + np.exp(-mean))
    cost = ((error / uncertainty) ** 2 + (uncertainty - 1e-6) ** 2) / 2 * np.where(eraser > 0, 5, 1)
    assert loss.item() == pytest.approx(cost.mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--use_rgb", "--mask_network", "x"], "`--mask_network` does not go with `--use_rgb`: PCNet-M without RGB"),
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
    from train_asbu import ASBUPhotoTask, ASBUTask

    sizes = {"block_out_channels": (8, 16), "sample_size": 32}
    ASBUPipeline(ASBUPredictor(**sizes)).save_pretrained(tmp_path / "masks")
    with pytest.raises(ValueError, match="has a network with RGB: add `--use_rgb`"):
        ASBUTask(arguments("--pretrained_pipeline", finished))
    with pytest.raises(ValueError, match="has a network without RGB: leave out `--use_rgb`"):
        ASBUPhotoTask(arguments("--use_rgb", "--pretrained_pipeline", tmp_path / "masks"))
    task = ASBUPhotoTask(arguments("--use_rgb", "--pretrained_pipeline", finished))
    assert torch.equal(task.model.unet.conv_in[0].weight, saved_weights(finished)["unet.conv_in.0.weight"])


def test_classes_are_those_of_the_objects(photos, tmp_path):
    classes = write_photos(tmp_path, images=6, amodal=False, classes=3)
    task = prepared(classes, "--class_conditioned", "--recipe", "improved")
    source, batch = task.synthesizer.synthesizer.sample(2, 32), task.synthesizer.sample(2, 32)
    assert source.is_region.any() and (batch.category_ids[source.is_region] == 1).all()
    objects = ~source.is_region
    assert torch.equal(batch.category_ids[objects], source.category_ids[objects])
    assert len(batch.category_ids.unique()) > 1
    assert torch.equal(task.inputs(batch)["category_ids"], batch.category_ids)
    loss, _ = task.loss(task.model, 0, 4)
    assert torch.isfinite(loss)
    with pytest.raises(ValueError, match="`--class_conditioned`: .* have no category id"):
        prepared(photos, "--class_conditioned")


def test_data_sets_must_have_photos_to_split(photos, tmp_path):
    one = write_photos(tmp_path / "one", images=1)
    with pytest.raises(ValueError, match="`--dataset` must have at least 2 photos to hold some out, got 1"):
        run_main("train_asbu", "--dataset", one, "--output_dir", tmp_path / "out", *SMALL)
    read_annotations(photos).to_parquet(tmp_path / "bare" / "rows.parquet")
    with pytest.raises(ValueError, match="has no photos"):
        run_main("train_asbu", "--dataset", tmp_path / "bare", "--output_dir", tmp_path / "out", *SMALL)


@pytest.mark.slow
@needs_shared
def test_learns_a_few_real_photos_by_heart(tmp_path):
    """Eight objects of real photos, most behind another one that was pasted, in three times PCNet-M's updates."""
    assert masks_by_heart("train_asbu", "ASBUPhotoTask", tmp_path, 600, photos=True) >= 90
