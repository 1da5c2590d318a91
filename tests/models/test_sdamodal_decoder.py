"""SDAmodal's decoder and the holder of a prompt's embedding: published numbers, shapes, wrong input."""

import json

import numpy as np
import pytest
import torch

import parity
from amodal_diffusion import PromptEmbedding, SDAmodalDecoder
from amodal_diffusion.conversion import convert_sdamodal_weights
from repository_helpers import PARITY

SHAPES = ((1, 6, 6, 1280), (1, 12, 12, 1280), (1, 24, 24, 640), (1, 24, 24, 320))  # channels last
CHANNELS = (5, 4, 3)


def tiny_decoder(**config):
    torch.manual_seed(0)
    config = {"block_out_channels": (4, 4, 6, 6), "feature_channels": CHANNELS, "reduced_channels": 3, **config}
    return SDAmodalDecoder(**{"sample_size": 32, "feature_sizes": (4, 8, 16), **config}).eval()


def tiny_inputs(batch=2, size=32):
    generator = torch.Generator().manual_seed(1)
    mask = (torch.rand(batch, 1, size, size, generator=generator) > 0.5).float()
    return mask, [torch.randn(batch, c, 4, 4, generator=generator) for c in CHANNELS]


def test_published_numbers():
    published = parity.state_dict(json.loads((PARITY / "sdamodal_decoder.keys.json").read_text(encoding="utf-8")))
    model = convert_sdamodal_weights(published)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(15.9e6, rel=0.01)
    mask = parity.tensor("sdamodal_decoder/mask", (1, 1, 128, 128), binary=True)
    maps = [parity.tensor(f"sdamodal_decoder/feature_{i}", s).permute(0, 3, 1, 2) for i, s in enumerate(SHAPES)]
    with torch.no_grad():
        logits = model(mask, maps).logits
    expected = torch.from_numpy(np.load(PARITY / "sdamodal_decoder.npz")["logits"]).float()
    torch.testing.assert_close(logits, expected, rtol=0, atol=5e-3)


@pytest.mark.parametrize("size", [32, 40, 33])
def test_logits_have_the_size_of_the_mask(size):
    mask, maps = tiny_inputs(size=size)
    assert tiny_decoder()(mask, maps).logits.shape == (2, 2, size, size)
    assert tiny_decoder(out_channels=3)(mask, maps, return_dict=False)[0].shape == (2, 3, size, size)


def test_maps_of_any_size_fit():
    model = tiny_decoder()
    mask, maps = tiny_inputs()
    larger = [torch.nn.functional.interpolate(feature, scale_factor=4) for feature in maps]
    assert model(mask, larger).logits.shape == (2, 2, 32, 32)


@torch.no_grad()
def test_every_map_and_the_mask_matter():
    model = tiny_decoder()
    mask, maps = tiny_inputs()
    expected = model(mask, maps).logits
    assert not torch.equal(model(1 - mask, maps).logits, expected)
    for index in range(len(maps)):
        changed = [feature + 5 * (index == which) for which, feature in enumerate(maps)]
        assert not torch.equal(model(mask, changed).logits, expected), index


@torch.no_grad()
def test_objects_of_a_batch_do_not_mix():
    model = tiny_decoder()
    mask, maps = tiny_inputs(batch=3)
    together = model(mask, maps).logits
    for index in range(3):
        alone = model(mask[index, None], [feature[index, None] for feature in maps]).logits
        torch.testing.assert_close(together[index], alone[0], rtol=1e-4, atol=1e-5)


def test_half_precision_and_save(tmp_path):
    model = tiny_decoder()
    mask, maps = tiny_inputs()
    model.save_pretrained(tmp_path)
    loaded = SDAmodalDecoder.from_pretrained(tmp_path, dtype=torch.bfloat16)
    logits = loaded(mask.to(torch.bfloat16), maps).logits
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), model(mask, maps).logits, rtol=0.1, atol=0.1)
    assert tuple(loaded.config.feature_sizes) == (4, 8, 16)


WRONG = {
    "mask": (lambda m, f: (m[:, 0], f), r"`mask` must have shape \(B, 1, h, w\), got \(2, 32, 32\)"),
    "two maps": (lambda m, f: (m, f[:2]), "`features` must hold 3 maps, got 2"),
    "batch": (lambda m, f: (m[:1], f), r"`features\[0\]` must have shape \(1, 5, h, w\), got \(2, 5, 4, 4\)"),
    "channels": (lambda m, f: (m, [f[0], f[0], f[2]]), r"`features\[1\]` must have shape \(2, 4, h, w\), got \(2, 5,"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(case):
    change, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        tiny_decoder()(*change(*tiny_inputs()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"feature_sizes": (4, 8)}, "`feature_sizes` must have one entry for each of the 3 feature maps"),
        ({"feature_channels": (5, 0, 3)}, "`feature_channels` must hold positive integers, got 0"),
        ({"block_out_channels": (4, 4)}, "3 feature maps for 2 levels"),
    ],
)
def test_wrong_configuration(config, message):
    with pytest.raises(ValueError, match=message):
        tiny_decoder(**config)


def test_prompt_embedding_holds_a_copy(tmp_path):
    embeds = torch.randn(1, 7, 8).to(torch.bfloat16)
    holder = PromptEmbedding.from_tensor(embeds)
    assert torch.equal(holder(), embeds) and not holder.embeds.requires_grad
    kept = embeds.clone()
    embeds.zero_()
    holder.save_pretrained(tmp_path)
    loaded = PromptEmbedding.from_pretrained(tmp_path)
    assert loaded().shape == (1, 7, 8) and torch.equal(loaded().bfloat16(), kept)
    with pytest.raises(ValueError, match="`tokens` must hold positive integers, got 0"):
        PromptEmbedding(tokens=0)


def test_without_the_final_skip():
    """[Z24], Table 4, row C: the first level is not joined at the last one."""
    features = [torch.rand(1, channels, side, side) for channels, side in ((6, 4), (5, 8))]
    options = {"feature_channels": (6, 5), "reduced_channels": 4, "feature_sizes": (4, 8)}
    with_skip, without = (SDAmodalDecoder((4, 8), final_skip=joined, **options) for joined in (True, False))
    assert with_skip.unet.up_blocks[-1].conv[0].in_channels - without.unet.up_blocks[-1].conv[0].in_channels >= 4
    assert without(torch.ones(1, 1, 32, 32), features).logits.shape == (1, 2, 32, 32)
