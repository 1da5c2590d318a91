"""Crops of masks and patches pasted back, against OpenCV; crops of photos are in test_image_processor."""

import cv2
import numpy as np
import pytest
import torch

from amodal_diffusion.crops import (
    clip_boxes,
    crop_boxes,
    crop_images,
    crop_masks,
    join_boxes,
    meet_boxes,
    paste_patches,
)
from amodal_diffusion.crops import squares as _patches
from amodal_diffusion.masks import mask_boxes
from mask_helpers import random_masks


def random_case(rng):
    """A mask, a box that may leave its frame or lie outside it, and a patch size."""
    height, width = (int(value) for value in rng.integers(5, 200, 2))
    side = int(rng.integers(1, 300))
    box = [int(rng.integers(-side - 5, width + 5)), int(rng.integers(-side - 5, height + 5)), side, side]
    return rng.random((height, width)) > 0.5, box, int(rng.choice([1, 7, 32, 100, 128]))


def padded_crop(array, box):
    """One crop of a box with zero padding."""
    x, y, side, _ = box
    height, width = array.shape[:2]
    padded = np.zeros((height + 2 * side + 20, width + 2 * side + 20, *array.shape[2:]), array.dtype)
    padded[side + 10 : side + 10 + height, side + 10 : side + 10 + width] = array
    return padded[y + side + 10 :, x + side + 10 :][:side, :side]


def published_paste(patch, box, height, width):
    """One patch resized by OpenCV and pasted."""
    x, y, side, _ = box
    frame = np.zeros((height, width), np.float32)
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + side, height), min(x + side, width)
    if top < bottom and left < right:
        resized = cv2.resize(patch, (side, side), interpolation=cv2.INTER_LINEAR)
        frame[top:bottom, left:right] = resized[top - y : bottom - y, left - x : right - x]
    return frame


class TestCropMasks:
    @pytest.mark.parametrize("seed", range(60))
    def test_equals_opencv(self, seed):
        mask, box, size = random_case(np.random.default_rng(seed))
        expected = cv2.resize(
            padded_crop(mask.astype(np.uint8), box), (size, size), interpolation=cv2.INTER_NEAREST
        ).reshape(size, size)
        patch = crop_masks(torch.from_numpy(mask)[None], np.array([box]), size)
        assert patch.dtype == torch.bool
        np.testing.assert_array_equal(patch[0].numpy(), expected)

    # Zooms whose reciprocal rounds the other way than their quotient.
    @pytest.mark.parametrize(("side", "size"), [(135, 100), (76, 100), (362, 100), (49, 128), (1, 128), (128, 128)])
    def test_rounds_as_opencv(self, side, size):
        mask = torch.arange(side, dtype=torch.float32).expand(1, side, side)
        expected = cv2.resize(mask[0].numpy(), (size, size), interpolation=cv2.INTER_NEAREST)
        np.testing.assert_array_equal(crop_masks(mask, torch.tensor([[0, 0, side, side]]), size)[0], expected)

    def test_batch_with_indices_equals_single_crops(self):
        masks = torch.from_numpy(random_masks(5))
        boxes = torch.tensor([[0, 0, 20, 20], [-9, 4, 31, 31], [30, 20, 64, 64], [0, 0, 0, 0]])
        which = torch.tensor([4, 2, 2, 1])
        batch = crop_masks(masks, boxes, 16, indices=which)
        for box, index, patch in zip(boxes, which, batch, strict=True):
            torch.testing.assert_close(crop_masks(masks[index][None], box[None], 16)[0], patch)
        assert not batch[3].any()
        assert batch[:3].any()

    def test_results_do_not_depend_on_chunks(self, monkeypatch):
        masks = torch.from_numpy(random_masks(6))
        boxes = crop_boxes(mask_boxes(masks.numpy()))
        expected = crop_masks(masks, boxes, 24)
        monkeypatch.setattr(_patches, "_CHUNK", 1)
        torch.testing.assert_close(crop_masks(masks, boxes, 24), expected)

    @pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32])
    def test_keeps_the_dtype(self, dtype):
        masks = torch.arange(48).reshape(1, 6, 8).remainder(3).to(dtype)
        patches = crop_masks(masks, torch.tensor([[1, 0, 6, 6]]), 6)
        assert patches.dtype == dtype
        torch.testing.assert_close(patches[0], masks[0, :, 1:7])

    def test_strided_masks(self):
        masks = torch.from_numpy(random_masks(7)).mT
        boxes = torch.tensor([[3, 5, 22, 22]] * 5)
        torch.testing.assert_close(crop_masks(masks, boxes, 9), crop_masks(masks.contiguous(), boxes, 9))

    def test_nothing_to_crop(self):
        assert crop_masks(torch.zeros(2, 4, 4), torch.zeros(0, 4), 8, indices=torch.zeros(0)).shape == (0, 8, 8)
        assert crop_masks(torch.zeros(0, 4, 4), torch.zeros(0, 4), 8).shape == (0, 8, 8)
        assert not crop_masks(torch.zeros(1, 0, 4), torch.tensor([[0, 0, 2, 2]]), 8).any()

    @pytest.mark.parametrize(
        ("masks", "boxes", "size", "indices", "message"),
        [
            (torch.zeros(4, 4), [[0, 0, 2, 2]], 8, None, r"`masks` must have shape \(M, height, width\), got \(4, 4\)"),
            (torch.zeros(1, 4, 4), [[0, 0, 2, 2]], 0, None, "`size` must be at least 1, got 0"),
            (torch.zeros(1, 4, 4), [0, 0, 2, 2], 8, None, r"`boxes` must have shape \(N, 4\), got \(4,\)"),
            (torch.zeros(1, 4, 4), [[0, 0, 2, 3]], 8, None, r"boxes\[0\] is \[0, 0, 2, 3\]"),
            (torch.zeros(1, 4, 4), [[0, 0, -2, -2]], 8, None, "`boxes` must be squares"),
            (torch.zeros(1, 4, 4), [[0.5, 0, 2, 2]], 8, None, "whole numbers"),
            (torch.zeros(1, 4, 4), [[np.inf, 0, 2, 2]], 8, None, "whole numbers"),
            (torch.zeros(2, 4, 4), [[0, 0, 2, 2]], 8, None, "1 boxes for 2 masks: pass `indices`"),
            (torch.zeros(2, 4, 4), [[0, 0, 2, 2]], 8, [0, 1], r"`indices` must have shape \(1,\).* got \(2,\)"),
            (torch.zeros(2, 4, 4), [[0, 0, 2, 2]], 8, [2], r"`indices` must lie in \[0, 2\), got 2 to 2"),
            (torch.zeros(2, 4, 4), [[0, 0, 2, 2]], 8, [-1], r"must lie in \[0, 2\)"),
            (torch.zeros(2, 4, 4), [[0, 0, 2, 2]], 8, [0.0], "must hold integers"),
        ],
    )
    def test_errors(self, masks, boxes, size, indices, message):
        indices = None if indices is None else torch.tensor(indices)
        with pytest.raises(ValueError, match=message):
            crop_masks(masks, torch.tensor(boxes), size, indices=indices)


@pytest.fixture(params=["cpu", "accelerator"])
def window_rule(request, monkeypatch):
    """How boxes are batched: one at a time as on a CPU, or together as on an accelerator."""
    windows = _patches._windows

    def batched(boxes, height, width, row_values, device):
        return windows(boxes, height, width, row_values, torch.device("cuda"))

    if request.param == "accelerator":
        monkeypatch.setattr(_patches, "_windows", batched)


class TestPastePatches:
    @pytest.mark.parametrize("seed", range(40))
    def test_equals_opencv(self, seed):
        rng = np.random.default_rng(seed)
        mask, box, size = random_case(rng)
        height, width = mask.shape
        patch = cv2.GaussianBlur(rng.random((size, size), dtype=np.float32), (0, 0), 2)
        pasted = paste_patches(torch.from_numpy(patch)[None], np.array([box]), height, width)[0]
        assert pasted.dtype == torch.float32
        np.testing.assert_allclose(pasted, published_paste(patch, box, height, width), atol=2e-5)
        binary = patch > np.median(patch)
        frame = paste_patches(torch.from_numpy(binary)[None], np.array([box]), height, width, threshold=0.5)[0]
        expected = published_paste(binary.astype(np.float32), box, height, width)
        decided = np.abs(expected - 0.5) > 1e-5  # ties are rounding
        np.testing.assert_array_equal(frame.numpy()[decided], (expected > 0.5)[decided])

    def test_batch_equals_single_pastes(self, window_rule):
        patches = torch.rand(5, 16, 16, generator=torch.Generator().manual_seed(0))
        boxes = torch.tensor([[0, 0, 20, 20], [-9, 4, 31, 31], [30, 20, 64, 64], [0, 0, 0, 0], [90, 0, 5, 5]])
        frames = paste_patches(patches, boxes, 40, 60)
        assert not frames[3:].any()
        for patch, box, frame in zip(patches, boxes, frames, strict=True):
            np.testing.assert_allclose(frame, published_paste(patch.numpy(), box.tolist(), 40, 60), atol=2e-5)

    @pytest.mark.parametrize("threshold", [0, 0.2, 0.5])
    def test_threshold(self, window_rule, threshold):
        patches = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1))
        boxes = torch.tensor([[0, 0, 20, 20], [-9, 4, 31, 31], [30, 20, 64, 64]])
        masks = paste_patches(patches, boxes, 40, 60, threshold=threshold)
        assert masks.dtype == torch.bool
        torch.testing.assert_close(masks, paste_patches(patches, boxes, 40, 60) > threshold)

    def test_same_size_is_a_copy(self):
        patch = torch.rand(1, 12, 12)
        torch.testing.assert_close(
            paste_patches(patch, torch.tensor([[3, 2, 12, 12]]), 20, 20)[0, 2:14, 3:15], patch[0]
        )

    def test_half_precision_and_autocast_do_not_blur(self):
        patch = torch.rand(1, 12, 12).to(torch.bfloat16)
        box = torch.tensor([[-3, 2, 27, 27]])
        expected = paste_patches(patch.float(), box, 30, 30)
        with torch.autocast("cpu", torch.bfloat16):
            pasted = paste_patches(patch, box, 30, 30)
        assert pasted.dtype == torch.float32
        torch.testing.assert_close(pasted, expected)

    def test_crop_then_paste_keeps_a_mask(self):
        masks = random_masks(8, 6, 120, 160)[2:]
        boxes = crop_boxes(mask_boxes(masks))
        patches = crop_masks(torch.from_numpy(masks), boxes, 256)
        back = paste_patches(patches, boxes, 120, 160, threshold=0.5).numpy()
        iou = (back & masks).sum(axis=(1, 2)) / (back | masks).sum(axis=(1, 2))
        assert iou.min() > 0.85  # nearest neighbour moves the outline of a crop by up to half a pixel

    def test_nothing_to_paste(self):
        assert paste_patches(torch.zeros(0, 8, 8), torch.zeros(0, 4), 5, 6).shape == (0, 5, 6)

    @pytest.mark.parametrize(
        ("patches", "boxes", "size", "options", "message"),
        [
            (torch.zeros(1, 4, 5), [[0, 0, 2, 2]], (4, 4), {}, r"`patches` must have shape .* got \(1, 4, 5\)"),
            (torch.zeros(1, 0, 0), [[0, 0, 2, 2]], (4, 4), {}, "`patches` must have shape"),
            (torch.zeros(2, 4, 4), [[0, 0, 2, 2]], (4, 4), {}, "`boxes` has 1 boxes, `patches` has 2 patches"),
            (torch.zeros(1, 4, 4), [[0, 0, 2, 2]], (0, 4), {}, "`height` must be at least 1, got 0"),
            (torch.zeros(1, 4, 4), [[0, 0, 2, 1]], (4, 4), {}, "`boxes` must be squares"),
            (torch.zeros(1, 4, 4), [[0, 0, 2, 2]], (4, 4), {"threshold": -0.1}, "`threshold` must be at least 0"),
            (torch.zeros(1, 4, 4), [[0, 0, 2, 2]], (4, 4), {"threshold": float("nan")}, "got nan"),
        ],
    )
    def test_errors(self, patches, boxes, size, options, message):
        with pytest.raises(ValueError, match=message):
            paste_patches(patches, torch.tensor(boxes), *size, **options)


def test_join_boxes():
    first = np.array([[2, 3, 4, 5], [0, 0, 0, 0], [7, 7, 2, 2], [1, 1, 0, 3]])
    second = np.array([[5, 1, 3, 3], [4, 4, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert join_boxes(first, second).tolist() == [[2, 1, 6, 7], [4, 4, 1, 1], [7, 7, 2, 2], [0, 0, 0, 0]]
    assert meet_boxes(first, second)[1:].tolist() == [[0, 0, 0, 0]] * 3
    assert meet_boxes(np.array([[2, 1, 4, 9], [0, 0, 2, 2]]), np.array([[0, 3, 3, 4], [2, 0, 2, 2]])).tolist() == [
        [2, 3, 1, 4],
        [0, 0, 0, 0],
    ]


@pytest.mark.parametrize("size", [16, 50, 128])
def test_bilinear_crops_equal_opencv(size):
    rng = np.random.default_rng(size)
    masks = rng.random((4, 70, 90)) > 0.4
    boxes = np.array([[-20, -10, 60, 60], [30, 20, 100, 100], [10, 5, 17, 17], [200, 0, 30, 30]])
    patches = crop_masks(torch.from_numpy(masks), boxes, size, indices=torch.tensor([2, 0, 1, 3]), rule="bilinear")
    for patch, (x, y, side, _), which in zip(patches, boxes, (2, 0, 1, 3), strict=True):
        frame = np.pad(masks[which], 240)[y + 240 : y + 240 + side, x + 240 : x + 240 + side]
        expected = cv2.resize(frame.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR) > 0.5
        np.testing.assert_array_equal(patch, expected)


def test_box_of_side_0_gives_an_empty_patch():
    for rule in ("nearest", "bilinear"):
        masks, boxes = torch.ones(1, 9, 9, dtype=torch.bool), torch.zeros(1, 4, dtype=torch.int64)
        assert not crop_masks(masks, boxes, 8, rule=rule).any()


@pytest.mark.parametrize("size", [1, 7, 16, 33])
def test_bilinear_crops_are_the_same_box_by_box_and_together(size):
    """On the CPU bool masks are cropped one by one; other dtypes, and accelerators, take all boxes at once."""
    rng = np.random.default_rng(size)
    for _ in range(40):
        height, width = rng.integers(1, 50, 2)
        masks = torch.from_numpy(rng.random((3, height, width)) < rng.choice([0, 0.03, 0.5, 1], (3, 1, 1)))
        boxes = np.concatenate([rng.integers(-60, 60, (5, 2)), rng.integers(0, 80, (5, 1)).repeat(2, axis=1)], axis=1)
        options = {"indices": torch.from_numpy(rng.integers(0, 3, 5)), "rule": "bilinear"}
        patches = crop_masks(masks, boxes, size, **options)
        assert torch.equal(patches, crop_masks(masks.float(), boxes, size, **options).bool())


def test_bilinear_crops_keep_the_dtype():
    masks = torch.ones(1, 9, 9, dtype=torch.uint8)
    patches = crop_masks(masks, torch.tensor([[0, 0, 9, 9]]), 4, rule="bilinear")
    assert patches.dtype == torch.uint8 and patches.all()


def test_unknown_crop_rule_is_named():
    with pytest.raises(ValueError, match="`rule` must be one of 'nearest', 'bilinear', got 'cubic'"):
        crop_masks(torch.ones(1, 9, 9), torch.zeros(1, 4), 4, rule="cubic")


def test_clip_boxes():
    boxes = np.array([[-9, 4, 31, 31], [30, 20, 64, 64], [0, 0, 0, 0], [90, 0, 5, 5], [-50, -50, 200, 200]])
    clipped = [[0, 4, 22, 31], [30, 20, 30, 20], [0] * 4, [0] * 4, [0, 0, 60, 40]]
    assert clip_boxes(boxes, 40, 60).tolist() == clipped


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_boxes_many_times_as_large_as_the_patch_show_what_they_hold(window_rule, dtype):
    """Most of their pixels are not read; two boxes side by side read different ones."""
    draws = torch.Generator().manual_seed(0)
    photo = torch.randint(0, 256, (3, 150, 260), generator=draws, dtype=torch.uint8)
    photo = photo if dtype == torch.uint8 else photo / 255
    boxes = [[0, 3, 101, 101], [131, -20, 117, 117], [90, 100, 100, 100]]
    patches = crop_images(photo, torch.tensor(boxes), 6)
    for (x, y, side, _), patch in zip(boxes, patches, strict=True):
        crop = padded_crop(
            (photo if dtype == torch.float32 else photo / 255).permute(1, 2, 0).numpy(), (x, y, side, side)
        )
        expected = cv2.resize(crop, (6, 6), interpolation=cv2.INTER_CUBIC)
        np.testing.assert_allclose(patch.permute(1, 2, 0), expected, atol=2e-5)


def test_rows_are_blended_in_parts_alike(window_rule, monkeypatch):
    patches = torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(2))
    boxes = torch.tensor([[3, -4, 70, 70], [20, 10, 40, 40]])
    whole = paste_patches(patches, boxes, 60, 80)
    monkeypatch.setattr(_patches, "_ROWS_CHUNK", 500)
    torch.testing.assert_close(paste_patches(patches, boxes, 60, 80), whole, rtol=0, atol=0)
