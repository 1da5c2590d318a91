"""Soft outlines against hard ones: objects matted onto other photos with known alpha, then moved before a third photo.

    python benchmarks/content_quality.py --dataset coco/instances.json --edges 18

Each object is cut 4 pixels inside its mask, so that its rim has its own colours, blurred by 0.6, 1 or 1.6 pixels and
laid over another photo, which is saved as JPEG. Every second mask that the methods get is off by about a pixel. The
error is the mean absolute difference, in levels of 255 within 6 pixels of the outline, between the object before the
third photo as a method cuts it and as it is. Needs OpenCV.
"""

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from amodal_diffusion.data import read_annotations, record_masks
from amodal_diffusion.images import load_image
from amodal_diffusion.pipelines.deocclusion.matting import soft_outlines

BLURS = (0.6, 1.0, 1.6)
_AREAS = (12_000, 90_000)  # pixels of an object
_MARGIN = 30


@dataclass
class Cut:
    """A photo (h, w, 3), the mask that methods get, the true alpha and colours, a third photo, the pixels to score."""

    photo: np.ndarray
    mask: np.ndarray
    alpha: np.ndarray
    colours: np.ndarray
    other: np.ndarray
    band: np.ndarray


def hard(cut: Cut) -> tuple[np.ndarray, np.ndarray]:
    return cut.mask.astype(np.float32), cut.photo


def blurred(cut: Cut) -> tuple[np.ndarray, np.ndarray]:
    """The mask blurred, with the photo's colours."""
    return cv2.GaussianBlur(cut.mask.astype(np.float32), (0, 0), 0.8), cut.photo


def soft(cut: Cut) -> tuple[np.ndarray, np.ndarray]:
    """`soft_outlines` with the shipped width."""
    width = 3.0 * 640 / max(cut.mask.shape)  # 3 pixels here: this is a part of a larger photo
    found = soft_outlines(cut.photo, cut.mask[None], cut.mask[None], np.zeros((1, 1), np.int8), width)
    alpha = found.seen[0].astype(np.float32)
    alpha.ravel()[found.pixels[0]] = found.alpha[0] / np.float32(255)
    return alpha, found.photo


def cuts(datasets: list[str], count: int, seed: int) -> Iterator[Cut]:
    """Objects with known alpha."""
    rng = np.random.default_rng(seed)
    records = [row for path in datasets for row in read_annotations(path, Path(path).parent, on_error="skip")]
    made = 0
    for number in rng.permutation(len(records)):
        record = records[number]
        areas = [(mask.sum(), mask) for mask in record_masks(record)[0]]
        fitting = [mask for area, mask in areas if _AREAS[0] < area < _AREAS[1]]
        others = [np.asarray(load_image(records[i]["image"])) for i in rng.choice(len(records), 6)]
        if not fitting:
            continue
        photo, mask = np.asarray(load_image(record["image"])), fitting[0]
        inner = cv2.erode(mask.astype(np.uint8), np.ones((9, 9), np.uint8))
        rows, columns = np.nonzero(inner)
        if len(rows) < _AREAS[0] / 2:
            continue
        part = np.s_[
            max(rows.min() - _MARGIN, 0) : rows.max() + _MARGIN,
            max(columns.min() - _MARGIN, 0) : columns.max() + _MARGIN,
        ]
        inner, photo = inner[part], photo[part].astype(np.float32)
        large = [
            other[: len(inner), : inner.shape[1]]
            for other in others
            if (np.array(other.shape[:2]) >= inner.shape).all()
        ]
        if len(large) < 2:
            continue
        shape = cv2.GaussianBlur(inner.astype(np.float32), (0, 0), 1.5) > 0.5
        alpha = cv2.GaussianBlur(shape.astype(np.float32), (0, 0), BLURS[made % len(BLURS)])[..., None]
        buffer = io.BytesIO()
        mixed = alpha * photo + (1 - alpha) * large[0]
        Image.fromarray(np.rint(mixed).astype(np.uint8)).save(buffer, "JPEG", quality=92)
        distance = sum(
            sign * cv2.distanceTransform((shape == (sign > 0)).astype(np.uint8), cv2.DIST_L2, 5) for sign in (1, -1)
        )
        noise = cv2.GaussianBlur(rng.standard_normal(shape.shape), (0, 0), 8)
        given = distance + made % 2 * noise / noise.std() > 0
        yield Cut(
            np.asarray(Image.open(buffer)), given, alpha[..., 0], photo, large[1].astype(np.float32), abs(distance) < 6
        )
        made += 1
        if made == count:
            return


def score(cut: Cut, alpha: np.ndarray, colours: np.ndarray) -> tuple[float, float]:
    """Mean absolute error of the object before the third photo, in levels, and of alpha."""
    shown = alpha[..., None] * colours + (1 - alpha[..., None]) * cut.other
    true = cut.alpha[..., None] * cut.colours + (1 - cut.alpha[..., None]) * cut.other
    return float(np.abs(shown - true).mean(axis=2)[cut.band].mean()), float(np.abs(alpha - cut.alpha)[cut.band].mean())


METHODS: dict[str, Callable[[Cut], tuple[np.ndarray, np.ndarray]]] = {"hard": hard, "blurred": blurred, "soft": soft}


def table(datasets: list[str], count: int, seed: int) -> str:
    """The errors of all methods on `count` objects."""
    objects = list(cuts(datasets, count, seed))
    lines = [f"{len(objects)} objects", "", "| outline | error | alpha | times the hard error | ms an object |"]
    lines.append("|---|---:|---:|---:|---:|")
    base = None
    for name, method in METHODS.items():
        begin = time.process_time()
        found = [method(cut) for cut in objects]
        spent = 1000 * (time.process_time() - begin) / len(objects)
        error, alpha = np.mean([score(cut, *answer) for cut, answer in zip(objects, found, strict=True)], axis=0)
        base = base or error
        lines.append(f"| {name} | {error:.2f} | {alpha:.3f} | {error / base:.2f} | {spent:.0f} |")
    return "\n".join(lines) + "\n"
