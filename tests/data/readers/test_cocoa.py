"""COCOA files: amodal and visible masks, fully hidden regions, the depth constraint, and bad records."""

import json

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from amodal_diffusion.data import AnnotationError, iter_cocoa, read_annotations, record_masks, record_order
from amodal_diffusion.masks import encode_rle
from data_helpers import HEIGHT, WIDTH, box, box_mask, cocoa, image, plain_rle, region, save_photo
from repository_helpers import SHARED, needs_shared


def read(content, **options):
    return list(iter_cocoa(content, **options))


def skip(content):
    bad = []
    rows = read(content, on_error="skip", bad_records=bad)
    return rows, [(record.id, record.reason) for record in bad]


def test_row():
    visible = box_mask(4, 0, 4, 8)
    content = cocoa(
        region(0, 0, 4, 8, name="cup ", isStuff=0, order=1),
        region(
            0, 0, 8, 8, isStuff="1", visible_mask=encode_rle(visible), invisible_mask=encode_rle(box_mask(0, 0, 4, 8))
        ),
        depth_constraint="1-2",
    )
    (row,) = read(content)
    modal, amodal = record_masks(row)
    np.testing.assert_array_equal(modal, [box_mask(0, 0, 4, 8), visible])
    np.testing.assert_array_equal(amodal, [box_mask(0, 0, 4, 8), box_mask(0, 0, 8, 8)])
    np.testing.assert_array_equal(record_order(row), [[0, 1], [-1, 0]])
    front, behind = row["objects"]
    assert (front["id"], front["name"], front["is_stuff"], front["category_id"]) == (1, "cup", False, None)
    assert (behind["id"], behind["is_stuff"], behind["occlusion_rate"]) == (2, True, 0.5)
    assert behind["modal_box"] == [4, 0, 4, 8] and behind["amodal_box"] == [0, 0, 8, 8]


def test_no_visible_mask_is_unoccluded():
    (row,) = read(cocoa(region(1, 1, 5, 5)))
    modal, amodal = record_masks(row)
    np.testing.assert_array_equal(modal, amodal)
    assert row["objects"][0]["occlusion_rate"] == 0


@pytest.mark.parametrize("empty", [encode_rle(np.zeros((HEIGHT, WIDTH))), plain_rle(np.zeros((HEIGHT, WIDTH))), []])
def test_fully_hidden_region(empty):
    (row,) = read(cocoa(region(0, 0, 8, 8), region(1, 1, 5, 5, visible_mask=empty), depth_constraint="1-2"))
    modal, amodal = record_masks(row)
    assert not modal[1].any() and amodal[1].sum() == 25
    hidden = row["objects"][1]
    assert (
        hidden["occlusion_rate"] == 1 and hidden["modal_box"] == [0, 0, 0, 0] and hidden["amodal_box"] == [1, 1, 5, 5]
    )


@pytest.mark.parametrize("segmentation", [[box(2, 3, 4, 5)], box(2, 3, 4, 5), encode_rle(box_mask(2, 3, 4, 5))])
def test_segmentation_may_be_flat_nested_or_run_lengths(segmentation):
    (row,) = read(cocoa({"segmentation": segmentation}))
    np.testing.assert_array_equal(record_masks(row)[1][0], box_mask(2, 3, 4, 5))
    assert row["objects"][0]["name"] is None


@pytest.mark.parametrize("text", ["", "  ", None])
def test_order_unknown_is_not_the_same_as_none(text):
    (row,) = read(cocoa(region(0, 0, 4, 4), region(5, 5, 4, 4), depth_constraint=text))
    if text is None:
        assert record_order(row) is None
    else:
        np.testing.assert_array_equal(record_order(row), np.zeros((2, 2)))


def test_cyclic_order_is_kept():
    regions = [region(index, 0, 4, 4) for index in range(3)]
    (row,) = read(cocoa(*regions, depth_constraint="1-2, 2-3 ,3-1,1-2"))
    np.testing.assert_array_equal(record_order(row), [[0, 1, -1], [-1, 0, 1], [1, -1, 0]])


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("x", "depth_constraint 'x' is not of the form '1-2'"),
        ("1-", "is not of the form"),
        ("-1-2", "is not of the form"),
        ("1-2-3", "is not of the form"),
        ("", "is not of the form"),
        ("1-9", "depth_constraint '1-9' must name two different objects of the 3"),
        ("0-1", "must name two different objects"),
        ("2-2", "must name two different objects"),
        ("3-1", "contradicts an earlier relation"),
    ],
)
def test_bad_depth_constraint_costs_only_itself(part, reason):
    content = cocoa(*[region(index, 0, 4, 4) for index in range(3)], depth_constraint=f"1-3,{part},2-3")
    with pytest.raises(AnnotationError, match=f"annotation 5: .*{reason}"):
        read(content)
    (row,), bad = skip(content)
    assert len(bad) == 1 and reason in bad[0][1]
    assert row["order_relations"] == [{"front": 0, "behind": 2}, {"front": 1, "behind": 2}]


def test_depth_constraint_of_another_type():
    (row,), bad = skip(cocoa(region(0, 0, 4, 4), depth_constraint=[[1, 2]]))
    assert bad == [("annotation 5", "depth_constraint must be a string such as '1-2,1-3', got [[1, 2]]")]
    assert record_order(row) is None and len(row["objects"]) == 1


@pytest.mark.parametrize(
    ("bad_region", "reason"),
    [
        (region(40, 0, 4, 4), "segmentation has no pixel inside"),
        ({"name": "x"}, "must be polygons or run lengths, got NoneType"),
        ({"segmentation": [1, 1, 2, 2]}, "polygon 0 has 2 points"),
        (region(0, 0, 4, 4, visible_mask={"size": [HEIGHT, WIDTH], "counts": "0"}), "counts cover 0 pixels"),
        (region(0, 0, 4, 4, invisible_mask=encode_rle(box_mask(0, 0, 1, 1))), "invisible_mask without visible_mask"),
        (region(0, 0, 4, 4, isStuff="maybe"), "isStuff must be an integer, got 'maybe'"),
        (7, "expected an object, got int"),
    ],
)
def test_bad_region_takes_only_its_relations_along(bad_region, reason):
    content = cocoa(region(0, 0, 4, 4), bad_region, region(2, 0, 4, 4), depth_constraint="1-2,2-3,1-3")
    with pytest.raises(AnnotationError, match=f"annotation 5 region 2: .*{reason}"):
        read(content)
    (row,), bad = skip(content)
    assert [record_id for record_id, _ in bad] == ["annotation 5 region 2"]
    assert [item["id"] for item in row["objects"]] == [1, 3]
    np.testing.assert_array_equal(record_order(row), [[0, 1], [-1, 0]])


def test_annotations_of_any_order_none_and_two():
    first = cocoa(region(0, 0, 4, 4))["annotations"][0]
    content = {
        "images": [image(1), image(2), image(3)],
        "annotations": [first | {"id": 8, "image_id": 3}, first, first | {"id": 9}, first | {"id": 7, "regions": None}],
    }
    rows, bad = skip(content)
    assert [(row["image_id"], len(row["objects"])) for row in rows] == [("1", 1), ("1", 1), ("2", 0), ("3", 1)]
    assert rows[2]["order_relations"] is None
    assert bad == [("annotation 7", "regions must be a list, got NoneType")]


def test_empty_regions():
    (row,) = read(cocoa())
    assert row["objects"] == [] and row["order_relations"] == []
    assert record_order(row).shape == (0, 0)


def test_annotation_without_id():
    content = cocoa(region(0, 0, 4, 4))
    del content["annotations"][0]["id"]
    assert len(read(content)[0]["objects"]) == 1


def test_photos(tmp_path):
    save_photo(tmp_path / "1.png")
    dataset = read_annotations(cocoa(region(0, 0, 4, 4)), tmp_path, source="mine")
    assert dataset[0]["image"].size == (WIDTH, HEIGHT) and dataset[0]["source"] == "mine"


@needs_shared
def test_real_file_equals_its_source():
    path = SHARED / "amodal_gt" / "annotations.json"
    source = json.loads(path.read_text())
    rows = read_annotations(path, SHARED / "amodal_gt" / "images").remove_columns("image").to_list()
    assert [row["image_id"] for row in rows] == [str(entry["id"]) for entry in source["images"]]
    assert sum(len(row["objects"]) for row in rows) == 84
    assert sum(item["occlusion_rate"] > 0 for row in rows for item in row["objects"]) == 47
    for row, annotation in zip(rows, source["annotations"], strict=True):
        modal, amodal = record_masks(row)
        for index, expected in enumerate(annotation["regions"]):
            segmentation = expected["segmentation"]
            if isinstance(segmentation, list):
                (segmentation,) = mask_utils.frPyObjects([segmentation], row["height"], row["width"])
            np.testing.assert_array_equal(amodal[index], mask_utils.decode(segmentation))
            visible = expected.get("visible_mask", segmentation)
            np.testing.assert_array_equal(modal[index], mask_utils.decode(visible))
            assert row["objects"][index]["occlusion_rate"] == pytest.approx(float(expected["occlude_rate"]), abs=0.02)
        order = record_order(row)
        assert (order == 1).sum() == len(annotation["depth_constraint"].split(","))
        for pair in annotation["depth_constraint"].split(","):
            front, behind = (int(number) - 1 for number in pair.split("-"))
            assert order[front, behind] == 1 and order[behind, front] == -1
