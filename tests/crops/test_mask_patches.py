"""Crops of masks by interpolation."""

import numpy as np
import pytest
import torch

from amodal_diffusion.crops.mask_patches import crop_mask_patches


@pytest.mark.parametrize("size", [16, 50, 128])
def test_bilinear_crops_equal_opencv(size):
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(size)
    masks = rng.random((4, 70, 90)) > 0.4
    boxes = np.array([[-20, -10, 60, 60], [30, 20, 100, 100], [10, 5, 17, 17], [200, 0, 30, 30]])
    patches = crop_mask_patches(
        torch.from_numpy(masks), torch.from_numpy(boxes), size, torch.tensor([2, 0, 1, 3]), "bilinear"
    )
    for patch, (x, y, side, _), which in zip(patches, boxes, (2, 0, 1, 3), strict=True):
        frame = np.pad(masks[which], 240)[y + 240 : y + 240 + side, x + 240 : x + 240 + side]
        expected = cv2.resize(frame.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR) > 0.5
        np.testing.assert_array_equal(patch, expected)


def test_box_of_side_0_gives_an_empty_patch():
    for rule in ("nearest", "bilinear"):
        masks, boxes = torch.ones(1, 9, 9, dtype=torch.bool), torch.zeros(1, 4, dtype=torch.int64)
        assert not crop_mask_patches(masks, boxes, 8, torch.zeros(1, dtype=torch.int64), rule).any()
