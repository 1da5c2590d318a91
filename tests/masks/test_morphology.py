import cv2
import numpy as np
import pytest
import torch

from amodal_diffusion.masks import dilate, erode, label_parts
from mask_helpers import random_masks


class TestMorphology:
    @pytest.mark.parametrize("size", [1, 3, 5, 7, 99])
    @pytest.mark.parametrize(("kernel", "shape"), [("cross", cv2.MORPH_CROSS), ("square", cv2.MORPH_RECT)])
    @pytest.mark.parametrize(("function", "reference"), [(dilate, cv2.dilate), (erode, cv2.erode)])
    def test_equals_opencv(self, size, kernel, shape, function, reference):
        masks = random_masks(9)
        element = cv2.getStructuringElement(shape, (size, size))
        expected = np.stack([reference(mask.astype(np.uint8), element) for mask in masks]).astype(bool)
        for dtype in (bool, np.uint8, np.float32):
            out = function(masks.astype(dtype), kernel=kernel, size=size)
            assert out.dtype == dtype
            np.testing.assert_array_equal(out, expected.astype(dtype))
        out = function(torch.from_numpy(masks)[:, None], kernel=kernel, size=size)
        assert out.dtype == torch.bool
        np.testing.assert_array_equal(out[:, 0], expected)

    def test_input_is_left_alone(self):
        masks = random_masks(10)
        for stack in (masks, torch.from_numpy(masks)):
            before = stack.copy() if isinstance(stack, np.ndarray) else stack.clone()
            for size in (1, 3):
                out = dilate(stack, size=size)
                out[:] = False
            assert (stack == before).all()

    @pytest.mark.parametrize("shape", [(0, 4, 5), (1, 1, 1), (2, 1, 9)])
    def test_tiny_stacks(self, shape):
        for masks in (np.ones(shape, dtype=bool), torch.ones(shape, dtype=torch.bool)):
            assert dilate(masks, size=5).shape == shape
            assert bool(erode(masks, size=5).all())

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"size": 4}, "`size` must be an odd number of at least 1, got 4"),
            ({"size": -1}, "`size` must be an odd number"),
            ({"kernel": "disc"}, "`kernel` must be 'cross' or 'square', got 'disc'"),
        ],
    )
    def test_errors(self, options, message):
        for function in (dilate, erode):
            with pytest.raises(ValueError, match=message):
                function(np.ones((6, 8), dtype=bool), **options)

    def test_line_is_refused(self):
        with pytest.raises(ValueError, match=r"`masks` must have shape \(..., height, width\), got \(3,\)"):
            dilate(np.zeros(3, dtype=bool))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9])
def test_what_hangs_together_has_one_number(share):
    mask = np.random.default_rng(3).random((40, 60)) < share
    if share == 0.9:  # a spiral, the longest way round
        mask = np.zeros((41, 41), bool)
        for ring in range(0, 20, 2):
            mask[ring, max(0, ring - 2) : 41 - ring] = mask[40 - ring, ring : 41 - ring] = True
            mask[ring : 41 - ring, 40 - ring] = mask[ring + 2 : 41 - ring, ring] = True
    labels = label_parts(mask)
    assert np.array_equal(labels > 0, mask)
    padded = np.pad(labels, 1)
    for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):  # neighbours have the same
        beside = padded[1 + dy : dy + 1 + mask.shape[0], 1 + dx : dx + 1 + mask.shape[1]]
        assert (labels == beside)[(labels > 0) & (beside > 0)].all()
    left = mask.copy()  # and what does not hang together another one
    while left.any():
        part = np.zeros_like(left)
        part[np.unravel_index(left.argmax(), left.shape)] = True
        while (grown := dilate(part, kernel="square", size=3) & mask).sum() > part.sum():
            part = grown
        left &= ~part
        assert len(np.unique(labels[part])) == 1 and not np.isin(labels[mask & ~part], labels[part]).any()
