"""The benchmark of clicks runs, and its rival answers as a segmenter does."""

import json

import numpy as np
import pytest
import torch

from amodal_diffusion import ClickSegmenter, ClickSegmenterPipeline
from photo_helpers import write_photos

pytest.importorskip("cv2")

import click_segmentation  # noqa: E402


def test_runs_and_writes_json(tmp_path, capsys):
    torch.manual_seed(0)
    model = ClickSegmenter(decoder_channels=(4, 4, 4, 4, 4), embedding_channels=4, sample_size=32)
    ClickSegmenterPipeline(model, side=64, crop_side=32).save_pretrained(tmp_path / "model")
    photos = write_photos(tmp_path / "photos", images=4, amodal=False)
    click_segmentation.main([
        "--model", str(tmp_path / "model"), "--dataset", str(photos), "--every", "2", "--objects", "3", "--clicks", "3",
        "--json", str(tmp_path / "figures.json"),
    ])  # fmt: skip
    record = json.loads((tmp_path / "figures.json").read_text())
    assert record["objects"] == 3 and record["precision"] == "float32" and "CPU" in record["device"].upper()
    for figures in record["figures"].values():
        assert len(figures["iou"]) == 3 and all(0 <= value <= 100 for value in figures["iou"])
    shown = capsys.readouterr().out
    assert "IoU, 3 clicks" in shown and "random walker" in shown and "1.0x" in shown


def test_random_walker_finds_a_square():
    photo = np.full((80, 128, 3), 90, np.uint8)
    photo[20:60, 10:50], photo[20:60, 76:116] = (190, 40, 40), (40, 170, 50)
    walker = click_segmentation.RandomWalker()
    embedding = walker.embed(photo)
    expected = np.zeros((80, 128), bool)
    expected[20:60, 10:50] = True
    for points, labels in (([[30, 40]], [1]), ([[30, 40], [96, 40]], [1, 0])):
        mask = walker.click(embedding, points, labels)
        assert (mask & expected).sum() / (mask | expected).sum() > 0.8
