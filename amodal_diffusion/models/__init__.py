"""The networks: each a `ModelMixin` whose `forward` takes tensors by name and returns an output with `logits`."""

import lazy_loader

from . import diffusers_messages  # noqa: F401 - before the first network is cast

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
