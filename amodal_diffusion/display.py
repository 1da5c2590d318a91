"""How the objects of this package print: in a line, with the shapes of arrays instead of their values; and names that
other programs can hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from reprlib import Repr
from typing import Any
from unicodedata import category

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 3, 4, 2


def short_repr(instance: Any) -> str:
    """The `__repr__` of a dataclass that holds arrays: each field in a few words, fields that are None left out.

    Example:
        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> @dataclass
        ... class Crop:
        ...     mask: np.ndarray
        ...     name: str
        ...     __repr__ = short_repr
        >>> Crop(np.zeros((2, 480, 640), bool), "bird")
        Crop(mask=bool (2, 480, 640), name='bird')
    """
    values = ((field.name, getattr(instance, field.name)) for field in fields(instance))
    parts = (f"{name}={describe(value)}" for name, value in values if value is not None)
    return f"{type(instance).__name__}({', '.join(parts)})"


def describe(value: Any) -> str:
    """A value in a few words: dtype and shape of an array, number and kind of the entries of a list of these.

    Example:
        >>> import numpy as np
        >>> describe(np.zeros((3, 4), np.float32)), describe([np.zeros(2), np.zeros(5)]), describe({"a": 1})
        ('float32 (3, 4)', '[2 x ndarray]', "{'a': 1}")
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        if not value.shape:
            return repr(value.item()) if hasattr(value, "item") else repr(value)
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    entries = list(value.values()) if isinstance(value, Mapping) else value
    if isinstance(entries, list | tuple) and any(_is_large(entry) for entry in entries):
        kinds = {type(entry).__name__ for entry in entries if entry is not None}
        return f"[{len(entries)} x {' or '.join(sorted(kinds))}]"
    try:
        return _SHORT.repr(value)
    except ValueError:  # integers of thousands of digits, which Python does not write
        return f"{type(value).__name__} of too many digits"


def plain_name(name: str, limit: int = 255) -> str:
    r"""A name that XML, Photoshop and annotation tools can hold: on one line, without control characters, not too long.

    What XML has no way to write, control characters and halves of characters become U+FFFD.

    Example:
        >>> plain_name("a  cup\x01")
        'a cup\ufffd'
    """
    kept = "".join(char if char.isspace() or _is_plain(char) else "\ufffd" for char in name)
    return " ".join(kept.split())[:limit]


def _is_plain(char: str) -> bool:
    return category(char) not in ("Cc", "Cs") and char not in "\ufffe\uffff"


def _is_large(value: Any) -> bool:
    """Whether the repr of a value would be long: arrays, dataclasses, lists of lists."""
    return (
        hasattr(value, "shape") or hasattr(value, "__dataclass_fields__") or isinstance(value, list | tuple | Mapping)
    )
