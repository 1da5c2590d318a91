"""A scene as a folder: one PNG for each layer, masks, and scene.json, which says where everything stands."""

from __future__ import annotations

from pathlib import Path

from ...files import PathLike, atomic_folder, check_output_folder, check_replaced, parse_json_object
from ..scene import Scene
from .document import (
    DOCUMENT,
    FORMAT,
    LAYER_FOLDER,
    MAX_BYTES,
    ReadFile,
    check_document,
    decode_scene,
    dump_document,
    encode_scene,
    png_bytes,
)

RENDERED = "render.png"
NAMES = (LAYER_FOLDER, "background.png", "photo.png", "replaced.png", RENDERED, DOCUMENT)
"""What a scene's folder may hold, in the order in which it is written."""


def save_png_folder(scene: Scene, path: PathLike) -> None:
    """Write a scene into a folder, which is made where it lacks.

    `scene.json` names the pictures: `background.png`, `photo.png` and so on of the canvas, `layers/000-name_rgba.png`
    and the masks of the layers, floats as 32-bit TIFF. `render.png`, the whole scene, is for people. They replace what
    an earlier scene left there, as its `scene.json` says; other files stay, and where one has such a name nothing is
    written.

    Args:
        scene: any scene.
        path: the folder.

    Raises:
        FileExistsError: where the folder holds something under one of these names that no earlier scene left there.
        NotADirectoryError: where `path` is a file.
        TypeError, ValueError: as for all formats: a scene larger than what `load_png_folder` takes in.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> folder = Path(tempfile.mkdtemp()) / "scene"
        >>> save_png_folder(Scene(np.zeros((4, 6, 3), np.uint8)), folder)
        >>> sorted(path.name for path in folder.iterdir())
        ['background.png', 'layers', 'render.png', 'replaced.png', 'scene.json']
    """
    check_png_folder_output(path)
    document, files = encode_scene(scene)
    write_folder(
        Path(path), {**files, RENDERED: png_bytes(scene.render(output_type="np")), DOCUMENT: dump_document(document)}
    )


def check_png_folder_output(path: PathLike) -> None:
    """Refuse a folder into which `save_png_folder` could not write; other errors as `files.check_output_folder`.

    Raises:
        FileExistsError: where it holds something under the name of a scene's file that no earlier scene left there.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "photo.png").touch()
        >>> check_png_folder_output(folder)
        Traceback (most recent call last):
        ...
        FileExistsError: output ... holds other files, such as 'photo.png'; choose a new folder.
    """
    check_output_folder(path)
    check_replaced(path, NAMES, _earlier_files(Path(path)))


def _earlier_files(folder: Path) -> list[str]:
    """What an earlier scene left in a folder; nothing where its document is none of ours."""
    try:
        document = parse_json_object(read_file(folder / DOCUMENT), DOCUMENT)
    except (OSError, ValueError):
        return []
    if document.get("format") != FORMAT:
        return []
    scene = document.get("scene")
    pictures = (
        [entry.get("file") for entry in scene.values() if isinstance(entry, dict)] if isinstance(scene, dict) else []
    )
    return [name for name in NAMES if name in (LAYER_FOLDER, RENDERED, DOCUMENT, *pictures)]


def load_png_folder(path: PathLike) -> Scene:
    """Read the scene in a folder.

    Raises:
        FileNotFoundError: where it holds no scene.json.
        ValueError: naming the file or the key that is wrong.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> folder = Path(tempfile.mkdtemp()) / "scene"
        >>> save_png_folder(Scene(np.zeros((4, 6, 3), np.uint8)), folder)
        >>> load_png_folder(folder)
        Scene(6x4, 0 layers)
    """
    folder = Path(path)
    document = parse_json_object(read_file(folder / DOCUMENT), DOCUMENT)
    check_document(document, set())
    return decode_scene(document, folder_reader(folder))


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write the files of a scene in the place of those of an earlier one; other files stay.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "scene"
        >>> write_folder(folder, {"scene.json": b"{}"})
        >>> sorted(path.name for path in folder.iterdir())
        ['layers', 'scene.json']
    """
    with atomic_folder(folder, replaces=NAMES) as staged:
        (staged / LAYER_FOLDER).mkdir()
        for name, content in files.items():
            (staged / name).write_bytes(content)


def folder_reader(folder: Path) -> ReadFile:
    """A function that reads a file of the folder by its name.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.txt").write_text("text")
        >>> folder_reader(folder)("a.txt")
        b'text'
    """
    return lambda name: read_file(folder / name)


def read_file(path: Path) -> bytes:
    """The content of a file that is not larger than a scene may be.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> _ = path.write_text("text")
        >>> read_file(path)
        b'text'
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path.name} may have {MAX_BYTES} bytes at most, got {size}.")
    return path.read_bytes()
