"""The command `amodal-diffusion deocclude`: a photo as a background and whole objects in layers."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import evaluation, io, pipelines
from ..files import check_output_folder
from .options import (
    MASKS_HELP,
    add_command,
    check_given,
    check_inputs_survive,
    find_device,
    find_dtype,
    given_options,
    import_rooms,
    infer_order,
    local_path,
    named_place,
    seed,
    write_out,
)

if TYPE_CHECKING:
    import numpy as np

    from ..scene import Scene

_STAGES = {
    "segment": "finding objects",
    "masks": "completing masks",
    "edges": "softening outlines",
    "contents": "painting hidden parts",
    "background": "filling background",
    "done": "saving",
}

_EXAMPLES = f"""\
{MASKS_HELP}
Without --masks a segmenter finds the objects: the model's own, or --segmenter.

output (--output) is one of
  DIR                PNG layers and scene.json
  scene.ora          OpenRaster, for Krita, GIMP and MyPaint
  scene.psd          for Photoshop and what reads its files
  scene.json         COCO with amodal masks; the pictures go to scene_files/ beside it
All of them can be read again by `Scene.load`. A folder that holds other files under the names of a scene's is refused.

filler (--filler) is one of
  auto               what suits the size and the texture of a hole, one of the others
  blend              low frequencies continued, the detail copied from what is seen
  exemplar           pixels copied from what is seen
  smooth             colours continued smoothly
  pcnet-c, inpainter the network of the content model

examples:
  amodal-diffusion deocclude photo.jpg --masks masks.json --model pipelines/deocclusion --output scene.ora
  amodal-diffusion deocclude photo.jpg --masks labels.png --mask-model pipelines/asbu \\
      --content-model pipelines/pcnet-c --output scene.psd
  amodal-diffusion deocclude photo.jpg --masks a.png b.png --names cat sofa --remove cat \\
      --model pipelines/deocclusion --output out/
  amodal-diffusion deocclude photo.jpg --masks masks.json --model pipelines/deocclusion \\
      --order-model runs/order-net --output out/
"""


def add_deocclude(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command to the subparsers `commands`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_deocclude(parser.add_subparsers(), parents=[])
        >>> parser.parse_args("deocclude photo.jpg --output out --extend-canvas 0,0,80,0".split()).extend_canvas
        [0, 0, 80, 0]
    """
    text = "Take a photo apart into a background and whole objects in layers."
    parser = add_command(commands, "deocclude", _run_deocclude, text, _EXAMPLES, parents)
    parser.add_argument("photo", type=local_path, metavar="PHOTO", help="the photo; before --masks")
    parser.add_argument("--masks", nargs="+", type=local_path, metavar="PATH", help="visible masks, see below")
    parser.add_argument("--output", type=local_path, required=True, metavar="PATH", help="folder or file, see below")
    parser.add_argument("--model", type=named_place, metavar="MODEL", help="folder or Hub id of a scene pipeline")
    parser.add_argument(
        "--mask-model", type=named_place, metavar="MODEL", help="of a mask pipeline, in place of the model's"
    )
    parser.add_argument(
        "--content-model", type=named_place, metavar="MODEL", help="of a content pipeline, in place of the model's"
    )
    parser.add_argument(
        "--order-model", type=named_place, metavar="MODEL", help="of an OrderNetPipeline, which tells who is in front"
    )
    parser.add_argument(
        "--segmenter", type=named_place, metavar="MODEL", help="of a segmentation model, in place of the model's"
    )
    parser.add_argument("--names", nargs="+", metavar="NAME", help="of the objects, in the order of the masks")
    parser.add_argument(
        "--remove",
        nargs="+",
        action="extend",
        default=[],
        metavar="OBJECT",
        help="leave out objects, by number from 0 or by name; the background fills their place",
    )
    parser.add_argument(
        "--carried", action="store_true", help="with --remove: leave out what stands on them or is held by them, too"
    )
    parser.add_argument(
        "--extend-canvas",
        type=_margins,
        default=0,
        metavar="PX|SHARE|L,T,R,B",
        help="grow the canvas, so that objects that the frame cuts go on: 64, 0.25 of the longer side, or 0,0,80,0",
    )
    parser.add_argument(
        "--filler",
        nargs="+",
        action="extend",
        default=[],
        metavar="[OBJECT=]FILLER",
        help="what fills hidden parts and the background, see below; for one object by number or name: cup=smooth; for "
        "the background: background=blend",
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="of models that draw random numbers (0)")


def _run_deocclude(options: argparse.Namespace) -> None:
    """Run `amodal-diffusion deocclude`."""
    _check_models(options)
    if options.order_model and not options.masks:
        raise ValueError("--order-model needs --masks: without them nobody knows the objects yet.")
    if options.carried and not options.remove:
        raise ValueError("--carried needs --remove, whose objects it is about.")
    check_given(
        files={"photo": options.photo, "--masks": options.masks},
        places=[options.segmenter],
        models=[options.model, options.mask_model, options.content_model, options.order_model],
    )
    check_output_folder(options.output.parent)
    import_rooms(".pipelines.auto")
    import torch

    from ..images import load_image
    from ..pipelines.deocclusion.pipeline import read_margins
    from ..scene.formats import check_scene_output, save_scene, scene_outputs

    inputs = [options.photo, *(options.masks or ())]
    check_inputs_survive(options.output, scene_outputs(options.output), inputs)
    check_scene_output(options.output)
    photo = load_image(options.photo)
    left, top, right, bottom = read_margins(options.extend_canvas, photo.height, photo.width)
    check_scene_output(options.output, size=(photo.width + left + right, photo.height + top + bottom))
    objects, fillers = None, _fillers(options.filler, options.names)
    if options.masks:
        objects = io.read_object_masks(options.masks, photo=options.photo)
        names = _names(objects, options.names)
        _places("--remove", options.remove, names)
        fillers = _fillers(options.filler, names)
    pipeline = _load(options)
    if objects is None and pipeline.segmenter is None:
        raise ValueError("give --masks or --segmenter: the model has no segmenter that finds the objects.")
    order = None
    if options.order_model and objects is not None:
        name = options.mask_model or options.model
        order = infer_order(options, name, pipeline.mask_pipeline, photo, objects.masks)
    bar = _StageBar()
    with contextlib.closing(bar):
        scene = pipeline(
            photo,
            None if objects is None else objects.masks,
            names=options.names if objects is None else names,
            category_ids=None if objects is None else _category_ids(objects, pipeline),
            is_crowd=None if objects is None else objects.is_crowd,
            order=order,
            extend_canvas=options.extend_canvas,
            generator=torch.Generator().manual_seed(options.seed),
            progress_callback=bar,
            **fillers,
            **given_options(options),
        )
        save_scene(_without(scene, options.remove, options.carried), options.output)
    write_out(f"{options.output}\n")


def _check_models(options: argparse.Namespace) -> None:
    if options.model is None and not (options.mask_model and options.content_model):
        raise ValueError("give --model, or both --mask-model and --content-model.")


def _load(options: argparse.Namespace) -> pipelines.ScenePipeline:
    """The pipeline of the options, ready for a run without questions: on its device, fast, without progress bars."""
    from diffusers.utils import logging as diffusers_logging

    device = find_device(options.device)
    dtype = find_dtype(options.dtype, device, options.runtime)
    diffusers_logging.disable_progress_bar()
    parts: dict[str, Any] = {}
    if options.mask_model:
        parts["mask_pipeline"] = pipelines.AmodalPipeline.from_pretrained(options.mask_model, dtype=dtype)
    if options.content_model:
        parts["content_pipeline"] = pipelines.ContentPipeline.from_pretrained(options.content_model, dtype=dtype)
    if options.segmenter:
        parts["segmenter"] = pipelines.Segmenter.from_pretrained(options.segmenter, dtype=dtype)
    if options.model is None:
        pipeline = pipelines.ScenePipeline(**parts)
    else:
        pipeline = pipelines.ScenePipeline.from_pretrained(options.model, dtype=dtype, **parts)
    return pipeline.prepare(device).use_runtime(options.runtime)


def _names(objects: io.ObjectMasks, given: Sequence[str] | None) -> list[str]:
    """Those that were given, else those of the masks, and numbers where these have none."""
    if given is None:
        return [name or f"object {index}" for index, name in enumerate(objects.names)]
    if len(given) != len(objects.names):
        raise ValueError(f"--names must name each of the {len(objects.names)} objects, got {len(given)} names.")
    return list(given)


def _category_ids(objects: io.ObjectMasks, pipeline: pipelines.ScenePipeline) -> np.ndarray:
    masks, content = pipeline.mask_pipeline, pipeline.content_pipeline
    conditioned = not masks.takes_names or content.class_conditioned
    return evaluation.category_id_array(objects.category_ids, masks.unknown_category_id, conditioned=conditioned)


def _places(option: str, wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    """The places of the objects that `wanted` gives by number or by name."""
    places = []
    for text in wanted:
        if text.isascii() and text.isdigit():
            found = [int(text)] if int(text) < len(names) else []
        else:
            found = [index for index, name in enumerate(names) if name == text]
        if len(found) != 1:
            problem = "names no object" if not found else f"names the objects {found}; give a number"
            known = ", ".join(f"{index} {name}" for index, name in enumerate(names)) or "none"
            raise ValueError(f"{option} {text} {problem}. Objects: {known}.")
        places += found
    return places


def _fillers(given: Sequence[str], names: Sequence[str] | None) -> dict[str, Any]:
    """The arguments `filler` and `background_filler` of a scene pipeline.

    One without an object goes for all objects and the background; the more special wins.
    """
    from ..pipelines.content.fillers import FILLERS  # here, since it imports torch

    everything, background = None, None
    objects: dict[int | str, str] = {}
    for text in given:
        place, _, filler = text.rpartition("=")
        if filler not in FILLERS:
            raise ValueError(f"--filler {text}: {filler!r} is none of {', '.join(FILLERS)}.")
        if not place:
            everything = filler
        elif place == "background":
            background = filler
        elif names is None:
            objects[int(place) if place.isascii() and place.isdigit() else place] = filler  # maybe the segmenter's name
        else:
            objects |= {index: filler for index in _places("--filler", [place], names)}
    if everything is not None and objects and names is not None:
        objects = {**{index: everything for index in range(len(names))}, **objects}
    return {"filler": objects or everything, "background_filler": background or everything}


def _without(scene: Scene, wanted: Sequence[str], carried: bool) -> Scene:
    """The scene without some objects, and with `carried` without what they carry, which is told on stderr."""
    places = set(_places("--remove", wanted, [layer.name for layer in scene.layers]))
    if carried:
        along = sorted({other for place in places for other in scene.carried(place)} - places)
        for other in along:
            sys.stderr.write(f"left out, too: {other} {scene.layers[other].name}\n")
        places.update(along)
    for place in sorted(places, reverse=True):  # from the end: the others keep their places
        scene = scene.remove(place)
    return scene


def _margins(text: str) -> int | float | list[int]:
    try:
        if "," in text:
            return [int(part) for part in text.split(",")]
        return int(text) if text.isdigit() else float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of pixels, no share, and no four numbers of pixels with commas between"
        ) from error


class _StageBar:
    """A bar on stderr with the stage and the time that is left; a line for each stage where stderr is no terminal."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._stage = ""
        self._bar = tqdm(
            total=100, bar_format="{desc:<22}{percentage:3.0f}% |{bar}| {elapsed}<{remaining}", disable=None
        )

    def __call__(self, stage: str, share: float) -> None:
        self._bar.update(100 * share - self._bar.n)
        if stage == self._stage:
            return
        self._stage = stage
        self._bar.set_description_str(_STAGES[stage])
        if self._bar.disable:
            sys.stderr.write(f"{100 * share:3.0f} % {_STAGES[stage]}\n")

    def close(self) -> None:
        self._bar.close()
