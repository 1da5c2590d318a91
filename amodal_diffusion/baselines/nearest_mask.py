"""Nearest-neighbour completion [L20]: of simulated partial masks, the most similar one gives its amodal mask."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..arguments.numeric import check_integer
from ..crops import crop_to_boxes, paste_from_boxes, tight_boxes, to_absolute_boxes, to_relative_boxes
from ..data.synthesis import MAX_TRUNCATION, MaskBank, OcclusionSynthesizer, SynthesisConfig, complete_objects
from ..masks import BoolArray, decode_rle, to_mask_stack

_BATCH = 256
# Words of 64 cells in the largest temporary of a search, and pixels in that of pasting; bounds memory, not results.
_CHUNK_WORDS = 2**21
_CHUNK_PIXELS = 2**24


class NearestMaskBank:
    """Pairs of partial and amodal masks, in which `complete` looks up the most similar partial mask [L20, Table 1].

    Masks are squeezed by their tight boxes to one square and packed, a bit a cell: the 91,205 pairs of the paper take
    93 MB at 64².

    Args:
        partial: (M, s * s / 64) uint64, partial masks squeezed by their tight boxes, at least one cell each.
        whole: (M, s, s / 8) uint8, the amodal masks squeezed by theirs, packed along the last axis (`numpy.packbits`).
        boxes: (M, 4) float32 [cx, cy, w, h], the box of each amodal mask in units of the box of the partial one, see
            `to_relative_boxes`.

    Raises:
        ValueError: where the shapes do not belong together or there is no pair.

    Example:
        >>> from amodal_diffusion.masks import encode_rle
        >>> mask = np.zeros((40, 40), dtype=bool)
        >>> mask[10:30, 10:30] = True
        >>> row = {"objects": [{"modal_mask": encode_rle(mask), "is_crowd": False, "category_id": 1}]}
        >>> bank = NearestMaskBank.from_sources([[row]], occlusions=4, size=16)
        >>> len(bank), bank.size
        (4, 16)
        >>> bank.complete(mask[None]).shape
        (1, 40, 40)
    """

    def __init__(
        self, partial: npt.NDArray[np.uint64], whole: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float32]
    ) -> None:
        count, size = len(partial), whole.shape[1] if whole.ndim == 3 else 0
        if not count:
            raise ValueError("`partial` holds no mask: the sources have no complete one.")
        if whole.shape != (count, size, size // 8) or partial.shape != (count, size * size // 64):
            raise ValueError(f"`partial` {partial.shape} and `whole` {whole.shape} must describe the same masks.")
        if boxes.shape != (count, 4):
            raise ValueError(f"`boxes` must have shape ({count}, 4), got {boxes.shape}.")
        self.partial, self.whole, self.boxes = partial, whole, boxes
        self._lengths = np.sqrt(np.bitwise_count(partial).sum(axis=1, dtype=np.int64)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.partial)

    @property
    def size(self) -> int:
        """Side s of the squares."""
        return self.whole.shape[1]

    @classmethod
    def from_sources(
        cls,
        sources: Sequence[Iterable[Mapping[str, Any]]],
        *,
        occlusions: int = 5,
        size: int = 64,
        limit: int | None = None,
        seed: int = 0,
        min_area: int = 100,
        max_truncation: float = MAX_TRUNCATION,
        order: Callable[[BoolArray], npt.NDArray[np.int8]] | None = None,
    ) -> "NearestMaskBank":
        """Simulate occlusions of all complete masks of data sets in the common schema, by other masks of them [L20].

        Args:
            sources: the rows of each data set; `objects` is read. None of them should be a photo that is completed.
            occlusions: how often each complete mask is partly covered by another, see `OcclusionSynthesizer`.
            size: side s of the squares, a multiple of 8.
            limit: largest number of pairs; of more, as many complete masks as fill it are drawn at random.
            seed: of the occlusions and of that draw.
            min_area: masks of fewer pixels are left out.
            max_truncation: see `complete_objects`.
            order: from (N, H, W) modal masks to their order matrix, for `complete_objects`, such as `order_by_hull`;
                None counts only objects without neighbours as complete.

        Raises:
            TypeError: where one is no integer.
            ValueError: where a number is out of range, or no mask is complete.
        """
        if check_integer("size", size) < 8 or size % 8:
            raise ValueError(f"`size` must be a positive multiple of 8, got {size}.")
        check_integer("occlusions", occlusions, 1)
        if limit is not None:
            check_integer("limit", limit, 1)
        # Twice as fine as the result: the crop around an object is about 1.7 times as wide as the object.
        complete = _complete_masks(sources, max_truncation, order)
        bank = MaskBank.from_masks(complete, resolution=2 * size, min_area=min_area)
        pairs = occlusions * len(bank)
        if limit is not None and pairs > limit:
            chosen = torch.randperm(len(bank), generator=torch.Generator().manual_seed(seed))
            bank, pairs = bank.subset(chosen[: -(-limit // occlusions)]), limit
        config = SynthesisConfig(size=2 * size, erase_probability=1.0)
        synthesizer = OcclusionSynthesizer(bank, config, seed=seed)
        parts = []
        for step in range(-(-pairs // _BATCH)):
            batch = synthesizer.sample(step, _BATCH)
            left = slice(0, pairs - step * _BATCH)
            parts.append(_pack_pairs(batch.mask[left, 0] > 0, batch.target[left, 0] > 0, size))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def find(self, modal: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The most similar partial mask of each object.

        Args:
            modal: (N, H, W) visible masks.

        Returns:
            (N,) rows of the bank, -1 for an empty mask, and (N,) cosine similarities in [0, 1], 0 for an empty mask.
        """
        masks = torch.from_numpy(np.ascontiguousarray(to_mask_stack(modal)))
        words = _pack_cells(_squeeze(masks, tight_boxes(masks), self.size))
        lengths = np.sqrt(np.bitwise_count(words).sum(axis=1, dtype=np.int64)).astype(np.float32)
        best = np.full(len(words), -1, np.int64)
        similarity = np.zeros(len(words), np.float32)
        step = max(1, _CHUNK_WORDS // max(1, words.size))
        for start in range(0, len(self), step):
            part = slice(start, start + step)
            common = np.bitwise_count(words[:, None] & self.partial[part]).sum(axis=2, dtype=np.int64)  # [N, step]
            cosine = common / (self._lengths[part] * np.maximum(lengths, 1)[:, None])
            top = cosine.argmax(axis=1)
            value = np.take_along_axis(cosine, top[:, None], axis=1)[:, 0]
            better = (value > similarity) | ((best < 0) & (lengths > 0))
            best[better], similarity[better] = start + top[better], value[better]
        return best, similarity

    def complete(self, modal: npt.NDArray[Any]) -> BoolArray:
        """Complete masks: each with the amodal mask of the most similar partial one, scaled and placed accordingly.

        Args:
            modal: (N, H, W) visible masks.

        Returns:
            (N, H, W) bool, a superset of `modal`. An empty mask stays empty.
        """
        completed = to_mask_stack(modal).copy()
        height, width = completed.shape[1:]
        best, _ = self.find(completed)
        rows = np.flatnonzero(best >= 0)
        step = max(1, _CHUNK_PIXELS // max(1, height * width))
        for part in (rows[start : start + step] for start in range(0, len(rows), step)):
            entries = best[part]
            patches = np.unpackbits(self.whole[entries], axis=-1).astype(np.float32)  # [n, s, s]
            boxes = to_absolute_boxes(
                torch.from_numpy(self.boxes[entries]), tight_boxes(torch.from_numpy(completed[part]))
            )
            pasted = paste_from_boxes(torch.from_numpy(patches), boxes, height, width) > 0.5
            completed[part] |= pasted.numpy()
        return completed


def _complete_masks(
    sources: Sequence[Iterable[Mapping[str, Any]]],
    max_truncation: float,
    order: Callable[[BoolArray], npt.NDArray[np.int8]] | None,
) -> Iterator[tuple[BoolArray, int | None, int]]:
    """The masks of the complete objects, as `MaskBank.from_masks` takes them."""
    found = 0
    for source, rows in enumerate(sources):
        for row in rows:
            objects = row["objects"]
            if not objects:
                continue
            masks = np.stack([decode_rle(item["modal_mask"]) for item in objects])
            crowd = np.array([bool(item["is_crowd"]) for item in objects])
            matrix = None if order is None else order(masks)
            kept = complete_objects(masks, matrix, is_crowd=crowd, max_truncation=max_truncation)
            found += int(kept.sum())
            for index in np.flatnonzero(kept):
                yield masks[index], objects[index]["category_id"], source
    if not found:
        raise ValueError(
            "`sources` hold no complete mask: each is a crowd, is cut by the frame of its photo, or may have a "
            f"neighbour in front of it{'' if order is not None else ', since no order is known'}."
        )


def _squeeze(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    """(N, s, s) bool: the cells that a mask covers for the most part; of a mask that covers none so, all it touches."""
    crops = crop_to_boxes(masks, boxes, size)
    solid = crops > 0.5
    return torch.where(solid.any(dim=2).any(dim=1)[:, None, None], solid, crops > 0)


def _pack_cells(cells: Tensor) -> npt.NDArray[np.uint64]:
    """(N, s, s) bool -> (N, s * s / 64) words."""
    return np.packbits(cells.flatten(1).numpy(), axis=1).view(np.uint64)


def _pack_pairs(
    partial: Tensor, whole: Tensor, size: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """The columns of a bank from (B, S, S) bool partial and whole masks; pairs without a visible pixel are left out."""
    seen = partial.any(dim=2).any(dim=1)
    partial, whole = partial[seen].cpu(), whole[seen].cpu()
    inner, outer = tight_boxes(partial), tight_boxes(whole)
    cells = _squeeze(whole, outer, size).numpy()
    relative = to_relative_boxes(outer, inner).numpy()
    return _pack_cells(_squeeze(partial, inner, size)), np.packbits(cells, axis=-1), relative
