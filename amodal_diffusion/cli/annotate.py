"""The command `amodal-diffusion annotate`: whole masks for a data set that has visible ones."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import sys
from pathlib import Path
from typing import Any

from .. import annotation, data
from ..files import check_output_folder
from .options import (
    add_command,
    check_given,
    dtype_name,
    find_device,
    find_dtype,
    given_options,
    import_rooms,
    load_model,
    named_place,
    write_bad_records,
    write_out,
)

_ROOMS = ("datasets", ".annotation.folder_run", ".pipelines.auto")
_METHODS = ("raw", "convex", "convex-refined")
_EXAMPLES = """\
The output folder gets data/*.parquet (the one schema, with the columns `predictions` and `error`), amodal.json (COCO:
`segmentation` is the whole mask, `visible_mask` the given one, with `occlude_rate`, `score` and `uncertainty`) and a
card, README.md. An image that cannot be completed has an `error`, and the others go on.

Kill it whenever you like: the same command goes on where it was. --num-workers shares the work on one machine, --shard
among jobs with one folder, --engine ray on a cluster; docs/scale.md says which serves whom. A folder takes one
precision and one runtime: give --dtype where machines differ (with --engine ray, auto is fp32). --runtime openvino is
the fastest on x86.

examples:
  amodal-diffusion annotate instances.json --model pipelines/pcnet-m --output amodal/
  amodal-diffusion annotate instances.json --images photos/ --model pipelines/occamodal --output amodal/ --num-workers 2
  amodal-diffusion annotate instances.json --method convex-refined --output hulls/  # label conversion without a network
  amodal-diffusion annotate user/data-set --model pipelines/asbu --output amodal/ --push-to-hub user/data-set-amodal
  amodal-diffusion annotate s3://bucket/set --model pipelines/asbu --output s3://bucket/amodal --engine ray --num-gpus 1
"""


def add_annotate(commands: Any, parents: list[Any]) -> None:
    """Add the command to the subparsers `commands`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_annotate(parser.add_subparsers(), parents=[])
        >>> parser.parse_args("annotate coco.json --model pipelines/asbu --output amodal --shard 0/4".split()).shard
        (0, 4)
    """
    text = "Complete every object of a data set of visible masks."
    parser = add_command(commands, "annotate", _run_annotate, text, _EXAMPLES, parents)
    parser.add_argument(
        "annotations", type=named_place, metavar="ANNOTATIONS", help="annotation file, folder of Parquet, or Hub id"
    )
    parser.add_argument(
        "--images", type=named_place, metavar="DIR", help="folder of the photos, for a model that looks at them"
    )
    parser.add_argument("--split", help="of Parquet that has several")
    completed = parser.add_mutually_exclusive_group(required=True)
    completed.add_argument("--model", type=named_place, metavar="PIPELINE", help="folder or Hub id of a mask pipeline")
    completed.add_argument("--method", choices=_METHODS, help="a baseline in its place: nothing, or the convex hull")
    parser.add_argument("--output", type=named_place, required=True, metavar="DIR", help="folder of the result")
    parser.add_argument("--shard-rows", type=int, default=32, metavar="N", help="images a piece of the work (32)")
    parser.add_argument("--num-workers", type=int, default=1, metavar="N", help="processes, of Ray actors (1)")
    parser.add_argument(
        "--shard", type=_shard, metavar="I/N",
        help="do share I of N, from 0, and join nothing; the command without it does the rest and joins",
    )  # fmt: skip
    parser.add_argument("--coco-shards", action="store_true", help="a COCO document for each Parquet file")
    parser.add_argument("--engine", choices=("folder", "ray"), default="folder", help="what shares the work (folder)")
    parser.add_argument("--num-gpus", type=float, default=0, metavar="N", help="GPUs of a Ray actor (0)")
    parser.add_argument(
        "--ray-address", metavar="URL", help="of a Ray cluster; without it, RAY_ADDRESS or this machine"
    )
    parser.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="what to do with a bad record (raise)"
    )
    parser.add_argument("--push-to-hub", "--push_to_hub", metavar="ID", help="also publish the Parquet files there")


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if match is None or not int(match[1]) < int(match[2]):
        raise argparse.ArgumentTypeError(f"expected I/N with I from 0 to N - 1, such as 0/4, got {text[:40]!r}")
    return int(match[1]), int(match[2])


def _run_annotate(options: argparse.Namespace) -> None:
    """Run `amodal-diffusion annotate`."""
    if options.num_workers < 1:
        raise ValueError(f"--num-workers must be at least 1, got {options.num_workers}.")
    _check_method(options)
    if options.push_to_hub:
        from ..hub import check_repo_id

        check_repo_id(options.push_to_hub)
        if options.shard or "://" in options.output:
            raise ValueError("--push-to-hub needs a whole result in a local folder, not a --shard or a URL.")
    check_given(files={"--images": options.images}, places=[options.annotations], models=[options.model])
    if "://" not in options.output:
        check_output_folder(options.output)
    if options.engine == "ray":
        _annotate_with_ray(options)
        return
    may_fork = "torch" not in sys.modules
    import_rooms(*_ROOMS)
    if options.method is None:
        # Once for all processes.
        device = find_device(options.device)
        options.dtype = dtype_name(options.dtype, device, options.runtime)
        may_fork = may_fork and device.type == "cpu"
    if options.num_gpus or options.ray_address:
        raise ValueError("--num-gpus and --ray-address are of --engine ray.")
    if "://" in options.output:
        raise ValueError(f"--output {options.output} needs --engine ray; the folder engine writes to local folders.")
    bad_records = _annotate_here(options, may_fork=may_fork)
    if options.shard is not None:
        return
    folder = Path(options.output)
    for path in (*sorted((folder / "data").iterdir()), *sorted(folder.glob("amodal*.json")), folder / "README.md"):
        write_out(f"{path}\n")
    write_bad_records(bad_records)
    _write_errors(folder)
    if options.push_to_hub:
        write_out(data.push_parquet(folder, options.push_to_hub) + "\n")


def _check_method(options: argparse.Namespace) -> None:
    """Refuse what is of networks alone beside a baseline, which computes without one."""
    if options.method is None:
        return
    for name, nothing in (("runtime", "torch"), ("dtype", "auto"), ("device", "auto")):
        given = getattr(options, name)
        if given != nothing:
            raise ValueError(f"--{name} {given} is for --model, and --method {options.method} has no network.")


def _annotate_here(options: argparse.Namespace, *, may_fork: bool) -> list[data.BadRecord]:
    """Do the share of this machine, by several processes if that is asked for, and join where it is all of the work.

    Args:
        options: of the command.
        may_fork: nothing has been computed in this process, on whatever device.
    """
    first, step = options.shard or (0, 1)
    count = options.num_workers
    if count == 1:
        return _annotate(options, options.shard)
    # A fork has what is imported, which costs a fresh interpreter some seven seconds. Nothing else has happened here so
    # far: a fork of a process that has computed in threads, or on a GPU, may hang.
    forks = may_fork and sys.platform == "linux"
    context = multiprocessing.get_context("fork") if forks else multiprocessing.get_context("spawn")
    shares = [(first + step * number, step * count) for number in range(count)]
    workers = [context.Process(target=_help, args=(options, share), daemon=True) for share in shares[1:]]
    for worker in workers:
        worker.start()
    _annotate(options, shares[0])
    for worker in workers:
        worker.join()
    early = [worker.exitcode for worker in workers if worker.exitcode]
    if early:
        sys.stderr.write(
            f"{len(early)} of {count} processes ended early, with exit code {early[0]} (--debug says more); this one "
            "does what they left\n"
        )
    return _annotate(options, options.shard)  # what a worker that died has left; and all is joined


def _write_errors(folder: Path) -> None:
    """Say how many images have an error instead of whole masks, and show the first."""
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet

    found: list[str] = []
    errors = count = 0
    for path in sorted((folder / "data").iterdir()):
        table = parquet.read_table(path, columns=["image_id", "error"])
        failed = table.filter(compute.is_valid(table["error"]))
        count, errors = count + table.num_rows, errors + failed.num_rows
        found += [f"image {row['image_id']}: {row['error']}" for row in failed.slice(0, 5).to_pylist()]
    if errors:
        write_out(f"{errors:,} of {count:,} images have an error and no whole masks, such as\n")
        write_out("".join(f"  {error}\n" for error in found[:5]))


def _help(options: argparse.Namespace, share: tuple[int, int]) -> None:
    """A further process. Its errors are those of the first one, which meets them too and tells them."""
    try:
        _annotate(options, share, helps=True)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if options.debug:
            raise
        raise SystemExit(2) from error


def _annotate(
    options: argparse.Namespace, share: tuple[int, int] | None, *, helps: bool = False
) -> list[data.BadRecord]:
    import torch
    from tqdm.auto import tqdm

    if options.num_workers > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // options.num_workers))
        if options.device == "auto" and share is not None and torch.cuda.device_count() > 1:
            options.device = f"cuda:{share[0] % torch.cuda.device_count()}"
    call_options = given_options(options)
    pipeline: Any = annotation.BASELINES[options.method] if options.method else load_model(options)
    if options.method is None:
        pipeline.check_options(call_options)
    bad_records: list[data.BadRecord] = []
    more: dict[str, Any] = {} if options.split is None else {"split": options.split}
    dataset = data.read_annotations(
        options.annotations, options.images, on_error=options.on_error, bad_records=bad_records, **more
    )
    if options.method is None and pipeline.needs_image and "image" not in dataset.column_names:
        raise ValueError(f"--images DIR must be given: {options.model} looks at photos, and the data set has none.")
    with tqdm(total=len(dataset), unit="image", desc="annotate", disable=helps) as bar:

        def progress(done: int) -> None:
            parent = multiprocessing.parent_process()
            if helps and parent is not None and not parent.is_alive():
                raise SystemExit(1)  # nobody waits for this share
            bar.update(max(0, done - bar.n))

        annotation.annotate_dataset(
            dataset, pipeline, options.output, pipeline_name=options.model or "", shard_rows=options.shard_rows,
            shard=share, coco_shards=options.coco_shards, on_progress=progress, **call_options,
        )  # fmt: skip
    return bad_records


def _annotate_with_ray(options: argparse.Namespace) -> None:
    if options.shard or options.split:
        raise ValueError("--shard and --split are not of --engine ray, which shares all Parquet files of a folder.")
    if options.coco_shards:
        raise ValueError("--coco-shards is of --engine folder: the result of Ray has no COCO document.")
    if options.runtime != "torch":
        raise ValueError("--runtime is of --engine folder.")
    dtype = "fp32" if options.dtype == "auto" else options.dtype  # the machines of a cluster may differ
    count = annotation.annotate_with_ray(
        options.annotations, annotation.BASELINES[options.method] if options.method else options.model,
        options.output, images=options.images, num_workers=options.num_workers,
        num_gpus=options.num_gpus, device=None if options.device == "auto" else find_device(options.device),
        dtype=find_dtype(dtype), batch_rows=options.shard_rows, address=options.ray_address,
        **given_options(options),
    )  # fmt: skip
    write_out(f"{options.output}\n")
    if count:
        write_out(f"{count:,} images have an error and no whole masks, see the column `error`\n")
    if options.push_to_hub:
        write_out(data.push_parquet(Path(options.output), options.push_to_hub) + "\n")
