r"""Train the network that tells things from ground, walls and sky, so that no thing is copied into a background.

    accelerate launch training/train_thing_net.py --dataset instances_train2017.json --images train2017 \
        --pretrained_pipeline pipelines/pcnet-c --output_dir runs/pcnet-c

Any data sets with photos and visible masks will do; things are what has a mask. Where a data set has masks of some
things alone, such as people, name it after `--incomplete_dataset` as well: what has no mask there is not looked at.
"""

import logging
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from trainer.arguments import (
    FrozenEncoderArguments,
    PhotoArguments,
    TrainingArguments,
    check_arguments,
    check_frozen_encoder,
    check_multiples_of_32,
    check_validation,
    default_of,
    flag,
    load_pipeline,
    parse,
    pipeline_settings,
    source_name,
)
from trainer.loop import FrozenEncoderTask, Validation, train
from trainer.photo_sources import check_images, read_photo_sources, split_sources
from trainer.pictures import mask_grid
from trainer.running import run

from amodal_diffusion import ContentPipeline, ThingNet
from amodal_diffusion.data.samplers import Prefetcher, ThingBatch, ThingSampler

logger = logging.getLogger(__name__)

_PICTURES, _PICTURE_SIDE = 8, 256  # photos in the picture of a validation, and their longer side


@dataclass(kw_only=True)
class DataArguments(PhotoArguments):
    _argument_group_name: ClassVar[str] = "data"

    validation_fraction: float = flag(0.08, "Share of the photos of each data set held out.")
    validation_samples: int = flag(256, "Photos to validate on, at most.")
    incomplete_dataset: list[str] = flag([], "Those of `--dataset` in which not every thing has a mask.", nargs="*")


@dataclass(kw_only=True)
class NetworkArguments(FrozenEncoderArguments):
    _argument_group_name: ClassVar[str] = "network"

    pretrained_pipeline: str | None = flag(None, "ContentPipeline that gets the network; its own one is trained on.")
    decoder_channels: int = flag(default_of(ThingNet, "decoder_channels"), "Of a new network.")
    sample_size: int = flag(
        default_of(ThingNet, "sample_size"), "Longer side of photos, of a new network; multiple of 32."
    )
    crop_size: int = flag(320, "Side of the crops, a multiple of 32.")


@dataclass(kw_only=True)
class ThingNetArguments(TrainingArguments, DataArguments, NetworkArguments):
    """Ours; there is no published recipe."""

    max_train_steps: int | None = 2_000
    train_batch_size: int = 16
    optimizer: str = flag("adamw", choices=("sgd", "adamw"))
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    max_grad_norm: float | None = 3.0
    lr_scheduler: str = flag(
        "warmup_stable_decay", choices=("multistep", "one_cycle", "cosine", "warmup_stable_decay", "constant")
    )
    lr_decay_fraction: float = 0.7


def parse_arguments(argv: list[str] | None = None) -> ThingNetArguments:
    args = parse(ThingNetArguments, __doc__.split("\n")[0], argv)
    check_arguments(args)
    check_validation(args)
    check_images(args)
    if args.streaming:
        raise ValueError("`--streaming` does not go with things: photos are drawn at random.")
    check_multiples_of_32(args, "sample_size", "crop_size")
    check_frozen_encoder(args)
    for path in args.incomplete_dataset:
        if path not in args.dataset:
            raise ValueError(f"`--incomplete_dataset` must name data sets of `--dataset`, got {path!r}.")
    return args


class ThingNetTask(FrozenEncoderTask):
    """A feature pyramid on an encoder that is frozen but for its deepest blocks."""

    def __init__(self, args: ThingNetArguments) -> None:
        self.args = args
        self.components: dict[str, Any] = {}
        self.settings: dict[str, Any] = {"filler": "auto"}
        if args.pretrained_pipeline:
            self.components = dict(load_pipeline(args, "pretrained_pipeline", ContentPipeline).components)
            self.settings = pipeline_settings(args, ContentPipeline)
        trained = self.components.pop("thing_model", None)
        self.model: ThingNet = trained or ThingNet(args.decoder_channels, args.sample_size)
        if trained is None:
            self.model.load_image_encoder()
        self.freeze_encoder(self.model.image_encoder, args)

    def setup(self, accelerator: Accelerator) -> None:
        args = self.args
        self.device, self.autocast = accelerator.device, accelerator.autocast
        with accelerator.main_process_first():
            training, held_out = split_sources(read_photo_sources(args), args.validation_fraction)
        complete = [path not in args.incomplete_dataset for path in args.dataset]
        place = {"seed": args.seed, "process_index": accelerator.process_index}
        self.sampler = ThingSampler(training, complete, args.crop_size, **place)
        self.held_out = ThingSampler(held_out, complete, self.model.config.sample_size)
        self.batches = Prefetcher(self.sampler.sample)
        self.counts = [
            (source_name(path), len(rows), whole)
            for path, rows, whole in zip(args.dataset, training, complete, strict=True)
        ]
        logger.info("%s for training; %d photos held out", self.counts, len(self.held_out.photos))

    def _move(self, batch: ThingBatch) -> ThingBatch:
        image = batch.image.to(self.device).contiguous(memory_format=torch.channels_last)
        return ThingBatch(image, batch.target.to(self.device), batch.known.to(self.device))

    def loss(self, model: nn.Module, micro_step: int, batch_size: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        batch = self._move(self.batches(micro_step, batch_size))
        entropy = F.binary_cross_entropy_with_logits(model(batch.image).logits, batch.target, reduction="none")
        return (entropy * batch.known).sum() / batch.known.sum().clamp(min=1), {}

    @torch.no_grad()
    def validate(self, model: nn.Module, step: int) -> Validation:
        """IoU of things in percent, over the known pixels of whole photos held out where not everything is a thing."""
        photos = len(self.held_out.photos)
        common, union = 0, 0
        shown: list[Tensor] = []
        for index in range(0, photos, max(1, -(-photos // self.args.validation_samples))):
            batch = self._move(self.held_out.whole(index))
            with self.autocast():
                logits = model(batch.image).logits.float()
            found, truth, known = logits > 0, batch.target > 0.5, batch.known > 0.5
            if len(shown) < _PICTURES:
                shown.append(_in_square(torch.cat([batch.known, batch.target, logits.sigmoid()], 1)))
            if bool((known & ~truth).any()):
                common += int((found & truth & known).sum())
                union += int(((found | truth) & known).sum())
        beside, target, likely = torch.cat(shown).split(1, dim=1)
        pictures = {"things": mask_grid(torch.zeros_like(beside), beside, target, likely)}
        return Validation({"iou": 100 * common / max(1, union)}, pictures)

    def build_pipeline(self, model: nn.Module) -> ContentPipeline:
        return ContentPipeline(**self.components, thing_model=model, **self.settings)

    def card(self) -> dict[str, Any]:
        return {
            "name": "Content completion that copies no things",
            "description": "Fills hidden parts and backgrounds with colour; a network says what must not be copied.",
            "tags": ["image-inpainting"],
            "task": "image-to-image",
            "pipeline": "ContentPipeline",
            "variable": "pipe",
            "call": "background = pipe.background(image, masks)  # (H, W, 3) uint8",
            "limits": ["Things are what had masks in the data sets; of others it finds fewer."],
            "data": [
                f"{name}: {count:,} photos" + ("" if whole else ", of which what has no mask was not looked at")
                for name, count, whole in self.counts
            ],
        }


def _in_square(planes: Tensor) -> Tensor:
    """(1, C, h, w) as (1, C, `_PICTURE_SIDE`, `_PICTURE_SIDE`), 0 beside it."""
    scale = _PICTURE_SIDE / max(planes.shape[-2:])
    height, width = (max(1, round(side * scale)) for side in planes.shape[-2:])
    small = F.interpolate(planes, (height, width), mode="bilinear", antialias=True)
    return F.pad(small, (0, _PICTURE_SIDE - width, 0, _PICTURE_SIDE - height))


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    args = parse_arguments(argv)
    train(ThingNetTask, args)


if __name__ == "__main__":
    run(main)
