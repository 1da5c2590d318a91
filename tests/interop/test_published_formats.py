"""KINS, COCOA and D2SA files round through the readers; what they cannot hold is refused."""

import numpy as np
import pytest

from amodal_diffusion.data import detect_format, iter_annotations, record_masks, record_order
from amodal_diffusion.interop import TOOLS, export_dataset, write_cocoa, write_d2sa, write_kins
from interop_helpers import kitchen_row

WRITERS = {"kins": write_kins, "d2sa": write_d2sa, "cocoa": write_cocoa}
DETECTED = {"kins": "kins", "d2sa": "cocoa-cls", "cocoa": "cocoa"}


@pytest.mark.parametrize("name", WRITERS)
def test_round_trip(tmp_path, name):
    rows = [kitchen_row(), {**kitchen_row(), "image_id": "8", "objects": [], "order_relations": []}]
    WRITERS[name](rows, tmp_path / "a.json")
    assert detect_format(tmp_path / "a.json") == DETECTED[name]
    back, empty = iter_annotations(tmp_path / "a.json")
    assert (back["image_id"], back["file_name"], len(empty["objects"])) == ("7", "day 1/a.png", 0)
    names = [item["name"] for item in back["objects"]]
    assert sorted(names) == ["cup & <saucer>", "object", "plate"]
    at = [names.index(item["name"] or "object") for item in rows[0]["objects"]]
    for mine, theirs in zip(record_masks(rows[0]), record_masks(back), strict=True):
        np.testing.assert_array_equal(mine, theirs[at])
    np.testing.assert_array_equal(record_order(back)[np.ix_(at, at)], record_order(rows[0]))


def test_cocoa_goes_from_front_to_back(tmp_path):
    write_cocoa([kitchen_row()], tmp_path / "a.json")
    (back,) = iter_annotations(tmp_path / "a.json")
    assert [item["name"] for item in back["objects"]] == ["object", "cup & <saucer>", "plate"]


@pytest.mark.parametrize("name", WRITERS)
def test_unknown_order(tmp_path, name):
    WRITERS[name]([{**kitchen_row(), "order_relations": None}], tmp_path / "a.json")
    assert next(iter_annotations(tmp_path / "a.json"))["order_relations"] is None


@pytest.mark.parametrize("name", WRITERS)
def test_unknown_amodal_masks_are_named(tmp_path, name):
    row = kitchen_row()
    row["objects"][1]["amodal_mask"] = None
    with pytest.raises(ValueError, match="image 7 object 2: its amodal mask is unknown"):
        WRITERS[name]([row], tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


def test_ids_of_classes(tmp_path):
    row = kitchen_row()
    for item, category in zip(row["objects"], (24, 0, 24), strict=True):
        item["category_id"] = category
    with pytest.raises(ValueError, match="category id 24 is 'plate' and 'object'"):
        write_kins([row], tmp_path / "a.json")
    row["objects"][2]["name"] = "plate"
    write_kins([row], tmp_path / "a.json")
    (back,) = iter_annotations(tmp_path / "a.json")
    assert [item["category_id"] for item in back["objects"]] == [24, 0, 24]


@pytest.mark.parametrize("name", ["kins", "d2sa"])
def test_names_without_ids_have_classes_of_their_own(tmp_path, name):
    row = kitchen_row()
    row["objects"][2].update(category_id=1, name="spoon")  # the id that the first name without one would have
    WRITERS[name]([row], tmp_path / "a.json")
    (back,) = iter_annotations(tmp_path / "a.json")
    found = {item["name"]: item["category_id"] for item in back["objects"]}
    assert found == {"plate": 2, "cup & <saucer>": 3, "spoon": 1}


def test_tools(tmp_path):
    for tool in TOOLS:
        assert all(path.is_file() for path in export_dataset([kitchen_row()], tool, tmp_path / tool))
    with pytest.raises(ValueError, match="`tool` must be one of 'cocoa', 'cvat'"):
        export_dataset([], "vgg", tmp_path / "a")
