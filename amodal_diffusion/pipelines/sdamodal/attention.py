"""Self-attention in blocks of queries, which is faster than torch's own on some CPUs in bfloat16."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from ...runtimes import processor_units

MIN_LENGTH = 2048  # shorter sequences take as long either way
BLOCK_LENGTH = 256  # queries: their scores against 10,000 keys stay in the cache of a CPU


class BlockedAttnProcessor(AttnProcessor2_0):
    """An attention processor of diffusers that computes long self-attention with `blocked_attention`.

    Everything else (text, masks, norms inside the attention, gradients, other dtypes) it leaves to `AttnProcessor2_0`.

    Args:
        replaced: the processor that it stands in for, which `quick_attention` puts back.

    Example:
        >>> layer = Attention(8, heads=2, dim_head=4, processor=BlockedAttnProcessor(AttnProcessor2_0()))
        >>> layer(torch.zeros(1, 16, 8)).shape
        torch.Size([1, 16, 8])
    """

    def __init__(self, replaced: AttnProcessor2_0) -> None:
        super().__init__()
        self.replaced = replaced

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """(B, N, C) -> (B, N, C), as any processor."""
        extras = (encoder_hidden_states, attention_mask, attn.spatial_norm, attn.group_norm, attn.norm_q, attn.norm_k)
        plain = all(extra is None for extra in extras) and not attn.residual_connection
        long = hidden_states.ndim == 3 and hidden_states.shape[1] >= MIN_LENGTH
        # A compiled network would unroll the loop over the blocks.
        usable = not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if not (plain and long and usable and hidden_states.dtype == torch.bfloat16):
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb, *args, **kwargs)
        query, key, value = (
            layer(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # [B, heads, N, C / heads]
            for layer in (attn.to_q, attn.to_k, attn.to_v)
        )
        hidden_states = attn.to_out[0](blocked_attention(query, key, value).transpose(1, 2).flatten(2))
        return attn.to_out[1](hidden_states) / attn.rescale_output_factor


@contextmanager
def quick_attention(unet: Any) -> Iterator[None]:
    """Inside the block, long self-attention of a U-Net is computed in blocks of queries where that is faster.

    That is on a CPU with the bfloat16 instructions of AVX-512 but not those of AMX, for which torch's kernel is made.
    Only `AttnProcessor2_0`, the default, is replaced; a user's own processors stay. Another thread that uses the U-Net
    meanwhile gets the same results within rounding, in whichever order the two threads end.

    Args:
        unet: `UNet2DConditionModel`.

    Example:
        >>> from diffusers import UNet2DConditionModel
        >>> unet = UNet2DConditionModel(
        ...     block_out_channels=(8, 8), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), layers_per_block=1,
        ...     up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), norm_num_groups=4, cross_attention_dim=8,
        ...     attention_head_dim=4,
        ... )
        >>> before = unet.attn_processors
        >>> with quick_attention(unet):
        ...     pass  # encode photos here
        >>> unet.attn_processors == before
        True
    """
    if unet.device.type != "cpu" or unet.dtype != torch.bfloat16 or not _blocks_are_faster():
        yield
        return
    _replace(unet, AttnProcessor2_0, BlockedAttnProcessor)
    try:
        yield
    finally:
        _replace(unet, BlockedAttnProcessor, lambda processor: processor.replaced)


def _replace(unet: Any, kind: type, other: Callable[[Any], Any]) -> None:
    """Replace the attention processors that are exactly of one class."""
    processors = unet.attn_processors
    unet.set_attn_processor({name: other(own) if type(own) is kind else own for name, own in processors.items()})


def blocked_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention without masks, dropout and gradients, one head and `BLOCK_LENGTH` queries at a time.

    Args:
        query: (B, H, N, D), in float32 or a half precision.
        key: (B, H, M, D).
        value: (B, H, M, E).

    Returns:
        (B, H, N, E), rounded to the dtype of the inputs: the scores once more than in torch's kernel. In memory it is
        laid out as (B, N, H, E), so that joining the heads copies nothing.

    Example:
        >>> query, key, value = torch.randn(3, 1, 2, 300, 8)
        >>> expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        >>> torch.allclose(blocked_attention(query, key, value), expected, atol=1e-5)
        True
    """
    images, heads, length, width = query.shape
    result = query.new_empty(images, length, heads, value.shape[-1]).transpose(1, 2)
    scores = query.new_empty(min(BLOCK_LENGTH, length), key.shape[2])
    for image in range(images):
        for head in range(heads):
            queries, values = query[image, head] * width**-0.5, value[image, head].contiguous()
            keys = key[image, head].contiguous().T  # [D, M]
            for start in range(0, length, BLOCK_LENGTH):
                part = queries[start : start + BLOCK_LENGTH]
                block = torch.mm(part, keys, out=scores[: len(part)])
                torch.softmax(block, dim=-1, out=block)  # in place: a second block would push the first from the cache
                result[image, head, start : start + BLOCK_LENGTH] = block @ values
    return result


def _blocks_are_faster() -> bool:
    """Whether the bfloat16 instructions are those of AVX-512 and not those of AMX; False where nothing tells."""
    units = processor_units()
    return "avx512_bf16" in units and "amx_bf16" not in units
