"""Metrics over a data set: update image by image, compute at the end; merge what several processes counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import numpy.typing as npt

from ..masks import BoolArray, MaskInput, crop_boxes, mask_boxes, to_mask_stack
from .functional import object_counts, occluded, order_counts, ratio


class _Totals:
    """Named sums with the housekeeping that every accumulator shares."""

    names: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._totals = dict.fromkeys(self.names, 0.0)

    def reset(self) -> None:
        """Forget everything counted so far."""
        self._totals = dict.fromkeys(self.names, 0.0)

    def merge(self, other: Self) -> Self:
        """Add what `other` has counted; `other` stays as it is. Raises TypeError for another class."""
        if type(other) is not type(self):
            raise TypeError(f"`other` must be {type(self).__name__}, got {type(other).__name__}")
        self._add(other._totals)
        return self

    def state_dict(self) -> dict[str, float]:
        """The sums by name, plain numbers that JSON and `load_state_dict` take."""
        return dict(self._totals)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from what `state_dict` gave. Raises ValueError naming missing and unknown keys."""
        missing, unknown = sorted(set(self.names) - set(state)), sorted(set(state) - set(self.names))
        if missing or unknown:
            raise ValueError(f"`state` lacks {missing} and has unknown {unknown}")
        self._totals = {name: float(state[name]) for name in self.names}

    def _add(self, values: Mapping[str, float]) -> None:
        for name in self.names:
            self._totals[name] += float(values[name])


class CompletionMetrics(_Totals):
    """Mask metrics over a data set [Z20].

    `compute` gives, as fractions in [0, 1] and NaN where nothing was there to measure: `miou_pooled` and
    `inv_miou_pooled` (sums over all objects), `miou_mean` and `inv_miou_mean` (means over objects with a hidden part),
    `pixel_accuracy`. See `amodal_diffusion.metrics.functional`.
    """

    names = (
        "intersection", "union", "invisible_intersection", "invisible_union",
        "iou", "invisible_iou", "occluded", "right_pixels", "pixels",
    )  # fmt: skip

    def update(self, pred: MaskInput, target: MaskInput, modal: MaskInput) -> None:
        """Count the objects of one image.

        Args:
            pred: (N, H, W) predicted amodal masks.
            target: (N, H, W) true amodal masks.
            modal: (N, H, W) visible masks.

        Raises:
            ValueError: shapes that differ.
        """
        pred = to_mask_stack(pred)
        counts = object_counts(pred, target, modal)
        hidden = occluded(counts)
        intersection, union, _, invisible_intersection, invisible_union, _ = counts.sum(axis=0)
        self._add(
            {
                "intersection": intersection,
                "union": union,
                "invisible_intersection": invisible_intersection,
                "invisible_union": invisible_union,
                "iou": (hidden[:, 0] / hidden[:, 1]).sum(),
                "invisible_iou": (hidden[:, 3] / hidden[:, 4]).sum(),
                "occluded": len(hidden),
                "right_pixels": pred.size - (union - intersection),
                "pixels": pred.size,
            }
        )

    def compute(self) -> dict[str, float]:
        """The metrics of everything counted so far."""
        totals = self._totals
        return {
            "miou_pooled": ratio(totals["intersection"], totals["union"]),
            "inv_miou_pooled": ratio(totals["invisible_intersection"], totals["invisible_union"]),
            "miou_mean": ratio(totals["iou"], totals["occluded"]),
            "inv_miou_mean": ratio(totals["invisible_iou"], totals["occluded"]),
            "pixel_accuracy": ratio(totals["right_pixels"], totals["pixels"]),
        }


class OrderMetrics(_Totals):
    """Order metrics over a data set [Z20].

    `compute` gives `order_accuracy` over the pairs related in the ground truth and `order_accuracy_all` over all pairs,
    as fractions in [0, 1], NaN without such pairs.
    """

    names = ("right", "pairs", "right_related", "related")

    def update(self, pred: npt.ArrayLike, target: npt.ArrayLike) -> None:
        """Count the pairs of one image.

        Args:
            pred: (N, N) predicted order matrix.
            target: (N, N) true order matrix.

        Raises:
            ValueError: a matrix that is not an order matrix, or sizes that differ.
        """
        self._add(dict(zip(self.names, order_counts(np.asarray(pred), np.asarray(target)), strict=True)))

    def compute(self) -> dict[str, float]:
        """The metrics of everything counted so far."""
        totals = self._totals
        return {
            "order_accuracy": ratio(totals["right_related"], totals["related"]),
            "order_accuracy_all": ratio(totals["right"], totals["pairs"]),
        }


class OccluderMetrics(_Totals):
    """Metrics of predicted occluders over a data set: is there one, and where [Z24].

    The target is the union of the visible masks of all that lies directly in front of an object. `compute` gives, as
    fractions in [0, 1] and NaN where nothing was there to measure:

    - `iou_pooled` (sums) and `iou_mean` (mean), over the objects that have an occluder, in the whole photo;
    - `crop_iou_pooled` and `crop_iou_mean`, likewise inside the object's crop box (`crop_boxes`), over the objects with
      an occluder there: no network sees more, and occluders often go on outside of it;
    - `found`, the share of the objects with an occluder whose prediction has a pixel (recall of the detection), and
      `left_empty`, the share of those without whose prediction has none (specificity).
    """

    names = (
        "intersection", "union", "iou", "covered", "crop_intersection", "crop_union", "crop_iou", "crop_covered",
        "found", "left_empty", "objects",
    )  # fmt: skip

    def update(self, pred: MaskInput, target: MaskInput, modal: MaskInput) -> None:
        """Count the objects of one image.

        Args:
            pred: (N, H, W) predicted masks of what hides each object; empty where nothing does.
            target: (N, H, W) true ones.
            modal: (N, H, W) visible masks of the objects, which place the crop boxes.

        Raises:
            ValueError: shapes that differ.
        """
        counts = object_counts(pred, target, modal)
        intersection, union, true_area = counts[:, :3].T
        covered, predicted = true_area > 0, intersection + union - true_area > 0
        window = _windows(to_mask_stack(modal))
        crop_intersection, crop_union, crop_area = object_counts(
            to_mask_stack(pred) & window, to_mask_stack(target) & window, modal
        )[:, :3].T
        crop_covered = crop_area > 0
        self._add(
            {
                "intersection": intersection[covered].sum(),
                "union": union[covered].sum(),
                "iou": (intersection[covered] / union[covered]).sum(),
                "covered": covered.sum(),
                "crop_intersection": crop_intersection[crop_covered].sum(),
                "crop_union": crop_union[crop_covered].sum(),
                "crop_iou": (crop_intersection[crop_covered] / crop_union[crop_covered]).sum(),
                "crop_covered": crop_covered.sum(),
                "found": (covered & predicted).sum(),
                "left_empty": (~covered & ~predicted).sum(),
                "objects": len(counts),
            }
        )

    def compute(self) -> dict[str, float]:
        """The metrics of everything counted so far."""
        totals = self._totals
        return {
            "iou_pooled": ratio(totals["intersection"], totals["union"]),
            "iou_mean": ratio(totals["iou"], totals["covered"]),
            "crop_iou_pooled": ratio(totals["crop_intersection"], totals["crop_union"]),
            "crop_iou_mean": ratio(totals["crop_iou"], totals["crop_covered"]),
            "found": ratio(totals["found"], totals["covered"]),
            "left_empty": ratio(totals["left_empty"], totals["objects"] - totals["covered"]),
        }


def _windows(modal: BoolArray) -> BoolArray:
    """(N, H, W) bool: the pixels in the crop box of each mask; none for an empty mask."""
    _, height, width = modal.shape
    x, y, side, _ = crop_boxes(mask_boxes(modal)).T[:, :, None]  # [N, 1] each
    rows, columns = np.arange(height), np.arange(width)
    inside_rows, inside_columns = (rows >= y) & (rows < y + side), (columns >= x) & (columns < x + side)
    return inside_rows[:, :, None] & inside_columns[:, None, :]
