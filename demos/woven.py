"""A bar woven through a frame, and three bars in a ring, each over the next: no order of them is right everywhere."""

import numpy as np
from PIL import Image

COLOURS = ((196, 92, 58), (64, 112, 148), (92, 132, 70))
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


def ring(height: int = 240, width: int = 360) -> tuple[np.ndarray, np.ndarray]:
    """Visible and whole masks of three bars, (3, H, W) bool each; each lies on the next, and the last on the first."""
    rows, columns = np.mgrid[:height, :width].astype(float)
    side, middle = min(height, width), np.array([width / 2, 0.54 * height])
    amodal = []
    for turn in np.radians([90, 210, 330]):
        across = np.array([np.cos(turn), -np.sin(turn)])
        x, y = columns - middle[0], rows - middle[1]
        off, along = x * across[0] + y * across[1], x * -across[1] + y * across[0]
        amodal.append((abs(off - 0.17 * side) < 0.075 * side) & (abs(along) < 0.46 * side))
    whole = np.stack(amodal)
    return whole & ~np.roll(whole, 1, axis=0), whole


def paint(modal: np.ndarray) -> Image.Image:
    """The scene as a picture, each object in its colour."""
    picture = np.full((*modal.shape[1:], 3), BACKGROUND, np.uint8)
    for mask, colour in zip(modal, COLOURS, strict=False):
        picture[mask] = colour
    return Image.fromarray(picture)
