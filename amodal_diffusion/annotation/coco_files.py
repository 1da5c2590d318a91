"""COCO documents of completed rows, written as a stream from Parquet files: one for all, or one a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from pycocotools import mask as mask_utils

from ..files import atomic_file
from ..io import AMODAL_JSON, CategoryIds, annotation_entry, image_entry
from ..masks import IntArray

_BATCH = 500
_DIGITS = 18
"""Of the longest numbers that are kept as ids: they fit into 64 bits."""


def write_coco_files(files: Sequence[Path], folder: Path, info: Mapping[str, Any], *, one_each: bool) -> list[Path]:
    """Write the rows of Parquet files as COCO, in bounded memory.

    Image ids are those of the source where all of them are different whole numbers, and count from 1 otherwise.
    Annotation ids count from 1 through all files, so the documents can be joined. A document has the categories of its
    annotations.

    Args:
        files: of `annotation_features`, in order.
        folder: gets `amodal.json`, or `amodal-00000-of-0000n.json` for each file.
        info: of the documents.
        one_each: write a document for each file.

    Returns:
        The documents.

    Example:
        >>> import tempfile
        >>> import pyarrow.parquet as parquet
        >>> from amodal_diffusion.annotation.annotator import annotation_table
        >>> folder = Path(tempfile.mkdtemp())
        >>> parquet.write_table(annotation_table([]), folder / "rows.parquet")
        >>> (file,) = write_coco_files([folder / "rows.parquet"], folder, {}, one_each=False)
        >>> file.name, json.loads(file.read_text())
        ('amodal.json', {'info': {}, 'images': [], 'annotations': [], 'categories': []})
    """
    ids, categories = _scan(files)
    groups = [[path] for path in files] if one_each else [files]
    written, image, first = [], 0, 1
    for name, group in zip(coco_names(len(files), one_each=one_each), groups, strict=True):
        with atomic_file(folder / name) as beside:
            image, first = _write_document(beside, group, info, ids, image, first, categories)
        written.append(folder / name)
    return written


def coco_names(files: int, *, one_each: bool) -> list[str]:
    """The names of the documents of so many Parquet files.

    Example:
        >>> coco_names(2, one_each=True)
        ['amodal-00000-of-00002.json', 'amodal-00001-of-00002.json']
    """
    stem, suffix = Path(AMODAL_JSON).stem, Path(AMODAL_JSON).suffix
    return [f"{stem}-{number:05d}-of-{files:05d}{suffix}" for number in range(files)] if one_each else [AMODAL_JSON]


def _scan(files: Sequence[Path]) -> tuple[IntArray, CategoryIds]:
    """The id of each image, and the categories."""
    import pyarrow.compute as compute

    parts, plain, known = [], True, set()
    for batch in _batches(files, ["image_id", "objects.list.element.category_id"]):
        names = batch["image_id"].to_pylist()
        plain = plain and all(name.isascii() and name.isdigit() and len(name) <= _DIGITS for name in names)
        parts.append(np.array([int(name) if plain else 0 for name in names], np.int64))
        found = compute.struct_field(compute.list_flatten(batch["objects"]), "category_id")
        known.update(found.drop_null().unique().to_pylist())
    ids = np.concatenate([np.zeros(0, np.int64), *parts])
    if not plain or len(np.unique(ids)) < len(ids):
        ids = np.arange(1, len(ids) + 1)
    return ids, CategoryIds(known)


def _batches(files: Sequence[Path], columns: Sequence[str] | None = None) -> Iterator[Any]:
    import pyarrow.parquet as parquet

    for path in files:
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(_BATCH, columns=columns)


def _write_document(
    path: Path,
    files: Sequence[Path],
    info: Mapping[str, Any],
    ids: IntArray,
    image: int,
    first: int,
    categories: CategoryIds,
) -> tuple[int, int]:
    """One document of some files; the next image, and the next annotation id.

    Annotations are written beside it while the images are, so that rows are read once.
    """
    used: set[int] = set()
    with ExitStack() as stack:
        file = stack.enter_context(path.open("w", encoding="utf-8"))
        aside = stack.enter_context(path.with_suffix(".annotations").open("w+", encoding="utf-8"))
        images, annotations = _List(file), _List(aside)
        file.write('{"info": ' + json.dumps(info) + ',\n"images": [')
        for batch in _batches(files):
            for row in batch.to_pylist():
                images.add(_image_entry(row, int(ids[image]), first))
                for entry in _annotations(row, int(ids[image]), first, categories):
                    annotations.add(entry)
                    used.add(entry["category_id"])
                image, first = image + 1, first + len(row["objects"])
        file.write('],\n"annotations": [')
        aside.seek(0)
        shutil.copyfileobj(aside, file)
        file.write('],\n"categories": ')
        file.write(json.dumps([entry for entry in categories.entries() if entry["id"] in used]) + "}\n")
    return image, first


class _List:
    """The entries of a JSON list, written one by one."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.begun = file, False

    def add(self, entry: Mapping[str, Any]) -> None:
        self.file.write(("," if self.begun else "") + "\n" + json.dumps(entry, allow_nan=False))
        self.begun = True


def _image_entry(row: Mapping[str, Any], image: int, first: int) -> dict[str, Any]:
    pairs = [(pair["front"], pair["behind"]) for pair in row["order_relations"] or []]
    size = row["height"], row["width"]
    entry = image_entry(image, row["file_name"], *size, pairs, first, source_id=row["image_id"])
    return entry if row["error"] is None else {**entry, "error": row["error"]}


def _annotations(row: Mapping[str, Any], image: int, first: int, categories: CategoryIds) -> Iterator[dict[str, Any]]:
    if row["error"] is not None:
        return  # nothing is known of whole masks
    for number, (obj, prediction) in enumerate(zip(row["objects"], row["predictions"], strict=True), start=first):
        yield annotation_entry(
            number,
            image,
            category_id=categories.of(obj["category_id"], obj["name"]),
            name=obj["name"] or "",
            amodal=obj["amodal_mask"],
            modal=obj["modal_mask"],
            box=obj["amodal_box"],
            area=int(mask_utils.area(obj["amodal_mask"])),
            occlusion_rate=obj["occlusion_rate"],
            score=prediction["score"],
            is_crowd=obj["is_crowd"],
            source_id=obj["id"],
            uncertainty=round(prediction["uncertainty"], 6),
        )
