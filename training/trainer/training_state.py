"""What a checkpoint holds: networks, optimizers, schedule, average, random numbers and the place in the run.

Tensors are in safetensors files, all else in `state.json`, so nothing that could run code is written or read.
`state.json` has size and digest of the other files.
"""

import hashlib
import json
import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

logger = logging.getLogger(__name__)

STATE_NAME = "state.json"
_FORMAT = 1
_PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
_SHOWN = 3
_BROKEN = (SafetensorError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError)
"""What reading a broken or forged file can end in."""


class DamagedCheckpointError(ValueError):
    """A checkpoint is not whole: files lack, are cut short or are not what was written."""


class RefusedCheckpointError(ValueError):
    """A checkpoint holds pickles, or is of another run: other networks, optimizer, schedule or average."""


@dataclass
class RunState:
    """Where a run is."""

    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class TrainingState:
    """All that changes in a run.

    Attributes:
        accelerator: of the run.
        trained: networks by name, each with its optimizer, as `accelerator.prepare` gives them.
        scheduler: of the first optimizer.
        ema: the average of the first network, where one is kept.
        run: where the run is.
        fixed: flags by name in which a run and its checkpoint must agree.
        kept: flags by name whose values in the checkpoint go on; others get a warning.
    """

    accelerator: Accelerator
    trained: dict[str, tuple[nn.Module, Any]]
    scheduler: LRScheduler
    ema: AveragedModel | None
    run: RunState
    fixed: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)

    def collect(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """Tensors by file and name, and the content of `state.json` but for the files; called by all processes."""
        numbers = gather_object([_random_numbers(self.accelerator.device)])
        files, optimizers = {}, {}
        for name, (network, wrapped) in self.trained.items():
            optimizer = _unwrap(wrapped)
            files[name] = self.accelerator.unwrap_model(network).state_dict()
            files[f"{name}_optimizer"] = {
                f"{index}.{key}": value
                for index, values in optimizer.state_dict()["state"].items()
                for key, value in values.items()
                if value is not None  # SGD before its first step
            }
            optimizers[name] = {"class": type(optimizer).__name__, "groups": _groups(optimizer)}
        if self.ema is not None:
            files["ema"] = self.ema.state_dict()
        files["random"] = {f"{rank}.{key}": value for rank, state in enumerate(numbers) for key, value in state.items()}
        scaler = self.accelerator.scaler
        return files, {
            "format": _FORMAT,
            "step": self.run.step,
            "seconds": self.run.seconds,
            "history": self.run.history,
            "flags": self.fixed | self.kept,
            "processes": len(numbers),
            "optimizers": optimizers,
            "scheduler": {
                "class": type(self.scheduler).__name__,
                "last_epoch": self.scheduler.last_epoch,
                "rates": self.scheduler.get_last_lr(),
            },
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load(self, folder: Path) -> None:
        """Take over a checkpoint; nothing changes where it is refused.

        Raises:
            DamagedCheckpointError: it is not whole; named are the folder and the file.
            RefusedCheckpointError: it is of another run or has pickles; named are the folder and what differs.
        """
        document = check_files(folder)
        with _damage(folder, STATE_NAME):
            run = RunState(int(document["step"]), float(document["seconds"]), [dict(p) for p in document["history"]])
            flags, written, schedule = document["flags"], document["optimizers"], document["scheduler"]
            processes, scaler = int(document["processes"]), document["scaler"]
            rates = [float(rate) for rate in schedule["rates"]]
            progress = {"last_epoch": int(schedule["last_epoch"]), "_step_count": run.step + 1, "_last_lr": rates}
            differences = list(self._differences(flags, written, schedule["class"], document))
        if differences:
            raise RefusedCheckpointError(f"The checkpoint {folder} is of another run: {'; '.join(differences)}.")
        networks = [(name, network) for name, (network, _) in self.trained.items()]
        if self.ema is not None:
            networks.append(("ema", self.ema))
        states = {name: _read_tensors(folder, name) for name, _ in networks}
        for name, network in networks:
            _check_same(folder, name, self.accelerator.unwrap_model(network).state_dict(), states[name])
        optimizers = {
            name: _read_optimizer(folder, name, _unwrap(optimizer), written[name])
            for name, (_, optimizer) in self.trained.items()
        }
        numbers = _read_tensors(folder, "random")
        for key, value in self.kept.items():
            if flags.get(key, value) != value:
                logger.warning("the checkpoint's `--%s` %s goes on, not %s", key, flags[key], value)
        self._set_random_numbers(folder, numbers, processes)
        for name, network in networks:
            self.accelerator.unwrap_model(network).load_state_dict(states[name])
        with _damage(folder, STATE_NAME):
            for name, (_, optimizer) in self.trained.items():
                _unwrap(optimizer).load_state_dict(optimizers[name])
            self.scheduler.load_state_dict(self.scheduler.state_dict() | progress)
            if self.accelerator.scaler is not None and scaler is not None:
                self.accelerator.scaler.load_state_dict(scaler)
        self.run.step, self.run.seconds, self.run.history = run.step, run.seconds, run.history

    def _differences(
        self, flags: Mapping[str, Any], optimizers: Mapping[str, Any], schedule: str, document: Mapping[str, Any]
    ) -> Iterator[str]:
        """How the run that wrote a checkpoint differs from this one, as users set it."""
        for key, value in self.fixed.items():
            if key in flags and flags[key] != value:
                yield f"`--{key}` was {_shown(flags[key])} there and is {_shown(value)} here"
        if optimizers.keys() != self.trained.keys():
            yield f"it trained {' and '.join(optimizers)}, this run {' and '.join(self.trained)}"
        for name, (_, wrapped) in self.trained.items():
            here, there = type(_unwrap(wrapped)).__name__, optimizers.get(name, {}).get("class")
            if name in optimizers and there != here and "optimizer" not in self.fixed:
                yield f"the optimizer of {name} was {there} there and is {here} here"
        if schedule != type(self.scheduler).__name__ and "lr_scheduler" not in self.fixed:
            yield f"the schedule was {schedule} there and is {type(self.scheduler).__name__} here"
        if ("ema.safetensors" in document["files"]) != (self.ema is not None) and "use_ema" not in self.fixed:
            yield "only one of them keeps an average of the weights"

    def _set_random_numbers(self, folder: Path, numbers: Mapping[str, Tensor], processes: int) -> None:
        accelerator = self.accelerator
        if processes != accelerator.num_processes:
            logger.warning(
                "%s was written by %d processes, this run has %d: it goes on with other samples and random numbers",
                folder, processes, accelerator.num_processes,
            )  # fmt: skip
        prefix = f"{accelerator.process_index}."
        mine = {key.removeprefix(prefix): value for key, value in numbers.items() if key.startswith(prefix)}
        if mine:
            with _damage(folder, "random.safetensors"):
                _set_random_numbers(mine, accelerator.device)


# Files


def write_state(folder: Path, files: Mapping[str, Mapping[str, Tensor]], document: Mapping[str, Any]) -> None:
    """Write what `TrainingState.collect` gave into an empty folder; `state.json` comes last."""
    listed = {}
    for name, tensors in files.items():
        path = folder / f"{name}.safetensors"
        save_file(_independent(tensors), path)
        listed[path.name] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
    (folder / STATE_NAME).write_text(json.dumps({**document, "files": listed}, indent=1) + "\n", encoding="utf-8")


def check_files(folder: Path) -> dict[str, Any]:
    """The content of `state.json`, once every file that it lists is here and as it was written.

    Raises:
        DamagedCheckpointError: naming the folder and the first file that is not.
        RefusedCheckpointError: pickles are in the folder, as earlier versions wrote them.
    """
    names = sorted(path.name for path in folder.iterdir())
    pickles = [name for name in names if name.lower().endswith(_PICKLES)]
    if pickles:
        raise RefusedCheckpointError(
            f"The checkpoint {folder} is refused: {', '.join(pickles)} can run code when read, so they are not. "
            "This version writes safetensors and JSON alone. Start anew, from the weights of a saved pipeline if you "
            "have one, or train on with the version that wrote it."
        )
    if STATE_NAME not in names:
        what = f"has no {STATE_NAME}" if names else "is empty"
        raise DamagedCheckpointError(f"The checkpoint {folder} is not whole: it {what}.")
    with _damage(folder, STATE_NAME):
        document = json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))
        version, listed = document["format"], dict(document["files"])
        sizes = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in listed.items()}
    if version != _FORMAT:
        raise RefusedCheckpointError(f"The checkpoint {folder} has format {version!r}, this version reads {_FORMAT}.")
    for name, (size, digest) in sizes.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise DamagedCheckpointError(f"The checkpoint {folder} is not whole: it has no {name}.")
        if path.stat().st_size != size:
            raise DamagedCheckpointError(
                f"The checkpoint {folder} is not whole: {name} has {path.stat().st_size} bytes of {size}."
            )
        if _digest(path) != digest:
            raise DamagedCheckpointError(f"The checkpoint {folder} is not whole: {name} is not what was written.")
    return dict(document)


def _shown(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _damage(folder: Path, name: str) -> Iterator[None]:
    """Have what a broken or forged file ends in name the file."""
    try:
        yield
    except (DamagedCheckpointError, RefusedCheckpointError):
        raise
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DamagedCheckpointError(f"The checkpoint {folder} is not whole: {name}: {reason}") from error


def _independent(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU of which no two share memory, as safetensors wants them."""
    taken, found = set(), {}
    for name, value in tensors.items():
        tensor = value.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in taken or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        taken.add(tensor.untyped_storage().data_ptr())
        found[name] = tensor
    return found


def _read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise DamagedCheckpointError(f"The checkpoint {folder} is not whole: it has no {path.name}.")
    with _damage(folder, path.name):
        return load_file(path)


def _check_same(folder: Path, name: str, here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> None:
    """Refuse tensors of other names or shapes than those of this run."""
    differences = [f"it has no `{key}`" for key in here if key not in there]
    differences += [f"`{key}` is no tensor of this run" for key in there if key not in here]
    differences += [
        f"`{key}` has the shape {tuple(value.shape)} and {tuple(here[key].shape)} in this run"
        for key, value in there.items()
        if key in here and value.shape != here[key].shape
    ]
    if differences:
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise RefusedCheckpointError(
            f"The checkpoint {folder} is of another run: {name}.safetensors: {', '.join(differences[:_SHOWN])}{more}."
        )


# Optimizers


def _unwrap(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer inside of what `accelerator.prepare` gave."""
    return getattr(optimizer, "optimizer", optimizer)


def _groups(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The settings of each group of parameters, and how many it has."""
    return [{**group, "params": len(group["params"])} for group in optimizer.state_dict()["param_groups"]]


def _read_optimizer(
    folder: Path, name: str, optimizer: torch.optim.Optimizer, written: Mapping[str, Any]
) -> dict[str, Any]:
    """The state of an optimizer, laid out in memory as its parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    here, file = optimizer.state_dict()["param_groups"], f"{name}_optimizer.safetensors"
    with _damage(folder, STATE_NAME):
        there = [dict(group) for group in written["groups"]]
        counts = [[group["params"] for group in there], [len(group["params"]) for group in here]]
    if counts[0] != counts[1]:
        raise RefusedCheckpointError(
            f"The checkpoint {folder} is of another run: the optimizer of {name} had {counts[0]} parameters there and "
            f"has {counts[1]} here."
        )
    groups = []
    for group, other in zip(here, there, strict=True):
        with _damage(folder, STATE_NAME):
            settings = {key: _alike(key, other[key], value) for key, value in group.items() if key != "params"}
        groups.append({**settings, "params": group["params"]})
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _read_tensors(folder, f"{name}_optimizer").items():
        index, _, entry = key.partition(".")
        if not (index.isdecimal() and entry and int(index) < len(parameters)):
            raise DamagedCheckpointError(f"The checkpoint {folder} is not whole: {file} has {key!r}, of no parameter.")
        parameter = parameters[int(index)]
        if value.ndim and value.shape != parameter.shape:
            raise RefusedCheckpointError(
                f"The checkpoint {folder} is of another run: {file}: `{key}` has the shape {tuple(value.shape)} and "
                f"{tuple(parameter.shape)} in this run."
            )
        if value.ndim:
            value = torch.empty_like(parameter, dtype=value.dtype, device="cpu", requires_grad=False).copy_(value)
        state.setdefault(int(index), {})[entry] = value
    return {"state": state, "param_groups": groups}


def _alike(key: str, found: Any, here: Any) -> Any:
    """A setting of an optimizer as JSON has it, in the type that it has here."""
    if isinstance(here, tuple):
        return tuple(_alike(key, value, other) for value, other in zip(found, here, strict=True))
    number = isinstance(here, int | float) and not isinstance(here, bool)
    if not isinstance(found, int | float if number else type(here)):
        raise ValueError(f"`{key}` of an optimizer is {found!r}")
    return found


# Random numbers


def _random_numbers(device: torch.device) -> dict[str, Tensor]:
    """The state of every generator of this process."""
    version, words, gauss = random.getstate()
    _, keys, place, has_gauss, cached = np.random.get_state(legacy=True)
    states = {
        "python": torch.tensor([version, *words]),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(np.array([*keys, place, has_gauss], dtype=np.int64)),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    generators = _device_generators(device)
    if generators is not None:
        states |= {f"device.{index}": state for index, state in enumerate(generators.get_rng_state_all())}
    return states


def _set_random_numbers(states: Mapping[str, Tensor], device: torch.device) -> None:
    words, gauss = states["python"].tolist(), states["python_gauss"].tolist()
    random.setstate((words[0], tuple(words[1:]), gauss[0] if gauss else None))
    *keys, place, has_gauss = states["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), place, has_gauss, states["numpy_gauss"].item()))
    torch.set_rng_state(states["torch"])
    generators = _device_generators(device)
    there = [states[f"device.{index}"] for index in range(sum(key.startswith("device.") for key in states))]
    if generators is not None and len(there) == len(generators.get_rng_state_all()):
        generators.set_rng_state_all(there)


def _device_generators(device: torch.device) -> Any:
    """The module of torch that has the generators of an accelerator (CUDA, XPU); None for the CPU."""
    module = getattr(torch, device.type, None)
    return module if hasattr(module, "get_rng_state_all") else None
