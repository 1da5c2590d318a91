"""CVAT's XML: polygons and masks, groups, whole masks, z-order, photos, broken files."""

import numpy as np
import pytest

from amodal_diffusion.data import (
    AnnotationError,
    detect_format,
    iter_cvat,
    read_annotations,
    record_masks,
    record_order,
)
from data_helpers import HEIGHT, WIDTH, box_mask, save_photo

CUP = '<polygon label="cup" points="1,1;5,1;5,5;1,5" z_order="0"/>'
PLATE = '<mask label="plate" rle="0,6" left="4" top="2" width="3" height="2" z_order="1"/>'
WHOLE = '<attribute name="amodal">true</attribute>'


def save(folder, *shapes, name="a.png", head="", **fields):
    path = folder / "annotations.xml"
    size = {"width": WIDTH, "height": HEIGHT, **fields}
    image = f'<image id="0" name="{name}" width="{size["width"]}" height="{size["height"]}">{"".join(shapes)}</image>'
    path.write_text(f'<?xml version="1.0"?>{head}<annotations><version>1.1</version>{image}</annotations>')
    return path


def test_row(tmp_path):
    (row,) = iter_cvat(save(tmp_path, '<tag label="kitchen"/>', CUP, PLATE))
    assert (row["image_id"], row["file_name"], row["source"]) == ("0", "a.png", "annotations")
    assert [(item["id"], item["name"], item["category_id"]) for item in row["objects"]] == [
        (1, "cup", None), (2, "plate", None),
    ]  # fmt: skip
    modal, amodal = record_masks(row)
    np.testing.assert_array_equal(modal, [box_mask(1, 1, 4, 4), box_mask(4, 2, 3, 2)])
    assert amodal is None
    np.testing.assert_array_equal(record_order(row), [[0, -1], [1, 0]])


def test_pair_of_one_group(tmp_path):
    seen = '<polygon label="cup" points="0,0;4,0;4,4;0,4" group_id="3"/>'
    whole = f'<polygon label="cup" points="0,0;8,0;8,4;0,4" group_id="3">{WHOLE}</polygon>'
    (row,) = iter_cvat(save(tmp_path, seen, whole))
    assert len(row["objects"]) == 1 and row["objects"][0]["occlusion_rate"] == 0.5 and row["order_relations"] is None


def test_found_by_its_look_with_photos(tmp_path):
    path = save(tmp_path, CUP)
    save_photo(tmp_path / "a.png")
    assert detect_format(path) == detect_format(tmp_path) == "cvat"
    for streaming in (False, True):
        (row,) = read_annotations(path, tmp_path, streaming=streaming)
        assert row["image"].size == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<box label="a" xtl="0" ytl="0" xbr="2" ybr="2"/>', "a box is no mask"),
        ('<polygon label="a" points="1,1;2"/>', "points must be"),
        ('<polygon label="a"/>', "points must be"),
        ('<polygon label="a" points="1,1;2,2"/>', "at least 3"),
        ('<polygon label="a" points="x,1;2,2;3,3"/>', "not a number"),
        ('<mask label="a" rle="0,5" left="0" top="0" width="3" height="2"/>', "covers 5 pixels, its box has 6"),
        ('<mask label="a" rle="0,-6,12" left="0" top="0" width="3" height="2"/>', "covers"),
        ('<mask label="a" rle="0,6" left="15" top="0" width="3" height="2"/>', "reaches beyond"),
        ('<mask label="a" rle="" left="0" top="0" width="3" height="2"/>', "rle must be an integer"),
        ('<mask label="a" rle="0,6" top="0" width="3" height="2"/>', "left must be an integer"),
        ('<polygon label="a" points="1,1;5,1;5,5" z_order="high"/>', "z_order must be an integer"),
    ],
)
def test_bad_shapes_are_named(tmp_path, shape, message):
    path = save(tmp_path, CUP, shape)
    with pytest.raises(AnnotationError, match=f"image 0 .* at index 1: .*{message}"):
        list(iter_cvat(path))
    found = []
    (row,) = iter_cvat(path, on_error="skip", bad_records=found)
    assert len(row["objects"]) == len(found) == 1


@pytest.mark.parametrize(
    "text",
    [
        "", "<annotations>", "no xml", "<other/>", "<annotations><track/></annotations>",
        '<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', '<?xml version="1.0" encoding="nothing"?><annotations/>',
    ],
)  # fmt: skip
def test_broken_files(tmp_path, text):
    path = tmp_path / "annotations.xml"
    path.write_text(text)
    with pytest.raises(AnnotationError, match="not readable as CVAT's XML"):
        list(iter_cvat(path))


def test_size_beyond_all_bounds(tmp_path):
    with pytest.raises(AnnotationError, match="image 0: height and width"):
        list(iter_cvat(save(tmp_path, CUP, width=10**9)))


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"annotations\.xml"):
        iter_cvat(tmp_path)


def test_no_images(tmp_path):
    path = tmp_path / "annotations.xml"
    path.write_text("<annotations/>")
    assert list(iter_cvat(path)) == []
