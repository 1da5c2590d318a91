"""Cityscapes: instances as one PNG of labels."""

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.data import AnnotationError, detect_format, iter_cityscapes, read_annotations, record_masks
from data_helpers import HEIGHT, WIDTH, box_mask, save_photo

FRAME = "train/aachen/aachen_000000_000019"


@pytest.fixture
def fine(tmp_path):
    """A road, two cars, a group of people and a bicycle, as gtFine has them."""
    labels = np.full((HEIGHT, WIDTH), 7, dtype=np.uint16)
    for value, xywh in ((26000, (0, 0, 4, 4)), (26013, (4, 0, 4, 4)), (24, (8, 0, 2, 8)), (33001, (12, 2, 3, 3))):
        labels[box_mask(*xywh)] = value
    return save_labels(tmp_path, labels)


def save_labels(folder, labels, frame=FRAME):
    path = folder / "gtFine" / f"{frame}_gtFine_instanceIds.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)
    return folder / "gtFine"


def save_frame(folder, frame=FRAME, **options):
    path = folder / "leftImg8bit" / f"{frame}_leftImg8bit.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_photo(path, **options)
    return folder / "leftImg8bit"


def test_row(fine):
    (row,) = iter_cityscapes(fine)
    assert (row["image_id"], row["file_name"]) == (FRAME, f"{FRAME}_leftImg8bit.png")
    assert (row["height"], row["width"], row["source"], row["order_relations"]) == (HEIGHT, WIDTH, "cityscapes", None)
    assert [(item["id"], item["name"], item["category_id"], item["is_crowd"]) for item in row["objects"]] == [
        (24, "person", 24, True), (26000, "car", 26, False), (26013, "car", 26, False), (33001, "bicycle", 33, False),
    ]  # fmt: skip
    modal, amodal = record_masks(row)
    boxes = [(8, 0, 2, 8), (0, 0, 4, 4), (4, 0, 4, 4), (12, 2, 3, 3)]
    np.testing.assert_array_equal(modal, [box_mask(*xywh) for xywh in boxes])
    assert amodal is None


def test_photos_lie_at_the_same_path(fine, tmp_path):
    images = save_frame(tmp_path)
    assert detect_format(fine) == "cityscapes"
    for labels, photos in (
        (fine, images),
        (fine / "train", images / "train"),
        (fine / "train" / "aachen", images / "train/aachen"),
    ):
        (row,) = read_annotations(labels, photos)
        assert row["image"].size == (WIDTH, HEIGHT)
    (row,) = read_annotations(fine, images, streaming=True, source="streets")
    assert row["image"].size == (WIDTH, HEIGHT) and row["source"] == "streets"


def test_files_of_macos_are_passed_over(fine, tmp_path):
    images = save_frame(tmp_path)
    for folder in (fine, images):
        for path in list(folder.rglob("*.png")):
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    assert detect_format(fine) == "cityscapes"
    (row,) = read_annotations(fine, images)
    assert row["image"].size == (WIDTH, HEIGHT)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "._a_gtFine_instanceIds.png").write_bytes(b"\0\5\x16\7")
    assert detect_format(tmp_path / "empty") != "cityscapes"


def test_frames_are_sorted_and_one_without_instances_stays(fine, tmp_path):
    save_labels(tmp_path, np.zeros((4, 5), np.uint8), "train/aachen/aachen_000000_000001")
    assert [len(row["objects"]) for row in iter_cityscapes(fine)] == [0, 4]


def skipped(fine, images=None):
    bad = []
    assert list(iter_cityscapes(fine, images, on_error="skip", bad_records=bad)) == []
    ((record, reason),) = [(record.id, record.reason) for record in bad]
    with pytest.raises(AnnotationError):
        list(iter_cityscapes(fine, images))
    return record, reason


def test_bad_photos(fine, tmp_path):
    (tmp_path / "leftImg8bit").mkdir()
    record, reason = skipped(fine, tmp_path / "leftImg8bit")
    assert record == f"image {FRAME}" and "is missing" in reason
    record, reason = skipped(fine, save_frame(tmp_path, height=10))
    assert "is 10 x 16 (height x width), annotated 12 x 16" in reason


def test_bad_labels(tmp_path):
    name = f"labels {FRAME}_gtFine_instanceIds.png"
    record, reason = skipped(save_labels(tmp_path, np.zeros((4, 5, 3), np.uint8)))
    assert record == name and "must be one plane of whole numbers, got shape (4, 5, 3)" in reason
    (tmp_path / "gtFine" / f"{FRAME}_gtFine_instanceIds.png").write_bytes(b"no PNG")
    record, reason = skipped(tmp_path / "gtFine")
    assert record == name and "cannot be read" in reason


def test_folders_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder: .*nowhere"):
        iter_cityscapes(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no \*_instanceIds\.png"):
        iter_cityscapes(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="annotations must be a folder"):
        iter_cityscapes(tmp_path / "file")
