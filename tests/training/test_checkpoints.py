"""Checkpoints of a run: exact, never unpickled, whole or named, and `latest` is the newest that is whole."""

import hashlib
import json
import logging
import os
import pickle
import random
import shutil
from argparse import Namespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn
from trainer.averaging import averaged_model
from trainer.checkpoints import find_checkpoint, list_checkpoints, save_checkpoint
from trainer.loop import make_optimizer, make_scheduler
from trainer.training_state import DamagedCheckpointError, RefusedCheckpointError, RunState, TrainingState

from kill_helpers import killed_at_every_step, tree

SCHEDULES = ["multistep", "one_cycle", "cosine", "warmup_stable_decay", "constant"]


class Hostile:
    """Unpickled, it would leave a file behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def make_state(
    optimizer="adamw", schedule="one_cycle", ema=0.9, width=3, discriminator=False, learning_rate=0.1, seed=0
):
    """A network of a convolution in channels_last and of batch norm, with all that is trained beside it."""
    torch.manual_seed(seed)
    accelerator = Accelerator(cpu=True)
    model = nn.Sequential(nn.Conv2d(2, width, 3), nn.BatchNorm2d(width)).to(memory_format=torch.channels_last)
    args = Namespace(
        optimizer=optimizer, learning_rate=learning_rate, momentum=0.9, weight_decay=0.01, lr_scheduler=schedule,
        lr_milestones=[2, 4], lr_gamma=0.5, lr_warmup_fraction=0.3, lr_decay_fraction=0.5, max_train_steps=8,
    )  # fmt: skip
    made = make_optimizer(model, args)
    scheduler = make_scheduler(made, args)
    trained = {"model": accelerator.prepare(model, made)}
    if discriminator:
        other = nn.Conv2d(1, 1, 1)
        trained["discriminator"] = accelerator.prepare(other, torch.optim.Adam(other.parameters()))
    fixed = {"optimizer": optimizer, "lr_scheduler": schedule, "use_ema": ema is not None}
    if ema is not None:
        fixed["ema_decay"] = ema
    average = averaged_model(model, ema) if ema is not None else None
    kept = {"learning_rate": learning_rate}
    return TrainingState(accelerator, trained, scheduler, average, RunState(), fixed, kept)


def train(state, steps):
    """Updates on random numbers of every generator; gives the weights and the rates."""
    rates = []
    for _ in range(steps):
        for name, (network, optimizer) in state.trained.items():
            noise = torch.randn(4, 2 if name == "model" else 1, 8, 8) * random.random() + float(np.random.normal())
            network(noise).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        if state.ema is not None:
            state.ema.update_parameters(state.trained["model"][0])
        state.scheduler.step()
        rates.append(state.scheduler.get_last_lr())
        state.run.step += 1
        state.run.history.append({"step": state.run.step, "loss": random.gauss(0, 1)})
    return rates


def everything(state):
    files, document = state.collect()
    return {f"{name}/{key}": value.clone() for name, values in files.items() for key, value in values.items()}, document


def saved(folder, steps=2, **options):
    state = make_state(**options)
    train(state, steps)
    return save_checkpoint(state, folder, None)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_resumed_run_is_the_same_run(tmp_path, optimizer, schedule):
    options = {"optimizer": optimizer, "schedule": schedule, "discriminator": schedule == "cosine"}
    first = make_state(**options)
    train(first, 3)
    random.gauss(0, 1), np.random.standard_normal()  # leaves half a pair in each generator
    folder = save_checkpoint(first, tmp_path, None)
    rates = train(first, 4)
    second = make_state(**options, seed=1)
    random.seed(5), np.random.seed(5)
    second.load(folder)
    assert second.run.step == 3 and len(second.run.history) == 3
    layout = second.trained["model"][1].optimizer.state_dict()["state"][0]
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in layout.values() if value.ndim == 4)
    assert train(second, 4) == rates
    (expected, state), (found, other) = everything(first), everything(second)
    assert state == other and expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_a_checkpoint_before_the_first_update(tmp_path):
    folder = saved(tmp_path, 0, optimizer="sgd", ema=None)
    state = make_state(optimizer="sgd", ema=None)
    state.load(folder)
    assert state.run.step == 0 and not load_file(folder / "model_optimizer.safetensors")


def test_networks_that_share_tensors(tmp_path):
    state = make_state(ema=None)
    model = state.trained["model"][0]
    model.twin, model.part = model[0], nn.Parameter(torch.zeros(5)[1:])
    state.load(save_checkpoint(state, tmp_path, None))


def test_nothing_but_safetensors_and_json_is_written(tmp_path):
    folder = saved(tmp_path, discriminator=True)
    assert sorted(os.listdir(folder)) == [
        "discriminator.safetensors", "discriminator_optimizer.safetensors", "ema.safetensors", "model.safetensors",
        "model_optimizer.safetensors", "random.safetensors", "state.json",
    ]  # fmt: skip


NAMES = ["ema", "model", "model_optimizer", "random"]


def hostile_contents(mark, folder):
    """What may stand in any file of a checkpoint, by name."""
    torch.save({"a": Hostile(mark)}, folder / "hostile")
    state = json.loads((folder / "checkpoint-2" / "state.json").read_text())
    deep = b"[" * 100_000
    return {
        "pickle": pickle.dumps(Hostile(mark)),
        "torch": (folder / "hostile").read_bytes(),
        "empty": b"",
        "header": (2**63 - 1).to_bytes(8, "little") + b"{}",
        "json": b"{}",
        "null": b"null",
        "deep": deep,
        "digits": b'{"format": ' + b"9" * 5000 + b"}",
        "text": b'{"format": 1, "files": {}}',
        "outside": json.dumps({**state, "files": {"../../hostile": {"bytes": 1, "sha256": ""}}}).encode(),
        "not utf-8": b"\xff\xfe{}",
        **{f"no {key}": json.dumps({**state, key: None}).encode() for key in state if key != "scaler"},
        "step": json.dumps({**state, "step": "many"}).encode(),
        "groups": json.dumps({**state, "optimizers": {"model": {"class": "AdamW", "groups": [{"lr": "x"}]}}}).encode(),
    }


@pytest.mark.parametrize("name", [*(f"{name}.safetensors" for name in NAMES), "state.json"])
@pytest.mark.parametrize("consistent", [False, True], ids=["as it is", "with its digest"])
def test_a_hostile_file_is_named_and_not_run(tmp_path, name, consistent):
    """Also where the digest in `state.json` is that of the hostile file."""
    folder, mark = saved(tmp_path), tmp_path / "ran"
    whole = tree(folder)
    for kind, content in hostile_contents(mark, tmp_path).items():
        (folder / name).write_bytes(content)
        if consistent and name != "state.json":
            state = json.loads(whole["state.json"])
            state["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            (folder / "state.json").write_text(json.dumps(state))
        with pytest.raises((DamagedCheckpointError, RefusedCheckpointError), match=r"checkpoint-2 ") as caught:
            make_state().load(folder)
        assert not mark.exists(), kind
        assert caught.type is RefusedCheckpointError or name in str(caught.value) or "hostile" in str(caught.value), (
            kind, str(caught.value),
        )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["custom_checkpoint_0.pkl", "optimizer.bin", "random_states_0.pkl", "scheduler.bin", "pytorch_model.bin"]
)
def test_checkpoints_of_accelerate_are_refused_by_name(tmp_path, name):
    old, mark = tmp_path / "checkpoint-9", tmp_path / "ran"
    old.mkdir()
    torch.save(Hostile(mark), old / name)
    shutil.copy(saved(tmp_path) / "model.safetensors", old)
    for load in (lambda: make_state().load(old), lambda: find_checkpoint("latest", tmp_path)):
        with pytest.raises(RefusedCheckpointError, match=rf"checkpoint-9 is refused: {name} can run code") as caught:
            load()
        assert not mark.exists() and "safetensors and JSON alone" in str(caught.value)


@pytest.mark.parametrize(
    ("there", "here", "message"),
    [
        ({"optimizer": "sgd"}, {}, "`--optimizer` was sgd there and is adamw here"),
        ({}, {"optimizer": "sgd"}, "`--optimizer` was adamw there and is sgd here"),
        ({"ema": None}, {}, "`--use_ema` was off there and is on here"),
        ({}, {"ema": None}, "`--use_ema` was on there and is off here"),
        ({}, {"ema": 0.5}, "`--ema_decay` was 0.9 there and is 0.5 here"),
        ({}, {"schedule": "cosine"}, "`--lr_scheduler` was one_cycle there and is cosine here"),
        ({"discriminator": True}, {}, "it trained model and discriminator, this run model"),
        ({}, {"width": 4}, r"model.safetensors: .*`0.weight` has the shape \(3, 2, 3, 3\) and \(4, 2, 3, 3\)"),
    ],
)
def test_of_another_run(tmp_path, there, here, message):
    folder, state = saved(tmp_path, **there), make_state(**here)
    before, _ = everything(state)
    with pytest.raises(RefusedCheckpointError, match=rf"checkpoint-2 is of another run: .*{message}"):
        state.load(folder)
    after, _ = everything(state)
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_optimizers_and_tensors_of_another_run(tmp_path):
    folder, state = saved(tmp_path), make_state()
    state.trained["model"] = state.accelerator.prepare(
        state.trained["model"][0], torch.optim.AdamW([*state.trained["model"][0].parameters()][:2])
    )
    with pytest.raises(RefusedCheckpointError, match=r"model had \[4\] parameters there and has \[2\]"):
        state.load(folder)
    more = make_state()
    more.trained["model"][0].extra = nn.Parameter(torch.zeros(1))
    with pytest.raises(RefusedCheckpointError, match=r"model\.safetensors: it has no `extra`"):
        more.load(folder)


def test_another_learning_rate_gets_a_warning(tmp_path, caplog):
    folder = saved(tmp_path)
    with caplog.at_level(logging.WARNING):
        make_state(learning_rate=0.5).load(folder)
    assert "the checkpoint's `--learning_rate` 0.1 goes on, not 0.5" in caplog.text


def damage(folder, how):
    if how == "empty":
        for path in folder.iterdir():
            path.unlink()
    elif how == "without a file":
        (folder / "ema.safetensors").unlink()
    elif how == "cut":
        os.truncate(folder / "model.safetensors", 100)
    elif how == "cut JSON":
        os.truncate(folder / "state.json", 100)
    else:  # as some file systems leave files after the power fails
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[:-8] + bytes(8))


DAMAGES = {
    "empty": "it is empty", "without a file": r"it has no ema\.safetensors", "cut": r"model\.safetensors has 100 bytes",
    "cut JSON": r"state\.json: ", "zeros": r"model\.safetensors is not what was written",
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGES)
def test_latest_is_the_newest_that_is_whole(tmp_path, how, caplog):
    state = make_state()
    for _ in range(3):
        train(state, 1)
        save_checkpoint(state, tmp_path, None)
    damage(tmp_path / "checkpoint-3", how)
    message = f"checkpoint-3 is not whole: {DAMAGES[how]}"
    with pytest.raises(DamagedCheckpointError, match=message):
        find_checkpoint("checkpoint-3", tmp_path)
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint("latest", tmp_path) == tmp_path / "checkpoint-2"
    assert "checkpoint-3 is not whole" in caplog.text and "checkpoint-2 instead" in caplog.text
    for name in ("checkpoint-1", "checkpoint-2"):
        damage(tmp_path / name, "empty")
    with pytest.raises(DamagedCheckpointError, match="No other checkpoint is left"):
        find_checkpoint("latest", tmp_path)


def test_damaged_checkpoints_do_not_push_whole_ones_out(tmp_path):
    """The run that goes on from an older one writes steps below that of the damaged one."""
    state = make_state()
    for step in (9, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
    state.run.step = 5
    save_checkpoint(state, tmp_path, 1)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [5, 9]
    assert find_checkpoint("latest", tmp_path).name == "checkpoint-5"


def test_checkpoints_are_found_by_number(tmp_path):
    for step in ("9", "10"):
        shutil.copytree(saved(tmp_path / "other"), tmp_path / f"checkpoint-{step}")
    for name in (".partial-x", "checkpoint-x"):
        (tmp_path / name).mkdir()
    assert [step for step, _ in list_checkpoints(tmp_path)] == [9, 10]
    assert find_checkpoint("latest", tmp_path).name == "checkpoint-10"
    assert find_checkpoint("checkpoint-9", tmp_path).name == "checkpoint-9"
    assert find_checkpoint("latest", tmp_path / "checkpoint-x") is None
    with pytest.raises(FileNotFoundError, match="names no folder: 'checkpoint-7'"):
        find_checkpoint("checkpoint-7", tmp_path)


def test_killed_at_every_step_of_saving(tmp_path):
    """The newest checkpoint under its name is always whole; what the kill left is swept by the next save."""
    state = make_state(ema=None)
    first = save_checkpoint(state, tmp_path, None)
    train(state, 1)

    def reset():
        shutil.rmtree(tmp_path / "checkpoint-1", ignore_errors=True)
        if not first.is_dir():
            save_checkpoint(make_state(ema=None), tmp_path, None)

    for _ in killed_at_every_step(lambda: save_checkpoint(state, tmp_path, 1), reset):
        assert find_checkpoint("latest", tmp_path) is not None
        make_state(ema=None).load(find_checkpoint("latest", tmp_path))
    assert os.listdir(tmp_path) == ["checkpoint-1"]


def test_extra_tensors_are_refused(tmp_path):
    folder = saved(tmp_path)
    path = folder / "model.safetensors"
    save_file(load_file(path) | {"more": torch.zeros(1)}, path)
    state = json.loads((folder / "state.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    state["files"][path.name] = {"bytes": path.stat().st_size, "sha256": digest}
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(RefusedCheckpointError, match="`more` is no tensor of this run"):
        make_state().load(folder)
