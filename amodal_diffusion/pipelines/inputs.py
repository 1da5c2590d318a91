"""The arguments of a mask pipeline's call, checked and brought to one form."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from ..crops import crop_masks
from ..display import short_repr
from ..images import load_image
from ..masks import BoolArray, IntArray, PackedMasks, tensor_to_array, to_mask_stack
from ..masks.packed import boxes as boxes_of
from ..masks.packed import unpack
from ..ordering import check_order

_UNPACKED_PIXELS = 2**26
"""Of unions that are unpacked at a time: bounds memory, not results."""


class SceneMasks(PackedMasks):
    """The masks of a photo in one call, which are packed once, and brought to the device once.

    Example:
        >>> masks = SceneMasks(np.ones((2, 3, 5), bool))
        >>> masks.tensor(torch.device("cpu")).shape, masks.areas
        (torch.Size([2, 3, 5]), array([15, 15]))
    """

    def __init__(self, stack: BoolArray) -> None:
        super().__init__(stack)
        self._tensor: Tensor | None = None

    def tensor(self, device: torch.device) -> Tensor:
        """(N, H, W) bool on `device`; on the CPU it may share its memory with the stack, so it must not be changed."""
        if self._tensor is None or self._tensor.device != device:
            self._tensor = to_device(self.stack, device)
        return self._tensor

    def cut(self, row: int, window: Sequence[int]) -> "SceneMasks":
        """One mask alone, within a window (x, y, w, h)."""
        x, y, w, h = window
        return SceneMasks(self.stack[row : row + 1, y : y + h, x : x + w])


class PackedUnions:
    """Unions of masks, one for each object, which are unpacked when they are needed.

    Args:
        words: (N, H, ceil(W / 64)), see `PackedMasks.unions`.
        width: W in pixels.

    Example:
        >>> unions = PackedUnions.of(SceneMasks(np.ones((1, 4, 6), bool)), np.ones((2, 1), bool))
        >>> unions.tensor(torch.device("cpu")).shape, unions.cut(1, (2, 0, 3, 4)).stack.shape
        (torch.Size([2, 4, 6]), (1, 4, 3))
    """

    def __init__(self, words: npt.NDArray[np.uint64], width: int) -> None:
        self.words, self.width = words, width

    @classmethod
    def of(cls, masks: "SceneMasks", chosen: BoolArray) -> "PackedUnions":
        """For each row of `chosen` (N, K) bool the union of those of the K masks that it chooses."""
        return cls(masks.unions(chosen), masks.stack.shape[2])

    @property
    def boxes(self) -> IntArray:
        """(N, 4) (x, y, w, h), the tight box of each."""
        return boxes_of(self.words, self.width)

    def tensor(self, device: torch.device) -> Tensor:
        """(N, H, W) bool on `device`."""
        return to_device(unpack(self.words, self.width), device)

    def crop(
        self, boxes: Tensor, size: int, rule: str, device: torch.device, *, rows: IntArray | None = None
    ) -> Tensor:
        """(N, size, size) bool, each union cropped with its box; see `crop_masks`. No more is unpacked than needed.

        With `rows` (K,) int64 only these, (K, size, size).
        """
        words, boxes = (self.words, boxes) if rows is None else (self.words[rows], boxes[torch.from_numpy(rows)])
        step = max(1, _UNPACKED_PIXELS // max(1, words[0].size * 64)) if len(words) else 1
        parts = [slice(start, start + step) for start in range(0, len(words), step)]
        crops = [
            crop_masks(to_device(unpack(words[part], self.width), device), boxes[part], size, rule=rule)
            for part in parts
        ]
        return torch.cat(crops) if crops else torch.zeros(0, size, size, dtype=torch.bool, device=device)

    def cut(self, row: int, window: Sequence[int]) -> SceneMasks:
        """One of them alone, within a window (x, y, w, h)."""
        x, y, w, h = window
        return SceneMasks(unpack(self.words[row : row + 1, y : y + h], self.width)[:, :, x : x + w])


@dataclass
class MaskInputs:
    """One photo of a call and its N objects, checked.

    Args:
        modal: (N, H, W), the modal masks.
        photo: RGB, where the network looks at it.
        occluders: (N, H, W) or (1, H, W), the caller's `occluder_masks`.
        category_ids: (N,) int64.
        order: (N, N) int8.
        amodal_boxes: (N, 4) float64 (x, y, w, h) in pixels, NaN in all four where unknown.
        features: as the caller gave them.
        suffix: of argument names in errors, such as "[2]" for the third photo of a list, else "".

    Example:
        >>> scene = MaskInputs(SceneMasks(np.ones((2, 3, 5), bool)))
        >>> len(scene), scene.size, scene.visible
        (2, (3, 5), array([ True,  True]))
    """

    modal: SceneMasks
    photo: Image.Image | None = None
    occluders: SceneMasks | None = None
    category_ids: IntArray | None = None
    order: npt.NDArray[np.int8] | None = None
    amodal_boxes: npt.NDArray[np.float64] | None = None
    features: Any = None
    suffix: str = ""

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.modal)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.modal.stack.shape[1:]
        return height, width

    def cut(self, row: int, window: Sequence[int]) -> "MaskInputs":
        """The masks of one object alone, on a photo that is its window (x, y, w, h)."""
        occluders = self.occluders
        if occluders is not None:
            occluders = occluders.cut(row if len(occluders) > 1 else 0, window)
        return MaskInputs(self.modal.cut(row, window), occluders=occluders)

    @cached_property
    def visible(self) -> BoolArray:
        """(N,) bool: the object has a visible pixel."""
        return self.modal.areas > 0


def read_scenes(
    image: Any,
    masks: Any,
    *,
    read_image: bool = False,
    lowest_category: int = 1,
    categories: Sequence[str] | None = None,
    **per_object: Any,
) -> tuple[list[MaskInputs], bool]:
    """The inputs of each photo, and whether the caller gave lists.

    A list of photos (None for a photo that is not at hand) goes with a list of as many mask stacks, and every other
    argument is then None or a list of that length as well. Without `image`, a list of stacks with three or more
    dimensions is a list of scenes.

    Args:
        image: a photo, a list of photos, or None.
        masks: one mask, a stack, or a list of stacks.
        read_image: keep the photo; otherwise only its size is compared with the masks.
        lowest_category: least of the ids that are taken, 1 or, where 0 stands for an unknown category, 0.
        categories: names that `category_ids` may hold too, see `read_category_ids`.
        per_object: `occluder_masks`, `category_ids`, `order`, `amodal_box`, `features`.

    Raises:
        ValueError, TypeError: naming the argument, and its index where lists were given.

    Example:
        >>> masks = np.ones((2, 3, 5), bool)
        >>> scenes, batched = read_scenes(None, [masks, masks[:1]], category_ids=[[1, 7], None])
        >>> [len(scene) for scene in scenes], batched, scenes[0].category_ids
        ([2, 1], True, array([1, 7]))
    """
    batched = isinstance(image, list | tuple) or (image is None and _is_list_of_stacks(masks))
    options: dict[str, Any] = {
        "read_image": read_image, "lowest_category": lowest_category, "categories": categories,
    }  # fmt: skip
    if not batched:
        return [_read_scene(image, masks, suffix="", **options, **per_object)], False
    if not isinstance(masks, list | tuple):
        raise TypeError(
            f"`masks` must be a list with one stack a photo, as `image` is a list; got {type(masks).__name__}."
        )
    count = len(masks)
    columns: dict[str, Sequence[Any]] = {"image": [None] * count if image is None else image, "masks": masks}
    for name, value in per_object.items():
        if value is not None and not isinstance(value, list | tuple):
            raise TypeError(f"`{name}` must be a list with one entry a photo, got {type(value).__name__}.")
        columns[name] = [None] * count if value is None else value
    for name, column in columns.items():
        if len(column) != count:
            raise ValueError(
                f"`{name}` must have one entry for each of the {count} stacks in `masks`, got {len(column)}."
            )
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [_read_scene(suffix=f"[{index}]", **options, **row) for index, row in enumerate(rows)], True


def read_generators(generator: Any, scenes: int, batched: bool) -> list[torch.Generator | None]:
    """The generator of each scene; one generator serves all, scene after scene, and a list of one a single photo.

    Raises:
        ValueError, TypeError: naming `generator`.

    Example:
        >>> generator = torch.Generator()
        >>> read_generators(generator, 2, batched=True) == [generator, generator]
        True
    """
    if isinstance(generator, list | tuple):
        if not batched and len(generator) != 1:
            raise ValueError(
                f"`generator` must be one generator where one photo is given, got a list of {len(generator)}."
            )
        if len(generator) != scenes:
            raise ValueError(
                f"`generator` must hold one generator for each of the {scenes} photos, got {len(generator)}."
            )
    for item in generator if isinstance(generator, list | tuple) else [generator]:
        if item is not None and not isinstance(item, torch.Generator):
            raise TypeError(f"`generator` must be a torch.Generator, or a list of these, got {type(item).__name__}.")
    return list(generator) if isinstance(generator, list | tuple) else [generator] * scenes


def read_generator(generator: Any) -> torch.Generator | None:
    """The generator of a call for one photo, which may be given as a list of one.

    Raises:
        ValueError, TypeError: naming `generator`.

    Example:
        >>> generator = torch.Generator()
        >>> read_generator([generator]) is generator, read_generator(None) is None
        (True, True)
    """
    return read_generators(generator, 1, batched=False)[0]


def _is_list_of_stacks(masks: Any) -> bool:
    if not isinstance(masks, list | tuple) or not masks:
        return False
    return all(isinstance(stack, np.ndarray | Tensor) and stack.ndim >= 3 for stack in masks)


def _read_scene(
    image: Any,
    masks: Any,
    *,
    read_image: bool,
    lowest_category: int,
    categories: Sequence[str] | None,
    suffix: str,
    occluder_masks: Any = None,
    category_ids: Any = None,
    order: Any = None,
    amodal_box: Any = None,
    features: Any = None,
) -> MaskInputs:
    with named("image", suffix):
        photo = None if image is None else load_image(image)
    height, width = (None, None) if photo is None else (photo.height, photo.width)
    with named("masks", suffix):
        stack = to_mask_stack(masks, height=height, width=width)
        if not all(stack.shape[1:]):
            raise ValueError(f"a mask must have at least one pixel, got size (height, width) {stack.shape[1:]}.")
    scene = MaskInputs(SceneMasks(stack), photo if read_image else None, features=features, suffix=suffix)
    count, (height, width) = len(scene), scene.size
    if occluder_masks is not None:
        with named("occluder_masks", suffix):
            scene.occluders = SceneMasks(to_mask_stack(occluder_masks, height=height, width=width))
        if len(scene.occluders) not in (1, count):
            raise ValueError(
                f"`occluder_masks{suffix}` must hold one mask, or one for each of the {count} objects, "
                f"got {len(scene.occluders)}."
            )
    if category_ids is not None:
        scene.category_ids = read_category_ids(category_ids, count, suffix, lowest_category, categories)
    if order is not None:
        with named("order", suffix):
            scene.order = check_order(to_numpy(order), count)
    if amodal_box is not None:
        scene.amodal_boxes = _read_boxes(amodal_box, count, f"`amodal_box{suffix}`")
    return scene


@contextmanager
def named(name: str, suffix: str) -> Iterator[None]:
    """Put the argument's name before the message of a ValueError or TypeError that a reader raises.

    Example:
        >>> with named("masks", "[2]"):
        ...     raise ValueError("they have no pixels")
        Traceback (most recent call last):
        ValueError: `masks[2]`: they have no pixels
    """
    full_name = f"`{name}{suffix}`"
    try:
        yield
    except (ValueError, TypeError) as error:
        if full_name in str(error):
            raise
        raise type(error)(f"{full_name}: {error}") from error


def to_numpy(value: Any) -> np.ndarray:
    """An array from a tensor on any device, or from whatever numpy takes.

    Example:
        >>> to_numpy(torch.tensor([1, 2])), to_numpy([3])
        (array([1, 2]), array([3]))
    """
    return tensor_to_array(value) if isinstance(value, Tensor) else np.asarray(value)


def read_category_ids(
    category_ids: Any, count: int, suffix: str = "", lowest: int = 1, categories: Sequence[str] | None = None
) -> np.ndarray:
    """(N,) int64 ids of at least `lowest`; ValueError naming `category_ids{suffix}` otherwise.

    Args:
        category_ids: (N,) integers; where there are `categories` names too, None or "" for an object without one.
        count: N.
        suffix: of the argument's name in errors.
        lowest: least id that is taken.
        categories: names, the first of which has the number 1; a name that is not among them gets 0, as does None.
            Capitals, and lines for spaces, make no difference, unless the names themselves differ by these alone. None
            where ids alone are taken.

    Example:
        >>> read_category_ids([4, 1], 2)
        array([4, 1])
        >>> read_category_ids(["Dog", None, "unicorn"], 3, lowest=0, categories=["cat", "dog"])
        array([2, 0, 0])
    """
    if categories is not None and not isinstance(category_ids, Tensor):
        category_ids = _numbered(np.atleast_1d(np.asarray(category_ids, object)).tolist(), categories)
    try:
        ids = to_numpy(category_ids)
    except ValueError as error:
        raise ValueError(f"`category_ids{suffix}` must have shape ({count},), one for each object: {error}") from error
    if ids.ndim == 0:
        ids = ids[None]
    if ids.shape != (count,):
        raise ValueError(f"`category_ids{suffix}` must have shape ({count},), one for each object, got {ids.shape}.")
    if count and (not np.issubdtype(ids.dtype, np.integer) or ids.min() < lowest):
        kind = "positive integers" if lowest == 1 else f"integers of at least {lowest}"
        raise ValueError(f"`category_ids{suffix}` must be {kind}, got {ids.tolist()[:8]} of dtype {ids.dtype}.")
    if count and ids.max() > np.iinfo(np.int64).max:  # of uint64
        raise ValueError(f"`category_ids{suffix}` must fit 64 bits with a sign, got {int(ids.max())}.")
    return ids.astype(np.int64)


def _numbered(values: Sequence[Any], categories: Sequence[str]) -> Sequence[Any]:
    """The numbers of names, 0 for None, and whatever else as it is."""
    numbers: dict[str, int] = {}
    for spelt in (str, _plain):  # as it is written counts first
        for number, name in enumerate(categories, start=1):
            numbers.setdefault(spelt(name), number)
    return [
        numbers.get(value, numbers.get(_plain(value), 0)) if isinstance(value, str) else 0 if value is None else value
        for value in values
    ]


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def _read_boxes(boxes: Any, count: int, name: str) -> np.ndarray:
    """(N, 4) float64 (x, y, w, h), NaN in a row that was None or all NaN; one object may give its four numbers."""
    rows = list(boxes) if isinstance(boxes, list | tuple) else to_numpy(boxes)
    if count == 1 and len(rows) == 4 and not any(np.ndim(value) or value is None for value in rows):
        rows = [rows]
    try:
        stack = np.array([[np.nan] * 4 if row is None else to_numpy(row) for row in rows], np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold boxes (x, y, width, height) or None: {error}") from error
    stack = stack.reshape(0, 4) if not len(rows) else stack
    if stack.shape != (count, 4):
        raise ValueError(
            f"{name} must have shape ({count}, 4), a box (x, y, width, height) for each object, got {stack.shape}."
        )
    unknown = np.isnan(stack).all(axis=1)
    wrong = ~unknown & (~np.isfinite(stack).all(axis=1) | ~(stack[:, 2:] > 0).all(axis=1))
    if wrong.any():
        index = int(wrong.argmax())
        raise ValueError(
            f"{name} must hold finite numbers with a width and a height above 0, or None for an unknown box, "
            f"got {stack[index].tolist()} for object {index}."
        )
    return stack


def is_network(network: Any, *kinds: type[nn.Module]) -> bool:
    """Whether `network` is of one of the kinds, or compiled of one by `torch.compile`.

    Example:
        >>> is_network(nn.Identity(), nn.Identity), is_network(None, nn.Identity)
        (True, False)
    """
    return isinstance(getattr(network, "_orig_mod", network), kinds)


def check_network(name: str, network: Any, *kinds: type[nn.Module]) -> Any:
    """`network` where it is of one of the kinds, or compiled of one by `torch.compile`.

    Raises:
        TypeError: naming it otherwise, also where it is None.

    Example:
        >>> check_network("model", nn.Identity(), nn.Identity)
        Identity()
    """
    if not is_network(network, *kinds):
        given = "None" if network is None else type(network).__name__
        raise TypeError(f"`{name}` must be of {' or '.join(kind.__name__ for kind in kinds)}, got {given}.")
    return network


def batches(count: int, batch_size: int) -> Iterator[slice]:
    """Consecutive slices of at most `batch_size` that cover `range(count)`.

    Example:
        >>> list(batches(5, 2))
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, count, batch_size):
        yield slice(start, min(start + batch_size, count))


def rows_of(counts: Sequence[int]) -> list[slice]:
    """Where each scene's objects lie when the objects of all scenes are put one after another.

    Example:
        >>> rows_of([2, 0, 3])
        [slice(0, 2, None), slice(2, 2, None), slice(2, 5, None)]
    """
    ends = np.cumsum([0, *counts]).tolist()
    return [slice(start, end) for start, end in zip(ends, ends[1:], strict=False)]


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """A tensor on `device`; shares memory with `array` on the CPU, unless that is read-only.

    Example:
        >>> to_device(np.arange(3), torch.device("cpu"))
        tensor([0, 1, 2])
    """
    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)
