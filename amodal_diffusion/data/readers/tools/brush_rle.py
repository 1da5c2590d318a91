"""The run lengths in which Label Studio keeps the masks of its brush: bits of RGBA pixels, row by row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..records import checked_size

_CHANNELS = 4
_WORD = 8
_LENGTH_BITS = (3, 4, 8, 16)
"""A run is written with the shortest of these numbers of bits that hold its length minus one."""
_LONGEST = 1 << _LENGTH_BITS[-1]


def encode_brush_rle(mask: npt.ArrayLike) -> list[int]:
    """Encode an (H, W) mask (nonzero is the object) as the bytes under `rle` of a Label Studio result.

    Raises:
        ValueError: for an array that is not (H, W), or is empty.

    Example:
        >>> encode_brush_rle([[0, 1]])
        [0, 0, 0, 8, 57, 27, 252, 96, 17, 255, 128]
    """
    array = np.asarray(mask)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"`mask` must have shape (height, width), got {array.shape}")
    flat = array.reshape(-1) != 0
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    lengths = _CHANNELS * np.diff(np.append(starts, flat.size))
    bits = [f"{_CHANNELS * flat.size:032b}{_WORD - 1:05b}", *(f"{size - 1:04b}" for size in _LENGTH_BITS)]
    for value, length in zip(flat[starts].tolist(), lengths.tolist(), strict=True):
        word = f"{255 if value else 0:0{_WORD}b}"
        full, rest = divmod(length, _LONGEST)
        bits += full * [_run(_LONGEST, word)]
        if rest:
            bits.append(_run(rest, word))
    text = "".join(bits)
    return list(int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big"))


def _run(length: int, word: str) -> str:
    index = next(index for index, size in enumerate(_LENGTH_BITS) if length <= 1 << size)
    return f"1{index:02b}{length - 1:0{_LENGTH_BITS[index]}b}{word}"


def decode_brush_rle(rle: Sequence[int], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Decode the bytes under `rle` of a Label Studio result to an (H, W) bool mask.

    The object is where the alpha channel is at least half.

    Args:
        rle: bytes as numbers from 0 to 255.
        height: of the photo, `original_height` of the result.
        width: of the photo, `original_width` of the result.

    Raises:
        ValueError: numbers that are no bytes, a code that ends early, or that is of another number of pixels.

    Example:
        >>> decode_brush_rle([0, 0, 0, 8, 57, 27, 252, 96, 17, 255, 128], 1, 2)
        array([[False,  True]])
    """
    checked_size(height, width)
    try:
        content = bytes(rle)
    except (TypeError, ValueError) as error:
        raise ValueError(f"rle must be a list of bytes (0 to 255): {error}") from error
    bits = _Bits(content)
    count, word = bits.read(32), bits.read(5) + 1
    sizes = [bits.read(4) + 1 for _ in range(4)]
    if count != _CHANNELS * height * width:
        raise ValueError(f"rle is of {count} values, {height} x {width} RGBA pixels have {_CHANNELS * height * width}")
    if word != _WORD:
        raise ValueError(f"rle has words of {word} bits, must be {_WORD}")
    values = np.zeros(count, dtype=np.uint8)
    place = 0
    while place < count:
        repeats = bits.read(1)
        end = place + 1 + bits.read(sizes[bits.read(2)])
        if end > count:
            raise ValueError(f"rle has a run that ends at value {end} of {count}")
        if repeats:
            values[place:end] = bits.read(word)
        else:
            values[place:end] = bits.read_words(end - place)
        place = end
    return values.reshape(height, width, _CHANNELS)[:, :, 3] >= 128


class _Bits:
    """Reads numbers of any width from bytes, most significant bit first."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 0

    def read(self, count: int) -> int:
        first, last = self.place // 8, -(-(self.place + count) // 8)
        if last > len(self.content):
            raise ValueError("rle ends in the middle of a run")
        self.place += count
        number = int.from_bytes(self.content[first:last], "big")
        return (number >> (8 * last - self.place)) & ((1 << count) - 1)

    def read_words(self, count: int) -> npt.NDArray[np.uint8]:
        """`count` words of 8 bits."""
        return np.frombuffer(self.read(_WORD * count).to_bytes(count, "big"), dtype=np.uint8)
