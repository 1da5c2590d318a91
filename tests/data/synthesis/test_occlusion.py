"""Occlusion synthesis: the published recipe, the improved one, determinism, and what every sample must satisfy."""

import numpy as np
import pytest
import torch

from amodal_diffusion.data.synthesis import MaskBank, OcclusionSynthesizer, SynthesisConfig
from amodal_diffusion.masks import encode_rle

RECIPES = {"published": SynthesisConfig(size=64), "improved": SynthesisConfig.improved(64)}


@pytest.fixture(scope="module")
def bank():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :96]
    objects = []
    for index in range(40):
        (cy, cx), (ry, rx) = rng.uniform(30, 66, 2), rng.uniform(8, 28, 2)
        mask = ((rows - cy) / ry) ** 2 + ((columns - cx) / rx) ** 2 <= 1
        objects.append({"modal_mask": encode_rle(mask), "is_crowd": False, "category_id": index + 2})
    rows_of_sources = [[{"objects": objects[:30]}], [{"objects": objects[30:]}]]
    return MaskBank.from_sources(rows_of_sources, resolution=64)


def bools(batch):
    return batch.mask[:, 0] > 0, batch.eraser[:, 0] > 0, batch.target[:, 0] > 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_sample_is_consistent(bank, recipe):
    batch = OcclusionSynthesizer(bank, RECIPES[recipe]).sample(0, 128)
    mask, eraser, target = bools(batch)
    assert batch.mask.shape == batch.eraser.shape == batch.target.shape == (128, 1, 64, 64)
    assert batch.mask.dtype == torch.float32
    assert not (mask & eraser).any()  # the eraser has erased
    assert not (mask & ~target).any()  # what is seen belongs to the object
    grown = (target & ~mask & ~eraser).flatten(1).any(1)
    assert not grown.any() or RECIPES[recipe].gap_probability > 0  # nothing is to be found outside the eraser


def test_published_cases_occur_as_often_as_gamma_says(bank):
    synthesizer = OcclusionSynthesizer(bank, RECIPES["published"], seed=3)
    erased = []
    for step in range(10):
        mask, _, target = bools(synthesizer.sample(step, 128))
        erased.append((target & ~mask).flatten(1).any(1).float().mean())
    assert np.mean(erased) == pytest.approx(0.8, abs=0.04)


def test_published_cut_lies_in_its_range(bank):
    batch = OcclusionSynthesizer(bank, SynthesisConfig(size=64, erase_probability=1.0)).sample(0, 256)
    mask, eraser, target = bools(batch)
    share = (target & eraser).flatten(1).sum(1) / target.flatten(1).sum(1)
    assert share.min() >= 0.001
    assert share.max() < 0.9
    assert share.max() - share.min() > 0.5  # and is spread over it


def test_published_scale_and_shift(bank):
    """A's box keeps the crop rule: sides of sqrt(1/3) for a square box, divided by 0.8 to 1.2, shifted by up to 0.2."""
    config = SynthesisConfig(size=64, erase_probability=0.0)
    batch = OcclusionSynthesizer(bank, config).sample(0, 256)
    target = bools(batch)[2]
    area = target.flatten(1).sum(1) / 64**2
    expected = torch.pi / 4 / 3  # an ellipse in a box of a third of the crop
    inside = ~(target[:, 0].any(1) | target[:, -1].any(1) | target[:, :, 0].any(1) | target[:, :, -1].any(1))
    assert area[inside].min() > expected * 0.8**2 * 0.85
    assert area[inside].max() < expected * 1.2**2 * 1.1
    centres = (target.float().mean(1) * torch.arange(64)).sum(1) / target.float().mean(1).sum(1)
    assert (centres / 64 - 0.5).abs().max() < 0.2 * 1.2 + 0.02


def test_a_batch_is_a_function_of_seed_step_and_process(bank):
    def draw(seed=0, step=5, process=0):
        config = RECIPES["improved"]
        synthesizer = OcclusionSynthesizer(bank, config, seed=seed, process_index=process, num_processes=2)
        return synthesizer.sample(step, 8)

    first, again = draw(), draw()
    assert torch.equal(first.mask, again.mask)
    assert torch.equal(first.eraser, again.eraser)
    for other in (draw(seed=1), draw(step=6), draw(process=1)):
        assert not torch.equal(first.target, other.target)


def test_order_of_calls_does_not_matter(bank):
    synthesizer = OcclusionSynthesizer(bank, RECIPES["improved"])
    late = synthesizer.sample(9, 4)
    synthesizer.sample(2, 4)
    assert torch.equal(synthesizer.sample(9, 4).mask, late.mask)


@pytest.mark.parametrize("weights", [None, [1.0, 1.0]])
def test_processes_get_disjoint_objects(bank, weights):
    drawn = []
    for process in range(2):
        synthesizer = OcclusionSynthesizer(bank, source_weights=weights, process_index=process, num_processes=2)
        drawn.append(set(synthesizer._objects(0, 10).tolist()))
    assert len(drawn[0]) == len(drawn[1]) == 10
    assert not drawn[0] & drawn[1]


def test_without_weights_an_epoch_sees_every_object_once(bank):
    synthesizer = OcclusionSynthesizer(bank)
    seen = torch.cat([synthesizer._objects(step, 8) for step in range(5)])
    assert sorted(seen.tolist()) == list(range(40))
    assert synthesizer._objects(4, 16).shape == (16,)  # crosses from one epoch to the next


def test_source_weights_are_frequencies_of_sources(bank):
    synthesizer = OcclusionSynthesizer(bank, source_weights=[0.0, 1.0])
    assert bank.sources[synthesizer._objects(0, 8)].tolist() == [1] * 8
    with pytest.raises(ValueError, match="must be 2 non-negative numbers"):
        OcclusionSynthesizer(bank, source_weights=[1.0])


def test_categories_follow_the_object(bank):
    synthesizer = OcclusionSynthesizer(bank, RECIPES["published"])
    batch = synthesizer.sample(0, 8)
    assert torch.equal(batch.category_ids, bank.category_ids[synthesizer._objects(0, 8)])


def test_objects_that_are_not_in_the_eraser_stay_cut_out(bank):
    """With many others, some cut A without being told of: the target lacks what they cover."""
    config = SynthesisConfig(
        size=64,
        erase_probability=1.0,
        multi_probability=1.0,
        max_others=4,
        flip_probability=0,
        scale=(1, 1),
        shift=(0, 0),
    )
    synthesizer = OcclusionSynthesizer(bank, config)
    batch = synthesizer.sample(0, 64)
    objects = synthesizer._objects(0, 64)
    whole = synthesizer._render(objects, synthesizer._place_target(objects)) > 0
    mask, eraser, target = bools(batch)
    assert (whole & ~target).flatten(1).any(1).any()
    assert torch.equal(target, mask | (whole & eraser))


def test_flip_of_an_object_is_a_mirror(bank):
    plain, mirrored = (SynthesisConfig(size=64, flip_probability=p, shift=(0, 0), scale=(1, 1)) for p in (0.0, 1.0))
    objects = torch.arange(10)
    renders = []
    for config in (plain, mirrored):
        synthesizer = OcclusionSynthesizer(bank, config)
        renders.append(synthesizer._render(objects, synthesizer._place_target(objects)))
    difference = (renders[0] ^ renders[1].flip(-1)).float().mean()
    assert difference < 0.01  # but for rounding at the outline


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"erase_probability": 1.5}, r"`erase_probability` must lie in \[0, 1\], got 1.5"),
        ({"scale": (1.2, 0.8)}, "`scale` must be"),
        ({"overlap": (0.0, 1.0)}, "must be positive"),
        ({"size": 4}, "`size` must be at least 8"),
        ({"multi_probability": 0.5}, "`max_others` must be at least 2"),
    ],
)
def test_bad_recipes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SynthesisConfig(**change)


def test_process_index_is_checked(bank):
    with pytest.raises(ValueError, match=r"`process_index` must lie in \[0, 1\], got 2"):
        OcclusionSynthesizer(bank, process_index=2, num_processes=2)
