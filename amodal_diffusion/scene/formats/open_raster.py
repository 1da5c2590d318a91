"""OpenRaster (.ora), the layered format of Krita, GIMP and MyPaint, after the specification of freedesktop.org.

A zip with a `stack.xml` and one PNG for each layer. Written with the standard library and Pillow: pyora, the one
library on PyPI, had its last release in 2021 and reads without bounds.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree  # noqa: S405 - it only writes; what is read goes through defusedxml

import defusedxml  # type: ignore[import-untyped]
import defusedxml.ElementTree  # type: ignore[import-untyped]
import numpy as np
from PIL import Image

from ...display import plain_name
from ...files import PathLike, atomic_file, parse_json_object
from ...images import load_rgba
from ..scene import Scene
from .archive import Archive, open_archive, write_archive
from .document import (
    DOCUMENT,
    check_document,
    check_layer_count,
    check_pixels,
    check_total,
    decode_scene,
    dump_document,
    encode_scene,
    open_png,
    png_bytes,
)
from .layer_stack import Picture, scene_of, stack_of

MIMETYPE = b"image/openraster"
FOLDER = "amodal_diffusion/"
"""Where in the zip the scene itself lies, which other programs leave alone or drop."""

STACK_KEY = "stack_sha256"

_THUMBNAIL = 256
_State = tuple[float, bool, bool]  # opacity, visible, locked

_MAX_DEPTH = 64
_MAX_SHIFT = 2**24


def save_open_raster(scene: Scene, path: PathLike) -> None:
    """Write a scene as OpenRaster.

    Other programs see the background and one layer for each object, whole, back to front, in place (`stack_of`). The
    scene itself lies in the zip as well and reads back equal, as long as no other program changed the layers.

    Raises:
        IsADirectoryError: where `path` is a folder.
        TypeError, ValueError: as for all formats.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "scene.ora"
        >>> save_open_raster(Scene(np.zeros((4, 6, 3), np.uint8)), path)
        >>> path.stat().st_size > 0
        True
    """
    rendered = scene.render(output_type="np")
    document, files = encode_scene(scene)
    pictures = stack_of(scene, rendered)
    entries = {f"data/layer{index:03d}.png": png_bytes(picture.rgba) for index, picture in enumerate(pictures)}
    stack = _stack_xml(pictures, list(entries), *scene.size)
    document[STACK_KEY] = _digest(stack, entries)
    thumbnail = Image.fromarray(rendered)
    thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL))
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        write_archive(
            file,
            {
                "mimetype": MIMETYPE,
                "stack.xml": stack,
                **entries,
                "mergedimage.png": png_bytes(rendered),
                "Thumbnails/thumbnail.png": png_bytes(np.asarray(thumbnail)),
                **{FOLDER + name: content for name, content in files.items()},
                FOLDER + DOCUMENT: dump_document(document),
            },
        )


def load_open_raster(path: PathLike) -> Scene:
    """Read a scene from OpenRaster.

    A file from another program, or one whose layers another program changed, gives a scene of its layers: the lowest
    visible one is the background, the others are objects. Groups are flattened, layers keep their opacity and stay
    hidden or locked where they or their group are, and every blend mode counts as the normal one.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: naming what is wrong: no zip or a damaged one, unsafe names or XML, missing or broken pictures.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "scene.ora"
        >>> save_open_raster(Scene(np.zeros((4, 6, 3), np.uint8)), path)
        >>> load_open_raster(path)
        Scene(6x4, 0 layers)
    """
    with Path(path).open("rb") as file, open_archive(file) as archive:
        if "mimetype" not in archive.names or archive.read("mimetype").strip() != MIMETYPE:
            raise ValueError(f"the archive is no OpenRaster: `mimetype` must be {MIMETYPE.decode()}.")
        try:
            stack = archive.read("stack.xml")
        except FileNotFoundError as error:
            raise ValueError("stack.xml is missing.") from error
        image = _parse_stack(stack)
        if FOLDER + DOCUMENT in archive.names:
            document = parse_json_object(archive.read(FOLDER + DOCUMENT), FOLDER + DOCUMENT)
            check_document(document, {STACK_KEY})
            entries = {name: archive.read(name) for name in sorted(archive.names) if name.startswith("data/")}
            if document.get(STACK_KEY) == _digest(stack, entries):
                return decode_scene(document, lambda name: archive.read(FOLDER + name))
        width, height = _number(image, "w"), _number(image, "h")
        check_pixels(width, height, "stack.xml: the canvas")
        return scene_of(_pictures(image, archive), width, height)


def _digest(stack: bytes, entries: dict[str, bytes]) -> str:
    digest = hashlib.sha256(stack)
    for name in sorted(entries):
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0" + entries[name])
    return digest.hexdigest()


def _stack_xml(pictures: list[Picture], names: list[str], width: int, height: int) -> bytes:
    image = ElementTree.Element("image", {"version": "0.0.3", "w": str(width), "h": str(height)})
    stack = ElementTree.SubElement(image, "stack")
    for picture, source in zip(reversed(pictures), reversed(names), strict=True):  # the first is in front
        attributes = {"name": plain_name(picture.name), "src": source, "x": str(picture.x), "y": str(picture.y)}
        attributes |= {"opacity": str(float(picture.opacity)), "composite-op": "svg:src-over"}
        attributes["visibility"] = "visible" if picture.visible else "hidden"
        if picture.locked:
            attributes["edit-locked"] = "true"
        ElementTree.SubElement(stack, "layer", attributes)
    return ElementTree.tostring(image, encoding="UTF-8", xml_declaration=True)


def _parse_stack(content: bytes) -> Any:
    try:
        image = defusedxml.ElementTree.parse(io.BytesIO(content), forbid_dtd=True).getroot()
    except (ElementTree.ParseError, defusedxml.DefusedXmlException, ValueError, LookupError) as error:
        raise ValueError(f"stack.xml cannot be read: {error}") from error
    if image.tag != "image" or image.find("stack") is None:
        raise ValueError("stack.xml must hold an `image` with a `stack`.")
    return image


def _pictures(image: Any, archive: Archive) -> list[Picture]:
    """The layers, back to front."""
    layers = list(_layers(image.find("stack"), (1.0, True, False), 0))
    if not any(visible for _, (_, visible, _) in layers):
        raise ValueError("stack.xml has no visible layer.")
    check_layer_count(len(layers) - 1)
    pictures, total = [], 0
    for layer, state in reversed(layers):
        source = layer.get("src", "")
        if source not in archive.names:
            raise ValueError(f"the picture {source!r} of layer {layer.get('name', '')!r} is missing.")
        opened = open_png(archive.read(source), source)
        total += opened.width * opened.height
        check_total(total)
        rgba = np.array(load_rgba(opened))
        x, y = _number(layer, "x", 0), _number(layer, "y", 0)
        pictures.append(Picture(rgba, x, y, layer.get("name", ""), *state))
    return pictures


def _layers(stack: Any, above: _State, depth: int) -> Iterator[tuple[Any, _State]]:
    """Layers of a stack and of the stacks in it, front to back, each with what it and all that it lies in say of it."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"stack.xml may nest {_MAX_DEPTH} stacks at most.")
    opacity, visible, locked = above
    for entry in stack:
        if entry.tag not in ("layer", "stack"):
            continue
        own = (
            opacity * _opacity(entry),
            visible and entry.get("visibility") != "hidden",
            locked or entry.get("edit-locked") == "true",
        )
        if entry.tag == "stack":
            yield from _layers(entry, own, depth + 1)
        else:
            yield entry, own


def _opacity(entry: Any) -> float:
    text = entry.get("opacity", "1")
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise ValueError(f"stack.xml: `opacity` must be a number from 0 to 1, got {text!r}.")
    return value


def _number(entry: Any, name: str, default: int | None = None) -> int:
    text = entry.get(name, "" if default is None else str(default))
    try:
        value = int(text)
    except ValueError:
        value = 2 * _MAX_SHIFT
    if abs(value) > _MAX_SHIFT:
        raise ValueError(f"stack.xml: `{name}` of `{entry.tag}` must be a whole number, got {text[:40]!r}.")
    return value
