"""Ablations: those of [N21] and [L20], run small, and those of the exemplar filler; one part is left out each time.

    python benchmarks/ablations.py asbu --dataset a.json b.json --amodal annotations.json --output runs/ablations
    python benchmarks/ablations.py amodal-vae --dataset a.json b.json --amodal annotations.json --output runs/ablations
    python benchmarks/ablations.py fills --dataset a.json b.json --model pipelines/pcnet-c

Nothing is trained for `fills`: holes behind pasted occluders with soft rims, see `content_quality.py`. Of the others,
each variant is trained by the training script in a folder of its own below `--output`; a folder that is finished is not
trained again. What counts is the difference between the rows: all of them are far from the shipped checkpoints, which
trained longer and larger.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from common import REPOSITORY, environment, format_environment
from fills.pasted import make_scenes, read_held_out
from fills.rivals import Filler, matted_filler, patched, pipeline_filler

from amodal_diffusion import ContentPipeline
from amodal_diffusion.data import read_annotations
from amodal_diffusion.evaluation import evaluate_methods, load_methods
from amodal_diffusion.pipelines.content import exemplar, shifts


@dataclass(frozen=True)
class Variant:
    """One row: its name, and the flags that differ from the full system."""

    name: str
    flags: tuple[str, ...] = ()


COMMON = ("--train_batch_size", "64", "--mixed_precision", "auto", "--max_grad_norm", "1.0", "--optimizer", "adamw")
ASBU_FLAGS = (
    *COMMON, "--recipe", "improved", "--sample_size", "64", "--patch_size", "2", "--block_out_channels",
    "16,32,64,128,128", "--learning_rate", "2e-3", "--weight_decay", "0.01", "--lr_scheduler", "one_cycle",
    "--use_ema", "--channels_last", "--order_rule", "evidence", "--crop", "bilinear", "--confine_to_occluders",
    "--order_threshold", "0.5", "--mask_threshold", "0.5", "--occluder_rule", "neighbours",
    "--lr_warmup_fraction", "0.05",
)  # fmt: skip
ASBU = (
    Variant("full: boundary and occluder, uncertainty", ("--occluder_input", "both")),
    Variant("without boundary (occluder alone)", ("--occluder_input", "mask")),
    Variant("boundary alone", ("--occluder_input", "boundary")),
    Variant("without uncertainty (cross-entropy)", ("--occluder_input", "both", "--loss", "cross_entropy")),
)
VAE_FLAGS = (
    "--recipe", "improved", "--train_batch_size", "32", "--mixed_precision", "auto", "--use_ema",
    "--dataset_weights", "4", "1.2", "--code_weight", "0.2", "--placement_weight", "0.11", "--box_weight", "50",
    "--background_weight", "1", "--simulated_share", "0.5", "--num_categories", "90", "--category_sources", "0", "1",
    "--validation_samples", "512",
)  # fmt: skip
# Learning rate and lambda of each stage, and its share of the updates.
VAE_STAGES = {1: (1e-3, 1, 1.0), 2: (1e-3, 5, 1.5), 3: (1e-4, 5, 0.1)}
FIGURES = ("inv_miou_pooled", "inv_miou_mean", "miou_pooled", "miou_mean")


def train_asbu(args: argparse.Namespace) -> dict[str, Path]:
    """Every variant in a folder of its own."""
    sys.path.insert(0, str(REPOSITORY / "training"))
    import train_asbu as script

    folders = {}
    for variant in ASBU:
        folder = args.output / "asbu" / "".join(c if c.isalnum() else "-" for c in variant.name)
        folders[variant.name] = folder
        if not (folder / "model_index.json").is_file():
            flags = [*ASBU_FLAGS, *variant.flags, "--max_train_steps", str(args.steps), "--output_dir", str(folder)]
            script.main([*flags, "--resume_from_checkpoint", "latest", "--dataset", *args.dataset])
    return folders


def train_amodal_vae(args: argparse.Namespace) -> dict[str, Path]:
    """All variants in one process, since reading the masks and finding their order takes minutes."""
    sys.path.insert(0, str(REPOSITORY / "training"))
    import train_amodal_vae as script
    from trainer.loop import train as run

    output = args.output / "amodal-vae"
    shared = [*VAE_FLAGS, "--dataset", *args.dataset, "--order_pipeline", args.order_pipeline]
    shared += ["--resume_from_checkpoint", "latest"]
    # Stage 3 reads the partly hidden masks as well.
    reading = ["--stage", "3", "--pretrained_pipeline", "any", "--max_train_steps", "1", "--output_dir", str(output)]
    data: Callable[[int], Any] | None = None

    def stage(number: int, name: str, before: Path | None, *flags: str, classes: bool = True) -> Path:
        nonlocal data
        folder = output / name
        if (folder / "model_index.json").is_file():
            return folder
        rate, kl, share = VAE_STAGES[number]
        arguments = [*shared, "--stage", str(number), "--output_dir", str(folder), "--learning_rate", str(rate)]
        arguments += ["--kl_weight", str(kl), "--max_train_steps", str(round(share * args.steps)), *flags]
        arguments += [] if before is None else ["--pretrained_pipeline", str(before)]
        options = script.parse_arguments(arguments)
        if data is None:
            data = script.make_data(script.parse_arguments([*shared, *reading]))
        found = data if classes else lambda size: without_classes(data(size))
        run(lambda options: script.AmodalVAETask(options, number, found), options)
        return folder

    full = stage(2, "full-2", stage(1, "full-1", None))
    bare = stage(2, "bare-2", stage(1, "bare-1", None, classes=False), classes=False)
    return {
        "full: three stages, classes": stage(3, "full-3", full),
        "without stage 1 (the decoder learns in stage 2)": stage(
            3, "late-3", stage(2, "late-2", None, "--train_decoder")
        ),
        "without stage 3": full,
        "without classes": stage(3, "bare-3", bare, classes=False),
    }


def without_classes(sources: Any) -> Any:
    """The same masks, of no known class."""
    complete = sources.complete.subset(torch.arange(len(sources.complete)))
    complete.category_ids = torch.zeros_like(complete.category_ids)
    partial = replace(sources.partial, category_ids=torch.zeros_like(sources.partial.category_ids))
    return replace(sources, complete=complete, partial=partial)


def score(folder: Path, amodal: str) -> dict[str, float]:
    """Held-out figures at the end of the training, and those on real ground truth, in percent."""
    last = json.loads((folder / "learning_curve.json").read_text(encoding="utf-8"))[-1]
    found = {f"held-out {key}": float(value) for key, value in last.items() if "miou" in key}
    report = evaluate_methods(read_annotations(amodal), load_methods([str(folder)]), order_methods=())
    completion = next(iter(report.completion.values()))
    found |= {f"real {key}": 100 * completion[key] for key in FIGURES}
    if report.order:
        found["real order_accuracy"] = 100 * next(iter(report.order.values()))["order_accuracy"]
    return found


FILL_FIGURES = ("psnr", "gradient", "leak", "lite_lpips", "lite_texture")


def fill_variants(pipe: ContentPipeline) -> dict[str, Filler]:
    """The blend with one of its parts left out or changed each time."""
    rim = ContentPipeline.from_pipe(pipe, source_margin=0)
    network = ContentPipeline.from_pipe(pipe, blend_prior="network")
    blend = pipeline_filler(pipe, "blend")
    return {
        "full: blend of smooth colours and copied detail": blend,
        "without blend (copied pixels, brought to the seam)": pipeline_filler(pipe, "exemplar"),
        "without copies (smooth colours alone)": pipeline_filler(pipe, "smooth"),
        "without structure: copies from the same height are not tried": patched(blend, shifts, _MOST_LEVEL=0),
        "without structure: seams follow colours, not edges": patched(blend, shifts, _detail=colours_alone),
        "without joins: copies keep their colours along seams": patched(blend, exemplar, join_copies=left_apart),
        "with soft outlines, as scenes have (matting)": matted_filler(pipe, "blend"),
        "rims are copied and kept (source_margin=0)": pipeline_filler(rim, "blend"),
        "background copies from objects": pipeline_filler(pipe, "blend", avoid_objects=False),
        "low frequencies of PCNet-C": pipeline_filler(network, "blend"),
        "PCNet-C alone": pipeline_filler(pipe, "pcnet-c"),
    }


def colours_alone(planes: torch.Tensor) -> torch.Tensor:
    """(h * w, 3), what `shifts` compares without the differences to the next pixels."""
    return planes.flatten(1).T.contiguous()


def left_apart(copied: torch.Tensor, *_: Any) -> torch.Tensor:
    """(3, h, w), what `joins.join_copies` adds to copies: nothing."""
    return torch.zeros_like(copied)


def compare_fills(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Figures of each variant, on hidden parts of objects and on backgrounds."""
    from content_quality import evaluate

    pipe = ContentPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    photos = read_held_out(args.dataset, args.validation_fraction)
    scenes = make_scenes(photos, seed=0, count=args.holes, softness=0.6)
    rows: dict[str, dict[str, float]] = {}
    for name, filler in fill_variants(pipe).items():
        rows[name] = {}
        for kind, chosen in scenes.items():
            figures = evaluate(filler, chosen)
            rows[name] |= {f"{kind} {figure}": figures[figure] for figure in FILL_FIGURES}
    return rows


def table(rows: dict[str, dict[str, float]], digits: int = 1) -> str:
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = ["| variant | " + " | ".join(column.replace("_", " ") for column in columns) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for name, row in rows.items():
        cells = (f"{row[column]:.{digits}f}" if column in row else "" for column in columns)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("system", choices=["asbu", "amodal-vae", "fills"])
    parser.add_argument(
        "--dataset", nargs="+", required=True, help="annotation files to train on; fills: whose photos held out"
    )
    parser.add_argument("--amodal", default=None, help="annotations with amodal ground truth, never trained on")
    parser.add_argument("--output", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--steps", type=int, default=2000, help="updates of each variant; Amodal-VAE: of stage 1")
    parser.add_argument("--order_pipeline", default=str(REPOSITORY / "pipelines" / "pcnet-m"), help="for Amodal-VAE")
    parser.add_argument("--model", default=str(REPOSITORY / "pipelines" / "pcnet-c"), help="for fills")
    parser.add_argument("--validation_fraction", type=float, default=0.08, help="for fills: that of the training")
    parser.add_argument("--holes", type=int, default=40, help="for fills: of each kind, at most")
    args = parser.parse_args(argv)
    if args.system == "fills":
        torch.set_num_threads(1)
        rows = compare_fills(args)
        sys.stdout.write(f"{format_environment(environment())}\n\n{args.holes} holes of each kind\n\n{table(rows, 2)}")
        return 0
    if args.amodal is None:
        parser.error("--amodal is needed for what is trained")
    folders = train_asbu(args) if args.system == "asbu" else train_amodal_vae(args)
    rows = {name: score(folder, args.amodal) for name, folder in folders.items()}
    sys.stdout.write(format_environment(environment()) + f"\n\n{args.steps} updates each, percent\n\n" + table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
