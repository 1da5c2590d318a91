"""The command `amodal-diffusion evaluate`: methods on images with amodal ground truth, and the tables of the papers."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import data, evaluation
from ..files import atomic_file
from .options import (
    add_command,
    check_given,
    check_output_picture,
    check_reports,
    find_device,
    find_dtype,
    given_options,
    import_rooms,
    local_path,
    named_place,
    write_out,
)

if TYPE_CHECKING:
    import torch

    from ..baselines.nearest_mask import NearestMaskBank

# As `data.FORMATS`, `evaluation.ORDER_SOURCES`, `GROUP_KINDS`, `METHODS`, `FILL_METHODS` and `NEAREST_MASK` have them;
# a test compares.
FORMATS = (
    *("bsds-a", "cityscapes", "coco", "cocoa", "cocoa-cls", "cvat", "d2sa", "kins", "label-studio", "labelme", "lvis"),
    *("mp3d-amodal", "parquet"),
)
ORDER_SOURCES = ("masks", "annotated")
GROUP_KINDS = ("source", "category", "hidden")
FILL_METHODS = ("mean-color", "telea", "navier-stokes")
METHODS = ("raw", "convex", "convex-refined", "area-smaller", "area-larger", "y-axis", "hull")
NEAREST_MASK = "nearest-mask"

FIGURE = "z20-fig12"
_DILATION = 3  # pixels; [Z20] advises 3 to 5 where a segmenter's masks leave gaps
_SAMPLES = 20  # [L20] Table 4

_EXAMPLES = f"""\
methods: {", ".join(METHODS)}, {NEAREST_MASK}, or folders or Hub ids of pipelines.
The true order is computed from the masks; `--order-source annotated` takes the relations of the annotations (COCOA's
`depth_constraint`) instead. `--no-occluders` has every object completed alone, as from a photo and one mask: no method
is given the other masks, and there is no order to score. {NEAREST_MASK} looks masks up in a bank that is made from
the annotations of `--nearest-masks`, which must hold none of the photos that are scored. `--posterior K` adds rows for
models that draw samples: the best of K by the visible part, the best by the ground truth, and the completion in the
true box. `--true-order` adds rows of pipelines that are given the true order, which leaves the shapes alone to be
wrong. A * marks rows that look at the ground truth. Intervals are percentiles over resampled images.
`--reference A` adds what every other method has more than A, with intervals from the same resamples for both; `--by`
adds tables of some of the objects: of each data set, of each name, of about the same hidden share.

hidden colours: `--content A,B,...` scores what is painted where objects are hidden, on a data set that has the truth
(layers/ of `make-rooms` and `ground-truth`), with the true whole masks and order given: {", ".join(FILL_METHODS)}, or
folders or Hub ids of content pipelines. `--fid` adds the Fréchet Inception distance of the whole objects (the extra
`fid`), whose weights are fetched; `--fid WEIGHTS` reads them from a file.

depth: `--depth A,B,...` scores who is closer, on a data set that knows it (`make-rooms`, `ground-truth`), by the share
of pairs that are told wrong (WHDR): y-axis (lower in the photo is closer), all-overlapping, or folders or Hub ids of
an OrderNet that `train_order_net.py --answer depth` has trained.

tables: `--table NAME` lays out a table of a paper, with the published numbers beside those of `--methods`, and says in
what ours was not computed as published; `--table list` names them. The baselines of a table come by themselves.
Where rows differ in what a pipeline was trained with, `--methods ROLE=PIPELINE` says in which it stands. Tables of data
sets (z24-1, z24-2) take `--annotations` alone, the study with people (l20-6) `--preferences`.
Detections are JSON lists of COCO results, such as detectron2's coco_instances_results.json, or weights of torchvision's
maskrcnn_resnet50_fpn or detectron2's Mask R-CNN R50-FPN or R101-FPN (.pth, .safetensors), which then looks at the
photos. `--detections` has predicted modal masks, which are completed with erasers dilated by {_DILATION} pixels
(--eraser-dilation); `--results` has amodal masks, and NAME, if it is the role of a row
(gt, raw, convex, convex-refined, pcnet-m), puts them there.

Several processes share the images out: `torchrun --nproc-per-node 2 -m amodal_diffusion evaluate ...`, or
`accelerate launch --multi_gpu --num_processes 2 -m amodal_diffusion evaluate ...`; the metrics stay the same.

examples:
  amodal-diffusion evaluate --annotations annotations.json --images images/ \\
      --methods raw,convex,convex-refined,pipelines/pcnet-m --json report.json
  amodal-diffusion evaluate --annotations annotations.json --images images/ --no-occluders \\
      --methods raw,convex,pipelines/pcnet-m,pipelines/occamodal
  amodal-diffusion evaluate --annotations annotations.json --posterior 20 --seed 0 \\
      --methods raw,nearest-mask,pipelines/amodal-vae --nearest-masks instances.json
  amodal-diffusion evaluate --annotations datasets/rooms-amodal --split test --by category hidden \\
      --methods raw,convex-refined,pipelines/pcnet-m,pipelines/asbu --reference pipelines/pcnet-m
  amodal-diffusion evaluate --annotations datasets/rooms-amodal --split test \\
      --content mean-color,telea,navier-stokes,pipelines/pcnet-c
  amodal-diffusion evaluate --annotations rooms/ --split test --depth y-axis,all-overlapping,runs/depth-net
  amodal-diffusion evaluate --table z20-2 --annotations annotations.json --methods pipelines/pcnet-m
  amodal-diffusion evaluate --table z20-3 --annotations annotations.json --methods pipelines/pcnet-m \\
      --detections results.json
  amodal-diffusion evaluate --table z20-4 --annotations annotations.json --results gt=a.json pcnet-m=b.json
  amodal-diffusion evaluate --table z24-6 --annotations annotations.json \\
      --methods pipelines/occamodal,occamodal-mp3d=runs/occamodal
  amodal-diffusion evaluate --table l20-6 --preferences answers.jsonl
  amodal-diffusion evaluate --table {FIGURE} --annotations annotations.json --methods pipelines/pcnet-m \\
      --plot curves.png
"""


def add_evaluate(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command to the subparsers `commands`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_evaluate(parser.add_subparsers(), parents=[])
        >>> parser.parse_args("evaluate --annotations coco.json --methods raw,convex".split()).methods
        'raw,convex'
    """
    text = "Score methods on images with amodal ground truth, also as a table of a paper."
    parser = add_command(commands, "evaluate", _run_evaluate, text, _EXAMPLES, parents)
    parser.add_argument("--table", metavar="NAME", help="table of a paper, see below; list names them")
    _add_inputs(parser)
    _add_settings(parser)
    parser.add_argument("--json", type=local_path, metavar="FILE", help="also write the metrics as JSON")
    parser.add_argument("--markdown", type=local_path, metavar="FILE", help="also write the tables as Markdown")
    parser.add_argument("--plot", type=local_path, metavar="FILE", help=f"picture of the curves of --table {FIGURE}")
    parser.add_argument(
        "--push-to-hub",
        "--push_to_hub",
        action="store_true",
        help="write the metrics into the model cards: README.md of a folder, a commit for a Hub id",
    )
    parser.add_argument("--data-name", metavar="NAME", help="what tables and cards call the data (the file's name)")


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--annotations",
        type=named_place,
        metavar="FILE",
        help="file of any known format, Parquet, or Hub id of a data set",
    )
    parser.add_argument("--format", choices=("auto", *FORMATS), default="auto", help="of the annotations (auto)")
    parser.add_argument("--images", type=local_path, metavar="DIR", help="folder of the photos of annotations without")
    parser.add_argument("--split", metavar="NAME", help="split of Parquet or Hub data")
    parser.add_argument("--streaming", action="store_true", help="read row by row; nothing is stored on disk")
    parser.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="what to do with a bad record (raise)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="images to read at most")
    parser.add_argument("--methods", default="", metavar="A,B,...", help="rows of the table, with commas between")
    parser.add_argument(
        "--content", default="", metavar="A,B,...", help="score hidden colours instead: rows of that table, see below"
    )
    parser.add_argument(
        "--depth", default="", metavar="A,B,...", help="score who is closer instead: rows of that table, see below"
    )
    parser.add_argument(
        "--fid", nargs="?", const="", metavar="WEIGHTS", help="with --content: the Inception distance too, see below"
    )
    parser.add_argument(
        "--nearest-masks",
        nargs="+",
        type=named_place,
        metavar="FILE",
        help=f"annotations of the bank of {NEAREST_MASK}, see below",
    )
    parser.add_argument(
        "--nearest-limit", type=int, default=100_000, metavar="N", help="pairs of masks in that bank at most (100,000)"
    )
    parser.add_argument(
        "--detections", type=named_place, metavar="FILE", help="predicted modal masks, for some tables, see below"
    )
    parser.add_argument("--results", nargs="+", metavar="NAME=FILE", help="predicted amodal masks, for tables of AP")
    parser.add_argument(
        "--preferences", type=named_place, metavar="FILE", help="answers of demos/preference.py, for the table l20-6"
    )
    parser.add_argument("--scene", metavar="PATTERN", help="what of a photo's file name is its scene, for z24-2")
    parser.add_argument(
        "--min-score", type=float, default=0.0, metavar="P", help="of predictions that are used at all (0)"
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--order-source", choices=ORDER_SOURCES, default="masks", help="the true order (masks)")
    parser.add_argument(
        "--true-order", action="store_true", help="add rows of pipelines that are told who occludes whom, see below"
    )
    parser.add_argument("--no-occluders", action="store_true", help="complete every object alone, see below")
    parser.add_argument(
        "--no-categories", action="store_true", help="withhold category ids from pipelines of another taxonomy"
    )
    parser.add_argument("--class-aware", action="store_true", help="AP by class, as for KINS; else all are one class")
    parser.add_argument("--posterior", type=int, metavar="K", help="also score the best of K samples, see below")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of samples, the bank of masks and intervals (0)"
    )
    parser.add_argument(
        "--resamples", type=int, default=1000, metavar="N", help="data sets drawn for the intervals; 0 for none (1,000)"
    )
    parser.add_argument("--confidence", type=float, default=0.95, metavar="P", help="of the intervals (0.95)")
    parser.add_argument(
        "--by",
        nargs="+",
        choices=GROUP_KINDS,
        default=[],
        metavar="GROUPS",
        help="source, category or hidden, see below",
    )
    parser.add_argument("--reference", metavar="NAME", help="method to which the others are compared, see below")


def _run_evaluate(options: argparse.Namespace) -> None:
    """Run `amodal-diffusion evaluate`."""
    if options.table == "list":
        write_out(
            "".join(f"{name:<10}  {table.source}. {table.title}\n" for name, table in evaluation.PAPER_TABLES.items())
        )
        return
    table = _check(options)
    _check_inputs(options)
    if table is not None and not table.has_methods:
        _run_figures(options, table)
        return
    import_rooms("datasets", ".pipelines.auto")
    import datasets
    from diffusers.utils import logging as diffusers_logging

    datasets.disable_progress_bars()
    diffusers_logging.disable_progress_bar()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    device = _device(options.device, processes)
    if options.content:
        _run_content(options, device)
        return
    if options.depth:
        _run_depth(options, device)
        return
    roles = _roles(options, table)
    entries = _methods(options, table, roles, device)
    report = evaluation.evaluate_methods(
        _rows(options),
        [entry.method for entry in entries],
        **({} if table is None else {"order_methods": ()}),
        order_source=options.order_source,
        occluders_given=not options.no_occluders,
        limit=options.limit,
        on_sample=_log_sample,
        use_categories=not options.no_categories,
        class_aware=options.class_aware,
        occlusion_bins=evaluation.OCCLUSION_BINS if options.table == FIGURE else (),
        resamples=options.resamples,
        confidence=options.confidence,
        seed=options.seed,
        distributed=processes > 1,
        groups=options.by,
        reference=options.reference,
    )
    if processes == 1 or _is_main_process():
        _write(options, table, entries, report)
    if processes > 1:
        _end_processes()


def _check(options: argparse.Namespace) -> evaluation.PaperTable | None:
    """The table, after what can be found wrong before any work is done."""
    if options.table is not None and options.table not in evaluation.PAPER_TABLES:
        raise ValueError(f"--table must be list or one of {', '.join(evaluation.PAPER_TABLES)}, got {options.table!r}.")
    table = None if options.table is None else evaluation.PAPER_TABLES[options.table]
    needs = "" if table is None else table.needs
    if (needs == "preferences") != bool(options.preferences):
        raise ValueError("--preferences FILE and --table l20-6 need each other.")
    if options.annotations is None and needs != "preferences":
        raise ValueError("--annotations FILE is needed.")
    if options.scene is not None and needs != "statistics":
        raise ValueError("--scene is for --table z24-2 alone.")
    if table is not None and not table.has_methods and options.methods:
        raise ValueError(f"--methods is not for --table {table.name}, which is of {needs}.")
    if options.table is None and not (options.methods or options.content or options.depth):
        raise ValueError("--methods A,B,..., --content A,B,..., --depth A,B,... or --table NAME is needed.")
    if options.fid is not None and not options.content:
        raise ValueError("--fid is for --content.")
    if options.content:
        _check_content(options)
    if options.depth:
        _check_alone(options, "depth", ("content", "reference"))
    for name in ("detections", "results"):
        if getattr(options, name) and options.table is None:
            raise ValueError(f"--{name} is for --table NAME alone.")
    if options.table is not None and options.no_occluders:
        raise ValueError("--no-occluders is not for --table NAME: a table says itself what is given.")
    if options.table is not None and (options.by or options.reference):
        raise ValueError("--by and --reference are not for --table NAME.")
    if options.true_order and (options.table is not None or options.no_occluders):
        raise ValueError("--true-order is neither for --table NAME nor for --no-occluders.")
    if options.plot is not None and options.table != FIGURE:
        raise ValueError(f"--plot is of --table {FIGURE} alone.")
    if options.resamples < 0:
        raise ValueError(f"--resamples must be at least 0, got {options.resamples}.")
    results = [text.partition("=")[2] for text in options.results or ()]
    read = [options.annotations, options.images, options.detections, options.preferences, *results]
    reports = {"--json": options.json, "--markdown": options.markdown, "--plot": options.plot}
    check_reports(reports, [*read, *(options.nearest_masks or ())])
    if options.plot is not None:
        check_output_picture(options.plot)
    return table


def _check_inputs(options: argparse.Namespace) -> None:
    """Refuse files and models that are not there."""
    named = [text.strip() for text in f"{options.methods},{options.content},{options.depth}".split(",") if "/" in text]
    # A path may have a = too.
    pipelines = [text if Path(text).is_dir() else text.partition("=")[2] or text for text in named]
    results = [text.partition("=")[2] for text in options.results or ()]
    check_given(
        files={
            "--images": options.images, "--detections": options.detections, "--results": filter(None, results),
            "--preferences": options.preferences, "--fid": options.fid or None,
        },
        places=[options.annotations, *(options.nearest_masks or ()), *pipelines],
    )  # fmt: skip


def _run_figures(options: argparse.Namespace, table: evaluation.PaperTable) -> None:
    """Lay out a table whose rows are no methods."""
    if table.needs == "preferences":
        from ..data.preferences import read_preferences

        answers, name = read_preferences(options.preferences), options.data_name or Path(options.preferences).name
        if not answers:
            raise ValueError(f"--preferences {options.preferences} has no answers.")
        report = evaluation.preferences_report(table.name, answers, name, options.confidence)
    else:
        rows = _rows(options)
        bare = rows.remove_columns("image") if "image" in (rows.column_names or ()) else rows
        statistics = data.DatasetStatistics.of(islice(bare, options.limit), options.scene)
        report = evaluation.statistics_report(table.name, statistics, _data_name(options))
    write_out(report.to_text())
    evaluation.write_report(report, json_path=options.json, markdown_path=options.markdown)


def _data_name(options: argparse.Namespace) -> str:
    return options.data_name or "/".join(Path(options.annotations).parts[-2:])


def _roles(options: argparse.Namespace, table: evaluation.PaperTable | None) -> dict[str, str]:
    """Names of `--methods` → the rows that they are put in, "" where none is named."""
    known = {row.role for row in table.rows} - {""} if table is not None else set()
    roles: dict[str, str] = {}
    for text in filter(None, map(str.strip, options.methods.split(","))):
        role, _, name = text.partition("=")  # a path may have a = too
        if role and name and role not in known and table is not None and "/" not in role and not Path(text).exists():
            raise ValueError(
                f"--methods ROLE=PIPELINE must name a row of table {table.name} "
                f"({', '.join(sorted(known)) or 'it has none'}), got {role!r}."
            )
        name, role = (name.strip(), role) if name and role in known else (text, "")
        if name in roles:
            raise ValueError(f"--methods holds {name!r} twice.")
        roles[name] = role
    return roles


def _check_alone(options: argparse.Namespace, wanted: str, more: Sequence[str]) -> None:
    for name in ("methods", "table", "by", "push_to_hub", "posterior", "no_occluders", *more):
        if getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')} is not for --{wanted}.")


def _check_content(options: argparse.Namespace) -> None:
    _check_alone(options, "content", ("streaming",))
    if not Path(options.annotations, "layers").is_dir():
        raise ValueError(
            f"--content needs a folder with layers/, where the hidden colours are, got {options.annotations!r}."
        )
    if options.split is None:
        raise ValueError("--content needs --split NAME.")


def _dtype(options: argparse.Namespace, device: torch.device) -> torch.dtype:
    return find_dtype(options.dtype, device, options.runtime)


def _run_depth(options: argparse.Namespace, device: torch.device) -> None:
    """Score who is closer."""
    names = [name.strip() for name in options.depth.split(",") if name.strip()]
    report = evaluation.evaluate_depth(
        _rows(options),
        evaluation.load_depth_methods(names, device=device, dtype=_dtype(options, device), runtime=options.runtime),
        limit=options.limit,
        resamples=options.resamples,
        confidence=options.confidence,
        seed=options.seed,
    )
    write_out(report.to_text())
    evaluation.write_report(report, json_path=options.json, markdown_path=options.markdown)


def _run_content(options: argparse.Namespace, device: torch.device) -> None:
    """Score hidden colours."""
    from functools import partial

    from ..data.rooms import ColorArchives
    from ..metrics import ObjectFID

    names = [name.strip() for name in options.content.split(",") if name.strip()]
    report = evaluation.evaluate_fills(
        _rows(options),
        ColorArchives(options.annotations, options.split).read,
        evaluation.load_fill_methods(names, device=device, dtype=_dtype(options, device), runtime=options.runtime),
        limit=options.limit,
        resamples=options.resamples,
        confidence=options.confidence,
        seed=options.seed,
        reference=options.reference,
        make_fid=None if options.fid is None else partial(ObjectFID, weights=options.fid or None),
    )
    write_out(report.to_text())
    evaluation.write_report(report, json_path=options.json, markdown_path=options.markdown)


def _device(name: str, processes: int) -> torch.device:
    """The device of this process; of several, each takes its own where none is named."""
    if processes == 1:
        return find_device(name)
    import torch
    from accelerate import PartialState

    on_cpu = name == "cpu" or (name == "auto" and not torch.cuda.is_available())
    state = PartialState(cpu=on_cpu)
    return state.device if name == "auto" or on_cpu else find_device(name)


def _is_main_process() -> bool:
    from accelerate import PartialState

    return bool(PartialState().is_main_process)


def _end_processes() -> None:
    from accelerate import PartialState

    PartialState().destroy_process_group()


def _methods(
    options: argparse.Namespace, table: evaluation.PaperTable | None, roles: Mapping[str, str], device: torch.device
) -> list[evaluation.TableMethod]:
    """The methods of the run, with their rows in the table where there is one."""
    names = list(roles)
    given = given_options(options)
    loading: dict[str, Any] = {"device": device, "dtype": _dtype(options, device), "seed": options.seed}
    loading["runtime"] = options.runtime
    bank = _nearest_masks(options, names, table)
    if table is None:
        loading |= {"posterior": options.posterior, "nearest_masks": bank, "true_order": options.true_order}
        methods = evaluation.load_methods(names, **loading, **given)
        return [evaluation.TableMethod("", method, learned=_is_pipeline(method.name)) for method in methods]
    results = [_results(text, options.min_score, device) for text in options.results or ()]
    detections = options.detections and evaluation.read_detections(
        options.detections, min_score=options.min_score, device=device
    )
    if detections is not None and options.detections:
        given = {"eraser_dilation": _DILATION} | given
    baselines = [name for name in table.baselines if name not in names and not results]
    if bank is not None and NEAREST_MASK not in names:
        baselines.append(NEAREST_MASK)
    wanted = [*baselines, *names]
    methods = evaluation.load_methods(wanted, nearest_masks=bank, options_if_taken=given, **loading) if wanted else []
    return evaluation.table_methods(
        table,
        methods,
        detections=detections if options.detections else None,
        results=results,
        num_samples=options.posterior or _SAMPLES,
        seed=options.seed,
        roles={name: role for name, role in roles.items() if role},
    )


def _is_pipeline(name: str) -> bool:
    return name not in METHODS and name != NEAREST_MASK


def _results(text: str, min_score: float, device: torch.device) -> evaluation.ResultsMethod:
    name, sign, file = text.partition("=")
    if not (name and sign and file):
        raise ValueError(f"--results must be NAME=FILE, got {text!r}.")
    return evaluation.ResultsMethod(name, evaluation.read_detections(file, min_score=min_score, device=device))


def _write(
    options: argparse.Namespace,
    table: evaluation.PaperTable | None,
    entries: Sequence[evaluation.TableMethod],
    report: evaluation.EvaluationReport,
) -> None:
    """Print the tables, and write the files and cards that were asked for."""
    data_name = _data_name(options)
    shown: evaluation.EvaluationReport | evaluation.TableReport = report
    if table is not None:
        kind = evaluation.CurveReport if options.table == FIGURE else evaluation.TableReport
        shown = kind(table, entries, report, data_name, _differences(options, table))
    write_out(shown.to_text())
    evaluation.write_report(shown, json_path=options.json, markdown_path=options.markdown)
    if options.plot is not None and isinstance(shown, evaluation.CurveReport):
        with atomic_file(options.plot) as temporary:
            shown.draw().save(temporary)
    if options.push_to_hub:
        for model, labels in _models(options, table, entries).items():
            results = [
                result
                for method, label in labels.items()
                for result in evaluation.evaluation_results(report, method, data_name=data_name, label=label)
            ]
            write_out(evaluation.update_model_card(model, results) + "\n")


def _differences(options: argparse.Namespace, table: evaluation.PaperTable) -> list[str]:
    """What this run does otherwise than the paper because of its options."""
    found = []
    if options.limit is not None:
        found.append(f"No more than the first {options.limit} images are read.")
    if options.no_categories:
        found.append("Category ids are withheld from the pipelines.")
    if table.roles == "posterior" and (options.posterior or _SAMPLES) != _SAMPLES:
        found.append(f"{options.posterior} samples an object; published: {_SAMPLES}.")
    if table.needs == "detections" and options.eraser_dilation is None:
        found.append(f"Erasers are dilated by {_DILATION} pixels; the paper names no number for its table.")
    return found


def _models(
    options: argparse.Namespace, table: evaluation.PaperTable | None, entries: Sequence[evaluation.TableMethod]
) -> Mapping[str, Mapping[str, str]]:
    """Pipelines → names of their methods in the report → what tells them apart in a card."""
    setting = ["predicted masks"] if options.detections else ["no occluders"] if options.no_occluders else []
    models: dict[str, dict[str, str]] = {}
    for model in _roles(options, table):
        for entry in entries:
            name = entry.method.name
            its_own = name == model or name.startswith(f"{model}, ")
            if entry.learned and its_own and not getattr(entry.method, "uses_truth", False):
                variant = [name.removeprefix(model).removeprefix(", ")] if name != model else []
                models.setdefault(model, {})[name] = ", ".join([*variant, *setting])
    return models


def _rows(options: argparse.Namespace) -> Any:
    names = ("images", "format", "split", "on_error", "streaming")
    return _read(options.annotations, **{name: getattr(options, name) for name in names})


def _read(path: str, **options: Any) -> Any:
    import datasets

    try:
        return data.read_annotations(path, **options)
    except datasets.exceptions.DatasetGenerationError as error:  # its own message does not say what is wrong
        raise ValueError(f"annotations {path}: {error.__cause__ or error}") from error


def _nearest_masks(
    options: argparse.Namespace, names: Sequence[str], table: evaluation.PaperTable | None
) -> NearestMaskBank | None:
    belongs = table is not None and any(row.role == NEAREST_MASK for row in table.rows)
    if (NEAREST_MASK in names) != bool(options.nearest_masks) and not belongs:
        raise ValueError(f"the method {NEAREST_MASK} and --nearest-masks FILE [FILE ...] need each other.")
    if not options.nearest_masks:
        return None
    if str(options.annotations) in options.nearest_masks:
        raise ValueError(f"--nearest-masks {options.annotations} are the annotations that are scored; give others.")
    sources = [_read(path, on_error=options.on_error).select_columns(["objects"]) for path in options.nearest_masks]
    from ..baselines.nearest_mask import NearestMaskBank

    return NearestMaskBank.from_sources(sources, limit=options.nearest_limit, seed=options.seed)


def _log_sample(sample: evaluation.Sample) -> None:
    logging.getLogger(__name__).info("image %s, %d objects", sample.image_id, len(sample.modal))
