"""Train de-occlusion in one stage [Z24, Tables 4 and 5], or the supervised U-Net of masks alone [Z20, Tables 2 and 3].

One network from the modal mask, and by default the photo, to the whole mask, on annotated whole masks, by
cross-entropy. The defaults are the published networks and their training at 256²: ResNet-18 of ImageNet beside a U-Net
of widening 2, SGD at 1e-3, 56,000 updates of 32 objects, crops that are moved, scaled and mirrored. `--recipe improved`
is ours.

    accelerate launch training/train_single_stage.py --dataset train.json --images train2014 --output_dir runs/single
    accelerate launch training/train_single_stage.py --masks_alone --dataset train.json --output_dir runs/supervised
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from trainer.arguments import (
    OUR_OPTIMISATION,
    TrainingArguments,
    check_arguments,
    check_validation,
    default_of,
    flag,
    load_pipeline,
    parse,
    pipeline_settings,
)
from trainer.loop import train
from trainer.photo_sources import encoder_type, start_image_encoder
from trainer.running import run
from trainer.true_masks import MovedMaskArguments, TrueMaskTask, check_true_masks

from amodal_diffusion import OccAmodalPredictor, PCNetMask, SingleStagePipeline
from amodal_diffusion.data.samplers.photo_crops import PhotoCrops, image_crops
from amodal_diffusion.data.samplers.photo_objects import PhotoObjects
from amodal_diffusion.images import normalize_images


@dataclass(kw_only=True)
class NetworkArguments:
    _argument_group_name: ClassVar[str] = "network"

    pretrained_pipeline: str | None = flag(None, "Folder or Hub id to start from; its configuration is taken.")
    masks_alone: bool = flag(False, "Look at no photo: the supervised U-Net of [Z20].")
    block_out_channels: tuple[int, ...] = flag(
        default_of(PCNetMask, "block_out_channels"), "Channels of the levels, with commas between: 32,64,128."
    )
    reduced_channels: int = flag(default_of(OccAmodalPredictor, "reduced_channels"))
    patch_size: int = flag(default_of(OccAmodalPredictor, "patch_size"))
    sample_size: int = flag(default_of(OccAmodalPredictor, "sample_size"))
    image_hidden_sizes: tuple[int, ...] = flag(default_of(OccAmodalPredictor, "image_hidden_sizes"))
    image_embedding_size: int = flag(default_of(OccAmodalPredictor, "image_embedding_size"))
    image_feature_stages: tuple[int, ...] = flag(default_of(OccAmodalPredictor, "image_feature_stages"))
    image_encoder: str = flag(
        "microsoft/resnet-18",
        'ResNet of transformers that the image encoder starts from, or "efficientnet-lite0"; "none": random weights.',
    )
    without_final_skip: bool = flag(False, "Leave out the skip connection at full resolution.")


@dataclass(kw_only=True)
class PipelineArguments:
    _argument_group_name: ClassVar[str] = "pipeline (stored in it; see SingleStagePipeline)"

    mask_threshold: float = flag(default_of(SingleStagePipeline, "mask_threshold"))
    test_time_flip: bool = flag(default_of(SingleStagePipeline, "test_time_flip"))


@dataclass(kw_only=True)
class SingleStageArguments(TrainingArguments, MovedMaskArguments, NetworkArguments, PipelineArguments):
    """The published recipe [Z20], [Z24]: SGD at 1e-3, 56,000 updates of 32 objects, [Z20]'s steps of the rate."""

    recipes = {"improved": {**OUR_OPTIMISATION, "lr_warmup_fraction": 0.05, "image_encoder": "none"}}

    max_train_steps: int | None = 56_000
    lr_milestones: list[int] = flag([32_000, 48_000])


def parse_arguments(argv: list[str] | None = None) -> SingleStageArguments:
    args = parse(SingleStageArguments, __doc__.split("\n")[0], argv)
    check_arguments(args)
    check_validation(args)
    check_true_masks(args)
    return args


class SingleStageTask(TrueMaskTask):
    """One network on amodal ground truth."""

    def __init__(self, args: SingleStageArguments) -> None:
        super().__init__(args)
        self.model = _make_model(args)
        self.needs_photos = self.model.sees_image
        self.flip_probability = args.flip_probability
        names = ("mask_threshold", "test_time_flip")
        self.settings = pipeline_settings(args, SingleStagePipeline, {name: getattr(args, name) for name in names})

    def read(self, objects: PhotoObjects, crops: PhotoCrops) -> Tensor | None:
        """(N, 3, s, s) in [0, 1], the photo."""
        return torch.stack(image_crops(objects, crops, crops.modal.shape[-1])) if self.needs_photos else None

    def show(self, prepared: Sequence[tuple[PhotoCrops, Any]]) -> dict[str, Tensor]:
        if not self.needs_photos:
            return {}
        return {"image": normalize_images(torch.cat([images for _, images in prepared]).to(self.device))}

    def build_pipeline(self, model: nn.Module) -> SingleStagePipeline:
        return SingleStagePipeline(model, **self.settings | {"enlarge_box": self.enlarge_box})

    def card(self) -> dict[str, Any]:
        sees, shown = (
            ("a photo and its visible mask", []) if self.needs_photos else
            ("its visible mask alone", ["It sees masks, not the photo: it does not know what hides an object."])
        )  # fmt: skip
        return {
            "name": "De-occlusion in one stage" if self.needs_photos else "Supervised U-Net",
            "description": f"Completes the mask of a partly hidden object from {sees}, by one network that learned "
            "from annotated whole masks: the supervised baseline of Zhan et al., Self-Supervised Scene De-occlusion, "
            "CVPR 2020, and of Zhan et al., Amodal Ground Truth and Completion in the Wild, CVPR 2024.",
            "tags": ["single-stage"],
            "limits": [
                *shown,
                "It is told of no occluder, and does not say who is in front.",
                "Crops are brought to a fixed size, so hidden details of large objects come back coarse.",
            ],
            "data": self.data_lines(),
        }


def _make_model(args: SingleStageArguments) -> OccAmodalPredictor:
    if args.pretrained_pipeline:
        pipeline: SingleStagePipeline = load_pipeline(args, "pretrained_pipeline", SingleStagePipeline)
        if pipeline.needs_image == args.masks_alone:
            kind, change = ("with", "leave out") if pipeline.needs_image else ("without", "add")
            raise ValueError(
                f"`--pretrained_pipeline` {args.pretrained_pipeline!r} has a network {kind} the photo: {change} "
                "`--masks_alone`."
            )
        return pipeline.model
    model = OccAmodalPredictor(
        mask_channels=1, block_out_channels=args.block_out_channels, reduced_channels=args.reduced_channels,
        sample_size=args.sample_size, patch_size=args.patch_size, image_hidden_sizes=args.image_hidden_sizes,
        image_embedding_size=args.image_embedding_size, final_skip=not args.without_final_skip,
        image_feature_stages=() if args.masks_alone else args.image_feature_stages,
        image_encoder_type=encoder_type(args.image_encoder),
    )  # fmt: skip
    if model.sees_image:
        start_image_encoder(model, args.image_encoder)
    return model


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    args = parse_arguments(argv)
    train(SingleStageTask, args)


if __name__ == "__main__":
    run(main)
