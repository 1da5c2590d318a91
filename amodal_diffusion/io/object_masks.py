"""The visible objects of one photo, read from COCO JSON, PNG masks or a label map."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..data import AnnotationError, BadRecord, detect_format, iter_coco, iter_cocoa, record_masks
from ..data.readers.records import AnnotationFile, OnError, RecordLog, file_parts
from ..display import short_repr
from ..files import PathLike, check_path, read_json
from ..images import ImageInput, image_size
from ..masks import labelled_objects, one_object, picture_planes
from ..masks.rle import read_size
from .coco_results import check_score, group_results

logger = logging.getLogger(__name__)

# A lossy photo format would turn the edges of a mask into other labels.
_MASK_FORMATS = ("PNG", "TIFF", "BMP")


@dataclass(frozen=True)
class ObjectMasks:
    """The visible objects of one photo.

    Args:
        masks: (N, H, W) bool modal masks.
        names: N names, "" where unknown.
        category_ids: N category ids, None where unknown; 0 is an id like any other.
        scores: N confidences of a segmenter, 1.0 where unknown.
        is_crowd: N flags: a group of objects under one mask, which may hide others and is not completed itself.

    Example:
        >>> ObjectMasks(np.zeros((2, 4, 6), bool), names=["cup", "plate"]).category_ids
        [None, None]
    """

    masks: np.ndarray
    names: list[str] = field(default_factory=list)
    category_ids: list[int | None] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    is_crowd: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.masks)
        object.__setattr__(self, "names", self.names or [""] * count)
        object.__setattr__(self, "category_ids", self.category_ids or [None] * count)
        object.__setattr__(self, "scores", self.scores or [1.0] * count)
        object.__setattr__(self, "is_crowd", self.is_crowd or [False] * count)
        for name in ("names", "category_ids", "scores", "is_crowd"):
            actual = len(getattr(self, name))
            if actual != count:
                raise ValueError(f"`{name}` must have one entry for each of {count} masks, got {actual}.")

    __repr__ = short_repr


def read_object_masks(
    sources: PathLike | Sequence[PathLike],
    *,
    photo: ImageInput | None = None,
    size: tuple[int, int] | None = None,
    file_name: str | None = None,
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
) -> ObjectMasks:
    """Read the modal masks of one photo.

    Args:
        sources: a COCO JSON (data set or list of results), a folder of mask files, one mask or map of labels, or
            several mask files, one object each. What a picture shows is told as in `masks.pictures`; every page of a
            TIFF is an object. The one object of a file has the file's name. A map of labels may come with a JSON of
            their names: `["labels.png", "names.json"]`, with `{"1": "cup", "2": "saucer"}` in the latter; other labels
            stay "label 3".
        photo: the photo, upright by its EXIF data: its size is that of the masks, and its name, where it has one,
            chooses among the images of a COCO JSON. Only its header is read.
        size: (height, width) in pixels of the upright photo, in place of `photo`; None takes that of the source.
        file_name: name of the photo, in place of that of `photo`.
        on_error: "raise" refuses the first bad mask, and an entry of a COCO JSON that is no object; "skip" leaves it
            out. Annotations of images that a COCO JSON does not list are left out in any case, with one warning.
        bad_records: list to which the skipped masks are appended.

    Raises:
        TypeError: `sources` that are no paths.
        ValueError: for an unreadable, empty or unknown file, masks of another size, or a photo that the JSON lacks;
            the message names the file. `photo` and `size` together.
        FileNotFoundError: for a path that does not exist.

    Example:
        >>> import tempfile
        >>> labels = np.array([[0, 1, 1], [0, 2, 2]], np.uint8)
        >>> path = Path(tempfile.mkdtemp()) / "labels.png"
        >>> Image.fromarray(labels).save(path)
        >>> read_object_masks(path).names
        ['label 1', 'label 2']
    """
    given: Any = [sources] if isinstance(sources, str | os.PathLike) else sources
    if isinstance(given, bytes | Mapping) or not isinstance(given, Iterable):
        raise TypeError(f"`sources` must be a path or a list of paths, got {type(given).__name__}.")
    paths = [check_path(path, "sources") for path in given]
    if photo is not None:
        if size is not None:
            raise ValueError(f"`size` must be None where `photo` is given, got {size}.")
        size, file_name = image_size(photo), file_name or _name_of(photo)
    if not paths:
        raise ValueError("`sources` must name at least one file or folder, got none.")
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"masks {path} do not exist; COCO JSON, a folder of PNGs or a label map is read.")
    first = paths[0]
    options: dict[str, Any] = {"on_error": on_error, "bad_records": [] if bad_records is None else bad_records}
    pictures = [path for path in paths if path.suffix.lower() != ".json"]
    if len(paths) == 2 and len(pictures) == 1 and not pictures[0].is_dir():
        return _read_one_file(pictures[0], size, _label_names(next(path for path in paths if path != pictures[0])))
    if len(paths) > 1:
        return _read_mask_files(_own_files(paths), size, **options)
    if first.is_dir():
        files = _own_files(path for path in first.iterdir() if path.suffix.lower() in (".png", ".tif", ".tiff", ".bmp"))
        if not files:
            raise ValueError(f"folder {first} holds no PNG, TIFF or BMP masks.")
        return _read_mask_files(sorted(files, key=_natural_key), size, **options)
    if first.suffix.lower() == ".json":
        return _read_coco(first, size, file_name, **options)
    return _read_one_file(first, size)


def _name_of(photo: ImageInput) -> str | None:
    name = photo if isinstance(photo, str | os.PathLike) else getattr(photo, "filename", None)
    return Path(name).name if isinstance(name, str | os.PathLike) and str(name) else None


def _own_files(paths: Iterable[Path]) -> list[Path]:
    """Without the notes that macOS keeps beside files, such as ._a.png."""
    return [path for path in paths if not path.name.startswith("._")]


def _read_mask_files(
    paths: Sequence[Path], size: tuple[int, int] | None, on_error: OnError, bad_records: list[BadRecord]
) -> ObjectMasks:
    masks: list[npt.NDArray[np.bool_]] = []
    names: list[str] = []
    first: Path | None = None
    for path in paths:
        try:
            found = [_named(path, one_object, plane) for plane in _open_planes(path)]
            for mask in found:
                _check_size(path, mask.shape, size)
                if masks and mask.shape != masks[0].shape:
                    raise ValueError(f"{_size_of(path, mask.shape)}, expected {_pixels(masks[0].shape)} as in {first}.")
        except ValueError as error:
            if on_error == "raise":
                raise
            RecordLog(os.fspath(path.parent), on_error, bad_records).bad(path.name, error)
            continue
        first = path if first is None else first
        masks += found
        names += [path.stem] if len(found) == 1 else [f"{path.stem} {page}" for page in range(1, len(found) + 1)]
    if not masks:
        raise ValueError(f"none of {len(paths)} mask files in {paths[0].parent} can be used." if paths else "no masks.")
    return ObjectMasks(np.stack(masks), names=names)


def _label_names(path: Path) -> dict[int, str]:
    """The names of labels, from a JSON object such as {"1": "cup"}."""
    read = read_json(path)
    expected = f'{path} must name the labels of one map, such as {{"1": "cup", "2": "saucer"}}'
    if not isinstance(read, dict):
        raise ValueError(f"{expected}, got a {type(read).__name__}.")
    for label, name in read.items():
        if not re.fullmatch(r"[0-9]+", label):
            raise ValueError(f"{expected}, got the key {label[:40]!r}.")
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{expected}, got {str(name)[:40]!r} as the name of {label}.")
    return {int(label): name.strip() for label, name in read.items()}


def _read_one_file(
    path: Path, size: tuple[int, int] | None, label_names: Mapping[int, str] | None = None
) -> ObjectMasks:
    """A map of labels, one mask, or one on each page."""
    planes = _open_planes(path)
    if len(planes) > 1:
        if label_names is not None:
            raise ValueError(f"{path} has {len(planes)} pages, expected one map whose labels can be named.")
        masks = [_named(path, one_object, plane) for plane in planes]
        names = [f"{path.stem} {page}" for page in range(1, len(planes) + 1)]
        for mask in masks:
            _check_size(path, mask.shape, size)
            if mask.shape != masks[0].shape:
                raise ValueError(f"{_size_of(path, mask.shape)}, expected {_pixels(masks[0].shape)} as on page 1.")
        return ObjectMasks(np.stack(masks), names=names)
    _check_size(path, planes[0].shape, size)
    labels, stack = _named(path, labelled_objects, planes[0])
    if not labels:
        raise ValueError(f"label map {path} holds no object: all pixels are 0.")
    known = label_names or {}
    if known and not known.keys() & set(labels):
        raise ValueError(f"label map {path} has the labels {str(labels)[1:-1][:80]}, of which none is named.")
    alone = path.stem if len(labels) == 1 else None  # a mask, as those of a folder are named
    return ObjectMasks(stack, names=[known.get(label, alone or f"label {label}") for label in labels])


def _named(path: Path, read: Any, plane: npt.NDArray[Any]) -> Any:
    try:
        return read(plane)
    except (TypeError, ValueError) as error:
        raise ValueError(f"mask file {path} {error}.") from error


def _open_planes(path: Path) -> list[npt.NDArray[Any]]:
    """The planes (H, W) of an image with one channel."""
    try:
        with Image.open(path) as image:
            kind = image.format
            planes = picture_planes(image) if kind in _MASK_FORMATS else []
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if str(error).startswith("has image mode"):
            raise ValueError(f"mask file {path} {error}.") from error
        raise ValueError(f"mask file {path} cannot be read as an image: {error}") from error
    if kind not in _MASK_FORMATS:
        raise ValueError(f"mask file {path} is {kind}; expected one of {', '.join(_MASK_FORMATS)}.")
    return planes


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


def _read_coco(
    path: Path, size: tuple[int, int] | None, file_name: str | None, on_error: OnError, bad_records: list[BadRecord]
) -> ObjectMasks:
    content = read_json(path)
    skipped: list[BadRecord] = []
    try:
        if isinstance(content, list):
            document = _wrap_results(path, content, size, file_name)
        elif isinstance(content, dict) and isinstance(content.get("annotations"), list):
            document = _one_image(path, content, size, file_name, RecordLog(os.fspath(path), on_error, skipped))
        else:
            raise ValueError(f"{path} is no COCO JSON: expected a list of results, or an object with `annotations`.")
        reader = iter_cocoa if detect_format(document) == "cocoa" else iter_coco
        row = next(iter(reader(AnnotationFile(document, os.fspath(path)), on_error=on_error, bad_records=skipped)))
        masks, _ = record_masks(row)
    except AnnotationError as error:
        raise ValueError(f"{path}: {error.record.id}: {error.record.reason}") from error
    bad_records += skipped
    if not len(masks):
        raise ValueError(f"{path} has no object for image {row['file_name']!r}.")
    _check_size(path, masks.shape[1:], size)
    things = row["objects"]
    return ObjectMasks(
        masks,
        names=[thing["name"] or "" for thing in things],
        category_ids=[thing["category_id"] for thing in things],
        scores=_scores(path, document["annotations"], things),
        is_crowd=[thing["is_crowd"] for thing in things],
    )


def _scores(path: Path, records: Sequence[Mapping[str, Any]], things: Sequence[Mapping[str, Any]]) -> list[float]:
    """By the ids of the records; regions of one record have none of their own."""
    found = {str(record.get("id")): record for record in records}
    if len(records) == 1 < len(things):
        found = {}
    chosen = [found.get(str(thing["id"]), {}) for thing in things]
    return [check_score(record, f"{path}: `score` of annotation {record.get('id')}") for record in chosen]


def _one_image(
    path: Path, content: dict[str, Any], size: tuple[int, int] | None, file_name: str | None, log: RecordLog
) -> dict[str, Any]:
    """The document with the photo's entry of `images` alone, and its annotations."""
    listed = content.get("images")
    images = _objects(listed if isinstance(listed, list) else [], "image", log)
    image = dict(_choose_image(path, list(images.values()), file_name))
    if size is not None and image.get("height") is None and image.get("width") is None:
        image["height"], image["width"] = size
    own, known = str(image.get("id")), {str(entry.get("id")) for entry in images.values()}
    found = list(_objects(content["annotations"], "annotation", log).values())
    records = [record for record in found if str(record.get("image_id")) == own]
    strays = [record for record in found if str(record.get("image_id")) not in known]
    if strays:  # one of a JSON that was cut down to a photo, or an object of the photo with a wrong id
        text = "%s: left out %d of %d annotations, of images that it does not list, such as image_id %.40s"
        logger.warning(text, path, len(strays), len(found), strays[0].get("image_id"))
    if size is not None and (image.get("height"), image.get("width")) == size:
        _check_run_lengths(path, records, size)
    return {**content, "images": [image], "annotations": _numbered(records)}


def _objects(entries: Sequence[Any], kind: str, log: RecordLog) -> dict[int, dict[str, Any]]:
    """The entries by their places, without those that are no JSON objects, which are bad records."""
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            log.bad(f"{kind} at index {index}", ValueError(f"expected an object, got {type(entry).__name__}"))
    return {index: entry for index, entry in enumerate(entries) if isinstance(entry, dict)}


def _choose_image(path: Path, images: Sequence[dict[str, Any]], file_name: str | None) -> dict[str, Any]:
    if not images:
        raise ValueError(f"{path} lists no `images`.")
    if len(images) == 1:
        _warn_of_another(path, images[0].get("file_name"), file_name)
        return images[0]
    if file_name is None:
        raise ValueError(f"{path} lists {len(images)} images; the name of the photo must choose one.")
    for part in ("name", "stem"):
        wanted = getattr(_path_of(file_name), part)
        found = [image for image in images if getattr(_path_of(image.get("file_name")), part) == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{path} lists {len(found)} images named {wanted}.")
    some = ", ".join(str(image.get("file_name")) for image in images[:3])
    raise ValueError(f"{path} lists no image named {Path(file_name).name}; it has {len(images)}, such as {some}.")


def _path_of(file_name: Any) -> PurePosixPath:
    return PurePosixPath(*file_parts(str(file_name or "")))


def _warn_of_another(path: Path, named: Any, file_name: str | None) -> None:
    """Masks of another photo fit where the sizes happen to agree."""
    if file_name and named and _path_of(named).stem != _path_of(file_name).stem:
        logger.warning("%s has the masks of %s, the photo is %s", path, named, Path(file_name).name)


def _numbered(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The records, with numbers from 1 that no other has for those without an id."""
    taken = {str(record.get("id")) for record in records}
    free = (number for number in count(1) if str(number) not in taken)
    return [{**record, "id": next(free)} if record.get("id") is None else dict(record) for record in records]


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
        if not run_lengths:
            raise ValueError(f"{path} has polygons without the size of their image; give the photo.")
        try:
            size = read_size(run_lengths[0].get("size"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    else:
        _check_run_lengths(path, results, size)
    image = {"id": 1, "file_name": file_name or "", "height": size[0], "width": size[1]}
    numbered = [{**result, "image_id": 1, "id": index + 1} for index, result in enumerate(results)]
    return {"images": [image], "annotations": numbered}


def _check_run_lengths(path: Path, records: Sequence[Mapping[str, Any]], photo: tuple[int, int]) -> None:
    """Refuse run lengths of another photo; what is no size at all is for the reader to refuse."""
    for record in records:
        segmentation = record.get("segmentation")
        if isinstance(segmentation, dict):
            with suppress(ValueError):
                size = read_size(segmentation.get("size"))
                if size != photo:
                    break
    else:
        return
    _check_size(path, size, photo)
