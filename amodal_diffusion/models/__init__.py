"""The networks: each a `ModelMixin` whose `forward` takes tensors by name and returns an output with `logits`."""

from .outputs import MaskModelOutput
from .pcnet_mask import PCNetMask

__all__ = ["MaskModelOutput", "PCNetMask"]
