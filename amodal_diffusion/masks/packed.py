"""Masks of 64 pixels a word: counting overlaps and joining masks without floats, an eighth of the memory of bool."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_CHUNK_WORDS = 2**21


class PackedMasks:
    """A stack of masks with its words, areas and neighbours, each computed when it is first asked for, and once.

    Args:
        stack: (N, H, W) bool; it must not change afterwards.

    Example:
        >>> masks = np.zeros((2, 4, 70), bool)
        >>> masks[0, :, :10] = masks[1, :, 10:15] = True
        >>> packed = PackedMasks(masks)
        >>> packed.words.shape, packed.areas, packed.neighbours[0, 1]
        ((2, 4, 2), array([40, 20]), np.True_)
    """

    def __init__(self, stack: BoolArray) -> None:
        self.stack = stack

    def __len__(self) -> int:
        return len(self.stack)

    @cached_property
    def words(self) -> Words:
        """(N, H, ceil(W / 64)), see `pack`."""
        return pack(self.stack)

    @cached_property
    def areas(self) -> IntArray:
        """(N,) int64, pixels of each mask."""
        return areas(self.words)

    @cached_property
    def boxes(self) -> IntArray:
        """(N, 4) (x, y, w, h), see `boxes`."""
        return boxes(self.words, self.stack.shape[2])

    @cached_property
    def neighbours(self) -> BoolArray:
        """(N, N) bool, symmetric: the masks touch after one dilation by the 3x3 cross; False on the diagonal."""
        touching = overlaps(dilate_by_cross(self.words), self.words) > 0
        np.fill_diagonal(touching, False)
        return touching

    def unions(self, chosen: BoolArray) -> Words:
        """(K, H, ceil(W / 64)) words, the union of the masks that each row of `chosen` (K, N) names."""
        return unions(self.words, chosen)


def pack(masks: BoolArray) -> Words:
    """Pack (N, H, W) bool into (N, H, ceil(W / 64)) words, pixel x in bit x % 64; the bits beyond W are 0.

    Example:
        >>> pack(np.ones((2, 4, 70), dtype=bool)).shape
        (2, 4, 2)
    """
    count, height, width = masks.shape
    if width % 64 == 0:  # rows are whole words, so all can be packed in one go, which is faster
        return np.packbits(masks, bitorder="little").view("<u8").reshape(count, height, width // 64)
    padded = np.zeros((count, height, -(-width // 64) * 8), dtype=np.uint8)
    padded[:, :, : -(-width // 8)] = np.packbits(masks, axis=2, bitorder="little")
    return padded.view("<u8")


def unpack(words: Words, width: int) -> BoolArray:
    """Undo `pack`: words of masks of the given width to (N, H, W) bool.

    Example:
        >>> masks = np.eye(3, dtype=bool)[None]
        >>> bool((unpack(pack(masks), width=3) == masks).all())
        True
    """
    return np.unpackbits(words.view(np.uint8), axis=-1, count=width, bitorder="little").view(np.bool_)


def areas(words: Words) -> IntArray:
    """Count the pixels of each of N masks: (N,).

    Example:
        >>> areas(pack(np.ones((2, 4, 70), dtype=bool)))
        array([280, 280])
    """
    return np.bitwise_count(words).sum(axis=(1, 2), dtype=np.int64)


def boxes(words: Words, width: int) -> IntArray:
    """The tight box of each of N masks of the given width: (N, 4) (x, y, w, h), zeros for an empty mask.

    Example:
        >>> boxes(pack(np.array([[[0, 0, 0, 0], [0, 1, 1, 1]]], dtype=bool)), width=4)
        array([[1, 1, 3, 1]])
    """
    found = np.zeros((len(words), 4), np.int64)
    if words.size:
        rows, columns = np.logical_or.reduce(words, axis=2), unpack(np.bitwise_or.reduce(words, axis=1), width)
        for axis, lines in enumerate((columns, rows)):
            found[:, axis] = lines.argmax(axis=1)
            found[:, axis + 2] = lines.shape[1] - lines[:, ::-1].argmax(axis=1) - found[:, axis]
        found[~rows.any(axis=1)] = 0
    return found


def overlaps(first: Words, second: Words) -> IntArray:
    """Count the pixels that each of N masks shares with each of M: (N, M). Pairs that are far apart cost nothing.

    Example:
        >>> masks = np.array([[[1, 1, 0]], [[0, 1, 1]]], dtype=bool)
        >>> overlaps(pack(masks), pack(masks))
        array([[2, 1],
               [1, 2]])
    """
    counts = np.zeros((len(first), len(second)), dtype=np.int64)
    pairs = np.argwhere(_extents_meet(first, second, 2) & _extents_meet(first, second, 1))
    for part in _parts(len(pairs), first[0].size if len(first) else 1):
        i, j = pairs[part].T
        counts[i, j] = areas(first[i] & second[j])
    return counts


def unions(words: Words, chosen: BoolArray) -> Words:
    """Join the masks that each row of `chosen` (K, N) selects: (K, H, words).

    Example:
        >>> words = pack(np.array([[[1, 0, 0]], [[0, 0, 1]]], dtype=bool))
        >>> unpack(unions(words, np.array([[True, True]])), width=3).astype(int)
        array([[[1, 0, 1]]])
    """
    joined = np.zeros((len(chosen), *words.shape[1:]), dtype=np.uint64)
    for part in _parts(len(chosen), words.size):
        members = np.where(chosen[part, :, None, None], words, np.uint64(0))
        joined[part] = np.bitwise_or.reduce(members, axis=1)
    return joined


def dilate_by_cross(words: Words) -> Words:
    """Dilate by the 3x3 cross; this may set bits in the column to the right of the last one.

    Example:
        >>> words = pack(np.array([[[0, 1, 0, 0]]], dtype=bool))
        >>> unpack(dilate_by_cross(words), width=4).astype(int)
        array([[[1, 1, 1, 0]]])
    """
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
