"""Crops of photos and where they show things: that masks go with the pixels, and a batch is a function of the step."""

import numpy as np
import pytest
import torch

from amodal_diffusion.data import read_annotations
from amodal_diffusion.data.samplers import ThingSampler
from amodal_diffusion.data.samplers.things import crop_things, read_things
from photo_helpers import write_photos


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    return read_annotations(write_photos(folder, images=3, amodal=False), folder)


def same(first, second):
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("image", "target", "known"))


def test_a_batch_is_a_function_of_seed_step_and_process(rows):
    first, second = (ThingSampler([rows], [True], 64, seed=3) for _ in range(2))
    assert same(first.sample(5, 4), second.sample(5, 4)) and not same(first.sample(5, 4), first.sample(6, 4))
    other = ThingSampler([rows], [True], 64, seed=3, process_index=1)
    assert not same(first.sample(5, 4), other.sample(5, 4))


def test_masks_go_with_the_pixels():
    rng, photo, things = np.random.default_rng(0), np.zeros((60, 80, 3), np.uint8), np.zeros((60, 80), bool)
    things[15:45, 30:70] = True
    photo[things] = 255
    shown = []
    for _ in range(40):
        crop, target, known = crop_things(photo, things, True, 64, rng)
        bright = crop[..., 0] > 100
        assert (bright & known == target & known)[1:-1, 1:-1].mean() > 0.97
        shown.append((target.mean(), known.mean()))
    assert np.std(shown, axis=0).min() > 0.02 and 0.75 in np.asarray(shown)[:, 1]  # the whole photo is 80 x 60


def test_where_masks_are_not_complete_only_things_are_known(rows):
    sampler = ThingSampler([rows, rows], [True, False], 64)
    whole, partly = sampler.whole(0), sampler.whole(3)
    assert whole.image.shape == (1, 3, 64, 64) and whole.target.shape == (1, 1, 64, 64)
    assert torch.equal(whole.image, partly.image) and torch.equal(whole.target, partly.target)
    assert torch.equal(partly.known, partly.target) and bool((whole.known > partly.known).any())


def test_large_photos_are_made_smaller_and_crowds_are_things(rows):
    row = dict(rows[0])
    row["objects"] = [item | {"is_crowd": True} for item in row["objects"]]
    photo, things = read_things(row, max_side=32)
    assert max(photo.shape[:2]) == 32 and things.shape == photo.shape[:2] and things.any()


def test_no_photo_is_refused(rows):
    with pytest.raises(ValueError, match="`sources` must hold a photo"):
        ThingSampler([], [], 64)
