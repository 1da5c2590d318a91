"""A bank of instance masks, packed so that whole data sets lie on the training device.

Every instance is kept as one square of bits, cut tightly around it, and is drawn into any number of training crops by
an affine map. 100,000 instances at 128² take 205 MB, so no training step reads a file or decodes a polygon.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...arguments.numeric import check_integer
from ...masks import BoolArray, decode_rle, mask_boxes

_BITS = 8


class MaskBank:
    """Instance masks as packed squares.

    Args:
        bits: (N, r, r / 8) uint8, each row of r pixels packed most significant bit first (`numpy.packbits`). The square
            has side `max(w, h)` and is centred on the box of the mask.
        box_sizes: (N, 2) float32, (w, h) of the tight boxes in pixels.
        category_ids: (N,) int64.
        sources: (N,) int64, which data set an instance comes from.
        pixels: (N, 3, p, p) uint8 RGB of the photos in the same squares, 0 outside of them; None without photos.

    Raises:
        ValueError: where the shapes do not belong together or there is no mask.

    Example:
        >>> mask = np.zeros((40, 60), dtype=bool)
        >>> mask[10:30, 20:50] = True
        >>> bank = MaskBank.from_masks([(mask, 7, 0)], resolution=16)
        >>> len(bank), bank.bits.shape, bank.box_sizes.tolist()
        (1, torch.Size([1, 16, 2]), [[30.0, 20.0]])
    """

    def __init__(
        self,
        bits: Tensor,
        box_sizes: Tensor,
        category_ids: Tensor,
        sources: Tensor,
        pixels: Tensor | None = None,
    ) -> None:
        if bits.ndim != 3 or bits.shape[1] != bits.shape[2] * _BITS or bits.dtype != torch.uint8:
            raise ValueError(
                f"`bits` must have shape (N, r, r / 8) and dtype uint8, got {tuple(bits.shape)} {bits.dtype}."
            )
        count = bits.shape[0]
        if count == 0:
            raise ValueError("`bits` holds no mask: the sources have none that the filters let through.")
        if box_sizes.shape != (count, 2) or category_ids.shape != (count,) or sources.shape != (count,):
            raise ValueError(f"`box_sizes`, `category_ids` and `sources` must describe the {count} masks of `bits`.")
        if pixels is not None and (
            pixels.shape != (count, 3, *pixels.shape[-1:] * 2) or pixels.dtype != torch.uint8 or not pixels.numel()
        ):
            raise ValueError(
                f"`pixels` must have shape ({count}, 3, p, p) and dtype uint8, "
                f"got {tuple(pixels.shape)} {pixels.dtype}."
            )
        self.bits = bits
        self.box_sizes = box_sizes
        self.category_ids = category_ids
        self.sources = sources
        self.pixels = pixels

    def __len__(self) -> int:
        return self.bits.shape[0]

    @property
    def resolution(self) -> int:
        """Side r of the stored squares in pixels."""
        return self.bits.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the masks lie, and where crops of them are drawn."""
        return self.bits.device

    def to(self, device: torch.device | str) -> "MaskBank":
        """The same bank on another device."""
        return self._with(lambda tensor: tensor.to(device))

    def subset(self, indices: Tensor) -> "MaskBank":
        """The instances at `indices` (M,) int64."""
        return self._with(lambda tensor: tensor[indices.to(tensor.device)])

    def _with(self, change: Callable[[Tensor], Tensor]) -> "MaskBank":
        pixels = None if self.pixels is None else change(self.pixels)
        bits, sizes, ids, sources = map(change, (self.bits, self.box_sizes, self.category_ids, self.sources))
        return MaskBank(bits, sizes, ids, sources, pixels)

    @classmethod
    def from_sources(
        cls,
        sources: Sequence[Iterable[Mapping[str, Any]]],
        *,
        resolution: int = 256,
        min_area: int = 100,
        keep_crowd: bool = False,
        max_truncation: float = 1.0,
    ) -> "MaskBank":
        """Collect the modal masks of one or many data sets in the common schema.

        Args:
            sources: the rows of each data set (`datasets.Dataset`, or any iterable of rows); `objects` is read.
            resolution: side of the stored squares, a multiple of 8; the sample size of the network serves.
            min_area: instances of fewer visible pixels are left out; at least 1.
            keep_crowd: keep crowd regions, which are no single object.
            max_truncation: leave out instances of which more than this share of the box's outline lies on the frame of
                the photo (1 keeps all, as the published training does; 0.3 drops objects cut off along a whole side).

        Returns:
            The bank, on the CPU. An object without a category gets 1, as [Z20] does for COCOA.

        Raises:
            TypeError: where one of them is no integer.
            ValueError: where `resolution` is no multiple of 8, `min_area` is below 1, or no instance is left.
        """
        masks = (
            (decode_rle(item["modal_mask"]), item["category_id"], source)
            for source, rows in enumerate(sources)
            for row in rows
            for item in row["objects"]
            if keep_crowd or not item["is_crowd"]
        )
        return cls.from_masks(masks, resolution=resolution, min_area=min_area, max_truncation=max_truncation)

    @classmethod
    def from_masks(
        cls,
        masks: Iterable[tuple[BoolArray, int | None, int]],
        *,
        resolution: int = 256,
        min_area: int = 100,
        max_truncation: float = 1.0,
    ) -> "MaskBank":
        """Collect masks that are decoded already.

        Args:
            masks: each an (H, W) bool mask of a whole photo, its category id or None, and the number of its data set.
            resolution: see `from_sources`.
            min_area: see `from_sources`.
            max_truncation: see `from_sources`.

        Raises:
            ValueError: see `from_sources`.
        """
        if check_integer("resolution", resolution) < _BITS or resolution % _BITS:
            raise ValueError(f"`resolution` must be a positive multiple of {_BITS}, got {resolution}.")
        check_integer("min_area", min_area, 1)
        bits: list[np.ndarray] = []
        sizes: list[tuple[int, int]] = []
        categories: list[int] = []
        origins: list[int] = []
        for mask, category, source in masks:
            x, y, width, height = (int(value) for value in mask_boxes(mask[None])[0])
            area = np.count_nonzero(mask[y : y + height, x : x + width])
            if area < min_area or _truncation(mask, width, height) > max_truncation:
                continue
            bits.append(np.packbits(_tight_square(mask, x, y, width, height, resolution), axis=-1))
            sizes.append((width, height))
            categories.append(1 if category is None else category)
            origins.append(source)
        packed = np.stack(bits) if bits else np.zeros((0, resolution, resolution // _BITS), np.uint8)
        return cls(
            torch.from_numpy(packed),
            torch.tensor(sizes, dtype=torch.float32).reshape(-1, 2),
            torch.tensor(categories, dtype=torch.int64),
            torch.tensor(origins, dtype=torch.int64),
        )


def _truncation(mask: BoolArray, width: int, height: int) -> float:
    """Share of the four sides of the mask's box that are mask pixels on the frame of the photo, in [0, 1]."""
    touching = mask[0].sum() + mask[-1].sum() + mask[:, 0].sum() + mask[:, -1].sum()
    return float(touching) / float(2 * (width + height))


def _tight_square(mask: BoolArray, x: int, y: int, width: int, height: int, resolution: int) -> BoolArray:
    """Nearest resampling of the square of side max(w, h) around the box, zero where it leaves the photo."""
    side = max(width, height)
    cells = (np.arange(resolution) + 0.5) / resolution * side
    columns = np.floor(cells + x + (width - side) / 2).astype(int)
    rows = np.floor(cells + y + (height - side) / 2).astype(int)
    inside = ((rows >= 0) & (rows < mask.shape[0]))[:, None] & ((columns >= 0) & (columns < mask.shape[1]))
    square = mask[rows.clip(0, mask.shape[0] - 1)[:, None], columns.clip(0, mask.shape[1] - 1)]
    return square & inside
