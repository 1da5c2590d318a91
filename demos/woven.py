"""A bar woven through a frame: each passes over the other once, so no order of the two is right everywhere."""

import numpy as np
from PIL import Image

COLOURS = ((196, 92, 58), (64, 112, 148))
BACKGROUND = (232, 228, 220)


def woven(height: int = 240, width: int = 360) -> tuple[np.ndarray, np.ndarray]:
    """Visible and whole masks of frame and bar, (2, H, W) bool each; the bar is in front above and behind below."""
    rows, columns = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    outside = (rows > 0.25) & (rows < 0.8125) & (columns > 0.055) & (columns < 0.945)
    hole = (rows > 0.4375) & (rows < 0.625) & (columns > 0.14) & (columns < 0.86)
    bar = (rows > 0.085) & (rows < 0.935) & (columns > 0.43) & (columns < 0.57)
    amodal = np.stack([outside & ~hole, bar])
    upper = rows < 0.5
    modal = amodal.copy()
    modal[0] &= ~amodal[1] | ~upper
    modal[1] &= ~amodal[0] | upper
    return modal, amodal


def paint(modal: np.ndarray) -> Image.Image:
    """The scene as a picture, each object in its colour."""
    picture = np.full((*modal.shape[1:], 3), BACKGROUND, np.uint8)
    for mask, colour in zip(modal, COLOURS, strict=True):
        picture[mask] = colour
    return Image.fromarray(picture)
