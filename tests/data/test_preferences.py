"""Preferences of people: who is asked what, which side, what stands in the file, intervals of shares."""

import math

import pytest

from amodal_diffusion.data.preferences import (
    Preference,
    PreferenceFile,
    preference_shares,
    read_preferences,
    wilson_interval,
)

NAMES = [f"{number}.png" for number in range(40)]


def test_everybody_is_asked_about_each_pair_once(tmp_path):
    preferences = PreferenceFile(tmp_path / "a.jsonl", NAMES)
    asked = {"ann": [], "bob": []}
    for person, names in asked.items():
        while (name := preferences.next(person)) is not None:
            names.append(name)
            preferences.answer(name, person, "first")
        assert preferences.progress(person) == (40, 40)
    assert sorted(asked["ann"]) == sorted(asked["bob"]) == sorted(NAMES)
    assert asked["ann"] != asked["bob"]  # in an order of their own


def test_sides_follow_the_seed(tmp_path):
    sides = {
        (seed, person): [PreferenceFile(tmp_path / "a", NAMES, seed=seed).sides(person, name)[0] for name in NAMES]
        for seed in (0, 1)
        for person in ("ann", "bob")
    }
    assert len({tuple(row) for row in sides.values()}) == 4
    assert all(8 <= row.count("first") <= 32 for row in sides.values())


def test_the_last_answer_of_a_person_is_taken_back(tmp_path):
    preferences = PreferenceFile(tmp_path / "a.jsonl", NAMES)
    assert preferences.undo("ann") is None
    preferences.answer("0.png", "ann", "first")
    preferences.answer("1.png", "bob", "second")
    assert preferences.undo("ann") == "0.png"
    assert preferences.answers() == read_preferences(tmp_path / "a.jsonl") == [Preference("1.png", "bob", "second")]


def test_lines_that_are_none_are_left_out_and_named(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '[1]\nnull\n{"name": 1}\n{"name": "a", "person": "p", "choice": ["first"]}\n{"name": "a", "p', "utf-8"
    )
    assert read_preferences(path) == []
    told = [record.message.removeprefix(f"{path}: ") for record in caplog.records]
    assert [line.split()[:2] for line in told] == [["line", number] for number in "12345"]
    assert told[2] == "line 3 is left out: `name` must be a text, got 1"
    assert told[3] == "line 4 is left out: `choice` must be one of 'first', 'second', 'none', got ['first']."
    PreferenceFile(path, ["a"]).answer("a", "ann", "none")
    assert read_preferences(path) == [Preference("a", "ann", "none")]


def test_intervals_of_wilson():
    """Against scipy.stats.binomtest(...).proportion_ci(method="wilson"), and at the ends."""
    assert wilson_interval(1522, 3260) == pytest.approx((0.44979427, 0.48402604), abs=1e-7)
    assert wilson_interval(0, 5)[0] == 0 and wilson_interval(5, 5)[1] == 1
    assert all(math.isnan(end) for end in wilson_interval(0, 0))
    wide, narrow = (wilson_interval(5, 10, confidence) for confidence in (0.99, 0.5))
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]
    shares = preference_shares([Preference(str(n), "ann", choice) for n, choice in enumerate(("first", "none"))])
    assert (shares["first"].value, shares["second"].value, shares["decided"].total) == (0.5, 0, 1)
    assert math.isnan(preference_shares([])["first"].value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: PreferenceFile(path, []), "`names` must be at least one"),
        (lambda path: PreferenceFile(path, ["a", "a"]), "got 2, 1 distinct"),
        (lambda path: PreferenceFile(path, ["a"], people=0), "`people` must be at least 1, got 0"),
        (lambda path: PreferenceFile(path, ["a"]).next(" "), "`person` must be a name"),
        (
            lambda path: PreferenceFile(path, ["a"]).answer("b", "ann", "first"),
            "`name` must be that of a pair, got 'b'",
        ),
        (
            lambda path: PreferenceFile(path, ["a"]).answer("a", "ann", "left"),
            "`choice` must be one of 'first', 'second'",
        ),
        (lambda path: wilson_interval(2, 1), "`count` must be from 0 to `total`, got 2 of 1"),
        (lambda path: preference_shares([], 1.0), r"`confidence` must lie in \(0, 1\), got 1.0"),
    ],
)
def test_what_is_wrong_is_named(call, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        call(tmp_path / "a.jsonl")


def test_whole_lines_survive_a_cut(tmp_path):
    path = tmp_path / "a.jsonl"
    preferences = PreferenceFile(path, NAMES)
    for name in NAMES:
        preferences.answer(name, "ann", "second")
    whole = path.read_bytes()
    for cut in range(len(whole) - 120, len(whole), 7):
        path.write_bytes(whole[:cut])
        assert len(read_preferences(path)) >= 38
        PreferenceFile(path, NAMES).answer(NAMES[-1], "bob", "first")
        assert Preference(NAMES[-1], "bob", "first") in read_preferences(path)
