"""Published PCNet-M checkpoints [Z20]. Those of ASBU [N21] have the same keys."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..models.pcnet_mask import PCNetMask
from ..pipelines.completion.pcnet_mask import PCNetMaskPipeline
from .checkpoint import Network, convert_file, convolution_channels, load_weights, save_pipeline
from .unet import FIRST_CONV, unet_published_key, unet_sizes

_PLANES, _PLANES_WITH_PHOTO = 2, 5


def published_key(key: str) -> str:
    """The published key of a parameter of `PCNetMask`; a KeyError where the network has no such parameter.

    Example:
        >>> published_key("down_blocks.0.conv.0.weight")
        'down1.mpconv.1.conv.0.weight'
    """
    return unet_published_key(key, first_up=1)


def convert_pcnet_mask_weights(published: Mapping[str, Tensor], **config: Any) -> PCNetMask:
    """Make a `PCNetMask` with published weights; their shapes say how wide and deep it is, and whether it sees RGB.

    Args:
        published: tensors by their published keys, without the prefix "module.".
        config: `class_conditioned`, `sample_size`.

    Returns:
        The network, float32, in evaluation mode.

    Raises:
        ValueError: lists every key that is missing, unexpected or of another shape.

    Example:
        >>> from amodal_diffusion import PCNetMask
        >>> model = PCNetMask(block_out_channels=(4, 8), sample_size=32)
        >>> published = {published_key(key): value for key, value in model.state_dict().items()}
        >>> convert_pcnet_mask_weights(published, sample_size=32).config.block_out_channels
        (4, 8)
    """
    return convert_mask_unet(PCNetMask, published, "PCNet-M", published_key, config)


def convert_mask_unet(
    make: Callable[..., Network],
    published: Mapping[str, Tensor],
    name: str,
    key_of: Callable[[str], str],
    config: Mapping[str, Any],
) -> Network:
    """Make a network around the U-Net of PCNet-M; see `convert_pcnet_mask_weights`.

    Of five planes the last three are the photo's, `use_rgb`: ImageNet-normalised RGB.

    Args:
        make: class of the network.
        published: tensors by their published keys, without the prefix "module.".
        name: of the network, for the message.
        key_of: takes a parameter's key in our network and gives the published one.
        config: arguments of `make` but `block_out_channels`.

    Example:
        >>> from amodal_diffusion import PCNetMask
        >>> model = PCNetMask(block_out_channels=(4, 8), sample_size=32)
        >>> published = {published_key(key): value for key, value in model.state_dict().items()}
        >>> model = convert_mask_unet(PCNetMask, published, "PCNet-M", published_key, {"sample_size": 32})
        >>> model.config.block_out_channels
        (4, 8)
    """
    _, planes = convolution_channels(published, FIRST_CONV, name)
    if planes not in (_PLANES, _PLANES_WITH_PHOTO):
        raise ValueError(
            f"The checkpoint must take {_PLANES} planes (mask, occluder), or {_PLANES_WITH_PHOTO} with RGB after them; "
            f"{FIRST_CONV!r} takes {planes}."
        )
    config = {
        **config,
        "use_rgb": planes == _PLANES_WITH_PHOTO,
        "block_out_channels": unet_sizes(published, name)["block_out_channels"],
    }
    return load_weights(make, config, published, key_of, name)


def convert_pcnet_mask(
    checkpoint_path: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    category_aware: bool = False,
    sample_size: int = 256,
) -> Path:
    """Convert a published PCNet-M checkpoint into a folder that `AmodalPipeline.from_pretrained` loads.

    The pipeline gets the published thresholds 0.1 (order) and 0.2 (masks).

    Args:
        checkpoint_path: see `load_published_state_dict`.
        output_dir: a folder that does not exist yet, or is empty.
        category_aware: the network was trained with the category id in the mask plane (KINS), not with 1 (COCOA).
        sample_size: side of the crops in pixels that the network was trained on.

    Returns:
        The folder.

    Raises:
        FileNotFoundError, FileExistsError: where there is no checkpoint, or `output_dir` holds files.
        ValueError: as `load_published_state_dict` and `convert_pcnet_mask_weights` say.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from amodal_diffusion import PCNetMask
        >>> model = PCNetMask(block_out_channels=(4, 8), sample_size=32)
        >>> published = {published_key(key): value for key, value in model.state_dict().items()}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(published, os.path.join(folder, "published.pth"))
        ...     saved = convert_pcnet_mask(os.path.join(folder, "published.pth"), os.path.join(folder, "pcnet-m"))
        ...     sorted(path.name for path in saved.iterdir())
        ['model', 'model_index.json', 'pipeline.py']
    """
    config = {"class_conditioned": category_aware, "sample_size": sample_size}
    model = convert_file(checkpoint_path, convert_pcnet_mask_weights, **config)
    return save_pipeline(PCNetMaskPipeline(model, order_threshold=0.1, mask_threshold=0.2), output_dir)
