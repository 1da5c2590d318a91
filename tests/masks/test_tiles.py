"""Stacks of planes kept as tiles, against the dense arrays that they stand for."""

import pickle

import numpy as np
import pytest
import torch

from amodal_diffusion.masks import TileStack, encode_rle, mask_areas, mask_boxes, to_mask_stack
from mask_helpers import random_masks


@pytest.fixture
def dense():
    masks = random_masks(3, 6, 40, 57)
    masks[2] = False
    return masks


@pytest.fixture
def rng():
    return np.random.default_rng(3)


class TestDense:
    def test_is_what_was_put_in(self, dense):
        stack = TileStack.from_dense(dense)
        np.testing.assert_array_equal(np.asarray(stack), dense)
        np.testing.assert_array_equal(stack.boxes, mask_boxes(dense))
        assert stack.shape == dense.shape and stack.dtype == bool and stack.ndim == 3 and len(stack) == 6

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
    def test_keeps_every_value_and_its_dtype(self, rng, dtype):
        values = (rng.random((3, 2, 9, 11)) * 200).astype(dtype) * (rng.random((3, 2, 9, 11)) > 0.8)
        stack = TileStack.from_dense(values.astype(dtype))
        back = np.asarray(stack)
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, values)

    def test_planes_one_by_one(self, dense):
        stack = TileStack.from_dense(dense)
        np.testing.assert_array_equal(np.stack(list(stack)), dense)
        np.testing.assert_array_equal(stack[-1], dense[-1])
        np.testing.assert_array_equal(stack[np.int64(3)], dense[3])
        with pytest.raises(IndexError):
            stack[6]

    @pytest.mark.parametrize(
        "index", [slice(1, 5, 2), [4, 0, 4], np.array([5, 1]), np.array([True, False, True, False, False, True]), []]
    )
    def test_a_part_shares_the_tiles(self, dense, index):
        stack = TileStack.from_dense(dense)
        part = stack[index]
        index = np.array(index, int) if isinstance(index, list) else index
        np.testing.assert_array_equal(np.asarray(part), dense[index])
        assert isinstance(part, TileStack)
        assert all(any(np.shares_memory(tile, old) for old in stack.tiles) for tile in part.tiles if tile.size)

    def test_a_wrong_index_says_what_is_possible(self, dense):
        with pytest.raises(TypeError, match=r"np\.asarray\(stack\)"):
            TileStack.from_dense(dense)[0, 1]

    def test_no_planes(self):
        stack = TileStack([], np.zeros((0, 4)), 4, 5, dtype=np.float32, inner=(3,))
        assert np.asarray(stack).shape == (0, 3, 4, 5) and np.asarray(stack).dtype == np.float32
        assert stack.areas().shape == (0, 3)

    def test_asarray_with_a_dtype(self, dense):
        stack = TileStack.from_dense(dense)
        assert np.asarray(stack, dtype=np.float32).dtype == np.float32
        with pytest.raises(ValueError, match="copy=False"):
            np.array(stack, copy=False)

    def test_functions_of_masks_take_it(self, dense):
        stack = TileStack.from_dense(dense)
        np.testing.assert_array_equal(mask_areas(stack), mask_areas(dense))
        np.testing.assert_array_equal(to_mask_stack(stack), dense)
        assert encode_rle(stack[1]) == encode_rle(dense[1])
        np.testing.assert_array_equal(torch.from_numpy(stack.to_dense()), dense)

    def test_survives_pickling(self, dense):
        np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(TileStack.from_dense(dense)))), dense)


class TestParts:
    def test_areas(self, dense):
        np.testing.assert_array_equal(TileStack.from_dense(dense).areas(), dense.sum(axis=(1, 2)))
        samples = np.stack([dense, ~dense], axis=1)
        np.testing.assert_array_equal(TileStack.from_dense(samples).areas(), samples.sum(axis=(2, 3)))

    def test_crops(self, dense, rng):
        stack = TileStack.from_dense(dense)
        for _ in range(60):
            x, y = int(rng.integers(57)), int(rng.integers(40))
            w, h = int(rng.integers(58 - x)), int(rng.integers(41 - y))
            index = int(rng.integers(6))
            np.testing.assert_array_equal(stack.crop(index, (x, y, w, h)), dense[index, y : y + h, x : x + w])
        with pytest.raises(ValueError, match=r"`box` must lie in 57x40, got \[50, 0, 8, 4\]"):
            stack.crop(0, (50, 0, 8, 4))

    def test_cannot_be_written_to(self, dense):
        stack = TileStack.from_dense(dense)
        with pytest.raises(ValueError, match="read-only"):
            stack.tiles[0][...] = True
        with pytest.raises(TypeError, match="item assignment"):
            stack[0] = dense[0]

    def test_takes_the_memory_of_the_boxes(self):
        masks = np.zeros((10, 1000, 1000), bool)
        masks[:, 10:20, 30:50] = True
        assert TileStack.from_dense(masks).nbytes == 10 * 200

    def test_repr_is_one_line(self, dense):
        assert repr(TileStack.from_dense(dense)).startswith("TileStack(6 planes of 57x40, bool, ")


@pytest.mark.parametrize(
    ("tiles", "boxes", "message"),
    [
        ([np.ones((2, 2))], [[0, 0, 2, 2], [0, 0, 1, 1]], "`boxes` must have one box for each of 1 tiles, got 2"),
        ([np.ones((2, 2))], [[4, 0, 2, 2]], r"`boxes\[0\]` must lie in 5x4, got \[4, 0, 2, 2\]"),
        ([np.ones((2, 2))], [[-1, 0, 2, 2]], r"`boxes\[0\]` must lie in 5x4"),
        ([np.ones((2, 2))], [[0, 0, 3, 2]], r"`tiles\[0\]` must have shape \(2, 3\) and dtype float64, got \(2, 2\)"),
        ([np.ones((1, 1)), np.ones((1, 1), bool)], [[0, 0, 1, 1]] * 2, r"`tiles\[1\]` must .* got \(1, 1\) and bool"),
    ],
)
def test_what_does_not_fit(tiles, boxes, message):
    with pytest.raises(ValueError, match=message):
        TileStack(tiles, boxes, 4, 5)
