"""What a camera sees of every object: visible and whole masks, depth, and who hides whom, pixel by pixel [Z24].

Each object is traced alone, and only inside the box that it projects to. The visible (modal) mask of an object is where
it is the nearest of all, its whole (amodal) mask where its own rays meet it. Nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .cameras import Camera
from .meshes import PlacedObject, point_bounds
from .rays import Hits

NEAR = 1e-3
"""Metres in front of a camera from where something is seen."""
DEPTH_TOLERANCE = 1e-4
"""Share of the depth by which one surface must be nearer than another to hide it: what touches hides nothing."""
MAX_HOLES = 12
"""Texels without colour that a ray goes through at most."""


@dataclass(frozen=True, eq=False)
class ObjectHits:
    """One object, traced alone.

    Attributes:
        window: (x, y, w, h) pixels of the photo that were traced.
        depth: (h, w) float32 along the optical axis, infinity where the object is not.
        face: (h, w) int32, -1 where it is not.
        barycentric: (h, w, 2) float32, see `Hits`.

    Example:
        >>> from amodal_diffusion.data.rooms import ObjectMesh
        >>> corners = np.array([[-1, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2.0]])
        >>> item = PlacedObject(ObjectMesh("tile", corners, np.array([[0, 1, 2], [0, 2, 3]])))
        >>> camera = Camera(32, 32, 16.0, 16.0, 16.0, 16.0, np.eye(4))
        >>> found = trace_object(item, camera)
        >>> found.window, found.depth.shape, found.slices
        ((7, 7, 18, 18), (18, 18), (slice(7, 25, None), slice(7, 25, None)))
    """

    window: tuple[int, int, int, int]
    depth: np.ndarray
    face: np.ndarray
    barycentric: np.ndarray

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the window in the photo."""
        x, y, width, height = self.window
        return slice(y, y + height), slice(x, x + width)


@dataclass(frozen=True, eq=False)
class View:
    """A camera's view of N objects.

    Attributes:
        camera: the camera.
        hits: what was traced of each object; None where it projects to no pixel.
        owner: (H, W) int32 index of the object that is seen, -1 for none.
        depth: (H, W) float32 of what is seen, infinity for nothing.

    Example:
        >>> from amodal_diffusion.data.rooms import ObjectMesh
        >>> def tile(name, depth, shift):
        ...     corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0.0]]) + (shift, 0, depth)
        ...     return PlacedObject(ObjectMesh(name, corners, np.array([[0, 1, 2], [0, 2, 3]])))
        >>> camera = Camera(32, 32, 16.0, 16.0, 16.0, 16.0, np.eye(4))
        >>> view = trace_view([tile("near", 2, 0), tile("far", 4, 2)], camera)
        >>> [int(mask.sum()) for mask in view.amodal_masks()], [int(mask.sum()) for mask in view.modal_masks()]
        ([256, 64], [256, 32])
        >>> view.front_pixels().tolist()  # the first hides 32 pixels of the second
        [[0, 32], [0, 0]]
    """

    camera: Camera
    hits: tuple[ObjectHits | None, ...]
    owner: np.ndarray
    depth: np.ndarray

    def modal_masks(self) -> np.ndarray:
        """(N, H, W) bool: where each object is seen."""
        return self.owner[None] == np.arange(len(self.hits))[:, None, None]

    def amodal_masks(self) -> np.ndarray:
        """(N, H, W) bool: where each object would be seen if it were alone."""
        masks = np.zeros((len(self.hits), *self.owner.shape), dtype=bool)
        for mask, found in zip(masks, self.hits, strict=True):
            if found is not None:
                mask[found.slices] = found.face >= 0
        return masks

    def areas(self) -> tuple[np.ndarray, np.ndarray]:
        """(N,) int64 pixels of the modal and of the amodal masks."""
        modal = np.bincount(self.owner[self.owner >= 0], minlength=len(self.hits))
        amodal = [0 if found is None else int((found.face >= 0).sum()) for found in self.hits]
        return modal, np.array(amodal, dtype=np.int64)

    def front_pixels(self) -> np.ndarray:
        """(N, N) int64: in how many pixels object i is in front of object j, whatever else is in front of both.

        Both (i, j) and (j, i) may be positive: such objects hide each other, each in another place.
        """
        count = len(self.hits)
        pixels = np.zeros((count, count), dtype=np.int64)
        for i, one in enumerate(self.hits):
            for j in range(i):
                other = self.hits[j]
                if one is None or other is None:
                    continue
                cut = _overlap(one.window, other.window)
                if cut is None:
                    continue
                a, b = _cut(one, cut), _cut(other, cut)
                both = np.isfinite(a) & np.isfinite(b)
                if both.any():
                    a, b = a[both], b[both]
                    margin = DEPTH_TOLERANCE * b
                    pixels[i, j] = int((a < b - margin).sum())
                    pixels[j, i] = int((b < a - margin).sum())
        return pixels


def trace_view(objects: Sequence[PlacedObject], camera: Camera) -> View:
    """Trace every object alone and merge what is nearest.

    Args:
        objects: N objects.
        camera: where from.

    Example:
        >>> from amodal_diffusion.data.rooms import ObjectMesh
        >>> corners = np.array([[-1, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2.0]])
        >>> item = PlacedObject(ObjectMesh("tile", corners, np.array([[0, 1, 2], [0, 2, 3]])))
        >>> camera = Camera(32, 32, 16.0, 16.0, 16.0, 16.0, np.eye(4))
        >>> view = trace_view([item], camera)
        >>> int((view.owner == 0).sum()), float(view.depth[16, 16])
        (256, 2.0)
    """
    owner = np.full((camera.height, camera.width), -1, dtype=np.int32)
    depth = np.full(owner.shape, np.inf, dtype=np.float32)
    hits = []
    for index, item in enumerate(objects):
        found = trace_object(item, camera)
        hits.append(found)
        if found is None:
            continue
        nearest = depth[found.slices]  # a view, so that what is assigned to it lands in `depth`
        nearer = found.depth < nearest
        nearest[nearer] = found.depth[nearer]
        owner[found.slices][nearer] = index
    return View(camera, tuple(hits), owner, depth)


def trace_object(item: PlacedObject, camera: Camera) -> ObjectHits | None:
    """Trace one object inside the box that it projects to; None where it meets no ray.

    Example:
        >>> from amodal_diffusion.data.rooms import ObjectMesh
        >>> corners = np.array([[-1, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2.0]])
        >>> item = PlacedObject(ObjectMesh("tile", corners, np.array([[0, 1, 2], [0, 2, 3]])))
        >>> camera = Camera(32, 32, 16.0, 16.0, 16.0, 16.0, np.eye(4))
        >>> int((trace_object(item, camera).face >= 0).sum())
        256
    """
    window = projected_window(item, camera)
    if window is None:
        return None
    directions = camera.directions(window).reshape(-1, 3)
    found = cast_object(item, camera.position, directions)
    if not (found.face >= 0).any():
        return None
    shape = window[3], window[2]
    return ObjectHits(
        window, found.distance.reshape(shape), found.face.reshape(shape), found.barycentric.reshape(*shape, 2)
    )


def cast_object(item: PlacedObject, origin: np.ndarray, directions: np.ndarray) -> Hits:
    """What rays of the world meet of one object, holes of its textures left out.

    Args:
        item: the object.
        origin: (3,) where all rays start.
        directions: (N, 3); distances are in their lengths.

    Example:
        >>> from amodal_diffusion.data.rooms import ObjectMesh
        >>> corners = np.array([[-1, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2.0]])
        >>> item = PlacedObject(ObjectMesh("tile", corners, np.array([[0, 1, 2], [0, 2, 3]])))
        >>> camera = Camera(32, 32, 16.0, 16.0, 16.0, 16.0, np.eye(4))
        >>> cast_object(item, np.zeros(3), np.array([[0.1, 0.2, 1], [0, 0, -1.0]])).distance.tolist()
        [2.0, inf]
    """
    # Rays go into the mesh's coordinates, so that its tree is built once however often it stands in scenes.
    turn, shift = item.to_local[:3, :3], item.to_local[:3, 3]
    start = np.broadcast_to((turn @ origin + shift).astype(np.float32), directions.shape)
    local = (directions @ turn.T).astype(np.float32)
    hits = item.mesh.tracer.cast(start, local)
    holes = item.mesh.hole_faces
    if holes is None:
        return hits
    distance, face, part, barycentric = (np.array(values) for values in hits)
    waiting = np.flatnonzero((face >= 0) & holes[face])
    for _ in range(MAX_HOLES):
        waiting = waiting[_is_hole(item, face[waiting], barycentric[waiting])]
        if not len(waiting):
            break
        passed = distance[waiting] * np.float32(1 + 1e-5) + np.float32(1e-5)
        again = item.mesh.tracer.cast(start[waiting] + passed[:, None] * local[waiting], local[waiting])
        distance[waiting] = passed + again.distance
        face[waiting], part[waiting], barycentric[waiting] = again.face, again.part, again.barycentric
        waiting = waiting[(again.face >= 0) & holes[again.face]]
    return Hits(distance, face, part, barycentric)


def projected_window(item: PlacedObject, camera: Camera) -> tuple[int, int, int, int] | None:
    """(x, y, w, h) of the pixels whose rays may meet an object; None for none.

    Example:
        >>> from amodal_diffusion.data.rooms import ObjectMesh
        >>> corners = np.array([[-1, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2.0]])
        >>> item = PlacedObject(ObjectMesh("tile", corners, np.array([[0, 1, 2], [0, 2, 3]])))
        >>> camera = Camera(32, 32, 16.0, 16.0, 16.0, 16.0, np.eye(4))
        >>> projected_window(item, camera)
        (7, 7, 18, 18)
    """
    if _is_outside(item, camera):
        return None
    points = camera.world_to_camera(item.world_vertices)
    ahead = points[:, 2] > NEAR
    if not ahead.any():
        return None
    if not ahead.all():
        points = np.concatenate([points[ahead], _edges_at_near(points, item.mesh.faces, ahead)])
    pixels = points[:, :2] / points[:, 2:] * (camera.fx, camera.fy) + (camera.cx, camera.cy)
    limits = np.array([camera.width, camera.height])
    lowest, highest = point_bounds(pixels)
    low = np.clip(np.floor(lowest - 0.5), 0, limits).astype(int)
    high = np.clip(np.ceil(highest + 0.5), 0, limits).astype(int)
    width, height = (high - low).tolist()
    return (int(low[0]), int(low[1]), width, height) if width > 0 and height > 0 else None


def _is_outside(item: PlacedObject, camera: Camera) -> bool:
    """Whether the corners of an object's box say that none of it is in the frame, which spares its vertices."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    points = camera.world_to_camera(np.take_along_axis(item.bounds, corners, axis=0))
    if (points[:, 2] <= NEAR).all():
        return True
    if (points[:, 2] <= NEAR).any():
        return False
    pixels = points[:, :2] / points[:, 2:] * (camera.fx, camera.fy) + (camera.cx, camera.cy)
    # A pixel more than the window that the vertices get, for rounding.
    lowest, highest = point_bounds(pixels)
    return bool((highest < -1.5).any() or (lowest > (camera.width + 1.5, camera.height + 1.5)).any())


def _edges_at_near(points: np.ndarray, faces: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """(K, 3) where edges of triangles come out from behind the camera."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = edges[ahead[edges[:, 0]] != ahead[edges[:, 1]]]
    start, end = points[edges[:, 0]], points[edges[:, 1]]
    share = (NEAR - start[:, 2:]) / (end[:, 2:] - start[:, 2:])
    crossing = start + share * (end - start)
    crossing[:, 2] = NEAR
    return crossing


def _is_hole(item: PlacedObject, faces: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
    """(K,) bool: whether the texture has no colour there."""
    mesh = item.mesh
    uv = corner_values(mesh.corner_uvs, faces, barycentric)
    material = np.zeros(len(faces), dtype=int) if mesh.face_materials is None else mesh.face_materials[faces]
    holes = np.zeros(len(faces), dtype=bool)
    for index in np.unique(material):
        texture = mesh.materials[index].texture
        if texture is None or texture.shape[2] < 4:
            continue
        here = material == index
        height, width = texture.shape[:2]
        column = np.floor(uv[here, 0] % 1.0 * width).astype(int) % width
        row = np.floor((1.0 - uv[here, 1] % 1.0) * height).astype(int) % height
        holes[here] = texture[row, column, 3] < 128
    return holes


def corner_values(values: np.ndarray | None, faces: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
    """(K, C) values (F, 3, C) of the corners of faces, blended where the rays met them.

    Example:
        >>> values = np.array([[[0.0], [4.0], [8.0]]])
        >>> corner_values(values, np.array([0]), np.array([[0.5, 0.25]])).tolist()
        [[4.0]]
    """
    if values is None:
        raise ValueError("values must be given for each corner, got None")
    second, third = barycentric[:, :1], barycentric[:, 1:]
    corners = values[faces]
    blended: np.ndarray = corners[:, 0] * (1 - second - third) + corners[:, 1] * second + corners[:, 2] * third
    return blended


def camera_inside(item: PlacedObject, camera: Camera) -> bool:
    """Whether an object surrounds the camera: it is met in all of 14 directions. Ask it not of a room's walls.

    Example:
        >>> from amodal_diffusion.data.rooms import ObjectMesh
        >>> corners = np.array([[3, 0.1, -1], [-1, 2.9, -1.2], [-1.1, -3, -1], [0.2, 0.1, 3]])
        >>> faces = np.array([[0, 1, 2], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
        >>> item = PlacedObject(ObjectMesh("tent", corners, faces))
        >>> camera_inside(item, Camera(32, 32, 16.0, 16.0, 16.0, 16.0, np.eye(4)))
        True
    """
    if not ((item.bounds[0] < camera.position) & (camera.position < item.bounds[1])).all():
        return False
    steps = np.array([[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)], dtype=float)
    steps = steps[np.isin(np.abs(steps).sum(axis=1), (1, 3))]
    return bool((cast_object(item, camera.position, steps).face >= 0).all())


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> tuple[int, int, int, int] | None:
    """The common part of two windows, as (x0, y0, x1, y1)."""
    x0, y0 = max(a[0], b[0]), max(a[1], b[1])
    x1, y1 = min(a[0] + a[2], b[0] + b[2]), min(a[1] + a[3], b[1] + b[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _cut(hits: ObjectHits, cut: tuple[int, int, int, int]) -> np.ndarray:
    x, y = hits.window[:2]
    return hits.depth[cut[1] - y : cut[3] - y, cut[0] - x : cut[2] - x]
