"""PCNet-C and its discriminator: partial convolutions against a loop over windows, shapes, errors."""

import itertools

import pytest
import torch

from amodal_diffusion import PCNetContent, PCNetContentDiscriminator
from amodal_diffusion.models.pcnet_content import PartialConv, smooth_prior

WIDTHS = (4, 6, 8)


def tiny(**config):
    torch.manual_seed(0)
    return PCNetContent(**{"block_out_channels": WIDTHS, "sample_size": 32, **config}).eval()


def inputs(batch=2, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, 3, size, size, generator=generator)
    visible = torch.ones(batch, 1, size, size)
    visible[:, :, 8:24, 10:20] = 0
    mask = (torch.rand(batch, 1, size, size, generator=generator) < 0.5).float() * visible
    return image, visible, mask


@pytest.mark.parametrize("stride", [1, 2])
def test_partial_convolution_window_by_window(stride):
    torch.manual_seed(1)
    conv = PartialConv(5, 3, 3, stride=stride, bias=True)
    torch.nn.init.normal_(conv.conv.bias)
    values = [torch.randn(1, 2, 8, 8), torch.randn(1, 3, 8, 8)]
    masks = [(torch.rand(1, 1, 8, 8) < share).float() for share in (0.2, 0.1)]
    with torch.no_grad():
        found, mask = conv(list(zip(values, masks, strict=True)))
    everything = torch.cat([value * plane for value, plane in zip(values, masks, strict=True)], 1)
    planes = torch.cat([masks[0].expand(1, 2, 8, 8), masks[1].expand(1, 3, 8, 8)], 1)
    everything, planes = (torch.nn.functional.pad(part, (1, 1, 1, 1)) for part in (everything, planes))
    empty = 0
    for row, column in itertools.product(range(found.shape[2]), range(found.shape[3])):
        window = (
            slice(None),
            slice(None),
            slice(row * stride, row * stride + 3),
            slice(column * stride, column * stride + 3),
        )
        count = planes[window].sum()
        if count == 0:
            empty += 1
            assert mask[0, 0, row, column] == 0 and (found[0, :, row, column] == 0).all()
            continue
        answer = (conv.conv.weight * everything[window]).sum((1, 2, 3)) * conv.window / count + conv.conv.bias
        torch.testing.assert_close(found[0, :, row, column], answer)
        assert mask[0, 0, row, column] == 1
    assert empty or stride == 2


def test_a_window_without_holes_is_a_plain_convolution():
    conv = PartialConv(3, 4, 5, bias=True)
    values = torch.randn(2, 3, 9, 9)
    found, mask = conv([(values, torch.ones(2, 1, 9, 9))])
    plain = torch.nn.functional.conv2d(values, conv.conv.weight, conv.conv.bias)
    torch.testing.assert_close(found[:, :, 2:-2, 2:-2], plain)
    assert mask.all()


def test_hidden_pixels_are_not_looked_at():
    model, (image, visible, mask) = tiny(), inputs()
    other = torch.where(visible > 0, image, torch.full_like(image, 77.0))
    with torch.no_grad():
        first, second = model(image, visible, mask).image, model(other, visible, mask, return_dict=False)[0]
    assert first.shape == (2, 3, 32, 32)
    assert torch.equal(first, second)


def test_the_mask_plane_matters_and_objects_do_not_see_each_other():
    model, (image, visible, mask) = tiny(), inputs()
    with torch.no_grad():
        both = model(image, visible, mask).image
        assert not torch.allclose(both, model(image, visible, torch.zeros_like(mask)).image)
        torch.testing.assert_close(both[1:], model(image[1:], visible[1:], mask[1:]).image)


def test_nothing_visible_is_answered_with_finite_numbers():
    model, (image, visible, mask) = tiny(), inputs()
    with torch.no_grad():
        assert model(image, torch.zeros_like(visible), torch.zeros_like(mask)).image.isfinite().all()


def test_class_conditioned_multiplies_the_mask():
    model, (image, visible, mask) = tiny(class_conditioned=True), inputs()
    with torch.no_grad():
        found = model(image, visible, mask, torch.tensor([2, 1])).image
        expected = model(image, visible, mask * torch.tensor([2.0, 1.0]).view(2, 1, 1, 1), torch.tensor([1, 1])).image
    torch.testing.assert_close(found, expected)


def test_added_mask_plane_changes_nothing_at_first():
    plain, (image, visible, mask) = tiny(use_mask=False), inputs()
    model = plain.with_mask_plane()
    with torch.no_grad():
        everything = torch.ones_like(visible)
        expected = plain(image, everything).image
        torch.testing.assert_close(model(image, everything, mask).image, expected)
        holes = model(image, visible, mask).image
        assert torch.equal(holes, model(image, visible, 1 - mask).image)  # not looked at yet
        assert (holes - plain(image, visible).image).abs().mean() < 0.05 * expected.abs().mean()
    assert model.config.use_mask and not model.training
    for other in (model, plain.with_prior()):
        with pytest.raises(ValueError, match="neither a mask plane nor a prior"):
            other.with_mask_plane()


def test_a_new_network_with_prior_answers_the_prior():
    model, (image, visible, mask) = tiny(use_prior=True), inputs()
    with torch.no_grad():
        found = model(image, visible, mask).image
    torch.testing.assert_close(found, smooth_prior(image, visible, mask))
    assert torch.equal(found * visible, image * visible)
    other = torch.where(visible > 0, image, torch.full_like(image, 77.0))
    torch.nn.init.normal_(model.decoder[-1].conv.conv.weight)
    with torch.no_grad():  # nor does a trained one look into the hole
        assert torch.equal(model(image, visible, mask).image, model(other, visible, mask).image)


def test_prior_continues_the_object():
    image = torch.zeros(2, 3, 32, 32)
    image[:, :, :, 16:] = 1  # the object is the right half
    visible = torch.ones(2, 1, 32, 32)
    visible[:, :, 12:20, 12:20] = 0
    mask = torch.zeros(2, 1, 32, 32)
    mask[0, :, :, 16:] = 1
    mask *= visible
    prior = smooth_prior(image, visible, mask)
    assert prior[0, 0, 16, 16] > prior[1, 0, 16, 16] + 0.1  # the second one has no object
    assert 0.3 < prior[1, 0, 16, 16] < 0.7
    assert torch.equal(smooth_prior(image, visible), smooth_prior(image, visible, torch.zeros_like(mask)))


def test_added_prior_starts_from_what_the_network_saw():
    plain, (image, visible, mask) = tiny(), inputs()
    model = plain.with_prior()
    assert torch.equal(model.encoder[1].conv.conv.weight, plain.encoder[1].conv.conv.weight)
    assert torch.equal(model.encoder[0].conv.conv.weight[:, :4], plain.encoder[0].conv.conv.weight)
    assert not model.encoder[0].conv.conv.weight[:, 4:].any()
    with torch.no_grad():
        torch.testing.assert_close(model(image, visible, mask).image, smooth_prior(image, visible, mask))
    with pytest.raises(ValueError, match="has a prior already"):
        model.with_prior()


def test_published_sizes():
    with torch.device("meta"):
        model = PCNetContent()
    assert model.encoder[0].conv.conv.weight.shape == (64, 4, 7, 7)
    assert model.decoder[0].conv.conv.weight.shape == (512, 1024, 3, 3)
    assert model.decoder[-1].conv.conv.weight.shape == (3, 68, 3, 3)
    assert model.multiple == 128


def test_save_and_load(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path)
    again = PCNetContent.from_pretrained(tmp_path)
    image, visible, mask = inputs()
    with torch.no_grad():
        assert torch.equal(model(image, visible, mask).image, again(image, visible, mask).image)


def test_bfloat16():
    model, (image, visible, mask) = tiny(), inputs()
    with torch.no_grad():
        exact = model(image, visible, mask).image
        half = model.to(torch.bfloat16)(image, visible, mask).image
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).abs().mean() < 0.1 * exact.abs().mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": torch.zeros(2, 3, 32, 24)}, r"`image` must have shape \(2, 3, 32, 32\)"),
        ({"visible": torch.ones(2, 1, 30, 30)}, "`visible`.* multiple"),
        ({"mask": None}, "`mask`"),
        ({"mask": torch.zeros(1, 1, 32, 32)}, "`mask`"),
        ({"category_ids": torch.ones(2)}, "`category_ids`"),
    ],
)
def test_bad_inputs(change, message):
    image, visible, mask = inputs()
    with pytest.raises(ValueError, match=message):
        tiny()(**{"image": image, "visible": visible, "mask": mask, **change})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"block_out_channels": (4,)}, "at least 2 levels"),
        ({"block_out_channels": (4, 0)}, "`block_out_channels`"),
        ({"sample_size": 0}, "`sample_size`"),
        ({"use_mask": False, "class_conditioned": True}, "`use_mask` must be True"),
    ],
)
def test_bad_configurations(config, message):
    with pytest.raises(ValueError, match=message):
        tiny(**config)


def test_discriminator():
    torch.manual_seed(0)
    network = PCNetContentDiscriminator((4, 4, 8, 8))
    image, _, mask = inputs(size=64)
    assert network(image, mask).shape == (2, 1, 6, 6)
    for layer in network.layers:  # spectral norm: the largest singular value is near 1
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert 0.5 < norm.item() < 1.6
    with pytest.raises(ValueError, match="`image` and `mask` must have shapes"):
        network(image, mask[:1])
    with pytest.raises(ValueError, match="4 widths"):
        PCNetContentDiscriminator((4, 4))
    with torch.device("meta"):
        published = PCNetContentDiscriminator()
    assert [tuple(layer.weight.shape[:2]) for layer in published.layers] == [
        (64, 4), (128, 64), (256, 128), (512, 256), (1, 512),
    ]  # fmt: skip
