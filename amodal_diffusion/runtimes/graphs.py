"""The networks as ONNX graphs: what each takes and gives, and which sizes may change."""

import copy
import io
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoints import warnings_ignored
from ..models.amodal_vae import DiagonalGaussian
from ..models.order_net import OrderNetOutput
from ..models.outputs import MaskModelOutput
from ..models.pcnet_content import PCNetContentOutput

if TYPE_CHECKING:
    from ..models import (
        AmodalVAE,
        ASBUPredictor,
        OccAmodalPredictor,
        OrderNet,
        PCNetContent,
        PCNetMask,
        PhotoPCNetMask,
        SDAmodalDecoder,
        ThingNet,
    )

OPSET = 18
_BATCH = 2  # of the example that a graph is made with
_CROP = {0: "batch", 2: "height", 3: "width"}
_ENCODER_STRIDE = 32
_exporting = threading.Lock()  # torch's exporter and its log have one state for all threads


@dataclass(frozen=True)
class Graph:
    """One method of a network as a graph.

    Args:
        inputs: an example of each input by its name, (2, ...).
        outputs: names of the outputs.
        trace: (network, inputs by name) -> the outputs.
        read: the arguments of the method by name -> the inputs by name.
        answer: (outputs by name, float32; arguments; dtype of the network) -> what the method returns.
        axes: of each input and output, the axes whose size may change, with a name.
        multiple: heights and widths must be multiples of this.

    Example:
        >>> from amodal_diffusion import PCNetMask
        >>> graph = graphs_of(PCNetMask(block_out_channels=(2, 4), sample_size=16, patch_size=2))["forward"]
        >>> list(graph.inputs), graph.outputs, graph.axes["mask"], graph.multiple
        (['mask', 'eraser'], ('logits',), {0: 'batch', 2: 'height', 3: 'width'}, 2)
    """

    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    trace: Callable[[Any, dict[str, Tensor]], Sequence[Tensor]]
    read: Callable[[dict[str, Any]], dict[str, Tensor]]
    answer: Callable[[dict[str, Tensor], dict[str, Any], torch.dtype], Any]
    axes: dict[str, dict[int, str]] = field(default_factory=dict)
    multiple: int = 1


def graphs_of(network: nn.Module) -> dict[str, Graph]:
    """The graphs of a network by the name of the method that each stands for.

    That is `forward`, and for an `AmodalVAE` `encode`, `decode` and `place`, since codes are drawn between them.

    Raises:
        TypeError: a network without graphs.

    Example:
        >>> from amodal_diffusion import AmodalVAE
        >>> list(graphs_of(AmodalVAE(sample_size=16, latent_channels=2, block_out_channels=(2, 4))))
        ['encode', 'decode', 'place']
    """
    for kind in type(network).__mro__:
        if kind.__name__ in _GRAPHS:
            return _GRAPHS[kind.__name__](network)
    raise TypeError(f"`network` must be one of {', '.join(_GRAPHS)}, got {type(network).__name__}.")


def export_onnx(network: nn.Module) -> dict[str, bytes]:
    """The ONNX files of a network, in float32, by the name of the method that each stands for.

    Batches may have any size. Crops may have any height and width that the network takes, in multiples of 32 where it
    sees a photo through EfficientNet; an `AmodalVAE` takes crops of its `sample_size` alone.

    Args:
        network: one of those that `graphs_of` knows; it is not changed. A class-conditioned one takes `category_ids`.

    Raises:
        TypeError: another network.
        ImportError: the extra `onnx` is not installed.

    Example:
        >>> from amodal_diffusion import PCNetMask
        >>> files = export_onnx(PCNetMask(block_out_channels=(2, 4), sample_size=16))
        >>> import onnx
        >>> [output.name for output in onnx.load_from_string(files["forward"]).graph.output]
        ['logits']
    """
    graphs = graphs_of(network)
    _check_installed()
    plain = copy.deepcopy(network)
    setattr(plain, "graphs", None)  # noqa: B010  # a graph of a graph would be empty
    plain = plain.to("cpu").float().eval().requires_grad_(False)
    plain.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return {name: _export(plain, graph) for name, graph in graphs.items()}


def to_array(value: Tensor, dtype: torch.dtype) -> np.ndarray:
    """A tensor as the array that a graph takes; no copy where it is one.

    Example:
        >>> to_array(torch.tensor([True]), torch.float32)
        array([1.], dtype=float32)
    """
    array: np.ndarray = value.detach().to("cpu", dtype).contiguous().numpy()
    return array


def _check_installed() -> None:
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ImportError("ONNX files need pip install 'amodal-diffusion[onnx]'") from error


class _Traced(nn.Module):
    """A graph as a module that takes and gives tensors in their order."""

    def __init__(self, network: nn.Module, graph: Graph) -> None:
        super().__init__()
        self.network, self.graph = network, graph

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.graph.inputs, tensors, strict=True))
        return tuple(self.graph.trace(self.network, given))


def _export(network: nn.Module, graph: Graph) -> bytes:
    """The graph as the bytes of an ONNX file.

    By the exporter that traces: on these networks it takes a tenth of a second, the one by `torch.export` four. A
    pipeline can therefore make its graphs when it is loaded, from the weights that it has loaded.
    """
    written = io.BytesIO()
    file = cast(Any, written)  # declared for paths alone, but the exporter that traces writes into buffers too
    with _exporting, torch.no_grad(), _quiet():
        torch.onnx.export(
            _Traced(network, graph).eval(), tuple(graph.inputs.values()), file, dynamo=False, opset_version=OPSET,
            input_names=list(graph.inputs), output_names=list(graph.outputs), dynamic_axes=graph.axes,
        )  # fmt: skip
    return written.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of tracing: checks of shapes are constants in a graph, which is meant."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings_ignored():
            yield
    finally:
        logger.setLevel(level)


# The networks


def _crops(names: Mapping[str, int], side: int) -> dict[str, Tensor]:
    """Examples of planes: channels by name -> (2, channels, side, side)."""
    return {name: torch.zeros(_BATCH, channels, side, side) for name, channels in names.items()}


def _ids() -> Tensor:
    return torch.ones(_BATCH, dtype=torch.int64)


def _forward(
    inputs: dict[str, Tensor],
    *,
    output: str = "logits",
    kind: Callable[[Tensor], Any] = lambda logits: MaskModelOutput(logits=logits),
    multiple: int = 1,
    trace: Callable[[Any, dict[str, Tensor]], Sequence[Tensor]] | None = None,
    read: Callable[[dict[str, Any]], dict[str, Tensor]] | None = None,
) -> dict[str, Graph]:
    """The one graph of a network whose `forward` gives one map as large as its crops."""
    axes = {name: {0: "batch"} if example.ndim < 4 else _CROP for name, example in inputs.items()}

    def answer(outputs: dict[str, Tensor], given: dict[str, Any], dtype: torch.dtype) -> Any:
        value = outputs[output].to(dtype)
        return kind(value) if given["return_dict"] else (value,)

    graph = Graph(
        inputs,
        (output,),
        trace or (lambda network, given: network(**given, return_dict=False)),
        read or (lambda given: _named(given, inputs)),
        answer,
        {**axes, output: _CROP},
        multiple,
    )
    return {"forward": graph}


def _named(given: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arguments that are inputs; ValueError where one is missing, or one is given that the network has not."""
    for name, value in given.items():
        if name in inputs and value is None:
            raise ValueError(f"`{name}` must be given.")
        if name not in inputs and isinstance(value, Tensor) and name != "category_ids":
            raise ValueError(f"`{name}` must be None: the network does not take it.")
    return {name: given[name] for name in inputs}


def _pcnet_mask(network: "PCNetMask | ASBUPredictor", second: str = "eraser") -> dict[str, Graph]:
    config = network.config
    inputs = _crops({"mask": 1, second: 1, **({"image": 3} if config.use_rgb else {})}, config.sample_size)
    if config.class_conditioned:
        inputs["category_ids"] = _ids()
    return _forward(inputs, multiple=config.patch_size)


def _photo_pcnet_mask(network: "PhotoPCNetMask") -> dict[str, Graph]:
    planes = {"mask": 1, "eraser": 1, "front": 1, "image": 3}
    side = -(-network.config.sample_size // _ENCODER_STRIDE) * _ENCODER_STRIDE
    inputs = _crops(planes, side) | {"shown": torch.ones(_BATCH, dtype=torch.bool)}
    if network.config.categories:
        inputs["category_ids"] = _ids()

    def trace(network: "PhotoPCNetMask", given: dict[str, Tensor]) -> tuple[Tensor]:
        planes = torch.cat([given["mask"], given["eraser"], given["front"]], dim=1)
        shown = given["shown"].to(planes.dtype).view(-1, 1, 1, 1)
        features = [shown * feature for feature in network.encode_image(given["image"])]
        return (network.unet(planes, network.add_categories(features, given.get("category_ids"))),)

    def read(given: dict[str, Any]) -> dict[str, Tensor]:
        if given["features"] is not None:
            raise ValueError("`features` must be None: an engine looks at the photo in every call.")
        mask, image, shown = given["mask"], given["image"], given["shown"]
        if shown is None:
            shown = torch.full(mask.shape[:1], image is not None)
        image = mask.new_zeros(mask.shape[0], 3, *mask.shape[2:]) if image is None else image
        front = torch.zeros_like(mask) if given["front"] is None else given["front"]
        found = {"mask": mask, "eraser": given["eraser"], "front": front, "image": image, "shown": shown}
        if "category_ids" in inputs:
            ids = given["category_ids"]
            found["category_ids"] = torch.zeros(len(mask), dtype=torch.int64) if ids is None else ids
        return found

    return _forward(inputs, multiple=_ENCODER_STRIDE, trace=trace, read=read)


def _occamodal(network: "OccAmodalPredictor") -> dict[str, Graph]:
    planes = {"mask": 1, "image": 3, "boundary": 1}
    if network.config.mask_channels == 1:
        del planes["boundary"]
    if not network.sees_image:
        del planes["image"]
    side, multiple = network.config.sample_size, network.config.patch_size
    if network.sees_image and network.config.image_encoder_type == "efficientnet-lite0":
        side, multiple = -(-side // _ENCODER_STRIDE) * _ENCODER_STRIDE, _ENCODER_STRIDE
    return _forward(_crops(planes, side), multiple=multiple)


def _order_net(network: "OrderNet") -> dict[str, Graph]:
    planes = {"first": 1, "second": 1, **({"image": 3} if network.config.use_rgb else {})}
    inputs = _crops(planes, network.config.sample_size)
    (graph,) = _forward(inputs, kind=lambda logits: OrderNetOutput(logits=logits)).values()
    graph.axes["logits"] = {0: "batch"}  # an answer a pair, no map
    return {"forward": graph}


def _sdamodal(network: "SDAmodalDecoder") -> dict[str, Graph]:
    config = network.config
    inputs = _crops({"mask": 1}, config.sample_size)
    for index, (channels, side) in enumerate(zip(config.feature_channels, config.feature_sizes, strict=True)):
        inputs |= _crops({f"feature_{index}": channels}, side)

    def trace(network: "SDAmodalDecoder", given: dict[str, Tensor]) -> Any:
        features = [value for name, value in given.items() if name != "mask"]
        return network(given["mask"], features, return_dict=False)

    def read(given: dict[str, Any]) -> dict[str, Tensor]:
        return {"mask": given["mask"], **{f"feature_{k}": value for k, value in enumerate(given["features"])}}

    (graph,) = _forward(inputs, trace=trace, read=read).values()
    for index in range(len(config.feature_channels)):  # their sizes are not those of the crops
        graph.axes[f"feature_{index}"] = {0: "batch", 2: f"height_{index}", 3: f"width_{index}"}
    return {"forward": graph}


def _pcnet_content(network: "PCNetContent") -> dict[str, Graph]:
    config = network.config
    side = -(-config.sample_size // network.multiple) * network.multiple
    inputs = _crops({"image": 3, "visible": 1, **({"mask": 1} if config.use_mask else {})}, side)
    if config.class_conditioned:
        inputs["category_ids"] = _ids()
    return _forward(inputs, output="painted", kind=_painted, multiple=network.multiple)


def _painted(image: Tensor) -> PCNetContentOutput:
    return PCNetContentOutput(image=image)


def _thing_net(network: "ThingNet") -> dict[str, Graph]:
    side = -(-network.config.sample_size // _ENCODER_STRIDE) * _ENCODER_STRIDE
    return _forward(_crops({"image": 3}, side), multiple=_ENCODER_STRIDE)


def _amodal_vae(network: "AmodalVAE") -> dict[str, Graph]:
    config = network.config
    mask = _crops({"mask": 1}, config.sample_size)
    seen = mask | ({"category_ids": _ids()} if config.num_categories else {})
    seen |= _crops({"image": 3}, config.image_size) if config.use_rgb else {}

    def encode(network: "AmodalVAE", given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        posterior = network.encode(**given)
        return posterior.mean, posterior.log_variance

    def read_seen(given: dict[str, Any]) -> dict[str, Tensor]:
        found = dict(given)
        if config.num_categories and given["category_ids"] is None:
            found["category_ids"] = torch.zeros(given["mask"].shape[0], dtype=torch.int64)
        return _named(found, seen)

    def graph(inputs: dict[str, Tensor], outputs: tuple[str, ...], trace: Any, answer: Any, read: Any = None) -> Graph:
        axes = {name: {0: "batch"} for name in (*inputs, *outputs)}
        return Graph(inputs, outputs, trace, read or (lambda given: _named(given, inputs)), answer, axes)

    return {
        "encode": graph(
            seen,
            ("mean", "log_variance"),
            encode,
            lambda outputs, given, dtype: DiagonalGaussian(outputs["mean"], outputs["log_variance"]),
            read_seen,
        ),
        "decode": graph(
            {"latents": torch.zeros(_BATCH, config.latent_channels)},
            ("logits",),
            lambda network, given: (network.decode(**given),),
            lambda outputs, given, dtype: outputs["logits"].to(dtype),
        ),
        "place": graph(
            {"logits": mask["mask"], **mask},
            ("boxes",),
            lambda network, given: (network.place(**given),),
            lambda outputs, given, dtype: outputs["boxes"],
        ),
    }


# By names, so that a network is imported by those alone who have one.
_GRAPHS: dict[str, Callable[[Any], dict[str, Graph]]] = {
    "PCNetMask": _pcnet_mask,
    "PhotoPCNetMask": _photo_pcnet_mask,
    "ASBUPredictor": partial(_pcnet_mask, second="boundary"),
    "OccAmodalPredictor": _occamodal,
    "OrderNet": _order_net,
    "SDAmodalDecoder": _sdamodal,
    "AmodalVAE": _amodal_vae,
    "PCNetContent": _pcnet_content,
    "ThingNet": _thing_net,
}
