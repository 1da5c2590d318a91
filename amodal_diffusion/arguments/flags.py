"""Switches that a caller sets: True or False, and nothing that merely counts as one of them."""

from typing import Any

import numpy as np

from ..display import describe
from .names import shown


def check_flag(name: str, value: Any) -> bool:
    """`value`, True or False of Python or numpy.

    Raises:
        TypeError: naming it, where it is anything else.

    Example:
        >>> check_flag("return_dict", np.True_)
        True
        >>> check_flag("class_conditioned", "text")
        Traceback (most recent call last):
            ...
        TypeError: `class_conditioned` must be True or False, got 'text'.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{shown(name)} must be True or False, got {describe(value)}.")
    return bool(value)
