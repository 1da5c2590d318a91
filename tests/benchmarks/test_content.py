"""`benchmarks/content_quality.py`: its holes, its figures, its table and picture."""

import json

import content_quality
import numpy as np
import pytest
import torch
from content_quality import Hole
from PIL import Image

from amodal_diffusion import ContentPipeline, PCNetContent
from photo_helpers import write_photos


def ramp(height=60, width=80):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 2, columns * 2, 100 + 0 * rows], 2).astype(np.uint8)


def test_figures_look_inside_the_hole_alone():
    photo, hole = ramp(), np.zeros((60, 80), bool)
    hole[20:40, 30:50] = True
    worse = photo.copy()
    worse[~hole] = 0
    figures = content_quality.evaluate(lambda sample: worse, [Hole(photo, hole)])
    assert figures["psnr"] > 60
    off = np.where(hole[..., None], photo + np.uint8(10), photo)
    figures = content_quality.evaluate(lambda sample: off, [Hole(photo, hole)])
    assert figures["psnr_pooled"] == pytest.approx(20 * np.log10(25.5))
    assert figures["psnr"] == pytest.approx(20 * np.log10(25.5))
    assert figures["ssim"] < 1


def test_methods_never_see_the_hole():
    photo, hole = ramp(), np.zeros((60, 80), bool)
    hole[20:40, 30:50] = True
    whole = np.zeros_like(hole)
    whole[10:50, 20:60] = True
    changed = np.where(hole[..., None], np.uint8(7), photo)
    torch.manual_seed(0)
    pipe = ContentPipeline(model=PCNetContent((4, 8), sample_size=32), background_size=32)
    pipe.set_progress_bar_config(disable=True)
    methods = [content_quality.telea, content_quality.navier_stokes, content_quality.pipeline_method(pipe)]
    for method in [*methods, content_quality.mean_colour]:
        for sample in ({"whole": whole}, {}):
            first, second = (method(Hole(picture, hole, **sample)) for picture in (photo, changed))
            assert np.array_equal(first[hole], second[hole])


def test_holes(tmp_path):
    path = write_photos(tmp_path, images=4, amodal=False)
    holes = content_quality.make_holes([str(path)], 0.5, 2, 0)
    again = content_quality.make_holes([str(path)], 0.5, 2, 0)
    assert holes["background"] and len(holes["object"]) == len(again["object"])
    for sample, other in zip(holes["background"], again["background"], strict=True):
        assert np.array_equal(sample.hole, other.hole) and sample.hole.any() and sample.whole is None
        assert not sample.seen[sample.hole].any()
    for sample in holes["object"]:
        assert not (sample.hole & ~sample.whole).any()
        assert 0.05 < sample.hole.sum() / sample.whole.sum() < 0.6


def test_table_and_picture(tmp_path, capsys):
    path = write_photos(tmp_path / "photos", images=4, amodal=False)
    torch.manual_seed(0)
    ContentPipeline(model=PCNetContent((4, 8), sample_size=32), background_size=32).save_pretrained(tmp_path / "pipe")
    content_quality.main([
        "--model", str(tmp_path / "pipe"), "--dataset", str(path), "--validation_fraction", "0.5", "--json",
        str(tmp_path / "figures.json"), "--picture", str(tmp_path / "strip.png"),
    ])  # fmt: skip
    printed = capsys.readouterr().out
    assert "Telea" in printed and "Navier-Stokes" in printed and "FID, LPIPS" in printed
    report = json.loads((tmp_path / "figures.json").read_text())
    assert set(report["background"]["Telea"]) == {"psnr", "psnr_pooled", "ssim"}
    assert Image.open(tmp_path / "strip.png").width == 5 * 200
