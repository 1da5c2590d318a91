"""Tables of the papers whose rows are no methods: what data sets hold, what people prefer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...arguments.choices import check_choice
from ...data.preferences import CHOICES, Preference, Share, preference_shares
from ...data.statistics import DatasetStatistics
from ..report import Cell, Table, format_markdown, format_table, interval_text, percent
from .published import PAPER_TABLES, PaperTable

_NONE = "–"


@dataclass
class FiguresReport:
    """A published table of figures, with a row of ours in the same columns.

    Args:
        table: of `PAPER_TABLES`, one without methods.
        cells: one a column, "" where we do not know.
        data_name: what our row is called.
        about: a sentence on what ours is of.

    Example:
        >>> from amodal_diffusion.data import DatasetStatistics
        >>> report = statistics_report("z24-2", DatasetStatistics(), "none.json")
        >>> print(report.to_text().splitlines()[0])
        [Z24] Table 2. MP3D-Amodal
    """

    table: PaperTable
    cells: Sequence[Cell]
    data_name: str
    about: str = ""

    def to_text(self) -> str:
        """The table for a terminal."""
        return self._render(format_table)

    def to_markdown(self) -> str:
        """The table in Markdown."""
        return self._render(format_markdown)

    def to_dict(self) -> dict[str, Any]:
        """The table as plain values that JSON takes; texts as they are shown."""
        published = [{"row": row.label, "values": [value or None for value in row.values]} for row in self.table.rows]
        values = [cell if isinstance(cell, str) else cell[0] for cell in self.cells]
        intervals = [None if isinstance(cell, str) else cell[1] or None for cell in self.cells]
        return {
            "table": self.table.name,
            "source": self.table.source,
            "title": self.table.title,
            "data": self.data_name,
            "columns": list(self.table.columns),
            "published": published,
            "ours": {"values": [value or None for value in values], "intervals": intervals},
            "notes": [*self.table.notes, *filter(None, [self.about])],
        }

    def to_json(self) -> str:
        """The dictionary of `to_dict` as indented JSON with a final newline."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def _render(self, table: Table) -> str:
        rows: list[list[Cell]] = [[row.label, *(value or _NONE for value in row.values)] for row in self.table.rows]
        rows.append([f"ours: {self.data_name}", *(cell or _NONE for cell in self.cells)])
        parts = [f"{self.table.source}. {self.table.title}", table([self.table.source, *self.table.columns], rows)]
        return "\n\n".join([*parts, *filter(None, [self.about]), *self.table.notes]) + "\n"


def statistics_report(name: str, statistics: DatasetStatistics, data_name: str) -> FiguresReport:
    """[Z24], Tables 1 and 2 ("z24-1", "z24-2"), with a data set's row.

    Raises:
        ValueError: a table that is not of data sets.

    Example:
        >>> item = {"occlusion_rate": 0.25, "is_stuff": False, "is_crowd": False, "name": "cup", "category_id": 47}
        >>> row = {"file_name": "kitchen/1.jpg", "objects": [item], "order_relations": None, "source": "coco"}
        >>> statistics_report("z24-2", DatasetStatistics.of([row]), "kitchen.json").cells
        ['1', '1', '1', '1', '1']
    """
    check_choice("name", name, _STATISTICS)
    return FiguresReport(PAPER_TABLES[name], _STATISTICS[name](statistics), data_name)


def preferences_report(
    name: str, answers: Iterable[Preference], data_name: str, confidence: float = 0.95
) -> FiguresReport:
    """[L20], Table 6 ("l20-6"), with the shares of answers; the first result stands where Amodal-VAE does.

    Raises:
        TypeError: a `confidence` that is no number.
        ValueError: a table that is not of preferences, no answer, or a `confidence` that is not between 0 and 1.

    Example:
        >>> answers = [Preference("cup.png", "ann", "first"), Preference("box.png", "ann", "none")]
        >>> preferences_report("l20-6", answers, "answers.jsonl").cells[0]
        ('50.0', '9.5–90.5')
    """
    table = PAPER_TABLES[name]
    if table.needs != "preferences":
        raise ValueError(f"`name` must be that of a table of preferences, got {name!r}.")
    answers = list(answers)
    if not answers:
        raise ValueError("`answers` must not be empty.")
    shares = preference_shares(answers, confidence)
    pairs, people = len({answer.name for answer in answers}), len({answer.person for answer in answers})
    decided = shares["decided"]
    about = f"Ours: {len(answers)} answers of {people} about {pairs} pairs, first result, second and neither."
    if decided.total:
        value, interval = _share_cell(decided)
        about += f" Of the {decided.total} that prefer one, {value} % ({interval}) prefer the first."
    about += f" Intervals: Wilson, {100 * confidence:g} %, answers taken as independent."
    return FiguresReport(table, [_share_cell(shares[choice]) for choice in CHOICES], data_name, about)


def _share_cell(share: Share) -> tuple[str, str]:
    return percent(share.value), interval_text(None if math.isnan(share.interval[0]) else share.interval)


def _overview(statistics: DatasetStatistics) -> list[str]:
    names, categories = len(statistics.names), len(statistics.categories)
    kinds = f"{names}({categories})" if 0 < categories < names else str(names or categories or "")
    return ["", "", kinds, f"{statistics.numbers()['images']:,}", ""]


def _split(statistics: DatasetStatistics) -> list[str]:
    numbers = statistics.numbers()
    counts = [numbers["images"], numbers["amodal"], len(statistics.categories), len(statistics.names)]
    return [f"{len(statistics.scenes):,}" if statistics.scenes else "", *(f"{count:,}" for count in counts)]


_STATISTICS: dict[str, Callable[[DatasetStatistics], list[str]]] = {"z24-1": _overview, "z24-2": _split}
