"""Scenes: a photo as a background and whole objects in layers, which can be edited and put together again [Z20, L20].

Coordinates are (x, y) in pixels of the canvas, from the outer corner of its top left pixel, x to the right, y down.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ..arguments.choices import check_choice
from ..arguments.flags import check_flag
from ..arguments.numeric import check_integer, check_number
from ..display import describe
from ..images import OUTPUT_TYPES, ImageInput, OutputType, load_rgba
from ..ordering import check_order, reachable
from .carrying import carries
from .layer import Immutable, Layer, about, compose, frozen_array, same_array, translation
from .render import composite, leave, place_layer, relations, render_layers, stacking, to_bytes
from .reshaping import behind_outline, fit_shape, shape_on_canvas

__all__ = ["Layer", "Painter", "RgbaInput", "Scene"]

_NAMES_SHOWN = 6  # in the repr of a scene

RgbaInput = ImageInput
"""A picture, with transparency or without: a path, a PIL image, an array or a tensor."""

Painter = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.bool_], npt.NDArray[np.bool_]], npt.NDArray[np.uint8]]
"""Gives the colours of what a new shape of a layer adds; see `Scene.reshape`."""


@dataclass(frozen=True, eq=False)
class Scene(Immutable):
    """A background and N layers on one canvas. Edits give a new scene and leave this one, so undo is keeping it.

    Which of two layers is in front is decided for each pixel and pair: a pixel that the photo showed of one of them is
    in front while both stand to each other as in the photo (`evidence`), which is how two objects can each hide a part
    of the other; elsewhere the `order` decides, and where that knows nothing, the place in `layers`. Orders may hold
    cycles. The photo is shown wherever nothing changed, so an untouched scene renders as the photo, bit for bit.

    Arrays are read-only and shared between scenes; what is writeable when a scene is made is copied.

    Args:
        background: (H, W, 3) uint8, the photo without any of the objects.
        layers: N layers, back to front where the order knows nothing. Edits keep their places; new ones come last.
        order: (N, N) int8, `order[i, j]` is 1 where i occludes j, -1 where j occludes i, 0 without relation; cycles
            are allowed. None: no relations.
        photo: (H, W, 3) uint8, or None, which shows the background everywhere.
        evidence: (N, N) bool, symmetric: pairs whose visible pixels decide who is in front. None: all pairs of layers
            with an `origin`. A pair that was moved relative to each other does not count, whatever stands here.
        rim: pixels around an object in which the background differs from the photo as well.
        replaced: (H, W) bool, where the background is shown though no layer that is left left it. None: nowhere.
        next_id: id of the next layer that is added, above all ids that there have been, so that a removed layer's is
            never given again. None: above those of `layers`.

    Raises:
        TypeError, ValueError: naming the argument: shapes or dtypes that differ, an order that is not antisymmetric,
            ids that are not unique.

    Example:
        >>> scene = Scene(np.zeros((4, 6, 3), np.uint8))
        >>> white = np.full((2, 2, 4), 255, np.uint8)
        >>> scene = scene.insert(white, name="cup").move(0, dx=3).duplicate(0, dy=2)
        >>> scene
        Scene(6x4, 2 layers: cup, cup)
        >>> scene.render(output_type="np")[:, 3, 0]
        array([255, 255, 255, 255], dtype=uint8)
    """

    background: npt.NDArray[np.uint8]
    layers: tuple[Layer, ...] = ()
    order: npt.NDArray[np.int8] = None  # type: ignore[assignment]
    photo: npt.NDArray[np.uint8] | None = None
    evidence: npt.NDArray[np.bool_] = None  # type: ignore[assignment]
    rim: int = 0
    replaced: npt.NDArray[np.bool_] = None  # type: ignore[assignment]
    next_id: int = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        background = frozen_array("background", self.background, np.uint8, (None, None, 3))
        if not background.size:
            raise ValueError(f"`background` must have pixels, got shape {background.shape}.")
        given: Any = self.layers
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise TypeError(f"`layers` must be a list of `Layer` objects, got {describe(given)}.")
        layers = tuple(given)
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"`layers` must hold `Layer` objects, got {type(layer).__name__}.")
        ids = [layer.id for layer in layers]
        if len(set(ids)) != len(ids):
            raise ValueError(f"`layers` must have unique ids, got {ids}.")
        fields: dict[str, Any] = {"background": background, "layers": layers}
        if self.photo is not None:
            fields["photo"] = frozen_array("photo", self.photo, np.uint8, background.shape)
        replaced = np.zeros(background.shape[:2], bool) if self.replaced is None else self.replaced
        fields["replaced"] = frozen_array("replaced", replaced, np.bool_, background.shape[:2])
        fields |= _check_relations(layers, self.order, self.evidence)
        # Beyond the canvas there is nothing to see.
        fields["rim"] = min(check_integer("rim", self.rim, 0), max(background.shape[:2]))
        fields["next_id"] = max(
            [0 if self.next_id is None else check_integer("next_id", self.next_id, 0), *(n + 1 for n in ids)]
        )
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        names = ", ".join([layer.name or f"#{layer.id}" for layer in self.layers[:_NAMES_SHOWN]])
        more = ", …" if len(self) > _NAMES_SHOWN else ""
        count = f"{len(self)} layer{'' if len(self) == 1 else 's'}"
        return f"Scene({self.size[0]}x{self.size[1]}, {count}{': ' if self.layers else ''}{names}{more})"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the canvas in pixels."""
        return self.background.shape[1], self.background.shape[0]

    def index(self, name_or_id: str | int) -> int:
        """The place in `layers` of the layer with this name or id.

        Raises:
            TypeError: where it is neither.
            ValueError: where none has it, or several have the name.
        """
        if isinstance(name_or_id, bool) or not isinstance(name_or_id, str | int | np.integer):
            raise TypeError(f"`name_or_id` must be the name or the id of a layer, got {describe(name_or_id)}.")
        key = "name" if isinstance(name_or_id, str) else "id"
        found = [index for index, layer in enumerate(self.layers) if getattr(layer, key) == name_or_id]
        if len(found) == 1:
            return found[0]
        known = [getattr(layer, key) for layer in self.layers]
        problem = "no layer has" if not found else f"layers {found} all have"
        raise ValueError(f"`name_or_id`: {problem} the {key} {describe(name_or_id)}; there are {known}.")

    def stacking(self) -> list[int]:
        """All layers back to front, as one list that agrees with the order as far as its cycles allow."""
        return stacking(self.order)

    def in_front(self, i: int, j: int) -> bool:
        """Whether layer i is in front of layer j where no visible pixel decides."""
        i, j = self._check_index("i", i), self._check_index("j", j)
        if self.order[i, j]:
            return bool(self.order[i, j] == 1)
        stack = self.stacking()
        return stack.index(i) > stack.index(j)

    def carried(self, i: int) -> list[int]:
        """What stands on layer i, or is held or worn by it, and what stands on that, as outlines, order and names tell.

        A layer stands on one behind it if most of its foot is on that one's whole shape; it is held if most of it lies
        on the whole shape of a larger one behind it. So a cup on a plate on a table is carried by both, what is behind
        is not, nor is who stands before a table with the feet on the floor. Of two layers that a photo showed, its
        order has to say who is in front; otherwise the place in `layers` does. What by its name people hold or wear
        ("baseball bat", "backpack") is carried by the "person" whom it touches. What else hangs from a hand beside its
        holder, and who sits on a bench with the feet on the floor, is not found.

        Returns:
            Places in `layers`, in their order there, without i; empty where nothing is carried.

        Example:
            >>> tile = np.full((4, 8, 4), 255, np.uint8)
            >>> scene = Scene(np.zeros((20, 20, 3), np.uint8)).insert(tile, 2, 10, "table")
            >>> scene = scene.insert(tile[:, :3], 4, 8, "cup").insert(tile[:, :2], 14, 8, "ball")
            >>> scene.carried(0)
            [1]
            >>> scene.move(0, dx=2, carried=True).layers[1]
            Layer('cup', id 1, 3x4, at 6, 8, 3x4 on the canvas)
        """
        return [int(place) for place in np.flatnonzero(self._carrying[self._check_index("i", i)])]

    @cached_property
    def _carrying(self) -> npt.NDArray[np.bool_]:
        """(N, N) bool, `[i, j]` where i carries j; a quarter of a second for sixty layers, so it is found once."""
        known = (self.order != 0) | ~self.evidence
        return reachable(carries(self.layers, relations(self.order)[1] & known, self.size[1]))

    # Pictures

    def render(self, *, output_type: OutputType = "pil") -> Any:
        """The scene as a picture.

        Args:
            output_type: "pil" for an image of mode RGB, "np" for (H, W, 3) uint8, "pt" for a tensor (3, H, W) uint8.

        Raises:
            ValueError: naming `output_type`.
        """
        picture = render_layers(
            self.background, self.photo, self.layers, self.order, self.evidence, self.rim, self.replaced
        )
        return _as_output(picture, output_type)

    def layer_image(self, i: int, *, canvas: bool = True, output_type: OutputType = "pil") -> Any:
        """One layer alone, whole, with transparency, also where it is hidden.

        Args:
            i: place in `layers`.
            canvas: as it stands on the canvas, with its opacity; False gives the tile as it is, without its transform.
            output_type: "pil" for an image of mode RGBA, "np" for an array (H, W, 4) uint8, "pt" for a tensor
                (4, H, W).
        """
        layer = self.layers[self._check_index("i", i)]
        if not check_flag("canvas", canvas):
            return _as_output(layer.rgba, output_type)
        height, width = self.background.shape[:2]
        placed = place_layer(layer, layer.transform, height, width)
        empty = np.zeros((height, width, 4), np.float32)
        one = np.zeros((1, 1), np.int8)
        return _as_output(to_bytes(composite(empty, [placed], one, one.astype(bool))), output_type)

    def layer_mask(self, i: int) -> npt.NDArray[np.bool_]:
        """(H, W) bool, the whole of layer i where it stands on the canvas, also where it is hidden."""
        return shape_on_canvas(self.layers[self._check_index("i", i)], self.background.shape[:2])

    # Edits. With `carried=True` they take what stands on the layer or is held by it along.

    def remove(self, i: int, *, carried: bool = False) -> Scene:
        """Without layer i and its shadow, and with `carried` what it carries; the background fills their place."""
        group, replaced = self._group(i, carried), self.replaced.copy()
        for place in group:
            layer = self.layers[place]
            leave(replaced, layer, layer.shadow_layer(), self.rim)
        return replace(
            self,
            layers=tuple(layer for place, layer in enumerate(self.layers) if place not in group),
            order=np.delete(np.delete(self.order, group, 0), group, 1),
            evidence=np.delete(np.delete(self.evidence, group, 0), group, 1),
            replaced=replaced,
        )

    def remove_shadow(self, i: int) -> Scene:
        """Without the shadow of layer i, which stays; the background, where it fell, is lit."""
        i = self._check_index("i", i)
        layer, replaced = self.layers[i], self.replaced.copy()
        shadow = layer.shadow_layer()
        if shadow is not None and shadow.origin is not None:
            leave(replaced, shadow, None, 0)
        return replace(self._with_layer(i, replace(layer, shadow=None)), replaced=replaced)

    def move(self, i: int, dx: float = 0, dy: float = 0, *, carried: bool = False) -> Scene:
        """Shift layer i and its shadow by (dx, dy) pixels, right and down. Whole pixels keep colours bit for bit."""
        shift = translation(check_number("dx", dx), check_number("dy", dy))
        with _refused("dx, dy", (dx, dy)):
            return self._transformed(i, shift, carried=carried)

    def place(self, i: int, x: float, y: float, *, carried: bool = False) -> Scene:
        """Move layer i so that the top left corner of its `box` comes to (x, y)."""
        left, top, _, _ = self.layers[self._check_index("i", i)].box
        return self.move(i, check_number("x", x) - left, check_number("y", y) - top, carried=carried)

    def scale(self, i: int, factor: float, about: tuple[float, float] | None = None, *, carried: bool = False) -> Scene:
        """Scale layer i by `factor` > 0, keeping the point `about` (x, y); None keeps its centre."""
        factor = check_number("factor", factor, above=0)
        with _refused("factor", factor):
            return self._transformed(i, [[factor, 0], [0, factor]], about, carried=carried)

    def stretch(self, i: int, width: float = 1, height: float = 1) -> Scene:
        """Scale layer i by `width` > 0 and `height` > 0 along the sides of its own tile, also where it is turned.

        Its centre stays. A turned object is not sheared.
        """
        i = self._check_index("i", i)
        width, height = check_number("width", width, above=0), check_number("height", height, above=0)
        layer = self.layers[i]
        inner = about([[width, 0], [0, height]], layer.size[0] / 2, layer.size[1] / 2)
        with _refused("width, height", (width, height)):
            return self._with_layer(i, replace(layer, transform=compose(layer.transform, inner)))

    def rotate(
        self, i: int, degrees: float, about: tuple[float, float] | None = None, *, carried: bool = False
    ) -> Scene:
        """Rotate layer i counter-clockwise about the point `about` (x, y); None rotates it about its centre."""
        angle = math.radians(check_number("degrees", degrees))
        cosine, sine = math.cos(angle), math.sin(angle)
        return self._transformed(i, [[cosine, sine], [-sine, cosine]], about, carried=carried)

    def flip(self, i: int, horizontal: bool = True, *, carried: bool = False) -> Scene:
        """Mirror layer i in place, left to right, or top to bottom with `horizontal=False`."""
        change = [[-1, 0], [0, 1]] if check_flag("horizontal", horizontal) else [[1, 0], [0, -1]]
        return self._transformed(i, change, carried=carried)

    def reshape(self, i: int, mask: npt.ArrayLike, *, paint: Painter | None = None) -> Scene:
        """Give layer i another shape, such as another pose [L20, section 4.4].

        Its colours stay where both shapes have a pixel. The layer is then no longer where the photo shows it: its old
        place shows the background, and its relations alone say who is in front. Its shadow stays as it was.

        Args:
            i: place in `layers`.
            mask: (H, W) bool, the whole layer as it is to stand on the canvas, also where it is to be hidden;
                `layer_mask` has the shape that it has. What of it lies beyond the canvas stays.
            paint: gives the colours of what is new, (h, w, 3) uint8, and is called as `paint(picture, known, hole)`
                with (h, w, 3) uint8, the layer on its own tile, its colours continued smoothly; (h, w) bool, where it
                has colours; and (h, w) bool, where it needs them. None takes the smooth ones. `ScenePipeline.reshape`
                takes a filler.

        Returns:
            The scene itself where the layer has this shape.

        Raises:
            TypeError, ValueError: naming `mask`: another dtype or size, or nothing is left of the layer.
        """
        i = self._check_index("i", i)
        shape = fit_shape(self.layers[i], frozen_array("mask", mask, np.bool_, self.background.shape[:2]))
        if shape is None:
            return self
        colours = shape.smooth
        if paint is not None and not callable(paint):
            raise TypeError(f"`paint` must be a function or None, got {describe(paint)}.")
        if paint is not None and shape.new.any():
            colours = frozen_array("paint", paint(colours, shape.seen, shape.new), np.uint8, colours.shape)
        old, replaced, evidence = self.layers[i], self.replaced.copy(), self.evidence.copy()
        background = self.background
        if self.photo is not None and old.as_in_photo:
            shadows = [layer.shadow_layer() for layer in self.layers if layer.visible]
            background = behind_outline(background, self.photo, old, [shadow for shadow in shadows if shadow])
        leave(replaced, old, old.shadow_layer(), self.rim)
        evidence[i, :] = evidence[:, i] = False
        reshaped = self._with_layer(i, shape.painted(colours))
        return replace(reshaped, background=background, replaced=replaced, evidence=evidence)

    def bring_to_front(self, i: int, *, carried: bool = False) -> Scene:
        """Put layer i in front of all others, its hidden parts included; what is carried stays in front of it."""
        return self._reordered(i, 1, carried)

    def send_to_back(self, i: int, *, carried: bool = False) -> Scene:
        """Put layer i behind all others; what is carried stays in front of it."""
        return self._reordered(i, -1, carried)

    def swap_order(self, i: int, j: int) -> Scene:
        """Exchange who of layers i and j is in front; nothing else changes.

        Of two objects that each hide a part of the other, one is wholly in front afterwards.
        """
        i, j = self._check_index("i", i), self._check_index("j", j)
        if i == j:
            raise ValueError(f"`j` must be another layer than `i`, got {j} twice.")
        order, evidence = self.order.copy(), self.evidence.copy()
        order[i, j] = -1 if self.in_front(i, j) else 1
        order[j, i] = -order[i, j]
        evidence[i, j] = evidence[j, i] = False
        return replace(self, order=order, evidence=evidence)

    def restack(self, i: int, place: int) -> Scene:
        """Put layer i at a place of `stacking`, 0 at the back, so that it is in front of exactly those before it there.

        Relations that this does not change are kept, with what the photo shows of them: of two objects that each hide a
        part of the other, both still do where layer i comes to no other side of the other one. Of other layers none
        changes sides.

        Raises:
            IndexError, TypeError: where `i` or `place` is none of the N layers.
        """
        i, place = self._check_index("i", i), self._check_index("place", place)
        before = self.stacking()
        wanted = [index for index in before if index != i]
        wanted.insert(place, i)
        order, evidence = self.order.copy(), self.evidence.copy()
        for position, j in enumerate(wanted):
            if j != i:
                relation = 1 if place > position else -1
                if self.in_front(i, j) != (relation == 1):
                    evidence[i, j] = evidence[j, i] = False
                order[i, j], order[j, i] = relation, -relation
        if stacking(order) != wanted:
            # Layers without a relation of their own keep the one in which they were seen.
            rank = np.argsort(before)
            unrelated = (order == 0) & ~np.eye(len(order), dtype=bool)
            order = np.where(unrelated, np.sign(rank[:, None] - rank), order).astype(np.int8)
        return replace(self, order=order, evidence=evidence)

    def insert(self, rgba: RgbaInput, x: float = 0, y: float = 0, name: str = "") -> Scene:
        """Add a picture as the last layer, in front of all others.

        Args:
            rgba: anything that `load_rgba` takes, upright by its EXIF data, with straight alpha; without alpha it is
                opaque.
            x: left edge on the canvas.
            y: top edge on the canvas.
            name: of the layer.

        Raises:
            FileNotFoundError, TypeError, ValueError: where `rgba` cannot be read or is of another kind.
        """
        tile = _read_rgba(rgba)
        mask = tile[..., 3] > 127
        transform = translation(check_number("x", x), check_number("y", y))
        layer = Layer(tile, mask, mask, None, transform, name=name, id=self.next_id)
        return self._added(layer, np.ones(len(self), np.int8))

    def duplicate(self, i: int, dx: float = 0, dy: float = 0) -> Scene:
        """Add a copy of layer i as the last layer, (dx, dy) pixels away.

        It is in front of layer i and of all that layer i is in front of, and behind all other layers.
        """
        i = self._check_index("i", i)
        transform = compose(translation(check_number("dx", dx), check_number("dy", dy)), self.layers[i].transform)
        copy = replace(self.layers[i], transform=transform, id=self.next_id, origin=None)
        relations = [1 if i == j or self.in_front(i, j) else -1 for j in range(len(self))]
        return self._added(copy, np.array(relations, np.int8))

    def rename(self, i: int, name: str) -> Scene:
        """Give layer i another name."""
        i = self._check_index("i", i)
        return self._with_layer(i, replace(self.layers[i], name=name))

    def set_visible(self, i: int, visible: bool = True, *, carried: bool = False) -> Scene:
        """Show layer i, or hide it with its shadow: the scene then renders as if it had been removed."""
        return self._with_each(self._group(i, carried), lambda layer: replace(layer, visible=visible))

    def set_opacity(self, i: int, opacity: float, *, carried: bool = False) -> Scene:
        """Let layer i and its shadow count by `opacity`, from 0 (not at all) to 1; what is behind it shines through."""
        group, share = self._group(i, carried), check_number("opacity", opacity, least=0, most=1)
        return self._with_each(group, lambda layer: replace(layer, opacity=share))

    def set_locked(self, i: int, locked: bool = True) -> Scene:
        """Mark layer i as one that editors leave as it is, or free it again."""
        i = self._check_index("i", i)
        return self._with_layer(i, replace(self.layers[i], locked=locked))

    # Files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the scene in the format that the suffix of `path` names.

        Args:
            path: a folder (PNG layers and scene.json), .ora (OpenRaster), .psd (Photoshop) or .json (COCO amodal).

        Raises:
            FileExistsError: where a folder holds other files under the names of those of a scene; those of an earlier
                scene are replaced.
            TypeError, ValueError, OSError: as `formats.save_scene` says.
        """
        from . import formats  # which are built on this module

        formats.save_scene(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Scene:
        """Read a scene that `save` has written; it equals the one that was saved."""
        from . import formats

        return formats.load_scene(path)

    def equals(self, other: object) -> bool:
        """Whether all fields of both scenes are the same, bit for bit, the `uncertainty` of layers, too.

        Networks round otherwise with another number of torch's threads, on another processor or in another batch. Two
        scenes made so may look alike in every pixel and yet differ here, by 1e-6 in an uncertainty.
        """
        if not isinstance(other, Scene) or len(self) != len(other):
            return False
        if (self.rim, self.next_id) != (other.rim, other.next_id):
            return False
        arrays = ("background", "photo", "order", "evidence", "replaced")
        return all(same_array(getattr(self, name), getattr(other, name)) for name in arrays) and all(
            first.equals(second) for first, second in zip(self.layers, other.layers, strict=True)
        )

    # Helpers

    def _check_index(self, name: str, index: Any) -> int:
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise TypeError(f"`{name}` must be the index of a layer, got {describe(index)}.")
        if not 0 <= index < len(self):
            raise IndexError(f"`{name}` must be the index of one of {len(self)} layers, got {describe(index)}.")
        return int(index)

    def _with_layer(self, i: int, layer: Layer) -> Scene:
        return replace(self, layers=(*self.layers[:i], layer, *self.layers[i + 1 :]))

    def _group(self, i: int, carried: bool) -> list[int]:
        """Layer i, and what it carries where that is asked for."""
        i = self._check_index("i", i)
        return [i, *self.carried(i)] if check_flag("carried", carried) else [i]

    def _with_each(self, group: Sequence[int], change: Callable[[Layer], Layer]) -> Scene:
        layers = [change(layer) if place in group else layer for place, layer in enumerate(self.layers)]
        return replace(self, layers=tuple(layers))

    def _transformed(
        self, i: int, change: Any, point: tuple[float, float] | None = None, *, carried: bool = False
    ) -> Scene:
        """With layer i after an affine map of the canvas, or a 2x2 matrix about a point, its centre where None."""
        group = self._group(i, carried)
        if np.shape(change) == (2, 2):
            change = about(change, *(self.layers[i].centre if point is None else _check_point(point)))
        moved = self._with_each(group, lambda layer: replace(layer, transform=compose(change, layer.transform)))
        # Who passes behind somebody does so with all that is in their hands.
        rows, order = group[1:], self.order.copy()
        taken = np.where(order[rows] == 0, order[i], order[rows])
        taken[:, group] = order[np.ix_(rows, group)]
        order[rows], order[:, rows] = taken, -taken.T
        return replace(moved, order=order) if rows else moved

    def _reordered(self, i: int, relation: int, carried: bool) -> Scene:
        inside = np.isin(np.arange(len(self)), self._group(i, carried))
        order, evidence = self.order.copy(), self.evidence.copy()
        order[np.ix_(inside, ~inside)], order[np.ix_(~inside, inside)] = relation, -relation
        evidence[np.ix_(inside, ~inside)] = evidence[np.ix_(~inside, inside)] = False
        return replace(self, order=order, evidence=evidence)

    def _added(self, layer: Layer, relations: npt.NDArray[np.int8]) -> Scene:
        order, evidence = np.pad(self.order, (0, 1)), np.pad(self.evidence, (0, 1))
        order[-1, :-1], order[:-1, -1] = relations, -relations
        return replace(self, layers=(*self.layers, layer), order=order, evidence=evidence)


def _check_relations(layers: Sequence[Layer], order: Any, evidence: Any) -> dict[str, npt.NDArray[Any]]:
    count = len(layers)
    matrix = np.zeros((count, count), np.int8) if order is None else check_order(order, count)
    if evidence is None:
        seen = np.array([layer.origin is not None for layer in layers], bool)
        evidence = np.outer(seen, seen) & ~np.eye(count, dtype=bool)
    evidence = frozen_array("evidence", evidence, np.bool_, (count, count))
    if (evidence != evidence.T).any() or evidence.diagonal().any():
        raise ValueError("`evidence` must be symmetric and False on its diagonal.")
    return {"order": frozen_array("order", matrix, np.int8, (count, count)), "evidence": evidence}


@contextmanager
def _refused(name: str, value: Any) -> Iterator[None]:
    """Say which argument of an edit it was where a layer refuses the transform that comes of it."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what is no longer finite is refused
            yield
    except ValueError as error:
        if not str(error).startswith("`transform`"):
            raise
        raise ValueError(f"`{name}` is too far from what the layer is now, got {value!r}: {error}") from error


def _check_point(point: Any) -> tuple[float, float]:
    if not isinstance(point, Sequence | np.ndarray) or np.ndim(point) == 0 or len(point) != 2:
        raise ValueError(f"`about` must be a point (x, y), got {describe(point)}.")
    return check_number("about", point[0]), check_number("about", point[1])


def _read_rgba(rgba: Any) -> npt.NDArray[np.uint8]:
    try:
        return np.asarray(load_rgba(rgba))
    except (FileNotFoundError, TypeError, ValueError) as error:
        message = str(error).replace("`image`", "`rgba`")
        raise type(error)(message if "`rgba`" in message else f"`rgba`: {message}") from error


def _as_output(picture: npt.NDArray[np.uint8], output_type: str) -> Any:
    check_choice("output_type", output_type, OUTPUT_TYPES)
    if output_type == "pt":
        return torch.from_numpy(picture.transpose(2, 0, 1).copy())
    return picture if output_type == "np" else Image.fromarray(picture)
