"""Scenes of any known form → objects."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...readers.records import BadRecord, OnError, RecordLog
from ..meshes import (
    Material,
    MeshError,
    ObjectMesh,
    PlacedObject,
    check_mesh,
    check_transform,
    is_stuff_name,
    merge_meshes,
)
from .obj import read_obj
from .ply import read_ply, split_by_id, triangle_ids
from .scanned_houses import read_matterport, read_replica, read_scannet

SCENE_FORMATS = ("obj", "gltf", "ply", "matterport", "replica", "scannet")


def detect_scene_format(path: str | os.PathLike[str]) -> str:
    """Form of a scene: a key of `SCENE_FORMATS`, by its name and what lies in its folder.

    Raises:
        FileNotFoundError: nothing there.
        MeshError: of no known form.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "room.glb").touch()
        ...     detect_scene_format(Path(folder) / "room.glb")
        'gltf'
    """
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"no such file or folder: {os.fspath(place)!r}")
    if place.is_dir():
        for pattern, name in (
            ("*.house", "matterport"),
            ("mesh_semantic.ply", "replica"),
            ("habitat/mesh_semantic.ply", "replica"),
            ("*_vh_clean_2.ply", "scannet"),
        ):
            if next(place.glob(pattern), None) is not None:
                return name
        raise MeshError(f"{place}: expected a scene of Matterport3D, Replica or ScanNet, got another folder")
    names = {".obj": "obj", ".glb": "gltf", ".gltf": "gltf", ".ply": "ply", ".house": "matterport"}
    if place.suffix.lower() not in names:
        raise MeshError(f"{place}: scene must be one of {sorted(names)} or a folder, got {place.suffix!r}")
    return names[place.suffix.lower()]


def read_scene(
    path: str | os.PathLike[str],
    *,
    format: str = "auto",  # noqa: A002 - the word of the command line
    stuff: Iterable[str] = (),
    scale: float = 1.0,
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
) -> list[PlacedObject]:
    r"""Objects of a scene.

    Args:
        path: OBJ (an object for each `o`, else for each `g`), glTF or GLB (for each node with a mesh), PLY (for each id
            of faces or vertices), or a folder of Matterport3D, Replica or ScanNet.
        format: one of `SCENE_FORMATS`, or "auto".
        stuff: names of more objects that are ground, wall or ceiling.
        scale: metres in a unit of the file.
        on_error: "raise" refuses the first bad object; "skip" leaves it out.
        bad_records: list that takes the objects skipped.

    Raises:
        FileNotFoundError: nothing there.
        MeshError: of no known form, or nothing in it.
        ValueError: unknown `format` or `on_error`, a scale that is not positive.
        AnnotationError: an object is bad and `on_error` is "raise"; the message names it and says what is wrong.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "cup.obj"
        ...     _ = file.write_text("o cup\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
        ...     [item.mesh.name for item in read_scene(file)]
        ['cup']
    """
    if format not in ("auto", *SCENE_FORMATS):
        raise ValueError(f"format must be 'auto' or one of {list(SCENE_FORMATS)}, got {format!r}")
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be positive, got {scale}")
    name = detect_scene_format(path) if format == "auto" else format
    log = RecordLog(os.fspath(path), on_error, bad_records)
    extra = set(stuff)
    objects = []
    for mesh, matrix in _READERS[name](path):
        try:
            to_world = check_transform(mesh.name, matrix)
            if scale != 1:
                to_world = np.diag([scale, scale, scale, 1.0]) @ to_world
            checked = check_mesh(mesh)
        except MeshError as error:
            log.bad(f"object {mesh.name!r}", error)
            continue
        if mesh.name in extra:
            checked = replace(checked, is_stuff=True)
        objects.append(PlacedObject(checked, to_world))
    if not objects:
        raise MeshError(f"{os.fspath(path)}: expected at least one object, got none that can be used")
    return objects


def _still(meshes: Iterable[ObjectMesh]) -> list[tuple[ObjectMesh, np.ndarray]]:
    return [(mesh, np.eye(4)) for mesh in meshes]


def _read_ply_scene(path: str | os.PathLike[str]) -> list[tuple[ObjectMesh, np.ndarray]]:
    mesh = read_ply(path)
    name = Path(path).stem
    ids = triangle_ids(mesh)
    return _still([mesh.as_object(name)] if ids is None else split_by_id(mesh, ids, name).values())


def _read_gltf(path: str | os.PathLike[str]) -> list[tuple[ObjectMesh, np.ndarray]]:
    """Nodes with a mesh; the primitives of a node are one object, of which trimesh makes several geometries."""
    try:
        import trimesh
    except ImportError as error:
        raise ImportError("glTF scenes need trimesh: pip install 'amodal-diffusion[rooms]'") from error
    try:
        scene = trimesh.load_scene(os.fspath(path), process=False)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise MeshError(f"{os.fspath(path)}: expected glTF, got {type(error).__name__}: {error}") from error
    nodes: dict[str, list[tuple[ObjectMesh, np.ndarray]]] = {}
    parents = scene.graph.transforms.parents
    for node in sorted(scene.graph.nodes_geometry):
        matrix, geometry = scene.graph[node]
        part = scene.geometry[geometry]
        if not hasattr(part, "faces"):
            continue  # points and lines cover no pixel
        owner = node
        # The primitives of one mesh hang below its node under names that trimesh made up.
        if parents.get(node) not in (None, scene.graph.base_frame) and str(node).startswith(str(geometry)):
            owner = parents[node]
        nodes.setdefault(str(owner), []).append((_from_trimesh(str(owner), part), np.asarray(matrix)))
    objects = []
    for name, parts in nodes.items():
        matrix = parts[0][1]
        same = all(np.allclose(matrix, other) for _, other in parts)
        if len(parts) == 1 or not same:
            objects += parts
        else:
            merged = merge_meshes([mesh for mesh, _ in parts], name)
            objects.append((replace(merged, label=name, is_stuff=is_stuff_name(name)), matrix))
    return objects


def _from_trimesh(name: str, part: Any) -> ObjectMesh:
    visual = part.visual
    color: tuple[float, float, float] = (0.7, 0.7, 0.7)
    texture, uvs, colors = None, None, None
    if getattr(visual, "kind", None) == "vertex":
        colors = np.asarray(visual.vertex_colors)[:, :3]
    material = getattr(visual, "material", None)
    if material is not None:
        factor = np.asarray(material.main_color)[:3] / 255
        color = (float(factor[0]), float(factor[1]), float(factor[2]))
        picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        if picture is not None and getattr(visual, "uv", None) is not None:
            texture = np.asarray(picture.convert("RGB"))
            uvs = np.asarray(visual.uv, dtype=np.float32)[part.faces]
            color = (1.0, 1.0, 1.0)
    return ObjectMesh(
        name,
        np.asarray(part.vertices),
        np.asarray(part.faces),
        label=name,
        is_stuff=is_stuff_name(name),
        materials=(Material(color, texture),),
        corner_uvs=uvs,
        vertex_colors=colors,
    )


_READERS: dict[str, Any] = {
    "obj": lambda path: _still(read_obj(path)),
    "gltf": _read_gltf,
    "ply": _read_ply_scene,
    "matterport": lambda path: _still(read_matterport(path)),
    "replica": lambda path: _still(read_replica(path)),
    "scannet": lambda path: _still(read_scannet(path)),
}
