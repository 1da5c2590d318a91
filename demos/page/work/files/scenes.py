"""Scenes that a visitor brings: what this page and `amodal-diffusion deocclude` write, and layered files of others."""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from amodal_diffusion import Layer, Scene
from amodal_diffusion.scene.formats.archive import open_archive
from amodal_diffusion.scene.formats.coco import FILES_KEY, SCENE_KEY, files_folder
from amodal_diffusion.scene.formats.document import DOCUMENT, FORMAT
from page.work.completed import canvas_masks
from page.work.files import photos
from page.work.files.masks import add_mask_files, without_folders
from page.work.replay import shrink
from page.work.session import MAX_NAME, MAX_OBJECTS, History, Mark, PageError, Session, Source

LAYERED = (".ora", ".psd")
SUFFIXES = [*LAYERED, ".zip", ".json", ".png", ".tif", ".jpg", ".jpeg", ".webp"]
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MAX_FILES = 4 * MAX_OBJECTS + 20
MAX_UNPACKED = 2**30
NOTHING = (
    "These files hold no scene. Open an .ora, a .psd or a .zip from here, the files of a folder with scene.json, or a "
    "COCO JSON together with its photo."
)


def open_scene(session: Session, paths: Sequence[str | Path]) -> tuple[Session, str]:
    """The session of a scene in uploaded files, for the visitor who has another now, and a note ("" for none).

    Raises:
        PageError: where there is no scene in them, or one that is broken or too large.
    """
    if not paths:
        raise PageError(NOTHING)
    if len(paths) > MAX_FILES:
        raise PageError(f"Up to {MAX_FILES} files work; these are {len(paths)}.")
    with tempfile.TemporaryDirectory(prefix="amodal-open-") as folder:
        place = Path(folder)
        try:
            return _open(session, [Path(path) for path in paths], place)
        except PageError:
            raise
        except MemoryError as error:
            raise PageError("This scene needs more memory than there is.") from error
        except (ValueError, OSError) as error:
            known = [Path(path) for path in paths]
            message = without_folders(str(error), known).replace(f"{place}/", "").replace(str(place), "the files")
            raise PageError(message) from error


def _open(session: Session, paths: list[Path], place: Path) -> tuple[Session, str]:
    if len(paths) == 1 and paths[0].suffix.lower() == ".zip":
        title, files = paths[0].stem, _unpack(paths[0], place)
    else:
        title, files = paths[0].stem, [_put(path, place) for path in paths]
    layered = [path for path in files if path.suffix.lower() in LAYERED]
    documents = [path for path in files if path.suffix.lower() == ".json"]
    if len(layered) == 1 and not documents:
        return opened(session, Scene.load(layered[0]), layered[0].stem)
    scenes = [path for path in documents if _is_scene(path)]
    if len(scenes) == 1:
        found = _arranged(scenes[0], files, place)
        return opened(session, Scene.load(found), title if scenes[0].name == DOCUMENT else scenes[0].stem)
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    if len(documents) == 1 and len(pictures) == 1:
        fresh, note = photos.open_upload(session, str(pictures[0]))
        marked, masks_note = add_mask_files(fresh, [str(documents[0])])
        return marked.step(selected=None), " ".join(filter(None, (note, masks_note)))
    if len(scenes) > 1 or len(layered) > 1:
        raise PageError("Open one scene at a time.")
    raise PageError(NOTHING)


# Files


def _put(path: Path, place: Path) -> Path:
    target = place / path.name
    shutil.copyfile(path, target)
    return target


def _unpack(path: Path, place: Path) -> list[Path]:
    """The files of a zip, which is checked before anything is written."""
    try:
        with zipfile.ZipFile(path) as plain:
            size = sum(entry.file_size for entry in plain.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise PageError(f"{path.name} is no complete zip.") from error
    if size > MAX_UNPACKED:
        raise PageError(f"{path.name} unpacks to {size / 2**20:.0f} MB; up to {MAX_UNPACKED // 2**20} work.")
    files = []
    with path.open("rb") as file, open_archive(file) as archive:
        for name in sorted(archive.names):
            if name.endswith("/"):
                continue
            target = place / PurePosixPath(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
            files.append(target)
    return files


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise PageError(f"{path.name} is no valid JSON.") from error
    return document if isinstance(document, dict) else {}


def _is_scene(path: Path) -> bool:
    document = _document(path)
    return document.get("format") == FORMAT or isinstance(document.get(SCENE_KEY), dict)


def _arranged(path: Path, files: list[Path], place: Path) -> Path:
    """The document of a scene with its pictures where it says, also where they were uploaded without folders."""
    document = _document(path)
    if document.get("format") == FORMAT:
        folder = path.parent
        if path.name != DOCUMENT:
            path = path.rename(folder / DOCUMENT)
    else:
        document = document[SCENE_KEY]
        folder = files_folder(path) / str(document.get(FILES_KEY, ""))
    if not folder.resolve().is_relative_to(place.resolve()):
        raise PageError(f"{path.name} names files elsewhere.")
    loose = {file.name: file for file in files}
    for name in _named_files(document):
        target = folder / PurePosixPath(name)
        if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
            raise PageError(f"{path.name} names files elsewhere.")
        if not target.is_file():
            if target.name not in loose:
                raise PageError(
                    f"The picture {name} of {path.name} is missing. Choose all files of the folder, or a zip."
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(loose[target.name], target)
    return path


def _named_files(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("file"), str):
            yield value["file"]
        for part in value.values():
            yield from _named_files(part)
    elif isinstance(value, list):
        for part in value:
            yield from _named_files(part)


# Scenes


def opened(session: Session, scene: Scene, title: str) -> tuple[Session, str]:
    """The session of a scene, in the third step; the page works on a smaller one where it is large."""
    if len(scene) > MAX_OBJECTS:
        raise PageError(f"The scene has {len(scene)} objects; up to {MAX_OBJECTS} work.")
    width, height = scene.size
    if width * height > photos.MAX_SOURCE_PIXELS:
        raise PageError(
            f"The scene has {width * height / 1e6:.0f} million pixels; up to "
            f"{photos.MAX_SOURCE_PIXELS // 10**6} million work."
        )
    if min(width, height) < photos.MIN_SIDE or max(width, height) > photos.MAX_RATIO * min(width, height):
        raise PageError(
            f"The scene has {width} x {height} pixels; each side must have at least {photos.MIN_SIDE}, and at most "
            f"{photos.MAX_RATIO} times the other."
        )
    note, source = "", None
    size = photos.preview_size(width, height)
    if size != scene.size:
        place = photos.private_folder() / "scene.ora"
        scene.save(place)
        source = Source(place, (height, width), is_scene=True)
        scene = shrink(scene, size)
        note = (
            f"You work on a preview of {size[0]} x {size[1]} pixels; exports have the scene's own {width} x {height}."
        )
    scene = _named(scene)
    home = at_home(scene)
    photo = np.asarray(scene.render()) if scene.photo is None else scene.photo
    modal, _ = canvas_masks(home)
    marks = tuple(
        Mark.of(layer.id, layer.name, mask, is_crowd=layer.is_crowd)
        for layer, mask in zip(home.layers, modal, strict=True)
        if mask.any()
    )
    history = History[tuple[Mark, ...]](marks)
    fresh = Session(
        photo,
        (height, width),
        title[:MAX_NAME] or "scene",
        marks=history,
        can_click=session.can_click,
        completed=home,
        base=scene,
        scene=History(scene),
        made_of=marks,
        source=source,
        view="edit",
        stamp=session.stamp + 1,
        seq=session.seq,
    )
    return fresh, note


def at_home(scene: Scene) -> Scene:
    """A scene as it was before it was edited: the objects that its photo shows, in their places.

    Of a scene without a photo, all that stands upright on the canvas.
    """
    layers, kept = [], []
    for index, layer in enumerate(scene.layers):
        place = layer.origin if scene.photo is not None else layer.transform
        inside = None if place is None else _on_canvas(layer, place, scene.size)
        if inside is not None:
            layers.append(inside)
            kept.append(index)
    grid = np.ix_(kept, kept)
    return replace(scene, layers=tuple(layers), order=scene.order[grid], evidence=scene.evidence[grid])


def _on_canvas(layer: Layer, place: np.ndarray, size: tuple[int, int]) -> Layer | None:
    """A layer at a place, cut at the canvas; None where nothing of it is there, or it is turned or resized."""
    if not np.allclose(place[:, :2], np.eye(2)):
        return None
    x, y = np.round(place[:, 2]).astype(int).tolist()
    left, top = max(0, -x), max(0, -y)
    right, bottom = min(layer.size[0], size[0] - x), min(layer.size[1], size[1] - y)
    if right <= left or bottom <= top:
        return None
    window = (slice(top, bottom), slice(left, right))
    home = np.array([[1.0, 0, x + left], [0, 1.0, y + top]])
    arrays = {name: getattr(layer, name)[window] for name in ("rgba", "modal", "amodal")}
    whole = (left, top, right, bottom) == (0, 0, *layer.size)
    return replace(
        layer,
        **arrays,
        uncertainty=None if layer.uncertainty is None else layer.uncertainty[window],
        shadow=layer.shadow if whole else None,
        transform=home,
        origin=home,
        visible=True,
        opacity=1.0,
    )


def _named(scene: Scene) -> Scene:
    """Every layer with a name that fits the page."""
    layers = []
    for layer in scene.layers:
        name = " ".join(layer.name.split())[:MAX_NAME]
        layers.append(replace(layer, name=name or f"object {layer.id + 1}"))
    return replace(scene, layers=tuple(layers))
