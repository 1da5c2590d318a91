"""Photoshop documents (.psd), written and read with psd-tools."""

from __future__ import annotations

import io
import logging
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...display import plain_name
from ...files import PathLike, atomic_file, parse_json_object
from ..scene import Scene
from .archive import archive_bytes, open_archive
from .document import (
    DOCUMENT,
    MAX_BYTES,
    check_document,
    check_layer_count,
    check_pixels,
    check_total,
    decode_scene,
    dump_document,
    encode_scene,
)
from .layer_stack import Picture, fingerprint, scene_of, shown_parts, stack_of

logger = logging.getLogger(__name__)

RESOURCE = 4905
"""Id of the image resource that holds the scene itself; Photoshop leaves 4000 to 4999 to plug-ins.

It has no name: where a resource has one with an even number of letters, Krita 5.1 writes a file that nobody can read.
"""

STACK_KEY = "stack_sha256"
MAX_SIDE = 30_000
"""Pixels of the longest side of a PSD."""

_SIGNATURE = b"8BPS"
_HEADER = struct.Struct(">4sH6xHIIHH")  # signature, version, channels, height, width, depth, colour mode
_RAW, _RUN_LENGTHS = b"\0\0", b"\0\1"


def save_photoshop(scene: Scene, path: PathLike) -> None:
    """Write a scene as a Photoshop document.

    Other programs see the background and one layer for each object, whole, back to front, in place (`stack_of`), and
    the rendered scene as the flattened picture. The scene itself lies in an image resource and reads back equal, as
    long as no other program changed the layers.

    Raises:
        IsADirectoryError: where `path` is a folder.
        TypeError, ValueError: as for all formats; a canvas or a layer with a side of more than 30,000 pixels.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "scene.psd"
        >>> save_photoshop(Scene(np.zeros((4, 6, 3), np.uint8)), path)
        >>> path.stat().st_size > 0
        True
    """
    from psd_tools.api.layers import PixelLayer  # slow to import, and no other format needs it
    from psd_tools.constants import ProtectedFlags, Tag
    from psd_tools.psd.image_resources import ImageResource

    if max(scene.size) > MAX_SIDE:
        raise ValueError(f"a PSD may have sides of {MAX_SIDE} pixels at most, got {scene.size}; choose another format.")
    rendered = scene.render(output_type="np")
    document, files = encode_scene(scene)
    pictures = stack_of(scene, rendered)
    written = _flattened_document(rendered)
    for picture in pictures:
        layer = PixelLayer.fromarray(picture.rgba, written, name="layer", top=picture.y, left=picture.x)
        layer.name = _name(picture)
        layer.opacity, layer.visible = round(255 * picture.opacity), picture.visible
        if picture.locked:
            # `layer.lock()` of psd-tools 1.26 locks nothing where the layer has no such setting yet.
            layer.tagged_blocks.set_data(Tag.PROTECTED_SETTING, int(ProtectedFlags.COMPLETE))
    document[STACK_KEY] = fingerprint(shown_parts(_named(pictures)))
    content = archive_bytes({DOCUMENT: dump_document(document), **files})
    written.image_resources[RESOURCE] = ImageResource(key=RESOURCE, data=content)
    with atomic_file(path) as temporary:
        written.save(temporary)


def _flattened_document(rendered: npt.NDArray[np.uint8]) -> Any:
    """A document without layers yet, whose flattened picture stays `rendered`, (H, W, 3) uint8."""
    from psd_tools import PSDImage

    class Document(PSDImage):
        """One that psd-tools does not flatten anew on saving, which is slow and knows nothing of cycles."""

        def is_updated(self) -> bool:
            return False

    return Document.frompil(Image.fromarray(rendered))


def load_photoshop(path: PathLike) -> Scene:
    """Read a scene from a Photoshop document.

    A file from another program, or one whose layers another program changed, gives a scene of its layers: the lowest
    visible one is the background, the others are objects; a document without visible layers is all background. Groups
    are flattened, and layers keep their opacity and stay hidden or locked where they or their group are; masks and what
    a layer is clipped to go into the alpha. Blend modes, adjustments, effects and vector masks are left out, with a
    warning that names the layer.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: naming what is wrong: no PSD or a damaged one, too large a canvas or layer.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "scene.psd"
        >>> save_photoshop(Scene(np.zeros((4, 6, 3), np.uint8)), path)
        >>> load_photoshop(path)
        Scene(6x4, 0 layers)
    """
    path = Path(path)
    with path.open("rb") as file:
        _check_sections(file, path.stat().st_size)
    try:
        document, pictures, content = _read(path)
    except Exception as error:
        # psd-tools meets damaged bytes with whatever the line that reads them raises.
        raise ValueError(f"the Photoshop document cannot be read: {str(error) or type(error).__name__}") from error
    if content is not None:
        # The second digest is that of files that were written before programs that save again were thought of.
        scene = _embedded(content, {fingerprint(shown_parts(pictures)), fingerprint(pictures)})
        if scene is not None:
            return scene
    check_layer_count(len(pictures) - 1)
    return scene_of(pictures, *document.size)


def _check_sections(file: BinaryIO, size: int) -> None:
    """Refuse a file that is no PSD, is too large or ends before its flattened picture does.

    That picture is the last of the sections, whose lengths stand before them; psd-tools reads files without it.
    """
    if size > MAX_BYTES:
        raise ValueError(f"the file may have {MAX_BYTES} bytes at most, got {size}.")
    header = file.read(_HEADER.size)
    if header[:4] != _SIGNATURE:
        raise ValueError("the file is no Photoshop document.")
    if len(header) < _HEADER.size:
        raise ValueError("the Photoshop document is cut off.")
    _, version, channels, height, width, depth, _ = _HEADER.unpack(header)
    check_pixels(width, height, "the canvas")
    wide = version == 2  # PSB, whose lengths take more bytes
    for length in (4, 4, 8 if wide else 4):
        file.seek(min(int.from_bytes(file.read(length)), size), os.SEEK_CUR)
    compression = file.read(2)
    needed = 0
    if compression == _RAW:
        needed = channels * height * ((width * depth + 7) // 8)
    elif compression == _RUN_LENGTHS:
        rows = file.read(channels * height * (4 if wide else 2))
        needed = int(np.frombuffer(rows, ">u4" if wide else ">u2", len(rows) // (4 if wide else 2)).sum())
    if len(compression) < 2 or file.tell() + max(needed, 1) > size:
        raise ValueError("the Photoshop document is cut off.")


def _read(path: Path) -> tuple[Any, list[Picture], bytes | None]:
    """The document, its visible layers back to front, and the content of our resource."""
    from psd_tools import ParseLimits, PSDImage

    document = PSDImage.open(path, parse_limits=ParseLimits(max_total_bytes=4 * MAX_BYTES))
    document.max_alloc_bytes = MAX_BYTES
    pictures = list(_pictures(document))
    if not any(picture.visible for picture in pictures):
        flat = document.topil()
        if flat is None:
            raise ValueError("it has neither layers nor a flattened picture.")
        pictures = [Picture(np.array(flat.convert("RGBA")), 0, 0, "")]
    content = document.image_resources.get_data(RESOURCE)
    return document, pictures, content if isinstance(content, bytes) else None


def _embedded(content: bytes, stack: set[str]) -> Scene | None:
    """The scene in our resource; None where the layers are no longer those that it was written with."""
    with open_archive(io.BytesIO(content)) as archive:
        try:
            document = parse_json_object(archive.read(DOCUMENT), DOCUMENT)
        except FileNotFoundError as error:
            raise ValueError(f"{DOCUMENT} is missing in the image resource {RESOURCE}.") from error
        check_document(document, {STACK_KEY})
        if document.get(STACK_KEY) not in stack:
            return None
        return decode_scene(document, archive.read)


def _pictures(document: Any) -> Iterator[Picture]:
    """The layers that have pixels, back to front."""
    total = 0
    for layer in document.descendants():
        if layer.is_visible():
            _warn_of_the_rest(layer)
        if layer.is_group() or not layer.has_pixels():
            continue
        check_pixels(layer.width, layer.height, f"layer {layer.name!r}")
        total += layer.width * layer.height
        check_total(total)
        image = layer.topil()
        if image is None:
            continue
        rgba = np.array(image.convert("RGBA"))
        cover = _cover(layer, document)
        if layer.clipping:
            base = _clipping_base(layer)
            if base is None or (not base.is_visible() and layer.is_visible()):
                continue  # clipped to nothing that is seen
            if base.has_pixels():
                cover = cover * _alpha_of(base, document, layer)
            else:
                logger.warning(
                    "layer %r is clipped to %r, which has no pixels; it is read whole", layer.name, base.name
                )
        rgba[..., 3] = np.rint(rgba[..., 3] * cover)
        place = (int(layer.left), int(layer.top))
        name = layer.name.rstrip("\0")  # with which some programs end it
        yield Picture(rgba, *place, name, _opacity(layer, document), layer.is_visible(), _is_locked(layer, document))


def _warn_of_the_rest(layer: Any) -> None:
    """Name what a layer has that the scene will not show."""
    from psd_tools.api.adjustments import AdjustmentLayer, FillLayer
    from psd_tools.constants import BlendMode

    lost = []
    if layer.blend_mode not in (BlendMode.NORMAL, BlendMode.PASS_THROUGH):
        lost.append(f"its blend mode {layer.blend_mode.name.lower()}")
    if layer.has_effects():
        lost.append("its effects")
    if layer.has_vector_mask() and layer.has_pixels():
        lost.append("its vector mask")
    if isinstance(layer, AdjustmentLayer | FillLayer) and not layer.has_pixels():
        lost.append(f"what it does as a layer of kind {layer.kind}")
    if layer.is_group() and layer.clipping:
        lost.append("its clipping, as a group's,")
    if lost:
        logger.warning("layer %r: %s cannot be shown and left out", layer.name, ", ".join(lost))


def _cover(layer: Any, document: Any) -> npt.NDArray[np.float64]:
    """(h, w) in [0, 1]: what masks of a layer and of the groups around it leave of its pixels."""
    cover = np.full((layer.height, layer.width), layer.fill_opacity / 255)
    for part in _with_groups(layer, document):
        if part.has_mask() and not part.mask.disabled:
            cover *= _mask(part.mask, layer) / 255
    return cover


def _opacity(layer: Any, document: Any) -> float:
    return math.prod(part.opacity / 255 for part in _with_groups(layer, document))


def _is_locked(layer: Any, document: Any) -> bool:
    """Whether nothing of a layer, or of a group around it, may be changed."""
    return any(part.locks is not None and bool(part.locks.complete) for part in _with_groups(layer, document))


def _with_groups(layer: Any, document: Any) -> Iterator[Any]:
    """A layer, and the groups around it from the innermost on."""
    while layer is not document:
        yield layer
        layer = layer.parent


def _clipping_base(layer: Any) -> Any:
    """The layer that a clipped layer is clipped to: the next below it, in its group, that is not clipped itself."""
    found = None
    for sibling in layer.parent:
        if sibling is layer:
            return found
        if not sibling.clipping:
            found = sibling
    return None


def _alpha_of(base: Any, document: Any, layer: Any) -> npt.NDArray[np.float64]:
    """(h, w) in [0, 1]: the alpha of one layer on the pixels of another."""
    check_pixels(base.width, base.height, f"layer {base.name!r}")
    image = base.topil()
    values = Image.new("L", (layer.width, layer.height), 0)
    if image is not None:
        own = np.asarray(image.convert("RGBA"))[..., 3] * _cover(base, document) * _opacity(base, document)
        alpha = Image.fromarray(np.rint(own).astype(np.uint8))
        values.paste(alpha, (base.left - layer.left, base.top - layer.top))
    return np.asarray(values) / 255


def _mask(mask: Any, layer: Any) -> np.ndarray:
    """A mask of a layer or of a group around it on the pixels of the layer: (h, w) uint8."""
    values = Image.new("L", (layer.width, layer.height), mask.background_color)
    pixels = mask.topil()
    if pixels is not None:
        values.paste(pixels.convert("L"), (mask.left - layer.left, mask.top - layer.top))
    return np.asarray(values)


def _named(pictures: list[Picture]) -> list[Picture]:
    return [replace(picture, name=_name(picture)) for picture in pictures]


def _name(picture: Picture) -> str:
    """The name as the file holds it: 255 units of UTF-16 at most."""
    return plain_name(picture.name, 127)
