"""Scattered values continued smoothly over a picture."""

import torch.nn.functional as F
from torch import Tensor

_SWEEPS = 4


def pull_push(values: Tensor, weights: Tensor) -> Tensor:
    """Continue scattered values smoothly over the whole picture.

    A membrane fixed at the values, nearly: a pyramid of weighted means gives its shape, and a few sweeps of relaxation
    at each level take out the blocks of the pyramid. Linear in the number of pixels.

    Args:
        values: (B, C, h, w) floats.
        weights: (B, 1, h, w) floats in [0, 1], how far each value is to be trusted; 0 where there is none.

    Returns:
        (B, C, h, w); zeros for a picture without any weight.

    Example:
        >>> import torch
        >>> values, weights = torch.zeros(1, 1, 1, 5), torch.zeros(1, 1, 1, 5)
        >>> values[..., 0], values[..., 4], weights[..., 0], weights[..., 4] = 1, 3, 1, 1
        >>> filled = pull_push(values, weights)
        >>> filled[0, 0, 0, [0, 4]], bool((filled >= 1).all())
        (tensor([1., 3.]), True)
    """
    if values.shape[-2:] == (1, 1):
        return values * (weights > 0)
    # Divided by the number of pixels in the frame: the last row and column of an odd size have windows of fewer.
    mean_weights = F.avg_pool2d(weights, 2, ceil_mode=True, count_include_pad=False)
    means = F.avg_pool2d(values * weights, 2, ceil_mode=True, count_include_pad=False)
    means = means / mean_weights.clamp(min=1e-8)
    coarse = pull_push(means, (4 * mean_weights).clamp(max=1))
    smooth = F.interpolate(coarse, size=values.shape[-2:], mode="bilinear", align_corners=False)
    filled = weights * values + (1 - weights) * smooth
    for _ in range(_SWEEPS):
        edged = F.pad(filled, (1, 1, 1, 1), mode="replicate")
        beside = edged[..., 1:-1, :-2] + edged[..., 1:-1, 2:] + edged[..., :-2, 1:-1] + edged[..., 2:, 1:-1]
        filled = weights * values + (1 - weights) * beside / 4
    return filled
