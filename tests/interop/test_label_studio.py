"""Label Studio: tasks round, as its own package decodes them; the interface; completions for a backend."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from amodal_diffusion.data import iter_label_studio, record_masks, record_order
from amodal_diffusion.data.readers.tools.brush_rle import encode_brush_rle
from amodal_diffusion.interop import complete_regions, label_studio_config, label_studio_task, write_label_studio
from interop_helpers import FakeSegmenter, kitchen_row
from pipeline_helpers import gap_filler


def test_round_trip(tmp_path):
    row = kitchen_row()
    assert write_label_studio([row, {**row, "objects": [], "order_relations": None}], tmp_path / "a.json") == [
        "plate", "cup & <saucer>", "object",
    ]  # fmt: skip
    back = next(iter_label_studio(tmp_path / "a.json"))
    assert [item["name"] for item in back["objects"]] == ["plate", "cup & <saucer>", "object"]
    for mine, theirs in zip(record_masks(row), record_masks(back), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(record_order(back), record_order(row))
    assert back["file_name"] == row["file_name"]
    assert len(json.loads((tmp_path / "a.json").read_text())) == 2


def test_a_name_that_looks_like_a_whole_mask():
    row = kitchen_row()
    objects = [{**item, "name": f"{item['name'] or 'spoon'} (amodal)"} for item in row["objects"]]
    (back,) = iter_label_studio([{"id": 1, **label_studio_task({**row, "objects": objects})}])
    assert [item["name"] for item in back["objects"]] == [item["name"] for item in objects]
    for mine, theirs in zip(record_masks(row), record_masks(back), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("photos", ["/data/local-files/?d=", "https://server/photos/", "s3://bucket/", ""])
@pytest.mark.parametrize("name", ["a/b.jpg", "a & b=c;d+e.jpg", "50%25 #1?.png", "😀 ünï\n.jpg", "tea://pot.jpg"])
def test_any_name_comes_back(photos, name):
    task = label_studio_task({**kitchen_row(), "file_name": name}, photos=photos)
    (row,) = iter_label_studio([{"id": 1, **task}])
    assert row["file_name"] == ("photos/" if "server" in photos else "") + name


def test_two_pieces_are_one_region():
    regions = [item for item in label_studio_task(kitchen_row())["predictions"][0]["result"] if "value" in item]
    assert len([item for item in regions if item["value"]["brushlabels"] == ["cup & <saucer>"]]) == 2  # modal, amodal


def test_as_the_package_decodes():
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    row = kitchen_row()
    regions = [item for item in label_studio_task(row)["predictions"][0]["result"] if "value" in item]
    modal, amodal = record_masks(row)
    for region, mask in zip(regions, [mask for pair in zip(modal, amodal, strict=True) for mask in pair], strict=True):
        size = (region["original_height"], region["original_width"], 4)
        np.testing.assert_array_equal(brush.decode_rle(region["value"]["rle"]).reshape(size)[:, :, 3] > 0, mask)


def test_as_the_package_encodes():
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    row = kitchen_row()
    modal, _ = record_masks(row)
    result = [
        {**drawn(str(number), mask), "value": {"format": "rle", "rle": brush.mask2rle(mask.astype(np.uint8) * 255)}}
        for number, mask in enumerate(modal)
    ]
    for region in result:
        region["value"]["brushlabels"] = ["cup"]
    (back,) = iter_label_studio([{"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": result}]}])
    np.testing.assert_array_equal(record_masks(back)[0], modal)


def test_interface():
    view = ElementTree.fromstring(label_studio_config(["cup & <saucer>", "plate", "plate"]))
    brushes = view.findall("BrushLabels")
    assert [brush.get("name") for brush in brushes] == ["modal", "amodal"]
    assert [label.get("value") for label in brushes[0]] == ["cup & <saucer>", "plate"]
    assert view.find("Image").get("value") == "$image"


def drawn(region, mask, **fields):
    value = {"format": "rle", "rle": encode_brush_rle(mask), "brushlabels": ["cup"]}
    size = {"original_width": mask.shape[1], "original_height": mask.shape[0]}
    return {"id": region, "type": "brushlabels", "from_name": "modal", "value": value, **size, **fields}


def test_completions():
    pipeline = gap_filler()
    result = [drawn("a", FakeSegmenter.masks[0]), drawn("b", FakeSegmenter.masks[1]), {"type": "choices", "value": {}}]
    made = complete_regions(pipeline, None, result)
    task = {"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": result + made}]}
    (row,) = iter_label_studio([task])
    expected = pipeline(None, FakeSegmenter.masks)
    modal, amodal = record_masks(row)
    np.testing.assert_array_equal(modal, FakeSegmenter.masks)
    np.testing.assert_array_equal(amodal, expected.amodal_masks)
    if (expected.order != 0).any():
        np.testing.assert_array_equal(record_order(row), expected.order)
    again = complete_regions(pipeline, None, [drawn("a", FakeSegmenter.masks[0], from_name="tag")])
    assert again[0]["from_name"] == "amodal" and again[0]["value"]["brushlabels"] == ["cup"]


def pieces(**fields):
    """A cup in two polygons, and a spoon that lies in it."""
    corners = {"a": (0, 0, 25, 50), "b": (50, 0, 100, 50), "c": (25, 50, 50, 100)}
    size = {"original_width": 16, "original_height": 12, "from_name": "modal"}
    return [
        {
            "id": region, "type": "polygonlabels", **size, **({"parentID": "a"} if region in fields else {}),
            "value": {
                "points": [[left, top], [right, top], [right, bottom], [left, bottom]],
                "polygonlabels": ["spoon" if region == "c" else "cup"],
            },
        }
        for region, (left, top, right, bottom) in corners.items()
    ]  # fmt: skip


@pytest.mark.parametrize("joined_by", ["outliner", "relation"])
def test_one_object_of_two_polygons(joined_by):
    result = pieces(b=True, c=True) if joined_by == "outliner" else pieces()
    if joined_by == "relation":
        result.append({"type": "relation", "from_id": "b", "to_id": "a", "labels": ["piece"]})
    assert (
        len(
            next(iter_label_studio([{"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": pieces()}]}]))[
                "objects"
            ]
        )
        == 3
    )
    (row,) = iter_label_studio([{"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": result}]}])
    assert [item["name"] for item in row["objects"]] == ["cup", "spoon"]
    modal, _ = record_masks(row)
    expected = np.zeros((12, 16), bool)
    expected[:6, :4] = expected[:6, 8:] = True
    np.testing.assert_array_equal(modal[0], expected)
    made = complete_regions(gap_filler(), None, result)
    assert [item["id"] for item in made if "id" in item] == ["a-amodal", "c-amodal"]
    task = {"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": result + made}]}
    (whole,) = iter_label_studio([task])
    np.testing.assert_array_equal(record_masks(whole)[0], modal)
    assert record_masks(whole)[1] is not None


def test_names_that_xml_cannot_hold():
    row = kitchen_row()
    row["objects"][0]["name"] = "a\x00b  c"
    view = ElementTree.fromstring(label_studio_config(["a\x00b  c"]))
    region = label_studio_task(row)["predictions"][0]["result"][0]
    assert region["value"]["brushlabels"] == [view.find("BrushLabels/Label").get("value")] == ["a\ufffdb c"]


def test_regions_of_two_photos():
    result = [drawn("a", np.ones((2, 2), bool)), drawn("b", np.ones((3, 2), bool))]
    with pytest.raises(ValueError, match="must be of one photo"):
        complete_regions(None, None, result)
