"""From probabilities to masks: where an object ends is a decision, and the best one depends on what is measured."""

import math
from typing import Any

import torch
from torch import Tensor

from ...arguments.numeric import check_number
from ..inputs import batches

EXPECTED_IOU = "expected-iou"
"""`mask_threshold` that takes, for each object, the threshold with the highest expected IoU."""

_BINS = 1024
_PIXELS = 2**23  # looked at together, some 200 MB


def check_mask_threshold(value: Any, name: str = "mask_threshold") -> float | str:
    """A number in [0, 1), or `EXPECTED_IOU`; ValueError or TypeError naming the setting otherwise.

    Example:
        >>> check_mask_threshold("expected-iou"), check_mask_threshold(0.3)
        ('expected-iou', 0.3)
    """
    if isinstance(value, str) and value != EXPECTED_IOU:
        raise TypeError(f"`{name}` must be a number in [0, 1) or {EXPECTED_IOU!r}, got {value!r}.")
    return EXPECTED_IOU if isinstance(value, str) else check_number(name, value, least=0, below=1)


def check_calibration(slope: Any, offset: Any) -> dict[str, float]:
    """The settings of `calibrate`, checked; ValueError or TypeError naming the setting otherwise.

    Example:
        >>> check_calibration(2, -0.5)
        {'calibration_slope': 2.0, 'calibration_offset': -0.5}
    """
    return {
        "calibration_slope": check_number("calibration_slope", slope, least=1e-3, below=1e3),
        "calibration_offset": check_number("calibration_offset", offset, least=-1e3, below=1e3),
    }


def calibrate(probabilities: Tensor, slope: float, offset: float) -> Tensor:
    """Probabilities whose log-odds are `slope * log-odds + offset`, which keeps their order. Source: Platt, 1999.

    Example:
        >>> calibrate(torch.tensor([0.0, 0.5, 1.0]), 1.0, 1.0)
        tensor([0.0000, 0.7311, 1.0000])
    """
    if (slope, offset) == (1.0, 0.0):
        return probabilities
    return torch.sigmoid(slope * torch.logit(probabilities) + offset)


def expected_iou_masks(probabilities: Tensor) -> Tensor:
    """Of all thresholds the one with the highest expected IoU, object by object.

    Where p is the probability of each pixel to belong to the object, the mask above a threshold t has about the
    expected IoU Σ_{p > t} p / (|{p > t}| + Σ_{p <= t} p). It is low for an object of which much is likely and little
    is sure, and high for one that is sure. The probabilities must be calibrated, and 1 where the object is visible.

    Args:
        probabilities: (N, H, W) floats in [0, 1].

    Returns:
        (N, H, W) bool. An object without any probability gets an empty mask. Thresholds are multiples of 1/1024.

    Example:
        >>> expected_iou_masks(torch.tensor([[[1.0, 0.6, 0.2, 0.0]], [[0.6, 0.3, 0.3, 0.3]]])).int().squeeze(1)
        tensor([[1, 1, 0, 0],
                [1, 1, 1, 1]], dtype=torch.int32)
    """
    masks = torch.zeros(probabilities.shape, dtype=torch.bool, device=probabilities.device)
    for part in batches(len(masks), max(1, _PIXELS // max(1, masks[:1].numel()))):
        masks[part] = _best_above(probabilities[part].flatten(1).float()).view(masks[part].shape)
    return masks


def _best_above(flat: Tensor) -> Tensor:
    """(N, P) bool from (N, P) float32."""
    bins = (flat * _BINS).ceil().clamp_(0, _BINS).long()  # bin b holds what is over (b - 1) / 1024
    place = (bins + (_BINS + 1) * torch.arange(len(flat), device=flat.device)[:, None]).flatten()
    shape = (len(flat), _BINS + 1)
    sums = torch.bincount(place, flat.flatten().double(), minlength=math.prod(shape)).view(shape)
    pixels = torch.bincount(place, minlength=math.prod(shape)).view(shape)
    kept, number = (values.flip(1).cumsum(1).flip(1) for values in (sums, pixels))  # of bin b and all above it
    expected = kept / (number + kept[:, :1] - kept).clamp(min=1e-12)
    best = expected[:, 1:].argmax(dim=1) + 1  # never what has no probability at all
    return bins >= best[:, None]
