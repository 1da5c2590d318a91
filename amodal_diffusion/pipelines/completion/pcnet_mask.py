"""PCNet-M as a pipeline: the occlusion order by dual completion, and whole masks from it [Z20]."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...masks import BoolArray
from ...models.pcnet_mask import PCNetMask
from ...ordering import ancestors
from ..base import PipelineCallback
from ..inputs import check_network
from ..output import AmodalPipelineOutput
from ..registry import register_pipeline
from .dual_completion import DualCompletionPipeline
from .mask_pipeline import mask_call


@register_pipeline
class PCNetMaskPipeline(DualCompletionPipeline):
    """Occlusion order and amodal masks from modal masks alone. Source: [Z20].

    Args:
        model: the network.
        order_threshold: of P(object) when the order is inferred, in [0, 1).
        mask_threshold: of P(object) in the amodal masks, in [0, 1); or "expected-iou", which takes for each object the
            threshold with the highest expected IoU, see `expected_iou_masks`.
        calibration_slope, calibration_offset: of the log-odds of P(object) before that, see `calibrate`.
        enlarge_box: area of the crop box in areas of the modal box.
        crop: how masks become crops, "nearest", "bilinear", see `crop_masks`, or "mixed" (published): nearest when the
            order is inferred, bilinear for the masks. But for "mixed" the completion takes over what the order has
            computed.
        paste: "probability" or "binary" (published), see `MaskPipeline.paste_objects`.
        keep_modal: the amodal mask always holds the visible pixels, and an object without occluder keeps its modal
            mask. False gives the network's answer as it is, as published.
        occluder_rule: what may occlude an object. "ancestors": all that a chain of the order puts in front of it
            (published); "consistent": of these, no neighbour that the order itself does not put in front, since one
            wrong pair otherwise closes a cycle in which all objects occlude each other; "neighbours": all masks that
            touch it, whatever the order says.
        confine_to_occluders: let an object grow only where an occluder is seen, which is where a hidden part must be
            when the masks of all objects are given. False lets it grow anywhere, as published.
        test_time_flip: average over the horizontally mirrored crops; twice the work.
        order_rule: what an increment is. "count": the number of predicted pixels (published); "probability": the sum of
            their probabilities; "evidence": the sum of all probabilities in the eraser, if any of them passes the
            threshold, weighed by `occlusion_evidence`.

    Raises:
        ValueError: naming the setting that is out of range.
        TypeError: naming the setting that is no number.

    Example:
        >>> masks = np.zeros((2, 12, 16), bool)
        >>> masks[0, 4:8] = masks[1, :, 6:10] = True
        >>> masks[0] &= ~masks[1]  # a bar behind another one
        >>> pipe = PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16))
        >>> out = pipe(None, masks, order=[[0, -1], [1, 0]])
        >>> out.amodal_masks.shape, out.order[0, 1], (out.amodal_masks >= masks).all()
        ((2, 12, 16), np.int8(-1), np.True_)
    """

    model: PCNetMask
    call_options = ("order", "return_order", "occluder_rule", "eraser_dilation", "order_threshold", "mask_threshold")
    occluder_rules = ("ancestors", "consistent", "neighbours")

    def __init__(
        self,
        model: PCNetMask,
        *,
        order_threshold: float = 0.1,
        mask_threshold: float | str = 0.2,
        calibration_slope: float = 1.0,
        calibration_offset: float = 0.0,
        enlarge_box: float = 3.0,
        crop: str = "nearest",
        paste: str = "probability",
        keep_modal: bool = True,
        occluder_rule: str = "ancestors",
        confine_to_occluders: bool = False,
        test_time_flip: bool = False,
        order_rule: str = "count",
    ) -> None:
        super().__init__()
        self.register_modules(model=check_network("model", model, PCNetMask))
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
            )
        )

    @mask_call
    def __call__(
        self,
        image: Any,
        masks: Any,
        *,
        occluder_masks: Any = None,
        category_ids: Any = None,
        order: Any = None,
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
        """Infer who occludes whom and complete every mask.

        Args:
            image: the photo in any form that `load_image` reads, None, or a list of these. Only a network with
                `use_rgb` looks at it; otherwise its size alone is compared with the masks.
            masks: modal masks, one (H, W) or a stack (N, H, W) in any form that `to_mask_stack` reads; a list of stacks
                where `image` is a list. All scenes of a call go through the network together.
            occluder_masks: (H, W) or (N, H, W), what occludes the objects; used instead of the other masks of the call.
            category_ids: (N,) positive integers; needed where the network is class-conditioned, else ignored.
            order: (N, N), 1 where i occludes j, -1 where j occludes i, 0 without relation; used instead of the inferred
                one.
            return_order: give the order back. With the rule "neighbours" the masks need no order, and come faster
                without.
            occluder_rule: what may occlude an object, see the setting; None takes the checkpoint's.
            eraser_dilation: pixels of the photo by which erasers grow on each side. 3 to 5 closes the gaps between the
                masks of a segmenter; objects whose grown masks touch are neighbours then.
            order_threshold: of P(object), in [0, 1); None takes the checkpoint's.
            mask_threshold: of P(object), in [0, 1); None takes the checkpoint's.
            generator: taken so that the same call suits every mask pipeline; nothing here is drawn at random.
            batch_size: crops in one pass through the network; None suits it to the device.
            output_type: "np", "pt", "pil" or "compact", see `AmodalPipelineOutput`.
            return_dict: False returns a tuple of all fields of `AmodalPipelineOutput` in their order.
            callback: called as `callback(pipeline, stage, done, total)` when a stage begins and after every batch, see
                `PipelineCallback`; if it returns False, the call ends with `CallInterruptedError`.

        Returns:
            `AmodalPipelineOutput`. An object without visible pixels stays empty and has no relations. With the setting
            `keep_modal` an object without occluder keeps its modal mask, and visible pixels have probability 1. `order`
            is None without `return_order`, and with `occluder_masks` unless it was given: then it is not needed.

        Raises:
            ValueError: naming the argument: sizes that differ, an order that is no antisymmetric (N, N) matrix of -1, 0
                and 1, numbers out of range, a missing photo, missing category ids.
            TypeError: naming the argument that is of another kind, or that this pipeline does not take.
            CallInterruptedError: by the callback.
        """
        return self.complete(
            image,
            masks,
            occluder_masks=occluder_masks,
            category_ids=category_ids,
            order=order,
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
        """The visible part outside of the eraser, and the eraser."""
        return {"mask": modal & ~eraser, "eraser": eraser}

    def read_logits(self, logits: Tensor) -> Tensor:
        """(B, 1, s, s), P(object)."""
        # The softmax over two classes is the logistic function of their difference, in half of the work.
        return torch.sigmoid(logits[:, 1:] - logits[:, :1])

    def occluders_by_rule(self, rule: str, order: np.ndarray, growth: np.ndarray, neighbours: BoolArray) -> BoolArray:
        """Ancestors in the order, by the rule."""
        found = ancestors(order)
        if rule == "consistent":
            found &= (order == -1) | ~neighbours
        return found
