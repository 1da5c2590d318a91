r"""Train OccAmodal's two predictors on photos [Z24]: first `--stage occluder`, then `--stage amodal` on top of it.

The defaults are the published networks and their training at 256²: ResNet-18 of ImageNet, SGD at 1e-3, 56,000 updates
of 32 objects. `--recipe improved` is ours.

    accelerate launch training/train_occamodal.py --stage occluder --dataset train.json --output_dir runs/occluder
    accelerate launch training/train_occamodal.py --stage amodal --dataset train.json --output_dir runs/occamodal \
        --occluder_predictor runs/occluder

Data sets with amodal masks are taken as they are. For modal masks alone, `--pseudo_labels pipelines/pcnet-m` completes
them from each other; and in both cases other objects are pasted into the photos. Where nobody knows what hides an
object (MP3D-Amodal), the second network sees the predicted occluder; `--dataset_weights 0.9 0.1` mixes such data in.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from trainer.arguments import (
    OUR_OPTIMISATION,
    RecipeArguments,
    TrainingArguments,
    WeightedPhotoArguments,
    check_arguments,
    check_validation,
    default_of,
    errors_by_flag,
    flag,
    load_pipeline,
    parse,
    pipeline_settings,
)
from trainer.loop import Task, Validation, train
from trainer.photo_sources import (
    Counts,
    check_images,
    encoder_type,
    make_labeller,
    make_photo_synthesizers,
    start_image_encoder,
)
from trainer.pictures import mask_grid
from trainer.running import run

from amodal_diffusion import OccAmodalPipeline, OccAmodalPredictor, PCNetMaskPipeline
from amodal_diffusion.crops import CROP_RULES
from amodal_diffusion.data.synthesis import PhotoBatch, PhotoSynthesisConfig
from amodal_diffusion.losses import occluder_loss, uncertainty_weighted_loss
from amodal_diffusion.masks import occlusion_boundary

STAGES = ("occluder", "amodal")


@dataclass(kw_only=True)
class StageArguments:
    _argument_group_name: ClassVar[str] = "stage"

    stage: str = flag(choices=STAGES)


@dataclass(kw_only=True)
class DataArguments(RecipeArguments, WeightedPhotoArguments):
    _argument_group_name: ClassVar[str] = "data"

    pseudo_labels: str | None = flag(None, "Pipeline that completes modal-only data sets, e.g. pipelines/pcnet-m.")
    pseudo_eraser_dilation: int = flag(2, "Closes gaps between its masks, in pixels.")
    validation_samples: int = flag(512)
    min_area: int = flag(256, "Masks of fewer pixels are left out.")
    alone_is_known: bool = flag(False, "Take the only object of a photo as hidden by nothing.")
    front_probability: float = flag(0.45, "Of pasting an object in front.")
    behind_probability: float = flag(0.15, "Of pasting an object behind.")
    region_probability: float = flag(0.0, "Of a synthetic background region.")


@dataclass(kw_only=True)
class NetworkArguments:
    _argument_group_name: ClassVar[str] = "network"

    pretrained_pipeline: str | None = flag(None, "OccAmodal pipeline whose network of this stage is trained on.")
    occluder_predictor: str | None = flag(None, "For --stage amodal: the pipeline of --stage occluder; frozen.")
    predicted_occluders: float = flag(
        0.5, "For --stage amodal: share of samples with the boundary of the predicted occluder, not the true one."
    )
    block_out_channels: tuple[int, ...] = flag(
        default_of(OccAmodalPredictor, "block_out_channels"), "Channels of the levels, with commas between: 32,64,128."
    )
    reduced_channels: int = flag(default_of(OccAmodalPredictor, "reduced_channels"))
    patch_size: int = flag(default_of(OccAmodalPredictor, "patch_size"))
    sample_size: int = flag(default_of(OccAmodalPredictor, "sample_size"))
    image_hidden_sizes: tuple[int, ...] = flag(default_of(OccAmodalPredictor, "image_hidden_sizes"))
    image_embedding_size: int = flag(default_of(OccAmodalPredictor, "image_embedding_size"))
    image_feature_stages: tuple[int, ...] = flag(default_of(OccAmodalPredictor, "image_feature_stages"))
    without_final_skip: bool = flag(False, "The ablation of the paper's Table 3.")
    image_encoder: str = flag(
        "microsoft/resnet-18",
        'ResNet of transformers that the image encoder starts from, or "efficientnet-lite0"; "none": random weights.',
    )
    freeze_image_encoder: bool = flag(False, "Train the U-Net alone; for efficientnet-lite0, whose norms never learn.")
    mask_network: str | None = flag(
        None, "For --stage amodal: PCNet-M pipeline of the same widths that the U-Net starts from."
    )
    inside_weight: float = flag(
        default_of(uncertainty_weighted_loss, "inside_weight"), "Of ASBU's loss inside the occluder."
    )


@dataclass(kw_only=True)
class PipelineArguments:
    _argument_group_name: ClassVar[str] = "pipeline (stored in it; see OccAmodalPipeline)"

    occluder_threshold: float = flag(default_of(OccAmodalPipeline, "occluder_threshold"))
    mask_threshold: float = flag(default_of(OccAmodalPipeline, "mask_threshold"))
    crop: str = flag(default_of(OccAmodalPipeline, "crop"), choices=CROP_RULES)
    confine_to_occluder: bool = flag(default_of(OccAmodalPipeline, "confine_to_occluders"))
    drop_rim: bool = flag(default_of(OccAmodalPipeline, "rim_width") is not None)
    test_time_flip: bool = flag(default_of(OccAmodalPipeline, "test_time_flip"))


@dataclass(kw_only=True)
class OccAmodalArguments(TrainingArguments, StageArguments, DataArguments, NetworkArguments, PipelineArguments):
    """The published recipe [Z24]: SGD at 1e-3, 56,000 updates of 32 objects; the steps of the rate are [Z20]'s."""

    recipes = {
        "improved": {
            **OUR_OPTIMISATION, "lr_warmup_fraction": 0.05, "region_probability": 0.15, "image_encoder": "none",
            "crop": "bilinear",
        }
    }  # fmt: skip

    max_train_steps: int | None = 56_000
    lr_milestones: list[int] = flag([32_000, 48_000])


def parse_arguments(argv: list[str] | None = None) -> OccAmodalArguments:
    args = parse(OccAmodalArguments, __doc__.split("\n")[0], argv)
    check_arguments(args)
    check_validation(args)
    if not 0 <= args.predicted_occluders <= 1:
        raise ValueError(f"`--predicted_occluders` must lie in [0, 1], got {args.predicted_occluders}.")
    if args.stage == "amodal" and args.occluder_predictor is None:
        raise ValueError("`--occluder_predictor` must name the pipeline of `--stage occluder` for `--stage amodal`.")
    if args.stage == "occluder" and args.mask_network:
        raise ValueError("`--mask_network` is for `--stage amodal`: the occluder predictor has one mask plane.")
    check_images(args)
    return args


class OccAmodalTask(Task):
    """One of the two predictors on photos."""

    def __init__(self, args: OccAmodalArguments) -> None:
        self.args = args
        self.is_amodal = args.stage == "amodal"
        self.frozen: OccAmodalPredictor | None = None
        if self.is_amodal:
            self.frozen = load_pipeline(args, "occluder_predictor", OccAmodalPipeline).occluder_predictor
            self.frozen.requires_grad_(False).eval()
        self.model = self._make_model()
        if args.freeze_image_encoder:
            if self.model.config.image_encoder_type == "resnet":
                raise ValueError(
                    "`--freeze_image_encoder` is for EfficientNet-lite0 (`--image_encoder efficientnet-lite0`): the "
                    "batch norms of a ResNet learn on."
                )
            self.model.image_encoder.requires_grad_(False)
        size = self.model.config.sample_size
        if self.frozen is not None and self.frozen.config.sample_size != size:
            raise ValueError(
                f"`--sample_size` must be that of `--occluder_predictor`, {self.frozen.config.sample_size}, got {size}."
            )
        self.synthesis = PhotoSynthesisConfig(
            size=size, front_probability=args.front_probability, behind_probability=args.behind_probability,
            region_probability=args.region_probability,
        )  # fmt: skip
        self.settings = pipeline_settings(
            args,
            OccAmodalPipeline,
            {
                "occluder_threshold": args.occluder_threshold, "mask_threshold": args.mask_threshold,
                "crop": args.crop, "confine_to_occluders": args.confine_to_occluder,
                "rim_width": 0 if args.drop_rim else None, "test_time_flip": args.test_time_flip,
            },
            {"confine_to_occluders": "confine_to_occluder", "rim_width": "drop_rim"},
        )  # fmt: skip
        self.counts: Counts = []

    def _make_model(self) -> OccAmodalPredictor:
        args = self.args
        if args.pretrained_pipeline:
            pipeline = load_pipeline(args, "pretrained_pipeline", OccAmodalPipeline)
            model = pipeline.amodal_predictor if self.is_amodal else pipeline.occluder_predictor
            if model is None:
                raise ValueError(f"`--pretrained_pipeline` {args.pretrained_pipeline!r} has no amodal predictor.")
            return model
        model = OccAmodalPredictor(
            mask_channels=2 if self.is_amodal else 1, block_out_channels=args.block_out_channels,
            reduced_channels=args.reduced_channels, sample_size=args.sample_size, patch_size=args.patch_size,
            image_hidden_sizes=args.image_hidden_sizes, image_embedding_size=args.image_embedding_size,
            image_feature_stages=args.image_feature_stages, final_skip=not args.without_final_skip,
            image_encoder_type=encoder_type(args.image_encoder),
        )  # fmt: skip
        start_image_encoder(model, args.image_encoder)
        if args.mask_network:
            with errors_by_flag({"`network`": "`--mask_network`"}):
                model.load_mask_network(load_pipeline(args, "mask_network", PCNetMaskPipeline).model)
        return model

    def setup(self, accelerator: Accelerator) -> None:
        args, device = self.args, accelerator.device
        labeller = make_labeller(args, device)
        self.synthesizer, self.validation, self.counts = make_photo_synthesizers(
            args, self.synthesis, accelerator, labeller=labeller, alone_is_known=args.alone_is_known
        )
        if self.frozen is not None:
            self.frozen.to(device, memory_format=torch.channels_last if args.channels_last else torch.contiguous_format)
        self.autocast = accelerator.autocast

    def loss(self, model: nn.Module, micro_step: int, batch_size: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        batch = self.synthesizer.sample(micro_step, batch_size)
        if not self.is_amodal:
            return occluder_loss(model(batch.modal, batch.image).logits, batch.occluder, batch.known), {}
        occluder = self._shown_occluder(batch, batch_size)
        boundary = occlusion_boundary(batch.modal, occluder)
        logits = model(batch.modal, batch.image, boundary).logits
        inside = torch.where(batch.unexplained[:, None, None, None], occluder, batch.occluder)
        return uncertainty_weighted_loss(logits, batch.amodal, inside, self.args.inside_weight), {}

    def _shown_occluder(self, batch: PhotoBatch, batch_size: int) -> Tensor:
        """The true occluder for the first samples, the predicted one for the others, whose order is random anyway.

        Where nobody named what hides an object, what is predicted and what is pasted stand for it.
        """
        unknown = batch.unexplained
        rows = unknown.clone()
        rows[batch_size - round(batch_size * self.args.predicted_occluders) :] = True
        if not rows.any():
            return batch.occluder
        shown = batch.occluder.clone()
        shown[rows] = self._predict_occluders(batch.modal[rows], batch.image[rows])
        shown[unknown] = torch.maximum(shown[unknown], batch.occluder[unknown])
        return shown

    @torch.no_grad()
    def _predict_occluders(self, modal: Tensor, image: Tensor) -> Tensor:
        with self.autocast():
            logits = self.frozen(modal, image).logits
        return (logits[:, 1:] > logits[:, :1]).float() * (1 - modal)

    def validate(self, model: nn.Module, step: int) -> Validation:
        """Pooled IoU on held-out photos in percent: of the occluder, or of the mask as the pipeline predicts it."""
        sums = torch.zeros(4, dtype=torch.float64)
        picture = None
        size = min(64, self.args.validation_samples)
        for index in range(max(1, self.args.validation_samples // size)):
            batch = self.validation.sample(index, size)
            probability, planes = self._validate_batch(model, batch)
            sums += torch.stack([plane.sum() for plane in planes]).double().cpu()
            if picture is None:
                target = batch.amodal if self.is_amodal else batch.occluder
                picture = mask_grid(batch.modal, batch.occluder * self.is_amodal, target, probability)
        metrics = {"occluder_iou": 100 * float(sums[0] / sums[1].clamp(min=1))}
        if self.is_amodal:
            metrics = {
                "miou": 100 * float(sums[0] / sums[1].clamp(min=1)),
                "inv_miou": 100 * float(sums[2] / sums[3].clamp(min=1)),
            }
        return Validation(metrics, {"held_out": picture} if picture is not None else {})

    def _validate_batch(self, model: nn.Module, batch: PhotoBatch) -> tuple[Tensor, Sequence[Tensor]]:
        """Probability (B, 1, S, S), and the four planes whose sums make the metrics."""
        if not self.is_amodal:
            with self.autocast():
                logits = model(batch.modal, batch.image).logits.float()
            probability = logits.softmax(1)[:, 1:]
            predicted, known = (probability > 0.5) & (batch.modal == 0), batch.known > 0
            truth = batch.occluder > 0
            both, either = predicted & truth & known, (predicted | truth) & known
            return probability, (both, either, both, either)
        boundary = occlusion_boundary(batch.modal, self._predict_occluders(batch.modal, batch.image))
        with self.autocast():
            logits = model(batch.modal, batch.image, boundary).logits.float()
        probability = logits[:, :1].sigmoid()
        predicted, truth, hidden = (probability > 0.5) | (batch.modal > 0), batch.amodal > 0, batch.modal == 0
        both, either = predicted & truth, predicted | truth
        return probability, (both, either, both & hidden, either & hidden)

    def build_pipeline(self, model: nn.Module) -> OccAmodalPipeline:
        networks = {"occluder_predictor": self.frozen, "amodal_predictor": model}
        if not self.is_amodal:
            networks = {"occluder_predictor": model}
        return OccAmodalPipeline(**networks, **self.settings | {"enlarge_box": self.synthesis.enlarge_box})

    def card(self) -> dict[str, Any]:
        args = self.args
        data = [f"{name}: {count:,} objects in {photos:,} photos" for name, photos, count in self.counts]
        if args.pseudo_labels:
            data.append(
                "Where these have modal masks alone, whole masks and occluders come from the other masks of the photo "
                f"through `{args.pseudo_labels}`."
            )
        data.append(
            f"Objects pasted in front of {args.front_probability:.0%} of the samples and behind "
            f"{args.behind_probability:.0%}; {args.region_probability:.0%} are synthetic background regions. "
            f"{args.validation_fraction:.0%} of the photos are held out for validation."
        )
        if args.mask_network:
            data.append(f"The U-Net started from the weights of `{args.mask_network}`, which saw masks alone.")
        return {
            "name": "OccAmodal",
            "description": "Completes the mask of a partly hidden object from a photo and its visible mask; it finds "
            "by itself what hides the object (Zhan et al., Amodal Ground Truth and Completion in the Wild, CVPR 2024).",
            "tags": ["occamodal"],
            "limits": [
                "Where the photo does not show what hides an object, its mask comes back as it was.",
                "Each object is completed by itself: whole masks of neighbours may overlap, and no order is predicted.",
                "Crops are brought to a fixed size, so hidden details of large objects come back coarse.",
            ],
            "data": data,
        }


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    args = parse_arguments(argv)
    train(OccAmodalTask, args)


if __name__ == "__main__":
    run(main)
