"""The visible objects of one photo, read from COCO JSON, PNG masks or a label map."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data import AnnotationError, detect_format, iter_coco, iter_cocoa, record_masks
from ..display import short_repr
from ..files import PathLike
from .coco_results import check_score, group_results, read_json

# A lossy photo format would turn the edges of a mask into other labels.
_MASK_FORMATS = ("PNG", "TIFF", "BMP")
_MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True)
class ObjectMasks:
    """The visible objects of one photo.

    Args:
        masks: (N, H, W) bool modal masks.
        names: N names, "" where unknown.
        category_ids: N category ids, 0 where unknown.
        scores: N confidences of a segmenter, 1.0 where unknown.

    Example:
        >>> ObjectMasks(np.zeros((2, 4, 6), bool), names=["cup", "plate"])
        ObjectMasks(masks=bool (2, 4, 6), names=['cup', 'plate'], category_ids=[0, 0], scores=[1.0, 1.0])
    """

    masks: np.ndarray
    names: list[str] = field(default_factory=list)
    category_ids: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.masks)
        object.__setattr__(self, "names", self.names or [""] * count)
        object.__setattr__(self, "category_ids", self.category_ids or [0] * count)
        object.__setattr__(self, "scores", self.scores or [1.0] * count)
        for name in ("names", "category_ids", "scores"):
            actual = len(getattr(self, name))
            if actual != count:
                raise ValueError(f"`{name}` must have one entry for each of {count} masks, got {actual}.")

    __repr__ = short_repr


def read_object_masks(
    sources: PathLike | Sequence[PathLike], *, size: tuple[int, int] | None = None, file_name: str | None = None
) -> ObjectMasks:
    """Read the modal masks of one photo.

    Args:
        sources: a COCO JSON (data set or list of results), a folder of mask files, one label map (0 is background,
            every other value an object; 8 or 16 bit), or several mask files (not 0 is the object).
        size: (height, width) in pixels of the photo, which the masks must have; None takes that of the source.
        file_name: name of the photo, which chooses among the images of a COCO JSON.

    Raises:
        ValueError: for an unreadable, empty or unknown file, masks of another size, or a photo that the JSON lacks;
            the message names the file.
        FileNotFoundError: for a path that does not exist.

    Example:
        >>> import tempfile
        >>> labels = np.array([[0, 1, 1], [0, 2, 2]], np.uint8)
        >>> path = Path(tempfile.mkdtemp()) / "labels.png"
        >>> Image.fromarray(labels).save(path)
        >>> read_object_masks(path).names
        ['label 1', 'label 2']
    """
    paths = [Path(sources)] if isinstance(sources, str | os.PathLike) else [Path(source) for source in sources]
    if not paths:
        raise ValueError("`sources` must name at least one file or folder, got none.")
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"masks {path} do not exist.")
    first = paths[0]
    if len(paths) > 1:
        return _read_mask_files(paths, size)
    if first.is_dir():
        files = [path for path in first.iterdir() if path.suffix.lower() in (".png", ".tif", ".tiff", ".bmp")]
        if not files:
            raise ValueError(f"folder {first} holds no PNG, TIFF or BMP masks.")
        return _read_mask_files(sorted(files, key=_natural_key), size)
    if first.suffix.lower() == ".json":
        return _read_coco(first, size, file_name)
    return _read_label_map(first, size)


def _read_mask_files(paths: Sequence[Path], size: tuple[int, int] | None) -> ObjectMasks:
    masks: list[np.ndarray] = []
    for path in paths:
        mask = _open_labels(path) != 0
        _check_size(path, mask.shape, size)
        if masks and mask.shape != masks[0].shape:
            raise ValueError(f"{_size_of(path, mask.shape)}, expected {_pixels(masks[0].shape)} as in {paths[0]}.")
        masks.append(mask)
    return ObjectMasks(np.stack(masks), names=[path.stem for path in paths])


def _read_label_map(path: Path, size: tuple[int, int] | None) -> ObjectMasks:
    labels = _open_labels(path)
    _check_size(path, labels.shape, size)
    values = np.unique(labels)
    values = values[values != 0]
    if not len(values):
        raise ValueError(f"label map {path} holds no object: all pixels are 0.")
    return ObjectMasks(labels == values[:, None, None], names=[f"label {int(value)}" for value in values])


def _open_labels(path: Path) -> np.ndarray:
    """(H, W) integers of a single-channel image; the indices of a palette image."""
    try:
        with Image.open(path) as image:
            kind, mode = image.format, image.mode
            labels = np.asarray(image) if kind in _MASK_FORMATS and mode in _MASK_MODES else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"mask file {path} cannot be read as an image: {error}") from error
    if kind not in _MASK_FORMATS:
        raise ValueError(f"mask file {path} is {kind}; expected one of {', '.join(_MASK_FORMATS)}.")
    if labels is None:
        raise ValueError(f"mask file {path} has image mode {mode}; expected one channel of integers.")
    return labels


def _check_size(path: Path, actual: Sequence[int], photo: tuple[int, int] | None) -> None:
    if photo is not None and tuple(actual) != tuple(photo):
        raise ValueError(f"{_size_of(path, actual)}, expected {_pixels(photo)}, the size of the photo.")


def _size_of(path: Path, size: Sequence[int]) -> str:
    return f"mask in {path} is {_pixels(size)} pixels (width x height)"


def _pixels(size: Sequence[int]) -> str:
    return f"{size[1]}x{size[0]}"


def _natural_key(path: Path) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part]


def _read_coco(path: Path, size: tuple[int, int] | None, file_name: str | None) -> ObjectMasks:
    content = read_json(path)
    if isinstance(content, list):
        document = _wrap_results(path, content, size, file_name)
    elif isinstance(content, dict) and isinstance(content.get("annotations"), list):
        document = _one_image(path, content, size, file_name)
    else:
        raise ValueError(f"{path} is no COCO JSON: expected a list of results, or an object with `annotations`.")
    try:
        reader = iter_cocoa if detect_format(document) == "cocoa" else iter_coco
        row = next(iter(reader(document)))
        masks, _ = record_masks(row)
    except AnnotationError as error:
        raise ValueError(f"{path}: {error.record.id}: {error.record.reason}") from error
    if not len(masks):
        raise ValueError(f"{path} has no object for image {row['file_name']!r}.")
    _check_size(path, masks.shape[1:], size)
    objects = row["objects"]
    records = document["annotations"] if len(document["annotations"]) == len(objects) else [{}] * len(objects)
    return ObjectMasks(
        masks,
        names=[obj["name"] or "" for obj in objects],
        category_ids=[0 if obj["category_id"] is None else obj["category_id"] for obj in objects],
        scores=[check_score(record, f"{path}: `score` of annotation {record.get('id')}") for record in records],
    )


def _one_image(
    path: Path, content: dict[str, Any], size: tuple[int, int] | None, file_name: str | None
) -> dict[str, Any]:
    """The document with the photo's entry of `images` alone, and its annotations."""
    image = dict(_choose_image(path, content.get("images"), file_name))
    if size is not None and image.get("height") is None and image.get("width") is None:
        image["height"], image["width"] = size
    records = [record for record in content["annotations"] if isinstance(record, dict)]
    records = [record for record in records if str(record.get("image_id")) == str(image.get("id"))]
    if size is not None and (image.get("height"), image.get("width")) == size:
        _check_run_lengths(path, records, size)
    numbered = [{"id": index + 1, **record} for index, record in enumerate(records)]
    return {**content, "images": [image], "annotations": numbered}


def _choose_image(path: Path, images: Any, file_name: str | None) -> dict[str, Any]:
    images = [image for image in images if isinstance(image, dict)] if isinstance(images, list) else []
    if not images:
        raise ValueError(f"{path} lists no `images`.")
    if len(images) == 1:
        return images[0]
    if file_name is None:
        raise ValueError(f"{path} lists {len(images)} images; the name of the photo must choose one.")
    for part in ("name", "stem"):
        wanted = getattr(Path(file_name), part)
        found = [image for image in images if getattr(Path(str(image.get("file_name") or "")), part) == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{path} lists {len(found)} images named {wanted}.")
    some = ", ".join(str(image.get("file_name")) for image in images[:3])
    raise ValueError(f"{path} lists no image named {Path(file_name).name}; it has {len(images)}, such as {some}.")


def _wrap_results(
    path: Path, results: list[Any], size: tuple[int, int] | None, file_name: str | None
) -> dict[str, Any]:
    """A document around a list of COCO results, which has neither images nor annotation ids."""
    if not results:
        raise ValueError(f"{path} is no COCO JSON: its list must hold objects, at least one.")
    groups = group_results(results, os.fspath(path))
    if len(groups) > 1:
        stem = Path(file_name or "").stem  # COCO names its photos by their id, filled with zeros
        wanted = {stem, stem.lstrip("0")} & groups.keys()
        if len(wanted) != 1:
            raise ValueError(f"{path} holds results for {len(groups)} images, none with the id {stem or '(no photo)'}.")
        groups = {key: groups[key] for key in wanted}
    (results,) = groups.values()
    if size is None:
        run_lengths = [result["segmentation"] for result in results if isinstance(result.get("segmentation"), dict)]
        if not run_lengths or not isinstance(run_lengths[0].get("size"), list) or len(run_lengths[0]["size"]) != 2:
            raise ValueError(f"{path} has polygons without the size of their image; give the photo.")
        size = tuple(run_lengths[0]["size"])
    else:
        _check_run_lengths(path, results, size)
    image = {"id": 1, "file_name": file_name or "", "height": size[0], "width": size[1]}
    return {"images": [image], "annotations": [{**r, "image_id": 1, "id": i + 1} for i, r in enumerate(results)]}


def _check_run_lengths(path: Path, records: Sequence[Mapping[str, Any]], photo: tuple[int, int]) -> None:
    """Refuse run lengths of another photo; what is no size at all is for the reader to refuse."""
    for record in records:
        segmentation = record.get("segmentation")
        size = segmentation.get("size") if isinstance(segmentation, dict) else None
        if isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size):
            _check_size(path, size, photo)
