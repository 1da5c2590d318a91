"""What processes of their own run in the tests; they import this file, so it imports little."""

import torch
from torch import nn
from trainer.averaging import synchronise_batch_norm


def batch_norm_process(rank, inputs, weights, port, results):
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    layer = synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(3)), torch.device("cpu"))[0]
    share = inputs[: 3 if rank == 0 else 2] if rank == 0 else inputs[3:]
    share = share.clone().requires_grad_()
    outputs = layer(share)
    (outputs * weights[: len(share)] if rank == 0 else outputs * weights[3:]).sum().backward()
    results[rank] = (outputs.detach(), share.grad, layer.running_mean, layer.running_var)
    torch.distributed.destroy_process_group()
