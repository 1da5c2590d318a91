"""Pseudo-amodal annotations: any data set of modal masks, completed by a mask pipeline [Z20, N21: label conversion].

The work is cut into pieces of consecutive images. Each is done by whichever process takes it and appears as a file in
one step, so a run may be killed at any moment and started again, by one process or many, on one machine or several that
share the folder: nothing is lost and nothing is there twice. When all pieces are there, they are joined.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from ..data import RecordCounts, amodal_features, build_objects, dataset_card, record_masks, write_shards
from ..data.photos import encoded_photos, load_row_photo
from ..evaluation import call_pipeline
from ..files import atomic_file, atomic_folder, write_text
from ..io import AMODAL_JSON, CategoryIds, amodal_scores, annotation_entry, image_entry
from ..masks import encode_rle, mask_areas
from ..ordering import order_pairs
from ..pipelines.contexts import warnings_silenced
from .folder_store import AnnotationStore

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset, Features

    from ..pipelines import MaskPipeline

_VERSION = 2
_JOIN = "join"
_WAIT = 0.5
"""Seconds between looks at what others have done, where nothing is left to take."""

Progress = Callable[[int], None]
"""Called with the number of images that are done, by anybody."""


def annotation_features() -> Features:
    """`amodal_features`, the column `predictions` (of each object the `score` and the `uncertainty`) and the `error`.

    `score` is the mean P(object) over the whole mask, 0 for an empty one. `uncertainty` is the mean over the whole mask
    of what the pipeline says of it, or of 4p(1 - p) where it says nothing, p = P(object). `error` says why an image was
    not completed, and is None elsewhere: such an image has its visible masks alone.

    Example:
        >>> annotation_features()["predictions"].feature["score"].dtype
        'float32'
    """
    from datasets import Features, List, Value

    prediction = {"score": Value("float32"), "uncertainty": Value("float32")}
    return Features({**amodal_features(), "predictions": List(prediction), "error": Value("string")})


def annotate_dataset(
    dataset: Dataset,
    pipeline: MaskPipeline,
    folder: str | os.PathLike[str],
    *,
    pipeline_name: str = "",
    shard_rows: int = 32,
    claim_timeout: float = 600.0,
    on_progress: Progress | None = None,
    **call_options: Any,
) -> Path:
    """Complete all objects of a data set, together with every other process that is given the same folder.

    Options are checked before anything is written. An image whose photo cannot be read, or is of another size than its
    masks, has an `error`, and the others go on; a pipeline that looks at no photo opens none.

    Crowd regions are seen as what they are, something that may hide others, and are not completed themselves. Whole
    masks that the data set has are replaced.

    Args:
        dataset: rows of the schema; photos under `image` where the pipeline looks at them.
        pipeline: a mask pipeline.
        folder: gets `data/train-00000-of-0000n.parquet` (`load_amodal_dataset` reads it; the extra column
            `predictions` is of `annotation_features`), `amodal.json` (COCO: `segmentation` the whole mask,
            `visible_mask` the modal one, `score`, `uncertainty`, `occlude_rate`; the order on the images as
            `order_relations`), and `README.md`, the card. While the work goes on, `shards` holds the pieces.
        pipeline_name: what card and record call the pipeline.
        shard_rows: images a piece, which is what a killed process loses at most.
        claim_timeout: seconds after which a silent process on another machine is given up.
        on_progress: see `Progress`.
        call_options: further arguments of the pipeline's call.

    Returns:
        The folder, when the whole result is in it. A run that is finished already returns at once.

    Raises:
        ValueError: a data set without rows, another run in the folder, and what the pipeline refuses, naming the image.
        FileExistsError, NotADirectoryError: `folder` holds other files, or is one.

    Example:
        >>> import tempfile
        >>> from amodal_diffusion import PCNetMask, PCNetMaskPipeline
        >>> from amodal_diffusion.data import read_annotations
        >>> cup = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[5, 5, 25, 5, 25, 30, 5, 30]]}
        >>> images = [{"id": 1, "file_name": "cup.jpg", "height": 40, "width": 50}]
        >>> names = [{"id": 1, "name": "cup"}]
        >>> rows = read_annotations({"images": images, "annotations": [cup], "categories": names})
        >>> pipe = PCNetMaskPipeline(PCNetMask((4, 4), sample_size=32))
        >>> folder = annotate_dataset(rows, pipe, Path(tempfile.mkdtemp()) / "completed")
        >>> sorted(path.name for path in folder.iterdir())
        ['README.md', 'amodal.json', 'annotation.json', 'data']
    """
    if shard_rows < 1:
        raise ValueError(f"`shard_rows` must be at least 1, got {shard_rows}.")
    if not claim_timeout > 0:
        raise ValueError(f"`claim_timeout` must be positive, got {claim_timeout:g}.")
    if not len(dataset):
        raise ValueError("`dataset` must have at least one row.")
    pipeline([], [], **call_options)  # refuses options that it does not take; completes nothing
    run = {
        "version": _VERSION,
        "dataset": _dataset_digest(dataset),
        "images": len(dataset),
        "pipeline": pipeline_name or type(pipeline).__name__,
        "weights": _pipeline_digest(pipeline),
        "options": {name: repr(value) for name, value in sorted(call_options.items())},
        "shard_rows": shard_rows,
    }
    pieces = -(-len(dataset) // shard_rows)
    store = AnnotationStore(Path(folder), run, pieces, claim_timeout)
    report = on_progress or (lambda done: None)
    if not store.is_finished():
        predictor = _Predictor(dataset, pipeline, call_options)
        with warnings_silenced():
            _work(store, predictor, shard_rows, report)
        _join(store, run)
    store.sweep()
    report(len(dataset))
    return Path(folder)


def _work(store: AnnotationStore, predictor: _Predictor, shard_rows: int, report: Progress) -> None:
    """Take pieces until all are there."""
    count = len(predictor.dataset)
    start = os.getpid() % store.count  # so that processes that begin together do not race for the same piece
    done = _rows_done(store, shard_rows, count)
    while missing := store.missing():
        if store.is_finished():
            return
        taken = None
        for index in sorted(missing, key=lambda piece: (piece - start) % store.count):
            name = f"{index:05d}"
            if not store.claim(name):
                continue
            taken = index
            if store.piece(index).exists():  # done since we looked
                store.release(name)
                continue

            def sign_of_life(rows_done: int, name: str = name, done: int = done) -> None:
                store.stay(name)
                report(done + rows_done)

            _write_piece(store.piece(index), predictor.rows(_rows_of(index, shard_rows, count), sign_of_life))
            store.release(name)
            done = _rows_done(store, shard_rows, count)
            report(done)
        if taken is None:
            time.sleep(_WAIT)
            done = _rows_done(store, shard_rows, count)
            report(done)


def _rows_of(index: int, shard_rows: int, count: int) -> range:
    """The rows of a piece."""
    return range(index * shard_rows, min((index + 1) * shard_rows, count))


def _rows_done(store: AnnotationStore, shard_rows: int, count: int) -> int:
    return count - sum(len(_rows_of(index, shard_rows, count)) for index in store.missing())


def _write_piece(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    table = pyarrow.Table.from_pylist(list(rows), schema=annotation_features().arrow_schema)
    with atomic_file(path) as beside:
        parquet.write_table(table, beside)


class _Predictor:
    """Rows of the data set as the pipeline completes them."""

    def __init__(self, dataset: Dataset, pipeline: MaskPipeline, call_options: Mapping[str, Any]) -> None:
        self.dataset = encoded_photos(dataset)
        self.pipeline = pipeline
        self.call_options = dict(call_options)

    def rows(self, indices: range, on_rows: Progress) -> Iterator[dict[str, Any]]:
        """The completed rows at `indices`; `on_rows` is told how many are done."""
        for done, index in enumerate(indices, start=1):
            yield self._complete(self.dataset[index])
            on_rows(done)

    def _complete(self, row: Mapping[str, Any]) -> dict[str, Any]:
        modal, _ = record_masks(row)
        ids = [obj["category_id"] for obj in row["objects"]]
        crowd = [bool(obj["is_crowd"]) for obj in row["objects"]]
        needs_photo = self.pipeline.needs_image and row.get("image") is not None
        try:
            image = load_row_photo(row) if needs_photo else None
        except ValueError as error:
            return _failed_row(row, " ".join(str(error).split()))
        try:
            output = call_pipeline(self.pipeline, image, modal, ids, is_crowd=crowd, **self.call_options)
        except ValueError as error:
            raise ValueError(f"image {row['image_id']}: {error}") from error
        amodal, probabilities, uncertainty = output.amodal_masks, output.probabilities, output.uncertainty
        if uncertainty is None:
            uncertainty = 4 * probabilities * (1 - probabilities)
        return _completed_row(row, modal, amodal, output.order, probabilities, uncertainty)


def _failed_row(row: Mapping[str, Any], error: str) -> dict[str, Any]:
    """A row of `annotation_features` with visible masks alone."""
    objects = [{**obj, "amodal_mask": None} for obj in row["objects"]]
    return {
        **{key: row[key] for key in ("image_id", "file_name", "height", "width", "source")},
        "objects": build_objects(objects),
        "order_relations": None,
        "predictions": [{"score": None, "uncertainty": None} for _ in objects],
        "error": error,
    }


def _completed_row(
    row: Mapping[str, Any],
    modal: np.ndarray,
    amodal: np.ndarray,
    order: np.ndarray | None,
    probabilities: np.ndarray,
    uncertainty: np.ndarray,
) -> dict[str, Any]:
    """A row of `annotation_features`."""
    hidden = mask_areas(amodal & ~modal)
    # The same dictionary in both fields tells `build_objects` that nothing is hidden.
    objects = [
        {**obj, "amodal_mask": encode_rle(amodal[index]) if hidden[index] else obj["modal_mask"]}
        for index, obj in enumerate(row["objects"])
    ]
    areas = np.maximum(mask_areas(amodal), 1)
    doubts = np.where(amodal, uncertainty, 0).sum((1, 2), dtype=np.float64) / areas if len(amodal) else []
    scores = amodal_scores(amodal, probabilities, [1.0] * len(amodal))
    pairs = None if order is None else [{"front": front, "behind": behind} for front, behind in order_pairs(order)]
    return {
        **{key: row[key] for key in ("image_id", "file_name", "height", "width", "source")},
        "objects": build_objects(objects),
        "order_relations": pairs,
        "predictions": [
            {"score": score, "uncertainty": float(doubt)} for score, doubt in zip(scores, doubts, strict=True)
        ],
        "error": None,
    }


# Joining the pieces


def _join(store: AnnotationStore, run: Mapping[str, Any]) -> None:
    """One process joins the pieces, the others wait for it."""
    while not store.is_finished():
        if not store.claim(_JOIN):
            time.sleep(_WAIT)
            continue
        if store.is_finished():  # by another, who gave the claim back since we looked
            return
        counts = RecordCounts()
        tables = _tables(store.pieces(), counts, lambda: store.stay(_JOIN))
        with atomic_folder(store.folder / "data") as beside:
            write_shards(tables, annotation_features(), beside, "train", 500 * 2**20)
        _write_coco(store, run)
        note = (
            f"Pseudo-amodal annotations: the whole masks, the order and the uncertainty are predictions of "
            f"`{run['pipeline']}` from the visible masks, not ground truth."
        )
        card = dataset_card({"train": counts}, store.folder.resolve().name, description=note)
        write_text(store.folder / "README.md", card)
        store.finish()


def _tables(pieces: Sequence[Path], counts: RecordCounts, sign_of_life: Callable[[], None]) -> Iterator[pyarrow.Table]:
    import pyarrow.parquet as parquet

    for path in pieces:
        table = parquet.read_table(path)
        for row in table.to_pylist():
            counts.add(row)
        sign_of_life()
        yield table


def _write_coco(store: AnnotationStore, run: Mapping[str, Any]) -> None:
    """The COCO document of all pieces, written as a stream: images, categories, annotations."""
    rows = _ImageIds(store.pieces())
    categories = CategoryIds(_category_ids(store.pieces()))
    with atomic_file(store.folder / AMODAL_JSON) as beside, ExitStack() as stack:
        file = stack.enter_context(beside.open("w", encoding="utf-8"))
        info = {"description": "pseudo-amodal masks", "pipeline": run["pipeline"], "options": run["options"]}
        file.write('{"info": ' + json.dumps(info) + ',\n"images": [')
        _write_list(file, (_image_entry(row, image, first) for row, image, first in rows))
        file.write('],\n"annotations": [')
        _write_list(
            file,
            (entry for row, image, first in rows for entry in _annotations(row, image, first, categories)),
        )
        file.write('],\n"categories": ')
        file.write(json.dumps(categories.entries()) + "}\n")


class _ImageIds:
    """The rows of all pieces with their image id and the id of their first object, as often as they are asked for.

    Image ids are those of the source where all of them are different whole numbers, and count from 1 otherwise.
    """

    def __init__(self, pieces: Sequence[Path]) -> None:
        import pyarrow.parquet as parquet

        self.pieces = pieces
        names = [
            name for path in pieces for name in parquet.read_table(path, columns=["image_id"])["image_id"].to_pylist()
        ]
        plain = all(name.isascii() and name.isdigit() for name in names) and len(set(map(int, names))) == len(names)
        self.ids = [int(name) for name in names] if plain else list(range(1, len(names) + 1))

    def __iter__(self) -> Iterator[tuple[dict[str, Any], int, int]]:
        import pyarrow.parquet as parquet

        ids, first = iter(self.ids), 1
        for path in self.pieces:
            for row in parquet.read_table(path).to_pylist():
                yield row, next(ids), first
                first += len(row["objects"])


def _image_entry(row: Mapping[str, Any], image: int, first: int) -> dict[str, Any]:
    pairs = [(pair["front"], pair["behind"]) for pair in row["order_relations"] or []]
    size = row["height"], row["width"]
    entry = image_entry(image, row["file_name"], *size, pairs, first, source_id=row["image_id"])
    return entry if row["error"] is None else {**entry, "error": row["error"]}


def _annotations(row: Mapping[str, Any], image: int, first: int, categories: CategoryIds) -> Iterator[dict[str, Any]]:
    from pycocotools import mask as mask_utils

    for number, (obj, prediction) in enumerate(zip(row["objects"], row["predictions"], strict=True), start=first):
        if row["error"] is not None:
            return  # nothing is known of whole masks
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


def _category_ids(pieces: Sequence[Path]) -> set[int]:
    """All that the data set has."""
    import pyarrow.compute
    import pyarrow.parquet as parquet

    found: set[int] = set()
    for path in pieces:
        objects = pyarrow.compute.list_flatten(parquet.read_table(path, columns=["objects"])["objects"])
        found.update(pyarrow.compute.struct_field(objects, "category_id").drop_null().unique().to_pylist())
    return found


def _write_list(file: TextIO, entries: Iterable[Mapping[str, Any]]) -> None:
    for index, entry in enumerate(entries):
        file.write(("," if index else "") + "\n" + json.dumps(entry, allow_nan=False))


# What decides the result


def _dataset_digest(dataset: Dataset) -> str:
    """Digest of the names, sizes and visible masks, in order."""
    digest = hashlib.sha256()
    for batch in dataset.select_columns(["image_id", "height", "width", "objects"]).iter(256):
        for name, height, width, objects in zip(*batch.values(), strict=True):
            masks = [obj["modal_mask"]["counts"] for obj in objects]
            digest.update(json.dumps([name, height, width, masks]).encode())
    return digest.hexdigest()[:16]


def _pipeline_digest(pipeline: MaskPipeline) -> str:
    """Digest of the settings and the weights."""
    settings = {key: value for key, value in dict(pipeline.config).items() if not key.startswith("_")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for network in pipeline.networks:
        for key, value in sorted(network.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).float().numpy().tobytes())
    return digest.hexdigest()[:16]
