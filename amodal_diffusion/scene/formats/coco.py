"""A scene as COCO JSON with amodal masks, for tools that read annotations, and the pictures in a folder beside it."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from ...files import PathLike, check_output_file, check_output_folder, one_writer, parse_json_object, write_text
from ...io import ObjectMasks, coco_document
from ..scene import Scene
from .document import DOCUMENT, FORMAT, check_document, decode_scene, dump_document, encode_scene, png_bytes
from .layer_stack import visible_layers
from .png_folder import NAMES, RENDERED, folder_reader, load_png_folder, read_file, write_folder

SCENE_KEY = "amodal_diffusion"
"""Key of the document under which the scene itself lies, which COCO tools pass over."""

FILES_KEY = "files"
"""Key of the scene under which the folder of its pictures stands; without it they lie in `NAME_files` itself."""

_VERSION_NAME = re.compile(r"[0-9a-f]{16}")


def save_coco_amodal(scene: Scene, path: PathLike) -> None:
    """Write a scene as COCO JSON, and its pictures into the folder `NAME_files` beside NAME.json.

    In there, the pictures of each version of the scene have a folder of their own, named by their content. So the
    pictures of an earlier version stay until the JSON, which is replaced in one step, names the new ones.

    The annotations are those of `io.coco_document`, of the scene as it is rendered: `segmentation` is the whole
    object on the canvas, `visible_mask` what of it is seen, `bbox`, `area` and `occlude_rate` follow from them, and the
    image has the `order_relations`. Its `file_name` is that of the rendered scene.

    Raises:
        IsADirectoryError: where `path` is a folder.
        TypeError, ValueError: as for all formats.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> path = Path(tempfile.mkdtemp()) / "scene.json"
        >>> save_coco_amodal(Scene(np.zeros((4, 6, 3), np.uint8)), path)
        >>> sorted(entry.name for entry in path.parent.iterdir())
        ['scene.json', 'scene_files']
    """
    path = Path(path)
    check_coco_output(path)
    rendered = scene.render(output_type="np")
    document, files = encode_scene(scene)
    whole, visible = visible_layers(scene, rendered)
    crowds = [layer.is_crowd for layer in scene.layers]
    objects = ObjectMasks(visible, names=[layer.name for layer in scene.layers], is_crowd=crowds)
    files[RENDERED] = png_bytes(rendered)
    version, folder = _version(files), files_folder(path)
    name = f"{folder.name}/{version}/{RENDERED}"
    coco = coco_document(objects, whole, scene.order, file_name=name, info={"format": FORMAT})
    coco[SCENE_KEY] = {**document, FILES_KEY: version}
    with one_writer(folder):  # or one would remove the pictures that another is about to name
        had_no_versions = _earlier_version(path) == ""
        write_folder(folder / version, files)
        write_text(path, dump_document(coco).decode("ascii"))
        _remove_other_versions(folder, version, NAMES if had_no_versions else ())


def check_coco_output(path: PathLike) -> None:
    """Refuse a path at which the JSON or the folder beside it cannot be written; errors as `check_output_file`.

    Example:
        >>> import tempfile
        >>> check_coco_output(tempfile.gettempdir())
        Traceback (most recent call last):
        ...
        IsADirectoryError: ... is a folder, expected the path of a file.
    """
    check_output_file(path)
    check_output_folder(files_folder(Path(path)))


def load_coco_amodal(path: PathLike) -> Scene:
    """Read the scene that `save_coco_amodal` has written, or that of a folder whose `scene.json` it is.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: naming the file or the key that is wrong; for COCO JSON without a scene.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> path = Path(tempfile.mkdtemp()) / "scene.json"
        >>> save_coco_amodal(Scene(np.zeros((4, 6, 3), np.uint8)), path)
        >>> load_coco_amodal(path)
        Scene(6x4, 0 layers)
    """
    path = Path(path)
    coco = parse_json_object(read_file(path), path.name)
    if path.name == DOCUMENT and coco.get("format") == FORMAT:  # not COCO: the document of a folder of PNG layers
        return load_png_folder(path.parent)
    document = coco.get(SCENE_KEY)
    if not isinstance(document, dict):
        raise ValueError(
            f"`{SCENE_KEY}` must be an object, got {type(document).__name__}: this is COCO without a scene."
        )
    check_document(document, {FILES_KEY})
    version = document.get(FILES_KEY, "")
    if version != "" and not (isinstance(version, str) and _VERSION_NAME.fullmatch(version)):
        raise ValueError(f"`{SCENE_KEY}.{FILES_KEY}` must be 16 hexadecimal digits, got {version!r}.")
    return decode_scene(document, folder_reader(files_folder(path) / version))


def files_folder(path: Path) -> Path:
    """Where the pictures of the scene in `path` lie.

    Example:
        >>> files_folder(Path("edited/scene.json")).name
        'scene_files'
    """
    return path.with_name(f"{path.stem}_files")


def _version(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return digest.hexdigest()[:16]


def _earlier_version(path: Path) -> str | None:
    """Folder of the pictures of the scene that a file holds; None where there is none."""
    try:
        document = parse_json_object(read_file(path), path.name).get(SCENE_KEY)
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return None
    return str(document.get(FILES_KEY, ""))


def _remove_other_versions(folder: Path, version: str, loose: Collection[str]) -> None:
    """Remove the pictures of earlier scenes, and what is `loose` in the folder; other files in it stay."""
    for entry in folder.iterdir():
        if entry.name != version and (_is_version(entry) or entry.name in loose):
            with contextlib.suppress(OSError):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _is_version(entry: Path) -> bool:
    if not _VERSION_NAME.fullmatch(entry.name) or not entry.is_dir():
        return False
    return (entry / RENDERED).is_file() or not any(entry.iterdir())
