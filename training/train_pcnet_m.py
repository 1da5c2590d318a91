"""Train PCNet-M on modal masks alone [Z20].

The defaults are the published recipe for COCOA: widening 2 at 256², SGD, 56,000 updates. Samples are synthesised on the
training device from a bank of masks, so compute sets the pace.

    accelerate launch training/train_pcnet_m.py --dataset train.json --output_dir runs/pcnet-m

`--recipe improved` (with the flags in training/README.md) is how `pipelines/pcnet-m` was made.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from trainer.arguments import base_parser, check_arguments, parse_size_list
from trainer.loop import Task, Validation, train
from trainer.pictures import mask_grid

from amodal_diffusion import AmodalPipeline, PCNetMask, PCNetMaskPipeline
from amodal_diffusion.data import read_annotations
from amodal_diffusion.data.mask_bank import MaskBank
from amodal_diffusion.data.synthesis import OcclusionBatch, OcclusionSynthesizer, SynthesisConfig

logger = logging.getLogger(__name__)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = base_parser(__doc__.split("\n")[0])
    data = parser.add_argument_group("data")
    data.add_argument(
        "--dataset",
        nargs="+",
        required=True,
        help="Annotation files, Parquet folders or Hub data sets; their modal masks are used.",
    )
    data.add_argument(
        "--dataset_weights",
        nargs="+",
        type=float,
        default=None,
        help="How often each source is drawn; None draws every mask equally often.",
    )
    data.add_argument(
        "--validation_fraction", type=float, default=0.02, help="Share of the masks that is held out for validation."
    )
    data.add_argument("--validation_samples", type=int, default=512)
    data.add_argument("--min_area", type=int, default=100, help="Masks of fewer pixels are left out.")
    data.add_argument("--keep_crowd", action="store_true", help="Train on crowd regions too.")
    data.add_argument(
        "--max_truncation",
        type=float,
        default=1.0,
        help="Leave out masks of which more of the outline lies on the photo's frame.",
    )
    data.add_argument(
        "--recipe", choices=["published", "improved"], default="published", help="Of the occlusion synthesis."
    )
    data.add_argument("--on_error", choices=["raise", "skip"], default="skip", help="What to do with a bad record.")
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
    if not 0 < args.validation_fraction < 1:
        raise ValueError(f"`--validation_fraction` must lie in (0, 1), got {args.validation_fraction}.")
    return args


def completion_loss(logits: Tensor, target: Tensor, eraser: Tensor, inside_weight: float = 5.0) -> Tensor:
    """Cross-entropy, `inside_weight` times as heavy inside the eraser, mean over pixels. Source: [Z20].

    Args:
        logits: (B, 2, h, w) floating point.
        target: (B, 1, h, w) in {0, 1}.
        eraser: (B, 1, h, w) in {0, 1}.
        inside_weight: factor inside the eraser.
    """
    entropy = F.cross_entropy(logits.float(), target[:, 0].long(), reduction="none")
    return (entropy * (1 + (inside_weight - 1) * eraser[:, 0])).mean()


class PCNetMaskTask(Task):
    """PCNet-M on synthetic occlusion."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        if args.pretrained_pipeline:
            self.model = AmodalPipeline.from_pretrained(args.pretrained_pipeline).model
        else:
            self.model = PCNetMask(
                block_out_channels=args.block_out_channels, patch_size=args.patch_size, sample_size=args.sample_size,
                class_conditioned=args.class_conditioned,
            )  # fmt: skip
        size = self.model.config.sample_size
        self.synthesis = SynthesisConfig(size=size) if args.recipe == "published" else SynthesisConfig.improved(size)
        self.counts: list[tuple[str, int]] = []

    def setup(self, accelerator: Accelerator) -> None:
        args = self.args
        with accelerator.main_process_first():
            sources = [
                read_annotations(path, on_error=args.on_error).select_columns(["objects"]) for path in args.dataset
            ]
        bank = MaskBank.from_sources(
            sources, resolution=self.model.config.sample_size, min_area=args.min_area, keep_crowd=args.keep_crowd,
            max_truncation=args.max_truncation,
        )  # fmt: skip
        counts = torch.bincount(bank.sources, minlength=len(sources)).tolist()
        self.counts = [
            ("/".join(Path(path).parts[-2:]), count) for path, count in zip(args.dataset, counts, strict=True)
        ]
        logger.info("%d masks: %s", len(bank), self.counts)
        shuffled = torch.randperm(len(bank), generator=torch.Generator().manual_seed(0))
        held_out = max(1, int(len(bank) * args.validation_fraction))
        device = accelerator.device
        self.synthesizer = OcclusionSynthesizer(
            bank.subset(shuffled[held_out:]).to(device), self.synthesis, seed=args.seed,
            source_weights=args.dataset_weights, process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
        )  # fmt: skip
        self.validation = OcclusionSynthesizer(bank.subset(shuffled[:held_out]).to(device), self.synthesis, seed=-1)
        self.autocast = accelerator.autocast

    def _forward(self, model: nn.Module, batch: OcclusionBatch) -> Tensor:
        categories = batch.category_ids if self.model.config.class_conditioned else None
        return model(mask=batch.mask, eraser=batch.eraser, category_ids=categories).logits

    def loss(self, model: nn.Module, micro_step: int, batch_size: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        batch = self.synthesizer.sample(micro_step, batch_size)
        return completion_loss(self._forward(model, batch), batch.target, batch.eraser, self.args.inside_weight), {}

    def validate(self, model: nn.Module, step: int) -> Validation:
        """Pooled IoU of held-out synthetic samples, over all pixels and outside the visible mask, in percent."""
        sums = torch.zeros(4, dtype=torch.float64)
        picture = None
        size = min(64, self.args.validation_samples)
        for index in range(max(1, self.args.validation_samples // size)):
            batch = self.validation.sample(index, size)
            with self.autocast():
                probability = self._forward(model, batch).float().softmax(1)[:, 1:]
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
            "data": [f"{name}: {count:,} modal masks" for name, count in self.counts]
            + [
                f"{self.args.validation_fraction:.0%} of them held out for validation; "
                f"recipe of the synthesis: {self.args.recipe}."
            ],
        }


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    args = parse_arguments(argv)
    train(PCNetMaskTask, args)


if __name__ == "__main__":
    main()
