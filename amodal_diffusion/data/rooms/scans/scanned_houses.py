"""Scanned houses whose meshes say which object each triangle is of: Matterport3D, Replica and ScanNet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ....files import read_json
from ..meshes import MeshError, ObjectMesh, is_stuff_name
from .ply import PlyMesh, majority, read_ply, split_by_id, triangle_ids


def read_matterport(folder: str | os.PathLike[str]) -> list[ObjectMesh]:
    r"""Objects of a house of Matterport3D.

    Args:
        folder: `house_segmentations`, with `<house>.house` and `<house>.ply`; or the path of the `.house` file.

    Returns:
        An object for each that has triangles: label and category are those of the categories in the `.house` file
        (mpcat40's number is its `category_id`), walls, floors and ceilings are stuff. Triangles of no object are one
        stuff object, which hides.

    Raises:
        FileNotFoundError: no such files.
        MeshError, ValueError: a file of another form.

    Example:
        >>> import json, tempfile
        >>> header = "ply", "format ascii 1.0", "element vertex 3", *(f"property float {axis}" for axis in "xyz")
        >>> body = "element face 1", "property list uchar int vertex_indices", "property int segment_id", "end_header"
        >>> ply = "\n".join([*header, *body, "0 0 0", "1 0 0", "0 1 0", "3 0 1 2 7"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "home.ply").write_text(ply)
        ...     _ = (Path(folder) / "home.house").write_text("\n".join(["C 0 0 cup 5 cup", "O 0 0 0", "E 0 0 7"]))
        ...     [(item.label, item.category_id) for item in read_matterport(folder)]
        [('cup', 5)]
    """
    house = _only(Path(folder), "*.house")
    categories: dict[int, tuple[str, int, str]] = {}
    category_of: dict[int, int] = {}
    object_of: dict[int, int] = {}
    for number, line in enumerate(house.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        parts = line.split()
        try:
            if parts and parts[0] == "C":
                categories[int(parts[1])] = (parts[3].replace("#", " "), int(parts[4]), parts[5].replace("#", " "))
            elif parts and parts[0] == "O":
                category_of[int(parts[1])] = int(parts[3])
            elif parts and parts[0] == "E":
                object_of[int(parts[3])] = int(parts[2])
        except (ValueError, IndexError) as error:
            raise MeshError(f"{house}: line {number}: expected the fields of {parts[0]}, got {line!r:.80}") from error
    mesh = read_ply(house.with_suffix(".ply"))
    segments = _best_property(mesh, np.array(sorted(object_of), dtype=np.int64), house)
    ids = _lookup(segments, object_of)
    objects = []
    for index, part in split_by_id(mesh, ids, house.stem).items():
        label, number, category = categories.get(category_of.get(index, -1), ("unknown", 0, "unknown"))
        stuff = is_stuff_name(category) or is_stuff_name(label)
        objects.append(replace(part, label=label, category=category, category_id=number, is_stuff=stuff))
    return objects + _rest(mesh, ids, house.stem)


def _best_property(mesh: PlyMesh, known: np.ndarray, house: Path) -> np.ndarray:
    """(T,) segment of each triangle: the property of the faces that holds most of the segments' ids."""
    names = [
        name for name in ("face_material", "material_id", "face_segment", "segment_id") if name in mesh.face_values
    ]
    if not names:
        raise MeshError(f"{house.with_suffix('.ply')}: expected faces with material_id or segment_id, got neither")
    best = max(names, key=lambda name: int(np.isin(mesh.face_values[name], known).sum()))
    return mesh.face_values[best].astype(np.int64)[mesh.face_of]


def read_replica(folder: str | os.PathLike[str]) -> list[ObjectMesh]:
    r"""Objects of a room of Replica.

    Args:
        folder: with `mesh_semantic.ply` and `info_semantic.json`, or the folder above its `habitat`.

    Raises:
        FileNotFoundError: no such files.
        MeshError, ValueError: a file of another form.

    Example:
        >>> import json, tempfile
        >>> header = "ply", "format ascii 1.0", "element vertex 3", *(f"property float {axis}" for axis in "xyz")
        >>> body = "element face 1", "property list uchar int vertex_indices", "property int object_id", "end_header"
        >>> ply = "\n".join([*header, *body, "0 0 0", "1 0 0", "0 1 0", "3 0 1 2 7"])
        >>> info = {"objects": [{"id": 7, "class_name": "cup", "class_id": 5}]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "mesh_semantic.ply").write_text(ply)
        ...     _ = (Path(folder) / "info_semantic.json").write_text(json.dumps(info))
        ...     [(item.label, item.category_id) for item in read_replica(folder)]
        [('cup', 5)]
    """
    base = Path(folder)
    base = base / "habitat" if (base / "habitat" / "mesh_semantic.ply").exists() else base
    mesh = read_ply(base / "mesh_semantic.ply")
    info = read_json(base / "info_semantic.json")
    ids = triangle_ids(mesh, ("object_id",))
    if ids is None:
        raise MeshError(f"{base / 'mesh_semantic.ply'}: expected faces with object_id, got {sorted(mesh.face_values)}")
    names: dict[int, tuple[str, int]] = {}
    for entry in _list(info, "objects", base / "info_semantic.json"):
        names[int(entry["id"])] = (str(entry.get("class_name", "")), int(entry.get("class_id", 0)))
    objects = []
    for index, part in split_by_id(mesh, np.where(np.isin(ids, list(names)), ids, -1), base.name).items():
        label, number = names[index]
        objects.append(replace(part, label=label, category=label, category_id=number, is_stuff=is_stuff_name(label)))
    return objects + _rest(mesh, np.where(np.isin(ids, list(names)), ids, -1), base.name)


def read_scannet(folder: str | os.PathLike[str]) -> list[ObjectMesh]:
    r"""Objects of a scan of ScanNet.

    Args:
        folder: with `<scan>_vh_clean_2.ply`, `<scan>_vh_clean_2.0.010000.segs.json` and `<scan>.aggregation.json`.

    Raises:
        FileNotFoundError: no such files.
        MeshError, ValueError: a file of another form, or segments of another number than the mesh has vertices.

    Example:
        >>> import json, tempfile
        >>> header = "ply", "format ascii 1.0", "element vertex 3", *(f"property float {axis}" for axis in "xyz")
        >>> body = "element face 1", "property list uchar int vertex_indices", "property int label", "end_header"
        >>> ply = "\n".join([*header, *body, "0 0 0", "1 0 0", "0 1 0", "3 0 1 2 7"])
        >>> groups = {"segGroups": [{"objectId": 0, "label": "cup", "segments": [7]}]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "a_vh_clean_2.ply").write_text(ply)
        ...     segments = Path(folder) / "a_vh_clean_2.0.010000.segs.json"
        ...     _ = segments.write_text(json.dumps({"segIndices": [7, 7, 7]}))
        ...     _ = (Path(folder) / "a.aggregation.json").write_text(json.dumps(groups))
        ...     [item.label for item in read_scannet(folder)]
        ['cup']
    """
    base = Path(folder)
    path = _only(base, "*_vh_clean_2.ply")
    scan = path.name.removesuffix("_vh_clean_2.ply")
    mesh = read_ply(path)
    segments_path = base / f"{scan}_vh_clean_2.0.010000.segs.json"
    segments = np.array(_list(read_json(segments_path), "segIndices", segments_path), dtype=np.int64)
    if len(segments) != len(mesh.vertices):
        raise MeshError(f"{segments_path}: expected {len(mesh.vertices)} segments, one a vertex, got {len(segments)}")
    groups_path = next(
        (
            file
            for file in (base / f"{scan}.aggregation.json", base / f"{scan}_vh_clean.aggregation.json")
            if file.exists()
        ),
        base / f"{scan}.aggregation.json",
    )
    object_of: dict[int, int] = {}
    labels: dict[int, str] = {}
    for group in _list(read_json(groups_path), "segGroups", groups_path):
        index = int(group.get("objectId", group.get("id", len(labels))))
        labels[index] = str(group.get("label", ""))
        object_of.update({int(segment): index for segment in group["segments"]})
    ids = majority(_lookup(segments, object_of)[mesh.triangles])
    objects = []
    for index, part in split_by_id(mesh, ids, scan).items():
        label = labels[index]
        objects.append(replace(part, label=label, category=label, is_stuff=is_stuff_name(label)))
    return objects + _rest(mesh, ids, scan)


def _rest(mesh: PlyMesh, ids: np.ndarray, name: str) -> list[ObjectMesh]:
    """Triangles of no object, as one piece of stuff."""
    if not (ids < 0).any():
        return []
    whole = mesh.as_object(f"{name} rest")
    return [replace(whole, faces=whole.faces[ids < 0], label="unlabelled", is_stuff=True)]


def _lookup(keys: np.ndarray, values: Mapping[int, int]) -> np.ndarray:
    """The value of each key, -1 where there is none."""
    if not values:
        return np.full(keys.shape, -1, dtype=np.int64)
    known = np.array(sorted(values), dtype=np.int64)
    found = np.array([values[int(key)] for key in known], dtype=np.int64)
    place = np.clip(np.searchsorted(known, keys), 0, len(known) - 1)
    result: np.ndarray = np.where(known[place] == keys, found[place], -1)
    return result


def _only(path: Path, pattern: str) -> Path:
    if path.is_file():
        return path
    files = sorted(path.glob(pattern))
    if len(files) != 1:
        raise FileNotFoundError(f"{os.fspath(path)!r} must have one file {pattern}, got {len(files)}")
    return files[0]


def _list(content: Any, key: str, path: Path) -> list[Any]:
    value = content.get(key) if isinstance(content, Mapping) else None
    if not isinstance(value, list):
        raise MeshError(f"{path}: expected a list under {key!r}, got {type(value).__name__}")
    return value
