"""Features of photos from a frozen Stable Diffusion U-Net, as SDAmodal uses them [Z24]."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from diffusers import DDIMScheduler
from PIL import Image
from torch import Tensor, nn

from ...arguments.numeric import check_integer
from ...crops.features import FEATURE_CROPS, crop_features
from ...display import short_repr
from ...hub import HUB_KEYS
from ...images import load_image
from ..contexts import evaluation_mode
from ..inputs import batches
from .attention import quick_attention
from .components import (
    INPAINTING_CHANNELS,
    check_components,
    components_of,
    encode_empty_prompt,
    execution_device,
    fingerprint,
    load_components,
)

__all__ = ["FEATURE_CROPS", "DiffusionFeatureExtractor", "ImageFeatures", "crop_features"]

TIME_STEP = 181
NUM_DRAWS = 8
NOISE_SEED = 0
RESOLUTION = 768
UP_BLOCKS = (0, 1, 2, 3)


@dataclass
class ImageFeatures:
    """What Stable Diffusion's U-Net makes of one photo.

    Args:
        maps: (D, C_k, h_k, w_k) each, one map for each up block asked for, all on one device and of one dtype. They
            cover the whole photo, squashed to a square. D is 1 where the noise draws were averaged, else their number.
        height: of the photo in pixels.
        width: of the photo in pixels.

    Example:
        >>> features = ImageFeatures((torch.zeros(8, 16, 4, 4), torch.zeros(8, 8, 8, 8)), height=30, width=40)
        >>> features.num_draws, features.channels, features.mean().num_draws
        (8, (16, 8), 1)
    """

    maps: tuple[Tensor, ...]
    height: int
    width: int

    __repr__ = short_repr

    @property
    def num_draws(self) -> int:
        """Rows of the maps: 1 after averaging."""
        return len(self.maps[0])

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each map."""
        return tuple(feature.shape[1] for feature in self.maps)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "ImageFeatures":
        """The same features on another device or in another dtype; None keeps it."""
        return replace(self, maps=tuple(feature.to(device=device, dtype=dtype) for feature in self.maps))

    def channels_last(self) -> "ImageFeatures":
        """The same features with the channels last in memory, which spares a copy of the maps at every crop."""
        return replace(self, maps=tuple(feature.contiguous(memory_format=torch.channels_last) for feature in self.maps))

    def mean(self) -> "ImageFeatures":
        """The features averaged over the draws, in float32 and rounded once to the dtype of the maps."""
        if self.num_draws == 1:
            return self
        means = (feature.mean(0, keepdim=True, dtype=torch.float32).to(feature.dtype) for feature in self.maps)
        return replace(self, maps=tuple(means))


class DiffusionFeatureExtractor:
    """Stock components of a Stable Diffusion 1.x/2.x checkpoint -> up-block features of photos. Source: [Z24].

    A photo is squashed to a square, encoded by the VAE, noised at one time step, and goes through the U-Net once with
    the empty prompt; what the chosen up blocks hand on is the result, averaged over several draws of the noise. Nothing
    is trained: evaluation mode and no gradients, whatever the modules are set to. What the U-Net was trained to predict
    (noise, or velocity as in 2.1) makes no difference, since its prediction is never computed: the pass ends after the
    last up block asked for.

    The draws of a photo depend on `noise_seed` alone, neither on the device nor on the other photos of a call, and
    fewer draws are the first ones of more. Each draws the latent from the VAE's distribution as well as the noise.

    An inpainting U-Net (9 input channels) is told that nothing is masked: an empty mask and the photo itself. Its
    features are not those of the text-to-image U-Net, so it needs a decoder of its own.

    In bfloat16 on a CPU with AVX-512 but no AMX, long self-attention is computed in blocks of queries, which takes less
    time: a call sets attention processors for that (`BlockedAttnProcessor`) and puts the U-Net's own back at the end.

    Args:
        unet: `UNet2DConditionModel`.
        vae: `AutoencoderKL`. In float16 it is brought to float32 for the encoding where its configuration says
            `force_upcast`, since some overflow.
        scheduler: any diffusers scheduler of the checkpoint; its noise schedule is used as DDIM adds noise.
        text_encoder: `CLIPTextModel`; not needed with `prompt_embeds`.
        tokenizer: `CLIPTokenizer`; not needed with `prompt_embeds`.
        prompt_embeds: (1, tokens, channels), the embedding of the empty prompt.
        time_step: how much noise is added, from 0 to the schedule's length less 1.
        num_draws: number of noise draws.
        noise_seed: of their random numbers.
        resolution: side in pixels of the square that photos are squashed to.
        up_blocks: indices of the up blocks, ascending.
        draw_batch_size: draws in one pass through the U-Net; None takes all draws of one photo, on a CPU one, whose
            maps stay in its caches. More than `num_draws` takes several photos at once.

    Raises:
        ValueError, TypeError: naming the component or setting that is missing, out of range, or of another kind of
            checkpoint.

    Example:
        >>> from diffusers import AutoencoderKL, UNet2DConditionModel
        >>> unet = UNet2DConditionModel(
        ...     block_out_channels=(8, 8), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), layers_per_block=1,
        ...     up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), norm_num_groups=4, cross_attention_dim=8,
        ...     attention_head_dim=4,
        ... )
        >>> vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2)
        >>> settings = {"prompt_embeds": torch.zeros(1, 3, 8), "resolution": 16, "num_draws": 2, "up_blocks": (0, 1)}
        >>> extractor = DiffusionFeatureExtractor(unet, vae, DDIMScheduler(), **settings)
        >>> (features,) = extractor([np.zeros((20, 30, 3), dtype=np.uint8)])
        >>> features.channels, [tuple(feature.shape) for feature in features.maps]
        ((8, 8), [(1, 8, 16, 16), (1, 8, 16, 16)])
    """

    def __init__(
        self,
        unet: Any,
        vae: Any,
        scheduler: Any,
        text_encoder: Any = None,
        tokenizer: Any = None,
        *,
        prompt_embeds: Tensor | None = None,
        time_step: int = TIME_STEP,
        num_draws: int = NUM_DRAWS,
        noise_seed: int = NOISE_SEED,
        resolution: int = RESOLUTION,
        up_blocks: Sequence[int] = UP_BLOCKS,
        draw_batch_size: int | None = None,
    ) -> None:
        check_components(unet, vae, scheduler)
        if prompt_embeds is None and (text_encoder is None or tokenizer is None):
            missing = "text_encoder" if text_encoder is None else "tokenizer"
            raise ValueError(f"`{missing}` must be given, or else `prompt_embeds`, the embedding of the empty prompt.")
        self.unet, self.vae = unet, vae
        self.text_encoder, self.tokenizer = text_encoder, tokenizer
        self.scheduler = scheduler if type(scheduler) is DDIMScheduler else DDIMScheduler.from_config(scheduler.config)
        self.time_step = check_time_step(time_step, self.scheduler.config.num_train_timesteps)
        self.num_draws = check_integer("num_draws", num_draws, 1)
        self.noise_seed = check_integer("noise_seed", noise_seed, 0)
        self.up_blocks = check_up_blocks(up_blocks, len(unet.config.block_out_channels))
        self.vae_scale = 2 ** (len(vae.config.block_out_channels) - 1)
        self.resolution = check_resolution(resolution, self.vae_scale * 2 ** (len(unet.config.block_out_channels) - 1))
        self.draw_batch_size = None if draw_batch_size is None else check_integer("draw_batch_size", draw_batch_size, 1)
        self._prompt_embeds = None if prompt_embeds is None else check_prompt_embeds(prompt_embeds, unet)
        self._fingerprint: str | None = None

    @classmethod
    def from_pretrained(
        cls,
        id_or_path: str | os.PathLike[str],
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        variant: str | None = None,
        **settings: Any,
    ) -> "DiffusionFeatureExtractor":
        """Load the components of any Stable Diffusion 1.x/2.x checkpoint.

        Args:
            id_or_path: folder of a saved diffusers pipeline, or its Hub id.
            dtype: of the weights; None takes float32.
            device: where to; None leaves them on the CPU.
            variant: of the weight files, such as "fp16".
            settings: as for the class; or `revision`, `cache_dir`, `token`, `local_files_only`, `force_download`,
                `proxies` for the Hub.

        Raises:
            FileNotFoundError, ValueError, OSError: as `load_components` says, and as the class says of its settings.
        """
        hub_options = {key: settings.pop(key) for key in HUB_KEYS if key in settings}
        components = load_components(id_or_path, dtype=dtype, variant=variant, **hub_options)
        if device is not None:
            for name in ("unet", "vae", "text_encoder"):
                components[name] = components[name].to(device)
        return cls(**components, **settings)

    @classmethod
    def from_pipe(cls, pipeline: Any, **settings: Any) -> "DiffusionFeatureExtractor":
        """Share the components with another pipeline in memory, such as a `StableDiffusionInpaintPipeline`.

        Args:
            pipeline: any diffusers pipeline with `unet`, `vae`, `scheduler`, and `text_encoder` and `tokenizer`.
            settings: as for the class.

        Raises:
            ValueError: naming the component that the pipeline has not.
        """
        return cls(**components_of(pipeline), **settings)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of each map."""
        widths = list(reversed(self.unet.config.block_out_channels))
        return tuple(widths[block] for block in self.up_blocks)

    @property
    def feature_sizes(self) -> tuple[int, ...]:
        """Side of each map. Every up block but the last doubles it: the maps are taken after that."""
        latent, levels = self.resolution // self.vae_scale, len(self.unet.config.block_out_channels)
        return tuple(latent // 2 ** max(levels - 2 - block, 0) for block in self.up_blocks)

    @property
    def device(self) -> torch.device:
        """Where the U-Net computes."""
        return execution_device(self.unet)

    @property
    def dtype(self) -> torch.dtype:
        """Of the U-Net, and so of the maps."""
        return self.unet.dtype

    @property
    def prompt_embeds(self) -> Tensor:
        """(1, tokens, channels), the embedding of the empty prompt; computed once."""
        if self._prompt_embeds is None:
            with torch.no_grad(), evaluation_mode(self.text_encoder):
                device = execution_device(self.text_encoder)
                embeds = encode_empty_prompt(self.tokenizer, self.text_encoder, device)
            self._prompt_embeds = check_prompt_embeds(embeds, self.unet)
        return self._prompt_embeds

    def drop_text_encoder(self) -> None:
        """Encode the empty prompt, then let go of text encoder and tokenizer: nothing needs them any more."""
        self._prompt_embeds = self.prompt_embeds
        self.text_encoder = self.tokenizer = None

    def describe(self) -> dict[str, Any]:
        """All that the features depend on, as JSON-able values: the key of a cache of features.

        The checkpoint is told by a hash of its configuration and of some of its weights, so the same checkpoint has the
        same key from the Hub and from a folder.

        Raises:
            ValueError: where the weights are offloaded one by one; describe first.
        """
        if self._fingerprint is None:
            self._fingerprint = fingerprint({"unet": self.unet, "vae": self.vae}, self.prompt_embeds)
        return {
            "checkpoint": self._fingerprint,
            "time_step": self.time_step,
            "num_draws": self.num_draws,
            "noise_seed": self.noise_seed,
            "resolution": self.resolution,
            "up_blocks": list(self.up_blocks),
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    @torch.no_grad()
    def __call__(
        self,
        images: Sequence[Any],
        *,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        keep_draws: bool = False,
        num_draws: int | None = None,
    ) -> list[ImageFeatures]:
        """The features of photos.

        Args:
            images: list of photos in any form that `load_image` reads.
            generator: of the random numbers, one, or one a photo; None takes a new one from `noise_seed` for each.
            keep_draws: keep a row for each draw instead of their mean.
            num_draws: instead of the setting.

        Returns:
            One `ImageFeatures` a photo, on the device and in the dtype of the U-Net, channels last in memory. The draws
            are averaged in float32.

        Raises:
            TypeError: where `images` is no list.
            ValueError: naming the argument: a photo that cannot be read, generators that are too few, `num_draws`.
        """
        if not isinstance(images, list | tuple):
            raise TypeError(f"`images` must be a list of photos, got {type(images).__name__}.")
        draws = self.num_draws if num_draws is None else check_integer("num_draws", num_draws, 1)
        generators = _generators(generator, len(images), self.noise_seed)
        photos = [load_image(image) for image in images]
        prompt = self.prompt_embeds
        plain = torch.autocast(self.device.type, enabled=False)
        with plain, evaluation_mode(self.unet, self.vae), quick_attention(self.unet):
            latents = [self._encode(photo) for photo in photos]  # (mean, std) [1, 4, h, w] each
            random = [
                self._draw(latent[0].shape[1:], draws, one) for latent, one in zip(latents, generators, strict=True)
            ]
            collected = self._collect(latents, random, prompt, draws, keep_draws)
        return [
            ImageFeatures(tuple(maps), photo.height, photo.width).channels_last()
            for photo, maps in zip(photos, collected, strict=True)
        ]

    def _encode(self, photo: Image.Image) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the scaled latent, (1, 4, h, w) float32 each."""
        squashed = photo.resize((self.resolution, self.resolution), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(squashed)).permute(2, 0, 1)[None].float() / 127.5 - 1  # [1, 3, R, R]
        with _upcast(self.vae) as dtype:
            distribution = self.vae.encode(pixels.to(self.device, dtype)).latent_dist
        scale = self.vae.config.scaling_factor
        return distribution.mean.float() * scale, distribution.std.float() * scale

    def _draw(self, shape: Sequence[int], draws: int, generator: torch.Generator) -> Tensor:
        """(D, 2, 4, h, w) float32 random numbers: of the latent, and the noise. One draw after the other."""
        numbers = [torch.randn((2, *shape), generator=generator, device=generator.device) for _ in range(draws)]
        return torch.stack(numbers).to(self.device)

    def _collect(
        self, latents: list[tuple[Tensor, Tensor]], random: list[Tensor], prompt: Tensor, draws: int, keep_draws: bool
    ) -> list[list[Tensor]]:
        """The maps of every photo; draws go through the U-Net in batches that may span photos."""
        rows = [(photo, draw) for photo in range(len(latents)) for draw in range(draws)]
        kept: list[list[list[Tensor]]] = [[[] for _ in self.up_blocks] for _ in latents]
        default = 1 if self.device.type == "cpu" else draws
        for part in batches(len(rows), self.draw_batch_size or default):
            owners = [photo for photo, _ in rows[part]]
            mean, std = (torch.cat([latents[photo][index] for photo in owners]) for index in (0, 1))
            numbers = torch.stack([random[photo][draw] for photo, draw in rows[part]])  # [B, 2, 4, h, w]
            maps = self._up_block_maps(mean, std, numbers, prompt)  # [B, C_k, h_k, w_k] each
            for photo in dict.fromkeys(owners):
                first, count = owners.index(photo), owners.count(photo)
                for parts, feature in zip(kept[photo], maps, strict=True):
                    mine = feature[first : first + count]
                    if keep_draws:
                        parts.append(mine)
                    else:
                        total = mine.sum(0, keepdim=True, dtype=torch.float32)
                        parts[:] = [parts[0] + total] if parts else [total]
        if keep_draws:
            return [[torch.cat(parts) for parts in photo] for photo in kept]
        return [[(total / draws).to(self.dtype) for (total,) in photo] for photo in kept]

    def _up_block_maps(self, mean: Tensor, std: Tensor, numbers: Tensor, prompt: Tensor) -> list[Tensor]:
        """One pass through the U-Net: latents (B, 4, h, w), numbers (B, 2, 4, h, w) -> (B, C_k, h_k, w_k) each."""
        step = torch.full((len(mean),), self.time_step, device=mean.device, dtype=torch.int64)
        sample = self.scheduler.add_noise(mean + std * numbers[:, 0], numbers[:, 1], step)  # [B, 4, h, w]
        if self.unet.config.in_channels == INPAINTING_CHANNELS:
            nothing_masked = torch.zeros_like(sample[:, :1])
            sample = torch.cat([sample, nothing_masked, mean], dim=1)  # [B, 9, h, w]
        prompt = prompt.to(mean.device, self.dtype).expand(len(mean), -1, -1)  # [B, tokens, channels]
        with _stop_after(self.unet.up_blocks, self.up_blocks) as maps:
            try:
                self.unet(sample.to(self.dtype), step, encoder_hidden_states=prompt, return_dict=False)
            except _LastBlockDone:
                pass
        return [maps[block] for block in self.up_blocks]


class _LastBlockDone(Exception):  # noqa: N818 - it is no error
    """Ends a pass through the U-Net."""


@contextmanager
def _stop_after(blocks: nn.ModuleList, wanted: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Keeps what the wanted blocks hand on, and ends the pass after the last of them.

    The U-Net itself is called, not its parts one by one: only so do the hooks of offloading, of adapters and of
    attention work as everywhere else. Another thread that uses the U-Net meanwhile is left alone.
    """
    maps: dict[int, Tensor] = {}
    thread = threading.get_ident()

    def keep(index: int) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if threading.get_ident() != thread:
                return
            maps[index] = output
            if index == wanted[-1]:
                raise _LastBlockDone

        return hook

    handles = [blocks[index].register_forward_hook(keep(index)) for index in wanted]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


_looking = threading.Lock()
_upcasting: "WeakKeyDictionary[nn.Module, threading.Lock]" = WeakKeyDictionary()  # one VAE changes for all threads


@contextmanager
def _upcast(vae: Any) -> Iterator[torch.dtype]:
    """The dtype to encode in: float32 for a float16 VAE that would overflow, which is brought back afterwards.

    Several threads may have the VAE; with one that may have to change, one thread encodes at a time.
    """
    if not getattr(vae.config, "force_upcast", False):
        yield vae.dtype
        return
    with _looking:
        alone = _upcasting.setdefault(vae, threading.Lock())
    with alone:
        needed = vae.dtype == torch.float16
        if not needed:
            yield vae.dtype
            return
        vae.to(torch.float32)
        try:
            yield torch.float32
        finally:
            vae.to(torch.float16)


def check_time_step(time_step: Any, steps: int) -> int:
    """`time_step` where the noise schedule has it; ValueError or TypeError naming it otherwise.

    Example:
        >>> check_time_step(181, 1000)
        181
        >>> check_time_step(1000, 1000)
        Traceback (most recent call last):
            ...
        ValueError: `time_step` must lie in [0, 1000), the steps of the scheduler, got 1000.
    """
    if check_integer("time_step", time_step, 0) >= steps:
        raise ValueError(f"`time_step` must lie in [0, {steps}), the steps of the scheduler, got {time_step}.")
    return int(time_step)


def check_resolution(resolution: Any, multiple: int) -> int:
    """`resolution` where VAE and U-Net can halve it all the way down; ValueError or TypeError naming it otherwise.

    Example:
        >>> check_resolution(768, 64)
        768
    """
    if check_integer("resolution", resolution, 1) % multiple:
        raise ValueError(
            f"`resolution` must be a multiple of {multiple}, by which VAE and U-Net reduce a photo, got {resolution}."
        )
    return int(resolution)


def check_up_blocks(up_blocks: Any, count: int) -> tuple[int, ...]:
    """`up_blocks` where they are ascending indices of the U-Net's; ValueError or TypeError naming them otherwise.

    Example:
        >>> check_up_blocks([0, 1], 4)
        (0, 1)
        >>> check_up_blocks([1, 0], 4)
        Traceback (most recent call last):
            ...
        ValueError: `up_blocks` must be ascending and different, got (1, 0).
    """
    if not isinstance(up_blocks, list | tuple) or not up_blocks:
        raise TypeError(f"`up_blocks` must be a list of indices, got {up_blocks!r}.")
    indices = tuple(check_integer("up_blocks", index, 0) for index in up_blocks)
    if max(indices) >= count:
        raise ValueError(f"`up_blocks` must lie in [0, {count}), the up blocks of the U-Net, got {indices}.")
    if any(first >= second for first, second in zip(indices, indices[1:], strict=False)):
        raise ValueError(f"`up_blocks` must be ascending and different, got {indices}.")
    return indices


def check_prompt_embeds(prompt_embeds: Any, unet: Any) -> Tensor:
    """`prompt_embeds` where the U-Net can read them; ValueError or TypeError naming them otherwise.

    Example:
        >>> from diffusers import UNet2DConditionModel
        >>> unet = UNet2DConditionModel(
        ...     block_out_channels=(8, 8), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), layers_per_block=1,
        ...     up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), norm_num_groups=4, cross_attention_dim=8,
        ...     attention_head_dim=4,
        ... )
        >>> check_prompt_embeds(torch.zeros(1, 77, 8), unet).shape
        torch.Size([1, 77, 8])
    """
    if not isinstance(prompt_embeds, Tensor):
        raise TypeError(f"`prompt_embeds` must be a tensor, got {type(prompt_embeds).__name__}.")
    width = unet.config.cross_attention_dim
    if prompt_embeds.ndim != 3 or len(prompt_embeds) != 1 or prompt_embeds.shape[2] != width:
        raise ValueError(
            f"`prompt_embeds` must have shape (1, tokens, {width}), the last being the U-Net's "
            f"`cross_attention_dim`, got {tuple(prompt_embeds.shape)}: are U-Net and text encoder of one checkpoint?"
        )
    return prompt_embeds


def _generators(
    generator: torch.Generator | Sequence[torch.Generator] | None, count: int, seed: int
) -> list[torch.Generator]:
    if generator is None:
        return [torch.Generator("cpu").manual_seed(seed) for _ in range(count)]
    if isinstance(generator, torch.Generator):
        return [generator] * count
    if len(generator) != count:
        raise ValueError(f"`generator` must be one, or one for each of the {count} photos, got {len(generator)}.")
    return list(generator)
