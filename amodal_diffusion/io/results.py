"""Files around one photo: modal masks in (COCO JSON, PNG masks, label map), completed masks out (PNG, COCO JSON).

Every file is written beside its place and then renamed, so a reader never meets half a file.
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data import AnnotationError, detect_format, iter_coco, iter_cocoa, record_masks
from ..files import PathLike, atomic_folder, file_stem
from ..masks import encode_rle, mask_areas, mask_boxes
from ..ordering import check_order, order_pairs

AMODAL_JSON, OVERLAY, ORDER_GRAPH = "amodal.json", "overlay.png", "order_graph.png"
MASK_FOLDER, OCCLUDER_FOLDER, SAMPLE_FOLDER = "amodal_masks", "occluder_masks", "samples"
RESULTS = (MASK_FOLDER, OCCLUDER_FOLDER, SAMPLE_FOLDER, OVERLAY, ORDER_GRAPH, AMODAL_JSON)
"""What `save_completion` may write into its folder, in the order in which it does."""

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
    return ObjectMasks(labels == values[:, None, None], names=[f"label {value}" for value in values])


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
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # of bytes, syntax, or integers of thousands of digits
        raise ValueError(f"{path} is no valid JSON: {error}") from error
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
    things = row["objects"]
    records = document["annotations"] if len(document["annotations"]) == len(things) else [{}] * len(things)
    return ObjectMasks(
        masks,
        names=[thing["name"] or "" for thing in things],
        category_ids=[0 if thing["category_id"] is None else thing["category_id"] for thing in things],
        scores=[_score(path, record) for record in records],
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
    if not results or not all(isinstance(result, dict) for result in results):
        raise ValueError(f"{path} is no COCO JSON: its list must hold objects, at least one.")
    ids = {str(result.get("image_id")) for result in results}
    if len(ids) > 1:
        stem = Path(file_name or "").stem  # COCO names its photos by their id, filled with zeros
        wanted = {stem, stem.lstrip("0")} & ids
        if len(wanted) != 1:
            raise ValueError(f"{path} holds results for {len(ids)} images, none with the id {stem or '(no photo)'}.")
        results = [result for result in results if str(result.get("image_id")) in wanted]
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


def _score(path: Path, record: Mapping[str, Any]) -> float:
    score = record.get("score", 1.0)
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise ValueError(f"{path}: `score` of annotation {record.get('id')} must be a finite number, got {score!r}.")
    return float(score)


def amodal_scores(amodal: np.ndarray, probabilities: np.ndarray | None, scores: Sequence[float]) -> list[float]:
    """Confidence of each amodal mask: the segmenter's score times the mean P(object) over the mask.

    Args:
        amodal: (N, H, W) bool.
        probabilities: (N, H, W) float in [0, 1], or None, which counts as 1.
        scores: N floats.

    Returns:
        N floats; 0.0 for an empty mask.
    """
    areas = mask_areas(amodal)
    if probabilities is None:
        means = (areas > 0).astype(np.float64)
    else:
        means = np.where(amodal, probabilities, 0).sum(axis=(1, 2), dtype=np.float64) / np.maximum(areas, 1)
    return [float(score * mean) for score, mean in zip(scores, means, strict=True)]


def coco_document(
    objects: ObjectMasks,
    amodal: np.ndarray,
    order: np.ndarray | None = None,
    *,
    probabilities: np.ndarray | None = None,
    occluders: np.ndarray | None = None,
    samples: np.ndarray | None = None,
    sample_scores: np.ndarray | None = None,
    file_name: str = "",
    info: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The completed masks of one photo as a COCO document that pycocotools loads.

    Each annotation has the amodal mask as `segmentation` and the modal one as `visible_mask` (compressed RLE), `bbox`
    [x, y, w, h] and `area` of the amodal mask, `occlude_rate` (hidden part of the amodal area) and `score`; the
    predicted `occluder_mask` (compressed RLE) where there are such; and `samples`, a list of other completions with
    `segmentation` and `score`, where these were drawn. An unknown category gets id 1. The order lies on the image as
    `order_relations`, pairs {"front": id, "behind": id} of annotation ids. Ids count from 1 in the order of the masks;
    pictures and mask files count from 0.

    Args:
        objects: the N visible objects.
        amodal: (N, H, W) bool.
        order: (N, N) int8 order matrix, or None for no relations.
        probabilities: (N, H, W) float in [0, 1]; see `amodal_scores`.
        occluders: (N, H, W) bool, the predicted masks of what hides each object, or None.
        samples: (N, K, H, W) bool, K completions of each object, or None.
        sample_scores: (N, K) float in [0, 1], with `samples`.
        file_name: name of the photo, "" for none.
        info: entries of the document's `info`, such as the model.

    Raises:
        ValueError: where the shapes of the masks or of the order differ.
    """
    for name, masks in (("amodal", amodal), ("occluders", occluders)):
        if masks is not None and masks.shape != objects.masks.shape:
            raise ValueError(
                f"`{name}` must have the shape of the modal masks {objects.masks.shape}, got {masks.shape}."
            )
    if samples is not None:
        _check_samples(samples, sample_scores, objects.masks.shape)
    relations = []
    if order is not None:
        check_order(order, len(amodal))
        relations = [{"front": front + 1, "behind": behind + 1} for front, behind in order_pairs(order)]
    height, width = amodal.shape[1:]
    areas, boxes = mask_areas(amodal), mask_boxes(amodal)
    hidden = mask_areas(amodal & ~objects.masks)
    scores = amodal_scores(amodal, probabilities, objects.scores)
    annotations = [
        {
            "id": index + 1,
            "image_id": 1,
            "category_id": max(1, objects.category_ids[index]),
            "name": objects.names[index],
            "segmentation": encode_rle(amodal[index]),
            "visible_mask": encode_rle(objects.masks[index]),
            "bbox": [float(value) for value in boxes[index]],
            "area": int(areas[index]),
            "iscrowd": 0,
            "occlude_rate": round(float(hidden[index] / max(areas[index], 1)), 6),
            "score": round(scores[index], 6),
        }
        for index in range(len(amodal))
    ]
    if occluders is not None:
        for annotation, occluder in zip(annotations, occluders, strict=True):
            annotation["occluder_mask"] = encode_rle(occluder)
    if samples is not None and sample_scores is not None:
        for annotation, drawn, numbers in zip(annotations, samples, sample_scores, strict=True):
            annotation["samples"] = [
                {"segmentation": encode_rle(sample), "score": round(float(number), 6)}
                for sample, number in zip(drawn, numbers, strict=True)
            ]
    return {
        "info": {"description": "amodal masks", **(info or {})},
        "images": [{"id": 1, "file_name": file_name, "height": height, "width": width, "order_relations": relations}],
        "categories": _categories(objects),
        "annotations": annotations,
    }


def _check_samples(samples: np.ndarray, scores: np.ndarray | None, shape: tuple[int, ...]) -> None:
    if samples.ndim != 4 or (samples.shape[0], *samples.shape[2:]) != shape:
        raise ValueError(f"`samples` must be a stack (N, K, H, W) for the modal masks {shape}, got {samples.shape}.")
    if scores is None or scores.shape != samples.shape[:2]:
        actual = None if scores is None else scores.shape
        raise ValueError(f"`sample_scores` must have shape {samples.shape[:2]}, got {actual}.")


def _categories(objects: ObjectMasks) -> list[dict[str, Any]]:
    """Named after their objects where these agree: objects without category ids all have id 1, whatever their names."""
    names: dict[int, set[str]] = {}
    for category, name in zip(objects.category_ids, objects.names, strict=True):
        names.setdefault(max(1, category), set()).add(name or "object")
    return [
        {"id": category, "name": min(found) if len(found) == 1 else "object"}
        for category, found in sorted(names.items())
    ]


def save_completion(
    folder: PathLike,
    document: Mapping[str, Any],
    amodal: np.ndarray,
    *,
    occluders: np.ndarray | None = None,
    samples: np.ndarray | None = None,
    sample_pictures: Sequence[Image.Image] | None = None,
    overlay: Image.Image | None = None,
    order_graph: Image.Image | None = None,
) -> list[Path]:
    """Write a completed photo, the files of `RESULTS`: masks as PNG (0 and 255), pictures, JSON.

    Each of them replaces what an earlier run left under its name (the folders of masks as a whole); what is not given
    is removed. Other files in the folder stay. The JSON comes last: where it is, the rest is complete.

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
        NotADirectoryError: where `folder` is a file.
    """
    folder = Path(folder)
    with atomic_folder(folder, replaces=RESULTS) as staged:
        stems = [file_stem(index, annotation["name"]) for index, annotation in enumerate(document["annotations"])]
        for name, masks in ((MASK_FOLDER, amodal), (OCCLUDER_FOLDER, occluders)):
            if masks is not None:
                _save_masks(staged / name, masks, stems)
        if samples is not None:
            numbered = [f"{stem}_{number:02d}" for stem in stems for number in range(samples.shape[1])]
            _save_masks(staged / SAMPLE_FOLDER, samples.reshape(-1, *samples.shape[2:]), numbered)
            for stem, drawing in zip(stems if sample_pictures else (), sample_pictures or (), strict=True):
                drawing.save(staged / SAMPLE_FOLDER / f"{stem}.png")
        for name, picture in ((OVERLAY, overlay), (ORDER_GRAPH, order_graph)):
            if picture is not None:
                picture.save(staged / name)
        (staged / AMODAL_JSON).write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")
        written = [name for name in RESULTS if (staged / name).exists()]
    return [folder / name for name in written]


def _save_masks(folder: Path, masks: np.ndarray, stems: Sequence[str]) -> None:
    folder.mkdir()
    for mask, stem in zip(masks, stems, strict=True):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{stem}.png")
