"""Samples of PCNet-M [Z20] and ASBU [N21] from scenes with true whole masks, beside what is synthesised."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ..synthesis import OcclusionBatch, OcclusionSynthesizer, PhotoOcclusionSynthesizer, mix_seed, share_out
from .photo_boundaries import PhotoBoundaries

REACH = 3
"""How many pixels of a crop may lie between two objects that count as neighbours, and 1."""

_NEIGHBOUR = 1  # in the seed: another stream than that of the synthesizer


class TruePairs:
    """Draws pairs of neighbours from scenes with true whole masks: A, and one object that it touches as the eraser.

    The pair is as the scene has it: the eraser hides a part of A, is hidden by it, or merely touches it. The target
    is A as far as it is visible or under the eraser, so it grows in the first case alone. An object without neighbours
    has an empty eraser.

    Args:
        synthesizer: of a bank `with_instances`, whose recipe pastes nothing and makes no regions.

    Raises:
        ValueError: a bank without instances, or a recipe that pastes or makes regions.

    Example:
        >>> from amodal_diffusion.data.synthesis import (
        ...     AMODAL, INSIDE, MODAL, OCCLUDER, OTHERS, PhotoBank, PhotoSynthesisConfig)
        >>> layers = torch.full((1, 32, 32), INSIDE, dtype=torch.uint8)
        >>> layers[:, 8:24, 8:16] |= MODAL | AMODAL
        >>> layers[:, 8:24, 16:20] |= AMODAL | OCCLUDER | OTHERS
        >>> seen = torch.zeros(1, 32, 32, dtype=torch.uint8)
        >>> seen[:, 8:24, 8:16], seen[:, 8:24, 16:20] = 1, 2
        >>> pixels, zero = torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)
        >>> bank = PhotoBank(pixels, layers, zero == 0, zero, context=1.5, instances=seen)
        >>> plain = PhotoSynthesisConfig(size=16, front_probability=0, behind_probability=0, region_probability=0)
        >>> batch = TruePairs(PhotoOcclusionSynthesizer(bank, plain)).sample(step=0, batch_size=1)
        >>> bool(batch.target.sum() > batch.mask.sum() > 0)
        True
    """

    def __init__(self, synthesizer: PhotoOcclusionSynthesizer) -> None:
        config = synthesizer.config
        if synthesizer.bank.instances is None:
            raise ValueError("`synthesizer` must have a bank made `with_instances`.")
        if config.front_probability or config.behind_probability or config.region_probability:
            raise ValueError(f"`synthesizer` must paste nothing and make no regions, got {config}.")
        self.synthesizer = synthesizer

    def sample(self, step: int, batch_size: int) -> OcclusionBatch:
        """The batch of `step` for this process: always the same for the same arguments."""
        batch = self.synthesizer.sample(step, batch_size)
        others = cast(Tensor, batch.others)  # the bank has instances
        seed = mix_seed(self.synthesizer.seed, step, self.synthesizer.process_index, _NEIGHBOUR)
        generator = torch.Generator(others.device).manual_seed(seed)
        chosen = _choose_neighbour(batch.modal, others, generator)
        eraser = ((others == chosen[:, None, None, None]) & (others > 0)).float()
        target = batch.modal * (1 - eraser) + batch.amodal * eraser
        return OcclusionBatch(batch.modal * (1 - eraser), eraser, target, cast(Tensor, batch.category_ids))


class MixedOcclusion:
    """Draws every batch from several sources, one after the other, each with its share.

    Args:
        sources: what draws them.
        shares: of each source, in any unit; a source whose share of a batch rounds to nothing is not asked.

    Raises:
        ValueError: shares that are negative, all 0, or not as many as sources.

    Example:
        >>> from amodal_diffusion.data.synthesis import MaskBank, OcclusionSynthesizer
        >>> bank = MaskBank.from_masks([(torch.ones(32, 32, dtype=torch.bool).numpy(), 1, 0)] * 2)
        >>> source = OcclusionSynthesizer(bank)
        >>> len(MixedOcclusion([source, source], [3, 1]).sample(step=0, batch_size=8).mask)
        8
    """

    def __init__(self, sources: "Sequence[OcclusionSource]", shares: Sequence[float]) -> None:
        if len(shares) != len(sources) or min(shares, default=0) < 0 or not sum(shares):
            raise ValueError(
                f"`shares` must be {len(sources)} numbers that are not negative and not all 0, got {list(shares)}."
            )
        self.sources = list(sources)
        self.shares = list(shares)

    def sample(self, step: int, batch_size: int) -> OcclusionBatch:
        """The batch of `step`: that of each source, joined."""
        counts = share_out(batch_size, self.shares)
        parts = [source.sample(step, count) for source, count in zip(self.sources, counts, strict=True) if count]
        names = ("mask", "eraser", "target", "category_ids")
        return OcclusionBatch(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


OcclusionSource = OcclusionSynthesizer | PhotoBoundaries | TruePairs | MixedOcclusion
"""What draws the samples of networks that complete one mask under one eraser."""


def _choose_neighbour(modal: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
    """(B,) int64, the number of one object that is seen beside each `modal` (B, 1, S, S); 0 where there is none."""
    reach = 2 * REACH + 1
    beside = F.max_pool2d(modal, reach, stride=1, padding=REACH) > 0
    numbers = torch.where(beside, others, 0).flatten(1).long()
    seen = torch.zeros(len(others), 256, device=others.device).scatter_(1, numbers, 1.0)
    seen[:, 0] = (seen[:, 1:].sum(1) == 0).float()
    return torch.multinomial(seen, 1, generator=generator)[:, 0]
