"""Baselines without a network [Z20]: no completion, the convex hull, and the convex hull under the occluders."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from ..masks import BoolArray, convex_hull, mask_unions, to_mask_stack
from ..ordering import ancestors, check_order, order_by_hull


def complete_raw(modal: npt.NDArray[Any]) -> BoolArray:
    """Complete nothing: a copy of the modal masks (N, H, W), as bool.

    Example:
        >>> import numpy as np
        >>> complete_raw(np.array([[[1, 0, 1]]])).astype(int)
        array([[[1, 0, 1]]])
    """
    return to_mask_stack(modal).copy()


def complete_convex(modal: npt.NDArray[Any]) -> BoolArray:
    """Complete each object to its convex hull: (N, H, W) masks to (N, H, W) bool. An empty mask stays empty.

    Example:
        >>> import numpy as np
        >>> complete_convex(np.array([[[1, 0, 1]]])).astype(int)
        array([[[1, 1, 1]]])
    """
    return convex_hull(modal)


def complete_convex_refined(modal: npt.NDArray[Any], order: npt.ArrayLike | None = None) -> BoolArray:
    """Complete each object to the part of its convex hull that lies under objects in front of it (ConvexR [Z20]).

    Args:
        modal: (N, H, W) visible masks.
        order: (N, N) order matrix; None takes `order_by_hull`.

    Returns:
        (N, H, W) bool, a superset of `modal`. An empty mask stays empty.

    Raises:
        ValueError: an order that is not an order matrix of N objects.

    Example:
        >>> import numpy as np
        >>> masks = np.array([[[1, 0, 1, 0, 1]], [[0, 1, 0, 0, 0]]])
        >>> complete_convex_refined(masks, order=[[0, -1], [1, 0]])[0].astype(int)
        array([[1, 1, 1, 0, 1]])
    """
    stack = to_mask_stack(modal)
    matrix = order_by_hull(stack) if order is None else check_order(order, len(stack))
    return stack | (convex_hull(stack) & mask_unions(stack, ancestors(matrix)))
