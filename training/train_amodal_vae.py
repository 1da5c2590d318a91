"""Train Amodal-VAE in its three stages on modal masks alone [L20].

    accelerate launch training/train_amodal_vae.py --dataset train.json --stage all --stage_steps 6000,6000,500
        --order_pipeline pipelines/pcnet-m --output_dir runs/amodal-vae

Stage 1 learns the space of shapes from complete masks, stage 2 a new encoder and the placement from simulated partial
masks with the decoder frozen, stage 3 adapts both to truly partial masks. Each stage leaves a pipeline: `stage1` and
`stage2` below `--output_dir`, the last one in `--output_dir` itself.

The defaults are the published recipe as far as the paper states one: the class is known, stage 2 starts a new encoder,
and a partial mask is what another mask in front leaves. `--recipe improved` is ours.

`--use_rgb` trains RGB-Amodal-VAE: from stage 2 on, a ResNet-50 of ImageNet looks at the photo in the box of the visible
mask and learns with the rest; `--image_encoder efficientnet-lite0` is a smaller one. In stage 2 the masks in front are
pasted with their own pixels.
"""

import copy
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from trainer.arguments import (
    PhotoArguments,
    RecipeArguments,
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
from trainer.pasted_photos import check_rgb
from trainer.photo_sources import check_images, read_photo_sources
from trainer.pictures import completion_grid
from trainer.running import run
from trainer.shape_validation import complete_scenes, draw_completions, score_completions
from trainer.synthetic_masks import read_mask_sources
from transformers import ResNetConfig

from amodal_diffusion import AmodalVAE, AmodalVAEPipeline, ASBUPipeline, OrderNetPipeline, PCNetMaskPipeline
from amodal_diffusion.crops import crop_to_boxes
from amodal_diffusion.data.samplers.shape_sources import ShapeSources, collect_shapes, order_by_pipeline
from amodal_diffusion.data.samplers.shapes import PartialSampler, ShapeSampler
from amodal_diffusion.data.samplers.splits import split_bank
from amodal_diffusion.data.synthesis import MAX_TRUNCATION, mix_seed
from amodal_diffusion.hub import download_file
from amodal_diffusion.losses import ShapeWeights, complete_loss, partial_loss, simulated_loss
from amodal_diffusion.models import DiagonalGaussian

logger = logging.getLogger(__name__)

STAGES = ("1", "2", "3")
Data = Callable[[int], ShapeSources]


@dataclass(kw_only=True)
class StageArguments:
    _argument_group_name: ClassVar[str] = "stage"

    stage: str = flag("all", choices=(*STAGES, "all"))
    stage_steps: tuple[int, ...] | None = flag(None, "Updates of each stage, with `all`.")
    stage_learning_rates: list[float] | None = flag(None, "Of each stage, with `all`; None: --learning_rate.", nargs=3)
    pretrained_pipeline: str | None = flag(None, "Pipeline of the stage before; needed by stages 2 and 3.")


@dataclass(kw_only=True)
class DataArguments(RecipeArguments, PhotoArguments):
    _argument_group_name: ClassVar[str] = "data"

    dataset: list[str] = flag(help="Annotation files, Parquet folders or Hub data sets.")
    dataset_weights: list[float] | None = flag(
        None, "How often each source is drawn; None draws every mask equally often."
    )
    order_pipeline: str | None = flag(
        None,
        "Pipeline that tells who is in front (PCNet-M, ASBU). None: only objects without neighbours are complete, "
        "and stage 3 has nothing to learn from.",
    )
    min_area: int = flag(300, "Masks of fewer pixels are left out.")
    max_truncation: float = flag(
        MAX_TRUNCATION,
        "Masks with a larger share of their width or height on a side of the photo are left out.",
    )
    true_shapes: bool = flag(
        False, "Take the whole masks of data sets that have them for complete shapes; the paper does without."
    )
    category_sources: list[str] | None = flag(
        None,
        "Sources (index, or path as in --dataset) whose category ids are used, by default all; elsewhere the category "
        "is unknown.",
        nargs="*",
    )
    validation_fraction: float = flag(0.03, "Share of the complete masks held out.")
    validation_samples: int = flag(256)
    validation_draws: int = flag(20, "Codes drawn for each validation sample.")
    synthesis_size: int = flag(96, "Side of the crops that occlusion is simulated in.")
    box_probability: float = flag(0.0, "Share of samples cropped by the whole object's box.")
    simulated_share: float = flag(0.0, "Of the samples of stage 3; the paper has none.")


@dataclass(kw_only=True)
class NetworkArguments:
    _argument_group_name: ClassVar[str] = "network"

    sample_size: int = flag(default_of(AmodalVAE, "sample_size"))
    latent_channels: int = flag(default_of(AmodalVAE, "latent_channels"))
    block_out_channels: tuple[int, ...] = flag(
        default_of(AmodalVAE, "block_out_channels"), "Channels of the levels, with commas between: 32,64,128."
    )
    num_categories: int | None = flag(
        None, "Largest category id; None: that of the data, or of the pretrained pipeline. 0: class-agnostic."
    )
    class_dropout: float = flag(0.0, "Share of samples whose category is made unknown.")
    use_rgb: bool = flag(False, "Look at the photos, too, from stage 2 on: RGB-Amodal-VAE.")
    image_encoder: str = flag(
        "microsoft/resnet-50",
        'ResNet of transformers that starts to look at the photos, or "efficientnet-lite0"; "none": a ResNet-50 with '
        "random weights.",
    )
    image_size: int = flag(default_of(AmodalVAE, "image_size"), "Side of the photos' crops.")
    keep_encoder: bool = flag(False, "Start stage 2 from the encoder of stage 1 instead of a new one.")
    train_decoder: bool = flag(
        False, "The ablation without stage 1: stage 2 from random weights, in which the decoder learns too."
    )


@dataclass(kw_only=True)
class LossArguments:
    _argument_group_name: ClassVar[str] = "losses"

    kl_weight: list[float] = flag([default_of(ShapeWeights, "kl")], "Lambda; one, or one for each stage.")
    kl_warmup_steps: int = flag(0, "Updates in which lambda rises from 0.")
    code_weight: float = flag(default_of(ShapeWeights, "code"), "Of the latent codes' distance, in stage 2.")
    code_encoder: str = flag(
        "stage1",
        "Of the whole masks' codes, in stage 2: that of stage 1, frozen, or the one that learns, as in Eq. 3.",
        choices=("stage1", "own"),
    )
    placement_weight: float = flag(default_of(ShapeWeights, "placement"), "Of the placed mask, in stage 2.")
    box_weight: float = flag(
        default_of(ShapeWeights, "box"), "Of the placement's smooth L1 distance; not in the paper."
    )
    background_weight: float = flag(
        default_of(ShapeWeights, "background"),
        "Of visible pixels beside the object, in stage 3; the paper has its own visible pixels alone.",
    )


@dataclass(kw_only=True)
class AmodalVAEArguments(TrainingArguments, StageArguments, DataArguments, NetworkArguments, LossArguments):
    """[L20] states no optimisation; this one suits the stages' lengths of the shipped pipeline."""

    recipes = {"improved": {"box_probability": 0.25, "num_categories": 0, "class_dropout": 0.25, "keep_encoder": True}}

    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    lr_scheduler: str = "one_cycle"
    train_batch_size: int = 64


def parse_arguments(argv: list[str] | None = None) -> AmodalVAEArguments:
    args = parse(AmodalVAEArguments, __doc__.split("\n")[0], argv)
    _check(args)
    return args


def _check(args: AmodalVAEArguments) -> None:
    check_arguments(args)
    check_validation(args)
    for name in ("box_probability", "simulated_share", "class_dropout", "max_truncation"):
        if not 0 <= getattr(args, name) <= 1:
            raise ValueError(f"`--{name}` must lie in [0, 1], got {getattr(args, name)}.")
    for name in ("code_weight", "placement_weight", "box_weight", "background_weight", "kl_warmup_steps"):
        if getattr(args, name) < 0:
            raise ValueError(f"`--{name}` must not be negative, got {getattr(args, name)}.")
    if args.synthesis_size < 8 or args.synthesis_size % 8:
        raise ValueError(f"`--synthesis_size` must be a positive multiple of 8, got {args.synthesis_size}.")
    if args.use_rgb and args.stage == "1":
        raise ValueError("`--use_rgb` goes with stages 2 and 3: stage 1 learns from masks alone.")
    if args.images is not None and not args.use_rgb:
        raise ValueError("`--images` needs `--use_rgb`: without it no photo is looked at.")
    check_images(args)
    if len(args.kl_weight) not in (1, 3) or min(args.kl_weight) < 0:
        raise ValueError(f"`--kl_weight` must be one or three non-negative numbers, got {args.kl_weight}.")
    if args.stage == "all" and (args.stage_steps is None or len(args.stage_steps) != 3):
        raise ValueError(f"`--stage_steps` must be three numbers with `--stage all`, got {args.stage_steps}.")
    if args.stage == "all" and args.stop_after_steps is not None:
        raise ValueError("`--stop_after_steps` cannot be used with `--stage all`.")
    if args.stage_learning_rates is not None and (args.stage != "all" or min(args.stage_learning_rates) <= 0):
        raise ValueError(
            "`--stage_learning_rates` must be three positive numbers, and go with `--stage all`, got "
            f"{args.stage_learning_rates} with `--stage {args.stage}`."
        )
    if args.stage != "all" and args.max_train_steps is None:
        raise ValueError(f"`--max_train_steps` must be given with `--stage {args.stage}`.")
    if args.train_decoder and (args.stage != "2" or args.pretrained_pipeline is not None):
        raise ValueError("`--train_decoder` goes with `--stage 2` and without `--pretrained_pipeline`.")
    if args.stage in ("2", "3") and args.pretrained_pipeline is None and not args.train_decoder:
        raise ValueError(f"`--pretrained_pipeline` must name the pipeline of the stage before stage {args.stage}.")
    if args.stage in ("3", "all") and args.order_pipeline is None:
        raise ValueError(
            "`--order_pipeline` must be given for stage 3: without an order no object is known as partial."
        )
    known_sources(args)


def known_sources(args: AmodalVAEArguments) -> list[int]:
    """Indices of the data sets whose category ids are used.

    Raises:
        ValueError: where `--category_sources` names none of them, or does not go with `--num_categories`.
    """
    if args.category_sources is None:
        return [] if args.num_categories == 0 else list(range(len(args.dataset)))
    found = []
    for name in args.category_sources:
        if name in args.dataset:
            found.append(args.dataset.index(name))
        elif name.isdecimal() and int(name) < len(args.dataset):
            found.append(int(name))
        else:
            raise ValueError(f"`--category_sources` must name entries of `--dataset`, got {name!r}.")
    if bool(found) != (args.num_categories != 0):
        raise ValueError(
            "`--category_sources` and `--num_categories` belong together, got "
            f"{args.category_sources} and {args.num_categories}."
        )
    return found


class AmodalVAETask(Task):
    """One stage of Amodal-VAE.

    Args:
        args: the flags, with `max_train_steps` of this stage.
        stage: 1, 2 or 3.
        data: gives the masks for a network of a sample size.
    """

    def __init__(self, args: AmodalVAEArguments, stage: int, data: Data) -> None:
        self.args, self.stage, self._data = args, stage, data
        if args.pretrained_pipeline is not None:
            self.model = self._pretrained()
        else:
            sizes = {
                "sample_size": args.sample_size, "latent_channels": args.latent_channels,
                "block_out_channels": args.block_out_channels, "num_categories": self._num_categories(),
            }  # fmt: skip
            self.model = _with_photo(sizes, args) if args.use_rgb else AmodalVAE(**sizes)
        self.settings = pipeline_settings(args, AmodalVAEPipeline)
        self.teacher: nn.Module | None = None
        if stage == 2 and not args.train_decoder:
            before = self.model
            if args.code_encoder == "stage1":
                self.teacher = copy.deepcopy(before.encoder).requires_grad_(False).eval()
            if args.use_rgb:
                self.model = _with_photo({name: before.config[name] for name in _SIZES}, args)
                self.model.decoder, self.model.spatial_transformer = before.decoder, before.spatial_transformer
            elif not args.keep_encoder:
                self.model.encoder = AmodalVAE.from_config(before.config).encoder
            if args.keep_encoder:  # what merges it with the photo is new
                self.model.encoder.load_state_dict(before.encoder.state_dict(), strict=False)
        frozen = self.model.spatial_transformer if stage == 1 else self.model.decoder
        frozen.requires_grad_(args.train_decoder)

    def _pretrained(self) -> AmodalVAE:
        """The network of the stage before; of stage 1 it looks at no photo."""
        args = self.args
        model: AmodalVAE = load_pipeline(args, "pretrained_pipeline", AmodalVAEPipeline).model
        if self.stage == 3:
            check_rgb(model, args)
            if model.config.use_rgb and model.config.image_size != args.image_size:
                raise ValueError(
                    f"`--image_size` must be {model.config.image_size} as of `--pretrained_pipeline`, "
                    f"got {args.image_size}."
                )
        elif model.config.use_rgb:
            raise ValueError(
                f"`--pretrained_pipeline` {args.pretrained_pipeline!r} must be of stage 1, which looks at no photo."
            )
        return model

    def _num_categories(self) -> int:
        """Of a new network: what `--num_categories` says, or the largest id of the data."""
        if self.args.num_categories is not None:
            return self.args.num_categories
        largest = self._data(self.args.sample_size).largest_category
        if not largest:
            raise ValueError(
                "`--num_categories`: no object of `--dataset` has a category id; `--num_categories 0` trains without."
            )
        return largest

    @errors_by_flag({"`bits` holds": "`--dataset` holds", "`source_weights`": "`--dataset_weights`"})
    def setup(self, accelerator: Accelerator) -> None:
        args, device = self.args, accelerator.device
        self.size = self.model.config.sample_size
        self.sources = self._data(self.size)
        bank = self.sources.complete
        largest = self.sources.largest_category
        if 0 < self.model.config.num_categories < largest:
            raise ValueError(f"`--num_categories` must be at least {largest}, the largest category id in the data.")
        training, held_out = split_bank(bank, args.validation_fraction)
        options: dict[str, Any] = {
            "size": self.size, "frame_size": self.size, "synthesis_size": args.synthesis_size, "recipe": args.recipe,
        }  # fmt: skip
        self.sampler = ShapeSampler(
            training.to(device), seed=args.seed, source_weights=args.dataset_weights,
            box_probability=args.box_probability, whole_images=self._own_codes(),
            process_index=accelerator.process_index, num_processes=accelerator.num_processes, **options,
        )  # fmt: skip
        self.validation = ShapeSampler(held_out.to(device), seed=-1, **options)
        if self.stage == 3:
            if self.sources.partial is None:
                raise ValueError("`--order_pipeline` finds no object of `--dataset` behind another one: no stage 3.")
            self.partial = PartialSampler(
                self.sources.partial.to(device), seed=args.seed, source_weights=args.dataset_weights,
                process_index=accelerator.process_index,
            )  # fmt: skip
        self.process_index, self.autocast = accelerator.process_index, accelerator.autocast
        if self.teacher is not None:
            self.teacher.to(device)

    def _own_codes(self) -> bool:
        """The encoder that learns also codes the whole masks."""
        return self.stage == 2 and self.args.code_encoder == "own" and not self.args.train_decoder

    def weights(self, step: int) -> ShapeWeights:
        """Of the losses after `step` updates of this stage."""
        args = self.args
        kl = args.kl_weight[self.stage - 1 if len(args.kl_weight) == 3 else 0]
        rise = min(1.0, (step + 1) / args.kl_warmup_steps) if args.kl_warmup_steps else 1.0
        return ShapeWeights(kl * rise, args.code_weight, args.placement_weight, args.box_weight, args.background_weight)

    def _categories(self, category_ids: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        """The ids for the network, some made unknown where there is a `generator`."""
        if not self.model.config.num_categories:
            return None
        if generator is None:
            return category_ids
        known = torch.rand(len(category_ids), generator=generator) >= self.args.class_dropout
        return category_ids * known.to(category_ids)

    def _codes(self, whole: Tensor, category_ids: Tensor | None) -> DiagonalGaussian:
        with torch.no_grad(), self.autocast():
            return DiagonalGaussian(*self.teacher(whole, category_ids).chunk(2, dim=1))

    def loss(self, model: nn.Module, micro_step: int, batch_size: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        args = self.args
        generator = torch.Generator().manual_seed(mix_seed(args.seed, micro_step, self.process_index, self.stage))
        weights = self.weights(micro_step // args.gradient_accumulation_steps)
        if self.stage == 1:
            whole, ids = self.sampler.complete(micro_step, batch_size)
            return complete_loss(model, whole, self._categories(ids, generator), generator, weights)
        if self.stage == 2:
            return self._simulated(model, micro_step, batch_size, generator, weights)
        simulated = round(args.simulated_share * batch_size)
        parts: list[tuple[int, Tensor, dict[str, float | Tensor]]] = []
        if simulated < batch_size:
            batch = self.partial.sample(micro_step, batch_size - simulated)
            ids = self._categories(batch.category_ids, generator)
            parts.append((batch_size - simulated, *partial_loss(model, batch, ids, generator, weights)))
        if simulated:
            parts.append((simulated, *self._simulated(model, micro_step, simulated, generator, weights)))
        logs = {name: value for _, _, part in reversed(parts) for name, value in part.items()}
        return sum(count * loss for count, loss, _ in parts) / batch_size, logs

    def _simulated(
        self, model: nn.Module, micro_step: int, batch_size: int, generator: torch.Generator, weights: ShapeWeights
    ) -> tuple[Tensor, dict[str, float | Tensor]]:
        batch = self.sampler.simulated(micro_step, batch_size)
        ids = self._categories(batch.category_ids, generator)
        codes = None if self.teacher is None else self._codes(batch.whole, ids)
        return simulated_loss(model, batch, ids, codes, generator, weights, own_codes=self._own_codes())

    def validate(self, model: nn.Module, step: int) -> Validation:
        return self._validate_shapes(model) if self.stage == 1 else self._validate_completion(model)

    def _validate_shapes(self, model: nn.Module) -> Validation:
        """Held-out complete masks and their reconstructions by the mean code; samples of the prior in the last row."""
        whole, ids = self.validation.complete(0, self.args.validation_samples)
        with self.autocast():
            posterior = model.encode(whole, self._categories(ids))
            logits = model.decode(posterior.mean)
            noise = torch.randn(posterior.mean[:12].shape, generator=torch.Generator().manual_seed(0))
            prior = model.decode(noise.to(whole.device))
        predicted, truth = logits > 0, whole > 0
        used = (posterior.mean.var(0) > 0.01).sum()
        metrics = {
            "reconstruction_iou": 100 * float((predicted & truth).sum() / (predicted | truth).sum()),
            "kl": float(posterior.kl().mean()),
            "used_dimensions": float(used),
        }
        rows = [whole, logits.float().sigmoid(), prior.float().sigmoid()]
        return Validation(metrics, {"shapes": completion_grid(torch.zeros_like(whole), rows)})

    def _validate_completion(self, model: nn.Module) -> Validation:
        """Pooled IoU outside of the visible mask, in percent, of held-out objects under simulated occlusion."""
        args = self.args
        size = min(64, args.validation_samples)
        sums: dict[str, Tensor] = {}
        picture, kl = None, []
        generator = torch.Generator().manual_seed(0)
        for index in range(max(1, args.validation_samples // size)):
            batch = self.validation.simulated(index, size)
            by_box = crop_to_boxes(batch.scene_visible, batch.whole_boxes, self.size)[:, None]
            ids = self._categories(batch.category_ids)
            image = None if batch.image is None else self.validation.crop_photos(batch, batch.whole_boxes)
            with self.autocast():
                found = complete_scenes(model, batch, by_box, ids, args.validation_draws, generator, image)
                kl.append(model.encode(batch.visible, ids, batch.image).kl().mean())
            for name, value in score_completions(found, batch).items():
                sums[name] = sums.get(name, 0) + value
            if picture is None:
                picture = draw_completions(found, batch)
        metrics = {
            f"inv_miou_{name}" if name != "sample_spread" else name: 100 * float(value[0] / value[1].clamp(min=1))
            for name, value in sums.items()
        }
        return Validation(metrics | {"kl": float(torch.stack(kl).mean())}, {"completions": picture})

    def build_pipeline(self, model: nn.Module) -> AmodalVAEPipeline:
        return AmodalVAEPipeline(model=model, **self.settings)

    def card(self) -> dict[str, Any]:
        args = self.args
        names = [source_name(path) for path in args.dataset]
        data = [
            f"{name}: {complete:,} complete and {partial:,} partly hidden of {count:,} modal masks"
            for name, (count, complete, partial) in zip(names, self.sources.counts, strict=True)
        ]
        order = "no order, so that only objects without neighbours count" if args.order_pipeline is None else (
            f"the order by {type(_order_pipeline(args)).__name__}"
        )  # fmt: skip
        known = ", ".join(names[index] for index in known_sources(args))
        seen, name = "its visible part alone", "Amodal-VAE"
        limit = "It sees one mask, neither the photo nor what hides the object: it may also grow where nothing is."
        if self.model.config.use_rgb:
            seen, name = "its visible part and the photo around that", "RGB-Amodal-VAE"
            limit = (
                "It sees one mask and the photo in its box, and not what hides the object: it may also grow where "
                "nothing is."
            )
        return {
            "name": f"{name}, stage {self.stage}" if self.stage < 3 else name,
            "description": f"Completes the mask of a partly hidden object from {seen}, with as many "
            "plausible shapes as asked for (Ling et al., Variational Amodal Object Completion, NeurIPS 2020).",
            "tags": ["amodal-vae"],
            "limits": [
                limit,
                f"Shapes live on {self.model.config.sample_size}² cells: thin parts and outlines come back smooth.",
                "Kinds of objects that the training masks lack are completed towards kinds that they have.",
            ],
            "data": [
                *data,
                f"Complete: at least {args.min_area} pixels, no crowd, at most {args.max_truncation:.0%} of the extent "
                f"on a side of the photo's frame, no neighbour in front ({order}).",
                f"{args.validation_fraction:.0%} of the complete masks held out for validation.",
                f"Category ids known from {known}; unknown elsewhere." if known else "Class-agnostic.",
            ],
        }  # fmt: skip


_SIZES = ("sample_size", "latent_channels", "block_out_channels", "num_categories")


def _with_photo(sizes: dict[str, Any], args: AmodalVAEArguments) -> AmodalVAE:
    """A new network of some sizes that looks at the photo by `--image_encoder`."""
    name, given = args.image_encoder, {"use_rgb": True, "image_size": args.image_size}
    if name == "efficientnet-lite0":
        model = AmodalVAE(**sizes, **given, image_encoder_type=name)
        model.load_image_encoder()
        return model
    if name == "none":
        return AmodalVAE(**sizes, **given)
    if not Path(name).is_dir():  # transformers waits long for a Hub that cannot be reached
        download_file(name, "config.json")
    found = ResNetConfig.from_pretrained(name)
    model = AmodalVAE(
        **sizes, **given, image_hidden_sizes=found.hidden_sizes, image_depths=found.depths,
        image_embedding_size=found.embedding_size, image_layer_type=found.layer_type,
    )  # fmt: skip
    model.load_image_encoder(name)
    return model


def _order_pipeline(args: AmodalVAEArguments) -> Any:
    """Of `--order_pipeline`.

    Raises:
        ValueError: one that tells no order of masks alone.
    """
    pipeline = load_pipeline(args, "order_pipeline", PCNetMaskPipeline, ASBUPipeline, OrderNetPipeline)
    if pipeline.needs_image or getattr(pipeline, "answers_depth", False):
        problem = "looks at the photo" if pipeline.needs_image else "tells who is closer"
        raise ValueError(
            f"`--order_pipeline` {args.order_pipeline!r} must tell who is in front by masks alone, and it {problem}."
        )
    return pipeline


def make_data(args: AmodalVAEArguments) -> Data:
    """Reads the masks when they are first asked for, once for all stages."""
    found: list[ShapeSources] = []

    @errors_by_flag({"`sources`": "`--dataset`", "`bits` holds": "`--dataset` holds"})
    def data(size: int) -> ShapeSources:
        if not found:
            order = None if args.order_pipeline is None else _order_pipeline(args)
            found.append(
                collect_shapes(
                    read_photo_sources(args) if args.use_rgb else read_mask_sources(args), size=size, frame_size=size,
                    resolution=args.synthesis_size, min_area=args.min_area, max_truncation=args.max_truncation,
                    known_categories=known_sources(args),
                    find_order=None if order is None else order_by_pipeline(order),
                    collect_partial=args.stage in ("3", "all"), image_size=args.image_size if args.use_rgb else None,
                    true_shapes=args.true_shapes,
                )
            )  # fmt: skip
            logger.info("(all, complete, partial) masks of each source: %s", found[0].counts)
        return found[0]

    return data


def train_all(args: AmodalVAEArguments) -> None:
    """The three stages one after another; those that are done are passed over with `--resume_from_checkpoint latest`.

    Raises:
        ValueError: in a launch of several processes, whose group ends with the first stage.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("`--stage all` runs in one process; with several, train the stages one by one.")
    if args.use_rgb and not (Path(args.output_dir) / "stage2" / "model_index.json").is_file():
        _with_photo({}, args)  # an encoder that is not to be had is told before stage 1
    data, before = make_data(args), args.pretrained_pipeline
    for stage, steps in enumerate(args.stage_steps, start=1):
        folder = Path(args.output_dir) / f"stage{stage}" if stage < 3 else Path(args.output_dir)
        done = (folder / f"checkpoint-{steps}").is_dir() and (folder / "README.md").is_file()
        if done and args.resume_from_checkpoint == "latest":
            logger.info("stage %d is done: %s", stage, folder)
        else:
            rates = args.stage_learning_rates or [args.learning_rate] * 3
            own = replace(
                args, output_dir=str(folder), max_train_steps=steps, pretrained_pipeline=before,
                learning_rate=rates[stage - 1], use_rgb=args.use_rgb and stage > 1,
            )  # fmt: skip
            logger.info("stage %d: %d updates", stage, steps)
            train(lambda own, stage=stage: AmodalVAETask(own, stage, data), own)
        before = str(folder)


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    args = parse_arguments(argv)
    if args.stage == "all":
        train_all(args)
    else:
        train(lambda args: AmodalVAETask(args, int(args.stage), make_data(args)), args)


if __name__ == "__main__":
    run(main)
