"""Photoshop documents (.psd), written and read with psd-tools."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .._files import PathLike, atomic_path
from ..scene import Scene
from ._archive import archive_bytes, open_archive
from ._codec import (
    DOCUMENT,
    MAX_BYTES,
    check_document,
    check_layer_count,
    check_pixels,
    check_total,
    decode_scene,
    dump_document,
    encode_scene,
    parse_json,
)
from ._layer_stack import Picture, fingerprint, plain_name, scene_of, stack_of

RESOURCE = 4905
"""Id of the image resource that holds the scene itself; Photoshop leaves 4000 to 4999 to plug-ins."""

RESOURCE_NAME = "amodal_diffusion"
STACK_KEY = "stack_sha256"
MAX_SIDE = 30_000
"""Pixels of the longest side of a PSD."""

_SIGNATURE = b"8BPS"
_HEADER_BYTES = 26


def save_photoshop(scene: Scene, path: PathLike) -> None:
    """Write a scene as a Photoshop document.

    Other programs see the background and one layer for each object, whole, back to front, in place (`stack_of`), and
    the rendered scene as the flattened picture. The scene itself lies in an image resource and reads back equal, as
    long as no other program changed the layers.

    Raises:
        IsADirectoryError: where `path` is a folder.
        TypeError, ValueError: as for all formats; a canvas or a layer with a side of more than 30,000 pixels.
    """
    from psd_tools import PSDImage  # slow to import, and no other format needs it
    from psd_tools.api.layers import PixelLayer
    from psd_tools.psd import PSD
    from psd_tools.psd.image_resources import ImageResource

    if max(scene.size) > MAX_SIDE:
        raise ValueError(f"a PSD may have sides of {MAX_SIDE} pixels at most, got {scene.size}; choose another format.")
    rendered = scene.render(output_type="np")
    document, files = encode_scene(scene)
    pictures = stack_of(scene, rendered)
    written = PSDImage.new("RGB", scene.size)
    for picture in pictures:
        layer = PixelLayer.fromarray(picture.rgba, written, name="layer", top=picture.y, left=picture.x)
        layer.name = _name(picture)
    document[STACK_KEY] = fingerprint(_named(pictures))
    content = archive_bytes({DOCUMENT: dump_document(document), **files})
    written.image_resources[RESOURCE] = ImageResource(key=RESOURCE, name=RESOURCE_NAME, data=content)
    buffer = io.BytesIO()
    written.save(buffer)
    # On saving, psd-tools flattens the layers by itself; the scene's own picture takes the place of that.
    buffer.seek(0)
    low_level = PSD.read(buffer)
    low_level.image_data.set_data(
        [np.ascontiguousarray(rendered[..., c]).tobytes() for c in range(3)], low_level.header
    )
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        low_level.write(file)


def load_photoshop(path: PathLike) -> Scene:
    """Read a scene from a Photoshop document.

    A file from another program, or one whose layers another program changed, gives a scene of its visible layers: the
    lowest is the background, the others are objects; a document without layers is all background. Groups are
    flattened, opacity and masks go into the alpha; blend modes, adjustments and effects are left out.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: naming what is wrong: no PSD or a damaged one, too large a canvas or layer.
    """
    path = Path(path)
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if header[:4] != _SIGNATURE:
        raise ValueError("the file is no Photoshop document.")
    if len(header) < _HEADER_BYTES:
        raise ValueError("the Photoshop document is cut off.")
    check_pixels(int.from_bytes(header[18:22]), int.from_bytes(header[14:18]), "the canvas")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"the file may have {MAX_BYTES} bytes at most, got {path.stat().st_size}.")
    try:
        document, pictures, content = _read(path)
    except Exception as error:
        # psd-tools meets damaged bytes with whatever the line that reads them raises.
        raise ValueError(f"the Photoshop document cannot be read: {str(error) or type(error).__name__}") from error
    if content is not None:
        scene = _embedded(content, fingerprint(pictures))
        if scene is not None:
            return scene
    check_layer_count(len(pictures) - 1)
    return scene_of(pictures, *document.size)


def _read(path: Path) -> tuple[Any, list[Picture], bytes | None]:
    """The document, its visible layers back to front, and the content of our resource."""
    from psd_tools import ParseLimits, PSDImage

    document = PSDImage.open(path, parse_limits=ParseLimits(max_total_bytes=4 * MAX_BYTES))
    document.max_alloc_bytes = MAX_BYTES
    pictures = list(_pictures(document))
    flat = document.topil()  # always: it lies at the end of the file, and a file that is cut off fails here
    if flat is None:
        raise ValueError("it has no flattened picture.")
    if not pictures:
        pictures = [Picture(np.array(flat.convert("RGBA")), 0, 0, "")]
    content = document.image_resources.get_data(RESOURCE)
    return document, pictures, content if isinstance(content, bytes) else None


def _embedded(content: bytes, stack: str) -> Scene | None:
    """The scene in our resource; None where the layers are no longer those that it was written with."""
    with open_archive(io.BytesIO(content)) as archive:
        try:
            document = parse_json(archive.read(DOCUMENT), DOCUMENT)
        except FileNotFoundError as error:
            raise ValueError(f"{DOCUMENT} is missing in the image resource {RESOURCE}.") from error
        check_document(document, {STACK_KEY})
        if document.get(STACK_KEY) != stack:
            return None
        return decode_scene(document, archive.read)


def _pictures(document: Any) -> Iterator[Picture]:
    """The visible layers that have pixels, back to front."""
    total = 0
    for layer in document.descendants():
        if layer.is_group() or not layer.is_visible() or not layer.has_pixels():
            continue
        check_pixels(layer.width, layer.height, f"layer {layer.name!r}")
        total += layer.width * layer.height
        check_total(total)
        image = layer.topil()
        if image is None:
            continue
        rgba = np.array(image.convert("RGBA"))
        opacity, part = 1.0, layer
        while part is not document:
            opacity *= part.opacity / 255
            if part.has_mask() and not part.mask.disabled:
                rgba[..., 3] = np.rint(rgba[..., 3] * (_mask(part.mask, layer) / 255))
            part = part.parent
        if opacity < 1:
            rgba[..., 3] = np.rint(rgba[..., 3] * opacity)
        yield Picture(rgba, int(layer.left), int(layer.top), layer.name)


def _mask(mask: Any, layer: Any) -> np.ndarray:
    """A mask of a layer or of a group around it on the pixels of the layer: (h, w) uint8."""
    values = Image.new("L", (layer.width, layer.height), mask.background_color)
    pixels = mask.topil()
    if pixels is not None:
        values.paste(pixels.convert("L"), (mask.left - layer.left, mask.top - layer.top))
    return np.asarray(values)


def _named(pictures: list[Picture]) -> list[Picture]:
    return [Picture(picture.rgba, picture.x, picture.y, _name(picture)) for picture in pictures]


def _name(picture: Picture) -> str:
    """The name as the file holds it: 255 units of UTF-16 at most."""
    return plain_name(picture.name, 127)
