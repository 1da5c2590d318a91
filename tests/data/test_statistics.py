"""Statistics of a data set, and the command that tells them."""

import json

import pytest
from PIL import Image

from amodal_diffusion.cli.main import main
from amodal_diffusion.data import DatasetStatistics, read_annotations, save_parquet
from photo_helpers import write_photos


def row(name, *objects):
    items = [
        {"name": label, "category_id": category, "occlusion_rate": rate, "is_stuff": False, "is_crowd": False}
        for label, category, rate in objects
    ]
    return {"file_name": name, "objects": items, "order_relations": None, "source": "mp3d-amodal"}


ROWS = [
    row("a_1.jpg", ("chair", 3, 0.1), ("chair", 3, 0.1001), ("lamp", 28, 1.0)),
    row("a_2.jpg", ("office chair", 3, 0.0)),
    row("b_1.jpg", (None, None, None)),
]


def test_kinds_scenes_and_hidden_shares_are_counted():
    statistics = DatasetStatistics.of(ROWS, scene="^(.)_")
    assert statistics.names == {"chair": 2, "lamp": 1, "office chair": 1}
    assert statistics.categories == {3: 3, 28: 1}
    assert statistics.scenes == {"a": 2, "b": 1}
    assert statistics.hidden.counts == [1, 1, 0, 0, 0, 0, 0, 0, 0, 1]  # 10 % is in the first, all hidden in the last
    numbers = statistics.numbers()
    assert (numbers["images"], numbers["objects"], numbers["named"], numbers["categories"]) == (3, 5, 3, 2)
    assert (numbers["occluded"], numbers["hidden"], numbers["scenes"]) == (3, 1, 2)
    assert DatasetStatistics.of(ROWS).scenes == {}  # no folders
    assert DatasetStatistics.of([row("house/1.jpg"), row("house/2.jpg")]).scenes == {"house": 2}
    assert DatasetStatistics.of(ROWS, scene="nothing").scenes == {}


def test_what_is_rare_is_summed():
    statistics = DatasetStatistics.of(ROWS, scene=".")
    assert statistics.charts(most=1)["objects by name"] == {"chair": 2, "2 others": 2}
    text = statistics.to_text(most=1)
    assert "2 others" in text and "lamp" not in text and "10 to 20 %" in text
    assert statistics.charts(most=2)["objects by name"] == {"chair": 2, "office chair": 1, "lamp": 1}  # no "1 others"
    shown = statistics.charts(most=1, most_scenes=2)
    assert shown["photos by scene"] == {"a": 2, "b": 1} and len(shown["objects by name"]) == 2
    assert "objects by name" not in DatasetStatistics().to_text() and DatasetStatistics().charts() == {}


def test_a_bad_scene_is_named():
    with pytest.raises(ValueError, match=r"`scene` must be a regular expression, got '\('"):
        DatasetStatistics("(")


def test_the_command_writes_numbers_and_a_picture(tmp_path, capsys):
    path = write_photos(tmp_path / "photos", images=3)
    output, picture = tmp_path / "out" / "statistics.json", tmp_path / "bars.png"
    assert main(["dataset", "stats", str(path), "--output", str(output), "--picture", str(picture)]) == 0
    shown = capsys.readouterr().out
    assert "images" in shown and str(output) in shown and "thing" in shown
    found = json.loads(output.read_text())
    assert found["numbers"]["images"] == 3 and found["names"]["thing"] == found["numbers"]["objects"]
    assert sum(found["hidden_share"].values()) == found["numbers"]["occluded"] > 0
    assert Image.open(picture).width == 1000
    save_parquet(read_annotations(path, path.parent), tmp_path / "parquet")
    main(["dataset", "stats", str(tmp_path / "parquet"), "--split", "train"])
    assert capsys.readouterr().out == shown.split(str(output))[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "test"], "--split is of Parquet alone"),
        (["--scenes", "3"], "--scenes says how many the picture shows: it needs --picture"),
        (["--scene", "("], "must be a regular expression"),
        (["--picture", "bars.csv"], "bars.csv must end as a picture does, such as .png or .jpg, got '.csv'"),
        (["--format", "kins"], "annotation 1: segmentation must be"),
    ],
)
def test_wrong_options_are_named(tmp_path, capsys, arguments, message):
    path = write_photos(tmp_path, images=1)
    assert main(["dataset", "stats", str(path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_picture_has_as_many_scenes_as_wanted(tmp_path, capsys):
    """[Z24] draws all 90."""
    path, heights = write_photos(tmp_path / "photos", images=3), []
    content = json.loads(path.read_text())
    photo, objects = content["images"][0], [part for part in content["annotations"] if part["image_id"] == 1]
    content["images"] = [{**photo, "id": i, "file_name": f"{i}/0.png"} for i in range(1, 91)]
    content["annotations"] = [{**part, "id": i, "image_id": i} for i in range(1, 91) for part in objects[:1]]
    path.write_text(json.dumps(content))
    for number, scenes in enumerate(([], ["--scenes", "40"], ["--scenes", "all"])):
        picture = tmp_path / f"{number}.png"
        assert main(["dataset", "stats", str(path), "--picture", str(picture), *scenes]) == 0
        heights.append(Image.open(picture).height)
    bars = (heights[1] - heights[0]) / 20  # 20 and the others, 40 and the others, 90
    assert bars > 10 and heights[2] - heights[1] == pytest.approx(49 * bars, abs=40)
    for wrong in ("0", "many"):
        with pytest.raises(SystemExit):
            main(["dataset", "stats", str(path), "--scenes", wrong])
        assert 'expected a number of at least 1, or "all"' in capsys.readouterr().err
