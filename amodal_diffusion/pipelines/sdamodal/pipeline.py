"""SDAmodal as a pipeline: whole masks from a photo and one mask, by features of a frozen Stable Diffusion [Z24]."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from ...arguments.choices import check_choice
from ...arguments.flags import check_flag
from ...arguments.numeric import check_integer
from ...crops.features import FEATURE_CROPS, crop_features
from ...hub import HUB_KEYS, PipelineFolder, holds_component
from ...models.prompt_embedding import PromptEmbedding
from ...models.sdamodal_decoder import SDAmodalDecoder
from ..base import PipelineCallback, take_dtype
from ..completion.mask_pipeline import (
    MaskCall,
    MaskPipeline,
    ObjectPatches,
    ScenePrediction,
    check_crop,
    mask_call,
)
from ..completion.thresholds import check_mask_threshold
from ..inputs import MaskInputs, batches, check_network
from ..output import AmodalPipelineOutput
from ..registry import register_pipeline
from .components import COMPONENTS, components_of, load_components
from .features import NOISE_SEED, NUM_DRAWS, RESOLUTION, TIME_STEP, UP_BLOCKS, DiffusionFeatureExtractor, ImageFeatures


@register_pipeline
class SDAmodalPipeline(MaskPipeline):
    """Whole masks from a photo and modal masks, without being told what hides the objects. Source: [Z24].

    A photo goes through Stable Diffusion once (a pass for each noise draw), however many masks it has; each object is
    then completed by itself from its crop of the features, so the other masks of a call do not matter.

    The Stable Diffusion components are the stock ones and can be shared with any pipeline of the same base
    (`SDAmodalPipeline.from_pipe`). A folder may hold them, or only the decoder and the id where they are
    (`save_pretrained(..., include_stable_diffusion=False)`).

    Args:
        unet: `UNet2DConditionModel` of Stable Diffusion 1.x/2.x; None only while the pipeline is merely saved.
        vae: `AutoencoderKL`; None only while the pipeline is merely saved.
        text_encoder: `CLIPTextModel`; not needed where there is a `prompt_embedding`.
        tokenizer: `CLIPTokenizer`; not needed where there is a `prompt_embedding`.
        scheduler: any diffusers scheduler of the checkpoint.
        decoder: the mask decoder, trained on features of this checkpoint made with these settings.
        prompt_embedding: the embedding of the empty prompt, see `drop_text_encoder`.
        stable_diffusion: Hub id or folder of the Stable Diffusion checkpoint, for a folder that does not hold it.
        mask_threshold: of P(object), in [0, 1); 0.5 is the published argmax. Or "expected-iou", see
            `expected_iou_masks`.
        enlarge_box: area of the crop box in areas of the modal box.
        crop: how masks become crops, "nearest" (published) or "bilinear", see `crop_masks`.
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

    Example:
        >>> sizes = {"feature_channels": (4, 4), "feature_sizes": (4, 8), "block_out_channels": (4, 4)}
        >>> nothing = dict.fromkeys(("unet", "vae", "text_encoder", "tokenizer", "scheduler"))
        >>> pipe = SDAmodalPipeline(**nothing, decoder=SDAmodalDecoder(sample_size=16, **sizes))
        >>> features = ImageFeatures((torch.rand(1, 4, 4, 4), torch.rand(1, 4, 8, 8)), height=12, width=16)
        >>> pipe(None, torch.ones(12, 16, dtype=torch.bool), features=features).amodal_masks.shape
        (1, 12, 16)
    """

    model_cpu_offload_seq = "text_encoder->vae->unet->decoder"
    mask_networks = ("decoder",)
    call_options = ("features", "num_draws", "return_uncertainty", "mask_threshold")
    needs_occluders = False
    sees_neighbours = False
    unknown_category_id = 0
    _optional_components = [*COMPONENTS, "prompt_embedding"]

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
        mask_threshold: float | str = 0.5,
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
        check_network("decoder", decoder, SDAmodalDecoder)
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
        if stable_diffusion is not None and not isinstance(stable_diffusion, str):
            raise TypeError(f"`stable_diffusion` must be a Hub id or the path of a folder, got {stable_diffusion!r}.")
        self.register_to_config(
            mask_threshold=check_mask_threshold(mask_threshold),
            **check_crop(crop, enlarge_box, paste),
            feature_crop=check_choice("feature_crop", feature_crop, FEATURE_CROPS),
            keep_modal=check_flag("keep_modal", keep_modal),
            stable_diffusion=stable_diffusion,
            time_step=check_integer("time_step", time_step, 0),
            num_draws=check_integer("num_draws", num_draws, 1),
            noise_seed=check_integer("noise_seed", noise_seed, 0),
            resolution=check_integer("resolution", resolution, 1),
            # As text: diffusers takes every list in `model_index.json` for a component.
            up_blocks=up_blocks if isinstance(up_blocks, str) else ",".join(map(str, up_blocks)),
            draw_batch_size=None if draw_batch_size is None else check_integer("draw_batch_size", draw_batch_size, 1),
        )
        self._prompt_embeds: Tensor | None = None
        if self.unet is not None:
            self._check_diffusion(self.extractor)

    def _check_diffusion(self, extractor: DiffusionFeatureExtractor) -> None:
        """Refuse a Stable Diffusion whose maps the decoder cannot read."""
        wanted = tuple(self.decoder.config.feature_channels)
        if extractor.feature_channels != wanted:
            raise ValueError(
                f"`decoder` was made for feature maps of {wanted} channels, but the up blocks {extractor.up_blocks} of "
                f"`unet` give {extractor.feature_channels}: it needs the Stable Diffusion that it was trained with."
            )

    # Loading, saving, sharing

    @classmethod
    def from_folder(cls, folder: PipelineFolder, **kwargs: Any) -> Self:
        """See `SafePipeline.from_folder`.

        Stable Diffusion components that the folder does not hold are loaded from where its setting `stable_diffusion`
        says, a Hub id or a folder; `stable_diffusion=...` here says another place, and `unet=...` and so on give them.

        Raises:
            ValueError, FileNotFoundError, OSError: as `SafePipeline.from_folder` and `load_components` say.
        """
        hub_options = {key: kwargs.get(key) for key in HUB_KEYS}
        index = folder.index
        source = kwargs.get("stable_diffusion") or index.get("stable_diffusion")
        held = {name for name in index if holds_component(index, name)}
        if "stable_diffusion" in kwargs:
            held -= set(COMPONENTS)
        held |= {name for name in COMPONENTS if kwargs.get(name) is not None}
        if "prompt_embedding" in held:
            held |= {"text_encoder", "tokenizer"}
        if source is not None and not held.issuperset(COMPONENTS):
            hub_options.pop("revision", None)  # it is one of our repository
            dtype = kwargs.get("dtype", kwargs.get("torch_dtype"))
            kwargs.update(load_components(source, dtype=dtype, skip=tuple(held), **hub_options))
        return super().from_folder(folder, **kwargs)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        safe_serialization: bool = True,
        *,
        include_stable_diffusion: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Save as `MaskPipeline.save_pretrained` does, with Stable Diffusion or without.

        Args:
            save_directory: folder, made where it is missing.
            safe_serialization: only True: weights are written as safetensors.
            include_stable_diffusion: save the Stable Diffusion components too, several GB. False saves the decoder, the
                settings, and `stable_diffusion`, the id that `from_pretrained` then loads them from. None saves them
                exactly where the pipeline has no such id.
            kwargs: see `DiffusionPipeline.save_pretrained`.

        Raises:
            ValueError: where the folder would not load again: without Stable Diffusion and without an id, or with
                components that are not here; and as `MaskPipeline.save_pretrained` says.
        """
        if include_stable_diffusion is None:
            include_stable_diffusion = self.config.stable_diffusion is None
        if include_stable_diffusion:
            missing = [name for name in ("unet", "vae", "scheduler") if getattr(self, name) is None]
            if missing:
                raise ValueError(f"`include_stable_diffusion` must be False: the pipeline has no `{missing[0]}`.")
            super().save_pretrained(save_directory, safe_serialization, **kwargs)
            return
        if self.config.stable_diffusion is None:
            raise ValueError(
                "`include_stable_diffusion` may be False only where the setting `stable_diffusion` says where Stable "
                "Diffusion is: give it when the pipeline is made or loaded."
            )
        held = {name: getattr(self, name) for name in ("decoder", "prompt_embedding")}
        nothing: dict[str, Any] = dict.fromkeys(COMPONENTS)
        light = type(self)(**nothing, **held, **self.settings)
        MaskPipeline.save_pretrained(light, save_directory, safe_serialization, **kwargs)

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> Self:
        """Share the Stable Diffusion components with another pipeline in memory, such as an inpainting pipeline.

        Args:
            pipeline: any diffusers pipeline with `unet`, `vae`, `scheduler`, and `text_encoder` and `tokenizer`. Its
                weights keep their device, and without `dtype` theirs. One of this class gives its decoder and settings
                too.
            kwargs: `decoder`, trained on features of this checkpoint, and settings as for the class; and `dtype`, see
                `SafePipeline.from_pipe`.

        Raises:
            ValueError, TypeError: naming the component that is missing; and as the class and `SafePipeline.from_pipe`
                say.
        """
        dtype = take_dtype(kwargs)
        if isinstance(pipeline, cls):
            own = {name: getattr(pipeline, name) for name in ("decoder", "prompt_embedding")}
            kwargs = {**own, **pipeline.settings, **kwargs}
        if kwargs.get("decoder") is None:
            raise ValueError(f"`decoder` must be given: {type(pipeline).__name__} has none.")
        made = cls(**components_of(pipeline), **kwargs)
        return made if dtype is None else made.to(dtype=dtype)

    # Features

    @property
    def extractor(self) -> DiffusionFeatureExtractor:
        """What makes the features: the pipeline's own components and settings.

        Raises:
            ValueError: naming the component that is missing.
        """
        # Called, not read: with sequential offloading the weight is there only during a call.
        embeds = self._prompt_embeds if self.prompt_embedding is None else self.prompt_embedding()
        needed = ["unet", "vae", "scheduler", *(["text_encoder", "tokenizer"] if embeds is None else [])]
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(
                f"`{missing[0]}` is missing. A folder without Stable Diffusion must be loaded by `SDAmodalPipeline."
                f"from_pretrained`, which gets it from the setting `stable_diffusion`, here "
                f"{self.config.stable_diffusion!r}; instead of a text encoder a `prompt_embedding` will do."
            )
        names = ("time_step", "num_draws", "noise_seed", "resolution", "draw_batch_size")
        return DiffusionFeatureExtractor(
            *(getattr(self, name) for name in ("unet", "vae", "scheduler", "text_encoder", "tokenizer")),
            prompt_embeds=embeds,
            up_blocks=_parse_up_blocks(self.config.up_blocks),
            **{name: self.config[name] for name in names},
        )

    @torch.no_grad()
    def drop_text_encoder(self) -> None:
        """Keep the embedding of the empty prompt, and let go of text encoder and tokenizer.

        A folder saved afterwards has a `prompt_embedding` instead of them.
        """
        if self.prompt_embedding is None:
            self.register_modules(prompt_embedding=PromptEmbedding.from_tensor(self._encoded_prompt()))
        self.register_modules(text_encoder=None, tokenizer=None)

    def encode_image(
        self, image: Any, *, num_draws: int | None = None, keep_draws: bool = False, generator: Any = None
    ) -> Any:
        """One pass of Stable Diffusion over a photo, for any number of later calls with `features=`.

        Args:
            image: the photo in any form that `load_image` reads, or a list of these.
            num_draws: number of noise draws; None takes the pipeline's.
            keep_draws: keep every draw, which `return_uncertainty` needs; the maps take `num_draws` times the memory.
            generator: `torch.Generator` of the noise, or a list with one a photo; None takes a new one from the
                setting `noise_seed`, so that a call repeats.

        Returns:
            `ImageFeatures`, or a list of them for a list of photos.

        Raises:
            ValueError, TypeError: naming the argument.
        """
        batched = isinstance(image, list | tuple)
        photos = list(image) if batched else [image]
        features = self._encode(photos, num_draws=num_draws, keep_draws=keep_draws, generator=generator)
        self.maybe_free_model_hooks()
        return features if batched else features[0]

    def _encode(self, photos: Sequence[Any], **options: Any) -> list[ImageFeatures]:
        self._encoded_prompt()
        return self.extractor(list(photos), **options)

    def _encoded_prompt(self) -> Tensor:
        """The embedding of the empty prompt, computed once ever: `extractor` is a new object each time."""
        if self._prompt_embeds is None:
            self._prompt_embeds = self.extractor.prompt_embeds
        return self._prompt_embeds

    # The call

    @mask_call
    def __call__(
        self,
        image: Any,
        masks: Any,
        *,
        occluder_masks: Any = None,
        category_ids: Any = None,
        features: ImageFeatures | Sequence[ImageFeatures | None] | None = None,
        num_draws: int | None = None,
        return_uncertainty: bool = False,
        mask_threshold: float | str | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        batch_size: int | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback: PipelineCallback | None = None,
    ) -> AmodalPipelineOutput | tuple[Any, ...]:
        """Complete the mask of each object.

        Args:
            image: the photo in any form that `load_image` reads, or a list of these; None where `features` are given.
            masks: modal masks, one (H, W) or a stack (N, H, W) in any form that `to_mask_stack` reads; a list of stacks
                where `image` is a list.
            occluder_masks: checked, so that the same call suits every mask pipeline, but without influence: the network
                takes no occluders.
            category_ids: (N,) integers, 0 where unknown; checked, but without influence.
            features: of `encode_image`, instead of a pass of Stable Diffusion; a list where `image` is a list, with
                None for a photo to encode.
            num_draws: number of noise draws, not with `features`; None takes the checkpoint's.
            return_uncertainty: also decode every noise draw by itself, `num_draws` times the work after the encoding.
                Given features must have kept their draws (`encode_image(..., keep_draws=True)`).
            mask_threshold: of P(object) in [0, 1); None takes the checkpoint's.
            generator: of the noise, see `encode_image`; not with `features`.
            batch_size: crops in one pass through the decoder; None suits it to the device.
            output_type: "np", "pt", "pil" or "compact", see `AmodalPipelineOutput`.
            return_dict: False returns a tuple of all fields of `AmodalPipelineOutput` in their order.
            callback: called as `callback(pipeline, stage, done, total)` when a stage begins and after every batch, see
                `PipelineCallback`; if it returns False, the call ends with `CallInterruptedError`.

        Returns:
            `AmodalPipelineOutput`; `order` is None. The masks are those of the features averaged over the draws, with
            `return_uncertainty` and without. `uncertainty` is the standard deviation of P(object) between the single
            draws: how far the answer hangs on the noise; 0 outside of the crop box, and on visible pixels with
            `keep_modal`. A mask without visible pixels gives empty results, and Stable Diffusion does not run where no
            mask of a photo has any.

        Raises:
            ValueError: naming the argument: no photo and no features, sizes that differ, features of another number of
                channels, numbers out of range, `return_uncertainty` with less than two draws.
            TypeError: naming the argument that is of another kind, or that this pipeline does not take.
            CallInterruptedError: by the callback.
        """
        if image is None and isinstance(features, list | tuple):
            image = [None] * len(features)
        self._check_draws(features, num_draws, generator, return_uncertainty)
        return self.complete(
            image,
            masks,
            occluder_masks=occluder_masks,
            category_ids=category_ids,
            features=features,
            num_draws=num_draws,
            return_uncertainty=return_uncertainty,
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
        """Stable Diffusion looks at the photo."""
        return True

    def check_scene(self, scene: MaskInputs) -> None:
        """Refuse a scene without photo and features, and features of another photo or Stable Diffusion."""
        features, suffix = scene.features, scene.suffix
        if features is None and scene.photo is None:
            raise ValueError(f"`image{suffix}` must be given, or `features` that `encode_image` made of it.")
        if features is None:
            return
        if not isinstance(features, ImageFeatures):
            raise TypeError(f"`features{suffix}` must be ImageFeatures, got {type(features).__name__}.")
        photo = (features.height, features.width)
        if photo != scene.size:
            raise ValueError(
                f"`features{suffix}` are of a photo of size (height, width) {photo}, `masks{suffix}` of {scene.size}."
            )
        wanted = tuple(self.decoder.config.feature_channels)
        if features.channels != wanted:
            raise ValueError(
                f"`features{suffix}` must have maps of {wanted} channels, as the decoder, got {features.channels}."
            )

    def _check_draws(self, features: Any, num_draws: int | None, generator: Any, return_uncertainty: bool) -> None:
        given = list(features) if isinstance(features, list | tuple) else [features]
        for name, value in {"num_draws": num_draws, "generator": generator}.items():
            if value is not None and given and all(found is not None for found in given):
                raise ValueError(f"`{name}` has no influence on given `features`; pass it to `encode_image`.")
        draws = self.config.num_draws if num_draws is None else check_integer("num_draws", num_draws, 1)
        if check_flag("return_uncertainty", return_uncertainty) and any(
            getattr(found, "num_draws", draws) < 2 for found in given
        ):
            raise ValueError(
                "`return_uncertainty` needs two draws at least: `num_draws` of 2 or more, or `features` made with "
                "`encode_image(..., keep_draws=True)`."
            )

    def read_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The number of draws, whether to decode each, and the threshold."""
        draws = self.config.num_draws if options["num_draws"] is None else int(options["num_draws"])
        threshold = self._mask_threshold(options["mask_threshold"])
        return {**options, "num_draws": draws, "mask_threshold": threshold}

    def output_fields(self, call: MaskCall) -> tuple[str, ...]:
        """The uncertainty, where it is asked for."""
        return ("uncertainty",) if call.options["return_uncertainty"] else ()

    # 2.

    def crop(self, call: MaskCall) -> ObjectPatches:
        """Crop the masks; the crops of the features are made photo by photo."""
        return self.crop_objects(call.scenes, crop=self.config.crop)

    # 3.

    def predict(self, call: MaskCall, crops: ObjectPatches) -> Iterator[ScenePrediction]:
        """Encode some photos, as many as share a pass, and decode their objects before the next ones."""
        photos = max(1, (self.config.draw_batch_size or 1) // call.options["num_draws"])
        with self.progress("masks", sum(map(len, call.scenes)), call.callback) as advance:
            for part in batches(len(call.scenes), photos):
                features = self.encode_scenes(call, part)
                for index in range(part.start, part.stop):
                    yield self.decode_scene(call, crops, index, features.pop(index, None))
                    advance(len(call.scenes[index]))

    def encode_scenes(self, call: MaskCall, part: slice) -> dict[int, ImageFeatures]:
        """The features of the scenes in `part` that have something to complete, by index: the given ones, or new."""
        wanted = [index for index in range(part.start, part.stop) if call.scenes[index].visible.any()]
        found = {index: call.scenes[index].features for index in wanted if call.scenes[index].features is not None}
        missing = [index for index in wanted if index not in found]
        if missing:
            generators = [call.generators[index] for index in missing]
            made = self._encode(
                [call.scenes[index].photo for index in missing],
                num_draws=call.options["num_draws"],
                keep_draws=call.options["return_uncertainty"],
                generator=None if None in generators else generators,
            )
            found.update(zip(missing, made, strict=True))
        return found

    def decode_scene(
        self, call: MaskCall, crops: ObjectPatches, index: int, features: ImageFeatures | None
    ) -> ScenePrediction:
        """Decode the objects with visible pixels of the scene at `index`: P(object), and its deviation if asked for."""
        where = crops.scenes[index]
        modal, boxes = crops.modal[where], crops.boxes[where]
        rows = modal.any(dim=2).any(dim=1).nonzero()[:, 0]  # [K]
        spread = call.options["return_uncertainty"]
        channels = torch.empty(len(rows), 2 if spread else 1, *modal.shape[1:], device=modal.device)
        if features is None:  # no object is visible
            return ScenePrediction(rows, channels)
        features = features.to(modal.device, self.decoder.dtype).channels_last()
        mean = features.mean()
        for part in batches(len(rows), call.batch_size):
            objects = modal[rows[part]], boxes[rows[part].cpu()]
            channels[part, 0] = self.decode(*objects, mean, call.batch_size)[0]
            if spread:
                channels[part, 1] = self.decode(*objects, features, call.batch_size).std(dim=0)
        return ScenePrediction(rows, channels)

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


def _parse_up_blocks(text: str) -> tuple[int, ...]:
    """Indices of a text such as "0,1,2,3"; ValueError naming the setting for another text."""
    try:
        return tuple(int(block) for block in text.split(","))
    except ValueError as error:
        raise ValueError(f"`up_blocks` must be indices with commas, such as '0,1,2,3', got {text!r}.") from error
