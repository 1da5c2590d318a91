"""Training from a stream: data sets that are read once, row by row, and of which nothing is kept on disk."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any


def add_streaming_flag(group: argparse._ArgumentGroup) -> None:
    """`--streaming`."""
    group.add_argument(
        "--streaming", action="store_true", help="Read the data sets as streams: nothing of them is stored on disk."
    )


class CountedRows:
    """Rows of a stream, whose number is known once they have passed.

    Args:
        rows: anything that can be read again and again, such as an `IterableDataset`.
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
    """
    every = max(2, round(1 / fraction))

    def part(held_out: bool) -> CountedRows:
        def keep(_: Any, index: int) -> bool:
            return (index % every == 0) is held_out

        # Of one column alone, so that no photo is decoded to be left out.
        return CountedRows(rows.filter(keep, with_indices=True, input_columns=["image_id"]))

    return part(False), part(True)
