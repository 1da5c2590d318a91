"""Files of scenes: a folder of PNG layers, OpenRaster (.ora), Photoshop (.psd) and COCO amodal JSON (.json).

All hold every field of a scene and read back to an equal one. `Scene.save` and `Scene.load` call what is here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...arguments.choices import check_choice
from ...files import PathLike, check_output_file, check_path
from ..scene import Scene
from .coco import check_coco_output, files_folder, load_coco_amodal, save_coco_amodal
from .document import DOCUMENT, check_pixels
from .open_raster import load_open_raster, save_open_raster
from .photoshop import MAX_SIDE, load_photoshop, save_photoshop
from .png_folder import NAMES, check_png_folder_output, load_png_folder, save_png_folder

__all__ = ["FORMATS", "SceneFormat", "check_scene_output", "load_scene", "save_scene", "scene_format", "scene_outputs"]


@dataclass(frozen=True)
class SceneFormat:
    """One format of files.

    Args:
        suffix: of its files, in lower case; "" for a folder.
        save: writes a scene to a path.
        load: reads one.
        check: refuses a path at which nothing can be written.
        max_side: longest side of a canvas in pixels, where the format has a limit of its own.

    Example:
        >>> FORMATS["ora"].suffix, FORMATS["psd"].max_side
        ('.ora', 30000)
    """

    suffix: str
    save: Callable[[Scene, PathLike], None]
    load: Callable[[PathLike], Scene]
    check: Callable[[PathLike], None]
    max_side: int | None = None


FORMATS = {
    "folder": SceneFormat("", save_png_folder, load_png_folder, check_png_folder_output),
    "ora": SceneFormat(".ora", save_open_raster, load_open_raster, check_output_file),
    "psd": SceneFormat(".psd", save_photoshop, load_photoshop, check_output_file, MAX_SIDE),
    "coco": SceneFormat(".json", save_coco_amodal, load_coco_amodal, check_coco_output),
}
"""The formats by name."""


def scene_format(path: PathLike, format: str | None = None) -> SceneFormat:  # noqa: A002 - as Pillow's save calls it
    """The format of a path.

    Args:
        path: its suffix decides; a folder that exists, or a path without suffix, is a folder of PNG layers.
        format: a name in `FORMATS`, which then decides.

    Raises:
        ValueError: for an unknown suffix or name.

    Example:
        >>> scene_format("edited.psd").suffix, scene_format("edited").suffix
        ('.psd', '')
    """
    if format is not None:
        return FORMATS[check_choice("format", format, FORMATS)]
    path = check_path(path)
    suffix = "" if path.is_dir() else path.suffix.lower()
    found = [entry for entry in FORMATS.values() if entry.suffix == suffix]
    if not found:
        known = ", ".join(entry.suffix for entry in FORMATS.values() if entry.suffix)
        raise ValueError(f"{path}: scenes are saved as {known} or into a folder (a name without a dot), got {suffix}.")
    return found[0]


def save_scene(scene: Scene, path: PathLike, format: str | None = None) -> None:  # noqa: A002
    """Write a scene; nothing is half written. A file that was there is replaced, of a folder an earlier scene alone.

    Args:
        scene: any scene.
        path: a folder, or a file whose suffix names the format: .ora, .psd or .json.
        format: "folder", "ora", "psd" or "coco", whatever the suffix is.

    Raises:
        TypeError, ValueError: for an unknown format, what is no path, or a scene larger than `load_scene` takes in.
        FileExistsError: where a folder holds other files under the names of those of a scene.
        OSError: where the file cannot be written.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> path = Path(tempfile.mkdtemp()) / "scene.ora"
        >>> save_scene(Scene(np.zeros((4, 6, 3), np.uint8)), path)
        >>> load_scene(path)
        Scene(6x4, 0 layers)
    """
    path = check_path(path)
    scene_format(path, format).save(scene, path)


def load_scene(path: PathLike) -> Scene:
    """Read a scene that `save_scene` has written: an equal one. Layered files of other programs give their layers.

    Args:
        path: a folder with a scene.json, that scene.json, or an .ora, .psd or .json file.

    Raises:
        FileNotFoundError: where there is nothing at `path`, or no scene.json in the folder.
        TypeError, ValueError: what is no path; else beginning with the path and naming what is wrong in it.

    Example:
        >>> load_scene("nowhere.ora")
        Traceback (most recent call last):
        ...
        FileNotFoundError: scene nowhere.ora does not exist.
    """
    path = check_path(path)
    if not path.exists():
        raise FileNotFoundError(f"scene {path} does not exist.")
    if path.is_dir() and not (path / DOCUMENT).is_file():
        raise FileNotFoundError(f"folder {path} holds no {DOCUMENT}.")
    load = scene_format(path).load
    if load is load_png_folder and not path.is_dir():
        known = ", ".join(entry.suffix for entry in FORMATS.values() if entry.suffix)
        raise ValueError(f"{path} is a file without the ending of a scene, one of {known}.")
    try:
        return load(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check_scene_output(
    path: PathLike,
    format: str | None = None,  # noqa: A002
    *,
    size: tuple[int, int] | None = None,
) -> None:
    """Refuse a path at which `save_scene` could not write, before the work whose result it should hold.

    Args:
        path: as of `save_scene`.
        format: likewise.
        size: (width, height) of the canvas, where it is known.

    Raises:
        ValueError: for an unknown format, or a canvas that is too large for it.
        FileExistsError: where a folder holds other files under the names of those of a scene.
        OSError: where nothing can be written there.

    Example:
        >>> check_scene_output("scene.psd", size=(40_000, 300))
        Traceback (most recent call last):
        ...
        ValueError: a .psd file may have sides of 30000 pixels at most, got 40000x300.
    """
    path = check_path(path)
    chosen = scene_format(path, format)
    chosen.check(path)
    if size is not None:
        check_pixels(*size, "the canvas of a scene")
        if chosen.max_side is not None and max(size) > chosen.max_side:
            raise ValueError(
                f"a {chosen.suffix} file may have sides of {chosen.max_side} pixels at most, got {size[0]}x{size[1]}."
            )


def scene_outputs(path: PathLike) -> list[Path]:
    """All files and folders that saving a scene to `path` may replace.

    Example:
        >>> [path.name for path in scene_outputs("edited/scene.json")]
        ['scene.json', 'scene_files']
    """
    path = Path(path)
    suffix = scene_format(path).suffix
    if not suffix:
        return [path / name for name in NAMES]
    return [path, files_folder(path)] if suffix == ".json" else [path]
