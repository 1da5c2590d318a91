"""What the page shows of a session: the values of its picture and its list, drawings, examples. No networks."""

import base64
import html
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import skimage.data
from app_edits import is_mirrored, rotation_of, scale_of
from app_state import MAX_OBJECTS, Mark, Session
from PIL import Image
from woven import paint, woven

from amodal_diffusion import Layer, Scene
from amodal_diffusion.io import ObjectMasks, read_object_masks
from amodal_diffusion.masks import mask_boxes
from amodal_diffusion.visualization import draw_order_graph, draw_overlay, draw_uncertainty, palette

DATA = Path(__file__).parent / "data"
THUMB = 48
VIEWS = ("Parts", "Order", "Uncertainty", "Whole objects")
EDIT_HINT = "Drag an object; corners change its size, the knob turns it. Arrow keys move by a pixel, Ctrl+Z undoes."
_COLOURS = palette(MAX_OBJECTS)
# Scenes, layers and marks never change, so what was drawn of one is kept as long as it is.
_thumbs: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
_drawn: WeakKeyDictionary[Scene, "Drawn"] = WeakKeyDictionary()

Value = dict[str, Any]


# Examples


@dataclass(frozen=True)
class Example:
    """A photo with masks: `load` gives both."""

    key: str
    label: str
    load: Callable[[], tuple[Image.Image, ObjectMasks]]


def _photo_with_masks(name: str) -> tuple[Image.Image, ObjectMasks]:
    photo = Image.fromarray(getattr(skimage.data, name)())
    return photo, read_object_masks(DATA / f"{name}.json", size=(photo.height, photo.width))


def _woven() -> tuple[Image.Image, ObjectMasks]:
    modal, _ = woven(480, 720)
    return paint(modal), ObjectMasks(modal, names=["frame", "bar"])


EXAMPLES = (
    Example("coffee", "Coffee", lambda: _photo_with_masks("coffee")),
    Example("astronaut", "Astronaut", lambda: _photo_with_masks("astronaut")),
    Example("woven", "Woven bar", _woven),
)


def examples_html() -> str:
    """Buttons with a small picture for each example."""
    buttons = []
    for example in EXAMPLES:
        photo, _ = example.load()
        photo.thumbnail((180, 180), Image.Resampling.LANCZOS)
        buttons.append(
            f'<button type="button" class="ad-example" data-key="{example.key}">'
            f'<img alt="" src="{data_url(photo)}"><span>{html.escape(example.label)}</span></button>'
        )
    return f'<div class="ad-examples">{"".join(buttons)}</div>'


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


# The picture


def stage_value(session: Session) -> Value | None:
    """What the picture shows, for app_stage.js; None without a photo."""
    if session.photo is None:
        return None
    if session.view == "mark" or session.scene is None:
        return _mark_stage(session)
    if session.view == "edit":
        return _edit_stage(session, session.scene.present)
    return _look_stage(session, session.completed or session.scene.present)


def _frame(session: Session, mode: str, picture: str, size: tuple[int, int], **more: Any) -> Value:
    width, height = size
    return {
        "mode": mode,
        "stamp": session.stamp,
        "width": width,
        "height": height,
        "picture": picture,
        "title": session.title,
        "dims": "" if mode == "look" else f"{width} × {height} px",
        **more,
    }


def _mark_stage(session: Session) -> Value:
    photo = Image.fromarray(session.photo)
    ids = np.zeros(session.size, np.uint8)
    objects = []
    for index, mark in enumerate(session.marks.present):
        ids[mark.mask] = index + 1
        objects.append({"id": mark.id, "name": mark.name, "rgb": colour_of(mark.id)})
    return _frame(
        session,
        "mark",
        data_url(photo),
        photo.size,
        ids=data_url(Image.fromarray(ids), "PNG"),
        objects=objects,
        selected=session.selected,
        canPick=session.segmenter,
    )


def object_codes(scene: Scene) -> np.ndarray:
    """(H, W) uint8: the place in `layers` of what is seen at each pixel, plus one; 0 for the background.

    The scene itself tells, with flat colours for pictures: the last channel is a check on colours that mixed.
    """
    layers = []
    empty = np.zeros_like(scene.background)
    photo = None if scene.photo is None else empty.copy()  # where nothing changed, the scene shows the photo
    for index, layer in enumerate(scene.layers):
        solid = np.where(layer.rgba[..., 3:] > 127, np.array(_code(index), np.uint8), np.uint8(0))
        layers.append(replace(layer, rgba=solid.astype(np.uint8), shadow=None))
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
    under: dict[int, str]


def drawn(scene: Scene) -> Drawn:
    if scene not in _drawn:
        codes = data_url(Image.fromarray(object_codes(scene)), "PNG")
        _drawn[scene] = Drawn(data_url(scene.render()), codes, {})
    return _drawn[scene]


def draw_under(scene: Scene, index: int) -> str:
    """The scene without one object, for the time that it is dragged."""
    under, number = drawn(scene).under, scene.layers[index].id
    if number not in under:
        under[number] = data_url(scene.remove(index).render())
    return under[number]


def keep_under(before: Scene, after: Scene, number: int) -> None:
    """Where an object alone was moved, turned or resized, the scene without it is what it was."""
    if before in _drawn and number in _drawn[before].under:
        drawn(after).under[number] = _drawn[before].under[number]


def _edit_stage(session: Session, scene: Scene) -> Value:
    objects = []
    for layer in scene.layers:
        (a, b, c), (d, e, f) = layer.transform.tolist()
        objects.append(
            {
                "id": layer.id,
                "name": layer.name,
                "tile": list(layer.size),
                "transform": [a, d, b, e, c, f],  # as DOMMatrix counts
                "centre": list(layer.centre),
                "scale": scale_of(layer),
                "rotation": rotation_of(layer),
            }
        )
    chosen = next((index for index, layer in enumerate(scene.layers) if layer.id == session.layer), None)
    more: Value = {}
    if chosen is not None:
        more["under"] = draw_under(scene, chosen)
        more["tile"] = data_url(scene.layer_image(chosen, canvas=False), "PNG")
    pictures = drawn(scene)
    return _frame(
        session,
        "edit",
        pictures.picture,
        scene.size,
        ids=pictures.codes,
        objects=objects,
        selected=session.layer,
        hint=EDIT_HINT,
        **more,
    )


# What was found


def canvas_masks(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Visible and whole masks (N, H, W) bool of a scene as it was completed."""
    width, height = scene.size
    modal = np.zeros((len(scene), height, width), bool)
    amodal = np.zeros_like(modal)
    for index, layer in enumerate(scene.layers):
        x, y = (round(value) for value in layer.box[:2])
        w, h = layer.size
        modal[index, y : y + h, x : x + w] = layer.modal
        amodal[index, y : y + h, x : x + w] = layer.amodal
    return modal, amodal


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


def has_uncertainty(scene: Scene) -> bool:
    return any(layer.uncertainty is not None for layer in scene.layers)


def canvas_uncertainty(scene: Scene) -> np.ndarray:
    """(H, W) float32, of all objects the largest."""
    width, height = scene.size
    values = np.zeros((height, width), np.float32)
    for layer in scene.layers:
        if layer.uncertainty is not None:
            x, y = (round(value) for value in layer.box[:2])
            w, h = layer.size
            part = values[y : y + h, x : x + w]
            np.maximum(part, layer.uncertainty, out=part)
    return values


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


def _look_stage(session: Session, scene: Scene) -> Value:
    hints = {
        "Parts": "Tinted: what the photo shows. Hatched: what the network adds.",
        "Order": "An arrow runs from an object to what it hides in part.",
        "Uncertainty": "Dark: the network is unsure whether the object is there.",
        "Whole objects": "Each object with its hidden part, as it can be moved.",
    }
    drawing = draw_view(scene, session.look)
    return _frame(session, "look", data_url(drawing), drawing.size, hint=hints[session.look])


def draw_shapes(
    photo: np.ndarray, modal: np.ndarray, samples: np.ndarray, scores: np.ndarray
) -> list[tuple[Image.Image, str]]:
    """A picture and a caption for each shape (K, H, W) of the object with the visible part (H, W)."""
    height, width = modal.shape
    x, y, w, h = mask_boxes((samples.any(axis=0) | modal)[None])[0].tolist()
    margin = round(0.12 * max(w, h)) + 8
    rows = slice(max(0, y - margin), min(height, y + h + margin))
    columns = slice(max(0, x - margin), min(width, x + w + margin))
    part = Image.fromarray(photo[rows, columns])
    pictures = []
    for sample, score in zip(samples, scores, strict=True):
        drawn = draw_overlay(part, modal[rows, columns], (sample | modal)[rows, columns], size=420, legend=False)
        pictures.append((drawn, f"{100 * float(score):.0f}%"))
    return pictures


# The list


def panel_value(session: Session, mode: str) -> Value | None:
    """What the list of objects shows, for app_panel.js."""
    if session.photo is None:
        return None
    if mode == "mark":
        history: Any = session.marks
        objects = [_mark_row(mark, session.photo) for mark in reversed(session.marks.present)]
        selected, title = session.selected, f"Objects ({len(objects)})"
        none = "No object yet. Draw around each object in the photo, or upload masks."
    elif session.scene is not None:
        history, scene = session.scene, session.scene.present
        objects = [_layer_row(scene.layers[index]) for index in reversed(scene.stacking())]
        selected, title = session.layer, f"Layers ({len(objects)})"
        none = "No object is left. Undo brings them back."
    else:
        return None
    return {
        "mode": mode,
        "stamp": session.stamp,
        "title": title,
        "none": none,
        "objects": objects,
        "selected": selected,
        "canUndo": bool(history.past),
        "canRedo": bool(history.future),
    }


def _mark_row(mark: Mark, photo: np.ndarray) -> Value:
    share = 100 * mark.area / (mark.shape[0] * mark.shape[1])
    return {
        "id": mark.id,
        "name": mark.name,
        "colour": css(colour_of(mark.id)),
        "thumb": mark_thumb(mark, photo),
        "about": f"{share:.1f}% of the photo" if share < 10 else f"{share:.0f}% of the photo",
    }


def _layer_row(layer: Layer) -> Value:
    x, y, w, h = layer.box
    whole = int(layer.amodal.sum())
    hidden = 100 * int((layer.amodal & ~layer.modal).sum()) / max(1, whole)
    about = f"{w:.0f} × {h:.0f} px"
    if layer.origin is not None:
        about += f", {hidden:.0f}% was hidden"
    return {
        "id": layer.id,
        "name": layer.name,
        "colour": css(colour_of(layer.id)),
        "thumb": layer_thumb(layer),
        "about": about + (", mirrored" if is_mirrored(layer) else ""),
        "x": _short(x),
        "y": _short(y),
        "scale": _short(scale_of(layer)),
        "rotation": _short(rotation_of(layer)),
    }


def _short(value: float) -> float | int:
    rounded = round(value, 1) + 0.0
    return int(rounded) if rounded == int(rounded) else rounded
