"""The published SDAmodal decoder converted: keys, the folder with Stable Diffusion and without, wrong files."""

import json

import numpy as np
import pytest
import torch

import parity
from amodal_diffusion import AmodalPipeline, SDAmodalDecoder, SDAmodalPipeline
from amodal_diffusion.conversion import CONVERTERS, convert_sdamodal, convert_sdamodal_weights
from amodal_diffusion.conversion.sdamodal import sdamodal_published_key
from diffusion_helpers import (
    RESOLUTION,
    offload,
    photo,
    tiny_mask_decoder,
    tiny_sdamodal,
    tiny_stable_diffusion,
    tiny_unet,
)
from pipeline_helpers import crossing_bars
from repository_helpers import PARITY

SIZES = {"sample_size": 32, "feature_sizes": (4, 8, 16, 16)}
TINY = {"resolution": RESOLUTION, "num_draws": 2}


@pytest.fixture(scope="module")
def weights():
    """Published keys, the widths of the tiny decoder."""
    state = tiny_mask_decoder().state_dict()
    return parity.state_dict({sdamodal_published_key(key): list(value.shape) for key, value in state.items()})


@pytest.fixture(scope="module")
def checkpoint(weights, tmp_path_factory):
    """As it is published: a torch file with an entry, keys with the prefix of data parallelism."""
    path = tmp_path_factory.mktemp("published") / "ckpt_SDAmodal.tar"
    torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}, "step": 56000}, path)
    return path


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd")
    tiny_stable_diffusion().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def expected(weights):
    decoder = convert_sdamodal_weights(weights, **SIZES)
    return tiny_sdamodal(decoder=decoder)(photo(0, 60, 80), crossing_bars(60, 80)[0])


def check(folder, expected):
    loaded = AmodalPipeline.from_pretrained(folder)
    loaded.set_progress_bar_config(disable=True)
    output = loaded(photo(0, 60, 80), crossing_bars(60, 80)[0])
    np.testing.assert_allclose(output.probabilities, expected.probabilities, atol=1e-6)
    return loaded


def test_every_published_key_is_one_of_ours():
    published = json.loads((PARITY / "sdamodal_decoder.keys.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        ours = {sdamodal_published_key(k): list(v.shape) for k, v in SDAmodalDecoder().state_dict().items()}
    assert ours == published
    for key in ("conv_in.0.weight", "unet.strange.weight", "unet.reduce_blocks.4.0.weight"):
        with pytest.raises(KeyError):
            sdamodal_published_key(key)


def test_sizes_are_read_off_the_weights(weights):
    config = convert_sdamodal_weights(weights, **SIZES).config
    assert tuple(config.block_out_channels) == (4, 4, 6, 6) and tuple(config.feature_channels) == (16, 12, 8, 4)
    assert (config.reduced_channels, config.out_channels, config.sample_size) == (4, 2, 32)


def test_light_folder(checkpoint, stable_diffusion, expected, tmp_path):
    folder = convert_sdamodal(checkpoint, tmp_path / "out", stable_diffusion=stable_diffusion, **SIZES, **TINY)
    assert sorted(path.name for path in folder.iterdir()) == ["decoder", "model_index.json", "pipeline.py"]
    loaded = check(folder, expected)
    assert loaded.config.stable_diffusion == str(stable_diffusion)


def test_light_folder_is_found_from_anywhere(checkpoint, stable_diffusion, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(stable_diffusion.parent)
    folder = convert_sdamodal(
        checkpoint, tmp_path / "out", stable_diffusion=stable_diffusion.name, **SIZES, **TINY
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    check(folder, expected)


def test_folder_with_stable_diffusion(checkpoint, stable_diffusion, expected, tmp_path):
    options = {"stable_diffusion": stable_diffusion, "include_stable_diffusion": True}
    folder = convert_sdamodal(checkpoint, tmp_path / "out", **options, **SIZES, **TINY)
    assert {"unet", "vae", "text_encoder", "tokenizer", "scheduler", "decoder"} < {p.name for p in folder.iterdir()}
    assert check(folder, expected).config.stable_diffusion is None


def test_published_settings(checkpoint, stable_diffusion, tmp_path):
    folder = CONVERTERS["sdamodal"](checkpoint, tmp_path / "out", stable_diffusion=stable_diffusion)
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    published = {
        "time_step": 181, "num_draws": 8, "resolution": 768, "up_blocks": "0,1,2,3", "mask_threshold": 0.5,
        "enlarge_box": 3.0, "crop": "nearest", "feature_crop": "cells",
    }  # fmt: skip
    assert {name: index[name] for name in published} == published
    decoder = SDAmodalDecoder.from_pretrained(folder / "decoder")
    assert decoder.config.sample_size == 512 and tuple(decoder.config.feature_sizes) == (24, 48, 96, 96)


def test_hub_id_is_stored_as_it_is(checkpoint, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "amodal_diffusion.conversion.sdamodal.load_unet_config",
        lambda name: asked.append(name) or {"block_out_channels": [4, 8, 12, 16]},
    )
    folder = convert_sdamodal(checkpoint, tmp_path / "out", stable_diffusion="org/name", **SIZES)
    assert asked == ["org/name"]
    assert json.loads((folder / "model_index.json").read_text())["stable_diffusion"] == "org/name"


def test_whole_flow_offloaded(checkpoint, stable_diffusion, expected, tmp_path):
    folder = convert_sdamodal(checkpoint, tmp_path / "out", stable_diffusion=stable_diffusion, **SIZES, **TINY)
    pipeline = SDAmodalPipeline.from_pretrained(folder)
    offload(pipeline, sequential=True)
    output = pipeline(photo(0, 60, 80), crossing_bars(60, 80)[0])
    np.testing.assert_allclose(output.probabilities, expected.probabilities, atol=1e-5)


# What is refused


def without(weights, key):
    return {name: value for name, value in weights.items() if name != key}


WRONG_WEIGHTS = {
    "nothing": (lambda w: {}, "weights of SDAmodal: it has no key 'inc.conv.conv.0.weight' nor any other"),
    "no first layer": (lambda w: without(w, "inc.conv.conv.0.weight"), "has no key 'inc.conv.conv.0.weight', only"),
    "three maps": (lambda w: without(w, "reduce_dim_3.0.weight"), "has no key 'reduce_dim_3.0.weight'"),
    "missing": (lambda w: without(w, "up1.conv.conv.0.bias"), r"Keys missing \(1\): up1.conv.conv.0.bias"),
    "unexpected": (lambda w: {**w, "fc.bias": torch.ones(1)}, r"Keys unexpected \(1\): fc.bias"),
    "shape": (lambda w: {**w, "outc.conv.bias": torch.ones(3)}, r"outc.conv.bias: \(3,\) instead of \(2,\)"),
    "planes": (
        lambda w: {**w, "inc.conv.conv.0.weight": torch.ones(4, 2, 3, 3)},
        r"must take one plane \(the modal mask\); 'inc.conv.conv.0.weight' takes 2",
    ),
    "scalar": (lambda w: {**w, "outc.conv.weight": torch.ones(())}, r"'outc.conv.weight' has shape \(\)"),
}


@pytest.mark.parametrize("case", WRONG_WEIGHTS)
def test_wrong_weights(weights, case):
    change, message = WRONG_WEIGHTS[case]
    with pytest.raises(ValueError, match=message):
        convert_sdamodal_weights(change(weights), **SIZES)


def test_wrong_file_is_named(stable_diffusion, tmp_path):
    path = tmp_path / "other.tar"
    torch.save({"fc.weight": torch.ones(2, 2)}, path)
    with pytest.raises(ValueError, match="other.tar': The checkpoint does not hold the weights of SDAmodal"):
        convert_sdamodal(path, tmp_path / "out", stable_diffusion=stable_diffusion)
    with pytest.raises(FileNotFoundError, match="There is no checkpoint '.*gone.tar'"):
        convert_sdamodal(tmp_path / "gone.tar", tmp_path / "out", stable_diffusion=stable_diffusion)
    assert not (tmp_path / "out").exists()


def test_wrong_stable_diffusion(checkpoint, stable_diffusion, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder '.*gone'"):
        convert_sdamodal(checkpoint, tmp_path / "out", stable_diffusion=tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty' holds no unet/"):
        convert_sdamodal(checkpoint, tmp_path / "out", stable_diffusion=tmp_path / "empty")
    tiny_unet(block_out_channels=(8, 8, 12, 16)).save_pretrained(tmp_path / "wide" / "unet")
    message = r"must have up blocks of \(16, 12, 8, 4\) channels, .*wide' has \(16, 12, 8, 8\)"
    with pytest.raises(ValueError, match=message):
        convert_sdamodal(checkpoint, tmp_path / "out", stable_diffusion=tmp_path / "wide")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(checkpoint, stable_diffusion, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already"):
        convert_sdamodal(checkpoint, tmp_path, stable_diffusion=stable_diffusion)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
