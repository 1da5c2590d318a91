"""The benchmarks run, and their published flow is the published flow."""

import json

import numpy as np
import pytest
import torch

import parity
from amodal_diffusion import PCNetMask, PCNetMaskPipeline, PhotoPCNetMask, PhotoPCNetMaskPipeline
from amodal_diffusion.crops import crop_boxes
from amodal_diffusion.masks import mask_boxes
from amodal_diffusion.ordering import neighbours
from repository_helpers import PARITY

cv2 = pytest.importorskip("cv2")

import common  # noqa: E402
import scene_speed  # noqa: E402


@pytest.fixture(scope="module")
def scene():
    return scene_speed.make_scene(scene_speed.OBJECTS, scene_speed.PAIRS, scene_speed.SEED)


def test_scene_has_19_objects_and_46_ordered_pairs(scene):
    assert scene.shape == (19, 480, 640) and scene.dtype == bool
    assert int(neighbours(scene).sum()) == 46
    assert scene.sum(axis=(1, 2)).min() >= scene_speed.MIN_AREA
    assert scene.sum(axis=0).max() == 1  # modal masks do not overlap
    np.testing.assert_array_equal(scene, scene_speed.draw_objects(19, scene_speed.SEED))


def test_impossible_scene_is_named():
    with pytest.raises(ValueError, match="no scene with 2 objects and 9 pairs among 3 seeds"):
        scene_speed.make_scene(2, 9, tries=3)


def test_published_crop_box_is_ours(scene):
    ours = crop_boxes(mask_boxes(scene))
    published = [scene_speed.PublishedFlow.crop_box(mask) for mask in scene]
    assert [(x, y, side) for x, y, side, _ in ours.tolist()] == published


def test_mean_iou_counts_empty_masks_as_agreeing():
    masks = np.zeros((2, 4, 4), bool)
    masks[0, :2] = True
    assert scene_speed.mean_iou(masks, masks) == (1.0, 1.0)
    assert scene_speed.mean_iou(masks, masks[::-1])[0] == 0


def test_benchmark_runs_and_writes_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scene_speed, "OBJECTS", 3)
    monkeypatch.setattr(scene_speed, "PAIRS", None)
    torch.manual_seed(0)
    pipeline = PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16), order_threshold=0.4)
    pipeline.save_pretrained(tmp_path / "model")
    arguments = [
        "--model",
        str(tmp_path / "model"),
        "--repeats",
        "1",
        "--objects",
        "2",
        "--json",
        str(tmp_path / "s.json"),
    ]
    assert scene_speed.main(arguments) == 0
    record = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert [scene["objects"] for scene in record["scenes"]] == [3, 2]
    assert record["scenes"][0]["ratio"]["fp32"] > 0
    assert record["settings"]["published"].items() >= scene_speed.PUBLISHED_SETTINGS.items()
    assert record["settings"]["published"]["order_threshold"] == 0.1  # not that of the folder
    assert record["scenes"][0]["agreement"]["fp32"]["iou_min"] >= 0.99
    assert {"date", "commit", "device", "torch"} <= record["environment"].keys()
    assert "published" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        scene_speed.main(["--model", str(tmp_path / "none")])


def test_one_pass_runs_beside_the_published_flow(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scene_speed, "OBJECTS", 3)
    monkeypatch.setattr(scene_speed, "PAIRS", None)
    torch.manual_seed(0)
    PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16)).save_pretrained(tmp_path / "pairs")
    model = PhotoPCNetMask(block_out_channels=(2, 4), reduced_channels=2, sample_size=16)
    PhotoPCNetMaskPipeline(model).save_pretrained(tmp_path / "photo")
    arguments = ["--model", str(tmp_path / "pairs"), "--repeats", "1", "--objects", "--ways", "one-pass"]
    assert scene_speed.main([*arguments, "--one-pass-model", str(tmp_path / "photo")]) == 0
    assert "one-pass" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        scene_speed.main([*arguments, "--one-pass-model", str(tmp_path / "none")])
    assert f"--one-pass-model {tmp_path / 'none'} is no folder" in capsys.readouterr().err


def test_published_flow_gives_the_published_results():
    """The flow of the benchmark against the stored answers of the published code, with its trained weights."""
    stored = np.load(PARITY / "pcnet_mask_flow.npz")
    model = scene_speed.load_pipeline(PARITY / "pcnet_mask_w1.safetensors", torch.float32, "cpu").model
    flow = scene_speed.PublishedFlow(model, 128, order_threshold=0.1, mask_threshold=0.2)
    for index in range(6):
        modal, _ = parity.scene(index)
        order, masks = flow(modal[stored[f"scene{index}_kept"]].astype(bool))
        np.testing.assert_array_equal(order, stored[f"scene{index}_order"])
        expected = np.unpackbits(stored[f"scene{index}_og"], axis=-1, count=160).astype(bool)
        assert scene_speed.mean_iou(masks, expected)[1] >= 0.999


def test_timing_takes_turns():
    calls = []
    seconds = common.time_in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3 and [len(times) for times in seconds.values()] == [2, 2]
    assert common.median_ratio([3.0, 4.0, 8.0], [1.0, 1.0, 4.0]) == 3.0
