"""Blocks shared by the mask networks: the plain U-Net of [Z20], which [N21] and [Z24] build on."""

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
