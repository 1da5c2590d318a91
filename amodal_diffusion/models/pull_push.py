"""Scattered values continued smoothly over a picture."""

import torch
import torch.nn.functional as F
from torch import Tensor

_SWEEPS = 4
_LEVELS = (
    12  # of a graph: enough for pictures of 4096 pixels, and those that a smaller one does not need change nothing
)


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
        >>> values, weights = torch.zeros(1, 1, 1, 5), torch.zeros(1, 1, 1, 5)
        >>> values[..., 0], values[..., 4], weights[..., 0], weights[..., 4] = 1, 3, 1, 1
        >>> filled = pull_push(values, weights)
        >>> filled[0, 0, 0, [0, 4]], bool((filled >= 1).all())
        (tensor([1., 3.]), True)
    """
    # A graph must hold for larger pictures than the one that it is made with.
    traced = torch.jit.is_tracing() or torch.compiler.is_exporting()
    return _pull_push(values, weights, _LEVELS if traced else None)


def _pull_push(values: Tensor, weights: Tensor, levels: int | None) -> Tensor:
    """As above, by a pyramid of so many levels; None goes down to a single pixel."""
    if levels == 0 or (levels is None and (values.shape[-2:] == (1, 1) or _all_known(weights))):
        return values * (weights > 0)
    halve = _halve if levels is None else _halve_in_graph
    mean_weights, means = halve(weights), halve(values * weights)
    means = means / mean_weights.clamp(min=1e-8)
    coarse = _pull_push(means, (4 * mean_weights).clamp(max=1), None if levels is None else levels - 1)
    smooth = F.interpolate(coarse, size=values.shape[-2:], mode="bilinear", align_corners=False)
    fixed, free = weights * values, 1 - weights
    filled, free = fixed + free * smooth, free / 4
    for _ in range(_SWEEPS):
        edged = F.pad(filled, (1, 1, 1, 1), mode="replicate")
        beside = edged[..., 1:-1, :-2] + edged[..., 1:-1, 2:]
        beside += edged[..., :-2, 1:-1]
        beside += edged[..., 2:, 1:-1]
        filled = torch.addcmul(fixed, free, beside)
    return filled


def _all_known(weights: Tensor) -> bool:
    """Whether a smaller picture would change nothing.

    Not asked of an accelerator, which would have to be waited for, nor where a graph or gradients are wanted, which
    must not depend on values.
    """
    if weights.device.type != "cpu" or weights.requires_grad or torch.compiler.is_compiling():
        return False
    return bool((weights >= 1).all())


def _halve(planes: Tensor) -> Tensor:
    """Means of 2x2 pixels; the last row and column of an odd size have windows of fewer."""
    return F.avg_pool2d(planes, 2, ceil_mode=True, count_include_pad=False)


def _halve_in_graph(planes: Tensor) -> Tensor:
    """The same with a row and a column of zeros more: no engine takes windows that are larger than the picture."""
    inside = F.pad(torch.ones_like(planes[:, :1]), (0, 1, 0, 1))
    return F.avg_pool2d(F.pad(planes, (0, 1, 0, 1)), 2) / F.avg_pool2d(inside, 2)
