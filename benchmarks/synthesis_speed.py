"""Occlusion synthesis: samples a second against a straightforward per-sample OpenCV loader, same machine, same run.

    python benchmarks/synthesis_speed.py [--annotations instances.json] [--size 256]

The baseline is what published training code does: decode a mask's run lengths, crop, resize and flip it with OpenCV,
place the eraser, one sample at a time, in one process. A second baseline keeps all masks decoded in memory, which a
data set of 100,000 instances does not allow (30 GB). Ours draws whole batches from packed bits.
"""

import argparse
import itertools
import statistics
import sys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from common import environment, format_environment, median_ratio, time_in_turn

from amodal_diffusion.data import read_annotations, record_masks
from amodal_diffusion.data.synthesis import MaskBank, OcclusionSynthesizer, SynthesisConfig
from amodal_diffusion.masks import decode_rle, encode_rle, mask_boxes


class OpenCVLoader:
    """The recipe of [Z20], one sample after another."""

    def __init__(self, masks: list[np.ndarray], size: int, seed: int, *, decoded: bool) -> None:
        self.masks: list[Any] = masks if decoded else [encode_rle(mask) for mask in masks]
        self.decoded = decoded
        self.boxes = [mask_boxes(mask[None])[0] for mask in masks]
        self.size = size
        self.rng = np.random.default_rng(seed)

    def crop(self, index: int, shift: tuple[float, float], scale: float) -> np.ndarray:
        mask, (x, y, width, height) = self.masks[index], self.boxes[index]
        if not self.decoded:
            mask = decode_rle(mask).view(np.uint8)
        side = max(np.sqrt(3 * width * height), 1.1 * width, 1.1 * height)
        cx, cy = x + width / 2 + shift[0] * side, y + height / 2 + shift[1] * side
        side = max(1, int(side / scale))
        left, top = int(cx - side / 2), int(cy - side / 2)
        patch = np.zeros((side, side), np.uint8)
        rows = slice(max(0, top), min(mask.shape[0], top + side))
        columns = slice(max(0, left), min(mask.shape[1], left + side))
        if rows.start < rows.stop and columns.start < columns.stop:
            patch[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = mask[rows, columns]
        patch = cv2.resize(patch, (self.size, self.size), interpolation=cv2.INTER_NEAREST)
        return patch[:, ::-1] if self.rng.random() < 0.5 else patch

    def place(self, target: np.ndarray, other: np.ndarray) -> np.ndarray:
        size, rng = self.size, self.rng
        moved = np.zeros_like(target)
        for _ in range(100):
            overlap = rng.uniform(0.4, 1.0)
            dx = rng.uniform(overlap - 1, 1 - overlap)
            dy = (1 - overlap / (1 - abs(dx))) * rng.choice((-1, 1))
            matrix = np.float32([[1, 0, dx * size], [0, 1, dy * size]])
            moved = cv2.warpAffine(other, matrix, (size, size), flags=cv2.INTER_NEAREST)
            if 0.001 <= (moved & target).sum() / max(1, target.sum()) < 0.9:
                break
        return moved

    def sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = self.rng
        first, second = rng.integers(len(self.masks), size=2)
        target = np.ascontiguousarray(self.crop(first, tuple(rng.uniform(-0.2, 0.2, 2)), rng.uniform(0.8, 1.2)))
        other = self.place(target, np.ascontiguousarray(self.crop(second, (0, 0), rng.uniform(0.8, 1.2))))
        if rng.random() < 0.8:
            return target & ~other & 1, other, target
        return target, other & ~target & 1, target

    def batch(self, count: int) -> tuple[torch.Tensor, ...]:
        samples = [self.sample() for _ in range(count)]
        return tuple(torch.from_numpy(np.stack(planes)[:, None]).float() for planes in zip(*samples, strict=True))


def blobs(count: int, seed: int = 0) -> list[np.ndarray]:
    """Stand-ins for real masks: unions of ellipses in frames of 480 x 640."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(count):
        mask = np.zeros((480, 640), np.uint8)
        centre, size = rng.uniform((120, 120), (520, 360)), rng.uniform(15, 110)
        for _ in range(3):
            point = tuple(int(value) for value in centre + rng.uniform(-size / 2, size / 2, 2))
            axes = tuple(int(value) for value in rng.uniform(size / 3, size, 2))
            cv2.ellipse(mask, point, axes, rng.uniform(0, 180), 0, 360, 1, -1)
        masks.append(mask)
    return masks


def load_masks(annotations: str | None, limit: int) -> list[np.ndarray]:
    if annotations is None:
        return blobs(limit)
    masks: list[np.ndarray] = []
    for row in read_annotations(annotations, on_error="skip"):
        masks.extend(mask.astype(np.uint8) for mask in record_masks(row)[0] if mask.sum() >= 100)
        if len(masks) >= limit:
            break
    return masks[:limit]


def drawer(draw: Callable[[int], object]) -> Callable[[], object]:
    """A function of no arguments that draws the next batch at every call."""
    steps = itertools.count()
    return lambda: draw(next(steps))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--annotations", help="COCO or COCOA file; without it, unions of ellipses")
    parser.add_argument("--masks", type=int, default=500, help="masks in the bank")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=30, help="batches of each")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="see README.md")
    parser.add_argument("--threads", type=int, help="of torch and OpenCV")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    masks = load_masks(args.annotations, args.masks)
    objects = [{"modal_mask": encode_rle(mask), "is_crowd": False, "category_id": 1} for mask in masks]
    bank = MaskBank.from_sources([[{"objects": objects}]], resolution=args.size, min_area=1).to(args.device)
    functions = {}
    for name, decoded in {"OpenCV, one at a time": False, "the same, decoded beforehand": True}.items():
        loader = OpenCVLoader(masks, args.size, seed=0, decoded=decoded)
        functions[name] = drawer(lambda _, loader=loader: loader.batch(args.batch_size))
    recipes = {"published": SynthesisConfig(size=args.size), "improved": SynthesisConfig.improved(args.size)}
    for name, config in recipes.items():
        synthesizer = OcclusionSynthesizer(bank, config)
        functions[f"ours, {name} recipe"] = drawer(lambda step, s=synthesizer: s.sample(step, args.batch_size))
    seconds = time_in_turn(functions, args.repeats, device=args.device, clock=args.clock)
    baseline, *_ = seconds.values()
    shown = environment(args.device) | {"opencv": cv2.__version__, "clock": args.clock}
    lines = [
        format_environment(shown),
        "",
        f"{len(masks)} masks, crops of {args.size}², batches of {args.batch_size}",
        "",
    ]
    for name, times in seconds.items():
        rate = args.batch_size / statistics.median(times)
        lines.append(f"{name:30s}{rate:8.0f} samples/s{median_ratio(baseline, times):8.1f} x")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
