import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as mask_utils

from amodal_diffusion.crops import crop_boxes
from amodal_diffusion.masks import (
    MAX_PIXELS,
    decode_rle,
    decode_segmentation,
    encode_rle,
    mask_areas,
    mask_boxes,
    mask_overlaps,
    mask_pixels,
    mask_unions,
    to_mask_stack,
)
from mask_helpers import random_masks

SQUARE = np.zeros((6, 8), dtype=bool)
SQUARE[1:4, 2:7] = True
POLYGON = [2, 1, 7, 1, 7, 4, 2, 4]


def pillow(array, mode):
    image = Image.fromarray(array)
    assert image.mode == mode
    return image


def palette_image():
    image = Image.new("P", (8, 6))
    image.putdata(SQUARE.astype(np.uint8).ravel().tolist())
    return image


class TestToMaskStack:
    @pytest.mark.parametrize(
        "masks",
        [
            SQUARE,
            SQUARE[None],
            SQUARE[None, None],
            SQUARE.astype(np.uint8) * 255,
            SQUARE.astype(np.int64) * 3,
            SQUARE * 0.6,
            torch.from_numpy(SQUARE),
            torch.from_numpy(SQUARE)[None, None].to(torch.bfloat16),
            torch.from_numpy(SQUARE).to(torch.float16).requires_grad_(),
            pillow(SQUARE, "1"),
            pillow(SQUARE.astype(np.uint8), "L"),
            pillow(SQUARE.astype(np.uint16) * 1000, "I;16"),
            pillow(SQUARE.astype(np.int32), "I"),
            pillow(SQUARE.astype(np.float32), "F"),
            palette_image(),
            encode_rle(SQUARE),
            {"size": [6, 8], "counts": [13, 3, 3, 3, 3, 3, 3, 3, 3, 3, 8]},
            POLYGON,
            [POLYGON],
            [[POLYGON]],
            [SQUARE],
            (SQUARE,),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_one_mask_in_any_form(self, masks):
        stack = to_mask_stack(masks, height=6, width=8)
        assert stack.dtype == np.bool_
        assert stack.shape == (1, 6, 8)
        np.testing.assert_array_equal(stack[0], SQUARE)

    def test_mixed_forms(self):
        empty = np.zeros((6, 8), np.uint8)
        stack = to_mask_stack(
            [SQUARE, Image.fromarray(empty), encode_rle(SQUARE), [POLYGON], [], empty], height=6, width=8
        )
        assert [bool(mask.any()) for mask in stack] == [True, False, True, True, False, False]

    def test_stacks_are_joined(self):
        assert to_mask_stack([np.stack([SQUARE] * 3), torch.from_numpy(SQUARE)]).shape == (4, 6, 8)

    def test_two_polygons_of_one_object_are_their_union(self):
        stack = to_mask_stack([[0, 0, 3, 0, 3, 3, 0, 3], [5, 2, 8, 2, 8, 6, 5, 6]], height=6, width=8)
        assert stack.shape == (1, 6, 8)
        assert stack.sum() == 9 + 12

    def test_threshold_is_exclusive(self):
        assert to_mask_stack(np.array([[0.5, 0.51]])).tolist() == [[[False, True]]]
        assert to_mask_stack(np.array([[0.2, 0.1]]), threshold=0.15).tolist() == [[[True, False]]]

    def test_boolean_stack_is_not_copied(self):
        stack = random_masks(0)
        assert np.shares_memory(to_mask_stack(stack), stack)

    def test_no_masks(self):
        assert to_mask_stack([], height=4, width=3).shape == (0, 4, 3)
        assert to_mask_stack(np.zeros((0, 4, 3))).shape == (0, 4, 3)

    @pytest.mark.parametrize(
        ("masks", "size", "error", "message"),
        [
            ([], (None, None), ValueError, "`masks` is empty: height and width are needed"),
            ([[]], (None, None), ValueError, r"`masks\[0\]` is made of polygons: height and width are needed"),
            (POLYGON, (None, 8), ValueError, "`masks` is made of polygons"),
            (SQUARE, (6, 9), ValueError, r"size \(height, width\) \(6, 8\), expected \(6, 9\)"),
            (SQUARE, (5, None), ValueError, r"\(6, 8\), expected \(5, 8\)"),
            ([SQUARE, SQUARE.T], (None, None), ValueError, r"masks\[1\] has size .*\(8, 6\), masks\[0\] has \(6, 8\)"),
            (np.zeros(4), (None, None), ValueError, r"`masks` must have shape \(H, W\).* got \(4,\)"),
            (np.zeros((2, 3, 4, 5)), (None, None), ValueError, r"got \(2, 3, 4, 5\)"),
            (np.full((2, 2), np.nan), (None, None), ValueError, "`masks` has NaN"),
            ([SQUARE, np.full((6, 8), np.nan)], (None, None), ValueError, r"`masks\[1\]` has NaN"),
            (np.zeros((2, 2), complex), (None, None), TypeError, "got dtype complex128"),
            (np.array([["a"]]), (None, None), TypeError, "got dtype <U1"),
            (np.zeros((2, 2), object), (None, None), TypeError, "got dtype object"),
            (None, (None, None), TypeError, "got NoneType"),
            (["cat.png"], (None, None), TypeError, r"`masks\[0\]` must be an array.* got str"),
            (Image.new("RGB", (2, 2)), (None, None), ValueError, "image of mode RGB, expected one channel"),
            (Image.new("RGBA", (2, 2)), (None, None), ValueError, "image of mode RGBA"),
            ({"size": [6, 8], "counts": [1]}, (None, None), ValueError, "`masks`: counts cover 1 pixels"),
            ([{"counts": "1"}], (None, None), ValueError, r"`masks\[0\]`: run lengths need a `size`"),
            ([1, 2, 3, 4], (6, 8), ValueError, "`masks`: polygon 0 has 2 points"),
        ],
    )
    def test_errors(self, masks, size, error, message):
        with pytest.raises(error, match=message):
            to_mask_stack(masks, height=size[0], width=size[1])


class TestRunLengths:
    @pytest.mark.parametrize("seed", range(5))
    def test_round_trip(self, seed):
        for mask in random_masks(seed):
            rle = encode_rle(mask)
            assert rle["size"] == [37, 53]
            assert json.loads(json.dumps(rle)) == rle
            np.testing.assert_array_equal(decode_rle(rle), mask)
            np.testing.assert_array_equal(decode_segmentation(rle, 37, 53), mask)
            assert mask_utils.area({**rle, "counts": rle["counts"].encode()}) == mask.sum()

    def test_plain_and_bytes_counts(self):
        rle = encode_rle(SQUARE)
        np.testing.assert_array_equal(decode_rle({**rle, "counts": rle["counts"].encode()}), SQUARE)
        np.testing.assert_array_equal(decode_rle({"size": (2, 2), "counts": [1, 3]}), [[False, True], [True, True]])

    def test_encode_takes_any_layout_and_dtype(self):
        assert encode_rle(np.asfortranarray(SQUARE)) == encode_rle(SQUARE.astype(float)) == encode_rle(SQUARE)

    @pytest.mark.parametrize("segmentation", [POLYGON, [POLYGON], [str(value) for value in POLYGON]])
    def test_polygons(self, segmentation):
        np.testing.assert_array_equal(decode_segmentation(segmentation, 6, 8), SQUARE)

    def test_polygon_is_cut_at_the_frame(self):
        assert decode_segmentation([-5, -5, 20, -5, 20, 20, -5, 20], 6, 8).all()

    def test_no_polygons_are_an_empty_mask(self):
        assert not decode_segmentation([], 6, 8).any()

    @pytest.mark.parametrize(
        ("rle", "message"),
        [
            ({}, "need a `size`"),
            ({"size": 5, "counts": ""}, "need a `size`"),
            ({"size": [2, 2, 2], "counts": ""}, "need a `size`"),
            ({"size": [2, -2], "counts": [4]}, "width must be a whole number, got -2"),
            ({"size": [2.5, 2], "counts": [5]}, "height must be a whole number, got 2.5"),
            ({"size": [True, 2], "counts": [2]}, "height must be a whole number, got True"),
            ({"size": [0, 2], "counts": []}, "must be at least 1"),
            ({"size": [2**20, 2**20], "counts": [2**40]}, f"at most {MAX_PIXELS} pixels"),
            ({"size": [2, 2]}, "counts must be a string or a list of integers, got NoneType"),
            ({"size": [2, 2], "counts": [1, 1]}, "counts cover 2 pixels, the image has 4"),
            ({"size": [2, 2], "counts": [5, -1]}, "negative run"),
            ({"size": [2, 2], "counts": [1.5, 2.5]}, "flat list of integers"),
            ({"size": [2, 2], "counts": ["x"]}, "counts must be integers"),
            ({"size": [2, 2], "counts": "\x00"}, "not a compressed run-length code"),
            ({"size": [2, 2], "counts": "ooooooooooo0"}, "longer than any image"),
        ],
    )
    def test_broken_run_lengths(self, rle, message):
        with pytest.raises(ValueError, match=message):
            decode_rle(rle)

    @pytest.mark.parametrize(
        ("segmentation", "message"),
        [
            ("polygon", "must be polygons or run lengths, got str"),
            ([0, 0, 1, 1], "polygon 0 has 2 points"),
            ([[0, 0, 4, 0, 4, 4], [0, 0, 1]], "polygon 1 must be a flat list"),
            ([[0, 0, 4, 0, 4, float("nan")]], "NaN or infinite"),
            ([[0, 0, 4, 0, 1e9, 4]], "outside the 6 x 8 image"),
            ([[0, 0, 4, 0, "x", 4]], "not a number"),
            ({"size": [8, 6], "counts": [48]}, r"size \[8, 6\], the image has \[height, width\] \[6, 8\]"),
        ],
    )
    def test_broken_segmentations(self, segmentation, message):
        with pytest.raises(ValueError, match=message):
            decode_segmentation(segmentation, 6, 8)

    def test_encode_refuses_a_stack(self):
        with pytest.raises(ValueError, match=r"\(height, width\), got \(1, 6, 8\)"):
            encode_rle(SQUARE[None])


class TestCounting:
    # Widths on both sides of a machine word, and whole words.
    @pytest.mark.parametrize("width", [1, 7, 63, 64, 65, 128, 130])
    def test_areas_overlaps_and_unions(self, width):
        first, second = random_masks(1, 6, 19, width), random_masks(2, 4, 19, width)
        np.testing.assert_array_equal(mask_areas(first), first.sum(axis=(1, 2)))
        expected = np.einsum("nhw,mhw->nm", first.astype(int), second.astype(int))
        np.testing.assert_array_equal(mask_overlaps(first, second), expected)
        chosen = np.random.default_rng(width).random((3, 6)) > 0.5
        chosen[0] = False
        expected = np.stack([first[row].any(axis=0) for row in chosen])
        np.testing.assert_array_equal(mask_unions(first, chosen), expected)

    def test_results_do_not_depend_on_chunks(self, monkeypatch):
        masks = random_masks(3, 9)
        chosen = np.tri(9, dtype=bool)
        overlaps, unions = mask_overlaps(masks, masks), mask_unions(masks, chosen)
        monkeypatch.setattr("amodal_diffusion.masks.packed._CHUNK_WORDS", 1)
        np.testing.assert_array_equal(mask_overlaps(masks, masks), overlaps)
        np.testing.assert_array_equal(mask_unions(masks, chosen), unions)

    @pytest.mark.parametrize("shape", [(0, 5, 7), (2, 0, 64), (2, 5, 0), (0, 0, 0)])
    def test_nothing_to_count(self, shape):
        masks = np.zeros(shape, dtype=bool)
        assert mask_areas(masks).tolist() == [0] * shape[0]
        assert mask_overlaps(masks, masks).shape == (shape[0], shape[0])
        assert mask_unions(masks, np.ones((3, shape[0]), dtype=bool)).shape == (3, *shape[1:])
        assert mask_boxes(masks).tolist() == [[0, 0, 0, 0]] * shape[0]

    @pytest.mark.parametrize("seed", range(3))
    def test_boxes(self, seed):
        masks = random_masks(seed, 8) & random_masks(seed + 100, 8)
        for mask, (x, y, w, h) in zip(masks, mask_boxes(masks).tolist(), strict=True):
            assert mask[y : y + h, x : x + w].sum() == mask.sum()
            if mask.any():
                rows, columns = np.nonzero(mask)
                assert (x, y, w, h) == (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
            else:
                assert (x, y, w, h) == (0, 0, 0, 0)

    def test_published_areas_and_boxes(self, published_scene):
        modal, amodal, numbers = published_scene
        assert mask_areas(modal).tolist() == numbers["modal_area"]
        assert mask_areas(amodal).tolist() == numbers["amodal_area"]
        assert crop_boxes(mask_boxes(modal)).tolist() == numbers["crop_boxes"]

    @pytest.mark.parametrize("function", [mask_areas, mask_boxes])
    def test_one_mask_is_refused(self, function):
        with pytest.raises(ValueError, match=r"`masks` must have shape \(N, height, width\), got \(6, 8\)"):
            function(SQUARE)

    def test_errors(self):
        with pytest.raises(ValueError, match=r"`first` has masks of size \(6, 8\), `second` of \(8, 6\)"):
            mask_overlaps(SQUARE[None], SQUARE.T[None])
        with pytest.raises(ValueError, match=r"`chosen` must have shape \(K, 1\), got \(2, 2\)"):
            mask_unions(SQUARE[None], np.ones((2, 2), dtype=bool))


class TestCropBoxes:
    @pytest.mark.parametrize(
        ("box", "expected"),
        [
            ([10, 20, 30, 40], [-5, 10, 60, 60]),  # sqrt(3 * 30 * 40) = 60
            ([0, 0, 100, 2], [-5, -54, 110, 110]),  # long and thin: 1.1 * 100
            ([0, 0, 1, 1], [0, 0, 1, 1]),  # truncated towards zero, also below it
            ([0, 0, 0, 0], [0, 0, 0, 0]),
        ],
    )
    def test_rule(self, box, expected):
        assert crop_boxes([box]).tolist() == [expected]

    def test_factors_and_fractions(self):
        assert crop_boxes(np.array([[10.5, 10.5, 10, 10]]), enlarge_box=4.0).tolist() == [[5, 5, 20, 20]]
        assert crop_boxes([[0, 0, 10, 10]], enlarge_box=1, min_margin=2).tolist() == [[-5, -5, 20, 20]]

    def test_no_boxes(self):
        assert crop_boxes(np.zeros((0, 4))).shape == (0, 4)

    @pytest.mark.parametrize(
        ("boxes", "options", "message"),
        [
            ([1, 2, 3, 4], {}, r"`boxes` must have shape \(N, 4\), got \(4,\)"),
            ([[0, 0, -1, 1]], {}, "no negative width or height"),
            ([[0, 0, np.nan, 1]], {}, "finite numbers"),
            ([[0, 0, 1, 1]], {"enlarge_box": 0}, "`enlarge_box` must be above 0, got 0"),
            ([[0, 0, 1, 1]], {"min_margin": float("nan")}, "`min_margin` must be above 0, got nan"),
        ],
    )
    def test_errors(self, boxes, options, message):
        with pytest.raises(ValueError, match=message):
            crop_boxes(boxes, **options)


@pytest.mark.parametrize("shape", [(5, 7), (1, 9), (9, 1), (0, 4), (4, 0)])
def test_pixels_of_a_mask_are_those_of_nonzero(shape):
    mask = np.random.RandomState(3).rand(*shape) > 0.6
    for view in (mask, mask.T, mask[::2, ::-1]):
        for mine, numpys in zip(mask_pixels(view), np.nonzero(view), strict=True):
            np.testing.assert_array_equal(mine, numpys)
    with pytest.raises(ValueError, match=r"`mask` must have shape \(H, W\)"):
        mask_pixels(mask[None])
