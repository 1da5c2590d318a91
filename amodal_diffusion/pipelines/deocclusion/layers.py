"""What a scene is made of: the arguments of a call on one canvas, masks without overlaps, layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ...arguments.numeric import check_integer, check_number
from ...display import short_repr
from ...masks import BoolArray, TileStack, block_sums, dilate, erode, mask_boxes, mask_overlaps, mask_unions
from ...scene import Layer
from ...scene.formats.document import MAX_PICTURE_PIXELS
from ...scene.layer import translation
from ...scene.reshaping import soft_alpha
from ..inputs import to_numpy
from .matting import SoftOutlines

_CRACK, _UNIT = 9, 640  # pixels of a crack between masks, where the photo is so large: at most about that


@dataclass
class SceneInputs:
    """What a call works on.

    Args:
        photo: (h, w, 3) uint8.
        masks: (N, h, w) bool, as given.
        names: of the N objects.
        eraser_dilation: in pixels.
        margins: pixels (left, top, right, bottom) by which the canvas is larger than the photo.

    Example:
        >>> inputs = SceneInputs(np.zeros((4, 6, 3), np.uint8), np.ones((1, 4, 6), bool), ["cup"], 0, (1, 0, 0, 0))
        >>> inputs.canvas.shape, inputs.outside.sum(), inputs.cut_by_frame
        ((4, 7, 3), np.int64(4), array([ True]))
    """

    photo: npt.NDArray[np.uint8]
    masks: BoolArray
    names: list[str]
    eraser_dilation: int
    margins: tuple[int, int, int, int]

    __repr__ = short_repr

    @property
    def extended(self) -> bool:
        """The canvas is larger than the photo."""
        return any(self.margins)

    def on_canvas(self, planes: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(..., H, W) on the canvas from (..., h, w) on the photo, 0 beyond its frame; a view without margins."""
        if not self.extended:
            return planes
        left, top, right, bottom = self.margins
        return np.pad(planes, [(0, 0)] * (planes.ndim - 2) + [(top, bottom), (left, right)])

    @cached_property
    def canvas(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8, the photo; beyond its frame its edge goes on."""
        if not self.extended:
            return self.photo
        left, top, right, bottom = self.margins
        return np.pad(self.photo, ((top, bottom), (left, right), (0, 0)), mode="edge")

    @cached_property
    def outside(self) -> BoolArray:
        """(H, W) bool, the canvas beyond the frame."""
        return ~self.on_canvas(np.ones(self.photo.shape[:2], bool))

    @property
    def unknown(self) -> BoolArray | None:
        """`outside`, None where the canvas is the photo."""
        return self.outside if self.extended else None

    @property
    def cut_by_frame(self) -> BoolArray:
        """(N,) bool, the object touches the frame on a side where the canvas goes on."""
        left, top, right, bottom = self.margins
        edges = ((left, np.s_[:, :, 0]), (top, np.s_[:, 0]), (right, np.s_[:, :, -1]), (bottom, np.s_[:, -1]))
        return np.any([self.masks[edge].any(axis=1) & (margin > 0) for margin, edge in edges], axis=0)


def tidy_hidden(amodal: BoolArray, modal: BoolArray, width: int) -> BoolArray:
    """Leave out hidden parts that are slivers, and close cracks between visible and hidden parts.

    Networks let an object grow by a pixel or two along its outline, which colours nothing and shows as a fringe; and
    masks do not quite touch, so that a hidden part can lie beside the visible one. Polygons leave cracks of several
    pixels (eight where the photo has 640), which no object has: they are closed, too, between both parts.

    Args:
        amodal: (N, H, W) bool.
        modal: (N, H, W) bool.
        width: pixels: hidden parts that are narrower are left out, and cracks that are narrower closed; 0 and 1 change
            nothing.

    Returns:
        (N, H, W) bool, which hold the visible parts.

    Example:
        >>> modal, amodal = np.zeros((2, 1, 8, 8), bool)
        >>> modal[0, 2:6, 2:5] = amodal[0, 2:6, 2:6] = True  # a hidden part that is one pixel wide
        >>> tidy_hidden(amodal, modal, width=3).sum(), tidy_hidden(amodal, modal, width=0).sum()
        (np.int64(12), np.int64(16))
    """
    if width < 2:
        return amodal | modal
    size, side = width + (width + 1) % 2, max(modal.shape[1:])
    tidy, anyone = amodal | modal, np.logical_or.reduce(modal, axis=0)
    for index, (x, y, w, h) in enumerate(mask_boxes(tidy).tolist()):
        window = (slice(max(y - size, 0), y + h + size), slice(max(x - size, 0), x + w + size))
        visible = modal[(index, *window)]
        hidden = amodal[(index, *window)] & ~visible
        hidden &= dilate(erode(hidden, kernel="square", size=size), kernel="square", size=size)
        whole = visible | hidden
        closed = erode(dilate(whole, kernel="square", size=size), kernel="square", size=size)
        tidy[(index, *window)] = whole | (closed & dilate(hidden, kernel="square", size=size))
        if hidden.any() and visible.any():
            tidy[(index, *window)] |= _crack(visible, hidden, anyone[window], side)
    return tidy


def _crack(seen: BoolArray, hidden: BoolArray, taken: BoolArray, side: int) -> BoolArray:
    """(h, w) bool, what is not `taken` and lies between the visible and the hidden part of an object.

    `side` is the longer one of the photo; of a large one, blocks of pixels are looked at.
    """
    step, size = max(1, -(-side // _UNIT)), 2 * round(_CRACK * min(1.0, side / _UNIT) / 2) + 1
    one, other = (block_sums(part, step) > 0 for part in (seen, hidden))
    closed = erode(dilate(one | other, kernel="square", size=size), kernel="square", size=size)
    for part in (one, other):  # each reaches across the crack
        closed &= dilate(part, kernel="square", size=2 * size + 1)
    height, width = taken.shape
    return closed.repeat(step, axis=0).repeat(step, axis=1)[:height, :width] & ~taken


def lying_before(masks: BoolArray) -> BoolArray:
    """Which visible masks lie in a larger one for the most part: nobody had seen what is there, were it not in front.

    Args:
        masks: (N, H, W) bool, visible parts, as given.

    Returns:
        (N, N) bool, `[i, j]` where at least half of i lies in j, which is larger; no pair holds both ways.

    Example:
        >>> masks = np.ones((2, 1, 4), bool)
        >>> masks[1, 0, 2:] = False
        >>> lying_before(masks).astype(int)
        array([[0, 0],
               [1, 0]])
    """
    overlaps = mask_overlaps(masks, masks)
    areas = overlaps.diagonal()
    return (2 * overlaps >= areas[:, None]) & (areas[:, None] < areas) & (areas > 0)[:, None]


def cut_by_front(masks: BoolArray, order: npt.ArrayLike | None) -> tuple[BoolArray, BoolArray]:
    """Visible masks without what lies before them by `lying_before`, which an order that is given overrules.

    Returns:
        The masks (N, H, W) bool, the same ones where nothing lies before any, and (N, N) bool of `lying_before`.

    Example:
        >>> masks = np.ones((2, 1, 4), bool)
        >>> masks[1, 0, 2:] = False
        >>> cut, before = cut_by_front(masks, None)
        >>> cut.astype(int)[:, 0], before[1, 0], cut_by_front(masks, np.zeros((2, 2)))[1].any()
        (array([[0, 0, 1, 1],
               [1, 1, 0, 0]]), np.True_, np.False_)
    """
    before = lying_before(masks) if order is None else np.zeros((len(masks), len(masks)), bool)
    return masks & ~mask_unions(masks, before.T) if before.any() else masks, before


def order_with(before: BoolArray, order: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """An order (N, N) in which what lies before something is in front of it.

    Example:
        >>> before = np.array([[False, False], [True, False]])
        >>> order_with(before, np.zeros((2, 2), np.int8))
        array([[ 0, -1],
               [ 1,  0]], dtype=int8)
    """
    return np.where(before, 1, np.where(before.T, -1, order)).astype(np.int8)


def split_overlaps(masks: BoolArray, order: npt.NDArray[np.int8]) -> BoolArray:
    """Give each pixel that several visible masks claim to the one in front.

    Args:
        masks: (N, H, W) bool.
        order: (N, N) order matrix. Of masks without relation the smaller is in front.

    Returns:
        (N, H, W) bool, no pixel in two masks; `masks` itself where that is so already.

    Example:
        >>> masks = np.ones((2, 1, 4), bool)
        >>> masks[1, 0, 2:] = False
        >>> split_overlaps(masks, np.zeros((2, 2), np.int8)).astype(int)[:, 0]
        array([[0, 0, 1, 1],
               [1, 1, 0, 0]])
    """
    overlaps = mask_overlaps(masks, masks)
    areas, index = overlaps.diagonal(), np.arange(len(masks))
    smaller = (areas[:, None] < areas[None]) | ((areas[:, None] == areas[None]) & (index[:, None] > index[None]))
    front = np.where(order == 0, smaller, order == 1)
    cut = np.flatnonzero((overlaps > 0).sum(axis=1) > 1)
    if not len(cut):
        return masks
    owned = masks.copy()
    for back in cut:
        owned[back] &= ~masks[front[:, back]].any(axis=0)
    claimed = masks.any(axis=0) & ~owned.any(axis=0)  # in a cycle each loses the pixel to another: the smallest has it
    for number in np.argsort(areas, kind="stable") if claimed.any() else ():
        owned[number] |= masks[number] & claimed
        claimed &= ~masks[number]
    return owned


def make_layer(
    index: int,
    name: str,
    tile: npt.NDArray[np.uint8],
    box: npt.NDArray[np.int64],
    modal: BoolArray,
    amodal: BoolArray,
    uncertainty: npt.NDArray[np.float32] | TileStack | None,
    outlines: SoftOutlines | None = None,
    shadow: npt.NDArray[np.uint8] | None = None,
) -> Layer:
    """The layer of one object where the photo shows it.

    Args:
        index: of the object; its id too.
        name: of the layer.
        tile: (h, w, 4) uint8; changed where its outline is soft.
        box: (x, y, w, h) of the tile on the canvas.
        modal: (N, H, W) of all objects.
        amodal: likewise.
        uncertainty: (N, H, W) float32, or None.
        outlines: the alpha of its rim; None: its outline is hard.
        shadow: see `Layer`.

    Example:
        >>> masks = np.zeros((1, 4, 6), bool)
        >>> masks[0, 1:3, 2:5] = True
        >>> make_layer(0, "cup", np.zeros((2, 3, 4), np.uint8), np.array([2, 1, 3, 2]), masks, masks, None)
        Layer('cup', id 0, 3x2, at 2, 1, 3x2 on the canvas)
    """
    x, y, width, height = (int(value) for value in box)
    if not tile.size:  # nothing of the object: one transparent pixel stands for it
        width = height = 1
        tile = np.zeros((1, 1, 4), np.uint8)
    where = (index, slice(y, y + height), slice(x, x + width))
    place = translation(x, y)
    if outlines is not None:
        _soften(tile, (x, y), index, modal[where], outlines)
        tile.flags.writeable = False  # so that the layer keeps it instead of a copy
    unsure = uncertainty
    if isinstance(unsure, TileStack):
        unsure = unsure.crop(index, (x, y, width, height)).astype(np.float32, copy=False)
    elif unsure is not None:
        unsure = np.ascontiguousarray(unsure[where], np.float32)
    return Layer(tile, modal[where], amodal[where] | modal[where], unsure, place, name, index, place, shadow)


def _soften(
    tile: npt.NDArray[np.uint8], corner: tuple[int, int], index: int, seen: BoolArray, outlines: SoftOutlines
) -> None:
    """Give a tile the alpha of its rim; where its outline is hidden, one that is a pixel wide."""
    opaque = tile[..., 3] > 0
    np.copyto(tile[..., 3], soft_alpha(opaque), where=opaque & ~seen)
    rows, columns = np.unravel_index(outlines.pixels[index], outlines.photo.shape[:2])
    rows, columns = rows - corner[1], columns - corner[0]
    kept = seen[rows, columns]
    tile[rows[kept], columns[kept], 3] = outlines.alpha[index][kept]


def read_margins(extend_canvas: Any, height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels (left, top, right, bottom) to add to a photo; see `ScenePipeline.__call__`.

    Example:
        >>> read_margins(0.1, 300, 400), read_margins((5, 0, 5, 0), 300, 400)
        ((40, 40, 40, 40), (5, 0, 5, 0))
    """
    if isinstance(extend_canvas, float | np.floating):
        share = check_number("`extend_canvas` as a share", extend_canvas, least=0, most=1)
        margins = [round(share * max(height, width))] * 4
    elif isinstance(extend_canvas, Sequence | np.ndarray) and not isinstance(extend_canvas, str):
        if len(extend_canvas) != 4:
            raise ValueError(
                f"`extend_canvas` must be one number or (left, top, right, bottom), got {extend_canvas!r}."
            )
        margins = [check_integer("extend_canvas", value, 0) for value in extend_canvas]
    else:
        margins = [check_integer("extend_canvas", extend_canvas, 0)] * 4
    left, top, right, bottom = margins
    if any(margins) and (height + top + bottom) * (width + left + right) > MAX_PICTURE_PIXELS:
        raise ValueError(
            f"`extend_canvas` must leave the canvas at most {MAX_PICTURE_PIXELS} pixels, which a scene's files may "
            f"have, got {extend_canvas!r}."
        )
    return left, top, right, bottom


def read_flags(name: str, flags: Any, count: int) -> BoolArray:
    """(N,) bool from flags of the objects; None is False for all.

    Example:
        >>> read_flags("is_crowd", [0, 1], 2), read_flags("is_crowd", None, 1)
        (array([False,  True]), array([False]))
    """
    if flags is None:
        return np.zeros(count, bool)
    array = to_numpy(flags)
    if array.shape != (count,) or array.dtype.kind not in "biu" or not np.isin(array, (0, 1)).all():
        raise ValueError(f"`{name}` must hold a flag for each of the {count} objects, got {flags!r}.")
    return array.astype(bool)


def read_names(names: Any, count: int) -> list[str]:
    """The names of the objects, checked; None numbers them.

    Example:
        >>> read_names(None, 2), read_names(["cup"], 1)
        (['object 1', 'object 2'], ['cup'])
    """
    if names is None:
        return [f"object {index + 1}" for index in range(count)]
    if isinstance(names, str) or not isinstance(names, Sequence | np.ndarray):
        raise TypeError(f"`names` must be a list with one text for each object, got {type(names).__name__}.")
    if len(names) != count:
        raise ValueError(f"`names` must have one entry for each of the {count} objects, got {len(names)}.")
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise TypeError(f"`names` must hold texts, got {wrong[0]!r}.")
    return [str(name) for name in names]
