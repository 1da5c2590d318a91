"""What all networks are: a `ModelMixin` whose folder must hold its tensors and nothing else."""

import os
from typing import Any, Self

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError

_SHOWN = 3
# What diffusers, safetensors and our own constructors end in where a folder is broken; other errors name it themselves.
_BROKEN = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, SafetensorError)


class CheckedModel(ModelMixin):  # type: ignore[misc]
    """A network that loads from complete and finite weights alone.

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
            model, info = super().from_pretrained(place, output_loading_info=True, **kwargs)
            _check_loaded(model, info)
        except OSError:
            raise
        except _BROKEN as error:
            reason = " ".join(str(error).split())[:400] or type(error).__name__
            raise ValueError(f"'{place}' cannot be loaded as {cls.__name__}: {reason}") from error
        return (model, info) if output_loading_info else model


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
