"""Published ASBU checkpoints [N21], which have the keys of PCNet-M's and outputs of another meaning."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..models.asbu import ASBUPredictor
from ..pipelines.completion.asbu import ASBUPipeline
from .checkpoint import convert_file, save_pipeline
from .pcnet_mask import convert_mask_unet, published_key

_PREFIX = "unet."


def convert_asbu_weights(published: Mapping[str, Tensor], **config: Any) -> ASBUPredictor:
    """Make an `ASBUPredictor` with published weights; their shapes say how wide and deep it is.

    Args:
        published: tensors by their published keys, without the prefix "module.".
        config: `class_conditioned`, `sample_size`.

    Returns:
        The network, float32, in evaluation mode.

    Raises:
        ValueError: lists every key that is missing, unexpected or of another shape.

    Example:
        >>> from amodal_diffusion import ASBUPredictor
        >>> model = ASBUPredictor(block_out_channels=(4, 8), sample_size=32)
        >>> published = {published_key(key.removeprefix(_PREFIX)): value for key, value in model.state_dict().items()}
        >>> convert_asbu_weights(published, sample_size=32).config.block_out_channels
        (4, 8)
    """
    return convert_mask_unet(
        ASBUPredictor, published, "ASBU", lambda key: published_key(key.removeprefix(_PREFIX)), config
    )


def convert_asbu(
    checkpoint_path: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    category_aware: bool = False,
    sample_size: int = 256,
) -> Path:
    """Convert a published ASBU checkpoint into a folder that `AmodalPipeline.from_pretrained` loads.

    The pipeline gets the published thresholds: 0.5 for the order and the masks; with `category_aware` 0.4 for the order
    and 0.3 for the masks.

    Args:
        checkpoint_path: see `load_published_state_dict`.
        output_dir: a folder that does not exist yet, or is empty.
        category_aware: the network was trained with the category id in the mask plane (KINS), not with 1 (COCOA).
        sample_size: side of the crops in pixels that the network was trained on.

    Returns:
        The folder.

    Raises:
        FileNotFoundError, FileExistsError: where there is no checkpoint, or `output_dir` holds files.
        ValueError: as `load_published_state_dict` and `convert_asbu_weights` say.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from amodal_diffusion import ASBUPredictor
        >>> model = ASBUPredictor(block_out_channels=(4, 8), sample_size=32)
        >>> published = {published_key(key.removeprefix(_PREFIX)): value for key, value in model.state_dict().items()}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(published, os.path.join(folder, "published.pth"))
        ...     saved = convert_asbu(os.path.join(folder, "published.pth"), os.path.join(folder, "asbu"))
        ...     sorted(path.name for path in saved.iterdir())
        ['model', 'model_index.json', 'pipeline.py']
    """
    config = {"class_conditioned": category_aware, "sample_size": sample_size}
    model = convert_file(checkpoint_path, convert_asbu_weights, **config)
    order_threshold, mask_threshold = (0.4, 0.3) if category_aware else (0.5, 0.5)
    pipeline = ASBUPipeline(model, order_threshold=order_threshold, mask_threshold=mask_threshold)
    return save_pipeline(pipeline, output_dir)
