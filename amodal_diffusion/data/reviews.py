"""Reviews of a data set by people, as [Z24] had them: yes or no for each object, in two rounds.

Answers are lines of JSON in a file that is only ever appended to, see `json_lines`.
The second round is by other people and shows what the first accepted, and a share of what it rejected, by which the
agreement of both can be told.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .json_lines import append_json_line, read_json_lines, text_of

ROUNDS = (1, 2)
LEASE = 600.0
"""Seconds for which an object that somebody looks at is shown to nobody else."""


class ReviewKey(NamedTuple):
    """An object of a data set: the id of its row, and its index in the row's `objects`.

    Example:
        >>> ReviewKey(image_id="1", object=0).object
        0
    """

    image_id: str
    object: int


@dataclass(frozen=True)
class Answer:
    """What a person said of an object.

    Attributes:
        key: the object.
        round: 1 or 2.
        person: who said it.
        accepted: whether both of its masks are of good quality.

    Example:
        >>> Answer(ReviewKey("1", 0), round=1, person="ann", accepted=True).key.image_id
        '1'
    """

    key: ReviewKey
    round: int
    person: str
    accepted: bool


class ReviewFile:
    """The answers in a file, kept on disk and in memory; safe for several threads of one process.

    Args:
        path: JSON lines; made when the first answer comes.
        keys: the objects to review, in the order in which they are shown.
        control: share of what the first round rejected that the second sees too, 0 to 1.

    Raises:
        ValueError: an object that is given twice, or a share that is none.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     reviews = ReviewFile(Path(folder) / "reviews.jsonl", [ReviewKey("1", 0), ReviewKey("1", 1)])
        ...     key = reviews.next("ann", 1)
        ...     reviews.answer(key, 1, "ann", True)
        ...     reviews.next("ann", 1), reviews.next("bob", 2)
        (ReviewKey(image_id='1', object=1), ReviewKey(image_id='1', object=0))
    """

    def __init__(self, path: str | os.PathLike[str], keys: Sequence[ReviewKey], *, control: float = 0.1) -> None:
        if not 0 <= control <= 1:
            raise ValueError(f"control must be from 0 to 1, got {control}")
        if len(set(keys)) != len(keys):
            raise ValueError(f"keys must differ, got {len(keys) - len(set(keys))} twice")
        self.path, self.keys, self.control = Path(path), list(keys), control
        self._known = set(self.keys)
        self._lock = threading.RLock()
        self._leases: dict[tuple[int, ReviewKey], tuple[str, float]] = {}
        self._answers = {(answer.round, answer.key): answer for answer in read_answers(self.path)}

    def next(self, person: str, round: int) -> ReviewKey | None:  # noqa: A002 - the field's word
        """The next object for a person, kept for them a while; None where there is none.

        An object that they were shown and have not answered comes again first.

        Raises:
            ValueError: no name, or a round that is none.
        """
        _check_person(person, round)
        with self._lock:
            now = time.monotonic()
            mine = [key for (number, key), (who, _) in self._leases.items() if who == person and number == round]
            for key in (*mine[::-1], *self.keys):
                owner, until = self._leases.get((round, key), ("", 0.0))
                if (round, key) in self._answers or (owner not in ("", person) and until > now):
                    continue
                if self.is_due(key, person, round):
                    self._leases[round, key] = (person, now + LEASE)
                    return key
            return None

    def is_due(self, key: ReviewKey, person: str, round: int) -> bool:  # noqa: A002
        """Whether a round asks a person about an object: the second asks others, of what was accepted and controls."""
        if round == 1:
            return True
        first = self._answers.get((1, key))
        if first is None or first.person == person:
            return False
        return first.accepted or _share_of(key) < self.control

    def answer(self, key: ReviewKey, round: int, person: str, accepted: bool) -> None:  # noqa: A002
        """Keep an answer, on disk before in memory.

        Raises:
            ValueError: an object that is not reviewed, that this round does not ask this person about, or that another
                person has answered.
        """
        _check_person(person, round)
        with self._lock:
            if key not in self._known:
                raise ValueError(f"key must be an object under review, got {tuple(key)}")
            before = self._answers.get((round, key))
            if not self.is_due(key, person, round) or (before is not None and before.person != person):
                raise ValueError(f"object {tuple(key)} is not asked of {person!r} in round {round}")
            self._append({"round": round, "person": person, "accepted": bool(accepted)}, key)
            self._answers[round, key] = Answer(key, round, person, bool(accepted))
            self._leases.pop((round, key), None)

    def undo(self, person: str, round: int) -> ReviewKey | None:  # noqa: A002
        """Take a person's last answer of a round back, and return its object; None where there is none."""
        _check_person(person, round)
        with self._lock:
            given = [
                answer.key for answer in self._answers.values() if (answer.person, answer.round) == (person, round)
            ]
            if not given:
                return None
            key = given[-1]
            if round == 1 and (2, key) in self._answers:
                return None  # somebody else went on from it
            self._append({"round": round, "person": person, "undo": True}, key)
            del self._answers[round, key]
            self._leases[round, key] = (person, time.monotonic() + LEASE)
            return key

    def progress(self, round: int) -> tuple[int, int]:  # noqa: A002
        """Objects answered in a round, and those that it asks about so far."""
        with self._lock:
            done = sum(number == round for number, _ in self._answers)
            if round == 1:
                return done, len(self.keys)
            return done, sum(self.is_due(key, "", 2) for key in self.keys)

    def answers(self) -> list[Answer]:
        """All answers that stand."""
        with self._lock:
            return list(self._answers.values())

    def _append(self, entry: dict[str, Any], key: ReviewKey) -> None:
        append_json_line(
            self.path, {**entry, "image_id": key.image_id, "object": key.object, "time": round(time.time(), 3)}
        )


def _check_person(person: str, round: int) -> None:  # noqa: A002
    """Raise ValueError for an empty name or a round that is none."""
    if not person.strip():
        raise ValueError(f"person must be a name, got {person!r}")
    if round not in ROUNDS:
        raise ValueError(f"round must be one of {list(ROUNDS)}, got {round!r}")


def read_answers(path: str | os.PathLike[str]) -> list[Answer]:
    """Answers in a file that stand, the oldest first, without those that were taken back.

    Lines that are no answers are left out, and named in the log.

    Example:
        >>> read_answers("a file that does not exist")
        []
    """
    standing: dict[tuple[int, ReviewKey], Answer] = {}
    for key, number, answer in read_json_lines(path, _read_line):
        standing.pop((number, key), None)  # so that the newest is the last
        if answer is not None:
            standing[number, key] = answer
    return list(standing.values())


def _read_line(entry: dict[str, Any]) -> tuple[ReviewKey, int, Answer | None]:
    """The object, the round and the answer of a line; None takes the last one back."""
    index, number = entry["object"], entry["round"]
    if type(index) is not int or index < 0:
        raise ValueError(f"`object` must be the index of an object, got {index!r}")
    if type(number) is not int or number not in ROUNDS:
        raise ValueError(f"`round` must be one of {list(ROUNDS)}, got {number!r}")
    key, person = ReviewKey(text_of(entry, "image_id"), index), text_of(entry, "person")
    if entry.get("undo") is True:
        return key, number, None
    if not isinstance(entry["accepted"], bool):
        raise ValueError(f"`accepted` must be true or false, got {entry['accepted']!r}")
    return key, number, Answer(key, number, person, entry["accepted"])


def accepted_keys(answers: Iterable[Answer], rounds: int = 2) -> set[ReviewKey]:
    """Objects that every round up to `rounds` accepted.

    Example:
        >>> key = ReviewKey("1", 0)
        >>> accepted_keys([Answer(key, 1, "ann", True), Answer(key, 2, "bob", False)])
        set()
    """
    if rounds not in ROUNDS:
        raise ValueError(f"rounds must be one of {list(ROUNDS)}, got {rounds}")
    by_round: dict[int, set[ReviewKey]] = {number: set() for number in ROUNDS}
    for answer in answers:
        if answer.accepted:
            by_round[answer.round].add(answer.key)
    return set.intersection(*(by_round[number] for number in range(1, rounds + 1)))


def accepted_rows(rows: Iterable[Mapping[str, Any]], accepted: set[ReviewKey]) -> Iterator[dict[str, Any]]:
    """Rows with their accepted objects alone, and the relations between these; rows without any are left out.

    Example:
        >>> row = {"image_id": "1", "objects": ["cup", "box"], "order_relations": [{"front": 0, "behind": 1}]}
        >>> list(accepted_rows([row], {ReviewKey("1", 1)}))
        [{'image_id': '1', 'objects': ['box'], 'order_relations': []}]
    """
    for row in rows:
        kept = [index for index in range(len(row["objects"])) if ReviewKey(row["image_id"], index) in accepted]
        if not kept:
            continue
        places = {index: place for place, index in enumerate(kept)}
        relations = row["order_relations"]
        if relations is not None:
            relations = [
                {"front": places[relation["front"]], "behind": places[relation["behind"]]}
                for relation in relations
                if relation["front"] in places and relation["behind"] in places
            ]
        yield {**row, "objects": [row["objects"][index] for index in kept], "order_relations": relations}


def agreement(answers: Iterable[Answer]) -> dict[str, float]:
    """How far both rounds agree on the objects that both answered.

    Returns:
        `count` of these objects, `observed` share of equal answers, and Cohen's `kappa`: 1 for the same answers, 0 for
        what chance gives, NaN where there is no object or both gave the same answer to all.

    Example:
        >>> keys = [ReviewKey("1", index) for index in range(4)]
        >>> first = [Answer(key, 1, "ann", yes) for key, yes in zip(keys, (True, True, False, False))]
        >>> second = [Answer(key, 2, "bob", yes) for key, yes in zip(keys, (True, False, False, False))]
        >>> agreement(first + second)["kappa"]
        0.5
    """
    said: dict[int, dict[ReviewKey, bool]] = {number: {} for number in ROUNDS}
    for answer in answers:
        said[answer.round][answer.key] = answer.accepted
    both = sorted(said[1].keys() & said[2].keys())
    pairs = [(said[1][key], said[2][key]) for key in both]
    if not pairs:
        return {"count": 0, "observed": float("nan"), "kappa": float("nan")}
    observed = sum(one == other for one, other in pairs) / len(pairs)
    first, second = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    expected = first * second + (1 - first) * (1 - second)
    kappa = float("nan") if expected == 1 else (observed - expected) / (1 - expected)
    return {"count": len(pairs), "observed": observed, "kappa": kappa}


def review_keys(rows: Iterable[Mapping[str, Any]], min_rate: float = 0.0) -> list[ReviewKey]:
    """Objects with a known amodal mask of which more than `min_rate` is hidden, in the order of the rows.

    [Z24] reviews those of which area(amodal) > 1.2 · area(modal): 1/6 is hidden.

    Example:
        >>> review_keys([{"image_id": "1", "objects": [{"occlusion_rate": 0.5}, {"occlusion_rate": None}]}], 1 / 6)
        [ReviewKey(image_id='1', object=0)]
    """
    return [
        ReviewKey(row["image_id"], index)
        for row in rows
        for index, item in enumerate(row["objects"])
        if item["occlusion_rate"] is not None and item["occlusion_rate"] > min_rate
    ]


def _share_of(key: ReviewKey) -> float:
    """A number from 0 to 1 by which controls are drawn, the same each time."""
    digest = hashlib.sha256(f"{key.image_id}\n{key.object}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
