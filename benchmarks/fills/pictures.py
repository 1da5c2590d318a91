"""Pictures of fills, to be looked at."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from amodal_diffusion import ScenePipeline
from amodal_diffusion.masks import erode, mask_boxes

from .pasted import PastedScene, Photo
from .rivals import Filler

_OBJECTS = 8  # of a photo in its scene, the largest ones
_LEAST_AREA = 400  # pixels
_CHOSEN_AREA = (0.02, 0.35)  # of the photo that the edited object covers
_SHIFT = 0.3  # of the photo's width that an object is moved by


def edited_scenes(
    pipe: ScenePipeline, photos: Sequence[Photo], fillers: Sequence[str], count: int
) -> Iterator[list[np.ndarray]]:
    """The largest object of each photo removed and, in every other one, moved: its own hidden parts come to light.

    What stands on it or is held by it goes along.

    Args:
        pipe: takes the photos apart.
        photos: in this order; those without an object of 2 to 35 % of the photo beside another one are passed over.
        fillers: names, for objects and background alike.
        count: of scenes.

    Yields:
        (H, W, 3) uint8 pictures: the photo with the object outlined, then the edited scene by each filler.
    """
    done = 0
    for photo in photos:
        areas = photo.masks.sum((1, 2))
        rows = [index for index in np.argsort(-areas)[:_OBJECTS] if areas[index] >= _LEAST_AREA]
        low, high = (share * photo.pixels[..., 0].size for share in _CHOSEN_AREA)
        chosen = next((place for place, index in enumerate(rows) if low <= areas[index] <= high), None)
        if done == count or chosen is None or len(rows) < 2:
            continue
        masks, names = photo.masks[rows], [photo.names[index] for index in rows]
        outline = masks[chosen] & ~erode(masks[chosen], kernel="square", size=5)
        pictures = [np.where(outline[..., None], np.uint8([255, 0, 255]), photo.pixels)]
        x, _, w, _ = mask_boxes(masks[chosen, None])[0]
        width = masks.shape[2]
        shift = round(_SHIFT * width) * (1 if x + w / 2 < width / 2 else -1)
        for filler in fillers:
            scene = pipe(photo.pixels, masks, names=names, filler=filler, background_filler=filler)
            edited = scene.move(chosen, dx=shift, carried=True) if done % 2 else scene.remove(chosen, carried=True)
            pictures.append(np.asarray(edited.render())[..., :3])
        done += 1
        yield pictures


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
