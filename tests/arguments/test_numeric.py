"""Numbers, and names of choices, at every door by one rule."""

import math

import numpy as np
import pytest
import torch

from amodal_diffusion.arguments.choices import check_choice
from amodal_diffusion.arguments.numeric import check_integer, check_number

HUGE = 10**400  # no float holds it


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_integers_of_python_and_numpy(value):
    given = check_integer("rim", value, 0, 3)
    assert given == 3 and type(given) is int


@pytest.mark.parametrize(
    "value", [True, np.True_, 2.0, np.float32(2), "2", None, [2], np.array([2]), np.array(2), torch.tensor(2)]
)
def test_what_is_no_integer(value):
    with pytest.raises(TypeError, match="^`rim` must be an integer, got .*[.]$"):
        check_integer("rim", value)


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (-1, {"least": 0}, "`rim` must be at least 0, got -1."),
        (9, {"most": 8}, "`rim` must be at most 8, got 9."),
        (9, {"least": 1, "most": 8}, "`rim` must lie in [1, 8], got 9."),
        (-HUGE, {"least": 0}, "`rim` must be at least 0, got -10000000000000000...0000000000000000000."),
    ],
)
def test_integers_out_of_bounds(value, bounds, message):
    with pytest.raises(ValueError, match="must") as refused:
        check_integer("rim", value, **bounds)
    assert str(refused.value) == message


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.int8(1)])
def test_numbers_of_python_and_numpy(value):
    given = check_number("alpha", value, least=0, most=1)
    assert given == 1 and type(given) is float


@pytest.mark.parametrize(
    "value", [True, np.False_, "0.5", None, 1j, [0.5], np.array([0.5]), np.array(0.5), torch.tensor(0.5)]
)
def test_what_is_no_number(value):
    with pytest.raises(TypeError, match="^`alpha` must be a number, got .*[.]$"):
        check_number("alpha", value, least=0)


@pytest.mark.parametrize(
    ("value", "bounds", "text"),
    [
        (-0.1, {"least": 0}, "be at least 0"),
        (0, {"above": 0}, "be above 0"),
        (1.1, {"most": 1}, "be at most 1"),
        (1, {"below": 1}, "be below 1"),
        (1.1, {"least": 0, "most": 1}, "lie in [0, 1]"),
        (1, {"least": 0, "below": 1}, "lie in [0, 1)"),
        (0, {"above": 0, "most": 1}, "lie in (0, 1]"),
        (0, {"above": 0, "below": 1}, "lie in (0, 1)"),
        (math.nan, {}, "be finite"),
        (math.nan, {"least": 0}, "be at least 0"),
        (math.inf, {"least": 0}, "be finite"),
        (math.inf, {"most": 1}, "be at most 1"),
        (HUGE, {"below": 0.25}, "be below 0.25"),
        (-HUGE, {"least": 0.001}, "be at least 0.001"),
        (-HUGE, {}, "be finite"),
    ],
)
def test_numbers_out_of_bounds(value, bounds, text):
    with pytest.raises(ValueError, match="must") as refused:
        check_number("alpha", value, **bounds)
    assert str(refused.value).startswith(f"`alpha` must {text}, got ")


def test_arrays_without_dimensions_do_not_look_like_numbers():
    with pytest.raises(TypeError, match="`rim` must be an integer, got Tensor"):
        check_integer("rim", torch.tensor(2))
    with pytest.raises(TypeError, match="`alpha` must be a number, got ndarray"):
        check_number("alpha", np.array(0.5))


def test_bounds_are_not_rounded():
    with pytest.raises(ValueError, match=r"in \[0, 4294967295\], got 4294967296[.]"):
        check_integer("seed", 2**32, 0, 2**32 - 1)


def test_what_is_no_name_stands_as_it_is():
    with pytest.raises(ValueError, match=r"^curve 'a' must lie in \[0, 100\], got 101[.]$"):
        check_number("curve 'a'", 101, least=0, most=100)


@pytest.mark.parametrize("value", ["jpg", None, 1, ["np"], np.zeros(3)])
def test_what_is_none_of_the_choices(value):
    with pytest.raises(ValueError, match="^`output_type` must be one of 'pil', 'np', got .*[.]$"):
        check_choice("output_type", value, ("pil", "np"))
    given = check_choice("output_type", np.str_("np"), iter(["pil", "np"]))
    assert given == "np" and type(given) is str
