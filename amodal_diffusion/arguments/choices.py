"""Settings that have a few names to choose from."""

from collections.abc import Iterable
from typing import Any

from ..display import describe
from .names import shown


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """`value` as a str, where it is one of `choices`.

    Raises:
        ValueError: naming all of them otherwise, whatever its type.

    Example:
        >>> check_choice("output_type", "np", ("pil", "np", "pt"))
        'np'
        >>> check_choice("output_type", "jpg", ("pil", "np", "pt"))
        Traceback (most recent call last):
            ...
        ValueError: `output_type` must be one of 'pil', 'np', 'pt', got 'jpg'.
    """
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        raise ValueError(
            f"{shown(name)} must be one of {', '.join(map(repr, known)) or 'none'}, got {describe(value)}."
        )
    return str(value)
