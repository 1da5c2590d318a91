"""The mask decoder of SDAmodal [Z24], on feature maps of a frozen Stable Diffusion U-Net."""

from collections.abc import Sequence

from diffusers import ConfigMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from ..arguments.flags import check_flag
from .checks import CheckedModel, check_mask_plane, check_positive_integers, graph_call
from .mask_unet import MaskUNet
from .outputs import MaskModelOutput


class SDAmodalDecoder(CheckedModel, ConfigMixin):
    """Completes the mask of an object from its modal mask and Stable Diffusion's features of the photo. Source: [Z24].

    The defaults are the published decoder, 15.9 M parameters: a U-Net of six levels, the four feature maps concatenated
    at its levels 6, 5, 4 and 3.

    Args:
        block_out_channels: channels per level, from full resolution down.
        feature_channels: channels of the feature maps, in the order of the up blocks of Stable Diffusion's U-Net, which
            is that of the levels from the bottleneck up.
        reduced_channels: channels that each feature map is reduced to.
        out_channels: number of logits per pixel; 2 = background, object.
        sample_size: side in pixels of the square mask crops that the network was trained on.
        feature_sizes: side of each cropped feature map that it was trained on; the pipelines crop to these.
        final_skip: as in `MaskUNet`; False is row C of [Z24], Table 4.

    Example:
        >>> import torch
        >>> model = SDAmodalDecoder((4, 8), feature_channels=(6, 5), reduced_channels=4, feature_sizes=(4, 8))
        >>> features = [torch.zeros(1, 6, 4, 4), torch.zeros(1, 5, 8, 8)]
        >>> model(torch.ones(1, 1, 32, 32), features).logits.shape
        torch.Size([1, 2, 32, 32])
    """

    _group_offload_block_modules = ["unet"]

    @register_to_config
    def __init__(
        self,
        block_out_channels: Sequence[int] = (32, 64, 128, 256, 512, 512),
        feature_channels: Sequence[int] = (1280, 1280, 640, 320),
        reduced_channels: int = 256,
        out_channels: int = 2,
        sample_size: int = 512,
        feature_sizes: Sequence[int] = (24, 48, 96, 96),
        final_skip: bool = True,
    ) -> None:
        super().__init__()
        check_flag("final_skip", final_skip)
        check_positive_integers(
            block_out_channels=block_out_channels, feature_channels=feature_channels, reduced_channels=reduced_channels,
            out_channels=out_channels, sample_size=sample_size, feature_sizes=feature_sizes,
        )  # fmt: skip
        if len(feature_sizes) != len(feature_channels):
            raise ValueError(
                f"`feature_sizes` must have one entry for each of the {len(feature_channels)} feature maps, "
                f"got {tuple(feature_sizes)}."
            )
        self.unet = MaskUNet(
            in_channels=1, out_channels=out_channels, block_out_channels=block_out_channels,
            feature_channels=feature_channels, reduced_channels=reduced_channels, align_corners=False,
            final_skip=final_skip,
        )  # fmt: skip

    @graph_call
    def forward(
        self, mask: Tensor, features: Sequence[Tensor], return_dict: bool = True
    ) -> MaskModelOutput | tuple[Tensor]:
        """Predict the logits of the completed mask.

        Args:
            mask: (B, 1, h, w) values in {0, 1}: the modal mask, cropped.
            features: one map (B, C_k, h_k, w_k) for each entry of `feature_channels`, cropped with the same box; a map
                of any size, which is resized to its level.
            return_dict: return a `MaskModelOutput` instead of a tuple.

        Returns:
            `MaskModelOutput` with `logits` (B, out_channels, h, w) in the dtype of the network.

        Raises:
            ValueError: where the number, the channels or the batch of the maps is not what the configuration says.
        """
        check_mask_plane("mask", mask, 1)
        channels = tuple(self.config.feature_channels)
        if len(features) != len(channels):
            raise ValueError(f"`features` must hold {len(channels)} maps, got {len(features)}.")
        for index, (feature, width) in enumerate(zip(features, channels, strict=True)):
            if feature.ndim != 4 or feature.shape[:2] != (mask.shape[0], width):
                raise ValueError(
                    f"`features[{index}]` must have shape ({mask.shape[0]}, {width}, h, w), got {tuple(feature.shape)}."
                )
        logits = self.unet(mask.to(self.dtype), [feature.to(self.dtype) for feature in features])
        return MaskModelOutput(logits=logits) if return_dict else (logits,)
