"""Train PCNet-M on modal masks alone [Z20].

The defaults are the published recipe for COCOA: widening 2 at 256², SGD, 56,000 updates. Samples are synthesised on the
training device from a bank of masks, so compute sets the pace.

    accelerate launch training/train_pcnet_m.py --dataset train.json --output_dir runs/pcnet-m

`--recipe improved` (with the flags in training/README.md) is how `pipelines/pcnet-m` was made.
"""

import argparse
import logging
from typing import Any

from torch import Tensor, nn
from trainer.arguments import base_parser, check_arguments, parse_size_list
from trainer.loop import train
from trainer.synthetic_masks import SyntheticMaskTask, add_mask_data_flags, check_mask_data

from amodal_diffusion import AmodalPipeline, PCNetMask, PCNetMaskPipeline
from amodal_diffusion.data.synthesis import OcclusionBatch
from amodal_diffusion.losses import completion_loss


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = base_parser(__doc__.split("\n")[0])
    add_mask_data_flags(parser)
    network = parser.add_argument_group("network")
    network.add_argument(
        "--pretrained_pipeline", default=None, help="Folder or Hub id to start from; its configuration is taken."
    )
    network.add_argument("--block_out_channels", type=parse_size_list, default=(32, 64, 128, 256, 256))
    network.add_argument("--patch_size", type=int, default=1)
    network.add_argument("--sample_size", type=int, default=256)
    network.add_argument(
        "--class_conditioned", action="store_true", help="Multiply the mask by the category id, as for KINS."
    )
    network.add_argument("--inside_weight", type=float, default=5.0, help="Weight of the loss inside the eraser.")
    pipeline = parser.add_argument_group("pipeline", "Stored in the pipeline; see PCNetMaskPipeline.")
    pipeline.add_argument("--order_threshold", type=float, default=0.1)
    pipeline.add_argument("--mask_threshold", type=float, default=0.2)
    pipeline.add_argument("--order_rule", choices=["count", "probability", "evidence"], default="count")
    pipeline.add_argument("--occluder_rule", choices=["ancestors", "consistent"], default="ancestors")
    pipeline.add_argument("--crop", choices=["nearest", "bilinear"], default="nearest", help="For order and masks.")
    pipeline.add_argument("--confine_to_eraser", action="store_true")
    pipeline.add_argument("--test_time_flip", action="store_true")
    parser.set_defaults(max_train_steps=56_000, lr_milestones=[32_000, 48_000])
    args = parser.parse_args(argv)
    check_arguments(args)
    check_mask_data(args)
    return args


class PCNetMaskTask(SyntheticMaskTask):
    """PCNet-M on synthetic occlusion."""

    def __init__(self, args: argparse.Namespace) -> None:
        if args.pretrained_pipeline:
            model = AmodalPipeline.from_pretrained(args.pretrained_pipeline).model
        else:
            model = PCNetMask(
                block_out_channels=args.block_out_channels, patch_size=args.patch_size, sample_size=args.sample_size,
                class_conditioned=args.class_conditioned,
            )  # fmt: skip
        super().__init__(args, model, model.config.sample_size)

    def _forward(self, model: nn.Module, batch: OcclusionBatch) -> Tensor:
        categories = batch.category_ids if self.model.config.class_conditioned else None
        return model(mask=batch.mask, eraser=batch.eraser, category_ids=categories).logits

    def loss(self, model: nn.Module, micro_step: int, batch_size: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        batch = self.synthesizer.sample(micro_step, batch_size)
        return completion_loss(self._forward(model, batch), batch.target, batch.eraser, self.args.inside_weight), {}

    def probability(self, model: nn.Module, batch: OcclusionBatch) -> Tensor:
        return self._forward(model, batch).float().softmax(1)[:, 1:]

    def build_pipeline(self, model: nn.Module) -> PCNetMaskPipeline:
        args = self.args
        return PCNetMaskPipeline(
            model=model,
            order_threshold=args.order_threshold,
            mask_threshold=args.mask_threshold,
            enlarge_box=self.synthesis.enlarge_box,
            order_rule=args.order_rule,
            occluder_rule=args.occluder_rule,
            order_crop=args.crop,
            completion_crop=args.crop,
            confine_to_eraser=args.confine_to_eraser,
            test_time_flip=args.test_time_flip,
        )

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


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    args = parse_arguments(argv)
    train(PCNetMaskTask, args)


if __name__ == "__main__":
    main()
