"""Command-line flags as dataclasses: those that every training script has, under the names of diffusers' examples.

A script's arguments are one dataclass that derives from groups of flags and overrides their defaults with those of the
paper. `--recipe` chooses other ones together: see `RecipeArguments`. `parse` makes the command line of a dataclass with
`transformers.HfArgumentParser`.
"""

import argparse
import contextlib
import dataclasses
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType
from transformers import HfArgumentParser

from amodal_diffusion import AmodalPipeline, EfficientNetLite0
from amodal_diffusion.hub import check_repo_id, read_model_index

Arguments = TypeVar("Arguments")

MIN_SIZE, MAX_SIZE = 16, 4096
"""Sides of crops in pixels that can be trained on."""


def flag(default: Any = dataclasses.MISSING, help: str | None = None, **options: Any) -> Any:
    """A field of a dataclass that becomes `--<its name>`; required without a default.

    Args:
        default: a list is copied for each instance.
        help: what `--help` says.
        options: of `ArgumentParser.add_argument`: `choices`, `nargs`, `metavar`.
    """
    metadata = {"help": help, **options} if help else options
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def default_of(kind: type, name: str) -> Any:
    """The default of an argument of a network or a pipeline, which its flag shares."""
    return inspect.signature(kind).parameters[name].default


def parse(kind: type[Arguments], description: str, argv: Sequence[str] | None = None) -> Arguments:
    """Read the command line into the dataclass of a script.

    Args:
        kind: derives from groups, which are the dataclasses that have an `_argument_group_name` of their own.
        description: what `--help` says first.
        argv: None takes that of the process.

    Raises:
        ValueError: naming a flag whose number is not finite, or whose text is empty.
    """
    groups: list[type] = []
    for base in kind.__mro__:
        if "_argument_group_name" in vars(base) and not any(issubclass(group, base) for group in groups):
            groups.append(base)
    # Without abbreviations: what `--recipe` changes is looked up by its whole name.
    parser = HfArgumentParser(groups, description=description, allow_abbrev=False)
    for field in (field for group in groups for field in dataclasses.fields(group) if field.init):
        # HfArgumentParser reads neither sizes such as 32,64 nor lists of other lengths than one and more.
        action = parser._option_string_actions[f"--{field.name}"]
        action.nargs = field.metadata.get("nargs", action.nargs)
        if str(action.type).startswith("tuple"):
            action.type = parse_size_list
    made = [field for field in dataclasses.fields(kind) if field.init]
    for field in made:
        if field.default_factory is not dataclasses.MISSING:
            parser.set_defaults(**{field.name: field.default_factory()})
        elif field.default is not dataclasses.MISSING:
            parser.set_defaults(**{field.name: field.default})
    parser.set_defaults(**_recipe_defaults(kind, argv))
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")  # see running.py
    found = parser.parse_args(argv)
    args = kind(**{field.name: getattr(found, field.name) for field in made})
    for field in made:
        _check_given(field.name, getattr(args, field.name))
    if isinstance(args, TrainingArguments):
        unset = object()  # which argparse leaves where a flag is not given
        named = parser.parse_args(argv, argparse.Namespace(**{field.name: unset for field in made}))
        flags = {field.name for field in made if getattr(named, field.name) is not unset}
        args.given = frozenset(flags | {*_recipe_defaults(kind, argv)})
    return args


def _check_given(name: str, value: Any) -> None:
    """Refuse what no flag takes: a number that is not finite, and "", which would be the current folder or nothing."""
    for part in value if isinstance(value, list | tuple) else [value]:
        if isinstance(part, float) and not math.isfinite(part):
            raise ValueError(f"`--{name}` must be finite, got {part}.")
        if isinstance(part, str) and not part.strip():
            raise ValueError(f"`--{name}` must not be empty.")


def _recipe_defaults(kind: type, argv: Sequence[str] | None) -> Mapping[str, Any]:
    """What `--recipe` changes of the defaults of a script; nothing where it names none, which the parser refuses."""
    recipes: Mapping[str, Mapping[str, Any]] = getattr(kind, "recipes", {})
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--recipe", nargs="?")
    return recipes.get(first.parse_known_args(argv)[0].recipe, {})


@dataclass(kw_only=True)
class RecipeArguments:
    """One flag for all that differs between a paper and how the shipped pipelines were trained.

    A script keeps what the paper says as the defaults of its flags, and what `improved` changes of them in `recipes`;
    a flag that is given stands in either case. Sizes of networks and lengths of runs belong to no recipe.
    """

    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"improved": {}}

    recipe: str = flag(
        "published", "Samples and defaults of other flags: the paper's, or ours.", choices=("published", "improved")
    )


OUR_OPTIMISATION: Mapping[str, Any] = {
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "lr_scheduler": "warmup_stable_decay",
    "lr_warmup_fraction": 0.03,
    "use_ema": True,
}
"""Of the recipe "improved": what all shipped mask networks were trained with."""


@dataclass(kw_only=True)
class RunArguments:
    _argument_group_name: ClassVar[str] = "run"

    output_dir: str = flag(help="Receives the pipeline, its model card, and `checkpoint-*` folders.")
    seed: int = flag(0, "Determines initial weights and every sample.")
    max_train_steps: int | None = flag(None, "Optimizer updates.")
    stop_after_steps: int | None = flag(None, "Checkpoint and stop here, with the schedule of `--max_train_steps`.")
    train_batch_size: int = flag(32, "Samples a process and micro-step.")
    gradient_accumulation_steps: int = flag(1, "Micro-steps an update.")
    mixed_precision: str | None = flag(
        None,
        "None takes accelerate's configuration; auto takes bf16 where the device has units for it, else no.",
        choices=("auto", "no", "fp16", "bf16"),
    )
    channels_last: bool = flag(False, "Memory format that most devices run convolutions faster in.")
    sync_batch_norm: bool = flag(False, "Batch statistics over all processes instead of each one's own.")
    save_dtype: str = flag(
        "float32",
        "Of the weights in the pipeline that is saved at the end; they load as float32 unless asked otherwise.",
        choices=("float32", "float16", "bfloat16"),
    )
    checkpointing_steps: int = flag(500, "Updates between checkpoints.")
    checkpoints_total_limit: int | None = flag(None, "Checkpoints kept; the oldest go first.")
    resume_from_checkpoint: str | None = flag(None, 'Path of a checkpoint folder, or "latest".')
    validation_steps: int = flag(500, "Updates between validations; 0 validates at the end alone.")
    logging_steps: int = flag(20, "Updates between log lines.")
    logging_dir: str = flag("logs", "Trackers' folder inside `--output_dir`.")
    report_to: str = flag("none", '"tensorboard", "wandb", "comet_ml", "all" or "none".')
    tracker_project_name: str = flag("amodal_diffusion")


@dataclass(kw_only=True)
class OptimisationArguments:
    _argument_group_name: ClassVar[str] = "optimisation"

    optimizer: str = flag("sgd", choices=("sgd", "adamw"))
    learning_rate: float = flag(1e-3)
    momentum: float = flag(0.9, "Of SGD; AdamW has betas (0.9, 0.999).")
    weight_decay: float = flag(1e-4)
    max_grad_norm: float | None = flag(None, "Clip the gradient's norm; None does not clip.")
    lr_scheduler: str = flag(
        "multistep", choices=("multistep", "one_cycle", "cosine", "warmup_stable_decay", "constant")
    )
    lr_milestones: list[int] = flag([], "Updates after which multistep multiplies by --lr_gamma.", nargs="*")
    lr_gamma: float = flag(0.1)
    lr_warmup_fraction: float = flag(
        0.05, "Share of the steps that the rate rises (one_cycle, cosine, warmup_stable_decay)."
    )
    lr_decay_fraction: float = flag(0.3, "Share of the steps that warmup_stable_decay falls.")
    use_ema: bool = flag(False, "Save and validate an exponential moving average of the weights.")
    ema_decay: float = flag(0.999)


@dataclass(kw_only=True)
class HubArguments:
    _argument_group_name: ClassVar[str] = "hub"

    push_to_hub: bool = flag(False, "Upload the pipeline and its card when training ends.")
    hub_model_id: str | None = flag(None, "Repository; defaults to the name of `--output_dir`.")
    hub_token: str | None = flag(None, "Defaults to the token of `hf auth login`.")
    hub_private: bool = flag(False)


@dataclass(kw_only=True)
class TrainingArguments(RunArguments, OptimisationArguments, HubArguments):
    """What the loop wants to know; the arguments of every script derive from it.

    Attributes:
        given: names of the flags on the command line, and of those that its `--recipe` gives; the others have their
            defaults.
    """

    given: frozenset[str] = dataclasses.field(default=frozenset(), init=False)


@dataclass(kw_only=True)
class SourceArguments:
    """What the data flags of every script hold; each says of its own data sets what they must have."""

    dataset: list[str] = flag(help="Annotation files, Parquet folders or Hub data sets with photos.")
    on_error: str = flag("skip", "What to do with a bad record.", choices=("raise", "skip"))
    validation_fraction: float = flag(0.03, "Share of the photos held out.")
    streaming: bool = flag(False, "Read the data sets as streams: nothing of them is stored on disk.")


@dataclass(kw_only=True)
class PhotoArguments(SourceArguments):
    """The data flags of scripts that look at photos."""

    images: list[str] | None = flag(None, "Photo folder of each JSON file; None takes the file's own folder.")


@dataclass(kw_only=True)
class WeightedPhotoArguments(PhotoArguments):
    """Those of scripts that mix data sets."""

    dataset_weights: list[float] | None = flag(
        None, "How often each data set is drawn, such as 0.9 0.1; None draws every object equally often."
    )


@dataclass(kw_only=True)
class FrozenEncoderArguments:
    """Of networks on an EfficientNet-lite0 that is frozen but for its deepest blocks."""

    _argument_group_name: ClassVar[str] = "network"

    trained_encoder_blocks: int = flag(
        0, "Of the image encoder's 16 blocks, train the deepest; 5 are those of stride 32."
    )
    encoder_lr_scale: float = flag(0.1, "Their learning rate, as a share of `--learning_rate`.")


def source_name(path: str) -> str:
    """What logs and model cards call a data set: the last two parts of its path."""
    return "/".join(Path(path).parts[-2:])


def load_pipeline(args: Any, name: str, *kinds: type) -> Any:
    """The pipeline whose folder or Hub id a flag gives.

    Args:
        args: of the script.
        name: of the flag, without dashes.
        kinds: classes that will do.

    Raises:
        ValueError: a pipeline of another class.
        OSError: no such folder.
    """
    given = getattr(args, name)
    pipeline: Any = AmodalPipeline.from_pretrained(given)
    if not isinstance(pipeline, kinds):
        wanted = " or ".join(f"{'an' if kind.__name__[0] in 'AEIO' else 'a'} {kind.__name__}" for kind in kinds)
        raise ValueError(f"`--{name}` {given!r} must be {wanted}, got {type(pipeline).__name__}.")
    return pipeline


def pipeline_settings(
    args: Any, kind: type, settings: Mapping[str, Any] | None = None, flags: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Settings of the pipeline that is saved: those of `--pretrained_pipeline`, but for what flags or a recipe gave.

    Args:
        args: of the script.
        kind: class of the pipeline.
        settings: what the flags say, by the name of the setting; that of its flag where no other is in `flags`.
        flags: setting → flag.

    Example:
        >>> from types import SimpleNamespace
        >>> from amodal_diffusion import PCNetMaskPipeline
        >>> args = SimpleNamespace(pretrained_pipeline=None)
        >>> pipeline_settings(args, PCNetMaskPipeline, {"crop": "bilinear"})
        {'crop': 'bilinear'}
    """
    settings, flags = settings or {}, flags or {}
    if args.pretrained_pipeline is None:
        return dict(settings)
    known = inspect.signature(kind).parameters
    kept = {
        name: value
        for name, value in read_model_index(args.pretrained_pipeline).items()
        if name in known and not isinstance(value, list | dict)
    }
    given = {name: value for name, value in settings.items() if flags.get(name, name) in args.given}
    return {**settings, **kept, **given}


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
        for argument, shown in names.items():
            message = message.replace(argument, shown)
        if message == error.args[0]:
            raise
        raise type(error)(message) from error


def check_arguments(args: TrainingArguments) -> None:
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
    for name in ("validation_samples", "validation_draws", "min_area", "true_validation_photos", "num_queries"):
        if getattr(args, name, 1) < 1:
            raise ValueError(f"`--{name}` must be at least 1, got {getattr(args, name)}.")
    if not 0 <= getattr(args, "max_truncation", 1.0) <= 1:
        raise ValueError(f"`--max_truncation` must lie in [0, 1], got {args.max_truncation}.")
    _check_sizes(args)
    if not 0 <= args.seed < 2**32:
        raise ValueError(f"`--seed` must lie in [0, 2**32), got {args.seed}.")
    for name in ("learning_rate", "lr_gamma", "max_grad_norm"):
        value = getattr(args, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"`--{name}` must be positive and finite, got {value}.")
    if not 0 <= args.weight_decay < math.inf:
        raise ValueError(f"`--weight_decay` must not be negative, got {args.weight_decay}.")
    for name in ("inside_weight", "front_factor", "guess_weight", "pseudo_eraser_dilation"):
        if getattr(args, name, 0) < 0:
            raise ValueError(f"`--{name}` must not be negative, got {getattr(args, name)}.")
    if min(args.lr_milestones, default=0) < 0:
        raise ValueError(f"`--lr_milestones` must not be negative, got {args.lr_milestones}.")
    if not 0 <= args.momentum < 1:
        raise ValueError(f"`--momentum` must lie in [0, 1), got {args.momentum}.")
    weights = getattr(args, "dataset_weights", None)
    if weights is not None and not (all(0 <= weight < math.inf for weight in weights) and any(weights)):
        raise ValueError(
            f"`--dataset_weights` must be {len(args.dataset)} non-negative numbers, not all 0, got {weights}."
        )
    trackers = ["none", *map(str, LoggerType)]
    if args.report_to not in trackers:
        raise ValueError(f"`--report_to` must be one of {', '.join(trackers)}, got {args.report_to!r}.")
    if args.report_to not in ("none", "all", *map(str, get_available_trackers())):
        raise ValueError(f"`--report_to` {args.report_to} needs its package, which is not installed here.")
    if args.push_to_hub:  # what the Hub would refuse when training is over
        with errors_by_flag({"`repo_id`": "`--hub_model_id`"}):
            check_repo_id(args.hub_model_id or Path(args.output_dir).resolve().name, with_owner=False)
    if not 0 <= args.lr_warmup_fraction < 1:
        raise ValueError(f"`--lr_warmup_fraction` must lie in [0, 1), got {args.lr_warmup_fraction}.")
    if not 0 < args.lr_decay_fraction <= 1:
        raise ValueError(f"`--lr_decay_fraction` must lie in (0, 1], got {args.lr_decay_fraction}.")
    if not 0 < args.ema_decay < 1:
        raise ValueError(f"`--ema_decay` must lie in (0, 1), got {args.ema_decay}.")


def _check_sizes(args: TrainingArguments) -> None:
    """Refuse crops that show nothing, that no memory holds, or of which the deepest level of a network keeps nothing.

    Raises:
        ValueError: naming the flag.
    """
    for name in ("sample_size", "image_size", "synthesis_size", "crop_size", "resolution"):
        size = getattr(args, name, None)
        if size is not None and not MIN_SIZE <= size <= MAX_SIZE:
            raise ValueError(f"`--{name}` must lie in [{MIN_SIZE}, {MAX_SIZE}], got {size}.")
    size, levels = getattr(args, "sample_size", None), len(getattr(args, "block_out_channels", ()))
    cells = (size or MAX_SIZE) // max(1, getattr(args, "patch_size", 1))
    if levels and cells < 2 ** (levels - 1):
        raise ValueError(
            f"`--sample_size` must be at least {2 ** (levels - 1)} times `--patch_size` for the {levels} levels of "
            f"`--block_out_channels`, got {size}."
        )


def check_validation(args: SourceArguments) -> None:
    """Refuse a share of held-out photos or masks that leaves none on one side.

    Raises:
        ValueError: naming the flag.
    """
    if not 0 < args.validation_fraction < 1:
        raise ValueError(f"`--validation_fraction` must lie in (0, 1), got {args.validation_fraction}.")


def check_multiples_of_32(args: Any, *names: str) -> None:
    """Refuse numbers, by the names of their flags, that are no positive multiples of 32.

    Raises:
        ValueError: naming the flag.
    """
    for name in names:
        number = getattr(args, name)
        if number < 32 or number % 32:
            raise ValueError(f"`--{name}` must be a positive multiple of 32, got {number}.")


def check_frozen_encoder(args: FrozenEncoderArguments) -> None:
    """Refuse blocks that there are not, and a rate that is none.

    Raises:
        ValueError: naming the flag.
    """
    blocks = EfficientNetLite0.num_blocks
    if not 0 <= args.trained_encoder_blocks <= blocks:
        raise ValueError(f"`--trained_encoder_blocks` must lie in [0, {blocks}], got {args.trained_encoder_blocks}.")
    if not args.encoder_lr_scale > 0:
        raise ValueError(f"`--encoder_lr_scale` must be positive, got {args.encoder_lr_scale}.")


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
