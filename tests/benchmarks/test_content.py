"""`benchmarks/content_quality.py`: its pasted scenes, its fillers, its table and picture."""

import dataclasses
import json

import ablations
import content_quality
import cv2
import numpy as np
import pytest
import torch
from fills import pasted, pictures, rivals
from PIL import Image

from amodal_diffusion import ContentPipeline, PCNetContent
from photo_helpers import write_photos


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), images=8, amodal=False)


@pytest.fixture
def small(monkeypatch):
    """Objects of the test's photos are large enough."""
    monkeypatch.setattr(pasted, "_LEAST_OBJECT", 200)
    monkeypatch.setattr(pasted, "_LEAST_CUTOUT", 200)


@pytest.fixture
def scenes(dataset, small):
    return pasted.make_scenes(pasted.read_held_out([str(dataset)], 0.5), seed=0)


def tiny_pipeline():
    torch.manual_seed(0)
    # Wide rims: at 32 pixels a pixel of the hole reaches over a narrow one when the photo is resized.
    rims = {"hole_dilation": 32.0, "background_dilation": 32.0}
    pipe = ContentPipeline(model=PCNetContent((4, 8), sample_size=32), background_size=32, **rims)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_what_was_pasted_hides_the_truth(dataset, scenes):
    assert scenes["object"] and scenes["background"]
    for kind, chosen in scenes.items():
        for scene in chosen:
            assert np.array_equal(scene.photo[~scene.occluder], scene.truth[~scene.occluder])
            assert (scene.photo != scene.truth)[scene.occluder].any() and scene.hole.any()
            assert not (scene.masks[:-1] & scene.occluder).any()
            assert len(scene.names) == len(scene.category_ids) == len(scene.masks) == len(scene.order)
            hidden = scene.amodal_masks & ~scene.masks
            if kind == "background":
                assert np.array_equal(scene.hole, scene.occluder) and not hidden.any() and not scene.order.any()
            else:
                share = scene.hole.sum() / scene.amodal_masks[scene.target].sum()
                assert 0.15 < share < 0.5 and np.array_equal(hidden.any(0), scene.hole)
                assert scene.order[-1, scene.target] == 1


def test_scenes_repeat(dataset, scenes, small):
    again = pasted.make_scenes(pasted.read_held_out([str(dataset)], 0.5), seed=0, count=1)
    for kind, chosen in again.items():
        assert len(chosen) == 1 and np.array_equal(chosen[0].photo, scenes[kind][0].photo)


def test_a_soft_rim_mixes_colours():
    photo, cutout = np.zeros((40, 40, 3), np.uint8), (np.full((20, 20, 3), 250, np.uint8), np.ones((20, 20), bool))
    sharp, place = pasted.paste(photo, cutout, 400, (20, 20), softness=0.0)
    assert set(np.unique(sharp)) == {0, 250} and place.sum() == 400
    mask = np.pad(np.ones((14, 14), bool), 3)
    soft, place = pasted.paste(photo, (cutout[0], mask), 196, (20, 20), softness=0.6)
    assert place.sum() == 196 and 0 < soft[~place].max() < 125 < soft[place].min() < 250


def test_fillers_never_see_the_hole_and_leave_the_rest(scenes):
    fillers = [*rivals.opencv_fillers().values(), rivals.mean_colour, rivals.pipeline_filler(tiny_pipeline())]
    for filler in fillers:
        for scene in (scenes["object"][0], scenes["background"][0]):
            filled = filler(scene)
            changed = np.where(scene.hole[..., None], np.uint8(7), scene.photo)
            assert np.array_equal(filled[~scene.hole], scene.photo[~scene.hole])
            again = filler(dataclasses.replace(scene, photo=changed))
            assert np.abs(filled.astype(int) - again)[scene.hole].max() <= 1


@pytest.mark.skipif(not hasattr(cv2, "xphoto"), reason="OpenCV without its contrib modules")
def test_contrib_fillers_fill():
    rows, columns = np.mgrid[:48, :64]
    truth = np.stack([rows * 4, columns * 3, 100 + 0 * rows], 2).astype(np.uint8)
    place = np.zeros((48, 64), bool)
    place[20:28, 30:40] = True
    photo = np.where(place[..., None], np.uint8(0), truth)
    scene = pasted.PastedScene(photo, truth, place[None], place[None], ["thing"], np.ones(1, np.int64))
    for filler in (rivals.shift_map, rivals.frequency_selective):
        error = np.abs(filler(scene).astype(int) - truth)[place].mean()
        assert error < 30


def test_soft_outlines_before_a_fill_leave_the_rest(scenes):
    filler = rivals.matted_filler(tiny_pipeline(), "smooth")
    for scene in (scenes["object"][0], scenes["background"][0]):
        filled = filler(scene)
        assert np.array_equal(filled[~scene.hole], scene.photo[~scene.hole])
        assert (filled != scene.photo)[scene.hole].any()


def test_figures_look_inside_the_hole_alone(scenes):
    chosen = scenes["object"]
    figures = content_quality.evaluate(lambda scene: scene.truth * scene.hole[..., None], chosen)
    assert figures["psnr"] > 60 and figures["leak"] == 0 and figures["seconds"] >= 0
    figures = content_quality.evaluate(lambda scene: scene.photo, chosen)
    assert figures["psnr"] < 30 and figures["leak"] > 0.5
    if len(chosen) > 1:  # colours that were never in the photo
        assert figures["leak_chance"] < figures["leak"]


def test_table_and_picture(dataset, small, tmp_path, capsys):
    tiny_pipeline().save_pretrained(tmp_path / "pipe")
    arguments = ["--model", tmp_path / "pipe", "--dataset", dataset, "--validation_fraction", "0.5", "--holes", "1"]
    outputs = ["--json", tmp_path / "figures.json", "--picture", tmp_path / "strip.png"]
    content_quality.main([str(value) for value in [*arguments, *outputs]])
    printed = capsys.readouterr().out
    assert "Telea" in printed and "Navier-Stokes" in printed
    found = json.loads((tmp_path / "figures.json").read_text())
    assert set(found["background"]["Telea"]) == {*content_quality.COLUMNS}
    assert Image.open(tmp_path / "strip.png").width == (2 + len(found["object"]) - 1) * 200
    with pytest.raises(SystemExit):
        content_quality.main([str(value) for value in [*arguments, "--only", "nothing"]])


@pytest.mark.skipif(hasattr(cv2, "xphoto"), reason="OpenCV with its contrib modules")
def test_what_this_opencv_lacks_is_skipped_and_said(dataset, small, tmp_path, capsys):
    tiny_pipeline().save_pretrained(tmp_path)
    arguments = ["--model", tmp_path, "--dataset", dataset, "--validation_fraction", "0.5", "--holes", "1"]
    found = content_quality.main([str(value) for value in [*arguments, "--only", "FSR", "Telea"]])
    assert {*found["object"]} == {"holes", "Telea"}
    assert "opencv-contrib-python-headless" in capsys.readouterr().err


def test_pictures_are_not_enlarged():
    sheet = pictures.grid([[np.zeros((4, 8, 3), np.uint8)], [np.zeros((90, 30, 3), np.uint8)] * 2], side=20)
    assert sheet.size == (40, 40)
    assert (np.asarray(sheet) == 0).all(2).sum() == 4 * 8 + 2 * (16 * round(16 / 3))


def test_ablations_of_fills(dataset, small, tmp_path, capsys):
    tiny_pipeline().save_pretrained(tmp_path)
    arguments = ["fills", "--model", tmp_path, "--dataset", dataset, "--validation_fraction", "0.5", "--holes", "1"]
    assert ablations.main([str(value) for value in arguments]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n| ") == 12 and "background leak" in printed
    assert "without blend" in printed and "without joins" in printed
    with pytest.raises(SystemExit):
        ablations.main(["asbu", "--dataset", str(dataset)])
