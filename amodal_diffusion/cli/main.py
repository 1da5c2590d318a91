"""The command `amodal-diffusion`: its parser and its errors; the other files of this folder are its commands.

A user's error is one line on stderr and exit code 2; `--debug` shows the trace instead. Parsers are built without
torch, so that `--help` and a mistyped option answer at once: commands import what they work with when they run.
"""

import argparse
import difflib
import io
import logging
import os
import pickle
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from safetensors import SafetensorError

from .. import __version__
from .annotate import add_annotate
from .complete import add_complete
from .convert import add_convert
from .dataset import add_dataset
from .deocclude import add_deocclude
from .evaluate import add_evaluate
from .export import add_export
from .ground_truth import add_ground_truth
from .options import common_options, model_options

# What a wrong file, name, size or device raises; anything else is a fault of ours and keeps its trace.
_USER_ERRORS = (ValueError, TypeError, OSError, ImportError, RuntimeError, SafetensorError, pickle.UnpicklingError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 for a user's error. `--help` and `--version` raise SystemExit.

    Args:
        arguments: the command line without the program's name; None takes `sys.argv`.

    Example:
        >>> main(["evaluate", "--table", "list"])  # doctest: +ELLIPSIS
        z20-1       [Z20] Table 1. Ordering: pair-wise accuracy on occluded pairs
        ...
        0
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console that is not UTF-8 shows \\u732b in place of what it lacks
            stream.reconfigure(errors="backslashreplace")
    options = build_parser().parse_args(_checked_arguments(arguments))
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        with warnings.catch_warnings():
            # Pillow's word on photos from 90 megapixels; those that are too large to be safe are errors.
            warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
            options.run(options)
    except _USER_ERRORS as error:
        if options.debug:
            raise
        message = " ".join(_text_of(error).split()) or type(error).__name__
        name = " ".join(filter(None, ("amodal-diffusion", options.command, getattr(options, "action", None))))
        sys.stderr.write(f"{name}: error: {message}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _text_of(error: BaseException) -> str:
    """What an error says; codecs leave out what they could not write."""
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object!r} cannot be written as {error.encoding}; set PYTHONUTF8=1 or a locale of UTF-8"
    return str(error)


def _checked_arguments(arguments: Sequence[str] | None) -> list[str]:
    """The command line; exits where an argument has NUL, which is in no path."""
    checked = sys.argv[1:] if arguments is None else list(arguments)
    for argument in checked:
        try:
            problem = "NUL" if b"\0" in os.fsencode(argument) else None
        except UnicodeEncodeError:
            problem = "half of a surrogate pair"
        if problem is not None:
            build_parser().error(f"argument {argument!r} holds {problem}, which no path and no name has")
    return checked


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line, and an unknown option before anything that is missing."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        args = list(sys.argv[1:] if args is None else args)
        known = [option for option in self._option_string_actions if option.startswith("--")]
        for text in args:
            if text == "--" or (self._subparsers and not text.startswith("-")):
                break  # what follows are no options, or those of a command, whose parser looks at them
            name = text.partition("=")[0]
            if name.startswith("--") and not any(option.startswith(name) for option in known):
                near = difflib.get_close_matches(name, known, n=1)
                self.error(f"unknown option {name}" + (f"; did you mean {near[0]}?" if near else ""))
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `run`, the function that takes the parsed options.

    Example:
        >>> build_parser().parse_args(["convert", "asbu", "asbu.pth.tar", "out"]).system
        'asbu'
    """
    parser = _Parser(prog="amodal-diffusion", description="Amodal completion: whole masks from visible ones.")
    parser.add_argument("--version", action="version", version=f"amodal-diffusion {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = common_options()
    model = model_options()
    add_complete(commands, [model_options(dtype="auto"), common])
    add_deocclude(commands, [model_options(thresholds=False, dtype="auto"), common])
    add_evaluate(commands, [model, common])
    add_convert(commands, [common])
    add_export(commands, [common])
    add_dataset(commands, [common])
    add_annotate(commands, [model_options(dtype="auto"), common])
    add_ground_truth(commands, [common])
    return parser


if __name__ == "__main__":
    sys.exit(main())
