"""Questions about an object and its neighbours: what the eraser holds, what is told, what counts."""

import pytest
import torch

from amodal_diffusion.data.samplers import ask_of_masks, ask_of_photos
from amodal_diffusion.data.samplers.occluder_questions import OccluderQuestions
from amodal_diffusion.data.synthesis import PASTED, OcclusionBatch, PhotoBatch

COUNT = 64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch():
    """A over the left half; neighbour 1 in front of its middle, neighbour 2 beside it, something pasted below."""
    planes = {name: torch.zeros(COUNT, 1, 8, 8) for name in ("modal", "amodal", "occluder", "pasted")}
    others = torch.zeros(COUNT, 1, 8, 8, dtype=torch.uint8)
    planes["amodal"][..., :4] = 1
    others[..., 2:5, :], others[..., :2, 6:], others[..., 7:, :] = 1, 2, PASTED
    planes["modal"] = planes["amodal"] * (others == 0)
    planes["occluder"] = ((others == 1) | (others == PASTED)).float()
    planes["pasted"] = (others == PASTED).float()
    return PhotoBatch(
        image=torch.ones(COUNT, 3, 8, 8), known=torch.ones(COUNT, 1, 8, 8), others=others,
        is_region=torch.zeros(COUNT, dtype=torch.bool), **planes,
    )  # fmt: skip


def ask(batch, *shares, **options):
    return ask_of_photos(batch, generator(), shares=shares, **options)


def test_what_the_eraser_holds(batch):
    seen = (batch.others > 0).float()
    assert ask(batch, 1, 0, 0, 0).eraser.equal(seen)
    some = ask(batch, 0, 1, 0, 0).eraser
    assert (some <= seen).all()
    numbers = {int(number) for plane in some * batch.others for number in plane.unique()}
    assert numbers == {0, 1, 2, PASTED} and not some.equal(seen)
    for row, other in zip(some, batch.others, strict=True):  # a neighbour is in the eraser whole or not at all
        assert all(row[other == number].unique().numel() == 1 for number in (1, 2, PASTED))
    assert ask(batch, 0, 0, 1, 0).eraser.equal(batch.occluder)
    assert ask(batch, 0, 0, 0, 1).eraser.equal(1 - batch.modal)


def test_what_surrounds_counts_as_a_neighbour(batch):
    for share in ((1, 0, 0, 0), (0, 1, 0, 0)):
        asked = ask(batch, *share, surrounded=1.0)
        assert asked.eraser[(batch.others == 0) & (batch.modal == 0)].all()
        assert (asked.eraser <= 1 - batch.modal).all() and asked.target.equal(
            torch.maximum(asked.mask, batch.amodal * asked.eraser)
        )
    assert ask(batch, 1, 0, 0, 0, surrounded=1.0).eraser.equal(1 - batch.modal)
    assert ask(batch, 0, 0, 1, 0, surrounded=1.0).eraser.equal(batch.occluder)
    half = ask(batch, 1, 0, 0, 0, surrounded=0.5).eraser.flatten(1).sum(1).unique()
    assert len(half) == 2


@pytest.mark.parametrize("share", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)])
def test_the_answer_is_the_object_as_far_as_it_is_asked(batch, share):
    asked = ask(batch, *share, told=1.0)
    assert asked.target.equal(torch.maximum(asked.mask, batch.amodal * asked.eraser))
    assert not (asked.mask * asked.eraser).any()
    assert (asked.front <= asked.eraser * batch.occluder).all()
    assert asked.front.any() == (share[3] == 0) and not asked.front_weight[batch.modal > 0].any()
    assert asked.in_front.equal(batch.occluder)


def test_guesses_count_less(batch):
    sure = ask(batch, 1, 0, 0, 0).weight
    guessed = ask(batch, 1, 0, 0, 0, guess_weight=0.5).weight
    real = (batch.others == 1) | (batch.others == 2)
    assert guessed[real].eq(2.5).all() and guessed[~real].equal(sure[~real])
    batch.is_region[:] = True
    assert ask(batch, 1, 0, 0, 0, guess_weight=0.5).weight.equal(sure)
    batch.known[:] = 0
    torch.testing.assert_close(ask(batch, 1, 0, 0, 0).weight, 0.1 * sure)


def test_photos_are_left_out_of_some(batch):
    asked = ask(batch, 1, 1, 1, 1, unseen=0.5)
    assert 0.2 < asked.shown.float().mean() < 0.8
    assert asked.image[asked.shown].all() and not asked.image[~asked.shown].any()
    assert ask(batch, 1, 1, 1, 1).shown.all()


def test_a_question_follows_from_the_generator(batch):
    first, same = (ask_of_photos(batch, generator(3)) for _ in range(2))
    assert all(one.equal(other) for one, other in zip(vars(first).values(), vars(same).values(), strict=True))
    assert not first.eraser.equal(ask_of_photos(batch, generator(4)).eraser)


def test_masks_and_photos_make_one_batch(batch):
    plane = torch.ones(2, 1, 8, 8)
    masks = ask_of_masks(OcclusionBatch(0 * plane, plane, plane, torch.ones(2, dtype=torch.int64)))
    joined = OccluderQuestions.join([ask(batch, 1, 0, 0, 0), masks])
    assert len(joined.mask) == COUNT + 2 and joined.shown.sum() == COUNT and joined.image.shape == (COUNT + 2, 3, 8, 8)


def test_neighbours_must_be_told_apart(batch):
    batch.others = None
    with pytest.raises(ValueError, match="`batch` must have `others`"):
        ask(batch, 1, 0, 0, 0)


def test_what_is_said_of_the_category(batch):
    assert not ask(batch, 1, 0, 0, 0).category_ids.any()  # of photos without categories
    batch.category_ids = torch.arange(COUNT)
    batch.is_region[:4] = True
    named = ask(batch, 1, 0, 0, 0)
    assert named.category_ids.equal(torch.where(batch.is_region, 0, batch.category_ids))
    some = ask(batch, 1, 0, 0, 0, unnamed=0.5)
    told = some.category_ids > 0
    assert 0.25 < told.float().mean() < 0.75 and some.category_ids[told].equal(named.category_ids[told])
    assert some.eraser.equal(named.eraser) and some.front.equal(named.front)  # nothing else depends on it
    assert not ask(batch, 1, 0, 0, 0, unnamed=1.0).category_ids.any()
    plane = torch.ones(2, 1, 8, 8)
    masks = ask_of_masks(OcclusionBatch(plane, 0 * plane, plane, torch.tensor([5, 6])))
    assert masks.category_ids.tolist() == [0, 0]
    assert OccluderQuestions.join([named, masks]).category_ids.shape == (COUNT + 2,)
