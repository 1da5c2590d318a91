"""Write rows from any source as a data set of the Hub: Parquet shards, photos in them or beside them, and a card."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from ..arguments.choices import check_choice
from ..files import atomic_folder
from .cards import RecordCounts, dataset_card
from .dataset import PHOTO_FOLDER
from .parquet import SHARD_BYTES, check_new, check_shard_bytes, check_splits, check_target, row_tables, write_shards
from .schema import amodal_features

Photos = Literal["embed", "beside", "none"]
PHOTOS = ("embed", "beside", "none")
_CARD = "README.md"


@dataclass(frozen=True)
class ConvertedDataset:
    """What `convert_dataset` wrote.

    Attributes:
        folder: where it lies; `load_amodal_dataset` reads it.
        files: the shards.
        counts: what each split holds.

    Example:
        >>> ConvertedDataset(Path("cups"), [Path("cups/data/train-00000-of-00001.parquet")], {}).files[0].name
        'train-00000-of-00001.parquet'
    """

    folder: Path
    files: list[Path]
    counts: dict[str, RecordCounts]


def convert_dataset(
    splits: Mapping[str, Iterable[Mapping[str, Any]]],
    folder: str | os.PathLike[str],
    *,
    photos: Photos = "embed",
    overwrite: bool = False,
    max_shard_bytes: int = SHARD_BYTES,
    repo_id: str | None = None,
    license: str | None = None,  # noqa: A002 - the Hub's word
    description: str | None = None,
) -> ConvertedDataset:
    """Write rows as Parquet shards with a data-set card.

    Rows go from the reader to the shards in batches, so memory does not grow with their number.

    Args:
        splits: rows of the schema by the name of their split, as `iter_annotations` gives them. A row with a photo has
            its path, or the file as {"bytes", "path"}, under `image`; either all rows have one or none.
        folder: created if missing; gets `data/<split>-00000-of-0000n.parquet`, `README.md`, and with photos beside
            `photos/<split>/<file name>`.
        photos: "embed" stores the photo files in the shards, as the Hub and `load_dataset` want it. "beside" copies
            them into `photos`, where `load_amodal_dataset` finds them. "none" leaves them out.
        overwrite: replace shards and card that are there. Photos are never replaced.
        max_shard_bytes: about how large a shard is before compression.
        repo_id: what the card calls the data set; the name of the folder if None.
        license: the Hub's name of the licence, for the card; "other" if None.
        description: first paragraph of the card.

    Raises:
        FileExistsError: shards or a card are there and `overwrite` is False; other files are among the shards;
            `photos` is there.
        ValueError: unknown `photos`; no split, a split without rows, or a name that is no word; with photos beside, a
            file name that leads out of the folder, or two photos of one name.
        AnnotationError, OSError: raised while reading the rows.

    Example:
        >>> import tempfile
        >>> from amodal_diffusion.data import iter_coco
        >>> content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 4}], "annotations": []}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     converted = convert_dataset({"train": iter_coco(content, source="mine")}, folder)
        >>> converted.files[0].name, converted.counts["train"].numbers()["images"]
        ('train-00000-of-00001.parquet', 1)
    """
    check_choice("photos", photos, PHOTOS)
    check_shard_bytes(max_shard_bytes)
    check_splits(splits)
    target = Path(folder)
    _check_folder(target, overwrite)
    counts = {split: RecordCounts() for split in splits}
    with atomic_folder(target, replaces=("data", _CARD)) as staged:
        data, copies, names = staged / "data", staged / PHOTO_FOLDER, []
        data.mkdir()
        for split, rows in splits.items():
            counted = _counted(rows, counts[split])
            if photos == "none":
                counted = _without_photos(counted)
            elif photos == "beside":
                counted = _copy_photos(counted, copies / split)
            first = _first_rows(counted)
            features = amodal_features(
                with_image=bool(first) and "image" in first[0],
                with_depth=any("depth" in item for row in first for item in row["objects"]),
            )
            tables = row_tables(chain(first, counted), features)
            names += write_shards(tables, features, data, split, max_shard_bytes)
        card = dataset_card(counts, repo_id or target.resolve().name, license=license, description=description)
        (staged / _CARD).write_text(card, encoding="utf-8")
    return ConvertedDataset(target, [target / "data" / name for name in names], counts)


def _first_rows(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows up to the first that has an object: they tell the columns."""
    first = []
    for row in rows:
        first.append(row)
        if row["objects"]:
            break
    return first


def with_category_ids(rows: Iterable[Mapping[str, Any]], ids: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Rows whose objects have other category ids, by their names; ids may be shared, so that classes become one.

    So data sets agree in what class-conditioned networks see: in [L20], Table 5, buses and cars are one class.

    Args:
        rows: of the schema.
        ids: name of an object → its category id. Objects of other names lose theirs.

    Example:
        >>> row = {"objects": [{"name": "bus", "category_id": 6}, {"name": "kite", "category_id": 1}]}
        >>> (changed,) = with_category_ids([row], {"car": 1, "bus": 1})
        >>> [item["category_id"] for item in changed["objects"]]
        [1, None]
    """
    for row in rows:
        yield {**row, "objects": [{**item, "category_id": ids.get(item["name"])} for item in row["objects"]]}


def _check_folder(target: Path, overwrite: bool) -> None:
    check_target(target / "data", overwrite)
    check_new(target / _CARD, overwrite)
    if (target / PHOTO_FOLDER).exists():
        # They would be taken for photos of the new data set, and may be the only copies that there are.
        raise FileExistsError(f"{os.fspath(target / PHOTO_FOLDER)!r} exists; choose another folder, or move it away")


def _counted(rows: Iterable[Mapping[str, Any]], counts: RecordCounts) -> Iterator[dict[str, Any]]:
    for row in rows:
        counts.add(row)
        yield dict(row)


def _without_photos(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        row.pop("image", None)
        yield row


def _copy_photos(rows: Iterable[dict[str, Any]], folder: Path) -> Iterator[dict[str, Any]]:
    origins: dict[str, Any] = {}
    for row in rows:
        photo = row.pop("image", None)
        if photo is None:
            raise ValueError(f"image {row['image_id']} has no photo to be put beside the shards")
        name = row["file_name"]
        target = (folder / name).resolve()
        if not name or not target.is_relative_to(folder.resolve()):
            raise ValueError(f"image {row['image_id']} has the file name {name!r}, which is none in a folder of photos")
        origin = photo if isinstance(photo, str) else (row["image_id"], photo.get("path"))
        if origins.setdefault(name, origin) != origin:
            raise ValueError(f"two photos have the file name {name!r}")
        if not target.exists():  # annotated by several people, it comes several times
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy_photo(photo, target)
        yield row


def _copy_photo(photo: str | Mapping[str, Any], target: Path) -> None:
    if not isinstance(photo, str) and photo.get("bytes") is not None:
        target.write_bytes(photo["bytes"])
    else:
        shutil.copyfile(photo if isinstance(photo, str) else photo["path"], target)
