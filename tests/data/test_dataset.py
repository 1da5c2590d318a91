"""Parquet on disk and on the Hub: nothing changes on the way, and no half-written folder stays."""

import os

import numpy as np
import pyarrow.parquet as parquet
import pytest
from datasets import Dataset, DatasetDict, IterableDataset, NamedSplit, load_dataset
from huggingface_hub import DatasetCard

from amodal_diffusion.data import (
    amodal_features,
    convert_dataset,
    detect_format,
    has_depth,
    load_amodal_dataset,
    push_dataset,
    read_annotations,
    record_depths,
    record_masks,
    record_order,
    save_parquet,
)
from amodal_diffusion.data import parquet as data_shards
from amodal_diffusion.masks import encode_rle
from data_helpers import HEIGHT, WIDTH, FakeHub, box_mask, coco, coco_object, cocoa, image, region, save_photo, write
from kill_helpers import killed_at_every_step
from repository_helpers import SHARED, needs_shared


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def cocoa_content():
    """Two images: a hidden part, a fully hidden region, an order; then an image without objects."""
    regions = (
        region(0, 0, 4, 8),
        region(0, 0, 8, 8, visible_mask=encode_rle(box_mask(4, 0, 4, 8))),
        region(1, 1, 2, 2, visible_mask=encode_rle(np.zeros((HEIGHT, WIDTH)))),
    )
    return cocoa(*regions, depth_constraint="1-2,1-3", images=[image(1), image(2)])


def photos(folder, count=2):
    folder.mkdir(exist_ok=True)
    for index in range(1, count + 1):
        save_photo(folder / f"{index}.png")
    return folder


def many(count):
    """Images of which each has as many objects as its number modulo 3."""
    objects = [coco_object(3 * index + extra, index) for index in range(1, count + 1) for extra in range(index % 3)]
    return read_annotations(coco(*objects, images=[image(index) for index in range(1, count + 1)]))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "content", [cocoa_content(), coco(coco_object(), images=[image(1), image(2)])], ids=["cocoa", "coco"]
)
def test_round_trip(tmp_path, content, streaming):
    dataset = read_annotations(content)
    (path,) = save_parquet(dataset, tmp_path / "out")
    assert path == tmp_path / "out" / "data" / "train-00000-of-00001.parquet" and path.is_file()
    loaded = load_amodal_dataset(tmp_path / "out", streaming=streaming)
    assert isinstance(loaded, IterableDataset if streaming else Dataset)
    assert loaded.features == amodal_features()
    assert list(loaded) == dataset.to_list()


def test_decoded_after_the_round_trip(tmp_path):
    save_parquet(read_annotations(cocoa_content()), tmp_path / "out")
    row = load_amodal_dataset(tmp_path / "out")[0]
    modal, amodal = record_masks(row)
    np.testing.assert_array_equal(modal, [box_mask(0, 0, 4, 8), box_mask(4, 0, 4, 8), box_mask(0, 0, 0, 0)])
    np.testing.assert_array_equal(amodal, [box_mask(0, 0, 4, 8), box_mask(0, 0, 8, 8), box_mask(1, 1, 2, 2)])
    np.testing.assert_array_equal(record_order(row), [[0, 1, 1], [-1, 0, 0], [-1, 0, 0]])


def test_photos_travel_unchanged(tmp_path):
    folder = photos(tmp_path / "photos")
    save_parquet(read_annotations(cocoa_content(), folder), tmp_path / "out")
    original = (folder / "2.png").read_bytes()
    os.remove(folder / "2.png")
    for streaming in (False, True):
        loaded = load_amodal_dataset(tmp_path / "out", streaming=streaming)
        assert loaded.features == amodal_features(with_image=True)
        assert list(loaded)[1]["image"].size == (WIDTH, HEIGHT)
    stored = loaded.decode(False)
    assert list(stored)[1]["image"] == {"bytes": original, "path": "2.png"}


def test_shards_and_plain_loading(tmp_path, monkeypatch):
    dataset = many(30)
    paths = save_parquet(dataset, tmp_path / "out", max_shard_bytes=1)
    assert [path.name for path in paths] == ["train-00000-of-00001.parquet"]  # one batch is never cut
    monkeypatch.setattr(data_shards, "ROW_BATCH", 8)
    paths = save_parquet(dataset, tmp_path / "shards", max_shard_bytes=1)
    assert [path.name for path in paths] == [f"train-0000{index}-of-00004.parquet" for index in range(4)]
    assert sorted(path.name for path in (tmp_path / "shards" / "data").iterdir()) == [path.name for path in paths]
    assert load_amodal_dataset(tmp_path / "shards").to_list() == dataset.to_list()
    assert load_dataset(str(tmp_path / "shards"), split="train").to_list() == dataset.to_list()


def test_splits(tmp_path):
    splits = DatasetDict(train=many(4), validation=many(2))
    assert len(save_parquet(splits, tmp_path / "out")) == 2
    assert len(load_amodal_dataset(tmp_path / "out", "validation")) == 2
    with pytest.raises(ValueError, match=r"split must be one of \['train', 'validation'\] of .*, got None"):
        load_amodal_dataset(tmp_path / "out")
    with pytest.raises(ValueError, match="got 'test'"):
        read_annotations(tmp_path / "out", split="test")


@pytest.mark.parametrize(("given", "written"), [("train[:2]", "train"), ("test+train", "test")])
def test_a_part_of_a_split_is_written_as_that_split(tmp_path, given, written):
    part = Dataset(many(2).data, info=many(2).info, split=NamedSplit(given))
    (path,) = save_parquet(part, tmp_path)
    assert path.name == f"{written}-00000-of-00001.parquet"
    assert load_amodal_dataset(tmp_path, written).to_list() == part.to_list()


@pytest.mark.parametrize("name", ["my-split", "a/b", "", "..", "1st"])
def test_a_split_whose_files_would_not_be_found_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="a split must be a word of letters, digits and _, got"):
        save_parquet(DatasetDict({name: many(1)}), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_no_splits_replace_nothing(tmp_path):
    save_parquet(many(3), tmp_path)
    with pytest.raises(ValueError, match="splits must have at least one split"):
        save_parquet(DatasetDict(), tmp_path, overwrite=True)
    assert len(load_amodal_dataset(tmp_path)) == 3


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("lost", [0, 1, 3])
def test_a_shard_that_lacks_is_named(tmp_path, monkeypatch, streaming, lost):
    monkeypatch.setattr(data_shards, "ROW_BATCH", 1)
    paths = save_parquet(DatasetDict(train=many(4), test=many(2)), tmp_path, max_shard_bytes=1)
    paths[lost].unlink()
    with pytest.raises(ValueError, match=f"lacks the shard '{paths[lost].name}'; name a file to read it alone$"):
        load_amodal_dataset(tmp_path, "test", streaming=streaming)
    assert len(list(load_amodal_dataset(paths[2], streaming=streaming))) == 1  # a file by itself


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("height", None, "the column 'height' has no value in 1 of 2 rows"),
        ("objects", None, "the column 'objects' has no value in 1 of 2 rows"),
        ("image_id", None, "the column 'image_id' has no value"),
        ("width", 0, "the column 'width' must be positive, got 0"),
        ("height", "tall", "its columns have other types: .*'tall'"),
        ("height", 96.5, "its columns have other types: Float value 96.5"),
        ("width", 2**40, "its columns have other types: .*not in range"),
        ("objects", "none", "its columns have other types: Couldn't cast"),
        ("order_relations", "none", "its columns have other types: Couldn't cast"),
    ],
)
def test_values_that_are_not_of_the_schema_are_named(tmp_path, column, value, message):
    rows = many(2).to_list()
    rows[1][column] = value
    for row in rows if isinstance(value, str) else []:
        row[column] = value
    table = Dataset.from_list(rows)
    table.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=f"rows.parquet'.*{message}"):
        load_amodal_dataset(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=f"split 'train'.*{message}"):
        save_parquet(table, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_of_plain_python_are_written_as_the_schema(tmp_path):
    """`Dataset.from_list` gives null types to columns without a value, and 64 bits to all whole numbers."""
    dataset = read_annotations(cocoa_content())
    save_parquet(Dataset.from_list(dataset.to_list()), tmp_path)
    loaded = load_amodal_dataset(tmp_path)
    assert parquet.read_schema(next((tmp_path / "data").iterdir())) == amodal_features().arrow_schema
    assert loaded.to_list() == dataset.to_list()


def test_rows_without_a_size_or_with_half_a_relation():
    row = many(2)[1]
    with pytest.raises(ValueError, match="height and width must be positive, got None x 16"):
        record_masks({**row, "height": None})
    for relation in (None, {"front": None, "behind": 0}, {"front": 0, "behind": None}):
        with pytest.raises(ValueError, match="order_relations: indices must be from 0 to 1"):
            record_order({**row, "order_relations": [relation]})


def test_selected_and_renamed_rows(tmp_path):
    dataset = many(9)
    extra = dataset.select([5, 1]).add_column("score", [1, 2])
    save_parquet(extra, tmp_path / "out")
    assert load_amodal_dataset(tmp_path / "out").to_list() == [dataset[5], dataset[1]]


def test_split_without_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="split 'test' has no rows"):
        save_parquet(DatasetDict(train=many(1), test=many(1).select([])), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_existing_folder(tmp_path):
    save_parquet(DatasetDict(train=many(3), test=many(3)), tmp_path)
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_parquet(many(4), tmp_path)
    assert len(load_amodal_dataset(tmp_path, "test")) == 3
    save_parquet(many(5), tmp_path, overwrite=True)
    assert len(load_amodal_dataset(tmp_path)) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "data"]


def test_other_files_are_not_overwritten(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="notes.txt' is no Parquet file"):
        save_parquet(many(1), tmp_path, overwrite=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data").write_text("a file")
    with pytest.raises(FileExistsError, match="data' is no Parquet file"):
        save_parquet(many(1), tmp_path / "out", overwrite=True)


def test_killed_at_every_step_the_old_shards_or_the_new_ones_are_there(tmp_path):
    dataset, found = many(5), []
    for _ in killed_at_every_step(
        lambda: save_parquet(dataset, tmp_path / "out", overwrite=True),
        lambda: save_parquet(many(3), tmp_path / "out", overwrite=True),
    ):
        found.append(sum(parquet.read_table(path).num_rows for path in (tmp_path / "out" / "data").iterdir()))
    assert set(found) == {3, 5}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["data"]


def test_failed_write_leaves_what_was_there(tmp_path):
    folder = photos(tmp_path / "photos")
    save_parquet(many(3), tmp_path / "out")
    dataset = read_annotations(cocoa_content(), folder)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError):
        save_parquet(dataset, tmp_path / "out", overwrite=True)
    assert len(load_amodal_dataset(tmp_path / "out")) == 3
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["data"]


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="max_shard_bytes must be positive, got 0"):
        save_parquet(many(1), tmp_path / "out", max_shard_bytes=0)
    with pytest.raises(ValueError, match="max_shard_bytes must be positive, got nan"):
        save_parquet(many(1), tmp_path / "out", max_shard_bytes=float("nan"))
    with pytest.raises(TypeError, match="dataset must be a datasets.Dataset or DatasetDict, got list"):
        save_parquet([{}], tmp_path / "out")
    with pytest.raises(
        ValueError, match=r"split 'train' is not an amodal data set: it lacks the columns \['file_name'"
    ):
        save_parquet(Dataset.from_dict({"height": [1]}), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_loading_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder, and no Hub id"):
        load_amodal_dataset(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="has no Parquet files"):
        load_amodal_dataset(tmp_path)
    Dataset.from_dict({"text": ["a"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="is not an amodal data set: it lacks the columns"):
        load_amodal_dataset(tmp_path / "other.parquet")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("cut", [0, 9, -9])
def test_a_file_that_is_not_whole_is_named(tmp_path, cut, streaming):
    save_parquet(read_annotations(write(tmp_path / "masks.json", coco())), tmp_path / "data")
    file = next((tmp_path / "data").rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match=f"{file.name}' is no whole Parquet file"):
        load_amodal_dataset(tmp_path / "data", streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True])
def test_files_of_macos_are_passed_over(tmp_path, streaming):
    (path,) = save_parquet(many(4), tmp_path / "out")
    for name in (f"._{path.name}", "._a.json"):
        path.with_name(name).write_bytes(b"\0\5\x16\7")
    assert detect_format(tmp_path / "out") == "parquet"
    assert len(list(load_amodal_dataset(tmp_path / "out", streaming=streaming))) == 4
    path.unlink()
    with pytest.raises(FileNotFoundError, match="has no Parquet files"):
        load_amodal_dataset(tmp_path / "out")


def test_parquet_of_plain_types_is_cast(tmp_path):
    """Files that other tools wrote lack the features in their metadata."""
    import pyarrow.parquet

    (path,) = save_parquet(many(4), tmp_path / "out")
    table = pyarrow.parquet.read_table(path).replace_schema_metadata(None)
    pyarrow.parquet.write_table(table, tmp_path / "plain.parquet")
    for streaming in (False, True):
        loaded = load_amodal_dataset(tmp_path / "plain.parquet", streaming=streaming)
        assert loaded.features == amodal_features() and list(loaded) == many(4).to_list()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (cocoa(), "cocoa"),
        (coco(coco_object()), "coco"),
        (coco(), "coco"),
        (coco(coco_object(), coco_object(2, visible_mask=[])), "cocoa-cls"),
        (coco(coco_object(inmodal_seg=[])), "kins"),
    ],
)
def test_format_is_found(tmp_path, content, expected):
    assert detect_format(content) == detect_format(write(tmp_path / "file.json", content)) == expected


def test_format_of_parquet(tmp_path):
    (path,) = save_parquet(many(2), tmp_path / "out")
    assert detect_format(path) == detect_format(tmp_path / "out") == detect_format("user/data.set-1") == "parquet"
    assert len(read_annotations(path)) == len(read_annotations(tmp_path / "out", format="parquet")) == 2


def test_read_annotations_refuses(tmp_path):
    path = write(tmp_path / "file.json", coco())
    with pytest.raises(ValueError, match=r"format must be 'auto' or one of \['bsds-a', .*got 'voc'"):
        read_annotations(path, format="voc")
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'skip', got 'ignore'"):
        read_annotations(path, on_error="ignore")
    with pytest.raises(ValueError, match="split must be None for an annotation file, got 'val'"):
        read_annotations(path, split="val")
    with pytest.raises(ValueError, match="format 'parquet' needs a path or a Hub id, got dict"):
        read_annotations(coco(), format="parquet")
    with pytest.raises(FileNotFoundError):
        read_annotations(tmp_path / "missing.json")
    with pytest.raises(FileNotFoundError):
        read_annotations("annotations/missing.json")


def test_bad_records_are_handed_on(tmp_path):
    path = write(tmp_path / "file.json", coco(coco_object(1), coco_object(2, segmentation=[])))
    bad = []
    dataset = read_annotations(path, on_error="skip", bad_records=bad)
    assert len(dataset[0]["objects"]) == 1
    assert [(record.file, record.id) for record in bad] == [(str(path), "annotation 2")]


@pytest.fixture
def hub(monkeypatch):
    fake = FakeHub()
    monkeypatch.setattr("amodal_diffusion.hub.HfApi", fake)
    return fake


def test_push(hub, tmp_path):
    dataset = read_annotations(cocoa_content(), photos(tmp_path / "photos"), source="cocoa")
    url = push_dataset(DatasetDict(validation=dataset), "user/street", private=True, token="t", revision="draft")
    assert url == "https://hub/user/street/commit/1"
    login, create, upload = hub.calls
    assert login == ("login", "t")
    assert create == ("create", "user/street", {"repo_type": "dataset", "private": True, "exist_ok": True})
    assert upload[1] == "user/street" and upload[2]["revision"] == "draft"
    assert upload[2]["delete_patterns"] == ["data/*.parquet", "layers/*.zip"]
    assert set(hub.files) == {"README.md", "data/validation-00000-of-00001.parquet"}
    for name, content in hub.files.items():
        (tmp_path / "hub" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hub" / name).write_bytes(content)
    pulled = load_dataset(str(tmp_path / "hub"), split="validation")
    assert pulled.remove_columns("image").to_list() == dataset.remove_columns("image").to_list()
    assert pulled[0]["image"].size == (WIDTH, HEIGHT)


def test_card(hub):
    push_dataset(read_annotations(cocoa_content(), source="cocoa"), "user/street", description="Streets.")
    card = DatasetCard(hub.files["README.md"].decode())
    assert card.data.license == "other" and card.data.pretty_name == "street"
    assert "amodal-completion" in card.data.tags
    assert card.data.configs[0]["data_files"] == [{"split": "train", "path": "data/train-*"}]
    assert "Streets." in card.text
    assert "| train | 2 | 3 | 3 | 2 | 1 | 0 | 0 | 2 | 1 |" in card.text
    assert "CC BY 4.0" in card.text and "zhu2017semantic" in card.text


def test_card_claims_no_licence_for_unknown_sources(hub):
    mixed = read_annotations(coco(coco_object()), source="my photos")
    push_dataset(mixed, "user/cups", license="cc-by-4.0")
    card = DatasetCard(hub.files["README.md"].decode())
    assert card.data.license == "cc-by-4.0"
    assert "- my photos: see its authors' terms" in card.text and "bibtex" not in card.text


@pytest.mark.parametrize("repo_id", ["street", "a/b/c", "../x", "user/"])
def test_push_refuses_a_bad_id(hub, repo_id):
    with pytest.raises(ValueError, match="`repo_id` must be of the form 'user/name'"):
        push_dataset(many(1), repo_id)
    assert hub.calls == []


def test_push_of_another_data_set_makes_no_repository(hub):
    with pytest.raises(ValueError, match="lacks the columns"):
        push_dataset(Dataset.from_dict({"text": ["a"]}), "user/text")
    assert hub.calls == []


def test_loading_from_the_hub_goes_through_datasets(monkeypatch):
    seen = {}

    def load(path, **options):
        seen.update(options, path=path)
        return DatasetDict(train=many(2))

    monkeypatch.setattr("datasets.load_dataset", load)
    assert len(load_amodal_dataset("user/name", revision="v1")) == 2
    assert seen == {"path": "user/name", "streaming": False, "revision": "v1", "cache_dir": None}


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize(
    ("annotations", "images"),
    [("coco_subset/instances.json", "coco_subset"), ("amodal_gt/annotations.json", "amodal_gt/images")],
)
def test_real_files_round_trip_with_photos(tmp_path, annotations, images):
    dataset = read_annotations(SHARED / annotations, SHARED / images)
    save_parquet(dataset, tmp_path / "out", max_shard_bytes=20 * 2**20)
    loaded = load_amodal_dataset(tmp_path / "out", cache_dir=tmp_path / "cache")
    assert loaded.remove_columns("image").to_list() == dataset.remove_columns("image").to_list()
    for row in load_amodal_dataset(tmp_path / "out", streaming=True).decode(False).take(50):
        photo = SHARED / images / row["file_name"]
        assert row["image"] == {"bytes": photo.read_bytes(), "path": photo.name}


def rows_with_depth():
    """Rows of which the first has no object, and one object no depth."""
    rows = read_annotations(cocoa_content()).to_list()
    bare = {**rows[0], "objects": [], "order_relations": [], "image_id": "0"}
    for row in rows:
        for place, item in enumerate(row["objects"]):
            known = {"nearest": 1.0 + place, "mean": 1.25 + place, "farthest": 1.5 + place}
            item["depth"] = known if place else None
    return [bare, *rows]


@pytest.mark.parametrize("streaming", [False, True])
def test_depths_stay_with_their_objects(tmp_path, streaming):
    rows = rows_with_depth()
    convert_dataset({"train": iter(rows)}, tmp_path / "converted")
    loaded = load_amodal_dataset(tmp_path / "converted", streaming=streaming)
    assert loaded.features == amodal_features(with_depth=True) and has_depth(loaded.features)
    assert list(loaded) == rows
    assert record_depths(rows[0]) is None
    depths = record_depths(list(loaded)[1])
    assert np.isnan(depths[0]).all() and depths[1].tolist() == [2.0, 2.25, 2.5]
    if not streaming:
        save_parquet(loaded, tmp_path / "saved")
        assert load_amodal_dataset(tmp_path / "saved").to_list() == rows
    folder = photos(tmp_path / "photos")
    shown = load_amodal_dataset(tmp_path / "converted", streaming=streaming, images=folder)
    assert shown.features == amodal_features(with_image=True, with_depth=True)
    assert not has_depth(read_annotations(cocoa_content()).features)
