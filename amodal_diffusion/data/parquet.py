"""Parquet shards of the schema, written batch by batch and moved into place when all are complete."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset, Features

SHARD_BYTES = 500 * 2**20
PHOTO_BATCH, ROW_BATCH = 64, 1000
"""Rows written at a time with and without photos, which are also the row groups that streaming reads."""


def dataset_tables(dataset: Dataset) -> Iterator[pyarrow.Table]:
    """Iterate over a data set as Arrow tables, one for each batch of rows.

    Example:
        >>> from datasets import Dataset
        >>> [table.num_rows for table in dataset_tables(Dataset.from_dict({"id": [1, 2, 3]}))]
        [3]
    """
    yield from dataset.with_format("arrow").iter(_batch_size(dataset.features))


def row_tables(rows: Iterable[dict[str, Any]], features: Features) -> Iterator[pyarrow.Table]:
    """Turn rows into Arrow tables, one for each batch; columns that `features` does not have are left out.

    Example:
        >>> from datasets import Features, Value
        >>> [table.to_pydict() for table in row_tables([{"id": 1, "else": 2}], Features({"id": Value("int32")}))]
        [{'id': [1]}]
    """
    import pyarrow

    stream = iter(rows)
    while batch := list(islice(stream, _batch_size(features))):
        if "image" in features:
            batch = [{**row, "image": features["image"].encode_example(row["image"])} for row in batch]
        yield pyarrow.Table.from_pylist(batch, schema=features.arrow_schema)


def write_shards(
    tables: Iterable[pyarrow.Table], features: Features, folder: Path, split: str, max_shard_bytes: int
) -> list[str]:
    """Write the tables of a split as shards, with the photo files in them.

    Args:
        tables: Arrow tables of `features`.
        features: the columns.
        folder: an existing folder.
        split: name of the split.
        max_shard_bytes: about how large a shard is before compression.

    Returns:
        The names of the shards.

    Raises:
        ValueError: there are no rows; `datasets` cannot read a split without any.

    Example:
        >>> from datasets import Features, Value
        >>> features = Features({"id": Value("int32")})
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_shards(row_tables([{"id": 1}], features), features, Path(folder), "train", SHARD_BYTES)
        ['train-00000-of-00001.parquet']
    """
    import pyarrow.parquet as parquet
    from datasets.table import embed_table_storage

    shards: list[Path] = []
    writer, room = None, 0
    try:
        for table in tables:
            table = embed_table_storage(table)
            if writer is None or table.nbytes > room:
                if writer is not None:
                    writer.close()
                shards.append(folder / str(len(shards)))
                writer, room = parquet.ParquetWriter(shards[-1], features.arrow_schema), max_shard_bytes
            writer.write_table(table.cast(features.arrow_schema))
            room -= table.nbytes
    finally:
        if writer is not None:
            writer.close()
    if not shards:
        raise ValueError(f"split {split!r} has no rows")
    names = [f"{split}-{index:05d}-of-{len(shards):05d}.parquet" for index in range(len(shards))]
    for shard, name in zip(shards, names, strict=True):
        os.replace(shard, folder / name)
    return names


def check_shard_bytes(max_shard_bytes: int) -> None:
    """Refuse a size of shards that is none.

    Example:
        >>> check_shard_bytes(SHARD_BYTES)
    """
    if not max_shard_bytes >= 1:
        raise ValueError(f"max_shard_bytes must be positive, got {max_shard_bytes}")


def check_splits(names: Iterable[str]) -> None:
    """Check the names of splits, by which their files are found again.

    Raises:
        ValueError: there are none, or one is no word.

    Example:
        >>> check_splits(["train", "test"])
    """
    names = list(names)
    if not names:
        raise ValueError("splits must have at least one split")
    for name in names:
        if not (name.isidentifier() and name.isascii()):
            raise ValueError(f"a split must be a word of letters, digits and _, got {name!r}")


def check_new(path: Path, overwrite: bool) -> None:
    """Check that a file or folder may be written, before the work.

    Raises:
        FileExistsError: it is there, without `overwrite`.

    Example:
        >>> check_new(Path("a card that does not exist"), overwrite=False)
    """
    if path.exists() and not overwrite:
        raise FileExistsError(f"{os.fspath(path)!r} exists; pass overwrite=True to replace it")


def check_target(target: Path, overwrite: bool, suffix: str = ".parquet") -> None:
    """Check that a folder may be written, before the work.

    Raises:
        FileExistsError: without `overwrite`, or where it holds files of another suffix ("" allows any).

    Example:
        >>> check_target(Path("a folder that does not exist"), overwrite=False)
    """
    check_new(target, overwrite)
    if not target.exists():
        return
    others = [target] if target.is_file() else [path for path in target.iterdir() if suffix and path.suffix != suffix]
    if others:
        raise FileExistsError(f"{os.fspath(others[0])!r} is no Parquet file and is not overwritten")


def _batch_size(features: Features) -> int:
    return PHOTO_BATCH if "image" in features else ROW_BATCH
