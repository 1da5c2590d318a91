"""Crops of masks as the networks see them."""

import torch
from torch import Tensor

from .squares import crop_masks

CROP_RULES = ("nearest", "bilinear")
# Values in the largest temporary; bounds memory, not results.
_CHUNK = 2**24


def crop_mask_patches(masks: Tensor, boxes: Tensor, size: int, indices: Tensor, rule: str = "nearest") -> Tensor:
    """Crop masks by square boxes and bring the crops to one size.

    Args:
        masks: (M, H, W) bool.
        boxes: (N, 4) int64 (x, y, side, side) in pixels; they may leave the image, which continues with 0.
        size: side s of the patches.
        indices: (N,) int64, which mask each box crops.
        rule: "nearest" takes one pixel, as OpenCV's INTER_NEAREST does: the outline moves by up to half a pixel.
            "bilinear" interpolates and takes what is over one half, as OpenCV's INTER_LINEAR on floats: it stays.

    Returns:
        (N, s, s) bool; all False for a box of side 0.
    """
    if rule == "nearest" or not len(boxes) or not masks.numel():
        return crop_masks(masks, boxes, size, indices=indices)
    boxes, indices = boxes.to(masks.device), indices.to(masks.device)
    step = max(1, _CHUNK // size**2)
    return torch.cat(
        [
            _crop_bilinear(masks, box, size, which)
            for box, which in zip(boxes.split(step), indices.split(step), strict=True)
        ]
    )


def _crop_bilinear(masks: Tensor, boxes: Tensor, size: int, indices: Tensor) -> Tensor:
    height, width = masks.shape[1:]
    side = boxes[:, 2:3]
    centres = (torch.arange(size, device=masks.device) + 0.5) * (side.double() / size) - 0.5
    centres = centres.float().clamp(min=0).minimum((side - 1).clamp(min=0))  # [N, s], continued at the edges of the box
    low = centres.floor().long()
    fraction = centres - low
    patches = torch.zeros(len(boxes), size, size, device=masks.device)
    for row_step in (0, 1):
        row_weight = fraction if row_step else 1 - fraction
        rows, row_weight = _inside(boxes[:, 1:2] + low + row_step, row_weight, height)
        line = torch.zeros_like(patches)
        for column_step in (0, 1):
            column_weight = fraction if column_step else 1 - fraction
            columns, column_weight = _inside(boxes[:, 0:1] + low + column_step, column_weight, width)
            line += masks[indices[:, None, None], rows[:, :, None], columns[:, None, :]] * column_weight[:, None, :]
        patches += line * row_weight[:, :, None]
    return (patches > 0.5) & (side > 0)[:, :, None]


def _inside(positions: Tensor, weights: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Positions moved into the image, and weights that are 0 where they were outside."""
    return positions.clamp(0, length - 1), weights * ((positions >= 0) & (positions < length))
