"""Whole scenes composed from the modal masks of photos, of which order and whole masks are known.

A scene keeps the layout of a photo's masks, has synthetic ground, sky or a wall behind them now and then, and a few
masks of other photos in front. The photo's own objects are taken as whole, as in all training on modal masks.
"""

from collections.abc import Sequence

import numpy as np

from ...masks import BoolArray, mask_boxes

MIN_VISIBLE = 60
"""Objects of which fewer pixels stay visible are left out."""


def compose_scene(rng: np.random.Generator, own: BoolArray, others: Sequence[BoolArray]) -> tuple[BoolArray, BoolArray]:
    """Compose a scene.

    Args:
        rng: decides all that is drawn.
        own: (N, H, W) bool, the masks of one photo; of two that overlap the smaller one is in front.
        others: (h, w) bool each, masks of any photos, of which one to four are pasted in front.

    Returns:
        Modal and amodal masks, both (M, H, W) bool, in random order.

    Example:
        >>> own = np.zeros((1, 60, 80), bool)
        >>> own[0, 20:50, 10:70] = True
        >>> modal, amodal = compose_scene(np.random.default_rng(0), own, [np.ones((20, 30), bool)])
        >>> modal.shape == amodal.shape, bool((modal <= amodal).all()), int(modal.sum(0).max())
        (True, True, 1)
    """
    height, width = own.shape[1:]
    order = np.argsort(own.sum((1, 2)))
    own = own[order] & ~np.concatenate([np.zeros((1, height, width), bool), np.cumsum(own[order], 0)[:-1] > 0])
    layers = draw_surroundings(rng, height, width) + list(own)
    for _ in range(rng.integers(1, 5)):
        mask = paste_mask(rng, others[int(rng.integers(len(others)))], height, width)
        if mask is not None:
            layers.append(mask)
    amodal = np.stack(layers)
    hidden = np.concatenate([np.cumsum(amodal[::-1], 0)[::-1][1:] > 0, np.zeros((1, height, width), bool)])
    modal = amodal & ~hidden
    kept = rng.permutation(np.flatnonzero(modal.sum((1, 2)) >= MIN_VISIBLE))
    return modal[kept], amodal[kept]


def draw_surroundings(rng: np.random.Generator, height: int, width: int) -> list[BoolArray]:
    """Sky, ground and a wall, each now and then, from back to front, each (height, width) bool.

    Example:
        >>> all(part.shape == (30, 40) for part in draw_surroundings(np.random.default_rng(0), 30, 40))
        True
    """
    rows, columns = np.mgrid[:height, :width]
    horizon = rng.uniform(0.25, 0.8) * height + rng.uniform(-0.15, 0.15) * (columns - width / 2)
    if rng.random() < 0.5:
        horizon = horizon + rng.uniform(3, 15) * np.sin(columns / rng.uniform(15, 80) + rng.uniform(0, 6))
    ground = rows > horizon
    left, right = np.sort(rng.uniform(-0.1, 1.1, 2)) * width
    wall = (columns > left) & (columns < right) & (rows > rng.uniform(0, 0.4) * height) & ~ground
    return [region for region, share in ((~ground, 0.5), (ground, 0.7), (wall, 0.5)) if rng.random() < share]


def paste_mask(rng: np.random.Generator, mask: BoolArray, height: int, width: int) -> BoolArray | None:
    """Another photo's mask at a random place and size, 0.3 to 12 % of the frame, mirrored or not.

    Args:
        rng: decides all that is drawn.
        mask: (h, w) bool, not empty.
        height: of the frame.
        width: of the frame.

    Returns:
        (height, width) bool; None where it does not fit.

    Example:
        >>> paste_mask(np.random.default_rng(0), np.ones((4, 4), bool), 40, 40).shape
        (40, 40)
    """
    x, y, w, h = mask_boxes(mask[None])[0]
    mask = mask[y : y + h, x : x + w]
    area = np.exp(rng.uniform(np.log(0.003), np.log(0.12))) * height * width
    scale = np.sqrt(area / mask.sum())
    new_h, new_w = max(4, int(h * scale)), max(4, int(w * scale))
    if new_h > height or new_w > width:
        return None
    mask = mask[(np.arange(new_h) * h // new_h)[:, None], np.arange(new_w) * w // new_w]
    top, left = rng.integers(0, height - new_h + 1), rng.integers(0, width - new_w + 1)
    frame = np.zeros((height, width), bool)
    frame[top : top + new_h, left : left + new_w] = mask[:, ::-1] if rng.random() < 0.5 else mask
    return frame
