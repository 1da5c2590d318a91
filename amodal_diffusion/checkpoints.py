"""Reading published checkpoints without running any code that they hold, and without what their readers warn of."""

import os
import pickle  # nosec B403 - for the name of an exception; nothing is unpickled with it
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_ENTRIES = ("state_dict", "model")
_PREFIX = "module."
_GLOBAL = re.compile(r"GLOBAL\s+([\w.]+)")

_ignoring = threading.RLock()  # Python's warnings have one state for all threads


def load_published_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the weights of a published checkpoint without running any code that it holds.

    Args:
        path: a torch file (zip or legacy pickle, whatever its ending; CUDA tensors too) or a safetensors file. Of a
            torch file the entry "state_dict" or "model" is taken, or the whole of it where it holds tensors alone.

    Returns:
        Keys without the prefix "module." and their tensors, on the CPU.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where the file is empty, truncated, of another format, holds other objects than plain tensors and
            containers (a pickle that would run code), no weights, or weights that are not finite.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"state_dict": {"module.weight": torch.ones(2)}}, f"{folder}/model.pth")
        ...     load_published_state_dict(f"{folder}/model.pth")
        {'weight': tensor([1., 1.])}
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"'{path}' is a folder; expected a checkpoint file.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint '{path}'.")
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith((_ZIP, _PICKLE)):
        content = _load_torch(path)
    elif head[8:] == b"{":
        content = _load_safetensors(path)
    elif not head:
        raise ValueError(f"The checkpoint '{path}' is empty.")
    else:
        raise ValueError(f"'{path}' is neither a torch checkpoint nor a safetensors file; it begins with {head!r}.")
    return _clean(_weights(content, path), path)


def _load_torch(path: Path) -> Any:
    try:
        with warnings_ignored(UserWarning):  # of the unpickler, about protocols that it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # The message of torch is not passed on: it advises to load the file unsafely.
        name = _GLOBAL.search(str(error))
        detail = f"it asks for `{name.group(1)}`" if name else "or it is damaged"
        raise ValueError(
            f"The checkpoint '{path}' is refused: it holds more than tensors and plain containers, so it could run "
            f"code when loaded ({detail})."
        ) from error
    except (RuntimeError, EOFError, LookupError, ValueError, AttributeError, TypeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"The checkpoint '{path}' is truncated or damaged: {reason}") from error


@contextmanager
def warnings_ignored(category: type[Warning] = Warning) -> Iterator[None]:
    """Inside the block, which one thread has at a time, Python's warnings of a category are not shown.

    Of blocks of `warnings.catch_warnings` that overlap, the last one to end would leave what another one ignores.

    Example:
        >>> with warnings_ignored(UserWarning):
        ...     warnings.warn("nobody sees this")
    """
    with _ignoring, warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield


def _load_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f"The safetensors file '{path}' is truncated or damaged: {error}") from error


def _weights(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise ValueError(f"The checkpoint '{path}' must hold a dictionary, got {type(content).__name__}.")
    entries = [content[name] for name in _ENTRIES if isinstance(content.get(name), Mapping)]
    weights = entries[0] if entries else content
    strange = [str(key) for key, value in weights.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if not weights or strange:
        found = f"got entries {', '.join(strange[:8])} that are no tensors" if strange else "got an empty one"
        raise ValueError(f"The checkpoint '{path}' must hold `state_dict`, `model` or named tensors alone; {found}.")
    return dict(weights)


def _clean(weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    clean = {key.removeprefix(_PREFIX): value for key, value in weights.items()}
    if len(clean) < len(weights):
        raise ValueError(f"The checkpoint '{path}' holds some keys both with and without the prefix {_PREFIX!r}.")
    broken = [key for key, value in clean.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise ValueError(f"The checkpoint '{path}' holds NaN or infinity in {', '.join(broken)}.")
    return clean
