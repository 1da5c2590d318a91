"""Stacks of masks: from masks in any common form to (N, H, W) bool, and their areas, boxes, overlaps and unions.

Boxes are integers (x, y, w, h) in image pixels: x to the right, y down, from the corner of the top left pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from . import packed
from .morphology import dilate
from .packed import BoolArray, IntArray
from .rle import decode_rle, decode_segmentation
from .tiles import TileStack

MaskInput = np.ndarray | TileStack | torch.Tensor | Image.Image | Mapping[str, Any] | Sequence[Any]
"""One mask or several: array, `TileStack`, tensor, PIL image, COCO run lengths or polygons, or a sequence of these."""


_BINARY_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B", "F")


def to_mask_stack(
    masks: MaskInput, *, height: int | None = None, width: int | None = None, threshold: float = 0.5
) -> BoolArray:
    """Convert masks in any common form to one boolean stack.

    Args:
        masks: one mask or several, as
            - numpy array or tensor (H, W), (N, H, W) or (N, 1, H, W): bool; integers, where nonzero is the object;
              floats, where values above `threshold` are;
            - `TileStack` (N, H, W);
            - PIL image of mode 1, L, P (index 0 is background), I, I;16 or F, read as the array of its values;
            - COCO run lengths `{"size": [height, width], "counts": ...}`, compressed or a list of integers;
            - COCO polygons of one object, `[x0, y0, x1, y1, ...]` or a list of those (their union); need the size;
            - a list or tuple of any of these, one an object.
        height: expected height; needed for polygons and for an empty list.
        width: expected width, likewise.
        threshold: for float masks only.

    Returns:
        (N, H, W) bool. It may share memory with a boolean input. No masks give (0, height, width).

    Raises:
        TypeError: an input that is none of these, or an array of another kind of value.
        ValueError: NaN, a wrong number of dimensions, masks of different sizes or not of `height` x `width`, a colour
            image, broken run lengths or polygons, polygons or no masks without a size.

    Example:
        >>> to_mask_stack(torch.tensor([[0.2, 0.9]])).tolist()
        [[[False, True]]]
        >>> to_mask_stack([[[0, 0, 2, 0, 2, 2, 0, 2]]], height=2, width=3).astype(int)
        array([[[1, 1, 0],
                [1, 1, 0]]])
    """
    if isinstance(masks, (list, tuple)) and not _is_polygons(masks):
        parts = [_one_input(item, height, width, threshold, f"masks[{i}]") for i, item in enumerate(masks)]
        if not parts:
            if height is None or width is None:
                raise ValueError("`masks` is empty: height and width are needed, got none")
            return np.zeros((0, height, width), dtype=bool)
        sizes = [part.shape[1:] for part in parts]
        for index, size in enumerate(sizes):
            if size != sizes[0]:
                raise ValueError(
                    f"masks[{index}] has size (height, width) {size}, masks[0] has {sizes[0]}; all must agree"
                )
        stack = np.concatenate(parts) if len(parts) > 1 else parts[0]
    else:
        stack = _one_input(masks, height, width, threshold, "masks")
    expected = (stack.shape[1] if height is None else height, stack.shape[2] if width is None else width)
    if stack.shape[1:] != expected:
        raise ValueError(f"`masks` has size (height, width) {stack.shape[1:]}, expected {expected}")
    return stack


def mask_areas(masks: npt.NDArray[Any]) -> IntArray:
    """Count the pixels of each mask of an (N, H, W) stack: (N,) int64, 0 for an empty mask.

    Example:
        >>> mask_areas(np.array([[[1, 1, 0]], [[0, 0, 0]]]))
        array([2, 0])
    """
    return packed.areas(packed.pack(_check_stack(masks)))


def mask_overlaps(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> IntArray:
    """Count the pixels that each mask of `first` (N, H, W) shares with each of `second` (M, H, W): (N, M) int64.

    Raises ValueError where the sizes differ.

    Example:
        >>> masks = np.array([[[1, 1, 0]], [[0, 1, 1]]])
        >>> mask_overlaps(masks, masks)
        array([[2, 1],
               [1, 2]])
    """
    first, second = _check_stack(first, "first"), _check_stack(second, "second")
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(f"`first` has masks of size {first.shape[1:]}, `second` of {second.shape[1:]}")
    return packed.overlaps(packed.pack(first), packed.pack(second))


def mask_unions(masks: npt.NDArray[Any], chosen: npt.NDArray[np.bool_]) -> BoolArray:
    """Join chosen masks.

    Args:
        masks: (N, H, W) masks.
        chosen: (K, N) bool, the masks that go into each union.

    Returns:
        (K, H, W) bool; a row that chooses none gives an empty mask.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> masks = np.array([[[1, 0, 0]], [[0, 1, 0]], [[0, 0, 1]]])
        >>> mask_unions(masks, np.array([[True, False, True]])).astype(int)
        array([[[1, 0, 1]]])
    """
    stack = _check_stack(masks)
    chosen = np.asarray(chosen, dtype=bool)
    if chosen.ndim != 2 or chosen.shape[1] != len(stack):
        raise ValueError(f"`chosen` must have shape (K, {len(stack)}), got {chosen.shape}")
    return packed.unpack(packed.unions(packed.pack(stack), chosen), stack.shape[2])


def occlusion_boundary(modal: torch.Tensor, occluder: torch.Tensor, *, size: int = 5) -> torch.Tensor:
    """Find where an object and its occluder meet: the overlap of both masks after a dilation by a square [N21].

    Args:
        modal: (..., h, w) bool or {0, 1} of any dtype, the visible part.
        occluder: the same shape, dtype and device.
        size: side of the square in pixels, odd.

    Returns:
        The same shape, dtype and device; empty where either mask is.

    Raises:
        ValueError: shapes that differ, or a size that `dilate` refuses.

    Example:
        >>> modal, occluder = torch.tensor([[1, 1, 0, 0, 0]]), torch.tensor([[0, 0, 1, 1, 1]])
        >>> occlusion_boundary(modal, occluder, size=3)
        tensor([[0, 1, 1, 0, 0]])
    """
    if modal.shape != occluder.shape:
        raise ValueError(f"`occluder` must have the shape of `modal` {tuple(modal.shape)}, got {tuple(occluder.shape)}")
    both = (dilate(mask, kernel="square", size=size) for mask in (modal, occluder))
    return torch.minimum(*both) if modal.dtype != torch.bool else torch.logical_and(*both)


def mask_boxes(masks: npt.NDArray[Any]) -> IntArray:
    """Find the tight boxes of an (N, H, W) stack: (N, 4) int64 (x, y, w, h), zeros for an empty mask.

    Example:
        >>> mask_boxes(np.array([[[0, 0, 0, 0], [0, 1, 1, 1]]]))
        array([[1, 1, 3, 1]])
    """
    stack = _check_stack(masks)
    count, height, width = stack.shape
    boxes = np.zeros((count, 4), dtype=np.int64)
    if not stack.size:
        return boxes
    rows, columns = np.logical_or.reduce(stack, axis=2), np.logical_or.reduce(stack, axis=1)
    left, top = columns.argmax(axis=1), rows.argmax(axis=1)
    right, bottom = width - columns[:, ::-1].argmax(axis=1), height - rows[:, ::-1].argmax(axis=1)
    found = np.logical_or.reduce(rows, axis=1)
    boxes[found] = np.stack([left, top, right - left, bottom - top], axis=1)[found]
    return boxes


def _is_polygons(masks: Sequence[Any]) -> bool:
    """Whether a list is the polygons of one object: numbers, or lists of numbers."""
    if not masks:
        return False
    first = masks[0]
    if isinstance(first, (list, tuple)):
        return bool(first) and isinstance(first[0], (int, float, str, np.number))
    return isinstance(first, (int, float, np.number)) and not isinstance(first, bool)


def _one_input(item: Any, height: int | None, width: int | None, threshold: float, name: str) -> BoolArray:
    """One item of any accepted form as an (n, H, W) bool stack."""
    if isinstance(item, Image.Image):
        if item.mode not in _BINARY_MODES:
            raise ValueError(f"`{name}` is an image of mode {item.mode}, expected one channel: {_BINARY_MODES}")
        return _array_to_stack(np.asarray(item), threshold, name)
    if isinstance(item, torch.Tensor):
        tensor = item.detach().cpu()
        return _array_to_stack((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy(), threshold, name)
    if isinstance(item, np.ndarray | TileStack):
        return _array_to_stack(np.asarray(item), threshold, name)
    if isinstance(item, Mapping):
        return _named(lambda: decode_rle(item), name)[None]
    if isinstance(item, (list, tuple)) and (_is_polygons(item) or not item):
        if height is None or width is None:
            raise ValueError(f"`{name}` is made of polygons: height and width are needed, got none")
        return _named(lambda: decode_segmentation(item, height, width), name)[None]
    raise TypeError(
        f"`{name}` must be an array, a tensor, a PIL image, run lengths or polygons, got {type(item).__name__}"
    )


def _named(decode: Any, name: str) -> BoolArray:
    try:
        return decode()
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}") from error


def _array_to_stack(array: npt.NDArray[Any], threshold: float, name: str) -> BoolArray:
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3:
        raise ValueError(f"`{name}` must have shape (H, W), (N, H, W) or (N, 1, H, W), got {array.shape}")
    if array.dtype == np.bool_:
        return array
    if np.issubdtype(array.dtype, np.integer):
        return array != 0
    if np.issubdtype(array.dtype, np.floating):
        if np.isnan(array).any():
            raise ValueError(f"`{name}` has NaN in it")
        return array > threshold
    raise TypeError(f"`{name}` must hold bool, integers or floats, got dtype {array.dtype}")


def _check_stack(masks: npt.NDArray[Any], name: str = "masks") -> BoolArray:
    array = np.asarray(masks)
    if array.ndim != 3:
        raise ValueError(f"`{name}` must have shape (N, height, width), got {array.shape}")
    return array if array.dtype == np.bool_ else array != 0
