"""A scene and its cameras become a data set that reads back."""

import json

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.cli.ground_truth import CONVENTIONS, SCENE_FORMATS
from amodal_diffusion.cli.main import main
from amodal_diffusion.data import AnnotationError, DatasetStatistics, load_amodal_dataset, record_masks, rooms
from amodal_diffusion.data.rooms import read_colors
from amodal_diffusion.data.rooms.ground_truth import GroundTruthOptions, find_photo, write_ground_truth
from amodal_diffusion.data.rooms.view_rows import RowOptions, SceneStatistics, is_occluded
from room_helpers import box

pytest.importorskip("embreex")


def write_scene(folder):
    """A box before a box, and a floor."""
    lines, offset = [], 1
    for name, half, center in (("near box", 0.3, (0, 0, 3)), ("far box", 0.5, (0.4, 0, 5)), ("floor", 9, (0, 9.6, 0))):
        mesh = box(half=half, center=center)
        lines.append(f"o {name}")
        lines += [f"v {x} {y} {z}" for x, y, z in mesh.vertices]
        lines += ["f " + " ".join(str(index + offset) for index in face) for face in mesh.faces]
        offset += len(mesh.vertices)
    (folder / "scene.obj").write_text("\n".join(lines))
    poses = [np.eye(4)[:3], np.eye(4)[:3] + np.array([[0, 0, 0, 0.2], [0, 0, 0, 0], [0, 0, 0, 0]])]
    np.savetxt(folder / "poses.txt", np.concatenate(poses))
    return folder / "scene.obj", folder / "poses.txt"


OPTIONS = GroundTruthOptions(size=(64, 48), intrinsics=(60.0, 60.0))


def test_rendered_views_read_back(tmp_path):
    scene, poses = write_scene(tmp_path)
    written = write_ground_truth(scene, poses, tmp_path / "out", options=OPTIONS)
    rows = load_amodal_dataset(tmp_path / "out")
    assert len(rows) == 2
    row = rows[0]
    assert [obj["name"] for obj in row["objects"]] == ["near box", "far box"]
    modal, amodal = record_masks(row)
    assert (modal[0] == amodal[0]).all()
    assert (modal[1] == amodal[1] & ~amodal[0]).all()
    assert row["order_relations"] == [{"front": 0, "behind": 1}]
    assert row["image"].size == (64, 48)
    colors = read_colors(tmp_path / "out", "train", row["image_id"])
    assert set(colors.objects) == {1}  # the other one hides nothing of itself
    assert ((colors.paint(1, 48, 64)[..., 3] > 0) == amodal[1]).all()
    assert np.allclose(colors.depth[modal[0]], 2.7, atol=0.01)
    assert written.statistics["objects"] == 4
    assert "amodal masks and order are computed" in (tmp_path / "out" / "README.md").read_text()


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    scene, poses = write_scene(tmp_path)
    contents = []
    for name in ("a", "b"):
        written = write_ground_truth(scene, poses, tmp_path / name, options=OPTIONS)
        contents.append(
            [path.read_bytes() for path in sorted(written.folder.rglob("*")) if path.is_file() and path.suffix != ".md"]
        )
    assert contents[0] == contents[1]


def test_real_photos_are_found_by_name(tmp_path):
    scene, _ = write_scene(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 48), "red").save(tmp_path / "photos" / "one.png")
    frames = [{"file_path": "images/one", "transform_matrix": np.diag([1.0, -1, -1, 1]).tolist()}]
    content = {"w": 64, "h": 48, "fl_x": 60, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    write_ground_truth(scene, tmp_path / "transforms.json", tmp_path / "out", photos=tmp_path / "photos")
    (row,) = load_amodal_dataset(tmp_path / "out")
    assert row["file_name"] == "one.png"
    assert row["image"].getpixel((0, 0)) == (255, 0, 0)
    assert not (tmp_path / "out" / "layers").exists()


@pytest.mark.parametrize(
    ("pose", "size", "message"),
    [
        (
            [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3]],
            (64, 48),
            "camera 000000: the camera must be outside of objects, got one inside 'near box'",
        ),
        ([[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0]], (64, 48), "camera 000000: expected at least one object in view"),
    ],
)
def test_bad_views_are_raised_or_skipped(tmp_path, pose, size, message):
    scene, poses = write_scene(tmp_path)
    np.savetxt(poses, np.concatenate([np.array(pose, dtype=float), np.eye(4)[:3]]))
    with pytest.raises(AnnotationError, match=message):
        write_ground_truth(scene, poses, tmp_path / "out", options=OPTIONS)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
    bad = []
    write_ground_truth(scene, poses, tmp_path / "out", options=OPTIONS, on_error="skip", bad_records=bad)
    assert len(bad) == 1
    assert load_amodal_dataset(tmp_path / "out")["image_id"] == ["000001"]


def test_photos_of_another_size_or_none(tmp_path):
    scene, _ = write_scene(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (32, 48)).save(tmp_path / "photos" / "one.png")
    (tmp_path / "photos" / "two.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"no photo 'three' in"):
        find_photo(tmp_path / "photos", "three")
    with pytest.raises(ValueError, match=r"two.png is no picture"):
        find_photo(tmp_path / "photos", "two.png")
    with pytest.raises(ValueError, match=r"expected the name of a photo, got '../one.png'"):
        find_photo(tmp_path / "photos", "../one.png")
    frames = [{"file_path": "one.png", "transform_matrix": np.diag([1.0, -1, -1, 1]).tolist()}]
    (tmp_path / "t.json").write_text(json.dumps({"w": 64, "h": 48, "fl_x": 60, "frames": frames}))
    with pytest.raises(AnnotationError, match=r"photo one.png must be 64×48, got \(32, 48\)"):
        write_ground_truth(scene, tmp_path / "t.json", tmp_path / "out", photos=tmp_path / "photos")


def test_the_command(tmp_path, capsys):
    scene, poses = write_scene(tmp_path)
    arguments = [
        "ground-truth",
        str(scene),
        "--cameras",
        str(poses),
        "--output",
        str(tmp_path / "out"),
        "--size",
        "64",
        "48",
    ]
    arguments += ["--intrinsics", "60", "60", "--masks-only", "--with-stuff", "--limit", "1", "--split", "test"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine")
    assert main(arguments) == 2
    assert "README.md' exists; pass overwrite=True" in capsys.readouterr().err
    assert (tmp_path / "out" / "README.md").read_text() == "mine"
    (tmp_path / "out" / "README.md").unlink()
    assert main(arguments) == 0
    assert "images: 1" in capsys.readouterr().out
    (row,) = load_amodal_dataset(tmp_path / "out", "test")
    assert [obj["is_stuff"] for obj in row["objects"]] == [False, False, True]
    assert main(arguments) == 2
    assert "exists; pass overwrite=True" in capsys.readouterr().err
    assert main([*arguments, "--overwrite", "--occluded-only"]) == 0
    (row,) = load_amodal_dataset(tmp_path / "out", "test")
    assert all(is_occluded(100 * (1 - obj["occlusion_rate"]), 100) for obj in row["objects"])


def test_hidden_shares_are_counted_as_in_every_table():
    """Those of a card are those of `dataset stats`: closed above, of the objects that have a hidden part."""
    rates = [None, 0.0, 0.05, 0.1, 0.101, 0.25, 0.3, 0.999, 1.0]
    fields = {"name": "cup", "category_id": 1, "is_stuff": False, "is_crowd": False}
    items = [{"occlusion_rate": rate, **fields} for rate in rates]
    row = {"objects": items, "order_relations": None, "file_name": "1.jpg", "source": "rooms"}
    statistics = SceneStatistics()
    statistics.add(row)
    summary = statistics.summary()
    assert summary["objects by hidden share"] == DatasetStatistics.of([row]).to_dict()["hidden_share"]
    assert sum(summary["objects by hidden share"].values()) == summary["with a hidden part"] == 7
    assert summary["objects by hidden share"]["0 to 10 %"] == 2


def test_statistics_count_mutual_pairs_once():
    obj = {"occlusion_rate": 0.25, "name": "cup"}
    relations = [{"front": 0, "behind": 1}, {"front": 1, "behind": 0}]
    statistics = SceneStatistics()
    statistics.add({"objects": [obj, obj], "order_relations": relations})
    summary = statistics.summary()
    assert (summary["mutual"], summary["objects"], summary["objects by hidden share"]["20 to 30 %"]) == (1, 2, 2)
    assert summary["kept by [Z24]'s filter"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_area": 0}, "`min_area` must be at least 1, got 0"),
        ({"max_hidden": 2}, r"`max_hidden` must lie in \[0, 1\], got 2"),
    ],
)
def test_row_options(options, message):
    with pytest.raises(ValueError, match=message):
        RowOptions(**options)


def test_the_command_offers_what_there_is():
    assert CONVENTIONS == tuple(rooms.CONVENTIONS)
    assert SCENE_FORMATS == rooms.SCENE_FORMATS
