"""Conversion of a large annotation file: peak memory and rate, next to pycocotools' decoding in the same run.

    python benchmarks/dataset_conversion.py [--instances 100000] [--json report.json]

A file of the layout and size of KINS is written first: photos of 1242 x 375, polygons of 64 points for the whole and
run lengths for the visible mask, instances in random order of their images. Each part runs in a process of its own:

- `import`: what the libraries take before anything is read.
- `convert`: `amodal-diffusion dataset convert` to Parquet, for a quarter of the instances and for all. Memory is
  bounded where both take about the same.
- `pycocotools`: `COCO(file)`, which holds the whole file, then `annToMask` of amodal and `decode` of modal masks.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from common import environment, format_environment, write_json
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from amodal_diffusion.data import convert_dataset, iter_annotations

HEIGHT, WIDTH = 375, 1242
PER_IMAGE = 14
SHAPES, POINTS = 1000, 64


def write_kins(path: Path, instances: int, seed: int) -> None:
    """A file of the older layout of KINS; `SHAPES` different objects take turns."""
    rng = np.random.default_rng(seed)
    shapes = [_shape(rng) for _ in range(SHAPES)]
    images = -(-instances // PER_IMAGE)
    owners = rng.permutation(np.arange(instances) % images)
    with path.open("w", encoding="utf-8") as file:
        file.write('{"images": [')
        for image in range(images):
            entry = {"id": image, "file_name": f"{image:06d}.png", "height": HEIGHT, "width": WIDTH}
            file.write(("," if image else "") + json.dumps(entry))
        file.write('], "annotations": [')
        for index, owner in enumerate(owners.tolist()):
            head = f'{{"id": {index + 1}, "image_id": {owner}, "category_id": 4, "iscrowd": 0, '
            file.write(("," if index else "") + head + shapes[index % SHAPES] + "}")
        file.write('], "categories": [{"id": 4, "name": "car"}]}')


def _shape(rng: np.random.Generator) -> str:
    x, y = rng.uniform(90, WIDTH - 90), rng.uniform(100, HEIGHT - 90)
    width, height = rng.uniform(10, 80), rng.uniform(10, 60)
    polygon = _outline(rng, x, y, width, height)
    whole, hider = mask_utils.frPyObjects([polygon, _outline(rng, x + 0.8 * width, y, width, height)], HEIGHT, WIDTH)
    visible = mask_utils.decode(whole) & ~mask_utils.decode(hider)
    modal = mask_utils.encode(np.asfortranarray(visible))
    modal["counts"] = modal["counts"].decode()
    box = mask_utils.toBbox(modal).tolist()
    fields = {"segmentation": [polygon], "inmodal_seg": modal, "inmodal_bbox": box, "area": float(visible.sum())}
    return json.dumps(fields)[1:-1]


def _outline(rng: np.random.Generator, x: float, y: float, width: float, height: float) -> list[float]:
    turn = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    reach = 1 + 0.15 * np.sin(3 * turn + rng.uniform(0, 6))
    return np.stack([x + width * reach * np.cos(turn), y + height * reach * np.sin(turn)], 1).round(2).ravel().tolist()


def nothing(path: Path, folder: Path) -> int:
    import datasets  # noqa: F401 - to measure it

    return 0


def convert(path: Path, folder: Path) -> int:
    converted = convert_dataset({"train": iter_annotations(path, format="kins")}, folder / f"{path.stem}-parquet")
    return converted.counts["train"].numbers()["objects"]


def decode(path: Path, folder: Path) -> int:
    coco = COCO(path)
    for annotation in coco.anns.values():
        coco.annToMask(annotation)
        mask_utils.decode(annotation["inmodal_seg"])
    return len(coco.anns)


def measure(part: str, path: Path, folder: Path) -> dict[str, Any]:
    """Run a part in this process, which nothing else has used."""
    sys.stdout = sys.stderr  # pycocotools talks
    wall, processor = time.perf_counter(), time.process_time()
    count = PARTS[part](path, folder)
    return {
        "objects": count,
        "cpu_seconds": time.process_time() - processor,
        "wall_seconds": time.perf_counter() - wall,
        "peak_mb": _peak_mb(),
    }


PARTS = {"import": nothing, "convert": convert, "pycocotools": decode}


def _peak_mb() -> float:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except OSError:  # elsewhere than on Linux, with what the parent had when it started this process
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_alone(part: str, path: Path, folder: Path) -> dict[str, Any]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, part, path, folder).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args = parser.parse_args()
    if args.instances < 10:
        parser.error(f"--instances must be at least 10, got {args.instances}")
    record: dict[str, Any] = {"environment": environment(), "instances": args.instances, "parts": {}}
    print(format_environment(record["environment"]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large = folder / "small.json", folder / "large.json"
        write_kins(small, args.instances // 4, args.seed)
        write_kins(large, args.instances, args.seed)
        record["file_mb"] = large.stat().st_size / 2**20
        print(f"file      {record['file_mb']:.0f} MB, {args.instances:,} instances\n")
        print("part                    instances   instances/s (CPU)   peak MB")
        for part, path in (("import", small), ("convert", small), ("convert", large), ("pycocotools", large)):
            result = run_alone(part, path, folder)
            record["parts"][f"{part} {result['objects']}"] = result
            rate = f"{result['objects'] / result['cpu_seconds']:,.0f}" if result["objects"] else ""
            print(f"{part:<20} {result['objects']:>12,} {rate:>19} {result['peak_mb']:>9,.0f}", flush=True)
    if args.json:
        write_json(args.json, record)


if __name__ == "__main__":
    main()
