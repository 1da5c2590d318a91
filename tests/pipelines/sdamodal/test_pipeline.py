"""The SDAmodal pipeline: the published flow, a decoder with a known rule, features handed over, odd scenes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import parity
from amodal_diffusion import ImageFeatures, MaskModelOutput, SDAmodalDecoder, SDAmodalPipeline
from amodal_diffusion.conversion import convert_sdamodal_weights
from amodal_diffusion.pipelines.sdamodal.features import crop_features
from diffusion_helpers import (
    FEATURE_CHANNELS,
    FEATURE_SIZES,
    RESOLUTION,
    count_passes,
    offload,
    photo,
    tiny_inpainting,
    tiny_mask_decoder,
    tiny_sdamodal,
    tiny_stable_diffusion,
)
from pipeline_helpers import crossing_bars, iou
from repository_helpers import PARITY

NOTHING = dict.fromkeys(("unet", "vae", "text_encoder", "tokenizer", "scheduler"))
SIZE = (60, 80)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_sdamodal()


@pytest.fixture(scope="module")
def scene():
    return photo(0, *SIZE), crossing_bars(*SIZE)[0]


@pytest.fixture(scope="module")
def expected(pipeline, scene):
    return pipeline(*scene)


# Published numbers


@pytest.fixture(scope="module")
def published():
    keys = json.loads((PARITY / "sdamodal_decoder.keys.json").read_text(encoding="utf-8"))
    decoder = convert_sdamodal_weights(parity.state_dict(keys))
    stored = np.load(PARITY / "sdamodal_flow.npz")
    modal, _ = parity.scene(10, count=5, height=240, width=320)
    shapes = ((1280, 24, 24), (1280, 48, 48), (640, 96, 96), (320, 96, 96))
    maps = tuple(parity.tensor(f"sdamodal_flow/feature_{i}", shape)[None] for i, shape in enumerate(shapes))
    masks = np.unpackbits(stored["masks"], axis=-1)[..., :320].astype(bool)
    return decoder, modal.astype(bool), ImageFeatures(maps, 240, 320), masks


def check_published_flow(published, objects):
    decoder, modal, features, masks = published
    pipeline = SDAmodalPipeline(**NOTHING, decoder=decoder, paste="binary", keep_modal=False)
    pipeline.set_progress_bar_config(disable=True)
    output = pipeline(None, modal[objects], features=features)
    assert iou(output.amodal_masks, masks[objects]).min() >= 0.999


def test_published_flow_of_one_object(published):
    check_published_flow(published, [4])


@pytest.mark.slow
def test_published_flow(published):
    check_published_flow(published, [0, 1, 2, 3])


# A decoder with a known rule


class RightOfTheMiddle(SDAmodalDecoder):
    """Says object where the last map is above 0, to `confidence`; `maps` keeps what it was given."""

    def forward(self, mask, features, return_dict=True):
        self.maps = [*features]
        bright = torch.nn.functional.interpolate(features[-1][:, :1].float(), size=mask.shape[-2:]) > 0
        logits = torch.where(bright, 2.0, -2.0)
        return MaskModelOutput(torch.cat([torch.zeros_like(logits), logits], dim=1))


def ramp_features(columns=32):
    """Maps of a photo of `SIZE` whose values grow from left to right, 0 in the middle of the photo."""
    line = torch.linspace(-1, 1, columns)
    maps = [torch.zeros(1, c, 4, 4) for c in FEATURE_CHANNELS[:3]]
    return ImageFeatures((*maps, line.expand(1, FEATURE_CHANNELS[3], columns, columns).contiguous()), *SIZE)


def ruled_pipeline(**settings):
    config = {"block_out_channels": (4, 4, 6, 6), "feature_channels": FEATURE_CHANNELS, "sample_size": 64}
    decoder = RightOfTheMiddle(**config, feature_sizes=(4, 4, 4, 64))
    pipeline = SDAmodalPipeline(**NOTHING, decoder=decoder, **settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def square(x, y, side):
    mask = np.zeros(SIZE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


@pytest.mark.parametrize("feature_crop", ["cells", "align"])
@pytest.mark.parametrize("paste", ["probability", "binary"])
def test_features_lie_where_the_photo_does(feature_crop, paste):
    output = ruled_pipeline(feature_crop=feature_crop, paste=paste, keep_modal=False)(
        None, square(30, 20, 18), features=ramp_features()
    )
    mask = output.amodal_masks[0]
    columns = np.nonzero(mask.any(axis=0))[0]
    assert abs(columns.min() - 40) <= 3 and abs(columns.max() - 54) <= 3  # from the middle to the end of the crop box
    rows = np.nonzero(mask.any(axis=1))[0]
    assert abs(rows.min() - 13) <= 2 and abs(rows.max() - 44) <= 2
    assert not output.probabilities[0, :, :22].any()


def test_visible_pixels_are_kept():
    modal = square(20, 20, 16)  # left of the middle, where the rule says background
    kept = ruled_pipeline()(None, modal, features=ramp_features())
    assert kept.amodal_masks[0][modal].all() and (kept.probabilities[0][modal] == 1).all()
    assert not ruled_pipeline(keep_modal=False)(None, modal, features=ramp_features()).amodal_masks[0][modal].any()


def test_threshold():
    modal, features = square(40, 20, 16), ramp_features()
    pipeline = ruled_pipeline()  # which is sure to 0.88
    assert (pipeline(None, modal, features=features).amodal_masks[0] & ~modal).any()
    np.testing.assert_array_equal(pipeline(None, modal, features=features, mask_threshold=0.9).amodal_masks[0], modal)
    stored = ruled_pipeline(mask_threshold=0.9)
    np.testing.assert_array_equal(stored(None, modal, features=features).amodal_masks[0], modal)


def test_crops_of_the_features_are_the_published_ones(scene):
    pipeline = ruled_pipeline()
    pipeline(None, scene[1], features=ramp_features(), batch_size=2)
    seen = pipeline.decoder.maps[3]
    scenes, _ = pipeline.check_inputs(None, scene[1], features=ramp_features())
    boxes = pipeline.crop_objects(scenes, crop="nearest").boxes
    torch.testing.assert_close(seen, crop_features(ramp_features().maps[3], boxes, SIZE, 64))


# What a call gives


def test_output(expected, scene):
    masks = expected.amodal_masks
    assert masks.shape == (2, *SIZE) and masks.dtype == bool
    assert expected.probabilities.shape == masks.shape and expected.probabilities.dtype == np.float32
    assert 0 <= expected.probabilities.min() and expected.probabilities.max() <= 1
    np.testing.assert_array_equal(expected.probabilities > 0.5, masks)
    assert masks[scene[1]].all()
    assert expected.order is None and expected.uncertainty is None and expected.occluder_masks is None


def test_one_pass_of_stable_diffusion_for_any_number_of_masks(scene, expected):
    pipeline = tiny_sdamodal()
    passes = count_passes(pipeline)
    many = np.concatenate([scene[1], scene[1], np.stack([square(10 + i, 10, 9) for i in range(4)])])
    output = pipeline(scene[0], many, batch_size=3)
    assert passes == [2]  # both draws in one
    np.testing.assert_allclose(output.probabilities[:2], expected.probabilities, atol=1e-5)


def test_objects_do_not_know_of_each_other(pipeline, scene, expected):
    for index, mask in enumerate(scene[1]):
        alone = pipeline(scene[0], mask)
        np.testing.assert_allclose(alone.probabilities[0], expected.probabilities[index], atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_batch_size_changes_nothing(pipeline, scene, batch_size):
    masks = np.concatenate([scene[1], square(3, 4, 20)[None]])
    expected = pipeline(*[scene[0], masks], return_uncertainty=True)
    output = pipeline(scene[0], masks, batch_size=batch_size, return_uncertainty=True)
    np.testing.assert_allclose(output.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(output.uncertainty, expected.uncertainty, atol=1e-5)


def test_calls_repeat_and_the_seed_matters(pipeline, scene, expected):
    np.testing.assert_array_equal(pipeline(*scene).probabilities, expected.probabilities)
    other = pipeline(*scene, generator=torch.Generator().manual_seed(7))
    assert not np.array_equal(other.probabilities, expected.probabilities)
    assert not np.array_equal(pipeline(*scene, num_draws=1).probabilities, expected.probabilities)


def test_occluder_masks_have_no_influence_but_are_checked(pipeline, scene, expected):
    output = pipeline(*scene, occluder_masks=scene[1][1])
    np.testing.assert_array_equal(output.probabilities, expected.probabilities)
    with pytest.raises(ValueError, match="`occluder_masks`"):
        pipeline(*scene, occluder_masks=scene[1][1, 1:])


# Uncertainty


def test_uncertainty_is_the_deviation_between_draws(pipeline, scene, expected):
    image, modal = scene
    output = pipeline(image, modal, return_uncertainty=True)
    np.testing.assert_allclose(output.probabilities, expected.probabilities, atol=1e-6)
    assert output.uncertainty.shape == modal.shape and output.uncertainty.dtype == np.float32
    assert output.uncertainty.max() > 0 and not output.uncertainty[modal].any()
    # Draw by draw, by hand: the answers of single draws, in the crop of the object.
    kept = pipeline.encode_image(image, keep_draws=True)
    single = [
        pipeline(None, modal[:1], features=ImageFeatures(tuple(m[draw, None] for m in kept.maps), *SIZE)).probabilities
        for draw in range(2)
    ]
    outside = ~modal[0]
    by_hand = np.std(np.concatenate(single), axis=0, ddof=1)
    pasted = output.uncertainty[0][outside]
    # Here the deviation is interpolated, there the answers: which can only lower their deviation.
    assert (by_hand[outside] <= pasted + 1e-6).all()
    assert np.corrcoef(by_hand[outside], pasted)[0, 1] > 0.95 and by_hand[outside].mean() > 0.7 * pasted.mean()


def test_draws_that_agree_leave_no_uncertainty():
    features = ramp_features()
    same = ImageFeatures(tuple(feature.repeat(3, 1, 1, 1) for feature in features.maps), *SIZE)
    output = ruled_pipeline()(None, square(30, 20, 18), features=same, return_uncertainty=True)
    assert not output.uncertainty.any()
    differ = ImageFeatures(tuple(torch.cat([feature, -feature]) for feature in features.maps), *SIZE)
    output = ruled_pipeline(keep_modal=False)(None, square(30, 20, 18), features=differ, return_uncertainty=True)
    odds = 1 / (1 + np.exp(-2))
    np.testing.assert_allclose(output.uncertainty.max(), np.std([odds, 1 - odds], ddof=1), rtol=1e-5)


# Features handed over


def test_features_of_encode_image(scene, expected):
    pipeline = tiny_sdamodal()
    passes = count_passes(pipeline)
    features = pipeline.encode_image(scene[0])
    assert (features.height, features.width) == SIZE and features.channels == FEATURE_CHANNELS
    assert [feature.shape[-1] for feature in features.maps] == list(FEATURE_SIZES)
    for index, mask in enumerate(scene[1]):  # a person who clicks object after object
        output = pipeline(None, mask, features=features)
        np.testing.assert_allclose(output.probabilities[0], expected.probabilities[index], atol=1e-5)
    assert len(passes) == 1
    with_photo = pipeline(scene[0], scene[1], features=features)
    np.testing.assert_allclose(with_photo.probabilities, expected.probabilities, atol=1e-5)


def test_kept_draws_are_averaged_where_no_uncertainty_is_asked(pipeline, scene, expected):
    features = pipeline.encode_image(scene[0], keep_draws=True)
    assert features.num_draws == 2
    output = pipeline(None, scene[1], features=features)
    np.testing.assert_allclose(output.probabilities, expected.probabilities, atol=1e-5)


def test_lists(scene, expected):
    pipeline = tiny_sdamodal()
    passes = count_passes(pipeline)
    images = [photo(1, 40, 50), scene[0], photo(2, 40, 50), photo(3, 40, 50)]
    small = np.zeros((1, 40, 50), bool)
    small[0, 10:20, 10:30] = True
    masks = [small, scene[1], np.zeros((2, 40, 50), bool), small[:0]]
    output = pipeline(images, masks)
    assert passes == [2, 2]  # none for the photos without a visible object
    assert [found.shape for found in output.amodal_masks] == [(1, 40, 50), (2, *SIZE), (2, 40, 50), (0, 40, 50)]
    np.testing.assert_allclose(output.probabilities[1], expected.probabilities, atol=1e-5)
    assert output.order is None and output.uncertainty is None
    given = pipeline.encode_image(images[:2])
    again = pipeline([None, scene[0]], masks[:2], features=[given[0], None])
    np.testing.assert_allclose(again.probabilities[0], output.probabilities[0], atol=1e-5)
    only = pipeline(None, masks[:2], features=given, return_uncertainty=False)
    np.testing.assert_allclose(only.probabilities[1], output.probabilities[1], atol=1e-5)
    assert pipeline([], []).amodal_masks == []


def test_photos_share_a_pass_where_the_batch_has_room(scene):
    pipeline = tiny_sdamodal(draw_batch_size=4)
    passes = count_passes(pipeline)
    images = [photo(seed, *SIZE) for seed in range(3)]
    seeds = [torch.Generator().manual_seed(seed) for seed in range(3)]
    output = pipeline(images, [scene[1]] * 3, generator=seeds)
    assert passes == [4, 2]
    alone = pipeline(images[2], scene[1], generator=torch.Generator().manual_seed(2))
    np.testing.assert_allclose(output.probabilities[2], alone.probabilities, atol=1e-5)


# Odd scenes


def test_no_masks_no_pass():
    pipeline = tiny_sdamodal()
    passes = count_passes(pipeline)
    for masks in (np.zeros((0, *SIZE), bool), np.zeros((2, *SIZE), bool)):
        output = pipeline(photo(0, *SIZE), masks, return_uncertainty=True)
        assert output.amodal_masks.shape == output.uncertainty.shape == masks.shape
        assert not output.amodal_masks.any() and not output.probabilities.any()
    assert not passes


def test_hidden_object_stays_empty(pipeline, scene, expected):
    masks = np.stack([scene[1][0], np.zeros(SIZE, bool), scene[1][1]])
    output = pipeline(scene[0], masks)
    assert not output.amodal_masks[1].any() and not output.probabilities[1].any()
    np.testing.assert_allclose(output.probabilities[[0, 2]], expected.probabilities, atol=1e-5)


@pytest.mark.parametrize("mask", [np.ones(SIZE, bool), square(0, 0, 1), square(79, 59, 1), square(40, 30, 2)])
def test_full_frame_and_single_pixels(pipeline, scene, mask):
    output = pipeline(scene[0], mask)
    assert output.amodal_masks[0][mask].all() and np.isfinite(output.probabilities).all()


def test_any_form_of_photo(pipeline, scene, expected, tmp_path):
    image = Image.fromarray(scene[0])
    image.save(tmp_path / "photo.png")
    for form in (image, tmp_path / "photo.png", torch.from_numpy(scene[0]).permute(2, 0, 1)):
        np.testing.assert_array_equal(pipeline(form, scene[1]).probabilities, expected.probabilities)


# Components


def test_half_precision(scene, expected):
    pipeline = tiny_sdamodal().to(torch.bfloat16)
    output = pipeline(*scene)
    assert pipeline.unet.dtype == pipeline.decoder.dtype == torch.bfloat16
    assert output.probabilities.dtype == np.float32
    assert abs(output.probabilities - expected.probabilities).mean() < 0.05
    mixed = tiny_sdamodal()
    mixed.unet.to(torch.bfloat16)
    mixed.vae.to(torch.bfloat16)
    assert abs(mixed(*scene).probabilities - expected.probabilities).mean() < 0.05


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("dropped", [False, True])
def test_offloading(scene, expected, sequential, dropped):
    pipeline = tiny_sdamodal()
    if dropped:
        pipeline.drop_text_encoder()
    offload(pipeline, sequential)
    ran = []
    for name in ("vae", "unet", "decoder"):
        hook = getattr(pipeline, name)._hf_hook
        before = hook.pre_forward
        hook.pre_forward = lambda module, *a, name=name, before=before, **k: ran.append(name) or before(module, *a, **k)
    output = pipeline(*scene)
    np.testing.assert_allclose(output.probabilities, expected.probabilities, atol=1e-5)
    assert sequential or set(ran) == {"vae", "unet", "decoder"}  # each came to the accelerator by its hook
    assert pipeline.unet.conv_in.weight.is_meta == sequential
    features = pipeline.encode_image(scene[0])
    np.testing.assert_allclose(
        pipeline(None, scene[1], features=features).probabilities, expected.probabilities, atol=1e-5
    )


def test_decoder_in_training_is_evaluated_and_goes_on_training(scene, expected):
    pipeline = tiny_sdamodal()
    pipeline.decoder.train()
    np.testing.assert_allclose(pipeline(*scene).probabilities, expected.probabilities, atol=1e-5)
    assert pipeline.decoder.training and pipeline.networks == [pipeline.decoder]
    assert not pipeline.needs_occluders and not pipeline.class_conditioned


def test_empty_prompt_is_encoded_once_and_the_encoder_can_go(scene, expected):
    pipeline = tiny_sdamodal()
    calls = []
    pipeline.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    pipeline(*scene)
    pipeline(*scene)
    assert len(calls) == 1
    pipeline.drop_text_encoder()
    assert pipeline.text_encoder is None and pipeline.tokenizer is None
    np.testing.assert_array_equal(pipeline(*scene).probabilities, expected.probabilities)
    pipeline.drop_text_encoder()
    assert len(calls) == 1


@pytest.mark.parametrize("make", [tiny_stable_diffusion, tiny_inpainting])
def test_components_of_another_pipeline(make, scene, expected):
    other = make()
    settings = {"resolution": RESOLUTION, "num_draws": 2, "draw_batch_size": 2}
    pipeline = SDAmodalPipeline.from_pipe(other, decoder=tiny_mask_decoder(), **settings)
    assert all(getattr(pipeline, name) is getattr(other, name) for name in NOTHING)
    output = pipeline(*scene)
    if make is tiny_stable_diffusion:
        np.testing.assert_array_equal(output.probabilities, expected.probabilities)
    decoder = tiny_mask_decoder(seed=9)
    second = SDAmodalPipeline.from_pipe(pipeline, decoder=decoder, num_draws=1)
    assert second.decoder is decoder and second.config.num_draws == 1 and second.config.resolution == RESOLUTION
    with pytest.raises(ValueError, match="`decoder` must be given: .*Pipeline has none"):
        SDAmodalPipeline.from_pipe(other)
