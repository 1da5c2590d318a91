"""The U-Net of the mask networks: that of [Z20], which [N21] uses too, and to which [Z24] adds features of a photo."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """(3x3 convolution, batch norm, ReLU) twice. (B, C_in, h, w) -> (B, C_out, h, w). Source: [Z20].

    A plain `nn.Sequential` and no subclass of it, because diffusers' group offloading slices the containers of a
    network: a slice is made by calling the class with the chosen layers.

    Example:
        >>> double_conv(2, 4)(torch.zeros(1, 2, 8, 8)).shape
        torch.Size([1, 4, 8, 8])
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class DownBlock(nn.Module):
    """2x2 max-pooling, then `double_conv`. (B, C_in, h, w) -> (B, C_out, h // 2, w // 2). Source: [Z20].

    Example:
        >>> DownBlock(4, 8)(torch.zeros(1, 4, 8, 8)).shape
        torch.Size([1, 8, 4, 4])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = double_conv(in_channels, out_channels)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, h // 2, w // 2)."""
        return self.conv(F.max_pool2d(hidden, 2))


class UpBlock(nn.Module):
    """Bilinear upsampling to the size of the skip connection (corners aligned), concatenation, `double_conv`.

    Source: [Z20].

    Example:
        >>> UpBlock(8, 4, 4)(torch.zeros(1, 8, 4, 4), torch.zeros(1, 4, 8, 8)).shape
        torch.Size([1, 4, 8, 8])
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = double_conv(skip_channels + in_channels, out_channels)

    def forward(self, hidden: Tensor, skip: Tensor) -> Tensor:
        """(B, C, h, w), (B, C_skip, H, W) -> (B, C_out, H, W); the skip's channels come first, as in the weights."""
        hidden = F.interpolate(hidden, size=skip.shape[-2:], mode="bilinear", align_corners=True)
        return self.conv(torch.cat([skip, hidden], dim=1))


def init_xavier(module: nn.Module) -> None:
    """Xavier-normal weights and zero biases for every convolution below `module`, the start of [Z20]'s training.

    Example:
        >>> layer = nn.Conv2d(1, 1, 3)
        >>> init_xavier(layer)
        >>> bool((layer.bias == 0).all())
        True
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.xavier_normal_(child.weight)
            if child.bias is not None:
                nn.init.zeros_(child.bias)


class MaskUNet(nn.Module):
    """The U-Net that all mask networks share: mask planes in, logits out. Source: [Z20], [Z24].

    `block_out_channels` gives one level each: `double_conv` at every level, 2x2 max-pooling between levels, bilinear
    upsampling with skip connections on the way back, and a 1x1 convolution to the logits. That is the network of [Z20].

    [Z24] lets it see a photo: feature maps join the deepest levels, the first one at the bottleneck, the second one
    level up, and so on. Each map goes through a 1x1 convolution, batch norm and ReLU to `reduced_channels`, is resized
    bilinearly to its level and concatenated there.

    Args:
        in_channels: number of input planes.
        out_channels: number of logits per pixel.
        block_out_channels: channels per level, from full resolution down; at least 2 levels.
        feature_channels: channels of each feature map, for the deepest level first; at most one per level, none for
            the network of [Z20].
        reduced_channels: channels that each feature map is reduced to.
        align_corners: how the feature maps are resized, see `torch.nn.functional.interpolate`.
        patch_size: side of the pixel blocks that are folded into channels before the first level and unfolded after
            the last; 1 folds nothing.
        final_skip: join the first level's channels at the last one, as [Z20] and the published networks of [Z24] do;
            False is the ablation of [Z24], Tables 3 and 4.

    Raises:
        ValueError: for fewer than 2 levels, or more feature maps than levels.

    Example:
        >>> unet = MaskUNet(
        ...     in_channels=2, out_channels=1, block_out_channels=(4, 8), feature_channels=(6,), reduced_channels=3
        ... )
        >>> unet(torch.zeros(1, 2, 16, 16), [torch.zeros(1, 6, 5, 5)]).shape
        torch.Size([1, 1, 16, 16])
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        block_out_channels: Sequence[int],
        feature_channels: Sequence[int] = (),
        reduced_channels: int = 0,
        align_corners: bool = True,
        patch_size: int = 1,
        final_skip: bool = True,
    ) -> None:
        super().__init__()
        widths = list(block_out_channels)
        if len(widths) < 2:
            raise ValueError(f"`block_out_channels` needs at least 2 levels, got {tuple(widths)}.")
        if len(feature_channels) > len(widths):
            raise ValueError(f"There are {len(feature_channels)} feature maps for {len(widths)} levels.")
        self.align_corners = align_corners
        self.patch_size = patch_size
        self.final_skip = final_skip
        self.conv_in = double_conv(in_channels * patch_size**2, widths[0])
        self.down_blocks = nn.ModuleList(DownBlock(a, b) for a, b in pairwise(widths))
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
            is_joined = final_skip or depth < len(fused) - 1
            up_blocks.append(UpBlock(hidden, skip if is_joined else 0, out))
            hidden = out
        self.up_blocks = nn.ModuleList(up_blocks)
        self.conv_out = nn.Conv2d(hidden, out_channels * patch_size**2, 1)
        init_xavier(self)

    def forward(self, planes: Tensor, features: Sequence[Tensor] = ()) -> Tensor:
        """(B, in_channels, h, w) and feature maps (B, C_k, h_k, w_k) -> (B, out_channels, h, w)."""
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
        if not self.final_skip:
            levels[-1] = levels[-1][:, :0]  # its size alone
        hidden = levels[0]
        for block, skip in zip(self.up_blocks, levels[1:], strict=True):
            hidden = block(hidden, skip)
        logits = self.conv_out(hidden)
        return F.pixel_shuffle(logits, self.patch_size) if self.patch_size > 1 else logits
