"""SDF, the worlds of robot simulators (Gazebo, Drake, PyBullet): an object for each model, of all its visual shapes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError  # noqa: S405 - what is read goes through defusedxml

import defusedxml  # type: ignore[import-untyped]
import defusedxml.ElementTree  # type: ignore[import-untyped]
import numpy as np

from ..meshes import Material, MeshError, ObjectMesh, is_stuff_name, merge_meshes, take_faces
from .gltf import from_trimesh
from .obj import read_obj

_SHAPES = ("mesh", "box", "sphere", "cylinder", "plane")
_PLANE = (100.0, 100.0)
"""Metres of a plane, which SDF takes for endless."""


def read_sdf(path: str | os.PathLike[str]) -> list[tuple[ObjectMesh, np.ndarray]]:
    r"""Models of an SDF file, each with its (4, 4) pose; metres, z up.

    Meshes are found by their URIs: relative to the file, `model://name/...`, `package://name/...`, `file:///...`. Where
    a layout was moved away from its models, the last parts of a URI are looked for beside the file and above it. Models
    in models and `<include>` are read; poses relative to other frames (`relative_to`) are not.

    Args:
        path: the file.

    Returns:
        An object for each model with a visual shape: mesh, box, sphere, cylinder or plane.

    Raises:
        FileNotFoundError: no such file.
        MeshError: no SDF, a pose or a size that cannot be read, a mesh that is not there; names the model.

    Example:
        >>> import tempfile
        >>> box = "<visual name='v'><geometry><box><size>1 1 1</size></box></geometry></visual>"
        >>> crate = f"<model name='crate'><pose>1 0 0.5 0 0 0</pose><link name='l'>{box}</link></model>"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "world.sdf").write_text(f"<sdf version='1.6'>{crate}</sdf>")
        ...     [(mesh.name, len(mesh.faces), pose[:3, 3].tolist()) for mesh, pose in read_sdf(f"{folder}/world.sdf")]
        [('crate', 12, [1.0, 0.0, 0.5])]
    """
    path = Path(path)
    root = _parse(path)
    return list(_models(root, path, np.eye(4), depth=0))


def _parse(path: Path) -> Element:
    try:
        root: Element = defusedxml.ElementTree.fromstring(path.read_bytes(), forbid_dtd=True)
    except (ParseError, defusedxml.DefusedXmlException, ValueError, LookupError) as error:
        raise MeshError(f"{path}: expected SDF, got no XML that can be read: {error}") from error
    if root.tag != "sdf":
        raise MeshError(f"{path}: expected SDF, got <{root.tag}>")
    return root


def _models(parent: Element, path: Path, base: np.ndarray, depth: int) -> Iterator[tuple[ObjectMesh, np.ndarray]]:
    if depth > 16:
        raise MeshError(f"{path}: models include each other without end")
    for world in parent.findall("world"):
        yield from _models(world, path, base, depth)
    for model in parent.findall("model"):
        name = model.get("name") or f"model {depth}"
        pose = base @ _pose(model, f"{path}: model {name!r}")
        parts = [part for link in model.findall("link") for part in _link_parts(link, path, name)]
        if parts:
            yield _named(merge_meshes(parts, name), name), pose
        yield from _models(model, path, pose, depth + 1)
    for include in parent.findall("include"):
        yield from _included(include, path, base, depth)


def _included(include: Element, path: Path, base: np.ndarray, depth: int) -> Iterator[tuple[ObjectMesh, np.ndarray]]:
    uri = _text(include, "uri")
    what = f"{path}: include {uri!r}"
    place = _find(uri, path, what)
    if place.is_dir():
        place = place / "model.sdf"
        if not place.is_file():
            raise MeshError(f"{what}: expected model.sdf in {os.fspath(place.parent)!r}")
    models = list(_models(_parse(place), place, np.eye(4), depth + 1))
    name = _text(include, "name")
    # The pose of an include takes the place of the model's own.
    pose = base @ _pose(include, what) if include.find("pose") is not None else None
    for mesh, own in models:
        first = np.linalg.inv(models[0][1])
        at = base @ own if pose is None else pose @ first @ own
        yield (_named(mesh, name) if name and len(models) == 1 else mesh), at


def _named(mesh: ObjectMesh, name: str) -> ObjectMesh:
    return replace(mesh, name=name, label=name, is_stuff=is_stuff_name(name.replace("_", " ")))


def _link_parts(link: Element, path: Path, model: str) -> Iterator[ObjectMesh]:
    """The visual shapes of a link, in the coordinates of its model."""
    what = f"{path}: model {model!r}"
    at_link = _pose(link, what)
    for visual in link.findall("visual"):
        geometry = visual.find("geometry")
        shapes = [shape for shape in (geometry if geometry is not None else ()) if shape.tag in _SHAPES]
        for shape in shapes:
            mesh = _mesh(shape, path, what) if shape.tag == "mesh" else _solid(shape, _material(visual), what)
            yield _moved(mesh, at_link @ _pose(visual, what))


def _mesh(shape: Element, path: Path, what: str) -> ObjectMesh:
    uri = _text(shape, "uri")
    if not uri:
        raise MeshError(f"{what}: mesh must have a uri, got none")
    file = _find(uri, path, what)
    scale = _numbers(_text(shape, "scale") or "1 1 1", 3, f"{what}: scale of a mesh")
    mesh = _load(file, what)
    return _moved(mesh, np.diag([*scale, 1.0]))


def _load(file: Path, what: str) -> ObjectMesh:
    if file.suffix.lower() == ".obj":
        return merge_meshes(read_obj(file), file.stem)
    try:
        import trimesh
    except ImportError as error:
        raise ImportError("meshes other than OBJ need trimesh: pip install 'amodal-diffusion[rooms]'") from error
    try:
        scene = trimesh.load_scene(os.fspath(file), process=False)
        parts = [part for part in scene.dump() if hasattr(part, "faces")]
    except ImportError as error:  # COLLADA wants a package of its own
        raise ImportError(f"{what}: reading {file.name} needs another package: {error}") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, NotImplementedError) as error:
        raise MeshError(f"{what}: mesh {file.name} cannot be read: {type(error).__name__}: {error}") from error
    return merge_meshes([from_trimesh(file.stem, part) for part in parts], file.stem)


def _find(uri: str, path: Path, what: str) -> Path:
    """A file or folder by its URI, see `read_sdf`."""
    scheme, sign, rest = uri.partition("://")
    if not sign:
        scheme, rest = "", uri
    if scheme not in ("", "file", "model", "package"):
        raise MeshError(f"{what}: uri must be a path, file://, model:// or package://, got {uri!r}")
    place = unquote(rest)
    folder = path.parent
    direct = Path(place) if scheme == "file" else folder / place
    if direct.exists():
        return direct
    parts = [part for part in PurePosixPath(place.replace("\\", "/")).parts if part not in ("..", ".", "/")]
    # Where the layout or its models were moved: the longest end of the path that is there.
    for start in range(len(parts)):
        for above in (folder, *folder.parents[:3]):
            candidate = above.joinpath(*parts[start:])
            if candidate.exists() and (start < len(parts) - 1 or above == folder):
                return candidate
    raise MeshError(f"{what}: no file {uri!r} beside {os.fspath(path)!r} or above it")


def _material(visual: Element) -> Material:
    diffuse = visual.find("material/diffuse")
    try:
        values = [float(part) for part in ((diffuse.text or "") if diffuse is not None else "").split()[:3]]
    except ValueError:
        values = []
    if len(values) != 3 or not np.isfinite(values).all():
        return Material()
    red, green, blue = (min(max(value, 0.0), 1.0) for value in values)
    return Material((red, green, blue))


def _solid(shape: Element, material: Material, what: str) -> ObjectMesh:
    """A box, a sphere, a cylinder or a plane around the origin."""
    about = f"{what}: {shape.tag}"
    if shape.tag == "box":
        size = _numbers(_text(shape, "size"), 3, f"{about} size")
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
        vertices, faces = signs * size, _BOX
    elif shape.tag == "plane":
        width, length = _numbers(_text(shape, "size") or f"{_PLANE[0]} {_PLANE[1]}", 2, f"{about} size")
        vertices = np.array([[-width, -length, 0], [width, -length, 0], [width, length, 0], [-width, length, 0]]) / 2
        faces = np.array([[0, 1, 2], [0, 2, 3]])
    else:
        (radius,) = _numbers(_text(shape, "radius"), 1, f"{about} radius")
        if shape.tag == "sphere":
            turn = np.linspace(0, np.pi, 25)
            profile = np.stack([np.sin(turn), -np.cos(turn)], axis=1) * radius
        else:
            (length,) = _numbers(_text(shape, "length"), 1, f"{about} length")
            profile = np.array([[0, -length / 2], [radius, -length / 2], [radius, length / 2], [0, length / 2]])
        vertices, faces = _turned(profile)
    mesh = ObjectMesh(shape.tag, vertices, faces.astype(np.int32), materials=(material,))
    used = mesh.vertices[mesh.faces]  # without the slivers at the poles
    area = np.linalg.norm(np.cross(used[:, 1] - used[:, 0], used[:, 2] - used[:, 0]), axis=1)
    return take_faces(mesh, area > 1e-12, shape.tag)


_BOX = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6],
                 [0, 6, 4], [1, 5, 7], [1, 7, 3]])  # fmt: skip


def _turned(profile: np.ndarray, steps: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A profile (P, 2) of radius and height, turned about the z axis."""
    angle = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    count = len(profile)
    around = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.concatenate(
        [profile[None, :, :1] * around[:, None], np.broadcast_to(profile[None, :, 1:], (steps, count, 1))], axis=2
    )
    index = np.arange(steps * count).reshape(steps, count)
    after = np.roll(index, -1, axis=0)
    a, b, c, d = (part.ravel() for part in (index[:, :-1], after[:, :-1], after[:, 1:], index[:, 1:]))
    return points.reshape(-1, 3), np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])


def _moved(mesh: ObjectMesh, matrix: np.ndarray) -> ObjectMesh:
    if np.array_equal(matrix, np.eye(4)):
        return mesh
    turn = matrix[:3, :3]
    normals = mesh.corner_normals
    if normals is not None and np.linalg.det(turn) != 0:
        normals = normals @ np.linalg.inv(turn)
        normals = (normals / np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-12)).astype(np.float32)
    return replace(mesh, vertices=mesh.vertices @ turn.T + matrix[:3, 3], corner_normals=normals)


def _pose(element: Element, what: str) -> np.ndarray:
    """(4, 4) of `<pose>x y z roll pitch yaw</pose>`."""
    pose = element.find("pose")
    if pose is None:
        return np.eye(4)
    frame = pose.get("relative_to") or pose.get("frame") or ""
    if frame not in ("", "world", "__model__"):
        raise MeshError(f"{what}: poses relative to {frame!r} are not read, only those relative to the model or world")
    kind = pose.get("rotation_format", "euler_rpy")
    if kind != "euler_rpy":
        raise MeshError(f"{what}: pose must be x y z roll pitch yaw, got rotation_format {kind!r}")
    values = _numbers(pose.text or "0 0 0 0 0 0", 6, f"{what}: pose")
    angles = np.radians(values[3:]) if pose.get("degrees") == "true" else values[3:]
    (sr, sp, sy), (cr, cp, cy) = np.sin(angles), np.cos(angles)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    matrix[:3, 3] = values[:3]
    return matrix


def _text(element: Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _numbers(text: str, count: int, what: str) -> np.ndarray:
    try:
        values: np.ndarray = np.array([float(part) for part in text.split()])
    except ValueError:
        values = np.zeros(0)
    if len(values) != count or not np.isfinite(values).all():
        raise MeshError(f"{what} must be {count} numbers, got {text!r}")
    return values
