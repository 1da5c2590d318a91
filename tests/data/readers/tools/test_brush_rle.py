"""Label Studio's run lengths: numbers of its own package, round trips, broken codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from amodal_diffusion.data.readers.tools.brush_rle import decode_brush_rle, encode_brush_rle

# (mask, bytes) as label_studio_sdk 2.1.2 writes them (converter.brush.mask2rle).
PRINTED = [
    ([[0, 1]], [0, 0, 0, 8, 57, 27, 252, 96, 17, 255, 128]),
    ([[1, 1, 1], [0, 0, 0]], [0, 0, 0, 24, 57, 27, 253, 191, 251, 96, 0]),
    (
        [[0, 1, 0, 1, 1], [1, 0, 0, 1, 0], [1, 1, 1, 1, 1]],
        [0, 0, 0, 60, 57, 27, 252, 96, 17, 255, 198, 1, 111, 254, 112, 8, 255, 227, 0, 194, 127, 224],
    ),
]


@pytest.mark.parametrize(("mask", "printed"), PRINTED)
def test_as_label_studio_writes(mask, printed):
    assert encode_brush_rle(mask) == printed
    np.testing.assert_array_equal(decode_brush_rle(printed, *np.shape(mask)), np.array(mask, bool))


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)))
def test_round_trip(mask):
    np.testing.assert_array_equal(decode_brush_rle(encode_brush_rle(mask), *mask.shape), mask)


def test_runs_longer_than_the_longest():
    mask = np.zeros((300, 400), bool)
    mask[1:-1] = True
    np.testing.assert_array_equal(decode_brush_rle(encode_brush_rle(mask), 300, 400), mask)


def test_literal_words():
    """A run of single values, which our encoder does not write: 4 values, 8 bits each, the alpha one is 255."""
    bits = f"{4:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}" + "0" + "00" + "011" + "0" * 24 + "1" * 8
    code = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    assert decode_brush_rle(list(code), 1, 1).all()


@given(st.lists(st.integers(0, 255), max_size=60))
def test_any_bytes_are_a_mask_or_a_value_error(code):
    try:
        assert decode_brush_rle(code, 3, 5).shape == (3, 5)
    except ValueError as error:
        assert "rle" in str(error)


@pytest.mark.parametrize("code", [[], [300], ["a"], None, [0, 0, 0, 8], encode_brush_rle(np.ones((3, 3)))])
def test_broken_codes(code):
    with pytest.raises(ValueError, match="rle"):
        decode_brush_rle(code, 1, 2)
