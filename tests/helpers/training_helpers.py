"""Running the scripts of `training/` as users do, for the tests."""

import importlib
import json
import os
import socket
import sys
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file

from fresh_process import run_fresh
from repository_helpers import ROOT, SHARED


def saved_weights(folder, network="model"):
    """The weights of a network of the pipeline that a run left."""
    return load_file(Path(folder) / network / "diffusion_pytorch_model.safetensors")


def launch_command(script, *arguments):
    """The script on the CPU by `accelerate launch`, as users start it."""
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


_SCRIPT = """
import os, runpy, signal, sys
processes, port, sys.argv = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
os.environ.update(ACCELERATE_USE_CPU="true", ACCELERATE_MIXED_PRECISION="no")
if processes == 1:
    runpy.run_path(sys.argv[0], run_name="__main__")
    sys.exit()
os.environ.update(WORLD_SIZE=str(processes), LOCAL_WORLD_SIZE=str(processes), MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
children = []
for rank in range(processes):
    children.append(os.fork())
    if not children[-1]:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        runpy.run_path(sys.argv[0], run_name="__main__")
        sys.exit()
while children:
    child, status = os.wait()
    children.remove(child)
    if status:  # the others would wait for it
        for other in children:
            os.kill(other, signal.SIGKILL)
        sys.exit(f"a process ended with {os.waitstatus_to_exitcode(status)}")
"""


def run_script(script, *arguments, processes=1):
    """The script in one or several fresh processes on the CPU, with the variables that the launchers set.

    For what a fresh process does; `run_main` is cheaper. `launch_command` starts the launchers themselves, which takes
    longer than a tiny training.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return run_fresh(_SCRIPT, processes, port, ROOT / "training" / script, *arguments)


def run_main(name, *arguments):
    """The script `name` in this process, which needs no second start of Python.

    One thread, so that two runs give the same bits.
    """
    arguments = list(map(str, arguments))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    reset_accelerate()
    try:
        with patch.dict(os.environ, ACCELERATE_USE_CPU="true"), patch("sys.argv", [f"{name}.py", *arguments]):
            importlib.import_module(name).main([*arguments, "--mixed_precision", "no"])
    finally:
        torch.set_num_threads(threads)
        reset_accelerate()


def run_whole_and_cut(name, folder, *arguments):
    """One run from beginning to end, in `whole`, and one that stops after two updates and goes on, in `cut`."""
    for run, stop in (("whole", []), ("cut", ["--stop_after_steps", "2"]), ("cut", [])):
        run_main(name, *arguments, "--output_dir", folder / run, *stop, "--resume_from_checkpoint", "latest")


def check_whole_and_cut(folder, network):
    """Both runs left the same weights of a network, of four updates, and its encoder is as it was."""
    whole, cut = (saved_weights(folder / name, network) for name in ("whole", "cut"))
    trained = [name for name in whole if not name.startswith("image_encoder")]
    assert all(torch.equal(whole[name], cut[name]) for name in trained)
    first, last = (load_file(folder / "whole" / f"checkpoint-{step}" / "model.safetensors") for step in (2, 4))
    changed = {name for name in first if not torch.equal(first[name], last[name])}
    assert changed and not any(name.startswith("image_encoder") for name in changed)


def reset_accelerate():
    """Accelerate keeps what the first run of a process was; the next one is to start as the first."""
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


def write_few_objects(path, count=10):
    """A COCO file with one large object of each of some real photos, so that none has a neighbour; and their folder."""
    folder = SHARED / "coco_subset"
    content = json.loads((folder / "instances.json").read_text())
    areas = {image["id"]: image["height"] * image["width"] for image in content["images"]}
    largest = {}
    for annotation in content["annotations"]:
        share = annotation["area"] / areas[annotation["image_id"]]
        if not annotation["iscrowd"] and 0.04 < share < 0.3:
            best = largest.setdefault(annotation["image_id"], annotation)
            if annotation["area"] > best["area"]:
                largest[annotation["image_id"]] = annotation
    chosen = dict(sorted(largest.items())[:count])
    few = {
        "images": [image for image in content["images"] if image["id"] in chosen],
        "annotations": list(chosen.values()),
        "categories": content["categories"],
    }
    Path(path).write_text(json.dumps(few))
    return path, folder


def write_few_photos(path, count=12):
    """A COCO file with all objects of some real photos that have a few large ones each; and their folder."""
    folder = SHARED / "coco_subset"
    content = json.loads((folder / "instances.json").read_text())
    large = Counter(part["image_id"] for part in content["annotations"] if not part["iscrowd"] and part["area"] > 1500)
    chosen = [image for image, objects in sorted(large.items()) if 4 <= objects <= 8][:count]
    few = {
        "images": [image for image in content["images"] if image["id"] in chosen],
        "annotations": [part for part in content["annotations"] if part["image_id"] in chosen],
        "categories": content["categories"],
    }
    Path(path).write_text(json.dumps(few))
    return path, folder


class OneBatch:
    """A sampler that gives its first batch again and again: a set that is small enough to be learnt by heart."""

    def __init__(self, sampler):
        self.sampler, self.kept = sampler, {}

    def __getattr__(self, name):
        draw = getattr(self.sampler, name)
        if name not in ("sample", "complete", "simulated"):
            return draw

        def first(step, count):
            if (name, count) not in self.kept:
                self.kept[name, count] = draw(0, count)
            return self.kept[name, count]

        return first


def learn_by_heart(script, make_task, arguments, sampler="synthesizer"):
    """Train on one batch alone, `--train_batch_size` of it, and validate on it; the figures at the end."""
    count = arguments[arguments.index("--train_batch_size") + 1]
    given = [*arguments, "--validation_samples", count, "--validation_steps", 0, "--validation_fraction", 0.1]

    def make(args):
        task = make_task(args)
        setup = task.setup

        def fixed(accelerator):
            setup(accelerator)
            one = OneBatch(getattr(task, sampler))
            setattr(task, sampler, one)
            task.validation = {"": one} if isinstance(task.validation, dict) else one

        task.setup = fixed
        return task

    return script.train(make, script.parse_arguments(list(map(str, given)))).state.history[-1]


def masks_by_heart(name, task, folder, steps, photos=False):
    """The inv-mIoU of eight occluded objects of real photos after `steps` updates on them, by a script `name`."""
    script = importlib.import_module(name)
    few, images = write_few_objects(folder / "few.json")
    given = ["--dataset", few, "--output_dir", folder / "out", "--sample_size", 64, "--patch_size", 2]
    given += ["--block_out_channels", "16,32,64,64", "--min_area", 1, "--train_batch_size", 8]
    given += ["--optimizer", "adamw", "--learning_rate", 3e-3, "--lr_scheduler", "one_cycle", "--max_grad_norm", 1]
    given += ["--use_rgb", "--images", images] if photos else []
    return learn_by_heart(script, getattr(script, task), [*given, "--max_train_steps", steps])["inv_miou"]
