"""A view of a scene → its photo, and each object in the colours that it has where it is hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..meshes import PlacedObject
from ..views import View
from .exposure import corner_distance, draw_development
from .shading import Layer, Lighting, Quality, Shader

_CLEAR = 0.98
"""Opacity below which what lies behind is looked for."""


@dataclass(frozen=True, eq=False)
class Rendering:
    """A rendered photo.

    Attributes:
        photo: (H, W, 3) uint8.
        jpeg: the photo as a file.
        colors: for each object (x, y, (h, w, 4) uint8): where its window lies, and its whole in colours, alpha 255
            where the object is; developed as the photo was, without its noise. None where it was not asked for or is
            not in view.

    Example:
        >>> picture = np.zeros((2, 2, 4), dtype=np.uint8)
        >>> rendering = Rendering(np.zeros((4, 4, 3), dtype=np.uint8), b"", ((1, 2, picture), None))
        >>> x, y, colors = rendering.colors[0]
        >>> x, y, colors.shape
        (1, 2, (2, 2, 4))
    """

    photo: np.ndarray
    jpeg: bytes
    colors: tuple[tuple[int, int, np.ndarray] | None, ...]


def render_view(
    objects: Sequence[PlacedObject],
    view: View,
    lighting: Lighting,
    random: np.random.Generator,
    *,
    quality: Quality | None = None,
    with_colors: bool = True,
) -> Rendering:
    r"""Render a view.

    Args:
        objects: the objects of the view.
        view: what the camera sees of them.
        lighting: lights.
        random: where chance comes from.
        quality: rays a pixel.
        with_colors: also shade what is hidden of objects that are no stuff.

    Example:
        >>> from amodal_diffusion.data.rooms import Camera, ObjectMesh, trace_view
        >>> corners = np.array([[-1, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2.0]])
        >>> item = PlacedObject(ObjectMesh("tile", corners, np.array([[0, 1, 2], [0, 2, 3]])))
        >>> camera = Camera(32, 32, 16.0, 16.0, 16.0, 16.0, np.eye(4))
        >>> lighting = Lighting((), np.ones(3))
        >>> rendering = render_view([item], trace_view([item], camera), lighting, np.random.default_rng(0))
        >>> rendering.photo.shape, rendering.colors[0][2].shape, rendering.jpeg[:2]
        ((32, 32, 3), (18, 18, 4), b'\xff\xd8')
    """
    shader = Shader(objects, lighting, random, quality)
    owners = [view.owner]
    layers: list[Layer | None] = []
    everywhere = np.ones(view.owner.shape, dtype=bool)
    for index, item in enumerate(objects):
        whole = with_colors and not item.mesh.is_stuff
        layers.append(shader.shade(view, index, everywhere if whole else view.owner == index))
    light, opacity = _front(layers, view.owner)
    clear = (opacity < _CLEAR) & (view.owner >= 0)
    if clear.any():
        behind = _next_owner(view, clear)
        owners.append(behind)
        _add_missing(shader, view, layers, behind, clear)
        below, _ = _front(layers, behind)
        share = np.where(clear, opacity, 1.0)[..., None]
        light = light * share + below * (1 - share)
    light = _antialiased(light, view, shader)
    development = draw_development(random, light)
    photo, jpeg = development.photograph(light.astype(np.float32), random)
    corners = corner_distance(*view.owner.shape)
    colors: list[tuple[int, int, np.ndarray] | None] = []
    for item, layer in zip(objects, layers, strict=True):
        if layer is None or not with_colors or item.mesh.is_stuff:
            colors.append(None)
            continue
        x, y, width, height = layer.window
        picture = np.zeros((height, width, 4), dtype=np.uint8)
        tone = development.tone(layer.color, corners[y : y + height, x : x + width])
        picture[..., :3] = np.where(layer.shaded[..., None], tone * 255 + 0.5, 0)
        picture[..., 3] = layer.shaded * np.uint8(255)
        colors.append((x, y, picture))
    return Rendering(photo, jpeg, tuple(colors))


def _front(layers: Sequence[Layer | None], owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) light and (H, W) opacity of the object that `owner` names at each pixel."""
    light = np.zeros((*owner.shape, 3), dtype=np.float32)
    opacity = np.ones(owner.shape, dtype=np.float32)
    for index, layer in enumerate(layers):
        if layer is None:
            continue
        x, y, width, height = layer.window
        place = slice(y, y + height), slice(x, x + width)
        here = (owner[place] == index) & layer.shaded
        light[place][here] = layer.color[here]
        opacity[place][here] = layer.opacity[here]
    return light, opacity


def _next_owner(view: View, where: np.ndarray) -> np.ndarray:
    """(H, W) int32: the second nearest object at the pixels of `where`, -1 elsewhere and for none."""
    owner = np.full(view.owner.shape, -1, dtype=np.int32)
    depth = np.full(view.owner.shape, np.inf, dtype=np.float32)
    for index, found in enumerate(view.hits):
        if found is None:
            continue
        place = found.slices
        nearer = where[place] & (view.owner[place] != index) & (found.depth < depth[place])
        depth[place][nearer] = found.depth[nearer]
        owner[place][nearer] = index
    return owner


def _add_missing(shader: Shader, view: View, layers: list[Layer | None], behind: np.ndarray, where: np.ndarray) -> None:
    """Shade what is seen through glass and was not shaded yet."""
    for index in np.unique(behind[where]):
        if index < 0:
            continue
        layer = layers[index]
        wanted = where & (behind == index)
        if layer is not None:
            x, y, width, height = layer.window
            done = np.zeros_like(wanted)
            done[y : y + height, x : x + width] = layer.shaded
            wanted &= ~done
        more = shader.shade(view, int(index), wanted)
        if more is None:
            continue
        if layer is None:
            layers[index] = more
        else:
            layer.color[more.shaded] = more.color[more.shaded]
            layer.opacity[more.shaded] = more.opacity[more.shaded]
            layer.shaded[more.shaded] = True


def _antialiased(light: np.ndarray, view: View, shader: Shader) -> np.ndarray:
    """Pixels at outlines get the share of each object that four rays in them meet."""
    owner = view.owner
    edge = np.zeros(owner.shape, dtype=bool)
    for axis in (0, 1):
        differs = np.diff(owner, axis=axis) != 0
        first = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
        second = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
        edge[first] |= differs
        edge[second] |= differs
    rows, columns = np.nonzero(edge)
    if not len(rows):
        return light
    camera = view.camera
    turn = camera.camera_to_world[:3, :3].T
    total = np.zeros((len(rows), 3), dtype=np.float32)
    weight = np.zeros(len(rows), dtype=np.float32)
    start = np.broadcast_to(camera.position, (len(rows), 3))
    for across, down in ((0.125, 0.375), (0.375, 0.875), (0.625, 0.125), (0.875, 0.625)):
        rays = np.ones((len(rows), 3))
        rays[:, 0] = (columns + across - camera.cx) / camera.fx
        rays[:, 1] = (rows + down - camera.cy) / camera.fy
        part = shader.tracer.cast(start, rays @ turn).part
        color, known = _color_nearby(light, owner, rows, columns, part)
        total[known] += color[known]
        weight[known] += 1
    smooth = light.copy()
    good = weight > 0
    smooth[rows[good], columns[good]] = total[good] / weight[good, None]
    return smooth


def _color_nearby(
    light: np.ndarray, owner: np.ndarray, rows: np.ndarray, columns: np.ndarray, part: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Colour of an object in the pixel or in the nearest one around it, and whether it was found."""
    height, width = owner.shape
    color = np.zeros((len(rows), 3), dtype=np.float32)
    known = np.zeros(len(rows), dtype=bool)
    for down, across in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)):
        r, c = np.clip(rows + down, 0, height - 1), np.clip(columns + across, 0, width - 1)
        fits = ~known & (owner[r, c] == part)
        color[fits] = light[r[fits], c[fits]]
        known |= fits
    return color, known
