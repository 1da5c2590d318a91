"""`training/train_amodal_vae.py`: the three stages, what each freezes, resumption, samples, losses, errors."""

import importlib
import json
from types import SimpleNamespace

import pytest
import torch

from amodal_diffusion import AmodalPipeline, PCNetMask, PCNetMaskPipeline
from training_helpers import run_main, saved_weights, write_coco

SMALL = [
    "--recipe", "improved", "--block_out_channels", "8,16", "--sample_size", "16", "--latent_channels", "4",
    "--synthesis_size", "32",
    "--train_batch_size", "8", "--validation_samples", "8", "--validation_draws", "2", "--validation_fraction", "0.2",
    "--min_area", "50", "--logging_steps", "1", "--kl_warmup_steps", "2", "--use_ema", "--max_truncation", "1",
    "--category_sources", "0", "--num_categories", "2", "--box_probability", "0.5", "--box_weight", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("data") / "masks.json", images=16)


@pytest.fixture(scope="module")
def order_pipeline(tmp_path_factory):
    """PCNet-M with random weights: its order is arbitrary, but it is one."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("order") / "pcnet-m"
    network = PCNetMask(block_out_channels=(8, 16), sample_size=32, patch_size=2)
    PCNetMaskPipeline(model=network.eval(), order_threshold=0.5).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def finished(coco, order_pipeline, tmp_path_factory):
    """All three stages in one run."""
    folder = tmp_path_factory.mktemp("whole") / "amodal-vae"
    arguments = ["--order_pipeline", order_pipeline, "--stage", "all", "--stage_steps", "4,3,2"]
    arguments += ["--stage_learning_rates", "1e-3", "1e-3", "1e-4"]
    run_main("train_amodal_vae", "--dataset", coco, "--output_dir", folder, *SMALL, *arguments)
    return folder


def script():
    return importlib.import_module("train_amodal_vae")


def changed(before, after):
    """Names of the parts of the network that differ."""
    return {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}


def test_every_stage_leaves_a_pipeline(finished):
    for folder, steps in ((finished / "stage1", 4), (finished / "stage2", 3), (finished, 2)):
        pipe = AmodalPipeline.from_pretrained(folder)
        assert type(pipe).__name__ == "AmodalVAEPipeline"
        assert pipe.model.config.num_categories == 2
        card = (folder / "README.md").read_text()
        assert f"{steps} updates of 8 samples" in card
        assert "complete and" in card
        assert "Category ids known from" in card
        assert json.loads((folder / "learning_curve.json").read_text())[-1]["step"] == steps
        assert list((folder / "validation").glob("*.png"))
    shapes = json.loads((finished / "stage1" / "learning_curve.json").read_text())[-1]
    assert {"reconstruction_iou", "kl", "used_dimensions"} <= set(shapes)
    completions = json.loads((finished / "learning_curve.json").read_text())[-1]
    assert {"inv_miou_mean", "inv_miou_by_box", "inv_miou_best_sample", "sample_spread", "kl"} <= set(completions)


def test_frozen_weights_do_not_move(finished):
    first, second, third = (saved_weights(folder) for folder in (finished / "stage1", finished / "stage2", finished))
    assert changed(first, second) == {"encoder", "spatial_transformer"}
    assert changed(second, third) == {"encoder", "spatial_transformer"}


def test_stage_one_trains_no_placement(coco, finished, tmp_path):
    arguments = ["--dataset", str(coco), "--output_dir", str(tmp_path / "more"), *SMALL, "--stage", "1"]
    arguments += ["--max_train_steps", "1", "--pretrained_pipeline", str(finished / "stage1")]
    script().main(arguments)
    assert changed(saved_weights(finished / "stage1"), saved_weights(tmp_path / "more")) == {"encoder", "decoder"}


def test_a_fresh_encoder_forgets_stage_one(coco, finished, tmp_path):
    arguments = ["--dataset", str(coco), "--output_dir", str(tmp_path / "new"), *SMALL, "--stage", "2"]
    arguments += ["--recipe", "published", "--max_train_steps", "1", "--pretrained_pipeline", str(finished / "stage1")]
    arguments += ["--learning_rate", "1e-9"]
    args = script().parse_arguments(arguments)
    task = script().AmodalVAETask(args, 2, lambda size: None)
    before, after = saved_weights(finished / "stage1"), task.model.state_dict()
    kernels = [
        name for name in before if name.startswith("encoder") and name.endswith("weight") and before[name].ndim > 1
    ]
    assert not any(torch.equal(before[name], after[name]) for name in kernels)
    assert all(torch.equal(before[f"encoder.{name}"], value) for name, value in task.teacher.state_dict().items())
    assert not any(value.requires_grad for value in task.teacher.parameters())


def test_both_codes_by_the_encoder_that_learns(coco, finished, tmp_path):
    arguments = ["--dataset", coco, "--output_dir", tmp_path / "own", *SMALL, "--stage", "2", "--code_encoder", "own"]
    arguments += ["--max_train_steps", "1", "--pretrained_pipeline", finished / "stage1"]
    arguments = list(map(str, arguments))
    done = script().train(
        lambda args: script().AmodalVAETask(args, 2, script().make_data(args)), script().parse_arguments(arguments)
    )
    assert done.task.teacher is None
    assert changed(saved_weights(finished / "stage1"), saved_weights(tmp_path / "own")) == {
        "encoder",
        "spatial_transformer",
    }


def test_without_stage_one_the_decoder_learns_in_stage_two(coco, tmp_path):
    arguments = ["--dataset", str(coco), "--output_dir", str(tmp_path / "late"), *SMALL, "--stage", "2"]
    args = script().parse_arguments([*arguments, "--max_train_steps", "1", "--train_decoder"])
    torch.manual_seed(0)
    task = script().AmodalVAETask(args, 2, lambda size: None)
    assert task.teacher is None and all(value.requires_grad for value in task.model.parameters())


def test_single_stages_and_a_stopped_one_end_as_the_whole_run(finished, coco, order_pipeline, tmp_path):
    shared = [
        "--dataset",
        str(coco),
        *SMALL,
        "--order_pipeline",
        str(order_pipeline),
        "--resume_from_checkpoint",
        "latest",
    ]
    second = ["--output_dir", str(tmp_path / "two"), "--stage", "2", "--pretrained_pipeline", str(finished / "stage1")]
    second += ["--max_train_steps", "3"]
    script().main([*shared, *second, "--stop_after_steps", "2"])
    assert changed(saved_weights(tmp_path / "two"), saved_weights(finished / "stage2"))
    script().main([*shared, *second])
    expected = saved_weights(finished / "stage2")
    for name, value in saved_weights(tmp_path / "two").items():
        assert torch.equal(value, expected[name]), name


def test_a_resumed_run_of_all_stages_goes_on_in_the_right_one(finished, coco, order_pipeline, tmp_path, monkeypatch):
    import shutil

    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "checkpoint-2")
    trained = []
    real = script().train
    monkeypatch.setattr(script(), "train", lambda make, args: trained.append(args.output_dir) or real(make, args))
    arguments = ["--dataset", str(coco), "--output_dir", str(folder), *SMALL, "--order_pipeline", str(order_pipeline)]
    arguments += ["--stage_learning_rates", "1e-3", "1e-3", "1e-4"]
    script().main([*arguments, "--stage", "all", "--stage_steps", "4,3,2", "--resume_from_checkpoint", "latest"])
    assert trained == [str(folder)]
    expected = saved_weights(finished)
    for name, value in saved_weights(folder).items():
        torch.testing.assert_close(value, expected[name])


def test_stage_three_can_mix_in_simulated_samples(finished, coco, order_pipeline, tmp_path):
    arguments = ["--dataset", str(coco), "--output_dir", str(tmp_path / "mixed"), *SMALL, "--stage", "3"]
    arguments += ["--order_pipeline", str(order_pipeline), "--pretrained_pipeline", str(finished / "stage2")]
    arguments += ["--max_train_steps", "1", "--simulated_share", "0.5", "--background_weight", "0.5"]
    args = script().parse_arguments(arguments)
    task = script().AmodalVAETask(args, 3, script().make_data(args))
    from accelerate import Accelerator

    task.setup(Accelerator(cpu=True))
    loss, logs = task.loss(task.model, 0, 8)
    assert loss.isfinite()
    assert {"visible_nll", "nll", "placement", "box"} <= set(logs)
    assert "code" not in logs  # the encoder of stage 1 is not there any more
    again, _ = task.loss(task.model, 0, 8)
    assert torch.equal(loss, again)
    assert not torch.equal(loss, task.loss(task.model, 1, 8)[0])


def test_lambda_rises(coco, tmp_path):
    shared = ["--dataset", str(coco), "--output_dir", str(tmp_path), *SMALL, "--stage", "1", "--max_train_steps", "9"]
    args = script().parse_arguments([*shared, "--kl_warmup_steps", "4", "--kl_weight", "2", "3", "4"])
    first, second = (script().AmodalVAETask(args, stage, lambda size: None) for stage in (1, 2))
    assert [first.weights(step).kl for step in (0, 1, 3, 8)] == [0.5, 1.0, 2.0, 2.0]
    assert second.weights(8).kl == 3.0


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--stage all", "`--stage_steps` must be three numbers with `--stage all`, got None"),
        ("--stage all --stage_steps 1,2", "`--stage_steps` must be three numbers"),
        ("--stage all --stage_steps 1,2,3", "`--order_pipeline` must be given for stage 3"),
        ("--stage all --stage_steps 1,2,3 --stop_after_steps 1", "`--stop_after_steps` cannot be used"),
        (
            "--stage 1 --max_train_steps 1 --stage_learning_rates 1 1 1",
            "`--stage_learning_rates` must be three positive",
        ),
        ("--stage 1", "`--max_train_steps` must be given with `--stage 1`"),
        ("--stage 1 --max_train_steps 1 --train_decoder", "`--train_decoder` goes with `--stage 2`"),
        (
            "--stage 2 --max_train_steps 1 --train_decoder --pretrained_pipeline x",
            "without `--pretrained_pipeline`",
        ),
        ("--stage 2 --max_train_steps 1", "`--pretrained_pipeline` must name the pipeline of the stage before"),
        ("--stage 1 --max_train_steps 1 --category_sources x", "`--category_sources` must name entries of `--dataset`"),
        ("--stage 1 --max_train_steps 1 --category_sources 0 --num_categories 0", "belong together"),
        ("--stage 1 --max_train_steps 1 --category_sources --num_categories 3", "belong together"),
        ("--stage 1 --max_train_steps 1 --kl_weight 1 2", "`--kl_weight` must be one or three"),
        ("--stage 1 --max_train_steps 1 --box_probability 2", r"`--box_probability` must lie in \[0, 1\]"),
        ("--stage 1 --max_train_steps 1 --validation_fraction 1", r"must lie in \(0, 1\), got 1.0"),
        ("--stage 1 --max_train_steps 1 --code_weight -1", "`--code_weight` must not be negative"),
        ("--stage 1 --max_train_steps 1 --synthesis_size 20", "`--synthesis_size` must be a positive multiple of 8"),
    ],
)
def test_bad_values_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        script().parse_arguments(["--dataset", "masks.json", "--output_dir", "out", *arguments.split()])


def test_other_networks_and_categories_are_refused(coco, order_pipeline, tmp_path):
    arguments = ["--dataset", str(coco), "--output_dir", str(tmp_path / "out"), *SMALL, "--stage", "1"]
    arguments += ["--max_train_steps", "1"]
    with pytest.raises(ValueError, match="`--pretrained_pipeline` must hold an AmodalVAE, got PCNetMask"):
        script().main([*arguments, "--pretrained_pipeline", str(order_pipeline)])
    with pytest.raises(ValueError, match="`--num_categories` must be at least 2"):
        script().main([*arguments, "--num_categories", "1"])


def test_the_published_recipe_knows_the_class(coco, tmp_path):
    """[L20]: the encoders see the class; partial masks are what one other mask in front leaves."""
    first = SMALL.index("--category_sources")
    published = SMALL[:first]
    arguments = ["--dataset", str(coco), "--output_dir", str(tmp_path / "out"), *published, "--stage", "1"]
    arguments += ["--recipe", "published", "--max_train_steps", "1"]
    args = script().parse_arguments(arguments)
    task = script().AmodalVAETask(args, 1, script().make_data(args))
    assert task.model.config.num_categories == 2  # the largest of the data
    from accelerate import Accelerator

    task.setup(Accelerator(cpu=True))
    batch = task.sampler.simulated(0, 64)
    assert not batch.by_box.all() and (batch.scene_visible <= batch.scene_whole).all()
    hidden = (batch.scene_whole & ~batch.scene_visible).flatten(1).any(1)
    assert hidden.float().mean() > 0.9  # never behind
    assert script().parse_arguments([*arguments, "--num_categories", "0"]).category_sources is None
    unknown = SimpleNamespace(complete=SimpleNamespace(category_ids=torch.zeros(3)))
    with pytest.raises(ValueError, match="`--num_categories`: no object of `--dataset` has a category id"):
        script().AmodalVAETask(args, 1, lambda size: unknown)


def test_all_stages_need_one_process(monkeypatch, coco, order_pipeline, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    arguments = ["--dataset", str(coco), "--output_dir", str(tmp_path / "out"), "--order_pipeline", str(order_pipeline)]
    with pytest.raises(ValueError, match="`--stage all` runs in one process"):
        script().main([*arguments, "--stage", "all", "--stage_steps", "1,1,1"])
