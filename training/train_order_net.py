"""Train OrderNet, which tells who of two objects is in front, on true orders [Z20, Table 1], or who is closer.

The paper reproduced the network and does not say how it was trained; the defaults are those of its code (ResNet-50 on
both masks and the photo, crops of 256² around both objects, moved, scaled and mirrored) with the optimisation of its
other networks: SGD at 1e-3, 56,000 updates of 32 pairs. `--recipe improved` is ours.

    accelerate launch training/train_order_net.py --dataset train.json --images train2014 --output_dir runs/order-net
    accelerate launch training/train_order_net.py --masks_alone --dataset train.json --output_dir runs/order-net-m

The order follows from the whole masks, as the published accuracy counts it; `--order_source annotated` takes what the
data set says, such as COCOA's order or that of rendered rooms.

`--answer depth` asks InstaOrder's second question instead, which of any two objects is closer, of data sets that know
depths: rendered rooms (`make-rooms`) and other scenes in 3D (`ground-truth`).
"""

import logging
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from trainer.arguments import (
    OUR_OPTIMISATION,
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
from trainer.running import run
from trainer.true_masks import FLAGS, MovedMaskArguments, check_true_masks, first_objects, read_true_masks

from amodal_diffusion import OrderNet, OrderNetPipeline
from amodal_diffusion.data.samplers import ObjectSampler, OrderPairs, PairCropper, PairCrops, Photo, PhotoError
from amodal_diffusion.data.samplers.order_pairs import UNRELATED
from amodal_diffusion.data.samplers.prefetch import Prefetcher
from amodal_diffusion.images import normalize_images
from amodal_diffusion.metrics import depth_disagreement
from amodal_diffusion.models.order_net import ANSWERS
from amodal_diffusion.pipelines.order_net import mean_of_both_ways

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class DataArguments(MovedMaskArguments):
    _argument_group_name: ClassVar[str] = "data"

    validation_samples: int = flag(512, "Pairs to validate on, at most.")
    images_per_batch: int = flag(
        0,
        "Photos that the pairs of a batch come from; 0 draws pairs, whatever photos they are on. "
        "Bounds the photos that an update reads.",
    )
    order_source: str = flag(
        "masks", "Who is in front: from the whole masks, or as annotated where it is.", choices=("masks", "annotated")
    )
    unrelated: bool = flag(False, "Learn a third answer, too: of pairs that touch, none hides the other.")
    answer: str = flag(
        "occlusion", "Who is in front of whom, or of all pairs who is closer, or that depths overlap.", choices=ANSWERS
    )


@dataclass(kw_only=True)
class NetworkArguments:
    _argument_group_name: ClassVar[str] = "network"

    pretrained_pipeline: str | None = flag(None, "Folder or Hub id to start from; its configuration is taken.")
    masks_alone: bool = flag(False, "Look at no photo: OrderNet M in place of M+I.")
    sample_size: int = flag(default_of(OrderNet, "sample_size"))
    hidden_sizes: tuple[int, ...] = flag(default_of(OrderNet, "hidden_sizes"), "Channels of the stages of the ResNet.")
    depths: tuple[int, ...] = flag(default_of(OrderNet, "depths"), "Residual blocks of each stage.")
    embedding_size: int = flag(default_of(OrderNet, "embedding_size"))
    layer_type: str = flag(default_of(OrderNet, "layer_type"), choices=("bottleneck", "basic"))
    encoder: str = flag(
        "none", 'ResNet of transformers that it starts from, such as microsoft/resnet-50; "none": random weights.'
    )


@dataclass(kw_only=True)
class OrderNetArguments(TrainingArguments, DataArguments, NetworkArguments):
    """The published network with the optimisation of [Z20]."""

    recipes = {"improved": {**OUR_OPTIMISATION, "lr_warmup_fraction": 0.05}}

    max_train_steps: int | None = 56_000
    lr_milestones: list[int] = flag([32_000, 48_000])


def parse_arguments(argv: list[str] | None = None) -> OrderNetArguments:
    args = parse(OrderNetArguments, __doc__.split("\n")[0], argv)
    check_arguments(args)
    check_validation(args)
    check_true_masks(args)
    if args.answer == "depth" and (args.unrelated or args.order_source != "masks"):
        name = "--unrelated" if args.unrelated else "--order_source"
        raise ValueError(f"`{name}` is of `--answer occlusion` alone.")
    return args


class OrderNetTask(Task):
    """A classifier of pairs on true orders."""

    def __init__(self, args: OrderNetArguments) -> None:
        self.args = args
        self.model = _make_model(args)
        usual = {"enlarge_box": default_of(OrderNetPipeline, "enlarge_box")}
        self.settings = pipeline_settings(args, OrderNetPipeline, usual)
        self.with_image = bool(self.model.config.use_rgb)

    @errors_by_flag(FLAGS)
    def setup(self, accelerator: Accelerator) -> None:
        args = self.args
        self.device, self.autocast = accelerator.device, accelerator.autocast
        objects, held_out, training, validation = read_true_masks(args, accelerator, self.with_image)
        options = {"source": args.order_source, "unrelated": args.unrelated, "answer": args.answer}
        self.pairs = OrderPairs(objects, training, **options)
        self.held_out = OrderPairs(held_out, validation, **options)
        for pairs, use in ((self.pairs, "train on"), (self.held_out, "validate on")):
            if not len(pairs):
                wanted = "where one object hides another"
                if args.answer == "depth":
                    wanted = "with two objects of known depth; rendered rooms have such (`make-rooms`)"
                raise ValueError(f"`--dataset` has no photos to {use} {wanted}.")
        logger.info("%d pairs for training; %d held out", len(self.pairs), len(self.held_out))
        self.validation = first_objects(self.held_out.photos, args.validation_samples)
        self.sampler = ObjectSampler(
            self.pairs.photos, len(args.dataset), args.dataset_weights, images_per_batch=args.images_per_batch or None,
            seed=args.seed, process_index=accelerator.process_index,
        )  # fmt: skip
        size = self.model.config.sample_size
        shown = {"with_image": self.with_image, "enlarge_box": self.settings["enlarge_box"]}
        self.cropper = PairCropper(
            self.pairs, size, shift=args.box_shift, scale=args.box_scale, flip=args.flip_probability, **shown
        )
        self.validation_cropper = PairCropper(self.held_out, size, **shown)
        self.batches = Prefetcher(self._draw)

    def _draw(self, micro_step: int, batch_size: int) -> list[PairCrops]:
        """The part of a batch that a thread prepares ahead."""

        def load(photo: Photo, places: list[int], generator: np.random.Generator) -> PairCrops:
            return self.cropper(photo, places, generator)

        return self.sampler.draw(micro_step, batch_size, load, self.args.on_error)

    def _inputs(self, parts: list[PairCrops]) -> tuple[dict[str, Tensor], Tensor]:
        """What the network is called with, and the relations, on the device."""

        def joined(name: str) -> Tensor:
            return torch.cat([getattr(part, name) for part in parts]).to(self.device)

        inputs = {name: joined(name)[:, None].float() for name in ("first", "second")}
        if self.with_image:
            inputs["image"] = normalize_images(joined("image"))
        return inputs, joined("relation")

    def loss(self, model: nn.Module, micro_step: int, batch_size: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        inputs, relation = self._inputs(self.batches(micro_step, batch_size))
        return F.cross_entropy(model(**inputs).logits.float(), relation), {}

    def validate(self, model: nn.Module, step: int) -> Validation:
        """Share of held-out pairs that are answered right, as the pipeline answers, in percent.

        Of the pairs with a relation, as [Z20] counts them, and with `--unrelated` of all. Of depth, the share that is
        answered wrong, as `depth_disagreement` counts it.
        """
        right, related = [], []
        for photo in self.validation:
            for start in range(0, len(photo.objects), self.args.train_batch_size):
                places = photo.objects[start : start + self.args.train_batch_size]
                try:
                    inputs, relation = self._inputs([self.validation_cropper(photo, places)])
                except PhotoError as error:
                    if self.args.on_error == "raise":
                        raise
                    logger.warning("skipped %s", error)
                    continue
                exchanged = {**inputs, "first": inputs["second"], "second": inputs["first"]}
                both = {name: torch.cat([inputs[name], exchanged[name]]) for name in inputs}
                with self.autocast():
                    answer = mean_of_both_ways(model(**both).logits).argmax(1)
                right.append((answer == relation).cpu())
                related.append((relation != UNRELATED).cpu())
        if not right:
            raise PhotoError("none of the photos to validate on can be used")
        found, pairs = torch.cat(right).double(), torch.cat(related)
        if self.args.answer == "depth":
            wrong = 1 - found
            counts = [wrong[pairs].sum(), pairs.sum(), wrong[~pairs].sum(), (~pairs).sum()]
            return Validation({
                name: 100 * float(value) for name, value in depth_disagreement(counts).items() if np.isfinite(value)
            })  # fmt: skip
        metrics = {"order_accuracy": 100 * float(found[pairs].mean())} if pairs.any() else {}
        return Validation(metrics | ({"pair_accuracy": 100 * float(found.mean())} if self.args.unrelated else {}))

    def build_pipeline(self, model: nn.Module) -> OrderNetPipeline:
        return OrderNetPipeline(model, **self.settings)

    def card(self) -> dict[str, Any]:
        args, objects = self.args, self.pairs.objects
        numbers = np.bincount(
            [photo.source for photo in self.pairs.photos], weights=[len(photo.objects) for photo in self.pairs.photos],
            minlength=len(args.dataset),
        )  # fmt: skip
        lines = [f"{name}: {int(count):,} pairs" for name, count in zip(objects.names, numbers, strict=True)]
        lines.append(f"{len(self.pairs.photos):,} photos to train on, {len(self.held_out.photos):,} held out.")
        source = ", ".join(map(source_name, args.validation_dataset or []))
        lines += [f"validated on {source}"] if source else []
        known = "as annotated, else " if args.order_source == "annotated" else ""
        if args.answer == "depth":
            lines.append("Who is closer: from the nearest and the farthest depth of each object.")
            return {**self._depth_card(), "data": lines}
        lines.append(f"Who is in front: {known}from the whole masks.")
        return {
            "name": "OrderNet",
            "description": "Tells which of two objects that touch hides the other, from their visible masks"
            f"{' and the photo' if self.with_image else ''}: the supervised baseline of Zhan et al., Self-Supervised "
            "Scene De-occlusion, CVPR 2020.",
            "tags": ["order-net"],
            "call": "order = pipe(image, masks).order",
            "limits": [
                "It orders and completes nothing: `other_pipe(image, masks, order=order)` does.",
                "Pairs are looked at one by one, so that a chain of its answers may be a ring.",
                "It does not say which object is nearer where none hides the other.",
            ],
            "data": lines,
        }

    def _depth_card(self) -> dict[str, Any]:
        return {
            "name": "OrderNet of depth",
            "description": "Tells which of two objects is closer, or that their depths overlap, from their visible "
            f"masks{' and the photo' if self.with_image else ''}: the network of Zhan et al., CVPR 2020, with the "
            "second question of InstaOrder (Lee and Park, CVPR 2022).",
            "tags": ["order-net", "depth-order"],
            "call": "depth_order = pipe(image, masks).depth_order",
            "limits": [
                "It says nothing of who hides whom, and not how far anything is.",
                "Pairs are looked at one by one, so that a chain of its answers may be a ring.",
            ],
        }


def _make_model(args: OrderNetArguments) -> OrderNet:
    relations = 3 if args.unrelated or args.answer == "depth" else 2
    if args.pretrained_pipeline:
        pipeline = load_pipeline(args, "pretrained_pipeline", OrderNetPipeline)
        wanted = {"use_rgb": not args.masks_alone, "num_relations": relations, "answer": args.answer}
        for name, value in wanted.items():
            if pipeline.model.config[name] != value:
                raise ValueError(
                    f"`--pretrained_pipeline` {args.pretrained_pipeline!r} has `{name}` {pipeline.model.config[name]}, "
                    f"and `--masks_alone`, `--unrelated` and `--answer` ask for {value}."
                )
        return pipeline.model
    model = OrderNet(
        use_rgb=not args.masks_alone, num_relations=relations, sample_size=args.sample_size,
        hidden_sizes=args.hidden_sizes, depths=args.depths, embedding_size=args.embedding_size,
        layer_type=args.layer_type, answer=args.answer,
    )  # fmt: skip
    if args.encoder != "none":
        model.load_encoder(args.encoder)
    return model


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    args = parse_arguments(argv)
    train(OrderNetTask, args)


if __name__ == "__main__":
    run(main)
