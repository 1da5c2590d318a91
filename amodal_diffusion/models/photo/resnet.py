"""The ResNets of transformers that networks look at photos with, and their ImageNet weights."""

import os
from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers import ResNetModel

from ...hub import download_file

State = dict[str, Tensor]


def load_resnet(
    encoder: ResNetModel, name_or_path: str, adapt: Callable[[State], State] = lambda state: state, **kwargs: Any
) -> None:
    """Give an encoder the weights of a ResNet of transformers, such as "microsoft/resnet-50" (ImageNet).

    Args:
        encoder: that takes them.
        name_or_path: Hub id or folder; only safetensors are read.
        adapt: changes the weights before they are taken.
        kwargs: `revision`, `token`, `cache_dir`, `local_files_only`; see `ResNetModel.from_pretrained`.

    Raises:
        OSError: where there is no such model.
        ValueError: where it is no ResNet of the sizes of `encoder`.

    Example:
        >>> import tempfile
        >>> from transformers import ResNetConfig
        >>> sizes = {"layer_type": "basic", "hidden_sizes": [4, 8], "depths": [1, 1], "embedding_size": 4}
        >>> given, encoder = (ResNetModel(ResNetConfig(**sizes)) for _ in range(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     given.save_pretrained(folder)
        ...     load_resnet(encoder, folder)
        >>> all((value == encoder.state_dict()[name]).all() for name, value in given.state_dict().items())
        True
    """
    if not os.path.isdir(name_or_path):  # transformers waits long for a Hub that cannot be reached
        download_file(name_or_path, "config.json", **kwargs)
    given = ResNetModel.from_pretrained(name_or_path, use_safetensors=True, **kwargs)
    try:
        encoder.load_state_dict(adapt(given.state_dict()))
    except RuntimeError as error:
        sizes = {name: getattr(given.config, name) for name in ("layer_type", "hidden_sizes", "depths")}
        raise ValueError(f"{name_or_path!r} does not fit the image encoder of this network: {sizes}.") from error
