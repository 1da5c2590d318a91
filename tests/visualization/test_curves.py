"""Pictures of curves."""

import math

import numpy as np
import pytest

from amodal_diffusion.visualization import Curve, draw_curves, palette


def draw(*curves, **options):
    return draw_curves(curves, x_label="hidden share", y_label="mIoU", **options)


def pixels_of(picture, colour):
    return np.argwhere((np.asarray(picture) == colour).all(axis=2))  # (P, 2) rows and columns


def test_values_lie_where_the_axes_say():
    colour = palette(1)[0]
    low, high = (pixels_of(draw(Curve("a", [50], [value]), size=600), colour) for value in (20, 80))
    width, height = 600, 400
    plot = [row for row in high.tolist() if row[0] < height]
    top, left, right, bottom = 60 * 0.6, 75 * 0.6, width - 30 * 0.6, height - 75 * 0.6
    row, column = np.mean(plot, axis=0)
    assert row == pytest.approx(bottom - 0.8 * (bottom - top), abs=2)
    assert column == pytest.approx((left + right) / 2, abs=2)
    assert np.mean([r for r, _ in low.tolist() if r < height]) > row


def test_bands_are_drawn_where_there_are_intervals():
    plain = Curve("a", [10, 50, 90], [40, 50, 60])
    nothing = Curve("a", [10, 50, 90], [40, 50, 60], [(math.nan, math.nan)] * 3)
    assert draw(nothing).tobytes() == draw(plain).tobytes()
    whole = Curve("a", [10, 50, 90], [40, 50, 60], [(30, 50), (40, 60), (50, 70)])
    gap = Curve("a", [10, 50, 90], [40, 50, 60], [(30, 50), (math.nan, math.nan), (50, 70)])
    changed = [(np.asarray(draw(curve)) != np.asarray(draw(plain))).any(axis=2).sum() for curve in (whole, gap)]
    assert changed[0] > 10 * changed[1] > 0  # a point alone gets a bar, nothing is joined across the gap


def test_every_curve_has_a_colour_a_mark_and_a_key():
    curves = [Curve(f"method {index}", [20, 60], [20 * index, 20 * index + 10]) for index in range(4)]
    picture = draw(*curves)
    for colour in palette(4):
        rows = pixels_of(picture, colour)[:, 0]
        assert (rows < 600).any() and (rows > 667).any()
    assert draw(*curves[:1]).height < picture.height
    assert draw(Curve("none", [], [])).size == draw(curves[0]).size


def test_long_names_keep_their_end():
    assert draw(Curve("x" * 400, [5], [5])).width == 1000
    ends = [draw(Curve("x" * 400 + end, [5], [5])).tobytes() for end in "ab"]
    assert ends[0] != ends[1]


def test_bad_curves_are_named():
    with pytest.raises(ValueError, match="curve 'a' must have as many values .* got 2 positions, 1 values and 0 inter"):
        Curve("a", [1, 2], [1])
    with pytest.raises(ValueError, match=r"curve 'a' must lie in \[0, 100\], got 101"):
        draw(Curve("a", [1], [101]))
    with pytest.raises(ValueError, match=r"`size` must lie in \[64, 16384\]"):
        draw(size=20)
