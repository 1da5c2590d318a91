"""Settings of a pipeline on scenes composed from modal masks, where order and whole masks are known.

    python benchmarks/composed_scenes.py --model pipelines/pcnet-m --annotations instances.json [--scenes 30]

A scene keeps the layout of a photo's masks, puts synthetic ground, sky or a wall behind them and a few masks of other
photos in front. Only what was composed has a known truth: pairs of the photo's own objects are not scored. The settings
stored in `pipelines/pcnet-m` were chosen on such scenes, made from its training masks, before any real ground truth.
"""

import argparse
import itertools
import sys
from typing import Any

import numpy as np
import torch
from common import environment, format_environment

from amodal_diffusion import AmodalPipeline, ASBUPipeline, MaskPipeline, PCNetMaskPipeline
from amodal_diffusion.data import read_annotations, record_masks
from amodal_diffusion.masks import mask_boxes
from amodal_diffusion.metrics import CompletionMetrics, OrderMetrics
from amodal_diffusion.ordering import order_from_masks

GRIDS = {
    PCNetMaskPipeline: {
        "order_rule": ("count", "evidence"),
        "occluder_rule": ("ancestors", "consistent"),
        "crop": ("nearest", "bilinear"),
        "test_time_flip": (False, True),
    },
    ASBUPipeline: {
        "order_rule": ("count", "evidence"),
        "order_threshold": (0.3, 0.5),
        "mask_threshold": (0.3, 0.4, 0.5),
        "crop": ("nearest", "bilinear"),
        "test_time_flip": (False, True),
    },
}


def background(rng: np.random.Generator, height: int, width: int) -> list[np.ndarray]:
    """Sky, ground and a wall, each now and then, from back to front."""
    rows, columns = np.mgrid[:height, :width]
    horizon = rng.uniform(0.25, 0.8) * height + rng.uniform(-0.15, 0.15) * (columns - width / 2)
    if rng.random() < 0.5:
        horizon = horizon + rng.uniform(3, 15) * np.sin(columns / rng.uniform(15, 80) + rng.uniform(0, 6))
    ground = rows > horizon
    left, right = np.sort(rng.uniform(-0.1, 1.1, 2)) * width
    wall = (columns > left) & (columns < right) & (rows > rng.uniform(0, 0.4) * height) & ~ground
    return [region for region, share in ((~ground, 0.5), (ground, 0.7), (wall, 0.5)) if rng.random() < share]


def pasted(rng: np.random.Generator, mask: np.ndarray, height: int, width: int) -> np.ndarray | None:
    """Another photo's mask at a random place and size (0.3 to 12 % of the frame); None where it does not fit."""
    x, y, w, h = mask_boxes(mask[None])[0]
    mask = mask[y : y + h, x : x + w]
    area = np.exp(rng.uniform(np.log(0.003), np.log(0.12))) * height * width
    scale = np.sqrt(area / mask.sum())
    new_h, new_w = max(4, int(h * scale)), max(4, int(w * scale))
    if new_h > height or new_w > width:
        return None
    mask = mask[(np.arange(new_h) * h // new_h)[:, None], np.arange(new_w) * w // new_w]
    top, left = rng.integers(0, height - new_h + 1), rng.integers(0, width - new_w + 1)
    frame = np.zeros((height, width), bool)
    frame[top : top + new_h, left : left + new_w] = mask[:, ::-1] if rng.random() < 0.5 else mask
    return frame


def compose(rng: np.random.Generator, own: np.ndarray, others: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(modal, amodal) masks (N, H, W) bool of one scene, in random order."""
    height, width = own.shape[1:]
    order = np.argsort(own.sum((1, 2)))
    own = own[order] & ~np.concatenate([np.zeros((1, height, width), bool), np.cumsum(own[order], 0)[:-1] > 0])
    layers = background(rng, height, width) + list(own)
    for _ in range(rng.integers(1, 5)):
        mask = pasted(rng, others[rng.integers(len(others))], height, width)
        if mask is not None:
            layers.append(mask)
    amodal = np.stack(layers)
    hidden = np.concatenate([np.cumsum(amodal[::-1], 0)[::-1][1:] > 0, np.zeros((1, height, width), bool)])
    modal = amodal & ~hidden
    kept = rng.permutation(np.flatnonzero(modal.sum((1, 2)) >= 60))
    return modal[kept], amodal[kept]


def make_scenes(annotations: str, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    photos = []
    for row in itertools.islice(read_annotations(annotations, on_error="skip"), 10 * count):
        masks = record_masks(row)[0][[not item["is_crowd"] for item in row["objects"]]]
        masks = masks[masks.sum((1, 2)) >= 200]
        if 2 <= len(masks) <= 14:
            photos.append(masks)
    others = [mask for masks in photos for mask in masks]
    return [compose(rng, photos[index], others) for index in rng.permutation(len(photos))[:count]]


def score(pipe: MaskPipeline, scenes: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    completion, order = CompletionMetrics(), OrderMetrics()
    for modal, amodal in scenes:
        output = pipe(None, modal)
        completion.update(output.amodal_masks, amodal, modal)
        order.update(output.order, order_from_masks(modal, amodal))
    return completion.compute() | order.compute()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--annotations", required=True, help="COCO-format modal masks")
    parser.add_argument("--scenes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    kind = type(AmodalPipeline.from_pretrained(args.model))
    if kind not in GRIDS:
        raise SystemExit(f"{args.model} is a {kind.__name__}, not one of {', '.join(k.__name__ for k in GRIDS)}.")
    model = AmodalPipeline.from_pretrained(args.model).model.to(memory_format=torch.channels_last)
    scenes = make_scenes(args.annotations, args.scenes, args.seed)
    sys.stdout.write(format_environment(environment()) + f"\n\n{len(scenes)} scenes, percent\n\n")
    names = ("order_accuracy", "miou_pooled", "inv_miou_pooled", "miou_mean", "inv_miou_mean")
    sys.stdout.write(f"{'settings':52s}" + "".join(f"{name:>17s}" for name in names) + "\n")
    grid = GRIDS[kind]
    for values in itertools.product(*grid.values()):
        pipe = kind(model, **settings_of(kind, dict(zip(grid, values, strict=True))))
        pipe.set_progress_bar_config(disable=True)
        found = score(pipe, scenes)
        label = ", ".join(str(value) for value in values)
        sys.stdout.write(f"{label:52s}" + "".join(f"{100 * found[name]:17.1f}" for name in names) + "\n")
        sys.stdout.flush()


def settings_of(kind: type[MaskPipeline], chosen: dict[str, Any]) -> dict[str, Any]:
    """A point of the grid as keyword arguments; what may hide an object is given, so that it is confined to it."""
    if kind is ASBUPipeline:
        return {**chosen, "confine_to_occluders": True}
    chosen = dict(chosen)
    crop = chosen.pop("crop")
    return {**chosen, "crop": crop, "mask_threshold": 0.3, "confine_to_occluders": True}


if __name__ == "__main__":
    main()
