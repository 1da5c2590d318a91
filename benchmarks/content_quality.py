"""How well hidden pixels are filled: PCNet-C against OpenCV's inpainting, on holes made in photos it never saw.

    python benchmarks/content_quality.py --model pipelines/pcnet-c --dataset a.json b.json --validation_fraction 0.08

The photos are those that `train_pcnet_c.py` holds out with the same `--dataset` and `--validation_fraction`. Two kinds
of holes: *object*, the shape of another object laid over one, as when its hidden part is filled; *background*, the
shape laid anywhere, as when an object is removed. The photo is blackened in the hole before any method sees it.

PSNR and SSIM are taken inside the hole alone, against the photo. FID, LPIPS and other figures that need pretrained
networks (Inception, AlexNet, VGG) are left out: their weights are not in this repository.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import environment, format_environment
from PIL import Image
from skimage.metrics import structural_similarity

from amodal_diffusion import ContentPipeline
from amodal_diffusion.data import read_annotations, record_masks
from amodal_diffusion.data.samplers import split_photos
from amodal_diffusion.images import load_image
from amodal_diffusion.masks import mask_boxes

_RADIUS = 3  # of OpenCV's methods, in pixels: the value of its documentation
_SHARE = (0.05, 0.6)  # of an object that a hole takes away
_WINDOW = 7  # of SSIM, in pixels


@dataclass
class Hole:
    """A photo with a hole whose pixels are known.

    Args:
        photo: (H, W, 3) uint8, the truth.
        hole: (H, W) bool.
        whole: (H, W) bool, the object that the hole is a part of; None for background.
    """

    photo: np.ndarray
    hole: np.ndarray
    whole: np.ndarray | None = None

    @property
    def seen(self) -> np.ndarray:
        """The photo, black in the hole."""
        return np.where(self.hole[..., None], np.uint8(0), self.photo)


Method = Callable[[Hole], np.ndarray]


def telea(sample: Hole) -> np.ndarray:
    return cv2.inpaint(sample.seen, sample.hole.astype(np.uint8), _RADIUS, cv2.INPAINT_TELEA)


def navier_stokes(sample: Hole) -> np.ndarray:
    return cv2.inpaint(sample.seen, sample.hole.astype(np.uint8), _RADIUS, cv2.INPAINT_NS)


def mean_colour(sample: Hole) -> np.ndarray:
    """The mean of what is seen of the object, or of the photo."""
    seen = ~sample.hole if sample.whole is None else sample.whole & ~sample.hole
    return np.where(sample.hole[..., None], sample.photo[seen].mean(0).round().astype(np.uint8), sample.photo)


def pipeline_method(pipe: ContentPipeline) -> Method:
    """The hidden part of the object by a call of the pipeline, background by its `background`."""

    def fill(sample: Hole) -> np.ndarray:
        if sample.whole is None:
            return np.asarray(pipe.background(sample.seen, sample.hole[None]))
        output = pipe(sample.seen, (sample.whole & ~sample.hole)[None], sample.whole[None])
        x, y, w, h = (int(value) for value in output.boxes[0])
        picture = sample.photo.copy()
        part = sample.hole[y : y + h, x : x + w]
        picture[y : y + h, x : x + w][part] = output.objects[0][..., :3][part]
        return picture

    return fill


def place(rng: np.random.Generator, mask: np.ndarray, height: int, width: int, area: float) -> np.ndarray:
    """(H, W) bool: a mask scaled to about `area` pixels, somewhere in the frame; cut off where it leaves it."""
    x, y, w, h = mask_boxes(mask[None])[0]
    shape = mask[y : y + h, x : x + w]
    scale = np.sqrt(area / shape.sum())
    size = (max(4, min(2 * width, round(w * scale))), max(4, min(2 * height, round(h * scale))))
    shape = np.asarray(Image.fromarray(shape).resize(size, Image.Resampling.NEAREST))
    frame = np.zeros((height + 2 * size[1], width + 2 * size[0]), bool)
    top, left = rng.integers(size[1] // 2, height + size[1]), rng.integers(size[0] // 2, width + size[0])
    frame[top : top + size[1], left : left + size[0]] = shape
    return frame[size[1] : -size[1], size[0] : -size[0]]


def object_hole(
    rng: np.random.Generator, photo: np.ndarray, masks: np.ndarray, others: Sequence[np.ndarray]
) -> Hole | None:
    """A hole that takes away a part of one object of the photo; None where 50 draws give none."""
    areas = masks.sum((1, 2))
    large = np.flatnonzero(areas >= 2000)
    if not len(large):
        return None
    whole = masks[rng.choice(large)]
    x, y, w, h = mask_boxes(whole[None])[0]
    for _ in range(50):
        other = others[rng.integers(len(others))]
        part = place(rng, other, h, w, whole.sum() * rng.uniform(0.1, 1.0))
        hole = np.zeros_like(whole)
        hole[y : y + h, x : x + w] = part
        hole &= whole
        if _SHARE[0] < hole.sum() / whole.sum() < _SHARE[1]:
            return Hole(photo, hole, whole)
    return None


def background_hole(rng: np.random.Generator, photo: np.ndarray, others: Sequence[np.ndarray]) -> Hole | None:
    """A hole of 1 to 12 % of the photo."""
    height, width = photo.shape[:2]
    for _ in range(50):
        area = height * width * np.exp(rng.uniform(np.log(0.01), np.log(0.12)))
        hole = place(rng, others[rng.integers(len(others))], height, width, area)
        if 0.5 * area < hole.sum() and not hole.all():
            return Hole(photo, hole)
    return None


def make_holes(datasets: Sequence[str], fraction: float, per_photo: int, seed: int) -> dict[str, list[Hole]]:
    """Holes of both kinds in the photos held out."""
    rng = np.random.default_rng(seed)
    photos, others = [], []
    for path in datasets:
        rows = split_photos(read_annotations(path, Path(path).parent, on_error="skip"), fraction)[1]
        for row in rows:
            masks = record_masks(row)[0][[not obj["is_crowd"] for obj in row["objects"]]]
            photos.append((np.asarray(load_image(row["image"])), masks))
            others += [mask for mask in masks if mask.sum() >= 2000]
    holes: dict[str, list[Hole]] = {"object": [], "background": []}
    for photo, masks in photos:
        for _ in range(per_photo):
            holes["object"].append(object_hole(rng, photo, masks, others))
            holes["background"].append(background_hole(rng, photo, others))
    return {kind: [hole for hole in found if hole is not None] for kind, found in holes.items()}


def score(sample: Hole, picture: np.ndarray) -> tuple[float, float, float]:
    """Sum of squared errors inside the hole, mean squared error there, mean SSIM there."""
    box = mask_boxes(sample.hole[None])[0]
    x, y, w, h = box
    rows = slice(max(0, y - _WINDOW), y + h + _WINDOW)
    columns = slice(max(0, x - _WINDOW), x + w + _WINDOW)
    truth, found, hole = sample.photo[rows, columns], picture[rows, columns], sample.hole[rows, columns]
    squares = ((truth.astype(np.float64) - found) ** 2)[hole]
    _, similarity = structural_similarity(truth, found, win_size=_WINDOW, channel_axis=2, data_range=255, full=True)
    return float(squares.sum()), float(squares.mean()), float(similarity[hole].mean())


def decibels(mean_square: float) -> float:
    """PSNR of 8-bit values; 68 dB where nothing is wrong."""
    return float(10 * np.log10(255**2 / max(mean_square, 1e-2)))


def evaluate(method: Method, holes: Sequence[Hole]) -> dict[str, float]:
    """PSNR pooled over all pixels, mean PSNR over holes, mean SSIM over holes."""
    scores = [score(sample, method(sample)) for sample in holes]
    pixels = 3 * sum(int(sample.hole.sum()) for sample in holes)
    return {
        "psnr_pooled": decibels(sum(squares for squares, _, _ in scores) / pixels),
        "psnr": float(np.mean([decibels(mean) for _, mean, _ in scores])),
        "ssim": float(np.mean([similarity for *_, similarity in scores])),
    }


def picture_strip(holes: Sequence[Hole], methods: dict[str, Method], side: int = 200) -> Image.Image:
    """One row a hole: what is seen (hole magenta), each method, the truth; crops around the hole."""
    rows = []
    for sample in holes:
        x, y, w, h = mask_boxes((sample.hole if sample.whole is None else sample.whole)[None])[0]
        margin = max(w, h) // 4
        box = (max(0, x - margin), max(0, y - margin), x + w + margin, y + h + margin)
        seen = np.where(sample.hole[..., None], np.uint8([255, 0, 255]), sample.photo)
        pictures = [seen, *(method(sample) for method in methods.values()), sample.photo]
        tiles = [Image.fromarray(picture[box[1] : box[3], box[0] : box[2]]) for picture in pictures]
        row = Image.new("RGB", (side * len(tiles), side), "white")
        for column, tile in enumerate(tiles):
            tile.thumbnail((side - 4, side - 4))
            row.paste(tile, (column * side + (side - tile.width) // 2, (side - tile.height) // 2))
        rows.append(row)
    strip = Image.new("RGB", (rows[0].width, side * len(rows)), "white")
    for index, row in enumerate(rows):
        strip.paste(row, (0, index * side))
    return strip


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="Content pipeline: folder or Hub id.")
    parser.add_argument("--dataset", nargs="+", required=True, help="Annotation files with photos beside them.")
    parser.add_argument("--validation_fraction", type=float, default=0.08, help="That of the training.")
    parser.add_argument("--per_photo", type=int, default=1, help="Holes of each kind in a photo.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--picture", type=Path, default=None, help="A strip of the first holes of each kind.")
    args = parser.parse_args(argv)
    pipe = ContentPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    methods = {
        "mean colour": mean_colour, "Telea": telea, "Navier-Stokes": navier_stokes, args.model: pipeline_method(pipe),
    }  # fmt: skip
    holes = make_holes(args.dataset, args.validation_fraction, args.per_photo, args.seed)
    sys.stdout.write(format_environment(environment()) + "\n")
    report: dict[str, Any] = {"environment": environment()}
    for kind, found in holes.items():
        sys.stdout.write(f"\n{len(found)} holes, {kind}\n{'method':32s}{'PSNR':>10s}{'pooled':>10s}{'SSIM':>10s}\n")
        report[kind] = {"holes": len(found)}
        for name, method in methods.items():
            figures = report[kind][name] = evaluate(method, found)
            sys.stdout.write(
                f"{name:32s}{figures['psnr']:10.2f}{figures['psnr_pooled']:10.2f}{figures['ssim']:10.4f}\n"
            )
            sys.stdout.flush()
    sys.stdout.write("\nLeft out, their weights are not here: FID, LPIPS.\n")
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    if args.picture is not None:
        shown = [sample for found in holes.values() for sample in found[:: max(1, len(found) // 5)][:5]]
        picture_strip(shown, {name: methods[name] for name in ("Telea", "Navier-Stokes", args.model)}).save(
            args.picture
        )
    return report


if __name__ == "__main__":
    main()
