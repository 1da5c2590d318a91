"""The pipelines by the name of their class, which is what a saved folder says."""

import importlib
import pkgutil
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from diffusers import DiffusionPipeline

PipelineClass = TypeVar("PipelineClass", bound=type[Any])

_PACKAGE = __name__.rpartition(".")[0]
_PIPELINES: dict[str, type[Any]] = {}


def register_pipeline(pipeline_class: PipelineClass) -> PipelineClass:
    """Make a pipeline known to `AmodalPipeline` and `list_pipelines`; a decorator of its class.

    A pipeline of another package is known as soon as its module is imported.

    Raises:
        TypeError: no class of pipelines of this package.
        ValueError: another class has the name.

    Example:
        >>> from amodal_diffusion import AmodalPipeline, PCNetMaskPipeline
        >>> register_pipeline(PCNetMaskPipeline) is PCNetMaskPipeline
        True
    """
    is_pipeline = isinstance(pipeline_class, type) and issubclass(pipeline_class, DiffusionPipeline)
    if not is_pipeline or not hasattr(pipeline_class, "from_folder"):
        raise TypeError(f"`pipeline_class` must derive from a pipeline of amodal_diffusion, got {pipeline_class!r}.")
    name = pipeline_class.__name__
    known = _PIPELINES.setdefault(name, pipeline_class)
    if (known.__module__, known.__qualname__) != (pipeline_class.__module__, pipeline_class.__qualname__):
        raise ValueError(f"`{name}` of {pipeline_class.__module__}: {known.__module__} has a pipeline of that name.")
    _PIPELINES[name] = pipeline_class
    return pipeline_class


def find_pipeline(name: str) -> type[Any] | None:
    """The registered class of that name, or None.

    Example:
        >>> find_pipeline("PCNetMaskPipeline").__name__
        'PCNetMaskPipeline'
    """
    if name not in _PIPELINES:
        getattr(importlib.import_module(_PACKAGE), name, None)  # imports the module that it comes from
    if name not in _PIPELINES:
        _import_all()
    return _PIPELINES.get(name)


def list_pipelines(pattern: str = "*") -> list[str]:
    """Names of the pipelines that `AmodalPipeline` loads, sorted.

    Args:
        pattern: with "*" and "?" as in the shell; all names where it is left out.

    Example:
        >>> list_pipelines("PCNet*")
        ['PCNetMaskPipeline']
    """
    _import_all()
    return sorted(name for name in _PIPELINES if fnmatchcase(name, pattern))


def _import_all() -> None:
    """Import the modules beside this one, so that every class in them is registered."""
    for module in pkgutil.walk_packages(importlib.import_module(_PACKAGE).__path__, f"{_PACKAGE}."):
        importlib.import_module(module.name)
