"""What every benchmark shares: a record of where it ran, and timing of rivals in turn."""

import datetime
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

from amodal_diffusion.files import write_text
from amodal_diffusion.runtimes import processor_name

REPOSITORY = Path(__file__).resolve().parent.parent


def environment(device: str | torch.device = "cpu") -> dict[str, Any]:
    """Date, commit, device and versions of this run."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "device": f"{device} ({name})",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "numpy": np.__version__,
    }


def time_in_turn(
    functions: Mapping[str, Callable[[], Any]],
    repeats: int,
    warmup: int = 1,
    device: str | torch.device = "cpu",
    clock: str = "wall",
) -> dict[str, list[float]]:
    """Seconds of each function in each repeat. Rivals take turns, so that other work slows all alike.

    The clock "cpu" counts the seconds that the processor spent on this process, in all its threads. With one thread it
    tells the time on an idle machine, even where other work has most of the processor.
    """
    now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
    cuda = torch.device(device).type == "cuda"
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(warmup + repeats):
        for name, function in functions.items():
            start = now()
            function()
            if cuda:
                torch.cuda.synchronize(device)
            if repeat >= warmup:
                seconds[name].append(now() - start)
    return seconds


def median_ratio(baseline: list[float], ours: list[float]) -> float:
    """Median over the repeats of baseline time / our time, each measured side by side."""
    return statistics.median(slow / fast for slow, fast in zip(baseline, ours, strict=True))


def format_environment(record: Mapping[str, Any]) -> str:
    return "\n".join(f"{key:<10}{value}" for key, value in record.items())


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(record, indent=2) + "\n")


def _commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603, S607

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "amodal_diffusion", "benchmarks")
        return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
