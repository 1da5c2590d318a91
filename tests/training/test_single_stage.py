"""`training/train_single_stage.py`: with the photo and without, exact resumption, the loss, errors, overfitting."""

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from amodal_diffusion import AmodalPipeline, SingleStagePipeline
from amodal_diffusion.crops import crop_boxes, crop_images, crop_masks
from amodal_diffusion.images import image_to_tensor, normalize_images
from amodal_diffusion.masks import mask_boxes
from photo_helpers import draw_scene, write_photos
from pipeline_helpers import tiny_pipeline
from repository_helpers import SHARED, needs_shared
from training_helpers import run_main, saved_weights

SCRIPT = "train_single_stage"
SMALL = [
    "--recipe", "improved", "--block_out_channels", "4,8,8", "--reduced_channels", "4", "--sample_size", "32",
    "--image_hidden_sizes", "4,8,8,8", "--image_embedding_size", "4", "--train_batch_size", "4",
    "--validation_fraction", "0.3", "--min_area", "40", "--max_train_steps", "4", "--logging_steps", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), images=6)


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "single"
    given = ["--dataset", photos, "--images", photos.parent, "--output_dir", folder, "--checkpointing_steps", 2]
    run_main(SCRIPT, *given, *SMALL)
    return folder


@pytest.fixture
def script():
    """The module of the script, in this process."""
    import train_single_stage

    return train_single_stage


def test_leaves_a_pipeline_with_card_curve_and_picture(finished):
    pipe = AmodalPipeline.from_pretrained(finished)
    photo, modal, _ = draw_scene(3)
    assert isinstance(pipe, SingleStagePipeline) and pipe.needs_image
    assert pipe(photo, modal).amodal_masks.shape == modal.shape
    card = (finished / "README.md").read_text()
    for fact in ("De-occlusion in one stage", "4 updates of 4 samples", "photos to train on", "train_single_stage.py"):
        assert fact in card
    assert {"miou", "inv_miou"} <= json.loads((finished / "learning_curve.json").read_text())[-1].keys()
    assert list((finished / "validation").glob("objects-*.png"))


def test_a_resumed_run_ends_with_the_same_weights(photos, finished, tmp_path):
    given = ["--dataset", photos, "--images", photos.parent, "--output_dir", tmp_path / "single", *SMALL]
    given += ["--resume_from_checkpoint", "latest"]
    run_main(SCRIPT, *given, "--stop_after_steps", 2)
    assert any(
        not torch.equal(value, saved_weights(finished)[name])
        for name, value in saved_weights(tmp_path / "single").items()
    )
    run_main(SCRIPT, *given)
    for name, value in saved_weights(tmp_path / "single").items():
        assert torch.equal(value, saved_weights(finished)[name]), name


def test_masks_alone_need_no_photos(photos, tmp_path):
    for photo in ("", *(f"{index}.png" for index in range(3))):  # which are not there
        path = tmp_path / "annotations.json"
        path.write_text(photos.read_text())
        assert not (tmp_path / photo).is_file()
    given = ["--masks_alone", "--dataset", path, "--output_dir", tmp_path / "masks", *SMALL, "--max_train_steps", 1]
    run_main(SCRIPT, *given)
    pipe = AmodalPipeline.from_pretrained(tmp_path / "masks")
    assert not pipe.needs_image and pipe.model.image_encoder is None
    _, modal, _ = draw_scene(3)
    assert pipe(None, modal).amodal_masks.shape == modal.shape
    assert "Supervised U-Net" in (tmp_path / "masks" / "README.md").read_text()


def test_the_loss_is_cross_entropy_on_crops_as_the_pipeline_makes_them(script, photos, tmp_path):
    """Against the crops of the package and the plain formula, for boxes that are not moved."""
    given = ["--dataset", str(photos), "--images", str(photos.parent), "--output_dir", str(tmp_path), *SMALL]
    still = ["--box_shift", "0", "--box_scale", "0", "--flip_probability", "0"]
    losses = {}
    for flip in ("0", "1"):
        task = script.SingleStageTask(script.parse_arguments([*given, *still[:-1], flip]))
        task.setup(Accelerator(cpu=True))
        model = task.model.eval()
        prepared = task._draw(0, 1)
        ((crops, _),) = prepared
        modal, amodal = task.objects.masks(crops.photo, list(_places(task, crops)))
        boxes = torch.from_numpy(crop_boxes(mask_boxes(modal)))
        seen, whole = (crop_masks(torch.from_numpy(masks), boxes, 32) for masks in (modal, amodal))
        image = crop_images(image_to_tensor(task.objects.image(crops.photo)), boxes, 32).clamp(0, 1)
        if flip == "1":
            seen, whole, image = (plane.flip(-1) for plane in (seen, whole, image))
        with torch.no_grad():
            logits = model(seen[:, None].float(), normalize_images(image)).logits.double()
            found = task.loss(model, 0, 1)[0].item()
        likely = logits.exp() / logits.exp().sum(1, keepdim=True)
        right = torch.where(whole, likely[:, 1], likely[:, 0])
        losses[flip] = found
        assert found == pytest.approx(float(-right.log().mean()), rel=1e-4)
    assert losses["0"] != losses["1"]


def _places(task, crops):
    """The objects whose boxes are those of the crops."""
    modal, _ = task.objects.masks(crops.photo, list(crops.photo.objects))
    boxes = crop_boxes(mask_boxes(modal))
    for box in crops.boxes.numpy():
        yield crops.photo.objects[int(np.flatnonzero((boxes == box).all(1))[0])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--flip_probability", "2"], r"`--flip_probability` must lie in \[0, 1\], got 2"),
        (["--box_scale", "1"], r"`--box_scale` must lie in \[0, 1\), got 1.0"),
        (["--validation_samples", "0"], "`--validation_samples` must be at least 1, got 0"),
        (["--min_area", "9999999"], "has no usable object: .* fewer than 9999999 visible pixels"),
        (["--dataset_weights", "1", "2"], "`--dataset_weights` must hold one weight for each of the 1 data sets"),
        (["--images", "a", "b"], "`--images` must name one folder for each of the 1 data sets"),
        (["--image_feature_stages", "5"], "`image_feature_stages` must lie in 1 to 4"),
    ],
)
def test_bad_values_are_refused_by_name(script, photos, tmp_path, arguments, message):
    given = ["--dataset", str(photos), "--images", str(photos.parent), "--output_dir", str(tmp_path / "out"), *SMALL]
    with pytest.raises(ValueError, match=message):
        script.main([*given, *arguments])


def test_wrong_pipelines_are_named(script, photos, finished, tmp_path):
    tiny_pipeline().save_pretrained(tmp_path / "pcnet-m")
    given = ["--dataset", str(photos), "--output_dir", str(tmp_path / "out"), *SMALL, "--pretrained_pipeline"]
    with pytest.raises(ValueError, match="`--pretrained_pipeline` .* must be a SingleStagePipeline"):
        script.main([*given, str(tmp_path / "pcnet-m")])
    with pytest.raises(ValueError, match="has a network with the photo: leave out `--masks_alone`"):
        script.main([*given, str(finished), "--masks_alone"])


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize("masks_alone", [False, True])
def test_overfits_a_handful_of_real_photos(script, tmp_path, masks_alone):
    """With the photo it learns what is hidden by heart; from masks alone nearly so, since these tell objects apart."""
    real = ["--dataset", SHARED / "amodal_gt" / "annotations.json", "--images", SHARED / "amodal_gt" / "images"]
    given = [*real, *(str(part).replace("--", "--validation_") for part in real)]
    given += ["--recipe", "improved", "--sample_size", 64, "--block_out_channels", "16,32,64,64", "--patch_size", 2]
    given += ["--reduced_channels", 32, "--image_hidden_sizes", "16,32,64,64", "--image_embedding_size", 16]
    given += ["--image_feature_stages", "4,3,2,1", "--box_shift", 0, "--box_scale", 0, "--flip_probability", 0]
    given += ["--min_area", 1500, "--train_batch_size", 16, "--learning_rate", 3e-3, "--max_train_steps", 400]
    given += ["--lr_scheduler", "one_cycle", "--validation_steps", 0, "--use_ema", "False"]
    given += ["--output_dir", tmp_path / "out", "--masks_alone", masks_alone]
    done = script.train(script.SingleStageTask, script.parse_arguments(list(map(str, given))))
    figures = done.state.history[-1]
    assert figures["miou"] >= 95 and figures["inv_miou"] >= 80, figures
