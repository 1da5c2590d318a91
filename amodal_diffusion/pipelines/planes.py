"""Planes of a photo: means of squares of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ..masks import block_sums


def shrink(pixels: npt.NDArray[Any], step: int) -> torch.Tensor:
    """Means of squares of `step` pixels; beyond the last row and column these are repeated.

    Args:
        pixels: (H, W) or (H, W, C), bool or uint8.
        step: side of a square.

    Returns:
        (1, C, h, w) float32.

    Example:
        >>> shrink(np.arange(6, dtype=np.uint8).reshape(2, 3), 2)
        tensor([[[[2.0000, 3.5000]]]])
    """
    sums = block_sums(pixels, step, repeat_edge=True)
    planes = np.ascontiguousarray((sums[..., None] if sums.ndim == 2 else sums).transpose(2, 0, 1), np.float32)
    planes /= step * step
    return torch.from_numpy(planes)[None]


def box_mean(planes: torch.Tensor, radius: int) -> torch.Tensor:
    """Means over squares of side 2 radius + 1 of planes (1, C, h, w), with nothing, 0, beyond the border.

    Example:
        >>> (box_mean(torch.ones(1, 1, 1, 3), 1)[0, 0, 0] * 9).round()
        tensor([2., 3., 2.])
    """
    size = 2 * radius + 1
    # Differences of running sums: the cost does not follow the radius.
    down = F.pad(planes, (0, 0, radius + 1, radius)).cumsum(dim=2)
    across = F.pad((down[:, :, size:] - down[:, :, :-size]) / size, (radius + 1, radius)).cumsum(dim=3)
    return (across[..., size:] - across[..., :-size]) / size
