"""What a row of the schema has no column for: depth, and each object in colours, in zip files beside the shards.

`layers/<split>-00000-of-0000n.zip` belongs to the shard of that name. It has a folder for each image:
`depth.png`, 16 bits, millimetres, 0 for nothing; and `<object>_x<x>_y<y>.webp`, RGBA, the whole object whose index in
the row's `objects` is `<object>`, cut out, its upper left pixel at (x, y) of the photo.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

LAYER_FOLDER = "layers"
_NAME = re.compile(r"(\d+)_x(\d+)_y(\d+)\.webp")
_MAX_DEPTH = 65_535


@dataclass(frozen=True, eq=False)
class HiddenColors:
    """Depth and whole objects of one photo.

    Attributes:
        depth: (H, W) float32 metres along the optical axis, infinity for nothing; None where it was not kept.
        objects: by index into the row's `objects`: x, y and (h, w, 4) uint8, alpha 255 where the object is.

    Example:
        >>> red = np.full((1, 2, 4), (255, 0, 0, 255), dtype=np.uint8)
        >>> HiddenColors(objects={3: (1, 0, red)}).paint(3, height=2, width=4)[..., 3].tolist()
        [[0, 255, 255, 0], [0, 0, 0, 0]]
    """

    depth: np.ndarray | None = None
    objects: Mapping[int, tuple[int, int, np.ndarray]] = field(default_factory=dict)

    def paint(self, index: int, height: int, width: int) -> np.ndarray:
        """(height, width, 4) uint8: one object in the frame of the photo.

        Raises:
            KeyError: the object's colours were not kept.
        """
        x, y, picture = self.objects[index]
        frame = np.zeros((height, width, 4), dtype=np.uint8)
        frame[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
        return frame


def write_colors(archive: zipfile.ZipFile, image_id: str, colors: HiddenColors, quality: int = 85) -> None:
    """Add what belongs to an image to an archive; the same content gives the same bytes.

    Example:
        >>> red = np.full((1, 2, 4), (255, 0, 0, 255), dtype=np.uint8)
        >>> with zipfile.ZipFile(io.BytesIO(), "w") as archive:
        ...     write_colors(archive, "room-1", HiddenColors(np.full((4, 4), 2.5), {3: (1, 0, red)}))
        ...     archive.namelist()
        ['room-1/depth.png', 'room-1/003_x1_y0.webp']
    """
    files: dict[str, bytes] = {}
    if colors.depth is not None:
        depth = np.nan_to_num(colors.depth * 1000, nan=0, posinf=0, neginf=0)
        files["depth.png"] = _encode(Image.fromarray(np.clip(depth + 0.5, 0, _MAX_DEPTH).astype(np.uint16)), "PNG")
    for index, (x, y, picture) in sorted(colors.objects.items()):
        name = f"{index:03d}_x{x}_y{y}.webp"
        files[name] = _encode(Image.fromarray(picture), "WEBP", quality=quality, alpha_quality=100, method=2)
    for name, content in files.items():
        archive.writestr(zipfile.ZipInfo(f"{image_id}/{name}", (1980, 1, 1, 0, 0, 0)), content)


def read_colors(folder: str | os.PathLike[str], split: str, image_id: str) -> HiddenColors:
    """Depth and whole objects of an image of a data set.

    Args:
        folder: of the data set.
        split: name of the split.
        image_id: of the row.

    Raises:
        FileNotFoundError: the data set has none for that image.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "layers").mkdir()
        ...     with zipfile.ZipFile(Path(folder) / "layers/test-00000-of-00001.zip", "w") as archive:
        ...         write_colors(archive, "room-1", HiddenColors(np.full((4, 4), 2.5)))
        ...     float(read_colors(folder, "test", "room-1").depth[0, 0])
        2.5
    """
    return ColorArchives(folder, split).read(image_id)


class ColorArchives:
    """The archives of a data set, for many photos: which one has which photo is looked up once.

    Args:
        folder: of the data set.
        split: name of the split; all of them without.

    Raises:
        ValueError: an archive that is none, or is cut short.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "layers").mkdir()
        ...     with zipfile.ZipFile(Path(folder) / "layers/test-00000-of-00001.zip", "w") as archive:
        ...         write_colors(archive, "room-1", HiddenColors(objects={3: (1, 0, np.zeros((1, 2, 4), np.uint8))}))
        ...     ColorArchives(folder).objects("room-1")
        [3]
    """

    def __init__(self, folder: str | os.PathLike[str], split: str | None = None) -> None:
        self.folder, self.split = Path(folder), split
        self._places: dict[str, tuple[Path, list[str]]] = {}
        for path in sorted((self.folder / LAYER_FOLDER).glob(f"{split or '*'}-*.zip")):
            try:
                with zipfile.ZipFile(path) as archive:
                    names = archive.namelist()
            except zipfile.BadZipFile as error:
                raise ValueError(f"{str(path)!r} is no whole zip archive: {error}") from error
            for name in names:
                self._places.setdefault(name.rpartition("/")[0], (path, []))[1].append(name)

    def __len__(self) -> int:
        """How many photos have colours."""
        return len(self._places)

    def objects(self, image_id: str) -> list[int]:
        """Indices into the row's `objects` whose colours are known; none for a photo that is not there."""
        found = map(_parse, self._places.get(image_id, ("", []))[1])
        return sorted(place[0] for place in found if place is not None)

    def read(self, image_id: str, objects: Collection[int] | None = None) -> HiddenColors:
        """Depth and whole objects of a photo; with `objects` these alone, without depth.

        Raises:
            FileNotFoundError: the data set has none for that photo.
        """
        if image_id not in self._places:
            where = f" of split {self.split!r}" if self.split else ""
            raise FileNotFoundError(f"{str(self.folder)!r} has no depth and colours of image {image_id!r}{where}")
        path, names = self._places[image_id]
        depth, found = None, {}
        with zipfile.ZipFile(path) as archive:
            for name in names:
                place = _parse(name)
                if objects is not None and (place is None or place[0] not in objects):
                    continue
                with Image.open(io.BytesIO(archive.read(name))) as picture:
                    if place is None:
                        millimetres = np.asarray(picture).astype(np.float32)
                        depth = np.where(millimetres > 0, millimetres / 1000, np.float32(np.inf))
                    else:
                        index, x, y = place
                        pixels = np.array(picture.convert("RGBA"))
                        pixels[..., 3] = np.where(pixels[..., 3] >= 128, 255, 0)
                        found[index] = (x, y, pixels)
        return HiddenColors(depth, found)


def _parse(name: str) -> tuple[int, int, int] | None:
    """Object, x and y of a picture in an archive; None for depth."""
    match = _NAME.fullmatch(name.rpartition("/")[2])
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def _encode(picture: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
