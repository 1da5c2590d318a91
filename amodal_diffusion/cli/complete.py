"""The command `amodal-diffusion complete`: the objects of one photo from their visible masks."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .. import __version__, evaluation, io, visualization
from .options import (
    MASKS_HELP,
    add_command,
    check_given,
    check_inputs_survive,
    given_options,
    import_rooms,
    infer_order,
    load_model,
    local_path,
    named_place,
    seed,
    write_bad_records,
    write_out,
)

if TYPE_CHECKING:
    from PIL import Image

    from ..data import BadRecord
    from ..pipelines import AmodalPipelineOutput

_EXAMPLES = f"""\
{MASKS_HELP}
examples:
  amodal-diffusion complete photo.jpg --masks masks.json --model pipelines/pcnet-m --output out/
  amodal-diffusion complete photo.jpg --masks masks/*.png --model pipelines/pcnet-m --output out/ --eraser-dilation 3
  amodal-diffusion complete --no-photo --masks labels.png --model pipelines/pcnet-m --output out/
  amodal-diffusion complete photo.jpg --masks mask.png --model pipelines/occamodal --output out/

A model such as pcnet-m must be told what hides an object, by the masks of the other objects; one such as occamodal
finds it in the photo, so that one mask suffices.

A model such as amodal-vae draws several completions of each object: `--num-samples 8 --seed 0`. They differ as far as
the object may be hidden by the others, and are alike where nothing hides it; with `--sample-choice independent` they
are plain draws, which know of no others.

Who is in front can be told by another network: `--order-model pipelines/order-net`, for a model such as pcnet-m, or for
one that draws samples: its objects then grow only under what is in front of them.

A crowd (`iscrowd` of COCO) may hide others and is not completed itself.

The output folder gets amodal_masks/*.png, overlay.png and amodal.json (COCO: `segmentation` is the whole mask,
`visible_mask` the given one), and where the model predicts them, order_graph.png (the image's `order_relations` in the
JSON say who is in front of whom), occluder_masks/*.png (`occluder_mask` in the JSON) and samples/*.png: each sample as
OBJECT_00.png and so on, and all of one object in one picture OBJECT.png (`samples` with their scores in the JSON).
They replace those of an earlier run, as its JSON lists them; a folder with other files of these names is refused.
"""


def add_complete(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command to the subparsers `commands`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_complete(parser.add_subparsers(), parents=[])
        >>> parser.parse_args("complete a.jpg --masks a.png --model m --output out --num-samples 8".split()).num_samples
        8
    """
    text = "Complete the objects of one photo from their visible masks."
    parser = add_command(commands, "complete", _run_complete, text, _EXAMPLES, parents)
    parser.add_argument("photo", nargs="?", type=local_path, metavar="PHOTO", help="the photo; see --no-photo")
    parser.add_argument(
        "--no-photo", action="store_true", help="take the size from the masks; for models without image"
    )
    parser.add_argument(
        "--masks", nargs="+", type=local_path, required=True, metavar="PATH", help="visible masks, see below"
    )
    parser.add_argument(
        "--model", type=named_place, required=True, metavar="MODEL", help="folder or Hub id of a pipeline"
    )
    parser.add_argument(
        "--order-model", type=named_place, metavar="MODEL", help="folder or Hub id of an OrderNetPipeline, see below"
    )
    parser.add_argument("--output", type=local_path, required=True, metavar="DIR", help="folder of the result")
    parser.add_argument("--no-order-graph", action="store_true", help="draw no order graph")
    parser.add_argument("--num-samples", type=int, metavar="K", help="completions to draw of each object, see below")
    parser.add_argument(
        "--sample-choice",
        choices=("diverse", "independent"),
        default="diverse",
        help="how they are drawn, see below (diverse)",
    )
    parser.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="what to do with a bad mask (raise)"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="of the samples (0)")


def _run_complete(options: argparse.Namespace) -> None:
    """Run `amodal-diffusion complete`."""
    if (options.photo is None) != options.no_photo:
        raise ValueError("give either PHOTO (before --masks) or --no-photo.")
    check_given(files={"photo": options.photo, "--masks": options.masks}, models=[options.model, options.order_model])
    from ..images import load_image
    from ..masks import mask_unions
    from ..ordering import ancestors

    inputs = [*options.masks, *([] if options.no_photo else [options.photo])]
    check_inputs_survive(options.output, [options.output / name for name in io.RESULTS], inputs)
    io.check_completion_output(options.output)
    image = None if options.no_photo else load_image(options.photo)
    file_name = "" if options.no_photo else options.photo.name
    skipped: list[BadRecord] = []
    objects = io.read_object_masks(options.masks, photo=options.photo, on_error=options.on_error, bad_records=skipped)
    import_rooms(".pipelines.auto")
    pipeline = load_model(options)
    call_options = given_options(options)
    draws = pipeline.takes_option("sample_choice")
    if options.order_model is not None:
        told = "order" if pipeline.takes_option("order") or not draws else "occluder_masks"
        order = infer_order(options, options.model, pipeline, image, objects.masks, told=told)
        call_options[told] = order if told == "order" else mask_unions(objects.masks, ancestors(order))
    if options.num_samples is not None:
        import torch

        generator = torch.Generator().manual_seed(options.seed)
        call_options |= {"num_samples": options.num_samples, "generator": generator}
        call_options |= {"sample_choice": options.sample_choice} if draws else {}
    call_options["output_type"] = "compact"  # dense planes of many objects on a large photo would take gigabytes
    output = evaluation.call_pipeline(
        pipeline, image, objects.masks, objects.category_ids, names=objects.names, is_crowd=objects.is_crowd,
        **call_options,
    )  # fmt: skip
    document = io.coco_document(
        objects,
        output.amodal_masks,
        output.order,
        probabilities=output.probabilities,
        occluders=output.occluder_masks,
        samples=output.samples,
        sample_scores=output.sample_scores,
        file_name=file_name,
        info={"model": options.model, "version": __version__, "dtype": str(pipeline.dtype).removeprefix("torch.")},
    )
    overlay, order_graph = _draw(image, objects, output, with_graph=not options.no_order_graph)
    written = io.save_completion(
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
    write_bad_records(skipped)


def _draw(
    image: Image.Image | None, objects: io.ObjectMasks, output: AmodalPipelineOutput, *, with_graph: bool
) -> tuple[Image.Image, Image.Image | None]:
    canvas = _canvas(image, objects)
    names = [name or f"object {index}" for index, name in enumerate(objects.names)]
    overlay = visualization.draw_overlay(canvas, objects.masks, output.amodal_masks, names=names)
    if not with_graph or output.order is None:
        return overlay, None
    return overlay, visualization.draw_order_graph(output.order, names=names, masks=objects.masks, image=canvas)


def _draw_samples(
    image: Image.Image | None, objects: io.ObjectMasks, output: AmodalPipelineOutput
) -> list[Image.Image] | None:
    if output.samples is None:
        return None
    canvas = _canvas(image, objects)
    columns = zip(objects.masks, output.samples, output.sample_scores, strict=True)
    return [visualization.draw_samples(canvas, mask, samples, scores=scores) for mask, samples, scores in columns]


def _canvas(image: Image.Image | None, objects: io.ObjectMasks) -> Image.Image:
    """The photo, or a grey ground where there is none."""
    from PIL import Image

    height, width = objects.masks.shape[1:]
    return image or Image.new("RGB", (width, height), (235, 235, 235))
