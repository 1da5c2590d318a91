"""The flags of the scripts: as users know them, as help and as dataclasses; what the published recipes are."""

import argparse
import dataclasses
import importlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from trainer.arguments import (
    TrainingArguments,
    command_line,
    default_of,
    errors_by_flag,
    flag,
    parse,
    parse_size_list,
)
from trainer.loop import make_optimizer, make_scheduler

from amodal_diffusion import (
    AmodalVAE,
    AmodalVAEPipeline,
    ASBUPipeline,
    ASBUPredictor,
    ClickSegmenter,
    ClickSegmenterPipeline,
    ContentPipeline,
    OccAmodalPipeline,
    OccAmodalPredictor,
    OrderNet,
    OrderNetPipeline,
    PCNetContent,
    PCNetMaskPipeline,
    SingleStagePipeline,
    ThingNet,
)
from pipeline_helpers import tiny_model

FLAGS = json.loads((Path(__file__).parent / "flags.json").read_text(encoding="utf-8"))
REQUIRED = {
    "train_occamodal": ["--stage", "occluder"],
    "train_amodal_vae": ["--stage", "1", "--max_train_steps", "8"],
    "train_sdamodal": ["--stable_diffusion", "sd"],
}


def arguments(name, *more):
    given = ["--dataset", "x.json", "--output_dir", "x", *REQUIRED.get(name, ()), *map(str, more)]
    return importlib.import_module(name).parse_arguments(given)


def parser_of(name, monkeypatch):
    """The parser that a script makes."""
    made = []

    def stop(parser, argv=None, namespace=None):
        made.append(parser)
        raise InterruptedError

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        importlib.import_module(name).parse_arguments([])
    return made[0]


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_flags_are_those_that_users_know(name, monkeypatch):
    """Names, defaults, choices, numbers of values, types and help: what commands in cards and notes rely on."""
    found = {}
    for action in parser_of(name, monkeypatch)._actions:
        if action.dest in ("help", "debug"):  # which are of no dataclass
            continue
        kind = action.type.__name__
        described = {"type": "bool" if kind == "string_to_bool" else kind}
        if not action.required:
            described["default"] = list(action.default) if isinstance(action.default, tuple) else action.default
        for key in ("choices", "nargs", "required", "help", "metavar"):
            value = getattr(action, key)
            if value is not None and value is not False and (key, described["type"]) != ("nargs", "bool"):
                described[key] = list(value) if key == "choices" else value
        found[action.option_strings[0]] = described
    expected = {
        flag: {key: x for key, x in value.items() if key != "nargs" or x} for flag, value in FLAGS[name].items()
    }
    assert found == expected


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_help_tells_every_flag(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(name).parse_arguments(["--help"])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0
    assert all(flag in shown for flag in FLAGS[name])
    for group in ("run:", "optimisation:", "hub:", "data:", "network:"):
        assert group in shown


OURS = {
    "train_pcnet_m": ("PCNetMaskTask", lambda: PCNetMaskPipeline(tiny_model(), mask_threshold=0.4, crop="bilinear")),
    "train_asbu": (
        "ASBUTask",
        lambda: ASBUPipeline(ASBUPredictor((4, 8), sample_size=16), mask_threshold=0.4, occluder_input="both"),
    ),
    "train_occamodal": (
        "OccAmodalTask",
        lambda: OccAmodalPipeline(
            predictor(image_feature_stages=(4, 2)), mask_threshold=0.4, crop="bilinear", rim_width=0
        ),
    ),
    "train_single_stage": (
        "SingleStageTask",
        lambda: SingleStagePipeline(predictor(image_feature_stages=()), mask_threshold=0.4, crop="bilinear"),
    ),
    "train_order_net": (
        "OrderNetTask",
        lambda: OrderNetPipeline(
            OrderNet(hidden_sizes=(4, 8), depths=(1, 1), embedding_size=4, sample_size=32, layer_type="basic"),
            enlarge_box=2.5,
            crop="bilinear",
        ),
    ),
    "train_click_segmenter": (
        "ClickSegmenterTask",
        lambda: ClickSegmenterPipeline(ClickSegmenter((4,) * 5, 4, 32), side=64, keep_pointed_at=False),
    ),
    "train_thing_net": (
        "ThingNetTask",
        lambda: ContentPipeline(PCNetContent((4, 4, 4), sample_size=32), thing_model=ThingNet(4, 64), seam_margin=0),
    ),
    "train_pcnet_c": (
        "ContentTask",
        lambda: ContentPipeline(
            PCNetContent((4, 4, 4), sample_size=32), thing_model=ThingNet(4, 64), seam_margin=0, filler="smooth"
        ),
    ),
    "train_amodal_vae": (
        "AmodalVAETask",
        lambda: AmodalVAEPipeline(
            AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(4, 8)), sample_temperature=2.0
        ),
    ),
}


def predictor(**options):
    sizes = {"block_out_channels": (4, 8), "image_hidden_sizes": (4, 8, 8, 8), "image_embedding_size": 4}
    return OccAmodalPredictor(mask_channels=1, reduced_channels=4, sample_size=32, **sizes, **options)


@pytest.mark.parametrize("name", OURS)
def test_what_is_trained_on_keeps_its_settings_and_says_nothing_of_this_machine(name, tmp_path):
    kind, make = OURS[name]
    before = make()
    before.save_pretrained(tmp_path / "before")
    given = ["--pretrained_pipeline", tmp_path / "before"] + ["--masks_alone"] * (name == "train_single_stage")
    stage = (3, None) if name == "train_amodal_vae" else ()
    task = getattr(importlib.import_module(name), kind)(arguments(name, *given), *stage)
    after = task.build_pipeline(task.model)
    assert after.settings == before.settings != type(before)(**before.components).settings
    assert {part for part, value in after.components.items() if value is not None} == {
        part for part, value in before.components.items() if value is not None
    }
    after.save_pretrained(tmp_path / "after")
    for file in (tmp_path / "after").rglob("*.json"):
        assert "_name_or_path" not in file.read_text() and str(tmp_path) not in file.read_text(), file
    if hasattr(task.args, "mask_threshold"):
        task = getattr(importlib.import_module(name), kind)(arguments(name, *given, "--mask_threshold", 0.5))
        assert task.build_pipeline(task.model).settings == {**before.settings, "mask_threshold": 0.5}


def test_flags_that_are_given_are_known_and_those_of_a_recipe():
    assert arguments("train_pcnet_m").given == {"dataset", "output_dir"}
    args = arguments("train_occamodal", "--mask_threshold=0.5", "--drop_rim", "--lr_milestones", "--debug")
    assert args.given == {"dataset", "output_dir", "stage", "mask_threshold", "drop_rim", "lr_milestones"}
    assert {"recipe", "crop", "use_ema"} <= arguments("train_occamodal", "--recipe", "improved").given


def test_switches():
    for given, expected in (
        ([], False),
        (["--use_ema"], True),
        (["--use_ema", "False"], False),
        (["--use_ema=1"], True),
    ):
        assert arguments("train_pcnet_m", *given).use_ema is expected
    assert arguments("train_pcnet_m", "--use_ema", "--dataset", "y").dataset == ["y"]


def test_lists_and_sizes():
    args = arguments("train_pcnet_m", "--lr_milestones", "--block_out_channels", "8,16")
    assert args.lr_milestones == [] and args.block_out_channels == (8, 16)
    args = arguments("train_pcnet_m", "--lr_milestones", 3, 5, "--dataset", "a", "b", "--dataset_weights", 1, 0.5)
    assert (args.lr_milestones, args.dataset, args.dataset_weights) == ([3, 5], ["a", "b"], [1.0, 0.5])
    rates = ["--stage", "all", "--stage_steps", "1,2,3", "--order_pipeline", "p", "--stage_learning_rates", 1, 2, 3]
    args = arguments("train_amodal_vae", *rates)
    assert (args.stage_steps, args.stage_learning_rates) == ((1, 2, 3), [1.0, 2.0, 3.0])
    with pytest.raises(SystemExit):
        arguments("train_amodal_vae", *rates[:-1])


SIDES = [
    (name, given)
    for name, flags in sorted(FLAGS.items())
    for given in ("--sample_size", "--image_size", "--synthesis_size")
    if given in flags
]


@pytest.mark.parametrize(("name", "given"), SIDES)
@pytest.mark.parametrize("size", [-1, 0, 1, 8, 1_000_000])
def test_sides_that_cannot_be_trained_on_are_refused(name, given, size):
    with pytest.raises(ValueError, match=rf"`{given}` must .*, got {size}\."):
        arguments(name, given, size)


def test_a_network_deeper_than_its_crops_is_refused():
    levels = ["--block_out_channels", "8,8,8,8,8,8", "--patch_size", 2]
    assert arguments("train_pcnet_m", *levels, "--sample_size", 64).sample_size == 64
    with pytest.raises(ValueError, match=r"`--sample_size` must be at least 32 times `--patch_size` .*, got 48\."):
        arguments("train_pcnet_m", *levels, "--sample_size", 48)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--lr_sceduler", "cosine"], "unrecognized arguments: --lr_sceduler cosine"),
        (["--recipe", "other"], "argument --recipe: invalid choice: 'other'"),
        (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["--block_out_channels", "8;16"], "argument --block_out_channels: expected integers separated by commas"),
        (["--use_ema", "perhaps"], "argument --use_ema/--use-ema: Truthy value expected"),
    ],
)
def test_bad_flags_are_named(given, message, capsys):
    with pytest.raises(SystemExit):
        arguments("train_pcnet_m", *given)
    assert message in capsys.readouterr().err.replace("/--block-out-channels", "")


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_no_flag_takes_what_is_no_number_or_no_text(name):
    checked = 0
    for key, value in ((key[2:], value) for key, value in FLAGS[name].items() if "choices" not in value):
        bad = {"float": ["nan", "inf"], "str": ["", " "]}.get(value["type"], [])
        for given in bad:
            with pytest.raises(ValueError, match=rf"^`--{key}` must (be finite, got {given}|not be empty)\.$"):
                arguments(name, f"--{key}", *[given] * (value["nargs"] if isinstance(value.get("nargs"), int) else 1))
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_no_flag_takes_what_is_too_small(name):
    least = {
        "min_area": 1,
        "validation_samples": 1,
        "validation_draws": 1,
        "true_validation_photos": 1,
        "num_queries": 1,
    }
    least |= {"pseudo_eraser_dilation": 0, "guess_weight": 0, "front_factor": 0, "inside_weight": 0, "true_share": 0.1}
    least |= {"num_queries": 1, "score_threshold": 0, "max_truncation": 0}
    for key, smallest in least.items():
        if f"--{key}" in FLAGS[name]:
            with pytest.raises(ValueError, match=rf"^`--{key}` must .*, got {int(smallest) - 1}(\.0)?\.$"):
                arguments(name, f"--{key}", int(smallest) - 1)


def test_what_a_push_or_a_tracker_would_refuse_is_refused_before_training(monkeypatch):
    with pytest.raises(ValueError, match="^`--hub_model_id` must be of the form 'user/name', got 'a/b/c'"):
        arguments("train_pcnet_m", "--push_to_hub", "--hub_model_id", "a/b/c")
    with pytest.raises(ValueError, match="^`--hub_model_id` must be of the form 'user/name', got 'my run'"):
        arguments("train_pcnet_m", "--push_to_hub", "--output_dir", "runs/my run")
    assert arguments("train_pcnet_m", "--push_to_hub", "--output_dir", "runs/mine").push_to_hub
    monkeypatch.setattr("trainer.arguments.get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(ValueError, match="^`--report_to` wandb needs its package, which is not installed here"):
        arguments("train_pcnet_m", "--report_to", "wandb")
    assert arguments("train_pcnet_m", "--report_to", "all").report_to == "all"


def test_what_is_required_is_named(capsys):
    with pytest.raises(SystemExit):
        importlib.import_module("train_pcnet_m").parse_arguments([])
    assert "required: --output_dir/--output-dir, --dataset" in capsys.readouterr().err


def test_arguments_are_a_dataclass():
    args = arguments("train_pcnet_m")
    again = dataclasses.replace(args, lr_milestones=[1])
    assert again.dataset == args.dataset and args.lr_milestones == [32_000, 48_000]
    assert arguments("train_pcnet_m").lr_milestones is not args.lr_milestones
    assert isinstance(args, TrainingArguments)


def test_groups_that_widen_others_come_once():
    @dataclasses.dataclass(kw_only=True)
    class Narrow:
        _argument_group_name = "data"

        dataset: str = flag("a", "What.")

    @dataclasses.dataclass(kw_only=True)
    class Wide(Narrow):
        _argument_group_name = "data"

        images: str = flag("b")

    @dataclasses.dataclass(kw_only=True)
    class Both(Wide, Narrow):
        dataset: str = "c"

    assert vars(parse(Both, "", [])) == {"dataset": "c", "images": "b"}
    assert vars(parse(Both, "", ["--dataset", "d"])) == {"dataset": "d", "images": "b"}


def test_defaults_of_others():
    class Network(nn.Module):
        def __init__(self, width=3):
            super().__init__()

    assert default_of(Network, "width") == 3
    with pytest.raises(KeyError, match="depth"):
        default_of(Network, "depth")


def test_errors_name_flags():
    class PhotoError(ValueError):
        pass

    with (
        pytest.raises(PhotoError, match="^`--dataset_weights` is wrong$"),
        errors_by_flag({"`weights`": "`--dataset_weights`"}),
    ):
        raise PhotoError("`weights` is wrong")
    with pytest.raises(ValueError, match="^other$") as raised, errors_by_flag({"`weights`": "x"}):
        raise ValueError("other")
    assert raised.value.__cause__ is None
    with pytest.raises(FileNotFoundError) as raised, errors_by_flag({"o": "x"}):
        raise FileNotFoundError(2, "gone", "folder")
    assert raised.value.filename == "folder"


def test_the_token_stays_out_of_the_command():
    assert command_line(["x.py", "--hub_token", "secret", "--seed", "1"]) == "x.py --hub_token *** --seed 1"


def test_widths():
    assert parse_size_list("8,16") == (8, 16)
    with pytest.raises(argparse.ArgumentTypeError, match="separated by commas"):
        parse_size_list("8;16")
    with pytest.raises(argparse.ArgumentTypeError, match="positive"):
        parse_size_list("0,1")


# Published recipes. Each value is what the source says, or its code where the tag says so; see training/README.md.

SGD = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-4, "lr_scheduler": "multistep", "lr_gamma": 0.1}
STEPS = {"max_train_steps": 56_000, "lr_milestones": [32_000, 48_000]}
UNET = {"block_out_channels": (32, 64, 128, 256, 256), "patch_size": 1, "sample_size": 256, "class_conditioned": False}
UNET6 = (32, 64, 128, 256, 512, 512)
RECIPES = {
    # [Z20], supplement and code: 56K updates of 32 a process on COCOA, a tenth of the rate after 32K and 48K; 5x in the
    # eraser; thresholds 0.1 for the order and 0.2 for masks.
    "train_pcnet_m": SGD | STEPS | UNET | {
        "learning_rate": 1e-3, "train_batch_size": 32, "inside_weight": 5.0, "recipe": "published",
        "order_threshold": 0.1, "mask_threshold": 0.2, "order_rule": "count", "occluder_rule": "ancestors",
        "crop": "nearest", "use_ema": False, "max_grad_norm": None,
    },
    # Ours, of no paper: PCNet-M's network and loss weight, AdamW for few updates.
    "train_photo_pcnet_m": {
        "optimizer": "adamw", "learning_rate": 5e-4, "weight_decay": 1e-2, "lr_scheduler": "warmup_stable_decay",
        "train_batch_size": 32, "max_train_steps": 20_000, "inside_weight": 5.0, "use_ema": True, "max_grad_norm": 1.0,
        "block_out_channels": (32, 64, 128, 256, 256), "patch_size": 1, "sample_size": 256,
    },
    # Ours, of no paper.
    "train_thing_net": {
        "optimizer": "adamw", "learning_rate": 2e-3, "weight_decay": 0.02, "max_grad_norm": 3.0,
        "train_batch_size": 16, "max_train_steps": 2_000, "lr_scheduler": "warmup_stable_decay",
        "lr_decay_fraction": 0.7, "decoder_channels": 48, "sample_size": 384, "crop_size": 320,
    },
    "train_click_segmenter": {
        "optimizer": "adamw", "learning_rate": 2e-3, "weight_decay": 0.01, "lr_scheduler": "warmup_stable_decay",
        "lr_decay_fraction": 0.7, "train_batch_size": 16, "max_train_steps": 20_000, "max_grad_norm": 5.0,
    },
    # [N21], section 4: rate 1e-4, batches of 32, 56K updates; lambda 5; thresholds 0.5; the boundary as input.
    "train_asbu": SGD | STEPS | UNET | {
        "learning_rate": 1e-4, "train_batch_size": 32, "inside_weight": 5.0, "recipe": "published", "use_rgb": False,
        "order_threshold": 0.5, "mask_threshold": 0.5, "occluder_input": "boundary", "loss": "uncertainty",
        "order_rule": "count", "occluder_rule": "neighbours", "crop": "nearest", "use_ema": False,
    },
    # [Z24], implementation details: SGD, 1e-3, 56K updates of 32 "as [29, 44]", whose steps stand in; a ResNet-18 of
    # ImageNet; nothing of synthetic regions. Lambda as in [N21].
    "train_occamodal": SGD | STEPS | {
        "learning_rate": 1e-3, "train_batch_size": 32, "block_out_channels": UNET6, "reduced_channels": 256,
        "sample_size": 256, "image_hidden_sizes": (64, 128, 256, 512), "image_embedding_size": 64,
        "image_feature_stages": (4,), "inside_weight": 5.0, "occluder_threshold": 0.5, "mask_threshold": 0.5,
        "image_encoder": "microsoft/resnet-18", "region_probability": 0.0, "recipe": "published",
    },
    # [Z24], implementation details: the training of [Z20] for the single stage too. Code of [Z20]: plain cross-entropy,
    # U-Net of widening 2, ResNet-18 of ImageNet at its bottleneck, crops moved, scaled and mirrored.
    "train_single_stage": SGD | STEPS | {
        "learning_rate": 1e-3, "train_batch_size": 32, "block_out_channels": (32, 64, 128, 256, 256), "patch_size": 1,
        "reduced_channels": 256, "sample_size": 256, "image_hidden_sizes": (64, 128, 256, 512),
        "image_embedding_size": 64, "image_feature_stages": (4,), "image_encoder": "microsoft/resnet-18",
        "masks_alone": False, "box_shift": 0.2, "box_scale": 0.2, "flip_probability": 0.5, "mask_threshold": 0.5,
        "min_occlusion_rate": 0.0, "images_per_batch": 0, "recipe": "published",
    },
    # [Z24], implementation details: SGD, 1e-3, 56K updates of 32, tenths after 32K and 48K; masks of 512; the features
    # are None here, since a pipeline to continue from may have others: see test_published_features.
    "train_sdamodal": SGD | STEPS | {
        "learning_rate": 1e-3, "train_batch_size": 32, "block_out_channels": UNET6, "reduced_channels": 256,
        "sample_size": 512, "feature_sizes": None, "box_shift": 0.0, "box_scale": 0.0, "min_occlusion_rate": 0.0,
        "images_per_batch": 0, "recipe": "published",
    },
    # [Z20], supplement: Adam at 1e-4, 450K updates of 16; the weights of the six losses; the discriminator at a tenth.
    "train_pcnet_c": {
        "optimizer": "adamw", "weight_decay": 0.0, "learning_rate": 1e-4, "lr_scheduler": "constant",
        "train_batch_size": 16, "max_train_steps": 450_000, "recipe": "published", "use_prior": False,
        "block_out_channels": (64, 128, 256, 512, 512, 512, 512), "valid_weight": 1.0, "hole_weight": 6.0,
        "total_variation_weight": 0.1, "perceptual_weight": 0.1, "style_weight": 250.0, "adversarial_weight": 0.1,
        "discriminator_rate": 0.1,
    },
    # [L20], equations 1 to 5: lambda, the codes and the placement weigh 1; what is not in the paper weighs 0. The paper
    # gives neither sizes nor an optimisation: these are ours. Its encoders see the class; stage 2 has a new one, on
    # masks that others in front have cut. RGB-Amodal-VAE has ResNet-50 of ImageNet.
    "train_amodal_vae": {
        "num_categories": None, "category_sources": None, "class_dropout": 0.0, "keep_encoder": False,
        "box_probability": 0.0, "recipe": "published",
        "kl_weight": [1.0], "kl_warmup_steps": 0, "code_weight": 1.0, "placement_weight": 1.0, "box_weight": 0.0,
        "background_weight": 0.0, "simulated_share": 0.0, "sample_size": 64, "latent_channels": 64,
        "use_rgb": False, "image_encoder": "microsoft/resnet-50",
        "optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-2, "lr_scheduler": "one_cycle",
        "train_batch_size": 64,
    },
    # [Z20] says nothing of how its OrderNet was trained: its code's ResNet-50 on crops of 256² around both objects,
    # moved, scaled and mirrored; the optimisation of its PCNet-M; the order that its accuracy is counted by.
    "train_order_net": SGD | STEPS | {
        "learning_rate": 1e-3, "train_batch_size": 32, "sample_size": 256, "hidden_sizes": (256, 512, 1024, 2048),
        "depths": (3, 4, 6, 3), "embedding_size": 64, "layer_type": "bottleneck", "encoder": "none",
        "masks_alone": False, "unrelated": False, "order_source": "masks", "box_shift": 0.2, "box_scale": 0.2,
        "flip_probability": 0.5, "recipe": "published",
    },
    # Cheng et al., CVPR 2022: AdamW at 1e-4, decay 0.05, gradients clipped at 0.01. [Z20] does not say how it trained.
    "train_instance_segmenter": {
        "optimizer": "adamw", "learning_rate": 1e-4, "weight_decay": 0.05, "max_grad_norm": 0.01,
        "train_batch_size": 8, "max_train_steps": 20_000, "lr_scheduler": "warmup_stable_decay", "masks": "amodal",
    },
}  # fmt: skip


def test_every_script_has_a_recipe():
    assert RECIPES.keys() == FLAGS.keys() == {path.stem for path in SCRIPTS}


SCRIPTS = sorted((Path(importlib.import_module("trainer").__file__).parents[1]).glob("train_*.py"))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_published_recipe_is_the_default(name):
    args = arguments(name)
    assert {key: getattr(args, key) for key in RECIPES[name]} == RECIPES[name]


def test_one_flag_chooses_the_recipe():
    ours = arguments("train_pcnet_m", "--recipe", "improved", "--mask_threshold", 0.4)
    assert (ours.optimizer, ours.order_rule, ours.mask_threshold) == ("adamw", "evidence", 0.4)  # a flag stands
    assert arguments("train_pcnet_m", "--recipe=crowded").occluder_rule == "consistent"
    for name in sorted(RECIPES):
        kind = type(arguments(name))
        fields = {field.name for field in dataclasses.fields(kind)}
        assert ("recipe" in fields) == bool(getattr(kind, "recipes", {})), name
        for recipe, changed in getattr(kind, "recipes", {}).items():
            assert set(changed) <= fields and changed, name
            shown = arguments(name, "--recipe", recipe)
            assert {key: getattr(shown, key) for key in changed} == changed


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_optimizers_and_schedules_are_those_of_the_recipe(name):
    args, recipe = arguments(name), RECIPES[name]
    optimizer = make_optimizer(nn.Linear(2, 2), args)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (recipe["learning_rate"], recipe["weight_decay"])
    if recipe["optimizer"] == "sgd":
        assert type(optimizer) is torch.optim.SGD and (group["momentum"], group["nesterov"]) == (0.9, False)
    else:
        assert type(optimizer) is torch.optim.AdamW and (group["betas"], group["eps"]) == ((0.9, 0.999), 1e-8)
    scheduler = make_scheduler(optimizer, args)
    if recipe["lr_scheduler"] == "multistep":
        assert sorted(scheduler.milestones) == [32_000, 48_000] and scheduler.gamma == 0.1


def test_published_features():
    """[Z24]: step 181, the mean of 8 draws, photos of 768 x 768, all four up blocks, cells as they are."""
    from train_sdamodal import SDAmodalPipeline

    names = ("time_step", "num_draws", "resolution", "up_blocks", "enlarge_box", "feature_crop")
    assert all(getattr(arguments("train_sdamodal"), name) is None for name in names)
    assert [default_of(SDAmodalPipeline, name) for name in names] == [181, 8, 768, (0, 1, 2, 3), 3.0, "cells"]


def test_published_synthesis():
    """[Z20]: overlap U(0.4, 1), shift, scale, gamma 0.8, cut 0.001 to 0.9, 100 redraws; [N21]: matting."""
    from trainer.synthetic_masks import RECIPES as SYNTHESES

    from amodal_diffusion.data.samplers import boundary_synthesis
    from amodal_diffusion.data.samplers.photo_boundaries import MATTING
    from amodal_diffusion.data.synthesis import ContentSynthesisConfig, PhotoSynthesisConfig

    recipe = SYNTHESES["published"](256)
    assert recipe.overlap == PhotoSynthesisConfig().overlap == (0.4, 1.0)
    assert (recipe.shift, recipe.scale, recipe.flip_probability) == ((-0.2, 0.2), (0.8, 1.2), 0.5)
    assert (recipe.erase_probability, recipe.cut_range, recipe.max_redraws) == (0.8, (0.001, 0.9), 100)
    extras = ("rotation", "multi_probability", "region_probability", "frame_probability", "gap_probability")
    assert not any(getattr(recipe, name) for name in extras) and recipe.other_zoom == (1.0, 1.0)
    assert MATTING == (0.8, 0.5)
    pasted = boundary_synthesis(256, "published")  # ASBU and PCNet-M with RGB
    assert (pasted.overlap, pasted.shift, pasted.scale) == (recipe.overlap, recipe.shift, recipe.scale)
    assert (pasted.front_probability, pasted.cut_range, pasted.max_redraws) == (0.8, recipe.cut_range, 100)
    assert pasted.matting == MATTING
    assert not (pasted.rotation or pasted.colour or pasted.region_probability) and pasted.other_zoom == (1.0, 1.0)
    holes = ContentSynthesisConfig()
    assert (holes.paste_probability, holes.background_probability, holes.dilation) == (0.0, 0.0, 5 / 256)


def test_published_boundary_is_five_by_five():
    """[N21]: max-pooling of 5 x 5 of both masks, in training and in the pipeline."""
    from train_asbu import ASBUPipeline, occluder_plane

    mask, occluder = torch.zeros(2, 1, 1, 9, 12)
    mask[..., :6], occluder[..., 6:] = 1, 1
    plane = occluder_plane(mask, occluder, "boundary")
    assert plane[0, 0, 4].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]  # two pixels on each side
    assert default_of(ASBUPipeline, "boundary_size") == 5
