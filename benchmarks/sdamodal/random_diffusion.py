"""What `sdamodal_speed.py` runs on: a Stable Diffusion with random weights, a synthetic photo, masks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SIZES: dict[str, dict[str, Any]] = {
    "full": {  # Stable Diffusion 2.1, and the published decoder
        "unet": {
            "sample_size": 96,
            "block_out_channels": (320, 640, 1280, 1280),
            "layers_per_block": 2,
            "attention_head_dim": (5, 10, 20, 20),
            "cross_attention_dim": 1024,
            "use_linear_projection": True,
        },
        "vae": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 768},
        "text": {
            "vocab_size": 49408,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 23,
            "num_attention_heads": 16,
            "max_position_embeddings": 77,
            "hidden_act": "gelu",
        },
        "decoder": {},
        "resolution": 768,
        "photo": (480, 640),
    },
    "tiny": {
        "unet": {
            "sample_size": 32,
            "block_out_channels": (4, 8, 12, 16),
            "layers_per_block": 1,
            "norm_num_groups": 2,
            "attention_head_dim": 4,
            "cross_attention_dim": 8,
            "use_linear_projection": True,
        },
        "vae": {"block_out_channels": (4, 4), "layers_per_block": 1, "norm_num_groups": 2, "sample_size": 64},
        "text": {
            "vocab_size": 4,
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 7,
        },
        "decoder": {"block_out_channels": (4, 4, 8, 8), "reduced_channels": 8, "sample_size": 64},
        "resolution": 64,
        "photo": (96, 128),
    },
}


def save_stable_diffusion(folder: Path, size: str, say: Callable[[str], None]) -> None:
    """Write a Stable Diffusion pipeline with random weights, one component in memory at a time; `say` its progress."""
    classes = {}
    for seed, (name, make) in enumerate(component_makers(size).items()):
        torch.manual_seed(seed)
        component = make()
        component.save_pretrained(folder / name)
        library = "transformers" if name in ("text_encoder", "tokenizer") else "diffusers"
        classes[name] = [library, type(component).__name__]
        say(f"made {name}")
        del component  # before the next one is made
    unused = dict.fromkeys(("safety_checker", "feature_extractor", "image_encoder"), [None, None])
    index = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False, **classes, **unused}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def component_makers(size: str) -> dict[str, Callable[[], Any]]:
    """For each component the function that makes it with random weights."""
    sizes = SIZES[size]
    text = CLIPTextConfig(bos_token_id=0, eos_token_id=1, pad_token_id=1, **sizes["text"])
    vocab = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "a</w>": 3}
    noise_schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    vae_blocks = {
        f"{way}_block_types": (f"{name}Block2D",) * len(sizes["vae"]["block_out_channels"])
        for way, name in (("down", "DownEncoder"), ("up", "UpDecoder"))
    }
    return {
        "unet": lambda: UNet2DConditionModel(**sizes["unet"]),
        "vae": lambda: AutoencoderKL(latent_channels=4, scaling_factor=0.18215, **vae_blocks, **sizes["vae"]),
        "text_encoder": lambda: CLIPTextModel(text),
        "tokenizer": lambda: CLIPTokenizer(
            vocab=vocab, merges=[], model_max_length=sizes["text"]["max_position_embeddings"]
        ),
        "scheduler": lambda: DDIMScheduler(
            steps_offset=1, clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction", **noise_schedule
        ),
    }


def decoder_config(size: str, resolution: int) -> dict[str, Any]:
    """The configuration of the mask decoder that fits the features at a resolution."""
    sizes = SIZES[size]
    widths = sizes["unet"]["block_out_channels"]
    latent = resolution // 2 ** (len(sizes["vae"]["block_out_channels"]) - 1)
    feature_sizes = (latent // 4, latent // 2, latent, latent)
    return {"feature_channels": tuple(reversed(widths)), "feature_sizes": feature_sizes, **sizes["decoder"]}


def make_photo(height: int, width: int, seed: int = 0) -> Image.Image:
    """A synthetic photo: coloured waves and noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(rng.uniform(3, 30) * rows + rng.uniform(3, 30) * columns + rng.uniform(0, 6)) for _ in range(3)]
    pixels = 128 + 80 * np.stack(waves, axis=2) + rng.normal(0, 10, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw_masks(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """(count, H, W) bool ellipses; the first ones do not depend on the count."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    masks = np.zeros((count, height, width), bool)
    for mask in masks:
        y, x = rng.uniform(0.1, 0.9, 2) * (height, width)
        radius_y, radius_x = rng.uniform(0.06, 0.25, 2) * min(height, width)
        mask[:] = ((rows - y) / radius_y) ** 2 + ((columns - x) / radius_x) ** 2 <= 1
    return masks
