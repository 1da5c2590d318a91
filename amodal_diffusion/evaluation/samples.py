"""What an evaluation gives to a method and what it takes from it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image

from ..arguments.numeric import check_integer
from ..data import record_masks, record_order
from ..data.photos import open_photo
from ..display import short_repr
from ..images import load_image
from ..masks import mask_unions
from ..ordering import hidden_overlaps, order_from_masks

OrderSource = Literal["masks", "annotated"]
ORDER_SOURCES = ("masks", "annotated")


@dataclass
class Sample:
    """One image of a data set, with its ground truth.

    Args:
        image_id: name of the image in errors and reports.
        modal: (N, H, W) bool visible masks.
        amodal: (N, H, W) bool whole masks, the target of completion.
        order: (N, N) int8, `order[i, j] = 1` where i occludes j; the target of the order.
        category_ids: N ids of the data set, None where it has none.
        photo: the photo, its path, or `{"bytes", "path"}` as `datasets` keeps it; None where the data set has none.
            Read when `image` is first asked for.
        source: short name of the data set.
        names: N names of what the objects are, "" where unknown.

    Example:
        >>> modal = np.zeros((1, 12, 16), bool)
        >>> modal[0, 3:9, 4:8] = True
        >>> sample = Sample("photo-1", modal, modal | modal[:, ::-1], np.zeros((1, 1), np.int8), [0])
        >>> sample.occluders.any(), len(list(sample.alone()))
        (np.False_, 1)
    """

    image_id: str
    modal: np.ndarray
    amodal: np.ndarray
    order: np.ndarray
    category_ids: list[int | None] = field(default_factory=list)
    photo: Image.Image | str | os.PathLike[str] | Mapping[str, Any] | None = None
    source: str = ""
    names: list[str] = field(default_factory=list)

    __repr__ = short_repr

    @property
    def image(self) -> Image.Image | None:
        """The photo as RGB, or None. Raises ValueError for a photo that cannot be read or has another size."""
        if self.photo is None:
            return None
        image = load_image(open_photo(self.photo))
        height, width = self.modal.shape[1:]
        if image.size != (width, height):
            actual = f"{image.size[0]}x{image.size[1]}"
            raise ValueError(f"photo of image {self.image_id} is {actual} pixels, its masks are {width}x{height}.")
        self.photo = image
        return image

    @cached_property
    def occluders(self) -> np.ndarray:
        """(N, H, W) bool: the union of the modal masks of all that lies directly in front of each object."""
        return mask_unions(self.modal, self.order == -1)

    @cached_property
    def overlaps(self) -> np.ndarray:
        """(N, N) int64 pixels of each object under what is seen of each other one, see `hidden_overlaps`."""
        return hidden_overlaps(self.modal, self.amodal)

    def alone(self) -> Iterator[Sample]:
        """Every object as a sample of its own, which knows nothing of the others."""
        for index in range(len(self.modal)):
            one = slice(index, index + 1)
            part = replace(
                self,
                modal=self.modal[one],
                amodal=self.amodal[one],
                order=np.zeros((1, 1), np.int8),
                category_ids=self.category_ids[one],
                names=self.names[one],
            )
            yield part
            self.photo = part.photo  # once one of them has read the photo, the others need not


@dataclass(frozen=True)
class Detections:
    """What an instance segmenter found in one image.

    Args:
        masks: (M, H, W) bool.
        scores: (M,) float64 confidences.
        category_ids: (M,) int64 class ids, -1 where unknown.

    Example:
        >>> Detections(np.ones((1, 4, 4), bool), np.array([0.9]), np.array([3])).category_ids
        array([3])
    """

    masks: np.ndarray
    scores: np.ndarray
    category_ids: np.ndarray

    __repr__ = short_repr


@dataclass(frozen=True)
class Prediction:
    """What a method says about a sample, None where it has no answer.

    Args:
        masks: (N, H, W) bool whole masks.
        order: (N, N) int8 order matrix.
        occluders: (N, H, W) bool masks of all that hides each object, empty where nothing does.
        matched: (N,) bool, the objects that the method knows of, where its masks are not made from the true modal ones;
            None for all. The others are left out of the mask metrics and counted apart.
        detections: what AP ranks; None takes `masks`, ranked alike.
        widths: (N,) how far apart the samples of each object are, see `metrics.sample_widths`.

    Example:
        >>> Prediction(masks=np.ones((2, 4, 4), bool)).order is None
        True
    """

    masks: np.ndarray | None = None
    order: np.ndarray | None = None
    occluders: np.ndarray | None = None
    matched: np.ndarray | None = None
    detections: Detections | None = None
    widths: np.ndarray | None = None

    __repr__ = short_repr


class Method(Protocol):
    """Anything with a `name` that predicts masks, an order or occluders for a sample.

    A method may also have `predict_alone(sample) -> Prediction`, which completes every object as if it had been given
    alone. Where it has none, `evaluate_methods` calls it with one object after the other for that. A method that looks
    at the truth has `uses_truth = True`; the tables mark its row.

    Example:
        >>> class Everything:
        ...     name = "everything"
        ...
        ...     def __call__(self, sample: Sample) -> Prediction:
        ...         return Prediction(masks=np.ones_like(sample.modal))
        >>> method: Method = Everything()
        >>> method.name
        'everything'
    """

    @property
    def name(self) -> str:
        """The row of the table."""
        ...

    def __call__(self, sample: Sample) -> Prediction:
        """Predict for one image; without `uses_truth` it must not look at `amodal`, `order` or `occluders`."""
        ...


def check_limit(limit: int | None) -> None:
    """Refuse a number of images that is none.

    Raises:
        TypeError: no integer.
        ValueError: below 1.

    Example:
        >>> check_limit(None)
    """
    if limit is not None:
        check_integer("limit", limit, 1)


def make_sample(
    row: Mapping[str, Any], *, order_source: OrderSource = "masks", use_categories: bool = True
) -> Sample | None:
    """Decode a row of `amodal_features` into a `Sample`; None where it has no object or no amodal masks.

    Args:
        row: of the data set.
        order_source: see `evaluate_methods`.
        use_categories: False leaves the category ids out, as where the methods know other classes.

    Raises:
        ValueError: where `order_source` is "annotated" and the row has no relations.

    Example:
        >>> from amodal_diffusion.masks import encode_rle
        >>> mask = encode_rle(np.ones((4, 6), bool))
        >>> cup = {"category_id": 3, "is_crowd": False, "modal_mask": mask, "amodal_mask": mask}
        >>> row = {"image_id": "7", "height": 4, "width": 6, "objects": [cup]}
        >>> make_sample(row).category_ids
        [3]
    """
    modal, amodal = record_masks(row)
    if amodal is None or not len(modal):
        return None
    image_id = str(row["image_id"])
    order = order_from_masks(modal, amodal) if order_source == "masks" else record_order(row)
    if order is None:
        raise ValueError(f"image {image_id} has no annotated order; use the order source 'masks'.")
    ids = [item["category_id"] if use_categories else None for item in row["objects"]]
    categories = [None if category is None else int(category) for category in ids]
    return Sample(
        image_id,
        modal,
        amodal,
        order,
        categories,
        photo=row.get("image"),
        source=row.get("source") or "",
        names=[_name(item) for item in row["objects"]],
    )


def _name(item: Mapping[str, Any]) -> str:
    """What an object is: its name, else the number of its class."""
    number = item.get("category_id")
    return item.get("name") or ("" if number is None else f"class {number}")
