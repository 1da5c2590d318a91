"""Train ASBU on modal masks alone [N21]: completion from the occlusion boundary, with a map of uncertainty.

The defaults are the published recipe for COCOA: widening 2 at 256², SGD at 1e-4, batch 32, 56,000 updates. Samples are
synthesised on the training device from a bank of masks, so compute sets the pace.

    accelerate launch training/train_asbu.py --dataset train.json --output_dir runs/asbu

`--recipe crowded` is how `pipelines/asbu` was made. `--occluder_input mask` (the whole occluder in place of the
boundary) and `--loss cross_entropy` (no uncertainty) are the ablations of the paper. `--loss decoupled` learns the mask
by cross-entropy and the uncertainty apart from it. `--use_rgb` shows the photo to the network, with the other object
pasted into it by matting.
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
    errors_by_flag,
    flag,
    load_pipeline,
    parse,
    pipeline_settings,
)
from trainer.loop import train
from trainer.pasted_photos import MaskOrPhotoArguments, PastedPhotos, PhotoFlag, check_photo_flags, check_rgb
from trainer.running import run
from trainer.synthetic_masks import RECIPES, SyntheticMaskArguments, SyntheticMaskTask

from amodal_diffusion import ASBUPipeline, ASBUPredictor, PCNetMaskPipeline
from amodal_diffusion.crops import CROP_RULES
from amodal_diffusion.data.synthesis import OcclusionBatch
from amodal_diffusion.losses import (
    binary_completion_loss,
    decoupled_loss,
    gaussian_loss,
    uncertainty_weighted_entropy,
    uncertainty_weighted_loss,
)
from amodal_diffusion.models.asbu import OCCLUDER_INPUTS, occluder_plane
from amodal_diffusion.pipelines.completion.dual_completion import ORDER_RULES

LOSSES = {
    "uncertainty": uncertainty_weighted_loss,
    "cross_entropy": binary_completion_loss,
    "decoupled": decoupled_loss,
    "gaussian": gaussian_loss,
    "uncertainty_entropy": uncertainty_weighted_entropy,
}


@dataclass(kw_only=True)
class DataArguments(MaskOrPhotoArguments):
    _argument_group_name: ClassVar[str] = "data"


@dataclass(kw_only=True)
class NetworkArguments(PhotoFlag):
    _argument_group_name: ClassVar[str] = "network"

    pretrained_pipeline: str | None = flag(None, "ASBU folder or Hub id to start from; its configuration is taken.")
    mask_network: str | None = flag(None, "PCNet-M pipeline whose weights the U-Net starts from, of the same sizes.")
    block_out_channels: tuple[int, ...] = flag(
        default_of(ASBUPredictor, "block_out_channels"), "Channels of the levels, with commas between: 32,64,128."
    )
    patch_size: int = flag(default_of(ASBUPredictor, "patch_size"))
    sample_size: int = flag(default_of(ASBUPredictor, "sample_size"))
    class_conditioned: bool = flag(False, "Multiply the mask by the category id, as for KINS.")
    occluder_input: str = flag(
        default_of(ASBUPipeline, "occluder_input"), "See occluder_plane.", choices=OCCLUDER_INPUTS
    )
    loss: str = flag(
        "uncertainty",
        "gaussian, uncertainty_entropy: Eq. 2 and 4 of the paper; decoupled: see decoupled_loss.",
        choices=tuple(LOSSES),
    )
    inside_weight: float = flag(
        default_of(uncertainty_weighted_loss, "inside_weight"), "Weight of the loss inside the occluder."
    )


@dataclass(kw_only=True)
class PipelineArguments:
    _argument_group_name: ClassVar[str] = "pipeline (stored in it; see ASBUPipeline)"

    order_threshold: float = flag(default_of(ASBUPipeline, "order_threshold"))
    mask_threshold: float = flag(default_of(ASBUPipeline, "mask_threshold"))
    order_rule: str = flag(default_of(ASBUPipeline, "order_rule"), choices=ORDER_RULES)
    crop: str = flag(default_of(ASBUPipeline, "crop"), "For order and masks.", choices=CROP_RULES)
    occluder_rule: str = flag(default_of(ASBUPipeline, "occluder_rule"), choices=ASBUPipeline.occluder_rules)
    confine_to_occluders: bool = flag(default_of(ASBUPipeline, "confine_to_occluders"))
    test_time_flip: bool = flag(default_of(ASBUPipeline, "test_time_flip"))


OURS: Mapping[str, Any] = {
    **OUR_OPTIMISATION,
    "learning_rate": 8e-4,
    "occluder_input": "both",
    "order_rule": "evidence",
    "crop": "bilinear",
    "order_threshold": 0.05,
    "mask_threshold": 0.3,
    "occluder_rule": "growth",
    "confine_to_occluders": True,
}
"""How `pipelines/asbu` was made."""


@dataclass(kw_only=True)
class ASBUArguments(SyntheticMaskArguments, DataArguments, NetworkArguments, PipelineArguments):
    """The recipe of the paper for COCOA [N21]."""

    recipes = {name: OURS for name in RECIPES if name != "published"}

    learning_rate: float = 1e-4
    max_train_steps: int | None = 56_000
    lr_milestones: list[int] = flag([32_000, 48_000])


def parse_arguments(argv: list[str] | None = None) -> ASBUArguments:
    args = parse(ASBUArguments, __doc__.split("\n")[0], argv)
    check_arguments(args)
    check_validation(args)
    check_photo_flags(args, [(args.mask_network, "--mask_network", "PCNet-M without RGB takes no photo")])
    if args.pretrained_pipeline and args.mask_network:
        raise ValueError("`--mask_network` starts a new network; `--pretrained_pipeline` has one already. Give one.")
    return args


class ASBUTask(SyntheticMaskTask):
    """ASBU on synthetic occlusion."""

    def __init__(self, args: ASBUArguments) -> None:
        model = _make_model(args)
        super().__init__(args, model, model.config.sample_size)
        names = (
            "order_threshold", "mask_threshold", "order_rule", "crop", "occluder_input", "occluder_rule",
            "confine_to_occluders", "test_time_flip",
        )  # fmt: skip
        self.settings = pipeline_settings(args, ASBUPipeline, {name: getattr(args, name) for name in names})
        self.compute_loss = LOSSES[args.loss]

    def inputs(self, batch: OcclusionBatch) -> dict[str, Tensor | None]:
        """What the network is called with."""
        plane = occluder_plane(batch.mask, batch.eraser, self.settings["occluder_input"])
        return {"mask": batch.mask, "boundary": plane, **self.conditions(batch)}

    def loss(self, model: nn.Module, micro_step: int, batch_size: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        batch = self.synthesizer.sample(micro_step, batch_size)
        logits = model(**self.inputs(batch)).logits
        return self.compute_loss(logits, batch.target, batch.eraser, self.args.inside_weight), {}

    def probability(self, model: nn.Module, batch: OcclusionBatch) -> Tensor:
        return model(**self.inputs(batch)).logits[:, :1].float().sigmoid()

    def build_pipeline(self, model: nn.Module) -> ASBUPipeline:
        return ASBUPipeline(model=model, **self.settings | {"enlarge_box": self.synthesis.enlarge_box})

    def card(self) -> dict[str, Any]:
        data = self.data_lines()
        if self.args.mask_network:
            data.append(f"The U-Net started from the weights of `{self.args.mask_network}`.")
        return {
            "name": "ASBU",
            "description": "Completes the masks of partly hidden objects from their occlusion boundaries, says where "
            "it is unsure, and recovers which object hides which, from masks alone (Nguyen and Todorovic, A Weakly "
            "Supervised Amodal Segmenter with Boundary Uncertainty Estimation, ICCV 2021).",
            "tags": ["asbu"],
            "limits": [
                "It sees masks, not the photo: where a mask alone does not tell the hidden shape, it guesses smoothly.",
                "What it completes must be hidden by another mask of the call, or by `occluder_masks`.",
                "Crops are brought to a fixed size, so hidden details of large objects come back coarse.",
                "The uncertainty was learned from synthetic occlusion.",
            ],
            "data": data,
        }


class ASBUPhotoTask(PastedPhotos, ASBUTask):
    """ASBU with RGB on photos into which another object is pasted."""


def _make_model(args: ASBUArguments) -> ASBUPredictor:
    if args.pretrained_pipeline:
        trained: ASBUPredictor = load_pipeline(args, "pretrained_pipeline", ASBUPipeline).model
        check_rgb(trained, args)
        return trained
    model = ASBUPredictor(
        block_out_channels=args.block_out_channels, patch_size=args.patch_size, sample_size=args.sample_size,
        class_conditioned=args.class_conditioned, use_rgb=args.use_rgb,
    )  # fmt: skip
    if args.mask_network:
        pipeline = load_pipeline(args, "mask_network", PCNetMaskPipeline)
        # The boundary is new to PCNet-M; what it knows is the occluder, which "both" has at half of its strength.
        with errors_by_flag({"`network`": "`--mask_network`"}):
            model.load_mask_network(pipeline.model, eraser_value=0.5 if args.occluder_input == "both" else 1.0)
    return model


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    args = parse_arguments(argv)
    train(ASBUPhotoTask if args.use_rgb else ASBUTask, args)


if __name__ == "__main__":
    run(main)
