"""OrderNet: the published size, what reaches the logits, weights of another ResNet, wrong inputs."""

import pytest
import torch
from transformers import ResNetConfig, ResNetModel

from amodal_diffusion import OrderNet
from photo_helpers import tiny_order_net


def inputs(batch=2):
    generator = torch.Generator().manual_seed(0)
    first, second = ((torch.rand(batch, 1, 32, 32, generator=generator) > 0.5).float() for _ in range(2))
    return {"first": first, "second": second, "image": torch.randn(batch, 3, 32, 32, generator=generator)}


@pytest.mark.parametrize(("use_rgb", "planes"), [(False, 2), (True, 5)])
def test_published_size(use_rgb, planes):
    """A ResNet-50 (25.557 M parameters) with another first convolution and two classes."""
    with torch.device("meta"):
        network = OrderNet(use_rgb)
    classifier = 2048 * 1000 + 1000 - (2048 * 2 + 2)
    assert sum(p.numel() for p in network.parameters()) == 25_557_032 - classifier + 64 * 49 * (planes - 3)


@pytest.mark.parametrize("changed", ["first", "second", "image"])
def test_every_input_reaches_the_logits(changed):
    model, given = tiny_order_net(num_relations=3), inputs()
    before = model(**given).logits
    assert before.shape == (2, 3)
    after = model(**{**given, changed: 1 - given[changed]}).logits
    assert not torch.allclose(before, after)
    (logits,) = model(**given, return_dict=False)
    assert torch.equal(logits, before)


def test_weights_of_another_resnet(tmp_path):
    config = {"layer_type": "basic", "hidden_sizes": [4, 8], "depths": [1, 1], "embedding_size": 4}
    given = ResNetModel(ResNetConfig(**config))
    given.save_pretrained(tmp_path / "resnet")
    first = "embedder.embedder.convolution.weight"
    for use_rgb in (True, False):
        model = tiny_order_net(use_rgb=use_rgb)
        before = model.encoder.state_dict()[first].clone()
        model.load_encoder(str(tmp_path / "resnet"))
        found = model.encoder.state_dict()
        assert torch.equal(found[first][:, :2], before[:, :2])
        assert not use_rgb or torch.equal(found[first][:, 2:], given.state_dict()[first])
        assert all(torch.equal(value, found[name]) for name, value in given.state_dict().items() if name != first)
    with pytest.raises(ValueError, match="does not fit the image encoder of this network"):
        tiny_order_net(hidden_sizes=(8, 8)).load_encoder(str(tmp_path / "resnet"))
    with pytest.raises(OSError, match="nowhere"):
        model.load_encoder(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"num_relations": 4}, ValueError, "`num_relations` must be 2 or 3, got 4"),
        ({"depths": (1,)}, ValueError, "`depths` must have 2 entries like `hidden_sizes`, got 1"),
        ({"layer_type": "wide"}, ValueError, "`layer_type` must be 'bottleneck' or 'basic', got 'wide'"),
        ({"use_rgb": "yes"}, TypeError, "`use_rgb` must be True or False, got 'yes'"),
        ({"answer": "size"}, ValueError, "`answer` must be 'occlusion' or 'depth', got 'size'"),
        ({"answer": "depth"}, ValueError, "`num_relations` must be 3 where `answer` is 'depth', got 2"),
    ],
)
def test_wrong_settings_are_named(config, error, message):
    with pytest.raises(error, match=message):
        tiny_order_net(**config)


def test_wrong_inputs_are_named():
    given = inputs()
    with pytest.raises(ValueError, match=r"`second` must have shape \(2, 1, 32, 32\), got \(1, 1, 32, 32\)"):
        tiny_order_net()(given["first"], given["second"][:1], given["image"])
    with pytest.raises(ValueError, match="`image` must be given: `use_rgb` is True"):
        tiny_order_net()(given["first"], given["second"])
    with pytest.raises(ValueError, match="`image` must be None: `use_rgb` is False"):
        tiny_order_net(use_rgb=False)(**given)
