"""Sums over blocks against padding and plain sums."""

import numpy as np
import pytest

from amodal_diffusion.masks import block_sums


@pytest.mark.parametrize("step", [1, 2, 3, 7])
@pytest.mark.parametrize("repeat_edge", [False, True])
@pytest.mark.parametrize("shape", [(6, 9), (7, 5, 3), (1, 1), (3, 0)])
def test_sums_are_those_of_the_padded_picture(step, repeat_edge, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    margins = [(0, -side % step) for side in shape[:2]] + [(0, 0)] * (len(shape) - 2)
    padded = np.pad(pixels, margins, mode="edge" if repeat_edge else "constant") if pixels.size else pixels
    height, width = padded.shape[0] // step, padded.shape[1] // step
    if pixels.size:
        expected = padded.reshape(height, step, width, step, *shape[2:]).sum(axis=(1, 3))
    else:
        expected = np.zeros((-(-shape[0] // step), 0), np.uint32)
    np.testing.assert_array_equal(block_sums(pixels, step, repeat_edge=repeat_edge), expected)
    mask = pixels > 100
    sums = (block_sums(kind, step, repeat_edge=repeat_edge) for kind in (mask, mask.astype(np.uint8)))
    np.testing.assert_array_equal(*sums)


def test_steps_that_hold_more_than_a_byte_counts():
    for step in (255, 256, 300):
        assert block_sums(np.ones((2 * step, step), bool), step).tolist() == [[step**2], [step**2]]
    assert block_sums(np.full((300, 300, 3), 255, np.uint8), 300).tolist() == [[[90_000 * 255] * 3]]
