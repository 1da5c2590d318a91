r"""Train the network that turns clicks on a photo into the mask of an object.

    accelerate launch training/train_click_segmenter.py --dataset instances_train2017.json --images train2017 \
        --output_dir runs/click-segmenter

Visible masks of any data set with photos will do. A batch begins with a click or a box for each object; in most batches
the network answers first, and is clicked on again where it is wrong, up to three times, before the answer that counts.
"""

import logging
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from datasets import concatenate_datasets
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
    errors_by_flag,
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

from amodal_diffusion import ClickSegmenter, ClickSegmenterPipeline
from amodal_diffusion.data.samplers import ClickBatch, ClickSampler, Prefetcher, list_objects
from amodal_diffusion.losses import click_loss
from amodal_diffusion.pipelines.contexts import evaluation_mode

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class DataArguments(PhotoArguments):
    _argument_group_name: ClassVar[str] = "data"

    validation_fraction: float = flag(0.1, "Share of the photos of each data set held out.")
    validation_samples: int = flag(256, "Objects to validate on.")
    min_area: int = flag(150, "Objects of fewer pixels are left out.")
    more_clicks: float = flag(0.6, "Share of the batches in which up to three more clicks follow the first.")


@dataclass(kw_only=True)
class NetworkArguments(FrozenEncoderArguments):
    _argument_group_name: ClassVar[str] = "network"

    pretrained_pipeline: str | None = flag(None, "ClickSegmenterPipeline that is trained on.")
    decoder_channels: tuple[int, ...] = flag(default_of(ClickSegmenter, "decoder_channels"))
    embedding_channels: int = flag(default_of(ClickSegmenter, "embedding_channels"))
    sample_size: int = flag(default_of(ClickSegmenter, "sample_size"), "Side of the crops, a multiple of 32.")


@dataclass(kw_only=True)
class ClickSegmenterArguments(TrainingArguments, DataArguments, NetworkArguments):
    """Ours; there is no published recipe."""

    max_train_steps: int | None = 20_000
    train_batch_size: int = 16
    optimizer: str = flag("adamw", choices=("sgd", "adamw"))
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    max_grad_norm: float | None = 5.0
    lr_scheduler: str = flag(
        "warmup_stable_decay", choices=("multistep", "one_cycle", "cosine", "warmup_stable_decay", "constant")
    )
    lr_decay_fraction: float = 0.7


def parse_arguments(argv: list[str] | None = None) -> ClickSegmenterArguments:
    args = parse(ClickSegmenterArguments, __doc__.split("\n")[0], argv)
    check_arguments(args)
    check_validation(args)
    check_images(args)
    if args.streaming:
        raise ValueError("`--streaming` does not go with clicks: objects are drawn at random.")
    check_multiples_of_32(args, "sample_size")
    check_frozen_encoder(args)
    if not 0 <= args.more_clicks <= 1:
        raise ValueError(f"`--more_clicks` must lie in [0, 1], got {args.more_clicks}.")
    return args


class ClickSegmenterTask(FrozenEncoderTask):
    """A decoder on the features of an encoder that is frozen but for its deepest blocks."""

    def __init__(self, args: ClickSegmenterArguments) -> None:
        self.args = args
        if args.pretrained_pipeline:
            self.model: ClickSegmenter = load_pipeline(args, "pretrained_pipeline", ClickSegmenterPipeline).model
        else:
            self.model = ClickSegmenter(args.decoder_channels, args.embedding_channels, args.sample_size)
            self.model.load_image_encoder()
        self.settings = pipeline_settings(args, ClickSegmenterPipeline)
        self.freeze_encoder(self.model.image_encoder, args)

    @errors_by_flag({"`rows`": "`--dataset`"})
    def setup(self, accelerator: Accelerator) -> None:
        args = self.args
        self.device, self.autocast = accelerator.device, accelerator.autocast
        with accelerator.main_process_first():
            training, held_out = split_sources(read_photo_sources(args), args.validation_fraction)
        size = self.model.config.sample_size
        self.sampler = ClickSampler(
            concatenate_datasets(training), size, seed=args.seed, process_index=accelerator.process_index,
            min_area=args.min_area,
        )  # fmt: skip
        self.held_out = ClickSampler(concatenate_datasets(held_out), size, seed=-1, min_area=args.min_area)
        self.batches = Prefetcher(self.sampler.sample)
        self.counts = [
            (source_name(path), len(rows), len(list_objects(rows, min_area=args.min_area)))
            for path, rows in zip(args.dataset, training, strict=True)
        ]
        logger.info("%s for training; %d objects held out", self.counts, len(self.held_out.objects))

    def _move(self, batch: ClickBatch) -> ClickBatch:
        image = batch.image.to(self.device).contiguous(memory_format=torch.channels_last)
        return ClickBatch(image, batch.target.to(self.device), batch.prompts.to(self.device))

    def loss(self, model: nn.Module, micro_step: int, batch_size: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        batch = self._move(self.batches(micro_step, batch_size))
        rng = self.sampler.generator(micro_step, purpose=1)
        more = int(rng.integers(0, 4)) if rng.random() < self.args.more_clicks else 0
        with self.autocast():
            features = _unwrapped(model).encode_image(batch.image)
        with evaluation_mode(model), torch.no_grad():
            for _ in range(more):
                with self.autocast():
                    logits = model(batch.prompts, features=features).logits
                batch.add_clicks(logits.float().sigmoid(), rng)
        logits = model(batch.prompts, features=features).logits
        return click_loss(logits, batch.target), {"iou": _iou(logits, batch.target).mean()}

    @torch.no_grad()
    def validate(self, model: nn.Module, step: int) -> Validation:
        """Mean IoU in percent after one, three and five clicks, on crops of objects that are held out."""
        sums, count, pictures = torch.zeros(5), 0, {}
        size = min(32, self.args.validation_samples)
        for index in range(max(1, self.args.validation_samples // size)):
            batch = self._move(self.held_out.sample(index, size))
            rng = self.held_out.generator(index, purpose=1)
            with self.autocast():
                features = _unwrapped(model).encode_image(batch.image)
            for click in range(len(sums)):
                with self.autocast():
                    logits = model(batch.prompts, features=features).logits.float()
                sums[click] += _iou(logits, batch.target).sum().cpu()
                if not pictures and click == 0:
                    planes = [batch.prompts[:, :1], batch.prompts[:, 3:], batch.target, logits.sigmoid()]
                    pictures["masks"] = mask_grid(*planes)
                batch.add_clicks(logits.sigmoid(), rng)
            count += size
        return Validation({f"iou_{clicks}": float(100 * sums[clicks - 1] / count) for clicks in (1, 3, 5)}, pictures)

    def build_pipeline(self, model: nn.Module) -> ClickSegmenterPipeline:
        return ClickSegmenterPipeline(model=model, **self.settings)

    def card(self) -> dict[str, Any]:
        return {
            "name": "Click segmenter",
            "description": "Gives the visible mask of the object that is clicked on, boxed, or roughly marked.",
            "tags": ["interactive-segmentation"],
            "task": "image-segmentation",
            "pipeline": "ClickSegmenterPipeline",
            "variable": "pipe",
            "call": "mask = pipe.click(pipe.embed(image), points=[[x, y]], labels=[1])  # (H, W) bool",
            "limits": ["A thin or intertwined object takes several clicks."],
            "data": [f"{name}: {count:,} objects in {photos:,} photos" for name, photos, count in self.counts],
        }


def _unwrapped(model: nn.Module) -> ClickSegmenter:
    return getattr(model, "module", model)


def _iou(logits: Tensor, target: Tensor) -> Tensor:
    """(B,), of masks at P(object) > 0.5."""
    predicted, truth = logits > 0, target > 0.5
    union = (predicted | truth).sum((1, 2, 3)).clamp(min=1)
    return (predicted & truth).sum((1, 2, 3)) / union


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    args = parse_arguments(argv)
    train(ClickSegmenterTask, args)


if __name__ == "__main__":
    run(main)
