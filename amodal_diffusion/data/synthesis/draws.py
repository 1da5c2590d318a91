"""How often the objects of a bank, and the sources of a batch, are drawn."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def instance_weights(sources: Tensor, source_weights: Sequence[float]) -> Tensor:
    """How often each object of a bank is to be drawn.

    Args:
        sources: (N,) int64, which data set an object comes from.
        source_weights: relative frequency of each data set.

    Returns:
        (N,) float64 on the CPU, for `torch.multinomial`.

    Raises:
        ValueError: numbers that do not fit the data sets, or negative ones.

    Example:
        >>> instance_weights(torch.tensor([0, 1, 1]), [0.9, 0.1]).tolist()
        [0.9, 0.05, 0.05]
    """
    weights = torch.tensor(source_weights, dtype=torch.float64)
    sources = sources.cpu()
    if len(weights) != int(sources.max()) + 1 or (weights < 0).any() or weights.sum() <= 0:
        raise ValueError(
            f"`source_weights` must be {int(sources.max()) + 1} non-negative numbers, got {list(source_weights)}."
        )
    return (weights / torch.bincount(sources, minlength=len(weights)).clamp(min=1))[sources]


def share_out(count: int, shares: Sequence[float]) -> list[int]:
    """How many samples of a batch each source gives.

    Args:
        count: samples in all.
        shares: of each source, in any unit.

    Returns:
        A number for each source; together they are `count`.

    Example:
        >>> share_out(8, [3, 1]), share_out(32, [0.45, 0.35, 0.2])
        ([6, 2], [14, 12, 6])
    """
    edges = np.round(np.cumsum(shares) / np.sum(shares) * count).astype(int)
    return [int(number) for number in np.diff(edges, prepend=0)]
