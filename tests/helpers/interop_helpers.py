"""A row with all that the schema knows, a segmenter that always finds the same, and FiftyOne where it runs."""

from types import SimpleNamespace

import numpy as np
import pytest

from amodal_diffusion.data import build_objects
from amodal_diffusion.masks import encode_rle
from amodal_diffusion.pipelines import PhotoEmbedding
from data_helpers import HEIGHT, WIDTH, box_mask


def kitchen_row():
    """A cup in two pieces behind an object without a name, on a plate that is behind both."""
    plate, cup, front = box_mask(0, 4, 12, 8), box_mask(2, 2, 8, 6), box_mask(5, 0, 2, 12)
    masks = [(plate & ~cup & ~front, plate), (cup & ~front, cup), (front, front)]
    names = ["plate", "cup & <saucer>", None]
    objects = [
        {
            "id": index + 1, "name": name, "category_id": None, "is_stuff": False, "is_crowd": False,
            "modal_mask": encode_rle(modal), "amodal_mask": encode_rle(amodal),
        }
        for index, (name, (modal, amodal)) in enumerate(zip(names, masks, strict=True))
    ]  # fmt: skip
    pairs = [(1, 0), (2, 0), (2, 1)]
    return {
        "image_id": "7", "file_name": "day 1/a.png", "height": HEIGHT, "width": WIDTH, "source": "kitchen",
        "objects": build_objects(objects),
        "order_relations": [{"front": front, "behind": behind} for front, behind in pairs],
    }  # fmt: skip


def open_fiftyone():
    """The package, or the test is skipped: without it, or where its database does not run."""
    try:
        return pytest.importorskip("fiftyone")
    except Exception as error:  # its import connects to the database
        pytest.skip(f"FiftyOne has no database: {error}")


class FakeSegmenter:
    """Stands in for `Segmenter`: two objects that touch."""

    masks = np.stack([box_mask(1, 1, 6, 6), box_mask(7, 2, 6, 8)])
    asked = None
    embedded = 0
    can_click = True
    names = ()

    def __call__(self, image):
        return SimpleNamespace(masks=self.masks, names=["cup", "plate"], scores=np.array([0.9, 0.8], np.float32))

    def embed(self, image):
        self.embedded += 1
        return PhotoEmbedding(np.asarray(image), None, "fake")

    def click(self, image, points=None, labels=None, *, box=None, mask=None):
        assert isinstance(image, PhotoEmbedding)
        x, y = (box[0] + box[2] / 2, box[1] + box[3] / 2) if points is None else points[0]
        if self.masks[0][int(y), int(x)]:
            type(self).asked = (points, labels)
        return self.masks[0] & self.masks[0][int(y), int(x)]
