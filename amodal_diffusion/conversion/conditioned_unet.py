"""Published names and sizes of the U-Net and the ResNet that the networks of [Z24] are made of."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

FIRST_CONV = "inc.conv.conv.0.weight"
_UNET_RULES = (
    (re.compile(r"^conv_in\.(.+)$"), lambda m: f"inc.conv.conv.{m[1]}"),
    (re.compile(r"^down_blocks\.(\d+)\.conv\.(.+)$"), lambda m: f"down{int(m[1]) + 1}.mpconv.1.conv.{m[2]}"),
    (re.compile(r"^up_blocks\.(\d+)\.conv\.(.+)$"), lambda m: f"up{m[1]}.conv.conv.{m[2]}"),
    (re.compile(r"^conv_out\.(.+)$"), lambda m: f"outc.conv.{m[1]}"),
)
_REDUCE = re.compile(r"^reduce_blocks\.(\d+)\.(.+)$")
_EMBEDDER = re.compile(r"^embedder\.embedder\.(convolution|normalization)\.(.+)$")
_SHORTCUT = re.compile(r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.(convolution|normalization)\.(.+)$")
_LAYER = re.compile(r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.(convolution|normalization)\.(.+)$")


def unet_published_key(key: str, reduce_names: Sequence[str]) -> str:
    """The published name of a parameter of `MaskUNet`.

    Args:
        key: its name here, without the prefix of the U-Net within its network.
        reduce_names: published name of the reduction of each feature map, such as ("reduce_dim",).

    Raises:
        KeyError: a name that the network does not have.

    Example:
        >>> unet_published_key("conv_in.0.weight", ("reduce_dim",))
        'inc.conv.conv.0.weight'
        >>> unet_published_key("reduce_blocks.0.0.bias", ("reduce_dim",))
        'reduce_dim.0.bias'
    """
    for pattern, rename in _UNET_RULES:
        match = pattern.match(key)
        if match:
            return rename(match)
    match = _REDUCE.match(key)
    if match and int(match[1]) < len(reduce_names):
        return f"{reduce_names[int(match[1])]}.{match[2]}"
    raise KeyError(key)


def resnet_published_key(key: str) -> str:
    """The published (torchvision) name of a parameter of transformers' `ResNetModel` with basic layers.

    Args:
        key: its name here, without the prefix of the image encoder within its network.

    Raises:
        KeyError: a name that the network does not have.

    Example:
        >>> resnet_published_key("embedder.embedder.convolution.weight")
        'conv1.weight'
    """
    match = _EMBEDDER.match(key)
    if match:
        return f"{'conv1' if match[1] == 'convolution' else 'bn1'}.{match[2]}"
    match = _SHORTCUT.match(key)
    if match:
        index = int(match[3] == "normalization")
        return f"layer{int(match[1]) + 1}.{match[2]}.downsample.{index}.{match[4]}"
    match = _LAYER.match(key)
    if match:
        kind = "conv" if match[4] == "convolution" else "bn"
        return f"layer{int(match[1]) + 1}.{match[2]}.{kind}{int(match[3]) + 1}.{match[5]}"
    raise KeyError(key)


def unet_sizes(published: Mapping[str, Tensor], reduce_names: Sequence[str], name: str) -> dict[str, Any]:
    """The sizes of a published U-Net, read off the shapes of its weights.

    Args:
        published: published keys without the prefix "module.", and tensors.
        reduce_names: see `unet_published_key`.
        name: what the weights should be, for the message.

    Returns:
        `in_channels`, `out_channels`, `block_out_channels`, `feature_channels` and `reduced_channels`.

    Raises:
        ValueError: naming the key that is missing or holds no convolution.

    Example:
        >>> import torch
        >>> shapes = {
        ...     FIRST_CONV: (4, 1, 3, 3), "down1.mpconv.1.conv.0.weight": (8, 4, 3, 3),
        ...     "reduce_dim.0.weight": (6, 16, 1, 1), "outc.conv.weight": (2, 4, 1, 1),
        ... }
        >>> published = {key: torch.zeros(shape) for key, shape in shapes.items()}
        >>> unet_sizes(published, ("reduce_dim",), "OccAmodal")["block_out_channels"]
        (4, 8)
    """
    out_channels, _ = _convolution(published, "outc.conv.weight", name)
    width, in_channels = _convolution(published, FIRST_CONV, name)
    widths = [width]
    while (key := f"down{len(widths)}.mpconv.1.conv.0.weight") in published or len(widths) < 2:
        widths.append(_convolution(published, key, name)[0])
    reductions = [_convolution(published, f"{reduce}.0.weight", name) for reduce in reduce_names]
    return {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "block_out_channels": tuple(widths),
        "feature_channels": tuple(channels for _, channels in reductions),
        "reduced_channels": reductions[0][0],
    }


def _convolution(published: Mapping[str, Tensor], key: str, name: str) -> tuple[int, int]:
    """Channels out of and into the convolution whose weights have this published key."""
    if key not in published:
        names = [repr(found) for found in list(published)[:4]]
        some = ", ".join(names) + (f" and {len(published) - 4} more" if len(published) > 4 else "")
        raise ValueError(f"The checkpoint is none of {name}: it has no key {key!r}, only {some}.")
    weight = published[key]
    if weight.ndim != 4 or 0 in weight.shape:
        raise ValueError(f"The checkpoint is none of {name}: {key!r} has shape {tuple(weight.shape)}.")
    return weight.shape[0], weight.shape[1]
