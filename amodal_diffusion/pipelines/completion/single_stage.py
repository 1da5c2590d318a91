"""De-occlusion in one stage: one network from the modal mask, and the photo, to the whole mask [Z20], [Z24]."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ...arguments.flags import check_flag
from ...models.occamodal_predictor import OccAmodalPredictor
from ..base import PipelineCallback
from ..inputs import batches, check_network
from ..output import AmodalPipelineOutput
from ..registry import register_pipeline
from .mask_pipeline import MaskCall, MaskPipeline, ObjectPatches, ScenePrediction, check_crop, mask_call
from .thresholds import check_mask_threshold


@register_pipeline
class SingleStagePipeline(MaskPipeline):
    """Whole masks from modal masks by one network that learned from whole masks; it is told of no occluder.

    With a network that looks at the photo it is "Deocclusion (single stage)" of [Z24], Tables 4 and 5; with one that
    sees masks alone, the supervised U-Net of [Z20], Tables 2 and 3.

    Each object is completed by itself, so the other masks of a call do not matter.

    Args:
        model: with one mask plane in and 2 logits out: background, object.
        mask_threshold: of P(object), in [0, 1); 0.5 is the argmax. Or "expected-iou", see `expected_iou_masks`.
        enlarge_box: area of the crop box in areas of the modal box.
        crop: how masks become crops, "nearest" (published) or "bilinear", see `crop_masks`.
        paste: "probability" or "binary" (published), see `MaskPipeline.paste_objects`.
        keep_modal: the amodal mask always holds the visible pixels. False gives the network's answer, as published.
        test_time_flip: average over the horizontally mirrored crops; twice the work.

    Raises:
        ValueError: naming the setting that is out of range, or a network of other planes.
        TypeError: naming the setting that is no number.

    Example:
        >>> model = OccAmodalPredictor(block_out_channels=(2, 4), sample_size=16, image_feature_stages=())
        >>> pipe = SingleStagePipeline(model)
        >>> pipe.needs_image, pipe.needs_occluders
        (False, False)
        >>> pipe(None, torch.ones(12, 16, dtype=torch.bool)).amodal_masks.shape
        (1, 12, 16)
    """

    call_options = ("mask_threshold",)
    needs_occluders = False
    sees_neighbours = False
    unknown_category_id = 0

    model: OccAmodalPredictor

    def __init__(
        self,
        model: OccAmodalPredictor,
        *,
        mask_threshold: float | str = 0.5,
        enlarge_box: float = 3.0,
        crop: str = "nearest",
        paste: str = "probability",
        keep_modal: bool = True,
        test_time_flip: bool = False,
    ) -> None:
        super().__init__()
        check_network("model", model, OccAmodalPredictor)
        planes, logits = model.config.mask_channels, model.config.out_channels
        if (planes, logits) != (1, 2):
            raise ValueError(f"`model` must have 1 mask plane in and 2 logits out, got {planes} and {logits}.")
        self.register_modules(model=model)
        self.register_to_config(
            mask_threshold=check_mask_threshold(mask_threshold),
            **check_crop(crop, enlarge_box, paste),
            keep_modal=check_flag("keep_modal", keep_modal),
            test_time_flip=check_flag("test_time_flip", test_time_flip),
        )

    @mask_call
    def __call__(
        self,
        image: Any,
        masks: Any,
        *,
        occluder_masks: Any = None,
        category_ids: Any = None,
        mask_threshold: float | str | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        batch_size: int | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback: PipelineCallback | None = None,
    ) -> AmodalPipelineOutput | tuple[Any, ...]:
        """Complete every mask.

        Args:
            image: the photo in any form that `load_image` reads, or a list of these. None where the network sees masks
                alone, which otherwise only compares its size with that of the masks.
            masks: modal masks, one (H, W) or a stack (N, H, W) in any form that `to_mask_stack` reads; a list of stacks
                where `image` is a list. All scenes of a call go through the network together.
            occluder_masks: checked, so that the same call suits every mask pipeline, but without influence: the network
                was never told of any.
            category_ids: (N,) integers, 0 where unknown; likewise without influence.
            mask_threshold: of P(object) in [0, 1), or "expected-iou"; None takes the checkpoint's.
            generator: taken so that the same call suits every mask pipeline; nothing here is drawn at random.
            batch_size: objects in one pass through the network; None suits it to the device.
            output_type: "np", "pt", "pil" or "compact", see `AmodalPipelineOutput`.
            return_dict: False returns a tuple of all fields of `AmodalPipelineOutput` in their order.
            callback: called as `callback(pipeline, stage, done, total)` when a stage begins and after every batch, see
                `PipelineCallback`; if it returns False, the call ends with `CallInterruptedError`.

        Returns:
            `AmodalPipelineOutput` with `amodal_masks` and `probabilities`; `order` is None. A mask without visible
            pixels gives empty results.

        Raises:
            ValueError: naming the argument: no photo where the network looks at it, a photo of another size than its
                masks, wrong shapes or ranges.
            TypeError: naming the argument of a type that is not read, or that this pipeline does not take.
            CallInterruptedError: by the callback.
        """
        return self.complete(
            image,
            masks,
            occluder_masks=occluder_masks,
            category_ids=category_ids,
            mask_threshold=mask_threshold,
            generator=generator,
            batch_size=batch_size,
            output_type=output_type,
            return_dict=return_dict,
            callback=callback,
        )

    # 1.

    @property
    def needs_image(self) -> bool:
        """As the network says."""
        return self.model.sees_image

    def read_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The threshold."""
        return {"mask_threshold": self._mask_threshold(options["mask_threshold"])}

    def output_fields(self, call: MaskCall) -> tuple[str, ...]:
        """None beside masks and probabilities."""
        return ()

    @property
    def largest_side(self) -> int:
        """Side of the maps behind `patch_size`."""
        return self.sample_size // int(self.model.config.patch_size)

    # 3.

    def predict(self, call: MaskCall, crops: ObjectPatches) -> Iterator[ScenePrediction]:
        """P(object) of all objects with a visible pixel, in batches."""
        rows = crops.modal.any(dim=2).any(dim=1).nonzero()[:, 0]  # [K]
        probability = torch.empty(len(rows), 1, *crops.modal.shape[1:], device=crops.modal.device)
        with self.progress("masks", len(rows), call.callback) as advance:
            for part in batches(len(rows), call.batch_size):
                modal = crops.modal[rows[part]]  # [B, s, s]
                image = None if crops.images is None else crops.images[rows[part]]  # [B, 3, s, s]
                answer = self._run(modal, image)
                if self.config.test_time_flip:
                    mirrored = self._run(modal.flip(-1), None if image is None else image.flip(-1))
                    answer = (answer + mirrored.flip(-1)) / 2
                probability[part] = answer
                advance(len(modal))
        for where in crops.scenes:
            inside = (rows >= where.start) & (rows < where.stop)
            yield ScenePrediction(rows[inside] - where.start, probability[inside])

    def _run(self, modal: Tensor, image: Tensor | None) -> Tensor:
        """(B, 1, s, s) float32, P(object)."""
        dtype = self.model.dtype
        # As (.., s, s, 1) first: a plane with the strides of channels last keeps the network in that layout.
        plane = modal.to(dtype).unsqueeze(-1).permute(0, 3, 1, 2)
        if image is not None:
            image = image.to(dtype).contiguous(memory_format=torch.channels_last)
        logits = self.model(plane, image).logits.float()
        # The softmax over two classes is the logistic function of their difference.
        return torch.sigmoid(logits[:, 1:] - logits[:, :1])
