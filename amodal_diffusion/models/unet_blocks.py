"""Blocks shared by the mask networks: the plain U-Net of [Z20], which [N21] and [Z24] build on."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DoubleConv(nn.Sequential):
    """(3x3 convolution, batch norm, ReLU) twice. (B, C_in, h, w) -> (B, C_out, h, w). Source: [Z20]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class DownBlock(nn.Module):
    """2x2 max-pooling, then `DoubleConv`. (B, C_in, h, w) -> (B, C_out, h // 2, w // 2). Source: [Z20]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, h // 2, w // 2)."""
        return self.conv(F.max_pool2d(hidden, 2))


class UpBlock(nn.Module):
    """Bilinear upsampling to the size of the skip connection (corners aligned), concatenation, `DoubleConv`.

    Source: [Z20].
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = DoubleConv(skip_channels + in_channels, out_channels)

    def forward(self, hidden: Tensor, skip: Tensor) -> Tensor:
        """(B, C, h, w), (B, C_skip, H, W) -> (B, C_out, H, W); the skip's channels come first, as in the weights."""
        hidden = F.interpolate(hidden, size=skip.shape[-2:], mode="bilinear", align_corners=True)
        return self.conv(torch.cat([skip, hidden], dim=1))


def init_xavier(module: nn.Module) -> None:
    """Xavier-normal weights and zero biases for every convolution below `module`, the start of [Z20]'s training."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.xavier_normal_(child.weight)
            if child.bias is not None:
                nn.init.zeros_(child.bias)


class ConditionedUNet(nn.Module):
    """The U-Net of [Z24]: mask planes in, logits out, feature maps of a photo concatenated at its deepest levels.

    Every map goes through a 1x1 convolution, batch norm and ReLU to `reduced_channels`, is resized bilinearly to its
    level and concatenated there: the first one at the bottleneck, the second one level up, and so on.

    Args:
        in_channels: number of mask planes.
        out_channels: number of logits per pixel.
        block_out_channels: channels per level, from full resolution down.
        feature_channels: channels of each feature map, for the deepest level first; at most one a level.
        reduced_channels: channels that each map is reduced to.
        align_corners: of the resizing of the maps.
        patch_size: side of the pixel blocks folded into channels before the first level and unfolded after the last.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        block_out_channels: Sequence[int],
        feature_channels: Sequence[int],
        reduced_channels: int,
        align_corners: bool,
        patch_size: int = 1,
    ) -> None:
        super().__init__()
        widths = list(block_out_channels)
        if len(widths) < 2:
            raise ValueError(f"`block_out_channels` needs at least 2 levels, got {tuple(widths)}.")
        if len(feature_channels) > len(widths):
            raise ValueError(f"There are {len(feature_channels)} feature maps for {len(widths)} levels.")
        self.align_corners = align_corners
        self.patch_size = patch_size
        self.conv_in = DoubleConv(in_channels * patch_size**2, widths[0])
        self.down_blocks = nn.ModuleList(DownBlock(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.reduce_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, reduced_channels, 1), nn.BatchNorm2d(reduced_channels), nn.ReLU())
            for channels in feature_channels
        )
        # What each level hands on: its own channels and those of its feature map, if it has one.
        fused = [
            width + reduced_channels * (depth < len(feature_channels)) for depth, width in enumerate(reversed(widths))
        ]
        up_blocks = []
        hidden = fused[0]
        for depth, skip in enumerate(fused[1:], start=1):
            out = widths[max(len(widths) - 2 - depth, 0)]
            up_blocks.append(UpBlock(hidden, skip, out))
            hidden = out
        self.up_blocks = nn.ModuleList(up_blocks)
        self.conv_out = nn.Conv2d(hidden, out_channels * patch_size**2, 1)
        init_xavier(self)

    def forward(self, planes: Tensor, features: Sequence[Tensor]) -> Tensor:
        """(B, in_channels, h, w) and maps (B, C_k, h_k, w_k) -> (B, out_channels, h, w)."""
        if self.patch_size > 1:
            planes = F.pixel_unshuffle(planes, self.patch_size)  # [B, planes * p * p, h / p, w / p]
        levels = [self.conv_in(planes)]
        for block in self.down_blocks:
            levels.append(block(levels[-1]))
        levels.reverse()
        for depth, (reduce, feature) in enumerate(zip(self.reduce_blocks, features, strict=True)):
            feature = F.interpolate(
                reduce(feature), size=levels[depth].shape[-2:], mode="bilinear", align_corners=self.align_corners
            )
            levels[depth] = torch.cat([levels[depth], feature], dim=1)
        hidden = levels[0]
        for block, skip in zip(self.up_blocks, levels[1:], strict=True):
            hidden = block(hidden, skip)
        logits = self.conv_out(hidden)
        return F.pixel_shuffle(logits, self.patch_size) if self.patch_size > 1 else logits


def check_positive_integers(**values: int | Sequence[int]) -> None:
    """Refuse sizes in a configuration that are no positive integers.

    Raises:
        ValueError: naming the first entry that is none.
    """
    for name, value in values.items():
        for number in value if isinstance(value, list | tuple) else (value,):
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise ValueError(f"`{name}` must hold positive integers, got {number!r}.")


def check_mask_plane(name: str, plane: Tensor, patch_size: int, shape: Sequence[int] | None = None) -> None:
    """Refuse a plane that is not (B, 1, h, w), or not of `shape`, or whose sides `patch_size` does not divide.

    Raises:
        ValueError: naming the plane.
    """
    if plane.ndim != 4 or plane.shape[1] != 1 or (shape is not None and plane.shape != tuple(shape)):
        wanted = "(B, 1, h, w)" if shape is None else str(tuple(shape))
        raise ValueError(f"`{name}` must have shape {wanted}, got {tuple(plane.shape)}.")
    if plane.shape[2] % patch_size or plane.shape[3] % patch_size:
        raise ValueError(f"`{name}` must have sides that are multiples of {patch_size}, got {tuple(plane.shape[2:])}.")


def check_condition(name: str, value: Tensor | None, setting: str, wanted: bool, shape: Sequence[int]) -> None:
    """Refuse an input that the configuration asks for and that is missing, that it does not know, or of another shape.

    Args:
        name: of the input.
        value: the input, None where it was not given.
        setting: of the configuration that decides.
        wanted: its value.
        shape: that the input must have.

    Raises:
        ValueError: naming the input.
    """
    if wanted != (value is not None):
        raise ValueError(f"`{name}` must be {'given' if wanted else 'None'}: `{setting}` is {wanted}.")
    if value is not None and value.shape != tuple(shape):
        raise ValueError(f"`{name}` must have shape {tuple(shape)}, got {tuple(value.shape)}.")
