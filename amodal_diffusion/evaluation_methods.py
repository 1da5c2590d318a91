"""The methods that an evaluation compares: baselines by name, any mask pipeline, and choices among its samples."""

import inspect
import logging
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image

from .baselines import complete_convex, complete_convex_refined, complete_raw
from .data.nearest_masks import NearestMaskBank
from .data.synthesis import mix_seed
from .image_processor import load_image
from .masks import mask_boxes, mask_unions
from .ordering import order_by_area, order_by_hull, order_by_y_axis
from .pipelines import AmodalPipeline, AmodalPipelineOutput, MaskPipeline


@dataclass
class Sample:
    """One image of a data set, with its ground truth.

    Args:
        image_id: name of the image in errors and reports.
        modal: (N, H, W) bool visible masks.
        amodal: (N, H, W) bool whole masks, the target of completion.
        order: (N, N) int8, `order[i, j] = 1` where i occludes j; the target of the order.
        category_ids: N ids of the data set, 0 where it has none.
        photo: the photo or its path; None where the data set has none. Read when `image` is first asked for.
    """

    image_id: str
    modal: np.ndarray
    amodal: np.ndarray
    order: np.ndarray
    category_ids: list[int] = field(default_factory=list)
    photo: Image.Image | str | os.PathLike[str] | None = None

    @property
    def image(self) -> Image.Image | None:
        """The photo as RGB, or None. Raises ValueError for a photo that cannot be read or has another size."""
        if self.photo is None:
            return None
        image = load_image(self.photo)
        height, width = self.modal.shape[1:]
        if image.size != (width, height):
            actual = f"{image.size[0]}x{image.size[1]}"
            raise ValueError(f"photo of image {self.image_id} is {actual} pixels, its masks are {width}x{height}.")
        self.photo = image
        return image

    @cached_property
    def occluders(self) -> np.ndarray:
        """(N, H, W) bool: the union of the modal masks of all that lies directly in front of each object."""
        return mask_unions(self.modal, self.order == -1)

    def alone(self) -> Iterator["Sample"]:
        """Every object as a sample of its own, which knows nothing of the others."""
        for index in range(len(self.modal)):
            one = slice(index, index + 1)
            part = replace(
                self,
                modal=self.modal[one],
                amodal=self.amodal[one],
                order=np.zeros((1, 1), np.int8),
                category_ids=self.category_ids[one],
            )
            yield part
            self.photo = part.photo  # once one of them has read the photo, the others need not


@dataclass(frozen=True)
class Prediction:
    """What a method says about a sample, None where it has no answer.

    Args:
        masks: (N, H, W) bool whole masks.
        order: (N, N) int8 order matrix.
        occluders: (N, H, W) bool masks of all that hides each object, empty where nothing does.
    """

    masks: np.ndarray | None = None
    order: np.ndarray | None = None
    occluders: np.ndarray | None = None


class Method(Protocol):
    """Anything with a `name` that predicts masks, an order or occluders for a sample.

    A method may also have `predict_alone(sample) -> Prediction`, which completes every object as if it had been given
    alone. Where it has none, `evaluate_methods` calls it with one object after the other for that. A method that looks
    at the truth has `uses_truth = True`; the tables mark its row.
    """

    @property
    def name(self) -> str:
        """The row of the table."""
        ...

    def __call__(self, sample: Sample) -> Prediction:
        """Predict for one image; without `uses_truth` it must not look at `amodal`, `order` or `occluders`."""
        ...


@dataclass(frozen=True)
class MaskBaseline:
    """A method made of functions of the (N, H, W) bool modal masks alone."""

    name: str
    complete: Callable[[np.ndarray], np.ndarray] | None = None
    order: Callable[[np.ndarray], np.ndarray] | None = None

    def __call__(self, sample: Sample) -> Prediction:
        """Apply the functions to the modal masks."""
        return Prediction(
            masks=None if self.complete is None else self.complete(sample.modal),
            order=None if self.order is None else self.order(sample.modal),
        )


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        MaskBaseline("raw", complete=complete_raw),
        MaskBaseline("convex", complete=complete_convex),
        MaskBaseline("convex-refined", complete=complete_convex_refined),
        MaskBaseline("area-smaller", order=lambda masks: order_by_area(masks, front="smaller")),
        MaskBaseline("area-larger", order=lambda masks: order_by_area(masks, front="larger")),
        MaskBaseline("y-axis", order=order_by_y_axis),
        MaskBaseline("hull", order=order_by_hull),
    )
}
"""Registered baselines by name [Z20]: completions (raw, convex, convex-refined) and orders (area-smaller, ...)."""


NEAREST_MASK = "nearest-mask"
"""Name of the baseline of [L20] that looks masks up; it needs a `NearestMaskBank`, see `load_methods`."""


class PipelineMethod:
    """A method that calls a mask pipeline.

    Args:
        pipeline: a pipeline of this package.
        name: the row of the table.
        call_options: keyword arguments of each call, such as `mask_threshold`.

    Raises:
        ValueError: naming an option that the pipeline's call does not take.
    """

    def __init__(self, pipeline: Any, name: str, **call_options: Any) -> None:
        check_call_options(pipeline, call_options)
        self.pipeline = pipeline
        self.name = name
        self.call_options = call_options

    def __call__(self, sample: Sample) -> Prediction:
        """Run the pipeline on the photo, where there is one, and the modal masks."""
        return self._predict(sample, alone=False)

    def predict_alone(self, sample: Sample) -> Prediction:
        """Likewise, but no object knows of the others."""
        return replace(self._predict(sample, alone=True), order=None)

    def _predict(self, sample: Sample, *, alone: bool) -> Prediction:
        output = call_pipeline(
            self.pipeline, sample.image, sample.modal, sample.category_ids, alone=alone, **self._options(sample)
        )
        return Prediction(masks=output.amodal_masks, order=output.order, occluders=output.occluder_masks)

    def _options(self, sample: Sample) -> dict[str, Any]:
        return self.call_options


class TrueBoxMethod(PipelineMethod):
    """A pipeline that is told the amodal box of each object, as a user can draw it ("GT box" in Table 1 of [L20]).

    Args:
        pipeline: a pipeline whose call takes `amodal_box`, and whose objects do not know of each other.
        name: the row of the table.
        call_options: further keyword arguments of each call.

    Raises:
        ValueError: naming an option that the pipeline's call does not take.
    """

    uses_truth = True

    def __init__(self, pipeline: Any, name: str, **call_options: Any) -> None:
        check_call_options(pipeline, ["amodal_box"])
        super().__init__(pipeline, name, **call_options)

    def _options(self, sample: Sample) -> dict[str, Any]:
        known = (sample.amodal & sample.modal).any(axis=(1, 2))
        boxes = [box.tolist() if use else None for box, use in zip(mask_boxes(sample.amodal), known, strict=True)]
        return {**self.call_options, "amodal_box": boxes}


class PosteriorDraws:
    """The K samples that a pipeline draws of each object, drawn once a photo for all methods that choose among them.

    Args:
        pipeline: a pipeline whose call takes `num_samples` and `generator`.
        num_samples: K, at least 1.
        seed: with the id of the image, it determines the samples, whatever was drawn for other images.
        call_options: further keyword arguments of each call.

    Raises:
        ValueError: naming an option that the pipeline's call does not take, or `num_samples` below 1.
    """

    def __init__(self, pipeline: Any, num_samples: int, *, seed: int = 0, **call_options: Any) -> None:
        if num_samples < 1:
            raise ValueError(f"`num_samples` must be at least 1, got {num_samples}.")
        check_call_options(pipeline, ["num_samples", "generator", *call_options])
        self.pipeline, self.num_samples, self.seed, self.call_options = pipeline, num_samples, seed, call_options
        self._last: tuple[Sample, bool, AmodalPipelineOutput] | None = None

    def __call__(self, sample: Sample, *, alone: bool = False) -> AmodalPipelineOutput:
        """The pipeline's output for the sample, with `samples` and `sample_scores`."""
        if self._last is None or self._last[0] is not sample or self._last[1] != alone:
            seed = mix_seed(self.seed, zlib.crc32(sample.image_id.encode()))
            output = call_pipeline(
                self.pipeline, sample.image, sample.modal, sample.category_ids, alone=alone,
                num_samples=self.num_samples, generator=torch.Generator().manual_seed(seed), **self.call_options,
            )  # fmt: skip
            self._last = sample, alone, output
        return self._last[2]


class PosteriorMethod:
    """The best of the samples of each object (Table 4 of [L20]).

    Args:
        draws: the samples, shared by the methods that choose among them.
        name: the row of the table.
        choose: "visible" takes the sample with the best score, which a user can do; "truth" that with the largest IoU
            with the amodal truth, which nobody can: it says what the samples hold at best.

    Raises:
        ValueError: for another `choose`.
    """

    def __init__(self, draws: PosteriorDraws, name: str, choose: Literal["visible", "truth"] = "visible") -> None:
        if choose not in ("visible", "truth"):
            raise ValueError(f"`choose` must be 'visible' or 'truth', got {choose!r}.")
        self.draws, self.name, self.choose = draws, name, choose

    @property
    def uses_truth(self) -> bool:
        """The choice looks at the amodal truth."""
        return self.choose == "truth"

    def __call__(self, sample: Sample) -> Prediction:
        """The chosen sample of each object."""
        return self._predict(sample, alone=False)

    def predict_alone(self, sample: Sample) -> Prediction:
        """Likewise, but no object knows of the others."""
        return self._predict(sample, alone=True)

    def _predict(self, sample: Sample, *, alone: bool) -> Prediction:
        output = self.draws(sample, alone=alone)
        values = output.sample_scores
        if self.choose == "truth":
            common = [(drawn & whole).sum(axis=(1, 2)) for drawn, whole in _pairs(output.samples, sample.amodal)]
            joined = [(drawn | whole).sum(axis=(1, 2)) for drawn, whole in _pairs(output.samples, sample.amodal)]
            values = np.array(common).reshape(values.shape) / np.maximum(np.array(joined).reshape(values.shape), 1)
        best = values.argmax(axis=1)
        return Prediction(masks=output.samples[np.arange(len(best)), best])


def posterior_methods(
    pipeline: Any, name: str, num_samples: int, *, seed: int = 0, **call_options: Any
) -> list[Method]:
    """What [L20] reports beside the completion by the mean code: best of K samples by visible part and by truth, and,
    where the pipeline takes `amodal_box`, the completion in the true box. The last two look at the truth.

    Args:
        pipeline: a pipeline whose call takes `num_samples`.
        name: the row of the plain completion; the rows here are "NAME, best of K by visible" and so on.
        num_samples: K, at least 1.
        seed: of the samples.
        call_options: keyword arguments of each call.

    Raises:
        ValueError: as `PosteriorDraws` says.
    """
    draws = PosteriorDraws(pipeline, num_samples, seed=seed, **call_options)
    methods: list[Method] = [
        PosteriorMethod(draws, f"{name}, best of {num_samples} by visible", "visible"),
        PosteriorMethod(draws, f"{name}, best of {num_samples} by truth", "truth"),
    ]
    if takes_option(pipeline, "amodal_box"):
        methods.append(TrueBoxMethod(pipeline, f"{name}, true box", **call_options))
    return methods


def _pairs(samples: np.ndarray, amodal: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(K, H, W) samples and (H, W) truth of one object after the other: all at once would take N * K masks more."""
    return zip(samples, amodal, strict=True)


def load_pipeline(name: str, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> MaskPipeline:
    """Load a pipeline from a folder or the Hub for a run without questions: on its device, fast, without progress bars.

    Raises:
        OSError, ValueError: as `AmodalPipeline.from_pretrained` says.
    """
    pipeline: MaskPipeline = AmodalPipeline.from_pretrained(name, dtype=dtype).to(device)
    for network in pipeline.networks:
        # Convolutions are a third to a half faster in this layout.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def takes_option(pipeline: Any, name: str) -> bool:
    """Whether the call of a pipeline names an option among its parameters."""
    return name in inspect.signature(pipeline).parameters


def check_call_options(pipeline: Any, options: Iterable[str]) -> None:
    """Refuse options that the call of a pipeline does not take, before any work is done.

    Raises:
        ValueError: naming the first one, and what the call takes.
    """
    parameters = inspect.signature(pipeline).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in options:
        if name not in parameters:
            known = [key for key, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
            raise ValueError(f"{type(pipeline).__name__} takes no `{name}`; its options are {', '.join(known)}.")


def call_pipeline(
    pipeline: Any,
    image: Image.Image | None,
    masks: np.ndarray,
    category_ids: Sequence[int],
    *,
    alone: bool = False,
    **call_options: Any,
) -> AmodalPipelineOutput:
    """Call a mask pipeline on one photo; only a class-conditioned network is given the ids, which it alone reads.

    Args:
        pipeline: a pipeline of this package.
        image: the photo, or None for a network that needs none.
        masks: (N, H, W) bool modal masks.
        category_ids: N ids, 0 where unknown, which becomes the `unknown_category_id` of the pipeline.
        alone: every object is completed as if it had been given alone: a pipeline that takes occluders from the other
            masks of a call (`needs_occluders`) gets one scene an object, and no order comes back.
        call_options: further keyword arguments of the call.

    Raises:
        ValueError: naming an option that the pipeline's call does not take; and as the pipeline says.
    """
    check_call_options(pipeline, call_options)
    apart = alone and getattr(pipeline, "needs_occluders", True) and len(masks) > 0
    if getattr(pipeline, "class_conditioned", False):
        ids = np.asarray(category_ids, np.int64)
        ids = np.where(ids < 1, getattr(pipeline, "unknown_category_id", 1), ids)
        call_options["category_ids"] = list(ids[:, None]) if apart else ids
    if not apart:
        output: AmodalPipelineOutput = pipeline(image, masks, output_type="np", **call_options)
        return replace(output, order=None) if alone else output
    with _errors_alone():
        scenes = pipeline([image] * len(masks), list(masks[:, None]), output_type="np", **call_options)
    return AmodalPipelineOutput(
        amodal_masks=np.concatenate(scenes.amodal_masks),
        probabilities=np.concatenate(scenes.probabilities),
        uncertainty=None if scenes.uncertainty is None else np.concatenate(scenes.uncertainty),
        occluder_masks=None if scenes.occluder_masks is None else np.concatenate(scenes.occluder_masks),
        samples=None if scenes.samples is None else np.concatenate(scenes.samples),
        sample_scores=None if scenes.sample_scores is None else np.concatenate(scenes.sample_scores),
    )


@contextmanager
def _errors_alone() -> Iterator[None]:
    """No warnings of the pipelines: that an object without occluder stays as it is would come once a photo."""
    pipelines = logging.getLogger(MaskPipeline.__module__.rpartition(".")[0])
    level = pipelines.level
    pipelines.setLevel(logging.ERROR)
    try:
        yield
    finally:
        pipelines.setLevel(level)


def load_methods(
    names: Sequence[str],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    posterior: int | None = None,
    seed: int = 0,
    nearest_masks: NearestMaskBank | None = None,
    **call_options: Any,
) -> list[Method]:
    """Turn names into methods: a registered name, or a folder or Hub id of a pipeline.

    Args:
        names: names in `METHODS`, "nearest-mask", folders of saved pipelines, or Hub ids.
        device: device of the pipelines.
        dtype: dtype of the pipelines' weights.
        posterior: number of samples; adds the rows of `posterior_methods` for every pipeline that draws samples.
        seed: of these samples.
        nearest_masks: the bank of the method "nearest-mask".
        call_options: passed to each call of each pipeline.

    Raises:
        ValueError: for no names, a repeated name, one that is neither registered nor a loadable pipeline,
            "nearest-mask" without bank, or `posterior` below 1 or where no pipeline draws samples.
    """
    if not names:
        raise ValueError("`names` must hold at least one method, got none.")
    if posterior is not None and posterior < 1:
        raise ValueError(f"`posterior` must be at least 1, got {posterior}.")
    methods: list[Method] = []
    drawn: list[Method] = []
    for name in names:
        if any(method.name == name for method in methods):
            raise ValueError(f"`names` holds {name!r} twice.")
        if name in METHODS:
            methods.append(METHODS[name])
            continue
        if name == NEAREST_MASK:
            if nearest_masks is None:
                raise ValueError(
                    f"method {name!r} needs `nearest_masks`, a bank made from annotations with other photos."
                )
            methods.append(MaskBaseline(name, complete=nearest_masks.complete))
            continue
        known = f"method {name!r} is none of {', '.join((*METHODS, NEAREST_MASK))}"
        if "/" not in name and not Path(name).is_dir():
            raise ValueError(f"{known}, no folder, and no Hub id of the form 'organisation/name'.")
        try:
            pipeline = load_pipeline(name, device=device, dtype=dtype)
        except (OSError, ValueError) as error:
            raise ValueError(f"{known}, and loads as no pipeline: {error}") from error
        methods.append(PipelineMethod(pipeline, name, **call_options))
        if posterior is not None and takes_option(pipeline, "num_samples"):
            drawn = posterior_methods(pipeline, name, posterior, seed=seed, **call_options)
            methods += drawn
    if posterior is not None and not drawn:
        raise ValueError("`posterior` is given, but none of the methods draws samples.")
    return methods
