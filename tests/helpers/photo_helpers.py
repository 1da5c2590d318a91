"""Photos with objects whose whole shape is known, drawn by the test: for the networks that look at photos."""

import json

import numpy as np
import torch
from PIL import Image

from amodal_diffusion import OccAmodalPipeline, OccAmodalPredictor, OrderNet, PhotoPCNetMask, PhotoPCNetMaskPipeline
from amodal_diffusion.data import read_annotations, save_parquet
from amodal_diffusion.data.samplers import ObjectFilter, PhotoObjects

TINY_PREDICTOR = {
    "block_out_channels": (4, 8, 8), "reduced_channels": 4, "sample_size": 32, "image_hidden_sizes": (4, 8),
    "image_depths": (1, 1), "image_embedding_size": 4, "image_feature_stages": (2, 1),
}  # fmt: skip


def tiny_predictor(mask_channels=1, **config):
    torch.manual_seed(mask_channels)
    return OccAmodalPredictor(mask_channels=mask_channels, **{**TINY_PREDICTOR, **config}).eval()


def tiny_occamodal(**settings):
    pipeline = OccAmodalPipeline(tiny_predictor(1), tiny_predictor(2), **settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_order_net(**config):
    torch.manual_seed(0)
    sizes = {"hidden_sizes": (4, 8), "depths": (1, 1), "embedding_size": 4, "sample_size": 32, "layer_type": "basic"}
    return OrderNet(**{**sizes, **config}).eval()


def tiny_photo_pcnet(model=None, order_model=None, mask_model=None, **settings):
    torch.manual_seed(0)
    model = model or PhotoPCNetMask(block_out_channels=(4, 8, 8), reduced_channels=4, sample_size=32).eval()
    pipeline = PhotoPCNetMaskPipeline(model, order_model, mask_model, **settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_scene(seed=0, height=96, width=128):
    """A photo (H, W, 3) uint8 and (modal, amodal) masks (3, H, W) bool; a later object is in front."""
    rng = np.random.default_rng(seed)
    photo = rng.integers(60, 120, (height, width, 3)).astype(np.uint8)
    yy, xx = np.mgrid[:height, :width]
    amodal = np.zeros((3, height, width), bool)
    for index in range(3):
        cx, cy = rng.uniform(0.3, 0.7) * width, rng.uniform(0.3, 0.7) * height
        rx, ry = rng.uniform(0.15, 0.3, 2) * (width, height)
        if rng.random() < 0.5:
            amodal[index] = ((xx - cx) / rx) ** 2 + ((yy - cy) / ry) ** 2 <= 1
        else:
            amodal[index] = (np.abs(xx - cx) <= rx) & (np.abs(yy - cy) <= ry)
        photo[amodal[index]] = rng.integers(0, 256, 3)
    modal = amodal.copy()
    for index in range(3):
        modal[index] &= ~amodal[index + 1 :].any(axis=0)
    return photo, modal, amodal


def write_broken_parquet(rows, folder):
    """Rows with their photos as Parquet, the first of which is cut off, as older versions wrote it."""
    from pyarrow import Table, parquet

    (path,) = save_parquet(rows, folder)
    table = parquet.read_table(path)
    content = table.to_pylist()
    content[0]["image"]["bytes"] = content[0]["image"]["bytes"][:2000]
    parquet.write_table(Table.from_pylist(content, schema=table.schema), path)
    return folder


def write_photos(folder, *, images=8, amodal=True, first=0, keep=None, classes=1):
    """Photos and their annotations: a COCOA-style file with whole masks, or a COCO file with visible ones alone.

    Of each photo the hindmost `keep` objects are annotated. A COCO file names `classes` categories in turn.
    """
    from amodal_diffusion.masks import encode_rle

    folder.mkdir(parents=True, exist_ok=True)
    content = {"images": [], "annotations": [], "categories": [{"id": n + 1, "name": "thing"} for n in range(classes)]}
    for index in range(images):
        photo, modal, whole = draw_scene(first + index)
        Image.fromarray(photo).save(folder / f"{index}.png")
        height, width = photo.shape[:2]
        content["images"].append({"id": index + 1, "file_name": f"{index}.png", "height": height, "width": width})
        shown = [number for number in range(len(modal)) if modal[number].sum() > 30][:keep]
        if amodal:  # COCOA: front to back
            regions = [
                {"segmentation": encode_rle(whole[n]), "name": "thing", "order": len(modal) - n} for n in shown[::-1]
            ]
            for region, n in zip(regions, shown[::-1], strict=True):
                if (whole[n] & ~modal[n]).any():
                    region["visible_mask"] = encode_rle(modal[n])
            content["annotations"].append(
                {"id": index + 1, "image_id": index + 1, "depth_constraint": "", "regions": regions}
            )
            continue
        for n in shown:
            content["annotations"].append({
                "id": len(content["annotations"]) + 1, "image_id": index + 1, "category_id": n % classes + 1,
                "iscrowd": 0,
                "segmentation": encode_rle(modal[n]), "area": int(modal[n].sum()), "bbox": [0, 0, 1, 1],
            })  # fmt: skip
    if amodal:
        del content["categories"]
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def open_objects(*folders, on_error="skip", **chosen):
    """The objects on the photos of folders that `write_photos` wrote; `chosen` are those of `ObjectFilter`."""
    sources = [read_annotations(folder / "annotations.json", folder, on_error=on_error) for folder in folders]
    names = [f"{folder.name}/annotations.json" for folder in folders]
    return PhotoObjects(sources, names, ObjectFilter(**chosen), on_error)


def edited_photos(folder, tmp_path, change):
    """A copy of a data set with its annotations changed."""
    content = json.loads((folder / "annotations.json").read_text())
    change(content)
    for photo in folder.glob("*.png"):
        (tmp_path / photo.name).write_bytes(photo.read_bytes())
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    return tmp_path


def depth_rows(images=6, first=0):
    """Rows of `draw_scene` with photos and depths: a later object is closer, every third overlaps the one before."""
    from amodal_diffusion.data import build_objects
    from amodal_diffusion.masks import encode_rle

    rows = []
    for index in range(images):
        photo, modal, whole = draw_scene(first + index)
        items = []
        for place, (seen, all_of_it) in enumerate(zip(modal, whole, strict=True)):
            nearest = 4.0 - place - (1.2 if place == 1 and index % 3 == 0 else 0.0)
            items.append({
                "id": place, "name": "thing", "category_id": 1, "is_stuff": False, "is_crowd": False,
                "modal_mask": encode_rle(seen), "amodal_mask": encode_rle(all_of_it),
                "depth": {"nearest": nearest, "mean": nearest + 0.2, "farthest": nearest + 0.5},
            })  # fmt: skip
        if index == 0:
            items[0]["depth"] = None
        height, width = photo.shape[:2]
        rows.append({
            "image_id": str(index), "file_name": f"{index}.png", "height": height, "width": width,
            "objects": build_objects(items), "order_relations": None, "source": "drawn",
            "image": Image.fromarray(photo),
        })  # fmt: skip
    return rows


def write_depth_photos(folder, **options):
    """`depth_rows` as a data set with photos in it."""
    from datasets import Dataset

    from amodal_diffusion.data import amodal_features

    features = amodal_features(with_image=True, with_depth=True)
    save_parquet(Dataset.from_list(depth_rows(**options), features=features), folder)
    return folder


def open_depth_objects(images, **chosen):
    """The objects of `depth_rows`."""
    from datasets import Dataset

    from amodal_diffusion.data import amodal_features

    rows = Dataset.from_list(depth_rows(images), features=amodal_features(with_image=True, with_depth=True))
    return PhotoObjects([rows], ["drawn"], ObjectFilter(**chosen))
