"""Command-line flags that every training script has, under the names that diffusers' examples use."""

import argparse
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


def source_name(path: str) -> str:
    """What logs and model cards call a data set: the last two parts of its path."""
    return "/".join(Path(path).parts[-2:])


@contextlib.contextmanager
def errors_by_flag(names: Mapping[str, str]) -> Iterator[None]:
    """Have errors of the package name the flags that a user gave, where they name its arguments; also a decorator.

    Args:
        names: what the message says, and what it shall say.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if len(error.args) != 1 or not isinstance(error.args[0], str):
            raise
        message = error.args[0]
        for argument, flag in names.items():
            message = message.replace(argument, flag)
        if message == error.args[0]:
            raise
        raise type(error)(message) from error


def base_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the shared flags; scripts add their own and override defaults by `set_defaults`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    _add_run_flags(parser.add_argument_group("run"))
    _add_optimisation_flags(parser.add_argument_group("optimisation"))
    _add_hub_flags(parser.add_argument_group("hub"))
    return parser


def _add_run_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--output_dir", required=True, help="Receives the pipeline, its model card, and `checkpoint-*` folders."
    )
    group.add_argument("--seed", type=int, default=0, help="Determines initial weights and every sample.")
    group.add_argument("--max_train_steps", type=int, default=None, help="Optimizer updates.")
    group.add_argument(
        "--stop_after_steps",
        type=int,
        default=None,
        help="Checkpoint and stop here, with the schedule of `--max_train_steps`.",
    )
    group.add_argument("--train_batch_size", type=int, default=32, help="Samples a process and micro-step.")
    group.add_argument("--gradient_accumulation_steps", type=int, default=1, help="Micro-steps an update.")
    group.add_argument(
        "--mixed_precision", choices=["no", "fp16", "bf16"], default=None, help="None takes accelerate's configuration."
    )
    group.add_argument(
        "--channels_last", action="store_true", help="Memory format that most devices run convolutions faster in."
    )
    group.add_argument(
        "--sync_batch_norm", action="store_true", help="Batch statistics over all processes instead of each one's own."
    )
    group.add_argument(
        "--save_dtype",
        choices=["float32", "float16", "bfloat16"],
        default="float32",
        help="Of the weights in the pipeline that is saved at the end; they load as float32 unless asked otherwise.",
    )
    group.add_argument("--checkpointing_steps", type=int, default=500, help="Updates between checkpoints.")
    group.add_argument(
        "--checkpoints_total_limit", type=int, default=None, help="Checkpoints kept; the oldest go first."
    )
    group.add_argument("--resume_from_checkpoint", default=None, help='Path of a checkpoint folder, or "latest".')
    group.add_argument(
        "--validation_steps", type=int, default=500, help="Updates between validations; 0 validates at the end alone."
    )
    group.add_argument("--logging_steps", type=int, default=20, help="Updates between log lines.")
    group.add_argument("--logging_dir", default="logs", help="Trackers' folder inside `--output_dir`.")
    group.add_argument("--report_to", default="none", help='"tensorboard", "wandb", "comet_ml", "all" or "none".')
    group.add_argument("--tracker_project_name", default="amodal_diffusion")


def _add_optimisation_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--optimizer", choices=["sgd", "adamw"], default="sgd")
    group.add_argument("--learning_rate", type=float, default=1e-3)
    group.add_argument("--momentum", type=float, default=0.9, help="Of SGD; AdamW has betas (0.9, 0.999).")
    group.add_argument("--weight_decay", type=float, default=1e-4)
    group.add_argument(
        "--max_grad_norm", type=float, default=None, help="Clip the gradient's norm; None does not clip."
    )
    group.add_argument(
        "--lr_scheduler",
        choices=["multistep", "one_cycle", "cosine", "warmup_stable_decay", "constant"],
        default="multistep",
    )
    group.add_argument(
        "--lr_milestones",
        type=int,
        nargs="*",
        default=[],
        help="Updates after which multistep multiplies by --lr_gamma.",
    )
    group.add_argument("--lr_gamma", type=float, default=0.1)
    group.add_argument(
        "--lr_warmup_fraction",
        type=float,
        default=0.05,
        help="Share of the steps that the rate rises (one_cycle, cosine, warmup_stable_decay).",
    )
    group.add_argument(
        "--lr_decay_fraction", type=float, default=0.3, help="Share of the steps that warmup_stable_decay falls."
    )
    group.add_argument(
        "--use_ema", action="store_true", help="Save and validate an exponential moving average of the weights."
    )
    group.add_argument("--ema_decay", type=float, default=0.999)


def _add_hub_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--push_to_hub", action="store_true", help="Upload the pipeline and its card when training ends."
    )
    group.add_argument("--hub_model_id", default=None, help="Repository; defaults to the name of `--output_dir`.")
    group.add_argument("--hub_token", default=None, help="Defaults to the token of `hf auth login`.")
    group.add_argument("--hub_private", action="store_true")


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse values that would fail late.

    Raises:
        ValueError: naming the flag, what it allows, and what it got.
    """
    positive = ("train_batch_size", "gradient_accumulation_steps", "checkpointing_steps", "logging_steps")
    for name in positive:
        if getattr(args, name) < 1:
            raise ValueError(f"`--{name}` must be at least 1, got {getattr(args, name)}.")
    for name in ("max_train_steps", "stop_after_steps", "checkpoints_total_limit"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"`--{name}` must be at least 1, got {value}.")
    if args.validation_steps < 0:
        raise ValueError(f"`--validation_steps` must not be negative, got {args.validation_steps}.")
    if args.learning_rate <= 0:
        raise ValueError(f"`--learning_rate` must be positive, got {args.learning_rate}.")
    if not 0 <= args.lr_warmup_fraction < 1:
        raise ValueError(f"`--lr_warmup_fraction` must lie in [0, 1), got {args.lr_warmup_fraction}.")
    if not 0 < args.lr_decay_fraction <= 1:
        raise ValueError(f"`--lr_decay_fraction` must lie in (0, 1], got {args.lr_decay_fraction}.")
    if not 0 < args.ema_decay < 1:
        raise ValueError(f"`--ema_decay` must lie in (0, 1), got {args.ema_decay}.")


def parse_size_list(text: str) -> tuple[int, ...]:
    """`"32,64,128"` -> (32, 64, 128), for flags that take channel widths."""
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected integers separated by commas, got {text!r}") from None
    if any(size < 1 for size in sizes):
        raise argparse.ArgumentTypeError(f"expected positive integers, got {text!r}")
    return sizes


def command_line(argv: Sequence[str]) -> str:
    """The command as a user would repeat it, secrets left out, for the model card."""
    shown = []
    hide = False
    for part in argv:
        shown.append("***" if hide else part)
        hide = part == "--hub_token"
    return " ".join(shown)
