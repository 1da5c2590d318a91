"""The loop: read `train` top to bottom. What is trained is a `Task`; how, is here once for all systems."""

import json
import logging
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, set_seed, str_to_bool
from diffusers import DiffusionPipeline
from torch import Tensor, nn
from torch.optim.lr_scheduler import ConstantLR, LambdaLR, LRScheduler, MultiStepLR, OneCycleLR
from tqdm.auto import tqdm

from amodal_diffusion import EfficientNetLite0
from amodal_diffusion.files import PARTIAL, write_text
from amodal_diffusion.hub import push_folder
from amodal_diffusion.images import save_image
from amodal_diffusion.runtimes import preferred_dtype, processor_name

from .arguments import FrozenEncoderArguments, TrainingArguments
from .averaging import averaged_model, synchronise_batch_norm
from .cards import RunFacts, write_model_card
from .checkpoints import find_checkpoint, save_checkpoint
from .training_state import RunState, TrainingState

logger = logging.getLogger(__name__)


@dataclass
class Validation:
    """What a validation found: figures by name, and pictures (H, W, 3) uint8 by name."""

    metrics: dict[str, float]
    pictures: dict[str, np.ndarray] = field(default_factory=dict)


class Task(ABC):
    """One system to train: its network, its samples, its loss, its validation, its pipeline.

    Attributes:
        model: the network whose parameters with `requires_grad` are trained.
    """

    model: nn.Module

    def learning_rate_scale(self, name: str) -> float:
        """What `--learning_rate` is multiplied by for the parameter of this name."""
        return 1.0

    @abstractmethod
    def setup(self, accelerator: Accelerator) -> None:
        """Prepare data on `accelerator.device`, for this process; called once before training."""

    def trained_besides(self) -> dict[str, tuple[nn.Module, Any]]:
        """Other networks that are trained, by name, each with its optimizer, as `accelerator.prepare` gave them.

        They are in the checkpoints; asked for after `setup`.
        """
        return {}

    @abstractmethod
    def loss(self, model: nn.Module, micro_step: int, batch_size: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        """The loss on the samples of `micro_step`, and figures to log.

        The samples must be a function of (seed, micro_step, process): that makes a resumed run the same run.
        """

    @abstractmethod
    def validate(self, model: nn.Module, step: int) -> Validation:
        """Score the weights of `model` (in eval mode) on what is never trained on; runs on the main process."""

    @abstractmethod
    def build_pipeline(self, model: nn.Module) -> DiffusionPipeline:
        """The pipeline around the trained network, with its thresholds and crop rule."""

    @abstractmethod
    def card(self) -> dict[str, Any]:
        """Facts for the model card: `name`, `description`, `data` (lines), `limits` (lines), `tags`.

        What is no mask pipeline also has `task`, its tag on the Hub, and for the example `package`, `pipeline` (a
        class), `variable` and `call`.
        """


class FrozenEncoderTask(Task):
    """A network on an EfficientNet-lite0 that is frozen but for its deepest blocks, which learn more slowly."""

    args: Any

    @staticmethod
    def freeze_encoder(encoder: EfficientNetLite0, args: FrozenEncoderArguments) -> None:
        """Let nothing of it learn but its deepest blocks."""
        encoder.requires_grad_(False)
        for block in encoder.deepest_blocks(args.trained_encoder_blocks):
            block.requires_grad_(True)

    def learning_rate_scale(self, name: str) -> float:
        """See `Task`."""
        return self.args.encoder_lr_scale if name.startswith("image_encoder.") else 1.0


def find_precision(name: str | None) -> str | None:
    """Precision to train in, by the name that accelerate has for it: `--mixed_precision`; "auto" asks the device."""
    # Not by accelerate's state, which the accelerator makes, with what joins the processes of a launch.
    on_cpu = str_to_bool(os.environ.get("ACCELERATE_USE_CPU", "false")) or not torch.accelerator.is_available()
    device = torch.device("cpu") if on_cpu else torch.accelerator.current_accelerator()
    fast = preferred_dtype(device) == torch.bfloat16
    where = processor_name() if device.type == "cpu" else str(device)
    if name == "auto":
        name = "bf16" if fast else "no"
        logger.info("training in %s on %s", "bf16" if fast else "fp32", where)
    elif name == "bf16" and not fast:
        logger.warning("bf16 is asked for, which takes several times as long as fp32 on %s", where)
    return name


class Run:
    """A task under training: the accelerator, the optimizer and the state that checkpoints hold."""

    def __init__(self, task: Task, args: TrainingArguments) -> None:
        self.task = task
        self.args = args
        self.output_dir = Path(args.output_dir)
        self.accelerator = Accelerator(
            mixed_precision=find_precision(args.mixed_precision),
            gradient_accumulation_steps=args.gradient_accumulation_steps,
            log_with=None if args.report_to == "none" else args.report_to,
            project_config=ProjectConfiguration(
                str(self.output_dir), logging_dir=str(self.output_dir / args.logging_dir)
            ),
        )
        self.state = RunState()
        self._prepare()  # refuses data that cannot be used before anything is written
        if self.accelerator.is_main_process:
            self.output_dir.mkdir(parents=True, exist_ok=True)
        self.accelerator.wait_for_everyone()

    def _prepare(self) -> None:
        task, args = self.task, self.args
        model = task.model
        if args.sync_batch_norm:
            model = synchronise_batch_norm(model, self.accelerator.device)
        if args.channels_last:
            model = model.to(memory_format=torch.channels_last)
        optimizer = make_optimizer(model, args, task.learning_rate_scale)
        self.ema = averaged_model(model, args.ema_decay).to(self.accelerator.device) if args.use_ema else None
        self.scheduler = make_scheduler(optimizer, args)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        task.setup(self.accelerator)

    def everything(self) -> TrainingState:
        """What checkpoints hold."""
        args = self.args
        fixed = {"optimizer": args.optimizer, "lr_scheduler": args.lr_scheduler, "use_ema": args.use_ema}
        kept = {name: getattr(args, name) for name in ("learning_rate", "weight_decay")}
        if args.use_ema:
            fixed["ema_decay"] = args.ema_decay
        if args.optimizer == "sgd":
            kept["momentum"] = args.momentum
        if isinstance(args, FrozenEncoderArguments):
            kept["encoder_lr_scale"] = args.encoder_lr_scale
        config = getattr(self.accelerator.unwrap_model(self.model), "config", None)
        if isinstance(config, Mapping):  # what changes no shape, such as `class_conditioned`, must agree as well
            fixed |= {k: v for k, v in config.items() if k[0] != "_" and isinstance(v, bool | int | float | str)}
        trained = {"model": (self.model, self.optimizer), **self.task.trained_besides()}
        return TrainingState(self.accelerator, trained, self.scheduler, self.ema, self.state, fixed, kept)

    def weights(self) -> nn.Module:
        """The network that is validated and saved: the average where one is kept."""
        return self.ema.module if self.ema is not None else self.accelerator.unwrap_model(self.model)

    def resume(self) -> None:
        """Load the checkpoint that `--resume_from_checkpoint` asks for, if any."""
        if self.args.resume_from_checkpoint is None:
            return
        folder = find_checkpoint(self.args.resume_from_checkpoint, self.output_dir)
        if folder is None:
            logger.info("no checkpoint in %s yet: starting anew", self.output_dir)
            return
        self.everything().load(folder)
        logger.info("resumed from %s at step %d", folder, self.state.step)

    def update(self) -> dict[str, float]:
        """One optimizer update; returns the figures of its last micro-step."""
        args = self.args
        self.model.train()
        logs: dict[str, float | Tensor] = {}
        for part in range(args.gradient_accumulation_steps):
            with self.accelerator.accumulate(self.model):
                micro_step = self.state.step * args.gradient_accumulation_steps + part
                loss, logs = self.task.loss(self.model, micro_step, args.train_batch_size)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients and args.max_grad_norm is not None:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), args.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.scheduler.step()
        if self.ema is not None:
            self.ema.update_parameters(self.accelerator.unwrap_model(self.model))
        self.state.step += 1
        return {"loss": loss.detach(), **logs}

    def log(self, logs: dict[str, float | Tensor]) -> dict[str, float]:
        figures = {name: float(value) for name, value in logs.items()}
        if not math.isfinite(figures["loss"]):
            raise FloatingPointError(
                f"the loss is {figures['loss']} at step {self.state.step}; lower `--learning_rate`."
            )
        figures["learning_rate"] = max(self.scheduler.get_last_lr())
        self.accelerator.log(figures, step=self.state.step)
        return figures

    def check_weights(self) -> None:
        """Refuse to keep a network that is lost, so that the checkpoints before it stay.

        Raises:
            FloatingPointError: a weight, or the average of one, is not finite.
        """
        for name, value in (*self.model.state_dict().items(), *self.weights().state_dict().items()):
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise FloatingPointError(
                    f"the weights are no longer finite at step {self.state.step} (`{name}`): lower `--learning_rate`."
                )

    def validate(self) -> None:
        """Score the weights on the main process, write pictures, and keep the figures in the history."""
        if self.accelerator.is_main_process:
            weights = self.weights()
            training = weights.training
            weights.eval()
            with torch.inference_mode():
                result = self.task.validate(weights, self.state.step)
            weights.train(training)
            self.state.history.append({"step": self.state.step, **result.metrics})
            logger.info("step %d: %s", self.state.step, ", ".join(f"{k} {v:.4f}" for k, v in result.metrics.items()))
            self.accelerator.log({f"validation/{k}": v for k, v in result.metrics.items()}, step=self.state.step)
            self._write_pictures(result.pictures)
        self.accelerator.wait_for_everyone()

    def _write_pictures(self, pictures: dict[str, np.ndarray]) -> None:
        from PIL import Image

        for name, picture in pictures.items():
            path = self.output_dir / "validation" / f"{name}-{self.state.step:06d}.png"
            save_image(Image.fromarray(picture), path)
            for tracker in self.accelerator.trackers:
                if tracker.name == "tensorboard":
                    tracker.log_images({name: picture[None]}, self.state.step, dataformats="NHWC")
                elif tracker.name == "wandb":
                    tracker.log_images({name: [picture]}, self.state.step)

    def facts(self) -> RunFacts:
        """What the model card says of the run."""
        args, accelerator = self.args, self.accelerator
        return RunFacts(
            parameters=sum(parameter.numel() for parameter in self.weights().parameters()),
            updates=self.state.step,
            batch_size=args.train_batch_size * args.gradient_accumulation_steps * accelerator.num_processes,
            seconds=self.state.seconds,
            processes=accelerator.num_processes,
            device=accelerator.device,
            precision=accelerator.mixed_precision,
            history=self.state.history,
        )

    def save(self) -> None:
        """Write the pipeline, its model card and the learning curve into `--output_dir`; upload them if asked."""
        if self.accelerator.is_main_process:
            pipeline = self.task.build_pipeline(self.weights().to(torch.float32).eval())
            if self.args.save_dtype != "float32":
                pipeline.to(getattr(torch, self.args.save_dtype))
            pipeline.save_pretrained(str(self.output_dir), safe_serialization=True)
            curve = self.output_dir / "learning_curve.json"
            write_text(curve, json.dumps(self.state.history, indent=1) + "\n")
            write_model_card(self.output_dir, self.task.card(), self.facts())
            if self.args.push_to_hub:
                self.push()
        self.accelerator.wait_for_everyone()

    def push(self) -> str:
        """Upload the pipeline without its checkpoints, logs and validation pictures; gives the commit's URL."""
        args = self.args
        return push_folder(
            self.output_dir,
            args.hub_model_id or self.output_dir.resolve().name,
            private=args.hub_private,
            token=args.hub_token,
            message="End of training",
            ignore=["checkpoint-*", f"{PARTIAL}*", f"{args.logging_dir}/**", "validation/**"],
        )


def train(make_task: Callable[[Any], Task], args: TrainingArguments) -> Run:
    """Train the task that `make_task(args)` makes (after the seed is set) and leave a pipeline in `--output_dir`."""
    set_seed(args.seed)
    task = make_task(args)
    task.build_pipeline(task.model)  # refuses the settings that it would refuse when training is over
    run = Run(task, args)
    run.accelerator.init_trackers(args.tracker_project_name, config=_plain(vars(args)))
    run.resume()
    last = min(args.max_train_steps, args.stop_after_steps or args.max_train_steps)
    started = time.monotonic() - run.state.seconds
    shown = run.accelerator.is_main_process
    with tqdm(total=args.max_train_steps, initial=run.state.step, desc="train", disable=not shown) as bar:
        while run.state.step < last:
            logs = run.update()
            step = run.state.step
            bar.update()
            if step % args.logging_steps == 0 or step == last:
                bar.set_postfix({name: f"{value:.4g}" for name, value in run.log(logs).items()})
            run.state.seconds = time.monotonic() - started
            if step == last or step % args.checkpointing_steps == 0:
                run.check_weights()
            if step == last or (args.validation_steps and step % args.validation_steps == 0):
                run.validate()
            if step == last or step % args.checkpointing_steps == 0:
                save_checkpoint(run.everything(), run.output_dir, args.checkpoints_total_limit)
    run.save()
    run.accelerator.end_training()
    return run


def make_optimizer(
    model: nn.Module, args: TrainingArguments, scale: Callable[[str], float] = lambda name: 1.0
) -> torch.optim.Optimizer:
    """The optimizer that `--optimizer` names, over the parameters that are not frozen; `scale` their learning rates."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(scale(name), []).append(parameter)
    settings = [{"params": parameters, "lr": args.learning_rate * factor} for factor, parameters in groups.items()]
    if args.optimizer == "sgd":
        return torch.optim.SGD(settings, args.learning_rate, momentum=args.momentum, weight_decay=args.weight_decay)
    return torch.optim.AdamW(settings, args.learning_rate, weight_decay=args.weight_decay)


def make_scheduler(optimizer: torch.optim.Optimizer, args: TrainingArguments) -> LRScheduler:
    """The schedule that `--lr_scheduler` names. It steps once an update, whatever the number of processes."""
    if args.lr_scheduler == "multistep":
        return MultiStepLR(optimizer, args.lr_milestones, gamma=args.lr_gamma)
    if args.lr_scheduler == "constant":
        return ConstantLR(optimizer, factor=1.0, total_iters=0)
    if args.lr_scheduler == "warmup_stable_decay":
        return LambdaLR(optimizer, _warmup_stable_decay(args))
    # OneCycleLR cycles the momentum too, which is what one_cycle means and cosine does not. It divides by the length of
    # the rise less one step, so a rise of a step is none.
    total = args.max_train_steps + 1
    rise = args.lr_warmup_fraction if args.lr_warmup_fraction * total != 1 else 0.0
    return OneCycleLR(
        optimizer, max_lr=[group["lr"] for group in optimizer.param_groups], total_steps=total,
        pct_start=rise, cycle_momentum=args.lr_scheduler == "one_cycle",
    )  # fmt: skip


def _warmup_stable_decay(args: TrainingArguments) -> Callable[[int], float]:
    """Rise, plateau, linear fall to 0. The plateau does not know its length, so a run can be cut short or drawn out by
    resuming with another `--max_train_steps`.
    """
    total = args.max_train_steps
    rise, fall = max(1, int(args.lr_warmup_fraction * total)), max(1, int(args.lr_decay_fraction * total))
    return lambda step: max(0.0, min(1.0, (step + 1) / rise, (total - step) / fall))


def _plain(values: dict[str, Any]) -> dict[str, int | float | str | bool]:
    """Trackers take numbers and strings alone; secrets stay out."""
    shown = {name: value for name, value in values.items() if name != "hub_token"}
    return {name: v if isinstance(v, int | float | str | bool) else str(v) for name, v in shown.items()}
