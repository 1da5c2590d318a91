"""What fills a hole: the names of the fillers, what a caller asks for, and which one suits which hole."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...arguments.choices import check_choice
from ...masks import BoolArray, block_sums

FILLERS = ("auto", "blend", "exemplar", "smooth", "pcnet-c", "inpainter")
"""What can fill a hole.

- "auto": one of the others, by the size and the texture of the hole (`choose_filler`)
- "blend": low frequencies continued smoothly, or painted by PCNet-C, with the detail of what is copied
- "exemplar": pieces copied from what is seen, brought to the photo's colours near it
- "smooth": colours continued smoothly, without detail
- "pcnet-c": the network of the component `model` [Z20]
- "inpainter": the diffusers pipeline of the component `inpainter`
"""

COPYING = ("auto", "blend", "exemplar")
"""Those of them that may copy what is seen."""

_FEWEST = 64  # pixels to copy from; with fewer every copy would be seen to be one
_LEAST_SHARE = 0.05  # of the pixels to fill
_PLAIN, _PLAIN_GROUND = 1.5, 1.0  # of 255: mean difference of neighbours below which there is nothing to copy at all
_STEP = 3  # of 255: difference from which on it is one of texture
_GRAIN = 0.4  # share of such differences from which on an object has texture
_BLOCKS, _PATTERN = (2, 4), 0.5  # likewise of blocks of so many pixels: stripes are plain but for their edges
_MOST_LINES = 500  # rows or columns of the photo that are looked at


def check_filler(name: str, value: Any, *, model: bool, inpainter: bool) -> str:
    """`value` where it is a filler whose component is there.

    Args:
        name: of the argument, for errors.
        value: one of `FILLERS`.
        model: whether the pipeline has PCNet-C.
        inpainter: whether it has an inpainter.

    Raises:
        ValueError: naming the argument.

    Example:
        >>> check_filler("filler", "blend", model=False, inpainter=False)
        'blend'
        >>> check_filler("filler", "pcnet-c", model=False, inpainter=False)
        Traceback (most recent call last):
            ...
        ValueError: `filler` 'pcnet-c' needs the component `model`, which this pipeline does not have.
    """
    check_choice(name, value, FILLERS)
    for filler, component, there in (("pcnet-c", "model", model), ("inpainter", "inpainter", inpainter)):
        if value == filler and not there:
            raise ValueError(
                f"`{name}` {value!r} needs the component `{component}`, which this pipeline does not have."
            )
    return str(value)


def read_fillers(filler: Any, default: str, names: Sequence[str | None], **components: bool) -> list[str]:
    """One filler for each object.

    Args:
        filler: one for all; a list with one each, None for the default; a mapping from numbers or names of objects to
            theirs; None for the default.
        default: of objects without.
        names: of the objects, None for one without.
        components: see `check_filler`.

    Raises:
        TypeError, ValueError: naming `filler`.

    Example:
        >>> read_fillers({"cup": "smooth", 0: "exemplar"}, "blend", ["a", "cup", "b"], model=False, inpainter=False)
        ['exemplar', 'smooth', 'blend']
    """
    count = len(names)
    if filler is None or isinstance(filler, str):
        chosen: list[Any] = [filler] * count
    elif isinstance(filler, Mapping):
        chosen = [None] * count
        for key, value in filler.items():
            if isinstance(key, int | np.integer) and not isinstance(key, bool):
                places = [int(key)] if 0 <= key < count else []
            else:
                places = [index for index, name in enumerate(names) if name == key]
            if not places:
                raise ValueError(f"`filler` names {key!r}, which is no number and no name of the {count} objects.")
            for place in places:
                chosen[place] = value
    elif isinstance(filler, Sequence | np.ndarray):
        chosen = list(filler)
        if len(chosen) != count:
            raise ValueError(f"`filler` must have one entry for each of the {count} objects, got {len(chosen)}.")
    else:
        raise TypeError(f"`filler` must be a text, a list or a dictionary, got {type(filler).__name__}.")
    return [check_filler("filler", default if value is None else value, **components) for value in chosen]


def choose_filler(
    photo: npt.NDArray[np.uint8], hole: BoolArray, usable: BoolArray, network: str | None, textured: str = "blend"
) -> str:
    """The filler that suits a hole.

    Detail is copied where there is enough to copy from and it has texture. With next to nothing to copy from, a network
    paints, where there is one; without texture, colours go on smoothly. An object with a few sharp highlights or folds
    has no texture: copies of these would be seen. In a background few edges are enough, which copies continue.

    Args:
        photo: (H, W, 3) uint8.
        hole: (H, W) bool.
        usable: (H, W) bool, the pixels that may be copied.
        network: the filler of the pipeline's network, or None.
        textured: the filler of holes with enough texture to copy: "blend" suits objects, whose colours mostly go on,
            "exemplar" backgrounds, where several things may lie side by side.

    Returns:
        `textured`, "smooth", or `network`.

    Example:
        >>> photo, hole = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8), np.zeros((32, 32), bool)
        >>> hole[10:20, 10:20] = True
        >>> choose_filler(photo, hole, ~hole, None), choose_filler(photo, hole, hole & ~hole, "pcnet-c")
        ('blend', 'pcnet-c')
        >>> choose_filler(np.zeros_like(photo), hole, ~hole, None)
        'smooth'
    """
    count = np.count_nonzero(usable)
    if count < max(_FEWEST, _LEAST_SHARE * np.count_nonzero(hole)):
        return network or "smooth"
    grey = photo[..., 1]
    steps = np.concatenate(_steps(grey, usable))
    plain = _PLAIN if textured == "blend" else _PLAIN_GROUND
    if not len(steps) or steps.mean() < plain or (textured == "blend" and not _has_texture(grey, usable)):
        return "smooth"
    return textured


def _has_texture(grey: npt.NDArray[np.uint8], usable: BoolArray) -> bool:
    """Much of what may be copied is rough, in rows or in columns, or has a pattern that is larger than a pixel or two.

    Shares count, not means: these follow a few sharp edges. Of blocks it is the change of the slope, which shading does
    not have.
    """
    if max(_share(steps) for steps in _steps(grey, usable)) >= _GRAIN:
        return True
    for size in _BLOCKS:
        means = (block_sums(grey, size) / size**2).astype(np.float32)
        if max(_share(bends) for bends in _bends(means, block_sums(usable, size) == size**2)) >= _PATTERN:
            return True
    return False


def _share(differences: npt.NDArray[Any]) -> float:
    return float((differences >= _STEP).mean()) if len(differences) else 0.0


def _lines(plane: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Some columns as (H, k), and some rows as (W, l)."""
    for lines in (plane, plane.T):
        yield lines[:, :: -(-lines.shape[1] // _MOST_LINES) or 1]


def _steps(grey: npt.NDArray[np.uint8], usable: BoolArray) -> list[npt.NDArray[np.int16]]:
    """Differences of neighbours, down and across."""
    pairs = zip(_lines(grey), _lines(usable), strict=True)
    return [np.abs(np.diff(values.astype(np.int16), axis=0))[there[1:] & there[:-1]] for values, there in pairs]


def _bends(blocks: npt.NDArray[np.float32], usable: BoolArray) -> list[npt.NDArray[np.float32]]:
    """Half the change of the slope at each block, down and across."""
    pairs = zip(_lines(blocks), _lines(usable), strict=True)
    return [
        np.abs((values[2:] + values[:-2]) / 2 - values[1:-1])[there[2:] & there[1:-1] & there[:-2]]
        for values, there in pairs
    ]
