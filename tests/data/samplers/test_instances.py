"""Samples of instance segmenters."""

import numpy as np
import pytest
import torch

from amodal_diffusion.data import load_amodal_dataset, read_annotations, record_masks
from amodal_diffusion.data.samplers.instances import InstanceSampler, read_instances, resize
from photo_helpers import write_broken_parquet, write_photos


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    photos = write_photos(tmp_path_factory.mktemp("photos"), images=5)
    return read_annotations(photos, photos.parent)


def test_instances_are_the_whole_masks(rows):
    photo, masks, classes = read_instances(rows[0], {None: 3}, "amodal")
    modal, amodal = record_masks(rows[0])
    assert photo.shape[1:] == masks.shape[1:] and np.array_equal(masks.numpy(), amodal)
    assert classes.tolist() == [3] * len(amodal)
    assert np.array_equal(read_instances(rows[0], {None: 0}, "modal")[1].numpy(), modal)


def test_broken_photos_are_named(rows, tmp_path):
    folder = write_broken_parquet(rows, tmp_path / "rows")
    sampler = InstanceSampler(load_amodal_dataset(folder), {None: 0}, 48)
    with pytest.raises(ValueError, match=r"photo 0\.png of image 1 of 'annotations' cannot be read: .*truncated"):
        read_instances(sampler.rows[0], {None: 0}, "modal")
    with pytest.raises(ValueError, match=r"photo 0\.png of image 1 of 'annotations' cannot be read"):
        for step in range(20):
            sampler.sample(step, 4)


def test_samples(rows):
    sampler = InstanceSampler(rows, {None: 0}, 48, seed=1)
    first, again, other = sampler.sample(3, 4), sampler.sample(3, 4), sampler.sample(4, 4)
    assert torch.equal(first.pixels, again.pixels) and not torch.equal(first.pixels, other.pixels)
    assert first.pixels.shape == (4, 3, 48, 48) and first.inside.shape == (4, 48, 48)
    for pixels, inside, masks in zip(first.pixels, first.inside, first.masks, strict=True):
        assert masks.shape[1:] == (48, 48) and (masks.sum((1, 2)) >= 16).all()
        assert not masks[:, inside == 0].any() and not pixels[:, inside == 0].any()
    shares = [float(part.float().mean()) for part in torch.cat([first.inside, other.inside])]
    assert min(shares) < 0.8 < max(shares)  # smaller and larger photos


def test_masks_stay_on_their_objects():
    photo = torch.zeros(3, 40, 60)
    photo[:, 10:30, 20:50] = 1
    resized, masks = resize(photo, photo[:1].clone(), 30)
    assert resized.shape == (3, 20, 30) and masks.shape == (1, 20, 30)
    assert ((resized[0] > 0.5) == (masks[0] > 0.5)).float().mean() > 0.98
