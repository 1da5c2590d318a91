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
from amodal_diffusion.data.synthesis import compose_scene
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


def make_scenes(annotations: str, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    photos = []
    for row in itertools.islice(read_annotations(annotations, on_error="skip"), 10 * count):
        masks = record_masks(row)[0][[not item["is_crowd"] for item in row["objects"]]]
        masks = masks[masks.sum((1, 2)) >= 200]
        if 2 <= len(masks) <= 14:
            photos.append(masks)
    others = [mask for masks in photos for mask in masks]
    return [compose_scene(rng, photos[index], others) for index in rng.permutation(len(photos))[:count]]


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
