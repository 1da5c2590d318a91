"""labelme: shapes of all kinds, groups, whole masks, folders, broken files."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.data import AnnotationError, detect_format, iter_labelme, read_annotations, record_masks
from data_helpers import HEIGHT, WIDTH, box_mask, save_photo

SQUARE = [[1, 1], [5, 1], [5, 5], [1, 5]]


def shape(label="cup", points=SQUARE, kind="polygon", **fields):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **fields}


def picture(mask):
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(mask) * 255).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def save(folder, *shapes, name="a", **fields):
    path = folder / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"version": "6.3.1", "flags": {}, "shapes": list(shapes), "imagePath": f"{path.stem}.png"}
    path.write_text(json.dumps({**content, "imageHeight": HEIGHT, "imageWidth": WIDTH, **fields}))
    return path


def test_row(tmp_path):
    mask = shape("plate", [[4, 2], [6, 3]], "mask", mask=picture([[0, 1, 1], [1, 1, 1]]))
    (row,) = iter_labelme(save(tmp_path, shape(), mask))
    assert (row["image_id"], row["file_name"], row["source"], row["order_relations"]) == ("a", "a.png", "labelme", None)
    assert [(item["id"], item["name"]) for item in row["objects"]] == [(1, "cup"), (2, "plate")]
    plate = box_mask(4, 2, 3, 2)
    plate[2, 4] = False
    np.testing.assert_array_equal(record_masks(row)[0], [box_mask(1, 1, 4, 4), plate])


def test_circle(tmp_path):
    (row,) = iter_labelme(save(tmp_path, shape("ball", [[6, 6], [6, 2]], "circle")))
    assert abs(record_masks(row)[0].sum() - np.pi * 16) < 4


@pytest.mark.parametrize("whole", [{"label": "cup (amodal)"}, {"flags": {"amodal": True}}])
def test_pair(tmp_path, whole):
    pair = shape(points=[[0, 0], [8, 0], [8, 4], [0, 4]], group_id=1, **whole)
    (row,) = iter_labelme(save(tmp_path, shape(points=[[0, 0], [4, 0], [4, 4], [0, 4]], group_id=1), pair))
    assert [(item["name"], item["occlusion_rate"]) for item in row["objects"]] == [("cup", 0.5)]


def test_folder_with_photos(tmp_path):
    save(tmp_path, shape(), name="day/b")
    save(tmp_path, shape(), shape(points=[[8, 8], [10, 8], [10, 10]]))
    (tmp_path / "._a.json").write_bytes(b"\x00\x05\x16\x07")
    for name in ("a.png", "day/b.png"):
        save_photo(tmp_path / name)
    assert detect_format(tmp_path) == detect_format(tmp_path / "a.json") == "labelme"
    rows = list(read_annotations(tmp_path, tmp_path))
    assert [(row["image_id"], len(row["objects"])) for row in rows] == [("a", 2), ("day/b", 1)]
    assert rows[1]["image"].size == (WIDTH, HEIGHT)


def test_names_as_windows_writes_them(tmp_path):
    (row,) = iter_labelme(save(tmp_path, imagePath="photos\\a.png", name="x/a"), source="mine")
    assert (row["file_name"], row["source"]) == ("photos/a.png", "mine")
    (row,) = iter_labelme(save(tmp_path, imagePath="C:\\photos\\a.png"))
    assert row["file_name"] == "a.png"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (shape(kind="rectangle", points=[[0, 0], [2, 2]]), "'rectangle' of 2 points is no mask"),
        (shape(points=[[0, 0], [2, 2]]), "at least 3"),
        (shape(points=None), "points must be"),
        (shape(points=[["a", 1]]), "points must be numbers"),
        (shape(kind="mask", points=[[0, 0], [1, 1]], mask="*"), "PNG in base64"),
        (shape(kind="mask", points=[[0, 0], [1, 1]], mask=picture([[1]])), "1 x 1 pixels, its box 2 x 2"),
        (shape(kind="mask", points=[[15, 0], [16, 0]], mask=picture([[1, 1]])), "reaches beyond"),
        (shape(kind="mask", points=[[0, 0], [float("nan"), 0]], mask=picture([[1, 1]])), "finite"),
        (shape(group_id=[1]), "group_id"),
        ([], "expected an object"),
    ],
)
def test_bad_shapes_are_named(tmp_path, item, message):
    path = save(tmp_path, shape(), item)
    with pytest.raises(AnnotationError, match=f"file a.json shape 1: .*{message}"):
        list(iter_labelme(path))
    (row,) = iter_labelme(path, on_error="skip")
    assert len(row["objects"]) == 1


@pytest.mark.parametrize("text", ["", "[]", "{", '{"shapes": 1}'])
def test_broken_files_are_named(tmp_path, text):
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(AnnotationError, match=r"file b\.json"):
        list(iter_labelme(tmp_path))
    save(tmp_path, shape())
    assert len(list(iter_labelme(tmp_path, on_error="skip"))) == 1


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no JSON files"):
        iter_labelme(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        iter_labelme(tmp_path / "x")
