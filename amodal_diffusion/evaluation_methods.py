"""The methods that an evaluation compares: baselines by name, and any mask pipeline."""

import inspect
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from .baselines import complete_convex, complete_convex_refined, complete_raw
from .image_processor import load_image
from .masks import mask_unions
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
        category_ids: N ids of the data set, 1 where it has none.
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
    alone. Where it has none, `evaluate_methods` calls it with one object after the other for that.
    """

    @property
    def name(self) -> str:
        """The row of the table."""
        ...

    def __call__(self, sample: Sample) -> Prediction:
        """Predict for one image; must not look at `sample.amodal`, `sample.order` or `sample.occluders`."""
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
            self.pipeline, sample.image, sample.modal, sample.category_ids, alone=alone, **self.call_options
        )
        return Prediction(masks=output.amodal_masks, order=output.order, occluders=output.occluder_masks)


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
        category_ids: N ids, positive where the network is class-conditioned.
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
    **call_options: Any,
) -> list[Method]:
    """Turn names into methods: a registered name, or a folder or Hub id of a pipeline.

    Args:
        names: names in `METHODS`, folders of saved pipelines, or Hub ids.
        device: device of the pipelines.
        dtype: dtype of the pipelines' weights.
        call_options: passed to each call of each pipeline.

    Raises:
        ValueError: for no names, a repeated name, or one that is neither registered nor a loadable pipeline.
    """
    if not names:
        raise ValueError("`names` must hold at least one method, got none.")
    methods: list[Method] = []
    for name in names:
        if any(method.name == name for method in methods):
            raise ValueError(f"`names` holds {name!r} twice.")
        if name in METHODS:
            methods.append(METHODS[name])
            continue
        known = f"method {name!r} is none of {', '.join(METHODS)}"
        if "/" not in name and not Path(name).is_dir():
            raise ValueError(f"{known}, no folder, and no Hub id of the form 'organisation/name'.")
        try:
            pipeline = load_pipeline(name, device=device, dtype=dtype)
        except (OSError, ValueError) as error:
            raise ValueError(f"{known}, and loads as no pipeline: {error}") from error
        methods.append(PipelineMethod(pipeline, name, **call_options))
    return methods
