"""Order and masks of one scene: our pipeline against the published flow, same weights, same machine, in turn.

The published flow [Z20] is written plainly below: crops are made one at a time with OpenCV, and the network answers one
ordered pair, then one object, per forward pass in fp32. Figures: the ratio on a scene with 19 objects and 46 ordered
pairs, agreement of the results, and how time grows with the number of objects. Ours runs in several ways (`WAYS`), so
that it shows what each step gains: batches alone, the memory layout, the precision, the engine. The ways "one-pass"
ask another network, the one of `--one-pass-model`, once for each object with all its neighbours at once (`passes=1`),
and read the order off where it grew; their results are not those of the published flow.

    python benchmarks/scene_speed.py --model pipelines/pcnet-m
    python benchmarks/scene_speed.py --objects --ways batches fp32 openvino --clock cpu --threads 1
    python benchmarks/scene_speed.py --objects --ways bf16 one-pass one-pass-bf16 --threads 2
    python benchmarks/scene_speed.py --model published.pth.tar --repeats 7 --json scene_speed.json
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import environment, format_environment, median_ratio, time_in_turn, write_json

from amodal_diffusion import AmodalPipeline, PCNetMaskPipeline
from amodal_diffusion.conversion import convert_pcnet_mask
from amodal_diffusion.ordering import neighbours
from amodal_diffusion.runtimes import check_runtime, has_fast_bf16

HEIGHT, WIDTH, MIN_AREA = 480, 640, 60
OBJECTS, PAIRS, SEED = 19, 23, 35  # 23 neighbour pairs are 46 ordered ones; the seed saves the search
GROWTH = (2, 5, 10, 20, 40)
PUBLISHED_SETTINGS = {"crop": "mixed", "paste": "binary", "keep_modal": False}  # the rest is the default


# Each way to run ours: precision, runtime, and whether the layout is channels last.
WAYS = {
    "batches": (torch.float32, "torch", False),
    "fp32": (torch.float32, "torch", True),
    "bf16": (torch.bfloat16, "torch", True),
    "onnx": (torch.float32, "onnx", True),
    "openvino": (torch.float32, "openvino", True),
    "openvino-bf16": (torch.bfloat16, "openvino", True),
    "onnx-int8": (torch.float32, "onnx", True),
    "openvino-int8": (torch.float32, "openvino", True),
}
ONE_PASS_MODEL = Path("pipelines/pcnet-m-photo")
ONE_PASS = {"one-pass": torch.float32, "one-pass-bf16": torch.bfloat16}
CALIBRATION = (10, 100)  # objects and seed of another scene, for the ranges of int8


def draw_objects(count: int, seed: int) -> np.ndarray:
    """(count, H, W) bool modal masks: random blobs, each hides the earlier ones; their size keeps the density."""
    rng = np.random.RandomState(seed)  # its stream is frozen for ever
    yy, xx = np.mgrid[:HEIGHT, :WIDTH]
    radius = 0.38 * np.sqrt(HEIGHT * WIDTH / max(count, 6))
    amodal = np.zeros((count, HEIGHT, WIDTH), bool)
    for mask in amodal:
        centre = rng.uniform(0.08, 0.92, 2) * (HEIGHT, WIDTH)
        for _ in range(3):  # a blob of three ellipses around one centre
            cy, cx = centre + rng.uniform(-0.6, 0.6, 2) * radius
            ry, rx = rng.uniform(0.4, 1.1, 2) * radius
            mask |= ((yy - cy) / ry) ** 2 + ((xx - cx) / rx) ** 2 <= 1
    in_front = np.logical_or.accumulate(amodal[::-1], axis=0)[::-1]
    modal = amodal.copy()
    modal[:-1] &= ~in_front[1:]
    return modal


def make_scene(count: int, pairs: int | None = None, first_seed: int = 0, tries: int = 500) -> np.ndarray:
    """The first seeded scene whose objects are all visible and, where asked for, with so many neighbour pairs."""
    for seed in range(first_seed, first_seed + tries):
        modal = draw_objects(count, seed)
        if modal.sum(axis=(1, 2)).min() < MIN_AREA:
            continue
        if pairs is None or int(np.triu(neighbours(modal)).sum()) == pairs:
            return modal
    raise ValueError(f"no scene with {count} objects and {pairs} pairs among {tries} seeds.")


class PublishedFlow:
    """Order and completion as published [Z20]: one crop and one forward pass at a time.

    Patches are resized by nearest for the order and bilinearly, then thresholded, for the masks.
    """

    def __init__(self, model: torch.nn.Module, size: int, order_threshold: float, mask_threshold: float) -> None:
        self.model, self.size = model, size
        self.order_threshold, self.mask_threshold = order_threshold, mask_threshold

    def __call__(self, modal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, H, W) bool → order (N, N) int8, amodal masks (N, H, W) bool."""
        masks = modal.astype(np.uint8)
        boxes = [self.crop_box(mask) for mask in masks]
        order = self.order(masks, boxes)
        return order, np.stack([self.complete(masks, boxes, order, index) for index in range(len(masks))])

    def order(self, masks: np.ndarray, boxes: list[tuple[int, int, int]]) -> np.ndarray:
        order = np.zeros((len(masks), len(masks)), np.int8)
        cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
        for i in range(len(masks)):
            for j in range(i + 1, len(masks)):
                if not (cv2.dilate(masks[i], cross) & masks[j]).any():
                    continue
                grows_i = self.increment(masks[i], masks[j], boxes[i])
                grows_j = self.increment(masks[j], masks[i], boxes[j])
                if grows_i or grows_j:
                    order[i, j] = 1 if grows_i < grows_j else -1
                    order[j, i] = -order[i, j]
        return order

    def increment(self, mask: np.ndarray, eraser: np.ndarray, box: tuple[int, int, int]) -> float:
        mask_patch, eraser_patch = self.crop(mask, box), self.crop(eraser, box)
        mask_patch[eraser_patch == 1] = 0
        grown = self.forward(mask_patch, eraser_patch, self.order_threshold)
        return ((grown == 1) & (eraser_patch == 1) & (mask_patch == 0)).sum() * (box[2] / self.size) ** 2

    def complete(
        self, masks: np.ndarray, boxes: list[tuple[int, int, int]], order: np.ndarray, index: int
    ) -> np.ndarray:
        found, queue = set(), [index]
        while queue:
            for parent in np.flatnonzero(order[queue.pop()] == -1):
                if parent not in found and parent != index:
                    found.add(int(parent))
                    queue.append(int(parent))
        eraser = (masks[sorted(found)].sum(axis=0) > 0).astype(np.uint8)
        mask_patch = self.crop(masks[index], boxes[index], cv2.INTER_LINEAR)
        eraser_patch = self.crop(eraser, boxes[index], cv2.INTER_LINEAR)
        mask_patch[eraser_patch == 1] = 0
        patch = self.forward(mask_patch, eraser_patch, self.mask_threshold)
        return self.paste(patch, boxes[index], masks.shape[1:])

    def forward(self, mask: np.ndarray, eraser: np.ndarray, threshold: float) -> np.ndarray:
        with torch.no_grad():
            device = next(self.model.parameters()).device
            planes = [torch.from_numpy(plane.astype(np.float32))[None, None].to(device) for plane in (mask, eraser)]
            logits = self.model(*planes).logits
            return (logits.softmax(dim=1)[0, 1] > threshold).cpu().numpy().astype(np.uint8)

    @staticmethod
    def crop_box(mask: np.ndarray) -> tuple[int, int, int]:
        ys, xs = np.nonzero(mask)
        left, top, width, height = xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1
        side = max(np.sqrt(width * height * 3.0), width * 1.1, height * 1.1)
        return int(left + width / 2 - side / 2), int(top + height / 2 - side / 2), int(side)

    def crop(self, mask: np.ndarray, box: tuple[int, int, int], interpolation: int = cv2.INTER_NEAREST) -> np.ndarray:
        left, top, side = box
        height, width = mask.shape
        patch = np.zeros((side, side), np.float32)
        y0, y1, x0, x1 = max(top, 0), min(top + side, height), max(left, 0), min(left + side, width)
        patch[y0 - top : y1 - top, x0 - left : x1 - left] = mask[y0:y1, x0:x1]
        return (cv2.resize(patch, (self.size, self.size), interpolation=interpolation) > 0.5).astype(np.uint8)

    @staticmethod
    def paste(patch: np.ndarray, box: tuple[int, int, int], shape: tuple[int, ...]) -> np.ndarray:
        left, top, side = box
        height, width = shape
        patch = cv2.resize(patch.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR) > 0.5
        mask = np.zeros(shape, bool)
        y0, y1, x0, x1 = max(top, 0), min(top + side, height), max(left, 0), min(left + side, width)
        mask[y0:y1, x0:x1] = patch[y0 - top : y1 - top, x0 - left : x1 - left]
        return mask


def load_pipeline(
    model: Path,
    dtype: torch.dtype,
    device: str,
    *,
    channels_last: bool = True,
    size: int | None = None,
    own_settings: bool = False,
) -> PCNetMaskPipeline:
    """Our pipeline, with the published settings unless `own_settings`.

    `model` is its folder or a published checkpoint, which was trained on crops of side `size` (256 where None).
    """
    with tempfile.TemporaryDirectory() as folder:
        if not model.is_dir():
            convert_pcnet_mask(model, folder, sample_size=size or 256)
            model = Path(folder)
        pipeline = PCNetMaskPipeline.from_pretrained(model, dtype=dtype)
    if not own_settings:
        pipeline = PCNetMaskPipeline(pipeline.model, **PUBLISHED_SETTINGS)
    pipeline.set_progress_bar_config(disable=True)
    if channels_last:
        pipeline.model.to(memory_format=torch.channels_last)
    return pipeline.to(device)


def load_one_pass(model: Path, dtype: torch.dtype, device: str) -> Any:
    """The network of a `PhotoPCNetMaskPipeline` without those beside it, asked once for each object; no photo."""
    alone = {"passes": 1, "order_model": None, "mask_model": None, "mask_threshold": 0.5}
    pipeline: Any = AmodalPipeline.from_pretrained(model, dtype=dtype, **alone)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.model.to(memory_format=torch.channels_last)
    return pipeline.to(device)


def settings_of(pipeline: Any) -> dict[str, Any]:
    """The settings of a pipeline, without its networks."""
    networks = set(pipeline.components)
    return {name: value for name, value in pipeline.config.items() if name[0] != "_" and name not in networks}


def usual_ways(device: str) -> list[str]:
    """The ways that suit this machine: bf16 where the processor has units for it, engines that are installed."""
    suitable = []
    for name, (dtype, runtime, _) in WAYS.items():
        slow = dtype == torch.bfloat16 and torch.device(device).type == "cpu" and not has_fast_bf16()
        try:
            check_runtime(runtime)
        except ImportError:
            continue
        if not slow:
            suitable.append(name)
    return suitable


def mean_iou(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Mean and least IoU of (N, H, W) bool masks; two empty masks agree."""
    union = (first | second).sum(axis=(1, 2))
    iou = np.where(union > 0, (first & second).sum(axis=(1, 2)) / np.maximum(union, 1), 1.0)
    return float(iou.mean()), float(iou.min())


def agreement(order: np.ndarray, masks: np.ndarray, output: Any, touching: np.ndarray) -> dict[str, float]:
    pairs = np.triu(touching)
    mean, least = mean_iou(masks, np.asarray(output.amodal_masks))
    same = (np.asarray(output.order) == order)[pairs]
    return {"iou_mean": mean, "iou_min": least, "order_agreement": float(same.mean()) if same.size else 1.0}


def run(
    model: Path,
    device: str,
    repeats: int,
    objects: list[int],
    clock: str = "wall",
    ways: list[str] | None = None,
    one_pass_model: Path = ONE_PASS_MODEL,
    **options: Any,
) -> dict[str, Any]:
    reference = load_pipeline(model, torch.float32, device, channels_last=False, **options)  # as published
    published = PublishedFlow(reference.model.eval(), reference.model.config.sample_size, 0.1, 0.2)
    pipelines: dict[str, Any] = {}
    for name in ways or usual_ways(device):
        if name in ONE_PASS:
            pipelines[name] = load_one_pass(one_pass_model, ONE_PASS[name], device)
            continue
        dtype, runtime, layout = WAYS[name]
        pipeline = load_pipeline(model, dtype, device, channels_last=layout, **options)
        typical = make_scene(CALIBRATION[0], None, CALIBRATION[1]) if name.endswith("int8") else None
        calibration = None if typical is None else lambda pipe=pipeline, scene=typical: pipe(None, scene)
        pipelines[name] = pipeline.use_runtime(runtime, calibration=calibration)
    record: dict[str, Any] = {
        "environment": environment(device) | {"opencv": cv2.__version__, "opencv threads": cv2.getNumThreads()},
        "model": {"parameters": sum(p.numel() for p in reference.model.parameters()), "crop": published.size},
        "clock": clock,
        "settings": {name: settings_of(pipeline) for name, pipeline in [("published", reference), *pipelines.items()]},
        "scenes": [],
    }
    if set(pipelines) & set(ONE_PASS):
        record["one_pass_model"] = str(one_pass_model)
    for count in [OBJECTS, *objects]:
        modal = make_scene(OBJECTS, PAIRS, SEED) if count == OBJECTS else make_scene(count, 1 if count == 2 else None)
        touching = neighbours(modal)
        functions = {"published": lambda modal=modal: published(modal)}
        functions |= {name: lambda p=pipeline, modal=modal: p(None, modal) for name, pipeline in pipelines.items()}
        seconds = time_in_turn(functions, repeats, device=device, clock=clock)
        order, masks = published(modal)
        scene: dict[str, Any] = {"objects": count, "ordered_pairs": int(touching.sum())}
        scene["seconds"] = {name: statistics.median(times) for name, times in seconds.items()}
        scene["ratio"] = {name: median_ratio(seconds["published"], seconds[name]) for name in pipelines}
        scene["agreement"] = {
            name: agreement(order, masks, pipeline(None, modal), touching) for name, pipeline in pipelines.items()
        }
        record["scenes"].append(scene)
        sys.stdout.write(format_scene(scene) + "\n")
        sys.stdout.flush()
    return record


def format_scene(scene: dict[str, Any]) -> str:
    seconds, parts = scene["seconds"], []
    for name, ratio in scene["ratio"].items():
        same = scene["agreement"][name]
        parts.append(
            f"{name:<14}{seconds[name]:6.3f} s, {ratio:4.1f}x, IoU {same['iou_mean']:.4f} "
            f"(least {same['iou_min']:.4f}), order {100 * same['order_agreement']:.1f} %"
        )
    head = f"{scene['objects']:3d} objects {scene['ordered_pairs']:3d} pairs: published {seconds['published']:6.3f} s"
    return "\n    ".join([head, *parts])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", type=Path, default=Path("pipelines/pcnet-m"), help="pipeline folder or published checkpoint"
    )
    parser.add_argument("--sample-size", type=int, help="side of the crops of a published checkpoint (256)")
    parser.add_argument(
        "--own-settings", action="store_true", help="keep the settings of the folder; results differ then"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each; the median counts")
    parser.add_argument(
        "--objects", type=int, nargs="*", default=list(GROWTH), help="further scenes, for the growth of time"
    )
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=(*WAYS, *ONE_PASS),
        metavar="WAY",
        help=f"of running ours: those that suit of {', '.join(WAYS)}; also {', '.join(ONE_PASS)}",
    )
    parser.add_argument(
        "--one-pass-model",
        type=Path,
        default=ONE_PASS_MODEL,
        help="folder of a PhotoPCNetMaskPipeline, for the ways one-pass, which --own-settings does not concern",
    )
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine that others use")
    parser.add_argument("--threads", type=int, help="torch and OpenCV threads")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    if not options.model.exists():
        parser.error(f"--model {options.model} does not exist")
    if set(options.ways or []) & set(ONE_PASS) and not options.one_pass_model.is_dir():
        parser.error(f"--one-pass-model {options.one_pass_model} is no folder")
    if options.threads:
        torch.set_num_threads(options.threads)
        cv2.setNumThreads(options.threads)
    shown = environment(options.device) | {"opencv": cv2.__version__, "clock": options.clock}
    sys.stdout.write(format_environment(shown) + "\n\n")
    record = run(
        options.model,
        options.device,
        options.repeats,
        options.objects,
        options.clock,
        options.ways,
        options.one_pass_model,
        size=options.sample_size,
        own_settings=options.own_settings,
    )
    if options.json:
        write_json(options.json, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
