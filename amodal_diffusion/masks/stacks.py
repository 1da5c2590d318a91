"""Stacks of masks: from masks in any common form to (N, H, W) bool, and their areas, boxes, overlaps and unions.

Boxes are integers (x, y, w, h) in image pixels: x to the right, y down, from the corner of the top left pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from . import packed
from .morphology import dilate
from .packed import BoolArray, IntArray
from .pictures import MASK_MODES, labelled_objects, one_object, picture_planes
from .rle import decode_rle, decode_segmentation
from .tiles import TileStack

T = TypeVar("T")

MaskInput = np.ndarray | TileStack | torch.Tensor | Image.Image | Mapping[str, Any] | Sequence[Any]
"""One mask or several: array, `TileStack`, tensor, PIL image, COCO run lengths or polygons, or a sequence of these."""


_COLOURS = (1, 3, 4)
_SMALL = 8  # sides up to here may be those of masks that somebody wrote down


def to_mask_stack(
    masks: MaskInput,
    *,
    height: int | None = None,
    width: int | None = None,
    threshold: float = 0.5,
    allow_faint: bool = False,
) -> BoolArray:
    """Convert masks in any common form to one boolean stack.

    Args:
        masks: one mask or several, as
            - numpy array or tensor (H, W), (N, H, W) or (N, 1, H, W): bool, integers or floats, where each plane shows
              one object with hard or soft edges; one plane (H, W) of integers may also be a map of labels, all of
              whose objects are taken (`masks.pictures` says what is what);
            - `TileStack` (N, H, W);
            - PIL image of mode 1, L, P, I, I;16 or F, likewise; of several pages each is one plane;
            - COCO run lengths `{"size": [height, width], "counts": ...}`, compressed or a list of integers;
            - COCO polygons of one object, `[x0, y0, x1, y1, ...]` or a list of those (their union), also as arrays of
              points (P, 2); need the size;
            - a list or tuple of any of these, one an object.
        height: expected height; needed for polygons and for an empty list.
        width: expected width, likewise.
        threshold: of soft masks, as a share of the full value (1 of floats, 255 or 65,535).
        allow_faint: a soft mask that is nowhere above the threshold is an empty mask, as predictions may be, instead
            of an error.

    Returns:
        (N, H, W) bool. It may share memory with a boolean input. No masks give (0, height, width).

    Raises:
        TypeError: an input that is none of these, or an array of another kind of value.
        ValueError: NaN, a wrong number of dimensions, masks of different sizes or not of `height` x `width`, a colour
            image, broken run lengths or polygons, polygons or no masks without a size; values that are neither a hard
            mask, a soft mask nor labels; a soft mask that is nowhere above the threshold.

    Example:
        >>> to_mask_stack(torch.tensor([[0.2, 0.9]])).tolist()
        [[[False, True]]]
        >>> to_mask_stack([[[0, 0, 2, 0, 2, 2, 0, 2]]], height=2, width=3).astype(int)
        array([[[1, 1, 0],
                [1, 1, 0]]])
    """
    reader = _Reader(height, width, threshold, allow_faint)
    if isinstance(masks, (list, tuple)) and not _is_polygons(masks):
        parts = [reader.read(item, f"masks[{i}]", alone=False) for i, item in enumerate(masks)]
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
        stack = reader.read(masks, "masks", alone=True)
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
    words = packed.pack(first)
    return packed.overlaps(words, words if second is first else packed.pack(second))


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


def mask_pixels(mask: BoolArray) -> tuple[IntArray, IntArray]:
    """Find the rows and the columns of the pixels of a mask (H, W), row by row, as `np.nonzero` does but much faster.

    Raises:
        ValueError: no (H, W).

    Example:
        >>> mask_pixels(np.array([[False, True], [True, False]]))
        (array([0, 1]), array([1, 0]))
    """
    if mask.ndim != 2:
        raise ValueError(f"`mask` must have shape (H, W), got {mask.shape}")
    rows, columns = np.divmod(np.flatnonzero(mask), max(1, mask.shape[1]))  # of one line numpy has a way of its own
    return rows, columns


def _is_polygons(masks: Sequence[Any]) -> bool:
    """Whether a list is the polygons of one object: numbers, or lists of numbers."""
    if not masks:
        return False
    first = masks[0]
    if isinstance(first, (list, tuple)):
        return bool(first) and (_is_number(first[0]) or isinstance(first[0], str) or _is_points(first))
    return _is_number(first)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _is_points(polygon: Sequence[Any]) -> bool:
    """Whether a list is one polygon as three or more pairs of numbers."""
    pairs = (isinstance(pair, (list, tuple)) and len(pair) == 2 and all(map(_is_number, pair)) for pair in polygon)
    return len(polygon) >= 3 and all(pairs)


@dataclass(frozen=True)
class _Reader:
    """Reads the items of one call; its fields are the arguments."""

    height: int | None
    width: int | None
    threshold: float
    allow_faint: bool

    def read(self, item: Any, name: str, *, alone: bool) -> BoolArray:
        """One item of any accepted form as an (n, H, W) bool stack; labels are taken apart only in a plane `alone`."""
        if isinstance(item, Image.Image):
            return self._picture(item, name, alone)
        if isinstance(item, torch.Tensor):
            return self._array(tensor_to_array(item, f"`{name}`"), name, alone)
        if isinstance(item, np.ndarray | TileStack):
            return self._array(np.asarray(item), name, alone)
        if isinstance(item, Mapping):
            return _named(lambda: decode_rle(item), name)[None]
        if isinstance(item, (list, tuple)) and (_is_polygons(item) or not item):
            return self._polygons(item, name)
        kind = type(item).__name__ + (": pass its `masks`" if hasattr(item, "masks") else "")  # such as `ObjectMasks`
        raise TypeError(f"`{name}` must be an array, a tensor, a PIL image, run lengths or polygons, got {kind}")

    def _polygons(self, item: Sequence[Any], name: str) -> BoolArray:
        height, width = self.height, self.width
        if height is None or width is None:
            raise ValueError(f"`{name}` is made of polygons: height and width are needed, got none")
        return _named(lambda: decode_segmentation(item, height, width), name)[None]

    def _picture(self, image: Image.Image, name: str, alone: bool) -> BoolArray:
        if image.mode not in MASK_MODES:
            raise ValueError(f"`{name}` is an image of mode {image.mode}, expected one channel: {MASK_MODES}")
        planes = _named(lambda: picture_planes(image), name)
        return np.concatenate([self._array(plane, name, alone and len(planes) == 1) for plane in planes])

    def _array(self, array: npt.NDArray[Any], name: str, alone: bool) -> BoolArray:
        if self._is_polygon(array):
            return self._polygons(array.ravel().tolist(), name)
        self._check_layout(array, name)
        if array.ndim == 4:
            array = array[:, 0]
        if array.ndim == 3 or array.dtype == np.bool_ or not alone:
            return self._planes(array[None] if array.ndim == 2 else array, name)
        options: dict[str, Any] = {"threshold": self.threshold, "allow_faint": self.allow_faint}
        masks = _named(lambda: labelled_objects(array, **options), name)[1]
        return masks if len(masks) else np.zeros((1, *array.shape), bool)

    def _planes(self, stack: npt.NDArray[Any], name: str) -> BoolArray:
        """One object a plane."""
        if stack.dtype == np.bool_:
            return stack
        if np.issubdtype(stack.dtype, np.integer) and stack.size and stack.min() >= 0 and stack.max() <= 1:
            return stack != 0
        options: dict[str, Any] = {"threshold": self.threshold, "allow_faint": self.allow_faint}
        masks = np.zeros(stack.shape, bool)
        for index, plane in enumerate(stack):
            label = name if len(stack) == 1 else f"{name}[{index}]"
            masks[index] = _named(partial(one_object, plane, **options), label)
        if not stack.size:
            _named(lambda: one_object(stack.reshape(-1, 1), **options), name)
        return masks

    def _is_polygon(self, array: npt.NDArray[Any]) -> bool:
        """Whether an array holds the points of a polygon: (P, 2), as OpenCV's contours (P, 1, 2), or flat."""
        size = (self.height, self.width)
        if array.ndim not in (1, 2, 3) or array.size < 6 or array.dtype.kind not in "iuf":
            return False
        if array.ndim == 1:
            return array.size % 2 == 0
        if array.shape[1:] not in ((2,), (1, 2)) or size == array.shape[-2:]:
            return False
        # Where the size is unknown it may be a mask of two columns that somebody wrote down.
        return None not in size or len(array) > _SMALL or bool(((array < 0) | (array > 1)).any())

    def _check_layout(self, array: npt.NDArray[Any], name: str) -> None:
        shape = array.shape
        if array.ndim not in (2, 3) and not (array.ndim == 4 and shape[1] == 1):
            raise ValueError(f"`{name}` must have shape (H, W), (N, H, W) or (N, 1, H, W), got {shape}")
        if array.ndim != 3 or shape[2] not in _COLOURS or (self.height, self.width) == shape[1:]:
            return
        if (self.height, self.width) == shape[:2] or min(shape[:2]) > _SMALL:
            raise ValueError(
                f"`{name}` has shape {shape}, as a picture (H, W, channels) has it, expected masks (H, W) or (N, H, W)"
            )


def tensor_to_array(tensor: torch.Tensor, name: str = "`tensor`") -> npt.NDArray[Any]:
    """The values of a tensor as a numpy array: of any device, sparse, lazily negated or conjugated, of small floats.

    Args:
        tensor: floats that numpy does not have become float32.
        name: how errors call it.

    Raises:
        ValueError: a tensor without values.
        TypeError: quantized or nested ones, which no array is like.

    Example:
        >>> tensor_to_array(torch.eye(2).to_sparse())
        array([[1., 0.],
               [0., 1.]], dtype=float32)
    """
    if tensor.is_meta:
        raise ValueError(f"{name} is a tensor on the device 'meta', which has no values")
    if tensor.is_quantized or tensor.is_nested:
        raise TypeError(f"{name} must be a plain tensor, got a {'quantized' if tensor.is_quantized else 'nested'} one")
    tensor = tensor.detach()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    tensor = tensor.cpu().resolve_conj().resolve_neg()
    known = not tensor.is_floating_point() or tensor.dtype in (torch.float16, torch.float32, torch.float64)
    return (tensor if known else tensor.float()).numpy()


def _named(decode: Callable[[], T], name: str) -> T:
    try:
        return decode()
    except ValueError as error:
        reads = str(error).startswith(("has ", "is ", "holds ", "must "))
        raise ValueError(f"`{name}`{' ' if reads else ': '}{error}") from error
    except TypeError as error:
        raise TypeError(f"`{name}` {error}") from error


def _check_stack(masks: npt.NDArray[Any], name: str = "masks") -> BoolArray:
    array = np.asarray(masks)
    if array.ndim != 3:
        raise ValueError(f"`{name}` must have shape (N, height, width), got {array.shape}")
    return array if array.dtype == np.bool_ else array != 0
