"""Train PCNet-C, which fills the hidden part of an object with colour, on photos with modal masks [Z20].

The defaults are the published recipe: Adam at 1e-4, batch 16, 450,000 updates at 256², all six losses; `--recipe
improved` is ours. Holes are made where nothing is hidden, so the photo itself is the truth. `--true_dataset` adds parts
that are really hidden, of data sets that know their colours, such as rendered rooms (`make-rooms`, with `layers/`).

    accelerate launch training/train_pcnet_c.py --dataset train.json --output_dir runs/pcnet-c \
        --perceptual_network timm/vgg16.tv_in1k --pretrained_pipeline pcnet-c-partialconv

`--pretrained_pipeline` takes a network without mask plane as well (`amodal-diffusion convert pcnet-c partialconv.pth`),
the start of [Z20]. Where VGG-16 is not to be had, training goes on without the losses that need it, and says so.
`--perceptual_network efficientnet-lite0` takes the features of another network, whose weights come with a package
(extra `features`); its losses have another scale than VGG's.
"""

import logging
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from trainer.arguments import (
    OUR_OPTIMISATION,
    RecipeArguments,
    TrainingArguments,
    WeightedPhotoArguments,
    check_arguments,
    check_validation,
    default_of,
    errors_by_flag,
    flag,
    parse,
    pipeline_settings,
    source_name,
)
from trainer.loop import Task, Validation, train
from trainer.photo_sources import (
    Counts,
    TrueShareArguments,
    check_categories,
    check_images,
    check_true_share,
    make_photo_synthesizers,
    read_true_scenes,
)
from trainer.running import run

from amodal_diffusion import ContentPipeline, PCNetContent, PCNetContentDiscriminator
from amodal_diffusion.data.rooms import ColorArchives, HiddenParts
from amodal_diffusion.data.synthesis import (
    ContentBatch,
    ContentSynthesisConfig,
    ContentSynthesizer,
    join_content,
    share_out,
)
from amodal_diffusion.images import denormalize_images
from amodal_diffusion.losses import (
    ContentLossWeights,
    PerceptualNetwork,
    composite,
    content_losses,
    discriminator_loss,
    generator_loss,
    load_perceptual_network,
)

logger = logging.getLogger(__name__)

RECIPES = {"published": ContentSynthesisConfig, "improved": ContentSynthesisConfig.improved}
_SHOWN = 8


@dataclass(kw_only=True)
class DataArguments(RecipeArguments, WeightedPhotoArguments):
    _argument_group_name: ClassVar[str] = "data"

    validation_samples: int = flag(256)
    min_area: int = flag(1000, "Masks of fewer pixels are left out.")


@dataclass(kw_only=True)
class NetworkArguments:
    _argument_group_name: ClassVar[str] = "network"

    pretrained_pipeline: str | None = flag(None, "Content pipeline to start from; a mask plane is added if need be.")
    block_out_channels: tuple[int, ...] = flag(
        default_of(PCNetContent, "block_out_channels"), "Channels of the levels, with commas between: 32,64,128."
    )
    use_prior: bool = flag(False, "Start from the colours continued smoothly.")
    class_conditioned: bool = flag(False, "Show the network the category of the object.")
    sample_size: int | None = flag(None, "None: 256, or that of the pretrained pipeline.")


@dataclass(kw_only=True)
class PipelineArguments:
    _argument_group_name: ClassVar[str] = "pipeline (stored in it; see ContentPipeline)"

    seam_margin: int | None = flag(default_of(ContentPipeline, "seam_margin"))


@dataclass(kw_only=True)
class LossArguments:
    _argument_group_name: ClassVar[str] = "losses (weights; 0 leaves a part out)"

    valid_weight: float = flag(default_of(ContentLossWeights, "valid"))
    hole_weight: float = flag(default_of(ContentLossWeights, "hole"))
    total_variation_weight: float = flag(default_of(ContentLossWeights, "total_variation"))
    perceptual_weight: float = flag(default_of(ContentLossWeights, "perceptual"))
    style_weight: float = flag(default_of(ContentLossWeights, "style"))
    adversarial_weight: float = flag(default_of(ContentLossWeights, "adversarial"))
    perceptual_network: str = flag(
        "timm/vgg16.tv_in1k",
        'VGG-16: a file or a Hub id; left out where it is not to be had. Or "efficientnet-lite0", "none".',
    )
    discriminator_rate: float = flag(0.1, "Its learning rate as a share of the network's.")


@dataclass(kw_only=True)
class ContentArguments(
    TrainingArguments, DataArguments, TrueShareArguments, NetworkArguments, PipelineArguments, LossArguments
):
    """The published recipe [Z20]; AdamW without weight decay is Adam."""

    recipes = {"improved": {**OUR_OPTIMISATION, "weight_decay": 0.0, "learning_rate": 5e-4, "use_prior": True}}

    optimizer: str = "adamw"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    train_batch_size: int = 16
    max_train_steps: int | None = 450_000
    lr_scheduler: str = "constant"

    def loss_weights(self) -> ContentLossWeights:
        return ContentLossWeights(
            **{part.name: getattr(self, f"{part.name}_weight") for part in fields(ContentLossWeights)}
        )


def parse_arguments(argv: list[str] | None = None) -> ContentArguments:
    args = parse(ContentArguments, __doc__.split("\n")[0], argv)
    check_arguments(args)
    check_images(args)
    check_true_share(args)
    check_validation(args)
    for name, weight in vars(args.loss_weights()).items():
        if weight < 0:
            raise ValueError(f"`--{name}_weight` must not be negative, got {weight}.")
    if args.discriminator_rate <= 0:
        raise ValueError(f"`--discriminator_rate` must be positive, got {args.discriminator_rate}.")
    return args


class ContentTask(Task):
    """PCNet-C on holes made in photos."""

    def __init__(self, args: ContentArguments) -> None:
        self.args = args
        self.weights = args.loss_weights()
        pretrained = args.pretrained_pipeline and ContentPipeline.from_pretrained(args.pretrained_pipeline)
        self.model = _make_model(args, pretrained)
        self.thing_model = pretrained.thing_model if pretrained else None
        size = self.model.config.sample_size
        if size % self.model.multiple:
            raise ValueError(f"`--sample_size` must be a multiple of {self.model.multiple}, got {size}.")
        self.recipe = RECIPES[args.recipe](size)
        self.settings = pipeline_settings(args, ContentPipeline, {"seam_margin": args.seam_margin})
        self.perceptual: PerceptualNetwork | None = None
        self.discriminator: nn.Module | None = None
        self.counts: Counts = []
        self.hidden: tuple[HiddenParts, HiddenParts] | None = None

    def setup(self, accelerator: Accelerator) -> None:
        args = self.args
        self.synthesizer, self.validation, self.counts = make_photo_synthesizers(
            args, self.recipe, accelerator, make=ContentSynthesizer, modal_only=True
        )
        self.accelerator = accelerator
        if args.true_dataset:
            self.hidden = read_hidden_parts(args, self.recipe, accelerator)
        if self.model.config.class_conditioned:
            check_categories(self.synthesizer.bank, self.validation.bank)
        if self.weights.perceptual or self.weights.style:
            self.perceptual = find_perceptual_network(args.perceptual_network)
            if self.perceptual is not None:
                self.perceptual.to(accelerator.device)
        if self.weights.adversarial:
            network = PCNetContentDiscriminator()
            rate = args.learning_rate * args.discriminator_rate
            optimizer = torch.optim.Adam(network.parameters(), rate, betas=(0.0, 0.9))
            self.discriminator, self.discriminator_optimizer = accelerator.prepare(network, optimizer)

    def trained_besides(self) -> dict[str, tuple[nn.Module, Any]]:
        if self.discriminator is None:
            return {}
        return {"discriminator": (self.discriminator, self.discriminator_optimizer)}

    def loss(self, model: nn.Module, micro_step: int, batch_size: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        batch = self._draw(micro_step, batch_size)
        output = self._paint(model, batch)
        parts = content_losses(output, batch, self.perceptual)
        if self.discriminator is not None:
            picture = composite(output, batch)
            self._train_discriminator(batch, picture.detach())
            judge = self.accelerator.unwrap_model(self.discriminator)
            judge.requires_grad_(False)  # this step is the network's alone
            parts["adversarial"] = generator_loss(judge(picture, batch.mask))
            judge.requires_grad_(True)
        loss = torch.stack([getattr(self.weights, name) * value for name, value in parts.items()]).sum()
        return loss, {"hole": parts["hole"].detach(), "valid": parts["valid"].detach()}

    def _draw(self, micro_step: int, batch_size: int) -> ContentBatch:
        if self.hidden is None:
            return self.synthesizer.sample(micro_step, batch_size)
        made, found = share_out(batch_size, [1 - self.args.true_share, self.args.true_share])
        parts = [self.synthesizer.sample(micro_step, made)] if made else []
        parts += [self.hidden[0].sample(micro_step, found).to(self.accelerator.device)] if found else []
        return join_content(parts)

    def _paint(self, model: nn.Module, batch: ContentBatch) -> Tensor:
        ids = batch.category_ids if self.model.config.class_conditioned else None
        return model(batch.image, batch.visible, batch.mask, ids).image

    def _train_discriminator(self, batch: ContentBatch, picture: Tensor) -> None:
        real, fake = self.discriminator(batch.image, batch.mask), self.discriminator(picture, batch.mask)
        self.accelerator.backward(discriminator_loss(real, fake))
        self.discriminator_optimizer.step()
        self.discriminator_optimizer.zero_grad()

    def validate(self, model: nn.Module, step: int) -> Validation:
        """PSNR in dB and mean absolute error (0 to 255) inside the holes of photos held out, and pictures of some.

        Of parts that are really hidden apart, as "true_psnr_hole" and "true_mae_hole".
        """
        found = self._score(model, self.validation)
        if self.hidden is None:
            return found
        true = self._score(model, self.hidden[1])
        return Validation(
            {**found.metrics, **{f"true_{name}": value for name, value in true.metrics.items()}},
            {**found.pictures, **{f"true_{name}": picture for name, picture in true.pictures.items()}},
        )

    def _score(self, model: nn.Module, source: ContentSynthesizer | HiddenParts) -> Validation:
        squares, absolute, count, picture = 0.0, 0.0, 0.0, None
        size = min(16, self.args.validation_samples)
        for index in range(max(1, self.args.validation_samples // size)):
            batch = source.sample(index, size).to(self.accelerator.device)
            with self.accelerator.autocast():
                output = self._paint(model, batch)
            found, truth = (denormalize_images(images).clamp(0, 1) for images in (output.float(), batch.image))
            error = (found - truth) * batch.hole
            squares, absolute = squares + float(error.square().sum()), absolute + float(error.abs().sum())
            count += 3 * float(batch.hole.sum())
            if picture is None:
                picture = _picture(batch, found, truth)
        psnr = -10 * float(np.log10(max(squares, 1e-9) / max(count, 1)))
        figures = {"psnr_hole": psnr, "mae_hole": 255 * absolute / max(count, 1)}
        return Validation(figures, {"held_out": picture} if picture is not None else {})

    def build_pipeline(self, model: nn.Module) -> ContentPipeline:
        settings = self.settings | {"enlarge_box": self.recipe.enlarge_box}
        return ContentPipeline(model=model, thing_model=self.thing_model, **settings)

    def card(self) -> dict[str, Any]:
        args = self.args
        data = [f"{name}: {count:,} objects in {photos:,} photos" for name, photos, count in self.counts] + [
            f"{args.validation_fraction:.0%} of the photos held out for validation; recipe of the holes: {args.recipe}."
        ]
        if self.hidden is not None:
            names = ", ".join(map(source_name, args.true_dataset))
            data.append(
                f"{names}: {len(self.hidden[0]):,} parts that are really hidden, {args.true_share:.0%} of a batch."
            )
        left_out = [name for name, value in vars(self.weights).items() if not value]
        if self.perceptual is None:
            left_out += [name for name in ("perceptual", "style") if name not in left_out]
        elif self.weights.perceptual or self.weights.style:
            data.append(f"Features of the perceptual and the style loss: {args.perceptual_network}.")
        if left_out:
            data.append(f"Losses left out: {', '.join(left_out)}.")
        return {
            "name": "PCNet-C",
            "description": "Fills the hidden part of an object, or the background behind it, with colour: a U-Net of "
            "partial convolutions that sees the photo and the visible mask of the object (Zhan et al., "
            "Self-Supervised Scene De-occlusion, CVPR 2020).",
            "tags": ["pcnet-c", "inpainting"],
            "limits": [
                "Large holes come out smooth: it knows colours and edges, and invents no detail.",
                "It learned on holes made where nothing is hidden, in everyday photos."
                if self.hidden is None
                else "It learned on holes made in everyday photos, and on hidden parts of rendered scenes.",
            ],
            "data": data,
            "task": "image-to-image",
            "pipeline": "ContentPipeline",
            "call": "pipe(image, masks, amodal_masks).objects  # RGBA, one an object",
        }


def _picture(batch: ContentBatch, found: Tensor, truth: Tensor) -> np.ndarray:
    """Three rows of crops: what the network sees, the composite, the truth."""
    visible = batch.visible
    seen = truth * visible + (1 - visible) * 0.5
    rows = [torch.cat(list(row[:_SHOWN]), dim=2) for row in (seen, torch.where(visible > 0, truth, found), truth)]
    return (torch.cat(rows, dim=1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


@errors_by_flag({"no object": "`--true_dataset`: no object"})
def read_hidden_parts(
    args: ContentArguments, recipe: ContentSynthesisConfig, accelerator: Accelerator
) -> tuple[HiddenParts, HiddenParts]:
    """Parts to train on, and those of photos that are held out.

    Raises:
        ValueError: naming the flag.
    """
    with accelerator.main_process_first():
        training, held_out = zip(*read_true_scenes(args), strict=True)
    colors = [ColorArchives(path) for path in args.true_dataset]
    options = {"min_area": args.min_area}
    return (
        HiddenParts(
            [*zip(training, colors, strict=True)], recipe, seed=args.seed, process_index=accelerator.process_index,
            **options,
        ),
        HiddenParts([*zip(held_out, colors, strict=True)], recipe, seed=-1, **options),
    )  # fmt: skip


def find_perceptual_network(name: str) -> PerceptualNetwork | None:
    """As `load_perceptual_network`; None where none is wanted, and, with a warning, where VGG-16 is not to be had."""
    if name == "none":
        return None
    try:
        return load_perceptual_network(name)
    except FileNotFoundError as error:
        logger.warning("training goes on without the perceptual and the style loss: %s", error)
        return None


def _make_model(args: ContentArguments, pretrained: ContentPipeline | None) -> PCNetContent:
    if not pretrained:
        size = args.sample_size or default_of(PCNetContent, "sample_size")
        options = {"use_prior": args.use_prior, "class_conditioned": args.class_conditioned}
        return PCNetContent(args.block_out_channels, sample_size=size, **options)
    model = pretrained.model
    if model is None:
        raise ValueError(f"`--pretrained_pipeline` {args.pretrained_pipeline!r} holds no PCNet-C to train.")
    if args.class_conditioned and not model.config.class_conditioned:
        raise ValueError(
            f"`--class_conditioned` needs a network that is, and `--pretrained_pipeline` {args.pretrained_pipeline!r} "
            "is not."
        )
    if not model.config.use_mask:
        model = model.with_mask_plane()
    if args.use_prior and not model.config.use_prior:
        model = model.with_prior()
    if args.sample_size:
        model.register_to_config(sample_size=args.sample_size)
    return model


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    train(ContentTask, parse_arguments(argv))


if __name__ == "__main__":
    run(main)
