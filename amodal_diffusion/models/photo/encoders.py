"""The image encoders that a network can have: a ResNet of transformers, as published, or EfficientNet-lite0."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import ResNetConfig, ResNetModel

from ...arguments.choices import check_choice
from .efficientnet_lite import EfficientNetLite0
from .resnet import load_resnet

IMAGE_ENCODERS = ("resnet", "efficientnet-lite0")
ImageEncoder = ResNetModel | EfficientNetLite0


def check_encoder_type(kind: str) -> None:
    """Refuse what is none of `IMAGE_ENCODERS`, naming `image_encoder_type`.

    Example:
        >>> check_encoder_type("vgg")
        Traceback (most recent call last):
        ValueError: `image_encoder_type` must be one of 'resnet', 'efficientnet-lite0', got 'vgg'.
    """
    check_choice("image_encoder_type", kind, IMAGE_ENCODERS)


def map_channels(kind: str, hidden_sizes: Sequence[int]) -> tuple[int, ...]:
    """Channels of the maps of stride 4, 8, 16, and so on, of an image encoder; see `make_image_encoder`.

    Example:
        >>> map_channels("resnet", (4, 8)), map_channels("efficientnet-lite0", (4, 8))
        ((4, 8), (24, 40, 112, 320))
    """
    check_encoder_type(kind)
    return tuple(hidden_sizes) if kind == "resnet" else EfficientNetLite0.feature_channels[1:]


def make_image_encoder(
    kind: str, hidden_sizes: Sequence[int], depths: Sequence[int], embedding_size: int, layer_type: str
) -> ImageEncoder:
    """An image encoder with random weights.

    Args:
        kind: one of `IMAGE_ENCODERS`; EfficientNet-lite0 has sizes of its own.
        hidden_sizes: channels of the stages of a ResNet, as many as it has.
        depths: residual blocks of each stage.
        embedding_size: channels of its first convolution.
        layer_type: "basic" or "bottleneck".

    Example:
        >>> type(make_image_encoder("resnet", (4, 8), (1, 1), 4, "basic")).__name__
        'ResNetModel'
    """
    check_encoder_type(kind)
    if kind == "resnet":
        sizes = ResNetConfig(
            layer_type=layer_type, hidden_sizes=list(hidden_sizes), depths=list(depths), embedding_size=embedding_size
        )
        return ResNetModel(sizes)
    encoder = EfficientNetLite0()
    encoder.freeze_classifier()
    return encoder


def image_maps(encoder: ImageEncoder, image: Tensor) -> tuple[Tensor, ...]:
    """Feature maps of stride 4, 8, 16, and so on, as many as the encoder has.

    Args:
        encoder: made by `make_image_encoder`.
        image: (B, 3, h, w) ImageNet-normalised RGB, in the dtype of the encoder.

    Example:
        >>> import torch
        >>> encoder = make_image_encoder("efficientnet-lite0", (), (), 4, "basic")
        >>> [tuple(one.shape[1:]) for one in image_maps(encoder, torch.zeros(1, 3, 64, 64))]
        [(24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]
    """
    if isinstance(encoder, EfficientNetLite0):
        return tuple(encoder(image, levels=5).feature_maps[1:])
    return tuple(encoder(image, output_hidden_states=True).hidden_states[1:])


def load_encoder_weights(encoder: ImageEncoder, name_or_path: str | None, **kwargs: Any) -> None:
    """Give an image encoder its ImageNet weights.

    Args:
        encoder: that takes them.
        name_or_path: of a ResNet, see `load_resnet`; None for EfficientNet-lite0, whose weights come with a package,
            see `EfficientNetLite0.from_package`.
        kwargs: see `load_resnet`.

    Raises:
        OSError, ImportError, ValueError: as those say; `name_or_path` given for EfficientNet or not for a ResNet.

    Example:
        >>> encoder = make_image_encoder("resnet", (4,), (1,), 4, "basic")
        >>> load_encoder_weights(encoder, None)
        Traceback (most recent call last):
        ValueError: `name_or_path` must be given: `image_encoder_type` is 'resnet'.
    """
    own = isinstance(encoder, EfficientNetLite0)
    if own != (name_or_path is None):
        raise ValueError(
            f"`name_or_path` must be {'None' if own else 'given'}: `image_encoder_type` is {IMAGE_ENCODERS[own]!r}."
        )
    if isinstance(encoder, EfficientNetLite0):
        encoder.load_state_dict(EfficientNetLite0.from_package().state_dict())
    elif name_or_path is not None:
        load_resnet(encoder, name_or_path, **kwargs)
