"""The command `amodal-diffusion export`: networks of a saved pipeline as files for other programs."""

from __future__ import annotations

import argparse
from typing import Any

from .. import runtimes
from ..files import check_output_folder
from .options import add_command, check_given, local_path, named_place, write_out

_EXAMPLES = """\
examples:
  amodal-diffusion export onnx pipelines/pcnet-m pcnet-m-onnx
  amodal-diffusion export onnx pipelines/amodal-vae amodal-vae-onnx
"""


def add_export(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command to the subparsers `commands`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_export(parser.add_subparsers(), parents=[])
        >>> parser.parse_args("export onnx pipelines/pcnet-m out".split()).action
        'onnx'
    """
    text = "Write the networks of a saved pipeline as files for other programs."
    parser = add_command(commands, "export", _run_export, text, _EXAMPLES, [])
    actions = parser.add_subparsers(dest="action", required=True, metavar="FORMAT", title="formats")
    text = "ONNX files of a pipeline's networks, and onnx.json, which says what they take and give."
    onnx = actions.add_parser("onnx", help="ONNX files", description=text, parents=parents)
    onnx.add_argument("folder", type=named_place, metavar="FOLDER", help="folder or Hub id of a pipeline")
    onnx.add_argument("output", type=local_path, metavar="OUT", help="folder to make")


def _run_export(options: argparse.Namespace) -> None:
    """Run `amodal-diffusion export`."""
    check_given(models=[options.folder])
    check_output_folder(options.output)
    for path in runtimes.export_pipeline(options.folder, options.output):
        write_out(f"{path}\n")
