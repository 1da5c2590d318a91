"""Runs over whole data sets, where what a pipeline warns of once a photo says nothing."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors_alone() -> Iterator[None]:
    """No warnings of the pipelines inside of the block, such as that an object has no occluder."""
    pipelines = logging.getLogger(__name__.rpartition(".")[0])
    level = pipelines.level
    pipelines.setLevel(logging.ERROR)
    try:
        yield
    finally:
        pipelines.setLevel(level)
