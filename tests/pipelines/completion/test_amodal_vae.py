"""AmodalVAEPipeline: completions by the mean code and by samples, scores, boxes, and what it refuses."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion import AmodalPipeline, AmodalVAE, AmodalVAEPipeline
from amodal_diffusion.evaluation import call_pipeline
from amodal_diffusion.images import denormalize_images
from amodal_diffusion.metrics import sample_widths
from amodal_diffusion.models.amodal_vae import DiagonalGaussian
from mask_helpers import random_masks
from pipeline_helpers import stacked_bars

HEIGHT, WIDTH = 64, 96


def tiny_vae(**config):
    torch.manual_seed(0)
    config = {"sample_size": 16, "latent_channels": 4, "block_out_channels": (4, 8), **config}
    model = AmodalVAE(**config).eval()
    with torch.no_grad():  # far from the shapes that an untrained decoder agrees on
        last = [module for module in model.decoder.modules() if isinstance(module, torch.nn.Conv2d)][-1]
        last.weight *= 20
        model.spatial_transformer.linear_out.weight.normal_(std=0.2)
    return model


def quiet(model, **settings):
    pipeline = AmodalVAEPipeline(model, **settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class Stretcher(AmodalVAE):
    """Completes by a rule: a solid box that starts where the visible one does and is 1.5 + z / 4 as wide, z ~ N(0, 1).

    `seen` are the masks that were encoded.
    """

    def encode(self, mask, category_ids=None, image=None):
        self.seen = mask
        return DiagonalGaussian(torch.zeros(len(mask), 4), torch.zeros(len(mask), 4))

    def decode(self, latents):
        return (100 + latents[:, :1, None, None]).expand(-1, 1, 16, 16)

    def place(self, logits, mask):
        wide = 1.5 + (logits[:, 0, 0, 0] - 100) / 4
        return torch.stack([wide / 2, torch.full_like(wide, 0.5), wide, torch.ones_like(wide)], dim=1)


def stretcher(**settings):
    return quiet(Stretcher(sample_size=16, latent_channels=4, block_out_channels=(4, 8)).eval(), **settings)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pipeline():
    return quiet(tiny_vae())


@pytest.fixture(scope="module")
def modal():
    return stacked_bars(HEIGHT, WIDTH)[0]


@pytest.fixture
def square():
    """One visible square at (40, 20) of 20 x 24 pixels (width x height)."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20:44, 40:60] = True
    return mask


# what comes out


def test_output(pipeline, modal):
    output = pipeline(None, modal, num_samples=5, generator=seeded())
    assert output.amodal_masks.shape == modal.shape and output.amodal_masks.dtype == bool
    assert output.probabilities.shape == modal.shape and output.probabilities.dtype == np.float32
    assert output.samples.shape == (3, 5, HEIGHT, WIDTH) and output.samples.dtype == bool
    assert output.sample_scores.shape == (3, 5) and output.sample_scores.dtype == np.float32
    assert ((output.sample_scores > 0) & (output.sample_scores <= 1)).all()
    assert output.order is None and output.occluder_masks is None
    np.testing.assert_array_equal(output.amodal_masks, output.probabilities > 0.5)
    assert (output.samples[:, 0] != output.samples[:, 1]).any(axis=(1, 2)).all()


def test_visible_part_is_kept_in_every_sample(pipeline, modal):
    masks = np.concatenate([modal, random_masks(0, height=HEIGHT, width=WIDTH)])
    output = pipeline(None, masks, num_samples=4, generator=seeded())
    assert not (masks & ~output.amodal_masks).any()
    assert not (masks[:, None] & ~output.samples).any()
    assert (output.probabilities[masks] == 1).all() and (output.uncertainty[masks] == 0).all()
    assert (output.amodal_masks & ~masks).any() and (output.samples & ~masks[:, None]).any()


@pytest.mark.parametrize("count", [None, 0])
def test_no_samples(pipeline, modal, count):
    output = pipeline(None, modal, num_samples=count)
    assert output.samples is None and output.sample_scores is None and output.uncertainty is None
    with_samples = pipeline(None, modal, num_samples=3)
    np.testing.assert_array_equal(output.probabilities, with_samples.probabilities)


def test_output_types(pipeline, modal):
    expected = pipeline(None, modal, num_samples=2, generator=seeded())
    tensors = pipeline(None, modal, num_samples=2, generator=seeded(), output_type="pt")
    assert tensors.samples.dtype == torch.bool and tensors.sample_scores.dtype == torch.float32
    np.testing.assert_array_equal(tensors.samples.numpy(), expected.samples)
    pictures = pipeline(None, modal, num_samples=2, generator=seeded(), output_type="pil")
    assert [len(row) for row in pictures.samples] == [2, 2, 2]
    np.testing.assert_array_equal(np.asarray(pictures.samples[2][1]) > 0, expected.samples[2, 1])
    np.testing.assert_array_equal(np.asarray(pictures.amodal_masks[1]) > 0, expected.amodal_masks[1])


def test_solid_box_lies_where_the_transformer_puts_it(square):
    output = stretcher()(None, square)
    expected = square.copy()
    expected[20:44, 40:70] = True
    np.testing.assert_array_equal(output.amodal_masks[0], expected)


# what must not matter


def test_objects_do_not_know_of_each_other(pipeline, modal):
    together = pipeline(None, modal)
    shuffled = pipeline(None, modal[[2, 0, 1]])
    np.testing.assert_allclose(shuffled.probabilities, together.probabilities[[2, 0, 1]], atol=1e-5)
    for index, mask in enumerate(modal):
        alone = pipeline(None, mask)
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[index], atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_batch_size_changes_nothing(pipeline, modal, batch_size):
    expected = pipeline(None, modal, num_samples=3, generator=seeded(), batch_size=5)
    output = pipeline(None, modal, num_samples=3, generator=seeded(), batch_size=batch_size)
    np.testing.assert_allclose(output.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(output.sample_scores, expected.sample_scores, atol=2e-3)
    assert (output.samples != expected.samples).mean() < 1e-4


def test_small_parts_change_nothing(pipeline, modal, monkeypatch):
    expected = pipeline(None, modal, num_samples=3, generator=seeded(), select="visible")
    monkeypatch.setattr("amodal_diffusion.pipelines.completion.amodal_vae._CHUNK", 2 * HEIGHT * WIDTH)
    output = pipeline(None, modal, num_samples=3, generator=seeded(), select="visible")
    for name in ("amodal_masks", "samples", "sample_scores"):
        np.testing.assert_array_equal(output[name], expected[name])
    np.testing.assert_allclose(output.uncertainty, expected.uncertainty, atol=1e-6)


def test_seed_decides_the_samples_and_a_larger_number_begins_alike(pipeline, modal):
    first = pipeline(None, modal, num_samples=3, generator=seeded(7))
    np.testing.assert_array_equal(pipeline(None, modal, num_samples=3, generator=seeded(7)).samples, first.samples)
    more = pipeline(None, modal, num_samples=6, generator=seeded(7))
    assert (more.samples[:, :3] != first.samples).mean() < 1e-4
    assert (pipeline(None, modal, num_samples=3, generator=seeded(8)).samples != first.samples).any()


def test_photos_of_several_sizes_in_one_call(pipeline, modal):
    scenes = [modal, random_masks(3, count=2, height=30, width=41), modal[:0], modal[:1]]
    scenes[1][1] = False
    output = pipeline(None, scenes, num_samples=2, generator=[seeded(k) for k in range(4)])
    for index, scene in enumerate(scenes):
        single = pipeline(None, scene, num_samples=2, generator=seeded(index))
        for name in ("probabilities", "sample_scores", "uncertainty"):
            assert output[name][index].shape == single[name].shape
            np.testing.assert_allclose(output[name][index], single[name], atol=1e-3)
        assert (output.samples[index] != single.samples).sum() <= 2
    one = pipeline(None, scenes, num_samples=2, generator=seeded(0))
    assert (one.samples[0] != output.samples[0]).sum() <= 2  # one generator draws scene after scene


def test_photo_gives_its_size_alone(pipeline, modal):
    photo = Image.new("RGB", (WIDTH, HEIGHT), (9, 90, 200))
    np.testing.assert_array_equal(pipeline(photo, modal).probabilities, pipeline(None, modal).probabilities)
    with pytest.raises(ValueError, match="`masks`"):
        pipeline(Image.new("RGB", (WIDTH, HEIGHT + 1)), modal)


# samples


def test_scores_are_the_documented_iou(square):
    """Independent of the pipeline: the boxes that the rule draws, counted by hand."""
    pipeline = stretcher()
    square[30, 50] = False  # a hole, which every sample fills
    front = np.zeros_like(square)
    front[:, 60:] = True
    plain = pipeline(None, square, num_samples=20, generator=seeded())
    told = pipeline(None, square, num_samples=20, generator=seeded(), occluder_masks=front)
    for k in range(20):
        sample = plain.samples[0, k] & ~square | square
        width = sample[35].sum()
        shape = np.zeros_like(square)
        shape[20:44, 40 : 40 + width] = True
        if width == 20:  # narrower than the visible part, which is added to it
            continue
        agreed = (shape & square).sum()
        region = np.zeros_like(square)
        region[20:44, 40:60] = True
        assert plain.sample_scores[0, k] == pytest.approx(agreed / ((shape & region) | square).sum())
        assert told.sample_scores[0, k] == pytest.approx(agreed / ((shape & ~front) | square).sum())
    np.testing.assert_allclose(told.sample_scores, plain.sample_scores)
    back = pipeline(None, square, num_samples=20, generator=seeded(), occluder_masks=np.zeros_like(square))
    wide = plain.samples[0].sum(axis=(1, 2)) > 24 * 24
    assert wide.sum() > 10 and (back.sample_scores[0] < plain.sample_scores[0])[wide].all()


def test_selection_by_the_visible_part(pipeline, modal):
    output = pipeline(None, modal, num_samples=6, generator=seeded(), select="visible")
    best = output.sample_scores.argmax(axis=1)
    assert len(set(best.tolist())) > 1  # or a constant choice would do
    np.testing.assert_array_equal(output.amodal_masks, output.samples[np.arange(3), best])
    np.testing.assert_array_equal(output.amodal_masks, output.probabilities > 0.5)
    mean = pipeline(None, modal, num_samples=6, generator=seeded())
    assert (mean.amodal_masks != output.amodal_masks).any()
    np.testing.assert_array_equal(mean.samples, output.samples)
    np.testing.assert_allclose(mean.uncertainty, output.uncertainty)


def test_uncertainty_is_the_spread_of_the_samples(square):
    output = stretcher()(None, square, num_samples=8, generator=seeded())
    spread = output.samples.std(axis=1)
    difference = np.abs(output.uncertainty - spread)
    assert output.uncertainty.max() <= 0.5 and spread.max() > 0.4
    # The edge of each box covers one column of pixels in part.
    assert (difference > 1e-3).any(axis=(0, 1)).sum() <= 8 and (difference[:, :20] == 0).all()
    assert (stretcher()(None, square, num_samples=1).uncertainty < 1e-3).all()


# diverse samples


def drawn(pipeline, masks, count=6, image=None, **options):
    return pipeline(image, masks, num_samples=count, sample_choice="diverse", **{"generator": seeded(), **options})


@pytest.fixture
def half_hidden():
    """A square of which the right half is hidden by a bar, the bar, and a whole square far from both."""
    masks = np.zeros((3, HEIGHT, WIDTH), bool)
    masks[0, 20:44, 30:42] = True
    masks[1, 8:56, 42:66] = True
    masks[2, 22:40, 76:90] = True
    return masks


def test_samples_differ_where_the_object_is_hidden_and_nowhere_else(pipeline, half_hidden):
    front = np.zeros_like(half_hidden)
    front[0] = half_hidden[1]  # the order is known: the bar is in front
    samples = drawn(pipeline, half_hidden, occluder_masks=front).samples
    widths = sample_widths(samples)
    assert widths[0] > 0.1 and widths[1] == widths[2] == 0
    np.testing.assert_array_equal(samples[1:], np.repeat(half_hidden[1:, None], 6, axis=1))
    assert (samples[0] >= half_hidden[0]).all() and (samples[0] <= half_hidden[0] | front[0]).all()
    independent = pipeline(None, half_hidden, num_samples=6, generator=seeded()).samples
    assert sample_widths(independent)[2] > 0  # as published, they differ there as well


def test_the_other_masks_hide_where_nothing_else_is_known(pipeline, half_hidden):
    output = drawn(pipeline, half_hidden)
    others = np.stack([np.delete(half_hidden, index, axis=0).any(axis=0) for index in range(3)])
    assert (output.samples <= (half_hidden | others)[:, None]).all()
    np.testing.assert_array_equal(output.samples, drawn(pipeline, half_hidden, occluder_masks=others).samples)
    assert (drawn(pipeline, half_hidden[0]).samples[0] & ~half_hidden[0]).any()  # alone, it may grow anywhere
    alone = pipeline(None, half_hidden)
    np.testing.assert_array_equal(output.amodal_masks, alone.amodal_masks)  # which samples change nothing in
    options = {"num_samples": 6, "sample_choice": "diverse", "generator": seeded()}
    apart = call_pipeline(pipeline, None, half_hidden, [None] * 3, alone=True, **options).samples
    first = drawn(pipeline, half_hidden[0]).samples
    assert apart.shape == output.samples.shape and (apart[:1] != first).mean() < 1e-4


def test_shapes_reach_as_far_as_the_occluders(half_hidden):
    widths = drawn(stretcher(), half_hidden[:2], 12).samples[0].any(axis=1).sum(axis=1)
    assert widths.min() == 12 and widths.max() > 20  # 12 columns are seen, and at most as many may be hidden
    assert widths.max() <= 24
    told = drawn(stretcher(), half_hidden[:2], 12, amodal_box=[[30.0, 20.0, 18.0, 24.0], None])
    assert (told.samples[0].any(axis=1).sum(axis=1) == 18).all()  # a box that the caller knows


def test_samples_are_chosen_from_the_candidates(half_hidden, monkeypatch):
    """With as many candidates as samples all of them are returned, and each chosen one is among these."""
    pipeline, module = quiet(tiny_vae()), "amodal_diffusion.pipelines.completion.amodal_vae"
    monkeypatch.setattr(f"{module}._CANDIDATES_A_SAMPLE", 1)
    monkeypatch.setattr(f"{module}._CANDIDATES", 12)
    every = {sample.tobytes() for sample in drawn(pipeline, half_hidden, 12).samples[0]}
    few = [sample.tobytes() for sample in drawn(pipeline, half_hidden, 3).samples[0]]
    assert len(every) > 6 and set(few) <= every and len(set(few)) == 3
    assert (
        sample_widths(drawn(pipeline, half_hidden, 3).samples)[0]
        > sample_widths(drawn(pipeline, half_hidden, 12).samples)[0]
    )


def test_seed_and_batch_decide_nothing_but_the_draws(pipeline, half_hidden, monkeypatch):
    expected = drawn(pipeline, half_hidden, generator=seeded(3))
    for options in ({}, {"batch_size": 5}):
        again = drawn(pipeline, half_hidden, generator=seeded(3), **options)
        assert (again.samples != expected.samples).mean() < 1e-4
    assert (drawn(pipeline, half_hidden, generator=seeded(4)).samples != expected.samples).any()
    compact = drawn(pipeline, half_hidden, generator=seeded(3), output_type="compact")
    np.testing.assert_array_equal(np.asarray(compact.samples), expected.samples)
    scenes = drawn(pipeline, [half_hidden, half_hidden[:2]], generator=seeded(3))
    assert (scenes.samples[0] != expected.samples).mean() < 1e-4 and scenes.samples[1].shape[:2] == (2, 6)
    monkeypatch.setattr("amodal_diffusion.pipelines.completion.amodal_vae._TOGETHER", 1)
    assert (drawn(pipeline, half_hidden, generator=seeded(3)).samples != expected.samples).mean() < 1e-4


def test_temperature_is_the_spread_of_the_codes(square):
    spreads = []
    for temperature in (0.0, 1.0, 3.0):
        output = stretcher()(None, square, num_samples=8, sample_temperature=temperature, generator=seeded())
        spreads.append(output.samples[0].any(axis=1).sum(axis=1).std())
    assert spreads[0] == 0 and 0 < spreads[1] < spreads[2]
    hot = stretcher(sample_temperature=3.0)
    plain = stretcher()(None, square, num_samples=8, generator=seeded())
    # Independent draws stay those of the posterior, whatever the checkpoint says of diverse ones.
    np.testing.assert_array_equal(hot(None, square, num_samples=8, generator=seeded()).samples, plain.samples)
    np.testing.assert_array_equal(
        drawn(hot, square).samples, drawn(stretcher(), square, sample_temperature=3.0).samples
    )


def test_diverse_samples_of_empty_and_full_masks(pipeline):
    masks = np.zeros((3, HEIGHT, WIDTH), bool)
    masks[1], masks[2, 20:40, 20:40] = True, True
    output = drawn(pipeline, masks, select="visible")
    assert not output.samples[0].any() and not output.sample_scores[0].any() and output.samples[1].all()
    assert drawn(pipeline, masks[:0]).samples.shape == (0, 6, HEIGHT, WIDTH)
    assert drawn(pipeline, masks[:1]).samples.shape == (1, 6, HEIGHT, WIDTH)
    assert pipeline(None, masks, sample_choice="diverse").samples is None
    best = output.sample_scores.argmax(axis=1)
    np.testing.assert_array_equal(output.amodal_masks, output.samples[np.arange(3), best])


# the caller's box, occluders, categories


def test_box_replaces_placement_and_crop(square):
    pipeline = stretcher()
    output = pipeline(None, square, amodal_box=[[30.0, 10.0, 30.0, 40.0]], num_samples=3)
    expected = np.zeros_like(square)
    expected[10:50, 30:60] = True
    np.testing.assert_array_equal(output.amodal_masks[0], expected)
    assert (output.samples[0] == expected).all()
    crop = np.zeros((16, 16), np.float32)
    crop[4:14, 6:] = 1  # the square begins 10 pixels, 4 rows or 5.3 columns, inside of the box
    seen = pipeline.model.seen[0, 0].numpy()
    assert np.abs(seen - crop)[:, :5].max() < 1e-5 and np.abs(seen - crop).mean() < 0.05


@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
def test_box_of_one_object_and_boxes_that_leave_the_photo(form, square):
    output = stretcher()(None, square, amodal_box=form([50.0, 30.0, 500.0, 500.0]))
    expected = square.copy()
    expected[30:, 50:] = True
    np.testing.assert_array_equal(output.amodal_masks[0], expected)


@pytest.mark.parametrize("unknown", [None, [np.nan] * 4])
def test_unknown_boxes_among_known_ones(pipeline, modal, unknown):
    box = [2.0, 5.0, 80.0, 50.0]
    free = pipeline(None, modal)
    output = pipeline(None, modal, amodal_box=[unknown, box, unknown])
    np.testing.assert_allclose(output.probabilities[[0, 2]], free.probabilities[[0, 2]], atol=1e-5)
    np.testing.assert_allclose(
        output.probabilities[1], pipeline(None, modal[1], amodal_box=box).probabilities[0], atol=1e-5
    )
    assert np.abs(output.probabilities[1] - free.probabilities[1]).max() > 0.5
    scenes = pipeline(None, [modal, modal], amodal_box=[None, [unknown, box, unknown]])
    np.testing.assert_allclose(scenes.probabilities[0], free.probabilities, atol=1e-5)
    np.testing.assert_allclose(scenes.probabilities[1], output.probabilities, atol=1e-5)


def test_growth_is_confined_to_given_occluders(pipeline, modal):
    front = np.zeros((1, HEIGHT, WIDTH), bool)
    front[:, :, 48:] = True
    free = pipeline(None, modal, num_samples=3, generator=seeded())
    output = pipeline(None, modal, num_samples=3, generator=seeded(), occluder_masks=front)
    assert (free.samples & ~modal[:, None])[..., :48].any()
    np.testing.assert_array_equal(output.amodal_masks, modal | (free.amodal_masks & front))
    np.testing.assert_array_equal(output.samples, modal[:, None] | (free.samples & front))
    assert (output.uncertainty[~np.broadcast_to(front, modal.shape)] == 0).all()


def test_categories():
    modal = stacked_bars(HEIGHT, WIDTH)[0]
    pipeline = quiet(tiny_vae(num_categories=3))
    assert pipeline.class_conditioned
    unknown = pipeline(None, modal).probabilities
    np.testing.assert_array_equal(pipeline(None, modal, category_ids=[0, 0, 0]).probabilities, unknown)
    known = pipeline(None, modal, category_ids=np.array([0, 3, 0])).probabilities
    np.testing.assert_allclose(known[[0, 2]], unknown[[0, 2]], atol=1e-5)
    assert (known[1] != unknown[1]).any()
    scenes = pipeline(None, [modal, modal], category_ids=[None, [0, 3, 0]]).probabilities
    np.testing.assert_allclose(scenes[0], unknown, atol=1e-5)
    np.testing.assert_allclose(scenes[1], known, atol=1e-5)
    with pytest.raises(ValueError, match=r"`category_ids\[1\]` must lie in \[0, 3\], got 4"):
        pipeline(None, [modal, modal], category_ids=[None, [0, 4, 0]])
    with pytest.raises(ValueError, match="`category_ids` must be integers of at least 0, got"):
        pipeline(None, modal, category_ids=[0, -1, 0])
    # An evaluation says None for no category, which is 0 for a network that knows unknown ones.
    np.testing.assert_array_equal(call_pipeline(pipeline, None, modal, [None, 3, None]).probabilities, known)


def test_class_agnostic_network_reads_no_categories(pipeline, modal):
    assert not pipeline.class_conditioned
    output = pipeline(None, modal, category_ids=[5, 6, 7])
    np.testing.assert_array_equal(output.probabilities, pipeline(None, modal).probabilities)


# edges


def test_empty_and_full_frame_masks(pipeline):
    masks = np.zeros((3, HEIGHT, WIDTH), bool)
    masks[1], masks[2, 20:40, 20:40] = True, True
    output = pipeline(None, masks, num_samples=3, generator=seeded(), amodal_box=[[1, 1, 5, 5], None, None])
    for name in ("amodal_masks", "probabilities", "uncertainty", "samples", "sample_scores"):
        assert not output[name][0].any(), name
    assert output.amodal_masks[1].all() and output.samples[1].all() and (output.uncertainty[1] == 0).all()
    alone = pipeline(None, masks[2], num_samples=3)
    np.testing.assert_allclose(output.probabilities[2], alone.probabilities[0], atol=1e-5)


def test_no_objects_and_no_photos(pipeline):
    output = pipeline(None, np.zeros((0, 9, 7), bool), num_samples=2)
    assert output.amodal_masks.shape == (0, 9, 7) and output.samples.shape == (0, 2, 9, 7)
    assert output.sample_scores.shape == (0, 2)
    assert pipeline(None, np.zeros((2, 9, 7), bool), num_samples=2).samples.shape == (2, 2, 9, 7)
    assert pipeline([], []).amodal_masks == []


def test_thin_rim_is_dropped_and_deep_growth_kept(square):
    pipeline, plain = stretcher(rim_width=1), stretcher()
    box = [39.0, 19.0, 22.0, 26.0]  # a pixel, less than a cell, wider on every side
    assert (plain(None, square, amodal_box=box).amodal_masks[0] & ~square).any()
    np.testing.assert_array_equal(pipeline(None, square, amodal_box=box, num_samples=2).samples[0, 1], square)
    deep = pipeline(None, square, amodal_box=[39.0, 19.0, 40.0, 26.0]).amodal_masks[0]
    expected = square.copy()
    expected[19:45, 60:79] = True
    assert (deep & ~square)[:, 60:].sum() == (expected & ~square)[:, 60:].sum()
    assert not (deep & ~square)[20:44, :40].any()


def test_network_is_fetched_where_it_is_offloaded(modal):
    """What `enable_model_cpu_offload` does: a hook brings the network to its device before each use of it."""
    pipeline, calls = quiet(tiny_vae()), []
    pipeline.model._hf_hook = SimpleNamespace(pre_forward=calls.append)
    pipeline(None, modal)
    assert len(calls) == 3  # encode, decode, place


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_samples": -1}, ValueError, r"`num_samples` must lie in \[0, 1000\], got -1"),
        ({"num_samples": 10**9}, ValueError, r"`num_samples` must lie in \[0, 1000\], got 1000000000"),
        ({"num_samples": []}, TypeError, r"`num_samples` must be an integer, got \[\]"),
        ({"num_samples": 1.5}, TypeError, "`num_samples` must be an integer, got 1.5"),
        ({"select": "best"}, ValueError, "`select` must be one of 'mean', 'visible', got 'best'"),
        ({"select": "visible"}, ValueError, "`num_samples` must be at least 1 where `select` is 'visible'"),
        (
            {"sample_choice": "best"},
            ValueError,
            "`sample_choice` must be one of 'independent', 'diverse', got 'best'",
        ),
        ({"sample_temperature": -1}, ValueError, r"`sample_temperature` must lie in \[0, 10\), got -1"),
        ({"sample_temperature": "hot"}, TypeError, "`sample_temperature` must be a number, got 'hot'"),
        ({"mask_threshold": 1.0}, ValueError, r"`mask_threshold` must lie in \[0, 1\), got 1.0"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1, got 0"),
        ({"output_type": "tf"}, ValueError, "`output_type` must be one of"),
        ({"generator": 7}, TypeError, "`generator` must be a torch.Generator, or a list of these, got int"),
        ({"generator": [seeded()] * 2}, ValueError, "`generator` must be one generator where one photo is given"),
        ({"amodal_box": [[1, 2, 3, 4]]}, ValueError, r"`amodal_box` must have shape \(3, 4\).* got \(1, 4\)"),
        ({"amodal_box": [1, 2, 3, 4]}, ValueError, r"`amodal_box` must have shape \(3, 4\)"),
        ({"amodal_box": [None, [1, 2], None]}, ValueError, r"`amodal_box` must hold boxes \(x, y, width, height\)"),
        (
            {"amodal_box": [None, None, [1, 2, 0, 4]]},
            ValueError,
            r"`amodal_box` must hold finite .* above 0.* got \[1.0, 2.0, 0.0, 4.0\] for object 2",
        ),
        ({"amodal_box": [None, [1, np.nan, 3, 4], None]}, ValueError, "`amodal_box` must hold finite.* object 1"),
        ({"amodal_box": [None, [1, 2, np.inf, 4], None]}, ValueError, "`amodal_box` must hold finite.* object 1"),
        (
            {"amodal_box": [None, None, [-50, -50, 9, 9]]},
            ValueError,
            "`amodal_box` of object 2 holds no visible pixel of it",
        ),
        ({"occluder_masks": np.zeros((2, HEIGHT, WIDTH), bool)}, ValueError, "`occluder_masks` must hold one mask"),
        ({"category_ids": [1]}, ValueError, r"`category_ids` must have shape \(3,\)"),
    ],
)
def test_wrong_arguments_are_named(pipeline, modal, options, error, message):
    with pytest.raises(error, match=message):
        pipeline(None, modal, **options)


def test_wrong_arguments_of_a_list_are_named(pipeline, modal):
    for options, error, message in (
        ({"amodal_box": np.zeros((2, 3, 4))}, TypeError, "`amodal_box` must be a list with one entry a photo"),
        ({"amodal_box": [None, [None]]}, ValueError, r"`amodal_box\[1\]` must have shape \(3, 4\)"),
        ({"amodal_box": [None, [[-9, -9, 1, 1], None, None]]}, ValueError, r"`amodal_box\[1\]` of object 0 holds no"),
        ({"generator": [seeded()]}, ValueError, "`generator` must hold one generator for each of the 2 photos, got 1"),
        ({"generator": [seeded(), 3]}, TypeError, "`generator` must be a torch.Generator.* got int"),
    ):
        with pytest.raises(error, match=message):
            pipeline(None, [modal, modal], num_samples=1, **options)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"mask_threshold": "half"}, TypeError, "`mask_threshold` must be a number, got 'half'"),
        ({"rim_width": -1}, ValueError, "`rim_width` must be at least 0, got -1"),
        ({"sample_temperature": 10}, ValueError, r"`sample_temperature` must lie in \[0, 10\), got 10"),
        ({"rim_width": 0.5}, TypeError, "`rim_width` must be an integer, got 0.5"),
    ],
)
def test_wrong_settings_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        AmodalVAEPipeline(tiny_vae(), **settings)


# saving and loading


def test_save_and_load(tmp_path, modal):
    folder = tmp_path / "amodal-vae"
    pipeline = quiet(tiny_vae(num_categories=2), mask_threshold=0.4, rim_width=1, sample_temperature=1.5)
    pipeline.save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    assert index.pop("_diffusers_version")
    assert index == {
        "_class_name": ["pipeline", "AmodalVAEPipeline"], "model": ["amodal_diffusion", "AmodalVAE"],
        "mask_threshold": 0.4, "rim_width": 1, "sample_temperature": 1.5,
    }  # fmt: skip
    expected = pipeline(None, modal, num_samples=2, generator=seeded(), category_ids=[1, 2, 0])
    loaded = AmodalPipeline.from_pretrained(folder)
    assert type(loaded) is AmodalVAEPipeline and not loaded.model.training
    output = loaded(None, modal, num_samples=2, generator=seeded(), category_ids=[1, 2, 0])
    np.testing.assert_array_equal(output.samples, expected.samples)
    diverse = [
        pipe(None, modal, num_samples=2, sample_choice="diverse", generator=seeded(), **told).samples
        for pipe, told in ((pipeline, {"sample_temperature": 1.5}), (loaded, {}), (loaded, {"sample_temperature": 0.1}))
    ]
    np.testing.assert_array_equal(diverse[0], diverse[1])
    assert (diverse[2] != diverse[1]).any()
    assert (folder / "pipeline.py").read_text() == "from amodal_diffusion import AmodalVAEPipeline  # noqa: F401\n"


# With the photo


class Noticer(Stretcher):
    """A `Stretcher` of which the photo decides how wide it completes: 1.5 + its mean of red / 4; `shown` is it."""

    def encode(self, mask, category_ids=None, image=None):
        self.seen, self.shown = mask, denormalize_images(image)
        width = self.shown[:, :1].mean((2, 3))
        return DiagonalGaussian(width.expand(-1, 4), torch.full((len(mask), 4), -20.0))


def noticer():
    small = {"sample_size": 16, "latent_channels": 4, "block_out_channels": (4, 8)}
    photo = {"use_rgb": True, "image_size": 32, "image_hidden_sizes": (4, 8), "image_depths": (1, 1)}
    return quiet(Noticer(**small, **photo, image_embedding_size=4, image_layer_type="basic").eval())


def test_the_photo_is_seen_in_the_box_of_the_mask(square):
    photo = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    photo[20:44, 40:50, 0] = 255  # the left half of the square's box
    pipe = noticer()
    assert pipe.needs_image
    out = pipe(photo, square)
    shown = pipe.model.shown[0]
    inner = slice(2, -2)  # cells beside the box's edges mix in what lies outside
    assert shown[0, inner, 2:14].min() > 0.99 and shown[0, :, 18:].max() < 0.01 and shown[1:].abs().max() < 0.01
    assert out.amodal_masks[0].sum() == pytest.approx(24 * 20 * (1.5 + 0.5 / 4), rel=0.03)
    box = np.array([40.0, 20.0, 40.0, 24.0])
    pipe(photo, square, amodal_box=box)
    assert pipe.model.shown[0, 0, inner, 1:7].min() > 0.99 and pipe.model.shown[0, 0, :, 9:].max() < 0.01
    pipe(photo, np.stack([square, np.zeros_like(square)]))  # what has no pixel is not looked at
    assert len(pipe.model.shown) == 1


def test_photos_go_with_their_masks(square):
    red, black = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    red[..., 0] = 255
    pipe = noticer()
    areas = [mask.amodal_masks[0].sum() for mask in (pipe(photo, square) for photo in (red, black))]
    assert areas[0] > areas[1]
    both = pipe([red, black], [square[None], square[None]]).amodal_masks
    assert [masks[0].sum() for masks in both] == areas
    compact = pipe([red, black], [square[None], square[None]], output_type="compact").amodal_masks
    assert [np.asarray(masks[0]).sum() for masks in compact] == areas
    assert [out.sum() for out in pipe([], []).amodal_masks] == []
    with pytest.raises(ValueError, match="`image` must be given: AmodalVAEPipeline looks at the photo"):
        pipe(None, square)
    with pytest.raises(ValueError, match=r"`image\[1\]` must be given"):
        pipe([red, None], [square[None], square[None]])


def test_each_candidate_sees_the_photo_in_its_own_box(half_hidden):
    """The network completes to 1.5 + its mean of red / 4 of the box, and no box reaches the red at the right."""
    pipe = noticer()
    photo = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    photo[:, 66:, 0] = 255
    drawn(pipe, half_hidden[:2], image=photo)
    boxes = pipe.model.shown[:, :1].mean((2, 3))
    assert len(boxes) == 2 * 48 and (boxes[:48] == boxes[0]).all()
    photo[:, 45:, 0] = 255
    drawn(pipe, half_hidden[:2], image=photo)
    assert len(pipe.model.shown[:48].mean((1, 2, 3)).unique()) > 10


@pytest.mark.parametrize("encoder", ["resnet", "efficientnet-lite0"])
def test_a_folder_with_a_photo_encoder(encoder, tmp_path, square):
    small = {"image_hidden_sizes": (4, 8), "image_depths": (1, 1), "image_embedding_size": 4, "image_size": 32}
    pipe = quiet(tiny_vae(use_rgb=True, image_encoder_type=encoder, image_layer_type="basic", **small))
    pipe.save_pretrained(tmp_path / "rgb")
    loaded = AmodalPipeline.from_pretrained(tmp_path / "rgb")
    photo = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    loaded.set_progress_bar_config(disable=True)
    first, second = (one(photo, square, num_samples=2, generator=seeded()) for one in (pipe, loaded))
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=1e-5)
    assert np.mean(first.samples != second.samples) < 1e-3  # a last bit may decide about a pixel
    assert call_pipeline(loaded, photo, square[None], [None]).amodal_masks.shape == (1, HEIGHT, WIDTH)
    # A folder of before knows none of these settings, and needs no photo.
    quiet(tiny_vae()).save_pretrained(tmp_path / "masks")
    config = json.loads((tmp_path / "masks" / "model" / "config.json").read_text())
    kept = {name: value for name, value in config.items() if not name.startswith("image_") and name != "use_rgb"}
    (tmp_path / "masks" / "model" / "config.json").write_text(json.dumps(kept))
    old = AmodalPipeline.from_pretrained(tmp_path / "masks")
    assert not old.needs_image and old(None, square).amodal_masks.any()
