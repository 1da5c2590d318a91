"""Holes for PCNet-C: what is a hole, what is known, what the network sees of the object."""

import pytest
import torch

from amodal_diffusion.data import read_annotations
from amodal_diffusion.data.synthesis import ContentSynthesisConfig, ContentSynthesizer, PhotoBank
from amodal_diffusion.images import denormalize_images
from photo_helpers import write_photos


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    path = write_photos(tmp_path_factory.mktemp("photos"), images=4, amodal=False)
    return PhotoBank.from_sources([read_annotations(path, path.parent)], resolution=72, min_area=40)


def draw(bank, **recipe):
    return ContentSynthesizer(bank, ContentSynthesisConfig(size=48, **recipe), seed=3).sample(0, 32)


def test_a_batch_is_a_function_of_its_arguments(bank):
    synthesizer = ContentSynthesizer(bank, ContentSynthesisConfig.improved(48), seed=3)
    first, other, again = synthesizer.sample(5, 8), synthesizer.sample(6, 8), synthesizer.sample(5, 8)
    for name in ("image", "visible", "mask", "known"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.image, other.image)
    assert first.image.shape == (8, 3, 48, 48) and first.visible.shape == (8, 1, 48, 48)


def test_published_holes_lie_in_the_object(bank):
    batch = draw(bank, dilation=0.0)
    frame = denormalize_images(batch.image).sum(1, keepdim=True) > 1e-3
    hole = (batch.visible == 0) & (batch.known > 0)
    assert (hole.flatten(1).any(1)).float().mean() > 0.8
    assert not (batch.mask * (1 - batch.visible)).any()  # what is seen of the object lies outside of the hole
    assert (frame | (batch.visible == 0)).float().mean() > 0.99
    whole = (hole | (batch.mask > 0)).flatten(1).sum(1)
    share = hole.flatten(1).sum(1) / whole
    assert ((share > 0) & (share < 0.95)).float().mean() > 0.8


def test_dilation_grows_the_hole(bank):
    thin, thick = draw(bank, dilation=0.0), draw(bank, dilation=0.2)
    assert (1 - thick.visible).sum() > (1 - thin.visible).sum()
    assert not ((1 - thin.visible) * thick.visible).any()


def test_pasted_pixels_surround_the_hole(bank):
    """With the other object pasted in, the photo differs outside of the hole alone; in the hole it is the truth."""
    plain, pasted = draw(bank, dilation=0.0), draw(bank, dilation=0.0, paste_probability=1.0)
    differs = ((plain.image - pasted.image).abs().sum(1, keepdim=True) > 1e-4).float()
    assert differs.sum() > 100
    assert not (differs * plain.hole).any()
    assert not (differs * plain.mask).any()


def test_background_samples_show_no_object(bank):
    batch = draw(bank, background_probability=1.0, wide_probability=1.0, dilation=0.0)
    assert not batch.mask.any()
    unknown = (batch.known == 0).flatten(1).sum(1)
    assert (unknown > 0).all()  # the object itself, whose background nobody knows
    assert (batch.hole.flatten(1).sum(1) > 0).float().mean() > 0.5
    narrow = draw(bank, background_probability=1.0, wide_probability=0.0, dilation=0.0)
    assert (narrow.known * narrow.visible).sum() > (batch.known * batch.visible).sum()


def test_nothing_is_seen_beyond_the_frame(bank):
    batch = draw(bank, shift=(-0.5, 0.5), scale=(0.4, 0.6))
    outside = (denormalize_images(batch.image).abs().sum(1, keepdim=True) < 1e-6).float()
    assert outside.sum() > 100
    assert (outside * batch.visible).sum() < 0.02 * outside.sum()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"paste_probability": 1.2}, "`paste_probability`"),
        ({"background_probability": -0.1}, "`background_probability`"),
        ({"wide_probability": 2}, "`wide_probability`"),
        ({"dilation": 0.3}, "`dilation`"),
    ],
)
def test_bad_recipes(recipe, message):
    with pytest.raises(ValueError, match=message):
        ContentSynthesisConfig(**recipe)
