"""The page of the user study: blind sides, answers that are kept, pictures of a data set."""

import http.client
import json
import urllib.error
import urllib.request
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import asking
import preference
from amodal_diffusion.data import read_annotations
from amodal_diffusion.data.preferences import read_preferences
from amodal_diffusion.evaluation import METHODS
from data_helpers import cocoa_pairs
from repository_helpers import ROOT
from server_helpers import get, post, serving

COLORS = {"first": (200, 0, 0), "second": (0, 0, 200)}
NAMES = [f"{number}.png" for number in range(12)]


@pytest.fixture
def folders(tmp_path):
    for result, color in COLORS.items():
        (tmp_path / result).mkdir()
        for name in [*NAMES, f"{result} alone.png", "notes.txt"]:
            if name.endswith(".png"):
                Image.new("RGB", (8, 6), color).save(tmp_path / result / name)
    return tmp_path / "first", tmp_path / "second"


@pytest.fixture
def study(folders, tmp_path):
    return preference.Study(*folders, tmp_path / "answers.jsonl", seed=3)


def shown_at(url, person, name, side):
    """Which result's picture a person is shown."""
    reply = get(f"{url}/picture?person={person}&name={name}&side={side}")
    color = Image.open(BytesIO(reply)).convert("RGB").getpixel((2, 2))
    return {color: result for result, color in COLORS.items()}[color]


def test_answers_are_blind_and_kept(study, folders, tmp_path):
    """Who always prefers the red picture prefers the first, whatever side it is on, and a restart goes on."""
    sides = []
    with serving(preference.make_server(study)) as url:
        assert b"Which is better?" in get(url + "/") and b"class Asker" in get(url + "/page.js")
        state = json.loads(get(url + "/next?person=ann"))
        assert set(state) == {"done", "total", "name"} and (state["done"], state["total"]) == (0, 12)
        for _ in range(8):
            (side,) = [s for s in ("left", "right") if shown_at(url, "ann", state["name"], s) == "first"]
            (other,) = {"left", "right"} - {side}
            assert shown_at(url, "ann", state["name"], other) == "second"
            sides.append(side)
            state = post(url + "/answer", {"person": "ann", "name": state["name"], "side": side})
        again = post(url + "/undo", {"person": "ann"})
        assert again["done"] == 7
    assert set(sides) == {"left", "right"}
    with open(tmp_path / "answers.jsonl", "ab") as file:
        file.write(b'{"name": "0.png", "person": "ann", "cho')  # killed within a line
    renewed = preference.Study(*folders, tmp_path / "answers.jsonl", seed=3)
    with serving(preference.make_server(renewed)) as url:
        state = json.loads(get(url + "/next?person=ann"))
        assert state["done"] == 7
        while "name" in state:
            state = post(url + "/answer", {"person": "ann", "name": state["name"], "side": "none"})
        assert json.loads(get(url + "/next?person=bob"))["done"] == 0
    answers = read_preferences(tmp_path / "answers.jsonl")
    assert sorted(answer.name for answer in answers) == sorted(NAMES)
    assert sorted(answer.choice for answer in answers) == ["first"] * 7 + ["none"] * 5
    assert "7 of 12      58.3 %" in preference.summary(answers)
    assert "first, of those that prefer one       7 of 7      100.0 %" in preference.summary(answers)
    assert "0 of 0" in preference.summary([])


def test_people_share_the_pairs(folders, tmp_path):
    study = preference.Study(*folders, tmp_path / "answers.jsonl", people=1)
    for person in ("ann", "bob") * 6:
        study.answer(person, study.state(person)["name"], "left")
    assert len({answer.name for answer in study.file.answers()}) == 12
    assert "name" not in study.state("cleo") and study.state("ann")["total"] == 6


@pytest.mark.parametrize(
    ("path", "content", "named"),
    [
        ("/answer", {"person": "ann", "name": "9.jpg", "side": "left"}, "`name`"),
        ("/answer", {"person": "ann", "name": ["0.png"], "side": "left"}, "`name`"),
        ("/answer", {"person": "ann", "name": "0.png", "side": "up"}, "`side`"),
        ("/answer", {"person": "ann", "name": "0.png", "side": 1}, "`side`"),
        ("/answer", {"person": " ", "name": "0.png", "side": "left"}, "`person`"),
        ("/answer", {"person": {"ann": 1}, "name": "0.png", "side": "left"}, "`person`"),
        ("/answer", {"person": None, "name": "0.png", "side": "left"}, "`person`"),
        ("/answer", {"person": "\ud800", "name": "0.png", "side": "left"}, "`person`"),
        ("/answer", ["ann"], "JSON object"),
        ("/undo", {}, "`person`"),
        ("/picture?person=ann&name=../second/0.png&side=left", None, "../second/0.png"),
        ("/picture?person=ann&name=first%20alone.png&side=left", None, "first alone.png"),
        ("/picture?person=ann&name=0.png&side=up", None, "`side`"),
        ("/next?person=", None, "`person`"),
    ],
)
def test_what_is_wrong_is_refused_by_name(study, tmp_path, path, content, named):
    with serving(preference.make_server(study)) as url, pytest.raises(urllib.error.HTTPError) as caught:
        get(url + path) if content is None else post(url + path, content)
    assert caught.value.code == 400 and named in json.loads(caught.value.read())["error"]
    assert not (tmp_path / "answers.jsonl").exists()


@pytest.mark.parametrize("length", ["-1", "x", "", "65537", "9" * 5000, None])
def test_content_of_no_known_length_is_not_waited_for(study, length):
    with serving(preference.make_server(study)) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
        connection.putrequest("POST", "/undo")
        connection.putheader("Content-Type", "application/json")
        if length is not None:
            connection.putheader("Content-Length", length)
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 400 and b"Content-Length" in answer.read()
        connection.close()


def test_json_of_too_many_levels_is_refused(study):
    with serving(preference.make_server(study)) as url, pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(
            urllib.request.Request(url + "/undo", b"[" * 30000, {"Content-Type": "application/json"}), timeout=20
        )
    assert caught.value.code == 400 and b"must be JSON" in caught.value.read()


def test_texts_with_the_letters_of_nan_come_as_they_are():
    content = {"name": "NaN-01.png", "NaN": [float("nan"), (1.5, float("-inf"))], "left": 3}
    with serving(asking.make_server("preference.html", {"/next": lambda query: content}, {})) as url:
        found = json.loads(get(url + "/next"))
    assert found == {"name": "NaN-01.png", "NaN": [None, [1.5, None]], "left": 3}


def test_folders_without_pairs_are_refused(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must have pictures of the same names, and have none"):
        preference.Study(folders[0], tmp_path / "empty", tmp_path / "answers.jsonl")


def test_pictures_of_a_data_set_differ_by_the_method_alone(tmp_path):
    pairs = []
    for shift in (0, 4, 8):
        whole, front = np.zeros((2, 24, 48), bool)
        whole[4:20, 4:20], front[8:16, 10 + shift : 40] = True, True
        pairs.append((whole, front))
    dataset = read_annotations(cocoa_pairs(pairs))
    for name, method in (("truth", None), ("raw", METHODS["raw"])):
        assert preference.draw_objects(dataset, method, tmp_path / name) == 3
    assert preference.draw_objects(dataset, None, tmp_path / "some", limit=2, seed=1) == 2
    names = sorted(path.name for path in (tmp_path / "truth").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "raw").iterdir()) and len(names) == 3
    assert {path.name for path in (tmp_path / "some").iterdir()} < set(names)
    with pytest.raises(ValueError, match="--method 'y-axis' tells an order and completes no masks"):
        preference.draw_objects(dataset, METHODS["y-axis"], tmp_path / "order")
    for name in names:
        truth, raw = (np.asarray(Image.open(tmp_path / kind / name)) for kind in ("truth", "raw"))
        assert truth.shape == raw.shape and not np.array_equal(truth, raw)


def test_methods_are_named():
    assert preference.load_method("truth") is None
    assert preference.load_method("raw") is METHODS["raw"]
    with pytest.raises(ValueError, match="--true-box is for pipelines, got 'raw'"):
        preference.load_method("raw", true_box=True)


def test_wrong_calls_end_in_one_line(tmp_path, capsys, monkeypatch):
    rooms = ["draw", str(ROOT / "datasets" / "rooms-amodal"), "--method", "truth", "--output", str(tmp_path / "out")]
    for arguments, message in (
        (["tell", "gone.jsonl"], "preference.py: error: gone.jsonl does not exist"),
        ([*rooms, "--limit", "0"], "`limit` must be at least 1, got 0"),
        ([*rooms, "--min-rate", "0.999"], "no object has more than 0.999 of it hidden"),
        (["draw", "gone.json", "--method", "raw", "--output", "out"], "gone.json"),
        (["ask", "gone", "gone", "--answers", "a.jsonl"], "gone"),
    ):
        monkeypatch.setattr("sys.argv", ["preference.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            asking.run(preference.main)
        told = capsys.readouterr().err
        assert ended.value.code == 2 and message in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_command_tells(tmp_path, capsys):
    (tmp_path / "answers.jsonl").write_text('{"name": "a", "person": "ann", "choice": "second"}\n', "utf-8")
    with pytest.raises(FileNotFoundError, match="other.jsonl does not exist; `ask` writes it"):
        preference.main(["tell", str(tmp_path / "other.jsonl")])
    preference.main(["tell", str(tmp_path / "answers.jsonl")])
    assert "second                                1 of 1      100.0 %  (20.7–100.0)" in capsys.readouterr().out
