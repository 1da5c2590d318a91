"""Annotation on a cluster of any size, by Ray Data: Parquet in, `AmodalAnnotator` in a pool of actors, Parquet out.

    annotation.json     what decides the result; another run in the same folder is refused
    data/*.parquet      the result, in the order in which it was done
    checkpoint/         the ids that are done, kept by Ray while the work goes on

Ray writes the ids of a file beside it before and confirms them after it, so a file whose writer died is removed at the
next start and its rows are done again: no row is lost, none is there twice.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from posixpath import basename, dirname, join, relpath
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..arguments.numeric import check_integer
from ..data import RecordCounts, amodal_features
from ..evaluation import MaskBaseline, load_pipeline
from ..files import PARTIAL
from .annotator import AmodalAnnotator, annotation_features
from .folder_run import annotation_card
from .record import RECORD, check_same_run, read_record, record_text, run_record

if TYPE_CHECKING:
    import pyarrow
    import torch

_DATA, _CHECKPOINT = "data", "checkpoint"


def annotate_with_ray(
    source: str | os.PathLike[str],
    pipeline: MaskBaseline | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    num_workers: int = 1,
    num_gpus: float = 0,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    batch_rows: int = 32,
    block_bytes: int = 2**26,
    address: str | None = None,
    **call_options: Any,
) -> int:
    """Complete all objects of a data set on a Ray cluster; started again after any failure, it goes on.

    Every place is a folder that all machines see, or a URL that fsspec opens, such as "s3://bucket/set" or
    "hf://datasets/user/name". The result has the rows of `annotate_dataset`, in any order, and neither COCO document.

    Args:
        source: folder of Parquet files of `amodal_features`, or one file; `image_id` must differ in all rows.
        pipeline: folder or Hub id of a mask pipeline, as the machines of the cluster reach it; or one of `BASELINES`.
        folder: gets `data/*.parquet` (`load_amodal_dataset` reads it; the extra columns are of `annotation_features`)
            and `README.md`, the card.
        images: see `AmodalAnnotator`, for data without photos in it.
        num_workers: actors, each with a pipeline of its own.
        num_gpus: GPUs of an actor; a part of one, such as 0.5, lets two share it.
        device: see `AmodalAnnotator`.
        dtype: see `AmodalAnnotator`.
        batch_rows: images that an actor takes at a time.
        block_bytes: of rows that Ray reads, hands on and writes at a time, and so about what is done again for each
            actor that dies: 64 MiB are some 600 photos, or some 6,000 rows without photos.
        address: of the cluster, as `ray.init` takes it; None takes `RAY_ADDRESS`, or starts one on this machine. A
            connection that is open is used. A cluster needs two processors more than there are actors, to read and
            to write.
        call_options: further arguments of the pipeline's call.

    Returns:
        The number of images with an `error`.

    Raises:
        ImportError: without the extra `ray`.
        TypeError: a number of workers, rows or bytes that is no integer.
        ValueError: such a number below 1; another run in the folder; options that the pipeline refuses; rows that lack
            columns of the schema.
        FileNotFoundError: no Parquet files in `source`.
        FileExistsError: `folder` holds other files.
        RuntimeError: the result has another number of rows than the source, since ids occur in it twice.

    Example:
        >>> annotate_with_ray("rows", "pipelines/pcnet-m", "completed", num_workers=0)
        Traceback (most recent call last):
            ...
        ValueError: `num_workers` must be at least 1, got 0.
    """
    for name, value in (("num_workers", num_workers), ("batch_rows", batch_rows), ("block_bytes", block_bytes)):
        check_integer(name, value, 1)
    _check_ray()
    files = _find_parquet(_Place(source))
    columns, rows = _read_columns(files)
    photos = "" if images is None else os.fspath(images)
    more = {"engine": "ray", "dataset": _files_digest(files), "photos": photos, "images": rows}
    if isinstance(pipeline, MaskBaseline):
        run = run_record(pipeline, "", call_options, **more)
    else:
        pipeline = os.fspath(pipeline)
        precision: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
        loaded = load_pipeline(pipeline, **precision)
        if loaded.needs_image and "image" not in columns and images is None:
            raise ValueError(
                f"`images` must be given: {type(loaded).__name__} looks at photos, and the rows have none."
            )
        run = run_record(loaded, pipeline, call_options, **more)
        del loaded
    place = _Place(folder)
    if not _begin(place, run):
        kwargs = {"images": images, "device": device, "dtype": dtype, **call_options}
        with _ray(address, num_workers), _data_context(place, block_bytes):
            _map_files(files, columns, place, pipeline, kwargs, num_workers, num_gpus, batch_rows)
        _finish(place, run, rows)
    return _count_rows(place, errors=True)


def _check_ray() -> None:
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise ImportError("annotation on a cluster needs Ray: pip install 'amodal-diffusion[ray]'.") from error


class _Place:
    """A folder, or a file, on any file system of fsspec."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import fsspec
        from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

        self.name = os.fspath(path)
        local = "://" not in self.name
        self.files, self.path = fsspec.core.url_to_fs(os.path.abspath(self.name) if local else self.name)
        self.arrow: Any = LocalFileSystem() if local else PyFileSystem(FSSpecHandler(self.files))

    def inside(self, name: str) -> str:
        return join(self.path, name)

    def read(self, name: str) -> bytes | None:
        path = self.inside(name)
        return bytes(self.files.cat_file(path)) if self.files.exists(path) else None

    def write(self, name: str, text: str) -> None:
        """Whole: beside its place first, where a killed program leaves a file that is in nobody's way."""
        beside = self.inside(f"{PARTIAL}{uuid4().hex}")
        self.files.makedirs(self.path, exist_ok=True)
        self.files.pipe_file(beside, text.encode())
        self.files.mv(beside, self.inside(name))


def _find_parquet(place: _Place) -> list[tuple[_Place, str, int]]:
    """The Parquet files of a folder, as `load_amodal_dataset` finds them: (place, path, size), sorted."""
    if place.files.isfile(place.path):
        found = {place.path: place.files.info(place.path)}
    else:
        found = place.files.find(place.path, detail=True) if place.files.exists(place.path) else {}
    paths = sorted(path for path in found if path.endswith(".parquet") and not basename(path).startswith("._"))
    near = [path for path in paths if relpath(dirname(path), place.path).split("/")[0] in (".", _DATA)]
    if not paths:
        raise FileNotFoundError(f"no Parquet files in {place.name!r}")
    return [(place, path, int(found[path]["size"])) for path in near or paths]


def _files_digest(files: Sequence[tuple[_Place, str, int]]) -> str:
    """Digest of names and sizes, which a list of the folder tells: the rows are read by the cluster alone."""
    digest = hashlib.sha256()
    for place, path, size in files:
        digest.update(f"{relpath(path, place.path)} {size}\n".encode())
    return digest.hexdigest()[:16]


def _read_columns(files: Sequence[tuple[_Place, str, int]]) -> tuple[list[str], int]:
    """The columns of the schema that the files have, and the number of rows, from their footers."""
    import pyarrow.dataset

    paths = [path for _, path, _ in files]
    found = pyarrow.dataset.dataset(paths, format="parquet", filesystem=files[0][0].arrow)
    lacking = sorted(set(amodal_features()) - set(found.schema.names))
    if lacking:
        raise ValueError(f"{files[0][0].name!r} is not an amodal data set: it lacks the columns {lacking}")
    return [name for name in amodal_features(with_image=True) if name in found.schema.names], found.count_rows()


def _begin(place: _Place, run: dict[str, Any]) -> bool:
    """Guard the folder; whether the run is finished in it."""
    text = place.read(RECORD)
    if text is not None:
        found, finished = read_record(text, f"{place.name}/{RECORD}")
        check_same_run(found, run, place.name)
        return finished
    paths = place.files.ls(place.path, detail=False) if place.files.exists(place.path) else []
    names = [basename(path.rstrip("/")) for path in paths]
    others = [name for name in names if not name.startswith(PARTIAL)]
    if others:
        raise FileExistsError(f"output {place.name} holds other files, such as {min(others)!r}; choose a new folder.")
    place.write(RECORD, record_text(run, finished=False))
    return False


@contextmanager
def _ray(address: str | None, num_workers: int) -> Iterator[None]:
    """A connection to the cluster, closed after it unless it was open before."""
    import ray

    was_open = ray.is_initialized()
    if not was_open:
        starts_one = address is None and not os.environ.get("RAY_ADDRESS")
        count = max(os.cpu_count() or 1, num_workers + 2)
        ray.init(**({"num_cpus": count, "include_dashboard": False} if starts_one else {"address": address}))
    try:
        yield
    finally:
        if not was_open:
            ray.shutdown()


@contextmanager
def _data_context(place: _Place, block_bytes: int) -> Iterator[None]:
    """Inside the block, Ray works in small blocks, keeps what is done, and skips it.

    It does not delete that at the end: the driver may die before the record says that the run is finished.
    """
    from ray.data import DataContext
    from ray.data.checkpoint import CheckpointConfig

    context = DataContext.get_current()
    settings = {
        "checkpoint_config": CheckpointConfig(
            id_column="image_id",
            checkpoint_path=place.inside(_CHECKPOINT),
            override_filesystem=place.arrow,
            delete_checkpoint_on_success=False,
        ),
        "target_max_block_size": block_bytes,
        "target_min_block_size": min(context.target_min_block_size, block_bytes),
    }
    before = {name: getattr(context, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(context, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


def _map_files(
    files: Sequence[tuple[_Place, str, int]],
    columns: Sequence[str],
    place: _Place,
    pipeline: MaskBaseline | str,
    kwargs: dict[str, Any],
    num_workers: int,
    num_gpus: float,
    batch_rows: int,
) -> None:
    import ray.data

    source = files[0][0]
    rows = ray.data.read_parquet([path for _, path, _ in files], filesystem=source.arrow, columns=list(columns))
    done = rows.map_batches(
        AmodalAnnotator,
        fn_constructor_args=(pipeline,),
        fn_constructor_kwargs=kwargs,
        compute=ray.data.ActorPoolStrategy(size=num_workers),
        num_gpus=num_gpus or None,
        batch_size=batch_rows,
        batch_format="pyarrow",
    )
    done.write_parquet(place.inside(_DATA), filesystem=place.arrow)


def _result(place: _Place) -> pyarrow.dataset.Dataset:
    import pyarrow.dataset

    schema = annotation_features().arrow_schema
    return pyarrow.dataset.dataset(place.inside(_DATA), schema=schema, format="parquet", filesystem=place.arrow)


def _count_rows(place: _Place, *, errors: bool = False) -> int:
    import pyarrow.compute as compute

    rows = _result(place)
    return int(rows.count_rows(filter=compute.field("error").is_valid()) if errors else rows.count_rows())


def _finish(place: _Place, run: dict[str, Any], rows: int) -> None:
    found = _count_rows(place)
    if found != rows:
        raise RuntimeError(
            f"output {place.name} has {found:,} rows, the source has {rows:,}: `image_id` must differ in all rows."
        )
    counts = RecordCounts()
    for batch in _result(place).to_batches(columns=["objects", "order_relations", "source"]):
        counts.add_batch(batch)
    name = basename(place.path.rstrip("/"))
    place.write("README.md", annotation_card(counts, name, run["pipeline"]))
    place.write(RECORD, record_text(run, finished=True))
    if place.files.exists(place.inside(_CHECKPOINT)):
        place.files.rm(place.inside(_CHECKPOINT), recursive=True)
