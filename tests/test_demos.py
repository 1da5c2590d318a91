"""The demo, with a tiny network, and the masks that it carries."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion import PCNetMask, PCNetMaskPipeline
from amodal_diffusion.export import read_object_masks
from amodal_diffusion.masks import decode_segmentation
from photo_helpers import tiny_occamodal

ROOT = Path(__file__).parents[1]
MASKS = ROOT / "demos" / "data" / "coffee.json"


@pytest.fixture
def objects():
    return read_object_masks(MASKS, size=(400, 600))


def test_masks_of_the_demo_share_their_boundaries(objects):
    assert len(objects.masks) >= 3
    assert objects.masks.sum(axis=0).max() == 1  # visible parts never overlap
    covered = objects.masks.any(axis=0)
    rows, columns = np.nonzero(covered)
    inside = covered[rows.min() + 20 : rows.max() - 20, (columns.min() + columns.max()) // 2]
    assert inside.all()  # and leave no gap between them


def test_areas_and_boxes_of_the_demo_masks_are_true():
    for annotation in json.loads(MASKS.read_text(encoding="utf-8"))["annotations"]:
        mask = decode_segmentation(annotation["segmentation"], 400, 600)
        rows, columns = np.nonzero(mask)
        assert mask.sum() == annotation["area"]
        left, top, width, height = annotation["bbox"]
        assert (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1) == (left, top, width, height)


def test_demo_writes_what_it_says(tmp_path, monkeypatch, capsys, objects):
    pytest.importorskip("skimage")
    PCNetMaskPipeline(PCNetMask(block_out_channels=(4, 4), sample_size=32)).save_pretrained(tmp_path / "model")
    tiny_occamodal().save_pretrained(tmp_path / "occamodal")
    script = ROOT / "demos" / "make_demo.py"
    out, strip, other = tmp_path / "out", tmp_path / "docs" / "strip.jpg", tmp_path / "docs" / "one_mask.jpg"
    arguments = ["--model", tmp_path / "model", "--output", out, "--strip", strip]
    arguments += ["--one-mask-model", tmp_path / "occamodal", "--one-mask-strip", other]
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(script), run_name="__main__")
    assert done.value.code == 0
    document = json.loads((out / "amodal.json").read_text(encoding="utf-8"))
    assert len(document["annotations"]) == len(list((out / "amodal_masks").glob("*.png"))) == len(objects.masks)
    for name in ("overlay.png", "order_graph.png", "one_mask.png"):
        assert Image.open(out / name).width == 1200
    assert Image.open(strip).width == Image.open(other).width == 1600
    assert f"wrote {out / 'overlay.png'}" in capsys.readouterr().out
