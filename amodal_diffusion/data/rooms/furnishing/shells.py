"""The room itself: floor, ceiling and walls, and the lights in it."""

from __future__ import annotations

import numpy as np

from ..meshes import Material, ObjectMesh, PlacedObject
from ..rendering.shading import AreaLight
from ..rendering.textures import FLOORS, WALLS, draw_surface
from .layouts import RoomLayout

BOARD_HEIGHT, BOARD_DEPTH = 0.08, 0.012
_WHITE = np.array([1.0, 1.0, 1.0])


def build_shell(layout: RoomLayout, random: np.random.Generator, *, plain: bool = False) -> list[PlacedObject]:
    """Floor, ceiling and four walls of a room, with surfaces of their own; walls have boards at their feet.

    Args:
        layout: the room.
        random: where chance comes from.
        plain: leave the surfaces out, for masks alone.

    Returns:
        Objects that are `is_stuff`, in the order floor, ceiling, walls at -z, +x, +z, -x.

    Example:
        >>> layout = RoomLayout((4.0, 2.5, 5.0), ())
        >>> [part.mesh.name for part in build_shell(layout, np.random.default_rng(0), plain=True)]
        ['floor', 'ceiling', 'wall', 'wall', 'wall', 'wall']
    """
    width, height, depth = layout.size
    x, z = width / 2, depth / 2
    grey = np.full((1, 1, 3), 180, dtype=np.uint8)
    floor_kind, floor = ("plain", grey) if plain else draw_surface(random, FLOORS, 0.5)
    wall = grey if plain else draw_surface(random, WALLS, 0.75)[1]
    gloss = float(random.uniform(0.0, 0.5)) if floor_kind in ("planks", "tiles") else 0.0
    turned = bool(random.random() < 0.5)
    scale = float(random.uniform(1.2, 2.4))
    below = np.array([[-x, 0, z], [x, 0, z], [x, 0, -z], [-x, 0, -z]])
    above = np.array([[-x, height, -z], [x, height, -z], [x, height, z], [-x, height, z]])
    white = float(random.uniform(0.75, 0.95))
    objects = [
        _sheet("floor", [below], [Material((1.0, 1.0, 1.0), floor, gloss)], scale, turned),
        _sheet("ceiling", [above], [Material((white, white, white * float(random.uniform(0.93, 1.0))))], 1.0),
    ]
    board = (
        Material((white, white, white), None, 0.1) if random.random() < 0.6 else Material((0.45, 0.3, 0.2), None, 0.1)
    )
    feet = np.array([[-x, -z], [x, -z], [x, z], [-x, z]])
    wall_scale = float(random.uniform(1.2, 2.2))
    accent = int(random.integers(4)) if random.random() < 0.2 else -1
    other = draw_surface(random, WALLS, 0.6)[1] if accent >= 0 and not plain else wall
    for side in range(4):
        start, end = feet[side], feet[(side + 1) % 4]
        inward = np.array([-(end - start)[1], (end - start)[0]]) / np.linalg.norm(end - start)
        look = Material((1.0, 1.0, 1.0), other if side == accent else wall)
        quads = [_upright(start, end, 0.0, height)]
        quads.append(_upright(start + inward * BOARD_DEPTH, end + inward * BOARD_DEPTH, 0.0, BOARD_HEIGHT))
        objects.append(_sheet("wall", quads, [look, board], wall_scale))
    return objects


def _upright(start: np.ndarray, end: np.ndarray, low: float, high: float) -> np.ndarray:
    """(4, 3) corners of an upright rectangle over a line (x, z) on the floor."""
    return np.array(
        [[start[0], low, start[1]], [end[0], low, end[1]], [end[0], high, end[1]], [start[0], high, start[1]]]
    )


def _sheet(
    name: str, quads: list[np.ndarray], materials: list[Material], scale: float, turned: bool = False
) -> PlacedObject:
    vertices = np.concatenate(quads)
    corners = np.array([[0, 1, 2], [0, 2, 3]])
    faces = np.concatenate([corners + 4 * index for index in range(len(quads))]).astype(np.int32)
    uvs = []
    for quad in quads:
        across, up = np.linalg.norm(quad[1] - quad[0]), np.linalg.norm(quad[3] - quad[0])
        square = np.array([[0, 0], [across, 0], [across, up], [0, up]], dtype=np.float32) / scale
        uvs.append(square[:, ::-1] if turned else square)
    mesh = ObjectMesh(
        name,
        vertices,
        faces,
        label=name,
        category="room",
        is_stuff=True,
        materials=tuple(materials),
        face_materials=np.repeat(np.arange(len(quads), dtype=np.int32), 2),
        corner_uvs=np.concatenate([square[corners] for square in uvs]),
    )
    return PlacedObject(mesh)


def draw_lights(layout: RoomLayout, random: np.random.Generator) -> list[AreaLight]:
    """Lights of a room: daylight from a side most of the time, lamps under the ceiling, lamps that stand about.

    Example:
        >>> layout = RoomLayout((4.0, 2.5, 5.0), ())
        >>> lights = draw_lights(layout, np.random.default_rng(0))
        >>> all(abs(light.center[0]) <= 2 and abs(light.center[2]) <= 2.5 for light in lights)
        True
    """
    width, height, depth = layout.size
    lights = []
    by_day = random.random() < 0.7
    if by_day:
        side = int(random.integers(4))
        out = np.array([[0, 0, -1], [1, 0, 0], [0, 0, 1], [-1, 0, 0]], dtype=float)[side]
        along = np.array([out[2], 0, -out[0]])
        reach = np.array([width / 2, 0, depth / 2])
        center = out * reach * 0.98 + np.array([0, random.uniform(1.2, 1.7), 0])
        center = center + along * random.uniform(-0.6, 0.6) * np.abs(along @ reach)
        sky = _warmth(float(random.normal(0.0, 0.5)) - 0.4)
        size = random.uniform(0.4, 1.1), random.uniform(0.4, 0.75)
        strength = float(random.uniform(2.0, 7.0))
        across = along * size[0]
        down = np.array([0, size[1], 0.0])
        if np.cross(across, down) @ out > 0:
            across = -across
        lights.append(AreaLight(center, across, down, sky * strength))
    for _ in range(int(random.integers(0 if by_day else 1, 3))):
        place = np.array([random.uniform(-0.35, 0.35) * width, height - 0.04, random.uniform(-0.35, 0.35) * depth])
        radius = float(random.uniform(0.06, 0.45))
        color = _warmth(float(random.normal(0.6, 0.5))) * float(random.uniform(1.0, 4.0))
        lights.append(AreaLight(place, np.array([radius, 0, 0]), np.array([0, 0, radius]), color))
    lamps = [place for place in layout.placements if "lamp" in place.item.name.lower() and place.role != "ceiling"]
    for lamp in lamps[:2]:
        low, high = lamp.placed.bounds
        place = np.array([(low[0] + high[0]) / 2, high[1] + 0.05, (low[2] + high[2]) / 2])
        if random.random() < 0.5 and place[1] < height - 0.1:
            color = _warmth(1.0) * float(random.uniform(0.3, 1.0))
            lights.append(AreaLight(place, np.array([0.06, 0, 0]), np.array([0, 0, 0.06]), color, both_sides=True))
    return lights


def _warmth(value: float) -> np.ndarray:
    """(3,) colour of light: 0 is white, 1 a warm bulb, -1 a blue sky."""
    color = np.array([1.0 + 0.18 * value, 1.0, 1.0 - 0.30 * value])
    return np.clip(color, 0.3, 1.6)
