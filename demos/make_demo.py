"""Complete the objects of one photo and draw what was found: `make demo`, or `python demos/make_demo.py --help`.

First all objects together, each of which can be hidden by the others; then one of them from the photo and its mask
alone.

The photo is scikit-image's coffee.png (CC0, by Rachel Michetti); the visible masks in data/coffee.json were drawn by
hand.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from amodal_diffusion import AmodalPipeline, __version__
from amodal_diffusion.export import coco_document, read_object_masks, save_completion
from amodal_diffusion.ordering import order_pairs
from amodal_diffusion.visualization import draw_order_graph, draw_overlay

HERE = Path(__file__).parent


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--model", default=HERE.parent / "pipelines" / "pcnet-m", help="Folder or Hub id of a pipeline."
    )
    parser.add_argument(
        "--one-mask-model",
        default=HERE.parent / "pipelines" / "occamodal",
        help="Folder or Hub id of a pipeline that finds by itself what hides an object.",
    )
    parser.add_argument("--output", type=Path, default=Path("out"), help="Folder for the pictures and amodal.json.")
    parser.add_argument("--strip", type=Path, help="Also write both pictures side by side, as docs/demo.jpg is.")
    parser.add_argument("--one-mask-strip", type=Path, help="Likewise for the single mask, as docs/one_mask.jpg is.")
    return parser.parse_args()


def complete_one_mask(
    model: str | Path, photo: Image.Image, mask: np.ndarray, name: str
) -> tuple[Image.Image, Image.Image, float]:
    """The mask that is given, what the pipeline makes of it, and the share of the object that is hidden."""
    pipe = AmodalPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    out = pipe(photo, mask)
    whole, occluder = out.amodal_masks[0], out.occluder_masks[0]
    given = draw_overlay(photo, mask, mask, names=[name])
    found = draw_overlay(photo, [mask, occluder], [whole, occluder], names=[name, "what hides it, as predicted"])
    return given, found, float((whole & ~mask).sum() / max(1, whole.sum()))


def side_by_side(pictures: list[Image.Image], width: int = 1600, gap: int = 24) -> Image.Image:
    strip = Image.new("RGB", (sum(p.width for p in pictures) + gap, max(p.height for p in pictures)), "white")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + gap
    return strip.resize((width, round(strip.height * width / strip.width)), Image.Resampling.LANCZOS)


def main() -> int:
    args = parse_arguments()
    photo = Image.fromarray(skimage.data.coffee())
    objects = read_object_masks(HERE / "data" / "coffee.json", size=(photo.height, photo.width))

    pipe = AmodalPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    out = pipe(photo, objects.masks)

    document = coco_document(
        objects,
        out.amodal_masks,
        out.order,
        probabilities=out.probabilities,
        file_name="coffee.png",
        info={"model": Path(args.model).name, "version": __version__},
    )
    overlay = draw_overlay(photo, objects.masks, out.amodal_masks, names=objects.names)
    graph = draw_order_graph(out.order, names=objects.names, masks=objects.masks, image=photo)
    written = save_completion(args.output, document, out.amodal_masks, overlay=overlay, order_graph=graph)
    given, found, hidden_alone = complete_one_mask(args.one_mask_model, photo, objects.masks[0], objects.names[0])
    found.save(args.output / "one_mask.png")
    written.append(args.output / "one_mask.png")
    if args.one_mask_strip:
        args.one_mask_strip.parent.mkdir(parents=True, exist_ok=True)
        side_by_side([given, found]).save(args.one_mask_strip, quality=92)
        written.append(args.one_mask_strip)
    if args.strip:
        args.strip.parent.mkdir(parents=True, exist_ok=True)
        side_by_side([overlay, graph]).save(args.strip, quality=92)
        written.append(args.strip)

    for name, modal, amodal in zip(objects.names, objects.masks, out.amodal_masks, strict=True):
        hidden = (amodal & ~modal).sum() / max(1, amodal.sum())
        sys.stdout.write(f"{name}: {hidden:.0%} hidden\n")
    for front, behind in order_pairs(out.order):
        sys.stdout.write(f"{objects.names[front]} is in front of {objects.names[behind]}\n")
    sys.stdout.write(f"{objects.names[0]} from the photo and its mask alone: {hidden_alone:.0%} hidden\n")
    sys.stdout.write("".join(f"wrote {path}\n" for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
