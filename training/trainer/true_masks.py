"""What the scripts share that learn from whole masks as they are annotated: data flags, batches, validation."""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from amodal_diffusion.data.samplers.photo_crops import ObjectCropper, PhotoCrops, image_crops
from amodal_diffusion.data.samplers.photo_objects import ObjectFilter, ObjectSampler, Photo, PhotoError, PhotoObjects
from amodal_diffusion.data.samplers.prefetch import Prefetcher

from .arguments import RecipeArguments, TrainingArguments, WeightedPhotoArguments, errors_by_flag, flag, source_name
from .loop import Task, Validation
from .photo_sources import open_sources
from .pictures import photo_grid

logger = logging.getLogger(__name__)

PICTURES = 8
FLAGS = {
    "`weights`": "`--dataset_weights`",
    "`fraction`": "`--validation_fraction`",
    "another data set": "another data set (`--validation_dataset`)",
}
"""How users of these scripts know the arguments of what they call."""


@dataclass(kw_only=True)
class TrueMaskArguments(RecipeArguments, WeightedPhotoArguments):
    _argument_group_name: ClassVar[str] = "data"

    dataset: list[str] = flag(help="Annotation files, Parquet folders or Hub data sets with amodal masks.")
    images: list[str] | None = flag(
        None, 'Folder of the photos of each --dataset, "none" for Parquet and Hub data sets, which have their own.'
    )
    streaming: bool = field(default=False, init=False)  # photos are drawn at random
    validation_dataset: list[str] | None = flag(None, "Photos to validate on, never trained on.")
    validation_images: list[str] | None = flag(None, "As --images.")
    validation_fraction: float = flag(
        0.02, "Share of the photos held out with all of their objects, where --validation_dataset is not given."
    )
    validation_samples: int = flag(512, "Objects to validate on, at most.")
    min_area: int = flag(100, "Objects of fewer visible pixels are left out.")
    min_occlusion_rate: float = flag(0.0, "Objects of which less is hidden are left out.")
    keep_crowd: bool = flag(False, "Train on crowd regions too.")
    skip_stuff: bool = flag(False, "Leave out background regions.")
    images_per_batch: int = flag(
        0,
        "Photos that the objects of a batch come from; 0 draws objects, whatever photos they are on, as published. "
        "Bounds the photos that an update reads.",
    )
    box_shift: float = flag(0.0, "Crop boxes move by up to this share of their side.")
    box_scale: float = flag(0.0, "Crop boxes are scaled by 1/(1 -+ this) at most.")
    on_error: str = flag("skip", "What to do with a bad record or photo.", choices=("raise", "skip"))


@dataclass(kw_only=True)
class MovedMaskArguments(TrueMaskArguments):
    """For scripts that move, scale and mirror their crops unless they are told otherwise."""

    _argument_group_name: ClassVar[str] = "data"

    box_shift: float = flag(0.2, "Crop boxes move by up to this share of their side.")
    box_scale: float = flag(0.2, "Crop boxes are scaled by 1/(1 -+ this) at most.")
    flip_probability: float = flag(0.5, "Of mirroring a crop.")


@dataclass(kw_only=True)
class TrueMaskTrainingArguments(TrainingArguments, TrueMaskArguments):
    """What `TrueMaskTask` wants to know."""


def check_true_masks(args: TrueMaskArguments) -> None:
    """Refuse values that would fail late.

    Raises:
        ValueError: naming the flag, what it allows, and what it got.
    """
    for name in ("min_area", "validation_samples"):
        if getattr(args, name) < 1:
            raise ValueError(f"`--{name}` must be at least 1, got {getattr(args, name)}.")
    if args.images_per_batch < 0:
        raise ValueError(f"`--images_per_batch` must not be negative, got {args.images_per_batch}.")
    for name in ("min_occlusion_rate", "box_shift", "box_scale"):
        if not 0 <= getattr(args, name) < 1:
            raise ValueError(f"`--{name}` must lie in [0, 1), got {getattr(args, name)}.")
    if isinstance(args, MovedMaskArguments) and not 0 <= args.flip_probability <= 1:
        raise ValueError(f"`--flip_probability` must lie in [0, 1], got {args.flip_probability}.")


def read_true_masks(
    args: TrueMaskArguments, accelerator: Accelerator, photos_needed: bool = True
) -> tuple[PhotoObjects, PhotoObjects, list[Photo], list[Photo]]:
    """Read the data sets of a script.

    Returns:
        The objects to train on, those to validate on, and the photos of either.

    Raises:
        ValueError, OSError: naming the flag.
    """
    with accelerator.main_process_first():
        options = {"photos_needed": photos_needed}
        sources = open_sources(args.dataset, args.images, args.on_error, **options)
        others = args.validation_dataset or []
        flags = {"flag": "--validation_dataset", **options}
        held_out = open_sources(others, args.validation_images, args.on_error, **flags)
    chosen = ObjectFilter(args.min_area, args.keep_crowd, not args.skip_stuff, args.min_occlusion_rate)
    objects = PhotoObjects(sources, [*map(source_name, args.dataset)], chosen, args.on_error)
    if not held_out:
        return objects, objects, *objects.split(args.validation_fraction)
    given = PhotoObjects(held_out, [*map(source_name, others)], chosen, args.on_error)
    return objects, given, objects.photos, given.photos


@dataclass
class TrueMaskBatch:
    """Objects ready for the network, on its device.

    Args:
        mask: (B, 1, s, s) float modal masks.
        target: (B, s, s) int64 amodal masks.
        seen: what the network is shown beside the mask, by the names of its arguments.
    """

    mask: Tensor
    target: Tensor
    seen: dict[str, Any]


class TrueMaskTask(Task):
    """A network that completes masks, on amodal ground truth.

    Args:
        args: of the script.
    """

    enlarge_box: float = 3.0
    needs_photos = True
    flip_probability = 0.0

    def __init__(self, args: Any) -> None:
        self.args = args

    @abstractmethod
    def read(self, objects: PhotoObjects, crops: PhotoCrops) -> Any:
        """What a thread prepares of a photo beside the crops of its masks."""

    @abstractmethod
    def show(self, prepared: Sequence[tuple[PhotoCrops, Any]]) -> dict[str, Any]:
        """What the network is shown beside the masks, on the device, from what `read` gave."""

    @errors_by_flag(FLAGS)
    def setup(self, accelerator: Accelerator) -> None:
        args = self.args
        self.device = accelerator.device
        self.autocast = accelerator.autocast
        self.objects, self.held_out, self.training, validation = read_true_masks(args, accelerator, self.needs_photos)
        self.validation = first_objects(validation, args.validation_samples)
        self.sampler = ObjectSampler(
            self.training, len(args.dataset), args.dataset_weights, images_per_batch=args.images_per_batch or None,
            seed=args.seed, process_index=accelerator.process_index,
        )  # fmt: skip
        size = self.model.config.sample_size
        self.cropper = ObjectCropper(
            self.objects, size, enlarge_box=self.enlarge_box, shift=args.box_shift, scale=args.box_scale,
            flip=self.flip_probability,
        )  # fmt: skip
        self.validation_cropper = ObjectCropper(self.held_out, size, enlarge_box=self.enlarge_box)
        self.prepare(accelerator)
        self.batches = Prefetcher(self._draw)

    def prepare(self, accelerator: Accelerator) -> None:
        """What else is needed before the first batch."""

    def _draw(self, micro_step: int, batch_size: int) -> list[tuple[PhotoCrops, Any]]:
        """The part of a batch that a thread prepares ahead."""

        def load(photo: Photo, places: list[int], generator: np.random.Generator) -> tuple[PhotoCrops, Any]:
            crops = self.cropper(photo, places, generator)
            return crops, self.read(self.objects, crops)

        return self.sampler.draw(micro_step, batch_size, load, self.args.on_error)

    def _batch(self, prepared: Sequence[tuple[PhotoCrops, Any]]) -> TrueMaskBatch:
        modal, target = (torch.cat([getattr(part, name) for part, _ in prepared]) for name in ("modal", "target"))
        return TrueMaskBatch(
            modal.to(self.device)[:, None].float(), target.to(self.device).long(), self.show(prepared)
        )  # fmt: skip

    def loss(self, model: nn.Module, micro_step: int, batch_size: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        batch = self._batch(self.batches(micro_step, batch_size))
        logits = model(mask=batch.mask, **batch.seen).logits
        return nn.functional.cross_entropy(logits.float(), batch.target), {}

    def validate(self, model: nn.Module, step: int) -> Validation:
        """Pooled IoU over held-out objects in photo pixels, of all and outside of the modal mask, in percent.

        It is measured in the crop, which is what the network sees: what a crop box cuts off counts on neither side.
        """
        sums = torch.zeros(4, dtype=torch.float64)
        rows: list[tuple[Tensor, ...]] = []
        for photo in self.validation:
            for start in range(0, len(photo.objects), self.args.train_batch_size):
                places = list(photo.objects[start : start + self.args.train_batch_size])
                try:
                    crops = self.validation_cropper(photo, places)
                    batch = self._batch([(crops, self.read(self.held_out, crops))])
                except PhotoError as error:
                    if self.args.on_error == "raise":
                        raise
                    logger.warning("skipped %s", error)
                    continue
                with self.autocast():
                    probability = model(mask=batch.mask, **batch.seen).logits.float().softmax(1)[:, 1:]
                sums += pooled_counts(probability, batch, crops.boxes)
                if len(rows) < PICTURES:
                    target = batch.target[:, None].float()
                    images = self._images(crops)
                    rows += zip(images, batch.mask.cpu(), target.cpu(), probability.cpu(), strict=True)
        metrics = {"miou": 100 * float(sums[0] / sums[1]), "inv_miou": 100 * float(sums[2] / sums[3].clamp(min=1))}
        if not rows:
            raise PhotoError("none of the photos to validate on can be used")
        columns = (torch.stack(column) for column in zip(*rows[:PICTURES], strict=True))
        return Validation(metrics, {"objects": photo_grid(*columns)})

    def _images(self, crops: PhotoCrops) -> list[Tensor]:
        """What pictures of the validation are drawn on."""
        size = crops.modal.shape[-1]
        if self.held_out.has_photos:
            return image_crops(self.held_out, crops, size)
        return [torch.zeros(3, size, size)] * len(crops.modal)

    def data_lines(self) -> list[str]:
        """What the model card says of the data."""
        args = self.args
        lines = [
            f"{name}: {count:,} objects with amodal ground truth"
            for name, count in zip(self.objects.names, self.objects.counts, strict=True)
        ]
        if args.dataset_weights is not None:
            lines.append(f"drawn in the ratio {' : '.join(f'{weight:g}' for weight in args.dataset_weights)}")
        source = ", ".join(self.held_out.names) if args.validation_dataset else "held out, with all of their objects"
        lines.append(f"{len(self.training):,} photos to train on; {len(self.validation):,} to validate on ({source}).")
        if self.sampler.skipped:
            lines.append(f"{len(self.sampler.skipped)} photos were left out because they could not be read.")
        return lines


def pooled_counts(probability: Tensor, batch: TrueMaskBatch, boxes: Tensor) -> Tensor:
    """Intersection and union over all objects, then the same outside of their modal masks, (4,) float64.

    In pixels of the photo: a pixel of a crop counts as many as it covers there.

    Args:
        probability: (B, 1, s, s) P(object); the prediction is where it exceeds 0.5, and the modal mask.
        batch: the same objects.
        boxes: (B, 4) their crop boxes.
    """
    visible, truth = batch.mask > 0, batch.target[:, None] > 0
    predicted = (probability > 0.5) | visible
    both, either = predicted & truth, predicted | truth
    counts = torch.stack([both, either, both & ~visible, either & ~visible]).sum((2, 3, 4)).double().cpu()  # [4, B]
    return (counts * (boxes[:, 2] / probability.shape[-1]).double().square()).sum(1)


def first_objects(photos: Sequence[Photo], limit: int) -> list[Photo]:
    """Whole photos in an order by chance, always the same, until they have `limit` objects; the last is cut short."""
    chosen: list[Photo] = []
    for index in np.random.default_rng(0).permutation(len(photos)):
        room = limit - sum(len(photo.objects) for photo in chosen)
        if room <= 0:
            break
        chosen.append(photos[index]._replace(objects=photos[index].objects[:room]))
    return chosen
