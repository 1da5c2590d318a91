"""Model cards, written from the facts of a run."""

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData

from amodal_diffusion.files import atomic_file

from .arguments import command_line

_TEMPLATE = Path(__file__).with_name("card_template.md")


@dataclass(frozen=True)
class RunFacts:
    """How a network was trained.

    Args:
        parameters: how many it has.
        updates: of the optimizer.
        batch_size: samples in an update, of all processes.
        seconds: that the updates and validations took.
        processes: how many trained together.
        device: of each.
        precision: as accelerate names it.
        history: the figures of each validation, and its "step".
    """

    parameters: int
    updates: int
    batch_size: int
    seconds: float
    processes: int
    device: torch.device
    precision: str
    history: Sequence[Mapping[str, float]]


def write_model_card(folder: Path, facts: Mapping[str, Any], run: RunFacts) -> Path:
    """Write `README.md` into `folder`: what it is, on what, how long and with which command it was trained.

    Args:
        folder: of the pipeline.
        facts: see `Task.card`.
        run: how it was trained.
    """
    data = ModelCardData(
        license="apache-2.0",
        library_name="diffusers",
        tags=["amodal-completion", "amodal-diffusion", *facts["tags"]],
        pipeline_tag=facts.get("task", "image-segmentation"),
    )
    package = facts.get("package", "amodal_diffusion")
    card = ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        name=facts["name"],
        description=facts["description"],
        package=package,
        loaded=facts.get("pipeline", "AmodalPipeline"),
        variable=facts.get("variable", "pipe"),
        folder=folder.name if folder.is_absolute() else folder.as_posix(),
        call=facts.get("call", "out = pipe(image, masks)"),
        limits="\n".join(f"- {line}" for line in facts["limits"]),
        data="\n".join(f"- {line}" for line in facts["data"]),
        parameters=f"{run.parameters / 1e6:.2f}",
        updates=f"{run.updates:,}",
        batch_size=run.batch_size,
        samples=f"{run.updates * run.batch_size:,}",
        hours=f"{run.seconds / 3600:.2f}",
        device=f"{run.processes} x {_device_name(run.device)}",
        precision=run.precision,
        versions=", ".join(f"{name} {version(name)}" for name in ("diffusers", "accelerate")),
        torch_version=torch.__version__,
        command=command_line(sys.argv),
        validation=_curve(run.history),
    )
    path = folder / "README.md"
    with atomic_file(path) as beside:
        card.save(beside)
    return path


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def _curve(history: Sequence[Mapping[str, float]]) -> str:
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
