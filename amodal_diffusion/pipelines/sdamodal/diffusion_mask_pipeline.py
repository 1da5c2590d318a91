"""What pipelines on features of Stable Diffusion share: where its components come from, and the features."""

import os
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from ...hub import HUB_KEYS, PipelineFolder, holds_component
from ...models.prompt_embedding import PromptEmbedding
from ..completion.mask_pipeline import MaskPipeline
from ..inputs import check_integer
from .components import COMPONENTS, components_of, load_components
from .features import DiffusionFeatureExtractor, ImageFeatures


class DiffusionMaskPipeline(MaskPipeline):
    """Base class of the mask pipelines that look at features of a frozen Stable Diffusion 1.x/2.x.

    Its stock components can be shared with any pipeline of the same base (`from_pipe`). A folder may hold them, or only
    the mask networks and the id where they are (`save_pretrained(..., include_stable_diffusion=False)`). A subclass
    registers `unet`, `vae`, `text_encoder`, `tokenizer`, `scheduler`, `prompt_embedding` and its mask networks, and
    calls `register_diffusion` at the end of `__init__`.
    """

    _optional_components = [*COMPONENTS, "prompt_embedding"]

    def register_diffusion(
        self,
        *,
        stable_diffusion: str | None,
        time_step: int,
        num_draws: int,
        noise_seed: int,
        resolution: int,
        up_blocks: Sequence[int] | str,
        draw_batch_size: int | None,
    ) -> None:
        """Store the settings of the features, see `DiffusionFeatureExtractor`, and check the components.

        Raises:
            ValueError, TypeError: naming the setting or the component.
        """
        if stable_diffusion is not None and not isinstance(stable_diffusion, str):
            raise TypeError(f"`stable_diffusion` must be a Hub id or the path of a folder, got {stable_diffusion!r}.")
        self.register_to_config(
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
            self.check_diffusion(self.extractor)

    def check_diffusion(self, extractor: DiffusionFeatureExtractor) -> None:
        """Refuse a Stable Diffusion that does not fit the mask networks; a subclass does this."""

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
        held = {name: getattr(self, name) for name in (*self.mask_networks, "prompt_embedding")}
        light = type(self)(**dict.fromkeys(COMPONENTS), **held, **self.settings)
        MaskPipeline.save_pretrained(light, save_directory, safe_serialization, **kwargs)

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> Self:
        """Share the Stable Diffusion components with another pipeline in memory, such as an inpainting pipeline.

        Args:
            pipeline: any diffusers pipeline with `unet`, `vae`, `scheduler`, and `text_encoder` and `tokenizer`. Its
                weights keep their dtype and device. One of this class gives its mask networks and settings too.
            kwargs: mask networks, trained on features of this checkpoint, by name (`decoder=...`), and settings as for
                the class.

        Raises:
            ValueError: naming the component that is missing; and as the class says.
        """
        if isinstance(pipeline, cls):
            own = {name: getattr(pipeline, name) for name in (*cls.mask_networks, "prompt_embedding")}
            kwargs = {**own, **pipeline.settings, **kwargs}
        for name in cls.mask_networks:
            if kwargs.get(name) is None:
                raise ValueError(f"`{name}` must be given: a {type(pipeline).__name__} has none.")
        return cls(**components_of(pipeline), **kwargs)

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


def _parse_up_blocks(text: str) -> tuple[int, ...]:
    """Indices of a text such as "0,1,2,3"; ValueError naming the setting for another text."""
    try:
        return tuple(int(block) for block in text.split(","))
    except ValueError as error:
        raise ValueError(f"`up_blocks` must be indices with commas, such as '0,1,2,3', got {text!r}.") from error
