"""Parts of the shared loop: averages, shared batch statistics, schedules."""

from argparse import Namespace

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from trainer.averaging import SyncedBatchNorm2d, averaged_model, synchronise_batch_norm
from trainer.loop import make_optimizer, make_scheduler

from distributed_helpers import batch_norm_process


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


def test_synced_batch_norm_equals_batch_norm_of_the_whole_batch():
    torch.manual_seed(0)
    inputs, weights = torch.randn(5, 3, 4, 4) * 2 + 1, torch.randn(5, 3, 4, 4)
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(batch_norm_process, (inputs, weights, port, results), nprocs=2)
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


@pytest.mark.parametrize(("device", "kind"), [("cpu", SyncedBatchNorm2d), ("cuda", nn.SyncBatchNorm)])
def test_batch_norm_is_synchronised_by_torch_where_it_can(device, kind):
    plain = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.BatchNorm2d(2)))
    state = {name: value.clone() for name, value in plain.state_dict().items()}
    synced = synchronise_batch_norm(plain, torch.device(device))
    assert type(synced[1][0]) is kind
    assert synced.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in synced.state_dict().items())


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


@pytest.mark.parametrize("name", ["one_cycle", "cosine"])
@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.1, 0.5, 0.99])
def test_a_rise_of_any_length_can_be_stepped_through(name, fraction):
    """Also one of a single step, by whose length less one torch divides."""
    for updates in range(1, 41):
        args = Namespace(
            optimizer="sgd", learning_rate=1.0, momentum=0.9, weight_decay=0.0, lr_scheduler=name,
            lr_warmup_fraction=fraction, max_train_steps=updates,
        )  # fmt: skip
        optimizer = make_optimizer(nn.Linear(1, 1), args)
        scheduler = make_scheduler(optimizer, args)
        for _ in range(updates):
            assert 0 < scheduler.get_last_lr()[0] <= 1
            optimizer.step()
            scheduler.step()


def test_plateau_rises_from_the_first_update_and_falls_to_the_last():
    """Which transformers' get_wsd_schedule does not: its first rate is 0, and ranges that overlap add up."""
    args = Namespace(
        lr_scheduler="warmup_stable_decay", lr_warmup_fraction=0.25, lr_decay_fraction=0.5, max_train_steps=8
    )
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 1.0)
    scheduler = make_scheduler(optimizer, args)
    rates = []
    for _ in range(9):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates == [0.5, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]


def test_frozen_parameters_get_no_optimizer_state():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    args = Namespace(optimizer="adamw", learning_rate=1.0, weight_decay=0.0)
    assert [len(group["params"]) for group in make_optimizer(model, args).param_groups] == [1]
