"""What the networks are trained with: losses of masks, of colours and of spaces of shapes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
