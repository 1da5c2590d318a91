"""Crops of fixed size by float boxes, batched over objects: the frames in which shapes are compared [L20].

A crop squeezes a box, whatever its aspect, to size x size cells; pasting stretches the cells over a box again. Both
average over the area where they shrink and interpolate linearly where they enlarge, exactly and separably, and both
have gradients with respect to the boxes, so that a network can learn where a shape belongs.
"""

import math

import torch
from torch import Tensor

# Numbers in the largest temporary of `crop_to_boxes`: bounds memory, not results.
_CHUNK = 2**25


def crop_to_boxes(masks: Tensor, boxes: Tensor, size: int, indices: Tensor | None = None) -> Tensor:
    """Crop masks by boxes and squeeze the crops to one size.

    Args:
        masks: (M, H, W) bool, integers in {0, 1} or floats.
        boxes: (N, 4) floats (x, y, w, h) in pixels, a pixel being one unit wide with its left edge at a whole number.
            Boxes may leave the masks; what lies outside is 0.
        size: side s of the crops.
        indices: (N,) int64, the mask of each box; None where box n belongs to mask n.

    Returns:
        (N, s, s) floats in the dtype of `boxes`: the mean of the mask over each cell where the box is larger than the
        crop, linear interpolation where it is smaller. All 0 for a box without width or height.

    Raises:
        ValueError: for shapes that do not fit, or a size below 1.

    Example:
        >>> mask = torch.tensor([[[1, 1, 0, 0], [1, 1, 0, 0]]])
        >>> crop_to_boxes(mask, torch.tensor([[0.0, 0.0, 4.0, 2.0]]), size=2)
        tensor([[[1., 0.],
                 [1., 0.]]])
        >>> crop_to_boxes(mask, torch.tensor([[1.0, 0.0, 2.0, 2.0]]), size=1)
        tensor([[[0.5000]]])
    """
    _check_boxes(boxes)
    if masks.ndim != 3:
        raise ValueError(f"`masks` must have shape (M, H, W), got {tuple(masks.shape)}.")
    _check_size(size)
    if indices is None and len(masks) != len(boxes):
        raise ValueError(f"`indices` is needed: there are {len(masks)} masks and {len(boxes)} boxes.")
    if indices is not None and indices.shape != boxes.shape[:1]:
        raise ValueError(f"`indices` must have shape {(len(boxes),)}, got {tuple(indices.shape)}.")
    height, width = masks.shape[1:]
    chosen = torch.arange(len(boxes), device=masks.device) if indices is None else indices.to(masks.device)
    parts = []
    for part in torch.arange(len(boxes), device=boxes.device).split(max(1, _CHUNK // max(1, height * width))):
        rows = _cell_weights(boxes[part, 1], boxes[part, 3], size, height)  # [n, s, H]
        columns = _cell_weights(boxes[part, 0], boxes[part, 2], size, width)  # [n, s, W]
        content = masks[chosen[part.to(masks.device)]].to(boxes.dtype)  # [n, H, W]
        parts.append(rows @ content @ columns.transpose(1, 2))
    return torch.cat(parts) if parts else boxes.new_zeros(0, size, size)


def crop_images_to_boxes(image: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crop a photo by boxes and squeeze the crops to one size, as `crop_to_boxes` does masks.

    Args:
        image: (C, H, W) floats or uint8.
        boxes: (N, 4) floats (x, y, w, h) in pixels; what lies outside of the photo is 0.
        size: side s of the crops.

    Returns:
        (N, C, s, s) floats in the dtype of `boxes`.

    Raises:
        ValueError: for shapes that do not fit, or a size below 1.

    Example:
        >>> image = torch.tensor([[[0.2, 0.4], [0.6, 0.8]]])
        >>> crop_images_to_boxes(image, torch.tensor([[0.0, 0.0, 1.0, 2.0]]), size=1)
        tensor([[[[0.4000]]]])
    """
    if image.ndim != 3:
        raise ValueError(f"`image` must have shape (C, H, W), got {tuple(image.shape)}.")
    _check_boxes(boxes)
    _check_size(size)
    channels, height, width = image.shape
    content, parts = image.to(boxes.dtype), []
    # One by one, and only what the box holds and its next pixels: of a large photo a small object is a small part.
    for number, (x, y, w, h) in enumerate(boxes.tolist()):
        left, top = max(0, math.floor(x) - 1), max(0, math.floor(y) - 1)
        window = content[:, top : max(top, math.ceil(y + h) + 1), left : max(left, math.ceil(x + w) + 1)]
        moved = boxes[number : number + 1] - boxes.new_tensor([left, top, 0, 0])
        rows = _cell_weights(moved[:, 1], moved[:, 3], size, window.shape[1])  # [1, s, h]
        columns = _cell_weights(moved[:, 0], moved[:, 2], size, window.shape[2])  # [1, s, w]
        parts.append((rows @ window @ columns.transpose(1, 2))[None])
    return torch.cat(parts) if parts else boxes.new_zeros(0, channels, size, size)


def paste_from_boxes(patches: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Stretch patches over boxes of a photo, 0 outside of the boxes.

    Args:
        patches: (N, s, s) floats, such as probabilities.
        boxes: (N, 4) floats (x, y, w, h) in pixels, as for `crop_to_boxes`; they may leave the photo.
        height: of the photo in pixels.
        width: of the photo in pixels.

    Returns:
        (N, H, W) in the dtype of `patches`. A pixel that a box covers in part gets that part of the value, so that the
        result is continuous in the box. All 0 for a box without width or height.

    Raises:
        ValueError: for shapes that do not fit, or a photo without size.

    Example:
        >>> paste_from_boxes(torch.ones(1, 2, 2), torch.tensor([[0.5, 0.0, 2.0, 1.0]]), height=2, width=4)
        tensor([[[0.5000, 1.0000, 0.5000, 0.0000],
                 [0.0000, 0.0000, 0.0000, 0.0000]]])
    """
    _check_boxes(boxes)
    if patches.ndim != 3 or patches.shape[1] != patches.shape[2] or len(patches) != len(boxes):
        raise ValueError(f"`patches` must have shape ({len(boxes)}, s, s), got {tuple(patches.shape)}.")
    if height < 1 or width < 1:
        raise ValueError(f"`height` and `width` must be at least 1, got {height} and {width}.")
    boxes = boxes.to(patches.dtype)
    rows = _pixel_weights(boxes[:, 1], boxes[:, 3], patches.shape[1], height)  # [N, H, s]
    columns = _pixel_weights(boxes[:, 0], boxes[:, 2], patches.shape[2], width)  # [N, W, s]
    return rows @ patches @ columns.transpose(1, 2)


def tight_boxes(masks: Tensor) -> Tensor:
    """Find the tight boxes of (N, H, W) bool masks: (N, 4) float32 (x, y, w, h); zeros for an empty mask.

    Example:
        >>> tight_boxes(torch.tensor([[[False, False, False], [False, True, True]]]))
        tensor([[1., 1., 2., 1.]])
    """
    spans = []
    for dim in (1, 2):  # the columns that hold a pixel, then the rows
        found = masks.any(dim).to(torch.uint8)  # [N, W], [N, H]
        first, last = found.argmax(1), found.shape[1] - found.flip(1).argmax(1)
        spans.append(torch.stack([first, last - first], dim=1) * found.any(1)[:, None])
    return torch.cat(spans, dim=1)[:, [0, 2, 1, 3]].float()


def to_absolute_boxes(relative: Tensor, reference: Tensor) -> Tensor:
    """Turn boxes [cx, cy, w, h] in units of reference boxes into (x, y, w, h) in pixels; all (N, 4) floats.

    In these units the reference box is [0, 1]², so that [0.5, 0.5, 1, 1] is the reference box itself.

    Example:
        >>> to_absolute_boxes(torch.tensor([[0.5, 0.5, 2.0, 1.0]]), torch.tensor([[10.0, 20.0, 4.0, 6.0]]))
        tensor([[ 8., 20.,  8.,  6.]])
    """
    corner, extent = relative[:, :2] - relative[:, 2:] / 2, relative[:, 2:]
    return torch.cat([reference[:, :2] + corner * reference[:, 2:], extent * reference[:, 2:]], dim=1)


def to_relative_boxes(boxes: Tensor, reference: Tensor) -> Tensor:
    """Undo `to_absolute_boxes`; a reference box without width or height counts as one pixel wide or high.

    Example:
        >>> to_relative_boxes(torch.tensor([[8.0, 20.0, 8.0, 6.0]]), torch.tensor([[10.0, 20.0, 4.0, 6.0]]))
        tensor([[0.5000, 0.5000, 2.0000, 1.0000]])
    """
    extent = torch.where(reference[:, 2:] > 0, reference[:, 2:], 1)
    centre = boxes[:, :2] + boxes[:, 2:] / 2
    return torch.cat([(centre - reference[:, :2]) / extent, boxes[:, 2:] / extent], dim=1)


def _cell_weights(start: Tensor, length: Tensor, cells: int, pixels: int) -> Tensor:
    """(N, cells, pixels): share of each pixel in each of the cells that [start, start + length] is divided into."""
    centres = (torch.arange(cells, device=start.device, dtype=start.dtype) + 0.5) / cells
    places = start[:, None] + length[:, None] * centres  # [N, cells]
    edges = torch.arange(pixels + 1, device=start.device, dtype=start.dtype)
    weights = _share_below(edges, places, length / cells).diff(dim=2)
    return weights * (length > 0)[:, None, None]


def _pixel_weights(start: Tensor, length: Tensor, cells: int, pixels: int) -> Tensor:
    """(N, pixels, cells): share of each cell in each pixel, times how much of the pixel the box covers."""
    low = torch.arange(pixels, device=start.device, dtype=start.dtype)
    stretched = torch.where(length > 0, length, 1)
    places = (low + 0.5 - start[:, None]) * (cells / stretched)[:, None]  # [N, pixels]
    edges = torch.arange(1, cells, device=start.device, dtype=start.dtype)
    inner = _share_below(edges, places, cells / stretched)  # [N, pixels, cells - 1]
    # The outermost cells reach on for ever: an edge of the box cuts a shape off, it does not fade it out.
    weights = torch.cat([torch.zeros_like(places)[:, :, None], inner, torch.ones_like(places)[:, :, None]], 2).diff(
        dim=2
    )
    end = start + length.clamp(min=0)
    covered = torch.minimum(low + 1, end[:, None]) - torch.maximum(low, start[:, None])  # [N, pixels]
    return weights * covered.clamp(0, 1)[:, :, None]


def _share_below(edges: Tensor, places: Tensor, extent: Tensor) -> Tensor:
    """(N, P, E): share of a window around each of `places` (N, P) that lies below each of `edges` (E,).

    A window as wide as what is averaged, at least one unit: then it is linear interpolation.
    """
    extent = extent.clamp(min=1)[:, None, None]
    return ((edges - places[:, :, None]) / extent + 0.5).clamp(0, 1)


def _check_size(size: int) -> None:
    if size < 1:
        raise ValueError(f"`size` must be at least 1, got {size}.")


def _check_boxes(boxes: Tensor) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise ValueError(f"`boxes` must be (N, 4) floats, got {tuple(boxes.shape)} of {boxes.dtype}.")
