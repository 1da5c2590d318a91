"""Data sets of another schema: a mapping of columns says where the masks are."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image, ImageDraw

from amodal_diffusion.data import AnnotationError, ColumnMap, iter_columns, open_dataset, record_masks
from amodal_diffusion.masks import encode_rle
from data_helpers import HEIGHT, WIDTH, box, box_mask, plain_rle, save_photo

FIRST, SECOND = box_mask(0, 0, 4, 4), box_mask(6, 2, 4, 8)
SIZE = {"height": HEIGHT, "width": WIDTH}
COLUMNS = ColumnMap("objects.segmentation", category="objects.category", height="height", width="width")


def picture(mask):
    return Image.fromarray(mask.astype(np.uint8) * 255)


def read(rows, columns, streaming=False, **options):
    dataset = rows if isinstance(rows, Dataset) else Dataset.from_list(rows)
    return list(iter_columns(dataset.to_iterable_dataset() if streaming else dataset, columns, **options))


def skip(rows, columns):
    bad = []
    found = read(rows, columns, on_error="skip", bad_records=bad)
    with pytest.raises(AnnotationError):
        read(rows, columns)
    return found, [(record.id, record.reason) for record in bad]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "masks",
    [
        [[box(0, 0, 4, 4)], [box(6, 2, 4, 8)]],
        [box(0, 0, 4, 4), box(6, 2, 4, 8)],
        [encode_rle(FIRST), encode_rle(SECOND)],
        [plain_rle(FIRST), plain_rle(SECOND)],
    ],
    ids=["polygons", "flat-polygons", "run-lengths", "plain-run-lengths"],
)
def test_lists_of_masks(masks, streaming):
    as_list = [{"segmentation": mask, "category": 3} for mask in masks]
    as_record = {"segmentation": masks, "category": [3, 3]}
    for objects in (as_list, as_record):
        (row,) = read([{"objects": objects, **SIZE}], COLUMNS, streaming, source="cups")
        modal, amodal = record_masks(row)
        np.testing.assert_array_equal(modal, [FIRST, SECOND])
        assert amodal is None and row["order_relations"] is None and "image" not in row
        assert (row["image_id"], row["file_name"], row["source"]) == ("0", "", "cups")
        assert [(item["id"], item["category_id"], item["is_crowd"]) for item in row["objects"]] == [
            (0, 3, False),
            (1, 3, False),
        ]


@pytest.mark.parametrize("streaming", [False, True])
def test_mask_images_and_photos(tmp_path, streaming):
    photo = save_photo(tmp_path / "cup.png")
    features = Features(
        image=ImageFeature(), masks=List(ImageFeature()), whole=List(ImageFeature()),
        kind=List(ClassLabel(names=["a", "b"])), crowd=List(Value("bool")), number=Value("int64"),
    )  # fmt: skip
    data = {
        "image": [str(photo)], "masks": [[picture(FIRST), picture(SECOND)]],
        "whole": [[picture(FIRST | SECOND), picture(SECOND)]], "kind": [[1, 0]], "crowd": [[False, True]],
        "number": [70],
    }  # fmt: skip
    columns = ColumnMap(
        "masks", amodal_masks="whole", image="image", category="kind", is_crowd="crowd", image_id="number"
    )
    dataset = Dataset.from_dict(data, features=features)
    (row,) = read(dataset, columns, streaming)
    modal, amodal = record_masks(row)
    np.testing.assert_array_equal(modal, [FIRST, SECOND])
    np.testing.assert_array_equal(amodal, [FIRST | SECOND, SECOND])
    assert [(item["name"], item["category_id"], item["is_crowd"]) for item in row["objects"]] == [
        ("b", 1, False),
        ("a", 0, True),
    ]
    assert (row["image_id"], row["file_name"], row["height"], row["width"]) == ("70", "cup.png", HEIGHT, WIDTH)
    assert row["image"]["path"] == str(photo) or row["image"]["bytes"] == photo.read_bytes()
    assert "image" not in read(dataset, columns, with_image=False)[0]


def test_label_maps():
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[FIRST], labels[SECOND] = 9, 200
    dataset = Dataset.from_dict({"label": [Image.fromarray(labels)]}, features=Features(label=ImageFeature()))
    (row,) = read(dataset, ColumnMap("label"))
    assert [item["id"] for item in row["objects"]] == [9, 200]
    np.testing.assert_array_equal(record_masks(row)[0], [FIRST, SECOND])


def test_unknown_parts():
    first, second = encode_rle(FIRST), encode_rle(SECOND)
    objects = [{"segmentation": first, "amodal": None}, {"segmentation": second, "amodal": second}]
    columns = ColumnMap("objects.segmentation", amodal_masks="objects.amodal")
    (row,) = read([{"objects": objects}], columns)
    assert [item["occlusion_rate"] for item in row["objects"]] == [None, 0]
    assert (row["height"], row["width"]) == (HEIGHT, WIDTH)  # as the run lengths say


def test_names_as_categories():
    objects = [{"segmentation": encode_rle(FIRST), "category": name} for name in (" cup ", "7", "")]
    (row,) = read([{"objects": objects, **SIZE}], COLUMNS)
    assert [(item["name"], item["category_id"]) for item in row["objects"]] == [("cup", None), (None, 7), (None, None)]


def test_bad_objects_are_named_and_the_rest_stays():
    masks = [[box(0, 0, 4, 4)], [[1, 1, 5, 5]], [box(50, 50, 2, 2)]]
    objects = [{"segmentation": mask, "category": 3} for mask in masks]
    rows, bad = skip([{"objects": objects, **SIZE}], COLUMNS)
    assert len(rows[0]["objects"]) == 1
    assert bad == [
        ("row 0 (image 0) object 1", "polygon 0 has 2 points, at least 3 are needed"),
        ("row 0 (image 0) object 2", "mask has no pixel inside the 12 x 16 image"),
    ]


def test_bad_rows_are_named_and_the_rest_stays():
    good = {"objects": {"segmentation": [encode_rle(FIRST)], "category": [1]}, **SIZE}
    lacking = {"objects": {"segmentation": [encode_rle(FIRST)], "category": [1, 2]}, **SIZE}
    rows, bad = skip([lacking, good | {"height": -1}, good], COLUMNS)
    assert [len(row["objects"]) for row in rows] == [0, 1]
    assert "objects.category: expected a list with an entry for each of the 1 masks, got 2" in bad[0][1]
    assert "height and width must be positive" in bad[1][1]


def test_bad_photos(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no photo")
    features = Features(image=ImageFeature(), masks=List(ImageFeature()))
    data = {"image": [str(tmp_path / "a.png"), None], "masks": [[picture(FIRST)], [picture(FIRST)]]}
    rows, bad = skip(Dataset.from_dict(data, features=features), ColumnMap("masks", image="image"))
    assert rows == []
    assert "the photo cannot be read" in bad[0][1] and "image: the photo is missing" in bad[1][1]


def test_masks_of_another_size_than_the_photo(tmp_path):
    features = Features(image=ImageFeature(), masks=List(ImageFeature()))
    data = {"image": [str(save_photo(tmp_path / "a.png", height=10))], "masks": [[picture(FIRST)]]}
    rows, bad = skip(Dataset.from_dict(data, features=features), ColumnMap("masks", image="image"))
    assert rows[0]["objects"] == [] and "mask is 12 x 16 (height x width), the image 10 x 16" in bad[0][1]


def test_a_frame_of_unknown_size():
    _, bad = skip([{"masks": [[box(0, 0, 4, 4)]]}], ColumnMap("masks"))
    assert "masks does not tell the size of the frame; name columns for image, or for height and width" in bad[0][1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            ColumnMap("objects.mask"),
            r"columns masks=objects\.mask: 'columns' has no such column, it has \['height'",
        ),
        (ColumnMap("objects.segmentation", category="kind"), "columns category=kind: .* has no such column"),
        (ColumnMap("objects.segmentation", image="height"), "columns image=height: .* has no photos in that column"),
    ],
)
def test_columns_that_are_not_there(columns, message):
    with pytest.raises(ValueError, match=message):
        read([{"objects": [{"segmentation": encode_rle(FIRST), "category": 1}], **SIZE}], columns)


def test_parse():
    assert ColumnMap.parse(["masks=a.b", "category=c"]) == ColumnMap("a.b", category="c")
    for pairs, message in (
        (["masks"], "must be of the form KEY=COLUMN"),
        (["masks="], "must be of the form KEY=COLUMN"),
        (["mask=a"], r"with a key of \['masks', .*got 'mask=a'"),
        (["masks=a", "masks=b"], "columns has 'masks' twice"),
        (["image=a"], "must say where the masks are"),
    ):
        with pytest.raises(ValueError, match=message):
            ColumnMap.parse(pairs)


def test_open_dataset(tmp_path, monkeypatch):
    path = tmp_path / "cups.parquet"
    Dataset.from_list([{"masks": [encode_rle(FIRST)]}]).to_parquet(path)
    for place in (path, tmp_path):
        (row,) = iter_columns(open_dataset(place, "train"), ColumnMap("masks"))
        np.testing.assert_array_equal(record_masks(row)[0], [FIRST])
    for place in (tmp_path / "nowhere.parquet", tmp_path / "no" / "where" / "at all"):
        with pytest.raises(FileNotFoundError, match="no such file"):
            open_dataset(place, "train")
    seen = {}
    monkeypatch.setattr("datasets.load_dataset", lambda *args, **options: seen.update(args=args, **options))
    open_dataset("user/cups", "val", config="big", revision="v1")
    assert seen == {"args": ("user/cups", "big"), "revision": "v1", "split": "val", "streaming": True}


def test_mask_images_are_told_apart_as_everywhere():
    from amodal_diffusion.data.readers.columns import _read_masks

    disk = Image.new("L", (80, 60))
    ImageDraw.Draw(disk).ellipse((20, 10, 60, 50), fill=255)
    soft = disk.resize((200, 150), Image.Resampling.BICUBIC)
    expected = np.asarray(soft) >= 128
    for value in (soft, np.asarray(soft), [soft], [np.asarray(soft)], np.asarray(soft)[None]):
        ((_, mask),) = _read_masks(value, "masks")
        np.testing.assert_array_equal(mask, expected)
    labels = np.zeros((60, 80), np.uint8)
    labels[10:30, 10:30], labels[20:50, 40:70] = 1, 2
    labels[52:56] = 255
    assert [number for number, _ in _read_masks(Image.fromarray(labels), "masks")] == [1, 2]
    with pytest.raises(ValueError, match="masks: a mask image has 2 labels"):
        _read_masks([labels], "masks")
