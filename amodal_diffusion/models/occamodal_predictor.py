"""The two predictors of OccAmodal [Z24]: of the occluder, and of the whole mask; and de-occlusion in one stage."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import ConfigMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from ..arguments.flags import check_flag
from .checks import CheckedModel, check_mask_plane, check_positive_integers, graph_call
from .mask_unet import MaskUNet
from .outputs import MaskModelOutput
from .pcnet_mask import PCNetMask
from .photo.encoders import ImageEncoder, image_maps, load_encoder_weights, make_image_encoder, map_channels


class OccAmodalPredictor(CheckedModel, ConfigMixin):
    """A mask U-Net that looks at the photo through a ResNet, or through EfficientNet-lite0. Source: [Z24].

    With one mask plane it is the occluder predictor: modal mask in, mask of all that hides the object out. With two it
    is the amodal predictor: modal mask and occlusion boundary in, whole mask out. The defaults are the published
    network: ResNet-18, six levels, the last feature map of the image at the bottleneck. De-occlusion in one stage, to
    which [Z24] compares, is the first kind of network with the five levels of [Z20] and the whole mask as its answer.

    Args:
        mask_channels: 1 (modal mask) or 2 (modal mask, occlusion boundary).
        block_out_channels: channels per level of the U-Net, from full resolution down.
        reduced_channels: channels that each feature map of the image is reduced to.
        out_channels: number of logits per pixel. Occluder: background, occluder. Amodal mask: probability by sigmoid,
            uncertainty by softplus, as in ASBU [N21]. In one stage: background, object.
        sample_size: side in pixels of the square crops that the network was trained on; the pipelines crop to it.
        patch_size: side of the pixel blocks of the mask planes that are folded into channels before the first level and
            unfolded after the last; 1 is the published network.
        image_encoder_type: "resnet" (published) or "efficientnet-lite0", see `models.photo.encoders`.
        image_hidden_sizes: channels of the stages of a ResNet; EfficientNet-lite0 has sizes of its own.
        image_depths: number of residual blocks of each stage.
        image_embedding_size: channels of its first convolution.
        image_feature_stages: stages of the image encoder (1 = stride 4, 4 = stride 32) that the U-Net sees, for the
            bottleneck first, then one level up each. (4,) is the published network, () one that sees masks alone and
            has no image encoder, such as the supervised U-Net of [Z20], Table 2.
        final_skip: as in `MaskUNet`; False is row B of [Z24], Table 3.

    Example:
        >>> model = OccAmodalPredictor(
        ...     block_out_channels=(4, 8), reduced_channels=4, sample_size=32, image_hidden_sizes=(4, 8),
        ...     image_depths=(1, 1), image_embedding_size=4, image_feature_stages=(2,),
        ... )
        >>> model(torch.ones(1, 1, 32, 32), torch.zeros(1, 3, 32, 32)).logits.shape
        torch.Size([1, 2, 32, 32])
    """

    _group_offload_block_modules = ["unet"]

    @register_to_config
    def __init__(
        self,
        mask_channels: int = 1,
        block_out_channels: Sequence[int] = (32, 64, 128, 256, 512, 512),
        reduced_channels: int = 256,
        out_channels: int = 2,
        sample_size: int = 256,
        patch_size: int = 1,
        image_encoder_type: str = "resnet",
        image_hidden_sizes: Sequence[int] = (64, 128, 256, 512),
        image_depths: Sequence[int] = (2, 2, 2, 2),
        image_embedding_size: int = 64,
        image_feature_stages: Sequence[int] = (4,),
        final_skip: bool = True,
    ) -> None:
        super().__init__()
        check_flag("final_skip", final_skip)
        check_positive_integers(
            mask_channels=mask_channels, block_out_channels=block_out_channels, reduced_channels=reduced_channels,
            out_channels=out_channels, sample_size=sample_size, patch_size=patch_size,
            image_hidden_sizes=image_hidden_sizes, image_depths=image_depths,
            image_embedding_size=image_embedding_size, image_feature_stages=image_feature_stages,
        )  # fmt: skip
        if mask_channels > 2:
            raise ValueError(f"`mask_channels` must be 1 or 2, got {mask_channels}.")
        if sample_size % patch_size:
            raise ValueError(f"`patch_size` must divide `sample_size`, got {patch_size} and {sample_size}.")
        if len(image_depths) != len(image_hidden_sizes):
            raise ValueError(f"`image_depths` must have {len(image_hidden_sizes)} entries like `image_hidden_sizes`.")
        channels = map_channels(image_encoder_type, image_hidden_sizes)
        if max(image_feature_stages, default=0) > len(channels):
            raise ValueError(
                f"`image_feature_stages` must lie in 1 to {len(channels)}, got {tuple(image_feature_stages)}."
            )
        self.image_encoder: ImageEncoder | None = None
        if image_feature_stages:
            self.image_encoder = make_image_encoder(
                image_encoder_type, image_hidden_sizes, image_depths, image_embedding_size, "basic"
            )
        self.unet = MaskUNet(
            in_channels=mask_channels, out_channels=out_channels, block_out_channels=block_out_channels,
            feature_channels=[channels[stage - 1] for stage in image_feature_stages],
            reduced_channels=reduced_channels, align_corners=True, patch_size=patch_size, final_skip=final_skip,
        )  # fmt: skip

    def load_image_encoder(self, name_or_path: str | None = None, **kwargs: Any) -> None:
        """Take the ImageNet weights of the image encoder.

        Args:
            name_or_path: a ResNet of transformers, such as "microsoft/resnet-18": Hub id or folder, of which only
                safetensors are read. None for EfficientNet-lite0, whose weights come with a package.
            kwargs: `revision`, `token`, `cache_dir`, `local_files_only`; see `ResNetModel.from_pretrained`.

        Raises:
            OSError: where there is no such model.
            ImportError: the package is missing.
            ValueError: where it is no ResNet of the sizes of this network, `name_or_path` is given for EfficientNet or
                not for a ResNet, or the network sees masks alone.
        """
        if self.image_encoder is None:
            raise ValueError("The network has no image encoder: its `image_feature_stages` are ().")
        load_encoder_weights(self.image_encoder, name_or_path, **kwargs)

    @torch.no_grad()
    def load_mask_network(self, network: PCNetMask) -> None:
        """Start as a network that completes masks without looking at the photo.

        The U-Net takes the weights of `network`, with the boundary where that takes the eraser; the weights on the
        photo's features become 0, so that sigmoid of output 0 is at first just what `network` answers.

        Args:
            network: a PCNet-M of the same `block_out_channels` and `patch_size`.

        Raises:
            ValueError: where the sizes differ, or one of the networks does not have two mask planes and two outputs.
        """
        for name in ("block_out_channels", "patch_size"):
            mine, theirs = self.config[name], network.config[name]
            if tuple(np.atleast_1d(mine)) != tuple(np.atleast_1d(theirs)):
                raise ValueError(f"`network` must have `{name}` {mine}, got {theirs}.")
        if network.config.use_rgb or network.config.out_channels != 2:
            raise ValueError("`network` must take two mask planes and no photo, and have 2 logits.")
        if self.config.mask_channels != 2 or self.config.out_channels != 2 or not self.config.final_skip:
            raise ValueError(
                "Only a predictor with 2 mask planes, 2 outputs and the final skip can start from a mask network."
            )
        unet, levels = self.unet, self.config.block_out_channels[::-1]
        unet.conv_in.load_state_dict(network.conv_in.state_dict())
        unet.down_blocks.load_state_dict(network.down_blocks.state_dict())
        for index, (mine, theirs) in enumerate(zip(unet.up_blocks, network.up_blocks, strict=True)):
            state = theirs.state_dict()
            weight, widened = state["conv.0.weight"], torch.zeros_like(mine.state_dict()["conv.0.weight"])
            skip = levels[index + 1]
            start = skip + self.config.reduced_channels * (index + 1 < len(unet.reduce_blocks))
            widened[:, :skip] = weight[:, :skip]
            widened[:, start : start + weight.shape[1] - skip] = weight[:, skip:]
            mine.load_state_dict(state | {"conv.0.weight": widened})
        pixels = self.config.patch_size**2
        last = unet.conv_out.state_dict()
        for name, value in network.conv_out.state_dict().items():
            last[name][:pixels] = value[pixels:] - value[:pixels]
        unet.conv_out.load_state_dict(last)

    @property
    def sees_image(self) -> bool:
        """Whether the network looks at the photo."""
        return self.image_encoder is not None

    def encode_image(self, image: Tensor | None) -> tuple[Tensor, ...]:
        """(B, 3, h, w) ImageNet-normalised RGB -> the feature maps for `forward`, deepest level first."""
        if self.image_encoder is None or image is None:
            return ()
        maps = image_maps(self.image_encoder, image.to(self.dtype))
        return tuple(maps[stage - 1] for stage in self.config.image_feature_stages)

    @graph_call
    def forward(
        self,
        mask: Tensor,
        image: Tensor | None = None,
        boundary: Tensor | None = None,
        return_dict: bool = True,
    ) -> MaskModelOutput | tuple[Tensor]:
        """Predict the logits of the occluder mask or of the amodal mask.

        Args:
            mask: (B, 1, h, w) values in {0, 1}: the modal mask, cropped.
            image: (B, 3, h, w) ImageNet-normalised RGB, cropped with the same box; None exactly where the network sees
                masks alone.
            boundary: (B, 1, h, w) values in {0, 1}: where object and occluder meet (`occlusion_boundary`); exactly
                where the network has two mask planes.
            return_dict: return a `MaskModelOutput` instead of a tuple.

        Returns:
            `MaskModelOutput` with `logits` (B, out_channels, h, w) in the dtype of the network.

        Raises:
            ValueError: where shapes differ, h or w is no multiple of `patch_size`, or `image` or `boundary` is missing
                or unwanted.
        """
        check_mask_plane("mask", mask, self.config.patch_size)
        if (self.config.mask_channels == 2) != (boundary is not None):
            wanted = "given" if self.config.mask_channels == 2 else "None"
            raise ValueError(f"`boundary` must be {wanted}: the network has {self.config.mask_channels} mask planes.")
        if boundary is not None:
            check_mask_plane("boundary", boundary, self.config.patch_size, mask.shape)
        batch, _, height, width = mask.shape
        if self.sees_image != (image is not None):
            wanted, stages = "given" if self.sees_image else "None", tuple(self.config.image_feature_stages)
            raise ValueError(f"`image` must be {wanted}: `image_feature_stages` is {stages}.")
        if image is not None and image.shape != (batch, 3, height, width):
            raise ValueError(f"`image` must have shape {(batch, 3, height, width)}, got {tuple(image.shape)}.")
        planes = mask if boundary is None else torch.cat([mask, boundary.to(mask.dtype)], dim=1)
        logits = self.unet(planes.to(self.dtype), self.encode_image(image))
        return MaskModelOutput(logits=logits) if return_dict else (logits,)
