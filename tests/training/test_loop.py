"""Parts of the shared loop: averages, shared batch statistics, schedules, checkpoints."""

from argparse import Namespace

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from trainer.averaging import SyncedBatchNorm2d, averaged_model, synchronise_batch_norm
from trainer.checkpoints import find_checkpoint, list_checkpoints
from trainer.loop import make_optimizer, make_scheduler


def test_average_follows_and_copies_counters():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    average = averaged_model(model, 0.5)
    average.update_parameters(model)
    with torch.no_grad():
        before = model[0].weight.clone()
        model[0].weight += 1
        model[1].running_mean += 4
        model[1].num_batches_tracked += 3
    average.update_parameters(model)
    weight = 1 - min(0.5, 2 / 11)
    torch.testing.assert_close(average.module[0].weight, before + weight)
    torch.testing.assert_close(average.module[1].running_mean, torch.full((1,), 4 * weight))
    assert average.module[1].num_batches_tracked == 3


def _batch_norm_process(rank, inputs, weights, port, results):
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    layer = synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(3)))[0]
    share = inputs[: 3 if rank == 0 else 2] if rank == 0 else inputs[3:]
    share = share.clone().requires_grad_()
    outputs = layer(share)
    (outputs * weights[: len(share)] if rank == 0 else outputs * weights[3:]).sum().backward()
    results[rank] = (outputs.detach(), share.grad, layer.running_mean, layer.running_var)
    torch.distributed.destroy_process_group()


def test_synced_batch_norm_equals_batch_norm_of_the_whole_batch():
    torch.manual_seed(0)
    inputs, weights = torch.randn(5, 3, 4, 4) * 2 + 1, torch.randn(5, 3, 4, 4)
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_batch_norm_process, (inputs, weights, port, results), nprocs=2)
        parts = [results[rank] for rank in range(2)]
    layer = nn.BatchNorm2d(3)
    whole = inputs.clone().requires_grad_()
    outputs = layer(whole)
    (outputs * weights).sum().backward()
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), outputs.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), whole.grad, rtol=1e-4, atol=1e-5)
    for part in parts:
        torch.testing.assert_close(part[2], layer.running_mean)
        torch.testing.assert_close(part[3], layer.running_var)


def test_alone_synced_batch_norm_is_batch_norm():
    plain, synced = nn.BatchNorm2d(2), SyncedBatchNorm2d(2)
    inputs = torch.randn(3, 2, 4, 4)
    torch.testing.assert_close(synced(inputs), plain(inputs))
    assert plain.state_dict().keys() == synced.state_dict().keys()


@pytest.mark.parametrize("name", ["multistep", "one_cycle", "cosine", "warmup_stable_decay", "constant"])
def test_schedules(name):
    args = Namespace(
        optimizer="sgd", learning_rate=1.0, momentum=0.9, weight_decay=0.0, lr_scheduler=name, lr_milestones=[6, 8],
        lr_gamma=0.1, lr_warmup_fraction=0.2, lr_decay_fraction=0.5, max_train_steps=10,
    )  # fmt: skip
    optimizer = make_optimizer(nn.Linear(1, 1), args)
    scheduler = make_scheduler(optimizer, args)
    rates = []
    for _ in range(10):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    expected_ends = {
        "multistep": (1.0, 0.01), "constant": (1.0, 1.0), "warmup_stable_decay": (0.5, 0.2),
        "one_cycle": (0.04, None), "cosine": (0.04, None),
    }  # fmt: skip
    first, last = expected_ends[name]
    assert rates[0] == pytest.approx(first)
    assert max(rates) == pytest.approx(1.0, abs=0.05)
    assert rates[-1] == pytest.approx(last) if last is not None else rates[-1] < 0.2


def test_frozen_parameters_get_no_optimizer_state():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    args = Namespace(optimizer="adamw", learning_rate=1.0, weight_decay=0.0)
    assert [len(group["params"]) for group in make_optimizer(model, args).param_groups] == [1]


def test_checkpoints_are_found_by_number(tmp_path):
    for name in ("checkpoint-9", "checkpoint-10", ".checkpoint-11.partial", "checkpoint-x"):
        (tmp_path / name).mkdir()
    assert [step for step, _ in list_checkpoints(tmp_path)] == [9, 10]
    assert find_checkpoint("latest", tmp_path).name == "checkpoint-10"
    assert find_checkpoint("checkpoint-9", tmp_path).name == "checkpoint-9"
    assert find_checkpoint("latest", tmp_path / "checkpoint-9") is None
