"""The stock components of a Stable Diffusion 1.x/2.x checkpoint: loaded, checked, and told apart from others."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from ...hub import check_hub_id
from ..inputs import is_network

COMPONENTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
PLAIN_CHANNELS = 4
INPAINTING_CHANNELS = 9
_CLASSES: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "tokenizer": CLIPTokenizer,
    "scheduler": DDIMScheduler,
}
_WEIGHTED = ("unet", "vae", "text_encoder")
# Settings of a U-Net that make it want more than latents, time step and text, and who has them.
_FOREIGN_SETTINGS = {
    "addition_embed_type": "as SDXL",
    "encoder_hid_dim_type": "as Kolors and IF",
    "class_embed_type": "as unCLIP",
    "num_class_embeds": "as the upscaler",
}
_VALUES_A_WEIGHT = 16


def load_components(
    id_or_path: str | os.PathLike[str],
    *,
    dtype: torch.dtype | Mapping[str, torch.dtype] | None = None,
    revision: str | None = None,
    variant: str | None = None,
    skip: tuple[str, ...] = (),
    **hub_options: Any,
) -> dict[str, Any]:
    """Load what features need of a Stable Diffusion 1.x/2.x checkpoint, and nothing else of its repository.

    Args:
        id_or_path: folder of a saved diffusers pipeline, or its Hub id; text-to-image, image-to-image and inpainting
            pipelines hold the same components.
        dtype: of the weights, for all or by name of the component (and "default"); None takes float32.
        revision: of the Hub repository.
        variant: of the weight files, such as "fp16".
        skip: names of components not to load.
        hub_options: `cache_dir`, `token`, `local_files_only`, `force_download`, `proxies`.

    Returns:
        `unet`, `vae`, `text_encoder`, `tokenizer` and `scheduler` (always DDIM), without those in `skip`.

    Raises:
        FileNotFoundError: no such folder, and no Hub id either.
        ValueError: a file instead of a folder, a folder without one of the components, or a checkpoint that is none of
            Stable Diffusion 1.x/2.x; found out before any weights are loaded.
        OSError: where the Hub does not give a file. Pickled weights are never read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     DDIMScheduler().save_pretrained(Path(folder, "scheduler"))
        ...     list(load_components(folder, skip=("unet", "vae", "text_encoder", "tokenizer")))
        ['scheduler']
    """
    options = {key: value for key, value in {"revision": revision, **hub_options}.items() if value is not None}
    needed = [name for name in COMPONENTS if name not in skip]
    if needed:
        _check_place(id_or_path, needed)
    if "unet" in needed:
        load_unet_config(id_or_path, **options)
    loaded = {}
    for name in needed:
        chosen = dict(options)
        if name in _WEIGHTED:
            own = dtype.get(name, dtype.get("default")) if isinstance(dtype, Mapping) else dtype
            chosen.update(use_safetensors=True, dtype=own or torch.float32)
            if variant is not None:
                chosen["variant"] = variant
        loaded[name] = _CLASSES[name].from_pretrained(id_or_path, subfolder=name, **chosen)
    return loaded


def load_unet_config(id_or_path: str | os.PathLike[str], **hub_options: Any) -> dict[str, Any]:
    """The checked configuration of the U-Net of a Stable Diffusion 1.x/2.x checkpoint; no weights are loaded.

    Raises:
        FileNotFoundError, ValueError, OSError: as `load_components` says.

    Example:
        >>> import tempfile
        >>> from diffusers import UNet2DConditionModel
        >>> unet = UNet2DConditionModel(
        ...     block_out_channels=(8, 8), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), layers_per_block=1,
        ...     up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), norm_num_groups=4, cross_attention_dim=8,
        ...     attention_head_dim=4,
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     unet.save_pretrained(Path(folder, "unet"))
        ...     load_unet_config(folder)["block_out_channels"]
        [8, 8]
    """
    _check_place(id_or_path, ["unet"])
    config = UNet2DConditionModel.load_config(id_or_path, subfolder="unet", **hub_options)
    check_unet_config(config, f"'{os.fspath(id_or_path)}'")
    return dict(config)


def _check_place(id_or_path: str | os.PathLike[str], needed: list[str]) -> None:
    text = os.fspath(id_or_path)
    if not os.path.isdir(text):
        check_hub_id(id_or_path, "the folder of a Stable Diffusion pipeline")
        return
    for name in needed:
        if not Path(text, name).is_dir():
            raise ValueError(f"The folder '{text}' holds no {name}/, so it is no Stable Diffusion 1.x/2.x pipeline.")


def components_of(pipeline: Any) -> dict[str, Any]:
    """The components of another pipeline that features need, the same objects.

    Raises:
        ValueError: naming the component that it has not.

    Example:
        >>> from diffusers import DiffusionPipeline
        >>> components_of(DiffusionPipeline())
        Traceback (most recent call last):
            ...
        ValueError: `pipeline` must have the component `unet`, got DiffusionPipeline without it.
    """
    for name in ("unet", "vae", "scheduler"):
        if getattr(pipeline, name, None) is None:
            raise ValueError(f"`pipeline` must have the component `{name}`, got {type(pipeline).__name__} without it.")
    return {name: getattr(pipeline, name, None) for name in COMPONENTS}


def check_components(unet: Any, vae: Any, scheduler: Any) -> None:
    """Refuse components that are missing or none of a Stable Diffusion 1.x/2.x checkpoint.

    Raises:
        ValueError, TypeError: naming the component.

    Example:
        >>> from diffusers import UNet2DConditionModel
        >>> unet = UNet2DConditionModel(
        ...     block_out_channels=(8, 8), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), layers_per_block=1,
        ...     up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), norm_num_groups=4, cross_attention_dim=8,
        ...     attention_head_dim=4,
        ... )
        >>> vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2)
        >>> check_components(unet, vae, DDIMScheduler())
        >>> check_components(unet, vae, None)
        Traceback (most recent call last):
            ...
        ValueError: `scheduler` must be given: features are made with it.
    """
    for name, value in {"unet": unet, "vae": vae, "scheduler": scheduler}.items():
        if value is None:
            raise ValueError(f"`{name}` must be given: features are made with it.")
    unet = getattr(unet, "_orig_mod", unet)  # of torch.compile
    if not isinstance(unet, UNet2DConditionModel):
        raise TypeError(f"`unet` must be a UNet2DConditionModel (Stable Diffusion 1.x/2.x), got {type(unet).__name__}.")
    check_unet_config(unet.config, "`unet`")
    if not is_network(vae, AutoencoderKL):
        raise TypeError(f"`vae` must be an AutoencoderKL (Stable Diffusion 1.x/2.x), got {type(vae).__name__}.")
    if vae.config.latent_channels != PLAIN_CHANNELS:
        raise ValueError(
            f"`vae` must make {PLAIN_CHANNELS} latent channels as in Stable Diffusion 1.x/2.x, "
            f"got {vae.config.latent_channels}."
        )
    if not hasattr(scheduler, "config") or "num_train_timesteps" not in scheduler.config:
        raise TypeError(f"`scheduler` must be a diffusers scheduler with a config, got {type(scheduler).__name__}.")


def check_unet_config(config: Mapping[str, Any], name: str) -> None:
    """Refuse the configuration of a U-Net that is none of Stable Diffusion 1.x/2.x.

    Args:
        config: of the U-Net.
        name: how errors call it.

    Raises:
        ValueError: naming the setting.

    Example:
        >>> check_unet_config({"in_channels": 4}, "The U-Net")
        >>> check_unet_config({"in_channels": 8}, "The U-Net")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: The U-Net is no Stable Diffusion 1.x/2.x U-Net ...: it takes 8.
    """
    for setting, owner in _FOREIGN_SETTINGS.items():
        if config.get(setting) is not None:
            raise ValueError(
                f"{name} is no Stable Diffusion 1.x/2.x U-Net: `{setting}` is {config[setting]!r} ({owner}), so it "
                "needs inputs that a photo alone does not give."
            )
    channels = config.get("in_channels", PLAIN_CHANNELS)
    if channels not in (PLAIN_CHANNELS, INPAINTING_CHANNELS):
        raise ValueError(
            f"{name} is no Stable Diffusion 1.x/2.x U-Net for text to image ({PLAIN_CHANNELS} input channels) or "
            f"inpainting ({INPAINTING_CHANNELS}): it takes {channels}."
        )


def encode_empty_prompt(tokenizer: Any, text_encoder: nn.Module, device: torch.device) -> Tensor:
    """The embedding of the empty prompt, (1, tokens, channels) in the dtype of the text encoder.

    Example:
        >>> from transformers import CLIPTextConfig
        >>> vocab = {"<|startoftext|>": 0, "<|endoftext|>": 1}
        >>> tokenizer = CLIPTokenizer(vocab=vocab, merges=[], model_max_length=7)
        >>> sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> encoder = CLIPTextModel(CLIPTextConfig(vocab_size=2, bos_token_id=0, eos_token_id=1, **sizes)).eval()
        >>> encode_empty_prompt(tokenizer, encoder, torch.device("cpu")).shape
        torch.Size([1, 7, 8])
    """
    tokens = tokenizer(
        [""], padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    uses_mask = getattr(text_encoder.config, "use_attention_mask", False)
    attention_mask = tokens.attention_mask.to(device) if uses_mask else None
    return text_encoder(tokens.input_ids.to(device), attention_mask=attention_mask)[0]


def execution_device(module: nn.Module) -> torch.device:
    """Where a module computes: with accelerate's offloading that is not where its weights lie.

    Example:
        >>> execution_device(nn.Linear(1, 1))
        device(type='cpu')
    """
    for child in module.modules():
        device = getattr(getattr(child, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(module.parameters()).device


def fingerprint(modules: Mapping[str, Any], *tensors: Tensor) -> str:
    """A hash of configurations, names and a few values of every weight: cheap, and another for another checkpoint.

    Of `tensors`, which were computed, only size and spread count, to three digits: their last bits differ between
    machines.

    Raises:
        ValueError: where weights are not in memory, as with sequential offloading.

    Example:
        >>> from amodal_diffusion import PCNetMask
        >>> model = PCNetMask(block_out_channels=(4, 8), sample_size=32)
        >>> len(fingerprint({"unet": model})), fingerprint({"unet": model}) == fingerprint({"unet": model})
        (32, True)
    """
    digest = hashlib.sha256()
    values = []
    for name, module in modules.items():
        config = {key: value for key, value in module.config.items() if not key.startswith("_")}
        digest.update(json.dumps({name: config}, sort_keys=True, default=str).encode())
        for key, weight in module.named_parameters():
            if weight.is_meta:
                raise ValueError(f"The weights of `{name}` are offloaded; take the description before offloading.")
            digest.update(f"{name}.{key}{tuple(weight.shape)}".encode())
            # Along one axis alone: flattening would copy the whole weight where it is stored with channels last.
            edge = weight.detach() if weight.ndim else weight.detach()[None]
            while edge.ndim > 1:
                edge = edge[..., 0]
            values.append(edge[:: max(1, len(edge) // _VALUES_A_WEIGHT)].float())
    for tensor in tensors:
        summary = tensor.detach().float()
        digest.update(f"{tuple(tensor.shape)} {summary.abs().mean():.2e} {summary.std():.2e}".encode())
    by_device: dict[torch.device, list[Tensor]] = {}
    for value in values:
        by_device.setdefault(value.device, []).append(value)
    for same in by_device.values():  # one copy from each device
        digest.update(torch.cat(same).cpu().numpy().tobytes())
    return digest.hexdigest()[:32]
