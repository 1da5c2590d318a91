"""The losses of PCNet-C with their weights [Z20]."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.synthesis import ContentBatch
from .perceptual import PerceptualNetwork, perceptual_losses


@dataclass(frozen=True)
class ContentLossWeights:
    """Factors of the parts of the loss; the defaults are published.

    Example:
        >>> ContentLossWeights(style=0.0).hole
        6.0
    """

    valid: float = 1.0
    hole: float = 6.0
    total_variation: float = 0.1
    perceptual: float = 0.1
    style: float = 250.0
    adversarial: float = 0.1


def composite(output: Tensor, batch: ContentBatch) -> Tensor:
    """(B, 3, S, S) float32: the photo where it is visible, the network's answer in the hole.

    Example:
        >>> from amodal_diffusion.data.synthesis import ContentBatch
        >>> plane = torch.ones(1, 1, 4, 4)
        >>> batch = ContentBatch(torch.zeros(1, 3, 4, 4), visible=0 * plane, mask=plane, known=plane)
        >>> composite(torch.ones(1, 3, 4, 4), batch).mean()
        tensor(1.)
    """
    return torch.where(batch.visible > 0, batch.image, output.float())


def total_variation(picture: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, along both axes: a scalar for (B, C, h, w).

    Example:
        >>> total_variation(torch.arange(4.0).expand(1, 3, 4, 4))
        tensor(1.)
    """
    across, down = picture[..., 1:] - picture[..., :-1], picture[..., 1:, :] - picture[..., :-1, :]
    return across.abs().mean() + down.abs().mean()


def content_losses(output: Tensor, batch: ContentBatch, network: PerceptualNetwork | None) -> dict[str, Tensor]:
    """The parts of the loss by their names in `ContentLossWeights`, but for the adversarial one; unweighted scalars.

    Args:
        output: (B, 3, S, S) floating point, ImageNet-normalised.
        batch: the samples. What is not `known` of them costs nothing.
        network: VGG-16 or EfficientNet-lite0; None leaves out `perceptual` and `style`.

    Example:
        >>> plane = torch.ones(1, 1, 4, 4)
        >>> batch = ContentBatch(torch.zeros(1, 3, 4, 4), visible=0 * plane, mask=plane, known=plane)
        >>> losses = content_losses(torch.ones(1, 3, 4, 4), batch, network=None)
        >>> {name: loss.item() for name, loss in losses.items()}
        {'valid': 0.0, 'hole': 1.0, 'total_variation': 0.0}
    """
    picture = composite(output, batch)
    error = (output.float() - batch.image).abs() * batch.known
    losses = {
        "valid": (error * batch.visible).mean(),
        "hole": (error * (1 - batch.visible)).mean(),
        "total_variation": total_variation(picture),
    }
    if network is not None:
        shown = torch.where(batch.known > 0, batch.image, picture)
        losses["perceptual"], losses["style"] = perceptual_losses(network, [output.float(), picture], shown)
    return losses


def generator_loss(fake: Tensor) -> Tensor:
    """Non-saturating: how little the discriminator takes the composites (logits of any shape) for photos.

    Example:
        >>> round(generator_loss(torch.zeros(2, 1, 3, 3)).item(), 4)
        0.6931
    """
    return F.binary_cross_entropy_with_logits(fake.float(), torch.ones_like(fake, dtype=torch.float32))


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Binary cross-entropy of both answers, half each.

    Example:
        >>> sure = torch.full((2, 1, 3, 3), 50.0)
        >>> discriminator_loss(real=sure, fake=-sure).item() < 1e-6
        True
    """
    wrong = F.binary_cross_entropy_with_logits(fake.float(), torch.zeros_like(fake, dtype=torch.float32))
    return (generator_loss(real) + wrong) / 2
