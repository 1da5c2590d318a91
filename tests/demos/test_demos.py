"""The demo, with a tiny network, and the masks that it carries."""

import json
import os
import runpy
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion import (
    AmodalPipeline,
    AmodalVAE,
    AmodalVAEPipeline,
    ASBUPipeline,
    ASBUPredictor,
    PCNetMask,
    PCNetMaskPipeline,
    Scene,
    ScenePipeline,
)
from amodal_diffusion.io import read_object_masks
from amodal_diffusion.masks import decode_segmentation
from photo_helpers import tiny_occamodal
from pipeline_helpers import tiny_pipeline
from repository_helpers import ROOT
from scene_helpers import tiny_content

MASKS = ROOT / "amodal_diffusion" / "io" / "example_masks" / "coffee.json"


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


def test_woven_objects_hide_each_other():
    from woven import woven

    modal, amodal = woven()
    assert not (modal & ~amodal).any() and modal.sum(axis=0).max() == 1
    hidden = amodal & ~modal
    assert hidden[0].any() and hidden[1].any()
    assert not (hidden[0] & ~modal[1]).any() and not (hidden[1] & ~modal[0]).any()  # each by the other


@pytest.mark.skipif(not (ROOT / "pipelines" / "asbu" / "model_index.json").is_file(), reason="needs pipelines/asbu")
def test_shipped_asbu_completes_both_woven_objects():
    from woven import woven

    modal, amodal = woven()
    pipe = AmodalPipeline.from_pretrained(ROOT / "pipelines" / "asbu", occluder_rule="neighbours")
    found = pipe(None, modal).amodal_masks
    hidden = amodal & ~modal
    assert ((found & hidden).sum(axis=(1, 2)) > 0.9 * hidden.sum(axis=(1, 2))).all()
    assert ((found & ~amodal).sum(axis=(1, 2)) < 0.3 * hidden.sum(axis=(1, 2))).all()


def run_demo(monkeypatch, arguments):
    script = ROOT / "demos" / "make_demo.py"
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(script), run_name="__main__")
    return done.value.code


def test_demo_writes_what_it_says(tmp_path, monkeypatch, capsys, objects):
    pytest.importorskip("skimage")
    PCNetMaskPipeline(PCNetMask(block_out_channels=(4, 4), sample_size=32)).save_pretrained(tmp_path / "model")
    tiny_occamodal().save_pretrained(tmp_path / "occamodal")
    ASBUPipeline(ASBUPredictor(block_out_channels=(4, 4), sample_size=32)).save_pretrained(tmp_path / "asbu")
    network = AmodalVAE(sample_size=16, latent_channels=4, block_out_channels=(4, 8))
    AmodalVAEPipeline(network).save_pretrained(tmp_path / "vae")
    out, docs = tmp_path / "out", tmp_path / "docs"
    arguments = ["--model", tmp_path / "model", "--output", out, "--docs", docs]
    arguments += ["--one-mask-model", tmp_path / "occamodal", "--uncertainty-model", tmp_path / "asbu"]
    arguments += ["--samples-model", tmp_path / "vae", "--scene-model", tmp_path / "scene"]
    ScenePipeline(tiny_pipeline(), tiny_content()).save_pretrained(tmp_path / "scene")
    assert run_demo(monkeypatch, arguments) == 0
    document = json.loads((out / "amodal.json").read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in document["categories"]}
    assert [names[one["category_id"]] for one in document["annotations"]] == ["saucer", "cup", "coffee"]  # no spoon
    assert len(list((out / "amodal_masks").glob("*.png"))) == 3
    for name in ("overlay", "order_graph", "one_mask", "uncertainty", "samples", "whole_objects"):
        assert Image.open(out / f"{name}.png").width == pytest.approx(1200, abs=8)  # whole pixels a panel
    widths = {"demo": 1600, "one_mask": 1600, "woven": 1600, "scene": 1600, "uncertainty": 1200, "samples": 1200}
    assert {path.stem: Image.open(path).width for path in docs.glob("*.jpg")} == pytest.approx(widths, abs=8)
    assert f"wrote {out / 'overlay.png'}" in capsys.readouterr().out
    check_edited_scene(out, objects)


def check_edited_scene(out, objects):
    """One object is gone and another has moved, in the picture and in both exports."""
    skimage_data = pytest.importorskip("skimage.data")
    scene = Scene.load(out / "scene.ora")
    assert scene.equals(Scene.load(out / "layers"))
    picture = np.asarray(Image.open(out / "scene.png"))
    np.testing.assert_array_equal(picture, scene.render(output_type="np"))
    assert [layer.name for layer in scene.layers] == ["saucer", "cup", "spoon"]
    assert [layer.at_home for layer in scene.layers] == [True, False, True]
    _, cup, spoon = scene.layers
    assert spoon.amodal[spoon.modal].all()  # in a shape of its own
    assert (cup.transform - cup.origin).tolist() == [[0, 0, -60], [0, 0, -10]]
    photo, coffee = skimage_data.coffee(), dict(zip(objects.names, objects.masks, strict=True))["coffee"]
    assert (picture != photo).any(axis=2)[coffee].mean() > 0.9


def test_demo_says_which_network_is_missing(tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    ScenePipeline(tiny_pipeline(), tiny_content()).save_pretrained(tmp_path / "scene")
    index = tmp_path / "scene" / "model_index.json"
    document = json.loads(index.read_text(encoding="utf-8"))
    document["references"] = {"content_pipeline": "../missing"}
    index.write_text(json.dumps(document), encoding="utf-8")
    out = tmp_path / "out"
    message = run_demo(monkeypatch, ["--scene-model", tmp_path / "scene", "--output", out])
    assert "`content_pipeline` refers to" in message and "missing" in message and "--content-model" in message
    assert not out.exists()
    message = run_demo(monkeypatch, ["--content-model", tmp_path / "nothing", "--output", out])
    assert "nothing" in message and not out.exists()


@pytest.mark.parametrize(
    ("script", "module"), [("app.py", "gradio"), ("app.py", "skimage"), ("make_demo.py", "skimage")]
)
def test_without_the_extra_the_scripts_say_so(script, module, tmp_path):
    arguments = ["x", "--help"] if script == "app.py" else ["x", "--output", str(tmp_path)]
    path = ROOT / "demos" / script
    code = f"""
import runpy, sys
sys.modules[{module!r}], sys.argv = None, {arguments!r}
sys.path.insert(0, {str(path.parent)!r})
runpy.run_path({str(path)!r}, run_name="__main__")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1 and "needs the extra `demo`" in done.stderr and "Traceback" not in done.stderr
