"""All formats of annotations by their names, and reading a file whatever its format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from ...hub import is_hub_id
from ..dataset import load_amodal_dataset
from .cityscapes import LABEL_SUFFIX, iter_cityscapes
from .coco import detect_layout, iter_coco
from .cocoa import iter_cocoa
from .json_arrays import named_error
from .records import Annotations, BadRecord, OnError, load_annotations
from .restricted_pickle import PICKLE_SUFFIXES
from .rows import dataset_from_rows, stream_from_rows
from .tools.cvat import iter_cvat
from .tools.label_studio import iter_label_studio
from .tools.labelme import iter_labelme

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

Format = Literal[
    "auto", "bsds-a", "cityscapes", "coco", "cocoa", "cocoa-cls", "cvat", "d2sa", "kins", "label-studio", "labelme",
    "lvis", "mp3d-amodal", "parquet",
]  # fmt: skip


@dataclass(frozen=True)
class FileFormat:
    """A format of annotation files.

    Attributes:
        title: what it is, for help texts.
        rows: reads it; takes the arguments of `iter_coco` but `layout`.

    Example:
        >>> FILE_FORMATS["d2sa"].title
        'D2SA, JSON'
    """

    title: str
    rows: Callable[..., Iterator[dict[str, Any]]]


FILE_FORMATS = {
    "cocoa": FileFormat("COCO Amodal, JSON", iter_cocoa),
    "bsds-a": FileFormat("BSDS-A, JSON as COCOA", iter_cocoa),
    "cocoa-cls": FileFormat("COCOA-cls, JSON", partial(iter_coco, layout="cocoa-cls")),
    "kins": FileFormat("KINS, JSON, the older files and those of 2020", partial(iter_coco, layout="kins")),
    "d2sa": FileFormat("D2SA, JSON", partial(iter_coco, layout="cocoa-cls")),
    "mp3d-amodal": FileFormat("MP3D-Amodal, pickle, of which nothing is run", iter_cocoa),
    "coco": FileFormat("COCO, JSON", partial(iter_coco, layout="coco")),
    "lvis": FileFormat("LVIS, JSON", partial(iter_coco, layout="coco")),
    "cityscapes": FileFormat("Cityscapes, the folder gtFine", iter_cityscapes),
    "cvat": FileFormat("CVAT for images 1.1, XML", iter_cvat),
    "label-studio": FileFormat("Label Studio, JSON", iter_label_studio),
    "labelme": FileFormat("labelme, a folder of JSON files", iter_labelme),
}
FORMATS = (*sorted(FILE_FORMATS), "parquet")
_OPENED_BY_THEIR_READERS = ("cityscapes", "cvat", "label-studio", "labelme")


def detect_format(annotations: Annotations) -> str:
    """Tell the format of a source of annotations.

    Args:
        annotations: JSON file or its content, pickle, folder of Cityscapes, Parquet file or folder of them, Hub id.

    Returns:
        "parquet" for a Parquet file, a folder or a Hub id; "cityscapes" for a folder with its label files; "cvat" for
        an XML file or a folder with `annotations.xml`; "labelme" for a JSON file with `shapes`, or a folder of such
        files; "label-studio" for a JSON file that is a list of tasks; "mp3d-amodal" for a pickle; "cocoa" where
        annotations have `regions`; else the layout of a COCO-style file (see `iter_coco`), "coco" for a file without
        annotations. Formats of the same layout are not told apart: "coco" may be LVIS, "cocoa-cls" D2SA, "cocoa"
        BSDS-A.

    Raises:
        FileNotFoundError: no such file, and no Hub id either.
        AnnotationError: the file is broken.

    Example:
        >>> detect_format({"images": [], "annotations": [{"regions": []}]})
        'cocoa'
    """
    return open_annotations(annotations)[0]


def open_annotations(annotations: Annotations, format: str = "auto") -> tuple[str, Annotations]:  # noqa: A002
    """Look which format a source of annotations has, and open it where it is a file, so that it is parsed only once.

    Args:
        annotations: as for `detect_format`.
        format: a key of `FILE_FORMATS`, "parquet", or "auto" to look.

    Returns:
        The format, and what the readers take in place of `annotations`: the opened file; the path itself for Parquet
        and folders.

    Raises:
        FileNotFoundError, AnnotationError: see `detect_format`.

    Example:
        >>> content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 6}], "annotations": []}
        >>> name, opened = open_annotations(content)
        >>> name, len(list(iter_annotations(opened, format=name)))
        ('coco', 1)
    """
    name = _format_of_place(annotations) if format == "auto" else format
    if name == "parquet" or name in _OPENED_BY_THEIR_READERS:
        return name, annotations
    file = load_annotations(annotations)
    return name or ("cocoa" if file.has_field("regions") else detect_layout(file)), file


def iter_annotations(
    annotations: Annotations,
    images: str | os.PathLike[str] | None = None,
    *,
    format: str = "auto",  # noqa: A002 - the word of the command line
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
    source: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of an annotation file of any known format but Parquet.

    Args:
        annotations: see `read_annotations`.
        images: see `read_annotations`.
        format: see `read_annotations`.
        on_error: see `read_annotations`.
        bad_records: see `read_annotations`.
        source: see `read_annotations`.

    Raises:
        FileNotFoundError, NotADirectoryError: `annotations` or `images` does not exist, or `images` is no folder.
        AnnotationError: the file is broken, or a record is bad and `on_error` is "raise".
        ValueError: unknown `format` or `on_error`; Parquet, which `load_amodal_dataset` reads.

    Example:
        >>> content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 6}], "annotations": []}
        >>> [row["file_name"] for row in iter_annotations(content, format="lvis")]
        ['1.jpg']
    """
    _check_options(format, on_error)
    name, opened = open_annotations(annotations, format)
    if name == "parquet":
        raise ValueError(f"{annotations!s:.200} is Parquet, read it with load_amodal_dataset")
    options: dict[str, Any] = {"on_error": on_error, "bad_records": bad_records, "source": source}
    return FILE_FORMATS[name].rows(opened, images, **options)


@overload
def read_annotations(
    annotations: Annotations,
    images: str | os.PathLike[str] | None = ...,
    *,
    format: Format = ...,  # noqa: A002
    split: str | None = ...,
    on_error: OnError = ...,
    bad_records: list[BadRecord] | None = ...,
    source: str | None = ...,
    cache_dir: str | os.PathLike[str] | None = ...,
    streaming: Literal[False] = ...,
) -> Dataset: ...
@overload
def read_annotations(
    annotations: Annotations,
    images: str | os.PathLike[str] | None = ...,
    *,
    format: Format = ...,  # noqa: A002
    split: str | None = ...,
    on_error: OnError = ...,
    bad_records: list[BadRecord] | None = ...,
    source: str | None = ...,
    cache_dir: str | os.PathLike[str] | None = ...,
    streaming: bool,
) -> Any: ...


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
    streaming: bool = False,
) -> Dataset | IterableDataset:
    """Read annotations of any known format into a data set of `amodal_features`.

    Args:
        annotations: JSON file or its content, pickle of MP3D-Amodal, folder of Cityscapes, Parquet file or folder of
            them, Hub id of a data set.
        images: folder of the photos; None leaves the column `image` out. Parquet may have its own photos.
        format: a key of `FILE_FORMATS`, "parquet", or "auto" to look into the file.
        split: see `load_amodal_dataset`; only for Parquet.
        on_error: "raise" refuses the first bad record of an annotation file; "skip" leaves it out, its image stays.
        bad_records: list to which the skipped records are appended.
        source: name of the data set for the column `source`; the file's name without extension if None, for
            Cityscapes "cityscapes". Parquet has its own.
        cache_dir: folder for the Arrow files; None takes a temporary one that lasts as long as the process, for
            Parquet the cache of `datasets`.
        streaming: read rows as they are asked for (`IterableDataset`); nothing is written to disk.

    Raises:
        FileNotFoundError, NotADirectoryError: `annotations` or `images` does not exist, or `images` is no folder.
        AnnotationError: the file is broken, or a record is bad and `on_error` is "raise".
        ValueError: unknown `format` or `on_error`; `images` for Parquet with photos, `split` without Parquet.

    Example:
        >>> content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 6}], "annotations": []}
        >>> read_annotations(content)[0]["file_name"]
        '1.jpg'
        >>> type(read_annotations(content, streaming=True)).__name__
        'IterableDataset'
    """
    _check_options(format, on_error)
    if format == "parquet" and not isinstance(annotations, (str, os.PathLike)):
        raise ValueError(f"format 'parquet' needs a path or a Hub id, got {type(annotations).__name__}")
    # Opened once: not again to look which format it is, nor for another pass of a stream.
    name, opened = open_annotations(annotations, format)
    if name == "parquet":
        options: dict[str, Any] = {"images": images, "cache_dir": cache_dir, "streaming": streaming}
        return load_amodal_dataset(opened, split, **options)  # type: ignore[arg-type]
    if split is not None:
        raise ValueError(f"split must be None for an annotation file, got {split!r}")
    make_rows = partial(
        iter_annotations, opened, images, format=name, on_error=on_error, bad_records=bad_records, source=source
    )
    if streaming:
        return stream_from_rows(make_rows, with_image=images is not None)
    return dataset_from_rows(make_rows(), with_image=images is not None, cache_dir=cache_dir)


def _check_options(name: str, on_error: str) -> None:
    if name not in ("auto", *FORMATS):
        raise ValueError(f"format must be 'auto' or one of {list(FORMATS)}, got {name!r}")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")


def _format_of_place(annotations: Annotations) -> str | None:
    """The format where a look at the path tells it."""
    if not isinstance(annotations, (str, os.PathLike)):
        return None
    path = Path(annotations)
    if path.is_dir():
        return _format_of_folder(path)
    if path.suffix == ".parquet" or is_hub_id(annotations):
        return "parquet"
    if path.suffix.lower() == ".xml":
        return "cvat"
    if path.suffix in PICKLE_SUFFIXES:
        return "mp3d-amodal"
    return _format_of_json(path) if path.is_file() else None


def _format_of_folder(path: Path) -> str:
    # The names that a data set of ours has are looked for first: there may be millions of photos beside them.
    if (path / "annotations.xml").is_file():
        return "cvat"
    if any(next(place.glob("*.parquet"), None) is not None for place in (path, path / "data")):
        return "parquet"
    if _first_file(path, f"*{LABEL_SUFFIX}") is not None:
        return "cityscapes"
    drawn = _first_file(path, "*.json")
    if drawn is None or _first_file(path, "*.parquet") is not None:
        return "parquet"
    return "labelme" if _format_of_json(drawn) == "labelme" else "parquet"


def _first_file(folder: Path, pattern: str) -> Path | None:
    """A file of that name below the folder; "._" files are macOS's own, beside the real ones."""
    return next((path for path in folder.rglob(pattern) if not path.name.startswith("._")), None)


def _format_of_json(path: Path) -> str | None:
    """What the beginning of a JSON file tells: Label Studio's is a list of tasks, one of labelme names its shapes."""
    with path.open("rb") as file:
        try:
            head = file.read(4096).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
        except OSError as error:
            raise named_error(error, path) from error
    if head.startswith("["):
        return "label-studio" if '"data"' in head or head == "[]" else None
    return "labelme" if '"shapes"' in head and '"images"' not in head else None
