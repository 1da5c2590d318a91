"""Masks that several test modules use."""

import cv2
import numpy as np


def random_masks(seed, count=5, height=37, width=53):
    """Blobs of several shapes, among them an empty and a full one."""
    rng = np.random.default_rng(seed)
    noise = rng.random((count, height, width)).astype(np.float32)
    masks = np.stack([cv2.GaussianBlur(plane, (0, 0), 3) for plane in noise]) > 0.5
    masks[0], masks[1] = False, True
    return masks
