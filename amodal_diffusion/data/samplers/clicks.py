"""Objects in photos and the clicks of a person who wants one of them, to train and to measure interactive segmenters.

Needs OpenCV (extra `train`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pycocotools import mask as mask_utils
from torch import Tensor

from ...display import short_repr
from ...images import normalize_images
from ...masks import BoolArray, decode_rle, mask_boxes
from ...models.photo.click_segmenter import PLANES, draw_click
from ..photos import encoded_photos, load_row_photo
from ..synthesis import mix_seed
from .photo_crops import shrink_photo, warp_square

_LEAST_PIXELS = 40  # of an object in its crop


@dataclass
class ClickBatch:
    """Crops of photos with one object each, and what a person said of it so far.

    Args:
        image: (B, 3, S, S) float32, ImageNet-normalised.
        target: (B, 1, S, S) float32 in {0, 1}, the visible mask of the object.
        prompts: (B, 4, S, S) float32, see `ClickSegmenter`.

    Example:
        >>> ClickBatch(torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8), torch.zeros(2, 4, 8, 8))
        ClickBatch(image=float32 (2, 3, 8, 8), target=float32 (2, 1, 8, 8), prompts=float32 (2, 4, 8, 8))
    """

    image: Tensor
    target: Tensor
    prompts: Tensor

    __repr__ = short_repr

    def add_clicks(self, probability: Tensor, rng: np.random.Generator) -> None:
        """Click once more on each object, where the largest mistake is, and take the answer as the earlier one.

        Args:
            probability: (B, 1, S, S) in [0, 1], what the network answered.
            rng: places the clicks inside of the mistakes.
        """
        predicted = (probability[:, 0] > 0.5).cpu().numpy()
        target = self.target[:, 0].cpu().numpy() > 0.5
        planes = self.prompts.cpu().numpy()
        for index in range(len(planes)):
            click = next_click(predicted[index], target[index], rng)
            if click is not None:
                x, y, label = click
                draw_click(planes[index, 0 if label else 1], x, y)
        self.prompts = torch.from_numpy(planes).to(self.prompts.device)
        self.prompts[:, 2:3] = probability


class ClickSampler:
    """Draws training batches from the rows of a data set with photos; each is a function of (seed, step, process).

    Objects are equally likely. A third of the crops shows the whole photo, the others an object with more or less of
    what is around it. A fifth begins with a box, half of these with a click too; the others with a click.

    Args:
        rows: of the schema, with photos.
        size: side S of the crops.
        seed, process_index: of all draws.
        min_share: objects of a smaller share of the photo are left out, crowds too.
        min_area: objects of fewer pixels are left out.
        max_side: photos are brought to this longer side before they are cut.

    Raises:
        ValueError: no object is left.

    Example:
        >>> from PIL import Image
        >>> from amodal_diffusion.data import read_annotations
        >>> content = {"images": [{"id": 1, "file_name": "1.png", "height": 40, "width": 40}], "annotations": [{"id": 1,
        ...     "image_id": 1, "category_id": 1, "segmentation": [[5, 5, 30, 5, 30, 30, 5, 30]], "iscrowd": 0}]}
        >>> rows = [row | {"image": Image.new("RGB", (40, 40))} for row in read_annotations(content)]
        >>> batch = ClickSampler(rows, size=64).sample(step=0, batch_size=2)
        >>> batch.image.shape, bool(batch.target.any()), bool(batch.prompts.any())
        (torch.Size([2, 3, 64, 64]), True, True)
    """

    def __init__(
        self,
        rows: Any,
        size: int,
        *,
        seed: int = 0,
        process_index: int = 0,
        min_share: float = 0.0015,
        min_area: int = 150,
        max_side: int = 512,
    ) -> None:
        self.rows, self.size, self.max_side = encoded_photos(rows), size, max_side
        self.seed, self.process_index = seed, process_index
        self.objects = list_objects(rows, min_share=min_share, min_area=min_area)
        if not self.objects:
            raise ValueError(f"`rows` must hold an object of {min_area} pixels and {min_share:g} of its photo.")

    def generator(self, step: int, purpose: int = 0) -> np.random.Generator:
        """Random numbers of a step of this process; `purpose` tells several uses apart."""
        return np.random.default_rng(mix_seed(self.seed, step, self.process_index + 1_000_003 * purpose))

    def sample(self, step: int, batch_size: int) -> ClickBatch:
        """The batch of `step`, with the first prompt of each object."""
        rng = self.generator(step)
        images: list[npt.NDArray[np.uint8]] = []
        targets: list[BoolArray] = []
        prompts: list[npt.NDArray[np.float32]] = []
        while len(images) < batch_size:
            row, place = self.objects[int(rng.integers(len(self.objects)))]
            image, target = crop_object(*read_object(self.rows[row], place, self.max_side), self.size, rng)
            if int(target.sum()) > _LEAST_PIXELS:
                images.append(image)
                targets.append(target)
                prompts.append(first_prompt(target, rng))
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        return ClickBatch(
            normalize_images(pixels),
            torch.from_numpy(np.stack(targets))[:, None].float(),
            torch.from_numpy(np.stack(prompts)),
        )


def list_objects(rows: Any, *, min_share: float = 0.0015, min_area: int = 150) -> list[tuple[int, int]]:
    """(row, place in it) of every object that is no crowd and large enough; see `ClickSampler`.

    Example:
        >>> from amodal_diffusion.data import read_annotations
        >>> content = {"images": [{"id": 1, "file_name": "1.png", "height": 40, "width": 40}], "annotations": [
        ...     {"id": n, "image_id": 1, "category_id": 1, "segmentation": [[5, 5, side, 5, side, side]], "iscrowd": 0}
        ...     for n, side in enumerate((8, 30))]}
        >>> list_objects(read_annotations(content))
        [(0, 1)]
    """
    found = []
    columns = rows.select_columns(["height", "width", "objects"]) if hasattr(rows, "select_columns") else rows
    for index, row in enumerate(columns):
        least = max(min_area, min_share * row["height"] * row["width"])
        for place, item in enumerate(row["objects"]):
            if not item["is_crowd"] and int(mask_utils.area(item["modal_mask"])) >= least:
                found.append((index, place))
    return found


def read_object(row: Mapping[str, Any], place: int, max_side: int) -> tuple[npt.NDArray[np.uint8], BoolArray]:
    """A photo (H, W, 3) uint8 with its longer side at most at `max_side`, and the mask (H, W) of one of its objects.

    Example:
        >>> from PIL import Image
        >>> from amodal_diffusion.masks import encode_rle
        >>> row = {"image_id": 1, "source": "mine", "file_name": "1.png", "height": 40, "width": 40}
        >>> row |= {"image": Image.new("L", (40, 40)), "objects": [{"modal_mask": encode_rle(np.eye(40, dtype=bool))}]}
        >>> photo, mask = read_object(row, 0, max_side=20)
        >>> photo.shape, mask.shape
        ((20, 20, 3), (20, 20))
    """
    photo = np.asarray(load_row_photo(row))
    return shrink_photo(photo, decode_rle(row["objects"][place]["modal_mask"]), max_side)


def crop_object(
    photo: npt.NDArray[np.uint8], mask: BoolArray, size: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], BoolArray]:
    """A random square of a photo that shows most of an object, mirrored and of another brightness at random.

    Returns:
        (size, size, 3) uint8 and (size, size) bool.

    Example:
        >>> mask = np.zeros((40, 60), bool)
        >>> mask[10:30, 20:40] = True
        >>> crop, target = crop_object(np.zeros((40, 60, 3), np.uint8), mask, 32, np.random.default_rng(0))
        >>> crop.shape, bool(target.any())
        ((32, 32, 3), True)
    """
    height, width = mask.shape
    x, y, w, h = mask_boxes(mask[None])[0].tolist()
    whole, tight = float(max(height, width)), 1.15 * max(w, h)
    if rng.random() < 0.35 or tight >= whole:
        side, middle = whole, np.array([width / 2, height / 2])
    else:
        side = float(np.exp(rng.uniform(np.log(tight), np.log(whole))))
        middle = np.array([x + w / 2, y + h / 2]) + rng.uniform(-0.5, 0.5, 2) * max(0.0, side - tight)
    scale = size / side
    affine = np.hstack([np.eye(2) * scale, (size / 2 - middle * scale)[:, None]])
    crop, (target,) = warp_square(photo, [mask], affine, size, rng)
    return crop, target


def first_prompt(target: BoolArray, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """(4, S, S), what a person says first of an object: a click, a box that is drawn by hand, or both.

    Example:
        >>> target = np.zeros((32, 32), bool)
        >>> target[8:24, 8:24] = True
        >>> planes = first_prompt(target, np.random.default_rng(0))
        >>> planes.shape, bool(planes[[0, 3]].any()), bool(planes[1:3].any())
        ((4, 32, 32), True, False)
    """
    planes = np.zeros((len(PLANES), *target.shape), np.float32)
    boxed = rng.random() < 0.2
    if boxed:
        x, y, w, h = mask_boxes(target[None])[0].tolist()
        edges = np.array([y, x, y + h, x + w])
        spread = 0.03 * (max(w, h) - 1)
        top, left, lower, right = (edges + (rng.normal(size=4) * spread).astype(int)).clip(0).tolist()
        planes[3, top : max(1, lower), left : max(1, right)] = 1
    if not boxed or rng.random() < 0.5:
        draw_click(planes[0], *place_click(target, rng))
    return planes


def next_click(
    predicted: BoolArray, target: BoolArray, rng: np.random.Generator | None = None
) -> tuple[float, float, int] | None:
    """Where a person clicks next: in the largest mistake, by how far its middle is from right pixels.

    Args:
        predicted: (H, W) bool, the answer so far.
        target: (H, W) bool, what is meant.
        rng: places the click at random inside of the mistake; None takes its middle, as benchmarks do.

    Returns:
        (x, y, label): the middle of a pixel, 1 where the object goes on, 0 where the answer goes too far. None where
        nothing is wrong.

    Example:
        >>> target = np.zeros((9, 12), bool)
        >>> target[2:7, 3:8] = True
        >>> next_click(np.zeros_like(target), target)
        (5.5, 4.5, 1)
        >>> next_click(target, target) is None
        True
    """
    missed, wrong = (distance_to_edge(part) for part in (target & ~predicted, predicted & ~target))
    if max(missed.max(), wrong.max()) <= 0:
        return None
    label = int(missed.max() >= wrong.max())
    depth = missed if label else wrong
    if rng is not None:
        return *_inside(depth, rng), label
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(column) + 0.5, float(row) + 0.5, label


def place_click(target: BoolArray, rng: np.random.Generator) -> tuple[float, float]:
    """(x, y), a random place on an object, rarely at its edge.

    Raises:
        ValueError: an empty mask.

    Example:
        >>> place_click(np.eye(1, dtype=bool), np.random.default_rng(0))
        (0.5, 0.5)
    """
    if not target.any():
        raise ValueError("`target` must hold an object, got an empty mask.")
    return _inside(distance_to_edge(target), rng)


def distance_to_edge(mask: BoolArray) -> npt.NDArray[np.float32]:
    """(H, W), how far each pixel of a mask is from what is not of it, the photo's edge included; 0 outside.

    Example:
        >>> distance_to_edge(np.ones((3, 3), bool)).tolist()
        [[1.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 1.0]]
    """
    import cv2

    return cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1].astype(np.float32)


def _inside(depth: npt.NDArray[np.float32], rng: np.random.Generator) -> tuple[float, float]:
    rows, columns = np.nonzero(depth >= depth.max() * rng.uniform(0.1, 0.9))
    index = int(rng.integers(len(rows)))
    return float(columns[index]) + 0.5, float(rows[index]) + 0.5
