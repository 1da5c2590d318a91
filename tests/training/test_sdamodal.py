"""`training/train_sdamodal.py`: whole runs, exact resumption, frozen Stable Diffusion, errors, overfitting."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, safe_open
from trainer.true_masks import TrueMaskBatch, first_objects, pooled_counts

from amodal_diffusion import AmodalPipeline, PCNetMask, PCNetMaskPipeline
from amodal_diffusion.data.samplers import Photo
from diffusion_helpers import tiny_stable_diffusion
from photo_helpers import draw_scene, write_photos
from repository_helpers import SHARED, needs_shared
from training_helpers import run_main, run_script

SMALL = [
    "--resolution", "64", "--num_draws", "2", "--block_out_channels", "4,8,8,8", "--reduced_channels", "4",
    "--sample_size", "32", "--train_batch_size", "4", "--images_per_batch", "2", "--max_train_steps", "4",
    "--logging_steps", "1", "--optimizer", "adamw", "--lr_scheduler", "cosine", "--validation_fraction", "0.3",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of a tiny Stable Diffusion `sd` and of two data sets `a` and `b`."""
    folder = tmp_path_factory.mktemp("data")
    tiny_stable_diffusion().save_pretrained(folder / "sd")
    write_photos(folder / "a", images=5)
    write_photos(folder / "b", images=3, first=50)
    return folder


def data_arguments(data, *names):
    names = names or ("a", "b")
    arguments = ["--stable_diffusion", data / "sd", "--dataset", *(data / name / "annotations.json" for name in names)]
    return [str(part) for part in [*arguments, "--images", *(data / name for name in names)]]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run of four steps that was never stopped, with a cache."""
    folder = tmp_path_factory.mktemp("whole") / "sdamodal"
    run_main(
        "train_sdamodal", *data_arguments(data), *SMALL, "--output_dir", folder, "--dataset_weights", 0.9, 0.1,
        "--validation_steps", 2, "--checkpointing_steps", 2, "--cache_features", folder.parent / "cache",
    )  # fmt: skip
    return folder


@pytest.fixture
def script():
    """The script's module, to run in this process."""
    import train_sdamodal

    return train_sdamodal


def run(script, *arguments):
    return script.train(script.SDAmodalTask, script.parse_arguments([str(part) for part in arguments]))


def weights(folder):
    return load_file(folder / "decoder" / "diffusion_pytorch_model.safetensors")


def same(first, second):
    first, second = weights(first), weights(second)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# Whole runs


def test_leaves_a_light_pipeline_with_card_curve_and_pictures(finished, data):
    assert sorted(path.name for path in finished.iterdir() if path.is_dir()) == [
        "checkpoint-2",
        "checkpoint-4",
        "decoder",
        "validation",
    ]
    pipe = AmodalPipeline.from_pretrained(finished)
    photo, modal, _ = draw_scene(50)
    output = pipe(photo, modal)
    assert output.amodal_masks.shape == modal.shape
    assert output.amodal_masks[0].any()
    settings = pipe.config
    assert settings.stable_diffusion == str(data / "sd")
    assert (settings.time_step, settings.num_draws, settings.noise_seed, settings.resolution) == (181, 2, 0, 64)
    assert (settings.up_blocks, settings.feature_crop, settings.enlarge_box) == ("0,1,2,3", "cells", 3.0)
    assert pipe.decoder.config.feature_channels == list(pipe.extractor.feature_channels)
    card = (finished / "README.md").read_text()
    for fact in (
        "4 updates of 4 samples (16 samples)",
        "a/annotations.json: ",
        "drawn in the ratio 0.9 : 0.1",
        "photos to train on",
        "time step 181, 2 noise draws, 64 pixels",
        "train_sdamodal.py",
        "| step |",
    ):
        assert fact in card
    curve = json.loads((finished / "learning_curve.json").read_text())
    assert [point["step"] for point in curve] == [2, 4]
    assert all(0 <= curve[-1][name] <= 100 for name in ("miou", "inv_miou"))
    with Image.open(finished / "validation" / "objects-000004.png") as picture:
        assert picture.height == 64
        assert picture.width % 32 == 0


def test_checkpoints_hold_the_decoder_alone(finished):
    decoder = weights(finished)
    names = sorted(path.name for path in (finished / "checkpoint-4").rglob("*") if path.is_file())
    assert names == ["model.safetensors", "model_optimizer.safetensors", "random.safetensors", "state.json"]
    with safe_open(finished / "checkpoint-4" / "model.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(decoder)
    groups = json.loads((finished / "checkpoint-4" / "state.json").read_text())["optimizers"]["model"]["groups"]
    trained = [name for name in decoder if name.endswith(("weight", "bias"))]
    moments = load_file(finished / "checkpoint-4" / "model_optimizer.safetensors")
    assert len([name for name in moments if name.endswith(".exp_avg")]) == groups[0]["params"] == len(trained)


def test_a_resumed_run_ends_with_the_same_weights_with_and_without_the_rest_of_the_cache(
    finished, data, tmp_path, script
):
    folder = tmp_path / "sdamodal"
    arguments = [*data_arguments(data), *SMALL, "--output_dir", folder, "--dataset_weights", 0.9, 0.1]
    arguments += ["--cache_features", tmp_path / "cache", "--resume_from_checkpoint", "latest"]
    run(script, *arguments, "--stop_after_steps", 2)
    assert not same(folder, finished)
    next((tmp_path / "cache").glob("*.safetensors")).unlink()  # as after a kill: made anew
    run(script, *arguments)
    assert same(folder, finished)


def test_two_processes_fill_the_cache_and_train_together(data, tmp_path):
    folder = tmp_path / "sdamodal"
    arguments = [*data_arguments(data, "a"), *SMALL, "--output_dir", folder, "--cache_features", tmp_path / "cache"]
    run_script("train_sdamodal.py", *arguments, "--max_train_steps", 2, processes=2)
    assert "2 updates of 8 samples (16 samples)" in (folder / "README.md").read_text()
    keys = []
    for shard in (tmp_path / "cache").glob("*.safetensors"):
        with safe_open(shard, framework="pt") as file:
            keys.append([photo["key"] for photo in json.loads(file.metadata()["photos"])])
    assert sorted(len(part) for part in keys) == [2, 3]  # a shard a process, of different photos
    assert len(set(sum(keys, []))) == 5


def test_stable_diffusion_stays_as_it_was(script, data, tmp_path):
    before = {name: load_file(next((data / "sd" / name).glob("*.safetensors"))) for name in ("unet", "vae")}
    done = run(script, *data_arguments(data), *SMALL, "--output_dir", tmp_path / "out", "--learning_rate", 0.1)
    extractor = done.task.extractor
    for name, module in {"unet": extractor.unet, "vae": extractor.vae}.items():
        assert not any(parameter.requires_grad for parameter in module.parameters())
        assert all(parameter.grad is None for parameter in module.parameters())
        found = module.state_dict()
        assert found.keys() == before[name].keys()
        assert all(torch.equal(found[key], value) for key, value in before[name].items())
    trained = {id(parameter) for group in done.optimizer.param_groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in done.task.model.parameters()}
    assert len(done.accelerator._models) == 1
    assert done.accelerator._models[0] is done.model


def test_features_on_the_fly_and_from_the_cache_train_nearly_alike(script, data, tmp_path):
    losses = []
    for name, more in {"fly": [], "cache": ["--cache_features", tmp_path / "features"]}.items():
        arguments = script.parse_arguments(
            [*data_arguments(data), *SMALL, "--output_dir", str(tmp_path / name), *map(str, more)]
        )
        task = script.SDAmodalTask(arguments)
        from accelerate import Accelerator

        task.setup(Accelerator())
        task.model.eval()
        losses.append([task.loss(task.model, step, 4)[0].item() for step in range(3)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    assert losses[0] != losses[1]  # rounded to bfloat16


def test_the_loss_is_cross_entropy_of_both_outputs(script, data, tmp_path):
    """Of every pixel alike [Z24], of the decoder's answer to the batch that the task draws."""
    from accelerate import Accelerator

    task = script.SDAmodalTask(script.parse_arguments([*data_arguments(data), *SMALL, "--output_dir", str(tmp_path)]))
    task.setup(Accelerator())
    task.model.eval()
    batch = task._batch(task.batches(1, 4))
    seen = task.model(mask=batch.mask, **batch.seen).logits.double()
    assert seen.shape == (4, 2, 32, 32) and batch.target.shape == (4, 32, 32)
    right = (seen.exp() / seen.exp().sum(1, keepdim=True)).gather(1, batch.target[:, None])
    found = task.loss(task.model, 1, 4)[0]
    assert found.item() == pytest.approx(-right.log().mean().item(), rel=1e-5)


def test_continues_from_another_pipeline(finished, data, script, tmp_path):
    folder = tmp_path / "mine"
    arguments = [*data_arguments(data), *SMALL, "--output_dir", folder, "--pretrained_pipeline", finished]
    arguments[:2] = []  # its Stable Diffusion is that of the pipeline
    arguments[arguments.index("--resolution") : arguments.index("--resolution") + 4] = []  # and so are its settings
    arguments += ["--max_train_steps", 1, "--learning_rate", 1e-12, "--feature_crop", "align", "--time_step", 9]
    run(script, *arguments, "--up_blocks", 0, 1, 2, 3, "--enlarge_box", 2)
    expected = weights(finished)
    for name, value in weights(folder).items():
        if name.endswith(("weight", "bias")):
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)
    settings = AmodalPipeline.from_pretrained(folder).config
    assert (settings.stable_diffusion, settings.num_draws, settings.resolution) == (str(data / "sd"), 2, 64)
    assert (settings.feature_crop, settings.time_step, settings.enlarge_box) == ("align", 9, 2.0)


def test_an_own_validation_set_leaves_all_photos_to_train_on(script, data, tmp_path):
    arguments = [*data_arguments(data, "a"), *SMALL, "--output_dir", tmp_path / "out", "--max_train_steps", 1]
    arguments += ["--validation_dataset", data / "b" / "annotations.json", "--validation_images", data / "b"]
    done = run(script, *arguments, "--validation_samples", 2)
    assert len(done.task.sampler.photos) == 5
    assert sum(len(photo.objects) for photo in done.task.validation) == 2
    assert "(b/annotations.json)" in (tmp_path / "out" / "README.md").read_text()


# Parts


def test_pooled_counts_are_in_pixels_of_the_photo():
    mask = torch.zeros(2, 1, 4, 4)
    target = torch.zeros(2, 4, 4, dtype=torch.int64)
    probability = torch.zeros(2, 1, 4, 4)
    mask[:, :, 0], target[:, :2], probability[:, :, 1:3] = 1, 1, 0.9
    target[1, 2] = 1
    boxes = torch.tensor([[0, 0, 4, 4], [3, 5, 8, 8]])
    counts = pooled_counts(probability, TrueMaskBatch(mask, target, {}), boxes)
    # The first: truth 8 pixels, predicted 12. The second: truth 12 and predicted 12, each covers 2 x 2 of the photo.
    assert counts.tolist() == [8 + 12 * 4, 12 + 12 * 4, 4 + 8 * 4, 8 + 8 * 4]


def test_validation_takes_as_many_objects_as_asked_for():
    photos = [Photo(str(row), 0, row, tuple(range(3)), str(row)) for row in range(10)]
    for limit in (1, 4, 9, 100):
        chosen = first_objects(photos, limit)
        assert sum(len(photo.objects) for photo in chosen) == min(limit, 30)
        assert len({photo.row for photo in chosen}) == len(chosen)
    assert first_objects(photos, 9) == first_objects(photos, 9)


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train_batch_size", "0"], "`--train_batch_size` must be at least 1, got 0"),
        (["--validation_fraction", "1.5"], r"`--validation_fraction` must lie in \(0, 1\), got 1.5"),
        (["--min_area", "0"], "`--min_area` must be at least 1, got 0"),
        (["--validation_samples", "0"], "`--validation_samples` must be at least 1, got 0"),
        (["--images_per_batch", "-1"], "`--images_per_batch` must not be negative, got -1"),
        (["--min_occlusion_rate", "1"], r"`--min_occlusion_rate` must lie in \[0, 1\), got 1.0"),
        (["--box_shift", "-0.1"], r"`--box_shift` must lie in \[0, 1\), got -0.1"),
        (["--box_scale", "1"], r"`--box_scale` must lie in \[0, 1\), got 1.0"),
        (["--rebuild_cache"], "`--rebuild_cache` needs `--cache_features`"),
        (["--time_step", "1000"], r"`time_step` must lie in \[0, 1000\)"),
        (["--resolution", "65"], "`resolution` must be a multiple of 16"),
        (["--up_blocks", "0", "4"], r"`up_blocks` must lie in \[0, 4\)"),
        (["--dataset_weights", "1"], "`--dataset_weights` must hold one weight for each of the 2 data sets"),
        (["--min_area", "9999999"], "has no usable object: .* fewer than 9999999 visible pixels"),
        (["--images", "nowhere", "nowhere"], "images must be a folder of photos, got 'nowhere'"),
        (["--images", "one"], "`--images` must name one folder for each of the 2 data sets"),
    ],
)
def test_bad_values_are_refused_by_name(script, data, tmp_path, arguments, message):
    with pytest.raises((ValueError, NotADirectoryError), match=message):
        run(script, *data_arguments(data), *SMALL, "--output_dir", tmp_path / "out", *arguments)


def test_stable_diffusion_must_be_named(script, data, tmp_path):
    arguments = data_arguments(data)[2:]
    with pytest.raises(ValueError, match="`--stable_diffusion` must be given, or else `--pretrained_pipeline`"):
        run(script, *arguments, "--output_dir", tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no folder '.*nowhere'"):
        run(script, *arguments, "--stable_diffusion", tmp_path / "nowhere", "--output_dir", tmp_path)


def test_another_kind_of_pipeline_is_refused(script, data, tmp_path):
    PCNetMaskPipeline(model=PCNetMask(block_out_channels=(4, 4), sample_size=32)).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="is a PCNetMaskPipeline, not an SDAmodalPipeline"):
        run(script, *data_arguments(data), "--output_dir", tmp_path, "--pretrained_pipeline", tmp_path / "other")


def test_a_pipeline_that_does_not_name_its_stable_diffusion_needs_the_flag(finished, script, data, tmp_path):
    whole = AmodalPipeline.from_pretrained(finished)
    whole.register_to_config(stable_diffusion=None)
    whole.save_pretrained(tmp_path / "whole", include_stable_diffusion=True)
    arguments = [*data_arguments(data)[2:], "--output_dir", tmp_path, "--pretrained_pipeline", tmp_path / "whole"]
    with pytest.raises(ValueError, match="`--stable_diffusion` must be given: .*whole does not say where"):
        run(script, *arguments)


def test_a_stale_cache_is_refused_by_name(finished, script, data, tmp_path):
    arguments = [*data_arguments(data), *SMALL, "--output_dir", tmp_path / "out"]
    arguments += ["--cache_features", finished.parent / "cache", "--noise_seed", 5]
    with pytest.raises(ValueError, match="noise_seed: the cache has 0, this run 5. Take another folder, or .*rebuild"):
        run(script, *arguments)


def test_bad_photos_are_skipped_or_refused_as_asked_for(script, data, tmp_path, caplog):
    folder = tmp_path / "c"
    write_photos(folder, images=4)
    with Image.open(folder / "2.png") as photo:
        photo.save(folder / "2.jpg")
    (folder / "2.jpg").write_bytes((folder / "2.jpg").read_bytes()[:-500])  # its header says the right size
    path = folder / "annotations.json"
    path.write_text(path.read_text().replace("2.png", "2.jpg"))
    arguments = [*data_arguments(data)[:2], "--dataset", folder / "annotations.json", "--images", folder, *SMALL]
    arguments += ["--validation_dataset", data / "b" / "annotations.json", "--validation_images", data / "b"]
    run(script, *arguments, "--output_dir", tmp_path / "skip")
    assert "image 3: photo '2.jpg' cannot be read" in caplog.text
    with pytest.raises(ValueError, match=r"annotations\.json: image 3: photo '2\.jpg' cannot be read"):
        run(script, *arguments, "--output_dir", tmp_path / "raise", "--on_error", "raise")


# Real photos


@pytest.mark.slow
@needs_shared
def test_overfits_a_handful_of_real_photos(script, data, tmp_path):
    real = ["--dataset", SHARED / "amodal_gt" / "annotations.json", "--images", SHARED / "amodal_gt" / "images"]
    arguments = ["--stable_diffusion", data / "sd", *real, "--output_dir", tmp_path / "out"]
    arguments += [part.replace("--dataset", "--validation_dataset").replace("--images", "--validation_images")
                  for part in map(str, real)]  # fmt: skip
    arguments += ["--resolution", 64, "--num_draws", 2, "--cache_features", tmp_path / "cache", "--sample_size", 64]
    arguments += ["--block_out_channels", "16,24,32,48", "--reduced_channels", 16, "--min_area", 1]
    arguments += ["--train_batch_size", 16, "--images_per_batch", 0, "--optimizer", "adamw", "--learning_rate", 3e-3]
    arguments += ["--lr_scheduler", "one_cycle", "--max_train_steps", 250, "--validation_steps", 0]
    done = run(script, *arguments, "--checkpointing_steps", 250)
    figures = done.state.history[-1]
    assert figures["miou"] >= 95, figures
    assert figures["inv_miou"] >= 80, figures
