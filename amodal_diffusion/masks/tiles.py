"""Stacks of planes that are zero nearly everywhere, kept as one tile a plane.

A hundred objects on a photo of 12 megapixels make 1.2 GB of dense boolean masks and 4.8 GB of float32 probabilities, of
which some percent are not zero: an object fills its own box and nothing else. A `TileStack` holds the boxes and what
lies in them, exactly, and makes dense planes when they are asked for.

What it costs: memory and time follow the area of the boxes, so a hundred objects that tile the photo take about as much
as one or two dense planes; an object as large as the photo takes a whole one. Reading a plane by its index allocates
(H, W) and copies the tile into it. `np.asarray(stack)` makes everything dense, with the memory that this takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from .packed import IntArray


class TileStack:
    """(N, ..., H, W) planes, each stored as the tile inside its box; everything outside of the boxes is 0.

    It reads like an array along its first axis: `len`, iteration and an integer index give dense planes, a slice, a
    list of indices or a boolean array of length N give a `TileStack` that shares the tiles, and `np.asarray` makes the
    dense stack. It cannot be written to.

    Args:
        tiles: N arrays (..., h, w) of one dtype, tile i as large as its box. They are not copied.
        boxes: (N, 4) integers (x, y, w, h) in pixels, inside of the frame; an empty tile has w = 0 or h = 0.
        height: H of the frame in pixels.
        width: W of the frame in pixels.
        dtype: of a stack without planes; otherwise the dtype of the tiles.
        inner: the dimensions between N and H of a stack without planes, such as (K,) for K samples.

    Attributes:
        tiles: the N arrays, read-only.
        boxes: (N, 4) int64, read-only.

    Raises:
        ValueError: for boxes that leave the frame, or tiles of another shape than their box.

    Example:
        >>> stack = TileStack([np.ones((2, 3), bool)], [[1, 0, 3, 2]], height=4, width=5)
        >>> stack
        TileStack(1 plane of 5x4, bool, 6 bytes)
        >>> stack[0].astype(int)
        array([[0, 1, 1, 1, 0],
               [0, 1, 1, 1, 0],
               [0, 0, 0, 0, 0],
               [0, 0, 0, 0, 0]])
        >>> np.asarray(stack).shape
        (1, 4, 5)
    """

    def __init__(
        self,
        tiles: Sequence[npt.NDArray[Any]],
        boxes: npt.ArrayLike,
        height: int,
        width: int,
        *,
        dtype: npt.DTypeLike = bool,
        inner: Sequence[int] = (),
    ) -> None:
        box_array = np.array(boxes, dtype=np.int64).reshape(-1, 4)
        if len(box_array) != len(tiles):
            raise ValueError(f"`boxes` must have one box for each of {len(tiles)} tiles, got {len(box_array)}.")
        x, y, w, h = box_array.T
        inside = (box_array >= 0).all(axis=1) & (x + w <= width) & (y + h <= height)
        if not inside.all():
            index = int(np.argmin(inside))
            raise ValueError(f"`boxes[{index}]` must lie in {width}x{height}, got {box_array[index].tolist()}.")
        self.height, self.width = int(height), int(width)
        self._inner = tuple(tiles[0].shape[:-2]) if len(tiles) else tuple(inner)
        self._dtype = tiles[0].dtype if len(tiles) else np.dtype(dtype)
        views = []
        for index, (tile, box) in enumerate(zip(tiles, box_array, strict=True)):
            expected = (*self._inner, int(box[3]), int(box[2]))
            if tile.shape != expected or tile.dtype != self._dtype:
                raise ValueError(
                    f"`tiles[{index}]` must have shape {expected} and dtype {self._dtype}, "
                    f"got {tile.shape} and {tile.dtype}."
                )
            views.append(_read_only(tile))
        self.tiles = tuple(views)
        self.boxes: IntArray = _read_only(box_array)

    @classmethod
    def from_dense(cls, planes: npt.NDArray[Any]) -> TileStack:
        """Keep of each plane of an (N, ..., H, W) array the tight box around what is not 0."""
        array = np.asarray(planes)
        if array.ndim < 3:
            raise ValueError(f"`planes` must have shape (N, ..., height, width), got {array.shape}.")
        height, width = array.shape[-2:]
        tiles = [tight_tile(plane) for plane in array]
        return cls(
            [tile for tile, _ in tiles],
            [box for _, box in tiles],
            height,
            width,
            dtype=array.dtype,
            inner=array.shape[1:-2],
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ..., H, W), of the dense stack."""
        return (len(self.tiles), *self._inner, self.height, self.width)

    @property
    def ndim(self) -> int:
        """Number of dimensions of the dense stack."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the planes."""
        return self._dtype

    @property
    def nbytes(self) -> int:
        """Memory that the tiles take."""
        return sum(tile.nbytes for tile in self.tiles)

    def __len__(self) -> int:
        return len(self.tiles)

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self._plane(index) for index in range(len(self)))

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> npt.NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | npt.NDArray[Any]) -> TileStack: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int | np.integer) and not isinstance(index, bool):
            return self._plane(range(len(self))[index])
        if isinstance(index, slice | list) or (isinstance(index, np.ndarray) and index.ndim == 1):
            chosen = np.arange(len(self))[index]
            return TileStack(
                [self.tiles[row] for row in chosen],
                self.boxes[chosen],
                self.height,
                self.width,
                dtype=self.dtype,
                inner=self._inner,
            )
        raise TypeError(
            f"a TileStack is indexed by a plane, a slice or a list of planes, got {index!r}; "
            "`np.asarray(stack)` is indexed like any array."
        )

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("a TileStack is made dense by copying its tiles: `copy=False` is impossible.")
        dense = self.to_dense()
        return dense if dtype is None else dense.astype(dtype, copy=False)

    def to_dense(self) -> npt.NDArray[Any]:
        """The whole (N, ..., H, W) array."""
        dense = np.zeros(self.shape, self.dtype)
        for plane, tile, box in zip(dense, self.tiles, self.boxes, strict=True):
            _window(plane, box)[...] = tile
        return dense

    def areas(self) -> IntArray:
        """Values of each plane that are not 0: (N,) int64, or (N, ...) with dimensions between N and H."""
        counts = [np.count_nonzero(tile, axis=(-2, -1)) for tile in self.tiles]
        return np.array(counts, dtype=np.int64).reshape(self.shape[:-2])

    def crop(self, index: int, box: Sequence[int] | IntArray) -> npt.NDArray[Any]:
        """What plane `index` holds in a box (x, y, w, h) of the frame: (..., h, w), 0 outside of its tile.

        Raises:
            ValueError: for a box that leaves the frame.
        """
        x, y, w, h = (int(side) for side in box)
        if min(x, y, w, h) < 0 or x + w > self.width or y + h > self.height:
            raise ValueError(f"`box` must lie in {self.width}x{self.height}, got {[x, y, w, h]}.")
        part = np.zeros((*self._inner, h, w), self.dtype)
        left, top, tile_width, tile_height = self.boxes[index].tolist()
        x0, x1 = max(x, left), min(x + w, left + tile_width)
        y0, y1 = max(y, top), min(y + h, top + tile_height)
        if x0 < x1 and y0 < y1:
            source = self.tiles[index][..., y0 - top : y1 - top, x0 - left : x1 - left]
            part[..., y0 - y : y1 - y, x0 - x : x1 - x] = source
        return part

    def _plane(self, index: int) -> npt.NDArray[Any]:
        plane = np.zeros(self.shape[1:], self.dtype)
        _window(plane, self.boxes[index])[...] = self.tiles[index]
        return plane

    def __repr__(self) -> str:
        inner = "".join(f"{side}x" for side in self._inner)
        planes = f"{len(self)} plane{'' if len(self) == 1 else 's'} of {inner}{self.width}x{self.height}"
        return f"TileStack({planes}, {self.dtype}, {_bytes(self.nbytes)})"


def _window(plane: npt.NDArray[Any], box: IntArray) -> npt.NDArray[Any]:
    x, y, w, h = box.tolist()
    return plane[..., y : y + h, x : x + w]


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def tight_tile(plane: npt.NDArray[Any], left: int = 0, top: int = 0) -> tuple[npt.NDArray[Any], list[int]]:
    """Cut what is not 0 out of a plane.

    Args:
        plane: (..., h, w), whose corner lies at (left, top) in the frame.
        left: in pixels.
        top: in pixels.

    Returns:
        A copy of the tight box of its values that are not 0, and that box (x, y, w, h) in the frame; an empty tile and
        zeros where there are none.

    Example:
        >>> tight_tile(np.array([[0, 0, 0], [0, 7, 8]]), left=10)
        (array([[7, 8]]), [11, 1, 2, 1])
    """
    found = (plane != 0).any(axis=tuple(range(plane.ndim - 2)))
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    if not len(rows):
        return plane[..., :0, :0].copy(), [0, 0, 0, 0]
    y, x, bottom, right = (int(edge) for edge in (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1))
    return plane[..., y:bottom, x:right].copy(), [left + x, top + y, right - x, bottom - y]


def _bytes(count: int) -> str:
    if count < 10**5:
        return f"{count} bytes"
    return f"{count / 10**6:.1f} MB"
