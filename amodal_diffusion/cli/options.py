"""What the commands of `amodal-diffusion` share: options, devices, checks of inputs and outputs, standard output."""

from __future__ import annotations

import argparse
import gc
import importlib
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .. import evaluation, runtimes
from ..files import check_output_file

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

    from ..pipelines import MaskPipeline

logger = logging.getLogger(__name__)

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Names of `--dtype` and of torch; "auto" asks the processor."""

_SHOWN = 5  # bad records

_HINTS = {"--masks": "; COCO JSON, a folder of PNGs or a label map is read"}

MASKS_HELP = """\
masks (--masks) are one of
  masks.json         COCO JSON, a data set (the photo's name chooses the image) or a list of results; polygons or RLE
  masks/             a folder of PNG masks, one object each, with hard or soft edges; sorted by name
  a.png b.png        several such files; of a TIFF, every page is an object
  labels.png         a label map: 0 is background, every other value an object; 8 or 16 bit
  labels.png n.json  the same with names for its labels: {"1": "cup", "2": "saucer"}
"""


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str, epilog: str, parents: list[Any]
) -> argparse.ArgumentParser:
    """Add a command to the subparsers `commands`; `run` takes its parsed options.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> hello = lambda options: write_out("Hello.")
        >>> _ = add_command(parser.add_subparsers(), "hello", hello, "Say hello.", "example: hello", parents=[])
        >>> options = parser.parse_args(["hello"])
        >>> options.run(options)
        Hello.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog=epilog,
        parents=parents,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def common_options() -> argparse.ArgumentParser:
    """The options of all commands, as a parent of their parsers.

    Example:
        >>> argparse.ArgumentParser(parents=[common_options()]).parse_args(["--debug"])
        Namespace(verbose=False, debug=True)
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--verbose", action="store_true", help="log what is done to stderr")
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")
    return parser


def model_options(*, thresholds: bool = True, dtype: str = "fp32") -> argparse.ArgumentParser:
    """The options of commands that run a model.

    Args:
        thresholds: with those that the calls of mask pipelines take.
        dtype: what `--dtype` is where it is not given. "auto" suits who wants an answer; figures, and runs that several
            machines share, must not depend on the processor.

    Example:
        >>> parser = argparse.ArgumentParser(parents=[model_options()])
        >>> parser.parse_args(["--dtype", "bf16", "--mask-threshold", "0.4"]).mask_threshold
        0.4
    """
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("model options")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes what is there")
    group.add_argument(
        "--dtype",
        choices=("auto", *DTYPES),
        default=dtype,
        help=f"precision; auto takes bf16 where processor and runtime have it, else fp32 ({dtype})",
    )
    group.add_argument(
        "--runtime", choices=("torch", "onnx", "openvino"), default="torch", help="what computes, on the CPU (torch)"
    )
    group.add_argument("--batch-size", type=int, metavar="N", help="crops in one forward pass (the pipeline's)")
    if thresholds:
        group.add_argument(
            "--order-threshold", type=float, metavar="P", help="P(object) for the order (the checkpoint's)"
        )
        group.add_argument(
            "--mask-threshold",
            type=_mask_threshold,
            metavar="P",
            help="P(object) for the masks, or expected-iou (the checkpoint's)",
        )
    group.add_argument(
        "--eraser-dilation",
        type=int,
        metavar="PX",
        help="grow occluders by so many pixels; 3 to 5 for segmenters' masks",
    )
    return parser


def seed(text: str) -> int:
    """The seed of random numbers that stands in `text`, for `add_argument(type=seed)`.

    Raises:
        ArgumentTypeError: no whole number in [0, 2**63), which all generators take.

    Example:
        >>> seed("7")
        7
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < 2**63):
        raise argparse.ArgumentTypeError(f"expected a whole number in [0, 2**63), got {text[:40]!r}")
    return int(text)


def local_path(text: str) -> Path:
    """The path of a file or folder of this machine that stands in `text`, for `add_argument(type=local_path)`.

    Raises:
        ArgumentTypeError: nothing, which would mean the current folder, or a URL, which is no such path.

    Example:
        >>> local_path("photo.jpg").suffix
        '.jpg'
    """
    if "://" in text:
        raise argparse.ArgumentTypeError(f"expected a path on this machine, got the URL {text[:200]!r}; download it")
    return Path(named_place(text))


def named_place(text: str) -> str:
    """A path, URL or Hub id, for `add_argument(type=named_place)`; ArgumentTypeError where it is empty.

    Example:
        >>> named_place("pipelines/pcnet-m")
        'pipelines/pcnet-m'
    """
    if not text.strip():
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}; the current folder is '.'")
    return text


def _mask_threshold(text: str) -> float | str:
    """A number, or the name of a rule, which the pipeline checks."""
    try:
        return float(text)
    except ValueError:
        return text


def given_options(options: argparse.Namespace) -> dict[str, Any]:
    """The pipeline's arguments that the user gave; the others keep the checkpoint's values.

    Example:
        >>> parser = argparse.ArgumentParser(parents=[model_options()])
        >>> given_options(parser.parse_args(["--eraser-dilation", "3"]))
        {'eraser_dilation': 3}
    """
    names = ("batch_size", "order_threshold", "mask_threshold", "eraser_dilation")
    given = {name: getattr(options, name, None) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def import_rooms(*names: str) -> None:
    """Import what a command works with, which is most of its time where there is little to do.

    What modules define stays for good, so the garbage collector is kept from looking through it: while it is made, when
    the command works, and when it ends. That saves a quarter.

    Args:
        names: modules; with a dot in front, those of this package.

    Example:
        >>> import_rooms(".files", "json")
    """
    if "torch" in sys.modules:  # then it is too late, and this process may not be the command's own
        return
    was_on = gc.isenabled()
    gc.disable()
    try:
        for name in names:
            importlib.import_module(name, __package__.rpartition(".")[0])
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def find_device(name: str) -> torch.device:
    """The device of that name; "auto" takes the fastest that is there.

    Raises:
        ValueError: where it cannot be used.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    import torch

    if name == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # which the device "meta", without values, cannot
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]  # torch goes on with all devices that it has
        raise ValueError(f"--device {name!r} cannot be used here: {reason}") from error
    return device


def find_dtype(name: str, device: str | torch.device = "cpu", runtime: str = "torch") -> torch.dtype:
    """The precision of a name in `DTYPES`; "auto" takes the one that device and runtime are fast in, and says so.

    Example:
        >>> find_dtype("bf16")
        torch.bfloat16
    """
    import torch

    if name == "auto":
        chosen = runtimes.preferred_dtype(device, runtime)
        where = runtimes.processor_name() if torch.device(device).type == "cpu" else str(device)
        logger.info("computing in %s on %s", chosen, where)
        if chosen != torch.float32:
            sys.stderr.write(f"computing in {str(chosen).removeprefix('torch.')}; --dtype fp32 for full precision\n")
        return chosen
    dtype: torch.dtype = getattr(torch, DTYPES[name])
    return dtype


def dtype_name(name: str, device: str | torch.device = "cpu", runtime: str = "torch") -> str:
    """The name in `DTYPES` of what `find_dtype` takes.

    Example:
        >>> dtype_name("bf16")
        'bf16'
    """
    found = str(find_dtype(name, device, runtime)).removeprefix("torch.")
    return next(key for key, value in DTYPES.items() if value == found)


def infer_order(
    options: argparse.Namespace,
    model: str,
    pipeline: MaskPipeline,
    image: Image.Image | None,
    masks: np.ndarray,
    *,
    told: str = "order",
) -> np.ndarray:
    """The order (N, N) of the objects by `--order-model`, on the device and in the precision of a pipeline.

    Args:
        options: with `order_model` and `runtime`.
        model: what the pipeline is called in errors.
        pipeline: that is to be told the order.
        image: the photo, where there is one.
        masks: (N, H, W) bool.
        told: option of the pipeline's call by which it will be told the order.

    Raises:
        ValueError: a pipeline that takes no such option, or an order network that looks at a photo, without one.

    Example:
        >>> from amodal_diffusion import AmodalVAE, AmodalVAEPipeline
        >>> pipe = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4)))
        >>> infer_order(argparse.Namespace(order_model="o"), "vae", pipe, None, None)
        Traceback (most recent call last):
            ...
        ValueError: --order-model: vae takes no order; give one that does by --model, such as pipelines/pcnet-m.
    """
    from ..pipelines import OrderNetPipeline

    if not pipeline.takes_option(told):
        flag = "--mask-model" if hasattr(options, "mask_model") else "--model"
        raise ValueError(
            f"--order-model: {model} takes no order; give one that does by {flag}, such as pipelines/pcnet-m."
        )
    orders = OrderNetPipeline.from_pretrained(options.order_model, dtype=pipeline.dtype, runtime=options.runtime)
    if orders.needs_image and image is None:
        raise ValueError(f"--no-photo does not go with --order-model {options.order_model}, which looks at the photo.")
    return orders.prepare(pipeline.device).infer_order(masks, image)


def load_model(options: argparse.Namespace) -> MaskPipeline:
    """The mask pipeline of `--model`, on `--device` and in `--dtype`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from amodal_diffusion import AmodalVAE, AmodalVAEPipeline
        >>> pipe = AmodalVAEPipeline(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4)))
        >>> with TemporaryDirectory() as folder:
        ...     pipe.save_pretrained(folder)
        ...     load_model(argparse.Namespace(model=folder, device="cpu", dtype="bf16", runtime="torch")).dtype
        torch.bfloat16
    """
    from diffusers.utils import logging

    logging.disable_progress_bar()
    device = find_device(options.device)
    dtype = find_dtype(options.dtype, device, options.runtime)
    return evaluation.load_pipeline(options.model, device=device, dtype=dtype, runtime=options.runtime)


def check_output_picture(path: Path) -> None:
    """Refuse a path at which no picture can be written, before the work that it is for.

    Raises:
        ValueError: an ending that is not that of a picture.
        OSError: as `check_output_file` says.

    Example:
        >>> check_output_picture(Path("curves.png"))
        >>> check_output_picture(Path("curves.csv"))
        Traceback (most recent call last):
            ...
        ValueError: curves.csv must end as a picture does, such as .png or .jpg, got '.csv'.
    """
    from PIL import Image

    check_output_file(path)
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise ValueError(f"{path} must end as a picture does, such as .png or .jpg, got {path.suffix!r}.")


def check_given(
    *,
    files: Mapping[str, Path | str | Iterable[Path | str] | None] = MappingProxyType({}),
    places: Iterable[Path | str | None] = (),
    models: Iterable[str | None] = (),
) -> None:
    """Refuse inputs that are not there, before torch or a model is imported for them.

    What is None was not given; URLs are not looked at. The Hub is asked for a model that is no folder here.

    Args:
        files: files or folders by the name of their argument.
        places: files, folders or Hub ids.
        models: folders or Hub ids of pipelines.

    Raises:
        FileNotFoundError: naming the first that is not there.
        ValueError, OSError: a model that is none, or that the Hub does not give.

    Example:
        >>> check_given(files={"--masks": ["gone.png"]})
        Traceback (most recent call last):
            ...
        FileNotFoundError: --masks gone.png does not exist; COCO JSON, a folder of PNGs or a label map is read.
    """
    for name, given in files.items():
        paths = [given] if isinstance(given, str | Path) else given or ()
        for path in paths:
            if "://" not in str(path) and not Path(path).exists():
                raise FileNotFoundError(f"{name} {path} does not exist{_HINTS.get(name, '')}.")
    given_models = [model for model in models if model is not None]
    given_places = [place for place in places if place is not None and "://" not in str(place)]
    if not given_models and all(Path(place).exists() for place in given_places):
        return
    from ..hub import is_hub_id, read_model_index

    for place in given_places:
        if not Path(place).exists() and not is_hub_id(str(place)):
            raise FileNotFoundError(f"no such file or folder, and no Hub id: {str(place)!r}")
    for model in given_models:
        read_model_index(model)


def check_inputs_survive(
    output: Path, results: Iterable[Path], inputs: Iterable[Path | str | None], *, option: str = "--output"
) -> None:
    """Refuse an output whose results would replace a file that the run reads, or a folder that it lies in.

    Args:
        output: what the user gave.
        results: paths that the run may write.
        inputs: paths that it reads; None, URLs and Hub ids are passed over.
        option: by which the output was given.

    Raises:
        ValueError: naming the input.

    Example:
        >>> out = Path("out")
        >>> check_inputs_survive(out, [out / "overlay.png"], [Path("photo.png")])
        >>> check_inputs_survive(Path("/"), [Path("/")], [Path("/")])
        Traceback (most recent call last):
            ...
        ValueError: --output / would replace /, which this run reads; choose another.
    """
    written = {path.resolve() for path in results}
    for given in inputs:
        if given is None or not Path(given).exists():
            continue
        source = Path(given).resolve()
        if not written.isdisjoint([source, *source.parents]):
            raise ValueError(f"{option} {output} would replace {given}, which this run reads; choose another.")


def check_reports(reports: Mapping[str, Path | None], inputs: Iterable[Path | str | None]) -> None:
    """Refuse files of a report, by their options, where they cannot be written, two are one, or one is an input.

    Raises:
        ValueError: naming the option and the file.
        OSError: as `check_output_file` says.

    Example:
        >>> check_reports({"--json": Path("a.json"), "--markdown": Path("a.json")}, [])
        Traceback (most recent call last):
            ...
        ValueError: --markdown a.json is the file of --json, too; choose another.
    """
    read, taken = list(inputs), dict[Path, str]()
    for option, file in reports.items():
        if file is None:
            continue
        check_output_file(file)
        check_inputs_survive(file, [file], read, option=option)
        other = taken.setdefault(file.resolve(), option)
        if other != option:
            raise ValueError(f"{option} {file} is the file of {other}, too; choose another.")


def write_bad_records(records: Sequence[object]) -> None:
    """Say how many records of a data set were skipped, and show the first of them.

    Example:
        >>> write_bad_records(["image 7: no annotations"])
        skipped 1 bad records, such as
          image 7: no annotations
    """
    if records:
        write_out(f"skipped {len(records):,} bad records, such as\n")
        write_out("".join(f"  {record}\n" for record in records[:_SHOWN]))


def write_out(text: str) -> None:
    r"""Write to standard output at once.

    Example:
        >>> write_out("out/amodal.json\n")
        out/amodal.json
    """
    sys.stdout.write(text)
    sys.stdout.flush()
