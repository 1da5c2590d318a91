"""What the mask pipelines return."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from diffusers.utils import BaseOutput
from PIL import Image


@dataclass(repr=False)
class AmodalPipelineOutput(BaseOutput):
    """The whole objects of a photo.

    Every field describes the N objects of one photo, or is a list with one entry a photo where a list of photos was
    given; `split` gives one output a photo then. `output_type` decides the container:

    - "np": numpy arrays;
    - "pt": tensors, the masks on the device of the pipeline;
    - "pil": lists of N images of mode L (0 and 255) for masks (N lists of K for samples), and numpy for the rest;
    - "compact": a `TileStack` for each field of planes, which keeps the box of each object and makes dense planes on
      demand, and numpy for the rest. A hundred objects on a photo of 12 megapixels take 4.8 GB as dense probabilities
      and some 100 MB so.

    As all outputs of diffusers it is indexed by field (`out["amodal_masks"]`) or like the tuple of its fields (`out[0]`
    are the masks, as in `pipe(...)[0]`). Unlike in diffusers, that tuple has all fields, None where one is missing, so
    that `out[3]` is the uncertainty of every pipeline. The objects are in `objects`: `out.objects[3]`, or by name
    `out.objects["giraffe"]`.

    Args:
        amodal_masks: (N, H, W) bool, visible and hidden part. All False where an object has no visible pixel.
        probabilities: (N, H, W) float32 in [0, 1], P(object) per pixel; 0 outside of the crop box of an object.
        order: (N, N) int8, `order[i, j]` = 1 i occludes j, -1 i is occluded by j, 0 no relation. None where the call
            neither was given an order nor needed one.
        uncertainty: (N, H, W) float32, where the model predicts it.
        occluder_masks: (N, H, W) bool, the predicted mask of all that hides an object, where the model predicts it.
        samples: (N, K, H, W) bool, where the model draws several completions of each object.
        sample_scores: (N, K) float32 in [0, 1], how well each sample agrees with what is visible.
        names: N names of the objects, where they are known.

    Example:
        >>> masks = np.zeros((2, 4, 6), bool)
        >>> masks[0, 1:3, 1:5] = masks[1, :, 2:4] = True
        >>> order = np.array([[0, -1], [1, 0]], np.int8)
        >>> out = AmodalPipelineOutput(masks, masks.astype(np.float32), order, names=["bird", "giraffe"])
        >>> out
        AmodalPipelineOutput(2 objects, 6x4: amodal_masks, probabilities, order, names)
        >>> out.objects["bird"]
        AmodalObject(0, 'bird', 8 pixels, behind: giraffe)
        >>> out.objects["bird"].amodal_mask.shape
        (4, 6)
    """

    # Declared as what one photo and `output_type="np"`, the defaults, give.
    amodal_masks: npt.NDArray[np.bool_]
    probabilities: npt.NDArray[np.float32]
    order: Any = None
    uncertainty: Any = None
    occluder_masks: Any = None
    samples: Any = None
    sample_scores: Any = None
    names: Any = None

    def to_tuple(self) -> tuple[Any, ...]:
        """All fields in their order, None for what the call does not give: what `return_dict=False` returns.

        So every field has the same place for every pipeline.
        """
        return tuple(getattr(self, field.name) for field in fields(self))

    @property
    def is_batched(self) -> bool:
        """Whether the fields are lists with one entry a photo."""
        return isinstance(self.probabilities, list)

    def split(self) -> list[AmodalPipelineOutput]:
        """One output a photo; a list of this one alone where one photo was given."""
        if not self.is_batched:
            return [self]
        columns: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        rows: list[dict[str, Any]] = [
            {name: None if column is None else column[row] for name, column in columns.items()}
            for row in range(len(self.probabilities))
        ]
        return [AmodalPipelineOutput(**row) for row in rows]

    @property
    def objects(self) -> AmodalObjects:
        """The objects of the photo, by their index or their name.

        Raises:
            TypeError: for the output of a list of photos; `split` it first.
        """
        if self.is_batched:
            raise TypeError(
                f"`objects` are those of one photo, this output has {len(self.probabilities)} photos: "
                "`out.split()` gives one output a photo."
            )
        return AmodalObjects(self)

    def __repr__(self) -> str:
        known = ", ".join(self.keys())
        if self.is_batched:
            counts = " + ".join(str(len(stack)) for stack in self.probabilities) or "0"
            return f"{type(self).__name__}({_count(len(self.probabilities), 'photo')}, {counts} objects: {known})"
        size = f", {self.size[0]}x{self.size[1]}" if self.size else ""
        return f"{type(self).__name__}({_count(len(self.probabilities), 'object')}{size}: {known})"

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) of the photo in pixels; None for a list of photos."""
        shape = getattr(self.probabilities, "shape", None)
        return None if shape is None else (int(shape[-1]), int(shape[-2]))


class AmodalObjects(Sequence["AmodalObject"]):
    """The objects of an `AmodalPipelineOutput`, read by index or by name.

    Example:
        >>> masks = np.ones((3, 2, 2), bool)
        >>> objects = AmodalPipelineOutput(masks, masks.astype(np.float32), names=["cup", "cup", "hand"]).objects
        >>> len(objects), objects["hand"].index, [obj.name for obj in objects[:2]]
        (3, 2, ['cup', 'cup'])
    """

    def __init__(self, output: AmodalPipelineOutput) -> None:
        self._output = output

    def __len__(self) -> int:
        return len(self._output.probabilities)

    def __iter__(self) -> Iterator[AmodalObject]:
        return (AmodalObject(self._output, index) for index in range(len(self)))

    @overload
    def __getitem__(self, key: int | str) -> AmodalObject: ...
    @overload
    def __getitem__(self, key: slice) -> list[AmodalObject]: ...
    def __getitem__(self, key: int | str | slice) -> AmodalObject | list[AmodalObject]:
        if isinstance(key, slice):
            return [AmodalObject(self._output, index) for index in range(len(self))[key]]
        if isinstance(key, str):
            return AmodalObject(self._output, self._find(key))
        try:
            return AmodalObject(self._output, range(len(self))[key])
        except IndexError:
            raise IndexError(f"there are {len(self)} objects, got the index {key}.") from None

    def _find(self, name: str) -> int:
        names = list(self._output.names or [])
        found = [index for index, known in enumerate(names) if known == name]
        if not found:
            known = ", ".join(repr(name) for name in dict.fromkeys(names)) if names else "none: no names were given"
            raise KeyError(f"no object is named {name!r}; the names are {known}.")
        if len(found) > 1:
            raise KeyError(f"{len(found)} objects are named {name!r}: {found}; take one by its index.")
        return found[0]

    def __repr__(self) -> str:
        names = ", ".join(filter(None, self._output.names or []))
        return f"{_count(len(self), 'object')}{': ' + names if names else ''}"


class AmodalObject:
    """One object of an `AmodalPipelineOutput`. Its planes are read when asked for; nothing is copied before.

    Args:
        output: of one photo.
        index: of the object in it.

    Example:
        >>> masks = np.ones((1, 2, 3), bool)
        >>> obj = AmodalPipelineOutput(masks, masks.astype(np.float32), names=["cup"]).objects[0]
        >>> obj.name, obj.probability.shape, obj.uncertainty
        ('cup', (2, 3), None)
    """

    def __init__(self, output: AmodalPipelineOutput, index: int) -> None:
        self._output = output
        self.index = index

    @property
    def name(self) -> str:
        """Its name; "" where unknown."""
        names = self._output.names
        return names[self.index] or "" if names else ""

    @property
    def amodal_mask(self) -> Any:
        """(H, W) bool, or an image of mode L."""
        return self._read("amodal_masks")

    @property
    def probability(self) -> Any:
        """(H, W) float32 in [0, 1]."""
        return self._read("probabilities")

    @property
    def uncertainty(self) -> Any:
        """(H, W) float32, or None."""
        return self._read("uncertainty")

    @property
    def occluder_mask(self) -> Any:
        """(H, W) bool, what hides it; None where the model does not predict that."""
        return self._read("occluder_masks")

    @property
    def samples(self) -> Any:
        """(K, H, W) bool, or None."""
        return self._read("samples")

    @property
    def sample_scores(self) -> Any:
        """(K,) float32, or None."""
        return self._read("sample_scores")

    @property
    def in_front_of(self) -> list[int] | None:
        """Indices of the objects that it occludes; None without an order."""
        return self._related(1)

    @property
    def behind(self) -> list[int] | None:
        """Indices of the objects that occlude it; None without an order."""
        return self._related(-1)

    def _read(self, field: str) -> Any:
        planes = getattr(self._output, field)
        return None if planes is None else planes[self.index]

    def _related(self, sign: int) -> list[int] | None:
        order = self._output.order
        return None if order is None else [other for other, value in enumerate(order[self.index]) if value == sign]

    def __repr__(self) -> str:
        parts = [str(self.index)] + [repr(self.name)] * bool(self.name)
        mask = self.amodal_mask
        area = np.count_nonzero(np.asarray(mask)) if isinstance(mask, Image.Image) else (mask != 0).sum()
        parts.append(_count(int(area), "pixel"))
        for words, related in (("in front of", self.in_front_of), ("behind", self.behind)):
            if related:
                parts.append(f"{words}: {', '.join(self._name_of(other) for other in related)}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def _name_of(self, other: int) -> str:
        return AmodalObject(self._output, other).name or str(other)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
