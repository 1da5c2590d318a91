"""Metrics over a data set: update image by image, compute at the end; merge what several processes counted.

Every metric is a formula of sums over images. `count` gives the terms of one image and `from_totals` the metrics of any
sums of them, so that a bootstrap over images needs no masks, see `bootstrap_intervals`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import numpy.typing as npt

from ..crops import crop_boxes
from ..masks import BoolArray, IntArray, MaskInput, mask_boxes, to_mask_stack
from .fills import decibels, fill_gradient, fill_leak, fill_psnr, fill_ssim
from .functional import object_counts, occluded, order_counts, ratios

FloatArray = npt.NDArray[np.float64]


class _Totals:
    """Named sums with the housekeeping that every accumulator shares."""

    names: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._totals = np.zeros(len(self.names))

    @staticmethod
    def from_totals(totals: FloatArray) -> dict[str, FloatArray]:
        """The metrics of sums (..., K), K in the order of `names`, each of shape (...)."""
        raise NotImplementedError

    def add(self, terms: npt.ArrayLike) -> None:
        """Add the terms (K,) of an image, from `count`."""
        self._totals = self._totals + np.asarray(terms, np.float64)

    def compute(self) -> dict[str, float]:
        """The metrics of everything counted so far."""
        return {name: float(value) for name, value in self.from_totals(self._totals).items()}

    def reset(self) -> None:
        """Forget everything counted so far."""
        self._totals = np.zeros(len(self.names))

    def merge(self, other: Self) -> Self:
        """Add what `other` has counted; `other` stays as it is. Raises TypeError for another class."""
        if type(other) is not type(self):
            raise TypeError(f"`other` must be {type(self).__name__}, got {type(other).__name__}")
        self.add(other._totals)
        return self

    def state_dict(self) -> dict[str, float]:
        """The sums by name, plain numbers that JSON and `load_state_dict` take."""
        return dict(zip(self.names, self._totals.tolist(), strict=True))

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from what `state_dict` gave. Raises ValueError naming missing and unknown keys."""
        missing, unknown = sorted(set(self.names) - set(state)), sorted(set(state) - set(self.names))
        if missing or unknown:
            raise ValueError(f"`state` lacks {missing} and has unknown {unknown}")
        self._totals = np.array([float(state[name]) for name in self.names])

    @classmethod
    def _terms(cls, **values: float) -> FloatArray:
        return np.array([values[name] for name in cls.names], np.float64)


class CompletionMetrics(_Totals):
    """Mask metrics over a data set [Z20].

    `compute` gives, as fractions in [0, 1] and NaN where nothing was there to measure: `miou_pooled` and
    `inv_miou_pooled` (sums over all objects), `miou_mean` and `inv_miou_mean` (means over objects with a hidden part),
    `miou_mean_all` (mean over all objects, as [Z24] has it), `pixel_accuracy`. See
    `amodal_diffusion.metrics.functional`.

    Example:
        >>> modal = np.array([[[1, 1, 0, 0]]], dtype=bool)
        >>> target = np.array([[[1, 1, 1, 1]]], dtype=bool)
        >>> pred = np.array([[[1, 1, 1, 0]]], dtype=bool)
        >>> metrics = CompletionMetrics()
        >>> metrics.update(pred, target, modal)
        >>> result = metrics.compute()
        >>> result["miou_pooled"], result["inv_miou_pooled"]
        (0.75, 0.5)
    """

    names = (
        "intersection", "union", "invisible_intersection", "invisible_union",
        "iou", "invisible_iou", "occluded", "iou_all", "objects", "right_pixels", "pixels",
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
        self.add(self.count(pred, target, modal))

    @classmethod
    def count(cls, pred: MaskInput, target: MaskInput, modal: MaskInput) -> FloatArray:
        """The terms (K,) of one image; arguments and errors of `update`."""
        pred = to_mask_stack(pred, allow_faint=True)
        return cls.count_objects(object_counts(pred, target, modal), pred.shape[1] * pred.shape[2])

    @classmethod
    def count_objects(cls, counts: IntArray, frame: int) -> FloatArray:
        """Likewise, from the (N, 6) `object_counts` of the objects in a frame of so many pixels."""
        hidden, nonempty = occluded(counts), counts[counts[:, 1] > 0]
        intersection, union, _, invisible_intersection, invisible_union, _ = counts.sum(axis=0)
        return cls._terms(
            intersection=intersection,
            union=union,
            invisible_intersection=invisible_intersection,
            invisible_union=invisible_union,
            iou=(hidden[:, 0] / hidden[:, 1]).sum(),
            invisible_iou=(hidden[:, 3] / hidden[:, 4]).sum(),
            occluded=len(hidden),
            iou_all=(nonempty[:, 0] / nonempty[:, 1]).sum(),
            objects=len(nonempty),
            right_pixels=len(counts) * frame - (union - intersection),
            pixels=len(counts) * frame,
        )

    @staticmethod
    def from_totals(totals: FloatArray) -> dict[str, FloatArray]:
        """The metrics of sums (..., 11), each of shape (...)."""
        intersection, union, inv_intersection, inv_union, iou, inv_iou, hidden, iou_all, objects, right, pixels = (
            np.moveaxis(totals, -1, 0)
        )
        return {
            "miou_pooled": ratios(intersection, union),
            "inv_miou_pooled": ratios(inv_intersection, inv_union),
            "miou_mean": ratios(iou, hidden),
            "inv_miou_mean": ratios(inv_iou, hidden),
            "miou_mean_all": ratios(iou_all, objects),
            "pixel_accuracy": ratios(right, pixels),
        }


class MatchMetrics(_Totals):
    """How many of the true objects have a matching prediction, and the mIoU over all of them [Z20, Table 3].

    `compute` gives, as fractions in [0, 1] and NaN where nothing was there to measure: `matched`, the share of the
    objects that a prediction was matched to, and `miou_pooled_all`, the pooled mIoU over all objects, in which one
    without prediction has an empty mask.

    Example:
        >>> counts = np.array([[3, 4, 4, 1, 2, 2], [0, 4, 4, 0, 2, 2]])  # `object_counts` of two objects
        >>> metrics = MatchMetrics()
        >>> metrics.add(MatchMetrics.count_objects(counts, matched=[True, False]))
        >>> metrics.compute()
        {'matched': 0.5, 'miou_pooled_all': 0.375}
    """

    names = ("matched", "objects", "intersection", "union")

    @classmethod
    def count_objects(cls, counts: IntArray, matched: npt.ArrayLike | None) -> FloatArray:
        """The terms (K,) of one image.

        Args:
            counts: (N, 6) `object_counts`, of an empty prediction where an object has none.
            matched: (N,) bool, the objects that have one; None for all.
        """
        found = np.ones(len(counts), bool) if matched is None else np.asarray(matched, bool)
        intersection, union = counts[:, :2].sum(axis=0)
        return cls._terms(matched=found.sum(), objects=len(counts), intersection=intersection, union=union)

    @staticmethod
    def from_totals(totals: FloatArray) -> dict[str, FloatArray]:
        """The metrics of sums (..., 4), each of shape (...)."""
        matched, objects, intersection, union = np.moveaxis(totals, -1, 0)
        return {"matched": ratios(matched, objects), "miou_pooled_all": ratios(intersection, union)}


class SampleWidthMetrics(_Totals):
    """How far apart the samples of an object are: the width of a posterior of shapes [L20, supplement].

    `compute` gives `sample_width`, the mean over objects of `sample_widths`, NaN without objects.

    Example:
        >>> metrics = SampleWidthMetrics()
        >>> metrics.add(SampleWidthMetrics.count(np.array([0.0, 0.5])))
        >>> metrics.compute()
        {'sample_width': 0.25}
    """

    names = ("width", "objects")

    @classmethod
    def count(cls, widths: npt.ArrayLike) -> FloatArray:
        """The terms (K,) of one image, from (N,) `sample_widths`."""
        values = np.asarray(widths, np.float64)
        return cls._terms(width=values.sum(), objects=len(values))

    @staticmethod
    def from_totals(totals: FloatArray) -> dict[str, FloatArray]:
        """The metric of sums (..., 2), of shape (...)."""
        width, objects = np.moveaxis(totals, -1, 0)
        return {"sample_width": ratios(width, objects)}


class OrderMetrics(_Totals):
    """Order metrics over a data set [Z20].

    `compute` gives `order_accuracy` over the pairs related in the ground truth, `order_accuracy_large` over those of
    them of which one hides at least 30 pixels of the other (`LARGE_OVERLAP`; NaN where no overlaps were given), and
    `order_accuracy_all` over all pairs, as fractions in [0, 1], NaN without such pairs.

    Example:
        >>> metrics = OrderMetrics()
        >>> metrics.update(np.array([[0, 1], [-1, 0]]), np.array([[0, 1], [-1, 0]]))
        >>> metrics.update(np.zeros((2, 2), dtype=int), np.array([[0, 1], [-1, 0]]))
        >>> metrics.compute()
        {'order_accuracy': 0.5, 'order_accuracy_large': nan, 'order_accuracy_all': 0.5}
    """

    names = ("right", "pairs", "right_related", "related", "right_large", "large")

    def update(self, pred: npt.ArrayLike, target: npt.ArrayLike, overlaps: npt.ArrayLike | None = None) -> None:
        """Count the pairs of one image.

        Args:
            pred: (N, N) predicted order matrix.
            target: (N, N) true order matrix.
            overlaps: (N, N) pixels that one object hides of the other, see `hidden_overlaps`; None where unknown.

        Raises:
            ValueError: a matrix that is not an order matrix, or sizes that differ.
        """
        self.add(self.count(pred, target, overlaps))

    @classmethod
    def count(cls, pred: npt.ArrayLike, target: npt.ArrayLike, overlaps: npt.ArrayLike | None = None) -> FloatArray:
        """The terms (K,) of one image; arguments and errors of `update`."""
        return order_counts(np.asarray(pred), np.asarray(target), overlaps).astype(np.float64)

    @staticmethod
    def from_totals(totals: FloatArray) -> dict[str, FloatArray]:
        """The metrics of sums (..., 6), each of shape (...)."""
        right, pairs, right_related, related, right_large, large = np.moveaxis(totals, -1, 0)
        return {
            "order_accuracy": ratios(right_related, related),
            "order_accuracy_large": ratios(right_large, large),
            "order_accuracy_all": ratios(right, pairs),
        }


class OccluderMetrics(_Totals):
    """Metrics of predicted occluders over a data set: whether there is one, and where [Z24].

    The target is the union of the visible masks of all that lies directly in front of an object. `compute` gives, as
    fractions in [0, 1] and NaN where nothing was there to measure:

    - `iou_pooled` (sums) and `iou_mean` (mean), over the objects that have an occluder, in the whole photo;
    - `crop_iou_pooled` and `crop_iou_mean`, likewise inside the object's crop box (`crop_boxes`), over the objects with
      an occluder there: no network sees more, and occluders often go on outside of it;
    - `found`, the share of the objects with an occluder whose prediction has a pixel (recall of the detection), and
      `left_empty`, the share of those without whose prediction has none (specificity).

    Example:
        >>> modal = np.array([[[1, 1, 0, 0]]], dtype=bool)
        >>> target = np.array([[[0, 0, 1, 1]]], dtype=bool)
        >>> pred = np.array([[[0, 0, 1, 0]]], dtype=bool)
        >>> metrics = OccluderMetrics()
        >>> metrics.update(pred, target, modal)
        >>> result = metrics.compute()
        >>> result["iou_pooled"], result["found"]
        (0.5, 1.0)
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
        self.add(self.count(pred, target, modal))

    @classmethod
    def count(cls, pred: MaskInput, target: MaskInput, modal: MaskInput) -> FloatArray:
        """The terms (K,) of one image; arguments and errors of `update`."""
        counts = object_counts(pred, target, modal)
        intersection, union, true_area = counts[:, :3].T
        covered, predicted = true_area > 0, intersection + union - true_area > 0
        window = _windows(to_mask_stack(modal, allow_faint=True))
        crop_intersection, crop_union, crop_area = object_counts(
            to_mask_stack(pred, allow_faint=True) & window, to_mask_stack(target, allow_faint=True) & window, modal
        )[:, :3].T
        crop_covered = crop_area > 0
        return cls._terms(
            intersection=intersection[covered].sum(),
            union=union[covered].sum(),
            iou=(intersection[covered] / union[covered]).sum(),
            covered=covered.sum(),
            crop_intersection=crop_intersection[crop_covered].sum(),
            crop_union=crop_union[crop_covered].sum(),
            crop_iou=(crop_intersection[crop_covered] / crop_union[crop_covered]).sum(),
            crop_covered=crop_covered.sum(),
            found=(covered & predicted).sum(),
            left_empty=(~covered & ~predicted).sum(),
            objects=len(counts),
        )

    @staticmethod
    def from_totals(totals: FloatArray) -> dict[str, FloatArray]:
        """The metrics of sums (..., 11), each of shape (...)."""
        columns = np.moveaxis(totals, -1, 0)
        intersection, union, iou, covered, crop_intersection, crop_union, crop_iou, crop_covered = columns[:8]
        found, left_empty, objects = columns[8:]
        return {
            "iou_pooled": ratios(intersection, union),
            "iou_mean": ratios(iou, covered),
            "crop_iou_pooled": ratios(crop_intersection, crop_union),
            "crop_iou_mean": ratios(crop_iou, crop_covered),
            "found": ratios(found, covered),
            "left_empty": ratios(left_empty, objects - covered),
        }


def _windows(modal: BoolArray) -> BoolArray:
    """(N, H, W) bool: the pixels in the crop box of each mask; none for an empty mask."""
    _, height, width = modal.shape
    x, y, side, _ = crop_boxes(mask_boxes(modal)).T[:, :, None]  # [N, 1] each
    rows, columns = np.arange(height), np.arange(width)
    inside_rows, inside_columns = (rows >= y) & (rows < y + side), (columns >= x) & (columns < x + side)
    return inside_rows[:, :, None] & inside_columns[:, None, :]


class FillMetrics(_Totals):
    """Fills over a data set of holes.

    `compute` gives `psnr`, `ssim`, `gradient` and `leak`, means over the holes for which there is such a figure, and
    `psnr_pooled`, that of the mean square over all pixels; NaN where nothing was there to measure.

    Example:
        >>> truth, hole = np.zeros((4, 4, 3), np.uint8), np.eye(4, dtype=bool)
        >>> metrics = FillMetrics()
        >>> metrics.update(truth + 10, truth, hole)
        >>> round(metrics.compute()["psnr"], 2), metrics.compute()["leak"]
        (28.13, nan)
    """

    _FIGURES = ("psnr", "ssim", "gradient", "leak")
    names = (*_FIGURES, *(f"{name}_holes" for name in _FIGURES), "squares", "values")

    def update(
        self,
        fill: npt.ArrayLike,
        truth: npt.ArrayLike,
        hole: npt.ArrayLike,
        occluder_color: npt.ArrayLike | None = None,
    ) -> None:
        """Count one hole.

        Args:
            fill: (H, W, 3) in 0 to 255.
            truth: likewise.
            hole: (H, W) bool.
            occluder_color: (3,), see `fill_leak`; None leaves the leak out.

        Raises:
            ValueError: other shapes.
        """
        self.add(self.count(fill, truth, hole, occluder_color))

    @classmethod
    def count(
        cls,
        fill: npt.ArrayLike,
        truth: npt.ArrayLike,
        hole: npt.ArrayLike,
        occluder_color: npt.ArrayLike | None = None,
    ) -> FloatArray:
        """The terms (K,) of one hole; arguments and errors of `update`."""
        figures = {
            "psnr": fill_psnr(fill, truth, hole),
            "ssim": fill_ssim(fill, truth, hole),
            "gradient": fill_gradient(fill, truth, hole),
            "leak": float("nan") if occluder_color is None else fill_leak(fill, truth, hole, occluder_color),
        }
        counted = {f"{name}_holes": float(not np.isnan(value)) for name, value in figures.items()}
        hole = np.asarray(hole, dtype=bool)
        errors = np.square(np.asarray(fill)[hole].astype(np.float64) - np.asarray(truth)[hole])
        figures = {name: float(np.nan_to_num(value)) for name, value in figures.items()}
        return cls._terms(**figures, **counted, squares=float(errors.sum()), values=float(errors.size))

    @staticmethod
    def from_totals(totals: FloatArray) -> dict[str, FloatArray]:
        """The metrics of sums; see the class."""
        values = {name: totals[..., index] for index, name in enumerate(FillMetrics.names)}
        with np.errstate(invalid="ignore", divide="ignore"):
            result = {name: values[name] / values[f"{name}_holes"] for name in FillMetrics._FIGURES}
            result["psnr_pooled"] = decibels(values["squares"] / values["values"])
        return result
