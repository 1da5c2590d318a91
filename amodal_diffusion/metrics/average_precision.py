"""COCO's average precision on amodal masks, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..masks import MaskInput, encode_rle, to_mask_stack

# Positions of the figures in COCOeval.stats.
_STATS = {"ap": 0, "ap50": 1, "ap75": 2, "ap_small": 3, "ap_medium": 4, "ap_large": 5, "ar": 8}


@dataclass
class _Image:
    height: int
    width: int
    detections: list[dict[str, Any]]
    objects: list[dict[str, Any]]
    scores: list[float]


class AmodalAP:
    """Class-agnostic AP and AR over a data set: update image by image, compute at the end.

    `compute` gives fractions in [0, 1]: `ap` (mean over IoU 0.50 to 0.95), `ap50`, `ap75`, `ap_small`, `ap_medium`,
    `ap_large` (below 32², up to 96², above, by the area of the true amodal mask) and `ar` (100 masks an image). NaN
    where there is no object of that size. Masks are kept as run lengths, so memory grows with the number of objects.
    """

    def __init__(self) -> None:
        self._images: list[_Image] = []

    def update(self, pred: MaskInput, target: MaskInput, scores: npt.ArrayLike | None = None) -> None:
        """Take one image.

        Args:
            pred: (M, H, W) predicted amodal masks; empty ones are no detections.
            target: (N, H, W) true amodal masks; empty ones are left out.
            scores: (M,) confidences by which detections are ranked; None ranks all alike.

        Raises:
            ValueError: frames of another size, or scores that are not one finite number a mask.
        """
        found, truth = to_mask_stack(pred), to_mask_stack(target)
        if found.shape[1:] != truth.shape[1:]:
            raise ValueError(
                f"`pred` and `target` must have the same frame, got {found.shape[1:]} and {truth.shape[1:]}"
            )
        ranks = np.ones(len(found)) if scores is None else np.asarray(scores, dtype=np.float64)
        if ranks.shape != (len(found),) or not np.isfinite(ranks).all():
            raise ValueError(f"`scores` must be {len(found)} finite numbers, got shape {ranks.shape}")
        seen = found.any(axis=(1, 2))
        detections = [dict(encode_rle(mask)) for mask in found[seen]]
        objects = [dict(encode_rle(mask)) for mask in truth if mask.any()]
        self._images.append(_Image(truth.shape[1], truth.shape[2], detections, objects, ranks[seen].tolist()))

    def merge(self, other: Self) -> Self:
        """Add the images of `other`; `other` stays as it is. Raises TypeError for another class."""
        if type(other) is not type(self):
            raise TypeError(f"`other` must be {type(self).__name__}, got {type(other).__name__}")
        self._images.extend(other._images)
        return self

    def reset(self) -> None:
        """Forget all images."""
        self._images = []

    def compute(self) -> dict[str, float]:
        """The figures by name; all NaN where no image has an object."""
        # Not at import: pycocotools.coco draws in matplotlib where it is installed, which takes a second to load.
        from pycocotools import mask as coco_mask
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        truth: list[dict[str, Any]] = []
        found: list[dict[str, Any]] = []
        for image, entry in enumerate(self._images, start=1):
            for rle in entry.objects:
                described = {"id": len(truth) + 1, "image_id": image, "category_id": 1, "iscrowd": 0}
                truth.append({**described, "segmentation": rle, "area": float(coco_mask.area(rle))})
            for rle, score in zip(entry.detections, entry.scores, strict=True):
                found.append({"image_id": image, "category_id": 1, "segmentation": rle, "score": score})
        if not truth:
            return dict.fromkeys(_STATS, float("nan"))
        if not found:
            return dict.fromkeys(_STATS, 0.0)
        images = [{"id": i, "height": e.height, "width": e.width} for i, e in enumerate(self._images, start=1)]
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress there
            reference = COCO()
            reference.dataset = {"info": {}, "images": images, "annotations": truth, "categories": [{"id": 1}]}
            reference.createIndex()
            evaluation = COCOeval(reference, reference.loadRes(found), "segm")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        stats = {name: float(evaluation.stats[index]) for name, index in _STATS.items()}
        return {name: value if value >= 0 else float("nan") for name, value in stats.items()}
