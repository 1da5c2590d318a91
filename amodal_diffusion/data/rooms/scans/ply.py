"""PLY meshes, text and binary, with the ids of objects that data sets write to their faces or vertices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..meshes import MeshError, ObjectMesh, take_faces

OBJECT_ID_NAMES = ("object_id", "objectid", "instance_id", "instance", "instance_label", "face_segment", "segment_id")
"""Properties that hold an object's id, the first that is there."""
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True, eq=False)
class PlyMesh:
    """What a PLY file holds.

    Attributes:
        vertices: (V, 3) float64.
        triangles: (T, 3) int32; polygons are cut into fans.
        face_of: (T,) int32: the face in the file that a triangle is of.
        vertex_values: property of the vertices by name, (V,) each.
        face_values: property of the faces by name, (F,) each; lists but the vertex indices are left out.

    Example:
        >>> mesh = PlyMesh(np.eye(3), np.array([[0, 1, 2]]), np.array([0]), {}, {})
        >>> mesh.colors is None, mesh.as_object("cup").name
        (True, 'cup')
    """

    vertices: np.ndarray
    triangles: np.ndarray
    face_of: np.ndarray
    vertex_values: dict[str, np.ndarray]
    face_values: dict[str, np.ndarray]

    @property
    def colors(self) -> np.ndarray | None:
        """(V, 3) uint8, or None."""
        if not {"red", "green", "blue"} <= self.vertex_values.keys():
            return None
        return np.stack([self.vertex_values[name] for name in ("red", "green", "blue")], axis=1).astype(np.uint8)

    def as_object(self, name: str) -> ObjectMesh:
        """All of it as one mesh."""
        return ObjectMesh(name, self.vertices, self.triangles, vertex_colors=self.colors)


def read_ply(path: str | os.PathLike[str]) -> PlyMesh:
    r"""Read a PLY file.

    Raises:
        FileNotFoundError: no such file.
        MeshError: no PLY, a header that cannot be read, fewer data than it says, or indices beyond the vertices.

    Example:
        >>> import tempfile
        >>> header = "ply", "format ascii 1.0", "element vertex 3", *(f"property float {axis}" for axis in "xyz")
        >>> body = "element face 1", "property list uchar int vertex_indices", "property int object_id", "end_header"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "mesh.ply"
        ...     _ = file.write_text("\n".join([*header, *body, "0 0 0", "1 0 0", "0 1 0", "3 0 1 2 7"]))
        ...     read_ply(file).face_values["object_id"].tolist()
        [7]
    """
    path = Path(path)
    content = path.read_bytes()
    try:
        return _parse(content)
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise MeshError(f"{os.fspath(path)}: {error}") from error


def _parse(content: bytes) -> PlyMesh:
    if not content.startswith(b"ply"):
        raise ValueError("expected a PLY file, which begins with 'ply'")
    mark = content.find(b"end_header")
    if mark < 0:
        raise ValueError("expected 'end_header'")
    start = content.index(b"\n", mark) + 1 if b"\n" in content[mark:] else len(content)
    order, elements = _read_header(content[:mark].decode("ascii"))
    values: dict[str, tuple[dict[str, np.ndarray], tuple[np.ndarray, np.ndarray] | None]] = {}
    tokens = content[start:].split() if not order else []
    position = 0 if not order else start
    for name, count, properties in elements:
        if order:
            read = _read_binary(content, position, order, count, properties)
        else:
            read = _read_text(tokens, position, count, properties)
        values[name], position = read
    points, _ = values["vertex"]
    vertices = np.stack([points[axis] for axis in "xyz"], axis=1).astype(np.float64)
    faces, lists = values.get("face", ({}, None))
    triangles, face_of = _fans(*lists) if lists is not None else (np.zeros((0, 3), np.int32), np.zeros(0, np.int32))
    if len(triangles) and not (0 <= triangles.min() and triangles.max() < len(vertices)):
        raise ValueError(f"face indices must be from 0 to {len(vertices) - 1}, got up to {triangles.max()}")
    return PlyMesh(vertices, triangles, face_of, points, faces)


_Property = tuple[str, str, str]
"""Name, type, and the type of the length of a list, or ""."""


def _read_header(text: str) -> tuple[str, list[tuple[str, int, list[_Property]]]]:
    order, elements = None, list[tuple[str, int, list[_Property]]]()
    for line in text.splitlines()[1:]:
        parts = line.split()
        if not parts or parts[0] in ("comment", "obj_info"):
            continue
        if parts[0] == "format":
            order = _FORMATS[parts[1]]
        elif parts[0] == "element":
            elements.append((parts[1], int(parts[2]), []))
        elif parts[0] == "property" and parts[1] == "list":
            elements[-1][2].append((parts[4], _TYPES[parts[3]], _TYPES[parts[2]]))
        elif parts[0] == "property":
            elements[-1][2].append((parts[2], _TYPES[parts[1]], ""))
        else:
            raise ValueError(f"unknown line in the header: {line!r:.60}")
    if order is None or "vertex" not in [name for name, _, _ in elements]:
        raise ValueError("expected a format and an element 'vertex' in the header")
    return order, elements


def _read_text(tokens: list[bytes], position: int, count: int, properties: list[_Property]) -> Any:
    columns: dict[str, list[float]] = {name: [] for name, _, length in properties if not length}
    lengths, indices = [], []
    for _ in range(count):
        for name, _, length in properties:
            if not length:
                columns[name].append(float(tokens[position]))
                position += 1
                continue
            size = int(tokens[position])
            if _is_index_list(name):
                lengths.append(size)
                indices += [int(token) for token in tokens[position + 1 : position + 1 + size]]
            position += 1 + size
    if position > len(tokens):
        raise ValueError("the file ends before its elements do")
    kinds = {name: kind for name, kind, _ in properties}
    values = {name: np.array(column).astype(kinds[name]) for name, column in columns.items()}
    lists = (np.array(lengths, dtype=np.int64), np.array(indices, dtype=np.int64)) if lengths else None
    return (values, lists), position


def _read_binary(content: bytes, start: int, order: str, count: int, properties: list[_Property]) -> Any:
    """An element whose lists all have the length of the first is read at once, any other entry by entry."""
    sizes = {}
    offset = start
    for name, kind, length in properties:
        if length:
            sizes[name] = int(np.frombuffer(content, order + length, 1, offset)[0]) if count else 0
            offset += np.dtype(length).itemsize + sizes[name] * np.dtype(kind).itemsize
        else:
            offset += np.dtype(kind).itemsize
    fields: list[Any] = []
    for name, kind, length in properties:
        fields += [(f"{name} length", order + length)] if length else []
        fields.append((name, order + kind, (sizes[name],)) if length else (name, order + kind))
    layout = np.dtype(fields)
    if start + count * layout.itemsize <= len(content):
        table = np.frombuffer(content, layout, count, start)
        if all((table[f"{name} length"] == size).all() for name, size in sizes.items()):
            values = {name: table[name].copy() for name, _, length in properties if not length}
            lists = None
            for name in filter(_is_index_list, sizes):
                lists = (np.full(count, sizes[name], dtype=np.int64), table[name].astype(np.int64).ravel())
            return (values, lists), start + count * layout.itemsize
    return _read_uneven(content, start, order, count, properties)


def _read_uneven(content: bytes, position: int, order: str, count: int, properties: list[_Property]) -> Any:
    columns: dict[str, list[Any]] = {name: [] for name, _, length in properties if not length}
    lengths, indices = [], []
    for _ in range(count):
        for name, kind, length in properties:
            size = 1
            if length:
                size = int(np.frombuffer(content, order + length, 1, position)[0])
                position += np.dtype(length).itemsize
            entry = np.frombuffer(content, order + kind, size, position)
            position += size * np.dtype(kind).itemsize
            if not length:
                columns[name].append(entry[0])
            elif _is_index_list(name):
                lengths.append(size)
                indices.append(entry.astype(np.int64))
    values = {name: np.array(column) for name, column in columns.items()}
    lists = (np.array(lengths, dtype=np.int64), np.concatenate(indices)) if lengths else None
    return (values, lists), position


def _is_index_list(name: str) -> bool:
    return name in ("vertex_indices", "vertex_index")


def _fans(lengths: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles of polygons that lie one after the other, and the polygon of each."""
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    counts = np.maximum(lengths - 2, 0)
    face_of = np.repeat(np.arange(len(lengths)), counts)
    step = np.arange(len(face_of)) - np.repeat(np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    first = starts[face_of]
    triangles = np.stack([indices[first], indices[first + step + 1], indices[first + step + 2]], axis=1)
    return triangles.astype(np.int32), face_of.astype(np.int32)


def triangle_ids(mesh: PlyMesh, names: Sequence[str] = OBJECT_ID_NAMES) -> np.ndarray | None:
    """(T,) int64 id of each triangle, from its face or, by majority, from its corners; None where the file has none.

    Example:
        >>> mesh = PlyMesh(np.eye(3), np.array([[0, 1, 2]]), np.array([0]), {}, {"object_id": np.array([7])})
        >>> triangle_ids(mesh).tolist()
        [7]
    """
    for name in names:
        if name in mesh.face_values:
            return mesh.face_values[name].astype(np.int64)[mesh.face_of]
    for name in names:
        if name in mesh.vertex_values:
            return majority(mesh.vertex_values[name].astype(np.int64)[mesh.triangles])
    return None


def majority(corners: np.ndarray) -> np.ndarray:
    """(T,) the value that two of (T, 3) have, or the first of three different ones.

    Example:
        >>> majority(np.array([[1, 2, 2], [3, 4, 5]])).tolist()
        [2, 3]
    """
    picked: np.ndarray = np.where(corners[:, 1] == corners[:, 2], corners[:, 1], corners[:, 0])
    return picked


def split_by_id(mesh: PlyMesh, ids: np.ndarray, name: str) -> dict[int, ObjectMesh]:
    """An object for each id of triangles that is not negative.

    Example:
        >>> mesh = PlyMesh(np.eye(3), np.array([[0, 1, 2], [2, 1, 0]]), np.array([0, 1]), {}, {})
        >>> {index: part.name for index, part in split_by_id(mesh, np.array([7, -1]), "room").items()}
        {7: 'room 7'}
    """
    whole = mesh.as_object(name)
    order = np.argsort(ids, kind="stable")
    values, starts = np.unique(ids[order], return_index=True)
    parts = np.split(order, starts[1:])
    return {
        int(value): take_faces(whole, part, f"{name} {value}")
        for value, part in zip(values, parts, strict=True)
        if value >= 0
    }
