"""Published OccAmodal checkpoints [Z24]: one file for the occluder predictor, one for the amodal predictor."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.occamodal_predictor import OccAmodalPredictor
from ..pipelines.completion.occamodal import OccAmodalPipeline
from .checkpoint import check_keys, convert_file, save_pipeline
from .conditioned_unet import FIRST_CONV, resnet_published_key, unet_published_key, unet_sizes

_NAME = "OccAmodal"
_IMAGE_ENCODER = "image_encoder"
_REDUCE_NAMES = ("reduce_dim",)
_PLANES = {1: "modal mask", 2: "modal mask, occlusion boundary"}
_ROLES = {1: "occluder predictor", 2: "amodal predictor"}
# torchvision's classifier on top of the ResNet, which no feature map goes through.
_UNUSED = (f"{_IMAGE_ENCODER}.fc.weight", f"{_IMAGE_ENCODER}.fc.bias")


def published_key(key: str) -> str:
    """The published name of a parameter of `OccAmodalPredictor`; KeyError for a name that the network does not have.

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


def convert_occamodal_weights(published: Mapping[str, Tensor], **config: Any) -> OccAmodalPredictor:
    """An `OccAmodalPredictor` with published weights; which of the two it is, widths and depths are read off them.

    Args:
        published: published keys without the prefix "module.", and tensors. The classifier that torchvision puts on top
            of its ResNet may be among them and is left out.
        config: `sample_size`.

    Returns:
        The network, float32, in evaluation mode.

    Raises:
        ValueError: naming every key that is missing, unexpected or of another shape.

    Example:
        >>> sizes = {"image_hidden_sizes": (4, 8), "image_depths": (1, 1), "image_embedding_size": 4}
        >>> model = OccAmodalPredictor(1, (4, 8), 4, **sizes, image_feature_stages=(2,))
        >>> published = {published_key(key): value for key, value in model.state_dict().items()}
        >>> convert_occamodal_weights(published, sample_size=32).config.image_hidden_sizes
        (4, 8)
    """
    published = {key: value for key, value in published.items() if key not in _UNUSED}
    config = {**config, **_sizes(published)}
    with torch.device("meta"):
        keys = {published_key(key): value.shape for key, value in OccAmodalPredictor(**config).state_dict().items()}
    role = _ROLES[config["mask_channels"]]
    check_keys(published, keys, f"{_NAME}'s {role} with {config['block_out_channels']} channels")
    model = OccAmodalPredictor(**config)
    model.load_state_dict({key: published[published_key(key)] for key in model.state_dict()}, strict=True)
    return model.eval()


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
            holds the other network of the two.

    Example:
        >>> import tempfile
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
            f"'{os.fspath(path)}' holds the {_ROLES[other]} of {_NAME}, not the {_ROLES[planes]}: {FIRST_CONV!r} takes "
            f"{other} plane(s), expected {planes}. The occluder's file comes first, then the amodal one."
        )
    return model


def _sizes(published: Mapping[str, Tensor]) -> dict[str, Any]:
    """The configuration of the network, read off the shapes of its weights."""
    unet = unet_sizes(published, _REDUCE_NAMES, _NAME)
    if unet["in_channels"] not in _PLANES:
        planes = " or ".join(f"{count} ({names})" for count, names in _PLANES.items())
        raise ValueError(f"The checkpoint must take {planes} planes; {FIRST_CONV!r} takes {unet['in_channels']}.")
    hidden_sizes: list[int] = []
    depths: list[int] = []
    while (width := _width(published, f"layer{len(depths) + 1}.0.conv1.weight", required=not depths)) is not None:
        prefix = f"{_IMAGE_ENCODER}.layer{len(depths) + 1}"
        hidden_sizes.append(width)
        depths.append(len({key.split(".")[2] for key in published if key.startswith(f"{prefix}.")}))
    return {
        "mask_channels": unet["in_channels"],
        "out_channels": unet["out_channels"],
        "block_out_channels": unet["block_out_channels"],
        "reduced_channels": unet["reduced_channels"],
        "image_hidden_sizes": tuple(hidden_sizes),
        "image_depths": tuple(depths),
        "image_embedding_size": _width(published, "conv1.weight", required=True),
        "image_feature_stages": (len(depths),),
    }


def _width(published: Mapping[str, Tensor], name: str, *, required: bool) -> int | None:
    """Channels out of a convolution of the image encoder; None where there is none and none is required."""
    key = f"{_IMAGE_ENCODER}.{name}"
    if key not in published:
        if required:
            raise ValueError(f"The checkpoint is none of {_NAME}: it has no key {key!r}.")
        return None
    weight = published[key]
    if weight.ndim != 4 or 0 in weight.shape:
        raise ValueError(f"The checkpoint is none of {_NAME}: {key!r} has shape {tuple(weight.shape)}.")
    return weight.shape[0]
