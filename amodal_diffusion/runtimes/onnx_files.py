"""The networks of a saved pipeline as ONNX files, for other programs."""

import json
import os
from pathlib import Path
from typing import Any

from torch import nn

from .. import models
from ..files import atomic_folder, check_replaced, write_text
from ..hub import ONNX_DESCRIPTION_NAME, find_pipeline_folder
from .graphs import Graph, export_onnx, graphs_of


def export_pipeline(folder: str | os.PathLike[str], output: str | os.PathLike[str]) -> list[Path]:
    """Write the networks of a saved pipeline as ONNX files, and `onnx.json`, which says what they take and give.

    A network is `NAME.onnx`, NAME that of the component; an `AmodalVAE` is `NAME_encode.onnx`, `NAME_decode.onnx` and
    `NAME_place.onnx`. Weights are float32. Stable Diffusion is not among them. The settings of the pipeline (crops,
    thresholds, rules) stand in `onnx.json`, since another program has to follow them.

    Args:
        folder: of a pipeline, or its Hub id; one that completes masks, or one that paints.
        output: folder to make. The files of an earlier export, which `onnx.json` there names, are removed; others stay.

    Returns:
        The files, the description last.

    Raises:
        FileNotFoundError, OSError: as `find_pipeline_folder` says.
        FileExistsError: `output` holds something under one of these names that no earlier export left there.
        ValueError: a pipeline without networks of its own, as that of a scene, whose parts are exported one by one.
        ImportError: the extra `onnx` is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from amodal_diffusion import PCNetMask, PCNetMaskPipeline
        >>> with TemporaryDirectory() as folder:
        ...     PCNetMaskPipeline(PCNetMask(block_out_channels=(2, 4), sample_size=16)).save_pretrained(folder)
        ...     [path.name for path in export_pipeline(folder, Path(folder) / "onnx")]
        ['model.onnx', 'onnx.json']
    """
    source = find_pipeline_folder(folder)
    networks = {name: _load(source.place, name, entry[1]) for name, entry in source.index.items() if _is_ours(entry)}
    if not networks:
        raise ValueError(f"'{source.place}' holds `{source.class_name}`, which has no networks of its own to export.")
    settings = {
        name: value for name, value in source.index.items() if name[0] != "_" and not isinstance(value, list | dict)
    }
    earlier = _earlier_files(output)
    written = [file for name, network in networks.items() for file in _file_names(name, network).values()]
    check_replaced(output, (*written, ONNX_DESCRIPTION_NAME), earlier)
    record: dict[str, Any] = {"pipeline": source.class_name, "settings": settings, "networks": {}}
    files = {}
    for name, network in networks.items():
        graphs, contents = graphs_of(network), export_onnx(network)
        for method, file in _file_names(name, network).items():
            files[file] = contents[method]
            description = {"class": type(network).__name__, "method": method, **_describe(graphs[method])}
            record["networks"][file] = description
    with atomic_folder(output, replaces=(*files, *earlier, ONNX_DESCRIPTION_NAME)) as staged:
        for file, content in files.items():
            (staged / file).write_bytes(content)
        write_text(staged / ONNX_DESCRIPTION_NAME, json.dumps(record, indent=2) + "\n")
    return [Path(output) / file for file in (*files, ONNX_DESCRIPTION_NAME)]


def _file_names(name: str, network: nn.Module) -> dict[str, str]:
    """The file of each method of a network."""
    methods = list(graphs_of(network))
    return {method: f"{name}.onnx" if len(methods) == 1 else f"{name}_{method}.onnx" for method in methods}


def _earlier_files(output: str | os.PathLike[str]) -> list[str]:
    """The files of the export that a folder holds, with its description."""
    try:
        record = json.loads((Path(output) / ONNX_DESCRIPTION_NAME).read_text(encoding="utf-8"))
        names = list(record["networks"].keys())
    except (OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError):  # none, or not ours
        return []
    return [name for name in names if name.endswith(".onnx") and name == Path(name).name] + [ONNX_DESCRIPTION_NAME]


def _is_ours(entry: Any) -> bool:
    """Whether an entry of the index is a network that becomes a graph."""
    if not isinstance(entry, list | tuple) or len(entry) != 2 or entry[0] != "amodal_diffusion":
        return False
    kind = getattr(models, str(entry[1]), None)
    return isinstance(kind, type) and kind.__name__ not in ("PromptEmbedding", "PCNetContentDiscriminator")


def _load(place: str, name: str, class_name: str) -> nn.Module:
    network: nn.Module = getattr(models, class_name).from_pretrained(place, subfolder=name)
    return network


def _describe(graph: Graph) -> dict[str, Any]:
    """Shapes, with names for sizes that may change, and dtypes."""
    inputs = {
        name: {
            "shape": [graph.axes[name].get(axis, size) for axis, size in enumerate(example.shape)],
            "dtype": str(example.dtype).removeprefix("torch."),
        }
        for name, example in graph.inputs.items()
    }
    return {"inputs": inputs, "outputs": list(graph.outputs), "multiple_of": graph.multiple}
