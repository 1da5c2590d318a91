"""Checkpoints of a run: written whole, found again, and rotated."""

import logging
import re
from pathlib import Path

from amodal_diffusion.files import atomic_folder, remove_folder

from .training_state import DamagedCheckpointError, TrainingState, check_files, write_state

logger = logging.getLogger(__name__)

_NAME = re.compile(r"checkpoint-(\d+)")


def list_checkpoints(output_dir: Path) -> list[tuple[int, Path]]:
    """(step, folder) of each checkpoint, oldest first."""
    found = []
    for folder in output_dir.glob("checkpoint-*"):
        match = _NAME.fullmatch(folder.name)
        if match and folder.is_dir():
            found.append((int(match[1]), folder))
    return sorted(found)


def save_checkpoint(state: TrainingState, output_dir: Path, total_limit: int | None) -> Path:
    """Save a run as `checkpoint-<step>`, all processes together; a run killed meanwhile leaves no folder of that name.

    Args:
        state: of the run.
        output_dir: receives the folder.
        total_limit: how many checkpoints are kept, up to this one; the oldest go. None keeps all.
    """
    step, accelerator = state.run.step, state.accelerator
    folder = output_dir / f"checkpoint-{step}"
    files, document = state.collect()
    if accelerator.is_main_process:
        with atomic_folder(folder) as temporary:
            write_state(temporary, files, document)
        if total_limit is not None:
            # Later ones are damaged, or of a run that went on elsewhere: not this run's to count or remove.
            for _, old in [entry for entry in list_checkpoints(output_dir) if entry[0] <= step][:-total_limit]:
                remove_folder(old)
    accelerator.wait_for_everyone()
    return folder


def find_checkpoint(wanted: str, output_dir: Path) -> Path | None:
    """The folder that `--resume_from_checkpoint` means; None where it says "latest" and there is none yet.

    "latest" is the newest that is whole; those that are not are named in the log.

    Raises:
        FileNotFoundError: where a named checkpoint does not exist.
        DamagedCheckpointError: where a named one, or every one, is not whole.
        RefusedCheckpointError: where it holds pickles, as those of earlier versions.
    """
    if wanted != "latest":
        for folder in (Path(wanted), output_dir / wanted):
            if folder.is_dir():
                check_files(folder)
                return folder
        raise FileNotFoundError(f"`--resume_from_checkpoint` names no folder: {wanted!r}.")
    damaged = []
    for _, folder in reversed(list_checkpoints(output_dir)):
        try:
            check_files(folder)
        except DamagedCheckpointError as error:
            damaged.append(error)
            continue
        for error in damaged:
            logger.warning("%s Going on from %s instead.", error, folder)
        return folder
    if damaged:
        raise DamagedCheckpointError(" ".join(map(str, damaged)) + " No other checkpoint is left.")
    return None
