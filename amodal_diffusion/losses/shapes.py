"""What Amodal-VAE minimises in each of its three stages [L20]."""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..crops import paste_from_boxes, to_absolute_boxes
from ..data.samplers.shape_sources import FRAME
from ..data.samplers.shapes import PartialBatch, ShapeBatch
from ..models import DiagonalGaussian
from .masks import bernoulli_nll, placed_nll

Logs = dict[str, float | Tensor]


@dataclass(frozen=True)
class ShapeWeights:
    """Weights of the parts of the losses, each a sum over pixels or dimensions in nats, mean over the batch.

    Pixels are those of the tight crop; what is compared in the larger frame counts by area.

    Args:
        kl: lambda, of the divergence from the prior.
        code: of half the squared distance between the codes of the partial and of the whole mask (stage 2).
        placement: of the likelihood of the placed mask (stage 2; in stage 3 it is the whole likelihood, weight 1).
        box: of the smooth L1 distance of the placement from the true one, which is not in the paper (stage 2).
        background: of the pixels that show neither the object nor what is in front of it (stage 3).

    Example:
        >>> ShapeWeights(kl=0.5).placement
        1.0
    """

    kl: float = 1.0
    code: float = 1.0
    placement: float = 1.0
    box: float = 0.0
    background: float = 0.0


def complete_loss(
    model: nn.Module, whole: Tensor, category_ids: Tensor | None, generator: torch.Generator, weights: ShapeWeights
) -> tuple[Tensor, Logs]:
    """Stage 1: the negative ELBO of complete masks (B, 1, s, s), per pixel. Source: [L20], equation 1.

    Example:
        >>> from amodal_diffusion.models import AmodalVAE
        >>> model = AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(4, 8))
        >>> amodal = torch.ones(2, 1, 16, 16)
        >>> loss, logs = complete_loss(model, amodal, None, torch.Generator().manual_seed(0), ShapeWeights())
        >>> loss.shape, sorted(logs)
        (torch.Size([]), ['kl', 'nll'])
    """
    logits, _, posterior = model(whole, category_ids, None, generator, True, False)
    nll, kl = bernoulli_nll(logits, whole).mean(), posterior.kl().mean()
    return (nll + weights.kl * kl) / whole[0].numel(), {"nll": nll.detach(), "kl": kl.detach()}


def simulated_loss(
    model: nn.Module,
    batch: ShapeBatch,
    category_ids: Tensor | None,
    codes: DiagonalGaussian | None,
    generator: torch.Generator,
    weights: ShapeWeights,
    *,
    own_codes: bool = False,
) -> tuple[Tensor, Logs]:
    """Stage 2: the whole mask from a simulated partial one, per pixel. Source: [L20], equations 2 to 4.

    `codes` are those of the whole masks by the encoder of stage 1, to which the codes of the partial ones are pulled.
    With `own_codes` they are those of the encoder that learns, as equation 3 has it, so that both codes move. The
    expectation of the squared distance of two codes is taken exactly, where the paper draws one sample of each. Samples
    cropped by the box of the whole object have no placement.

    Raises:
        ValueError: `codes` together with `own_codes`; `own_codes` of a batch with photos of the partial masks alone.

    Example:
        >>> import numpy as np
        >>> from amodal_diffusion.data.samplers import ShapeSampler
        >>> from amodal_diffusion.data.synthesis import MaskBank
        >>> from amodal_diffusion.models import AmodalVAE
        >>> bank = MaskBank.from_masks([(np.ones((20, 30), dtype=bool), 1, 0)], resolution=16)
        >>> sampler = ShapeSampler(bank, size=16, frame_size=16, seed=0, synthesis_size=32)
        >>> batch = sampler.simulated(step=0, batch_size=2)
        >>> model = AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(4, 8))
        >>> generator = torch.Generator().manual_seed(0)
        >>> loss, logs = simulated_loss(model, batch, None, None, generator, ShapeWeights(box=1.0))
        >>> loss.shape, sorted(logs)
        (torch.Size([]), ['box', 'kl', 'nll', 'placement'])
    """
    if own_codes and codes is not None:
        raise ValueError("`codes` must be None with `own_codes`, which come from `model`.")
    if own_codes and (batch.image is None) != (batch.whole_image is None):
        raise ValueError("`batch` must have its `whole_image` with `own_codes`, where it has its `image`.")
    seen, ids, image = batch.visible, category_ids, batch.image
    if own_codes:  # in one pass, as a network of several processes must be called once
        seen = torch.cat([seen, batch.whole])
        ids = None if ids is None else torch.cat([ids, ids])
        image = None if image is None else torch.cat([image, cast(Tensor, batch.whole_image)])
    logits, boxes, posterior = model(seen, ids, image, generator, True, False)
    if own_codes:
        codes = DiagonalGaussian(posterior.mean[len(batch) :], posterior.log_variance[len(batch) :])
        posterior = DiagonalGaussian(posterior.mean[: len(batch)], posterior.log_variance[: len(batch)])
        logits, boxes = logits[: len(batch)], boxes[: len(batch)]
    nll, kl = bernoulli_nll(logits, batch.whole).mean(), posterior.kl().mean()
    placeable = (~batch.by_box).float()
    placed = placed_nll(place_in_frame(logits, boxes, batch.frame.shape[1]), batch.frame) * _cells(batch)
    placement = (placed * placeable).sum() / len(batch)
    loss = nll + weights.kl * kl + weights.placement * placement
    logs: Logs = {"nll": nll.detach(), "kl": kl.detach(), "placement": placement.detach()}
    if codes is not None:
        code = expected_distance(posterior, codes).mean()
        loss, logs["code"] = loss + weights.code * code, code.detach()
    distance = F.smooth_l1_loss(_log_extent(boxes), _log_extent(batch.boxes), beta=0.1, reduction="none").sum(1)
    box = (distance * placeable).sum() / len(batch)
    logs["box"] = box.detach()
    return (loss + weights.box * box) / batch.whole[0].numel(), logs


def partial_loss(
    model: nn.Module,
    batch: PartialBatch,
    category_ids: Tensor | None,
    generator: torch.Generator,
    weights: ShapeWeights,
) -> tuple[Tensor, Logs]:
    """Stage 3: the likelihood of the placed mask over visible pixels alone, per pixel. Source: [L20], equation 5.

    Example:
        >>> from amodal_diffusion.models import AmodalVAE
        >>> model = AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(4, 8))
        >>> frame = torch.zeros(2, 24, 24)
        >>> batch = PartialBatch(torch.ones(2, 1, 16, 16), frame, frame, torch.zeros(2, dtype=torch.int64))
        >>> loss, logs = partial_loss(model, batch, None, torch.Generator().manual_seed(0), ShapeWeights())
        >>> loss.shape, sorted(logs)
        (torch.Size([]), ['kl', 'visible_nll'])
    """
    logits, boxes, posterior = model(batch.visible, category_ids, batch.image, generator, True, False)
    background = (1 - batch.frame) * (1 - batch.front)
    placed = place_in_frame(logits, boxes, batch.frame.shape[1])
    nll = (placed_nll(placed, batch.frame, batch.frame + weights.background * background) * _cells(batch)).mean()
    kl = posterior.kl().mean()
    return (nll + weights.kl * kl) / batch.visible[0].numel(), {"visible_nll": nll.detach(), "kl": kl.detach()}


def place_in_frame(logits: Tensor, boxes: Tensor, size: int) -> Tensor:
    """P(object) (B, F, F) in a frame of `FRAME` times the visible mask's box, from logits and `AmodalVAE.place`.

    Example:
        >>> logits = torch.full((1, 1, 8, 8), 50.0)
        >>> placed = place_in_frame(logits, torch.tensor([[0.5, 0.5, 1.0, 1.0]]), size=24)  # where the modal mask is
        >>> placed[0, 8:16, 8:16].min().item(), placed[0, :8].max().item()
        (1.0, 0.0)
    """
    centre = torch.full_like(boxes, size / FRAME)
    return paste_from_boxes(logits[:, 0].float().sigmoid(), to_absolute_boxes(boxes.float(), centre), size, size)


def expected_distance(first: DiagonalGaussian, second: DiagonalGaussian) -> Tensor:
    """(B,) expectation of half the squared distance of a draw of each, in closed form.

    Example:
        >>> sure = DiagonalGaussian(torch.zeros(1, 4), torch.full((1, 4), -20.0))
        >>> moved = DiagonalGaussian(torch.ones(1, 4), torch.full((1, 4), -20.0))
        >>> round(expected_distance(sure, moved).item(), 4)
        2.0
    """
    spread = first.log_variance.exp() + second.log_variance.exp()
    return 0.5 * ((first.mean - second.mean).square() + spread).sum(1)


def _cells(batch: ShapeBatch | PartialBatch) -> float:
    """Cells of the tight crop that one of the frame stands for, so that lambda weighs the same in both."""
    return (FRAME * batch.visible.shape[-1] / batch.frame.shape[-1]) ** 2


def _log_extent(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[:, :2], boxes[:, 2:].clamp(min=1e-3).log()], dim=1)
