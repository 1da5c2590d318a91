"""The feature cache of SDAmodal: filling, resuming, refusing what is stale or damaged."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from amodal_diffusion.pipelines.sdamodal import feature_cache
from repository_helpers import ROOT
from training_helpers import script_environment

SHAPES = [(6, 4, 4), (3, 8, 8)]
SETTINGS = {
    "checkpoint": "abc",
    "time_step": 181,
    "num_draws": 8,
    "noise_seed": 0,
    "resolution": 64,
    "up_blocks": (0, 1),
    "dtype": "float32",
}


@pytest.fixture
def module():
    return feature_cache


@pytest.fixture
def make(module, tmp_path):
    """Open the cache of a test, with settings changed or not."""

    def open_cache(folder=tmp_path / "cache", **changed):
        return module.FeatureCache(folder, {**SETTINGS, **changed}, SHAPES)

    return open_cache


def maps_of(key):
    generator = torch.Generator().manual_seed(int(key))
    return [torch.randn(1, *shape, generator=generator) for shape in SHAPES]


def names(keys):
    return {key: f"photo-{key}" for key in keys}


def fill(cache, keys, compute=maps_of, **options):
    cache.fill(list(keys), names(keys), compute, show_progress=False, **options)
    return cache


def shards(folder):
    return sorted(folder.glob("*.safetensors"))


def test_gives_back_what_was_put_in(make, tmp_path):
    keys = ["1", "2", "3", "4", "5"]
    written = fill(make(), keys, shard_bytes=600)
    cache = make()  # a later run
    assert len(cache) == len(written) == 5
    assert len(shards(tmp_path / "cache")) == 3  # 576 bytes a photo, so two photos a shard
    for key in reversed(keys):
        assert key in cache
        for found, expected in zip(cache.read(key), maps_of(key), strict=True):
            assert found.dtype == torch.bfloat16
            assert torch.equal(found, expected.bfloat16())
    assert "9" not in cache
    assert cache.missing(names(["9", *keys])) == ["9"]
    with pytest.raises(KeyError):
        cache.read("9")


def test_nothing_is_left_beside_the_shards(make, tmp_path):
    fill(make(), "123", shard_bytes=1)
    assert sorted(path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".safetensors") == [
        "cache.json"
    ]


def test_photos_without_features_are_left_out(make):
    cache = fill(make(), "123", lambda key: None if key == "2" else maps_of(key))
    assert [key in cache for key in "123"] == [True, False, True]


def test_an_error_keeps_what_was_complete(make):
    def compute(key):
        if key == "3":
            raise RuntimeError("out of memory")
        return maps_of(key)

    with pytest.raises(RuntimeError, match="out of memory"):
        fill(make(), "12345", compute)
    cache = make()
    assert [key in cache for key in "12345"] == [True, True, False, False, False]
    computed = []
    fill(cache, cache.missing(names("12345")), lambda key: computed.append(key) or maps_of(key))
    assert computed == ["3", "4", "5"]
    assert torch.equal(make().read("3")[0], maps_of("3")[0].bfloat16())


def test_a_shard_is_closed_after_a_while(make, module, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "SECONDS_AT_RISK", -1.0)
    fill(make(), "123")
    assert len(shards(tmp_path / "cache")) == 3


def test_a_killed_fill_goes_on_at_the_next_photo(make, tmp_path):
    code = f"""
import sys, time, torch
sys.path[:0] = [{str(ROOT / "tests" / "pipelines" / "sdamodal")!r}, {str(ROOT / "tests" / "helpers")!r}]
from amodal_diffusion.pipelines.sdamodal.feature_cache import FeatureCache
from test_feature_cache import SETTINGS, SHAPES, maps_of, names
cache = FeatureCache({str(tmp_path / "cache")!r}, SETTINGS, SHAPES)
def slow(key):
    if key == "5":
        time.sleep(600)
    return maps_of(key)
cache.fill(list("123456"), names("123456"), slow, show_progress=False, shard_bytes=1)
"""
    process = subprocess.Popen([sys.executable, "-c", code], env=script_environment(), start_new_session=True)
    deadline = time.monotonic() + 120
    while len(shards(tmp_path / "cache")) < 4 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (tmp_path / "cache" / ".partial-00").write_bytes(b"half")  # what a kill amid writing leaves
    cache = make()
    missing = cache.missing(names("123456"))
    assert missing == ["5", "6"]
    fill(cache, missing)
    for key in "123456":
        assert torch.equal(cache.read(key)[1], maps_of(key)[1].bfloat16())


def test_two_runs_that_start_at_one_moment_make_one_cache(make, tmp_path, monkeypatch):
    """The other one makes the cache after this one has looked for it, and before it looks what else is there."""
    exists = Path.exists

    def look(path):
        found = exists(path)
        if path.name == "cache.json" and not found:
            monkeypatch.undo()
            fill(make(), "1")
        return found

    monkeypatch.setattr(Path, "exists", look)
    assert "1" in make() and [path.name for path in (tmp_path / "cache").glob("*.json")] == ["cache.json"]


def test_two_runs_fill_one_folder(make):
    first, second = make(), make()
    fill(first, "12")
    fill(second, "345")
    fill(second, "2")  # computed twice: harmless
    first.refresh()
    assert len(first) == 5
    assert torch.equal(first.read("4")[0], maps_of("4")[0].bfloat16())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("checkpoint", "def"),
        ("time_step", 261),
        ("num_draws", 1),
        ("noise_seed", 7),
        ("resolution", 128),
        ("up_blocks", [1]),
        ("dtype", "bfloat16"),
    ],
)
def test_other_settings_are_refused_by_name(make, name, value):
    fill(make(), "1")
    with pytest.raises(ValueError, match=f"{name}: the cache has .*, this run {value!r}".replace("[", r"\[")) as error:
        make(**{name: value})
    assert "clear_cache" in str(error.value)
    others = [other for other in SETTINGS if other != name]
    assert not any(f"{other}: the cache" in str(error.value) for other in others)
    assert len(make()) == 1  # refused, not touched


def test_a_setting_that_is_new_or_gone_is_refused(make):
    make()
    with pytest.raises(ValueError, match="prompt: the cache has None, this run 'a'"):
        make(prompt="a")


def test_another_format_is_refused(make, tmp_path):
    make()
    path = tmp_path / "cache" / "cache.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 0'))
    with pytest.raises(ValueError, match="format: the cache has 0, this run 1"):
        make()


def test_a_changed_photo_is_refused(make):
    cache = fill(make(), "12")
    with pytest.raises(ValueError, match=r"1 photos are not those it was made from, the first is photo-1\."):
        cache.missing({"2": "photo-2", "8": "photo-1"})
    assert cache.missing({"1": "photo-1", "8": "photo-1"}) == ["8"]  # two data sets that name their photos alike


def test_a_truncated_shard_is_refused_by_name(make, tmp_path):
    fill(make(), "1234", shard_bytes=600)
    first, second = shards(tmp_path / "cache")
    content = first.read_bytes()
    for length in (0, 4, 40, len(content) - 1):
        first.write_bytes(content[:length])
        with pytest.raises(ValueError, match=f"shard {first.name} is damaged"):
            make()
    first.unlink()  # as the message says
    cache = make()
    assert len(cache) == 2
    fill(cache, cache.missing(names("1234")))
    assert len(make()) == 4
    assert second.exists()


def test_changed_bytes_are_refused_when_read(make, tmp_path):
    fill(make(), "12")
    (shard,) = shards(tmp_path / "cache")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    cache = make()
    with pytest.raises(ValueError, match=f"shard {shard.name} is damaged .its bytes have changed"):
        for key in "12":
            cache.read(key)


def test_a_shard_of_something_else_is_refused(make, tmp_path):
    fill(make(), "1")
    (shard,) = shards(tmp_path / "cache")
    save_file(load_file(shard), shard)
    with pytest.raises(ValueError, match="is damaged .'photos'"):
        make()
    index = [{"key": "1", "name": "photo-1", "crc32": [0, 0]}]
    save_file({"0.0": torch.zeros(2, 2), "0.1": torch.zeros(2)}, shard, metadata={"photos": json.dumps(index)})
    with pytest.raises(ValueError, match=r"maps of shapes \[\(2, 2\), \(2,\)\]"):
        make()


def test_a_shard_that_disappears_is_named(make, tmp_path):
    cache = fill(make(), "1")
    (shard,) = shards(tmp_path / "cache")
    shard.unlink()
    with pytest.raises(ValueError, match=f"shard {shard.name} is damaged"):
        cache.read("1")


def test_a_folder_that_is_no_cache_is_refused(make, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(ValueError, match=r"has no cache\.json but holds a\.jpg"):
        make(tmp_path / "photos")
    with pytest.raises(ValueError, match="must be a folder, but .* is a file"):
        make(tmp_path / "photos" / "a.jpg")


@pytest.mark.parametrize(("text", "message"), [("{", "is no valid JSON"), ("[]", "must hold a JSON object")])
def test_a_broken_index_is_refused(make, tmp_path, text, message):
    make()
    (tmp_path / "cache" / "cache.json").write_text(text)
    with pytest.raises(ValueError, match=f"cache.json {message}"):
        make()


def test_rebuilding_deletes_the_cache_alone(make, module, tmp_path):
    fill(make(), "1")
    folder = tmp_path / "cache"
    (folder / "notes.txt").touch()
    module.clear_cache(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    assert len(make(time_step=5)) == 0
    module.clear_cache(tmp_path / "not there")


def test_disk_space_is_checked_before(make, module, monkeypatch, caplog):
    cache = make()
    assert cache.bytes_per_photo == 576
    with caplog.at_level("INFO"):
        cache.check_space(1000)
    assert "features of 1000 photos need 0.58 MB (0.00 MB each)" in caplog.text
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 575})())
    with pytest.raises(OSError, match="features of 1 photos need .* but 0.00 MB are free"):
        cache.check_space(1)


def test_features_that_are_wrong_are_not_written(make, tmp_path):
    with pytest.raises(ValueError, match=r"features of photo photo-1 have shapes \[\(1, 6, 4, 4\)\]"):
        fill(make(), "1", lambda key: maps_of(key)[:1])
    with pytest.raises(FloatingPointError, match="features of photo photo-1 are not finite"):
        fill(make(), "1", lambda key: [maps_of(key)[0], torch.full((1, 3, 8, 8), float("nan"))])
    assert not shards(tmp_path / "cache")
