"""Amodal completion: from a photo and the visible masks of its objects to whole objects."""

import importlib
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

# The rooms whose names this package shows. They, and torch and diffusers with them, are imported when one of the names
# is asked for; for type checkers the names are in `__init__.pyi`.
_ROOMS = ("pipelines", "models", "scene")
_ROOM_OF = {
    name: room for room in _ROOMS for name in importlib.import_module(f"{__name__}.{room}").__all__ if name[0] != "_"
}
# diffusers looks the base classes of a component up in the library that `model_index.json` names: in this package.
_BASES = ("DiffusionPipeline", "ModelMixin")

__all__ = sorted([*_ROOM_OF, *_BASES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _ROOM_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    elif name in _BASES:
        value = getattr(importlib.import_module("diffusers"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


# diffusers writes `["amodal_diffusion", class]` into `model_index.json`, and downloads a repository with such a
# component, only where this package is among the libraries that it knows. That must be so before the first pipeline is
# made and before plain diffusers loads one, but importing diffusers here would take longer than importing torch.
_REGISTRY = "diffusers.pipelines.pipeline_loading_utils"


def _register(registry: ModuleType) -> None:
    registry.LOADABLE_CLASSES.setdefault(__name__, {})


class _Registration:
    """A finder of modules that registers this package as soon as diffusers' list of libraries is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != _REGISTRY:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                _register(module)

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if _REGISTRY in sys.modules:
    _register(sys.modules[_REGISTRY])
else:
    sys.meta_path.insert(0, _Registration())
