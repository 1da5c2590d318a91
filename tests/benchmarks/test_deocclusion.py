"""The benchmark of scene de-occlusion runs, on scenes and on a given photo."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion import ContentPipeline, PCNetContent, PCNetMask, PCNetMaskPipeline, ScenePipeline

pytest.importorskip("cv2")

import deocclusion_speed


def tiny():
    torch.manual_seed(0)
    masks = PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16), order_threshold=0.4)
    content = ContentPipeline(PCNetContent(block_out_channels=(4, 4), sample_size=16), background_size=32)
    return ScenePipeline(masks, content)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deocclusion")
    tiny().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def same_process(monkeypatch):
    """A fresh process for each scene takes seconds to start."""
    monkeypatch.setattr(
        deocclusion_speed, "in_own_process", lambda threads, *arguments: deocclusion_speed.measure(*arguments)
    )


def check(scene, objects):
    assert scene["objects"] == objects and scene["identical"]
    assert set(scene["seconds"]) == {"ours", "one at a time", "PCNet-C", "render", "edit and render"}
    assert set(scene["stages"]) == set(deocclusion_speed.STAGES)
    assert scene["ratio"] > 0 and scene["ratio_to_network"] > 0 and scene["peak_mib"] > 50 and scene["growth_mib"] >= 0


def test_composed_scenes(model, tmp_path, capsys):
    path = tmp_path / "figures.json"
    deocclusion_speed.main(["--model", str(model), "--objects", "2", "3", "--repeats", "1", "--json", str(path)])
    record = json.loads(path.read_text())
    for scene, objects in zip(record["scenes"], (2, 3), strict=True):
        check(scene, objects)
    printed = capsys.readouterr().out
    assert "device" in printed and "  2 objects:" in printed and "peak" in printed and "DIFFERS" not in printed


def test_given_photo(model, tmp_path, capsys):
    photo = deocclusion_speed.make_photo((40, 60))
    assert photo.shape == (40, 60, 3) and photo.dtype == np.uint8
    Image.fromarray(photo).save(tmp_path / "photo.png")
    (tmp_path / "masks").mkdir()
    for index in range(2):
        mask = np.zeros((40, 60), np.uint8)
        mask[5:35, 5 + 25 * index : 30 + 25 * index] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{index}.png")
    arguments = ["--model", str(model), "--photo", str(tmp_path / "photo.png"), "--masks", str(tmp_path / "masks")]
    deocclusion_speed.main([*arguments, "--repeats", "1"])
    assert "  2 objects:" in capsys.readouterr().out


def test_both_ways_give_the_same_contents(model):
    photo, masks = deocclusion_speed.make_photo((480, 640)), deocclusion_speed.make_scene(3)
    pipeline = ScenePipeline.from_pretrained(model, min_hidden_width=0)
    pipeline.set_progress_bar_config(disable=True)
    *tiles, background = deocclusion_speed.one_at_a_time(pipeline, photo, masks)
    scene = pipeline(photo, masks)
    assert np.abs(background.astype(int) - scene.background).max() <= 1
    for tile, layer in zip(tiles, scene.layers, strict=True):
        assert tile.shape == layer.rgba.shape and np.abs(tile.astype(int) - layer.rgba).max() <= 2


def test_large_photos_on_rough_ground(model, capsys):
    arguments = ["--model", str(model), "--objects", "2", "--repeats", "1", "--megapixels", "0.02", "--ground", "grass"]
    assert deocclusion_speed.main(arguments) == 0
    assert "  2 objects:" in capsys.readouterr().out
    plain, *rough = (deocclusion_speed.make_photo((480, 640), ground=kind) for kind in ("plain", "gravel", "grass"))
    steps = [np.abs(np.diff(photo[..., 1].astype(int), axis=1)).mean() for photo in (plain, *rough)]
    assert steps[0] < 2 < 4 < min(steps[1:])
    assert deocclusion_speed.make_masks(2, 0.0192).shape == (2, 120, 160)


def test_what_time_follows(model, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(deocclusion_speed.measure_growth, "__defaults__", (((300, 0.1), (300, 0.4), (600, 0.05)),))
    path = tmp_path / "figures.json"
    assert deocclusion_speed.main(["--model", str(model), "--growth", "--repeats", "1", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["growth"]
    assert capsys.readouterr().out.count("10 objects of") == len(rows) == 3
    assert all(set(row["ratios"]) == set(deocclusion_speed.STAGES) for row in rows)
    assert all(ratio == 1 for ratio in rows[0]["ratios"].values())
    for area, share in deocclusion_speed.GROWTH:
        parts = deocclusion_speed.HiddenParts.of(area, share)
        hidden = (parts.amodal & ~parts.modal).sum(axis=(1, 2))
        assert abs(parts.area - area) < 0.02 * area and np.abs(hidden - area * share).max() < 0.15 * area * share
        assert (hidden > 0).all() and parts.amodal.sum(axis=0).max() == 1


@pytest.mark.parametrize(("dtype", "taken"), [("bf16", "bf16"), ("auto", "bf16")])
def test_precision(dtype, taken, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(deocclusion_speed, "preferred_dtype", lambda device: torch.bfloat16)
    path = tmp_path / "figures.json"
    arguments = ["--model", str(model), "--objects", "2", "--repeats", "1", "--dtype", dtype, "--json", str(path)]
    assert deocclusion_speed.main(arguments) == 0
    assert json.loads(path.read_text())["dtype"] == taken
    assert "dtype     bf16" in capsys.readouterr().out
    assert deocclusion_speed.load(model, "cpu", taken).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nowhere"], "nowhere is no folder"),
        (["--photo", "photo.png"], "go together"),
        (["--objects", "0"], "must be a whole number of at least 1, got 0"),
        (["--objects"], "expected at least one argument"),
        (["--repeats", "-1"], "must be a whole number of at least 1, got -1"),
        (["--threads", "0"], "must be a whole number of at least 1, got 0"),
        (["--repeats", "many"], "must be a whole number of at least 1, got many"),
    ],
)
def test_arguments_are_checked(arguments, message, model, capsys):
    with pytest.raises(SystemExit):
        deocclusion_speed.main(["--model", str(model), *arguments])
    assert message in capsys.readouterr().err
