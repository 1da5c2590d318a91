"""OccAmodal as a pipeline: first the occluder, then the whole mask, from a photo and one mask [Z24]."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ...arguments.flags import check_flag
from ...arguments.numeric import check_integer, check_number
from ...crops import crop_masks
from ...masks import occlusion_boundary
from ...models.occamodal_predictor import OccAmodalPredictor
from ..base import PipelineCallback
from ..inputs import MaskInputs, batches, check_network
from ..output import AmodalPipelineOutput
from ..registry import register_pipeline
from .mask_pipeline import (
    MaskCall,
    MaskPipeline,
    ObjectPatches,
    ScenePrediction,
    beyond_rim,
    check_crop,
    confine,
    mask_call,
)
from .thresholds import EXPECTED_IOU, check_mask_threshold


@dataclass
class _Predictions:
    """What the networks answer for the K objects that have a visible pixel.

    Args:
        rows: (K,) int64, their rows in `ObjectPatches`, ascending.
        channels: (K, 3, s, s) float32: P(object), its standard deviation (not below 0), and P(occluder), which is 0
            where the object is visible, and 1 and 0 where the caller gave the occluders.
    """

    rows: Tensor
    channels: Tensor


@register_pipeline
class OccAmodalPipeline(MaskPipeline):
    """Whole masks from a photo and modal masks, without being told what hides the objects. Source: [Z24].

    Each object is completed by itself, so the other masks of a call do not matter: any number of them, in any order,
    gives the same result for each.

    Args:
        occluder_predictor: photo and modal mask to the mask of all that hides the object.
        amodal_predictor: photo, modal mask and occlusion boundary to the amodal mask and its uncertainty. None only
            while the first of the two is all that has been trained; such a pipeline predicts occluders alone.
        occluder_threshold: of P(occluder), in [0, 1).
        mask_threshold: of P(object), in [0, 1), or "expected-iou", see `expected_iou_masks`.
        enlarge_box: area of the crop box in areas of the modal box.
        crop: how masks become crops, "nearest" (published) or "bilinear", see `crop_masks`.
        paste: "probability" or "binary" (published), see `MaskPipeline.paste_objects`.
        keep_modal: the amodal mask always holds the visible pixels.
        confine_to_occluders: let an object grow only where an occluder is predicted or given. False (published) lets it
            grow anywhere.
        rim_width: pixels of the crop. Growth that nowhere reaches farther than this from the visible part is dropped: a
            crop at another resolution than the photo moves the outline by a fraction of a pixel, which otherwise adds a
            thin rim to the visible side of every object. 0 drops what pasting alone adds; None (published) keeps all.
        test_time_flip: average over the horizontally mirrored crops; twice the work.

    Raises:
        ValueError: naming the setting that is out of range, or a network with the wrong number of mask planes.
        TypeError: naming the setting that is no number.

    Example:
        >>> sizes = {"block_out_channels": (2, 4), "reduced_channels": 2, "sample_size": 16, "image_depths": (1, 1)}
        >>> sizes |= {"image_hidden_sizes": (4, 8), "image_embedding_size": 4, "image_feature_stages": (2,)}
        >>> pipe = OccAmodalPipeline(*(OccAmodalPredictor(mask_channels=planes, **sizes) for planes in (1, 2)))
        >>> out = pipe(torch.rand(3, 12, 16), torch.ones(12, 16, dtype=torch.bool))
        >>> out.amodal_masks.shape, out.occluder_masks.any()
        ((1, 12, 16), np.False_)
    """

    model_cpu_offload_seq = "occluder_predictor->amodal_predictor"
    mask_networks = ("occluder_predictor", "amodal_predictor")
    call_options = ("occluder_threshold", "mask_threshold")
    needs_occluders = False
    sees_neighbours = False
    unknown_category_id = 0
    _optional_components = ["amodal_predictor"]

    occluder_predictor: OccAmodalPredictor
    amodal_predictor: OccAmodalPredictor | None

    def __init__(
        self,
        occluder_predictor: OccAmodalPredictor,
        amodal_predictor: OccAmodalPredictor | None = None,
        *,
        occluder_threshold: float = 0.5,
        mask_threshold: float | str = 0.5,
        enlarge_box: float = 3.0,
        crop: str = "nearest",
        paste: str = "probability",
        keep_modal: bool = True,
        confine_to_occluders: bool = False,
        rim_width: int | None = None,
        test_time_flip: bool = False,
    ) -> None:
        super().__init__()
        _check_networks(occluder_predictor, amodal_predictor)
        self.register_modules(occluder_predictor=occluder_predictor, amodal_predictor=amodal_predictor)
        self.register_to_config(
            occluder_threshold=check_number("occluder_threshold", occluder_threshold, least=0, below=1),
            mask_threshold=check_mask_threshold(mask_threshold),
            **check_crop(crop, enlarge_box, paste),
            keep_modal=check_flag("keep_modal", keep_modal),
            confine_to_occluders=check_flag("confine_to_occluders", confine_to_occluders),
            rim_width=None if rim_width is None else check_integer("rim_width", rim_width, 0),
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
        occluder_threshold: float | None = None,
        mask_threshold: float | str | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        batch_size: int | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback: PipelineCallback | None = None,
    ) -> AmodalPipelineOutput | tuple[Any, ...]:
        """Predict what occludes each object, and complete its mask.

        Args:
            image: the photo in any form that `load_image` reads, or a list of these.
            masks: modal masks, one (H, W) or a stack (N, H, W) in any form that `to_mask_stack` reads; a list of stacks
                where `image` is a list. All scenes of a call go through the networks together.
            occluder_masks: (H, W) or (N, H, W), what occludes the objects, where the caller knows better; used instead
                of the predicted occluders. A list where `image` is a list, None in it for a photo to predict.
            category_ids: (N,) integers, 0 where unknown; taken so that the same call suits every mask pipeline, and
                without influence.
            occluder_threshold: of P(occluder) in [0, 1); None takes the checkpoint's.
            mask_threshold: of P(object) in [0, 1); None takes the checkpoint's.
            generator: taken so that the same call suits every mask pipeline; nothing here is drawn at random.
            batch_size: objects in one pass through a network; None suits it to the device.
            output_type: "np", "pt", "pil" or "compact", see `AmodalPipelineOutput`.
            return_dict: False returns a tuple of all fields of `AmodalPipelineOutput` in their order.
            callback: called as `callback(pipeline, stage, done, total)` when a stage begins and after every batch, see
                `PipelineCallback`; if it returns False, the call ends with `CallInterruptedError`.

        Returns:
            `AmodalPipelineOutput` with `amodal_masks`, `probabilities`, `uncertainty` (0 outside of the crop box) and
            `occluder_masks`; `order` is None. A mask without visible pixels gives empty results. A full-frame mask has
            nothing outside of it and stays.

        Raises:
            ValueError: naming the argument: no photo, a photo of another size than its masks, wrong shapes or ranges;
                a pipeline without amodal predictor.
            TypeError: naming the argument of a type that is not read, or that this pipeline does not take.
            CallInterruptedError: by the callback.
        """
        if self.amodal_predictor is None:
            raise ValueError("This pipeline has no `amodal_predictor`: train it with `--stage amodal`, or pass one.")
        return self.complete(
            image,
            masks,
            occluder_masks=occluder_masks,
            category_ids=category_ids,
            occluder_threshold=occluder_threshold,
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
        """Both networks look at the photo."""
        return True

    def read_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Both thresholds."""
        return {
            "occluder_threshold": self._threshold("occluder_threshold", options["occluder_threshold"]),
            "mask_threshold": self._mask_threshold(options["mask_threshold"]),
        }

    def output_fields(self, call: MaskCall) -> tuple[str, ...]:
        """The uncertainty and the occluders."""
        return ("uncertainty", "occluder_masks")

    # 3.

    def predict(self, call: MaskCall, crops: ObjectPatches) -> Iterator[ScenePrediction]:
        """The occluder, then the amodal mask and its uncertainty."""
        given, is_given = self.crop_occluders(call.scenes, crops)
        found = self.predict_objects(call, crops, given, is_given)
        for where in crops.scenes:
            inside = (found.rows >= where.start) & (found.rows < where.stop)
            yield ScenePrediction(found.rows[inside] - where.start, found.channels[inside])

    def crop_occluders(self, scenes: Sequence[MaskInputs], patches: ObjectPatches) -> tuple[Tensor, Tensor]:
        """(M, s, s) bool crops of the occluders that the caller gave, and (M,) bool where that is so."""
        given = torch.zeros_like(patches.modal)
        is_given = torch.zeros(len(given), dtype=torch.bool, device=given.device)
        for scene, where in zip(scenes, patches.scenes, strict=True):
            if scene.occluders is None:
                continue
            own = torch.arange(len(scene)) if len(scene.occluders) == len(scene) else torch.zeros(len(scene)).long()
            masks = scene.occluders.tensor(given.device)
            given[where] = crop_masks(masks, patches.boxes[where], given.shape[-1], indices=own, rule=self.config.crop)
            is_given[where] = True
        return given, is_given

    def predict_objects(self, call: MaskCall, patches: ObjectPatches, given: Tensor, is_given: Tensor) -> _Predictions:
        """Both networks on all objects with a visible pixel, in batches."""
        threshold = call.options["occluder_threshold"]
        rows = patches.modal.any(dim=2).any(dim=1).nonzero()[:, 0]  # [K]
        channels = torch.zeros(len(rows), 3, *patches.modal.shape[1:], device=patches.modal.device)
        with self.progress("masks", len(rows), call.callback) as advance:
            for part in batches(len(rows), call.batch_size):
                index = rows[part]
                modal = patches.modal[index, None].float()  # [B, 1, s, s]
                image = cast(Tensor, patches.images)[index].contiguous(memory_format=torch.channels_last)
                told = (given[index], is_given[index])
                answer = self._predict_batch(modal, image, *told, threshold)
                if self.config.test_time_flip:
                    told = (told[0].flip(-1), told[1])
                    mirrored = self._predict_batch(modal.flip(-1), image.flip(-1), *told, threshold)
                    answer = (answer + mirrored.flip(-1)) / 2
                channels[part] = answer
                advance(len(index))
        return _Predictions(rows, channels)

    def _predict_batch(self, modal: Tensor, image: Tensor, given: Tensor, is_given: Tensor, threshold: float) -> Tensor:
        """(B, 3, s, s) float32, see `_Predictions`."""
        occluder = self.predict_occluders(modal, image)
        occluder = torch.where(is_given[:, None, None, None], given[:, None].float(), occluder) * (1 - modal)
        boundary = occlusion_boundary(modal, (occluder > threshold).float())
        network = cast(OccAmodalPredictor, self.amodal_predictor)
        logits = network(modal.to(network.dtype), image.to(network.dtype), boundary.to(network.dtype)).logits.float()
        return torch.stack([logits[:, 0].sigmoid(), F.softplus(logits[:, 1]), occluder[:, 0]], dim=1)

    def predict_occluders(self, modal: Tensor, image: Tensor) -> Tensor:
        """P(occluder) of crops.

        Args:
            modal: (B, 1, s, s) in {0, 1}, crops of the modal masks.
            image: (B, 3, s, s) ImageNet-normalised RGB, cropped with the same boxes.

        Returns:
            (B, 1, s, s) float32.
        """
        network = self.occluder_predictor
        logits = network(modal.to(network.dtype), image.to(network.dtype)).logits.float()
        # The softmax over two classes is the logistic function of their difference.
        return torch.sigmoid(logits[:, 1:] - logits[:, :1])

    # 4.

    def paste(self, call: MaskCall, crops: ObjectPatches, index: int, prediction: ScenePrediction) -> dict[str, Any]:
        """The results of the scene at `index`, with the occluders, which the masks may be confined to."""
        scene = call.scenes[index]
        modal = scene.modal.tensor(prediction.channels.device)
        frames = partial(self.paste_objects, crops, index, prediction.rows, scene.size)
        _, occluders = frames(prediction.channels[:, 2], call.options["occluder_threshold"])
        if scene.occluders is not None:
            occluders = scene.occluders.tensor(modal.device).expand_as(modal)
        occluders = occluders & ~modal
        result = super().paste(call, crops, index, prediction)
        # The uncertainty is the network's own, also where the masks may not grow.
        if self.grows_under_occluders_alone:
            confine(result, modal | occluders, ["probabilities"])
        if self.config.rim_width is not None:
            threshold = call.options["mask_threshold"]
            grown = prediction.channels[:, 0] > (0.5 if threshold == EXPECTED_IOU else threshold)  # [K, s, s]
            around = beyond_rim(grown, crops.modal[crops.scenes[index]][prediction.rows], self.config.rim_width)
            confine(result, modal | frames(around.float(), 0.0)[1], ["probabilities"])
        self.decide(call, result)
        return result | {"occluder_masks": occluders}


def _check_networks(occluder_predictor: OccAmodalPredictor, amodal_predictor: OccAmodalPredictor | None) -> None:
    given = [("occluder_predictor", occluder_predictor, 1)]
    if amodal_predictor is not None:
        given.append(("amodal_predictor", amodal_predictor, 2))
    for name, network, planes in given:
        check_network(name, network, OccAmodalPredictor)
        if network.config.mask_channels != planes or network.config.out_channels != 2:
            raise ValueError(
                f"`{name}` must have {planes} mask plane(s) in and 2 logits out, "
                f"got {network.config.mask_channels} and {network.config.out_channels}."
            )
        if not network.sees_image:
            raise ValueError(f"`{name}` must look at the photo: its `image_feature_stages` must not be ().")
    if amodal_predictor is not None and amodal_predictor.config.sample_size != occluder_predictor.config.sample_size:
        raise ValueError(
            "`occluder_predictor` and `amodal_predictor` must have the same `sample_size`, got "
            f"{occluder_predictor.config.sample_size} and {amodal_predictor.config.sample_size}."
        )
