"""Masks in from every kind of file, completed masks out."""

import contextlib
import io
import json
import os
from functools import partial

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from amodal_diffusion.data import iter_coco
from amodal_diffusion.io import (
    RESULTS,
    ObjectMasks,
    amodal_scores,
    check_completion_output,
    coco_document,
    read_object_masks,
    save_completion,
)
from amodal_diffusion.masks import decode_rle, encode_rle
from kill_helpers import killed_at_every_step, tree

HEIGHT, WIDTH = 12, 20


@pytest.fixture
def masks():
    stack = np.zeros((3, HEIGHT, WIDTH), bool)
    stack[0, 2:8, 3:9] = stack[1, 4:11, 9:15] = stack[2, 0:3, 12:20] = True
    return stack


@pytest.fixture
def document(masks):
    """Two images; the second has the objects, one of them a polygon."""
    square = [[3.0, 2.0, 9.0, 2.0, 9.0, 8.0, 3.0, 8.0]]
    return {
        "images": [
            {"id": 1, "file_name": "other.jpg", "height": 5, "width": 5},
            {"id": 7, "file_name": "val/photo.jpg", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": 3, "name": "cup"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "segmentation": square, "score": 0.5},
            {"id": 2, "image_id": 7, "category_id": 3, "segmentation": encode_rle(masks[1])},
            {"id": 3, "image_id": 1, "category_id": 3, "segmentation": [[0, 0, 4, 0, 4, 4]]},
        ],
    }


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def save_mask(path, mask, mode="L"):
    Image.fromarray(mask.astype(np.uint8) * 255).convert(mode).save(path)
    return path


# Reading


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_map_gives_one_object_for_each_value(tmp_path, masks, dtype):
    values = [2, 7, 200 if dtype is np.uint8 else 40_000]
    labels = sum(mask.astype(dtype) * value for mask, value in zip(masks, values, strict=True)).astype(dtype)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    objects = read_object_masks(tmp_path / "labels.png", size=(HEIGHT, WIDTH))
    np.testing.assert_array_equal(objects.masks, masks)
    assert objects.masks.dtype == bool
    assert objects.names == [f"label {value}" for value in values]
    assert objects.category_ids == [None] * 3 and objects.scores == [1.0, 1.0, 1.0]


def test_a_mask_of_one_bit_has_the_files_name(tmp_path, masks):
    Image.fromarray(masks[0]).save(tmp_path / "mask.png")
    objects = read_object_masks(tmp_path / "mask.png")
    assert objects.names == ["mask"] and (objects.masks[0] == masks[0]).all()


def test_palette_label_map_counts_indices_not_colours(tmp_path):
    labels = Image.fromarray(np.repeat(np.uint8([[0, 1, 2]]), 4, axis=0)).convert("P")
    labels.putpalette([9, 9, 9, 9, 9, 9, 0, 0, 0])
    labels.putdata(np.repeat(np.uint8([[0, 1, 2]]), 4, axis=0).ravel().tolist())
    labels.save(tmp_path / "labels.png")
    assert read_object_masks(tmp_path / "labels.png").names == ["label 1", "label 2"]


def test_a_json_names_the_labels_of_a_map(tmp_path, masks):
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[:4], labels[5:], labels[4:, :3] = 3, 7, 9
    Image.fromarray(labels).save(tmp_path / "labels.png")
    (tmp_path / "names.json").write_text(json.dumps({"3": " cup ", "7": "saucer", "20": "not there"}))
    for files in (("labels.png", "names.json"), ("names.json", "labels.png")):
        objects = read_object_masks([tmp_path / file for file in files], size=(HEIGHT, WIDTH))
        assert objects.names == ["cup", "saucer", "label 9"]
    for content, says in (
        ([1], r"names.json must name the labels of one map, such as .*, got a list"),
        ({"images": []}, "got the key 'images'"),
        ({"3": ""}, "got '' as the name of 3"),
        ({"3": 5}, "got '5' as the name of 3"),
        ({"4": "cup"}, "has the labels 3, 7, 9, of which none is named"),
    ):
        (tmp_path / "names.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=says):
            read_object_masks([tmp_path / "labels.png", tmp_path / "names.json"])
    Image.fromarray(labels).save(tmp_path / "two.tif", save_all=True, append_images=[Image.fromarray(labels)])
    (tmp_path / "names.json").write_text('{"3": "cup"}')
    with pytest.raises(ValueError, match="two.tif has 2 pages, expected one map"):
        read_object_masks([tmp_path / "two.tif", tmp_path / "names.json"])


def test_folder_is_read_in_natural_order_and_skips_other_files(tmp_path, masks):
    for name, mask in zip(("mask 10.png", "mask 2.PNG", "cup.png"), masks, strict=True):
        save_mask(tmp_path / name, mask, mode="1" if name == "cup.png" else "L")
    write(tmp_path / "notes.txt", "no mask")
    objects = read_object_masks(tmp_path)
    assert objects.names == ["cup", "mask 2", "mask 10"]
    np.testing.assert_array_equal(objects.masks, masks[[2, 1, 0]])


def test_several_files_keep_their_order_and_may_be_empty_or_full(tmp_path, masks):
    empty, full = np.zeros_like(masks[0]), np.ones_like(masks[0])
    paths = [save_mask(tmp_path / f"{n}.png", m) for n, m in (("b", full), ("a", empty))]
    objects = read_object_masks(paths, size=(HEIGHT, WIDTH))
    assert objects.names == ["b", "a"] and objects.masks.sum(axis=(1, 2)).tolist() == [HEIGHT * WIDTH, 0]


@pytest.mark.parametrize("name", ["photo.jpg", "/somewhere/photo.jpg", "photo.png"])
def test_coco_chooses_the_image_by_the_name_of_the_photo(tmp_path, document, masks, name):
    objects = read_object_masks(write(tmp_path / "a.json", document), size=(HEIGHT, WIDTH), file_name=name)
    np.testing.assert_array_equal(objects.masks, masks[:2])
    assert objects.names == ["cup", "cup"] and objects.category_ids == [3, 3] and objects.scores == [0.5, 1.0]


def test_coco_with_one_image_needs_no_name(tmp_path, document, masks):
    document["images"] = document["images"][1:]
    np.testing.assert_array_equal(read_object_masks(write(tmp_path / "a.json", document)).masks, masks[:2])


def test_coco_without_image_size_takes_that_of_the_photo(tmp_path, document, masks):
    del document["images"][1]["height"], document["images"][1]["width"]
    path = write(tmp_path / "a.json", document)
    objects = read_object_masks(path, size=(HEIGHT, WIDTH), file_name="photo.jpg")
    np.testing.assert_array_equal(objects.masks, masks[:2])
    with pytest.raises(ValueError, match="height"):
        read_object_masks(path, file_name="photo.jpg")


def test_results_list(tmp_path, masks):
    results = [
        {"image_id": 42, "category_id": 3, "segmentation": encode_rle(masks[0]), "score": 0.9},
        {"image_id": 42, "category_id": 4, "segmentation": encode_rle(masks[1]), "score": 0.8},
        {"image_id": 43, "category_id": 4, "segmentation": encode_rle(masks[2]), "score": 0.7},
    ]
    path = write(tmp_path / "results.json", results)
    objects = read_object_masks(path, file_name="000000000042.jpg")
    np.testing.assert_array_equal(objects.masks, masks[:2])
    assert objects.scores == [0.9, 0.8] and objects.category_ids == [3, 4]
    with pytest.raises(ValueError, match="results for 2 images, none with the id photo"):
        read_object_masks(path, file_name="photo.jpg")


def test_results_of_polygons_need_the_photo(tmp_path):
    path = write(tmp_path / "r.json", [{"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4]]}])
    with pytest.raises(ValueError, match="polygons without the size of their image; give the photo"):
        read_object_masks(path)
    assert read_object_masks(path, size=(6, 6)).masks.shape == (1, 6, 6)


def test_cocoa_gives_visible_masks(tmp_path, masks):
    whole = masks[0] | masks[1]
    regions = [
        {"segmentation": [3, 2, 9, 2, 9, 8, 3, 8], "name": "front ", "order": "1"},
        {"segmentation": encode_rle(whole), "visible_mask": encode_rle(masks[1]), "name": "back"},
    ]
    image = {"id": 1, "file_name": "photo.jpg", "height": HEIGHT, "width": WIDTH}
    content = {"images": [image], "annotations": [{"id": 5, "image_id": 1, "regions": regions}]}
    objects = read_object_masks(write(tmp_path / "cocoa.json", content))
    np.testing.assert_array_equal(objects.masks, masks[:2])
    assert objects.names == ["front", "back"]


def test_own_output_is_a_valid_input(tmp_path, masks):
    amodal = masks.copy()
    amodal[0] |= masks[1]
    path = write(tmp_path / "amodal.json", coco_document(ObjectMasks(masks, names=["a", "", "c"]), amodal))
    np.testing.assert_array_equal(read_object_masks(path).masks, masks)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no valid JSON"),
        ("{} {}", "no valid JSON"),
        ("[" * 100_000, "no valid JSON"),
        ("[" + "9" * 5000 + "]", "no valid JSON"),
        ("3", "no COCO JSON: expected a list of results, or an object with `annotations`"),
        ("{}", "no COCO JSON"),
        ("[]", "its list must hold objects, at least one"),
        ("[1]", "result 0 must be an object, got int"),
        ({"annotations": []}, "lists no `images`"),
        (
            {"images": [{"id": 1, "file_name": "a", "height": 4, "width": 4}], "annotations": []},
            "no object for image 'a'",
        ),
        ({"images": [{"id": 1, "file_name": "a", "height": 0, "width": 4}], "annotations": []}, "image 1: height"),
    ],
)
def test_broken_json_is_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as info:
        read_object_masks(write(tmp_path / "bad.json", content))
    assert "bad.json" in str(info.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": [[1, 2, 3]]}, "annotation 1"),
        ({"segmentation": None}, "annotation 1"),
        ({"segmentation": {"size": [3, 3], "counts": "9"}}, "annotation 1"),
        ({"score": "high"}, "`score` of annotation 1 must be a finite number, got 'high'"),
        ({"score": float("nan")}, "`score` of annotation 1 must be a finite number"),
        ({"category_id": "cup"}, "category_id"),
    ],
)
def test_bad_annotation_is_named(tmp_path, document, change, message):
    document["annotations"][0] |= change
    with pytest.raises(ValueError, match=message) as info:
        read_object_masks(write(tmp_path / "bad.json", document), file_name="photo.jpg")
    assert "bad.json" in str(info.value)


@pytest.mark.parametrize("key", ["annotations", "images"])
@pytest.mark.parametrize("wrong", [None, 3, "x", []])
def test_entries_that_are_no_objects_are_bad_as_in_a_data_set(tmp_path, document, key, wrong):
    path, found = write(tmp_path / "a.json", {**document, key: [*document[key], wrong]}), []
    place = rf"a.json: {key[:-1]} at index {len(document[key])}: expected an object"
    for read in (partial(read_object_masks, path, file_name="photo.jpg"), lambda: list(iter_coco(path))):
        with pytest.raises(ValueError, match=place):
            read()
    objects = read_object_masks(path, file_name="photo.jpg", on_error="skip", bad_records=found)
    assert len(objects.masks) == 2 and [record.reason[:18] for record in found] == ["expected an object"]


@pytest.mark.parametrize("image_id", [99, None, "x", [7]])
def test_annotations_of_images_that_are_not_listed_are_told(tmp_path, document, caplog, image_id):
    document["annotations"][1]["image_id"] = image_id
    objects = read_object_masks(write(tmp_path / "a.json", document), file_name="photo.jpg")
    assert len(objects.masks) == 1 and len(caplog.messages) == 1
    assert "a.json: left out 1 of 3 annotations, of images that it does not list, such as image_id" in caplog.text


@pytest.mark.parametrize(
    "sources", [None, 5, b"x", "", " ", [""], [None], [5], {"a": 1}, Image.new("L", (2, 2)), "a\0b"]
)
def test_sources_that_are_no_paths(sources):
    with pytest.raises((TypeError, ValueError), match="^`sources` must be a path"):
        read_object_masks(sources)


def test_image_of_the_json_must_be_clear(tmp_path, document):
    path = write(tmp_path / "a.json", document)
    with pytest.raises(ValueError, match="lists no image named cat.jpg; it has 2, such as other.jpg, val/photo.jpg"):
        read_object_masks(path, file_name="cat.jpg")
    with pytest.raises(ValueError, match="lists 2 images; the name of the photo must choose one"):
        read_object_masks(path)
    document["images"][0]["file_name"] = "train/photo.jpg"
    with pytest.raises(ValueError, match="lists 2 images named photo.jpg"):
        read_object_masks(write(path, document), file_name="photo.jpg")


def test_size_mismatch_names_both_sizes(tmp_path, document, masks):
    message = "is 20x12 pixels .width x height., expected 12x20, the size of the photo"
    with pytest.raises(ValueError, match=message):
        read_object_masks(write(tmp_path / "a.json", document), size=(WIDTH, HEIGHT), file_name="photo.jpg")
    with pytest.raises(ValueError, match=message):
        read_object_masks(save_mask(tmp_path / "m.png", masks[0]), size=(WIDTH, HEIGHT))
    other = save_mask(tmp_path / "n.png", masks[0].T)
    with pytest.raises(ValueError, match="n.png is 12x20 pixels .width x height., expected 20x12 as in .*m.png"):
        read_object_masks([tmp_path / "m.png", other])


def test_unusable_mask_files_are_named(tmp_path, masks):
    photo = Image.new("RGB", (WIDTH, HEIGHT))
    photo.save(tmp_path / "p.jpg")
    photo.save(tmp_path / "rgb.png")
    photo.convert("RGBA").save(tmp_path / "rgba.png")
    save_mask(tmp_path / "zero.png", np.zeros_like(masks[0]))
    noise = np.random.RandomState(0).randint(0, 255, (64, 64)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name, message in {
        "p.jpg": "p.jpg is JPEG; expected one of PNG",
        "rgb.png": "rgb.png has image mode RGB; expected one channel",
        "rgba.png": "rgba.png has image mode RGBA",
        "zero.png": "zero.png holds no object: all pixels are 0",
        "cut.png": "cut.png cannot be read as an image",
        "empty.png": "empty.png cannot be read as an image",
        "folder": "holds no PNG, TIFF or BMP masks",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_object_masks(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="missing.png do not exist"):
        read_object_masks(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="`sources` must name at least one"):
        read_object_masks([])


def test_object_masks_check_their_lengths(masks):
    with pytest.raises(ValueError, match="`names` must have one entry for each of 3 masks, got 2"):
        ObjectMasks(masks, names=["a", "b"])


# Writing


def test_document_holds_masks_boxes_and_order(masks):
    amodal = masks.copy()
    amodal[0, 2:8, 9:12] = True
    order = np.zeros((3, 3), np.int8)
    order[1, 0], order[0, 1] = 1, -1
    probabilities = np.where(amodal, 0.75, 0.1).astype(np.float32)
    objects = ObjectMasks(masks, names=["cup", "plate", ""], category_ids=[5, 6, 6], scores=[1.0, 0.5, 1.0])
    content = coco_document(objects, amodal, order, probabilities=probabilities, file_name="p.jpg", info={"model": "m"})
    json.dumps(content, allow_nan=False)
    assert content["info"]["model"] == "m"
    assert content["images"] == [
        {"id": 1, "file_name": "p.jpg", "height": 12, "width": 20, "order_relations": [{"front": 2, "behind": 1}]}
    ]
    assert content["categories"] == [{"id": 5, "name": "cup"}, {"id": 6, "name": "object"}]
    first = content["annotations"][0]
    assert first["bbox"] == [3.0, 2.0, 9.0, 6.0] and first["area"] == 54
    assert first["occlude_rate"] == pytest.approx(18 / 54, abs=1e-6)
    assert [a["score"] for a in content["annotations"]] == [0.75, 0.375, 0.75]
    for index, annotation in enumerate(content["annotations"]):
        np.testing.assert_array_equal(decode_rle(annotation["segmentation"]), amodal[index])
        np.testing.assert_array_equal(decode_rle(annotation["visible_mask"]), masks[index])


def test_names_without_ids_have_categories_of_their_own(masks):
    objects = ObjectMasks(masks, names=["cup", "plate", "cup"], category_ids=[None, 1, None])
    content = coco_document(objects, masks)
    assert [entry["category_id"] for entry in content["annotations"]] == [2, 1, 2]
    assert content["categories"] == [{"id": 1, "name": "plate"}, {"id": 2, "name": "cup"}]


def test_document_loads_in_pycocotools(tmp_path, masks):
    masks[2] = False
    path = write(tmp_path / "amodal.json", coco_document(ObjectMasks(masks), masks))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    for index, annotation in enumerate(coco.loadAnns(coco.getAnnIds(imgIds=[1]))):
        np.testing.assert_array_equal(coco.annToMask(annotation), masks[index])


def test_document_checks_shapes(masks):
    with pytest.raises(
        ValueError, match=r"`amodal` must have the shape of the modal masks \(3, 12, 20\), got \(2, 12, 20\)"
    ):
        coco_document(ObjectMasks(masks), masks[:2])
    with pytest.raises(ValueError, match="order"):
        coco_document(ObjectMasks(masks), masks, np.zeros((2, 2), np.int8))


def test_score_of_an_empty_mask_is_zero(masks):
    masks[1] = False
    assert amodal_scores(masks, None, [0.5, 1.0, 1.0]) == [0.5, 0.0, 1.0]
    assert amodal_scores(masks, np.full(masks.shape, 0.5), [1.0, 1.0, 1.0]) == [0.5, 0.0, 0.5]


def complete_into(folder, masks, names, **pictures):
    content = coco_document(ObjectMasks(masks, names=names), masks)
    return save_completion(folder, content, masks, **pictures)


def test_save_completion_writes_masks_that_read_back(tmp_path, masks):
    picture = Image.new("RGB", (4, 4))
    names = ["Tea cup", "../../etc/passwd", ""]
    written = complete_into(tmp_path / "new/out", masks, names, overlay=picture, order_graph=picture)
    assert [path.name for path in written] == ["amodal_masks", "overlay.png", "order_graph.png", "amodal.json"]
    files = sorted(path.name for path in (tmp_path / "new/out/amodal_masks").iterdir())
    assert files == ["000-tea-cup.png", "001-etc-passwd.png", "002.png"]
    assert set(np.unique(np.asarray(Image.open(written[0] / files[0])))) == {0, 255}
    np.testing.assert_array_equal(read_object_masks(written[0]).masks, masks)
    assert sorted(os.listdir(tmp_path / "new/out")) == ["amodal.json", "amodal_masks", "order_graph.png", "overlay.png"]


def test_second_run_replaces_its_own_files_only(tmp_path, masks):
    picture = Image.new("RGB", (4, 4))
    complete_into(tmp_path, masks, ["a", "b", "c"], overlay=picture, order_graph=picture)
    write(tmp_path / "mine.txt", "keep")
    complete_into(tmp_path, masks[:1], ["z"], overlay=picture)
    assert sorted(os.listdir(tmp_path)) == ["amodal.json", "amodal_masks", "mine.txt", "overlay.png"]
    assert os.listdir(tmp_path / "amodal_masks") == ["000-z.png"]


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize(
    "record", [None, "{}", '{"info": {"model": "m"}}', '{"info": {"files": ["amodal.json"]}}', "["]
)
def test_what_no_earlier_run_wrote_is_neither_replaced_nor_removed(tmp_path, masks, name, record):
    if record is not None:
        write(tmp_path / "amodal.json", record)
    if name == "amodal.json":
        write(tmp_path / name, '{"images": []}')
    else:
        (tmp_path / name).mkdir()
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match=rf"{tmp_path} holds other files, such as '.*'; choose a new folder"):
        complete_into(tmp_path, masks[:1], ["a"])
    with pytest.raises(FileExistsError, match="holds other files"):
        check_completion_output(tmp_path)
    assert tree(tmp_path) == before and (tmp_path / name).exists()


def test_what_comes_beside_an_earlier_result_is_not_taken_for_a_part_of_it(tmp_path, masks):
    written = complete_into(tmp_path, masks[:1], ["a"])
    content = json.loads((tmp_path / "amodal.json").read_text())
    assert content["info"]["files"] == [path.name for path in written] == ["amodal_masks", "amodal.json"]
    (tmp_path / "samples").mkdir()
    for pictures in ({}, {"samples": masks[:1, None]}):
        with pytest.raises(FileExistsError, match="such as 'samples'"):
            complete_into(tmp_path, masks[:1], ["a"], **pictures)


def test_failed_run_leaves_the_earlier_result(tmp_path, masks):
    complete_into(tmp_path, masks, ["a", "b", "c"])
    before = (tmp_path / "amodal.json").read_bytes()
    content = coco_document(ObjectMasks(masks), masks)
    content["info"]["score"] = float("nan")
    with pytest.raises(ValueError, match="JSON compliant"):
        save_completion(tmp_path, content, masks)
    assert (tmp_path / "amodal.json").read_bytes() == before
    assert sorted(os.listdir(tmp_path / "amodal_masks")) == ["000-a.png", "001-b.png", "002-c.png"]
    assert sorted(os.listdir(tmp_path)) == ["amodal.json", "amodal_masks"]


def test_output_that_is_a_file_is_refused(tmp_path, masks):
    write(tmp_path / "out", "")
    with pytest.raises(NotADirectoryError, match="is a file, expected a folder"):
        complete_into(tmp_path / "out", masks, ["a", "b", "c"])


def test_killed_at_every_step_the_old_result_or_the_new_one_is_there(tmp_path, masks):
    folder, picture = tmp_path / "out", Image.new("RGB", (4, 4))
    complete_into(tmp_path / "old", masks[:2], ["a", "b"], overlay=picture, order_graph=picture)
    complete_into(tmp_path / "new", masks[:1], ["z"], overlay=picture)
    old, new = tree(tmp_path / "old"), tree(tmp_path / "new")

    def reset():
        complete_into(folder, masks[:2], ["a", "b"], overlay=picture, order_graph=picture)
        write(folder / "mine.txt", "keep")

    found = []
    for _ in killed_at_every_step(lambda: complete_into(folder, masks[:1], ["z"], overlay=picture), reset):
        found.append(tree(folder))
        assert found[-1].pop("mine.txt") == b"keep" and found[-1] in (old, new)
    assert old in found and new in found
    assert sorted(os.listdir(tmp_path)) == ["new", "old", "out"]


@pytest.mark.parametrize("wrap", ["results", "document"])
def test_run_lengths_of_another_photo_are_refused_like_masks(tmp_path, masks, wrap):
    results = [{"image_id": 1, "category_id": 1, "segmentation": encode_rle(masks[0])}]
    image = {"id": 1, "file_name": "photo.jpg"}
    content = results if wrap == "results" else {"images": [image], "annotations": results}
    path = write(tmp_path / "a.json", content)
    assert len(read_object_masks(path, size=(HEIGHT, WIDTH), file_name="photo.jpg").masks) == 1
    with pytest.raises(ValueError, match="a.json is 20x12 pixels .width x height., expected 12x20, the size of the"):
        read_object_masks(path, size=(WIDTH, HEIGHT), file_name="photo.jpg")


def test_occluders_are_written_and_removed(tmp_path, masks):
    objects = ObjectMasks(masks, names=["", "Cup!", ""][: len(masks)])
    occluders = ~masks
    content = coco_document(objects, masks, occluders=occluders)
    for annotation, occluder in zip(content["annotations"], occluders, strict=True):
        np.testing.assert_array_equal(decode_rle(annotation["occluder_mask"]), occluder)
    written = save_completion(tmp_path, content, masks, occluders=occluders)
    assert [path.name for path in written] == ["amodal_masks", "occluder_masks", "amodal.json"]
    folders = [tmp_path / name for name in ("amodal_masks", "occluder_masks")]
    assert len({tuple(sorted(file.name for file in folder.iterdir())) for folder in folders}) == 1
    np.testing.assert_array_equal(read_object_masks(folders[1]).masks, occluders)
    plain = coco_document(objects, masks)
    assert "occluder_mask" not in plain["annotations"][0]
    save_completion(tmp_path, plain, masks)  # what an earlier run left would belong to other masks
    assert not folders[1].exists() and folders[0].exists()
    with pytest.raises(ValueError, match="`occluders` must have the shape of the modal masks"):
        coco_document(objects, masks, occluders=occluders[:1])


# Every door by the same rule


def test_soft_edges_pages_and_palettes_of_files(tmp_path, masks, document):
    soft = [Image.fromarray(mask.astype(np.uint8) * 255).resize((80, 48), Image.Resampling.BICUBIC) for mask in masks]
    expected = np.stack([np.asarray(mask) >= 128 for mask in soft])
    (tmp_path / "soft").mkdir()
    for index, mask in enumerate(soft):
        mask.save(tmp_path / "soft" / f"{index}.png")
        (tmp_path / "soft" / f"._{index}.png").write_bytes(b"notes of macOS")
    np.testing.assert_array_equal(read_object_masks(tmp_path / "soft").masks, expected)
    np.testing.assert_array_equal(read_object_masks(tmp_path / "soft" / "0.png").masks, expected[:1])
    pages = [mask.copy() for mask in soft]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    pages = read_object_masks(tmp_path / "pages.tif")
    np.testing.assert_array_equal(pages.masks, expected)
    assert pages.names == ["pages 1", "pages 2", "pages 3"]
    both = read_object_masks([tmp_path / "pages.tif", tmp_path / "soft" / "1.png"])
    assert both.names == [*pages.names, "1"] and len(both.masks) == 4
    white = Image.fromarray((~masks[0]).astype(np.uint8), "P")
    white.putpalette([255, 255, 255, 0, 0, 0])
    white.save(tmp_path / "white.png")
    np.testing.assert_array_equal(read_object_masks(tmp_path / "white.png").masks, masks[:1])
    one = Image.fromarray(masks[0])
    one.save(tmp_path / "one.png")
    assert read_object_masks(tmp_path / "one.png").names == ["one"]
    faint = Image.fromarray((np.asarray(soft[0]) * 0.4).astype(np.uint8))
    faint.save(tmp_path / "faint.png")
    with pytest.raises(ValueError, match=r"mask file .*faint.png is a soft mask of at most 0.4"):
        read_object_masks(tmp_path / "faint.png")


def test_bad_masks_are_skipped_and_named(tmp_path, masks, document):
    good, bad = save_mask(tmp_path / "a.png", masks[0]), write(tmp_path / "b.png", "no picture")
    found = []
    objects = read_object_masks([good, bad], on_error="skip", bad_records=found)
    assert objects.names == ["a"] and [record.id for record in found] == ["b.png"]
    with pytest.raises(ValueError, match="b.png cannot be read"):
        read_object_masks([good, bad])
    document["annotations"][0]["segmentation"] = [[1, 2, 3]]
    found.clear()
    objects = read_object_masks(
        write(tmp_path / "m.json", document), file_name="photo.jpg", on_error="skip", bad_records=found
    )
    assert len(objects.masks) == 1 and [record.id for record in found] == ["annotation 1"]
    with pytest.raises(ValueError, match="none of 1 mask files"):
        read_object_masks([bad, tmp_path / "._c.png"] if write(tmp_path / "._c.png", "") else [], on_error="skip")


def test_the_photo_gives_the_upright_size_and_the_name(tmp_path, masks, document, caplog):
    turned = Image.new("RGB", (HEIGHT, WIDTH))
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "photo.jpg", exif=turned.getexif())
    path = write(tmp_path / "masks.json", document)
    for photo in (tmp_path / "photo.jpg", str(tmp_path / "photo.jpg"), Image.open(tmp_path / "photo.jpg")):
        np.testing.assert_array_equal(read_object_masks(path, photo=photo).masks, masks[:2])
    assert not caplog.records
    with pytest.raises(ValueError, match="`size` must be None where `photo` is given"):
        read_object_masks(path, photo=turned, size=(HEIGHT, WIDTH))
    document["images"] = document["images"][1:]
    document["annotations"] = document["annotations"][:2]
    document["images"][0]["file_name"] = r"C:\val\other.jpg"
    read_object_masks(write(tmp_path / "one.json", document), photo=tmp_path / "photo.jpg")
    assert r"has the masks of C:\val\other.jpg, the photo is photo.jpg" in caplog.text


def test_ids_classes_and_crowds_come_back(tmp_path, masks, document):
    document["categories"] = [{"id": 0, "name": "person"}, {"id": 1, "name": "bicycle"}]
    document["images"] = document["images"][1:]
    rows = zip(masks, (0, 1, None), (None, 7, 9), (0, 0, 1), strict=True)
    document["annotations"] = [
        {"id": number, "image_id": 7, "category_id": kind, "segmentation": encode_rle(mask), "iscrowd": crowd}
        for mask, kind, number, crowd in rows
    ]
    document["annotations"][0]["score"] = None
    objects = read_object_masks(write(tmp_path / "masks.json", document))
    assert objects.category_ids == [0, 1, None] and objects.names == ["person", "bicycle", ""]
    assert objects.is_crowd == [False, False, True] and objects.scores == [1.0] * 3
    written = coco_document(objects, masks)
    assert [entry["category_id"] for entry in written["annotations"]] == [0, 1, 2]
    assert [entry["iscrowd"] for entry in written["annotations"]] == [0, 0, 1]
    assert written["categories"] == [
        {"id": 0, "name": "person"}, {"id": 1, "name": "bicycle"}, {"id": 2, "name": "object"}
    ]  # fmt: skip
    again = read_object_masks(write(tmp_path / "again.json", written))
    assert again.category_ids == [0, 1, 2] and again.names[:2] == objects.names[:2]
    assert again.is_crowd == objects.is_crowd
