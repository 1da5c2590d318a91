"""Masks of 64 pixels a word: counting overlaps and joining masks without floats, an eighth of the memory of bool."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_CHUNK_WORDS = 2**21


def pack(masks: BoolArray) -> Words:
    """(N, H, W) bool to (N, H, ceil(W / 64)) words, pixel x in bit x % 64; the bits beyond W are 0."""
    count, height, width = masks.shape
    if width % 64 == 0:  # rows are whole words, so all can be packed in one go, which is faster
        return np.packbits(masks, bitorder="little").view("<u8").reshape(count, height, width // 64)
    padded = np.zeros((count, height, -(-width // 64) * 8), dtype=np.uint8)
    padded[:, :, : -(-width // 8)] = np.packbits(masks, axis=2, bitorder="little")
    return padded.view("<u8")


def unpack(words: Words, width: int) -> BoolArray:
    """The opposite of `pack`."""
    return np.unpackbits(words.view(np.uint8), axis=-1, count=width, bitorder="little").view(np.bool_)


def areas(words: Words) -> IntArray:
    """Pixels of each of N masks: (N,)."""
    return np.bitwise_count(words).sum(axis=(1, 2), dtype=np.int64)


def overlaps(first: Words, second: Words) -> IntArray:
    """Pixels common to each of N and each of M masks: (N, M). Pairs whose boxes are apart cost nothing."""
    counts = np.zeros((len(first), len(second)), dtype=np.int64)
    pairs = np.argwhere(_extents_meet(first, second, 2) & _extents_meet(first, second, 1))
    for part in _parts(len(pairs), first[0].size if len(first) else 1):
        i, j = pairs[part].T
        counts[i, j] = areas(first[i] & second[j])
    return counts


def unions(words: Words, chosen: BoolArray) -> Words:
    """Union of the masks that each row of `chosen` (K, N) names: (K, H, words)."""
    joined = np.zeros((len(chosen), *words.shape[1:]), dtype=np.uint64)
    for part in _parts(len(chosen), words.size):
        members = np.where(chosen[part, :, None, None], words, np.uint64(0))
        joined[part] = np.bitwise_or.reduce(members, axis=1)
    return joined


def dilate_by_cross(words: Words) -> Words:
    """Dilate by the 3x3 cross; bits may be set in the column right of the last one."""
    out = words | (words << np.uint64(1)) | (words >> np.uint64(1))
    out[:, :, 1:] |= words[:, :, :-1] >> np.uint64(63)
    out[:, :, :-1] |= words[:, :, 1:] << np.uint64(63)
    out[:, 1:] |= words[:, :-1]
    out[:, :-1] |= words[:, 1:]
    return out


def _extents_meet(first: Words, second: Words, axis: int) -> BoolArray:
    """Which pairs share a row (axis 2) or a word of columns (axis 1): (N, M)."""
    a, b = (np.logical_or.reduce(words, axis=axis).astype(np.float32) for words in (first, second))
    return a @ b.T > 0


def _parts(count: int, words: int) -> Iterator[slice]:
    step = max(1, _CHUNK_WORDS // max(1, words))
    return (slice(start, start + step) for start in range(0, count, step))
