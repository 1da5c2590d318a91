"""What holds for any crop: squares hold their boxes, and pasting undoes cropping."""

import cv2
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from amodal_diffusion.crops import (
    clip_boxes,
    crop_boxes,
    crop_features,
    crop_images,
    crop_masks,
    crop_to_boxes,
    join_boxes,
    paste_from_boxes,
    paste_patches,
    tight_boxes,
    to_absolute_boxes,
    to_relative_boxes,
)
from amodal_diffusion.masks import mask_boxes

quick = settings(max_examples=30, deadline=None, derandomize=True)
sides = st.integers(1, 24)
sizes = st.integers(1, 40)


@st.composite
def stacks(draw, least=0):
    """Bool masks of one frame, (N, H, W), specks and empty ones among them."""
    count, height, width = draw(st.integers(least, 4)), draw(sides), draw(sides)
    return draw(arrays(bool, (count, height, width)))


@st.composite
def squares(draw, count, height, width):
    """Square boxes inside and outside of a frame, some of them without pixels."""
    corner = st.tuples(st.integers(-width, 2 * width), st.integers(-height, 2 * height), st.integers(0, 60))
    rows = [(x, y, side, side) for x, y, side in draw(st.lists(corner, min_size=count, max_size=count))]
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


@quick
@given(st.lists(st.tuples(*[st.integers(0, 500)] * 4), max_size=5), st.floats(1, 4), st.floats(1, 2))
def test_crop_boxes_hold_their_boxes(boxes, enlarge_box, min_margin):
    boxes = np.array(boxes, dtype=np.int64).reshape(-1, 4)
    crops = crop_boxes(boxes, enlarge_box=enlarge_box, min_margin=min_margin)
    assert crops.shape == boxes.shape and crops.dtype == np.int64
    np.testing.assert_array_equal(crops[:, 2], crops[:, 3])
    for (x, y, w, h), (left, top, side, _) in zip(boxes, crops, strict=True):
        if w == h == 0:
            assert side == 0
        # Left, top and side are cut to whole numbers, which takes a pixel at most.
        assert side >= max(w, h) - 1 and side + 1 > min_margin * max(w, h)
        assert left <= x and top <= y and left + side >= x + w - 2 and top + side >= y + h - 2


@quick
@given(stacks(), st.data())
def test_crops_are_those_of_opencv(stack, data):
    count, height, width = stack.shape
    boxes, size = data.draw(squares(count, height, width)), data.draw(sizes)
    patches = crop_masks(torch.from_numpy(stack), boxes, size).numpy()
    assert patches.shape == (count, size, size)
    for mask, (x, y, side, _), patch in zip(stack, boxes, patches, strict=True):
        frame = np.zeros((height + 6 * 60, width + 6 * 60), np.uint8)
        frame[180 : 180 + height, 180 : 180 + width] = mask
        window = frame[180 + y : 180 + y + side, 180 + x : 180 + x + side]
        expected = cv2.resize(window, (size, size), interpolation=cv2.INTER_NEAREST) if side else np.zeros((size, size))
        np.testing.assert_array_equal(patch, expected > 0)


@quick
@given(stacks(), st.data())
def test_pasting_at_its_own_size_undoes_cropping(stack, data):
    """A square of s pixels cropped to s x s is the frame there; pasted again it is the mask inside of the square."""
    count, height, width = stack.shape
    side = data.draw(sizes)
    boxes = np.minimum(data.draw(squares(count, height, width)), [2 * width, 2 * height, side, side])
    boxes[:, 2:] = side
    patches = crop_masks(torch.from_numpy(stack), boxes, side)
    pasted = paste_patches(patches, boxes, height, width, threshold=0.5).numpy()
    for mask, (x, y, _, _), back in zip(stack, boxes, pasted, strict=True):
        inside = np.zeros_like(mask)
        inside[max(0, y) : max(0, y + side), max(0, x) : max(0, x + side)] = True
        np.testing.assert_array_equal(back, mask & inside)


@quick
@given(stacks(1), st.integers(1, 4))
def test_a_crop_enlarged_by_a_whole_factor_pastes_back(stack, factor):
    count, height, width = stack.shape
    side = max(height, width)
    boxes = np.tile([0, 0, side, side], (count, 1))
    patches = crop_masks(torch.from_numpy(stack), boxes, factor * side)
    back = paste_patches(patches, boxes, height, width, threshold=0.5).numpy()
    # Every pixel became a block; bilinear sampling at its centre finds nothing else in it.
    np.testing.assert_array_equal(back, stack)


@quick
@given(stacks(), st.data())
def test_pasted_values_stay_in_their_boxes_and_their_range(stack, data):
    count, height, width = stack.shape
    boxes, size = data.draw(squares(count, height, width)), data.draw(sizes)
    patches = torch.from_numpy(data.draw(arrays(np.float32, (count, size, size), elements=st.floats(0, 1, width=32))))
    pasted = paste_patches(patches, boxes, height, width)
    assert pasted.shape == (count, height, width) and pasted.dtype == torch.float32
    for patch, (x, y, side, _), frame in zip(patches, boxes, pasted, strict=True):
        outside = torch.ones(height, width, dtype=torch.bool)
        outside[max(0, y) : max(0, y + side), max(0, x) : max(0, x + side)] = False
        assert not frame[outside].any()
        if (~outside).any():
            assert patch.min() - 1e-5 <= frame[~outside].min() and frame.max() <= patch.max() + 1e-5
    assert torch.equal(paste_patches(patches, boxes, height, width, threshold=0.5), pasted > 0.5)
    # A window that holds a box gets what the photo gets there, bit for bit: compact outputs rest on it.
    for row, (x, y, w, h) in enumerate(join_boxes(clip_boxes(np.asarray(boxes), height, width), mask_boxes(stack))):
        if w and h:
            part = paste_patches(patches[row : row + 1], np.asarray(boxes)[row : row + 1] - [x, y, 0, 0], h, w)
            assert torch.equal(part[0], pasted[row, y : y + h, x : x + w])


@quick
@given(st.data())
def test_photos_and_features_of_one_value_keep_it(data):
    """Whatever the interpolation, weights add up to 1 inside of a photo of one colour."""
    height, width, size = data.draw(sides), data.draw(sides), data.draw(sizes)
    side = data.draw(st.integers(1, min(height, width)))
    box = [data.draw(st.integers(0, width - side)), data.draw(st.integers(0, height - side)), side, side]
    value = data.draw(st.floats(0.125, 1, width=32))
    boxes = torch.tensor([box])
    photo = torch.full((3, height, width), value)
    torch.testing.assert_close(crop_images(photo, boxes, size), torch.full((1, 3, size, size), value))
    crops = crop_features(photo[None], boxes, (height, width), size)
    torch.testing.assert_close(crops.contiguous(), torch.full((1, 3, size, size), value))


@quick
@given(stacks())
def test_tight_boxes_are_those_of_the_masks(stack):
    np.testing.assert_array_equal(tight_boxes(torch.from_numpy(stack)).numpy(), mask_boxes(stack))


boxes = st.lists(st.tuples(*[st.floats(-50, 50)] * 2, *[st.floats(0.5, 50)] * 2), min_size=1, max_size=4)


@quick
@given(boxes, st.data())
def test_relative_boxes_come_back(pixels, data):
    pixels = torch.tensor(pixels, dtype=torch.float64)
    reference = torch.tensor(data.draw(boxes), dtype=torch.float64)[:1].expand(len(pixels), 4)
    relative = to_relative_boxes(pixels, reference)
    torch.testing.assert_close(to_absolute_boxes(relative, reference), pixels)
    own = to_relative_boxes(pixels, pixels)
    torch.testing.assert_close(own, torch.tensor([0.5, 0.5, 1, 1], dtype=torch.float64).expand_as(own))


@quick
@given(stacks(1), st.integers(1, 3))
def test_squeezed_shapes_keep_their_mean_and_stretch_back(stack, factor):
    masks = torch.from_numpy(stack)
    count, height, width = stack.shape
    frame = torch.tensor([0.0, 0.0, width, height]).expand(count, 4)
    size = max(height, width)
    cells = crop_to_boxes(masks, frame, size)
    assert float(cells.min()) >= -1e-5 and float(cells.max()) <= 1 + 1e-5
    if height == width:
        torch.testing.assert_close(cells, masks.float())
        torch.testing.assert_close(paste_from_boxes(cells, frame, height, width), masks.float())
    whole = paste_from_boxes(torch.ones(count, factor, factor), frame, height, width)
    torch.testing.assert_close(whole, torch.ones(count, height, width))


@quick
@given(st.data())
def test_bytes_are_cropped_as_the_floats_that_they_stand_for(data):
    height, width, size = data.draw(sides), data.draw(sides), data.draw(sizes)
    boxes = [[data.draw(st.integers(-9, 40)), data.draw(st.integers(-9, 40)), side, side] for side in (0, 7, 40)]
    photo = torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(height)).byte()
    expected = crop_images(photo.float().div(255), torch.tensor(boxes), size)
    torch.testing.assert_close(crop_images(photo, torch.tensor(boxes), size), expected, rtol=0, atol=0)
