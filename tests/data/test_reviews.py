"""Two rounds of review: who is asked what, what survives a kill, how far people agree, what is accepted."""

import json
import re
import threading

import numpy as np
import pytest

from amodal_diffusion.cli.main import main
from amodal_diffusion.data import build_objects, convert_dataset, load_amodal_dataset
from amodal_diffusion.data.reviews import (
    Answer,
    ReviewFile,
    ReviewKey,
    accepted_keys,
    agreement,
    read_answers,
    review_keys,
)
from amodal_diffusion.masks.rle import encode_rle

KEYS = [ReviewKey("a", 0), ReviewKey("a", 1), ReviewKey("b", 0)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "reviews.jsonl"


def test_the_second_round_sees_what_others_accepted(path):
    reviews = ReviewFile(path, KEYS, control=0.0)
    for key, accepted in zip(KEYS, (True, False, True), strict=True):
        assert reviews.next("ann", 1) == key
        reviews.answer(key, 1, "ann", accepted)
    assert reviews.next("ann", 1) is None
    assert reviews.next("ann", 2) is None  # another person must
    assert reviews.progress(1) == (3, 3)
    assert reviews.progress(2) == (0, 2)
    reviews.answer(reviews.next("bob", 2), 2, "bob", True)
    reviews.answer(reviews.next("bob", 2), 2, "bob", False)
    assert reviews.next("bob", 2) is None
    assert accepted_keys(reviews.answers()) == {ReviewKey("a", 0)}
    assert accepted_keys(reviews.answers(), rounds=1) == {ReviewKey("a", 0), ReviewKey("b", 0)}


def test_controls_show_what_was_rejected(path):
    reviews = ReviewFile(path, KEYS, control=1.0)
    for key in KEYS:
        reviews.answer(key, 1, "ann", False)
    assert reviews.progress(2) == (0, 3)
    reviews.answer(KEYS[0], 2, "bob", True)
    assert accepted_keys(reviews.answers()) == set()  # both rounds must


def test_nobody_is_asked_what_another_looks_at(path):
    reviews = ReviewFile(path, [ReviewKey("a", index) for index in range(200)])
    seen, lock = [], threading.Lock()

    def work(name):
        while (key := reviews.next(name, 1)) is not None:
            reviews.answer(key, 1, name, True)
            with lock:
                seen.append(key)

    threads = [threading.Thread(target=work, args=(f"p{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted(reviews.keys)
    assert len(read_answers(path)) == 200
    fresh = ReviewFile(path.with_name("other.jsonl"), KEYS)
    assert fresh.next("ann", 1) != fresh.next("bob", 1)
    assert fresh.next("ann", 1) == KEYS[0]  # the page was loaded again


def test_undo_takes_the_last_answer_back(path):
    reviews = ReviewFile(path, KEYS)
    assert reviews.undo("ann", 1) is None
    reviews.answer(KEYS[0], 1, "ann", True)
    reviews.answer(KEYS[1], 1, "ann", True)
    assert reviews.undo("ann", 1) == KEYS[1]
    assert reviews.next("ann", 1) == KEYS[1]
    assert [answer.key for answer in read_answers(path)] == [KEYS[0]]
    reviews.answer(KEYS[0], 2, "bob", True)
    assert reviews.undo("ann", 1) is None  # bob went on from it


def test_what_was_cut_off_costs_one_answer(path):
    ReviewFile(path, KEYS).answer(KEYS[0], 1, "ann", True)
    with open(path, "ab") as file:
        file.write(b'{"round": 1, "person": "ann", "acc')
    reviews = ReviewFile(path, KEYS)
    assert reviews.next("ann", 1) == KEYS[1]
    reviews.answer(KEYS[1], 1, "ann", False)
    assert [(answer.key, answer.accepted) for answer in read_answers(path)] == [(KEYS[0], True), (KEYS[1], False)]
    lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
    assert [json.loads(line)["object"] for line in lines] == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accepted": "no"}, "`accepted` must be true or false, got 'no'"),
        ({"accepted": None}, "`accepted` must be true or false, got None"),
        ({"round": 3}, r"`round` must be one of \[1, 2\], got 3"),
        ({"round": True}, r"`round` must be one of \[1, 2\], got True"),
        ({"object": -1}, "`object` must be the index of an object, got -1"),
        ({"object": "0"}, "`object` must be the index of an object, got '0'"),
        ({"image_id": 1}, "`image_id` must be a text, got 1"),
        ({"person": " "}, "`person` must be a text, got ' '"),
        ({"person": ...}, "has no 'person' and is left out"),
    ],
)
def test_lines_that_are_no_answers_are_left_out_and_named(path, caplog, change, message):
    good = {"round": 1, "person": "ann", "accepted": True, "image_id": "a", "object": 0}
    bad = {name: value for name, value in {**good, "object": 1, **change}.items() if value is not ...}
    path.write_text("\n".join(map(json.dumps, (good, bad))), "utf-8")
    assert [answer.key for answer in read_answers(path)] == [KEYS[0]]
    (record,) = caplog.records
    assert record.message.startswith(f"{path}: line 2 ") and re.search(message, record.message)


def test_wrong_answers_are_refused(path):
    reviews = ReviewFile(path, KEYS)
    with pytest.raises(ValueError, match="person must be a name, got ' '"):
        reviews.next(" ", 1)
    with pytest.raises(ValueError, match=r"round must be one of \[1, 2\], got 3"):
        reviews.next("ann", 3)
    with pytest.raises(ValueError, match="key must be an object under review"):
        reviews.answer(ReviewKey("z", 0), 1, "ann", True)
    with pytest.raises(ValueError, match="is not asked of 'ann' in round 2"):
        reviews.answer(KEYS[0], 2, "ann", True)
    reviews.answer(KEYS[0], 1, "ann", True)
    with pytest.raises(ValueError, match="is not asked of 'bob' in round 1"):
        reviews.answer(KEYS[0], 1, "bob", False)
    with pytest.raises(ValueError, match="control must be from 0 to 1, got 2"):
        ReviewFile(path, KEYS, control=2)
    with pytest.raises(ValueError, match="keys must differ, got 1 twice"):
        ReviewFile(path, [KEYS[0], KEYS[0]])


def test_kappa():
    def both(pairs):
        keys = [ReviewKey("a", index) for index in range(len(pairs))]
        first = [Answer(key, 1, "ann", one) for key, (one, _) in zip(keys, pairs, strict=True)]
        return agreement(first + [Answer(key, 2, "bob", two) for key, (_, two) in zip(keys, pairs, strict=True)])

    # Cohen's example: 20 + 15 of 50 alike, 25 and 30 yes: observed 0.7, by chance 0.5.
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert both(pairs) == pytest.approx({"count": 50, "observed": 0.7, "kappa": 0.4})
    assert both([(True, True), (False, False)])["kappa"] == 1
    assert np.isnan(both([(True, True)])["kappa"])
    assert agreement([])["count"] == 0


def rows():
    """Two photos without files: a square that a bar hides in part."""
    modal, amodal, bar = (np.zeros((8, 8), dtype=bool) for _ in range(3))
    amodal[2:6, 2:6] = True
    bar[:, 4] = True
    modal = amodal & ~bar
    for name in ("1", "2"):
        items = [("square", modal, amodal), ("bar", bar, bar)]
        objects = []
        for index, (label, seen, whole) in enumerate(items):
            fields = {"id": index, "name": label, "category_id": None, "is_stuff": False, "is_crowd": False}
            objects.append({**fields, "modal_mask": encode_rle(seen), "amodal_mask": encode_rle(whole)})
        yield {
            "image_id": name,
            "file_name": "",
            "height": 8,
            "width": 8,
            "objects": build_objects(objects),
            "order_relations": [{"front": 1, "behind": 0}],
            "source": "mine",
        }


def test_objects_to_review():
    assert review_keys(rows()) == [ReviewKey("1", 0), ReviewKey("2", 0)]
    assert review_keys(rows(), min_rate=0.5) == []


def test_accepted_rows_are_written(tmp_path, path, capsys):
    convert_dataset({"test": rows()}, tmp_path / "data")
    reviews = ReviewFile(path, [ReviewKey("1", 0), ReviewKey("2", 0)])
    command = ["dataset", "accept", str(tmp_path / "data"), "--reviews", str(path), "--output", str(tmp_path / "out")]
    assert main(command) == 2
    assert "is no file" in capsys.readouterr().err
    reviews.answer(ReviewKey("1", 0), 1, "ann", True)
    reviews.answer(ReviewKey("2", 0), 1, "ann", True)
    assert main(command) == 2
    assert "accepts no object in 2 rounds" in capsys.readouterr().err
    reviews.answer(ReviewKey("2", 0), 2, "bob", True)
    assert main(command) == 0
    assert "1 images, 1 objects accepted" in capsys.readouterr().out
    (row,) = load_amodal_dataset(tmp_path / "out", "test")
    assert (row["image_id"], [item["name"] for item in row["objects"]]) == ("2", ["square"])
    assert row["order_relations"] == []
