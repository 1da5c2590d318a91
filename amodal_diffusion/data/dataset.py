"""Saving, loading and publishing data sets of the schema, as Parquet."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from ..files import atomic_folder
from ..hub import check_repo_id, is_hub_id, push_folder
from .cards import dataset_card
from .parquet import SHARD_BYTES, check_shard_bytes, check_splits, check_target, dataset_tables, write_shards
from .photos import photo_in
from .schema import amodal_features, has_depth

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, Features, IterableDataset

SHARD_NAME = re.compile(r"(?P<split>\w+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.parquet")
_CHECKED_ROWS = 1000
PHOTO_FOLDER = "photos"
"""Folder of a converted data set whose photos lie beside the shards, with a folder for each split."""


def save_parquet(
    dataset: Dataset | DatasetDict,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    max_shard_bytes: int = SHARD_BYTES,
) -> list[Path]:
    """Write a data set as Parquet shards `data/<split>-00000-of-0000n.parquet`, photos embedded.

    The shards are written beside `data` and renamed into place when all are complete. A folder laid out like this is
    what `load_amodal_dataset` reads and what the Hub shows as a data set.

    Args:
        dataset: rows of `amodal_features`; types that stand for these, as `Dataset.from_list` makes them, are cast. A
            `Dataset` without split is written as "train", one of a part of a split ("train[:100]") as that split.
        folder: created if missing; other files in it stay.
        overwrite: replace the shards that are there, those of other splits too.
        max_shard_bytes: about how large a shard is before compression.

    Returns:
        The files written.

    Raises:
        FileExistsError: `data` is there and `overwrite` is False, or it holds other files than Parquet.
        ValueError: the data set lacks columns of the schema, or their types or values are others; a split has no rows,
            or a name that is no word; there is no split.

    Example:
        >>> from amodal_diffusion.data import read_annotations
        >>> content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 4}], "annotations": []}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in save_parquet(read_annotations(content), folder)]
        ['train-00000-of-00001.parquet']
    """
    target = Path(folder) / "data"
    check_shard_bytes(max_shard_bytes)
    check_target(target, overwrite)
    splits = {split: _as_schema(part, f"split {split!r}") for split, part in _splits(dataset).items()}
    with atomic_folder(target) as beside:
        names = [
            name
            for split, part in splits.items()
            for name in write_shards(dataset_tables(part), part.features, beside, split, max_shard_bytes)
        ]
    return [target / name for name in names]


@overload
def load_amodal_dataset(
    path_or_id: str | os.PathLike[str],
    split: str | None = ...,
    streaming: Literal[False] = ...,
    *,
    images: str | os.PathLike[str] | None = ...,
    revision: str | None = ...,
    cache_dir: str | os.PathLike[str] | None = ...,
) -> Dataset: ...
@overload
def load_amodal_dataset(
    path_or_id: str | os.PathLike[str],
    split: str | None = ...,
    *,
    streaming: Literal[True],
    images: str | os.PathLike[str] | None = ...,
    revision: str | None = ...,
    cache_dir: str | os.PathLike[str] | None = ...,
) -> IterableDataset: ...


def load_amodal_dataset(
    path_or_id: str | os.PathLike[str],
    split: str | None = None,
    streaming: bool = False,
    *,
    images: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset | IterableDataset:
    """Load a data set of the schema from Parquet files or from the Hub.

    Args:
        path_or_id: Parquet file, folder written by `save_parquet` (or any folder of Parquet files), or Hub id.
        split: may be left out where there is only one.
        streaming: read rows as they are asked for (`IterableDataset`), instead of converting all first.
        images: folder of the photos of a data set that has none in it, found there by `file_name`. None takes
            `photos/<split>` in the folder, where `amodal-diffusion dataset convert --photos beside` puts them.
        revision: branch, tag or commit on the Hub.
        cache_dir: folder for the Arrow files; the cache of `datasets` if None.

    Raises:
        FileNotFoundError: no such file or folder, and no Hub id either; a folder without Parquet files.
        NotADirectoryError: `images` is no folder.
        ValueError: the split is not there, or must be named; a file that is no whole Parquet, or shards that lack, by
            the numbers in their names; the data set is not of the schema, or lacks a value that every row has (of a
            stream only the columns are looked at); `images` for a data set that has its photos in it, or a file name
            that leads out of that folder.

    Example:
        >>> from amodal_diffusion.data import read_annotations
        >>> content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 4}], "annotations": []}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = save_parquet(read_annotations(content), folder)
        ...     next(iter(load_amodal_dataset(folder, streaming=True)))["file_name"]
        '1.jpg'
    """
    from datasets import load_dataset

    cache = None if cache_dir is None else os.fspath(cache_dir)
    if is_hub_id(path_or_id):
        parts = load_dataset(os.fspath(path_or_id), streaming=streaming, revision=revision, cache_dir=cache)
    else:
        files = _parquet_files(Path(path_or_id))
        for file in chain.from_iterable(files.values()):
            _check_parquet(file)
        parts = load_dataset("parquet", data_files=files, streaming=streaming, cache_dir=cache)
    if split is None and len(parts) == 1:
        split = next(iter(parts))
    if split not in parts:
        raise ValueError(f"split must be one of {sorted(parts)} of {os.fspath(path_or_id)!r}, got {split!r}")
    part = _as_schema(parts[split], repr(os.fspath(path_or_id)))
    beside = Path(path_or_id) / PHOTO_FOLDER / str(split)
    if images is None and "image" not in part.column_names and beside.is_dir():
        images = beside
    return part if images is None else _with_photos(part, Path(images))


def push_dataset(
    dataset: Dataset | DatasetDict,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
    license: str | None = None,  # noqa: A002 - the Hub's word
    description: str | None = None,
    max_shard_bytes: int = SHARD_BYTES,
) -> str:
    """Publish a data set on the Hub as Parquet with a data-set card (counts, licences, citations), in one commit.

    Args:
        dataset: rows of `amodal_features`.
        repo_id: "user/name"; created if it does not exist. Parquet files of an earlier push are deleted.
        private: make the repository private where it is made.
        token: access token; the stored one if None.
        revision: branch to commit to.
        license: the Hub's name of the licence; if None the card says "other" and gives the notes of each source.
        description: first paragraph of the card.
        max_shard_bytes: see `save_parquet`.

    Returns:
        URL of the commit.

    Raises:
        ValueError: the data set lacks columns of the schema, or `repo_id` is no Hub id.

    Example:
        >>> push_dataset(None, "no id")
        Traceback (most recent call last):
            ...
        ValueError: `repo_id` must be of the form 'user/name', got 'no id'.
    """
    check_repo_id(repo_id)
    with tempfile.TemporaryDirectory(prefix="amodal_diffusion-") as temporary:
        folder = Path(temporary) / "repository"
        save_parquet(dataset, folder, max_shard_bytes=max_shard_bytes)
        card = dataset_card(_splits(dataset), repo_id, license=license, description=description)
        (folder / "README.md").write_text(card, encoding="utf-8")
        return push_parquet(folder, repo_id, private=private, token=token, revision=revision)


def push_parquet(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
) -> str:
    """Publish the card and the shards of a folder that `save_parquet` or `convert_dataset` wrote, in one commit.

    Of a data set of rendered rooms the depth and hidden colours under `layers` go with it, and the card's pictures.

    Args:
        folder: holds `README.md` and `data`.
        repo_id: see `push_dataset`.
        private: see `push_dataset`.
        token: see `push_dataset`.
        revision: see `push_dataset`.

    Returns:
        URL of the commit.

    Raises:
        ValueError: `repo_id` is no Hub id.

    Example:
        >>> push_folder("converted/", "no id")
        Traceback (most recent call last):
            ...
        ValueError: `repo_id` must be of the form 'user/name', got 'no id'.
    """
    check_repo_id(repo_id)
    return push_folder(
        folder,
        repo_id,
        repo_type="dataset",
        private=private,
        token=token,
        revision=revision,
        message="Upload amodal data set",
        allow=["README.md", "data/*.parquet", "layers/*.zip", "*.jpg", "rooms.json"],
        delete=["data/*.parquet", "layers/*.zip"],
    )


def _parquet_files(path: Path) -> dict[str, list[str]]:
    """Parquet files by split: that in the file name, as `save_parquet` and the Hub write it, else "train"."""
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder, and no Hub id: {os.fspath(path)!r}")
    found = [path] if path.is_file() else _files_below(path)
    if not found:
        raise FileNotFoundError(f"folder {os.fspath(path)!r} has no Parquet files")
    if path.is_dir() and (lacks := lacking_shards(found)):
        more = f" and {len(lacks) - 1} more" if len(lacks) > 1 else ""
        raise ValueError(f"folder {os.fspath(path)!r} lacks the shard {lacks[0]!r}{more}; name a file to read it alone")
    files: dict[str, list[str]] = {}
    for file in found:
        match = SHARD_NAME.fullmatch(file.name)
        files.setdefault(match["split"] if match else "train", []).append(os.fspath(file))
    return files


def lacking_shards(files: Iterable[Path]) -> list[str]:
    """Names of the shards that are not among some files, by the numbers in their names.

    Example:
        >>> lacking_shards([Path("data/train-00000-of-00003.parquet"), Path("data/train-00002-of-00003.parquet")])
        ['train-00001-of-00003.parquet']
    """
    found: dict[tuple[Path, str, int], set[int]] = {}
    for file in files:
        if match := SHARD_NAME.fullmatch(file.name):
            found.setdefault((file.parent, match["split"], int(match["count"])), set()).add(int(match["number"]))
    return [
        f"{split}-{number:05d}-of-{count:05d}.parquet"
        for (_, split, count), numbers in found.items()
        for number in sorted(set(range(count)) - numbers)
    ]


def _check_parquet(file: str) -> None:
    """Refuse a file that is none, or is cut short, by its name, of which pyarrow says nothing."""
    import pyarrow
    from pyarrow import parquet

    try:
        parquet.read_metadata(file)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{file!r} is no whole Parquet file: {str(error).splitlines()[0]}") from error


def _files_below(folder: Path) -> list[Path]:
    """The Parquet files of a folder, sorted; photos beside `data` are not looked through."""
    found = [*folder.glob("*.parquet"), *(folder / "data").rglob("*.parquet")] or folder.rglob("*.parquet")
    return sorted(file for file in found if not file.name.startswith("._"))


def _splits(dataset: Dataset | DatasetDict) -> dict[str, Dataset]:
    from datasets import Dataset, DatasetDict

    if isinstance(dataset, DatasetDict):
        check_splits(map(str, dataset))
        return {str(split): part for split, part in dataset.items()}
    if not isinstance(dataset, Dataset):
        raise TypeError(f"dataset must be a datasets.Dataset or DatasetDict, got {type(dataset).__name__}")
    # A part of a split is called by an expression, such as "train[:100]" or "train+test".
    split = re.split(r"[\[+]", str(dataset.split or "train"), maxsplit=1)[0]
    check_splits([split])
    return {split: dataset}


def _check_columns(names: list[str] | None, what: str) -> None:
    missing = sorted(set(amodal_features()) - set(names or []))
    if missing:
        raise ValueError(f"{what} is not an amodal data set: it lacks the columns {missing}")


def _as_schema(part: Any, what: str) -> Any:
    """The columns of the schema, as it has them; `what` stands for the data set in errors."""
    from datasets import Dataset

    _check_columns(part.column_names, what)
    features = amodal_features(with_image="image" in part.column_names, with_depth=has_depth(part.features))
    part = part.select_columns(list(features))
    if part.features != features:
        part = _cast(part, features, what)
    if isinstance(part, Dataset):
        check_rows(part, what)
    return part


def _cast(part: Any, features: Features, what: str) -> Any:
    from datasets import Dataset
    from datasets.table import CastError
    from pyarrow import ArrowException

    if not isinstance(part, Dataset):
        return part.cast(features)
    try:
        return part.cast(features)
    except (ArrowException, CastError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{what} is not an amodal data set: its columns have other types: {reason}") from error


def check_rows(part: Dataset, what: str) -> None:
    """Refuse rows without a column of the schema or without what every row has, or whose frame is none.

    Args:
        part: of whatever columns; of the types of the schema.
        what: stands for it in errors.

    Raises:
        ValueError: naming the column.

    Example:
        >>> from datasets import Dataset
        >>> check_rows(Dataset.from_dict({name: [None] for name in amodal_features()}), "`rows`")
        Traceback (most recent call last):
            ...
        ValueError: `rows`: the column 'image_id' has no value in 1 of 1 rows
    """
    import pyarrow.compute as compute

    _check_columns(part.column_names, what)
    shown = part.select_columns(["image_id", "file_name", "height", "width", "objects", "source"])
    lacks, least = Counter[str](), dict.fromkeys(("height", "width"), 1)
    for table in shown.with_format("arrow").iter(_CHECKED_ROWS):
        lacks.update({name: table[name].null_count for name in table.column_names})
        least |= {
            name: min(value, compute.min(table[name]).as_py())
            for name, value in least.items()
            if not table[name].null_count
        }
    for name, count in lacks.items():
        if count:
            raise ValueError(f"{what}: the column {name!r} has no value in {count} of {len(part)} rows")
    for name, value in least.items():
        if value < 1:
            raise ValueError(f"{what}: the column {name!r} must be positive, got {value}")


def _with_photos(part: Any, folder: Path) -> Any:
    from datasets import Image, IterableDataset

    if "image" in part.column_names:
        raise ValueError(f"images must be None for a data set with photos in it, got {os.fspath(folder)!r}")
    if not folder.is_dir():
        raise NotADirectoryError(f"images must be a folder of photos, got {os.fspath(folder)!r}")
    if isinstance(part, IterableDataset):
        # Not `map(features=...)`, after which `datasets` decodes no photos.
        with_depth = has_depth(part.features)
        part = part.map(lambda row: {"image": photo_in(folder, row["file_name"])["path"]})
        return part.cast(amodal_features(with_image=True, with_depth=with_depth))
    paths = [photo_in(folder, name)["path"] for name in part["file_name"]]
    return part.add_column("image", paths).cast_column("image", Image())
