"""Published PCNet-C checkpoints: parity, both numbers of input planes, the folder, every way to be wrong."""

import json

import numpy as np
import pytest
import torch

import parity
from amodal_diffusion import AmodalPipeline, ContentPipeline, PCNetContent
from amodal_diffusion.cli import main as cli
from amodal_diffusion.conversion import CONVERTERS, convert_pcnet_content, convert_pcnet_content_weights
from amodal_diffusion.conversion.pcnet_content import published_key
from amodal_diffusion.models.pcnet_content import PartialConv
from repository_helpers import PARITY

WIDTHS = (4, 6, 8)


def published(planes=4, ones=True, seed=0):
    """Small published weights, made from a network of ours; and that network."""
    torch.manual_seed(seed)
    model = PCNetContent(block_out_channels=WIDTHS, sample_size=32, use_mask=planes == 4).eval()
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point() and value.ndim == 1:
                value.copy_(torch.rand_like(value) + 0.5)
    windows = {f"{name}.conv.weight": m.window for name, m in model.named_modules() if isinstance(m, PartialConv)}
    state = {}
    for key, value in model.state_dict().items():
        name = published_key(key, len(WIDTHS))
        state[name] = value * windows.get(key, 1)
        if ones and name.endswith("input_conv.weight"):
            state[name.replace("input_conv", "mask_conv")] = torch.ones_like(value)
    return state, model


def write(path, weights):
    torch.save({"step": 450000, "state_dict": {f"module.{key}": value for key, value in weights.items()}}, path)
    return path


def inputs(planes=4, size=32):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, size, size, generator=generator)
    visible = torch.ones(1, 1, size, size)
    visible[..., 8:20, 8:20] = 0
    mask = (torch.rand(1, 1, size, size, generator=generator) < 0.5).float() * visible
    return (image * visible, visible, mask)[: planes - 1]


# the published network


def test_converted_network_answers_as_the_published_one():
    keys = json.loads((PARITY / "pcnet_content.keys.json").read_text(encoding="utf-8"))
    model = convert_pcnet_content_weights(parity.state_dict(keys))
    assert not model.training and model.dtype == torch.float32
    default = PCNetContent().config  # the defaults are the published network
    assert model.config.block_out_channels == tuple(default.block_out_channels) and model.config.use_mask
    shape = (1, 1, 256, 256)
    visible = 1 - parity.tensor("pcnet_content/hole", shape, binary=True)
    image = parity.tensor("pcnet_content/image", (1, 3, 256, 256)) * visible
    mask = parity.tensor("pcnet_content/mask", shape, binary=True) * visible
    with torch.no_grad():
        answer = model(image, visible, mask).image
    expected = torch.from_numpy(np.load(PARITY / "pcnet_content.npz")["image"]).float()
    assert expected.std() > 0.04  # the tolerance is a hundredth of what the answer varies by
    torch.testing.assert_close(answer, expected, rtol=0, atol=4e-4)


def test_every_published_key_is_one_of_ours():
    keys = json.loads((PARITY / "pcnet_content.keys.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        ours = {published_key(key, 7): list(value.shape) for key, value in PCNetContent().state_dict().items()}
    assert ours == {key: shape for key, shape in keys.items() if "mask_conv" not in key}


@pytest.mark.parametrize("key", ["encoder.0.bias.weight", "encoder.3.norm.weight", "head.0.conv.conv.weight"])
def test_names_that_the_network_does_not_have(key):
    with pytest.raises(KeyError):
        published_key(key, 3)


# planes


@pytest.mark.parametrize("planes", [3, 4])
@pytest.mark.parametrize("ones", [True, False])
def test_weights_are_told_apart_by_their_planes(planes, ones):
    weights, model = published(planes, ones)
    converted = convert_pcnet_content_weights(weights, sample_size=32)
    assert converted.config.use_mask is (planes == 4) and converted.config.sample_size == 32
    with torch.no_grad():
        torch.testing.assert_close(converted(*inputs(planes)).image, model(*inputs(planes)).image)


def test_added_mask_plane_changes_no_answer_yet():
    weights, model = published(3)
    converted = convert_pcnet_content_weights(weights, add_mask_plane=True)
    assert converted.config.use_mask and not converted.training
    image, visible, mask = inputs(4)
    with torch.no_grad():
        first = converted(image, visible, mask).image
        assert torch.equal(first, converted(image, visible, torch.zeros_like(mask)).image)
    assert first.shape == image.shape
    assert converted.encoder[0].conv.conv.weight.shape[1] == 4
    assert not converted.encoder[0].conv.conv.weight[:, 3].any()


# the folder


@pytest.mark.parametrize("category_aware", [False, True])
def test_converted_folder_loads(category_aware, tmp_path):
    weights, model = published()
    path = write(tmp_path / "pcnet_c.pth.tar", weights)
    folder = CONVERTERS["pcnet-c"](path, tmp_path / "deep" / "out", category_aware=category_aware, sample_size=32)
    assert folder == tmp_path / "deep" / "out" and [p.name for p in folder.parent.iterdir()] == ["out"]
    pipeline = ContentPipeline.from_pretrained(folder)
    assert pipeline.model.config.class_conditioned is category_aware and pipeline.size == 32
    for key, value in pipeline.model.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[key])
    assert isinstance(AmodalPipeline.from_pretrained(folder), ContentPipeline)


def test_partialconv_file_has_its_weights_under_model(tmp_path):
    weights, _ = published(3)
    torch.save({"model": weights, "n_iter": 1000000, "optimizer": {}}, tmp_path / "partialconv.pth")
    folder = convert_pcnet_content(tmp_path / "partialconv.pth", tmp_path / "plain", sample_size=32)
    assert ContentPipeline.from_pretrained(folder).model.config.use_mask is False
    folder = convert_pcnet_content(tmp_path / "partialconv.pth", tmp_path / "start", add_mask_plane=True)
    assert ContentPipeline.from_pretrained(folder).model.config.use_mask is True


def test_command(tmp_path, capsys):
    path = write(tmp_path / "partialconv.pth", published(3)[0])
    arguments = ["convert", "pcnet-c", str(path), str(tmp_path / "out"), "--sample-size", "32", "--add-mask-plane"]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"
    assert ContentPipeline.from_pretrained(tmp_path / "out").model.config.use_mask is True


# refusals


def without(weights, key):
    return {name: value for name, value in weights.items() if name != key}


FIRST = "enc_1.conv.input_conv.weight"
WRONG = {
    "another network": (lambda w: {"inc.conv.weight": torch.ones(1)}, "weights of PCNet-C: it has no key 'enc_1.*'inc"),
    "one level": (lambda w: {FIRST: torch.ones(4, 4, 7, 7)}, "no key 'enc_2.conv.input_conv.weight'"),
    "scalar": (lambda w: {**w, FIRST: torch.tensor(1.0)}, rf"'{FIRST}' has shape \(\)"),
    "no channels": (lambda w: {**w, FIRST: torch.ones(4, 0, 7, 7)}, rf"'{FIRST}' has shape \(4, 0, 7, 7\)"),
    "5 planes": (
        lambda w: {**w, FIRST: torch.ones(4, 5, 7, 7)},
        r"must take 3 \(image\) or 4 \(image, modal mask\) planes; .* takes 5",
    ),
    "missing": (lambda w: without(w, "dec_1.conv.input_conv.bias"), r"missing \(1\): dec_1.conv.input_conv.bias"),
    "unexpected": (lambda w: {**w, "enc_2.extra": torch.ones(1)}, r"unexpected \(1\): enc_2.extra"),
    "shape": (
        lambda w: {**w, "enc_2.bn.bias": torch.ones(3)},
        r"of another shape \(1\): enc_2.bn.bias: \(3,\) instead of \(6,\)",
    ),
    "counting kernel of another shape": (
        lambda w: {**w, "enc_2.conv.mask_conv.weight": torch.ones(3)},
        r"another shape \(1\): enc_2.conv.mask_conv.weight",
    ),
    "counting kernel": (
        lambda w: {**w, "enc_2.conv.mask_conv.weight": 2 * w["enc_2.conv.mask_conv.weight"]},
        "enc_2.conv.mask_conv.weight must hold ones",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_weights_are_refused(case):
    change, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        convert_pcnet_content_weights(change(published()[0]))


def test_options_that_do_not_fit_the_planes():
    with pytest.raises(ValueError, match="`add_mask_plane` must be False: the checkpoint has a mask plane already"):
        convert_pcnet_content_weights(published(4)[0], add_mask_plane=True)
    with pytest.raises(ValueError, match="`class_conditioned` must be False: the checkpoint takes an image only"):
        convert_pcnet_content_weights(published(3)[0], class_conditioned=True)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


def test_bad_files_are_named_and_leave_no_folder(tmp_path):
    weights, _ = published()
    hostile = tmp_path / "hostile.pth"
    torch.save({"state_dict": weights, "extra": Hostile(tmp_path / "ran")}, hostile)
    whole = write(tmp_path / "whole.pth", weights)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole.read_bytes()[:-200])
    broken = write(tmp_path / "broken.pth", without(weights, "dec_1.conv.input_conv.bias"))
    for path, message in ((hostile, "refused"), (cut, "truncated or damaged"), (broken, "missing")):
        with pytest.raises(ValueError, match=rf"{path.name}'.*{message}"):
            convert_pcnet_content(path, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="gone.pth"):
        convert_pcnet_content(tmp_path / "gone.pth", tmp_path / "out")
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
