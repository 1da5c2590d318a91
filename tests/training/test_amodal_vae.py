"""`training/train_amodal_vae.py`: the three stages, what each freezes, resumption, samples, losses, errors."""

import importlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.distributions import Bernoulli

from amodal_diffusion import AmodalPipeline, PCNetMask, PCNetMaskPipeline
from amodal_diffusion.crops import tight_boxes
from amodal_diffusion.data.synthesis import MaskBank
from amodal_diffusion.masks import encode_rle
from amodal_diffusion.models import AmodalVAE, DiagonalGaussian
from repository_helpers import ROOT
from training_helpers import run_script, write_coco

SMALL = [
    "--block_out_channels", "8,16", "--sample_size", "16", "--latent_channels", "4", "--synthesis_size", "32",
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
    run_script("train_amodal_vae.py", "--dataset", coco, "--output_dir", folder, *SMALL, *arguments)
    return folder


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The scripts' modules can be imported, and accelerate forgets the run before."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    monkeypatch.syspath_prepend(str(ROOT / "training"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def script():
    return importlib.import_module("train_amodal_vae")


def part(name):
    return importlib.import_module(f"trainer.{name}")


def weights(folder):
    return load_file(folder / "model" / "diffusion_pytorch_model.safetensors")


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
    first, second, third = (weights(folder) for folder in (finished / "stage1", finished / "stage2", finished))
    assert changed(first, second) == {"encoder", "spatial_transformer"}
    assert changed(second, third) == {"encoder", "spatial_transformer"}


def test_stage_one_trains_no_placement(coco, finished, tmp_path):
    arguments = ["--dataset", str(coco), "--output_dir", str(tmp_path / "more"), *SMALL, "--stage", "1"]
    arguments += ["--max_train_steps", "1", "--pretrained_pipeline", str(finished / "stage1")]
    script().main(arguments)
    assert changed(weights(finished / "stage1"), weights(tmp_path / "more")) == {"encoder", "decoder"}


def test_a_fresh_encoder_forgets_stage_one(coco, finished, tmp_path):
    arguments = ["--dataset", str(coco), "--output_dir", str(tmp_path / "new"), *SMALL, "--stage", "2"]
    arguments += ["--max_train_steps", "1", "--pretrained_pipeline", str(finished / "stage1"), "--fresh_encoder"]
    arguments += ["--learning_rate", "1e-9"]
    args = script().parse_arguments(arguments)
    task = script().AmodalVAETask(args, 2, lambda size: None)
    before, after = weights(finished / "stage1"), task.model.state_dict()
    kernels = [
        name for name in before if name.startswith("encoder") and name.endswith("weight") and before[name].ndim > 1
    ]
    assert not any(torch.equal(before[name], after[name]) for name in kernels)
    assert all(torch.equal(before[f"encoder.{name}"], value) for name, value in task.teacher.state_dict().items())
    assert not any(value.requires_grad for value in task.teacher.parameters())


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
    assert changed(weights(tmp_path / "two"), weights(finished / "stage2"))
    script().main([*shared, *second])
    expected = weights(finished / "stage2")
    for name, value in weights(tmp_path / "two").items():
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
    expected = weights(finished)
    for name, value in weights(folder).items():
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


# Samples


def ellipse(height, width, shape=(60, 80)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return ((y - 30) / height) ** 2 + ((x - 40) / width) ** 2 < 1


@pytest.fixture
def bank():
    rng = np.random.default_rng(0)
    masks = [ellipse(*rng.uniform(8, 28, 2)) for _ in range(20)]
    objects = [{"modal_mask": encode_rle(mask), "is_crowd": False, "category_id": 1} for mask in masks]
    return MaskBank.from_sources([[{"objects": objects}]], resolution=32)


def make_sampler(bank, **options):
    options = {"size": 16, "frame_size": 24, "seed": 0, "synthesis_size": 48} | options
    return part("shape_batches").ShapeSampler(bank, **options)


def test_complete_samples_touch_all_sides(bank):
    whole, ids = make_sampler(bank).complete(0, 32)
    assert whole.shape == (32, 1, 16, 16)
    assert set(whole.unique().tolist()) == {0.0, 1.0}
    assert (ids == 1).all()
    for edge in (whole[:, 0, 0], whole[:, 0, -1], whole[:, 0, :, 0], whole[:, 0, :, -1]):
        assert edge.any(1).float().mean() > 0.9


def test_simulated_samples_are_what_they_say(bank):
    batch = make_sampler(bank, box_probability=0.5).simulated(0, 64)
    assert (batch.scene_visible <= batch.scene_whole).all()
    hidden = (batch.scene_whole & ~batch.scene_visible).flatten(1).any(1)
    assert 0.7 < hidden.float().mean() < 1
    for edge in (
        batch.scene_whole[:, 0],
        batch.scene_whole[:, -1],
        batch.scene_whole[..., 0],
        batch.scene_whole[..., -1],
    ):
        assert not edge.any()  # the crop cuts nothing off
    assert torch.equal(batch.visible_boxes, tight_boxes(batch.scene_visible))
    assert 0.2 < batch.by_box.float().mean() < 0.8
    # Placed by the true box, the whole mask fills its frame as the truth does.
    objectives = part("shape_objectives")
    logits = (batch.whole * 2 - 1) * 20
    placed = objectives.place_in_frame(logits, batch.boxes, 24)
    inside = (batch.boxes[:, 2:] < 2).all(1)
    assert (placed - batch.frame)[inside].abs().mean() < 0.01
    # Cropped by its own box an object fills the crop; by the whole one it need not.
    filled = (batch.visible[:, 0] > 0.2).any(1).float().mean(1)
    assert filled[~batch.by_box].min() > filled[batch.by_box].min()


def test_samples_repeat(bank):
    first, again, other = (make_sampler(bank, box_probability=0.5).simulated(step, 8) for step in (3, 3, 4))
    for name, value in vars(first).items():
        assert torch.equal(value, getattr(again, name)), name
    assert not torch.equal(first.visible, other.visible)


def test_shapes_are_sorted_by_the_order():
    front, behind, alone = np.zeros((3, 60, 80), bool)
    front[10:30, 10:30], behind[15:40, 30:50], alone[45:55, 60:75] = True, True, True
    things = [
        {"modal_mask": encode_rle(mask), "is_crowd": False, "category_id": category}
        for mask, category in ((front, 3), (behind, 4), (alone, None))
    ]
    options = {"size": 16, "frame_size": 24, "resolution": 32, "min_area": 10, "max_truncation": 0.05}
    order = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]], np.int8)
    sources = part("shape_sources")
    asked = []

    def find_order(masks):
        asked.append(len(masks))
        return order[: len(masks), : len(masks)]

    found = sources.collect_shapes(
        [[{"objects": things}], [{"objects": things[2:]}]], known_categories=[0], find_order=find_order,
        collect_partial=True, **options,
    )  # fmt: skip
    assert asked == [2]  # only those that touch
    assert found.counts == [(3, 2, 1), (1, 1, 0)]
    assert found.complete.category_ids.tolist() == [3, 0, 0]
    assert found.complete.sources.tolist() == [0, 0, 1]
    assert found.partial.category_ids.tolist() == [4]
    assert (found.partial.visible == 255).all()  # a rectangle fills its own box
    frame = found.partial.frame_visible[0] > 127
    assert frame[8:16, 8:16].all()
    assert frame.sum() == 64
    in_front = found.partial.frame_front[0] > 127
    assert in_front[:, :8].any()
    assert not in_front[:, 8:].any()
    without = sources.collect_shapes(
        [[{"objects": things}]], known_categories=[], find_order=None, collect_partial=True, **options
    )
    assert without.counts == [(3, 1, 0)]
    assert without.partial is None
    assert without.complete.category_ids.tolist() == [0]


def test_partial_samples_are_mirrored_together():
    sources, batches = part("shape_sources"), part("shape_batches")
    ramp = torch.arange(4).expand(1, 4, 4).to(torch.uint8)
    shapes = sources.PartialShapes(ramp, ramp * 2, ramp * 3, torch.tensor([7]), torch.tensor([0]))
    batch = batches.PartialSampler(shapes, seed=0).sample(0, 16)
    assert batch.visible.shape == (16, 1, 4, 4)
    rising = batch.visible[:, 0, 0, 0] == 0
    assert 0 < rising.sum() < 16
    torch.testing.assert_close(batch.frame, batch.visible[:, 0] * 2)
    torch.testing.assert_close(batch.front, batch.visible[:, 0] * 3)
    assert (batch.category_ids == 7).all()


def test_partial_samples_follow_the_source_weights():
    sources, batches = part("shape_sources"), part("shape_batches")
    plane = torch.zeros(3, 4, 4, dtype=torch.uint8)
    shapes = sources.PartialShapes(plane, plane, plane, torch.tensor([1, 1, 2]), torch.tensor([0, 0, 1]))
    ids = batches.PartialSampler(shapes, seed=0, source_weights=[0, 1]).sample(0, 32).category_ids
    assert (ids == 2).all()


# Losses


def test_likelihoods_are_those_of_torch():
    losses = part("losses")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1, 4, 4, generator=generator)
    target = (torch.rand(3, 1, 4, 4, generator=generator) > 0.5).float()
    expected = -Bernoulli(logits=logits).log_prob(target).sum((1, 2, 3))
    torch.testing.assert_close(losses.bernoulli_nll(logits, target), expected)
    found = losses.placed_nll(logits.sigmoid(), target, epsilon=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    weight = torch.zeros_like(target)
    weight[:, :, 0] = 2
    row = -Bernoulli(logits=logits[:, :, :1]).log_prob(target[:, :, :1]).sum((1, 2, 3))
    torch.testing.assert_close(losses.placed_nll(logits.sigmoid(), target, weight, 1e-6), 2 * row, rtol=1e-4, atol=1e-4)
    certain = torch.zeros(1, 2, requires_grad=True)
    losses.placed_nll(certain, torch.ones(1, 2)).sum().backward()
    assert (certain.grad < 0).all()  # also where a pixel is impossible, the gradient makes it more probable


def test_expected_distance_is_that_of_samples():
    generator = torch.Generator().manual_seed(0)
    first = DiagonalGaussian(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.3, -1.0]]))
    second = DiagonalGaussian(torch.tensor([[0.0, 1.0]]), torch.tensor([[-0.5, 0.2]]))
    exact = float(part("shape_objectives").expected_distance(first, second))
    draws = [
        DiagonalGaussian(one.mean.expand(40000, 2), one.log_variance.expand(40000, 2)).sample(generator)
        for one in (first, second)
    ]
    assert exact == pytest.approx(float(0.5 * (draws[0] - draws[1]).square().sum(1).mean()), rel=0.02)


def test_stage_three_looks_at_visible_pixels_alone():
    objectives, batches = part("shape_objectives"), part("shape_batches")
    torch.manual_seed(0)
    model = AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(8, 16))
    visible, frame, front = torch.ones(2, 1, 16, 16), torch.zeros(2, 24, 24), torch.zeros(2, 24, 24)
    frame[:, 8:16, 8:16] = 1
    front[:, :, 16:] = 1

    def nll(weights, front=front):
        batch = batches.PartialBatch(visible, frame, front, torch.zeros(2, dtype=torch.int64))
        logs = objectives.partial_loss(model, batch, None, torch.Generator().manual_seed(0), weights)[1]
        return float(logs["visible_nll"])

    plain, wide = objectives.ShapeWeights(), objectives.ShapeWeights(background=1.0)
    assert nll(plain) == nll(plain, front * 0)  # what lies beside the object does not matter
    assert nll(wide) > nll(plain)
    assert nll(wide, front * 0) > nll(wide)  # and with the background, what is in front does not


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
        ("--stage 1 --max_train_steps 1 --category_sources 0", "belong together"),
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


def test_all_stages_need_one_process(monkeypatch, coco, order_pipeline, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    arguments = ["--dataset", str(coco), "--output_dir", str(tmp_path / "out"), "--order_pipeline", str(order_pipeline)]
    with pytest.raises(ValueError, match="`--stage all` runs in one process"):
        script().main([*arguments, "--stage", "all", "--stage_steps", "1,1,1"])
