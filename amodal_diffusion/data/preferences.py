"""Which of two results people prefer, asked blind: pictures in pairs, in sides that chance draws, as [L20], Table 6.

Answers are lines of JSON in a file that is only ever appended to, see `json_lines`.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

from ..arguments.choices import check_choice
from ..arguments.numeric import check_integer, check_number
from .json_lines import append_json_line, read_json_lines, text_of

CHOICES = ("first", "second", "none")
"""The first result, the second, no preference."""


@dataclass(frozen=True)
class Preference:
    """What a person said of a pair of pictures.

    Attributes:
        name: of the pair.
        person: who said it.
        choice: of `CHOICES`.

    Example:
        >>> Preference("cup.png", person="ann", choice="first").choice
        'first'
    """

    name: str
    person: str
    choice: str


class PreferenceFile:
    """The answers in a file, kept on disk and in memory; safe for several threads of one process.

    Each person is asked once about each pair, those first about which fewest people were asked; among these, and for
    the sides, chance decides, by the seed.

    Args:
        path: JSON lines; made when the first answer comes.
        names: of the pairs.
        seed: of order and sides. Another seed asks the same questions in other sides.
        people: how many are asked about each pair; None for everybody who comes.

    Raises:
        TypeError: `people` that is no integer.
        ValueError: no pair, a pair that is given twice, or `people` below 1.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     preferences = PreferenceFile(Path(folder) / "answers.jsonl", ["cup.png"])
        ...     name = preferences.next("ann")
        ...     preferences.answer(name, "ann", "first")
        ...     name, preferences.next("ann"), preferences.next("bob")
        ('cup.png', None, 'cup.png')
    """

    def __init__(
        self, path: str | os.PathLike[str], names: Sequence[str], *, seed: int = 0, people: int | None = None
    ) -> None:
        if not names or len(set(names)) != len(names):
            raise ValueError(f"`names` must be at least one, and differ, got {len(names)}, {len(set(names))} distinct.")
        if people is not None:
            check_integer("people", people, 1)
        self.path, self.names, self.seed, self.people = Path(path), list(names), seed, people
        self._lock = threading.RLock()
        known = set(self.names)
        self._answers = {(a.person, a.name): a for a in read_preferences(self.path) if a.name in known}

    def next(self, person: str) -> str | None:
        """The next pair for a person; None where there is none.

        Raises:
            ValueError: no name of a person.
        """
        _check_person(person)
        with self._lock:
            asked = Counter(name for _, name in self._answers)
            due = [
                name
                for name in self.names
                if (person, name) not in self._answers and (self.people is None or asked[name] < self.people)
            ]
            return min(due, key=lambda name: (asked[name], self._chance(person, name, "order")), default=None)

    def sides(self, person: str, name: str) -> tuple[str, str]:
        """What a person sees at the left and at the right, "first" and "second" or the other way round."""
        return ("first", "second") if self._chance(person, name, "sides") < 0.5 else ("second", "first")

    def answer(self, name: str, person: str, choice: str) -> None:
        """Keep an answer, on disk before in memory.

        Raises:
            ValueError: a pair or a choice that is none.
        """
        _check_person(person)
        if name not in self.names:
            raise ValueError(f"`name` must be that of a pair, got {name!r}.")
        check_choice("choice", choice, CHOICES)
        with self._lock:
            self._append(name, person, choice=choice, left=self.sides(person, name)[0])
            self._answers[person, name] = Preference(name, person, choice)

    def undo(self, person: str) -> str | None:
        """Take a person's last answer back, and return its pair; None where there is none."""
        _check_person(person)
        with self._lock:
            given = [name for who, name in self._answers if who == person]
            if not given:
                return None
            self._append(given[-1], person, undo=True)
            del self._answers[person, given[-1]]
            return given[-1]

    def progress(self, person: str) -> tuple[int, int]:
        """Pairs that a person has answered, and those that they are asked about in all, as far as is known."""
        with self._lock:
            mine = {name for who, name in self._answers if who == person}
            asked = Counter(name for _, name in self._answers)
            due = [name for name in self.names if self.people is None or asked[name] < self.people or name in mine]
            return len(mine), len(due)

    def answers(self) -> list[Preference]:
        """All answers that stand."""
        with self._lock:
            return list(self._answers.values())

    def _append(self, name: str, person: str, **entry: str | bool) -> None:
        append_json_line(self.path, {"name": name, "person": person, **entry, "time": round(time.time(), 3)})

    def _chance(self, person: str, name: str, purpose: str) -> float:
        """A number from 0 to 1, the same each time."""
        digest = hashlib.sha256(f"{self.seed}\n{purpose}\n{person}\n{name}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48


def read_preferences(path: str | os.PathLike[str]) -> list[Preference]:
    """Answers in a file that stand, the oldest first, without those that were taken back.

    Lines that are no answers are left out, and named in the log.

    Example:
        >>> read_preferences("a file that does not exist")
        []
    """
    standing: dict[tuple[str, str], Preference] = {}
    for name, person, choice in read_json_lines(path, _read_line):
        standing.pop((person, name), None)  # so that the newest is the last
        if choice is not None:
            standing[person, name] = Preference(name, person, choice)
    return list(standing.values())


def _read_line(entry: dict[str, Any]) -> tuple[str, str, str | None]:
    """The pair, the person and the choice of a line; None takes the last one back."""
    name, person = text_of(entry, "name"), text_of(entry, "person")
    if entry.get("undo") is True:
        return name, person, None
    return name, person, check_choice("choice", entry["choice"], CHOICES)


@dataclass(frozen=True)
class Share:
    """A share of the answers.

    Attributes:
        count: answers of the kind.
        total: answers in all.
        interval: where the share lies, by Wilson's score, with the confidence asked for; NaN without an answer.

    Example:
        >>> Share(1, 4, (0.05, 0.70)).value
        0.25
    """

    count: int
    total: int
    interval: tuple[float, float]

    @property
    def value(self) -> float:
        """From 0 to 1; NaN without an answer."""
        return self.count / self.total if self.total else math.nan


def preference_shares(answers: Iterable[Preference], confidence: float = 0.95) -> dict[str, Share]:
    """Shares of `CHOICES` in all answers, and "decided", that of the first among the answers that prefer one.

    Intervals take the answers as independent, as those about different pairs are, and those of one person roughly.

    Raises:
        ValueError: a `confidence` that is not between 0 and 1.

    Example:
        >>> answers = [Preference(str(index), "ann", "first" if index < 6 else "second") for index in range(8)]
        >>> share = preference_shares(answers)["first"]
        >>> share.value, [round(end, 3) for end in share.interval]
        (0.75, [0.409, 0.929])
    """
    counts = Counter(answer.choice for answer in answers)
    parts = {choice: (counts[choice], counts.total()) for choice in CHOICES}
    parts["decided"] = (counts["first"], counts["first"] + counts["second"])
    return {name: Share(*part, wilson_interval(*part, confidence)) for name, part in parts.items()}


def wilson_interval(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a share by Wilson's score, which stays in [0, 1] and holds for few answers too.

    Returns:
        (low, high); NaN where `total` is 0.

    Raises:
        TypeError: a `confidence` that is no number.
        ValueError: a `confidence` that is not between 0 and 1, or a count that is not from 0 to `total`.

    Example:
        >>> [round(end, 3) for end in wilson_interval(0, 10)]
        [0.0, 0.278]
    """
    check_number("confidence", confidence, above=0, below=1)
    if not 0 <= count <= total:
        raise ValueError(f"`count` must be from 0 to `total`, got {count} of {total}.")
    if not total:
        return math.nan, math.nan
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, weight = count / total, z * z / total
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def _check_person(person: str) -> None:
    if not person.strip():
        raise ValueError(f"`person` must be a name, got {person!r}.")
