"""The command `amodal-diffusion annotate`: whole masks for a data set that has visible ones."""

from __future__ import annotations

import argparse
import multiprocessing
import os
from pathlib import Path
from typing import Any

from .. import annotation, data, io
from ..files import check_output_folder
from .options import add_command, given_options, load_model, write_bad_records, write_out

_EXAMPLES = """\
The output folder gets data/*.parquet (the one schema, with a column `predictions`), amodal.json (COCO: `segmentation`
is the whole mask, `visible_mask` the given one, with `occlude_rate`, `score` and `uncertainty`) and a card, README.md.

Kill it whenever you like: the same command goes on where it was. The same command in several places at once shares the
work: on one machine by --num-workers or `accelerate launch`, on several by a folder that all of them see.

examples:
  amodal-diffusion annotate instances.json --model pipelines/pcnet-m --output amodal/
  amodal-diffusion annotate instances.json --images photos/ --model pipelines/occamodal --output amodal/ --num-workers 2
  amodal-diffusion annotate user/data-set --model pipelines/asbu --output amodal/ --push-to-hub user/data-set-amodal
"""


def add_annotate(commands: Any, parents: list[Any]) -> None:
    """Add the command to the subparsers `commands`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_annotate(parser.add_subparsers(), parents=[])
        >>> parser.parse_args("annotate coco.json --model pipelines/asbu --output amodal".split()).shard_rows
        32
    """
    text = "Complete every object of a data set of visible masks."
    parser = add_command(commands, "annotate", _run_annotate, text, _EXAMPLES, parents)
    parser.add_argument("annotations", metavar="ANNOTATIONS", help="annotation file, folder of Parquet, or Hub id")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the photos, for a model that looks at them"
    )
    parser.add_argument("--split", help="of Parquet that has several")
    parser.add_argument("--model", required=True, metavar="PIPELINE", help="folder or Hub id of a mask pipeline")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the result")
    parser.add_argument("--shard-rows", type=int, default=32, metavar="N", help="images a piece of the work (32)")
    parser.add_argument("--num-workers", type=int, default=1, metavar="N", help="processes on this machine (1)")
    parser.add_argument(
        "--claim-timeout", type=float, default=600, metavar="S",
        help="seconds after which a silent process on another machine is given up (600)",
    )  # fmt: skip
    parser.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="what to do with a bad record (raise)"
    )
    parser.add_argument("--push-to-hub", "--push_to_hub", metavar="ID", help="also publish the Parquet files there")


def _run_annotate(options: argparse.Namespace) -> None:
    """Run `amodal-diffusion annotate`."""
    if options.num_workers < 1:
        raise ValueError(f"--num-workers must be at least 1, got {options.num_workers}.")
    if options.push_to_hub:
        from ..hub import check_repo_id

        check_repo_id(options.push_to_hub)
    check_output_folder(options.output)
    workers = []
    if options.num_workers > 1:
        # Fresh interpreters: a fork of a process that uses threads may hang.
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=_help, args=(options,), daemon=True) for _ in range(options.num_workers - 1)]
        for worker in workers:
            worker.start()
    bad_records = _annotate(options, show=int(os.environ.get("LOCAL_RANK", "0")) == 0)
    for worker in workers:  # nothing is left to do for them, and they may be killed at any moment
        worker.terminate()
        worker.join()
    for path in (
        *sorted((options.output / "data").iterdir()),
        options.output / io.AMODAL_JSON,
        options.output / "README.md",
    ):
        write_out(f"{path}\n")
    write_bad_records(bad_records)
    _write_errors(options.output)
    if options.push_to_hub:
        write_out(data.push_parquet(options.output, options.push_to_hub) + "\n")


def _write_errors(folder: Path) -> None:
    """Say how many images have an error instead of whole masks, and show the first."""
    import pyarrow.parquet as parquet

    columns = ["image_id", "error"]
    shards = sorted((folder / "data").iterdir())
    rows = [row for path in shards for row in parquet.read_table(path, columns=columns).to_pylist()]
    errors = [f"image {row['image_id']}: {row['error']}" for row in rows if row["error"] is not None]
    if errors:
        write_out(f"{len(errors):,} of {len(rows):,} images have an error and no whole masks, such as\n")
        write_out("".join(f"  {error}\n" for error in errors[:5]))


def _help(options: argparse.Namespace) -> None:
    """A further process. Its errors are those of the first one, which meets them too."""
    _annotate(options, show=False)


def _annotate(options: argparse.Namespace, *, show: bool) -> list[data.BadRecord]:
    import torch
    from tqdm.auto import tqdm

    if options.num_workers > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // options.num_workers))
    call_options = given_options(options)
    pipeline = load_model(options)
    pipeline.check_options(call_options)
    bad_records: list[data.BadRecord] = []
    more: dict[str, Any] = {} if options.split is None else {"split": options.split}
    dataset = data.read_annotations(
        options.annotations, options.images, on_error=options.on_error, bad_records=bad_records, **more
    )
    with tqdm(total=len(dataset), unit="image", desc="annotate", disable=not show) as bar:

        def progress(done: int) -> None:
            multiprocessing.active_children()  # lets go of workers that died, so that what they claimed is free
            bar.update(max(0, done - bar.n))

        annotation.annotate_dataset(
            dataset, pipeline, options.output, pipeline_name=options.model, shard_rows=options.shard_rows,
            claim_timeout=options.claim_timeout, on_progress=progress, **call_options,
        )  # fmt: skip
    return bad_records
