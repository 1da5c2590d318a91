"""What the scripts share that train on pasted photos (OccAmodal, ASBU with RGB): reading, held-out photos, samples."""

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from datasets import IterableDataset
from tqdm.auto import tqdm

from amodal_diffusion.data import read_annotations
from amodal_diffusion.data.synthesis import (
    ContentSynthesisConfig,
    PhotoBank,
    PhotoOcclusionSynthesizer,
    PhotoSynthesisConfig,
)
from amodal_diffusion.pipelines.quiet import errors_alone

from .arguments import source_name
from .streams import split_stream

logger = logging.getLogger(__name__)

# Side of what is kept of a photo around an object, in sides of its crop: room to shift, turn and scale the crop.
_CONTEXT = 1.5

Recipe = PhotoSynthesisConfig | ContentSynthesisConfig
Synthesizer = TypeVar("Synthesizer", bound=PhotoOcclusionSynthesizer)

Counts = list[tuple[str, int, int]]
"""Of each data set: its name, its photos for training, the objects on them."""


def add_images_flag(group: argparse._ArgumentGroup) -> None:
    """`--images`, the photo folders."""
    group.add_argument(
        "--images", nargs="+", default=None, help="Photo folder of each JSON file; None takes the file's own folder."
    )


def check_images(args: argparse.Namespace) -> None:
    """Refuse folders that do not fit the data sets.

    Raises:
        ValueError: naming the flag.
    """
    if args.images is not None and len(args.images) != len(args.dataset):
        raise ValueError(
            f"`--images` must have one folder for each of the {len(args.dataset)} data sets, got {len(args.images)}."
        )


def read_photo_sources(args: argparse.Namespace) -> list[Any]:
    """The rows of every `--dataset`, with their photos.

    Raises:
        ValueError: a data set without photos.
    """
    sources = []
    for index, path in enumerate(args.dataset):
        folder = args.images[index] if args.images else Path(path).parent if Path(path).is_file() else None
        rows = read_annotations(path, folder, on_error=args.on_error, streaming=args.streaming)
        if "image" not in rows.column_names:
            raise ValueError(f"`--dataset` {path!r} has no photos (no column 'image').")
        sources.append(rows)
    return sources


def split_photos(rows: Any, fraction: float) -> tuple[Any, Any]:
    """Photos for training and for validation: always the same ones.

    Raises:
        ValueError: a single photo.
    """
    if isinstance(rows, IterableDataset):
        return split_stream(rows, fraction)
    shuffled = np.random.default_rng(0).permutation(len(rows))
    held_out = max(1, int(len(rows) * fraction))
    if held_out >= len(rows):
        raise ValueError(f"`--dataset` needs at least 2 photos to hold some out, got {len(rows)}.")
    return rows.select(sorted(shuffled[held_out:])), rows.select(sorted(shuffled[:held_out]))


def make_photo_synthesizers(
    args: argparse.Namespace,
    synthesis: Recipe,
    accelerator: Accelerator,
    *,
    make: Callable[..., Synthesizer] = PhotoOcclusionSynthesizer,
    modal_only: bool = False,
    **options: Any,
) -> tuple[Synthesizer, Synthesizer, Counts]:
    """Read the data sets and draw from their photos on the training device.

    Args:
        args: with `dataset`, `images`, `on_error`, `streaming`, `validation_fraction`, `min_area` and `seed`.
        synthesis: how samples are made.
        accelerator: of the run.
        make: the synthesizer of that recipe.
        modal_only: leave out amodal masks, where a data set has some.
        options: of `PhotoBank.from_sources`.

    Returns:
        Samples for training, samples of the photos held out, and how many objects there are.
    """
    with accelerator.main_process_first():
        sources = read_photo_sources(args)
    training, validation = zip(*(split_photos(rows, args.validation_fraction) for rows in sources), strict=True)
    bank, held_out = (
        _make_bank(part, synthesis, accelerator, modal_only, {"min_area": args.min_area, **options})
        for part in (training, validation)
    )
    numbers = torch.bincount(bank.sources, minlength=len(sources)).tolist()
    counts = [
        (source_name(path), len(rows), number)
        for path, rows, number in zip(args.dataset, training, numbers, strict=True)
    ]
    logger.info("%d objects for training: %s; %d held out", len(bank), counts, len(held_out))
    device = accelerator.device
    synthesizer = make(
        bank.to(device), synthesis, seed=args.seed, process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
    )  # fmt: skip
    return synthesizer, make(held_out.to(device), synthesis, seed=-1), counts


def _make_bank(
    sources: Sequence[Any],
    synthesis: Recipe,
    accelerator: Accelerator,
    modal_only: bool,
    options: Mapping[str, Any],
) -> PhotoBank:
    total = sum(len(rows) for rows in sources) or None  # of a stream nobody knows
    shown = [map(_without_amodal, rows) for rows in sources] if modal_only else sources
    # A photo whose objects do not touch is nothing to warn of here.
    with errors_alone(), tqdm(total=total, desc="photos", disable=not accelerator.is_main_process) as bar:
        return PhotoBank.from_sources(
            shown, resolution=round(synthesis.size * _CONTEXT), context=_CONTEXT,
            enlarge_box=synthesis.enlarge_box, on_row=lambda _: bar.update(), **options,
        )  # fmt: skip


def _without_amodal(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "objects": [{**thing, "amodal_mask": None} for thing in row["objects"]]}
