"""COCO-flat files: what is read, and that every bad record is named and costs only itself."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from amodal_diffusion.data import AnnotationError, BadRecord, iter_coco, read_annotations, record_masks, record_order
from amodal_diffusion.masks import encode_rle
from data_helpers import HEIGHT, WIDTH, box, box_mask, coco, coco_object, image, plain_rle, save_photo, write
from repository_helpers import SHARED, needs_shared


def read(content, **options):
    return list(iter_coco(content, **options))


def skip(content, **options):
    """Rows, and the bad records as (id, reason)."""
    bad = []
    rows = read(content, on_error="skip", bad_records=bad, **options)
    return rows, [(record.id, record.reason) for record in bad]


def test_row():
    (row,) = read(coco(coco_object(9, iscrowd=0)), source="cups")
    assert row["image_id"] == "1" and row["file_name"] == "1.png" and row["source"] == "cups"
    assert (row["height"], row["width"]) == (HEIGHT, WIDTH)
    assert row["order_relations"] is None and record_order(row) is None
    (item,) = row["objects"]
    assert item["id"] == 9 and item["name"] == "cup" and item["category_id"] == 7
    assert not item["is_crowd"] and not item["is_stuff"]
    assert item["modal_box"] == [2, 3, 4, 5]
    assert item["amodal_mask"] is None and item["amodal_box"] is None and item["occlusion_rate"] is None
    modal, amodal = record_masks(row)
    np.testing.assert_array_equal(modal, box_mask(2, 3, 4, 5)[None])
    assert amodal is None


def test_polygons_of_one_object_are_united():
    (row,) = read(coco(coco_object(segmentation=[box(0, 0, 3, 3), box(10, 5, 4, 4), box(1, 1, 3, 3)])))
    expected = box_mask(0, 0, 3, 3) | box_mask(10, 5, 4, 4) | box_mask(1, 1, 3, 3)
    np.testing.assert_array_equal(record_masks(row)[0][0], expected)


@pytest.mark.parametrize("encode", [plain_rle, encode_rle], ids=["plain", "compressed"])
def test_crowd_run_lengths(encode):
    mask = np.random.default_rng(3).random((HEIGHT, WIDTH)) < 0.5
    (row,) = read(coco(coco_object(segmentation=encode(mask), iscrowd=1)))
    assert row["objects"][0]["is_crowd"]
    np.testing.assert_array_equal(record_masks(row)[0][0], mask)


def test_rows_follow_the_images_and_images_without_objects_stay():
    content = coco(coco_object(1, 3), coco_object(2, 8), coco_object(3, 3), images=[image(8), image(5), image(3)])
    rows = read(content)
    assert [row["image_id"] for row in rows] == ["8", "5", "3"]
    assert [[item["id"] for item in row["objects"]] for row in rows] == [[2], [], [1, 3]]
    assert record_masks(rows[1])[0].shape == (0, HEIGHT, WIDTH)


def test_empty_annotations():
    assert [row["objects"] for row in read(coco())] == [[]]
    dataset = read_annotations({"images": [], "annotations": []})
    assert len(dataset) == 0 and "objects" in dataset.column_names


def test_numbers_as_strings():
    segmentation = [[str(value) for value in box(2, 3, 4, 5)]]
    content = coco(
        coco_object("9", "1", category_id="7", segmentation=segmentation, iscrowd="1"),
        images=[image(1, height=str(HEIGHT), width=f"{WIDTH}.0")],
        categories=[{"id": "7", "name": "cup"}],
    )
    (row,) = read(content)
    assert row["objects"][0]["id"] == 9 and row["objects"][0]["name"] == "cup" and row["objects"][0]["is_crowd"]
    assert record_masks(row)[0].sum() == 20


def test_category_gaps():
    content = coco(
        coco_object(1, category_id=90),
        coco_object(2, category_id=3),
        coco_object(3),
        categories=[{"id": 90, "name": " cup "}],
    )
    assert [item["name"] for item in read(content)[0]["objects"]] == ["cup", None, None]
    del content["categories"], content["annotations"][0]["category_id"]
    assert [item["category_id"] for item in read(content)[0]["objects"]] == [None, 3, 7]


def test_lvis_names_photos_by_url():
    entry = image(coco_url="http://images.cocodataset.org/val2017/000000000009.jpg")
    del entry["file_name"]
    assert read(coco(images=[entry]))[0]["file_name"] == "val2017/000000000009.jpg"


def test_polygon_beyond_the_frame_is_clipped():
    (row,) = read(coco(coco_object(segmentation=[box(-3, -2, 8, 5)])))
    np.testing.assert_array_equal(record_masks(row)[0][0], box_mask(0, 0, 5, 3))
    assert row["objects"][0]["modal_box"] == [0, 0, 5, 3]


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([box(40, 3, 4, 5)], "no pixel inside the 12 x 16 image"),
        ([], "no pixel inside"),
        ([[1, 1, 5, 5]], r"polygon 0 has 2 points, at least 3 are needed"),
        ([box(1, 1, 2, 2), [1, 1, 5, 5, 3]], "polygon 1 must be a flat list"),
        ([[0.1, 0.2, 0.5, 0.2, 0.5, 0.6]], "shares of the sides"),
        ([[1, 1, 5, 5, 3]], "polygon 0 must be a flat list"),
        ([[1, 1, 5, float("nan"), 3, 3]], "polygon 0 has a coordinate that is NaN or infinite"),
        ([[1, 1, 5, None, 3, 3]], "NaN"),
        ([[1, 1, 5, "x", 3, 3]], "not a number"),
        ([box(0, 0, 1e9, 5)], "more than 10 frame sides outside"),
        ([[0, 0, 16, 12, 0, 12] * 9999], "outline of .* too long"),
        (None, "must be polygons or run lengths, got NoneType"),
        ("polygon", "must be polygons or run lengths, got str"),
        ({"size": [HEIGHT, WIDTH + 1], "counts": [HEIGHT * WIDTH]}, r"run lengths have size \[12, 17\]"),
        ({"size": [HEIGHT, WIDTH], "counts": [10, 20]}, "counts cover 30 pixels, the image has 192"),
        ({"size": [HEIGHT, WIDTH], "counts": [200, -8]}, "negative run"),
        ({"size": [HEIGHT, WIDTH], "counts": [1.5, 190.5]}, "flat list of integers"),
        ({"size": [HEIGHT, WIDTH], "counts": "~~~"}, "counts is not a compressed run-length code"),
        ({"size": [HEIGHT, WIDTH], "counts": "\ud800"}, "counts is not a compressed run-length code"),
        ({"size": [HEIGHT, WIDTH], "counts": "P" * 40 + "0"}, "run longer than any image"),
        ({"size": [HEIGHT, WIDTH]}, "counts must be a string or a list"),
    ],
)
def test_bad_mask_is_named_and_the_rest_stays(segmentation, reason):
    content = coco(coco_object(1), coco_object(2, segmentation=segmentation), coco_object(3))
    with pytest.raises(AnnotationError, match=rf"^annotations: annotation 2: .*{reason}"):
        read(content)
    (row,), bad = skip(content)
    assert [item["id"] for item in row["objects"]] == [1, 3]
    assert [record_id for record_id, _ in bad] == ["annotation 2"]


@pytest.mark.parametrize(
    ("annotation", "record", "reason"),
    [
        (coco_object(1), "annotation 1", "duplicate annotation id, again at index 1"),
        (coco_object(2, 77), "annotation 2", "image_id 77 is not among the images"),
        (coco_object(2, None), "annotation 2", "image_id must be an integer, got None"),
        (coco_object(2, category_id="cup"), "annotation 2", "category_id must be an integer, got 'cup'"),
        (coco_object(2, category_id=float("nan")), "annotation 2", "category_id must be an integer, got nan"),
        (coco_object(2**70), "annotation at index 1", "id must be an integer"),
        (coco_object(2, iscrowd=3), "annotation 2", "iscrowd must be 0 or 1, got 3"),
        ([1, 2], "annotation at index 1", "expected an object, got list"),
    ],
)
def test_bad_annotation(annotation, record, reason):
    (row,), ((found, message),) = skip(coco(coco_object(1), annotation))
    assert found == record and message.startswith(reason)
    assert [item["id"] for item in row["objects"]] == [1]


@pytest.mark.parametrize(
    ("entry", "record", "reason"),
    [
        (image(1), "image 1", "duplicate image id, first used by '1.png'"),
        (image(None), "image at index 1", "id must be an integer, got None"),
        (image(2, height=0), "image 2", "height and width must be positive, of at most"),
        (image(2, height=10**6, width=10**6), "image 2", "height and width must be positive, of at most"),
        (image(2, width="wide"), "image 2", "width must be an integer, got 'wide'"),
        ("photo.jpg", "image at index 1", "expected an object, got str"),
    ],
)
def test_bad_image(entry, record, reason):
    rows, ((found, message),) = skip(coco(coco_object(1), coco_object(2), images=[image(1), entry, image(3)]))
    assert found == record and message.startswith(reason)
    assert [row["image_id"] for row in rows] == ["1", "3"]
    assert len(rows[0]["objects"]) == 2


def test_objects_of_a_bad_image_are_not_named_one_by_one():
    rows, bad = skip(coco(coco_object(1, 2), coco_object(2, 1), images=[image(1), image(2, height="?")]))
    assert [record_id for record_id, _ in bad] == ["image 2"]
    assert len(rows) == 1


def test_bad_category():
    rows, bad = skip(
        coco(coco_object(1), categories=[{"id": 7, "name": "cup"}, {"id": 7, "name": "saucer"}, {"name": "x"}, 3])
    )
    assert [record_id for record_id, _ in bad] == ["category 7", "category at index 2", "category at index 3"]
    assert rows[0]["objects"][0]["name"] == "cup"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"images": [],\n "annotations": [1, }', r"broken JSON at line 2 column 21 \(character 35\)"),
        (b'{"images": [], "annotations": [', "broken JSON at line 1 column 32"),
        (b"", "broken JSON at line 1 column 1"),
        (b"[1]", "expected an object at the top level, got list"),
        (b'{"images": []}', "expected a list under 'annotations', got NoneType"),
        (b'{"annotations": [], "images": {}}', "expected a list under 'images', got dict"),
        (b'{"images": "\xff"}', "not UTF-8 text at byte 12"),
        (b"[" * 200_000, "JSON nested too deeply"),
    ],
)
def test_broken_file_is_never_skipped(tmp_path, text, message):
    path = tmp_path / "broken.json"
    path.write_bytes(text)
    with pytest.raises(AnnotationError, match=rf"broken\.json: file: {message}") as caught:
        iter_coco(path, on_error="skip")
    assert caught.value.record.file == str(path)


@pytest.mark.parametrize(
    "encode", [lambda t: b"\xef\xbb\xbf" + t, lambda t: t.replace(b"\n", b"\r\n")], ids=["bom", "crlf"]
)
def test_byte_order_mark_and_line_ends(tmp_path, encode):
    path = tmp_path / "file.json"
    path.write_bytes(encode(json.dumps(coco(coco_object()), indent=1).encode()))
    assert len(read(path)[0]["objects"]) == 1


def test_source_is_the_file_name(tmp_path):
    assert read(write(tmp_path / "cups_val.json", coco()))[0]["source"] == "cups_val"


def test_photos(tmp_path):
    save_photo(tmp_path / "1.png")
    (row,) = read_annotations(coco(coco_object()), tmp_path)
    assert row["image"].size == (WIDTH, HEIGHT)
    (plain,) = read(coco(coco_object()), images=tmp_path)
    assert plain["image"] == str(tmp_path / "1.png")


def test_photo_turned_by_exif_has_its_shown_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save_photo(tmp_path / "1.png", height=WIDTH, width=HEIGHT, exif=exif)
    (row,) = read_annotations(coco(coco_object()), tmp_path)
    assert row["image"].size == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda folder: None, "photo '1.png' is missing"),
        (lambda folder: (folder / "1.png").mkdir(), "photo '1.png' is missing"),
        (lambda folder: save_photo(folder / "1.png", height=10), "photo '1.png' is 10 x 16 .*, annotated 12 x 16"),
        (lambda folder: (folder / "1.png").write_bytes(b"not a photo"), "photo '1.png' cannot be read"),
    ],
)
def test_bad_photo(tmp_path, prepare, reason):
    prepare(tmp_path)
    save_photo(tmp_path / "2.png")
    content = coco(coco_object(1, 1), coco_object(2, 2), images=[image(1), image(2)])
    with pytest.raises(AnnotationError, match=f"image 1: {reason}"):
        read(content, images=tmp_path)
    rows, bad = skip(content, images=tmp_path)
    assert [row["image_id"] for row in rows] == ["2"] and len(bad) == 1


@pytest.mark.parametrize("absolute", [False, True])
def test_photo_outside_the_folder_is_refused(tmp_path, absolute):
    secret = save_photo(tmp_path / "secret.png")
    folder = tmp_path / "photos"
    folder.mkdir()
    name = str(secret) if absolute else "../secret.png"
    with pytest.raises(AnnotationError, match="leads out of the image folder"):
        read(coco(coco_object(), images=[image(file_name=name)]), images=folder)


def test_image_folder_must_be_there(tmp_path):
    with pytest.raises(NotADirectoryError, match="images must be a folder of photos"):
        read(coco(), images=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        iter_coco(tmp_path / "nowhere.json")


def test_options_are_checked():
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'skip', got 'ignore'"):
        iter_coco(coco(), on_error="ignore")
    with pytest.raises(ValueError, match=r"layout must be 'auto' or one of \['amodal', .*'coco', .*got 'yolo'"):
        iter_coco(coco(), layout="yolo")


def test_error_survives_the_arrow_writer_and_names_the_record(caplog):
    content = coco(coco_object(1), coco_object(2, segmentation=[[1, 2]]))
    with pytest.raises(AnnotationError) as caught:
        read_annotations(content)
    assert caught.value.record == BadRecord(
        "annotations", "annotation 2", "polygon 0 has 1 points, at least 3 are needed"
    )
    bad = []
    dataset = read_annotations(content, on_error="skip", bad_records=bad)
    assert bad == [caught.value.record] and str(bad[0]) in caplog.text
    assert [item["id"] for item in dataset[0]["objects"]] == [1]
    again = []
    read_annotations(content, on_error="skip", bad_records=again)
    assert again == bad  # a cache would have swallowed them


def test_changed_file_is_read_anew(tmp_path):
    path = write(tmp_path / "file.json", coco(coco_object(1)))
    assert len(read_annotations(path)[0]["objects"]) == 1
    write(path, coco(coco_object(1), coco_object(2)))
    assert len(read_annotations(path)[0]["objects"]) == 2


@pytest.mark.parametrize("field", ["visible_mask", "inmodal_seg"])
def test_layouts_with_amodal_masks(field):
    hidden = coco_object(1, segmentation=[box(0, 0, 8, 8)], **{field: encode_rle(box_mask(0, 0, 8, 6))})
    whole = coco_object(2, segmentation=[box(9, 0, 4, 4)])
    (row,) = read(coco(hidden, whole))
    modal, amodal = record_masks(row)
    np.testing.assert_array_equal(modal, [box_mask(0, 0, 8, 6), box_mask(9, 0, 4, 4)])
    np.testing.assert_array_equal(amodal, [box_mask(0, 0, 8, 8), box_mask(9, 0, 4, 4)])
    assert [item["occlusion_rate"] for item in row["objects"]] == [0.25, 0]
    (modal_only,) = read(coco(hidden, whole), layout="coco")
    assert record_masks(modal_only)[1] is None


def test_order_of_our_exports():
    relations = [
        {"front": 4, "behind": 2},
        {"front": 4, "behind": 3},
        {"front": 2, "behind": 4},
        {"front": 4, "behind": 9},
        5,
    ]
    content = coco(
        coco_object(2),
        coco_object(3, segmentation=[]),
        coco_object(4),
        images=[image(order_relations=relations), image(2, order_relations={})],
    )
    rows, bad = skip(content)
    assert rows[0]["order_relations"] == [{"front": 1, "behind": 0}]
    np.testing.assert_array_equal(record_order(rows[0]), [[0, -1], [1, 0]])
    assert [reason for record_id, reason in bad if record_id == "image 1"] == [
        "order_relations must have pairs of ids, got 5",
        "order_relations 2 before 4 contradicts an earlier relation of the same two objects",
        "order_relations 4 before 9 must name two different objects of the 3 that the image has",
    ]
    assert rows[1]["order_relations"] is None
    assert ("image 2", "order_relations must be a list, got dict") in bad


@needs_shared
@pytest.mark.parametrize(
    ("name", "images", "count", "crowd"),
    [
        ("coco_subset/instances.json", 549, 4760, 50),
        ("coco_person/instances.json", 1000, 1000, 0),
        ("mask_only/lvis_val_100.json", 91, 845, 0),
        pytest.param("mask_only/taco.json", 1485, 3680, 0, marks=pytest.mark.slow),
        pytest.param("mask_only/taco_unofficial.json", 3805, 7649, 0, marks=pytest.mark.slow),
        ("mask_only/coco_val2017_part.json", 253, 639, 0),
    ],
)
def test_real_files_equal_pycocotools(name, images, count, crowd):
    path = SHARED / name
    rows = read_annotations(path).to_list()
    reference = COCO(str(path))
    items = [(row, item) for row in rows for item in row["objects"]]
    assert (len(rows), len(items)) == (images, count)
    assert sum(item["is_crowd"] for _, item in items) == crowd
    for row, item in items:
        expected = reference.annToRLE(reference.anns[item["id"]])
        assert item["modal_mask"] == {"size": [row["height"], row["width"]], "counts": expected["counts"].decode()}


@pytest.mark.parametrize(
    ("fields", "modal", "amodal"),
    [
        ({"segmentation": "whole", "visible_segm": "part"}, "part", "whole"),
        ({"segmentation": "whole", "inmodal_mask": "part"}, "part", "whole"),
        ({"segmentation": "part", "amodal_segm": "whole"}, "part", "whole"),
        ({"amodal_mask": "whole", "visible_mask": "part"}, "part", "whole"),
        ({"amodal_segmentation": "whole", "modal_segmentation": "part"}, "part", "whole"),
        ({"a_segm": "whole", "i_segm": "part"}, "part", "whole"),
        ({"segmentation": "part", "occluded_area": 3, "visible_bbox": [0, 0, 1, 1]}, "part", None),
    ],
)
def test_names_of_other_data_sets(fields, modal, amodal, caplog):
    masks = {"part": encode_rle(box_mask(2, 3, 4, 5)), "whole": encode_rle(box_mask(2, 3, 9, 5))}
    entry = {key: masks.get(value, value) if isinstance(value, str) else value for key, value in fields.items()}
    content = {"images": [image()], "annotations": [{"id": 1, "image_id": 1, **entry}]}
    (item,) = next(iter(iter_coco(content)))["objects"]
    assert item["modal_mask"] == masks[modal] and item["amodal_mask"] == masks.get(amodal)
    assert not caplog.records


def test_fields_that_look_like_masks_and_are_not_read_are_named(caplog):
    content = coco(coco_object(1, amodal_outline=[[1, 2, 3, 4, 5, 6]]))
    assert next(iter(iter_coco(content)))["objects"][0]["amodal_mask"] is None
    assert "annotations have 'amodal_outline', which is not read" in caplog.text


def test_a_visible_mask_outside_of_the_whole_one_is_named(caplog):
    inside, outside = encode_rle(box_mask(2, 3, 3, 5)), encode_rle(box_mask(9, 1, 5, 2))
    content = coco(coco_object(4, visible_mask=inside), coco_object(5, visible_mask=outside))
    assert len(next(iter(iter_coco(content)))["objects"]) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "annotations: annotation 5: 10 of 10 pixels of the visible mask lie outside of the whole one"
    ]


def test_objects_without_an_id_get_free_ones_and_zero_is_a_category():
    content = coco(
        coco_object(None, category_id=0), coco_object(1, category_id=np.int64(1)), coco_object(None, category_id="0"),
        categories=[{"id": np.int32(0), "name": "person"}, {"id": 1.0, "name": "bicycle"}],
    )  # fmt: skip
    objects = next(iter(iter_coco(content)))["objects"]
    assert [item["id"] for item in objects] == [2, 1, 3]
    assert [(item["category_id"], item["name"]) for item in objects] == [(0, "person"), (1, "bicycle"), (0, "person")]


@pytest.mark.parametrize("number", [np.int64, np.float32, float, str, torch.tensor], ids=lambda kind: kind.__name__)
def test_numbers_of_any_kind(number):
    size = [number(HEIGHT), number(WIDTH)]
    rle = {"size": size, "counts": encode_rle(box_mask(2, 3, 4, 5))["counts"]}
    entry = {"id": number(1), "file_name": "a.png", "height": number(HEIGHT), "width": number(WIDTH)}
    thing = {
        "id": number(5),
        "image_id": number(1),
        "category_id": number(7),
        "segmentation": rle,
        "iscrowd": number(1),
    }
    (item,) = next(iter(iter_coco({"images": [entry], "annotations": [thing]})))["objects"]
    assert (item["id"], item["category_id"], item["is_crowd"]) == (5, 7, True)
    assert item["modal_mask"] == encode_rle(box_mask(2, 3, 4, 5))


@pytest.mark.parametrize("name", [r"a.png", r"sub\b.png", r"photos\a.png", "photos/a.png", r".\sub\b.png"])
def test_file_names_of_other_systems(tmp_path, name):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for file in ("a.png", "sub/b.png"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / file)
    row = next(iter(iter_coco(coco(images=[image(file_name=name)]), folder)))
    assert row["file_name"] in ("a.png", "sub/b.png") and (folder / row["file_name"]).is_file()


def test_a_bad_id_costs_its_object_alone_where_there_are_relations():
    content = coco(*(coco_object(index) for index in (1, 2, 3)))
    content["annotations"][0]["id"] = "nan"
    content["images"][0]["order_relations"] = [{"front": 2, "behind": 3}]
    bad = []
    (row,) = iter_coco(content, on_error="skip", bad_records=bad)
    assert [item["id"] for item in row["objects"]] == [2, 3] and len(bad) == 1
    assert row["order_relations"] == [{"front": 0, "behind": 1}]
