"""`amodal-diffusion annotate`: rate and peak memory, what its shards cost, and that killing it changes nothing.

    python benchmarks/annotate_speed.py --annotations instances.json --model pipelines/pcnet-m [--runtime openvino]

- `annotate`: the command as it is, with `--num-workers` processes; loading is part of its time. Peak memory is that of
  the whole tree of processes, pages that they share counted once for each.
- `image by image`: what anybody would write, the pipeline called on one image after the other, next to
  `annotate_dataset` on the same images in the same process. Their ratio is what pieces, claims and files cost.
- `--curve N`: cost per image of 100, 1,000, ... N images with a network that does nothing: what is left is reading,
  run lengths, pieces, joining and both forms of the result. It is to be flat.
- `--kills N`: the command is killed with all its workers (SIGKILL) N times at random moments after it began to work,
  once more while it joins the pieces, and then runs to the end. All files must equal those of the first run.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from common import environment, format_environment, median_ratio, time_in_turn, write_json
from datasets import Dataset

from amodal_diffusion import AmodalPipelineOutput, MaskPipeline
from amodal_diffusion.annotation import annotate_dataset
from amodal_diffusion.cli.options import DTYPES, find_dtype
from amodal_diffusion.data import amodal_features, build_objects, read_annotations, record_masks, save_parquet
from amodal_diffusion.evaluation import call_pipeline, load_pipeline
from amodal_diffusion.images import load_image
from amodal_diffusion.masks import TileStack, encode_rle
from amodal_diffusion.runtimes import RUNTIMES

_LOOK = 0.05
"""Seconds between two looks at the processes."""


class Command:
    """A running `amodal-diffusion annotate`, with its workers."""

    def __init__(self, args: argparse.Namespace, source: Path, folder: Path) -> None:
        words = [sys.executable, "-m", "amodal_diffusion", "annotate", source, "--output", folder]
        words += ["--model", args.model, "--num-workers", args.num_workers, "--shard-rows", args.shard_rows]
        words += ["--dtype", args.dtype, "--runtime", args.runtime]
        words += ["--images", args.images] if args.images else []
        self.folder, self.started, self.peak = folder, time.time(), 0.0
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            [str(word) for word in words], start_new_session=True, stdout=subprocess.DEVNULL, stderr=self.errors
        )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def look(self) -> None:
        """Sleep a little; keep the most memory that was seen."""
        time.sleep(_LOOK)
        memory = 0
        with suppress(psutil.Error):
            root = psutil.Process(self.process.pid)
            for process in (root, *root.children(recursive=True)):
                with suppress(psutil.Error):
                    memory += process.memory_info().rss
        self.peak = max(self.peak, memory / 2**20)

    def wait(self) -> dict[str, float]:
        """Wall-clock and processor seconds, and MB, at its end."""
        while self.running:
            self.look()
        if self.process.returncode:
            self.errors.seek(0)
            raise RuntimeError(f"annotate ended with {self.process.returncode}: {self.errors.read()[-2000:].decode()}")
        return {"wall_seconds": time.time() - self.started, "peak_mb": self.peak}

    def wait_for(self, pattern: str) -> bool:
        """Whether a path in the folder that fits the pattern was made by this command before it ended."""
        while self.running:
            for path in self.folder.glob(pattern):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime > self.started:
                        return True
            time.sleep(_LOOK / 5)
        return False

    def kill(self) -> bool:
        """Kill it with its workers; whether there was something left to kill."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait() == -signal.SIGKILL


def processor_seconds() -> float:
    """Of all processes that were started here and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def measure_command(args: argparse.Namespace, source: Path, folder: Path, rows: Any) -> dict[str, float]:
    before = processor_seconds()
    figures = Command(args, source, folder).wait()
    figures["cpu_seconds"] = processor_seconds() - before
    figures["images"], figures["instances"] = len(rows), sum(map(len, rows["objects"]))
    figures["load"] = os.getloadavg()[0]
    return figures


def measure_overhead(args: argparse.Namespace, rows: Any, folder: Path) -> dict[str, float]:
    """Processor seconds of the plain loop and of `annotate_dataset`, one thread each, and their ratio."""
    pipeline = load_pipeline(args.model, dtype=find_dtype(args.dtype), runtime=args.runtime)
    rows = rows.select(range(min(len(rows), args.baseline_images)))
    runs = iter(range(10**6))

    def plain() -> None:
        for row in rows:
            modal, _ = record_masks(row)
            image = load_image(row["image"]) if row.get("image") else None
            call_pipeline(pipeline, image, modal, [obj["category_id"] or 0 for obj in row["objects"]])

    def ours() -> None:
        annotate_dataset(rows, pipeline, folder / str(next(runs)), shard_rows=args.shard_rows)

    seconds = time_in_turn({"plain": plain, "ours": ours}, args.repeats, clock="cpu")
    figures = {name: sum(values) / len(values) for name, values in seconds.items()}
    return {"images": len(rows), **figures, "ratio": median_ratio(seconds["plain"], seconds["ours"])}


def kill_and_compare(args: argparse.Namespace, source: Path, first: Path, seconds: float) -> dict[str, Any]:
    """Kill the command again and again, let it end, and compare all files with those of `first`."""
    rng, folder = random.Random(args.seed), first.parent.parent / "killed" / first.name
    pieces, kills = [], 0
    while kills < args.kills and not _is_finished(folder):
        command = Command(args, source, folder)
        if command.wait_for("shards/*/*.parquet"):
            time.sleep(rng.uniform(0, 1.2 * seconds / args.kills))
        kills += command.kill()
        pieces.append(len(list((folder / "shards").glob("*/*.parquet"))))
    joining = 0
    while not joining and not _is_finished(folder):
        command = Command(args, source, folder)
        if command.wait_for(".partial-*/new/data"):
            time.sleep(rng.uniform(0, 0.2))
        joining += command.kill()
    Command(args, source, folder).wait()
    ours, theirs = contents(folder), contents(first)
    return {
        "kills": kills, "pieces_after_each": pieces, "kills_while_joining": joining, "equal": ours == theirs,
        "differs": sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)),
    }  # fmt: skip


class Stub(MaskPipeline):
    """A pipeline that gives the visible masks back."""

    config: dict[str, Any] = {}
    networks: list[Any] = []
    needs_image = class_conditioned = False

    def __call__(self, image: Any, masks: Any, **_: Any) -> AmodalPipelineOutput:
        whole = [TileStack.from_dense(stack) for stack in masks]
        sure = [TileStack.from_dense(stack.astype(np.float32)) for stack in masks]
        return AmodalPipelineOutput(amodal_masks=whole, probabilities=sure)


def stub_rows(count: int) -> Dataset:
    """So many images with one small object each."""
    mask = encode_rle(np.eye(16, dtype=bool))
    item = {"id": 1, "name": "cup", "category_id": 1, "is_stuff": False, "is_crowd": False}
    objects = build_objects([{**item, "modal_mask": mask, "amodal_mask": None}])
    row = {"image_id": "", "file_name": "", "height": 16, "width": 16, "objects": objects, "order_relations": None}
    table = pa.Table.from_pylist([{**row, "source": "stub"}] * min(count, 1000), schema=amodal_features().arrow_schema)
    table = pa.concat_tables([table] * -(-count // 1000)).slice(0, count)
    return Dataset(table.set_column(0, "image_id", pa.array(map(str, range(1, count + 1)))))


def measure_curve(largest: int, folder: Path) -> list[dict[str, float]]:
    """Milliseconds and processor milliseconds an image, and the most memory so far, for ever more images."""
    figures, count = [], 100
    while count <= largest:
        rows = stub_rows(count)
        wall, processor = time.perf_counter(), time.process_time()
        annotate_dataset(rows, Stub(), folder / str(count))
        seconds = time.perf_counter() - wall, time.process_time() - processor
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        figures.append(
            {"images": count, "ms": 1e3 * seconds[0] / count, "cpu_ms": 1e3 * seconds[1] / count, "mb": memory}
        )
        shutil.rmtree(folder / str(count))
        last = figures[-1]
        print(f"{count:>9,} images{last['ms']:8.2f} ms{last['cpu_ms']:8.2f} CPU ms{memory:8.0f} MB", flush=True)
        count *= 10
    return figures


def _is_finished(folder: Path) -> bool:
    """The result is there and the pieces are gone."""
    return (folder / "README.md").exists() and not (folder / "shards").exists()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, required=True, help="modal masks in any known format")
    parser.add_argument("--images", type=Path, help="folder of the photos, for a model that looks at them")
    parser.add_argument("--model", required=True, help="folder or Hub id of a mask pipeline")
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--shard-rows", type=int, default=32)
    parser.add_argument("--dtype", choices=("auto", *DTYPES), default="auto", help="as of the command (auto)")
    parser.add_argument("--runtime", choices=RUNTIMES, default="torch")
    parser.add_argument("--limit", type=int, help="images to use at most")
    parser.add_argument("--baseline-images", type=int, default=60, help="of the plain loop; 0 leaves it out")
    parser.add_argument("--repeats", type=int, default=3, help="of the plain loop")
    parser.add_argument("--curve", type=int, default=0, metavar="N", help="images with a network that does nothing")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    record: dict[str, Any] = {"environment": environment(), "command": vars(args) | {"json": None}}
    print(format_environment(record["environment"]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, rows = args.annotations, read_annotations(args.annotations, args.images)
        if args.limit and args.limit < len(rows):
            rows, source = rows.select(range(args.limit)), folder / "source"
            save_parquet(rows.remove_columns([key for key in ("image",) if key in rows.column_names]), source)
        first = folder / "first" / "result"
        figures = record["annotate"] = measure_command(args, source, first, rows)
        how = f"{args.num_workers} processes, {args.runtime}, --dtype {args.dtype}"
        print(f"\nannotate with {how}, load {figures['load']:.1f} at the end")
        print(f"{figures['images']} images, {figures['instances']:,} instances")
        for clock in ("wall", "cpu"):
            seconds = figures[f"{clock}_seconds"]
            rate = figures["instances"] / seconds
            print(f"{clock:<5}{seconds:8.1f} s   {rate:8.1f} instances/s   {figures['images'] / seconds:8.2f} images/s")
        print(f"peak {figures['peak_mb']:8.0f} MB", flush=True)
        if args.baseline_images:
            figures = record["image by image"] = measure_overhead(args, rows, folder / "runs")
            print(f"\nimage by image, {figures['images']} images, CPU seconds: {figures['plain']:.2f}")
            print(f"annotate_dataset: {figures['ours']:.2f}, ratio {figures['ratio']:.3f}", flush=True)
        if args.curve:
            print("\na network that does nothing, cost per image")
            record["curve"] = measure_curve(args.curve, folder / "curve")
        if args.kills:
            found = kill_and_compare(args, source, first, record["annotate"]["wall_seconds"])
            record["kills"] = found
            print(f"\nkilled {found['kills']} times, pieces there after each: {found['pieces_after_each']}")
            print(f"killed while joining: {found['kills_while_joining']}")
            print("result: " + ("equal, byte for byte" if found["equal"] else f"DIFFERS in {found['differs']}"))
    if args.json:
        write_json(args.json, {**record, "command": {key: str(value) for key, value in record["command"].items()}})
    if args.kills and not record["kills"]["equal"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
