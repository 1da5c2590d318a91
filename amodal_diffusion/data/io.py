"""Data sets on disk and on the Hub: any annotation file in, Parquet out, and back."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from huggingface_hub import HfApi

from .card import dataset_card
from .coco import Layout, detect_layout, read_coco
from .cocoa import read_cocoa
from .records import AnnotationFile, Annotations, BadRecord, OnError, load_annotations
from .schema import amodal_features

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset

Format = Literal["auto", "coco", "cocoa", "cocoa-cls", "kins", "parquet"]
FORMATS = ("coco", "cocoa", "cocoa-cls", "kins", "parquet")
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
SHARD_NAME = re.compile(r"(?P<split>\w+)-\d{5}-of-\d{5}\.parquet")
SHARD_BYTES = 500 * 2**20
PHOTO_BATCH, ROW_BATCH = 64, 1000
"""Rows written at a time with and without photos, which are also the row groups that streaming reads."""


def detect_format(
    annotations: Annotations,
) -> Literal["coco", "cocoa", "cocoa-cls", "kins", "parquet"]:
    """Format of a source of annotations.

    Args:
        annotations: JSON file or its content, Parquet file or folder of them, Hub id of a data set.

    Returns:
        "parquet" for a Parquet file, a folder or a Hub id; "cocoa" where annotations have `regions`; else the layout
        of a COCO-flat file (see `iter_coco`), "coco" for a file without annotations.

    Raises:
        FileNotFoundError: no such file, and no Hub id either.
        AnnotationError: the file is broken.
    """
    if isinstance(annotations, (str, os.PathLike)) and _is_parquet(annotations):
        return "parquet"
    return _format_of(load_annotations(annotations))


def read_annotations(
    annotations: Annotations,
    images: str | os.PathLike[str] | None = None,
    *,
    format: Format = "auto",  # noqa: A002 - the word of the command line
    split: str | None = None,
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
    source: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Read annotations of any known format into a `datasets.Dataset` of `amodal_features`.

    Args:
        annotations: JSON file or its content, Parquet file or folder of them, Hub id of a data set.
        images: folder of the photos of a JSON file; None leaves the column `image` out. Parquet has its own photos.
        format: "coco", "cocoa", "cocoa-cls" (D2SA too), "kins", "parquet", or "auto" to look into the file.
        split: see `load_amodal_dataset`; only for Parquet.
        on_error: "raise" refuses the first bad record of a JSON file; "skip" leaves it out, its image stays.
        bad_records: list that takes the records skipped.
        source: name of the data set for the column `source`; the file's name without extension where None. Parquet has
            its own.
        cache_dir: folder for the Arrow files; None takes a temporary one that lasts as long as the process, for
            Parquet the cache of `datasets`.

    Raises:
        FileNotFoundError, NotADirectoryError: `annotations` or `images` is not there.
        AnnotationError: the file is broken, or a record is bad and `on_error` is "raise".
        ValueError: unknown `format` or `on_error`; `images` with Parquet, `split` without it.
    """
    if format not in ("auto", *FORMATS):
        raise ValueError(f"format must be 'auto' or one of {list(FORMATS)}, got {format!r}")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
    path = annotations if isinstance(annotations, (str, os.PathLike)) else None
    if format == "parquet" and path is None:
        raise ValueError(f"format 'parquet' needs a path or a Hub id, got {type(annotations).__name__}")
    if path is not None and (format == "parquet" or (format == "auto" and _is_parquet(path))):
        if images is not None:
            raise ValueError(f"images must be None for Parquet, which has its own photos, got {os.fspath(images)!r}")
        return load_amodal_dataset(path, split, cache_dir=cache_dir)
    if split is not None:
        raise ValueError(f"split must be None for an annotation file, got {split!r}")
    file = load_annotations(annotations)
    layout = _format_of(file) if format == "auto" else format
    options: dict[str, Any] = {
        "on_error": on_error,
        "bad_records": bad_records,
        "source": source,
        "cache_dir": cache_dir,
    }
    if layout == "cocoa":
        return read_cocoa(file, images, **options)
    return read_coco(file, images, layout=cast(Layout, layout), **options)


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
        dataset: rows of `amodal_features`; a `Dataset` without split is written as "train".
        folder: made where it lacks; other files in it stay.
        overwrite: replace the shards that are there, those of other splits too.
        max_shard_bytes: about how large a shard is before compression.

    Returns:
        The files written.

    Raises:
        FileExistsError: `data` is there and `overwrite` is False, or it holds other files than Parquet.
        ValueError: the data set lacks columns of the schema, or a split has no rows.
    """
    target = Path(folder) / "data"
    if max_shard_bytes < 1:
        raise ValueError(f"max_shard_bytes must be positive, got {max_shard_bytes}")
    _check_target(target, overwrite)
    splits = _splits(dataset)
    for split, part in splits.items():
        _check_columns(part.column_names, f"split {split!r}")
        if not len(part):  # `datasets` cannot read a Parquet file without rows
            raise ValueError(f"split {split!r} has no rows")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(target) as beside:
        names = [name for split, part in splits.items() for name in _write_shards(part, beside, split, max_shard_bytes)]
    return [target / name for name in names]


@overload
def load_amodal_dataset(
    path_or_id: str | os.PathLike[str],
    split: str | None = ...,
    streaming: Literal[False] = ...,
    *,
    revision: str | None = ...,
    cache_dir: str | os.PathLike[str] | None = ...,
) -> Dataset: ...
@overload
def load_amodal_dataset(
    path_or_id: str | os.PathLike[str],
    split: str | None = ...,
    *,
    streaming: Literal[True],
    revision: str | None = ...,
    cache_dir: str | os.PathLike[str] | None = ...,
) -> IterableDataset: ...


def load_amodal_dataset(
    path_or_id: str | os.PathLike[str],
    split: str | None = None,
    streaming: bool = False,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset | IterableDataset:
    """Load a data set of the schema from Parquet files or from the Hub.

    Args:
        path_or_id: Parquet file, folder written by `save_parquet` (or any folder of Parquet files), or Hub id.
        split: may be left out where there is only one.
        streaming: read rows as they are asked for (`IterableDataset`), instead of converting all first.
        revision: branch, tag or commit on the Hub.
        cache_dir: folder for the Arrow files; the cache of `datasets` where None.

    Raises:
        FileNotFoundError: no such file or folder, and no Hub id either; a folder without Parquet files.
        ValueError: the split is not there, or must be named; the data set is not of the schema.
    """
    from datasets import load_dataset

    cache = None if cache_dir is None else os.fspath(cache_dir)
    if _is_hub_id(path_or_id):
        parts = load_dataset(os.fspath(path_or_id), streaming=streaming, revision=revision, cache_dir=cache)
    else:
        files = _parquet_files(Path(path_or_id))
        parts = load_dataset("parquet", data_files=files, streaming=streaming, cache_dir=cache)
    if split is None and len(parts) == 1:
        split = next(iter(parts))
    if split not in parts:
        raise ValueError(f"split must be one of {sorted(parts)} of {os.fspath(path_or_id)!r}, got {split!r}")
    return _as_schema(parts[split], os.fspath(path_or_id))


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
        repo_id: "user/name"; made where it does not exist. Parquet files of an earlier push are deleted.
        private: make the repository private where it is made.
        token: access token; the stored one where None.
        revision: branch to commit to.
        license: the Hub's name of the licence; where None the card says "other" and gives the notes of each source.
        description: first paragraph of the card.
        max_shard_bytes: see `save_parquet`.

    Returns:
        URL of the commit.

    Raises:
        ValueError: the data set lacks columns of the schema, or `repo_id` is no Hub id.
    """
    if not HUB_ID.fullmatch(repo_id):
        raise ValueError(f"repo_id must be of the form 'user/name', got {repo_id!r}")
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory(prefix="amodal_diffusion-") as temporary:
        folder = Path(temporary) / "repository"
        save_parquet(dataset, folder, max_shard_bytes=max_shard_bytes)
        card = dataset_card(_splits(dataset), repo_id, license=license, description=description)
        (folder / "README.md").write_text(card, encoding="utf-8")
        api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=os.fspath(folder),
            revision=revision,
            commit_message="Upload amodal data set",
            delete_patterns=["data/*.parquet"],
        )
    return str(commit.commit_url)


def _format_of(file: AnnotationFile) -> Literal["coco", "cocoa", "cocoa-cls", "kins"]:
    return "cocoa" if file.has_field("regions") else detect_layout(file)


def _is_hub_id(path: str | os.PathLike[str]) -> bool:
    text = os.fspath(path)
    suffix = Path(text).suffix.lower()
    return HUB_ID.fullmatch(text) is not None and suffix not in (".json", ".parquet") and not os.path.exists(text)


def _is_parquet(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix == ".parquet" or Path(path).is_dir() or _is_hub_id(path)


def _parquet_files(path: Path) -> dict[str, list[str]]:
    """Parquet files by split: that in the file name, as `save_parquet` and the Hub write it, else "train"."""
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder, and no Hub id: {os.fspath(path)!r}")
    found = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if not found:
        raise FileNotFoundError(f"folder {os.fspath(path)!r} has no Parquet files")
    files: dict[str, list[str]] = {}
    for file in found:
        match = SHARD_NAME.fullmatch(file.name)
        files.setdefault(match["split"] if match else "train", []).append(os.fspath(file))
    return files


def _splits(dataset: Dataset | DatasetDict) -> dict[str, Dataset]:
    from datasets import Dataset, DatasetDict

    if isinstance(dataset, DatasetDict):
        return {str(split): part for split, part in dataset.items()}
    if not isinstance(dataset, Dataset):
        raise TypeError(f"dataset must be a datasets.Dataset or DatasetDict, got {type(dataset).__name__}")
    return {str(dataset.split or "train"): dataset}


def _check_columns(names: list[str] | None, what: str) -> None:
    missing = sorted(set(amodal_features()) - set(names or []))
    if missing:
        raise ValueError(f"{what} is not an amodal data set: it lacks the columns {missing}")


def _as_schema(part: Any, name: str) -> Any:
    _check_columns(part.column_names, repr(name))
    features = amodal_features(with_image="image" in part.column_names)
    part = part.select_columns(list(features))
    return part if part.features == features else part.cast(features)


def _write_shards(dataset: Dataset, folder: Path, split: str, max_shard_bytes: int) -> list[str]:
    """Write one split a batch at a time; a shard ends when it is full. Returns the names of the shards."""
    import pyarrow.parquet as parquet
    from datasets.table import embed_table_storage

    columns = [name for name in amodal_features(with_image=True) if name in dataset.column_names]
    dataset = dataset.select_columns(columns)
    batch_size = PHOTO_BATCH if "image" in dataset.column_names else ROW_BATCH
    shards: list[Path] = []
    writer, room = None, 0
    try:
        for table in dataset.with_format("arrow").iter(batch_size):
            table = embed_table_storage(table)
            if writer is None or table.nbytes > room:
                if writer is not None:
                    writer.close()
                shards.append(folder / str(len(shards)))
                writer, room = parquet.ParquetWriter(shards[-1], dataset.features.arrow_schema), max_shard_bytes
            writer.write_table(table.cast(dataset.features.arrow_schema))
            room -= table.nbytes
    finally:
        if writer is not None:
            writer.close()
    names = [f"{split}-{index:05d}-of-{len(shards):05d}.parquet" for index in range(len(shards))]
    for shard, name in zip(shards, names, strict=True):
        os.replace(shard, folder / name)
    return names


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{os.fspath(target)!r} exists; pass overwrite=True to replace it")
    others = [target] if target.is_file() else [path for path in target.iterdir() if path.suffix != ".parquet"]
    if others:
        raise FileExistsError(f"{os.fspath(others[0])!r} is no Parquet file and is not overwritten")


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A new folder beside `target`, which it becomes when the block ends without error."""
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    old = beside.with_name(f"{beside.name}-old")
    try:
        yield beside
        beside.chmod(0o755)  # mkdtemp makes it private
        if target.exists():
            os.replace(target, old)
        os.replace(beside, target)
    finally:
        if old.exists() and not target.exists():
            os.replace(old, target)
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
