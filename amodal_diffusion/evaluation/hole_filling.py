"""Hidden colours against the truth: what content pipelines paint where a data set has the colours of what is hidden."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from ..arguments.choices import check_choice
from ..data import record_masks, record_order
from ..data.rooms.hidden_colors import HiddenColors
from ..display import short_repr
from ..masks import mask_boxes
from ..metrics import FillMetrics, ObjectFID, difference_intervals, percentile_intervals, resampled_metrics
from ..metrics.bootstrap import FloatArray, check_bootstrap
from ..pipelines import AmodalPipeline, ContentPipeline
from .report import Cell, Difference, Intervals, Table, format_markdown, format_table, json_values
from .samples import check_limit, make_sample

MIN_HOLE = 30
"""Pixels of a hole that is scored: of fewer, the edges of masks decide."""
_RADIUS = 3  # of OpenCV's methods, in pixels: the value of its documentation
_COLUMNS = {
    "psnr": "PSNR, dB",
    "psnr_pooled": "PSNR pooled, dB",
    "ssim": "SSIM",
    "gradient": "detail (1 is the truth's)",
    "leak": "leak (0 is none)",
}
_FID = "fid"
_PUBLISHED_FID = (
    "FID: whole objects alone on black, against the true ones. [L20] has 41.44 for its masks and 50.36 for PCNet-M's, "
    "on KINS objects that one inpainting network painted: other photos, and another number of them."
)


@dataclass
class FillSample:
    """A photo whose objects are to be painted where they are hidden; what is asked for, not what is true.

    Args:
        image_id: name of the image in errors.
        photo: (H, W, 3) uint8.
        modal: (N, H, W) bool visible masks.
        amodal: (N, H, W) bool whole masks, the true ones.
        order: (N, N) int8 true order; pairs that hide each other have none.
        names: N names of what the objects are.

    Example:
        >>> masks = np.ones((1, 4, 6), dtype=bool)
        >>> FillSample("1", np.zeros((4, 6, 3), np.uint8), masks, masks, np.zeros((1, 1), np.int8), ["cup"]).holes.any()
        np.False_
    """

    image_id: str
    photo: np.ndarray
    modal: np.ndarray
    amodal: np.ndarray
    order: np.ndarray
    names: list[str]

    __repr__ = short_repr

    @property
    def holes(self) -> np.ndarray:
        """(N, H, W) bool: where each object is hidden."""
        return self.amodal & ~self.modal


class FillMethod(Protocol):
    """Anything with a `name` that paints hidden parts.

    Example:
        >>> class Black:
        ...     name = "black"
        ...
        ...     def __call__(self, sample: FillSample, wanted: Sequence[int]) -> list[np.ndarray]:
        ...         return [np.zeros_like(sample.photo) for _ in wanted]
        >>> method: FillMethod = Black()
        >>> method.name
        'black'
    """

    @property
    def name(self) -> str:
        """The row of the table."""
        ...

    def __call__(self, sample: FillSample, wanted: Sequence[int]) -> list[np.ndarray]:
        """(H, W, 3) uint8 for each wanted object; only what is in its hole is looked at."""
        ...


@dataclass(frozen=True)
class FillBaseline:
    """A method that paints one object after the other, from what is seen of it.

    Args:
        name: the row of the table.
        paint: from a picture (h, w, 3) uint8 around the object, what is seen of it (h, w) bool, and its hole, the
            picture with the hole filled.

    Example:
        >>> photo, modal = np.full((4, 6, 3), 90, np.uint8), np.zeros((1, 4, 6), bool)
        >>> modal[0, :, :3] = True
        >>> sample = FillSample("1", photo, modal, np.ones_like(modal), np.zeros((1, 1), np.int8), ["cup"])
        >>> FILL_METHODS["mean-color"](sample, [0])[0][0, 5].tolist()
        [90, 90, 90]
    """

    name: str
    paint: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

    def __call__(self, sample: FillSample, wanted: Sequence[int]) -> list[np.ndarray]:
        """Paint each wanted object in the window around its whole mask."""
        pictures = []
        for index in wanted:
            x, y, width, height = (int(value) for value in mask_boxes(sample.amodal[index][None])[0])
            place = slice(y, y + height), slice(x, x + width)
            picture = sample.photo.copy()
            seen, hole = sample.modal[index][place], sample.holes[index][place]
            picture[place] = self.paint(sample.photo[place], seen, hole) if seen.any() else 0
            pictures.append(picture)
        return pictures


def _mean_color(picture: np.ndarray, seen: np.ndarray, hole: np.ndarray) -> np.ndarray:
    filled = picture.copy()
    filled[hole] = picture[seen].mean(axis=0).round()
    return filled


def _opencv(picture: np.ndarray, seen: np.ndarray, method: str) -> np.ndarray:
    try:
        import cv2
    except ImportError as error:
        raise ImportError("telea and navier-stokes need OpenCV: pip install 'amodal-diffusion[rooms]'") from error
    visible: np.ndarray = np.where(seen[..., None], picture, np.uint8(0))
    filled: np.ndarray = cv2.inpaint(visible, (~seen).astype(np.uint8), _RADIUS, getattr(cv2, method))
    return filled


FILL_METHODS: dict[str, FillMethod] = {
    method.name: method
    for method in (
        FillBaseline("mean-color", _mean_color),
        FillBaseline("telea", lambda picture, seen, hole: _opencv(picture, seen, "INPAINT_TELEA")),
        FillBaseline("navier-stokes", lambda picture, seen, hole: _opencv(picture, seen, "INPAINT_NS")),
    )
}
"""Baselines by name: the mean colour of what is seen of the object, and OpenCV's methods, from what is seen of it."""


class ContentMethod:
    """A content pipeline that is given the true whole masks and the true order.

    Args:
        pipeline: a content pipeline of this package.
        name: the row of the table.
        call_options: keyword arguments of each call.

    Example:
        >>> from amodal_diffusion import PCNetContent
        >>> pipe = ContentPipeline(PCNetContent(block_out_channels=(4, 8), sample_size=32), background_size=32)
        >>> modal = np.zeros((1, 24, 32), bool)
        >>> modal[0, 4:20, 4:16] = True
        >>> whole = modal | np.roll(modal, 4, axis=2)
        >>> sample = FillSample("1", np.zeros((24, 32, 3), np.uint8), modal, whole, np.zeros((1, 1), np.int8), ["cup"])
        >>> ContentMethod(pipe, "tiny")(sample, [0])[0].shape
        (24, 32, 3)
    """

    def __init__(self, pipeline: ContentPipeline, name: str, **call_options: Any) -> None:
        self.pipeline, self.name, self.call_options = pipeline, name, call_options

    def __call__(self, sample: FillSample, wanted: Sequence[int]) -> list[np.ndarray]:
        """Run the pipeline on all objects of the photo, since they say what is in front of what."""
        photo = Image.fromarray(sample.photo)
        output: Any = self.pipeline(
            photo, sample.modal, sample.amodal, order=sample.order, names=sample.names, **self.call_options
        )
        pictures = []
        for index in wanted:
            x, y, width, height = (int(value) for value in output.boxes[index])
            picture = sample.photo.copy()
            picture[y : y + height, x : x + width] = output.objects[index][..., :3]
            pictures.append(picture)
        return pictures


def load_fill_methods(
    names: Sequence[str],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    runtime: str = "torch",
    **call_options: Any,
) -> list[FillMethod]:
    """Turn names into methods: one of `FILL_METHODS`, or a folder or Hub id of a content pipeline.

    Raises:
        ValueError: no names, a repeated one, or one that is neither.

    Example:
        >>> [method.name for method in load_fill_methods(["mean-color", "telea"])]
        ['mean-color', 'telea']
    """
    if not names:
        raise ValueError("`names` must hold at least one method, got none.")
    methods: list[FillMethod] = []
    for name in names:
        if any(method.name == name for method in methods):
            raise ValueError(f"`names` holds {name!r} twice.")
        if name in FILL_METHODS:
            methods.append(FILL_METHODS[name])
            continue
        known = f"method {name!r} is none of {', '.join(FILL_METHODS)}"
        if "/" not in name and not Path(name).is_dir():
            raise ValueError(f"{known}, no folder, and no Hub id of the form 'organisation/name'.")
        try:
            pipeline = AmodalPipeline.from_pretrained(name, dtype=dtype, runtime=runtime)
        except (OSError, ValueError) as error:
            raise ValueError(f"{known}, and loads as no pipeline: {error}") from error
        if not isinstance(pipeline, ContentPipeline):
            raise ValueError(f"'{name}' holds a `{type(pipeline).__name__}`, which paints no hidden parts.")
        methods.append(ContentMethod(pipeline.prepare(device), name, **call_options))
    return methods


@dataclass
class FillReport:
    """Metrics of `evaluate_fills`, see `FillMetrics`.

    Args:
        metrics: method → metric → value.
        intervals: method → metric → (low, high) percentiles over images drawn with replacement; {} for none.
        counts: images, holes (hidden parts that were scored), pixels of them, too_small (hidden parts of fewer pixels).
        seconds: method → seconds spent in its calls.
        resamples: how often the images were drawn.
        confidence: of the intervals.
        reference: name of the method of the differences; None for none.
        differences: method → metric → what it has more than the reference.

    Example:
        >>> counts = {"images": 1, "holes": 2, "pixels": 900, "too_small": 0}
        >>> print(FillReport({"telea": {"psnr": 15.85, "ssim": 0.423}}, {}, counts, {"telea": 0.1}).to_markdown())
        Hidden colours, 2 hidden parts in 1 images, whole masks and order given
        <BLANKLINE>
        | method | PSNR, dB | PSNR pooled, dB | SSIM | detail (1 is the truth's) | leak (0 is none) | seconds |
        | --- | ---: | ---: | ---: | ---: | ---: | ---: |
        | telea | 15.85 | – | 0.423 | – | – | 0.1 |
        <BLANKLINE>
    """

    metrics: dict[str, dict[str, float]]
    intervals: dict[str, Intervals]
    counts: dict[str, int]
    seconds: dict[str, float]
    resamples: int = 0
    confidence: float = 0.95
    reference: str | None = None
    differences: dict[str, dict[str, Difference]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values that JSON takes; NaN becomes None."""
        return {
            "counts": dict(self.counts),
            "metrics": {name: json_values(row) for name, row in self.metrics.items()},
            "intervals": {name: json_values(row) for name, row in self.intervals.items()},
            "resamples": self.resamples,
            "confidence": self.confidence,
            "reference": self.reference,
            "differences": {
                name: {key: json_values(entry._asdict()) for key, entry in row.items()}
                for name, row in self.differences.items()
            },
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }

    def to_json(self) -> str:
        """The dictionary of `to_dict` as indented JSON with a final newline."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    def to_text(self) -> str:
        """The tables for a terminal."""
        return self._render(format_table)

    def to_markdown(self) -> str:
        """The tables in Markdown."""
        return self._render(format_markdown)

    def _render(self, table: Table) -> str:
        title = "Hidden colours, {holes} hidden parts in {images} images, whole masks and order given"
        columns = dict(_COLUMNS)
        if any(_FID in row for row in self.metrics.values()):
            columns[_FID] = "FID"
        rows: list[list[Cell]] = [
            [name, *(self._cell(name, key) for key in columns), f"{self.seconds[name]:.1f}"] for name in self.metrics
        ]
        parts = [title.format(**self.counts), table(["method", *columns.values(), "seconds"], rows)]
        if self.differences:
            rows = [
                [name, *(_cell(key, row[key].value, row[key].interval, "+") for key in _COLUMNS)]
                for name, row in self.differences.items()
            ]
            parts += [f"More than {self.reference}", table(["method", *_COLUMNS.values()], rows)]
        if self.resamples:
            parts.append(
                f"Intervals: percentiles, {100 * self.confidence:g} %, of {self.resamples} data sets drawn from the "
                f"{self.counts['images']} images with replacement."
            )
        if _FID in columns:
            parts.append(_PUBLISHED_FID)
        if self.counts["too_small"]:
            parts.append(f"Left out: {self.counts['too_small']} hidden parts of fewer than {MIN_HOLE} pixels.")
        return "\n\n".join(parts) + "\n"

    def _cell(self, name: str, metric: str) -> Cell:
        value = self.metrics[name].get(metric, math.nan)
        return _cell(metric, value, self.intervals.get(name, {}).get(metric, (math.nan, math.nan)))


def _cell(metric: str, value: float, interval: tuple[float, float], sign: str = "") -> Cell:
    digits = 2 if metric.startswith(("psnr", _FID)) else 3
    if math.isnan(value):
        return "–", ""
    low, high = interval
    between = " to " if sign or low < 0 else "–"
    ends = "" if math.isnan(low) else f"{low:{sign}.{digits}f}{between}{high:{sign}.{digits}f}"
    return f"{value:{sign}.{digits}f}".replace("-", "−"), ends.replace("-", "−")


def evaluate_fills(
    dataset: Iterable[Mapping[str, Any]],
    colors: Callable[[str], HiddenColors],
    methods: Sequence[FillMethod],
    *,
    limit: int | None = None,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    reference: str | None = None,
    make_fid: Callable[[], ObjectFID] | None = None,
) -> FillReport:
    """Score what methods paint where objects are hidden, with the true whole masks and the true order given.

    A hole is the hidden part of an object, of `MIN_HOLE` pixels at least. The occluder's colour, for the leak, is the
    mean colour of what is seen of all that covers the hole.

    Args:
        dataset: rows of `amodal_diffusion.data.amodal_features` with photos.
        colors: the true colours of a row by its `image_id`, such as `ColorArchives(folder, split).read`.
        methods: rows of the table, e.g. from `load_fill_methods`.
        limit: number of images to read at most.
        resamples: data sets drawn from the images for percentile intervals; 0 for none.
        confidence: of the intervals.
        seed: of the resamples.
        reference: name of a method; the report then has what each other method has more, see `evaluate_methods`.
        make_fid: makes the Inception distance that each method is scored with too, as "fid"; None leaves it out.

    Raises:
        ValueError: a repeated method, no hole that can be scored, a row without photo, a picture of the wrong shape, a
            reference that is none of the methods; resamples or confidence out of range.
        FileNotFoundError: an image without colours.

    Example:
        >>> from amodal_diffusion.masks import encode_rle
        >>> whole = np.ones((8, 12), dtype=bool)
        >>> front = whole & (np.arange(12) > 6)
        >>> objects = [
        ...     {"modal_mask": encode_rle(modal), "amodal_mask": encode_rle(amodal), "category_id": None, "name": name}
        ...     for modal, amodal, name in ((whole & ~front, whole, "wall"), (front, front, "box"))
        ... ]
        >>> row = {"image_id": "1", "height": 8, "width": 12, "objects": objects}
        >>> row |= {"image": Image.new("RGB", (12, 8), "gray"), "order_relations": [{"front": 1, "behind": 0}]}
        >>> truth = HiddenColors(objects={0: (0, 0, np.full((8, 12, 4), (138, 128, 128, 255), np.uint8))})
        >>> report = evaluate_fills([row], lambda image_id: truth, [FILL_METHODS["mean-color"]])
        >>> round(report.metrics["mean-color"]["psnr"], 2), report.counts["holes"]
        (32.9, 1)
    """
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise ValueError(f"`methods` must have names of their own, got {names}.")
    if reference is not None:
        check_choice("reference", reference, names)
    check_limit(limit)
    if resamples:
        check_bootstrap(resamples, confidence, seed)
    terms: dict[str, list[FloatArray]] = {name: [] for name in names}
    seconds = dict.fromkeys(names, 0.0)
    distances = {} if make_fid is None else {name: make_fid() for name in names}
    counts = dict.fromkeys(("images", "holes", "pixels", "too_small"), 0)
    for index, row in enumerate(dataset):
        if limit is not None and index >= limit:
            break
        sample = _sample(row)
        truth = colors(sample.image_id)
        holes = sample.holes
        pixels = holes.sum(axis=(1, 2))
        wanted = [place for place in sorted(truth.objects) if pixels[place] >= MIN_HOLE]
        counts["too_small"] += sum(0 < int(pixels[place]) < MIN_HOLE for place in truth.objects)
        if not wanted:
            continue
        counts["images"] += 1
        counts["holes"] += len(wanted)
        counts["pixels"] += int(pixels[wanted].sum())
        height, width = sample.photo.shape[:2]
        truths = [truth.paint(place, height, width)[..., :3] for place in wanted]
        covers = [_occluder_color(sample, place) for place in wanted]
        for method in methods:
            start = time.perf_counter()
            pictures = method(sample, wanted)
            seconds[method.name] += time.perf_counter() - start
            total = np.zeros(len(FillMetrics.names))
            for place, picture, true, color in zip(wanted, pictures, truths, covers, strict=True):
                if picture.shape != sample.photo.shape:
                    raise ValueError(
                        f"method {method.name!r} gave a picture of shape {picture.shape} for image {sample.image_id}, "
                        f"expected {sample.photo.shape}."
                    )
                total = total + FillMetrics.count(picture, true, holes[place], color)
                if distances:
                    seen = np.where(holes[place][..., None], true, sample.photo)
                    painted = np.where(holes[place][..., None], picture, sample.photo)
                    distances[method.name].update(painted, seen, sample.amodal[place])
            terms[method.name].append(total)
    if not counts["holes"]:
        raise ValueError(f"`dataset` has no hidden part of at least {MIN_HOLE} pixels whose colours are known.")
    report = _report(terms, counts, seconds, resamples, confidence, seed, reference)
    for name, distance in distances.items():
        report.metrics[name][_FID] = distance.compute()
    return report


def _sample(row: Mapping[str, Any]) -> FillSample:
    made = make_sample(row)
    image_id = str(row["image_id"])
    if made is None:
        raise ValueError(f"image {image_id} has no amodal masks.")
    picture = made.image
    if picture is None:
        raise ValueError(f"image {image_id} has no photo, without which nothing can be painted.")
    modal, amodal = record_masks(row)
    order = record_order(row)
    return FillSample(
        image_id,
        np.asarray(picture.convert("RGB")),
        modal,
        modal if amodal is None else amodal,
        made.order if order is None else order,
        made.names,
    )


def _occluder_color(sample: FillSample, place: int) -> np.ndarray | None:
    """(3,) mean colour of what is seen of all that covers a hole; of the hole itself where that is no object."""
    hole = sample.holes[place]
    covering = (sample.modal & hole).any(axis=(1, 2))
    seen = sample.modal[covering].any(axis=0) if covering.any() else hole
    color: np.ndarray = sample.photo[seen].mean(axis=0)
    return color


def _report(
    terms: Mapping[str, list[FloatArray]],
    counts: dict[str, int],
    seconds: dict[str, float],
    resamples: int,
    confidence: float,
    seed: int,
    reference: str | None,
) -> FillReport:
    metrics, drawn = {}, {}
    for name, images in terms.items():
        rows = np.stack(images)
        metrics[name] = {key: float(value) for key, value in FillMetrics.from_totals(rows.sum(axis=0)).items()}
        if resamples:
            drawn[name] = resampled_metrics(rows, FillMetrics.from_totals, resamples=resamples, seed=seed)
    report = FillReport(
        metrics,
        {name: percentile_intervals(values, confidence) for name, values in drawn.items()},
        counts,
        seconds,
        resamples,
        confidence,
        reference,
    )
    if reference is None:
        return report
    for name in metrics:
        if name == reference:
            continue
        ends = difference_intervals(drawn[name], drawn[reference], confidence) if drawn else {}
        report.differences[name] = {
            key: Difference(value - metrics[reference][key], ends.get(key, (math.nan, math.nan)))
            for key, value in metrics[name].items()
        }
    return report
