"""Data sets of any other schema, on the Hub or in Parquet files, whose columns are named by a `ColumnMap`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePath
from reprlib import repr as short
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

from ...hub import is_hub_id
from ...images import check_image, why_unreadable
from ...masks import MASK_MODES, encode_rle, labelled_objects, one_object, picture_planes
from ...masks.rle import Rle, segmentation_to_rle
from ..schema import build_objects
from .records import (
    BadRecord,
    ImageRecord,
    OnError,
    RecordLog,
    checked_size,
    make_row,
    to_flag,
    to_int,
    to_key,
    to_name,
)


@dataclass(frozen=True)
class ColumnMap:
    """Where a data set with instance masks keeps what; a dot leads into a column, as in "objects.segmentation".

    A column inside another one holds a list with one entry for each object: `objects` may be a list of records or a
    record of lists. None says that the data set has no such column.

    Args:
        masks: the visible masks: a list of polygons, run lengths or mask images (not 0 is the object), one for each
            object; or one label map, in which 0 is background and every other value an object.
        amodal_masks: whole masks, a list likewise; an entry of None is unknown.
        image: the photo.
        category: of each object: a number, a `ClassLabel` or a name.
        is_crowd: of each object: a group of objects under one mask.
        image_id: id of a row; its number from 0 if None.
        file_name: file name of the photo; the one that is stored with the photo if None.
        height, width: size of the frame; that of the photo or of the mask images if None.

    Example:
        >>> ColumnMap(masks="objects.segmentation", category="objects.category").given()
        {'masks': 'objects.segmentation', 'category': 'objects.category'}
        >>> ColumnMap.parse(["masks=objects.segmentation"]).masks
        'objects.segmentation'
    """

    masks: str
    amodal_masks: str | None = None
    image: str | None = None
    category: str | None = None
    is_crowd: str | None = None
    image_id: str | None = None
    file_name: str | None = None
    height: str | None = None
    width: str | None = None

    @classmethod
    def parse(cls, pairs: Sequence[str]) -> ColumnMap:
        """From texts such as "masks=objects.segmentation".

        Raises:
            ValueError: a text of another form, an unknown or repeated key, or no "masks".
        """
        known = [field.name for field in fields(cls)]
        given: dict[str, str] = {}
        for pair in pairs:
            key, equals, column = pair.partition("=")
            if not equals or not column or key not in known:
                raise ValueError(f"columns must be of the form KEY=COLUMN with a key of {known}, got {pair!r}")
            if key in given:
                raise ValueError(f"columns has {key!r} twice")
            given[key] = column
        if "masks" not in given:
            raise ValueError("columns must say where the masks are, as in masks=objects.segmentation")
        return cls(**given)

    def given(self) -> dict[str, str]:
        """The columns that are named, by their key."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}


def iter_columns(
    dataset: Any,
    columns: ColumnMap,
    *,
    with_image: bool = True,
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
    source: str = "columns",
) -> Iterator[dict[str, Any]]:
    """Iterate over a data set of another schema, as rows of ours.

    Args:
        dataset: a `Dataset` or `IterableDataset`.
        columns: where its masks are.
        with_image: pass the photos on under `image`, as they are stored and without decoding them.
        on_error: "raise" stops at the first bad row or object; "skip" leaves it out.
        bad_records: list to which the skipped records are appended.
        source: name of the data set for the column `source` and for messages.

    Raises:
        ValueError: a column that is not there.
        AnnotationError: a record is bad and `on_error` is "raise".

    Example:
        >>> from datasets import Dataset
        >>> dataset = Dataset.from_dict({"masks": [[[[1, 1, 4, 1, 4, 3, 1, 3]]]], "h": [4], "w": [6]})
        >>> row = next(iter_columns(dataset, ColumnMap("masks", height="h", width="w")))
        >>> row["objects"][0]["modal_box"]
        [1.0, 1.0, 3.0, 2.0]
    """
    from datasets import Image as ImageFeature

    features = dataset.features
    if features is None:  # a stream whose types are not written down
        raise ValueError(f"{source!r} does not say which columns it has; save it as Parquet first")
    for key, path in columns.given().items():
        if not _has_column(features, path):
            raise ValueError(f"columns {key}={path}: {source!r} has no such column, it has {sorted(features)}")
    if columns.image is not None and not isinstance(features[columns.image], ImageFeature):
        raise ValueError(f"columns image={columns.image}: {source!r} has no photos in that column")
    if columns.image is not None:
        dataset = dataset.cast_column(columns.image, ImageFeature(decode=False))  # to hand the file on as it is
    names = _class_names(features, columns.category)
    if not with_image and columns.image is not None and columns.height and columns.width:
        columns = replace(columns, image=None)
    return _rows(dataset, columns, names, RecordLog(source, on_error, bad_records), with_image, source)


def _rows(
    rows: Iterable[Mapping[str, Any]],
    columns: ColumnMap,
    names: Sequence[str],
    log: RecordLog,
    with_image: bool,
    source: str,
) -> Iterator[dict[str, Any]]:
    for index, row in enumerate(rows):
        label = f"row {index}"
        try:
            key = str(index) if columns.image_id is None else to_key(_value(row, columns.image_id), columns.image_id)
            label = f"row {index} (image {key})"
            record = _read_record(row, key, columns)
            masks = _read_masks(_value(row, columns.masks), columns.masks)
        except ValueError as error:
            log.bad(label, error)
            continue
        objects = _read_objects(row, masks, record, columns, names, label, log)
        full = make_row(record, build_objects(objects), None, source)
        if with_image and columns.image is not None:
            full["image"] = _value(row, columns.image)
        yield full


def _has_column(features: Any, path: str) -> bool:
    for part in path.split("."):
        features = getattr(features, "feature", features)
        features = features[0] if isinstance(features, list) else features
        if not isinstance(features, Mapping) or part not in features:
            return False
        features = features[part]
    return True


def _class_names(features: Any, path: str | None) -> list[str]:
    """Names of a column of class labels; nothing for another column."""
    for part in path.split(".") if path else ():
        features = getattr(features, "feature", features)
        features = (features[0] if isinstance(features, list) else features)[part]
    while hasattr(features, "feature"):
        features = features.feature
    return list(getattr(features, "names", None) or ())


def _value(row: Any, path: str) -> Any:
    """What stands in a column; of a list of records, the list of their entries."""
    for part in path.split("."):
        if isinstance(row, list):
            row = [None if item is None else item[part] for item in row]
        elif row is not None:
            row = row[part]
    return row


def _read_record(row: Mapping[str, Any], key: str, columns: ColumnMap) -> ImageRecord:
    photo = None if columns.image is None else _value(row, columns.image)
    if columns.image is not None and photo is None:
        raise ValueError(f"{columns.image}: the photo is missing")
    stored = None if photo is None else _stored_size(photo)
    file_name = "" if columns.file_name is None else to_name(_value(row, columns.file_name)) or ""
    if photo is not None and not file_name:
        file_name = PurePath(photo.get("path") or "").name
    if columns.height is not None and columns.width is not None:
        height = to_int(_value(row, columns.height), columns.height)
        width = to_int(_value(row, columns.width), columns.width)
    elif stored is not None:
        height, width = stored
    else:
        height, width = _mask_size(_read_masks(_value(row, columns.masks), columns.masks), columns.masks)
    return ImageRecord(key, file_name, *checked_size(height, width))


def _stored_size(photo: Mapping[str, Any]) -> tuple[int, int]:
    try:
        return check_image(photo["bytes"] if photo.get("bytes") else os.fspath(photo["path"]))
    except (ValueError, OSError, TypeError) as error:
        raise ValueError(f"the photo cannot be read: {why_unreadable(error.__cause__ or error)}") from error


def _read_masks(value: Any, name: str) -> list[tuple[int, Any]]:
    """Number and mask of each object, a mask as an array or as it is stored."""
    if value is None:
        return []
    if isinstance(value, (Image.Image, np.ndarray)):
        planes = _planes(value)
        if len(planes) > 1 or (isinstance(value, np.ndarray) and value.ndim == 3):
            return [(index, _named(one_object, plane, name)) for index, plane in enumerate(planes)]
        if not planes or planes[0].ndim != 2:
            raise ValueError(f"{name}: a label map must be one plane, got shape {np.asarray(value).shape}")
        labels, masks = _named(labelled_objects, planes[0], name)
        return list(zip(labels, masks, strict=True))
    if not isinstance(value, list):
        raise ValueError(f"{name}: expected a list of masks or a label map, got {type(value).__name__}")
    return [(index, _plane(mask, name)) for index, mask in enumerate(value)]


def _plane(mask: Any, name: str) -> Any:
    if not isinstance(mask, (Image.Image, np.ndarray)):
        return mask
    planes = _planes(mask) if isinstance(mask, Image.Image) else [mask]
    if len(planes) != 1 or planes[0].ndim != 2:
        raise ValueError(f"{name}: a mask image must be one plane, got shape {np.asarray(mask).shape}")
    return _named(one_object, planes[0], name)


def _planes(value: Any) -> list[np.ndarray]:
    """The planes of a picture, or of an array (N, H, W); a picture of colours as it is."""
    if isinstance(value, Image.Image):
        return picture_planes(value) if value.mode in MASK_MODES else [np.asarray(value)]
    return list(value) if value.ndim == 3 else [value]


def _named(read: Any, plane: np.ndarray, name: str) -> Any:
    try:
        return read(plane)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: a mask image {error}") from error


def _mask_size(masks: list[tuple[int, Any]], name: str) -> tuple[int, int]:
    for _, mask in masks:
        if isinstance(mask, np.ndarray):
            return mask.shape[0], mask.shape[1]
        if isinstance(mask, Mapping) and mask.get("size"):
            height, width = mask["size"]
            return to_int(height, "size"), to_int(width, "size")
    raise ValueError(f"{name} does not tell the size of the frame; name columns for image, or for height and width")


def _to_rle(mask: Any, height: int, width: int) -> Rle:
    if not isinstance(mask, np.ndarray):
        return segmentation_to_rle(mask, height, width)
    if mask.shape != (height, width):
        raise ValueError(f"mask is {mask.shape[0]} x {mask.shape[1]} (height x width), the image {height} x {width}")
    return encode_rle(mask)


def _read_objects(
    row: Mapping[str, Any],
    masks: list[tuple[int, Any]],
    record: ImageRecord,
    columns: ColumnMap,
    names: Sequence[str],
    label: str,
    log: RecordLog,
) -> list[dict[str, Any]]:
    objects = []
    try:
        parts = {
            key: _per_object(row, getattr(columns, key), len(masks)) for key in ("amodal_masks", "category", "is_crowd")
        }
    except ValueError as error:
        log.bad(label, error)
        return []
    for (number, mask), amodal, category, crowd in zip(masks, *parts.values(), strict=True):
        try:
            modal = _to_rle(mask, record.height, record.width)
            whole = None if amodal is None else _to_rle(_plane(amodal, "amodal_masks"), record.height, record.width)
            if not mask_utils.area(modal if whole is None else whole):
                raise ValueError(f"mask has no pixel inside the {record.height} x {record.width} image")
            category_id, name = _read_category(category, names)
            objects.append(
                {
                    "id": number,
                    "name": name,
                    "category_id": category_id,
                    "is_stuff": False,
                    "is_crowd": to_flag(crowd, "is_crowd"),
                    "modal_mask": modal,
                    "amodal_mask": whole,
                }
            )
        except ValueError as error:
            log.bad(f"{label} object {number}", error)
    return objects


def _per_object(row: Mapping[str, Any], path: str | None, count: int) -> list[Any]:
    values = [None] * count if path is None else _value(row, path)
    if values is None:
        return [None] * count
    if not isinstance(values, list) or len(values) != count:
        found = len(values) if isinstance(values, list) else type(values).__name__
        raise ValueError(f"{path}: expected a list with an entry for each of the {count} masks, got {found}")
    return values


def _read_category(value: Any, names: Sequence[str]) -> tuple[int | None, str | None]:
    if value is None:
        return None, None
    if isinstance(value, str) and not value.strip().isdecimal():
        return None, to_name(value)
    category_id = to_int(value, "category")
    if names and not 0 <= category_id < len(names):
        raise ValueError(f"category must be from 0 to {len(names) - 1}, got {short(value)}")
    return category_id, names[category_id] if names else None


def open_dataset(
    path_or_id: str | os.PathLike[str], split: str, *, config: str | None = None, revision: str | None = None
) -> Any:
    """Stream one split of a data set of any schema, from the Hub or from Parquet files.

    Args:
        path_or_id: Hub id, Parquet file or folder of a data set.
        split: its name; a Parquet file has "train" alone.
        config: which of several configurations.
        revision: branch, tag or commit on the Hub.

    Raises:
        FileNotFoundError: no such file or folder, and no Hub id either.
        ValueError: no such split or configuration.

    Example:
        >>> import tempfile
        >>> from datasets import Dataset
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Dataset.from_dict({"masks": [[[]]]}).to_parquet(f"{folder}/cups.parquet")
        ...     open_dataset(f"{folder}/cups.parquet", "train").column_names
        ['masks']
    """
    from datasets import load_dataset

    options: dict[str, Any] = {"split": split, "streaming": True}
    place = os.fspath(path_or_id)
    if Path(place).suffix == ".parquet":
        if not Path(place).is_file():
            raise FileNotFoundError(f"no such file: {place!r}")
        return load_dataset("parquet", data_files={"train": place}, **options)
    if not Path(place).is_dir() and not is_hub_id(place):
        raise FileNotFoundError(f"no such file or folder, and no Hub id: {place!r}")
    return load_dataset(place, config, revision=revision, **options)
