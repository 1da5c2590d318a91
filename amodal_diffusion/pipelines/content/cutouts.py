"""Tiles of objects: cut out of the photo, given the colours of their hidden part, and put into the form asked for."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...crops import paste_patches
from ...models.pull_push import pull_push
from ..inputs import to_device
from .inputs import ContentScene, window
from .seams import continue_photo, trusted_photo

_CONTEXT = 24  # pixels of the photo around an object that its seam looks at


def to_planes(photo: np.ndarray, unknown: np.ndarray | None, device: torch.device) -> Tensor:
    """(3, H, W) float32 in [0, 1] from (H, W, 3) uint8.

    Colours of known pixels go on over unknown ones, so that nothing of those mixes in when the photo is resized.

    Example:
        >>> photo = np.full((2, 3, 3), 255, dtype=np.uint8)
        >>> planes = to_planes(photo, None, torch.device("cpu"))
        >>> planes.shape, planes.max()
        (torch.Size([3, 2, 3]), tensor(1.))
    """
    planes = torch.tensor(photo, device=device).permute(2, 0, 1).float().div_(255).contiguous()
    if unknown is None:
        return planes
    known = ~to_device(unknown, device)
    return torch.where(known, planes, pull_push(planes[None], known[None, None].float())[0])


def to_pixels(planes: Tensor) -> np.ndarray:
    """(H, W, 3) uint8 from (3, H, W) floats in [0, 1].

    Example:
        >>> to_pixels(torch.ones(3, 1, 1))
        array([[[255, 255, 255]]], dtype=uint8)
    """
    return (planes * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def visible_tile(scene: ContentScene, index: int) -> np.ndarray:
    """(h, w, 4) uint8: the photo where the object is visible, black and opaque where it is hidden.

    Example:
        >>> from amodal_diffusion.pipelines.content.inputs import read_content_scene
        >>> masks, amodal_masks = np.eye(2, dtype=bool), np.ones((2, 2), dtype=bool)
        >>> scene = read_content_scene(np.full((2, 2, 3), 9, dtype=np.uint8), masks, amodal_masks)
        >>> visible_tile(scene, 0)[..., 0]  # red: black where the object is hidden
        array([[9, 0],
               [0, 9]], dtype=uint8)
    """
    rows, columns = window(scene.boxes[index])
    tile = np.empty((rows.stop - rows.start, columns.stop - columns.start, 4), np.uint8)
    visible = scene.modal[index, rows, columns].astype(np.uint8)
    for channel in range(3):
        np.multiply(scene.photo[rows, columns, channel], visible, out=tile[..., channel])
    np.multiply(scene.amodal[index, rows, columns], np.uint8(255), out=tile[..., 3])
    return tile


def patch_colours(patch: Tensor, box: np.ndarray, rows: slice, columns: slice) -> Tensor:
    """(3, h, w), what a patch (3, s, s) of a square box (x, y, side, side) shows in a window of the photo.

    Example:
        >>> patch_colours(torch.ones(3, 4, 4), np.array([0, 0, 2, 2]), slice(0, 1), slice(0, 3))[0]
        tensor([[1., 1., 0.]])
    """
    x, y, side, _ = box.tolist()
    place = torch.tensor([[x - columns.start, y - rows.start, side, side]]).expand(3, -1)
    return paste_patches(patch, place, rows.stop - rows.start, columns.stop - columns.start)


def paste_hidden(
    tile: np.ndarray, patch: Tensor, box: np.ndarray, scene: ContentScene, index: int, margin: int | None
) -> None:
    """Put the colours of a patch (3, s, s) into the hidden part of a tile; `margin` is that of the seam.

    Example:
        >>> from amodal_diffusion.pipelines.content.inputs import read_content_scene
        >>> masks, amodal_masks = np.eye(2, dtype=bool), np.ones((2, 2), dtype=bool)
        >>> scene = read_content_scene(np.full((2, 2, 3), 9, dtype=np.uint8), masks, amodal_masks)
        >>> tile = visible_tile(scene, 0)
        >>> paste_hidden(tile, torch.ones(3, 4, 4), np.array([0, 0, 2, 2]), scene, 0, margin=None)
        >>> tile[..., 0]
        array([[  9, 255],
               [255,   9]], dtype=uint8)
    """
    height, width = scene.photo.shape[:2]
    left, top, w, h = scene.boxes[index].tolist()
    # With some of the surroundings, from which the colours go on.
    rows = slice(max(0, top - _CONTEXT), min(height, top + h + _CONTEXT))
    columns = slice(max(0, left - _CONTEXT), min(width, left + w + _CONTEXT))
    colours = patch_colours(patch, box, rows, columns)  # [3, h', w']
    inner = (slice(top - rows.start, top - rows.start + h), slice(left - columns.start, left - columns.start + w))
    hidden = scene.hidden(index)
    if margin is not None:
        hole = np.zeros(colours.shape[1:], bool) if scene.unknown is None else scene.unknown[rows, columns].copy()
        hole[inner] |= hidden
        trusted = trusted_photo(scene.modal[index, rows, columns], hole, margin)
        around = to_planes(scene.photo[rows, columns], None, trusted.device)
        colours = continue_photo(colours.cpu(), around, trusted)
    _put(tile, to_pixels(colours[(slice(None), *inner)]), hidden)


def paste_window(
    tile: np.ndarray, pixels: np.ndarray, where: tuple[slice, slice], scene: ContentScene, index: int
) -> None:
    """Put what a window of the photo shows into the hidden part of a tile, which lies in that window.

    Args:
        tile: (h, w, 4) uint8, changed.
        pixels: (h', w', 3) uint8, the window.
        where: its rows and columns in the photo.
        scene: the photo and its objects.
        index: of the object.

    Example:
        >>> from amodal_diffusion.pipelines.content.inputs import read_content_scene
        >>> masks, amodal_masks = np.eye(2, dtype=bool), np.ones((2, 2), dtype=bool)
        >>> scene = read_content_scene(np.full((2, 2, 3), 9, dtype=np.uint8), masks, amodal_masks)
        >>> tile = visible_tile(scene, 0)
        >>> paste_window(tile, np.full((2, 1, 3), 7, np.uint8), (slice(0, 2), slice(1, 2)), scene, 0)
        >>> tile[..., 0]
        array([[9, 7],
               [0, 9]], dtype=uint8)
    """
    own = window(scene.boxes[index])
    common = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(own, where, strict=True)]
    here, there = (
        tuple(slice(low - side.start, high - side.start) for (low, high), side in zip(common, sides, strict=True))
        for sides in (own, where)
    )
    _put(tile[here], pixels[there], scene.hidden(index)[here])


def _put(tile: np.ndarray, pixels: np.ndarray, where: np.ndarray) -> None:
    """Put pixels (h, w, 3) into a tile (h, w, 4) where a mask is True, plane by plane: several times faster."""
    for channel in range(3):
        np.copyto(tile[..., channel], pixels[..., channel], where=where)


def postprocess(pixels: np.ndarray, output_type: str) -> Any:
    """(h, w, C) uint8 in the form asked for.

    Example:
        >>> postprocess(np.zeros((2, 5, 4), dtype=np.uint8), "pil").size
        (5, 2)
        >>> postprocess(np.zeros((2, 5, 4), dtype=np.uint8), "pt").shape
        torch.Size([4, 2, 5])
    """
    if output_type == "pt":
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    if output_type == "pil":
        if not pixels.size:  # which PIL has no image for
            pixels = np.zeros((1, 1, pixels.shape[2]), np.uint8)
        return Image.fromarray(pixels)
    return pixels
