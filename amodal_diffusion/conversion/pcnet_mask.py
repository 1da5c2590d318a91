"""Published PCNet-M checkpoints [Z20]; `asbu` reads the same keys [N21]."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.pcnet_mask import PCNetMask
from ..pipelines.completion.pcnet_mask import PCNetMaskPipeline
from .checkpoint import Network, check_keys, convert_file, save_pipeline

_FIRST_CONV = "inc.conv.conv.0.weight"
_PLANES = 2
_RULES = (
    (re.compile(r"^conv_in\.(.+)$"), lambda m: f"inc.conv.conv.{m[1]}"),
    (re.compile(r"^down_blocks\.(\d+)\.conv\.(.+)$"), lambda m: f"down{int(m[1]) + 1}.mpconv.1.conv.{m[2]}"),
    (re.compile(r"^up_blocks\.(\d+)\.conv\.(.+)$"), lambda m: f"up{int(m[1]) + 1}.conv.conv.{m[2]}"),
    (re.compile(r"^conv_out\.(.+)$"), lambda m: f"outc.conv.{m[1]}"),
)


def published_key(key: str) -> str:
    """The published name of a parameter of `PCNetMask`; KeyError for a name that the network does not have.

    Example:
        >>> published_key("down_blocks.0.conv.0.weight")
        'down1.mpconv.1.conv.0.weight'
    """
    for pattern, rename in _RULES:
        match = pattern.match(key)
        if match:
            return rename(match)
    raise KeyError(key)


def convert_pcnet_mask_weights(published: Mapping[str, Tensor], **config: Any) -> PCNetMask:
    """A `PCNetMask` with published weights; widths and depth are read off their shapes.

    Args:
        published: published keys without the prefix "module.", and tensors.
        config: `class_conditioned`, `sample_size`.

    Returns:
        The network, float32, in evaluation mode.

    Raises:
        ValueError: naming every key that is missing, unexpected or of another shape.

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
    """A network around the U-Net of PCNet-M with published weights, as `convert_pcnet_mask_weights` describes it.

    Args:
        make: the class of the network.
        published: published keys without the prefix "module.", and tensors.
        name: of the system, for errors.
        key_of: our name of a parameter -> the published one.
        config: of the network, but for `block_out_channels`.

    Example:
        >>> from amodal_diffusion import PCNetMask
        >>> model = PCNetMask(block_out_channels=(4, 8), sample_size=32)
        >>> published = {published_key(key): value for key, value in model.state_dict().items()}
        >>> model = convert_mask_unet(PCNetMask, published, "PCNet-M", published_key, {"sample_size": 32})
        >>> model.config.block_out_channels
        (4, 8)
    """
    config = {**config, "block_out_channels": _read_widths(published, name)}
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in make(**config).state_dict().items()}
    check_keys(
        published, {key_of(key): shape for key, shape in shapes.items()},
        f"{name} with {config['block_out_channels']} channels",
    )  # fmt: skip
    model = make(**config)
    model.load_state_dict({key: published[key_of(key)] for key in shapes}, strict=True)
    return model.eval()


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


def _read_widths(published: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """The channels per level of a published U-Net that takes two mask planes.

    Args:
        published: published keys and tensors.
        name: of the system, for errors.

    Raises:
        ValueError: where the keys are of another network.
    """
    if _FIRST_CONV not in published:
        raise ValueError(f"The checkpoint is none of {name}: it has no key {_FIRST_CONV!r}, only {_some(published)}.")
    planes = published[_FIRST_CONV].shape[1] if published[_FIRST_CONV].ndim == 4 else None
    if planes != _PLANES:
        raise ValueError(f"The checkpoint must take {_PLANES} planes (mask, occluder); {_FIRST_CONV!r} takes {planes}.")
    widths = [published[_FIRST_CONV].shape[0]]
    while (key := f"down{len(widths)}.mpconv.1.conv.0.weight") in published:
        widths.append(published[key].shape[0] if published[key].ndim else 0)
    if len(widths) < 2:
        raise ValueError(
            f"The checkpoint is none of {name}: it has no key 'down1.mpconv.1.conv.0.weight', only {_some(published)}."
        )
    if 0 in widths:  # also of a scalar
        raise ValueError(f"The checkpoint has a convolution without channels or shape; its widths are {widths}.")
    return tuple(widths)


def _some(published: Mapping[str, Tensor]) -> str:
    names = [repr(key) for key in list(published)[:4]]
    return ", ".join(names) + (f" and {len(published) - 4} more" if len(published) > 4 else "")
