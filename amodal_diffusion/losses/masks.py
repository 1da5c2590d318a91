"""Losses of networks that complete masks or find what hides an object."""

import torch
import torch.nn.functional as F
from torch import Tensor


def completion_loss(logits: Tensor, target: Tensor, eraser: Tensor, inside_weight: float = 5.0) -> Tensor:
    """Cross-entropy, `inside_weight` times as heavy inside the eraser, mean over pixels. Source: [Z20].

    Args:
        logits: (B, 2, h, w) floating point.
        target: (B, 1, h, w) in {0, 1}.
        eraser: (B, 1, h, w) in {0, 1}.
        inside_weight: factor inside the eraser.

    Example:
        >>> logits = torch.zeros(1, 2, 1, 2)  # the object and the background are equally likely
        >>> target, eraser = torch.ones(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]])
        >>> completion_loss(logits, target, eraser).item() / torch.tensor(2.0).log().item()
        3.0
    """
    entropy = F.cross_entropy(logits.float(), target[:, 0].long(), reduction="none")
    return (entropy * (1 + (inside_weight - 1) * eraser[:, 0])).mean()


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

    Example:
        >>> logits = torch.zeros(1, 2, 8, 8)
        >>> target, occluder = torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
        >>> round(uncertainty_weighted_loss(logits, target, occluder).item(), 4)
        0.5004
    """
    mean, spread = logits.float().split(1, dim=1)
    uncertainty = F.softplus(spread)
    per_pixel = ((target - mean.sigmoid()) / (uncertainty + epsilon)).square() + uncertainty.square()
    return 0.5 * (per_pixel * (1 + (inside_weight - 1) * occluder)).mean()


def gaussian_loss(
    logits: Tensor, target: Tensor, occluder: Tensor, inside_weight: float = 5.0, epsilon: float = 1e-6
) -> Tensor:
    """What ASBU's loss is compared to: the target as a Gaussian around the mask, whose deviation is the uncertainty.

    A pixel costs ½[((target - m) / u)² + log u²], `inside_weight` times as much inside the occluder, mean over pixels;
    m and u as in `uncertainty_weighted_loss`. It has no lower bound: where the mask is right, u goes to 0. Source:
    [N21], Eq. 2.

    Args:
        logits: (B, 2, h, w) floating point.
        target: (B, 1, h, w) in {0, 1}, the amodal mask.
        occluder: (B, 1, h, w) in {0, 1}.
        inside_weight: factor inside the occluder.
        epsilon: added to u, keeps quotient and logarithm finite.

    Example:
        >>> logits = torch.zeros(1, 2, 8, 8)
        >>> target, occluder = torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
        >>> round(gaussian_loss(logits, target, occluder).item(), 4)  # 0.25 / (2 log²2) + log log 2
        -0.1063
    """
    mean, spread = logits.float().split(1, dim=1)
    uncertainty = F.softplus(spread) + epsilon
    per_pixel = ((target - mean.sigmoid()) / uncertainty).square() + 2 * uncertainty.log()
    return 0.5 * (per_pixel * (1 + (inside_weight - 1) * occluder)).mean()


def uncertainty_weighted_entropy(
    logits: Tensor, target: Tensor, occluder: Tensor, inside_weight: float = 5.0, epsilon: float = 1e-6
) -> Tensor:
    """The ablation uBCE of ASBU: binary cross-entropy in place of the squared error.

    A pixel costs ½[entropy / u² + u²], `inside_weight` times as much inside the occluder, mean over pixels; m and u as
    in `uncertainty_weighted_loss`. The paper prints its entropy with a plus between the parts of the two classes, of
    which one would then be rewarded for errors; this is the usual one. Source: [N21], Eq. 4.

    Args:
        logits: (B, 2, h, w) floating point.
        target: (B, 1, h, w) in {0, 1}, the amodal mask.
        occluder: (B, 1, h, w) in {0, 1}.
        inside_weight: factor inside the occluder.
        epsilon: added to u, keeps the quotient finite.

    Example:
        >>> logits = torch.zeros(1, 2, 8, 8)
        >>> target, occluder = torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
        >>> round(uncertainty_weighted_entropy(logits, target, occluder).item(), 4)  # (1 / log 2 + log² 2) / 2
        0.9616
    """
    mean, spread = logits.float().split(1, dim=1)
    uncertainty = F.softplus(spread)
    entropy = F.binary_cross_entropy_with_logits(mean, target, reduction="none")
    per_pixel = entropy / (uncertainty + epsilon).square() + uncertainty.square()
    return 0.5 * (per_pixel * (1 + (inside_weight - 1) * occluder)).mean()


def click_loss(logits: Tensor, target: Tensor, focal_weight: float = 2.0) -> Tensor:
    """Focal loss with exponent 1, `focal_weight` times, plus the dice loss of each object; mean over the batch.

    Args:
        logits: (B, 1, h, w) floating point.
        target: (B, 1, h, w) in {0, 1}.
        focal_weight: of the focal loss.

    Example:
        >>> target = torch.ones(1, 1, 4, 4)
        >>> round(click_loss(torch.full_like(target, 20.0), target).item(), 4)
        0.0
    """
    logits = logits.float()
    probability = logits.sigmoid()
    right = probability * target + (1 - probability) * (1 - target)
    focal = (1 - right) * F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    common = (probability * target).sum((1, 2, 3))
    dice = 1 - (2 * common + 1) / (probability.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)
    return focal_weight * focal.mean() + dice.mean()


def binary_completion_loss(logits: Tensor, target: Tensor, occluder: Tensor, inside_weight: float = 5.0) -> Tensor:
    """The ablation without uncertainty: binary cross-entropy of the first output, weighted as in [Z20].

    Args:
        logits: (B, 2, h, w) floating point; the second plane is not looked at.
        target: (B, 1, h, w) in {0, 1}.
        occluder: (B, 1, h, w) in {0, 1}.
        inside_weight: factor inside the occluder.

    Example:
        >>> logits = torch.zeros(1, 2, 8, 8)
        >>> target, occluder = torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
        >>> round(binary_completion_loss(logits, target, occluder).item(), 4)
        3.4657
    """
    entropy = F.binary_cross_entropy_with_logits(logits[:, :1].float(), target, reduction="none")
    return (entropy * (1 + (inside_weight - 1) * occluder)).mean()


def decoupled_loss(logits: Tensor, target: Tensor, occluder: Tensor, inside_weight: float = 5.0) -> Tensor:
    """The mask by cross-entropy, the uncertainty by ASBU's loss given that mask.

    ASBU's loss, minimised over the uncertainty, is the absolute error, whose best answer is the median: what is hidden
    with less than even chance comes out as 0. Cross-entropy keeps the probability. The mask is detached in ASBU's loss,
    so that the second output learns how far off the first one is and nothing else.

    Args:
        logits: (B, 2, h, w) floating point.
        target: (B, 1, h, w) in {0, 1}.
        occluder: (B, 1, h, w) in {0, 1}.
        inside_weight: factor inside the occluder.

    Example:
        >>> logits = torch.zeros(1, 2, 8, 8)
        >>> target, occluder = torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
        >>> round(decoupled_loss(logits, target, occluder).item(), 4)
        1.1935
    """
    mean, spread = logits.split(1, dim=1)
    uncertainty = uncertainty_weighted_loss(torch.cat([mean.detach(), spread], 1), target, occluder, inside_weight)
    return binary_completion_loss(logits, target, occluder, inside_weight) + uncertainty


def occluder_loss(logits: Tensor, occluder: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy, mean over the pixels where the occluder is known. Source: [Z24].

    Args:
        logits: (B, 2, h, w) floating point.
        occluder: (B, 1, h, w) in {0, 1}.
        known: (B, 1, h, w) in {0, 1}.

    Example:
        >>> logits, occluder = torch.zeros(1, 2, 8, 8), torch.zeros(1, 1, 8, 8)
        >>> occluder_loss(logits, occluder, known=torch.zeros(1, 1, 8, 8))
        tensor(0.)
    """
    entropy = F.cross_entropy(logits.float(), occluder[:, 0].long(), reduction="none")
    return (entropy * known[:, 0]).sum() / known.sum().clamp(min=1)


def question_loss(
    logits: Tensor, target: Tensor, weight: Tensor, in_front: Tensor, front_weight: Tensor, front_factor: float = 0.3
) -> Tensor:
    """Cross-entropy of the mask plus that of what is in front, each weighed by pixel; mean over pixels.

    Args:
        logits: (B, 3, h, w) floating point, see `PhotoPCNetMask`.
        target: (B, 1, h, w) in {0, 1}, the mask.
        weight: (B, 1, h, w), of its pixels.
        in_front: (B, 1, h, w) in {0, 1}, what is in front.
        front_weight: (B, 1, h, w), of its pixels.
        front_factor: of the second part.

    Example:
        >>> logits, plane = torch.zeros(1, 3, 2, 2), torch.ones(1, 1, 2, 2)
        >>> round(question_loss(logits, plane, plane, plane, 0 * plane).item(), 4)
        0.6931
    """
    logits = logits.float()
    entropy = F.binary_cross_entropy_with_logits(logits[:, 1:2] - logits[:, :1], target, reduction="none")
    front = F.binary_cross_entropy_with_logits(logits[:, 2:], in_front, reduction="none")
    return (entropy * weight + front_factor * front * front_weight).mean()


def bernoulli_nll(logits: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of masks under independent pixels, in nats: (B, ...) twice -> (B,) float32 [L20].

    Args:
        logits: of each pixel.
        target: in [0, 1].

    Example:
        >>> round(bernoulli_nll(torch.zeros(1, 8, 8), torch.ones(1, 8, 8)).item(), 4)
        44.3614
    """
    entropy = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
    return entropy.flatten(1).sum(1)


def placed_nll(probability: Tensor, target: Tensor, weight: Tensor | None = None, epsilon: float = 1e-3) -> Tensor:
    """The same from probabilities that may be exactly 0 or 1, as outside of the box that a mask is placed in.

    Args:
        probability: (B, ...) in [0, 1]; drawn into [epsilon, 1 - epsilon], so that every pixel keeps a gradient.
        target: (B, ...) in [0, 1].
        weight: (B, ...), of each pixel; None = 1.
        epsilon: bounds what one pixel can cost.

    Returns:
        (B,) float32, sums over pixels.

    Example:
        >>> placed_nll(torch.ones(1, 8, 8), torch.ones(1, 8, 8), epsilon=0.25).shape
        torch.Size([1])
    """
    shrunk = probability.float() * (1 - 2 * epsilon) + epsilon
    entropy = -(target * shrunk.log() + (1 - target) * (1 - shrunk).log())
    return (entropy if weight is None else entropy * weight).flatten(1).sum(1)
