"""A bank of objects in their photos: square crops with pixels and masks, kept together on the training device.

Every object is one square of its photo, larger than the crop that the network will see, so that the crop can still be
shifted, turned and scaled. 5,000 objects at 192² take 740 MB, and no training step reads a file or decodes a photo.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...arguments.numeric import check_number
from ...crops import crop_boxes, crop_images, crop_masks
from ...files import atomic_file
from ...images import image_to_tensor
from ...masks import BoolArray, mask_areas, mask_boxes
from ...ordering import OrderArray, order_from_masks
from ..photos import encoded_photos, load_row_photo
from ..schema import record_masks, record_order

MODAL, AMODAL, OCCLUDER, OTHERS, INSIDE = (1 << bit for bit in range(5))
"""Bits of `PhotoBank.layers`: visible part, whole object, what hides it, all other objects, the photo's frame."""

Labeller = Callable[[Image.Image, BoolArray], tuple[BoolArray, OrderArray]]
"""Photo (RGB) and modal masks (N, H, W) bool -> amodal masks (N, H, W) bool and order (N, N) int8."""


class PhotoBank:
    """Objects in their photos.

    Args:
        pixels: (N, 3, r, r) uint8 RGB, 0 outside of the photo.
        layers: (N, r, r) uint8, the bits `MODAL`, `AMODAL`, `OCCLUDER`, `OTHERS` and `INSIDE` of each pixel.
        known: (N,) bool, whether the occluders of the object are known. Where they are not, its `OCCLUDER` bits are 0.
        sources: (N,) int64, which data set an object comes from.
        context: side of the squares, in sides of the crop that `crop_boxes` gives.
        category_ids: (N,) int64, 0 where there is none; None for none at all.
        instances: (N, r, r) uint8, which object of the photo each pixel shows, counted from 1, and 0 where it shows
            none; None where nobody needs to tell the other objects apart.

    Raises:
        ValueError: where the shapes do not belong together or there is no object.

    Example:
        >>> pixels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
        >>> layers = torch.full((2, 32, 32), INSIDE, dtype=torch.uint8)
        >>> layers[:, 8:24, 8:24] |= MODAL | AMODAL
        >>> known, sources = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)
        >>> bank = PhotoBank(pixels, layers, known, sources, context=1.5)
        >>> len(bank), bank.resolution, len(bank.subset(torch.tensor([1])))
        (2, 32, 1)
    """

    def __init__(
        self,
        pixels: Tensor,
        layers: Tensor,
        known: Tensor,
        sources: Tensor,
        context: float,
        category_ids: Tensor | None = None,
        instances: Tensor | None = None,
    ) -> None:
        category_ids = torch.zeros_like(sources) if category_ids is None else category_ids
        count, resolution = pixels.shape[0], pixels.shape[-1]
        if not count:
            raise ValueError("`pixels` holds no object: no mask of the data passed the filters.")
        expected = ((count, 3, resolution, resolution), (count, resolution, resolution), *[(count,)] * 3)
        shapes = tuple(tuple(part.shape) for part in (pixels, layers, known, sources, category_ids))
        if shapes != expected:
            raise ValueError(
                f"`pixels`, `layers`, `known`, `sources` and `category_ids` must have shapes {expected}, got {shapes}."
            )
        if instances is not None and instances.shape != layers.shape:
            raise ValueError(f"`instances` must have shape {tuple(layers.shape)}, got {tuple(instances.shape)}.")
        check_number("context", context, least=1)
        self.pixels = pixels
        self.layers = layers
        self.known = known
        self.sources = sources
        self.context = context
        self.category_ids = category_ids
        self.instances = instances

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def resolution(self) -> int:
        """Side r of the stored squares in pixels."""
        return self.pixels.shape[-1]

    @property
    def device(self) -> torch.device:
        """Where the bank lies."""
        return self.pixels.device

    def to(self, device: torch.device | str) -> "PhotoBank":
        """The bank on another device."""
        return self._with(lambda part: part.to(device))

    def subset(self, indices: Tensor) -> "PhotoBank":
        """The bank of the objects at `indices` (M,) int64."""
        return self._with(lambda part: part[indices])

    def _with(self, change: Callable[[Tensor], Tensor]) -> "PhotoBank":
        pixels, layers, known, sources = map(change, (self.pixels, self.layers, self.known, self.sources))
        instances = None if self.instances is None else change(self.instances)
        return PhotoBank(pixels, layers, known, sources, self.context, change(self.category_ids), instances)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the bank into one safetensors file, so that the next run need not read and label its photos again."""
        names = ("pixels", "layers", "known", "sources", "category_ids", "instances")
        tensors = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        with atomic_file(path) as temporary:
            save_file(
                {name: value.cpu().contiguous() for name, value in tensors.items()},
                temporary,
                metadata={"context": repr(self.context)},
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "PhotoBank":
        """Read what `save` has written, onto the CPU.

        Raises:
            FileNotFoundError: no such file.
            SafetensorError: a file of another kind.
        """
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return cls(**tensors, context=float(file.metadata()["context"]))

    @classmethod
    def from_sources(
        cls,
        sources: Sequence[Iterable[Mapping[str, Any]]],
        *,
        resolution: int = 192,
        context: float = 1.5,
        enlarge_box: float = 3.0,
        min_area: int = 256,
        labeller: Labeller | None = None,
        alone_is_known: bool = False,
        with_instances: bool = False,
        category_of: Callable[[Mapping[str, Any]], int] | None = None,
        on_row: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> "PhotoBank":
        """Collect the objects of one or many data sets with photos, in the common schema.

        Where a photo has amodal masks, they are the targets, and the occluders follow from its annotated order, where
        it has one [Z24], and for the pairs that the order leaves out from the masks (`order_from_masks`). An object of
        which more than half of the hidden part lies under no occluder, as most of MP3D-Amodal's do, whose photos show
        one annotated object, counts as one of unknown occluders. Where a photo has no amodal masks, `labeller` predicts
        both from the modal masks. Without a labeller, and for photos with a single object, the modal mask stands for
        the amodal one and the occluders are unknown.

        Args:
            sources: the rows of each data set, with the column `image`.
            resolution: side of the stored squares in pixels.
            context: their side, in sides of the crop that `crop_boxes` gives.
            enlarge_box: area of a crop over the area of the object's box, see `crop_boxes`.
            min_area: objects of fewer visible pixels are left out; crowd regions always are.
            labeller: predicts amodal masks and order of a photo that has modal masks alone.
            alone_is_known: assume that nothing hides an object that is alone in its photo.
            with_instances: keep which object each pixel shows, a byte a pixel more.
            category_of: the category id of an object of a row, 0 for none; None takes its `category_id`.
            on_row: called with each row, e.g. to show progress.

        Returns:
            The bank, on the CPU.

        Raises:
            ValueError: where a photo is missing, cannot be read or has another size than its masks (row and file are
                named), or no object is left.
        """
        find_category = category_of or (lambda item: item.get("category_id") or 0)
        pixels, layers, known, origins, categories, instances = [], [], [], [], [], []
        for source, rows in enumerate(sources):
            for row in encoded_photos(rows):
                if on_row is not None:
                    on_row(row)
                modal, amodal = record_masks(row)
                crowd = np.array([bool(item["is_crowd"]) for item in row["objects"]], dtype=bool)
                kept = np.flatnonzero((mask_areas(modal) >= max(1, min_area)) & ~crowd)
                if not len(kept):
                    continue
                photo = load_row_photo(row)
                if amodal is None:
                    amodal, front, is_known = _label(photo, modal, labeller, alone_is_known)
                else:
                    front, is_known = _true_occluders(modal, amodal, record_order(row))
                boxes = _context_boxes(modal[kept], enlarge_box, context)
                pixels.append(_crop_photo(photo, boxes, resolution))
                layers.append(_crop_layers(modal, amodal, front, kept, boxes, resolution))
                if with_instances:
                    instances.append(_crop_instances(modal, boxes, resolution))
                known += is_known[kept].tolist()
                origins += [source] * len(kept)
                categories += [find_category(row["objects"][index]) for index in kept]
        side = resolution
        return cls(
            torch.cat([torch.zeros(0, 3, side, side, dtype=torch.uint8), *pixels]),
            torch.cat([torch.zeros(0, side, side, dtype=torch.uint8), *layers]),
            torch.tensor(known, dtype=torch.bool),
            torch.tensor(origins, dtype=torch.int64),
            context,
            torch.tensor(categories, dtype=torch.int64),
            torch.cat(instances) if instances else None,
        )


def _true_occluders(modal: BoolArray, amodal: BoolArray, annotated: OrderArray | None) -> tuple[BoolArray, BoolArray]:
    """[i, j] = j hides a part of i (N, N), and of which objects (N,) the occluders are known."""
    order = order_from_masks(modal, amodal)
    if annotated is not None:  # annotators leave pairs out where the masks say enough
        order = np.where(annotated != 0, annotated, order)
    front = order == -1
    hidden = amodal & ~modal
    explained = np.array([(part & modal[others].any(axis=0)).sum() for part, others in zip(hidden, front, strict=True)])
    known = 2 * explained >= mask_areas(hidden)
    return front & known[:, None], known


def _label(
    photo: Image.Image, modal: BoolArray, labeller: Labeller | None, alone_is_known: bool
) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Amodal masks (N, H, W), [i, j] = j hides a part of i (N, N), and of which objects (N,) that is known."""
    count = len(modal)
    if labeller is None or count < 2:
        return modal, np.zeros((count, count), bool), np.full(count, alone_is_known and count == 1)
    amodal, order = labeller(photo, modal)
    return amodal, order == -1, np.full(count, True)


def _context_boxes(modal: np.ndarray, enlarge_box: float, context: float) -> Tensor:
    """(N, 4) int64 squares of `context` times the crop rule's side around the same centres."""
    boxes = crop_boxes(mask_boxes(modal), enlarge_box=enlarge_box)
    side = np.round(boxes[:, 2:] * context).astype(np.int64)
    return torch.from_numpy(np.concatenate([boxes[:, :2] + (boxes[:, 2:] - side) // 2, side], axis=1))


def _crop_photo(photo: Image.Image, boxes: Tensor, resolution: int) -> Tensor:
    """(K, 3, r, r) uint8."""
    crops = crop_images(image_to_tensor(photo, torch.uint8), boxes, resolution)
    return (crops * 255).round_().clamp_(0, 255).to(torch.uint8)


def _crop_layers(
    modal: np.ndarray, amodal: np.ndarray, front: np.ndarray, kept: np.ndarray, boxes: Tensor, resolution: int
) -> Tensor:
    """(K, r, r) uint8 of the objects at `kept` (K,)."""
    counts = modal.sum(axis=0, dtype=np.uint16)
    layers = np.full((len(kept), *modal.shape[1:]), INSIDE, np.uint8)
    for layer, index in zip(layers, kept, strict=True):
        planes = {
            MODAL: modal[index],
            AMODAL: amodal[index],
            OCCLUDER: modal[front[index]].any(axis=0),
            OTHERS: counts > modal[index],
        }
        for bit, plane in planes.items():
            layer |= plane.astype(np.uint8) * np.uint8(bit)
    return crop_masks(torch.from_numpy(layers), boxes, resolution)


def _crop_instances(modal: np.ndarray, boxes: Tensor, resolution: int) -> Tensor:
    """(K, r, r) uint8: one more than the row in `modal` (N, H, W) of the object that a pixel shows, 0 for none."""
    numbers = (np.arange(len(modal)) % 254 + 1).astype(np.uint8)  # what is drawn into the photo has number 255
    shown = (modal * numbers[:, None, None]).max(axis=0)
    return crop_masks(torch.from_numpy(shown)[None], boxes, resolution, indices=torch.zeros(len(boxes)).long())
