"""The OccAmodal pipeline: networks with a known rule, independence of the objects, odd and wrong inputs, loading."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion import AmodalPipeline, MaskModelOutput, OccAmodalPipeline, OccAmodalPredictor
from amodal_diffusion.pipelines.completion.mask_pipeline import ObjectPatches
from fresh_process import run_fresh
from photo_helpers import TINY_PREDICTOR, draw_scene, tiny_occamodal, tiny_predictor
from pipeline_helpers import iou

FIELDS = ("amodal_masks", "probabilities", "uncertainty", "occluder_masks")


class RedIsInFront(OccAmodalPredictor):
    """Occluder: what is red in the photo."""

    def forward(self, mask, image, boundary=None, return_dict=True):
        red = (image[:, :1] > 1.5) & (image[:, 1:2] < 0)
        odds = torch.where(red, 8.0, -8.0)
        return MaskModelOutput(torch.cat([torch.zeros_like(odds), odds], dim=1))


class FillTheRow(OccAmodalPredictor):
    """Amodal mask: the visible part and, if it meets an occluder, its bounding box; unsure by 0.25 outside of it.

    `rows` counts the crops that went through it.
    """

    rows = 0

    def forward(self, mask, image, boundary=None, return_dict=True):
        type(self).rows += len(mask)
        across, down = (mask.amax(axis, keepdim=True) for axis in (-2, -1))

        def between(line, axis):
            return line.cummax(axis).values * line.flip(axis).cummax(axis).values.flip(axis)

        box = between(across, -1) * between(down, -2)
        meets = boundary.amax((-2, -1), keepdim=True)
        whole = torch.maximum(mask, box * meets)
        spread = torch.full_like(whole, float(np.log(np.expm1(0.25))))
        return MaskModelOutput(torch.cat([torch.where(whole > 0, 8.0, -8.0), spread], dim=1))


def ruled_pipeline(**settings):
    FillTheRow.rows = 0
    config = {**TINY_PREDICTOR, "sample_size": 64}
    pipeline = OccAmodalPipeline(
        RedIsInFront(mask_channels=1, **config).eval(), FillTheRow(mask_channels=2, **config).eval(), **settings
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def cut_bar(height=60, width=80):
    """A grey bar behind a red one: photo, modal (1, H, W), amodal (1, H, W), red (1, H, W)."""
    amodal = np.zeros((1, height, width), bool)
    amodal[0, 20:40, 5:75] = True
    red = np.zeros_like(amodal)
    red[0, 10:50, 30:46] = True
    photo = np.full((height, width, 3), 30, np.uint8)
    photo[amodal[0]] = 150
    photo[red[0]] = (250, 10, 10)
    return photo, amodal & ~red, amodal, red


def test_finds_the_occluder_and_completes():
    photo, modal, amodal, red = cut_bar()
    output = ruled_pipeline()(photo, modal)
    assert iou(output.amodal_masks, amodal)[0] > 0.97
    assert iou(output.occluder_masks, red)[0] > 0.9
    assert not (output.occluder_masks & modal).any()
    assert output.order is None and output.samples is None
    outside = output.amodal_masks & ~modal
    np.testing.assert_allclose(output.uncertainty[outside].mean(), 0.25, atol=0.02)
    assert (output.uncertainty[modal] == 0).all() and (output.probabilities[modal] == 1).all()
    for name, dtype in zip(FIELDS, (bool, np.float32, np.float32, bool), strict=True):
        value = getattr(output, name)
        assert value.shape == (1, 60, 80) and value.dtype == dtype


def test_without_an_occluder_nothing_grows():
    photo, modal, _, red = cut_bar()
    photo[red[0]] = 30
    output = ruled_pipeline()(photo, modal)
    assert iou(output.amodal_masks, modal)[0] > 0.95  # the rim of a resized crop
    assert not output.amodal_masks[0, 24:36, 33:43].any()
    assert not output.occluder_masks.any()


def test_the_callers_occluder_is_used_instead():
    photo, modal, amodal, red = cut_bar()
    nothing = ruled_pipeline()(photo, modal, occluder_masks=np.zeros_like(red))
    assert not nothing.amodal_masks[0, 24:36, 33:43].any() and not nothing.occluder_masks.any()
    photo[red[0]] = 30
    given = ruled_pipeline()(photo, modal, occluder_masks=red[0])
    assert iou(given.amodal_masks, amodal)[0] > 0.97
    np.testing.assert_array_equal(given.occluder_masks, red)


def test_confined_to_the_occluder():
    photo, modal, amodal, red = cut_bar()
    modal[0, 20:24, 50:60] = False  # a bite that nothing hides
    free = ruled_pipeline()(photo, modal).amodal_masks
    confined = ruled_pipeline(confine_to_occluder=True)(photo, modal)
    assert free[0, 21, 55] and not confined.amodal_masks[0, 21, 55]
    assert confined.probabilities[0, 21, 55] == 0
    assert iou(confined.amodal_masks & red, amodal & red)[0] > 0.85


def test_the_rim_of_a_resized_crop_is_dropped():
    photo, modal, amodal, red = cut_bar()
    kept, dropped = (ruled_pipeline(drop_rim=drop)(photo, modal) for drop in (False, True))
    assert not (dropped.amodal_masks & ~kept.amodal_masks).any()
    assert (kept.amodal_masks & ~modal & ~red).sum() > 2 * (dropped.amodal_masks & ~modal & ~red).sum()
    np.testing.assert_array_equal(dropped.amodal_masks & red, kept.amodal_masks & red)
    photo[red[0]] = 30
    np.testing.assert_array_equal(ruled_pipeline(drop_rim=True)(photo, modal).amodal_masks, modal)


def test_thresholds():
    photo, modal, _, _ = cut_bar()
    pipeline = tiny_occamodal()
    output = pipeline(photo, modal, mask_threshold=0.35, occluder_threshold=0.9)
    np.testing.assert_array_equal(output.probabilities > 0.35, output.amodal_masks)
    assert (
        pipeline(photo, modal, occluder_threshold=0).occluder_masks.sum()
        > pipeline(photo, modal, occluder_threshold=0.99).occluder_masks.sum()
    )


def test_each_object_by_itself():
    photo, modal, _ = draw_scene(1)
    pipeline = tiny_occamodal()
    together = pipeline(photo, modal)
    reversed_ = pipeline(photo, modal[::-1].copy())
    alone = [pipeline(photo, mask) for mask in modal]
    for name in FIELDS:
        value = getattr(together, name)
        np.testing.assert_allclose(getattr(reversed_, name)[::-1], value, atol=1e-5)
        np.testing.assert_allclose(np.concatenate([getattr(one, name) for one in alone]), value, atol=1e-5)


def test_a_list_of_photos_is_one_batch():
    scenes = [draw_scene(seed) for seed in range(3)]
    pipeline = ruled_pipeline()
    output = pipeline([scene[0] for scene in scenes], [scene[1] for scene in scenes], batch_size=4)
    visible = sum(int(scene[1].any((1, 2)).sum()) for scene in scenes)
    assert FillTheRow.rows == visible
    for index, (photo, modal, _) in enumerate(scenes):
        single = pipeline(photo, modal)
        for name in FIELDS:
            np.testing.assert_allclose(getattr(output, name)[index], getattr(single, name), atol=1e-5)
    assert output.order is None


def test_no_objects_and_hidden_objects():
    photo, modal, _, _ = cut_bar()
    empty = ruled_pipeline()(photo, np.zeros((0, 60, 80), bool))
    assert empty.amodal_masks.shape == (0, 60, 80)
    masks = np.concatenate([np.zeros_like(modal), modal])
    output = ruled_pipeline()(photo, masks)
    for name in FIELDS:
        assert not getattr(output, name)[0].any()
    assert FillTheRow.rows == 1
    assert output.amodal_masks[1].sum() > modal.sum()


def test_full_frame_mask_stays():
    photo, _, _, _ = cut_bar()
    output = tiny_occamodal()(photo, np.ones((60, 80), bool))
    assert output.amodal_masks.all() and not output.occluder_masks.any()


def test_flip_at_test_time_is_the_mean_of_both():
    generator = torch.Generator().manual_seed(0)
    modal = torch.rand(2, 32, 32, generator=generator) > 0.5
    images = torch.randn(2, 3, 32, 32, generator=generator)
    boxes = torch.zeros(2, 4, dtype=torch.int64)
    told = torch.zeros_like(modal), torch.zeros(2, dtype=torch.bool)

    def predict(flip, mirrored):
        planes = (modal.flip(-1), images.flip(-1)) if mirrored else (modal, images)
        patches = ObjectPatches(modal=planes[0], boxes=boxes, scenes=[slice(0, 2)], images=planes[1])
        with torch.no_grad():
            return tiny_occamodal(test_time_flip=flip).predict(patches, *told, 0.5, 2)

    plain, mirrored, both = predict(False, False), predict(False, True), predict(True, False)
    for name in ("occluders", "probabilities", "uncertainties"):
        mean = (getattr(plain, name) + getattr(mirrored, name).flip(-1)) / 2
        torch.testing.assert_close(getattr(both, name), mean)
    assert not torch.allclose(plain.probabilities, both.probabilities)


@pytest.mark.parametrize("output_type", ["np", "pt", "pil"])
def test_output_types(output_type):
    photo, modal, _, _ = cut_bar()
    output = ruled_pipeline()(Image.fromarray(photo), torch.from_numpy(modal), output_type=output_type)
    expected = {"np": np.ndarray, "pt": torch.Tensor, "pil": list}[output_type]
    assert isinstance(output.amodal_masks, expected) and isinstance(output.occluder_masks, expected)
    values = ruled_pipeline()(photo, modal, return_dict=False)
    assert isinstance(values, tuple) and len(values) == 5


def test_bfloat16():
    photo, modal, _ = draw_scene(2)
    full = tiny_occamodal()(photo, modal)
    half = tiny_occamodal().to(torch.bfloat16)(photo, modal)
    assert half.probabilities.dtype == np.float32
    np.testing.assert_allclose(half.probabilities, full.probabilities, atol=0.1)


def test_training_mode_is_left_as_it_was():
    photo, modal, _, _ = cut_bar()
    pipeline = tiny_occamodal()
    pipeline.amodal_predictor.train()
    first, second = (pipeline(photo, modal).probabilities for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert pipeline.amodal_predictor.training and not pipeline.occluder_predictor.training


# Wrong inputs


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"image": None}, ValueError, "`image` must be given: OccAmodal finds in the photo"),
        ({"image": np.zeros((10, 10, 3), np.uint8)}, ValueError, "`masks`"),
        ({"image": "nowhere.jpg"}, FileNotFoundError, r"nowhere\.jpg"),
        ({"masks": np.full((60, 80), np.nan)}, ValueError, "`masks`"),
        ({"mask_threshold": 1.5}, ValueError, r"`mask_threshold` must lie in \[0, 1\), got 1.5"),
        ({"occluder_threshold": "high"}, TypeError, "`occluder_threshold` must be a number"),
        ({"occluder_masks": np.zeros((2, 60, 80), bool)}, ValueError, "`occluder_masks` must hold one mask"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ({"output_type": "jpeg"}, ValueError, "`output_type` must be one of"),
    ],
)
def test_wrong_inputs_are_named(change, error, message):
    photo, modal, _, _ = cut_bar()
    arguments = {"image": photo, "masks": modal, **change}
    with pytest.raises(error, match=message):
        tiny_occamodal()(**arguments)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"crop": "cubic"}, ValueError, "`crop` must be one of"),
        ({"paste": "nearest"}, ValueError, "`paste` must be one of"),
        ({"enlarge_box": 0.5}, ValueError, "`enlarge_box` must lie in"),
        ({"mask_threshold": None}, TypeError, "`mask_threshold` must be a number"),
    ],
)
def test_wrong_settings_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        tiny_occamodal(**settings)


def test_networks_must_fit():
    with pytest.raises(ValueError, match="`occluder_predictor` must have 1 mask plane"):
        OccAmodalPipeline(tiny_predictor(2))
    with pytest.raises(ValueError, match="`amodal_predictor` must have 2 mask plane"):
        OccAmodalPipeline(tiny_predictor(1), tiny_predictor(1))
    with pytest.raises(ValueError, match="must have the same `sample_size`, got 32 and 64"):
        OccAmodalPipeline(tiny_predictor(1), tiny_predictor(2, sample_size=64))


# Loading and saving


def test_round_trip_in_a_fresh_process(tmp_path):
    photo, modal, _ = draw_scene(3)
    pipeline = tiny_occamodal(mask_threshold=0.4, confine_to_occluder=True)
    pipeline.save_pretrained(tmp_path / "occ")
    index = json.loads((tmp_path / "occ" / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline", "OccAmodalPipeline"]
    for name in ("occluder_predictor", "amodal_predictor"):
        assert index[name] == ["amodal_diffusion", "OccAmodalPredictor"]
    np.savez(tmp_path / "in.npz", photo=photo, modal=modal)
    code = (
        "import sys, numpy as np; from amodal_diffusion import AmodalPipeline\n"
        "data = np.load(sys.argv[1] + '/in.npz'); pipe = AmodalPipeline.from_pretrained(sys.argv[1] + '/occ')\n"
        "assert pipe.config.mask_threshold == 0.4 and pipe.config.confine_to_occluder\n"
        "np.save(sys.argv[1] + '/out.npy', pipe(data['photo'], data['modal']).probabilities)\n"
    )
    run_fresh(code, tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), pipeline(photo, modal).probabilities, atol=1e-5)


def test_occluder_predictor_alone(tmp_path):
    OccAmodalPipeline(tiny_predictor(1)).save_pretrained(tmp_path / "occ")
    pipeline = AmodalPipeline.from_pretrained(tmp_path / "occ")
    assert pipeline.amodal_predictor is None
    photo, modal, _, _ = cut_bar()
    with pytest.raises(ValueError, match="has no `amodal_predictor`"):
        pipeline(photo, modal)


def test_half_precision_weights_load_as_floats(tmp_path):
    tiny_occamodal().to(torch.float16).save_pretrained(tmp_path / "occ")
    assert AmodalPipeline.from_pretrained(tmp_path / "occ").amodal_predictor.dtype == torch.float32
