"""Is a pipeline wrong where it says that it is unsure? Error rate per decile of the uncertainty.

    python benchmarks/uncertainty_calibration.py --model pipelines/asbu --annotations instances.json
    python benchmarks/uncertainty_calibration.py --model pipelines/pcnet-m-photo --amodal rooms-amodal --split test

Scenes are composed from modal masks (`composed_scenes.py`), or photos with amodal ground truth. All pixels count that
the network has to decide: those where a neighbour is seen inside of the crop of an object, which is where a hidden part
can be. They are sorted by uncertainty and cut into ten equal parts; many share the uncertainty 0 of what is far away.

The baseline beside it is what any network gives: how near P(object) is to one half. Both are compared as detectors of
errors by the area under the ROC curve (50 % is chance); a pipeline whose uncertainty is sqrt(p (1 - p)) ranks pixels as
the baseline does. Beside the error rate stands the root of the mean squared difference of P(object) and the truth,
which is what the uncertainty means to be: of a pipeline that knows how unsure it is, both columns are the same.

Then P(object) itself, over the same pixels: its mean and the share of pixels that are the object's, by how much of the
object is hidden in truth, and the slope and the offset of its log-odds that fit best [Platt, 1999], which are the
settings `calibration_slope` and `calibration_offset` of a folder that has 1 and 0, with the log loss before and after.
Pixels where the object cannot be, of probability 0, count with the least that log-odds are cut off at.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import environment, format_environment, write_json
from composed_scenes import make_scenes
from PIL import Image, ImageDraw
from scipy.special import expit, logit

from amodal_diffusion import AmodalPipeline, ASBUPipeline, PhotoPCNetMaskPipeline
from amodal_diffusion.crops import crop_boxes
from amodal_diffusion.data import read_annotations, record_masks
from amodal_diffusion.images import save_image
from amodal_diffusion.masks import mask_boxes, mask_unions
from amodal_diffusion.ordering import neighbours

DECILES = 10
HIDDEN_SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
"""Bounds of the groups of objects by their hidden share; those of which nothing is hidden are a group of their own."""

LEAST_PROBABILITY = 1e-4  # below it, and above its complement, log-odds are cut off
NEWTON_STEPS = 50
Pipeline = ASBUPipeline | PhotoPCNetMaskPipeline  # which know how unsure they are, with and without a photo


def decided_pixels(pipe: Pipeline, modal: np.ndarray, amodal: np.ndarray, image: Any = None) -> dict[str, np.ndarray]:
    """Uncertainty, doubt and errors of every pixel in which a neighbour may hide an object, (P,) each."""
    output = pipe(image, modal)
    height, width = modal.shape[1:]
    rows, columns = np.mgrid[:height, :width]
    boxes = crop_boxes(mask_boxes(modal), enlarge_box=pipe.config.enlarge_box)[:, :, None, None]
    inside = (columns >= boxes[:, 0]) & (columns < boxes[:, 0] + boxes[:, 2])
    inside &= (rows >= boxes[:, 1]) & (rows < boxes[:, 1] + boxes[:, 3])
    chosen = inside & mask_unions(modal, neighbours(modal)) & ~modal
    probability = output.probabilities[chosen]
    share = 1 - modal.sum(axis=(1, 2)) / np.maximum(amodal.sum(axis=(1, 2)), 1)
    return {
        "probability": probability,
        "truth": amodal[chosen],
        "share": np.broadcast_to(share[:, None, None], chosen.shape)[chosen],
        "uncertainty": output.uncertainty[chosen],
        "doubt": 0.5 - np.abs(probability - 0.5),
        "error": output.amodal_masks[chosen] != amodal[chosen],
        "squared": np.square(probability - amodal[chosen]),
        "hidden": output.amodal_masks[chosen],
    }


def collect(pipe: Pipeline, scenes: Iterable[tuple[Any, ...]]) -> dict[str, np.ndarray]:
    parts = [decided_pixels(pipe, *scene) for scene in scenes]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def ground_truth(row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, Any]:
    """Visible and whole masks of the objects of a row, and its photo or None."""
    modal, amodal = record_masks(row)
    if amodal is None:
        raise SystemExit("The annotations have no whole masks.")
    return modal, amodal, row.get("image")


def reliability(
    values: np.ndarray, error: np.ndarray, squared: np.ndarray, count: int = DECILES
) -> list[dict[str, float]]:
    """Of each of `count` parts of equal size, least uncertain first; NaN if empty.

    The root of the mean squared uncertainty and of the mean squared error of P(object), and the error rate.
    """
    parts = np.array_split(np.argsort(values, kind="stable"), count)
    return [
        {
            "uncertainty": _mean(np.square(values[part])) ** 0.5,
            "found": _mean(squared[part]) ** 0.5,
            "error": _mean(error[part]),
        }
        for part in parts
    ]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def error_detection(values: np.ndarray, error: np.ndarray) -> float:
    """Area under the ROC curve of `values` as a detector of `error`: the chance that a wrong pixel has the larger."""
    if error.all() or not error.any():
        return float("nan")
    distinct, index = np.unique(values, return_inverse=True)
    wrong = np.bincount(index[error], minlength=len(distinct)).astype(float)
    right = np.bincount(index[~error], minlength=len(distinct)).astype(float)
    below = np.cumsum(right) - right
    return float((wrong * (below + right / 2)).sum() / (wrong.sum() * right.sum()))


def by_hidden_share(pixels: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """P(object) and what is found, of the objects of which so much is hidden; groups without a pixel are left out."""
    groups = [("nothing", pixels["share"] <= 0)]
    for low, high in zip(HIDDEN_SHARES, HIDDEN_SHARES[1:], strict=False):
        groups.append((f"{100 * low:.0f} to {100 * high:.0f} %", (pixels["share"] > low) & (pixels["share"] <= high)))
    return [
        {
            "hidden": name,
            "pixels": int(inside.sum()),
            "probability": _mean(pixels["probability"][inside]),
            "truth": _mean(pixels["truth"][inside]),
            "unsure": _mean(np.square(pixels["uncertainty"][inside])) ** 0.5,
            "found": _mean(pixels["squared"][inside]) ** 0.5,
        }
        for name, inside in groups
        if inside.any()
    ]


def fit_calibration(probability: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Slope and offset of the log-odds with the least log loss, by Newton's method, and the log loss before and after.

    NaN where all pixels are the object's, or none.
    """
    names = ("slope", "offset", "log_loss", "log_loss_fitted")
    if truth.all() or not truth.any():
        return dict.fromkeys(names, float("nan"))
    clipped = probability.astype(np.float64).clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    planes = np.stack([logit(clipped), np.ones(len(clipped))])  # [2, P]
    fitted, damping = np.array([1.0, 0.0]), 1e-6 * np.eye(2)
    for _ in range(NEWTON_STEPS):
        likely = expit(fitted @ planes)
        curvature = (planes * likely * (1 - likely)) @ planes.T
        step = np.linalg.solve(curvature + damping, planes @ (truth - likely))
        fitted += step.clip(-1, 1)
        if np.abs(step).max() < 1e-6:
            break
    losses = (_log_loss(clipped, truth), _log_loss(expit(fitted @ planes), truth))
    return dict(zip(names, (*map(float, fitted), *losses), strict=True))


def _log_loss(likely: np.ndarray, truth: np.ndarray) -> float:
    return float(-np.log(np.where(truth, likely, 1 - likely).clip(1e-12)).mean())


def summary(pixels: dict[str, np.ndarray]) -> dict[str, Any]:
    hidden, values = pixels["hidden"], (pixels["uncertainty"], pixels["error"], pixels["squared"])
    return {
        "pixels": len(hidden),
        "error": float(pixels["error"].mean()),
        "deciles": reliability(*values),
        "hidden_deciles": reliability(*(value[hidden] for value in values)),
        "auroc": error_detection(pixels["uncertainty"], pixels["error"]),
        "auroc_of_doubt": error_detection(pixels["doubt"], pixels["error"]),
        "by_hidden_share": by_hidden_share(pixels),
        "calibration": fit_calibration(pixels["probability"], pixels["truth"]),
    }


def draw(results: dict[str, dict[str, Any]], size: tuple[int, int] = (420, 300)) -> Image.Image:
    """One bar chart of the error rate over the deciles for each result, side by side; orange: predicted as hidden."""
    width, height = size
    picture = Image.new("RGB", (width * len(results), height), "white")
    pen = ImageDraw.Draw(picture)
    left, bottom, top = 46, height - 46, 34
    for index, (name, result) in enumerate(results.items()):
        start = index * width
        highest = max(part["error"] for key in ("deciles", "hidden_deciles") for part in result[key])
        scale = (bottom - top) / max(highest, 1e-9)
        pen.text((start + left, 10), f"{name}: error rate per decile of uncertainty", fill="black")
        for share in (0, 0.5, 1):
            y = bottom - share * (bottom - top)
            pen.line((start + left, y, start + width - 12, y), fill=(214, 214, 214))
            pen.text((start + 6, y - 6), f"{100 * share * highest:.0f} %", fill="black")
        step = (width - left - 16) / DECILES
        for part in range(DECILES):
            x = start + left + part * step
            for key, colour, offset in (("deciles", (92, 107, 133), 2), ("hidden_deciles", (242, 140, 38), step / 2)):
                bar = result[key][part]["error"] * scale
                pen.rectangle((x + offset, bottom - bar, x + offset + step / 2 - 3, bottom), fill=colour)
            pen.text((x + step / 3, bottom + 6), str(part + 1), fill="black")
        pen.text((start + left, bottom + 24), "grey: all pixels to decide; orange: predicted as hidden", fill="black")
    return picture


def report(name: str, result: dict[str, Any]) -> str:
    lines = [f"{name}: {result['pixels']:,} pixels, {100 * result['error']:.1f} % wrong", ""]
    lines += ["decile   all: unsure  found  wrong    predicted as hidden: unsure  found  wrong"]
    for part, both in enumerate(zip(result["deciles"], result["hidden_deciles"], strict=True), 1):
        cells = [f"{one['uncertainty']:6.3f} {one['found']:6.3f} {100 * one['error']:5.1f} %" for one in both]
        lines.append(f"{part:6d}        {cells[0]}                        {cells[1]}")
    lines.append(
        f"errors found (area under ROC): uncertainty {100 * result['auroc']:.1f} %, "
        f"distance of P(object) from one half {100 * result['auroc_of_doubt']:.1f} %, "
        f"ratio {result['auroc'] / result['auroc_of_doubt']:.2f}\n"
    )
    lines += ["hidden of the object    pixels  P(object)  truth    unsure  found"]
    lines += [
        f"{row['hidden']:>20} {row['pixels']:9,} {100 * row['probability']:8.1f} % {100 * row['truth']:5.1f} % "
        f"{row['unsure']:9.3f} {row['found']:6.3f}"
        for row in result["by_hidden_share"]
    ]
    fit = result["calibration"]
    lines.append(
        f"log-odds of P(object) fit best with slope {fit['slope']:.2f} and offset {fit['offset']:+.2f}: "
        f"log loss {fit['log_loss_fitted']:.4f} for {fit['log_loss']:.4f}"
    )
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--annotations", help="COCO-format modal masks to compose scenes from")
    parser.add_argument("--amodal", help="annotations with amodal ground truth")
    parser.add_argument("--split", help="of these, where they are Parquet")
    parser.add_argument("--images", help="folder of their photos, where they have none themselves")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="picture to write")
    parser.add_argument("--json", type=Path, help="figures to write")
    args = parser.parse_args(argv)
    if not args.annotations and not args.amodal:
        parser.error("give --annotations, --amodal or both")
    pipe = AmodalPipeline.from_pretrained(args.model)
    if not isinstance(pipe, Pipeline):
        parser.error(f"{args.model} is no ASBUPipeline or PhotoPCNetMaskPipeline")
    pipe.set_progress_bar_config(disable=True)
    for network in pipe.networks:
        network.to(memory_format=torch.channels_last)
    results = {}
    if args.annotations:
        results["composed scenes"] = summary(collect(pipe, make_scenes(args.annotations, args.scenes, args.seed)))
    if args.amodal:
        rows = read_annotations(args.amodal, args.images, split=args.split)
        results["real ground truth"] = summary(collect(pipe, map(ground_truth, rows)))
    where = environment()
    sys.stdout.write(format_environment(where) + "\n\n")
    for name, result in results.items():
        sys.stdout.write(report(name, result) + "\n")
    if args.plot:
        save_image(draw(results), args.plot)
    if args.json:
        write_json(args.json, {"environment": where, "results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
