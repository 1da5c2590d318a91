"""What this machine computes fast: the one place that is asked which precision suits it."""

import functools
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

_CPUINFO = Path("/proc/cpuinfo")
# Names of units in `torch.cpu.get_capabilities`, and in the lines "flags" and "Features" of Linux.
_UNITS = {
    "amx_bf16": ("amx_bf16",),
    "amx_int8": ("amx_int8",),
    "avx512_bf16": ("avx512_bf16",),
    "avx512_vnni": ("avx512_vnni",),
    "avx512f": ("avx512_f", "avx512f"),
    "avx_vnni": ("avx_vnni",),
    "avx2": ("avx2",),
    "bf16": ("bf16", "arm_bf16"),
    "sve": ("sve", "arm_sve"),
}
_BF16_UNITS = {"amx_bf16", "avx512_bf16", "bf16"}


def processor_units() -> tuple[str, ...]:
    """The units of this CPU that decide how fast networks run, the fastest first; empty where nothing tells.

    They are what torch reports, and where it does not, what Linux does.

    Example:
        >>> set(processor_units()) <= set(_UNITS)
        True
    """
    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    present = {name for name, value in found.items() if value is True} or _linux_flags()
    return tuple(unit for unit, names in _UNITS.items() if present.intersection(names))


def processor_name() -> str:
    """Name and units of this CPU, for reports.

    Example:
        >>> processor_name() != ""
        True
    """
    names = {value for key, value in _linux_lines() if key == "model name"}
    return ", ".join([*sorted(names), *processor_units()]) or platform.machine()


def has_fast_bf16() -> bool:
    """Whether this CPU has units for bfloat16. Without them bfloat16 takes several times as long as float32.

    Example:
        >>> has_fast_bf16() == (preferred_dtype("cpu") == torch.bfloat16)
        True
    """
    return not _BF16_UNITS.isdisjoint(processor_units())


def preferred_dtype(device: str | torch.device = "cpu", runtime: str = "torch") -> torch.dtype:
    """The precision in which networks answer soonest on a device: bfloat16 where it has units for it, else float32.

    Masks in bfloat16 agree with those in float32 to a mean IoU of 0.999.

    Args:
        device: the CPU, for which the processor is asked; CUDA, for which the driver is; others take float32.
        runtime: what computes, see `use_runtime`. "onnx" computes in float32 whatever the weights are, which bfloat16
            would only make coarser.

    Example:
        >>> preferred_dtype("meta"), preferred_dtype("cpu", "onnx")
        (torch.float32, torch.float32)
    """
    if runtime == "onnx":
        return torch.float32
    kind = torch.device(device).type
    if kind == "cpu":
        fast = has_fast_bf16()
    else:
        fast = kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32


@functools.cache
def _linux_lines() -> tuple[tuple[str, str], ...]:
    """The lines of /proc/cpuinfo as (key, value); none on other systems."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    pairs = (line.partition(":") for line in lines)
    return tuple((key.strip(), value.strip()) for key, _, value in pairs)


def _linux_flags() -> set[str]:
    return next((set(value.split()) for key, value in _linux_lines() if key in ("flags", "Features")), set())
