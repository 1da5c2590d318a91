"""Numbers that a caller gives: of the right kind, finite, and within what the setting takes."""

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..display import describe
from .names import shown


def check_integer(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """`value` as an int, where it is one of Python or numpy within the bounds, which both belong to them.

    Args:
        name: of the argument, for the message.
        value: what the caller gave. True and False are no numbers.
        least: the smallest that is taken; None for any.
        most: the largest.

    Raises:
        TypeError: where it is no integer, also where it is a float such as 2.0.
        ValueError: where it is out of bounds.

    Example:
        >>> check_integer("batch_size", 8, 1)
        8
        >>> check_integer("batch_size", 0, 1)
        Traceback (most recent call last):
            ...
        ValueError: `batch_size` must be at least 1, got 0.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{shown(name)} must be an integer, got {_kind(value)}.")
    number = int(value)
    if (least is not None and number < least) or (most is not None and number > most):
        raise ValueError(f"{shown(name)} must {_bounds(least, None, most, None)}, got {describe(value)}.")
    return number


def check_number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """`value` as a float, where it is a finite number of Python or numpy within the bounds.

    Args:
        name: of the argument, for the message.
        value: what the caller gave. True and False are no numbers.
        least: the smallest that is taken; None for any.
        above: what it must be larger than.
        most: the largest that is taken.
        below: what it must be smaller than.

    Raises:
        TypeError: where it is no number.
        ValueError: where it is out of bounds, NaN or infinite.

    Example:
        >>> check_number("mask_threshold", 1, least=0, most=1)
        1.0
        >>> check_number("mask_threshold", 1, least=0, below=1)
        Traceback (most recent call last):
            ...
        ValueError: `mask_threshold` must lie in [0, 1), got 1.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{shown(name)} must be a number, got {_kind(value)}.")
    number = _as_float(value)
    is_within = (
        (least is None or number >= least)
        and (above is None or number > above)
        and (most is None or number <= most)
        and (below is None or number < below)
    )
    if not is_within:
        raise ValueError(f"{shown(name)} must {_bounds(least, above, most, below)}, got {describe(value)}.")
    if not math.isfinite(number):
        raise ValueError(f"{shown(name)} must be finite, got {describe(value)}.")
    return number


def _kind(value: Any) -> str:
    """What is no number in a few words; an array or a tensor without dimensions looks like one, so by its type."""
    if hasattr(value, "dtype") and getattr(value, "shape", None) == () and not isinstance(value, np.generic):
        return f"{type(value).__name__}({describe(value)})"
    return describe(value)


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf if value > 0 else -math.inf


def _bounds(least: float | None, above: float | None, most: float | None, below: float | None) -> str:
    low, high = [bound for bound in (least, above) if bound is not None], [most if below is None else below]
    if high == [None]:
        return f"be {'at least' if above is None else 'above'} {_plain(low[0])}"
    if not low:
        return f"be {'at most' if below is None else 'below'} {_plain(high[0])}"
    return f"lie in {'[' if above is None else '('}{_plain(low[0])}, {_plain(high[0])}{']' if below is None else ')'}"


def _plain(bound: float | None) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)
