"""Annotation files that are pickles (MP3D-Amodal), read without running code from them.

A pickle is a program: what it names is imported and called. This reader looks names up in a short table of its own, in
which stand-ins for numpy's arrays and numbers give plain lists and numbers. It imports nothing.
"""

from __future__ import annotations

import math
import pickle  # noqa: S403 - see the module's text
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

PICKLE_SUFFIXES = (".pkl", ".pickle")
_PLAIN_DTYPE = re.compile(r"[<>|=]?(b1|\?|[iu][1248]|f[248])")
# What reading a broken or forged pickle can end in.
_BROKEN = (
    pickle.UnpicklingError, EOFError, ArithmeticError, AttributeError, ImportError, LookupError, MemoryError,
    TypeError, ValueError,
)  # fmt: skip


class PickleError(ValueError):
    """The pickle is broken, or asks for what no annotation file needs.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "file.pkl").write_bytes(pickle.dumps(print))
        ...     try:
        ...         load_pickle(Path(folder, "file.pkl"))
        ...     except PickleError as error:
        ...         print(error)
        refused pickle: it names builtins.print, which no annotation file needs
    """


class _Refused(pickle.UnpicklingError):
    pass


def load_pickle(path: Path) -> Any:
    """Read a pickle of dicts, lists, text, numbers and numpy arrays of numbers; arrays come back as lists.

    Args:
        path: the file. Pickles of Python 2 are read too, their text as Latin-1.

    Raises:
        OSError: the file cannot be read.
        PickleError: it is broken or cut off, or names anything but the few classes that such data need: the message
            says what it names.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "file.pkl").write_bytes(pickle.dumps({"images": [1, 2]}))
        ...     load_pickle(Path(folder, "file.pkl"))
        {'images': [1, 2]}
    """
    try:
        with path.open("rb") as file:
            return _RestrictedUnpickler(file, encoding="latin1").load()
    except _Refused as error:
        raise PickleError(f"refused pickle: {error}") from error
    except _BROKEN as error:
        raise PickleError(f"broken pickle: {' '.join(str(error).split()) or type(error).__name__}") from error


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        """The stand-in for a name."""
        found = _ALLOWED.get((module_name, global_name))
        if found is None:
            raise _Refused(f"it names {module_name}.{global_name}, which no annotation file needs")
        return found

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _Refused("it refers to objects outside of the file")


class _Dtype:
    """Stands in for `numpy.dtype`, of plain numbers alone."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise _Refused(f"it holds an array of the dtype {code!r}, only plain numbers are read")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"unknown state of a dtype: {state!r}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(list[Any]):
    """Stands in for `numpy.ndarray`, and is the list of its numbers."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_column, data = state
        self[:] = _numbers(data, dtype, shape, "F" if by_column else "C")


def _numbers(data: Any, dtype: Any, shape: Any, order: Any = "C") -> list[Any]:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise ValueError("an array must be made of bytes and a dtype")
    if not isinstance(shape, tuple) or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError(f"an array has the shape {shape!r}")
    if math.prod(shape) * dtype.dtype.itemsize != len(data) or not 1 <= len(shape) <= 4:
        raise ValueError(f"an array of shape {shape} has {len(data)} bytes")
    values: list[Any] = np.frombuffer(data, dtype.dtype).reshape(shape, order=order).tolist()
    return values


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if kind is not _Array:
        raise ValueError(f"an array of the type {kind!r}")
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    return _Array(_numbers(data, dtype, shape, order))


def _scalar(dtype: Any, data: Any) -> Any:
    return _numbers(data, dtype, (1,))[0]


def _encode(text: Any, encoding: Any) -> bytes:
    """`bytes` as the protocols before the third write them."""
    if encoding != "latin1" or not isinstance(text, str):
        raise ValueError(f"text in the encoding {encoding!r}")
    return text.encode("latin1")


def _bytes(values: Any = b"", encoding: Any = "latin1") -> bytes:
    """`bytes` and `bytearray` of given content, never of a given length."""
    if isinstance(values, bytes | bytearray):
        return bytes(values)
    if isinstance(values, Sequence) and not isinstance(values, str):
        return bytes(values)
    return _encode(values, str(encoding).replace("-", ""))


_CORES = ("numpy.core", "numpy._core")
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{(f"{core}.multiarray", "_reconstruct"): _reconstruct for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _from_buffer for core in _CORES},
    **{(module, name): kind for module in ("builtins", "__builtin__") for name, kind in (
        ("set", set), ("frozenset", frozenset), ("bytes", _bytes), ("bytearray", _bytes),
    )},
}  # fmt: skip
