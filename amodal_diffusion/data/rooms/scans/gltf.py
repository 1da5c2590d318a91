"""glTF and GLB: an object for each node with a mesh."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np

from ....images import load_rgba
from ..meshes import Material, MeshError, ObjectMesh, is_stuff_name, merge_meshes


def read_gltf(path: str | os.PathLike[str]) -> list[tuple[ObjectMesh, np.ndarray]]:
    """Nodes with a mesh, with their (4, 4) poses; the primitives of a node are one object.

    Raises:
        ImportError: trimesh is not installed.
        MeshError: a file that is no glTF.

    Example:
        >>> import tempfile, trimesh
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = f"{folder}/cup.glb"
        ...     _ = trimesh.Scene({"cup": trimesh.creation.box()}).export(file)
        ...     [(mesh.name, matrix.shape) for mesh, matrix in read_gltf(file)]
        [('cup', (4, 4))]
    """
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
        nodes.setdefault(str(owner), []).append((from_trimesh(str(owner), part), np.asarray(matrix)))
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


def from_trimesh(name: str, part: Any) -> ObjectMesh:
    """An object of a `trimesh.Trimesh`, with its colours or its texture.

    Raises:
        MeshError: a texture that cannot be read.

    Example:
        >>> import trimesh
        >>> from_trimesh("cup", trimesh.creation.box()).faces.shape
        (12, 3)
    """
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
            try:
                texture = np.asarray(load_rgba(picture).convert("RGB"))
            except ValueError as error:
                raise MeshError(f"texture of {name!r}: {error}") from error
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
