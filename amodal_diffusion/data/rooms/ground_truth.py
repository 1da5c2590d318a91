"""A scene and its cameras → a data set of the schema, as [Z24] made MP3D-Amodal of scanned houses."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...files import atomic_folder
from ...images import image_size
from ..cards import RecordCounts, dataset_card
from ..parquet import SHARD_BYTES, check_new, check_target, row_tables, write_shards
from ..readers.records import BadRecord, OnError, RecordLog
from ..schema import amodal_features
from .cameras import Camera, Convention, read_cameras
from .hidden_colors import LAYER_FOLDER, HiddenColors, write_colors
from .meshes import PlacedObject
from .rendering.photographs import render_view
from .rendering.shading import AreaLight, Lighting
from .scans.scene_files import read_scene
from .view_rows import RowOptions, SceneStatistics, view_row
from .views import View, camera_inside, trace_view


@dataclass(frozen=True)
class GroundTruthOptions:
    """How ground truth is made of a scene.

    Attributes:
        scene_format: of `read_scene`.
        size, intrinsics, convention: of `read_cameras`.
        scale: metres in a unit of the scene.
        stuff: names of more objects that are ground, wall or ceiling.
        with_stuff: ground, walls and ceiling become objects of rows too.
        occluded_only: [Z24]'s filter, area(amodal) > 1.2 · area(modal).
        min_area: pixels of an amodal mask at least.
        split: name of the split.
        limit: the first cameras alone.
        masks_only: neither photos nor colours.
        seed: of rendered photos.

    Example:
        >>> GroundTruthOptions(size=(64, 48), intrinsics=(60.0, 60.0)).split
        'train'
    """

    scene_format: str = "auto"
    size: tuple[int, int] | None = None
    intrinsics: tuple[float, ...] | None = None
    convention: Convention | None = None
    scale: float = 1.0
    stuff: tuple[str, ...] = ()
    with_stuff: bool = False
    occluded_only: bool = False
    min_area: int = 16
    split: str = "train"
    limit: int | None = None
    masks_only: bool = False
    seed: int = 0


@dataclass(frozen=True)
class GroundTruth:
    """What was written.

    Attributes:
        folder: of the data set; `load_amodal_dataset` reads it.
        files: its shards and its card.
        statistics: counts, see `SceneStatistics.summary`.

    Example:
        >>> folder = Path("masks")
        >>> GroundTruth(folder, [folder / "README.md"], {"objects": 2}).statistics["objects"]
        2
    """

    folder: Path
    files: list[Path]
    statistics: dict[str, Any] = field(default_factory=dict)


def write_ground_truth(
    scene: str | os.PathLike[str],
    cameras: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    photos: str | os.PathLike[str] | None = None,
    options: GroundTruthOptions | None = None,
    overwrite: bool = False,
    on_error: OnError = "raise",
    bad_records: list[BadRecord] | None = None,
) -> GroundTruth:
    r"""Write what cameras see of the objects of a scene.

    Args:
        scene: see `read_scene`.
        cameras: see `read_cameras`.
        folder: of the data set.
        photos: folder of the real photos, found by the file names of the cameras; the views are rendered where None.
        options: how.
        overwrite: replace what is there.
        on_error: "raise" refuses the first bad object or view; "skip" leaves it out.
        bad_records: list that takes what is skipped.

    Raises:
        FileNotFoundError: no scene, no cameras.
        FileExistsError: its data, layers or card are there and `overwrite` is False.
        AnnotationError: a bad object or view (a camera inside an object, nothing in view, no photo, a photo of another
            size) and `on_error` is "raise".
        ValueError: no view is left.

    Example:
        >>> import tempfile
        >>> options = GroundTruthOptions(size=(32, 24), intrinsics=(30, 30), masks_only=True)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     scene, cameras = Path(folder) / "scene.obj", Path(folder) / "poses.txt"
        ...     _ = scene.write_text("o tile\nv -1 -1 3\nv 1 -1 3\nv 0 1 3\nf 1 2 3\n")
        ...     _ = cameras.write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n")
        ...     made = write_ground_truth(scene, cameras, Path(folder) / "out", options=options)
        >>> made.statistics["objects"], made.files[0].name
        (1, 'train-00000-of-00001.parquet')
    """
    options = options or GroundTruthOptions()
    target = Path(folder)
    check_target(target / "data", overwrite)
    check_target(target / LAYER_FOLDER, overwrite, suffix=".zip")
    check_new(target / "README.md", overwrite)
    records: list[BadRecord] = [] if bad_records is None else bad_records
    objects = read_scene(
        scene,
        format=options.scene_format,
        stuff=options.stuff,
        scale=options.scale,
        on_error=on_error,
        bad_records=records,
    )
    views = read_cameras(cameras, size=options.size, intrinsics=options.intrinsics, convention=options.convention)[
        : options.limit
    ]
    log = RecordLog(os.fspath(cameras), on_error, records)
    maker = _Maker(objects, options, None if photos is None else Path(photos), log, Path(scene).stem)
    counts, statistics = RecordCounts(), SceneStatistics()
    with atomic_folder(target, replaces=("data", LAYER_FOLDER, "README.md")) as staged, ExitStack() as stack:
        (staged / "data").mkdir()
        archive = None
        if maker.renders:
            (staged / LAYER_FOLDER).mkdir()
            layers = staged / LAYER_FOLDER / f"{options.split}-00000-of-00001.zip"
            archive = stack.enter_context(zipfile.ZipFile(layers, "w"))

        def rows() -> Iterator[dict[str, Any]]:
            for index, camera in enumerate(views):
                row = maker.row(index, camera, archive)
                if row is not None:
                    counts.add(row)
                    statistics.add(row)
                    yield row

        features = amodal_features(with_image=not options.masks_only, with_depth=True)
        names = write_shards(row_tables(rows(), features), features, staged / "data", options.split, SHARD_BYTES)
        description = f"Ground truth from the meshes of {Path(scene).name}: amodal masks and order are computed [Z24]."
        card = dataset_card({options.split: counts}, target.resolve().name, description=description)
        (staged / "README.md").write_text(card, encoding="utf-8")
    files = [target / "data" / name for name in names] + [target / "README.md"]
    return GroundTruth(target, files, statistics.summary())


class _Maker:
    """Makes the row of one camera."""

    def __init__(
        self,
        objects: Sequence[PlacedObject],
        options: GroundTruthOptions,
        photos: Path | None,
        log: RecordLog,
        source: str,
    ) -> None:
        if photos is not None and not photos.is_dir():
            raise NotADirectoryError(f"photos must be a folder, got {os.fspath(photos)!r}")
        self.objects, self.options, self.photos, self.log, self.source = objects, options, photos, log, source
        self.renders = photos is None and not options.masks_only
        self.row_options = RowOptions(
            with_stuff=options.with_stuff, min_area=options.min_area, occluded_only=options.occluded_only
        )

    def row(self, index: int, camera: Camera, archive: zipfile.ZipFile | None) -> dict[str, Any] | None:
        try:
            return self.make(index, camera, archive)
        except ValueError as error:
            self.log.bad(f"camera {camera.name or index}", error)
            return None

    def make(self, index: int, camera: Camera, archive: zipfile.ZipFile | None) -> dict[str, Any]:
        around = [item.mesh.name for item in self.objects if not item.mesh.is_stuff and camera_inside(item, camera)]
        if around:
            raise ValueError(f"the camera must be outside of objects, got one inside {around[0]!r}")
        view = trace_view(self.objects, camera)
        image_id = f"{index:06d}"
        photo, colors, file_name = self.photo(index, camera, view)
        row, kept = view_row(
            self.objects, view, image_id, file_name=file_name, source=self.source, options=self.row_options, photo=photo
        )
        if not kept:
            raise ValueError(f"expected at least one object in view, got none of {len(self.objects)}")
        if archive is not None:
            places = {index: place for place, index in enumerate(kept)}
            objects = {
                places[index]: picture
                for index, picture in enumerate(colors)
                if picture is not None and index in places and row["objects"][places[index]]["occlusion_rate"] > 0
            }
            write_colors(archive, image_id, HiddenColors(view.depth, objects))
        return row

    def photo(self, index: int, camera: Camera, view: View) -> tuple[Any, Sequence[Any], str]:
        """The photo, its objects in colours, and its file name."""
        if self.options.masks_only:
            return None, (), camera.name
        if self.photos is not None:
            path = find_photo(self.photos, camera.name)
            height, width = image_size(path)  # upright, as the photo is read
            if (width, height) != (camera.width, camera.height):
                raise ValueError(f"photo {path.name} must be {camera.width}×{camera.height}, got {(width, height)}")
            return os.fspath(path), (), path.relative_to(self.photos).as_posix()
        random = np.random.default_rng([self.options.seed, index])
        rendering = render_view(self.objects, view, _plain_lighting(self.objects, camera), random)
        name = f"{index:06d}.jpg"
        return {"bytes": rendering.jpeg, "path": name}, rendering.colors, name


def find_photo(folder: Path, name: str) -> Path:
    """The photo of a camera, by its name or its last part, with or without extension.

    Raises:
        ValueError: there is none, or a file that is no picture.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (4, 4)).save(Path(folder) / "left.jpg")
        ...     find_photo(Path(folder), "images/left").name
        'left.jpg'
    """
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"expected the name of a photo, got {name!r}")
    for base in (path, Path(path.name)):
        for suffix in ("", ".jpg", ".png", ".jpeg", ".JPG", ".PNG"):
            candidate = folder / f"{base}{suffix}"
            if candidate.is_file():
                try:
                    image_size(candidate)
                except ValueError as error:
                    raise ValueError(f"photo {candidate.name} is no picture") from error
                return candidate
    raise ValueError(f"no photo {name!r} in {os.fspath(folder)!r}")


def _plain_lighting(objects: Sequence[PlacedObject], camera: Camera) -> Lighting:
    """Light for a scene that brings none: a lamp over the camera's shoulder and light from all around."""
    low = np.min([item.bounds[0] for item in objects], axis=0)
    high = np.max([item.bounds[1] for item in objects], axis=0)
    size = float(np.linalg.norm(high - low))
    right, down, ahead = camera.camera_to_world[:3, :3].T
    center = camera.position - 0.05 * size * down + 0.05 * size * right
    radius = 0.02 * size
    lamp = AreaLight(center, right * radius, down * radius, np.full(3, 0.02 * size**2), both_sides=True)
    return Lighting((lamp,), np.full(3, 0.35) * (1 + 0 * ahead))
