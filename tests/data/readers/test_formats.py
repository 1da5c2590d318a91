"""KINS of both kinds, D2SA, COCOA-cls, BSDS-A, LVIS: which format a file has, and what its rows are."""

import json

import numpy as np
import pytest
from datasets import Dataset, IterableDataset

from amodal_diffusion.cli.main import main
from amodal_diffusion.data import (
    FILE_FORMATS,
    AnnotationError,
    amodal_features,
    detect_format,
    iter_annotations,
    open_annotations,
    read_annotations,
    record_masks,
    record_order,
)
from amodal_diffusion.data.readers import records
from amodal_diffusion.data.readers.json_arrays import read_json
from amodal_diffusion.masks import encode_rle
from data_helpers import (
    HEIGHT,
    WIDTH,
    box,
    box_mask,
    coco,
    coco_object,
    cocoa,
    image,
    plain_rle,
    region,
    save_photo,
    write,
)  # fmt: skip

AMODAL, MODAL = box_mask(0, 0, 8, 8), box_mask(4, 0, 4, 8)


def kins(annotation_id=1, amodal=(0, 0, 8, 8), modal=MODAL, **fields):
    """An instance of the older files."""
    return {
        "id": annotation_id, "image_id": 1, "category_id": 4, "iscrowd": 0, "segmentation": [box(*amodal)],
        "inmodal_seg": encode_rle(modal), "inmodal_bbox": [4, 0, 4, 8], "bbox": [0, 0, 8, 8], "area": 64, **fields,
    }  # fmt: skip


def kins_2020(annotation_id=1, amodal=(0, 0, 8, 8), modal=MODAL, oco_id=1, ico_id=0, **fields):
    return {
        "id": annotation_id, "image_id": 1, "category_id": 4, "iscrowd": 0, "a_segm": [box(*amodal)],
        "a_bbox": [0, 0, 8, 8], "a_area": 64, "i_segm": encode_rle(modal), "i_bbox": [4, 0, 4, 8], "i_area": 32,
        "oco_id": oco_id, "ico_id": ico_id, **fields,
    }  # fmt: skip


def cls(**fields):
    return coco_object(segmentation=[box(0, 0, 8, 8)], visible_mask=encode_rle(MODAL), **fields)


def d2sa(**fields):
    masks = {"segmentation": encode_rle(AMODAL), "visible_mask": encode_rle(MODAL)}
    return coco_object(**masks, invisible_mask=encode_rle(AMODAL & ~MODAL), occlude_rate=0.5, **fields)


CATEGORIES = [
    {"id": 1, "name": "cyclist"},
    {"id": 4, "name": "car"},
    {"id": 7, "name": "cup"},
]  # with gaps, as KINS has


def read(*annotations, name="auto", **options):
    bad = []
    rows = iter_annotations(
        coco(*annotations, categories=CATEGORIES), format=name, on_error="skip", bad_records=bad, **options
    )
    return list(rows), [(record.id, record.reason) for record in bad]


@pytest.mark.parametrize(
    ("annotation", "found", "names"),
    [
        (kins(), "kins", ["kins"]),
        (kins(score=0.9), "kins", ["kins"]),
        (kins_2020(), "kins", ["kins"]),
        (cls(), "cocoa-cls", ["cocoa-cls", "d2sa"]),
        (d2sa(), "cocoa-cls", ["cocoa-cls", "d2sa"]),
    ],
    ids=["kins", "kins-scores", "kins-2020", "cocoa-cls", "d2sa"],
)
def test_amodal_and_modal_masks(annotation, found, names):
    assert detect_format(coco(annotation)) == found
    for name in ("auto", *names):
        (row,), bad = read(annotation, name=name)
        assert not bad
        modal, amodal = record_masks(row)
        np.testing.assert_array_equal(modal[0], MODAL)
        np.testing.assert_array_equal(amodal[0], AMODAL)
        assert row["objects"][0]["occlusion_rate"] == 0.5
        assert row["objects"][0]["name"] == {4: "car", 7: "cup"}[annotation["category_id"]]


@pytest.mark.parametrize(
    ("annotation", "field"),
    [(kins(), "inmodal_seg"), (kins_2020(), "i_segm"), (cls(), "visible_mask"), (d2sa(), "visible_mask")],
    ids=["kins", "kins-2020", "cocoa-cls", "d2sa"],
)
def test_no_modal_mask_and_a_fully_hidden_object(annotation, field):
    name = "kins" if field != "visible_mask" else "d2sa"
    whole = {key: value for key, value in annotation.items() if key != field} | {"id": 1}
    null = annotation | {"id": 2, field: None}
    hidden = annotation | {"id": 3, field: encode_rle(np.zeros_like(AMODAL))}
    (row,), bad = read(whole, null, hidden, name=name)
    assert not bad
    modal, amodal = record_masks(row)
    np.testing.assert_array_equal(modal, [AMODAL, AMODAL, AMODAL & False])
    np.testing.assert_array_equal(amodal, [AMODAL] * 3)
    assert [item["occlusion_rate"] for item in row["objects"]] == [0, 0, 1]


def test_segmentations_of_any_kind():
    """Polygons in lists or flat, run lengths compressed or plain, numbers as text."""
    flat = box(0, 0, 8, 8)
    kinds = [[flat], flat, [[str(value) for value in flat]], encode_rle(AMODAL), plain_rle(AMODAL)]
    (row,), bad = read(*(kins_2020(str(index + 1), a_segm=kind, image_id="1") for index, kind in enumerate(kinds)))
    assert not bad
    np.testing.assert_array_equal(record_masks(row)[1], [AMODAL] * len(kinds))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"a_segm": [[1, 1, 5, 5]]}, "polygon 0 has 2 points, at least 3 are needed"),
        ({"a_segm": [box(50, 50, 2, 2)]}, "a_segm has no pixel inside the 12 x 16 image"),
        ({"a_segm": None}, "must be polygons or run lengths, got NoneType"),
        ({"i_segm": {"size": [5, 5], "counts": "Z1"}}, "run lengths have size"),
        ({"ico_id": -1}, "ico_id must be at least 0, got -1"),
        ({"ico_id": "first"}, "ico_id must be an integer, got 'first'"),
        ({"oco_id": None}, "oco_id must be an integer, got None"),
        ({"id": 2}, "duplicate annotation id, again at index 1"),
    ],
)
def test_a_bad_instance_is_named_and_the_rest_stays(change, reason):
    rows, bad = read(kins_2020(2), kins_2020(**change) if "id" not in change else kins_2020(2))
    assert [item["id"] for item in rows[0]["objects"]] == [2]
    ((record, text),) = bad
    assert record == f"annotation {2 if 'id' in change else 1}" and reason in text
    with pytest.raises(AnnotationError, match="annotation"):
        list(iter_annotations(coco(kins_2020(2), kins_2020(**({"annotation_id": 2} if "id" in change else change)))))


def test_ranks_give_the_order():
    """Of two that overlap in a cluster the lower rank is in front; the same rank, another cluster or 0 say nothing."""
    ranks = [(1, 1), (1, 2), (1, 3), (1, 2), (2, 1), (3, 0), (2, 2)]
    boxes = [(0, 0, 4, 4), (2, 0, 4, 4), (3, 0, 6, 4), (2, 0, 4, 4), (0, 0, 4, 4), (0, 0, 4, 4), (9, 9, 2, 2)]
    objects = [
        kins_2020(index + 1, amodal=xywh, modal=box_mask(*xywh), oco_id=cluster, ico_id=rank)
        for index, ((cluster, rank), xywh) in enumerate(zip(ranks, boxes, strict=True))
    ]
    (row,), bad = read(*objects)
    assert not bad
    expected = np.zeros((7, 7), dtype=np.int8)
    for front, behind in ((0, 1), (0, 3), (1, 2), (3, 2), (0, 2)):
        expected[front, behind], expected[behind, front] = 1, -1
    np.testing.assert_array_equal(record_order(row), expected)


def test_without_ranks_the_order_is_unknown():
    (row,), _ = read(kins())
    assert row["order_relations"] is None
    objects = [kins_2020(1, ico_id=1), kins_2020(2, ico_id=2)]
    for item in objects:
        del item["oco_id"], item["ico_id"]
    (row,), _ = read(*objects)
    assert row["order_relations"] is None


def test_a_bad_instance_takes_its_rank_along():
    (row,), bad = read(kins_2020(1, a_segm=[[1, 1, 5, 5]], ico_id=1), kins_2020(2, ico_id=1), kins_2020(3, ico_id=2))
    assert len(bad) == 1 and row["order_relations"] == [{"front": 0, "behind": 1}]


def test_bsds_and_lvis_are_read_as_their_elders():
    content = cocoa(region(0, 0, 8, 8), region(4, 0, 8, 8, visible_mask=encode_rle(box_mask(8, 0, 4, 8))))
    assert list(iter_annotations(content, format="bsds-a")) == list(iter_annotations(content, format="cocoa"))
    content = coco(coco_object())
    assert list(iter_annotations(content, format="lvis")) == list(iter_annotations(content, format="coco"))


def test_a_modal_format_has_no_amodal_masks():
    (row,), _ = read(cls(), name="coco")
    assert row["objects"][0]["amodal_mask"] is None and row["objects"][0]["occlusion_rate"] is None


def odd_text(content):
    return b"\xef\xbb\xbf" + json.dumps(content, indent=1).replace("\n", "\r\n").encode()


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("kins", coco(kins())),
        ("cocoa", cocoa(region(0, 0, 4, 4))),
        ("coco", coco(coco_object(), images=[image(1), image(2)])),
    ],
)
def test_file_of_windows_to_data_set(tmp_path, name, content, streaming):
    path = tmp_path / "file.json"
    path.write_bytes(odd_text(content))
    assert detect_format(path) == name
    dataset = read_annotations(path, streaming=streaming)
    assert isinstance(dataset, IterableDataset if streaming else Dataset)
    assert dataset.features == amodal_features()
    rows = list(iter_annotations(content, source="file"))
    assert list(dataset) == rows
    assert list(dataset) == rows  # a stream starts anew


def test_stream_with_photos(tmp_path):
    save_photo(tmp_path / "1.png")
    dataset = read_annotations(write(tmp_path / "file.json", coco(kins())), tmp_path, streaming=True)
    assert dataset.features == amodal_features(with_image=True)
    (row,) = dataset
    assert row["image"].size == (WIDTH, HEIGHT)


def test_stream_names_bad_records_when_they_are_met(tmp_path):
    path = write(tmp_path / "file.json", coco(coco_object(), coco_object(2, segmentation=[[1, 1, 5, 5]])))
    bad = []
    stream = read_annotations(path, streaming=True, on_error="skip", bad_records=bad)
    assert not bad
    assert len(next(iter(stream))["objects"]) == 1
    assert [record.id for record in bad] == ["annotation 2"]
    with pytest.raises(AnnotationError, match="annotation 2: polygon 0 has 2 points"):
        list(read_annotations(path, streaming=True))


def test_formats_are_refused():
    with pytest.raises(ValueError, match=r"format must be 'auto' or one of \['bsds-a', .*got 'voc'"):
        iter_annotations(coco(), format="voc")
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'skip', got 'warn'"):
        iter_annotations(coco(), on_error="warn")


def test_parquet_is_no_annotation_file(tmp_path):
    (tmp_path / "a.parquet").touch()
    with pytest.raises(ValueError, match=r"a\.parquet is Parquet, read it with load_amodal_dataset"):
        iter_annotations(tmp_path / "a.parquet")


def test_every_format_says_what_it_is():
    assert {name for name, entry in FILE_FORMATS.items() if entry.title} == {
        "bsds-a", "cityscapes", "coco", "cocoa", "cocoa-cls", "cvat", "d2sa", "kins", "label-studio", "labelme", "lvis",
        "mp3d-amodal",
    }  # fmt: skip


def test_a_file_is_parsed_once_whoever_asks_for_its_format(tmp_path, monkeypatch):
    path = write(tmp_path / "file.json", coco(coco_object()))
    parsed = []
    monkeypatch.setattr(records, "read_json", lambda *args: parsed.append(args) or read_json(*args))
    for read in (iter_annotations, read_annotations):
        assert len(list(read(path))) == 1
        assert len(parsed) == 1
        parsed.clear()
    name, opened = open_annotations(path)
    assert name == "coco" and len(list(iter_annotations(opened, format=name))) == 1
    assert len(parsed) == 1
    main(["dataset", "convert", str(path), "--output", str(tmp_path / "converted")])
    assert len(parsed) == 2
