r"""Train PCNet-M that sees the photo: on photos, on scenes whose whole masks are true, and on masks alone.

One network learns to answer whatever is known of an object's neighbours: all of them at once, some, the ones in front,
or none. It starts as a PCNet-M and adds features of the photo by an EfficientNet-lite0 that stays as it is.

    accelerate launch training/train_photo_pcnet_m.py --dataset instances_train2017.json --images train2017 \
        --true_dataset rooms-train --mask_dataset lvis.json --mask_network pipelines/pcnet-m --output_dir runs/photo

Photos with visible masks alone are completed by `--pseudo_labels`, and other objects are pasted into them.
`--true_dataset` has photos with real occlusion and true whole masks, such as rendered rooms. `--mask_dataset` has masks
without photos.
"""

import hashlib
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from trainer.arguments import (
    PhotoArguments,
    TrainingArguments,
    check_arguments,
    check_validation,
    default_of,
    errors_by_flag,
    flag,
    load_pipeline,
    parse,
    pipeline_settings,
    source_name,
)
from trainer.loop import Task, Validation, train
from trainer.photo_sources import (
    Counts,
    PipelineLabeller,
    TrueSceneArguments,
    check_images,
    count_objects,
    frequent_categories,
    make_bank,
    make_labeller,
    read_photo_sources,
    read_true_scenes,
    rows_digest,
    split_sources,
)
from trainer.pictures import mask_grid
from trainer.running import run

from amodal_diffusion import (
    OrderNet,
    PCNetMask,
    PCNetMaskPipeline,
    PhotoPCNetMask,
    PhotoPCNetMaskPipeline,
)
from amodal_diffusion.data import read_annotations
from amodal_diffusion.data.samplers import OccluderQuestions, ask_of_masks, ask_of_photos, split_bank
from amodal_diffusion.data.synthesis import (
    MaskBank,
    OcclusionSynthesizer,
    PhotoBank,
    PhotoOcclusionSynthesizer,
    PhotoSynthesisConfig,
    SynthesisConfig,
    share_out,
    with_background,
)
from amodal_diffusion.losses import question_loss

logger = logging.getLogger(__name__)

ONE_QUESTION = {"all": (1.0, 0.0, 0.0, 0.0), "unknown": (0.0, 0.0, 0.0, 1.0)}
"""What validation asks: with all neighbours, and without any."""

PASTING = {"front_probability": 0.5, "behind_probability": 0.2, "region_probability": 0.12}
"""What is pasted into photos or drawn in place of an object, by default and in validation. Nothing into true scenes."""


@dataclass(kw_only=True)
class DataArguments(PhotoArguments, TrueSceneArguments):
    _argument_group_name: ClassVar[str] = "data"

    dataset: list[str] = flag(help="Photos with visible masks.")
    pseudo_labels: str | None = flag("pipelines/pcnet-m", "Pipeline that completes the photos of `--dataset`.")
    pseudo_eraser_dilation: int = flag(2, "Closes gaps between its masks, in pixels.")
    guess_weight: float = flag(0.5, "Of the loss where its masks are guesses.")
    mask_dataset: list[str] = flag([], "Masks without photos.", nargs="*")
    mask_dataset_weights: list[float] | None = flag(None, "How often each of them is drawn.", nargs="*")
    shares: list[float] = flag([0.45, 0.35, 0.2], "Of photos, true scenes and masks in a batch.", nargs="*")
    front_probability: float = flag(PASTING["front_probability"], "Of pasting an object in front of one of a photo.")
    behind_probability: float = flag(PASTING["behind_probability"], "Of pasting an object behind.")
    region_probability: float = flag(
        PASTING["region_probability"], "Of a synthetic background region instead of an object."
    )
    background_regions: int = flag(0, "Regions by colour of each photo's background, at most, that join its objects.")
    surrounded: float = flag(0.0, "Share of questions in which all the rest of the photo counts as a neighbour too.")
    unseen: float = flag(0.1, "Share of objects in photos that are asked without the photo.")
    min_category_count: int | None = flag(
        None, "Tell the network the category of objects of which there are so many in the photos for training."
    )
    unnamed: float = flag(0.4, "Share of objects whose category is not told all the same.")
    cache_banks: str | None = flag(None, "Folder that keeps the photos cut and labelled, for the next start.")
    validation_samples: int = flag(256, "Of each source and question.")
    min_area: int = flag(200, "Masks of fewer pixels are left out.")


@dataclass(kw_only=True)
class NetworkArguments:
    _argument_group_name: ClassVar[str] = "network"

    pretrained_pipeline: str | None = flag(None, "PhotoPCNetMaskPipeline that is trained on.")
    mask_network: str | None = flag(None, "PCNet-M pipeline to start from; its sizes are taken.")
    reduced_channels: int = flag(default_of(PhotoPCNetMask, "reduced_channels"))
    block_out_channels: tuple[int, ...] = flag(default_of(PhotoPCNetMask, "block_out_channels"))
    patch_size: int = flag(default_of(PhotoPCNetMask, "patch_size"))
    sample_size: int = flag(default_of(PhotoPCNetMask, "sample_size"))
    inside_weight: float = flag(5.0, "Of the loss where possible occluders are seen.")
    front_factor: float = flag(default_of(question_loss, "front_factor"), "Of the loss of what is in front.")


@dataclass(kw_only=True)
class PhotoPCNetMaskArguments(TrainingArguments, DataArguments, NetworkArguments):
    """Ours; there is no published recipe."""

    max_train_steps: int | None = 20_000
    optimizer: str = flag("adamw", choices=("sgd", "adamw"))
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    max_grad_norm: float | None = 1.0
    lr_scheduler: str = flag(
        "warmup_stable_decay", choices=("multistep", "one_cycle", "cosine", "warmup_stable_decay", "constant")
    )
    lr_warmup_fraction: float = 0.005
    use_ema: bool = True
    ema_decay: float = 0.998


def parse_arguments(argv: list[str] | None = None) -> PhotoPCNetMaskArguments:
    args = parse(PhotoPCNetMaskArguments, __doc__.split("\n")[0], argv)
    check_arguments(args)
    check_validation(args)
    check_images(args)
    if args.cache_banks is not None and args.streaming:
        raise ValueError("`--cache_banks` is for data sets that are read whole: leave out `--streaming`.")
    if args.background_regions < 0:
        raise ValueError(f"`--background_regions` must not be negative, got {args.background_regions}.")
    if args.min_category_count is not None and args.min_category_count < 1:
        raise ValueError(f"`--min_category_count` must be at least 1, got {args.min_category_count}.")
    for name in ("unseen", "surrounded", "unnamed"):
        if not 0 <= getattr(args, name) <= 1:
            raise ValueError(f"`--{name}` must lie in [0, 1], got {getattr(args, name)}.")
    with errors_by_flag({f"`{name}`": f"`--{name}`" for name in PASTING}):
        PhotoSynthesisConfig(**{name: getattr(args, name) for name in PASTING})
    if len(args.shares) != 3 or min(args.shares) < 0 or args.shares[0] <= 0:
        raise ValueError(f"`--shares` must be three numbers, the first of them positive, got {args.shares}.")
    return args


class PhotoPCNetMaskTask(Task):
    """One network on three sources."""

    def __init__(self, args: PhotoPCNetMaskArguments) -> None:
        self.args = args
        self.others: dict[str, PCNetMask | OrderNet | None] = {}
        self.settings: dict[str, Any] = {}
        photos = zip(*split_sources(read_photo_sources(args), args.validation_fraction), strict=True)
        self.parts = {"photos": list(photos)} | ({"true": read_true_scenes(args)} if args.true_dataset else {})
        self.model = self._make_model()
        self.model.image_encoder.requires_grad_(False)
        self.size = self.model.config.sample_size
        self.counts: Counts = []

    def _make_model(self) -> PhotoPCNetMask:
        args = self.args
        if args.pretrained_pipeline:
            trained: PhotoPCNetMaskPipeline = load_pipeline(args, "pretrained_pipeline", PhotoPCNetMaskPipeline)
            self.settings = pipeline_settings(args, PhotoPCNetMaskPipeline)
            self.others = {"order_model": trained.order_model, "mask_model": trained.mask_model}
            return self._with_categories(trained.model)
        sizes = {name: getattr(args, name) for name in ("block_out_channels", "patch_size", "sample_size")}
        start = None
        if args.mask_network:
            start = load_pipeline(args, "mask_network", PCNetMaskPipeline).model
            sizes = {name: start.config[name] for name in sizes}
        model = PhotoPCNetMask(reduced_channels=args.reduced_channels, categories=self._find_categories(), **sizes)
        model.load_image_encoder()
        if start is not None:
            with errors_by_flag({"`network`": "`--mask_network`"}):
                model.load_mask_network(start)
        return model

    def _find_categories(self) -> list[str]:
        """Names of the categories that the network is told of, none without `--min_category_count`."""
        if self.args.min_category_count is None:
            return []
        return frequent_categories([rows for rows, _ in self.parts["photos"]], self.args.min_category_count)

    def _with_categories(self, trained: PhotoPCNetMask) -> PhotoPCNetMask:
        """The same network, told of categories where it was not yet."""
        if trained.config.categories or not (categories := self._find_categories()):
            return trained
        model = PhotoPCNetMask.from_config(trained.config, categories=categories)
        model.load_state_dict(trained.state_dict(), strict=False)  # what it learns of categories begins at 0
        return model

    def setup(self, accelerator: Accelerator) -> None:
        args, device, size = self.args, accelerator.device, self.size
        self.autocast = accelerator.autocast
        place = {"process_index": accelerator.process_index, "num_processes": accelerator.num_processes}
        pasted = PhotoSynthesisConfig(size=size, **{name: getattr(args, name) for name in PASTING})
        real = replace(pasted, **dict.fromkeys(PASTING, 0.0))
        labeller = make_labeller(args, device, accelerator.mixed_precision == "bf16")
        self.photos, self.validation = {}, {}
        self._add("photos", args.dataset, pasted, accelerator, {"labeller": labeller}, place)
        if args.true_dataset:
            self._add("true", args.true_dataset, real, accelerator, {}, place)
        self.masks: OcclusionSynthesizer | None = None
        if args.mask_dataset:
            self._add_masks(accelerator, place)

    @errors_by_flag({"`bits` holds": "`--mask_dataset` holds", "`source_weights`": "`--mask_dataset_weights`"})
    def _add_masks(self, accelerator: Accelerator, place: dict[str, int]) -> None:
        args, device, recipe = self.args, accelerator.device, SynthesisConfig.crowded(self.size)
        rows = [
            read_annotations(path, on_error=args.on_error).select_columns(["objects"]) for path in args.mask_dataset
        ]
        bank = MaskBank.from_sources(rows, resolution=self.size, min_area=100, keep_crowd=False, max_truncation=1.0)
        numbers = torch.bincount(bank.sources, minlength=len(rows)).tolist()
        self.counts += [(source_name(path), 0, number) for path, number in zip(args.mask_dataset, numbers, strict=True)]
        training, held_out = split_bank(bank, 0.02)
        weights = args.mask_dataset_weights
        self.masks = OcclusionSynthesizer(training.to(device), recipe, seed=args.seed, source_weights=weights, **place)
        self.validation["masks"] = OcclusionSynthesizer(held_out.to(device), recipe, seed=-1)

    def _add(
        self,
        name: str,
        paths: Sequence[str],
        recipe: PhotoSynthesisConfig,
        accelerator: Accelerator,
        options: dict[str, Any],
        place: dict[str, int],
    ) -> None:
        """Cut the photos of a source, those for training and those held out, and draw from them."""
        args, device, parts = self.args, accelerator.device, self.parts[name]
        flag = "--dataset" if name == "photos" else "--true_dataset"
        numbers = {category: number for number, category in enumerate(self.model.config.categories, start=1)}
        options = {
            "min_area": args.min_area, "with_instances": True,
            "category_of": lambda item: numbers.get(item["name"], 0), **options,
        }  # fmt: skip
        with errors_by_flag({"`pixels` holds": f"`{flag}` holds"}):
            bank, held_out = (
                self._bank(f"{name}-{part}", rows, recipe, accelerator, options)
                for part, rows in zip(("training", "held-out"), zip(*parts, strict=True), strict=True)
            )
        self.counts += count_objects(paths, [training for training, _ in parts], bank)
        logger.info("%s: %d objects for training, %d held out", name, len(bank), len(held_out))
        self.photos[name] = PhotoOcclusionSynthesizer(bank.to(device), recipe, seed=args.seed, **place)
        asked = replace(recipe, **PASTING) if name == "photos" else recipe  # the same, whatever is trained on
        self.validation[name] = PhotoOcclusionSynthesizer(held_out.to(device), asked, seed=-1)

    def _bank(
        self,
        name: str,
        rows: Sequence[Any],
        recipe: PhotoSynthesisConfig,
        accelerator: Accelerator,
        options: dict[str, Any],
    ) -> PhotoBank:
        """The objects of some photos; from `--cache_banks` where the same photos, annotations and labeller were met."""
        args = self.args
        most = args.background_regions if "labeller" in options else 0
        shown = [with_background(part, options["labeller"], most=most) for part in rows] if most else rows
        if args.cache_banks is None:
            return make_bank(shown, recipe, accelerator, False, options)
        folder = Path(args.cache_banks)
        labeller: PipelineLabeller | None = options.get("labeller")
        facts = [self.size, args.min_area, most, list(self.model.config.categories or [])]
        facts += [*map(rows_digest, rows), labeller and labeller.digest]
        path = folder / f"{name}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}.safetensors"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            make_bank(shown, recipe, accelerator, False, options).save(path)
        return PhotoBank.load(path)

    def _draw(self, micro_step: int, batch_size: int) -> OccluderQuestions:
        """The questions of a step: of each source its share, one after the other."""
        args = self.args
        given = [True, "true" in self.photos, self.masks is not None]
        counts = share_out(batch_size, np.array(args.shares) * given)
        parts = []
        for (name, synthesizer), count in zip(self.photos.items(), counts[:2], strict=False):
            if count:
                guess = args.guess_weight if name == "photos" else 1.0
                options = {name: getattr(args, name) for name in ("unseen", "surrounded", "unnamed")}
                parts.append(self._ask(synthesizer, micro_step, count, guess_weight=guess, **options))
        if counts[2]:
            parts.append(ask_of_masks(self.masks.sample(micro_step, counts[2]), inside_weight=args.inside_weight))
        return OccluderQuestions.join(parts)

    def _ask(self, synthesizer: PhotoOcclusionSynthesizer, step: int, count: int, **options: Any) -> OccluderQuestions:
        batch = synthesizer.sample(step, count)
        generator = torch.Generator(batch.modal.device).manual_seed(
            (step * 1_000_003 + synthesizer.process_index * 7919 + self.args.seed) % 2**63
        )
        return ask_of_photos(batch, generator, inside_weight=self.args.inside_weight, **options)

    def _forward(self, model: nn.Module, asked: OccluderQuestions) -> Tensor:
        image = asked.image.contiguous(memory_format=torch.channels_last)
        planes = (asked.mask, asked.eraser, asked.front)
        return model(*planes, image=image, shown=asked.shown, category_ids=asked.category_ids).logits

    def loss(self, model: nn.Module, micro_step: int, batch_size: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        asked = self._draw(micro_step, batch_size)
        logits = self._forward(model, asked)
        return question_loss(
            logits, asked.target, asked.weight, asked.in_front, asked.front_weight, self.args.front_factor
        ), {}

    def validate(self, model: nn.Module, step: int) -> Validation:
        """What is held out, by source and question, in percent: pooled IoU of the hidden part, and pixels that are
        rightly said to be in front or not, both where that is no guess.
        """
        metrics, pictures = {}, {}
        size = min(64, self.args.validation_samples)
        for name, question in itertools.product(self.validation, ONE_QUESTION):
            if name == "masks" and question != "all":
                continue
            sums = torch.zeros(4, dtype=torch.float64)
            for index in range(max(1, self.args.validation_samples // size)):
                asked = self._held_out(name, question, index, size)
                with self.autocast():
                    logits = self._forward(model, asked).float()
                probability = (logits[:, 1:2] - logits[:, :1]).sigmoid()
                sure = (asked.mask == 0) & (asked.weight > 0.5)
                predicted, truth = (probability > 0.5) & sure, (asked.target > 0) & sure
                right, seen = (logits[:, 2:] > 0) == (asked.in_front > 0), asked.front_weight > 0.5
                planes = (predicted & truth, predicted | truth, right & seen, seen)
                sums += torch.stack([plane.sum() for plane in planes]).double().cpu()
                pictures.setdefault(name, mask_grid(asked.mask, asked.eraser, asked.target, probability))
            metrics[f"{name}_{question}_inv"] = 100 * float(sums[0] / sums[1].clamp(min=1))
            if name != "masks":
                metrics[f"{name}_{question}_front"] = 100 * float(sums[2] / sums[3].clamp(min=1))
        return Validation(metrics, pictures)

    def _held_out(self, name: str, question: str, index: int, count: int) -> OccluderQuestions:
        synthesizer = self.validation[name]
        if name == "masks":
            return ask_of_masks(synthesizer.sample(index, count))
        guess = 0.0 if name == "photos" else 1.0
        return self._ask(synthesizer, index, count, shares=ONE_QUESTION[question], told=0.0, guess_weight=guess)

    def build_pipeline(self, model: nn.Module) -> PhotoPCNetMaskPipeline:
        return PhotoPCNetMaskPipeline(model=model, **self.others, **self.settings)

    def card(self) -> dict[str, Any]:
        return {
            "name": "PCNet-M with the photo",
            "description": "Completes the masks of partly hidden objects from a photo and their visible masks, and "
            "recovers which object hides which; where the neighbours are unknown, the photo alone has to tell.",
            "tags": ["pcnet-m", "photo-pcnet-m"],
            "limits": [
                "Crops are brought to a fixed size, so hidden details of large objects come back coarse.",
            ],
            "data": [
                f"{name}: {count:,} objects" + (f" in {photos:,} photos" if photos else "")
                for name, photos, count in self.counts
            ],
        }


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    args = parse_arguments(argv)
    train(PhotoPCNetMaskTask, args)


if __name__ == "__main__":
    run(main)
