"""One layer of a scene, and the affine maps that place it. Internal; `scene` has the public names."""

from __future__ import annotations

from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from ..arguments.flags import check_flag
from ..arguments.numeric import check_integer, check_number
from ..display import describe

FloatArray = npt.NDArray[np.float64]

# Differences of coordinates below this, in pixels, are rounding errors of composed maps.
_SAME = 1e-6
# Of the 2x2 part of a map: far beyond what a canvas can show, and well within 32-bit floats.
_MOST, _LEAST_AREA = 1e12, 1e-24


class Immutable:
    """A frozen dataclass of read-only arrays: copies share them, and what comes back from a pickle is read-only again.

    Example:
        >>> import copy
        >>> layer = Layer(np.zeros((1, 1, 4), np.uint8), np.ones((1, 1), bool), np.ones((1, 1), bool))
        >>> copy.deepcopy(layer) is layer
        True
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Make it anew from its fields, which makes arrays read-only."""
        return type(self), tuple(getattr(self, field.name) for field in fields_of(cast(Any, self)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """It cannot change, so it is its own copy."""
        return self


@dataclass(frozen=True, eq=False)
class Layer(Immutable):
    """One object of a scene as a tile of its own, and where it stands on the canvas.

    Arrays are read-only; what is writeable when a layer is made is copied.

    Args:
        rgba: (h, w, 4) uint8, straight alpha: the whole object with its hidden parts, never resampled by edits. Along
            a soft outline alpha lies between 0 and 255, and the colour is that of the object alone.
        modal: (h, w) bool, the part that the photo shows, with all of a soft outline.
        amodal: (h, w) bool, the whole object, likewise.
        uncertainty: (h, w) float32, not negative, or None.
        transform: (2, 3) float64, affine map of tile coordinates (x, y) to canvas coordinates. Both count pixels from
            the outer corner of the top left one, whose centre is (0.5, 0.5).
        name: what people call it.
        id: at least 0, unique in a scene and kept by edits.
        origin: (2, 3) float64, the transform with which the visible pixels lie on the photo where they were seen; None
            for a layer that the photo does not show.
        shadow: (h + 2 m, w + 2 m) uint8, by how much the object darkens the background around it, 0 (not at all) to 255
            (black), on the tile with a margin of m pixels on each side; None: it throws no shadow that is known.
        is_crowd: it is a group of objects under one mask, which was not completed.
        visible: False hides it, as if it had been removed.
        opacity: 0 to 1, by which the alpha of its tile and of its shadow counts.
        locked: for editors, which then leave it as it is; the methods of `Scene` do not ask.

    Raises:
        TypeError, ValueError: naming the argument: another shape or dtype, values that are not finite, a transform
            that cannot be inverted, or enlarges by more than 1e12, an opacity outside of [0, 1].

    Example:
        >>> tile = np.full((2, 3, 4), 255, np.uint8)
        >>> mask = np.ones((2, 3), bool)
        >>> Layer(tile, modal=mask, amodal=mask, transform=translation(10, 5), name="cup")
        Layer('cup', id 0, 3x2, at 10, 5, 3x2 on the canvas)
    """

    rgba: npt.NDArray[np.uint8]
    modal: npt.NDArray[np.bool_]
    amodal: npt.NDArray[np.bool_]
    uncertainty: npt.NDArray[np.float32] | None = None
    transform: FloatArray = field(default_factory=lambda: translation(0, 0))
    name: str = ""
    id: int = 0
    origin: FloatArray | None = None
    shadow: npt.NDArray[np.uint8] | None = None
    is_crowd: bool = False
    visible: bool = True
    opacity: float = 1.0
    locked: bool = False

    def __post_init__(self) -> None:
        rgba = frozen_array("rgba", self.rgba, np.uint8, (None, None, 4))
        height, width = rgba.shape[:2]
        if not rgba.size:
            raise ValueError(f"`rgba` must have pixels, got shape {rgba.shape}.")
        fields: dict[str, Any] = {"rgba": rgba}
        for name in ("modal", "amodal"):
            fields[name] = frozen_array(name, getattr(self, name), np.bool_, (height, width))
        if self.uncertainty is not None:
            values = frozen_array("uncertainty", self.uncertainty, np.float32, (height, width))
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise ValueError("`uncertainty` must be finite and not negative.")
            fields["uncertainty"] = values
        fields["transform"] = _affine("transform", self.transform)
        if self.origin is not None:
            fields["origin"] = _affine("origin", self.origin)
        if self.shadow is not None:
            shadow = fields["shadow"] = frozen_array("shadow", self.shadow, np.uint8, (None, None))
            wider = (shadow.shape[0] - height, shadow.shape[1] - width)
            if wider[0] != wider[1] or wider[0] < 0 or wider[0] % 2:
                raise ValueError(
                    f"`shadow` must be the tile of {width}x{height} pixels with one margin on all sides, got "
                    f"{shadow.shape[1]}x{shadow.shape[0]}."
                )
        if not isinstance(self.name, str):
            raise TypeError(f"`name` must be a string, got {describe(self.name)}.")
        fields["id"] = check_integer("id", self.id, 0)
        for name in ("is_crowd", "visible", "locked"):
            fields[name] = check_flag(name, getattr(self, name))
        fields["opacity"] = check_number("opacity", self.opacity, least=0, most=1)
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        x, y, w, h = self.box
        name = f"{self.name!r}, " if self.name else ""
        return f"Layer({name}id {self.id}, {self.size[0]}x{self.size[1]}, at {x:g}, {y:g}, {w:g}x{h:g} on the canvas)"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the tile in pixels."""
        return self.rgba.shape[1], self.rgba.shape[0]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The least upright box (x, y, w, h) around the transformed tile, in pixels of the canvas."""
        low, high = corners(self.transform, *self.size)
        return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])

    @property
    def centre(self) -> tuple[float, float]:
        """Centre (x, y) of the tile on the canvas."""
        width, height = self.size
        x, y = self.transform @ (width / 2, height / 2, 1)
        return float(x), float(y)

    @property
    def motion(self) -> FloatArray | None:
        """(2, 3) map of canvas coordinates from where the photo shows the layer to where it is now; None if nowhere."""
        if self.origin is None:
            return None
        return compose(self.transform, invert(self.origin))

    @property
    def at_home(self) -> bool:
        """The layer stands where the photo shows it."""
        return self.origin is not None and self.same_place(self.transform, self.origin)

    @property
    def as_in_photo(self) -> bool:
        """The layer is seen as the photo shows it: in its place, and neither hidden nor faded."""
        return self.visible and self.opacity == 1 and self.at_home

    def shadow_layer(self) -> Layer | None:
        """The shadow as a black layer of its own, which stands where this one does; None without a shadow."""
        if self.shadow is None:
            return None
        rgba = np.zeros((*self.shadow.shape, 4), np.uint8)
        rgba[..., 3] = self.shadow
        margin = (self.shadow.shape[0] - self.rgba.shape[0]) // 2
        inner = translation(-margin, -margin)
        origin = None if self.origin is None else compose(self.origin, inner)
        dark = self.shadow > 0
        return Layer(rgba, dark, dark, None, compose(self.transform, inner), origin=origin, opacity=self.opacity)

    def same_place(self, first: FloatArray, second: FloatArray) -> bool:
        """Whether two maps of this layer's tile agree on all of it."""
        return same_map(first, second, max(self.size))

    def equals(self, other: object) -> bool:
        """Whether all fields are the same, pixel by pixel."""
        if not isinstance(other, Layer):
            return False
        arrays = ("rgba", "modal", "amodal", "uncertainty", "transform", "origin", "shadow")
        plain = ("name", "id", "is_crowd", "visible", "opacity", "locked")
        return all(getattr(self, name) == getattr(other, name) for name in plain) and all(
            same_array(getattr(self, name), getattr(other, name)) for name in arrays
        )


def frozen_array(name: str, value: Any, dtype: Any, shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
    """`value` as a read-only array of its own, after its dtype and shape were checked (None: any length).

    Example:
        >>> frozen_array("rgba", np.zeros((2, 3), np.uint8), np.uint8, (None, 3)).flags.writeable
        False
    """
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.dtype != dtype:
        raise TypeError(f"`{name}` must have dtype {np.dtype(dtype)}, got {array.dtype}.")
    if array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"`{name}` must have shape ({wanted}), got {array.shape}.")
    if not _stays(array):
        array = array.copy()
        array.flags.writeable = False
    return array


def _stays(array: Any) -> bool:
    """Whether nobody can write into an array: it and all that it is a view of are read-only."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return False
        array = array.base
    return array is None or isinstance(array, bytes)


def same_array(first: npt.NDArray[Any] | None, second: npt.NDArray[Any] | None) -> bool:
    """Whether both are the same array value for value, or both None.

    Example:
        >>> same_array(np.zeros(3), np.zeros(3)), same_array(None, np.zeros(3))
        (True, False)
    """
    if first is None or second is None:
        return first is second
    return first is second or np.array_equal(first, second)


# Affine maps (2, 3): x' = a x + b y + c, y' = d x + e y + f.


def translation(dx: float, dy: float) -> FloatArray:
    """The map that shifts by (dx, dy) pixels.

    Example:
        >>> translation(3, 4)
        array([[1., 0., 3.],
               [0., 1., 4.]])
    """
    return np.array([[1, 0, dx], [0, 1, dy]], np.float64)


def compose(second: FloatArray, first: FloatArray) -> FloatArray:
    """The map that does `first` and then `second`.

    Example:
        >>> compose(translation(1, 0), translation(0, 2))
        array([[1., 0., 1.],
               [0., 1., 2.]])
    """
    return np.concatenate([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2:] + second[:, 2:]], axis=1)


def invert(affine: FloatArray) -> FloatArray:
    """The inverse of a map.

    Example:
        >>> invert(translation(1, 2))
        array([[ 1.,  0., -1.],
               [ 0.,  1., -2.]])
    """
    if np.array_equal(affine[:, :2], np.eye(2)):
        return translation(-affine[0, 2], -affine[1, 2])
    linear = np.linalg.inv(affine[:, :2])
    return np.concatenate([linear, -linear @ affine[:, 2:]], axis=1)


def about(linear: npt.ArrayLike, x: float, y: float) -> FloatArray:
    """The map with the 2x2 matrix `linear` that keeps the point (x, y).

    Example:
        >>> about([[2, 0], [0, 2]], 1, 1)
        array([[ 2.,  0., -1.],
               [ 0.,  2., -1.]])
    """
    matrix, point = np.asarray(linear, np.float64), np.array([[x], [y]], np.float64)
    return np.concatenate([matrix, point - matrix @ point], axis=1)


def corners(affine: FloatArray, width: float, height: float, margin: float = 0) -> tuple[FloatArray, FloatArray]:
    """Least and greatest (x, y) that the tile reaches on the canvas, with `margin` tile pixels around it.

    Example:
        >>> corners(translation(5, 1), 3, 2)
        (array([5., 1.]), array([8., 3.]))
    """
    x, y = (-margin, width + margin), (-margin, height + margin)
    points = affine @ np.array([[x[0], x[1], x[0], x[1]], [y[0], y[0], y[1], y[1]], [1, 1, 1, 1]], np.float64)
    return points.min(axis=1), points.max(axis=1)


def same_map(first: FloatArray, second: FloatArray, reach: float) -> bool:
    """Whether two maps agree on all points within `reach` pixels of the corner.

    Example:
        >>> same_map(translation(1, 2), translation(1 + 1e-9, 2), reach=100)
        True
    """
    difference = np.abs(first - second)
    return bool((difference[:, :2].sum(axis=1) * reach + difference[:, 2] < _SAME).all())


def integer_shift(affine: FloatArray, reach: float) -> tuple[int, int] | None:
    """(dx, dy) where the map is a shift by whole pixels, up to rounding errors; None otherwise.

    Example:
        >>> integer_shift(translation(3, -2), 100), integer_shift(translation(0.5, 0), 100)
        ((3, -2), None)
    """
    shift = np.rint(affine[:, 2])
    if not same_map(affine, translation(*shift), reach):
        return None
    return int(shift[0]), int(shift[1])


def _affine(name: str, value: Any) -> FloatArray:
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"`{name}` must be a (2, 3) matrix of numbers, got {describe(value)}.") from error
    array = frozen_array(name, numbers, np.float64, (2, 3))
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite, got {array.tolist()}.")
    if (np.abs(array[:, :2]) > _MOST).any() or not abs(np.linalg.det(array[:, :2])) > _LEAST_AREA:
        raise ValueError(
            f"`{name}` must be invertible, with at most {_MOST:g} pixels for one and an area of more than "
            f"{_LEAST_AREA:g}, got {array.tolist()}."
        )
    return array
