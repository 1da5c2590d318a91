"""Dilation and erosion of stacks of masks, numpy or torch, and the parts of a mask."""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from .packed import BoolArray

ArrayOrTensor = TypeVar("ArrayOrTensor", np.ndarray, torch.Tensor)
Kernel = Literal["cross", "square"]


def dilate(masks: ArrayOrTensor, *, kernel: Kernel = "cross", size: int = 3) -> ArrayOrTensor:
    """Dilate masks: each pixel takes the greatest value under the kernel, as `cv2.dilate`.

    Args:
        masks: (..., H, W) array or tensor on any device, bool or numeric.
        kernel: "cross" has one row and one column (cv2.MORPH_CROSS), "square" is full.
        size: side of the kernel in pixels, odd; 1 changes nothing.

    Returns:
        A new array or tensor of the same shape, dtype and device. An empty mask stays empty.

    Raises:
        ValueError: fewer than two dimensions, another kernel, an even size or one below 1.

    Example:
        >>> dot = np.zeros((3, 3), dtype=bool)
        >>> dot[1, 1] = True
        >>> dilate(dot).astype(int)
        array([[0, 1, 0],
               [1, 1, 1],
               [0, 1, 0]])
        >>> int(dilate(dot, kernel="square").sum())
        9
    """
    return _filter(masks, kernel, size, grow=True)


def erode(masks: ArrayOrTensor, *, kernel: Kernel = "cross", size: int = 3) -> ArrayOrTensor:
    """Erode masks: each pixel takes the least value under the kernel, as `cv2.erode`.

    What lies outside the image does not count, so a mask of the full frame stays. Arguments, result and errors are
    those of `dilate`.

    Example:
        >>> bool(erode(np.eye(3, dtype=bool)).any())
        False
        >>> bool(erode(np.ones((2, 3), dtype=bool)).all())
        True
    """
    return _filter(masks, kernel, size, grow=False)


def label_parts(mask: BoolArray) -> npt.NDArray[np.int64]:
    """A number for each part of a mask that hangs together, also over corners.

    All parts grow at once, and a pixel also takes the number of the pixel that its own one is named after: few turns
    are enough, however many and however winding the parts are.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) int64, 0 outside of the mask.

    Example:
        >>> label_parts(np.array([[1, 0, 0, 1], [0, 1, 0, 1]], bool))
        array([[6, 0, 0, 8],
               [0, 6, 0, 8]])
    """
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        grown = np.where(mask, dilate(labels, kernel="square", size=3), 0)
        grown = np.where(mask, grown.ravel()[grown - 1], 0)
        if np.array_equal(grown, labels):
            return labels
        labels = grown


def _filter(masks: ArrayOrTensor, kernel: str, size: int, *, grow: bool) -> ArrayOrTensor:
    if masks.ndim < 2:
        raise ValueError(f"`masks` must have shape (..., height, width), got {tuple(masks.shape)}")
    if kernel not in ("cross", "square"):
        raise ValueError(f"`kernel` must be 'cross' or 'square', got {kernel!r}")
    if size < 1 or size % 2 == 0:
        raise ValueError(f"`size` must be an odd number of at least 1, got {size}")
    out = masks.clone() if isinstance(masks, torch.Tensor) else masks.copy()
    if kernel == "cross":
        _sweep(out, masks, -1, size // 2, grow)
        _sweep(out, masks, -2, size // 2, grow)
        return out
    _sweep(out, masks, -1, size // 2, grow)
    square = out.clone() if isinstance(out, torch.Tensor) else out.copy()
    _sweep(square, out, -2, size // 2, grow)
    return square


def _sweep(out: ArrayOrTensor, source: ArrayOrTensor, axis: Literal[-1, -2], radius: int, grow: bool) -> None:
    """Take into `out` the greatest (or least) value of `source` within `radius` pixels along one axis."""
    for shift in range(1, min(radius, source.shape[axis] - 1) + 1):
        if axis == -1:
            _take(out[..., :-shift], source[..., shift:], grow)
            _take(out[..., shift:], source[..., :-shift], grow)
        else:
            _take(out[..., :-shift, :], source[..., shift:, :], grow)
            _take(out[..., shift:, :], source[..., :-shift, :], grow)


def _take(out: ArrayOrTensor, other: ArrayOrTensor, grow: bool) -> None:
    if isinstance(out, torch.Tensor):
        (torch.maximum if grow else torch.minimum)(out, other, out=out)
    else:
        (np.maximum if grow else np.minimum)(out, other, out=out)
