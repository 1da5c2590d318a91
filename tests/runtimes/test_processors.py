"""Which precision a processor is asked for, with processors simulated."""

import logging
import platform

import pytest
import torch

from amodal_diffusion.cli import options as cli_options
from amodal_diffusion.runtimes import preferred_dtype, processor_name, processor_units, processors

INTEL_AMX = dict.fromkeys(("avx2", "avx512_f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8"), True)
PROCESSORS = {  # what torch reports, and the precision that is fast there
    "AMX": (INTEL_AMX, torch.bfloat16),
    "AVX-512 with bf16": ({"avx2": True, "avx512_f": True, "avx512_bf16": True}, torch.bfloat16),
    "AVX-512 without bf16": ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, torch.float32),
    "AVX2": ({"avx2": True, "avx512_f": False, "amx_bf16": False, "num_logical_cores": 2}, torch.float32),
    "Arm with bf16": ({"architecture": "aarch64", "bf16": True, "sve": True}, torch.bfloat16),
    "Arm": ({"architecture": "aarch64", "bf16": False}, torch.float32),
}


@pytest.fixture
def no_linux(monkeypatch, tmp_path):
    def pretend(text=None):
        path = tmp_path / "cpuinfo"
        if text is not None:
            path.write_text(text, encoding="utf-8")
        monkeypatch.setattr(processors, "_CPUINFO", path)
        processors._linux_lines.cache_clear()

    yield pretend
    processors._linux_lines.cache_clear()


@pytest.fixture(params=PROCESSORS)
def processor(request, monkeypatch, no_linux):
    no_linux()
    found, dtype = PROCESSORS[request.param]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    return found, dtype


def test_precision_follows_the_processor(processor):
    assert preferred_dtype() == preferred_dtype(torch.device("cpu")) == processor[1]


def test_units_are_those_that_are_there(processor):
    absent = [unit for unit in ("avx2", "avx512_bf16", "amx_bf16") if not processor[0].get(unit)]
    assert not set(processor_units()) & set(absent)
    assert processor_name() == (", ".join(processor_units()) or platform.machine())


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", torch.bfloat16),
        ("flags\t\t: fpu avx2 avx512f", torch.float32),
        ("Features\t: fp asimd bf16", torch.bfloat16),
        (None, torch.float32),
    ],
)
def test_linux_is_asked_where_torch_cannot_tell(monkeypatch, no_linux, flags, dtype):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    no_linux(None if flags is None else f"model name\t: Example 7\n{flags}\n")
    assert preferred_dtype() == dtype
    assert processor_name().startswith(platform.machine() if flags is None else "Example 7")


@pytest.mark.parametrize("native", [True, False])
def test_cuda_says_whether_bf16_is_native(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert preferred_dtype("cuda") == (torch.bfloat16 if native else torch.float32)
    assert preferred_dtype("mps") == torch.float32


def test_the_command_line_says_what_it_chose(processor, caplog):
    with caplog.at_level(logging.INFO, logger=cli_options.__name__):
        assert cli_options.find_dtype("auto") == processor[1]
    assert caplog.messages == [f"computing in {processor[1]} on {processor_name()}"]


@pytest.mark.parametrize("runtime", ["torch", "onnx", "openvino"])
def test_what_is_chosen_is_what_the_runtime_computes_in(processor, runtime, capsys):
    chosen = cli_options.find_dtype("auto", "cpu", runtime)
    assert chosen == (torch.float32 if runtime == "onnx" else processor[1])
    assert cli_options.dtype_name("auto", "cpu", runtime) == ("bf16" if chosen == torch.bfloat16 else "fp32")
    assert ("computing in bfloat16" in capsys.readouterr().err) == (chosen == torch.bfloat16)


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_a_precision_that_is_given_stands(processor, name, dtype):
    assert cli_options.find_dtype(name) == dtype
