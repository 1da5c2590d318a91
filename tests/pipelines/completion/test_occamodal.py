"""The OccAmodal pipeline: networks with a known rule, independence of the objects, odd and wrong inputs, loading."""

import numpy as np
import pytest
import torch

from amodal_diffusion import AmodalPipeline, MaskModelOutput, OccAmodalPipeline, OccAmodalPredictor
from amodal_diffusion.pipelines.completion.mask_pipeline import MaskCall, ObjectPatches
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
    confined = ruled_pipeline(confine_to_occluders=True)(photo, modal)
    assert free[0, 21, 55] and not confined.amodal_masks[0, 21, 55]
    assert confined.probabilities[0, 21, 55] == 0
    assert iou(confined.amodal_masks & red, amodal & red)[0] > 0.85


def test_the_rim_of_a_resized_crop_is_dropped():
    photo, modal, amodal, red = cut_bar()
    kept, dropped = (ruled_pipeline(rim_width=width)(photo, modal) for width in (None, 0))
    assert not (dropped.amodal_masks & ~kept.amodal_masks).any()
    assert (kept.amodal_masks & ~modal & ~red).sum() > 2 * (dropped.amodal_masks & ~modal & ~red).sum()
    np.testing.assert_array_equal(dropped.amodal_masks & red, kept.amodal_masks & red)
    wide = ruled_pipeline(rim_width=2)(photo, modal)  # what is hidden reaches farther than that
    assert not (wide.amodal_masks & ~kept.amodal_masks).any()
    assert iou(wide.amodal_masks & red, kept.amodal_masks & red)[0] > 0.9
    photo[red[0]] = 30
    np.testing.assert_array_equal(ruled_pipeline(rim_width=0)(photo, modal).amodal_masks, modal)


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


def test_flip_at_test_time_is_the_mean_of_both():
    generator = torch.Generator().manual_seed(0)
    modal = torch.rand(2, 32, 32, generator=generator) > 0.5
    images = torch.randn(2, 3, 32, 32, generator=generator)
    boxes = torch.zeros(2, 4, dtype=torch.int64)
    told = torch.zeros_like(modal), torch.zeros(2, dtype=torch.bool)
    call = MaskCall([], {"occluder_threshold": 0.5}, [], batch_size=2)

    def predict(flip, mirrored):
        planes = (modal.flip(-1), images.flip(-1)) if mirrored else (modal, images)
        patches = ObjectPatches(modal=planes[0], boxes=boxes, scenes=[slice(0, 2)], images=planes[1])
        with torch.no_grad():
            return tiny_occamodal(test_time_flip=flip).predict_objects(call, patches, *told).channels

    plain, mirrored, both = predict(False, False), predict(False, True), predict(True, False)
    torch.testing.assert_close(both, (plain + mirrored.flip(-1)) / 2)
    assert not torch.allclose(plain[:, 0], both[:, 0])


# Wrong inputs


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"crop": "cubic"}, ValueError, "`crop` must be one of"),
        ({"paste": "nearest"}, ValueError, "`paste` must be one of"),
        ({"enlarge_box": 0.5}, ValueError, "`enlarge_box` must lie in"),
        ({"rim_width": -1}, ValueError, "`rim_width` must be at least 0"),
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
