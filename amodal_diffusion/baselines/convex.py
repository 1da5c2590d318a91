"""Completions that need no network [Z20]: raw, convex hull, convex hull inside the occluders."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from ..masks import BoolArray, convex_hull, mask_unions, to_mask_stack
from ..ordering import ancestors, check_order, order_by_hull


def complete_raw(modal: npt.NDArray[Any]) -> BoolArray:
    """No completion: a copy of the modal masks (N, H, W), as bool."""
    return to_mask_stack(modal).copy()


def complete_convex(modal: npt.NDArray[Any]) -> BoolArray:
    """Each object completed to its convex hull: (N, H, W) masks to (N, H, W) bool. An empty mask stays empty."""
    return convex_hull(modal)


def complete_convex_refined(modal: npt.NDArray[Any], order: npt.ArrayLike | None = None) -> BoolArray:
    """ConvexR: the modal mask and what of its convex hull lies under visible ancestors [Z20].

    Args:
        modal: (N, H, W) visible masks.
        order: (N, N) order matrix; None takes `order_by_hull`.

    Returns:
        (N, H, W) bool, a superset of `modal`. An empty mask stays empty.

    Raises:
        ValueError: an order that is not an order matrix of N objects.
    """
    stack = to_mask_stack(modal)
    matrix = order_by_hull(stack) if order is None else check_order(order, len(stack))
    return stack | (convex_hull(stack) & mask_unions(stack, ancestors(matrix)))
