"""Masks and boxes: reading, run lengths, crop boxes, batched crops and pastes, morphology.

Masks are (N, H, W) stacks. Boxes are int (x, y, w, h) in image pixels: x to the right, y down, from the corner of the
top left pixel. The geometry is that of section 3 of [Z20] and its published code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pycocotools import mask as mask_utils

from ._segmentation import Rle, segmentation_to_rle

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
ArrayOrTensor = TypeVar("ArrayOrTensor", np.ndarray, torch.Tensor)

MaskInput = np.ndarray | torch.Tensor | Image.Image | Mapping[str, Any] | Sequence[Any]
"""One mask or several: array, tensor, PIL image, COCO run lengths, COCO polygons, or a sequence of these."""

ENLARGE_BOX = 3.0
"""Area of a crop box over the area of its object's box [Z20]."""

MIN_MARGIN = 1.1
"""Least side of a crop box over the longer side of its object's box [Z20]."""

_BINARY_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B", "F")
_CHUNK = 2**24
"""Values in the largest temporary of a batched operation: bounds memory, not results."""


def to_mask_stack(
    masks: MaskInput, *, height: int | None = None, width: int | None = None, threshold: float = 0.5
) -> BoolArray:
    """Bring masks in any common form to one boolean stack.

    Args:
        masks: one mask or several, as
            - numpy array or tensor (H, W), (N, H, W) or (N, 1, H, W): bool; integers, where nonzero is the object;
              floats, where values above `threshold` are;
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


def encode_rle(mask: npt.ArrayLike) -> Rle:
    """Encode one (H, W) mask (nonzero is the object) as compressed COCO run lengths with text counts.

    An empty mask is one run of background. Raises ValueError for an array that is not (H, W).
    """
    array = np.asarray(mask)
    if array.ndim != 2:
        raise ValueError(f"`mask` must have shape (height, width), got {array.shape}")
    rle = mask_utils.encode(np.asfortranarray(array != 0, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode_rle(rle: Mapping[str, Any]) -> BoolArray:
    """Decode COCO run lengths `{"size": [height, width], "counts": ...}` to an (H, W) bool mask.

    `counts` is compressed (str or bytes) or a list of run lengths. Raises ValueError where `size` is missing or the
    runs do not fill the frame.
    """
    size = rle.get("size")
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        raise ValueError(f"run lengths need a `size` of [height, width], got {size!r}")
    height, width = (_side(value, name) for value, name in zip(size, ("height", "width"), strict=True))
    return decode_segmentation(rle, height, width)


def decode_segmentation(segmentation: Any, height: int, width: int) -> BoolArray:
    """Decode a COCO `segmentation` to an (H, W) bool mask.

    Args:
        segmentation: polygon `[x0, y0, x1, y1, ...]`, a list of polygons (their union), or run lengths. An empty list
            is an empty mask. What reaches beyond the frame is cut off.
        height: height of the frame in pixels.
        width: width of the frame in pixels.

    Raises:
        ValueError: a polygon or a run-length code that cannot be right; the message says which and why.
    """
    rle = segmentation_to_rle(segmentation, height, width)
    return mask_utils.decode({"size": rle["size"], "counts": rle["counts"].encode("ascii")}).astype(bool)


def mask_areas(masks: npt.NDArray[Any]) -> IntArray:
    """Pixels of each mask of an (N, H, W) stack: (N,) int64, 0 for an empty mask."""
    packed = _pack(_check_stack(masks))
    return np.bitwise_count(packed).sum(axis=1, dtype=np.int64)


def mask_overlaps(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> IntArray:
    """Pixels common to each mask of `first` (N, H, W) and each of `second` (M, H, W): (N, M) int64.

    Raises ValueError where the sizes differ.
    """
    first, second = _check_stack(first, "first"), _check_stack(second, "second")
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(f"`first` has masks of size {first.shape[1:]}, `second` of {second.shape[1:]}")
    a, b = _pack(first), _pack(second)
    overlaps = np.zeros((len(a), len(b)), dtype=np.int64)
    step = max(1, _CHUNK // max(1, 8 * b.size))
    for start in range(0, len(a), step):
        rows = slice(start, start + step)
        overlaps[rows] = np.bitwise_count(a[rows, None] & b[None]).sum(axis=2, dtype=np.int64)
    return overlaps


def mask_unions(masks: npt.NDArray[Any], chosen: npt.NDArray[np.bool_]) -> BoolArray:
    """Unions of chosen masks.

    Args:
        masks: (N, H, W) masks.
        chosen: (K, N) bool, the masks that go into each union.

    Returns:
        (K, H, W) bool; a row that chooses none gives an empty mask.

    Raises:
        ValueError: shapes that do not fit.
    """
    stack = _check_stack(masks)
    chosen = np.asarray(chosen, dtype=bool)
    if chosen.ndim != 2 or chosen.shape[1] != len(stack):
        raise ValueError(f"`chosen` must have shape (K, {len(stack)}), got {chosen.shape}")
    packed = _pack(stack)
    unions = np.zeros((len(chosen), packed.shape[1]), dtype=np.uint64)
    step = max(1, _CHUNK // max(1, 8 * packed.size))
    for start in range(0, len(chosen), step):
        rows = slice(start, start + step)
        members = np.where(chosen[rows, :, None], packed[None], np.uint64(0))
        unions[rows] = np.bitwise_or.reduce(members, axis=1)
    pixels = stack.shape[1] * stack.shape[2]
    bits = np.unpackbits(unions.view(np.uint8), axis=1, count=pixels)
    return bits.view(np.bool_).reshape(len(chosen), *stack.shape[1:])


def mask_boxes(masks: npt.NDArray[Any]) -> IntArray:
    """Tight boxes of an (N, H, W) stack: (N, 4) int64 (x, y, w, h), zeros for an empty mask."""
    stack = _check_stack(masks)
    count, height, width = stack.shape
    boxes = np.zeros((count, 4), dtype=np.int64)
    if not stack.size:
        return boxes
    rows, columns = stack.any(axis=2), stack.any(axis=1)
    left, top = columns.argmax(axis=1), rows.argmax(axis=1)
    right, bottom = width - columns[:, ::-1].argmax(axis=1), height - rows[:, ::-1].argmax(axis=1)
    found = rows.any(axis=1)
    boxes[found] = np.stack([left, top, right - left, bottom - top], axis=1)[found]
    return boxes


def crop_boxes(boxes: npt.ArrayLike, *, enlarge_box: float = ENLARGE_BOX, min_margin: float = MIN_MARGIN) -> IntArray:
    """Square crops around objects [Z20].

    The side is `max(sqrt(enlarge_box * w * h), min_margin * w, min_margin * h)`; left, top and side are truncated
    towards zero, as published. A crop may leave the image.

    Args:
        boxes: (N, 4) numbers (x, y, w, h), the box of each object.
        enlarge_box: area of the crop over the area of the box, where the margin does not ask for more.
        min_margin: least side of the crop over the longer side of the box.

    Returns:
        (N, 4) int64 (x, y, side, side). A box of w = h = 0 (an empty mask) gives side 0.

    Raises:
        ValueError: another shape, NaN or infinity, a negative side, a factor that is not positive.
    """
    values = np.asarray(boxes, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != 4:
        raise ValueError(f"`boxes` must have shape (N, 4), got {values.shape}")
    if not np.isfinite(values).all() or (values[:, 2:] < 0).any():
        raise ValueError("`boxes` must hold finite numbers and no negative width or height")
    for name, factor in (("enlarge_box", enlarge_box), ("min_margin", min_margin)):
        if not (np.isfinite(factor) and factor > 0):
            raise ValueError(f"`{name}` must be a positive number, got {factor}")
    x, y, w, h = values.T
    side = np.maximum(np.sqrt(w * h * enlarge_box), np.maximum(w, h) * min_margin)
    crops = np.stack([x + w / 2 - side / 2, y + h / 2 - side / 2, side, side], axis=1)
    return np.trunc(crops).astype(np.int64)


def crop_masks(
    masks: torch.Tensor,
    boxes: torch.Tensor | npt.NDArray[Any],
    size: int,
    *,
    indices: torch.Tensor | npt.NDArray[Any] | None = None,
) -> torch.Tensor:
    """Crop masks by square boxes and resize the crops with nearest neighbour, exactly as OpenCV's INTER_NEAREST.

    Args:
        masks: (M, H, W), any dtype and device.
        boxes: (N, 4) integers (x, y, side, side); what lies outside the image is 0.
        size: side of the patches in pixels.
        indices: (N,) integers, which mask each box crops. None pairs box n with mask n, which needs N = M.

    Returns:
        (N, size, size) of the dtype and on the device of `masks`. A box of side 0 gives zeros.

    Raises:
        ValueError: wrong shapes, sizes, boxes that are not square, or indices out of range.
    """
    if masks.ndim != 3:
        raise ValueError(f"`masks` must have shape (M, height, width), got {tuple(masks.shape)}")
    if size < 1:
        raise ValueError(f"`size` must be at least 1, got {size}")
    boxes = check_boxes(boxes)
    which = _check_indices(indices, len(boxes), len(masks))
    height, width = masks.shape[1:]
    if not len(boxes) or not masks.numel():
        return masks.new_zeros((len(boxes), size, size))
    offsets = _nearest_offsets(boxes[:, 2], size)
    rows, columns = boxes[:, 1:2] + offsets, boxes[:, 0:1] + offsets
    full = boxes[:, 2:3] > 0
    row_inside, column_inside = (rows >= 0) & (rows < height) & full, (columns >= 0) & (columns < width)
    rows, columns, row_inside, column_inside, which = (
        tensor.to(masks.device, non_blocking=True)
        for tensor in (rows.clamp(0, height - 1), columns.clamp(0, width - 1), row_inside, column_inside, which)
    )
    patches = masks[which[:, None, None], rows[:, :, None], columns[:, None, :]]
    return patches.masked_fill_(~(row_inside[:, :, None] & column_inside[:, None, :]), 0)


def paste_patches(
    patches: torch.Tensor,
    boxes: torch.Tensor | npt.NDArray[Any],
    height: int,
    width: int,
    *,
    threshold: float | None = None,
) -> torch.Tensor:
    """Resize square patches to their boxes with bilinear interpolation and paste each into its own frame.

    Pixel centres are at halves and the patch is continued at its edges, as in OpenCV's INTER_LINEAR. To paste the
    probability pass it and a threshold; to paste a binary patch as published [Z20] pass `patch > t` and 0.5.

    Args:
        patches: (N, s, s), float or bool.
        boxes: (N, 4) integers (x, y, side, side); what lies outside the frame is cut off.
        height: height of the frame in pixels.
        width: width of the frame in pixels.
        threshold: where given, the result is `pasted > threshold` and the float frames are never held at once.

    Returns:
        (N, height, width) on the device of `patches`: float32, 0 outside the box; bool with a threshold, False outside
        the box. A box of side 0 pastes nothing.

    Raises:
        ValueError: wrong shapes, sizes, or boxes that are not square.
    """
    if patches.ndim != 3 or patches.shape[1] != patches.shape[2] or not patches.shape[1]:
        raise ValueError(f"`patches` must have shape (N, size, size), got {tuple(patches.shape)}")
    if height < 1 or width < 1:
        raise ValueError(f"`height` and `width` must be at least 1, got {height} and {width}")
    boxes = check_boxes(boxes)
    if len(boxes) != len(patches):
        raise ValueError(f"`boxes` has {len(boxes)} boxes, `patches` has {len(patches)} patches")
    size = patches.shape[1]
    dtype = torch.float32 if threshold is None else torch.bool
    frames = torch.empty((len(patches), height, width), dtype=dtype, device=patches.device)
    step = max(1, _CHUNK // (height * max(width, size)))
    # Weights in half precision would shift edges by whole pixels, so an enclosing autocast is switched off.
    with torch.autocast(patches.device.type, enabled=False):
        for start in range(0, len(patches), step):
            part = slice(start, start + step)
            rows = _linear_weights(boxes[part, 1], boxes[part, 2], height, size).to(patches.device)
            columns = _linear_weights(boxes[part, 0], boxes[part, 2], width, size).to(patches.device)
            pasted = rows @ patches[part].float() @ columns.mT
            frames[part] = pasted if threshold is None else (pasted > threshold) & _inside(rows, columns)
    return frames


def dilate(masks: ArrayOrTensor, *, kernel: Literal["cross", "square"] = "cross", size: int = 3) -> ArrayOrTensor:
    """Dilate masks: each pixel takes the greatest value under the kernel, as `cv2.dilate`.

    Args:
        masks: (..., H, W) array or tensor, bool or numeric.
        kernel: "cross" has one row and one column (cv2.MORPH_CROSS), "square" is full.
        size: side of the kernel in pixels, odd; 1 changes nothing.

    Returns:
        The same shape and type. An empty mask stays empty.

    Raises:
        ValueError: fewer than two dimensions, another kernel, an even size or one below 1.
    """
    return _morphology(masks, kernel, size, grow=True)


def erode(masks: ArrayOrTensor, *, kernel: Literal["cross", "square"] = "cross", size: int = 3) -> ArrayOrTensor:
    """Erode masks: each pixel takes the least value under the kernel, as `cv2.erode`.

    What lies outside the image does not count, so a mask of the full frame stays. Arguments, result and errors are
    those of `dilate`.
    """
    return _morphology(masks, kernel, size, grow=False)


def check_boxes(boxes: torch.Tensor | npt.NDArray[Any]) -> torch.Tensor:
    """Check square boxes (x, y, side, side) and give them as (N, 4) int64 on the CPU, where indices are computed.

    Raises ValueError for another shape, fractions, or boxes that are not square.
    """
    tensor = torch.as_tensor(boxes).detach().cpu()
    if tensor.ndim != 2 or tensor.shape[1] != 4:
        raise ValueError(f"`boxes` must have shape (N, 4), got {tuple(tensor.shape)}")
    if tensor.is_floating_point() and not bool((tensor == tensor.floor()).all()):
        raise ValueError("`boxes` must hold whole numbers, got fractions or NaN")
    tensor = tensor.to(torch.int64)
    wrong = ((tensor[:, 2] != tensor[:, 3]) | (tensor[:, 2] < 0)).nonzero()
    if len(wrong):
        index = int(wrong[0])
        raise ValueError(f"`boxes` must be squares (x, y, side, side), boxes[{index}] is {tensor[index].tolist()}")
    return tensor


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
    if isinstance(item, np.ndarray):
        return _array_to_stack(item, threshold, name)
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


def _side(value: Any, name: str) -> int:
    if isinstance(value, bool) or not str(value).isdigit():
        raise ValueError(f"`size` of run lengths: {name} must be a whole number, got {value!r}")
    return int(value)


def _check_stack(masks: npt.NDArray[Any], name: str = "masks") -> BoolArray:
    array = np.asarray(masks)
    if array.ndim != 3:
        raise ValueError(f"`{name}` must have shape (N, height, width), got {array.shape}")
    return array if array.dtype == np.bool_ else array != 0


def _pack(masks: BoolArray) -> npt.NDArray[np.uint64]:
    """(N, H, W) bool to (N, words) uint64, 64 pixels a word, so that counting needs no float."""
    flat = masks.reshape(len(masks), masks.shape[1] * masks.shape[2])
    packed = np.packbits(flat, axis=1)
    padding = -packed.shape[1] % 8
    return np.ascontiguousarray(np.pad(packed, ((0, 0), (0, padding)))).view(np.uint64)


def _check_indices(indices: torch.Tensor | npt.NDArray[Any] | None, boxes: int, masks: int) -> torch.Tensor:
    if indices is None:
        if boxes != masks:
            raise ValueError(f"`boxes` has {boxes} boxes for {masks} masks: pass `indices` to pair them")
        return torch.arange(boxes)
    tensor = torch.as_tensor(indices).detach().cpu()
    if tensor.shape != (boxes,):
        raise ValueError(f"`indices` must have shape ({boxes},), one an box, got {tuple(tensor.shape)}")
    if tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise ValueError(f"`indices` must hold integers, got {tensor.dtype}")
    if boxes and not (0 <= int(tensor.min()) and int(tensor.max()) < masks):
        raise ValueError(f"`indices` must lie in [0, {masks}), got {int(tensor.min())} to {int(tensor.max())}")
    return tensor.to(torch.int64)


def _nearest_offsets(sides: torch.Tensor, size: int) -> torch.Tensor:
    """Source pixel of each patch pixel, from the corner of the box: (N, size) int64.

    OpenCV multiplies by the reciprocal of the zoom in double precision; doing the same keeps its rounding.
    """
    scale = 1.0 / (size / sides.clamp(min=1).to(torch.float64))
    offsets = (torch.arange(size, dtype=torch.float64) * scale[:, None]).floor().to(torch.int64)
    return torch.minimum(offsets, sides.clamp(min=1)[:, None] - 1)


def _linear_weights(starts: torch.Tensor, sides: torch.Tensor, length: int, size: int) -> torch.Tensor:
    """Weight of each of `size` patch pixels in each of `length` frame pixels: (N, length, size) float32.

    Rows outside the box are 0, all others sum to 1.
    """
    offsets = torch.arange(length) - starts[:, None]
    inside = (offsets >= 0) & (offsets < sides[:, None])
    scale = size / sides.clamp(min=1).to(torch.float64)
    centres = ((offsets + 0.5) * scale[:, None] - 0.5).to(torch.float32).clamp(0, size - 1)
    hat = (1 - (centres[:, :, None] - torch.arange(size, dtype=torch.float32)).abs()).clamp_(min=0)
    return hat.mul_(inside[:, :, None])


def _inside(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    return rows.any(dim=2)[:, :, None] & columns.any(dim=2)[:, None, :]


def _morphology(masks: ArrayOrTensor, kernel: str, size: int, *, grow: bool) -> ArrayOrTensor:
    if masks.ndim < 2:
        raise ValueError(f"`masks` must have shape (..., height, width), got {tuple(masks.shape)}")
    if kernel not in ("cross", "square"):
        raise ValueError(f"`kernel` must be 'cross' or 'square', got {kernel!r}")
    if size < 1 or size % 2 == 0:
        raise ValueError(f"`size` must be an odd number of at least 1, got {size}")
    radius = size // 2
    across = _sweep(masks, -1, radius, grow)
    if kernel == "square":
        return _sweep(across, -2, radius, grow)
    return _extreme(across, _sweep(masks, -2, radius, grow), grow)


def _extreme(first: ArrayOrTensor, second: ArrayOrTensor, grow: bool) -> ArrayOrTensor:
    if isinstance(first, torch.Tensor):
        return torch.maximum(first, second) if grow else torch.minimum(first, second)
    return np.maximum(first, second) if grow else np.minimum(first, second)


def _sweep(masks: ArrayOrTensor, axis: int, radius: int, grow: bool) -> ArrayOrTensor:
    """Greatest (or least) value within `radius` pixels along one axis."""
    out = masks.clone() if isinstance(masks, torch.Tensor) else masks.copy()
    for shift in range(1, min(radius, masks.shape[axis] - 1) + 1):
        low, high = (slice(None, -shift), slice(shift, None))
        if axis == -2:
            low, high = (low, slice(None)), (high, slice(None))  # type: ignore[assignment]
        else:
            low, high = (low,), (high,)  # type: ignore[assignment]
        out[(..., *low)] = _extreme(out[(..., *low)], masks[(..., *high)], grow)  # type: ignore[misc]
        out[(..., *high)] = _extreme(out[(..., *high)], masks[(..., *low)], grow)  # type: ignore[misc]
    return out
