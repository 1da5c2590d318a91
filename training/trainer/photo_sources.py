"""What the scripts share that train on photos: reading them, holding some out, samples that are pasted from them."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import length_hint
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import pyarrow
import pyarrow.ipc
import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from amodal_diffusion.annotation.record import photos_digest, pipeline_digest
from amodal_diffusion.data import BadRecord, read_annotations
from amodal_diffusion.data.photos import encoded_photos
from amodal_diffusion.data.samplers.splits import split_photos
from amodal_diffusion.data.synthesis import (
    ContentSynthesisConfig,
    PhotoBank,
    PhotoOcclusionSynthesizer,
    PhotoSynthesisConfig,
)
from amodal_diffusion.pipelines import MaskPipeline
from amodal_diffusion.pipelines.contexts import warnings_silenced

from .arguments import PhotoArguments, errors_by_flag, flag, load_pipeline, source_name

logger = logging.getLogger(__name__)

# Side of what is kept of a photo around an object, in sides of its crop: room to shift, turn and scale the crop.
_CONTEXT = 1.5

_DIGEST_BATCH = 1000

NO_IMAGES = "none"
"""What `--images` says for a data set that has its own photos."""

Recipe = PhotoSynthesisConfig | ContentSynthesisConfig
Synthesizer = TypeVar("Synthesizer", bound=PhotoOcclusionSynthesizer)

Counts = list[tuple[str, int, int]]
"""Of each data set: its name, its photos for training, the objects on them."""


@dataclass(kw_only=True)
class TrueSceneArguments:
    """Scenes whose whole masks are known, beside photos or masks that are pasted together."""

    _argument_group_name: ClassVar[str] = "data"

    true_dataset: list[str] = flag([], "Photos with true whole masks, such as rendered rooms.", nargs="*")
    true_validation_photos: int = flag(36, "First photos of each `--true_dataset`, held out.")


@dataclass(kw_only=True)
class TrueShareArguments(TrueSceneArguments):
    """How often true scenes are drawn."""

    _argument_group_name: ClassVar[str] = "true scenes"

    true_share: float = flag(0.25, "Share of a batch that is drawn from `--true_dataset`.")


def check_true_share(args: TrueShareArguments) -> None:
    """Refuse a share that is none.

    Raises:
        ValueError: naming the flag.
    """
    if not 0 < args.true_share < 1:
        raise ValueError(f"`--true_share` must lie between 0 and 1, got {args.true_share}.")


def check_images(args: PhotoArguments) -> None:
    """Refuse folders that do not fit the data sets.

    Raises:
        ValueError: naming the flag.
    """
    if args.images is not None and len(args.images) != len(args.dataset):
        raise ValueError(
            f"`--images` must have one folder for each of the {len(args.dataset)} data sets, got {len(args.images)}."
        )


def read_photo_sources(args: PhotoArguments) -> list[Any]:
    """The rows of every `--dataset`, with their photos.

    Raises:
        ValueError: a data set without photos.
    """
    return _read_photos(args.dataset, args.images, args, streaming=args.streaming)


def _read_photos(paths: Sequence[str], images: Sequence[str] | None, args: Any, streaming: bool = False) -> list[Any]:
    sources = []
    for index, path in enumerate(paths):
        folder = images[index] if images else Path(path).parent if Path(path).is_file() else None
        rows = _read(path, folder, args.on_error, "--dataset", streaming)
        if "image" not in rows.column_names:
            raise ValueError(f"`--dataset` {path!r} has no photos (no column 'image').")
        sources.append(rows)
    return sources


def _read(path: str, folder: Any, on_error: str, flag: str, streaming: bool = False) -> Any:
    """The rows of a data set; where every photo of it was skipped, the error says why the first one was."""
    bad: list[BadRecord] = []
    rows = read_annotations(path, folder, on_error=on_error, bad_records=bad, streaming=streaming)
    if bad and not streaming and len(rows) == 0:
        raise ValueError(f"`{flag}` {path!r} has no photo that can be used with its annotations; such as {bad[0]}.")
    return rows


@errors_by_flag({"`--dataset`": "`--true_dataset`"})
def read_true_scenes(args: Any) -> list[tuple[Any, Any]]:
    """Of each `--true_dataset` the photos for training, and those that are held out.

    Args:
        args: with the fields of `TrueSceneArguments`, `on_error` and `streaming`.

    Raises:
        ValueError: a data set without photos, or one of which nothing is held out or left for training.
    """
    first, parts = args.true_validation_photos, []
    for path, rows in zip(args.true_dataset, _read_photos(args.true_dataset, None, args), strict=True):
        if len(rows) < 2:
            raise ValueError(
                f"`--true_dataset` {path!r} must have at least 2 photos to hold some out, got {len(rows)}."
            )
        if not 0 < first < len(rows):
            raise ValueError(
                f"`--true_validation_photos` must lie in [1, {len(rows) - 1}] for the {len(rows)} photos of {path}, "
                f"got {first}."
            )
        parts.append((rows.select(range(first, len(rows))), rows.select(range(first))))
    return parts


def open_sources(
    paths: Sequence[str],
    images: Sequence[str] | None,
    on_error: str,
    flag: str = "--dataset",
    photos_needed: bool = True,
) -> list:
    """Read data sets with their photos.

    Args:
        paths: annotation files, Parquet folders or Hub ids.
        images: the folder of photos of each, `NO_IMAGES` for one that has its own; None where all have.
        on_error: see `read_annotations`.
        flag: for messages, the flag that gave `paths`.
        photos_needed: refuse a data set without photos.

    Raises:
        ValueError: numbers that differ, or a data set without photos.
    """
    places = [NO_IMAGES] * len(paths) if images is None else list(images)
    images_flag = flag.replace("dataset", "images")
    if len(places) != len(paths):
        raise ValueError(f"`{images_flag}` must name one folder for each of the {len(paths)} data sets, got {places}.")
    sources = []
    for path, folder in zip(paths, places, strict=True):
        source = _read(path, None if folder == NO_IMAGES else folder, on_error, flag)
        if photos_needed and "image" not in source.column_names:
            raise ValueError(f"`{flag}` {path} has no photos; give their folder by `{images_flag}`.")
        sources.append(source)
    return sources


@errors_by_flag({"`rows`": "`--dataset`"})
def split_sources(sources: Sequence[Any], fraction: float) -> tuple[list[Any], list[Any]]:
    """Of each data set, the photos for training and those for validation; see `split_photos`."""
    training, validation = zip(*(split_photos(rows, fraction) for rows in sources), strict=True)
    return list(training), list(validation)


class PipelineLabeller:
    """Completes photos with visible masks alone by a pipeline; a `Labeller`.

    Args:
        pipeline: completes masks and predicts their order.
        eraser_dilation: closes gaps between masks, in pixels.
        name: of the pipeline, for errors.
    """

    def __init__(self, pipeline: MaskPipeline, eraser_dilation: int, name: str) -> None:
        self.pipeline, self.eraser_dilation, self.name = pipeline, eraser_dilation, name

    def __call__(self, image: Any, modal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        output = self.pipeline(image, modal, eraser_dilation=self.eraser_dilation)
        if output.order is None:
            raise ValueError(f"`--pseudo_labels` {self.name!r} predicts no order; PCNet-M does.")
        return output.amodal_masks, output.order

    @property
    def digest(self) -> str:
        """Of all that its answers depend on: weights as they compute, settings."""
        return f"{pipeline_digest(self.pipeline)}-{self.eraser_dilation}"


def rows_digest(rows: Any) -> str:
    """Digest of all columns of a data set but the photos, in order, and of what `photos_digest` says of these.

    Example:
        >>> from amodal_diffusion.data import read_annotations
        >>> content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 4}], "annotations": []}
        >>> len(rows_digest(read_annotations(content)))
        32
    """
    digest = hashlib.sha256(photos_digest(rows).encode())
    columns = rows.select_columns([name for name in rows.column_names if name != "image"]).with_format("arrow")
    for table in columns.iter(_DIGEST_BATCH):
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, table.schema.remove_metadata()) as writer:
            writer.write_table(table.replace_schema_metadata(None).combine_chunks())
        digest.update(sink.getvalue())
    return digest.hexdigest()[:32]


def make_labeller(args: Any, device: torch.device, bf16: bool = False) -> PipelineLabeller | None:
    """What completes photos with visible masks alone by a pipeline: `--pseudo_labels`, None without one.

    Args:
        args: with `pseudo_labels` and `pseudo_eraser_dilation`.
        device: where it computes.
        bf16: in bfloat16.

    Raises:
        ValueError: a pipeline that completes no masks, or predicts no order.
    """
    if args.pseudo_labels is None:
        return None
    name = args.pseudo_labels
    pipeline = load_pipeline(args, "pseudo_labels", MaskPipeline).to(device)
    if not pipeline.takes_option("eraser_dilation"):  # what compares pairs takes it, and nothing else finds an order
        kind = type(pipeline).__name__
        raise ValueError(
            f"`--pseudo_labels` {name!r} must know who hides whom from visible masks alone, as PCNet-M does; "
            f"{kind} does not."
        )
    for network in pipeline.networks:
        network.to(memory_format=torch.channels_last)
    if bf16:
        pipeline.to(torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    return PipelineLabeller(pipeline, args.pseudo_eraser_dilation, name)


def check_categories(training: PhotoBank, validation: PhotoBank) -> None:
    """Refuse photos of which `--class_conditioned` would not know a category.

    Raises:
        ValueError: with the number of objects.
    """
    for name, bank in (("training", training), ("validation", validation)):
        if missing := int((bank.category_ids < 1).sum()):
            raise ValueError(
                f"`--class_conditioned`: {missing} objects for {name} have no category id, or one below 1: "
                "raise the ids of the data by one."
            )


@errors_by_flag({"`source_weights`": "`--dataset_weights`", "`pixels` holds": "`--dataset` holds"})
def make_photo_synthesizers(
    args: Any,
    synthesis: Recipe,
    accelerator: Accelerator,
    *,
    make: Callable[..., Synthesizer] = PhotoOcclusionSynthesizer,
    modal_only: bool = False,
    **options: Any,
) -> tuple[Synthesizer, Synthesizer, Counts]:
    """Read the data sets and draw from their photos on the training device.

    Args:
        args: with `dataset`, `dataset_weights`, `images`, `on_error`, `streaming`, `validation_fraction`, `min_area`
            and `seed`.
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
    training, validation = split_sources(sources, args.validation_fraction)
    bank, held_out = (
        make_bank(part, synthesis, accelerator, modal_only, {"min_area": args.min_area, **options})
        for part in (training, validation)
    )
    counts = count_objects(args.dataset, training, bank)
    logger.info("%d objects for training: %s; %d held out", len(bank), counts, len(held_out))
    device = accelerator.device
    synthesizer = make(
        bank.to(device), synthesis, seed=args.seed, source_weights=args.dataset_weights,
        process_index=accelerator.process_index, num_processes=accelerator.num_processes,
    )  # fmt: skip
    return synthesizer, make(held_out.to(device), synthesis, seed=-1), counts


def count_objects(paths: Sequence[str], parts: Sequence[Any], bank: PhotoBank) -> Counts:
    """Of each data set, whose photos for training are `parts`, what the bank of these holds."""
    numbers = torch.bincount(bank.sources, minlength=len(paths)).tolist()
    return [(source_name(path), len(rows), number) for path, rows, number in zip(paths, parts, numbers, strict=True)]


def encoder_type(name: str) -> str:
    """The `image_encoder_type` that `--image_encoder` asks for."""
    return name if name == "efficientnet-lite0" else "resnet"


def start_image_encoder(model: Any, name: str) -> None:
    """Give the image encoder of a network the weights of `--image_encoder`."""
    if name != "none":
        model.load_image_encoder(*([] if encoder_type(name) == name else [name]))


def frequent_categories(sources: Sequence[Any], least: int) -> list[str]:
    """Names of which some data sets have at least so many objects, by the alphabet."""
    counts = Counter(obj["name"] for rows in sources for obj in _objects(rows) if obj["name"])
    return sorted(name for name, count in counts.items() if count >= least)


def _objects(rows: Any) -> Iterator[Mapping[str, Any]]:
    for row in rows.select_columns(["objects"]):
        yield from row["objects"]


def make_bank(
    sources: Sequence[Iterable[Mapping[str, Any]]],
    synthesis: Recipe,
    accelerator: Accelerator,
    modal_only: bool,
    options: Mapping[str, Any],
) -> PhotoBank:
    total = sum(length_hint(rows) for rows in sources) or None  # of a stream nobody knows
    shown = [map(_without_amodal, encoded_photos(rows)) for rows in sources] if modal_only else sources
    # A photo whose objects do not touch is nothing to warn of here.
    with warnings_silenced(), tqdm(total=total, desc="photos", disable=not accelerator.is_main_process) as bar:
        return PhotoBank.from_sources(
            shown, resolution=round(synthesis.size * _CONTEXT), context=_CONTEXT,
            enlarge_box=synthesis.enlarge_box, on_row=lambda _: bar.update(), **options,
        )  # fmt: skip


def _without_amodal(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "objects": [{**obj, "amodal_mask": None} for obj in row["objects"]]}
