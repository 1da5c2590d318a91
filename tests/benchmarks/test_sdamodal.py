"""SDAmodal's benchmark runs, and its published flow is the published flow."""

import argparse
import json
import mmap
import time

import numpy as np
import pytest
import sdamodal_speed
import torch
from PIL import Image
from sdamodal import published_sdamodal, random_diffusion

import parity
from amodal_diffusion import SDAmodalPipeline
from amodal_diffusion.conversion.sdamodal import convert_sdamodal_weights
from amodal_diffusion.crops import crop_boxes
from amodal_diffusion.masks import mask_boxes
from amodal_diffusion.pipelines.sdamodal.features import crop_features
from repository_helpers import PARITY


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """What would cost most of the time of a test here, and changes no result."""
    monkeypatch.setattr(sdamodal_speed, "release", lambda: None)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder that keeps the random Stable Diffusion for all tests."""
    return tmp_path_factory.mktemp("work")


def run(work, path, *arguments):
    """The record of a run with small numbers, and what it wrote."""
    arguments = ["--work", str(work), "--json", str(path), "--masks", "1,3", "--draws", "2", *arguments]
    assert sdamodal_speed.main(arguments) == 0
    return json.loads(path.read_text(encoding="utf-8"))


def test_runs_from_end_to_end_and_both_sides_agree(work, tmp_path, capsys):
    record = run(work, tmp_path / "s.json", "--dtype", "fp32")
    assert record["complete"] is True
    assert {"date", "commit", "device", "torch", "diffusers"} <= record["environment"].keys()
    assert record["setup"].items() >= {"size": "tiny", "draws": 2, "resolution": 64, "masks": [1, 3]}.items()
    assert str(work) not in json.dumps(record)
    # The same noise went into both: random weights would tell.
    same = record["agreement"]
    assert len(same["feature_errors"]) == 4 and max(same["feature_errors"]) < 1e-4
    assert same["iou_mean"] >= 0.99 and same["iou_min"] >= 0.95
    assert 1.2 < same["area"] < 3.5  # of a crop of three areas about: neither empty nor full
    (ours,), (published,) = record["ours"], record["published"]
    assert ours["seconds"].keys() == {"load", "prompt", "vae", "unet", "features", "objects"}
    assert ours["seconds"]["features"] >= ours["seconds"]["vae"] + ours["seconds"]["unet"]
    assert published["seconds"].keys() == {*sdamodal_speed.ENCODING, "vae once", "objects"}
    assert published["seconds"]["objects"]["3"].keys() == {"total", "read", "crop", "decode", "paste"}
    assert all(seconds > 0 for seconds in published["seconds"]["objects"]["3"].values())
    for side in (ours, published):
        assert 0 < side["gib"]["features"]["before"] <= side["gib"]["features"]["peak"]
        assert side["gib"]["objects"].keys() == {"1", "3"}
    captured = capsys.readouterr()
    assert "  3 masks: ours" in captured.out and "if it encoded the photo once" in captured.out
    assert "published: unet" in captured.err


def test_summary_follows_from_the_figures():
    def side(gib, objects, **seconds):
        peaks = {"features": {"peak": gib}, "objects": {count: {"peak": 1.0} for count in objects}}
        return {"seconds": {**seconds, "objects": objects}, "gib": peaks}

    stages = {"rebuild": 5.0, "text": 1.0, "vae": 16.0, "vae once": 2.0, "unet": 20.0, "write": 1.0}
    record = {
        "setup": {"masks": [1, 21], "baseline_vae_once": False},
        "ours": [side(2.0, {"1": 1.0, "21": 5.0}, features=10.0, load=99.0, prompt=99.0)],
        "published": [side(7.0, {"1": {"total": 1.0}, "21": {"total": 17.0}}, **stages)],
    }
    summary = sdamodal_speed.summarise(record)
    assert summary["counts"]["1"] == {
        "ours": 11.0,
        "ours_peak_gib": 2.0,
        "published": 44.0,
        "published_peak_gib": 7.0,
        "ratio": 4.0,
        "ratio_vae_once": pytest.approx(30 / 11),
    }
    assert summary["counts"]["21"]["ratio"] == 4.0
    assert summary["image_pass"] == 10.0
    assert summary["one_more_mask"] == {"seconds": pytest.approx(0.2), "of_image_pass": pytest.approx(0.02)}
    record["setup"]["baseline_vae_once"] = True
    assert "ratio_vae_once" not in sdamodal_speed.summarise(record)["counts"]["1"]


def test_switches(work, tmp_path, capsys, monkeypatch):
    saved = []
    monkeypatch.setattr(sdamodal_speed, "write_json", lambda path, record: saved.append(json.dumps(record)))
    arguments = ["--work", str(work), "--masks", "2", "--draws", "3", "--json", str(tmp_path / "s.json")]
    sliced = ["--draw-batch-size", "2", "--baseline-draw-batch", "2", "--baseline-vae-once", "--contiguous"]
    assert sdamodal_speed.main([*arguments, *sliced, "--repeats", "2", "--warmup", "1", "--dtype", "fp32"]) == 0
    records = [json.loads(text) for text in saved]
    # Written after each part, so that a run that is stopped leaves what it knew.
    assert [(len(r["ours"]), len(r["published"])) for r in records] == [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (2, 2)]
    assert [r["complete"] for r in records] == [False] * 5 + [True]
    assert records[1]["summary"]["counts"]["2"]["ours"] > 0
    assert "vae once" not in records[-1]["published"][0]["seconds"]
    assert "ratio" in records[-1]["summary"]["counts"]["2"] and "one_more_mask" not in records[-1]["summary"]
    # Encoding the photo once gives the same latents, since the noise of each draw is added to them.
    assert max(records[-1]["agreement"]["feature_errors"]) < 1e-4

    saved.clear()
    photo = tmp_path / "photo.png"
    Image.new("RGB", (90, 70), (200, 100, 50)).save(photo)
    assert sdamodal_speed.main([*arguments, "--no-baseline", "--photo", str(photo), "--clock", "cpu"]) == 0
    record = json.loads(saved[-1])
    assert record["published"] == [] and record["agreement"] == {} and record["complete"]
    assert record["setup"].items() >= {"photo": "photo.png, 90 x 70", "dtype": "fp32", "repeats": 1}.items()
    assert "x if" not in capsys.readouterr().out.split("2 masks")[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--masks", "1,none"], "expected numbers of masks such as 1,5,20, got '1,none'"),
        (["--masks", "0,5"], "expected numbers of masks such as 1,5,20, got '0,5'"),
        (["--photo", "none.png"], "--photo none.png does not exist"),
        (["--draws", "0"], "--draws must be at least 1"),
        (["--repeats", "0"], "--repeats must be at least 1"),
    ],
)
def test_bad_arguments_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit):
        sdamodal_speed.main(arguments)
    assert message in capsys.readouterr().err


def test_missing_device_is_named(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit):
        sdamodal_speed.main(["--device", "cuda"])
    assert "--device cuda: no such device here" in capsys.readouterr().err


def test_published_noise_is_that_of_the_pipeline(work, tmp_path):
    """Another seed on one side alone shows in the features."""
    run(work, tmp_path / "s.json", "--no-baseline")
    pipeline = SDAmodalPipeline.from_pretrained(work / "sdamodal")
    photo = random_diffusion.make_photo(48, 64)
    ours = pipeline.encode_image(photo).maps
    errors = []
    for seed in (0, 1):
        published_sdamodal.encode_photo(
            work / "stable-diffusion-tiny", photo, tmp_path / str(seed), stage=sdamodal_speed.Stopwatch("cpu", "wall"),
            device="cpu", resolution=64, draws=2, seed=seed, vae_once=False, draw_batch=None,
        )  # fmt: skip
        first = torch.from_numpy(np.load(tmp_path / str(seed) / "0.npy"))
        errors.append(float((ours[0][0] - first).norm() / first.norm()))
    assert errors[0] < 1e-5 and errors[1] > 1e-3


def test_published_crop_is_the_pipelines_crop_by_cells():
    height, width = 90, 130
    rng = np.random.default_rng(0)
    sides = rng.integers(1, 150, 40)  # some under one cell, some beyond the photo
    corners = rng.integers(-60, 120, (40, 2))
    boxes = torch.from_numpy(np.concatenate([corners, sides[:, None], sides[:, None]], axis=1))
    feature = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(0))
    ours = crop_features(feature[None], boxes, (height, width), 10, "cells")
    for box, crop in zip(boxes.tolist(), ours, strict=True):
        published = published_sdamodal.crop_map(feature, tuple(box[:3]), (height, width), 10)
        torch.testing.assert_close(published, crop, rtol=1e-4, atol=1e-5)
    assert (boxes[:, 2] * 12 // width < 1).any() and ours.abs().sum() > 0


def test_published_flow_gives_the_published_results(tmp_path):
    """The flow of the benchmark against the stored answers of the published code."""
    stored = np.load(PARITY / "sdamodal_flow.npz")
    modal, _ = parity.scene(10, count=5, height=240, width=320)
    modal = np.asarray(modal).astype(bool)
    shapes = [(1280, 24, 24), (1280, 48, 48), (640, 96, 96), (320, 96, 96)]
    boxes = crop_boxes(mask_boxes(modal))
    np.testing.assert_array_equal(boxes, stored["boxes"])
    for level, shape in enumerate(shapes):
        feature = parity.tensor(f"sdamodal_flow/feature_{level}", shape)
        np.save(tmp_path / f"{level}.npy", feature.numpy())
        for box, crop in zip(boxes.tolist(), stored[f"crop_{level}"], strict=True):
            ours = published_sdamodal.crop_map(feature[:2], tuple(box[:3]), modal.shape[1:], crop.shape[0])
            np.testing.assert_allclose(ours.permute(1, 2, 0).numpy(), crop, atol=5e-3)
    keys = json.loads((PARITY / "sdamodal_decoder.keys.json").read_text(encoding="utf-8"))
    decoder = convert_sdamodal_weights(parity.state_dict(keys))
    watch = sdamodal_speed.Stopwatch("cpu", "wall")
    masks = published_sdamodal.complete_objects(decoder, tmp_path, modal[:1], stage=watch, device="cpu")
    expected = np.unpackbits(stored["masks"], axis=-1, count=320).astype(bool)[:1]
    assert 0 < expected.mean() and (masks & expected).sum() / (masks | expected).sum() >= 0.99


def test_full_size_is_stable_diffusion_2_1():
    makers = random_diffusion.component_makers("full")
    with torch.device("meta"):
        sizes = {name: sum(p.numel() for p in makers[name]().parameters()) for name in ("unet", "vae", "text_encoder")}
        config = random_diffusion.decoder_config("full", 768)
        decoder = sdamodal_speed.SDAmodalDecoder(**config)
    assert sizes == {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840}
    assert decoder.config.feature_sizes == (24, 48, 96, 96) and decoder.config.sample_size == 512
    assert decoder.config.feature_channels == (1280, 1280, 640, 320)


def test_masks_are_visible_and_the_first_ones_stay():
    masks = random_diffusion.draw_masks(20, 480, 640)
    assert masks.shape == (20, 480, 640) and masks.any(axis=(1, 2)).all()
    np.testing.assert_array_equal(masks[:5], random_diffusion.draw_masks(5, 480, 640))


def test_stopwatch_adds_up_and_counts_blocks_that_fail(capsys):
    watch = sdamodal_speed.Stopwatch("cpu", "wall", "ours")
    with watch("a"):
        pass
    first = watch.seconds["a"]
    with pytest.raises(KeyError), watch("a"):
        raise KeyError
    assert watch.seconds["a"] > first
    assert capsys.readouterr().err.count("ours: a") == 2


@pytest.mark.skipif(sdamodal_speed.resident_gib() == 0, reason="the system does not tell the resident set")
def test_peak_memory_sees_what_is_freed_again():
    memory = sdamodal_speed.PeakMemory("cpu", interval=0.001)
    with memory:
        block = mmap.mmap(-1, 2**27)  # 128 MiB straight from the system: a heap would hand out what it has kept
        block.write(b"x" * len(block))
        deadline = time.monotonic() + 60
        while memory.gib["peak"] < memory.gib["before"] + 0.1 and time.monotonic() < deadline:
            time.sleep(0.001)  # until the sampling thread had its turn
        block.close()
    assert memory.gib["peak"] >= memory.gib["before"] + 0.1


def test_memory_is_given_back_before_it_is_counted(monkeypatch):
    released = []
    monkeypatch.setattr(sdamodal_speed, "release", lambda: released.append(sdamodal_speed.resident_gib()))
    with sdamodal_speed.PeakMemory("cpu") as memory:
        assert len(released) == 1
    assert memory.gib["peak"] >= memory.gib["before"]


def test_parse_counts_sorts():
    assert sdamodal_speed.parse_counts("20,1,5,5") == [1, 5, 20]
    with pytest.raises(argparse.ArgumentTypeError):
        sdamodal_speed.parse_counts("")
