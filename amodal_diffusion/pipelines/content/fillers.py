"""What fills a hole: the names of the fillers, what a caller asks for, and which one suits which hole."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...masks import BoolArray
from ..inputs import check_choice

FILLERS = ("auto", "blend", "exemplar", "smooth", "pcnet-c", "inpainter")
"""What can fill a hole.

- "auto": one of the others, by the size and the texture of the hole (`choose_filler`)
- "blend": low frequencies continued smoothly, or painted by PCNet-C, with the detail of what is copied
- "exemplar": pieces copied from what is seen, brought to the photo's colours near it
- "smooth": colours continued smoothly, without detail
- "pcnet-c": the network of the component `model` [Z20]
- "inpainter": the diffusers pipeline of the component `inpainter`
"""

_FEWEST = 64  # pixels to copy from; with fewer every copy would be seen to be one
_LEAST_SHARE = 0.05  # of the pixels to fill
_PLAIN = 1.5  # of 255: mean difference of neighbours below which there is no texture to copy


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
    paints, where there is one; without texture, colours go on smoothly.

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
    count = int(usable.sum())
    if count < max(_FEWEST, _LEAST_SHARE * hole.sum()):
        return network or "smooth"
    pairs = usable[:, 1:] & usable[:, :-1]
    grey = photo[..., 1].astype(np.int16)
    if not pairs.any() or np.abs(grey[:, 1:] - grey[:, :-1])[pairs].mean() < _PLAIN:
        return "smooth"
    return textured
