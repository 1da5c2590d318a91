"""A photo and its masks to layers: time, peak memory, and how both grow with the number of objects.

Scenes are composed of random blobs on 640 x 480 pixels, or one photo with its masks is given. The baseline runs beside
it with the same networks: one crop in each pass through the network, and one call of the content pipeline for each
object. Rendering and an edit of the finished scene are timed too.

    python benchmarks/deocclusion_speed.py --model pipelines/deocclusion
    python benchmarks/deocclusion_speed.py --objects 2 10 40 --repeats 3 --threads 1 --json deocclusion_speed.json
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import environment, format_environment, median_ratio, time_in_turn, write_json
from PIL import Image
from scene_speed import make_scene

from amodal_diffusion import Scene, ScenePipeline
from amodal_diffusion.images import load_image
from amodal_diffusion.masks import to_mask_stack

OBJECTS = (2, 5, 10, 20, 40)
STAGES = ("masks", "edges", "contents", "background")


def make_photo(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8, smooth random colours."""
    coarse = np.random.RandomState(seed).randint(0, 256, (12, 16, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC))


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


def measure(model: Path, device: str, repeats: int, clock: str, photo: np.ndarray, masks: np.ndarray) -> dict[str, Any]:
    """The figures of one scene."""
    pipeline = ScenePipeline.from_pretrained(model).to(device)
    pipeline.set_progress_bar_config(disable=True)
    before = peak_memory(device)
    pipeline(photo, masks)
    peak = peak_memory(device)  # before anything else than the pipeline has run
    functions = {
        "ours": lambda: pipeline(photo, masks),
        "one at a time": lambda: one_at_a_time(pipeline, photo, masks),
    }
    seconds = time_in_turn(functions, repeats, warmup=0, device=device, clock=clock)
    now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
    scene, stages = stage_seconds(pipeline, photo, masks, now)
    drawing = {"render": lambda: scene.render(), "edit and render": lambda: edit_and_render(scene)}
    drawn = time_in_turn(drawing, max(3, repeats), device=device, clock=clock)
    return {
        "objects": len(masks),
        "identical": bool(np.array_equal(scene.render(output_type="np"), photo)),
        "seconds": {name: statistics.median(times) for name, times in {**seconds, **drawn}.items()},
        "stages": stages,
        "ratio": median_ratio(seconds["one at a time"], seconds["ours"]),
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
    return (
        f"{scene['objects']:3d} objects: {seconds['ours']:7.2f} s ({parts}), one at a time "
        f"{seconds['one at a time']:7.2f} s, {scene['ratio']:4.2f}x | render {1000 * seconds['render']:5.0f} ms, edit "
        f"{1000 * seconds['edit and render']:5.0f} ms | peak {scene['peak_mib']:6.0f} MiB (+{scene['growth_mib']:.0f})"
        + ("" if scene["identical"] else " | THE UNTOUCHED SCENE DIFFERS FROM THE PHOTO")
    )


def read_masks(folder: Path, shape: tuple[int, int]) -> np.ndarray:
    """(N, H, W) bool from a folder of PNG masks."""
    masks = [Image.open(path).convert("L") for path in sorted(folder.glob("*.png"))]
    return to_mask_stack(masks, height=shape[0], width=shape[1])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("pipelines/deocclusion"), help="folder of a ScenePipeline")
    parser.add_argument("--photo", type=Path, help="a photo instead of composed scenes; needs --masks")
    parser.add_argument("--masks", type=Path, help="folder of PNG masks of its objects")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each; the median counts")
    parser.add_argument("--objects", type=int, nargs="*", default=list(OBJECTS), help="composed scenes")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine that others use")
    parser.add_argument("--threads", type=int, help="torch threads")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    if not options.model.is_dir():
        parser.error(f"--model {options.model} is no folder")
    if (options.photo is None) != (options.masks is None):
        parser.error("--photo and --masks go together")
    if options.threads:
        torch.set_num_threads(options.threads)
    record: dict[str, Any] = {"environment": environment(options.device), "clock": options.clock, "scenes": []}
    sys.stdout.write(format_environment(record["environment"] | {"clock": options.clock}) + "\n\n")
    if options.photo is not None:
        photo = np.asarray(load_image(options.photo))
        scenes = [(photo, read_masks(options.masks, photo.shape[:2]))]
    else:
        stacks = [make_scene(count, 1 if count == 2 else None) for count in options.objects]
        scenes = [(make_photo(masks.shape[1:]), masks) for masks in stacks]
    for photo, masks in scenes:
        scene = in_own_process(
            options.threads, options.model, options.device, options.repeats, options.clock, photo, masks
        )
        record["scenes"].append(scene)
        sys.stdout.write(format_scene(scene) + "\n")
        sys.stdout.flush()
    if options.json:
        write_json(options.json, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
