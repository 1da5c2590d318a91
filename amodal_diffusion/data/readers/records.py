"""What the readers share: opening a file, naming bad records, parsing ids, numbers and images."""

from __future__ import annotations

import logging
import os
import re
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short
from typing import Any, Literal, NamedTuple

from ...images import check_image, why_unreadable
from ...masks import MAX_PIXELS
from .json_arrays import BrokenJsonError, JsonArray, head_of, read_json
from .restricted_pickle import PICKLE_SUFFIXES, PickleError, load_pickle

logger = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]
_ARRAYS = ("images", "annotations")
INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class BadRecord:
    """A record that a reader could not use.

    Attributes:
        file: the annotation file.
        id: what is bad, such as "annotation 17", "image 3" or "annotation 5 region 2".
        reason: what is wrong with it.

    Example:
        >>> str(BadRecord("file.json", "annotation 17", "polygon 0 has 2 points, at least 3 are needed"))
        'file.json: annotation 17: polygon 0 has 2 points, at least 3 are needed'
    """

    file: str
    id: str
    reason: str

    def __str__(self) -> str:
        """`file: id: reason`."""
        return f"{self.file}: {self.id}: {self.reason}"


class AnnotationError(ValueError):
    """A bad record or file, met with `on_error="raise"`; `record` tells file, id and reason.

    Example:
        >>> AnnotationError(BadRecord("file.json", "image 3", "photo is missing")).record.id
        'image 3'
    """

    def __init__(self, record: BadRecord) -> None:
        super().__init__(str(record))
        self.record = record

    def __reduce__(self) -> tuple[type[AnnotationError], tuple[BadRecord]]:
        """Keep the record when the error crosses a process."""
        return type(self), (self.record,)


class RecordLog:
    """Raises for the bad records of a file, or collects them.

    Args:
        file: name of the file, for messages.
        on_error: "raise" or "skip".
        bad_records: list to which skipped records are appended.

    Example:
        >>> found: list[BadRecord] = []
        >>> RecordLog("file.json", "skip", found).bad("annotation 17", "counts has a negative run")
        >>> found[0].id, found[0].reason
        ('annotation 17', 'counts has a negative run')
    """

    def __init__(self, file: str, on_error: OnError, bad_records: list[BadRecord] | None = None) -> None:
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
        self.file = file
        self.on_error = on_error
        self.bad_records = [] if bad_records is None else bad_records

    def note(self, record_id: str, text: str) -> None:
        """Log a warning about a record that is used all the same."""
        logger.warning("%s: %s: %s", self.file, record_id, text)

    def bad(self, record_id: str, reason: object) -> None:
        """Report a bad record: raise `AnnotationError`, or append it and log a warning."""
        record = BadRecord(self.file, record_id, str(reason))
        if self.on_error == "raise":
            raise AnnotationError(record)
        self.bad_records.append(record)
        logger.warning("skipped %s", record)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An entry of `images`: `key` is its id as a string, `photo` the path of its photo if photos are read.

    Example:
        >>> ImageRecord("1", "1.jpg", height=480, width=640).width
        640
    """

    key: str
    file_name: str
    height: int
    width: int
    photo: str | None = None
    order_relations: Any = None


class AnnotationFile(NamedTuple):
    """Content of an annotation file, and its name for messages. Its `annotations` may be a `JsonArray`.

    Example:
        >>> AnnotationFile({"annotations": [{"regions": []}]}, "file.json").has_field("regions")
        True
    """

    content: Mapping[str, Any]
    name: str

    def has_field(self, *names: str) -> bool:
        """Whether any annotation has one of these keys."""
        return not set(names).isdisjoint(self.fields)

    @property
    def fields(self) -> Collection[str]:
        """All keys that annotations have."""
        annotations = self.content["annotations"]
        if isinstance(annotations, JsonArray):
            return annotations.fields
        return {str(name) for item in annotations if isinstance(item, Mapping) for name in item}


Annotations = str | os.PathLike[str] | Mapping[str, Any] | AnnotationFile


def load_annotations(annotations: Annotations) -> AnnotationFile:
    """Open an annotation file or take its content.

    A JSON file is checked as a whole, but its images and annotations stay in it until they are asked for. A pickle
    (`.pkl`, `.pickle`) is read by `load_pickle`, which runs nothing that stands in it.

    Returns:
        The content, whose `images` and `annotations` are sequences, and the file's name for messages.

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: not UTF-8, broken JSON (with its position), a broken or refused pickle, or without `images` and
            `annotations`.

    Example:
        >>> load_annotations({"images": [], "annotations": []}).name
        'annotations'
    """
    if isinstance(annotations, AnnotationFile):
        return annotations
    if isinstance(annotations, Mapping):
        name, content = "annotations", annotations
    else:
        path, name = Path(annotations), os.fspath(annotations)
        try:
            content = load_pickle(path) if path.suffix in PICKLE_SUFFIXES else read_json(path, _ARRAYS)
        except (BrokenJsonError, PickleError) as error:
            raise _file_error(name, str(error)) from error
    if not isinstance(content, Mapping):
        raise _file_error(name, f"expected an object at the top level, got {type(content).__name__}")
    for key in _ARRAYS:
        if not isinstance(content.get(key), list | JsonArray):
            raise _file_error(name, f"expected a list under {key!r}, got {type(content.get(key)).__name__}")
    return AnnotationFile(content, name)


def _file_error(name: str, reason: str) -> AnnotationError:
    return AnnotationError(BadRecord(name, "file", reason))


def plain(value: Any) -> Any:
    """The Python number in a scalar of numpy or torch; any other value as it is.

    Example:
        >>> import numpy as np
        >>> plain(np.int64(7)), plain("7")
        (7, '7')
    """
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


def to_int(value: Any, name: str) -> int:
    """Read an integer from an int, a whole float, a string, or a scalar of numpy or torch.

    Raises:
        ValueError: with `name`, for anything else.

    Example:
        >>> import numpy as np
        >>> to_int("12", "height"), to_int(12.0, "height"), to_int(np.int32(12), "height")
        (12, 12, 12)
    """
    message = f"{name} must be an integer, got {short(value)}"
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(message)
    try:
        number = value if isinstance(value, int) else int(value) if str(value).strip().isdecimal() else float(value)
        whole = int(number)
    except (ValueError, OverflowError) as error:
        raise ValueError(message) from error
    if whole != number or abs(whole) > INT64_MAX:
        raise ValueError(message)
    return whole


def to_flag(value: Any, name: str) -> bool:
    """Read a flag from a bool, 0, 1, "0" or "1"; None is false, anything else a ValueError with `name`.

    Example:
        >>> to_flag("1", "iscrowd"), to_flag(None, "iscrowd")
        (True, False)
    """
    value = plain(value)
    if value is None or isinstance(value, bool):
        return bool(value)
    number = to_int(value, name)
    if number not in (0, 1):
        raise ValueError(f"{name} must be 0 or 1, got {short(value)}")
    return bool(number)


def to_key(value: Any, name: str) -> str:
    """Read an id as a string, so that 9, 9.0 and "9" are the same id.

    Example:
        >>> to_key(9.0, "id"), to_key("9", "id")
        ('9', '9')
    """
    if isinstance(value, str) and value.strip():
        return _checked_text(value.strip())
    return str(to_int(value, name))


def to_name(value: Any) -> str | None:
    """Read a class name without surrounding blanks; None if it is missing or empty. ValueError for what is no text.

    Example:
        >>> to_name(" cup "), to_name("")
        ('cup', None)
    """
    if value is None:
        return None
    if isinstance(value, int) and not -INT64_MAX <= value <= INT64_MAX:
        raise ValueError(f"a name must be a text, got {short(value)}")
    return _checked_text(str(value).strip()) or None


def _checked_text(text: str) -> str:
    """Refuse half of a surrogate pair, which JSON can write and nothing else."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{ascii(text)} is no text: it holds half of a surrogate pair") from error
    return text


def read_images(
    entries: Sequence[Any], images: str | os.PathLike[str] | None, log: RecordLog
) -> tuple[dict[str, ImageRecord], set[str]]:
    """Parse the list `images` of an annotation file.

    Args:
        entries: the list `images` of an annotation file.
        images: folder of the photos; each must be there and have the annotated size (EXIF orientation applied).
        log: gets the bad ones.

    Returns:
        Good images by id, in the order of the file, and the ids of the bad ones.

    Example:
        >>> log = RecordLog("file.json", "raise")
        >>> records, refused = read_images([{"id": 1, "file_name": "1.jpg", "height": 4, "width": 6}], None, log)
        >>> records["1"].width, refused
        (6, set())
    """
    folder = _image_folder(images)
    records: dict[str, ImageRecord] = {}
    refused: set[str] = set()
    for index, entry in enumerate(entries):
        label = f"image at index {index}"
        try:
            if not isinstance(entry, Mapping):
                raise ValueError(f"expected an object, got {type(entry).__name__}")
            key = to_key(entry.get("id"), "id")
            label = f"image {key}"
            if key in records:
                raise ValueError(f"duplicate image id, first used by {records[key].file_name!r}")
            refused.add(key)
            records[key] = _read_image(key, entry, folder)
            refused.discard(key)
        except ValueError as error:
            log.bad(label, error)
    return records, refused


def read_category_names(categories: Any, log: RecordLog) -> dict[int, str | None]:
    """Read the names by id from the list `categories` of an annotation file; {} if it has none.

    Example:
        >>> read_category_names([{"id": 7, "name": "cup"}], RecordLog("file.json", "raise"))
        {7: 'cup'}
    """
    names: dict[int, str | None] = {}
    for index, category in enumerate(categories if isinstance(categories, list) else []):
        label = f"category at index {index}"
        try:
            if not isinstance(category, Mapping):
                raise ValueError(f"expected an object, got {type(category).__name__}")
            category_id = to_int(category.get("id"), "id")
            label = f"category {category_id}"
            if category_id in names:
                raise ValueError("duplicate category id")
            name = to_name(category.get("name"))
        except ValueError as error:
            log.bad(label, error)
            continue
        names[category_id] = name
    return names


def file_parts(file_name: str) -> tuple[str, ...]:
    r"""The parts of a file name of an annotation file, whichever of / and \ stands between them.

    Example:
        >>> file_parts(r"images\a.png"), file_parts("images/a.png")
        (('images', 'a.png'), ('images', 'a.png'))
    """
    return tuple(part for part in re.split(r"[\\/]+", file_name) if part not in ("", "."))


def _image_folder(images: str | os.PathLike[str] | None) -> Path | None:
    if images is None:
        return None
    folder = Path(images)
    if not folder.is_dir():
        raise NotADirectoryError(f"images must be a folder of photos, got {os.fspath(images)!r}")
    return folder


def _read_image(key: str, entry: Mapping[str, Any], folder: Path | None) -> ImageRecord:
    height, width = to_int(entry.get("height"), "height"), to_int(entry.get("width"), "width")
    checked_size(height, width)
    file_name = to_name(entry.get("file_name"))
    if file_name is None:
        # LVIS names no file; its photos lie in a folder per COCO split, as in the URL.
        file_name = "/".join((to_name(entry.get("coco_url")) or "").split("/")[-2:])
    photo = None
    if folder is not None:
        file_name = _name_in(folder, file_name)
        photo = str(_checked_photo(folder, file_name, height, width))
    return ImageRecord(key, file_name, height, width, photo, entry.get("order_relations"))


def checked_size(height: int, width: int) -> tuple[int, int]:
    """Check height and width of a frame and return them; ValueError for an empty or a too large one.

    Example:
        >>> checked_size(480, 640)
        (480, 640)
    """
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"height and width must be positive, of at most {MAX_PIXELS} pixels, got {height} x {width}")
    return height, width


def _name_in(folder: Path, file_name: str) -> str:
    """The name of a photo as the folder has it: written on Windows, or with the folder's own name before it."""
    parts = file_parts(file_name)
    names = [file_name, "/".join(parts), "/".join(parts[1:]) if parts[:1] == (folder.resolve().name,) else ""]
    return next((name for name in names if name and (folder / name).is_file()), file_name)


def _checked_photo(folder: Path, file_name: str, height: int, width: int) -> Path:
    path = folder / file_name
    # A file name that leads out of the folder could carry a private file into a published data set.
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"file_name {file_name!r} leads out of the image folder")
    if not file_name or not path.is_file():
        raise ValueError(f"photo {file_name!r} is missing in the folder of images {os.fspath(folder)!r}")
    try:
        size = check_image(path)
    except ValueError as error:  # which has the whole path in its message
        raise ValueError(f"photo {file_name!r} cannot be read: {why_unreadable(error.__cause__ or error)}") from error
    if size != (height, width):
        raise ValueError(f"photo {file_name!r} is {size[0]} x {size[1]} (height x width), annotated {height} x {width}")
    return path


def make_row(
    image: ImageRecord, objects: list[dict[str, Any]], order_relations: list[dict[str, int]] | None, source: str
) -> dict[str, Any]:
    """Put a row of the schema together; it has `image`, the path of the photo, only if photos are read.

    Example:
        >>> row = make_row(ImageRecord("1", "1.jpg", 480, 640), [], None, "mine")
        >>> row["image_id"], row["source"], "image" in row
        ('1', 'mine', False)
    """
    row: dict[str, Any] = {
        "image_id": image.key,
        "file_name": image.file_name,
        "height": image.height,
        "width": image.width,
        "objects": objects,
        "order_relations": order_relations,
        "source": source,
    }
    if image.photo is not None:
        row["image"] = image.photo
    return row


def group_by_image(
    annotations: Sequence[Any], images: Mapping[str, ImageRecord], refused: set[str], log: RecordLog
) -> dict[str, array[int]]:
    """Group the indices of annotations by image id, in the order of the file; `labelled` reads them.

    Annotations of an image that was refused are left out without a word.

    Example:
        >>> images = {"1": ImageRecord("1", "1.jpg", 4, 6)}
        >>> annotations = [{"id": 5, "image_id": 1}, {"id": 6, "image_id": 1}]
        >>> group_by_image(annotations, images, set(), RecordLog("file.json", "raise"))
        {'1': array('q', [0, 1])}
    """
    groups: dict[str, array[int]] = {}
    seen: set[str] = set()
    heads = annotations.heads if isinstance(annotations, JsonArray) else map(head_of, annotations)
    for index, head in enumerate(heads):
        label = f"annotation at index {index}"
        try:
            if head.type != "object":
                raise ValueError(f"expected an object, got {head.type}")
            if head.id is not None:  # nothing needs the id of a COCOA annotation
                annotation_id = to_key(head.id, "id")
                label = f"annotation {annotation_id}"
                if annotation_id in seen:
                    raise ValueError(f"duplicate annotation id, again at index {index}")
                seen.add(annotation_id)
            key = to_key(head.image_id, "image_id")
            if key in refused:
                continue
            if key not in images:
                raise ValueError(f"image_id {key} is not among the images")
        except ValueError as error:
            log.bad(label, error)
            continue
        groups.setdefault(key, array("q")).append(index)
    return groups


def labelled(annotations: Sequence[Any], places: Iterable[int]) -> list[tuple[str, Mapping[str, Any]]]:
    """Read the annotations at the given indices, each with its label for messages.

    Example:
        >>> labelled([{"id": 5, "image_id": 1}], [0])
        [('annotation 5', {'id': 5, 'image_id': 1})]
    """
    found = []
    for index in places:
        annotation = annotations[index]
        known = annotation.get("id") is not None
        label = f"annotation {to_key(annotation['id'], 'id')}" if known else f"annotation at index {index}"
        found.append((label, annotation))
    return found


def make_relations(
    pairs: Iterable[tuple[int, int, str]],
    objects: list[dict[str, Any]],
    known: Collection[int],
    refuse: Callable[[str], None],
) -> list[dict[str, int]]:
    """Turn pairs of object ids into relations of the schema.

    Args:
        pairs: id of the front object, id of the one behind, and what to call the pair in messages.
        objects: the objects read, whose places are the indices.
        known: ids of all objects of the image, also of those that were skipped; relations of these are left out.
        refuse: called with a message for a pair that does not name two objects or contradicts an earlier one.

    Example:
        >>> make_relations([(5, 6, "5 before 6")], [{"id": 6}, {"id": 5}], known=[5, 6], refuse=logger.error)
        [{'front': 1, 'behind': 0}]
    """
    place = {item["id"]: index for index, item in enumerate(objects)}
    accepted: dict[tuple[int, int], None] = {}
    for front, behind, name in pairs:
        if front == behind or front not in known or behind not in known:
            refuse(f"{name} must name two different objects of the {len(known)} that the image has")
        elif (behind, front) in accepted:
            refuse(f"{name} contradicts an earlier relation of the same two objects")
        else:
            accepted[front, behind] = None
    return [
        {"front": place[front], "behind": place[behind]}
        for front, behind in accepted
        if front in place and behind in place
    ]
