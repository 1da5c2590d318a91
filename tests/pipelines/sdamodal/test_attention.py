"""Attention in blocks of queries: against torch's own, and where it is used at all."""

import threading

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch.nn import functional

from amodal_diffusion.pipelines.sdamodal import attention
from amodal_diffusion.pipelines.sdamodal.attention import BlockedAttnProcessor, blocked_attention, quick_attention
from diffusion_helpers import photo, tiny_components, tiny_extractor, tiny_unet


@pytest.fixture
def calls(monkeypatch):
    """Shapes of the queries that `blocked_attention` had; used from 64 tokens on, in blocks of 48, on every CPU."""
    shapes = []

    def spy(query, *arguments):
        shapes.append(tuple(query.shape))
        return blocked_attention(query, *arguments)

    monkeypatch.setattr(attention, "blocked_attention", spy)
    monkeypatch.setattr(attention, "MIN_LENGTH", 64)
    monkeypatch.setattr(attention, "BLOCK_LENGTH", 48)
    monkeypatch.setattr(attention, "_blocks_are_faster", lambda: True)
    return shapes


def make_inputs(length=100, keys=None, dtype=torch.bfloat16, spread=1.0):
    """Query, key and value as processors hand them on: heads split off without a copy."""
    generator = torch.Generator().manual_seed(0)
    lengths = (length, keys or length, keys or length)
    made = [torch.randn(2, count, 3, 8, generator=generator) * spread for count in lengths]
    return [tensor.to(dtype).transpose(1, 2) for tensor in made]


# The product


@pytest.mark.parametrize("block", [1, 48, 50, 100, 256])
@pytest.mark.parametrize("keys", [100, 7])
def test_equals_torch(monkeypatch, block, keys):
    monkeypatch.setattr(attention, "BLOCK_LENGTH", block)
    inputs = make_inputs(keys=keys, dtype=torch.float32)
    found = blocked_attention(*inputs)
    torch.testing.assert_close(found, functional.scaled_dot_product_attention(*inputs))
    assert found.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])  # from equal weights to a few keys for each query
def test_half_precision_errs_by_its_rounding_alone(spread):
    inputs = make_inputs(300, spread=spread)
    exact = functional.scaled_dot_product_attention(*(tensor.double() for tensor in inputs))
    error = (blocked_attention(*inputs).double() - exact).norm() / exact.norm()
    assert error < 0.03


def test_large_scores_do_not_overflow():
    query, key, value = make_inputs(spread=100.0)
    assert blocked_attention(query, key, value).isfinite().all()


# The processor


def tokens(length=100, dtype=torch.bfloat16):
    return torch.randn(2, length, 8, generator=torch.Generator().manual_seed(1)).to(dtype)


ATTENTIONS = {
    "plain": (True, {}, {}),
    "rescaled": (True, {"rescale_output_factor": 2.0}, {}),
    "short": (False, {}, {"hidden_states": tokens(63)}),
    "float32": (False, {}, {"hidden_states": tokens(dtype=torch.float32)}),
    "text": (False, {}, {"encoder_hidden_states": tokens(70)}),
    "mask": (False, {}, {"attention_mask": torch.zeros(2, 1, 100, dtype=torch.bfloat16)}),
    "residual": (False, {"residual_connection": True}, {}),
    "normed": (False, {"norm_num_groups": 2}, {}),
    "normed queries": (False, {"qk_norm": "layer_norm"}, {}),
    "map": (False, {}, {"hidden_states": tokens(64).transpose(1, 2).unflatten(2, (8, 8))}),
}


@pytest.mark.parametrize("case", ATTENTIONS)
def test_processor_equals_the_one_that_it_replaces(calls, case):
    blocked, config, inputs = ATTENTIONS[case]
    inputs = {"hidden_states": tokens(), **inputs}
    torch.manual_seed(0)
    layer = Attention(8, heads=2, dim_head=4, **config, processor=AttnProcessor2_0()).to(inputs["hidden_states"].dtype)
    with torch.no_grad():
        expected = layer(**inputs)
        layer.set_processor(BlockedAttnProcessor(layer.processor))
        found = layer(**inputs)
    assert bool(calls) == blocked
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.02 if blocked else 0)


def test_processor_leaves_gradients_to_torch(calls):
    layer = Attention(8, heads=2, dim_head=4, processor=BlockedAttnProcessor(AttnProcessor2_0())).bfloat16()
    assert layer(tokens()).requires_grad
    assert not calls


# Where it is used


def kinds(unet):
    return {type(processor) for processor in unet.attn_processors.values()}


def test_sets_processors_inside_of_the_block_alone(calls):
    unet = tiny_unet().to(torch.bfloat16)
    before = dict(unet.attn_processors)
    with pytest.raises(RuntimeError, match="broken"), quick_attention(unet):
        assert kinds(unet) == {BlockedAttnProcessor}
        raise RuntimeError("broken")
    assert dict(unet.attn_processors) == before


def test_a_users_own_processor_stays(calls):
    unet = tiny_unet().to(torch.bfloat16)

    class Own(AttnProcessor2_0):
        pass

    own = Own()
    unet.set_attn_processor(own)
    with quick_attention(unet):
        assert all(processor is own for processor in unet.attn_processors.values())


def test_two_threads_leave_the_processors_as_they_were(calls):
    unet = tiny_unet().to(torch.bfloat16)
    before = dict(unet.attn_processors)
    first, second = threading.Event(), threading.Event()

    def other():
        with quick_attention(unet):
            first.set()
            second.wait()

    thread = threading.Thread(target=other)
    with quick_attention(unet):
        thread.start()
        first.wait()
    second.set()  # the thread that began later ends later
    thread.join()
    assert dict(unet.attn_processors) == before


@pytest.mark.parametrize(
    ("device", "dtype"), [("cpu", torch.float32), ("cpu", torch.float16), ("meta", torch.bfloat16)]
)
def test_other_devices_and_dtypes_change_nothing(calls, device, dtype):
    unet = tiny_unet().to(device, dtype)
    with quick_attention(unet):
        assert kinds(unet) == {AttnProcessor2_0}


@pytest.mark.parametrize(("avx512", "amx", "faster"), [(1, 0, True), (1, 1, False), (0, 0, False), (1, None, True)])
def test_which_processors(monkeypatch, avx512, amx, faster):
    found = {"avx2": True, "avx512_bf16": bool(avx512), "amx_bf16": bool(amx)}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    unet = tiny_unet().to(torch.bfloat16)
    with quick_attention(unet):
        assert (kinds(unet) == {BlockedAttnProcessor}) == faster


# In the extractor of features


def half_components():
    components = tiny_components()
    for name in ("unet", "vae", "text_encoder"):
        components[name].to(torch.bfloat16)
    return components


def test_features_are_the_same_within_bfloat16(calls, monkeypatch):
    components = half_components()
    before = dict(components["unet"].attn_processors)
    found = tiny_extractor(components)([photo()])[0]
    assert (2, 4, 1024, 1) in calls and all(length >= 64 for _, _, length, _ in calls)
    assert dict(components["unet"].attn_processors) == before
    count = len(calls)
    monkeypatch.setattr(attention, "_blocks_are_faster", lambda: False)
    plain = tiny_extractor(components)([photo()])[0]
    assert len(calls) == count
    exact = tiny_extractor()([photo()])[0]
    for one, other, true in zip(found.maps, plain.maps, exact.maps, strict=True):
        size = true.norm()
        assert (one.float() - other.float()).norm() < 0.03 * size
        assert (one.float() - true).norm() < 1.2 * (other.float() - true).norm() + 0.002 * size


def test_float32_features_are_untouched(calls):
    tiny_extractor()([photo()])
    assert not calls
