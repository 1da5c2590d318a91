"""Rays against triangles, by Embree (`embreex`, of the extra `rooms`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Hits(NamedTuple):
    """What N rays hit first.

    Attributes:
        distance: (N,) float32, in lengths of the ray's direction; infinity for no hit.
        face: (N,) int32 index of the triangle, -1 for no hit.
        part: (N,) int32 index of the mesh in the tracer, -1 for no hit.
        barycentric: (N, 2) float32, the weights of the triangle's second and third corner.

    Example:
        >>> tracer = MeshTracer(np.array([[0, 0, 2], [1, 0, 2], [0, 1, 2.0]]), np.array([[0, 1, 2]]))
        >>> hits = tracer.cast(np.zeros((1, 3)), np.array([[0.25, 0.125, 1.0]]))
        >>> hits.distance.tolist(), hits.part.tolist(), hits.barycentric.tolist()
        ([2.0], [0], [[0.5, 0.25]])
    """

    distance: np.ndarray
    face: np.ndarray
    part: np.ndarray
    barycentric: np.ndarray


def require_embree() -> None:
    """Say how to install what traces rays, where it is missing.

    Raises:
        ImportError: `embreex` is not installed.

    Example:
        >>> require_embree()  # nothing happens where it is installed
    """
    try:
        import embreex.mesh_construction  # noqa: F401
    except ImportError as error:
        raise ImportError("ground truth from 3D needs embreex: pip install 'amodal-diffusion[rooms]'") from error


class MeshTracer:
    """Meshes in a tree of boxes.

    Args:
        vertices: (V, 3) of the first mesh; more are added with `add`.
        faces: (F, 3) indices.

    Example:
        >>> tracer = MeshTracer(np.array([[0, 0, 2], [1, 0, 2], [0, 1, 2.0]]), np.array([[0, 1, 2]]))
        >>> hits = tracer.cast(np.zeros((2, 3)), np.array([[0.1, 0.1, 1], [0, 0, -1.0]]))
        >>> hits.distance.tolist(), hits.face.tolist()
        ([2.0, inf], [0, -1])
    """

    def __init__(self, vertices: np.ndarray | None = None, faces: np.ndarray | None = None) -> None:
        require_embree()
        from embreex.rtcore_scene import EmbreeScene

        self._scene = EmbreeScene()
        self._meshes: list[object] = []  # Embree reads their arrays as long as the scene lives
        if vertices is not None and faces is not None:
            self.add(vertices, faces)

    def add(self, vertices: np.ndarray, faces: np.ndarray) -> int:
        """Add a mesh before the first ray is cast, and return its index, which `Hits.part` gives."""
        from embreex.mesh_construction import TriangleMesh

        points = np.ascontiguousarray(vertices, dtype=np.float32)
        triangles = np.ascontiguousarray(faces, dtype=np.int32)
        self._meshes.append((points, triangles, TriangleMesh(self._scene, points, triangles)))
        return len(self._meshes) - 1

    def cast(self, origins: np.ndarray, directions: np.ndarray, limits: np.ndarray | None = None) -> Hits:
        """What each ray hits first.

        Args:
            origins: (N, 3).
            directions: (N, 3), of any length but 0.
            limits: (N,), how far to look, in lengths of the direction.
        """
        count = len(origins)
        if not count:
            empty = np.zeros(0, dtype=np.int32)
            return Hits(np.zeros(0, dtype=np.float32), empty, empty.copy(), np.zeros((0, 2), dtype=np.float32))
        options = {} if limits is None else {"dists": np.ascontiguousarray(limits, dtype=np.float32)}
        found = self._scene.run(
            np.ascontiguousarray(origins, dtype=np.float32),
            np.ascontiguousarray(directions, dtype=np.float32),
            output=1,
            **options,
        )
        missed = found["primID"] < 0
        distance = np.where(missed, np.float32(np.inf), found["tfar"])
        return Hits(distance, found["primID"], found["geomID"], np.stack([found["u"], found["v"]], axis=1))

    def blocked(self, origins: np.ndarray, directions: np.ndarray, limits: np.ndarray) -> np.ndarray:
        """(N,) bool: whether anything is hit within `limits` lengths of the direction."""
        if not len(origins):
            return np.zeros(0, dtype=bool)
        found = self._scene.run(
            np.ascontiguousarray(origins, dtype=np.float32),
            np.ascontiguousarray(directions, dtype=np.float32),
            dists=np.ascontiguousarray(limits, dtype=np.float32),
            query="OCCLUDED",
        )
        return np.asarray(found) >= 0
