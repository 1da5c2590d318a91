"""Wavefront OBJ: an object for each `o` or `g` group, with the materials and textures of its MTL files."""

from __future__ import annotations

import io
import logging
import os
import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ....images import load_rgba
from ..meshes import Material, MeshError, ObjectMesh, is_stuff_name

logger = logging.getLogger(__name__)

MAX_TEXTURE = 512
"""Pixels on the longer side of a texture; larger ones are scaled down when they are read."""


def read_obj(path: str | os.PathLike[str]) -> list[ObjectMesh]:
    r"""Objects of an OBJ file.

    Args:
        path: the file; MTL files and textures are found beside it. A missing one is logged, and its surfaces are grey.

    Returns:
        An object for each `o` line, or for each `g` line where the file has no `o`; one where it has neither. Those
        without faces are left out.

    Raises:
        FileNotFoundError: no such file.
        MeshError: a line that cannot be read, naming it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "two.obj"
        ...     lines = "o cup", "v 0 0 0", "v 1 0 0", "v 0 1 0", "f 1 2 3", "o floor", "f 3 2 1"
        ...     _ = file.write_text("\n".join(lines))
        ...     [(item.name, item.is_stuff) for item in read_obj(file)]
        [('cup', False), ('floor', True)]
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8", errors="replace")
    return parse_obj(text, lambda name: (path.parent / name).read_bytes(), os.fspath(path))


def parse_obj(text: str, read_file: Callable[[str], bytes], name: str) -> list[ObjectMesh]:
    r"""Objects of the text of an OBJ file; `read_file` gives the content of a file beside it, `name` is for messages.

    Example:
        >>> lines = "o cup", "v 0 0 0", "v 1 0 0", "v 0 1 0", "f 1 2 3"
        >>> [item.name for item in parse_obj("\n".join(lines), lambda name: b"", "cup.obj")]
        ['cup']
    """
    parser = _Parser(read_file, name)
    for number, line in enumerate(_joined_lines(text), 1):
        try:
            parser.line(line)
        except (ValueError, IndexError) as error:
            raise MeshError(f"{name}: line {number}: {error}") from error
    return parser.objects()


def _joined_lines(text: str) -> Iterator[str]:
    """Lines, with those that end in a backslash joined to the next."""
    if "\\\n" in text:
        text = text.replace("\\\n", " ")
    yield from text.splitlines()


class _Parser:
    def __init__(self, read_file: Callable[[str], bytes], name: str) -> None:
        self.read_file, self.name = read_file, name
        self.points: list[list[float]] = []
        self.colors: list[list[float]] = []
        self.uvs: list[list[float]] = []
        self.normals: list[list[float]] = []
        self.materials: dict[str, Material] = {"": Material()}
        self.material = ""
        self.groups: dict[str, list[tuple[str, list[tuple[int, int, int]]]]] = {}
        self.subgroups: dict[str, list[tuple[str, list[tuple[int, int, int]]]]] = {}
        self.has_objects = False
        self.faces = self.groups.setdefault("", [])
        self.subfaces = self.subgroups.setdefault("", [])

    def line(self, line: str) -> None:
        parts = line.split()
        if not parts or line[0] == "#":
            return
        key = parts[0]
        if key == "v":
            self.points.append([float(value) for value in parts[1:4]])
            if len(self.points[-1]) != 3:
                raise ValueError(f"a vertex has 3 coordinates, got {line!r:.60}")
            if len(parts) >= 7:
                self.colors.append([float(value) for value in parts[4:7]])
        elif key == "vt":
            self.uvs.append([float(parts[1]), float(parts[2]) if len(parts) > 2 else 0.0])
        elif key == "vn":
            self.normals.append([float(value) for value in parts[1:4]])
        elif key == "f":
            self.face(parts[1:])
        elif key == "usemtl":
            self.material = " ".join(parts[1:])
        elif key == "mtllib":
            self.read_materials(" ".join(parts[1:]))
        elif key == "o":
            self.has_objects = True
            self.faces = self.groups.setdefault(" ".join(parts[1:]), [])
        elif key == "g":
            self.subfaces = self.subgroups.setdefault(" ".join(parts[1:]), [])

    def face(self, corners: list[str]) -> None:
        if len(corners) < 3:
            return  # exporters write lines as faces; they cover no pixel
        indices = [self.corner(corner) for corner in corners]
        entry = (self.material, indices)
        self.faces.append(entry)
        self.subfaces.append(entry)

    def corner(self, text: str) -> tuple[int, int, int]:
        """Indices from 0 of point, texture coordinates and normal, -1 for none."""
        parts = text.split("/")
        counts = len(self.points), len(self.uvs), len(self.normals)
        indices = [-1, -1, -1]
        for place, part in enumerate(parts[:3]):
            if part:
                index = int(part)
                indices[place] = index - 1 if index > 0 else counts[place] + index
                if not 0 <= indices[place] < counts[place]:
                    kind = ("vertex", "vt", "vn")[place]
                    raise ValueError(f"face corner {text!r} names {kind} {index} of {counts[place]}")
        if indices[0] < 0:
            raise ValueError(f"face corner {text!r} names no vertex")
        return indices[0], indices[1], indices[2]

    def read_materials(self, file: str) -> None:
        try:
            text = self.read_file(file).decode("utf-8", errors="replace")
        except (OSError, KeyError) as error:
            logger.warning("%s: no material file %r (%s); its surfaces are grey", self.name, file, error)
            return
        for name, entries in _material_entries(text):
            self.materials[name] = self.make_material(name, entries, posixpath.dirname(file))

    def make_material(self, name: str, entries: dict[str, list[str]], folder: str) -> Material:
        texture = None
        if "map_Kd" in entries:
            file = posixpath.join(folder, _file_of(entries["map_Kd"]))
            texture = self.read_texture(file)
        color = _numbers(entries.get("Kd"), 3, (0.7, 0.7, 0.7))
        if texture is not None and max(color) < 0.05:
            color = (1.0, 1.0, 1.0)  # exporters write black beside a texture, which no viewer multiplies
        gloss = np.mean(_numbers(entries.get("Ks"), 3, (0.0, 0.0, 0.0)))
        hardness = _numbers(entries.get("Ns"), 1, (0.0,))[0]
        opacity = _numbers(entries.get("d"), 1, (1.0,))[0]
        if "d" not in entries and "Tr" in entries:
            opacity = 1.0 - _numbers(entries["Tr"], 1, (0.0,))[0]
        glow = max(_numbers(entries.get("Ke"), 3, (0.0, 0.0, 0.0)))
        shine = float(gloss * min(1.0, hardness / 200.0))
        return Material(color, texture, min(1.0, shine), float(np.clip(opacity, 0.05, 1.0)), min(glow, 4.0))

    def read_texture(self, file: str) -> np.ndarray | None:
        try:
            return load_texture(self.read_file(file))
        except (OSError, KeyError, ValueError) as error:
            logger.warning("%s: no texture %r (%s); its surfaces have one colour", self.name, file, error)
            return None

    def objects(self) -> list[ObjectMesh]:
        groups = self.groups if self.has_objects else self.subgroups
        points = np.array(self.points, dtype=np.float64).reshape(-1, 3)
        uvs = np.array([*self.uvs, [0.0, 0.0]], dtype=np.float32)
        normals = np.array([*self.normals, [0.0, 0.0, 0.0]], dtype=np.float32)
        colors = None
        if len(self.colors) == len(points) and len(points):
            values = np.array(self.colors)
            colors = (values if values.max() > 1 else values * 255).clip(0, 255).astype(np.uint8)
        return [self.object(name, faces, points, uvs, normals, colors) for name, faces in groups.items() if faces]

    def object(
        self, name: str, faces: list[Any], points: np.ndarray, uvs: np.ndarray, normals: np.ndarray, colors: Any
    ) -> ObjectMesh:
        names = list(dict.fromkeys(material for material, _ in faces))
        numbers = {material: index for index, material in enumerate(names)}
        corners, material_of = [], []
        for material, face in faces:
            for step in range(1, len(face) - 1):  # a fan, as the format's polygons are flat and convex
                corners.append((face[0], face[step], face[step + 1]))
                material_of.append(numbers[material])
        indices = np.array(corners, dtype=np.int32).reshape(-1, 3, 3)  # (F, corner, what)
        used, renumbered = np.unique(indices[:, :, 0], return_inverse=True)
        smooth = None
        if (indices[:, :, 2] >= 0).all():
            smooth = normals[indices[:, :, 2]]
            smooth = smooth / np.maximum(np.linalg.norm(smooth, axis=2, keepdims=True), 1e-12)
        return ObjectMesh(
            name or Path(self.name).stem,
            points[used],
            renumbered.reshape(-1, 3).astype(np.int32),
            label=name or None,
            is_stuff=is_stuff_name(name),
            materials=tuple(self.materials.get(material, self.materials[""]) for material in names),
            face_materials=np.array(material_of, dtype=np.int32),
            corner_uvs=uvs[indices[:, :, 1]] if len(self.uvs) else None,
            corner_normals=smooth,
            vertex_colors=None if colors is None else colors[used],
        )


def load_texture(content: bytes) -> np.ndarray:
    """(H, W, 3) or (H, W, 4) uint8 from the bytes of a picture, scaled down to `MAX_TEXTURE`.

    Raises:
        ValueError: no picture.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (1024, 256)).save(file, "PNG")
        >>> load_texture(file.getvalue()).shape
        (128, 512, 3)
    """
    try:
        picture = load_rgba(Image.open(io.BytesIO(content)))
    except (ValueError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"expected a picture, got {len(content)} bytes of something else ({error})") from error
    if picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")  # which scales faster
    picture.thumbnail((MAX_TEXTURE, MAX_TEXTURE))
    pixels = np.asarray(picture)
    if picture.mode == "RGBA" and pixels[..., 3].min() >= 128:
        pixels = pixels[..., :3]
    return np.ascontiguousarray(pixels)


def _material_entries(text: str) -> Iterator[tuple[str, dict[str, list[str]]]]:
    name: str | None = None
    entries: dict[str, list[str]] = {}
    for line in text.splitlines():
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        if parts[0] == "newmtl":
            if name is not None:
                yield name, entries
            name, entries = " ".join(parts[1:]), {}
        else:
            entries[parts[0]] = parts[1:]
    if name is not None:
        yield name, entries


def _file_of(parts: list[str]) -> str:
    """The file name of a texture line, whose options come first, each a word and its numbers."""
    rest = list(parts)
    while rest and rest[0].startswith("-"):
        rest.pop(0)
        while len(rest) > 1 and _is_option_value(rest[0]):
            rest.pop(0)
    return " ".join(rest).replace("\\", "/")


def _is_option_value(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in ("on", "off")
    return True


def _numbers(parts: list[str] | None, count: int, default: tuple[float, ...]) -> Any:
    try:
        values = tuple(float(part) for part in (parts or [])[:count])
    except ValueError:
        return default
    return values if len(values) == count and np.isfinite(values).all() else default
