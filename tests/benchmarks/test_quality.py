"""The benchmarks of quality: calibration of what pipelines say of their uncertainty, ablations."""

import json

import ablations
import numpy as np
import pytest
import torch
import uncertainty_calibration
from PIL import Image

from amodal_diffusion import ASBUPipeline, ASBUPredictor, PCNetMask, PCNetMaskPipeline
from amodal_diffusion.masks import encode_rle
from photo_helpers import tiny_photo_pcnet
from pipeline_helpers import stacked_bars
from training_helpers import write_coco


@pytest.fixture(scope="module")
def asbu(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("asbu")
    ASBUPipeline(ASBUPredictor(block_out_channels=(4, 4), sample_size=32)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """One photo's masks, visible and whole, as COCO JSON."""
    modal, amodal = stacked_bars()
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 64, "width": 96}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {
                "id": index, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": int(whole.sum()),
                "bbox": [0, 0, 96, 64], "segmentation": encode_rle(whole), "visible_mask": encode_rle(visible),
            }
            for index, (visible, whole) in enumerate(zip(modal, amodal, strict=True), start=1)
        ],
    }  # fmt: skip
    path = tmp_path_factory.mktemp("truth") / "amodal.json"
    path.write_text(json.dumps(document))
    return path


def test_calibration_is_found_again():
    random = np.random.RandomState(0)
    odds = random.randn(20000)
    truth = random.rand(20000) < 1 / (1 + np.exp(-(0.5 * odds - 1)))
    found = uncertainty_calibration.fit_calibration(1 / (1 + np.exp(-odds)), truth)
    assert found["slope"] == pytest.approx(0.5, abs=0.05) and found["offset"] == pytest.approx(-1, abs=0.05)
    assert found["log_loss_fitted"] < found["log_loss"]
    assert np.isnan(uncertainty_calibration.fit_calibration(np.full(4, 0.5), np.ones(4, bool))["slope"])
    surely = uncertainty_calibration.fit_calibration(np.array([0.1, 0.4, 0.6, 0.9]), np.array([0, 0, 1, 1], bool))
    assert np.isfinite(list(surely.values())).all()  # nothing mixes: the slope has no end


def test_calibration_by_hidden_share_leaves_out_empty_groups():
    pixels = {"share": np.array([0.0, 0.1, 0.11, 1.0]), "truth": np.array([False, True, True, False])}
    pixels |= {name: np.array([0.0, 1.0, 0.5, 0.5]) for name in ("probability", "uncertainty", "squared")}
    found = {row["hidden"]: row for row in uncertainty_calibration.by_hidden_share(pixels)}
    assert list(found) == ["nothing", "0 to 10 %", "10 to 30 %", "70 to 100 %"]
    assert found["0 to 10 %"]["probability"] == found["0 to 10 %"]["truth"] == 1


def test_deciles_hold_equal_shares_in_order():
    values = np.arange(100)[::-1] / 100
    error = values > 0.895
    parts = uncertainty_calibration.reliability(values, error, error.astype(float))
    assert [part["error"] for part in parts] == [0] * 9 + [1]
    assert [part["found"] for part in parts] == [0] * 9 + [1]
    assert [part["uncertainty"] for part in parts] == pytest.approx([0.045 + 0.1 * k for k in range(10)], abs=0.01)


def test_error_detection_is_the_chance_to_rank_a_pair_right():
    rng = np.random.default_rng(0)
    values, error = rng.integers(0, 5, 60), rng.random(60) < 0.4
    pairs = [(float(a > b) + 0.5 * float(a == b)) for a in values[error] for b in values[~error]]
    assert uncertainty_calibration.error_detection(values, error) == pytest.approx(np.mean(pairs))
    assert np.isnan(uncertainty_calibration.error_detection(values, np.zeros(60, bool)))


def test_only_pixels_that_a_neighbour_may_hide_are_counted(asbu):
    pipe = uncertainty_calibration.AmodalPipeline.from_pretrained(asbu)
    pipe.set_progress_bar_config(disable=True)
    modal, amodal = stacked_bars()
    pixels = uncertainty_calibration.decided_pixels(pipe, modal, amodal)
    assert len({len(values) for values in pixels.values()}) == 1
    # Everything is a neighbour of everything, and the crops hold all of it.
    assert 0 < len(pixels["error"]) <= 2 * modal.sum()


def test_calibration_writes_table_picture_and_figures(asbu, truth, tmp_path, capsys):
    arguments = ["--model", asbu, "--amodal", truth, "--plot", tmp_path / "p.png", "--json", tmp_path / "c.json"]
    assert uncertainty_calibration.main([str(value) for value in arguments]) == 0
    printed = capsys.readouterr().out
    assert "real ground truth" in printed and "ratio" in printed and "decile" in printed
    assert Image.open(tmp_path / "p.png").size == (420, 300)
    found = json.loads((tmp_path / "c.json").read_text())["results"]["real ground truth"]
    assert len(found["deciles"]) == 10 and 0 <= found["error"] <= 1


def test_a_network_with_the_photo_is_calibrated_with_it_and_without(truth, tmp_path, monkeypatch, capsys):
    tiny_photo_pcnet().save_pretrained(tmp_path / "photo")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (96, 64), "gray").save(tmp_path / "images" / "a.jpg")
    arguments = ["--model", str(tmp_path / "photo"), "--amodal", str(truth)]
    for images in ([], ["--images", str(tmp_path / "images")]):
        assert uncertainty_calibration.main([*arguments, *images]) == 0
        assert "ratio 1.00" in capsys.readouterr().out  # it is a function of P(object), with its order


def test_calibration_refuses(asbu, truth, tmp_path):
    with pytest.raises(SystemExit):
        uncertainty_calibration.main(["--model", str(asbu)])
    PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16)).save_pretrained(tmp_path / "other")
    with pytest.raises(SystemExit):
        uncertainty_calibration.main(["--model", str(tmp_path / "other"), "--amodal", str(truth)])


def test_ablations_train_what_is_missing_and_print_a_table(truth, tmp_path, monkeypatch, capsys):
    small = (
        "--block_out_channels", "4,4", "--sample_size", "16", "--patch_size", "1", "--train_batch_size", "2",
        "--validation_samples", "2", "--validation_fraction", "0.2", "--mixed_precision", "no", "--logging_steps", "1",
    )  # fmt: skip
    monkeypatch.setattr(ablations, "ASBU_FLAGS", small)
    monkeypatch.setattr(ablations, "ASBU", (ablations.ASBU[0], ablations.ASBU[3]))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    data = write_coco(tmp_path / "masks.json")
    arguments = ["asbu", "--dataset", data, "--amodal", truth, "--output", tmp_path / "runs", "--steps", "1"]
    assert ablations.main([str(value) for value in arguments]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n| ") == 3 and "without uncertainty" in printed
    assert "real order accuracy" in printed and "held-out inv miou" in printed
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
    assert len(stamps) >= 2
    assert ablations.main([str(value) for value in arguments]) == 0
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
