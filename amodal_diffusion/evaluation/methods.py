"""The methods that an evaluation compares: baselines by name, and any mask pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..baselines import complete_convex, complete_convex_refined, complete_raw
from ..ordering import order_by_area, order_by_hull, order_by_y_axis
from ..pipelines import MaskPipeline, OrderNetPipeline
from .calls import call_pipeline
from .samples import Method, Prediction, Sample


@dataclass(frozen=True)
class MaskBaseline:
    """A method made of functions of the (N, H, W) bool modal masks alone.

    Example:
        >>> modal = np.zeros((1, 12, 16), bool)
        >>> modal[0, 3:9, 4:8] = True
        >>> sample = Sample("photo-1", modal, modal | modal[:, ::-1], np.zeros((1, 1), np.int8), [0])
        >>> MaskBaseline("nothing hidden", complete=lambda masks: masks)(sample).masks.sum()
        np.int64(24)
    """

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
        TypeError: naming an option that the pipeline's call does not take.

    Example:
        >>> from amodal_diffusion import AmodalVAE, AmodalVAEPipeline
        >>> pipe = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4)))
        >>> modal = np.zeros((1, 12, 16), bool)
        >>> modal[0, 3:9, 4:8] = True
        >>> sample = Sample("photo-1", modal, modal | modal[:, ::-1], np.zeros((1, 1), np.int8), [0])
        >>> PipelineMethod(pipe, "tiny", mask_threshold=0.4)(sample).masks.shape
        (1, 12, 16)
    """

    def __init__(self, pipeline: MaskPipeline, name: str, **call_options: Any) -> None:
        pipeline.check_options(call_options)
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
            self.pipeline, sample.image, sample.modal, sample.category_ids, names=sample.names, alone=alone,
            **self._options(sample),
        )  # fmt: skip
        return Prediction(masks=output.amodal_masks, order=output.order, occluders=output.occluder_masks)

    def _options(self, sample: Sample) -> dict[str, Any]:
        return self.call_options


class TrueOrderMethod(PipelineMethod):
    """A method that calls a mask pipeline with the true order, so that what is left to be wrong is the shapes.

    Args:
        pipeline: a pipeline whose call takes `order`.
        name: the row of the table.
        call_options: as for `PipelineMethod`.

    Example:
        >>> from amodal_diffusion import PCNetMask, PCNetMaskPipeline
        >>> pipe = PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16))
        >>> modal = np.zeros((1, 12, 16), bool)
        >>> modal[0, 3:9, 4:8] = True
        >>> sample = Sample("photo-1", modal, modal | modal[:, ::-1], np.zeros((1, 1), np.int8), [0])
        >>> method = TrueOrderMethod(pipe, "tiny, true order")
        >>> method.uses_truth, method(sample).order is None
        (True, True)
    """

    uses_truth = True

    def __call__(self, sample: Sample) -> Prediction:
        """The masks; an order that was given is not scored."""
        return replace(super().__call__(sample), order=None)

    def _options(self, sample: Sample) -> dict[str, Any]:
        return {**self.call_options, "order": sample.order}


class OrderMethod:
    """A method that orders and completes nothing, by a pipeline.

    Args:
        pipeline: the pipeline.
        name: the row of the table.

    Example:
        >>> from amodal_diffusion import OrderNet, OrderNetPipeline
        >>> model = OrderNet(False, hidden_sizes=(4, 8), depths=(1, 1), embedding_size=4, layer_type="basic")
        >>> modal = np.zeros((2, 12, 16), bool)
        >>> modal[0, :6], modal[1, 6:] = True, True
        >>> sample = Sample("photo-1", modal, modal, np.zeros((2, 2), np.int8), [0, 0])
        >>> prediction = OrderMethod(OrderNetPipeline(model), "tiny")(sample)
        >>> prediction.order.shape, prediction.masks is None
        ((2, 2), True)
    """

    def __init__(self, pipeline: OrderNetPipeline, name: str) -> None:
        self.pipeline = pipeline
        self.name = name

    def __call__(self, sample: Sample) -> Prediction:
        """Run the pipeline on the photo, where it looks at it, and the modal masks."""
        image = sample.image if self.pipeline.needs_image else None
        return Prediction(order=self.pipeline.infer_order(sample.modal, image))


class AloneMethod:
    """A method that completes each object alone, as a user with a photo and one mask has it.

    No other mask, order or occluder reaches the method, and it predicts no order. A method that has `predict_alone` is
    asked for it, any other is called with one object after the other.

    Args:
        method: the method; its name is kept where no other is given.
        name: the row of the table.

    Example:
        >>> modal = np.zeros((1, 12, 16), bool)
        >>> modal[0, 3:9, 4:8] = True
        >>> sample = Sample("photo-1", modal, modal | modal[:, ::-1], np.zeros((1, 1), np.int8), [0])
        >>> alone = AloneMethod(METHODS["raw"], "raw, alone")
        >>> alone.name, alone(sample).masks.shape
        ('raw, alone', (1, 12, 16))
    """

    def __init__(self, method: Method, name: str | None = None) -> None:
        self.method = method
        self.name = method.name if name is None else name

    @property
    def uses_truth(self) -> bool:
        """As the method says."""
        return bool(getattr(self.method, "uses_truth", False))

    def __call__(self, sample: Sample) -> Prediction:
        """Masks and, where the method predicts them, occluders.

        Raises:
            ValueError: the method predicts no masks, or masks of another shape than (1, H, W) for one object.
        """
        if hasattr(self.method, "predict_alone"):
            prediction: Prediction = self.method.predict_alone(sample)
        else:
            parts = [self.method(part) for part in sample.alone()]
            prediction = Prediction(
                masks=self._join(sample, "masks", [part.masks for part in parts]),
                occluders=self._join(sample, "occluders", [part.occluders for part in parts]),
            )
        if prediction.masks is None:
            raise ValueError(f"method {self.name!r} predicts no masks; without occluders there is nothing else.")
        return prediction

    def _join(self, sample: Sample, what: str, parts: list[np.ndarray | None]) -> np.ndarray | None:
        given = [part for part in parts if part is not None]
        if len(given) < len(parts):
            return None
        for part in given:
            check_shape(self.name, sample, what, part.shape, (1, *sample.modal.shape[1:]))
        return np.concatenate(given)


def check_shape(name: str, sample: Sample, what: str, actual: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise ValueError where a method gave an array of the wrong shape.

    Example:
        >>> modal = np.zeros((1, 12, 16), bool)
        >>> modal[0, 3:9, 4:8] = True
        >>> sample = Sample("photo-1", modal, modal | modal[:, ::-1], np.zeros((1, 1), np.int8), [0])
        >>> check_shape("raw", sample, "masks", (1, 9), (1, 12, 16))
        Traceback (most recent call last):
        ValueError: method 'raw' gave masks of shape (1, 9) for image photo-1, expected (1, 12, 16).
    """
    if actual != expected:
        raise ValueError(
            f"method {name!r} gave {what} of shape {actual} for image {sample.image_id}, expected {expected}."
        )
