"""A view of a scene → a row of the schema, and [Z24]'s filter and statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...arguments.numeric import check_integer, check_number
from ...masks.rle import encode_rle
from ..readers.records import ImageRecord, make_row
from ..schema import DEPTHS, build_objects
from ..statistics import HiddenShares
from .meshes import PlacedObject
from .views import View

OCCLUDED_RATIO = 1.2
"""[Z24] keeps objects whose amodal mask is more than so many times as large as their modal mask."""


@dataclass(frozen=True)
class RowOptions:
    """Which objects of a view become objects of a row.

    Attributes:
        with_stuff: ground, walls and ceiling too.
        min_area: pixels of the amodal mask at least.
        max_hidden: share that is hidden at most; 1 keeps what is hidden altogether.
        min_front: pixels in which an object is in front of another at least to occlude it.
        occluded_only: [Z24]'s filter.

    Raises:
        TypeError: one that is no number.
        ValueError: an area or number of pixels below 1, or a share that is none.

    Example:
        >>> RowOptions(min_area=30).with_stuff
        False
    """

    with_stuff: bool = False
    min_area: int = 16
    max_hidden: float = 0.98
    min_front: int = 1
    occluded_only: bool = False

    def __post_init__(self) -> None:
        check_integer("min_area", self.min_area, 1)
        check_integer("min_front", self.min_front, 1)
        check_number("max_hidden", self.max_hidden, least=0, most=1)


def is_occluded(modal_area: int, amodal_area: int) -> bool:
    """[Z24]'s filter: area(amodal) > 1.2 · area(modal).

    Example:
        >>> is_occluded(100, 120), is_occluded(100, 121)
        (False, True)
    """
    return amodal_area > OCCLUDED_RATIO * modal_area


def kept_objects(objects: Sequence[PlacedObject], view: View, options: RowOptions) -> list[int]:
    """Indices of the objects that become objects of the row.

    Example:
        >>> from amodal_diffusion.data.rooms import Camera, ObjectMesh, trace_view
        >>> corners = np.array([[-1, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2.0]])
        >>> item = PlacedObject(ObjectMesh("tile", corners, np.array([[0, 1, 2], [0, 2, 3]])))
        >>> camera = Camera(32, 32, 16.0, 16.0, 16.0, 16.0, np.eye(4))
        >>> view = trace_view([item], camera)  # 256 pixels
        >>> kept_objects([item], view, RowOptions()), kept_objects([item], view, RowOptions(min_area=300))
        ([0], [])
    """
    modal, amodal = view.areas()
    kept = []
    for index, item in enumerate(objects):
        whole, seen = int(amodal[index]), int(modal[index])
        if whole < options.min_area or (item.mesh.is_stuff and not options.with_stuff):
            continue
        if 1 - seen / whole > options.max_hidden or (options.occluded_only and not is_occluded(seen, whole)):
            continue
        kept.append(index)
    return kept


def view_row(
    objects: Sequence[PlacedObject],
    view: View,
    image_id: str,
    *,
    file_name: str = "",
    source: str = "rooms",
    options: RowOptions | None = None,
    photo: str | Mapping[str, Any] | None = None,
    category_ids: Mapping[str, int] | None = None,
) -> tuple[dict[str, Any], list[int]]:
    """Row of a view.

    Args:
        objects: N objects of the view.
        view: what a camera sees of them.
        image_id: id of the row.
        file_name: of the photo.
        source: what the row calls its data set.
        options: which objects are kept.
        photo: path of the photo, or its file as {"bytes", "path"}.
        category_ids: numbers of categories, where meshes have none.

    Returns:
        The row in plain Python, and the indices of its objects among the N. `name` is an object's semantic label, else
        its name in the scene, `depth` that of its whole mask. Objects that hide each other have a relation each way.

    Example:
        >>> from amodal_diffusion.data.rooms import Camera, ObjectMesh, trace_view
        >>> corners = np.array([[-1, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2.0]])
        >>> item = PlacedObject(ObjectMesh("tile", corners, np.array([[0, 1, 2], [0, 2, 3]])))
        >>> camera = Camera(32, 32, 16.0, 16.0, 16.0, 16.0, np.eye(4))
        >>> row, kept = view_row([item], trace_view([item], camera), "room-0")
        >>> row["image_id"], [obj["name"] for obj in row["objects"]], kept
        ('room-0', ['tile'], [0])
    """
    options = options or RowOptions()
    kept = kept_objects(objects, view, options)
    records = []
    for index in kept:
        mesh = objects[index].mesh
        found = view.hits[index]
        modal = view.owner == index
        amodal = np.zeros_like(modal)
        depth = None
        if found is not None:
            amodal[found.slices] = found.face >= 0
            met = found.depth[found.face >= 0].astype(np.float64)
            depth = dict(zip(DEPTHS, (float(met.min()), float(met.mean()), float(met.max())), strict=True))
        rle = encode_rle(modal)
        number = mesh.category_id
        if number is None and mesh.category is not None and category_ids is not None:
            number = category_ids.get(mesh.category)
        records.append(
            {
                "id": index,
                "name": mesh.label or mesh.name,
                "category_id": number,
                "is_stuff": mesh.is_stuff,
                "is_crowd": False,
                "modal_mask": rle,
                "amodal_mask": rle if modal.sum() == amodal.sum() else encode_rle(amodal),
                "depth": depth,
            }
        )
    front = view.front_pixels()[np.ix_(kept, kept)]
    pairs = np.argwhere(front >= options.min_front).tolist()
    relations = [{"front": int(i), "behind": int(j)} for i, j in pairs]
    height, width = view.owner.shape
    image = ImageRecord(image_id, file_name, height, width)
    row = make_row(image, build_objects(records), relations, source)
    if photo is not None:
        row["image"] = photo
    return row, kept


def record_occlusions(row: Mapping[str, Any]) -> np.ndarray | None:
    """(N, N) bool of a row: whether object i occludes object j somewhere; both ways for objects that hide each other.

    An order matrix (`record_order`) cannot say that, since it is antisymmetric; it has 0 for such pairs.

    Returns:
        The matrix, or None where the source does not tell the order.

    Example:
        >>> relations = [{"front": 0, "behind": 1}, {"front": 1, "behind": 0}]
        >>> record_occlusions({"objects": [{}, {}], "order_relations": relations}).tolist()
        [[False, True], [True, False]]
    """
    if row["order_relations"] is None:
        return None
    count = len(row["objects"])
    over = np.zeros((count, count), dtype=bool)
    for relation in row["order_relations"]:
        over[relation["front"], relation["behind"]] = True
    return over


@dataclass(frozen=True)
class CyclesFound:
    """Where the order of a view is none: pairs and rings of objects that hide each other.

    Attributes:
        mutual: pairs (i, j), i < j, each in front of the other somewhere.
        cycles: triples (i, j, k), i in front of j, j of k, k of i, none of the pairs mutual.

    Example:
        >>> find_cycles(np.array([[0, 3], [2, 0]]))
        CyclesFound(mutual=((0, 1),), cycles=())
    """

    mutual: tuple[tuple[int, int], ...]
    cycles: tuple[tuple[int, int, int], ...]


def find_cycles(front: np.ndarray, min_pixels: int = 1) -> CyclesFound:
    """Mutual and cyclic occlusion.

    Args:
        front: (N, N) pixels in which i is in front of j, of `View.front_pixels`.
        min_pixels: that count.

    Example:
        >>> find_cycles(np.array([[0, 5, 0], [0, 0, 5], [5, 0, 0]])).cycles
        ((0, 1, 2),)
    """
    over = front >= min_pixels
    np.fill_diagonal(over, False)
    mutual = [(int(i), int(j)) for i, j in np.argwhere(over & over.T) if i < j]
    plain = over & ~over.T
    # Each ring is named from its smallest index, in the direction in which it runs.
    cycles = [
        (i, j, int(k))
        for i, j in np.argwhere(plain).tolist()
        if i < j
        for k in np.flatnonzero(plain[j] & plain[:, i])
        if k > i
    ]
    return CyclesFound(tuple(mutual), tuple(cycles))


class SceneStatistics:
    """[Z24]'s statistics of a data set, counted as its rows pass by.

    Example:
        >>> statistics = SceneStatistics()
        >>> statistics.add({"objects": [{"name": "cup", "occlusion_rate": 0.5}], "order_relations": []})
        >>> statistics.summary()["most frequent"]
        {'cup': 1}
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._labels: Counter[str] = Counter()
        self._hidden = HiddenShares()

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row of the schema."""
        self._counts["images"] += 1
        pairs = {(relation["front"], relation["behind"]) for relation in row["order_relations"] or ()}
        self._counts["relations"] += len(pairs)
        self._counts["mutual"] += sum((j, i) in pairs for i, j in pairs) // 2
        for obj in row["objects"]:
            rate = float(obj["occlusion_rate"] or 0.0)
            self._counts["objects"] += 1
            self._counts["with a hidden part"] += rate > 0
            self._counts["kept by [Z24]'s filter"] += rate > 1 - 1 / OCCLUDED_RATIO
            self._hidden.add(rate)
            self._labels[obj["name"] or ""] += 1

    def summary(self) -> dict[str, Any]:
        """Counts; objects by their hidden share; the most frequent labels."""
        return {
            **self._counts,
            "labels": len(self._labels),
            "objects by hidden share": self._hidden.by_name(),
            "most frequent": dict(self._labels.most_common(10)),
        }
