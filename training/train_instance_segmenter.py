"""Fine-tune Mask2Former on whole masks: an amodal instance segmenter, from ground truth or from pseudo-labels.

The loop of [Z20], Table 4: complete the visible masks of a training split (`amodal-diffusion annotate`), train a
segmenter on them and another one on ground truth, and compare their amodal AP on the test split.

    accelerate launch training/train_instance_segmenter.py --dataset amodal/ --images photos/ \
        --segmenter facebook/mask2former-swin-tiny-coco-instance --output_dir runs/segmenter

Without `--segmenter` a small network is made from scratch. The folder that is left holds the model and its image
processor: `transformers.pipeline("image-segmentation", FOLDER)` and ScenePipeline's `segmenter` load it.
"""

import json
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from datasets import concatenate_datasets
from torch import Tensor, nn
from trainer.arguments import (
    PhotoArguments,
    TrainingArguments,
    check_arguments,
    check_multiples_of_32,
    check_validation,
    flag,
    parse,
    source_name,
)
from trainer.loop import Task, Validation, train
from trainer.photo_sources import check_images, read_photo_sources, split_sources
from trainer.running import run
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor, SwinConfig

from amodal_diffusion.data.photos import encoded_photos
from amodal_diffusion.data.samplers.instances import MASKS, InstanceSampler, pad, read_instances, resize
from amodal_diffusion.files import atomic_folder, write_text
from amodal_diffusion.masks import encode_rle
from amodal_diffusion.metrics import AmodalAP

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class DataArguments(PhotoArguments):
    _argument_group_name: ClassVar[str] = "data"

    streaming: bool = field(default=False, init=False)  # photos are drawn at random
    masks: str = flag("amodal", "What is segmented.", choices=MASKS)
    class_agnostic: bool = flag(False, "One class for all objects.")
    validation_dataset: list[str] | None = flag(None, "Photos to validate on, never trained on.")
    validation_images: list[str] | None = flag(None, "As --images.")
    validation_fraction: float = flag(0.05, "Share of the photos held out, where --validation_dataset is not given.")
    validation_samples: int = flag(200, "Photos to validate on, at most.")


@dataclass(kw_only=True)
class NetworkArguments:
    _argument_group_name: ClassVar[str] = "network"

    segmenter: str | None = flag(None, "Mask2Former to start from: folder or Hub id.")
    image_size: int = flag(512, "Side of the squares, a multiple of 32.")
    hidden_dim: int = flag(64, "Width of a network from scratch.")
    num_queries: int = flag(50, "Most objects in a photo, from scratch.")
    score_threshold: float = flag(0.05, "Detections below are left out.")


@dataclass(kw_only=True)
class SegmenterArguments(TrainingArguments, DataArguments, NetworkArguments):
    """AdamW with the rate, the decay and the clipping that Mask2Former was published with."""

    optimizer: str = "adamw"
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    max_grad_norm: float | None = 0.01
    train_batch_size: int = 8
    max_train_steps: int | None = 20_000
    lr_scheduler: str = "warmup_stable_decay"


def parse_arguments(argv: list[str] | None = None) -> SegmenterArguments:
    args = parse(SegmenterArguments, __doc__.split("\n")[0], argv)
    check_arguments(args)
    check_images(args)
    if not 0 <= args.score_threshold <= 1:
        raise ValueError(f"`--score_threshold` must lie in [0, 1], got {args.score_threshold}.")
    check_multiples_of_32(args, "image_size", "hidden_dim")  # the network normalises groups of 32 channels
    if args.validation_images is not None and len(args.validation_images) != len(args.validation_dataset or ()):
        raise ValueError(
            f"`--validation_images` must have one folder for each of the {len(args.validation_dataset or ())} of "
            f"`--validation_dataset`, got {len(args.validation_images)}."
        )
    check_validation(args)
    return args


class SavedSegmenter:
    """What the loop saves: the network beside its image processor, as transformers loads them."""

    def __init__(self, model: nn.Module, processor: Mask2FormerImageProcessor) -> None:
        self.model, self.processor = model, processor

    def to(self, dtype: torch.dtype) -> "SavedSegmenter":
        self.model.to(dtype)
        return self

    def save_pretrained(self, folder: str, safe_serialization: bool = True) -> None:
        with atomic_folder(folder, replaces=("model.safetensors", "model.safetensors.index.json")) as staged:
            self.model.save_pretrained(staged)
            self.processor.save_pretrained(staged)


class SegmenterTask(Task):
    """Mask2Former on photos with instance masks."""

    def __init__(self, args: SegmenterArguments) -> None:
        self.args = args
        training, held_out = _read_photos(args)
        self.training, self.held_out = concatenate_datasets(training), concatenate_datasets(held_out)
        self.counts = [(source_name(path), len(rows)) for path, rows in zip(args.dataset, training, strict=True)]
        self.names, self.labels = _find_classes([*training, *held_out], args.class_agnostic)
        self.model = _make_model(args, self.names)
        self.processor = Mask2FormerImageProcessor(
            size={"longest_edge": args.image_size, "shortest_edge": args.image_size}, num_labels=len(self.names),
            ignore_index=255,
        )  # fmt: skip

    def setup(self, accelerator: Accelerator) -> None:
        args = self.args
        self.accelerator = accelerator
        self.sampler = InstanceSampler(
            self.training, self.labels, args.image_size, masks=args.masks, seed=args.seed,
            process_index=accelerator.process_index,
        )  # fmt: skip

    def loss(self, model: nn.Module, micro_step: int, batch_size: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        batch = self.sampler.sample(micro_step, batch_size, self.accelerator.device)
        # The points at which masks are compared are drawn by torch; a resumed run must draw the same.
        torch.manual_seed(self.args.seed * 1_000_003 + micro_step)
        output = model(
            pixel_values=batch.pixels, pixel_mask=batch.inside, mask_labels=batch.masks, class_labels=batch.classes
        )
        return output.loss.squeeze(), {}

    def validate(self, model: nn.Module, step: int) -> Validation:
        """Amodal AP on photos held out, by pycocotools; the detections go to `detections.json` in COCO's format."""
        average, detections = AmodalAP(), []
        first = self.held_out.select(range(min(len(self.held_out), self.args.validation_samples)))
        for row in encoded_photos(first):
            photo, truth, classes = read_instances(row, self.labels, self.args.masks)
            with self.accelerator.autocast():
                masks, found, scores = predict_instances(model, photo, self.args.image_size, self.args.score_threshold)
            average.update(
                masks.numpy(), truth.bool().numpy(), scores.tolist(),
                pred_categories=(found + 1).tolist(), target_categories=(classes + 1).tolist(),
            )  # fmt: skip
            ids = {label: -1 if category is None else category for category, label in self.labels.items()}
            detections += [
                {
                    "image_id": row["image_id"], "category_id": ids[int(label)], "score": round(float(score), 6),
                    "segmentation": encode_rle(mask),
                }
                for mask, label, score in zip(masks.numpy(), found, scores, strict=True)
            ]  # fmt: skip
        write_text(Path(self.args.output_dir) / "detections.json", json.dumps(detections) + "\n")
        figures = average.compute()
        return Validation({name: 100 * figures[name] for name in ("ap", "ap50", "ap75")})

    def build_pipeline(self, model: nn.Module) -> Any:
        return SavedSegmenter(model, self.processor)

    def card(self) -> dict[str, Any]:
        args = self.args
        kind = "whole" if args.masks == "amodal" else "visible"
        held_out = f"{args.validation_fraction:.0%} of the photos held out for validation"
        if args.validation_dataset:
            held_out = "validated on " + ", ".join(map(source_name, args.validation_dataset))
        data = [f"{name}: {photos:,} photos" for name, photos in self.counts]
        data.append(f"{held_out}; {len(self.names)} classes.")
        return {
            "name": "Amodal instance segmenter" if args.masks == "amodal" else "Instance segmenter",
            "description": f"Mask2Former that finds the objects of a photo with their {kind} masks.",
            "tags": ["mask2former", "instance-segmentation"],
            "limits": ["Whole masks of pseudo-labels are predictions themselves, not ground truth."],
            "data": data,
            "package": "transformers",
            "pipeline": "Mask2FormerForUniversalSegmentation",
            "variable": "model",
            "call": "output = model(pixel_values)  # see predict_instances in train_instance_segmenter.py",
        }


@torch.no_grad()
def predict_instances(
    model: nn.Module, photo: Tensor, size: int, threshold: float, most: int = 100
) -> tuple[Tensor, Tensor, Tensor]:
    """The instances of one photo, which may overlap: transformers' own post-processing gives every pixel to one alone.

    Args:
        model: Mask2Former in evaluation mode.
        photo: (3, H, W) float32 in [0, 1].
        size: side of the square that the photo is brought to.
        threshold: of the score, P(class) times the mean P(object) over the mask.
        most: detections kept.

    Returns:
        (N, H, W) bool masks, (N,) int64 classes, (N,) float32 scores, on the CPU.
    """
    device = next(model.parameters()).device
    resized, _ = resize(photo, photo.new_zeros(0, *photo.shape[1:]), size)
    pixels, inside = pad(resized, size)
    output = model(pixel_values=pixels[None].to(device), pixel_mask=inside[None].to(device))
    chance, classes = output.class_queries_logits[0].float().softmax(-1)[:, :-1].max(-1)  # [Q]
    planes = F.interpolate(
        output.masks_queries_logits.float(), size=(size, size), mode="bilinear", align_corners=False
    )[:, :, : resized.shape[1], : resized.shape[2]]
    planes = F.interpolate(planes, size=photo.shape[1:], mode="bilinear", align_corners=False)[0].sigmoid()
    masks = planes > 0.5
    scores = chance * (planes * masks).sum((1, 2)) / masks.sum((1, 2)).clamp(min=1)
    kept = scores.argsort(descending=True)[:most]
    kept = kept[(scores[kept] >= threshold) & masks[kept].flatten(1).any(1)]
    return masks[kept].cpu(), classes[kept].cpu(), scores[kept].cpu()


def _read_photos(args: SegmenterArguments) -> tuple[list[Any], list[Any]]:
    """The rows of each data set for training, and those to validate on."""
    sources = read_photo_sources(args)
    if args.validation_dataset is None:
        return split_sources(sources, args.validation_fraction)
    other = replace(args, dataset=args.validation_dataset, images=args.validation_images)
    return sources, read_photo_sources(other)


def _find_classes(sources: list[Any], agnostic: bool) -> tuple[list[str], dict[int | None, int]]:
    """Names of the classes, and the class of each category id; None is a class of its own."""
    names: dict[int | None, str] = {}
    for rows in sources:
        for objects in rows.select_columns(["objects"])["objects"]:
            for obj in objects:
                names.setdefault(obj["category_id"], obj["name"] or "object")
    if not names:
        raise ValueError("`--dataset` holds no object.")
    if agnostic:
        return ["object"], dict.fromkeys(names, 0)
    ids = sorted(names, key=lambda category: -1 if category is None else category)
    return [names[category] for category in ids], {category: label for label, category in enumerate(ids)}


def _make_model(args: SegmenterArguments, names: list[str]) -> Mask2FormerForUniversalSegmentation:
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: label for label, name in enumerate(names)}}
    if args.segmenter:
        return Mask2FormerForUniversalSegmentation.from_pretrained(
            args.segmenter, num_labels=len(names), ignore_mismatched_sizes=True, use_safetensors=True, **labels
        )
    width = args.hidden_dim
    backbone = SwinConfig(
        embed_dim=max(16, width // 4), depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8], window_size=4,
        image_size=args.image_size, out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, feature_size=width, mask_feature_size=width, hidden_dim=width,
        encoder_feedforward_dim=2 * width, dim_feedforward=4 * width, encoder_layers=2, decoder_layers=4,
        num_attention_heads=4, num_queries=args.num_queries, num_labels=len(names), **labels,
    )  # fmt: skip
    return Mask2FormerForUniversalSegmentation(config)


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    train(SegmenterTask, parse_arguments(argv))


if __name__ == "__main__":
    run(main)
