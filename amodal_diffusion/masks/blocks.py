"""Sums over square blocks of pixels, by which masks and photos are made smaller."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def block_sums(pixels: npt.NDArray[Any], step: int, *, repeat_edge: bool = False) -> npt.NDArray[np.uint32]:
    """Sums over squares of pixels, without a float or a padded copy of the whole picture.

    Args:
        pixels: (H, W) or (H, W, C), bool, whose True is the byte 1 as numpy makes it, or uint8.
        step: side of a square.
        repeat_edge: beyond the last row and column these are repeated; else there is nothing, 0.

    Returns:
        (h, w) or (h, w, C) uint32, of ceil(H / step) rows and ceil(W / step) columns.

    Example:
        >>> block_sums(np.ones((2, 3), bool), 2)
        array([[4, 2]], dtype=uint32)
        >>> block_sums(np.ones((2, 3), bool), 2, repeat_edge=True)
        array([[4, 4]], dtype=uint32)
    """
    if step == 1:
        return pixels.astype(np.uint32)
    # Rows first, which lie beside each other in memory: few are left for the columns. Of these each channel by itself,
    # so that what is added in one go is a line of pixels and not the three values of one.
    lines = pixels.view(np.uint8) if pixels.dtype == bool else pixels
    down = _strided_sums(lines, step, repeat_edge, np.min_scalar_type(step * (1 if pixels.dtype == bool else 255)))
    columns = np.moveaxis(down, -1, 0).copy().T if down.ndim == 3 else down.T  # [W, h, C] or [W, h]
    return np.ascontiguousarray(_strided_sums(columns, step, repeat_edge, np.uint32).swapaxes(0, 1))


def _strided_sums(lines: npt.NDArray[Any], step: int, repeat_edge: bool, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    total = lines[::step].astype(dtype)
    for first in range(1, step):
        part = lines[first::step]
        total[: len(part)] += part
        if repeat_edge and len(part) < len(total):
            total[-1] += lines[-1]
    return total
