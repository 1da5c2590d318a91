"""The networks: each a `ModelMixin` with its configuration, whose `forward` takes tensors by name and returns `logits`."""

from .outputs import MaskModelOutput
from .pcnet_mask import PCNetMask

__all__ = ["MaskModelOutput", "PCNetMask"]
