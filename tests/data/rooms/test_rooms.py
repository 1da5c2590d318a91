"""Furnished rooms: what stands where, the split of the furniture, data sets that go on where they were cut off."""

import json
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.cli.main import main
from amodal_diffusion.data import load_amodal_dataset, record_masks
from amodal_diffusion.data.rooms import (
    FurnitureLibrary,
    PlacedObject,
    RoomSettings,
    furnish,
    generate_rooms,
    make_room,
    read_colors,
)
from amodal_diffusion.data.rooms.furnishing import role_of
from amodal_diffusion.data.rooms.furnishing.layouts import RoomPlan, boxes_meet, surfaces_meet
from amodal_diffusion.data.rooms.generate import _run, split_items
from kill_helpers import killed_at_every_step
from room_helpers import box, write_library

pytest.importorskip("embreex")

PLAN = RoomPlan("test", (("storage", 1, 1), ("sofa", 1, 1)), (1, 1), (2, 3), (1, 2), (1, 1), (4, 6), (4.0, 5.0))
SETTINGS = RoomSettings(size=64, rooms_per_shard=1, views=1, min_objects=3)


@pytest.fixture(scope="module")
def furniture(tmp_path_factory):
    return write_library(tmp_path_factory.mktemp("furniture"))


@pytest.fixture
def library(furniture):
    return FurnitureLibrary(furniture)


def test_items_and_their_parts(library):
    roles = {item.name: role_of(item) for item in library.items}
    assert roles["Oak chair"] == "seat"
    assert roles["Oak table"] == "table"
    assert roles["Bookcase"] == "storage"
    assert roles["Cup"] == "small"
    assert roles["Wall clock"] == "mounted"
    assert roles["Window"] == "opening"
    assert roles["Bus"] is None


def test_models_have_the_size_of_the_catalogue(library):
    item = library.items[0]
    mesh = library.load(item)
    assert np.allclose(mesh.bounds, [[-0.225, 0, -0.225], [0.225, 0.9, 0.225]])
    assert (mesh.label, mesh.category) == ("oak chair", "Living room")
    assert library.load(item) is mesh


def test_a_cache_gives_the_same_model(furniture, tmp_path):
    first = FurnitureLibrary(furniture, cache=tmp_path)
    again = FurnitureLibrary(furniture, cache=tmp_path)
    item = first.items[1]
    made = first.load(item)
    again._archives.clear()
    read = again.load(item)
    assert (made.vertices == read.vertices).all()
    assert (made.faces == read.faces).all()
    assert made.materials[0].color == read.materials[0].color
    assert len(list(tmp_path.iterdir())) == 1


def test_the_splits_share_nothing(library):
    train, test = split_items(library, "train"), split_items(library, "test")
    assert {item.name for item in test} == {"Test cup", "Test vase"}
    assert not {item.key for item in train} & {item.key for item in test}


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [(["None"], ValueError, r"names must be of \['Small'\], got \['None'\]")],
)
def test_unknown_libraries(furniture, names, error, message):
    with pytest.raises(error, match=message):
        FurnitureLibrary(furniture, names)


def test_no_library(tmp_path):
    with pytest.raises(FileNotFoundError, match="no furniture library"):
        FurnitureLibrary(tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_goes_through_anything_and_all_stand(library, seed):
    layout = furnish(library, library.items, np.random.default_rng(seed), plan=PLAN)
    assert len(layout.placements) >= 5
    half = np.array([layout.size[0], 0, layout.size[2]]) / 2
    for index, place in enumerate(layout.placements):
        low, high = place.placed.bounds
        assert (low[[0, 2]] >= -half[[0, 2]]).all()
        assert (high[[0, 2]] <= half[[0, 2]]).all()
        if place.role not in ("small", "mounted", "opening"):
            assert low[1] == pytest.approx(0, abs=1e-6)
        if place.role == "small":
            below = [other for other in layout.placements if other.role in ("table", "storage", "sofa", "seat")]
            gaps = [low[1] - other.placed.bounds[1][1] for other in below]
            assert min(abs(gap) for gap in gaps) < 0.02
        for other in layout.placements[:index]:
            if boxes_meet(place.placed.bounds, other.placed.bounds):
                assert not surfaces_meet(place.placed, other.placed, lift=0.03)


def test_a_layout_is_a_function_of_its_seed(library):
    layouts = [furnish(library, library.items, np.random.default_rng(3)) for _ in range(2)]
    assert [place.item.key for place in layouts[0].placements] == [place.item.key for place in layouts[1].placements]
    for one, other in zip(layouts[0].placements, layouts[1].placements, strict=True):
        assert (one.placed.to_world == other.placed.to_world).all()


def test_items_that_belong_in_no_room(library):
    with pytest.raises(ValueError, match="items must have something that belongs in a room, got 1"):
        furnish(library, [item for item in library.items if item.name == "Bus"], np.random.default_rng(0))


def test_surfaces_meet_where_they_cut():
    one = PlacedObject(box(half=0.5))
    assert surfaces_meet(one, PlacedObject(box(half=0.5, center=(0.9, 0.3, 0.2))))
    assert not surfaces_meet(one, PlacedObject(box(half=0.2)))  # inside, and nowhere near the surface
    assert not surfaces_meet(one, PlacedObject(box(half=0.5, center=(1.1, 0, 0))))


def test_a_room_has_photos_masks_and_colours(library):
    photos = make_room(library, SETTINGS, 0)
    assert len(photos) == 1
    row = photos[0].row
    modal, amodal = record_masks(row)
    assert len(row["objects"]) >= 3
    assert (modal & ~amodal).sum() == 0
    assert photos[0].front.shape == (len(modal), len(modal))
    for index, (x, y, picture) in photos[0].colors.objects.items():
        frame = photos[0].colors.paint(index, *amodal.shape[1:])
        assert ((frame[..., 3] > 0) == amodal[index]).all()
        assert picture.shape[0] + y <= amodal.shape[1]
        assert picture.shape[1] + x <= amodal.shape[2]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_data_set_that_was_cut_off_goes_on(furniture, tmp_path, monkeypatch):
    whole = generate_rooms(furniture, tmp_path / "whole", 3, SETTINGS)
    seen = []

    def stop(done, total):
        seen.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_rooms(furniture, tmp_path / "cut", 3, SETTINGS, on_shard=stop)
    assert (tmp_path / "cut" / "parts" / "train-00000.part").exists()
    generate_rooms(furniture, tmp_path / "cut", 3, SETTINGS, on_shard=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    ours = {name: content for name, content in contents(tmp_path / "cut").items() if name != "README.md"}
    assert ours == {name: content for name, content in contents(whole).items() if name != "README.md"}


def test_a_finished_data_set_grows(furniture, tmp_path):
    generate_rooms(furniture, tmp_path / "out", 1, SETTINGS)
    first = (tmp_path / "out" / "data" / "train-00000-of-00001.parquet").read_bytes()
    generate_rooms(furniture, tmp_path / "out", 2, SETTINGS)
    names = sorted(contents(tmp_path / "out"))
    assert names == [
        "README.md",
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
        "layers/train-00000-of-00002.zip",
        "layers/train-00001-of-00002.zip",
        "rooms.json",
    ]
    assert (tmp_path / "out" / "data" / "train-00000-of-00002.parquet").read_bytes() == first
    rows = load_amodal_dataset(tmp_path / "out")
    assert read_colors(tmp_path / "out", "train", rows[-1]["image_id"]).depth.shape == (
        rows[-1]["height"],
        rows[-1]["width"],
    )
    assert "Small" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ValueError, match=r"begun with other settings: \['seed'\]"):
        generate_rooms(furniture, tmp_path / "out", 2, RoomSettings(**{**SETTINGS.__dict__, "seed": 1}))
    for text in ("", "{", "[]", '{"settings": 1}'):
        (tmp_path / "out" / "rooms.json").write_text(text)
        with pytest.raises(ValueError, match="rooms.json'? is no (valid JSON|manifest of rooms)"):
            generate_rooms(furniture, tmp_path / "out", 2, SETTINGS)
    (tmp_path / "out" / "rooms.json").unlink()
    with pytest.raises(FileExistsError, match="holds other files, such as 'README.md'; choose a new folder"):
        generate_rooms(furniture, tmp_path / "out", 2, SETTINGS)
    assert not (tmp_path / "out" / "rooms.json").exists()


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_every_step_a_data_set_goes_on(furniture, tmp_path, stride):
    """What a killed run leaves is read or taken up by the next one, which ends with the same files."""
    settings, cache = RoomSettings(size=32, rooms_per_shard=1, views=1, min_objects=1), tmp_path / "cache"
    one = generate_rooms(furniture, tmp_path / "one", 1, settings, cache=cache)
    two = contents(generate_rooms(furniture, shutil.copytree(one, tmp_path / "two" / "out"), 2, settings, cache=cache))
    folder = tmp_path / "out"

    def reset():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(one, folder)

    steps = 0
    for _ in killed_at_every_step(lambda: generate_rooms(furniture, folder, 2, settings, cache=cache), reset, stride):
        steps += 1
        generate_rooms(furniture, folder, 2, settings, cache=cache)
        assert contents(folder) == two
    assert steps and contents(folder) == two


def test_masks_alone(furniture, tmp_path, capsys):
    arguments = ["make-rooms", str(furniture), "--output", str(tmp_path / "out"), "--rooms", "2", "--views", "1"]
    assert main([*arguments, "--masks-only", "--size", "64", "--cache", str(tmp_path / "cache"), "--workers", "2"]) == 0
    assert "1 of 1 shards" in capsys.readouterr().out
    rows = load_amodal_dataset(tmp_path / "out")
    assert "image" not in rows.column_names
    assert not (tmp_path / "out" / "layers").exists()
    assert json.loads((tmp_path / "out" / "rooms.json").read_text())["settings"]["masks_only"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "val"}, "`split` must be one of 'train'"),
        ({"size": 8}, r"`size` must lie in \[32, 4096\], got 8"),
        ({"views": 0}, "`views` must be at least 1, got 0"),
        ({"seed": -1}, "`seed` must be at least 0, got -1"),
    ],
)
def test_settings(options, message):
    with pytest.raises(ValueError, match=message):
        RoomSettings(**options)


def test_no_rooms(furniture, tmp_path):
    with pytest.raises(ValueError, match="`rooms` must be at least 1, got 0"):
        generate_rooms(furniture, tmp_path / "out", 0)


def leave_trace(folder, broken, number):
    """A shard that takes a moment; one of them fails. At the module's level, so that processes can be given it."""
    if number == broken:
        raise OSError("the disk is full")
    time.sleep(0.05)
    (Path(folder) / str(number)).touch()


@pytest.mark.parametrize("fails", ["a shard", "the caller"])
def test_what_has_not_begun_is_left_where_something_fails(tmp_path, fails):
    with pytest.raises((OSError, KeyboardInterrupt)):
        for _ in _run(partial(leave_trace, tmp_path, 0 if fails == "a shard" else None), list(range(60)), 2):
            if fails == "the caller":
                raise KeyboardInterrupt
    made = len(list(tmp_path.iterdir()))
    time.sleep(0.5)
    assert made == len(list(tmp_path.iterdir())) < 30  # nor is any made behind the caller's back
