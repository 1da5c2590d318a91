"""`amodal-diffusion dataset convert` and the function behind it."""

import json
import os
import pickle

import numpy as np
import pytest
from datasets import Dataset, load_dataset
from huggingface_hub import DatasetCard

from amodal_diffusion.cli.main import main
from amodal_diffusion.data import (
    AnnotationError,
    convert_dataset,
    iter_annotations,
    load_amodal_dataset,
    read_annotations,
)
from amodal_diffusion.masks import encode_rle
from data_helpers import HEIGHT, WIDTH, FakeHub, box_mask, coco, coco_object, cocoa, image, region, save_photo, write
from kill_helpers import killed_at_every_step, tree
from repository_helpers import SHARED, needs_shared


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def plain(rows):
    return [{key: value for key, value in row.items() if key != "image"} for row in rows]


@pytest.fixture
def source(tmp_path):
    """Two photos with a cup each, in a folder below the folder of photos."""
    folder = tmp_path / "source"
    (folder / "photos" / "a").mkdir(parents=True)
    images = [image(index, file_name=f"a/{index}.png") for index in (1, 2)]
    for entry in images:
        save_photo(folder / "photos" / entry["file_name"])
    write(folder / "cups.json", coco(coco_object(1, 1), coco_object(2, 2), images=images))
    return folder


def run(*arguments):
    return main(["dataset", "convert", *map(str, arguments)])


@pytest.mark.parametrize("photos", ["embed", "beside", "none"])
def test_convert(source, tmp_path, capsys, photos):
    out = tmp_path / "out"
    assert run(source / "cups.json", "--images", source / "photos", "--output", out, "--photos", photos) == 0
    expected = ["README.md", "data/train-00000-of-00001.parquet"]
    assert files(out) == expected + (["photos/train/a/1.png", "photos/train/a/2.png"] if photos == "beside" else [])
    printed = capsys.readouterr().out
    assert "train: 2 images, 2 objects, 0 amodal, 0 occluded, 0 hidden, 0 relations" in printed
    assert str(out / "data/train-00000-of-00001.parquet") in printed
    original = (source / "photos" / "a" / "1.png").read_bytes()
    (source / "photos").rename(source / "gone")
    wanted = list(iter_annotations(source / "cups.json"))
    for streaming in (False, True):
        dataset = load_amodal_dataset(out, streaming=streaming)
        assert plain(dataset) == wanted
        if photos == "none":
            assert "image" not in dataset.column_names
            continue
        assert [row["image"].size for row in dataset] == [(WIDTH, HEIGHT)] * 2
        stored = next(iter(dataset.decode(False)))["image"] if streaming else None
        if photos == "embed" and streaming:
            assert stored["bytes"] == original
    if photos == "beside":
        assert (out / "photos" / "train" / "a" / "1.png").read_bytes() == original
    assert "image_id" in load_dataset(str(out / "data"), split="train").column_names


def test_splits_formats_and_card(tmp_path, capsys):
    regions = [region(0, 0, 8, 8), region(4, 0, 8, 8, visible_mask=encode_rle(box_mask(8, 0, 4, 8)))]
    for name in ("val", "test"):
        write(tmp_path / f"{name}.json", cocoa(*regions, depth_constraint="1-2"))
    out = tmp_path / "out"
    arguments = [f"{name}={tmp_path / name}.json" for name in ("val", "test")]
    options = ["--format", "bsds-a", "--output", out, "--license", "cc-by-4.0", "--description", "Scenes."]
    assert run(*arguments, *options) == 0
    assert "test: 1 images, 2 objects, 2 amodal, 1 occluded, 0 hidden, 1 relations" in capsys.readouterr().out
    assert load_amodal_dataset(out, "val")[0]["source"] == "bsds-a"
    card = DatasetCard.load(out / "README.md")
    assert card.data.license == "cc-by-4.0" and card.data.pretty_name == "out"
    assert [entry["split"] for entry in card.data.configs[0]["data_files"]] == ["val", "test"]
    for text in ("Scenes.", "| val | 1 | 2 | 2 | 1 | 0 | 0 | 0 | 1 | 1 |", "Berkeley", "zhu2017semantic"):
        assert text in card.text


def test_every_format_runs_through_the_command(tmp_path):
    amodal, modal = encode_rle(box_mask(0, 0, 8, 8)), encode_rle(box_mask(0, 0, 4, 8))
    both = {"segmentation": amodal, "visible_mask": modal}
    contents = {
        "coco": coco(coco_object()),
        "lvis": coco(coco_object()),
        "cocoa-cls": coco(coco_object(**both)),
        "d2sa": coco(coco_object(**both)),
        "kins": coco(coco_object(segmentation=amodal, inmodal_seg=modal)),
        "cocoa": cocoa(region(0, 0, 8, 8, **both)),
    }
    places = {name: write(tmp_path / f"{name}.json", content) for name, content in contents.items()}
    places["mp3d-amodal"] = tmp_path / "mp3d.pkl"
    places["mp3d-amodal"].write_bytes(pickle.dumps(contents["cocoa"]))
    for name, place in places.items():
        assert run(place, "--format", name, "--output", tmp_path / name) == 0
        (row,) = load_amodal_dataset(tmp_path / name, streaming=True)
        assert row["source"] == name
        assert row["objects"][0]["occlusion_rate"] == (None if name in ("coco", "lvis") else 0.5)
        assert "see its authors' terms" not in (tmp_path / name / "README.md").read_text()  # a note of its own


def test_columns(tmp_path):
    content = coco(coco_object())
    run(write(tmp_path / "a.json", content), "--output", tmp_path / "first")
    options = ["--format", "columns", "--output", tmp_path / "out", "--source", "cups", "--columns"]
    columns = ["masks=objects.modal_mask", "category=objects.category_id", "image_id=image_id"]
    assert run(tmp_path / "first", *options, *columns) == 0
    (row,) = load_amodal_dataset(tmp_path / "out", streaming=True)
    (wanted,) = iter_annotations(content)
    assert row["objects"][0]["modal_mask"] == wanted["objects"][0]["modal_mask"]
    assert row["objects"][0]["category_id"] == 7 and row["source"] == "cups"


@pytest.mark.parametrize("photos", ["embed", "beside"])
def test_parquet_to_parquet(source, tmp_path, photos):
    first, second = tmp_path / "first", tmp_path / "second"
    run(source / "cups.json", "--images", source / "photos", "--output", first, "--photos", photos)
    other = "beside" if photos == "embed" else "embed"
    assert run(first, "--output", second, "--photos", other) == 0
    rows = [list(load_amodal_dataset(folder, streaming=True)) for folder in (first, second)]
    assert plain(rows[0]) == plain(rows[1])
    for one, two in zip(*rows, strict=True):
        np.testing.assert_array_equal(np.asarray(one["image"]), np.asarray(two["image"]))


def test_classes_become_one(tmp_path, capsys):
    """As [L20] merges buses with cars, and motorcycles with bicycles, to test on another data set (Table 5)."""
    names = ["car", "bus", "bicycle", "traffic light"]
    document = coco(*[coco_object(n, n) for n in range(1, 5)], images=[image(n) for n in range(1, 5)])
    document["categories"] = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    for number, entry in enumerate(document["annotations"], start=1):
        entry["category_id"] = number
    write(tmp_path / "a.json", document)
    given = ["--category-ids", "car=1", "bus=1", "bicycle=2"]
    assert run(tmp_path / "a.json", "--output", tmp_path / "out", *given) == 0
    objects = [row["objects"][0] for row in load_amodal_dataset(tmp_path / "out")]
    assert [(item["name"], item["category_id"]) for item in objects] == [
        ("car", 1), ("bus", 1), ("bicycle", 2), ("traffic light", None)
    ]  # fmt: skip
    for text in ("car", "car=", "car=0", "=1", "car=x"):
        assert run(tmp_path / "a.json", "--output", tmp_path / "other", "--category-ids", text) == 2
        assert "--category-ids must be NAME=ID with ids from 1" in capsys.readouterr().err
    assert run(tmp_path / "a.json", "--output", tmp_path / "other", "--category-ids", "car=1", "car=2") == 2
    assert "names 'car' twice" in capsys.readouterr().err


def test_bad_records(tmp_path, capsys):
    path = write(
        tmp_path / "a.json",
        coco(*(coco_object(index, segmentation=[[1, 1, 5, 5]]) for index in range(1, 8)), coco_object(9)),
    )
    assert run(path, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "annotation 1: polygon 0 has 2 points" in error and error.count("\n") == 1
    assert files(tmp_path) == ["a.json"] and not (tmp_path / "out").exists()
    assert run(path, "--output", tmp_path / "out", "--on-error", "skip") == 0
    printed = capsys.readouterr().out
    assert "skipped 7 bad records, such as" in printed and printed.count("has 2 points") == 5


def test_what_is_there_is_not_replaced(source, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = (source / "cups.json", "--output", out)
    assert run(*arguments) == 0 and run(*arguments) == 2
    assert "exists; pass overwrite=True to replace it" in capsys.readouterr().err
    assert run(*arguments, "--overwrite") == 0
    (out / "data").rename(tmp_path / "elsewhere")
    assert run(*arguments) == 2 and "README.md' exists" in capsys.readouterr().err
    (out / "photos").mkdir()
    assert run(*arguments, "--overwrite") == 2
    assert "photos' exists; choose another folder, or move it away" in capsys.readouterr().err


def test_a_failed_conversion_leaves_what_was_there(source, tmp_path):
    out = tmp_path / "out"
    run(source / "cups.json", "--images", source / "photos", "--output", out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    bad = write(tmp_path / "bad.json", coco(coco_object(1), coco_object(2, segmentation=[[1, 1, 5, 5]])))
    assert run(source / "cups.json", f"val={bad}", "--output", out, "--overwrite") == 2
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_killed_at_every_step_the_old_data_set_or_the_new_one_is_there(source, tmp_path):
    """Shards and card belong together."""
    few, many = (
        write(tmp_path / f"{count}.json", coco(*(coco_object(index) for index in range(1, count + 1))))
        for count in (1, 3)
    )
    for path in (few, many):
        assert run(path, "--output", tmp_path / path.stem / "out") == 0
    old, new = (tree(tmp_path / path.stem / "out") for path in (few, many))
    found = []
    for _ in killed_at_every_step(
        lambda: run(many, "--output", tmp_path / "out", "--overwrite"),
        lambda: run(few, "--output", tmp_path / "out", "--overwrite"),
    ):
        found.append(tree(tmp_path / "out"))
    assert old in found and new in found and all(state in (old, new) for state in found)
    assert not [name for name in files(tmp_path) if name.startswith(".partial")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.json", "b.json"], "split 'train' is given twice; write SPLIT=ANNOTATIONS"),
        (["a.json", "--format", "columns"], "--format columns and --columns KEY=COLUMN ... need each other"),
        (["a.json", "--columns", "masks=a"], "--format columns and --columns KEY=COLUMN ... need each other"),
        (["a.json", "--config", "x"], "--config is of --format columns alone"),
        (["a", "--format", "columns", "--columns", "masks=a", "--images", "b"], "--images is not for --format columns"),
        (["a.json", "--images", "x", "y"], "--images must have one folder, or one for each of the 1 splits"),
        (["a.json", "--photos", "beside", "--push-to-hub", "u/n"], "--push-to-hub needs --photos embed or none"),
        (["a.json", "--push-to-hub", "n"], "`repo_id` must be of the form 'user/name', got 'n'"),
        (["a.json", "--private"], "--private is of --push-to-hub alone"),
        (["a.json", "--shard-size", "0"], "--shard-size must be positive and finite, got 0"),
        (["nowhere.json"], "nowhere.json"),
    ],
)
def test_arguments_are_checked(tmp_path, capsys, arguments, message):
    assert run(*arguments, "--output", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_push(source, tmp_path, monkeypatch, capsys):
    hub = FakeHub()
    monkeypatch.setattr("amodal_diffusion.hub.HfApi", hub)
    options = ["--output", tmp_path / "out", "--push_to_hub", "user/cups", "--private"]
    assert run(source / "cups.json", "--images", source / "photos", *options) == 0
    assert capsys.readouterr().out.endswith("https://hub/user/cups/commit/1\n")
    assert hub.calls[1] == ("create", "user/cups", {"repo_type": "dataset", "private": True, "exist_ok": True})
    assert hub.calls[2][2]["allow_patterns"] == ["README.md", "data/*.parquet", "layers/*.zip", "*.jpg", "rooms.json"]
    assert 'load_amodal_dataset("user/cups", split="train"' in hub.files["README.md"].decode()


def test_convert_dataset_checks_its_arguments(tmp_path):
    rows = list(iter_annotations(coco(coco_object())))
    for splits, options, message in (
        ({"train": rows}, {"photos": "inside"}, r"`photos` must be one of 'embed', 'beside', 'none', got 'inside'"),
        ({"train": rows}, {"max_shard_bytes": 0}, "max_shard_bytes must be positive, got 0"),
        ({}, {}, "splits must have at least one split"),
        ({"a/b": rows}, {}, "a split must be a word of letters, digits and _, got 'a/b'"),
        ({"train": rows, "val": []}, {}, "split 'val' has no rows"),
        ({"train": rows}, {"photos": "beside"}, "image 1 has no photo to be put beside the shards"),
    ):
        with pytest.raises(ValueError, match=message):
            convert_dataset(splits, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", "../up.png", "/etc/passwd"])
def test_photos_never_leave_their_folder(tmp_path, name):
    photo = save_photo(tmp_path / "1.png")
    (row,) = iter_annotations(coco(coco_object()))
    row |= {"file_name": name, "image": str(photo)}
    with pytest.raises(ValueError, match="which is none in a folder of photos"):
        convert_dataset({"train": [row]}, tmp_path / "out", photos="beside")
    assert files(tmp_path) == ["1.png"]
    row.pop("image")
    convert_dataset({"train": [row]}, tmp_path / "out")
    with pytest.raises(ValueError, match="is no name of a photo in"):
        load_amodal_dataset(tmp_path / "out", images=tmp_path)


def test_two_photos_of_one_name(tmp_path):
    (row,) = iter_annotations(coco(coco_object()))
    rows = [row | {"image": str(save_photo(tmp_path / name))} for name in ("1.png", "2.png")]
    with pytest.raises(ValueError, match=r"two photos have the file name '1\.png'"):
        convert_dataset({"train": rows}, tmp_path / "out", photos="beside")
    twice = convert_dataset({"train": [rows[0], rows[0]]}, tmp_path / "out", photos="beside")
    assert twice.counts["train"].numbers()["images"] == 2 and len(load_amodal_dataset(tmp_path / "out")) == 2


def test_photos_elsewhere(source, tmp_path):
    run(source / "cups.json", "--output", tmp_path / "out")
    for streaming in (False, True):
        dataset = read_annotations(tmp_path / "out", source / "photos", streaming=streaming)
        assert [row["image"].size for row in dataset] == [(WIDTH, HEIGHT)] * 2
    with pytest.raises(NotADirectoryError, match="images must be a folder of photos"):
        load_amodal_dataset(tmp_path / "out", images=tmp_path / "nowhere")
    run(source / "cups.json", "--images", source / "photos", "--output", tmp_path / "with")
    with pytest.raises(ValueError, match="images must be None for a data set with photos in it"):
        load_amodal_dataset(tmp_path / "with", images=source / "photos")


def test_rows_pass_through(tmp_path, monkeypatch):
    """No more rows are held than a batch."""
    monkeypatch.setattr("amodal_diffusion.data.parquet.ROW_BATCH", 10)
    written = []

    def rows():
        (row,) = iter_annotations(coco(coco_object()))
        for index in range(95):
            written.append(sum(path.parent.name == "data" for path in tmp_path.rglob("*")))
            yield row | {"image_id": str(index)}

    converted = convert_dataset({"train": rows()}, tmp_path / "out", max_shard_bytes=1)
    assert [path.name for path in converted.files] == [f"train-{index:05d}-of-00010.parquet" for index in range(10)]
    assert written[0] == 0 and written[94] >= 8  # shards are there before the last rows are read
    found = [row["image_id"] for row in load_amodal_dataset(tmp_path / "out", streaming=True)]
    assert found == [str(index) for index in range(95)]


def test_errors_of_a_reader_pass(tmp_path):
    with pytest.raises(AnnotationError, match="annotation 1"):
        convert_dataset({"train": iter_annotations(coco(coco_object(segmentation=[[1, 1, 5, 5]])))}, tmp_path / "out")


@needs_shared
def test_real_files(tmp_path):
    names = {"cocoa": "amodal_gt/annotations.json", "coco": "coco_subset/instances.json"}
    for name, file in names.items():
        assert run(f"val={SHARED / file}", "--format", name, "--output", tmp_path / name) == 0
        counted = json.loads((SHARED / file).read_text(encoding="utf-8"))
        assert sum(1 for _ in load_amodal_dataset(tmp_path / name, streaming=True)) == len(counted["images"])


def test_evaluate_reads_streams_and_formats(tmp_path, capsys):
    regions = [region(0, 0, 8, 8), region(4, 0, 8, 8, visible_mask=encode_rle(box_mask(8, 0, 4, 8)))]
    path = write(tmp_path / "scenes.json", cocoa(*regions))
    run(path, "--output", tmp_path / "out")
    capsys.readouterr()
    reports = []
    for place, options in (
        (path, []),
        (path, ["--streaming", "--format", "cocoa"]),
        (tmp_path / "out", ["--streaming"]),
    ):
        report = tmp_path / "report.json"
        common = ["--methods", "raw,convex", "--json", str(report)]
        assert main(["evaluate", "--annotations", str(place), *common, *options]) == 0
        reports.append(json.loads(report.read_text()))
    for field in ("completion", "order", "counts"):
        np.testing.assert_equal(reports[1][field], reports[0][field])
        np.testing.assert_equal(reports[2][field], reports[0][field])
    capsys.readouterr()
    bad = write(tmp_path / "bad.json", coco(coco_object(segmentation=[[1, 1, 5, 5]])))
    assert main(["evaluate", "--annotations", str(bad), "--methods", "raw", "--streaming"]) == 2
    assert "bad.json: annotation 1: polygon 0 has 2 points" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "found"), [("kins", "cocoa"), ("coco", "cocoa"), ("cocoa", "coco"), ("cityscapes", "coco")]
)
def test_the_format_that_a_file_has_is_suggested(tmp_path, capsys, given, found):
    content = cocoa(region(0, 0, 4, 4)) if found == "cocoa" else coco(coco_object())
    path = write(tmp_path / "a.json", content)
    assert run(path, "--format", given, "--output", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said.startswith("amodal-diffusion dataset convert: error: ") and f"It looks like --format {found}." in said


def test_other_columns_are_hinted_at(tmp_path, capsys):
    Dataset.from_dict({"segmentation": [[1]]}).to_parquet(tmp_path / "a.parquet")
    assert run(tmp_path / "a.parquet", "--output", tmp_path / "out") == 2
    assert "For a data set with other columns give --format columns" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png"])
def test_a_photo_that_is_cut_off_is_refused_or_skipped_by_name(tmp_path, capsys, name):
    """Embedded, it would end every later reader without a file name."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for file in (name, "whole.png"):
        Image.fromarray(pixels).save(tmp_path / file)
    os.truncate(tmp_path / name, (tmp_path / name).stat().st_size - 60)
    images = [image(file_name=name), image(2, file_name="whole.png")]
    content = coco(coco_object(1), coco_object(2, image_id=2), images=images)
    path = write(tmp_path / "a.json", content)
    assert run(path, "--images", tmp_path, "--output", tmp_path / "out") == 2
    assert f"image 1: photo {name!r} cannot be read: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(path, "--images", tmp_path, "--output", tmp_path / "out", "--on-error", "skip") == 0
    assert [row["file_name"] for row in load_amodal_dataset(tmp_path / "out")] == ["whole.png"]
