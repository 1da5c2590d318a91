"""PCNet-M, the partial completion network for masks [Z20]."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ConfigMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from .checks import CheckedModel, check_flags, check_positive_integers, stack_planes
from .mask_unet import MaskUNet
from .outputs import MaskModelOutput


class PCNetMask(MaskUNet, CheckedModel, ConfigMixin):
    """Completes the mask of an object given the mask of what hides it. Source: [Z20].

    It is a `MaskUNet` on two planes, the visible mask and the eraser.

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

    Example:
        >>> model = PCNetMask(block_out_channels=(4, 8), sample_size=32).eval()
        >>> mask, eraser = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
        >>> mask[..., :16], eraser[..., 16:] = 1, 1
        >>> model(mask, eraser).logits.shape
        torch.Size([1, 2, 32, 32])
    """

    # For type checkers, which else find those of `nn.Module.__getattr__` before those of diffusers.
    config: Any
    dtype: torch.dtype

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
        check_flags(class_conditioned=class_conditioned, use_rgb=use_rgb)
        check_positive_integers(
            out_channels=out_channels, sample_size=sample_size, patch_size=patch_size,
            block_out_channels=block_out_channels,
        )  # fmt: skip
        if sample_size % patch_size:
            raise ValueError(f"`patch_size` must divide `sample_size`, got {patch_size} and {sample_size}.")
        super().__init__(
            in_channels=5 if use_rgb else 2,
            out_channels=out_channels,
            block_out_channels=block_out_channels,
            patch_size=patch_size,
        )

    def forward(  # type: ignore[override]  # the planes by name
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
        planes = stack_planes(self.config, mask, image, category_ids, self.dtype, eraser=eraser)  # [B, 2 or 5, h, w]
        logits = super().forward(planes)
        return MaskModelOutput(logits=logits) if return_dict else (logits,)
