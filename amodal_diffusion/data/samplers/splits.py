"""What is trained on and what is held out: masks, photos, and data sets that are read as streams."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from ..synthesis import MaskBank


class CountedRows:
    """Rows of a stream, whose number is known once they have passed.

    Args:
        rows: anything that can be read again and again, such as an `IterableDataset`.

    Example:
        >>> rows = CountedRows([{"image_id": "1"}, {"image_id": "2"}])
        >>> len(rows), [row["image_id"] for row in rows], len(rows)
        (0, ['1', '2'], 2)
    """

    def __init__(self, rows: Any) -> None:
        self.rows = rows
        self.count = 0

    def __len__(self) -> int:
        """How many rows the last pass had, so far; 0 before."""
        return self.count

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        self.count = 0
        for row in self.rows:
            self.count += 1
            yield row


def split_stream(rows: Any, fraction: float) -> tuple[CountedRows, CountedRows]:
    """Rows for training and for validation: always the same ones, the first and then every k-th are held out.

    Args:
        rows: an `IterableDataset` of the schema.
        fraction: share that is held out, in (0, 1).

    Example:
        >>> from datasets import Dataset
        >>> stream = Dataset.from_dict({"image_id": ["1", "2", "3", "4"]}).to_iterable_dataset()
        >>> training, held_out = split_stream(stream, 0.25)
        >>> [row["image_id"] for row in training], [row["image_id"] for row in held_out]
        (['2', '3', '4'], ['1'])
    """
    every = max(2, round(1 / fraction))

    def part(held_out: bool) -> CountedRows:
        def keep(_: Any, index: int) -> bool:
            return (index % every == 0) is held_out

        # Of one column alone, so that no photo is decoded to be left out.
        return CountedRows(rows.filter(keep, with_indices=True, input_columns=["image_id"]))

    return part(False), part(True)


def split_photos(rows: Any, fraction: float) -> tuple[Any, Any]:
    """Photos for training and for validation: always the same ones.

    Raises:
        ValueError: a single photo.

    Example:
        >>> from datasets import Dataset
        >>> training, held_out = split_photos(Dataset.from_dict({"image_id": list("123456789")}), 0.25)
        >>> len(training), len(held_out)
        (7, 2)
    """
    from datasets import IterableDataset

    if isinstance(rows, IterableDataset):
        return split_stream(rows, fraction)
    shuffled = np.random.default_rng(0).permutation(len(rows))
    held_out = max(1, int(len(rows) * fraction))
    if held_out >= len(rows):
        raise ValueError(f"`rows` must have at least 2 photos to hold some out, got {len(rows)}.")
    return rows.select(sorted(shuffled[held_out:])), rows.select(sorted(shuffled[:held_out]))


def split_bank(bank: MaskBank, fraction: float) -> tuple[MaskBank, MaskBank]:
    """Masks for training and for validation: always the same ones; at least one is held out.

    Example:
        >>> bank = MaskBank.from_masks([(np.ones((20, 30), dtype=bool), 1, 0)] * 9, resolution=16)
        >>> [len(part) for part in split_bank(bank, 0.25)]
        [7, 2]
    """
    shuffled = torch.randperm(len(bank), generator=torch.Generator().manual_seed(0))
    held_out = max(1, int(len(bank) * fraction))
    return bank.subset(shuffled[held_out:]), bank.subset(shuffled[:held_out])
