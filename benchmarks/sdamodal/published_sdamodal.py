"""SDAmodal's published flow [Z24] written plainly, for `sdamodal_speed.py`: fp32, one image, then one object at a time.

For each image the Stable Diffusion pipeline is rebuilt from its files, the prompt is encoded, every noise draw encodes
the photo through the VAE, the whole U-Net runs, and the mean feature maps are written as fp32 arrays. For each object
they are read back, cropped on the CPU at whole cells with zero padding, and go through the decoder alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from torch import Tensor

from amodal_diffusion.crops import crop_boxes
from amodal_diffusion.masks import mask_boxes

Stage = Callable[[str], AbstractContextManager[Any]]
"""`with stage(name):` times what is inside of the block under this name."""

TIME_STEP = 181


@torch.no_grad()
def encode_photo(
    components: Path,
    photo: Image.Image,
    target: Path,
    *,
    stage: Stage,
    device: str,
    resolution: int,
    draws: int,
    seed: int,
    vae_once: bool,
    draw_batch: int | None,
) -> None:
    """Write the features of a photo as `target`/{0, 1, ...}.npy, (C, h, w) float32 each.

    Stages: rebuild, text, vae, unet, write; and "vae once", which is no part of the flow: what the VAE would take if
    the photo were encoded once.
    """
    with stage("rebuild"):
        pipeline = StableDiffusionPipeline.from_pretrained(components, dtype=torch.float32).to(device)
        scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    with stage("text"):
        prompt = encode_prompt(pipeline, device)  # [1, tokens, channels]
    squashed = photo.convert("RGB").resize((resolution, resolution), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(squashed)).permute(2, 0, 1)[None].float() / 127.5 - 1  # [1, 3, R, R]
    pixels = pixels.to(device)
    noise = draw_noise(draws, resolution // pipeline.vae_scale_factor, seed).to(device)  # [D, 2, 4, l, l]
    chunk = draw_batch or draws
    with stage("vae"):
        latents = encode_latents(pipeline.vae, pixels, noise[:, 0], 1 if vae_once else draws, chunk)
    if not vae_once:
        with stage("vae once"):
            encode_latents(pipeline.vae, pixels, noise[:, 0], 1, chunk)
    with stage("unet"):
        steps = torch.full((draws,), TIME_STEP, device=device)
        noised = scheduler.add_noise(latents, noise[:, 1], steps)
        maps = up_block_maps(pipeline.unet, noised, prompt, chunk)
    with stage("write"):
        target.mkdir(parents=True, exist_ok=True)
        for index, feature in enumerate(maps):
            np.save(target / f"{index}.npy", feature.cpu().numpy())


def encode_prompt(pipeline: StableDiffusionPipeline, device: str) -> Tensor:
    tokenizer = pipeline.tokenizer
    tokens = tokenizer([""], padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
    return pipeline.text_encoder(tokens.input_ids.to(device))[0]


def draw_noise(draws: int, side: int, seed: int) -> Tensor:
    """(D, 2, 4, l, l): of the latent, and the noise. The numbers that `DiffusionFeatureExtractor` draws from a seed."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.stack([torch.randn((2, 4, side, side), generator=generator) for _ in range(draws)])


def encode_latents(vae: Any, pixels: Tensor, noise: Tensor, copies: int, chunk: int) -> Tensor:
    """(1, 3, R, R) and noise (D, 4, l, l) -> (D, 4, l, l); the photo goes through the VAE `copies` times."""
    parts = [vae.encode(part.contiguous()).latent_dist for part in pixels.expand(copies, -1, -1, -1).split(chunk)]
    mean, std = (torch.cat([getattr(part, name) for part in parts]) for name in ("mean", "std"))
    return (mean + std * noise) * vae.config.scaling_factor


def up_block_maps(unet: Any, latents: Tensor, prompt: Tensor, chunk: int) -> list[Tensor]:
    """(D, 4, l, l) -> the output of each up block, averaged over the draws: (C_k, h_k, w_k) each."""
    totals: list[Tensor] = []
    for part in latents.split(chunk):
        with kept_outputs(unet.up_blocks) as outputs:
            unet(part, TIME_STEP, encoder_hidden_states=prompt.expand(len(part), -1, -1))
        sums = [output.sum(dim=0) for output in outputs]
        totals = [total + new for total, new in zip(totals, sums, strict=True)] if totals else sums
    return [total / len(latents) for total in totals]


@contextmanager
def kept_outputs(blocks: Any) -> Iterator[list[Tensor]]:
    """Fills the list with what the blocks give back, in their order."""
    outputs: list[Tensor] = []
    handles = [block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output)) for block in blocks]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def complete_objects(
    decoder: Any, folder: Path, masks: np.ndarray, *, stage: Stage, device: str, enlarge_box: float = 3.0
) -> np.ndarray:
    """(N, H, W) bool modal masks -> (N, H, W) bool, from the features in `folder`; with stages."""
    config = decoder.config
    completed = np.zeros_like(masks)
    for index, mask in enumerate(masks):
        x, y, side, _ = crop_boxes(mask_boxes(mask[None]), enlarge_box=enlarge_box)[0].tolist()
        with stage("read"):
            maps = [torch.from_numpy(np.load(folder / f"{level}.npy")) for level in range(len(config.feature_sizes))]
        with stage("crop"):
            plane = crop_mask(mask, (x, y, side), config.sample_size)
            sizes = zip(maps, config.feature_sizes, strict=True)
            crops = [crop_map(feature, (x, y, side), mask.shape, size) for feature, size in sizes]
        with stage("decode"):
            features = [crop[None].to(device) for crop in crops]
            patch = decoder(plane[None, None].to(device), features).logits[0].argmax(dim=0).cpu()  # [s, s]
        with stage("paste"):
            paste(patch, (x, y, side), completed[index])
    return completed


def crop_mask(mask: np.ndarray, box: tuple[int, int, int], size: int) -> Tensor:
    """(H, W) bool -> (s, s) float32 by nearest."""
    x, y, side = box
    patch = crop_padded(torch.from_numpy(mask.astype(np.float32))[None], x, y, side, side)
    return F.interpolate(patch[None], size=(size, size), mode="nearest")[0, 0]


def crop_map(feature: Tensor, box: tuple[int, int, int], photo_size: Sequence[int], size: int) -> Tensor:
    """(C, h, w) of the whole photo -> (C, s, s): the box cut to whole cells, zero padding, bilinear."""
    height, width = photo_size
    rows, columns = feature.shape[1:]
    x, y, side = box
    left, cells_x = int(x * columns / width), int(side * columns / width)
    top, cells_y = int(y * rows / height), int(side * rows / height)
    if min(cells_x, cells_y) < 1:  # a box under one cell: crop from the map at the size of the photo
        feature = resize(feature, height, width)
        left, top, cells_x, cells_y = x, y, side, side
    return resize(crop_padded(feature, left, top, cells_x, cells_y), size, size)


def crop_padded(planes: Tensor, left: int, top: int, width: int, height: int) -> Tensor:
    """(C, H, W) -> (C, height, width), 0 outside of the planes."""
    crop = planes.new_zeros(len(planes), height, width)
    y0, y1 = max(top, 0), min(top + height, planes.shape[1])
    x0, x1 = max(left, 0), min(left + width, planes.shape[2])
    if y0 < y1 and x0 < x1:
        crop[:, y0 - top : y1 - top, x0 - left : x1 - left] = planes[:, y0:y1, x0:x1]
    return crop


def paste(patch: Tensor, box: tuple[int, int, int], target: np.ndarray) -> None:
    """Resize the binary patch (s, s) to its box bilinearly, and set what is over one half in `target` (H, W) bool."""
    x, y, side = box
    height, width = target.shape
    square = (resize(patch[None].float(), side, side)[0] > 0.5).numpy()
    y0, y1, x0, x1 = max(y, 0), min(y + side, height), max(x, 0), min(x + side, width)
    target[y0:y1, x0:x1] = square[y0 - y : y1 - y, x0 - x : x1 - x]


def resize(planes: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(planes[None], size=(height, width), mode="bilinear", align_corners=False)[0]
