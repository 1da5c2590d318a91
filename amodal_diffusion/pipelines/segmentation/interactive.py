"""The call that all interactive segmenters share: a photo is embedded once, then each click costs little."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...display import describe, short_repr
from ...images import load_image
from ...masks import BoolArray, to_mask_stack
from ..inputs import named


@dataclass(frozen=True)
class PhotoEmbedding:
    """What a segmenter keeps of a photo between clicks.

    Args:
        photo: (H, W, 3) uint8.
        features: what the segmenter made of the photo.
        maker: which segmenter made it, since no other can read it.

    Example:
        >>> PhotoEmbedding(np.zeros((4, 6, 3), np.uint8), None, "SAM")
        PhotoEmbedding(photo=uint8 (4, 6, 3), maker='SAM')
    """

    photo: npt.NDArray[np.uint8]
    features: Any
    maker: str

    __repr__ = short_repr

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the photo."""
        return self.photo.shape[0], self.photo.shape[1]


@dataclass(frozen=True)
class Prompt:
    """What says which object is meant, checked.

    Args:
        points: (P, 2) float64, (x, y) in pixels of the photo.
        labels: (P,) int64, 1 on the object, 0 beside it.
        box: (4,) float64, (x, y, w, h) around the object, or None.
        mask: (H, W) bool, an earlier answer to make better, or None.

    Example:
        >>> read_prompt([[2, 1], [5, 3]], [1, 0], None, None, height=4, width=6).positive
        array([[2., 1.]])
    """

    points: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    box: npt.NDArray[np.float64] | None = None
    mask: BoolArray | None = None

    __repr__ = short_repr

    @property
    def positive(self) -> npt.NDArray[np.float64]:
        """(P, 2), the points on the object."""
        return self.points[self.labels == 1]

    @property
    def negative(self) -> npt.NDArray[np.float64]:
        """(P, 2), the points beside it."""
        return self.points[self.labels == 0]


class InteractiveSegmenter:
    """Gives the object that a person points at, by points, a box, or an earlier mask to make better.

    A subclass says how it looks at a photo (`encode`) and what it answers (`answer`). `embed` costs what a look at the
    photo costs; `click` takes what it gives, or a photo.

    Example:
        >>> class Disc(InteractiveSegmenter):
        ...     def answer(self, embedding, prompt):
        ...         y, x = np.ogrid[: embedding.size[0], : embedding.size[1]]
        ...         return (x - prompt.points[0, 0]) ** 2 + (y - prompt.points[0, 1]) ** 2 < 2
        >>> segmenter = Disc()
        >>> embedding = segmenter.embed(np.zeros((5, 6, 3), np.uint8))
        >>> segmenter.click(embedding, [2, 1]).sum()
        np.int64(5)
    """

    @property
    def can_click(self) -> bool:
        """`embed` and `click` work."""
        return True

    @property
    def maker(self) -> str:
        """What the embeddings of this segmenter are known by."""
        return type(self).__name__

    @torch.no_grad()
    def embed(self, image: Any) -> PhotoEmbedding:
        """Look at a photo once, for any number of clicks.

        Args:
            image: the photo in any form that `load_image` reads.

        Raises:
            ValueError: where the model takes no clicks.
        """
        photo = np.asarray(load_image(image))
        return PhotoEmbedding(photo, self.encode(photo), self.maker)

    @torch.no_grad()
    def click(
        self, image: Any, points: Any = None, labels: Any = None, *, box: Any = None, mask: Any = None
    ) -> BoolArray:
        """The object that is pointed at.

        Args:
            image: what `embed` gave, or the photo in any form that `load_image` reads.
            points: (P, 2) or (2,) numbers, (x, y) in pixels of the photo, from its upper left corner: the middle of the
                first pixel is (0.5, 0.5). All points of the object, those of earlier clicks too.
            labels: (P,), 1 for a point on the object, 0 for one beside it; None: all are on it.
            box: (x, y, w, h) in pixels of the photo, around the object.
            mask: (H, W) of bool or of any form of one mask: the answer to earlier clicks, which is made better.

        Returns:
            (H, W) bool; False everywhere where nothing is found.

        Raises:
            ValueError: where the model takes no clicks, `image` is the embedding of another segmenter, or naming the
                argument: nothing that says where the object is, points or a box beside the photo, labels of another
                number or other than 0 and 1, a mask of another size.
        """
        embedding = image if isinstance(image, PhotoEmbedding) else self.embed(image)
        if embedding.maker != self.maker:
            raise ValueError(f"`image` was embedded by {embedding.maker}, which {self.maker} cannot read.")
        height, width = embedding.size
        return self.answer(embedding, read_prompt(points, labels, box, mask, height=height, width=width))

    def encode(self, photo: npt.NDArray[np.uint8]) -> Any:
        """What is kept of a photo (H, W, 3) beside its pixels."""
        return None

    def answer(self, embedding: PhotoEmbedding, prompt: Prompt) -> BoolArray:
        """(H, W) bool, the object of a checked prompt."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it answers to a click.")


def read_prompt(points: Any, labels: Any, box: Any, mask: Any, *, height: int, width: int) -> Prompt:
    """Check what a person pointed at; see `InteractiveSegmenter.click`.

    Raises:
        ValueError: naming the argument.

    Example:
        >>> read_prompt(None, None, (1, 1, 3, 2), None, height=4, width=6).box
        array([1., 1., 3., 2.])
        >>> read_prompt([9, 1], None, None, None, height=4, width=6)
        Traceback (most recent call last):
        ...
        ValueError: `points` must lie on the photo of 6 x 4 pixels, got [[9.0, 1.0]].
    """
    where, which = _check_points(points, labels, width, height)
    if box is not None:
        box = _check_box(box, width, height)
    if mask is not None:
        mask = _check_mask(mask, height, width)
    if box is None and mask is None and not which.any():
        raise ValueError("`points` must hold one on the object, where neither `box` nor `mask` says where it is.")
    return Prompt(where, which, box, mask)


def keep_pointed_at(mask: BoolArray, points: npt.NDArray[np.float64], scale: float = 1.0) -> BoolArray:
    """The connected pieces of a mask that have a point on them; the mask itself where none has one.

    Args:
        mask: (h, w) bool.
        points: (P, 2) of the object, (x, y) in pixels of the photo.
        scale: pixels of the mask per pixel of the photo.

    Example:
        >>> mask = np.array([[1, 1, 0, 1], [0, 0, 0, 1]], bool)
        >>> keep_pointed_at(mask, np.array([[0.5, 0.5]])).astype(int)
        array([[1, 1, 0, 0],
               [0, 0, 0, 0]])
    """
    x, y = pixels_of(points, mask.shape, scale)
    reached = np.zeros_like(mask)
    reached[y, x] = mask[y, x]
    if not reached.any():
        return mask
    count = 0
    while (now := int(reached.sum())) != count:  # along rows and columns in turn, which ends after a few turns
        count = now
        reached = _fill_runs(mask, reached)
        reached = _fill_runs(mask.T, reached.T).T
    return reached


def _fill_runs(mask: BoolArray, reached: BoolArray) -> BoolArray:
    """All pixels of each run of a row of `mask` of which one is reached."""
    starts = mask.copy()
    starts[:, 1:] &= ~mask[:, :-1]
    runs = np.cumsum(starts.ravel()).reshape(mask.shape)
    hit = np.zeros(int(runs[-1, -1]) + 1, bool)
    hit[runs[reached]] = True
    return mask & hit[runs]


def pixels_of(
    points: npt.NDArray[np.float64], shape: tuple[int, ...], scale: float = 1.0
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Columns and rows of the pixels that points lie on; one on the right or lower edge belongs to the last pixel.

    Args:
        points: (P, 2), (x, y) in pixels of the photo.
        shape: of the picture, height first.
        scale: pixels of the picture per pixel of the photo.

    Example:
        >>> pixels_of(np.array([[6.0, 1.5]]), (4, 6))
        (array([5]), array([1]))
    """
    x, y = np.floor(points * scale).astype(np.intp).T
    return x.clip(0, shape[1] - 1), y.clip(0, shape[0] - 1)


def _check_points(
    points: Any, labels: Any, width: int, height: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    if points is None:
        if labels is not None:
            raise ValueError("`labels` must be None where there are no `points`.")
        return np.zeros((0, 2)), np.zeros(0, np.int64)
    where = np.atleast_2d(_numbers("points", points))
    if where.ndim != 2 or where.shape[1] != 2 or not len(where):
        raise ValueError(f"`points` must have shape (P, 2), (x, y) each, got {np.shape(points)}.")
    inside = (where >= 0).all() and (where <= (width, height)).all()
    if not inside:
        raise ValueError(f"`points` must lie on the photo of {width} x {height} pixels, got {where.tolist()}.")
    which = np.ones(len(where), np.int64) if labels is None else np.atleast_1d(_numbers("labels", labels))
    if which.shape != (len(where),):
        raise ValueError(f"`labels` must have one entry for each of the {len(where)} points, got {which.shape}.")
    if not np.isin(which, (0, 1)).all():
        raise ValueError(f"`labels` must be 1 (on the object) or 0 (beside it), got {which.tolist()}.")
    return where, which.astype(np.int64)


def _numbers(name: str, values: Any) -> npt.NDArray[np.float64]:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"`{name}` must hold numbers, got {describe(values)}: {error}") from error


def _check_box(box: Any, width: int, height: int) -> npt.NDArray[np.float64]:
    values = _numbers("box", box)
    if values.shape != (4,) or not np.isfinite(values).all() or (values[2:] <= 0).any():
        raise ValueError(f"`box` must be (x, y, w, h) with a positive width and height, got {box!r}.")
    low = np.clip(values[:2], 0, (width, height))
    high = np.clip(values[:2] + values[2:], 0, (width, height))
    if (high <= low).any():
        raise ValueError(f"`box` must lie on the photo of {width} x {height} pixels, got {values.tolist()}.")
    return np.concatenate([low, high - low])


def _check_mask(mask: Any, height: int, width: int) -> BoolArray:
    with named("mask", ""):
        stack = to_mask_stack(mask, height=height, width=width)
    if len(stack) != 1:
        raise ValueError(f"`mask` must be one mask, got {len(stack)}.")
    return stack[0]
