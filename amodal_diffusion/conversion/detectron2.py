"""Mask R-CNN of detectron2, R50-FPN and R101-FPN, in torchvision's modules: the same numbers, without detectron2.

The layers are the same. What differs is here: the names of the weights, where the background stands among the classes,
the order of the colours, where a block has its stride, and how photos are scaled, anchors placed, features read and
masks brought back to the photo.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from .checkpoint import check_keys

_STEM = "backbone.bottom_up.stem.conv1"
_CLASSES = "roi_heads.box_predictor.cls_score.weight"
_BLOCKS = {6: ("resnet50", (3, 4, 6, 3)), 23: ("resnet101", (3, 4, 23, 3))}  # by those of the third stage
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_STRIDES = (4, 8, 16, 32, 64)
_SIZES = (32, 64, 128, 256, 512)
_RATIOS = (0.5, 1.0, 2.0)
_NOT_IN_COCO = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = tuple(number for number in range(1, 91) if number not in _NOT_IN_COCO)
"""Category ids of COCO's 80 classes in the order in which detectron2 numbers them."""


def is_detectron2(weights: Mapping[str, Any]) -> bool:
    """Whether weights go by detectron2's names.

    Example:
        >>> is_detectron2({"backbone.bottom_up.stem.conv1.weight": torch.zeros(64, 3, 7, 7)})
        True
    """
    return any(key.startswith("backbone.bottom_up.") for key in weights)


@dataclass(frozen=True)
class Detectron2Settings:
    """What the weights say of their network, beside the weights of its layers.

    Args:
        backbone: "resnet50" or "resnet101".
        num_classes: without the background.
        mean, std: of the colours (R, G, B) in [0, 255].
        stride_in_1x1: whether blocks take their stride in the first convolution, as MSRA's ResNets do.

    Example:
        >>> Detectron2Settings("resnet50", 80, (123.675, 116.28, 103.53), (1.0, 1.0, 1.0), True).backbone
        'resnet50'
    """

    backbone: str
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stride_in_1x1: bool


def convert_detectron2_weights(weights: Mapping[str, Tensor], category_ids: Sequence[int] | None = None) -> nn.Module:
    """The Mask R-CNN of a detectron2 checkpoint as a `torchvision.models.detection.MaskRCNN`.

    Photos are scaled to 800 pixels on the shorter side, at most 1333 on the longer one, as detectron2 tests.

    Args:
        weights: of R50-FPN or R101-FPN with its usual heads. Its norm tells where the backbone comes from: MSRA's
            ResNets, which most of the model zoo starts from, have no statistics of batches, see BGR without a
            deviation and have their strides in 1x1 convolutions; those of torchvision see RGB. `pixel_mean` and
            `pixel_std` count where the checkpoint has them.
        category_ids: of its classes, in ascending order as detectron2 numbers them; None: of 80 classes COCO's, of
            others 1, 2, and so on.

    Raises:
        ValueError: weights of another network, with every key that is missing, unknown or of another shape; another
            number of `category_ids`.
        ImportError: without torchvision.

    Example:
        >>> convert_detectron2_weights({"fc.weight": torch.zeros(2, 2)})
        Traceback (most recent call last):
            ...
        ValueError: The checkpoint holds no Mask R-CNN of detectron2: it has no backbone.bottom_up.stem.conv1.weight.
    """
    state, settings = to_torchvision(weights)
    count = settings.num_classes
    if category_ids is None:
        category_ids = COCO_IDS if count == len(COCO_IDS) else range(1, count + 1)
    if len(category_ids) != count:
        raise ValueError(f"`category_ids` must have {count} ids, one for each class, got {len(category_ids)}.")
    detection = torchvision_detection()
    backbone = detection.backbone_utils.resnet_fpn_backbone(
        backbone_name=settings.backbone, weights=None, trainable_layers=5
    )
    model: Any = detection.MaskRCNN(backbone, num_classes=count + 1)
    model.load_state_dict(state, strict=True)
    if settings.stride_in_1x1:
        for layer in (model.backbone.body[name] for name in ("layer2", "layer3", "layer4")):
            layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    model.transform = Detectron2Transform(settings.mean, settings.std, (0, *category_ids))
    model.rpn.anchor_generator = Detectron2Anchors()
    model.roi_heads.box_roi_pool, model.roi_heads.mask_roi_pool = Detectron2Pooler(7), Detectron2Pooler(14)
    network: nn.Module = model.eval()
    return network


def torchvision_detection() -> Any:
    """`torchvision.models.detection`, which is no dependency.

    Raises:
        ImportError: without torchvision, or with a build for another torch.

    Example:
        >>> torchvision_detection()  # doctest: +SKIP
        <module 'torchvision.models.detection' ...>
    """
    try:
        from torchvision.models import detection
    except (ImportError, RuntimeError) as error:  # a build for another torch raises the latter
        raise ImportError(
            f"Mask R-CNN needs torchvision, in a build for this torch: pip install torchvision ({error})."
        ) from error
    return detection


def to_torchvision(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Detectron2Settings]:
    """The weights by torchvision's names, with its order of classes and colours, and what else they say.

    Raises:
        ValueError: see `convert_detectron2_weights`.

    Example:
        >>> to_torchvision({"backbone.bottom_up.stem.conv1.weight": torch.zeros(64, 3, 7, 7)})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: The checkpoint holds no Mask R-CNN of detectron2: it has no roi_heads.box_predictor.cls_score...
    """
    for key in (f"{_STEM}.weight", _CLASSES):
        if not isinstance(weights.get(key), Tensor):
            raise ValueError(f"The checkpoint holds no Mask R-CNN of detectron2: it has no {key}.")
    blocks = len({key.split(".")[3] for key in weights if key.startswith("backbone.bottom_up.res4.")})
    if blocks not in _BLOCKS:
        raise ValueError(
            f"The checkpoint must be of R50-FPN or R101-FPN: 6 or 23 blocks in backbone.bottom_up.res4, got {blocks}."
        )
    backbone, depths = _BLOCKS[blocks]
    count = len(weights[_CLASSES]) - 1
    names, shapes = _names(depths), _shapes(depths, count)
    fixed = {key: value for key, value in weights.items() if _is_setting(key)}
    found = {key: value for key, value in weights.items() if key not in fixed}
    check_keys(found, shapes, f"Mask R-CNN of detectron2 ({backbone}, {count} classes)")
    _check_anchors(fixed)
    settings, bgr = _settings(weights, backbone, count)
    state = {names[key]: value.float() for key, value in found.items()}
    if bgr:
        state["backbone.body.conv1.weight"] = state["backbone.body.conv1.weight"].flip(1)
    for part in ("weight", "bias"):
        name = f"roi_heads.box_predictor.cls_score.{part}"
        state[name] = state[name].roll(1, 0)  # the background comes first, not last
        for name, rows in (("box_predictor.bbox_pred", 4), ("mask_predictor.mask_fcn_logits", 1)):
            old = state[f"roi_heads.{name}.{part}"]  # those have none for the background
            state[f"roi_heads.{name}.{part}"] = torch.cat([old.new_zeros(rows, *old.shape[1:]), old])
    return state, settings


def _names(depths: Sequence[int]) -> dict[str, str]:
    """Torchvision's key of each of detectron2's."""
    layers = {
        "proposal_generator.rpn_head.conv": "rpn.head.conv.0.0",
        "proposal_generator.rpn_head.objectness_logits": "rpn.head.cls_logits",
        "proposal_generator.rpn_head.anchor_deltas": "rpn.head.bbox_pred",
        "roi_heads.box_head.fc1": "roi_heads.box_head.fc6",
        "roi_heads.box_head.fc2": "roi_heads.box_head.fc7",
        "roi_heads.box_predictor.cls_score": "roi_heads.box_predictor.cls_score",
        "roi_heads.box_predictor.bbox_pred": "roi_heads.box_predictor.bbox_pred",
        "roi_heads.mask_head.deconv": "roi_heads.mask_predictor.conv5_mask",
        "roi_heads.mask_head.predictor": "roi_heads.mask_predictor.mask_fcn_logits",
    }
    for level in range(4):
        layers[f"roi_heads.mask_head.mask_fcn{level + 1}"] = f"roi_heads.mask_head.{level}.0"
        layers[f"backbone.fpn_lateral{level + 2}"] = f"backbone.fpn.inner_blocks.{level}.0"
        layers[f"backbone.fpn_output{level + 2}"] = f"backbone.fpn.layer_blocks.{level}.0"
    names = {f"{old}.{part}": f"{new}.{part}" for old, new in layers.items() for part in ("weight", "bias")}
    normed = {_STEM: ("conv1", "bn1")}
    for stage, depth in enumerate(depths):
        for block in range(depth):
            old, new = f"backbone.bottom_up.res{stage + 2}.{block}", f"layer{stage + 1}.{block}"
            normed |= {f"{old}.conv{part}": (f"{new}.conv{part}", f"{new}.bn{part}") for part in (1, 2, 3)}
            if not block:
                normed[f"{old}.shortcut"] = (f"{new}.downsample.0", f"{new}.downsample.1")
    for old, (convolution, norm) in normed.items():
        names[f"{old}.weight"] = f"backbone.body.{convolution}.weight"
        names |= {f"{old}.norm.{part}": f"backbone.body.{norm}.{part}" for part in _STATISTICS}
    return names


def _shapes(depths: Sequence[int], count: int) -> dict[str, tuple[int, ...]]:
    """The shape of each of detectron2's weights."""
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *shape: int, outputs: int | None = None) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, (outputs or shape[0],)

    def normed(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"] = shape
        shapes.update({f"{name}.norm.{part}": (shape[0],) for part in _STATISTICS})

    normed(_STEM, 64, 3, 7, 7)
    before = 64
    for stage, depth in enumerate(depths):
        narrow, wide = 64 << stage, 256 << stage
        for block in range(depth):
            name = f"backbone.bottom_up.res{stage + 2}.{block}"
            normed(f"{name}.conv1", narrow, before, 1, 1)
            normed(f"{name}.conv2", narrow, narrow, 3, 3)
            normed(f"{name}.conv3", wide, narrow, 1, 1)
            if not block:
                normed(f"{name}.shortcut", wide, before, 1, 1)
            before = wide
        layer(f"backbone.fpn_lateral{stage + 2}", 256, wide, 1, 1)
        layer(f"backbone.fpn_output{stage + 2}", 256, 256, 3, 3)
    layer("proposal_generator.rpn_head.conv", 256, 256, 3, 3)
    layer("proposal_generator.rpn_head.objectness_logits", 3, 256, 1, 1)
    layer("proposal_generator.rpn_head.anchor_deltas", 12, 256, 1, 1)
    layer("roi_heads.box_head.fc1", 1024, 256 * 7 * 7)
    layer("roi_heads.box_head.fc2", 1024, 1024)
    layer("roi_heads.box_predictor.cls_score", count + 1, 1024)
    layer("roi_heads.box_predictor.bbox_pred", 4 * count, 1024)
    for number in range(1, 5):
        layer(f"roi_heads.mask_head.mask_fcn{number}", 256, 256, 3, 3)
    layer("roi_heads.mask_head.deconv", 256, 256, 2, 2)
    layer("roi_heads.mask_head.predictor", count, 256, 1, 1)
    return shapes


def _is_setting(key: str) -> bool:
    """Whether a checkpoint may have it or not: it is no weight of a layer."""
    return (
        key in ("pixel_mean", "pixel_std")
        or key.startswith("proposal_generator.anchor_generator.cell_anchors.")
        or key.endswith(".norm.num_batches_tracked")
    )


def _check_anchors(fixed: Mapping[str, Tensor]) -> None:
    for level, expected in enumerate(Detectron2Anchors().cells()):
        name = f"proposal_generator.anchor_generator.cell_anchors.{level}"
        found = fixed.get(name)
        if found is not None and (found.shape != expected.shape or not torch.allclose(found.float(), expected)):
            raise ValueError(f"The checkpoint must have the usual anchors in {name}, {expected.tolist()}, got others.")


def _settings(weights: Mapping[str, Tensor], backbone: str, count: int) -> tuple[Detectron2Settings, bool]:
    """What the weights say, and whether the network sees BGR."""
    mean, std = (weights.get(name) for name in ("pixel_mean", "pixel_std"))
    shift, scale = (weights[f"{_STEM}.norm.{name}"].float() for name in ("running_mean", "running_var"))
    msra = not shift.any() and bool((scale - 1).abs().max() < 1e-3)
    msra = msra or (std is not None and bool((std == 1).all()))
    colours = (103.53, 116.28, 123.675) if msra else (123.675, 116.28, 103.53)
    deviation = (1.0, 1.0, 1.0) if msra else (58.395, 57.12, 57.375)
    means = colours if mean is None else tuple(mean.flatten().tolist())
    stds = deviation if std is None else tuple(std.flatten().tolist())
    for name, values in (("pixel_mean", means), ("pixel_std", stds)):
        if len(values) != 3:
            raise ValueError(f"The checkpoint must have three numbers in {name}, got {len(values)}.")
    bgr = means[0] < means[2]  # of natural photos red is the brightest
    if bgr:
        means, stds = means[::-1], stds[::-1]
    return Detectron2Settings(backbone, count, means, stds, msra), bgr


class Detectron2Transform(nn.Module):
    """Photos into the network, and what it found back onto them, as detectron2 does both.

    Photos are scaled as bytes by Pillow; masks are read at the centres of the photo's pixels, and a mask is where its
    probability is at least 0.5.

    Args:
        mean, std: (R, G, B) in [0, 255].
        category_ids: of each label, that of the background first.
        min_size: of the shorter side in pixels.
        max_size: of the longer side, at most.

    Example:
        >>> Detectron2Transform((0, 0, 0), (1, 1, 1), (0, 1)).size(480, 640)
        (800, 1067)
    """

    mean: Tensor
    std: Tensor
    category_ids: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        category_ids: Sequence[int],
        min_size: int = 800,
        max_size: int = 1333,
    ) -> None:
        super().__init__()
        self.min_size, self.max_size = min_size, max_size
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.register_buffer("category_ids", torch.tensor(category_ids), persistent=False)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a photo is scaled to."""
        scale = min(self.min_size / min(height, width), self.max_size / max(height, width))
        return int(height * scale + 0.5), int(width * scale + 0.5)

    def forward(self, images: Sequence[Tensor], targets: None = None) -> tuple[Any, None]:
        """Photos (3, H, W) float32 RGB in [0, 1] -> torchvision's `ImageList`."""
        from torchvision.models.detection.image_list import ImageList

        planes, sizes = self.batch(images)
        return ImageList(planes, sizes), None

    def batch(self, images: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """(B, 3, h, w) float32, padded with 0 to multiples of 32, and the size of each photo in it."""
        sizes = [self.size(*image.shape[1:]) for image in images]
        height, width = (32 * math.ceil(max(side) / 32) for side in zip(*sizes, strict=True))
        planes = self.mean.new_zeros(len(images), 3, height, width)
        for plane, image, (rows, columns) in zip(planes, images, sizes, strict=True):
            pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
            scaled = np.array(Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BILINEAR))
            colours = torch.from_numpy(scaled).permute(2, 0, 1).to(plane)
            plane[:, :rows, :columns] = (colours - self.mean) / self.std
        return planes, sizes

    def postprocess(
        self, result: list[dict[str, Tensor]], image_shapes: list[tuple[int, int]], sizes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """What was found in scaled photos, in the photos: `masks` (M, 1, H, W) bool, `labels` are category ids."""
        found = []
        for part, (rows, columns), (height, width) in zip(result, image_shapes, sizes, strict=True):
            scale = part["boxes"].new_tensor([width / columns, height / rows] * 2)
            corner = part["boxes"].new_tensor([width, height] * 2)
            boxes = torch.minimum((part["boxes"] * scale).clamp(min=0), corner)
            some = (boxes[:, 2:] > boxes[:, :2]).all(1)
            kept = {name: value[some] for name, value in {**part, "boxes": boxes}.items()}
            masks = _paste(kept["masks"], kept["boxes"], height, width)
            found.append({**kept, "masks": masks, "labels": self.category_ids[kept["labels"]]})
        return found


def _paste(masks: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """(M, 1, s, s) probabilities in boxes (M, 4) xyxy -> (M, 1, height, width) bool, by windows around the boxes."""
    pasted = torch.zeros(len(masks), 1, height, width, dtype=torch.bool, device=masks.device)
    for place, mask, box in zip(pasted, masks, boxes, strict=True):
        left, top = (max(0, math.floor(value) - 1) for value in box[:2].tolist())
        right, bottom = (math.ceil(value) + 1 for value in box[2:].tolist())
        columns = torch.arange(left, min(right, width), device=box.device) + 0.5
        rows = torch.arange(top, min(bottom, height), device=box.device) + 0.5
        across, down = (
            (at - box[axis]) / (box[axis + 2] - box[axis]) * 2 - 1 for axis, at in enumerate((columns, rows))
        )
        grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)[None]
        values = F.grid_sample(mask[None], grid.to(mask), align_corners=False)[0]
        place[:, top : top + len(rows), left : left + len(columns)] = values >= 0.5
    return pasted


class Detectron2Anchors(nn.Module):
    """Anchors at the corners of the cells, whose sides are not rounded.

    Example:
        >>> Detectron2Anchors().cells()[0][1].tolist()
        [-16.0, -16.0, 16.0, 16.0]
    """

    def cells(self) -> list[Tensor]:
        """(3, 4) xyxy of each level around 0, for the ratios of height to width."""
        return [
            torch.tensor([
                [-size / ratio**0.5 / 2, -size * ratio**0.5 / 2, size / ratio**0.5 / 2, size * ratio**0.5 / 2]
                for ratio in _RATIOS
            ])
            for size in _SIZES
        ]  # fmt: skip

    def forward(self, images: Any, features: Sequence[Tensor]) -> list[Tensor]:
        """The anchors (A, 4) xyxy of each photo, level after level, row after row."""
        levels = []
        for feature, stride, cell in zip(features, _STRIDES, self.cells(), strict=True):
            rows, columns = (torch.arange(side, device=feature.device) * stride for side in feature.shape[-2:])
            down, across = torch.meshgrid(rows, columns, indexing="ij")
            corners = torch.stack([across, down, across, down], dim=-1).float()
            levels.append((corners[:, :, None] + cell.to(corners)).reshape(-1, 4))
        return [torch.cat(levels)] * len(images.image_sizes)


class Detectron2Pooler(nn.Module):
    """RoIAlign without its shift of half a cell, with as many samples as a box asks for.

    Args:
        size: side of what is read for each box.

    Example:
        >>> Detectron2Pooler(7).levels(torch.tensor([[0.0, 0, 112, 112], [0, 0, 900, 900]])).tolist()
        [1, 3]
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.side = size

    def levels(self, boxes: Tensor) -> Tensor:
        """Which of the four feature maps each box (M, 4) xyxy is read from."""
        side = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()
        return (4 + (side / 224 + 1e-8).log2()).floor().clamp(2, 5).long() - 2

    def forward(self, features: Mapping[str, Tensor], boxes: list[Tensor], image_shapes: Any) -> Tensor:
        """(M, C, size, size) of the boxes (M_b, 4) xyxy of each photo."""
        from torchvision.ops import roi_align

        photos = torch.cat([box.new_full((len(box), 1), index) for index, box in enumerate(boxes)])
        places, maps = torch.cat([photos, torch.cat(boxes)], dim=1), list(features.values())[:4]
        levels = self.levels(places[:, 1:])
        read = maps[0].new_zeros(len(places), maps[0].shape[1], self.side, self.side)
        for level, (feature, stride) in enumerate(zip(maps, _STRIDES[:4], strict=True)):
            chosen = levels == level
            read[chosen] = roi_align(feature, places[chosen], self.side, 1 / stride, 0, True)
        return read
