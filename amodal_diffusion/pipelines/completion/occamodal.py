"""OccAmodal as a pipeline: first the occluder, then the whole mask, from a photo and one mask [Z24]."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ...crops.mask_patches import CROP_RULES, crop_mask_patches
from ...masks import dilate, occlusion_boundary
from ...models.occamodal_predictor import OccAmodalPredictor
from ..inputs import Scene, batches, check_choice, check_number, read_scenes, to_device
from ..output import AmodalPipelineOutput
from ..registry import register_pipeline
from .mask_pipeline import PASTE_RULES, MaskPipeline, ObjectPatches


@dataclass
class _Predictions:
    """What the networks answer for the K objects that have a visible pixel; (K, s, s) each.

    Args:
        rows: (K,) int64, their rows in `ObjectPatches`, ascending.
        occluders: float32, P(occluder), 0 where the object is visible; 1 and 0 where the caller gave the occluders.
        probabilities: float32, P(object).
        uncertainties: float32, standard deviation of P(object), not below 0.
    """

    rows: Tensor
    occluders: Tensor
    probabilities: Tensor
    uncertainties: Tensor


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
        mask_threshold: of P(object), in [0, 1).
        enlarge_box: area of the crop box in areas of the modal box.
        crop: how masks become crops, "nearest" (published) or "bilinear", see `crop_mask_patches`.
        paste: "probability" or "binary" (published), see `MaskPipeline.paste_objects`.
        keep_modal: the amodal mask always holds the visible pixels.
        confine_to_occluder: let an object grow only where an occluder is predicted or given. False (published) lets it
            grow anywhere.
        drop_rim: let an object grow only where it grows in the crop too, within a pixel of it. A crop at another
            resolution than the photo moves the outline by a fraction of a pixel, which otherwise adds a thin rim around
            the visible part of every object. False is published.
        test_time_flip: average over the horizontally mirrored crops; twice the work.

    Raises:
        ValueError: naming the setting that is out of range, or a network with the wrong number of mask planes.
        TypeError: naming the setting that is no number.
    """

    model_cpu_offload_seq = "occluder_predictor->amodal_predictor"
    mask_networks = ("occluder_predictor", "amodal_predictor")
    needs_occluders = False
    _optional_components = ["amodal_predictor"]

    occluder_predictor: OccAmodalPredictor
    amodal_predictor: OccAmodalPredictor | None

    def __init__(
        self,
        occluder_predictor: OccAmodalPredictor,
        amodal_predictor: OccAmodalPredictor | None = None,
        *,
        occluder_threshold: float = 0.5,
        mask_threshold: float = 0.5,
        enlarge_box: float = 3.0,
        crop: str = "nearest",
        paste: str = "probability",
        keep_modal: bool = True,
        confine_to_occluder: bool = False,
        drop_rim: bool = False,
        test_time_flip: bool = False,
    ) -> None:
        super().__init__()
        _check_networks(occluder_predictor, amodal_predictor)
        self.register_modules(occluder_predictor=occluder_predictor, amodal_predictor=amodal_predictor)
        self.register_to_config(
            occluder_threshold=check_number("occluder_threshold", occluder_threshold, 0, 1),
            mask_threshold=check_number("mask_threshold", mask_threshold, 0, 1),
            enlarge_box=check_number("enlarge_box", enlarge_box, 1, 100),
            crop=check_choice("crop", crop, CROP_RULES),
            paste=check_choice("paste", paste, PASTE_RULES),
            keep_modal=bool(keep_modal),
            confine_to_occluder=bool(confine_to_occluder),
            drop_rim=bool(drop_rim),
            test_time_flip=bool(test_time_flip),
        )

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        masks: Any,
        *,
        occluder_masks: Any = None,
        occluder_threshold: float | None = None,
        mask_threshold: float | None = None,
        batch_size: int | None = None,
        output_type: str = "np",
        return_dict: bool = True,
    ) -> AmodalPipelineOutput | tuple[Any, ...]:
        """Predict what hides each object, and complete its mask.

        Args:
            image: the photo in any form that `load_image` reads, or a list of these.
            masks: modal masks, one (H, W) or a stack (N, H, W) in any form that `to_mask_stack` reads; a list of stacks
                where `image` is a list. All scenes of a call go through the networks together.
            occluder_masks: (H, W) or (N, H, W), what hides the objects, where the caller knows better; used instead of
                the predicted occluders. A list where `image` is a list, None in it for a photo to predict.
            occluder_threshold: of P(occluder) in [0, 1); None takes the pipeline's.
            mask_threshold: of P(object) in [0, 1); None takes the pipeline's.
            batch_size: objects in one pass through a network; None chooses it by device and crop size.
            output_type: "np", "pt" or "pil", see `AmodalPipelineOutput`.
            return_dict: return an `AmodalPipelineOutput` instead of a tuple of its fields.

        Returns:
            `AmodalPipelineOutput` with `amodal_masks`, `probabilities`, `uncertainty` (0 outside of the crop box) and
            `occluder_masks`; `order` is None. A mask without visible pixels gives empty results. A full-frame mask has
            nothing outside of it and stays.

        Raises:
            ValueError: naming the argument: no photo, a photo of another size than its masks, wrong shapes or ranges;
                a pipeline without amodal predictor.
            TypeError: naming the argument of a type that is not read.
        """
        # 1. Check the inputs
        if self.amodal_predictor is None:
            raise ValueError("This pipeline has no `amodal_predictor`: train it with `--stage amodal`, or pass one.")
        names = ("occluder_threshold", "mask_threshold")
        thresholds = [self._threshold(*pair) for pair in zip(names, (occluder_threshold, mask_threshold), strict=True)]
        scenes, batched = self.check_inputs(image, masks, occluder_masks)
        size = self.occluder_predictor.config.sample_size
        batch_size = self.check_call(batch_size, output_type, size)

        # 2. Crop
        patches = self.crop_objects(
            scenes, size, crop=self.config.crop, enlarge_box=self.config.enlarge_box, use_images=True,
            use_categories=False,
        )  # fmt: skip
        given, is_given = self.crop_occluders(scenes, patches)

        # 3. Predict
        with self.evaluation_mode():
            predictions = self.predict(patches, given, is_given, thresholds[0], batch_size)

        # 4. Paste back
        results = [self.paste_scene(scene, patches, predictions, i, *thresholds) for i, scene in enumerate(scenes)]

        # 5. Put the output together
        return self.finish(results, batched=batched, output_type=output_type, return_dict=return_dict)

    # 1.

    def check_inputs(self, image: Any, masks: Any, occluder_masks: Any) -> tuple[list[Scene], bool]:
        """The scenes of a call, and whether it gave lists; errors as `__call__` documents them."""
        scenes, batched = read_scenes(image, masks, read_image=True, occluder_masks=occluder_masks)
        if any(scene.image is None for scene in scenes):
            raise ValueError("`image` must be given: OccAmodal finds in the photo what hides an object.")
        return scenes, batched

    # 2.

    def crop_occluders(self, scenes: Sequence[Scene], patches: ObjectPatches) -> tuple[Tensor, Tensor]:
        """(M, s, s) bool crops of the occluders that the caller gave, and (M,) bool where that is so."""
        given = torch.zeros_like(patches.modal)
        is_given = torch.zeros(len(given), dtype=torch.bool, device=given.device)
        for scene, where in zip(scenes, patches.scenes, strict=True):
            if scene.occluder_masks is None:
                continue
            own = (
                torch.arange(len(scene)) if len(scene.occluder_masks) == len(scene) else torch.zeros(len(scene)).long()
            )
            masks = to_device(scene.occluder_masks, given.device)
            given[where] = crop_mask_patches(masks, patches.boxes[where], given.shape[-1], own, self.config.crop)
            is_given[where] = True
        return given, is_given

    # 3.

    def predict(
        self, patches: ObjectPatches, given: Tensor, is_given: Tensor, threshold: float, batch_size: int
    ) -> _Predictions:
        """Both networks on all objects with a visible pixel, in batches."""
        rows = patches.modal.any(dim=2).any(dim=1).nonzero()[:, 0]  # [K]
        answers = torch.zeros(3, len(rows), *patches.modal.shape[1:], device=patches.modal.device)
        with self.progress_bar(total=len(rows)) as bar:
            for part in batches(len(rows), batch_size):
                index = rows[part]
                modal = patches.modal[index, None].float()  # [B, 1, s, s]
                image = cast(Tensor, patches.images)[index].contiguous(memory_format=torch.channels_last)
                told = (given[index], is_given[index])
                answer = self._predict_batch(modal, image, *told, threshold)
                if self.config.test_time_flip:
                    told = (told[0].flip(-1), told[1])
                    mirrored = self._predict_batch(modal.flip(-1), image.flip(-1), *told, threshold)
                    answer = (answer + mirrored.flip(-1)) / 2
                answers[:, part] = answer
                bar.update(len(index))
        return _Predictions(rows, *answers)

    def _predict_batch(self, modal: Tensor, image: Tensor, given: Tensor, is_given: Tensor, threshold: float) -> Tensor:
        """(3, B, s, s) float32: P(occluder), P(object), uncertainty."""
        occluder = self.predict_occluders(modal, image)
        occluder = torch.where(is_given[:, None, None, None], given[:, None].float(), occluder) * (1 - modal)
        boundary = occlusion_boundary(modal, (occluder > threshold).float())
        network = cast(OccAmodalPredictor, self.amodal_predictor)
        logits = network(modal.to(network.dtype), image.to(network.dtype), boundary.to(network.dtype)).logits.float()
        answer = torch.stack([occluder[:, 0], logits[:, 0].sigmoid(), torch.nn.functional.softplus(logits[:, 1])])
        return answer

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

    def paste_scene(
        self,
        scene: Scene,
        patches: ObjectPatches,
        predictions: _Predictions,
        index: int,
        occluder_threshold: float,
        mask_threshold: float,
    ) -> dict[str, Any]:
        """The results of the scene at `index`, from the predictions for all objects of the call."""
        where = patches.scenes[index]
        modal = to_device(scene.masks, predictions.rows.device)
        inside = (predictions.rows >= where.start) & (predictions.rows < where.stop)
        done = predictions.rows[inside] - where.start
        boxes = torch.zeros_like(patches.boxes[where])  # side 0, which pastes nothing, without visible pixels
        boxes[done.cpu()] = patches.boxes[where][done.cpu()]

        def paste(values: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
            everyone = values.new_zeros(len(scene), *values.shape[1:])
            everyone[done] = values[inside]
            size = modal.shape[1:]
            return self.paste_objects(everyone, boxes, *size, threshold=threshold, paste=self.config.paste)

        occluders, _ = paste(predictions.occluders, occluder_threshold)
        occluders &= ~modal
        if scene.occluder_masks is not None:
            occluders = to_device(scene.occluder_masks, modal.device).expand_as(modal) & ~modal
        masks, probabilities = paste(predictions.probabilities, mask_threshold)
        _, uncertainty = paste(predictions.uncertainties, mask_threshold)
        allowed = modal | occluders if self.config.confine_to_occluder else None
        if self.config.drop_rim:
            grown = (predictions.probabilities > mask_threshold) & ~patches.modal[predictions.rows]  # [K, s, s]
            grown, _ = paste(dilate(grown, kernel="square").float(), 0.0)
            allowed = modal | grown if allowed is None else allowed & (modal | grown)
        if allowed is not None:
            masks &= allowed
            probabilities.masked_fill_(~allowed, 0.0)
        if self.config.keep_modal:
            masks |= modal
            probabilities.masked_fill_(modal, 1.0)
            uncertainty.masked_fill_(modal, 0.0)
        return {
            "amodal_masks": masks,
            "probabilities": probabilities,
            "order": None,
            "uncertainty": uncertainty,
            "occluder_masks": occluders,
        }


def _check_networks(occluder_predictor: OccAmodalPredictor, amodal_predictor: OccAmodalPredictor | None) -> None:
    for name, network, planes in (
        ("occluder_predictor", occluder_predictor, 1),
        ("amodal_predictor", amodal_predictor, 2),
    ):
        if network is not None and (network.config.mask_channels != planes or network.config.out_channels != 2):
            raise ValueError(
                f"`{name}` must have {planes} mask plane(s) in and 2 logits out, "
                f"got {network.config.mask_channels} and {network.config.out_channels}."
            )
    if amodal_predictor is not None and amodal_predictor.config.sample_size != occluder_predictor.config.sample_size:
        raise ValueError(
            "`occluder_predictor` and `amodal_predictor` must have the same `sample_size`, got "
            f"{occluder_predictor.config.sample_size} and {amodal_predictor.config.sample_size}."
        )
