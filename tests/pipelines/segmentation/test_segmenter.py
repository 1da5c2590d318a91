"""Segmenters: tiny real SAM and Mask2Former models, and the choice of masks."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from amodal_diffusion import Segmenter
from segmenter_helpers import PHOTO, mask2former_pipeline, sam_pipeline


@pytest.fixture(scope="module")
def sam():
    return sam_pipeline()


@pytest.fixture(scope="module")
def mask2former():
    return mask2former_pipeline()


def check(output, photo=PHOTO):
    count = len(output.masks)
    assert output.masks.dtype == bool and output.masks.shape == (count, photo.height, photo.width)
    assert len(output.names) == count == len(output.scores) and output.scores.dtype == np.float32
    assert (np.diff(output.scores) <= 0).all()


def test_sam(sam):
    everything = {"score_threshold": 0.0, "min_area": 0.0, "max_overlap": 1.0, "max_containment": 1.0}
    output = Segmenter(sam, **everything, max_objects=400)(PHOTO)
    check(output)
    assert len(output.masks) > 1 and set(output.names) == {""}
    fewer = Segmenter(sam, **{**everything, "max_overlap": 0.2})(PHOTO)
    check(fewer)
    assert 0 < len(fewer.masks) < len(output.masks)


def test_mask2former(mask2former):
    output = Segmenter(mask2former, score_threshold=0.0, min_area=0.0)(np.asarray(PHOTO))
    check(output)
    assert len(output.masks) and set(output.names) <= {"cat", "dog"} and (output.masks.sum(axis=0) <= 1).all()
    label = output.names[0]
    only = Segmenter(mask2former, score_threshold=0.0, min_area=0.0, labels=[label])(PHOTO)
    assert set(only.names) == {label}
    nothing = Segmenter(mask2former, labels=["horse"])(PHOTO)
    check(nothing)
    assert nothing.masks.shape == (0, 48, 70)


class Scripted(transformers.Pipeline):
    """An image-segmentation pipeline that finds what it was told."""

    def __init__(self, found):
        self.task, self.found = "image-segmentation", found

    def __call__(self, image):
        return [{"mask": Image.fromarray(mask), "score": score, "label": label} for mask, score, label in self.found]

    _sanitize_parameters = preprocess = _forward = postprocess = None


def square(x, y, side):
    mask = np.zeros((48, 70), np.uint8)
    mask[y : y + side, x : x + side] = 255
    return mask


def test_choice_of_masks():
    found = [
        (square(0, 0, 20), 0.9, "low"),
        (square(1, 0, 20), 0.95, "best"),  # nearly the same as the one before
        (square(40, 10, 24), None, "no score"),
        (square(45, 15, 6), 0.99, "part"),  # of the one before
        (square(0, 30, 10), 0.3, "unsure"),
        (square(66, 0, 1), 0.99, "small"),
        (square(0, 0, 0), 0.99, "empty"),
        (square(14, 14, 20), 0.8, "overlaps"),
    ]
    output = Segmenter(Scripted(found))(PHOTO)
    assert output.names == ["no score", "best", "overlaps"]
    assert output.scores.tolist() == pytest.approx([1, 0.95, 0.8])
    assert "part" in Segmenter(Scripted(found), max_containment=1)(PHOTO).names
    assert "small" in Segmenter(Scripted(found), min_area=0)(PHOTO).names
    assert "empty" not in Segmenter(Scripted(found), min_area=0)(PHOTO).names
    assert "unsure" in Segmenter(Scripted(found), score_threshold=0.3)(PHOTO).names
    assert Segmenter(Scripted(found), max_overlap=0.95)(PHOTO).names[1:3] == ["best", "low"]
    assert Segmenter(Scripted(found), max_objects=2)(PHOTO).names == ["no score", "best"]
    assert Segmenter(Scripted([]))(PHOTO).masks.shape == (0, 48, 70)


def test_click(sam):
    segmenter = Segmenter(sam)
    assert segmenter.can_click
    mask = segmenter.click(PHOTO, (10, 20))
    assert mask.dtype == bool and mask.shape == (48, 70)
    np.testing.assert_array_equal(mask, segmenter.click(PHOTO, [[10, 20]], [1]))
    inputs = []
    handle = sam.model.register_forward_pre_hook(lambda module, args, kwargs: inputs.append(kwargs), with_kwargs=True)
    segmenter.click(np.asarray(PHOTO), [[10, 20], [69.5, 47]], [1, 0])
    handle.remove()
    points = inputs[0]["input_points"][0, 0].numpy()
    np.testing.assert_allclose(points, np.array([[10, 20], [69.5, 47]]) * 64 / 70, rtol=0.02)  # x, y of the crop
    assert inputs[0]["input_labels"][0, 0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        ([], None, r"`points` must have shape \(P, 2\)"),
        ([[1, 2, 3]], None, r"`points` must have shape \(P, 2\)"),
        ([[1, 48.5]], None, "`points` must lie on the photo of 70 x 48 pixels"),
        ([[-1, 4]], None, "`points` must lie on the photo"),
        ([[np.nan, 4]], None, "`points` must lie on the photo"),
        ([[1, 2]], [1, 0], "`labels` must have one entry for each of the 1 points"),
        ([[1, 2]], [2], "`labels` must be 1"),
    ],
)
def test_click_refuses(sam, points, labels, message):
    with pytest.raises(ValueError, match=message):
        Segmenter(sam).click(PHOTO, points, labels)


def test_click_needs_a_model_that_takes_points(mask2former):
    assert not Segmenter(mask2former).can_click
    with pytest.raises(ValueError, match="`click` needs a SAM model.*'mask2former'"):
        Segmenter(mask2former).click(PHOTO, (1, 1))


@pytest.mark.parametrize("make", [sam_pipeline, mask2former_pipeline])
def test_save_and_load(make, tmp_path):
    settings = {"score_threshold": 0.0, "min_area": 0.0, "eraser_dilation": 3, "labels": None}
    segmenter = Segmenter(make(), **settings)
    segmenter.save_pretrained(tmp_path / "segmenter")
    for loaded in (
        Segmenter.from_pretrained(tmp_path / "segmenter"),
        Segmenter.from_pretrained(tmp_path, subfolder="segmenter", dtype=torch.float32),
    ):
        assert loaded.settings == segmenter.settings and loaded.pipeline.task == segmenter.pipeline.task
        assert loaded.eraser_dilation == 3 and loaded.device.type == "cpu"
        first = next(iter(segmenter.pipeline.model.state_dict().items()))
        torch.testing.assert_close(loaded.pipeline.model.state_dict()[first[0]], first[1])
        if loaded.can_click:
            np.testing.assert_array_equal(loaded.click(PHOTO, (5, 5)), segmenter.click(PHOTO, (5, 5)))
    assert Segmenter.from_pretrained(tmp_path / "segmenter", eraser_dilation=5).eraser_dilation == 5
    assert Segmenter(str(tmp_path / "segmenter")).eraser_dilation == 4  # the model alone


def test_broken_settings(sam, tmp_path):
    Segmenter(sam).save_pretrained(tmp_path)
    path = tmp_path / "segmenter_config.json"
    assert json.loads(path.read_text())["max_objects"] == 40
    for text, message in (("{", "is no valid JSON"), ('{"colour": 3}', "must hold a JSON object of score_threshold")):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"segmenter_config.json'? {message}"):
            Segmenter.from_pretrained(tmp_path)


def test_to(sam):
    segmenter = Segmenter(sam_pipeline())
    assert segmenter.to(torch.float64) is segmenter and segmenter.model.dtype == torch.float64
    assert segmenter.click(PHOTO, (3, 3)).shape == (48, 70)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"score_threshold": 1.5}, ValueError, "`score_threshold` must lie in"),
        ({"min_area": -0.1}, ValueError, "`min_area`"),
        ({"max_overlap": "much"}, TypeError, "`max_overlap` must be a number"),
        ({"max_containment": 2}, ValueError, "`max_containment`"),
        ({"max_objects": 0}, ValueError, "`max_objects` must be at least 1"),
        ({"labels": "cat"}, TypeError, "`labels` must be a list of names"),
        ({"eraser_dilation": 0.5}, TypeError, "`eraser_dilation` must be an integer"),
    ],
)
def test_settings_are_checked(sam, settings, error, message):
    with pytest.raises(error, match=message):
        Segmenter(sam, **settings)


def test_models_of_other_kinds(tmp_path):
    with pytest.raises(TypeError, match="`model` must be a SAM of transformers, a pipeline for mask-gen.*got int"):
        Segmenter(3)
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        Segmenter.from_pretrained(tmp_path / "missing")
