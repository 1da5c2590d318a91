"""OccAmodal's predictors: shapes, configuration, what reaches the logits, wrong inputs.

The published numbers are compared in `test_conversion_occamodal.py`.
"""

import json
import math

import pytest
import torch
from transformers import ResNetConfig, ResNetModel

from amodal_diffusion import (
    EfficientNetLite0,
    MaskModelOutput,
    OccAmodalPipeline,
    OccAmodalPredictor,
    PCNetMask,
    SingleStagePipeline,
)
from repository_helpers import PARITY

TINY = {
    "block_out_channels": (4, 6, 8),
    "reduced_channels": 5,
    "sample_size": 32,
    "image_hidden_sizes": (6, 8, 10),
    "image_depths": (1, 1, 1),
    "image_embedding_size": 6,
    "image_feature_stages": (3,),
}


def tiny(**config):
    torch.manual_seed(0)
    return OccAmodalPredictor(**{**TINY, **config}).eval()


def inputs(planes=1, batch=2, side=32):
    generator = torch.Generator().manual_seed(0)
    binary = [(torch.rand(batch, 1, side, side, generator=generator) > 0.5).float() for _ in range(2)]
    image = torch.randn(batch, 3, side, side, generator=generator)
    return {"mask": binary[0], "image": image, **({"boundary": binary[1]} if planes == 2 else {})}


@pytest.mark.parametrize(("name", "planes"), [("occamodal_occluder", 1), ("occamodal_amodal", 2)])
def test_published_size(name, planes):
    keys = json.loads((PARITY / f"{name}.keys.json").read_text(encoding="utf-8"))
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    published = sum(math.prod(shape) for key, shape in keys.items() if not key.endswith(buffers))
    with torch.device("meta"):
        network = OccAmodalPredictor(mask_channels=planes)
    assert sum(p.numel() for p in network.parameters()) == published
    assert sum(p.numel() for p in network.image_encoder.parameters()) == pytest.approx(11.18e6, rel=0.001)  # ResNet-18


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"block_out_channels": (4, 8)},
        {"out_channels": 3},
        {"patch_size": 2},
        {"patch_size": 4, "block_out_channels": (4, 8)},
        {"image_feature_stages": (3, 2, 1)},
        {"image_feature_stages": (2,)},
        {"image_hidden_sizes": (6,), "image_depths": (2,), "image_feature_stages": (1,)},
    ],
)
def test_logits_have_the_size_of_the_mask(planes, config):
    output = tiny(mask_channels=planes, **config)(**inputs(planes))
    assert isinstance(output, MaskModelOutput)
    assert output.logits.shape == (2, config.get("out_channels", 2), 32, 32)


def test_odd_sizes_and_tuple_out():
    model, given = tiny(), inputs(side=37)
    assert model(**given).logits.shape == (2, 2, 37, 37)
    (logits,) = model(**given, return_dict=False)
    torch.testing.assert_close(logits, model(**given).logits)


def test_masks_alone_are_the_network_of_z20():
    """Without feature maps there is no image encoder, and the U-Net is that of PCNet-M with one plane."""
    model, given = tiny(image_feature_stages=()), inputs()
    assert model.image_encoder is None and not model.sees_image
    assert model(given["mask"]).logits.shape == (2, 2, 32, 32)
    assert {name.partition(".")[0] for name in model.state_dict()} == {"unet"}
    other = PCNetMask(block_out_channels=TINY["block_out_channels"], sample_size=32)
    ours = sum(parameter.numel() for parameter in model.parameters())
    assert ours == sum(parameter.numel() for parameter in other.parameters()) - 9 * TINY["block_out_channels"][0]
    with pytest.raises(ValueError, match=r"`image` must be None: `image_feature_stages` is \(\)"):
        model(**given)
    with pytest.raises(ValueError, match=r"`image` must be given: `image_feature_stages` is"):
        tiny()(given["mask"])
    with pytest.raises(ValueError, match="has no image encoder"):
        model.load_image_encoder("nowhere")
    with pytest.raises(ValueError, match="`occluder_predictor` must look at the photo"):
        OccAmodalPipeline(model)
    with pytest.raises(ValueError, match="`model` must have 1 mask plane in and 2 logits out, got 2 and 2"):
        SingleStagePipeline(tiny(mask_channels=2))


@pytest.mark.parametrize("changed", ["mask", "image", "boundary"])
def test_every_input_reaches_the_logits(changed):
    model, given = tiny(mask_channels=2), inputs(2)
    before = model(**given).logits
    after = model(**{**given, changed: 1 - given[changed]}).logits
    assert not torch.allclose(before, after, atol=1e-4)


def test_objects_of_a_batch_do_not_know_of_each_other():
    model, given = tiny(mask_channels=2), inputs(2)
    together = model(**given).logits
    for index in range(2):
        alone = model(**{name: value[index : index + 1] for name, value in given.items()}).logits
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-4, atol=1e-5)


def test_image_features_come_deepest_first():
    maps = tiny(image_feature_stages=(3, 1)).encode_image(inputs()["image"])
    assert [tuple(feature.shape) for feature in maps] == [(2, 10, 2, 2), (2, 6, 8, 8)]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float64])
def test_masks_of_any_dtype(dtype):
    model, given = tiny(mask_channels=2), inputs(2)
    other = {**given, "mask": given["mask"].to(dtype), "boundary": given["boundary"].to(dtype)}
    torch.testing.assert_close(model(**other).logits, model(**given).logits)


def test_half_precision_weights_take_float_inputs():
    logits = tiny(mask_channels=2).to(torch.bfloat16)(**inputs(2)).logits
    assert logits.dtype == torch.bfloat16 and logits.isfinite().all()


def test_layout_of_the_input_changes_nothing():
    model, given = tiny(), inputs()
    strided = {name: value.contiguous(memory_format=torch.channels_last) for name, value in given.items()}
    torch.testing.assert_close(model(**strided).logits, model(**given).logits, rtol=1e-4, atol=1e-5)


def test_every_parameter_learns():
    model = tiny(mask_channels=2, patch_size=2, image_feature_stages=(3, 2)).train()
    model(**inputs(2)).logits.square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_save_and_load(tmp_path):
    model = tiny(mask_channels=2, patch_size=2)
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    loaded = OccAmodalPredictor.from_pretrained(tmp_path)
    assert not loaded.training and loaded.config.mask_channels == 2
    torch.testing.assert_close(loaded(**inputs(2)).logits, model(**inputs(2)).logits, rtol=0, atol=0)


# the image encoder's weights


def resnet(folder, **config):
    torch.manual_seed(7)
    sizes = {"hidden_sizes": [6, 8, 10], "depths": [1, 1, 1], "embedding_size": 6, "layer_type": "basic", **config}
    ResNetModel(ResNetConfig(**sizes)).save_pretrained(folder)
    return str(folder)


def test_image_encoder_takes_pretrained_weights(tmp_path):
    model, folder = tiny(), resnet(tmp_path / "resnet")
    model.load_image_encoder(folder)
    for key, value in ResNetModel.from_pretrained(folder).state_dict().items():
        torch.testing.assert_close(model.image_encoder.state_dict()[key], value, rtol=0, atol=0)


def test_image_encoder_that_does_not_fit_is_named(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        tiny().load_image_encoder(str(tmp_path / "nowhere"))
    folder = resnet(tmp_path / "wide", hidden_sizes=[6, 8, 12])
    with pytest.raises(ValueError, match=r"wide' does not fit the image encoder of this network: .*\[6, 8, 12\]"):
        tiny().load_image_encoder(folder)


LITE = {"image_encoder_type": "efficientnet-lite0", "image_feature_stages": (4, 2)}


@torch.no_grad()
def test_efficientnet_looks_at_the_photo(tmp_path, monkeypatch):
    """EfficientNet-lite0 in the place of the ResNet: stages of the same strides, its weights from its package."""
    model, given = tiny(**LITE), inputs()
    assert isinstance(model.image_encoder, EfficientNetLite0)
    assert [tuple(one.shape[1:]) for one in model.encode_image(given["image"])] == [(320, 1, 1), (40, 4, 4)]
    logits = model(**given).logits
    assert logits.shape == (2, 2, 32, 32)
    assert not torch.allclose(model(**given | {"image": given["image"].flip(-1)}).logits, logits)
    torch.manual_seed(9)
    stored = EfficientNetLite0()
    monkeypatch.setattr(EfficientNetLite0, "from_package", classmethod(lambda kind: stored))
    model.load_image_encoder()
    for key, value in stored.state_dict().items():
        torch.testing.assert_close(model.image_encoder.state_dict()[key], value, rtol=0, atol=0)
    idle = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert idle and all(
        name.startswith(("image_encoder._conv_head", "image_encoder._bn1", "image_encoder._fc")) for name in idle
    )
    model.save_pretrained(tmp_path)
    again = OccAmodalPredictor.from_pretrained(tmp_path)
    torch.testing.assert_close(again(**given).logits, model(**given).logits)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: tiny(**LITE).load_image_encoder("resnet"),
            "`name_or_path` must be None: `image_encoder_type` is 'eff",
        ),
        (lambda: tiny().load_image_encoder(), "`name_or_path` must be given: `image_encoder_type` is 'resnet'"),
        (lambda: tiny(image_encoder_type="vgg"), "`image_encoder_type` must be one of 'resnet', .*, got 'vgg'"),
        (
            lambda: tiny(**LITE | {"image_feature_stages": (5,)}),
            r"`image_feature_stages` must lie in 1 to 4, got \(5,\)",
        ),
    ],
)
def test_wrong_image_encoders_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# wrong inputs


WRONG_INPUTS = {
    "mask without channel": (1, lambda x: {"mask": x["mask"][:, 0]}, r"`mask` must have shape \(B, 1, h, w\)"),
    "boundary missing": (2, lambda x: {"boundary": None}, "`boundary` must be given: the network has 2 mask planes"),
    "boundary too much": (
        1,
        lambda x: {"boundary": x["mask"]},
        "`boundary` must be None: the network has 1 mask plane",
    ),
    "boundary of another size": (
        2,
        lambda x: {"boundary": x["boundary"][..., :-1]},
        r"`boundary` must have shape .*\(2, 1, 32, 32\)",
    ),
    "image of another size": (
        1,
        lambda x: {"image": x["image"][..., :-1]},
        r"`image` must have shape \(2, 3, 32, 32\), got \(2, 3, 32, 31\)",
    ),
    "grey image": (1, lambda x: {"image": x["image"][:, :1]}, r"`image` must have shape \(2, 3, 32, 32\)"),
}


@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_wrong_inputs(case):
    planes, change, message = WRONG_INPUTS[case]
    given = inputs(planes)
    with pytest.raises(ValueError, match=message):
        tiny(mask_channels=planes)(**{**given, **change(given)})


def test_sides_must_be_multiples_of_the_patch():
    with pytest.raises(ValueError, match=r"`mask` must have sides that are multiples of 4, got \(30, 30\)"):
        tiny(patch_size=4)(**inputs(side=30))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"mask_channels": 3}, "`mask_channels` must be 1 or 2, got 3"),
        ({"block_out_channels": (8,)}, "`block_out_channels` needs at least 2 levels"),
        ({"patch_size": 3}, "`patch_size` must divide `sample_size`, got 3 and 32"),
        ({"image_depths": (1, 1)}, "`image_depths` must have 3 entries like `image_hidden_sizes`"),
        ({"image_feature_stages": (4,)}, r"`image_feature_stages` must lie in 1 to 3, got \(4,\)"),
        (
            {"block_out_channels": (4, 4), "image_feature_stages": (3, 2, 1)},
            "There are 3 feature maps for 2 levels",
        ),
    ],
)
def test_wrong_configuration(config, message):
    with pytest.raises(ValueError, match=message):
        tiny(**config)


@pytest.mark.parametrize(
    "config",
    [
        {"mask_channels": 0},
        {"sample_size": "x"},
        {"patch_size": 1.5},
        {"out_channels": True},
        {"block_out_channels": (8, 0)},
        {"reduced_channels": -1},
        {"image_hidden_sizes": (6, 8, 0)},
        {"image_depths": (1, 0, 1)},
        {"image_embedding_size": 0},
        {"image_feature_stages": (0,)},
    ],
)
def test_sizes_must_be_positive_integers(config):
    with pytest.raises(ValueError, match=f"`{next(iter(config))}` must hold positive integers"):
        tiny(**config)


def test_without_the_final_skip(tmp_path):
    """[Z24], Table 3, row B: the first level is not joined at the last one."""
    with_skip, without = (OccAmodalPredictor(**TINY, final_skip=joined).eval() for joined in (True, False))
    first, last = (model.unet.up_blocks[-1].conv[0].in_channels for model in (with_skip, without))
    assert first - last == TINY["block_out_channels"][0]
    planes = torch.rand(2, 1, 32, 32), torch.rand(2, 3, 32, 32)
    logits = without(*planes).logits
    assert logits.shape == (2, 2, 32, 32)
    without.save_pretrained(tmp_path / "network")
    again = OccAmodalPredictor.from_pretrained(tmp_path / "network").eval()
    assert again.config.final_skip is False and torch.equal(again(*planes).logits, logits)
    with pytest.raises(TypeError, match="`final_skip` must be True or False"):
        OccAmodalPredictor(**TINY, final_skip=1)
