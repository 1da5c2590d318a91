"""What a data set holds: kinds of objects, how much of them is hidden, photos a scene; as [Z24], Table 2, Figure 10."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import PurePosixPath
from typing import Any

from .cards import RecordCounts

HIDDEN_BINS = 10
"""Of the hidden share of the objects that have a hidden part: ten per cent each."""


@dataclass
class HiddenShares:
    """Objects by their hidden share: (0, 10 %], (10, 20 %] ... (90, 100 %].

    Objects without a hidden part, and those of which nobody knows it, are in none. Evaluation groups objects by
    intervals that are closed on the same side.

    Example:
        >>> shares = HiddenShares()
        >>> for rate in (None, 0.0, 0.1, 0.25, 1.0):
        ...     shares.add(rate)
        >>> shares.counts
        [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    """

    counts: list[int] = field(default_factory=lambda: [0] * HIDDEN_BINS)

    def add(self, rate: float | None) -> None:
        """Count an object by its `occlusion_rate`, 0 to 1 or None."""
        if rate:
            self.counts[min(ceil(rate * HIDDEN_BINS), HIDDEN_BINS) - 1] += 1

    def by_name(self) -> dict[str, int]:
        """Numbers of objects by "0 to 10 %", "10 to 20 %" and so on."""
        step = 100 // HIDDEN_BINS
        return {f"{index * step} to {(index + 1) * step} %": count for index, count in enumerate(self.counts)}


@dataclass
class DatasetStatistics:
    """Statistics of a data set of the schema, gathered row by row; photos are not read.

    Args:
        scene: regular expression whose first group (or whole match) in a file name is the scene of a photo. None takes
            the folder of the file name; a photo that is in none belongs to no scene.

    Example:
        >>> item = {"occlusion_rate": 0.25, "is_stuff": False, "is_crowd": False, "name": "cup", "category_id": 47}
        >>> row = {"file_name": "kitchen/1.jpg", "objects": [item], "order_relations": None, "source": "coco"}
        >>> statistics = DatasetStatistics.of([row])
        >>> statistics.names, statistics.scenes, statistics.hidden.counts
        (Counter({'cup': 1}), Counter({'kitchen': 1}), [0, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    """

    scene: str | None = None
    counts: RecordCounts = field(default_factory=RecordCounts)
    names: Counter[str] = field(default_factory=Counter)
    """Objects of each name, what [Z24] calls a semantic label."""
    categories: Counter[int] = field(default_factory=Counter)
    """Objects of each category id."""
    scenes: Counter[str] = field(default_factory=Counter)
    """Photos of each scene."""
    hidden: HiddenShares = field(default_factory=HiddenShares)

    def __post_init__(self) -> None:
        try:
            self._pattern = None if self.scene is None else re.compile(self.scene)
        except re.error as error:
            raise ValueError(f"`scene` must be a regular expression, got {self.scene!r}: {error}.") from error

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], scene: str | None = None) -> DatasetStatistics:
        """Statistics of all rows.

        Raises:
            ValueError: a `scene` that is no regular expression.
        """
        statistics = cls(scene)
        for row in rows:
            statistics.add(row)
        return statistics

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row of the schema."""
        self.counts.add(row)
        scene = self._scene(row["file_name"] or "")
        if scene:
            self.scenes[scene] += 1
        for item in row["objects"]:
            if item["name"] is not None:
                self.names[item["name"]] += 1
            if item["category_id"] is not None:
                self.categories[item["category_id"]] += 1
            self.hidden.add(item["occlusion_rate"])

    def _scene(self, file_name: str) -> str:
        if self._pattern is None:
            return str(PurePosixPath(file_name).parent).strip(".")
        match = self._pattern.search(file_name)
        return "" if match is None else match[1] if match.re.groups else match[0]

    def numbers(self) -> dict[str, int]:
        """Those of `RecordCounts`, then the numbers of distinct `categories` and `scenes`."""
        return {**self.counts.numbers(), "categories": len(self.categories), "scenes": len(self.scenes)}

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON: the largest first."""
        return {
            "sources": sorted(self.counts.sources),
            "numbers": self.numbers(),
            "hidden_share": self.hidden.by_name(),
            "names": dict(self.names.most_common()),
            "categories": {str(key): count for key, count in self.categories.most_common()},
            "scenes": dict(self.scenes.most_common()),
        }

    def charts(self, most: int = 20, most_scenes: int | None = None) -> dict[str, dict[str, int]]:
        """By title, numbers by name, as `visualization.draw_bars` takes them; what there is nothing of is left out.

        Args:
            most: names and scenes that are listed; the others are summed.
            most_scenes: scenes that are listed, in place of `most`.
        """
        charts = {}
        if any(self.hidden.counts):
            charts["objects by hidden share"] = self.hidden.by_name()
        scenes = most if most_scenes is None else most_scenes
        for title, counts, number in (
            ("objects by name", self.names, most),
            ("photos by scene", self.scenes, scenes),
        ):
            if counts:
                charts[title] = _largest(counts, number)
        return charts

    def to_text(self, most: int = 15) -> str:
        """Tables for a terminal; `most` as in `charts`."""
        lines = []
        for title, part in ({"numbers": self.numbers()} | self.charts(most)).items():
            width = max(len(name) for name in part)
            lines += [title, *(f"  {name:<{width}}  {count:>9,}" for name, count in part.items()), ""]
        return "\n".join(lines).rstrip() + "\n"


def _largest(counts: Counter[str], most: int) -> dict[str, int]:
    # One that is left over is named in its own line.
    shown = dict(counts.most_common(most + (len(counts) == most + 1)))
    rest = counts.total() - sum(shown.values())
    return {**shown, f"{len(counts) - most} others": rest} if rest else shown
