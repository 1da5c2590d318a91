"""Contexts around calls: networks in evaluation mode, and runs over data sets without a warning for each photo."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(*networks: nn.Module) -> Iterator[None]:
    """Batch norm and dropout of the networks behave as at inference inside the block; afterwards each is as it was.

    Example:
        >>> layer = nn.Dropout()
        >>> with evaluation_mode(layer):
        ...     layer.training
        False
        >>> layer.training
        True
    """
    training = [module for network in networks for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def warnings_silenced() -> Iterator[None]:
    """Inside the block the pipelines log errors only, and do not warn that an object has no occluder, for example.

    Example:
        >>> with warnings_silenced():
        ...     logging.getLogger("amodal_diffusion.pipelines.completion").isEnabledFor(logging.WARNING)
        False
    """
    pipelines = logging.getLogger(__name__.rpartition(".")[0])
    level = pipelines.level
    pipelines.setLevel(logging.ERROR)
    try:
        yield
    finally:
        pipelines.setLevel(level)
