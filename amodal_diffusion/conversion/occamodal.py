"""Published OccAmodal checkpoints [Z24]: one file for the occluder predictor, one for the amodal predictor."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..models.occamodal_predictor import OccAmodalPredictor
from ..pipelines.completion.occamodal import OccAmodalPipeline
from .checkpoint import convert_file, convolution_channels, load_weights, save_pipeline
from .unet import FIRST_CONV, unet_published_key, unet_sizes

_NAME = "OccAmodal"
_IMAGE_ENCODER = "image_encoder"
_REDUCE_NAMES = ("reduce_dim",)
_PLANES = {1: "modal mask", 2: "modal mask, occlusion boundary"}
_ROLES = {1: "occluder predictor", 2: "amodal predictor"}
# torchvision's classifier on top of the ResNet; the network reads feature maps alone.
_UNUSED = (f"{_IMAGE_ENCODER}.fc.weight", f"{_IMAGE_ENCODER}.fc.bias")
_EMBEDDER = re.compile(r"^embedder\.embedder\.(convolution|normalization)\.(.+)$")
_SHORTCUT = re.compile(r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.(convolution|normalization)\.(.+)$")
_LAYER = re.compile(r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.(convolution|normalization)\.(.+)$")


def published_key(key: str) -> str:
    """The published key of a parameter of `OccAmodalPredictor`; a KeyError where the network has no such parameter.

    Example:
        >>> published_key("unet.conv_in.0.weight"), published_key("image_encoder.embedder.embedder.convolution.weight")
        ('inc.conv.conv.0.weight', 'image_encoder.conv1.weight')
    """
    part, _, name = key.partition(".")
    if part == "unet":
        return unet_published_key(name, _REDUCE_NAMES)
    if part == _IMAGE_ENCODER:
        return f"{_IMAGE_ENCODER}.{resnet_published_key(name)}"
    raise KeyError(key)


def resnet_published_key(key: str) -> str:
    """Torchvision's key, which is the published one, of a parameter of transformers' `ResNetModel` with basic layers.

    Args:
        key: in our network, without the prefix of the image encoder.

    Raises:
        KeyError: the network has no such parameter.

    Example:
        >>> resnet_published_key("embedder.embedder.convolution.weight")
        'conv1.weight'
    """
    match = _EMBEDDER.match(key)
    if match:
        return f"{'conv1' if match[1] == 'convolution' else 'bn1'}.{match[2]}"
    match = _SHORTCUT.match(key)
    if match:
        index = int(match[3] == "normalization")
        return f"layer{int(match[1]) + 1}.{match[2]}.downsample.{index}.{match[4]}"
    match = _LAYER.match(key)
    if match:
        kind = "conv" if match[4] == "convolution" else "bn"
        return f"layer{int(match[1]) + 1}.{match[2]}.{kind}{int(match[3]) + 1}.{match[5]}"
    raise KeyError(key)


def convert_occamodal_weights(published: Mapping[str, Tensor], **config: Any) -> OccAmodalPredictor:
    """Make an `OccAmodalPredictor` with published weights; their shapes say which of the two it is, and its sizes.

    Args:
        published: tensors by their published keys, without the prefix "module.". torchvision's classifier on top of the
            ResNet may be among them; it is left out.
        config: `sample_size`.

    Returns:
        The network, float32, in evaluation mode.

    Raises:
        ValueError: lists every key that is missing, unexpected or of another shape.

    Example:
        >>> sizes = {"image_hidden_sizes": (4, 8), "image_depths": (1, 1), "image_embedding_size": 4}
        >>> model = OccAmodalPredictor(1, (4, 8), 4, **sizes, image_feature_stages=(2,))
        >>> published = {published_key(key): value for key, value in model.state_dict().items()}
        >>> convert_occamodal_weights(published, sample_size=32).config.image_hidden_sizes
        (4, 8)
    """
    published = {key: value for key, value in published.items() if key not in _UNUSED}
    config = {**config, **_sizes(published)}
    return load_weights(
        OccAmodalPredictor, config, published, published_key, f"{_NAME}'s {_ROLES[config['mask_channels']]}"
    )


def convert_occamodal(
    occluder_checkpoint: str | os.PathLike[str],
    amodal_checkpoint: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    sample_size: int = 256,
) -> Path:
    """Convert the two published OccAmodal checkpoints into a folder that `AmodalPipeline.from_pretrained` loads.

    Args:
        occluder_checkpoint: the occluder predictor; see `load_published_state_dict`.
        amodal_checkpoint: the amodal predictor.
        output_dir: a folder that does not exist yet, or is empty.
        sample_size: side of the crops in pixels that the networks were trained on.

    Returns:
        The folder.

    Raises:
        FileNotFoundError, FileExistsError: where there is no checkpoint, or `output_dir` holds files.
        ValueError: naming the file: as `load_published_state_dict` and `convert_occamodal_weights` say, or where a file
            holds the other one of the two networks.

    Example:
        >>> import tempfile
        >>> import torch
        >>> sizes = {"image_hidden_sizes": (4, 8), "image_depths": (1, 1), "image_embedding_size": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for planes in (1, 2):
        ...         model = OccAmodalPredictor(planes, (4, 8), 4, **sizes, image_feature_stages=(2,))
        ...         weights = {published_key(key): value for key, value in model.state_dict().items()}
        ...         torch.save(weights, os.path.join(folder, f"{planes}.pth"))
        ...     files = [os.path.join(folder, name) for name in ("1.pth", "2.pth", "occamodal")]
        ...     saved = convert_occamodal(*files, sample_size=32)
        ...     sorted(path.name for path in saved.iterdir())
        ['amodal_predictor', 'model_index.json', 'occluder_predictor', 'pipeline.py']
    """
    occluder_predictor = _convert_file(occluder_checkpoint, 1, sample_size)
    amodal_predictor = _convert_file(amodal_checkpoint, 2, sample_size)
    return save_pipeline(OccAmodalPipeline(occluder_predictor, amodal_predictor), output_dir)


def _convert_file(path: str | os.PathLike[str], planes: int, sample_size: int) -> OccAmodalPredictor:
    model = convert_file(path, convert_occamodal_weights, sample_size=sample_size)
    other = model.config.mask_channels
    if other != planes:
        raise ValueError(
            f"'{os.fspath(path)}' holds the {_ROLES[other]} of {_NAME}, not the {_ROLES[planes]}. The file of the "
            f"{_ROLES[1]} comes first, then that of the {_ROLES[2]}."
        )
    return model


def _sizes(published: Mapping[str, Tensor]) -> dict[str, Any]:
    """The configuration of the network, from the shapes of its weights."""
    unet = unet_sizes(published, _NAME, _REDUCE_NAMES)
    if unet["in_channels"] not in _PLANES:
        planes = " or ".join(f"{count} ({names})" for count, names in _PLANES.items())
        raise ValueError(f"The checkpoint must take {planes} planes; {FIRST_CONV!r} takes {unet['in_channels']}.")
    hidden_sizes: list[int] = []
    depths: list[int] = []
    while (key := f"{_IMAGE_ENCODER}.layer{len(depths) + 1}.0.conv1.weight") in published or not depths:
        hidden_sizes.append(convolution_channels(published, key, _NAME)[0])
        stage = key.removesuffix("0.conv1.weight")
        depths.append(len({other.split(".")[2] for other in published if other.startswith(stage)}))
    return {
        "mask_channels": unet["in_channels"],
        "out_channels": unet["out_channels"],
        "block_out_channels": unet["block_out_channels"],
        "reduced_channels": unet["reduced_channels"],
        "image_hidden_sizes": tuple(hidden_sizes),
        "image_depths": tuple(depths),
        "image_embedding_size": convolution_channels(published, f"{_IMAGE_ENCODER}.conv1.weight", _NAME)[0],
        "image_feature_stages": (len(depths),),
    }
