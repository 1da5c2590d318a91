"""Complete the objects of one photo and draw what was found: `make demo`, or `python demos/make_demo.py --help`.

First all objects together, each of which can be hidden by the others; where ASBU is unsure of them; several shapes that
one of them may have; and one from the photo and its mask alone. At last the photo as layers in colour, one of them
removed and one moved.

The photo is scikit-image's coffee.png (CC0, by Rachel Michetti); the visible masks were drawn by hand.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from amodal_diffusion import AmodalPipeline, MaskPipeline, __version__
from amodal_diffusion.images import save_image
from amodal_diffusion.io import ObjectMasks, check_completion_output, coco_document, load_example, save_completion
from amodal_diffusion.masks import mask_unions
from amodal_diffusion.ordering import ancestors, order_pairs
from amodal_diffusion.visualization import draw_order_graph, draw_overlay, draw_samples, draw_uncertainty
from edited import draw_objects, edit, give_shape, load_scene_pipeline, write_scene
from woven import paint, woven

HERE = Path(__file__).parent
ALONE = "spoon"
"""It hides others, but is completed from the photo and its mask alone: told that the cup hides it, every network here
joins the ends of its handle by a leaf as wide as what the cup leaves of it."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for flag, name, what in (
        ("--model", "pcnet-m-photo", "Folder or Hub id of a pipeline."),
        ("--one-mask-model", "occamodal", "One that finds by itself what hides an object."),
        ("--uncertainty-model", "asbu", "One that says where it is unsure."),
        ("--samples-model", "amodal-vae", "One that draws several shapes of an object."),
        ("--scene-model", "deocclusion", "One that makes layers in colour."),
    ):
        parser.add_argument(flag, default=HERE.parent / "pipelines" / name, help=what)
    parser.add_argument("--content-model", help="Content pipeline to take instead of that of the scene model.")
    parser.add_argument("--output", type=Path, default=Path("out"), help="Folder for the pictures and amodal.json.")
    parser.add_argument("--docs", type=Path, help="Folder to write the pictures of the README to.")
    return parser.parse_args()


def load(model: str | Path, **settings: Any) -> MaskPipeline:
    pipe = AmodalPipeline.from_pretrained(model, **settings)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def complete_one_mask(
    model: str | Path, photo: Image.Image, mask: np.ndarray, name: str
) -> tuple[Image.Image, Image.Image, np.ndarray]:
    """The mask that is given, what the pipeline makes of it, and the whole mask (H, W) bool."""
    out = load(model)(photo, mask)
    whole, occluder = out.amodal_masks[0], out.occluder_masks[0]
    given = draw_overlay(photo, mask, mask, names=[name])
    found = draw_overlay(photo, [mask, occluder], [whole, occluder], names=[name, "what hides it, as predicted"])
    return given, found, whole


def show_uncertainty(model: str | Path, photo: Image.Image, masks: np.ndarray, shown: list[int]) -> Image.Image:
    """The whole objects as outlines, and where the pipeline is unsure of them."""
    out = load(model)(photo, masks, return_order=False)
    return draw_uncertainty(photo, out.uncertainty[shown], out.amodal_masks[shown])


def draw_several(
    model: str | Path, photo: Image.Image, masks: np.ndarray, order: np.ndarray, index: int = 0, count: int = 8
) -> Image.Image:
    """`count` shapes that an object may have, hidden by what is in front of it, the likeliest first."""
    front = mask_unions(masks, ancestors(order)[index : index + 1])
    out = load(model)(
        photo, masks[index], occluder_masks=front, num_samples=count, sample_choice="diverse",
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    return draw_samples(photo, masks[index], out.samples[0], scores=out.sample_scores[0])


def draw_woven(order_model: str | Path, boundary_model: str | Path) -> Image.Image:
    """Two objects that hide each other: as they are seen, by a model with an order, by one with boundaries alone."""
    modal, _ = woven()
    photo, names = paint(modal), ["frame", "bar"]
    pictures = [draw_overlay(photo, modal, modal, names=names)]
    for pipe in (load(order_model), load(boundary_model, occluder_rule="neighbours")):
        pictures.append(draw_overlay(photo, modal, pipe(None, modal).amodal_masks, names=names))
    return side_by_side(pictures)


def side_by_side(pictures: list[Image.Image], width: int = 1600, gap: int = 24) -> Image.Image:
    strip = Image.new(
        "RGB", (sum(p.width for p in pictures) + gap * (len(pictures) - 1), max(p.height for p in pictures)), "white"
    )
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + gap
    return strip.resize((width, round(strip.height * width / strip.width)), Image.Resampling.LANCZOS)


def hidden_share(modal: np.ndarray, amodal: np.ndarray) -> float:
    """The share of a whole mask (H, W) bool that is not visible."""
    return float((amodal & ~modal).sum() / max(1, amodal.sum()))


def main() -> int:
    args = parse_arguments()
    try:
        check_completion_output(args.output)
    except OSError as error:
        sys.exit(str(error))
    scene_pipe = load_scene_pipeline(args.scene_model, args.content_model)  # first, since it may be missing
    try:
        example = load_example("coffee")
    except ImportError as error:
        sys.exit(f"the demo needs the extra `demo` ({error})")
    photo, every = example.image, ObjectMasks(example.masks, names=example.names)
    single = every.names.index(ALONE)
    shown = [index for index in range(len(every.names)) if index != single]
    objects = ObjectMasks(every.masks[shown], names=[every.names[index] for index in shown])

    found = load(args.model)(photo, every.masks)
    amodal_masks, order = found.amodal_masks[shown], found.order[np.ix_(shown, shown)]
    probabilities = None if found.probabilities is None else found.probabilities[shown]

    document = coco_document(
        objects,
        amodal_masks,
        order,
        probabilities=probabilities,
        file_name="coffee.png",
        info={"model": Path(args.model).name, "version": __version__},
    )
    overlay = draw_overlay(photo, objects.masks, amodal_masks, names=objects.names)
    graph = draw_order_graph(order, names=objects.names, masks=objects.masks, image=photo)
    written = save_completion(args.output, document, amodal_masks, overlay=overlay, order_graph=graph)
    given, alone, whole_alone = complete_one_mask(args.one_mask_model, photo, every.masks[single], ALONE)
    pictures = {
        "one_mask": alone,
        "uncertainty": show_uncertainty(args.uncertainty_model, photo, every.masks, shown),
        "samples": draw_several(args.samples_model, photo, every.masks, found.order),
    }
    scene = give_shape(scene_pipe, scene_pipe(photo, every.masks, names=every.names), ALONE, whole_alone)
    edited = edit(scene)
    pictures["whole_objects"] = draw_objects(scene)
    written += write_scene(edited, args.output)
    for name, picture in pictures.items():
        save_image(picture, args.output / f"{name}.png")
        written.append(args.output / f"{name}.png")
    if args.docs:
        whole = pictures["whole_objects"]
        whole = whole.resize((whole.width * photo.height // whole.height, photo.height), Image.Resampling.LANCZOS)
        strips = {
            "demo": side_by_side([overlay, graph]),
            "one_mask": side_by_side([given, alone]),
            "uncertainty": pictures["uncertainty"],
            "samples": pictures["samples"],
            "woven": draw_woven(args.model, args.uncertainty_model),
            "scene": side_by_side([photo, whole, edited.render()]),
        }
        for name, strip in strips.items():
            save_image(strip, args.docs / f"{name}.jpg", quality=92)
            written.append(args.docs / f"{name}.jpg")

    for name, modal, amodal in zip(objects.names, objects.masks, amodal_masks, strict=True):
        sys.stdout.write(f"{name}: {hidden_share(modal, amodal):.0%} hidden\n")
    for front, behind in order_pairs(order):
        sys.stdout.write(f"{objects.names[front]} is in front of {objects.names[behind]}\n")
    share = hidden_share(every.masks[single], whole_alone)
    sys.stdout.write(f"{ALONE} from the photo and its mask alone: {share:.0%} hidden\n")
    sys.stdout.write("".join(f"wrote {path}\n" for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
