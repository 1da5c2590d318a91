"""Checking every key of a published checkpoint, and writing the pipeline folder in one step."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from diffusers import DiffusionPipeline
from torch import Tensor, nn

from ..checkpoints import load_published_state_dict
from ..files import atomic_folder

Network = TypeVar("Network", bound=nn.Module)


def convert_file(path: str | os.PathLike[str], convert: Callable[..., Network], **config: Any) -> Network:
    """The network that `convert` makes of the weights in a published file.

    Args:
        path: see `load_published_state_dict`.
        convert: published weights and `config` -> the network.
        config: keyword arguments of `convert`.

    Raises:
        FileNotFoundError, ValueError: as `load_published_state_dict` says; and as `convert` says, naming the file.

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
    """Refuse weights that do not fit a network exactly.

    Args:
        weights: published keys and tensors.
        expected: published keys and shapes.
        name: what the weights should be, for the message.

    Raises:
        ValueError: naming every missing key, every unexpected key and every key of another shape.

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


def save_pipeline(pipeline: DiffusionPipeline, output_dir: str | os.PathLike[str]) -> Path:
    """Save into a new folder that appears complete or not at all.

    Args:
        pipeline: what to save.
        output_dir: the folder; its parents are made. It must not exist, or be empty.

    Raises:
        FileExistsError: where `output_dir` holds files, or is one.

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
