"""The command `amodal-diffusion dataset`: convert data sets, write them for tools, tell what they hold."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .. import data
from ..data import reviews
from ..files import check_output_folder, write_text
from .options import (
    add_command,
    check_given,
    check_output_picture,
    check_reports,
    local_path,
    named_place,
    write_bad_records,
    write_out,
)

SPLIT = re.compile(r"(?:(?P<split>[A-Za-z]\w*)=)?(?P<place>.+)", re.ASCII)

# As `data.FILE_FORMATS`, `convert.PHOTOS` and `parquet.SHARD_BYTES` have them; a test compares.
FORMATS = (
    *("auto", "cocoa", "bsds-a", "cocoa-cls", "kins", "d2sa", "mp3d-amodal", "coco", "lvis", "cityscapes"),
    *("cvat", "label-studio", "labelme", "columns", "parquet"),
)
PHOTOS = ("embed", "beside", "none")
SHARD_MEGABYTES = 500.0

_EXAMPLES = """\
formats:
  cocoa        COCO Amodal, JSON
  bsds-a       BSDS-A, JSON as COCOA
  cocoa-cls    COCOA-cls, JSON
  kins         KINS, JSON, the older files and those of 2020
  d2sa         D2SA, JSON
  mp3d-amodal  MP3D-Amodal, pickle, of which nothing is run
  coco         COCO, JSON
  lvis         LVIS, JSON
  cityscapes   Cityscapes, the folder gtFine
  cvat         CVAT for images 1.1, XML
  label-studio Label Studio, JSON
  labelme      labelme, a folder of JSON files
  columns      any Hub id, Parquet file or folder with instance masks; --columns says where they are
  parquet      a data set of our schema, to change its shards, its photos or its card
Without --format the file says what it is; formats of the same layout are then taken for COCO, COCOA or COCOA-cls, and
the card cannot name licence and citation.

columns: masks (a list of polygons, run lengths or mask images of the objects, or one label map), amodal_masks, image,
category, is_crowd, image_id, file_name, height, width. A dot leads into a column: objects.segmentation.

examples:
  amodal-diffusion dataset convert --format kins train=instances_train.json test=instances_val.json \\
      --images training/image_2 testing/image_2 --output kins/
  amodal-diffusion dataset convert --format mp3d-amodal test=MP3D_seleted_eval_10.29.pkl --images images/ \\
      --output mp3d/ --photos beside
  amodal-diffusion dataset convert --format columns train=user/cups --output cups/ \\
      --columns masks=objects.segmentation category=objects.category image=image
  amodal-diffusion dataset convert annotations.json --images photos/ --output mine/ --push-to-hub user/mine
  amodal-diffusion dataset convert test=instances_val.json --format kins --output merged/ \\
      --category-ids car=1 bus=1 motorcycle=2 bicycle=2

--detections has visible masks that a segmenter predicted, to be completed by `annotate` ([Z20], Table 4): a JSON list
of COCO results, such as detectron2's coco_instances_results.json, or weights of torchvision's maskrcnn_resnet50_fpn or
detectron2's Mask R-CNN R50-FPN or R101-FPN (.pth, .safetensors), which then looks at the photos.

The output folder gets data/SPLIT-00000-of-0000n.parquet, README.md (the card) and, with --photos beside, photos/SPLIT/.
"""


_ACCEPT_EXAMPLES = """\
example:
  python demos/review.py mine/ --split test --reviews reviews.jsonl
  amodal-diffusion dataset accept mine/ --split test --reviews reviews.jsonl --output accepted/

Rows keep the objects that every round accepted, and the relations between them; rows without any are left out.
"""


TOOLS = ("cocoa", "cvat", "d2sa", "kins", "label-studio")
"""As `interop.TOOLS` has them; a test compares."""

_EXPORT_EXAMPLES = """\
files:
  cvat          "CVAT for images 1.1", and *-labels.json, which "Raw" of the label editor takes
  label-studio  tasks with predictions, and *-interface.xml, the labelling interface
  kins          KINS of 2020, with ranks for the order
  cocoa         COCO Amodal, regions from front to back
  d2sa          D2SA and COCOA-cls

example, visible masks from CVAT and whole ones back into it:
  amodal-diffusion dataset convert annotations.xml --images photos/ --output drawn/
  amodal-diffusion annotate drawn/ --model pipelines/pcnet-m --output whole/
  amodal-diffusion dataset export whole/ --to cvat --output whole.xml
"""


_STATS_EXAMPLES = """\
examples:
  amodal-diffusion dataset stats COCO_amodal_val2014.json
  amodal-diffusion dataset stats mp3d/ --split test --scene '^([^_]+)_' --picture mp3d.png \\
      --scenes all --output mp3d.json

Objects by name and by hidden share, photos by scene: the folder of a file name, or what --scene finds in it.
"""


def add_dataset(commands: Any, parents: list[Any]) -> None:
    """Add `dataset` and its own commands to the subparsers `commands`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_dataset(parser.add_subparsers(), parents=[])
        >>> parser.parse_args("dataset convert train=a.json test=b.json --output out".split()).annotations
        ['train=a.json', 'test=b.json']
    """
    text = "Prepare data sets."
    parser = commands.add_parser("dataset", help=text, description=text)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")
    text = "Convert annotations of any known format into Parquet shards with a data-set card."
    convert = add_command(actions, "convert", _run_dataset_convert, text, _EXAMPLES, parents)
    _add_inputs(convert)
    _add_outputs(convert)
    text = "Write the objects of a data set that people accepted (demos/review.py)."
    accept = add_command(actions, "accept", _run_dataset_accept, text, _ACCEPT_EXAMPLES, parents)
    accept.add_argument("dataset", type=named_place, metavar="DATASET", help="folder, Parquet file or Hub id")
    accept.add_argument("--split", metavar="NAME", help="where there are several")
    accept.add_argument("--images", type=local_path, metavar="DIR", help="photos of a data set that has none in it")
    accept.add_argument("--reviews", type=local_path, required=True, metavar="FILE", help="answers, JSON lines")
    accept.add_argument("--rounds", type=int, choices=(1, 2), default=2, help="that must have accepted an object (2)")
    accept.add_argument("--output", type=local_path, required=True, metavar="DIR", help="folder of the result")
    accept.add_argument("--overwrite", action="store_true", help="replace shards and card that are there")
    accept.add_argument("--license", metavar="NAME", help="the Hub's name of the licence, for the card")
    _add_export(actions, parents)
    _add_stats(actions, parents)


def _add_export(actions: Any, parents: list[Any]) -> None:
    text = "Write a data set as the file of an annotation tool or of a published data set."
    export = add_command(actions, "export", _run_dataset_export, text, _EXPORT_EXAMPLES, parents)
    export.add_argument(
        "dataset", type=named_place, metavar="DATASET", help="folder, Parquet file, Hub id, or an annotation file"
    )
    export.add_argument("--to", required=True, choices=TOOLS, help="see below")
    export.add_argument("--split", metavar="NAME", help="where there are several")
    export.add_argument("--output", type=local_path, required=True, metavar="FILE", help="the file to write")


def _add_stats(actions: Any, parents: list[Any]) -> None:
    text = "Tell what a data set holds, with a picture."
    stats = add_command(actions, "stats", _run_dataset_stats, text, _STATS_EXAMPLES, parents)
    stats.add_argument(
        "dataset", type=named_place, metavar="DATASET", help="folder, Parquet file, Hub id, or an annotation file"
    )
    stats.add_argument("--split", metavar="NAME", help="where there are several")
    stats.add_argument("--format", choices=FORMATS[:-2], default="auto", help="of an annotation file (auto)")
    stats.add_argument("--scene", metavar="REGEX", help="finds the scene of a photo in its file name")
    stats.add_argument("--output", type=local_path, metavar="FILE", help="also write all of it, JSON")
    stats.add_argument("--picture", type=local_path, metavar="FILE", help="also draw it")
    stats.add_argument(
        "--scenes", type=_most_scenes, metavar="N", help="scenes in the picture, the largest, or all (20)"
    )


def _most_scenes(text: str) -> int:
    """A number of scenes, or "all"."""
    if text == "all":
        return sys.maxsize
    if not text.isascii() or not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f'expected a number of at least 1, or "all", got {text!r}')
    return int(text)


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "annotations",
        nargs="+",
        type=named_place,
        metavar="[SPLIT=]ANNOTATIONS",
        help="file, folder or Hub id of a split (train)",
    )
    parser.add_argument("--format", choices=FORMATS, default="auto", help="see below (auto)")
    parser.add_argument(
        "--images", nargs="+", type=local_path, metavar="DIR", help="folder of the photos: one for all, or one a split"
    )
    parser.add_argument("--columns", nargs="+", metavar="KEY=COLUMN", help="of --format columns, see below")
    parser.add_argument("--config", metavar="NAME", help="of a Hub data set of --format columns that has several")
    parser.add_argument(
        "--category-ids",
        nargs="+",
        metavar="NAME=ID",
        help="category ids by names, which may share one; objects of other names lose theirs (as they are)",
    )
    parser.add_argument(
        "--detections",
        type=named_place,
        metavar="FILE",
        help="put what a segmenter found in the place of the objects, see below",
    )
    parser.add_argument("--min-score", type=float, default=0.5, metavar="P", help="of what it found (0.5)")
    parser.add_argument("--source", metavar="NAME", help="what the rows call the data set (the format, or the file)")
    parser.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="what to do with a bad record (raise)"
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=local_path, required=True, metavar="DIR", help="folder of the result")
    parser.add_argument(
        "--photos", choices=PHOTOS, default="embed", help="in the shards, in a folder beside them, or left out (embed)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace shards and card that are there")
    parser.add_argument(
        "--shard-size", type=float, default=SHARD_MEGABYTES, metavar="MB", help="about, uncompressed (500)"
    )
    parser.add_argument("--license", metavar="NAME", help="the Hub's name of the licence, for the card")
    parser.add_argument("--description", metavar="TEXT", help="first paragraph of the card")
    parser.add_argument("--push-to-hub", "--push_to_hub", metavar="ID", help="also publish it there; mind the licence")
    parser.add_argument("--private", action="store_true", help="make that repository private")


def _run_dataset_convert(options: argparse.Namespace) -> None:
    """Run `amodal-diffusion dataset convert`."""
    _check(options)
    check_output_folder(options.output)
    bad_records: list[data.BadRecord] = []
    places = _places(options.annotations)
    folders = options.images or [None]
    if len(folders) == 1:
        folders = folders * len(places)
    if len(folders) != len(places):
        raise ValueError(f"--images must have one folder, or one for each of the {len(places)} splits.")
    files = {"--images": options.images, "--detections": options.detections}
    check_given(files=files, places=places.values())
    change = _changes(options)
    rows = {
        split: _Rows(partial(_read_rows, options, split, place, folder, bad_records, change))
        for (split, place), folder in zip(places.items(), folders, strict=True)
    }
    converted = data.convert_dataset(
        rows,
        options.output,
        photos=options.photos,
        overwrite=options.overwrite,
        max_shard_bytes=max(1, int(options.shard_size * 2**20)),
        repo_id=options.push_to_hub,
        license=options.license,
        description=options.description,
    )
    for path in (*converted.files, converted.folder / "README.md"):
        write_out(f"{path}\n")
    for split, counts in converted.counts.items():
        numbers = counts.numbers()
        write_out(f"{split}: " + ", ".join(f"{numbers[kind]:,} {kind}" for kind in _KINDS) + "\n")
    write_bad_records(bad_records)
    if options.push_to_hub:
        write_out(data.push_parquet(converted.folder, options.push_to_hub, private=options.private) + "\n")


_KINDS = ("images", "objects", "amodal", "occluded", "hidden", "relations")


class _Rows:
    """Rows that are opened when their turn comes."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.make())


def _check(options: argparse.Namespace) -> None:
    if (options.format == "columns") != bool(options.columns):
        raise ValueError("--format columns and --columns KEY=COLUMN ... need each other.")
    if options.config and options.format != "columns":
        raise ValueError("--config is of --format columns alone.")
    if options.format == "columns" and options.images:
        raise ValueError("--images is not for --format columns, which has its own photos.")
    if options.photos == "beside" and options.push_to_hub:
        raise ValueError("--push-to-hub needs --photos embed or none: load_dataset finds no photos beside the shards.")
    if options.private and not options.push_to_hub:
        raise ValueError("--private is of --push-to-hub alone.")
    if options.push_to_hub:
        from ..hub import check_repo_id

        check_repo_id(options.push_to_hub)
    if not 0 < options.shard_size < 1e9:
        raise ValueError(f"--shard-size must be positive and finite, got {options.shard_size:g}.")


def _places(texts: Sequence[str]) -> dict[str, str]:
    """Source of each split."""
    places: dict[str, str] = {}
    for text in texts:
        match = SPLIT.fullmatch(text)
        # A file may have = in its name.
        named = match is not None and match["split"] is not None and not Path(text).exists()
        split, place = (match["split"], match["place"]) if match is not None and named else ("train", text)
        if split in places:
            raise ValueError(f"split {split!r} is given twice; write SPLIT=ANNOTATIONS.")
        places[split] = place
    return places


def _category_ids(texts: Sequence[str] | None) -> dict[str, int] | None:
    """Name → id; None where the ids stay as they are."""
    ids: dict[str, int] = {}
    for text in texts or ():
        name, sign, number = text.rpartition("=")
        if not (name and sign and number.isascii() and number.isdecimal() and 0 < int(number) < 2**31):
            raise ValueError(f"--category-ids must be NAME=ID with ids from 1, got {text!r}.")
        if ids.setdefault(name, int(number)) != int(number):
            raise ValueError(f"--category-ids names {name!r} twice.")
    return ids or None


def _read_rows(
    options: argparse.Namespace,
    split: str,
    place: str,
    folder: Path | None,
    bad_records: list[data.BadRecord],
    change: Callable[[Iterator[Mapping[str, Any]]], Iterator[Mapping[str, Any]]],
) -> Iterator[Mapping[str, Any]]:
    yield from change(_open_rows(options, split, place, folder, bad_records))


def _changes(options: argparse.Namespace) -> Callable[[Iterator[Mapping[str, Any]]], Iterator[Mapping[str, Any]]]:
    """What is done to all rows: other objects, then other category ids."""
    ids, found = _category_ids(options.category_ids), None
    if options.detections:
        from ..evaluation import read_detections
        from .options import find_device

        try:
            found = read_detections(options.detections, min_score=options.min_score, device=find_device("auto"))
        except OSError as error:
            raise ValueError(f"--detections {options.detections!r} cannot be read: {error}") from error

    def change(rows: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        if found is not None:
            from ..evaluation import detected_rows

            rows = detected_rows(rows, found)
        return rows if ids is None else data.with_category_ids(rows, ids)

    return change


def _open_rows(
    options: argparse.Namespace, split: str, place: str, folder: Path | None, bad_records: list[data.BadRecord]
) -> Iterator[Mapping[str, Any]]:
    if options.format == "columns":
        yield from data.iter_columns(
            data.open_dataset(place, split, config=options.config),
            data.ColumnMap.parse(options.columns),
            with_image=options.photos != "none",
            on_error=options.on_error,
            bad_records=bad_records,
            source=options.source or place,
        )
        return
    try:
        name, opened = data.open_annotations(place, options.format)
        if name == "parquet":
            yield from data.load_amodal_dataset(place, split, streaming=True, images=folder).decode(False)
            return
        yield from data.iter_annotations(
            opened,
            None if options.photos == "none" else folder,
            format=name,
            on_error=options.on_error,
            bad_records=bad_records,
            source=options.source or (options.format if options.format != "auto" else None),
        )
    except (ValueError, NotADirectoryError) as error:
        hint = _format_hint(place, options.format)
        if hint is None:
            raise
        raise ValueError(f"{error}{'' if str(error).endswith('.') else '.'} {hint}") from error


def _format_hint(place: str, name: str) -> str | None:
    """What `--format` may have been meant, where a source cannot be read in the format `name`."""
    try:
        found = data.detect_format(place)
    except (ValueError, OSError):
        return None
    if found == "parquet" and name in ("auto", "parquet"):
        return "For a data set with other columns give --format columns and --columns KEY=COLUMN ..."
    if name == "auto" or _reader(found) == _reader(name):
        return None
    return f"It looks like --format {found}."


def _reader(name: str) -> tuple[Any, ...]:
    """What reads a format; formats of the same layout have the same."""
    rows = data.FILE_FORMATS[name].rows if name in data.FILE_FORMATS else name
    return getattr(rows, "func", rows), getattr(rows, "keywords", None)


def _run_dataset_accept(options: argparse.Namespace) -> None:
    """Run `amodal-diffusion dataset accept`."""
    if not options.reviews.is_file():
        raise FileNotFoundError(f"--reviews {options.reviews} is no file")
    check_given(files={"--images": options.images}, places=[options.dataset])
    answers = reviews.read_answers(options.reviews)
    accepted = reviews.accepted_keys(answers, options.rounds)
    if not accepted:
        raise ValueError(
            f"--reviews {options.reviews} accepts no object in {options.rounds} rounds; nothing is written."
        )
    check_output_folder(options.output)
    dataset = data.load_amodal_dataset(options.dataset, options.split, streaming=True, images=options.images)
    split = options.split or str(dataset.split or "train")
    rows = _Rows(partial(_accepted, dataset.decode(False), accepted))
    written = {"overwrite": options.overwrite, "license": options.license}
    converted = data.convert_dataset({split: rows}, options.output, **written)
    numbers = converted.counts[split].numbers()
    both = reviews.agreement(answers)
    write_out(f"{converted.folder / 'README.md'}\n")
    write_out(f"{split}: {numbers['images']:,} images, {numbers['objects']:,} objects accepted\n")
    if both["count"]:
        write_out(f"both rounds: {both['count']} objects, {both['observed']:.1%} alike, kappa {both['kappa']:.2f}\n")


def _run_dataset_export(options: argparse.Namespace) -> None:
    """Run `amodal-diffusion dataset export`."""
    check_given(places=[options.dataset])
    check_reports({"--output": options.output}, [options.dataset])
    from .. import interop

    for path in interop.export_dataset(_bare_rows(options.dataset, options.split), options.to, options.output):
        write_out(f"{path}\n")


def _run_dataset_stats(options: argparse.Namespace) -> None:
    """Run `amodal-diffusion dataset stats`."""
    check_given(places=[options.dataset])
    check_reports({"--output": options.output, "--picture": options.picture}, [options.dataset])
    if options.picture is not None:
        check_output_picture(options.picture)
    elif options.scenes is not None:
        raise ValueError("--scenes says how many the picture shows: it needs --picture.")
    from ..images import save_image
    from ..visualization import draw_bars

    rows = _bare_rows(options.dataset, options.split, options.format)
    statistics = data.DatasetStatistics.of(rows, options.scene)
    write_out(statistics.to_text())
    if options.output is not None:
        write_text(options.output, json.dumps(statistics.to_dict(), indent=1) + "\n")
    if options.picture is not None:
        charts = statistics.charts(most_scenes=options.scenes)
        if not charts:
            raise ValueError("--picture: nothing to draw, no object has a name or a hidden part, and no photo a scene.")
        save_image(draw_bars(charts), options.picture)
    for path in (options.output, options.picture):
        if path is not None:
            write_out(f"{path}\n")


def _bare_rows(place: str, split: str | None, name: str = "auto") -> Any:
    """The rows of a data set without their photos."""
    name, opened = data.open_annotations(place, name)
    if name == "parquet":
        rows = data.load_amodal_dataset(place, split, streaming=True)
        return rows.remove_columns("image") if "image" in (rows.column_names or ()) else rows
    if split is not None:
        raise ValueError(f"--split is of Parquet alone, {place} is a file of annotations ({name}).")
    return data.iter_annotations(opened, format=name)


def _accepted(dataset: Any, accepted: set[reviews.ReviewKey]) -> Iterator[dict[str, Any]]:
    return reviews.accepted_rows(dataset, accepted)
