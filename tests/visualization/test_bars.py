"""Pictures of bars."""

import math

import numpy as np
import pytest

from amodal_diffusion.visualization import draw_bars, palette


def widths(picture, colour):
    """Of the bars of a colour, from the top."""
    rows = (np.asarray(picture) == colour).all(axis=2).sum(axis=1)
    starts = np.flatnonzero((rows[1:] > 0) & (rows[:-1] == 0)) + 1
    return [int(rows[start : start + 8].max()) for start in starts]


def test_bars_are_as_long_as_their_values():
    picture = draw_bars({"a": {"x": 10, "y": 5, "z": 0}, "b": {"w": 3}}, size=600)
    first, second = palette(2)
    long, short = widths(picture, first)[:2]
    assert short == pytest.approx(long / 2, abs=3)
    assert widths(picture, second)[0] > 300  # each chart has its own scale


def test_the_picture_is_as_high_as_its_bars():
    low, high = (draw_bars({"a": dict.fromkeys(map(str, range(n)), 1)}, size=500) for n in (2, 12))
    assert low.size[0] == high.size[0] == 500 and high.size[1] - low.size[1] == pytest.approx(10 * 15, abs=2)
    assert draw_bars({"a": {"a name that is much too long for its place " * 4: 1}}, size=200).width == 200


@pytest.mark.parametrize(
    ("charts", "message"),
    [
        ({}, "at least one chart"),
        ({"a": {}}, "at least one bar"),
        ({"a": {"x": -1}}, "bar 'x' of 'a' must be at least 0, got -1"),
        ({"a": {"x": math.nan}}, "must be at least 0, got nan"),
    ],
)
def test_bad_values_are_named(charts, message):
    with pytest.raises(ValueError, match=message):
        draw_bars(charts)
    with pytest.raises(ValueError, match=r"`size` must lie in \[64, 16384\]"):
        draw_bars({"a": {"x": 1}}, size=10)
