"""Train PCNet-M on modal masks alone [Z20].

The defaults are the published recipe for COCOA: widening 2 at 256², SGD, 56,000 updates. Samples are synthesised on the
training device from a bank of masks, so compute sets the pace.

    accelerate launch training/train_pcnet_m.py --dataset train.json --output_dir runs/pcnet-m

`--recipe improved` is how `pipelines/pcnet-m` was made (`training/runs/pcnet-m.md`). `--use_rgb` shows the photo to the
network, with the other object pasted into it.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from trainer.arguments import (
    OUR_OPTIMISATION,
    check_arguments,
    check_validation,
    default_of,
    flag,
    load_pipeline,
    parse,
    pipeline_settings,
)
from trainer.loop import train
from trainer.pasted_photos import MaskOrPhotoArguments, PastedPhotos, PhotoFlag, check_photo_flags, check_rgb
from trainer.running import run
from trainer.synthetic_masks import RECIPES, SyntheticMaskArguments, SyntheticMaskTask

from amodal_diffusion import PCNetMask, PCNetMaskPipeline
from amodal_diffusion.crops import CROP_RULES
from amodal_diffusion.data.synthesis import OcclusionBatch
from amodal_diffusion.losses import completion_loss
from amodal_diffusion.pipelines.completion.dual_completion import ORDER_RULES


@dataclass(kw_only=True)
class DataArguments(MaskOrPhotoArguments):
    _argument_group_name: ClassVar[str] = "data"


@dataclass(kw_only=True)
class NetworkArguments(PhotoFlag):
    _argument_group_name: ClassVar[str] = "network"

    pretrained_pipeline: str | None = flag(None, "Folder or Hub id to start from; its configuration is taken.")
    block_out_channels: tuple[int, ...] = flag(
        default_of(PCNetMask, "block_out_channels"), "Channels of the levels, with commas between: 32,64,128."
    )
    patch_size: int = flag(default_of(PCNetMask, "patch_size"))
    sample_size: int = flag(default_of(PCNetMask, "sample_size"))
    class_conditioned: bool = flag(False, "Multiply the mask by the category id, as for KINS.")
    inside_weight: float = flag(default_of(completion_loss, "inside_weight"), "Weight of the loss inside the eraser.")


@dataclass(kw_only=True)
class PipelineArguments:
    _argument_group_name: ClassVar[str] = "pipeline (stored in it; see PCNetMaskPipeline)"

    order_threshold: float = flag(default_of(PCNetMaskPipeline, "order_threshold"))
    mask_threshold: float = flag(default_of(PCNetMaskPipeline, "mask_threshold"))
    order_rule: str = flag(default_of(PCNetMaskPipeline, "order_rule"), choices=ORDER_RULES)
    occluder_rule: str = flag(default_of(PCNetMaskPipeline, "occluder_rule"), choices=PCNetMaskPipeline.occluder_rules)
    crop: str = flag(default_of(PCNetMaskPipeline, "crop"), "For order and masks.", choices=CROP_RULES)
    confine_to_eraser: bool = flag(default_of(PCNetMaskPipeline, "confine_to_occluders"))
    test_time_flip: bool = flag(default_of(PCNetMaskPipeline, "test_time_flip"))


OURS: Mapping[str, Any] = {
    **OUR_OPTIMISATION,
    "learning_rate": 1.2e-3,
    "order_rule": "evidence",
    "occluder_rule": "consistent",
    "crop": "bilinear",
    "confine_to_eraser": True,
    "mask_threshold": 0.3,
}
"""How `pipelines/pcnet-m` was made."""


@dataclass(kw_only=True)
class PCNetMaskArguments(SyntheticMaskArguments, DataArguments, NetworkArguments, PipelineArguments):
    """The published recipe for COCOA [Z20]."""

    recipes = {name: OURS for name in RECIPES if name != "published"}

    max_train_steps: int | None = 56_000
    lr_milestones: list[int] = flag([32_000, 48_000])


def parse_arguments(argv: list[str] | None = None) -> PCNetMaskArguments:
    args = parse(PCNetMaskArguments, __doc__.split("\n")[0], argv)
    check_arguments(args)
    check_validation(args)
    check_photo_flags(args)
    return args


class PCNetMaskTask(SyntheticMaskTask):
    """PCNet-M on synthetic occlusion."""

    def __init__(self, args: PCNetMaskArguments) -> None:
        if args.pretrained_pipeline:
            model = load_pipeline(args, "pretrained_pipeline", PCNetMaskPipeline).model
            check_rgb(model, args)
        else:
            model = PCNetMask(
                block_out_channels=args.block_out_channels, patch_size=args.patch_size, sample_size=args.sample_size,
                class_conditioned=args.class_conditioned, use_rgb=args.use_rgb,
            )  # fmt: skip
        super().__init__(args, model, model.config.sample_size)
        names = ("order_threshold", "mask_threshold", "order_rule", "occluder_rule", "crop", "test_time_flip")
        self.settings = pipeline_settings(
            args,
            PCNetMaskPipeline,
            {name: getattr(args, name) for name in names} | {"confine_to_occluders": args.confine_to_eraser},
            {"confine_to_occluders": "confine_to_eraser"},
        )

    def _forward(self, model: nn.Module, batch: OcclusionBatch) -> Tensor:
        return model(mask=batch.mask, eraser=batch.eraser, **self.conditions(batch)).logits

    def loss(self, model: nn.Module, micro_step: int, batch_size: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        batch = self.synthesizer.sample(micro_step, batch_size)
        return completion_loss(self._forward(model, batch), batch.target, batch.eraser, self.args.inside_weight), {}

    def probability(self, model: nn.Module, batch: OcclusionBatch) -> Tensor:
        return self._forward(model, batch).float().softmax(1)[:, 1:]

    def build_pipeline(self, model: nn.Module) -> PCNetMaskPipeline:
        return PCNetMaskPipeline(model=model, **self.settings | {"enlarge_box": self.synthesis.enlarge_box})

    def card(self) -> dict[str, Any]:
        return {
            "name": "PCNet-M",
            "description": "Completes the masks of partly hidden objects and recovers which object hides which, from "
            "masks alone (Zhan et al., Self-Supervised Scene De-occlusion, CVPR 2020).",
            "tags": ["pcnet-m"],
            "limits": [
                "It sees masks, not the photo: where a mask alone does not tell the hidden shape, it guesses smoothly.",
                "What it completes must be hidden by another mask of the call, or by `occluder_masks`.",
                "Masks with gaps between neighbours, as segmenters give, need `eraser_dilation=3` to 5.",
                "Crops are brought to a fixed size, so hidden details of large objects come back coarse.",
            ],
            "data": self.data_lines(),
        }


class PCNetMaskPhotoTask(PastedPhotos, PCNetMaskTask):
    """PCNet-M with RGB on photos into which another object is pasted."""


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    args = parse_arguments(argv)
    train(PCNetMaskPhotoTask if args.use_rgb else PCNetMaskTask, args)


if __name__ == "__main__":
    run(main)
