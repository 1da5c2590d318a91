"""A scene as a JSON document and picture files beside it, which all formats carry. Internal.

The document has one entry for each field of the scene and of its layers. Small arrays are written into it; pictures
become PNG (colours, masks) or TIFF (floats), which lose nothing and open anywhere.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...display import describe
from ...files import file_stem
from ...images import why_unreadable
from ..scene import Layer, Scene

FORMAT = "amodal_diffusion.scene"
VERSION = 1
DOCUMENT = "scene.json"
LAYER_FOLDER = "layers"

MAX_PICTURE_PIXELS = 2**26
"""Pixels of the largest picture in a scene's files; Pillow warns of larger ones."""

MAX_LAYERS = 1000
MAX_BYTES = 2**32
"""Bytes of all arrays of a scene together."""

# Matrices over the layers and affine maps: a few numbers, which people may want to read.
_INLINE = ("order", "evidence", "transform", "origin")
_INLINE_DTYPES = ("bool", "int8", "int64", "float64")
_PICTURE_NAME = re.compile(r"(?:[A-Za-z0-9_-]+/)?[A-Za-z0-9_-]+\.(?:png|tif)")

ReadFile = Callable[[str], bytes]
"""Gives the content of a file by its name in the document; raises FileNotFoundError."""


@dataclasses.dataclass(frozen=True)
class _Kind:
    """How arrays of one dtype and shape become a picture."""

    dtype: str
    channels: int | None
    mode: str
    format: str
    suffix: str


_KINDS = (
    _Kind("uint8", 3, "RGB", "PNG", ".png"),
    _Kind("uint8", 4, "RGBA", "PNG", ".png"),
    _Kind("uint8", None, "L", "PNG", ".png"),
    _Kind("bool", None, "1", "PNG", ".png"),
    _Kind("float32", None, "F", "TIFF", ".tif"),
)


def encode_scene(scene: Scene) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The document of a scene, and the content of the pictures that it names.

    Raises:
        ValueError: for more or larger arrays than `decode_scene` would read.
        TypeError: for a field that no file can hold.

    Example:
        >>> document, files = encode_scene(Scene(np.zeros((4, 6, 3), np.uint8)))
        >>> document["scene"]["background"], sorted(files)
        ({'dtype': 'uint8', 'shape': [4, 6, 3], 'file': 'background.png'}, ['background.png', 'replaced.png'])
    """
    _check_counts(len(scene.layers), sum(_array_bytes(part) for part in (scene, *scene.layers)))
    files: dict[str, bytes] = {}
    fields = {
        field.name: _encode(getattr(scene, field.name), field.name, field.name, files)
        for field in dataclasses.fields(scene)
        if field.name != "layers"
    }
    layers = []
    for index, layer in enumerate(scene.layers):
        stem = f"{LAYER_FOLDER}/{file_stem(index, layer.name)}"
        layers.append(
            {
                field.name: _encode(getattr(layer, field.name), field.name, f"{stem}_{field.name}", files)
                for field in dataclasses.fields(layer)
            }
        )
    return {"format": FORMAT, "version": VERSION, "scene": fields, "layers": layers}, files


def dump_document(document: Mapping[str, Any]) -> bytes:
    r"""The document as JSON text.

    Example:
        >>> dump_document({"version": 1})
        b'{\n "version": 1\n}\n'
    """
    return (json.dumps(document, allow_nan=False, indent=1) + "\n").encode("ascii")


def check_document(document: Mapping[str, Any], keys: set[str]) -> None:
    """Refuse what is no document of this version, before anything in it is used.

    Args:
        document: from a file.
        keys: what it may hold besides that of `encode_scene`.

    Example:
        >>> check_document({"format": "other"}, set())
        Traceback (most recent call last):
        ...
        ValueError: `format` must be 'amodal_diffusion.scene', got 'other'; this holds no scene.
    """
    if document.get("format") != FORMAT:
        raise ValueError(f"`format` must be {FORMAT!r}, got {describe(document.get('format'))}; this holds no scene.")
    if document.get("version") != VERSION:
        raise ValueError(
            f"`version` must be {VERSION}, got {describe(document.get('version'))}; a newer library may read it."
        )
    _check_keys(document, {"format", "version", "scene", "layers"}, {"format", "version", "scene", "layers", *keys}, "")
    if not isinstance(document["scene"], dict):
        raise ValueError("`scene` must be an object.")
    layers = document["layers"]
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ValueError("`layers` must be a list of objects.")


def decode_scene(document: Mapping[str, Any], read: ReadFile) -> Scene:
    """The scene of a checked document.

    Args:
        document: one that passed `check_document`.
        read: gives the content of a picture.

    Raises:
        ValueError: naming the key or the picture: unknown or missing keys, pictures that are missing, broken or of
            another size than the document says, more than can be taken in, values that the scene refuses.

    Example:
        >>> document, files = encode_scene(Scene(np.zeros((4, 6, 3), np.uint8)))
        >>> decode_scene(document, files.__getitem__)
        Scene(6x4, 0 layers)
    """
    layers, scene = document["layers"], document["scene"]
    _check_fields(scene, Scene, "scene.", without={"layers"})
    for index, layer in enumerate(layers):
        _check_fields(layer, Layer, f"layers[{index}].")
    _check_counts(len(layers), sum(_declared_bytes(value) for part in (scene, *layers) for value in part.values()))
    made = []
    for index, layer in enumerate(layers):
        values = {name: _decode(value, f"layers[{index}].{name}", read) for name, value in layer.items()}
        made.append(_make(Layer, values, f"layers[{index}]"))
    values = {name: _decode(value, f"scene.{name}", read) for name, value in scene.items()}
    return _make(Scene, {**values, "layers": tuple(made)}, "scene")


def check_pixels(width: int, height: int, what: str) -> None:
    """Refuse a picture that is empty or too large to be taken in.

    Example:
        >>> check_pixels(0, 4, "the canvas")
        Traceback (most recent call last):
        ...
        ValueError: the canvas must have 1 to 67108864 pixels, got 0x4.
    """
    if width < 1 or height < 1 or width * height > MAX_PICTURE_PIXELS:
        raise ValueError(
            f"{what} must have 1 to {MAX_PICTURE_PIXELS} pixels, got {describe(width)}x{describe(height)}."
        )


def check_layer_count(count: int) -> None:
    """Refuse a file of more layers than a scene may have.

    Example:
        >>> check_layer_count(1001)
        Traceback (most recent call last):
        ...
        ValueError: a scene may have 1000 layers at most, got 1001.
    """
    if count > MAX_LAYERS:
        raise ValueError(f"a scene may have {MAX_LAYERS} layers at most, got {count}.")


def check_total(pixels: int) -> None:
    """Refuse more pixels in all pictures of a stack than can be taken in.

    Example:
        >>> check_total(2**31)
        Traceback (most recent call last):
        ...
        ValueError: the layers may take 4294967296 bytes at most, got 8589934592.
    """
    if 4 * pixels > MAX_BYTES:
        raise ValueError(f"the layers may take {MAX_BYTES} bytes at most, got {4 * pixels}.")


def open_png(content: bytes, name: str, kind: str = "PNG") -> Image.Image:
    """The decoded picture in `content`, a PNG or TIFF; ValueError with its `name` where it is broken or too large.

    Example:
        >>> open_png(png_bytes(np.zeros((4, 6, 3), np.uint8)), "a.png").size
        (6, 4)
    """
    try:
        with Image.open(io.BytesIO(content), formats=(kind,)) as image:
            check_pixels(image.width, image.height, f"picture {name}")
            image.load()
            return image
    except (OSError, SyntaxError, EOFError, KeyError, TypeError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"picture {name} cannot be read: {why_unreadable(error)}") from error


def png_bytes(array: npt.NDArray[np.uint8]) -> bytes:
    """An (h, w, 3) or (h, w, 4) uint8 array as PNG.

    Example:
        >>> png_bytes(np.zeros((4, 6, 4), np.uint8))[1:4]
        b'PNG'
    """
    return _picture_bytes(Image.fromarray(array), "PNG")


def _picture_bytes(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    # Level 3 is three times as fast as the default, and a photo's file a few per cent larger.
    options: dict[str, Any] = {"compress_level": 3} if kind == "PNG" else {"compression": "tiff_adobe_deflate"}
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def _encode(value: Any, field: str, stem: str, files: dict[str, bytes]) -> Any:
    """A field's value for the document; a picture goes to `files`."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"`{field}` is {value}, which JSON cannot hold.")
        return value
    if not isinstance(value, np.ndarray):
        raise TypeError(f"`{field}` of type {type(value).__name__} cannot be saved.")
    entry: dict[str, Any] = {"dtype": str(value.dtype), "shape": list(value.shape)}
    if field in _INLINE:
        return {**entry, "values": value.ravel().tolist()}
    kind = _kind(str(value.dtype), value.shape)
    if kind is None:
        raise TypeError(f"`{field}`, an array of {value.dtype} with shape {value.shape}, cannot be saved.")
    check_pixels(value.shape[1], value.shape[0], f"`{field}`")
    name = f"{stem}{kind.suffix}"
    files[name] = _picture_bytes(Image.fromarray(value), kind.format)
    return {**entry, "file": name}


def _kind(dtype: str, shape: tuple[int, ...]) -> _Kind | None:
    channels = shape[2] if len(shape) == 3 else None
    if len(shape) not in (2, 3):
        return None
    return next((kind for kind in _KINDS if (kind.dtype, kind.channels) == (dtype, channels)), None)


def _decode(value: Any, key: str, read: ReadFile) -> Any:
    if not isinstance(value, dict):
        if isinstance(value, list) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"`{key}` must be a finite number, a text, an array or null.")
        return value
    dtype, shape = value.get("dtype"), _shape(value.get("shape"), key)
    if "values" in value:
        _check_keys(value, {"dtype", "shape", "values"}, {"dtype", "shape", "values"}, f"{key}.")
        return _inline_array(value["values"], dtype, shape, key)
    _check_keys(value, {"dtype", "shape", "file"}, {"dtype", "shape", "file"}, f"{key}.")
    kind = _kind(str(dtype), shape)
    if kind is None:
        raise ValueError(f"`{key}` has dtype {describe(dtype)} and shape {list(shape)}, which is no picture.")
    check_pixels(shape[1], shape[0], f"`{key}`")
    return _read_picture(value["file"], kind, shape, key, read)


def _read_picture(name: Any, kind: _Kind, shape: tuple[int, ...], key: str, read: ReadFile) -> npt.NDArray[Any]:
    if not isinstance(name, str) or not _PICTURE_NAME.fullmatch(name):
        raise ValueError(f"`{key}.file` must be a relative name such as layers/000_rgba.png, got {describe(name)}.")
    try:
        content = read(name)
    except FileNotFoundError as error:
        raise ValueError(f"picture {name} of `{key}` is missing.") from error
    image = open_png(content, name, kind.format)
    if image.mode != kind.mode or (image.height, image.width) != shape[:2]:
        raise ValueError(
            f"picture {name} of `{key}` must be {kind.mode} of {shape[1]}x{shape[0]} pixels, "
            f"got {image.mode} of {image.width}x{image.height}."
        )
    return np.array(image, dtype=kind.dtype)


def _inline_array(values: Any, dtype: Any, shape: tuple[int, ...], key: str) -> npt.NDArray[Any]:
    if dtype not in _INLINE_DTYPES:
        raise ValueError(f"`{key}.dtype` must be one of {', '.join(_INLINE_DTYPES)}, got {describe(dtype)}.")
    expected: type | tuple[type, ...] = bool if dtype == "bool" else int if "int" in dtype else (int, float)
    right = isinstance(values, list) and all(
        isinstance(value, expected) and isinstance(value, bool) == (dtype == "bool") for value in values
    )
    if not right or len(values) != math.prod(shape):
        raise ValueError(f"`{key}.values` must be a list of {math.prod(shape)} values of {dtype}.")
    try:
        return np.array(values, dtype=dtype).reshape(shape)
    except OverflowError as error:
        raise ValueError(f"`{key}.values` must fit {dtype}: {error}.") from error


def _shape(value: Any, key: str) -> tuple[int, ...]:
    right = isinstance(value, list) and len(value) <= 3
    if not right or not all(type(side) is int and 0 <= side <= MAX_PICTURE_PIXELS for side in value):
        raise ValueError(f"`{key}.shape` must be a list of at most 3 lengths, got {describe(value)}.")
    return tuple(value)


def _declared_bytes(value: Any) -> int:
    """What an entry of a document says that it takes in memory; what is no array counts nothing."""
    shape = value.get("shape") if isinstance(value, dict) else None
    if not isinstance(shape, list) or not all(isinstance(side, int) for side in shape):
        return 0
    return math.prod(shape) * (4 if value.get("dtype") == "float32" else 1)


def _array_bytes(part: Any) -> int:
    values = (getattr(part, field.name) for field in dataclasses.fields(part))
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def _check_counts(layers: int, size: int) -> None:
    check_layer_count(layers)
    if size > MAX_BYTES:
        raise ValueError(f"the arrays of a scene may take {MAX_BYTES} bytes at most, got {describe(size)}.")


def _check_fields(entries: Mapping[str, Any], kind: type, prefix: str, without: set[str] | None = None) -> None:
    fields = [field for field in dataclasses.fields(kind) if field.init and field.name not in (without or set())]
    missing = dataclasses.MISSING
    needed = {field.name for field in fields if field.default is missing and field.default_factory is missing}
    _check_keys(entries, needed, {field.name for field in fields}, prefix)


def _check_keys(entries: Mapping[str, Any], needed: set[str], known: set[str], prefix: str) -> None:
    for name in sorted(needed - set(entries)):
        raise ValueError(f"`{prefix}{name}` is missing.")
    for name in sorted(set(entries) - known):
        raise ValueError(f"`{prefix}{name}` is unknown; known are {', '.join(sorted(known))}.")


def _make(kind: type, values: dict[str, Any], what: str) -> Any:
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{what}`: {error}") from error
