"""What the scripts share that train mask networks on synthetic occlusion [Z20]: data flags, bank, validation."""

import logging
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from amodal_diffusion.data import read_annotations
from amodal_diffusion.data.samplers.photo_boundaries import PhotoOcclusionBatch
from amodal_diffusion.data.samplers.splits import split_bank
from amodal_diffusion.data.samplers.true_pairs import MixedOcclusion, OcclusionSource, TruePairs
from amodal_diffusion.data.synthesis import (
    MaskBank,
    OcclusionBatch,
    OcclusionSynthesizer,
    PhotoOcclusionSynthesizer,
    PhotoSynthesisConfig,
    SynthesisConfig,
)

from .arguments import RecipeArguments, SourceArguments, TrainingArguments, errors_by_flag, flag, source_name
from .loop import Task, Validation
from .photo_sources import Counts, TrueShareArguments, count_objects, make_bank, read_true_scenes
from .pictures import mask_grid

logger = logging.getLogger(__name__)

RECIPES: dict[str, Callable[[int], SynthesisConfig]] = {
    "published": SynthesisConfig,
    "improved": SynthesisConfig.improved,
    "crowded": SynthesisConfig.crowded,
}


@dataclass(kw_only=True)
class MaskDataArguments(RecipeArguments, SourceArguments):
    """Sources of modal masks, what is left out of them, what is held out."""

    _argument_group_name: ClassVar[str] = "data"

    dataset: list[str] = flag(help="Annotation files, Parquet folders or Hub data sets; their modal masks are used.")
    dataset_weights: list[float] | None = flag(
        None, "How often each source is drawn; None draws every mask equally often."
    )
    validation_fraction: float = flag(0.02, "Share of the masks that is held out for validation.")
    validation_samples: int = flag(512)
    min_area: int = flag(100, "Masks of fewer pixels are left out.")
    keep_crowd: bool = flag(False, "Train on crowd regions too.")
    max_truncation: float = flag(1.0, "Leave out masks of which more of the outline lies on the photo's frame.")
    recipe: str = flag(
        "published",
        'Samples and defaults of other flags: the paper\'s, or ours; "crowded" has more neighbours than "improved".',
        choices=tuple(RECIPES),
    )


@dataclass(kw_only=True)
class SyntheticMaskArguments(TrainingArguments, MaskDataArguments, TrueShareArguments):
    """What `SyntheticMaskTask` wants to know."""


def read_mask_sources(args: SourceArguments) -> list[Any]:
    """The rows of every `--dataset`, with their `objects` alone."""
    options = {"on_error": args.on_error, "streaming": args.streaming}
    return [read_annotations(path, **options).select_columns(["objects"]) for path in args.dataset]


class SyntheticMaskTask(Task):
    """A mask network on synthetic occlusion drawn from a bank of modal masks.

    Args:
        args: of the script.
        model: the network.
        size: side of its crops.
    """

    def __init__(self, args: SyntheticMaskArguments, model: nn.Module, size: int) -> None:
        self.args = args
        self.model = model
        self.synthesis = RECIPES[args.recipe](size)
        self.counts: list[tuple[str, int]] = []
        self.true_counts: Counts = []
        self.synthesizer: OcclusionSource
        self.validation: dict[str, OcclusionSource] = {}

    def conditions(self, batch: OcclusionBatch) -> dict[str, Tensor | None]:
        """What a network is shown beside its mask planes, as far as it was made for it: the photo, the categories."""
        return {
            "image": batch.image if isinstance(batch, PhotoOcclusionBatch) else None,
            "category_ids": batch.category_ids if self.model.config.class_conditioned else None,
        }

    @abstractmethod
    def probability(self, model: nn.Module, batch: OcclusionBatch) -> Tensor:
        """(B, 1, S, S) float32, P(object), from a network in evaluation mode."""

    @errors_by_flag({"`source_weights`": "`--dataset_weights`", "`bits` holds": "`--dataset` holds"})
    def setup(self, accelerator: Accelerator) -> None:
        args = self.args
        with accelerator.main_process_first():
            sources = read_mask_sources(args)
        bank = MaskBank.from_sources(
            sources, resolution=self.synthesis.size, min_area=args.min_area, keep_crowd=args.keep_crowd,
            max_truncation=args.max_truncation,
        )  # fmt: skip
        if getattr(self.model.config, "class_conditioned", False) and len(bank) and int(bank.category_ids.min()) < 1:
            raise ValueError(
                f"`--class_conditioned` multiplies masks by their category ids, which must be at least 1, and the data "
                f"has {int(bank.category_ids.min())}: raise the ids of its annotations by one."
            )
        counts = torch.bincount(bank.sources, minlength=len(sources)).tolist()
        self.counts = [(source_name(path), count) for path, count in zip(args.dataset, counts, strict=True)]
        logger.info("%d masks: %s", len(bank), self.counts)
        training, held_out = split_bank(bank, args.validation_fraction)
        device = accelerator.device
        self.synthesizer = OcclusionSynthesizer(
            training.to(device), self.synthesis, seed=args.seed,
            source_weights=args.dataset_weights, process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
        )  # fmt: skip
        self.validation = {"": OcclusionSynthesizer(held_out.to(device), self.synthesis, seed=-1)}
        if args.true_dataset:
            self._mix_in_true_scenes(accelerator)
        self.autocast = accelerator.autocast

    def _mix_in_true_scenes(self, accelerator: Accelerator) -> None:
        args, device = self.args, accelerator.device
        with accelerator.main_process_first():
            training, held_out = zip(*read_true_scenes(args), strict=True)
        options = {"min_area": args.min_area, "with_instances": True}
        recipe = PhotoSynthesisConfig(
            size=self.synthesis.size, enlarge_box=self.synthesis.enlarge_box,
            front_probability=0.0, behind_probability=0.0, region_probability=0.0,
        )  # fmt: skip
        bank, validation = (make_bank(part, recipe, accelerator, False, options) for part in (training, held_out))
        pairs = TruePairs(
            PhotoOcclusionSynthesizer(
                bank.to(device), recipe, seed=args.seed, process_index=accelerator.process_index,
                num_processes=accelerator.num_processes,
            )
        )  # fmt: skip
        self.validation["true_"] = TruePairs(PhotoOcclusionSynthesizer(validation.to(device), recipe, seed=-1))
        self.synthesizer = MixedOcclusion([self.synthesizer, pairs], [1 - args.true_share, args.true_share])
        self.true_counts = count_objects(args.true_dataset, training, bank)
        logger.info("true scenes: %s; %d objects held out", self.true_counts, len(validation))

    def validate(self, model: nn.Module, step: int) -> Validation:
        """Pooled IoU of held-out samples, over all pixels and outside the visible mask, in percent.

        Of true scenes apart, as "true_miou" and "true_inv_miou".
        """
        found = {prefix: self._score(model, source) for prefix, source in self.validation.items()}
        metrics = {prefix + name: value for prefix, part in found.items() for name, value in part.metrics.items()}
        return Validation(metrics, found[""].pictures)

    def _score(self, model: nn.Module, source: OcclusionSource) -> Validation:
        sums = torch.zeros(4, dtype=torch.float64)
        picture = None
        size = min(64, self.args.validation_samples)
        for index in range(max(1, self.args.validation_samples // size)):
            batch = source.sample(index, size)
            with self.autocast():
                probability = self.probability(model, batch)
            predicted = (probability > 0.5) | (batch.mask > 0)
            truth, hidden = batch.target > 0, batch.mask == 0
            both, either = predicted & truth, predicted | truth
            sums += (
                torch.stack([both.sum(), either.sum(), (both & hidden).sum(), (either & hidden).sum()]).double().cpu()
            )
            if picture is None:
                picture = mask_grid(batch.mask, batch.eraser, batch.target, probability)
        metrics = {"miou": 100 * float(sums[0] / sums[1]), "inv_miou": 100 * float(sums[2] / sums[3].clamp(min=1))}
        return Validation(metrics, {"synthetic": picture} if picture is not None else {})

    def data_lines(self) -> list[str]:
        """What the model card says of the data."""
        lines = [f"{name}: {count:,} modal masks" for name, count in self.counts] + [
            f"{self.args.validation_fraction:.0%} of them held out for validation; "
            f"recipe of the synthesis: {self.args.recipe}."
        ]
        if self.true_counts:
            lines += [f"{name}: {count:,} objects in {rows:,} scenes, whole" for name, rows, count in self.true_counts]
            lines += [f"{self.args.true_share:.0%} of the samples are pairs of these."]
        return lines
