"""ASBU as a pipeline: masks from occlusion boundaries, where they are unsure, and the order from increments [N21]."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...arguments.choices import check_choice
from ...arguments.numeric import check_integer
from ...masks import BoolArray
from ...models.asbu import OCCLUDER_INPUTS, ASBUPredictor, occluder_plane
from ...ordering import reachable
from ..base import PipelineCallback
from ..inputs import check_network
from ..output import AmodalPipelineOutput
from ..registry import register_pipeline
from .dual_completion import DualCompletionPipeline
from .mask_pipeline import mask_call

# Of two objects each may occlude the other where either growth is at least this share of the other's.
_MUTUAL = 0.5


@register_pipeline
class ASBUPipeline(DualCompletionPipeline):
    """Amodal masks with a map of uncertainty, and the occlusion order, from modal masks. Source: [N21].

    An object may be hidden by any of its neighbours: the network reads off their common boundary where that is so. No
    order is needed for that, so two objects may hide each other, each in another place.

    Args:
        model: the network.
        order_threshold: of P(object) when the order is inferred, in [0, 1).
        mask_threshold: of P(object) in the amodal masks, in [0, 1); or "expected-iou", which takes for each object the
            threshold with the highest expected IoU, see `expected_iou_masks`.
        calibration_slope, calibration_offset: of the log-odds of P(object) before that, see `calibrate`.
        enlarge_box: area of the crop box in areas of the modal box.
        crop: how masks become crops, "nearest" (published) or "bilinear", see `crop_masks`, or "mixed": nearest when
            the order is inferred, bilinear for the masks.
        paste: "probability" or "binary" (published), see `MaskPipeline.paste_objects`.
        keep_modal: the amodal mask always holds the visible pixels, and an object without neighbour keeps its modal
            mask. False gives the network's answer as it is, as published.
        boundary_size: side in pixels of the square that both masks are dilated by for their boundary, odd.
        occluder_input: what the network was trained on, "boundary" (published), "mask" or "both"; see
            `occluder_plane`.
        occluder_rule: what may occlude an object. "neighbours": all of them (published); "growth": of these, no one
            under which the object grows less than half as much as the other way round, and what may occlude these
            without touching the object. A ground that is behind everything no longer counts. Of two objects that
            occlude each other one may be left out; where that matters, "neighbours" completes both.
        confine_to_occluders: let an object grow only where a neighbour is seen, which is where a hidden part must be
            when the masks of all objects are given. False lets it grow anywhere, as published.
        test_time_flip: average over the horizontally mirrored crops; twice the work.
        order_rule: what an increment is, see `PCNetMaskPipeline`.

    Raises:
        ValueError: naming the setting that is out of range.
        TypeError: naming the setting that is no number.

    Example:
        >>> masks = np.zeros((2, 12, 16), bool)
        >>> masks[0, 4:8] = masks[1, :, 6:10] = True
        >>> masks[0] &= ~masks[1]  # a bar behind another one
        >>> pipe = ASBUPipeline(ASBUPredictor(block_out_channels=(2, 4), sample_size=16))
        >>> out = pipe(None, masks)
        >>> out.uncertainty.shape, out.order.shape
        ((2, 12, 16), (2, 2))
    """

    model: ASBUPredictor
    call_options = ("return_order", "occluder_rule", "eraser_dilation", "order_threshold", "mask_threshold")
    channels = ("probabilities", "uncertainty")
    occluder_rules = ("neighbours", "growth")

    def __init__(
        self,
        model: ASBUPredictor,
        *,
        order_threshold: float = 0.5,
        mask_threshold: float | str = 0.5,
        calibration_slope: float = 1.0,
        calibration_offset: float = 0.0,
        enlarge_box: float = 3.0,
        crop: str = "nearest",
        paste: str = "probability",
        keep_modal: bool = True,
        boundary_size: int = 5,
        occluder_input: str = "boundary",
        occluder_rule: str = "neighbours",
        confine_to_occluders: bool = False,
        test_time_flip: bool = False,
        order_rule: str = "count",
    ) -> None:
        super().__init__()
        self.register_modules(model=check_network("model", model, ASBUPredictor))
        if check_integer("boundary_size", boundary_size, 1) % 2 == 0:
            raise ValueError(f"`boundary_size` must be odd, got {boundary_size}.")
        self.register_to_config(
            **self.check_settings(
                order_threshold=order_threshold,
                mask_threshold=mask_threshold,
                calibration_slope=calibration_slope,
                calibration_offset=calibration_offset,
                enlarge_box=enlarge_box,
                crop=crop,
                paste=paste,
                keep_modal=keep_modal,
                occluder_rule=occluder_rule,
                confine_to_occluders=confine_to_occluders,
                test_time_flip=test_time_flip,
                order_rule=order_rule,
            ),
            boundary_size=int(boundary_size),
            occluder_input=check_choice("occluder_input", occluder_input, OCCLUDER_INPUTS),
        )

    @mask_call
    def __call__(
        self,
        image: Any,
        masks: Any,
        *,
        occluder_masks: Any = None,
        category_ids: Any = None,
        return_order: bool = True,
        occluder_rule: str | None = None,
        eraser_dilation: int = 0,
        order_threshold: float | None = None,
        mask_threshold: float | str | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        batch_size: int | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback: PipelineCallback | None = None,
    ) -> AmodalPipelineOutput | tuple[Any, ...]:
        """Complete every mask, say where it is unsure, and infer who occludes whom.

        Args:
            image: the photo in any form that `load_image` reads, None, or a list of these. Only a network with
                `use_rgb` looks at it; otherwise its size alone is compared with the masks.
            masks: modal masks, one (H, W) or a stack (N, H, W) in any form that `to_mask_stack` reads; a list of stacks
                where `image` is a list. All scenes of a call go through the network together.
            occluder_masks: (H, W) or (N, H, W), what occludes the objects; used instead of the neighbours.
            category_ids: (N,) positive integers; needed where the network is class-conditioned, else ignored.
            return_order: infer the order, which completes every pair of neighbours. The masks need no order; with the
                rule "neighbours" they come faster without.
            occluder_rule: what may occlude an object, see the setting; None takes the checkpoint's.
            eraser_dilation: pixels of the photo by which the neighbours' masks grow on each side, for the wide gaps
                that some segmenters leave. The boundary bridges three pixels of a crop by itself.
            order_threshold: of P(object), in [0, 1); None takes the checkpoint's.
            mask_threshold: of P(object), in [0, 1); None takes the checkpoint's.
            generator: taken so that the same call suits every mask pipeline; nothing here is drawn at random.
            batch_size: crops in one pass through the network; None suits it to the device.
            output_type: "np", "pt", "pil" or "compact", see `AmodalPipelineOutput`.
            return_dict: False returns a tuple of all fields of `AmodalPipelineOutput` in their order.
            callback: called as `callback(pipeline, stage, done, total)` when a stage begins and after every batch, see
                `PipelineCallback`; if it returns False, the call ends with `CallInterruptedError`.

        Returns:
            `AmodalPipelineOutput` with `uncertainty`: about the root of the error of P(object) that the network
            expects, 0 at visible pixels and where nothing can grow. An object without visible pixels stays empty and
            has no relations. `order` is None with `occluder_masks` or without `return_order`.

        Raises:
            ValueError: naming the argument: sizes that differ, numbers out of range, a missing photo, missing category
                ids.
            TypeError: naming the argument that is of another kind, or that this pipeline does not take.
            CallInterruptedError: by the callback.
        """
        return self.complete(
            image,
            masks,
            occluder_masks=occluder_masks,
            category_ids=category_ids,
            return_order=return_order,
            occluder_rule=occluder_rule,
            eraser_dilation=eraser_dilation,
            order_threshold=order_threshold,
            mask_threshold=mask_threshold,
            generator=generator,
            batch_size=batch_size,
            output_type=output_type,
            return_dict=return_dict,
            callback=callback,
        )

    def network_inputs(self, modal: Tensor, eraser: Tensor) -> dict[str, Tensor]:
        """The visible part as it is, and where it meets what may hide it."""
        kind, size = self.config.occluder_input, self.config.boundary_size
        return {"mask": modal, "boundary": occluder_plane(modal, eraser & ~modal, kind, size=size)}

    def read_logits(self, logits: Tensor) -> Tensor:
        """(B, 2, s, s), P(object) and the uncertainty."""
        return torch.stack([logits[:, 0].sigmoid(), F.softplus(logits[:, 1])], dim=1)

    def occluders_by_rule(self, rule: str, order: np.ndarray, growth: np.ndarray, neighbours: BoolArray) -> BoolArray:
        """What the object grows under, directly or through others, but no other neighbour of it."""
        direct = (growth > 0) & (growth >= _MUTUAL * growth.T)
        return reachable(direct) & (direct | ~neighbours)
