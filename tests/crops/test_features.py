"""Crops of feature maps: the published numbers, a plain crop of one object after another, odd boxes, wrong input."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import parity
from amodal_diffusion.pipelines.sdamodal.features import crop_features
from repository_helpers import PARITY

SHAPES = ((1280, 24, 24), (1280, 48, 48), (640, 96, 96), (320, 96, 96))


def crop_one(feature, box, photo_size, size):
    """One object by padding, slicing and torch's own resizing: (C, h, w) -> (C, s, s)."""
    height, width = photo_size
    rows, columns = feature.shape[1:]
    x, y, side, _ = box
    left, top, wide, high = x * columns / width, y * rows / height, side * columns / width, side * rows / height
    left, top, wide, high = int(left), int(top), int(wide), int(high)
    if wide < 1 or high < 1:
        feature = F.interpolate(feature[None], photo_size, mode="bilinear")[0]
        left, top, wide, high = x, y, side, side
    margin = max(abs(left), abs(top)) + max(wide, high)
    padded = F.pad(feature, (margin,) * 4)
    crop = padded[:, top + margin : top + margin + high, left + margin : left + margin + wide]
    return F.interpolate(crop[None], (size, size), mode="bilinear")[0]


@pytest.mark.parametrize("index", range(4))
def test_published_crops(index):
    stored = np.load(PARITY / "sdamodal_flow.npz")
    shape = SHAPES[index]
    feature = parity.tensor(f"sdamodal_flow/feature_{index}", shape)[None, :2]
    crops = crop_features(feature, torch.from_numpy(stored["boxes"]), (240, 320), shape[1])
    expected = torch.from_numpy(stored[f"crop_{index}"]).float().permute(0, 3, 1, 2)
    # The stored numbers are half precision: up to 4, they are off by 2**-10 at most.
    torch.testing.assert_close(crops, expected, rtol=0, atol=2**-10)


def boxes_by_chance(seed, count, photo_size, largest):
    rng = np.random.default_rng(seed)
    side = rng.integers(1, largest, count)
    x, y = (rng.integers(-largest, length, count) for length in reversed(photo_size))
    return torch.from_numpy(np.stack([x, y, side, side], axis=1))


@pytest.mark.parametrize("seed", range(12))
def test_equals_one_object_after_another(seed):
    rng = np.random.default_rng(seed)
    photo_size = tuple(rng.integers(5, 90, 2).tolist())
    rows, columns, size = rng.integers(1, 14, 3).tolist()
    feature = torch.from_numpy(rng.standard_normal((1, 3, rows, columns), np.float32))
    boxes = boxes_by_chance(seed, 6, photo_size, 60)
    crops = crop_features(feature, boxes, photo_size, size)
    expected = torch.stack([crop_one(feature[0], box, photo_size, size) for box in boxes.tolist()])
    torch.testing.assert_close(crops, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("box", [(3, 2, 4, 4), (-2, 5, 5, 5), (31, 0, 3, 3), (60, 40, 4, 4), (15, 15, 1, 1)])
def test_box_under_one_cell_is_cropped_from_the_map_resized_to_the_photo(box):
    photo_size = (48, 64)  # of a map with cells of 8 pixels
    feature = torch.randn(1, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    crops = crop_features(feature, torch.tensor([box]), photo_size, 5)
    torch.testing.assert_close(crops[0], crop_one(feature[0], box, photo_size, 5), rtol=0, atol=1e-6)
    assert crops.any()


def test_small_and_large_boxes_together_keep_their_rows():
    feature = torch.randn(1, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[3, 2, 4, 4], [0, 0, 40, 40], [5, 5, 2, 2], [-8, -8, 60, 60]])
    together = crop_features(feature, boxes, (48, 64), 5)
    for box, crop in zip(boxes, together, strict=True):
        torch.testing.assert_close(crop, crop_features(feature, box[None], (48, 64), 5)[0], rtol=0, atol=1e-6)


def test_sides_that_divide_exactly_are_not_cut_short():
    # 103 * 15 / 103 is 15, but 103 * (15 / 103) is less.
    feature = torch.randn(1, 1, 15, 10, generator=torch.Generator().manual_seed(0))
    crop = crop_features(feature, torch.tensor([[0, 0, 103, 103]]), (103, 102), 15)
    torch.testing.assert_close(crop[0], crop_one(feature[0], (0, 0, 103, 103), (103, 102), 15))
    assert not torch.equal(crop, crop_features(feature, torch.tensor([[0, 0, 102, 102]]), (103, 102), 15))


def test_outside_of_the_map_is_zero():
    ones = torch.ones(1, 1, 8, 8)
    crop = crop_features(ones, torch.tensor([[-32, 0, 64, 64]]), (64, 64), 8)[0, 0]
    assert not crop[:, :4].any() and (crop[:, 4:] == 1).all()
    assert not crop_features(ones, torch.tensor([[640, 640, 64, 64]]), (64, 64), 8).any()


@pytest.mark.parametrize("rule", ["cells", "align"])
def test_empty_box_gives_zeros(rule):
    crops = crop_features(torch.ones(2, 3, 4, 4), torch.zeros(1, 4, dtype=torch.int64), (9, 9), 5, rule)
    assert crops.shape == (2, 3, 5, 5) and not crops.any()


@pytest.mark.parametrize("rule", ["cells", "align"])
def test_no_boxes(rule):
    crops = crop_features(torch.ones(2, 3, 4, 4), torch.zeros(0, 4, dtype=torch.int64), (9, 9), 5, rule)
    assert crops.shape == (0, 3, 5, 5)


@pytest.mark.parametrize("rule", ["cells", "align"])
def test_draws_come_one_after_another(rule):
    feature = torch.randn(3, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    boxes = boxes_by_chance(0, 4, (48, 64), 40)
    together = crop_features(feature, boxes, (48, 64), 5, rule)
    apart = torch.cat([crop_features(draw[None], boxes, (48, 64), 5, rule) for draw in feature])
    assert together.shape == (12, 2, 5, 5)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rule", ["cells", "align"])
def test_many_boxes_are_cropped_in_parts(monkeypatch, rule):
    feature = torch.randn(1, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    boxes = boxes_by_chance(0, 7, (48, 64), 40)
    expected = crop_features(feature, boxes, (48, 64), 5, rule)
    monkeypatch.setattr("amodal_diffusion.crops.features._CHUNK", 1)
    torch.testing.assert_close(crop_features(feature, boxes, (48, 64), 5, rule), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dtype_is_kept(dtype):
    feature = torch.randn(1, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    boxes = boxes_by_chance(0, 4, (48, 64), 40)
    crops = crop_features(feature.to(dtype), boxes, (48, 64), 5)
    assert crops.dtype == dtype
    expected = crop_features(feature, boxes, (48, 64), 5)
    torch.testing.assert_close(crops.float(), expected, rtol=0, atol=8 * torch.finfo(dtype).eps)


def test_channels_last_in_and_out():
    feature = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    boxes = boxes_by_chance(0, 4, (48, 64), 40)
    expected = crop_features(feature, boxes, (48, 64), 5)
    crops = crop_features(feature.contiguous(memory_format=torch.channels_last), boxes, (48, 64), 5)
    torch.testing.assert_close(crops, expected, rtol=0, atol=1e-6)
    assert crops.is_contiguous(memory_format=torch.channels_last)


# RoI align


def ramp(rows, columns, photo_size):
    """The x of the photo at the centres of the cells."""
    centres = (torch.arange(columns) + 0.5) * photo_size[1] / columns
    return centres.expand(1, 1, rows, columns).contiguous()


@pytest.mark.parametrize("box", [(17, 9, 21, 21), (10, 10, 3, 3), (8, 8, 48, 48)])
def test_align_reads_a_ramp_at_the_centres_of_the_bins(box):
    photo_size = (64, 96)
    crop = crop_features(ramp(16, 24, photo_size), torch.tensor([box]), photo_size, 6, "align")
    expected = box[0] + (torch.arange(6) + 0.5) * box[2] / 6
    torch.testing.assert_close(crop[0, 0], expected.expand(6, 6))


def test_align_moves_with_the_box_where_cells_stand_still():
    feature = ramp(8, 8, (64, 64))
    first, second = torch.tensor([[16, 16, 32, 32]]), torch.tensor([[19, 16, 32, 32]])
    same = [crop_features(feature, box, (64, 64), 4, "cells") for box in (first, second)]
    moved = [crop_features(feature, box, (64, 64), 4, "align") for box in (first, second)]
    torch.testing.assert_close(same[0], same[1])
    torch.testing.assert_close(moved[0] + 3, moved[1])


def test_align_fades_to_zero_outside():
    crop = crop_features(torch.ones(1, 1, 8, 8), torch.tensor([[-32, 0, 64, 64]]), (64, 64), 8, "align")[0, 0]
    assert not crop[:, :4].any() and (crop[:, 4:] == 1).all()


# What is refused

GOOD = {
    "feature_map": torch.ones(1, 1, 4, 4),
    "boxes": torch.tensor([[0, 0, 4, 4]]),
    "photo_size": (8, 8),
    "size": 2,
    "rule": "cells",
}
WRONG = {
    "three dimensions": ({"feature_map": torch.ones(1, 4, 4)}, r"`feature_map` must have shape \(D, C, h, w\)"),
    "no cells": ({"feature_map": torch.ones(1, 1, 0, 4)}, r"`feature_map` must have shape.*got \(1, 1, 0, 4\)"),
    "three numbers": ({"boxes": torch.tensor([[0, 0, 4]])}, r"`boxes` must be \(N, 4\) integers, got \(1, 3\)"),
    "fractions": ({"boxes": torch.ones(1, 4)}, r"`boxes` must be \(N, 4\) integers, got .* of torch.float32"),
    "not square": ({"boxes": torch.tensor([[0, 0, 4, 5]])}, "`boxes` must be squares"),
    "negative": ({"boxes": torch.tensor([[0, 0, -4, -4]])}, "`boxes` must be squares"),
    "no photo": ({"photo_size": (0, 8)}, r"`photo_size` must be \(height, width\) of at least 1, got \(0, 8\)"),
    "no size": ({"size": 0}, "`size` must be at least 1, got 0"),
    "rule": ({"rule": "pool"}, "`rule` must be one of 'cells', 'align', got 'pool'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(case):
    change, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        crop_features(**{**GOOD, **change})
