"""Losses that several systems share."""

import torch.nn.functional as F
from torch import Tensor


def uncertainty_weighted_loss(
    logits: Tensor, target: Tensor, occluder: Tensor, inside_weight: float = 5.0, epsilon: float = 1e-6
) -> Tensor:
    """ASBU's loss: the squared error over the squared uncertainty, plus the squared uncertainty, half of both.

    With m = sigmoid of output 0 and u = softplus of output 1, a pixel costs ½[((target - m) / (u + epsilon))² + u²],
    `inside_weight` times as much inside the occluder; mean over pixels. Source: [N21], section 3.

    Args:
        logits: (B, 2, h, w) floating point.
        target: (B, 1, h, w) in {0, 1}, the amodal mask.
        occluder: (B, 1, h, w) in {0, 1}.
        inside_weight: lambda, the factor inside the occluder.
        epsilon: keeps the quotient finite.
    """
    mean, spread = logits.float().split(1, dim=1)
    uncertainty = F.softplus(spread)
    per_pixel = ((target - mean.sigmoid()) / (uncertainty + epsilon)).square() + uncertainty.square()
    return 0.5 * (per_pixel * (1 + (inside_weight - 1) * occluder)).mean()
