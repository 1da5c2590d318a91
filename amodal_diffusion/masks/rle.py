"""Segmentations as annotation files write them (polygons, run lengths) to compressed run lengths, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from reprlib import repr as short
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from pycocotools import mask as mask_utils

from .packed import BoolArray, IntArray

MAX_PIXELS = 2**28
"""Pixels of the largest frame: above any photo in use, below what would exhaust memory when its masks are decoded."""

MAX_OVERHANG = 10
"""How far, in frame sides, a polygon may reach beyond the frame."""
MAX_OUTLINE = 1000
"""How long, in heights plus widths of the frame, an outline may be: rasterising takes memory in proportion to it."""


_LEAST = 6  # coordinates of a polygon


class Rle(TypedDict):
    """Compressed COCO run lengths, column by column: `size` is [height, width].

    Example:
        >>> rle: Rle = {"size": [2, 2], "counts": "013"}
        >>> decode_rle(rle).astype(int)
        array([[1, 0],
               [0, 0]])
    """

    size: list[int]
    counts: str


def segmentation_to_rle(segmentation: Any, height: int, width: int) -> Rle:
    """Turn polygons or run lengths into compressed run lengths of the frame.

    Args:
        segmentation: one flat polygon `[x0, y0, x1, y1, ...]`, a list of such polygons (their union), or run lengths
            `{"size": [height, width], "counts": ...}` with compressed (str, bytes) or plain (list of int) counts.
            A polygon may also be a list or an array of points (P, 2). Numbers may be strings or numpy's. A polygon is
            clipped to the frame, and a fragment of one or two points beside a whole one is nothing. An empty list is
            an empty mask.
        height: height of the frame in pixels.
        width: width of the frame in pixels.

    Raises:
        ValueError: says what is wrong: a polygon with fewer than three points, an odd number of coordinates, NaN, far
            outside the frame; all coordinates between 0 and 1, which are shares of the sides and no pixels; run lengths
            of another size or that do not fill the frame.

    Example:
        >>> segmentation_to_rle([1, 0, 3, 0, 3, 2, 1, 2], height=2, width=4)
        {'size': [2, 4], 'counts': '242'}
        >>> segmentation_to_rle({"size": [2, 4], "counts": [2, 4, 2]}, height=2, width=4)
        {'size': [2, 4], 'counts': '242'}
    """
    if isinstance(segmentation, Mapping):
        return _checked_rle(segmentation, height, width)
    polygons = _polygons_of(segmentation)
    if not polygons:
        return _encode_counts([height * width], height, width)
    points = [_checked_polygon(polygon, index, height, width) for index, polygon in enumerate(polygons)]
    # Annotation tools leave such fragments behind; alone they are no polygon.
    whole = [polygon for polygon in points if len(polygon) >= _LEAST]
    if not whole:
        raise ValueError(f"polygon 0 has {len(points[0]) // 2} points, at least 3 are needed")
    if max(height, width) > 2 and all(0 <= value <= 1 for polygon in whole for value in polygon):
        raise ValueError(
            "polygons have coordinates from 0 to 1 alone, which are shares of the sides; expected pixels, so multiply "
            f"x by {width} and y by {height}"
        )
    rles = mask_utils.frPyObjects(whole, height, width)
    return _with_text_counts(rles[0] if len(rles) == 1 else mask_utils.merge(rles))


def _polygons_of(segmentation: Any) -> Sequence[Any]:
    """The polygons of a segmentation that is no run lengths, each a flat list or a list of points."""
    if isinstance(segmentation, np.ndarray):
        segmentation = segmentation.tolist()
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, (str, bytes)):
        raise ValueError(f"segmentation must be polygons or run lengths, got {type(segmentation).__name__}")
    polygons = [item.tolist() if isinstance(item, np.ndarray) else item for item in segmentation]
    nested = [isinstance(item, Sequence) and not isinstance(item, (str, bytes)) for item in polygons]
    if not polygons or not nested[0]:
        return [polygons] if polygons else []
    is_points = len(polygons) >= 3 and all(nested) and all(len(item) == 2 for item in polygons)
    # Points are pairs of numbers; two polygons that are lists of points are pairs of lists.
    flat = is_points and not any(
        isinstance(part, Sequence | np.ndarray) for part in polygons[0] if not isinstance(part, str)
    )
    return [polygons] if flat else polygons


def run_lengths(counts: str | bytes) -> np.ndarray:
    """Decode the compressed counts of a COCO run-length mask: (R,) int64, background first.

    Raises:
        ValueError: the text is not a run-length code.

    Example:
        >>> run_lengths("242").tolist()
        [2, 4, 2]
    """
    # UTF-8 turns every character outside ASCII into bytes that are no code.
    raw = counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts
    codes = np.frombuffer(raw, dtype=np.uint8).astype(np.int64) - 48
    if not codes.size:
        return codes
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("counts is not a compressed run-length code")
    last = np.flatnonzero((codes & 32) == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    length = last - first + 1
    if length.max() > 7:
        raise ValueError("counts has a run longer than any image")
    shift = 5 * (np.arange(codes.size) - np.repeat(first, length))
    runs = np.add.reduceat((codes & 31) << shift, first)
    runs -= np.where(codes[last] & 16, np.int64(1) << (5 * length), 0)
    # From the fourth run on the code holds the difference to the run before the last one.
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _checked_rle(rle: Mapping[str, Any], height: int, width: int) -> Rle:
    size, counts = read_size(rle.get("size")), rle.get("counts")
    if size != (height, width):
        raise ValueError(f"run lengths have size {list(size)}, the image has [height, width] {[height, width]}")
    if isinstance(counts, np.ndarray):
        counts = counts.tolist()
    if isinstance(counts, (str, bytes)):
        runs = run_lengths(counts)
        text = counts.decode("ascii") if isinstance(counts, bytes) else counts
        _check_runs(runs, height, width)
        return {"size": [height, width], "counts": text}
    if not isinstance(counts, Sequence):
        raise ValueError(f"counts must be a string or a list of integers, got {type(counts).__name__}")
    return _encode_counts(counts, height, width)


def read_size(size: Any) -> tuple[int, int]:
    """(height, width) from the `size` of run lengths: two whole numbers of any kind, or texts of such.

    Example:
        >>> read_size([480.0, "640"])
        (480, 640)
    """
    sides = size.tolist() if hasattr(size, "tolist") else size
    if not isinstance(sides, Sequence) or isinstance(sides, (str, bytes)) or len(sides) != 2:
        raise ValueError(f"run lengths need a `size` of [height, width], got {short(size)}")
    height, width = (_side(value, name) for value, name in zip(sides, ("height", "width"), strict=True))
    return height, width


def _encode_counts(counts: Sequence[Any], height: int, width: int) -> Rle:
    try:
        values = np.asarray(counts, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"counts must be integers: {error}") from error
    if values.ndim != 1 or not np.isfinite(values).all() or (values != np.floor(values)).any():
        raise ValueError("counts must be a flat list of integers")
    _check_runs(values, height, width)
    runs = {"size": [height, width], "counts": values.astype(np.int64).tolist()}
    return _with_text_counts(mask_utils.frPyObjects(runs, height, width))


def _check_runs(runs: np.ndarray, height: int, width: int) -> None:
    if runs.size and runs.min() < 0:
        raise ValueError("counts has a negative run")
    if runs.sum() != height * width:
        raise ValueError(f"counts cover {int(runs.sum())} pixels, the image has {height * width} ({height} x {width})")


def _checked_polygon(polygon: Any, index: int, height: int, width: int) -> list[float]:
    if not isinstance(polygon, Sequence) or isinstance(polygon, (str, bytes)):
        raise ValueError(f"polygon {index} must be a list of coordinates, got {type(polygon).__name__}")
    try:
        points = np.asarray(polygon, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"polygon {index} has a coordinate that is not a number: {error}") from error
    if points.ndim == 2 and points.shape[1] == 2:
        points = points.ravel()
    if points.ndim != 1 or points.size % 2:
        raise ValueError(f"polygon {index} must be a flat list x0, y0, x1, y1, ..., got shape {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError(f"polygon {index} has a coordinate that is NaN or infinite")
    if points.size < _LEAST:
        return points.tolist()
    reach = MAX_OVERHANG * max(height, width)
    if points.min() < -reach or points.max() > max(height, width) + reach:
        raise ValueError(
            f"polygon {index} has coordinates from {points.min():g} to {points.max():g}, "
            f"more than {MAX_OVERHANG} frame sides outside the {height} x {width} image"
        )
    steps = np.abs(np.diff(points.reshape(-1, 2), axis=0)).sum()
    if steps > MAX_OUTLINE * (height + width):
        raise ValueError(f"polygon {index} has an outline of {steps:g} pixels, too long for a {height} x {width} image")
    return points.tolist()


def _with_text_counts(rle: Mapping[str, Any]) -> Rle:
    counts = rle["counts"]
    return {
        "size": [int(side) for side in rle["size"]],
        "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
    }


def encode_rle(mask: npt.ArrayLike) -> Rle:
    """Encode one (H, W) mask (nonzero is the object) as compressed COCO run lengths with text counts.

    An empty mask is one run of background. Raises ValueError for an array that is not (H, W).

    Example:
        >>> encode_rle([[0, 1, 1, 0], [0, 1, 1, 0]])
        {'size': [2, 4], 'counts': '242'}
    """
    array = np.asarray(mask)
    if array.ndim != 2:
        raise ValueError(f"`mask` must have shape (height, width), got {array.shape}")
    rle = mask_utils.encode(np.asfortranarray(array != 0, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def encode_tile(tile: BoolArray, box: Sequence[int] | IntArray, height: int, width: int) -> Rle:
    """Encode what `encode_rle` would encode of a mask that is empty outside of a box; cost follows the box.

    Args:
        tile: (h, w) bool, what lies in the box.
        box: (x, y, w, h) inside of the frame.
        height: of the frame in pixels.
        width: of the frame in pixels.

    Example:
        >>> encode_tile(np.ones((2, 2), bool), [1, 0, 2, 2], height=2, width=4)
        {'size': [2, 4], 'counts': '242'}
    """
    x, y, w, h = (int(side) for side in box)
    columns = np.zeros((w, height), bool)  # run lengths go down the columns
    columns[:, y : y + h] = tile.T
    changes = np.flatnonzero(np.diff(columns.ravel(), prepend=False, append=False)) + x * height
    edges = [0, *changes.tolist(), *([height * width] if not len(changes) or changes[-1] < height * width else [])]
    return _with_text_counts(
        mask_utils.frPyObjects({"size": [height, width], "counts": np.diff(edges).tolist()}, height, width)
    )


def decode_rle(rle: Mapping[str, Any]) -> BoolArray:
    """Decode COCO run lengths `{"size": [height, width], "counts": ...}` to an (H, W) bool mask.

    `counts` is compressed (str or bytes) or a list of run lengths. Raises TypeError for what is no mapping, ValueError
    where `size` is missing or too large, or the runs do not fill the frame.

    Example:
        >>> decode_rle({"size": [2, 4], "counts": "242"}).astype(int)
        array([[0, 1, 1, 0],
               [0, 1, 1, 0]])
    """
    if not isinstance(rle, Mapping):
        raise TypeError(f"run lengths must be a mapping with size and counts, got {type(rle).__name__}")
    return decode_segmentation(rle, *read_size(rle.get("size")))


def decode_segmentation(segmentation: Any, height: int, width: int) -> BoolArray:
    """Decode a COCO `segmentation` to an (H, W) bool mask.

    Args:
        segmentation: polygon `[x0, y0, x1, y1, ...]`, a list of polygons (their union), or run lengths. An empty list
            is an empty mask. What reaches beyond the frame is cut off.
        height: height of the frame in pixels.
        width: width of the frame in pixels.

    Raises:
        ValueError: a polygon or a run-length code that cannot be right; the message says which and why. A frame of
            more than 2**28 pixels: a few bytes of run lengths could ask for any amount of memory.

    Example:
        >>> decode_segmentation([1, 0, 3, 0, 3, 2, 1, 2], height=2, width=4).astype(int)
        array([[0, 1, 1, 0],
               [0, 1, 1, 0]])
    """
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(
            f"height and width must be at least 1 and hold at most {MAX_PIXELS} pixels, got {height} x {width}"
        )
    rle = segmentation_to_rle(segmentation, height, width)
    return mask_utils.decode({"size": rle["size"], "counts": rle["counts"].encode("ascii")}).astype(bool)


def _side(value: Any, name: str) -> int:
    number = value.item() if hasattr(value, "item") else value  # of numpy, or a tensor
    whole = isinstance(number, float) and number.is_integer() or isinstance(number, int)
    if isinstance(number, bool) or not (whole or (isinstance(number, str) and number.strip().isdecimal())):
        raise ValueError(f"`size` of run lengths: {name} must be a whole number, got {value!r}")
    if int(number) < 0:
        raise ValueError(f"`size` of run lengths: {name} must be a whole number, got {value!r}")
    return int(number)
