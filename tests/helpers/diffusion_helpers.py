"""Tiny components of a Stable Diffusion checkpoint, made here: the classes are the real ones, the widths are not."""

import numpy as np
import torch
from accelerate import cpu_offload
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from amodal_diffusion import DiffusionFeatureExtractor, SDAmodalDecoder, SDAmodalPipeline

WIDTHS = (4, 8, 12, 16)
FEATURE_CHANNELS = (16, 12, 8, 4)
"""Channels of the four up blocks of the tiny U-Net; all different, so that a mix-up shows."""

RESOLUTION = 64
FEATURE_SIZES = (8, 16, 32, 32)
"""Sides of its maps at this resolution: the tiny VAE halves once, the U-Net three times."""

PROMPT_CHANNELS = 8


def tiny_unet(seed=0, **config):
    torch.manual_seed(seed)
    config = {
        "sample_size": RESOLUTION // 2,
        "block_out_channels": WIDTHS,
        "layers_per_block": 1,
        "norm_num_groups": 2,
        "attention_head_dim": 4,
        "cross_attention_dim": PROMPT_CHANNELS,
        **config,
    }
    return UNet2DConditionModel(**config).eval()


def tiny_vae(seed=1, **config):
    torch.manual_seed(seed)
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    config = {"block_out_channels": (4, 4), "norm_num_groups": 2, "latent_channels": 4, **levels, **config}
    return AutoencoderKL(**config).eval()


def tiny_text_encoder(seed=2):
    torch.manual_seed(seed)
    sizes = {"hidden_size": PROMPT_CHANNELS, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokens = {"vocab_size": 6, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return CLIPTextModel(CLIPTextConfig(max_position_embeddings=7, **sizes, **tokens)).eval()


def tiny_tokenizer():
    vocab = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "b": 3, "a</w>": 4, "b</w>": 5}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=7)


def tiny_scheduler(**config):
    config = {"steps_offset": 1, "clip_sample": False, **config}
    return DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **config)


def tiny_components(**replaced):
    """`unet`, `vae`, `text_encoder`, `tokenizer`, `scheduler`."""
    makers = {
        "unet": tiny_unet,
        "vae": tiny_vae,
        "text_encoder": tiny_text_encoder,
        "tokenizer": tiny_tokenizer,
        "scheduler": tiny_scheduler,
    }
    return {name: replaced[name] if name in replaced else make() for name, make in makers.items()}


def tiny_stable_diffusion(**replaced):
    """A whole `StableDiffusionPipeline`, to share or to save: `.save_pretrained(folder)`."""
    nothing = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionPipeline(**tiny_components(**replaced), **nothing)


def tiny_inpainting(**replaced):
    """A `StableDiffusionInpaintPipeline` whose U-Net takes 9 channels."""
    components = tiny_components(**{"unet": tiny_unet(in_channels=9), **replaced})
    nothing = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionInpaintPipeline(**components, **nothing)


def photo(seed=0, height=48, width=64):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


# Both draws in one pass, as on an accelerator; a CPU takes one at a time by default.
_SETTINGS = {"resolution": RESOLUTION, "num_draws": 2, "draw_batch_size": 2}


def tiny_extractor(components=None, **settings):
    components = components or tiny_components()
    return DiffusionFeatureExtractor(**components, **{**_SETTINGS, **settings})


def offload(pipeline, sequential):
    """Offload a pipeline with the CPU as its accelerator.

    `enable_sequential_cpu_offload(device="cpu")` fails in accelerate itself, which takes cpu:0 for another device; so
    here is what it does, with a device that has no index.
    """
    if not sequential:
        pipeline.enable_model_cpu_offload(device="cpu")
        return
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            cpu_offload(component, torch.device("cpu"), offload_buffers=len(component._parameters) > 0)


def tiny_mask_decoder(seed=3, **config):
    torch.manual_seed(seed)
    sizes = {"block_out_channels": (4, 4, 6, 6), "reduced_channels": 4, "sample_size": 32}
    maps = {"feature_channels": FEATURE_CHANNELS, "feature_sizes": (4, 8, 16, 16)}
    return SDAmodalDecoder(**{**sizes, **maps, **config}).eval()


def tiny_sdamodal(components=None, decoder=None, **settings):
    """An `SDAmodalPipeline` on the tiny components; nothing of it is trained."""
    settings = {**_SETTINGS, **settings}
    components = tiny_components() if components is None else components
    pipeline = SDAmodalPipeline(**components, decoder=decoder or tiny_mask_decoder(), **settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def count_passes(pipeline):
    """A list that gets the rows of every pass through the U-Net."""
    passes = []
    pipeline.unet.conv_in.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    return passes
