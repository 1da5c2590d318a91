"""Checks of configurations and inputs that several networks share."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def check_positive_integers(**values: int | Sequence[int]) -> None:
    """Raise an error unless all sizes of a configuration are positive integers.

    Raises:
        ValueError: naming the first entry that is not.

    Example:
        >>> check_positive_integers(sample_size=64, block_out_channels=(8, 16))
        >>> check_positive_integers(sample_size=0)
        Traceback (most recent call last):
            ...
        ValueError: `sample_size` must hold positive integers, got 0.
    """
    for name, value in values.items():
        for number in value if isinstance(value, list | tuple) else (value,):
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise ValueError(f"`{name}` must hold positive integers, got {number!r}.")


def check_flags(**values: bool) -> None:
    """Raise an error unless all switches of a configuration are True or False.

    Raises:
        TypeError: naming the first that is not.

    Example:
        >>> check_flags(class_conditioned=True)
        >>> check_flags(class_conditioned="text")
        Traceback (most recent call last):
            ...
        TypeError: `class_conditioned` must be True or False, got 'text'.
    """
    for name, value in values.items():
        if not isinstance(value, bool):
            raise TypeError(f"`{name}` must be True or False, got {value!r}.")


def check_mask_plane(name: str, plane: Tensor, patch_size: int, shape: Sequence[int] | None = None) -> None:
    """Raise an error unless a plane is (B, 1, h, w), or of `shape`, with sides that `patch_size` divides.

    Raises:
        ValueError: naming the plane.

    Example:
        >>> check_mask_plane("mask", torch.zeros(2, 1, 8, 8), patch_size=2)
        >>> check_mask_plane("mask", torch.zeros(2, 1, 8, 7), patch_size=2)
        Traceback (most recent call last):
            ...
        ValueError: `mask` must have sides that are multiples of 2, got (8, 7).
    """
    if plane.ndim != 4 or plane.shape[1] != 1 or (shape is not None and plane.shape != tuple(shape)):
        wanted = "(B, 1, h, w)" if shape is None else str(tuple(shape))
        raise ValueError(f"`{name}` must have shape {wanted}, got {tuple(plane.shape)}.")
    if plane.shape[2] % patch_size or plane.shape[3] % patch_size:
        raise ValueError(f"`{name}` must have sides that are multiples of {patch_size}, got {tuple(plane.shape[2:])}.")


def check_condition(name: str, value: Tensor | None, setting: str, wanted: bool, shape: Sequence[int]) -> None:
    """Raise an error unless an optional input is given exactly where the configuration asks for it.

    Args:
        name: name of the input.
        value: the input, None where it was not given.
        setting: name of the setting that decides.
        wanted: value of that setting.
        shape: shape that the input must have.

    Raises:
        ValueError: naming the input.

    Example:
        >>> check_condition("image", None, "use_rgb", False, (1, 3, 8, 8))
        >>> check_condition("image", None, "use_rgb", True, (1, 3, 8, 8))
        Traceback (most recent call last):
            ...
        ValueError: `image` must be given: `use_rgb` is True.
    """
    if wanted != (value is not None):
        raise ValueError(f"`{name}` must be {'given' if wanted else 'None'}: `{setting}` is {wanted}.")
    if value is not None and value.shape != tuple(shape):
        raise ValueError(f"`{name}` must have shape {tuple(shape)}, got {tuple(value.shape)}.")


def stack_planes(
    config: Mapping[str, Any],
    mask: Tensor,
    image: Tensor | None,
    category_ids: Tensor | None,
    dtype: torch.dtype,
    **others: Tensor,
) -> Tensor:
    """Check the inputs of a network of [Z20] and put its planes together.

    Args:
        config: of the network, with `patch_size`, `use_rgb` and `class_conditioned`.
        mask: (B, 1, h, w), multiplied by the category id where the network is class-conditioned.
        image: (B, 3, h, w) where the network was made with `use_rgb`, else None.
        category_ids: (B,) where the network was made with `class_conditioned`, else None.
        dtype: dtype of the network.
        others: further planes (B, 1, h, w) by name, which come between `mask` and `image`.

    Returns:
        (B, planes, h, w) in `dtype`.

    Raises:
        ValueError: naming the input that is missing, unwanted or of a wrong shape.

    Example:
        >>> config = {"patch_size": 1, "use_rgb": False, "class_conditioned": True}
        >>> mask, eraser = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
        >>> planes = stack_planes(config, mask, None, torch.tensor([3]), torch.float32, eraser=eraser)
        >>> planes.shape, planes[0, :, 0, 0]
        (torch.Size([1, 2, 2, 2]), tensor([3., 0.]))
    """
    check_mask_plane("mask", mask, config["patch_size"])
    for name, plane in others.items():
        check_mask_plane(name, plane, config["patch_size"], mask.shape)
    batch, _, height, width = mask.shape
    check_condition("image", image, "use_rgb", config["use_rgb"], (batch, 3, height, width))
    check_condition("category_ids", category_ids, "class_conditioned", config["class_conditioned"], (batch,))
    if category_ids is not None:
        mask = mask * category_ids.to(mask.dtype).view(-1, 1, 1, 1)
    planes = [mask, *others.values(), *([] if image is None else [image])]
    return torch.cat([plane.to(dtype) for plane in planes], dim=1)
