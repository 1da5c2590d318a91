"""Pictures of fills, to be looked at."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from amodal_diffusion.masks import mask_boxes

from .pasted import PastedScene
from .rivals import Filler


def picture_strip(scenes: Sequence[PastedScene], fillers: Mapping[str, Filler], side: int = 200) -> Image.Image:
    """One row a hole: what is seen, each filler, the truth; crops around the hole or its object."""
    rows = []
    for scene in scenes:
        shape = scene.hole if scene.target is None else scene.amodal_masks[scene.target]
        x, y, w, h = (int(value) for value in mask_boxes(shape[None])[0])
        margin = max(w, h) // 4
        window = (slice(max(0, y - margin), y + h + margin), slice(max(0, x - margin), x + w + margin))
        pictures = [scene.photo, *(filler(scene) for filler in fillers.values()), scene.truth]
        rows.append([picture[window] for picture in pictures])
    return grid(rows, side)


def grid(rows: Sequence[Sequence[np.ndarray]], side: int) -> Image.Image:
    """Pictures (h, w, 3) uint8 of any size in squares of `side` pixels, none enlarged."""
    sheet = Image.new("RGB", (side * max(map(len, rows)), side * len(rows)), "white")
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            tile = Image.fromarray(picture)
            tile.thumbnail((side - 4, side - 4))
            place = (column * side + (side - tile.width) // 2, row * side + (side - tile.height) // 2)
            sheet.paste(tile, place)
    return sheet
