"""The network that tells things from stuff: what it sees, what it starts from, and what it refuses."""

import pytest
import torch

from amodal_diffusion import EfficientNetLite0, ThingNet


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ThingNet(decoder_channels=4, sample_size=64).eval()


@pytest.mark.parametrize("size", [(64, 96), (33, 50), (1, 1)])
@torch.no_grad()
def test_answers_at_the_size_of_the_photo(model, size):
    logits = model(torch.rand(2, 3, *size)).logits
    assert logits.shape == (2, 1, *size) and logits.dtype == torch.float32 and bool(logits.isfinite().all())
    (tensor,) = model(torch.zeros(1, 3, *size), return_dict=False)
    assert tensor.shape == (1, 1, *size)


@torch.no_grad()
def test_sees_all_levels_of_the_encoder(model):
    image, found = torch.zeros(1, 3, 64, 64), []
    drawn = [torch.rand_like(feature) for feature in model.encode_image(image)]  # random weights answer next to nothing
    for level in range(5):
        model.encode_image = lambda given, level=level: [maps * (i != level) for i, maps in enumerate(drawn)]
        found.append(model(image).logits)
        del model.encode_image
    assert all(not torch.equal(answer, found[4]) for answer in found[:4])


def test_starts_from_imagenet(model, monkeypatch):
    known = EfficientNetLite0()
    monkeypatch.setattr(EfficientNetLite0, "from_package", classmethod(lambda kind: known))
    network = ThingNet(decoder_channels=4)
    network.load_image_encoder()
    for name, value in known.state_dict().items():
        assert torch.equal(value, network.image_encoder.state_dict()[name]), name


def test_what_cannot_be_is_named(model):
    for shape in ((3, 8, 8), (1, 1, 8, 8)):
        with pytest.raises(ValueError, match="`image` must have shape"):
            model(torch.zeros(shape))
    with pytest.raises(ValueError, match="`decoder_channels` must hold positive integers, got 0"):
        ThingNet(decoder_channels=0)
