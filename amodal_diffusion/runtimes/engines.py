"""Engines that answer for torch: ONNX Runtime and OpenVINO, on the CPU."""

import importlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..arguments.choices import check_choice
from ..display import short_repr
from .graphs import Graph, export_onnx, graphs_of, to_array
from .quantization import Arrays, quantize_onnx

RUNTIMES = ("torch", "onnx", "openvino")
"""What a pipeline can be loaded for: `from_pretrained(folder, runtime="onnx")`."""

_MODULES = {"onnx": "onnxruntime", "openvino": "openvino"}
_Sizes = tuple[tuple[int, ...], ...]  # of the crops of each input, whose batches may have any
_making = threading.Lock()  # of sessions and compiled graphs: one that several threads ask for at once is made once


def check_runtime(runtime: Any) -> str:
    """`runtime`, if it is one of `RUNTIMES` and installed.

    Raises:
        ValueError: another name.
        ImportError: naming the extra that is not installed.

    Example:
        >>> check_runtime("torch")
        'torch'
    """
    check_choice("runtime", runtime, RUNTIMES)
    if runtime in _MODULES:
        try:
            importlib.import_module(_MODULES[runtime])
        except ImportError as error:
            raise ImportError(f"runtime={runtime!r} needs pip install 'amodal-diffusion[{runtime}]'") from error
    return str(runtime)


def use_runtime(network: nn.Module, runtime: str, calls: Mapping[str, Sequence[Arrays]] | None = None) -> None:
    """Let an engine answer the calls of a network, or torch again.

    The network stays what it is: it holds its weights, saves, moves and copies as ever, and its calls take and give
    the same tensors. The engine computes on the CPU with the weights that the network has now, in as many threads as
    torch has at the first call; OpenVINO in bfloat16 where the network is, ONNX Runtime in float32. There are no
    gradients, and in training mode torch computes. As with torch, several threads may call the network at once.

    Args:
        network: one of those that `export_onnx` takes.
        runtime: "torch", "onnx" (ONNX Runtime) or "openvino".
        calls: typical inputs of each method, from `recorded_calls`; given, an engine computes in 8 bits, see
            `quantize_onnx`.

    Raises:
        ValueError, ImportError: as `check_runtime` and `quantize_onnx` say.
        TypeError: another network.

    Example:
        >>> from amodal_diffusion import PCNetMask
        >>> network = PCNetMask(block_out_channels=(2, 4), sample_size=16).eval()
        >>> mask, eraser = torch.ones(3, 1, 16, 16), torch.zeros(3, 1, 16, 16)
        >>> expected = network(mask, eraser).logits
        >>> use_runtime(network, "onnx")
        >>> torch.allclose(network(mask, eraser).logits, expected, atol=1e-4)
        True
        >>> use_runtime(network, "torch")
    """
    if check_runtime(runtime) != "torch":
        files = export_onnx(network)
        if calls is not None:
            files = {name: quantize_onnx(onnx, calls.get(name, ())) for name, onnx in files.items()}
        graphs = {name: _GraphCall(runtime, name, onnx, in_8_bits=calls is not None) for name, onnx in files.items()}
        setattr(network, "graphs", graphs)  # noqa: B010
    elif getattr(network, "graphs", None) is not None:
        setattr(network, "graphs", None)  # noqa: B010


def runtime_of(network: nn.Module) -> str:
    """What answers the calls of a network, one of `RUNTIMES`; "..., int8" where it computes in 8 bits.

    Example:
        >>> from amodal_diffusion import PCNetMask
        >>> runtime_of(PCNetMask(block_out_channels=(2, 4), sample_size=16))
        'torch'
    """
    graphs = getattr(network, "graphs", None) or {}
    return next((str(call) for call in graphs.values()), "torch")


@dataclass
class _GraphCall:
    """What answers one method of a network. Sessions are made at the first call, and left out of pickles and copies."""

    runtime: str
    method: str
    onnx: bytes
    in_8_bits: bool = False
    sessions: dict[torch.dtype, Any] = field(default_factory=dict)
    graph: Graph | None = None

    __repr__ = short_repr

    def __str__(self) -> str:
        return f"{self.runtime}, int8" if self.in_8_bits else self.runtime

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "sessions": {}, "graph": None}

    def __call__(self, network: Any, given: dict[str, Any]) -> Any:
        """The answer of the method to the arguments `given`, on their device."""
        if self.graph is None:
            self.graph = graphs_of(network)[self.method]
        inputs = self.graph.read(given)
        self._check(self.graph, inputs)
        first = next(iter(inputs.values()))
        arrays = {name: to_array(value, self.graph.inputs[name].dtype) for name, value in inputs.items()}
        given_in = network.dtype  # diffusers looks through all modules for it
        dtype = given_in if self.runtime == "openvino" else torch.float32
        with _making:
            if dtype not in self.sessions:
                self.sessions[dtype] = _SESSIONS[self.runtime](self.onnx, dtype)
        answers = self.sessions[dtype](arrays)
        outputs = zip(self.graph.outputs, answers, strict=True)
        return self.graph.answer(
            {name: torch.from_numpy(value).to(first.device) for name, value in outputs}, given, given_in
        )

    def _check(self, graph: Graph, inputs: dict[str, Tensor]) -> None:
        """Refuse what the graph does not take; ValueError naming the input."""
        sizes: dict[str, int] = {}
        for name, value in inputs.items():
            example, axes = graph.inputs[name], graph.axes[name]
            wanted = [
                sizes.setdefault(axes[axis], value.shape[axis]) if axis in axes and value.ndim > axis else size
                for axis, size in enumerate(example.shape)
            ]
            if list(value.shape) != wanted:
                raise ValueError(f"`{name}` must have shape {tuple(wanted)}, got {tuple(value.shape)}.")
        for side in ("height", "width"):
            if sizes.get(side, 0) % graph.multiple:
                name = next(name for name in inputs if side in graph.axes[name].values())
                raise ValueError(
                    f"`{name}` must have a {side} that is a multiple of {graph.multiple} for the runtime "
                    f"{self.runtime!r}, got {sizes[side]}."
                )


class _OnnxRuntimeSession:
    def __init__(self, onnx: bytes, dtype: torch.dtype) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])

    def __call__(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        return list(self.session.run(None, arrays))


class _Requests(threading.local):
    """The infer requests of one thread by the sizes of crops: a request holds the answer of one call at a time."""

    def __init__(self) -> None:
        self.by_sizes: dict[_Sizes, Any] = {}


class _OpenVINOSession:
    def __init__(self, onnx: bytes, dtype: torch.dtype) -> None:
        import openvino

        self.core, self.onnx = openvino.Core(), onnx
        self.compiled: dict[_Sizes, Any] = {}
        self.requests = _Requests()
        self.settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }

    def __call__(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        sizes = tuple(array.shape[1:] for array in arrays.values())
        mine = self.requests.by_sizes
        if sizes not in mine:
            with _making:
                if sizes not in self.compiled:
                    self.compiled[sizes] = self._compile({name: array.shape[1:] for name, array in arrays.items()})
            mine[sizes] = self.compiled[sizes].create_infer_request()
        results = mine[sizes].infer(arrays, share_inputs=True)
        return [results[output] for output in mine[sizes].model_outputs]

    def _compile(self, sizes: dict[str, tuple[int, ...]]) -> Any:
        """The graph for crops of these sizes and batches of any: it cannot infer all that a changing size leads to."""
        model = self.core.read_model(self.onnx, b"")
        model.reshape({name: [-1, *size] for name, size in sizes.items()})
        return self.core.compile_model(model, "CPU", self.settings)


_SESSIONS: dict[str, Any] = {"onnx": _OnnxRuntimeSession, "openvino": _OpenVINOSession}
