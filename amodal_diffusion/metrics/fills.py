"""How well a hole was filled with colour, where the true colours are known.

All functions take one hole of a picture in 8-bit RGB, (H, W, 3) values from 0 to 255, uint8 or floating point. A hole
is the hidden part of an object, or the whole place of a removed occluder. Nothing outside of the hole counts, but for
what a window reaches of it. `FillMetrics` averages them over holes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ..masks import BoolArray, erode, mask_boxes
from .functional import ratio

FloatArray = npt.NDArray[np.float64]

LEAK_REACH = 6
"""Distance in pixels from the edge of a hole up to which `fill_leak` looks."""

_PEAK = 255.0
_LEAST_SQUARE = 1e-2  # of an error: 68 dB where nothing is wrong
_GREY = np.array([0.299, 0.587, 0.114])
_ERODED = 5  # side of the square that a hole is eroded by before gradients are taken
_WINDOW = 7  # of SSIM
_SSIM_CONSTANTS = ((0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2)


def fill_psnr(fill: npt.ArrayLike, truth: npt.ArrayLike, hole: npt.ArrayLike) -> float:
    """Peak signal-to-noise ratio inside the hole, in dB; at most 68.1, NaN for an empty hole.

    Args:
        fill: (H, W, 3) in 0 to 255.
        truth: (H, W, 3) in 0 to 255.
        hole: (H, W) bool.

    Raises:
        ValueError: other shapes.

    Example:
        >>> truth, hole = np.zeros((4, 4, 3), np.uint8), np.eye(4, dtype=bool)
        >>> round(fill_psnr(truth + 10, truth, hole), 2)
        28.13
    """
    fill, truth, hole = _read(fill, truth, hole)
    if not hole.any():
        return float("nan")
    return float(decibels(np.square(fill - truth)[hole].mean()))


def fill_ssim(fill: npt.ArrayLike, truth: npt.ArrayLike, hole: npt.ArrayLike) -> float:
    """Structural similarity, mean over the pixels of the hole and the channels; NaN for an empty hole.

    Uniform windows of 7 x 7 pixels, as `skimage.metrics.structural_similarity`. Arguments and errors are those of
    `fill_psnr`. Source: Wang et al., IEEE TIP 2004.

    Example:
        >>> truth = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
        >>> fill_ssim(truth, truth, np.eye(8, dtype=bool))
        1.0
    """
    fill, truth, hole = _read(fill, truth, hole, margin=_WINDOW)
    if not hole.any():
        return float("nan")
    (a, b), count = (_box_mean(picture) for picture in (fill, truth)), _WINDOW**2
    unbiased = count / (count - 1)
    spread_a = unbiased * (_box_mean(fill * fill) - a * a)
    spread_b = unbiased * (_box_mean(truth * truth) - b * b)
    shared = unbiased * (_box_mean(fill * truth) - a * b)
    low, high = _SSIM_CONSTANTS
    similarity = ((2 * a * b + low) * (2 * shared + high)) / ((a * a + b * b + low) * (spread_a + spread_b + high))
    return float(similarity[hole].mean())


def fill_gradient(fill: npt.ArrayLike, truth: npt.ArrayLike, hole: npt.ArrayLike) -> float:
    """Detail as a share of the truth's: mean Sobel magnitude of the grey picture over the truth's.

    The hole is eroded by a square of 5 x 5 pixels, so that its seam does not count. 1 is as much detail as the truth, a
    blur is near 0.2, above 1 is noise. NaN where the hole is too small or the truth has no gradient there. Arguments
    and errors are those of `fill_psnr`.

    Example:
        >>> truth = np.arange(0, 128, 4, dtype=np.uint8)[None, :, None] * np.ones((32, 1, 3), np.uint8)
        >>> fill_gradient(truth // 2, truth, np.ones((32, 32), dtype=bool))
        0.5
    """
    fill, truth, hole = _read(fill, truth, hole, margin=2)
    inside = erode(hole, kernel="square", size=_ERODED)
    return ratio(_sobel(fill)[inside].sum(), _sobel(truth)[inside].sum())


def fill_leak(fill: npt.ArrayLike, truth: npt.ArrayLike, hole: npt.ArrayLike, occluder_color: npt.ArrayLike) -> float:
    """How much of the occluder's colour is left along the edge of the hole: 0 none, 1 all of it.

    Over the pixels of the hole within `LEAK_REACH` pixels of its edge, with d = `occluder_color` - truth and e = fill -
    truth, the sum of e d over that of d d. NaN where there is no such pixel, or where the truth has the very colour.
    Below 0 the fill errs the other way. Further arguments and errors are those of `fill_psnr`.

    Args:
        fill: (H, W, 3) in 0 to 255.
        truth: (H, W, 3) in 0 to 255.
        hole: (H, W) bool.
        occluder_color: (3,), the mean colour of what is seen of the occluder.

    Example:
        >>> truth, hole = np.zeros((9, 9, 3)), np.zeros((9, 9), dtype=bool)
        >>> hole[2:7, 2:7] = True
        >>> fill_leak(truth + 60, truth, hole, occluder_color=(240, 240, 240))
        0.25
    """
    fill, truth, hole = _read(fill, truth, hole, margin=LEAK_REACH)
    color = np.asarray(occluder_color, np.float64)
    if color.shape != (3,):
        raise ValueError(f"`occluder_color` must have shape (3,), got {color.shape}.")
    rim = hole & _near_outside(hole, LEAK_REACH)
    toward, error = color - truth[rim], (fill - truth)[rim]
    return ratio((error * toward).sum(), (toward * toward).sum())


def decibels(square: npt.ArrayLike) -> FloatArray:
    """PSNR of mean squared errors of 8-bit values, any shape; 68.1 dB where nothing is wrong.

    Example:
        >>> decibels(100.0).round(2).item(), decibels(0.0).round(2).item()
        (28.13, 68.13)
    """
    return np.asarray(10 * np.log10(_PEAK**2 / np.maximum(square, _LEAST_SQUARE)))


def _read(
    fill: npt.ArrayLike, truth: npt.ArrayLike, hole: npt.ArrayLike, margin: int = 0
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Float64 pictures and the hole, cut to its surroundings."""
    fill, truth, hole = np.asarray(fill), np.asarray(truth), np.asarray(hole, dtype=bool)
    if hole.ndim != 2 or fill.shape != (*hole.shape, 3) or truth.shape != fill.shape:
        raise ValueError(
            "`fill` and `truth` must have shape (H, W, 3) and `hole` (H, W), got "
            f"{fill.shape}, {truth.shape} and {hole.shape}."
        )
    x, y, w, h = (int(value) for value in mask_boxes(hole[None])[0])
    rows, columns = slice(max(0, y - margin), y + h + margin), slice(max(0, x - margin), x + w + margin)
    return fill[rows, columns].astype(np.float64), truth[rows, columns].astype(np.float64), hole[rows, columns]


def _box_mean(picture: FloatArray) -> FloatArray:
    """(h, w, C) means over windows of `_WINDOW`, mirrored at the border."""
    reach = _WINDOW // 2
    for axis in (0, 1):
        widths = [(0, 0)] * picture.ndim
        widths[axis] = (reach, reach)
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(picture, widths, mode="symmetric"), _WINDOW, axis)
        picture = windows.mean(-1)
    return picture


def _sobel(picture: FloatArray) -> FloatArray:
    """(h, w) magnitude of the gradient of the grey picture, mirrored at the border."""
    grey = torch.from_numpy(picture @ _GREY)[None, None]
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=grey.dtype)
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    slopes = F.conv2d(padded, torch.stack([across, across.T])[:, None])[0]
    return slopes.square().sum(0).sqrt().numpy()


def _near_outside(hole: BoolArray, reach: int) -> BoolArray:
    """Pixels within so many pixels, in a straight line, of one that is not in the hole."""
    steps = torch.arange(-reach, reach + 1)
    disc = (steps[:, None] ** 2 + steps**2 <= reach**2).float()
    outside = torch.from_numpy(~hole).float()[None, None]
    return (F.conv2d(outside, disc[None, None], padding=reach)[0, 0] > 0.5).numpy()
