"""What all converters do: read a published file, check every key of it, and save the pipeline."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from ..checkpoints import load_published_state_dict
from ..files import atomic_folder

Network = TypeVar("Network", bound=nn.Module)


def convert_file(path: str | os.PathLike[str], convert: Callable[..., Network], **config: Any) -> Network:
    """Read a published file and convert its weights.

    Args:
        path: see `load_published_state_dict`.
        convert: makes the network from the published weights and `config`.
        config: keyword arguments of `convert`.

    Returns:
        The network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or `convert` refuses its weights; the message begins with the file's name.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from safetensors.torch import save_file
        >>> def convert(weights):
        ...     layer = nn.Linear(2, 1)
        ...     layer.load_state_dict(weights)
        ...     return layer
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "published.safetensors")
        ...     save_file({"weight": torch.ones(1, 2), "bias": torch.zeros(1)}, path)
        ...     convert_file(path, convert)
        Linear(in_features=2, out_features=1, bias=True)
    """
    published = load_published_state_dict(path)
    try:
        return convert(published, **config)
    except ValueError as error:
        raise ValueError(f"'{os.fspath(path)}': {error}") from error


def check_keys(weights: Mapping[str, Tensor], expected: Mapping[str, Iterable[int]], name: str) -> None:
    """Raise an error unless weights have exactly the keys and shapes of a network.

    Args:
        weights: tensors by their published keys.
        expected: shapes by their published keys.
        name: of the network, for the message.

    Raises:
        ValueError: lists every missing key, every unexpected key and every key of another shape.

    Example:
        >>> import torch
        >>> check_keys({"weight": torch.zeros(2, 1)}, {"weight": (2, 1)}, "a layer")
        >>> check_keys({"weight": torch.zeros(1, 1)}, {"weight": (2, 1)}, "a layer")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: The checkpoint does not hold the weights of a layer. ...: weight: (1, 1) instead of (2, 1).
    """
    shapes = {key: tuple(shape) for key, shape in expected.items()}
    missing = [key for key in shapes if key not in weights]
    unexpected = [key for key in weights if key not in shapes]
    misshaped = [
        f"{key}: {tuple(weights[key].shape)} instead of {shape}"
        for key, shape in shapes.items()
        if key in weights and tuple(weights[key].shape) != shape
    ]
    problems = [
        f"{title} ({len(keys)}): {', '.join(keys)}"
        for title, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshaped))
        if keys
    ]
    if problems:
        raise ValueError(f"The checkpoint does not hold the weights of {name}. Keys " + "; ".join(problems) + ".")


def convolution_channels(weights: Mapping[str, Tensor], key: str, name: str) -> tuple[int, int]:
    """The output and input channels of a convolution, by which the sizes of a network are told.

    Args:
        weights: tensors by their published keys.
        key: of the weight of the convolution.
        name: of the network, for the message.

    Raises:
        ValueError: there is no such key, or its tensor is no weight of a convolution.

    Example:
        >>> import torch
        >>> convolution_channels({"conv.weight": torch.zeros(8, 3, 5, 5)}, "conv.weight", "PCNet-M")
        (8, 3)
        >>> convolution_channels({"fc.weight": torch.zeros(8, 3)}, "conv.weight", "PCNet-M")
        Traceback (most recent call last):
            ...
        ValueError: The checkpoint does not hold the weights of PCNet-M: it has no key 'conv.weight', only 'fc.weight'.
    """
    if key not in weights:
        known = ", ".join(repr(other) for other in list(weights)[:4])
        more = f" and {len(weights) - 4} more" if len(weights) > 4 else ""
        found = f", only {known}{more}" if known else " nor any other"
        raise ValueError(f"The checkpoint does not hold the weights of {name}: it has no key {key!r}{found}.")
    shape = tuple(weights[key].shape)
    if len(shape) != 4 or 0 in shape:
        raise ValueError(
            f"The checkpoint does not hold the weights of {name}: {key!r} has shape {shape}, which no convolution has."
        )
    return shape[0], shape[1]


def load_weights(
    make: Callable[..., Network],
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    key_of: Callable[[str], str],
    name: str,
) -> Network:
    """Make a network and give it published weights.

    Args:
        make: class of the network.
        config: arguments of `make`, with `block_out_channels`.
        weights: tensors by their published keys, without the prefix "module.".
        key_of: takes a parameter's key in our network and gives the published one.
        name: of the network, for the message.

    Returns:
        The network, float32, in evaluation mode.

    Raises:
        ValueError: see `check_keys`.

    Example:
        >>> from amodal_diffusion import PCNetMask
        >>> config = {"block_out_channels": (4, 8), "sample_size": 32}
        >>> published = {f"unet.{key}": value for key, value in PCNetMask(**config).state_dict().items()}
        >>> load_weights(PCNetMask, config, published, lambda key: f"unet.{key}", "PCNet-M").training
        False
    """
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in make(**config).state_dict().items()}
    expected = {key_of(key): shape for key, shape in shapes.items()}
    check_keys(weights, expected, f"{name} with {config['block_out_channels']} channels")
    model = make(**config)
    model.load_state_dict({key: weights[key_of(key)] for key in shapes}, strict=True)
    return model.eval()


def save_pipeline(pipeline: DiffusionPipeline, output_dir: str | os.PathLike[str]) -> Path:
    """Save a pipeline into a new folder, completely or not at all.

    Args:
        pipeline: what to save.
        output_dir: a folder that does not exist yet, or is empty. Its parents are made.

    Returns:
        The folder.

    Raises:
        FileExistsError: `output_dir` holds files, or is a file.

    Example:
        >>> import tempfile
        >>> from amodal_diffusion import PCNetMask, PCNetMaskPipeline
        >>> pipeline = PCNetMaskPipeline(PCNetMask(block_out_channels=(4, 8), sample_size=32))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sorted(path.name for path in save_pipeline(pipeline, Path(folder, "pcnet-m")).iterdir())
        ['model', 'model_index.json', 'pipeline.py']
    """
    target = Path(output_dir)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"'{target}' exists already; choose a new folder for the converted pipeline.")
    with atomic_folder(target) as staged:
        pipeline.save_pretrained(staged)
    return target
