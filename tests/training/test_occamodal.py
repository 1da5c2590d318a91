"""`training/train_occamodal.py`: both stages, exact resumption, pseudo-labels, the card, errors, and overfitting."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from amodal_diffusion import AmodalPipeline, EfficientNetLite0
from amodal_diffusion.evaluation import evaluate_methods, load_methods
from photo_helpers import draw_scene, tiny_predictor, write_photos
from pipeline_helpers import tiny_model, tiny_pipeline
from repository_helpers import SHARED, needs_shared
from training_helpers import run_main

SMALL = [
    "--recipe", "improved", "--block_out_channels", "4,8,8", "--reduced_channels", "4", "--sample_size", "32",
    "--patch_size", "2",
    "--image_hidden_sizes", "4,8,8,8", "--image_embedding_size", "4", "--image_feature_stages", "4,2",
    "--train_batch_size", "4", "--validation_samples", "8", "--validation_fraction", "0.3", "--min_area", "40",
    "--logging_steps", "1", "--use_ema", "--optimizer", "adamw", "--max_grad_norm", "1", "--max_train_steps", "4",
    "--lr_scheduler", "warmup_stable_decay",
]  # fmt: skip
SCRIPT = "train_occamodal"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), images=6)


@pytest.fixture(scope="module")
def modal_photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("modal"), images=4, amodal=False)


@pytest.fixture(scope="module")
def occluder_run(photos, modal_photos, tmp_path_factory):
    """Stage 1 on whole masks and on pseudo-labels."""
    folder = tmp_path_factory.mktemp("runs")
    tiny_pipeline().save_pretrained(folder / "pcnet-m")
    run_main(
        SCRIPT, "--stage", "occluder", "--dataset", photos, modal_photos, "--pseudo_labels", folder / "pcnet-m",
        "--output_dir", folder / "occluder", *SMALL, "--validation_steps", "2",
    )  # fmt: skip
    return folder / "occluder"


@pytest.fixture(scope="module")
def amodal_run(photos, occluder_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "occamodal"
    arguments = ["--dataset", photos, "--occluder_predictor", occluder_run, "--output_dir", folder, *SMALL]
    run_main(SCRIPT, "--stage", "amodal", *arguments, "--checkpointing_steps", "2", "--save_dtype", "float16")
    return folder


def weights(folder, network="amodal_predictor"):
    return load_file(folder / network / "diffusion_pytorch_model.safetensors")


def test_stage_occluder_leaves_a_pipeline(occluder_run):
    pipeline = AmodalPipeline.from_pretrained(occluder_run)
    assert pipeline.amodal_predictor is None
    assert pipeline.occluder_predictor.config.mask_channels == 1
    curve = json.loads((occluder_run / "learning_curve.json").read_text())
    assert [point["step"] for point in curve] == [2, 4] and "occluder_iou" in curve[0]
    card = (occluder_run / "README.md").read_text()
    for fact in ("4 updates of 4 samples (16 samples)", "pcnet-m", "--stage occluder", "in 5 photos", "45%"):
        assert fact in card


def test_stage_amodal_leaves_both_networks(occluder_run, amodal_run):
    pipeline = AmodalPipeline.from_pretrained(amodal_run)
    photo, modal, _ = draw_scene(0)
    output = pipeline(photo, modal)
    assert output.amodal_masks.shape == modal.shape and output.uncertainty is not None
    before, after = weights(occluder_run, "occluder_predictor"), weights(amodal_run, "occluder_predictor")
    for name, value in before.items():  # frozen, and stored in half precision by `--save_dtype`
        assert after[name].dtype in (torch.float16, torch.int64)
        assert torch.equal(value.to(after[name].dtype), after[name]), name
    curve = json.loads((amodal_run / "learning_curve.json").read_text())
    assert {"miou", "inv_miou"} <= set(curve[-1])
    assert list((amodal_run / "validation").glob("*.png"))


def test_checkpoints_hold_the_trained_network_alone(amodal_run):
    stored = load_file(amodal_run / "checkpoint-4" / "model.safetensors")
    assert (
        stored.keys()
        == tiny_predictor(2, image_hidden_sizes=(4, 8, 8, 8), image_depths=(2, 2, 2, 2)).state_dict().keys()
    )


def test_a_resumed_run_ends_with_the_same_weights(photos, occluder_run, amodal_run, tmp_path):
    folder = tmp_path / "occamodal"
    arguments = ["--dataset", photos, "--occluder_predictor", occluder_run, "--output_dir", folder, *SMALL]
    arguments += ["--resume_from_checkpoint", "latest", "--save_dtype", "float16"]
    run_main(SCRIPT, "--stage", "amodal", *arguments, "--stop_after_steps", 2)
    assert any(not torch.equal(value, weights(amodal_run)[name]) for name, value in weights(folder).items())
    run_main(SCRIPT, "--stage", "amodal", *arguments)
    for name, value in weights(folder).items():
        assert torch.equal(value, weights(amodal_run)[name]), name


@pytest.fixture
def script():
    """The module of the script, in this process."""
    import train_occamodal

    return train_occamodal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "amodal"], "`--occluder_predictor` must name the pipeline of `--stage occluder`"),
        (["--predicted_occluders", "1.5"], r"`--predicted_occluders` must lie in \[0, 1\], got 1.5"),
        (["--validation_fraction", "0"], r"`--validation_fraction` must lie in \(0, 1\), got 0"),
        (["--mask_network", "x"], "`--mask_network` is for `--stage amodal`"),
        (["--images", "a", "b"], "`--images` must have one folder for each of the 1 data sets, got 2"),
        (["--front_probability", "2"], r"`front_probability` must lie in \[0, 1\], got 2"),
        (["--patch_size", "3"], "`patch_size` must divide `sample_size`"),
        (["--image_feature_stages", "5"], "`image_feature_stages` must lie in 1 to 4"),
    ],
)
def test_bad_values_are_refused_by_name(script, photos, tmp_path, arguments, message):
    command = ["--stage", "occluder", "--dataset", str(photos), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(ValueError, match=message):
        script.main([*command, *SMALL, *arguments])


def test_wrong_pipelines_are_named(script, photos, occluder_run, tmp_path):
    tiny_pipeline().save_pretrained(tmp_path / "pcnet-m")
    command = ["--dataset", str(photos), "--output_dir", str(tmp_path / "out"), *SMALL]
    with pytest.raises(
        ValueError, match="`--occluder_predictor` .* must be an OccAmodalPipeline, got PCNetMaskPipeline"
    ):
        script.main(["--stage", "amodal", *command, "--occluder_predictor", str(tmp_path / "pcnet-m")])
    arguments = ["--occluder_predictor", str(occluder_run), "--pretrained_pipeline", str(occluder_run)]
    with pytest.raises(ValueError, match="has no amodal predictor"):
        script.main(["--stage", "amodal", *command, *arguments])
    with pytest.raises(ValueError, match="`--mask_network` .* must be a PCNetMaskPipeline"):
        script.main(["--stage", "amodal", *command, *arguments[:2], "--mask_network", str(occluder_run)])
    with pytest.raises(ValueError, match="`--sample_size` must be that of `--occluder_predictor`, 32, got 64"):
        script.main(["--stage", "amodal", *command, *arguments[:2], "--sample_size", "64"])


@pytest.mark.parametrize("stages", [(2, 1), (2,), (2, 2, 1)])
def test_starts_as_a_network_of_masks(stages):
    sizes = {"block_out_channels": (4, 8, 8), "patch_size": 2}
    network = tiny_model(**sizes)
    for module in network.modules():  # statistics that are not those of a new network
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    model = tiny_predictor(2, image_feature_stages=stages, **sizes)
    model.load_mask_network(network)
    mask, boundary = ((torch.rand(2, 1, 32, 32) > 0.5).float() for _ in range(2))
    with torch.no_grad():
        answer = model(mask, torch.randn(2, 3, 32, 32), boundary).logits[:, 0].sigmoid()
        expected = network(mask, boundary).logits.softmax(1)[:, 1]
    torch.testing.assert_close(answer, expected)
    model.train()
    model(mask, torch.randn(2, 3, 32, 32), boundary).logits.sum().backward()
    reduced = model.unet.up_blocks[0].conv[0].weight.grad[:, -4:]  # those on the features learn from the first step
    assert reduced.abs().sum() > 0


def test_mask_networks_must_fit():
    with pytest.raises(ValueError, match="`network` must have `block_out_channels`"):
        tiny_predictor(2).load_mask_network(tiny_model(block_out_channels=(4, 8)))
    with pytest.raises(ValueError, match="`network` must have `patch_size` 1, got 2"):
        tiny_predictor(2).load_mask_network(tiny_model(patch_size=2))
    with pytest.raises(ValueError, match="must take two mask planes and no photo"):
        tiny_predictor(2).load_mask_network(tiny_model(use_rgb=True))
    with pytest.raises(ValueError, match="Only a predictor with 2 mask planes"):
        tiny_predictor(1).load_mask_network(tiny_model())


def test_unnamed_occluders_are_predicted(script, occluder_run, tmp_path):
    """Of MP3D-Amodal's photos nobody knows what hides the object: the second network must not see an empty boundary."""
    from accelerate import Accelerator

    photos = write_photos(tmp_path, images=6, keep=1)  # each with its hindmost object alone
    command = ["--stage", "amodal", "--dataset", str(photos), "--occluder_predictor", str(occluder_run)]
    command += ["--output_dir", str(tmp_path / "out"), *SMALL, "--predicted_occluders", "0"]
    nothing = ["--front_probability", "0", "--behind_probability", "0", "--region_probability", "0"]
    task = script.OccAmodalTask(script.parse_arguments([*command, *nothing]))
    task.setup(Accelerator(cpu=True))
    batch = task.synthesizer.sample(0, 32)
    unnamed = batch.unexplained
    assert unnamed.any() and torch.equal(unnamed, batch.hidden.flatten(1).any(1)) and not batch.occluder.any()
    shown = task._shown_occluder(batch, 32)
    assert torch.equal(shown[unnamed], task._predict_occluders(batch.modal[unnamed], batch.image[unnamed]))
    assert shown[unnamed].any() and not shown[~unnamed].any()


@pytest.mark.parametrize(("weights", "message"), [
    (["1"], "`--dataset_weights` must be 2 non-negative numbers"), (["-1", "2"], "`--dataset_weights` must be 2"),
])  # fmt: skip
def test_data_sets_are_mixed_as_asked(script, photos, modal_photos, tmp_path, weights, message):
    from accelerate import Accelerator

    command = ["--stage", "occluder", "--dataset", str(photos), str(modal_photos)]
    command += ["--output_dir", str(tmp_path / "out"), *SMALL, "--dataset_weights"]
    task = script.OccAmodalTask(script.parse_arguments([*command, "0", "1"]))
    task.setup(Accelerator(cpu=True))
    assert (task.synthesizer.bank.sources[task.synthesizer._plan(64).objects] == 1).all()
    with pytest.raises(ValueError, match=message):
        script.main([*command, *weights])


def test_data_without_photos_is_named(script, tmp_path):
    from training_helpers import write_coco

    path = write_coco(tmp_path / "masks.json")  # whose photos do not exist
    with pytest.raises((ValueError, FileNotFoundError), match=r"masks\.json|photo"):
        script.main(["--stage", "occluder", "--dataset", str(path), "--output_dir", str(tmp_path / "out"), *SMALL])


def test_efficientnet_looks_at_the_photos(photos, tmp_path, monkeypatch):
    torch.manual_seed(5)
    stored = EfficientNetLite0()
    monkeypatch.setattr(EfficientNetLite0, "from_package", classmethod(lambda kind: stored))
    arguments = ["--stage", "occluder", "--dataset", photos, "--output_dir", tmp_path / "run", *SMALL]
    arguments += ["--image_encoder", "efficientnet-lite0", "--image_feature_stages", "4,3", "--learning_rate", "1e-12"]
    run_main(SCRIPT, *arguments)
    network = AmodalPipeline.from_pretrained(tmp_path / "run").occluder_predictor
    assert network.config.image_encoder_type == "efficientnet-lite0"
    for name, value in stored.named_parameters():
        torch.testing.assert_close(network.image_encoder.get_parameter(name), value)


def test_a_frozen_efficientnet_learns_nothing_and_the_rest_does(photos, tmp_path, monkeypatch):
    torch.manual_seed(5)
    stored = EfficientNetLite0()
    monkeypatch.setattr(EfficientNetLite0, "from_package", classmethod(lambda kind: stored))
    arguments = ["--stage", "occluder", "--dataset", photos, "--output_dir", tmp_path / "run", *SMALL]
    arguments += ["--freeze_image_encoder", "--learning_rate", "1e-2"]
    with pytest.raises(ValueError, match="`--freeze_image_encoder` is for EfficientNet-lite0"):
        run_main(SCRIPT, *arguments)
    run_main(SCRIPT, *arguments, "--image_encoder", "efficientnet-lite0", "--image_feature_stages", "4,3")
    network = AmodalPipeline.from_pretrained(tmp_path / "run").occluder_predictor
    for name, value in stored.state_dict().items():
        assert torch.equal(network.image_encoder.state_dict()[name], value)
    assert any(float(value.std()) > 0 for name, value in network.named_parameters() if name.endswith("conv_in.1.bias"))


def test_image_encoder_by_folder(tmp_path):
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(5)
    config = {"layer_type": "basic", "hidden_sizes": [4, 8], "depths": [1, 1], "embedding_size": 4}
    encoder = ResNetModel(ResNetConfig(**config))
    encoder.save_pretrained(tmp_path / "resnet")
    model = tiny_predictor()
    model.load_image_encoder(str(tmp_path / "resnet"))
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, model.image_encoder.state_dict()[name])
    with pytest.raises(ValueError, match="does not fit the image encoder of this network"):
        tiny_predictor(image_hidden_sizes=(8, 8)).load_image_encoder(str(tmp_path / "resnet"))
    with pytest.raises(OSError, match="nowhere"):
        model.load_image_encoder(str(tmp_path / "nowhere"))


@pytest.mark.slow
@needs_shared
def test_overfits_real_photos(script, tmp_path):
    """A tiny network learns the whole masks of a handful of real photos by heart."""
    from trainer.photo_sources import read_photo_sources

    from amodal_diffusion.data.samplers import split_photos

    folder = SHARED / "amodal_gt"
    small = [
        "--dataset", str(folder / "annotations.json"), "--images", str(folder / "images"), "--sample_size", "64",
        "--recipe", "improved", "--block_out_channels", "16,32,64,64", "--reduced_channels", "32", "--patch_size", "2",
        "--image_hidden_sizes", "16,32,64,64", "--image_embedding_size", "16", "--image_feature_stages", "4,3,2,1",
        "--train_batch_size", "16", "--min_area", "1500", "--validation_samples", "64", "--validation_fraction", "0.2",
        "--front_probability", "0", "--behind_probability", "0", "--region_probability", "0",
        "--optimizer", "adamw", "--learning_rate", "3e-3", "--lr_scheduler", "one_cycle", "--max_grad_norm", "1",
        "--validation_steps", "0", "--max_train_steps", "600", "--crop", "bilinear",
    ]  # fmt: skip
    script.main(["--stage", "occluder", "--output_dir", str(tmp_path / "occluder"), *small])
    arguments = ["--occluder_predictor", str(tmp_path / "occluder"), "--output_dir", str(tmp_path / "whole"), *small]
    script.main(["--stage", "amodal", *arguments])
    pipeline = AmodalPipeline.from_pretrained(tmp_path / "whole")
    rows = split_photos(read_photo_sources(script.parse_arguments(["--stage", "amodal", *arguments]))[0], 0.2)[0]
    report = evaluate_methods(rows, load_methods([str(tmp_path / "whole")]))
    scores = next(iter(report.completion.values()))
    assert pipeline.config.crop == "bilinear"
    assert scores["miou_pooled"] >= 0.95
    assert np.isfinite(scores["inv_miou_pooled"])
