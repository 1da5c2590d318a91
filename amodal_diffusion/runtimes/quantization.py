"""Graphs in whole numbers of 8 bits, with ranges from calls that are typical."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .graphs import graphs_of, to_array

_BATCHES = 8  # of each graph, from which its ranges are taken
_ROWS = 8  # of each batch
_LAYERS = ["Conv", "ConvTranspose"]

Arrays = dict[str, np.ndarray]


@contextmanager
def recorded_calls(networks: Sequence[nn.Module]) -> Iterator[list[dict[str, list[Arrays]]]]:
    """Inside the block, torch answers and what the networks are given is kept.

    Yields:
        For each network, the batches of each of its graphs by the name of its method.

    Example:
        >>> import torch
        >>> from amodal_diffusion import PCNetMask
        >>> network, plane = PCNetMask(block_out_channels=(2, 4), sample_size=16).eval(), torch.ones(1, 1, 16, 16)
        >>> with recorded_calls([network]) as found:
        ...     _ = network(plane, plane)
        >>> found[0]["forward"][0]["mask"].shape
        (1, 1, 16, 16)
    """
    found: list[dict[str, list[Arrays]]] = []
    before = [getattr(network, "graphs", None) for network in networks]
    try:
        for network in networks:
            kept: dict[str, list[Arrays]] = {}
            recorders = {method: _recorder(method, graph, kept) for method, graph in graphs_of(network).items()}
            setattr(network, "graphs", recorders)  # noqa: B010
            found.append(kept)
        yield found
    finally:
        for network, graphs in zip(networks, before, strict=True):
            setattr(network, "graphs", graphs)  # noqa: B010


def _recorder(method: str, graph: Any, kept: dict[str, list[Arrays]]) -> Callable[[Any, dict[str, Any]], Any]:
    def record(network: Any, given: dict[str, Any]) -> Any:
        batches = kept.setdefault(method, [])
        if len(batches) < _BATCHES:
            inputs = graph.read(given).items()
            batches.append({name: to_array(value[:_ROWS], graph.inputs[name].dtype).copy() for name, value in inputs})
        recorders, network.graphs = network.graphs, None
        try:
            return getattr(network, method)(**given)
        finally:
            network.graphs = recorders

    return record


def quantize_onnx(onnx: bytes, batches: Sequence[Arrays]) -> bytes:
    """An ONNX graph whose convolutions compute in 8 bits: weights by channel, maps by the ranges of typical calls.

    The first and the last quarter of the convolutions stay in float32. In a U-Net these are its finest levels, which
    draw the outline of a mask and do least of the work.

    Args:
        onnx: the file of a graph in float32.
        batches: inputs by name; some tens of crops suffice.

    Raises:
        ValueError: no batches.
        ImportError: the extra `onnx` is not installed.

    Example:
        >>> from amodal_diffusion import PCNetMask
        >>> from amodal_diffusion.runtimes import export_onnx
        >>> file = export_onnx(PCNetMask(block_out_channels=(2, 4), sample_size=16))["forward"]
        >>> plane = np.ones((1, 1, 16, 16), np.float32)
        >>> b"QuantizeLinear" in quantize_onnx(file, [{"mask": plane, "eraser": plane}])
        True
    """
    if not batches:
        raise ValueError("`batches` must hold at least one batch, got none.")
    try:
        from onnx import load
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise ImportError("int8 needs pip install 'amodal-diffusion[onnx]'") from error

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(batches)

        def get_next(self) -> Arrays | None:
            return next(self.rest, None)

    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, done = (os.path.join(folder, name) for name in ("plain", "prepared", "done"))
        Path(plain).write_bytes(onnx)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        names = [node.name for node in load(prepared).graph.node if node.op_type in _LAYERS]
        quantize_static(
            prepared, done, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=_LAYERS,
            nodes_to_exclude=[*names[: len(names) // 4], *names[len(names) * 3 // 4 :]],
        )  # fmt: skip
        return Path(done).read_bytes()
