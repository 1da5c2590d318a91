"""A completed photo as files: masks as PNG, pictures, COCO JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..files import PathLike, atomic_folder, check_output_folder, check_replaced, file_stem, read_json
from ..masks import TileStack

AMODAL_JSON, OVERLAY, ORDER_GRAPH = "amodal.json", "overlay.png", "order_graph.png"
MASK_FOLDER, OCCLUDER_FOLDER, SAMPLE_FOLDER = "amodal_masks", "occluder_masks", "samples"
RESULTS = (MASK_FOLDER, OCCLUDER_FOLDER, SAMPLE_FOLDER, OVERLAY, ORDER_GRAPH, AMODAL_JSON)
"""What `save_completion` may write into its folder, in the order in which it does."""
FILES_KEY = "files"
"""Key of the document's `info` under which stands what was written beside it."""


def check_completion_output(folder: PathLike) -> None:
    """Refuse a folder into which `save_completion` could not write, before the work whose result it should hold.

    Only what an earlier completion wrote, as its `amodal.json` says, is ever replaced or removed.

    Raises:
        FileExistsError: where the folder holds something else under one of the names of `RESULTS`.
        NotADirectoryError, OSError: as `files.check_output_folder` says.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "samples").mkdir()
        >>> check_completion_output(folder)
        Traceback (most recent call last):
        ...
        FileExistsError: output ... holds other files, such as 'samples'; choose a new folder.
    """
    check_output_folder(folder)
    check_replaced(folder, RESULTS, _earlier_files(Path(folder)))


def _earlier_files(folder: Path) -> list[str]:
    """What an earlier completion wrote into a folder; nothing where its record is none of ours."""
    try:
        names = list(read_json(folder / AMODAL_JSON)["info"][FILES_KEY])
    except (OSError, ValueError, LookupError, TypeError):
        return []
    return [name for name in RESULTS if name in names]


def save_completion(
    folder: PathLike,
    document: Mapping[str, Any],
    amodal: np.ndarray | TileStack,
    *,
    occluders: np.ndarray | TileStack | None = None,
    samples: np.ndarray | TileStack | None = None,
    sample_pictures: Sequence[Image.Image] | None = None,
    overlay: Image.Image | None = None,
    order_graph: Image.Image | None = None,
) -> list[Path]:
    """Write a completed photo, the files of `RESULTS`: masks as PNG (0 and 255), pictures, JSON.

    Each of them replaces what an earlier run left under its name (the folders of masks as a whole); what is not given
    is removed. Other files in the folder stay, and nothing is written where one of them has such a name: the JSON
    says under `info.files` what was written with it. It comes last: where it is, the rest is complete.

    Args:
        folder: made where it lacks.
        document: from `coco_document`; the names of its annotations name the mask files.
        amodal: (N, H, W) bool.
        occluders: (N, H, W) bool; they go to `occluder_masks`, with the names of the amodal masks.
        samples: (N, K, H, W) bool; they go to `samples`, with the names of the amodal masks and `_00`, `_01`, ...
        sample_pictures: N pictures, one of all samples of each object; they go there too, without a number.
        overlay: picture of the masks.
        order_graph: picture of the order.

    Returns:
        The paths written: the folders of the masks, the pictures, the JSON.

    Raises:
        FileExistsError: where the folder holds something under one of these names that no earlier run left there.
        NotADirectoryError: where `folder` is a file.

    Example:
        >>> import tempfile
        >>> document = {"annotations": [{"name": "cup"}]}
        >>> written = save_completion(tempfile.mkdtemp(), document, np.ones((1, 2, 3), bool))
        >>> [path.name for path in written]
        ['amodal_masks', 'amodal.json']
    """
    folder = Path(folder)
    check_completion_output(folder)
    with atomic_folder(folder, replaces=RESULTS) as staged:
        stems = [file_stem(index, annotation["name"]) for index, annotation in enumerate(document["annotations"])]
        for name, masks in ((MASK_FOLDER, amodal), (OCCLUDER_FOLDER, occluders)):
            if masks is not None:
                _save_masks(staged / name, masks, stems)
        if samples is not None:
            numbered = [f"{stem}_{number:02d}" for stem in stems for number in range(samples.shape[1])]
            _save_masks(staged / SAMPLE_FOLDER, chain.from_iterable(samples), numbered)
            for stem, drawing in zip(stems if sample_pictures else (), sample_pictures or (), strict=True):
                drawing.save(staged / SAMPLE_FOLDER / f"{stem}.png")
        for name, picture in ((OVERLAY, overlay), (ORDER_GRAPH, order_graph)):
            if picture is not None:
                picture.save(staged / name)
        written = [name for name in RESULTS if name == AMODAL_JSON or (staged / name).exists()]
        content = {**document, "info": {**document.get("info", {}), FILES_KEY: written}}
        (staged / AMODAL_JSON).write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
    return [folder / name for name in written]


def _save_masks(folder: Path, masks: Iterable[np.ndarray], stems: Sequence[str]) -> None:
    folder.mkdir()
    for mask, stem in zip(masks, stems, strict=True):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{stem}.png")
