"""Pseudo-amodal annotations: any data set of modal masks, completed by a mask pipeline [Z20, N21: label conversion].

The work is cut into pieces of consecutive images. Each appears as a file in one step, so a run may be killed at any
moment and started again, by one process or several that have a share each: nothing is lost and nothing is there twice.
When all pieces are there, they are joined.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments.numeric import check_integer
from ..data import RecordCounts, dataset_card, write_shards
from ..data.dataset import check_rows, lacking_shards
from ..data.photos import encoded_photos
from ..evaluation import MaskBaseline
from ..files import atomic_folder, write_text
from .annotator import AmodalAnnotator, annotation_features
from .coco_files import coco_names, write_coco_files
from .folder_store import AnnotationStore
from .record import dataset_digest, photos_digest, run_record

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

    from ..pipelines import MaskPipeline

_SHARD_BYTES = 500 * 2**20
_JOINED_ROWS = 1000
"""Rows of a row group of the result."""

Progress = Callable[[int], None]
"""Called with the number of images that are done, as far as this process knows."""


def annotate_dataset(
    dataset: Dataset,
    pipeline: MaskPipeline | MaskBaseline,
    folder: str | os.PathLike[str],
    *,
    pipeline_name: str = "",
    shard_rows: int = 32,
    shard: tuple[int, int] | None = None,
    coco_shards: bool = False,
    on_progress: Progress | None = None,
    **call_options: Any,
) -> Path:
    """Complete all objects of a data set on one machine, or a share of it on each of several.

    The rows go through an `AmodalAnnotator`: an image that cannot be completed has an `error`, and the others go on.
    Options are checked before anything is written.

    Args:
        dataset: rows of the schema; photos under `image` where the pipeline looks at them.
        pipeline: a mask pipeline, or one of `BASELINES`.
        folder: gets `data/train-00000-of-0000n.parquet` (`load_amodal_dataset` reads it; the extra columns are of
            `annotation_features`), `amodal.json` (COCO: `segmentation` the whole mask, `visible_mask` the modal one,
            `score`, `uncertainty`, `occlude_rate`; the order on the images as `order_relations`), and `README.md`, the
            card. While the work goes on, `shards` holds the pieces.
        pipeline_name: what card and record call the pipeline.
        shard_rows: images a piece, which is what a killed process loses at most.
        shard: (i, n): do only every n-th piece, from the i-th on (from 0), and join nothing. Any number of processes
            with the same folder may do a share each; a call without `shard` does what is still missing, and joins all.
        coco_shards: write the COCO document in parts, `amodal-00000-of-0000n.json` beside each Parquet file, as no
            program reads one of ten million objects.
        on_progress: see `Progress`.
        call_options: further arguments of the pipeline's call.

    Returns:
        The folder. Without `shard` the whole result is in it; a run that is finished already returns at once.

    Raises:
        TypeError: a stream; `shard_rows` that is no integer.
        ValueError: `shard_rows` below 1; a data set that is not of the schema or without rows, or without photos for a
            pipeline that looks at them; another run in the folder; a piece that something else broke; a finished run of
            whose result something is gone; options that the pipeline refuses.
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
    shard_rows = check_integer("shard_rows", shard_rows, 1)
    first, step = shard or (0, 1)
    if not 0 <= first < step:
        raise ValueError(f"`shard` must be (i, n) with i from 0 to n - 1, got {shard}.")
    if not hasattr(dataset, "__len__"):
        raise TypeError(
            f"`dataset` must be a datasets.Dataset, got {type(dataset).__name__}; an `AmodalAnnotator` maps a stream."
        )
    check_rows(dataset, "`dataset`")
    if not len(dataset):
        raise ValueError("`dataset` must have at least one row.")
    needs_photos = not isinstance(pipeline, MaskBaseline) and pipeline.needs_image
    if needs_photos and "image" not in dataset.column_names:
        raise ValueError(f"`dataset` must have photos in a column `image`: {type(pipeline).__name__} looks at them.")
    run = run_record(
        pipeline, pipeline_name, call_options,
        dataset=dataset_digest(dataset), photos=photos_digest(dataset) if needs_photos else "", images=len(dataset),
        shard_rows=shard_rows, coco_shards=coco_shards,
    )  # fmt: skip
    store = AnnotationStore(Path(folder), run, count=-(-len(dataset) // shard_rows))
    report = on_progress or (lambda done: None)
    if store.is_finished():
        _check_result(store)
    try:
        if not store.is_finished():
            annotator, share = AmodalAnnotator(pipeline, **call_options), range(first, store.count, step)
            _work(store, dataset, annotator, shard_rows, share, report)
        if shard is None and not store.is_finished():
            _join(store)
    except FileNotFoundError:  # of a piece, which another process has joined and removed since we looked
        if not store.is_finished():
            raise
    if store.is_finished():
        store.sweep()
        report(len(dataset))
    return Path(folder)


def _work(
    store: AnnotationStore,
    dataset: Dataset,
    annotator: AmodalAnnotator,
    shard_rows: int,
    share: range,
    report: Progress,
) -> None:
    """Do the pieces of a share that are missing."""
    count = len(dataset)
    rows = encoded_photos(dataset).with_format("arrow")
    todo = [index for index in share if index in store.missing]
    report(count - _rows_of(store.missing, shard_rows, count))
    tables = (rows[index * shard_rows : (index + 1) * shard_rows] for index in todo)
    for index, table in zip(todo, annotator.stream(tables), strict=True):
        store.write(index, table)
        report(count - _rows_of(store.missing, shard_rows, count))


def _rows_of(pieces: set[int], shard_rows: int, count: int) -> int:
    """The rows of some pieces, of which only the last one of all may be shorter."""
    last = (count - 1) // shard_rows
    return len(pieces) * shard_rows - ((last + 1) * shard_rows - count if last in pieces else 0)


# Joining the pieces


def _check_result(store: AnnotationStore) -> None:
    """Refuse a finished run of whose result something is gone."""
    files = sorted((store.folder / "data").glob("*.parquet"))
    documents = coco_names(len(files), one_each=store.run["coco_shards"])
    lacks = lacking_shards(files)
    lacks += [name for name in (*documents, "README.md") if not (store.folder / name).is_file()]
    if not files or lacks:
        gone = f"{lacks[0]} is gone" if files else "its Parquet files are gone"
        raise ValueError(
            f"output {store.folder} says that it is finished, but {gone}; delete the folder and start the same command "
            "again."
        )


def _join(store: AnnotationStore) -> None:
    counts = RecordCounts()
    with atomic_folder(store.folder / "data") as beside:
        write_shards(_tables(store, counts), annotation_features(), beside, "train", _SHARD_BYTES)
    files = sorted((store.folder / "data").iterdir())
    name, options = store.run["pipeline"], store.run["options"]
    info = {"description": "pseudo-amodal masks", "pipeline": name, "options": options}
    write_coco_files(files, store.folder, info, one_each=store.run["coco_shards"])
    write_text(store.folder / "README.md", annotation_card(counts, store.folder.resolve().name, name))
    store.finish()


def annotation_card(counts: RecordCounts, name: str, pipeline_name: str) -> str:
    """The data-set card of a result.

    Example:
        >>> "not ground truth" in annotation_card(RecordCounts(), "mine", "pcnet-m")
        True
    """
    note = (
        f"Pseudo-amodal annotations: the whole masks, the order and the uncertainty are predictions of "
        f"`{pipeline_name}` from the visible masks, not ground truth."
    )
    return dataset_card({"train": counts}, name, description=note)


def _tables(store: AnnotationStore, counts: RecordCounts) -> Iterator[pyarrow.Table]:
    """All pieces in order, a number of them in each table; rows are counted."""
    import pyarrow

    gathered: list[pyarrow.Table] = []
    for index in range(store.count):
        gathered.append(store.read(index))
        counts.add_batch(gathered[-1])
        if sum(table.num_rows for table in gathered) >= _JOINED_ROWS or index == store.count - 1:
            yield pyarrow.concat_tables(gathered).combine_chunks()
            gathered = []
