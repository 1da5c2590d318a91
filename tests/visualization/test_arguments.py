"""Arguments of the pictures that are none are named, by all of them alike."""

import numpy as np
import pytest

from amodal_diffusion.visualization import (
    Curve,
    draw_bars,
    draw_curves,
    draw_order_graph,
    draw_overlay,
    draw_samples,
    draw_uncertainty,
    palette,
)

PHOTO = np.zeros((24, 32, 3), np.uint8)
MASKS = np.ones((2, 24, 32), bool)
DRAW = {
    "overlay": lambda **options: draw_overlay(PHOTO, MASKS, MASKS, **options),
    "order": lambda **options: draw_order_graph([[0, 1], [-1, 0]], **options),
    "samples": lambda **options: draw_samples(PHOTO, MASKS[0], MASKS, **options),
    "uncertainty": lambda **options: draw_uncertainty(PHOTO, MASKS * 0.5, **options),
    "bars": lambda **options: draw_bars({"objects": {"cup": 1}}, **options),
    "curves": lambda **options: draw_curves(
        [Curve("a", [0, 50], [9, 8])], **{"x_label": "x", "y_label": "y"} | options
    ),
}
WRONG = {
    "size": [("a", TypeError), (640.5, TypeError), (True, TypeError), (8, ValueError), (10**9, ValueError)],
    "alpha": [("a", TypeError), (None, TypeError), (True, TypeError), (2, ValueError), (10**400, ValueError)],
    "legend": [("no", TypeError), (None, TypeError), (1, TypeError)],
    "names": [
        (["a", 2.5], TypeError),
        (["a", True], TypeError),
        ([b"a", "b"], TypeError),
        ("ab", ValueError),
        (3, ValueError),
        (["a"], ValueError),
    ],
    "highest": [("a", TypeError), (True, TypeError), (float("nan"), ValueError), (0, ValueError)],
    "columns": [(1.5, TypeError), (True, TypeError), ("a", TypeError), (0, ValueError)],
    "scores": [(["a", "b"], TypeError), (3, ValueError), ([0.5], ValueError)],
    "x_label": [(3, TypeError), (None, TypeError)],
    "y_label": [(3, TypeError)],
}
TAKES = {
    "overlay": ("size", "alpha", "legend", "names"),
    "order": ("size", "legend", "names"),
    "samples": ("size", "alpha", "columns", "scores"),
    "uncertainty": ("size", "legend", "highest"),
    "bars": ("size",),
    "curves": ("size", "x_label", "y_label"),
}
CASES = [
    (picture, name, value, error) for picture, names in TAKES.items() for name in names for value, error in WRONG[name]
]


SHARED = ("legend", "size", "alpha", "columns", "highest", "scores")
"""Flags and numbers, which have the messages of all doors."""


@pytest.mark.parametrize(("picture", "name", "value", "error"), CASES)
def test_options_that_are_none(picture, name, value, error):
    shown = f"`{name}`" if name in SHARED else name
    with pytest.raises(error, match=f"^{shown} must "):
        DRAW[picture](**{name: value})


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: draw_uncertainty(PHOTO, "a"), TypeError, "uncertainty must hold numbers"),
        (lambda: draw_bars({"a": 3}), TypeError, "chart 'a' must be a dictionary, got 3"),
        (lambda: draw_bars({"a": {"b": "c"}}), TypeError, "bar 'b' of 'a' must be a number, got 'c'"),
        (lambda: draw_bars({3: {"b": 1}}), TypeError, "charts must be a text, got 3"),
        (lambda: draw_bars({"a": {4: 1}}), TypeError, "bar of 'a' must be a text, got 4"),
        (lambda: draw_bars([1]), ValueError, "`charts` must have at least one chart"),
        (lambda: Curve(3, [1], [1]), TypeError, "name of a curve must be a text, got 3"),
        (lambda: Curve("a", None, [1]), TypeError, "curve 'a': `x` must be a list, got None"),
        (
            lambda: draw_curves([Curve("a", ["b"], [1])], x_label="x", y_label="y"),
            TypeError,
            "curve 'a' must be a number, got 'b'",
        ),
        (lambda: palette(1.5), TypeError, "`n` must be an integer, got 1.5"),
    ],
)
def test_what_is_drawn_is_named(draw, error, message):
    with pytest.raises(error, match=message):
        draw()


@pytest.mark.filterwarnings("error")
def test_a_darkest_value_near_zero():
    assert draw_uncertainty(PHOTO, MASKS * 0.5, highest=1e-300, size=64).width == 64


def test_what_numpy_gives_and_no_names():
    assert draw_overlay(PHOTO, MASKS, MASKS, size=np.int64(64), legend=np.False_, alpha=np.float32(0.5)).width == 64
    assert draw_overlay(PHOTO, MASKS, MASKS, size=64, names=[None, np.str_("cup")]).width == 64
    assert draw_overlay(PHOTO, MASKS, MASKS, size=64, names=range(2)).width == 64  # ids of categories
