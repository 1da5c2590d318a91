"""Photos with an object of another photo pasted in front: what it hides is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from amodal_diffusion.data import read_annotations, record_masks
from amodal_diffusion.data.samplers import split_photos
from amodal_diffusion.images import load_image
from amodal_diffusion.masks import mask_boxes

_HIDDEN = (0.15, 0.5)  # share of an object that an occluder takes away
_BACKGROUND = (0.02, 0.12)  # share of the photo that an occluder covers
_LEAST_OBJECT, _LEAST_CUTOUT = 3000, 6000  # pixels
_LARGEST_OBJECT = 0.6  # of the photo
_DRAWS = 60
_OPAQUE = [0] * 128 + [255] * 128


@dataclass
class PastedScene:
    """A photo in which the last object was pasted; the pixels behind it are known.

    Args:
        photo: (H, W, 3) uint8, with the occluder.
        truth: (H, W, 3) uint8, without it.
        masks: (N, H, W) bool, what is visible of each object; the occluder is the last one.
        amodal_masks: (N, H, W) bool; of the objects, only the target goes on behind the occluder.
        names: of the objects.
        category_ids: (N,) int64.
        target: the object whose hidden part is the hole; None where it is the whole place of the occluder.
    """

    photo: np.ndarray
    truth: np.ndarray
    masks: np.ndarray
    amodal_masks: np.ndarray
    names: list[str]
    category_ids: np.ndarray
    target: int | None = None

    @property
    def occluder(self) -> np.ndarray:
        return self.masks[-1]

    @property
    def hole(self) -> np.ndarray:
        return self.occluder if self.target is None else self.amodal_masks[self.target] & self.occluder

    @property
    def occluder_color(self) -> np.ndarray:
        """(3,) mean of what is seen of the occluder."""
        return self.photo[self.occluder].mean(0)

    @property
    def order(self) -> np.ndarray:
        """(N, N) int8: the occluder is in front of the target, nothing else is known."""
        order = np.zeros((len(self.masks), len(self.masks)), np.int8)
        if self.target is not None:
            order[-1, self.target], order[self.target, -1] = 1, -1
        return order


@dataclass
class Photo:
    """A photo and its objects: (H, W, 3) uint8, (N, H, W) bool, names and category ids."""

    pixels: np.ndarray
    masks: np.ndarray
    names: list[str]
    category_ids: np.ndarray


Cutout = tuple[np.ndarray, np.ndarray, str, int]
"""(h, w, 3) uint8, (h, w) bool, its name and category id."""


def read_held_out(datasets: Sequence[str], fraction: float) -> list[Photo]:
    """The photos that `train_pcnet_c.py` holds out with the same data and share."""
    photos = []
    for path in datasets:
        for row in split_photos(read_annotations(path, Path(path).parent, on_error="skip"), fraction)[1]:
            photos.append(read_photo(row))
    return photos


def read_photo(row: Any) -> Photo:
    things = [thing for thing in row["objects"] if not thing["is_crowd"]]
    masks = record_masks({**row, "objects": things})[0]
    names = [thing["name"] or "" for thing in things]
    ids = np.array([thing["category_id"] or 1 for thing in things], np.int64)
    return Photo(np.asarray(load_image(row["image"])), masks, names, ids)


def cut_out(photos: Sequence[Photo]) -> list[Cutout]:
    """The large objects that the frame does not cut."""
    found = []
    for photo in photos:
        height, width = photo.pixels.shape[:2]
        for mask, name, category in zip(photo.masks, photo.names, photo.category_ids, strict=True):
            x, y, w, h = mask_boxes(mask[None])[0]
            if mask.sum() > _LEAST_CUTOUT and min(x, y) > 2 and x + w < width - 2 and y + h < height - 2:
                window = (slice(y, y + h), slice(x, x + w))
                found.append((photo.pixels[window], mask[window], name, int(category)))
    return found


def paste(
    photo: np.ndarray, cutout: Cutout, area: float, centre: tuple[float, float], softness: float
) -> tuple[np.ndarray, np.ndarray]:
    """A cut-out of about `area` pixels in front of a photo, at (x, y): the picture and (H, W) bool, its place.

    With a `softness` of 0 the rim is sharp. Else its colours mix with those behind it, as in a photo, also outside of
    the place: 0.6 (standard deviation in pixels) is that of a sharp photo.
    """
    pixels, mask = cutout[:2]
    scale = np.sqrt(area / mask.sum())
    size = tuple(max(6, round(side * scale)) for side in (pixels.shape[1], pixels.shape[0]))
    alpha = Image.fromarray(mask).convert("L").resize(size, Image.Resampling.BICUBIC)
    frame = Image.new("RGBA", photo.shape[1::-1])
    piece = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    piece.putalpha(alpha.filter(ImageFilter.GaussianBlur(softness)) if softness else alpha.point(_OPAQUE))
    frame.paste(piece, (round(centre[0] - size[0] / 2), round(centre[1] - size[1] / 2)))
    layer = np.asarray(frame, np.float32)
    share = layer[..., 3:] / 255
    picture = (photo * (1 - share) + layer[..., :3] * share).round().astype(np.uint8)
    return picture, share[..., 0] > 0.5


def hide_object(
    rng: np.random.Generator, photo: Photo, cutouts: Sequence[Cutout], softness: float = 0.0
) -> PastedScene | None:
    """An object of the photo with something in front of it; None where 60 draws give nothing that suits."""
    height, width = photo.pixels.shape[:2]
    areas = photo.masks.sum((1, 2))
    large = np.flatnonzero((areas >= _LEAST_OBJECT) & (areas < _LARGEST_OBJECT * height * width))
    if not len(large):
        return None
    target = int(rng.choice(large))
    x, y, w, h = mask_boxes(photo.masks[target, None])[0]
    for _ in range(_DRAWS):
        cutout = cutouts[rng.integers(len(cutouts))]
        centre = (rng.uniform(x, x + w), rng.uniform(y, y + h))
        picture, place = paste(photo.pixels, cutout, areas[target] * rng.uniform(0.3, 1.2), centre, softness)
        if _HIDDEN[0] < (photo.masks[target] & place).sum() / areas[target] < _HIDDEN[1]:
            return _scene(photo, cutout, picture, place, target)
    return None


def hide_background(
    rng: np.random.Generator, photo: Photo, cutouts: Sequence[Cutout], softness: float = 0.0
) -> PastedScene | None:
    """Something that stands in the photo, to be removed; None where 60 draws give nothing that suits."""
    height, width = photo.pixels.shape[:2]
    for _ in range(_DRAWS):
        area = height * width * np.exp(rng.uniform(*np.log(_BACKGROUND)))
        cutout = cutouts[rng.integers(len(cutouts))]
        centre = (rng.uniform(0, width), rng.uniform(0.2 * height, height))
        picture, place = paste(photo.pixels, cutout, area, centre, softness)
        if place.sum() > 0.6 * area:
            return _scene(photo, cutout, picture, place, None)
    return None


def _scene(photo: Photo, cutout: Cutout, picture: np.ndarray, place: np.ndarray, target: int | None) -> PastedScene:
    masks = np.concatenate([photo.masks & ~place, place[None]])
    amodal_masks = masks.copy()
    if target is not None:
        amodal_masks[target] = photo.masks[target]
    names, ids = [*photo.names, cutout[2]], np.append(photo.category_ids, cutout[3])
    return PastedScene(picture, photo.pixels, masks, amodal_masks, names, ids, target)


def make_scenes(
    photos: Sequence[Photo], seed: int, count: int | None = None, softness: float = 0.0
) -> dict[str, list[PastedScene]]:
    """Scenes of both kinds, at most one of each kind for a photo and `count` of each kind in all."""
    rng = np.random.default_rng(seed)
    cutouts = cut_out(photos)
    scenes: dict[str, list[PastedScene]] = {"object": [], "background": []}
    for index in rng.permutation(len(photos)):
        for kind, hide in (("object", hide_object), ("background", hide_background)):
            if count is None or len(scenes[kind]) < count:
                found = hide(rng, photos[index], cutouts, softness)
                scenes[kind] += [] if found is None else [found]
    return scenes
