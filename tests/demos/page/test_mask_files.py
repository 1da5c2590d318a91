"""Masks that visitors bring as files."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.masks import encode_rle
from page.work.files import photos
from page.work.files.masks import add_mask_files, read_masks
from page.work.files.photos import with_photo
from page.work.marks import replace_mask
from page.work.session import PageError, Session


def test_masks_of_files(tmp_path, blank):
    first, second = np.zeros((2, 64, 96), np.uint8)
    first[5:20, 5:30], second[30:60, 40:90] = 255, 255
    Image.fromarray(first).save(tmp_path / "cup.png")
    Image.fromarray(second).save(tmp_path / "spoon.png")
    found, _ = add_mask_files(blank, [str(tmp_path / "cup.png"), str(tmp_path / "spoon.png")])
    assert [mark.name for mark in found.marks.present] == ["cup", "spoon"]
    assert (found.marks.present[1].mask == (second > 0)).all()

    Image.fromarray((first // 255 + second // 255 * 7).astype(np.uint8)).save(tmp_path / "labels.png")
    labels, _ = add_mask_files(blank, [str(tmp_path / "labels.png")])
    assert [mark.area for mark in labels.marks.present] == [15 * 25, 30 * 50]
    (tmp_path / "names.json").write_text(json.dumps({"1": "cup", "7": "spoon"}))
    named, _ = add_mask_files(blank, [str(tmp_path / "names.json"), str(tmp_path / "labels.png")])
    assert [mark.name for mark in named.marks.present] == ["cup", "spoon"]

    rle = encode_rle(second > 0)
    coco = {
        "images": [{"id": 1, "file_name": "test.png", "width": 96, "height": 64}],
        "categories": [{"id": 1, "name": "spoon"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": rle, "area": 1500,
                         "bbox": [40, 30, 50, 30]}],
    }  # fmt: skip
    (tmp_path / "masks.json").write_text(json.dumps(coco))
    read, _ = add_mask_files(blank, [str(tmp_path / "masks.json")])
    assert [(mark.name, mark.area) for mark in read.marks.present] == [("spoon", 1500)]


def test_masks_of_a_photo_that_was_scaled(tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "MAX_PIXELS", 5_000)
    session, _ = with_photo(Session(), Image.new("RGB", (200, 100)), "big")
    mask = np.zeros((100, 200), np.uint8)
    mask[:, 100:] = 255
    Image.fromarray(mask).save(tmp_path / "right.png")
    found, _ = read_masks(session, [tmp_path / "right.png"])
    assert found.masks.shape == (1, 50, 100) and found.masks[0, :, 50:].all() and not found.masks[0, :, :50].any()


def test_masks_choose_their_photo_and_crowds_stay_crowds(tmp_path, blank):
    masks = np.zeros((2, 64, 96), bool)
    masks[0, 10:40, 10:50] = masks[1, 20:60, 50:90] = True
    coco = {
        "images": [{"id": n, "file_name": f"val\\{n}.jpg", "width": 96, "height": 64} for n in (1, 2)],
        "annotations": [
            {"id": n + 1, "image_id": 2, "iscrowd": n, "segmentation": encode_rle(mask), "category_id": 0}
            for n, mask in enumerate(masks)
        ],
    }
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(coco))
    session = dataclasses.replace(blank, file_name="2.jpg")
    marked, note = add_mask_files(session, [str(path)])
    assert note == "" and [mark.is_crowd for mark in marked.marks.present] == [False, True]
    drawn = replace_mask(marked, marked.marks.present[1], masks[1] & (np.arange(96) < 80))
    assert [mark.is_crowd for mark in drawn.marks.present] == [False, True]
    with pytest.raises(PageError, match="lists no image named test.png|must choose one"):
        add_mask_files(dataclasses.replace(blank, file_name="test.png"), [str(path)])
    coco["images"] = coco["images"][1:]
    path.write_text(json.dumps(coco))
    _, note = add_mask_files(dataclasses.replace(blank, file_name="test.png"), [str(path)])
    assert note == r"masks.json has the masks of val\2.jpg, the photo is test.png"


def test_refused_mask_files(tmp_path, monkeypatch, blank):
    Image.new("L", (10, 10), 255).save(tmp_path / "small.png")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "text.png").write_text("{")
    cases = [
        ([], "Choose a COCO JSON"),
        (["small.png"], "mask in small.png is 10x10"),
        (["bad.json"], "bad.json is no valid JSON"),
        (["text.png"], "neither a COCO JSON nor a mask"),
        (["bad.json", "small.png"], "bad.json is no valid JSON"),
        (["bad.json", "small.png", "small.png"], "not both"),
        (["small.png"] * 65, "Up to 64 files"),
    ]
    for names, says in cases:
        with pytest.raises(PageError, match=says) as error:
            read_masks(blank, [tmp_path / name for name in names])
        assert str(tmp_path) not in str(error.value)
    monkeypatch.setattr(photos, "MAX_SOURCE_PIXELS", 50)
    with pytest.raises(PageError, match="too many pixels"):
        read_masks(blank, [tmp_path / "small.png"])
