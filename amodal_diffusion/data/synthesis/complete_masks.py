"""Which objects are seen whole, as far as visible masks tell.

Amodal-VAE learns whole shapes from complete masks alone, so what counts as complete decides what it learns [L20].
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ...arguments.numeric import check_number
from ...masks import BoolArray, mask_areas, mask_boxes, to_mask_stack
from ...ordering import check_order, neighbours

MAX_TRUNCATION = 0.05
"""Share of an object's width or height that may touch a side of the frame before it counts as cut off."""


def truncated_objects(modal: npt.NDArray[Any], max_truncation: float = MAX_TRUNCATION) -> BoolArray:
    """Tell which objects the frame of the photo cuts off.

    An object counts as cut off if, on any of the four sides, more of its pixels touch the frame than `max_truncation`
    times its extent along that side: its width for top and bottom, its height for left and right.

    Args:
        modal: (N, H, W) visible masks.
        max_truncation: in [0, 1]. 0 lets no pixel touch the frame, 1 keeps every object.

    Returns:
        (N,) bool; False for an empty mask.

    Raises:
        ValueError: where `max_truncation` is out of range.

    Example:
        >>> masks = np.zeros((2, 6, 6), dtype=bool)
        >>> masks[0, 1:4, 1:4] = masks[1, 3:, 3:] = True
        >>> truncated_objects(masks)
        array([False,  True])
    """
    check_number("max_truncation", max_truncation, least=0, most=1)
    stack = to_mask_stack(modal)
    if not stack.size:
        return np.zeros(len(stack), dtype=bool)
    _, _, width, height = mask_boxes(stack).T
    contacts = np.stack([stack[:, 0].sum(1), stack[:, -1].sum(1), stack[:, :, 0].sum(1), stack[:, :, -1].sum(1)])
    return np.logical_or.reduce(contacts > max_truncation * np.stack([width, width, height, height]), axis=0)


def complete_objects(
    modal: npt.NDArray[Any],
    order: npt.ArrayLike | None,
    *,
    is_crowd: npt.ArrayLike | None = None,
    max_truncation: float = MAX_TRUNCATION,
) -> BoolArray:
    """Tell which objects are seen whole, as far as modal masks tell.

    An object is complete if some of it is visible, it is no crowd region, the frame does not cut it off
    (`truncated_objects`), and none of its neighbours is in front of it. An occluder that is not annotated goes
    unnoticed, so this is for data sets that annotate all objects of a photo.

    Args:
        modal: (N, H, W) visible masks of one photo.
        order: (N, N) order matrix, -1 at [i, j] where j is in front of i. None: who is in front is unknown, and only
            objects without any neighbour count.
        is_crowd: (N,) bool; None = none is.
        max_truncation: see `truncated_objects`.

    Returns:
        (N,) bool.

    Raises:
        ValueError: for an `order` or `is_crowd` that does not fit the masks, or `max_truncation` out of range.

    Example:
        >>> masks = np.zeros((2, 8, 8), dtype=bool)
        >>> masks[0, 2:4, 2:4] = masks[1, 2:4, 4:6] = True
        >>> complete_objects(masks, order=[[0, 1], [-1, 0]])
        array([ True, False])
        >>> complete_objects(masks, order=None)
        array([False, False])
    """
    stack, crowd = _check(modal, is_crowd)
    behind = neighbours(stack).any(1) if order is None else _behind(stack, order)
    return (mask_areas(stack) > 0) & ~crowd & ~truncated_objects(stack, max_truncation) & ~behind


def partial_objects(
    modal: npt.NDArray[Any],
    order: npt.ArrayLike,
    *,
    is_crowd: npt.ArrayLike | None = None,
    max_truncation: float = MAX_TRUNCATION,
) -> BoolArray:
    """Tell which objects are partly hidden by another one: as `complete_objects`, but with a neighbour in front.

    Objects that the frame cuts off do not count, since not all that they lack is behind another object.

    Args:
        modal: see `complete_objects`.
        order: see `complete_objects`; it must be known.
        is_crowd: see `complete_objects`.
        max_truncation: see `complete_objects`.

    Returns:
        (N,) bool.

    Raises:
        ValueError: as `complete_objects`.

    Example:
        >>> masks = np.zeros((2, 8, 8), dtype=bool)
        >>> masks[0, 2:4, 2:4] = masks[1, 2:4, 4:6] = True
        >>> partial_objects(masks, order=[[0, 1], [-1, 0]])
        array([False,  True])
    """
    stack, crowd = _check(modal, is_crowd)
    return (mask_areas(stack) > 0) & ~crowd & ~truncated_objects(stack, max_truncation) & _behind(stack, order)


def _behind(stack: BoolArray, order: npt.ArrayLike) -> BoolArray:
    behind = check_order(order, len(stack)) == -1
    return (behind & neighbours(stack)).any(1) if behind.any() else np.zeros(len(stack), dtype=bool)


def _check(modal: npt.NDArray[Any], is_crowd: npt.ArrayLike | None) -> tuple[BoolArray, BoolArray]:
    stack = to_mask_stack(modal)
    crowd = np.zeros(len(stack), dtype=bool) if is_crowd is None else np.asarray(is_crowd, dtype=bool)
    if crowd.shape != (len(stack),):
        raise ValueError(f"`is_crowd` must have shape {(len(stack),)}, got {crowd.shape}.")
    return stack, crowd
