"""`training/train_pcnet_m.py`: a few steps, exact resumption, two processes, the card, errors, the Hub."""

import json
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from amodal_diffusion import AmodalPipeline
from repository_helpers import needs_shared
from training_helpers import (
    launch_command,
    masks_by_heart,
    run_main,
    run_script,
    saved_weights,
    script_environment,
    write_coco,
)

SMALL = [
    "--block_out_channels", "8,16", "--sample_size", "32", "--patch_size", "2", "--train_batch_size", "4",
    "--validation_samples", "8", "--validation_fraction", "0.2", "--logging_steps", "1", "--recipe", "improved",
    "--use_ema", "--optimizer", "adamw", "--lr_scheduler", "warmup_stable_decay", "--max_train_steps", "6",
]  # fmt: skip


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("data") / "masks.json")


@pytest.fixture(scope="module")
def finished(coco, tmp_path_factory):
    """A run of six steps that was never stopped."""
    folder = tmp_path_factory.mktemp("whole") / "pcnet-m"
    arguments = ["--checkpointing_steps", "2", "--checkpoints_total_limit", "2", "--validation_steps", "3"]
    run_script("train_pcnet_m.py", "--dataset", coco, "--output_dir", folder, *SMALL, *arguments)
    return folder


def test_leaves_a_pipeline_with_card_curve_and_pictures(finished):
    pipe = AmodalPipeline.from_pretrained(finished)
    assert pipe.model.config.patch_size == 2
    masks = torch.zeros(2, 40, 40, dtype=torch.bool)
    masks[0, 5:20, 5:20], masks[1, 10:30, 20:30] = True, True
    assert pipe(None, masks).amodal_masks.shape == (2, 40, 40)
    card = (finished / "README.md").read_text()
    for fact in (
        "6 updates of 4 samples (24 samples)",
        "masks.json",
        "train_pcnet_m.py",
        "| step |",
        "license: apache-2.0",
    ):
        assert fact in card
    curve = json.loads((finished / "learning_curve.json").read_text())
    assert [point["step"] for point in curve] == [3, 6]
    assert {"miou", "inv_miou"} <= set(curve[-1])
    assert len(list((finished / "validation").glob("*.png"))) == 2
    assert sorted(path.name for path in finished.glob("*checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]


def test_a_resumed_run_ends_with_the_same_weights(finished, coco, tmp_path):
    folder = tmp_path / "pcnet-m"
    arguments = ["--dataset", coco, "--output_dir", folder, *SMALL, "--resume_from_checkpoint", "latest"]
    run_main("train_pcnet_m", *arguments, "--stop_after_steps", 3)
    assert not torch.equal(next(iter(saved_weights(folder).values())), next(iter(saved_weights(finished).values())))
    run_main("train_pcnet_m", *arguments)
    expected = saved_weights(finished)
    for name, value in saved_weights(folder).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("average", [[], ["--use_ema"]])
def test_lost_weights_push_no_checkpoint_out(coco, tmp_path, average):
    """Between two log lines nobody looks at the loss."""
    small = [part for part in SMALL if part != "--use_ema"]
    arguments = ["--dataset", coco, *small, *average, "--logging_steps", "100", "--checkpointing_steps", "1"]
    arguments += ["--output_dir", tmp_path, "--checkpoints_total_limit", "1", "--optimizer", "sgd"]
    arguments += ["--lr_scheduler", "multistep", "--lr_milestones", "2", "--learning_rate", "1e-3"]
    with pytest.raises(FloatingPointError, match=r"no longer finite at step \d \(`.+`\): lower `--learning_rate`"):
        run_main("train_pcnet_m", *arguments, "--lr_gamma", "1e38")
    (kept,) = tmp_path.glob("checkpoint-*")
    weights = load_file(kept / "model.safetensors").values()
    assert all(torch.isfinite(weight).all() for weight in weights)


def test_a_killed_run_resumes_to_the_same_weights(finished, coco, tmp_path):
    folder = tmp_path / "pcnet-m"
    arguments = ["--dataset", coco, "--output_dir", folder, *SMALL]
    arguments += ["--resume_from_checkpoint", "latest", "--checkpointing_steps", "1"]
    process = subprocess.Popen(
        launch_command("train_pcnet_m.py", *arguments), env=script_environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (folder / "checkpoint-2").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    import os

    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (folder / "checkpoint-2").exists()
    run_script("train_pcnet_m.py", *arguments)
    expected = saved_weights(finished)
    for name, value in saved_weights(folder).items():
        assert torch.equal(value, expected[name]), name


def test_two_processes_average_their_gradients(coco, tmp_path):
    """One update of two processes of 4 samples is one update of their 8 samples in one process."""
    folder = tmp_path / "pcnet-m"
    arguments = ["--dataset", str(coco), "--output_dir", str(folder), *SMALL, "--sync_batch_norm"]
    arguments[arguments.index("--use_ema")] = "--channels_last"
    arguments += [
        "--optimizer",
        "sgd",
        "--learning_rate",
        "0.1",
        "--lr_scheduler",
        "constant",
        "--max_train_steps",
        "1",
        *("--use_ema", "false", "--max_grad_norm", "1e9"),  # which the recipe has otherwise
    ]
    run_script("train_pcnet_m.py", *arguments, processes=2)
    assert "1 updates of 8 samples (8 samples)" in (folder / "README.md").read_text()
    assert AmodalPipeline.from_pretrained(folder).model.config.sample_size == 32
    import train_pcnet_m
    from accelerate.utils import set_seed

    args = train_pcnet_m.parse_arguments(arguments)
    set_seed(args.seed)
    task = train_pcnet_m.PCNetMaskTask(args)
    halves = []
    for process in range(2):
        place = SimpleNamespace(
            device=torch.device("cpu"), process_index=process, num_processes=2, autocast=nullcontext,
            main_process_first=nullcontext,
        )  # fmt: skip
        task.setup(place)
        halves.append(task.synthesizer.sample(0, 4))
    assert not torch.equal(halves[0].target, halves[1].target)
    mask, eraser, target = (torch.cat([getattr(h, name) for h in halves]) for name in ("mask", "eraser", "target"))
    model = task.model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=args.weight_decay)
    train_pcnet_m.completion_loss(model(mask=mask, eraser=eraser).logits, target, eraser).backward()
    optimizer.step()
    found = saved_weights(folder)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.fixture
def train_main():
    """`main` of the script, in this process."""
    import train_pcnet_m

    return train_pcnet_m.main


def test_starts_from_another_pipeline_and_pushes(finished, coco, tmp_path, train_main, monkeypatch):
    calls = []

    class FakeApi:
        def __init__(self, token=None):
            calls.append(("token", token))

        def create_repo(self, name, repo_type, private, exist_ok):
            calls.append(("create", name, private))
            return SimpleNamespace(repo_id=f"me/{name}")

        def upload_folder(self, **arguments):
            calls.append(("upload", arguments["repo_id"], arguments["ignore_patterns"]))
            return SimpleNamespace(commit_url="url")

    monkeypatch.setattr("amodal_diffusion.hub.HfApi", FakeApi)
    folder = tmp_path / "mine"
    arguments = ["--dataset", str(coco), "--output_dir", str(folder), *SMALL, "--max_train_steps", "1"]
    arguments += ["--pretrained_pipeline", str(finished), "--learning_rate", "1e-12", "--report_to", "tensorboard"]
    arguments += ["--order_rule", "evidence", "--confine_to_eraser", "--mask_threshold", "0.3"]
    arguments += ["--push_to_hub", "--hub_private", "--hub_token", "secret"]
    monkeypatch.setattr(sys, "argv", ["training/train_pcnet_m.py", *arguments])
    train_main(arguments)
    assert calls[0] == ("token", "secret")
    assert calls[1] == ("create", "mine", True)
    assert calls[2][:2] == ("upload", "me/mine")
    assert "checkpoint-*" in calls[2][2]
    expected = saved_weights(finished)
    kernels = [name for name in expected if name.endswith("0.weight")]
    for name in kernels:  # a learning rate of nothing keeps the weights that it started from
        torch.testing.assert_close(saved_weights(folder)[name], expected[name], rtol=0, atol=1e-6)
    card = (folder / "README.md").read_text()
    assert "secret" not in card
    settings = AmodalPipeline.from_pretrained(folder).config
    assert (settings.order_rule, settings.confine_to_occluders, settings.mask_threshold) == ("evidence", True, 0.3)
    assert list((folder / "logs").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train_batch_size", "0"], "`--train_batch_size` must be at least 1, got 0"),
        (["--validation_steps", "-1"], "`--validation_steps` must not be negative"),
        (["--learning_rate", "0"], "`--learning_rate` must be positive"),
        (["--validation_fraction", "1.5"], r"`--validation_fraction` must lie in \(0, 1\), got 1.5"),
        (["--ema_decay", "1"], r"`--ema_decay` must lie in \(0, 1\), got 1.0"),
        (["--checkpoints_total_limit", "0"], "`--checkpoints_total_limit` must be at least 1"),
        (["--learning_rate", "nan"], "`--learning_rate` must be finite, got nan"),
        (["--lr_gamma", "-1"], "`--lr_gamma` must be positive and finite"),
        (["--max_grad_norm", "0"], "`--max_grad_norm` must be positive and finite"),
        (["--weight_decay", "-1"], "`--weight_decay` must not be negative"),
        (["--inside_weight", "-1"], "`--inside_weight` must not be negative, got -1.0"),
        (["--lr_milestones", "-1"], r"`--lr_milestones` must not be negative, got \[-1\]"),
        (["--momentum", "1"], r"`--momentum` must lie in \[0, 1\), got 1.0"),
        (["--seed", "-1"], r"`--seed` must lie in \[0, 2\*\*32\), got -1"),
        (["--validation_samples", "0"], "`--validation_samples` must be at least 1, got 0"),
        (["--dataset_weights", "nan"], "`--dataset_weights` must be finite, got nan"),
        (["--dataset_weights", "0"], "`--dataset_weights` must be 1 non-negative numbers, not all 0"),
        (["--dataset_weights", "1", "2"], "`--dataset_weights` must be 1 non-negative numbers"),
        (["--report_to", "paper"], "`--report_to` must be one of none, all, .*tensorboard"),
        (["--min_area", "999999"], "`--dataset` holds no mask"),
        (["--order_threshold", "7"], r"`order_threshold` must lie in \[0, 1\), got 7.0"),
    ],
)
def test_bad_values_are_refused_by_name(train_main, coco, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        train_main(["--dataset", str(coco), "--output_dir", str(tmp_path / "out"), *arguments])
    assert not list(tmp_path.glob("out/*"))  # before the first update, whatever the pipeline refuses


def test_a_flag_cut_short_is_refused(train_main, capsys):
    with pytest.raises(SystemExit):
        train_main(["--dataset", "x", "--output_dir", "x", "--rec", "improved"])  # which would miss half of the recipe
    assert "--rec" in capsys.readouterr().err


def test_a_checkpoint_of_a_network_with_other_meaning_is_refused(train_main, coco, finished, tmp_path):
    arguments = ["--dataset", coco, "--output_dir", tmp_path / "out", *SMALL, "--class_conditioned"]
    newest = max(finished.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    with pytest.raises(ValueError, match="`--class_conditioned` was off there and is on here"):
        train_main([str(part) for part in [*arguments, "--resume_from_checkpoint", newest]])


@pytest.mark.parametrize("bad", [0, -1])
def test_class_conditioned_refuses_ids_below_one(train_main, coco, tmp_path, bad):
    content = json.loads(coco.read_text())
    for entry in (content["annotations"][0], content["categories"][0]):
        entry["category_id" if "image_id" in entry else "id"] = bad
    (tmp_path / "masks.json").write_text(json.dumps(content))
    arguments = ["--dataset", tmp_path / "masks.json", "--output_dir", tmp_path / "out", "--class_conditioned", *SMALL]
    with pytest.raises(ValueError, match=rf"`--class_conditioned` .* must be at least 1, and the data has {bad}"):
        train_main([str(argument) for argument in arguments])


def test_a_missing_checkpoint_is_named(train_main, coco, tmp_path):
    arguments = [
        "--dataset",
        str(coco),
        "--output_dir",
        str(tmp_path),
        *SMALL,
        "--resume_from_checkpoint",
        "checkpoint-7",
    ]
    with pytest.raises(FileNotFoundError, match="checkpoint-7"):
        train_main(arguments)


def test_a_missing_data_set_is_named(train_main, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        train_main(["--dataset", str(tmp_path / "nowhere.json"), "--output_dir", str(tmp_path / "out"), *SMALL])


@pytest.mark.slow
@needs_shared
def test_learns_a_few_real_masks_by_heart(tmp_path):
    """Eight occluded objects of real photos: it brings back what is hidden of each, as the loop validates it."""
    assert masks_by_heart("train_pcnet_m", "PCNetMaskTask", tmp_path, 200) >= 90
