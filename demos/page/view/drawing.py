"""Pictures of marks and scenes, as the page shows them."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from PIL import Image

from amodal_diffusion import Layer, Scene
from amodal_diffusion.masks import dilate, erode, mask_boxes
from amodal_diffusion.visualization import draw_order_graph, draw_overlay, draw_uncertainty, palette
from page.work.completed import canvas_masks, canvas_uncertainty
from page.work.session import MAX_OBJECTS, Mark

THUMB = 48
VIEWS = ("Parts", "Order", "Uncertainty", "Whole objects")
_COLOURS = palette(MAX_OBJECTS)
# Scenes, layers and marks never change, so what was drawn of one is kept as long as it is.
_thumbs: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
_drawn: WeakKeyDictionary[Scene, "Drawn"] = WeakKeyDictionary()
_before: WeakKeyDictionary[Scene, str] = WeakKeyDictionary()


# Pictures as text


def data_url(image: Image.Image, kind: str = "JPEG") -> str:
    buffer = io.BytesIO()
    if kind == "JPEG":
        image.save(buffer, kind, quality=92, subsampling=0)
    else:
        image.save(buffer, kind, compress_level=1)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def colour_of(number: int) -> tuple[int, int, int]:
    """The colour of an object by its id."""
    red, green, blue = _COLOURS[number % MAX_OBJECTS]
    return red, green, blue


def css(colour: tuple[int, int, int]) -> str:
    return f"rgb({colour[0]}, {colour[1]}, {colour[2]})"


def _small(rgba: np.ndarray) -> str:
    """A square thumbnail of RGBA pixels on the page's own ground."""
    image = Image.fromarray(rgba)
    image.thumbnail((THUMB * 2, THUMB * 2), Image.Resampling.BILINEAR)
    side = max(image.size)
    sheet = Image.new("RGBA", (side, side))
    sheet.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return data_url(sheet, "PNG")


def mark_thumb(mark: Mark, photo: np.ndarray) -> str:
    """Made once for each state of a mark."""
    if mark not in _thumbs:
        mask = mark.mask
        x, y, w, h = mask_boxes(mask[None])[0]
        window = (slice(y, y + h), slice(x, x + w))
        alpha = mask[window].astype(np.uint8)[..., None] * 255
        _thumbs[mark] = _small(np.concatenate([photo[window], alpha], axis=2))
    return _thumbs[mark]


def layer_thumb(layer: Layer) -> str:
    """Made once for each state of a layer."""
    if layer not in _thumbs:
        _thumbs[layer] = _small(np.asarray(layer.rgba))
    return _thumbs[layer]


# A scene, while it is edited


def object_codes(scene: Scene) -> np.ndarray:
    """(H, W) uint8: the place in `layers` of what is seen at each pixel, plus one; 0 for the background.

    The scene itself tells, with flat colours for pictures: the last channel is a check on colours that mixed.
    """
    layers = []
    empty = np.zeros_like(scene.background)
    photo = None if scene.photo is None else empty.copy()  # where nothing changed, the scene shows the photo
    for index, layer in enumerate(scene.layers):
        solid = np.where(layer.rgba[..., 3:] > 127, np.array(_code(index), np.uint8), np.uint8(0))
        layers.append(replace(layer, rgba=solid.astype(np.uint8), shadow=None, opacity=1.0))
        if photo is not None and layer.origin is not None:
            x, y = (round(value) for value in layer.origin[:, 2].tolist())
            height, width = layer.modal.shape
            photo[y : y + height, x : x + width][layer.modal] = _code(index)[:3]
    seen = replace(scene, layers=tuple(layers), background=empty, photo=photo).render(output_type="np")
    known = np.zeros(256, np.int32)
    for index in range(len(scene)):
        known[index + 1] = _code(index)[2]
    right = (seen[..., 1] == 255) & (seen[..., 2] == known[seen[..., 0]])
    return np.where(right, seen[..., 0], 0).astype(np.uint8)


def _code(index: int) -> tuple[int, int, int, int]:
    return index + 1, 255, (index * 97 + 31) % 251, 255


@dataclass
class Drawn:
    """Pictures of a scene: as it is, the objects as codes, and without one object for each id that was chosen."""

    picture: str
    codes: str
    under: dict[tuple[int, bool], str]


def drawn(scene: Scene) -> Drawn:
    if scene not in _drawn:
        codes = data_url(Image.fromarray(object_codes(scene)), "PNG")
        _drawn[scene] = Drawn(data_url(scene.render()), codes, {})
    return _drawn[scene]


def draw_under(scene: Scene, index: int, carried: bool = False) -> str:
    """The scene without one object, and without what it carries, for the time that it is dragged."""
    under, key = drawn(scene).under, (scene.layers[index].id, carried)
    if key not in under:
        under[key] = data_url(scene.remove(index, carried=carried).render())
    return under[key]


def draw_before(scene: Scene) -> str:
    """The photo of a scene, drawn once for the scene that the edits began with."""
    if scene not in _before:
        _before[scene] = data_url(Image.fromarray(np.asarray(scene.photo)))
    return _before[scene]


def keep_under(before: Scene, after: Scene, number: int) -> None:
    """Where an object alone was moved, turned or resized, the scene without it is what it was."""
    key = (number, False)
    if before in _drawn and key in _drawn[before].under:
        drawn(after).under[key] = _drawn[before].under[key]


# What was found


def draw_view(scene: Scene, view: str) -> Image.Image:
    """One of `VIEWS` of a scene as it was completed."""
    photo = Image.fromarray(scene.photo if scene.photo is not None else scene.background)
    modal, amodal = canvas_masks(scene)
    names = [layer.name for layer in scene.layers]
    if view == "Order":
        return draw_order_graph(scene.order, names=names, masks=modal, image=photo)
    if view == "Uncertainty":
        return draw_uncertainty(photo, canvas_uncertainty(scene), amodal)
    if view == "Whole objects":
        return draw_sheet(scene)
    return draw_overlay(photo, modal, amodal, names=names)


def draw_sheet(scene: Scene, width: int = 1200) -> Image.Image:
    """All objects whole, side by side on a chequered ground."""
    count = max(1, len(scene))
    columns = min(count, 4 if count > 6 else 3)
    side = width // columns
    rows = -(-count // columns)
    y, x = np.mgrid[: rows * side, : columns * side] // 12
    ground = np.where(((x + y) % 2)[..., None], np.uint8(236), np.uint8(250)).repeat(3, axis=2)
    sheet = Image.fromarray(ground.astype(np.uint8))
    for index, layer in enumerate(scene.layers):
        tile = Image.fromarray(np.asarray(layer.rgba))
        scale = min(0.86 * side / tile.width, 0.86 * side / tile.height, 4)
        tile = tile.resize((max(1, round(tile.width * scale)), max(1, round(tile.height * scale))))
        row, column = divmod(index, columns)
        place = (column * side + (side - tile.width) // 2, row * side + (side - tile.height) // 2)
        sheet.paste(tile, place, tile)
    return sheet


def draw_shapes(
    photo: np.ndarray, modal: np.ndarray, amodal: np.ndarray, samples: np.ndarray, said: Sequence[str]
) -> list[tuple[Image.Image, str]]:
    """A picture and a caption for each shape (K, H, W) of the object with the visible and whole mask (H, W).

    `said` are words about each shape, to which the caption adds how much of it is not as the object is now.
    """
    pictures = []
    for number, words in enumerate(said):
        drawing = draw_shape(photo, modal, amodal, samples, number)
        union = (samples[number] | modal | amodal).sum()
        changed = ((samples[number] | modal) != amodal).sum() / max(1, int(union))
        pictures.append((drawing, f"{words}, {changed:.0%} changed"))
    return pictures


_EVERYWHERE, _HERE, _ELSEWHERE, _NOW = (255, 255, 255), (255, 140, 0), (40, 110, 255), (20, 20, 20)


def draw_shape(
    photo: np.ndarray, modal: np.ndarray, amodal: np.ndarray, samples: np.ndarray, number: int, side: int = 1000
) -> Image.Image:
    """What one of several shapes (K, H, W) adds to the visible part, beside what the others add.

    White is what all of them have, orange what this one has and not all others, blue what others have and this one has
    not; a line runs around the whole mask that the object has now.
    """
    height, width = modal.shape
    x, y, w, h = mask_boxes((samples.any(axis=0) | modal | amodal)[None])[0].tolist()
    margin = round(0.12 * max(w, h)) + 8
    rows = slice(max(0, y - margin), min(height, y + h + margin))
    columns = slice(max(0, x - margin), min(width, x + w + margin))
    seen, now, drawn = (mask[..., rows, columns] for mask in (modal, amodal, samples))
    picture = Image.fromarray(photo[rows, columns])
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    canvas = np.asarray(picture.resize(size, Image.Resampling.BICUBIC)).astype(np.float32)

    def large(mask: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), dtype=bool)

    this, shared, some = (
        large(drawn[number] & ~seen),
        large(drawn.all(axis=0) & ~seen),
        large(drawn.any(axis=0) & ~seen),
    )
    around = ~(large(seen) | some)
    canvas[around] = 0.45 * canvas[around] + 0.55 * 128
    for mask, colour in ((this & shared, _EVERYWHERE), (this & ~shared, _HERE), (some & ~this, _ELSEWHERE)):
        canvas[mask] = 0.35 * canvas[mask] + 0.65 * np.array(colour, np.float32)
    whole = large(now)
    line = dilate(whole, kernel="square", size=3) & ~erode(whole, kernel="square", size=3)
    canvas[line] = _NOW
    edge = large(drawn[number] | seen)
    canvas[dilate(edge, kernel="square", size=5) & ~edge] = _HERE
    return Image.fromarray(np.rint(canvas).clip(0, 255).astype(np.uint8))
