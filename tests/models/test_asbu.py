"""ASBU's network: parity with the published one, its start from PCNet-M, its errors."""

import json

import numpy as np
import pytest
import torch

import parity
from amodal_diffusion import ASBUPredictor, PCNetMask
from amodal_diffusion.conversion import convert_asbu_weights
from amodal_diffusion.masks import occlusion_boundary
from amodal_diffusion.models.asbu import occluder_plane
from repository_helpers import PARITY


def tiny(**config):
    torch.manual_seed(0)
    return ASBUPredictor(**{"block_out_channels": (4, 8, 8), "sample_size": 32, **config}).eval()


def planes(count=2, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return ((torch.rand(count, 1, size, size, generator=generator) > 0.5).float() for _ in range(2))


def test_parity_with_the_published_network():
    published = parity.state_dict(json.loads((PARITY / "pcnet_mask.keys.json").read_text()))
    mask, boundary = (parity.tensor(f"pcnet_mask/{name}", (2, 1, 64, 64), True) for name in ("mask", "eraser"))
    model = convert_asbu_weights(published, sample_size=64)
    assert model.config.block_out_channels == (32, 64, 128, 256, 256)
    with torch.no_grad():
        logits = model(mask, boundary).logits
    expected = torch.from_numpy(np.load(PARITY / "pcnet_mask.npz")["logits"])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("patch_size", [1, 2])
def test_starts_from_pcnet_m(patch_size):
    """The sigmoid of the first output is then PCNet-M's P(object), whatever is said of the second."""
    torch.manual_seed(1)
    network = PCNetMask(block_out_channels=(4, 8, 8), sample_size=32, patch_size=patch_size).eval()
    model = tiny(patch_size=patch_size)
    uncertainty = model.unet.conv_out.weight[patch_size**2 :].clone()
    model.load_mask_network(network)
    mask, boundary = planes()
    with torch.no_grad():
        expected = network(mask, boundary).logits.softmax(1)[:, 1]
        torch.testing.assert_close(model(mask, boundary).logits[:, 0].sigmoid(), expected)
    torch.testing.assert_close(model.unet.conv_out.weight[patch_size**2 :], uncertainty)
    half = tiny(patch_size=patch_size)
    half.load_mask_network(network, eraser_value=0.5)
    with torch.no_grad():
        torch.testing.assert_close(half(mask, boundary / 2).logits[:, 0].sigmoid(), expected)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_planes_of_the_occluder(dtype):
    modal, occluder = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    modal[:, 2:14, 1:8] = True
    occluder[:, 4:12, 8:15] = True
    modal, occluder = modal.to(dtype), occluder.to(dtype)
    boundary = occlusion_boundary(modal, occluder).float()
    assert torch.equal(occluder_plane(modal, occluder), boundary) and boundary.any()
    assert torch.equal(occluder_plane(modal, occluder, "mask"), occluder.float())
    both = occluder_plane(modal, occluder, "both", size=5)
    assert both[0, 7, 8] == 1 and both[0, 7, 13] == 0.5 and both[0, 7, 7] == 0.5 and both[0, 0, 0] == 0
    assert not torch.equal(occluder_plane(modal, occluder, size=3), boundary)
    with pytest.raises(ValueError, match="`kind` must be one of 'boundary', 'mask', 'both', got 'edge'"):
        occluder_plane(modal, occluder, "edge")


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ({}, {"block_out_channels": (4, 8)}, r"`block_out_channels` of this network, \[4, 8, 8\], got \[4, 8\]"),
        ({}, {"patch_size": 2}, "`patch_size` of this network, 1, got 2"),
        ({}, {"use_rgb": True}, "no photo"),
        ({"use_rgb": True}, {}, "no photo"),
        ({}, {"out_channels": 3}, "2 logits"),
    ],
)
def test_starts_from_nothing_else(ours, theirs, message):
    network = PCNetMask(**{"block_out_channels": (4, 8, 8), "sample_size": 32, **theirs})
    with pytest.raises(ValueError, match=message):
        tiny(**ours).load_mask_network(network)


def test_conditions_change_the_answer():
    mask, boundary = planes()
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        sees = tiny(use_rgb=True)
        assert not torch.allclose(sees(mask, boundary, image=image).logits, sees(mask, boundary, image=-image).logits)
        knows = tiny(class_conditioned=True)
        first, second = (knows(mask, boundary, category_ids=torch.tensor(ids)).logits for ids in ([1, 1], [1, 7]))
    torch.testing.assert_close(first[0], second[0])
    assert not torch.allclose(first[1], second[1])


def test_tuple_and_dtype():
    mask, boundary = planes()
    (logits,) = tiny().to(torch.bfloat16)(mask, boundary, return_dict=False)
    assert logits.shape == (2, 2, 32, 32) and logits.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sample_size": 0}, "`sample_size` must hold positive integers, got 0"),
        ({"block_out_channels": (4, -8)}, "`block_out_channels` must hold positive integers, got -8"),
        ({"block_out_channels": (4,)}, "at least 2 levels"),
        ({"patch_size": 3}, "`patch_size` must divide `sample_size`, got 3 and 32"),
    ],
)
def test_wrong_configurations(config, message):
    with pytest.raises(ValueError, match=message):
        tiny(**config)


def test_wrong_inputs():
    mask, boundary = planes()
    image, ids = torch.zeros(2, 3, 32, 32), torch.ones(2, dtype=torch.int64)
    for model, inputs, message in (
        (tiny(), (mask[:, 0], boundary), "`mask` must have shape"),
        (tiny(), (mask, boundary[..., :16]), "`boundary` must have shape"),
        (tiny(patch_size=2), (mask[..., :31], boundary[..., :31]), "`mask` must have sides that are multiples of 2"),
        (tiny(), (mask, boundary, image), "`image` must be None: `use_rgb` is False"),
        (tiny(use_rgb=True), (mask, boundary), "`image` must be given: `use_rgb` is True"),
        (tiny(use_rgb=True), (mask, boundary, image[:1]), r"`image` must have shape \(2, 3, 32, 32\)"),
        (tiny(), (mask, boundary, None, ids), "`category_ids` must be None"),
        (tiny(class_conditioned=True), (mask, boundary), "`category_ids` must be given"),
        (tiny(class_conditioned=True), (mask, boundary, None, ids[:1]), r"`category_ids` must have shape \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model(*inputs)
