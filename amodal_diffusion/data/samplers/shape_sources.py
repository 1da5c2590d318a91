"""The complete and the partly hidden masks of modal-only data sets, and their photos if wanted, for Amodal-VAE."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...crops import crop_images_to_boxes, crop_to_boxes
from ...display import short_repr
from ...images import image_to_tensor
from ...masks import decode_rle, mask_areas, mask_boxes
from ...ordering import neighbours, order_from_masks
from ..photos import encoded_photos, load_row_photo
from ..synthesis import MaskBank, complete_objects, partial_objects

logger = logging.getLogger(__name__)

FRAME = 3
"""Side of the frame around a visible mask in units of its box; a completed mask is compared with the truth in it."""
_ORDER_SIDE = 320  # pixels of the longer side of the masks that the order is read off: enough for who is in front
_LOG_ROWS = 1000

OrderFunction = Callable[[np.ndarray], np.ndarray]


@dataclass
class PartialShapes:
    """Objects with a neighbour in front.

    Args:
        visible: (N, s, s) uint8 in [0, 255], the visible mask in its tight box.
        frame_visible: (N, F, F) uint8 in [0, 255], the visible mask in a frame of `FRAME` times its box.
        frame_front: (N, F, F) uint8 in [0, 255], what is in front of the object in that frame.
        category_ids: (N,) int64, 0 = unknown.
        sources: (N,) int64.
        pixels: (N, 3, i, i) uint8 RGB, the photo in the box of the visible mask; None without photos.

    Example:
        >>> plane = torch.zeros(3, 16, 16, dtype=torch.uint8)
        >>> len(PartialShapes(plane, plane, plane, torch.tensor([1, 1, 2]), torch.tensor([0, 0, 1])))
        3
    """

    visible: Tensor
    frame_visible: Tensor
    frame_front: Tensor
    category_ids: Tensor
    sources: Tensor
    pixels: Tensor | None = None

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.visible)

    def to(self, device: torch.device | str) -> "PartialShapes":
        """The same on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return PartialShapes(**moved)


@dataclass
class ShapeSources:
    """What Amodal-VAE is trained on: `complete` masks, `partial` ones (None where no order is known), and how many of
    all masks of each source they are.

    Example:
        >>> bank = MaskBank.from_masks([(np.ones((20, 30), dtype=bool), 1, 0)], resolution=16)
        >>> ShapeSources(bank, partial=None, counts=[(1, 1, 0)]).partial is None
        True
    """

    complete: MaskBank
    partial: PartialShapes | None
    counts: list[tuple[int, int, int]]  # for each source: all masks, complete ones, partial ones

    @property
    def largest_category(self) -> int:
        """The largest id of a complete or a partial mask; 0 where none is known."""
        found = [self.complete.category_ids] + ([] if self.partial is None else [self.partial.category_ids])
        return max(int(ids.max()) for ids in found)


@dataclass
class _Collected:
    visible: list[Tensor] = field(default_factory=list)
    frame_visible: list[Tensor] = field(default_factory=list)
    frame_front: list[Tensor] = field(default_factory=list)
    category_ids: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    pixels: list[Tensor] = field(default_factory=list)
    complete_pixels: list[Tensor] = field(default_factory=list)  # of the complete masks


def collect_shapes(
    sources: Sequence[Iterable[Mapping[str, Any]]],
    *,
    size: int,
    frame_size: int,
    resolution: int,
    min_area: int,
    max_truncation: float,
    known_categories: Sequence[int],
    find_order: OrderFunction | None,
    collect_partial: bool,
    image_size: int | None = None,
    true_shapes: bool = False,
) -> ShapeSources:
    """Sort the masks of data sets in the common schema into complete and partly hidden ones.

    Args:
        sources: the rows of each data set.
        size: side s of the tight crops of partial masks.
        frame_size: side F of their frames.
        resolution: of the bank of complete masks.
        min_area: masks of fewer pixels are neither.
        max_truncation: see `complete_objects`.
        known_categories: the sources whose category ids are kept; those of the others become 0, unknown.
        find_order: (N, H, W) bool -> (N, N) order matrix; None counts objects without neighbours as complete alone,
            and no object as partial.
        collect_partial: whether partial masks are wanted.
        image_size: side of the crops of the photos, which are kept with the masks; None reads no photo.
        true_shapes: where all objects of a photo have amodal masks, take these for the complete ones, hidden or not,
            and the order from them. [L20] does without, and so does False.

    Raises:
        ValueError: where no mask is complete; with `image_size`, where a photo is missing, cannot be read or has
            another size than its masks, or a source has no photo with objects.

    Example:
        >>> from amodal_diffusion.masks import encode_rle
        >>> front, behind = np.zeros((2, 40, 40), dtype=bool)
        >>> front[10:30, 5:20], behind[12:25, 20:30] = True, True
        >>> items = [{"modal_mask": encode_rle(mask), "is_crowd": False, "category_id": 1} for mask in (front, behind)]
        >>> found = collect_shapes(
        ...     [[{"objects": items}]], size=16, frame_size=24, resolution=16, min_area=1, max_truncation=0.05,
        ...     known_categories=[0], find_order=lambda masks: np.array([[0, 1], [-1, 0]]), collect_partial=True,
        ... )
        >>> found.counts  # masks, complete ones, partial ones
        [(2, 1, 1)]
    """
    collected, counts = _Collected(), []

    def complete_masks() -> Iterator[tuple[np.ndarray, int, int]]:
        """The complete masks; the partial ones are collected on the way, so that each mask is decoded once."""
        for source, rows in enumerate(sources):
            everything, whole, before = 0, 0, len(collected.sources)
            for number, row in enumerate(rows if image_size is None else encoded_photos(rows), start=1):
                objects = row["objects"]
                everything += len(objects)
                if objects:
                    known = true_shapes and all(item.get("amodal_mask") is not None for item in objects)
                    masks = _decoded(objects, "modal_mask")
                    shapes = _decoded(objects, "amodal_mask") if known else masks
                    options = {
                        "is_crowd": [bool(item["is_crowd"]) for item in objects],
                        "max_truncation": max_truncation,
                    }
                    if not known:
                        complete, hidden, order = _sort(masks, min_area, options, find_order)
                    else:
                        complete, hidden, order = _sort_known(masks, shapes, min_area, options)
                    if image_size is not None:  # a photo shows no hidden part
                        complete &= (shapes == masks).all(axis=(1, 2))
                    whole += int(complete.sum())
                    categories = [_category(item, source, known_categories) for item in objects]
                    hidden &= collect_partial and order is not None
                    if image_size is not None and (complete | hidden).any():
                        photo = image_to_tensor(load_row_photo(row))
                        boxes = torch.from_numpy(mask_boxes(masks)).float()
                        collected.complete_pixels.append(_crop_photo(photo, _squares(boxes[complete]), image_size))
                        collected.pixels.append(_crop_photo(photo, boxes[hidden], image_size))
                    yield from ((shapes[index], categories[index], source) for index in np.flatnonzero(complete))
                    if order is not None and hidden.any():
                        _add_partial(collected, source, categories, masks, order, hidden, size, frame_size)
                if number % _LOG_ROWS == 0:
                    logger.info("source %d: %d photos read", source, number)
            if image_size is not None and not everything:
                raise ValueError(f"`sources`: source {source} has no photo with objects.")
            counts.append((everything, whole, len(collected.sources) - before))

    bank = MaskBank.from_masks(complete_masks(), resolution=resolution, min_area=min_area)
    if image_size is not None:
        pixels = torch.cat(collected.complete_pixels)
        bank = MaskBank(bank.bits, bank.box_sizes, bank.category_ids, bank.sources, pixels)
    return ShapeSources(bank, _stack(collected), counts)


def _squares(boxes: Tensor) -> Tensor:
    """The squares of a `MaskBank` around tight boxes (N, 4)."""
    side = boxes[:, 2:].amax(1, keepdim=True)
    return torch.cat([boxes[:, :2] + (boxes[:, 2:] - side) / 2, side.expand(-1, 2)], dim=1)


def _crop_photo(photo: Tensor, boxes: Tensor, size: int) -> Tensor:
    """(N, 3, s, s) uint8 from RGB (3, H, W) in [0, 1]."""
    return _bytes(crop_images_to_boxes(photo, boxes, size))


def _category(item: Mapping[str, Any], source: int, known: Sequence[int]) -> int:
    category = item["category_id"]
    if source not in known or category is None:
        return 0
    if category < 1:
        raise ValueError(f"category ids must be at least 1, since 0 stands for an unknown one, got {category}")
    return int(category)


def _decoded(objects: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """(N, H, W) bool, a mask of each object."""
    return np.stack([decode_rle(item[name]) for item in objects])


def _sort(
    masks: np.ndarray, min_area: int, options: dict[str, Any], find_order: OrderFunction | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Which objects of a photo are complete (N,), which partial (N,), and the order where it is known.

    Args:
        masks: (N, H, W) visible masks.
        min_area: masks of fewer pixels are neither.
        options: of `complete_objects` and `partial_objects`.
        find_order: see `collect_shapes`.
    """
    large = mask_areas(masks) >= min_area
    possible = complete_objects(masks, _nothing(masks), **options) & large  # as if nothing were in front of anything
    touching = neighbours(masks)
    if find_order is None or not touching[possible].any():
        return possible & ~touching.any(1), np.zeros(len(masks), dtype=bool), None
    order = _order_around(masks, possible & touching.any(1), touching, find_order)
    complete = complete_objects(masks, order, **options) & large
    return complete, partial_objects(masks, order, **options) & large, order


def _sort_known(
    masks: np.ndarray, shapes: np.ndarray, min_area: int, options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_sort`, where the whole `shapes` (N, H, W) are known: each is complete, however much of it is hidden."""
    order = order_from_masks(masks, shapes)
    complete = complete_objects(shapes, _nothing(masks), **options) & (mask_areas(shapes) >= min_area)
    return complete, partial_objects(masks, order, **options) & (mask_areas(masks) >= min_area), order


def _nothing(masks: np.ndarray) -> np.ndarray:
    """(N, N) order in which nothing is in front of anything."""
    return np.zeros((len(masks), len(masks)), dtype=np.int8)


def _order_around(masks: np.ndarray, wanted: np.ndarray, touching: np.ndarray, find_order: OrderFunction) -> np.ndarray:
    """The order of the `wanted` objects and those that they touch; 0 for all other pairs."""
    rows = (wanted | touching[wanted].any(0)).nonzero()[0]
    order = np.zeros((len(masks), len(masks)), dtype=np.int8)
    order[np.ix_(rows, rows)] = find_order(masks[rows])
    return order


def _add_partial(
    collected: _Collected,
    source: int,
    categories: Sequence[int],
    masks: np.ndarray,
    order: np.ndarray,
    hidden: np.ndarray,
    size: int,
    frame_size: int,
) -> None:
    rows = torch.from_numpy(hidden.nonzero()[0])
    boxes = torch.from_numpy(mask_boxes(masks)).float()[rows]
    front = torch.from_numpy(np.stack([masks[order[row] == -1].any(0) for row in rows.tolist()]))
    extent = boxes[:, 2:]
    frames = torch.cat([boxes[:, :2] - extent * (FRAME - 1) / 2, extent * FRAME], dim=1)
    stack = torch.from_numpy(masks)
    collected.visible.append(_bytes(crop_to_boxes(stack, boxes, size, rows)))
    collected.frame_visible.append(_bytes(crop_to_boxes(stack, frames, frame_size, rows)))
    collected.frame_front.append(_bytes(crop_to_boxes(front, frames, frame_size)))
    collected.category_ids += [categories[row] for row in rows.tolist()]
    collected.sources += [source] * len(rows)


def _bytes(values: Tensor) -> Tensor:
    return (values * 255).round().to(torch.uint8)


def _stack(collected: _Collected) -> PartialShapes | None:
    if not collected.sources:
        return None
    return PartialShapes(
        visible=torch.cat(collected.visible),
        frame_visible=torch.cat(collected.frame_visible),
        frame_front=torch.cat(collected.frame_front),
        category_ids=torch.tensor(collected.category_ids),
        sources=torch.tensor(collected.sources),
        pixels=torch.cat(collected.pixels) if collected.pixels else None,
    )


def order_by_pipeline(pipeline: Any) -> OrderFunction:
    """Who is in front by dual completion (PCNet-M, ASBU), or by an OrderNet of masks alone, at reduced resolution.

    Example:
        >>> from amodal_diffusion import PCNetMask, PCNetMaskPipeline
        >>> pipeline = PCNetMaskPipeline(PCNetMask(block_out_channels=(4, 8), sample_size=16))
        >>> masks = np.zeros((2, 16, 16), dtype=bool)
        >>> masks[0, :4], masks[1, 8:] = True, True
        >>> order_by_pipeline(pipeline)(masks).tolist()  # they do not touch
        [[0, 0], [0, 0]]
    """
    pipeline.set_progress_bar_config(disable=True)

    def find_order(masks: np.ndarray) -> np.ndarray:
        step = max(1, round(max(masks.shape[1:]) / _ORDER_SIDE))
        return pipeline.infer_order(np.ascontiguousarray(masks[:, ::step, ::step]))

    return find_order
