"""Small annotation files, and the shared data where it is."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from amodal_diffusion.masks import encode_rle

HEIGHT, WIDTH = 12, 16


def box(x, y, width, height):
    """Flat polygon of a box, which covers exactly its pixels."""
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def box_mask(x, y, width, height):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y : y + height, x : x + width] = True
    return mask


def cocoa_pairs(pairs):
    """COCOA content with one image for each (whole, front), (H, W) bool: `front` hides a part of `whole`."""
    records, annotations = [], []
    for index, (whole, front) in enumerate(pairs, start=1):
        regions = [
            {"segmentation": encode_rle(whole), "visible_mask": encode_rle(whole & ~front), "name": "back"},
            {"segmentation": encode_rle(front), "name": "front"},
        ]
        height, width = whole.shape
        records.append({"id": index, "file_name": f"{index}.png", "height": height, "width": width})
        annotations.append({"id": index, "image_id": index, "depth_constraint": "2-1", "regions": regions})
    return {"images": records, "annotations": annotations}


def plain_rle(mask):
    """Plain (uncompressed) run lengths, counted one pixel after the other."""
    counts, value = [0], False
    for pixel in mask.flatten(order="F").tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def image(image_id=1, **fields):
    return {"id": image_id, "file_name": f"{image_id}.png", "height": HEIGHT, "width": WIDTH, **fields}


def coco_object(annotation_id=1, image_id=1, **fields):
    segmentation = [box(2, 3, 4, 5)]
    return {"id": annotation_id, "image_id": image_id, "category_id": 7, "segmentation": segmentation, **fields}


def coco(*annotations, images=None, categories=({"id": 7, "name": "cup"},)):
    return {"images": images or [image()], "annotations": list(annotations), "categories": list(categories)}


def region(*xywh, **fields):
    return {"segmentation": box(*xywh), "name": "thing", **fields}


def cocoa(*regions, depth_constraint="", images=None, **fields):
    annotation = {"id": 5, "image_id": 1, "depth_constraint": depth_constraint, "regions": list(regions), **fields}
    return {"images": images or [image()], "annotations": [annotation]}


def write(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def save_photo(path, height=HEIGHT, width=WIDTH, **options):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


class FakeHub:
    """Takes what would be uploaded."""

    def __init__(self):
        self.calls, self.files = [], {}

    def __call__(self, token=None):
        self.calls.append(("login", token))
        return self

    def create_repo(self, repo_id, **options):
        self.calls.append(("create", repo_id, options))
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, *, repo_id, folder_path, **options):
        self.calls.append(("upload", repo_id, options))
        root = Path(folder_path)
        self.files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")
