"""What holds for any mask: run lengths, packed words, dilation and erosion, hulls."""

import cv2
import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from amodal_diffusion.masks import (
    convex_hull,
    decode_rle,
    decode_segmentation,
    dilate,
    encode_rle,
    erode,
    mask_areas,
    mask_boxes,
    mask_overlaps,
    mask_unions,
    segmentation_to_rle,
    to_mask_stack,
)
from amodal_diffusion.masks.packed import areas, boxes, dilate_by_cross, overlaps, pack, unions, unpack
from amodal_diffusion.masks.rle import run_lengths
from data_helpers import plain_rle

quick = settings(max_examples=30, deadline=None, derandomize=True)
sides = st.integers(1, 20)
# Widths around a whole word are where packing could go wrong.
widths = sides | st.sampled_from([63, 64, 65, 127, 128, 130])
masks = st.tuples(sides, widths).flatmap(lambda shape: arrays(bool, shape))
codes = st.text("019:;OPo\x7fé", max_size=12)


def stacks(least=0):
    return st.tuples(st.integers(least, 5), sides, widths).flatmap(lambda shape: arrays(bool, shape))


@quick
@given(masks)
def test_run_lengths_give_the_mask_back(mask):
    for rle in (encode_rle(mask), plain_rle(mask)):
        np.testing.assert_array_equal(decode_rle(rle), mask)
        assert segmentation_to_rle(rle, *mask.shape) == encode_rle(mask)
    assert run_lengths(encode_rle(mask)["counts"]).tolist() == plain_rle(mask)["counts"]


@quick
@given(sides, sides, st.data())
def test_a_polygon_of_a_box_covers_its_pixels(height, width, data):
    left, right = sorted(data.draw(st.tuples(*[st.integers(0, width)] * 2)))
    top, bottom = sorted(data.draw(st.tuples(*[st.integers(0, height)] * 2)))
    expected = np.zeros((height, width), dtype=bool)
    expected[top:bottom, left:right] = True
    polygon = [left, top, right, top, right, bottom, left, bottom]
    assume(max(polygon) > 1 or max(height, width) <= 2)  # otherwise they are shares of the sides
    np.testing.assert_array_equal(decode_segmentation(polygon, height, width), expected)


@quick
@given(st.integers(8, 40), st.integers(8, 40), st.lists(st.tuples(*[st.floats(-30, 70)] * 2), min_size=3, max_size=8))
def test_polygons_stay_in_the_frame_and_near_their_points(height, width, points):
    assume(np.min(points) < 0 or np.max(points) > 1)
    mask = decode_segmentation([value for point in points for value in point], height, width)
    assert mask.shape == (height, width) and mask.dtype == bool
    x, y, w, h = mask_boxes(mask[None])[0]
    if mask.any():
        (left, top), (right, bottom) = np.min(points, axis=0), np.max(points, axis=0)
        assert x >= left - 1 and y >= top - 1 and x + w <= right + 1 and y + h <= bottom + 1


@quick
@given(
    st.sampled_from([4, 9]), st.sampled_from([5, 64]), st.text("019:;OPo\x7fé", max_size=12) | st.binary(max_size=12)
)
def test_broken_run_lengths_are_refused_or_fill_the_frame(height, width, counts):
    try:
        mask = decode_rle({"size": [height, width], "counts": counts})
    except ValueError:
        return
    assert mask.shape == (height, width)


@quick
@given(stacks(), st.data())
def test_packed_masks_count_as_plain_ones(stack, data):
    words = pack(stack)
    np.testing.assert_array_equal(unpack(words, stack.shape[2]), stack)
    np.testing.assert_array_equal(areas(words), stack.sum((1, 2)))
    np.testing.assert_array_equal(mask_areas(stack), stack.sum((1, 2)))
    flat = stack.reshape(len(stack), stack.shape[1] * stack.shape[2]).astype(np.int64)
    np.testing.assert_array_equal(overlaps(words, words), flat @ flat.T)
    np.testing.assert_array_equal(mask_overlaps(stack, ~stack), flat @ (1 - flat).T)
    chosen = data.draw(arrays(bool, (3, len(stack))))
    expected = np.array([stack[row].any(0) for row in chosen])
    np.testing.assert_array_equal(unpack(unions(words, chosen), stack.shape[2]), expected)
    np.testing.assert_array_equal(mask_unions(stack, chosen), expected)


@quick
@given(stacks())
def test_the_packed_cross_dilates_as_the_plain_one(stack):
    np.testing.assert_array_equal(unpack(dilate_by_cross(pack(stack)), stack.shape[2]), dilate(stack))


@quick
@given(stacks(), st.sampled_from(["cross", "square"]), st.sampled_from([1, 3, 5, 7]))
def test_erosion_is_the_dilation_of_what_is_outside(stack, kernel, size):
    options = {"kernel": kernel, "size": size}
    grown, shrunk = dilate(stack, **options), erode(stack, **options)
    np.testing.assert_array_equal(shrunk, ~dilate(~stack, **options))
    assert not (stack & ~grown).any() and not (shrunk & ~stack).any()
    np.testing.assert_array_equal(dilate(torch.from_numpy(stack), **options).numpy(), grown)
    element = cv2.getStructuringElement(cv2.MORPH_CROSS if kernel == "cross" else cv2.MORPH_RECT, (size, size))
    for mask, expected in zip(stack, grown, strict=True):
        np.testing.assert_array_equal(cv2.dilate(mask.astype(np.uint8), element) > 0, expected)


@quick
@given(stacks())
def test_a_hull_holds_its_mask_and_is_its_own_hull(stack):
    hulls = convex_hull(stack)
    assert not (stack & ~hulls).any()
    np.testing.assert_array_equal(mask_boxes(hulls), mask_boxes(stack))
    np.testing.assert_array_equal(convex_hull(stack[:, ::-1])[:, ::-1], hulls)
    np.testing.assert_array_equal(convex_hull(stack.transpose(0, 2, 1)).transpose(0, 2, 1), hulls)


@quick
@given(stacks(1))
def test_boxes_are_tight(stack):
    for mask, (x, y, w, h) in zip(stack, mask_boxes(stack), strict=True):
        inside = np.zeros_like(mask)
        inside[y : y + h, x : x + w] = True
        assert not (mask & ~inside).any()
        if w:
            window = mask[y : y + h, x : x + w]
            assert window[0].any() and window[-1].any() and window[:, 0].any() and window[:, -1].any()


@quick
@given(stacks(1), st.sampled_from([bool, np.uint8, np.int64, np.float32, np.float64]))
def test_every_form_of_a_stack_is_the_same_stack(stack, dtype):
    array = stack.astype(dtype)
    forms = [array, array[:, None], list(array), torch.from_numpy(array), [encode_rle(mask) for mask in stack]]
    for form in forms:
        np.testing.assert_array_equal(to_mask_stack(form), stack)


@quick
@given(stacks())
def test_boxes_of_words_are_those_of_the_masks(stack):
    np.testing.assert_array_equal(boxes(pack(stack), stack.shape[2]), mask_boxes(stack))
