"""Files of scenes: a folder of PNG layers, OpenRaster (.ora), Photoshop (.psd) and COCO amodal JSON (.json).

All hold every field of a scene and read back to an equal one. `Scene.save` and `Scene.load` call what is here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .._files import PathLike, check_output_file, check_output_folder
from ..scene import Scene
from ._codec import DOCUMENT
from .coco_amodal import check_coco_output, load_coco_amodal, save_coco_amodal
from .open_raster import load_open_raster, save_open_raster
from .photoshop import load_photoshop, save_photoshop
from .png_folder import load_png_folder, save_png_folder

__all__ = ["FORMATS", "SceneFormat", "check_scene_output", "load_scene", "save_scene", "scene_format"]


@dataclass(frozen=True)
class SceneFormat:
    """One format of files.

    Args:
        suffix: of its files, in lower case; "" for a folder.
        save: writes a scene to a path.
        load: reads one.
        check: refuses a path at which nothing can be written.
    """

    suffix: str
    save: Callable[[Scene, PathLike], None]
    load: Callable[[PathLike], Scene]
    check: Callable[[PathLike], None]


FORMATS = {
    "folder": SceneFormat("", save_png_folder, load_png_folder, check_output_folder),
    "ora": SceneFormat(".ora", save_open_raster, load_open_raster, check_output_file),
    "psd": SceneFormat(".psd", save_photoshop, load_photoshop, check_output_file),
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
    """
    if format is not None:
        if format not in FORMATS:
            raise ValueError(f"`format` must be one of {', '.join(FORMATS)}, got {format!r}.")
        return FORMATS[format]
    path = Path(path)
    suffix = "" if path.is_dir() else path.suffix.lower()
    found = [entry for entry in FORMATS.values() if entry.suffix == suffix]
    if not found:
        known = ", ".join(entry.suffix for entry in FORMATS.values() if entry.suffix)
        raise ValueError(f"{path}: scenes are saved as {known} or into a folder (a name without a dot), got {suffix}.")
    return found[0]


def save_scene(scene: Scene, path: PathLike, format: str | None = None) -> None:  # noqa: A002
    """Write a scene; nothing is half written, and what was there is replaced.

    Args:
        scene: any scene.
        path: a folder, or a file whose suffix names the format: .ora, .psd or .json.
        format: "folder", "ora", "psd" or "coco", whatever the suffix is.

    Raises:
        TypeError, ValueError: for an unknown format, or a scene larger than `load_scene` takes in.
        OSError: where the file cannot be written.
    """
    scene_format(path, format).save(scene, path)


def load_scene(path: PathLike) -> Scene:
    """Read a scene that `save_scene` has written: an equal one. Layered files of other programs give their layers.

    Args:
        path: a folder with a scene.json, that scene.json, or an .ora, .psd or .json file.

    Raises:
        FileNotFoundError: where there is nothing at `path`, or no scene.json in the folder.
        ValueError: beginning with the path and naming what is wrong in it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"scene {path} does not exist.")
    if path.is_dir() and not (path / DOCUMENT).is_file():
        raise FileNotFoundError(f"folder {path} holds no {DOCUMENT}.")
    load = scene_format(path).load
    try:
        return load(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check_scene_output(path: PathLike, format: str | None = None) -> None:  # noqa: A002
    """Refuse a path at which `save_scene` could not write, before the work whose result it should hold.

    Raises:
        ValueError: for an unknown format.
        OSError: where nothing can be written there.
    """
    scene_format(path, format).check(path)
