"""Published names and sizes of the mask U-Net, as [Z20], [N21] and [Z24] share it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .checkpoint import convolution_channels

FIRST_CONV = "inc.conv.conv.0.weight"
_ENDS = {"conv_in.": "inc.conv.conv.", "conv_out.": "outc.conv."}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.conv\.(.+)")
_REDUCE = re.compile(r"reduce_blocks\.(\d+)\.(.+)")


def unet_published_key(key: str, reduce_names: Sequence[str] = (), first_up: int = 0) -> str:
    """The published key of a parameter of `MaskUNet`.

    Args:
        key: in our network, without the prefix of the U-Net.
        reduce_names: the published name of the convolution that reduces each feature map, such as ("reduce_dim",).
        first_up: the published number of the first block on the way up: 1 for [Z20] and [N21], 0 for [Z24].

    Raises:
        KeyError: the network has no such parameter.

    Example:
        >>> unet_published_key("conv_in.0.weight"), unet_published_key("up_blocks.0.conv.0.bias", first_up=1)
        ('inc.conv.conv.0.weight', 'up1.conv.conv.0.bias')
        >>> unet_published_key("reduce_blocks.0.0.bias", ("reduce_dim",))
        'reduce_dim.0.bias'
    """
    for prefix, published in _ENDS.items():
        if key.startswith(prefix):
            return published + key.removeprefix(prefix)
    match = _BLOCK.fullmatch(key)
    if match:
        number = int(match[2])
        block = f"down{number + 1}.mpconv.1" if match[1] == "down" else f"up{number + first_up}.conv"
        return f"{block}.conv.{match[3]}"
    match = _REDUCE.fullmatch(key)
    if match and int(match[1]) < len(reduce_names):
        return f"{reduce_names[int(match[1])]}.{match[2]}"
    raise KeyError(key)


def unet_sizes(published: Mapping[str, Tensor], name: str, reduce_names: Sequence[str] = ()) -> dict[str, Any]:
    """The sizes of a published U-Net, from the shapes of its weights.

    Args:
        published: tensors by their published keys, without the prefix "module.".
        name: of the network, for the message.
        reduce_names: see `unet_published_key`.

    Returns:
        `in_channels`, `out_channels` and `block_out_channels`; with `reduce_names` also `feature_channels` and
        `reduced_channels`.

    Raises:
        ValueError: a key is missing, or its tensor is no weight of a convolution.

    Example:
        >>> import torch
        >>> shapes = {
        ...     FIRST_CONV: (4, 1, 3, 3), "down1.mpconv.1.conv.0.weight": (8, 4, 3, 3),
        ...     "reduce_dim.0.weight": (6, 16, 1, 1), "outc.conv.weight": (2, 4, 1, 1),
        ... }
        >>> published = {key: torch.zeros(shape) for key, shape in shapes.items()}
        >>> unet_sizes(published, "OccAmodal", ("reduce_dim",))["block_out_channels"]
        (4, 8)
    """
    width, in_channels = convolution_channels(published, FIRST_CONV, name)
    widths = [width]
    while (key := f"down{len(widths)}.mpconv.1.conv.0.weight") in published or len(widths) < 2:
        widths.append(convolution_channels(published, key, name)[0])
    sizes: dict[str, Any] = {
        "in_channels": in_channels,
        "out_channels": convolution_channels(published, "outc.conv.weight", name)[0],
        "block_out_channels": tuple(widths),
    }
    if reduce_names:
        reductions = [convolution_channels(published, f"{reduce}.0.weight", name) for reduce in reduce_names]
        sizes["feature_channels"] = tuple(channels for _, channels in reductions)
        sizes["reduced_channels"] = reductions[0][0]
    return sizes
