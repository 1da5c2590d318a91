"""Scenes of any known form → objects."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...readers.records import BadRecord, OnError, RecordLog
from ..meshes import MeshError, ObjectMesh, PlacedObject, check_mesh, check_transform
from .gltf import read_gltf
from .obj import read_obj
from .ply import read_ply, split_by_id, triangle_ids
from .scanned_houses import read_matterport, read_replica, read_scannet
from .sdf import read_sdf

SCENE_FORMATS = ("obj", "gltf", "ply", "sdf", "matterport", "replica", "scannet")


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
    names |= {".sdf": "sdf", ".world": "sdf"}
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
            of faces or vertices), SDF (for each model of a robot simulator's world), or a folder of Matterport3D,
            Replica or ScanNet.
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


_READERS: dict[str, Any] = {
    "obj": lambda path: _still(read_obj(path)),
    "gltf": read_gltf,
    "ply": _read_ply_scene,
    "sdf": read_sdf,
    "matterport": lambda path: _still(read_matterport(path)),
    "replica": lambda path: _still(read_replica(path)),
    "scannet": lambda path: _still(read_scannet(path)),
}
