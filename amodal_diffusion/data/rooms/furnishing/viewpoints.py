"""Where a photo of a room is taken from: at eye height, lower or higher, or from near over a table."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..cameras import Camera
from ..meshes import PlacedObject
from ..views import View, trace_view
from .layouts import Placement, RoomLayout

PREVIEW = 72
"""Pixels on the longer side of the views that are tried."""
MIN_SHARE = 0.002
"""Share of the frame that an object covers at least to count."""


@dataclass(frozen=True)
class Framing:
    """What a photo should show.

    Attributes:
        tries: cameras that are compared.
        objects: fewest and most objects in the frame; more than the most count no more.

    Example:
        >>> Framing(objects=(2, 10)).tries
        10
    """

    tries: int = 10
    objects: tuple[int, int] = (6, 25)


def draw_camera(
    layout: RoomLayout,
    shell: list[PlacedObject],
    random: np.random.Generator,
    size: int,
    framing: Framing | None = None,
) -> Camera | None:
    """A camera that sees many objects, some of them hidden in part; None where none sees enough.

    Args:
        layout: the room.
        shell: its floor, ceiling and walls.
        random: where chance comes from.
        size: pixels of the photo's longer side.
        framing: what it should show.

    Example:
        >>> from amodal_diffusion.data.rooms.furnishing import FurnitureItem, build_shell
        >>> from amodal_diffusion.data.rooms.meshes import ObjectMesh
        >>> item = FurnitureItem("mine", 1, "Oak chair", "Office", (0.5, 0.9, 0.5), 0.0, False, "chair.obj", None, "")
        >>> corners = np.array([[-0.3, 0, 0], [0.3, 0, 0], [0, 0, 0.3], [0, 0.9, 0]])
        >>> placed = PlacedObject(ObjectMesh("chair", corners, np.array([[0, 1, 3], [1, 2, 3], [2, 0, 3]])))
        >>> layout = RoomLayout((4.0, 2.5, 5.0), (Placement(item, "seat", placed),))
        >>> random = np.random.default_rng(0)
        >>> shell = build_shell(layout, random, plain=True)
        >>> camera = draw_camera(layout, shell, random, 64, Framing(objects=(1, 5)))
        >>> max(camera.width, camera.height)
        64
    """
    framing = framing or Framing()
    objects = [place.placed for place in layout.placements]
    shape = _draw_shape(random, size)
    best, best_score = None, 0.0
    for _ in range(framing.tries):
        camera = candidate_camera(layout, random, shape)
        if camera is None:
            continue
        scale = PREVIEW / max(shape)
        preview = camera.resized(max(8, round(shape[0] * scale)), max(8, round(shape[1] * scale)))
        score = _score(trace_view([*objects, *facing_shell(shell, camera)], preview), len(objects), framing)
        if score > best_score:
            best, best_score = camera, score
    return best


def facing_shell(shell: list[PlacedObject], camera: Camera) -> list[PlacedObject]:
    """The parts of a room that a camera sees from inside; a wall between it and the room is left out.

    Example:
        >>> from amodal_diffusion.data.rooms.furnishing import build_shell
        >>> shell = build_shell(RoomLayout((4.0, 2.5, 5.0), ()), np.random.default_rng(0), plain=True)
        >>> inside, behind_wall = (look_at(np.array([0, 1.5, z]), np.zeros(3), (64, 48), 1.0) for z in (2.0, 3.0))
        >>> len(facing_shell(shell, inside)), len(facing_shell(shell, behind_wall))
        (6, 5)
    """
    middle = np.mean([item.bounds.mean(axis=0) for item in shell], axis=0)
    kept = []
    for item in shell:
        low, high = item.bounds
        axis = int(np.argmin(high - low))
        center = (low + high) / 2
        inside = (camera.position[axis] - center[axis]) * (middle[axis] - center[axis]) > 0
        if inside:
            kept.append(item)
    return kept


def _draw_shape(random: np.random.Generator, size: int) -> tuple[int, int]:
    """(width, height) of a photo."""
    ratio = float(random.choice([4 / 3, 3 / 4, 3 / 2, 1.0, 16 / 9], p=[0.45, 0.2, 0.15, 0.12, 0.08]))
    return (size, round(size / ratio)) if ratio >= 1 else (round(size * ratio), size)


def candidate_camera(layout: RoomLayout, random: np.random.Generator, shape: tuple[int, int]) -> Camera | None:
    """A camera somewhere in or before a room, from near over a table or from farther; None for one inside of things.

    Args:
        layout: the room.
        random: where chance comes from.
        shape: (width, height) in pixels.

    Example:
        >>> from amodal_diffusion.data.rooms.furnishing import FurnitureItem
        >>> from amodal_diffusion.data.rooms.meshes import ObjectMesh
        >>> item = FurnitureItem("mine", 1, "Oak chair", "Office", (0.5, 0.9, 0.5), 0.0, False, "chair.obj", None, "")
        >>> placed = PlacedObject(ObjectMesh("chair", np.eye(3), np.array([[0, 1, 2]])))
        >>> layout = RoomLayout((4.0, 2.5, 5.0), (Placement(item, "seat", placed),))
        >>> candidate_camera(layout, np.random.default_rng(0), (64, 48)).width
        64
    """
    places = layout.placements
    half = np.array([layout.size[0], layout.size[2]]) / 2
    tables = [place for place in places if place.role in ("table", "counter")]
    if tables and random.random() < 0.3:
        low, high = tables[int(random.integers(len(tables)))].placed.bounds
        target = np.array([(low[0] + high[0]) / 2, high[1] + 0.05, (low[2] + high[2]) / 2])
        target[[0, 2]] += random.normal(0, 0.1, 2)
        angle, rise = random.uniform(0, 2 * math.pi), math.radians(random.uniform(8, 50))
        distance = random.uniform(0.5, 1.1) + max(high[0] - low[0], high[2] - low[2]) / 2
        away = np.array([math.cos(angle) * math.cos(rise), math.sin(rise), math.sin(angle) * math.cos(rise)])
        eye = target + distance * away
        outside = 0.3
    else:
        heights = (random.uniform(1.35, 1.75), random.uniform(0.4, 1.2), random.uniform(1.8, layout.size[1] - 0.1))
        height = float(random.choice(heights, p=[0.55, 0.3, 0.15]))
        outside = 0.9
        x, z = random.uniform(-half - 0.8, half + 0.8)
        eye = np.array([x, height, z])
        target = _busy_point(places, random)
        target[1] = target[1] * 0.7 + 0.3 * random.uniform(0.3, 1.2)
    if (np.abs(eye[[0, 2]]) > half + outside).any() or not 0.15 < eye[1] < layout.size[1] - 0.05:
        return None
    if any(_is_near(place, eye) for place in places):
        return None
    return look_at(eye, target, shape, math.radians(float(random.uniform(48, 76))), math.radians(random.normal(0, 1.5)))


def _busy_point(places: tuple[Placement, ...], random: np.random.Generator) -> np.ndarray:
    """Between an object and what stands near it."""
    centers = np.array([place.placed.bounds.mean(axis=0) for place in places])
    chosen = centers[int(random.integers(len(centers)))]
    near = centers[np.argsort(np.linalg.norm(centers - chosen, axis=1))[:4]]
    middle: np.ndarray = near.mean(axis=0)
    return middle


def _is_near(place: Placement, eye: np.ndarray) -> bool:
    """Whether an eye is within 25 cm of an object's box."""
    low, high = place.placed.bounds
    return bool(np.linalg.norm(np.maximum(np.maximum(low - eye, eye - high), 0)) < 0.25)


def look_at(eye: np.ndarray, target: np.ndarray, shape: tuple[int, int], angle: float, roll: float = 0.0) -> Camera:
    """A camera at `eye` that looks at `target`.

    Args:
        eye: (3,) in the world, y up.
        target: (3,).
        shape: (width, height) in pixels.
        angle: field of view along the longer side, radians.
        roll: turn about the optical axis, radians.

    Example:
        >>> camera = look_at(np.array([0.0, 1, -2]), np.array([0.0, 1, 0]), (64, 48), 1.0)
        >>> camera.project(np.array([[0.0, 1, 5]])).round(6).tolist()
        [[32.0, 24.0]]
    """
    ahead = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(ahead, [0.0, 1.0, 0.0])
    right = right / max(float(np.linalg.norm(right)), 1e-9)
    down = np.cross(ahead, right)
    right, down = right * math.cos(roll) + down * math.sin(roll), down * math.cos(roll) - right * math.sin(roll)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, down, ahead], axis=1)
    pose[:3, 3] = eye
    width, height = shape
    focal = max(shape) / 2 / math.tan(angle / 2)
    return Camera(width, height, focal, focal, width / 2, height / 2, pose)


def _score(view: View, count: int, framing: Framing) -> float:
    """How much a view shows; 0 for one that shows too little."""
    modal, amodal = (areas[:count] for areas in view.areas())
    frame = view.owner.size
    seen = (amodal >= max(4, MIN_SHARE * frame)) & (modal > 0)
    low, high = framing.objects
    if seen.sum() < low or (view.owner < 0).any():  # too little in view, or past the end of a wall into nothing
        return 0.0
    hidden = 1 - modal[seen] / amodal[seen]
    occluded = ((hidden > 0.08) & (hidden < 0.95)).sum()
    largest = modal.max() / frame
    stuff = 1 - modal.sum() / frame
    penalty = max(0.0, largest - 0.35) * 20 + max(0.0, stuff - 0.7) * 12
    return float(max(0.01, min(int(seen.sum()), high) * 0.5 + occluded * 1.2 - penalty))
