"""Published PCNet-C checkpoints [Z20], and the inpainting network of partial convolutions that it starts from."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.pcnet_content import PartialConv, PCNetContent
from ..pipelines.content.pipeline import ContentPipeline
from .checkpoint import check_keys, convert_file, convolution_channels, save_pipeline

_NAME = "PCNet-C"
_FIRST_CONV = "enc_1.conv.input_conv.weight"
_PLANES = {3: "image", 4: "image, modal mask"}
_KEY = re.compile(r"^(encoder|decoder)\.(\d+)\.(?:conv\.conv|(norm))\.(\w+)$")
_CONV = ".conv.input_conv."
_ONES = ".conv.mask_conv."


def published_key(key: str, levels: int) -> str:
    """The published key of a parameter of `PCNetContent`.

    Args:
        key: in our network.
        levels: number of levels; the published blocks of the decoder are numbered from the last to the first.

    Raises:
        KeyError: the network has no such parameter.

    Example:
        >>> published_key("encoder.0.conv.conv.weight", levels=7), published_key("decoder.0.norm.bias", levels=7)
        ('enc_1.conv.input_conv.weight', 'dec_7.bn.bias')
    """
    match = _KEY.match(key)
    if match is None or int(match[2]) >= levels:
        raise KeyError(key)
    index = int(match[2])
    block = f"enc_{index + 1}" if match[1] == "encoder" else f"dec_{levels - index}"
    return f"{block}.bn.{match[4]}" if match[3] else f"{block}{_CONV}{match[4]}"


def convert_pcnet_content_weights(
    published: Mapping[str, Tensor], *, add_mask_plane: bool = False, **config: Any
) -> PCNetContent:
    """Make a `PCNetContent` with published weights; their shapes say how wide and deep it is, and its input planes.

    The published partial convolution is `W(x·m)/sum(m) + b`. Ours multiplies the first term by the number of values in
    the window, so the weights are divided by that number; the biases stay as they are. The published weights may hold
    kernels of ones, which count the known values; our network counts without them.

    Args:
        published: tensors by their published keys, without the prefix "module.": of PCNet-C (4 input planes), or of the
            inpainting network (3 planes, `partialconv.pth`).
        add_mask_plane: give a network of 3 planes a fourth one for the mask, with weights of zero: what the training of
            PCNet-C starts from.
        config: `class_conditioned`, `sample_size`.

    Returns:
        The network, float32, in evaluation mode.

    Raises:
        ValueError: lists every key that is missing, unexpected or of another shape; a kernel of ones holds other
            values; 3 planes with `class_conditioned`, or 4 planes with `add_mask_plane`.

    Example:
        >>> model = PCNetContent(block_out_channels=(4, 8), sample_size=32)
        >>> published = {published_key(key, levels=2): value for key, value in model.state_dict().items()}
        >>> convert_pcnet_content_weights(published, sample_size=32).config.block_out_channels
        (4, 8)
    """
    widths, planes = _sizes(published)
    class_conditioned = bool(config.pop("class_conditioned", False))
    if add_mask_plane and planes == 4:
        raise ValueError("`add_mask_plane` must be False: the checkpoint has a mask plane already.")
    if class_conditioned and planes == 3:
        raise ValueError("`class_conditioned` must be False: the checkpoint takes an image only, no mask plane.")
    config = {
        **config,
        "block_out_channels": widths,
        "use_mask": planes == 4,
        "class_conditioned": class_conditioned,
    }
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in PCNetContent(**config).state_dict().items()}
    keys = {key: published_key(key, len(widths)) for key in shapes}
    expected = {keys[key]: shape for key, shape in shapes.items()}
    ones = {key.replace(_CONV, _ONES): shape for key, shape in expected.items() if key.endswith(f"{_CONV}weight")}
    expected |= {key: shape for key, shape in ones.items() if key in published}
    check_keys(published, expected, f"{_NAME} with {widths} channels and {planes} input planes")
    _check_ones(published, ones)
    model = PCNetContent(**config)
    model.load_state_dict({key: published[keys[key]] for key in shapes}, strict=True)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, PartialConv):
                module.conv.weight /= module.window
    return (model.with_mask_plane() if add_mask_plane else model).eval()


def convert_pcnet_content(
    checkpoint_path: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    category_aware: bool = False,
    add_mask_plane: bool = False,
    sample_size: int = 256,
) -> Path:
    """Convert a published PCNet-C checkpoint into a folder that `ContentPipeline.from_pretrained` loads.

    Args:
        checkpoint_path: see `load_published_state_dict`.
        output_dir: a folder that does not exist yet, or is empty.
        category_aware: the network was trained with the category id in the mask plane, not with 1.
        add_mask_plane: see `convert_pcnet_content_weights`.
        sample_size: side of the crops in pixels that the network was trained on.

    Returns:
        The folder.

    Raises:
        FileNotFoundError, FileExistsError: where there is no checkpoint, or `output_dir` holds files.
        ValueError: as `load_published_state_dict` and `convert_pcnet_content_weights` say.

    Example:
        >>> import tempfile
        >>> model = PCNetContent(block_out_channels=(4, 8), sample_size=32)
        >>> published = {published_key(key, levels=2): value for key, value in model.state_dict().items()}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(published, os.path.join(folder, "published.pth"))
        ...     saved = convert_pcnet_content(os.path.join(folder, "published.pth"), os.path.join(folder, "pcnet-c"))
        ...     sorted(path.name for path in saved.iterdir())
        ['model', 'model_index.json', 'pipeline.py']
    """
    config = {"class_conditioned": category_aware, "add_mask_plane": add_mask_plane, "sample_size": sample_size}
    model = convert_file(checkpoint_path, convert_pcnet_content_weights, **config)
    return save_pipeline(ContentPipeline(model), output_dir)


def _sizes(published: Mapping[str, Tensor]) -> tuple[tuple[int, ...], int]:
    """The channels of each level of the encoder, and the number of input planes."""
    width, planes = convolution_channels(published, _FIRST_CONV, _NAME)
    widths = [width]
    while (key := f"enc_{len(widths) + 1}{_CONV}weight") in published or len(widths) < 2:
        widths.append(convolution_channels(published, key, _NAME)[0])
    if planes not in _PLANES:
        allowed = " or ".join(f"{count} ({names})" for count, names in _PLANES.items())
        raise ValueError(f"The checkpoint must take {allowed} planes; {_FIRST_CONV!r} takes {planes}.")
    return tuple(widths), planes


def _check_ones(published: Mapping[str, Tensor], keys: Mapping[str, Any]) -> None:
    """Refuse a network that does not weigh all known values alike."""
    wrong = [key for key in keys if key in published and not bool((published[key] == 1).all())]
    if wrong:
        raise ValueError(f"The checkpoint does not hold the weights of {_NAME}: {', '.join(wrong)} must hold ones.")
