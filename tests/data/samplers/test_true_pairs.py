"""Pairs of neighbours from scenes with true whole masks, and batches that are drawn from several sources."""

import pytest
import torch

from amodal_diffusion.data.samplers import MixedOcclusion, TruePairs
from amodal_diffusion.data.synthesis import (
    AMODAL,
    INSIDE,
    MODAL,
    OCCLUDER,
    OTHERS,
    MaskBank,
    OcclusionSynthesizer,
    PhotoBank,
    PhotoOcclusionSynthesizer,
    PhotoSynthesisConfig,
)

PLAIN = PhotoSynthesisConfig(
    size=32, front_probability=0, behind_probability=0, region_probability=0, rotation=0, shift=(0, 0), scale=(1, 1)
)


def make_bank(count=1, instances=True):
    """A in the middle, 2 hides its right third, 3 stands behind it on the left, 4 far away."""
    layers = torch.full((1, 64, 64), INSIDE, dtype=torch.uint8)
    seen = torch.zeros(1, 64, 64, dtype=torch.uint8)
    layers[:, 20:44, 20:36] |= MODAL | AMODAL
    layers[:, 20:44, 36:44] |= AMODAL | OCCLUDER | OTHERS
    layers[:, 24:40, 12:20] |= OTHERS
    layers[:, 2:5, 2:5] |= OTHERS
    seen[:, 20:44, 20:36], seen[:, 20:44, 36:44], seen[:, 24:40, 12:20], seen[:, 2:5, 2:5] = 1, 2, 3, 4
    pixels, zero = torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)
    parts = (pixels, layers, zero == 0, zero)
    parts = [part.repeat_interleave(count, 0) for part in (*parts, seen)]
    return PhotoBank(*parts[:4], context=1.5, instances=parts[4] if instances else None)


def test_the_target_grows_under_what_hides_and_nowhere_else():
    batch = TruePairs(PhotoOcclusionSynthesizer(make_bank(), PLAIN)).sample(0, 64)
    grown = (batch.target - batch.mask).sum((1, 2, 3))
    width = batch.eraser.sum((1, 2, 3))
    assert (width > 0).all(), "A has neighbours, so one of them is always asked about"
    hides = grown > 0
    assert 0.25 < hides.float().mean() < 0.75, "both neighbours are drawn"
    assert torch.equal((batch.target - batch.mask)[hides], batch.eraser[hides]), "2 lies on A"
    assert torch.equal(batch.target[~hides], batch.mask[~hides]), "A is whole beside what it hides"
    assert (batch.mask * batch.eraser).sum() == 0


def test_what_is_far_away_is_no_neighbour():
    bank = make_bank()
    seen = torch.where(bank.instances == 4, 4, 0) + torch.where(bank.instances == 1, 1, 0)
    bank = PhotoBank(bank.pixels, bank.layers, bank.known, bank.sources, bank.context, instances=seen.to(torch.uint8))
    batch = TruePairs(PhotoOcclusionSynthesizer(bank, PLAIN)).sample(0, 8)
    assert batch.eraser.sum() == 0 and torch.equal(batch.mask, batch.target) and batch.mask.sum() > 0


def test_a_batch_follows_from_seed_and_step():
    first, again, other = (TruePairs(PhotoOcclusionSynthesizer(make_bank(), PLAIN, seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(first.sample(5, 16).eraser, again.sample(5, 16).eraser)
    assert not torch.equal(first.sample(5, 16).eraser, other.sample(5, 16).eraser)
    assert not torch.equal(first.sample(5, 16).eraser, first.sample(6, 16).eraser)


@pytest.mark.parametrize(
    ("instances", "recipe", "message"),
    [
        (False, PLAIN, "`synthesizer` must have a bank made `with_instances`"),
        (True, PhotoSynthesisConfig(size=32), "`synthesizer` must paste nothing and make no regions"),
    ],
)
def test_refuses_what_cannot_be_true(instances, recipe, message):
    with pytest.raises(ValueError, match=message):
        TruePairs(PhotoOcclusionSynthesizer(make_bank(2, instances), recipe))


def masks(side):
    whole = torch.zeros(40, 40, dtype=torch.bool)
    whole[5 : 5 + side, 5 : 5 + side] = True
    return OcclusionSynthesizer(MaskBank.from_masks([(whole.numpy(), side, 0)] * 3))


@pytest.mark.parametrize(("shares", "counts"), [((3, 1), (6, 2)), ((0.9, 0.1), (7, 1)), ((1, 0), (8, 0))])
def test_each_source_has_its_share(shares, counts):
    batch = MixedOcclusion([masks(20), masks(30)], shares).sample(0, 8)
    assert len(batch.mask) == len(batch.category_ids) == 8
    expected = [masks(20).sample(0, counts[0])] + ([masks(30).sample(0, counts[1])] if counts[1] else [])
    for name in ("mask", "eraser", "target", "category_ids"):
        assert torch.equal(getattr(batch, name), torch.cat([getattr(part, name) for part in expected]))


@pytest.mark.parametrize("shares", [(1,), (-1, 2), (0, 0)])
def test_shares_that_say_nothing(shares):
    with pytest.raises(ValueError, match="`shares` must be 2 numbers that are not negative and not all 0"):
        MixedOcclusion([masks(20), masks(30)], shares)
