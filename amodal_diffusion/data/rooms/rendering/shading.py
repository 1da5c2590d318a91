"""How surfaces look: textures, area lights with soft shadows, light from all around, and what a glossy floor mirrors.

Every object is shaded over all of its whole mask, so that what is hidden has its colours. What is seen is lit as it is
in the room. What is hidden is lit as if the object were alone, and as much darker as what is seen of it around there:
else a table would be black wherever something stands on it, which nobody who completes it should paint.

Neighbouring pixels look at different points of the lights and of the half-space above them, sixteen patterns in a block
of four by four; a filter that keeps to one surface then joins what they saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from ..meshes import Material, PlacedObject
from ..rays import Hits, MeshTracer
from ..views import ObjectHits, View, corner_values

_BLOCK = 4
_PATTERNS = _BLOCK * _BLOCK
_UP, _ASIDE = np.eye(3, dtype=np.float32)[[1, 0]]
_LIFT = 1.5e-3
"""Metres above a surface from where rays start."""
_DIM = 0.02
"""Added to light before it is compared, so that two dark places are alike."""
AROUND = 2.5
"""Metres within which what stands near takes light from all around away and gives its own colour to it."""


@dataclass(frozen=True, eq=False)
class AreaLight:
    """A shining rectangle.

    Attributes:
        center: (3,) metres.
        across, down: (3,) half its sides.
        color: (3,) linear, what a surface that faces it one metre away receives.
        both_sides: whether it shines to both sides, as a lamp does that hangs in a room.

    Example:
        >>> AreaLight(np.zeros(3), np.array([0.5, 0, 0]), np.array([0, 0, 0.5]), np.ones(3)).normal.tolist()
        [0.0, -1.0, 0.0]
    """

    center: np.ndarray
    across: np.ndarray
    down: np.ndarray
    color: np.ndarray
    both_sides: bool = False

    @property
    def normal(self) -> np.ndarray:
        """(3,) unit, where it shines to."""
        normal = np.cross(self.across, self.down)
        unit: np.ndarray = normal / max(float(np.linalg.norm(normal)), 1e-12)
        return unit


@dataclass(frozen=True)
class Quality:
    """How many rays a pixel sends.

    Attributes:
        light_rays: to each light.
        sky_rays: into the half-space above the surface.

    Example:
        >>> Quality(sky_rays=8)
        Quality(light_rays=1, sky_rays=8)
    """

    light_rays: int = 1
    sky_rays: int = 3


@dataclass(frozen=True, eq=False)
class Layer:
    """One object, shaded where it is, hidden or not.

    Attributes:
        window: (x, y, w, h) in the photo.
        color: (h, w, 3) float32 linear; 0 where it was not shaded.
        shaded: (h, w) bool.
        opacity: (h, w) float32.

    Example:
        >>> layer = Layer((2, 3, 4, 1), np.zeros((1, 4, 3)), np.ones((1, 4), dtype=bool), np.ones((1, 4)))
        >>> x, y, width, height = layer.window
        >>> layer.color.shape == (height, width, 3)
        True
    """

    window: tuple[int, int, int, int]
    color: np.ndarray
    shaded: np.ndarray
    opacity: np.ndarray


@dataclass(frozen=True, eq=False)
class Lighting:
    """What lights a scene.

    Attributes:
        lights: shining rectangles.
        ambient: (3,) linear, light from all around.

    Example:
        >>> Lighting((), np.full(3, 0.5)).ambient.tolist()  # no lamps, grey light from all around
        [0.5, 0.5, 0.5]
    """

    lights: tuple[AreaLight, ...]
    ambient: np.ndarray


@dataclass(eq=False)
class _Points:
    """Surface points of one object, a row each."""

    position: np.ndarray
    normal: np.ndarray
    albedo: np.ndarray
    gloss: np.ndarray
    emission: np.ndarray
    opacity: np.ndarray

    def take(self, chosen: np.ndarray) -> _Points:
        """Those of (P,) bool."""
        return _Points(*(getattr(self, part.name)[chosen] for part in fields(self)))


class _AloneTracer:
    """One object as a tracer of the whole scene, for rays of the world."""

    def __init__(self, item: PlacedObject, index: int) -> None:
        self.item, self.index = item, index
        self.turn = item.to_local[:3, :3].T.astype(np.float32)
        self.shift = item.to_local[:3, 3].astype(np.float32)

    def cast(self, origins: np.ndarray, directions: np.ndarray, limits: np.ndarray | None = None) -> Hits:
        hits = self.item.mesh.tracer.cast(origins @ self.turn + self.shift, directions @ self.turn, limits)
        return hits._replace(part=np.where(hits.face >= 0, self.index, -1))

    def blocked(self, origins: np.ndarray, directions: np.ndarray, limits: np.ndarray) -> np.ndarray:
        return self.item.mesh.tracer.blocked(origins @ self.turn + self.shift, directions @ self.turn, limits)


class Shader:
    """Shades the objects of one scene.

    Args:
        objects: N objects, in the order of the view.
        lighting: lights.
        random: where chance comes from.
        quality: how many rays.

    Example:
        >>> from amodal_diffusion.data.rooms import Camera, ObjectMesh, trace_view
        >>> corners = np.array([[-1, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2.0]])
        >>> item = PlacedObject(ObjectMesh("tile", corners, np.array([[0, 1, 2], [0, 2, 3]])))
        >>> camera = Camera(32, 32, 16.0, 16.0, 16.0, 16.0, np.eye(4))
        >>> shader = Shader([item], Lighting((), np.ones(3)), np.random.default_rng(0))
        >>> layer = shader.shade(trace_view([item], camera), 0, np.ones((32, 32), dtype=bool))
        >>> layer.window, int(layer.shaded.sum())
        ((7, 7, 18, 18), 256)
    """

    def __init__(
        self,
        objects: Sequence[PlacedObject],
        lighting: Lighting,
        random: np.random.Generator,
        quality: Quality | None = None,
    ) -> None:
        self.objects, self.lighting, self.quality = objects, lighting, quality or Quality()
        self.tracer = MeshTracer()
        for item in objects:
            self.tracer.add(item.world_vertices, item.mesh.faces)
        self.mean_colors = to_linear(np.array([item.mesh.mean_color for item in objects])).astype(np.float32)
        # Strata of the square, one for each pattern and ray, in a random order for each ray.
        self.light_points = [_strata(random, self.quality.light_rays) for _ in lighting.lights]
        self.sky_points = _strata(random, self.quality.sky_rays)

    def shade(self, view: View, index: int, wanted: np.ndarray) -> Layer | None:
        """Shade one object where `wanted`, (H, W) bool, says; None where that is nowhere."""
        found = view.hits[index]
        if found is None:
            return None
        mask = (found.face >= 0) & wanted[found.slices]
        if not mask.any():
            return None
        item = self.objects[index]
        points = _surface_points(item, found, mask, view)
        x, y = found.window[:2]
        rows, columns = np.nonzero(mask)
        pattern = (columns + x) % _BLOCK + _BLOCK * ((rows + y) % _BLOCK)
        seen = (view.owner[found.slices] == index) & mask
        if item.mesh.is_stuff or seen.sum() == mask.sum():
            diffuse, shine = self._lit(points, view, pattern, mask, found.depth, self.tracer)
        else:
            alone = _AloneTracer(item, index)
            diffuse, shine = self._lit(points, view, pattern, mask, found.depth, alone)
            chosen = seen[mask]
            if chosen.any():
                parts = points.take(chosen)
                light, gleam = self._lit(parts, view, pattern[chosen], seen, found.depth, self.tracer)
                share = np.clip((light + _DIM) / (diffuse[chosen] + _DIM), 0, 1.5)
                shares = _continued(share, seen)[mask]
                diffuse, shine = diffuse * shares, shine * np.minimum(shares, 1)
                diffuse[chosen], shine[chosen] = light, gleam
        color = points.albedo * (diffuse + points.emission[:, None]) + shine
        self._mirror(color, points, view.camera.position)
        picture = np.zeros((*mask.shape, 3), dtype=np.float32)
        opacity = np.zeros(mask.shape, dtype=np.float32)
        picture[mask], opacity[mask] = color, points.opacity
        return Layer(found.window, picture, mask, opacity)

    def _lit(
        self,
        points: _Points,
        view: View,
        pattern: np.ndarray,
        mask: np.ndarray,
        depth: np.ndarray,
        tracer: MeshTracer | _AloneTracer,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Light and highlights, (P, 3) each, of the pixels of `mask`, among what the tracer knows."""
        diffuse, shine = self._direct(points, view.camera.position, pattern, tracer)
        diffuse += self._around(points, pattern, tracer)
        smooth = _smooth(np.hstack([diffuse, shine]), mask, depth, points.normal)
        return smooth[:, :3], smooth[:, 3:]

    def _direct(
        self, points: _Points, eye: np.ndarray, pattern: np.ndarray, tracer: MeshTracer | _AloneTracer
    ) -> tuple[np.ndarray, np.ndarray]:
        """Light and highlights from the lights, (P, 3) each."""
        diffuse = np.zeros_like(points.position)
        shine = np.zeros_like(points.position)
        start = points.position + points.normal * np.float32(_LIFT)
        glossy = points.gloss > 0.02
        if glossy.any():
            toward = _unit(eye.astype(np.float32) - points.position[glossy])
        for light, strata in zip(self.lighting.lights, self.light_points, strict=True):
            normal = light.normal.astype(np.float32)
            color = light.color.astype(np.float32) / len(strata)
            for ray in strata:
                spot = ray[pattern] * 2 - 1  # (P, 2)
                aim = light.center + spot[:, :1] * light.across + spot[:, 1:] * light.down
                path = aim.astype(np.float32) - start
                square = np.einsum("pi,pi->p", path, path)
                length = np.sqrt(square)
                facing = np.einsum("pi,pi->p", path, points.normal) / length
                leaving = -(path @ normal) / length
                leaving = np.abs(leaving) if light.both_sides else leaving
                lit = np.flatnonzero((facing > 0) & (leaving > 0))
                lit = lit[~tracer.blocked(start[lit], path[lit], np.full(len(lit), 0.999, dtype=np.float32))]
                amount = facing[lit] * leaving[lit] / np.maximum(square[lit], 0.05)
                diffuse[lit] += amount[:, None] * color
                if glossy.any():
                    self._highlight(shine, points, toward, glossy, lit, path, leaving / np.maximum(square, 0.05), color)
        return diffuse, shine

    def _highlight(
        self,
        shine: np.ndarray,
        points: _Points,
        toward: np.ndarray,
        glossy: np.ndarray,
        lit: np.ndarray,
        path: np.ndarray,
        amount: np.ndarray,
        color: np.ndarray,
    ) -> None:
        place = np.cumsum(glossy) - 1
        chosen = lit[glossy[lit]]
        half = _unit(_unit(path[chosen]) + toward[place[chosen]])
        gloss = points.gloss[chosen]
        hardness = 8 + 240 * gloss
        cosine = np.maximum(np.einsum("pi,pi->p", half, points.normal[chosen]), 0)
        strength = cosine**hardness * (hardness + 8) / 60 * gloss * 0.25 * amount[chosen]
        shine[chosen] += strength[:, None] * color

    def _around(self, points: _Points, pattern: np.ndarray, tracer: MeshTracer | _AloneTracer) -> np.ndarray:
        """(P, 3) light from all around: beside other objects there is less of it, and it takes their colours."""
        start = points.position + points.normal * np.float32(_LIFT)
        helper = np.where(np.abs(points.normal[:, :1]) > 0.7, _UP, _ASIDE)
        one = _unit(np.cross(points.normal, helper))
        two = np.cross(points.normal, one)
        total = np.zeros_like(points.position)
        ambient = self.lighting.ambient.astype(np.float32)
        limits = np.full(len(start), AROUND, dtype=np.float32)
        for ray in self.sky_points:
            spot = ray[pattern]
            radius, angle = np.sqrt(spot[:, :1]), spot[:, 1:] * np.float32(2 * np.pi)
            up = np.sqrt(np.maximum(1 - spot[:, :1], 0))
            direction = one * (radius * np.cos(angle)) + two * (radius * np.sin(angle)) + points.normal * up
            hits = tracer.cast(start, direction, limits)
            share = np.minimum(hits.distance / AROUND, 1.0)[:, None] ** 0.7
            color = self.mean_colors[np.maximum(hits.part, 0)]
            total += ambient * (share + (1 - share) * color * 0.55)
        return total / max(len(self.sky_points), 1)

    def _mirror(self, color: np.ndarray, points: _Points, eye: np.ndarray) -> None:
        """Add what polished surfaces mirror, in its mean colour."""
        chosen = np.flatnonzero(points.gloss > 0.12)
        if not len(chosen):
            return
        normal, gloss = points.normal[chosen], points.gloss[chosen]
        view = _unit(points.position[chosen] - eye.astype(np.float32))
        cosine = np.einsum("pi,pi->p", view, normal)
        direction = view - 2 * cosine[:, None] * normal
        start = points.position[chosen] + normal * np.float32(_LIFT)
        hits = self.tracer.cast(start, direction)
        seen = self.mean_colors[np.maximum(hits.part, 0)] * self.lighting.ambient.astype(np.float32)
        fresnel = 0.04 + 0.5 * (1 - np.minimum(np.abs(cosine), 1)) ** 4
        color[chosen] += (
            seen * (fresnel * gloss)[:, None] * np.where(hits.face >= 0, 1.0, 0.5)[:, None].astype(np.float32)
        )


def _surface_points(item: PlacedObject, found: ObjectHits, mask: np.ndarray, view: View) -> _Points:
    """Position, normal towards the camera, and look of an object in the pixels of a mask (h, w) of its window."""
    directions = view.camera.directions(found.window)[mask]
    position = view.camera.position + directions * found.depth[mask][:, None]
    faces, barycentric = found.face[mask], found.barycentric[mask]
    mesh = item.mesh
    corners = item.world_vertices[mesh.faces[faces]]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat = _unit(flat.astype(np.float32))
    flat *= -np.sign(np.einsum("pi,pi->p", flat, directions.astype(np.float32)))[:, None] + 1e-9
    normal = flat
    if mesh.corner_normals is not None:
        local = corner_values(mesh.corner_normals, faces, barycentric)
        smooth = _unit((local @ item.to_local[:3, :3]).astype(np.float32))
        smooth *= np.where(np.einsum("pi,pi->p", smooth, flat) < 0, -1, 1)[:, None].astype(np.float32)
        normal = _unit(smooth + 0.05 * flat)
    material = np.zeros(len(faces), dtype=np.int32) if mesh.face_materials is None else mesh.face_materials[faces]
    uv = None if mesh.corner_uvs is None else corner_values(mesh.corner_uvs, faces, barycentric)
    albedo = np.zeros((len(faces), 3), dtype=np.float32)
    for index in np.unique(material):
        here = material == index
        footprint = found.depth[mask][here].mean() / view.camera.fx
        albedo[here] = _material_color(
            mesh.materials[index], None if uv is None else uv[here], footprint, position[here]
        )
    if mesh.vertex_colors is not None:
        values = mesh.vertex_colors[mesh.faces[faces]].astype(np.float32) / 255
        weights = np.concatenate([1 - barycentric.sum(axis=1, keepdims=True), barycentric], axis=1)
        albedo = to_linear((values * weights[..., None]).sum(axis=1))
    looks = np.array([(part.gloss, part.emission, part.opacity) for part in mesh.materials], dtype=np.float32)[material]
    return _Points(position.astype(np.float32), normal, albedo, looks[:, 0], looks[:, 1], looks[:, 2])


def _material_color(material: Material, uv: np.ndarray | None, footprint: float, position: np.ndarray) -> np.ndarray:
    """(P, 3) linear colour of a material."""
    base = to_linear(np.array(material.color, dtype=np.float32))
    if material.texture is None or uv is None:
        return base * _blotches(position)
    texture = material.texture[..., :3]
    # About one texel a pixel: the texels that the points spread over, as many as there are points.
    spread = np.ptp(uv, axis=0) * (texture.shape[1], texture.shape[0])
    level = int(np.clip(np.log2(max(float(np.sqrt(spread.prod() / max(len(uv), 1))), 1.0)), 0, 5))
    for _ in range(level):
        if min(texture.shape[:2]) < 8:
            break
        rows, columns = texture.shape[0] // 2 * 2, texture.shape[1] // 2 * 2
        upper, lower = texture[0:rows:2].astype(np.float32), texture[1:rows:2]
        both = upper + lower
        texture = (both[:, 0:columns:2] + both[:, 1:columns:2]) / 4
    color: np.ndarray = base * to_linear(_bilinear(texture.astype(np.float32) / 255, uv))
    return color


def _bilinear(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    height, width = texture.shape[:2]
    column = (uv[:, 0] % 1.0) * width - 0.5
    row = (1.0 - uv[:, 1] % 1.0) * height - 0.5
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    right_share, down_share = (column - left)[:, None], (row - top)[:, None]
    upper = (
        texture[top % height, left % width] * (1 - right_share)
        + texture[top % height, (left + 1) % width] * right_share
    )
    below = (top + 1) % height
    lower = texture[below, left % width] * (1 - right_share) + texture[below, (left + 1) % width] * right_share
    blended: np.ndarray = upper * (1 - down_share) + lower * down_share
    return blended.astype(np.float32)


def _blotches(position: np.ndarray) -> np.ndarray:
    """(P, 1) about 1: no surface has quite the same colour everywhere. Sums of waves, made for the look alone."""
    total = np.zeros(len(position), dtype=np.float32)
    points = position.astype(np.float32)
    for scale, strength in ((7.0, 0.035), (23.0, 0.02), (71.0, 0.015), (190.0, 0.012)):
        turned = points @ _WAVES * np.float32(scale)
        total += np.float32(strength) * np.sin(turned[:, 0] + 1.7 * np.sin(turned[:, 1])) * np.sin(turned[:, 2])
    return 1 + total[:, None]


_WAVES = np.array([[0.8, 0.36, -0.48], [-0.6, 0.48, -0.64], [0.1, 0.8, 0.6]], dtype=np.float32)


def _smooth(values: np.ndarray, mask: np.ndarray, depth: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Join what the pixels of a block saw: the mean over the pixels around each that lie on the same surface.

    Args:
        values: (P, C) of the pixels of `mask`.
        mask: (h, w) bool.
        depth: (h, w).
        normal: (P, 3) unit.
    """
    height, width = mask.shape
    channels = values.shape[1]
    low, high = _BLOCK // 2, _BLOCK - _BLOCK // 2 - 1
    shape = (height + low + high, width + low + high)
    grid = np.zeros((channels + 3, *shape), dtype=np.float32)  # planes, so that a shift is a plain slice
    deep = np.full(shape, 1e9, dtype=np.float32)
    middle = np.s_[low : low + height, low : low + width]
    grid[:channels, *middle][:, mask], grid[channels:, *middle][:, mask] = values.T, normal.T
    deep[middle][mask] = depth[mask]
    here, facing = deep[middle], grid[channels:, *middle]
    margin = 0.04 * here
    total = np.zeros((channels, height, width), dtype=np.float32)
    weight = np.zeros((height, width), dtype=np.float32)
    for down in range(_BLOCK):
        for across in range(_BLOCK):
            shifted = np.s_[down : down + height, across : across + width]
            beside = grid[channels:, *shifted]
            cosine = beside[0] * facing[0] + beside[1] * facing[1] + beside[2] * facing[2]
            alike = ((np.abs(deep[shifted] - here) < margin) & (cosine > 0.8)).astype(np.float32)
            total += grid[:channels, *shifted] * alike
            weight += alike
    smoothed: np.ndarray = (total[:, mask] / np.maximum(weight[mask], 1e-6)).T
    return np.ascontiguousarray(smoothed)


def _continued(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(h, w, C): values (P, C) of the pixels of a mask, gone on with smoothly where it is not set.

    Means over ever larger blocks; a pixel takes the one of the smallest block that has any.
    """
    levels = []
    total = np.zeros((*mask.shape, values.shape[1]), dtype=np.float32)
    total[mask] = values
    weight = mask.astype(np.float32)
    while True:
        levels.append((total, weight))
        if min(mask.shape) == 0 or max(weight.shape) == 1:
            break
        pad = [(0, side % 2) for side in weight.shape]
        wide, heavy = np.pad(total, [*pad, (0, 0)]), np.pad(weight, pad)
        total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
        weight = heavy[::2, ::2] + heavy[1::2, ::2] + heavy[::2, 1::2] + heavy[1::2, 1::2]
    filled = levels[-1][0] / np.maximum(levels[-1][1], 1e-6)[..., None]
    for total, weight in reversed(levels[:-1]):
        height, width = weight.shape
        coarse = _doubled(_doubled(filled, height, 0), width, 1)
        # A block with little of its own leans on the larger one.
        filled = (total + 0.25 * coarse) / (weight + 0.25)[..., None]
    return filled


def _doubled(values: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Twice as many along an axis, blended linearly."""
    place = (np.arange(length, dtype=np.float32) + 0.5) / 2 - 0.5
    low = np.clip(np.floor(place).astype(int), 0, values.shape[axis] - 1)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = np.clip(place - low, 0, 1).reshape([-1 if axis == other else 1 for other in range(3)])
    blended: np.ndarray = np.take(values, low, axis) * (1 - share) + np.take(values, high, axis) * share
    return blended


def _strata(random: np.random.Generator, rays: int) -> np.ndarray:
    """(rays, 16, 2) points in the unit square: those of one ray fill it evenly, and so do all together."""
    grid = np.stack(np.meshgrid(np.arange(_BLOCK), np.arange(_BLOCK)), axis=-1).reshape(-1, 2)
    points = np.zeros((rays, _PATTERNS, 2), dtype=np.float32)
    for ray in range(rays):
        order = random.permutation(_PATTERNS)
        points[ray] = ((grid + random.random((_PATTERNS, 2))) / _BLOCK)[order]
    return points


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.einsum("pi,pi->p", vectors, vectors))[:, None]
    unit: np.ndarray = vectors / np.maximum(length, 1e-12)
    return unit


def to_linear(color: np.ndarray) -> np.ndarray:
    """sRGB, 0 to 1, to linear light, as a power of 2.2.

    Example:
        >>> to_linear(np.array([0.0, 0.5, 1.0])).round(3).tolist()
        [0.0, 0.218, 1.0]
    """
    linear: np.ndarray = np.maximum(color, 0.0) ** 2.2
    return linear
