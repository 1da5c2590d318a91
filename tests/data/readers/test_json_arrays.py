"""Annotation files whose records stay in the file until they are asked for."""

import json

import pytest

from amodal_diffusion.data import AnnotationError, iter_coco
from amodal_diffusion.data.readers import json_arrays
from amodal_diffusion.data.readers.json_arrays import BrokenJsonError, JsonArray, read_json
from data_helpers import coco, coco_object, image, write

ARRAYS = ("images", "annotations")
DOCUMENTS = [
    {},
    {"images": [], "annotations": []},
    {"images": [1, -2.5e3, "a", None, True, [1, [2]], {"id": 3}], "annotations": [{"id": 1.0, "image_id": "9"}]},
    {"info": {"images": [1]}, "annotations": [{"name": 'Straße "\\ ]}, {['}], "images": [12345678901234567890]},
    {"images": {"not": "a list"}, "annotations": 17},
    [1, 2],
    "text",
    12345,
]


def plain(value):
    return {key: list(item) if isinstance(item, JsonArray) else item for key, item in value.items()}


@pytest.mark.parametrize("chunk", [1, 2, 7, 2**20])
@pytest.mark.parametrize("options", [{}, {"indent": 2}, {"ensure_ascii": False}], ids=["flat", "indented", "utf-8"])
@pytest.mark.parametrize("document", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_equal_to_json(tmp_path, monkeypatch, chunk, options, document):
    monkeypatch.setattr(json_arrays, "CHUNK_BYTES", chunk)
    path = tmp_path / "file.json"
    for prefix in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(prefix + json.dumps(document, **options).encode())
        content = read_json(path, ARRAYS)
        assert (plain(content) if isinstance(document, dict) else content) == document


def test_records_stay_in_the_file(tmp_path):
    path = write(tmp_path / "file.json", {"images": [], "annotations": [{"id": 1, "area": 2}, 5, {"image_id": "x"}]})
    array = read_json(path, ARRAYS)["annotations"]
    assert isinstance(array, JsonArray)
    assert array.fields == {"id", "area", "image_id"}
    assert array.heads == [("object", 1, None), ("int", None, None), ("object", None, "x")]
    assert array[0] is not array[0] and array[-1] == {"image_id": "x"} and array[1:] == [5, {"image_id": "x"}]
    with pytest.raises(IndexError):
        array[3]
    write(path, {"images": []})
    with pytest.raises(BrokenJsonError, match=r"file\.json was changed while it was read"):
        array[2]


def test_the_last_of_two_equal_keys_counts(tmp_path):
    path = tmp_path / "file.json"
    path.write_text('{"images": [1], "images": [2, 3]}')
    assert list(read_json(path, ARRAYS)["images"]) == [2, 3]


@pytest.mark.parametrize("chunk", [1, 5, 2**20])
@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "{",
        '{"images"',
        '{"images" 1}',
        '{"images": [1 2]}',
        '{"images": [1,\n\n {"ü": 1, "b": }]}',
        '{"images": [{"ü": "',
        '{"images": [1]',
        '{"images": [1]} x',
        '{"other": nope}',
        "{1: 2}",
    ],
)
def test_errors_are_placed_as_json_places_them(tmp_path, monkeypatch, chunk, text):
    monkeypatch.setattr(json_arrays, "CHUNK_BYTES", chunk)
    path = tmp_path / "file.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(text)
    place = f"line {expected.value.lineno} column {expected.value.colno} (character {expected.value.pos})"
    with pytest.raises(BrokenJsonError) as caught:
        read_json(path, ARRAYS)
    assert str(caught.value) == f"broken JSON at {place}: {expected.value.msg}"


@pytest.mark.parametrize("chunk", [1, 3, 2**20])
def test_text_that_is_not_utf8(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_arrays, "CHUNK_BYTES", chunk)
    path = tmp_path / "file.json"
    path.write_bytes('{"ü": "'.encode() + b'\xe2\x82"}')  # a euro sign that is cut off
    with pytest.raises(BrokenJsonError, match="^not UTF-8 text at byte 8$"):
        read_json(path, ARRAYS)
    path.write_bytes('{"images": "€'.encode()[:-1])
    with pytest.raises(BrokenJsonError, match="^not UTF-8 text at byte 12$"):
        read_json(path, ARRAYS)


@pytest.mark.parametrize("order", [("images", "annotations"), ("annotations", "images")])
def test_rows_are_those_of_the_content(tmp_path, order):
    content = coco(coco_object(3, 2, note="é"), coco_object(1, 1), coco_object(2, 2), images=[image(1), image(2)])
    content = {key: content[key] for key in (*order, "categories")}
    path = write(tmp_path / "file.json", content)
    assert list(iter_coco(path, source="s")) == list(iter_coco(content, source="s"))


def test_a_file_that_ends_early_is_named(tmp_path):
    path = tmp_path / "file.json"
    path.write_text(json.dumps(coco(coco_object()))[:150])
    with pytest.raises(AnnotationError, match=r"file\.json: file: broken JSON at line 1 column"):
        iter_coco(path, on_error="skip")
