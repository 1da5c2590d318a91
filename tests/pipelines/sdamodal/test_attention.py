"""Attention in blocks of queries: against torch's own, and where it is used at all."""

import threading

import pytest
import torch
from torch.nn import functional

from amodal_diffusion.pipelines.sdamodal import attention as _blocked_attention
from amodal_diffusion.pipelines.sdamodal.attention import blocked_attention, quick_attention
from diffusion_helpers import photo, tiny_components, tiny_extractor

CPU = torch.device("cpu")
NAMES = ("unet", "vae", "text_encoder")


@pytest.fixture
def calls(monkeypatch):
    """Shapes of the queries that `blocked_attention` had; used from 64 tokens on, in blocks of 48, on every CPU."""
    shapes = []

    def spy(query, *arguments, **keywords):
        shapes.append(tuple(query.shape))
        return blocked_attention(query, *arguments, **keywords)

    monkeypatch.setattr(_blocked_attention, "blocked_attention", spy)
    monkeypatch.setattr(_blocked_attention, "MIN_LENGTH", 64)
    monkeypatch.setattr(_blocked_attention, "BLOCK_LENGTH", 48)
    monkeypatch.setattr(_blocked_attention, "_blocks_are_faster", lambda: True)
    return shapes


def make_inputs(length=100, keys=None, dtype=torch.bfloat16, spread=1.0):
    """Query, key and value as processors hand them on: heads split off without a copy."""
    generator = torch.Generator().manual_seed(0)
    lengths = (length, keys or length, keys or length)
    made = [torch.randn(2, count, 3, 8, generator=generator) * spread for count in lengths]
    return [tensor.to(dtype).transpose(1, 2) for tensor in made]


def half_components():
    components = tiny_components()
    for name in NAMES:
        components[name].to(torch.bfloat16)
    return components


# The product


@pytest.mark.parametrize("block", [1, 48, 50, 100, 256])
@pytest.mark.parametrize("keys", [100, 7])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_equals_torch(monkeypatch, block, keys, scale):
    monkeypatch.setattr(_blocked_attention, "BLOCK_LENGTH", block)
    inputs = make_inputs(keys=keys, dtype=torch.float32)
    found = blocked_attention(*inputs, scale=scale)
    torch.testing.assert_close(found, functional.scaled_dot_product_attention(*inputs, scale=scale))
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


# Where it is used


def test_inside_of_the_block_alone(calls):
    inputs = make_inputs()
    expected = functional.scaled_dot_product_attention(*inputs)
    with quick_attention(CPU, torch.bfloat16):
        found = functional.scaled_dot_product_attention(*inputs)
        named = functional.scaled_dot_product_attention(
            query=inputs[0], key=inputs[1], value=inputs[2], attn_mask=None, dropout_p=0.0, is_causal=False, scale=None
        )
    assert calls == [(2, 3, 100, 8)] * 2
    assert torch.equal(found, named)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.01)
    functional.scaled_dot_product_attention(*inputs)
    assert len(calls) == 2


def test_ends_where_the_block_raises(calls):
    with pytest.raises(RuntimeError, match="broken"), quick_attention(CPU, torch.bfloat16):
        raise RuntimeError("broken")
    functional.scaled_dot_product_attention(*make_inputs())
    assert not calls


def test_other_threads_go_on_as_ever(calls):
    thread = threading.Thread(target=lambda: functional.scaled_dot_product_attention(*make_inputs()))
    with quick_attention(CPU, torch.bfloat16):
        thread.start()
        thread.join()
    assert not calls


OTHER_CALLS = {
    "short queries": (make_inputs(63, 100), {}),
    "short keys": (make_inputs(100, 63), {}),
    "float32": (make_inputs(dtype=torch.float32), {}),
    "float16": (make_inputs(dtype=torch.float16), {}),
    "mask": (make_inputs(), {"attn_mask": torch.ones(100, 100, dtype=torch.bool)}),
    "causal": (make_inputs(), {"is_causal": True}),
    "grouped": ([tensor[:, : 3 if index == 0 else 1] for index, tensor in enumerate(make_inputs())], {}),
    "no heads": ([tensor[:, 0] for tensor in make_inputs()], {}),
}
OTHER_CALLS["grouped"][1]["enable_gqa"] = True


@pytest.mark.parametrize("case", OTHER_CALLS)
def test_other_calls_are_torchs(calls, case):
    inputs, options = OTHER_CALLS[case]
    expected = functional.scaled_dot_product_attention(*inputs, **options)
    with quick_attention(CPU, torch.bfloat16):
        assert torch.equal(functional.scaled_dot_product_attention(*inputs, **options), expected)
    assert not calls


def test_dropout_and_gradients_are_torchs(calls):
    query, key, value = make_inputs()
    with quick_attention(CPU, torch.bfloat16):
        functional.scaled_dot_product_attention(query, key, value, dropout_p=0.5)
        assert functional.scaled_dot_product_attention(query.requires_grad_(), key, value).requires_grad
        assert not calls
        with torch.no_grad():
            functional.scaled_dot_product_attention(query, key, value)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("device", "dtype"), [("cpu", torch.float32), ("cpu", torch.float16), ("cuda", torch.bfloat16)]
)
def test_other_devices_and_dtypes_change_nothing(calls, device, dtype):
    with quick_attention(torch.device(device), dtype):
        functional.scaled_dot_product_attention(*make_inputs())
    assert not calls


@pytest.mark.parametrize(("avx512", "amx", "faster"), [(1, 0, True), (1, 1, False), (0, 0, False), (None, None, False)])
def test_which_processors(monkeypatch, avx512, amx, faster):
    for name, answer in (("_is_avx512_bf16_supported", avx512), ("_is_amx_tile_supported", amx)):
        if answer is None:  # a torch that cannot tell
            monkeypatch.delattr(torch.cpu, name, raising=False)
        else:
            monkeypatch.setattr(torch.cpu, name, lambda answer=answer: bool(answer), raising=False)
    monkeypatch.setattr(_blocked_attention, "MIN_LENGTH", 64)
    used = []
    monkeypatch.setattr(_blocked_attention, "blocked_attention", lambda *_, **__: used.append(1))
    with quick_attention(CPU, torch.bfloat16):
        functional.scaled_dot_product_attention(*make_inputs())
    assert bool(used) == faster


# In the extractor of features


def test_features_are_the_same_within_bfloat16(calls, monkeypatch):
    components = half_components()
    found = tiny_extractor(components)([photo()])[0]
    assert {(1, 1, 1024, 4), (2, 4, 1024, 1)} <= set(calls)  # of the VAE, of the U-Net
    assert all(length >= 64 for _, _, length, _ in calls)
    count = len(calls)
    monkeypatch.setattr(_blocked_attention, "_blocks_are_faster", lambda: False)
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


def test_processors_stay_and_later_calls_are_torchs(calls):
    components = half_components()
    unet = components["unet"]
    before = dict(unet.attn_processors)
    made = tiny_extractor(components)
    made([photo()])
    count = len(calls)
    assert count and all(unet.attn_processors[name] is processor for name, processor in before.items())
    with torch.no_grad():
        unet(torch.zeros(1, 4, 32, 32).bfloat16(), 1, encoder_hidden_states=torch.zeros(1, 7, 8).bfloat16())
    assert len(calls) == count

    def broken(*_):
        raise RuntimeError("broken block")

    handle = unet.up_blocks[3].register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="broken block"):
        made([photo()])
    handle.remove()
    count = len(calls)
    functional.scaled_dot_product_attention(*make_inputs())
    assert len(calls) == count


def test_a_users_own_processor_is_called(calls):
    components = half_components()
    ran = []

    class Own:
        def __call__(self, _attn, hidden_states, *_, **__):
            ran.append(hidden_states.shape[1])
            return hidden_states

    components["unet"].set_attn_processor(Own())
    made = tiny_extractor(components)
    made([photo()])
    assert 1024 in ran
    assert all(batch == 1 for batch, *_ in calls)  # the VAE's alone: the U-Net would have both draws at once
