"""Crops of feature maps for all objects of a photo at once, equal to the published crops one by one [Z24]."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments.choices import check_choice
from ..arguments.numeric import check_integer

FEATURE_CROPS = ("cells", "align")
# Taps of the largest temporary of indices: bounds memory, not results.
_CHUNK = 2**22


def crop_features(
    feature_map: Tensor, boxes: Tensor, photo_size: tuple[int, int], size: int, rule: str = "cells"
) -> Tensor:
    """Crop a feature map of a whole photo by boxes given in pixels of the photo, and bring the crops to one size.

    Args:
        feature_map: (D, C, h, w) floats on any device: D maps of the same photo, as from several noise draws. Channels
            last in memory saves a copy.
        boxes: (N, 4) int64 (x, y, side, side) in pixels of the photo; they may leave it.
        photo_size: (height, width) of the photo in pixels. Its sides and those of the map need not be in proportion.
        size: side s of the crops.
        rule: "cells" as published: x, y, width and height are each scaled to the map and cut to whole cells, what lies
            outside the map is 0, and the crop is resized bilinearly (corners not aligned). A box under one cell is
            cropped from the map resized bilinearly to the photo instead. "align": the box is not cut; the map is
            interpolated at the centres of s x s bins, with zeros around it (RoI align with one sample a bin).

    Returns:
        (D * N, C, s, s) in the dtype of the map, channels last in memory, one draw after another: row `d * N + n`. All
        zero for a box of side 0.

    Raises:
        ValueError: for shapes that do not fit, another rule, or a photo or crops without size.

    Example:
        >>> feature_map = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> boxes = torch.tensor([[0, 0, 16, 16], [16, 16, 16, 16]])
        >>> crop_features(feature_map, boxes, photo_size=(32, 32), size=2).flatten(1)
        tensor([[ 0.,  1.,  4.,  5.],
                [10., 11., 14., 15.]])
    """
    _check(feature_map, boxes, photo_size, size, rule)
    draws, channels, *map_size = feature_map.shape
    boxes = boxes.detach().cpu().long()
    cells = feature_map.permute(0, 2, 3, 1).reshape(-1, channels)  # [D * h * w, C]
    order, parts = [], []
    for rows, (ys, weights_y), (xs, weights_x) in _groups(boxes, photo_size, map_size, size, rule):
        step = max(1, _CHUNK // (draws * (size * ys.shape[-1]) ** 2))
        for part in torch.arange(len(rows)).split(step):
            index = ys[part, :, None, :, None] * map_size[1] + xs[part, None, :, None, :]  # [n, s, s, taps, taps]
            weight = weights_y[part, :, None, :, None] * weights_x[part, None, :, None, :]
            order.append(rows[part])
            parts.append(_gather(cells, index, weight, draws))  # [D, n, s, s, C]
    if not parts:
        return feature_map.new_zeros(0, channels, size, size)
    crops = parts[0]
    if len(parts) > 1:  # a single part has all boxes in their order: no second copy of what may be hundreds of MB
        crops = torch.cat(parts, dim=1)[:, torch.cat(order).argsort().to(cells.device)]
    return crops.flatten(0, 1).permute(0, 3, 1, 2)


def _gather(cells: Tensor, index: Tensor, weight: Tensor, draws: int) -> Tensor:
    """Weighted sums of cells: (D * h * w, C), (n, s, s, t, t) twice -> (D, n, s, s, C)."""
    count, size, _, taps, _ = index.shape
    index = index.reshape(1, -1, taps**2).to(cells.device)
    offset = torch.arange(draws, device=cells.device)[:, None, None] * (len(cells) // draws)
    weight = weight.reshape(1, -1, taps**2).to(cells).expand(draws, -1, -1)
    # One pass over memory, several times faster than gathering tap by tap or multiplying by interpolation matrices.
    bags = F.embedding_bag(
        (index + offset).flatten(0, 1), cells, per_sample_weights=weight.reshape(-1, taps**2), mode="sum"
    )
    return bags.view(draws, count, size, size, -1)


def _groups(
    boxes: Tensor, photo_size: tuple[int, int], map_size: list[int], size: int, rule: str
) -> list[tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """Rows of boxes that are cropped alike, and for each axis (y, x) the taps and weights of every crop cell."""
    starts, side = boxes[:, [1, 0]], boxes[:, 2]
    everyone = torch.arange(len(boxes))
    if not len(boxes):
        return []
    if rule == "align":
        axes = [_align_taps(starts[:, k], side, photo_size[k], map_size[k], size) for k in (0, 1)]
        return [(everyone, axes[0], axes[1])]
    # Cut towards zero, also left of the photo. In whole numbers: fractions would cut an exact 15 to 14.
    cells, photo = torch.tensor(map_size), torch.tensor(photo_size)
    first = torch.div(starts * cells, photo, rounding_mode="trunc")  # [N, 2]
    length = torch.div(side[:, None] * cells, photo, rounding_mode="trunc")
    small = (length < 1).any(dim=1)
    groups = []
    for rows, make in ((everyone[~small], _cell_taps), (everyone[small], _photo_taps)):
        if len(rows):
            axes = [
                make(first[rows, k], length[rows, k], starts[rows, k], side[rows], photo_size[k], map_size[k], size)
                for k in (0, 1)
            ]
            groups.append((rows, axes[0], axes[1]))
    return groups


def _cell_taps(
    first: Tensor, length: Tensor, _start: Tensor, _side: Tensor, _photo: int, cells: int, size: int
) -> tuple[Tensor, Tensor]:
    """Cells (n, s, 2) and weights of a crop of `length` whole cells from `first` on, resized to `size`."""
    offsets, weights = _resize_taps(length, size)
    return _clip(first[:, None, None] + offsets, weights, cells)


def _photo_taps(
    _first: Tensor, _length: Tensor, start: Tensor, side: Tensor, photo: int, cells: int, size: int
) -> tuple[Tensor, Tensor]:
    """Cells (n, s, 4) and weights of a crop, in photo pixels, from the map resized to the photo, resized to `size`."""
    offsets, weights = _resize_taps(side, size)
    pixels, weights = _clip(start[:, None, None] + offsets, weights, photo)  # [n, s, 2]
    table, shares = _resize_taps(torch.tensor([cells]), photo)  # [1, photo, 2]: the cells of each photo pixel
    indices, weights = table[0][pixels], weights[..., None] * shares[0][pixels]  # [n, s, 2, 2]
    return indices.flatten(2), (weights * (side > 0)[:, None, None, None]).flatten(2)


def _align_taps(start: Tensor, side: Tensor, photo: int, cells: int, size: int) -> tuple[Tensor, Tensor]:
    """Cells (n, s, 2) and weights of samples at the centres of `size` bins of the box itself."""
    bins = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    places = (start[:, None] + side[:, None] * bins) * (cells / photo) - 0.5  # [n, s]
    low = places.floor()
    weights = torch.stack([1 - (places - low), places - low], dim=-1) * (side > 0)[:, None, None]
    indices = torch.stack([low, low + 1], dim=-1).long()
    return _clip(indices, weights.float(), cells)


def _resize_taps(length: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Bilinear resizing of `length` (n,) cells to `size`: offsets (n, size, 2) in [0, length), and float32 weights."""
    scale = length[:, None].float() / size
    places = ((torch.arange(size) + 0.5) * scale - 0.5).clamp(min=0)  # [n, size] float32, as torch's interpolate
    low = places.long()
    fraction = places - low
    last = (length[:, None] - 1).clamp(min=0)
    offsets = torch.stack([low.minimum(last), (low + 1).minimum(last)], dim=-1)
    return offsets, torch.stack([1 - fraction, fraction], dim=-1)


def _clip(indices: Tensor, weights: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Indices moved into [0, length), and weights that are 0 where they were outside."""
    return indices.clamp(0, length - 1), weights * ((indices >= 0) & (indices < length))


def _check(feature_map: Tensor, boxes: Tensor, photo_size: tuple[int, int], size: int, rule: str) -> None:
    if feature_map.ndim != 4 or not feature_map.numel():
        raise ValueError(f"`feature_map` must have shape (D, C, h, w), got {tuple(feature_map.shape)}.")
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.is_floating_point():
        raise ValueError(f"`boxes` must be (N, 4) integers, got {tuple(boxes.shape)} of {boxes.dtype}.")
    if len(boxes) and bool(((boxes[:, 2] != boxes[:, 3]) | (boxes[:, 2] < 0)).any()):
        raise ValueError("`boxes` must be squares (x, y, side, side).")
    if len(photo_size) != 2 or min(photo_size) < 1:
        raise ValueError(f"`photo_size` must be (height, width) of at least 1, got {tuple(photo_size)}.")
    check_integer("size", size, 1)
    check_choice("rule", rule, FEATURE_CROPS)
