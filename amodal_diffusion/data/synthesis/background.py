"""Regions of a photo's background, found by colour, as neighbours of the objects that are annotated.

A network that has seen things alone does not know what it is asked where all of a photo is annotated, sky, road and
walls too. Needs scikit-image (extra `train`).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from ...masks import BoolArray, encode_rle
from ..photos import encoded_photos, load_row_photo
from ..schema import build_objects, record_masks
from .photo_bank import Labeller

_SCALE = 400.0  # of the segmentation: how unlike two regions must be at their border
_SIDE = 320  # of the photo, at which regions are found
_LEAST_OBJECTS = 2  # a photo with one annotated object may show others that are not


def background_segments(photo: Image.Image, modal: BoolArray, *, most: int = 6, min_share: float = 0.012) -> BoolArray:
    """Regions of like colour in what no mask covers, the largest first. Source: Felzenszwalb and Huttenlocher, 2004.

    Args:
        photo: RGB, of size (W, H).
        modal: (N, H, W) bool, what is annotated.
        most: number of regions at most.
        min_share: regions of a smaller share of the photo are left out.

    Returns:
        (K, H, W) bool, disjoint, and disjoint from `modal`; K is 0 where nothing is left.

    Example:
        >>> photo = np.zeros((32, 48, 3), np.uint8)
        >>> photo[16:] = 200  # the ground
        >>> modal = np.zeros((1, 32, 48), bool)
        >>> modal[0, 10:26, 20:30] = True
        >>> background_segments(Image.fromarray(photo), modal, min_share=0.1).sum((1, 2)).tolist()
        [632, 592]
    """
    from skimage.segmentation import felzenszwalb

    height, width = modal.shape[1:]
    rest = ~modal.any(axis=0)
    scale = min(1.0, _SIDE / max(height, width))
    small = photo.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BOX)
    labels = felzenszwalb(np.asarray(small), scale=_SCALE, sigma=0.8, min_size=max(1, small.width * small.height // 60))
    labels = np.asarray(Image.fromarray(labels.astype(np.int32)).resize((width, height), Image.Resampling.NEAREST))
    areas = np.bincount(labels[rest], minlength=int(labels.max()) + 1)
    kept = [int(label) for label in np.argsort(-areas, kind="stable")[:most] if areas[label] >= min_share * rest.size]
    return rest & (labels == np.array(kept, dtype=labels.dtype).reshape(-1, 1, 1))


def with_background(
    rows: Iterable[Mapping[str, Any]], labeller: Labeller, *, most: int = 6
) -> Iterator[dict[str, Any]]:
    """The rows, with regions of their background as further objects, `is_stuff`, and all of them completed.

    A region that `labeller` puts in front of an object may be one that nobody annotated, and is left out. Rows with
    amodal masks, and those of less than two objects, are as they were.

    Args:
        rows: of the schema, with photos.
        labeller: predicts amodal masks and order from modal masks.
        most: number of regions at most, of a photo.

    Raises:
        ValueError: a photo is missing, cannot be read or has another size than its masks.

    Example:
        >>> photo, masks = np.zeros((32, 48, 3), np.uint8), np.zeros((2, 32, 48), bool)
        >>> masks[0, 10:26, 5:15], masks[1, 10:26, 20:30] = True, True
        >>> item = {"name": None, "category_id": None, "is_stuff": False, "is_crowd": False, "amodal_mask": None}
        >>> items = [item | {"id": index, "modal_mask": encode_rle(mask)} for index, mask in enumerate(masks)]
        >>> row = {"image_id": 1, "source": "mine", "file_name": "1.png", "height": 32, "width": 48}
        >>> row |= {"image": Image.fromarray(photo), "objects": build_objects(items), "order_relations": None}
        >>> before = lambda photo, modal: (modal, np.tri(len(modal), k=-1, dtype=int) * -1 + np.tri(len(modal), k=-1).T)
        >>> made = next(with_background([row], before))
        >>> [item["is_stuff"] for item in made["objects"]], len(made["order_relations"])
        ([False, False, True], 3)
    """
    for row in encoded_photos(rows):
        objects = list(row["objects"])
        if len(objects) < _LEAST_OBJECTS or any(item["amodal_mask"] is not None for item in objects):
            yield dict(row)
            continue
        count = len(objects)
        visible, _ = record_masks(row)
        photo = load_row_photo(row)
        modal = np.concatenate([visible, background_segments(photo, visible, most=most)])
        amodal, order = labeller(photo, modal)
        left_out = np.zeros(len(modal), bool)
        left_out[count:] = (order[count:, :count] == 1).any(axis=1)
        amodal = amodal & ~(modal[left_out].any(axis=0) & ~modal)  # nothing goes on under what is left out
        first = max(item["id"] for item in objects) + 1
        background = {"name": "background", "category_id": None, "is_stuff": True, "is_crowd": False}
        objects += [{"id": first + index, **background} for index in range(len(modal) - count)]
        kept = np.flatnonzero(~left_out)
        completed = [
            {**objects[index], "modal_mask": encode_rle(modal[index]), "amodal_mask": encode_rle(amodal[index])}
            for index in kept
        ]
        front, behind = np.nonzero(order[np.ix_(kept, kept)] == 1)
        relations = [{"front": int(i), "behind": int(j)} for i, j in zip(front, behind, strict=True)]
        yield {**row, "objects": build_objects(completed), "order_relations": relations}
