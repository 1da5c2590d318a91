"""How well hidden pixels are filled: ContentPipeline against OpenCV's inpainting, on photos it never saw.

    python benchmarks/content_quality.py --model pipelines/pcnet-c --dataset a.json b.json --validation_fraction 0.08

The photos are those that `train_pcnet_c.py` holds out with the same `--dataset` and `--validation_fraction`. An object
of another photo is pasted in front, so that what it hides is known. Two kinds of holes: *object*, the hidden part of an
object; *background*, the whole place of the occluder, as when it is removed. `--softness 0.6` mixes the colours along
the occluder's rim, as photos do; without it rims are sharp.

PSNR, SSIM, detail (`gradient`, the truth's is 1) and the occluder's colour left along the seam (`leak`) are those of
`amodal_diffusion.metrics.FillMetrics`; the distances on EfficientNet-lite0, made like LPIPS and FID and not comparable
with them, those of `LiteDistances`. `leak_chance` is the leak with the colours of the other scenes' occluders, which
were never in the photo: a fill that errs by chance has as much of either, so only what `leak` is above it has leaked.
Seconds are processor time for one hole, with one thread.

    python benchmarks/content_quality.py --sheet runs/sheet --scene_model pipelines/deocclusion --dataset a.json

writes pictures to look at instead: scenes of photos held out with an object removed or moved, fillers side by side.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import environment, format_environment, write_json
from fills.edges import table
from fills.pasted import PastedScene, make_scenes, read_held_out
from fills.pictures import edited_scenes, grid, picture_strip
from fills.rivals import CONTRIB, CONTRIB_HINT, Filler, mean_colour, opencv_fillers, pipeline_fillers

from amodal_diffusion import ContentPipeline, ScenePipeline
from amodal_diffusion.images import save_image
from amodal_diffusion.metrics import FillMetrics, LiteDistances, fill_leak

SHEET_ROWS, SHEET_SIDE = 4, 400
COLUMNS = tuple("psnr psnr_pooled ssim gradient leak leak_chance lite_lpips lite_fid lite_texture seconds".split())


def evaluate(filler: Filler, scenes: Sequence[PastedScene]) -> dict[str, float]:
    """The figures of one filler over scenes of one kind."""
    metrics, distances, seconds = FillMetrics(), LiteDistances(), 0.0
    chance: list[float] = []
    for scene in scenes:
        start = time.process_time()
        picture = filler(scene)
        seconds += time.process_time() - start
        metrics.update(picture, scene.truth, scene.hole, scene.occluder_color)
        distances.update(picture, scene.truth, scene.hole)
        others = [other.occluder_color for other in scenes if other is not scene]
        chance += [fill_leak(picture, scene.truth, scene.hole, color) for color in others]
    by_chance = float(np.nanmean(chance)) if np.isfinite(chance).any() else float("nan")
    return {
        **metrics.compute(),
        "leak_chance": by_chance,
        **distances.compute(),
        "seconds": seconds / max(1, len(scenes)),
    }


def report(fillers: Mapping[str, Filler], scenes: Mapping[str, Sequence[PastedScene]]) -> dict[str, Any]:
    """Figures by kind of hole and filler; printed while they come."""
    found: dict[str, Any] = {}
    for kind, chosen in scenes.items():
        columns = "".join(f"{name:>13s}" for name in COLUMNS)
        sys.stdout.write(f"\n{len(chosen)} holes, {kind}\n{'filler':24s}{columns}\n")
        found[kind] = {"holes": len(chosen)}
        for name, filler in fillers.items():
            figures = found[kind][name] = evaluate(filler, chosen)
            sys.stdout.write(f"{name:24s}" + "".join(f"{figures[column]:13.3f}" for column in COLUMNS) + "\n")
            sys.stdout.flush()
    return found


def make_fillers(folder: str) -> dict[str, Filler]:
    pipe = ContentPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return {"mean colour": mean_colour, **opencv_fillers(), **pipeline_fillers(pipe)}


def _look(args: argparse.Namespace) -> dict[str, Any]:
    """Settings of the scene pipeline that the arguments change."""
    edges = {} if args.edge_width is None else {"edge_width": args.edge_width}
    return {**edges, "shadows": False} if args.no_shadows else edges


def write_sheets(args: argparse.Namespace) -> None:
    """Files of `SHEET_ROWS` scenes each: the photo, and the edited scene by each filler."""
    pipe = ScenePipeline.from_pretrained(args.scene_model, **_look(args))
    pipe.set_progress_bar_config(disable=True)
    photos = read_held_out(args.dataset, args.validation_fraction)
    args.sheet.mkdir(parents=True, exist_ok=True)
    rows = []
    for row in edited_scenes(pipe, photos, args.only or ["auto", "pcnet-c"], args.scenes):
        rows.append(row)
        number = (len(rows) - 1) // SHEET_ROWS
        save_image(grid(rows[number * SHEET_ROWS :], SHEET_SIDE), args.sheet / f"{number + 1}.png")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="Content pipeline: folder or Hub id.")
    parser.add_argument("--dataset", nargs="+", required=True, help="Annotation files with photos beside them.")
    parser.add_argument("--validation_fraction", type=float, default=0.08, help="That of the training.")
    parser.add_argument("--holes", type=int, default=40, help="Of each kind, at most.")
    parser.add_argument("--softness", type=float, default=0.0, help="Of the occluder's rim, in pixels.")
    parser.add_argument("--only", nargs="+", default=None, help="Names of fillers; all by default.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--picture", type=Path, default=None, help="A strip of some holes of each kind.")
    parser.add_argument("--sheet", type=Path, default=None, help="Folder for pictures of edited scenes.")
    parser.add_argument("--scene_model", default="pipelines/deocclusion", help="Scene pipeline of the sheet.")
    parser.add_argument("--scenes", type=int, default=24, help="On the sheet.")
    parser.add_argument("--edges", type=int, default=0, metavar="N", help="Score soft outlines on N objects, alone.")
    parser.add_argument("--edge_width", type=float, default=None, help="Of the sheet's layers; 0: hard outlines.")
    parser.add_argument("--no_shadows", action="store_true", help="Find no shadows for the sheet.")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if args.sheet is not None:
        write_sheets(args)
        return {}
    if args.edges:
        sys.stdout.write(format_environment(environment()) + "\n\n" + table(args.dataset, args.edges, args.seed))
        return {}
    if args.model is None:
        parser.error("--model is needed, but for --sheet and --edges")
    fillers = make_fillers(args.model)
    unknown = set(args.only or ()) - set(fillers)
    if set(CONTRIB) - set(fillers) and (args.only is None or unknown & set(CONTRIB)):
        sys.stderr.write(CONTRIB_HINT + "\n")
        unknown -= set(CONTRIB)
    if unknown:
        parser.error(f"--only has {', '.join(sorted(unknown))}; there are {', '.join(fillers)}")
    fillers = {name: filler for name, filler in fillers.items() if args.only is None or name in args.only}
    scenes = make_scenes(read_held_out(args.dataset, args.validation_fraction), args.seed, args.holes, args.softness)
    sys.stdout.write(format_environment(environment()) + "\n")
    found = {"environment": environment(), **report(fillers, scenes)}
    if args.json is not None:
        write_json(args.json, found)
    if args.picture is not None:
        shown = [scene for chosen in scenes.values() for scene in chosen[:: max(1, len(chosen) // 5)][:5]]
        save_image(picture_strip(shown, fillers), args.picture)
    return found


if __name__ == "__main__":
    main()
