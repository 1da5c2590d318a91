"""SDAmodal as a pipeline: whole masks from a photo and one mask, by features of a frozen Stable Diffusion [Z24]."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from ...crops import paste_patches
from ...crops.features import FEATURE_CROPS, crop_features
from ...crops.mask_patches import CROP_RULES
from ...models.prompt_embedding import PromptEmbedding
from ...models.sdamodal_decoder import SDAmodalDecoder
from ..completion.mask_pipeline import PASTE_RULES, ObjectPatches
from ..inputs import Scene, batches, check_choice, check_integer, check_number, read_scenes, to_device
from ..output import AmodalPipelineOutput
from ..registry import register_pipeline
from .diffusion_mask_pipeline import DiffusionMaskPipeline
from .features import NOISE_SEED, NUM_DRAWS, RESOLUTION, TIME_STEP, UP_BLOCKS, DiffusionFeatureExtractor, ImageFeatures


@register_pipeline
class SDAmodalPipeline(DiffusionMaskPipeline):
    """Whole masks from a photo and modal masks, without being told what hides the objects. Source: [Z24].

    A photo goes through Stable Diffusion once (a pass for each noise draw), however many masks it has; each object is
    then completed by itself from its crop of the features, so the other masks of a call do not matter.

    The Stable Diffusion components are the stock ones and can be shared with any pipeline of the same base
    (`SDAmodalPipeline.from_pipe`). A folder may hold them, or only the decoder and the id where they are
    (`save_pretrained(..., include_stable_diffusion=False)`).

    Args:
        unet: `UNet2DConditionModel` of Stable Diffusion 1.x/2.x; None only while the pipeline is merely saved.
        vae: `AutoencoderKL`, likewise.
        text_encoder: `CLIPTextModel`; not needed where there is a `prompt_embedding`.
        tokenizer: `CLIPTokenizer`, likewise.
        scheduler: any diffusers scheduler of the checkpoint.
        decoder: the mask decoder, trained on features of this checkpoint made with these settings.
        prompt_embedding: the embedding of the empty prompt, see `drop_text_encoder`.
        stable_diffusion: Hub id or folder of the Stable Diffusion checkpoint, for a folder that does not hold it.
        mask_threshold: of P(object), in [0, 1); 0.5 is the published argmax.
        enlarge_box: area of the crop box in areas of the modal box.
        crop: how masks become crops, "nearest" (published) or "bilinear", see `crop_mask_patches`.
        feature_crop: how features become crops, "cells" (published) or "align", see `crop_features`. The published
            decoder was trained on whole cells.
        paste: "probability" or "binary" (published), see `MaskPipeline.paste_objects`.
        keep_modal: the amodal mask always holds the visible pixels. False gives the decoder's answer, as published.
        time_step: see `DiffusionFeatureExtractor`, as all that follow.
        num_draws: number of noise draws.
        noise_seed: of their random numbers.
        resolution: side in pixels of the square that photos are squashed to.
        up_blocks: indices of the up blocks, ascending, one for each feature map of the decoder; a sequence, or as it is
            stored, "0,1,2,3".
        draw_batch_size: draws in one pass through the U-Net; None takes all draws of one photo, on a CPU one.

    Raises:
        ValueError, TypeError: naming the setting that is out of range, or the component that is none of Stable
            Diffusion 1.x/2.x or does not fit the decoder.
    """

    model_cpu_offload_seq = "text_encoder->vae->unet->decoder"
    mask_networks = ("decoder",)
    needs_occluders = False

    decoder: SDAmodalDecoder

    def __init__(
        self,
        unet: UNet2DConditionModel | None,
        vae: AutoencoderKL | None,
        text_encoder: CLIPTextModel | None,
        tokenizer: CLIPTokenizer | None,
        scheduler: SchedulerMixin | None,
        decoder: SDAmodalDecoder,
        *,
        prompt_embedding: PromptEmbedding | None = None,
        stable_diffusion: str | None = None,
        mask_threshold: float = 0.5,
        enlarge_box: float = 3.0,
        crop: str = "nearest",
        feature_crop: str = "cells",
        paste: str = "probability",
        keep_modal: bool = True,
        time_step: int = TIME_STEP,
        num_draws: int = NUM_DRAWS,
        noise_seed: int = NOISE_SEED,
        resolution: int = RESOLUTION,
        up_blocks: Sequence[int] | str = UP_BLOCKS,
        draw_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if decoder.config.out_channels != 2:
            raise ValueError(f"`decoder` must give 2 logits (background, object), got {decoder.config.out_channels}.")
        self.register_modules(
            unet=unet,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
            decoder=decoder,
            prompt_embedding=prompt_embedding,
        )
        self.register_to_config(
            mask_threshold=check_number("mask_threshold", mask_threshold, 0, 1),
            enlarge_box=check_number("enlarge_box", enlarge_box, 1, 100),
            crop=check_choice("crop", crop, CROP_RULES),
            feature_crop=check_choice("feature_crop", feature_crop, FEATURE_CROPS),
            paste=check_choice("paste", paste, PASTE_RULES),
            keep_modal=bool(keep_modal),
        )
        self.register_diffusion(
            stable_diffusion=stable_diffusion,
            time_step=time_step,
            num_draws=num_draws,
            noise_seed=noise_seed,
            resolution=resolution,
            up_blocks=up_blocks,
            draw_batch_size=draw_batch_size,
        )

    def check_diffusion(self, extractor: DiffusionFeatureExtractor) -> None:
        """Refuse a Stable Diffusion whose maps the decoder cannot read."""
        wanted = tuple(self.decoder.config.feature_channels)
        if extractor.feature_channels != wanted:
            raise ValueError(
                f"`decoder` was made for feature maps of {wanted} channels, but the up blocks {extractor.up_blocks} of "
                f"`unet` give {extractor.feature_channels}: it needs the Stable Diffusion that it was trained with."
            )

    # The call

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        masks: Any,
        *,
        occluder_masks: Any = None,
        features: ImageFeatures | Sequence[ImageFeatures | None] | None = None,
        num_draws: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        mask_threshold: float | None = None,
        return_uncertainty: bool = False,
        batch_size: int | None = None,
        output_type: str = "np",
        return_dict: bool = True,
    ) -> AmodalPipelineOutput | tuple[Any, ...]:
        """Complete the mask of each object.

        Args:
            image: the photo in any form that `load_image` reads, or a list of these; None where `features` are given.
            masks: modal masks, one (H, W) or a stack (N, H, W) in any form that `to_mask_stack` reads; a list of stacks
                where `image` is a list.
            occluder_masks: not needed, and without influence: the network was not made to be told. They are checked, so
                that the same call suits every mask pipeline.
            features: of `encode_image`, instead of a pass of Stable Diffusion; a list where `image` is a list, with
                None for a photo to encode.
            num_draws: number of noise draws, not with `features`; None takes the pipeline's.
            generator: of the noise, see `encode_image`; not with `features`.
            mask_threshold: of P(object) in [0, 1); None takes the pipeline's.
            return_uncertainty: also decode every noise draw by itself, `num_draws` times the work after the encoding.
                Given features must have kept their draws (`encode_image(..., keep_draws=True)`).
            batch_size: crops in one pass through the decoder; None suits it to the device.
            output_type: "np", "pt" or "pil", see `AmodalPipelineOutput`.
            return_dict: return an `AmodalPipelineOutput` instead of a tuple of its fields.

        Returns:
            `AmodalPipelineOutput`; `order` is None. The masks are those of the features averaged over the draws, with
            `return_uncertainty` and without. `uncertainty` is the standard deviation of P(object) between the single
            draws: how far the answer hangs on the noise; 0 outside of the crop box, and on visible pixels with
            `keep_modal`. A mask without visible pixels gives empty results, and Stable Diffusion does not run where no
            mask of a photo has any.

        Raises:
            ValueError: naming the argument: no photo and no features, sizes that differ, features of another number of
                channels, numbers out of range, `return_uncertainty` with less than two draws.
            TypeError: naming the argument that is of another kind.
        """
        # 1. Check the inputs
        scenes, given, batched = self.check_inputs(image, masks, occluder_masks, features)
        self._check_draws(given, num_draws, generator, return_uncertainty)
        threshold = self._threshold("mask_threshold", mask_threshold)
        size = self.decoder.config.sample_size
        batch_size = self.check_call(batch_size, output_type, size)

        if not scenes:
            return self.finish([], batched=batched, output_type=output_type, return_dict=return_dict)

        # 2. Crop the masks
        patches = self.crop_objects(
            scenes, size, crop=self.config.crop, enlarge_box=self.config.enlarge_box, use_images=False,
            use_categories=False,
        )  # fmt: skip

        # 3. Encode each photo, and decode its objects
        images = list(image) if isinstance(image, list | tuple) else [image] * len(scenes)
        options = {"num_draws": num_draws, "keep_draws": return_uncertainty}
        results = []
        with self.evaluation_mode(), self.progress_bar(total=sum(map(len, scenes))) as bar:
            for part in batches(len(scenes), self._photos_a_pass(num_draws)):
                encoded = self.encode_scenes(part, scenes, images, given, generator, **options)
                for index in range(part.start, part.stop):
                    answers = self.predict(patches, index, encoded.pop(index, None), batch_size, return_uncertainty)
                    # 4. Paste back
                    results.append(self.paste_scene(scenes[index], patches, index, *answers, threshold))
                    bar.update(len(scenes[index]))

        # 5. Put the output together
        return self.finish(results, batched=batched, output_type=output_type, return_dict=return_dict)

    # 1.

    def check_inputs(
        self, image: Any, masks: Any, occluder_masks: Any, features: Any
    ) -> tuple[list[Scene], list[ImageFeatures | None], bool]:
        """The scenes of a call, the features given with each, and whether it gave lists; errors as in `__call__`."""
        if image is None and isinstance(features, list | tuple):
            image = [None] * len(features)
        scenes, batched = read_scenes(image, masks, occluder_masks=occluder_masks)
        if batched and features is not None and not isinstance(features, list | tuple):
            raise TypeError(f"`features` must be a list with one entry a photo, got {type(features).__name__}.")
        given = list(features) if batched and features is not None else [features] * len(scenes)
        if len(given) != len(scenes):
            raise ValueError(f"`features` must have one entry for each of the {len(scenes)} photos, got {len(given)}.")
        images = image if isinstance(image, list | tuple) else [image] * len(scenes)
        for index, (scene, found, photo) in enumerate(zip(scenes, given, images, strict=True)):
            suffix = f"[{index}]" if batched else ""
            if found is not None:
                self._check_features(found, scene, suffix)
            elif photo is None:
                raise ValueError(f"`image{suffix}` must be given, or `features` that `encode_image` made of it.")
        return scenes, given, batched

    def _check_features(self, features: Any, scene: Scene, suffix: str) -> None:
        if not isinstance(features, ImageFeatures):
            raise TypeError(f"`features{suffix}` must be ImageFeatures, got {type(features).__name__}.")
        photo, masks = (features.height, features.width), scene.masks.shape[1:]
        if photo != masks:
            raise ValueError(
                f"`features{suffix}` are of a photo of size (height, width) {photo}, `masks{suffix}` of {masks}."
            )
        wanted = tuple(self.decoder.config.feature_channels)
        if features.channels != wanted:
            raise ValueError(
                f"`features{suffix}` must have maps of {wanted} channels, as the decoder, got {features.channels}."
            )

    def _check_draws(
        self, given: Sequence[ImageFeatures | None], num_draws: int | None, generator: Any, return_uncertainty: bool
    ) -> None:
        for name, value in {"num_draws": num_draws, "generator": generator}.items():
            if value is not None and given and all(given):
                raise ValueError(f"`{name}` has no influence on given `features`; pass it to `encode_image`.")
        if isinstance(generator, list | tuple) and len(generator) != len(given):
            raise ValueError(f"`generator` must be one, or one for each of the {len(given)} photos.")
        draws = self.config.num_draws if num_draws is None else check_integer("num_draws", num_draws, 1)
        if return_uncertainty and any((draws if found is None else found.num_draws) < 2 for found in given):
            raise ValueError(
                "`return_uncertainty` needs two draws at least: `num_draws` of 2 or more, or `features` made with "
                "`encode_image(..., keep_draws=True)`."
            )

    # 3.

    def _photos_a_pass(self, num_draws: int | None) -> int:
        return max(1, (self.config.draw_batch_size or 1) // (num_draws or self.config.num_draws))

    def encode_scenes(
        self,
        part: slice,
        scenes: Sequence[Scene],
        images: Sequence[Any],
        given: Sequence[ImageFeatures | None],
        generator: Any,
        **options: Any,
    ) -> dict[int, ImageFeatures]:
        """The features of the scenes in `part` that have something to complete, by index: the given ones, or new."""
        wanted = [index for index in range(part.start, part.stop) if scenes[index].visible.any()]
        missing = [index for index in wanted if given[index] is None]
        found = {index: value for index in wanted if (value := given[index]) is not None}
        if missing:
            if isinstance(generator, list | tuple):
                generator = [generator[index] for index in missing]
            made = self._encode([images[index] for index in missing], generator=generator, **options)
            found.update(zip(missing, made, strict=True))
        return found

    def predict(
        self,
        patches: ObjectPatches,
        index: int,
        features: ImageFeatures | None,
        batch_size: int,
        return_uncertainty: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Decode the K objects with visible pixels of the scene at `index`.

        Returns:
            (K,) int64, their rows within the scene, ascending; (K, s, s) float32, P(object); (K, s, s) float32, its
            standard deviation between the draws, or None.
        """
        where = patches.scenes[index]
        modal, boxes = patches.modal[where], patches.boxes[where]
        rows = modal.any(dim=2).any(dim=1).nonzero()[:, 0]  # [K]
        probabilities = torch.empty(len(rows), *modal.shape[1:], device=modal.device)
        deviations = torch.empty_like(probabilities) if return_uncertainty else None
        if features is None:  # no object is visible
            return rows, probabilities, deviations
        features = features.to(modal.device, self.decoder.dtype).channels_last()
        mean = features.mean()
        for part in batches(len(rows), batch_size):
            crops = modal[rows[part]], boxes[rows[part].cpu()]
            probabilities[part] = self.decode(*crops, mean, batch_size)[0]
            if deviations is not None:
                deviations[part] = self.decode(*crops, features, batch_size).std(dim=0)
        return rows, probabilities, deviations

    def decode(self, modal: Tensor, boxes: Tensor, features: ImageFeatures, batch_size: int) -> Tensor:
        """P(object) of the crops of one photo, for each draw.

        Args:
            modal: (B, s, s) bool, crops of the modal masks.
            boxes: (B, 4) int64, their boxes.
            features: of the photo, D draws.
            batch_size: crops in one pass through the decoder; a pass has each object once at least.

        Returns:
            (D, B, s, s) float32.
        """
        answers = []
        photo = (features.height, features.width)
        for part in batches(features.num_draws, max(1, batch_size // len(modal))):
            maps = [
                crop_features(feature[part], boxes, photo, side, self.config.feature_crop)
                for feature, side in zip(features.maps, self.decoder.config.feature_sizes, strict=True)
            ]  # [d * B, C_k, s_k, s_k] each
            planes = modal.repeat(part.stop - part.start, 1, 1).to(self.decoder.dtype)  # [d * B, s, s]
            # As (.., s, s, 1) first: a plane with the strides of channels last keeps the decoder in that layout.
            logits = self.decoder(planes.unsqueeze(-1).permute(0, 3, 1, 2), maps).logits.float()  # [d * B, 2, s, s]
            # The softmax over two classes is the logistic function of their difference.
            answers.append(torch.sigmoid(logits[:, 1] - logits[:, 0]).unflatten(0, (-1, len(modal))))
        return torch.cat(answers)

    # 4.

    def paste_scene(
        self,
        scene: Scene,
        patches: ObjectPatches,
        index: int,
        rows: Tensor,
        probabilities: Tensor,
        deviations: Tensor | None,
        threshold: float,
    ) -> dict[str, Any]:
        """The results of the scene at `index`, from what `predict` says of it."""
        modal = to_device(scene.masks, probabilities.device)
        size = modal.shape[1:]
        crops = patches.boxes[patches.scenes[index]]
        boxes = torch.zeros_like(crops)  # side 0, which pastes nothing, without visible pixels
        boxes[rows.cpu()] = crops[rows.cpu()]

        def everyone(values: Tensor) -> Tensor:
            return values.new_zeros(len(scene), *values.shape[1:]).index_copy(0, rows, values)

        masks, pasted = self.paste_objects(
            everyone(probabilities), boxes, *size, threshold=threshold, paste=self.config.paste
        )
        uncertainty = None if deviations is None else paste_patches(everyone(deviations), boxes, *size)
        if self.config.keep_modal:
            masks |= modal
            pasted.masked_fill_(modal, 1.0)
            if uncertainty is not None:
                uncertainty.masked_fill_(modal, 0.0)
        return {"amodal_masks": masks, "probabilities": pasted, "order": None, "uncertainty": uncertainty}
