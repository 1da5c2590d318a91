"""What training draws from: objects, crops and shapes, each batch a function of the seed, the step and the process."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
