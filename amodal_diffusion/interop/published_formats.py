"""Rows of the schema in the formats of the published data sets: KINS, COCOA and D2SA, which their tools read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from ..data import record_order
from ..data.readers.tools.shapes import UNNAMED
from ..files import atomic_file
from ..io import CategoryIds
from ..masks.rle import segmentation_to_rle
from ..ordering import reachable
from ..scene.render import stacking

Rows = Iterable[Mapping[str, Any]]
_MakeEntries = Callable[[Mapping[str, Any], int, "_Categories"], Iterator[dict[str, Any]]]


def write_kins(rows: Rows, path: str | os.PathLike[str]) -> None:
    """Write rows as KINS of 2020 has them: `a_segm` and `i_segm` as run lengths, clusters and ranks for the order.

    Objects that are related, directly or through others, are a cluster (`oco_id`), and `ico_id` ranks it from the
    front, from 1; objects without relations have rank 0. Ranks hold no cycles: of a cycle they keep what a stack can. A
    row whose order is unknown has neither.

    Args:
        rows: of the schema, all with amodal masks; read one after the other.
        path: of the file; it appears when it is whole.

    Raises:
        ValueError: an object whose amodal mask is unknown; two names for one category id.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> from amodal_diffusion.masks import encode_rle
        >>> from amodal_diffusion.data import build_objects, iter_coco
        >>> item = {"id": 5, "name": "cup", "category_id": 7, "is_stuff": False, "is_crowd": False,
        ...         "modal_mask": encode_rle([[1, 0]]), "amodal_mask": encode_rle([[1, 1]])}
        >>> row = {"image_id": "1", "file_name": "1.jpg", "height": 1, "width": 2, "objects": build_objects([item]),
        ...        "order_relations": []}
        >>> path = os.path.join(tempfile.mkdtemp(), "kins.json")
        >>> write_kins([row], path)
        >>> next(iter_coco(path))["objects"][0]["occlusion_rate"]
        0.5
    """
    _write(rows, path, _kins_entries)


def write_d2sa(rows: Rows, path: str | os.PathLike[str]) -> None:
    """Write rows as D2SA and COCOA-cls have them: `segmentation` is the whole mask, `visible_mask` the visible part.

    The formats have no order; it is kept on the images as `order_relations`, which our reader knows.

    Args:
        rows: of the schema, all with amodal masks; read one after the other.
        path: of the file; it appears when it is whole.

    Raises:
        ValueError, OSError: as for `write_kins`.

    Example:
        >>> import tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "d2sa.json")
        >>> write_d2sa([], path)
        >>> json.load(open(path))
        {'annotations': [], 'images': [], 'categories': []}
    """
    _write(rows, path, _d2sa_entries)


def write_cocoa(rows: Rows, path: str | os.PathLike[str]) -> None:
    """Write rows as COCOA has them: an annotation for each image, whose regions go from front to back.

    `depth_constraint` names the pairs of regions, front before behind, counted from 1; it lacks where the order is
    unknown. Classes are kept by name alone, as in COCOA.

    Args:
        rows: of the schema, all with amodal masks; read one after the other.
        path: of the file; it appears when it is whole.

    Raises:
        ValueError, OSError: as for `write_kins`.

    Example:
        >>> import tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "cocoa.json")
        >>> write_cocoa([{"image_id": "9", "file_name": "9.jpg", "height": 1, "width": 2, "objects": [],
        ...               "order_relations": None}], path)
        >>> json.load(open(path))["annotations"][0]["regions"]
        []
    """
    _write(rows, path, _cocoa_entries, with_categories=False)


class _Categories:
    """The category of each object: its id, or its name where it has none, until all ids are known."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._unnumbered: dict[str, None] = {}

    def of(self, item: Mapping[str, Any], where: str) -> int | str:
        name, category = item["name"] or UNNAMED, item["category_id"]
        if category is None:
            self._unnumbered[name] = None
            return str(name)
        if self._names.setdefault(int(category), name) != name:
            raise ValueError(f"{where}: category id {category} is {self._names[int(category)]!r} and {name!r}.")
        return int(category)

    def numbered(self) -> tuple[dict[str, int], list[dict[str, Any]]]:
        """The ids of the names that have none, and all categories."""
        categories = CategoryIds(self._names)
        for known in self._names.items():
            categories.of(*known)
        return {name: categories.of(None, name) for name in self._unnumbered}, categories.entries()


def _write(rows: Rows, path: str | os.PathLike[str], make_entries: _MakeEntries, with_categories: bool = True) -> None:
    """The annotations go to a file one by one; only the entries of images and categories are kept."""
    categories = _Categories()
    images, count = [], 0
    with TemporaryFile("w+", encoding="utf-8") as written:
        for number, row in enumerate(rows, start=1):
            image_id = int(row["image_id"]) if str(row["image_id"]).isdecimal() else number
            images.append({"id": image_id, **{key: row[key] for key in ("file_name", "height", "width")}})
            first = count + 1
            for entry in make_entries(row, image_id, categories):
                count += 1
                written.write(json.dumps({"id": count, **entry}) + "\n")
            if with_categories and row["order_relations"] is not None:
                images[-1]["order_relations"] = [
                    {side: first + relation[side] for side in ("front", "behind")}
                    for relation in row["order_relations"]
                ]
        ids, named = categories.numbered()
        written.seek(0)
        with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write('{"annotations": [')
            for number, line in enumerate(written):
                file.write((",\n" if number else "\n") + (_with_id(line, ids) if ids else line.rstrip("\n")))
            file.write(f'],\n"images": {json.dumps(images)}')
            if with_categories:
                file.write(f',\n"categories": {json.dumps(named)}')
            file.write("}\n")


def _with_id(line: str, ids: Mapping[str, int]) -> str:
    entry = json.loads(line)
    return json.dumps({**entry, "category_id": ids.get(entry["category_id"], entry["category_id"])})


def _masks_of(row: Mapping[str, Any], index: int) -> tuple[Any, Any, str]:
    """Run lengths of the whole object and of its visible part, and what to call it in messages."""
    item = row["objects"][index]
    where = f"image {row['image_id']} object {item['id']}"
    whole = item["amodal_mask"]
    if whole is None or whole["counts"] is None:
        raise ValueError(f"{where}: its amodal mask is unknown; complete it with `amodal-diffusion annotate`.")
    checked = []
    for name, mask in (("whole", whole), ("visible", item["modal_mask"])):
        try:
            checked.append(segmentation_to_rle(mask, row["height"], row["width"]))
        except ValueError as error:
            raise ValueError(f"{where}: {name} mask: {error}") from error
    return checked[0], checked[1], where


def _kins_entries(row: Mapping[str, Any], image_id: int, categories: _Categories) -> Iterator[dict[str, Any]]:
    ranks = _ranks(row)
    for index, item in enumerate(row["objects"]):
        whole, visible, where = _masks_of(row, index)
        entry = {
            "image_id": image_id,
            "category_id": categories.of(item, where),
            "a_segm": whole,
            "i_segm": visible,
            "a_bbox": item["amodal_box"],
            "i_bbox": item["modal_box"],
            "a_area": int(mask_utils.area(whole)),
            "i_area": int(mask_utils.area(visible)),
            "iscrowd": int(item["is_crowd"]),
        }
        if ranks is not None:
            entry["oco_id"], entry["ico_id"] = ranks[index]
        yield entry


def _ranks(row: Mapping[str, Any]) -> list[tuple[int, int]] | None:
    """Cluster and rank of each object; None where the order is unknown."""
    order = record_order(row)
    if order is None or not len(order):
        return None if order is None else []
    together = reachable(order != 0) | np.eye(len(order), dtype=bool)
    cluster = together.argmax(axis=1)  # the first object of each cluster
    ranks = [(int(number) + 1, 0) for number in cluster]
    for first in np.unique(cluster).tolist():
        members = np.flatnonzero(cluster == first)
        if len(members) > 1:
            front_to_back = members[stacking(order[np.ix_(members, members)])[::-1]]
            for rank, index in enumerate(front_to_back.tolist(), start=1):
                ranks[index] = (first + 1, rank)
    return ranks


def _d2sa_entries(row: Mapping[str, Any], image_id: int, categories: _Categories) -> Iterator[dict[str, Any]]:
    for index, item in enumerate(row["objects"]):
        whole, visible, where = _masks_of(row, index)
        yield {
            "image_id": image_id,
            "category_id": categories.of(item, where),
            "segmentation": whole,
            "visible_mask": visible,
            "bbox": item["amodal_box"],
            "area": int(mask_utils.area(whole)),
            "iscrowd": int(item["is_crowd"]),
            "occlude_rate": round(float(item["occlusion_rate"] or 0), 6),
        }


def _cocoa_entries(row: Mapping[str, Any], image_id: int, categories: _Categories) -> Iterator[dict[str, Any]]:
    del categories  # COCOA has names alone
    order = record_order(row)
    front_to_back = list(range(len(row["objects"]))) if order is None else stacking(order)[::-1]
    place = {index: number for number, index in enumerate(front_to_back, start=1)}
    regions = []
    for index in front_to_back:
        item = row["objects"][index]
        whole, visible, _ = _masks_of(row, index)
        regions.append(
            {
                "segmentation": whole,
                "visible_mask": visible,
                "name": item["name"] or UNNAMED,
                "order": place[index],
                "area": int(mask_utils.area(whole)),
                "occlude_rate": round(float(item["occlusion_rate"] or 0), 6),
                "isStuff": int(item["is_stuff"]),
            }
        )
    entry: dict[str, Any] = {"image_id": image_id, "regions": regions, "size": len(regions)}
    if row["order_relations"] is not None:
        pairs = [(place[pair["front"]], place[pair["behind"]]) for pair in row["order_relations"]]
        entry["depth_constraint"] = ",".join(f"{front}-{behind}" for front, behind in pairs)
    yield entry
