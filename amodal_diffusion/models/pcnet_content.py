"""PCNet-C, the hidden part of an object in colour, and the discriminator that it is trained against [Z20]."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ..arguments.flags import check_flag
from ..display import short_repr
from .checks import CheckedModel, check_condition, check_mask_plane, check_positive_integers, graph_call
from .pull_push import pull_push

_RGB = 3
_FIRST_KERNELS = (7, 5, 5)
_KERNEL = 3
_LEAK = 0.2
_OTHERS = 1e-3  # weight in the prior of what is not the object


@dataclass
class PCNetContentOutput(BaseOutput):
    """What `PCNetContent` returns.

    Args:
        image: (B, 3, h, w) floating point, ImageNet-normalised RGB: the network's output for every pixel, including the
            visible ones; the caller keeps the visible pixels of the photo.

    Example:
        >>> PCNetContentOutput(image=torch.zeros(1, 3, 8, 8)).image.shape
        torch.Size([1, 3, 8, 8])
    """

    image: Tensor

    __repr__ = short_repr


class _KnownConv(nn.Conv2d):
    """The weights of a `PartialConv`. They are used in `forward` alone: offloading by diffusers brings them for it."""

    def forward(self, known: Tensor, factor: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """`W(known) * factor + b * mask`: known (B, C, h, w), factor and mask (B, 1, h', w') -> (B, C_out, h', w')."""
        values = F.conv2d(known, self.weight, None, self.stride, self.padding)
        values = values * factor.to(values.dtype)
        if self.bias is None:
            return values
        return values + (self.bias.view(1, -1, 1, 1) * mask).to(values.dtype)


class PartialConv(nn.Module):
    """A convolution over known pixels only: `W(x·m)·n/sum(m) + b` where the window has any, else 0.

    n is the number of values in the window (channels x kernel x kernel), so that a window without holes is a plain
    convolution. The published code leaves n out, which scales its weights by n: conversion divides them by `window`.
    Source: Liu et al., ECCV 2018; [Z20].

    Args:
        in_channels, out_channels: of the convolution; all channels that come from one map share its mask.
        kernel_size: odd.
        stride: 1 or 2.
        bias: whether it has one.

    Example:
        >>> conv = PartialConv(1, 1, 3)
        >>> known = torch.zeros(1, 1, 4, 4)
        >>> known[..., 0] = 1
        >>> values, mask = conv([(torch.ones(1, 1, 4, 4), known)])
        >>> mask[0, 0, 0]
        tensor([1., 1., 0., 0.])
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv = _KnownConv(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=bias)

    @property
    def window(self) -> int:
        """Number of values that a window holds."""
        return self.conv.in_channels * self.conv.kernel_size[0] ** 2

    def forward(self, maps: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Convolve maps that lie over each other.

        Args:
            maps: values (B, C_k, h, w) and their masks (B, 1, h, w) float32 in {0, 1}; the C_k add up to `in_channels`.

        Returns:
            Values (B, C_out, h', w'), and the mask (B, 1, h', w') float32: 1 where the window had any known value.
        """
        conv = self.conv
        known = torch.cat([values * mask.to(values.dtype) for values, mask in maps], dim=1)
        counts = torch.stack([values.shape[1] * mask for values, mask in maps]).sum(0)  # [B, 1, h, w]
        size, stride, padding = conv.kernel_size[0], conv.stride[0], conv.kernel_size[0] // 2
        # Means over windows instead of a convolution by ones: the same, and cheap. Zeros of the padding count.
        share = F.avg_pool2d(counts, size, stride, padding) * (size**2 / self.window)  # [B, 1, h', w']
        mask = (share > 0).to(torch.float32)
        factor = mask / share.clamp(min=0.5 / self.window)
        return conv(known, factor, mask), mask


class PartialBlock(nn.Module):
    """`PartialConv`, batch norm (or none), an activation (or none).

    Args:
        in_channels, out_channels, kernel_size, stride: of the convolution.
        norm: with batch norm.
        leak: slope of the activation for negative values; None for no activation.
        bias: of the convolution.

    Example:
        >>> block = PartialBlock(3, 4, 5, stride=2)
        >>> values, mask = block([(torch.ones(1, 3, 8, 8), torch.ones(1, 1, 8, 8))])
        >>> values.shape, mask.shape
        (torch.Size([1, 4, 4, 4]), torch.Size([1, 1, 4, 4]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        norm: bool = True,
        leak: float | None = 0.0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv = PartialConv(in_channels, out_channels, kernel_size, stride=stride, bias=bias)
        self.norm = nn.BatchNorm2d(out_channels) if norm else None
        self.leak = leak

    def forward(self, maps: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """As `PartialConv.forward`."""
        values, mask = self.conv(maps)
        if self.norm is not None:
            values = self.norm(values)
        if self.leak is not None:
            values = F.leaky_relu(values, self.leak)
        return values, mask


class PCNetContent(CheckedModel, ConfigMixin):
    """Fills the hidden part of an object with colour: a U-Net of partial convolutions [Z20].

    Encoder levels of stride 2, kernels 7, 5, 5 and then 3, no batch norm at the first; decoder levels that double the
    map by nearest neighbour and join it to that of the encoder. Besides the photo it sees the modal mask of the object
    to be completed, so that it continues that object and not its surroundings; a mask of zeros asks for the background.

    Args:
        block_out_channels: channels per encoder level; the published network has (64, 128, 256, 512, 512, 512, 512).
        sample_size: side in pixels of the square crops that the network was trained on; the pipelines crop to it.
        use_mask: take the plane of the modal mask. False for the inpainting network that [Z20] starts from.
        class_conditioned: multiply the mask plane by the category id instead of 1.
        use_prior: give the network three more planes, the visible colours continued smoothly into the hole
            (`pull_push`), and let it predict the difference. A short training then suffices, because the network need
            not learn first that colours continue. False is the published network.

    Raises:
        ValueError: sizes that are no positive integers, fewer than 2 levels, class-conditioned without a mask plane.

    Example:
        >>> model = PCNetContent(block_out_channels=(4, 8), sample_size=32).eval()
        >>> image, visible, mask = torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
        >>> visible[..., 8:24, 8:24] = 0
        >>> model(image, visible, mask).image.shape
        torch.Size([1, 3, 32, 32])
    """

    @register_to_config
    def __init__(
        self,
        block_out_channels: Sequence[int] = (64, 128, 256, 512, 512, 512, 512),
        sample_size: int = 256,
        use_mask: bool = True,
        class_conditioned: bool = False,
        use_prior: bool = False,
    ) -> None:
        super().__init__()
        check_flag("use_mask", use_mask)
        check_flag("class_conditioned", class_conditioned)
        check_flag("use_prior", use_prior)
        check_positive_integers(block_out_channels=block_out_channels, sample_size=sample_size)
        widths = list(block_out_channels)
        if len(widths) < 2:
            raise ValueError(f"`block_out_channels` needs at least 2 levels, got {tuple(widths)}.")
        if class_conditioned and not use_mask:
            raise ValueError("`class_conditioned` needs the mask plane: `use_mask` must be True.")
        planes = _RGB + use_mask + _RGB * use_prior
        kernels = [*_FIRST_KERNELS, *[_KERNEL] * len(widths)]
        self.encoder = nn.ModuleList(
            PartialBlock(before, width, kernel, stride=2, norm=level > 0)
            for level, (before, width, kernel) in enumerate(zip([planes, *widths], widths, kernels, strict=False))
        )
        hidden, blocks = widths[-1], []
        for width in reversed(widths[:-1]):
            blocks.append(PartialBlock(hidden + width, width, _KERNEL, leak=_LEAK))
            hidden = width
        blocks.append(PartialBlock(hidden + planes, _RGB, _KERNEL, norm=False, leak=None, bias=True))
        self.decoder = nn.ModuleList(blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.0)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if use_prior:  # which is then the answer of a new network
            nn.init.zeros_(self._last.weight)

    @property
    def _last(self) -> nn.Conv2d:
        block = self.decoder[-1]
        if not isinstance(block, PartialBlock):
            raise TypeError(f"the last block must be a PartialBlock, got {type(block).__name__}")
        return block.conv.conv

    @property
    def multiple(self) -> int:
        """Heights and widths must be multiples of this."""
        return 2 ** len(self.encoder)

    def with_mask_plane(self) -> "PCNetContent":
        """The same network with a mask plane that it does not look at yet: the start of training in [Z20].

        The first and the last convolution get a plane of zeros. Where everything is visible the answer is the same;
        around holes the last layer counts one plane more as hidden.

        Raises:
            ValueError: where it has one already, or has a prior.
        """
        if self.config.use_mask or self.config.use_prior:
            raise ValueError("The network must have neither a mask plane nor a prior.")
        return self._extended(1, use_mask=True)

    def with_prior(self) -> "PCNetContent":
        """The same network on top of a prior, whose planes it does not look at yet; its last layer starts anew.

        Raises:
            ValueError: where it has one already.
        """
        if self.config.use_prior:
            raise ValueError("The network has a prior already.")
        model = self._extended(_RGB, use_prior=True)
        for parameter in model._last.parameters():
            nn.init.zeros_(parameter)
        return model

    @torch.no_grad()
    def _extended(self, planes: int, **change: bool) -> "PCNetContent":
        """With so many more planes of input, zero weights for them."""
        config = {key: value for key, value in self.config.items() if not key.startswith("_")}
        model = PCNetContent(**{**config, **change})
        state = self.state_dict()
        for key in ("encoder.0.conv.conv.weight", f"decoder.{len(self.decoder) - 1}.conv.conv.weight"):
            state[key] = F.pad(state[key], (0, 0, 0, 0, 0, planes))  # new planes are the last ones of the input
        model.load_state_dict(state)
        return model.train(self.training)

    @graph_call
    def forward(
        self,
        image: Tensor,
        visible: Tensor,
        mask: Tensor | None = None,
        category_ids: Tensor | None = None,
        return_dict: bool = True,
    ) -> PCNetContentOutput | tuple[Tensor]:
        """Paint the whole crop.

        Args:
            image: (B, 3, h, w) ImageNet-normalised RGB; pixels where `visible` is 0 are ignored.
            visible: (B, 1, h, w) values in {0, 1}: 0 where the picture is to be filled.
            mask: (B, 1, h, w) values in {0, 1}: the modal mask of the object, where the network was made with
                `use_mask`. Zeros ask for the background.
            category_ids: (B,) positive integers, where the network was made with `class_conditioned`.
            return_dict: return a `PCNetContentOutput` instead of a tuple.

        Returns:
            `PCNetContentOutput` with `image` (B, 3, h, w) in the dtype of the network, not composited.

        Raises:
            ValueError: where shapes differ, h or w is no multiple of `multiple`, or an input that the configuration
                asks for is missing (or one that it does not know is given).
        """
        check_mask_plane("visible", visible, self.multiple)
        batch, _, height, width = visible.shape
        if tuple(image.shape) != (batch, _RGB, height, width):
            raise ValueError(f"`image` must have shape {(batch, _RGB, height, width)}, got {tuple(image.shape)}.")
        check_condition("mask", mask, "use_mask", self.config.use_mask, (batch, 1, height, width))
        check_condition("category_ids", category_ids, "class_conditioned", self.config.class_conditioned, (batch,))
        planes = [image.to(self.dtype)]
        if mask is not None:
            factor = 1 if category_ids is None else category_ids.view(-1, 1, 1, 1)
            planes.append((mask * factor).to(self.dtype))
        known = visible.to(torch.float32)
        levels = [[(torch.cat(planes, dim=1), known)]]  # of each level, values [B, C, h, w] and mask [B, 1, h, w]
        prior = None
        if self.config.use_prior:
            prior = smooth_prior(image, known, mask).to(self.dtype)
            levels[0].append((prior, torch.ones_like(known)))
        for block in self.encoder:
            levels.append([block(levels[-1])])
        hidden = levels.pop()[0]
        for block in self.decoder:
            doubled = tuple(F.interpolate(part, scale_factor=2.0, mode="nearest") for part in hidden)
            hidden = block([doubled, *levels.pop()])
        answer = hidden[0] if prior is None else prior + hidden[0]
        return PCNetContentOutput(image=answer) if return_dict else (answer,)


def smooth_prior(image: Tensor, visible: Tensor, mask: Tensor | None = None) -> Tensor:
    """The picture with its holes filled by the visible colours, continued smoothly; those of the object count most.

    Args:
        image: (B, 3, h, w) floating point.
        visible: (B, 1, h, w) values in {0, 1}.
        mask: (B, 1, h, w) values in {0, 1}, the modal mask; None or zeros for the background.

    Returns:
        (B, 3, h, w) float32.

    Example:
        >>> image, visible = torch.full((1, 3, 4, 4), 0.5), torch.ones(1, 1, 4, 4)
        >>> image[..., 1:3, 1:3], visible[..., 1:3, 1:3] = 0, 0
        >>> bool((smooth_prior(image, visible) - 0.5).abs().max() < 1e-6)
        True
    """
    image, known = image.float().contiguous(), visible.float().contiguous()
    weights = known
    if mask is not None:
        inside = mask.float()
        is_object = inside.amax((1, 2, 3), keepdim=True) > 0
        weights = known * torch.where(is_object, _OTHERS + (1 - _OTHERS) * inside, 1.0)
    return torch.where(known > 0, image, pull_push(image, weights))


class PCNetContentDiscriminator(CheckedModel, ConfigMixin):
    """Says of each patch of a picture how real it looks: five 4x4 convolutions with spectral norm [Z20].

    Args:
        block_out_channels: of the convolutions but for the last; the first three have stride 2.

    Raises:
        ValueError: other than four positive widths.

    Example:
        >>> model = PCNetContentDiscriminator((4, 4, 4, 4))
        >>> model(torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 32, 32)).shape
        torch.Size([1, 1, 2, 2])
    """

    @register_to_config
    def __init__(self, block_out_channels: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        check_positive_integers(block_out_channels=block_out_channels)
        if len(block_out_channels) != 4:
            raise ValueError(f"`block_out_channels` must have 4 widths, got {tuple(block_out_channels)}.")
        widths = [_RGB + 1, *block_out_channels, 1]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, width, 4, stride=stride, padding=1))
            for (before, width), stride in zip(pairwise(widths), (2, 2, 2, 1, 1), strict=True)
        )

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Logits of P(real) per patch; the published network gives their sigmoid.

        Args:
            image: (B, 3, h, w) ImageNet-normalised RGB.
            mask: (B, 1, h, w) the modal mask of the object.

        Returns:
            (B, 1, h', w') with h' = h / 8 - 2.

        Raises:
            ValueError: where shapes differ.
        """
        if mask.ndim != 4 or tuple(image.shape) != (len(mask), _RGB, *mask.shape[2:]) or mask.shape[1] != 1:
            raise ValueError(
                "`image` and `mask` must have shapes (B, 3, h, w) and (B, 1, h, w), got "
                f"{tuple(image.shape)} and {tuple(mask.shape)}."
            )
        hidden = torch.cat([image, mask.to(image.dtype)], dim=1)
        for layer in self.layers[:-1]:
            hidden = F.leaky_relu(layer(hidden), _LEAK)
        return self.layers[-1](hidden)
