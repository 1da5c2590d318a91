"""PCNet-M that sees the photo: what it starts as, what it sees, and what it refuses."""

import pytest
import torch

from amodal_diffusion import PCNetMask, PhotoPCNetMask

WIDTHS = {"block_out_channels": (4, 8, 8), "sample_size": 32}


def planes(seed=0, count=3):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(count, 1, 32, 32, generator=generator).round()
    return mask, (1 - mask) * torch.rand(count, 1, 32, 32, generator=generator).round()


def photo(count=3):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return PhotoPCNetMask(reduced_channels=4, **WIDTHS).eval()


@pytest.mark.parametrize("patch_size", [1, 2])
@torch.no_grad()
def test_starts_as_the_mask_network(patch_size):
    torch.manual_seed(1)
    network = PCNetMask(patch_size=patch_size, **WIDTHS).eval()
    model = PhotoPCNetMask(reduced_channels=4, patch_size=patch_size, **WIDTHS).eval()
    model.load_mask_network(network)
    mask, eraser = planes()
    logits = model(mask, eraser, front=eraser, image=photo()).logits
    torch.testing.assert_close(logits[:, :2], network(mask, eraser).logits)


def test_other_networks_are_refused(model):
    with pytest.raises(ValueError, match=r"`network` must have `block_out_channels` .*4, 8, 8.*, got .*4, 8"):
        model.load_mask_network(PCNetMask(block_out_channels=(4, 8), sample_size=32))
    with pytest.raises(ValueError, match="`network` must take two mask planes and no photo"):
        model.load_mask_network(PCNetMask(use_rgb=True, **WIDTHS))


@torch.no_grad()
def test_every_input_matters_and_a_missing_photo_is_none(model):
    mask, eraser = planes()
    expected = model(mask, eraser, image=photo()).logits
    for other in (
        model(mask, eraser, image=photo().flip(-1)),
        model(mask, eraser, front=eraser, image=photo()),
        model(mask, eraser),
    ):
        assert not torch.allclose(other.logits, expected)
    nothing = model(mask, eraser).logits
    shown = torch.tensor([True, False, True])
    some = model(mask, eraser, image=photo(), shown=shown).logits
    torch.testing.assert_close(some[shown], expected[shown])
    torch.testing.assert_close(some[~shown], nothing[~shown])
    torch.testing.assert_close(model(mask, eraser, image=photo(), shown=~shown & shown).logits, nothing)
    for known, answer in ((None, expected), (shown, some), (~shown & shown, nothing)):
        given = model(mask, eraser, image=photo(), shown=known, return_features=True)
        torch.testing.assert_close(given.logits, answer)
        torch.testing.assert_close(model(mask, eraser, features=given.features).logits, answer)
    assert model(mask, eraser, image=photo()).features is None
    (tensor,) = model(mask, eraser, return_dict=False)
    torch.testing.assert_close(tensor, nothing)


def test_wrong_inputs_are_named(model):
    mask, eraser = planes()
    for inputs, message in (
        ((mask[:, 0], eraser), "`mask` must have shape"),
        ((mask, eraser[:1]), "`eraser` must have shape"),
        ((mask, eraser, eraser[..., :8]), "`front` must have shape"),
        ((mask, eraser, None, photo(2)), "`image` must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            model(*inputs)
    for name, value in (("image", photo()), ("shown", torch.ones(3, dtype=torch.bool))):
        with pytest.raises(ValueError, match=f"`{name}` must be None where `features` are given"):
            model(mask, eraser, features=model.encode_image(photo()), **{name: value})
    with pytest.raises(ValueError, match="`patch_size` must divide `sample_size`"):
        PhotoPCNetMask(patch_size=3, **WIDTHS)


def test_features_go_as_deep_as_the_network(model):
    maps = model.encode_image(photo())
    assert [tuple(one.shape[1:]) for one in maps] == [(40, 4, 4), (24, 8, 8), (16, 16, 16)] or len(maps) == 3


@torch.no_grad()
def test_a_category_joins_the_photo(model):
    """A network that learns of categories starts as the one without; 0 says nothing, and no photo is needed."""
    told = PhotoPCNetMask(reduced_channels=4, categories=["cat", "dog"], **WIDTHS).eval()
    missing, unexpected = told.load_state_dict(model.state_dict(), strict=False)
    assert missing == ["category_embedding.weight"] and not unexpected
    mask, eraser = planes()
    expected = model(mask, eraser, image=photo()).logits
    torch.testing.assert_close(told(mask, eraser, image=photo(), category_ids=torch.tensor([0, 1, 2])).logits, expected)
    told.category_embedding.weight[1:].normal_(generator=torch.Generator().manual_seed(0))
    logits = told(mask, eraser, image=photo(), category_ids=torch.tensor([0, 1, 2])).logits
    torch.testing.assert_close(logits[0], expected[0])
    assert not torch.allclose(logits[1], expected[1]) and not torch.allclose(logits[2], expected[2])
    torch.testing.assert_close(told(mask, eraser, image=photo()).logits, expected)
    blind, named = told(mask, eraser).logits, told(mask, eraser, category_ids=torch.tensor([0, 1, 1])).logits
    torch.testing.assert_close(named[0], blind[0])
    assert not torch.allclose(named[1:], blind[1:])
    for ids, message in (
        ([3, 0, 0], r"`category_ids` must lie in \[0, 2\], got \[3, 0, 0\]"),
        ([1], r"shape \(3,\), got \(1,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            told(mask, eraser, category_ids=torch.tensor(ids))
    model(mask, eraser, category_ids=torch.tensor([9, 9, 9]))  # a network that knows none takes any
