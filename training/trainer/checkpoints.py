"""Checkpoints of a run: written beside and renamed, found again, and rotated."""

import logging
import os
import re
import shutil
from pathlib import Path

from accelerate import Accelerator

logger = logging.getLogger(__name__)

_NAME = re.compile(r"checkpoint-(\d+)")


def list_checkpoints(output_dir: Path) -> list[tuple[int, Path]]:
    """(step, folder) of each complete checkpoint, oldest first."""
    found = []
    for folder in output_dir.glob("checkpoint-*"):
        match = _NAME.fullmatch(folder.name)
        if match and folder.is_dir():
            found.append((int(match[1]), folder))
    return sorted(found)


def save_checkpoint(accelerator: Accelerator, output_dir: Path, step: int, total_limit: int | None) -> Path:
    """Save the state of all processes as `checkpoint-<step>`; a run killed meanwhile leaves no folder of that name."""
    folder = output_dir / f"checkpoint-{step}"
    beside = output_dir / f".checkpoint-{step}.partial"
    if accelerator.is_main_process and beside.exists():
        shutil.rmtree(beside)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(beside))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(beside, folder)
        _rotate(output_dir, total_limit)
    accelerator.wait_for_everyone()
    return folder


def _rotate(output_dir: Path, total_limit: int | None) -> None:
    if total_limit is None:
        return
    for _, folder in list_checkpoints(output_dir)[:-total_limit]:
        shutil.rmtree(folder)


def find_checkpoint(wanted: str, output_dir: Path) -> Path | None:
    """The folder that `--resume_from_checkpoint` means; None where it says "latest" and there is none yet.

    Raises:
        FileNotFoundError: where a named checkpoint does not exist.
    """
    if wanted == "latest":
        checkpoints = list_checkpoints(output_dir)
        return checkpoints[-1][1] if checkpoints else None
    for folder in (Path(wanted), output_dir / wanted):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"`--resume_from_checkpoint` names no folder: {wanted!r}.")
