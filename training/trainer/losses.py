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


def bernoulli_nll(logits: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of masks under independent pixels, in nats: (B, ...) twice -> (B,) float32 [L20].

    Args:
        logits: of each pixel.
        target: in [0, 1].
    """
    entropy = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
    return entropy.flatten(1).sum(1)


def placed_nll(probability: Tensor, target: Tensor, weight: Tensor | None = None, epsilon: float = 1e-3) -> Tensor:
    """The same from probabilities that may be exactly 0 or 1, as outside of the box that a mask is placed in.

    Args:
        probability: (B, ...) in [0, 1]; drawn into [epsilon, 1 - epsilon], so that every pixel keeps a gradient.
        target: likewise, in [0, 1].
        weight: likewise, of each pixel; None = 1.
        epsilon: bounds what one pixel can cost.

    Returns:
        (B,) float32, sums over pixels.
    """
    shrunk = probability.float() * (1 - 2 * epsilon) + epsilon
    entropy = -(target * shrunk.log() + (1 - target) * (1 - shrunk).log())
    return (entropy if weight is None else entropy * weight).flatten(1).sum(1)
