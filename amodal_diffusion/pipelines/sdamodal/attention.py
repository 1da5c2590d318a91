"""Self-attention in blocks of queries, which takes less time than torch's own where a CPU computes in bfloat16."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

MIN_LENGTH = 2048  # shorter sequences take as long either way
BLOCK_LENGTH = 256  # queries: their scores against 10,000 keys stay in the cache of a CPU


def quick_attention(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    """Inside of the block `scaled_dot_product_attention` is `blocked_attention` where that takes less time.

    That is on a CPU whose bfloat16 instructions are those of AVX-512, for long sequences. There torch's kernel, which
    is made for AMX, is slower than the same in float32. Everywhere else nothing changes.

    No module is touched: networks may be shared, processors of attention may be the user's own, and other threads go
    on as ever.

    Args:
        device: where the network computes.
        dtype: it computes in.
    """
    if device.type == "cpu" and dtype == torch.bfloat16 and _blocks_are_faster():
        return _BlockedAttentionMode()
    return contextlib.nullcontext()


def blocked_attention(query: Tensor, key: Tensor, value: Tensor, scale: float | None = None) -> Tensor:
    """Attention without masks, dropout and gradients, as products of matrices of one head and some queries.

    Args:
        query: (B, H, N, D), in float32 or a half precision.
        key: (B, H, M, D).
        value: (B, H, M, E).
        scale: of the scores; None takes 1 / sqrt(D).

    Returns:
        (B, H, N, E), rounded as the inputs are: the scores once more than in torch's kernel. In memory it is laid out
        as (B, N, H, E), so that joining the heads copies nothing.
    """
    images, heads, length, width = query.shape
    scale = width**-0.5 if scale is None else scale
    result = query.new_empty(images, length, heads, value.shape[-1]).transpose(1, 2)
    scores = query.new_empty(min(BLOCK_LENGTH, length), key.shape[2])
    for image in range(images):
        for head in range(heads):
            queries, values = query[image, head] * scale, value[image, head].contiguous()
            keys = key[image, head].contiguous().T  # [D, M]
            for start in range(0, length, BLOCK_LENGTH):
                part = queries[start : start + BLOCK_LENGTH]
                block = torch.mm(part, keys, out=scores[: len(part)])
                torch.softmax(block, dim=-1, out=block)  # in place: a second block would push the first from the cache
                result[image, head, start : start + BLOCK_LENGTH] = block @ values
    return result


class _BlockedAttentionMode(TorchFunctionMode):
    """Of this thread alone, until the block ends."""

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # A compiled network would unroll the loop over the blocks.
        if func is functional.scaled_dot_product_attention and not torch.compiler.is_compiling():
            found = _in_blocks(*args, **kwargs)
            if found is not None:
                return found
        return func(*args, **kwargs)


def _in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    """`scaled_dot_product_attention` of long sequences; None for calls that `blocked_attention` is not meant for."""
    plain = attn_mask is None and not dropout_p and not is_causal and not enable_gqa
    tracked = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value))
    fits = query.ndim == 4 and query.dtype == torch.bfloat16 and query.device.type == "cpu"
    if plain and not tracked and fits and min(query.shape[2], key.shape[2]) >= MIN_LENGTH:
        return blocked_attention(query, key, value, scale=scale)
    return None


def _blocks_are_faster() -> bool:
    """Whether bfloat16 instructions are those of AVX-512 and not those of AMX; False where torch cannot tell."""
    tests = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    avx512, amx = (test is not None and bool(test()) for test in tests)
    return avx512 and not amx
