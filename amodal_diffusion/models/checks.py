"""Checks of configurations, weights and inputs that several networks share."""

import functools
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError
from torch import Tensor

from ..files import parse_json_object

CONFIG_NAME = "config.json"
_SHOWN = 3
_Network = TypeVar("_Network", bound="CheckedModel")
_P = ParamSpec("_P")
_Answer = TypeVar("_Answer")
# What diffusers, safetensors and our own constructors end in where a folder is broken; other errors name it themselves.
_BROKEN = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, SafetensorError)


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


def graph_call(
    method: Callable[Concatenate[_Network, _P], _Answer],
) -> Callable[Concatenate[_Network, _P], _Answer]:
    """Decorate a method of a network that a graph may answer in torch's place, see `runtimes.use_runtime`.

    In training mode and for an empty batch torch answers always.

    Example:
        >>> class Doubled(CheckedModel):
        ...     @graph_call
        ...     def forward(self, mask):
        ...         return 2 * mask
        >>> network = Doubled().eval()
        >>> network.graphs = {"forward": lambda network, given: -given["mask"]}
        >>> network(torch.ones(1)), network.train()(torch.ones(1))
        (tensor([-1.]), tensor([2.]))
    """
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(self: _Network, /, *args: _P.args, **kwargs: _P.kwargs) -> _Answer:
        if self.graphs is None or self.training:
            return method(self, *args, **kwargs)
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        values = dict(given.arguments)
        del values["self"]
        if any(isinstance(value, Tensor) and value.shape[:1] == (0,) for value in values.values()):
            return method(self, *args, **kwargs)
        answer: _Answer = self.graphs[method.__name__](self, values)
        return answer

    return call


class CheckedModel(ModelMixin):
    """A network that loads from complete and finite weights alone.

    Attributes:
        graphs: what answers for torch, by the name of the method; None where torch does.

    Example:
        >>> import tempfile
        >>> from safetensors.torch import load_file, save_file
        >>> from amodal_diffusion.models import PCNetMask
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     PCNetMask((2, 2), sample_size=8).save_pretrained(folder)
        ...     path = os.path.join(folder, "diffusion_pytorch_model.safetensors")
        ...     save_file({**load_file(path), "more": torch.zeros(1)}, path)
        ...     PCNetMask.from_pretrained(folder)
        Traceback (most recent call last):
            ...
        ValueError: '...' cannot be loaded as PCNetMask: its weights hold `more`, which the network does not have.
    """

    graphs: Mapping[str, Callable[[Any, dict[str, Any]], Any]] | None = None

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *, output_loading_info: bool = False, **kwargs: Any
    ) -> Self:
        """Load from a folder or the Hub, see `ModelMixin.from_pretrained`.

        Raises:
            ValueError: a broken configuration; weights that are broken, lack a tensor or hold another one, or have
                tensors of other shapes or values that are not finite. The folder is named.
            OSError: no such folder or file.
        """
        place = os.fspath(pretrained_model_name_or_path)
        try:
            _check_config(Path(place, kwargs.get("subfolder") or "", CONFIG_NAME))
            model, info = super().from_pretrained(place, output_loading_info=True, **kwargs)
            _check_loaded(model, info)
        except OSError:
            raise
        except _BROKEN as error:
            reason = " ".join(str(error).split())[:400] or type(error).__name__
            raise ValueError(f"'{place}' cannot be loaded as {cls.__name__}: {reason}") from error
        return (model, info) if output_loading_info else model  # type: ignore[return-value]

    def to_json_string(self) -> str:
        """The content of `config.json`, without the place that the network was loaded from: it is of one machine."""
        config = json.loads(super().to_json_string())  # of `ConfigMixin`, which networks have too
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"


def _check_config(path: Path) -> None:
    """Refuse a file that is no JSON object, of which diffusers takes some for the name of a model."""
    if path.is_file():
        parse_json_object(path.read_bytes(), CONFIG_NAME)


def _check_loaded(model: torch.nn.Module, info: dict[str, Any]) -> None:
    for key, problem in (
        ("unexpected_keys", "hold {}, which the network does not have"),
        ("missing_keys", "lack {}"),
        ("mismatched_keys", "have another shape of {}"),
    ):
        names = sorted(name if isinstance(name, str) else str(name[0]) for name in info.get(key) or ())
        if names:
            raise ValueError(f"its weights {problem.format(_listed(names))}.")
    broken = [name for name, value in model.state_dict().items() if not _is_finite(value)]
    if broken:
        raise ValueError(f"its weights hold NaN or infinity in {_listed(broken)}.")


def _is_finite(value: torch.Tensor) -> bool:
    return value.is_meta or not value.is_floating_point() or bool(value.isfinite().all())


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"`{name}`" for name in names[:_SHOWN]) + more
