"""A data set of the schema as the file of an annotation tool or of a published data set."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..arguments.choices import check_choice
from ..files import write_text
from .cvat import cvat_labels, write_cvat
from .label_studio import label_studio_config, write_label_studio
from .published_formats import write_cocoa, write_d2sa, write_kins

Rows = Iterable[Mapping[str, Any]]


def _cvat(rows: Rows, path: Path) -> list[Path]:
    labels = path.with_name(f"{path.stem}-labels.json")
    write_text(labels, json.dumps(cvat_labels(write_cvat(rows, path)), indent=2) + "\n")
    return [path, labels]


def _label_studio(rows: Rows, path: Path) -> list[Path]:
    interface = path.with_name(f"{path.stem}-interface.xml")
    write_text(interface, label_studio_config(write_label_studio(rows, path)))
    return [path, interface]


def _file(write: Callable[[Rows, Path], None]) -> Callable[[Rows, Path], list[Path]]:
    def writer(rows: Rows, path: Path) -> list[Path]:
        write(rows, path)
        return [path]

    return writer


TOOLS: dict[str, Callable[[Rows, Path], list[Path]]] = {
    "cvat": _cvat,
    "label-studio": _label_studio,
    "kins": _file(write_kins),
    "cocoa": _file(write_cocoa),
    "d2sa": _file(write_d2sa),
}
"""What `export_dataset` writes, by name."""


def export_dataset(rows: Rows, tool: str, path: str | os.PathLike[str]) -> list[Path]:
    """Write rows as a file of another tool or data set.

    Args:
        rows: of the schema, read one after the other.
        tool: a key of `TOOLS`: "cvat" (and `*-labels.json`, which its label editor takes), "label-studio" (and
            `*-interface.xml`, the labelling interface), "kins", "cocoa", "d2sa".
        path: of the file.

    Returns:
        The files that were written.

    Raises:
        ValueError: unknown `tool`; a row that the format cannot hold, see its writer.
        OSError: a file cannot be written.

    Example:
        >>> import tempfile
        >>> from amodal_diffusion.data import iter_coco
        >>> content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 6}], "annotations": []}
        >>> written = export_dataset(iter_coco(content), "cvat", Path(tempfile.mkdtemp(), "annotations.xml"))
        >>> [path.name for path in written]
        ['annotations.xml', 'annotations-labels.json']
    """
    check_choice("tool", tool, sorted(TOOLS))
    return TOOLS[tool](rows, Path(path))
