"""Objects with amodal ground truth, by photo: reading, filtering, held-out photos, and which objects a batch takes."""

import hashlib
import io
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as mask_utils

from ...images import load_image
from ...masks import decode_rle
from ..schema import record_depths, record_order

logger = logging.getLogger(__name__)


Loaded = TypeVar("Loaded")


class PhotoError(ValueError):
    """A photo, or its masks, that cannot be used; the message names it.

    Example:
        >>> issubclass(PhotoError, ValueError)
        True
    """


@dataclass(frozen=True)
class ObjectFilter:
    """Which objects are trained on.

    Args:
        min_area: fewest visible pixels; at least 1, since an object without any has no crop box.
        keep_crowd: take groups of objects under one mask.
        keep_stuff: take background regions.
        min_occlusion_rate: least share of the amodal mask that is hidden, 0 to 1.

    Example:
        >>> item = {"is_crowd": True, "is_stuff": False, "modal_mask": None, "amodal_mask": None}
        >>> ObjectFilter().refusal(item, (480, 640)), ObjectFilter(keep_crowd=True).refusal(item, (480, 640))
        ('crowd', 'no amodal mask')
    """

    min_area: int = 100
    keep_crowd: bool = False
    keep_stuff: bool = True
    min_occlusion_rate: float = 0.0

    def refusal(self, item: Mapping[str, Any], size: tuple[int, int]) -> str | None:
        """Why an object is not taken; None where it is."""
        modal, amodal = item["modal_mask"], item["amodal_mask"]
        if item["is_crowd"] and not self.keep_crowd:
            return "crowd"
        if item["is_stuff"] and not self.keep_stuff:
            return "background"
        if amodal is None or amodal["counts"] is None:
            return "no amodal mask"
        if tuple(modal["size"]) != size or tuple(amodal["size"]) != size:
            return "mask of another size than the photo"
        if int(mask_utils.area(modal)) < self.min_area:
            return f"fewer than {self.min_area} visible pixels"
        if self.min_occlusion_rate > 0 and (item["occlusion_rate"] or 0.0) < self.min_occlusion_rate:
            return f"less than {self.min_occlusion_rate:g} hidden"
        return None


BAD_OBJECTS = ("no amodal mask", "mask of another size than the photo")
"""Refusals that are errors of the data set, not choices of the user."""


class Photo(NamedTuple):
    """A photo with objects to train on.

    Args:
        name: for messages and caches, "<data set>/<image id> (<file name>)".
        source: number of its data set.
        row: its row there.
        objects: places of the usable objects in that row.
        group: photos of the same group are held out together.

    Example:
        >>> Photo("cups/1 (1.png)", source=0, row=0, objects=(0, 2), group="1.png").objects
        (0, 2)
    """

    name: str
    source: int
    row: int
    objects: tuple[int, ...]
    group: str


class PhotoObjects:
    """The usable objects of several data sets, and the photos they are on.

    Args:
        sources: data sets of `amodal_features(with_image=True)`; without photos for a network that sees masks alone.
        names: what to call each in messages.
        chosen: which objects are taken.
        on_error: "raise" refuses the first object without amodal mask and the first bad photo by name, "skip" leaves
            them out, counted and logged.

    Raises:
        ValueError: a data set without usable object, with the reasons counted.
        PhotoError: see `on_error`.

    Example:
        >>> from PIL import Image
        >>> from amodal_diffusion.data import read_annotations
        >>> region = {"segmentation": [1, 1, 6, 1, 6, 6, 1, 6], "name": "cup", "order": 1}
        >>> image = {"id": 1, "file_name": "1.png", "height": 8, "width": 8}
        >>> annotation = {"id": 1, "image_id": 1, "depth_constraint": "", "regions": [region]}
        >>> rows = read_annotations({"images": [image], "annotations": [annotation]})
        >>> rows = rows.map(lambda row: {"image": Image.new("RGB", (8, 8))}, keep_in_memory=True)
        >>> objects = PhotoObjects([rows], ["cups"], ObjectFilter(min_area=1))
        >>> objects.photos[0].name, objects.counts
        ('cups/1 (1.png)', [1])
    """

    def __init__(
        self, sources: Sequence[Any], names: Sequence[str], chosen: ObjectFilter, on_error: str = "skip"
    ) -> None:
        from datasets import Image as ImageFeature

        self.names = list(names)
        self.on_error = on_error
        self.photos: list[Photo] = []
        self._keys: dict[tuple[int, int], str] = {}
        columns = ["height", "width", "objects", "order_relations"]
        self._masks = [source.select_columns(columns) for source in sources]
        self._files = [
            source.select_columns(["image"]).cast_column("image", ImageFeature(decode=False))
            if "image" in source.column_names
            else None
            for source in sources
        ]
        self.counts = [self._index(number, source, chosen) for number, source in enumerate(sources)]

    def _index(self, number: int, source: Any, chosen: ObjectFilter) -> int:
        """Note the photos of one data set; returns the number of its usable objects."""
        refused: Counter[str] = Counter()
        total = 0
        columns = ["image_id", "file_name", "height", "width", "objects"]
        for row, record in enumerate(source.select_columns(columns)):
            name = f"{self.names[number]}/{record['image_id']} ({record['file_name']})"
            places = []
            for place, item in enumerate(record["objects"]):
                reason = chosen.refusal(item, (record["height"], record["width"]))
                if reason is None:
                    places.append(place)
                    continue
                if reason in BAD_OBJECTS and self.on_error == "raise":
                    raise PhotoError(f"photo {name}: object {item['id']}: {reason}")
                refused[reason] += 1
            if places:
                group = record["file_name"] or name
                self.photos.append(Photo(name, number, row, tuple(places), Path(group).name))
                total += len(places)
        if not total and not refused:
            raise ValueError(f"{self.names[number]} has no object.")
        reasons = ", ".join(f"{count} {reason}" for reason, count in refused.most_common()) or "none"
        if not total:
            raise ValueError(f"{self.names[number]} has no usable object: {reasons}.")
        logger.info("%s: %d objects; left out: %s", self.names[number], total, reasons)
        return total

    def split(self, fraction: float) -> tuple[list[Photo], list[Photo]]:
        """Photos to train on and held-out ones, which share no photo; the same for every seed and process.

        Photos of one file name are held out together, so that one in two data sets is on one side alone.

        Raises:
            ValueError: too few photos for both sides.
        """
        groups = sorted({photo.group for photo in self.photos})
        held_out = max(1, round(len(groups) * fraction))
        if held_out >= len(groups):
            raise ValueError(
                f"`fraction` {fraction:g} of {len(groups)} photos leaves none to train on; hold out photos of another "
                "data set."
            )
        order = np.random.default_rng(0).permutation(len(groups))
        hidden = {groups[index] for index in order[:held_out]}
        train = [photo for photo in self.photos if photo.group not in hidden]
        return train, [photo for photo in self.photos if photo.group in hidden]

    def order(self, photo: Photo) -> np.ndarray | None:
        """(N, N) int8, the order of the N usable objects of a photo as its data set tells it; None where it does not.

        See `record_order`.
        """
        order = record_order(self._masks[photo.source][photo.row])
        return None if order is None else order[np.ix_(photo.objects, photo.objects)]

    def depths(self, photo: Photo) -> np.ndarray | None:
        """(N, 2) float64, the nearest and the farthest depth of the N usable objects, NaN where unknown.

        None where the data set knows no depth of this photo; see `record_depths`.
        """
        depths = record_depths(self._masks[photo.source][photo.row])
        return None if depths is None else depths[list(photo.objects)][:, [0, 2]]

    @property
    def has_photos(self) -> bool:
        """Whether every data set comes with its photos."""
        return all(files is not None for files in self._files)

    def content_key(self, photo: Photo) -> str:
        """Hash of the photo's file, by which a cache knows it.

        Raises:
            PhotoError: the file is missing.
        """
        place = (photo.source, photo.row)
        if place not in self._keys:
            self._keys[place] = hashlib.blake2b(self._bytes(photo), digest_size=16).hexdigest()
        return self._keys[place]

    def image(self, photo: Photo) -> Image.Image:
        """The photo, RGB and upright.

        Raises:
            PhotoError: it is missing, unreadable, or of another size than annotated.
        """
        record = self._masks[photo.source].select_columns(["height", "width"])[photo.row]
        try:
            image = load_image(Image.open(io.BytesIO(self._bytes(photo))))
        except (ValueError, UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            if isinstance(error, PhotoError):
                raise
            raise PhotoError(f"photo {photo.name} cannot be read: {error}") from error
        if image.size != (record["width"], record["height"]):
            raise PhotoError(
                f"photo {photo.name} is {image.height} x {image.width} (height x width), "
                f"annotated {record['height']} x {record['width']}"
            )
        return image

    def masks(self, photo: Photo, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Modal and amodal masks (N, H, W) bool of the objects at `places`.

        Raises:
            PhotoError: run lengths that cannot be decoded.
        """
        objects = self._masks[photo.source][photo.row]["objects"]
        try:
            decoded = {
                place: [decode_rle(objects[place][kind]) for kind in ("modal_mask", "amodal_mask")]
                for place in set(places)
            }
        except ValueError as error:
            raise PhotoError(f"photo {photo.name}: {error}") from error
        modal, amodal = ([decoded[place][kind] for place in places] for kind in (0, 1))
        return np.stack(modal), np.stack(amodal)

    def _bytes(self, photo: Photo) -> bytes:
        files = self._files[photo.source]
        value = None if files is None else files[photo.row]["image"]
        if value is None or (value["bytes"] is None and value["path"] is None):
            raise PhotoError(f"photo {photo.name} is missing")
        if value["bytes"] is not None:
            return value["bytes"]
        try:
            return Path(value["path"]).read_bytes()
        except OSError as error:
            raise PhotoError(f"photo {photo.name} is missing: {error}") from error


class ObjectSampler:
    """Draws batches as a function of (seed, micro-step, process) alone.

    A batch takes about as many objects from each of `images_per_batch` photos, and further photos where these have
    fewer. A data set is drawn by its weight, a photo in it so that every object of a data set is drawn equally often
    whatever `images_per_batch` is; a small one makes the objects of a batch depend on each other. No object comes twice
    in a batch, unless the batch is larger than the data.

    Args:
        photos: what is drawn from.
        num_sources: number of data sets.
        weights: how often each data set is drawn; None draws every object equally often.
        images_per_batch: photos in a batch; None draws one object after another, whatever photos they are on.
        seed: of the run.
        process_index: of the process.

    Raises:
        ValueError: weights that are no weights, or a data set with weight but without photo.

    Example:
        >>> photos = [Photo("a", 0, 0, (0, 1), "a"), Photo("b", 0, 1, (0, 1, 2), "b")]
        >>> sampler = ObjectSampler(photos, num_sources=1, weights=None, images_per_batch=2, seed=0)
        >>> batch = sampler.draw(0, 5, load=lambda photo, places, generator: len(places))
        >>> sum(batch), batch == sampler.draw(0, 5, load=lambda photo, places, generator: len(places))
        (5, True)
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        num_sources: int,
        weights: Sequence[float] | None,
        *,
        images_per_batch: int | None,
        seed: int,
        process_index: int = 0,
    ) -> None:
        self.photos = list(photos)
        self.images_per_batch = images_per_batch
        self.seed = seed
        self.process_index = process_index
        sizes = np.array([len(photo.objects) for photo in self.photos], dtype=np.float64)
        origin = np.array([photo.source for photo in self.photos])
        totals = np.bincount(origin, weights=sizes, minlength=num_sources)
        shares = totals if weights is None else _checked_weights(weights, totals)
        with np.errstate(divide="ignore", invalid="ignore"):
            per_object = np.where(totals > 0, shares / shares.sum() / totals, 0.0)
        self._per_object, self._sizes = per_object[origin], sizes
        self._drawable = int((self._per_object > 0).sum())
        self._bad: dict[int, str] = {}

    @property
    def skipped(self) -> list[str]:
        """Why each photo that was met and could not be used was left out."""
        return list(self._bad.values())

    def draw(
        self,
        micro_step: int,
        batch_size: int,
        load: Callable[[Photo, list[int], np.random.Generator], Loaded],
        on_error: str = "skip",
    ) -> list[Loaded]:
        """What `load(photo, places of objects, generator)` gives for the photos of a batch.

        A photo for which it raises `PhotoError` is skipped and another one drawn. Whether a photo can be loaded does
        not depend on the run, so the batch stays a function of (seed, micro-step, process).

        Raises:
            PhotoError: with `on_error` "raise"; or no photo can be used.
        """
        generator = np.random.default_rng([self.seed % 2**32, micro_step, self.process_index])
        count = min(batch_size, self.images_per_batch or batch_size)
        shares = np.full(count, batch_size // count)
        shares[: batch_size % count] += 1
        left: dict[int, list[int]] = {}  # of each photo, the objects that are not in the batch yet
        found: list[Loaded] = []
        slots, missing = shares.tolist(), batch_size
        while missing:
            share = slots.pop(0) if slots else int(shares[0])
            loaded, taken = self._slot(min(share, missing), left, generator, load, on_error)
            found.append(loaded)
            missing -= taken
        return found

    def _slot(
        self,
        share: int,
        left: dict[int, list[int]],
        generator: np.random.Generator,
        load: Callable[[Photo, list[int], np.random.Generator], Loaded],
        on_error: str,
    ) -> tuple[Loaded, int]:
        """At most `share` objects of one photo, and how many they are."""
        # A photo gives `share` of its objects, or all where it has fewer: its chance makes up for that.
        chances = np.cumsum(self._per_object * np.maximum(self._sizes / share, 1.0))
        while len(self._bad) < self._drawable:
            index = int(np.searchsorted(chances, generator.random() * chances[-1], side="right"))
            photo = self.photos[index]
            if index not in left:
                left[index] = generator.permutation(photo.objects).tolist()
            own, places = generator.spawn(1)[0], left[index]
            # Of a photo with a part of its objects in the batch, the others come no oftener than before.
            kept = max(len(places) / share, 1.0) / max(len(photo.objects) / share, 1.0) if places else 0.0
            if generator.random() >= kept:
                if len(left) == self._drawable and all(index in self._bad or not left[index] for index in left):
                    left.clear()  # every object is in the batch already
                continue
            if index in self._bad:
                continue
            try:
                loaded = load(photo, places[:share], own)
            except PhotoError as error:
                if on_error == "raise":
                    raise
                self._bad[index] = str(error)
                logger.warning("skipped %s", error)
                continue
            left[index] = places[share:]
            return loaded, len(places[:share])
        raise PhotoError(f"none of the {self._drawable} photos can be used; the last: {list(self._bad.values())[-1]}")


def _checked_weights(weights: Sequence[float], totals: np.ndarray) -> np.ndarray:
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != totals.shape:
        raise ValueError(
            f"`weights` must hold one weight for each of the {len(totals)} data sets, got {list(weights)}."
        )
    if not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise ValueError(f"`weights` must not be negative and sum to more than 0, got {list(weights)}.")
    empty = [index for index in np.flatnonzero(values > 0) if totals[index] == 0]
    if empty:
        raise ValueError(f"`weights` gives {values[empty[0]]:g} to data set {empty[0]}, which has no photo.")
    return values
