"""Moving averages of weights, and batch statistics shared by processes."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.optim.swa_utils import AveragedModel


def averaged_model(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and batch statistics that follows quickly at first.

    The decay rises as (1 + n) / (10 + n) to `decay`, so the random start is soon forgotten.
    """
    return AveragedModel(model, multi_avg_fn=_average(decay), use_buffers=True)


def _average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    @torch.no_grad()
    def update(averages: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        weight = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), weight)
            else:  # counters of batch norm
                average.copy_(value)

    return update


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with statistics over all processes, for CPUs, whose tensors `torch.nn.SyncBatchNorm` refuses.

    It needs nothing but a differentiable all-reduce. State-dict
    keys are those of `BatchNorm2d`. Processes may hold different batch sizes.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(inputs)
        values = inputs.float()
        count = values.new_full((1,), values.numel() / values.shape[1])
        sums = torch.cat([values.sum((0, 2, 3)), values.square().sum((0, 2, 3)), count])
        sums = all_reduce(sums)
        total = sums[-1]
        mean, square = (sums[:-1] / total).chunk(2)
        variance = (square - mean.square()).clamp(min=0)
        self._track(mean.detach(), variance.detach() * total / (total - 1).clamp(min=1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(inputs.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Have every `BatchNorm2d` below `module` share its statistics with the other processes; keys and values stay.

    On CUDA that is torch's own `SyncBatchNorm`, elsewhere `SyncedBatchNorm2d`.
    """
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = SyncedBatchNorm2d
    return module
