"""Square crops of masks and photos, and patches pasted back, batched over objects and exact to OpenCV's resizing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..arguments.choices import check_choice
from ..arguments.numeric import check_integer, check_number
from ..masks.packed import IntArray

_CHUNK = 2**24
"""Values in the largest temporary of a batched operation: bounds memory, not results."""

_ROWS_CHUNK = 2**22  # likewise where rows are blended
_CUBIC = -0.75  # the parameter of OpenCV's bicubic kernel

CROP_RULES = ("nearest", "bilinear")
"""How a mask becomes a crop of another size, see `crop_masks`."""

Boxes = torch.Tensor | npt.NDArray[Any]


ENLARGE_BOX = 3.0
"""Area of a crop box over the area of its object's box [Z20]."""

MIN_MARGIN = 1.1
"""Least side of a crop box over the longer side of its object's box [Z20]."""


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

    Example:
        >>> crop_boxes([[10, 20, 30, 30], [10, 20, 60, 5]])
        array([[  0,   9,  51,  51],
               [  7, -10,  66,  66]])
    """
    values = np.asarray(boxes, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != 4:
        raise ValueError(f"`boxes` must have shape (N, 4), got {values.shape}")
    if not np.isfinite(values).all() or (values[:, 2:] < 0).any():
        raise ValueError("`boxes` must hold finite numbers and no negative width or height")
    enlarge_box = check_number("enlarge_box", enlarge_box, above=0)
    min_margin = check_number("min_margin", min_margin, above=0)
    x, y, w, h = values.T
    side = np.maximum(np.sqrt(w * h * enlarge_box), np.maximum(w, h) * min_margin)
    crops = np.stack([x + w / 2 - side / 2, y + h / 2 - side / 2, side, side], axis=1)
    return np.trunc(crops).astype(np.int64)


def crop_masks(
    masks: torch.Tensor,
    boxes: Boxes,
    size: int,
    *,
    indices: torch.Tensor | npt.NDArray[Any] | None = None,
    rule: str = "nearest",
) -> torch.Tensor:
    """Crop masks by square boxes and bring the crops to one size [Z20].

    Args:
        masks: (M, H, W), any dtype and device.
        boxes: (N, 4) integers (x, y, side, side); what lies outside the image is 0.
        size: side of the patches in pixels.
        indices: (N,) integers, which mask each box crops. None pairs box n with mask n, which needs N = M.
        rule: "nearest" takes one pixel, exactly as OpenCV's INTER_NEAREST does: an outline moves by up to half a pixel.
            "bilinear" interpolates masks of 0 and 1 and takes what is over one half, as OpenCV's INTER_LINEAR on
            floats: an outline stays where it is.

    Returns:
        (N, size, size) of the dtype and on the device of `masks`. An empty mask and a box of side 0 give zeros.

    Raises:
        TypeError: what should be a number and is none.
        ValueError: wrong shapes, sizes, boxes that are not square, indices out of range, or another rule.

    Example:
        >>> mask = torch.tensor([[[1, 1, 0, 0], [1, 1, 0, 0]]], dtype=torch.bool)
        >>> crop_masks(mask, np.array([[0, 0, 4, 4]]), size=4)[0].int()
        tensor([[1, 1, 0, 0],
                [1, 1, 0, 0],
                [0, 0, 0, 0],
                [0, 0, 0, 0]], dtype=torch.int32)
    """
    if masks.ndim != 3:
        raise ValueError(f"`masks` must have shape (M, height, width), got {tuple(masks.shape)}")
    check_choice("rule", rule, CROP_RULES)
    check_integer("size", size, 1)
    boxes = check_boxes(boxes)
    which = _check_indices(indices, len(boxes), len(masks))
    if not len(boxes) or not masks.numel():
        return masks.new_zeros((len(boxes), size, size))
    if rule == "nearest":
        return _crop_nearest(masks, boxes, size, which)
    if masks.device.type == "cpu" and masks.dtype == torch.bool:
        return _crop_bilinear_each(masks, boxes, size, which)
    boxes, which = boxes.to(masks.device), which.to(masks.device)
    step = max(1, _CHUNK // (size * max(size, masks.shape[2])))
    parts = zip(boxes.split(step), which.split(step), strict=True)
    return torch.cat([_crop_bilinear(masks, box, size, index) for box, index in parts])


def paste_patches(
    patches: torch.Tensor, boxes: Boxes, height: int, width: int, *, threshold: float | None = None
) -> torch.Tensor:
    """Resize square patches to their boxes with bilinear interpolation and paste each into its own frame [Z20].

    Pixel centres are at halves and the patch is continued at its edges, as in OpenCV's INTER_LINEAR. To paste a
    probability pass it and a threshold; to paste a binary patch as published pass `patch > t` and 0.5.

    Args:
        patches: (N, s, s), bool or float without NaN.
        boxes: (N, 4) integers (x, y, side, side); what lies outside the frame is cut off.
        height: height of the frame in pixels.
        width: width of the frame in pixels.
        threshold: at least 0; where given, the result is `pasted > threshold`, made without holding float frames.

    Returns:
        (N, height, width) on the device of `patches`, 0 outside the box: float32, or bool where there is a threshold.
        A box of side 0 pastes nothing.

    Raises:
        TypeError: what should be a number and is none.
        ValueError: wrong shapes, sizes, boxes that are not square, or a negative threshold.

    Example:
        >>> paste_patches(torch.ones(1, 2, 2), np.array([[1, 0, 2, 2]]), height=2, width=4)
        tensor([[[0., 1., 1., 0.],
                 [0., 1., 1., 0.]]])
        >>> paste_patches(torch.ones(1, 2, 2), np.array([[1, 0, 2, 2]]), height=2, width=4, threshold=0.5).dtype
        torch.bool
    """
    if patches.ndim != 3 or patches.shape[1] != patches.shape[2] or not patches.shape[1]:
        raise ValueError(f"`patches` must have shape (N, size, size), got {tuple(patches.shape)}")
    check_integer("height", height, 1)
    check_integer("width", width, 1)
    if threshold is not None:
        threshold = check_number("threshold", threshold, least=0)
    boxes = check_boxes(boxes)
    if len(boxes) != len(patches):
        raise ValueError(f"`boxes` has {len(boxes)} boxes, `patches` has {len(patches)} patches")
    size, device = patches.shape[1], patches.device
    frames = torch.zeros(
        (len(patches), height, width), dtype=torch.float32 if threshold is None else torch.bool, device=device
    )
    # Weights in half precision would shift edges by whole pixels, so an enclosing autocast is switched off.
    with torch.autocast(device.type, enabled=False):
        for part, top, bottom, left, right in _windows(boxes, height, width, max(size, width), device):
            columns = _linear_weights(boxes[part, 0], boxes[part, 2], left, right, size)
            strips = patches[part].float() @ columns.to(device).mT  # [n, size, right - left]
            pasted = _blend_rows(strips, *_linear_places(boxes[part, 1], boxes[part, 2], top, bottom, size))
            frames[part, top:bottom, left:right] = pasted if threshold is None else pasted > threshold
    return frames


def crop_images(image: torch.Tensor, boxes: Boxes, size: int) -> torch.Tensor:
    """Crop a photo by square boxes and resize the crops with the bicubic kernel, as OpenCV's INTER_CUBIC [Z20].

    Args:
        image: (C, H, W) floats without NaN, or uint8 from 0 to 255, which are taken as 255 parts of 1; on any device.
            Of a large photo uint8 takes far less memory: no more of it becomes floats than the crops show.
        boxes: (N, 4) integers (x, y, side, side); what lies outside the photo is 0.
        size: side of the patches in pixels.

    Returns:
        (N, C, size, size) float32 on the device of `image`; the kernel may overshoot the range of the photo a little.
        A box of side 0 gives zeros.

    Raises:
        ValueError: wrong shapes, sizes, or boxes that are not square.
        TypeError: an image that holds neither floats nor uint8.

    Example:
        >>> crop_images(torch.ones(3, 8, 8), np.array([[2, 2, 4, 4]]), size=2).shape
        torch.Size([1, 3, 2, 2])
    """
    if image.ndim != 3:
        raise ValueError(f"`image` must have shape (C, height, width), got {tuple(image.shape)}")
    in_bytes = image.dtype == torch.uint8
    if not in_bytes and not image.is_floating_point():
        raise TypeError(f"`image` must hold floats or uint8, got {image.dtype}")
    check_integer("size", size, 1)
    boxes = check_boxes(boxes)
    channels, height, width = image.shape
    patches = torch.zeros((len(boxes), channels, size, size), dtype=torch.float32, device=image.device)
    with torch.autocast(image.device.type, enabled=False):
        for part, top, bottom, left, right in _windows(boxes, height, width, channels * max(size, width), image.device):
            seen_rows, rows = _pixels_with_weight(_cubic_weights(boxes[part, 1], boxes[part, 2], top, bottom, size))
            seen_columns, columns = _pixels_with_weight(
                _cubic_weights(boxes[part, 0], boxes[part, 2], left, right, size)
            )
            window = image[:, top:bottom, left:right]
            window = window[:, seen_rows][:, :, seen_columns].float()
            window = window.div_(255) if in_bytes else window
            strips = rows.to(image.device)[:, None] @ window  # [n, C, size, columns]
            patches[part] = strips @ columns.to(image.device)[:, None].mT
    return patches


def _crop_nearest(masks: torch.Tensor, boxes: torch.Tensor, size: int, which: torch.Tensor) -> torch.Tensor:
    """`crop_masks` of checked arguments by the rule "nearest"; boxes and indices on the CPU."""
    height, width = masks.shape[1:]
    offsets = _nearest_offsets(boxes[:, 2], size)
    rows, row_inside = _clip(boxes[:, 1:2] + offsets, height)
    columns, column_inside = _clip(boxes[:, 0:1] + offsets, width)
    row_inside &= boxes[:, 2:3] > 0
    rows += which[:, None] * height
    rows, columns, row_inside, column_inside = (
        tensor.to(masks.device) for tensor in (rows, columns, row_inside, column_inside)
    )
    lines = masks.reshape(-1, width)
    patches = masks.new_empty((len(boxes), size, size))
    step = max(1, _CHUNK // (size * width))
    for start in range(0, len(boxes), step):
        part = slice(start, start + step)
        # Whole rows are copied first: picking single pixels out of all masks at once is several times slower on a CPU.
        strips = lines.index_select(0, rows[part].flatten()).view(-1, size, width)
        torch.gather(strips, 2, columns[part, None].expand(-1, size, -1), out=patches[part])
    return patches.masked_fill_(~(row_inside[:, :, None] & column_inside[:, None, :]), 0)


def _crop_bilinear(masks: torch.Tensor, boxes: torch.Tensor, size: int, indices: torch.Tensor) -> torch.Tensor:
    """`crop_masks` of checked arguments by the rule "bilinear"; all on one device."""
    height, width = masks.shape[1:]
    side = boxes[:, 2:3]
    low, fraction = _bilinear_places(side, size)  # [N, s]
    lines = masks.reshape(-1, width)
    places = [_clip(boxes[:, 0:1] + low + step, width) for step in (0, 1)]
    patches = torch.zeros(len(boxes), size, size, device=masks.device)
    for row_step in (0, 1):
        row_weight = fraction if row_step else 1 - fraction
        rows, row_inside = _clip(boxes[:, 1:2] + low + row_step, height)
        # Whole rows first, as in `_crop_nearest`.
        strips = lines.index_select(0, (rows + indices[:, None] * height).flatten()).view(-1, size, width)
        line = torch.zeros_like(patches)
        for column_step, (columns, column_inside) in enumerate(places):
            column_weight = fraction if column_step else 1 - fraction
            seen = torch.gather(strips, 2, columns[:, None].expand(-1, size, -1))  # [N, s, s]
            line += seen * (column_weight * column_inside)[:, None, :]
        patches += line * (row_weight * row_inside)[:, :, None]
    return ((patches > 0.5) & (side > 0)[:, :, None]).to(masks.dtype)


def check_boxes(boxes: Boxes) -> torch.Tensor:
    """Check square boxes (x, y, side, side) and give them as (N, 4) int64 on the CPU, where indices are computed.

    Raises ValueError for another shape, fractions, or boxes that are not square.

    Example:
        >>> check_boxes(np.array([[1.0, 2.0, 4.0, 4.0]]))
        tensor([[1, 2, 4, 4]])
    """
    tensor = torch.as_tensor(boxes).detach().cpu()
    if tensor.ndim != 2 or tensor.shape[1] != 4:
        raise ValueError(f"`boxes` must have shape (N, 4), got {tuple(tensor.shape)}")
    if tensor.is_floating_point() and not bool((tensor.isfinite() & (tensor == tensor.floor())).all()):
        raise ValueError("`boxes` must hold whole numbers, got fractions, NaN or infinity")
    tensor = tensor.to(torch.int64)
    wrong = ((tensor[:, 2] != tensor[:, 3]) | (tensor[:, 2] < 0)).nonzero()
    if len(wrong):
        index = int(wrong[0])
        raise ValueError(f"`boxes` must be squares (x, y, side, side), boxes[{index}] is {tensor[index].tolist()}")
    return tensor


def _crop_bilinear_each(masks: torch.Tensor, boxes: torch.Tensor, size: int, indices: torch.Tensor) -> torch.Tensor:
    """What `_crop_bilinear` gives, to the bit, box by box on the CPU.

    There the time goes with the pixels, and most of a crop is empty: what the mask fills of its box is all that is
    computed.
    """
    stack, patches = masks.numpy(), masks.new_zeros((len(boxes), size, size))
    filled = patches.numpy()
    places = (values.numpy() for values in _bilinear_places(boxes[:, 2:3], size))  # [N, s] each
    objects = zip(filled, indices.tolist(), boxes.tolist(), *places, strict=True)
    for patch, mask, (x, y, side, _), low, fraction in objects:
        left, top = max(x, 0), max(y, 0)
        part = stack[mask, top : max(y + side, 0), left : max(x + side, 0)]
        rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
        if not len(rows):
            continue
        (first_row, last_row), (first_column, last_column) = rows[[0, -1]].tolist(), columns[[0, -1]].tolist()
        # With a rim of zeros, whose corner lies at (row, column) of the box.
        seen = np.zeros((last_row - first_row + 3, last_column - first_column + 3), np.float32)
        seen[1:-1, 1:-1] = part[first_row : last_row + 1, first_column : last_column + 1]
        row, column = top - y + first_row - 1, left - x + first_column - 1
        down, across = (
            slice(*np.searchsorted(low, (start, start + length - 1)))
            for start, length in zip((row, column), seen.shape, strict=True)
        )
        upper, lefts = low[down] - row, low[across] - column
        lines = seen[np.stack([upper, upper + 1])]  # [2, h, w]
        lines = lines[:, :, lefts] * (1 - fraction[across]) + lines[:, :, lefts + 1] * fraction[across]
        weight = fraction[down, None]
        patch[down, across] = lines[0] * (1 - weight) + lines[1] * weight > 0.5
    return patches


def _bilinear_places(sides: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For each position of a patch, the pixel of the box before it, and how far it lies beyond that one's centre.

    Args:
        sides: (N, 1) int64.
        size: side of the patches.

    Returns:
        (N, size) int64 from the corner of the box, and (N, size) float32 in [0, 1); 0 at the last pixel, where the box
        is continued.
    """
    centres = (torch.arange(size, device=sides.device) + 0.5) * (sides.double() / size) - 0.5
    centres = centres.float().clamp(min=0).minimum((sides - 1).clamp(min=0))
    low = centres.floor().long()
    return low, centres - low


def _check_indices(indices: torch.Tensor | npt.NDArray[Any] | None, boxes: int, masks: int) -> torch.Tensor:
    if indices is None:
        if boxes != masks:
            raise ValueError(f"`boxes` has {boxes} boxes for {masks} masks: pass `indices` to pair them")
        return torch.arange(boxes)
    tensor = torch.as_tensor(indices).detach().cpu()
    if tensor.shape != (boxes,):
        raise ValueError(f"`indices` must have shape ({boxes},), one a box, got {tuple(tensor.shape)}")
    if boxes and (tensor.is_floating_point() or tensor.dtype == torch.bool):
        raise ValueError(f"`indices` must hold integers, got {tensor.dtype}")
    if boxes and not (0 <= int(tensor.min()) and int(tensor.max()) < masks):
        raise ValueError(f"`indices` must lie in [0, {masks}), got {int(tensor.min())} to {int(tensor.max())}")
    return tensor.to(torch.int64)


def clip_boxes(boxes: IntArray, height: int, width: int) -> IntArray:
    """Cut boxes (x, y, w, h) to a frame, (N, 4); zeros for a box that lies outside of it.

    Example:
        >>> clip_boxes(np.array([[-2, 1, 5, 5], [9, 9, 3, 3]]), height=4, width=6)
        array([[0, 1, 3, 3],
               [0, 0, 0, 0]])
    """
    low = np.clip(boxes[:, :2], 0, [width, height])
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, [width, height])
    clipped = np.concatenate([low, high - low], axis=1)
    return clipped * (clipped[:, 2:] > 0).all(axis=1, keepdims=True)


def join_boxes(first: IntArray, second: IntArray) -> IntArray:
    """Find the smallest boxes (x, y, w, h) around both boxes of each pair, (N, 4); an empty box is left out.

    Example:
        >>> join_boxes(np.array([[0, 0, 2, 2], [5, 5, 0, 0]]), np.array([[3, 1, 2, 2], [1, 1, 4, 4]]))
        array([[0, 0, 5, 3],
               [1, 1, 4, 4]])
    """
    low = np.minimum(first[:, :2], second[:, :2])
    high = np.maximum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:])
    joined = np.concatenate([low, high - low], axis=1)
    joined = np.where((second[:, 2:] > 0).all(axis=1, keepdims=True), joined, first)
    return np.where((first[:, 2:] > 0).all(axis=1, keepdims=True), joined, second)


def meet_boxes(first: IntArray, second: IntArray) -> IntArray:
    """Find what both boxes (x, y, w, h) of each pair have in common, (N, 4); zeros where that is nothing.

    Example:
        >>> meet_boxes(np.array([[0, 0, 4, 4], [5, 5, 2, 2]]), np.array([[3, 1, 2, 2], [1, 1, 4, 4]]))
        array([[3, 1, 1, 2],
               [0, 0, 0, 0]])
    """
    low = np.maximum(first[:, :2], second[:, :2])
    common = np.minimum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:]) - low
    return np.concatenate([low, common], axis=1) * (common > 0).all(axis=1, keepdims=True)


def _clip(places: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Places within [0, length), and which of them were."""
    return places.clamp(0, length - 1), (places >= 0) & (places < length)


def _windows(
    boxes: torch.Tensor, height: int, width: int, row_values: int, device: torch.device
) -> Iterator[tuple[slice, int, int, int, int]]:
    """Batches of boxes with the part of the frame (top, bottom, left, right) that they cover together.

    An accelerator takes as many boxes at once as memory allows. A CPU takes one: there the time goes with the pixels of
    the window, and the window of several boxes is mostly empty.
    """
    step = 1 if device.type == "cpu" else max(1, _CHUNK // (height * row_values))
    for start in range(0, len(boxes), step):
        part = slice(start, start + step)
        x, y, side = boxes[part, 0], boxes[part, 1], boxes[part, 2]
        top, left = max(0, int(y.min())), max(0, int(x.min()))
        bottom, right = min(height, int((y + side).max())), min(width, int((x + side).max()))
        if top < bottom and left < right:
            yield part, top, bottom, left, right


def _scale(sides: torch.Tensor, size: int) -> torch.Tensor:
    """Frame pixels a patch pixel, (n,) float64, rounded twice as in OpenCV: the last bit decides between neighbours.

    `size / sides` would not do: torch multiplies by the reciprocal instead of dividing.
    """
    return torch.full_like(sides, size, dtype=torch.float64).div(sides.clamp(min=1)).reciprocal()


def _nearest_offsets(sides: torch.Tensor, size: int) -> torch.Tensor:
    """Source pixel of each patch pixel, counted from the corner of the box: (N, size) int64."""
    sides = sides.clamp(min=1)
    offsets = (torch.arange(size, dtype=torch.float64) * _scale(sides, size)[:, None]).floor().to(torch.int64)
    return torch.minimum(offsets, sides[:, None] - 1)


def _linear_places(
    starts: torch.Tensor, sides: torch.Tensor, low: int, high: int, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the frame pixels of [low, high) lie between the centres of the `size` pixels of a patch.

    Returns:
        (n, high - low) float32 in [0, size - 1], and (n, high - low) bool, which of them lie inside the box.
    """
    offsets = torch.arange(low, high) - starts[:, None]
    inside = (offsets >= 0) & (offsets < sides[:, None])
    centres = (offsets + 0.5) / _scale(sides, size)[:, None] - 0.5
    return centres.to(torch.float32).clamp(0, size - 1), inside


def _linear_weights(starts: torch.Tensor, sides: torch.Tensor, low: int, high: int, size: int) -> torch.Tensor:
    """Weight of each of `size` patch pixels in each frame pixel of [low, high): (n, high - low, size) float32.

    Frame pixels outside the box have none.
    """
    centres, inside = _linear_places(starts, sides, low, high, size)
    hat = (1 - (centres[:, :, None] - torch.arange(size, dtype=torch.float32)).abs()).clamp_(min=0)
    return hat.mul_(inside[:, :, None])


def _blend_rows(strips: torch.Tensor, centres: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Rows between those of `strips` (n, size, w), at the places of `_linear_places`: (n, h, w), 0 outside the box."""
    count, size, width = strips.shape
    box, above = torch.arange(count)[:, None], centres.long()
    below, share = (above + 1).clamp_(max=size - 1), (centres - above)[:, :, None].to(strips.device)
    blended = strips[box, above]
    step = max(1, _ROWS_CHUNK // (count * width))
    for rows in (slice(start, start + step) for start in range(0, blended.shape[1], step)):
        blended[:, rows].lerp_(strips[box, below[:, rows]], share[:, rows])
    return blended if bool(inside.all()) else blended.masked_fill_(~inside[:, :, None].to(strips.device), 0)


def _cubic_weights(starts: torch.Tensor, sides: torch.Tensor, low: int, high: int, size: int) -> torch.Tensor:
    """Weight of each photo pixel of [low, high) in each of `size` patch pixels: (n, size, high - low) float32.

    The crop ends at its own border: its outermost pixels repeat there, also where they lie outside the photo and are 0.
    """
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * _scale(sides, size)[:, None] - 0.5
    neighbours = torch.arange(-1, 3)
    taps = centres.floor().to(torch.int64)[..., None] + neighbours
    distance = ((centres - centres.floor())[..., None] - neighbours).abs()
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance * distance + 1
    far = ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC
    taps = torch.minimum(taps.clamp(min=0), (sides - 1).clamp(min=0)[:, None, None]) + starts[:, None, None] - low
    taps, inside = _clip(taps, high - low)
    weights = torch.where(distance <= 1, near, far) * (inside & (sides > 0)[:, None, None])
    dense = torch.zeros((len(sides), size, high - low), dtype=torch.float32)
    return dense.scatter_add_(2, taps, weights.to(torch.float32))


def _pixels_with_weight(weights: torch.Tensor) -> tuple[torch.Tensor | slice, torch.Tensor]:
    """Which photo pixels have a weight at all, as an index, and the weights of these, (N, size, n).

    A kernel of four pixels leaves out most of a window that is many times as large as the patch. Up to eight times it
    is faster to take them all.
    """
    if weights.shape[2] < 8 * weights.shape[1]:
        return slice(None), weights
    seen = weights.any(dim=0).any(dim=0).nonzero()[:, 0]
    return seen, weights[:, :, seen]
