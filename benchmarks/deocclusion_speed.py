"""A photo and its masks to layers: time, peak memory, and how both grow with the number of objects.

Scenes are composed of random blobs on 640 x 480 pixels, or as many as `--megapixels` says, or one photo with its masks
is given. Two baselines run beside it with the same networks: one crop in each pass through the network and one call of
the content pipeline for each object; and PCNet-C as the filler of all holes, as published. Rendering and an edit of the
finished scene are timed too.

`--growth` asks what time follows: ten objects of which 5 to 40 % is hidden, and objects two and four times as large of
which as many pixels are hidden, each with the ratio to the first row, stage by stage.

    python benchmarks/deocclusion_speed.py --model pipelines/deocclusion
    python benchmarks/deocclusion_speed.py --objects 2 10 40 --repeats 3 --threads 1 --json deocclusion_speed.json
    python benchmarks/deocclusion_speed.py --objects 10 --dtype auto
    python benchmarks/deocclusion_speed.py --objects 6 --megapixels 12 --ground gravel --threads 1 --clock cpu
    python benchmarks/deocclusion_speed.py --growth --threads 1 --clock cpu
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import environment, format_environment, median_ratio, time_in_turn, write_json
from PIL import Image
from scene_speed import make_scene

from amodal_diffusion import Scene, ScenePipeline
from amodal_diffusion.images import load_image
from amodal_diffusion.masks import mask_boxes, to_mask_stack
from amodal_diffusion.pipelines.deocclusion.matting import soft_outlines
from amodal_diffusion.pipelines.deocclusion.shadows import find_shadows
from amodal_diffusion.runtimes import preferred_dtype

OBJECTS = (2, 5, 10, 20, 40)
STAGES = ("masks", "edges", "contents", "background")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def make_photo(shape: tuple[int, int], seed: int = 0, ground: str = "plain") -> np.ndarray:
    """(H, W, 3) uint8, smooth random colours; as "gravel" or "grass" with stones or blades of 3 to 12 pixels at 640."""
    random = np.random.RandomState(seed)
    coarse = random.randint(0, 256, (12, 16, 3)).astype(np.uint8)
    photo = np.asarray(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC))
    if ground == "plain":
        return photo
    unit, rough = max(shape) / 640, np.zeros(shape, np.float32)
    for side in (3, 6, 12):
        sides = (3 * side, side) if ground == "grass" else (side, side)
        cells = [max(1, round(length / (unit * step))) for length, step in zip(shape, sides, strict=True)]
        grains = Image.fromarray(random.rand(*cells).astype(np.float32) - 0.5)
        rough += np.asarray(grains.resize(shape[::-1], Image.Resampling.BICUBIC))
    photo = photo // 2 + 64
    for rows in range(0, shape[0], 256):  # no floats of the whole photo
        part = photo[rows : rows + 256] + 70 * rough[rows : rows + 256, :, None]
        photo[rows : rows + 256] = part.clip(0, 255)
    return photo


def make_masks(count: int, megapixels: float | None) -> np.ndarray:
    """(count, H, W) bool, a composed scene, enlarged to so many million pixels."""
    masks = make_scene(count, 1 if count == 2 else None)
    if megapixels is None:
        return masks
    scale = (megapixels * 1e6 / masks[0].size) ** 0.5
    size = [round(side * scale) for side in masks.shape[:0:-1]]
    return np.stack([np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) for mask in masks])


@dataclass
class HiddenParts:
    """Ten objects of known shape, each with a bar before its right side, which is none of them."""

    area: int  # pixels of an object
    hidden: int  # pixels of it that its bar hides
    modal: np.ndarray  # (10, H, W) bool
    amodal: np.ndarray
    occluder: np.ndarray  # (H, W) bool

    @classmethod
    def of(cls, area: int, share: float, shape: tuple[int, int] = (480, 640)) -> "HiddenParts":
        """Objects of about `area` pixels, at most 20,000, of which `share` is hidden."""
        yy, xx = np.mgrid[: shape[0], : shape[1]]
        rows, columns = shape[0] // 2, shape[1] // 5
        (amodal, modal), occluder = np.zeros((2, 10, *shape), bool), np.zeros(shape, bool)
        radius = (area / (np.pi * 1.6)) ** 0.5
        for index, mask in enumerate(amodal):
            y, x = rows * (index // 5) + rows / 2, columns * (index % 5) + columns / 2
            mask |= ((yy - y) / (1.6 * radius)) ** 2 + ((xx - x) / radius) ** 2 <= 1
            edge = np.quantile(xx[mask], 1 - share)
            bar = (xx > edge) & (xx < x + radius + 2) & (abs(yy - y) < 1.6 * radius)
            occluder |= bar
            modal[index] = mask & ~bar
        return cls(int(amodal[0].sum()), int((amodal & ~modal)[0].sum()), modal, amodal, occluder)


GROWTH = ((4600, 0.05), (4600, 0.1), (4600, 0.2), (4600, 0.4), (9200, 0.1), (18400, 0.05))
"""Pixels of an object, and the share of it that is hidden; the last two hide as much as the third."""


def stages_of(pipeline: ScenePipeline, photo: np.ndarray, parts: HiddenParts) -> dict[str, Callable[[], Any]]:
    """The stages of a call, each alone, with whole masks that are known."""
    content, order = pipeline.content_pipeline, np.zeros((len(parts.modal),) * 2, np.int8)
    width = pipeline.config.edge_width
    found = soft_outlines(photo, parts.modal, parts.amodal, order, width)
    removed, boxes = found.seen.any(axis=0), mask_boxes(found.amodal)
    return {
        "masks": lambda: pipeline.mask_pipeline(
            photo, parts.modal, occluder_masks=parts.occluder, output_type="compact"
        ),
        "edges": lambda: (
            soft_outlines(photo, parts.modal, parts.amodal, order, width),
            find_shadows(photo, found.seen, boxes) if pipeline.config.shadows else None,
        ),
        "contents": lambda: content(
            found.photo, found.seen, found.amodal, order=order, occluder_masks=parts.occluder & ~removed,
            clean_seams=width > 0,
        ),
        "background": lambda: content.background(photo, removed, replace_rim=width == 0, avoid=parts.occluder),
    }  # fmt: skip


def load(model: Path, device: str, dtype: str) -> ScenePipeline:
    """The pipeline ready on a device, as `deocclude` and the page have it; `dtype` is a name in `DTYPES`."""
    return ScenePipeline.from_pretrained(model, dtype=DTYPES[dtype]).prepare(device)


def measure_growth(
    model: Path, device: str, dtype: str, repeats: int, clock: str, ground: str, growth: Any = GROWTH
) -> list[dict[str, Any]]:
    """The figures of `--growth`; all scenes take turns."""
    pipeline = load(model, device, dtype)
    scenes = [HiddenParts.of(area, share) for area, share in growth]
    photo = make_photo(scenes[0].occluder.shape, ground=ground)
    functions = {
        (number, stage): function
        for number, parts in enumerate(scenes)
        for stage, function in stages_of(pipeline, photo, parts).items()
    }
    seconds: Any = time_in_turn(functions, repeats, device=device, clock=clock)  # type: ignore[arg-type]
    rows = []
    for number, parts in enumerate(scenes):
        stages = {stage: statistics.median(seconds[number, stage]) for stage in STAGES}
        ratios = {stage: median_ratio(seconds[number, stage], seconds[0, stage]) for stage in STAGES}
        rows.append({"area": parts.area, "hidden": parts.hidden, "stages": stages, "ratios": ratios})
    return rows


def format_growth(row: dict[str, Any]) -> str:
    parts = ", ".join(f"{name} {row['stages'][name]:.3f} s ({row['ratios'][name]:.2f}x)" for name in STAGES)
    share = row["hidden"] / row["area"]
    return f"10 objects of {row['area']:6,} pixels, {row['hidden']:5,} hidden ({share:4.0%}): {parts}"


def one_at_a_time(pipeline: ScenePipeline, photo: np.ndarray, masks: np.ndarray) -> list[Any]:
    """Whole masks, contents and background as `pipeline` makes them, in calls for one object and passes of one crop."""
    found = pipeline.mask_pipeline(photo, masks, batch_size=1)
    amodal, order = np.asarray(found.amodal_masks) | masks, found.order
    tiles = []
    for index in range(len(masks)):
        occluders = masks[order[index] == -1].any(axis=0)
        contents = pipeline.content_pipeline(
            photo, masks[index : index + 1], amodal[index : index + 1], occluder_masks=occluders, batch_size=1
        )
        tiles.append(contents.objects[0])
    return [*tiles, pipeline.content_pipeline.background(photo, masks, replace_rim=True)]


def stage_seconds(pipeline: ScenePipeline, photo: np.ndarray, masks: np.ndarray, now: Callable[[], float]) -> Any:
    """The scene, and the seconds of each stage of one call."""
    marks: dict[str, float] = {}
    scene = pipeline(photo, masks, progress_callback=lambda stage, share: marks.setdefault(stage, now()))
    names = list(marks)
    return scene, {name: marks[after] - marks[name] for name, after in zip(names, names[1:], strict=False)}


def edit_and_render(scene: Scene) -> Any:
    """What a drag of an object costs: the first is moved, the last scaled, all drawn again."""
    return scene.move(0, 25, -10).scale(len(scene) - 1, 0.8).render()


def peak_memory(device: str) -> int:
    """Bytes: the most that this process held so far, on the device."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:  # unlike getrusage this does not begin with what the parent process held
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(
    model: Path, device: str, dtype: str, repeats: int, clock: str, photo: np.ndarray, masks: np.ndarray
) -> dict[str, Any]:
    """The figures of one scene."""
    pipeline = load(model, device, dtype)
    before = peak_memory(device)
    pipeline(photo, masks)
    peak = peak_memory(device)  # before anything else than the pipeline has run
    functions = {
        "ours": lambda: pipeline(photo, masks),
        "one at a time": lambda: one_at_a_time(pipeline, photo, masks),
    }
    if "pcnet-c" in pipeline.fillers:
        functions["PCNet-C"] = lambda: pipeline(photo, masks, filler="pcnet-c", background_filler="pcnet-c")
    seconds = time_in_turn(functions, repeats, warmup=0, device=device, clock=clock)
    now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
    scene, stages = stage_seconds(pipeline, photo, masks, now)
    drawing = {"render": lambda: scene.render(), "edit and render": lambda: edit_and_render(scene)}
    drawn = time_in_turn(drawing, max(3, repeats), device=device, clock=clock)
    return {
        "objects": len(masks),
        "pixels": photo.shape[0] * photo.shape[1],
        "identical": bool(np.array_equal(scene.render(output_type="np"), photo)),
        "seconds": {name: statistics.median(times) for name, times in {**seconds, **drawn}.items()},
        "stages": stages,
        "ratio": median_ratio(seconds["one at a time"], seconds["ours"]),
        "ratio_to_network": median_ratio(seconds["PCNet-C"], seconds["ours"]) if "PCNet-C" in seconds else None,
        "peak_mib": peak / 2**20,
        "growth_mib": (peak - before) / 2**20,
    }


def _measure_alone(threads: int | None, arguments: tuple[Any, ...]) -> dict[str, Any]:
    if threads:
        torch.set_num_threads(threads)
    return measure(*arguments)


def in_own_process(threads: int | None, *arguments: Any) -> dict[str, Any]:
    """`measure` in a fresh process, whose peak of memory is that of this scene alone."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_alone, (threads, arguments))


def format_scene(scene: dict[str, Any]) -> str:
    seconds, stages = scene["seconds"], scene["stages"]
    parts = ", ".join(f"{name} {stages.get(name, 0):.2f}" for name in STAGES)
    network = ""
    if scene["ratio_to_network"] is not None:
        network = f", by PCNet-C {seconds['PCNet-C']:7.2f} s, {scene['ratio_to_network']:4.2f}x"
    drawn, edited = (1000 * seconds[name] for name in ("render", "edit and render"))
    return (
        f"{scene['objects']:3d} objects: {seconds['ours']:7.2f} s ({parts}), one at a time "
        f"{seconds['one at a time']:7.2f} s, {scene['ratio']:4.2f}x{network} | render {drawn:5.0f} ms, "
        f"edit {edited:5.0f} ms | peak {scene['peak_mib']:6.0f} MiB (+{scene['growth_mib']:.0f})"
        + ("" if scene["identical"] else " | THE UNTOUCHED SCENE DIFFERS FROM THE PHOTO")
    )


def read_masks(folder: Path, shape: tuple[int, int]) -> np.ndarray:
    """(N, H, W) bool from a folder of PNG masks."""
    masks = [Image.open(path).convert("L") for path in sorted(folder.glob("*.png"))]
    return to_mask_stack(masks, height=shape[0], width=shape[1])


def _count(text: str) -> int:
    if not text.lstrip("-").isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("pipelines/deocclusion"), help="folder of a ScenePipeline")
    parser.add_argument("--photo", type=Path, help="a photo instead of composed scenes; needs --masks")
    parser.add_argument("--masks", type=Path, help="folder of PNG masks of its objects")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--dtype",
        choices=(*DTYPES, "auto"),
        default="fp32",
        help="of the networks; auto as `deocclude` has it (fp32)",
    )
    parser.add_argument("--repeats", type=_count, default=3, help="timed runs of each; the median counts")
    parser.add_argument("--objects", type=_count, nargs="+", default=list(OBJECTS), help="composed scenes")
    parser.add_argument("--megapixels", type=float, help="size of composed scenes; default 640 x 480")
    parser.add_argument("--ground", choices=("plain", "gravel", "grass"), help="of composed scenes; default plain")
    parser.add_argument("--growth", action="store_true", help="what time follows: hidden pixels or those of objects")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine that others use")
    parser.add_argument("--threads", type=_count, help="torch threads")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    if not options.model.is_dir():
        parser.error(f"--model {options.model} is no folder")
    if (options.photo is None) != (options.masks is None):
        parser.error("--photo and --masks go together")
    if options.photo is not None and (options.megapixels or options.ground or options.growth):
        parser.error("--megapixels, --ground and --growth are of composed scenes")
    if options.megapixels is not None and (not 0.01 <= options.megapixels <= 100 or options.growth):
        parser.error("--megapixels must be from 0.01 to 100, and not with --growth")
    if options.threads:
        torch.set_num_threads(options.threads)
    dtype = options.dtype
    if dtype == "auto":
        dtype = {value: name for name, value in DTYPES.items()}[preferred_dtype(options.device)]
    settings = {"clock": options.clock, "dtype": dtype}
    record: dict[str, Any] = {"environment": environment(options.device), **settings, "scenes": []}
    sys.stdout.write(format_environment(record["environment"] | settings) + "\n\n")
    ground = options.ground or ("gravel" if options.growth else "plain")
    if options.growth:
        record["growth"] = measure_growth(options.model, options.device, dtype, options.repeats, options.clock, ground)
        sys.stdout.write("\n".join(map(format_growth, record["growth"])) + "\n")
        scenes = []
    elif options.photo is not None:
        photo = np.asarray(load_image(options.photo))
        scenes = [(photo, read_masks(options.masks, photo.shape[:2]))]
    else:
        stacks = [make_masks(count, options.megapixels) for count in options.objects]
        scenes = [(make_photo(masks.shape[1:], ground=ground), masks) for masks in stacks]
    for photo, masks in scenes:
        scene = in_own_process(
            options.threads, options.model, options.device, dtype, options.repeats, options.clock, photo, masks
        )
        record["scenes"].append(scene)
        sys.stdout.write(format_scene(scene) + "\n")
        sys.stdout.flush()
    if options.json:
        write_json(options.json, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
