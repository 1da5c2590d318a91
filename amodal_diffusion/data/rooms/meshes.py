"""What a scene is made of: objects as triangle meshes with a look, placed in the world, and what makes a mesh bad."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from .rays import MeshTracer

MAX_EXTENT = 1e5
"""Metres. A mesh that reaches farther was read wrong, and single precision knows no millimetres there."""
STUFF_WORDS = ("wall", "floor", "ceiling", "ground", "room", "baseboard", "skirting", "roof")
_WORD = re.compile(r"[a-z]+")


class MeshError(ValueError):
    """A mesh from which no ground truth can be had; the message names the object, what was expected and what came.

    Example:
        >>> try:
        ...     merge_meshes([], "chair")
        ... except MeshError as error:
        ...     print(error)
        object 'chair': expected at least one face, got none
    """


@dataclass(frozen=True, eq=False)
class Material:
    """How a part of an object looks.

    Attributes:
        color: (3,) sRGB, 0 to 1; multiplies the texture.
        texture: (H, W, 3) or (H, W, 4) uint8 sRGB, first row on top, or None. Texels with alpha below 128 are holes:
            rays go through them.
        gloss: 0 (matt) to 1 (lacquer, glass).
        opacity: 1 is opaque; what is below blends with what lies behind. Masks take glass for opaque, as annotators do.
        emission: 0, or how brightly the surface shines by itself.

    Example:
        >>> Material(color=(1.0, 0.0, 0.0)).opacity
        1.0
    """

    color: tuple[float, float, float] = (0.7, 0.7, 0.7)
    texture: np.ndarray | None = None
    gloss: float = 0.0
    opacity: float = 1.0
    emission: float = 0.0

    @property
    def has_holes(self) -> bool:
        """Whether the texture has texels that rays go through."""
        return self.texture is not None and self.texture.shape[2] == 4 and bool((self.texture[..., 3] < 128).any())


@dataclass(frozen=True, eq=False)
class ObjectMesh:
    """One object: triangles in its own coordinates, what it is, and how it looks.

    Attributes:
        name: name in the source.
        vertices: (V, 3) float64, metres.
        faces: (F, 3) int32, indices into `vertices`; which way round does not matter.
        label: semantic label ("dining chair"); None where unknown.
        category: class that the label belongs to; None where unknown.
        category_id: number of the class; None where unknown.
        is_stuff: ground, wall or ceiling: it occludes objects, and is one itself only where an option asks for it.
        materials: at least one.
        face_materials: (F,) int32, or None where there is one material.
        corner_uvs: (F, 3, 2) float32, (0, 0) is the lower left corner of a texture; or None.
        corner_normals: (F, 3, 3) float32, unit, for smooth shading; or None.
        vertex_colors: (V, 3) uint8 sRGB, or None.

    Example:
        >>> triangle = ObjectMesh("tile", np.eye(3), np.array([[0, 1, 2]]))
        >>> triangle.bounds.tolist()
        [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    label: str | None = None
    category: str | None = None
    category_id: int | None = None
    is_stuff: bool = False
    materials: tuple[Material, ...] = field(default=(Material(),))
    face_materials: np.ndarray | None = None
    corner_uvs: np.ndarray | None = None
    corner_normals: np.ndarray | None = None
    vertex_colors: np.ndarray | None = None

    @cached_property
    def bounds(self) -> np.ndarray:
        """(2, 3) float64: lowest and highest corner."""
        return point_bounds(self.vertices)

    @cached_property
    def tracer(self) -> MeshTracer:
        """Finds what rays hit, made when first asked for; objects that share a mesh share it."""
        return MeshTracer(self.vertices, self.faces)

    @cached_property
    def hole_faces(self) -> np.ndarray | None:
        """(F,) bool: faces whose texture has holes; None for none."""
        holes = np.array([material.has_holes for material in self.materials])
        if not holes.any() or self.corner_uvs is None:
            return None
        return holes[self.face_materials] if self.face_materials is not None else np.ones(len(self.faces), dtype=bool)

    @cached_property
    def mean_color(self) -> np.ndarray:
        """(3,) float: about how the object is coloured, sRGB; what it throws on its neighbours."""
        if self.vertex_colors is not None:
            return self.vertex_colors.mean(axis=0) / 255.0
        colors = []
        for material in self.materials:
            color = np.array(material.color)
            if material.texture is not None:
                color = color * material.texture[::8, ::8, :3].mean(axis=(0, 1)) / 255.0
            colors.append(color)
        counts = np.ones(1) if self.face_materials is None else np.bincount(self.face_materials, minlength=len(colors))
        return np.average(np.array(colors)[: len(counts)], axis=0, weights=counts)


@dataclass(frozen=True, eq=False)
class PlacedObject:
    """An object where it stands in the world.

    Attributes:
        mesh: the object; placed objects may share one.
        to_world: (4, 4) float64, affine, from the mesh's coordinates to the world's.

    Example:
        >>> tile = ObjectMesh("tile", np.eye(3), np.array([[0, 1, 2]]))
        >>> PlacedObject(tile, np.diag([2.0, 2.0, 2.0, 1.0])).world_vertices.max()
        np.float64(2.0)
    """

    mesh: ObjectMesh
    to_world: np.ndarray = field(default_factory=lambda: np.eye(4))

    @cached_property
    def to_local(self) -> np.ndarray:
        """(4, 4) float64: the inverse of `to_world`."""
        return np.linalg.inv(self.to_world)

    @cached_property
    def world_vertices(self) -> np.ndarray:
        """(V, 3) float64."""
        return self.mesh.vertices @ self.to_world[:3, :3].T + self.to_world[:3, 3]

    @cached_property
    def bounds(self) -> np.ndarray:
        """(2, 3) float64: lowest and highest corner in the world."""
        return point_bounds(self.world_vertices)


def point_bounds(points: np.ndarray) -> np.ndarray:
    """(2, D): lowest and highest of (N, D) points; by columns, which is far faster than along a short axis.

    Example:
        >>> point_bounds(np.array([[0, 5], [2, 1]])).tolist()
        [[0, 1], [2, 5]]
    """
    columns = points.T
    return np.array([[column.min() for column in columns], [column.max() for column in columns]])


def check_transform(name: str, matrix: np.ndarray) -> np.ndarray:
    """A (4, 4) affine matrix that can be inverted, from a (4, 4) or (3, 4) one.

    Raises:
        MeshError: another shape, values that are not finite, or a matrix that flattens the object.

    Example:
        >>> check_transform("lamp", np.eye(4)[:3]).shape
        (4, 4)
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape not in ((3, 4), (4, 4)):
        raise MeshError(f"object {name!r}: transform must be a 3×4 or 4×4 matrix, got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise MeshError(f"object {name!r}: transform must be finite, got {matrix.tolist()}")
    full = np.eye(4)
    full[: len(matrix)] = matrix
    scale = np.linalg.norm(full[:3, :3], axis=0)
    if scale.min() == 0 or abs(np.linalg.det(full[:3, :3] / np.maximum(scale, 1e-300))) < 1e-6:
        raise MeshError(f"object {name!r}: transform must be invertible, got {full[:3, :3].tolist()}")
    return full


def check_mesh(mesh: ObjectMesh) -> ObjectMesh:
    """The mesh without faces that have no area, or an error that says why it cannot be used.

    Raises:
        MeshError: no faces or none with an area; vertices that are not finite; indices beyond the vertices; a size of
            more than `MAX_EXTENT` metres.

    Example:
        >>> check_mesh(ObjectMesh("empty", np.zeros((0, 3)), np.zeros((0, 3), dtype=int)))
        Traceback (most recent call last):
        ...
        amodal_diffusion.data.rooms.meshes.MeshError: object 'empty': expected at least one face, got none
    """
    vertices = np.ascontiguousarray(mesh.vertices, dtype=np.float64).reshape(-1, 3)
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int32).reshape(-1, 3)
    if not len(faces):
        raise MeshError(f"object {mesh.name!r}: expected at least one face, got none")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise MeshError(
            f"object {mesh.name!r}: face indices must be from 0 to {len(vertices) - 1}, "
            f"got {int(faces.min())} to {int(faces.max())}"
        )
    used = vertices[faces]  # (F, 3, 3); what no face uses may be anything
    if not np.isfinite(used).all():
        bad = int((~np.isfinite(used).all(axis=(1, 2))).sum())
        raise MeshError(f"object {mesh.name!r}: vertices must be finite, got NaN or infinity in {bad} faces")
    largest = float(np.abs(used).max())
    if largest > MAX_EXTENT:
        raise MeshError(f"object {mesh.name!r}: must lie within {MAX_EXTENT:g} metres, got {largest:g}")
    cross = np.cross(used[:, 1] - used[:, 0], used[:, 2] - used[:, 0])
    solid = (cross != 0).any(axis=1)
    if not solid.any():
        raise MeshError(f"object {mesh.name!r}: expected faces with an area, got {len(faces)} without")
    keep = np.unique(faces[solid])
    renumber = np.zeros(len(vertices), dtype=np.int32)
    renumber[keep] = np.arange(len(keep), dtype=np.int32)

    def of_faces(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else np.ascontiguousarray(values[solid])

    return replace(
        mesh,
        vertices=vertices[keep],
        faces=renumber[faces[solid]],
        face_materials=of_faces(mesh.face_materials),
        corner_uvs=of_faces(mesh.corner_uvs),
        corner_normals=of_faces(mesh.corner_normals),
        vertex_colors=None if mesh.vertex_colors is None else mesh.vertex_colors[keep],
    )


def repainted(mesh: ObjectMesh, materials: Sequence[Material]) -> ObjectMesh:
    """The same shape with other materials, as many as before; what rays need is shared, not made again.

    Example:
        >>> tile = ObjectMesh("tile", np.eye(3), np.array([[0, 1, 2]]))
        >>> red = repainted(tile, [Material((1.0, 0.0, 0.0))])
        >>> red.mean_color.tolist(), red.tracer is tile.tracer
        ([1.0, 0.0, 0.0], True)
    """
    if len(materials) != len(mesh.materials):
        raise ValueError(f"materials must be {len(mesh.materials)}, got {len(materials)}")
    copy = replace(mesh, materials=tuple(materials))
    # Where a cached property keeps its value: a tree of boxes takes longer to make than a photo of it.
    copy.__dict__.update(tracer=mesh.tracer, bounds=mesh.bounds, hole_faces=mesh.hole_faces)
    return copy


def take_faces(mesh: ObjectMesh, faces: np.ndarray, name: str) -> ObjectMesh:
    """A part of a mesh as an object of its own: the given faces, (K,) indices or (F,) bool, with all vertices.

    Example:
        >>> pair = ObjectMesh("pair", np.eye(3), np.array([[0, 1, 2], [0, 2, 1]]))
        >>> take_faces(pair, np.array([False, True]), "back").faces.tolist()
        [[0, 2, 1]]
    """

    def of_faces(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[faces]

    return replace(
        mesh,
        name=name,
        faces=mesh.faces[faces],
        face_materials=of_faces(mesh.face_materials),
        corner_uvs=of_faces(mesh.corner_uvs),
        corner_normals=of_faces(mesh.corner_normals),
    )


def is_stuff_name(name: str, words: Sequence[str] = STUFF_WORDS) -> bool:
    """Whether an object's name says that it is ground, wall or ceiling.

    Example:
        >>> is_stuff_name("floor_enclose_1"), is_stuff_name("wallet"), is_stuff_name("Wall.003")
        (True, False, True)
    """
    return not set(words).isdisjoint(_WORD.findall(name.lower()))


def merge_meshes(parts: Sequence[ObjectMesh], name: str) -> ObjectMesh:
    """Several meshes as one object.

    Raises:
        MeshError: there is none.

    Example:
        >>> tile = ObjectMesh("tile", np.eye(3), np.array([[0, 1, 2]]))
        >>> len(merge_meshes([tile, tile], "two").faces)
        2
    """
    if not parts:
        raise MeshError(f"object {name!r}: expected at least one face, got none")
    offset, vertices, faces, materials, numbers = 0, [], [], list[Material](), []
    for part in parts:
        vertices.append(part.vertices)
        faces.append(part.faces + offset)
        own = np.zeros(len(part.faces), dtype=np.int32) if part.face_materials is None else part.face_materials
        numbers.append(own + len(materials))
        materials += part.materials
        offset += len(part.vertices)

    def joined(key: str, missing: Any) -> Any:
        values = [getattr(part, key) for part in parts]
        if all(value is None for value in values):
            return None
        return np.concatenate(
            [missing(part) if value is None else value for part, value in zip(parts, values, strict=True)]
        )

    return ObjectMesh(
        name,
        np.concatenate(vertices),
        np.concatenate(faces).astype(np.int32),
        materials=tuple(materials),
        face_materials=np.concatenate(numbers).astype(np.int32),
        corner_uvs=joined("corner_uvs", lambda part: np.zeros((len(part.faces), 3, 2), dtype=np.float32)),
        corner_normals=joined("corner_normals", face_normals),
    )


def face_normals(mesh: ObjectMesh) -> np.ndarray:
    """(F, 3, 3) float32: the normal of each face at its three corners.

    Example:
        >>> flat = ObjectMesh("flat", np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.0]]), np.array([[0, 1, 2]]))
        >>> face_normals(flat)[0, 0].tolist()
        [0.0, 0.0, 1.0]
    """
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return np.repeat(normals[:, None].astype(np.float32), 3, axis=1)
