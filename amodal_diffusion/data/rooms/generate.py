"""Data sets of rendered rooms: a room is a function of the seed and its number, a shard of its rooms, so that work that
was cut off goes on where it was, and several processes do not meet.

While it grows, a data set has its shards under `parts`; when all are there, they move to `data` and `layers`, and the
card is written. A finished data set can be made larger: the shards that are there stay.
"""

from __future__ import annotations

import json
import logging
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ...arguments.choices import check_choice
from ...arguments.numeric import check_integer
from ...files import atomic_file, check_replaced, read_json, sweep, write_text
from ..cards import RecordCounts, dataset_card
from ..parquet import row_tables
from ..schema import amodal_features
from .furnishing.catalogue import FurnitureItem, FurnitureLibrary, attributions
from .furnishing.layouts import furnish
from .furnishing.shells import build_shell, draw_lights
from .furnishing.viewpoints import Framing, draw_camera, facing_shell
from .hidden_colors import LAYER_FOLDER, HiddenColors, write_colors
from .rendering.photographs import render_view
from .rendering.shading import Lighting, Quality
from .view_rows import RowOptions, SceneStatistics, view_row
from .views import camera_inside, trace_view

logger = logging.getLogger(__name__)

MANIFEST = "rooms.json"
PICTURES = "pictures.jpg"
"""A file beside the card that it shows where it is there; `demos/show_rooms.py` draws it."""
RINGS = "rings.jpg"
"""Likewise; `demos/show_rings.py` finds and draws it."""
PART_FOLDER = "parts"
_TRIES = 12
_SPLITS = ("train", "test")
_COUNTS = ("views", "rooms_per_shard", "min_objects")
_SHARD = re.compile(r"(\w+)-(\d{5})(?:-of-\d{5})?\.(?:parquet|part)")
CATEGORIES = (
    "Bathroom", "Bedroom", "Characters", "Doors and windows", "Exterior", "Kitchen", "Lights", "Living room",
    "Miscellaneous", "Office", "Staircases", "Vehicles", "room",
)  # fmt: skip


@dataclass(frozen=True)
class RoomSettings:
    """What a data set of rooms is made of; two data sets with the same settings are the same.

    Attributes:
        split: "train" or "test", which share no furniture.
        libraries: names of the furniture libraries; all that are there where empty.
        size: pixels of the longer side.
        masks_only: no photos, no colours: about twenty times as fast.
        colors: keep depth and the whole objects in colours (never for `masks_only`).
        views: photos of each room.
        rooms_per_shard: rooms in a file.
        seed: another number, another data set.
        with_stuff: floor, ceiling and walls are objects too.
        min_objects: in the frame of a photo at least.

    Raises:
        TypeError: naming what is no integer.
        ValueError: naming the argument.

    Example:
        >>> RoomSettings(split="test", size=512).views
        2
    """

    split: str = "train"
    libraries: tuple[str, ...] = ()
    size: int = 448
    masks_only: bool = False
    colors: bool = True
    views: int = 2
    rooms_per_shard: int = 25
    seed: int = 0
    with_stuff: bool = False
    min_objects: int = 6

    def __post_init__(self) -> None:
        check_choice("split", self.split, _SPLITS)
        numbers = {name: check_integer(name, getattr(self, name), 1) for name in _COUNTS}
        numbers |= {"size": check_integer("size", self.size, 32, 4096), "seed": check_integer("seed", self.seed, 0)}
        for name, number in numbers.items():
            object.__setattr__(self, name, number)  # as JSON writes them


@dataclass(frozen=True, eq=False)
class RoomPhoto:
    """One photo of a room.

    Attributes:
        row: of the schema.
        colors: depth and whole objects; None for masks alone.
        front: (N, N) pixels in which object i of the row is in front of object j.
        items: keys of the furniture in the room.

    Example:
        >>> photo = RoomPhoto({"image_id": "room-000000-0"}, None, np.zeros((1, 1), dtype=int), ("Scopia/14",))
        >>> photo.row["image_id"], photo.items
        ('room-000000-0', ('Scopia/14',))
    """

    row: dict[str, Any]
    colors: HiddenColors | None
    front: np.ndarray
    items: tuple[str, ...]


def split_items(library: FurnitureLibrary, split: str) -> list[FurnitureItem]:
    r"""The furniture of a split: items for testing only, or all others.

    Example:
        >>> import tempfile
        >>> keys = ("name", "category", "width", "depth", "height", "model")
        >>> values = ("Oak table", "Office", 120, 80, 75, "/table.obj")
        >>> catalogue = "\n".join(f"{key}#{number}={value}" for number in (6, 7) for key, value in zip(keys, values))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with zipfile.ZipFile(Path(folder) / "mine.sh3f", "w") as archive:
        ...         archive.writestr("PluginFurnitureCatalog.properties", catalogue)
        ...     library = FurnitureLibrary(folder)
        ...     [[item.key for item in split_items(library, split)] for split in ("train", "test")]
        [['mine/6'], ['mine/7']]
    """
    return [item for item in library.items if item.is_test == (split == "test")]


def make_room(library: FurnitureLibrary, settings: RoomSettings, number: int) -> list[RoomPhoto]:
    r"""The photos of one room.

    Args:
        library: gives the models.
        settings: of the data set.
        number: of the room, from 0.

    Returns:
        Up to `settings.views` photos; none where no room was found in which a camera sees enough, which is rare.

    Example:
        >>> import tempfile
        >>> keys = ("name", "category", "width", "depth", "height", "model")
        >>> values = ("Oak table", "Office", 120, 80, 75, "/table.obj")
        >>> catalogue = "\n".join(f"{key}#1={value}" for key, value in zip(keys, values))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with zipfile.ZipFile(Path(folder) / "mine.sh3f", "w") as archive:
        ...         archive.writestr("PluginFurnitureCatalog.properties", catalogue)
        ...         archive.writestr("table.obj", "v 0 0 0\nv 1 0 0\nv 0 0 1\nv 1 1 1\nf 1 2 4\nf 2 3 4\nf 3 1 4\n")
        ...     settings = RoomSettings(size=32, views=1, masks_only=True, min_objects=1)
        ...     photos = make_room(FurnitureLibrary(folder), settings, 0)
        >>> photos[0].row["image_id"], set(photos[0].items)
        ('room-000000-0', {'mine/1'})
    """
    items = split_items(library, settings.split)
    for attempt in range(_TRIES):
        random = np.random.default_rng([settings.seed, _SPLITS.index(settings.split), number, attempt])
        layout = furnish(library, items, random)
        if len(layout.placements) < settings.min_objects:
            continue
        shell = build_shell(layout, random, plain=settings.masks_only)
        lights = draw_lights(layout, random)
        ambient = np.full(3, random.uniform(0.08, 0.3)) * np.exp(random.normal(0, 0.04, 3))
        lighting = Lighting(tuple(lights), ambient)
        photos = []
        framing = Framing(objects=(settings.min_objects, 25))
        for view in range(settings.views):
            camera = draw_camera(layout, shell, random, settings.size, framing)
            if camera is None or any(camera_inside(place.placed, camera) for place in layout.placements):
                continue
            objects = [place.placed for place in layout.placements] + facing_shell(shell, camera)
            keys = tuple(place.item.key for place in layout.placements)
            photos.append(_photo(objects, camera, lighting, random, settings, f"room-{number:06d}-{view}", keys))
        if photos:
            return photos
    logger.warning("room %d is left out: no camera sees enough in %d rooms", number, _TRIES)
    return []


def _photo(
    objects: Sequence[Any],
    camera: Any,
    lighting: Lighting,
    random: np.random.Generator,
    settings: RoomSettings,
    image_id: str,
    keys: tuple[str, ...],
) -> RoomPhoto:
    view = trace_view(objects, camera)
    options = RowOptions(
        with_stuff=settings.with_stuff, min_area=max(16, round(view.owner.size * 2e-4)), max_hidden=0.95
    )
    numbers = {name: index for index, name in enumerate(CATEGORIES)}
    name = f"{image_id}.jpg"
    photo, colors, rendering = None, None, None
    if not settings.masks_only:
        quality = Quality(light_rays=1, sky_rays=2)
        rendering = render_view(objects, view, lighting, random, quality=quality, with_colors=settings.colors)
        photo = {"bytes": rendering.jpeg, "path": name}
    row, kept = view_row(
        objects, view, image_id, file_name=name, options=options, photo=photo, category_ids=numbers, source="rooms"
    )
    if rendering is not None and settings.colors:
        pictures = {place: rendering.colors[index] for place, index in enumerate(kept)}
        hidden = {
            place: picture
            for place, picture in pictures.items()
            if picture is not None and row["objects"][place]["occlusion_rate"] > 0
        }
        colors = HiddenColors(view.depth, hidden)
    return RoomPhoto(row, colors, view.front_pixels()[np.ix_(kept, kept)], keys)


def generate_rooms(
    furniture: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    rooms: int,
    settings: RoomSettings | None = None,
    *,
    workers: int = 1,
    cache: str | os.PathLike[str] | None = None,
    on_shard: Callable[[int, int], None] | None = None,
    license: str | None = None,  # noqa: A002 - the Hub's word
) -> Path:
    r"""Render a data set of rooms, or go on with one.

    Args:
        furniture: folder of the libraries.
        folder: of the data set.
        rooms: how many, each with `settings.views` photos.
        settings: what it is made of.
        workers: processes.
        cache: folder for models as arrays, see `FurnitureLibrary`.
        on_shard: called with the shards that are there and those that there will be.
        license: the Hub's name of the licence, for the card.

    Returns:
        `folder`; `load_amodal_dataset` reads it, and `read_colors` gives depth and whole objects.

    Raises:
        TypeError: a number of rooms or workers that is no integer.
        ValueError: a number below 1, or a folder that was begun with other settings.
        FileExistsError: a folder that was not begun by this and holds files where the data set would go.
        FileNotFoundError: no furniture.

    Example:
        >>> import tempfile
        >>> keys = ("name", "category", "width", "depth", "height", "model")
        >>> values = ("Oak table", "Office", 120, 80, 75, "/table.obj")
        >>> catalogue = "\n".join(f"{key}#1={value}" for key, value in zip(keys, values))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with zipfile.ZipFile(Path(folder) / "mine.sh3f", "w") as archive:
        ...         archive.writestr("PluginFurnitureCatalog.properties", catalogue)
        ...         archive.writestr("table.obj", "v 0 0 0\nv 1 0 0\nv 0 0 1\nv 1 1 1\nf 1 2 4\nf 2 3 4\nf 3 1 4\n")
        ...     settings = RoomSettings(size=32, views=1, masks_only=True, min_objects=1)
        ...     made = generate_rooms(folder, Path(folder) / "rooms", 1, settings)
        ...     sorted(path.name for path in made.rglob("*.*"))
        ['README.md', 'rooms.json', 'train-00000-of-00001.parquet']
    """
    settings = settings or RoomSettings()
    rooms, workers = check_integer("rooms", rooms, 1), check_integer("workers", workers, 1)
    library = FurnitureLibrary(furniture, settings.libraries or None)
    settings = replace(settings, libraries=tuple(library.paths))
    target = Path(folder)
    manifest = _open_manifest(target, settings)
    shards = -(-rooms // settings.rooms_per_shard)
    there = _find_shards(target, settings.split)
    missing = [number for number in range(shards) if number not in there]
    done = shards - len(missing)
    keep = None if cache is None else os.fspath(cache)
    make = partial(_make_shard, os.fspath(furniture), keep, os.fspath(target), settings, rooms)
    for _ in _run(make, missing, workers):
        done += 1
        if on_shard is not None:
            on_shard(done, shards)
    _finish(target, settings, shards, manifest, library, license)
    return target


def _run(make: Callable[[int], None], missing: list[int], workers: int) -> Iterator[None]:
    if workers == 1:
        for number in missing:
            make(number)
            yield
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(make, number) for number in missing]):
                future.result()
                yield
        except BaseException:  # an error in a shard or in what the caller does with it, or Ctrl-C
            pool.shutdown(wait=True, cancel_futures=True)  # what has not begun is left
            raise


@lru_cache(maxsize=2)
def _library(furniture: str, names: tuple[str, ...], cache: str | None) -> FurnitureLibrary:
    return FurnitureLibrary(furniture, names, cache=cache)


def _make_shard(
    furniture: str, cache: str | None, folder: str, settings: RoomSettings, rooms: int, number: int
) -> None:
    """Render the rooms of one shard; its `.part` comes last, so that what is there is complete."""
    library = _library(furniture, settings.libraries, cache)
    first = number * settings.rooms_per_shard
    last = min(first + settings.rooms_per_shard, rooms)
    parts = Path(folder) / PART_FOLDER
    parts.mkdir(parents=True, exist_ok=True)
    stem = f"{settings.split}-{number:05d}"
    items: set[str] = set()
    with_colors = settings.colors and not settings.masks_only
    with atomic_file(parts / f"{stem}.part") as shard, atomic_file(parts / f"{stem}.zip") as layers:
        with zipfile.ZipFile(layers, "w") as archive:

            def rows() -> Iterator[dict[str, Any]]:
                for room in range(first, last):
                    for photo in make_room(library, settings, room):
                        items.update(photo.items)
                        if photo.colors is not None:
                            write_colors(archive, photo.row["image_id"], photo.colors)
                        yield photo.row

            _write_parquet(rows(), shard, with_image=not settings.masks_only)
        write_text(parts / f"{stem}.json", json.dumps(sorted(items)))
    if not with_colors:
        (parts / f"{stem}.zip").unlink()


def _write_parquet(rows: Iterator[dict[str, Any]], path: Path, *, with_image: bool) -> None:
    import pyarrow.parquet as parquet

    features = amodal_features(with_image=with_image, with_depth=True)
    with parquet.ParquetWriter(path, features.arrow_schema) as writer:
        for table in row_tables(rows, features):
            writer.write_table(table.cast(features.arrow_schema))


def _open_manifest(target: Path, settings: RoomSettings) -> dict[str, Any]:
    path = target / MANIFEST
    wanted = json.loads(json.dumps(asdict(settings)))
    if not path.exists():
        check_replaced(target, ("data", LAYER_FOLDER, PART_FOLDER, "README.md"), ())
        manifest: dict[str, Any] = {"settings": wanted, "items": []}
        write_text(path, json.dumps(manifest, indent=1))
        return manifest
    manifest = read_json(path)
    if not isinstance(manifest, dict) or not {"settings", "items"} <= set(manifest):
        raise ValueError(f"'{path}' is no manifest of rooms; choose another folder.")
    if manifest["settings"] != wanted:
        differing = sorted(key for key in wanted if manifest["settings"].get(key) != wanted[key])
        raise ValueError(f"folder {os.fspath(target)!r} was begun with other settings: {differing}; choose another")
    return dict(manifest)


def _find_shards(target: Path, split: str) -> dict[int, Path]:
    """Finished shards by their number, under `parts` or `data`."""
    found = {}
    for place in (target / PART_FOLDER, target / "data"):
        for path in sorted(place.glob(f"{split}-*")) if place.is_dir() else []:
            match = _SHARD.fullmatch(path.name)
            if match:
                found[int(match[2])] = path
    return found


def _finish(
    target: Path, settings: RoomSettings, shards: int, manifest: dict[str, Any], library: FurnitureLibrary,
    license_name: str | None,
) -> None:  # fmt: skip
    """Give shards their final names and write the card; doing it again changes nothing."""
    split = settings.split
    (target / "data").mkdir(exist_ok=True)
    items = set(manifest["items"])
    for number, path in sorted(_find_shards(target, split).items()):
        listed = target / PART_FOLDER / f"{split}-{number:05d}.json"
        if number >= shards:
            continue
        if listed.exists():
            items.update(read_json(listed))
        name = f"{split}-{number:05d}-of-{shards:05d}"
        layers = path.with_suffix(".zip") if path.suffix == ".part" else target / LAYER_FOLDER / f"{path.stem}.zip"
        if layers.exists():
            (target / LAYER_FOLDER).mkdir(exist_ok=True)
            os.replace(layers, target / LAYER_FOLDER / f"{name}.zip")
        os.replace(path, target / "data" / f"{name}.parquet")
    write_text(target / MANIFEST, json.dumps({**manifest, "items": sorted(items)}, indent=1))
    used = [item for item in library.items if item.key in items]
    write_text(target / "README.md", _card(target, settings, used, license_name))
    for number in range(shards):
        (target / PART_FOLDER / f"{split}-{number:05d}.json").unlink(missing_ok=True)
    if (target / PART_FOLDER).is_dir():
        sweep(target / PART_FOLDER)  # where no shard was missing, nobody has
        if not any((target / PART_FOLDER).iterdir()):
            (target / PART_FOLDER).rmdir()


def _card(target: Path, settings: RoomSettings, used: list[FurnitureItem], license_name: str | None) -> str:
    import pyarrow.parquet as parquet

    counts, statistics = RecordCounts(), SceneStatistics()
    for path in sorted((target / "data").glob(f"{settings.split}-*.parquet")):
        for batch in parquet.ParquetFile(path).iter_batches(256, columns=["objects", "order_relations", "source"]):
            for row in batch.to_pylist():
                counts.add(row)
                statistics.add(row)
    description = (
        "Rendered rooms with authentic ground truth: furniture as meshes, so that the whole masks of partly hidden "
        "objects, who hides whom, depth and hidden colours are computed, not guessed, as MP3D-Amodal [Z24] has them "
        "of scanned houses."
    )
    card = dataset_card({settings.split: counts}, target.resolve().name, license=license_name, description=description)
    summary = statistics.summary()
    rates = summary.pop("objects by hidden share")
    frequent = summary.pop("most frequent")
    lines = []
    if (target / PICTURES).exists():
        lines.append(
            f"\n![Ten scenes: the photo, what is hidden in it, two of its objects as they are behind what hides them]"
            f"({PICTURES})\n\nEach scene: the photo; amodal outlines and what is hidden, in the colour of its object; "
            "two objects whole, as the data set has their hidden colours."
        )
    if (target / RINGS).exists():
        lines.append(
            f"\n![A pair that hides each other, and three things that hide each other in a ring]({RINGS})\n\nNo stack "
            "of layers shows these. Each row: the photo; the objects, hidden parts striped; in how many pixels a row's "
            "object is in front of the column's, from their depths, and the order matrix (1: in front, −1: behind)."
        )
    lines += [
        "\n## Statistics\n",
        "| | |\n|---|---:|",
        *(f"| {name} | {value:,} |" for name, value in summary.items()),
        "\n| hidden share | " + " | ".join(rates) + " |",
        "|---" * (len(rates) + 1) + "|",
        "| objects | " + " | ".join(f"{value:,}" for value in rates.values()) + " |",
        "\nMost frequent: " + ", ".join(f"{name} ({value})" for name, value in frequent.items()) + ".",
    ]
    if settings.colors and not settings.masks_only:
        lines.append(
            "\n`layers/*.zip` has depth and, for every object with a hidden part, the whole object in colours: "
            "`amodal_diffusion.data.rooms.read_colors(folder, split, image_id)`."
        )
    lines += ["\n## How it was made\n", f"```bash\n{_command(settings, counts)}\n```"]
    lines += ["\n## Furniture\n", "Models of Sweet Home 3D's furniture libraries:\n", *attributions(used), ""]
    return card + "\n".join(lines)


def _command(settings: RoomSettings, counts: RecordCounts) -> str:
    """The command that makes a data set again."""
    default = RoomSettings()
    words = ["amodal-diffusion make-rooms furniture/ --output rooms/"]
    words.append(f"--rooms {-(-counts.numbers()['images'] // settings.views)}")
    words.append("--libraries " + " ".join(settings.libraries))
    for name in ("split", "size", "views", "rooms_per_shard", "seed"):
        if getattr(settings, name) != getattr(default, name):
            words.append(f"--{name.replace('_', '-')} {getattr(settings, name)}")
    flags = {"--masks-only": settings.masks_only, "--with-stuff": settings.with_stuff}
    flags["--no-colors"] = not settings.colors and not settings.masks_only
    return " ".join([*words, *(name for name, given in flags.items() if given)])
