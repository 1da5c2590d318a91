"""One call for any annotation file: find its format, read it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from datasets import Dataset

from amodal_diffusion.data.coco import detect_layout, read_coco
from amodal_diffusion.data.cocoa import read_cocoa
from amodal_diffusion.data.records import BadRecord, OnError, load_annotations

Format = Literal["auto", "coco", "cocoa", "cocoa-cls", "kins"]
FORMATS = ("coco", "cocoa", "cocoa-cls", "kins")


def detect_format(annotations: str | os.PathLike[str] | Mapping[str, Any]) -> Literal["coco", "cocoa", "cocoa-cls", "kins"]:
    """Format of an annotation file by its fields.

    Args:
        annotations: JSON file, or its content.

    Returns:
        "cocoa" where annotations have `regions`, else the layout of a COCO-flat file (see `iter_coco`); "coco" for a file
        without annotations.

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: the file is broken.
    """
    content, _ = load_annotations(annotations)
    if any(isinstance(annotation, Mapping) and "regions" in annotation for annotation in content["annotations"]):
        return "cocoa"
    return detect_layout(content)


def read_annotations(
    annotations: str | os.PathLike[str] | Mapping[str, Any],
    images: str | os.PathLike[str] | None = None,
    *,
    format: Format = "auto",  # noqa: A002 - the word of the command line
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
    source: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Read an annotation file of any known format into a `datasets.Dataset` of `amodal_features`.

    Args:
        annotations: JSON file, or its content.
        images: folder of the photos; None leaves the column `image` out.
        format: "coco", "cocoa", "cocoa-cls" (D2SA too), "kins", or "auto" to look into the file.
        on_error: "raise" refuses the first bad record; "skip" leaves it out, the rest of its image stays.
        bad_records: list that takes the records skipped.
        source: name of the data set for the column `source`; the format where None.
        cache_dir: folder for the Arrow files; None takes a temporary one that lasts as long as the process.

    Raises:
        FileNotFoundError, NotADirectoryError: `annotations` or `images` is not there.
        AnnotationError: the file is broken, or a record is bad and `on_error` is "raise".
        ValueError: unknown `format` or `on_error`.
    """
    if format not in ("auto", *FORMATS):
        raise ValueError(f"format must be 'auto' or one of {list(FORMATS)}, got {format!r}")
    name = format if format != "auto" else detect_format(annotations)
    if name == "cocoa":
        return read_cocoa(
            annotations, images, on_error=on_error, bad_records=bad_records, source=source, cache_dir=cache_dir
        )
    return read_coco(
        annotations,
        images,
        on_error=on_error,
        bad_records=bad_records,
        layout=name,
        source=source,
        cache_dir=cache_dir,
    )
