"""Model cards, written from the run itself."""

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import ModelCard, ModelCardData

from .arguments import command_line

if TYPE_CHECKING:
    from .loop import Run


def write_model_card(run: "Run") -> Path:
    """Write `README.md` into the output folder: what it is, on what, how long and with which command it was trained."""
    facts = run.task.card()
    data = ModelCardData(
        license="apache-2.0", library_name="diffusers", tags=["amodal-completion", "amodal-diffusion", *facts["tags"]],
        pipeline_tag=facts.get("task", "image-segmentation"),
    )  # fmt: skip
    sections = [
        f"---\n{data.to_yaml()}\n---",
        f"# {facts['name']}",
        facts["description"],
        "## Use\n\n" + _usage(run.output_dir.name, facts),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in facts["limits"]),
        "## Training data\n\n" + "\n".join(f"- {line}" for line in facts["data"]),
        "## Training\n\n" + _training(run),
        "## Validation\n\n" + _curve(run.state.history),
    ]
    path = run.output_dir / "README.md"
    beside = path.with_suffix(".partial")
    ModelCard("\n\n".join(sections) + "\n").save(beside)
    os.replace(beside, path)
    return path


def _usage(name: str, facts: Mapping[str, Any]) -> str:
    package, loaded = facts.get("package", "amodal_diffusion"), facts.get("pipeline", "AmodalPipeline")
    variable, call = facts.get("variable", "pipe"), facts.get("call", "out = pipe(image, masks)")
    return (
        f"Needs `pip install {package.replace('_', '-')}`.\n\n"
        f"```python\nfrom {package} import {loaded}\n\n"
        f'{variable} = {loaded}.from_pretrained("{name}")\n{call}\n```'
    )


def _training(run: "Run") -> str:
    args, state = run.args, run.state
    processes = run.accelerator.num_processes
    batch = args.train_batch_size * args.gradient_accumulation_steps * processes
    parameters = sum(parameter.numel() for parameter in run.weights().parameters())
    lines = [
        f"{parameters / 1e6:.2f} M parameters; {state.step:,} updates of {batch} samples "
        f"({state.step * batch:,} samples), {state.seconds / 3600:.2f} h on {_device(run)}, "
        f"precision {run.accelerator.mixed_precision}.",
        f"torch {torch.__version__}, diffusers {version('diffusers')}, accelerate {version('accelerate')}.",
        f"```\naccelerate launch {command_line(sys.argv)}\n```",
    ]
    return "\n\n".join(lines)


def _device(run: "Run") -> str:
    device = run.accelerator.device
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    )
    return f"{run.accelerator.num_processes} x {name}"


def _curve(history: list[dict[str, float]]) -> str:
    if not history:
        return "None was run."
    names = [name for name in history[-1] if name != "step"]
    rows = [history[index] for index in sorted({*range(0, len(history), max(1, len(history) // 12)), len(history) - 1})]
    lines = ["| step | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [
        f"| {row['step']} | " + " | ".join(f"{row.get(name, float('nan')):.2f}" for name in names) + " |"
        for row in rows
    ]
    return "\n".join(lines)
