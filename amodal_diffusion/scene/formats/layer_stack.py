"""Scenes as plain stacks of pictures, which is all that layered image files know. Internal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...display import short_repr
from ...masks import BoolArray, mask_boxes
from ..layer import translation
from ..render import PlacedLayer, composite, place_layer, standing_evidence, to_bytes
from ..scene import Layer, Scene
from .document import check_layer_count, check_pixels

BACKGROUND = "Background"
PHOTO = "Photo around the objects"
SHADOW = "Shadow of {}"
CORRECTIONS = "In front in the photo"

_TOLERANCE = 2  # levels of 255: programs round a soft edge differently


@dataclass(frozen=True, eq=False)
class Picture:
    """One plain layer of an image file.

    Args:
        rgba: (h, w, 4) uint8, straight alpha.
        x: left edge on the canvas, which it may leave.
        y: top edge.
        name: of the layer.
        opacity: 0 to 1, by which its alpha counts.
        visible: it is shown.
        locked: nobody is to change it.

    Example:
        >>> picture = Picture(np.zeros((2, 3, 4), np.uint8), x=5, y=1, name="cup")
        >>> picture
        Picture(rgba=uint8 (2, 3, 4), x=5, y=1, name='cup', opacity=1.0, visible=True, locked=False)
    """

    rgba: npt.NDArray[np.uint8]
    x: int
    y: int
    name: str
    opacity: float = 1.0
    visible: bool = True
    locked: bool = False

    __repr__ = short_repr


def stack_of(scene: Scene, rendered: npt.NDArray[np.uint8]) -> list[Picture]:
    """A scene as pictures, back to front, which show `rendered` when they are put over each other.

    The lowest is the background and each object is one picture, whole, also a hidden one; shadows are black pictures
    below all objects, whose alpha is how dark they are. What a plain stack cannot show gets a picture
    of its own, where there is such: the photo next to the objects, whose rims the background has filled; and, before
    everything, pixels of objects that are in front of each other in turn.

    Args:
        scene: with N layers.
        rendered: (H, W, 3) uint8, `scene.render(output_type="np")`.

    Example:
        >>> scene = Scene(np.zeros((4, 6, 3), np.uint8)).insert(np.full((2, 2, 4), 255, np.uint8), name="cup")
        >>> [picture.name for picture in stack_of(scene, scene.render(output_type="np"))]
        ['Background', 'cup']
    """
    height, width = rendered.shape[:2]
    pictures = [Picture(_opaque(scene.background), 0, 0, BACKGROUND)]
    placed = [_place(layer, height, width) for layer in scene.layers]
    shadows = [_place(layer.shadow_layer(), height, width) for layer in scene.layers]
    canvas = scene.background.copy()
    covered = np.zeros((height, width), bool)
    for layer, *parts in zip(scene.layers, placed, shadows, strict=True):
        for part in parts:
            if part is not None and layer.visible and layer.opacity:
                covered[part.window] |= part.cover
    around = ~covered & (rendered != scene.background).any(axis=2)
    if around.any():
        pictures.append(_cut_out(rendered, around, PHOTO))
        canvas[around] = rendered[around]
    pairs = [(part, layer, SHADOW) for part, layer in zip(shadows, scene.layers, strict=True) if part is not None]
    for part, layer, name in [*pairs, *((placed[index], scene.layers[index], "{}") for index in scene.stacking())]:
        pictures.append(_rasterised(part, layer, name.format(layer.name)))
        if part is not None and layer.visible:
            window = canvas[part.window]
            alpha = pictures[-1].rgba[..., 3:] * np.float32(layer.opacity / 255)
            window[:] = np.rint(window + alpha * (pictures[-1].rgba[..., :3] - window.astype(np.float32)))
    differs = (canvas > rendered + np.uint8(_TOLERANCE)) & (rendered < 255 - _TOLERANCE)
    differs |= (rendered > canvas + np.uint8(_TOLERANCE)) & (canvas < 255 - _TOLERANCE)
    wrong: BoolArray = np.logical_or.reduce(differs, axis=2)
    if wrong.any():
        pictures.append(_cut_out(rendered, wrong, CORRECTIONS))
    return pictures


def _place(layer: Layer | None, height: int, width: int) -> PlacedLayer | None:
    """A layer on the canvas as if it were not faded: files have a place of their own for the opacity."""
    return None if layer is None else place_layer(replace(layer, opacity=1.0), layer.transform, height, width)


def visible_layers(scene: Scene, rendered: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.bool_], ...]:
    """Where each layer lies on the canvas, and where it is seen.

    Args:
        scene: with N layers.
        rendered: (H, W, 3) uint8, `scene.render(output_type="np")`.

    Returns:
        Two (N, H, W) bool stacks: whole layers, and what of them `rendered` shows, a part of the former. A hidden layer
        is in no picture, so it has neither; a faded one counts as if it were opaque.

    Example:
        >>> white = np.full((2, 2, 4), 255, np.uint8)
        >>> scene = Scene(np.zeros((4, 6, 3), np.uint8)).insert(white).insert(white, x=1)
        >>> whole, visible = visible_layers(scene, scene.render(output_type="np"))
        >>> whole.sum(axis=(1, 2)), visible.sum(axis=(1, 2))
        (array([4, 4]), array([2, 4]))
    """
    height, width = rendered.shape[:2]
    whole = np.zeros((len(scene), height, width), bool)
    marked: list[PlacedLayer | None] = []
    own = np.zeros((len(scene), height, width), bool)
    for index, layer in enumerate(scene.layers):
        placed = _place(layer, height, width) if layer.visible else None
        if placed is None:
            marked.append(None)
            continue
        solid = placed.alpha > 0.5
        whole[index][placed.window] = solid
        # A hidden part shows where the scene has its colour: the photo may show something that has no layer there.
        colour = placed.premultiplied / np.maximum(placed.alpha, 1e-3)[..., None]
        same = (np.abs(colour - rendered[placed.window]) <= _TOLERANCE).all(axis=2)
        own[index][placed.window] = placed.seen | same | (layer.opacity < 1)
        # Every pixel is of one layer alone when its colour is the layer's number and no alpha is between 0 and 1.
        number = np.repeat(solid[..., None] * np.float32(index + 1), 3, axis=2)
        marked.append(PlacedLayer(placed.window, number, solid.astype(np.float32), placed.seen))
    numbers = composite(
        np.zeros((height, width, 3), np.float32), marked, scene.order, standing_evidence(scene.layers, scene.evidence)
    )
    seen = np.rint(numbers[..., 0]) == np.arange(1, len(scene) + 1)[:, None, None]
    return whole, seen & whole & own


def scene_of(pictures: Sequence[Picture], width: int, height: int) -> Scene:
    """A scene of a plain stack: the lowest visible picture is the background (on white), the others are objects.

    Hidden pictures become hidden layers. What is in front of what is known from the stack for objects that overlap.
    The scene has no photo: pictures can be moved as they are.

    Args:
        pictures: back to front, at least one that is visible.
        width: of the canvas.
        height: of the canvas.

    Example:
        >>> background = Picture(np.full((4, 6, 4), 255, np.uint8), 0, 0, "Background")
        >>> cup = Picture(np.full((2, 2, 4), 255, np.uint8), 1, 1, "cup")
        >>> scene_of([background, cup], 6, 4)
        Scene(6x4, 1 layer: cup)
    """
    check_pixels(width, height, "the canvas")
    check_layer_count(len(pictures) - 1)
    ground = np.full((height, width, 4), 255, np.float32)
    first = next(picture for picture in pictures if picture.visible)
    solid = first.rgba[..., 3] > 0
    lowest = Layer(first.rgba, modal=solid, amodal=solid, transform=_at(first), opacity=first.opacity)
    one = np.zeros((1, 1), np.int8)
    background = to_bytes(composite(ground, [place_layer(lowest, lowest.transform, height, width)], one, one > 0))
    objects = [picture for picture in pictures if picture is not first]
    modal = _uncovered(objects, width, height)
    layers = [
        Layer(
            picture.rgba,
            modal=seen,
            amodal=picture.rgba[..., 3] > 0,
            transform=_at(picture),
            name=picture.name,
            id=index,
            visible=picture.visible,
            opacity=picture.opacity,
            locked=picture.locked,
        )
        for index, (picture, seen) in enumerate(zip(objects, modal, strict=True))
    ]
    order = np.zeros((len(objects), len(objects)), np.int8)
    for j, above in enumerate(objects):
        for i, below in enumerate(objects[:j]):
            if _overlap(above, below):
                order[j, i], order[i, j] = 1, -1
    return Scene(background=np.ascontiguousarray(background[..., :3]), layers=tuple(layers), order=order)


def fingerprint(pictures: Sequence[Picture]) -> str:
    """A digest of a stack, which tells whether another program has changed the file since it was written.

    Example:
        >>> len(fingerprint([Picture(np.zeros((2, 3, 4), np.uint8), 0, 0, "cup")]))
        64
    """
    digest = hashlib.sha256()
    for picture in pictures:
        about: tuple[object, ...] = (picture.name, picture.x, picture.y, picture.rgba.shape)
        state = (round(255 * picture.opacity), picture.visible, picture.locked)
        if state != (255, True, False):  # files that were written before layers had a state have none in their digest
            about += state
        digest.update(repr(about).encode("utf-8", "surrogatepass"))
        digest.update(np.ascontiguousarray(picture.rgba).data)
    return digest.hexdigest()


def shown_parts(pictures: Sequence[Picture]) -> list[Picture]:
    """The pictures without what nobody sees, which programs drop on saving: transparent margins, colours under them.

    Example:
        >>> cup = np.zeros((2, 3, 4), np.uint8)
        >>> cup[1, 2] = 255
        >>> shown_parts([Picture(cup, 5, 5, "cup"), Picture(cup[:1], 0, 0, "nothing")])
        [Picture(rgba=uint8 (1, 1, 4), x=7, y=6, name='cup', opacity=1.0, visible=True, locked=False)]
    """
    parts = []
    for picture in pictures:
        shown = picture.rgba[..., 3] > 0
        x, y, w, h = (int(value) for value in mask_boxes(shown[None])[0])
        if w:
            inside = (slice(y, y + h), slice(x, x + w))
            rgba = picture.rgba[inside] * shown[inside][..., None]
            parts.append(replace(picture, rgba=rgba, x=picture.x + x, y=picture.y + y))
    return parts


def _opaque(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.pad(rgb, ((0, 0), (0, 0), (0, 1)), constant_values=255)


def _cut_out(rgb: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], name: str) -> Picture:
    """The masked pixels of a picture of the canvas, cut to their box."""
    x, y, w, h = (int(value) for value in mask_boxes(mask[None])[0])
    part = mask[y : y + h, x : x + w, None]
    return Picture(_opaque(rgb[y : y + h, x : x + w]) * part, x, y, name)


def _rasterised(placed: PlacedLayer | None, layer: Layer, name: str) -> Picture:
    """A placed layer as it lies on the canvas; one transparent pixel where it lies outside of it."""
    state = (layer.opacity, layer.visible, layer.locked)
    if placed is None:
        return Picture(np.zeros((1, 1, 4), np.uint8), 0, 0, name, *state)
    alpha = placed.alpha[..., None] * np.float32(255)
    rgba = to_bytes(np.concatenate([placed.premultiplied, alpha], axis=2))
    rows, columns = placed.window
    return Picture(rgba, int(columns.start), int(rows.start), name, *state)


def _at(picture: Picture) -> npt.NDArray[np.float64]:
    return translation(picture.x, picture.y)


def _uncovered(pictures: Sequence[Picture], width: int, height: int) -> list[npt.NDArray[np.bool_]]:
    """What the pictures above leave of each picture on the canvas, as masks of the pictures."""
    covered = np.zeros((height, width), bool)
    masks = []
    for picture in reversed(pictures):
        mask = np.zeros(picture.rgba.shape[:2], bool)
        inside, on_canvas = _windows(picture, width, height)
        opaque = picture.rgba[inside][..., 3] > 0
        mask[inside] = opaque & ~covered[on_canvas]
        if picture.visible:
            covered[on_canvas] |= picture.rgba[inside][..., 3] * picture.opacity > 127
        masks.append(mask)
    return masks[::-1]


def _windows(picture: Picture, width: int, height: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of a picture that lies on the canvas: rows and columns in the picture, and on the canvas."""
    h, w = picture.rgba.shape[:2]
    top, bottom = (min(max(value, 0), height) for value in (picture.y, picture.y + h))
    left, right = (min(max(value, 0), width) for value in (picture.x, picture.x + w))
    on_canvas = (slice(top, bottom), slice(left, right))
    if top >= bottom or left >= right:
        return (slice(0, 0), slice(0, 0)), (slice(0, 0), slice(0, 0))
    return (slice(top - picture.y, bottom - picture.y), slice(left - picture.x, right - picture.x)), on_canvas


def _overlap(first: Picture, second: Picture) -> bool:
    """Whether two pictures have a common pixel that neither leaves transparent."""
    top, left = max(first.y, second.y), max(first.x, second.x)
    bottom = min(first.y + first.rgba.shape[0], second.y + second.rgba.shape[0])
    right = min(first.x + first.rgba.shape[1], second.x + second.rgba.shape[1])
    if top >= bottom or left >= right:
        return False
    alphas = [p.rgba[top - p.y : bottom - p.y, left - p.x : right - p.x, 3] > 0 for p in (first, second)]
    return bool((alphas[0] & alphas[1]).any())
