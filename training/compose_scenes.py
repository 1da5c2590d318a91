"""Compose scenes of modal masks as a data set with whole masks and order, such as `train_order_net.py` learns from.

    python training/compose_scenes.py --dataset instances.json --scenes 3600 --output composed

The scenes have masks alone; see `amodal_diffusion.data.synthesis.composed_scenes`.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from trainer.arguments import errors_by_flag, flag, parse
from trainer.running import run

from amodal_diffusion.data import build_objects, convert_dataset, read_annotations, record_masks
from amodal_diffusion.data.samplers import split_photos
from amodal_diffusion.data.synthesis import compose_scene
from amodal_diffusion.masks import BoolArray, encode_rle

logger = logging.getLogger(__name__)

MOST_OBJECTS = 14
"""Photos with more masks lend these to other scenes, and are none themselves."""


@dataclass(kw_only=True)
class ComposeArguments:
    _argument_group_name: ClassVar[str] = "data"

    dataset: list[str] = flag(help="Annotation files, Parquet folders or Hub data sets; their modal masks are used.")
    validation_fraction: list[float] = flag(
        [0.0],
        "Share of the photos of each --dataset that is held out, as by the training scripts; for all or each.",
    )
    output: str = flag(help="Folder of the data set.")
    scenes: int = flag(3600)
    most_pixels: int = flag(360, "Longer side of a scene at most; masks are sampled at every second, third, ... pixel.")
    min_area: int = flag(100, "Masks of fewer pixels are left out.")
    seed: int = flag(0)


def parse_arguments(argv: list[str] | None = None) -> ComposeArguments:
    args = parse(ComposeArguments, __doc__.split("\n")[0], argv)
    if len(args.validation_fraction) == 1:
        args.validation_fraction = args.validation_fraction * len(args.dataset)
    if len(args.validation_fraction) != len(args.dataset):
        raise ValueError(
            f"`--validation_fraction` must have one share for each of the {len(args.dataset)} data sets, got "
            f"{len(args.validation_fraction)}."
        )
    for fraction in args.validation_fraction:
        if not 0 <= fraction < 1:
            raise ValueError(f"`--validation_fraction` must lie in [0, 1), got {fraction}.")
    if args.seed < 0:
        raise ValueError(f"`--seed` must not be negative, got {args.seed}.")
    for name in ("scenes", "most_pixels", "min_area"):
        if getattr(args, name) < 1:
            raise ValueError(f"`--{name}` must be at least 1, got {getattr(args, name)}.")
    return args


def read_layouts(args: ComposeArguments) -> tuple[list[BoolArray], list[BoolArray]]:
    """The masks of photos with two to `MOST_OBJECTS` objects, (N, H, W) each, and every mask by itself."""
    layouts, masks = [], []
    for path, fraction in zip(args.dataset, args.validation_fraction, strict=True):
        rows = read_annotations(path, on_error="skip")
        for row in split_photos(rows, fraction)[0] if fraction else rows:
            step = max(1, -(-max(row["height"], row["width"]) // args.most_pixels))
            kept = [not item["is_crowd"] for item in row["objects"]]
            modal = record_masks(row)[0][kept][:, ::step, ::step]
            modal = modal[modal.sum((1, 2)) >= args.min_area]
            masks += list(modal)
            if 2 <= len(modal) <= MOST_OBJECTS:
                layouts.append(modal)
    if not layouts:
        raise ValueError(f"`--dataset` has no photo with 2 to {MOST_OBJECTS} masks of {args.min_area} pixels.")
    return layouts, masks


def compose_rows(args: ComposeArguments) -> Iterator[dict[str, Any]]:
    """Rows of the schema, one a scene with two objects or more."""
    layouts, masks = read_layouts(args)
    logger.info("%d photos lend their layout, and %d masks themselves", len(layouts), len(masks))
    rng = np.random.default_rng(args.seed)
    for number in range(args.scenes):
        modal, amodal = compose_scene(rng, layouts[rng.integers(len(layouts))], masks)
        if len(modal) < 2:
            continue
        fixed = {"name": None, "category_id": None, "is_stuff": False, "is_crowd": False}
        objects = [
            {"id": index, "modal_mask": encode_rle(seen), "amodal_mask": encode_rle(whole), **fixed}
            for index, (seen, whole) in enumerate(zip(modal, amodal, strict=True))
        ]
        name, (height, width) = f"scene-{number:06d}", modal.shape[1:]
        yield {
            "image_id": name, "file_name": f"{name}.png", "height": height, "width": width,
            "objects": build_objects(objects), "order_relations": None, "source": "composed",
        }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    args = parse_arguments(argv)
    with errors_by_flag({"pass overwrite=True to replace it": "choose another `--output`"}):
        convert_dataset({"train": compose_rows(args)}, args.output)


if __name__ == "__main__":
    run(main)
