"""Label Studio's export: brush and polygon regions, pairs, order, names of photos, broken files."""

import json

import numpy as np
import pytest

from amodal_diffusion.data import (
    AnnotationError,
    detect_format,
    iter_label_studio,
    read_annotations,
    record_masks,
    record_order,
)
from amodal_diffusion.data.readers.tools.brush_rle import encode_brush_rle
from amodal_diffusion.data.readers.tools.label_studio import photo_name
from data_helpers import HEIGHT, WIDTH, box_mask, save_photo


def brush(region, mask, label="cup", control="modal", **fields):
    value = {"format": "rle", "rle": encode_brush_rle(mask), "brushlabels": [label]}
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {
        "id": region,
        "type": "brushlabels",
        "from_name": control,
        "to_name": "image",
        "value": value,
        **size,
        **fields,
    }


def relation(first, second, *labels, direction="right"):
    return {"type": "relation", "from_id": first, "to_id": second, "direction": direction, "labels": list(labels)}


def task(*result, **fields):
    return {"id": 7, "data": {"image": "/data/upload/1/a.png"}, "annotations": [{"result": list(result)}], **fields}


def test_row_with_pair_and_order():
    seen, whole, front = box_mask(0, 0, 4, 4), box_mask(0, 0, 8, 4), box_mask(4, 0, 6, 6)
    (row,) = iter_label_studio(
        [
            task(
                brush("r1", seen), brush("r2", whole, control="amodal"), brush("r3", front, "plate"),
                relation("r1", "r2", "amodal"), relation("r1", "r3", "occludes", direction="left"),
                relation("r1", "r3", "beside"),
            )
        ]
    )  # fmt: skip
    assert (row["image_id"], row["file_name"], row["source"]) == ("7", "a.png", "annotations")
    assert [(item["name"], item["occlusion_rate"]) for item in row["objects"]] == [("cup", 0.5), ("plate", None)]
    np.testing.assert_array_equal(record_masks(row)[0], [seen, front])
    np.testing.assert_array_equal(record_order(row), [[0, -1], [1, 0]])


def test_polygons_in_percent_and_labels_of_their_own():
    polygon = {"points": [[0, 0], [25, 0], [25, 50], [0, 50]], "closed": True}
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    regions = [
        {"id": "p", "type": "polygon", "value": polygon, **size},
        {"id": "p", "type": "labels", "value": {**polygon, "labels": ["lamp"]}, **size},
        {"id": "c", "type": "choices", "value": {"choices": ["indoor"]}},
    ]
    (row,) = iter_label_studio([task(*regions)])
    assert [item["name"] for item in row["objects"]] == ["lamp"] and row["order_relations"] is None
    np.testing.assert_array_equal(record_masks(row)[0], [box_mask(0, 0, 4, 6)])


def test_cancelled_annotations_and_predictions():
    kept = {"result": [brush("r", box_mask(0, 0, 2, 2))]}
    cancelled = {"was_cancelled": True, "result": [brush("r", box_mask(0, 0, 9, 9))]}
    for fields in ({"annotations": [cancelled, kept]}, {"annotations": [cancelled], "predictions": [kept]}):
        (row,) = iter_label_studio([task(**fields)])
        assert record_masks(row)[0].sum() == 4


def test_found_by_its_look_with_photos(tmp_path):
    path = tmp_path / "export.json"
    path.write_text(json.dumps([task(brush("r", box_mask(0, 0, 2, 2))), task(id=8)]))
    save_photo(tmp_path / "a.png")
    assert detect_format(path) == "label-studio"
    rows = list(read_annotations(path, tmp_path))
    assert [len(row["objects"]) for row in rows] == [1, 0] and rows[0]["source"] == "export"
    with pytest.raises(AnnotationError, match="task 8: no region tells the size of the photo"):
        list(read_annotations(path))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"image": "/data/local-files/?d=photos/a%20b.jpg"}, "photos/a b.jpg"),
        ({"pic": "https://host/x/c.png"}, "x/c.png"),
        ({"image": "s3://bucket/x/c.png"}, "x/c.png"), ({"image": "c.png"}, "c.png"), ({}, ""), (None, ""),
    ],
)  # fmt: skip
def test_names_of_photos(data, name):
    assert photo_name(data) == name


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (brush("b", np.ones((2, 2))), "rle is of 16 values"),
        ({"id": "b", "type": "rectanglelabels", "value": {"x": 1}}, "'rectanglelabels' is no mask"),
        ({"id": "b", "type": "polygonlabels", "value": {"points": "x"}}, "points must be"),
        ({"id": "b", "type": "polygonlabels", "value": {"points": [[0, 0], [1, 1]]}}, "at least 3"),
    ],
)
def test_bad_regions_are_named(item, message):
    tasks = [task(brush("a", box_mask(0, 0, 2, 2)), item)]
    with pytest.raises(AnnotationError, match=f"task 7 region b: .*{message}"):
        list(iter_label_studio(tasks))
    (row,) = iter_label_studio(tasks, on_error="skip")
    assert len(row["objects"]) == 1


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, "expected a list of tasks"), ([1], "task at index 0: expected an object"),
        ([{"id": 1, "annotations": [{"result": 3}]}], "task 1: 'result' must be a list"), ([{"id": []}], "id must be"),
    ],
)  # fmt: skip
def test_broken_content(tasks, message):
    with pytest.raises(AnnotationError, match=message):
        list(iter_label_studio(tasks))


def test_broken_file(tmp_path):
    (tmp_path / "a.json").write_text("[{")
    with pytest.raises(AnnotationError, match=r"a\.json"):
        list(iter_label_studio(tmp_path / "a.json"))
