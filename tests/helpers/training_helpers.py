"""Running the scripts of `training/` as users do, for the tests."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, GradientState

from repository_helpers import ROOT


def launch_command(script, *arguments, processes=1):
    """The script on the CPU: `accelerate launch` for one process; several without MPI are torchrun's to start."""
    if processes > 1:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    else:
        command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_machines", "1"]
        command += ["--num_processes", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    return [*command, str(ROOT / "training" / script), *map(str, arguments)]


def script_environment():
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "ACCELERATE_USE_CPU": "true",
    }


def run_script(script, *arguments, processes=1):
    command = launch_command(script, *arguments, processes=processes)
    done = subprocess.run(command, capture_output=True, text=True, env=script_environment(), timeout=600)
    if done.returncode:
        raise AssertionError(f"{script} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}")
    return done


def run_main(name, *arguments):
    """The script `name` in this process, which needs no second start of Python.

    One thread, so that two runs give the same bits.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    _reset_accelerate()
    try:
        importlib.import_module(name).main([*map(str, arguments), "--mixed_precision", "no"])
    finally:
        torch.set_num_threads(threads)
        _reset_accelerate()


def _reset_accelerate():
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def write_coco(path, *, images=12, seed=0):
    """A COCO file with a few overlapping boxes and triangles a photo."""
    import numpy as np

    rng = np.random.default_rng(seed)
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}, {"id": 2, "name": "other"}]}
    for image in range(images):
        content["images"].append({"id": image + 1, "file_name": f"{image}.jpg", "height": 120, "width": 160})
        for _ in range(4):
            x, y = rng.uniform(0, 90, 2)
            w, h = rng.uniform(20, 60, 2)
            polygon = [x, y, x + w, y, x + w, y + h] + ([x, y + h] if rng.random() < 0.5 else [])
            content["annotations"].append({
                "id": len(content["annotations"]) + 1, "image_id": image + 1, "category_id": int(rng.integers(1, 3)),
                "segmentation": [polygon], "iscrowd": 0, "area": w * h, "bbox": [x, y, w, h],
            })  # fmt: skip
    Path(path).write_text(json.dumps(content))
    return path
