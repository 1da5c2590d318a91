"""Which objects of a data set without amodal annotations are seen whole, and which are not.

Amodal-VAE learns whole shapes from complete masks alone, so that what counts as complete decides what it learns [L20].
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ...masks import BoolArray, mask_areas, mask_boxes, to_mask_stack
from ...ordering import check_order, neighbours

MAX_TRUNCATION = 0.05
"""Share of an object's width (or height) that may lie on a side of the photo's frame: chance contacts, no cut."""


def truncated_objects(modal: npt.NDArray[Any], max_truncation: float = MAX_TRUNCATION) -> BoolArray:
    """Which objects the frame of the photo cuts off.

    An object is cut off where, along any one of the four sides, more pixels of it lie on the frame than
    `max_truncation` times its extent along that side (its width for the top and the bottom, else its height). A side
    counts by itself: an object that the frame cuts along its whole lower side is cut off, however large it is.

    Args:
        modal: (N, H, W) visible masks.
        max_truncation: in [0, 1]. 0 lets no pixel touch the frame, 1 keeps every object.

    Returns:
        (N,) bool; False for an empty mask.

    Raises:
        ValueError: where `max_truncation` is out of range.
    """
    if not 0 <= max_truncation <= 1:
        raise ValueError(f"`max_truncation` must lie in [0, 1], got {max_truncation}.")
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
    """Which objects are seen whole, as far as modal masks tell.

    The rule: visible at all, no crowd region, not cut off by the photo's frame (`truncated_objects`), and no neighbour
    in front of it. What hides an object without being annotated goes unseen, so that a data set should annotate all
    objects of its photos.

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
    """Which objects are partly hidden by another object: as `complete_objects`, but with a neighbour in front.

    An object that the frame cuts off is none: what it lacks is not behind another one.

    Raises:
        ValueError: as `complete_objects`.
    """
    stack, crowd = _check(modal, is_crowd)
    return (mask_areas(stack) > 0) & ~crowd & ~truncated_objects(stack, max_truncation) & _behind(stack, order)


def _behind(stack: BoolArray, order: npt.ArrayLike) -> BoolArray:
    return ((check_order(order, len(stack)) == -1) & neighbours(stack)).any(1)


def _check(modal: npt.NDArray[Any], is_crowd: npt.ArrayLike | None) -> tuple[BoolArray, BoolArray]:
    stack = to_mask_stack(modal)
    crowd = np.zeros(len(stack), dtype=bool) if is_crowd is None else np.asarray(is_crowd, dtype=bool)
    if crowd.shape != (len(stack),):
        raise ValueError(f"`is_crowd` must have shape {(len(stack),)}, got {crowd.shape}.")
    return stack, crowd
