"""The PCNet-M network: published numbers, shapes, configuration, wrong inputs."""

import numpy as np
import pytest
import torch

import parity
from amodal_diffusion import MaskModelOutput, PCNetMask
from amodal_diffusion.conversion import convert_pcnet_mask_weights
from pipeline_helpers import published_weights, tiny_model
from repository_helpers import PARITY


def planes(batch=2, side=32):
    generator = torch.Generator().manual_seed(0)
    return tuple((torch.rand(batch, 1, side, side, generator=generator) > 0.5).float() for _ in range(2))


def test_published_numbers():
    mask, eraser = (parity.tensor(f"pcnet_mask/{name}", (2, 1, 64, 64), binary=True) for name in ("mask", "eraser"))
    with torch.no_grad():
        logits = convert_pcnet_mask_weights(published_weights())(mask, eraser).logits
    expected = torch.from_numpy(np.load(PARITY / "pcnet_mask.npz")["logits"]).float()
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)


def test_published_size():
    with torch.device("meta"):
        assert sum(p.numel() for p in PCNetMask().parameters()) == pytest.approx(3.35e6, rel=0.01)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"block_out_channels": (4, 8)},
        {"block_out_channels": (4, 8, 8, 8, 8)},
        {"out_channels": 3},
        {"patch_size": 2},
        {"patch_size": 4, "block_out_channels": (4, 8)},
    ],
)
def test_logits_have_the_size_of_the_masks(config):
    output = tiny_model(**config)(*planes())
    assert isinstance(output, MaskModelOutput)
    assert output.logits.shape == (2, config.get("out_channels", 2), 32, 32)


def test_odd_sizes():
    assert tiny_model()(*planes(side=37)).logits.shape == (2, 2, 37, 37)


def test_tuple_out():
    model, inputs = tiny_model(), planes()
    (logits,) = model(*inputs, return_dict=False)
    torch.testing.assert_close(logits, model(*inputs).logits)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float64])
def test_inputs_of_any_dtype(dtype):
    model, inputs = tiny_model(), planes()
    logits = model(*(plane.to(dtype) for plane in inputs)).logits
    torch.testing.assert_close(logits, model(*inputs).logits)


def test_layout_of_the_input_reaches_the_output():
    # Strides of channels_last are kept through the network, and change nothing but speed.
    model, inputs = tiny_model(), planes()
    strided = [plane[:, 0].unsqueeze(-1).permute(0, 3, 1, 2) for plane in inputs]
    torch.testing.assert_close(model(*strided).logits, model(*inputs).logits, rtol=1e-4, atol=1e-5)


def test_category_scales_the_mask():
    model = tiny_model(class_conditioned=True)
    mask, eraser = planes()
    ids = torch.tensor([1, 5])
    expected = tiny_model()(mask * ids.view(2, 1, 1, 1), eraser).logits
    torch.testing.assert_close(model(mask, eraser, category_ids=ids).logits, expected)


def test_image_planes_come_last():
    model, (mask, eraser) = tiny_model(use_rgb=True), planes()
    assert model.conv_in[0].in_channels == 5
    with torch.no_grad():
        model.conv_in[0].weight[:, 2:] = 0
        image = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(
            model(mask, eraser, image=image).logits, model(mask, eraser, image=torch.zeros_like(image)).logits
        )


def test_every_parameter_learns():
    model = tiny_model(class_conditioned=True, use_rgb=True, patch_size=2).train()
    mask, eraser = planes()
    image, ids = torch.randn(2, 3, 32, 32), torch.tensor([1, 2])
    model(mask, eraser, image, ids).logits.square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_save_and_load(tmp_path):
    model = tiny_model(patch_size=2)
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    loaded = PCNetMask.from_pretrained(tmp_path)
    assert not loaded.training
    assert loaded.config.block_out_channels == [4, 8, 8] and loaded.config.patch_size == 2
    torch.testing.assert_close(loaded(*planes()).logits, model(*planes()).logits, rtol=0, atol=0)


WRONG_INPUTS = {
    "mask without channel": ({}, lambda m, e: (m[:, 0], e), r"`mask` must have shape \(B, 1, h, w\)"),
    "eraser of another size": ({}, lambda m, e: (m, e[..., :-1]), r"`eraser` must have shape \(2, 1, 32, 32\), got"),
    "no multiple of the patch": ({"patch_size": 4}, lambda m, e: (m[..., :-1], e[..., :-1]), "multiples of 4"),
    "image not asked for": ({}, lambda m, e: (m, e, torch.zeros(2, 3, 32, 32)), "`image` must be None"),
    "image missing": ({"use_rgb": True}, lambda m, e: (m, e), "`image` must be given"),
    "image shape": ({"use_rgb": True}, lambda m, e: (m, e, torch.zeros(2, 1, 32, 32)), r"`image`.*\(2, 3, 32, 32\)"),
    "category missing": ({"class_conditioned": True}, lambda m, e: (m, e), "`category_ids` must be given"),
    "category not asked for": ({}, lambda m, e: (m, e, None, torch.ones(2)), "`category_ids` must be None"),
    "category shape": (
        {"class_conditioned": True},
        lambda m, e: (m, e, None, torch.ones(3)),
        r"`category_ids`.*\(2,\)",
    ),
}


@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_wrong_inputs(case):
    config, change, message = WRONG_INPUTS[case]
    with pytest.raises(ValueError, match=message):
        tiny_model(**config)(*change(*planes()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"block_out_channels": (8,)}, "`block_out_channels` needs at least 2 levels"),
        ({"patch_size": 0}, "`patch_size` must hold positive integers, got 0"),
        ({"patch_size": 3}, "`patch_size` must divide `sample_size`, got 3 and 32"),
    ],
)
def test_wrong_configuration(config, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(**config)


@pytest.mark.parametrize(
    "config",
    [
        {"sample_size": "x"},
        {"sample_size": 0},
        {"patch_size": 1.5},
        {"out_channels": True},
        {"block_out_channels": (8, 0)},
    ],
)
def test_sizes_must_be_positive_integers(config):
    with pytest.raises(ValueError, match=f"`{next(iter(config))}` must hold positive integers"):
        PCNetMask(**{"block_out_channels": (4, 8), **config})
