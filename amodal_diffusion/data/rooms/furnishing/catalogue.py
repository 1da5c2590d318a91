"""Furniture of Sweet Home 3D's libraries (Debian's package `sweethome3d-furniture`): models with sizes and categories.

A library is a `.sh3f` file: a zip of OBJ models and a catalogue. Nothing of it is part of this package;
`training/get_furniture.sh` fetches it. What is rendered from it names its authors (`attributions`).
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ....files import atomic_file
from ..meshes import Material, MeshError, ObjectMesh, check_mesh, merge_meshes
from ..scans.obj import parse_obj

logger = logging.getLogger(__name__)

TEST_DIVISOR = 7
"""Items whose number in their catalogue this divides are for testing only, in every library."""
CATALOGUE = "PluginFurnitureCatalog.properties"
MAX_FACES = 60_000
CACHE_VERSION = 1
_ENTRY = re.compile(r"(\w+)#(\d+)\s*=\s*(.*)")
_PAREN = re.compile(r"\s*[\(\[].*")
_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")


@dataclass(frozen=True)
class FurnitureItem:
    """An entry of a catalogue; lengths in metres.

    Attributes:
        library: short name of the library, such as "BlendSwap-CC-0".
        number: its number in the catalogue, from 1.
        name, category: "Armchair" and "Living room".
        size: (width, height, depth) along x, y and z; its front looks along +z.
        elevation: height of its lowest point above the floor where it hangs, else 0.
        on_wall: a door or a window.
        model: path of the OBJ file in the library.
        turn: nine numbers, the rotation of the model, row by row; None for none.
        creator: who made it; "" where the catalogue does not say.

    Example:
        >>> item = FurnitureItem("mine", 1, "Oak chair", "Office", (0.5, 0.9, 0.5), 0.0, False, "chair.obj", None, "")
        >>> item.key, item.is_test
        ('mine/1', False)
    """

    library: str
    number: int
    name: str
    category: str
    size: tuple[float, float, float]
    elevation: float
    on_wall: bool
    model: str
    turn: tuple[float, ...] | None
    creator: str

    @property
    def key(self) -> str:
        """Library and number, "Scopia/14"."""
        return f"{self.library}/{self.number}"

    @property
    def is_test(self) -> bool:
        """Whether it is for testing only."""
        return self.number % TEST_DIVISOR == 0


class FurnitureLibrary:
    r"""All libraries in a folder.

    Args:
        folder: holds `.sh3f` files, in it or below.
        names: libraries to read, such as ("BlendSwap-CC-0",); all where None.
        capacity: models kept in memory.
        cache: folder for models as arrays, which are read a hundred times as fast as OBJ text; none where None.

    Raises:
        FileNotFoundError: no library there.
        ValueError: a library without a catalogue, or a name that is none.

    Example:
        >>> import tempfile
        >>> keys = ("name", "category", "width", "depth", "height", "model")
        >>> values = ("Oak table", "Office", 120, 80, 75, "/table.obj")
        >>> catalogue = "\n".join(f"{key}#1={value}" for key, value in zip(keys, values))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with zipfile.ZipFile(Path(folder) / "mine.sh3f", "w") as archive:
        ...         archive.writestr("PluginFurnitureCatalog.properties", catalogue)
        ...         archive.writestr("table.obj", "v 0 0 0\nv 1 0 0\nv 0 0 1\nv 1 1 1\nf 1 2 4\nf 2 3 4\nf 3 1 4\n")
        ...     library = FurnitureLibrary(folder)
        ...     mesh = library.load(library.items[0])
        >>> mesh.label, (mesh.bounds[1] - mesh.bounds[0]).round(2).tolist()
        ('oak table', [1.2, 0.75, 0.8])
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        names: Sequence[str] | None = None,
        *,
        capacity: int = 1000,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        found = {path.stem: path for path in sorted(Path(folder).rglob("*.sh3f"))}
        if not found:
            raise FileNotFoundError(f"no furniture library (.sh3f) in {os.fspath(folder)!r}")
        unknown = set(names or ()) - set(found)
        if unknown:
            raise ValueError(f"names must be of {sorted(found)}, got {sorted(unknown)}")
        self.paths = {name: path for name, path in found.items() if names is None or name in names}
        self.capacity = capacity
        self.cache = None if cache is None else Path(cache)
        self._archives: dict[str, zipfile.ZipFile] = {}
        self._models: OrderedDict[str, ObjectMesh | None] = OrderedDict()

    @cached_property
    def items(self) -> list[FurnitureItem]:
        """All entries of the catalogues, sorted by library and number."""
        return [item for name in self.paths for item in self._read_catalogue(name)]

    def load(self, item: FurnitureItem) -> ObjectMesh | None:
        """The model of an item: its floor at y = 0, its middle at x = z = 0, metres.

        Returns:
            The mesh, shared by all who ask for it, or None for a model that cannot be used, which is logged once.
        """
        if item.key in self._models:
            self._models.move_to_end(item.key)
            return self._models[item.key]
        mesh = self._models[item.key] = self._load(item)
        if len(self._models) > self.capacity:
            self._models.popitem(last=False)
        return mesh

    def _load(self, item: FurnitureItem) -> ObjectMesh | None:
        file = None if self.cache is None else self.cache / f"{item.library}-{item.number:04d}-{CACHE_VERSION}.npz"
        if file is not None and file.exists():
            mesh = _unpack_mesh(dict(np.load(file, allow_pickle=False)), item.name)
        else:
            try:
                arrays = _pack_mesh(self._read_model(item))
            except (MeshError, KeyError) as error:
                logger.info("%s (%s) is left out: %s", item.key, item.name, error)
                arrays = {}
            # Rounded as in the cache, so that a room is the same with and without one.
            mesh = _unpack_mesh(arrays, item.name)
            if file is not None:
                with atomic_file(file) as temporary:
                    np.savez(temporary, allow_pickle=False, **arrays)
        return None if mesh is None else replace(mesh, label=_label(item.name), category=item.category, is_stuff=False)

    def _archive(self, library: str) -> zipfile.ZipFile:
        if library not in self._archives:
            self._archives[library] = zipfile.ZipFile(self.paths[library])
        return self._archives[library]

    def _read_catalogue(self, library: str) -> Iterable[FurnitureItem]:
        try:
            text = self._archive(library).read(CATALOGUE).decode("latin-1")
        except (KeyError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{self.paths[library]}: expected a furniture library with {CATALOGUE}: {error}"
            ) from error
        entries: dict[int, dict[str, str]] = {}
        for line in text.splitlines():
            match = _ENTRY.fullmatch(line.strip())
            if match:
                value = _UNICODE.sub(lambda code: chr(int(code[1], 16)), match[3])
                entries.setdefault(int(match[2]), {})[match[1]] = value
        for number in sorted(entries):
            try:
                yield _item(library, number, entries[number])
            except (KeyError, ValueError) as error:
                logger.warning("%s: entry %d is left out: %s", library, number, error)

    def _read_model(self, item: FurnitureItem) -> ObjectMesh:
        archive = self._archive(item.library)
        folder = posixpath.dirname(item.model)

        def read_file(name: str) -> bytes:
            return archive.read(posixpath.normpath(posixpath.join(folder, name)))

        text = archive.read(item.model).decode("utf-8", errors="replace")
        lines = text.count("\nf ")
        if lines > MAX_FACES:
            raise MeshError(f"object {item.name!r}: expected at most {MAX_FACES} faces, got {lines}")
        mesh = check_mesh(merge_meshes(parse_obj(text, read_file, item.key), item.name))
        return _fit(mesh, item)


def _item(library: str, number: int, entry: dict[str, str]) -> FurnitureItem:
    width, depth, height = (float(entry[key]) / 100 for key in ("width", "depth", "height"))
    turn = tuple(float(value) for value in entry.get("modelRotation", "").split()) or None
    if turn is not None and len(turn) != 9:
        raise ValueError(f"modelRotation must have 9 numbers, got {len(turn)}")
    return FurnitureItem(
        library,
        number,
        entry["name"],
        entry["category"],
        (width, height, depth),
        float(entry.get("elevation", 0)) / 100,
        entry.get("doorOrWindow") == "true",
        entry["model"].lstrip("/"),
        turn,
        entry.get("creator", ""),
    )


def _label(name: str) -> str:
    return _PAREN.sub("", name).strip().lower()


def _fit(mesh: ObjectMesh, item: FurnitureItem) -> ObjectMesh:
    """Turn and scale a model to the size that the catalogue gives."""
    turn = np.eye(3) if item.turn is None else np.array(item.turn).reshape(3, 3)
    vertices = mesh.vertices @ turn.T
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    scale = np.array(item.size) / np.maximum(high - low, 1e-9)
    scale[high - low < 1e-9] = 1.0  # a sheet of paper
    middle = (low + high) / 2
    middle[1] = low[1]
    normals = mesh.corner_normals
    if normals is not None:
        normals = normals @ turn.T / scale
        normals = (normals / np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-12)).astype(np.float32)
    return replace(mesh, vertices=(vertices - middle) * scale, corner_normals=normals)


_LOOKS = ("gloss", "opacity", "emission")


def _pack_mesh(mesh: ObjectMesh) -> dict[str, np.ndarray]:
    """A mesh as arrays by name, for a file."""
    arrays = {"vertices": mesh.vertices.astype(np.float32), "faces": mesh.faces}
    for key in ("face_materials", "corner_uvs"):
        if getattr(mesh, key) is not None:
            arrays[key] = getattr(mesh, key)
    if mesh.corner_normals is not None:
        arrays["corner_normals"] = mesh.corner_normals.astype(np.float16)
    arrays["looks"] = np.array([(*part.color, *(getattr(part, key) for key in _LOOKS)) for part in mesh.materials])
    for index, part in enumerate(mesh.materials):
        if part.texture is not None:
            arrays[f"texture{index}"] = part.texture
    return arrays


def _unpack_mesh(arrays: dict[str, np.ndarray], name: str) -> ObjectMesh | None:
    """The mesh of arrays of `_pack_mesh`; None of no arrays."""
    if not arrays:
        return None
    materials = []
    for index, row in enumerate(arrays["looks"].tolist()):
        looks = dict(zip(_LOOKS, row[3:], strict=True))
        materials.append(Material((row[0], row[1], row[2]), arrays.get(f"texture{index}"), **looks))
    normals = arrays.get("corner_normals")
    return ObjectMesh(
        name,
        arrays["vertices"].astype(np.float64),
        arrays["faces"],
        materials=tuple(materials),
        face_materials=arrays.get("face_materials"),
        corner_uvs=arrays.get("corner_uvs"),
        corner_normals=None if normals is None else normals.astype(np.float32),
    )


LICENCES = {
    "BlendSwap-CC-0": "CC0 (public domain)",
    "BlendSwap-CC-BY": "CC BY 3.0",
    "KatorLegaz": "CC BY 3.0",
    "Reallusion": "CC BY 3.0",
    "Scopia": "CC BY 3.0",
}


def attributions(items: Iterable[FurnitureItem]) -> list[str]:
    """A line for each library and author of the items, for the card of what was rendered from them.

    Example:
        >>> item = FurnitureItem("mine", 1, "Oak chair", "Office", (0.5, 0.9, 0.5), 0.0, False, "a.obj", None, "Ann")
        >>> attributions([item])
        ['- mine (see its licence), Ann: Oak chair']
    """
    names: dict[tuple[str, str], list[str]] = {}
    for item in items:
        names.setdefault((item.library, item.creator or "unnamed author"), []).append(item.name)
    return [
        f"- {library} ({LICENCES.get(library, 'see its licence')}), {creator}: {', '.join(sorted(set(models)))}"
        for (library, creator), models in sorted(names.items())
    ]
