"""The losses of PCNet-C by hand, and VGG-16 from files."""

import pytest
import torch
from safetensors.torch import save_file
from skimage import data

from amodal_diffusion.data.synthesis import ContentBatch
from amodal_diffusion.images import normalize_images
from amodal_diffusion.losses import (
    EfficientNetFeatures,
    VGGFeatures,
    composite,
    content_losses,
    discriminator_loss,
    generator_loss,
    gram_matrix,
    load_perceptual_network,
    load_vgg_features,
    total_variation,
)

pytestmark = pytest.mark.usefixtures("offline")


def make_batch():
    torch.manual_seed(0)
    visible = torch.ones(2, 1, 8, 8)
    visible[:, :, 2:6, 2:6] = 0
    known = torch.ones(2, 1, 8, 8)
    known[:, :, 2:6, 4:6] = 0
    return ContentBatch(torch.randn(2, 3, 8, 8), visible, torch.zeros(2, 1, 8, 8), known)


def test_losses_by_hand():
    batch, output = make_batch(), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    losses = content_losses(output, batch, None)
    assert set(losses) == {"valid", "hole", "total_variation"}
    error = (output - batch.image).abs()
    hole = torch.zeros(2, 1, 8, 8)
    hole[:, :, 2:6, 2:4] = 1  # known; the rest of the hole costs nothing
    assert float(losses["hole"]) == pytest.approx(float((error * hole).sum() / error.numel()), rel=1e-5)
    assert float(losses["valid"]) == pytest.approx(float((error * batch.visible).sum() / error.numel()), rel=1e-5)
    picture = composite(output, batch)
    assert torch.equal(picture[:, :, 0], batch.image[:, :, 0]) and torch.equal(picture[:, :, 3, 3], output[:, :, 3, 3])
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    assert float(total_variation(ramp)) == 1.0
    assert float(losses["total_variation"]) == pytest.approx(float(total_variation(picture)))


def test_adversarial_losses():
    sure = torch.tensor([20.0])
    assert float(generator_loss(sure)) == pytest.approx(0, abs=1e-6)
    assert float(generator_loss(-sure)) == pytest.approx(20, rel=1e-5)
    assert float(discriminator_loss(sure, -sure)) == pytest.approx(0, abs=1e-6)
    assert float(discriminator_loss(-sure, -sure)) == pytest.approx(10, rel=1e-5)


def test_gram_matrix():
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # [1, 2, 1, 2]
    torch.testing.assert_close(gram_matrix(maps), torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / 4)


@pytest.mark.parametrize("make", [VGGFeatures, EfficientNetFeatures])
def test_perceptual_losses_vanish_for_the_truth_alone(make):
    network, batch = make(), make_batch()
    same = content_losses(batch.image, batch, network)
    assert float(same["perceptual"]) == 0 and float(same["style"]) == 0
    output = batch.image + 0.5
    output.requires_grad_(True)
    other = content_losses(output, batch, network)
    assert float(other["perceptual"].detach()) > 0 and float(other["style"].detach()) > 0
    (other["perceptual"] + other["style"]).backward()
    assert output.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_vgg_from_files(tmp_path):
    network = VGGFeatures()
    assert [tuple(maps.shape[1:]) for maps in network(torch.zeros(1, 3, 16, 16))] == [
        (64, 8, 8),
        (128, 4, 4),
        (256, 2, 2),
    ]
    state = {**network.state_dict(), "classifier.0.weight": torch.zeros(2, 2)}
    save_file(state, tmp_path / "vgg.safetensors")
    torch.save(state, tmp_path / "vgg.pth")
    for name in ("vgg.safetensors", "vgg.pth"):
        again = load_vgg_features(str(tmp_path / name))
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in network.state_dict().items())
    del state["features.2.weight"]
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"does not hold VGG-16: missing or of another shape are features\.2\.weight"):
        load_vgg_features(str(tmp_path / "other.safetensors"))
    with pytest.raises(FileNotFoundError, match="'nowhere/nothing', and the Hub does not give it"):
        load_vgg_features("nowhere/nothing")


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch):
    """Both networks of ImageNet that scripts take from the Hub, which is tried for 23 seconds otherwise."""
    from photo_helpers import tiny_predictor

    asked = []

    def head(url, **_):
        asked.append(url)
        raise ConnectionError("no network")

    monkeypatch.setattr("amodal_diffusion.hub.get_hf_file_metadata", head)
    with pytest.raises(FileNotFoundError, match="the Hub cannot be reached .*no network"):
        load_vgg_features("org/never-seen")
    with pytest.raises(OSError, match="the Hub cannot be reached .*no network"):
        tiny_predictor().load_image_encoder("org/never-seen")
    assert [url.split("/")[-1] for url in asked] == ["model.safetensors", "config.json"]


def test_networks_by_name(tmp_path):
    lite = load_perceptual_network("efficientnet-lite0")
    assert isinstance(lite, EfficientNetFeatures)
    save_file(VGGFeatures().state_dict(), tmp_path / "vgg.safetensors")
    assert isinstance(load_perceptual_network(str(tmp_path / "vgg.safetensors")), VGGFeatures)
    with pytest.raises(FileNotFoundError):
        load_perceptual_network("nowhere/nothing")


def test_maps_of_efficientnet_lite_are_about_one():
    photo = torch.tensor(data.chelsea()).permute(2, 0, 1)[None] / 255
    for maps in EfficientNetFeatures()(normalize_images(photo)):
        assert 0.5 < float(maps.std()) < 2
