"""Occlusion order: matrices, ancestors, and orders from masks alone [Z20]; and depth order, which is another question.

An order matrix is (N, N) int8 and antisymmetric: `order[i, j]` is 1 where i occludes j, -1 where j occludes i, 0 where
they have no relation. Cycles are allowed. A depth order has the same form: 1 where all of i is closer than all of j.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .masks import BoolArray, PackedMasks, to_mask_stack
from .masks.hull import hull_words
from .masks.packed import IntArray, overlaps, pack

OrderArray = npt.NDArray[np.int8]


def neighbours(masks: npt.NDArray[Any]) -> BoolArray:
    """Tell which masks touch after one of them is dilated once by the 3x3 cross [Z20].

    Args:
        masks: (N, H, W) masks.

    Returns:
        (N, N) bool, symmetric, False on the diagonal. An empty mask has no neighbours.

    Example:
        >>> masks = np.array([[[1, 0, 0, 0]], [[0, 1, 0, 0]], [[0, 0, 0, 1]]])
        >>> neighbours(masks).astype(int)
        array([[0, 1, 0],
               [1, 0, 0],
               [0, 0, 0]])
    """
    return PackedMasks(to_mask_stack(masks)).neighbours


def ancestors(order: npt.ArrayLike) -> BoolArray:
    """Find all objects that occlude each object, directly or through others [Z20].

    Args:
        order: (N, N) order matrix, cycles allowed.

    Returns:
        (N, N) bool: `[i, j]` is True where j is reached from i by following -1. The diagonal is False, also in a cycle.

    Example:
        >>> order = np.array([[0, 1, 0], [-1, 0, 1], [0, -1, 0]])  # 0 occludes 1, which occludes 2
        >>> ancestors(order).astype(int)
        array([[0, 0, 0],
               [1, 0, 0],
               [1, 1, 0]])
    """
    return reachable(check_order(order) == -1)


def reachable(direct: npt.NDArray[Any]) -> BoolArray:
    """Tell what can be reached in any number of steps: the transitive closure. Cycles are allowed.

    Args:
        direct: (N, N) bool, `[i, j]` is True where one step leads from i to j.

    Returns:
        (N, N) bool. The diagonal is False, also in a cycle.

    Example:
        >>> reachable(np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])).astype(int)
        array([[0, 1, 1],
               [0, 0, 1],
               [0, 0, 0]])
    """
    reached = np.array(direct, dtype=bool)
    for _ in range(len(reached).bit_length()):  # each round doubles the length of the paths
        steps = reached.astype(np.float32)
        reached |= steps @ steps > 0
    np.fill_diagonal(reached, False)
    return reached


def order_from_masks(modal: npt.NDArray[Any], amodal: npt.NDArray[Any]) -> OrderArray:
    """Compute the true order of objects whose amodal masks are known [Z20].

    Of two neighbours the one whose visible part hides more of the other is in front; where both hide the same number
    of pixels, not 0, the one with the lower index is.

    Args:
        modal: (N, H, W) visible masks; an empty one has no relations.
        amodal: (N, H, W) amodal masks.

    Returns:
        (N, N) int8 order matrix.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> amodal = np.array([[[1, 1, 0]], [[0, 1, 1]]])
        >>> modal = np.array([[[1, 1, 0]], [[0, 0, 1]]])
        >>> order_from_masks(modal, amodal)
        array([[ 0,  1],
               [-1,  0]], dtype=int8)
    """
    modal, amodal = _stacks(modal, amodal)
    visible = PackedMasks(modal)
    hides = overlaps(visible.words, pack(amodal))
    return _lower_index_decides(hides >= hides.T, visible.neighbours & (hides + hides.T > 0))


def hidden_overlaps(modal: npt.NDArray[Any], amodal: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Count how much of each object lies under what is seen of each other one.

    Args:
        modal: (N, H, W) visible masks.
        amodal: (N, H, W) amodal masks.

    Returns:
        (N, N) int64: `[i, j]` is |modal i ∩ amodal j|, 0 on the diagonal.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> amodal = np.array([[[1, 1, 0]], [[0, 1, 1]]])
        >>> modal = np.array([[[1, 1, 0]], [[0, 0, 1]]])
        >>> hidden_overlaps(modal, amodal)
        array([[0, 1],
               [0, 0]])
    """
    modal, amodal = _stacks(modal, amodal)
    hides = overlaps(pack(modal), pack(amodal)).astype(np.int64)
    np.fill_diagonal(hides, 0)
    return hides


def _stacks(modal: npt.NDArray[Any], amodal: npt.NDArray[Any]) -> tuple[BoolArray, BoolArray]:
    modal, amodal = to_mask_stack(modal), to_mask_stack(amodal)
    if modal.shape != amodal.shape:
        raise ValueError(f"`modal` and `amodal` must have the same shape, got {modal.shape} and {amodal.shape}")
    return modal, amodal


def order_from_increments(increments: npt.ArrayLike, adjacent: npt.NDArray[Any]) -> OrderArray:
    """Compute the order by dual completion: of two neighbours, the one that grows more under the other is behind [Z20].

    Args:
        increments: (N, N) numbers, growth of i when completed with j as its occluder.
        adjacent: (N, N) bool, the pairs to decide.

    Returns:
        (N, N) int8 order matrix; 0 where both grow alike.

    Raises:
        ValueError: wrong shapes, NaN.

    Example:
        >>> growth = np.array([[0, 2], [9, 0]])  # the second object grows more
        >>> order_from_increments(growth, np.array([[False, True], [True, False]]))
        array([[ 0,  1],
               [-1,  0]], dtype=int8)
    """
    growth, adjacent = np.asarray(increments), np.asarray(adjacent, dtype=bool)
    if growth.ndim != 2 or growth.shape[0] != growth.shape[1] or growth.shape != adjacent.shape:
        raise ValueError(f"`increments` and `adjacent` must both be (N, N), got {growth.shape} and {adjacent.shape}")
    if np.isnan(growth).any():
        raise ValueError("`increments` has NaN in it")
    order = (growth < growth.T).astype(np.int8) - (growth > growth.T).astype(np.int8)
    return np.where(adjacent | adjacent.T, order, 0).astype(np.int8)


def hull_increments(masks: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Count how far the convex hull of each mask reaches into each other mask.

    Args:
        masks: (N, H, W) visible masks.

    Returns:
        (N, N) int64; [i, j] is the number of pixels of j in the hull of i; 0 for empty masks and on the diagonal.

    Example:
        >>> masks = np.array([[[1, 0, 1]], [[0, 1, 0]]])
        >>> hull_increments(masks)
        array([[0, 1],
               [0, 0]])
    """
    return _hull_increments(PackedMasks(to_mask_stack(masks)))


def _hull_increments(masks: PackedMasks) -> IntArray:
    """`hull_increments` of masks that are packed once for several purposes."""
    return overlaps(hull_words(masks) & ~masks.words, masks.words)


def occlusion_evidence(
    increments: npt.ArrayLike, masks: npt.NDArray[Any] | PackedMasks, *, hull_weight: float = 0.5
) -> npt.NDArray[np.float64]:
    """Weigh the increments of dual completion so that small and large objects can be compared.

    A small occluder can hide a few pixels only, a large one many, so plain increments make the smaller of two objects
    the occludee too often. Growth is therefore divided by the linear size of the occluder, `increment[i, j] /
    sqrt(area of j)`, and multiplied by the same quantity for the convex hull of i, raised to `hull_weight`; the two
    fail on different objects. Both constants were chosen on scenes composed of training masks.

    Args:
        increments: (N, N) non-negative, growth of i when completed with j as its occluder, in pixels.
        masks: (N, H, W) visible masks, an array or `PackedMasks`.
        hull_weight: exponent of the hull's part; 0 leaves it out.

    Returns:
        (N, N) float64 for `order_from_increments`; 0 where neither object of a pair grows.

    Raises:
        ValueError: increments of another shape than (N, N).

    Example:
        >>> masks = np.array([[[1, 0, 1]], [[0, 1, 0]]])
        >>> evidence = occlusion_evidence(hull_increments(masks), masks)
        >>> bool(evidence[0, 1] > evidence[1, 0])
        True
    """
    packed = masks if isinstance(masks, PackedMasks) else PackedMasks(to_mask_stack(masks))
    growth = np.asarray(increments, dtype=np.float64)
    if growth.shape != (len(packed), len(packed)):
        raise ValueError(f"`increments` must have shape {(len(packed), len(packed))}, got {growth.shape}")
    size = np.sqrt(np.maximum(packed.areas, 1))[None, :]
    # The offset, in pixels per pixel of length, keeps one witness that saw nothing from overruling the other.
    evidence = growth / size + 0.02
    if hull_weight:  # hulls of a large photo take time
        evidence *= (_hull_increments(packed) / size + 0.02) ** hull_weight
    return np.where((growth > 0) | (growth.T > 0), evidence, 0.0)


def order_by_area(masks: npt.NDArray[Any], *, front: Literal["smaller", "larger"] = "smaller") -> OrderArray:
    """Compute a baseline order: of two neighbours, the smaller (COCOA) or the larger (KINS) is in front [Z20].

    Args:
        masks: (N, H, W) visible masks.
        front: which one is in front. Of equal areas the lower index counts as the larger.

    Returns:
        (N, N) int8 order matrix.

    Example:
        >>> masks = np.array([[[1, 0, 0]], [[0, 1, 1]]])
        >>> order_by_area(masks)
        array([[ 0,  1],
               [-1,  0]], dtype=int8)
        >>> order_by_area(masks, front="larger")
        array([[ 0, -1],
               [ 1,  0]], dtype=int8)
    """
    if front not in ("smaller", "larger"):
        raise ValueError(f"`front` must be 'smaller' or 'larger', got {front!r}")
    packed = PackedMasks(to_mask_stack(masks))
    larger = _lower_index_decides(packed.areas[:, None] >= packed.areas[None, :], packed.neighbours)
    return larger if front == "larger" else -larger


def order_by_y_axis(masks: npt.NDArray[Any]) -> OrderArray:
    """Compute a baseline order: of two neighbours, the one whose centre is lower in the image is in front [Z20].

    Args:
        masks: (N, H, W) visible masks. At the same height the lower index is in front.

    Returns:
        (N, N) int8 order matrix.

    Example:
        >>> order_by_y_axis(np.array([[[1], [0]], [[0], [1]]]))
        array([[ 0, -1],
               [ 1,  0]], dtype=int8)
    """
    stack = to_mask_stack(masks)
    pixels = np.count_nonzero(stack, axis=2)
    centres = pixels @ np.arange(stack.shape[1]) / np.maximum(pixels.sum(axis=1), 1)
    return _lower_index_decides(centres[:, None] >= centres[None, :], neighbours(stack))


def order_by_hull(masks: npt.NDArray[Any]) -> OrderArray:
    """Compute a baseline order: of two neighbours, the one whose hull covers more of the other is behind [Z20].

    Args:
        masks: (N, H, W) visible masks.

    Returns:
        (N, N) int8 order matrix; 0 where both hulls cover alike.

    Example:
        >>> order_by_hull(np.array([[[1, 0, 1]], [[0, 1, 0]]]))
        array([[ 0, -1],
               [ 1,  0]], dtype=int8)
    """
    packed = PackedMasks(to_mask_stack(masks))
    return order_from_increments(_hull_increments(packed), packed.neighbours)


def depth_order(depths: npt.ArrayLike) -> OrderArray:
    """Tell which objects are closer, by how near and how far each of them reaches.

    After InstaOrder (Lee and Park, CVPR 2022), whose second question is which of two instances is closer, whether or
    not one hides the other. Here "closer" and "farther" need ranges of depth that do not meet: all of one object is
    nearer than all of the other. Where the ranges meet, as those of a table and the chair that is pushed under it do,
    the answer is "overlapping".

    Args:
        depths: (N, 2) metres or any other unit, the nearest and the farthest depth of each object; NaN where unknown.

    Returns:
        (N, N) int8, antisymmetric: 1 where i is closer than j, -1 where it is farther, 0 where they overlap, and where
        a depth is unknown.

    Raises:
        ValueError: another shape, or an object that is farther at its nearest than at its farthest.

    Example:
        >>> depth_order([[1.0, 2.0], [2.5, 3.0], [1.5, 2.7]])
        array([[ 0,  1,  0],
               [-1,  0,  0],
               [ 0,  0,  0]], dtype=int8)
    """
    ranges = np.asarray(depths, dtype=np.float64)
    if ranges.ndim != 2 or ranges.shape[1] != 2:
        raise ValueError(f"`depths` must have shape (N, 2), got {ranges.shape}")
    nearest, farthest = ranges.T
    if (nearest > farthest).any():
        raise ValueError("`depths` must be (nearest, farthest) of each object, got a nearest one beyond the farthest")
    closer = farthest[:, None] < nearest[None]
    return closer.astype(np.int8) - closer.T.astype(np.int8)


def check_order(order: npt.ArrayLike, n: int | None = None) -> OrderArray:
    """Check an order matrix and return it as int8.

    Args:
        order: (N, N) numbers.
        n: number of objects that the matrix must have.

    Returns:
        (N, N) int8.

    Raises:
        ValueError: another shape, values other than -1, 0 and 1, or a matrix that is not antisymmetric.

    Example:
        >>> check_order([[0, 1], [-1, 0]])
        array([[ 0,  1],
               [-1,  0]], dtype=int8)
    """
    matrix = np.asarray(order)
    size = matrix.shape[0] if n is None and matrix.ndim else n
    if matrix.shape != (size, size):
        expected = "(N, N)" if n is None else f"({n}, {n})"
        raise ValueError(f"`order` must have shape {expected}, got {matrix.shape}")
    if not np.isin(matrix, (-1, 0, 1)).all():
        raise ValueError(f"`order` must hold -1, 0 and 1 only, got {np.setdiff1d(matrix, (-1, 0, 1))[0]}")
    matrix = matrix.astype(np.int8)
    wrong = np.argwhere(matrix != -matrix.T)
    if len(wrong):
        i, j = (int(index) for index in wrong[0])
        raise ValueError(
            f"`order` must be antisymmetric, got order[{i}, {j}] = {matrix[i, j]} and order[{j}, {i}] = {matrix[j, i]}"
        )
    return matrix


def order_pairs(order: npt.ArrayLike) -> list[tuple[int, int]]:
    """List the relations of an order matrix as pairs (i, j), i occludes j, sorted.

    Example:
        >>> order_pairs([[0, 1, 0], [-1, 0, -1], [0, 1, 0]])
        [(0, 1), (2, 1)]
    """
    return [(int(i), int(j)) for i, j in np.argwhere(check_order(order) == 1)]


def _lower_index_decides(front: BoolArray, related: BoolArray) -> OrderArray:
    """Antisymmetric order from the upper triangle of `front`: ties are decided from the lower index, as published."""
    upper = np.triu(np.where(front, 1, -1) * related, k=1).astype(np.int8)
    return upper - upper.T
