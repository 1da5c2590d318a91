"""Run lengths that do not fill their frame: each door that takes them refuses them, and says what they cover."""

import copy
import json

import pytest

from amodal_diffusion.annotation import AmodalAnnotator
from amodal_diffusion.data import ColumnMap, iter_cocoa, iter_columns, iter_cvat, read_annotations, record_masks
from amodal_diffusion.data.schema import decode_masks
from amodal_diffusion.interop import (
    label_studio_task,
    write_cocoa,
    write_cvat,
    write_d2sa,
    write_kins,
    write_label_studio,
)
from amodal_diffusion.io import read_object_masks
from amodal_diffusion.masks import decode_rle, decode_segmentation, encode_rle, to_mask_stack
from amodal_diffusion.masks.rle import segmentation_to_rle
from data_helpers import HEIGHT, WIDTH, box_mask, coco, coco_object, cocoa, region, write
from interop_helpers import kitchen_row
from pipeline_helpers import gap_filler

TALL = HEIGHT + 1
WRONG = {
    "short": segmentation_to_rle({"size": [2, 4], "counts": [2, 4, 2]}, 2, 4)["counts"],
    "one run": segmentation_to_rle({"size": [3, 3], "counts": [9]}, 3, 3)["counts"],
    "long": segmentation_to_rle({"size": [TALL, WIDTH], "counts": [5, TALL * WIDTH - 5]}, TALL, WIDTH)["counts"],
    "cut off": encode_rle(box_mask(2, 3, 9, 5))["counts"][:-1],
    "no code": "~~",
}


def row_with(mask, kind="modal_mask"):
    row = copy.deepcopy(kitchen_row())
    row["objects"][1][kind] = mask
    return row


def annotate(mask, folder):
    row = row_with(mask)
    (error,) = AmodalAnnotator(gap_filler())({name: [value] for name, value in row.items()})["error"]
    if error is not None:
        raise ValueError(error)


def columns(mask, folder):
    from datasets import Dataset

    rows = Dataset.from_list([{"masks": [mask], "height": HEIGHT, "width": WIDTH}])
    return list(iter_columns(rows, ColumnMap("masks", height="height", width="width")))


def visible(mask, folder):
    path = write(folder / "a.json", coco(coco_object(visible_mask=mask)))
    return read_annotations(path)


def cvat(mask, folder):
    """CVAT has run lengths of its own, with commas."""
    runs = "1,2" if mask["counts"] != WRONG["long"] else "1,400"
    text = f'<mask label="cup" left="1" top="1" width="3" height="4" rle="{runs}"/>'
    (folder / "a.xml").write_text(
        f'<annotations><image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">{text}</image></annotations>'
    )
    return list(iter_cvat(folder / "a.xml"))


DOORS = {
    "segmentation_to_rle": lambda mask, folder: segmentation_to_rle(mask, HEIGHT, WIDTH),
    "decode_rle": lambda mask, folder: decode_rle(mask),
    "decode_segmentation": lambda mask, folder: decode_segmentation(mask, HEIGHT, WIDTH),
    "decode_masks": lambda mask, folder: decode_masks([encode_rle(box_mask(0, 0, 1, 1)), mask], HEIGHT, WIDTH),
    "to_mask_stack": lambda mask, folder: to_mask_stack([mask]),
    "record_masks, visible": lambda mask, folder: record_masks(row_with(mask)),
    "record_masks, whole": lambda mask, folder: record_masks(row_with(mask, "amodal_mask")),
    "COCO": lambda mask, folder: read_annotations(write(folder / "a.json", coco(coco_object(segmentation=mask)))),
    "COCO, visible": visible,
    "COCOA": lambda mask, folder: list(iter_cocoa(cocoa({**region(0, 0, 4, 4), "segmentation": mask}))),
    "COCOA, visible": lambda mask, folder: list(iter_cocoa(cocoa(region(0, 0, 4, 4, visible_mask=mask)))),
    "columns": columns,
    "CVAT": cvat,
    "masks of a photo": lambda mask, folder: read_object_masks(
        write(folder / "a.json", [{"image_id": 1, "category_id": 1, "segmentation": mask, "score": 1.0}]),
        size=(HEIGHT, WIDTH),
    ),
    "annotator": annotate,
    "KINS": lambda mask, folder: write_kins([row_with(mask)], folder / "a.json"),
    "KINS, whole": lambda mask, folder: write_kins([row_with(mask, "amodal_mask")], folder / "a.json"),
    "COCOA out": lambda mask, folder: write_cocoa([row_with(mask)], folder / "a.json"),
    "D2SA out": lambda mask, folder: write_d2sa([row_with(mask)], folder / "a.json"),
    "CVAT out": lambda mask, folder: write_cvat([row_with(mask)], folder / "a.xml"),
    "Label Studio out": lambda mask, folder: write_label_studio([row_with(mask)], folder / "a.json"),
    "Label Studio task": lambda mask, folder: label_studio_task(row_with(mask, "amodal_mask")),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", WRONG)
def test_no_door_takes_them(door, kind, tmp_path):
    with pytest.raises(ValueError, match=r"cover|no compressed|not a compressed|has a run|negative run"):
        DOORS[door]({"size": [HEIGHT, WIDTH], "counts": WRONG[kind]}, tmp_path)


@pytest.mark.parametrize("door", [door for door in DOORS if door != "CVAT"])
def test_each_takes_right_ones(door, tmp_path):
    DOORS[door](encode_rle(box_mask(0, 0, 3, 4)), tmp_path)


def test_the_object_is_named():
    mask = {"size": [HEIGHT, WIDTH], "counts": WRONG["short"]}
    with pytest.raises(ValueError, match="visible mask of object 1: counts cover 8 pixels, the image has 192"):
        record_masks(row_with(mask))
    with pytest.raises(ValueError, match="whole mask of object 1: counts cover 8 pixels"):
        record_masks(row_with(mask, "amodal_mask"))
    with pytest.raises(ValueError, match=r"visible mask of object 1: must be compressed run lengths .* got None"):
        record_masks(row_with(None))


def test_what_a_writer_refuses_leaves_the_old_file(tmp_path):
    write_kins([kitchen_row()], tmp_path / "a.json")
    before = json.loads((tmp_path / "a.json").read_text())
    with pytest.raises(ValueError, match="image 7 object 2: visible mask: counts cover 8 pixels"):
        write_kins([row_with({"size": [HEIGHT, WIDTH], "counts": WRONG["short"]})], tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == before
