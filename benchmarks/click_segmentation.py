"""How many clicks an object takes: interactive segmenters on objects of photos that were held out.

    python benchmarks/click_segmentation.py --model pipelines/click-segmenter --dataset coco_subset/instances.json

The standard protocol: the first click in the middle of the object, each further one in the middle of the largest
mistake; the answer so far goes along as `mask`. IoU after 1, 3 and 5 clicks, mean over objects, with 95 % intervals.
Held out is every fourth photo of the file that has objects (`--every`), as the shipped network was trained; of their
objects 200 are drawn.

Beside it: GrabCut (`GrabCutSegmenter`), and a random walker on the superpixels of SLIC. Seconds are of one thread, each
segmenter in turn on every object: wall-clock, and processor time, which a busy machine leaves alone.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import environment, format_environment, write_json
from scipy import sparse
from scipy.sparse.linalg import spsolve
from skimage.segmentation import slic

from amodal_diffusion import AmodalPipeline, ClickSegmenterPipeline, GrabCutSegmenter, InteractiveSegmenter
from amodal_diffusion.data import read_annotations
from amodal_diffusion.data.photos import encoded_photos, load_row_photo
from amodal_diffusion.data.samplers import list_objects, next_click
from amodal_diffusion.masks import decode_rle
from amodal_diffusion.pipelines.segmentation.interactive import keep_pointed_at, pixels_of

SHOWN = (1, 3, 5)


class RandomWalker(InteractiveSegmenter):
    """Where a walker over superpixels ends that crosses edges of colour seldom: at a click on the object, or not.

    Source: Grady, PAMI 2006, on the graph of SLIC's superpixels, with the colours of the clicks as weak seeds.
    """

    def __init__(self, side: int = 512, segments: int = 800) -> None:
        self.side, self.segments = side, segments

    def encode(self, photo: np.ndarray) -> Any:
        scale = min(1.0, self.side / max(photo.shape[:2]))
        size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
        small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
        parts = slic(small, n_segments=self.segments, compactness=10, start_label=0, max_num_iter=5)
        count = int(parts.max()) + 1
        colours = cv2.cvtColor((small / 255).astype(np.float32), cv2.COLOR_RGB2LAB).reshape(-1, 3)
        area = np.bincount(parts.ravel(), minlength=count)
        mean = np.stack([np.bincount(parts.ravel(), channel, count) for channel in colours.T], axis=1) / area[:, None]
        first = np.concatenate([parts[:, :-1].ravel(), parts[:-1].ravel()])
        second = np.concatenate([parts[:, 1:].ravel(), parts[1:].ravel()])
        pairs, length = np.unique(np.stack([first, second])[:, first != second], axis=1, return_counts=True)
        weight = length * np.exp(-0.06 * ((mean[pairs[0]] - mean[pairs[1]]) ** 2).sum(axis=1)) + 1e-4
        graph = sparse.coo_matrix((weight, pairs), shape=(count, count))
        border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
        return parts, area, mean, (graph + graph.T).tocsr(), border, scale

    def answer(self, embedding: Any, prompt: Any) -> np.ndarray:
        parts, area, mean, graph, border, scale = embedding.features
        count = len(area)
        inside, outside = np.zeros(count), np.full(count, 0.1)
        outside[border] += 0.5
        if prompt.mask is not None:
            earlier = cv2.resize(prompt.mask.astype(np.uint8), parts.shape[::-1], interpolation=cv2.INTER_NEAREST)
            inside += 0.03 * np.bincount(parts.ravel(), earlier.ravel(), count) / area
        # The negative ones last: a superpixel that was clicked on in both ways belongs to neither.
        for points, seeds in ((prompt.positive, inside), (prompt.negative, outside)):
            if len(points):
                x, y = pixels_of(points, parts.shape, scale)
                clicked = np.unique(parts[y, x])
                nearest = ((mean[:, None] - mean[clicked]) ** 2).sum(axis=2).min(axis=1)
                seeds += 0.3 * np.exp(-nearest / 300)
                seeds[clicked] += 1e6
        degree = np.asarray(graph.sum(axis=1)).ravel()
        share = spsolve((sparse.diags(degree + inside + outside) - graph).tocsc(), inside)
        mask = keep_pointed_at(share[parts] > 0.5, prompt.positive, scale)
        return cv2.resize(mask.astype(np.float32), embedding.size[::-1], interpolation=cv2.INTER_LINEAR) > 0.5


def read_held_out(dataset: str, images: str | None, every: int, count: int) -> tuple[Any, list[tuple[int, int]]]:
    """Rows, and (row, place) of the objects that are drawn, photo by photo."""
    rows = read_annotations(dataset, images or str(Path(dataset).parent), on_error="skip")
    objects = rows.select_columns(["objects"])
    shown = [index for index, row in enumerate(objects) if not all(item["is_crowd"] for item in row["objects"])]
    rows = rows.select(shown[::every])
    objects = list_objects(rows)
    drawn = np.random.default_rng(0).permutation(len(objects))[:count]
    return encoded_photos(rows), [objects[index] for index in sorted(drawn.tolist())]


def follow(
    segmenter: InteractiveSegmenter, embedding: Any, target: np.ndarray, clicks: int
) -> tuple[list[float], list[tuple[float, float]]]:
    """IoU after each click, and (wall-clock, processor) seconds of each."""
    points, labels, answer, found, seconds = [], [], None, [], []
    predicted = np.zeros_like(target)
    for _ in range(clicks):
        click = next_click(predicted, target)
        if click is not None:
            points.append(click[:2])
            labels.append(click[2])
            start = time.perf_counter(), time.process_time()
            predicted = segmenter.click(embedding, points, labels, mask=answer)
            seconds.append((time.perf_counter() - start[0], time.process_time() - start[1]))
            answer = predicted
        found.append(float((predicted & target).sum() / max(1, (predicted | target).sum())))
    return found, seconds


def evaluate(
    segmenters: Mapping[str, InteractiveSegmenter], rows: Any, objects: Sequence[tuple[int, int]], clicks: int
) -> dict[str, dict[str, Any]]:
    """The figures of each segmenter; on every object they take turns."""
    iou: dict[str, list[list[float]]] = {name: [] for name in segmenters}
    looks: dict[str, list[float]] = {name: [] for name in segmenters}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in segmenters}
    embeddings: dict[str, Any] = {}
    last = None
    for row, place in objects:
        if row != last:
            photo = np.asarray(load_row_photo(rows[row]))
            for name, segmenter in segmenters.items():
                start = time.process_time()
                embeddings[name] = segmenter.embed(photo)
                looks[name].append(time.process_time() - start)
            last = row
        target = decode_rle(rows[row]["objects"][place]["modal_mask"])
        for name, segmenter in segmenters.items():
            found, spent = follow(segmenter, embeddings[name], target, clicks)
            iou[name].append(found)
            seconds[name] += spent
    return {name: _figures(np.array(iou[name]), looks[name], np.array(seconds[name])) for name in segmenters}


def _figures(iou: np.ndarray, looks: Sequence[float], seconds: np.ndarray) -> dict[str, Any]:
    draws = np.random.default_rng(0).integers(0, len(iou), (1000, len(iou)))
    low, high = np.quantile(iou[draws].mean(axis=1), (0.025, 0.975), axis=0)
    return {
        "iou": (100 * iou.mean(axis=0)).tolist(),
        "low": (100 * low).tolist(),
        "high": (100 * high).tolist(),
        "embed_cpu": statistics.median(looks),
        "click_wall": float(np.median(seconds[:, 0])),
        "click_cpu": float(np.median(seconds[:, 1])),
    }


def make_segmenters(model: str, bf16: bool) -> dict[str, InteractiveSegmenter]:
    pipe: ClickSegmenterPipeline = AmodalPipeline.from_pretrained(model, dtype=torch.bfloat16 if bf16 else None)
    return {model: pipe.prepare("cpu"), "GrabCut": GrabCutSegmenter(), "random walker": RandomWalker()}


def write_table(found: Mapping[str, Mapping[str, Any]], clicks: int, rival: str = "GrabCut") -> None:
    shown = [number for number in SHOWN if number <= clicks]
    header = "".join(f"{f'IoU, {number} click' + 's' * (number > 1):>22s}" for number in shown)
    times = f"{'embed':>9s}{'click, wall':>13s}{'click, cpu':>12s}{'ratio':>8s}"
    sys.stdout.write(f"{'segmenter':28s}{header}{times}\n")
    for name, figures in found.items():
        cells = "".join(
            f"{figures['iou'][n - 1]:9.1f} ({figures['low'][n - 1]:4.1f}–{figures['high'][n - 1]:4.1f})" for n in shown
        )
        ratio = found[rival]["click_cpu"] / max(figures["click_cpu"], 1e-9)
        row = f"{figures['embed_cpu']:8.3f}s{figures['click_wall']:12.3f}s{figures['click_cpu']:11.3f}s{ratio:7.1f}x"
        sys.stdout.write(f"{name:28s}{cells}{row}\n")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="pipelines/click-segmenter", help="Folder of a ClickSegmenterPipeline.")
    parser.add_argument("--dataset", required=True, help="COCO JSON or Parquet with photos.")
    parser.add_argument("--images", help="Folder of the photos; that of --dataset where it is left out.")
    parser.add_argument("--every", type=int, default=4, help="Every so many photos are held out.")
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--clicks", type=int, default=5)
    parser.add_argument("--bf16", action="store_true", help="The network in bfloat16 instead of float32.")
    parser.add_argument("--json", type=Path, help="Write the figures there.")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    record = environment() | {"precision": "bfloat16" if args.bf16 else "float32"}
    rows, objects = read_held_out(args.dataset, args.images, args.every, args.objects)
    sys.stdout.write(format_environment(record) + f"\n\n{len(objects)} objects\n")
    found = evaluate(make_segmenters(args.model, args.bf16), rows, objects, args.clicks)
    write_table(found, args.clicks)
    if args.json:
        write_json(args.json, {**record, "objects": len(objects), "figures": found})


if __name__ == "__main__":
    main()
