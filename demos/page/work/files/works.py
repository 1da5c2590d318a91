"""One visitor's work in a folder, with all steps back and forth: JSON, and pictures that are each written once.

Steps share most of what they hold, so each picture and each layer is written once, and a step names those that it has.
Pictures are PNG and TIFF as in the library's scenes; nothing is ever unpickled.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from amodal_diffusion import Layer, Scene
from amodal_diffusion.files import parse_json_object
from amodal_diffusion.scene.formats.document import decode_scene, dump_document, encode_scene
from page.work.files import photos
from page.work.session import Clicks, History, Mark, Pose, Session, Source

DOCUMENT = "work.json"
VERSION = 4
PICTURES = ("rgba", "modal", "amodal", "uncertainty", "shadow")
"""Of a layer; edits keep them as they are."""
PLAIN = ("id", "name", "is_crowd", "visible", "opacity", "locked")


def write_work(session: Session, folder: Path) -> None:
    """Write a session with a photo into an empty folder."""
    Image.fromarray(session.photo).save(folder / "photo.png", compress_level=3)
    source = None
    if session.source is not None and session.source.path.is_file():
        source = f"source{session.source.path.suffix}"
        _link(session.source.path, folder / source)
    document = {
        "version": VERSION,
        "title": session.title,
        "file_name": session.file_name,
        "source_size": list(session.source_size),
        "view": session.view,
        "recipe": list(session.recipe),
        "shaped": sorted(session.shaped),
        "poses": session.poses,
        "source": source and {"file": source, "size": session.source.size, "is_scene": session.source.is_scene},
        "carry": session.carry,
        "edits": session.edits,
        "objects": len(session.marks.present),
        "marks": _write_marks(session, folder),
        "scenes": _write_scenes(session, folder),
    }
    (folder / DOCUMENT).write_text(json.dumps(document), encoding="utf-8")


def read_work(folder: Path, session: Session) -> Session:
    """What `write_work` wrote, for the visitor of `session`.

    Raises:
        ValueError, OSError, LookupError, TypeError: where the folder holds no such work.
    """
    document = parse_json_object((folder / DOCUMENT).read_bytes(), DOCUMENT)
    if document["version"] != VERSION:
        raise ValueError(f"`version` must be {VERSION}, got {document['version']!r}.")
    photo = np.asarray(Image.open(folder / "photo.png").convert("RGB"))
    scenes = _read_scenes(folder, document["scenes"])
    source = document["source"]
    return Session(
        photo,
        tuple(document["source_size"]),
        document["title"],
        file_name=document["file_name"],
        can_click=session.can_click,
        recipe=tuple(document["recipe"]),
        shaped=frozenset(document["shaped"]),
        poses={digest: Pose(*pose) for digest, pose in document["poses"].items()},
        source=source and _read_source(folder, source),
        carry=document["carry"],
        view=document["view"] if scenes["scene"] is not None else "mark",
        stamp=session.stamp + 1,
        seq=session.seq,
        **scenes,
        **_read_marks(folder, document["marks"], (photo.shape[0], photo.shape[1])),
    )


class Pool:
    """Things that are written once each, by number."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def number(self, item: Any, key: Any = None) -> int:
        """Of an item, by its `key`, or by what it is; `items` keeps it, so no other can get its place in memory."""
        key = id(item) if key is None else key
        if key not in self._numbers:
            self._numbers[key] = len(self.items)
            self.items.append(item)
        return self._numbers[key]


def _steps(history: History[Any], number: Callable[[Any], Any]) -> dict[str, Any]:
    return {
        "dropped": history.dropped,
        "start": None if history.start is None else number(history.start),
        "past": [number(value) for value in history.past],
        "present": number(history.present),
        "future": [number(value) for value in history.future],
    }


def _history(steps: dict[str, Any], value: Callable[[Any], Any]) -> History[Any]:
    """Works of an earlier release say nothing of what was dropped."""
    past, future = (tuple(value(number) for number in steps[name]) for name in ("past", "future"))
    start = steps.get("start")
    return History(
        value(steps["present"]), past, future, int(steps.get("dropped", 0)), None if start is None else value(start)
    )


# Marks


def _write_marks(session: Session, folder: Path) -> dict[str, Any]:
    masks, marks = Pool(), Pool()

    def numbers(values: Sequence[Mark]) -> list[int]:
        return [marks.number(mark) for mark in values]

    document = {"history": _steps(session.marks, numbers), "made_of": numbers(session.made_of)}
    document["marks"] = [_mark_entry(mark, masks) for mark in marks.items]
    (folder / "masks").mkdir()
    for number, bits in enumerate(masks.items):
        mask = np.unpackbits(bits, count=session.size[0] * session.size[1]).reshape(session.size).view(bool)
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png", compress_level=3)
    return document


def _mark_entry(mark: Mark, masks: Pool) -> dict[str, Any]:
    """What objects lost to a mark of clicks is left out: its next click does not give it back."""
    clicks = mark.clicks
    return {
        "id": mark.id,
        "name": mark.name,
        "predicted": mark.predicted,
        "is_crowd": mark.is_crowd,
        "mask": masks.number(mark.bits),
        "clicks": clicks
        and {
            "points": clicks.points,
            "box": clicks.box,
            "answer": None if clicks.answer is None else masks.number(clicks.answer),
        },
    }


def _read_marks(folder: Path, document: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    masks: dict[int, np.ndarray] = {}

    def mask(number: int) -> np.ndarray:
        if number not in masks:
            masks[number] = np.asarray(Image.open(folder / "masks" / f"{int(number)}.png").convert("1"))
            if masks[number].shape != size:
                raise ValueError(f"a mask has {masks[number].shape} pixels in a photo of {size}.")
        return masks[number]

    def made(entry: dict[str, Any]) -> Mark:
        clicks = entry["clicks"]
        if clicks is not None:
            answer = None if clicks["answer"] is None else np.packbits(mask(clicks["answer"]))
            points = tuple((x, y, bool(on_object)) for x, y, on_object in clicks["points"])
            clicks = Clicks(points, clicks["box"] and tuple(clicks["box"]), answer)
        more = {name: entry[name] for name in ("predicted", "is_crowd")}
        return Mark.of(entry["id"], entry["name"], mask(entry["mask"]), clicks=clicks, **more)

    marks = [made(entry) for entry in document["marks"]]

    def chosen(numbers: list[int]) -> tuple[Mark, ...]:
        return tuple(marks[number] for number in numbers)

    return {"marks": _history(document["history"], chosen), "made_of": chosen(document["made_of"])}


# Scenes


def _write_scenes(session: Session, folder: Path) -> dict[str, Any]:
    scenes, layers, tiles, canvases, covers = Pool(), Pool(), Pool(), Pool(), Pool()
    named = {name: getattr(session, name) for name in ("completed", "base")}
    document: dict[str, Any] = {name: scene and scenes.number(scene) for name, scene in named.items()}
    document["history"] = session.scene and _steps(session.scene, scenes.number)
    document["scenes"] = [
        {
            "canvas": canvases.number(scene, (id(scene.background), id(scene.photo))),
            "replaced": covers.number(scene.replaced),
            "layers": [layers.number(layer) for layer in scene.layers],
            "order": scene.order.tolist(),
            "evidence": scene.evidence.astype(int).tolist(),
            "rim": scene.rim,
            "next_id": scene.next_id,
        }
        for scene in scenes.items
    ]
    document["layers"] = [
        {
            "tile": tiles.number(layer, tuple(id(getattr(layer, name)) for name in PICTURES)),
            "transform": layer.transform.tolist(),
            "origin": None if layer.origin is None else layer.origin.tolist(),
            **{name: getattr(layer, name) for name in PLAIN},
        }
        for layer in layers.items
    ]
    first = [replace(layer, id=number, name="", origin=None) for number, layer in enumerate(tiles.items)]
    for number, scene in enumerate(canvases.items):  # the first one carries the tiles
        _write_scene(Scene(scene.background, first if not number else (), photo=scene.photo), folder / f"scene{number}")
    for number, cover in enumerate(covers.items):
        Image.fromarray(cover).save(folder / f"replaced{number}.png", compress_level=3)
    return document


def _read_scenes(folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    count = len({entry["canvas"] for entry in document["scenes"]})
    canvases = [_read_scene(folder / f"scene{number}") for number in range(count)]
    layers = [_read_layer(canvases[0].layers[entry["tile"]], entry) for entry in document["layers"]]
    covers: dict[int, np.ndarray] = {}

    def cover(number: int) -> np.ndarray:
        if number not in covers:
            covers[number] = np.asarray(Image.open(folder / f"replaced{int(number)}.png").convert("1"))
        return covers[number]

    scenes = []
    for entry in document["scenes"]:
        chosen = tuple(layers[number] for number in entry["layers"])
        square = (len(chosen), len(chosen))
        canvas = canvases[entry["canvas"]]
        scenes.append(
            replace(
                canvas,
                layers=chosen,
                order=np.array(entry["order"], np.int8).reshape(square),
                evidence=np.array(entry["evidence"], bool).reshape(square),
                replaced=cover(entry["replaced"]),
                rim=entry["rim"],
                next_id=entry["next_id"],
            )
        )
    read = {name: None if document[name] is None else scenes[document[name]] for name in ("completed", "base")}
    return {**read, "scene": document["history"] and _history(document["history"], scenes.__getitem__)}


def _write_scene(scene: Scene, folder: Path) -> None:
    """As the library's folders, without the picture of it, which takes as long as all else."""
    document, files = encode_scene(scene)
    for name, content in (*files.items(), ("scene.json", dump_document(document))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _read_scene(folder: Path) -> Scene:
    document = parse_json_object((folder / "scene.json").read_bytes(), "scene.json")
    return decode_scene(document, lambda name: (folder / name).read_bytes())


def _read_layer(tile: Layer, entry: dict[str, Any]) -> Layer:
    maps = {name: None if entry[name] is None else np.array(entry[name], float) for name in ("transform", "origin")}
    return replace(tile, **maps, **{name: entry[name] for name in PLAIN})


# The photo's own file


def _read_source(folder: Path, entry: dict[str, Any]) -> Source:
    height, width = entry["size"]
    return Source(photos.private_copy(folder / Path(entry["file"]).name), (height, width), bool(entry["is_scene"]))


def _link(source: Path, target: Path) -> None:
    """The same file under another name, without a copy where the disk can."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
