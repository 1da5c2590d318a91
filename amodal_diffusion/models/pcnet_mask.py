"""PCNet-M, the partial completion network for masks [Z20]."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from .outputs import MaskModelOutput
from .unet_blocks import DoubleConv, DownBlock, UpBlock, check_condition, check_positive_integers, init_xavier


class PCNetMask(ModelMixin, ConfigMixin):
    """Completes the mask of an object given the mask of what hides it. Source: [Z20].

    A U-Net: `block_out_channels` gives one level each, every level a `DoubleConv`, 2x2 max-pooling between levels,
    bilinear upsampling with skip connections on the way back, and a 1x1 convolution to the logits.

    Args:
        block_out_channels: channels per level, from full resolution down. The published network ("widening 2") has
            (32, 64, 128, 256, 256), "widening 1" half of that.
        out_channels: number of logits per pixel; 2 = background, object.
        sample_size: side in pixels of the square crops that the network was trained on; the pipelines crop to it.
        class_conditioned: multiply the mask plane by the category id (KINS) instead of 1 (COCOA).
        use_rgb: take three image planes, ImageNet-normalised by the caller, after the two mask planes.
        patch_size: side of the pixel blocks that are folded into channels before the first level and unfolded after
            the last ("pixel unshuffle"). 1 is the published network. 2 runs the same levels on a quarter of the
            positions and still answers at full resolution.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        block_out_channels: Sequence[int] = (32, 64, 128, 256, 256),
        out_channels: int = 2,
        sample_size: int = 256,
        class_conditioned: bool = False,
        use_rgb: bool = False,
        patch_size: int = 1,
    ) -> None:
        super().__init__()
        check_positive_integers(
            out_channels=out_channels, sample_size=sample_size, patch_size=patch_size,
            block_out_channels=block_out_channels,
        )  # fmt: skip
        if len(block_out_channels) < 2:
            raise ValueError(f"`block_out_channels` needs at least 2 levels, got {tuple(block_out_channels)}.")
        if sample_size % patch_size:
            raise ValueError(f"`patch_size` must divide `sample_size`, got {patch_size} and {sample_size}.")
        widths = list(block_out_channels)
        planes = 5 if use_rgb else 2
        self.conv_in = DoubleConv(planes * patch_size**2, widths[0])
        self.down_blocks = nn.ModuleList(DownBlock(a, b) for a, b in zip(widths, widths[1:], strict=False))
        up_blocks = []
        hidden = widths[-1]
        for level in range(len(widths) - 2, -1, -1):
            out = widths[max(level - 1, 0)]
            up_blocks.append(UpBlock(hidden, widths[level], out))
            hidden = out
        self.up_blocks = nn.ModuleList(up_blocks)
        self.conv_out = nn.Conv2d(hidden, out_channels * patch_size**2, 1)
        init_xavier(self)

    def forward(
        self,
        mask: Tensor,
        eraser: Tensor,
        image: Tensor | None = None,
        category_ids: Tensor | None = None,
        return_dict: bool = True,
    ) -> MaskModelOutput | tuple[Tensor]:
        """Predict the logits of the completed mask.

        Args:
            mask: (B, 1, h, w) values in {0, 1}: the visible part, with the pixels under the eraser set to 0.
            eraser: (B, 1, h, w) values in {0, 1}: the mask of the occluder or occluders.
            image: (B, 3, h, w) ImageNet-normalised RGB, where the network was made with `use_rgb`.
            category_ids: (B,) positive integers, where the network was made with `class_conditioned`.
            return_dict: return a `MaskModelOutput` instead of a tuple.

        Returns:
            `MaskModelOutput` with `logits` (B, out_channels, h, w) in the dtype of the network.

        Raises:
            ValueError: where shapes differ, h or w is no multiple of `patch_size`, or an input that the configuration
                asks for is missing (or one that it does not know is given).
        """
        self._check_inputs(mask, eraser, image, category_ids)
        if category_ids is not None:
            mask = mask * category_ids.to(mask.dtype).view(-1, 1, 1, 1)
        planes = [mask, eraser] if image is None else [mask, eraser, image]
        hidden = torch.cat([plane.to(self.dtype) for plane in planes], dim=1)  # [B, 2 or 5, h, w]
        patch = self.config.patch_size
        if patch > 1:
            hidden = F.pixel_unshuffle(hidden, patch)  # [B, planes * p * p, h / p, w / p]
        skips = [self.conv_in(hidden)]
        for block in self.down_blocks:
            skips.append(block(skips[-1]))
        hidden = skips.pop()
        for block in self.up_blocks:
            hidden = block(hidden, skips.pop())
        logits = self.conv_out(hidden)
        if patch > 1:
            logits = F.pixel_shuffle(logits, patch)  # [B, out_channels, h, w]
        return MaskModelOutput(logits=logits) if return_dict else (logits,)

    def _check_inputs(self, mask: Tensor, eraser: Tensor, image: Tensor | None, category_ids: Tensor | None) -> None:
        if mask.ndim != 4 or mask.shape[1] != 1:
            raise ValueError(f"`mask` must have shape (B, 1, h, w), got {tuple(mask.shape)}.")
        if eraser.shape != mask.shape:
            raise ValueError(f"`eraser` must have the shape of `mask` {tuple(mask.shape)}, got {tuple(eraser.shape)}.")
        batch, _, height, width = mask.shape
        if height % self.config.patch_size or width % self.config.patch_size:
            raise ValueError(
                f"`mask` must have sides that are multiples of {self.config.patch_size}, got {(height, width)}."
            )
        config = self.config
        check_condition("image", image, "use_rgb", config.use_rgb, (batch, 3, height, width))
        check_condition("category_ids", category_ids, "class_conditioned", config.class_conditioned, (batch,))
